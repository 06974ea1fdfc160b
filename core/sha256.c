/* sha256.c - SHA-256 as FIPS 180-4 writes it, one block at a time: plain C, and with the instructions for it that most x86
 * processors since 2017 have (six times as fast: weights are files of gigabytes). Both give the same bytes; the processor is
 * asked once. */
#include "sha256.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define WITH_INSTRUCTIONS 1
#include <cpuid.h>
#include <immintrin.h>
#endif

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, unsigned n) {
    return x >> n | x << (32 - n);
}

static void compress(uint32_t state[8], const uint8_t *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        const uint8_t *at = block + 4 * i;
        w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t choose = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
        uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choose + round_constants[i] + w[i];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void compress_blocks(uint32_t state[8], const uint8_t *at, size_t n) {
    for (; n; n--, at += 64) compress(state, at);
}

#ifdef WITH_INSTRUCTIONS
/* The instructions keep a, b, e, f in one register and c, d, g, h in the other, the first one in the highest lane; one does
 * two rounds. */
__attribute__((target("sha,sse4.1"))) static void compress_fast(uint32_t state[8], const uint8_t *at, size_t n) {
    const __m128i turn = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef = _mm_set_epi32((int)state[0], (int)state[1], (int)state[4], (int)state[5]);
    __m128i cdgh = _mm_set_epi32((int)state[2], (int)state[3], (int)state[6], (int)state[7]);
    for (; n; n--, at += 64) {
        __m128i w[4], abef_before = abef, cdgh_before = cdgh;
        for (int i = 0; i < 16; i++) {
            if (i < 4) {
                w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(at + 16 * i)), turn);
            } else {
                __m128i last = w[(i + 3) % 4], sum = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
                w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(sum, _mm_alignr_epi8(last, w[(i + 2) % 4], 4)), last);
            }
            __m128i add = _mm_add_epi32(w[i % 4], _mm_loadu_si128((const __m128i *)(const void *)(round_constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, add);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(add, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    uint32_t x[4], y[4];
    _mm_storeu_si128((__m128i *)(void *)x, abef);
    _mm_storeu_si128((__m128i *)(void *)y, cdgh);
    for (int i = 0; i < 2; i++) {
        state[i] = x[3 - i], state[4 + i] = x[1 - i];
        state[2 + i] = y[3 - i], state[6 + i] = y[1 - i];
    }
}

static bool has_instructions(void) {
    static _Atomic int known; /* 1: no, 2: yes */
    int was = atomic_load_explicit(&known, memory_order_relaxed);
    if (!was) {
        unsigned a, b, c, d, first = 0;
        if (__get_cpuid(1, &a, &b, &c, &d)) first = c;
        bool sse = first >> 9 & 1 && first >> 19 & 1; /* SSSE3, SSE4.1 */
        was = sse && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 ? 2 : 1;
        atomic_store_explicit(&known, was, memory_order_relaxed);
    }
    return was == 2;
}

static void compress_all(uint32_t state[8], const uint8_t *at, size_t n) {
    if (has_instructions())
        compress_fast(state, at, n);
    else
        compress_blocks(state, at, n);
}
#else
#define compress_all compress_blocks
#endif

void sha256_init(sha256 *s) {
    /* The first 32 bits of the fractional parts of the square roots of the first 8 primes. */
    *s = (sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_update(sha256 *s, const void *data, size_t bytes) {
    if (bytes == 0) return;
    const uint8_t *at = data;
    size_t filled = (size_t)(s->bytes % 64);
    s->bytes += bytes;
    if (filled) {
        size_t n = bytes < 64 - filled ? bytes : 64 - filled;
        memcpy(s->block + filled, at, n);
        at += n, bytes -= n;
        if (filled + n < 64) return;
        compress_all(s->state, s->block, 1);
    }
    compress_all(s->state, at, bytes / 64);
    memcpy(s->block, at + bytes / 64 * 64, bytes % 64);
}

void sha256_plain_update(sha256 *s, const void *data, size_t blocks) {
    compress_blocks(s->state, data, blocks);
    s->bytes += (uint64_t)blocks * 64;
}

void sha256_final(sha256 *s, uint8_t digest[SHA256_BYTES]) {
    uint64_t bits = s->bytes * 8;
    size_t filled = (size_t)(s->bytes % 64);
    uint8_t tail[72] = {0x80};
    size_t pad = (filled < 56 ? 56 : 120) - filled;
    for (int i = 0; i < 8; i++) tail[pad + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_update(s, tail, pad + 8);
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_final_hex(sha256 *s, char hex[SHA256_HEX]) {
    uint8_t digest[SHA256_BYTES];
    sha256_final(s, digest);
    for (int i = 0; i < SHA256_BYTES; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[2 * SHA256_BYTES] = 0;
}

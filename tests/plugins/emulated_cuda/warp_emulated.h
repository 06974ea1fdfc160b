/* warp_emulated.h - the words of backends/cuda/kernels/warp.h for the machine that runs the tests: the lanes of a warp show
 * each other what they hold (emulated_warp), and each makes its part of the result, by the layouts of the PTX ISA ("Warp-level
 * matrix instructions", m16n8k16, ldmatrix and movmatrix). Products are exact, their sums those of emulated_sum. */
#ifndef STRAND_EMULATED_CUDA_WARP_H
#define STRAND_EMULATED_CUDA_WARP_H

#include <cmath>

typedef unsigned short half_word;

struct emulated_words {
    unsigned u[6];
    const void *p;
};
/* Shows `mine` to the warp, waits for its other lanes, and returns what all 32 show. It stays until the call after the next. */
const emulated_words *emulated_warp(const emulated_words &mine);

static inline float emulated_half(bool f16, unsigned h) {
    if (!f16) return __uint_as_float(h << 16);
    unsigned sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | magnitude << 13);
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f));
}

/* Element (row, column) of a, and of b, as the lanes hold them. */
static inline float emulated_a(bool f16, const emulated_words *all, int row, int column) {
    unsigned w = all[row % 8 * 4 + column % 8 / 2].u[row / 8 + 2 * (column / 8)];
    return emulated_half(f16, column & 1 ? w >> 16 : w & 0xffff);
}
static inline float emulated_b(bool f16, const emulated_words *all, int row, int column) {
    unsigned w = all[column * 4 + row % 8 / 2].u[4 + row / 8];
    return emulated_half(f16, row & 1 ? w >> 16 : w & 0xffff);
}

/* c and 16 products, as a tensor core adds them up: some of them a step to what the step before gave. All of a step are aligned
 * to the largest exponent and cut off, towards zero, below F32's last bit at that exponent (or some bits on); their sum is
 * exact and cut off to F32. So Fasi, Higham, Mikaitis and Pranesh ("Numerical behavior of NVIDIA tensor cores", 2021) and
 * Khattak and Mikaitis (arXiv 2512.07004) saw it. EMULATED_CUDA_SUMS=TERMS,BITS: 4,0 by default, that of 7.0, the coarsest;
 * 8,1: of 8.x; 16,2: of 9.0 and later; 0: rounded once. A product's exponent is that of its factors together; subnormal
 * factors have the least one of their format. */
struct emulated_factors {
    float value[16];
    int exponent[16];
};
static inline void emulated_factor(emulated_factors &f, int k, bool f16, float value) {
    const unsigned bits = __float_as_uint(value) & 0x7fffffffu;
    const int e = static_cast<int>(bits >> 23) - 127, least = f16 ? -14 : -126;
    f.value[k] = value;
    f.exponent[k] = bits == 0 ? -4096 : e == 128 ? 16384 : e < least ? least : e; /* what is not finite outdoes a zero */
}
float emulated_sum(float c, const emulated_factors &a, const emulated_factors &b);

template <bool F16> static inline void warp_mma(float *c, const unsigned *a, unsigned b0, unsigned b1) {
    const emulated_words *all = emulated_warp({{a[0], a[1], a[2], a[3], b0, b1}, nullptr});
    int lane = static_cast<int>(threadIdx.x) & 31;
    emulated_factors rows[2], columns[2];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 16; k++) {
            emulated_factor(rows[i], k, F16, emulated_a(F16, all, lane / 4 + 8 * i, k));
            emulated_factor(columns[i], k, F16, emulated_b(F16, all, k, lane % 4 * 2 + i));
        }
    for (int j = 0; j < 4; j++) c[j] = emulated_sum(c[j], rows[j / 2], columns[j % 2]);
}

static inline void warp_load4(unsigned *r, const half_word *row) {
    const emulated_words *all = emulated_warp({{}, row});
    int lane = static_cast<int>(threadIdx.x) & 31;
    for (int i = 0; i < 4; i++) {
        const half_word *from = static_cast<const half_word *>(all[i * 8 + lane / 4].p) + lane % 4 * 2;
        r[i] = from[0] | static_cast<unsigned>(from[1]) << 16;
    }
}
static inline void warp_load4_transposed(unsigned *r, const half_word *row) {
    const emulated_words *all = emulated_warp({{}, row});
    int lane = static_cast<int>(threadIdx.x) & 31;
    for (int i = 0; i < 4; i++) {
        const half_word *first = static_cast<const half_word *>(all[i * 8 + lane % 4 * 2].p),
                        *second = static_cast<const half_word *>(all[i * 8 + lane % 4 * 2 + 1].p);
        r[i] = first[lane / 4] | static_cast<unsigned>(second[lane / 4]) << 16;
    }
}

static inline float warp_xor(float v, int mask) {
    return __uint_as_float(emulated_warp({{__float_as_uint(v)}, nullptr})[(static_cast<int>(threadIdx.x) & 31) ^ mask].u[0]);
}
static inline float warp_from(float v, int lane) {
    return __uint_as_float(emulated_warp({{__float_as_uint(v)}, nullptr})[lane & 31].u[0]);
}
static inline bool warp_any(bool yes) {
    const emulated_words *all = emulated_warp({{yes}, nullptr});
    unsigned any = 0;
    for (int i = 0; i < 32; i++) any |= all[i].u[0];
    return any != 0;
}
static inline unsigned warp_transpose(unsigned v) {
    const emulated_words *all = emulated_warp({{v}, nullptr});
    int row = (static_cast<int>(threadIdx.x) & 31) / 4, column = (static_cast<int>(threadIdx.x) & 3) * 2;
    unsigned low = all[column * 4 + row / 2].u[0], high = all[(column + 1) * 4 + row / 2].u[0];
    return (row & 1 ? low >> 16 : low & 0xffff) | (row & 1 ? high & 0xffff0000u : high << 16);
}
#define WARP_BARRIER emulated_warp({{}, nullptr});

static inline void put_word(half_word *to, unsigned a) { std::memcpy(to, &a, sizeof a); }
static inline void put_words(half_word *to, unsigned a, unsigned b) { put_word(to, a), put_word(to + 2, b); }
static inline void put_pair(float *to, float a, float b) { to[0] = a, to[1] = b; }

/* Shared memory of a launch; what lies behind it is watched (run.cpp). */
extern unsigned char emulated_shared[];
#define DYNAMIC_SHARED(name) unsigned char *name = emulated_shared;

/* Copies that are not waited for are seen as rubbish: they are made when the wait comes. */
void emulated_copy(void *to, const void *from, bool there);
void emulated_commit();
void emulated_wait(int left);
static inline void async_copy16(half_word *to, const half_word *from, bool there) { emulated_copy(to, from, there); }
static inline void async_commit() { emulated_commit(); }
template <int LEFT> static inline void async_wait() { emulated_wait(LEFT); }

static inline unsigned emulated_f16(float f) {
    if (std::isnan(f)) return 0x7fff;
    float a = std::fabs(f);
    unsigned sign = std::signbit(f) ? 0x8000 : 0;
    if (a >= 65520) return sign | 0x7c00;
    if (a < 6.103515625e-05f) return sign | static_cast<unsigned>(std::nearbyint(a * 0x1p24f));
    unsigned u = __float_as_uint(a) - (112u << 23); /* the tie goes to the even one */
    return sign | (u + 0xfff + (u >> 13 & 1)) >> 13;
}
static inline unsigned emulated_bf16(float f) {
    unsigned u = __float_as_uint(f);
    if (std::isnan(f)) return 0x7fff;
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
static inline unsigned pack_f16(float low, float high) { return emulated_f16(low) | emulated_f16(high) << 16; }
static inline unsigned pack_bf16(float low, float high) { return emulated_bf16(low) | emulated_bf16(high) << 16; }
static inline float unpack_f16(unsigned h) { return emulated_half(true, h); }

#endif

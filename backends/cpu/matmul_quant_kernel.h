/* matmul_quant_kernel.h - the kernels of matmul_quant.h, included once for each kind of integer dot product:
 *
 *   QUANT_VNNI 1   four bytes at a time, weights unsigned and activations signed (VPDPBUSD)
 *   QUANT_VNNI 0   pairs of bytes to 16 bits (PMADDUBSW) where there are such and the weights have six bits or fewer, so that a
 *                  few pairs can be added; else pairs of 16-bit numbers (PMADDWD and its like)
 *   QUANT_TARGET   attribute of every function here, QUANT_NAME the table that is exported
 *
 * Lanes are columns. Four elements of a block of CPU_LANES rows of weights, transposed into one vector, are a "quad"; eight quads
 * and the scales are a block of 32 in a panel. Many rows share an unpacked panel; few rows (decoding) go along the packed weights,
 * unpacking to registers. Weights that are stored with an offset (q - 8) are multiplied as unsigned numbers: the integer sum of a
 * row then begins at minus offset times the sum of the row's block, which is exact. */
#include "simd.h"

#define QUANT_FN static inline __attribute__((always_inline)) QUANT_TARGET

#define DEPTH 64 /* blocks of 32 in a panel */
#if CPU_LANES == 16 || defined(__aarch64__)
#define TILE_ROWS 6
#else
#define TILE_ROWS 3
#endif

#define MOST_ROWS (TILE_ROWS > 4 ? TILE_ROWS : 4)

typedef int16_t vs __attribute__((vector_size(4 * CPU_LANES)));

#if QUANT_VNNI
#define QUAD 1 /* vectors of a quad at most */
#else
#define QUAD 2
#endif

enum { FOUR_BYTES, TWO_BYTES, TWO_WORDS };
QUANT_FN int way_of(uint32_t dtype) {
    (void)dtype;
#if QUANT_VNNI
    return FOUR_BYTES;
#elif CPU_LANES > 4
    return dtype == STRAND_PLUGIN_Q8_0 ? TWO_WORDS : TWO_BYTES;
#else
    return TWO_WORDS;
#endif
}

/* 32 activations x = scale q. offset: where integer sums begin, of the first and the second half for Q6_K, else of all in the
 * first. sum: scale times the sum of q. q: bytes, or words of which a quad stands in the
 * order 0, 2, 1, 3. */
typedef struct rounded_block {
    float scale, sum;
    int32_t offset[2];
    int8_t q[32 * QUAD];
} rounded_block;

/* extra: the second half's scale of Q6_K, the minimum of Q4_K. */
typedef struct panel_block {
    vi quads[8 * QUAD];
    vf scale, extra;
} panel_block;

/* What differs between the types once they are unpacked. */
enum { ONE_SCALE, WITH_MINIMUM, TWO_SCALES };
QUANT_FN int form_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_Q4_K ? WITH_MINIMUM : dtype == STRAND_PLUGIN_Q6_K ? TWO_SCALES : ONE_SCALE;
}
QUANT_FN int offset_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_Q8_0 ? (QUANT_VNNI ? 128 : 0) : dtype == STRAND_PLUGIN_Q4_0 ? 8 : dtype == STRAND_PLUGIN_Q6_K ? 32 : 0;
}

/* ---- activations ---- */

#define PARTS (32 / CPU_LANES)

QUANT_FN int32_t sum_lanes(vi x) {
#if CPU_LANES == 16
    return _mm512_reduce_add_epi32((__m512i)x);
#else
    int32_t v[CPU_LANES], sum = 0;
    memcpy(v, &x, sizeof x);
    for (int i = 0; i < CPU_LANES; i++) sum += v[i];
    return sum;
#endif
}

QUANT_FN int32_t most_of_lanes(vi x) {
#if CPU_LANES == 16
    return _mm512_reduce_max_epi32((__m512i)x);
#else
    int32_t v[CPU_LANES], most = INT32_MIN;
    memcpy(v, &x, sizeof x);
    for (int i = 0; i < CPU_LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
#endif
}

/* The largest of 32 magnitudes; compared by bits, so that a NaN is the largest and spreads. */
QUANT_FN float largest(const vf x[PARTS]) {
    vi most = (vi)x[0] & 0x7fffffff;
#pragma GCC unroll 8
    for (int i = 1; i < PARTS; i++) {
        vi bits = (vi)x[i] & 0x7fffffff, more = bits > most;
        most = (more & bits) | (~more & most);
    }
    return cpu_from_bits((uint32_t)most_of_lanes(most));
}

QUANT_FN void round_block(int way, int offset, const float *from, rounded_block *to) {
    vf x[PARTS];
    vi low = {0}, high = {0};
    int32_t q[32];
#pragma GCC unroll 8
    for (int i = 0; i < PARTS; i++) x[i] = vf_load(from + i * CPU_LANES);
    float peak = largest(x);
    bool zero = peak < 1e-30f;
    float factor = zero ? 0 : 127.0f / peak;
#pragma GCC unroll 8
    for (int i = 0; i < PARTS; i++) {
        vi n = (vi)(x[i] * factor + 0x1.8p23f) << 24 >> 24; /* to the nearest, in the low byte */
        memcpy(q + i * CPU_LANES, &n, sizeof n);
        if (i < PARTS / 2)
            low += n;
        else
            high += n;
    }
    int32_t first = sum_lanes(low), second = sum_lanes(high);
    to->scale = zero ? 0 : peak / 127.0f;
    to->sum = to->scale * (float)(first + second);
    to->offset[0] = -offset * (offset == 32 ? first : first + second);
    to->offset[1] = -offset * second;
    if (way != TWO_WORDS) {
        for (int i = 0; i < 32; i++) to->q[i] = (int8_t)q[i];
        return;
    }
    int16_t words[32];
    for (int i = 0; i < 32; i += 4) {
        words[i] = (int16_t)q[i];
        words[i + 1] = (int16_t)q[i + 2];
        words[i + 2] = (int16_t)q[i + 1];
        words[i + 3] = (int16_t)q[i + 3];
    }
    memcpy(to->q, words, sizeof to->q);
}

static QUANT_TARGET void round_row(uint32_t dtype, const float *x, int64_t k, char *rounded) {
    rounded_block *to = (rounded_block *)(void *)rounded;
    int offset = offset_of(dtype), way = way_of(dtype);
    for (int64_t i = 0; i < k / 32; i++) round_block(way, offset, x + 32 * i, to + i);
}

/* ---- weights ---- */

#if CPU_LANES == 16
#define LOW32(a, b)  __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH32(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW64(a, b)  (vi)__builtin_shufflevector((vl)a, (vl)b, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH64(a, b) (vi)__builtin_shufflevector((vl)a, (vl)b, 1, 9, 3, 11, 5, 13, 7, 15)
#elif CPU_LANES == 8
#define LOW32(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH32(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW64(a, b)  (vi)__builtin_shufflevector((vl)a, (vl)b, 0, 4, 2, 6)
#define HIGH64(a, b) (vi)__builtin_shufflevector((vl)a, (vl)b, 1, 5, 3, 7)
#else
#define LOW32(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH32(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LOW64(a, b)  (vi)__builtin_shufflevector((vl)a, (vl)b, 0, 2)
#define HIGH64(a, b) (vi)__builtin_shufflevector((vl)a, (vl)b, 1, 3)
#endif

/* 16 bytes of rows i, i + 4, ... side by side. */
QUANT_FN vi load_rows(const uint8_t *const *rows, int i, int64_t at) {
#if CPU_LANES == 16
    /* Broadcasts under a mask are loads and blends, which leaves the shuffling units to the transposition. */
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)(rows[i] + at)));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, _mm_loadu_si128((const __m128i *)(const void *)(rows[i + 4] + at)));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, _mm_loadu_si128((const __m128i *)(const void *)(rows[i + 8] + at)));
    return (vi)_mm512_mask_broadcast_i32x4(v, 0xf000, _mm_loadu_si128((const __m128i *)(const void *)(rows[i + 12] + at)));
#elif CPU_LANES == 8
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(rows[i] + at)));
    return (vi)_mm256_inserti128_si256(v, _mm_loadu_si128((const __m128i *)(const void *)(rows[i + 4] + at)), 1);
#else
    vi v;
    memcpy(&v, rows[i] + at, sizeof v);
    return v;
#endif
}

/* Bytes [at, at + 16) of CPU_LANES rows: r[j] holds bytes 4j .. 4j+3 of every row. */
QUANT_FN void load_16(const uint8_t *const *rows, int64_t at, vi r[4]) {
    vi a = load_rows(rows, 0, at), b = load_rows(rows, 1, at), c = load_rows(rows, 2, at), d = load_rows(rows, 3, at);
    vi ab = LOW32(a, b), cd = LOW32(c, d), ab2 = HIGH32(a, b), cd2 = HIGH32(c, d);
    r[0] = LOW64(ab, cd);
    r[1] = HIGH64(ab, cd);
    r[2] = LOW64(ab2, cd2);
    r[3] = HIGH64(ab2, cd2);
}

/* Bytes [at, at + 32) in the same way, in eight vectors. */
QUANT_FN void load_32(const uint8_t *const *rows, int64_t at, vi r[8]) {
#if CPU_LANES == 16
    vi z[2][4];
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vi x[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const uint8_t *const *row = rows + 8 * h + i;
            __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(row[0] + at)));
            x[i] = (vi)_mm512_mask_broadcast_i64x4(v, 0xf0, _mm256_loadu_si256((const __m256i *)(const void *)(row[4] + at)));
        }
        vi ab = LOW32(x[0], x[1]), cd = LOW32(x[2], x[3]), ab2 = HIGH32(x[0], x[1]), cd2 = HIGH32(x[2], x[3]);
        z[h][0] = LOW64(ab, cd);
        z[h][1] = HIGH64(ab, cd);
        z[h][2] = LOW64(ab2, cd2);
        z[h][3] = HIGH64(ab2, cd2);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = (vi)_mm512_shuffle_i64x2((__m512i)z[0][i], (__m512i)z[1][i], 0x88);
        r[i + 4] = (vi)_mm512_shuffle_i64x2((__m512i)z[0][i], (__m512i)z[1][i], 0xdd);
    }
#else
    load_16(rows, at, r);
    load_16(rows, at + 16, r + 4);
#endif
}

/* The low halves of the lanes as F16. */
QUANT_FN vf from_half(vi h) {
    vi magnitude = (h & 0x7fff) << 13;
    vi bits = (vi)((vf)magnitude * 0x1p112f), special = magnitude | 0x70000000;
    vi large = magnitude >= 0x0f800000;
    return (vf)((large & special) | (~large & bits) | (h & 0x8000) << 16);
}

/* The F16 at byte `at` of every row. */
QUANT_FN vf load_halves(const uint8_t *const *rows, int64_t at) {
    uint64_t four[CPU_LANES / 4]; /* put together by the integer units, which have nothing else to do */
#pragma GCC unroll 4
    for (int i = 0; i < CPU_LANES / 4; i++) {
        uint16_t h[4];
#pragma GCC unroll 4
        for (int l = 0; l < 4; l++) memcpy(&h[l], rows[4 * i + l] + at, 2);
        four[i] = h[0] | (uint64_t)h[1] << 16 | (uint64_t)h[2] << 32 | (uint64_t)h[3] << 48;
    }
#if CPU_LANES == 16
    return (vf)_mm512_cvtph_ps(_mm256_set_epi64x((int64_t)four[3], (int64_t)four[2], (int64_t)four[1], (int64_t)four[0]));
#elif CPU_LANES == 8
    return (vf)_mm256_cvtph_ps(_mm_set_epi64x((int64_t)four[1], (int64_t)four[0]));
#else
    return from_half((vi){(int32_t)(four[0] & 0xffff), (int32_t)(four[0] >> 16 & 0xffff), (int32_t)(four[0] >> 32 & 0xffff), (int32_t)(four[0] >> 48)});
#endif
}

/* Four bytes a lane as a quad: as they are (FOUR_BYTES: unsigned), or as words. */
QUANT_FN void split_unsigned(int way, vi w, vi quad[QUAD]) {
    quad[0] = way == TWO_WORDS ? w & 0x00ff00ff : w;
    if (way == TWO_WORDS) quad[QUAD - 1] = (vi)((vu)w >> 8) & 0x00ff00ff;
}
QUANT_FN void split_signed(int way, vi w, vi quad[QUAD]) {
    quad[0] = way == TWO_WORDS ? (vi)((vs)((vs)w << 8) >> 8) : w ^ (int32_t)0x80808080;
    if (way == TWO_WORDS) quad[QUAD - 1] = (vi)((vs)w >> 8);
}
QUANT_FN void put_unsigned(int way, panel_block *p, int j, vi w) {
    split_unsigned(way, w, p->quads + QUAD * j);
}
QUANT_FN void put_signed(int way, panel_block *p, int j, vi w) {
    split_signed(way, w, p->quads + QUAD * j);
}

/* How many blocks of 32 are unpacked at once. */
QUANT_FN int unit_of(uint32_t dtype) {
    return dtype == STRAND_PLUGIN_Q4_K || dtype == STRAND_PLUGIN_Q6_K ? 8 : 1;
}

QUANT_FN void unpack_q8_0(int way, const uint8_t *const *rows, int64_t at, panel_block *p) {
    vi r[4];
    p->scale = load_halves(rows, at);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        load_16(rows, at + 2 + 16 * half, r);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) put_signed(way, p, 4 * half + j, r[j]);
    }
}

QUANT_FN void unpack_q4_0(int way, const uint8_t *const *rows, int64_t at, panel_block *p) {
    vi r[4];
    p->scale = load_halves(rows, at);
    load_16(rows, at + 2, r);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        put_unsigned(way, p, j, r[j] & 0x0f0f0f0f);
        put_unsigned(way, p, j + 4, r[j] >> 4 & 0x0f0f0f0f);
    }
}

/* d and the smallest step, and the scales and minima of sub-blocks 0-3 and 4-7 as bytes: all in the first 16 bytes. */
typedef struct scales_q4_k {
    vf d, dmin;
    vi scale[2], minimum[2];
} scales_q4_k;

QUANT_FN scales_q4_k load_scales_q4_k(const uint8_t *const *rows, int64_t at) {
    vi r[4];
    load_16(rows, at, r);
    return (scales_q4_k){from_half(r[0]),
                         from_half((vi)((vu)r[0] >> 16)),
                         {r[1] & 0x3f3f3f3f, (r[3] & 0x0f0f0f0f) | (r[1] >> 2 & 0x30303030)},
                         {r[2] & 0x3f3f3f3f, (r[3] >> 4 & 0x0f0f0f0f) | (r[2] >> 2 & 0x30303030)}};
}

/* Byte j of each lane as a number. */
QUANT_FN vf byte_of(vi x, int j) {
    return __builtin_convertvector(x >> 8 * j & 255, vf);
}
QUANT_FN vf signed_byte_of(vi x, int j) {
    return __builtin_convertvector(x << (24 - 8 * j) >> 24, vf);
}

QUANT_FN void unpack_q4_k(int way, const uint8_t *const *rows, int64_t at, panel_block *p) {
    vi r[4];
    scales_q4_k s = load_scales_q4_k(rows, at);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        p[j].scale = s.d * byte_of(s.scale[j / 4], j % 4);
        p[j].extra = s.dmin * byte_of(s.minimum[j / 4], j % 4);
    }
#pragma GCC unroll 1
    for (int part = 0; part < 8; part++) { /* 16 bytes: half of two sub-blocks */
        panel_block *low = p + (part & 6), *high = low + 1;
        int first = 4 * (part & 1);
        load_16(rows, at + 16 + 16 * part, r);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put_unsigned(way, low, first + j, r[j] & 0x0f0f0f0f);
            put_unsigned(way, high, first + j, r[j] >> 4 & 0x0f0f0f0f);
        }
    }
}

QUANT_FN void scales_q6_k(const uint8_t *const *rows, int64_t at, panel_block *p) {
    vi r[4];
    vf d = load_halves(rows, at + 208);
    load_16(rows, at + 192, r);
#pragma GCC unroll 8
    for (int b = 0; b < 8; b++) {
        p[b].scale = d * signed_byte_of(r[b / 2], 2 * (b & 1));
        p[b].extra = d * signed_byte_of(r[b / 2], 2 * (b & 1) + 1);
    }
}

QUANT_FN void unpack_q6_k(int way, const uint8_t *const *rows, int64_t at, panel_block *p) {
    scales_q6_k(rows, at, p);
#pragma GCC unroll 1
    for (int part = 0; part < 4; part++) { /* 16 places of four sub-blocks */
        int half = part >> 1, first = 4 * (part & 1);
        panel_block *to = p + 4 * half;
        vi a[4], b[4], h[4];
        load_16(rows, at + 64 * half + 16 * (part & 1), a);
        load_16(rows, at + 64 * half + 32 + 16 * (part & 1), b);
        load_16(rows, at + 128 + 32 * half + 16 * (part & 1), h);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            put_unsigned(way, to, first + j, (a[j] & 0x0f0f0f0f) | (h[j] << 4 & 0x30303030));
            put_unsigned(way, to + 1, first + j, (b[j] & 0x0f0f0f0f) | (h[j] << 2 & 0x30303030));
            put_unsigned(way, to + 2, first + j, (a[j] >> 4 & 0x0f0f0f0f) | (h[j] & 0x30303030));
            put_unsigned(way, to + 3, first + j, (b[j] >> 4 & 0x0f0f0f0f) | (h[j] >> 2 & 0x30303030));
        }
    }
}

/* Unit `index` of CPU_LANES rows. */
QUANT_FN void unpack(uint32_t dtype, const uint8_t *const *rows, int64_t index, panel_block *p) {
    if (dtype == STRAND_PLUGIN_Q8_0) unpack_q8_0(way_of(dtype), rows, index * 34, p);
    if (dtype == STRAND_PLUGIN_Q4_0) unpack_q4_0(way_of(dtype), rows, index * 18, p);
    if (dtype == STRAND_PLUGIN_Q4_K) unpack_q4_k(way_of(dtype), rows, index * 144, p);
    if (dtype == STRAND_PLUGIN_Q6_K) unpack_q6_k(way_of(dtype), rows, index * 210, p);
}

/* ---- products ---- */

#if !QUANT_VNNI
QUANT_FN vi multiply_16(vi a, vi b) {
#if CPU_LANES == 16
    return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif CPU_LANES == 8
    return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
    int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    return (vi)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
#else
    return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}
#if CPU_LANES == 16
QUANT_FN vs multiply_bytes(vi a, vi b) {
    return (vs)_mm512_maddubs_epi16((__m512i)a, (__m512i)b);
}
#elif CPU_LANES == 8
QUANT_FN vs multiply_bytes(vi a, vi b) {
    return (vs)_mm256_maddubs_epi16((__m256i)a, (__m256i)b);
}
#endif
#endif

QUANT_FN vi set_lanes(int32_t x) {
    return (vi){0} + x;
}

/* sum + a quad times activations 4j .. 4j+3, the same in every lane. TWO_BYTES: sum has words. */
QUANT_FN vi dot(int way, vi sum, const vi quad[QUAD], const rounded_block *a, int j) {
    int32_t four;
#if QUANT_VNNI
    (void)way;
    memcpy(&four, a->q + 4 * j, 4);
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)quad[0], _mm512_set1_epi32(four));
#else
#if CPU_LANES > 4
    if (way == TWO_BYTES) {
        memcpy(&four, a->q + 4 * j, 4);
        return (vi)((vs)sum + multiply_bytes(quad[0], set_lanes(four)));
    }
#endif
    (void)way;
    memcpy(&four, a->q + 8 * j, 4);
    sum += multiply_16(quad[0], set_lanes(four));
    memcpy(&four, a->q + 8 * j + 4, 4);
    return sum + multiply_16(quad[QUAD - 1], set_lanes(four));
#endif
}

/* The same for four bytes a lane. */
QUANT_FN vi dot_unsigned(int way, vi sum, vi w, const rounded_block *a, int j) {
    vi quad[QUAD];
    split_unsigned(way, w, quad);
    return dot(way, sum, quad, a, j);
}
QUANT_FN vi dot_signed(int way, vi sum, vi w, const rounded_block *a, int j) {
    vi quad[QUAD];
    split_signed(way, w, quad);
    return dot(way, sum, quad, a, j);
}

/* An integer sum that begins at `start`: with words, pairs are added up for a few quads (eight of four bits, two of six) and then
 * widened. */
QUANT_FN vi begin(int way, vi start) {
    return way == TWO_BYTES ? (vi){0} : start;
}
QUANT_FN vi widened(int way, vi start, vi sum) {
#if !QUANT_VNNI
    if (way == TWO_BYTES) return start + multiply_16(sum, set_lanes(0x00010001));
#endif
    (void)way, (void)start;
    return sum;
}

/* whole[r][v] += quads [first, last) of p[v] times those of a[r]; `few` quads fit a sum of words. */
QUANT_FN void multiply(int way, int few, int rows, int vectors, const panel_block *const *p, const rounded_block *const *a, int first, int last,
                       vi whole[][2]) {
    const int step = way == TWO_BYTES ? few : last - first;
#pragma GCC unroll 4
    for (int from = first; from < last; from += step) {
        vi sum[MOST_ROWS][2];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[r][v] = begin(way, whole[r][v]);
#pragma GCC unroll 8
        for (int j = from; j < from + step; j++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) sum[r][v] = dot(way, sum[r][v], p[v]->quads + QUAD * j, a[r], j);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) whole[r][v] = widened(way, whole[r][v], sum[r][v]);
    }
}

/* sum[r][v] += block p[v] times block a[r]. */
QUANT_FN void add_block(int form, int way, int rows, int vectors, const panel_block *const *p, const rounded_block *const *a, vf sum[][2]) {
    vi whole[MOST_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) whole[r][v] = set_lanes(a[r]->offset[0]);
    multiply(way, form == TWO_SCALES ? 2 : 8, rows, vectors, p, a, 0, form == TWO_SCALES ? 4 : 8, whole);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = vf_fma(__builtin_convertvector(whole[r][v], vf), p[v]->scale * a[r]->scale, sum[r][v]);
            if (form == WITH_MINIMUM) sum[r][v] = vf_fnma(p[v]->extra, vf_set(a[r]->sum), sum[r][v]);
            whole[r][v] = set_lanes(a[r]->offset[1]);
        }
    if (form != TWO_SCALES) return;
    multiply(way, 2, rows, vectors, p, a, 4, 8, whole);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vf_fma(__builtin_convertvector(whole[r][v], vf), p[v]->extra * a[r]->scale, sum[r][v]);
}

QUANT_FN vf load_edge(const float *c, int64_t n) {
    return n >= CPU_LANES ? vf_load(c) : vf_load_part(c, cpu_max(n, 0));
}
QUANT_FN void store_edge(float *c, vf x, int64_t n) {
    if (n >= CPU_LANES)
        vf_store(c, x);
    else
        vf_store_part(c, x, cpu_max(n, 0));
}

/* `real` of the rows are there, the others repeat one and are not stored. */
QUANT_FN void tile(int form, int way, int rows, const panel_block *panel, int64_t blocks, int64_t first, const char *const *rounded, float *const *c,
                   int64_t column, int64_t width, int64_t real) {
    vf sum[TILE_ROWS][2];
    const rounded_block *a[TILE_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        int64_t from = cpu_min(r, real - 1);
        a[r] = (const rounded_block *)(const void *)rounded[from] + first;
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) sum[r][v] = first ? load_edge(c[from] + column + v * CPU_LANES, width - v * CPU_LANES) : vf_zero();
    }
#pragma GCC unroll 1
    for (int64_t b = 0; b < blocks; b++) {
        const panel_block *p[2] = {panel + b, panel + DEPTH + b};
        add_block(form, way, rows, 2, p, a, sum);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) a[r]++;
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        if (r < real) {
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++) store_edge(c[r] + column + v * CPU_LANES, sum[r][v], width - v * CPU_LANES);
        }
}

QUANT_FN void many_rows(int form, int way, const panel_block *panel, int64_t blocks, int64_t first, const char *const *rounded, float *const *c,
                        int64_t column, int64_t width, int64_t rows) {
    for (int64_t r = 0; r < rows;) {
        int64_t left = rows - r;
        if (left > TILE_ROWS / 2) {
            tile(form, way, TILE_ROWS, panel, blocks, first, rounded + r, c + r, column, width, cpu_min(left, TILE_ROWS));
            r += TILE_ROWS;
        } else {
            tile(form, way, 1, panel, blocks, first, rounded + r, c + r, column, width, 1);
            r++;
        }
    }
}

/* Where the rows of weights that make `count` columns from `column` on begin; beyond the last one it is repeated. */
QUANT_FN void row_starts(const cpu_quant_weights *w, int64_t column, int count, const uint8_t **rows) {
    for (int i = 0; i < count; i++) rows[i] = w->data + cpu_min(column + i, w->n - 1) * w->stride;
}

QUANT_FN void panel_columns(uint32_t dtype, const cpu_quant_weights *w, int64_t column, int64_t at, int64_t width,
                            const char *const *rounded, float *const *c, int64_t rows, panel_block *panel) {
    const uint8_t *starts[2 * CPU_LANES];
    int unit = unit_of(dtype);
    row_starts(w, column, 2 * CPU_LANES, starts);
    for (int64_t first = 0; first < w->k / 32; first += DEPTH) {
        int64_t blocks = cpu_min(DEPTH, w->k / 32 - first);
        for (int v = 0; v < 2; v++)
            for (int64_t b = 0; b < blocks; b += unit) unpack(dtype, starts + v * CPU_LANES, (first + b) / unit, panel + v * DEPTH + b);
        many_rows(form_of(dtype), way_of(dtype), panel, blocks, first, rounded, c, at, width, rows);
    }
}

/* ---- one row: each block goes from the packed weights through registers ---- */

/* Rows of CPU_LANES columns lie one after the other; while one group of them is read, the next comes to the second cache: of what
 * lies as far ahead as `ahead`, bytes [at, at + bytes) of each row in a piece. A few lines at a time, or loads would wait. */
QUANT_FN void prefetch(const uint8_t *const *rows, int64_t ahead, int64_t at, int64_t bytes) {
    uintptr_t first = (uintptr_t)rows[0] + (uintptr_t)(ahead + CPU_LANES * at) / 64 * 64;
#pragma GCC unroll 16
    for (int64_t i = 0; i < CPU_LANES * bytes / 64 + 1; i++) __builtin_prefetch((const void *)(first + (uintptr_t)(64 * i)), 0, 2);
}

/* What add_block does with a block's integer sum. */
QUANT_FN vf scaled(vf sum, vi whole, vf scale, const rounded_block *a) {
    return vf_fma(__builtin_convertvector(whole, vf), scale * a->scale, sum);
}

QUANT_FN vf one_q8_0(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    prefetch(rows, ahead, at, 34);
    vi whole = set_lanes(a->offset[0]), r[8];
    load_32(rows, at + 2, r);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) whole = dot_signed(way, whole, r[j], a, j);
    return scaled(sum, whole, load_halves(rows, at), a);
}

/* High nibbles are multiplied where they stand, 16 times too large, where the integer sum still holds that. */
QUANT_FN vi high_nibbles(int way, vi x) {
    return way == TWO_BYTES ? x >> 4 & 0x0f0f0f0f : x & (int32_t)0xf0f0f0f0;
}
QUANT_FN vi high_sum(int way, vi sum) {
    return way == TWO_BYTES ? widened(way, (vi){0}, sum) : sum >> 4;
}

QUANT_FN vf one_q4_0(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    prefetch(rows, ahead, at, 18);
    vi start = set_lanes(a->offset[0]), low = begin(way, start), high = {0}, r[4];
    load_16(rows, at + 2, r);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
        high = dot_unsigned(way, high, high_nibbles(way, r[j]), a, j + 4);
    }
    return scaled(sum, widened(way, start, low) + high_sum(way, high), load_halves(rows, at), a);
}

QUANT_FN vf one_q4_k(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    scales_q4_k s = load_scales_q4_k(rows, at);
#pragma GCC unroll 4
    for (int strip = 0; strip < 4; strip++, a += 2) {
        vi low = {0}, high = {0}, r[8];
        prefetch(rows, ahead, at + 36 * strip, 36);
        load_32(rows, at + 16 + 32 * strip, r);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            low = dot_unsigned(way, low, r[j] & 0x0f0f0f0f, a, j);
            high = dot_unsigned(way, high, high_nibbles(way, r[j]), a + 1, j);
        }
        int j = 2 * strip;
        sum = scaled(sum, widened(way, (vi){0}, low), s.d * byte_of(s.scale[j / 4], j % 4), a);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4), vf_set(a->sum), sum);
        sum = scaled(sum, high_sum(way, high), s.d * byte_of(s.scale[j / 4], j % 4 + 1), a + 1);
        sum = vf_fnma(s.dmin * byte_of(s.minimum[j / 4], j % 4 + 1), vf_set(a[1].sum), sum);
    }
    return sum;
}

/* Two quads of each of four sub-blocks, from low nibbles x and y and their high bits h. */
QUANT_FN void two_quads_q6_k(int way, vi whole[4][2], int part, const vi *x, const vi *y, const vi *h, const rounded_block *a, int j) {
    vi sum[4];
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++) sum[b] = begin(way, whole[b][part]);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        sum[0] = dot_unsigned(way, sum[0], (x[i] & 0x0f0f0f0f) | (h[i] << 4 & 0x30303030), a, j + i);
        sum[1] = dot_unsigned(way, sum[1], (y[i] & 0x0f0f0f0f) | (h[i] << 2 & 0x30303030), a + 1, j + i);
        sum[2] = dot_unsigned(way, sum[2], (x[i] >> 4 & 0x0f0f0f0f) | (h[i] & 0x30303030), a + 2, j + i);
        sum[3] = dot_unsigned(way, sum[3], (y[i] >> 4 & 0x0f0f0f0f) | (h[i] >> 2 & 0x30303030), a + 3, j + i);
    }
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++) whole[b][part] = widened(way, whole[b][part], sum[b]);
}

QUANT_FN vf one_q6_k(int way, vf sum, const uint8_t *const *rows, int64_t at, int64_t ahead, const rounded_block *a) {
    vi scales[4];
    vf d = load_halves(rows, at + 208);
    load_16(rows, at + 192, scales);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++, a += 4) {
        vi whole[4][2];
#pragma GCC unroll 2
        for (int part = 0; part < 2; part++) {
            vi x[4], y[4], h[4];
            prefetch(rows, ahead, at + 105 * half + 52 * part, 52);
            load_16(rows, at + 64 * half + 16 * part, x);
            load_16(rows, at + 64 * half + 32 + 16 * part, y);
            load_16(rows, at + 128 + 32 * half + 16 * part, h);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) whole[b][part] = set_lanes(a[b].offset[part]);
            two_quads_q6_k(way, whole, part, x, y, h, a, 4 * part);
            two_quads_q6_k(way, whole, part, x + 2, y + 2, h + 2, a, 4 * part + 2);
        }
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++)
#pragma GCC unroll 2
            for (int part = 0; part < 2; part++) {
                int scale = 8 * half + 2 * b + part;
                sum = scaled(sum, whole[b][part], d * signed_byte_of(scales[scale / 4], scale % 4), a + b);
            }
    }
    return sum;
}

QUANT_FN void one_row(uint32_t dtype, const cpu_quant_weights *w, int64_t column, int64_t at, int64_t width, const char *rounded, float *c) {
    const uint8_t *starts[CPU_LANES];
    vf sum = {0};
    const rounded_block *a = (const rounded_block *)(const void *)rounded;
    int unit = unit_of(dtype);
    int64_t bytes = cpu_span(dtype, 32 * unit);
    row_starts(w, column, CPU_LANES, starts);
    for (int64_t i = 0; i < w->k / 32 / unit; i++, a += unit) {
        if (dtype == STRAND_PLUGIN_Q8_0) sum = one_q8_0(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q4_0) sum = one_q4_0(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q4_K) sum = one_q4_k(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
        if (dtype == STRAND_PLUGIN_Q6_K) sum = one_q6_k(way_of(dtype), sum, starts, i * bytes, CPU_LANES * w->stride, a);
    }
    store_edge(c + at, sum, width);
}

/* ---- a few rows: each block is unpacked beside them ---- */

QUANT_FN void direct_columns(uint32_t dtype, int rows, const cpu_quant_weights *w, int64_t column, int64_t at, int64_t width,
                             const char *const *rounded, float *const *c, int64_t real) {
    const uint8_t *starts[CPU_LANES];
    vf sum[4][2];
    const rounded_block *a[4];
    int unit = unit_of(dtype);
    row_starts(w, column, CPU_LANES, starts);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        a[r] = (const rounded_block *)(const void *)rounded[cpu_min(r, real - 1)];
        sum[r][0] = vf_zero();
    }
    for (int64_t i = 0; i < w->k / 32 / unit; i++) {
        panel_block some[8];
        prefetch(starts, CPU_LANES * w->stride, i * cpu_span(dtype, 32 * unit), cpu_span(dtype, 32 * unit));
        unpack(dtype, starts, i, some);
#pragma GCC unroll 8
        for (int b = 0; b < unit; b++) {
            const panel_block *p[2] = {&some[b], NULL};
            add_block(form_of(dtype), way_of(dtype), rows, 1, p, a, sum);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) a[r]++;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        if (r < real) store_edge(c[r] + at, sum[r][0], width);
}

QUANT_FN void columns_of(uint32_t dtype, const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded,
                         float *const *c, int64_t rows, void *panel) {
    if (rows > 4) {
        for (int64_t at = 0; at < width; at += 2 * CPU_LANES)
            panel_columns(dtype, w, column + at, at, width - at, rounded, c, rows, panel);
        return;
    }
    for (int64_t at = 0; at < width; at += CPU_LANES) {
        if (rows == 1)
            one_row(dtype, w, column + at, at, width - at, rounded[0], c[0]);
        else
            direct_columns(dtype, 4, w, column + at, at, width - at, rounded, c, rows);
    }
}

static QUANT_TARGET void columns_q8_0(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                                      int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q8_0, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q4_0(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                                      int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q4_0, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q4_k(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                                      int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q4_K, w, column, width, rounded, c, rows, panel);
}
static QUANT_TARGET void columns_q6_k(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                                      int64_t rows, void *panel) {
    columns_of(STRAND_PLUGIN_Q6_K, w, column, width, rounded, c, rows, panel);
}

static void columns(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c, int64_t rows,
                    void *panel) {
    for (int64_t r = 0; r < rows && w->k == 0; r++) memset(c[r], 0, (size_t)width * sizeof *c[r]);
    if (w->k == 0) return;
    if (w->dtype == STRAND_PLUGIN_Q8_0) columns_q8_0(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q4_0) columns_q4_0(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q4_K) columns_q4_k(w, column, width, rounded, c, rows, panel);
    if (w->dtype == STRAND_PLUGIN_Q6_K) columns_q6_k(w, column, width, rounded, c, rows, panel);
}

const cpu_quant_kernel QUANT_NAME = {sizeof(rounded_block), 2 * DEPTH * sizeof(panel_block), round_row, columns};

/* matmul_quant_unpack.h - rounded rows of activations, and packed weights as panels; part of the template of
 * matmul_quant_kernel.h. */

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
#if CPU_LANES == 16
        if (way != TWO_WORDS) _mm_storeu_si128((__m128i *)(void *)(to->q + i * CPU_LANES), _mm512_cvtepi32_epi8((__m512i)n));
#endif
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
        for (int i = 0; i < 32 && CPU_LANES < 16; i++) to->q[i] = (int8_t)q[i];
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

/* Squares of 4 x 4 numbers in every 128 bits. */
QUANT_FN void transpose_4(const vi x[4], vi r[4]) {
    vi ab = LOW32(x[0], x[1]), cd = LOW32(x[2], x[3]), ab2 = HIGH32(x[0], x[1]), cd2 = HIGH32(x[2], x[3]);
    r[0] = LOW64(ab, cd);
    r[1] = HIGH64(ab, cd);
    r[2] = LOW64(ab2, cd2);
    r[3] = HIGH64(ab2, cd2);
}

/* Bytes [at, at + 16) of CPU_LANES rows: r[j] holds bytes 4j .. 4j+3 of every row. */
QUANT_FN void load_16(const uint8_t *const *rows, int64_t at, vi r[4]) {
    vi x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) x[i] = load_rows(rows, i, at);
    transpose_4(x, r);
}

#if CPU_LANES == 16
/* z[h]: 32 bytes of rows 8h .. 8h+7, transposed; r: of all. */
QUANT_FN void join_halves(vi z[2][4], vi r[8]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = (vi)_mm512_shuffle_i64x2((__m512i)z[0][i], (__m512i)z[1][i], 0x88);
        r[i + 4] = (vi)_mm512_shuffle_i64x2((__m512i)z[0][i], (__m512i)z[1][i], 0xdd);
    }
}
#endif

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
    return from_half((vi){(int32_t)(four[0] & 0xffff), (int32_t)(four[0] >> 16 & 0xffff), (int32_t)(four[0] >> 32 & 0xffff),
                          (int32_t)(four[0] >> 48)});
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

QUANT_FN scales_q4_k split_scales_q4_k(const vi r[4]) {
    return (scales_q4_k){from_half(r[0]),
                         from_half((vi)((vu)r[0] >> 16)),
                         {r[1] & 0x3f3f3f3f, (r[3] & 0x0f0f0f0f) | (r[1] >> 2 & 0x30303030)},
                         {r[2] & 0x3f3f3f3f, (r[3] >> 4 & 0x0f0f0f0f) | (r[2] >> 2 & 0x30303030)}};
}

QUANT_FN scales_q4_k load_scales_q4_k(const uint8_t *const *rows, int64_t at) {
    vi r[4];
    load_16(rows, at, r);
    return split_scales_q4_k(r);
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
        p[b].scale = d;
        p[b].extra = signed_byte_of(r[b / 2], 2 * (b & 1));
        p[b].second = signed_byte_of(r[b / 2], 2 * (b & 1) + 1);
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

/* attention_pairs.h - the two products of attention_rows.c on pairs of BF16 (VDPBF16PS): two elements, or two keys, in each
 * 32 bits. Only for AVX-512 modules, and called only where the processor has the instruction. */
#ifndef STRAND_CPU_ATTENTION_PAIRS_H
#define STRAND_CPU_ATTENTION_PAIRS_H

#if CPU_LANES == 16

/* Rows 2i and 2i + 1 of `rows` (vectors of floats a row) become row i, rounded, the first in the low halves; in place. */
CPU_TARGET_BF16 static void pair_rows(int vectors, float *x, int64_t rows) {
    for (int64_t i = 0; i < rows; i += 2)
        for (int v = 0; v < vectors; v++) {
            __m512 low = (__m512)vf_load(x + i * PANEL + v * CPU_LANES),
                   high = i + 1 < rows ? (__m512)vf_load(x + (i + 1) * PANEL + v * CPU_LANES) : (__m512)vf_zero();
            __m512i a = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low)),
                    b = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
            vf_store(x + i / 2 * PANEL + v * CPU_LANES, (vf)_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        }
}

/* KEYS results a row of the panel: for each of n pairs, the panel's pair times pairs y[r * apart]; steps of `step` floats. */
#define PAIR_BLOCK(vectors)                                                                                                    \
    _Pragma("GCC unroll 8") for (int r = 0; r < KEYS; r++)                                                                     \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();                             \
    for (int64_t i = 0; i < n; i++, x += PANEL, y += step) {                                                                   \
        __m512bh left[VECTORS];                                                                                                \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) left[v] = (__m512bh)_mm512_loadu_si512(x + v * CPU_LANES);   \
        _Pragma("GCC unroll 8") for (int r = 0; r < KEYS; r++) {                                                               \
            int32_t pair;                                                                                                      \
            memcpy(&pair, y + r * apart, sizeof pair);                                                                         \
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                          \
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left[v], (__m512bh)_mm512_set1_epi32(pair));                           \
        }                                                                                                                      \
    }

CPU_TARGET_BF16 static void score_pairs(const float *x, const float *y, int64_t n, float *scores, vf most[VECTORS]) {
    __m512 sum[KEYS][VECTORS];
    const int64_t apart = n, step = 1;
    PAIR_BLOCK(VECTORS)
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            vf_store(scores + r * PANEL + v * CPU_LANES, (vf)sum[r][v]);
            most[v] = cpu_attention_max((vf)sum[r][v], most[v]);
        }
}

CPU_TARGET_BF16 static void weigh_pairs(const float *x, const float *y, int64_t step, int64_t n, float *sums,
                                        const vf shrink[VECTORS]) {
    __m512 sum[KEYS][VECTORS];
    const int64_t apart = 1;
    PAIR_BLOCK(VECTORS)
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            float *to = sums + r * PANEL + v * CPU_LANES;
            vf_store(to, vf_fma(vf_load(to), shrink[v], (vf)sum[r][v]));
        }
}

/* The same for values that are not all finite: a weight of -0 marks a key that is not seen. */
static void weigh_pairs_seen(const float *weights, const float *values, int64_t step, int64_t n, float *sums,
                             const vf shrink[VECTORS]) {
    for (int r = 0; r < KEYS; r++)
        for (int v = 0; v < VECTORS; v++) {
            vf sum = vf_zero();
            for (int64_t i = 0; i < 2 * n; i++) {
                vi w = (vi)vf_load(weights + i / 2 * PANEL + v * CPU_LANES), x = (vi)vf_set(values[i / 2 * step + r]);
                w = i & 1 ? w & -65536 : w << 16;
                x = i & 1 ? x & -65536 : x << 16;
                sum = vf_select(w == INT32_MIN, sum, vf_fma((vf)x, (vf)w, sum));
            }
            float *to = sums + r * PANEL + v * CPU_LANES;
            vf_store(to, vf_fma(vf_load(to), shrink[v], sum));
        }
}

/* n keys as pairs of their elements, [n][(width + 1) / 2]. */
static void unpack_key_pairs(float *to, const char *from, int64_t stride, int64_t n, int64_t width) {
    for (int64_t i = 0; i < n; i++, from += 2 * stride, to += (width + 1) / 2) {
        to[(width - 1) / 2] = 0;
        memcpy(to, from, (size_t)(2 * width));
    }
}

/* n values as pairs of keys, [(n + 1) / 2][ld]. Returns whether all are finite. */
static bool unpack_value_pairs(float *to, int64_t ld, const char *from, int64_t stride, int64_t n, int64_t width) {
    bool finite = true;
    memset(to, 0, (size_t)((n + 1) / 2 * ld) * sizeof *to);
    for (int64_t i = 0; i < n; i++) {
        const uint16_t *row = (const uint16_t *)(const void *)(from + 2 * i * stride);
        uint16_t *pair = (uint16_t *)(void *)(to + i / 2 * ld) + (i & 1), odd = 0;
        for (int64_t c = 0; c < width; c++) {
            pair[2 * c] = row[c];
            odd |= (row[c] & 0x7f80) == 0x7f80;
        }
        finite = finite && !odd;
    }
    return finite;
}

#endif
#endif

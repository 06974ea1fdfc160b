/* simd.h - vectors of CPU_LANES floats with the compilers' vector extensions, so that one source serves SSE2, NEON, AVX2 and
 * AVX-512, and the few operations that need a name.
 *
 * Results must not depend on what a compiler chooses to contract, so everything is built with -ffp-contract=off and a fused
 * multiply-add is asked for by name: vf_fma is one rounding where the variant has the instruction and two where it has not.
 * Loads and stores are unaligned (as fast on aligned addresses), because tiles begin anywhere. */
#ifndef STRAND_CPU_SIMD_H
#define STRAND_CPU_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define CPU_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define CPU_LANES 8
#else
#define CPU_LANES 4
#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif
#endif

#define CPU_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * CPU_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * CPU_LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * CPU_LANES)));
typedef double vd __attribute__((vector_size(4 * CPU_LANES)));
typedef int64_t vl __attribute__((vector_size(4 * CPU_LANES)));
typedef uint64_t vul __attribute__((vector_size(4 * CPU_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * CPU_LANES), aligned(4), may_alias));

typedef float vf_bytes __attribute__((vector_size(4 * CPU_LANES), aligned(1), may_alias));

CPU_INLINE vf vf_load(const float *p) {
    return *(const vf_unaligned *)p;
}
/* Words that lie anywhere: pairs of halves. */
CPU_INLINE vf vf_load_bytes(const void *p) {
    return *(const vf_bytes *)p;
}
CPU_INLINE void vf_store(float *p, vf x) {
    *(vf_unaligned *)p = x;
}

#if CPU_LANES == 16
CPU_INLINE vf vf_set(float x) {
    return (vf)_mm512_set1_ps(x);
}
CPU_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
CPU_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
CPU_INLINE vf vf_fms(vf a, vf b, vf c) {
    return (vf)_mm512_fmsub_ps((__m512)a, (__m512)b, (__m512)c);
}
CPU_INLINE vd vd_set(double x) {
    return (vd)_mm512_set1_pd(x);
}
#elif CPU_LANES == 8
CPU_INLINE vf vf_set(float x) {
    return (vf)_mm256_set1_ps(x);
}
CPU_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
CPU_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
CPU_INLINE vf vf_fms(vf a, vf b, vf c) {
    return (vf)_mm256_fmsub_ps((__m256)a, (__m256)b, (__m256)c);
}
CPU_INLINE vd vd_set(double x) {
    return (vd)_mm256_set1_pd(x);
}
#else
CPU_INLINE vf vf_set(float x) {
    return (vf){x, x, x, x};
}
CPU_INLINE vd vd_set(double x) {
    return (vd){x, x};
}
#if defined(__aarch64__)
CPU_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
CPU_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
CPU_INLINE vf vf_fms(vf a, vf b, vf c) {
    return -vf_fnma(a, b, c);
}
#else
CPU_INLINE vf vf_fma(vf a, vf b, vf c) {
    return a * b + c;
}
CPU_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return c - a * b;
}
CPU_INLINE vf vf_fms(vf a, vf b, vf c) {
    return a * b - c;
}
#endif
#endif

/* True where a*b+c is rounded once. */
#if CPU_LANES > 4 || defined(__aarch64__)
#define CPU_HAS_FMA 1
#else
#define CPU_HAS_FMA 0
#endif

CPU_INLINE vf vf_zero(void) {
    return (vf){0};
}

/* The first n (0..CPU_LANES) elements; the others are zero, and are not stored. */
#if CPU_LANES == 16
CPU_INLINE vf vf_load_part(const float *p, int64_t n) {
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
CPU_INLINE void vf_store_part(float *p, vf x, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
}
#elif CPU_LANES == 8
CPU_INLINE __m256i vf_first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CPU_INLINE vf vf_load_part(const float *p, int64_t n) {
    return (vf)_mm256_maskload_ps(p, vf_first(n));
}
CPU_INLINE void vf_store_part(float *p, vf x, int64_t n) {
    _mm256_maskstore_ps(p, vf_first(n), (__m256)x);
}
#else
CPU_INLINE vf vf_load_part(const float *p, int64_t n) {
    float all[CPU_LANES] = {0};
    memcpy(all, p, (size_t)n * sizeof *p);
    return vf_load(all);
}
CPU_INLINE void vf_store_part(float *p, vf x, int64_t n) {
    float all[CPU_LANES];
    vf_store(all, x);
    memcpy(p, all, (size_t)n * sizeof *p);
}
#endif

/* mask lanes are all ones or zero, as comparisons make them. */
CPU_INLINE vf vf_select(vi mask, vf yes, vf no) {
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}
CPU_INLINE vf vf_abs(vf x) {
    return (vf)((vi)x & 0x7fffffff);
}

/* Is any lane of a mask set? */
CPU_INLINE int vi_any(vi mask) {
#if CPU_LANES == 16
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif CPU_LANES == 8
    return _mm256_movemask_ps((__m256)mask) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_ps((__m128)mask) != 0;
#else
    return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

/* The larger and the smaller lane; where x is no number it stays (bound is one). */
CPU_INLINE vf vf_at_least(vf x, vf bound) {
#if CPU_LANES == 16
    return (vf)_mm512_max_ps((__m512)bound, (__m512)x);
#elif CPU_LANES == 8
    return (vf)_mm256_max_ps((__m256)bound, (__m256)x);
#elif defined(__SSE2__)
    return (vf)_mm_max_ps((__m128)bound, (__m128)x);
#else
    return vf_select(x < bound, bound, x);
#endif
}
CPU_INLINE vf vf_at_most(vf x, vf bound) {
#if CPU_LANES == 16
    return (vf)_mm512_min_ps((__m512)bound, (__m512)x);
#elif CPU_LANES == 8
    return (vf)_mm256_min_ps((__m256)bound, (__m256)x);
#elif defined(__SSE2__)
    return (vf)_mm_min_ps((__m128)bound, (__m128)x);
#else
    return vf_select(x > bound, bound, x);
#endif
}

/* The upper H lanes of the lower 2 H ones, moved down; what stands above them does not matter. */
#if CPU_LANES == 16
CPU_INLINE vf vf_down8(vf x) {
    return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
}
CPU_INLINE vf vf_down4(vf x) {
    return __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15);
}
CPU_INLINE vf vf_down2(vf x) {
    return __builtin_shufflevector(x, x, 2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
}
CPU_INLINE vf vf_down1(vf x) {
    return __builtin_shufflevector(x, x, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15);
}
#elif CPU_LANES == 8
CPU_INLINE vf vf_down4(vf x) {
    return __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7);
}
CPU_INLINE vf vf_down2(vf x) {
    return __builtin_shufflevector(x, x, 2, 3, 2, 3, 6, 7, 6, 7);
}
CPU_INLINE vf vf_down1(vf x) {
    return __builtin_shufflevector(x, x, 1, 1, 3, 3, 5, 5, 7, 7);
}
#else
CPU_INLINE vf vf_down2(vf x) {
    return __builtin_shufflevector(x, x, 2, 3, 2, 3);
}
CPU_INLINE vf vf_down1(vf x) {
    return __builtin_shufflevector(x, x, 1, 1, 3, 3);
}
#endif

/* Sum of the lanes, by halves: the order depends on the number of lanes alone. */
CPU_INLINE float vf_sum(vf x) {
#if CPU_LANES == 16
    x += vf_down8(x);
#endif
#if CPU_LANES >= 8
    x += vf_down4(x);
#endif
    x += vf_down2(x);
    x += vf_down1(x);
    return x[0];
}

/* The largest lane; a NaN may be overlooked. */
CPU_INLINE float vf_largest(vf x) {
#if CPU_LANES == 16
    x = vf_at_least(x, vf_down8(x));
#endif
#if CPU_LANES >= 8
    x = vf_at_least(x, vf_down4(x));
#endif
    x = vf_at_least(x, vf_down2(x));
    x = vf_at_least(x, vf_down1(x));
    return x[0];
}

/* Exchanges blocks of H lanes between two rows: one step of a transposition. */
#if CPU_LANES == 16
CPU_INLINE void vf_exchange1(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
    *b = __builtin_shufflevector(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}
CPU_INLINE void vf_exchange2(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    *b = __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
CPU_INLINE void vf_exchange4(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    *b = __builtin_shufflevector(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}
CPU_INLINE void vf_exchange8(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    *b = __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
#elif CPU_LANES == 8
CPU_INLINE void vf_exchange1(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14);
    *b = __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15);
}
CPU_INLINE void vf_exchange2(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 8, 9, 4, 5, 12, 13);
    *b = __builtin_shufflevector(x, y, 2, 3, 10, 11, 6, 7, 14, 15);
}
CPU_INLINE void vf_exchange4(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11);
    *b = __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
}
#else
CPU_INLINE void vf_exchange1(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 4, 2, 6);
    *b = __builtin_shufflevector(x, y, 1, 5, 3, 7);
}
CPU_INLINE void vf_exchange2(vf *a, vf *b) {
    vf x = *a, y = *b;
    *a = __builtin_shufflevector(x, y, 0, 1, 4, 5);
    *b = __builtin_shufflevector(x, y, 2, 3, 6, 7);
}
#endif

/* Transposes a square of CPU_LANES rows in registers. */
CPU_INLINE void vf_transpose(vf r[CPU_LANES]) {
#if CPU_LANES == 16
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) vf_exchange8(&r[i], &r[i + 8]);
#endif
#if CPU_LANES >= 8
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        if (!(i & 4)) vf_exchange4(&r[i], &r[i + 4]);
#endif
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        if (!(i & 2)) vf_exchange2(&r[i], &r[i + 2]);
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        if (!(i & 1)) vf_exchange1(&r[i], &r[i + 1]);
}

/* Lane i of the result is the sum of the lanes of r[i]: halves are added, then quarters ... so the order is the same for
 * each. With AVX-512 one shuffle and one blend, which other units do, bring together what two exchanges would. r is used up. */
CPU_INLINE vf vf_sums_of_rows(vf r[CPU_LANES]) {
#if CPU_LANES == 16
    const __m512i quarters = _mm512_setr_epi32(4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m512 a = (__m512)r[i], b = (__m512)r[i + 8];
        r[i] = (vf)_mm512_mask_blend_ps(0xff00, a, b) + (vf)_mm512_shuffle_f32x4(a, b, 0x4e);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512 a = (__m512)r[i], b = (__m512)r[i + 4];
        r[i] = (vf)_mm512_mask_blend_ps(0xf0f0, a, b) + (vf)_mm512_permutex2var_ps(a, quarters, b);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        __m512 a = (__m512)r[i], b = (__m512)r[i + 2];
        r[i] = (vf)_mm512_mask_blend_ps(0xcccc, a, b) + (vf)_mm512_shuffle_ps(a, b, 0x4e);
    }
#else
#if CPU_LANES == 8
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) vf_exchange4(&r[i], &r[i + 4]), r[i] += r[i + 4];
#endif
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) vf_exchange2(&r[i], &r[i + 2]), r[i] += r[i + 2];
#endif
    vf_exchange1(&r[0], &r[1]);
    return r[0] + r[1];
}

#endif

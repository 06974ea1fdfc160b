/* fft_pairs.h - complex numbers as they lie in a row, real and imaginary parts in turns, as the two vectors that arithmetic
 * wants. */
#ifndef STRAND_CPU_FFT_PAIRS_H
#define STRAND_CPU_FFT_PAIRS_H

#include "fft_kernel.h"

#if CPU_LANES == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD  1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define BACK 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0
#elif CPU_LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD  1, 3, 5, 7, 9, 11, 13, 15
#define LOW  0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define BACK 7, 6, 5, 4, 3, 2, 1, 0
#else
#define EVEN 0, 2, 4, 6
#define ODD  1, 3, 5, 7
#define LOW  0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#define BACK 3, 2, 1, 0
#endif

/* The first `count` (1 to CPU_LANES) pairs. */
CPU_INLINE cv load_pairs(const float *p, int64_t count) {
    vf a, b;
    if (__builtin_expect(count >= CPU_LANES, 1)) {
        a = vf_load(p), b = vf_load(p + CPU_LANES);
    } else {
        a = vf_load_part(p, cpu_min(2 * count, CPU_LANES));
        b = vf_load_part(p + cpu_min(2 * count, CPU_LANES), cpu_max(0, 2 * count - CPU_LANES));
    }
    return (cv){__builtin_shufflevector(a, b, EVEN), __builtin_shufflevector(a, b, ODD)};
}

CPU_INLINE void store_pairs(float *p, cv x, int64_t count) {
    vf a = __builtin_shufflevector(x.r, x.i, LOW), b = __builtin_shufflevector(x.r, x.i, HIGH);
    if (__builtin_expect(count >= CPU_LANES, 1)) {
        vf_store(p, a), vf_store(p + CPU_LANES, b);
    } else {
        vf_store_part(p, a, cpu_min(2 * count, CPU_LANES));
        if (2 * count > CPU_LANES) vf_store_part(p + CPU_LANES, b, 2 * count - CPU_LANES);
    }
}

CPU_INLINE vf turned_round(vf x) {
    return __builtin_shufflevector(x, x, BACK);
}

#undef EVEN
#undef ODD
#undef LOW
#undef HIGH
#undef BACK

#endif

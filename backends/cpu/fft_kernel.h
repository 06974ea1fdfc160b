/* fft_kernel.h - the arithmetic of the transform: complex vectors, small transforms, and the leaf.
 *
 * Data: blocks of CPU_LANES real parts followed by CPU_LANES imaginary parts. A node of the tree is a polynomial of degree < m
 * modulo z^m - e^(i theta); splitting it r ways gives r polynomials modulo z^(m/r) - e^(i (theta + 2 pi j)/r), and needs only
 * the r - 1 powers of e^(i theta/r): one twiddle a block, not one a butterfly. Nothing is reordered, as the filter's spectrum
 * comes out in the same order. A leaf has CPU_LANES^2 points: split across vectors, transposed, split again. */
#ifndef STRAND_CPU_FFT_KERNEL_H
#define STRAND_CPU_FFT_KERNEL_H

#include "simd.h"

#define LEAF (CPU_LANES * CPU_LANES)
#define STEP (2 * CPU_LANES) /* floats of a complex vector */

typedef struct cv {
    vf r, i;
} cv;

CPU_INLINE cv ld(const float *p) {
    return (cv){vf_load(p), vf_load(p + CPU_LANES)};
}
CPU_INLINE void st(float *p, cv a) {
    vf_store(p, a.r);
    vf_store(p + CPU_LANES, a.i);
}
CPU_INLINE cv add(cv a, cv b) {
    return (cv){a.r + b.r, a.i + b.i};
}
CPU_INLINE cv sub(cv a, cv b) {
    return (cv){a.r - b.r, a.i - b.i};
}
CPU_INLINE cv add_i(cv a, cv b) {
    return (cv){a.r - b.i, a.i + b.r};
} /* a + i b */
CPU_INLINE cv sub_i(cv a, cv b) {
    return (cv){a.r + b.i, a.i - b.r};
} /* a - i b */
CPU_INLINE cv times(cv a, cv w) {
    return (cv){vf_fnma(a.i, w.i, a.r * w.r), vf_fma(a.i, w.r, a.r * w.i)};
}
CPU_INLINE cv times_conjugate(cv a, cv w) {
    return (cv){vf_fma(a.i, w.i, a.r * w.r), vf_fnma(a.r, w.i, a.i * w.r)};
}
CPU_INLINE cv scaled(cv a, vf s) {
    return (cv){a.r * s, a.i * s};
}
CPU_INLINE cv one(const float *w) {
    return (cv){vf_set(w[0]), vf_set(w[1])};
}

/* ---- transforms of r numbers: x[j] becomes sum_k x[k] e^(2 pi i jk/r) ---- */

CPU_INLINE void dft3(cv *x) {
    cv s = add(x[1], x[2]), d = scaled(sub(x[1], x[2]), vf_set(0.866025403784f));
    cv t = {vf_fma(s.r, vf_set(-0.5f), x[0].r), vf_fma(s.i, vf_set(-0.5f), x[0].i)};
    x[0] = add(x[0], s), x[1] = add_i(t, d), x[2] = sub_i(t, d);
}

/* Sums and differences of numbers half a turn apart, x[k] +- x[k + r/2], make a transform of r. */
CPU_INLINE void finish4(const cv *s, const cv *d, cv *x) {
    x[0] = add(s[0], s[1]), x[1] = add_i(d[0], d[1]), x[2] = sub(s[0], s[1]), x[3] = sub_i(d[0], d[1]);
}

CPU_INLINE void finish8(const cv *s, const cv *d, cv *x) {
    const vf h = vf_set(0.707106781187f);
    cv e[4], o[4];
    finish4((cv[]){s[0], s[2]}, (cv[]){d[0], d[2]}, e);
    finish4((cv[]){s[1], s[3]}, (cv[]){d[1], d[3]}, o);
    cv o1 = {h * (o[1].r - o[1].i), h * (o[1].r + o[1].i)}; /* times e^(i pi/4) */
    cv o3 = {h * (o[3].r + o[3].i), h * (o[3].i - o[3].r)}; /* times -e^(3 i pi/4) */
    x[0] = add(e[0], o[0]), x[4] = sub(e[0], o[0]), x[1] = add(e[1], o1), x[5] = sub(e[1], o1);
    x[2] = add_i(e[2], o[2]), x[6] = sub_i(e[2], o[2]), x[3] = sub(e[3], o3), x[7] = add(e[3], o3);
}

CPU_INLINE void finish(int radix, const cv *s, const cv *d, cv *x) {
    if (radix == 2) x[0] = s[0], x[1] = d[0];
    if (radix == 4) finish4(s, d, x);
    if (radix == 8) finish8(s, d, x);
}

CPU_INLINE vf mix(vf a, float p, vf b, float q, vf c) {
    return vf_fma(a, vf_set(p), vf_fma(b, vf_set(q), c));
}

CPU_INLINE void dft5(cv *x) {
    const float c1 = 0.309016994375f, c2 = -0.809016994375f, s1 = 0.951056516295f, s2 = 0.587785252292f;
    cv p = add(x[1], x[4]), q = add(x[2], x[3]), d = sub(x[1], x[4]), e = sub(x[2], x[3]), a = x[0];
    cv u = {mix(p.r, c1, q.r, c2, a.r), mix(p.i, c1, q.i, c2, a.i)},
       v = {mix(p.r, c2, q.r, c1, a.r), mix(p.i, c2, q.i, c1, a.i)};
    cv g = {mix(d.r, s1, e.r, s2, vf_zero()), mix(d.i, s1, e.i, s2, vf_zero())};
    cv h = {mix(d.r, s2, e.r, -s1, vf_zero()), mix(d.i, s2, e.i, -s1, vf_zero())};
    x[0] = add(a, add(p, q)), x[1] = add_i(u, g), x[4] = sub_i(u, g), x[2] = add_i(v, h), x[3] = sub_i(v, h);
}

CPU_INLINE void dft(int radix, cv *x) {
    if (radix == 3) dft3(x);
    if (radix == 5) dft5(x);
    if (radix % 2) return;
    cv s[4] = {{{0}}}, d[4] = {{{0}}};
#pragma GCC unroll 4
    for (int k = 0; k < radix / 2; k++) s[k] = add(x[k], x[k + radix / 2]), d[k] = sub(x[k], x[k + radix / 2]);
    finish(radix, s, d, x);
}

/* a + b w, and a - b w from it: fused, they need no additions of their own. */
CPU_INLINE cv plus_times(cv a, cv b, cv w) {
    return (cv){vf_fnma(b.i, w.i, vf_fma(b.r, w.r, a.r)), vf_fma(b.i, w.r, vf_fma(b.r, w.i, a.i))};
}
CPU_INLINE cv twice_less(cv a, cv sum) {
    const vf two = vf_set(2);
    return (cv){vf_fms(two, a.r, sum.r), vf_fms(two, a.i, sum.i)};
}

/* x[k] times w[k - 1], then dft. */
CPU_INLINE void twiddled(int radix, cv *x, const cv *w) {
    if (radix % 2 || !CPU_HAS_FMA) {
#pragma GCC unroll 8
        for (int k = 1; k < radix; k++) x[k] = times(x[k], w[k - 1]);
        dft(radix, x);
        return;
    }
    cv s[4], d[4];
#pragma GCC unroll 4
    for (int k = 0; k < radix / 2; k++) {
        cv a = k ? times(x[k], w[k - 1]) : x[0];
        s[k] = plus_times(a, x[k + radix / 2], w[k + radix / 2 - 1]);
        d[k] = twice_less(a, s[k]);
    }
    finish(radix, s, d, x);
}

/* The inverse of dft is dft read backwards. */
CPU_INLINE int backwards(int radix, int j) {
    return j ? radix - j : 0;
}

/* r vectors, `gap` floats apart, one level down: w are r - 1 complex numbers or vectors. */
CPU_INLINE void down(int radix, float *p, int64_t gap, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * gap);
    twiddled(radix, x, w);
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) st(p + k * gap, x[k]);
}

CPU_INLINE void up(int radix, float *p, int64_t gap, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * gap);
    dft(radix, x);
    st(p, x[0]);
#pragma GCC unroll 8
    for (int k = 1; k < radix; k++) st(p + k * gap, times_conjugate(x[backwards(radix, k)], w[k - 1]));
}

CPU_INLINE void ones(int n, cv *w, const float *t) {
#pragma GCC unroll 8
    for (int k = 0; k < n; k++) w[k] = one(t + 2 * k);
}

/* ---- the leaf ---- */

/* What happens to r neighbouring vectors at the bottom: down, times the spectrum (or stored as one), up again. */
CPU_INLINE void bottom_convolve(int radix, float *p, const float *spectrum, vf skip, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * STEP);
    twiddled(radix, x, w);
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) {
        cv s = ld(spectrum + k * STEP);
        s.r += skip;
        x[k] = times(x[k], s);
    }
    dft(radix, x);
    st(p, x[0]);
#pragma GCC unroll 8
    for (int k = 1; k < radix; k++) st(p + k * STEP, times_conjugate(x[backwards(radix, k)], w[k - 1]));
}

CPU_INLINE void bottom_spectrum(int radix, float *p, vf scale, const cv *w) {
    cv x[8];
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) x[k] = ld(p + k * STEP);
    twiddled(radix, x, w);
#pragma GCC unroll 8
    for (int k = 0; k < radix; k++) st(p + k * STEP, scaled(x[k], scale));
}

/* A leaf's twiddles are powers of v = e^(i theta/LEAF). A broadcast power times a constant vector is a vector of lanes' twiddles:
 * after the transposition, lane q is the q-th child. */
#if CPU_LANES == 16
/* Two levels of 4 across the vectors, two across the lanes. Powers 64k; then 16k e^(2 pi i jk/16) for j = 0..3; then 4k; k. */
#define LEAF_FLOATS 48
#define LANE_POWERS 6
#define BOTTOM      4
#define BOTTOMS     4

typedef struct lane_twiddles {
    cv upper[3], lower[3];
} lane_twiddles;

CPU_INLINE lane_twiddles lanes_of(const float *constants, const float *t) {
    lane_twiddles w;
#pragma GCC unroll 4
    for (int k = 0; k < 3; k++) {
        w.upper[k] = times(ld(constants + k * STEP), one(t + 30 + 2 * k));
        w.lower[k] = times(ld(constants + (3 + k) * STEP), one(t + 36 + 2 * k));
    }
    return w;
}

/* A square of 16 vectors is transposed in two halves, each among four vectors that a level holds in registers anyway: numbers
 * within the quarters of vectors 4j .. 4j + 3, and quarters among vectors k, k + 4, k + 8, k + 12. */
CPU_INLINE void transpose_inside(vf *a, vf *b, vf *c, vf *d) {
    vf p = __builtin_shufflevector(*a, *b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    vf q = __builtin_shufflevector(*a, *b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    vf r = __builtin_shufflevector(*c, *d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    vf s = __builtin_shufflevector(*c, *d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    *a = __builtin_shufflevector(p, r, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    *b = __builtin_shufflevector(p, r, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    *c = __builtin_shufflevector(q, s, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    *d = __builtin_shufflevector(q, s, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
CPU_INLINE vf even_quarters(vf a, vf b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
CPU_INLINE vf odd_quarters(vf a, vf b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
CPU_INLINE void transpose_quarters(vf *a, vf *b, vf *c, vf *d) {
    vf p = even_quarters(*a, *b), q = odd_quarters(*a, *b), r = even_quarters(*c, *d), s = odd_quarters(*c, *d);
    *a = even_quarters(p, r), *b = even_quarters(q, s), *c = odd_quarters(p, r), *d = odd_quarters(q, s);
}

/* A level of 4 with half a transposition before or after it. */
typedef enum half { NONE, INSIDE, QUARTERS } half;

CPU_INLINE void load4(half before, cv *x, const float *p, int gap) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) x[k] = ld(p + k * gap);
    if (before == INSIDE) transpose_inside(&x[0].r, &x[1].r, &x[2].r, &x[3].r), transpose_inside(&x[0].i, &x[1].i, &x[2].i, &x[3].i);
    if (before == QUARTERS) transpose_quarters(&x[0].r, &x[1].r, &x[2].r, &x[3].r), transpose_quarters(&x[0].i, &x[1].i, &x[2].i, &x[3].i);
}

CPU_INLINE void store4(half after, float *p, cv *x, int gap) {
    if (after == INSIDE) transpose_inside(&x[0].r, &x[1].r, &x[2].r, &x[3].r), transpose_inside(&x[0].i, &x[1].i, &x[2].i, &x[3].i);
    if (after == QUARTERS) transpose_quarters(&x[0].r, &x[1].r, &x[2].r, &x[3].r), transpose_quarters(&x[0].i, &x[1].i, &x[2].i, &x[3].i);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) st(p + k * gap, x[k]);
}

CPU_INLINE void down4(half before, half after, float *p, int gap, const cv *w) {
    cv x[4];
    load4(before, x, p, gap);
    twiddled(4, x, w);
    store4(after, p, x, gap);
}

CPU_INLINE void up4(half before, half after, float *p, int gap, const cv *w) {
    cv x[4];
    load4(before, x, p, gap);
    dft(4, x);
    cv y[4] = {x[0], times_conjugate(x[3], w[0]), times_conjugate(x[2], w[1]), times_conjugate(x[1], w[2])};
    store4(after, p, y, gap);
}

CPU_INLINE void leaf_down(float *p, const float *t, const lane_twiddles *l) {
    cv w[3];
    ones(3, w, t);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) down4(NONE, NONE, p + k * STEP, 4 * STEP, w);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        ones(3, w, t + 6 + 6 * j);
        down4(NONE, INSIDE, p + 4 * j * STEP, STEP, w);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) down4(QUARTERS, NONE, p + k * STEP, 4 * STEP, l->upper);
}

CPU_INLINE void leaf_up(float *p, const float *t, const lane_twiddles *l) {
    cv w[3];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) up4(NONE, QUARTERS, p + k * STEP, 4 * STEP, l->upper);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        ones(3, w, t + 6 + 6 * j);
        up4(INSIDE, NONE, p + 4 * j * STEP, STEP, w);
    }
    ones(3, w, t);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) up4(NONE, NONE, p + k * STEP, 4 * STEP, w);
}

/* a e^(pi i/4) */
CPU_INLINE cv eighth(cv a) {
    const vf h = vf_set(0.707106781187f);
    return (cv){h * (a.r - a.i), h * (a.r + a.i)};
}
CPU_INLINE cv times_i(cv a) {
    return (cv){-a.i, a.r};
}

/* Twiddles of bottom j: e^(2 pi i jk/16) further on. */
CPU_INLINE void bottom_twiddles(int j, const lane_twiddles *l, cv *w) {
    const cv a = {vf_set(0.923879532511f), vf_set(0.382683432365f)}, b = {vf_set(0.382683432365f), vf_set(0.923879532511f)};
    const cv *v = l->lower;
    if (j == 0) w[0] = v[0], w[1] = v[1], w[2] = v[2];
    if (j == 1) w[0] = times(v[0], a), w[1] = eighth(v[1]), w[2] = times(v[2], b);
    if (j == 2) w[0] = eighth(v[0]), w[1] = times_i(v[1]), w[2] = times_i(eighth(v[2]));
    if (j == 3) w[0] = times(v[0], b), w[1] = times_i(eighth(v[1])), w[2] = times(v[2], (cv){-a.r, -a.i});
}
#else
CPU_INLINE void transpose(float *p) {
    vf x[CPU_LANES];
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++, p += CPU_LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++) x[i] = vf_load(p + i * STEP);
        vf_transpose(x);
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++) vf_store(p + i * STEP, x[i]);
    }
}

/* One level of CPU_LANES across the vectors, one across the lanes: powers CPU_LANES k; then k. */
#define BOTTOM      CPU_LANES
#define BOTTOMS     1
#define LANE_POWERS (CPU_LANES - 1)
#define LEAF_FLOATS (4 * LANE_POWERS)

typedef struct lane_twiddles {
    cv lower[LANE_POWERS];
} lane_twiddles;

CPU_INLINE lane_twiddles lanes_of(const float *constants, const float *t) {
    lane_twiddles w;
#pragma GCC unroll 8
    for (int k = 0; k < LANE_POWERS; k++) w.lower[k] = times(ld(constants + k * STEP), one(t + 2 * LANE_POWERS + 2 * k));
    return w;
}

CPU_INLINE void leaf_down(float *p, const float *t, const lane_twiddles *l) {
    cv w[LANE_POWERS];
    (void)l;
    ones(LANE_POWERS, w, t);
    down(CPU_LANES, p, STEP, w);
    transpose(p);
}

CPU_INLINE void leaf_up(float *p, const float *t, const lane_twiddles *l) {
    cv w[LANE_POWERS];
    (void)l;
    transpose(p);
    ones(LANE_POWERS, w, t);
    up(CPU_LANES, p, STEP, w);
}

CPU_INLINE void bottom_twiddles(int j, const lane_twiddles *l, cv *w) {
    (void)j;
#pragma GCC unroll 8
    for (int k = 0; k < LANE_POWERS; k++) w[k] = l->lower[k];
}
#endif

#endif

/* fft_kernel.h - the arithmetic of transforms: complex vectors, and transforms of a few of them.
 *
 * Data: blocks of CPU_LANES real parts followed by CPU_LANES imaginary parts. A node of the tree is a polynomial of degree < m
 * modulo z^m - e^(i theta); splitting it r ways gives r polynomials modulo z^(m/r) - e^(i (theta + 2 pi j)/r), and needs only
 * the r - 1 powers of e^(i theta/r): one twiddle a block, not one a butterfly. Nothing is reordered, as the filter's spectrum
 * comes out in the same order. */
#ifndef STRAND_CPU_FFT_KERNEL_H
#define STRAND_CPU_FFT_KERNEL_H

#include "simd.h"

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

/* The same sums, half of them as multiply-adds by one (whose rounding is the same): two of four units add, the other two
 * multiply, and what stands near one another should keep all of them busy. */
#if CPU_LANES == 16
CPU_INLINE vf hidden_one(void) {
    vf x = vf_set(1);
    __asm__("" : "+v"(x)); /* a compiler that knew it would add */
    return x;
}
CPU_INLINE cv add_mixed(cv a, cv b) {
    return (cv){a.r + b.r, vf_fma(a.i, hidden_one(), b.i)};
}
CPU_INLINE cv sub_mixed(cv a, cv b) {
    return (cv){a.r - b.r, vf_fnma(b.i, hidden_one(), a.i)};
}
CPU_INLINE cv add_i_mixed(cv a, cv b) {
    return (cv){a.r - b.i, vf_fma(b.r, hidden_one(), a.i)};
}
CPU_INLINE cv sub_i_mixed(cv a, cv b) {
    return (cv){a.r + b.i, vf_fnma(b.r, hidden_one(), a.i)};
}
#else
#define add_mixed add
#define sub_mixed sub
#define add_i_mixed add_i
#define sub_i_mixed sub_i
#endif

/* Of eight: halves e and o (two of them times sqrt(2)), then results j and j + 4 of them. */
CPU_INLINE void halves8(const cv *s, const cv *d, cv *e, cv *o) {
    e[0] = add_mixed(s[0], s[2]), o[0] = add_mixed(s[1], s[3]), e[2] = sub_mixed(s[0], s[2]), o[2] = sub_mixed(s[1], s[3]);
    e[1] = add_i_mixed(d[0], d[2]), o[1] = add_i_mixed(d[1], d[3]), e[3] = sub_i_mixed(d[0], d[2]),
    o[3] = sub_i_mixed(d[1], d[3]);
    o[1] = (cv){o[1].r - o[1].i, o[1].r + o[1].i}; /* times (1 + i) */
    o[3] = (cv){o[3].r + o[3].i, o[3].i - o[3].r}; /* times (1 - i) */
}
CPU_INLINE void pair8(int j, cv e, cv o, cv *lower, cv *upper) {
    const vf h = vf_set(0.707106781187f);
    cv more = {vf_fma(o.r, h, e.r), vf_fma(o.i, h, e.i)}, less = {vf_fnma(o.r, h, e.r), vf_fnma(o.i, h, e.i)};
    if (j == 0) *lower = add(e, o), *upper = sub(e, o);
    if (j == 1) *lower = more, *upper = less;
    if (j == 2) *lower = add_i(e, o), *upper = sub_i(e, o);
    if (j == 3) *lower = less, *upper = more;
}
CPU_INLINE void finish8(const cv *s, const cv *d, cv *x) {
    cv e[4], o[4];
    halves8(s, d, e, o);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) pair8(j, e[j], o[j], &x[j], &x[j + 4]);
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

/* a *w, c + a *w and c - a *w, w being broadcast. As an operand of a multiplication a broadcast costs nothing; compilers
 * prefer to use it twice, and as an instruction of its own it takes a unit's turn. */
#if CPU_LANES == 16
CPU_INLINE vf mul_at(vf a, const float *w) {
    vf r;
    __asm__("vmulps %2%{1to16%}, %1, %0" : "=v"(r) : "v"(a), "m"(*w));
    return r;
}
CPU_INLINE vf fma_at(vf a, const float *w, vf c) {
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(a), "m"(*w));
    return c;
}
CPU_INLINE vf fnma_at(vf a, const float *w, vf c) {
    __asm__("vfnmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(a), "m"(*w));
    return c;
}
#else
CPU_INLINE vf mul_at(vf a, const float *w) {
    return a * vf_set(*w);
}
CPU_INLINE vf fma_at(vf a, const float *w, vf c) {
    return vf_fma(a, vf_set(*w), c);
}
CPU_INLINE vf fnma_at(vf a, const float *w, vf c) {
    return vf_fnma(a, vf_set(*w), c);
}
#endif
CPU_INLINE cv times_at(cv a, const float *w) {
    return (cv){fnma_at(a.i, w + 1, mul_at(a.r, w)), fma_at(a.i, w, mul_at(a.r, w + 1))};
}
CPU_INLINE cv times_conjugate_at(cv a, const float *w) {
    return (cv){fma_at(a.i, w + 1, mul_at(a.r, w)), fnma_at(a.r, w + 1, mul_at(a.i, w))};
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

#endif

/* vecmath.h - elementary functions of a vector, lane by lane: a lane's result depends on that lane alone. Polynomials are
 * Chebyshev fits made for these intervals; each function says its error. NaN gives NaN, infinities their limits. */
#ifndef STRAND_CPU_VECMATH_H
#define STRAND_CPU_VECMATH_H

#include <math.h>

#include "simd.h"

/* Adding and subtracting this rounds |x| < 2^22 to the nearest integer, which then stands in the low bits. */
#define CPU_ROUNDER      0x1.8p23f
#define CPU_ROUNDER_BITS 0x4b400000

/* e^r - 1 for |r| <= ln 2 / 2, relative error 1e-7. */
CPU_INLINE vf vf_expm1_near(vf r) {
    vf p = vf_fma(r, vf_set(0.001392692677f), vf_set(0.008363774046f));
    p = vf_fma(p, r, vf_set(0.0416665487f));
    p = vf_fma(p, r, vf_set(0.1666657329f));
    p = vf_fma(p, r, vf_set(0.5f));
    return vf_fma(p * r, r, r);
}

/* e^x, about 1 ulp; gradual underflow, overflow to infinity. The scale 2^n is applied in two steps so that both ends are
 * reached. */
CPU_INLINE vf vf_exp(vf x) {
    x = vf_at_least(vf_at_most(x, vf_set(89.0f)), vf_set(-105.0f));
    vf t = vf_fma(x, vf_set(0x1.715476p0f), vf_set(CPU_ROUNDER));
    vf whole = t - CPU_ROUNDER;
    vf r = vf_fnma(whole, vf_set(0x1.62ep-1f), x); /* ln 2 in two parts; the first product is exact */
    r = vf_fnma(whole, vf_set(0x1.0bfbe8p-15f), r);
    vf p = vf_expm1_near(r) + 1.0f;
#if CPU_LANES == 16
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole); /* the same bits: either way there is one rounding */
#else
    vi n = (vi)t - CPU_ROUNDER_BITS, half = n >> 1;
    vf scale1 = (vf)((vu)(half + 127) << 23), scale2 = (vf)((vu)(n - half + 127) << 23);
    return p * scale1 * scale2;
#endif
}

/* (sin r - r) / r^3 of y = r^2, |r| <= pi/2. */
CPU_INLINE vf vf_sin_tail(vf y) {
    vf p = vf_fma(y, vf_set(-2.406103405e-8f), vf_set(2.75356274e-6f));
    p = vf_fma(p, y, vf_set(-0.0001984107512f));
    p = vf_fma(p, y, vf_set(0.008333332837f));
    return vf_fma(p, y, vf_set(-0.1666666716f));
}

/* sin x for |x| <= 8192: pi in three parts, of which the first two multiply n exactly; error 1e-7 at worst. */
CPU_INLINE vf vf_sin_near(vf x) {
    vf t = vf_fma(x, vf_set(0x1.45f306p-2f), vf_set(CPU_ROUNDER));
    vu odd = (vu)t << 31; /* the parity of n is its sign */
    vf n = t - CPU_ROUNDER;
    vf r = vf_fnma(n, vf_set(0x1.92p+1f), x);
    r = vf_fnma(n, vf_set(0x1.fb4p-11f), r);
    r = vf_fnma(n, vf_set(0x1.4442d2p-23f), r);
    vf y = r * r;
    return (vf)((vu)vf_fma(vf_sin_tail(y) * y, r, r) ^ odd);
}

/* cos x for |x| <= 8192: x = (n + 1/2) pi + r, and cos x = +-sin r; error 1e-7 at worst. */
CPU_INLINE vf vf_cos_near(vf x) {
    vf t = vf_fma(x, vf_set(0x1.45f306p-2f), vf_set(-0.5f)) + CPU_ROUNDER;
    vu even = ~(vu)t << 31;
    vf n = (t - CPU_ROUNDER) + 0.5f;
    vf r = vf_fnma(n, vf_set(0x1.92p+1f), x);
    r = vf_fnma(n, vf_set(0x1.fb4p-11f), r);
    r = vf_fnma(n, vf_set(0x1.4442d2p-23f), r);
    vf y = r * r;
    return (vf)((vu)vf_fma(vf_sin_tail(y) * y, r, r) ^ even);
}

/* The lanes of y where x is beyond 8192, or no number, are left to the library. */
CPU_INLINE vf vf_far(vf x, vf y, double (*f)(double)) {
    vi far = ~(vi)(vf_abs(x) <= 8192.0f);
    if (__builtin_expect(vi_any(far), 0)) {
        float lanes[CPU_LANES];
        vf_store(lanes, y);
        for (int i = 0; i < CPU_LANES; i++)
            if (far[i]) lanes[i] = (float)f((double)x[i]);
        y = vf_load(lanes);
    }
    return y;
}
CPU_INLINE vf vf_sin(vf x) {
    return vf_far(x, vf_sin_near(x), sin);
}
CPU_INLINE vf vf_cos(vf x) {
    return vf_far(x, vf_cos_near(x), cos);
}

/* tanh x: a polynomial near zero, where 1 - 2/(e^2x + 1) would cancel. */
CPU_INLINE vf vf_tanh(vf x) {
    vf a = vf_abs(x), y = x * x;
    vf p = vf_fma(y, vf_set(-0.00592372613f), vf_set(0.02087346092f));
    p = vf_fma(p, y, vf_set(-0.05382375792f));
    p = vf_fma(p, y, vf_set(0.1333258301f));
    p = vf_fma(p, y, vf_set(-0.3333332837f));
    vf near = vf_fma(p * y, x, x);
    vf far = 1.0f - 2.0f / (vf_exp(a + a) + 1.0f);
    far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000u));
    return vf_select(a < 0.625f, near, far);
}

/* What multiplies x by a factor that vanishes at its far end limits x to LOW, for an infinity times 0 is no number. */
#define CPU_LOW vf_set(-1e9f)

CPU_INLINE vf vf_sigmoid(vf x) {
    return 1.0f / (1.0f + vf_exp(-x));
}
CPU_INLINE vf vf_silu(vf x) {
    return vf_at_least(x, CPU_LOW) / (1.0f + vf_exp(-x));
}
/* x sigmoid(1.702 x) */
CPU_INLINE vf vf_quick_gelu(vf x) {
    return vf_at_least(x, CPU_LOW) / (1.0f + vf_exp(x * -1.702f));
}

/* x/2 (1 + tanh u) = x / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3). */
CPU_INLINE vf vf_gelu_tanh(vf x) {
    vf y = x * x;
    vf minus_2u = x * vf_fma(y, vf_set(-0.0713548162726f), vf_set(-1.59576912161f));
    return vf_at_least(x, CPU_LOW) / (1.0f + vf_exp(minus_2u));
}

/* scale * erfc(z), z >= 0, by erfc(z) = e^(-z^2) t P(t), t = 1/(1 + 0.4 z): about 4e-7 of it, all the way to underflow where
 * there is a fused multiply-add to put right the rounding of z^2. */
CPU_INLINE vf vf_erfc(vf z, float scale) {
    z = vf_at_most(z, vf_set(16.0f));
    vf t = 1.0f / vf_fma(z, vf_set(0.4f), vf_set(1.0f));
    vf p = vf_fma(t, vf_set(-0.0277694799f), vf_set(0.1871003211f));
    p = vf_fma(p, t, vf_set(-0.4707110822f));
    p = vf_fma(p, t, vf_set(0.5066438913f));
    p = vf_fma(p, t, vf_set(-0.2476828843f));
    p = vf_fma(p, t, vf_set(0.2509388328f));
    p = vf_fma(p, t, vf_set(0.1374458969f));
    p = vf_fma(p, t, vf_set(0.2131680548f));
    p = vf_fma(p, t, vf_set(0.2251710594f));
    p = vf_fma(p, t, vf_set(0.2256953567f));
    vf square = z * z, e = vf_exp(-square);
    if (CPU_HAS_FMA) e = vf_fnma(vf_fma(z, z, -square), e, e);
    return scale * e * (p * t);
}

/* x/2 (1 + erf(x/sqrt 2)) by erfc, so that both tails keep their relative accuracy. */
CPU_INLINE vf vf_gelu(vf x) {
    vf half_erfc = vf_erfc(vf_abs(x) * 0.707106781187f, 0.5f), near = vf_at_least(x, CPU_LOW);
    near = vf_at_most(near, -CPU_LOW);
    return vf_select(x > 0.0f, vf_fnma(near, half_erfc, x), near * half_erfc);
}

/* erf x: a polynomial near zero; relative error 2e-7. */
CPU_INLINE vf vf_erf(vf x) {
    vf y = x * x;
    vf p = vf_fma(y, vf_set(-0.0006214585362f), vf_set(0.005034370663f));
    p = vf_fma(p, y, vf_set(-0.02679294778f));
    p = vf_fma(p, y, vf_set(0.112824966f));
    p = vf_fma(p, y, vf_set(-0.3761255451f));
    p = vf_fma(p, y, vf_set(1.128379158f));
    vf a = vf_abs(x), far = 1.0f - vf_erfc(a, 1.0f);
    far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000u));
    return vf_select(a < 0.875f, p * x, far);
}

/* (1 + erf s)/2 with s = (x - sqrt(1/2)) sqrt(2 pi); error 2e-7 and the rounding of s. */
CPU_INLINE vf vf_laplace(vf x) {
    vf s = vf_fma(x, vf_set(2.50662827463f), vf_set(-1.77245385091f));
    vf half_erfc = vf_erfc(vf_abs(s), 0.5f);
    return vf_select(s > 0.0f, 1.0f - half_erfc, half_erfc);
}

/* ln x of positive finite lanes (gradual underflow too), 1 ulp or two; others are put right by vf_log. */
CPU_INLINE vf vf_log_inside(vf x) {
    vi tiny = (vi)(x < 0x1p-126f);
    x = vf_select(tiny, x * 0x1p23f, x);
    vi n = (vi)((vu)x - 0x3f3504f3u) >> 23; /* x = 2^n m, m from sqrt(1/2) to sqrt 2 */
    vf f = (vf)((vu)x - ((vu)n << 23)) - 1.0f;
    vf e = __builtin_convertvector(n, vf) - vf_select(tiny, vf_set(23.0f), vf_zero());
    vf p = vf_fma(f, vf_set(0.06971611471f), vf_set(-0.1147973385f));
    p = vf_fma(p, f, vf_set(0.1168541992f));
    p = vf_fma(p, f, vf_set(-0.1242568733f));
    p = vf_fma(p, f, vf_set(0.1424905765f));
    p = vf_fma(p, f, vf_set(-0.1666780232f));
    p = vf_fma(p, f, vf_set(0.2000071575f));
    p = vf_fma(p, f, vf_set(-0.2499999696f));
    p = vf_fma(p, f, vf_set(0.3333333118f));
    vf y = f * f;
    p = vf_fma(e, vf_set(0x1.0bfbe8p-15f), p * f * y); /* ln 2 in two parts, as in vf_exp */
    p = vf_fnma(y, vf_set(0.5f), p) + f;
    return vf_fma(e, vf_set(0x1.62ep-1f), p);
}

/* ln x, 1 ulp or two; 0 gives -infinity, what is negative NaN. */
CPU_INLINE vf vf_log(vf x) {
    vf y = vf_select(x < INFINITY, vf_log_inside(x), x); /* infinity and NaN are their own logarithms */
    y = vf_select(x == 0.0f, vf_set(-INFINITY), y);
    return vf_select(x < 0.0f, vf_set(NAN), y);
}

/* ln(1 + x), 2 ulp: what rounding 1 + x loses is added again. */
CPU_INLINE vf vf_log1p(vf x) {
    vf u = 1.0f + x, lost = (x - (u - 1.0f)) / u;
    vf good = vf_log_inside(u) + lost;
    return vf_select((vi)(x > -1.0f) & (vi)(x < INFINITY), good, vf_log(u));
}

/* The same for 0 <= x <= 1. */
CPU_INLINE vf vf_log1p_near(vf x) {
    vf u = 1.0f + x;
    return vf_log_inside(u) + (x - (u - 1.0f)) / u;
}

/* e^x - 1, 3 ulp. */
CPU_INLINE vf vf_expm1(vf x) {
    return vf_select(vf_abs(x) < 0.34f, vf_expm1_near(x), vf_exp(x) - 1.0f);
}

/* ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), 2 ulp; x itself above 20. */
CPU_INLINE vf vf_softplus(vf x) {
    vf near = vf_select(x <= 0.0f, vf_zero(), x) + vf_log1p_near(vf_exp(-vf_abs(x)));
    return vf_select(x > 20.0f, x, near);
}

/* min(x, 0) - ln(1 + e^-|x|), 2 ulp. */
CPU_INLINE vf vf_log_sigmoid(vf x) {
    return vf_select(x > 0.0f, vf_zero(), x) - vf_log1p_near(vf_exp(-vf_abs(x)));
}

CPU_INLINE vf vf_sqrt(vf x) {
#if CPU_LANES == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif CPU_LANES == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vf)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (vf)vsqrtq_f32((float32x4_t)x);
#else
    return (vf){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
#endif
}

/* b ln a in double, 2^-34 of it, then e to that power: half the lanes of vf_pow. */
CPU_INLINE vd vd_pow(vd a, vd b) {
    vul bits = (vul)a, n = (bits - 0x3fe6a09e667f3bcdull) >> 52; /* a = 2^n m; wraps where a is no positive number */
    n = (n ^ 0x800) - 0x800; /* twelve bits with their sign */
    vd m = (vd)(bits - (n << 52)), s = (m - 1.0) / (m + 1.0), y = s * s;
    vd p = y * (1 / 13.0) + 1 / 11.0;
    p = p * y + 1 / 9.0;
    p = p * y + 1 / 7.0;
    p = p * y + 0.2;
    p = p * y + 1 / 3.0;
    vd whole = (vd)(n + 0x4338000000000000ull) - 0x1.8p52;
    vd log2a = whole + (s + s * y * p) * 0x1.71547652b82fep+1;
    log2a = (vd)(((vl)(a == 0.0) & (vl)vd_set(-INFINITY)) | (~(vl)(a == 0.0) & (vl)log2a));
    log2a = (vd)(((vl)(a < INFINITY) & (vl)log2a) | (~(vl)(a < INFINITY) & (vl)a));
    vd t = log2a * b;
    t = (vd)(((vl)(t > 200.0) & (vl)vd_set(200.0)) | (~(vl)(t > 200.0) & (vl)t));
    t = (vd)(((vl)(t < -200.0) & (vl)vd_set(-200.0)) | (~(vl)(t < -200.0) & (vl)t));
    vd shifted = t + 0x1.8p52, r = (t - (shifted - 0x1.8p52)) * 0x1.62e42fefa39efp-1;
    p = r * (1 / 40320.0) + 1 / 5040.0;
    p = p * r + 1 / 720.0;
    p = p * r + 1 / 120.0;
    p = p * r + 1 / 24.0;
    p = p * r + 1 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    vd scale = (vd)(((vul)shifted + 1023) << 52);
    return p * scale;
}

/* a^b for a >= 0 in double precision, rounded once; a negative a gives NaN, and b = 0 or a = 1 give 1. */
CPU_INLINE vf vf_pow(vf a, vf b) {
    typedef float half __attribute__((vector_size(2 * CPU_LANES)));
    float lanes[CPU_LANES], powers[CPU_LANES];
    half a_half, b_half, y_half;
    vf_store(lanes, a);
    vf_store(powers, b);
    for (int i = 0; i < CPU_LANES; i += CPU_LANES / 2) {
        memcpy(&a_half, lanes + i, sizeof a_half);
        memcpy(&b_half, powers + i, sizeof b_half);
        y_half =
            __builtin_convertvector(vd_pow(__builtin_convertvector(a_half, vd), __builtin_convertvector(b_half, vd)), half);
        memcpy(lanes + i, &y_half, sizeof y_half);
    }
    vf y = vf_select(a < 0.0f, vf_set(NAN), vf_load(lanes));
    return vf_select((vi)(b == 0.0f) | (vi)(a == 1.0f), vf_set(1.0f), y);
}

#endif

/* vecmath.h - elementary functions of a vector, lane by lane: a lane's result depends on that lane alone. Polynomials are
 * Chebyshev fits made for these intervals; each function says its error. NaN gives NaN, infinities their limits. */
#ifndef STRAND_CPU_VECMATH_H
#define STRAND_CPU_VECMATH_H

#include <math.h>

#include "simd.h"

/* Adding and subtracting this rounds |x| < 2^22 to the nearest integer, which then stands in the low bits. */
#define CPU_ROUNDER      0x1.8p23f
#define CPU_ROUNDER_BITS 0x4b400000

/* e^x, about 1 ulp; gradual underflow, overflow to infinity. The scale 2^n is applied in two steps so that both ends are
 * reached. */
CPU_INLINE vf vf_exp(vf x) {
    x = vf_select(x > 89.0f, vf_set(89.0f), x);
    x = vf_select(x < -105.0f, vf_set(-105.0f), x);
    vf t = vf_fma(x, vf_set(0x1.715476p0f), vf_set(CPU_ROUNDER));
    vi n = (vi)t - CPU_ROUNDER_BITS;
    vf whole = t - CPU_ROUNDER;
    vf r = vf_fnma(whole, vf_set(0x1.62ep-1f), x); /* ln 2 in two parts; the first product is exact */
    r = vf_fnma(whole, vf_set(0x1.0bfbe8p-15f), r);
    vf p = vf_fma(r, vf_set(0.001392692677f), vf_set(0.008363774046f));
    p = vf_fma(p, r, vf_set(0.0416665487f));
    p = vf_fma(p, r, vf_set(0.1666657329f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p * r, r, r) + 1.0f;
    vi half = n >> 1;
    vf scale1 = (vf)((vu)(half + 127) << 23), scale2 = (vf)((vu)(n - half + 127) << 23);
    return p * scale1 * scale2;
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
    vf p = vf_fma(y, vf_set(-2.406103405e-8f), vf_set(2.75356274e-6f));
    p = vf_fma(p, y, vf_set(-0.0001984107512f));
    p = vf_fma(p, y, vf_set(0.008333332837f));
    p = vf_fma(p, y, vf_set(-0.1666666716f));
    return (vf)((vu)vf_fma(p * y, r, r) ^ odd);
}

/* sin x for every x: lanes beyond 8192 are left to the library. */
CPU_INLINE vf vf_sin(vf x) {
    vf y = vf_sin_near(x);
    vi far = ~(vi)(vf_abs(x) <= 8192.0f);
    if (__builtin_expect(vi_any(far), 0)) {
        float lanes[CPU_LANES];
        vf_store(lanes, y);
        for (int i = 0; i < CPU_LANES; i++)
            if (far[i]) lanes[i] = (float)sin((double)x[i]);
        y = vf_load(lanes);
    }
    return y;
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

CPU_INLINE vf vf_sigmoid(vf x) {
    return 1.0f / (1.0f + vf_exp(-x));
}
CPU_INLINE vf vf_silu(vf x) {
    return x / (1.0f + vf_exp(-x));
}

/* x/2 (1 + tanh u) = x / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3). */
CPU_INLINE vf vf_gelu_tanh(vf x) {
    vf y = x * x;
    vf minus_2u = x * vf_fma(y, vf_set(-0.0713548162726f), vf_set(-1.59576912161f));
    return x / (1.0f + vf_exp(minus_2u));
}

/* x/2 (1 + erf(x/sqrt 2)) by erfc(z) = e^(-z^2) t P(t), t = 1/(1 + 0.4 z), of z = |x|/sqrt 2, so that both tails keep their
 * relative accuracy. Where there is a fused multiply-add the rounding of z^2 is put right. */
CPU_INLINE vf vf_gelu(vf x) {
    vf z = vf_abs(x) * 0.707106781187f, t = 1.0f / vf_fma(z, vf_set(0.4f), vf_set(1.0f));
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
    vf half_erfc = 0.5f * e * (p * t);
    return vf_select(x > 0.0f, vf_fnma(x, half_erfc, x), x * half_erfc);
}

#endif

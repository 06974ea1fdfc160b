/* decay.h - what the selective recurrences need of exponentials: 2^x and softplus, lane by lane. */
#ifndef STRAND_CPU_DECAY_H
#define STRAND_CPU_DECAY_H

#include "simd.h"

#define CPU_LOG2_E 0x1.715476p0f
#define CPU_LN_2   0x1.62e43p-1f

/* 2^x, 1 ulp; gradual underflow and overflow to infinity. NaN gives NaN. */
#if CPU_LANES == 16
/* x is a multiple of 1/32 and a rest in [0, 1/32): two to the fractional part of the multiple is looked up in two registers
 * by its low bits, the rest needs three terms, and scalef takes the whole part of x by itself: less work than a polynomial
 * over a whole unit. */
CPU_INLINE vf vf_exp2(vf x) {
    const vf low = {0x1p0f,        0x1.059b0ep0f, 0x1.0b5586p0f, 0x1.11301ep0f, 0x1.172b84p0f, 0x1.1d4874p0f,
                    0x1.2387a6p0f, 0x1.29e9ep0f,  0x1.306fep0f,  0x1.371a74p0f, 0x1.3dea64p0f, 0x1.44e086p0f,
                    0x1.4bfdaep0f, 0x1.5342b6p0f, 0x1.5ab07ep0f, 0x1.6247ecp0f};
    const vf high = {0x1.6a09e6p0f, 0x1.71f75ep0f, 0x1.7a1148p0f, 0x1.82589ap0f, 0x1.8ace54p0f, 0x1.93737cp0f,
                     0x1.9c4918p0f, 0x1.a5503cp0f, 0x1.ae89fap0f, 0x1.b7f77p0f,  0x1.c199bep0f, 0x1.cb720ep0f,
                     0x1.d5818ep0f, 0x1.dfc974p0f, 0x1.ea4afap0f, 0x1.f50766p0f};
#define CPU_DOWN (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)
    vf t = (vf)_mm512_add_round_ps((__m512)x, _mm512_set1_ps(0x1.8p18f), CPU_DOWN);
    vf r = (vf)_mm512_reduce_ps((__m512)x, 5 << 4 | CPU_DOWN);
    vf part = (vf)_mm512_permutex2var_ps((__m512)low, (__m512i)t, (__m512)high);
    vf q = vf_fma(r, vf_set(0x1.c92974p-5f), vf_set(0x1.ebfb42p-3f));
    q = vf_fma(q, r, vf_set(CPU_LN_2));
    return (vf)_mm512_scalef_ps((__m512)vf_fma(q, part * r, part), (__m512)x);
}
#else
CPU_INLINE vf vf_exp2(vf x) {
    const vf rounder = vf_set(0x1.8p23f);
    x = vf_select(x > 129.0f, vf_set(129.0f), x);
    x = vf_select(x < -151.0f, vf_set(-151.0f), x);
    vf t = x + rounder;
    vi n = (vi)t - 0x4b400000;
    vf r = x - (t - rounder);
    vf p = vf_fma(r, vf_set(0x1.44138cp-13f), vf_set(0x1.5ec86ep-10f));
    p = vf_fma(p, r, vf_set(0x1.3b2a54p-7f));
    p = vf_fma(p, r, vf_set(0x1.c6afeep-5f));
    p = vf_fma(p, r, vf_set(0x1.ebfbep-3f));
    p = vf_fma(p, r, vf_set(CPU_LN_2));
    p = vf_fma(p, r, vf_set(1.0f));
    vi half = n >> 1;
    vf scale1 = (vf)((vu)(half + 127) << 23), scale2 = (vf)((vu)(n - half + 127) << 23);
    return p * scale1 * scale2;
}
#endif

/* 1 / x for x of a middling size, 1 ulp: a division would hold up what follows. */
CPU_INLINE vf reciprocal_near(vf x) {
#if CPU_LANES == 16
    vf r = (vf)_mm512_rcp14_ps((__m512)x);
    return vf_fma(r, vf_fnma(x, r, vf_set(1.0f)), r);
#else
    return 1.0f / x;
#endif
}

/* ln(1 + e^x) to a relative 1e-7 (1 + |x|/2) on both sides: max(x, 0) + ln(1 + e^-|x|), the latter as 2 atanh(e / (2 + e)).
 * Above 20 the second term is less than half an ulp of the first: softplus with its linear branch is the same function. */
CPU_INLINE vf scan_softplus(vf x) {
    vf far = vf_abs(x);
    far = vf_select(far > 150.0f, vf_set(150.0f), far);
    vf e = vf_exp2(far * -CPU_LOG2_E), s = e * reciprocal_near(e + 2.0f), y = s * s;
    vf p = vf_fma(y, vf_set(0.2686755f), vf_set(0.2823396f));
    p = vf_fma(p, y, vf_set(0.4000767f));
    p = vf_fma(p, y, vf_set(0.6666664f));
    return vf_select(x > 0.0f, x, vf_zero()) + vf_fma(p * y, s, s + s);
}

#endif

// long_conv.h - what the kernels of long convolutions on tensor cores share (long_conv_mma.cu says how they work): products of
// numbers in T terms of F16, turns as fragments, and rows of the operator and points in working memory, read and written.
#ifndef STRAND_CUDA_LONG_CONV_H
#define STRAND_CUDA_LONG_CONV_H

#include "dialect_cuda.h"
#include "math.k"
#include "fft.k"
#include "numbers.h"
#include "warp.h"

#define SIGNS 0x80008000u

FN void copy4(uint *to, const void *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 16);
#else
    uint4 v = *(const uint4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
#endif
}
FN void put4(void *to, const uint *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 16);
#else
    *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
#endif
}
FN void copy2(uint *to, const void *from) {
#ifdef EMULATED_CUDA
    memcpy(to, from, 8);
#else
    uint2 v = *(const uint2 *)from;
    to[0] = v.x, to[1] = v.y;
#endif
}
FN void put2(void *to, uint a, uint b) {
#ifdef EMULATED_CUDA
    uint w[2] = {a, b};
    memcpy(to, w, 8);
#else
    *(uint2 *)to = make_uint2(a, b);
#endif
}

// ---- products of numbers in T terms ----

// c += a b.
template <int T> FN void product1(float *c, const uint (*a)[4], const uint (*b)[2]) {
    if (T == 1) {
        warp_mma<true>(c, a[0], b[0][0], b[0][1]);
    } else { // small products first; each step is added outside of the tensor core, which cuts off where it should round
        float p[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        warp_mma<true>(p, a[T - 1], b[0][0], b[0][1]);
        warp_mma<true>(p, a[0], b[T - 1][0], b[T - 1][1]);
        warp_mma<true>(p, a[0], b[0][0], b[0][1]);
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] += p[i];
    }
}
// c += a0 b0 + a1 b1.
template <int T>
FN void product2(float *c, const uint (*a0)[4], const uint (*b0)[2], const uint (*a1)[4], const uint (*b1)[2]) {
    if (T == 1) {
        warp_mma<true>(c, a0[0], b0[0][0], b0[0][1]);
        warp_mma<true>(c, a1[0], b1[0][0], b1[0][1]);
    } else {
        float p[4] = {0.0f, 0.0f, 0.0f, 0.0f}, q[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        warp_mma<true>(p, a0[T - 1], b0[0][0], b0[0][1]);
        warp_mma<true>(p, a0[0], b0[T - 1][0], b0[T - 1][1]);
        warp_mma<true>(p, a1[T - 1], b1[0][0], b1[0][1]);
        warp_mma<true>(p, a1[0], b1[T - 1][0], b1[T - 1][1]);
        warp_mma<true>(p, a0[0], b0[0][0], b0[0][1]);
        warp_mma<true>(q, a1[0], b1[0][0], b1[0][1]);
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] += p[i] + q[i];
    }
}
FN void clear4(float *c) { c[0] = c[1] = c[2] = c[3] = 0.0f; }

// A pair of table entries (two halves each: the number's terms, the first one low) as a register of a fragment, by terms.
template <int T> FN void entries(uint (*f)[4], int part, uint e0, uint e1) {
    f[0][part] = (e0 & 0xffffu) | (e1 << 16);
    if (T > 1) f[T - 1][part] = (e0 >> 16) | (e1 & 0xffff0000u);
}
template <int T> FN uint entry(float v) {
    uint terms[T];
    split_pair<T, true>(terms, v, 0.0f);
    return (terms[0] & 0xffffu) | (T > 1 ? terms[T - 1] << 16 : 0u);
}
// The fragment of rows row0 ..., columns column0 ... of e^(-2 pi i j (4 r - TWIST) / 4 R) as real and imaginary part, r the row
// and j the column, or with `back` the other way round; rows and columns of R < 16 are several blocks. table: cosines of 4 R
// steps.
template <int T>
FN void turns(uint (*re)[4], uint (*im)[4], const uint *table, int row0, int column0, int R, int twist, bool back) {
    const int lane = WARP_LANE, mask = 4 * R - 1;
#pragma unroll
    for (int part = 0; part < 4; part++) {
        int row = row0 + (lane >> 2) + 8 * (part & 1), column = column0 + 2 * (lane & 3) + 8 * (part >> 1);
        uint c[2], s[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int a = row, b = column + i;
            bool same = R >= 16 || a / R == b / R;
            if (R < 16) a &= R - 1, b &= R - 1;
            int angle = (back ? a * (4 * b - twist) : b * (4 * a - twist)) & mask;
            c[i] = same ? table[angle] : 0u;
            s[i] = same ? table[(angle + R) & mask] : 0u;
        }
        entries<T>(re, part, c[0], c[1]);
        entries<T>(im, part, s[0], s[1]);
    }
}

// The largest of a warp; of numbers that are not negative.
FN float warp_largest(float v) {
#pragma unroll
    for (int i = 1; i < 32; i *= 2) v = FMAX(v, warp_xor(v, i));
    return v;
}
// Powers of two: what makes the largest number smaller than 2^bits, and its inverse.
FN void scales(float most, int bits, float &up, float &down) {
    int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), bits), 255);
    up = FROM_BITS((uint)(253 + bits - e) << 23);
    down = FROM_BITS((uint)(e - bits + 1) << 23);
}

// ---- rows of the operator, and points in working memory ----

FN long long place(const int *strides, const long_conv_numbers &N, int row) {
    int entry = row % N.batch + N.entry, channel = row / N.batch;
    return (long long)(entry / N.inner) * strides[0] + (long long)(entry % N.inner) * strides[1] +
           (long long)channel * strides[2];
}
// Four numbers of a row from t on (a multiple of four), gated; zeros outside of it.
FN void take4(float *f, const float *u, const float *pre, int t, const long_conv_numbers &N) {
    uint w[4];
    if (N.fast && t >= 0 && t + 3 < N.length) {
        copy4(w, u + t);
#pragma unroll
        for (int i = 0; i < 4; i++) f[i] = FROM_BITS(w[i]);
        if (N.has_pre) {
            copy4(w, pre + t);
#pragma unroll
            for (int i = 0; i < 4; i++) f[i] *= FROM_BITS(w[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            f[i] = 0.0f;
            if (t + i >= 0 && t + i < N.length) f[i] = u[t + i] * (N.has_pre ? pre[t + i] : 1.0f);
        }
    }
}
// Two results, from t on (even).
FN void give2(float *y, const float *post, int t, float a, float b, bool first, bool second, const long_conv_numbers &N) {
    if (N.fast && first && second) {
        uint w[2];
        if (N.has_post) {
            copy2(w, post + t);
            a *= FROM_BITS(w[0]);
            b *= FROM_BITS(w[1]);
        }
        put2(y + t, BITS_OF(a), BITS_OF(b));
    } else {
        if (first) y[t] = N.has_post ? a * post[t] : a;
        if (second) y[t + 1] = N.has_post ? b * post[t + 1] : b;
    }
}
// Points in working memory: pairs of F32 (T = 2), or of BF16 (T = 1). Two of them from `at` on.
template <int T> FN void take_points(float *re, float *im, const void *points, long long at) {
    if (T == 1) {
        uint w[2];
        copy2(w, (const uint *)points + at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            re[i] = FROM_BITS(w[i] << 16);
            im[i] = FROM_BITS(w[i] & 0xffff0000u);
        }
    } else {
        uint w[4];
        copy4(w, (const float *)points + 2 * at);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            re[i] = FROM_BITS(w[2 * i]);
            im[i] = FROM_BITS(w[2 * i + 1]);
        }
    }
}
template <int T> FN void give_points(void *points, long long at, const float *re, const float *im) {
    if (T == 1) {
        put2((uint *)points + at, pack_bf16(re[0], im[0]), pack_bf16(re[1], im[1]));
    } else {
        uint w[4] = {BITS_OF(re[0]), BITS_OF(im[0]), BITS_OF(re[1]), BITS_OF(im[1])};
        put4((float *)points + 2 * at, w);
    }
}

#endif

// products_mma.cu - matrix products on tensor cores, of factors that are sums of halves: a BF16 number is one, an F16 number
// two BF16 ones, an F32 number three, without loss. Their products of the first three ranks are multiplied, sums are in F32:
// F32's own precision for 3 or 5 times the work of BF16. Where the node allows BF16, both are rounded and multiplied once.
//
// A group has 64 x 128 of the result and 32 of k at a time; what 32 of k give is added up in the tensor core, which cuts off
// where it should round, and then in F32 outside of it. Every element is added in order of k, whatever the tile.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"
#include "row.h"

#define ROWS    64
#define COLUMNS 128
#define DEPTH   32
#define STEP    (DEPTH + 8) // eight rows lie in different banks

FN float element(const void *p, int type, long long i) {
    return type == 1 ? ((const float *)p)[i] : f_16(type, ((const half_word *)p)[i]);
}

// Eight numbers along an axis of stride `step`, those from `left` on zero. fast: they stand 16 bytes at a time.
FN void take8(float *f, const void *p, int type, long long at, int step, int left, bool fast) {
    if (fast && left >= 8 && type == 1) {
        const uint *w = (const uint *)p + at;
        uint r[8];
#ifdef EMULATED_CUDA
        for (int i = 0; i < 8; i++) r[i] = w[i];
#else
        uint4 one = *(const uint4 *)w, two = *(const uint4 *)(w + 4);
        r[0] = one.x, r[1] = one.y, r[2] = one.z, r[3] = one.w, r[4] = two.x, r[5] = two.y, r[6] = two.z, r[7] = two.w;
#endif
#pragma unroll
        for (int i = 0; i < 8; i++) f[i] = FROM_BITS(r[i]);
    } else if (fast && left >= 8) {
        const uint *w = (const uint *)((const half_word *)p + at);
        uint r[4];
#ifdef EMULATED_CUDA
        for (int i = 0; i < 4; i++) r[i] = w[i];
#else
        uint4 one = *(const uint4 *)w;
        r[0] = one.x, r[1] = one.y, r[2] = one.z, r[3] = one.w;
#endif
#pragma unroll
        for (int i = 0; i < 8; i++) f[i] = f_16(type, r[i / 2] >> (16 * (i & 1)) & 0xffffu);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) f[i] = i < left ? element(p, type, at + (long long)i * step) : 0.0f;
    }
}

// A matrix of `lines` (rows of a, columns of b) and k: thread `item` has eight numbers of a tile, along k or across.
struct side {
    const void *p;
    int type, lines, across, along; // strides
    bool fast;
};
FN void take(float *f, const side &s, int item, int all, int line0, int k0, int k) {
    if (s.along == 1) {
        int line = line0 + item / 4, at = k0 + item % 4 * 8;
        take8(f, s.p, s.type, (long long)line * s.across + at, 1, line < s.lines ? k - at : 0, s.fast);
    } else {
        int line = line0 + item % (all / 32) * 8, at = k0 + item / (all / 32);
        take8(f, s.p, s.type, (long long)at * s.along + (long long)line * s.across, s.across, at < k ? s.lines - line : 0,
              s.fast);
    }
}
template <int T, int LINES> FN void put(half_word (*to)[LINES * STEP], const float *f, bool along_k, int item, int all) {
    uint terms[T];
    if (along_k) {
        uint *at = (uint *)(to[0] + item / 4 * STEP + item % 4 * 8);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            split_pair<T, false>(terms, f[2 * i], f[2 * i + 1]);
#pragma unroll
            for (int j = 0; j < T; j++) at[j * (LINES * STEP / 2) + i] = terms[j];
        }
    } else {
        int line = item % (all / 32) * 8, k = item / (all / 32);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            split_pair<T, false>(terms, f[i], 0.0f);
#pragma unroll
            for (int j = 0; j < T; j++) to[j][(line + i) * STEP + k] = (half_word)terms[j];
        }
    }
}

// An element again, number by number: terms of an infinite number, and products of such terms, make NaN of what is infinite.
FN float again(const side &a, const side &b, int line_a, int line_b, int k) {
    float v = 0.0f;
    for (int i = 0; i < k; i++)
        v = FMA(element(a.p, a.type, (long long)line_a * a.across + (long long)i * a.along),
                element(b.p, b.type, (long long)line_b * b.across + (long long)i * b.along), v);
    return v;
}

FN void finish(const product_numbers &N, const float *bias, float *y, int r, int c, float v) {
    if (N.bias == 1) v += bias[(long long)r * N.bias_stride];
    if (N.bias == 2) v += bias[(long long)c * N.bias_stride];
    y[(long long)r * N.y_m + c] = N.activation ? activated(N.activation, v, N.alpha, N.beta) : v;
}

template <int TA, int TB>
FN void multiply(half_word (*ta)[ROWS * STEP], half_word (*tb)[COLUMNS * STEP], const void *a, const void *b, const float *bias,
                 float *y, const product_numbers &N) {
    const int lane = WARP_LANE, warp = WARP_NUMBER, row0 = GROUP_X * ROWS, column0 = GROUP_Y * COLUMNS;
    const int batch0 = GROUP_Z / N.inner, batch1 = GROUP_Z % N.inner;
    const long long a0 = (long long)batch0 * N.a_batch[0] + (long long)batch1 * N.a_batch[1],
                    b0 = (long long)batch0 * N.b_batch[0] + (long long)batch1 * N.b_batch[1];
    const side sa = {N.type_a == 1 ? (const void *)((const float *)a + a0) : (const half_word *)a + a0,
                     N.type_a,
                     N.m,
                     N.a_m,
                     N.a_k,
                     N.fast_a != 0};
    const side sb = {N.type_b == 1 ? (const void *)((const float *)b + b0) : (const half_word *)b + b0,
                     N.type_b,
                     N.n,
                     N.b_n,
                     N.b_k,
                     N.fast_b != 0};
    float sum[2][4][4], fa[8], fb[2][8];
#pragma unroll
    for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] = 0.0f;
    take(fa, sa, LOCAL, 256, row0, 0, N.k);
#pragma unroll
    for (int i = 0; i < 2; i++) take(fb[i], sb, LOCAL + 256 * i, 512, column0, 0, N.k);
    for (int k0 = 0; k0 < N.k; k0 += DEPTH) {
        put<TA, ROWS>(ta, fa, N.a_k == 1, LOCAL, 256);
#pragma unroll
        for (int i = 0; i < 2; i++) put<TB, COLUMNS>(tb, fb[i], N.b_k == 1, LOCAL + 256 * i, 512);
        BARRIER
        if (k0 + DEPTH < N.k) { // the next tile is read while this one is multiplied
            take(fa, sa, LOCAL, 256, row0, k0 + DEPTH, N.k);
#pragma unroll
            for (int i = 0; i < 2; i++) take(fb[i], sb, LOCAL + 256 * i, 512, column0, k0 + DEPTH, N.k);
        }
        float part[2][4][4];
#pragma unroll
        for (int i = 0; i < 32; i++) part[i / 16][i / 4 % 4][i % 4] = 0.0f;
#pragma unroll
        for (int step = 0; step < DEPTH; step += 16) {
            uint ra[TA][2][4], rb[TB][2][4];
#pragma unroll
            for (int i = 0; i < TA; i++)
#pragma unroll
                for (int m = 0; m < 2; m++)
                    warp_load4(ra[i][m], ta[i] + ((warp & 1) * 32 + m * 16 + (lane & 15)) * STEP + step + (lane >> 4) * 8);
#pragma unroll
            for (int i = 0; i < TB; i++)
#pragma unroll
                for (int n = 0; n < 2; n++)
                    warp_load4(rb[i][n], tb[i] + ((warp >> 1) * 32 + n * 16 + (lane >> 4) * 8 + (lane & 7)) * STEP + step +
                                             ((lane >> 3) & 1) * 8);
                    // Small products first.
#pragma unroll
            for (int rank = IMIN(TA + TB - 2, 2); rank >= 0; rank--)
#pragma unroll
                for (int i = 0; i < TA; i++)
#pragma unroll
                    for (int m = 0; m < 2; m++)
#pragma unroll
                        for (int n = 0; n < 4; n++)
                            if (rank - i >= 0 && rank - i < TB)
                                warp_mma<false>(part[m][n], ra[i][m], rb[rank - i][n >> 1][2 * (n & 1)],
                                                rb[rank - i][n >> 1][2 * (n & 1) + 1]);
        }
#pragma unroll
        for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] += part[i / 16][i / 4 % 4][i % 4];
        BARRIER
    }
    y += (long long)batch0 * N.y_batch[0] + (long long)batch1 * N.y_batch[1];
    uint bad = 0u; // a bit an element
#pragma unroll
    for (int i = 0; i < 32; i++) {
        int j = i % 4, r = row0 + (warp & 1) * 32 + i / 16 * 16 + (lane >> 2) + 8 * (j >> 1),
            c = column0 + (warp >> 1) * 32 + i / 4 % 4 * 8 + 2 * (lane & 3) + (j & 1);
        if (r < N.m && c < N.n) {
            float v = sum[i / 16][i / 4 % 4][j];
            if (TA + TB > 2 && IS_NAN(v)) bad |= 1u << i;
            finish(N, bias, y, r, c, v);
        }
    }
#pragma unroll 1
    for (int i = 0; i < 32 && bad >> i != 0u; i++) { // behind the others: it costs them no registers
        int j = i % 4, r = row0 + (warp & 1) * 32 + i / 16 * 16 + (lane >> 2) + 8 * (j >> 1),
            c = column0 + (warp >> 1) * 32 + i / 4 % 4 * 8 + 2 * (lane & 3) + (j & 1);
        if (bad >> i & 1u) finish(N, bias, y, r, c, again(sa, sb, r, c, N.k));
    }
}

#define PRODUCT(name, TA, TB)                                                                                                     \
    HEAD(name, 256)(const void *__restrict__ a, const void *__restrict__ b, const float *__restrict__ bias, float *y, const __grid_constant__ product_numbers N) { \
        __shared__ __align__(16) half_word ta[TA][ROWS * STEP];                                                                  \
        __shared__ __align__(16) half_word tb[TB][COLUMNS * STEP];                                                               \
        multiply<TA, TB>(ta, tb, a, b, bias, y, N);                                                                              \
    }
// One row by weights [N, K] (row.h); two columns a warp.
HEAD(product_row, 128)
(const float *__restrict__ a, const void *__restrict__ b, const float *__restrict__ bias, float *y,
 const __grid_constant__ product_numbers N) {
    const int lane = WARP_LANE, entry = GROUP_X % N.batch, column0 = (GROUP_X / N.batch * 4 + WARP_NUMBER) * 2,
              batch0 = entry / N.inner, batch1 = entry % N.inner;
    a += (long long)batch0 * N.a_batch[0] + (long long)batch1 * N.a_batch[1];
    b = row_at(b, N.type_b, (long long)batch0 * N.b_batch[0] + (long long)batch1 * N.b_batch[1]);
    float sum[2];
    row_pair(sum, a, N.a_k, N.fast_a, b, N.b_n, N.b_k, N.type_b, N.fast_b, column0, N.n, N.k);
    const int column = column0 + lane;
    if (lane < 2 && column < N.n) {
        float v = lane ? sum[1] : sum[0];
        if (N.bias == 1) v += bias[0];
        if (N.bias == 2) v += bias[(long long)column * N.bias_stride];
        y[(long long)batch0 * N.y_batch[0] + (long long)batch1 * N.y_batch[1] + column] =
            N.activation ? activated(N.activation, v, N.alpha, N.beta) : v;
    }
}

PRODUCT(product_bf16, 1, 1)
PRODUCT(product_bf16x3, 3, 1)
PRODUCT(product_f16, 3, 2)

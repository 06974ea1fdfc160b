// long_conv_columns.cu - around the rows of long_conv_mma.cu: spectra in the order in which its fragments hold them, and longer
// rows as C columns, a transform of C points down each before the rows' kernel and back behind it.
#include "long_conv.h"

// ---- spectra ----

// From F32 in bit-reversed order to the order in which fragments hold them, each row of m = 256 R points scaled to less than 4
// (scale: of what), pairs of F32 (T = 2) or F16. live: which halves of the frequencies of each row of 256 are there at all.
template <int T> FN void arrange(const float *bins, uint *spectrum, float *scale, uint *live, const spectra_numbers &N) {
    SHARED(float, largest, 8)
    SHARED(uint, there, 256)
    const int log_m = 8 + N.log_r, R = 1 << N.log_r, line = GROUP_X, channel = line >> N.log_outer,
              outer = line & ((1 << N.log_outer) - 1);
    bins += ((long long)channel << (log_m + N.log_outer) | (long long)(N.log_outer ? f_reverse(outer) >> (16 - N.log_outer) : 0)
                                                               << log_m) *
            2;
    float most = 0.0f, up, down;
    for (int i = LOCAL; i < 2 << log_m; i += 256) most = FMAX(most, FABS(bins[i]));
    most = warp_largest(most);
    if (WARP_LANE == 0) largest[WARP_NUMBER] = most;
    if (LOCAL < 2 * R) there[LOCAL] = 0u;
    BARRIER
    for (int i = 0; i < 8; i++) most = FMAX(most, largest[i]);
    scales(most, 2, up, down);
    for (int i = LOCAL; i < 1 << (log_m - 1); i += 256) {
        int r = i >> 7, n = i >> 6 & 1, lane = i & 31, alpha = (lane >> 2) + 8 * (i >> 5 & 1);
        float v[4];
        bool any = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int beta = (8 * n + 2 * (lane & 3) + h + 12) & 15,
                from = f_reverse(r + ((alpha + 16 * beta) << N.log_r)) >> (16 - log_m);
            v[2 * h] = bins[2 * from] * up;
            v[2 * h + 1] = bins[2 * from + 1] * up;
        }
        if (T == 1) {
            uint a = pack_f16(v[0], v[1]), b = pack_f16(v[2], v[3]);
            any = ((a | b) & 0x7fff7fffu) != 0u;
            put2(spectrum + ((long long)line << log_m) + 2 * i, a, b);
        } else {
            uint w[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                w[j] = BITS_OF(v[j]);
                any = any || (w[j] & 0x7fffffffu) > 0x31000000u; // 2^-30 of the largest, which is below 4
            }
            put4(spectrum + ((long long)line << (log_m + 1)) + 4 * i, w);
        }
        if (any) there[2 * r + n] = 1u;
    }
    BARRIER
    if (LOCAL < R) live[(long long)line * R + LOCAL] = there[2 * LOCAL] | there[2 * LOCAL + 1] << 1;
    if (LOCAL == 0) scale[line] = down;
}
HEAD(long_conv_spectra_f16, 256)
(const float *__restrict__ bins, uint *spectrum, float *scale, uint *live, const __grid_constant__ spectra_numbers N) {
    arrange<1>(bins, spectrum, scale, live, N);
}
HEAD(long_conv_spectra_f16x2, 256)
(const float *__restrict__ bins, uint *spectrum, float *scale, uint *live, const __grid_constant__ spectra_numbers N) {
    arrange<2>(bins, spectrum, scale, live, N);
}

// ---- columns of longer rows ----

// Of C 16 ... 256 columns' points a group has W (C W = 4096 or, of 256, 8192), in shared memory as planes of halves with rows
// of W + 8, behind the cosines of 4 C steps. Eight warps have tiles of 16 rows and 32 columns.
#define OUTER_START                                                                                                            \
    const int log_c = N.log_outer, C = 1 << log_c, W = log_c > 7 ? 32 : 4096 >> log_c, log_w = log_c > 7 ? 5 : 12 - log_c;     \
    const int log_n = log_c + N.log_inner, row = GROUP_Y, column0 = GROUP_X * W, stride = W + 8;                               \
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3;                                               \
    const long long at_points = (long long)row << log_n;                                                                       \
    uint *steps = (uint *)shared;                                                                                              \
    float *largest = (float *)(steps + 4 * C);                                                                                 \
    half_word *tile = (half_word *)(largest + 16);                                                                             \
    float most = 0.0f, up, down;                                                                                               \
    for (int i = LOCAL; i < 4 * C; i += 256) {                                                                                 \
        float c, s;                                                                                                            \
        TURN2(i, log_c + 2, c, s)                                                                                              \
        steps[i] = entry<T>(c);                                                                                                \
    }
#define OUTER_SCALE(bits)                                                                                                      \
    most = warp_largest(most);                                                                                                 \
    if (lane == 0) largest[warp] = most;                                                                                       \
    BARRIER                                                                                                                    \
    for (int i = 0; i < 8; i++) most = FMAX(most, largest[i]);                                                                 \
    scales(most, bits, up, down);

template <int T>
FN void outer_forward(unsigned char *shared, const float *u, const float *pre, void *points, const long_conv_numbers &N) {
    OUTER_START
    u += place(N.u, N, row);
    if (N.has_pre) pre += place(N.pre, N, row);
    for (int i = LOCAL; i < (C << log_w) / 4; i += 256) {
        float f[4];
        take4(f, u, pre, (i >> (log_w - 2) << N.log_inner) + column0 + 4 * (i & (W / 4 - 1)), N);
#pragma unroll
        for (int q = 0; q < 4; q++) most = FMAX(most, FABS(f[q]));
    }
    OUTER_SCALE(8)
    for (int i = LOCAL; i < (C << log_w) / 4; i += 256) {
        float f[4];
        uint a[T], b[T];
        take4(f, u, pre, (i >> (log_w - 2) << N.log_inner) + column0 + 4 * (i & (W / 4 - 1)), N);
        split_pair<T, true>(a, f[0] * up, f[1] * up);
        split_pair<T, true>(b, f[2] * up, f[3] * up);
#pragma unroll
        for (int j = 0; j < T; j++) put2(tile + (j * C + (i >> (log_w - 2))) * stride + 4 * (i & (W / 4 - 1)), a[j], b[j]);
    }
    BARRIER
    for (int i = warp; i < C / 16 * (W / 32); i += 8) {
        const int m = i & (C / 16 - 1), columns = i >> (log_c - 4) << 5;
        float re[4][4], im[4][4];
#pragma unroll
        for (int q = 0; q < 4; q++) clear4(re[q]), clear4(im[q]);
        for (int k = 0; k < C; k += 16) {
            uint b[4][T][2], ar[T][4], ai[T][4];
#pragma unroll
            for (int j = 0; j < T; j++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    uint w[4];
                    warp_load4_transposed(w, tile + (j * C + k + (lane & 15)) * stride + columns + 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) b[h + (p >> 1)][j][p & 1] = w[p];
                }
            turns<T>(ar, ai, steps, 16 * m, k, C, 1, false);
#pragma unroll
            for (int q = 0; q < 4; q++) {
                product1<T>(re[q], ar, b[q]);
                product1<T>(im[q], ai, b[q]);
            }
        }
        const int first = column0 + columns + 2 * t, all = (4 << log_n) - 1;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int r = 16 * m + g + 8 * h, step = 4 * r - 1;
            float c0, s0, c1, s1, c8, s8;
            int angle = (-first * step) & all;
            TURN2(angle, log_n + 2, c0, s0)
            angle = -step & all;
            TURN2(angle, log_n + 2, c1, s1)
            angle = (-8 * step) & all;
            TURN2(angle, log_n + 2, c8, s8)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                float vr[2], vi[2], c = c0, s = s0;
#pragma unroll
                for (int p = 0; p < 2; p++) {
                    float x = re[q][2 * h + p] * down, z = im[q][2 * h + p] * down;
                    vr[p] = FMA(x, c, -(z * s));
                    vi[p] = FMA(x, s, z * c);
                    c = FMA(c0, c1, -(s0 * s1));
                    s = FMA(c0, s1, s0 * c1);
                }
                give_points<T>(points, at_points + ((long long)r << N.log_inner) + first + 8 * q, vr, vi);
                c = FMA(c0, c8, -(s0 * s8));
                s0 = FMA(c0, s8, s0 * c8);
                c0 = c;
            }
        }
    }
}

template <int T>
FN void outer_back(unsigned char *shared, const void *points, const float *post, float *y, const long_conv_numbers &N) {
    OUTER_START
    const int all = (4 << log_n) - 1;
    y += place(N.y, N, row);
    if (N.has_post) post += place(N.post, N, row);
    for (int i = LOCAL; i < (C << log_w) / 2; i += 256) {
        float re[2], im[2];
        take_points<T>(re, im, points,
                       at_points + ((long long)(i >> (log_w - 1)) << N.log_inner) + column0 + 2 * (i & (W / 2 - 1)));
#pragma unroll
        for (int q = 0; q < 2; q++) most = FMAX(most, FMAX(FABS(re[q]), FABS(im[q])));
    }
    OUTER_SCALE(7)
    for (int i = LOCAL; i < (C << log_w) / 2; i += 256) {
        const int r = i >> (log_w - 1), column = column0 + 2 * (i & (W / 2 - 1)), step = 4 * r - 1;
        float re[2], im[2], vr[2], vi[2];
        take_points<T>(re, im, points, at_points + ((long long)r << N.log_inner) + column);
#pragma unroll
        for (int q = 0; q < 2; q++) {
            int angle = ((column + q) * step) & all;
            float c, s;
            TURN2(angle, log_n + 2, c, s)
            vr[q] = FMA(re[q], c, -(im[q] * s)) * up;
            vi[q] = FMA(re[q], s, im[q] * c) * up;
        }
        uint a[T], b[T];
        split_pair<T, true>(a, vr[0], vr[1]);
        split_pair<T, true>(b, vi[0], vi[1]);
#pragma unroll
        for (int j = 0; j < T; j++) {
            *(uint *)(tile + (2 * j * C + r) * stride + column - column0) = a[j];
            *(uint *)(tile + ((2 * j + 1) * C + r) * stride + column - column0) = b[j];
        }
    }
    BARRIER
    down *= FROM_BITS((uint)(127 - log_c) << 23);
    for (int i = warp; i < C / 16 * (W / 32); i += 8) {
        const int m = i & (C / 16 - 1), columns = i >> (log_c - 4) << 5;
        float sum[4][4];
#pragma unroll
        for (int q = 0; q < 4; q++) clear4(sum[q]);
        for (int k = 0; k < C; k += 16) {
            uint br[4][T][2], bi[4][T][2], ar[T][4], ai[T][4];
#pragma unroll
            for (int j = 0; j < T; j++)
#pragma unroll
                for (int h = 0; h < 4; h += 2) {
                    uint w[4];
                    warp_load4_transposed(w, tile + (2 * j * C + k + (lane & 15)) * stride + columns + 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) br[h + (p >> 1)][j][p & 1] = w[p];
                    warp_load4_transposed(w, tile + ((2 * j + 1) * C + k + (lane & 15)) * stride + columns +
                                                 8 * (h + (lane >> 4)));
#pragma unroll
                    for (int p = 0; p < 4; p++) bi[h + (p >> 1)][j][p & 1] = w[p];
                }
            turns<T>(ar, ai, steps, 16 * m, k, C, 1, true);
#pragma unroll
            for (int q = 0; q < 4; q++) product2<T>(sum[q], ar, br[q], ai, bi[q]);
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const int to = ((16 * m + g + 8 * h) << N.log_inner) + column0 + columns + 8 * q + 2 * t;
                give2(y, post, to, sum[q][2 * h] * down, sum[q][2 * h + 1] * down, to < N.length, to + 1 < N.length, N);
            }
    }
}

#define OUTER(name, T)                                                                                                                             \
    HEAD(long_conv_outer_##name, 256)(const float *__restrict__ u, const float *__restrict__ pre, void *points, const __grid_constant__ long_conv_numbers N) { \
        DYNAMIC_SHARED(shared)                                                                                                                     \
        outer_forward<T>(shared, u, pre, points, N);                                                                                               \
    }                                                                                                                                              \
    HEAD(long_conv_back_##name, 256)(const void *__restrict__ points, const float *post, float *y, const __grid_constant__ long_conv_numbers N) { \
        DYNAMIC_SHARED(shared)                                                                                                                     \
        outer_back<T>(shared, points, post, y, N);                                                                                                 \
    }
OUTER(f16, 1)
OUTER(f16x2, 2)

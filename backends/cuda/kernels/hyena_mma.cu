// hyena_mma.cu - a layer of HyenaDNA in two kernels around its long convolution, for products in BF16 on tensor cores:
//
//   hyena_in    norm, three projections, three short convolutions, the gate before the long convolution: x is read once, two
//               tensors are written
//   hyena_out   the projection behind it, the residual sum, norm, both products of the MLP with what lies between, the
//               residual sum
//
// Nothing else leaves the multiprocessor. Every number is made by the operations, in the order, in which the kernels of single
// nodes make it (rows.k `normalise`, products_mma.cu `product_bf16`, convolutions.k `short_conv`): same bytes. Products: what
// 32 of k give is added up in the tensor core from zero, and then in F32.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"

#define TOKENS 128
#define CHUNK  64 // columns of the MLP's inner side at a time
#define SLICE  32 // of k
#ifdef EMULATED_CUDA
#define WHOLE(name) HEAD(name, 256)
#else // all the registers: one or two groups a multiprocessor
#define WHOLE(name) extern "C" __global__ void __launch_bounds__(256, 1) name
#endif

FN float gelu(float v) {
    return f_unary(1, v, 0.0f, 0.0f);
}

// A row by one warp, in the order of `normalise`, whose lanes are D / 4 (up to 64).
template <int D>
FN void normalise_row(half_word *to, const float *x, const float *weight, const float *bias, float eps, int lane) {
    constexpr int lanes = D <= 128 ? 32 : 64, halves = lanes / 32, each = D / lanes;
    float v[D / 32], sum[halves], mean, m;
#pragma unroll
    for (int i = 0; i < D / 32; i++) v[i] = x[i * 32 + lane];
#pragma unroll
    for (int h = 0; h < halves; h++) {
        sum[h] = 0.0f;
#pragma unroll
        for (int j = 0; j < each; j++) sum[h] += v[h + halves * j];
    }
    mean = halves == 2 ? sum[0] + sum[halves - 1] : sum[0];
    for (int g = 16; g > 0; g /= 2) mean = mean + warp_xor(mean, g);
    mean = mean / FLOAT(D);
#pragma unroll
    for (int h = 0; h < halves; h++) {
        sum[h] = 0.0f;
#pragma unroll
        for (int j = 0; j < each; j++) {
            float c = v[h + halves * j] - mean;
            sum[h] = FMA(c, c, sum[h]);
        }
    }
    m = halves == 2 ? sum[0] + sum[halves - 1] : sum[0];
    for (int g = 16; g > 0; g /= 2) m = m + warp_xor(m, g);
    m = m / FLOAT(D);
    float r = 1.0f / SQRT(m + eps);
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        float c = (v[i] - mean) * r;
        c = c * (weight[i * 32 + lane] + 0.0f);
        if (bias) c = c + bias[i * 32 + lane];
        to[i * 32 + lane] = (half_word)pack_bf16(c, 0.0f);
    }
}

// Two m16n8k16 steps from zero, added to the sum.
FN void step32(float *sum, const uint *a0, const uint *a1, const uint *b0, const uint *b1) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    warp_mma<false>(part, a0, b0[0], b0[1]);
    warp_mma<false>(part, a1, b1[0], b1[1]);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] += part[i];
}

// 32 rows by 8 N columns and 32 of k. a: [row][k], or TURNED [k][row]; b: [column][k].
template <int N, bool TURNED>
FN void slice(float (&sum)[2][N][4], const half_word *a, int a_step, const half_word *b, int b_step, int lane) {
    uint ra[2][2][4];
#pragma unroll
    for (int s = 0; s < 2; s++)
#pragma unroll
        for (int m = 0; m < 2; m++) {
            if (TURNED)
                warp_load4_transposed(ra[s][m],
                                      a + (s * 16 + (lane >> 4) * 8 + (lane & 7)) * a_step + m * 16 + ((lane >> 3) & 1) * 8);
            else
                warp_load4(ra[s][m], a + (m * 16 + (lane & 15)) * a_step + s * 16 + (lane >> 4) * 8);
        }
#pragma unroll
    for (int n = 0; n < N / 2; n++) {
        uint rb[2][4];
#pragma unroll
        for (int s = 0; s < 2; s++)
            warp_load4(rb[s], b + (n * 16 + (lane >> 4) * 8 + (lane & 7)) * b_step + s * 16 + ((lane >> 3) & 1) * 8);
#pragma unroll
        for (int m = 0; m < 2; m++)
#pragma unroll
            for (int j = 0; j < 2; j++) step32(sum[m][2 * n + j], ra[0][m], ra[1][m], rb[0] + 2 * j, rb[1] + 2 * j);
    }
}

// Rows of 8 P halves each to rows of `to_step`, 16 bytes a copy.
template <int ROWS, int P> FN void fetch(half_word *to, int to_step, const half_word *from, int from_step) {
#pragma unroll
    for (int i = 0; i < ROWS * P / 256; i++) {
        int at = LOCAL + 256 * i;
        async_copy16(to + at / P * to_step + at % P * 8, from + (long long)(at / P) * from_step + at % P * 8, true);
    }
}

// ---- hyena_in ----

// Short convolutions of a channel's row of 128 results, of which a lane has every 32nd; what HYENA_HALO takes is anything.
FN void three_taps(float *v, const float *row, const float *w, float constant, int lane) {
    const float w0 = w[0], w1 = w[1], w2 = w[2];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float *x = row + (k ? 32 * k + lane : IMAX(lane, 2));
        v[k] = FMA(w2, x[0], FMA(w1, x[-1], FMA(w0, x[-2], constant)));
    }
}

// first: the token of the row's first result; nothing is before token 0.
FN void any_taps(float *v, const float *row, const float *w, float constant, int lane, int taps, int first) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const int r = 32 * k + lane;
        v[k] = constant;
        for (int back = taps - 1; r >= HYENA_HALO && back >= 0; back--)
            if (first + r >= back) v[k] = FMA(w[taps - 1 - back], row[r - back], v[k]);
    }
}

// 128 tokens of which the first HYENA_HALO are what the short filters look back at.
template <int D>
FN void project(unsigned char *shared, const float *x, const float *norm_weight, const float *norm_bias, const half_word *w,
                float *gated, float *post, const hyena_in_numbers &N) {
    constexpr int step = D + 8, echo = TOKENS + 4, groups = D / 32, buffer = 32 * (step > 2 * echo ? step : 2 * echo);
    half_word *rows = (half_word *)shared,
              *weights = rows + TOKENS * step; // two buffers of 32 x D, each of which then holds 32 x 128 results
    const int lane = WARP_LANE, warp = WARP_NUMBER, first = GROUP_X * (TOKENS - HYENA_HALO) - HYENA_HALO;
    const int m0 = (warp & 1) * 16, n0 = (warp >> 1) * 32;
    x += (long long)GROUP_Y * N.x_batch;
    gated += (long long)GROUP_Y * N.gated_batch;
    post += (long long)GROUP_Y * N.post_batch;
    // Projections in the order x1, v, x0 of each 32 channels: the first two are multiplied.
    const int order[3] = {1, 2, 0};
    fetch<32, D / 8>(weights, step, w + (long long)order[0] * D * D, D);
    async_commit();
    for (int i = 0; i < TOKENS / 8; i++) {
        const int r = warp * (TOKENS / 8) + i, t = first + r;
        if (t >= 0 && t < N.length)
            normalise_row<D>(rows + r * step, x + (long long)t * N.x_row, norm_weight, N.norm_bias ? norm_bias : nullptr, N.eps,
                             lane);
        else
            for (int k = lane; k < D; k += 32) rows[r * step + k] = 0;
    }
    BARRIER
    uint rb[D / 16][4][2];
#pragma unroll
    for (int s = 0; s < D / 16; s++)
#pragma unroll
        for (int n = 0; n < 2; n++) {
            uint four[4];
            warp_load4(four, rows + (n0 + n * 16 + (lane >> 4) * 8 + (lane & 7)) * step + s * 16 + ((lane >> 3) & 1) * 8);
            rb[s][2 * n][0] = four[0], rb[s][2 * n][1] = four[1], rb[s][2 * n + 1][0] = four[2], rb[s][2 * n + 1][1] = four[3];
        }
    float before[4][4];
    for (int at = 0; at < 3 * groups; at++) {
        const int which = at % 3, p = order[which], channel0 = at / 3 * 32;
        half_word *here = weights + (at & 1) * buffer, *other = weights + (~at & 1) * buffer;
        async_wait<0>();
        BARRIER // these weights are there, and the other buffer's results are read
            if (at + 1 < 3 * groups)
                fetch<32, D / 8>(other, step, w + ((long long)order[(at + 1) % 3] * D + (at + 1) / 3 * 32) * D, D);
        async_commit();
        float sum[4][4];
#pragma unroll
        for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0.0f;
#pragma unroll
        for (int s = 0; s < D / 16; s += 2) {
            uint ra[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) warp_load4(ra[i], here + (m0 + (lane & 15)) * step + (s + i) * 16 + (lane >> 4) * 8);
#pragma unroll
            for (int n = 0; n < 4; n++) step32(sum[n], ra[0], ra[1], rb[s][n], rb[s + 1][n]);
        }
        BARRIER // the weights are used: results take their place
            float *result = (float *)here;
        const float *bias = (const float *)N.bias[p], *taps = (const float *)N.taps_of[p],
                    *tap_bias = (const float *)N.tap_bias[p];
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int j = i % 4, c = m0 + (lane >> 2) + 8 * (j >> 1), t = n0 + i / 4 * 8 + 2 * (lane & 3) + (j & 1);
            float v = sum[i / 4][j];
            if (bias) v += bias[channel0 + c];
            result[c * echo + t] = v;
        }
        BARRIER
#pragma unroll
        for (int i = 0; i < 4; i++) { // each warp four channels, each lane every 32nd token
            const int channel = channel0 + warp * 4 + i;
            const float *row = result + (warp * 4 + i) * echo, *w = taps + channel * N.taps,
                        constant = tap_bias ? tap_bias[channel] : 0.0f;
            float v[4];
            if (N.taps == 3 && first >= 0)
                three_taps(v, row, w, constant, lane);
            else
                any_taps(v, row, w, constant, lane, N.taps, first);
            float *to =
                (which == 1 ? gated + (long long)channel * N.gated_row : post + (long long)channel * N.post_row) + first + lane;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const bool there = (k > 0 || lane >= HYENA_HALO) && first + lane + 32 * k < N.length;
                if (which == 1) v[k] = v[k] * before[i][k];
                if (which == 0) before[i][k] = v[k];
                if (which > 0 && there) to[32 * k] = v[k];
            }
        }
    }
}

#define HYENA_IN(D)                                                                                                            \
    WHOLE(hyena_in_##D)                                                                                                        \
    (const float *__restrict__ x, const float *__restrict__ norm_weight, const float *__restrict__ norm_bias,                  \
     const half_word *__restrict__ w, float *gated, float *post, const __grid_constant__ hyena_in_numbers N) {                 \
        DYNAMIC_SHARED(shared)                                                                                                 \
        project<D>(shared, x, norm_weight, norm_bias, w, gated, post, N);                                                      \
    }
HYENA_IN(128)
HYENA_IN(256)

// ---- hyena_out ----

// The i-th of a lane's four rows: to = x + (sum + bias), two columns at a time from c0 on, which stand on 8 bytes.
template <int N> FN void add_row(const float (&sum)[2][N][4], int i, float *to, const float *x, const float *bias, int c0) {
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int c = c0 + n * 8;
        float v0 = sum[i / 2][n][i % 2 * 2], v1 = sum[i / 2][n][i % 2 * 2 + 1];
        if (bias) v0 += bias[c], v1 += bias[c + 1];
        uint2 w = *(const uint2 *)(x + c);
        w.x = BITS_OF(FROM_BITS(w.x) + v0);
        w.y = BITS_OF(FROM_BITS(w.y) + v1);
        *(uint2 *)(to + c) = w;
    }
}

// Eight warps: four of 32 rows by two halves of the columns.
template <int D>
FN void finish(unsigned char *shared, const float *mixed, const float *x, float *y, const half_word *w0, const float *b0,
               const float *norm_weight, const float *norm_bias, const half_word *w1, const float *b1, const half_word *w2,
               const float *b2, const hyena_out_numbers &N) {
    constexpr int step = D + 8, step1 = CHUNK + 8, step0 = SLICE + 8, turned = TOKENS + 8, columns = D / 16;
    half_word *rows = (half_word *)shared, *wide = rows + TOKENS * step, *hidden = wide + CHUNK * step,
              *narrow = hidden + TOKENS * step1;
    half_word *part0 = wide, *part = wide + 2 * D * step0; // of the first product: weights and factors, two buffers each
    const int lane = WARP_LANE, warp = WARP_NUMBER, row0 = (warp & 3) * 32, side = warp >> 2, token0 = GROUP_X * TOKENS;
    const int left = N.rows - token0;
    mixed += (long long)GROUP_Y * N.mixed_batch + token0;
    x += (long long)GROUP_Y * N.x_batch + (long long)token0 * N.x_row;
    y += (long long)GROUP_Y * N.y_batch + (long long)token0 * N.y_row;
    float sum[2][columns][4];
#pragma unroll
    for (int i = 0; i < 8 * columns; i++) sum[i / (4 * columns)][i / 4 % columns][i % 4] = 0.0f;
    float next[SLICE / 2];
    const int mine = LOCAL & 127, half = LOCAL >> 7;
#define TAKE(k0)                                                                                                               \
    for (int i = 0; i < SLICE / 2; i++)                                                                                        \
        next[i] = mine < left ? mixed[(long long)((k0) + 2 * i + half) * N.mixed_row + mine] : 0.0f;
#define PUT(buffer)                                                                                                            \
    for (int i = 0; i < SLICE / 2; i++)                                                                                        \
        part[((buffer)*SLICE + 2 * i + half) * turned + mine] = (half_word)pack_bf16(next[i], 0.0f);
    fetch<D, SLICE / 8>(part0, step0, w0, D);
    async_commit();
#pragma unroll
    TAKE(0)
#pragma unroll
    PUT(0)
    for (int k0 = 0, b = 0; k0 < D; k0 += SLICE, b ^= 1) {
        async_wait<0>();
        BARRIER // this part is there, and the one before is used
            if (k0 + SLICE < D) {
            fetch<D, SLICE / 8>(part0 + (b ^ 1) * (D * step0), step0, w0 + k0 + SLICE, D);
#pragma unroll
            TAKE(k0 + SLICE)
        }
        async_commit();
        slice<columns, true>(sum, part + b * (SLICE * turned) + row0, turned, part0 + b * (D * step0) + side * (D / 2) * step0,
                             step0, lane);
        if (k0 + SLICE < D) {
#pragma unroll
            PUT(b ^ 1)
        }
    }
    BARRIER
    fetch<CHUNK, D / 8>(wide, step, w1, D);
    async_commit();
    fetch<D, CHUNK / 8>(narrow, step1, w2, N.inner);
    async_commit();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = row0 + i * 8 + (lane >> 2);
        if (r < left)
            add_row<columns>(sum, i, y + (long long)r * N.y_row, x + (long long)r * N.x_row, N.bias0 ? b0 : nullptr,
                             side * (D / 2) + 2 * (lane & 3));
    }
#pragma unroll
    for (int i = 0; i < 8 * columns; i++) sum[i / (4 * columns)][i / 4 % columns][i % 4] = 0.0f;
    BARRIER // the sums stand in memory: rows for the norm, and again at the end
        for (int i = 0; i < TOKENS / 8; i++) {
        const int r = warp * (TOKENS / 8) + i;
        if (r < left)
            normalise_row<D>(rows + r * step, y + (long long)r * N.y_row, norm_weight, N.norm_bias ? norm_bias : nullptr, N.eps,
                             lane);
        else
            for (int k = lane; k < D; k += 32) rows[r * step + k] = 0;
    }
    for (int c0 = 0; c0 < N.inner; c0 += CHUNK) {
        const bool more = c0 + CHUNK < N.inner;
        float h[2][4][4];
#pragma unroll
        for (int i = 0; i < 32; i++) h[i / 16][i / 4 % 4][i % 4] = 0.0f;
        async_wait<1>();
        BARRIER
#pragma unroll 1
        for (int k0 = 0; k0 < D; k0 += SLICE)
            slice<4, false>(h, rows + row0 * step + k0, step, wide + side * 32 * step + k0, step, lane);
        BARRIER
        if (more) fetch<CHUNK, D / 8>(wide, step, w1 + (long long)(c0 + CHUNK) * D, D);
        async_commit();
#pragma unroll
        for (int i = 0; i < 16; i++) {
            int j = i % 2 * 2, n = i / 2 % 4, m = i / 8, r = row0 + m * 16 + (lane >> 2) + 4 * j,
                c = side * 32 + n * 8 + 2 * (lane & 3);
            float v0 = h[m][n][j], v1 = h[m][n][j + 1];
            if (N.bias1) v0 += b1[c0 + c], v1 += b1[c0 + c + 1];
            *(uint *)(hidden + r * step1 + c) = pack_bf16(gelu(v0), gelu(v1));
        }
        async_wait<1>();
        BARRIER
#pragma unroll 1
        for (int k0 = 0; k0 < CHUNK; k0 += SLICE)
            slice<columns, false>(sum, hidden + row0 * step1 + k0, step1, narrow + side * (D / 2) * step1 + k0, step1, lane);
        BARRIER
        if (more) fetch<D, CHUNK / 8>(narrow, step1, w2 + c0 + CHUNK, N.inner);
        async_commit();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = row0 + i * 8 + (lane >> 2);
        float *at = y + (long long)r * N.y_row;
        if (r < left) add_row<columns>(sum, i, at, at, N.bias2 ? b2 : nullptr, side * (D / 2) + 2 * (lane & 3));
    }
}

#define HYENA_OUT(D)                                                                                                           \
    WHOLE(hyena_out_##D)                                                                                                       \
    (const float *__restrict__ mixed, const float *__restrict__ x, float *y, const half_word *__restrict__ w0,                 \
     const float *__restrict__ b0, const float *__restrict__ norm_weight, const float *__restrict__ norm_bias,                 \
     const half_word *__restrict__ w1, const float *__restrict__ b1, const half_word *__restrict__ w2,                         \
     const float *__restrict__ b2, const __grid_constant__ hyena_out_numbers N) {                                              \
        DYNAMIC_SHARED(shared)                                                                                                 \
        finish<D>(shared, mixed, x, y, w0, b0, norm_weight, norm_bias, w1, b1, w2, b2, N);                                     \
    }
HYENA_OUT(128)
HYENA_OUT(256)

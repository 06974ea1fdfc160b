// steps.cu - one token of a sequence: nodes in a row whose weights are read once and whose numbers fit a group, as one launch.
// Compute capability 8.0 and later.
//
// step_products: a norm, up to six products of what it gives (or of a row as it is), each with a short convolution of its result
// or the sum with another row. Every group makes the norm anew: a row is some kilobytes, which the L2 has, and its group's
// weights are under way meanwhile. step_scan: the product that makes the time steps, and the scan of its channels. Products
// are row.h's, the norm's sums those of `normalise` (rows.k): the bytes are those of the nodes one by one.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"
#include "row.h"
#include "scan_step.h"

#define AT(place) ((const float *)(place))
#define TO(place) ((float *)(place))

// A column's product as its node gives it.
FN float finished(const step_matrix &M, const float (&sum)[2], int lane, int column) {
    float v = lane ? sum[1] : sum[0];
    if (M.bias_kind == 1) v += AT(M.bias)[0];
    if (M.bias_kind == 2) v += AT(M.bias)[(long long)column * M.bias_stride];
    return M.activation ? activated(M.activation, v, M.alpha, M.beta) : v;
}

// The short convolution of one token of channel c, whose input is v. The new state may lie over the old one.
FN void convolve(const step_matrix &M, float v, int c, int b) {
    const float *const from = AT(M.from) + (long long)b * M.from_strides[0] + (long long)c * M.from_strides[2];
    float *const to = TO(M.to) + (long long)b * M.to_strides[0] + (long long)c * M.to_strides[2];
    float sum = M.tap_bias ? AT(M.tap_bias)[(long long)c * M.tap_bias_stride] : 0.0f;
    const int keep = M.taps - 1;
    for (int j = 0; j < keep && M.from; j++)
        sum = FMA(AT(M.tap)[(long long)c * M.tap_row + j], from[(long long)j * M.from_strides[1]], sum);
    sum = FMA(AT(M.tap)[(long long)c * M.tap_row + keep], v, sum);
    for (int j = 0; j < keep && M.to; j++)
        to[(long long)j * M.to_strides[1]] = j + 1 == keep ? v : M.from ? from[(long long)(j + 1) * M.from_strides[1]] : 0.0f;
    TO(M.out)[(long long)b * M.out_batch + c] = activated(M.tap_activation, sum, 0.0f, 0.0f);
}

#define ROW_SUM(value, result)                                              \
    tile[LOCAL] = (value);                                                  \
    BARRIER                                                                 \
    for (int gs = N.lanes / 2; gs > 0; gs = gs / 2) {                       \
        if (LOCAL < gs) tile[LOCAL] = tile[LOCAL] + tile[LOCAL + gs];       \
        BARRIER                                                             \
    }                                                                       \
    result = tile[0];                                                       \
    BARRIER

HEAD(step_products, 128)(const __grid_constant__ step_products_numbers N) {
    DYNAMIC_SHARED(raw)
    __shared__ float tile[128];
    float *const row = (float *)raw;
    const int b = GROUP_X % N.batch, all = GROUP_X / N.batch, lane = WARP_LANE;
    const float *x = AT(N.x) + (long long)b * N.x_batch;
    int group = all, which = 0;
    while (which + 1 < N.matrices && group >= (N.of[which].n + 7) / 8) group -= (N.of[which++].n + 7) / 8;
    const step_matrix &M = N.of[which];
    const int column0 = (group * 4 + WARP_NUMBER) * 2;
#ifndef EMULATED_CUDA
    if (N.norm && M.type < QUANT_Q8_0) { // the weights come while the row is normalised
        const int each = M.type == 1 ? 32 : 64;
        for (int i = lane * each; i < N.k; i += 32 * each)
            for (int c = 0; c < 2; c++)
                asm volatile("prefetch.global.L2 [%0];" : : "l"(row_at((const void *)M.b, M.type, (long long)IMIN(column0 + c, M.n - 1) * M.b_n + i)));
    }
#endif
    if (N.norm) {
        const bool live = LOCAL < N.lanes;
        float mean = 0.0f, sum = 0.0f, m;
        if (N.kind == 1) {
            float whole = 0.0f;
            if (live)
                for (int i = LOCAL; i < N.k; i += N.lanes) whole += x[i];
            ROW_SUM(whole, mean)
            mean = mean / FLOAT(N.k);
        }
        if (live)
            for (int i = LOCAL; i < N.k; i += N.lanes) {
                const float v = x[i] - mean;
                sum = FMA(v, v, sum);
            }
        ROW_SUM(sum, m)
        if (N.kind != 2) m = m / FLOAT(N.k);
        float below = SQRT(m);
        if (N.eps_rule == 0) below = SQRT(m + N.eps);
        if (N.eps_rule == 1) below = below + N.eps;
        if (N.eps_rule == 2) below = SELECT(below < N.eps, N.eps, below);
        const float r = 1.0f / below;
        for (int i = LOCAL; i < N.k; i += 128) {
            float v = (x[i] - mean) * r;
            if (N.norm_weight) v = v * (AT(N.norm_weight)[(long long)i * N.weight_stride] + N.weight_offset);
            if (N.norm_bias) v = v + AT(N.norm_bias)[(long long)i * N.norm_bias_stride];
            row[i] = v;
            if (all == 0 && N.normed) TO(N.normed)[(long long)b * N.normed_batch + i] = v;
        }
        BARRIER
        x = row;
    }
    float sum[2];
    row_pair(sum, x, 1, N.norm ? 1 : N.fast_x, (const void *)M.b, M.b_n, 1, M.type, M.fast, column0, M.n, N.k);
    const int column = column0 + lane;
    if (lane >= 2 || column >= M.n) return;
    const float v = finished(M, sum, lane, column);
    if (M.y) TO(M.y)[(long long)b * M.y_batch + column] = v;
    if (M.taps) convolve(M, v, column, b);
    if (N.sum) TO(N.sum)[(long long)b * N.sum_batch + column] = AT(N.residual)[(long long)b * N.residual_batch + column] + v;
}

HEAD(step_scan, 128)(const __grid_constant__ step_scan_numbers N) {
    __shared__ float steps[8];
    const int b = GROUP_X % N.batch, group = GROUP_X / N.batch, lane = WARP_LANE, column = group * 8 + WARP_NUMBER * 2 + lane;
    float sum[2];
    row_pair(sum, AT(N.x) + (long long)b * N.x_batch, 1, N.fast_x, (const void *)N.of.b, N.of.b_n, 1, N.of.type, N.of.fast,
             group * 8 + WARP_NUMBER * 2, N.of.n, N.k);
    if (lane < 2) {
        const float v = column < N.of.n ? finished(N.of, sum, lane, column) : 0.0f;
        steps[WARP_NUMBER * 2 + lane] = v;
        if (column < N.of.n && N.of.y) TO(N.of.y)[(long long)b * N.of.y_batch + column] = v;
    }
    BARRIER
    scan_step(AT(N.u), NULL, steps, AT(N.a), AT(N.b), AT(N.c), AT(N.d), AT(N.z), AT(N.scan_bias), AT(N.state), TO(N.y),
              TO(N.after), group, b, N.scan);
}

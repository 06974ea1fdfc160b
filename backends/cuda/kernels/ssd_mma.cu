// ssd_mma.cu - SSD (Mamba-2; Dao & Gu, arXiv 2405.21060) on tensor cores, with the state in registers. Compute capability 8.0
// and later.
//
// Chunks of 32 tokens. With l the sum of log decays from the chunk's first token on and S [P, N] the state before it,
//
//   y[i] = e^l[i] S C[i] + sum over j <= i of (C[i] . B[j]) e^(l[i] - l[j]) dt[j] x[j] + D x[i],
//   S <- e^l[31] S + sum over j of e^(l[31] - l[j]) dt[j] x[j] B[j]^T
//
// ssd_prepare makes what the heads of a group share, once: C and B as halves, their products, and for each head steps and sums
// of decays. ssd_walk: a group of four warps has 64 columns P of a head, 16 a warp; the state's fragments are sums of the
// update's products, and the right factors of the results' without leaving their lane. Where heads are few the sequence is cut
// in parts: ssd_ends walks each part but the last from zero for its end (the first one from the true state), and ssd_walk puts
// the ends before its part together as it begins.
//
// Numbers are sums of two F16 numbers, scaled by powers of two (of a token's C and B, of a chunk's x and of the state for each
// column P, of a row of weights), and products of the first two ranks are multiplied, each step of which is added outside of
// the tensor core: F32's accuracy. Or, with precision BF16, one BF16 number each. Tokens behind the last one have decay 1, dt
// 0, and zeros.
#include "ssd.h"

// ---- what heads share ----

// Sums of two floats: (h, l) + (oh, ol).
FN void add_pair(float *h, float *l, float oh, float ol) {
    float sum = *h + oh, taken = sum - *h, kept = sum - taken;
    float lost = *h - kept, missed = oh - taken;
    *l = *l + ol + (lost + missed);
    *h = sum;
}

FN void prepare_steps(chunk_steps<CHUNK> *to, const float *a, const float *dt, const float *bias, const float *scales, int b,
                      int head, int token, const ssd_numbers &N) {
    const int lane = WARP_LANE;
    float step = 0.0f, decay = 0.0f;
    if (token < N.tokens) {
        step = 1.0f;
        if (N.has_dt) {
            step = dt[(long long)b * N.dt[0] + (long long)token * N.dt[1] + head] +
                   (N.has_bias ? bias[head * N.bias_stride] : 0.0f);
            if (N.softplus) step = f_softplus(step);
            step = IS_NAN(step) ? step : FMIN(FMAX(step, N.dt_min), N.dt_max);
        }
        decay = step * a[N.a_moves ? (long long)b * N.a[0] + (long long)token * N.a[1] + head : (long long)head * N.a[0]];
        decay = decay < LOG_LEAST ? LOG_LEAST : decay;
    }
    float high = decay, low = 0.0f;
    for (int back = 1; back < 32; back *= 2) {
        float h = warp_from(high, lane - back), l = warp_from(low, lane - back);
        if (lane >= back) {
            float mh = high, ml = low;
            high = h, low = l;
            add_pair(&high, &low, mh, ml);
        }
    }
    const float last_high = warp_from(high, 31), last_low = warp_from(low, 31);
    to->high[lane] = high;
    to->low[lane] = low;
    to->dt[lane] = step;
    to->gain[lane] = f_exp(high + low) * scales[lane];
    to->weight[lane] = step == 0.0f ? 0.0f : f_exp(last_high - high + (last_low - low)) * step * scales[CHUNK + lane];
    to->keep[lane] = f_exp(last_high + last_low);
}

template <int NN, int TERMS, bool F16>
FN void prepare(const float *B, const float *C, const float *a, const float *dt, const float *bias,
                chunk_block<NN, TERMS> *blocks, chunk_steps<CHUNK> *steps, const ssd_numbers &N) {
    __shared__ prepare_tiles<NN, TERMS> tiles;
    const int lane = WARP_LANE, warp = WARP_NUMBER, chunk = GROUP_X, b = GROUP_Z, group = N.first_group + GROUP_Y,
              first = N.first + chunk * CHUNK;
    chunk_block<NN, TERMS> *to = blocks + ((long long)b * N.groups + GROUP_Y) * N.chunks + chunk;
    for (int i = 0; i < 4; i++) {
        const int row = (i & 1) * 16 + (LOCAL >> 3), what = i >> 1, token = first + row;
        const float *from = what ? B + (long long)b * N.b[0] + (long long)token * N.b[1]
                                 : C + (long long)b * N.c[0] + (long long)token * N.c[1];
        prepare_row<NN, TERMS, F16>(tiles, to, from + group * N.n, token < N.tokens, what, row, N.n, N.fast_bc);
    }
    BARRIER
    const int m = warp >> 1, side = warp & 1, g = lane >> 2, t = lane & 3;
    const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    float acc[2][4] = {};
    if (side <= m) {
#pragma unroll
        for (int k = 0; k < NN / 16; k++) {
            uint fc[TERMS][4], fb[4][TERMS];
#pragma unroll
            for (int j = 0; j < TERMS; j++) {
                uint r[4];
                warp_load4(fc[j], &tiles.t[0][j][m * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][k * 16 + (lane >> 4) * 8]);
                warp_load4(r, &tiles.t[1][j][side * 16 + (lane >> 4) * 8 + (lane & 7)][k * 16 + ((lane >> 3) & 1) * 8]);
#pragma unroll
                for (int i = 0; i < 4; i++) fb[i][j] = r[i];
            }
            add_products<TERMS, F16>(acc[0], fc, fb[0], fb[1], ones);
            add_products<TERMS, F16>(acc[1], fc, fb[2], fb[3], ones);
        }
    }
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int row = m * 16 + g + 8 * (j >> 1), column = side * 16 + n * 8 + 2 * t + (j & 1);
            to->scores[row][column] = acc[n][j] * tiles.scales[0][row] * tiles.scales[1][column];
        }
    const int begin = IMAX(N.first_head, group * N.heads_a_group),
              end = IMIN(N.first_head + N.heads, (group + 1) * N.heads_a_group);
    for (int head = begin + warp; head < end; head += 4)
        prepare_steps(steps + ((long long)b * N.heads + head - N.first_head) * N.chunks + chunk, a, dt, bias,
                      &tiles.scales[0][0], b, head, first + lane, N);
}

#define SSD(kind, NN, TERMS, F16)                                                                                                                                \
    HEAD(ssd_prepare_##kind, 128)(const float *__restrict__ B, const float *__restrict__ C, const float *__restrict__ a, const float *__restrict__ dt,           \
                                  const float *__restrict__ bias, chunk_block<NN, TERMS> *blocks, chunk_steps<CHUNK> *steps, const __grid_constant__ ssd_numbers N) {    \
        prepare<NN, TERMS, F16>(B, C, a, dt, bias, blocks, steps, N);                                                                                            \
    }                                                                                                                                                            \
    WALK(ssd_ends_##kind)(const float *x, const float *__restrict__ D, const float *state, const chunk_block<NN, TERMS> *__restrict__ blocks,               \
                               const chunk_steps<CHUNK> *__restrict__ steps, float *slots, float *totals, float *y, float *after, const __grid_constant__ ssd_numbers N) { \
        walk<NN, TERMS, F16, false, false>(x, D, state, blocks, steps, slots, totals, y, after, N);                                                                     \
    }                                                                                                                                                            \
    WALK(ssd_walk_##kind)(const float *x, const float *__restrict__ D, const float *state, const chunk_block<NN, TERMS> *__restrict__ blocks,               \
                               const chunk_steps<CHUNK> *__restrict__ steps, float *slots, float *totals, float *y, float *after, const __grid_constant__ ssd_numbers N) { \
        walk<NN, TERMS, F16, false, true>(x, D, state, blocks, steps, slots, totals, y, after, N);                                                                      \
    }
SSD(f16x2_64, 64, 2, true)
SSD(f16x2_128, 128, 2, true)
SSD(bf16_64, 64, 1, false)
SSD(bf16_128, 128, 1, false)

// gated_mma.cu - gated linear attention (GLA, arXiv 2312.06635; RWKV-5/6, arXiv 2404.05892) on tensor cores, by the walk of
// ssd.h.
//
// gated_prepare makes a head's chunk ready: with p[i] the product of the gates up to token i of the chunk (with the bonus u:
// before it), C = q p, B = k times the gates behind, and the scores q[i] k[j] (gates between). No logarithms and no quotients
// of gates, which may be 0: scores are made by multiplying on from token to token within 16 of them, and between the two halves
// of a chunk by the gates up to the middle.
#include "ssd.h"

template <int NN> struct gated_tiles {
    prepare_tiles<NN, 2> halves;
    float q[CHUNK][NN + 4], k[CHUNK][NN + 4], w[CHUNK][NN + 4];
};

FN float dot4(float4 a, float4 b) { return FMA(a.w, b.w, FMA(a.z, b.z, FMA(a.y, b.y, a.x * b.x))); }

// Scores among 16 tokens: a warp has two groups of four tokens j, eight lanes each.
template <int NN> FN void near_scores(gated_tiles<NN> &tiles, chunk_block<NN, 2> *to, const float *u, const ssd_numbers &N) {
    const int lane = WARP_LANE, part = lane & 7, half_chunk = WARP_NUMBER >> 1;
    for (int turn = 0; turn < 2; turn++) {
        const int group = turn ? 3 - (WARP_NUMBER & 1) : WARP_NUMBER & 1, j0 = half_chunk * 16 + group * 4,
                  j = j0 + (lane >> 3);
        float4 m[NN / 32];
#pragma unroll
        for (int c = 0; c < NN / 32; c++) m[c] = LOAD4(&tiles.k[j][part * 4 + c * 32], 0);
        for (int i = j0; i < half_chunk * 16 + 16; i++) {
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < NN / 32; c++) {
                const int n = part * 4 + c * 32;
                const float4 q = LOAD4(&tiles.q[i][n], 0), w = LOAD4(&tiles.w[i][n], 0);
                float4 f = m[c];
                if (N.has_bias && i == j) {
                    f.x *= n < N.n ? u[n * N.bias_stride] : 0.0f;
                    f.y *= n + 1 < N.n ? u[(n + 1) * N.bias_stride] : 0.0f;
                    f.z *= n + 2 < N.n ? u[(n + 2) * N.bias_stride] : 0.0f;
                    f.w *= n + 3 < N.n ? u[(n + 3) * N.bias_stride] : 0.0f;
                }
                if (i > j) {
                    m[c] = make_float4(m[c].x * w.x, m[c].y * w.y, m[c].z * w.z, m[c].w * w.w);
                    if (!N.has_bias) f = m[c];
                }
                sum += dot4(q, f);
            }
            for (int mask = 1; mask < 8; mask *= 2) sum += warp_xor(sum, mask);
            if (part == 0 && i >= j) to->scores[i][j] = sum;
        }
    }
}

template <int NN>
FN void gated_prepare(const float *q, const float *k, const float *w, const float *u, chunk_block<NN, 2> *blocks,
                      chunk_steps<NN> *steps, const ssd_numbers &N) {
    DYNAMIC_SHARED(raw)
    static_assert(sizeof(gated_tiles<NN>) == GATED_PREPARE_SHARED(NN), "the launch asks for another size");
    gated_tiles<NN> &tiles = *(gated_tiles<NN> *)raw;
    const int chunk = GROUP_X, b = GROUP_Z, head = N.first_head + GROUP_Y, first = N.first + chunk * CHUNK;
    chunk_block<NN, 2> *to = blocks + ((long long)b * N.heads + GROUP_Y) * N.chunks + chunk;
    chunk_steps<NN> *step = steps + ((long long)b * N.heads + GROUP_Y) * N.chunks + chunk;
    for (int i = LOCAL; i < CHUNK * NN; i += 128) {
        const int row = i / NN, n = i % NN, token = first + row, at = head * N.n + n;
        float fq = 0.0f, fk = 0.0f, fw = 1.0f;
        if (token < N.tokens && n < N.n) {
            fq = q[(long long)b * N.c[0] + (long long)token * N.c[1] + at] * N.scale;
            fk = k[(long long)b * N.b[0] + (long long)token * N.b[1] + at];
            fw = w[N.a_moves ? (long long)b * N.a[0] + (long long)token * N.a[1] + at : (long long)at * N.a[0]];
            if (N.softplus) fw = f_exp(fw); // logarithms
        }
        tiles.q[row][n] = fq;
        tiles.k[row][n] = fk;
        tiles.w[row][n] = fw;
    }
    BARRIER
    near_scores<NN>(tiles, to, u + (long long)head * N.n * N.bias_stride, N);
    BARRIER // q and k are used
    for (int job = LOCAL; job < 2 * NN; job += 128) { // to the middle: k of the first half, q of the second
        const int n = job % NN;
        float p = 1.0f;
        if (job < NN) {
            for (int i = 16; i < 32; i++) {
                if (!N.has_bias) p *= tiles.w[i][n];
                tiles.q[i][n] *= p;
                if (N.has_bias) p *= tiles.w[i][n];
            }
        } else {
            for (int j = 15; j >= 0; j--) {
                tiles.k[j][n] *= p;
                p *= tiles.w[j][n];
            }
        }
    }
    BARRIER
    {
        const int i = 16 + (LOCAL >> 3), j = (LOCAL & 7) * 2;
        float left = 0.0f, right = 0.0f;
        for (int c = 0; c < NN; c += 4) {
            const float4 f = LOAD4(&tiles.q[i][c], 0);
            left += dot4(f, LOAD4(&tiles.k[j][c], 0));
            right += dot4(f, LOAD4(&tiles.k[j + 1][c], 0));
        }
        put_pair(&to->scores[i][j], left, right);
    }
    BARRIER
    for (int job = LOCAL; job < 2 * NN; job += 128) { // to the chunk's ends
        const int n = job % NN;
        float p = 1.0f;
        if (job < NN) {
            for (int i = 0; i < 32; i++) {
                if (i < 16 && !N.has_bias) p *= tiles.w[i][n];
                tiles.q[i][n] *= p; // the second half has its own gates already
                if (i < 16 && N.has_bias) p *= tiles.w[i][n];
            }
            for (int i = 16; i < 32; i++) p *= tiles.w[i][n];
            step->keep[n] = p;
        } else {
            for (int j = 31; j >= 16; j--) {
                tiles.k[j][n] *= p;
                p *= tiles.w[j][n];
            }
            for (int j = 0; j < 16; j++) tiles.k[j][n] *= p;
        }
    }
    BARRIER
    for (int i = 0; i < 4; i++) {
        const int row = (i & 1) * 16 + (LOCAL >> 3), what = i >> 1;
        prepare_row<NN, 2, true>(tiles.halves, to, what ? tiles.k[row] : tiles.q[row], true, what, row, NN, 1);
    }
    BARRIER
    if (LOCAL < CHUNK) {
        step->high[LOCAL] = step->low[LOCAL] = 0.0f;
        step->dt[LOCAL] = 1.0f;
        step->gain[LOCAL] = tiles.halves.scales[0][LOCAL];
        step->weight[LOCAL] = tiles.halves.scales[1][LOCAL];
    }
    for (int i = LOCAL; i < CHUNK * CHUNK; i += 128)
        if (i % CHUNK > i / CHUNK) to->scores[i / CHUNK][i % CHUNK] = 0.0f;
}

#define GATED(kind, NN)                                                                                                                                          \
    HEAD(gated_prepare_##kind, 128)(const float *__restrict__ q, const float *__restrict__ k, const float *__restrict__ w, const float *__restrict__ u,          \
                                    chunk_block<NN, 2> *blocks, chunk_steps<NN> *steps, const __grid_constant__ ssd_numbers N) {                                 \
        gated_prepare<NN>(q, k, w, u, blocks, steps, N);                                                                                                         \
    }                                                                                                                                                            \
    WALK(gated_ends_##kind)(const float *x, const float *__restrict__ D, const float *state, const chunk_block<NN, 2> *__restrict__ blocks,                      \
                            const chunk_steps<NN> *__restrict__ steps, float *slots, float *totals, float *y, float *after, const __grid_constant__ ssd_numbers N) { \
        walk<NN, 2, true, true, false>(x, D, state, blocks, steps, slots, totals, y, after, N);                                                                  \
    }                                                                                                                                                            \
    WALK(gated_walk_##kind)(const float *x, const float *__restrict__ D, const float *state, const chunk_block<NN, 2> *__restrict__ blocks,                      \
                            const chunk_steps<NN> *__restrict__ steps, float *slots, float *totals, float *y, float *after, const __grid_constant__ ssd_numbers N) { \
        walk<NN, 2, true, true, true>(x, D, state, blocks, steps, slots, totals, y, after, N);                                                                   \
    }
GATED(64, 64)
GATED(128, 128)

// attention_mma.cu - attention on tensor cores, with an online softmax (Dao, arXiv 2307.08691) and sums in F32. Keys and values
// are both F16, or both BF16. Four warps have 16 queries each of one head, of at most 128 columns; keys come in tiles, of which
// the next one is on its way.
#include "attention.h"

template <int D, int KEYS> struct attention_tiles {
    __align__(16) half_word k[2][KEYS * (D + 8)], v[2][KEYS * (D + 8)];
    float weights[64 * 8];
    int odd;
};

template <int D, int KEYS, int TERMS, bool F16>
FN void attend(attention_tiles<D, KEYS> &tiles, const float *q, const half_word *k, const half_word *v, const int *kv_length,
               float *y, const attention_numbers &N) {
    const int warp = WARP_NUMBER, g = WARP_LANE >> 2, t = WARP_LANE & 3, head = GROUP_Y, b = GROUP_Z;
    int valid = N.length_words ? kv_length[b * N.length_stride * N.length_words] : N.keys;
    const int block = GROUP_X * 64, row = block + warp * 16 + g; // and row + 8
    const int before = valid - N.all_queries + N.first;           // position of query r here: before + r
    const int last = before + IMIN(block + 63, N.queries - 1);
    const int kv_head = head / (N.heads / N.kv_heads);
    valid = IMAX(IMIN(valid, N.keys), 0);
    int end = valid;
    if (N.causal) end = IMIN(end, IMAX(last + 1, 0));
    k += (long long)b * N.k[0] + kv_head * N.d;
    v += (long long)b * N.v[0] + kv_head * N.dv;
    q += (long long)b * N.q[0] + head * N.d;

    uint fq[TERMS][D / 16][4]; // the queries, for the whole run
    float scale[2];
    const float *rows[2];
    int position[2];
    for (int r = 0; r < 2; r++) {
        rows[r] = row + 8 * r < N.queries ? q + (long long)(row + 8 * r) * N.q[1] : NULL;
        position[r] = before + row + 8 * r;
    }
    query_fragments<D, TERMS, F16>(fq, scale, rows, 0, N);

    float acc[D / 8][4];
    float most[2] = {UNSEEN, UNSEEN}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;

    // Of the tiles with a key that some query here may see. Behind the sinks the window begins.
    const int oldest = N.window ? IMAX(before + block - N.window + 1, 0) / KEYS * KEYS : 0;
#define NEXT(s) ((s) >= N.sinks && (s) < oldest ? oldest : (s))
    // They are whole, up to the valid keys: whether one has values that are not finite must not depend on the queries.
    int s0 = NEXT(0), turn = 0;
    if (s0 < end) {
        fill<128, D, KEYS>(tiles.k[0], k, N.k[1], N.d, s0, valid, N.fast);
        fill<128, D, KEYS>(tiles.v[0], v, N.v[1], N.dv, s0, valid, N.fast);
    }
    async_commit();
    while (s0 < end) {
        const int next = NEXT(s0 + KEYS);
        if (next < end) {
            fill<128, D, KEYS>(tiles.k[turn ^ 1], k, N.k[1], N.d, next, valid, N.fast);
            fill<128, D, KEYS>(tiles.v[turn ^ 1], v, N.v[1], N.dv, next, valid, N.fast);
        }
        async_commit();
        async_wait<1>();
        if (LOCAL == 0) tiles.odd = 0;
        BARRIER
        if (odd_values<128, D, KEYS, F16>(tiles.v[turn])) tiles.odd = 1;

        float s[KEYS / 8][4], keep[2];
        tile_scores<D, D + 8, KEYS, TERMS, F16>(s, fq, tiles.k[turn]);
        tile_weights<KEYS, false>(s, most, total, keep, scale, position, NULL, s0, end, N);
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[n][j] *= keep[j >> 1];
        BARRIER // tiles.odd
        tile_values<D, D + 8, KEYS, TERMS, F16>(acc, s, tiles.v[turn], tiles.odd != 0, tiles.weights + warp * 16 * 8);
        BARRIER // the tile may be overwritten
        s0 = next;
        turn ^= 1;
    }
#undef NEXT
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += warp_xor(total[r], 1);
        total[r] += warp_xor(total[r], 2);
        const int query = row + 8 * r;
        const float inverse = total[r] == 0.0f ? 0.0f : 1.0f / total[r];
        if (query < N.queries)
#pragma unroll
            for (int c = 0; c < D / 8; c++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    int column = c * 8 + 2 * t + j;
                    if (column < N.dv)
                        y[(long long)b * N.y[0] + (long long)query * N.y[1] + head * N.dv + column] =
                            acc[c][2 * r + j] * inverse;
                }
    }
}

#define ATTENTION(name, D, KEYS, TERMS, F16)                                                                                                   \
    HEAD(name, 128)(const float *__restrict__ q, const half_word *__restrict__ k, const half_word *__restrict__ v, const int *__restrict__ n, float *y, \
                    const __grid_constant__ attention_numbers N) {                                                                           \
        __shared__ attention_tiles<D, KEYS> tiles;                                                                                            \
        attend<D, KEYS, TERMS, F16>(tiles, q, k, v, n, y, N);                                                                                 \
    }
ATTENTION(attention_bf16_64, 64, 64, 1, false)
ATTENTION(attention_bf16_128, 128, 32, 1, false)
ATTENTION(attention_bf16x3_64, 64, 32, 3, false)
ATTENTION(attention_bf16x3_128, 128, 32, 3, false)
ATTENTION(attention_f16x2_64, 64, 32, 2, true)
ATTENTION(attention_f16x2_128, 128, 32, 2, true)

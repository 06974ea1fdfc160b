// attention_parts.cu - attention on tensor cores where several warps share 16 rows: each has a part of the columns, of keys and
// of values, and their scores are added up in shared memory, part after part. So that heads of 256 columns fit (two parts, four
// times 16 rows), and so that steps of few rows have work for a whole group (four parts, 16 rows). Bias and mask are here too.
//
// A row is a query of one head; rows of the heads that share a key head stand side by side: its keys are read once for all of
// them. Keys may be cut in `splits` ranges, which depend on kv_length, the window and whole extents alone; attention_merge adds
// them up.
#include "attention.h"

// PARTS warps times ROWS share a tile; keys and values are in turn under way: values while scores are made, the next keys while
// weights and sums are.
template <int ROWS, int PARTS, int D, int KEYS> struct shared_tiles {
    __align__(16) half_word k[KEYS * (D + 8)], v[KEYS * (D + 8)];
    float scores[PARTS - 1][ROWS][KEYS / 2][32];
    float weights[ROWS * PARTS * 16 * 8];
    int odd;
};

template <int ROWS, int PARTS, int D, int KEYS, int TERMS, bool F16>
FN void attend_parts(shared_tiles<ROWS, PARTS, D, KEYS> &tiles, const float *q, const half_word *k, const half_word *v,
                     const int *kv_length, const float *bias, const int *mask, float *y, float *part,
                     const attention_numbers &N) {
    constexpr int items = ROWS * PARTS * 32, width = D / PARTS;
    const int warp = WARP_NUMBER % ROWS, mine = WARP_NUMBER / ROWS, lane = WARP_LANE, g = lane >> 2, t = lane & 3;
    const int split = GROUP_X % N.splits, kv_head = GROUP_Y, b = GROUP_Z, group = N.heads / N.kv_heads;
    const int block = GROUP_X / N.splits * ROWS * 16, row = block + warp * 16 + g; // and row + 8
    int valid = N.length_words ? kv_length[b * N.length_stride * N.length_words] : N.keys;
    const int all_before = valid - N.all_queries, before = all_before + N.first; // position of query r here: before + r
    const int last = before + IMIN((block + ROWS * 16 - 1) / group, N.queries - 1);
    valid = IMAX(IMIN(valid, N.keys), 0);
    // This split's keys.
    const int oldest_of_all = N.window && !N.sinks ? IMAX(all_before - N.window + 1, 0) / KEYS * KEYS : 0;
    const int each = IMAX(((IMAX(valid - oldest_of_all, 0) + N.splits - 1) / N.splits + KEYS - 1) / KEYS * KEYS, N.least);
    const int begin = oldest_of_all + split * each;
    int end = IMIN(begin + each, valid);
    if (N.causal) end = IMIN(end, IMAX(last + 1, 0));
    k += (long long)b * N.k[0] + kv_head * N.d;
    v += (long long)b * N.v[0] + kv_head * N.dv;

    uint fq[TERMS][width / 16][4];
    float scale[2];
    const float *rows[2];
    int position[2], query[2], head[2];
    row_extras extras[2] = {{NULL, NULL}, {NULL, NULL}};
    for (int r = 0; r < 2; r++) {
        query[r] = (row + 8 * r) / group;
        head[r] = kv_head * group + (row + 8 * r) % group;
        position[r] = before + query[r];
        rows[r] = NULL;
        if (query[r] >= N.queries) continue;
        rows[r] = q + (long long)b * N.q[0] + (long long)query[r] * N.q[1] + head[r] * N.d;
        if (N.biased) extras[r].bias = bias + (long long)head[r] * N.bias[0] + (long long)query[r] * N.bias[1];
        if (N.masked)
            extras[r].mask = mask + (long long)head[r] * N.mask[0] + (long long)((N.first + query[r]) / N.block) * N.mask[1];
    }
    query_fragments<width, TERMS, F16>(fq, scale, rows, mine * width, N);

    float acc[width / 8][4];
    float most[2] = {UNSEEN, UNSEEN}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < width / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;

    // Of the tiles with a key that some row here may see, whole, up to the valid keys. Behind the sinks the window begins.
    const int oldest = N.window ? IMAX(before + block / group - N.window + 1, 0) / KEYS * KEYS : 0;
#define NEXT(s) ((s) >= N.sinks && (s) < oldest ? oldest : (s))
    int s0 = NEXT(begin);
    if (s0 < end) fill<items, D, KEYS>(tiles.k, k, N.k[1], N.d, s0, valid, N.fast);
    async_commit();
    while (s0 < end) {
        const int next = NEXT(s0 + KEYS);
        async_wait<0>();
        BARRIER // the keys are there, the values before them are used
        if (LOCAL == 0) tiles.odd = 0;
        fill<items, D, KEYS>(tiles.v, v, N.v[1], N.dv, s0, valid, N.fast);
        async_commit();
        float s[KEYS / 8][4], keep[2];
        tile_scores<width, D + 8, KEYS, TERMS, F16>(s, fq, tiles.k + mine * width);
        if (mine > 0) {
#pragma unroll
            for (int n = 0; n < KEYS / 2; n++) tiles.scores[mine - 1][warp][n][lane] = s[n / 4][n % 4];
        }
        BARRIER // the keys are used
            if (next < end) fill<items, D, KEYS>(tiles.k, k, N.k[1], N.d, next, valid, N.fast);
        async_commit();
        if (mine == 0) {
#pragma unroll
            for (int n = 0; n < KEYS / 2; n++) {
#pragma unroll
                for (int other = 0; other < PARTS - 1; other++) s[n / 4][n % 4] += tiles.scores[other][warp][n][lane];
                tiles.scores[0][warp][n][lane] = s[n / 4][n % 4];
            }
        }
        BARRIER // the sums are there
        if (mine > 0) {
#pragma unroll
            for (int n = 0; n < KEYS / 2; n++) s[n / 4][n % 4] = tiles.scores[0][warp][n][lane];
        }
        tile_weights<KEYS, true>(s, most, total, keep, scale, position, extras, s0, end, N);
#pragma unroll
        for (int n = 0; n < width / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[n][j] *= keep[j >> 1];
        async_wait<1>();
        if (odd_values<items, D, KEYS, F16>(tiles.v)) tiles.odd = 1;
        BARRIER // the values are there
            tile_values<width, D + 8, KEYS, TERMS, F16>(acc, s, tiles.v + mine * width, tiles.odd != 0,
                                                        tiles.weights + WARP_NUMBER * 16 * 8);
        s0 = next;
    }
#undef NEXT
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += warp_xor(total[r], 1);
        total[r] += warp_xor(total[r], 2);
        if (!rows[r]) continue;
        float *to = y + (long long)b * N.y[0] + (long long)query[r] * N.y[1] + head[r] * N.dv;
        float times = total[r] == 0.0f ? 0.0f : 1.0f / total[r];
        if (N.splits > 1) {
            to = part + ((((long long)b * N.heads + head[r]) * N.queries + query[r]) * N.splits + split) * (N.dv + 2);
            times = 1.0f;
            if (mine == 0 && t == 0) {
                to[N.dv] = most[r];
                to[N.dv + 1] = total[r];
            }
        }
#pragma unroll
        for (int c = 0; c < width / 8; c++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int column = mine * width + c * 8 + 2 * t + j;
                if (column < N.dv) to[column] = acc[c][2 * r + j] * times;
            }
    }
}

#define ATTENTION(name, ROWS, PARTS, D, KEYS, TERMS, F16)                                                                                            \
    HEAD(name, ROWS * PARTS * 32)(const float *__restrict__ q, const half_word *__restrict__ k, const half_word *__restrict__ v, const int *__restrict__ n, \
                                  const float *__restrict__ bias, const int *__restrict__ mask, float *y, float *part,                              \
                                  const __grid_constant__ attention_numbers N) {                                                                    \
        __shared__ shared_tiles<ROWS, PARTS, D, KEYS> tiles;                                                                                         \
        attend_parts<ROWS, PARTS, D, KEYS, TERMS, F16>(tiles, q, k, v, n, bias, mask, y, part, N);                                                   \
    }
ATTENTION(attention_wide_bf16_64, 4, 2, 64, 32, 1, false)
ATTENTION(attention_wide_bf16_128, 4, 2, 128, 32, 1, false)
ATTENTION(attention_wide_bf16_192, 4, 2, 192, 32, 1, false)
ATTENTION(attention_wide_bf16_256, 4, 2, 256, 32, 1, false)
ATTENTION(attention_wide_bf16x3_64, 4, 2, 64, 32, 3, false)
ATTENTION(attention_wide_bf16x3_128, 4, 2, 128, 32, 3, false)
ATTENTION(attention_wide_bf16x3_192, 4, 2, 192, 32, 3, false)
ATTENTION(attention_wide_bf16x3_256, 4, 2, 256, 32, 3, false)
ATTENTION(attention_wide_f16x2_64, 4, 2, 64, 32, 2, true)
ATTENTION(attention_wide_f16x2_128, 4, 2, 128, 32, 2, true)
ATTENTION(attention_wide_f16x2_192, 4, 2, 192, 32, 2, true)
ATTENTION(attention_wide_f16x2_256, 4, 2, 256, 32, 2, true)
ATTENTION(attention_step_bf16_64, 1, 4, 64, 64, 1, false)
ATTENTION(attention_step_bf16_128, 1, 4, 128, 32, 1, false)
ATTENTION(attention_step_bf16_256, 1, 4, 256, 32, 1, false)
ATTENTION(attention_step_bf16x3_64, 1, 4, 64, 64, 3, false)
ATTENTION(attention_step_bf16x3_128, 1, 4, 128, 32, 3, false)
ATTENTION(attention_step_bf16x3_256, 1, 4, 256, 32, 3, false)
ATTENTION(attention_step_f16x2_64, 1, 4, 64, 64, 2, true)
ATTENTION(attention_step_f16x2_128, 1, 4, 128, 32, 2, true)
ATTENTION(attention_step_f16x2_256, 1, 4, 256, 32, 2, true)

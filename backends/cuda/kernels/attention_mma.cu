// attention_mma.cu - attention on tensor cores, with an online softmax (Dao, arXiv 2307.08691) and sums in F32. Keys and values are both
// F16, or both BF16. Four warps have 16 queries each of one head; keys come in tiles, of which the next one is on its way.
//
// Queries and weights, which are F32, are sums of TERMS halves, each of which is multiplied (1: rounded, where the node allows BF16; 2 of F16
// or 3 of BF16: F32's own precision). With several terms each step's sum is added in F32 outside of the tensor core, which cuts off where it
// should round. Tiles are anchored at key 0 and one that a query does not see changes nothing, so a query's bytes are its own.
//
// A weight of 0 times a value that is not finite would be NaN for queries that do not see it: tiles with such values are added key by key.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"

#define UNSEEN FROM_BITS(0xff800000u)

// The larger one; NaN where either is.
FN float larger(float a, float b) { return b > a || IS_NAN(b) ? b : a; }

template <int D, int KEYS> struct attention_tiles {
    __align__(16) half_word k[2][KEYS * (D + 8)], v[2][KEYS * (D + 8)]; // rows of D and 8 more, so that eight rows lie in different banks
    float weights[64 * 8];
    int odd;
};

// A tile of `width` columns from key s0 on, the others zero.
template <int D, int KEYS> FN void fill(half_word *to, const half_word *from, int stride, int width, int s0, int end, int fast) {
    for (int i = LOCAL; i < KEYS * D / 8; i += 128) {
        int s = i / (D / 8), c = i % (D / 8) * 8;
        bool there = s0 + s < end && c < width;
        if (fast) {
            async_copy16(to + s * (D + 8) + c, from + (there ? (long long)(s0 + s) * stride + c : 0), there);
        } else {
            for (int j = 0; j < 8; j++) to[s * (D + 8) + c + j] = there && c + j < width ? from[(long long)(s0 + s) * stride + c + j] : (half_word)0;
        }
    }
}

template <int D, int KEYS, int TERMS, bool F16>
FN void attend(attention_tiles<D, KEYS> &tiles, const float *q, const half_word *k, const half_word *v, const int *kv_length, float *y, const attention_numbers &N) {
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3, head = GROUP_Y, b = GROUP_Z;
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

    // The queries as halves, for the whole run. F16 has few exponents: rows are scaled by a power of two.
    uint fq[TERMS][D / 16][4];
    float scale[2] = {N.scale, N.scale};
    if (F16) {
        for (int half_row = 0; half_row < 2; half_row++) {
            int r = row + 8 * half_row;
            float most = 0.0f;
            for (int c = 2 * t; c < N.d && r < N.queries; c += 8)
                for (int j = 0; j < 2; j++)
                    if (c + j < N.d) most = FMAX(most, FABS(q[(long long)r * N.q[1] + c + j]));
            most = FMAX(most, warp_xor(most, 1));
            most = FMAX(most, warp_xor(most, 2));
            int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), 20), 240);
            if (most == 0.0f) e = 137;
            scale[half_row] = FROM_BITS((uint)(e - 10) << 23); // 2^(e - 137): the largest becomes 2^10 or so
        }
    }
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int part = 0; part < 4; part++) {
            int r = row + 8 * (part & 1), c = i * 16 + 8 * (part >> 1) + 2 * t;
            float f[2], up = F16 ? 1.0f / scale[part & 1] : 1.0f;
            for (int j = 0; j < 2; j++) f[j] = r < N.queries && c + j < N.d ? q[(long long)r * N.q[1] + c + j] * up : 0.0f;
            uint terms[TERMS];
            split_pair<TERMS, F16>(terms, f[0], f[1]);
#pragma unroll
            for (int j = 0; j < TERMS; j++) fq[j][i][part] = terms[j];
        }
    if (F16) scale[0] *= N.scale, scale[1] *= N.scale;

    float acc[D / 8][4];
    float most[2] = {UNSEEN, UNSEEN}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < D / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;

    // Of the tiles with a key that some query here may see. Behind the sinks the window begins.
    const int oldest = N.window ? IMAX(before + block - N.window + 1, 0) / KEYS * KEYS : 0;
#define NEXT(s) ((s) >= N.sinks && (s) < oldest ? oldest : (s))
    int s0 = NEXT(0), turn = 0;
    if (s0 < end) {
        fill<D, KEYS>(tiles.k[0], k, N.k[1], N.d, s0, end, N.fast);
        fill<D, KEYS>(tiles.v[0], v, N.v[1], N.dv, s0, end, N.fast);
    }
    async_commit();
    while (s0 < end) {
        const int next = NEXT(s0 + KEYS);
        if (next < end) {
            fill<D, KEYS>(tiles.k[turn ^ 1], k, N.k[1], N.d, next, end, N.fast);
            fill<D, KEYS>(tiles.v[turn ^ 1], v, N.v[1], N.dv, next, end, N.fast);
        }
        async_commit();
        async_wait<1>();
        if (LOCAL == 0) tiles.odd = 0;
        BARRIER
        const half_word *tk = tiles.k[turn], *tv = tiles.v[turn];
        const uint infinity = F16 ? 0x7c007c00u : 0x7f807f80u;
        uint odd = 0;
        for (int i = LOCAL; i < KEYS * D / 2; i += 128) {
            uint w = ((const uint *)tv)[i / (D / 2) * (D / 2 + 4) + i % (D / 2)] & infinity;
            odd |= (uint)((w & 0xffff0000u) == (infinity & 0xffff0000u)) | (uint)((w & 0xffffu) == (infinity & 0xffffu));
        }
        if (odd) tiles.odd = 1;

        float s[KEYS / 8][4];
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) s[2 * n][j] = s[2 * n + 1][j] = 0.0f;
#pragma unroll
            for (int i = 0; i < D / 16; i++) {
                uint fk[4];
                warp_load4(fk, tk + (n * 16 + (lane >> 4) * 8 + (lane & 7)) * (D + 8) + i * 16 + ((lane >> 3) & 1) * 8);
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    float *to = s[2 * n + side];
                    if (TERMS == 1) {
                        warp_mma<F16>(to, fq[0][i], fk[2 * side], fk[2 * side + 1]);
                    } else {
                        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                        for (int j = TERMS - 1; j >= 0; j--) warp_mma<F16>(part, fq[j][i], fk[2 * side], fk[2 * side + 1]);
#pragma unroll
                        for (int j = 0; j < 4; j++) to[j] += part[j];
                    }
                }
            }
        }
        // Scores, what is seen of them, and the weights.
        float peak[2] = {most[0], most[1]};
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = s0 + n * 8 + 2 * t + (j & 1), behind = before + row + 8 * (j >> 1) - key;
                float score = s[n][j] * scale[j >> 1];
                if (N.softcap > 0.0f) score = N.softcap * f_tanh(score / N.softcap);
                bool seen = key < end && !(N.causal && behind < 0) && !(N.window && (behind >= N.window || -behind >= N.window) && key >= N.sinks);
                s[n][j] = seen ? score : UNSEEN;
                peak[j >> 1] = larger(peak[j >> 1], s[n][j]);
            }
        float keep[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            peak[r] = larger(peak[r], warp_xor(peak[r], 1));
            peak[r] = larger(peak[r], warp_xor(peak[r], 2));
            keep[r] = most[r] == peak[r] ? 1.0f : fast_exp2((most[r] - peak[r]) * 1.44269504f);
            most[r] = peak[r];
            total[r] *= keep[r];
        }
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[n][j] *= keep[j >> 1];
        BARRIER // tiles.odd
        const bool key_by_key = tiles.odd != 0;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                bool seen = s[n][j] != UNSEEN;
                s[n][j] = seen ? fast_exp2((s[n][j] - most[j >> 1]) * 1.44269504f) : 0.0f;
                total[j >> 1] += s[n][j];
                if (key_by_key) tiles.weights[(warp * 16 + g + 8 * (j >> 1)) * 8 + 2 * t + (j & 1)] = seen ? s[n][j] : -1.0f;
            }
            if (key_by_key) {
                WARP_BARRIER
                for (int i = 0; i < 8; i++)
#pragma unroll
                    for (int c = 0; c < D / 8; c++)
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            float w = tiles.weights[(warp * 16 + g + 8 * (j >> 1)) * 8 + i];
                            uint h = tv[(n * 8 + i) * (D + 8) + c * 8 + 2 * t + (j & 1)];
                            if (!(w < 0.0f)) acc[c][j] = FMA(w, F16 ? unpack_f16(h) : FROM_BITS(h << 16), acc[c][j]);
                        }
                WARP_BARRIER
            }
        }
        if (!key_by_key) {
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                uint fp[TERMS][4];
#pragma unroll
                for (int part = 0; part < 4; part++) {
                    const float *from = s[2 * n + (part >> 1)] + 2 * (part & 1);
                    uint terms[TERMS];
                    split_pair<TERMS, F16>(terms, from[0], from[1]);
#pragma unroll
                    for (int j = 0; j < TERMS; j++) fp[j][part] = terms[j];
                }
#pragma unroll
                for (int c = 0; c < D / 16; c++) {
                    uint fv[4];
                    warp_load4_transposed(fv, tv + (n * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)) * (D + 8) + c * 16 + (lane >> 4) * 8);
#pragma unroll
                    for (int side = 0; side < 2; side++) {
                        float *to = acc[2 * c + side];
                        if (TERMS == 1) {
                            warp_mma<F16>(to, fp[0], fv[2 * side], fv[2 * side + 1]);
                        } else {
                            float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                            for (int j = TERMS - 1; j >= 0; j--) warp_mma<F16>(part, fp[j], fv[2 * side], fv[2 * side + 1]);
#pragma unroll
                            for (int j = 0; j < 4; j++) to[j] += part[j];
                        }
                    }
                }
            }
        }
        BARRIER // the tile may be overwritten
        s0 = next;
        turn ^= 1;
    }
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
                    if (column < N.dv) y[(long long)b * N.y[0] + (long long)query * N.y[1] + head * N.dv + column] = acc[c][2 * r + j] * inverse;
                }
    }
#undef NEXT
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

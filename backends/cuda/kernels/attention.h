// attention.h - what the attention kernels of this folder share: tiles of keys and values in shared memory, and 16 rows of a
// warp as fragments.
//
// Queries and weights, which are F32, are sums of TERMS halves, each of which is multiplied (1: rounded, where the node allows
// BF16; 2 of F16 or 3 of BF16: F32's own precision). With several terms each step's sum is added in F32 outside of the tensor
// core, which cuts off where it should round. Tiles are anchored at key 0 and one that a query does not see changes nothing, so
// a query's bytes are its own.
//
// A weight of 0 times a value that is not finite would be NaN for queries that do not see it: tiles with such values are added
// key by key. A key that is not seen has the weight -0, which one that is seen never has.
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"

#define UNSEEN FROM_BITS(0xff800000u)
#define HIDDEN 0x80000000u

// The larger one; NaN where either is.
FN float larger(float a, float b) { return b > a || IS_NAN(b) ? b : a; }

// A tile of `width` columns from key s0 on, the others zero; rows of D columns and 8 more, so that eight rows lie in different
// banks.
template <int ITEMS, int D, int KEYS>
FN void fill(half_word *to, const half_word *from, int stride, int width, int s0, int end, int fast) {
    for (int i = LOCAL; i < KEYS * D / 8; i += ITEMS) {
        int s = i / (D / 8), c = i % (D / 8) * 8;
        bool there = s0 + s < end && c < width;
        if (fast) {
            async_copy16(to + s * (D + 8) + c, from + (there ? (long long)(s0 + s) * stride + c : 0), there);
        } else {
            for (int j = 0; j < 8; j++)
                to[s * (D + 8) + c + j] = there && c + j < width ? from[(long long)(s0 + s) * stride + c + j] : (half_word)0;
        }
    }
}

// Is a value not finite among those that this item has filled in itself?
template <int ITEMS, int D, int KEYS, bool F16> FN bool odd_values(const half_word *tile) {
    const uint infinity = F16 ? 0x7c007c00u : 0x7f807f80u;
    uint odd = 0;
    for (int i = LOCAL; i < KEYS * D / 8; i += ITEMS)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint w = ((const uint *)(tile + i / (D / 8) * (D + 8) + i % (D / 8) * 8))[j] & infinity;
            odd |= (uint)((w & 0xffff0000u) == (infinity & 0xffff0000u)) | (uint)((w & 0xffffu) == (infinity & 0xffffu));
        }
    return odd != 0;
}

// Rows lane / 4 and 8 on of the queries (NULL: no such row), columns from `first` on, as halves. scale[] becomes what their
// products with keys are multiplied by: F16 has few exponents, so rows are scaled by a power of two, of the whole row.
template <int D, int TERMS, bool F16>
FN void query_fragments(uint (&fq)[TERMS][D / 16][4], float *scale, const float *const *rows, int first,
                        const attention_numbers &N) {
    const int t = WARP_LANE & 3;
    scale[0] = scale[1] = N.scale;
    float up[2] = {1.0f, 1.0f};
    if (F16) {
        for (int half_row = 0; half_row < 2; half_row++) {
            float most = 0.0f;
            for (int c = 2 * t; c < N.d && rows[half_row]; c += 8)
                for (int j = 0; j < 2; j++)
                    if (c + j < N.d) most = FMAX(most, FABS(rows[half_row][c + j]));
            most = FMAX(most, warp_xor(most, 1));
            most = FMAX(most, warp_xor(most, 2));
            int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), 20), 240);
            if (most == 0.0f) e = 137;
            float down = FROM_BITS((uint)(e - 10) << 23); // 2^(e - 137): the largest becomes 2^10 or so
            up[half_row] = 1.0f / down;
            scale[half_row] = down * N.scale;
        }
    }
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int part = 0; part < 4; part++) {
            const float *row = rows[part & 1];
            int c = first + i * 16 + 8 * (part >> 1) + 2 * t;
            float f[2];
            for (int j = 0; j < 2; j++) f[j] = row && c + j < N.d ? row[c + j] * up[part & 1] : 0.0f;
            uint terms[TERMS];
            split_pair<TERMS, F16>(terms, f[0], f[1]);
#pragma unroll
            for (int j = 0; j < TERMS; j++) fq[j][i][part] = terms[j];
        }
}

// s = the rows times the tile's keys over D columns, of rows of PITCH.
template <int D, int PITCH, int KEYS, int TERMS, bool F16>
FN void tile_scores(float (&s)[KEYS / 8][4], const uint (&fq)[TERMS][D / 16][4], const half_word *tk) {
    const int lane = WARP_LANE;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) s[2 * n][j] = s[2 * n + 1][j] = 0.0f;
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
            uint fk[4];
            warp_load4(fk, tk + (n * 16 + (lane >> 4) * 8 + (lane & 7)) * PITCH + i * 16 + ((lane >> 3) & 1) * 8);
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
}

// What is added to the scores of a row, and which of its blocks are seen (NULL: nothing, all).
struct row_extras {
    const float *bias;
    const int *mask;
};

// Scores become weights, and most, total and keep (what sums so far are multiplied by) follow. position: of rows lane / 4 and 8
// on.
template <int KEYS, bool EXTRAS>
FN void tile_weights(float (&s)[KEYS / 8][4], float *most, float *total, float *keep, const float *scale, const int *position,
                     const row_extras *extras, int s0, int end, const attention_numbers &N) {
    const int t = WARP_LANE & 3;
    float peak[2] = {most[0], most[1]};
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = s0 + n * 8 + 2 * t + (j & 1), behind = position[j >> 1] - key;
            float score = s[n][j] * scale[j >> 1];
            if (N.softcap > 0.0f) score = N.softcap * f_tanh(score / N.softcap);
            bool seen = key < end && !(N.causal && behind < 0) &&
                        !(N.window && (behind >= N.window || -behind >= N.window) && key >= N.sinks);
            if (EXTRAS && seen) {
                if (extras[j >> 1].bias) score += extras[j >> 1].bias[key];
                if (extras[j >> 1].mask) seen = extras[j >> 1].mask[key / N.block] != 0;
            }
            s[n][j] = seen ? score : UNSEEN;
            peak[j >> 1] = larger(peak[j >> 1], s[n][j]);
        }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        peak[r] = larger(peak[r], warp_xor(peak[r], 1));
        peak[r] = larger(peak[r], warp_xor(peak[r], 2));
        keep[r] = most[r] == peak[r] ? 1.0f : fast_exp2((most[r] - peak[r]) * 1.44269504f);
        most[r] = peak[r];
        total[r] *= keep[r];
    }
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[n][j] = s[n][j] != UNSEEN ? fast_exp2((s[n][j] - most[j >> 1]) * 1.44269504f) : FROM_BITS(HIDDEN);
            total[j >> 1] += s[n][j];
        }
}

// acc += the weights times D columns of the tile's values, of rows of PITCH. weights: 16 x 8 of this warp's own, for values
// that are not finite.
template <int D, int PITCH, int KEYS, int TERMS, bool F16>
FN void tile_values(float (&acc)[D / 8][4], const float (&s)[KEYS / 8][4], const half_word *tv, bool key_by_key,
                    float *weights) {
    const int lane = WARP_LANE, g = lane >> 2, t = lane & 3;
    if (key_by_key) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) weights[(g + 8 * (j >> 1)) * 8 + 2 * t + (j & 1)] = s[n][j];
            WARP_BARRIER
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int c = 0; c < D / 8; c++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        float w = weights[(g + 8 * (j >> 1)) * 8 + i];
                        uint h = tv[(n * 8 + i) * PITCH + c * 8 + 2 * t + (j & 1)];
                        if (BITS_OF(w) != HIDDEN) acc[c][j] = FMA(w, F16 ? unpack_f16(h) : FROM_BITS(h << 16), acc[c][j]);
                    }
            WARP_BARRIER
        }
        return;
    }
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
            warp_load4_transposed(fv, tv + (n * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)) * PITCH + c * 16 + (lane >> 4) * 8);
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

// ssd.h - the walk over chunks of 32 tokens that SSD, gated linear attention and the delta rule share (ssd_mma.cu,
// gated_mma.cu, delta_mma.cu): the state in registers, products on tensor cores.
//
// With l what a state's decays come to from the chunk's first token on, y = (C e^l) S + (scores) x and S <- e^l[31] S +
// (e^(l[31] - l) B) x. SSD has one decay for the rows of a state, a gate has one for each, and its factors are in C, B and the
// scores already. The delta rule has a gate's, and adds (S W^T) b, what is taken out and put back in (delta_mma.cu).
#include "dialect_cuda.h"
#include "math.k"
#include "numbers.h"
#include "warp.h"

#define CHUNK SSD_CHUNK
#define LOG_LEAST -2000.0f // e^-2000 is 0, and sums stay finite
#define XP 72              // halves of a row of x in shared memory
#define WP 40              // and of weights

FN float finite_size(float f) { return (BITS_OF(f) & 0x7f800000u) == 0x7f800000u ? 0.0f : FABS(f); }

// The power of two by which numbers up to `most` are divided: the largest becomes 2^14 or so.
FN float scale_down(float most) {
    int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), 20), 254);
    if (most == 0.0f) e = 141;
    return FROM_BITS((uint)(e - 14) << 23);
}

// What the delta rule has beside C and B: W and b, rows of ROW halves.
template <int ROW, int TERMS, bool DELTA> struct delta_rows {};
template <int ROW, int TERMS> struct delta_rows<ROW, TERMS, true> {
    half_word taken[TERMS][CHUNK][ROW], put[TERMS][CHUNK][ROW];
};
// What a group of heads has of a chunk: C's terms, B's terms, 32 scales of each, products [32][32].
template <int NN, int TERMS, bool DELTA = false> struct chunk_block : delta_rows<NN, TERMS, DELTA> {
    half_word c[TERMS][CHUNK][NN], b[TERMS][CHUNK][NN];
    float scales[2][CHUNK], scores[CHUNK][CHUNK];
};
// What a head has of it: l (high, low), dt, e^l times C's scale, e^(l[31] - l) dt times B's scale, and what the state is
// multiplied by: KEEPS 32 times the same, or for each of its rows. A gate: only the last three; the delta rule: `high` is the
// product of the scales of W and b.
template <int KEEPS> struct chunk_steps {
    float high[CHUNK], low[CHUNK], dt[CHUNK], gain[CHUNK], weight[CHUNK], keep[KEEPS];
};

// part += the products of the first ranks, the small ones first.
template <int TERMS, bool F16> FN void products(float *part, const uint (&a)[TERMS][4], const uint *b0, const uint *b1) {
    if (TERMS == 2) {
        warp_mma<F16>(part, a[TERMS - 1], b0[0], b1[0]);
        warp_mma<F16>(part, a[0], b0[TERMS - 1], b1[TERMS - 1]);
    }
    warp_mma<F16>(part, a[0], b0[0], b1[0]);
}

// to += times products. One term: sums stay in the tensor core, and times are 1.
template <int TERMS, bool F16>
FN void add_products(float *to, const uint (&a)[TERMS][4], const uint *b0, const uint *b1, const float *times) {
    if (TERMS == 1) {
        products<TERMS, F16>(to, a, b0, b1);
    } else {
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        products<TERMS, F16>(part, a, b0, b1);
#pragma unroll
        for (int j = 0; j < 4; j++) to[j] = FMA(part[j], times[j], to[j]);
    }
}

// ---- tokens as halves ----

template <int NN, int TERMS> struct prepare_tiles {
    half_word t[2][TERMS][CHUNK][NN + 8];
    float scales[2][CHUNK];
};

// The row of C (what 0) or B (1) of a token as halves: eight lanes a row.
template <int NN, int TERMS, bool F16>
FN void prepare_row(prepare_tiles<NN, TERMS> &tiles, chunk_block<NN, TERMS> *to, const float *from, bool there, int what,
                    int row, int width, int fast) {
    const int part = LOCAL & 7;
    float f[NN / 8], most = 0.0f, up = 1.0f, down = 1.0f;
#pragma unroll
    for (int i = 0; i < NN / 32; i++) {
        const int n = part * 4 + i * 32;
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (there && fast && n < width) v = LOAD4(from, n >> 2);
        if (there && !fast) {
            if (n < width) v.x = from[n];
            if (n + 1 < width) v.y = from[n + 1];
            if (n + 2 < width) v.z = from[n + 2];
            if (n + 3 < width) v.w = from[n + 3];
        }
        f[4 * i] = v.x, f[4 * i + 1] = v.y, f[4 * i + 2] = v.z, f[4 * i + 3] = v.w;
    }
    if (TERMS == 2) {
#pragma unroll
        for (int i = 0; i < NN / 8; i++) most = FMAX(most, finite_size(f[i]));
        for (int mask = 1; mask < 8; mask *= 2) most = FMAX(most, warp_xor(most, mask));
        down = scale_down(most);
        up = 1.0f / down;
    }
    if (part == 0) to->scales[what][row] = tiles.scales[what][row] = down;
#pragma unroll
    for (int i = 0; i < NN / 32; i++) {
        uint low[TERMS], high[TERMS];
        split_pair<TERMS, F16>(low, f[4 * i] * up, f[4 * i + 1] * up);
        split_pair<TERMS, F16>(high, f[4 * i + 2] * up, f[4 * i + 3] * up);
#pragma unroll
        for (int j = 0; j < TERMS; j++) {
            put_words(&tiles.t[what][j][row][part * 4 + i * 32], low[j], high[j]);
            put_words(&(what ? to->b : to->c)[j][row][part * 4 + i * 32], low[j], high[j]);
        }
    }
}

// ---- the walk ----

template <int NN, int TERMS, bool GATED, bool DELTA> struct walk_tiles : delta_rows<NN + 8, TERMS, DELTA> {
    half_word c[TERMS][CHUNK][NN + 8], b[TERMS][CHUNK][NN + 8], w[TERMS][CHUNK][WP], x[TERMS][CHUNK][XP],
        weighted[TERMS][CHUNK][XP];
    float scores[CHUNK][CHUNK + 4];
    chunk_steps<GATED ? NN : CHUNK> steps[2];
    float scales[3][64], weights_scale[CHUNK]; // of x (then of S W^T), weighted x and state by column
};

template <int NN, int TERMS>
FN void copy_tile(half_word (&to)[TERMS][CHUNK][NN + 8], const half_word (&from)[TERMS][CHUNK][NN]) {
    for (int i = LOCAL; i < TERMS * CHUNK * NN / 8; i += 128) {
        const int row = i / (NN / 8), c = i % (NN / 8) * 8;
        async_copy16(&to[row / CHUNK][row % CHUNK][c], &from[row / CHUNK][row % CHUNK][c], true);
    }
}
FN void copy_floats(float *to, const float *from, int rows, int width, int pitch) {
    for (int i = LOCAL; i < rows * width / 4; i += 128) {
        const int row = i / (width / 4), c = i % (width / 4) * 4;
        async_copy16((half_word *)(to + row * pitch + c), (const half_word *)(from + row * width + c), true);
    }
}

// Four rows' 4 columns each of x, that this item has of a chunk: those of its warp.
FN void load_x(float (&v)[16], const float *x, int first, int column, const ssd_numbers &N) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int token = first + i * 8 + (WARP_LANE >> 2), here = column >= 0 && token < N.tokens  ? N.channels - column
                                                                   : column < 0 && token < N.tokens ? 1 << 30
                                                                                                    : 0;
        const float *from = x + (long long)token * N.x[1] + column;
        float4 f = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (here >= 4 && column >= 0 && N.fast_x) {
            f = LOAD4(from, 0);
        } else if (here > 0) {
            if (column >= 0 && column < N.channels) f.x = from[0];
            if (column + 1 >= 0 && column + 1 < N.channels) f.y = from[1];
            if (column + 2 >= 0 && column + 2 < N.channels) f.z = from[2];
            if (column + 3 >= 0 && column + 3 < N.channels) f.w = from[3];
        }
        v[4 * i] = f.x, v[4 * i + 1] = f.y, v[4 * i + 2] = f.z, v[4 * i + 3] = f.w;
    }
}

// Columns behind the head's last one are another head's: zeros.
FN void mask_x(float (&v)[16], int live) {
#pragma unroll
    for (int i = 0; i < 16; i++)
        if ((i & 3) >= live) v[i] = 0.0f;
}

// The scales of this item's columns, for all of the chunk's rows.
FN void column_scales(float *down, float *up, const float (&v)[16]) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        float most = 0.0f;
#pragma unroll
        for (int i = 0; i < 4; i++) most = FMAX(most, finite_size(v[4 * i + j]));
        for (int mask = 4; mask < 32; mask *= 2) most = FMAX(most, warp_xor(most, mask));
        up[j] = scale_down(most);
        if (WARP_LANE < 4) down[j] = up[j];
        up[j] = 1.0f / up[j];
    }
}

template <int TERMS, bool F16>
FN void store_row(half_word (&to)[TERMS][CHUNK][XP], int row, int column, const float *v, const float *times) {
    uint low[TERMS], high[TERMS];
    split_pair<TERMS, F16>(low, v[0] * times[0], v[1] * times[1]);
    split_pair<TERMS, F16>(high, v[2] * times[2], v[3] * times[3]);
#pragma unroll
    for (int j = 0; j < TERMS; j++) put_words(&to[j][row][column], low[j], high[j]);
}

// The state's tile of a group, as its items hold it.
template <int NN> FN void slot_store(float *slot, const float (&s)[NN / 8][4]) {
#pragma unroll
    for (int n = 0; n < NN / 8; n++) STORE4(slot, n * 128 + LOCAL, make_float4(s[n][0], s[n][1], s[n][2], s[n][3]));
}
// s <- keep s + slot; keep: of each row, or one number for all, or NULL: 0.
template <int NN, bool GATED> FN void slot_add(const float *slot, float (&s)[NN / 8][4], const float *keep) {
    const int t = WARP_LANE & 3;
#pragma unroll
    for (int n = 0; n < NN / 8; n++) {
        const float4 f = LOAD4(slot, n * 128 + LOCAL);
        const float left = keep ? keep[GATED ? n * 8 + 2 * t : 0] : 0.0f,
                    right = keep ? keep[GATED ? n * 8 + 2 * t + 1 : 0] : 0.0f;
        s[n][0] = s[n][0] * left + f.x;
        s[n][1] = s[n][1] * right + f.y;
        s[n][2] = s[n][2] * left + f.z;
        s[n][3] = s[n][3] * right + f.w;
    }
}
template <int NN, class F> FN void each_state(float (&s)[NN / 8][4], int p0, const ssd_numbers &N, F f) {
    const int lane = WARP_LANE, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int n = 0; n < NN / 8; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int p = p0 + WARP_NUMBER * 16 + g + 8 * (j >> 1), i = n * 8 + 2 * t + (j & 1);
            if (p < N.width && i < N.n) f(s[n][j], p, i);
        }
}

// s += x^T b over the tokens of a chunk; scales: of x, by column.
template <int NN, int TERMS, bool F16>
FN void add_outer(float (&s)[NN / 8][4], const half_word (&x)[TERMS][CHUNK][XP], const half_word (&b)[TERMS][CHUNK][NN + 8],
                  const float *scales) {
    const int lane = WARP_LANE, warp = WARP_NUMBER;
    float times[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    if (TERMS == 2) {
#pragma unroll
        for (int j = 0; j < 4; j++) times[j] = scales[warp * 16 + (lane >> 2) + 8 * (j >> 1)];
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint fx[TERMS][4];
#pragma unroll
        for (int j = 0; j < TERMS; j++)
            warp_load4_transposed(fx[j], &x[j][k * 16 + (lane >> 4) * 8 + (lane & 7)][warp * 16 + ((lane >> 3) & 1) * 8]);
#pragma unroll
        for (int n = 0; n < NN / 16; n++) {
            uint fb[4][TERMS];
#pragma unroll
            for (int j = 0; j < TERMS; j++) {
                uint r[4];
                warp_load4_transposed(r, &b[j][k * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][n * 16 + (lane >> 4) * 8]);
#pragma unroll
                for (int i = 0; i < 4; i++) fb[i][j] = r[i];
            }
            add_products<TERMS, F16>(s[2 * n], fx, fb[0], fb[1], times);
            add_products<TERMS, F16>(s[2 * n + 1], fx, fb[2], fb[3], times);
        }
    }
}

// The delta rule's parts turn a state by a matrix of NN x NN, kept as right factors of three BF16 terms: [16 rows][8 columns]
// [term][lane] two words. A group stores the 64 rows that its columns of a state that began as 1 have become.
#define MATRIX_WORDS(NN) ((NN) / 16 * ((NN) / 8) * 3 * 64)
template <int NN> FN void matrix_store(uint *matrix, const float (&s)[NN / 8][4]) {
    uint *to = matrix + WARP_NUMBER * (NN / 8) * 3 * 64 + WARP_LANE * 2;
#pragma unroll
    for (int n = 0; n < NN / 8; n++) {
        uint low[3], high[3];
        split_pair<3, false>(low, s[n][0], s[n][1]);
        split_pair<3, false>(high, s[n][2], s[n][3]);
#pragma unroll
        for (int j = 0; j < 3; j++)
            put_words((half_word *)(to + (n * 3 + j) * 64), warp_transpose(low[j]), warp_transpose(high[j]));
    }
}

// slots: [entries][heads][slices][parts + 1] tiles: the one that goes in, ends of parts, and what the next run over tokens
// begins from; totals: decays of the parts, or the delta rule's matrices, which slices behind the last one make.
template <int NN, int TERMS, bool F16, bool GATED, bool RESULTS, bool DELTA = false>
FN void walk(const float *x, const float *D, const float *state, const chunk_block<NN, TERMS, DELTA> *blocks,
             const chunk_steps<GATED ? NN : CHUNK> *steps, float *slots, float *totals, float *y, float *after,
             const ssd_numbers &N) {
    DYNAMIC_SHARED(raw)
    typedef walk_tiles<NN, TERMS, GATED, DELTA> all_tiles;
    static_assert(sizeof(all_tiles) == SSD_WALK_SHARED(NN, TERMS, GATED, DELTA), "the launch asks for another size");
    all_tiles &tiles = *(all_tiles *)raw;
    const int keeps = GATED ? NN : 1;
    const int lane = WARP_LANE, warp = WARP_NUMBER, g = lane >> 2, t = lane & 3;
    const int across = DELTA && !RESULTS ? N.slices + NN / 64 : N.slices, here = GROUP_X / across, slice = GROUP_X % across,
              part = GROUP_Y, b = GROUP_Z, head = N.first_head + here;
    const bool matrix = DELTA && !RESULTS && slice >= N.slices; // no values, and the state begins as 1
    if (matrix && part == 0) return;                            // its state is known
    const int p0 = (matrix ? slice - N.slices : slice) * 64;
    const long long unit = ((long long)b * N.heads + here) * N.slices + slice;
    const int channel0 = head * N.width + p0 - N.origin, mine = warp * 16 + (lane & 3) * 4, column = channel0 + mine,
              live = N.width - p0 - mine;
    const chunk_block<NN, TERMS, DELTA> *block =
        blocks + ((long long)b * N.groups + head / N.heads_a_group - N.first_group) * N.chunks;
    const chunk_steps<GATED ? NN : CHUNK> *step = steps + ((long long)b * N.heads + here) * N.chunks;
    const int begin = part * N.part, end = IMIN(begin + N.part, N.chunks);
    const long long tile = 128 * NN / 2;
    float *slot = slots + unit * (N.most_parts + 1) * tile, *carried = slot + N.most_parts * tile,
          *total = totals + unit * N.most_parts * keeps;
    uint *matrices = (uint *)totals + ((long long)b * N.heads + here) * N.most_parts * MATRIX_WORDS(NN);
    const float *xs = x + (long long)b * N.x[0];
    float s[NN / 8][4] = {}, v[16], kept = 1.0f;
    if (matrix) {
#pragma unroll
        for (int n = 0; n < NN / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[n][j] = p0 + warp * 16 + g + 8 * (j >> 1) == n * 8 + 2 * t + (j & 1) ? 1.0f : 0.0f;
    } else if (part == 0 || N.parts == 1) {
        if (RESULTS && N.parts > 1) {
            slot_add<NN, GATED>(slot, s, NULL);
        } else if (N.first > 0) {
            slot_add<NN, GATED>(carried, s, NULL);
        } else if (N.has_state) {
            const float *from = state + (long long)b * N.state[0] + (long long)head * N.state[1];
            each_state<NN>(s, p0, N,
                           [&](float &f, int p, int i) { f = from[(long long)p * N.state[2] + (long long)i * N.state[3]]; });
        }
        if (!RESULTS) slot_store<NN>(slot, s);
    } else if (RESULTS && DELTA) {
        slot_add<NN, GATED>(slot + part * tile, s, NULL);
    } else if (RESULTS) {
        for (int q = 1; q <= part; q++) slot_add<NN, GATED>(slot + q * tile, s, q > 1 ? total + (q - 1) * keeps : NULL);
    }

    if (RESULTS) copy_tile<NN, TERMS>(tiles.c, block[begin].c);
    if constexpr (DELTA) copy_tile<NN, TERMS>(tiles.taken, block[begin].taken);
    if (RESULTS) copy_floats(&tiles.scores[0][0], &block[begin].scores[0][0], CHUNK, CHUNK, CHUNK + 4);
    copy_floats(tiles.steps[0].high, step[begin].high, sizeof *step / sizeof(float) / CHUNK, CHUNK, CHUNK);
    async_commit();
    copy_tile<NN, TERMS>(tiles.b, block[begin].b);
    if constexpr (DELTA) copy_tile<NN, TERMS>(tiles.put, block[begin].put);
    async_commit();
    if (!matrix) load_x(v, xs, N.first + begin * CHUNK, column, N);
    const float skip = RESULTS && N.has_d ? D[head * N.d_stride] : 0.0f;
    for (int c = begin; c < end; c++) {
        const chunk_steps<GATED ? NN : CHUNK> &now = tiles.steps[(c - begin) & 1];
        async_wait<1>();
        BARRIER // steps, C and products are there; B may be under way
        if (!matrix) mask_x(v, live);
        float times[4] = {1.0f, 1.0f, 1.0f, 1.0f};
        if (RESULTS) {
            if (TERMS == 2) column_scales(&tiles.scales[0][mine], times, v);
#pragma unroll
            for (int i = 0; i < 4; i++) store_row<TERMS, F16>(tiles.x, i * 8 + (lane >> 2), mine, v + 4 * i, times);
        }
        if (!matrix) {
#pragma unroll
            for (int i = 0; i < 16; i++) v[i] *= now.weight[(i >> 2) * 8 + (lane >> 2)];
            if (TERMS == 2) column_scales(&tiles.scales[1][mine], times, v);
#pragma unroll
            for (int i = 0; i < 4; i++) store_row<TERMS, F16>(tiles.weighted, i * 8 + (lane >> 2), mine, v + 4 * i, times);
        }
        if (RESULTS) {
            const int i = LOCAL >> 2, j0 = (LOCAL & 3) * 8;
            float w[8], most = 0.0f, up = 1.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                w[j] = j0 + j > i ? 0.0f : tiles.scores[i][j0 + j];
                if (!GATED && j0 + j <= i)
                    w[j] *= f_exp(now.high[i] - now.high[j0 + j] + (now.low[i] - now.low[j0 + j])) * now.dt[j0 + j];
                if (j0 + j == i) w[j] += skip;
                if (TERMS == 2) most = FMAX(most, finite_size(w[j]));
            }
            if (TERMS == 2) {
                most = FMAX(most, warp_xor(most, 1));
                most = FMAX(most, warp_xor(most, 2));
                up = scale_down(most);
                if ((LOCAL & 3) == 0) tiles.weights_scale[i] = up;
                up = 1.0f / up;
            }
#pragma unroll
            for (int j = 0; j < 8; j += 2) {
                uint terms[TERMS];
                split_pair<TERMS, F16>(terms, w[j] * up, w[j + 1] * up);
#pragma unroll
                for (int k = 0; k < TERMS; k++) put_word(&tiles.w[k][i][j0 + j], terms[k]);
            }
        }
        if (RESULTS) {
            BARRIER // weights and x are there
        }
        if (RESULTS || DELTA) {
            float acc[2][2][4] = {}, out[2][2][4] = {}, up[2] = {1.0f, 1.0f}; // out: S W^T
            const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
            if (TERMS == 2) {
                float most[2] = {0.0f, 0.0f};
#pragma unroll
                for (int n = 0; n < NN / 8; n++)
#pragma unroll
                    for (int j = 0; j < 4; j++) most[j >> 1] = FMAX(most[j >> 1], finite_size(s[n][j]));
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    most[r] = FMAX(most[r], warp_xor(most[r], 1));
                    up[r] = scale_down(FMAX(most[r], warp_xor(most[r], 2)));
                    if (t == 0) tiles.scales[2][warp * 16 + 8 * r + g] = up[r];
                    up[r] = 1.0f / up[r];
                }
                WARP_BARRIER
            }
#pragma unroll
            for (int k = 0; k < NN / 16; k++) {
                uint fs[4][TERMS];
#pragma unroll
                for (int i = 0; i < 4; i++)
                    split_pair<TERMS, F16>(fs[i], s[2 * k + (i & 1)][(i >> 1) * 2] * up[i >> 1],
                                           s[2 * k + (i & 1)][(i >> 1) * 2 + 1] * up[i >> 1]);
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    uint fc[TERMS][4];
                    if (RESULTS) {
#pragma unroll
                        for (int j = 0; j < TERMS; j++)
                            warp_load4(fc[j],
                                       &tiles.c[j][m * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][k * 16 + (lane >> 4) * 8]);
                        add_products<TERMS, F16>(acc[m][0], fc, fs[0], fs[1], ones);
                        add_products<TERMS, F16>(acc[m][1], fc, fs[2], fs[3], ones);
                    }
                    if constexpr (DELTA) {
#pragma unroll
                        for (int j = 0; j < TERMS; j++)
                            warp_load4(fc[j],
                                       &tiles.taken[j][m * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][k * 16 + (lane >> 4) * 8]);
                        add_products<TERMS, F16>(out[m][0], fc, fs[0], fs[1], ones);
                        add_products<TERMS, F16>(out[m][1], fc, fs[2], fs[3], ones);
                    }
                }
            }
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float gain = !RESULTS ? 0.0f : now.gain[m * 16 + g + 8 * (j >> 1)];
#pragma unroll
                    for (int n = 0; n < 2; n++) {
                        const float scale = TERMS == 2 ? tiles.scales[2][warp * 16 + n * 8 + 2 * t + (j & 1)] : 1.0f;
                        acc[m][n][j] *= gain * scale;
                        if (DELTA) out[m][n][j] *= now.high[m * 16 + g + 8 * (j >> 1)] * scale;
                    }
                }
#pragma unroll
            for (int k = 0; RESULTS && k < 2; k++) {
                uint fx[4][TERMS];
#pragma unroll
                for (int j = 0; j < TERMS; j++) {
                    uint r[4];
                    warp_load4_transposed(
                        r, &tiles.x[j][k * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][warp * 16 + (lane >> 4) * 8]);
#pragma unroll
                    for (int i = 0; i < 4; i++) fx[i][j] = r[i];
                }
#pragma unroll
                for (int m = k; m < 2; m++) {
                    uint fw[TERMS][4];
#pragma unroll
                    for (int j = 0; j < TERMS; j++)
                        warp_load4(fw[j], &tiles.w[j][m * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)][k * 16 + (lane >> 4) * 8]);
#pragma unroll
                    for (int n = 0; n < 2; n++) {
#pragma unroll
                        for (int j = 0; j < 4; j++)
                            if (TERMS == 2)
                                times[j] = tiles.weights_scale[m * 16 + g + 8 * (j >> 1)] *
                                           tiles.scales[0][warp * 16 + n * 8 + 2 * t + (j & 1)];
                        add_products<TERMS, F16>(acc[m][n], fw, fx[2 * n], fx[2 * n + 1], times);
                    }
                }
            }
            if (DELTA) { // in the place of x, whose columns of 16 are each a warp's own
                WARP_BARRIER
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    const int at = warp * 16 + n * 8 + 2 * t;
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float most = 0.0f;
#pragma unroll
                        for (int m = 0; m < 2; m++)
                            most = FMAX(most, FMAX(finite_size(out[m][n][j]), finite_size(out[m][n][2 + j])));
                        for (int mask = 4; mask < 32; mask *= 2) most = FMAX(most, warp_xor(most, mask));
                        up[j] = scale_down(most);
                        if (g == 0) tiles.scales[0][at + j] = up[j];
                        up[j] = 1.0f / up[j];
                    }
#pragma unroll
                    for (int m = 0; m < 2; m++)
#pragma unroll
                        for (int r = 0; r < 2; r++) {
                            uint terms[TERMS];
                            split_pair<TERMS, F16>(terms, out[m][n][2 * r] * up[0], out[m][n][2 * r + 1] * up[1]);
#pragma unroll
                            for (int j = 0; j < TERMS; j++) put_word(&tiles.x[j][m * 16 + g + 8 * r][at], terms[j]);
                        }
                }
            }
#pragma unroll
            for (int m = 0; RESULTS && m < 2; m++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const int token = N.first + c * CHUNK + m * 16 + g + 8 * r;
                    float *to = y + (long long)b * N.y[0] + (long long)token * N.y[1];
#pragma unroll
                    for (int n = 0; n < 2; n++) {
                        const int p = warp * 16 + n * 8 + 2 * t, at = channel0 + p;
                        if (token >= N.tokens) continue;
                        if (N.fast_y && p0 + p + 1 < N.width && at >= 0 && at + 1 < N.channels) {
                            put_pair(to + at, acc[m][n][2 * r], acc[m][n][2 * r + 1]);
                        } else {
#pragma unroll
                            for (int j = 0; j < 2; j++)
                                if (p0 + p + j < N.width && at + j >= 0 && at + j < N.channels)
                                    to[at + j] = acc[m][n][2 * r + j];
                        }
                    }
                }
        }
        async_wait<0>();
        BARRIER // B is there, the weighted x too; C, weights, x and products are used
        float keep[NN / 8][2];
#pragma unroll
        for (int n = 0; n < NN / 8; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) keep[n][j] = now.keep[GATED ? n * 8 + 2 * t + j : 0];
        if (!DELTA && (!GATED || LOCAL < NN)) kept *= now.keep[GATED ? LOCAL : 0];
        if (c + 1 < end) {
            if (RESULTS) copy_tile<NN, TERMS>(tiles.c, block[c + 1].c);
            if constexpr (DELTA) copy_tile<NN, TERMS>(tiles.taken, block[c + 1].taken);
            if (RESULTS) copy_floats(&tiles.scores[0][0], &block[c + 1].scores[0][0], CHUNK, CHUNK, CHUNK + 4);
            copy_floats(tiles.steps[(c + 1 - begin) & 1].high, step[c + 1].high, sizeof *step / sizeof(float) / CHUNK, CHUNK,
                        CHUNK);
            if (!matrix) load_x(v, xs, N.first + (c + 1) * CHUNK, column, N);
        }
        async_commit();
#pragma unroll
        for (int n = 0; n < NN / 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) s[n][j] *= keep[n][j & 1];
        if (!matrix) add_outer<NN, TERMS, F16>(s, tiles.weighted, tiles.b, tiles.scales[1]);
        if constexpr (DELTA) add_outer<NN, TERMS, F16>(s, tiles.x, tiles.put, tiles.scales[0]);
        BARRIER // B is used
        if (c + 1 < end) {
            copy_tile<NN, TERMS>(tiles.b, block[c + 1].b);
            if constexpr (DELTA) copy_tile<NN, TERMS>(tiles.put, block[c + 1].put);
        }
        async_commit();
    }
    async_wait<0>();
    if (matrix) {
        matrix_store<NN>(matrices + part * MATRIX_WORDS(NN) + p0 / 16 * (NN / 8) * 3 * 64, s);
    } else if (!RESULTS) {
        slot_store<NN>(slot + (part + 1) * tile, s);
        if (!DELTA && LOCAL < keeps) total[part * keeps + LOCAL] = kept;
    } else if (part == N.parts - 1 && !N.last) {
        slot_store<NN>(carried, s);
    } else if (part == N.parts - 1 && N.has_after) {
        float *to = after + (long long)b * N.after[0] + (long long)head * N.after[1];
        each_state<NN>(s, p0, N,
                       [&](float &f, int p, int i) { to[(long long)p * N.after[2] + (long long)i * N.after[3]] = f; });
    }
}

// Three groups share a multiprocessor; of the delta rule, two.
#define WALK(name)       extern "C" __global__ void __launch_bounds__(128, 3) name
#define DELTA_WALK(name) extern "C" __global__ void __launch_bounds__(128, 2) name

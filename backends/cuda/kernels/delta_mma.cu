// delta_mma.cu - the delta rule (RWKV-7, arXiv 2503.14456; gated delta networks, arXiv 2412.06464) on tensor cores, by the walk
// of ssd.h. Compute capability 8.0 and later.
//
// With u[t] = S[t-1] a[t], what is taken out before token t, the state is one of gated linear attention with keys k and b and
// values v and u, and u is given by those before it (the WY form, arXiv 2406.06484). In a chunk, G[t] the product of the gates
// up to token t, r~[t] = r[t] G[t], a~[t] = a[t] G[t-1], k~[t] and b~[t] times the gates behind t:
//
//   A_rk[t, j], A_rb[t, j] = r[t] . (G[t] / G[j]) k[j] or b[j] for j <= t;  A_ak, A_ab = a[t] . (G[t-1] / G[j]) ... for j < t
//   W = T a~ and Z = T A_ak with T = (1 - A_ab)^-1
//   y = (r~ + A_rb W) S + (A_rk + A_rb Z) v,  S <- S diag(G[31]) + (S W^T) b~ + v^T (k~ + Z^T b~)
//
// delta_prepare makes a head's chunk: scores within 16 tokens by multiplying on from token to token, so that gates may be 0 and
// no quotient or logarithm is made; those between a chunk's halves, and all else, on tensor cores, where every number is a sum
// of three BF16 numbers, without loss and with F32's range, and products of the first three ranks are multiplied. T is never
// made whole: W and Z are solved for by halves, T of 16 tokens each.
//
// Where heads are few, delta_ends walks parts of the sequence at once, each from a state of zeros, and from the unit matrix for
// the matrix by which the part turns what goes in; delta_join makes of these what each part of delta_walk begins from.
#include "ssd.h"

#define AP (CHUNK + 4) // numbers of a row of scores

template <int NN> struct delta_tiles {
    float r[CHUNK][NN + 4], k[CHUNK][NN + 4], w[CHUNK][NN + 4], a[CHUNK][NN + 4], b[CHUNK][NN + 4];
    float rb[CHUNK][AP], ak[CHUNK][AP], ab[CHUNK][AP];
};

FN float dot4(float4 a, float4 b) { return FMA(a.w, b.w, FMA(a.z, b.z, FMA(a.y, b.y, a.x * b.x))); }
FN float4 times4(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }

// acc[n] += 16 of left(row, i) right(i, n, column): TILES of 16 rows and 8 columns.
template <int TILES, class L, class R> FN void multiply16(float (&acc)[TILES][4], L left, R right) {
    const int g = WARP_LANE >> 2, t = WARP_LANE & 3;
    uint fl[3][4];
#pragma unroll
    for (int p = 0; p < 4; p++) {
        const int row = g + 8 * (p & 1), i = 2 * t + 8 * (p >> 1);
        uint terms[3];
        split_pair<3, false>(terms, left(row, i), left(row, i + 1));
#pragma unroll
        for (int j = 0; j < 3; j++) fl[j][p] = terms[j];
    }
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        uint low[3], high[3];
        split_pair<3, false>(low, right(2 * t, n, g), right(2 * t + 1, n, g));
        split_pair<3, false>(high, right(2 * t + 8, n, g), right(2 * t + 9, n, g));
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
        for (int rank = 2; rank >= 0; rank--)
#pragma unroll
            for (int j = rank; j >= 0; j--) warp_mma<false>(part, fl[j], low[rank - j], high[rank - j]);
#pragma unroll
        for (int j = 0; j < 4; j++) acc[n][j] += part[j];
    }
}

// Rows and columns of the number j of a tile that this item has.
#define PART_ROW(j)    ((WARP_LANE >> 2) + 8 * ((j) >> 1))
#define PART_COLUMN(j) (2 * (WARP_LANE & 3) + ((j) & 1))

template <int NN>
FN void load_rows(float (&to)[CHUNK][NN + 4], const float *x, const int *strides, int b, int head, int first, float empty,
                  bool logarithms, float times, const ssd_numbers &N) {
    for (int i = LOCAL; i < CHUNK * NN / 4; i += 128) {
        const int row = i / (NN / 4), n = i % (NN / 4) * 4, token = first + row;
        const float *from = x + (long long)b * strides[0] + (long long)token * strides[1] + head * N.n + n;
        float f[4] = {empty, empty, empty, empty};
        if (token < N.tokens && n < N.n) {
            if (N.fast_bc) {
                const float4 v = LOAD4(from, 0);
                f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
            } else {
                for (int j = 0; j < 4; j++)
                    if (n + j < N.n) f[j] = from[j];
            }
            for (int j = 0; j < 4; j++)
                if (n + j < N.n) f[j] = (logarithms ? f_exp(f[j]) : f[j]) * times;
        }
        STORE4(&to[row][n], 0, make_float4(f[0], f[1], f[2], f[3]));
    }
}

// The sum over eight lanes of the number that `part` has of four: 0, 2, 1, 3, and the same again.
FN float sum_of_four(float s0, float s1, float s2, float s3, int part) {
    const bool odd = part & 1, upper = part & 2;
    float left = (odd ? s2 : s0) + warp_xor(odd ? s0 : s2, 1), right = (odd ? s3 : s1) + warp_xor(odd ? s1 : s3, 1);
    float sum = (upper ? right : left) + warp_xor(upper ? left : right, 2);
    return sum + warp_xor(sum, 4);
}

// Scores among 16 tokens: a warp has two groups of four tokens j, eight lanes each, with k and b of j times the gates since.
template <int NN> FN void near_scores(delta_tiles<NN> &tiles, chunk_block<NN, 2, true> *to) {
    const int lane = WARP_LANE, part = lane & 7, half_chunk = WARP_NUMBER >> 1;
    for (int turn = 0; turn < 2; turn++) {
        const int group = turn ? 3 - (WARP_NUMBER & 1) : WARP_NUMBER & 1, j0 = half_chunk * 16 + group * 4,
                  j = j0 + (lane >> 3);
        float4 k[NN / 32], b[NN / 32];
#pragma unroll
        for (int c = 0; c < NN / 32; c++)
            k[c] = LOAD4(&tiles.k[j][part * 4 + c * 32], 0), b[c] = LOAD4(&tiles.b[j][part * 4 + c * 32], 0);
        for (int i = j0; i < half_chunk * 16 + 16; i++) {
            float rk = 0.0f, rb = 0.0f, ak = 0.0f, ab = 0.0f;
#pragma unroll
            for (int c = 0; c < NN / 32; c++) {
                const int n = part * 4 + c * 32;
                const float4 r = LOAD4(&tiles.r[i][n], 0), a = LOAD4(&tiles.a[i][n], 0), w = LOAD4(&tiles.w[i][n], 0);
                ak += dot4(a, k[c]);
                ab += dot4(a, b[c]);
                if (i > j) k[c] = times4(k[c], w), b[c] = times4(b[c], w);
                rk += dot4(r, k[c]);
                rb += dot4(r, b[c]);
            }
            const float sum = sum_of_four(rk, rb, ak, ab, part);
            if (part < 4 && i >= j) {
                if (part == 0) to->scores[i][j] = sum;
                if (part == 2) tiles.rb[i][j] = sum;
                if (part == 1 && i > j) tiles.ak[i][j] = sum;
                if (part == 3 && i > j) tiles.ab[i][j] = sum;
            }
        }
    }
}

// The inverses of 1 - A of 16 tokens each, in A's place: an item a column.
FN void invert_halves(float (&A)[CHUNK][AP]) {
    const int first = WARP_LANE & 16, column = WARP_LANE & 15;
    float x[16];
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = i == column ? 1.0f : 0.0f;
#pragma unroll
    for (int j = 0; j < 15; j++)
#pragma unroll
        for (int i = j + 1; i < 16; i++) x[i] = FMA(A[first + i][first + j], x[j], x[i]);
    WARP_BARRIER
#pragma unroll
    for (int i = 0; i < 16; i++) A[first + i][first + column] = x[i];
}

// r and a of the second half up to the chunk's middle, k and b of the first half from it.
template <int NN> FN void gate_to_middle(delta_tiles<NN> &tiles) {
    for (int job = LOCAL; job < 2 * NN; job += 128) {
        const int n = job % NN;
        float p = 1.0f;
        if (job < NN) {
            for (int i = 16; i < 32; i++) {
                tiles.a[i][n] *= p;
                p *= tiles.w[i][n];
                tiles.r[i][n] *= p;
            }
        } else {
            for (int j = 15; j >= 0; j--) {
                tiles.k[j][n] *= p;
                tiles.b[j][n] *= p;
                p *= tiles.w[j][n];
            }
        }
    }
}

// And all of them to the chunk's ends.
template <int NN> FN void gate_to_ends(delta_tiles<NN> &tiles, float *keep) {
    for (int job = LOCAL; job < 2 * NN; job += 128) {
        const int n = job % NN;
        float p = 1.0f;
        if (job < NN) {
            for (int i = 0; i < 16; i++) {
                tiles.a[i][n] *= p;
                p *= tiles.w[i][n];
                tiles.r[i][n] *= p;
            }
            float all = p;
            for (int i = 16; i < 32; i++) {
                tiles.a[i][n] *= p;
                tiles.r[i][n] *= p;
                all *= tiles.w[i][n];
            }
            keep[n] = all;
        } else {
            for (int j = 31; j >= 16; j--) {
                tiles.k[j][n] *= p;
                tiles.b[j][n] *= p;
                p *= tiles.w[j][n];
            }
            for (int j = 0; j < 16; j++) {
                tiles.k[j][n] *= p;
                tiles.b[j][n] *= p;
            }
        }
    }
}

// Scores of the second half's tokens with the first half's, all four kinds: a warp each.
template <int NN> FN void far_scores(delta_tiles<NN> &tiles, chunk_block<NN, 2, true> *to) {
    const bool of_a = WARP_NUMBER & 1, with_b = WARP_NUMBER & 2;
    const float(*left)[NN + 4] = of_a ? tiles.a : tiles.r, (*right)[NN + 4] = with_b ? tiles.b : tiles.k;
    float acc[2][4] = {};
    for (int c = 0; c < NN; c += 16)
        multiply16<2>(
            acc, [&](int row, int i) { return left[16 + row][c + i]; },
            [&](int i, int n, int column) { return right[n * 8 + column][c + i]; });
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = 16 + PART_ROW(j), column = n * 8 + PART_COLUMN(j);
            if (of_a)
                (with_b ? tiles.ab : tiles.ak)[row][column] = acc[n][j];
            else if (with_b)
                tiles.rb[row][column] = acc[n][j];
            else
                to->scores[row][column] = acc[n][j];
        }
}

// A warp's columns of [a | A_ak] and of [r | A_rk]: NN / 4 of a head's, then 8 of the scores'.
template <int NN> FN float *mine(float (&rows)[CHUNK][NN + 4], float (&scores)[CHUNK][AP], int row, int n, int column) {
    return n < NN / 32 ? &rows[row][WARP_NUMBER * (NN / 4) + n * 8 + column] : &scores[row][WARP_NUMBER * 8 + column];
}

// W and Z in the place of a~ and A_ak; then r~ + A_rb W and A_rk + A_rb Z in that of r~ and of the block's scores.
template <int NN> FN void solve(delta_tiles<NN> &tiles, chunk_block<NN, 2, true> *to) {
    constexpr int TILES = NN / 32 + 1;
    const auto at = [&](int row, int n, int column) { return mine<NN>(tiles.a, tiles.ak, row, n, column); };
#pragma unroll 1
    for (int m = 0; m < 2; m++) {
        float acc[TILES][4] = {};
        if (m) { // what the first half adds to the second's right-hand side
            multiply16<TILES>(
                acc, [&](int row, int i) { return tiles.ab[16 + row][i]; },
                [&](int i, int n, int column) { return *at(i, n, column); });
#pragma unroll
            for (int n = 0; n < TILES; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    *at(16 + PART_ROW(j), n, PART_COLUMN(j)) += acc[n][j];
                    acc[n][j] = 0.0f;
                }
            WARP_BARRIER
        }
        multiply16<TILES>(
            acc, [&](int row, int i) { return tiles.ab[m * 16 + row][m * 16 + i]; },
            [&](int i, int n, int column) { return *at(m * 16 + i, n, column); });
        WARP_BARRIER
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) *at(m * 16 + PART_ROW(j), n, PART_COLUMN(j)) = acc[n][j];
        WARP_BARRIER
    }
#pragma unroll 1
    for (int m = 0; m < 2; m++) {
        float acc[TILES][4];
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int row = m * 16 + PART_ROW(j), column = PART_COLUMN(j), score = WARP_NUMBER * 8 + column;
                acc[n][j] = n < TILES - 1    ? tiles.r[row][WARP_NUMBER * (NN / 4) + n * 8 + column]
                            : score <= row ? to->scores[row][score]
                                             : 0.0f;
            }
        for (int i0 = 0; i0 <= m * 16; i0 += 16)
            multiply16<TILES>(
                acc, [&](int row, int i) { return tiles.rb[m * 16 + row][i0 + i]; },
                [&](int i, int n, int column) { return *at(i0 + i, n, column); });
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int row = m * 16 + PART_ROW(j), column = PART_COLUMN(j);
                if (n < TILES - 1)
                    tiles.r[row][WARP_NUMBER * (NN / 4) + n * 8 + column] = acc[n][j];
                else
                    to->scores[row][WARP_NUMBER * 8 + column] = acc[n][j];
            }
    }
}

// k~ + Z^T b~ in the place of k~.
template <int NN> FN void gather_keys(delta_tiles<NN> &tiles) {
    constexpr int TILES = NN / 32;
    const int first = WARP_NUMBER * (NN / 4);
#pragma unroll 1
    for (int m = 0; m < 2; m++) {
        float acc[TILES][4];
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[n][j] = tiles.k[m * 16 + PART_ROW(j)][first + n * 8 + PART_COLUMN(j)];
        for (int i0 = m * 16; i0 < CHUNK; i0 += 16) // Z[i, j] is 0 for j >= i
            multiply16<TILES>(
                acc, [&](int row, int i) { return tiles.ak[i0 + i][m * 16 + row]; },
                [&](int i, int n, int column) { return tiles.b[i0 + i][first + n * 8 + column]; });
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) tiles.k[m * 16 + PART_ROW(j)][first + n * 8 + PART_COLUMN(j)] = acc[n][j];
    }
}

// A row as two terms of F16, eight lanes of them; its scale.
template <int NN> FN float halve_row(half_word (&to)[2][CHUNK][NN], const float *from, int row) {
    const int part = LOCAL & 7;
    float4 f[NN / 32];
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < NN / 32; i++) {
        f[i] = LOAD4(from + part * 4 + i * 32, 0);
        most = FMAX(FMAX(most, FMAX(finite_size(f[i].x), finite_size(f[i].y))), FMAX(finite_size(f[i].z), finite_size(f[i].w)));
    }
    for (int mask = 1; mask < 8; mask *= 2) most = FMAX(most, warp_xor(most, mask));
    const float down = scale_down(most), up = 1.0f / down;
#pragma unroll
    for (int i = 0; i < NN / 32; i++) {
        uint low[2], high[2];
        split_pair<2, true>(low, f[i].x * up, f[i].y * up);
        split_pair<2, true>(high, f[i].z * up, f[i].w * up);
#pragma unroll
        for (int j = 0; j < 2; j++) put_words(&to[j][row][part * 4 + i * 32], low[j], high[j]);
    }
    return down;
}

template <int NN>
FN void delta_prepare(const float *r, const float *w, const float *k, const float *a, const float *b,
                      chunk_block<NN, 2, true> *blocks, chunk_steps<NN> *steps, const ssd_numbers &N) {
    DYNAMIC_SHARED(raw)
    static_assert(sizeof(delta_tiles<NN>) == DELTA_PREPARE_SHARED(NN), "the launch asks for another size");
    delta_tiles<NN> &tiles = *(delta_tiles<NN> *)raw;
    const int chunk = GROUP_X, entry = GROUP_Z, head = N.first_head + GROUP_Y, first = N.first + chunk * CHUNK;
    chunk_block<NN, 2, true> *to = blocks + ((long long)entry * N.heads + GROUP_Y) * N.chunks + chunk;
    chunk_steps<NN> *step = steps + ((long long)entry * N.heads + GROUP_Y) * N.chunks + chunk;
    load_rows<NN>(tiles.r, r, N.c, entry, head, first, 0.0f, false, N.scale, N);
    load_rows<NN>(tiles.k, k, N.b, entry, head, first, 0.0f, false, 1.0f, N);
    load_rows<NN>(tiles.w, w, N.a, entry, head, first, 1.0f, N.softplus != 0, 1.0f, N);
    load_rows<NN>(tiles.a, a, N.dt, entry, head, first, 0.0f, false, 1.0f, N);
    load_rows<NN>(tiles.b, b, N.put, entry, head, first, 0.0f, false, 1.0f, N);
    for (int i = LOCAL; i < CHUNK * CHUNK; i += 128)
        tiles.rb[i / CHUNK][i % CHUNK] = tiles.ak[i / CHUNK][i % CHUNK] = tiles.ab[i / CHUNK][i % CHUNK] = 0.0f;
    BARRIER
    near_scores<NN>(tiles, to);
    BARRIER
    if (WARP_NUMBER == 3) invert_halves(tiles.ab);
    gate_to_middle<NN>(tiles);
    BARRIER
    far_scores<NN>(tiles, to);
    BARRIER
    gate_to_ends<NN>(tiles, step->keep);
    BARRIER
    solve<NN>(tiles, to);
    BARRIER // Z of all columns
    gather_keys<NN>(tiles);
    BARRIER
#pragma unroll 1
    for (int i = 0; i < 2; i++) {
        const int row = i * 16 + (LOCAL >> 3);
        const float gain = halve_row<NN>(to->c, tiles.r[row], row), weight = halve_row<NN>(to->b, tiles.k[row], row),
                    taken = halve_row<NN>(to->taken, tiles.a[row], row), put = halve_row<NN>(to->put, tiles.b[row], row);
        if ((LOCAL & 7) == 0) {
            step->high[row] = taken * put;
            step->low[row] = 0.0f;
            step->dt[row] = 1.0f;
            step->gain[row] = gain;
            step->weight[row] = weight;
        }
    }
}

// end <- s matrix + end, 64 columns of the matrix at a time.
template <int NN> FN void matrix_turn(float *end, const float (&s)[NN / 8][4], const uint *matrix) {
#pragma unroll 1
    for (int first = 0; first < NN / 8; first += 8) {
        float to[8][4];
#pragma unroll
        for (int n = 0; n < 8; n++) {
            const float4 f = LOAD4(end, (first + n) * 128 + LOCAL);
            to[n][0] = f.x, to[n][1] = f.y, to[n][2] = f.z, to[n][3] = f.w;
        }
#pragma unroll
        for (int k = 0; k < NN / 16; k++) {
            uint left[3][4];
#pragma unroll
            for (int p = 0; p < 4; p++) {
                uint terms[3];
                split_pair<3, false>(terms, s[2 * k + (p >> 1)][(p & 1) * 2], s[2 * k + (p >> 1)][(p & 1) * 2 + 1]);
#pragma unroll
                for (int j = 0; j < 3; j++) left[j][p] = terms[j];
            }
#pragma unroll
            for (int n = 0; n < 8; n++) {
                const uint *from = matrix + (k * (NN / 8) + first + n) * 3 * 64 + WARP_LANE * 2;
                uint2 right[3];
#pragma unroll
                for (int j = 0; j < 3; j++) right[j] = *(const uint2 *)(from + j * 64);
                float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int rank = 2; rank >= 0; rank--)
#pragma unroll
                    for (int j = rank; j >= 0; j--) warp_mma<false>(part, left[j], right[rank - j].x, right[rank - j].y);
#pragma unroll
                for (int j = 0; j < 4; j++) to[n][j] += part[j];
            }
        }
#pragma unroll
        for (int n = 0; n < 8; n++)
            STORE4(end, (first + n) * 128 + LOCAL, make_float4(to[n][0], to[n][1], to[n][2], to[n][3]));
    }
}
// What each part begins from in the place of the end before it, parts in order; four warps with 16 of a slice's columns each.
template <int NN> FN void delta_join(float *slots, const float *totals, const ssd_numbers &N) {
    const long long head = (long long)GROUP_Y * N.heads + GROUP_X / N.slices, tile = 128 * NN / 2;
    const uint *matrices = (const uint *)totals + head * N.most_parts * MATRIX_WORDS(NN);
    float *slot = slots + (head * N.slices + GROUP_X % N.slices) * (N.most_parts + 1) * tile;
    for (int part = 1; part + 1 < N.parts; part++) {
        float s[NN / 8][4] = {};
        slot_add<NN, false>(slot + part * tile, s, NULL);
        matrix_turn<NN>(slot + (part + 1) * tile, s, matrices + part * MATRIX_WORDS(NN));
    }
}

#define DELTA(NN)                                                                                                              \
    HEAD(delta_prepare_##NN, 128)(const float *__restrict__ r, const float *__restrict__ w, const float *__restrict__ k,       \
                                  const float *__restrict__ a, const float *__restrict__ b, chunk_block<NN, 2, true> *blocks,  \
                                  chunk_steps<NN> *steps, const __grid_constant__ ssd_numbers N) {                             \
        delta_prepare<NN>(r, w, k, a, b, blocks, steps, N);                                                                    \
    }                                                                                                                          \
    DELTA_WALK(delta_ends_##NN)(const float *x, const float *__restrict__ D, const float *state,                               \
                                const chunk_block<NN, 2, true> *__restrict__ blocks,                                           \
                                const chunk_steps<NN> *__restrict__ steps, float *slots, float *totals, float *y,              \
                                float *after, const __grid_constant__ ssd_numbers N) {                                         \
        walk<NN, 2, true, true, false, true>(x, D, state, blocks, steps, slots, totals, y, after, N);                          \
    }                                                                                                                          \
    DELTA_WALK(delta_join_##NN)(float *slots, const float *__restrict__ totals, const __grid_constant__ ssd_numbers N) {       \
        delta_join<NN>(slots, totals, N);                                                                                      \
    }                                                                                                                          \
    DELTA_WALK(delta_walk_##NN)(const float *x, const float *__restrict__ D, const float *state,                               \
                                const chunk_block<NN, 2, true> *__restrict__ blocks,                                           \
                                const chunk_steps<NN> *__restrict__ steps, float *slots, float *totals, float *y,              \
                                float *after, const __grid_constant__ ssd_numbers N) {                                         \
        walk<NN, 2, true, true, true, true>(x, D, state, blocks, steps, slots, totals, y, after, N);                           \
    }
DELTA(64)
DELTA(128)

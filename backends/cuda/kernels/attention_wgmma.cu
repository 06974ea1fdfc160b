// attention_wgmma.cu - attention on the tensor cores of compute capability 9.0, after FlashAttention-3 (Shah and others, arXiv
// 2407.08608): products of whole warp groups, keys and values by bulk copies. Keys and values are both F16 or both BF16, and
// queries and weights are rounded to that.
//
// A group has 128 queries of one head: one warp group copies tiles of 128 keys into a ring in shared memory, two have 64
// queries each. Their products take turns, so that one's exponentials run beside the other's products; and each one's values
// wait for the exponentials of the next keys. Tiles are anchored at key 0, and one that a query does not see changes nothing,
// so a query's bytes are its own.
//
// A weight of 0 times a value that is not finite is NaN. Where a sum is not finite in the end, all is done again with care:
// tiles with such values are added key by key, for the keys that a query sees; the others as before, so that the bytes of
// finite sums stay.
#include "attention.h"
#include "wgmma.h"

#define ROWS    64  // of a warp group
#define KEYS    128 // of a tile
#define COPIERS 128 // items of the first warp group
#define LOG2E   1.44269504f

// In chunks of 64 columns: rows of 128 bytes, turned (wgmma.h).
template <int D> struct wgmma_tiles {
    static const int STAGES = ATTENTION_STAGES(D);
    half_word q[2][D / 64][ROWS * 64], k[STAGES][D / 64][KEYS * 64], v[STAGES][D / 64][KEYS * 64];
    phase_barrier full[2][STAGES], empty[2][STAGES]; // of keys, and of values
    phase_barrier last; // of values some of which lie behind the valid ones
    float scale[2 * ROWS];
    int again;
};

// What a group does: its tiles are at 0, next(0) and so on before `end`.
struct wgmma_work {
    int head, kv_head, b, block, before, valid, end, oldest, sinks;
    bool more; // are there keys behind the valid ones?
};
FN int next_tile(const wgmma_work &w, int s) {
    return s >= w.sinks && s < w.oldest ? w.oldest : s;
}

FN wgmma_work work_of(const int *kv_length, const attention_numbers &N) {
    wgmma_work w;
    w.head = GROUP_Y;
    w.b = GROUP_Z;
    w.kv_head = w.head / (N.heads / N.kv_heads);
    w.block = ((int)gridDim.x - 1 - GROUP_X) * 2 * ROWS; // the last queries see most keys: first
    const int valid = N.length_words ? kv_length[w.b * N.length_stride * N.length_words] : N.keys;
    w.before = valid - N.all_queries + N.first; // position of query r here: before + r
    w.valid = w.end = IMAX(IMIN(valid, N.keys), 0);
    w.more = w.valid < N.keys;
    if (N.causal) w.end = IMIN(w.end, IMAX(w.before + IMIN(w.block + 2 * ROWS - 1, N.queries - 1) + 1, 0));
    w.oldest = N.window ? IMAX(w.before + w.block - N.window + 1, 0) / KEYS * KEYS : 0;
    w.sinks = N.sinks;
    return w;
}

// A warp copies all tiles of keys (which = 0), or of values; its first item asks for them. turn: tiles so far; run: 0 or 1.
// Behind the valid keys may stand anything: those values become zeros before the tile, a run's last one, is given on.
template <int D>
FN void copy_tiles(wgmma_tiles<D> &tiles, int which, const tensor_map *map, const wgmma_work &w, int turn, int run) {
    for (int s = next_tile(w, 0); s < w.end; s = next_tile(w, s + KEYS), turn++) {
        const int stage = turn % tiles.STAGES;
        const bool cut = which && w.more && s + KEYS > w.valid;
        if (WARP_LANE == 0) {
            phase_barrier *const there = cut ? &tiles.last : &tiles.full[which][stage];
            phase_wait(&tiles.empty[which][stage], (turn / tiles.STAGES & 1) ^ 1);
            phase_expect(there, D * KEYS * 2);
#pragma unroll
            for (int c = 0; c < D / 64; c++)
                bulk_tile(which ? tiles.v[stage][c] : tiles.k[stage][c], map, 64 * c, w.kv_head, s, w.b, there);
        }
        if (!cut) continue;
        WARP_BARRIER
        const uint4 nothing = {};
        phase_wait(&tiles.last, run);
#pragma unroll
        for (int c = 0; c < D / 64; c++)
            for (int i = (w.valid - s) * 8 + WARP_LANE; i < KEYS * 8; i += 32)
                *(uint4 *)(tiles.v[stage][c] + i * 8) = nothing;
        shared_seen_by_products();
        WARP_BARRIER
        if (WARP_LANE == 0) phase_arrive(&tiles.full[which][stage]);
    }
}

// A warp's 16 queries as halves, and what their products with keys are multiplied by: F16 has few exponents, so a row is scaled
// by a power of two.
template <int D, bool F16>
FN void round_queries(wgmma_tiles<D> &tiles, const float *q, int side, const wgmma_work &w, const attention_numbers &N) {
    constexpr int lanes = D / 8; // of a row, 8 columns each
    const int lane = WARP_LANE, warp = WARP_NUMBER & 3, c = lane % lanes * 8;
#pragma unroll 1
    for (int i = lane / lanes; i < 16; i += 32 / lanes) {
        const int row = warp * 16 + i, query = w.block + side * ROWS + row;
        const float *from = q + (long long)w.b * N.q[0] + (long long)query * N.q[1] + w.head * N.d + c;
        float x[8];
        if (N.fast_rows && query < N.queries && c < N.d) {
#pragma unroll
            for (int j = 0; j < 8; j += 4) {
                float4 four = *(const float4 *)(from + j);
                x[j] = four.x, x[j + 1] = four.y, x[j + 2] = four.z, x[j + 3] = four.w;
            }
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) x[j] = query < N.queries && c + j < N.d ? from[j] : 0.0f;
        }
        if (F16) {
            float most = 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) most = FMAX(most, FABS(x[j]));
#pragma unroll
            for (int other = 1; other < lanes; other *= 2) most = FMAX(most, warp_xor(most, other));
            int e = IMIN(IMAX((int)(BITS_OF(most) >> 23), 20), 240);
            if (most == 0.0f) e = 137;
            const float down = FROM_BITS((uint)(e - 10) << 23), up = 1.0f / down; // 2^(e - 137): the largest becomes 2^10 or so
            if (c == 0) tiles.scale[side * ROWS + row] = down * N.scale;
#pragma unroll
            for (int j = 0; j < 8; j++) x[j] *= up;
        }
        uint4 halves;
        halves.x = F16 ? pack_f16(x[0], x[1]) : pack_bf16(x[0], x[1]);
        halves.y = F16 ? pack_f16(x[2], x[3]) : pack_bf16(x[2], x[3]);
        halves.z = F16 ? pack_f16(x[4], x[5]) : pack_bf16(x[4], x[5]);
        halves.w = F16 ? pack_f16(x[6], x[7]) : pack_bf16(x[6], x[7]);
        *(uint4 *)(tiles.q[side][c / 64] + row * 64 + ((c % 64) ^ (row & 7) * 8)) = halves;
    }
}

// s = the warp group's queries times a tile of keys.
template <int D, bool F16> FN void multiply_keys(float (&s)[KEYS / 2], const wgmma_tiles<D> &tiles, int side, int stage) {
    const unsigned long long a = turned_matrix(tiles.q[side][0], 16, 1024), b = turned_matrix(tiles.k[stage][0], 16, 1024);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        const int on = i % 4 * 32; // bytes: 16 columns of a chunk of 64
        if (i == 0)
            wgmma_shared_128<F16, false>(s, a, b);
        else
            wgmma_shared_128<F16, true>(s, moved(a, i / 4 * ROWS * 128 + on), moved(b, i / 4 * KEYS * 128 + on));
    }
    wgmma_commit();
}

// acc += weights times a tile of values.
template <int D, bool F16>
FN void multiply_values(float (&acc)[D / 2], const uint (&weights)[KEYS / 4], const wgmma_tiles<D> &tiles, int stage) {
    const unsigned long long b = turned_matrix(tiles.v[stage][0], KEYS * 128, 1024);
    wgmma_done(acc); // what was done to the sums stays before the fence
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) wgmma_registers<F16>(acc, weights + 4 * i, moved(b, i * 16 * 128));
    wgmma_commit();
}

// A warp is done with a tile.
template <int D> FN void release(wgmma_tiles<D> &tiles, int which, int turn) {
    if (WARP_LANE == 0) phase_arrive(&tiles.empty[which][turn % tiles.STAGES]);
}
template <int D> FN void wait_for(const wgmma_tiles<D> &tiles, int which, int turn) {
    phase_wait(&tiles.full[which][turn % tiles.STAGES], turn / tiles.STAGES & 1);
}

// An item's part of the softmax: two rows.
struct softmax_rows {
    float most[2], total[2], keep[2]; // keep: what sums so far are multiplied by
    float times[2], capped[2];        // of scores, in the exponent of 2; and of products in that of the capped scores' tanh
    int position[2];
};

enum { PLAIN, MASKED, CAREFUL }; // all keys are seen; some may not be; the same, and the weights of those are -0

// Scores become weights, in the same steps whatever the kind.
template <int KIND>
FN void weigh(float (&s)[KEYS / 2], softmax_rows &x, int s0, const wgmma_work &w, const attention_numbers &N) {
    const int t = WARP_LANE & 3;
    float peak[2] = {x.most[0], x.most[1]}, base[2];
    if (N.softcap >
        0.0f) { // tanh(z) = 1 - 2 / (1 + e^2z), by the special unit: its error is nothing beside that of rounded factors
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++)
            s[i] = FMA(fast_inverse(1.0f + fast_exp2(s[i] * x.capped[i >> 1 & 1])), -2.0f * N.softcap, N.softcap);
    }
    if (KIND != PLAIN) {
        int end[2], first[2], last[2]; // from this item's first column on; without branches
        const int sinks = (N.window ? N.sinks : w.end) - s0 - 2 * t;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            end[r] = (N.causal ? IMIN(w.end, x.position[r] + 1) : w.end) - s0 - 2 * t;
            first[r] = x.position[r] - N.window + 1 - s0 - 2 * t;
            last[r] = x.position[r] + N.window - 1 - s0 - 2 * t;
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            const int key = i / 4 * 8 + (i & 1), r = i >> 1 & 1;
            const bool seen = (key < end[r]) & (((key >= first[r]) & (key <= last[r])) | (key < sinks));
            s[i] = seen ? s[i] : UNSEEN;
        }
    }
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) peak[i >> 1 & 1] = FMAX(peak[i >> 1 & 1], s[i]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        peak[r] = FMAX(peak[r], warp_xor(peak[r], 1));
        peak[r] = FMAX(peak[r], warp_xor(peak[r], 2));
        x.keep[r] = x.most[r] == peak[r] ? 1.0f : fast_exp2((x.most[r] - peak[r]) * x.times[r]);
        x.most[r] = peak[r];
        base[r] = peak[r] == UNSEEN ? 0.0f : -peak[r] * x.times[r];
        x.total[r] *= x.keep[r];
    }
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        const float weight = fast_exp2(FMA(s[i], x.times[i >> 1 & 1], base[i >> 1 & 1]));
        s[i] = KIND == CAREFUL && s[i] == UNSEEN ? FROM_BITS(HIDDEN) : weight;
        x.total[i >> 1 & 1] += s[i];
    }
}

// Do all queries of this warp group see all keys of the tile?
FN bool all_seen(int side, int s0, const wgmma_work &w, const attention_numbers &N) {
    const int first = w.before + w.block + side * ROWS, last = first + ROWS - 1;
    if (s0 + KEYS > w.valid || (N.causal && s0 + KEYS - 1 > first)) return false;
    return !N.window || s0 + KEYS <= N.sinks || (last - s0 < N.window && s0 + KEYS - 1 - first < N.window);
}

template <bool F16> FN void pack_weights(uint (&weights)[KEYS / 4], const float (&s)[KEYS / 2]) {
#pragma unroll
    for (int i = 0; i < KEYS / 4; i++) weights[i] = F16 ? pack_f16(s[2 * i], s[2 * i + 1]) : pack_bf16(s[2 * i], s[2 * i + 1]);
}

template <int N> FN void scale_sums(float (&acc)[N], const float *keep) {
#pragma unroll
    for (int i = 0; i < N; i++) acc[i] *= keep[i >> 1 & 1];
}

// All tiles of a warp group, from the `turn`-th of the ring on.
template <int D, bool F16>
FN void attend(wgmma_tiles<D> &tiles, float (&acc)[D / 2], softmax_rows &x, int side, const wgmma_work &w,
               const attention_numbers &N) {
    float s[KEYS / 2];
    uint weights[KEYS / 4];
    int s0 = next_tile(w, 0), turn = 0;
    if (s0 >= w.end) return;
    if (side == 1) arrive_of(1, 256); // the first turn is the other's
    barrier_of(1 + side, 256);
    wait_for(tiles, 0, 0);
    multiply_keys<D, F16>(s, tiles, side, 0);
    if (side == 0 || next_tile(w, s0 + KEYS) < w.end) arrive_of(2 - side, 256);
    wgmma_wait<0>();
    wgmma_done(s);
    release(tiles, 0, 0);
    if (all_seen(side, s0, w, N))
        weigh<PLAIN>(s, x, s0, w, N);
    else
        weigh<MASKED>(s, x, s0, w, N);
    pack_weights<F16>(weights, s);
    for (s0 = next_tile(w, s0 + KEYS); s0 < w.end; s0 = next_tile(w, s0 + KEYS), turn++) {
        barrier_of(1 + side, 256);
        wait_for(tiles, 0, turn + 1);
        multiply_keys<D, F16>(s, tiles, side, (turn + 1) % tiles.STAGES);
        wait_for(tiles, 1, turn);
        multiply_values<D, F16>(acc, weights, tiles, turn % tiles.STAGES);
        if (side == 0 || next_tile(w, s0 + KEYS) < w.end) arrive_of(2 - side, 256);
        wgmma_wait<1>();
        wgmma_done(s);
        release(tiles, 0, turn + 1);
        if (all_seen(side, s0, w, N))
            weigh<PLAIN>(s, x, s0, w, N);
        else
            weigh<MASKED>(s, x, s0, w, N);
        wgmma_wait<0>();
        wgmma_done(acc);
        release(tiles, 1, turn);
        scale_sums(acc, x.keep);
        pack_weights<F16>(weights, s);
    }
    wait_for(tiles, 1, turn);
    multiply_values<D, F16>(acc, weights, tiles, turn % tiles.STAGES);
    wgmma_wait<0>();
    wgmma_done(acc);
    release(tiles, 1, turn);
}

// Is a value of the tile not finite? Each warp looks at all of them.
template <int D, bool F16> FN bool odd_tile(const half_word *tile) {
    const uint infinity = F16 ? 0x7c007c00u : 0x7f807f80u;
    uint odd = 0;
    for (int i = WARP_LANE; i < KEYS * D / 2; i += 32) {
        uint h = ((const uint *)tile)[i] & infinity;
        odd |= (uint)((h & 0xffff0000u) == (infinity & 0xffff0000u)) | (uint)((h & 0xffffu) == (infinity & 0xffffu));
    }
    return warp_any(odd != 0);
}

// acc += the weights of seen keys times their values, key by key.
template <int D, bool F16> FN void add_values(float (&acc)[D / 2], const float (&s)[KEYS / 2], const half_word *tile) {
    const int lane = WARP_LANE, t = lane & 3;
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll 1
        for (int owner = 0; owner < 4; owner++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int key = n * 8 + 2 * owner + j;
                float weight[2];
#pragma unroll
                for (int r = 0; r < 2; r++) weight[r] = warp_from(s[4 * n + 2 * r + j], (lane & ~3) | owner);
#pragma unroll
                for (int i = 0; i < D / 2; i++) {
                    const int column = i / 4 * 8 + 2 * t + (i & 1);
                    const uint h = tile[column / 64 * KEYS * 64 + key * 64 + ((column % 64) ^ (key & 7) * 8)];
                    const float weighed = weight[i >> 1 & 1];
                    if (BITS_OF(weighed) != HIDDEN) acc[i] = FMA(weighed, F16 ? unpack_f16(h) : FROM_BITS(h << 16), acc[i]);
                }
            }
}

// The same with care for values that are not finite.
template <int D, bool F16>
FN void attend_again(wgmma_tiles<D> &tiles, float (&acc)[D / 2], softmax_rows &x, int side, int turn, const wgmma_work &w,
                     const attention_numbers &N) {
#pragma unroll 1
    for (int s0 = next_tile(w, 0); s0 < w.end; s0 = next_tile(w, s0 + KEYS), turn++) {
        const int stage = turn % tiles.STAGES;
        float s[KEYS / 2];
        wait_for(tiles, 0, turn);
        multiply_keys<D, F16>(s, tiles, side, stage);
        wgmma_wait<0>();
        wgmma_done(s);
        release(tiles, 0, turn);
        weigh<CAREFUL>(s, x, s0, w, N);
        scale_sums(acc, x.keep);
        wait_for(tiles, 1, turn);
        if (odd_tile<D, F16>(tiles.v[stage][0])) {
            add_values<D, F16>(acc, s, tiles.v[stage][0]);
            WARP_BARRIER
        } else {
            uint weights[KEYS / 4];
            pack_weights<F16>(weights, s);
            multiply_values<D, F16>(acc, weights, tiles, stage);
            wgmma_wait<0>();
            wgmma_done(acc);
        }
        release(tiles, 1, turn);
    }
}

template <int D> FN void begin_rows(float (&acc)[D / 2], softmax_rows &x) {
#pragma unroll
    for (int i = 0; i < D / 2; i++) acc[i] = 0.0f;
#pragma unroll
    for (int r = 0; r < 2; r++) x.most[r] = UNSEEN, x.total[r] = 0.0f;
}

template <int D>
FN void write_rows(const float (&acc)[D / 2], softmax_rows &x, float *y, int row, const wgmma_work &w,
                   const attention_numbers &N) {
    const int t = WARP_LANE & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        x.total[r] += warp_xor(x.total[r], 1);
        x.total[r] += warp_xor(x.total[r], 2);
        const int query = row + 8 * r;
        const float inverse = x.total[r] == 0.0f ? 0.0f : 1.0f / x.total[r];
        float *to = y + (long long)w.b * N.y[0] + (long long)query * N.y[1] + w.head * N.dv;
        if (query < N.queries)
#pragma unroll
            for (int i = 0; i < D / 8; i++) {
                const int column = i * 8 + 2 * t;
                const float low = acc[4 * i + 2 * r] * inverse, high = acc[4 * i + 2 * r + 1] * inverse;
                if (N.fast_rows) {
                    if (column < N.dv) *(float2 *)(to + column) = make_float2(low, high);
                } else {
                    if (column < N.dv) to[column] = low;
                    if (column + 1 < N.dv) to[column + 1] = high;
                }
            }
    }
}

template <int D, bool F16>
FN void attention_of_group(wgmma_tiles<D> &tiles, const float *q, const tensor_map *keys, const tensor_map *values,
                           const int *kv_length, float *y, const attention_numbers &N) {
    static_assert(sizeof(wgmma_tiles<D>) + 1024 <= ATTENTION_SHARED(D), "the launch asks for too little");
    const wgmma_work w = work_of(kv_length, N);
    int turns = 0; // tiles of one run
    for (int s = next_tile(w, 0); s < w.end; s = next_tile(w, s + KEYS)) turns++;
    if (LOCAL == 0) {
        for (int i = 0; i < 2; i++)
            for (int stage = 0; stage < tiles.STAGES; stage++) {
                phase_init(&tiles.full[i][stage], 1);
                phase_init(&tiles.empty[i][stage], 8); // warps that multiply
            }
        phase_init(&tiles.last, 1);
        phase_inits_seen();
        tiles.again = 0;
    }
    BARRIER
    if (LOCAL < COPIERS) {
        registers_fewer<40>();
        const int which = WARP_NUMBER;
        const bool mine = which < 2;
        const tensor_map *map = which == 1 ? values : keys;
        if (mine) {
            if (WARP_LANE == 0) map_soon(map);
            copy_tiles(tiles, which, map, w, 0, 0);
        }
        WARP_BARRIER
        BARRIER
        if (mine && tiles.again) copy_tiles(tiles, which, map, w, turns, 1);
    } else {
        registers_more<232>();
        const int side = LOCAL / COPIERS - 1, g = WARP_LANE >> 2, local_row = (WARP_NUMBER & 3) * 16 + g,
                  row = w.block + side * ROWS + local_row;
        float acc[D / 2];
        softmax_rows x;
        round_queries<D, F16>(tiles, q, side, w, N);
        shared_seen_by_products();
        barrier_of(3 + side, 128);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            x.position[r] = w.before + row + 8 * r;
            const float scale = F16 ? tiles.scale[side * ROWS + local_row + 8 * r] : N.scale;
            x.times[r] = N.softcap > 0.0f ? LOG2E : scale * LOG2E;
            x.capped[r] = scale / N.softcap * (2.0f * LOG2E);
        }
        begin_rows<D>(acc, x);
        attend<D, F16>(tiles, acc, x, side, w, N);
        float nothing = 0.0f;
#pragma unroll
        for (int i = 0; i < D / 2; i++) nothing = FMA(acc[i], 0.0f, nothing);
        if (IS_NAN(nothing)) tiles.again = 1;
        BARRIER
        if (tiles.again) {
            begin_rows<D>(acc, x);
            attend_again<D, F16>(tiles, acc, x, side, turns, w, N);
        }
        write_rows<D>(acc, x, y, row, w, N);
    }
}

#define ATTENTION(name, D, F16)                                                                                                \
    HEAD(name, 384)                                                                                                            \
    (const float *__restrict__ q, const __grid_constant__ tensor_map keys, const __grid_constant__ tensor_map values,          \
     const int *__restrict__ n, float *y, const __grid_constant__ attention_numbers N) {                                       \
        DYNAMIC_SHARED(shared)                                                                                                 \
        wgmma_tiles<D> &tiles = *(wgmma_tiles<D> *)(shared + ((0u - shared_address(shared)) & 1023u));                         \
        attention_of_group<D, F16>(tiles, q, &keys, &values, n, y, N);                                                         \
    }
ATTENTION(attention_wgmma_bf16_64, 64, false)
ATTENTION(attention_wgmma_bf16_128, 128, false)
ATTENTION(attention_wgmma_f16_64, 64, true)
ATTENTION(attention_wgmma_f16_128, 128, true)

/* scans.h - what the scans share: where a view stands under the output, and blocks of CPU_LANES channels turned so that each
 * channel has a lane. Lanes beyond the channels hold zeros, and never meet the others. */
#ifndef STRAND_CPU_SCANS_H
#define STRAND_CPU_SCANS_H

#include "cpu.h"
#include "simd.h"

/* The first element of `in` that belongs to the output's tile: axis ia[i] of the input follows axis oa[i] of the output.
 * NULL for an absent input. */
static inline float *scan_at(const strand_plugin_tensor *in, const strand_plugin_tensor *out, int n, const uint32_t ia[],
                             const uint32_t oa[]) {
    if (!in) return NULL;
    float *at = (float *)in->memory.data;
    for (int i = 0; i < n; i++) at += (out->origin[oa[i]] - in->origin[ia[i]]) * in->strides[ia[i]];
    return at;
}

/* [B, L, C] */
static inline float *scan_sequence(const strand_plugin_tensor *in, const strand_plugin_tensor *out) {
    return scan_at(in, out, 3, (const uint32_t[]){0, 1, 2}, (const uint32_t[]){0, 1, 2});
}
/* [B, C, ...] */
static inline float *scan_state(const strand_plugin_tensor *in, const strand_plugin_tensor *out) {
    return scan_at(in, out, 2, (const uint32_t[]){0, 1}, (const uint32_t[]){0, 2});
}
/* [C, ...], along axis `oa` of the output; a whole extent of 1 serves every channel. */
static inline float *scan_channels(const strand_plugin_tensor *in, const strand_plugin_tensor *out, uint32_t oa) {
    if (in && in->whole[0] == 1) return (float *)in->memory.data;
    return scan_at(in, out, 1, (const uint32_t[]){0}, &oa);
}
static inline int64_t scan_channel_stride(const strand_plugin_tensor *in) {
    return in && in->whole[0] != 1 ? in->strides[0] : 0;
}

CPU_INLINE vf scan_load(const float *p, int64_t n) {
    return n == CPU_LANES ? vf_load(p) : vf_load_part(p, n);
}
CPU_INLINE void scan_store(float *p, vf x, int64_t n) {
    if (n == CPU_LANES)
        vf_store(p, x);
    else
        vf_store_part(p, x, n);
}

/* Rows of one channel each: element k of row i stands at rows[i * stride + k / width * step + k % width]. Real states have
 * width and step 1, complex ones width 2. */
typedef struct scan_rows {
    float *rows;
    int64_t stride, step, width;
} scan_rows;

static inline int64_t scan_row_at(const scan_rows *r, int64_t channel, int64_t k) {
    return channel * r->stride + k / r->width * r->step + k % r->width;
}

/* to[k * CPU_LANES + i] = element k of row first + i, of n <= CPU_LANES rows; without rows it is `absent`. */
static inline void scan_turn(float *to, const scan_rows *r, int64_t first, int64_t n, int64_t elements, float absent) {
    int64_t k = 0;
    if (!r->rows) {
        for (; k < elements; k++) vf_store(to + k * CPU_LANES, vf_set(absent));
        return;
    }
    for (; n == CPU_LANES && r->step == r->width && k + CPU_LANES <= elements; k += CPU_LANES) {
        vf square[CPU_LANES];
        for (int i = 0; i < CPU_LANES; i++) square[i] = vf_load(r->rows + (first + i) * r->stride + k);
        vf_transpose(square);
        for (int i = 0; i < CPU_LANES; i++) vf_store(to + (k + i) * CPU_LANES, square[i]);
    }
    for (; k < elements; k++) {
        float lanes[CPU_LANES] = {0};
        for (int64_t i = 0; i < n; i++) lanes[i] = r->rows[scan_row_at(r, first + i, k)];
        memcpy(to + k * CPU_LANES, lanes, sizeof lanes);
    }
}

/* The way back. */
static inline void scan_turn_back(const scan_rows *r, const float *from, int64_t first, int64_t n, int64_t elements) {
    int64_t k = 0;
    for (; n == CPU_LANES && r->step == r->width && k + CPU_LANES <= elements; k += CPU_LANES) {
        vf square[CPU_LANES];
        for (int i = 0; i < CPU_LANES; i++) square[i] = vf_load(from + (k + i) * CPU_LANES);
        vf_transpose(square);
        for (int i = 0; i < CPU_LANES; i++) vf_store(r->rows + (first + i) * r->stride + k, square[i]);
    }
    for (; k < elements; k++)
        for (int64_t i = 0; i < n; i++) r->rows[scan_row_at(r, first + i, k)] = from[k * CPU_LANES + i];
}

/* Elements k to k + n of row `channel`, wherever they stand. */
CPU_INLINE vf scan_row_load(const scan_rows *r, int64_t channel, int64_t k, int64_t n) {
    if (r->step == r->width) return scan_load(r->rows + channel * r->stride + k, n);
    float lanes[CPU_LANES] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i] = r->rows[scan_row_at(r, channel, k + i)];
    return vf_load(lanes);
}
CPU_INLINE void scan_row_store(const scan_rows *r, int64_t channel, int64_t k, vf x, int64_t n) {
    if (r->step == r->width) {
        scan_store(r->rows + channel * r->stride + k, x, n);
        return;
    }
    float lanes[CPU_LANES];
    vf_store(lanes, x);
    for (int64_t i = 0; i < n; i++) r->rows[scan_row_at(r, channel, k + i)] = lanes[i];
}

/* Pairs in neighbouring lanes: the other of each pair, the first twice, the second twice. */
CPU_INLINE vf vf_swap_pairs(vf x) {
#if CPU_LANES == 16
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif CPU_LANES == 8
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    return __builtin_shufflevector(x, x, 1, 0, 3, 2);
#endif
}
CPU_INLINE vf vf_even_twice(vf x) {
#if CPU_LANES == 16
    return __builtin_shufflevector(x, x, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
#elif CPU_LANES == 8
    return __builtin_shufflevector(x, x, 0, 0, 2, 2, 4, 4, 6, 6);
#else
    return __builtin_shufflevector(x, x, 0, 0, 2, 2);
#endif
}
CPU_INLINE vf vf_odd_twice(vf x) {
#if CPU_LANES == 16
    return __builtin_shufflevector(x, x, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15);
#elif CPU_LANES == 8
    return __builtin_shufflevector(x, x, 1, 1, 3, 3, 5, 5, 7, 7);
#else
    return __builtin_shufflevector(x, x, 1, 1, 3, 3);
#endif
}
/* Changes the sign of every first, or every second, of a pair. */
CPU_INLINE vf vf_negate_even(vf x) {
    return (vf)((vul)x ^ (uint64_t)0x80000000u);
}
CPU_INLINE vf vf_negate_odd(vf x) {
    return (vf)((vul)x ^ (uint64_t)0x8000000000000000u);
}

/* How many blocks of channels make a piece of work of some 20 us, given the vector operations of one block. */
static inline int64_t scan_blocks_a_piece(double operations) {
    double blocks = 60000 / (operations + 1);
    return blocks < 1 ? 1 : blocks > 4096 ? 4096 : (int64_t)blocks;
}

#endif

/* matmul_kernel.h - the innermost loops of matrix products: packing of panels and the register block.
 *
 * A panel holds PANEL_ROWS rows of A (or PANEL_COLUMNS columns of B) side by side for each k: panel[k * width + i], zero where
 * the matrix has ended. Invariant: every element of the result is one chain of vf_fma over k in order, begun at zero; which
 * register, panel or block it fell into does not enter. */
#ifndef STRAND_CPU_MATMUL_KERNEL_H
#define STRAND_CPU_MATMUL_KERNEL_H

#include "half.h"
#include "matmul.h"
#include "simd.h"

#if CPU_LANES == 16
#define PANEL_ROWS    12
#define PANEL_VECTORS 2
#elif CPU_LANES == 8
#define PANEL_ROWS    6
#define PANEL_VECTORS 2
#elif defined(__aarch64__)
#define PANEL_ROWS    8
#define PANEL_VECTORS 3
#else
#define PANEL_ROWS    4
#define PANEL_VECTORS 3
#endif
#define PANEL_COLUMNS (PANEL_VECTORS * CPU_LANES)

/* ---- packing ---- */

CPU_INLINE float load_one(const char *p, int64_t i, uint32_t dtype) {
    if (dtype == STRAND_PLUGIN_F32) return ((const float *)(const void *)p)[i];
    uint16_t h = ((const uint16_t *)(const void *)p)[i];
    return dtype == STRAND_PLUGIN_F16 ? cpu_f16_to_f32(h) : cpu_bf16_to_f32(h);
}

/* n <= CPU_LANES elements from p[i] on, zeros after them. */
CPU_INLINE vf load_some(const char *p, int64_t i, int64_t n, uint32_t dtype) {
    if (dtype == STRAND_PLUGIN_F32 && n == CPU_LANES) return vf_load((const float *)(const void *)p + i);
    float lanes[CPU_LANES] = {0};
    if (n == CPU_LANES)
        for (int e = 0; e < CPU_LANES; e++) lanes[e] = load_one(p, i + e, dtype);
    else
        for (int64_t e = 0; e < n; e++) lanes[e] = load_one(p, i + e, dtype);
    return vf_load(lanes);
}

/* k is dense: squares are transposed. A panel narrower than a vector is stored in ascending order, each store covering what
 * the one before it wrote too far; the last one needs CPU_LANES - width floats of slack. */
CPU_INLINE void pack_dense_k(float *panel, int width, const char *p, uint32_t dtype, int64_t outer, int64_t count,
                             int64_t depth) {
    for (int64_t k = 0; k < depth; k += CPU_LANES) {
        int64_t n = depth - k < CPU_LANES ? depth - k : CPU_LANES;
        for (int group = 0; group < width; group += CPU_LANES) {
            vf square[CPU_LANES];
            float *to = panel + k * width + group;
            if (group + CPU_LANES <= count && n == CPU_LANES) {
#pragma GCC unroll 16
                for (int i = 0; i < CPU_LANES; i++) square[i] = load_some(p, (group + i) * outer + k, CPU_LANES, dtype);
                vf_transpose(square);
#pragma GCC unroll 16
                for (int i = 0; i < CPU_LANES; i++) vf_store(to + i * width, square[i]);
                continue;
            }
#pragma GCC unroll 16
            for (int i = 0; i < CPU_LANES; i++) {
                square[i] = group + i < count ? load_some(p, (group + i) * outer + k, n, dtype) : vf_zero();
            }
            vf_transpose(square);
            float lanes[CPU_LANES * CPU_LANES];
#pragma GCC unroll 16
            for (int i = 0; i < CPU_LANES; i++) vf_store(lanes + i * CPU_LANES, square[i]);
            for (int64_t i = 0; i < n; i++) vf_store(to + i * width, vf_load(lanes + i * CPU_LANES));
        }
    }
}

/* The rows (or columns) of the panel are dense: they are copied. */
CPU_INLINE void pack_dense_outer(float *panel, int width, const char *p, uint32_t dtype, int64_t inner, int64_t count,
                                 int64_t depth) {
    for (int64_t k = 0; k < depth; k++, panel += width)
        if (count >= width)
            for (int i = 0; i < width; i++) panel[i] = load_one(p, k * inner + i, dtype);
        else
            for (int i = 0; i < width; i++) panel[i] = i < count ? load_one(p, k * inner + i, dtype) : 0;
}

CPU_INLINE void pack_typed(float *panel, int width, const cpu_factor *f, uint32_t dtype, int64_t first, int64_t count,
                           int64_t k, int64_t depth) {
    const char *p = f->data + (first * f->outer + k * f->inner) * cpu_element_bytes(dtype);
    if (f->inner == 1)
        pack_dense_k(panel, width, p, dtype, f->outer, count, depth);
    else
        pack_dense_outer(panel, width, p, dtype, f->inner, count, depth);
}

/* Packs `count` rows or columns from `first` on, for k in [k, k + depth), as panels one after the other. */
CPU_INLINE void pack(float *to, int width, const cpu_factor *f, int64_t first, int64_t count, int64_t k, int64_t depth) {
    for (int64_t i = 0; i < count; i += width, to += width * depth) {
        if (f->dtype == STRAND_PLUGIN_F32) pack_typed(to, width, f, STRAND_PLUGIN_F32, first + i, count - i, k, depth);
        if (f->dtype == STRAND_PLUGIN_F16) pack_typed(to, width, f, STRAND_PLUGIN_F16, first + i, count - i, k, depth);
        if (f->dtype == STRAND_PLUGIN_BF16) pack_typed(to, width, f, STRAND_PLUGIN_BF16, first + i, count - i, k, depth);
    }
}

/* ---- the register block ---- */

/* rows x vectors (constants) of the result over `depth` products, going on from what c holds unless `fresh`. */
CPU_INLINE void block(int rows, int vectors, const float *a, const float *b, int64_t depth, float *c, int64_t c_stride,
                      bool fresh) {
    vf sum[PANEL_ROWS][PANEL_VECTORS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = fresh ? vf_zero() : vf_load(c + r * c_stride + v * CPU_LANES);
#pragma GCC unroll 1
    for (int64_t k = 0; k < depth; k++, a += PANEL_ROWS, b += PANEL_COLUMNS) {
        vf right[PANEL_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) right[v] = vf_load(b + v * CPU_LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf left = vf_set(a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(left, right[v], sum[r][v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) vf_store(c + r * c_stride + v * CPU_LANES, sum[r][v]);
}

typedef void block_fn(const float *a, const float *b, int64_t depth, float *c, int64_t c_stride, bool fresh);
#define BLOCK(rows, vectors)                                                                                                   \
    static void block_##rows##_##vectors(const float *a, const float *b, int64_t depth, float *c, int64_t c_stride,            \
                                         bool fresh) {                                                                         \
        if (fresh)                                                                                                             \
            block(rows, vectors, a, b, depth, c, c_stride, true);                                                              \
        else                                                                                                                   \
            block(rows, vectors, a, b, depth, c, c_stride, false);                                                             \
    }
#if PANEL_VECTORS == 3
#define BLOCKS(rows) BLOCK(rows, 1) BLOCK(rows, 2) BLOCK(rows, 3)
#define NAMES(rows)  {block_##rows##_1, block_##rows##_2, block_##rows##_3},
#else
#define BLOCKS(rows) BLOCK(rows, 1) BLOCK(rows, 2)
#define NAMES(rows)  {block_##rows##_1, block_##rows##_2},
#endif
#if PANEL_ROWS == 12
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif PANEL_ROWS == 8
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif PANEL_ROWS == 6
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define EACH(X) X(1) X(2) X(3) X(4)
#endif
EACH(BLOCKS)
static block_fn *const blocks[PANEL_ROWS][PANEL_VECTORS] = {EACH(NAMES)};

#endif

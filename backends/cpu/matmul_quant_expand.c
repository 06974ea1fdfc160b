/* matmul_quant_expand.c - products with the quantised types that have no integer kernels (Q4_1, Q5_0, Q5_1, Q5_K): the
 * weights stay the blocks that they are, each row is made floats in pieces of PIECE elements as it is read, and multiplied
 * with the activations as they are. A sum's order depends on the row alone, so that its bytes do not depend on what is
 * computed beside it. */
#include "matmul_quant.h"

#include "rows.h"
#include "simd.h"

#define PIECE 1024

/* "Rounded" rows are plain floats here. */
static void keep_row(uint32_t dtype, const float *x, int64_t k, char *rounded) {
    (void)dtype;
    memcpy(rounded, x, (size_t)k * sizeof *x);
}

/* Four sums side by side: enough for the multiply-adds in flight. */
static float dot(const float *x, const float *y, int64_t n) {
    vf sum[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    float parts[CPU_LANES], total = 0;
    for (int64_t i = 0; i < n; i += 4 * CPU_LANES)
        for (int64_t s = 0; s < 4 && i + s * CPU_LANES < n; s++) /* n is a multiple of 32 */
            sum[s] = vf_fma(vf_load(x + i + s * CPU_LANES), vf_load(y + i + s * CPU_LANES), sum[s]);
    vf_store(parts, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (int i = 0; i < CPU_LANES; i++) total += parts[i];
    return total;
}

static void columns(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                    int64_t rows, void *panel) {
    float *y = panel;
    for (int64_t i = 0; i < width; i++) {
        for (int64_t r = 0; r < rows; r++) c[r][i] = 0;
        for (int64_t at = 0; at < w->k; at += PIECE) {
            int64_t n = cpu_min(PIECE, w->k - at);
            cpu_dequantise(w->dtype, w->data + (column + i) * w->stride, at, n, y);
            for (int64_t r = 0; r < rows; r++) c[r][i] += dot((const float *)(const void *)rounded[r] + at, y, n);
        }
    }
}

const cpu_quant_kernel cpu_quant_expand = {32 * sizeof(float), PIECE * sizeof(float), keep_row, columns};

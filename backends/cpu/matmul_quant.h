/* matmul_quant.h - products with quantised weights [N, K]: rows of activations are rounded to Q8 blocks of 32 once, then
 * multiplied with the packed weights in integers, block by block. For MATMUL and GROUPED_MATMUL.
 *
 * One element of the result is a sum over its blocks in order, each block one exact integer dot product (of Q6_K with the whole
 * scales of its halves in it) and one fused multiply-add with the product of the two scales. So its bytes depend on its row
 * and its column alone, however many rows and columns are computed together. */
#ifndef STRAND_CPU_MATMUL_QUANT_H
#define STRAND_CPU_MATMUL_QUANT_H

#include "quant.h"

typedef struct cpu_quant_weights {
    uint32_t dtype;
    const uint8_t *data; /* of row 0, which makes column 0 of the result */
    int64_t stride;      /* bytes from row to row */
    int64_t n, k;
} cpu_quant_weights;

/* A set of kernels; which one runs is decided by device->features. */
typedef struct cpu_quant_kernel {
    int64_t round_bytes; /* of a rounded block of 32 activations */
    int64_t panel_bytes; /* working memory of `columns` */
    /* Rounds k floats for weights of this type. */
    void (*round)(uint32_t dtype, const float *x, int64_t k, char *rounded);
    /* c[r][column - from ...] = the product of rounded row r with weights [column, column + width); c points at column
     * `column`. */
    void (*columns)(const cpu_quant_weights *w, int64_t column, int64_t width, const char *const *rounded, float *const *c,
                    int64_t rows, void *panel);
} cpu_quant_kernel;

extern const cpu_quant_kernel cpu_quant_plain, cpu_quant_vnni, cpu_quant_expand;
/* For weights of this type. */
const cpu_quant_kernel *cpu_quant_kernels(const cpu_device *device, uint32_t dtype);

/* Bytes of one rounded row of k, a multiple of CPU_ALIGN. */
int64_t cpu_quant_row_bytes(const cpu_quant_kernel *kernel, int64_t k);
/* Rounds a row of F32, F16 or BF16. */
void cpu_quant_round(const cpu_quant_kernel *kernel, uint32_t dtype, const void *x, uint32_t x_dtype, int64_t k, char *rounded);

/* How many columns make a piece of work for `rows` rows: whole register blocks, by the shape alone. */
int64_t cpu_quant_width(const cpu_quant_weights *w, int64_t rows);

/* MATMUL with a quantised b. */
uint64_t cpu_matmul_quant_scratch(const cpu_device *device, const strand_plugin_node *node);
strand_plugin_status cpu_matmul_quant(const cpu_device *device, const strand_plugin_node *node, void *scratch);

#endif

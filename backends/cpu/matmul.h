/* matmul.h - matrix products by blocks, for MATMUL and for the groups that contain one. */
#ifndef STRAND_CPU_MATMUL_H
#define STRAND_CPU_MATMUL_H

#include "cpu.h"

/* One of the two factors: element (i, k) stands at data[i * outer + k * inner]; outer or inner is 1. `i` is a row of A or a
 * column of B. */
typedef struct cpu_factor {
    const char *data;
    uint32_t dtype;
    int64_t outer, inner;
} cpu_factor;

typedef struct cpu_product {
    cpu_factor a, b;
    int64_t m, n, k;
    int64_t entries, c_stride; /* products of this size that the node is; floats from row to row of its result */
    uint32_t bias_kind, activation;
    float alpha, beta; /* of the activation */
    const float *bias; /* of row 0 or column 0 */
    int64_t bias_stride;
    const float *packed; /* the whole of B as cpu_product_pack left it; NULL: every block packs what it needs */
    bool bf16;           /* factors are rounded to BF16 */
} cpu_product;

/* The product of one node without its batch axes, and where batch entry i begins. */
void cpu_product_of(const cpu_device *device, const strand_plugin_node *node, cpu_product *p);
/* Makes one product of all entries: those that share their second factor, and whose rows follow each other evenly (one token
 * of each of several texts). Weights are then read once. False, changing nothing: they are several. */
bool cpu_product_join(const strand_plugin_node *node, cpu_product *p);
void cpu_product_batch(const strand_plugin_node *node, int64_t entry, cpu_product *p);

/* Where the second factor begins when it is shared by all batch entries. */
const char *cpu_product_shared(const strand_plugin_node *node);

/* Rows of all batch entries, by which working memory is counted: the entries of a piece of a node may be one product where
 * those of the whole are not, and a piece has no more memory than the whole. */
int64_t cpu_product_rows(const cpu_product *p);

/* Floats of working memory that cpu_product_block needs for blocks of at most m x n. Grows with every argument. */
int64_t cpu_product_scratch(int64_t m, int64_t n, int64_t k);

/* c[i][j] = act(sum over k + bias) for rows [row, row + m) and columns [column, column + n); c has c_stride floats a row. */
void cpu_product_block(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                       float *scratch);

/* B can be packed once for all blocks of rows, in as many pieces of work as cpu_product_pack_pieces says (0: as much memory
 * as that takes is not well spent), into cpu_product_pack_floats floats. Columns of a block then begin at multiples of
 * CPU_PRODUCT_ALIGN. The bytes of the result are the same. */
#define CPU_PRODUCT_ALIGN 96
int64_t cpu_product_pack_pieces(const cpu_product *p);
int64_t cpu_product_pack_floats(const cpu_product *p);
void cpu_product_pack(const cpu_product *p, int64_t piece, float *packed);
void cpu_product_pack_f32(const cpu_product *p, int64_t piece, float *packed);
void cpu_product_pack_bf16(const cpu_product *p, int64_t piece, float *packed);

/* cpu_product_block without bias and activation, in F32 or in BF16. */
void cpu_product_f32(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                     float *scratch);
void cpu_product_bf16(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                      float *scratch);

/* How rows and columns are cut into pieces of work; any cut gives the same bytes. */
#define CPU_PRODUCT_WIDTH 768 /* columns of a piece, at most */
typedef struct cpu_product_cut {
    int64_t height, width, down, across, count; /* count: of all batch entries */
} cpu_product_cut;

cpu_product_cut cpu_product_pieces(const cpu_product *p, int64_t most_height, int32_t workers);

#endif

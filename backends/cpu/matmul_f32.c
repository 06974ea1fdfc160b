/* matmul_f32.c - sums of matrix products in F32: a unit of matmul_kernel.h is one number, every sum a chain of
 * multiply-adds. */
#define UNIT_PAIRS 0
#include "matmul_kernel.h"

int64_t cpu_product_scratch(int64_t m, int64_t n, int64_t k) {
    return scratch_floats(m, n, k); /* enough for pairs too, which have half as many units */
}

void cpu_product_f32(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                     float *scratch) {
    sums(p, row, m, column, n, c, c_stride, scratch);
}

void cpu_product_pack_f32(const cpu_product *p, int64_t piece, float *packed) {
    pack_all(p, piece, packed);
}

/* matmul_bf16.c - sums of matrix products in BF16 where the processor has AVX512-BF16: factors are rounded to BF16 (to nearest
 * even, denormal numbers to zero), a unit of matmul_kernel.h is a pair along k, every sum a chain of VDPBF16PS in F32.
 *
 * In the AVX-512 module for every processor, run where device->features has CPU_AVX512_BF16 (cpu_product_of asks). */
#include "cpu.h"

#if defined(__AVX512F__)
#define UNIT_PAIRS 1
#include "matmul_kernel.h"

TARGET void cpu_product_bf16(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c,
                             int64_t c_stride, float *scratch) {
    sums(p, row, m, column, n, c, c_stride, scratch);
}

TARGET void cpu_product_pack_bf16(const cpu_product *p, int64_t piece, float *packed) {
    pack_all(p, piece, packed);
}
#else
#include "matmul.h"

void cpu_product_bf16(const cpu_product *p, int64_t row, int64_t m, int64_t column, int64_t n, float *c, int64_t c_stride,
                      float *scratch) {
    cpu_product_f32(p, row, m, column, n, c, c_stride, scratch);
}

void cpu_product_pack_bf16(const cpu_product *p, int64_t piece, float *packed) {
    cpu_product_pack_f32(p, piece, packed);
}
#endif

/* matmul_quant_plain.c - quantised products with what every processor of the module's level has: 16-bit multiplications. */
#include "matmul_quant.h"

#define QUANT_BYTES 0
#define QUANT_TARGET
#define QUANT_NAME cpu_quant_plain
#include "matmul_quant_kernel.h"

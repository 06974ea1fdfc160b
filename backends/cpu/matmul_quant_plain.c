/* matmul_quant_plain.c - quantised products with what every processor of the module's level has: multiplications of bytes
 * and of 16-bit numbers. */
#include "matmul_quant.h"

#define QUANT_VNNI 0
#define QUANT_TARGET
#define QUANT_NAME cpu_quant_plain
#include "matmul_quant_kernel.h"

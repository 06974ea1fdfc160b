/* matmul_quant_vnni.c - quantised products with AVX512-VNNI, called only where device->features says that it is there. */
#include "matmul_quant.h"

#if defined(__AVX512F__)
#include <immintrin.h>

#define QUANT_VNNI 1
#define QUANT_TARGET CPU_TARGET_VNNI
#define QUANT_NAME cpu_quant_vnni
#include "matmul_quant_kernel.h"
#else
typedef int cpu_no_vnni; /* a translation unit is never empty */
#endif

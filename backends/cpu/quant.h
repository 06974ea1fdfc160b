/* quant.h - the quantised element types: their blocks, and one block as floats. The layouts are those of GGUF files
 * (strand_ops.h); blocks stand at even addresses only, so everything wider than a byte is read with memcpy. */
#ifndef STRAND_CPU_QUANT_H
#define STRAND_CPU_QUANT_H

#include "cpu.h"
#include "half.h"

#define CPU_QUANT_BLOCK 256 /* the longest block */

static inline bool cpu_is_quantised(uint32_t dtype) {
    return dtype >= STRAND_PLUGIN_Q8_0 && dtype <= STRAND_PLUGIN_Q5_K;
}

/* Elements and bytes of a block; 1 and the element's size for the plain types. */
static inline int64_t cpu_block_elements(uint32_t dtype) {
    if (!cpu_is_quantised(dtype)) return 1;
    return dtype == STRAND_PLUGIN_Q4_K || dtype == STRAND_PLUGIN_Q6_K || dtype == STRAND_PLUGIN_Q5_K ? 256 : 32;
}
static inline int64_t cpu_block_bytes(uint32_t dtype) {
    static const int64_t bytes[] = {34, 18, 144, 210, 20, 22, 24, 176};
    return cpu_is_quantised(dtype) ? bytes[dtype - STRAND_PLUGIN_Q8_0] : cpu_element_bytes(dtype);
}

/* Bytes from the first of `elements` elements, whole blocks, to behind the last. Strides of any type go through this. */
static inline int64_t cpu_span(uint32_t dtype, int64_t elements) {
    return elements / cpu_block_elements(dtype) * cpu_block_bytes(dtype);
}

static inline float cpu_half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return cpu_f16_to_f32(h);
}

/* Scale and minimum of sub-block j of Q4_K: six bits each, packed in 12 bytes. */
static inline void cpu_q4_k_scale(const uint8_t s[12], int j, int *scale, int *minimum) {
    *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    *minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

/* y = the elements of one block. */
void cpu_dequantise_block(uint32_t dtype, const uint8_t *block, float y[CPU_QUANT_BLOCK]);

/* y = elements [first, first + n) of a row that begins at `row`; first may stand inside a block. */
void cpu_dequantise(uint32_t dtype, const void *row, int64_t first, int64_t n, float *y);

#endif

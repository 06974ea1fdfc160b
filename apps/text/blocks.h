/* blocks.h - floats to the quantised blocks of GGUF files (ggml-org/ggml, docs/gguf.md; the layouts are in strand_ops.h). */
#ifndef STRAND_APP_BLOCKS_H
#define STRAND_APP_BLOCKS_H

#include "strand.h"

/* Elements of a block and its bytes; 0 for a type that is not made here. */
int64_t block_elements(strand_dtype type);
int64_t block_bytes(strand_dtype type);
/* n elements, whole blocks, to `out`. NaN counts as 0. */
void block_quantise(strand_dtype type, const float *x, int64_t n, unsigned char *out);
/* F32 to F16, to the nearest, ties to even; and back. */
uint16_t half_from(float x);
float half_to(uint16_t h);

#endif

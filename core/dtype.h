/* dtype.h - element types by blocks: how many elements stand together, and in how many bytes. Plain types are blocks of one;
 * the quantised ones have blocks along the last axis, whose extent, strides and origins are whole numbers of blocks. */
#ifndef STRAND_CORE_DTYPE_H
#define STRAND_CORE_DTYPE_H

#include "checked.h"
#include "strand.h"

typedef struct dtype_block {
    int64_t elements;
    uint64_t bytes; /* 0: an unknown type */
} dtype_block;

static inline bool dtype_quantised(strand_dtype t) {
    return t >= STRAND_Q8_0 && t <= STRAND_Q5_K;
}

static inline dtype_block dtype_block_of(strand_dtype t) {
    switch (t) {
    case STRAND_Q8_0: return (dtype_block){32, 34};
    case STRAND_Q4_0: return (dtype_block){32, 18};
    case STRAND_Q4_K: return (dtype_block){256, 144};
    case STRAND_Q6_K: return (dtype_block){256, 210};
    case STRAND_Q4_1: return (dtype_block){32, 20};
    case STRAND_Q5_0: return (dtype_block){32, 22};
    case STRAND_Q5_1: return (dtype_block){32, 24};
    case STRAND_Q5_K: return (dtype_block){256, 176};
    default: return (dtype_block){1, strand_dtype_size(t)};
    }
}

/* Bytes of `elements` elements in order, which are whole blocks; false when they are not, or do not fit. */
static inline bool dtype_bytes(strand_dtype t, uint64_t elements, uint64_t *bytes) {
    dtype_block b = dtype_block_of(t);
    return elements % (uint64_t)b.elements == 0 && checked_mul(elements / (uint64_t)b.elements, b.bytes, bytes);
}

#endif

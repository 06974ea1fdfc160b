/* checked.h - arithmetic on sizes that come from files: every product and sum says whether it fits. */
#ifndef STRAND_CORE_CHECKED_H
#define STRAND_CORE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* Each returns false, leaving *out alone, when the result does not fit. */
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) return false;
    *out = a + b;
    return true;
}

static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out) {
    if (a != 0 && b > UINT64_MAX / a) return false;
    *out = a * b;
    return true;
}

/* Is [offset, offset + bytes) inside [0, total)? */
static inline bool checked_range(uint64_t offset, uint64_t bytes, uint64_t total) {
    return offset <= total && bytes <= total - offset;
}

/* Rounds up to a power of two; false on overflow. */
static inline bool checked_align(uint64_t value, uint64_t align, uint64_t *out) {
    uint64_t sum;
    if (!checked_add(value, align - 1, &sum)) return false;
    *out = sum & ~(align - 1);
    return true;
}

#endif

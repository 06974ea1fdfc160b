/* plan.h - offsets for blocks of memory with known lifetimes: a pure function, no I/O, no global state.
 *
 * A block is alive at every step of [first, last]. Two blocks that are alive at one step must not overlap. */
#ifndef STRAND_CORE_PLAN_H
#define STRAND_CORE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct plan_block {
    uint64_t bytes;
    uint64_t align; /* a power of two */
    uint32_t first, last;
} plan_block;

typedef struct plan_result {
    uint64_t peak;        /* bytes that the arena must have */
    uint64_t lower_bound; /* the most bytes alive at one step */
    uint32_t peak_step;   /* the step of the lower bound */
} plan_result;

/* Bytes of working memory that plan_offsets needs for n blocks over `steps` steps. */
size_t plan_work_bytes(size_t n, uint32_t steps);
/* Places the blocks: several orders are tried, the smallest kept. `offsets` gets n values. `work` is plan_work_bytes(n, steps)
 * bytes aligned to 8. Every last must be below `steps`. No block lies across a multiple of `page` (0: anywhere), which is no
 * less than any block and a multiple of every alignment. Returns false when a sum of sizes overflows. */
bool plan_offsets(const plan_block *blocks, size_t n, uint32_t steps, uint64_t page, void *work, uint64_t *offsets,
                  plan_result *result);
/* Proves a placement: aligned, inside `peak` and a page, and no two blocks that are alive together overlap. On failure names
 * two blocks. */
bool plan_verify(const plan_block *blocks, size_t n, uint64_t page, const uint64_t *offsets, uint64_t peak, size_t *a,
                 size_t *b);

#endif

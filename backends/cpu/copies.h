/* copies.h - moving elements between two strided layouts: what all operators on shapes come down to. */
#ifndef STRAND_CPU_COPIES_H
#define STRAND_CPU_COPIES_H

#include "cpu.h"

#define CPU_COPY_LOOPS 5

/* For all i: to[sum i_k to_step_k] = from[sum i_k from_step_k], i_k < n_k; elements of 2, 4 or 8 bytes, steps in elements. A
 * step of 0 repeats, a negative one runs backwards. Unused loops have n 1. */
typedef struct cpu_copy {
    char *to;
    const char *from;
    int64_t bytes;
    int64_t n[CPU_COPY_LOOPS], to_step[CPU_COPY_LOOPS], from_step[CPU_COPY_LOOPS];
} cpu_copy;

/* Does all of them, at most STRAND_PLUGIN_MAX_INPUTS; where they write must not overlap. */
void cpu_copies(const cpu_device *device, const cpu_copy *copies, int count);

#endif

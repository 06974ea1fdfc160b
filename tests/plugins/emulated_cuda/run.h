/* run.h - runs one kernel on this machine. */
#ifndef STRAND_EMULATED_CUDA_RUN_H
#define STRAND_EMULATED_CUDA_RUN_H

#include <cstddef>

/* The sizes of a kernel's arguments, ended by 0; NULL where there is no such kernel. */
const size_t *emulated_arguments(const char *name);
/* False when there is no such kernel, its items do not come to its barriers together, or it writes beyond its `shared` bytes of memory. *order: the state of the sequence that orders
 * the items. One call at a time. */
bool emulated_run(const char *name, const unsigned grid[3], unsigned group, unsigned shared, void **args, unsigned long *order);

/* Bytes of shared memory that a launch may ask for at most. */
constexpr unsigned emulated_most_shared = 232448;

#endif

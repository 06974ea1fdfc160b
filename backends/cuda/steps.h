/* steps.h - one token's nodes, which are put together while a graph is recorded (steps.c), and what it takes of scans.c. */
#ifndef STRAND_CUDA_STEPS_H
#define STRAND_CUDA_STEPS_H

#include "driver_cuda.h"
#include "kernels/numbers.h"

/* What a selective scan tells its kernel. */
typedef struct cuda_scan {
    scan_numbers x;
    CUdeviceptr u, dt, a, b, c, d, z, bias, state, y, after;
} cuda_scan;
void cuda_scan_of(const strand_plugin_node *node, bool few, cuda_scan *s);
/* Would the kernels of steps take it? */
bool cuda_scan_takes(const strand_plugin_node *node);

#endif

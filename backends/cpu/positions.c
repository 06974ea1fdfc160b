/* positions.c - POSITIONS: the grid of HyenaDNA's filter. The angles are rounded to F32 step by step, as the operator says (the
 * published grids were made so, and a filter trained on them amplifies the difference a thousandfold); the rest is double
 * precision, rounded once. */
#include "kernels.h"

#include <math.h>

#define BLOCK 1024 /* rows that one piece of work makes */

static double feature(const strand_op_positions *p, int64_t i, int64_t column) {
    int64_t bands = p->bands;
    if (column == 0) return p->n > 1 ? (double)i / (double)(p->n - 1) : 0;
    int64_t j = (column - 1) % bands;
    double gap = bands > 1 ? ((double)bands - 1 - 1e-4) / (double)(bands - 1) : 0;
    float turn = 6.28318530717958647693f * (float)i;
    turn /= (float)p->n;
    float angle = (float)(1e-4 + gap * (double)j) * turn;
    return column <= bands ? cos((double)angle) : -sin((double)angle);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const strand_plugin_node *node = arg;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t end = cpu_min((i + 1) * BLOCK, out->dims[0]);
    (void)worker;
    for (int64_t row = i * BLOCK; row < end; row++)
        for (int64_t c = 0; c < out->dims[1]; c++) {
            cpu_f32(out)[row * out->strides[0] + c] = (float)feature(node->params, row + out->origin[0], c + out->origin[1]);
        }
}

CPU_KERNEL(cpu_positions) {
    strand_plugin_node mine = *node;
    (void)scratch;
    cpu_parallel(device, (node->outputs[0].dims[0] + BLOCK - 1) / BLOCK, body, &mine);
    return STRAND_PLUGIN_OK;
}

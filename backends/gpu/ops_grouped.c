/* ops_grouped.c - products with many small matrices on the GPU plugins (kernels/grouped.k): block-diagonal ones, and those
 * of the experts that each row has picked. */
#include "gpu.h"

static int64_t rows_of(const strand_plugin_tensor *y) {
    int64_t rows = 1;
    for (uint32_t i = 0; i + 1 < y->rank; i++) rows *= y->dims[i];
    return rows;
}

bool gpu_supports_block_diagonal(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(block_diagonal) {
    const strand_op_block_diagonal *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2), *y = &node->outputs[0];
    int64_t blocks = w->dims[0], outs = w->dims[1], ins = w->dims[2], rows = rows_of(y), dims[STRAND_PLUGIN_RANK], first = 0;
    int64_t sx[STRAND_PLUGIN_RANK - 1] = {0}, sy[STRAND_PLUGIN_RANK - 1] = {0};
    bool in_apart = p->flags & STRAND_BLOCK_IN_INTERLEAVED, out_apart = p->flags & STRAND_BLOCK_OUT_INTERLEAVED;
    gpu_dispatch d;
    (void)scratch;
    cpu_extents(y, dims);
    for (uint32_t i = 0; i + 1 < y->rank; i++) {
        sx[STRAND_PLUGIN_RANK - y->rank + i] = x->strides[i];
        sy[STRAND_PLUGIN_RANK - y->rank + i] = y->strides[i];
        first += cpu_lead(x, i, y, i) * x->strides[i];
    }
    gpu_begin(&d, GPU_K_block_diagonal);
    gpu_bind_or(device, &d, ins ? x : NULL, y);
    gpu_bind_or(device, &d, ins ? w : NULL, y);
    gpu_bind_or(device, &d, bias, y);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)first;
    const int64_t numbers[] = {rows, outs, ins, dims[1], dims[2], sx[0], sx[1], sx[2], sy[0], sy[1], sy[2], in_apart ? 1 : ins,
                               in_apart ? blocks : 1, out_apart ? 1 : outs, out_apart ? blocks : 1, w->strides[0],
                               w->strides[1], bias ? 1 : 0, p->activation};
    gpu_ints(&d, numbers, 19);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    return gpu_groups(device, &d, (rows + 31) / 32, (outs + 31) / 32, blocks);
}

bool gpu_supports_grouped_matmul(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(grouped_matmul) {
    const strand_op_grouped_matmul *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *ids = &node->inputs[2],
                               *bias = cpu_input(node, 3), *y = &node->outputs[0];
    int64_t groups = y->dims[0] * y->dims[1] * ((y->dims[2] + 7) / 8), some = gpu_count(w);
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_grouped_matmul);
    gpu_bind_or(device, &d, some ? x : NULL, y);
    gpu_bind_or(device, &d, some ? w : NULL, y);
    gpu_bind(device, &d, ids);
    gpu_bind_or(device, &d, w->dims[0] ? bias : NULL, y);
    gpu_bind(device, &d, y);
    gpu_bind_fault(device, &d);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0] + (x->rank == 3 ? cpu_lead(x, 1, y, 1) * x->strides[1] : 0));
    d.params[1] += (int32_t)gpu_steps(w, cpu_lead(w, 1, y, 2) * w->strides[1]);
    d.params[2] += (int32_t)(cpu_lead(ids, 0, y, 0) * ids->strides[0] + cpu_lead(ids, 1, y, 1) * ids->strides[1]);
    if (bias) d.params[3] += (int32_t)(cpu_lead(bias, 1, y, 2) * bias->strides[1]);
    const int64_t numbers[] = {groups,
                               y->dims[1],
                               y->dims[2],
                               w->dims[2],
                               w->dims[0],
                               x->strides[0],
                               x->rank == 3 ? x->strides[1] : 0,
                               w->strides[0],
                               w->strides[1],
                               ids->strides[0],
                               ids->strides[1],
                               bias ? bias->strides[0] : 0,
                               y->strides[0],
                               y->strides[1],
                               w->dtype,
                               ids->dtype == STRAND_PLUGIN_I64 ? 2 : 1,
                               bias != NULL,
                               p->activation};
    gpu_ints(&d, numbers, 18);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    return gpu_rows(device, &d, groups);
}

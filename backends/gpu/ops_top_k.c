/* ops_top_k.c - TOP_K on the GPU plugins (kernels/top_k.k). */
#include "gpu.h"

bool gpu_supports_top_k(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(top_k) {
    const strand_op_top_k *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0],
                               *ids = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    int64_t dims[STRAND_PLUGIN_RANK], strides[STRAND_PLUGIN_RANK] = {0}, first = 0;
    gpu_dispatch d;
    (void)scratch;
    cpu_extents(y, dims);
    int64_t rows = cpu_rows(dims);
    uint32_t absent = STRAND_PLUGIN_RANK - y->rank;
    gpu_begin(&d, GPU_K_top_k);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, ids, y);
    gpu_int(&d, rows);
    gpu_int(&d, x->dims[x->rank - 1]);
    gpu_int(&d, p->k);
    gpu_int(&d, p->values);
    gpu_int(&d, p->normalise ? 1 : 0);
    gpu_int(&d, ids != NULL);
    gpu_ints(&d, dims, 3);
    gpu_int(&d, 1);
    gpu_place(&d, 1, y, y, false);
    for (uint32_t axis = 0; axis + 1 < y->rank; axis++) {
        strides[absent + axis] = x->strides[axis];
        first += cpu_lead(x, axis, y, axis) * x->strides[axis];
    }
    d.params[0] += (int32_t)first;
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, strides[i]);
    for (uint32_t i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, ids && i >= absent ? ids->strides[i - absent] : 0);
    return gpu_rows(device, &d, rows);
}

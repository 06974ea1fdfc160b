/* ops_rows.c - norms and reductions on the GPU plugins (kernels/rows.k). */
#include "gpu.h"

bool gpu_supports_layer_norm(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(layer_norm) {
    const strand_op_layer_norm *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *b = cpu_input(node, 2), *y = &node->outputs[0];
    int64_t dims[STRAND_PLUGIN_RANK];
    gpu_dispatch d;
    (void)scratch;
    cpu_extents(y, dims);
    int64_t rows = cpu_rows(dims);
    gpu_begin(&d, GPU_K_layer_norm);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, w);
    gpu_bind_or(device, &d, b, w);
    gpu_bind(device, &d, y);
    gpu_int(&d, rows);
    gpu_int(&d, dims[3]);
    gpu_float(&d, p->eps);
    gpu_int(&d, b != NULL);
    for (int i = 0; i < 3; i++) gpu_int(&d, dims[i]);
    gpu_int(&d, 1);
    gpu_place(&d, 3, y, y, false);
    gpu_place(&d, 0, y, x, false);
    d.params[1] += (int32_t)(cpu_lead(w, 0, y, y->rank - 1) * w->strides[0]);
    if (b) d.params[2] += (int32_t)(cpu_lead(b, 0, y, y->rank - 1) * b->strides[0]);
    gpu_int(&d, w->strides[0]);
    gpu_int(&d, b ? b->strides[0] : 0);
    return gpu_rows(device, &d, rows);
}

bool gpu_supports_reduce(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(reduce) {
    const strand_op_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *ids = cpu_input(node, 1), *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_reduce);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, ids, x);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0] + cpu_lead(x, 2, y, 1) * x->strides[2]);
    if (ids) d.params[1] += (int32_t)(cpu_lead(ids, 0, y, 0) * ids->strides[0]);
    gpu_int(&d, y->dims[0]);
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, x->dims[1]);
    gpu_int(&d, p->kind);
    gpu_int(&d, p->token);
    gpu_int(&d, x->strides[0]);
    gpu_int(&d, x->strides[1]);
    gpu_int(&d, y->strides[0]);
    gpu_int(&d, ids ? ids->strides[0] : 0);
    gpu_int(&d, ids && ids->dtype == STRAND_PLUGIN_I64 ? 2 : 1);
    return gpu_over(device, &d, gpu_count(y));
}

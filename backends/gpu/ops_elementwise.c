/* ops_elementwise.c - UNARY and BINARY on the GPU plugins (kernels/elementwise.k). */
#include "gpu.h"

bool gpu_supports_unary(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(unary) {
    const strand_op_unary *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_unary);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 1, y, y, false);
    gpu_place(&d, 0, y, x, false);
    gpu_int(&d, p->kind);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_binary(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(binary) {
    const strand_op_binary *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_binary);
    gpu_bind(device, &d, a);
    gpu_bind(device, &d, b);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 2, y, y, false);
    gpu_place(&d, 0, y, a, true);
    gpu_place(&d, 1, y, b, true);
    gpu_int(&d, p->kind);
    gpu_int(&d, p->activation);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    return gpu_over(device, &d, gpu_count(y));
}

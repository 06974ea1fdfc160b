/* ops_elementwise.c - functions of one element on the GPU plugins (kernels/elementwise.k). */
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

bool gpu_supports_cast(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* Halves are written a word at a time, two of them. */
static strand_plugin_status cast_to_half(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    int64_t dims[STRAND_PLUGIN_RANK];
    gpu_dispatch d;
    cpu_extents(y, dims);
    int64_t words = dims[3] / 2 + 1, items = dims[0] * dims[1] * dims[2] * words;
    gpu_begin(&d, GPU_K_cast_to_half);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, items);
    gpu_ints(&d, dims, 3);
    gpu_int(&d, words);
    gpu_place(&d, 1, y, y, false);
    gpu_place(&d, 0, y, x, false);
    gpu_int(&d, x->dtype);
    gpu_int(&d, y->dtype);
    gpu_int(&d, dims[3]);
    return gpu_over(device, &d, items);
}

GPU_RUN(cast) {
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    if (y->dtype != STRAND_PLUGIN_F32) return cast_to_half(device, node);
    gpu_begin(&d, GPU_K_cast_to_f32);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 1, y, y, false);
    gpu_place(&d, 0, y, x, false);
    gpu_int(&d, x->dtype);
    gpu_int(&d, cpu_lead(x, x->rank - 1, y, y->rank - 1) % cpu_block_elements(x->dtype)); /* a tile may begin inside a block */
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_positions(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_positions *p = node->params;
    (void)device;
    if (p->n > 1 << 24) return cpu_no(why, why_bytes, "a grid of more than 2^24 points is not exact here");
    return true;
}

GPU_RUN(positions) {
    const strand_op_positions *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_positions);
    gpu_bind(device, &d, y);
    gpu_int(&d, p->n);
    gpu_int(&d, y->origin[0]);
    gpu_int(&d, y->origin[1]);
    gpu_int(&d, p->bands);
    gpu_int(&d, gpu_count(y));
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, y->strides[0]);
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_decay_window(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(decay_window) {
    const strand_op_decay_window *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[0], *rate = &node->inputs[1], *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_decay_window);
    gpu_bind(device, &d, k);
    gpu_bind(device, &d, rate);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 2, y, y, false);
    gpu_place(&d, 0, y, k, false);
    d.params[1] += (int32_t)(cpu_lead(rate, 0, y, 0) * rate->strides[0]);
    gpu_int(&d, y->origin[1]);
    gpu_float(&d, p->n > 1 ? (float)(p->n - 1) : 1.0f);
    gpu_float(&d, p->shift);
    gpu_int(&d, rate->strides[0]);
    return gpu_over(device, &d, gpu_count(y));
}

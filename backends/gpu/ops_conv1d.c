/* ops_conv1d.c - CONV1D on the GPU plugins (kernels/conv1d.k). */
#include "gpu.h"

#define OUTPUTS 4 /* of an item */

bool gpu_supports_conv1d(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_conv1d *p = node->params;
    const strand_plugin_tensor *w = &node->inputs[1], *out = &node->outputs[0];
    const int64_t most = (int64_t)1 << 29;
    (void)device;
    int64_t positions = out->origin[2] + out->dims[2];
    if (p->pad_left > most || (w->dims[2] > 1 && p->dilation > most / w->dims[2]) ||
        (positions + OUTPUTS) > most / cpu_max(1, p->stride) || node->inputs[0].whole[2] > most)
        NO("positions beyond 2^29");
    return true;
}

GPU_RUN(conv1d) {
    const strand_op_conv1d *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2), *y = &node->outputs[0];
    int64_t across = (y->dims[2] + OUTPUTS - 1) / OUTPUTS, count = y->dims[0] * y->dims[1] * across;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_conv1d);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, w);
    gpu_bind_or(device, &d, bias, w);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0]);
    d.params[1] += (int32_t)(cpu_lead(w, 0, y, 1) * w->strides[0]);
    if (bias) d.params[2] += (int32_t)(cpu_lead(bias, 0, y, 1) * bias->strides[0]);
    gpu_int(&d, count);
    gpu_int(&d, y->dims[2]);
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, across);
    gpu_int(&d, y->origin[1]);
    gpu_int(&d, y->origin[2]);
    gpu_int(&d, y->whole[1] / p->groups);
    gpu_int(&d, w->dims[1]);
    gpu_int(&d, w->dims[2]);
    gpu_int(&d, p->stride);
    gpu_int(&d, w->dims[2] > 1 ? p->dilation : 0);
    gpu_int(&d, p->pad_left);
    gpu_int(&d, x->whole[2]);
    gpu_int(&d, x->origin[2]);
    gpu_int(&d, bias != NULL);
    gpu_int(&d, p->activation);
    gpu_int(&d, x->strides[0]);
    gpu_int(&d, x->strides[1]);
    gpu_ints(&d, w->strides, 3);
    gpu_int(&d, bias ? bias->strides[0] : 0);
    gpu_int(&d, y->strides[0]);
    gpu_int(&d, y->strides[1]);
    return gpu_over(device, &d, count);
}

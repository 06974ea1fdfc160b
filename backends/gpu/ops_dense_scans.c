/* ops_dense_scans.c - DPLR_SCAN and DENSE_SCAN on the GPU plugins (kernels/dense_scans.k). y may be a tile of batch entries
 * and, for the first, of channels. */
#include "gpu.h"

#define MOST_PAIRS 256  /* of a channel: 16 lanes have 16 each */
#define MOST_WIDTH 3072 /* of a dense state, which lies in shared memory twice */

static int64_t stride(const strand_plugin_tensor *t, uint32_t axis) {
    return t ? t->strides[axis] : 0;
}

/* Elements from an input's first to the one under the output's: axis `ia` of the input along `oa` of the output. */
static int32_t lead(const strand_plugin_tensor *in, uint32_t ia, const strand_plugin_tensor *y, uint32_t oa) {
    return in ? (int32_t)(cpu_lead(in, ia, y, oa) * in->strides[ia]) : 0;
}

bool gpu_supports_dplr_scan(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    if (node->inputs[1].dims[1] > MOST_PAIRS) return cpu_no(why, why_bytes, "more than %d pairs of states", MOST_PAIRS);
    (void)device;
    return true;
}

GPU_RUN(dplr_scan) {
    const strand_op_dplr_scan *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL, *in[8];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_dplr_scan);
    for (uint32_t i = 0; i < 8; i++) {
        in[i] = cpu_input(node, i);
        gpu_bind_or(device, &d, in[i], in[0]);
    }
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, after, y);
    d.params[0] += lead(in[0], 0, y, 0) + lead(in[0], 2, y, 2);
    /* one channel may stand for all */
    for (int i = 1; i < 6; i++) d.params[i] += in[i]->whole[0] != 1 ? lead(in[i], 0, y, 2) : 0;
    d.params[6] += lead(in[6], 0, y, 2);
    d.params[7] += lead(in[7], 0, y, 0) + lead(in[7], 1, y, 2);
    const int64_t sizes[] = {y->dims[1],        y->dims[2],    in[1]->dims[1], in[0]->strides[0],
                             in[0]->strides[1], y->strides[0], y->strides[1]};
    gpu_ints(&d, sizes, 7);
    for (int i = 1; i < 6; i++) {
        gpu_int(&d, in[i]->whole[0] != 1 ? in[i]->strides[0] : 0);
        gpu_int(&d, in[i]->strides[1]);
    }
    gpu_int(&d, in[6] != NULL);
    gpu_int(&d, stride(in[6], 0));
    gpu_int(&d, in[7] != NULL);
    for (uint32_t i = 0; i < 3; i++) gpu_int(&d, stride(in[7], i));
    gpu_int(&d, after != NULL);
    for (uint32_t i = 0; i < 3; i++) gpu_int(&d, stride(after, i));
    gpu_float(&d, p->scale);
    return gpu_groups(device, &d, (y->dims[2] + 15) / 16, y->dims[0], 1);
}

bool gpu_supports_dense_scan(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    if (node->inputs[0].dims[1] > MOST_WIDTH) return cpu_no(why, why_bytes, "a state of more than %d numbers", MOST_WIDTH);
    (void)device;
    return true;
}

GPU_RUN(dense_scan) {
    const strand_plugin_tensor *a = &node->inputs[0], *b = cpu_input(node, 1), *u = cpu_input(node, 2),
                               *state = cpu_input(node, 3);
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    int64_t width = a->dims[1], channels = y->dims[2] / width;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_dense_scan);
    gpu_bind(device, &d, a);
    gpu_bind_or(device, &d, b, a);
    gpu_bind_or(device, &d, u, a);
    gpu_bind_or(device, &d, state, a);
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, after, y);
    d.params[2] += lead(u, 0, y, 0);
    d.params[3] += lead(state, 0, y, 0);
    const int64_t sizes[] = {
        y->dims[1],    width,         channels / a->dims[0], a->strides[0],    a->strides[1],    u != NULL,
        stride(b, 0),  stride(u, 0),  stride(u, 1),          state != NULL,    stride(state, 0), stride(state, 1),
        y->strides[0], y->strides[1], after != NULL,         stride(after, 0), stride(after, 1)};
    gpu_ints(&d, sizes, 17);
    return gpu_groups(device, &d, channels, y->dims[0], 1);
}

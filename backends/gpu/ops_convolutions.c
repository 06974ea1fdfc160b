/* ops_convolutions.c - short convolutions on the GPU plugins (kernels/convolutions.k). */
#include "gpu.h"

bool gpu_supports_short_conv(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* Strides of the batch axes (0 where there are fewer than two), of the channels and of the time of a tensor [.., C, L] or
 * [.., L, C]. */
static void four_strides(const strand_plugin_tensor *t, bool token_major, int64_t s[4]) {
    uint32_t n = t->rank;
    s[0] = n > 3 ? t->strides[n - 4] : 0;
    s[1] = n > 2 ? t->strides[n - 3] : 0;
    s[2] = t->strides[n - (token_major ? 1 : 2)];
    s[3] = t->strides[n - (token_major ? 2 : 1)];
}

static void push_four(gpu_dispatch *d, const strand_plugin_tensor *t, bool token_major) {
    int64_t s[4] = {0};
    if (t) four_strides(t, token_major, s);
    gpu_ints(d, s, 4);
}

static strand_plugin_status new_state(strand_plugin_device *device, const strand_plugin_node *node, bool token_major) {
    const strand_plugin_tensor *x = &node->inputs[0], *state = cpu_input(node, 3), *out = &node->outputs[1];
    uint32_t n = x->rank;
    int64_t channels = x->dims[n - (token_major ? 1 : 2)], length = x->dims[n - (token_major ? 2 : 1)];
    int64_t keep = out->dims[n - (token_major ? 2 : 1)], inner = n > 2 ? x->dims[n - 3] : 1, rows = channels;
    gpu_dispatch d;
    for (uint32_t i = 0; i + 2 < n; i++) rows *= x->dims[i];
    if (!keep || !rows) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_short_conv_state);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, out);
    gpu_int(&d, rows);
    gpu_int(&d, keep);
    gpu_int(&d, length);
    gpu_int(&d, channels);
    gpu_int(&d, inner);
    push_four(&d, x, token_major);
    push_four(&d, state, token_major);
    push_four(&d, out, token_major);
    gpu_int(&d, state != NULL);
    return gpu_over(device, &d, rows);
}

GPU_RUN(short_conv) {
    const strand_op_short_conv *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *b = cpu_input(node, 2),
                               *state = cpu_input(node, 3), *y = &node->outputs[0];
    bool token_major = (p->flags & STRAND_SHORT_CONV_TOKEN_MAJOR) != 0;
    uint32_t ca = y->rank - (token_major ? 1 : 2), ta = y->rank - (token_major ? 2 : 1);
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_short_conv);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, w);
    gpu_bind_or(device, &d, b, w);
    gpu_bind_or(device, &d, state, w);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 4, y, y, false);
    gpu_place(&d, 0, y, x, false);
    d.params[1] += (int32_t)(cpu_lead(w, 0, y, ca) * w->strides[0]);
    if (b) d.params[2] += (int32_t)(cpu_lead(b, 0, y, ca) * b->strides[0]);
    if (state) {
        for (uint32_t i = 0; i < y->rank; i++)
            if (i != ta) d.params[3] += (int32_t)(cpu_lead(state, i, y, i) * state->strides[i]);
    }
    gpu_int(&d, token_major);
    gpu_int(&d, w->dims[1]);
    gpu_int(&d, w->strides[0]);
    gpu_int(&d, b ? b->strides[0] : 0);
    gpu_int(&d, p->activation);
    gpu_int(&d, state != NULL);
    push_four(&d, state, token_major);
    gpu_int(&d, y->origin[ta]);
    strand_plugin_status status = gpu_over(device, &d, gpu_count(y));
    return status || node->n_outputs < 2 ? status : new_state(device, node, token_major);
}

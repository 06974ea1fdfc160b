/* ops_wkv.c - WKV4 and the token shift on the GPU plugins (kernels/matrix_state.k). A long WKV4 runs in parts: each for its
 * end, ends become beginnings (the decay of a part is its length times w, in two floats), each again for its outputs. */
#include "gpu.h"

enum { WHOLE, ENDS, OUTPUTS };

static int32_t lead(const strand_plugin_tensor *t, const strand_plugin_tensor *y) {
    return (int32_t)(cpu_lead(t, 0, y, 0) * t->strides[0]);
}

bool gpu_supports_wkv4(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

#define WKV_FROM     1024                /* tokens; as in ops_matrix_state.c */
#define WKV_LENGTH   ((int64_t)256)      /* of a part, at least */
#define WKV_FLOATS   ((int64_t)16 << 20) /* of all ends that are kept at a time */
#define WKV_PARTS    64
#define WKV_CHANNELS 16384 /* with more, channels fill a device */

/* Tokens of a part, 0: all in one. */
static int64_t wkv_part(const strand_plugin_tensor *y) {
    if (y->dims[1] < WKV_FROM || y->whole[2] > WKV_CHANNELS) return 0;
    return cpu_max(WKV_LENGTH, (y->dims[1] + WKV_PARTS - 1) / WKV_PARTS);
}

/* Batch entries whose ends are kept at a time, four numbers a channel and part. */
static int64_t wkv_batch(const strand_plugin_tensor *y) {
    return cpu_max(1, cpu_min(y->dims[0], WKV_FLOATS / (4 * WKV_PARTS * cpu_max(1, y->whole[2]))));
}

uint64_t gpu_wkv4_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_plugin_tensor *y = &node->outputs[0];
    (void)device;
    return wkv_part(y) ? (uint64_t)(wkv_batch(y) * 4 * WKV_PARTS * y->dims[2]) * sizeof(float) : 0;
}

static strand_plugin_status wkv_pass(strand_plugin_device *device, const strand_plugin_node *node,
                                     const strand_plugin_memory *scratch, int pass, int64_t begin, int64_t n) {
    const strand_plugin_tensor *k = &node->inputs[0], *v = &node->inputs[1], *w = &node->inputs[2], *u = &node->inputs[3],
                               *state = cpu_input(node, 4);
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    int64_t part = pass == WHOLE ? 0 : wkv_part(y), count = part ? (y->dims[1] + part - 1) / part : 1,
            items = n * y->dims[2] * count;
    int64_t one = 4 * y->dims[2], entry = one * count; /* floats of a part's ends, of an entry's */
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_wkv4);
    const strand_plugin_tensor *const all[] = {k, v, w, u};
    for (int i = 0; i < 4; i++) gpu_bind(device, &d, all[i]);
    if (pass == OUTPUTS)
        gpu_bind_memory(device, &d, scratch, 0, (uint64_t)(n * entry) * sizeof(float), sizeof(float));
    else
        gpu_bind_or(device, &d, state, k);
    gpu_bind(device, &d, y);
    if (pass == ENDS)
        gpu_bind_memory(device, &d, scratch, 0, (uint64_t)(n * entry) * sizeof(float), sizeof(float));
    else
        gpu_bind_or(device, &d, after, y);
    d.params[0] += lead(k, y) + (int32_t)(cpu_lead(k, 2, y, 2) + begin * k->strides[0]);
    d.params[1] += lead(v, y) + (int32_t)(cpu_lead(v, 2, y, 2) + begin * v->strides[0]);
    d.params[2] += (int32_t)(cpu_lead(w, 0, y, 2) * w->strides[0]);
    d.params[3] += (int32_t)(cpu_lead(u, 0, y, 2) * u->strides[0]);
    if (state && pass == WHOLE) d.params[4] += lead(state, y) + (int32_t)(cpu_lead(state, 2, y, 2) + begin * state->strides[0]);
    d.params[5] += (int32_t)(begin * y->strides[0]);
    if (after && pass != ENDS) d.params[6] += (int32_t)(begin * after->strides[0]);
    const bool from = pass == OUTPUTS || (pass == WHOLE && state), to = pass == ENDS || after;
    const int64_t sizes[] = {items, y->dims[2], y->dims[1], k->strides[0], k->strides[1], v->strides[0], v->strides[1],
                             y->strides[0], y->strides[1], w->strides[0], u->strides[0], from,
                             pass == OUTPUTS ? entry : state ? state->strides[0] : 0,
                             pass == OUTPUTS ? y->dims[2] : state ? state->strides[1] : 0, to,
                             pass == ENDS ? entry : after ? after->strides[0] : 0,
                             pass == ENDS ? y->dims[2] : after ? after->strides[1] : 0, part, n, pass == WHOLE ? 0 : one,
                             pass == ENDS ? 1 : pass == OUTPUTS ? 2 : 0};
    gpu_ints(&d, sizes, 21);
    return gpu_over(device, &d, items);
}

static strand_plugin_status wkv_carry(strand_plugin_device *device, const strand_plugin_node *node,
                                      const strand_plugin_memory *scratch, int64_t begin, int64_t n) {
    const strand_plugin_tensor *w = &node->inputs[2], *state = cpu_input(node, 4), *y = &node->outputs[0];
    int64_t part = wkv_part(y), count = (y->dims[1] + part - 1) / part, one = 4 * y->dims[2];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_wkv4_carry);
    gpu_bind(device, &d, w);
    gpu_bind_or(device, &d, state, w);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)(n * one * count) * sizeof(float), sizeof(float));
    d.params[0] += (int32_t)(cpu_lead(w, 0, y, 2) * w->strides[0]);
    if (state) d.params[1] += lead(state, y) + (int32_t)(cpu_lead(state, 2, y, 2) + begin * state->strides[0]);
    const int64_t sizes[] = {n * y->dims[2], y->dims[2], y->dims[1], part, w->strides[0], state != NULL,
                             state ? state->strides[0] : 0, state ? state->strides[1] : 0, one * count, one, y->dims[2]};
    gpu_ints(&d, sizes, 11);
    return gpu_over(device, &d, n * y->dims[2]);
}

GPU_RUN(wkv4) {
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t batch = y->dims[0], each = wkv_batch(y);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!wkv_part(y)) return wkv_pass(device, node, scratch, WHOLE, 0, batch);
    for (int64_t begin = 0; begin < batch && !status; begin += each) {
        int64_t n = cpu_min(batch - begin, each);
        status = wkv_pass(device, node, scratch, ENDS, begin, n);
        if (!status) status = wkv_carry(device, node, scratch, begin, n);
        if (!status) status = wkv_pass(device, node, scratch, OUTPUTS, begin, n);
    }
    return status;
}

bool gpu_supports_token_shift(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

static strand_plugin_status shift_state(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[0], *after = &node->outputs[1];
    int64_t items = gpu_count(after);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_token_shift_state);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, after);
    d.params[0] += lead(x, after) + (int32_t)(cpu_lead(x, 2, after, 1));
    const int64_t sizes[] = {items, after->dims[1], x->strides[0], (x->dims[1] - 1) * x->strides[1], after->strides[0]};
    gpu_ints(&d, sizes, 5);
    return gpu_over(device, &d, items);
}

GPU_RUN(token_shift) {
    const strand_op_token_shift *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *mix = cpu_input(node, 1), *state = cpu_input(node, 2),
                               *y = &node->outputs[0];
    int64_t items = gpu_count(y);
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_token_shift);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, mix, x);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, y);
    for (uint32_t i = 0; i < 3; i++) d.params[0] += (int32_t)((y->origin[i] - x->origin[i]) * x->strides[i]);
    if (mix) d.params[1] += (int32_t)(cpu_lead(mix, 0, y, 2) * mix->strides[0]);
    if (state) d.params[2] += lead(state, y) + (int32_t)cpu_lead(state, 1, y, 2);
    const int64_t sizes[] = {items, y->dims[2], y->dims[1], y->origin[1], x->strides[0], x->strides[1], y->strides[0],
                             y->strides[1], mix != NULL, mix ? mix->strides[0] : 0, p->form, state != NULL,
                             state ? state->strides[0] : 0};
    gpu_ints(&d, sizes, 13);
    strand_plugin_status status = gpu_over(device, &d, items);
    return status || node->n_outputs < 2 ? status : shift_state(device, node);
}

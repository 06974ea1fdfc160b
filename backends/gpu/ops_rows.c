/* ops_rows.c - norms and reductions on the GPU plugins (kernels/rows.k). */
#include "gpu.h"

bool gpu_supports_layer_norm(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* One case of NORM. */
GPU_RUN(layer_norm) {
    const strand_op_layer_norm *p = node->params;
    strand_op_norm same = {.kind = STRAND_NORM_LAYER, .eps_rule = STRAND_EPS_INSIDE, .groups = 1, .eps = p->eps};
    strand_plugin_node other = *node;
    other.params = &same;
    return gpu_norm(device, &other, scratch);
}

bool gpu_supports_reduce(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(reduce) {
    const strand_op_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *ids = cpu_input(node, 1), *y = &node->outputs[0];
    gpu_dispatch d;
    if (p->kind <= STRAND_REDUCE_SUM && x->dims[1] > 0) { /* the same as REDUCE_AXIS */
        strand_op_reduce_axis same = {.kind = p->kind == STRAND_REDUCE_SUM ? STRAND_AXIS_SUM : STRAND_AXIS_MEAN, .axis = 1};
        strand_plugin_node other = *node;
        other.params = &same;
        other.n_inputs = 1;
        return gpu_reduce_axis(device, &other, scratch);
    }
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

bool gpu_supports_norm(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* A vector along the last axis of y: its binding's offset goes to the element under y's first one. */
static int64_t lead_vector(gpu_dispatch *d, uint32_t binding, const strand_plugin_tensor *v, const strand_plugin_tensor *y) {
    if (!v) return 0;
    d->params[binding] += (int32_t)(cpu_lead(v, 0, y, y->rank - 1) * v->strides[0]);
    return v->strides[0];
}

int64_t gpu_norm_lanes(int64_t n) {
    int64_t lanes = 4;
    while (lanes < 128 && lanes * 4 < n) lanes *= 2;
    return lanes;
}

static strand_plugin_status over_lanes(strand_plugin_device *device, gpu_dispatch *d, int64_t rows, int64_t lanes) {
    gpu_int(d, lanes);
    return gpu_over(device, d, rows * lanes);
}

GPU_RUN(norm) {
    const strand_op_norm *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = cpu_input(node, 1), *b = cpu_input(node, 2), *y = &node->outputs[0];
    int64_t dims[STRAND_PLUGIN_RANK];
    gpu_dispatch d;
    (void)scratch;
    cpu_extents(y, dims);
    int64_t parts = cpu_rows(dims) * p->groups;
    gpu_begin(&d, GPU_K_normalise);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, w, x);
    gpu_bind_or(device, &d, b, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, parts);
    gpu_int(&d, dims[3] / p->groups);
    gpu_int(&d, p->groups);
    gpu_int(&d, p->kind);
    gpu_int(&d, p->eps_rule);
    gpu_float(&d, p->eps);
    gpu_float(&d, p->weight_offset);
    gpu_int(&d, w != NULL);
    gpu_int(&d, b != NULL);
    gpu_ints(&d, dims, 3);
    gpu_int(&d, 1);
    gpu_place(&d, 3, y, y, false);
    gpu_place(&d, 0, y, x, false);
    gpu_int(&d, lead_vector(&d, 1, w, y));
    gpu_int(&d, lead_vector(&d, 2, b, y));
    return over_lanes(device, &d, parts, gpu_norm_lanes(dims[3] / p->groups));
}

bool gpu_supports_glu(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(glu) {
    const strand_op_glu *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_glu);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, gpu_count(y));
    gpu_dims(&d, y);
    gpu_place(&d, 1, y, y, false);
    gpu_place(&d, 0, y, x, false);
    gpu_int(&d, p->activation);
    gpu_float(&d, p->alpha);
    gpu_float(&d, p->beta);
    gpu_int(&d, p->gate_second ? 1 : 0);
    gpu_int(&d, p->interleaved ? 2 : 1);
    gpu_int(&d, p->interleaved ? 1 : y->dims[y->rank - 1]);
    return gpu_over(device, &d, gpu_count(y));
}

bool gpu_supports_softmax(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(softmax) {
    const strand_op_softmax *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    int64_t dims[STRAND_PLUGIN_RANK];
    gpu_dispatch d;
    (void)scratch;
    cpu_extents(y, dims);
    int64_t rows = cpu_rows(dims);
    gpu_begin(&d, GPU_K_softmax);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, y);
    gpu_int(&d, rows);
    gpu_int(&d, dims[3]);
    gpu_int(&d, p->log ? 1 : 0);
    gpu_ints(&d, dims, 3);
    gpu_int(&d, 1);
    gpu_place(&d, 1, y, y, false);
    gpu_place(&d, 0, y, x, false);
    return over_lanes(device, &d, rows, gpu_norm_lanes(dims[3]));
}

bool gpu_supports_reduce_axis(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

/* Lengths that are out of range are told at the next wait; the reduction itself keeps to what there is. */
static strand_plugin_status check_lengths(strand_plugin_device *device, const strand_plugin_tensor *lengths, int64_t first,
                                          int64_t n, int64_t most) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_check_lengths);
    gpu_bind(device, &d, lengths);
    gpu_bind_fault(device, &d);
    d.params[0] += (int32_t)(first * lengths->strides[0]);
    gpu_int(&d, n);
    gpu_int(&d, lengths->strides[0]);
    gpu_int(&d, lengths->dtype == STRAND_PLUGIN_I64 ? 2 : 1);
    gpu_int(&d, most);
    return gpu_over(device, &d, n);
}

/* Items for each output, by the shape alone. Where outputs lie side by side, at least eight of them do in a group. */
static int64_t reduce_lanes(int64_t n, bool inner) {
    int64_t lanes = 1, most = inner ? 32 : 256;
    while (lanes < most && lanes * 8 < n) lanes *= 2;
    return lanes;
}

GPU_RUN(reduce_axis) {
    const strand_op_reduce_axis *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *lengths = cpu_input(node, 1), *y = &node->outputs[0];
    uint32_t axis = (uint32_t)(p->axis < 0 ? p->axis + (int32_t)x->rank : p->axis), absent = STRAND_PLUGIN_RANK - y->rank;
    int64_t n = p->window ? p->window : x->dims[axis], strides[STRAND_PLUGIN_RANK] = {0}, first = 0;
    bool inner = axis + 1 < x->rank;
    int64_t lanes = reduce_lanes(n, inner), columns = 256 / lanes;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    gpu_dispatch d;
    (void)scratch;
    if (lengths) status = check_lengths(device, lengths, cpu_lead(lengths, 0, y, 0), y->dims[0], x->dims[axis]);
    if (status) return status;
    for (uint32_t i = 0; i < x->rank; i++) {
        uint32_t oi = i > axis && y->rank < x->rank ? i - 1 : i;
        if (i == axis) {
            if (p->window) strides[absent + i] = p->window * x->strides[i];
        } else {
            strides[absent + oi] = x->strides[i];
            first += cpu_lead(x, i, y, oi) * x->strides[i];
        }
    }
    gpu_begin(&d, GPU_K_reduce_axis);
    gpu_bind(device, &d, x);
    gpu_bind_or(device, &d, lengths, x);
    gpu_bind(device, &d, y);
    d.params[0] += (int32_t)first;
    gpu_int(&d, gpu_count(y));
    gpu_int(&d, p->kind);
    gpu_int(&d, n);
    gpu_int(&d, x->strides[axis]);
    gpu_int(&d, p->kind == STRAND_AXIS_ARGMAX ? 2 : 1);
    gpu_int(&d, lengths ? (lengths->dtype == STRAND_PLUGIN_I64 ? 2 : 1) : 0);
    gpu_dims(&d, y);
    gpu_place(&d, 2, y, y, false);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, strides[i]);
    for (uint32_t i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(&d, lengths && i == absent ? lengths->strides[0] : 0);
    if (lengths) d.params[1] += (int32_t)(cpu_lead(lengths, 0, y, 0) * lengths->strides[0]);
    gpu_int(&d, columns);
    gpu_int(&d, lanes);
    gpu_int(&d, inner ? columns : 1);
    gpu_int(&d, inner ? 1 : lanes);
    return gpu_rows(device, &d, (gpu_count(y) + columns - 1) / columns);
}

/* ops_scans.c - linear recurrences and GRU, and the generators of the scans' filters, on the GPU plugins
 * (kernels/scans.k, gru.k, ssm_kernels.k). y may be a tile of batch entries and channels, never of the length. */
#include "scans.h"

#include <math.h>

/* ---- linear recurrence ---- */

bool gpu_supports_linear_recurrence(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(linear_recurrence) {
    const strand_op_linear_recurrence *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *state = cpu_input(node, 2),
                               *y = &node->outputs[0];
    const strand_plugin_tensor *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    bool each = a->rank == x->rank;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_linear_recurrence);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, a);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, after, y);
    d.params[0] += lead_sequence(x, y);
    d.params[1] += each ? lead_sequence(a, y) : lead(a, 0, y, 2);
    d.params[2] += lead_state(state, y);
    const int64_t sizes[] = {y->dims[1],
                             y->dims[2],
                             p->complex_pairs ? 2 : 1,
                             x->strides[0],
                             x->strides[1],
                             x->strides[2],
                             each ? a->strides[0] : 0,
                             each ? a->strides[1] : 0,
                             each ? a->strides[2] : a->strides[0],
                             state != NULL,
                             stride(state, 0),
                             stride(state, 1),
                             y->strides[0],
                             y->strides[1],
                             y->strides[2],
                             after != NULL,
                             stride(after, 0),
                             stride(after, 1),
                             p->log_a != 0,
                             p->reverse != 0,
                             p->form};
    gpu_ints(&d, sizes, 21);
    return gpu_groups(device, &d, (y->dims[2] + 31) / 32, y->dims[0], 1);
}

/* ---- discretisation, filters of diagonal systems ---- */

bool gpu_supports_ssm_discretize(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

GPU_RUN(ssm_discretize) {
    const strand_op_ssm_discretize *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *second = node->n_outputs > 1 ? &node->outputs[1] : NULL, *in[4];
    int64_t items = out->dims[0] * out->dims[1];
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_ssm_discretize);
    for (uint32_t i = 0; i < 4; i++) {
        in[i] = cpu_input(node, i);
        gpu_bind_or(device, &d, in[i], in[0]);
        d.params[i] += i == 1 ? lead(in[i], 0, out, 0) : lead_channels(in[i], out, 0) + lead(in[i], 1, out, 1);
    }
    gpu_bind(device, &d, out);
    gpu_bind_or(device, &d, second, out);
    const int64_t sizes[] = {items, out->dims[1], p->method};
    gpu_ints(&d, sizes, 3);
    for (int i = 0; i < 4; i++) {
        if (i > 1) gpu_int(&d, in[i] != NULL);
        gpu_int(&d, i == 1 ? in[i]->strides[0] : channel_stride(in[i]));
        if (i != 1) gpu_int(&d, stride(in[i], 1));
    }
    push_strides(&d, out, 0, 1);
    gpu_int(&d, second != NULL);
    push_strides(&d, second, 0, 1);
    return gpu_over(device, &d, items);
}

bool gpu_supports_ssm_kernel_diagonal(strand_plugin_device *device, const strand_plugin_node *node, char *why,
                                      size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0];
    (void)device;
    if (out->whole[1] > (int64_t)1 << 30) return cpu_no(why, why_bytes, "more than 2^30 taps");
    return true;
}

uint64_t gpu_ssm_kernel_diagonal_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    (void)device;
    return p->normalise ? (uint64_t)(node->outputs[0].dims[0] * node->inputs[1].dims[1] * 2) * sizeof(float) : 0;
}

/* The normalised coefficients, [channels, states, 2], in spare memory. */
static strand_plugin_status normalise(strand_plugin_device *device, const strand_plugin_node *node,
                                      const strand_plugin_memory *scratch) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    const strand_plugin_tensor *poles = &node->inputs[0], *coefficients = &node->inputs[1], *out = &node->outputs[0];
    int64_t states = coefficients->dims[1], items = out->dims[0] * states;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssm_kernel_normalise);
    gpu_bind(device, &d, poles);
    gpu_bind(device, &d, coefficients);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)(items * 2) * sizeof(float), sizeof(float));
    d.params[0] += lead_channels(poles, out, 0);
    d.params[1] += lead(coefficients, 0, out, 0);
    gpu_int(&d, states);
    gpu_int(&d, channel_stride(poles));
    gpu_int(&d, poles->strides[1]);
    push_strides(&d, coefficients, 0, 1);
    gpu_int(&d, p->log_poles != 0);
    gpu_int(&d, out->whole[1]);
    gpu_float(&d, p->eps);
    gpu_int(&d, items);
    return gpu_over(device, &d, items);
}

GPU_RUN(ssm_kernel_diagonal) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    const strand_plugin_tensor *poles = &node->inputs[0], *coefficients = &node->inputs[1], *out = &node->outputs[0];
    int64_t states = coefficients->dims[1], blocks = (out->origin[1] + out->dims[1] + 1023) / 1024 - out->origin[1] / 1024;
    uint64_t bytes = gpu_ssm_kernel_diagonal_scratch(device, node);
    gpu_dispatch d;
    if (bytes) {
        strand_plugin_status status = normalise(device, node, scratch);
        if (status) return status;
    }
    gpu_begin(&d, GPU_K_ssm_kernel_diagonal);
    gpu_bind(device, &d, poles);
    if (bytes)
        gpu_bind_memory(device, &d, scratch, 0, bytes, sizeof(float));
    else
        gpu_bind(device, &d, coefficients);
    gpu_bind(device, &d, out);
    d.params[0] += lead_channels(poles, out, 0);
    if (!bytes) d.params[1] += lead(coefficients, 0, out, 0);
    const int64_t sizes[] = {states, channel_stride(poles), poles->strides[1], bytes ? states * 2 : coefficients->strides[0],
                             bytes ? 2 : coefficients->strides[1], p->log_poles != 0, p->normalise != 0, out->whole[1],
                             out->origin[1], out->dims[1], out->strides[0]};
    gpu_ints(&d, sizes, 11);
    gpu_float(&d, p->scale);
    return gpu_groups(device, &d, blocks, out->dims[0], 1);
}

/* ---- GRU ---- */

#define MOST_HIDDEN 3072 /* the state, old and new, lies in shared memory */

bool gpu_supports_gru(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_plugin_tensor *y = &node->outputs[0];
    if (y->dims[y->rank - 1] > MOST_HIDDEN) return cpu_no(why, why_bytes, "a state of more than %d numbers", MOST_HIDDEN);
    (void)device;
    return true;
}

/* The last batch axis is the group's x, the one before it its y. */
GPU_RUN(gru) {
    const strand_op_gru *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2),
                               *state = cpu_input(node, 3);
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    const uint32_t batch = y->rank - 3, time = batch + 1;
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_gru);
    gpu_bind(device, &d, x);
    gpu_bind(device, &d, w);
    gpu_bind_or(device, &d, bias, w);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, after, y);
    for (uint32_t axis = 0; axis <= batch; axis++) {
        d.params[0] += lead(x, axis, y, axis);
        d.params[3] += lead(state, axis, y, axis);
    }
    const int64_t sizes[] = {y->dims[time], y->dims[time + 1],    x->strides[batch],    x->strides[time],  w->strides[0],
                             bias != NULL,  state != NULL,        stride(state, batch), y->strides[batch], y->strides[time],
                             after != NULL, stride(after, batch), p->reverse != 0,      x->strides[0],     stride(state, 0),
                             y->strides[0], stride(after, 0)};
    gpu_ints(&d, sizes, 17);
    return gpu_groups(device, &d, y->dims[batch], batch ? y->dims[0] : 1, 1);
}

/* ---- filters of diagonal systems plus a matrix of low rank: spectra, and their transforms by FFT ---- */

typedef struct nplr_plan {
    int64_t spectrum_bytes, taps_bytes;
    strand_plugin_tensor spectrum, taps;
    strand_op_fft p;
    strand_plugin_node node;
} nplr_plan;

/* The FFT node from spectra to filters of the whole length; `plan` must stay where it is. */
static void plan_nplr(const strand_plugin_node *node, nplr_plan *plan) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    int64_t channels = node->outputs[0].dims[0], bins = p->length / 2 + 1;
    *plan = (nplr_plan){.spectrum_bytes = channels * bins * 8, .taps_bytes = (channels * p->length * 4 + 255) / 256 * 256};
    plan->spectrum_bytes = (plan->spectrum_bytes + 255) / 256 * 256;
    plan->spectrum = (strand_plugin_tensor){.dtype = STRAND_PLUGIN_F32, .rank = 3, .dims = {channels, bins, 2},
                                            .strides = {2 * bins, 2, 1}, .whole = {channels, bins, 2}};
    plan->taps = (strand_plugin_tensor){.dtype = STRAND_PLUGIN_F32, .rank = 2, .dims = {channels, p->length},
                                        .strides = {p->length, 1}, .whole = {channels, p->length}};
    plan->p = (strand_op_fft){.kind = STRAND_FFT_C2R, .n = p->length, .scale = (float)(1 / (double)p->length)};
    plan->node = (strand_plugin_node){.op = STRAND_OP_FFT, .version = 1, .n_inputs = 1, .n_outputs = 1,
                                      .inputs = &plan->spectrum, .outputs = &plan->taps, .params = &plan->p};
}

bool gpu_supports_ssm_kernel_nplr(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    nplr_plan plan;
    if (p->length > (int64_t)1 << 22) return cpu_no(why, why_bytes, "a length of more than 2^22");
    plan_nplr(node, &plan);
    if ((uint64_t)plan.spectrum_bytes > device->limits.binding_bytes / 2)
        return cpu_no(why, why_bytes, "the spectra do not fit the memory that a kernel sees");
    return gpu_supports_fft(device, &plan.node, why, why_bytes);
}

uint64_t gpu_ssm_kernel_nplr_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    nplr_plan plan;
    plan_nplr(node, &plan);
    return (uint64_t)(plan.spectrum_bytes + plan.taps_bytes) + gpu_fft_scratch(device, &plan.node);
}

static strand_plugin_status nplr_spectra(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_tensor *spectrum) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *in = node->inputs;
    int64_t items = spectrum->dims[0] * spectrum->dims[1];
    double angle = acos(0.0) / (double)p->length; /* pi / 2 over the length */
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssm_kernel_nplr);
    for (int i = 0; i < 5; i++) {
        gpu_bind(device, &d, &in[i]);
        d.params[i] += i == 4 ? lead(&in[i], 0, out, 0) : lead_channels(&in[i], out, 0);
    }
    gpu_bind(device, &d, spectrum);
    gpu_int(&d, items);
    gpu_int(&d, spectrum->dims[1]);
    gpu_int(&d, in[3].dims[1]);
    gpu_int(&d, p->length);
    for (int i = 0; i < 4; i++) {
        gpu_int(&d, channel_stride(&in[i]));
        gpu_int(&d, in[i].strides[1]);
    }
    gpu_int(&d, in[4].strides[0]);
    const double base[] = {cos(angle), sin(angle)};
    for (int i = 0; i < 2; i++) {
        gpu_float(&d, (float)base[i]);
        gpu_float(&d, (float)(base[i] - (double)(float)base[i]));
    }
    return gpu_over(device, &d, items);
}

GPU_RUN(ssm_kernel_nplr) {
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t items = out->dims[0] * out->dims[1];
    strand_plugin_memory rest = *scratch;
    gpu_dispatch d;
    nplr_plan plan;
    plan_nplr(node, &plan);
    plan.spectrum.memory = plan.taps.memory = *scratch;
    plan.taps.memory.offset += (uint64_t)plan.spectrum_bytes;
    rest.offset += (uint64_t)(plan.spectrum_bytes + plan.taps_bytes);
    strand_plugin_status status = nplr_spectra(device, node, &plan.spectrum);
    if (!status) status = gpu_fft(device, &plan.node, &rest);
    if (status) return status;
    gpu_begin(&d, GPU_K_ssm_kernel_taps);
    gpu_bind(device, &d, &plan.taps);
    gpu_bind(device, &d, out);
    gpu_int(&d, items);
    gpu_int(&d, out->dims[1]);
    gpu_int(&d, plan.taps.strides[0]);
    gpu_int(&d, out->strides[0]);
    return gpu_over(device, &d, items);
}

/* ops_long_conv.c - LONG_CONV on the GPU plugins (kernels/long_conv.k, fft.k): cyclic convolutions of twisted numbers of the
 * next power of two, blocks of channels and of batch entries at a time where all would take too much memory; short sequences
 * as their sum.
 *
 * The spectra of constant filters are prepared: n pairs a channel. Others are made in working memory, to the same bytes. */
#include "fft.h"
#include "long_conv.h"

#define DIRECT GPU_LONG_CONV_DIRECT

typedef gpu_long_conv_shape shape;

shape gpu_long_conv_of(const strand_plugin_node *node) {
    int64_t dims[STRAND_PLUGIN_RANK];
    const strand_plugin_tensor *back = cpu_input(node, 5);
    cpu_extents(&node->outputs[0], dims);
    shape s = {
        .batch = dims[0] * dims[1], .inner = cpu_max(1, dims[1]), .channels = dims[2], .length = dims[3], .n = 2 * DIRECT};
    s.taps = cpu_min(node->inputs[1].dims[1], s.length);
    s.from = ((const strand_op_long_conv *)node->params)->flags & STRAND_LONG_CONV_BACK_FROM_ZERO ? 0 : 1;
    if (back) s.ahead = cpu_max(0, cpu_min(back->dims[1], s.length - s.from));
    while (s.n < s.length) s.n *= 2;
    return s;
}

bool gpu_supports_long_conv(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    shape s = gpu_long_conv_of(node);
    uint64_t bytes = (uint64_t)cpu_max(8 * s.n, GPU_FFT_BUDGET);
    if (bytes > device->limits.binding_bytes - device->limits.offset_alignment) NO("a kernel sees too little memory here");
    return true;
}

bool gpu_long_conv_prepares(const strand_plugin_node *node) {
    const strand_plugin_tensor *back = cpu_input(node, 5);
    return (node->inputs[1].flags & STRAND_TENSOR_CONSTANT) && (!back || (back->flags & STRAND_TENSOR_CONSTANT));
}

/* A filter that the host may have prepared, for this length or for a longer one, has no memory to sum from. */
static bool sums(const strand_plugin_node *node, const shape *s) {
    return s->length <= DIRECT && !gpu_long_conv_prepares(node);
}

/* Working memory: points, then spectra (the host need not keep what is prepared). */
static int64_t points_bytes(const shape *s) {
    return gpu_fft_bytes(cpu_max(1, s->batch * s->channels), s->n);
}

uint64_t gpu_long_conv_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    shape s = gpu_long_conv_of(node);
    (void)device;
    if (sums(node, &s)) return 0;
    return (uint64_t)(points_bytes(&s) + gpu_fft_bytes(cpu_max(1, s.channels), s.n));
}

uint64_t gpu_long_conv_prepare_size(strand_plugin_device *device, const strand_plugin_node *node) {
    shape s = gpu_long_conv_of(node);
    (void)device;
    return gpu_long_conv_prepares(node) ? (uint64_t)(s.channels * s.n * 8) : 0;
}

/* Strides of a tensor under the output: two batch axes and the channels; moves the offset to the output's first element, and to
 * channel `channel` of it. */
static void push_place(gpu_dispatch *d, uint32_t binding, const strand_plugin_tensor *out, const strand_plugin_tensor *t,
                       int64_t channel) {
    cpu_operand o = {0};
    int64_t first = 0;
    if (t) {
        cpu_place(out, t, false, &o);
        for (uint32_t i = 0; i < out->rank; i++) first += (out->origin[i] - t->origin[i]) * t->strides[i];
        d->params[binding] += (int32_t)(first + channel * o.strides[2]);
    }
    gpu_ints(d, o.strides, 3);
}

int64_t gpu_long_conv_lead(const strand_plugin_node *node, const strand_plugin_tensor *t, int64_t channel) {
    return t ? cpu_lead(t, 0, &node->outputs[0], node->outputs[0].rank - 2) + channel : 0;
}

static strand_plugin_status direct(strand_plugin_device *device, const strand_plugin_node *node, const shape *s) {
    const strand_plugin_tensor *u = &node->inputs[0], *filter = &node->inputs[1], *skip = cpu_input(node, 2),
                               *pre = cpu_input(node, 3);
    const strand_plugin_tensor *post = cpu_input(node, 4), *back = cpu_input(node, 5), *y = &node->outputs[0];
    int64_t count = s->batch * s->channels * s->length;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_long_conv_direct);
    gpu_bind(device, &d, u);
    gpu_bind(device, &d, filter);
    gpu_bind_or(device, &d, skip, filter);
    gpu_bind_or(device, &d, pre, filter);
    gpu_bind_or(device, &d, post, filter);
    gpu_bind_or(device, &d, back, filter);
    gpu_bind(device, &d, y);
    d.params[1] += (int32_t)(gpu_long_conv_lead(node, filter, 0) * filter->strides[0]);
    if (skip) d.params[2] += (int32_t)(gpu_long_conv_lead(node, skip, 0) * skip->strides[0]);
    if (back) d.params[5] += (int32_t)(gpu_long_conv_lead(node, back, 0) * back->strides[0]);
    gpu_int(&d, count);
    gpu_int(&d, s->length);
    gpu_int(&d, s->channels);
    gpu_int(&d, 0);
    gpu_int(&d, s->inner);
    gpu_int(&d, skip != NULL);
    gpu_int(&d, pre != NULL);
    gpu_int(&d, post != NULL);
    gpu_int(&d, s->taps);
    gpu_int(&d, s->ahead);
    gpu_int(&d, s->from);
    gpu_int(&d, filter->strides[0]);
    gpu_int(&d, back ? back->strides[0] : 0);
    gpu_int(&d, skip ? skip->strides[0] : 0);
    push_place(&d, 0, y, u, 0);
    push_place(&d, 3, y, pre, 0);
    push_place(&d, 4, y, post, 0);
    push_place(&d, 6, y, y, 0);
    return gpu_over(device, &d, count);
}

strand_plugin_status gpu_long_conv_spectra(strand_plugin_device *device, const strand_plugin_node *node, const shape *s,
                                           const strand_plugin_memory *m, uint64_t at, int64_t first, int64_t channels,
                                           bool common) {
    const strand_plugin_tensor *filter = &node->inputs[1], *back = cpu_input(node, 5);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_long_conv_filter);
    gpu_bind(device, &d, filter);
    gpu_bind_or(device, &d, back, filter);
    gpu_bind_memory(device, &d, m, at, (uint64_t)(channels * s->n) * 8, 4);
    d.params[0] += (int32_t)(gpu_long_conv_lead(node, filter, first) * filter->strides[0]);
    if (back) d.params[1] += (int32_t)(gpu_long_conv_lead(node, back, first) * back->strides[0]);
    gpu_int(&d, channels * s->n);
    gpu_int(&d, s->n);
    gpu_int(&d, s->taps);
    gpu_int(&d, s->ahead);
    gpu_int(&d, s->from);
    gpu_int(&d, filter->strides[0]);
    gpu_int(&d, back ? back->strides[0] : 0);
    strand_plugin_status status = gpu_over(device, &d, channels * s->n);
    return status ? status : gpu_fft_forward(device, m, at, channels, s->n, common);
}

/* Channels whose points are worked on at a time. */
static int64_t channels_at_a_time(const shape *s) {
    return cpu_max(1, cpu_min(s->channels, GPU_FFT_BUDGET / (8 * s->n)));
}

strand_plugin_status gpu_long_conv_prepare(strand_plugin_device *device, const strand_plugin_node *node,
                                           const strand_plugin_memory *scratch) {
    shape s = gpu_long_conv_of(node);
    int64_t each = channels_at_a_time(&s);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    (void)scratch;
    for (uint32_t i = 1; i < 6; i += 4)
        if (cpu_input(node, i) && !node->inputs[i].memory.buffer)
            return gpu_fail(device->host, STRAND_PLUGIN_ERR_ARGUMENT, "the filter has no memory");
    for (int64_t c = 0; c < s.channels && !status; c += each)
        status = gpu_long_conv_spectra(device, node, &s, &node->prepared, (uint64_t)(c * s.n) * 8, c,
                                       cpu_min(each, s.channels - c), true);
    return status;
}

GPU_RUN(long_conv) {
    shape s = gpu_long_conv_of(node);
    if (sums(node, &s)) return direct(device, node, &s);
    int64_t each = channels_at_a_time(&s), entries = cpu_max(1, GPU_FFT_BUDGET / (8 * s.n * each));
    bool ready = gpu_long_conv_prepares(node) && node->prepared.buffer;
    const strand_plugin_tensor *skip = cpu_input(node, 2);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (ready && node->prepared.bytes < gpu_long_conv_prepare_size(device, node))
        return gpu_fail(device->host, STRAND_PLUGIN_ERR_ARGUMENT, "the filter was not prepared for this length");
    for (int64_t c = 0; c < s.channels && !status; c += each) {
        gpu_fft_ends b = {.u = &node->inputs[0], .pre = cpu_input(node, 3), .post = cpu_input(node, 4), .y = &node->outputs[0],
                          .channel = c, .channels = cpu_min(each, s.channels - c), .inner = s.inner, .length = s.length};
        gpu_fft_spectra h = {.memory = ready ? &node->prepared : scratch,
                             .rows = b.channels,
                             .skip = skip,
                             .skip_first = gpu_long_conv_lead(node, skip, c)};
        h.at = ready ? (uint64_t)(c * s.n) * 8 : (uint64_t)points_bytes(&s);
        if (!ready) status = gpu_long_conv_spectra(device, node, &s, scratch, h.at, c, b.channels, true);
        for (b.entry = 0; b.entry < s.batch && !status; b.entry += entries) {
            b.entries = cpu_min(entries, s.batch - b.entry);
            status = gpu_fft_convolve(device, scratch, 0, b.channels * b.entries, s.n, &h, &b);
        }
    }
    return status;
}

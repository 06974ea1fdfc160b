/* ops_scans_parts.c - SELECTIVE_SCAN and LTI_SCAN on the GPU plugins (kernels/scans.k): parallel over channels, states,
 * batch entries and, where the sequence is long, over parts of it.
 *
 * y may be a tile of batch entries and channels, never of the length. States that do not fit a group's registers are kept
 * between tiles of tokens where the new state will stand, or in spare memory when none is wanted. In parts: every part runs
 * from zero for its end; an item a state turns the ends into beginnings; every part runs again from its beginning. */
#include "scans.h"

#define SCAN_CHANNELS 16 /* of a group */
#define SCAN_STATES   16 /* that stay in registers */

/* Bytes for the states of all channels, when they do not stay in registers: tiles of a node with a new state have none
 * themselves. */
static uint64_t state_bytes(const strand_plugin_node *node, int64_t states, int64_t width) {
    const strand_plugin_tensor *y = &node->outputs[0];
    if (states <= SCAN_STATES) return 0;
    return (uint64_t)(y->dims[0] * y->dims[2] * states * width) * sizeof(float);
}

/* Binds the place of the states, and gives its strides (batch, channel, state). */
static void bind_states(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_node *node,
                        const strand_plugin_memory *scratch, int64_t states, int64_t width, int64_t strides[3]) {
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    uint64_t bytes = state_bytes(node, states, width);
    strides[0] = after ? after->strides[0] : y->dims[2] * states * width;
    strides[1] = after ? after->strides[1] : states * width;
    strides[2] = after ? after->strides[2] : width;
    if (bytes && !after)
        gpu_bind_memory(device, d, scratch, 0, bytes, sizeof(float));
    else
        gpu_bind(device, d, after ? after : y);
}

/* ---- long sequences in parts ---- */

/* A sequence of `count` parts of `length` tokens each; the states of batch entries [begin, begin + batch) at a time lie in
 * spare memory, [batch, parts, channels, states, width]. How a sequence is cut depends on its length and whole channels
 * alone, so that tiles and neighbours in the batch do not change a byte. */
typedef struct scan_parts {
    int64_t length, count, states, width;
    int64_t part, entry;      /* floats of one part's states, of a batch entry's */
    int64_t batch;            /* entries at a time */
    uint64_t sums, bytes;     /* offset of the sums of steps behind the states; of everything */
} scan_parts;

#define PARTS_FROM      1024                /* tokens: shorter ones are walked in one go */
#define PARTS_LENGTH    256                 /* of a part, at least */
#define PARTS_MOST      64
#define PARTS_CHANNELS  16384               /* with more, the channels alone fill a device */
#define PARTS_ENTRY     ((int64_t)16 << 20) /* floats of a batch entry's states */
#define PARTS_BYTES     ((int64_t)64 << 20) /* of all that are in work at a time, but one at least */

/* False: the scan walks through the sequence in one go. */
static bool in_parts(const strand_plugin_node *node, int64_t states, int64_t width, scan_parts *p) {
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t length = y->dims[1];
    if (length < PARTS_FROM || y->whole[2] > PARTS_CHANNELS || states < 1 ||
        y->whole[2] * states * width > PARTS_ENTRY / PARTS_MOST)
        return false;
    *p = (scan_parts){.length = ((length + PARTS_MOST - 1) / PARTS_MOST + 15) / 16 * 16, .states = states, .width = width, .part = y->dims[2] * states * width};
    if (p->length < PARTS_LENGTH) p->length = PARTS_LENGTH;
    p->count = (length + p->length - 1) / p->length;
    p->entry = p->part * PARTS_MOST; /* room for any length, since plans are made for the longest and run with others */
    /* of the whole, so that a tile needs no more memory than it */
    p->batch = PARTS_BYTES / 4 / (y->whole[2] * states * width * PARTS_MOST);
    if (p->batch > y->dims[0]) p->batch = y->dims[0];
    if (p->batch < 1) p->batch = 1;
    p->sums = (uint64_t)(p->batch * p->entry) * sizeof(float);
    p->bytes = p->sums + (uint64_t)(p->batch * PARTS_MOST * y->dims[2]) * sizeof(float);
    return true;
}

static void bind_ends(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch, const scan_parts *p) {
    gpu_bind_memory(device, d, scratch, 0, p->sums, sizeof(float));
}
static void bind_sums(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch, const scan_parts *p) {
    gpu_bind_memory(device, d, scratch, p->sums, p->bytes - p->sums, sizeof(float));
}

/* The new states of entries [begin, begin + n): the ends of their last parts. */
static strand_plugin_status last_ends(strand_plugin_device *device, const strand_plugin_node *node,
                                      const strand_plugin_memory *scratch, const scan_parts *p, int64_t begin, int64_t n) {
    const strand_plugin_tensor *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    gpu_dispatch d;
    if (!after) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_scan_last);
    bind_ends(device, &d, scratch, p);
    gpu_bind(device, &d, after);
    d.params[0] += (int32_t)((p->count - 1) * p->part);
    d.params[1] += (int32_t)(begin * after->strides[0]);
    const int64_t sizes[] = {n * p->part, node->outputs[0].dims[2], p->states,         p->width,
                             p->entry,    after->strides[0],        after->strides[1], after->rank > 2 ? after->strides[2] : 1};
    gpu_ints(&d, sizes, 8);
    return gpu_over(device, &d, n * p->part);
}

/* ---- selective scan ---- */

bool gpu_supports_selective_scan(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

uint64_t gpu_selective_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    scan_parts p;
    uint64_t serial = state_bytes(node, node->inputs[2].dims[1], 1),
             parts = in_parts(node, node->inputs[2].dims[1], 1, &p) ? p.bytes : 0;
    (void)device;
    return serial > parts ? serial : parts;
}

enum { WHOLE, ENDS, OUTPUTS }; /* of a scan: in one go, or a part's end, or its outputs */

/* Batch entries [begin, begin + n). */
static strand_plugin_status selective_pass(strand_plugin_device *device, const strand_plugin_node *node,
                                           const strand_plugin_memory *scratch, const scan_parts *parts, int pass,
                                           int64_t begin, int64_t n) {
    const strand_op_selective_scan *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *in[9];
    int64_t states = node->inputs[2].dims[1], kept[3];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_selective_scan);
    for (uint32_t i = 0; i < 9; i++) {
        in[i] = cpu_input(node, i);
        if (i == 8 && pass == OUTPUTS)
            bind_ends(device, &d, scratch, parts);
        else
            gpu_bind_or(device, &d, in[i], y);
    }
    if (pass == ENDS)
        bind_sums(device, &d, scratch, parts);
    else
        gpu_bind(device, &d, y);
    if (pass == WHOLE) {
        bind_states(device, &d, node, scratch, states, 1, kept);
    } else {
        bind_ends(device, &d, scratch, parts);
        kept[0] = parts->entry;
        kept[1] = states;
    }
    const int32_t leads[] = {lead_sequence(in[0], y), lead_sequence(in[1], y), lead(in[2], 0, y, 2),
                             lead(in[3], 0, y, 0),    lead(in[4], 0, y, 0),    lead(in[5], 0, y, 2),
                             lead_sequence(in[6], y), lead(in[7], 0, y, 2),    pass == OUTPUTS ? 0 : lead_state(in[8], y)};
    for (int i = 0; i < 9; i++) d.params[i] += leads[i];
    const int batched[] = {0, 1, 3, 4, 6};
    for (int i = 0; i < 5; i++) d.params[batched[i]] += (int32_t)(begin * stride(in[batched[i]], 0));
    if (pass == OUTPUTS) d.params[9] += (int32_t)(begin * y->strides[0]);
    gpu_int(&d, y->dims[1]);
    gpu_int(&d, y->dims[2]);
    gpu_int(&d, states);
    push_strides(&d, in[0], 0, 1);
    push_strides(&d, in[1], 0, 1);
    gpu_int(&d, in[2]->strides[0]);
    push_strides(&d, in[3], 0, 1);
    push_strides(&d, in[4], 0, 1);
    push_vector(&d, in[5]);
    gpu_int(&d, in[6] != NULL);
    push_strides(&d, in[6], 0, 1);
    push_vector(&d, in[7]);
    gpu_int(&d, pass == WHOLE ? in[8] != NULL : pass == OUTPUTS);
    gpu_int(&d, pass == WHOLE ? stride(in[8], 0) : kept[0]);
    gpu_int(&d, pass == WHOLE ? stride(in[8], 1) : kept[1]);
    gpu_int(&d, pass == ENDS ? PARTS_MOST * y->dims[2] : y->strides[0]);
    gpu_int(&d, pass == ENDS ? y->dims[2] : y->strides[1]);
    gpu_int(&d, kept[0]);
    gpu_int(&d, kept[1]);
    gpu_int(&d, pass != WHOLE || node->n_outputs > 1);
    gpu_int(&d, p->softplus != 0);
    gpu_int(&d, pass == WHOLE ? 0 : parts->length);
    gpu_int(&d, pass == WHOLE ? 0 : parts->part);
    gpu_int(&d, pass == WHOLE ? 0 : parts->part);
    gpu_int(&d, pass == ENDS);
    return gpu_groups(device, &d, (y->dims[2] + SCAN_CHANNELS - 1) / SCAN_CHANNELS, n, pass == WHOLE ? 1 : parts->count);
}

static strand_plugin_status selective_carry(strand_plugin_device *device, const strand_plugin_node *node,
                                            const strand_plugin_memory *scratch, const scan_parts *parts, int64_t begin,
                                            int64_t n) {
    const strand_plugin_tensor *y = &node->outputs[0], *A = &node->inputs[2], *state = cpu_input(node, 8);
    int64_t channels = y->dims[2];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_selective_carry);
    gpu_bind(device, &d, A);
    bind_sums(device, &d, scratch, parts);
    gpu_bind_or(device, &d, state, A);
    bind_ends(device, &d, scratch, parts);
    d.params[0] += lead(A, 0, y, 2);
    d.params[2] += lead_state(state, y) + (int32_t)(begin * stride(state, 0));
    const int64_t sizes[] = {n * parts->part,       channels,   parts->states, parts->count,     A->strides[0],
                             PARTS_MOST * channels, channels,   state != NULL, stride(state, 0), stride(state, 1),
                             parts->entry,          parts->part};
    gpu_ints(&d, sizes, 12);
    return gpu_over(device, &d, n * parts->part);
}

GPU_RUN(selective_scan) {
    const strand_plugin_tensor *y = &node->outputs[0];
    scan_parts parts;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!in_parts(node, node->inputs[2].dims[1], 1, &parts))
        return selective_pass(device, node, scratch, NULL, WHOLE, 0, y->dims[0]);
    for (int64_t begin = 0; begin < y->dims[0] && !status; begin += parts.batch) {
        int64_t n = y->dims[0] - begin < parts.batch ? y->dims[0] - begin : parts.batch;
        status = selective_pass(device, node, scratch, &parts, ENDS, begin, n);
        if (!status) status = selective_carry(device, node, scratch, &parts, begin, n);
        if (!status) status = selective_pass(device, node, scratch, &parts, OUTPUTS, begin, n);
        if (!status) status = last_ends(device, node, scratch, &parts, begin, n);
    }
    return status;
}

/* ---- LTI scan ---- */

bool gpu_supports_lti_scan(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device, (void)node, (void)why, (void)why_bytes;
    return true;
}

static int64_t lti_width(const strand_plugin_node *node) {
    return node->inputs[1].rank == 3 ? 2 : 1;
}

uint64_t gpu_lti_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    int64_t states = node->inputs[1].dims[1], width = lti_width(node);
    scan_parts p;
    uint64_t serial = state_bytes(node, states, width), parts = in_parts(node, states, width, &p) ? p.bytes : 0;
    (void)device;
    return serial > parts ? serial : parts;
}

static strand_plugin_status lti_pass(strand_plugin_device *device, const strand_plugin_node *node,
                                     const strand_plugin_memory *scratch, const scan_parts *parts, int pass, int64_t begin,
                                     int64_t n) {
    const strand_op_lti_scan *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *in[6];
    int64_t states = node->inputs[1].dims[1], width = lti_width(node), kept[3];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_lti_scan);
    for (uint32_t i = 0; i < 6; i++) {
        in[i] = cpu_input(node, i);
        if (i == 5 && pass == OUTPUTS)
            bind_ends(device, &d, scratch, parts);
        else
            gpu_bind_or(device, &d, in[i], y);
    }
    gpu_bind(device, &d, y);
    if (pass == WHOLE) {
        bind_states(device, &d, node, scratch, states, width, kept);
    } else {
        bind_ends(device, &d, scratch, parts);
        kept[0] = parts->entry;
        kept[1] = states * width;
        kept[2] = width;
    }
    const int32_t leads[] = {lead_sequence(in[0], y),    lead_channels(in[1], y, 2),
                             lead_channels(in[2], y, 2), lead_channels(in[3], y, 2),
                             lead(in[4], 0, y, 2),       pass == OUTPUTS ? 0 : lead_state(in[5], y)};
    for (int i = 0; i < 6; i++) d.params[i] += leads[i];
    d.params[0] += (int32_t)(begin * in[0]->strides[0]);
    d.params[6] += (int32_t)(begin * y->strides[0]);
    const int64_t sizes[] = {y->dims[1], y->dims[2], states, width};
    gpu_ints(&d, sizes, 4);
    push_strides(&d, in[0], 0, 1);
    push_strides(&d, y, 0, 1);
    for (int i = 1; i < 4; i++) {
        if (i > 1) gpu_int(&d, in[i] != NULL);
        gpu_int(&d, channel_stride(in[i]));
        gpu_int(&d, stride(in[i], 1));
    }
    push_vector(&d, in[4]);
    gpu_int(&d, pass == WHOLE ? in[5] != NULL : pass == OUTPUTS);
    for (uint32_t i = 0; i < 3; i++) gpu_int(&d, pass == WHOLE ? stride(in[5], i) : kept[i]);
    gpu_ints(&d, kept, 3);
    gpu_int(&d, pass != WHOLE || node->n_outputs > 1);
    gpu_int(&d, p->log_poles != 0);
    gpu_int(&d, p->reverse != 0);
    gpu_float(&d, p->scale);
    gpu_int(&d, pass == WHOLE ? 0 : parts->length);
    gpu_int(&d, pass == WHOLE ? 0 : parts->part);
    gpu_int(&d, pass == WHOLE ? 0 : parts->part);
    gpu_int(&d, pass == ENDS);
    return gpu_groups(device, &d, (y->dims[2] + SCAN_CHANNELS - 1) / SCAN_CHANNELS, n, pass == WHOLE ? 1 : parts->count);
}

static strand_plugin_status lti_carry(strand_plugin_device *device, const strand_plugin_node *node,
                                      const strand_plugin_memory *scratch, const scan_parts *parts, int64_t begin, int64_t n) {
    const strand_op_lti_scan *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *poles = &node->inputs[1], *state = cpu_input(node, 5);
    int64_t items = n * y->dims[2] * parts->states;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_lti_carry);
    gpu_bind(device, &d, poles);
    gpu_bind_or(device, &d, state, poles);
    bind_ends(device, &d, scratch, parts);
    d.params[0] += lead_channels(poles, y, 2);
    d.params[1] += lead_state(state, y) + (int32_t)(begin * stride(state, 0));
    const int64_t sizes[] = {items,         y->dims[2],       parts->states,         parts->width,
                             parts->count,  parts->length,    channel_stride(poles), stride(poles, 1),
                             state != NULL, stride(state, 0), stride(state, 1),      stride(state, 2),
                             parts->entry,  parts->part,      p->log_poles != 0};
    gpu_ints(&d, sizes, 15);
    return gpu_over(device, &d, items);
}

GPU_RUN(lti_scan) {
    const strand_plugin_tensor *y = &node->outputs[0];
    scan_parts parts;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!in_parts(node, node->inputs[1].dims[1], lti_width(node), &parts))
        return lti_pass(device, node, scratch, NULL, WHOLE, 0, y->dims[0]);
    for (int64_t begin = 0; begin < y->dims[0] && !status; begin += parts.batch) {
        int64_t n = y->dims[0] - begin < parts.batch ? y->dims[0] - begin : parts.batch;
        status = lti_pass(device, node, scratch, &parts, ENDS, begin, n);
        if (!status) status = lti_carry(device, node, scratch, &parts, begin, n);
        if (!status) status = lti_pass(device, node, scratch, &parts, OUTPUTS, begin, n);
        if (!status) status = last_ends(device, node, scratch, &parts, begin, n);
    }
    return status;
}

/* ops_companion.c - COMPANION_SCAN and SSM_KERNEL_COMPANION on the GPU plugins (kernels/companion.k): a group a channel and
 * batch entry, and, where the sequence is long, parts of it side by side.
 *
 * In parts: every part runs from zero for its end (not those of a closed loop, which are given nothing); a group a channel
 * turns ends into beginnings by the matrix to the part's length, a product with a vector a part; every part runs again from
 * its beginning. Columns of a companion matrix's power are one another's successors, A^n e_i = A^(n+i) e_0, so one walk
 * makes them all; a closed loop's matrix has no such structure, and takes a walk a column. y may be a tile of batch entries
 * and channels, never of the length. */
#include "scans.h"

#define MOST_COMPANION 4096 /* a state lies in shared memory */

/* A sequence of `count` parts of `length` tokens each. Spare memory holds the states of batch entries [begin, begin + batch)
 * at a time, [batch, parts, channels, d], and behind them the matrices' powers, [kernels, d columns, d]. How a sequence is
 * cut depends on its length and whole channels alone, so that tiles and neighbours in the batch do not change a byte. */
typedef struct companion_parts {
    int64_t length, count, d, kernels;
    int64_t part, entry;         /* floats of one part's states, of a batch entry's */
    int64_t batch;               /* entries at a time */
    uint64_t states, bytes;      /* bytes of the states; of everything */
} companion_parts;

#define PARTS_FROM     512                 /* tokens: shorter ones are walked in one go */
#define PARTS_LENGTH   128                 /* of a part, at least */
#define PARTS_MOST     64
#define PARTS_CHANNELS 4096                /* with more, the channels alone fill a device */
#define PARTS_WALKS    16384               /* for the columns of closed loops */
#define PARTS_WIDTH    256                 /* of a state */
#define PARTS_POWERS   ((int64_t)16 << 20) /* floats of all powers, and of an entry's states */
#define PARTS_BYTES    ((int64_t)64 << 20) /* of states in work at a time */

/* False: the scan walks through the sequence in one go. */
static bool in_parts(const strand_plugin_node *node, companion_parts *p) {
    const strand_op_companion_scan *op = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *y = &node->outputs[0];
    int64_t length = y->dims[1], d = a->dims[1], kernels = a->whole[0];
    if (length < PARTS_FROM || y->whole[2] > PARTS_CHANNELS || d > PARTS_WIDTH || kernels * d * d > PARTS_POWERS ||
        y->whole[2] * d * PARTS_MOST > PARTS_POWERS)
        return false;
    if (op->closed && kernels * d > PARTS_WALKS) return false;
    *p = (companion_parts){.length = ((length + PARTS_MOST - 1) / PARTS_MOST + 15) / 16 * 16, .d = d, .kernels = a->dims[0], .part = y->dims[2] * d};
    if (p->length < PARTS_LENGTH) p->length = PARTS_LENGTH;
    p->count = (length + p->length - 1) / p->length;
    p->entry = p->part * PARTS_MOST; /* room for any length, since plans are made for the longest and run with others */
    p->batch = PARTS_BYTES / 4 / (y->whole[2] * d * PARTS_MOST); /* of the whole, so that a tile needs no more memory than it */
    if (p->batch > y->dims[0]) p->batch = y->dims[0];
    if (p->batch < 1) p->batch = 1;
    p->states = (uint64_t)((p->batch * p->entry * 4 + 255) / 256 * 256);
    p->bytes = p->states + (uint64_t)(p->kernels * d * d) * sizeof(float);
    return true;
}

static void bind_ends(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch,
                      const companion_parts *p) {
    gpu_bind_memory(device, d, scratch, 0, p->states, sizeof(float));
}

static void bind_powers(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch,
                        const companion_parts *p) {
    gpu_bind_memory(device, d, scratch, p->states, p->bytes - p->states, sizeof(float));
}

static bool width_runs(int64_t d, char *why, size_t why_bytes) {
    if (d > MOST_COMPANION) return cpu_no(why, why_bytes, "a state of more than %d numbers", MOST_COMPANION);
    return true;
}

bool gpu_supports_companion_scan(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    (void)device;
    return width_runs(node->inputs[0].dims[1], why, why_bytes);
}

uint64_t gpu_companion_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    companion_parts parts;
    (void)device;
    return in_parts(node, &parts) ? parts.bytes : 0;
}

enum { WHOLE, ENDS, OUTPUTS }; /* of a scan: in one go, or parts' ends, or their outputs */

/* Batch entries [begin, begin + n). */
static strand_plugin_status pass(strand_plugin_device *device, const strand_plugin_node *node,
                                 const strand_plugin_memory *scratch, const companion_parts *parts, int which, int64_t begin,
                                 int64_t n) {
    const strand_op_companion_scan *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    const strand_plugin_tensor *in[] = {cpu_input(node, 0), cpu_input(node, 1), cpu_input(node, 2), cpu_input(node, 4),
                                        cpu_input(node, 3), cpu_input(node, 5), cpu_input(node, 6)};
    int64_t starts[3] = {in[6] != NULL, stride(in[6], 0), stride(in[6], 1)},
            ends[3] = {after != NULL, stride(after, 0), stride(after, 1)};
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_companion_scan);
    for (int i = 0; i < 6; i++) gpu_bind_or(device, &d, in[i], in[0]);
    if (which == OUTPUTS)
        bind_ends(device, &d, scratch, parts);
    else
        gpu_bind_or(device, &d, in[6], in[0]);
    gpu_bind(device, &d, y);
    if (which == ENDS)
        bind_ends(device, &d, scratch, parts);
    else
        gpu_bind_or(device, &d, after, y);
    for (int i = 0; i < 4; i++)
        /* kernels are counted from the first of all */
        if (in[i]) d.params[i] -= (int32_t)(in[i]->origin[0] * in[i]->strides[0]);
    if (in[4]) d.params[4] += lead_sequence(in[4], y) + (int32_t)(begin * in[4]->strides[0]);
    d.params[5] += lead(in[5], 0, y, 2);
    if (which == WHOLE) d.params[6] += lead_state(in[6], y) + (int32_t)(begin * stride(in[6], 0));
    d.params[7] += (int32_t)(begin * y->strides[0]);
    if (which != ENDS) d.params[8] += (int32_t)(begin * stride(after, 0));
    if (which == ENDS) starts[0] = 0, ends[0] = 1, ends[1] = parts->entry, ends[2] = parts->d;
    if (which == OUTPUTS) starts[0] = 1, starts[1] = parts->entry, starts[2] = parts->d;
    const int64_t sizes[] = {y->dims[1], in[0]->dims[1], p->closed != 0, y->whole[2] / in[0]->whole[0], y->origin[2]};
    gpu_ints(&d, sizes, 5);
    for (int i = 0; i < 4; i++) gpu_int(&d, stride(in[i], 0));
    push_strides(&d, in[4], 0, 1);
    push_vector(&d, in[5]);
    gpu_ints(&d, starts, 3);
    push_strides(&d, y, 0, 1);
    gpu_int(&d, 1);
    gpu_ints(&d, ends, 3);
    gpu_int(&d, which == WHOLE ? y->dims[1] : parts->length);
    gpu_int(&d, which == OUTPUTS ? parts->part : 0);
    gpu_int(&d, which == ENDS ? parts->part : 0);
    gpu_int(&d, which == OUTPUTS ? parts->count - 1 : 0);
    gpu_int(&d, which != ENDS);
    return gpu_groups(device, &d, y->dims[2], n, which == WHOLE ? 1 : which == ENDS ? parts->count - 1 : parts->count);
}

/* The matrices to the power of a part's length. */
static strand_plugin_status powers(strand_plugin_device *device, const strand_plugin_node *node,
                                   const strand_plugin_memory *scratch, const companion_parts *parts) {
    const strand_op_companion_scan *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *k = cpu_input(node, 4);
    gpu_dispatch d;
    if (p->closed)
        gpu_begin(&d, GPU_K_companion_powers_closed);
    else
        gpu_begin(&d, GPU_K_companion_powers);
    gpu_bind(device, &d, a);
    gpu_bind(device, &d, b);
    gpu_bind_or(device, &d, k, a);
    bind_powers(device, &d, scratch, parts);
    const int64_t sizes[] = {parts->d, parts->length, p->closed ? 1 : parts->d, a->strides[0], b->strides[0], stride(k, 0)};
    gpu_ints(&d, sizes, 6);
    return gpu_groups(device, &d, parts->kernels, p->closed ? parts->d : 1, 1);
}

/* Ends of parts become their beginnings. */
static strand_plugin_status carry(strand_plugin_device *device, const strand_plugin_node *node,
                                  const strand_plugin_memory *scratch, const companion_parts *parts, int64_t begin, int64_t n) {
    const strand_op_companion_scan *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *state = cpu_input(node, 6), *y = &node->outputs[0];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_companion_carry);
    bind_powers(device, &d, scratch, parts);
    gpu_bind_or(device, &d, state, a);
    bind_ends(device, &d, scratch, parts);
    d.params[1] += lead_state(state, y) + (int32_t)(begin * stride(state, 0));
    const int64_t sizes[] = {parts->d,      parts->count,     y->whole[2] / a->whole[0], y->origin[2], a->origin[0],
                             state != NULL, stride(state, 0), stride(state, 1),          parts->entry, parts->part,
                             p->closed != 0};
    gpu_ints(&d, sizes, 11);
    return gpu_groups(device, &d, y->dims[2], n, 1);
}

GPU_RUN(companion_scan) {
    const strand_op_companion_scan *p = node->params;
    int64_t entries = node->outputs[0].dims[0];
    companion_parts parts;
    if (!in_parts(node, &parts)) return pass(device, node, scratch, NULL, WHOLE, 0, entries);
    strand_plugin_status status = powers(device, node, scratch, &parts);
    for (int64_t begin = 0; begin < entries && !status; begin += parts.batch) {
        int64_t n = entries - begin < parts.batch ? entries - begin : parts.batch;
        if (!p->closed) status = pass(device, node, scratch, &parts, ENDS, begin, n);
        if (!status) status = carry(device, node, scratch, &parts, begin, n);
        if (!status) status = pass(device, node, scratch, &parts, OUTPUTS, begin, n);
    }
    return status;
}

bool gpu_supports_ssm_kernel_companion(strand_plugin_device *device, const strand_plugin_node *node, char *why,
                                       size_t why_bytes) {
    (void)device;
    return width_runs(node->inputs[0].dims[1], why, why_bytes);
}

/* The scan of a state that begins as b and is given nothing. */
GPU_RUN(ssm_kernel_companion) {
    const strand_plugin_tensor *y = &node->outputs[0], *a = &node->inputs[0], *b = &node->inputs[1], *c = &node->inputs[2];
    const strand_plugin_tensor *const in[] = {a, a, c, a, a, a, b};
    gpu_dispatch d;
    (void)scratch;
    gpu_begin(&d, GPU_K_companion_scan);
    for (int i = 0; i < 7; i++) {
        gpu_bind(device, &d, in[i]);
        d.params[i] += lead(in[i], 0, y, 0);
    }
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, y);
    const int64_t sizes[] = {y->dims[1], a->dims[1], 2, 1, 0, a->strides[0], 0, c->strides[0], 0, 0, 0, 0, 0, 1, 0,
                             b->strides[0], 0, 1, y->strides[0], 0, 0, 0, y->dims[1], 0, 0, 0, 1};
    gpu_ints(&d, sizes, 27);
    return gpu_groups(device, &d, y->dims[0], 1, 1);
}

/* ops_ssd.c - SSD of many tokens on the GPU plugins, in chunks of 64 (kernels/ssd.k). Few tokens walk one by one
 * (ops_matrix_state.c).
 *
 * As many chunks and batch entries go at a time as spare memory holds; the states behind them wait there for the next. How a
 * sequence is cut up so changes no bit of the result: chunks are anchored at token 0. y may be a tile of batch entries and
 * channels. */
#include "ops_chunks.h"

#define STEPS (3 * CHUNK)

/* The run, and of its heads: rows N and columns P of a state, the groups that they read, and the first of these. */
typedef struct ssd_run {
    chunk_run run;
    int64_t rows, width, groups, first_group, heads_a_group;
    uint64_t scores, states, carried, bytes; /* where in spare memory; steps come first */
} ssd_run;

static const ssd_run *of(const chunk_run *r) {
    return (const ssd_run *)r;
}

static bool in_chunks(const strand_plugin_node *node, ssd_run *s) {
    const strand_op_ssd *op = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    chunk_run *r = &s->run;
    int64_t rows = node->inputs[2].dims[2] / op->groups, width = y->whole[2] / op->heads,
            all = (y->dims[1] + CHUNK - 1) / CHUNK;
    int64_t whole = op->heads * (width * rows + STEPS) + op->groups * CHUNK * CHUNK; /* floats of a chunk of all heads */
    if (y->dims[1] < CHUNKS_LEAST || !y->dims[0] || !y->dims[2] || rows < 1 || whole > CHUNKS_MOST_FLOATS) return false;
    int64_t most = CHUNKS_MOST_FLOATS / whole;
    *s = (ssd_run){.run = {.node = node, .length = y->dims[1], .first = y->origin[2] / width},
                   .rows = rows,
                   .width = width,
                   .heads_a_group = op->heads / op->groups};
    r->heads = (y->origin[2] + y->dims[2] - 1) / width + 1 - r->first;
    s->first_group = r->first / s->heads_a_group;
    s->groups = (r->first + r->heads - 1) / s->heads_a_group + 1 - s->first_group;
    r->chunks = cpu_min(all, most);
    r->batch = cpu_min(y->dims[0], most / r->chunks);
    /* Room for what any shorter sequence has at work, and for a tile of as many channels wherever it begins: plans are made
     * for the longest run and the first tile. */
    int64_t units = cpu_min(most, y->dims[0] * all);
    int64_t heads = cpu_min(op->heads, (y->dims[2] + width - 2) / width + 1);
    int64_t groups = cpu_min(op->groups, (heads + s->heads_a_group - 2) / s->heads_a_group + 1);
    uint64_t each = (uint64_t)units * sizeof(float);
    s->scores = each * (uint64_t)(heads * STEPS);
    s->states = s->scores + each * (uint64_t)(groups * CHUNK * CHUNK);
    s->carried = s->states + (each * (uint64_t)(heads * width * rows) + 63) / 64 * 64;
    s->bytes = s->carried + 64;
    if (all > r->chunks) s->bytes += (uint64_t)(r->batch * heads * width * rows) * sizeof(float);
    return true;
}

uint64_t gpu_ssd_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    ssd_run s;
    (void)device;
    return in_chunks(node, &s) ? s.bytes : 0;
}

static void bind_steps(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, 0, of(r)->scores);
}
static void bind_scores(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, of(r)->scores, of(r)->states);
}
static void bind_states(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, of(r)->states, of(r)->carried);
}

static strand_plugin_status steps(const chunk_run *r) {
    const strand_op_ssd *p = r->node->params;
    const strand_plugin_tensor *a = &r->node->inputs[1], *dt = cpu_input(r->node, 4), *bias = cpu_input(r->node, 6);
    int64_t items = chunk_units(r);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_steps);
    chunk_bind(r, &d, a, a->rank == 3);
    chunk_bind(r, &d, dt, true);
    chunk_bind(r, &d, bias, false);
    bind_steps(r, &d);
    GPU_INTS(&d, items, r->heads, r->first, r->now, r->token, r->length, a->rank, a->strides[0],
             a->rank == 3 ? a->strides[1] : 0, a->strides[0], dt != NULL, dt ? dt->strides[0] : 0, dt ? dt->strides[1] : 0,
             bias != NULL, bias ? bias->strides[0] : 0, p->softplus != 0);
    gpu_float(&d, p->dt_min);
    gpu_float(&d, p->dt_max);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status scores(const chunk_run *r) {
    const strand_plugin_tensor *B = &r->node->inputs[2], *C = &r->node->inputs[3];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_scores);
    chunk_bind(r, &d, C, true);
    chunk_bind(r, &d, B, true);
    bind_scores(r, &d);
    GPU_INTS(&d, r->length, r->token, r->now, of(r)->groups, of(r)->first_group, of(r)->rows, C->strides[0], C->strides[1],
             B->strides[0], B->strides[1]);
    GPU_CHOOSE(&d, 0, 1, 2, 8, 9, 10, 11, 12);
    return gpu_groups(r->device, &d, r->now, of(r)->groups, r->n);
}

static strand_plugin_status ends(const chunk_run *r) {
    const strand_plugin_tensor *x = &r->node->inputs[0], *B = &r->node->inputs[2], *y = &r->node->outputs[0];
    int64_t across = (of(r)->rows + 63) / 64, blocks = across * ((of(r)->width + 63) / 64);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_ends);
    chunk_bind(r, &d, x, true);
    chunk_bind(r, &d, B, true);
    bind_steps(r, &d);
    bind_states(r, &d);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    GPU_INTS(&d, r->length, r->token, r->now, r->heads, r->first, of(r)->heads_a_group, of(r)->rows, of(r)->width, across,
             blocks, x->strides[0], x->strides[1], B->strides[0], B->strides[1], y->origin[2], y->dims[2]);
    GPU_CHOOSE(&d, 0, 1, 3, 10, 11, 14, 15, 16, 17, 18, 19);
    return gpu_groups(r->device, &d, r->now * blocks, r->heads, r->n);
}

/* Ends become beginnings; the state behind the last chunk is the new one, or waits. */
static strand_plugin_status turn(const chunk_run *r) {
    const strand_plugin_tensor *state = cpu_input(r->node, 7), *after = r->node->n_outputs > 1 ? &r->node->outputs[1] : NULL;
    int64_t numbers = of(r)->rows * of(r)->width, items = r->n * r->heads * numbers;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_turn);
    bind_steps(r, &d);
    chunk_bind(r, &d, state, true);
    chunk_bind_spare(r, &d, of(r)->carried, of(r)->bytes);
    bind_states(r, &d);
    gpu_bind_or(r->device, &d, after, &r->node->outputs[0]);
    if (state) d.params[1] += (int32_t)(r->first * state->strides[1]);
    if (after) d.params[4] += (int32_t)(r->begin * after->strides[0] + r->first * after->strides[1]);
    GPU_INTS(&d, items, numbers, of(r)->rows, r->heads, r->now, chunk_starts(r) ? state != NULL : 2,
             chunk_ends_here(r) ? after != NULL : 2);
    for (int i = 0; i < 4; i++) gpu_int(&d, state ? state->strides[i] : 0);
    for (int i = 0; i < 4; i++) gpu_int(&d, after ? after->strides[i] : 0);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status outputs(const chunk_run *r) {
    const strand_plugin_tensor *x = &r->node->inputs[0], *C = &r->node->inputs[3], *D = cpu_input(r->node, 5),
                               *y = &r->node->outputs[0];
    int64_t blocks = (of(r)->width + 63) / 64;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_outputs);
    chunk_bind(r, &d, x, true);
    chunk_bind(r, &d, C, true);
    chunk_bind(r, &d, D, false);
    bind_steps(r, &d);
    bind_scores(r, &d);
    bind_states(r, &d);
    gpu_bind(r->device, &d, y);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    d.params[6] += (int32_t)(r->begin * y->strides[0]);
    GPU_INTS(&d, r->length, r->token, r->now, r->heads, r->first, of(r)->groups, of(r)->first_group, of(r)->heads_a_group,
             of(r)->rows, of(r)->width, blocks, x->strides[0], x->strides[1], C->strides[0], C->strides[1], y->strides[0],
             y->strides[1], y->origin[2], y->dims[2], D != NULL, D ? D->strides[0] : 0);
    GPU_CHOOSE(&d, 0, 1, 4, 5, 6, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25);
    return gpu_groups(r->device, &d, r->now * blocks, r->heads, r->n);
}

static strand_plugin_status piece(const chunk_run *r) {
    strand_plugin_status status = steps(r);
    if (!status) status = scores(r);
    if (!status) status = ends(r);
    if (!status) status = turn(r);
    if (!status) status = outputs(r);
    return status;
}

strand_plugin_status gpu_ssd_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                       const strand_plugin_memory *scratch, bool *done) {
    ssd_run s;
    *done = in_chunks(node, &s);
    return *done ? gpu_run_chunks(&s.run, device, scratch, piece) : STRAND_PLUGIN_OK;
}

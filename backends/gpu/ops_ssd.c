/* ops_ssd.c - SSD of many tokens on the GPU plugins, in chunks of 64 (kernels/ssd.k). Few tokens walk one by one
 * (ops_matrix_state.c).
 *
 * As many chunks and batch entries go at a time as spare memory holds; the states behind them wait there for the next. How a
 * sequence is cut up so changes no bit of the result: chunks are anchored at token 0. y may be a tile of batch entries and
 * channels. */
#include "gpu.h"

#define CHUNK       64
#define LEAST       16                  /* tokens: fewer walk */
#define MOST_FLOATS ((int64_t)16 << 20) /* of all that is at work at a time; one chunk must fit */
#define STEPS       (3 * CHUNK)

/* Rows N and columns P of a head's state; heads and groups that y touches, and the first of them; chunks and batch entries
 * at a time. */
typedef struct ssd_chunks {
    int64_t length, rows, width, heads, first, groups, first_group, heads_a_group, chunks, batch;
    uint64_t scores, states, carried, bytes; /* where in spare memory; steps come first */
} ssd_chunks;

static bool in_chunks(const strand_plugin_node *node, ssd_chunks *c) {
    const strand_op_ssd *op = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t rows = node->inputs[2].dims[2] / op->groups, width = y->whole[2] / op->heads,
            all = (y->dims[1] + CHUNK - 1) / CHUNK;
    int64_t whole = op->heads * (width * rows + STEPS) + op->groups * CHUNK * CHUNK; /* floats of a chunk of all heads */
    if (y->dims[1] < LEAST || !y->dims[0] || !y->dims[2] || rows < 1 || whole > MOST_FLOATS) return false;
    *c = (ssd_chunks){.length = y->dims[1],
                      .rows = rows,
                      .width = width,
                      .first = y->origin[2] / width,
                      .heads_a_group = op->heads / op->groups};
    c->heads = (y->origin[2] + y->dims[2] - 1) / width + 1 - c->first;
    c->first_group = c->first / c->heads_a_group;
    c->groups = (c->first + c->heads - 1) / c->heads_a_group + 1 - c->first_group;
    c->chunks = cpu_min(all, MOST_FLOATS / whole);
    c->batch = cpu_min(y->dims[0], MOST_FLOATS / (whole * c->chunks));
    /* Room for what any shorter sequence has at work, and for a tile of as many channels wherever it begins: plans are made
     * for the longest run and the first tile. */
    int64_t units = cpu_min(MOST_FLOATS / whole, y->dims[0] * all);
    int64_t heads = cpu_min(op->heads, (y->dims[2] + width - 2) / width + 1);
    int64_t groups = cpu_min(op->groups, (heads + c->heads_a_group - 2) / c->heads_a_group + 1);
    uint64_t each = (uint64_t)units * sizeof(float);
    c->scores = each * (uint64_t)(heads * STEPS);
    c->states = c->scores + each * (uint64_t)(groups * CHUNK * CHUNK);
    c->carried = c->states + (each * (uint64_t)(heads * width * rows) + 63) / 64 * 64;
    c->bytes = c->carried + 64;
    if (all > c->chunks) c->bytes += (uint64_t)(c->batch * heads * width * rows) * sizeof(float);
    return true;
}

uint64_t gpu_ssd_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    ssd_chunks c;
    (void)device;
    return in_chunks(node, &c) ? c.bytes : 0;
}

/* What runs now: batch entries [begin, begin + n), chunks from token `token` on. */
typedef struct ssd_run {
    strand_plugin_device *device;
    const strand_plugin_node *node;
    const strand_plugin_memory *scratch;
    const ssd_chunks *c;
    int64_t begin, n, token, chunks;
} ssd_run;

static void bind_tensor(const ssd_run *r, gpu_dispatch *d, const strand_plugin_tensor *t, bool batched) {
    uint32_t at = d->n_bindings;
    gpu_bind_or(r->device, d, t, &r->node->inputs[0]);
    if (t && batched) d->params[at] += (int32_t)((cpu_lead(t, 0, &r->node->outputs[0], 0) + r->begin) * t->strides[0]);
}

static void bind_steps(const ssd_run *r, gpu_dispatch *d) {
    gpu_bind_memory(r->device, d, r->scratch, 0, r->c->scores, sizeof(float));
}
static void bind_scores(const ssd_run *r, gpu_dispatch *d) {
    gpu_bind_memory(r->device, d, r->scratch, r->c->scores, r->c->states - r->c->scores, sizeof(float));
}
static void bind_states(const ssd_run *r, gpu_dispatch *d) {
    gpu_bind_memory(r->device, d, r->scratch, r->c->states, r->c->carried - r->c->states, sizeof(float));
}

static strand_plugin_status steps(const ssd_run *r) {
    const strand_op_ssd *p = r->node->params;
    const strand_plugin_tensor *a = &r->node->inputs[1], *dt = cpu_input(r->node, 4), *bias = cpu_input(r->node, 6);
    int64_t items = r->n * r->chunks * r->c->heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_steps);
    bind_tensor(r, &d, a, a->rank == 3);
    bind_tensor(r, &d, dt, true);
    bind_tensor(r, &d, bias, false);
    bind_steps(r, &d);
    const int64_t sizes[] = {items,
                             r->c->heads,
                             r->c->first,
                             r->chunks,
                             r->token,
                             r->c->length,
                             a->rank,
                             a->strides[0],
                             a->rank == 3 ? a->strides[1] : 0,
                             a->strides[0],
                             dt != NULL,
                             dt ? dt->strides[0] : 0,
                             dt ? dt->strides[1] : 0,
                             bias != NULL,
                             bias ? bias->strides[0] : 0,
                             p->softplus != 0};
    gpu_ints(&d, sizes, 16);
    gpu_float(&d, p->dt_min);
    gpu_float(&d, p->dt_max);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status scores(const ssd_run *r) {
    const strand_plugin_tensor *B = &r->node->inputs[2], *C = &r->node->inputs[3];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_scores);
    bind_tensor(r, &d, C, true);
    bind_tensor(r, &d, B, true);
    bind_scores(r, &d);
    const int64_t sizes[] = {r->c->length, r->token,      r->chunks,     r->c->groups,  r->c->first_group,
                             r->c->rows,   C->strides[0], C->strides[1], B->strides[0], B->strides[1]};
    gpu_ints(&d, sizes, 10);
    GPU_CHOOSE(&d, 0, 1, 2, 8, 9, 10, 11, 12);
    return gpu_groups(r->device, &d, r->chunks, r->c->groups, r->n);
}

static strand_plugin_status ends(const ssd_run *r) {
    const strand_plugin_tensor *x = &r->node->inputs[0], *B = &r->node->inputs[2], *y = &r->node->outputs[0];
    int64_t across = (r->c->rows + 63) / 64, blocks = across * ((r->c->width + 63) / 64);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_ends);
    bind_tensor(r, &d, x, true);
    bind_tensor(r, &d, B, true);
    bind_steps(r, &d);
    bind_states(r, &d);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    const int64_t sizes[] = {r->c->length,  r->token,      r->chunks,    r->c->heads, r->c->first,   r->c->heads_a_group,
                             r->c->rows,    r->c->width,   across,       blocks,      x->strides[0], x->strides[1],
                             B->strides[0], B->strides[1], y->origin[2], y->dims[2]};
    gpu_ints(&d, sizes, 16);
    GPU_CHOOSE(&d, 0, 1, 3, 10, 11, 14, 15, 16, 17, 18, 19);
    return gpu_groups(r->device, &d, r->chunks * blocks, r->c->heads, r->n);
}

/* Ends become beginnings; the state behind the last chunk is the new one, or waits. */
static strand_plugin_status turn(const ssd_run *r) {
    const strand_plugin_tensor *state = cpu_input(r->node, 7), *after = r->node->n_outputs > 1 ? &r->node->outputs[1] : NULL;
    int64_t numbers = r->c->rows * r->c->width, items = r->n * r->c->heads * numbers;
    bool last = r->token + r->chunks * CHUNK >= r->c->length;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_turn);
    bind_steps(r, &d);
    bind_tensor(r, &d, state, true);
    gpu_bind_memory(r->device, &d, r->scratch, r->c->carried, r->c->bytes - r->c->carried, sizeof(float));
    bind_states(r, &d);
    gpu_bind_or(r->device, &d, after, &r->node->outputs[0]);
    if (state) d.params[1] += (int32_t)(r->c->first * state->strides[1]);
    if (after) d.params[4] += (int32_t)(r->begin * after->strides[0] + r->c->first * after->strides[1]);
    const int64_t sizes[] = {
        items, numbers, r->c->rows, r->c->heads, r->chunks, r->token ? 2 : state != NULL, last ? after != NULL : 2};
    gpu_ints(&d, sizes, 7);
    for (int i = 0; i < 4; i++) gpu_int(&d, state ? state->strides[i] : 0);
    for (int i = 0; i < 4; i++) gpu_int(&d, after ? after->strides[i] : 0);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status outputs(const ssd_run *r) {
    const strand_plugin_tensor *x = &r->node->inputs[0], *C = &r->node->inputs[3], *D = cpu_input(r->node, 5),
                               *y = &r->node->outputs[0];
    int64_t blocks = (r->c->width + 63) / 64;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd_outputs);
    bind_tensor(r, &d, x, true);
    bind_tensor(r, &d, C, true);
    bind_tensor(r, &d, D, false);
    bind_steps(r, &d);
    bind_scores(r, &d);
    bind_states(r, &d);
    gpu_bind(r->device, &d, y);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    d.params[6] += (int32_t)(r->begin * y->strides[0]);
    const int64_t sizes[] = {
        r->c->length,        r->token,      r->chunks,     r->c->heads,  r->c->first,   r->c->groups,  r->c->first_group,
        r->c->heads_a_group, r->c->rows,    r->c->width,   blocks,       x->strides[0], x->strides[1], C->strides[0],
        C->strides[1],       y->strides[0], y->strides[1], y->origin[2], y->dims[2],    D != NULL,     D ? D->strides[0] : 0};
    gpu_ints(&d, sizes, 21);
    GPU_CHOOSE(&d, 0, 1, 4, 5, 6, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25);
    return gpu_groups(r->device, &d, r->chunks * blocks, r->c->heads, r->n);
}

strand_plugin_status gpu_ssd_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                       const strand_plugin_memory *scratch, bool *done) {
    ssd_chunks c;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    *done = in_chunks(node, &c);
    if (!*done) return status;
    for (int64_t begin = 0; begin < node->outputs[0].dims[0] && !status; begin += c.batch)
        for (int64_t token = 0; token < c.length && !status; token += c.chunks * CHUNK) {
            const ssd_run r = {.device = device,
                               .node = node,
                               .scratch = scratch,
                               .c = &c,
                               .begin = begin,
                               .n = cpu_min(c.batch, node->outputs[0].dims[0] - begin),
                               .token = token,
                               .chunks = cpu_min(c.chunks, (c.length - token + CHUNK - 1) / CHUNK)};
            status = steps(&r);
            if (!status) status = scores(&r);
            if (!status) status = ends(&r);
            if (!status) status = turn(&r);
            if (!status) status = outputs(&r);
        }
    return status;
}

/* ops_matrix_state.c - recurrences with a matrix state on the GPU plugins (kernels/matrix_state.k).
 *
 * y may be a tile of batch entries and channels; `values` is cut with it, everything else is whole. */
#include "gpu.h"

#include <math.h>

#define MOST_ROWS 448 /* of a head's matrix: sixteen columns of it live in shared memory */

static int32_t lead(const strand_plugin_tensor *t, const strand_plugin_tensor *y) {
    return (int32_t)(cpu_lead(t, 0, y, 0) * t->strides[0]);
}

static bool runs(int64_t rows, char *why, size_t why_bytes) {
    if (rows > MOST_ROWS) return cpu_no(why, why_bytes, "a head's matrix has more than %d rows", MOST_ROWS);
    return true;
}

/* The heads that y's channels touch, and the groups for them. */
typedef struct head_range {
    int64_t first, blocks, groups;
} head_range;

static head_range heads_of(const strand_plugin_tensor *y, int64_t width) {
    head_range r = {y->origin[2] / width, (width + 15) / 16, 0};
    if (y->dims[2] > 0) r.groups = ((y->origin[2] + y->dims[2] - 1) / width - r.first + 1) * r.blocks;
    return r;
}

/* The parameters that all matrix recurrences share. rows_first: is the state [.., rows, columns]? */
static void push_common(gpu_dispatch *d, const strand_plugin_node *node, int64_t rows, int64_t width, int64_t heads, const strand_plugin_tensor *q,
                        const strand_plugin_tensor *k, const strand_plugin_tensor *v, const strand_plugin_tensor *state, bool rows_first) {
    const strand_plugin_tensor *y = &node->outputs[0], *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    head_range r = heads_of(y, width);
    const int64_t sizes[] = {y->dims[1], rows, width, heads, r.first, r.blocks, y->origin[2], y->dims[2]};
    for (int i = 0; i < 8; i++) gpu_int(d, sizes[i]);
    const strand_plugin_tensor *const four[] = {q, k, v, y};
    for (int i = 0; i < 4; i++) {
        gpu_int(d, four[i]->strides[0]);
        gpu_int(d, four[i]->strides[1]);
    }
    const strand_plugin_tensor *const two[] = {state, after};
    for (int i = 0; i < 2; i++) {
        const strand_plugin_tensor *t = two[i];
        gpu_int(d, t != NULL);
        gpu_int(d, t ? t->strides[0] : 0);
        gpu_int(d, t ? t->strides[1] : 0);
        gpu_int(d, t ? t->strides[rows_first ? 2 : 3] : 0);
        gpu_int(d, t ? t->strides[rows_first ? 3 : 2] : 0);
    }
}

/* ---- long sequences in parts ---- */

/* As in ops_scans_parts.c: every part runs from zero for its end, the ends become beginnings, every part runs again. The matrices of
 * `batch` entries at a time lie in spare memory, [batch, parts, heads that y touches, rows, columns], and behind them what the parts' decays
 * are made of, [batch, parts, heads, decays]. */
typedef struct matrix_parts {
    int64_t length, count, rows, columns, heads, first, decays;
    int64_t part, entry, batch; /* floats of a part's matrices, of a batch entry's; entries at a time */
    uint64_t sums, bytes;
} matrix_parts;

#define PARTS_FROM   1024                 /* tokens */
#define PARTS_LENGTH 256                  /* of a part, at least */
#define PARTS_MOST   16
#define PARTS_FLOATS ((int64_t)16 << 20)  /* of all that are in work at a time; one batch entry must fit */

enum { WHOLE, ENDS, OUTPUTS };

/* Heads of `width` channels of y, whose matrices have `columns`. */
static bool in_parts_of(const strand_plugin_node *node, int64_t rows, int64_t width, int64_t columns, int64_t decays, matrix_parts *p) {
    const strand_plugin_tensor *y = &node->outputs[0];
    head_range r = heads_of(y, width);
    int64_t length = y->dims[1], whole = y->whole[2] / width * columns * rows * PARTS_MOST; /* floats of an entry, of all heads */
    if (length < PARTS_FROM || !r.groups || rows < 1 || whole > PARTS_FLOATS) return false;
    *p = (matrix_parts){.length = (length + PARTS_MOST - 1) / PARTS_MOST, .rows = rows, .columns = columns, .heads = r.groups / r.blocks, .first = r.first, .decays = decays};
    if (p->length < PARTS_LENGTH) p->length = PARTS_LENGTH;
    p->count = (length + p->length - 1) / p->length;
    /* Room for a tile of as many channels wherever it begins. */
    int64_t heads = cpu_min(y->whole[2] / width, (y->dims[2] + width - 2) / width + 1);
    p->part = p->heads * rows * columns;
    p->entry = p->part * PARTS_MOST;
    p->batch = PARTS_FLOATS / whole < y->dims[0] ? PARTS_FLOATS / whole : y->dims[0];
    p->sums = (uint64_t)(p->batch * heads * rows * columns * PARTS_MOST) * sizeof(float);
    p->bytes = p->sums + (uint64_t)(p->batch * PARTS_MOST * heads * decays) * sizeof(float);
    return true;
}

static bool in_parts(const strand_plugin_node *node, int64_t rows, int64_t columns, int64_t decays, matrix_parts *p) {
    return in_parts_of(node, rows, columns, columns, decays, p);
}

static void bind_ends(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch, const matrix_parts *p) {
    gpu_bind_memory(device, d, scratch, 0, p->sums, sizeof(float));
}
static void bind_sums(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch, const matrix_parts *p) {
    gpu_bind_memory(device, d, scratch, p->sums, p->bytes - p->sums, sizeof(float));
}

/* The bindings of state, y and new state in this order, from binding `at` on. */
static void bind_pass(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, int pass,
                      const strand_plugin_tensor *state) {
    if (pass == OUTPUTS)
        bind_ends(device, d, scratch, p);
    else
        gpu_bind_or(device, d, state, &node->inputs[0]);
    if (pass == ENDS)
        bind_sums(device, d, scratch, p);
    else
        gpu_bind(device, d, &node->outputs[0]);
    if (pass == WHOLE)
        gpu_bind(device, d, &node->outputs[node->n_outputs - 1]);
    else
        bind_ends(device, d, scratch, p);
}

/* Where states and y are in a pass over parts, in place of what push_common said: n buffers, the state is number `state`. */
static void place_pass(gpu_dispatch *d, const matrix_parts *p, int pass, uint32_t n, uint32_t state) {
    if (pass == WHOLE) return;
    const int64_t strides[] = {p->entry, p->rows * p->columns, p->columns, 1};
    int32_t back = (int32_t)(p->first * p->rows * p->columns); /* heads are counted from the first of all */
    if (pass == OUTPUTS) d->params[state] -= back;
    d->params[n - 1] -= back;
    d->params[n + 16] = pass == OUTPUTS;
    d->params[n + 21] = 1;
    for (uint32_t i = 0; i < 4; i++) d->params[n + 17 + i] = d->params[n + 22 + i] = (int32_t)strides[i];
    if (pass == OUTPUTS) return;
    d->params[n + 14] = (int32_t)(PARTS_MOST * p->heads * p->decays);
    d->params[n + 15] = (int32_t)(p->heads * p->decays);
}

static void push_parts(gpu_dispatch *d, const matrix_parts *p, int pass) {
    gpu_int(d, pass == WHOLE ? 0 : p->length);
    gpu_int(d, pass == WHOLE ? 0 : p->part);
    gpu_int(d, pass == ENDS);
}

static strand_plugin_status dispatch_pass(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_node *node, const matrix_parts *p, int pass, int64_t width, int64_t n) {
    return gpu_groups(device, d, heads_of(&node->outputs[0], width).groups, n, pass == WHOLE ? 1 : p->count);
}

/* Ends become beginnings. rows_first: is the state [.., rows, columns]? */
static strand_plugin_status carry(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p,
                                  const strand_plugin_tensor *state, bool rows_first, int64_t begin, int64_t n) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_gated_carry);
    bind_sums(device, &d, scratch, p);
    gpu_bind_or(device, &d, state, &node->inputs[0]);
    bind_ends(device, &d, scratch, p);
    if (state) d.params[1] += lead(state, &node->outputs[0]) + (int32_t)(begin * state->strides[0] + p->first * state->strides[1]);
    const int64_t sizes[] = {n * p->part, p->rows, p->columns, p->heads, p->count, PARTS_MOST * p->heads * p->decays, p->heads * p->decays, state != NULL};
    for (int i = 0; i < 8; i++) gpu_int(&d, sizes[i]);
    for (uint32_t i = 0; i < 2; i++) gpu_int(&d, state ? state->strides[i] : 0);
    gpu_int(&d, state ? state->strides[rows_first ? 2 : 3] : 0);
    gpu_int(&d, state ? state->strides[rows_first ? 3 : 2] : 0);
    gpu_int(&d, p->entry);
    gpu_int(&d, p->part);
    gpu_int(&d, p->rows * p->columns);
    return gpu_over(device, &d, n * p->part);
}

/* The new states, whole heads, of entries [begin, begin + n). */
static strand_plugin_status last_ends(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, bool rows_first,
                                      int64_t begin, int64_t n) {
    const strand_plugin_tensor *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    gpu_dispatch d;
    if (!after) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_matrix_last);
    bind_ends(device, &d, scratch, p);
    gpu_bind(device, &d, after);
    d.params[0] += (int32_t)((p->count - 1) * p->part);
    d.params[1] += (int32_t)(begin * after->strides[0]);
    const int64_t sizes[] = {n * p->part,       p->rows,           p->columns, p->heads, p->entry, p->rows * p->columns, after->strides[0], after->strides[1],
                             after->strides[rows_first ? 2 : 3], after->strides[rows_first ? 3 : 2]};
    for (int i = 0; i < 10; i++) gpu_int(&d, sizes[i]);
    return gpu_over(device, &d, n * p->part);
}

/* The same where the ends' carry leaves the new states itself. */
static void push_carry(gpu_dispatch *d, const strand_plugin_node *node, const matrix_parts *p, const strand_plugin_tensor *state, bool rows_first) {
    const strand_plugin_tensor *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    gpu_int(d, state != NULL);
    for (uint32_t i = 0; i < 4; i++) gpu_int(d, state ? state->strides[i < 2 ? i : rows_first ? i : 5 - i] : 0);
    gpu_int(d, p->entry);
    gpu_int(d, p->part);
    gpu_int(d, p->rows * p->columns);
    gpu_int(d, after != NULL);
    for (uint32_t i = 0; i < 4; i++) gpu_int(d, after ? after->strides[i < 2 ? i : rows_first ? i : 5 - i] : 0);
}

static void bind_carry(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p,
                       const strand_plugin_tensor *state, int64_t begin) {
    const strand_plugin_tensor *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    gpu_bind_or(device, d, state, &node->inputs[0]);
    bind_ends(device, d, scratch, p);
    gpu_bind_or(device, d, after, &node->outputs[0]);
    if (state) d->params[0] += lead(state, &node->outputs[0]) + (int32_t)(begin * state->strides[0] + p->first * state->strides[1]);
    if (after) d->params[2] += (int32_t)(begin * after->strides[0]);
}

typedef strand_plugin_status pass_run(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, int pass,
                                      int64_t begin, int64_t n);

static strand_plugin_status run_parts(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, pass_run *run,
                                      const strand_plugin_tensor *state, bool rows_first) {
    int64_t batch = node->outputs[0].dims[0];
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int64_t begin = 0; begin < batch && !status; begin += p->batch) {
        int64_t n = batch - begin < p->batch ? batch - begin : p->batch;
        status = run(device, node, scratch, p, ENDS, begin, n);
        if (!status) status = carry(device, node, scratch, p, state, rows_first, begin, n);
        if (!status) status = run(device, node, scratch, p, OUTPUTS, begin, n);
        if (!status) status = last_ends(device, node, scratch, p, rows_first, begin, n);
    }
    return status;
}

typedef strand_plugin_status carry_run(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                       const matrix_parts *p, int64_t begin, int64_t n);

/* The same for an operator that turns ends into beginnings in its own way, and whose last pass leaves the state. */
static strand_plugin_status run_carried(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                        const matrix_parts *p, pass_run *run, carry_run *turn) {
    int64_t batch = node->outputs[0].dims[0];
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int64_t begin = 0; begin < batch && !status; begin += p->batch) {
        int64_t n = cpu_min(batch - begin, p->batch);
        status = run(device, node, scratch, p, ENDS, begin, n);
        if (!status) status = turn(device, node, scratch, p, begin, n);
        if (!status) status = run(device, node, scratch, p, OUTPUTS, begin, n);
    }
    return status;
}

/* ---- SSD ---- */

bool gpu_supports_ssd(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssd *p = node->params;
    (void)device;
    return runs(node->inputs[2].dims[2] / p->groups, why, why_bytes);
}

static int64_t ssd_rows(const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    return node->inputs[2].dims[2] / p->groups;
}

static int64_t ssd_width(const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    return node->outputs[0].whole[2] / p->heads;
}

/* Token by token. */
static strand_plugin_status ssd_walk(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *B = &node->inputs[2], *C = &node->inputs[3], *dt = cpu_input(node, 4);
    const strand_plugin_tensor *D = cpu_input(node, 5), *bias = cpu_input(node, 6), *state = cpu_input(node, 7), *y = &node->outputs[0];
    int64_t rows = ssd_rows(node), width = ssd_width(node);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_ssd);
    const strand_plugin_tensor *const all[] = {x, a, B, C, dt, D, bias};
    for (int i = 0; i < 7; i++) gpu_bind_or(device, &d, all[i], x);
    gpu_bind_or(device, &d, state, x);
    gpu_bind(device, &d, y);
    gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    const strand_plugin_tensor *const batched[] = {x, a->rank == 3 ? a : NULL, B, C, dt, NULL, NULL, state};
    for (int i = 0; i < 8; i++)
        if (batched[i]) d.params[i] += lead(batched[i], y);
    d.params[0] += (int32_t)cpu_lead(x, 2, y, 2);
    push_common(&d, node, rows, width, p->heads, C, B, x, state, false);
    gpu_int(&d, p->heads / p->groups);
    gpu_int(&d, a->rank);
    gpu_int(&d, a->strides[0]);
    gpu_int(&d, a->rank == 3 ? a->strides[1] : 0);
    gpu_int(&d, a->rank == 1 ? a->strides[0] : 1);
    gpu_int(&d, dt != NULL);
    gpu_int(&d, dt ? dt->strides[0] : 0);
    gpu_int(&d, dt ? dt->strides[1] : 0);
    gpu_int(&d, D != NULL);
    gpu_int(&d, D ? D->strides[0] : 0);
    gpu_int(&d, bias != NULL);
    gpu_int(&d, bias ? bias->strides[0] : 0);
    gpu_int(&d, p->softplus != 0);
    gpu_float(&d, p->dt_min);
    gpu_float(&d, p->dt_max);
    return gpu_groups(device, &d, heads_of(y, width).groups, y->dims[0], 1);
}

GPU_RUN(ssd) {
    bool done;
    strand_plugin_status status = gpu_ssd_in_chunks(device, node, scratch, &done);
    return done ? status : ssd_walk(device, node);
}

/* ---- gated linear attention ---- */

bool gpu_supports_gated_linear_attention(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_gated_linear_attention *p = node->params;
    (void)device;
    return runs(node->inputs[0].dims[2] / p->heads, why, why_bytes);
}

static int64_t gated_rows(const strand_plugin_node *node) {
    const strand_op_gated_linear_attention *p = node->params;
    return node->inputs[0].dims[2] / p->heads;
}

static int64_t gated_width(const strand_plugin_node *node) {
    const strand_op_gated_linear_attention *p = node->params;
    return node->outputs[0].whole[2] / p->heads;
}

uint64_t gpu_gated_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    matrix_parts parts;
    (void)device;
    return in_parts(node, gated_rows(node), gated_width(node), gated_rows(node), &parts) ? parts.bytes : 0;
}

static strand_plugin_status gated_pass(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *parts, int pass,
                                       int64_t begin, int64_t n) {
    const strand_op_gated_linear_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *w = &node->inputs[3], *u = cpu_input(node, 4);
    const strand_plugin_tensor *state = cpu_input(node, 5), *y = &node->outputs[0];
    int64_t rows = gated_rows(node), width = gated_width(node);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_gated_linear_attention);
    const strand_plugin_tensor *const all[] = {q, k, v, w, u};
    for (int i = 0; i < 5; i++) gpu_bind_or(device, &d, all[i], q);
    bind_pass(device, &d, node, scratch, parts, pass, state);
    const strand_plugin_tensor *const batched[] = {q, k, v, w->rank == 3 ? w : NULL, NULL, pass == OUTPUTS ? NULL : state};
    for (int i = 0; i < 6; i++)
        if (batched[i]) d.params[i] += lead(batched[i], y) + (int32_t)(begin * batched[i]->strides[0]);
    if (pass != ENDS) d.params[6] += (int32_t)(begin * y->strides[0]);
    d.params[2] += (int32_t)cpu_lead(v, 2, y, 2);
    push_common(&d, node, rows, width, p->heads, q, k, v, state, true);
    place_pass(&d, parts, pass, 8, 5);
    gpu_int(&d, w->rank);
    gpu_int(&d, w->rank == 3 ? w->strides[0] : 0);
    gpu_int(&d, w->rank == 3 ? w->strides[1] : 0);
    gpu_int(&d, p->log_w != 0);
    gpu_int(&d, u != NULL);
    gpu_int(&d, u ? u->strides[0] : 0);
    gpu_float(&d, p->scale);
    gpu_int(&d, w->rank == 1 ? w->strides[0] : 1);
    push_parts(&d, parts, pass);
    return dispatch_pass(device, &d, node, parts, pass, width, n);
}

GPU_RUN(gated_linear_attention) {
    matrix_parts parts;
    if (!in_parts(node, gated_rows(node), gated_width(node), gated_rows(node), &parts)) return gated_pass(device, node, scratch, NULL, WHOLE, 0, node->outputs[0].dims[0]);
    return run_parts(device, node, scratch, &parts, gated_pass, cpu_input(node, 5), true);
}

/* ---- delta rule ---- */

bool gpu_supports_delta_rule(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_delta_rule *p = node->params;
    (void)device;
    return runs(node->inputs[0].dims[2] / p->heads, why, why_bytes);
}

#define DELTA_GROUPS 512 /* with more, heads and columns fill a device, and parts cost more than they give */

/* Parts need the matrix that each of them multiplies a state with: K columns more. */
static bool delta_in_parts(const strand_plugin_node *node, matrix_parts *p) {
    const strand_op_delta_rule *rule = node->params;
    int64_t rows = node->inputs[0].dims[2] / rule->heads, width = node->outputs[0].whole[2] / rule->heads;
    return rule->heads * ((width + 15) / 16) <= DELTA_GROUPS && in_parts_of(node, rows, width, width + rows, 0, p);
}

uint64_t gpu_delta_rule_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    matrix_parts parts;
    (void)device;
    return delta_in_parts(node, &parts) ? parts.bytes : 0;
}

static strand_plugin_status delta_pass(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *parts, int pass,
                                       int64_t begin, int64_t n) {
    const strand_op_delta_rule *p = node->params;
    const strand_plugin_tensor *r = &node->inputs[0], *w = &node->inputs[1], *k = &node->inputs[2], *v = &node->inputs[3], *a = &node->inputs[4], *b = &node->inputs[5];
    const strand_plugin_tensor *state = cpu_input(node, 6), *y = &node->outputs[0];
    int64_t rows = r->dims[2] / p->heads, width = y->whole[2] / p->heads, blocks = (width + (pass == ENDS ? rows : 0) + 15) / 16;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_rule);
    const strand_plugin_tensor *const all[] = {r, w, k, v, a, b, state};
    for (int i = 0; i < 6; i++) gpu_bind(device, &d, all[i]);
    if (pass == OUTPUTS)
        bind_ends(device, &d, scratch, parts);
    else
        gpu_bind_or(device, &d, state, r);
    gpu_bind(device, &d, y);
    if (pass == WHOLE)
        gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    else
        bind_ends(device, &d, scratch, parts);
    for (int i = 0; i < 7; i++)
        if (all[i] && (i < 6 || pass == WHOLE)) d.params[i] += lead(all[i], y) + (int32_t)(begin * all[i]->strides[0]);
    d.params[3] += (int32_t)cpu_lead(v, 2, y, 2);
    d.params[7] += (int32_t)(begin * y->strides[0]);
    push_common(&d, node, rows, width, p->heads, r, k, v, state, false);
    d.params[9 + 5] = (int32_t)blocks;
    place_pass(&d, parts, pass, 9, 6);
    if (pass == OUTPUTS) d.params[9 + 21] = 0;
    const strand_plugin_tensor *const three[] = {w, a, b};
    for (int i = 0; i < 3; i++) {
        gpu_int(&d, three[i]->strides[0]);
        gpu_int(&d, three[i]->strides[1]);
    }
    gpu_int(&d, p->log_w != 0);
    gpu_float(&d, p->scale);
    push_parts(&d, parts, pass);
    return gpu_groups(device, &d, heads_of(y, width).groups / ((width + 15) / 16) * blocks, n, pass == WHOLE ? 1 : parts->count);
}

static strand_plugin_status delta_carry(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, int64_t begin,
                                        int64_t n) {
    int64_t width = p->columns - p->rows, blocks = (width + 15) / 16;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_carry);
    bind_carry(device, &d, node, scratch, p, cpu_input(node, 6), begin);
    const int64_t sizes[] = {p->rows, width, p->columns, p->count, blocks};
    for (int i = 0; i < 5; i++) gpu_int(&d, sizes[i]);
    push_carry(&d, node, p, cpu_input(node, 6), false);
    return gpu_groups(device, &d, p->heads * blocks, n, 1);
}

GPU_RUN(delta_rule) {
    matrix_parts parts;
    if (!delta_in_parts(node, &parts)) return delta_pass(device, node, scratch, NULL, WHOLE, 0, node->outputs[0].dims[0]);
    return run_carried(device, node, scratch, &parts, delta_pass, delta_carry);
}

/* ---- linear attention ---- */

static int64_t features(const strand_op_linear_attention *p, int64_t d) {
    return p->feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * d : d;
}

bool gpu_supports_linear_attention(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_linear_attention *p = node->params;
    (void)device;
    return runs(features(p, node->inputs[0].dims[2] / p->heads), why, why_bytes);
}

static bool linear_in_parts(const strand_plugin_node *node, matrix_parts *p) {
    const strand_op_linear_attention *op = node->params;
    int64_t width = node->outputs[0].whole[2] / op->heads;
    return in_parts_of(node, features(op, node->inputs[0].dims[2] / op->heads), width, width + 1, 0, p);
}

uint64_t gpu_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    const strand_op_linear_attention *p = node->params;
    matrix_parts parts;
    (void)device;
    if (linear_in_parts(node, &parts)) return parts.bytes;
    return node->n_outputs < 2 ? 0 : (uint64_t)(node->outputs[0].dims[0] * p->heads * features(p, node->inputs[0].dims[2] / p->heads)) * sizeof(float);
}

/* The sums of features after the last token, in spare memory: before the main kernel, which may overwrite the old ones. */
static strand_plugin_status sums(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, int64_t width, float pair, float one) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[1], *state = cpu_input(node, 3), *y = &node->outputs[0];
    int64_t each = k->dims[2] / p->heads, f = features(p, each), items = y->dims[0] * p->heads * f;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention_sums);
    gpu_bind(device, &d, k);
    gpu_bind_or(device, &d, state, k);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)items * sizeof(float), sizeof(float));
    d.params[0] += lead(k, y);
    if (state) d.params[1] += lead(state, y);
    const int64_t sizes[] = {items,          f, p->heads, y->dims[1], k->strides[0], k->strides[1], state != NULL, state ? state->strides[0] : 0, state ? state->strides[1] : 0,
                             state ? state->strides[2] : 0, state ? width * state->strides[3] : 0, each, p->feature};
    for (int i = 0; i < 13; i++) gpu_int(&d, sizes[i]);
    gpu_float(&d, pair);
    gpu_float(&d, one);
    return gpu_over(device, &d, items);
}

static strand_plugin_status last_column(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, int64_t width) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *after = &node->outputs[1];
    int64_t f = after->dims[2], items = after->dims[0] * p->heads * f;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention_last);
    gpu_bind_memory(device, &d, scratch, 0, (uint64_t)items * sizeof(float), sizeof(float));
    gpu_bind(device, &d, after);
    const int64_t sizes[] = {items, f, p->heads, after->strides[0], after->strides[1], after->strides[2], width * after->strides[3]};
    for (int i = 0; i < 7; i++) gpu_int(&d, sizes[i]);
    return gpu_over(device, &d, items);
}

static strand_plugin_status linear_pass(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *parts, int pass,
                                        int64_t begin, int64_t n) {
    const strand_op_linear_attention *p = node->params;
    const strand_plugin_tensor *q = &node->inputs[0], *k = &node->inputs[1], *v = &node->inputs[2], *state = cpu_input(node, 3), *y = &node->outputs[0];
    int64_t each = q->dims[2] / p->heads, width = y->whole[2] / p->heads;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_attention);
    const strand_plugin_tensor *const all[] = {q, k, v, state};
    for (int i = 0; i < 3; i++) gpu_bind(device, &d, all[i]);
    if (pass == OUTPUTS)
        bind_ends(device, &d, scratch, parts);
    else
        gpu_bind_or(device, &d, state, q);
    gpu_bind(device, &d, y);
    if (pass == WHOLE)
        gpu_bind(device, &d, &node->outputs[node->n_outputs - 1]);
    else
        bind_ends(device, &d, scratch, parts);
    for (int i = 0; i < 4; i++)
        if (all[i] && (i < 3 || pass == WHOLE)) d.params[i] += lead(all[i], y) + (int32_t)(begin * all[i]->strides[0]);
    d.params[2] += (int32_t)cpu_lead(v, 2, y, 2);
    d.params[4] += (int32_t)(begin * y->strides[0]);
    push_common(&d, node, features(p, each), width, p->heads, q, k, v, state, true);
    place_pass(&d, parts, pass, 6, 3);
    if (pass == OUTPUTS) d.params[6 + 21] = 0;
    gpu_int(&d, p->normalise != 0);
    gpu_int(&d, each);
    gpu_int(&d, p->feature);
    gpu_float(&d, (float)(1 / (sqrt(2.0) * sqrt((double)each))));
    gpu_float(&d, (float)pow((double)each, -0.25));
    gpu_float(&d, p->eps);
    push_parts(&d, parts, pass);
    return dispatch_pass(device, &d, node, parts, pass, width, n);
}

static strand_plugin_status linear_carry(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch, const matrix_parts *p, int64_t begin,
                                         int64_t n) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_carry);
    bind_carry(device, &d, node, scratch, p, cpu_input(node, 3), begin);
    const int64_t sizes[] = {n * p->part, p->rows, p->columns, p->heads, p->count};
    for (int i = 0; i < 5; i++) gpu_int(&d, sizes[i]);
    push_carry(&d, node, p, cpu_input(node, 3), true);
    return gpu_over(device, &d, n * p->part);
}

static strand_plugin_status linear_whole(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch) {
    const strand_op_linear_attention *p = node->params;
    int64_t each = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (node->n_outputs > 1) status = sums(device, node, scratch, width, (float)(1 / (sqrt(2.0) * sqrt((double)each))), (float)pow((double)each, -0.25));
    if (!status) status = linear_pass(device, node, scratch, NULL, WHOLE, 0, node->outputs[0].dims[0]);
    return status || node->n_outputs < 2 ? status : last_column(device, node, scratch, width);
}

GPU_RUN(linear_attention) {
    matrix_parts parts;
    if (!linear_in_parts(node, &parts)) return linear_whole(device, node, scratch);
    return run_carried(device, node, scratch, &parts, linear_pass, linear_carry);
}

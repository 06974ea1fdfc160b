/* ops_chunks_forms.c - GATED_LINEAR_ATTENTION, LINEAR_ATTENTION and DELTA_RULE of many tokens, put together from the steps
 * of ops_chunks.c and their own (kernels/chunks.k, chunks_linear.k, chunks_delta.k). Few tokens walk one by one
 * (ops_matrix_state.c). */
#include "ops_chunks.h"

#include <math.h>

#include "ops_chunks_forms.h"

static int64_t fours(int64_t n) {
    return (n + 3) / 4 * 4;
}

/* ---- gated linear attention ---- */

static bool gated_chunks(const strand_plugin_node *node, chunk_run *r) {
    const strand_op_gated_linear_attention *p = node->params;
    int64_t rows = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    const chunk_form form = {.heads = p->heads, .rows = rows, .each = rows, .padded = fours(rows), .width = width,
                             .columns = width, .pairs = 1, .state = 5};
    return gpu_in_chunks(node, &form, r);
}

/* What a token sees of itself, by u. */
static strand_plugin_status bonus(const chunk_run *r) {
    const strand_op_gated_linear_attention *p = r->node->params;
    const strand_plugin_tensor *q = &r->node->inputs[0], *k = &r->node->inputs[1], *u = cpu_input(r->node, 4);
    int64_t items = chunk_units(r) * CHUNK;
    gpu_dispatch d;
    if (!u) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_chunk_bonus);
    chunk_bind(r, &d, q, true);
    chunk_bind(r, &d, k, true);
    chunk_bind(r, &d, u, false);
    chunk_bind_lefts(r, &d);
    GPU_INTS(&d, items, r->heads, r->first, r->now, r->token, r->length, r->form.rows, q->strides[0], q->strides[1],
             k->strides[0], k->strides[1], u->strides[0]);
    gpu_float(&d, p->scale);
    gpu_int(&d, r->form.padded);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status decay_turn(const chunk_run *r) {
    return chunk_turn(r, true);
}

/* From the units' own ends to the states between them, the results, and the state behind the last. */
static strand_plugin_status through_states(const chunk_run *r, const strand_plugin_tensor *v, bool rows_first,
                                           chunk_step *turn) {
    strand_plugin_status status = chunk_begin(r, rows_first); /* before the ends: they take the place of what it reads */
    if (!status) status = chunk_ends(r, v);
    if (!status) status = turn(r);
    if (!status) status = chunk_outputs(r, v, false);
    return status ? status : chunk_after(r, rows_first);
}

static strand_plugin_status gated_step(const chunk_run *r) {
    const strand_op_gated_linear_attention *p = r->node->params;
    const strand_plugin_tensor *in = r->node->inputs;
    bool before = cpu_input(r->node, 4) != NULL;
    const chunk_pair pair = {&in[0], &in[1], &in[3], p->log_w != 0, before, p->scale};
    strand_plugin_status status = chunk_steps(r, &pair, 0);
    if (!status) status = chunk_scores(r, true, false, (const bool[]){before, false}, r->form.padded);
    if (!status) status = chunk_levels(r, &pair, 0, 0);
    if (!status) status = bonus(r);
    return status ? status : through_states(r, &in[2], true, decay_turn);
}

uint64_t gpu_gated_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    chunk_run r;
    (void)device;
    return gated_chunks(node, &r) ? r.at.bytes : 0;
}

strand_plugin_status gpu_gated_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, bool *done) {
    chunk_run r;
    *done = gated_chunks(node, &r);
    return *done ? gpu_run_chunks(&r, device, scratch, gated_step) : STRAND_PLUGIN_OK;
}

/* ---- linear attention ---- */

static bool linear_chunks(const strand_plugin_node *node, chunk_run *r) {
    const strand_op_linear_attention *p = node->params;
    int64_t d = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    bool taylor = p->feature == STRAND_FEATURE_TAYLOR2;
    const chunk_form form = {.heads = p->heads, .rows = taylor ? 1 + d + d * d : d, .each = d,
                             .padded = taylor ? fours(fours(d) + d * (d + 1) / 2 + 1) : fours(d), .width = width,
                             .columns = width + 1, .pairs = 1, .state = 3};
    return gpu_in_chunks(node, &form, r);
}

static strand_plugin_status features(const chunk_run *r) {
    const strand_op_linear_attention *p = r->node->params;
    const strand_plugin_tensor *q = &r->node->inputs[0], *k = &r->node->inputs[1];
    int64_t items = chunk_units(r) * CHUNK * (r->form.padded / 4);
    double each = (double)r->form.each;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_features);
    chunk_bind(r, &d, q, true);
    chunk_bind(r, &d, k, true);
    chunk_bind_lefts(r, &d);
    chunk_bind_rights(r, &d);
    GPU_INTS(&d, items, r->form.padded / 4, r->heads, r->first, r->now, r->token, r->length, r->form.each, q->strides[0],
             q->strides[1], k->strides[0], k->strides[1], p->feature);
    gpu_float(&d, (float)(1 / (sqrt(2.0) * sqrt(each))));
    gpu_float(&d, (float)pow(each, -0.25));
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status linear_begin(const chunk_run *r) {
    const strand_op_linear_attention *p = r->node->params;
    const strand_plugin_tensor *state = cpu_input(r->node, 3);
    int64_t one = r->heads * r->form.columns * r->form.padded, items = r->n * one;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_begin);
    chunk_bind(r, &d, state, true);
    chunk_bind_states(r, &d);
    if (state) d.params[0] += (int32_t)(r->first * state->strides[1]);
    GPU_INTS(&d, items, r->form.padded, r->form.each, r->form.columns, r->heads, chunk_starts(r) ? state != NULL : 2);
    for (int i = 0; i < 4; i++) gpu_int(&d, state ? state->strides[i] : 0);
    GPU_INTS(&d, (r->now + 1) * one, chunk_left_at(r), p->feature);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status linear_after(const chunk_run *r) {
    const strand_op_linear_attention *p = r->node->params;
    const strand_plugin_tensor *state = cpu_input(r->node, 3), *after = r->node->n_outputs > 1 ? &r->node->outputs[1] : NULL;
    int64_t one = r->heads * r->form.columns * r->form.padded, items = r->n * one;
    gpu_dispatch d;
    if (!after || !chunk_ends_here(r)) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_linear_after);
    chunk_bind(r, &d, state, true);
    chunk_bind_states(r, &d);
    gpu_bind(r->device, &d, after);
    if (state) d.params[0] += (int32_t)(r->first * state->strides[1]);
    d.params[2] += (int32_t)(r->begin * after->strides[0] + r->first * after->strides[1]);
    GPU_INTS(&d, items, r->form.padded, r->form.each, r->form.columns, r->heads, state != NULL);
    for (int i = 0; i < 4; i++) gpu_int(&d, state ? state->strides[i] : 0);
    GPU_INTS(&d, (r->now + 1) * one, r->now * one);
    gpu_ints(&d, after->strides, 4);
    gpu_int(&d, p->feature);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status linear_sums(const chunk_run *r) {
    int64_t items = chunk_units(r) * (r->form.padded / 4);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_linear_sums);
    chunk_bind_rights(r, &d);
    chunk_bind_states(r, &d);
    GPU_INTS(&d, items, r->form.padded / 4, r->heads, r->now, r->form.columns);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status linear_under(const chunk_run *r) {
    const strand_op_linear_attention *p = r->node->params;
    int64_t items = chunk_units(r) * CHUNK;
    gpu_dispatch d;
    if (!p->normalise) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_linear_under);
    chunk_bind_lefts(r, &d);
    chunk_bind_states(r, &d);
    chunk_bind_spare(r, &d, r->at.under, r->at.others);
    GPU_INTS(&d, items, r->form.padded / 4, r->heads, r->now, r->form.columns);
    gpu_float(&d, p->eps);
    return gpu_over(r->device, &d, items);
}

static strand_plugin_status linear_step(const chunk_run *r) {
    const strand_op_linear_attention *p = r->node->params;
    const strand_plugin_tensor *v = &r->node->inputs[2];
    strand_plugin_status status = features(r);
    if (!status)
        status =
            chunk_scores(r, false, p->feature == STRAND_FEATURE_TAYLOR2, (const bool[]){false, false}, fours(r->form.each));
    if (!status) status = linear_begin(r); /* before the ends and sums: they take the place of what it reads */
    if (!status) status = chunk_ends(r, v);
    if (!status) status = linear_sums(r);
    if (!status) status = chunk_turn(r, false);
    if (!status) status = linear_under(r);
    if (!status) status = chunk_outputs(r, v, p->normalise != 0);
    return status ? status : linear_after(r);
}

uint64_t gpu_linear_chunks_scratch(const strand_plugin_node *node) {
    chunk_run r;
    return linear_chunks(node, &r) ? r.at.bytes : 0;
}

strand_plugin_status gpu_linear_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                          const strand_plugin_memory *scratch, bool *done) {
    chunk_run r;
    *done = linear_chunks(node, &r);
    return *done ? gpu_run_chunks(&r, device, scratch, linear_step) : STRAND_PLUGIN_OK;
}

/* ---- delta rule ---- */

static bool delta_chunks(const strand_plugin_node *node, chunk_run *r) {
    const strand_op_delta_rule *p = node->params;
    int64_t rows = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    const chunk_form form = {.heads = p->heads, .rows = rows, .each = rows, .padded = fours(rows), .width = width,
                             .columns = width, .pairs = 2, .state = 6};
    return gpu_in_chunks(node, &form, r);
}

static void bind_others(const chunk_run *r, gpu_dispatch *d, int which) {
    uint32_t at = d->n_bindings;
    chunk_bind_spare(r, d, r->at.others, r->at.matrices);
    d->params[at] += which * (int32_t)r->at.other;
}

static strand_plugin_status invert(const chunk_run *r) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_invert);
    bind_others(r, &d, 1);
    return gpu_groups(r->device, &d, chunk_units(r), 1, 1);
}

/* Lefts number `to` = others number `weights` times the second lefts, or that added. */
static strand_plugin_status multiply(const chunk_run *r, int weights, int to, bool added) {
    int64_t row = r->form.padded + CHUNK;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_multiply);
    bind_others(r, &d, weights);
    chunk_bind_lefts(r, &d);
    GPU_INTS(&d, (int64_t)r->at.left, to * (int64_t)r->at.left, row, added);
    return gpu_groups(r->device, &d, chunk_units(r), (row + 63) / 64, 1);
}

/* k~ += Z^T b~, or the matrices diag(G) + b~^T W. */
static strand_plugin_status gather(const chunk_run *r, bool keys) {
    int64_t padded = r->form.padded, row = padded + CHUNK, across = (padded + 63) / 64;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_delta_gather);
    chunk_bind_gains(r, &d);
    if (keys) {
        chunk_bind_lefts(r, &d);
        chunk_bind_rights(r, &d);
        chunk_bind_rights(r, &d);
    } else {
        chunk_bind_rights(r, &d);
        chunk_bind_lefts(r, &d);
        chunk_bind_spare(r, &d, r->at.matrices, r->at.bytes);
    }
    d.params[1] += keys ? (int32_t)((int64_t)r->at.left + padded) : (int32_t)r->at.right;
    d.params[2] += keys ? (int32_t)r->at.right : (int32_t)r->at.left;
    GPU_INTS(&d, keys ? row : padded, keys ? CHUNK : padded, keys ? padded : row, padded, padded,
             (keys ? CHUNK : padded) * padded, across, keys);
    return gpu_groups(r->device, &d, chunk_units(r), across * (keys ? 1 : across), 1);
}

/* Chunk after chunk, since each multiplies the state with a matrix of its own. */
static strand_plugin_status delta_turn(const chunk_run *r) {
    int64_t across = (r->form.padded + 63) / 64, blocks = across * ((r->form.width + 63) / 64);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int64_t chunk = 0; chunk < r->now && !status; chunk++) {
        gpu_dispatch d;
        gpu_begin(&d, GPU_K_delta_turn);
        chunk_bind_spare(r, &d, r->at.matrices, r->at.bytes);
        chunk_bind_states(r, &d);
        GPU_INTS(&d, chunk, r->now, r->heads, r->form.padded, r->form.width, across);
        status = gpu_groups(r->device, &d, blocks, r->heads, r->n);
    }
    return status;
}

static strand_plugin_status delta_step(const chunk_run *r) {
    const strand_op_delta_rule *p = r->node->params;
    const strand_plugin_tensor *in = r->node->inputs, *lefts[] = {&in[0], &in[4]}, *rights[] = {&in[2], &in[5]};
    const bool before[] = {false, true};
    const float scales[] = {p->scale, 1};
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int i = 0; i < 2 && !status; i++) {
        const chunk_pair pair = {lefts[i], rights[i], &in[1], p->log_w != 0, before[i], scales[i]};
        status = chunk_steps(r, &pair, i);
    }
    if (!status) status = chunk_scores(r, true, false, before, r->form.padded);
    for (int i = 0; i < 4 && !status; i++) {
        const chunk_pair pair = {lefts[i % 2], rights[i / 2], &in[1], p->log_w != 0, before[i % 2], scales[i % 2]};
        status = chunk_levels(r, &pair, i % 2, i / 2);
    }
    if (!status) status = invert(r);
    if (!status) status = multiply(r, 1, 1, false);
    if (!status) status = multiply(r, 0, 0, true);
    if (!status) status = gather(r, true);
    if (!status) status = gather(r, false);
    return status ? status : through_states(r, &in[3], false, delta_turn);
}

uint64_t gpu_delta_rule_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    chunk_run r;
    (void)device;
    return delta_chunks(node, &r) ? r.at.bytes : 0;
}

strand_plugin_status gpu_delta_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, bool *done) {
    chunk_run r;
    *done = delta_chunks(node, &r);
    return *done ? gpu_run_chunks(&r, device, scratch, delta_step) : STRAND_PLUGIN_OK;
}

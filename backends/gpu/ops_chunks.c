/* ops_chunks.c - recurrences with a matrix state in chunks (kernels/chunks.k): how the work is cut up, and the steps that
 * operators share.
 *
 * As many chunks and batch entries go at a time as spare memory holds; the state behind them is the one before the next. How
 * a sequence is cut up so changes no bit of the result: chunks are anchored at token 0. y may be a tile of batch entries and
 * channels. */
#include "ops_chunks.h"

static uint64_t place(uint64_t *at, int64_t numbers) {
    uint64_t here = *at;
    *at += ((uint64_t)numbers * sizeof(float) + 63) / 64 * 64;
    return here;
}

bool gpu_in_chunks(const strand_plugin_node *node, const chunk_form *f, chunk_run *r) {
    const strand_plugin_tensor *y = &node->outputs[0];
    int64_t all = (y->dims[1] + CHUNK - 1) / CHUNK, row = f->padded + 64, pairs = f->pairs;
    int64_t unit = pairs * (CHUNK * row + CHUNK * f->padded) + 2 * f->padded + 2 * f->columns * f->padded + CHUNK;
    if (pairs > 1) unit += 2 * CHUNK * CHUNK + f->padded * f->padded;
    if (y->dims[1] < CHUNKS_LEAST || !y->dims[0] || !y->dims[2] || f->rows < 1 || f->heads * unit > CHUNKS_MOST_FLOATS)
        return false;
    int64_t most = CHUNKS_MOST_FLOATS / (f->heads * unit);
    *r = (chunk_run){.node = node, .form = *f, .length = y->dims[1], .first = y->origin[2] / f->width};
    r->heads = (y->origin[2] + y->dims[2] - 1) / f->width + 1 - r->first;
    r->chunks = cpu_min(all, most);
    r->batch = cpu_min(y->dims[0], most / r->chunks);
    /* Room for what any shorter sequence has at work, and for a tile of as many channels wherever it begins: plans are made
     * for the longest run and the first tile. */
    int64_t heads = cpu_min(f->heads, (y->dims[2] + f->width - 2) / f->width + 1);
    int64_t units = heads * cpu_min(most, y->dims[0] * all), states = units + heads * cpu_min(most, y->dims[0]);
    uint64_t at = 0;
    r->at.left = (uint64_t)(units * CHUNK * row);
    r->at.right = (uint64_t)(units * CHUNK * f->padded);
    r->at.other = (uint64_t)(units * CHUNK * CHUNK);
    place(&at, pairs * (int64_t)r->at.left);
    r->at.rights = place(&at, pairs * (int64_t)r->at.right);
    r->at.gains = place(&at, units * 2 * f->padded);
    r->at.states = place(&at, states * f->columns * f->padded);
    r->at.under = place(&at, units * CHUNK);
    r->at.others = place(&at, pairs > 1 ? 2 * (int64_t)r->at.other : 16);
    r->at.matrices = place(&at, pairs > 1 ? units * f->padded * f->padded : 16);
    r->at.bytes = at;
    return true;
}

strand_plugin_status gpu_run_chunks(chunk_run *r, strand_plugin_device *device, const strand_plugin_memory *scratch,
                                    chunk_step *step) {
    strand_plugin_status status = STRAND_PLUGIN_OK;
    int64_t batch = r->node->outputs[0].dims[0];
    r->device = device;
    r->scratch = scratch;
    for (r->begin = 0; r->begin < batch && !status; r->begin += r->batch)
        for (r->token = 0; r->token < r->length && !status; r->token += r->chunks * CHUNK) {
            r->n = cpu_min(r->batch, batch - r->begin);
            r->now = cpu_min(r->chunks, (r->length - r->token + CHUNK - 1) / CHUNK);
            status = step(r);
        }
    return status;
}

void chunk_bind(const chunk_run *r, gpu_dispatch *d, const strand_plugin_tensor *t, bool batched) {
    uint32_t at = d->n_bindings;
    gpu_bind_or(r->device, d, t, &r->node->inputs[0]);
    if (t && batched) d->params[at] += (int32_t)((cpu_lead(t, 0, &r->node->outputs[0], 0) + r->begin) * t->strides[0]);
}

void chunk_bind_spare(const chunk_run *r, gpu_dispatch *d, uint64_t from, uint64_t to) {
    gpu_bind_memory(r->device, d, r->scratch, from, to - from, sizeof(float));
}
void chunk_bind_lefts(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, 0, r->at.rights);
}
void chunk_bind_rights(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, r->at.rights, r->at.gains);
}
void chunk_bind_gains(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, r->at.gains, r->at.states);
}
void chunk_bind_states(const chunk_run *r, gpu_dispatch *d) {
    chunk_bind_spare(r, d, r->at.states, r->at.under);
}

int64_t chunk_units(const chunk_run *r) {
    return r->n * r->now * r->heads;
}
bool chunk_starts(const chunk_run *r) {
    return r->token == 0;
}
bool chunk_ends_here(const chunk_run *r) {
    return r->token + r->now * CHUNK >= r->length;
}

/* Numbers of the states of all heads at one chunk. */
static int64_t slot(const chunk_run *r) {
    return r->heads * r->form.columns * r->form.padded;
}

int64_t chunk_left_at(const chunk_run *r) {
    return r->chunks * slot(r); /* pieces before the last one are full */
}

strand_plugin_status chunk_steps(const chunk_run *r, const chunk_pair *p, int which) {
    const strand_plugin_tensor *left = p->left, *right = p->right, *w = p->w;
    bool tokens = w->rank == 3;
    int64_t each = tokens ? 1 : w->strides[0], items = chunk_units(r) * (r->form.padded / 4);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_steps);
    chunk_bind(r, &d, left, true);
    chunk_bind(r, &d, right, true);
    chunk_bind(r, &d, w, tokens);
    chunk_bind_gains(r, &d);
    chunk_bind_lefts(r, &d);
    chunk_bind_rights(r, &d);
    d.params[4] += which * (int32_t)r->at.left;
    d.params[5] += which * (int32_t)r->at.right;
    GPU_INTS(&d, items, r->form.padded / 4, r->heads, r->first, r->now, r->token, r->length, r->form.rows, left->strides[0],
             left->strides[1], right->strides[0], right->strides[1], tokens ? w->strides[0] : 0, tokens ? w->strides[1] : 0,
             each, p->log_w, p->before);
    gpu_float(&d, p->scale);
    if (each != 1)
        d.kernel = GPU_K_chunk_steps_any;
    else
        GPU_CHOOSE(&d, 0, 1, 2, 13, 14, 15, 16, 17, 18, 19);
    return gpu_over(r->device, &d, items);
}

strand_plugin_status chunk_scores(const chunk_run *r, bool decays, bool taylor, const bool before[2], int64_t columns) {
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_scores);
    chunk_bind_gains(r, &d);
    chunk_bind_rights(r, &d);
    chunk_bind_lefts(r, &d);
    chunk_bind_spare(r, &d, r->at.others, r->at.matrices);
    GPU_INTS(&d, r->form.padded, (int64_t)r->at.left, (int64_t)r->at.right, (int64_t)r->at.other, decays, columns, before[0],
             before[1], taylor);
    return gpu_groups(r->device, &d, chunk_units(r), r->form.pairs * r->form.pairs, 1);
}

strand_plugin_status chunk_levels(const chunk_run *r, const chunk_pair *p, int left, int right) {
    const strand_plugin_tensor *w = p->w;
    bool tokens = w->rank == 3;
    int64_t padded = r->form.padded, row = right ? CHUNK : padded + CHUNK;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_levels);
    chunk_bind(r, &d, p->left, true);
    chunk_bind(r, &d, p->right, true);
    chunk_bind(r, &d, w, tokens);
    chunk_bind_gains(r, &d);
    if (right) {
        chunk_bind_spare(r, &d, r->at.others, r->at.matrices);
        d.params[4] += left * (int32_t)r->at.other;
    } else {
        chunk_bind_lefts(r, &d);
        d.params[4] += left * (int32_t)r->at.left + (int32_t)padded;
    }
    GPU_INTS(&d, r->heads, r->first, r->now, r->token, r->length, r->form.rows, p->left->strides[0], p->left->strides[1],
             p->right->strides[0], p->right->strides[1], tokens ? w->strides[0] : 0, tokens ? w->strides[1] : 0,
             tokens ? 1 : w->strides[0], p->log_w, p->before);
    gpu_float(&d, p->scale);
    GPU_INTS(&d, padded, row, CHUNK * row);
    return gpu_groups(r->device, &d, chunk_units(r), 1, 1);
}

strand_plugin_status chunk_ends(const chunk_run *r, const strand_plugin_tensor *v) {
    const strand_plugin_tensor *y = &r->node->outputs[0];
    int64_t across = (r->form.padded + 63) / 64, blocks = across * ((r->form.width + 63) / 64);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_ends);
    chunk_bind(r, &d, v, true);
    chunk_bind_rights(r, &d);
    chunk_bind_states(r, &d);
    d.params[0] += (int32_t)cpu_lead(v, 2, y, 2);
    GPU_INTS(&d, r->length, r->token, r->now, r->heads, r->first, r->form.padded, r->form.width, r->form.columns, across,
             blocks, v->strides[0], v->strides[1], y->origin[2], y->dims[2]);
    GPU_CHOOSE(&d, 0, 9, 13, 14, 15, 16);
    return gpu_groups(r->device, &d, r->now * blocks, r->heads, r->n);
}

strand_plugin_status chunk_begin(const chunk_run *r, bool rows_first) {
    const strand_plugin_tensor *state = cpu_input(r->node, r->form.state);
    int64_t items = r->n * slot(r);
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_begin);
    chunk_bind(r, &d, state, true);
    chunk_bind_states(r, &d);
    if (state) d.params[0] += (int32_t)(r->first * state->strides[1]);
    GPU_INTS(&d, items, r->form.padded, r->form.rows, r->form.columns, r->heads, chunk_starts(r) ? state != NULL : 2,
             state ? state->strides[0] : 0, state ? state->strides[1] : 0, state ? state->strides[rows_first ? 2 : 3] : 0,
             state ? state->strides[rows_first ? 3 : 2] : 0, (r->now + 1) * slot(r), chunk_left_at(r));
    return gpu_over(r->device, &d, items);
}

strand_plugin_status chunk_turn(const chunk_run *r, bool decays) {
    int64_t items = r->n * slot(r) / 4;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_turn);
    chunk_bind_gains(r, &d);
    chunk_bind_states(r, &d);
    GPU_INTS(&d, items, r->form.padded / 4, r->form.columns, r->heads, r->now, decays);
    return gpu_over(r->device, &d, items);
}

strand_plugin_status chunk_after(const chunk_run *r, bool rows_first) {
    const strand_plugin_tensor *after = r->node->n_outputs > 1 ? &r->node->outputs[1] : NULL;
    int64_t items = r->n * r->heads * r->form.columns * r->form.rows;
    gpu_dispatch d;
    if (!after || !chunk_ends_here(r)) return STRAND_PLUGIN_OK;
    gpu_begin(&d, GPU_K_chunk_after);
    chunk_bind_states(r, &d);
    gpu_bind(r->device, &d, after);
    d.params[1] += (int32_t)(r->begin * after->strides[0] + r->first * after->strides[1]);
    GPU_INTS(&d, items, r->form.padded, r->form.rows, r->form.columns, r->heads, (r->now + 1) * slot(r), r->now * slot(r),
             after->strides[0], after->strides[1], after->strides[rows_first ? 2 : 3], after->strides[rows_first ? 3 : 2]);
    return gpu_over(r->device, &d, items);
}

strand_plugin_status chunk_outputs(const chunk_run *r, const strand_plugin_tensor *v, bool divided) {
    const strand_plugin_tensor *y = &r->node->outputs[0];
    int64_t blocks = (r->form.width + 63) / 64;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_chunk_outputs);
    chunk_bind(r, &d, v, true);
    chunk_bind_lefts(r, &d);
    chunk_bind_states(r, &d);
    chunk_bind_spare(r, &d, r->at.under, r->at.others);
    gpu_bind(r->device, &d, y);
    d.params[0] += (int32_t)cpu_lead(v, 2, y, 2);
    d.params[4] += (int32_t)(r->begin * y->strides[0]);
    GPU_INTS(&d, r->length, r->token, r->now, r->heads, r->first, r->form.padded, r->form.width, r->form.columns, blocks,
             v->strides[0], v->strides[1], y->strides[0], y->strides[1], y->origin[2], y->dims[2], divided);
    GPU_CHOOSE(&d, 0, 4, 11, 14, 15, 16, 17, 18, 19);
    return gpu_groups(r->device, &d, r->now * blocks, r->heads, r->n);
}

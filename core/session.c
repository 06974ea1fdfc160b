/* session.c - a session's memory in one block, and the checks around a run: which tensors were given, how large the run is, and
 * where the results go. The block holds, in this order: the session, the launch descriptions, the positions, the handles of
 * buffers and recordings, and the arena. */
#include "session.h"

#include <math.h>
#include <string.h>

#include "checked.h"

static uint64_t host_alignment(const strand_plan *p) {
    uint64_t most = 64;
    for (uint32_t d = 0; d < p->place.n_devices; d++)
        if (p->place.space[d] == 0 && p->place.devices[d]->info.alignment > most) most = p->place.devices[d]->info.alignment;
    return most;
}

/* The next aligned place after `at`; addresses are aligned, not offsets, since a caller's block is only aligned to 64. */
static uint64_t place(unsigned char *base, uint64_t at, uint64_t align) {
    if (!base) return at + align - 1; /* counting: room for the worst case */
    return at + (-(uint64_t)(uintptr_t)(base + at) & (align - 1));
}

uint64_t session_layout(const strand_plan *p, unsigned char *base, strand_session **session) {
    uint64_t group = p->schedule.max_group;
    uint64_t at = place(base, 0, _Alignof(strand_session)), self = at;
    at = place(base, at + sizeof(strand_session), 16);
    uint64_t nodes = at;
    at = place(base, at + group * sizeof(strand_plugin_node), 16);
    uint64_t views = at;
    at = place(base, at + group * NODE_VIEWS * sizeof(strand_plugin_tensor), 16);
    uint64_t positions = at;
    at = place(base, at + (p->schedule.n_states ? (uint64_t)p->place.batch * sizeof(int64_t) : 0), 16);
    uint64_t buffers = at, handles = (uint64_t)p->schedule.n_buffers * sizeof(strand_plugin_buffer *);
    at = place(base, at + handles, 16);
    uint64_t segments = at, recordings = (uint64_t)p->schedule.n_segments * SEGMENT_SHAPES * sizeof(strand_plugin_segment *);
    at = place(base, at + recordings, host_alignment(p));
    uint64_t data = at;
    at += p->schedule.bytes[0];
    if (base) {
        strand_session *s = (strand_session *)(void *)(base + self);
        memset(s, 0, sizeof *s);
        s->nodes = (strand_plugin_node *)(void *)(base + nodes);
        s->views = (strand_plugin_tensor *)(void *)(base + views);
        s->positions = (int64_t *)(void *)(base + positions);
        s->buffers = (strand_plugin_buffer **)(void *)(base + buffers);
        memset(s->buffers, 0, (size_t)handles);
        s->segments = (strand_plugin_segment **)(void *)(base + segments);
        memset(s->segments, 0, (size_t)recordings);
        s->arena = base + data;
        *session = s;
    }
    return at;
}

void strand_session_params_init(strand_session_params *params) {
    if (params) *params = (strand_session_params){.size = sizeof *params};
}

/* The buffers of a device's space: one, or several of which none is larger than the device allows. */
static strand_status open_space(strand_session *s, const registry_device *r, uint32_t space) {
    const schedule *sc = &s->plan->schedule;
    uint64_t page = s->plan->place.page[space];
    uint32_t k = sc->first_buffer[space];
    for (uint64_t left = sc->bytes[space]; left; k++) {
        uint64_t bytes = page && left > page ? page : left;
        if (r->plugin->table.api->buffer_create(r->device, bytes, &s->buffers[k])) {
            char text[160];
            context_take_fail(s->plan->context, text, sizeof text);
            return error_set(
                &s->error, STRAND_ERR_BACKEND,
                "backend '%s' has not the %.1f MiB that the plan needs%s%s; give a memory limit or a shorter length", r->name,
                (double)sc->bytes[space] / 1048576, text[0] ? ": " : "", text);
        }
        left -= bytes;
    }
    return STRAND_OK;
}

/* Buffers of devices that have their own memory, and the weights in them. */
static strand_status open_devices(strand_session *s) {
    const placement *p = &s->plan->place;
    for (uint32_t d = 0; d < p->n_devices; d++)
        if (p->space[d] && open_space(s, p->devices[d], p->space[d])) return s->error.status;
    return execute_load(s);
}

static void close_space(strand_session *s, const registry_device *r, uint32_t space) {
    const schedule *sc = &s->plan->schedule;
    uint64_t page = s->plan->place.page[space];
    uint32_t k = sc->first_buffer[space];
    for (uint64_t left = sc->bytes[space]; left; k++) {
        if (s->buffers[k]) r->plugin->table.api->buffer_destroy(r->device, s->buffers[k]);
        s->buffers[k] = NULL;
        left -= page && left > page ? page : left;
    }
}

static void close_devices(strand_session *s) {
    const placement *p = &s->plan->place;
    execute_drain(s);
    segments_forget(s);
    for (uint32_t d = 0; d < p->n_devices; d++)
        if (p->space[d]) close_space(s, p->devices[d], p->space[d]);
}

strand_status strand_session_open(strand_plan *p, const strand_session_params *given, strand_session **out) {
    strand_session_params params;
    strand_session_params_init(&params);
    if (!p || !out || (given && given->size < offsetof(strand_session_params, progress))) return STRAND_ERR_ARGUMENT;
    if (given) memcpy(&params, given, given->size < sizeof params ? given->size : sizeof params);
    strand_context *c = p->context;
    error e = {0};
    unsigned char *block = params.block;
    if (block && ((uintptr_t)block & 63)) {
        error_set(&e, STRAND_ERR_ARGUMENT, "the session's block must be aligned to 64 bytes");
        return context_fail(c, &e);
    }
    if (block && params.block_bytes < p->block_bytes) {
        error_set(&e, STRAND_ERR_MEMORY, "the session's block has %zu bytes; this plan needs %llu", params.block_bytes,
                  (unsigned long long)p->block_bytes);
        return context_fail(c, &e);
    }
    if (!block && p->block_bytes <= SIZE_MAX) block = c->allocator.alloc(c->allocator.user, (size_t)p->block_bytes, 64);
    if (!block) {
        error_set(&e, STRAND_ERR_MEMORY, "no memory for a session of %.1f MiB; give a memory limit or a shorter length",
                  (double)p->block_bytes / 1048576);
        return context_fail(c, &e);
    }
    strand_session *s;
    session_layout(p, block, &s);
    s->plan = p;
    s->block_bytes = (size_t)p->block_bytes;
    if (!params.block) s->allocator = c->allocator;
    s->progress = params.progress;
    s->progress_user = params.progress_user;
    s->trace = params.trace;
    s->trace_user = params.trace_user;
    s->check_finite = params.check_finite != 0;
    if (open_devices(s) || state_reset(s, 0, p->place.batch, true)) {
        e = s->error;
        strand_session_close(s);
        return context_fail(c, &e);
    }
    *out = s;
    return STRAND_OK;
}

/* Where the block begins: the session stands at its start, up to alignment that an allocated block already has. */
void strand_session_close(strand_session *s) {
    if (!s) return;
    close_devices(s);
    strand_allocator allocator = s->allocator;
    size_t bytes = s->block_bytes;
    if (allocator.free) allocator.free(allocator.user, s, bytes);
}

const char *strand_session_error(const strand_session *s) {
    return s ? s->error.text : "no session";
}

/* Is the given extent what the model's dimension asks for? Fixes batch and length at their first appearance. */
static strand_status match_dim(strand_session *s, const char *name, int axis, op_dim d, int64_t given) {
    int64_t *run = d.kind == OP_DIM_BATCH ? &s->batch : &s->length;
    if (d.kind == OP_DIM_FIXED)
        return given == d.size ? STRAND_OK
                               : error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s': axis %d is %lld, the model takes %lld",
                                           name, axis, (long long)given, (long long)d.size);
    if (given < 1) return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s': axis %d is empty", name, axis);
    if (*run == 0) *run = given;
    if (*run != given)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s': axis %d is %lld, another input has %lld", name, axis,
                         (long long)given, (long long)*run);
    int64_t most = d.kind == OP_DIM_BATCH ? s->plan->place.batch : s->plan->place.length;
    if (given > most)
        return error_set(&s->error, STRAND_ERR_LIMIT,
                         "input '%s': a %s of %lld is more than the session was planned for (%lld)", name,
                         d.kind == OP_DIM_BATCH ? "batch" : "length", (long long)given, (long long)most);
    return STRAND_OK;
}

static bool integer_type(strand_dtype t) {
    return t >= STRAND_I8 && t <= STRAND_I64;
}

static strand_status match_input(strand_session *s, const graph_tensor *want, const strand_tensor *given) {
    bool types = want->shape.dtype == given->dtype || (want->shape.dtype == STRAND_I64 && integer_type(given->dtype));
    if (!types)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' is %s, the model takes %s", want->name,
                         strand_dtype_name(given->dtype), strand_dtype_name(want->shape.dtype));
    if (given->rank != want->shape.rank)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' has %d axes, the model takes %d", want->name,
                         (int)given->rank, want->shape.rank);
    uint64_t bytes = strand_dtype_size(given->dtype);
    for (int i = 0; i < want->shape.rank; i++) {
        if (match_dim(s, want->name, i, want->shape.dims[i], given->dims[i])) return s->error.status;
        if (!checked_mul(bytes, (uint64_t)given->dims[i], &bytes))
            return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' is too large", want->name);
    }
    if (!given->data || given->bytes < bytes)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' has %llu bytes of data, its shape needs %llu", want->name,
                         (unsigned long long)given->bytes, (unsigned long long)bytes);
    return STRAND_OK;
}

#define MAX_INPUTS_GIVEN 16

static strand_status match_inputs(strand_session *s, const strand_tensor *inputs, int32_t n, const strand_tensor **found) {
    const graph *g = &s->plan->model->graph;
    for (int32_t i = 0; i < n; i++) {
        bool known = false;
        for (tensor_id t = 1; t < g->n_tensors && !known; t++)
            known = g->tensors[t].kind == TENSOR_INPUT && inputs[i].name && !strcmp(g->tensors[t].name, inputs[i].name);
        if (!known)
            return error_set(&s->error, STRAND_ERR_ARGUMENT, "the model has no input '%s'",
                             inputs[i].name ? inputs[i].name : "");
    }
    uint32_t k = 0;
    for (tensor_id t = 1; t < g->n_tensors; t++) {
        if (g->tensors[t].kind != TENSOR_INPUT) continue;
        if (k == MAX_INPUTS_GIVEN)
            return error_set(&s->error, STRAND_ERR_UNSUPPORTED, "the model has more than %d inputs", MAX_INPUTS_GIVEN);
        found[k] = NULL;
        for (int32_t i = 0; i < n; i++)
            if (!strcmp(g->tensors[t].name, inputs[i].name)) found[k] = &inputs[i];
        if (!found[k] && s->plan->place.uses[t])
            return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' is missing", g->tensors[t].name);
        if (found[k] && match_input(s, &g->tensors[t], found[k])) return s->error.status;
        k++;
    }
    if (!s->batch) s->batch = 1;
    if (!s->length) s->length = s->plan->place.length;
    return STRAND_OK;
}

/* The graph output of that name if this plan makes it, else NONE. */
static uint32_t find_output(const strand_session *s, const char *name) {
    const graph *g = &s->plan->model->graph;
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (name && !strcmp(g->outputs[i].name, name) && s->plan->schedule.outputs[i] != NONE) return i;
    return NONE;
}

static strand_status describe_output(strand_session *s, strand_tensor *t) {
    uint32_t index = find_output(s, t->name);
    if (index == NONE)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "output '%s' is not made by this plan", t->name ? t->name : "");
    /* What an earlier run set is not a buffer of the caller's: a loop may pass the same struct again. */
    if (t->data && t->data == execute_host_address(s, s->plan->schedule.outputs[index])) t->data = NULL;
    strand_plugin_tensor v;
    uint64_t bytes;
    view_whole(&v, &s->plan->model->graph.tensors[s->plan->model->graph.outputs[index].tensor], s->batch, s->length);
    view_bytes(&v, &bytes);
    if (t->data && t->bytes < bytes)
        return error_set(&s->error, STRAND_ERR_ARGUMENT, "output '%s' needs %llu bytes, the buffer has %llu", t->name,
                         (unsigned long long)bytes, (unsigned long long)t->bytes);
    t->dtype = (strand_dtype)v.dtype;
    t->rank = (int32_t)v.rank;
    t->bytes = bytes;
    memset(t->dims, 0, sizeof t->dims);
    for (uint32_t i = 0; i < v.rank; i++) t->dims[i] = v.dims[i];
    return STRAND_OK;
}

static strand_status check_finite(strand_session *s, const char *name, const float *x, uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return error_set(&s->error, STRAND_ERR_NUMERIC, "output '%s' holds %s at element %llu", name,
                             isnan(x[i]) ? "NaN" : "infinity", (unsigned long long)i);
    return STRAND_OK;
}

#define MAX_OUTPUTS_GIVEN 64

strand_status strand_session_run(strand_session *s, const strand_tensor *inputs, int32_t n_inputs, strand_tensor *outputs,
                                 int32_t n_outputs) {
    if (!s || (n_inputs > 0 && !inputs) || (n_outputs > 0 && !outputs) || n_inputs < 0 || n_outputs < 0 ||
        n_outputs > MAX_OUTPUTS_GIVEN)
        return STRAND_ERR_ARGUMENT;
    const strand_tensor *found[MAX_INPUTS_GIVEN];
    strand_tensor made[MAX_OUTPUTS_GIVEN]; /* so that a failure leaves the caller's untouched */
    s->batch = s->length = 0;
    s->error = (error){0};
    if (match_inputs(s, inputs, n_inputs, found)) return s->error.status;
    for (int32_t i = 0; i < n_outputs; i++) {
        made[i] = outputs[i];
        if (describe_output(s, &made[i])) return s->error.status;
    }
    if (state_check(s)) return s->error.status;
    strand_status status = execute_run(s, found);
    for (int64_t b = 0; s->plan->schedule.n_states && b < s->batch; b++)
        s->positions[b] = status ? STATE_LOST : s->positions[b] + s->length;
    if (status) return status;
    for (int32_t i = 0; i < n_outputs; i++) {
        void *at = execute_host_address(s, s->plan->schedule.outputs[find_output(s, made[i].name)]);
        if (s->check_finite && made[i].dtype == STRAND_F32 && check_finite(s, made[i].name, at, made[i].bytes / sizeof(float)))
            return s->error.status;
        if (!made[i].data) made[i].data = at;
        else
            memcpy(made[i].data, at, (size_t)made[i].bytes);
    }
    if (n_outputs) memcpy(outputs, made, (size_t)n_outputs * sizeof *outputs);
    return STRAND_OK;
}

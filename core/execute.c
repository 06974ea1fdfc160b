/* execute.c - runs a schedule: binds each launch's tensors to memory for this run's extents and the current tile, and calls the
 * backends. Nothing is allocated. Devices with own queues run ahead; the host waits for them only before it reads or reuses
 * memory that a copy touches, and at the end of a run. */
#include "session.h"

#include <stdio.h>
#include <string.h>

typedef struct tile_range {
    bool cut;
    int64_t begin, end; /* of the region's axis */
} tile_range;

strand_status execute_fail(strand_session *s, const registry_device *d, strand_plugin_status status, const char *what) {
    char text[256];
    context_take_fail(s->plan->context, text, sizeof text);
    strand_status st =
        status >= STRAND_ERR_ARGUMENT && status <= STRAND_ERR_NUMERIC ? (strand_status)status : STRAND_ERR_BACKEND;
    const char *cure = status == STRAND_PLUGIN_ERR_MEMORY        ? "; give a memory limit or a shorter length"
                       : status == STRAND_PLUGIN_ERR_UNSUPPORTED ? "; use another driver or backend"
                       : status == STRAND_PLUGIN_ERR_DEVICE      ? "; start again, or use another backend"
                                                                 : "";
    return error_set(&s->error, st, "backend '%s' failed at %s%s%s%s", d->name, what, text[0] ? ": " : "", text, cure);
}

static strand_status wait_for(strand_session *s, const registry_device *d) {
    const strand_plugin_api *api = d->plugin->table.api;
    uint64_t point;
    if (!api->submit) return STRAND_OK;
    strand_plugin_status status = api->submit(d->device, &point);
    if (!status) status = api->wait(d->device, point);
    return status ? execute_fail(s, d, status, "its queue") : STRAND_OK;
}

/* Waits for the devices in the mask that have something under way. */
static strand_status settle(strand_session *s, uint32_t mask) {
    for (uint32_t d = 0; d < s->plan->place.n_devices; d++) {
        uint32_t bit = 1u << d;
        if (!(mask & s->busy & bit)) continue;
        s->busy &= ~bit;
        s->uploading &= ~bit;
        s->downloading &= ~bit;
        if (wait_for(s, s->plan->place.devices[d])) return s->error.status;
    }
    return STRAND_OK;
}

strand_status execute_settle(strand_session *s) {
    return settle(s, UINT32_MAX);
}

void execute_drain(strand_session *s) {
    error e = s->error; /* draining may add to it */
    s->busy = s->uploading = s->downloading = 0;
    for (uint32_t d = 0; d < s->plan->place.n_devices; d++) {
        uint32_t space = s->plan->place.space[d];
        bool open = space && s->plan->schedule.bytes[space] && s->buffers[s->plan->schedule.first_buffer[space]];
        if (open) wait_for(s, s->plan->place.devices[d]);
    }
    s->error = e;
}

static strand_plugin_memory block_memory(const strand_session *s, uint32_t block) {
    const schedule_block *b = &s->plan->schedule.blocks[block];
    if (b->space == 0) return (strand_plugin_memory){s->arena + b->offset, NULL, 0, b->life.bytes};
    uint64_t page = s->plan->place.page[b->space];
    uint32_t first = s->plan->schedule.first_buffer[b->space];
    if (page) return (strand_plugin_memory){NULL, s->buffers[first + b->offset / page], b->offset % page, b->life.bytes};
    return (strand_plugin_memory){NULL, s->buffers[first], b->offset, b->life.bytes};
}

static const graph_tensor *tensor_of(const strand_session *s, tensor_id t) {
    return &s->plan->model->graph.tensors[t];
}

static strand_plugin_memory instance_memory(const strand_session *s, const instance *x) {
    if (x->block != NONE) return block_memory(s, x->block);
    /* Weights are read in place; the ABI has no const memory, and no operator writes its inputs. */
    union {
        const void *read;
        void *any;
    } data = {tensor_of(s, x->tensor)->data};
    return (strand_plugin_memory){data.any, NULL, 0, UINT64_MAX};
}

void *execute_host_address(const strand_session *s, uint32_t index) {
    return instance_memory(s, &s->plan->schedule.instances[index]).data;
}

static int64_t clip(int64_t v, int64_t lo, int64_t hi) {
    return v < lo ? lo : v > hi ? hi : v;
}

/* Shrinks a fresh whole view to an interval and makes it contiguous: memory that holds a tile alone. */
static void as_tile(strand_plugin_tensor *v, int axis, int64_t begin, int64_t end) {
    v->origin[axis] = begin;
    v->dims[axis] = end - begin;
    int64_t stride = 1;
    for (uint32_t i = v->rank; i-- > 0; stride *= v->dims[i]) v->strides[i] = stride;
}

/* The view of an instance that a node has: all of it, or the interval [begin - left, end + right) of `axis`. */
static void bind(const strand_session *s, uint32_t index, tensor_id t, const tile_range *r, int axis, int64_t left,
                 int64_t right, strand_plugin_tensor *v) {
    view_whole(v, tensor_of(s, t), s->batch, s->length);
    v->id = t;
    int64_t lo = 0, hi = 0;
    if (r->cut && axis >= 0) {
        lo = clip(r->begin - left, 0, v->whole[axis]);
        hi = clip(r->end + right, lo, v->whole[axis]);
    }
    if (index == NONE) { /* inside a group, or a filter that was prepared: no memory */
        if (r->cut && axis >= 0) as_tile(v, axis, lo, hi);
        return;
    }
    const instance *x = &s->plan->schedule.instances[index];
    if (x->region != NONE)
        as_tile(v, x->axis, clip(r->begin - x->left, 0, v->whole[x->axis]), clip(r->end + x->right, 0, v->whole[x->axis]));
    v->memory = instance_memory(s, x);
    if (r->cut && axis >= 0) view_cut(v, axis, lo - v->origin[axis], hi - v->origin[axis]);
}

/* Does input k of a launched node, which has no memory, live inside the group? Else something was prepared of it. */
static bool internal_input(const step *st, const scheduled_node *n, const graph_node *g, uint32_t k) {
    return st->kind == STEP_LAUNCH && n->inputs[k] == NONE && !(n->prepared != NONE && (g->op->prepared >> k & 1));
}

/* Fills the descriptions of a step's nodes. */
static void describe(strand_session *s, const step *st, const tile_range *r) {
    const schedule *sc = &s->plan->schedule;
    for (uint32_t i = 0; i < st->n; i++) {
        const scheduled_node *n = &sc->nodes[st->first + i];
        const graph_node *g = &s->plan->model->graph.nodes[n->node];
        const placed_node *at = &s->plan->place.nodes[n->node];
        strand_plugin_tensor *views = s->views + (size_t)i * NODE_VIEWS;
        for (uint32_t k = 0; k < g->n_inputs; k++) {
            if (!g->inputs[k])
                memset(&views[k], 0, sizeof views[k]);
            else
                bind(s, n->inputs[k], g->inputs[k], r, at->rules[k].axis, at->left + at->rules[k].left,
                     at->right + at->rules[k].right, &views[k]);
            if (g->inputs[k] && internal_input(st, n, g, k)) views[k].flags |= STRAND_TENSOR_INTERNAL;
        }
        bind(s, n->output, g->output, r, at->axis, at->left, at->right, &views[g->n_inputs]);
        if (st->kind == STEP_LAUNCH && n->output == NONE) views[g->n_inputs].flags |= STRAND_TENSOR_INTERNAL;
        if (n->second != NONE) bind(s, n->second, g->second, r, -1, 0, 0, &views[g->n_inputs + 1]);
        s->nodes[i] = (strand_plugin_node){.op = g->op->id,
                                           .version = g->op->version,
                                           .n_inputs = g->n_inputs,
                                           .n_outputs = n->second != NONE ? 2 : 1,
                                           .inputs = views,
                                           .outputs = &views[g->n_inputs],
                                           .params = g->params,
                                           .name = g->name};
        if (n->prepared != NONE) s->nodes[i].prepared = block_memory(s, n->prepared);
    }
}

static strand_status launch(strand_session *s, const step *st, const tile_range *r, strand_plugin_segment *segment) {
    const registry_device *d = s->plan->place.devices[st->device];
    const strand_plugin_api *api = d->plugin->table.api;
    strand_plugin_memory scratch = {0};
    if (s->plan->place.space[st->device])
        s->busy |= 1u << st->device;
    else if (settle(s, s->uploading | s->downloading)) /* the host's memory is about to be read and written */
        return s->error.status;
    describe(s, st, r);
    if (st->scratch != NONE) scratch = block_memory(s, st->scratch);
    strand_plugin_status status = segment ? api->segment_launch(d->device, segment, s->nodes, st->n, &scratch)
                                  : st->kind == STEP_PREPARE ? api->prepare(d->device, s->nodes, &scratch)
                                                             : api->launch(d->device, s->nodes, st->n, &scratch);
    return status ? execute_fail(s, d, status, s->nodes[0].name) : STRAND_OK;
}

strand_status execute_step(strand_session *s, const step *st, strand_plugin_segment *segment) {
    const tile_range whole = {0};
    return launch(s, st, &whole, segment);
}

static uint64_t whole_bytes(const strand_session *s, tensor_id t) {
    strand_plugin_tensor v;
    uint64_t bytes = 0;
    view_whole(&v, tensor_of(s, t), s->batch, s->length);
    view_bytes(&v, &bytes);
    return bytes;
}

/* Moves a whole tensor between the host and a device, later than the call. An upload reads what no download may still be
 * about to write; a download writes what other devices' copies may still be about to read. */
static strand_status copy(strand_session *s, const step *st) {
    const instance *a = &s->plan->schedule.instances[st->from], *b = &s->plan->schedule.instances[st->to];
    const registry_device *d = s->plan->place.devices[st->device];
    const strand_plugin_api *api = d->plugin->table.api;
    strand_plugin_memory x = instance_memory(s, a), y = instance_memory(s, b);
    uint64_t bytes = whole_bytes(s, a->tensor);
    uint32_t bit = 1u << st->device;
    if (settle(s, a->space == 0 ? s->downloading : (s->uploading | s->downloading) & ~bit)) return s->error.status;
    s->busy |= bit;
    *(a->space == 0 ? &s->uploading : &s->downloading) |= bit;
    strand_plugin_status status = a->space == 0 ? api->upload(d->device, y.buffer, y.offset, x.data, bytes)
                                                : api->download(d->device, x.buffer, x.offset, y.data, bytes);
    return status ? execute_fail(s, d, status, "a copy") : STRAND_OK;
}

static uint32_t device_of(const strand_session *s, uint32_t space) {
    uint32_t d = 0;
    while (s->plan->place.space[d] != space) d++;
    return d;
}

strand_status execute_put(strand_session *s, uint32_t index, uint64_t at, const void *from, uint64_t bytes) {
    const instance *x = &s->plan->schedule.instances[index];
    strand_plugin_memory m = instance_memory(s, x);
    if (x->space == 0) {
        memcpy((unsigned char *)m.data + at, from, (size_t)bytes);
        return STRAND_OK;
    }
    uint32_t d = device_of(s, x->space);
    const registry_device *r = s->plan->place.devices[d];
    s->busy |= 1u << d;
    s->uploading |= 1u << d;
    strand_plugin_status status = r->plugin->table.api->upload(r->device, m.buffer, m.offset + at, from, bytes);
    return status ? execute_fail(s, r, status, "an upload") : STRAND_OK;
}

strand_status execute_get(strand_session *s, uint32_t index, uint64_t at, void *to, uint64_t bytes) {
    const instance *x = &s->plan->schedule.instances[index];
    strand_plugin_memory m = instance_memory(s, x);
    if (x->space == 0) {
        memcpy(to, (unsigned char *)m.data + at, (size_t)bytes);
        return STRAND_OK;
    }
    uint32_t d = device_of(s, x->space);
    const registry_device *r = s->plan->place.devices[d];
    s->busy |= 1u << d;
    s->downloading |= 1u << d;
    strand_plugin_status status = r->plugin->table.api->download(r->device, m.buffer, m.offset + at, to, bytes);
    return status ? execute_fail(s, r, status, "a download") : STRAND_OK;
}

/* Weights stay where they are until the end, so that the copies of all of them may overlap. */
strand_status execute_load(strand_session *s) {
    const schedule *sc = &s->plan->schedule;
    for (uint32_t i = 0; i < sc->n_weights; i++) {
        tensor_id t = sc->instances[sc->weights[i]].tensor;
        strand_plugin_tensor v;
        uint64_t bytes;
        view_whole(&v, tensor_of(s, t), 1, 1);
        view_bytes(&v, &bytes);
        if (execute_put(s, sc->weights[i], 0, tensor_of(s, t)->data, bytes)) return s->error.status;
    }
    return execute_settle(s);
}

/* Where the tokens of this run stand in their sequences. */
static void make_clock(const strand_session *s, graph_clock clock, int64_t most, int64_t *out) {
    for (int64_t b = 0; b < s->batch; b++) {
        if (clock != CLOCK_POSITIONS) {
            out[b] = s->positions[b] + (clock == CLOCK_END ? s->length : 0);
            if (most && out[b] > most) out[b] = most;
            continue;
        }
        for (int64_t t = 0; t < s->length; t++) out[b * s->length + t] = s->positions[b] + t;
    }
}

/* A state becomes its next value, in the space where both are. */
static strand_status turn_state(strand_session *s, const step *st) {
    const instance *to = &s->plan->schedule.instances[st->to];
    uint64_t bytes = whole_bytes(s, to->tensor);
    strand_plugin_memory x = instance_memory(s, &s->plan->schedule.instances[st->from]), y = instance_memory(s, to);
    if (to->space == 0) {
        if (settle(s, s->uploading | s->downloading)) return s->error.status;
        memcpy(y.data, x.data, (size_t)bytes);
        return STRAND_OK;
    }
    const registry_device *d = s->plan->place.devices[st->device];
    s->busy |= 1u << st->device;
    strand_plugin_status status = d->plugin->table.api->copy(d->device, x.buffer, x.offset, y.buffer, y.offset, bytes);
    return status ? execute_fail(s, d, status, "a copy") : STRAND_OK;
}

/* Integer inputs may come in any width; floating-point ones come as they are. */
static strand_status take_input(strand_session *s, const step *st, const strand_tensor *const *inputs) {
    const graph *g = &s->plan->model->graph;
    tensor_id t = s->plan->schedule.instances[st->to].tensor;
    uint32_t index = 0;
    if (settle(s, s->uploading | s->downloading)) return s->error.status;
    if (g->tensors[t].kind == TENSOR_CLOCK) {
        make_clock(s, g->tensors[t].clock, g->tensors[t].most, execute_host_address(s, st->to));
        return STRAND_OK;
    }
    for (tensor_id i = 1; i < t; i++) index += g->tensors[i].kind == TENSOR_INPUT;
    const strand_tensor *in = inputs[index];
    strand_plugin_tensor v;
    uint64_t bytes;
    view_whole(&v, &g->tensors[t], s->batch, s->length);
    view_bytes(&v, &bytes);
    void *to = execute_host_address(s, st->to);
    if (in->dtype == g->tensors[t].shape.dtype) {
        memcpy(to, in->data, (size_t)bytes);
        return STRAND_OK;
    }
    int64_t *out = to;
    int64_t n = (int64_t)(bytes / sizeof *out);
#define WIDEN(type)                                                                                                            \
    for (int64_t i = 0; i < n; i++) out[i] = (int64_t)((const type *)in->data)[i]
    switch (in->dtype) {
    case STRAND_I8: WIDEN(int8_t); break;
    case STRAND_U8: WIDEN(uint8_t); break;
    case STRAND_I16: WIDEN(int16_t); break;
    case STRAND_U16: WIDEN(uint16_t); break;
    case STRAND_I32: WIDEN(int32_t); break;
    case STRAND_U32: WIDEN(uint32_t); break;
    default: return error_set(&s->error, STRAND_ERR_ARGUMENT, "input '%s' has a type that cannot be converted", in->name);
    }
#undef WIDEN
    return STRAND_OK;
}

static strand_status report(strand_session *s, double work) {
    s->done += work;
    double total = s->plan->schedule.work;
    if (!s->progress ||
        !s->progress(s->progress_user, total > 0 ? clip((int64_t)(s->done / total * 1e6), 0, 1000000) / 1e6 : 1.0))
        return STRAND_OK;
    return error_set(&s->error, STRAND_ERR_CANCELLED, "cancelled");
}

/* One step, timed when somebody wants to know: then what was given to a queue is waited for. */
static strand_status one_step(strand_session *s, const step *st, const tile_range *r, const trace_tile *tile,
                              const strand_tensor *const *inputs) {
    double begin = s->trace ? trace_now() : 0;
    strand_status status = st->kind == STEP_STATE   ? turn_state(s, st)
                           : st->kind == STEP_INPUT ? take_input(s, st, inputs)
                           : st->kind == STEP_COPY  ? copy(s, st)
                                                    : launch(s, st, r, NULL);
    if (status || !s->trace) return status;
    if (execute_settle(s)) return s->error.status;
    trace_step(s, st, tile, begin);
    return STRAND_OK;
}

/* All tiles of the region that begins at step `first`; *next is the step behind it. */
static strand_status run_region(strand_session *s, uint32_t first, uint32_t *next) {
    const schedule *sc = &s->plan->schedule;
    uint32_t index = sc->steps[first].region, last = first;
    const region *g = &s->plan->place.regions[index];
    const graph_tensor *sink = tensor_of(s, s->plan->model->graph.nodes[g->sink].output);
    int64_t extent = dim_extent(sink->shape.dims[g->axis], s->batch, s->length), tile = sc->tile[index];
    while (last < sc->n_steps && sc->steps[last].region == index && sc->steps[last].phase == sc->steps[first].phase) last++;
    for (int64_t begin = 0; begin < extent; begin += tile) {
        tile_range r = {true, begin, begin + tile < extent ? begin + tile : extent};
        trace_tile t = {begin / tile, (extent + tile - 1) / tile, (double)(r.end - r.begin) / (double)extent};
        for (uint32_t i = first; i < last; i++)
            if (one_step(s, &sc->steps[i], &r, &t, NULL) ||
                report(s, sc->steps[i].phase == MAIN ? sc->steps[i].work * t.part : 0))
                return s->error.status;
    }
    *next = last;
    return STRAND_OK;
}

/* The segment that begins at step i, which is the next one (*next) of a run, if it is run as one. */
static strand_status run_segment(strand_session *s, uint32_t *next, uint32_t *i, bool *ran) {
    const schedule *sc = &s->plan->schedule;
    const schedule_segment *g = &sc->segments[*next];
    double work = 0;
    *ran = false;
    if (*next >= sc->n_segments || g->first != *i) return STRAND_OK;
    if (segments_run(s, (*next)++, ran) || !*ran) return s->error.status;
    for (uint32_t k = 0; k < g->n; k++) work += sc->steps[g->first + k].work;
    *i += g->n;
    return report(s, work);
}

static strand_status run_steps(strand_session *s, uint32_t from, uint32_t to, const strand_tensor *const *inputs) {
    const schedule *sc = &s->plan->schedule;
    const tile_range whole = {0};
    const trace_tile all = {0, 1, 1};
    uint32_t segment = 0;
    for (uint32_t i = from; i < to;) {
        const step *st = &sc->steps[i];
        bool ran;
        if (run_segment(s, &segment, &i, &ran)) return s->error.status;
        if (ran) continue;
        if (st->region != NONE) {
            if (run_region(s, i, &i)) return s->error.status;
            continue;
        }
        if (one_step(s, st, &whole, &all, inputs) || report(s, st->phase == MAIN ? st->work : 0)) return s->error.status;
        i++;
    }
    return STRAND_OK;
}

strand_status execute_run(strand_session *s, const strand_tensor *const *inputs) {
    const schedule *sc = &s->plan->schedule;
    bool prologue = s->prologue_length != s->length;
    s->done = 0;
    if (s->trace) s->began = trace_now();
    segments_begin(s);
    if (prologue) {
        s->prologue_length = 0; /* a prologue that fails half-way is run again, also one that fails after its launches */
        if (run_steps(s, 0, sc->first_main, inputs)) goto failed;
        s->done = 0;
    }
    if (run_steps(s, sc->first_main, sc->n_steps, inputs) || execute_settle(s)) goto failed;
    s->prologue_length = s->length;
    return STRAND_OK;
failed:
    execute_drain(s);
    return s->error.status;
}

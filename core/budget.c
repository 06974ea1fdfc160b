/* budget.c - chooses what is kept and what is tiled so that a plan fits its memory limit, and answers questions about a plan.
 *
 * It begins with everything kept and nothing cut, and gives up speed for memory one step at a time, looking at the step where
 * most is alive: when kept constants are more than half of the limit, the largest of them is made afresh in every run;
 * otherwise the region at the peak is cut twice as finely, and where that has not helped for some cuts the largest kept
 * constant goes. What cannot be met after that is an error that names the least that was reached. */
#include "session.h"

#include <string.h>

/* Tiles along the length are not cut below this: shorter ones cost more than they save. */
#define LEAST_LENGTH_TILE 64

/* Cuts in a row that may not help: the whole result stands beside the first tiles, so two halves can take what the whole
 * took. */
#define IDLE_CUTS 2

typedef struct search {
    strand_plan *plan;
    uint8_t *keep;
    uint32_t *tiles;
    uint64_t *alive;    /* for each region: the least bytes alive at its peak when it was cut */
    uint8_t *idle;      /* for each region: cuts in a row that did not lower that */
    error *e;
} search;

static uint64_t total_bytes(const schedule *s, const placement *p) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->n_spaces; i++) sum += s->bytes[i];
    return sum;
}

static bool can_cut(const search *f, uint32_t r) {
    const placement *p = &f->plan->place;
    const region *g = &p->regions[r];
    const op_dim d = p->graph->tensors[p->graph->nodes[g->sink].output].shape.dims[g->axis];
    int64_t least = d.kind == OP_DIM_LENGTH ? LEAST_LENGTH_TILE : 1;
    return g->extent / ((int64_t)f->tiles[r] * 2) >= least;
}

/* Did cutting it before help by more than a trifle? */
static bool helped(const search *f, const schedule *s, uint32_t r) {
    return s->lower_bound < f->alive[r] - f->alive[r] / 64;
}

/* The region of the nodes of a step, if cutting it (again) can help. */
static uint32_t region_at_step(const search *f, const schedule *s, uint32_t at) {
    const step *st = &s->steps[at];
    for (uint32_t i = 0; i < st->n; i++) {
        uint32_t r = f->plan->place.nodes[s->nodes[st->first + i].node].region;
        if (r != NONE && can_cut(f, r) && (helped(f, s, r) || f->idle[r] < IDLE_CUTS)) return r;
    }
    return NONE;
}

/* The region where most is alive. The limit is on all spaces together: the largest one in which something can be cut counts. */
static uint32_t region_at_peak(const search *f, const schedule *s) {
    uint32_t best = NONE;
    uint64_t most = 0;
    for (uint32_t space = 0; s->n_steps && space < f->plan->place.n_spaces; space++) {
        uint32_t r = s->bytes[space] > most ? region_at_step(f, s, s->peak_steps[space]) : NONE;
        if (r == NONE) continue;
        best = r;
        most = s->bytes[space];
    }
    return best;
}

static uint64_t constant_bytes(const strand_plan *p, tensor_id t) {
    strand_plugin_tensor v;
    uint64_t bytes = 0;
    view_whole(&v, &p->model->graph.tensors[t], p->place.batch, p->place.length);
    return view_bytes(&v, &bytes) ? bytes : UINT64_MAX;
}

/* Stops keeping the largest constant; false when none is kept. */
static bool drop_largest(search *f, const schedule *s) {
    tensor_id largest = 0;
    uint64_t most = 0;
    for (tensor_id t = 1; t < f->plan->model->graph.n_tensors; t++) {
        if (!s->kept[t] || !f->keep[t]) continue;
        uint64_t bytes = constant_bytes(f->plan, t);
        if (bytes > most || !largest) {
            largest = t;
            most = bytes;
        }
    }
    if (largest) f->keep[largest] = 0;
    return largest != 0;
}

static strand_status try_schedule(search *f, arena *a, schedule *s) {
    arena_init(a, &f->plan->context->allocator);
    return schedule_make(s, a, &f->plan->place, f->keep, f->tiles, f->e);
}

static strand_status fit(search *f, uint64_t limit, bool no_tiling) {
    strand_plan *p = f->plan;
    uint64_t least = UINT64_MAX;
    for (;;) {
        arena_release(&p->chosen);
        if (try_schedule(f, &p->chosen, &p->schedule)) return f->e->status;
        uint64_t bytes = total_bytes(&p->schedule, &p->place);
        if (p->unlimited_bytes == 0) p->unlimited_bytes = bytes;
        p->block_bytes = session_layout(p, NULL, NULL);
        uint64_t whole = p->block_bytes + bytes - p->schedule.bytes[0];
        if (whole < least) least = whole;
        if (!limit || whole <= limit) return STRAND_OK;
        if (p->schedule.kept_bytes > limit / 2 && drop_largest(f, &p->schedule)) continue;
        uint32_t r = no_tiling ? NONE : region_at_peak(f, &p->schedule);
        if (r != NONE) {
            f->idle[r] = helped(f, &p->schedule, r) ? 0 : f->idle[r] + 1;
            if (f->idle[r] == 0) f->alive[r] = p->schedule.lower_bound;
            f->tiles[r] *= 2;
        } else if (!drop_largest(f, &p->schedule)) {
            return error_set(f->e, STRAND_ERR_LIMIT, "%lld x %lld needs at least %.1f MiB of memory; the limit is %.1f MiB",
                             (long long)p->place.batch, (long long)p->place.length, (double)least / 1048576,
                             (double)limit / 1048576);
        }
    }
}

/* Nodes in execution order, each once (a constant that both phases make counts in the main one). */
static strand_status number_nodes(strand_plan *p, error *e) {
    const schedule *s = &p->schedule;
    p->order = ARENA_ARRAY(&p->arena, uint32_t, s->n_nodes + 1);
    p->launch_of = ARENA_ARRAY(&p->arena, uint32_t, s->n_nodes + 1);
    if (!p->order || !p->launch_of) return error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
    for (uint32_t st = 0; st < s->n_steps; st++)
        for (uint32_t i = 0; s->steps[st].kind == STEP_LAUNCH && i < s->steps[st].n; i++) {
            p->order[p->n_order] = s->steps[st].first + i;
            p->launch_of[p->n_order++] = st;
        }
    return STRAND_OK;
}

/* Has every device the memory that the plan takes of it? */
static strand_status check_devices(const strand_plan *p, error *e) {
    for (uint32_t d = 0; d < p->place.n_devices; d++) {
        uint32_t space = p->place.space[d];
        const registry_device *r = p->place.devices[d];
        if (!space || !r->info.memory || p->schedule.bytes[space] <= r->info.memory) continue;
        return error_set(
            e, STRAND_ERR_LIMIT,
            "backend '%s' has %.1f MiB of memory; this plan needs %.1f MiB there; give a memory limit or a shorter length",
            r->name, (double)r->info.memory / 1048576, (double)p->schedule.bytes[space] / 1048576);
    }
    return STRAND_OK;
}

static strand_status plan_build(strand_plan *p, const strand_plan_params *params, error *e) {
    strand_model *m = p->model;
    int64_t batch = params->max_batch ? params->max_batch : 1, length = params->max_length ? params->max_length : m->window;
    if (batch < 1 || length < 1) return error_set(e, STRAND_ERR_ARGUMENT, "batch and length must be at least 1");
    if (length > m->max_length)
        return error_set(e, STRAND_ERR_LIMIT,
                         "a length of %lld is beyond what model '%s' was made for: %lld at most; cut the sequence into windows",
                         (long long)length, m->name, (long long)m->max_length);
    if (placement_make(&p->place, &p->arena, p->context, &m->graph, batch, length, params->backends, params->outputs, e))
        return e->status;
    search f = {.plan = p, .e = e};
    f.keep = ARENA_ARRAY(&p->arena, uint8_t, m->graph.n_tensors);
    f.tiles = ARENA_ARRAY(&p->arena, uint32_t, p->place.n_regions + 1);
    f.alive = ARENA_ARRAY(&p->arena, uint64_t, p->place.n_regions + 1);
    f.idle = ARENA_ARRAY(&p->arena, uint8_t, p->place.n_regions + 1);
    if (!f.keep || !f.tiles || !f.alive || !f.idle) return error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
    memset(f.keep, 1, m->graph.n_tensors);
    for (uint32_t r = 0; r <= p->place.n_regions; r++) {
        f.tiles[r] = 1;
        f.alive[r] = UINT64_MAX;
        f.idle[r] = 0;
    }
    if (fit(&f, params->memory_limit, params->no_tiling != 0) || check_devices(p, e)) return e->status;
    return number_nodes(p, e);
}

void strand_plan_params_init(strand_plan_params *params) {
    if (params) *params = (strand_plan_params){.size = sizeof *params};
}

strand_status strand_plan_open(strand_model *m, const strand_plan_params *given, strand_plan **out) {
    strand_plan_params params;
    strand_plan_params_init(&params);
    if (!m || !out || (given && given->size < offsetof(strand_plan_params, memory_limit))) return STRAND_ERR_ARGUMENT;
    if (given) memcpy(&params, given, given->size < sizeof params ? given->size : sizeof params);
    strand_context *c = m->context;
    strand_plan *p = c->allocator.alloc(c->allocator.user, sizeof *p, _Alignof(strand_plan));
    error e = {0};
    if (!p) {
        error_set(&e, STRAND_ERR_MEMORY, "out of memory while planning");
        return context_fail(c, &e);
    }
    memset(p, 0, sizeof *p);
    p->model = m;
    p->context = c;
    arena_init(&p->arena, &c->allocator);
    arena_init(&p->chosen, &c->allocator);
    if (plan_build(p, &params, &e)) {
        strand_plan_close(p);
        return context_fail(c, &e);
    }
    *out = p;
    return STRAND_OK;
}

void strand_plan_close(strand_plan *p) {
    if (!p) return;
    strand_allocator allocator = p->context->allocator;
    arena_release(&p->chosen);
    arena_release(&p->arena);
    allocator.free(allocator.user, p, sizeof *p);
}

strand_status strand_plan_get(const strand_plan *p, strand_plan_info *info) {
    if (!p || !info) return STRAND_ERR_ARGUMENT;
    const schedule *s = &p->schedule;
    uint64_t device = 0;
    for (uint32_t i = 1; i < p->place.n_spaces; i++) device += s->bytes[i];
    const char *peak = "";
    if (s->n_steps && s->steps[s->peak_step].n) peak = p->model->graph.nodes[s->nodes[s->steps[s->peak_step].first].node].name;
    int32_t cut = 0;
    for (uint32_t r = 0; r < p->place.n_regions; r++) cut += s->tiles[r] > 1;
    *info = (strand_plan_info){p->block_bytes, s->bytes[0], device, s->kept_bytes, s->lower_bound, p->unlimited_bytes,
                               p->place.batch, p->place.length, (int32_t)p->n_order, (int32_t)s->n_steps, cut, peak,
                               s->state_bytes};
    return STRAND_OK;
}

static const char *axis_name(const placement *p, const region *r) {
    const op_shape *shape = &p->graph->tensors[p->graph->nodes[r->sink].output].shape;
    return shape->dims[r->axis].kind == OP_DIM_LENGTH ? "length" : "channels";
}

static uint64_t block_bytes(const schedule *s, uint32_t block) {
    return block == NONE ? 0 : s->blocks[block].life.bytes;
}

strand_status strand_plan_node(const strand_plan *p, int32_t index, strand_plan_node_info *info) {
    if (!p || !info || index < 0 || (uint32_t)index >= p->n_order) return STRAND_ERR_ARGUMENT;
    const schedule *s = &p->schedule;
    const scheduled_node *n = &s->nodes[p->order[index]];
    const step *st = &s->steps[p->launch_of[index]];
    const graph_node *g = &p->model->graph.nodes[n->node];
    const placed_node *at = &p->place.nodes[n->node];
    *info = (strand_plan_node_info){.name = g->name,
                                    .op = g->op->name,
                                    .backend = p->place.devices[at->device]->name,
                                    .why = at->why,
                                    .group = st->n > 1 ? (int32_t)p->launch_of[index] : -1,
                                    .region = st->region == NONE ? -1 : (int32_t)st->region,
                                    .tiles = st->region == NONE ? 1 : s->tiles[st->region],
                                    .axis = st->region == NONE ? "" : axis_name(&p->place, &p->place.regions[st->region]),
                                    .weights_only = g->constant,
                                    .kept = st->phase == PROLOGUE,
                                    .prepared_bytes = block_bytes(s, n->prepared),
                                    .output_bytes = n->output == NONE ? 0 : block_bytes(s, s->instances[n->output].block),
                                    .scratch_bytes = n == &s->nodes[st->first] ? block_bytes(s, st->scratch) : 0};
    return STRAND_OK;
}

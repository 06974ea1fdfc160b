/* schedule.c - turns placed nodes into steps with memory, for one choice of kept constants and tile counts.
 *
 * In order: decide what the prologue computes; walk the nodes of each phase (a region's nodes together, at the place of its
 * last one), inserting copies where a tensor is not yet in the space that reads it; let backends claim groups; then give every
 * instance, scratch and prepared constant a lifetime in steps, and let plan.c find the offsets. */
#include "schedule.h"

#include <string.h>

#include "checked.h"

#define CLAIM_WINDOW 8

typedef struct builder {
    schedule *s;
    arena *a;
    const placement *p;
    const graph *g;
    const uint8_t *keep;
    error *e;
    uint8_t *in_phase[2];  /* for each node: computed in the prologue, in the main phase */
    uint8_t *prepare;      /* for each node: its prepared constant is kept */
    uint32_t *whole[2];    /* for each (space, tensor): the whole instance visible in the phase, or NONE */
    uint32_t *tile;        /* for each tensor: its instance inside the region being emitted */
    uint32_t *prepared;    /* for each node: the block of its kept prepared constant, or NONE */
    uint32_t instance_room, node_room, step_room, block_room, weight_room, state_room;
} builder;

static strand_status no_memory(error *e) {
    return error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
}

/* The arrays grow by doubling in the arena, as the graph's do. */
static void *grown(arena *a, void *array, uint32_t used, uint32_t *room, size_t size) {
    if (used < *room) return array;
    uint32_t more = *room ? *room * 2 : 128;
    void *bigger = arena_array(a, more, size, 8);
    if (bigger && used) memcpy(bigger, array, (size_t)used * size);
    if (bigger) *room = more;
    return bigger;
}

#define PUSH(b, array, count, room, value, out)                                                                                  \
    do {                                                                                                                         \
        void *grown_ = grown((b)->a, (b)->s->array, (b)->s->count, &(b)->room, sizeof *(b)->s->array);                           \
        if (!grown_) return no_memory((b)->e);                                                                                   \
        (b)->s->array = grown_;                                                                                                  \
        (b)->s->array[(b)->s->count] = (value);                                                                                  \
        *(out) = (b)->s->count++;                                                                                                \
    } while (0)

static strand_status add_block(builder *b, uint32_t space, uint64_t bytes, uint64_t align, uint32_t first, uint32_t *out) {
    uint64_t rounded; /* whole cache lines, so that threads never share one between tensors */
    if (align < 64) align = 64;
    if (!checked_align(bytes, 64, &rounded)) return error_set(b->e, STRAND_ERR_LIMIT, "a tensor of this length does not fit 64 bits");
    schedule_block block = {space, 0, {rounded, align, first, first}};
    PUSH(b, blocks, n_blocks, block_room, block, out);
    return STRAND_OK;
}

static void use_block(builder *b, uint32_t block, uint32_t at) {
    if (block == NONE) return;
    plan_block *life = &b->s->blocks[block].life;
    if (at > life->last) life->last = at;
    if (at < life->first) life->first = at;
}

static uint64_t space_alignment(const builder *b, uint32_t space) {
    uint64_t most = 64;
    for (uint32_t d = 0; d < b->p->n_devices; d++)
        if (b->p->space[d] == space && b->p->devices[d]->info.alignment > most) most = b->p->devices[d]->info.alignment;
    return most;
}

static bool region_cut(const schedule *s, uint32_t region) {
    return region != NONE && s->tiles[region] > 1;
}

static bool is_kept(const builder *b, tensor_id t) {
    return (b->s->kept[t] & KEPT_ITSELF) != 0;
}

/* ---- which constants are kept, and what the prologue computes ---- */

/* A constant result that non-constant nodes use can be kept unless it would be a tile of a region that is cut. Of two outputs
 * both are kept or neither. */
static bool may_keep(const builder *b, tensor_id t) {
    const graph_tensor *x = &b->g->tensors[t];
    if (x->kind != TENSOR_RESULT) return false;
    const graph_node *n = &b->g->nodes[x->node];
    return x->constant && b->keep[n->output] && (!n->second || b->keep[n->second]) && !(region_cut(b->s, b->p->nodes[x->node].region) && b->p->regions[b->p->nodes[x->node].region].sink != x->node);
}

/* Are the inputs from which a backend prepares node i all constants that are kept, or weights? */
static bool may_prepare(const builder *b, uint32_t i) {
    const graph_node *n = &b->g->nodes[i];
    bool any = false;
    if (n->constant || region_cut(b->s, b->p->nodes[i].region)) return false;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        if (!(n->op->prepared >> k & 1) || !n->inputs[k]) continue;
        const graph_tensor *x = &b->g->tensors[n->inputs[k]];
        if (!x->constant || !b->keep[n->inputs[k]] || (x->kind == TENSOR_RESULT && !may_keep(b, n->inputs[k]))) return false;
        any = true;
    }
    return any;
}

static uint64_t prepare_bytes(const builder *b, uint32_t i) {
    strand_plugin_node node;
    strand_plugin_tensor views[NODE_VIEWS];
    const registry_device *d = b->p->devices[b->p->nodes[i].device];
    node_at_maximum(b->p, i, 0, &node, views);
    return d->plugin->table.api->prepare_size(d->device, &node);
}

/* Marks node i, and the constant nodes it depends on, for a phase. Kept tensors end the walk in the main phase. */
static void mark_phase(builder *b) {
    const graph *g = b->g;
    for (uint32_t i = g->n_nodes; i-- > 0;) {
        const graph_node *n = &g->nodes[i];
        if (!b->p->nodes[i].live) continue;
        tensor_id second = used_second(b->p, i);
        if (n->constant && (b->p->wanted[n->output] || (second && b->p->wanted[second]))) b->in_phase[MAIN][i] = 1;
        if (second && ((b->s->kept[n->output] | b->s->kept[second]) & KEPT_ITSELF)) {
            b->s->kept[n->output] |= KEPT_ITSELF;
            b->s->kept[second] |= KEPT_ITSELF;
        }
        /* A kept tensor is made in the prologue alone, even when a constant node of the main phase reads it. */
        if (is_kept(b, n->output)) b->in_phase[MAIN][i] = 0;
        if (!n->constant) {
            b->in_phase[MAIN][i] = 1;
            b->prepare[i] = may_prepare(b, i) && prepare_bytes(b, i) > 0;
        }
        for (uint32_t k = 0; k < n->n_inputs; k++) {
            tensor_id t = n->inputs[k];
            if (!t || g->tensors[t].kind != TENSOR_RESULT || !g->tensors[t].constant) continue;
            uint32_t from = g->tensors[t].node;
            bool through_prepared = b->prepare[i] && (n->op->prepared >> k & 1);
            if (!n->constant && (through_prepared || may_keep(b, t))) {
                b->in_phase[PROLOGUE][from] = 1;
                b->s->kept[t] |= through_prepared ? KEPT_PREPARED : KEPT_ITSELF;
                continue;
            }
            for (int ph = 0; ph < 2; ph++)
                if (b->in_phase[ph][i]) b->in_phase[ph][from] = 1;
        }
    }
}

/* ---- instances ---- */

static uint32_t *whole_at(builder *b, int ph, uint32_t space, tensor_id t) {
    return &b->whole[ph][(size_t)space * b->g->n_tensors + t];
}

static strand_status add_instance(builder *b, tensor_id t, uint32_t space, uint32_t region, const placed_node *tile, uint32_t step, uint32_t *out) {
    strand_plugin_tensor v;
    uint64_t bytes;
    view_whole(&v, &b->g->tensors[t], b->p->batch, b->p->length);
    instance x = {.tensor = t, .space = space, .region = NONE, .axis = -1, .block = NONE};
    if (tile) {
        int64_t n = b->s->tile[region] + tile->left + tile->right;
        x.region = region;
        x.axis = tile->axis;
        x.left = tile->left;
        x.right = tile->right;
        if (n < v.dims[x.axis]) v.dims[x.axis] = n;
    }
    if (!view_bytes(&v, &bytes)) return error_set(b->e, STRAND_ERR_LIMIT, "a tensor of this length does not fit 63 bits");
    bool in_place = b->g->tensors[t].kind == TENSOR_WEIGHT && space == 0;
    if (!in_place && add_block(b, space, bytes, space_alignment(b, space), step, &x.block)) return b->e->status;
    PUSH(b, instances, n_instances, instance_room, x, out);
    if (x.block != NONE) use_block(b, x.block, step);
    return STRAND_OK;
}

static strand_status add_step(builder *b, step st, uint32_t *out) {
    PUSH(b, steps, n_steps, step_room, st, out);
    return STRAND_OK;
}

/* Makes sure that tensor t is whole in `space` before the next step: a weight, an input or a result elsewhere is copied. */
static strand_status need_whole(builder *b, int ph, uint32_t space, tensor_id t, uint32_t *out) {
    uint32_t *at = whole_at(b, ph, space, t);
    const graph_tensor *x = &b->g->tensors[t];
    if (*at == NONE && x->kind == TENSOR_WEIGHT) {
        if (add_instance(b, t, space, NONE, NULL, 0, at)) return b->e->status;
        *whole_at(b, !ph, space, t) = *at;
        if (space != 0) {
            uint32_t i;
            PUSH(b, weights, n_weights, weight_room, *at, &i);
        }
    }
    if (*at == NONE) {
        uint32_t from = NONE, sp;
        for (sp = 0; sp < b->p->n_spaces && from == NONE; sp++) from = *whole_at(b, ph, sp, t);
        if (from == NONE) return error_set(b->e, STRAND_ERR_BACKEND, "planning lost tensor '%s'", x->name);
        sp = b->s->instances[from].space;
        if (sp != 0 && space != 0) { /* two devices meet in the host's memory */
            if (need_whole(b, ph, 0, t, &from)) return b->e->status;
            sp = 0;
        }
        uint32_t i, device = 0, other = sp ? sp : space;
        while (b->p->space[device] != other) device++;
        if (add_instance(b, t, space, NONE, NULL, b->s->n_steps, at)) return b->e->status;
        b->s->instances[*at].kept = b->s->instances[from].kept && ph == PROLOGUE;
        if (add_step(b, (step){STEP_COPY, (uint8_t)ph, device, NONE, 0, 0, from, *at, NONE, 0}, &i)) return b->e->status;
        use_block(b, b->s->instances[from].block, i);
    }
    *out = *at;
    return STRAND_OK;
}

/* ---- launches ---- */

/* The nodes of one phase that stand together: one node, or those of a region. */
typedef struct run_of_nodes {
    uint32_t *nodes;
    uint32_t n;
    int ph;
    uint32_t region; /* NONE unless the region is cut */
} run_of_nodes;

/* For each of the n nodes: is its result used outside them, or wanted? */
static void mark_needed(const builder *b, const run_of_nodes *run, uint32_t first, uint32_t n, uint8_t *needed) {
    for (uint32_t i = 0; i < n; i++) {
        tensor_id t = b->g->nodes[run->nodes[first + i]].output;
        uint32_t inside = 0;
        for (uint32_t j = i + 1; j < n; j++) {
            const graph_node *user = &b->g->nodes[run->nodes[first + j]];
            for (uint32_t k = 0; k < user->n_inputs; k++) inside += user->inputs[k] == t;
        }
        needed[i] = inside < b->p->uses[t];
    }
}

/* How many nodes from `first` on the backend takes as one launch. */
static uint32_t claim(const builder *b, const run_of_nodes *run, uint32_t first) {
    const registry_device *d = b->p->devices[b->p->nodes[run->nodes[first]].device];
    uint32_t n = 0;
    if (!REGISTRY_HAS(d, claim)) return 1;
    while (n < CLAIM_WINDOW && first + n < run->n && !used_second(b->p, run->nodes[first + n]) && b->p->devices[b->p->nodes[run->nodes[first + n]].device] == d && !b->prepare[run->nodes[first + n]]) n++;
    while (n > 1) {
        strand_plugin_node nodes[CLAIM_WINDOW];
        strand_plugin_tensor views[CLAIM_WINDOW][NODE_VIEWS];
        uint8_t needed[CLAIM_WINDOW];
        for (uint32_t i = 0; i < n; i++) node_at_maximum(b->p, run->nodes[first + i], run->region == NONE ? 0 : b->s->tile[run->region], &nodes[i], views[i]);
        mark_needed(b, run, first, n, needed);
        uint32_t taken = d->plugin->table.api->claim(d->device, nodes, n, needed);
        if (taken < 2 || taken > n) return 1;
        mark_needed(b, run, first, taken, needed);
        bool closed = true;
        for (uint32_t i = 0; i + 1 < taken; i++) closed = closed && !needed[i];
        if (closed) return taken;
        n = taken - 1; /* it counted on a use that comes after the group: ask again with less */
    }
    return 1;
}

/* Finds or makes the instance that input t of a node has. */
static strand_status input_instance(builder *b, const run_of_nodes *run, uint32_t space, tensor_id t, uint32_t *out) {
    if (b->tile[t] != NONE) {
        *out = b->tile[t];
        return STRAND_OK;
    }
    return need_whole(b, run->ph, space, t, out);
}

/* Is the result as large as the input, and (unless the operator only renames the elements) of the same shape? */
static bool same_place(const op_row *op, const op_shape *from, const op_shape *to) {
    if (from->dtype != to->dtype) return false;
    if (op->renames) return true; /* its shape rule has seen to the number of elements */
    bool same = from->rank == to->rank;
    for (int i = 0; same && i < from->rank; i++) same = op_dim_equal(from->dims[i], to->dims[i]);
    return same;
}

/* Can `result` of this single node lie over one of the inputs that `may` names? Only where that input dies here and has the same
 * tile. A state lives for ever: only what it becomes lies over it. */
static uint32_t overwritten_input(const builder *b, const run_of_nodes *run, uint32_t index, tensor_id result, uint32_t may, const uint32_t *inputs, const uint32_t *left) {
    const graph_node *n = &b->g->nodes[index];
    bool sink = run->region != NONE && b->p->regions[run->region].sink == index;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        tensor_id t = n->inputs[k];
        if (!(may >> k & 1) || !t || left[t] != 1 || inputs[k] == NONE) continue;
        const instance *x = &b->s->instances[inputs[k]];
        const graph_tensor *from = &b->g->tensors[t];
        if (x->block == NONE || x->kept || from->kind == TENSOR_WEIGHT || b->p->wanted[t] || (from->kind == TENSOR_STATE && from->next != result)) continue;
        if ((run->ph == MAIN && is_kept(b, t)) || !same_place(n->op, &from->shape, &b->g->tensors[result].shape)) continue;
        if (run->region == NONE) return k;
        if (sink || x->region != run->region || n->op->renames) continue; /* whole tensors under a loop: see alias_sink */
        const placed_node *at = &b->p->nodes[index];
        if (x->axis == at->axis && x->left == at->left && x->right == at->right) return k;
    }
    return NONE;
}

/* Allocates one result of the last node of a launch (or takes what it may overwrite). */
static strand_status output_instance(builder *b, const run_of_nodes *run, uint32_t index, tensor_id result, uint32_t space, uint32_t over, uint32_t step_index,
                                     uint32_t *out) {
    bool inner = run->region != NONE && b->p->regions[run->region].sink != index;
    if (over != NONE) {
        instance x = b->s->instances[over];
        x.tensor = result;
        PUSH(b, instances, n_instances, instance_room, x, out);
        use_block(b, x.block, step_index);
    } else if (add_instance(b, result, space, inner ? run->region : NONE, inner ? &b->p->nodes[index] : NULL, step_index, out)) {
        return b->e->status;
    }
    if (inner)
        b->tile[result] = *out;
    else
        *whole_at(b, run->ph, space, result) = *out;
    if (run->ph == PROLOGUE && is_kept(b, result)) {
        b->s->instances[*out].kept = true;
        *whole_at(b, MAIN, space, result) = *out;
    }
    return STRAND_OK;
}

/* Both results of the last node of a launch. Only a node alone may overwrite its inputs. */
static strand_status output_instances(builder *b, const run_of_nodes *run, uint32_t n, uint32_t index, uint32_t space, const uint32_t *left, uint32_t step_index,
                                      scheduled_node *s) {
    const graph_node *g = &b->g->nodes[index];
    uint32_t over = n == 1 ? overwritten_input(b, run, index, g->output, g->op->in_place, s->inputs, left) : NONE;
    if (output_instance(b, run, index, g->output, space, over == NONE ? NONE : s->inputs[over], step_index, &s->output)) return b->e->status;
    tensor_id second = used_second(b->p, index);
    if (!second) return STRAND_OK;
    uint32_t taken = over == NONE ? 0 : 1u << over;
    over = n == 1 ? overwritten_input(b, run, index, second, g->op->second_in_place & ~taken, s->inputs, left) : NONE;
    return output_instance(b, run, index, second, space, over == NONE ? NONE : s->inputs[over], step_index, &s->second);
}

static strand_status scratch_block(builder *b, const run_of_nodes *run, const step *st, uint32_t step_index, uint32_t *out) {
    strand_plugin_node nodes[CLAIM_WINDOW];
    strand_plugin_tensor views[CLAIM_WINDOW][NODE_VIEWS];
    const registry_device *d = b->p->devices[st->device];
    for (uint32_t i = 0; i < st->n; i++)
        node_at_maximum(b->p, b->s->nodes[st->first + i].node, run->region == NONE ? 0 : b->s->tile[run->region], &nodes[i], views[i]);
    uint64_t bytes = d->plugin->table.api->scratch_size(d->device, nodes, st->n);
    *out = NONE;
    return bytes ? add_block(b, b->p->space[st->device], bytes, d->info.alignment, step_index, out) : STRAND_OK;
}

double schedule_node_work(const graph *g, uint32_t node, int64_t batch, int64_t length) {
    const graph_node *n = &g->nodes[node];
    op_shape in[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, out = g->tensors[n->output].shape;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        if (n->inputs[k]) in[k] = g->tensors[n->inputs[k]].shape;
        for (int i = 0; i < in[k].rank; i++) in[k].dims[i].size = dim_extent(in[k].dims[i], batch, length);
    }
    for (int i = 0; i < out.rank; i++) out.dims[i].size = dim_extent(out.dims[i], batch, length);
    return n->op->work(in, &out, n->params);
}

/* At the maximum, for progress. */
static double node_work(const builder *b, uint32_t index) {
    return schedule_node_work(b->g, index, b->p->batch, b->p->length);
}

static strand_status add_scheduled(builder *b, const scheduled_node *n, uint32_t *out) {
    PUSH(b, nodes, n_nodes, node_room, *n, out);
    return STRAND_OK;
}

/* Resolves the inputs of the run's i-th node of a launch that begins at `first`; what the launch itself makes has none. */
static strand_status launch_inputs(builder *b, const run_of_nodes *run, uint32_t first, uint32_t i, scheduled_node *s) {
    uint32_t node = run->nodes[first + i], space = b->p->space[b->p->nodes[node].device];
    const graph_node *g = &b->g->nodes[node];
    *s = (scheduled_node){.node = node, .output = NONE, .second = NONE, .prepared = b->prepare[node] ? b->prepared[node] : NONE};
    for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++) s->inputs[k] = NONE;
    for (uint32_t k = 0; k < g->n_inputs; k++) {
        tensor_id t = g->inputs[k];
        bool inner = false;
        for (uint32_t j = 0; j < i; j++) inner = inner || b->g->nodes[run->nodes[first + j]].output == t;
        if (!t || inner || (s->prepared != NONE && (g->op->prepared >> k & 1))) continue;
        if (input_instance(b, run, space, t, &s->inputs[k])) return b->e->status;
    }
    return STRAND_OK;
}

/* One launch of n nodes of the run, from `first` on. */
static strand_status emit_launch(builder *b, const run_of_nodes *run, uint32_t first, uint32_t n, uint32_t *left) {
    uint32_t device = b->p->nodes[run->nodes[first]].device, unused;
    step st = {STEP_LAUNCH, (uint8_t)run->ph, device, run->region, b->s->n_nodes, n, NONE, NONE, NONE, 0};
    scheduled_node s[CLAIM_WINDOW];
    for (uint32_t i = 0; i < n; i++) {
        if (launch_inputs(b, run, first, i, &s[i])) return b->e->status;
        st.work += node_work(b, s[i].node);
    }
    uint32_t index = b->s->n_steps, last = s[n - 1].node; /* copies that the inputs asked for stand before it */
    if (output_instances(b, run, n, last, b->p->space[device], left, index, &s[n - 1])) return b->e->status;
    for (uint32_t i = 0; i < n; i++)
        if (add_scheduled(b, &s[i], &unused)) return b->e->status;
    if (scratch_block(b, run, &st, index, &st.scratch) || add_step(b, st, &unused)) return b->e->status;
    for (uint32_t i = 0; i < n; i++) {
        const graph_node *g = &b->g->nodes[s[i].node];
        for (uint32_t k = 0; k < g->n_inputs; k++) {
            if (g->inputs[k] && left[g->inputs[k]]) left[g->inputs[k]]--;
            if (s[i].inputs[k] != NONE) use_block(b, b->s->instances[s[i].inputs[k]].block, index);
        }
        use_block(b, s[i].prepared, index);
    }
    if (n > b->s->max_group) b->s->max_group = n;
    return STRAND_OK;
}

/* A whole tensor of the region's result may lie over a whole input whose every reader is in the region, at the same interval,
 * and before the result is written: then tile after tile replaces what was read. */
static void alias_sink(builder *b, const run_of_nodes *run, uint32_t first_step, const uint32_t *uses_before) {
    schedule *s = b->s;
    uint32_t sink = b->p->regions[run->region].sink;
    const step *last = &s->steps[s->n_steps - 1];
    uint32_t out = s->nodes[last->first + last->n - 1].output;
    const graph_tensor *to = &b->g->tensors[b->g->nodes[sink].output];
    if (s->instances[out].kept || is_kept(b, b->g->nodes[sink].output)) return;
    for (uint32_t c = 0; c < s->n_instances; c++) {
        const instance *x = &s->instances[c];
        tensor_id t = x->tensor;
        const graph_tensor *from = &b->g->tensors[t];
        if (x->block == NONE || x->block == s->instances[out].block || x->kept || x->region != NONE || x->space != s->instances[out].space) continue;
        if (from->kind == TENSOR_WEIGHT || from->kind == TENSOR_STATE || b->p->wanted[t] || is_kept(b, t) || from->shape.dtype != to->shape.dtype || from->shape.rank != to->shape.rank) continue;
        if (*whole_at(b, run->ph, x->space, t) != c) continue;
        bool good = true;
        for (int i = 0; i < to->shape.rank; i++) good = good && op_dim_equal(from->shape.dims[i], to->shape.dims[i]);
        uint32_t reads = 0;
        for (uint32_t st = first_step; good && st < s->n_steps; st++)
            for (uint32_t i = 0; i < s->steps[st].n; i++) {
                const scheduled_node *n = &s->nodes[s->steps[st].first + i];
                const placed_node *at = &b->p->nodes[n->node];
                for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++) {
                    if (n->inputs[k] != c) continue;
                    reads++;
                    const op_axis_rule *r = &at->rules[k];
                    good = good && st + 1 < s->n_steps && r->axis == b->p->regions[run->region].axis && !r->left && !r->right && !at->left && !at->right;
                }
            }
        if (!good || !reads || reads != uses_before[t]) continue;
        use_block(b, x->block, s->n_steps - 1);
        s->blocks[s->instances[out].block].life.bytes = 0;
        s->instances[out].block = x->block;
        return;
    }
}

/* In a loop everything whole that a region reads stays alive to the loop's end, and its result is alive from its beginning. */
static void stretch_over_loop(builder *b, uint32_t first_step) {
    schedule *s = b->s;
    for (uint32_t st = first_step; st < s->n_steps; st++)
        for (uint32_t i = 0; i < s->steps[st].n; i++) {
            const scheduled_node *n = &s->nodes[s->steps[st].first + i];
            for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++)
                if (n->inputs[k] != NONE && s->instances[n->inputs[k]].region == NONE) use_block(b, s->instances[n->inputs[k]].block, s->n_steps - 1);
            if (n->output != NONE && s->instances[n->output].region == NONE) use_block(b, s->instances[n->output].block, first_step);
        }
}

/* Copies that a region's nodes need come before its loop. */
static strand_status fetch_externals(builder *b, const run_of_nodes *run) {
    for (uint32_t i = 0; i < run->n; i++) {
        const graph_node *n = &b->g->nodes[run->nodes[i]];
        uint32_t space = b->p->space[b->p->nodes[run->nodes[i]].device], unused;
        for (uint32_t k = 0; k < n->n_inputs; k++) {
            tensor_id t = n->inputs[k];
            bool inner = false;
            for (uint32_t j = 0; j < i; j++) inner = inner || b->g->nodes[run->nodes[j]].output == t;
            if (!t || inner || (b->prepare[run->nodes[i]] && (n->op->prepared >> k & 1))) continue;
            if (need_whole(b, run->ph, space, t, &unused)) return b->e->status;
        }
    }
    return STRAND_OK;
}

static strand_status emit_run(builder *b, const run_of_nodes *run, uint32_t *left) {
    uint32_t *before = NULL;
    if (run->region != NONE) {
        if (fetch_externals(b, run)) return b->e->status;
        before = ARENA_ARRAY(b->a, uint32_t, b->g->n_tensors);
        if (!before) return no_memory(b->e);
        memcpy(before, left, b->g->n_tensors * sizeof *left);
    }
    uint32_t first_step = b->s->n_steps;
    for (uint32_t i = 0; i < run->n;) {
        uint32_t n = claim(b, run, i);
        if (emit_launch(b, run, i, n, left)) return b->e->status;
        i += n;
    }
    for (uint32_t i = 0; i < run->n; i++) b->tile[b->g->nodes[run->nodes[i]].output] = NONE;
    if (run->region != NONE) {
        alias_sink(b, run, first_step, before);
        stretch_over_loop(b, first_step);
    }
    return STRAND_OK;
}

static bool same_shapes(const graph *g, tensor_id a, tensor_id b) {
    const op_shape *x = &g->tensors[a].shape, *y = &g->tensors[b].shape;
    if (!a || !b || a == b) return a == b;
    if (x->dtype != y->dtype || x->rank != y->rank) return false;
    for (int i = 0; i < x->rank; i++)
        if (!op_dim_equal(x->dims[i], y->dims[i])) return false;
    return true;
}

/* Would node j's prepared constant serve node i? The same operator of the same shapes on the same device, over the same constants. */
static bool same_prepared(const builder *b, uint32_t i, uint32_t j) {
    const graph_node *n = &b->g->nodes[i], *m = &b->g->nodes[j];
    if (b->prepared[j] == NONE || n->op != m->op || n->n_inputs != m->n_inputs || b->p->nodes[i].device != b->p->nodes[j].device) return false;
    if (n->op->params_size && memcmp(n->params, m->params, n->op->params_size) != 0) return false;
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if (n->op->prepared >> k & 1 ? n->inputs[k] != m->inputs[k] : !same_shapes(b->g, n->inputs[k], m->inputs[k])) return false;
    return same_shapes(b->g, n->output, m->output);
}

/* The step that makes node i's kept prepared constant, once its inputs are there; none where an earlier node has the same one (a
 * decoder that is unrolled step by step). */
static strand_status emit_prepare(builder *b, uint32_t i) {
    const graph_node *n = &b->g->nodes[i];
    for (uint32_t j = 0; j < i; j++)
        if (b->prepare[j] && same_prepared(b, i, j)) {
            b->prepared[i] = b->prepared[j];
            return STRAND_OK;
        }
    uint32_t device = b->p->nodes[i].device, space = b->p->space[device], unused;
    scheduled_node s = {.node = i, .output = NONE, .second = NONE};
    run_of_nodes run = {&i, 1, PROLOGUE, NONE};
    for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS; k++) s.inputs[k] = NONE;
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] && (n->op->prepared >> k & 1) && need_whole(b, PROLOGUE, space, n->inputs[k], &s.inputs[k])) return b->e->status;
    uint32_t index = b->s->n_steps;
    if (add_block(b, space, prepare_bytes(b, i), space_alignment(b, space), index, &b->prepared[i])) return b->e->status;
    s.prepared = b->prepared[i];
    step st = {STEP_PREPARE, PROLOGUE, device, NONE, b->s->n_nodes, 1, NONE, NONE, NONE, node_work(b, i)};
    if (add_scheduled(b, &s, &unused) || scratch_block(b, &run, &st, index, &st.scratch) || add_step(b, st, &unused)) return b->e->status;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        if (s.inputs[k] != NONE) use_block(b, b->s->instances[s.inputs[k]].block, index);
    }
    return STRAND_OK;
}

/* How often each tensor is still going to be read in this phase; results that must outlive it count one more. */
static void count_reads(const builder *b, int ph, uint32_t *left) {
    const graph *g = b->g;
    memset(left, 0, g->n_tensors * sizeof *left);
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        bool prepares = ph == PROLOGUE && b->prepare[i];
        if (!b->in_phase[ph][i] && !prepares) continue;
        for (uint32_t k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] && (b->in_phase[ph][i] || (g->nodes[i].op->prepared >> k & 1))) left[g->nodes[i].inputs[k]]++;
    }
    for (tensor_id t = 1; t < g->n_tensors; t++)
        if (b->p->wanted[t] || is_kept(b, t)) left[t]++;
}

static strand_status emit_phase(builder *b, int ph) {
    const graph *g = b->g;
    uint32_t *left = ARENA_ARRAY(b->a, uint32_t, g->n_tensors), *members = ARENA_ARRAY(b->a, uint32_t, g->n_nodes + 1);
    if (!left || !members) return no_memory(b->e);
    count_reads(b, ph, left);
    for (uint32_t i = 0; i < g->n_nodes;) {
        uint32_t r = b->p->nodes[i].region;
        run_of_nodes run = {members, 0, ph, NONE};
        if (region_cut(b->s, r)) {
            if (b->p->regions[r].sink == i && b->in_phase[ph][i]) {
                run.region = r;
                for (uint32_t j = 0; j <= i; j++)
                    if (b->p->nodes[j].region == r && b->in_phase[ph][j]) members[run.n++] = j;
            }
            i++;
        } else {
            /* Nodes in a row that no cut region interrupts: groups may be claimed anywhere among them. */
            for (; i < g->n_nodes && !region_cut(b->s, b->p->nodes[i].region); i++) {
                if (ph == PROLOGUE && b->prepare[i]) {
                    if (run.n && emit_run(b, &run, left)) return b->e->status;
                    run.n = 0;
                    if (emit_prepare(b, i)) return b->e->status;
                }
                if (!b->in_phase[ph][i]) continue;
                if (run.n && b->p->nodes[members[run.n - 1]].device != b->p->nodes[i].device) {
                    if (emit_run(b, &run, left)) return b->e->status;
                    run.n = 0;
                }
                members[run.n++] = i;
            }
        }
        if (run.n && emit_run(b, &run, left)) return b->e->status;
    }
    return STRAND_OK;
}

/* ---- the whole ---- */

/* The space in which a state lives: that of its next value, if the device can move what does not lie over it; else the host's. */
static uint32_t home_of(const builder *b, tensor_id state) {
    const graph_tensor *next = &b->g->tensors[b->g->tensors[state].next];
    if (next->kind != TENSOR_RESULT || next->constant) return 0;
    uint32_t device = b->p->nodes[next->node].device;
    return REGISTRY_HAS(b->p->devices[device], copy) ? b->p->space[device] : 0;
}

/* Inputs and clocks come first; states are there already. */
static strand_status load_inputs(builder *b) {
    for (tensor_id t = 1; t < b->g->n_tensors; t++) {
        uint32_t at, unused, space;
        tensor_kind kind = b->g->tensors[t].kind;
        if (kind == TENSOR_WEIGHT || kind == TENSOR_RESULT || (kind != TENSOR_STATE && !b->p->uses[t])) continue;
        space = kind == TENSOR_STATE ? home_of(b, t) : 0;
        if (add_instance(b, t, space, NONE, NULL, b->s->n_steps, &at)) return b->e->status;
        *whole_at(b, MAIN, space, t) = at;
        if (kind == TENSOR_STATE) {
            PUSH(b, states, n_states, state_room, at, &unused);
            b->s->state_bytes += b->s->blocks[b->s->instances[at].block].life.bytes;
            continue;
        }
        if (add_step(b, (step){STEP_INPUT, MAIN, 0, NONE, 0, 0, NONE, at, NONE, 0}, &unused)) return b->e->status;
    }
    return STRAND_OK;
}

/* States take their next values last of all. */
static strand_status turn_states(builder *b) {
    for (uint32_t i = 0; i < b->s->n_states; i++) {
        uint32_t at = b->s->states[i], space = b->s->instances[at].space, next, device = 0, unused;
        if (need_whole(b, MAIN, space, b->g->tensors[b->s->instances[at].tensor].next, &next)) return b->e->status;
        if (b->s->instances[next].block == b->s->instances[at].block) continue;
        while (space && b->p->space[device] != space) device++;
        if (add_step(b, (step){STEP_STATE, MAIN, device, NONE, 0, 0, next, at, NONE, 0}, &unused)) return b->e->status;
    }
    uint32_t end = b->s->n_steps ? b->s->n_steps - 1 : 0;
    for (uint32_t i = 0; i < b->s->n_states; i++) {
        uint32_t at = b->s->states[i];
        use_block(b, b->s->instances[at].block, 0);
        use_block(b, b->s->instances[at].block, end);
        use_block(b, b->s->instances[*whole_at(b, MAIN, b->s->instances[at].space, b->g->tensors[b->s->instances[at].tensor].next)].block, end);
    }
    return STRAND_OK;
}

/* Wanted outputs end in the host's memory and stay there until the next run; kept constants and uploaded weights for ever. */
static strand_status finish(builder *b) {
    schedule *s = b->s;
    s->outputs = ARENA_ARRAY(b->a, uint32_t, b->g->n_outputs + 1);
    if (!s->outputs) return no_memory(b->e);
    for (uint32_t i = 0; i < b->g->n_outputs; i++) {
        s->outputs[i] = NONE;
        if (b->p->wanted[b->g->outputs[i].tensor] && need_whole(b, MAIN, 0, b->g->outputs[i].tensor, &s->outputs[i])) return b->e->status;
    }
    if (turn_states(b)) return b->e->status;
    uint32_t end = s->n_steps ? s->n_steps - 1 : 0;
    for (uint32_t i = 0; i < b->g->n_outputs; i++)
        if (s->outputs[i] != NONE) use_block(b, s->instances[s->outputs[i]].block, end);
    for (uint32_t i = 0; i < s->n_weights; i++) {
        use_block(b, s->instances[s->weights[i]].block, 0);
        use_block(b, s->instances[s->weights[i]].block, end);
    }
    for (uint32_t i = 0; i < s->n_instances; i++)
        if (s->instances[i].kept) use_block(b, s->instances[i].block, end);
    for (uint32_t i = 0; i < b->g->n_nodes; i++) use_block(b, b->prepared[i], end);
    for (uint32_t i = 0; i < s->n_blocks; i++) {
        const plan_block *life = &s->blocks[i].life;
        if (s->first_main && life->first < s->first_main && life->last == end && life->bytes) s->kept_bytes += life->bytes;
    }
    if (s->first_main) s->kept_bytes -= s->state_bytes;
    for (uint32_t i = s->first_main; i < s->n_steps; i++) s->work += s->steps[i].work;
    return STRAND_OK;
}

/* Is this step a launch that a device could have recorded? */
static bool recordable(const builder *b, const step *st) {
    return st->kind == STEP_LAUNCH && st->phase == MAIN && st->region == NONE && b->p->space[st->device] && REGISTRY_HAS(b->p->devices[st->device], segment_create) &&
           REGISTRY_HAS(b->p->devices[st->device], segment_destroy);
}

static strand_status find_segments(builder *b) {
    schedule *s = b->s;
    s->segments = ARENA_ARRAY(b->a, schedule_segment, s->n_steps / 2 + 1);
    if (!s->segments) return no_memory(b->e);
    for (uint32_t i = s->first_main; i < s->n_steps;) {
        uint32_t n = 0;
        while (i + n < s->n_steps && recordable(b, &s->steps[i + n]) && s->steps[i + n].device == s->steps[i].device) n++;
        if (n > 1) s->segments[s->n_segments++] = (schedule_segment){i, n};
        i += n ? n : 1;
    }
    return STRAND_OK;
}

/* Does every block of a space fit its largest buffer? */
static strand_status check_page(builder *b, uint32_t space) {
    uint64_t page = b->p->page[space];
    for (uint32_t i = 0, d = 0; page && i < b->s->n_blocks; i++) {
        if (b->s->blocks[i].space != space || b->s->blocks[i].life.bytes <= page) continue;
        while (b->p->space[d] != space) d++;
        return error_set(b->e, STRAND_ERR_LIMIT, "backend '%s' gives %.1f MiB in one piece at most; this plan needs one of %.1f MiB", b->p->devices[d]->name,
                         (double)page / 1048576, (double)b->s->blocks[i].life.bytes / 1048576);
    }
    return STRAND_OK;
}

static void count_buffers(builder *b, uint32_t space) {
    schedule *s = b->s;
    uint64_t page = b->p->page[space];
    s->first_buffer[space] = s->n_buffers;
    if (space && s->bytes[space]) s->n_buffers += page ? (uint32_t)((s->bytes[space] + page - 1) / page) : 1;
}

/* Offsets of every space, each on its own. */
static strand_status place_blocks(builder *b) {
    schedule *s = b->s;
    uint32_t steps = s->n_steps ? s->n_steps : 1;
    plan_block *blocks = ARENA_ARRAY(b->a, plan_block, s->n_blocks + 1);
    uint64_t *offsets = ARENA_ARRAY(b->a, uint64_t, s->n_blocks + 1);
    void *work = arena_alloc(b->a, plan_work_bytes(s->n_blocks, steps), 8);
    if (!blocks || !offsets || !work) return no_memory(b->e);
    for (uint32_t space = 0; space < b->p->n_spaces; space++) {
        plan_result result;
        uint32_t n = 0;
        size_t x, y;
        for (uint32_t i = 0; i < s->n_blocks; i++)
            if (s->blocks[i].space == space) blocks[n++] = s->blocks[i].life;
        if (check_page(b, space)) return b->e->status;
        if (!plan_offsets(blocks, n, steps, b->p->page[space], work, offsets, &result)) return error_set(b->e, STRAND_ERR_LIMIT, "the plan does not fit 64 bits");
        if (!plan_verify(blocks, n, b->p->page[space], offsets, result.peak, &x, &y)) return error_set(b->e, STRAND_ERR_BACKEND, "the memory plan failed its own proof (blocks %zu and %zu)", x, y);
        for (uint32_t i = s->n_blocks; i-- > 0;)
            if (s->blocks[i].space == space) s->blocks[i].offset = offsets[--n];
        s->bytes[space] = result.peak;
        count_buffers(b, space);
        s->lower_bound += result.lower_bound;
        s->peak_steps[space] = result.peak_step;
        if (space == 0) s->peak_step = result.peak_step;
    }
    return STRAND_OK;
}

static strand_status builder_open(builder *b) {
    const graph *g = b->g;
    size_t n = g->n_nodes + 1, t = g->n_tensors;
    for (int ph = 0; ph < 2; ph++) {
        b->in_phase[ph] = ARENA_ARRAY(b->a, uint8_t, n);
        b->whole[ph] = ARENA_ARRAY(b->a, uint32_t, t * b->p->n_spaces);
        if (!b->in_phase[ph] || !b->whole[ph]) return no_memory(b->e);
        memset(b->whole[ph], 0xff, t * b->p->n_spaces * sizeof *b->whole[ph]);
    }
    b->prepare = ARENA_ARRAY(b->a, uint8_t, n);
    b->tile = ARENA_ARRAY(b->a, uint32_t, t);
    b->prepared = ARENA_ARRAY(b->a, uint32_t, n);
    b->s->kept = ARENA_ARRAY(b->a, uint8_t, t);
    b->s->tile = ARENA_ARRAY(b->a, int64_t, b->p->n_regions + 1);
    b->s->tiles = ARENA_ARRAY(b->a, uint32_t, b->p->n_regions + 1);
    if (!b->prepare || !b->tile || !b->prepared || !b->s->kept || !b->s->tile || !b->s->tiles) return no_memory(b->e);
    memset(b->tile, 0xff, t * sizeof *b->tile);
    memset(b->prepared, 0xff, n * sizeof *b->prepared);
    return STRAND_OK;
}

strand_status schedule_make(schedule *s, arena *a, const placement *p, const uint8_t *keep, const uint32_t *tiles, error *e) {
    *s = (schedule){.place = p, .max_group = 1};
    builder b = {.s = s, .a = a, .p = p, .g = p->graph, .keep = keep, .e = e};
    if (builder_open(&b)) return e->status;
    for (uint32_t r = 0; r < p->n_regions; r++) {
        s->tiles[r] = tiles[r];
        s->tile[r] = (p->regions[r].extent + tiles[r] - 1) / tiles[r];
    }
    mark_phase(&b);
    if (emit_phase(&b, PROLOGUE)) return e->status;
    s->first_main = s->n_steps;
    if (load_inputs(&b) || emit_phase(&b, MAIN) || finish(&b) || find_segments(&b)) return e->status;
    return place_blocks(&b);
}

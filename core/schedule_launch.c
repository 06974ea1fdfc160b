/* schedule_launch.c - the launches of a run of nodes: groups as backends claim them, memory for their results (over an input
 * where that dies), scratch; and of a region, the loop over tiles: what it reads from outside comes before it and lives to its
 * end. */
#include "schedule_builder.h"

#include <string.h>

#define CLAIM_WINDOW 8

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
    const bool prepared = d->plugin->table.abi_minor >= 3;
    while (n < CLAIM_WINDOW && first + n < run->n && !used_second(b->p, run->nodes[first + n]) &&
           b->p->devices[b->p->nodes[run->nodes[first + n]].device] == d && (prepared || !b->prepare[run->nodes[first + n]]))
        n++;
    while (n > 1) {
        strand_plugin_node nodes[CLAIM_WINDOW];
        strand_plugin_tensor views[CLAIM_WINDOW][NODE_VIEWS];
        uint8_t needed[CLAIM_WINDOW];
        for (uint32_t i = 0; i < n; i++)
            node_at_maximum(b->p, run->nodes[first + i], run->region == NONE ? 0 : b->s->tile[run->region], &nodes[i],
                            views[i]);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t made = b->prepared[run->nodes[first + i]];
            if (b->prepare[run->nodes[first + i]]) nodes[i].prepared.bytes = made == NONE ? 1 : b->s->blocks[made].life.bytes;
        }
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
    return builder_need(b, run->ph, space, t, out);
}

/* Is the result as large as the input, and (unless the operator only renames the elements) of the same shape? */
static bool same_place(const op_row *op, const op_shape *from, const op_shape *to) {
    if (from->dtype != to->dtype) return false;
    if (op->renames) return true; /* its shape rule has seen to the number of elements */
    bool same = from->rank == to->rank;
    for (int i = 0; same && i < from->rank; i++) same = op_dim_equal(from->dims[i], to->dims[i]);
    return same;
}

/* Can `result` of this single node lie over one of the inputs that `may` names? Only where that input dies here and has the
 * same tile. A state lives for ever: only what it becomes lies over it. */
static uint32_t overwritten_input(const builder *b, const run_of_nodes *run, uint32_t index, tensor_id result, uint32_t may,
                                  const uint32_t *inputs, const uint32_t *left) {
    const graph_node *n = &b->g->nodes[index];
    bool sink = run->region != NONE && b->p->regions[run->region].sink == index;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        tensor_id t = n->inputs[k];
        if (!(may >> k & 1) || !t || left[t] != 1 || inputs[k] == NONE) continue;
        const instance *x = &b->s->instances[inputs[k]];
        const graph_tensor *from = &b->g->tensors[t];
        if (x->block == NONE || x->kept || from->kind == TENSOR_WEIGHT || b->p->wanted[t] ||
            (from->kind == TENSOR_STATE && from->next != result))
            continue;
        if ((run->ph == MAIN && is_kept(b, t)) || !same_place(n->op, &from->shape, &b->g->tensors[result].shape)) continue;
        if (run->region == NONE) return k;
        if (sink || x->region != run->region || n->op->renames) continue; /* whole tensors under a loop: see alias_sink */
        const placed_node *at = &b->p->nodes[index];
        if (x->axis == at->axis && x->left == at->left && x->right == at->right) return k;
    }
    return NONE;
}

/* Allocates one result of the last node of a launch (or takes what it may overwrite). */
static strand_status output_instance(builder *b, const run_of_nodes *run, uint32_t index, tensor_id result, uint32_t space,
                                     uint32_t over, uint32_t step_index, uint32_t *out) {
    bool inner = run->region != NONE && b->p->regions[run->region].sink != index;
    if (over != NONE) {
        instance x = b->s->instances[over];
        x.tensor = result;
        if (builder_push(b, &x, out)) return b->e->status;
        builder_use(b, x.block, step_index);
    } else if (builder_instance(b, result, space, inner ? run->region : NONE, inner ? &b->p->nodes[index] : NULL, step_index,
                                out)) {
        return b->e->status;
    }
    if (inner)
        b->tile[result] = *out;
    else
        *builder_whole(b, run->ph, space, result) = *out;
    if (run->ph == PROLOGUE && is_kept(b, result)) {
        b->s->instances[*out].kept = true;
        *builder_whole(b, MAIN, space, result) = *out;
    }
    return STRAND_OK;
}

/* Both results of the last node of a launch. Only a node alone may overwrite its inputs. */
static strand_status output_instances(builder *b, const run_of_nodes *run, uint32_t n, uint32_t index, uint32_t space,
                                      const uint32_t *left, uint32_t step_index, scheduled_node *s) {
    const graph_node *g = &b->g->nodes[index];
    uint32_t over = n == 1 ? overwritten_input(b, run, index, g->output, g->op->in_place, s->inputs, left) : NONE;
    if (output_instance(b, run, index, g->output, space, over == NONE ? NONE : s->inputs[over], step_index, &s->output))
        return b->e->status;
    tensor_id second = used_second(b->p, index);
    if (!second) return STRAND_OK;
    uint32_t taken = over == NONE ? 0 : 1u << over;
    over = n == 1 ? overwritten_input(b, run, index, second, g->op->second_in_place & ~taken, s->inputs, left) : NONE;
    return output_instance(b, run, index, second, space, over == NONE ? NONE : s->inputs[over], step_index, &s->second);
}

strand_status builder_scratch(builder *b, const run_of_nodes *run, const step *st, uint32_t step_index, uint32_t *out) {
    strand_plugin_node nodes[CLAIM_WINDOW];
    strand_plugin_tensor views[CLAIM_WINDOW][NODE_VIEWS];
    const registry_device *d = b->p->devices[st->device];
    for (uint32_t i = 0; i < st->n; i++)
        node_at_maximum(b->p, b->s->nodes[st->first + i].node, run->region == NONE ? 0 : b->s->tile[run->region], &nodes[i],
                        views[i]);
    uint64_t bytes = d->plugin->table.api->scratch_size(d->device, nodes, st->n);
    *out = NONE;
    return bytes ? builder_block(b, b->p->space[st->device], bytes, d->info.alignment, step_index, out) : STRAND_OK;
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
double builder_work(const builder *b, uint32_t index) {
    return schedule_node_work(b->g, index, b->p->batch, b->p->length);
}

/* Resolves the inputs of the run's i-th node of a launch that begins at `first`; what the launch itself makes has none. */
static strand_status launch_inputs(builder *b, const run_of_nodes *run, uint32_t first, uint32_t i, scheduled_node *s) {
    uint32_t node = run->nodes[first + i], space = b->p->space[b->p->nodes[node].device];
    const graph_node *g = &b->g->nodes[node];
    *s =
        (scheduled_node){.node = node, .output = NONE, .second = NONE, .prepared = b->prepare[node] ? b->prepared[node] : NONE};
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
        st.work += builder_work(b, s[i].node);
    }
    uint32_t index = b->s->n_steps, last = s[n - 1].node; /* copies that the inputs asked for stand before it */
    if (output_instances(b, run, n, last, b->p->space[device], left, index, &s[n - 1])) return b->e->status;
    for (uint32_t i = 0; i < n; i++)
        if (builder_node(b, &s[i], &unused)) return b->e->status;
    if (builder_scratch(b, run, &st, index, &st.scratch) || builder_step(b, st, &unused)) return b->e->status;
    for (uint32_t i = 0; i < n; i++) {
        const graph_node *g = &b->g->nodes[s[i].node];
        for (uint32_t k = 0; k < g->n_inputs; k++) {
            if (g->inputs[k] && left[g->inputs[k]]) left[g->inputs[k]]--;
            if (s[i].inputs[k] != NONE) builder_use(b, b->s->instances[s[i].inputs[k]].block, index);
        }
        builder_use(b, s[i].prepared, index);
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
        if (x->block == NONE || x->block == s->instances[out].block || x->kept || x->region != NONE ||
            x->space != s->instances[out].space)
            continue;
        if (from->kind == TENSOR_WEIGHT || from->kind == TENSOR_STATE || b->p->wanted[t] || is_kept(b, t) ||
            from->shape.dtype != to->shape.dtype || from->shape.rank != to->shape.rank)
            continue;
        if (*builder_whole(b, run->ph, x->space, t) != c) continue;
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
                    good = good && st + 1 < s->n_steps && r->axis == b->p->regions[run->region].axis && !r->left && !r->right &&
                           !at->left && !at->right;
                }
            }
        if (!good || !reads || reads != uses_before[t]) continue;
        builder_use(b, x->block, s->n_steps - 1);
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
                if (n->inputs[k] != NONE && s->instances[n->inputs[k]].region == NONE)
                    builder_use(b, s->instances[n->inputs[k]].block, s->n_steps - 1);
            if (n->output != NONE && s->instances[n->output].region == NONE)
                builder_use(b, s->instances[n->output].block, first_step);
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
            if (builder_need(b, run->ph, space, t, &unused)) return b->e->status;
        }
    }
    return STRAND_OK;
}

strand_status builder_emit(builder *b, const run_of_nodes *run, uint32_t *left) {
    uint32_t *before = NULL;
    if (run->region != NONE) {
        if (fetch_externals(b, run)) return b->e->status;
        before = ARENA_ARRAY(b->a, uint32_t, b->g->n_tensors);
        if (!before) return builder_no_memory(b);
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

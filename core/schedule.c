/* schedule.c - turns placed nodes into steps with memory, for one choice of kept constants and tile counts.
 *
 * In order: decide what the prologue computes; walk the nodes of each phase (a region's nodes together, at the place of its
 * last one), inserting copies where a tensor is not yet in the space that reads it; let backends claim groups; then give every
 * instance, scratch and prepared constant a lifetime in steps, and let plan.c find the offsets. */
#include <string.h>

#include "schedule_builder.h"

/* ---- which constants are kept, and what the prologue computes ---- */

/* A constant result that non-constant nodes use can be kept unless it would be a tile of a region that is cut. Of two outputs
 * both are kept or neither. */
static bool may_keep(const builder *b, tensor_id t) {
    const graph_tensor *x = &b->g->tensors[t];
    if (x->kind != TENSOR_RESULT) return false;
    const graph_node *n = &b->g->nodes[x->node];
    return x->constant && b->keep[n->output] && (!n->second || b->keep[n->second]) &&
           !(region_cut(b->s, b->p->nodes[x->node].region) && b->p->regions[b->p->nodes[x->node].region].sink != x->node);
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

/* ---- phases ---- */

static bool same_shapes(const graph *g, tensor_id a, tensor_id b) {
    const op_shape *x = &g->tensors[a].shape, *y = &g->tensors[b].shape;
    if (!a || !b || a == b) return a == b;
    if (x->dtype != y->dtype || x->rank != y->rank) return false;
    for (int i = 0; i < x->rank; i++)
        if (!op_dim_equal(x->dims[i], y->dims[i])) return false;
    return true;
}

/* Would node j's prepared constant serve node i? The same operator of the same shapes on the same device, over the same
 * constants. */
static bool same_prepared(const builder *b, uint32_t i, uint32_t j) {
    const graph_node *n = &b->g->nodes[i], *m = &b->g->nodes[j];
    if (b->prepared[j] == NONE || n->op != m->op || n->n_inputs != m->n_inputs ||
        b->p->nodes[i].device != b->p->nodes[j].device)
        return false;
    if (n->op->params_size && memcmp(n->params, m->params, n->op->params_size) != 0) return false;
    for (uint32_t k = 0; k < n->n_inputs; k++)
        if (n->op->prepared >> k & 1 ? n->inputs[k] != m->inputs[k] : !same_shapes(b->g, n->inputs[k], m->inputs[k]))
            return false;
    return same_shapes(b->g, n->output, m->output);
}

/* The step that makes node i's kept prepared constant, once its inputs are there; none where an earlier node has the same one
 * (a decoder that is unrolled step by step). */
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
        if (n->inputs[k] && (n->op->prepared >> k & 1) && builder_need(b, PROLOGUE, space, n->inputs[k], &s.inputs[k]))
            return b->e->status;
    uint32_t index = b->s->n_steps;
    if (builder_block(b, space, prepare_bytes(b, i), builder_alignment(b, space), index, &b->prepared[i])) return b->e->status;
    s.prepared = b->prepared[i];
    step st = {STEP_PREPARE, PROLOGUE, device, NONE, b->s->n_nodes, 1, NONE, NONE, NONE, builder_work(b, i)};
    if (builder_node(b, &s, &unused) || builder_scratch(b, &run, &st, index, &st.scratch) || builder_step(b, st, &unused))
        return b->e->status;
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        if (s.inputs[k] != NONE) builder_use(b, b->s->instances[s.inputs[k]].block, index);
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
            if (g->nodes[i].inputs[k] && (b->in_phase[ph][i] || (g->nodes[i].op->prepared >> k & 1)))
                left[g->nodes[i].inputs[k]]++;
    }
    for (tensor_id t = 1; t < g->n_tensors; t++)
        if (b->p->wanted[t] || is_kept(b, t)) left[t]++;
}

static strand_status emit_phase(builder *b, int ph) {
    const graph *g = b->g;
    uint32_t *left = ARENA_ARRAY(b->a, uint32_t, g->n_tensors), *members = ARENA_ARRAY(b->a, uint32_t, g->n_nodes + 1);
    if (!left || !members) return builder_no_memory(b);
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
                    if (run.n && builder_emit(b, &run, left)) return b->e->status;
                    run.n = 0;
                    if (emit_prepare(b, i)) return b->e->status;
                }
                if (!b->in_phase[ph][i]) continue;
                if (run.n && b->p->nodes[members[run.n - 1]].device != b->p->nodes[i].device) {
                    if (builder_emit(b, &run, left)) return b->e->status;
                    run.n = 0;
                }
                members[run.n++] = i;
            }
        }
        if (run.n && builder_emit(b, &run, left)) return b->e->status;
    }
    return STRAND_OK;
}

/* ---- the whole ---- */

/* The space in which a state lives: that of its next value, if the device can move what does not lie over it; else the host's.
 * */
static uint32_t home_of(const builder *b, tensor_id state) {
    const graph_tensor *next = &b->g->tensors[b->g->tensors[state].next];
    if (next->kind != TENSOR_RESULT || next->constant) return 0;
    uint32_t device = b->p->nodes[next->node].device;
    return REGISTRY_HAS(b->p->devices[device], copy) ? b->p->space[device] : 0;
}

/* A clock goes to the devices that read it before any launch, so that no copy stands between launches that could be one
 * recording. */
static strand_status send_clocks(builder *b) {
    for (uint32_t i = 0; i < b->g->n_nodes; i++) {
        const graph_node *n = &b->g->nodes[i];
        for (uint32_t k = 0, unused; b->p->nodes[i].live && k < n->n_inputs; k++)
            if (n->inputs[k] && b->g->tensors[n->inputs[k]].kind == TENSOR_CLOCK &&
                builder_need(b, MAIN, b->p->space[b->p->nodes[i].device], n->inputs[k], &unused))
                return b->e->status;
    }
    return STRAND_OK;
}

/* Inputs and clocks come first; states are there already. */
static strand_status load_inputs(builder *b) {
    for (tensor_id t = 1; t < b->g->n_tensors; t++) {
        uint32_t at, unused, space;
        tensor_kind kind = b->g->tensors[t].kind;
        if (kind == TENSOR_WEIGHT || kind == TENSOR_RESULT || (kind != TENSOR_STATE && !b->p->uses[t])) continue;
        space = kind == TENSOR_STATE ? home_of(b, t) : 0;
        if (builder_instance(b, t, space, NONE, NULL, b->s->n_steps, &at)) return b->e->status;
        *builder_whole(b, MAIN, space, t) = at;
        if (kind == TENSOR_STATE) {
            if (builder_state(b, at)) return b->e->status;
            b->s->state_bytes += b->s->blocks[b->s->instances[at].block].life.bytes;
            continue;
        }
        if (builder_step(b, (step){STEP_INPUT, MAIN, 0, NONE, 0, 0, NONE, at, NONE, 0}, &unused)) return b->e->status;
    }
    return send_clocks(b);
}

/* States take their next values last of all. */
static strand_status turn_states(builder *b) {
    for (uint32_t i = 0; i < b->s->n_states; i++) {
        uint32_t at = b->s->states[i], space = b->s->instances[at].space, next, device = 0, unused;
        if (builder_need(b, MAIN, space, b->g->tensors[b->s->instances[at].tensor].next, &next)) return b->e->status;
        if (b->s->instances[next].block == b->s->instances[at].block) continue;
        while (space && b->p->space[device] != space) device++;
        if (builder_step(b, (step){STEP_STATE, MAIN, device, NONE, 0, 0, next, at, NONE, 0}, &unused)) return b->e->status;
    }
    uint32_t end = b->s->n_steps ? b->s->n_steps - 1 : 0;
    for (uint32_t i = 0; i < b->s->n_states; i++) {
        uint32_t at = b->s->states[i];
        builder_use(b, b->s->instances[at].block, 0);
        builder_use(b, b->s->instances[at].block, end);
        builder_use(
            b,
            b->s->instances[*builder_whole(b, MAIN, b->s->instances[at].space, b->g->tensors[b->s->instances[at].tensor].next)]
                .block,
            end);
    }
    return STRAND_OK;
}

/* Wanted outputs end in the host's memory and stay there until the next run; kept constants and uploaded weights for ever. */
static strand_status finish(builder *b) {
    schedule *s = b->s;
    s->outputs = ARENA_ARRAY(b->a, uint32_t, b->g->n_outputs + 1);
    if (!s->outputs) return builder_no_memory(b);
    for (uint32_t i = 0; i < b->g->n_outputs; i++) {
        s->outputs[i] = NONE;
        if (b->p->wanted[b->g->outputs[i].tensor] & WANTED_ASKED &&
            builder_need(b, MAIN, 0, b->g->outputs[i].tensor, &s->outputs[i]))
            return b->e->status;
    }
    if (turn_states(b)) return b->e->status;
    uint32_t end = s->n_steps ? s->n_steps - 1 : 0;
    for (uint32_t i = 0; i < b->g->n_outputs; i++)
        if (s->outputs[i] != NONE) builder_use(b, s->instances[s->outputs[i]].block, end);
    for (uint32_t i = 0; i < s->n_weights; i++) {
        builder_use(b, s->instances[s->weights[i]].block, 0);
        builder_use(b, s->instances[s->weights[i]].block, end);
    }
    for (uint32_t i = 0; i < s->n_instances; i++)
        if (s->instances[i].kept) builder_use(b, s->instances[i].block, end);
    for (uint32_t i = 0; i < b->g->n_nodes; i++) builder_use(b, b->prepared[i], end);
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
    return st->kind == STEP_LAUNCH && st->phase == MAIN && st->region == NONE && b->p->space[st->device] &&
           REGISTRY_HAS(b->p->devices[st->device], segment_create) && REGISTRY_HAS(b->p->devices[st->device], segment_destroy);
}

static strand_status find_segments(builder *b) {
    schedule *s = b->s;
    s->segments = ARENA_ARRAY(b->a, schedule_segment, s->n_steps / 2 + 1);
    if (!s->segments) return builder_no_memory(b);
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
        return error_set(
            b->e, STRAND_ERR_LIMIT,
            "backend '%s' gives %.1f MiB in one piece at most; this plan needs one of %.1f MiB; give a memory limit "
            "or a shorter length",
            b->p->devices[d]->name, (double)page / 1048576, (double)b->s->blocks[i].life.bytes / 1048576);
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
    if (!blocks || !offsets || !work) return builder_no_memory(b);
    for (uint32_t space = 0; space < b->p->n_spaces; space++) {
        plan_result result;
        uint32_t n = 0;
        size_t x, y;
        for (uint32_t i = 0; i < s->n_blocks; i++)
            if (s->blocks[i].space == space) blocks[n++] = s->blocks[i].life;
        if (check_page(b, space)) return b->e->status;
        if (!plan_offsets(blocks, n, steps, b->p->page[space], work, offsets, &result))
            return error_set(b->e, STRAND_ERR_LIMIT, "the plan does not fit 64 bits");
        if (!plan_verify(blocks, n, b->p->page[space], offsets, result.peak, &x, &y))
            return error_set(b->e, STRAND_ERR_BACKEND, "the memory plan failed its own proof (blocks %zu and %zu)", x, y);
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

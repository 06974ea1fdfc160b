/* regions.c - which nodes can be computed tile by tile together, from the axis rules alone.
 *
 * From a node (the sink) and an axis of its result we walk backwards: a producer joins when every use of its result is inside
 * the region, needs a bounded interval of one and the same axis, and the producer can be cut along that axis. Halos add up.
 * Sinks are tried from the end of the graph; of a sink's axes the one that saves the most memory is taken. The batch axis is
 * never cut: the batch is the caller's to choose. Whether a region is cut at all, and how finely, is decided by budget.c. */
#include "schedule.h"

#include <string.h>

typedef struct candidate {
    int axis;
    int64_t left, right;
    bool inside;
} candidate;

static bool rules_of(const placement *p, uint32_t index, int axis, op_axis_rule *rules) {
    const graph_node *n = &p->graph->nodes[index];
    op_shape in[STRAND_PLUGIN_MAX_INPUTS];
    for (uint32_t i = 0; i < n->n_inputs; i++) in[i] = n->inputs[i] ? p->graph->tensors[n->inputs[i]].shape : (op_shape){0};
    return n->op->axis_rule(in, n->n_inputs, &p->graph->tensors[n->output].shape, n->params, axis, rules);
}

static uint64_t output_bytes(const placement *p, uint32_t index) {
    strand_plugin_tensor v;
    uint64_t bytes = 0;
    view_whole(&v, &p->graph->tensors[p->graph->nodes[index].output], p->batch, p->length);
    return view_bytes(&v, &bytes) ? bytes : UINT64_MAX / 2;
}

/* Is there something to save in cutting this node alone: a prepared constant or scratch that grows with the shape? */
static uint64_t private_bytes(const placement *p, uint32_t index) {
    strand_plugin_node node;
    strand_plugin_tensor views[NODE_VIEWS];
    const registry_device *d = p->devices[p->nodes[index].device];
    node_at_maximum(p, index, 0, &node, views);
    return d->plugin->table.api->prepare_size(d->device, &node);
}

/* Does every use of the node's result lie inside, along one axis? Then that axis and the union of the halos are in *c. */
static bool joins(const placement *p, const candidate *all, uint32_t index, uint32_t sink, candidate *c) {
    const graph *g = p->graph;
    tensor_id t = g->nodes[index].output;
    uint32_t seen = 0;
    *c = (candidate){.axis = -1};
    for (uint32_t i = index + 1; i <= sink && seen < p->uses[t]; i++) {
        if (!p->nodes[i].live) continue;
        for (uint32_t k = 0; k < g->nodes[i].n_inputs; k++) {
            if (g->nodes[i].inputs[k] != t) continue;
            op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
            if (!all[i].inside || !rules_of(p, i, all[i].axis, rules)) return false;
            const op_axis_rule *r = &rules[k];
            if (r->axis < 0 || r->left == OP_UNBOUNDED || r->right == OP_UNBOUNDED || (seen && r->axis != c->axis))
                return false;
            c->axis = r->axis;
            if (all[i].left + r->left > c->left) c->left = all[i].left + r->left;
            if (all[i].right + r->right > c->right) c->right = all[i].right + r->right;
            seen++;
        }
    }
    op_axis_rule own[STRAND_PLUGIN_MAX_INPUTS];
    return seen && seen == p->uses[t] && rules_of(p, index, c->axis, own);
}

/* Fills `all` for a sink and axis; returns the bytes that cutting could save. */
static uint64_t form(const placement *p, uint32_t sink, int axis, candidate *all) {
    memset(all, 0, (size_t)p->graph->n_nodes * sizeof *all);
    all[sink] = (candidate){.axis = axis, .inside = true};
    uint64_t saved = private_bytes(p, sink);
    for (uint32_t i = sink; i-- > 0;) {
        candidate c;
        const placed_node *n = &p->nodes[i];
        if (!n->live || used_second(p, i) || n->region != NONE || n->device != p->nodes[sink].device ||
            !joins(p, all, i, sink, &c))
            continue;
        c.inside = true;
        all[i] = c;
        saved += output_bytes(p, i);
    }
    return saved;
}

static void adopt(placement *p, uint32_t sink, const candidate *all) {
    uint32_t r = p->n_regions++;
    const op_dim d = p->graph->tensors[p->graph->nodes[sink].output].shape.dims[all[sink].axis];
    p->regions[r] = (region){sink, all[sink].axis, dim_extent(d, p->batch, p->length)};
    for (uint32_t i = 0; i <= sink; i++) {
        if (!all[i].inside) continue;
        p->nodes[i].region = r;
        p->nodes[i].axis = all[i].axis;
        p->nodes[i].left = all[i].left;
        p->nodes[i].right = all[i].right;
        rules_of(p, i, all[i].axis, p->nodes[i].rules);
    }
}

strand_status regions_make(placement *p, arena *a, error *e) {
    const graph *g = p->graph;
    p->regions = ARENA_ARRAY(a, region, g->n_nodes + 1);
    candidate *best = ARENA_ARRAY(a, candidate, g->n_nodes + 1), *trial = ARENA_ARRAY(a, candidate, g->n_nodes + 1);
    if (!p->regions || !best || !trial) return error_set(e, STRAND_ERR_MEMORY, "out of memory while planning");
    for (uint32_t sink = g->n_nodes; sink-- > 0;) {
        if (!p->nodes[sink].live || p->nodes[sink].region != NONE || used_second(p, sink)) continue;
        const op_shape *shape = &g->tensors[g->nodes[sink].output].shape;
        uint64_t most = 0;
        for (int axis = 0; axis < shape->rank; axis++) {
            op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
            if (shape->dims[axis].kind == OP_DIM_BATCH || dim_extent(shape->dims[axis], p->batch, p->length) < 2) continue;
            if (!rules_of(p, sink, axis, rules)) continue;
            uint64_t saved = form(p, sink, axis, trial);
            if (saved <= most) continue;
            most = saved;
            candidate *swap = best;
            best = trial;
            trial = swap;
        }
        if (most) adopt(p, sink, best);
    }
    return STRAND_OK;
}

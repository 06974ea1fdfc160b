/* ops_scratch.c - is the working memory that a plugin asks for at some extent enough at every smaller one, as the ABI
 * promises, and the room for what it prepares? A plan asks once, at its largest extents; what a shorter run needs is what
 * the plugin asks for there, which the tester's guards prove enough. So sizes must not fall as an extent grows. Nothing is
 * run: sizes follow from shapes. */
#include "ops_run.h"

#include <stdio.h>
#include <string.h>

/* A node whose tensors have no memory, and which of them have the extent that is varied. */
typedef struct shapes {
    strand_plugin_node node;
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS], outputs[2];
    bool varied[STRAND_PLUGIN_MAX_INPUTS + 2];
} shapes;

static void resize(strand_plugin_tensor *t, uint32_t axis, int64_t extent) {
    int64_t stride = 1;
    t->dims[axis] = t->whole[axis] = extent;
    for (uint32_t i = t->rank; i-- > 0; stride *= t->dims[i]) t->strides[i] = stride;
}

/* Tensors of the output's rank with its extent along the axis go with it. */
static void begin(shapes *s, const ops_program *g, const ops_views *v, int index, uint32_t axis) {
    const ops_node *n = &g->nodes[index];
    *s = (shapes){.node = {.op = n->op, .version = op_find(n->op)->version, .n_inputs = n->n_inputs, .params = n->params, .name = "case"}};
    memcpy(s->inputs, v->inputs[index], sizeof s->inputs);
    s->outputs[0] = v->outputs[index];
    s->outputs[1] = v->seconds[index];
    s->node.n_outputs = s->outputs[1].rank ? 2 : 1;
    for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS + 2; k++) {
        const strand_plugin_tensor *t = k < 2 ? &s->outputs[k] : &s->inputs[k - 2];
        bool there = k < 2 ? k < s->node.n_outputs : k - 2 < n->n_inputs && t->dtype;
        /* A state [B, ..] has another rank, and goes along the batch. */
        s->varied[k] = there && axis < t->rank && (axis == 0 ? t->rank > 2 : t->rank == s->outputs[0].rank) &&
                       t->dims[axis] == s->outputs[0].dims[axis];
    }
}

/* Of working memory, and of what long convolutions prepare, which is made anew for another length; what other operators keep
 * for a plan is theirs to use or not. */
static bool size_at(ops_plugin *p, shapes *s, uint32_t axis, int64_t extent, uint64_t bytes[2]) {
    char why[200];
    for (uint32_t k = 0; k < STRAND_PLUGIN_MAX_INPUTS + 2; k++)
        if (s->varied[k]) resize(k < 2 ? &s->outputs[k] : &s->inputs[k - 2], axis, extent);
    s->node.inputs = s->inputs;
    s->node.outputs = s->outputs;
    if (p->api->supports(p->device, &s->node, why, sizeof why)) return false;
    bytes[0] = p->api->scratch_size(p->device, &s->node, 1);
    bytes[1] = s->node.op == STRAND_OP_LONG_CONV ? p->api->prepare_size(p->device, &s->node) : 0;
    return true;
}

/* Every extent to 70, then those around multiples of powers of two. */
static int64_t next_extent(int64_t extent) {
    if (extent < 70) return extent + 1;
    int64_t step = 1;
    while (step * 16 <= extent) step *= 2;
    int64_t place = extent % step;
    return place == 0 ? extent + 1 : place == 1 ? extent - 1 + step - 1 : extent + 1;
}

/* The axes along which runs may be shorter than planned: batch and length. */
static bool may_vary(const ops_node *n, uint32_t rank, uint32_t axis) {
    bool last = n->op == STRAND_OP_LONG_CONV || n->op == STRAND_OP_SHORT_CONV; /* their length is the last axis */
    if (n->op == STRAND_OP_FFT) return axis == 0 && rank > 2;                  /* points and pairs are the last ones */
    return axis + 1 < rank ? axis < 2 : last;
}

bool ops_scratch_grows(ops_plugin *p, const ops_program *g, int *looked_at, char *why, size_t why_bytes) {
    ops_views whole;
    if (!ops_tile(g, -1, 0, 0, &whole)) return true;
    for (int i = 0; i < g->n_nodes; i++)
        for (uint32_t axis = 0; axis < whole.outputs[i].rank; axis++) {
            shapes s;
            uint64_t before[2] = {0}, bytes[2];
            int64_t at = 0, most = axis ? (int64_t)1 << 18 : 600;
            begin(&s, g, &whole, i, axis);
            if (!whole.outputs[i].dims[axis] || !may_vary(&g->nodes[i], whole.outputs[i].rank, axis)) continue;
            for (int64_t extent = 1; extent <= most; extent = next_extent(extent)) {
                if (!size_at(p, &s, axis, extent, bytes)) continue;
                ++*looked_at;
                for (int what = 0; what < 2; what++) {
                    if (bytes[what] < before[what]) {
                        snprintf(why, why_bytes, "%s asks for %llu bytes%s for %lld of axis %u, and for %llu for %lld",
                                 op_find(s.node.op)->name, (unsigned long long)before[what], what ? " of what is prepared" : "",
                                 (long long)at, axis, (unsigned long long)bytes[what], (long long)extent);
                        return false;
                    }
                    before[what] = bytes[what];
                }
                at = extent;
            }
        }
    return true;
}

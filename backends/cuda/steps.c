/* steps.c - one token of a sequence in few launches (kernels/steps.cu). While launches are recorded as a graph, nodes of one
 * token wait here until the next one cannot join them; those that fit become one launch:
 *
 *   a norm, products of what it gives, short convolutions of their results; products of one row; a product and the sum with it
 *   a product and the selective scan whose time steps it makes
 *
 * Nothing is known of who reads a result later, so each is written, in the node's bytes, unless a later one of the same launch
 * lies over it. Nodes do not join where one would write what another's groups still read: neither does a sum with a row that
 * the launch makes, nor a norm that lies over its row with products of it. Batch entries are the fast axis of a launch: what
 * reads the same weights runs side by side. */
#include "steps.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW       16
#define MOST_K       8192  /* of a row that is normalised: it is kept in shared memory */
#define MOST_COLUMNS 16384 /* more groups than these would spend more time on the norm than a launch of its own */
#define VIEWS        (STRAND_PLUGIN_MAX_INPUTS + 2)

typedef struct step_node {
    strand_plugin_node node;
    strand_plugin_tensor views[VIEWS];
    strand_plugin_memory scratch;
} step_node;

struct cuda_steps {
    uint32_t n;
    bool giving; /* what comes now has waited */
    step_node nodes[WINDOW];
};

/* ---- which nodes wait ---- */

static bool whole(const strand_plugin_node *node) {
    for (uint32_t i = 0; i < node->n_inputs + node->n_outputs; i++) {
        const strand_plugin_tensor *t = i < node->n_inputs ? &node->inputs[i] : &node->outputs[i - node->n_inputs];
        if (i < node->n_inputs && !cpu_input(node, i)) continue;
        if (!t->memory.buffer) return false;
        for (uint32_t j = 0; j < t->rank; j++)
            if (t->dims[j] != t->whole[j] || t->origin[j]) return false;
    }
    return true;
}

/* [B, 1, channels] in F32 */
static bool token(const strand_plugin_tensor *t, const strand_plugin_tensor *y) {
    return t->dtype == STRAND_PLUGIN_F32 && t->rank == 3 && t->dims[1] == 1 && t->dims[0] == y->dims[0] && t->id;
}

static bool is_norm(const strand_plugin_node *n) {
    return n->op == STRAND_OP_NORM || n->op == STRAND_OP_LAYER_NORM;
}

static bool waits(cuda_device *d, const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[0], *y = &node->outputs[0];
    const char *setting = getenv("STRAND_CUDA_GROUPS");
    if (!d->tensor_cores || (setting && !strcmp(setting, "0")) || !whole(node) || !token(y, y) || y->dims[0] < 1 ||
        y->dims[0] > CUDA_GROUPS_YZ || y->dims[2] < 1 || !token(x, y))
        return false;
    if (node->op == STRAND_OP_NORM) {
        const strand_op_norm *p = node->params;
        return p->groups == 1 && x->dims[2] <= MOST_K;
    }
    if (node->op == STRAND_OP_LAYER_NORM) return x->dims[2] <= MOST_K;
    if (node->op == STRAND_OP_MATMUL)
        return cuda_tensor_takes_row(node) && node->inputs[1].rank == 2 && !cuda_blas_is_first(d, node);
    if (node->op == STRAND_OP_SHORT_CONV) {
        const strand_op_short_conv *p = node->params;
        return (p->flags & STRAND_SHORT_CONV_TOKEN_MAJOR) && (!cpu_input(node, 3) || node->inputs[3].rank == 3) &&
               (node->n_outputs < 2 || node->outputs[1].rank == 3);
    }
    if (node->op == STRAND_OP_SELECTIVE_SCAN) return cuda_scan_takes(node);
    if (node->op == STRAND_OP_BINARY) {
        const strand_op_binary *p = node->params;
        const strand_plugin_tensor *other = &node->inputs[1];
        return p->kind == STRAND_BINARY_ADD && p->activation == STRAND_UNARY_IDENTITY && token(other, y) &&
               other->dims[2] == y->dims[2] && x->dims[2] == y->dims[2] && x->id != other->id;
    }
    return false;
}

/* ---- what lies where ---- */

static bool overlap(const strand_plugin_tensor *a, const strand_plugin_tensor *b) {
    const strand_plugin_tensor *t[2] = {a, b};
    CUdeviceptr begin[2], end[2];
    for (int i = 0; i < 2; i++) {
        int64_t last = 0;
        for (uint32_t j = 0; j < t[i]->rank; j++) last += (t[i]->dims[j] - 1) * t[i]->strides[j];
        begin[i] = cuda_address(t[i], 0);
        end[i] = cuda_weights(t[i], last + 1);
    }
    return begin[0] < end[1] && begin[1] < end[0];
}

static bool any_overlap(const strand_plugin_node *n, const strand_plugin_tensor *t) {
    bool found = false;
    for (uint32_t i = 0; i < n->n_outputs; i++) found = found || overlap(&n->outputs[i], t);
    return found;
}

static bool same_place(const strand_plugin_tensor *a, const strand_plugin_tensor *b) {
    bool same = cuda_address(a, 0) == cuda_address(b, 0) && a->dtype == b->dtype && a->rank == b->rank;
    for (uint32_t i = 0; i < a->rank && same; i++)
        same = a->dims[i] == b->dims[i] && (a->dims[i] < 2 || a->strides[i] == b->strides[i]);
    return same;
}

/* May output o lie over operand k, because who writes a number is the one that has read the number there, and nobody else? */
static bool by_item(const strand_plugin_node *n, uint32_t k, uint32_t o) {
    const bool may = n->op == STRAND_OP_SHORT_CONV       ? k == 3 && o == 1
                     : n->op == STRAND_OP_SELECTIVE_SCAN ? (o == 0 && (k == 0 || k == 6)) || (o == 1 && k == 8)
                                                         : n->op == STRAND_OP_BINARY;
    return may && same_place(&n->inputs[k], &n->outputs[o]);
}

/* Where the result of node i of n is written, or 0: a later one lies over it. */
static CUdeviceptr place(const step_node *s, uint32_t n, uint32_t i) {
    for (uint32_t j = i + 1; j < n; j++)
        if (any_overlap(&s[j].node, &s[i].node.outputs[0])) return 0;
    return cuda_address(&s[i].node.outputs[0], 0);
}

/* ---- which of them are one launch ---- */

typedef struct group {
    uint32_t n; /* nodes */
    const strand_plugin_node *norm, *sum, *scan;
    uint32_t products[STEP_MATRICES], convolutions[STEP_MATRICES], n_products; /* convolutions: the node's number, 0: none */
} group;

static bool reads(const strand_plugin_node *n, uint32_t input, const strand_plugin_tensor *t) {
    return n->inputs[input].id == t->id;
}

/* Operands that come in registers or shared memory from the node before, and are not read. */
static bool in_hand(const step_node *s, const group *g, uint32_t i, uint32_t k) {
    const strand_plugin_node *n = &s[i].node;
    return n->op == STRAND_OP_MATMUL           ? k == 0 && g->norm
           : n->op == STRAND_OP_SHORT_CONV     ? k == 0
           : n->op == STRAND_OP_SELECTIVE_SCAN ? k == 1
                                               : n == g->sum && reads(n, k, &s[g->products[0]].node.outputs[0]);
}

/* Is this result left out where a later one lies over it (place)? The others are written whatever comes. */
static bool may_be_left(const strand_plugin_node *n) {
    return n->op == STRAND_OP_MATMUL || is_norm(n);
}

/* May the group be one launch? Its groups of items run in any order. So no node may write what those of another one, or its
 * own, read from memory: earlier nodes read what lives no longer, in later ones it would be another tensor's, and what the
 * launch itself makes is not there yet. And where a result is written in any case, no later one is. */
static bool apart(const step_node *s, const group *g) {
    for (uint32_t i = 0; i < g->n; i++) {
        const strand_plugin_node *n = &s[i].node;
        for (uint32_t k = 0; k < n->n_inputs; k++)
            for (uint32_t j = 0; j < g->n && cpu_input(n, k) && !in_hand(s, g, i, k); j++)
                for (uint32_t o = 0; o < s[j].node.n_outputs; o++)
                    if (overlap(&s[j].node.outputs[o], &n->inputs[k]) && !(i == j && by_item(n, k, o))) return false;
        for (uint32_t o = 0; o < n->n_outputs; o++) {
            for (uint32_t j = i + 1; j < g->n && !may_be_left(n); j++)
                if (any_overlap(&s[j].node, &n->outputs[o])) return false;
            if (o && overlap(&n->outputs[0], &n->outputs[o])) return false;
        }
    }
    return true;
}

static bool joins(const step_node *s, uint32_t i, group *g, const strand_plugin_tensor *x) {
    const strand_plugin_node *n = &s[i].node;
    if (n->op == STRAND_OP_MATMUL && reads(n, 0, x) && g->n_products < STEP_MATRICES) {
        g->products[g->n_products++] = i;
        return true;
    }
    for (uint32_t j = 0; j < g->n_products && n->op == STRAND_OP_SHORT_CONV; j++)
        if (!g->convolutions[j] && reads(n, 0, &s[g->products[j]].node.outputs[0])) {
            g->convolutions[j] = i;
            return true;
        }
    if (n->op != STRAND_OP_BINARY || g->n_products != 1 || g->convolutions[0]) return false;
    const strand_plugin_tensor *y = &s[g->products[0]].node.outputs[0];
    if (!reads(n, 0, y) && !reads(n, 1, y)) return false;
    g->sum = n;
    return true;
}

/* The first of n nodes that hang together so that one launch may be made of them. */
static group collect(const step_node *s, uint32_t n) {
    group g = {0};
    if (n > 1 && s[0].node.op == STRAND_OP_MATMUL && s[1].node.op == STRAND_OP_SELECTIVE_SCAN &&
        reads(&s[1].node, 1, &s[0].node.outputs[0]))
        return (group){.n = 2, .scan = &s[1].node};
    if (is_norm(&s[0].node)) g.n = 1, g.norm = &s[0].node;
    const strand_plugin_tensor *x = g.norm ? &g.norm->outputs[0] : &s[0].node.inputs[0];
    while (g.n < n && !g.sum && joins(s, g.n, &g, x)) g.n++;
    return g;
}

/* Groups of items that have eight columns of one batch entry each, or -1: more than there can be. */
static int64_t groups_of(const step_node *s, const group *g) {
    int64_t columns = 0;
    for (uint32_t i = 0; i < g->n_products; i++) columns += (s[g->products[i]].node.outputs[0].dims[2] + 7) / 8;
    if (g->norm && columns > MOST_COLUMNS / 8) return -1;
    columns *= s[0].node.outputs[0].dims[0];
    return columns > INT32_MAX ? -1 : columns;
}

/* As many of the first n nodes as can be one launch. */
static group find(const step_node *s, uint32_t n) {
    for (group g = collect(s, n); g.n > 1 && groups_of(s, &g) >= 0; g = collect(s, g.n - 1))
        if ((g.scan || g.n_products) && apart(s, &g)) return g;
    return (group){.n = 1};
}

/* ---- launches ---- */

static bool fast(CUdeviceptr at, int64_t stride, uint32_t type) {
    return at % 16 == 0 && stride % (type == STRAND_PLUGIN_F32 ? 4 : 8) == 0;
}

static step_matrix matrix_of(const step_node *s, uint32_t n, uint32_t i) {
    const strand_op_matmul *p = s[i].node.params;
    const strand_plugin_tensor *b = &s[i].node.inputs[1], *y = &s[i].node.outputs[0],
                               *bias = p->bias ? cpu_input(&s[i].node, 2) : NULL;
    return (step_matrix){.b = cuda_address(b, 0),
                         .bias = cuda_address_or(bias, 0, 0),
                         .y = place(s, n, i),
                         .n = (int)y->dims[2],
                         .b_n = (int)gpu_steps(b, b->strides[0]),
                         .type = (int)b->dtype,
                         .fast = fast(cuda_address(b, 0), b->strides[0], b->dtype),
                         .bias_kind = bias ? (int)p->bias : STRAND_BIAS_NONE,
                         .bias_stride = bias ? (int)bias->strides[0] : 0,
                         .activation = (int)p->activation,
                         .y_batch = (int)y->strides[0],
                         .alpha = p->alpha,
                         .beta = p->beta};
}

static void add_convolution(step_matrix *m, const strand_plugin_node *node) {
    const strand_op_short_conv *p = node->params;
    const strand_plugin_tensor *w = &node->inputs[1], *bias = cpu_input(node, 2), *from = cpu_input(node, 3),
                               *to = node->n_outputs > 1 ? &node->outputs[1] : NULL, *y = &node->outputs[0];
    m->tap = cuda_address(w, 0);
    m->tap_bias = cuda_address_or(bias, 0, 0);
    m->from = cuda_address_or(from, 0, 0);
    m->to = cuda_address_or(to, 0, 0);
    m->out = cuda_address(y, 0);
    m->taps = (int)w->dims[1];
    m->tap_row = (int)w->strides[0];
    m->tap_bias_stride = bias ? (int)bias->strides[0] : 0;
    m->tap_activation = (int)p->activation;
    m->out_batch = (int)y->strides[0];
    cuda_strides(m->from_strides, from, 3);
    cuda_strides(m->to_strides, to, 3);
}

static void add_norm(step_products_numbers *x, const step_node *s, uint32_t n) {
    const strand_plugin_node *node = &s[0].node;
    const strand_plugin_tensor *w = cpu_input(node, 1), *bias = cpu_input(node, 2);
    if (node->op == STRAND_OP_LAYER_NORM) {
        const strand_op_layer_norm *p = node->params;
        x->kind = STRAND_NORM_LAYER, x->eps_rule = STRAND_EPS_INSIDE, x->eps = p->eps;
    } else {
        const strand_op_norm *p = node->params;
        x->kind = (int)p->kind, x->eps_rule = (int)p->eps_rule, x->eps = p->eps, x->weight_offset = p->weight_offset;
    }
    x->norm = 1;
    x->lanes = (int)gpu_norm_lanes(x->k);
    x->norm_weight = cuda_address_or(w, 0, 0);
    x->norm_bias = cuda_address_or(bias, 0, 0);
    x->weight_stride = w ? (int)w->strides[0] : 0;
    x->norm_bias_stride = bias ? (int)bias->strides[0] : 0;
    x->normed = place(s, n, 0);
    x->normed_batch = (int)node->outputs[0].strides[0];
}

static strand_plugin_status launch_products(cuda_device *d, CUfunction function, const step_node *s, const group *g) {
    const strand_plugin_tensor *in = g->norm ? &g->norm->inputs[0] : &s[0].node.inputs[0];
    step_products_numbers x = {.x = cuda_address(in, 0), .k = (int)in->dims[2], .matrices = (int)g->n_products,
                               .x_batch = (int)in->strides[0]};
    const uint32_t groups[3] = {(uint32_t)groups_of(s, g), 1, 1};
    x.batch = (int)in->dims[0];
    x.fast_x = fast(x.x, in->strides[0], STRAND_PLUGIN_F32);
    if (g->norm) add_norm(&x, s, g->n);
    for (uint32_t i = 0; i < g->n_products; i++) {
        x.of[i] = matrix_of(s, g->n, g->products[i]);
        if (g->convolutions[i]) add_convolution(&x.of[i], &s[g->convolutions[i]].node);
    }
    if (g->sum) {
        const strand_plugin_tensor *other = &g->sum->inputs[reads(g->sum, 0, &s[g->products[0]].node.outputs[0]) ? 1 : 0];
        x.residual = cuda_address(other, 0);
        x.residual_batch = (int)other->strides[0];
        x.sum = cuda_address(&g->sum->outputs[0], 0);
        x.sum_batch = (int)g->sum->outputs[0].strides[0];
    }
    void *arguments[] = {&x};
    return cuda_launch(d, d->base.segment, function, groups, 128, g->norm ? (uint32_t)x.k * 4 : 0, arguments, "products of a row");
}

static strand_plugin_status launch_scan(cuda_device *d, CUfunction function, const step_node *s) {
    const strand_plugin_tensor *in = &s[0].node.inputs[0];
    cuda_scan scan;
    cuda_scan_of(&s[1].node, true, &scan);
    step_scan_numbers x = {.x = cuda_address(in, 0), .u = scan.u, .a = scan.a, .b = scan.b, .c = scan.c, .d = scan.d,
                           .z = scan.z, .scan_bias = scan.bias, .state = scan.state, .y = scan.y, .after = scan.after,
                           .k = (int)in->dims[2], .x_batch = (int)in->strides[0], .of = matrix_of(s, 2, 0), .scan = scan.x};
    x.fast_x = fast(x.x, in->strides[0], STRAND_PLUGIN_F32);
    x.batch = (int)in->dims[0];
    const uint32_t groups[3] = {(uint32_t)((x.of.n + 7) / 8 * x.batch), 1, 1};
    void *arguments[] = {&x};
    return cuda_launch(d, d->base.segment, function, groups, 128, 0, arguments, "a step of a scan");
}

/* The first nodes that wait, as one launch or node by node. */
static strand_plugin_status give(cuda_device *d, cuda_steps *w) {
    group g = find(w->nodes, w->n);
    CUfunction function = NULL;
    strand_plugin_status status =
        g.n > 1 ? cuda_own_find(d, g.scan ? CUDA_OWN_step_scan : CUDA_OWN_step_products, false, &function) : STRAND_PLUGIN_OK;
    if (status) return status;
    if (!function) g.n = 1;
    if (g.n == 1) {
        w->giving = true;
        status = gpu_run_node(&d->base, &w->nodes[0].node, &w->nodes[0].scratch);
        w->giving = false;
    } else {
        status = g.scan ? launch_scan(d, function, w->nodes) : launch_products(d, function, w->nodes, &g);
    }
    w->n -= g.n;
    memmove(w->nodes, w->nodes + g.n, w->n * sizeof *w->nodes);
    for (uint32_t i = 0; i < w->n; i++) {
        step_node *s = &w->nodes[i];
        s->node.inputs = s->views;
        s->node.outputs = s->views + s->node.n_inputs;
    }
    return status;
}

strand_plugin_status cuda_steps_end(cuda_device *d) {
    cuda_steps *w = d->base.segment ? *cuda_segment_steps(d->base.segment) : NULL;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!w || w->giving || !w->n) return STRAND_PLUGIN_OK;
    status = cuda_current(d);
    while (w->n && !status) status = give(d, w);
    return status;
}

strand_plugin_status cuda_steps_take(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                     bool *done) {
    if (!d->base.segment) return STRAND_PLUGIN_OK;
    cuda_steps **w = cuda_segment_steps(d->base.segment);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (*w && (*w)->giving) return STRAND_PLUGIN_OK;
    if (node->n_inputs + node->n_outputs > VIEWS || !waits(d, node)) return cuda_steps_end(d);
    if (!*w) {
        *w = d->base.host->alloc(d->base.host->context, sizeof **w, 64);
        if (!*w) return STRAND_PLUGIN_ERR_MEMORY;
        memset(*w, 0, sizeof **w);
    }
    status = cuda_current(d);
    if ((*w)->n == WINDOW && !status) status = give(d, *w);
    if (status) return status;
    step_node *s = &(*w)->nodes[(*w)->n++];
    s->node = *node;
    memcpy(s->views, node->inputs, node->n_inputs * sizeof *s->views);
    memcpy(s->views + node->n_inputs, node->outputs, node->n_outputs * sizeof *s->views);
    s->node.inputs = s->views;
    s->node.outputs = s->views + node->n_inputs;
    s->scratch = scratch ? *scratch : (strand_plugin_memory){0};
    *done = true;
    return STRAND_PLUGIN_OK;
}

void cuda_steps_free(cuda_device *d, cuda_steps *w) {
    if (w) d->base.host->free(d->base.host->context, w, sizeof *w);
}

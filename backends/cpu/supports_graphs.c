/* supports_graphs.c - what the plugin accepts of operators on graphs. Dense adjacencies are whole; tiles are batch entries,
 * and of sparse sums and messages also nodes and features. */
#include "check.h"

#define MOST_NODES    ((int64_t)1 << 13) /* of a dense graph */
#define MOST_FEATURES ((int64_t)1 << 24)

/* Every extent of tensor t from axis `from` on is whole and as given. */
static bool extents(const strand_plugin_tensor *t, uint32_t from, uint32_t n, const int64_t *dims) {
    for (uint32_t i = 0; i < n; i++)
        if (!whole_axis(t, from + i, dims[i])) return false;
    return true;
}

/* The output [B, ..., N, N]; input i [B, N, columns] (columns -1: any) of its batch. */
static bool nodes(const strand_plugin_node *node, uint32_t i, int64_t columns, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = &node->inputs[i], *out = &node->outputs[0];
    int64_t n = out->dims[out->rank - 1];
    if (in->rank != 3 || !covers(node, i, 0, 0)) NO("%s is not of the batch of the output", what[i]);
    if (n > MOST_NODES || in->dims[2] > MOST_FEATURES) NO("the graph is too large");
    if (!extents(in, 1, 2, (int64_t[]){n, columns < 0 ? -1 : columns})) NO("%s has not the nodes of the output", what[i]);
    return true;
}

static bool square(const strand_plugin_node *node, uint32_t rank, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0];
    if (out->rank != rank || !extents(out, rank - 2, 2, (int64_t[]){out->whole[rank - 2], out->whole[rank - 2]}))
        NO("the output is not whole squares");
    return true;
}

bool cpu_supports_knn_adjacency(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_knn_adjacency *p = node->params;
    if (p->k < 1 || p->flags >= 2 * STRAND_KNN_UNIT_DIAGONAL) NO("unknown flags, or k below 1");
    TRY(square(node, 3, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0];
    if (x->rank != 4) return nodes(node, 0, -1, why, why_bytes);
    int64_t n = node->outputs[0].dims[2];
    if (!covers(node, 0, 0, 0) || n > MOST_NODES || !whole_axis(x, 1, n) || !whole_axis(x, 2, -1) || !whole_axis(x, 3, -1))
        NO("x is not of the batch and the nodes of the output");
    if (x->dims[3] > MOST_FEATURES || x->dims[2] > MOST_FEATURES || x->dims[2] * x->dims[3] > MOST_FEATURES)
        NO("too many features");
    return true;
}

bool cpu_supports_softmax_adjacency(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(f32(node, 0, 2, why, why_bytes));
    TRY(square(node, 3, why, why_bytes));
    TRY(nodes(node, 0, -1, why, why_bytes));
    if (node->inputs[0].dims[2] > 1 << 16) NO("queries are too wide");
    return nodes(node, 1, node->inputs[0].dims[2], why, why_bytes);
}

bool cpu_supports_prune_adjacency(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_prune_adjacency *p = node->params;
    if (p->mode > STRAND_PRUNE_PER_ROW || p->loops > STRAND_LOOPS_UNIT) NO("unknown way of pruning");
    if (p->mode != STRAND_PRUNE_ABOVE && !(p->value >= 0 && p->value <= 1 << 24)) NO("no number of entries");
    TRY(square(node, 3, why, why_bytes));
    return nodes(node, 0, node->outputs[0].dims[2], why, why_bytes);
}

bool cpu_supports_graph_supports(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_graph_supports *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    if (p->kind > STRAND_SUPPORTS_LAPLACIAN || !(p->lambda_max >= 0)) NO("unknown kind of supports");
    TRY(square(node, 4, why, why_bytes));
    if (!whole_axis(out, 1, p->kind == STRAND_SUPPORTS_DUAL_RANDOM_WALK ? 2 : 1)) NO("the output has not one matrix a support");
    return nodes(node, 0, out->dims[3], why, why_bytes);
}

bool cpu_supports_diffusion(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(f32(node, 0, 2, why, why_bytes));
    const strand_op_diffusion *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *s = &node->inputs[1], *out = &node->outputs[0];
    uint32_t rank = out->rank;
    if (rank < 2 || x->rank != rank) NO("x and the output are [..., N, F]");
    if (s->rank != 3 && (s->rank != 4 || rank < 3)) NO("supports are [M, N, N] or [B, M, N, N]");
    int64_t n = out->dims[rank - 2], count = s->dims[s->rank - 3], f = x->dims[rank - 1];
    if (n > MOST_NODES || f > MOST_FEATURES || count < 1 || count > 1024 || p->steps < 1 || p->steps > 1024)
        NO("too many nodes, features, supports or steps");
    if (p->flags & ~STRAND_DIFFUSION_CARRY_OVER) NO("unknown flags");
    if (!whole_axis(out, rank - 2, -1) || !whole_axis(out, rank - 1, f * (1 + count * p->steps)))
        NO("the output is not whole graphs");
    if (!extents(x, rank - 2, 2, (int64_t[]){n, f}) || !extents(s, s->rank - 3, 3, (int64_t[]){count, n, n}))
        NO("x and the supports have other nodes");
    for (uint32_t axis = 0; axis + 2 < rank; axis++)
        if (!covers(node, 0, axis, axis)) NO("x has not the batch of the output");
    if (s->rank == 4 && !covers(node, 1, 0, 0)) NO("the supports have not the batch of the output");
    return true;
}

/* x, input i, [..., rows, F] under the output [..., n, F]: all its rows. */
static bool features(const strand_plugin_node *node, uint32_t i, char *why, size_t why_bytes) {
    const strand_plugin_tensor *x = &node->inputs[i], *out = &node->outputs[0];
    if (out->rank < 2 || x->rank != out->rank || !whole_axis(x, out->rank - 2, -1)) NO("x and the output are [..., nodes, F]");
    for (uint32_t axis = 0; axis < out->rank; axis++)
        if (axis != out->rank - 2 && !covers(node, i, axis, axis)) NO("x does not cover the output");
    return true;
}

bool cpu_supports_spmm(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 4, why, why_bytes));
    if (!cpu_input(node, 3)) NO("x is missing");
    TRY(f32(node, 2, 4, why, why_bytes));
    const strand_plugin_tensor *rows = &node->inputs[0], *col = &node->inputs[1], *values = cpu_input(node, 2),
                               *out = &node->outputs[0];
    TRY(features(node, 3, why, why_bytes));
    if (rows->dtype != STRAND_PLUGIN_I32 || rows->rank != 1 || col->dtype != STRAND_PLUGIN_I32 || col->rank != 1)
        NO("row pointers and columns are not I32 vectors");
    int64_t lead = out->origin[out->rank - 2] - rows->origin[0];
    if (lead < 0 || out->dims[out->rank - 2] >= rows->dims[0] - lead) NO("row pointers do not cover the output");
    if (!whole_axis(col, 0, -1) || (values && (values->rank != 1 || !whole_axis(values, 0, col->dims[0]))))
        NO("columns and values are not whole");
    return true;
}

bool cpu_supports_segment_reduce(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_segment_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *index = &node->inputs[1], *out = &node->outputs[0];
    if (p->kind > STRAND_SEGMENT_MAX || p->n < 1) NO("unknown reduction");
    TRY(features(node, 0, why, why_bytes));
    if (out->origin[out->rank - 2] < 0 || out->dims[out->rank - 2] > p->n - out->origin[out->rank - 2])
        NO("the output has more rows than there are segments");
    if ((index->dtype != STRAND_PLUGIN_I32 && index->dtype != STRAND_PLUGIN_I64) || index->rank != 1)
        NO("the index is not a vector of I32 or I64");
    if (!whole_axis(index, 0, x->dims[x->rank - 2])) NO("the index has not the entries of x");
    return true;
}

bool cpu_supports_gine(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 4, 4, why, why_bytes));
    TRY(f32(node, 0, 4, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *out = &node->outputs[0];
    if (out->rank != 3 || a->rank != 3) NO("the output and the adjacency are not of rank 3");
    TRY(features(node, 0, why, why_bytes));
    if (out->origin[1] < 0 || out->dims[1] > x->dims[1] - out->origin[1]) NO("the output has more nodes than x");
    if (x->dims[1] > MOST_NODES) NO("too many nodes");
    if (!whole_axis(a, 1, x->dims[1]) || !covers(node, 1, 0, 0) || !covers(node, 1, 2, 1))
        NO("the adjacency does not cover the output");
    TRY(vector(node, 2, 2, why, why_bytes));
    return vector(node, 3, 2, why, why_bytes);
}

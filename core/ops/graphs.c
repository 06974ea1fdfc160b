/* graphs.c - rows of operators on graphs: adjacencies made from signals, diffusion over them, and message passing. Graphs
 * are small and come in batches: adjacencies are cut along the batch; sparse products, segments and messages along nodes and
 * features too. */
#include "rules.h"

static bool f32_rank(const op_shape *s, int rank) {
    return s->dtype == STRAND_F32 && s->rank == rank;
}

static bool integers(const op_shape *s) {
    return s->dtype == STRAND_I32 || s->dtype == STRAND_I64;
}

/* Square matrices over axes 1 and 2. */
static bool adjacency(const op_shape *a) {
    return f32_rank(a, 3) && op_dim_equal(a->dims[1], a->dims[2]);
}

static op_shape square(op_dim batch, op_dim nodes) {
    return (op_shape){STRAND_F32, 3, {batch, nodes, nodes}};
}

/* Batch entries by themselves: every input of the highest rank is cut with y. */
static bool batch_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    for (uint32_t i = 0; i < n; i++) rules[i] = (op_axis_rule){0, 0, 0};
    return axis == 0;
}

static double nodes_of(const op_shape *s) {
    return (double)s->dims[s->rank - 1].size;
}

/* ---- adjacencies ---- */

static strand_status knn_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_knn_adjacency *p = params;
    (void)n;
    if (!f32_rank(&in[0], 3) && !f32_rank(&in[0], 4))
        return bad(e, "x must be F32, [batch, nodes, features] or [batch, nodes, length, features]");
    if (p->k < 1) return bad(e, "k must be at least 1");
    if (p->flags >= 2 * STRAND_KNN_UNIT_DIAGONAL) return bad(e, "unknown flags");
    *out = square(in[0].dims[0], in[0].dims[1]);
    return STRAND_OK;
}

static double knn_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * elements(out) * (nodes_of(&in[0]) * (in[0].rank == 4 ? (double)in[0].dims[2].size : 1) + 8);
}

static strand_status softmax_adjacency_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n, (void)params;
    if (!f32_rank(&in[0], 3) || !f32_rank(&in[1], 3) || !same_dims(&in[0], &in[1]))
        return bad(e, "q and k must be F32, [batch, nodes, width]");
    *out = square(in[0].dims[0], in[0].dims[1]);
    return STRAND_OK;
}

static strand_status prune_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_prune_adjacency *p = params;
    (void)n;
    if (!adjacency(&in[0])) return bad(e, "the adjacency must be F32, [batch, nodes, nodes]");
    if (p->mode > STRAND_PRUNE_PER_ROW || p->loops > STRAND_LOOPS_UNIT) return bad(e, "unknown way of pruning");
    if (p->mode == STRAND_PRUNE_TOP_FRACTION && !(p->value >= 0 && p->value <= 1))
        return bad(e, "the fraction must lie in 0 to 1");
    if (p->mode == STRAND_PRUNE_PER_ROW && !(p->value >= 0 && p->value <= 1 << 24))
        return bad(e, "the entries of a row must be a number from 0 to 2^24");
    *out = in[0];
    return STRAND_OK;
}

static strand_status supports_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_graph_supports *p = params;
    (void)n;
    if (!adjacency(&in[0])) return bad(e, "the adjacency must be F32, [batch, nodes, nodes]");
    if (p->kind > STRAND_SUPPORTS_LAPLACIAN) return bad(e, "unknown kind of supports");
    if (!(p->lambda_max >= 0)) return bad(e, "the largest eigenvalue must not be negative");
    op_dim count = {OP_DIM_FIXED, p->kind == STRAND_SUPPORTS_DUAL_RANDOM_WALK ? 2 : 1};
    *out = (op_shape){STRAND_F32, 4, {in[0].dims[0], count, in[0].dims[1], in[0].dims[2]}};
    return STRAND_OK;
}

static double supports_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_graph_supports *p = params;
    return elements(out) * (p->kind == STRAND_SUPPORTS_LAPLACIAN && p->lambda_max == 0 ? 4 * nodes_of(&in[0]) : 8);
}

/* ---- diffusion ---- */

static strand_status diffusion_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_diffusion *p = params;
    const op_shape *x = &in[0], *s = &in[1];
    (void)n;
    if (x->dtype != STRAND_F32 || x->rank < 2) return bad(e, "x must be F32, [..., nodes, features]");
    if (s->dtype != STRAND_F32 || (s->rank != 3 && (s->rank != 4 || x->rank < 3)))
        return bad(e, "the supports must be F32, [count, nodes, nodes] or [batch, count, nodes, nodes]");
    if (p->flags & ~STRAND_DIFFUSION_CARRY_OVER) return bad(e, "unknown flags");
    op_dim nodes = x->dims[x->rank - 2], features = x->dims[x->rank - 1], count = s->dims[s->rank - 3];
    if (!op_dim_equal(s->dims[s->rank - 1], nodes) || !op_dim_equal(s->dims[s->rank - 2], nodes))
        return bad(e, "the supports have other nodes than x");
    if (s->rank == 4 && !op_dim_equal(s->dims[0], x->dims[0])) return bad(e, "the supports have another batch than x");
    if (count.kind != OP_DIM_FIXED || count.size < 1 || count.size > 1024 || p->steps < 1 || p->steps > 1024)
        return bad(e, "supports and steps must be 1 to 1024");
    if (features.kind != OP_DIM_FIXED || features.size < 1 || features.size > INT64_MAX >> 24)
        return bad(e, "the features of x must be fixed");
    *out = *x;
    out->dims[x->rank - 1].size = features.size * (1 + count.size * p->steps);
    return STRAND_OK;
}

static bool diffusion_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == 0 && in[1].rank == 4) rules[1] = (op_axis_rule){0, 0, 0};
    return axis < out->rank - 2;
}

static double diffusion_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * elements(out) * nodes_of(&in[1]);
}

/* ---- sparse sums ---- */

static strand_status spmm_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *rows = &in[0], *col = &in[1], *x = &in[3];
    (void)params;
    if (rows->dtype != STRAND_I32 || rows->rank != 1 || rows->dims[0].kind != OP_DIM_FIXED || rows->dims[0].size < 1)
        return bad(e, "row pointers must be I32, [rows + 1]");
    if (col->dtype != STRAND_I32 || col->rank != 1) return bad(e, "columns must be I32, [entries]");
    if (!vector_or_absent(in, n, 2, col->dims[0])) return bad(e, "values must be F32, [entries]");
    if (!present(in, n, 3) || x->dtype != STRAND_F32 || x->rank < 2) return bad(e, "x must be F32, [..., nodes, features]");
    *out = *x;
    out->dims[x->rank - 2] = (op_dim){OP_DIM_FIXED, rows->dims[0].size - 1};
    return STRAND_OK;
}

static bool spmm_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)params;
    all_whole(rules, n);
    if (axis == out->rank - 2)
        rules[0] = (op_axis_rule){0, 0, 1};
    else
        rules[3] = (op_axis_rule){axis, 0, 0};
    return true;
}

static double spmm_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    double rows = (double)out->dims[out->rank - 2].size;
    return 2 * (double)in[1].dims[0].size * elements(out) / (rows > 1 ? rows : 1);
}

static strand_status segment_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_segment_reduce *p = params;
    (void)n;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 2) return bad(e, "x must be F32, [..., entries, features]");
    if (!integers(&in[1]) || in[1].rank != 1 || !op_dim_equal(in[1].dims[0], in[0].dims[in[0].rank - 2]))
        return bad(e, "the index must be I32 or I64, [entries]");
    if (p->kind > STRAND_SEGMENT_MAX) return bad(e, "unknown reduction");
    if (p->n < 1 || p->n > INT32_MAX) return bad(e, "segments must be 1 to 2^31 - 1");
    *out = in[0];
    out->dims[in[0].rank - 2] = (op_dim){OP_DIM_FIXED, p->n};
    return STRAND_OK;
}

static bool segment_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                         op_axis_rule *rules) {
    (void)in, (void)params;
    all_whole(rules, n);
    if (axis != out->rank - 2) rules[0] = (op_axis_rule){axis, 0, 0};
    return true;
}

static double segment_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)out, (void)params;
    return 2 * elements(&in[0]);
}

static strand_status gine_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    if (!f32_rank(&in[0], 3)) return bad(e, "x must be F32, [batch, nodes, features]");
    if (!adjacency(&in[1]) || !op_dim_equal(in[1].dims[0], in[0].dims[0]) || !op_dim_equal(in[1].dims[1], in[0].dims[1]))
        return bad(e, "the adjacency must be F32, [batch, nodes, nodes]");
    if (!vector_or_absent(in, n, 2, in[0].dims[2]) || !vector_or_absent(in, n, 3, in[0].dims[2]))
        return bad(e, "w and b must be F32, [features]");
    *out = in[0];
    return STRAND_OK;
}

/* Node i reads its column of the adjacency and all nodes. */
static bool gine_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    all_whole(rules, n);
    if (axis != 1) rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis != 2) rules[1] = (op_axis_rule){axis == 0 ? 0 : 2, 0, 0};
    if (axis == 2) rules[2] = rules[3] = (op_axis_rule){0, 0, 0};
    return true;
}

static double gine_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 4 * elements(out) * nodes_of(&in[1]);
}

const op_row op_rows_graphs[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_KNN_ADJACENCY, 1, "knn_adjacency", 1, 1, PARAMS(strand_op_knn_adjacency), 0, 0, 1e-6f, knn_shape, batch_axis,
     knn_work},
    {STRAND_OP_SOFTMAX_ADJACENCY, 1, "softmax_adjacency", 2, 2, PARAMS(strand_op_softmax_adjacency), 0, 0, 1e-5f,
     softmax_adjacency_shape, batch_axis, knn_work},
    {STRAND_OP_PRUNE_ADJACENCY, 1, "prune_adjacency", 1, 1, PARAMS(strand_op_prune_adjacency), 1, 0, 0.0f, prune_shape,
     batch_axis, light_work},
    {STRAND_OP_GRAPH_SUPPORTS, 1, "graph_supports", 1, 1, PARAMS(strand_op_graph_supports), 0, 0, 2e-6f, supports_shape,
     batch_axis, supports_work},
    {STRAND_OP_DIFFUSION, 1, "diffusion", 2, 2, PARAMS(strand_op_diffusion), 0, 0, 4e-6f, diffusion_shape, diffusion_axis,
     diffusion_work},
    {STRAND_OP_SPMM, 1, "spmm", 2, 4, 0, 0, 0, 4e-6f, spmm_shape, spmm_axis, spmm_work},
    {STRAND_OP_SEGMENT_REDUCE, 1, "segment_reduce", 2, 2, PARAMS(strand_op_segment_reduce), 0, 0, 4e-6f, segment_shape,
     segment_axis, segment_work},
    {STRAND_OP_GINE, 1, "gine", 4, 4, PARAMS(strand_op_gine), 0, 0, 4e-6f, gine_shape, gine_axis, gine_work},
};
const uint32_t op_n_graphs = N_OF(op_rows_graphs);

/* products.c - rows of look-ups, matrix products of all kinds, and picking the largest. */
#include "rules.h"

/* ---- gather ---- */

static strand_status gather_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    (void)params;
    const op_shape *table = &in[0], *ids = &in[1];
    if (table->rank != 2 || (!floating(table->dtype) && !quantised(table)))
        return bad(e, "the table must be floating point or quantised, [rows, d]");
    if (ids->dtype != STRAND_I32 && ids->dtype != STRAND_I64) return bad(e, "ids must be I32 or I64");
    if (ids->rank >= STRAND_PLUGIN_RANK) return bad(e, "ids have too many axes");
    *out = *ids;
    out->dtype = STRAND_F32;
    out->dims[out->rank++] = table->dims[1];
    return STRAND_OK;
}

static bool gather_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    if (axis == out->rank - 1)
        rules[0] = dtype_quantised(in[0].dtype) ? OP_WHOLE : (op_axis_rule){1, 0, 0};
    else
        rules[1] = (op_axis_rule){axis, 0, 0};
    return true;
}

/* ---- matmul ---- */

typedef struct matmul_dims {
    int m_axis, ka_axis, n_axis, kb_axis; /* in a and b */
} matmul_dims;

static matmul_dims matmul_axes(const op_shape *a, const op_shape *b, const strand_op_matmul *p) {
    return (matmul_dims){a->rank - (p->transpose_a ? 1 : 2), a->rank - (p->transpose_a ? 2 : 1),
                         b->rank - (p->transpose_b ? 2 : 1), b->rank - (p->transpose_b ? 1 : 2)};
}

static strand_status matmul_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *a = &in[0], *b = &in[1];
    const strand_op_matmul *p = params;
    bool blocks = quantised(b);
    if (!floating(a->dtype) || (!floating(b->dtype) && !blocks) || a->rank < 2 || b->rank < 2)
        return bad(e, "a must be a floating point matrix, b one or a quantised one");
    if (blocks && (p->transpose_a || !p->transpose_b)) return bad(e, "a quantised b is read transposed, with a that is not");
    if (p->bias > STRAND_BIAS_COLUMNS) return bad(e, "unknown bias");
    if (!known_function(p->activation, p->alpha, p->beta))
        return bad(e, "unknown activation, or parameters that it cannot have");
    if (p->precision > STRAND_PRECISION_BF16) return bad(e, "unknown precision");
    if (a->rank != b->rank && a->rank != 2 && b->rank != 2) return bad(e, "batch axes of a and b differ");
    matmul_dims d = matmul_axes(a, b, p);
    if (!op_dim_equal(a->dims[d.ka_axis], b->dims[d.kb_axis])) return bad(e, "inner extents of a and b differ");
    const op_shape *batch = a->rank >= b->rank ? a : b;
    op_dim m = a->dims[d.m_axis], cols = b->dims[d.n_axis];
    if (a->rank == b->rank)
        for (int i = 0; i < a->rank - 2; i++)
            if (!op_dim_equal(a->dims[i], b->dims[i])) return bad(e, "batch axes of a and b differ");
    op_shape r = *batch;
    r.dtype = STRAND_F32;
    r.dims[r.rank - 2] = m;
    r.dims[r.rank - 1] = cols;
    if (present(in, n, 2) != (p->bias != STRAND_BIAS_NONE)) return bad(e, "the bias and its place do not agree");
    if (!vector_or_absent(in, n, 2, p->bias == STRAND_BIAS_ROWS ? m : cols))
        return bad(e, "the bias must be F32 with one value a row or column");
    *out = r;
    return STRAND_OK;
}

static bool matmul_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    const strand_op_matmul *p = params;
    const op_shape *a = &in[0], *b = &in[1];
    matmul_dims d = matmul_axes(a, b, p);
    all_whole(rules, n);
    if (axis == out->rank - 2) {
        rules[0] = (op_axis_rule){d.m_axis, 0, 0};
        if (n > 2 && p->bias == STRAND_BIAS_ROWS) rules[2] = (op_axis_rule){0, 0, 0};
    } else if (axis == out->rank - 1) {
        rules[1] = (op_axis_rule){d.n_axis, 0, 0};
        if (n > 2 && p->bias == STRAND_BIAS_COLUMNS) rules[2] = (op_axis_rule){0, 0, 0};
    } else {
        if (a->rank == out->rank) rules[0] = (op_axis_rule){axis, 0, 0};
        if (b->rank == out->rank) rules[1] = (op_axis_rule){axis, 0, 0};
    }
    return true;
}

static double matmul_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_matmul *p = params;
    return 2 * (double)in[0].dims[in[0].rank - (p->transpose_a ? 2 : 1)].size * elements(out);
}

/* ---- block-diagonal ---- */

static strand_status block_diagonal_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *x = &in[0], *w = &in[1];
    const strand_op_block_diagonal *p = params;
    if (x->dtype != STRAND_F32 || x->rank < 1) return bad(e, "x must be F32, [..., blocks * in]");
    if (w->dtype != STRAND_F32 || w->rank != 3) return bad(e, "the weight must be F32, [blocks, out, in]");
    if (p->flags & ~(STRAND_BLOCK_IN_INTERLEAVED | STRAND_BLOCK_OUT_INTERLEAVED)) return bad(e, "unknown flags");
    if (!known_function(p->activation, p->alpha, p->beta))
        return bad(e, "unknown activation, or parameters that it cannot have");
    uint64_t in_all, out_all;
    for (int i = 0; i < 3; i++)
        if (w->dims[i].kind != OP_DIM_FIXED || w->dims[i].size < 0) return bad(e, "the weight's extents must be fixed");
    if (!checked_mul((uint64_t)w->dims[0].size, (uint64_t)w->dims[2].size, &in_all) ||
        !checked_mul((uint64_t)w->dims[0].size, (uint64_t)w->dims[1].size, &out_all) || out_all > INT64_MAX)
        return bad(e, "the weight is too large");
    op_dim last = x->dims[x->rank - 1];
    if (last.kind != OP_DIM_FIXED || (uint64_t)last.size != in_all)
        return bad(e, "x's last axis must have the inputs of all blocks");
    *out = *x;
    out->dims[out->rank - 1] = (op_dim){OP_DIM_FIXED, (int64_t)out_all};
    if (!vector_or_absent(in, n, 2, out->dims[out->rank - 1])) return bad(e, "the bias must be F32 with one value an output");
    return STRAND_OK;
}

static bool block_diagonal_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                                op_axis_rule *rules) {
    same_axis(in, n, out, params, axis, rules);
    return axis != out->rank - 1;
}

static double block_diagonal_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * (double)in[1].dims[2].size * elements(out);
}

/* ---- grouped products ---- */

static strand_status grouped_matmul_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *x = &in[0], *w = &in[1], *ids = &in[2];
    const strand_op_grouped_matmul *p = params;
    if (x->dtype != STRAND_F32 || (x->rank != 2 && x->rank != 3))
        return bad(e, "x must be F32, [tokens, K] or [tokens, picks, K]");
    if (w->rank != 3 || (!floating(w->dtype) && !quantised(w)))
        return bad(e, "the weight must be floating point or quantised, [experts, N, K]");
    if ((ids->dtype != STRAND_I32 && ids->dtype != STRAND_I64) || ids->rank != 2)
        return bad(e, "ids must be I32 or I64, [tokens, picks]");
    if (!known_function(p->activation, p->alpha, p->beta))
        return bad(e, "unknown activation, or parameters that it cannot have");
    if (!op_dim_equal(x->dims[0], ids->dims[0]) || (x->rank == 3 && !op_dim_equal(x->dims[1], ids->dims[1])))
        return bad(e, "x and ids differ in tokens or picks");
    if (!op_dim_equal(x->dims[x->rank - 1], w->dims[2])) return bad(e, "inner extents of x and the weight differ");
    if (present(in, n, 3) && (in[3].dtype != STRAND_F32 || in[3].rank != 2 || !op_dim_equal(in[3].dims[0], w->dims[0]) ||
                              !op_dim_equal(in[3].dims[1], w->dims[1])))
        return bad(e, "the bias must be F32, [experts, N]");
    *out = (op_shape){STRAND_F32, 3, {ids->dims[0], ids->dims[1], w->dims[1]}};
    return STRAND_OK;
}

static bool grouped_matmul_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                                op_axis_rule *rules) {
    (void)out;
    (void)params;
    all_whole(rules, n);
    if (axis == 2) {
        rules[1] = (op_axis_rule){1, 0, 0};
        if (n > 3) rules[3] = (op_axis_rule){1, 0, 0};
        return true;
    }
    if (axis == 0 || in[0].rank == 3) rules[0] = (op_axis_rule){axis, 0, 0};
    rules[2] = (op_axis_rule){axis, 0, 0};
    return true;
}

static double grouped_matmul_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * (double)in[1].dims[2].size * elements(out);
}

/* ---- the largest ---- */

static strand_status top_k_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    const op_shape *x = &in[0];
    const strand_op_top_k *p = params;
    if (x->dtype != STRAND_F32 || x->rank < 1) return bad(e, "x must be F32");
    op_dim last = x->dims[x->rank - 1];
    if (last.kind != OP_DIM_FIXED || last.size > INT32_MAX) return bad(e, "the last axis must have a fixed extent below 2^31");
    if (p->k < 1 || p->k > last.size) return bad(e, "k must be at least 1 and at most the last extent");
    if (p->values > STRAND_TOP_K_SIGMOID) return bad(e, "unknown kind of values");
    out[0] = *x;
    out[0].dims[x->rank - 1] = (op_dim){OP_DIM_FIXED, p->k};
    out[1] = out[0];
    out[1].dtype = STRAND_I64;
    return STRAND_OK;
}

static bool top_k_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    same_axis(in, n, out, params, axis, rules);
    return axis != out->rank - 1;
}

static double top_k_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)out;
    (void)params;
    return 4 * elements(&in[0]);
}

const op_row op_rows_products[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_GATHER, 1, "gather", 2, 2, 0, 0, 0, 0.0f, gather_shape, gather_axis, light_work},
    {STRAND_OP_MATMUL, 1, "matmul", 2, 3, PARAMS(strand_op_matmul), 0, 2, 2e-5f, matmul_shape, matmul_axis, matmul_work},
    {STRAND_OP_BLOCK_DIAGONAL, 1, "block_diagonal", 2, 3, PARAMS(strand_op_block_diagonal), 0, 0, 2e-5f, block_diagonal_shape,
     block_diagonal_axis, block_diagonal_work},
    {STRAND_OP_GROUPED_MATMUL, 1, "grouped_matmul", 3, 4, PARAMS(strand_op_grouped_matmul), 0, 0, 2e-5f, grouped_matmul_shape,
     grouped_matmul_axis, grouped_matmul_work},
    {STRAND_OP_TOP_K, 1, "top_k", 1, 1, PARAMS(strand_op_top_k), 0, 0, 1e-5f, top_k_shape, top_k_axis, top_k_work, 2, 0},
};
const uint32_t op_n_products = N_OF(op_rows_products);

/* products.c - rows of look-ups and matrix products. */
#include "rules.h"

/* ---- gather ---- */

static strand_status gather_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    (void)params;
    const op_shape *table = &in[0], *ids = &in[1];
    if (table->rank != 2 || !floating(table->dtype)) return bad(e, "the table must be floating point, [rows, d]");
    if (ids->dtype != STRAND_I32 && ids->dtype != STRAND_I64) return bad(e, "ids must be I32 or I64");
    if (ids->rank >= STRAND_PLUGIN_RANK) return bad(e, "ids have too many axes");
    *out = *ids;
    out->dtype = STRAND_F32;
    out->dims[out->rank++] = table->dims[1];
    return STRAND_OK;
}

static bool gather_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)params;
    all_whole(rules, n);
    if (axis == out->rank - 1)
        rules[0] = (op_axis_rule){1, 0, 0};
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
    if (!floating(a->dtype) || !floating(b->dtype) || a->rank < 2 || b->rank < 2) return bad(e, "a and b must be floating point matrices");
    if (p->bias > STRAND_BIAS_COLUMNS || p->activation > STRAND_UNARY_RELU) return bad(e, "unknown bias or activation");
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
    if (!vector_or_absent(in, n, 2, p->bias == STRAND_BIAS_ROWS ? m : cols)) return bad(e, "the bias must be F32 with one value a row or column");
    *out = r;
    return STRAND_OK;
}

static bool matmul_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
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

const op_row op_rows_products[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_GATHER, 1, "gather", 2, 2, 0, 0, 0, 0.0f, gather_shape, gather_axis, light_work},
    {STRAND_OP_MATMUL, 1, "matmul", 2, 3, PARAMS(strand_op_matmul), 0, 0, 2e-5f, matmul_shape, matmul_axis, matmul_work},
};
const uint32_t op_n_products = N_OF(op_rows_products);

/* elementwise.c - rows of functions of one element or one row, and of reductions. */
#include "rules.h"

/* ---- element-wise and rows ---- */

static strand_status layer_norm_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 1) return bad(e, "x must be F32");
    op_dim d = in[0].dims[in[0].rank - 1];
    if (!vector_or_absent(in, n, 1, d) || !vector_or_absent(in, n, 2, d))
        return bad(e, "weight and bias must be F32, one value a channel");
    *out = in[0];
    return STRAND_OK;
}

static bool layer_norm_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                            op_axis_rule *rules) {
    (void)in;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis != out->rank - 1;
}

static strand_status unary_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    const strand_op_unary *p = params;
    if (in[0].dtype != STRAND_F32) return bad(e, "x must be F32");
    if (!known_function(p->kind, p->alpha, p->beta)) return bad(e, "unknown function, or parameters that it cannot have");
    *out = in[0];
    return STRAND_OK;
}

static bool is_one(op_dim d) {
    return op_dim_equal(d, (op_dim){OP_DIM_FIXED, 1});
}

static strand_status binary_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    const strand_op_binary *p = params;
    if (in[0].dtype != STRAND_F32 || in[1].dtype != STRAND_F32) return bad(e, "a and b must be F32");
    if (p->kind > STRAND_BINARY_LAST) return bad(e, "unknown function");
    if (!known_function(p->activation, p->alpha, p->beta))
        return bad(e, "unknown activation, or parameters that it cannot have");
    if (in[0].rank != in[1].rank) return bad(e, "a and b must have the same number of axes");
    *out = in[0];
    for (int i = 0; i < in[0].rank; i++) {
        if (!op_dim_equal(in[0].dims[i], in[1].dims[i]) && !is_one(in[0].dims[i]) && !is_one(in[1].dims[i]))
            return bad(e, "extents of a and b must be equal, or 1 in one of them");
        if (is_one(in[0].dims[i])) out->dims[i] = in[1].dims[i];
    }
    return STRAND_OK;
}

static bool binary_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < 2; i++)
        if (op_dim_equal(in[i].dims[axis], out->dims[axis])) rules[i] = (op_axis_rule){axis, 0, 0};
    return true;
}

static bool rows_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis != out->rank - 1;
}

static strand_status norm_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_norm *p = params;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 1) return bad(e, "x must be F32");
    if (p->kind > STRAND_NORM_L2 || p->eps_rule > STRAND_EPS_FLOOR) return bad(e, "unknown kind, or unknown rule for eps");
    if (!(p->eps >= 0)) return bad(e, "eps must not be negative");
    op_dim d = in[0].dims[in[0].rank - 1];
    if (p->groups < 1 || (p->groups > 1 && (d.kind != OP_DIM_FIXED || d.size % p->groups)))
        return bad(e, "groups must divide the last axis, of fixed extent");
    if (!vector_or_absent(in, n, 1, d) || !vector_or_absent(in, n, 2, d))
        return bad(e, "weight and bias must be F32, one value a channel");
    *out = in[0];
    return STRAND_OK;
}

static strand_status glu_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_glu *p = params;
    (void)n;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 1) return bad(e, "x must be F32");
    if (!known_function(p->activation, p->alpha, p->beta))
        return bad(e, "unknown activation, or parameters that it cannot have");
    op_dim *last = &out->dims[in[0].rank - 1];
    *out = in[0];
    if (last->kind != OP_DIM_FIXED || last->size % 2) return bad(e, "the last axis must be of fixed, even extent");
    last->size /= 2;
    return STRAND_OK;
}

static strand_status softmax_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    (void)params;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 1) return bad(e, "x must be F32");
    *out = in[0];
    return STRAND_OK;
}

static strand_status cast_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    (void)params;
    if (quantised(&in[0]) ? out->dtype != STRAND_F32 : !floating(in[0].dtype) || !floating(out->dtype))
        return bad(e, "cast goes between F32, F16 and BF16, and from quantised types to F32");
    strand_dtype to = out->dtype;
    *out = in[0];
    out->dtype = to;
    return STRAND_OK;
}

static bool cast_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    same_axis(in, n, out, params, axis, rules);
    if (axis == out->rank - 1 && dtype_quantised(in[0].dtype)) rules[0] = OP_WHOLE;
    return true;
}

/* ---- reductions ---- */

static strand_status reduce_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_reduce *p = params;
    if (in[0].dtype != STRAND_F32 || in[0].rank != 3) return bad(e, "x must be F32, [batch, length, channels]");
    if (p->kind > STRAND_REDUCE_BEFORE_TOKEN) return bad(e, "unknown reduction");
    bool ids = present(in, n, 1);
    if (ids != (p->kind == STRAND_REDUCE_BEFORE_TOKEN)) return bad(e, "ids belong to the reduction before a token");
    if (ids && ((in[1].dtype != STRAND_I32 && in[1].dtype != STRAND_I64) || in[1].rank != 2 ||
                !op_dim_equal(in[1].dims[0], in[0].dims[0]) || !op_dim_equal(in[1].dims[1], in[0].dims[1])))
        return bad(e, "ids must be I32 or I64, [batch, length]");
    *out = (op_shape){STRAND_F32, 2, {in[0].dims[0], in[0].dims[2]}};
    return STRAND_OK;
}

static bool reduce_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis == 0 ? 0 : 2, 0, 0};
    if (n > 1 && axis == 0) rules[1] = (op_axis_rule){0, 0, 0};
    return true;
}

/* `axis` of the parameters, from the first; -1 where there is none such. */
static int reduced_axis(const op_shape *x, const strand_op_reduce_axis *p) {
    int axis = p->axis < 0 ? p->axis + x->rank : p->axis;
    return axis >= 0 && axis < x->rank ? axis : -1;
}

static strand_status reduce_axis_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_reduce_axis *p = params;
    const op_shape *x = &in[0], *lengths = &in[1];
    int axis = reduced_axis(x, p);
    if (x->dtype != STRAND_F32) return bad(e, "x must be F32");
    if (p->kind > STRAND_AXIS_LAST) return bad(e, "unknown reduction");
    if (axis < 0) return bad(e, "x has no such axis");
    if (p->window < 0) return bad(e, "the window must not be negative");
    op_dim *d = &out->dims[axis];
    *out = *x;
    out->dtype = p->kind == STRAND_AXIS_ARGMAX ? STRAND_I64 : STRAND_F32;
    if (d->kind == OP_DIM_FIXED && d->size < 1) return bad(e, "nothing to reduce: the axis is empty");
    if (present(in, n, 1) && (axis != 1 || p->window || lengths->rank != 1 || !op_dim_equal(lengths->dims[0], x->dims[0]) ||
                              (lengths->dtype != STRAND_I32 && lengths->dtype != STRAND_I64)))
        return bad(e, "lengths must be I32 or I64, one for each index of axis 0, for reductions of the whole of axis 1");
    if (p->window) {
        if (d->kind != OP_DIM_FIXED || d->size < p->window)
            return bad(e, "the axis must be of fixed extent, at least one window");
        d->size /= p->window;
    } else if (p->keep) {
        *d = (op_dim){OP_DIM_FIXED, 1};
    } else {
        if (x->rank == 1) return bad(e, "the only axis must be kept");
        for (int i = axis; i + 1 < x->rank; i++) out->dims[i] = out->dims[i + 1];
        out->rank--;
    }
    return STRAND_OK;
}

static bool reduce_axis_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                             op_axis_rule *rules) {
    const strand_op_reduce_axis *p = params;
    int reduced = reduced_axis(&in[0], p), from = out->rank < in[0].rank && axis >= reduced ? axis + 1 : axis;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){from, 0, 0};
    if (n > 1 && from == 0) rules[1] = (op_axis_rule){0, 0, 0};
    return from != reduced;
}

static double reduce_axis_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_reduce_axis *p = params;
    (void)out;
    return (p->kind == STRAND_AXIS_LOG_SUM_EXP ? 20 : 2) * elements(&in[0]);
}

const op_row op_rows_elementwise[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_LAYER_NORM, 1, "layer_norm", 2, 3, PARAMS(strand_op_layer_norm), 1, 0, 1e-5f, layer_norm_shape, layer_norm_axis,
     light_work},
    {STRAND_OP_UNARY, 1, "unary", 1, 1, PARAMS(strand_op_unary), 1, 0, 2e-6f, unary_shape, same_axis, light_work},
    {STRAND_OP_BINARY, 1, "binary", 2, 2, PARAMS(strand_op_binary), 3, 0, 3e-6f, binary_shape, binary_axis, light_work},
    {STRAND_OP_REDUCE, 1, "reduce", 1, 2, PARAMS(strand_op_reduce), 0, 0, 1e-5f, reduce_shape, reduce_axis, light_work},
    {STRAND_OP_NORM, 1, "norm", 1, 3, PARAMS(strand_op_norm), 1, 0, 1e-5f, norm_shape, rows_axis, light_work},
    {STRAND_OP_GLU, 1, "glu", 1, 1, PARAMS(strand_op_glu), 0, 0, 3e-6f, glu_shape, rows_axis, light_work},
    {STRAND_OP_SOFTMAX, 1, "softmax", 1, 1, PARAMS(strand_op_softmax), 1, 0, 4e-6f, softmax_shape, rows_axis, light_work},
    {STRAND_OP_REDUCE_AXIS, 1, "reduce_axis", 1, 2, PARAMS(strand_op_reduce_axis), 0, 0, 1e-5f, reduce_axis_shape,
     reduce_axis_axis, reduce_axis_work},
    {STRAND_OP_CAST, 1, "cast", 1, 1, 0, 0, 0, 0.0f, cast_shape, cast_axis, light_work},
};
const uint32_t op_n_elementwise = N_OF(op_rows_elementwise);

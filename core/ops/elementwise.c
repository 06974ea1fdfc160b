/* elementwise.c - rows of functions of one element or one row, and of reductions. */
#include "rules.h"

/* ---- element-wise and rows ---- */

static strand_status layer_norm_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    if (in[0].dtype != STRAND_F32 || in[0].rank < 1) return bad(e, "x must be F32");
    op_dim d = in[0].dims[in[0].rank - 1];
    if (!vector_or_absent(in, n, 1, d) || !vector_or_absent(in, n, 2, d)) return bad(e, "weight and bias must be F32, one value a channel");
    *out = in[0];
    return STRAND_OK;
}

static bool layer_norm_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
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
    if (!known_function(p->activation, p->alpha, p->beta)) return bad(e, "unknown activation, or parameters that it cannot have");
    if (in[0].rank != in[1].rank) return bad(e, "a and b must have the same number of axes");
    *out = in[0];
    for (int i = 0; i < in[0].rank; i++) {
        if (!op_dim_equal(in[0].dims[i], in[1].dims[i]) && !is_one(in[0].dims[i]) && !is_one(in[1].dims[i]))
            return bad(e, "extents of a and b must be equal, or 1 in one of them");
        if (is_one(in[0].dims[i])) out->dims[i] = in[1].dims[i];
    }
    return STRAND_OK;
}

static bool binary_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < 2; i++)
        if (op_dim_equal(in[i].dims[axis], out->dims[axis])) rules[i] = (op_axis_rule){axis, 0, 0};
    return true;
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
    if (ids && ((in[1].dtype != STRAND_I32 && in[1].dtype != STRAND_I64) || in[1].rank != 2 || !op_dim_equal(in[1].dims[0], in[0].dims[0]) ||
                !op_dim_equal(in[1].dims[1], in[0].dims[1])))
        return bad(e, "ids must be I32 or I64, [batch, length]");
    *out = (op_shape){STRAND_F32, 2, {in[0].dims[0], in[0].dims[2]}};
    return STRAND_OK;
}

static bool reduce_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis == 0 ? 0 : 2, 0, 0};
    if (n > 1 && axis == 0) rules[1] = (op_axis_rule){0, 0, 0};
    return true;
}

const op_row op_rows_elementwise[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_LAYER_NORM, 1, "layer_norm", 2, 3, PARAMS(strand_op_layer_norm), 1, 0, 1e-5f, layer_norm_shape, layer_norm_axis, light_work},
    {STRAND_OP_UNARY, 1, "unary", 1, 1, PARAMS(strand_op_unary), 1, 0, 2e-6f, unary_shape, same_axis, light_work},
    {STRAND_OP_BINARY, 1, "binary", 2, 2, PARAMS(strand_op_binary), 3, 0, 3e-6f, binary_shape, binary_axis, light_work},
    {STRAND_OP_REDUCE, 1, "reduce", 1, 2, PARAMS(strand_op_reduce), 0, 0, 1e-5f, reduce_shape, reduce_axis, light_work},
    {STRAND_OP_CAST, 1, "cast", 1, 1, 0, 0, 0, 0.0f, cast_shape, cast_axis, light_work},
};
const uint32_t op_n_elementwise = N_OF(op_rows_elementwise);

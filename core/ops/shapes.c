/* shapes.c - rows of operators that move elements: reshaping, joining, cutting, permuting, padding, repeating. Elements are
 * of any type of fixed size, and nothing is computed. Axes that an operator changes are not cut; all others are. */
#include "rules.h"

static bool movable(strand_dtype t) {
    return floating(t) || t == STRAND_I32 || t == STRAND_I64;
}

/* An axis of the parameters, from the first; -1 where there is none such. */
static int axis_of(int32_t axis, int rank) {
    int from_first = axis < 0 ? axis + rank : axis;
    return from_first >= 0 && from_first < rank ? from_first : -1;
}

static strand_status check_x(const op_shape *x, error *e) {
    if (!movable(x->dtype) || x->rank < 1) return bad(e, "x must be of a type of fixed size: F32, F16, BF16, I32 or I64");
    return STRAND_OK;
}

/* ---- RESHAPE ---- */

/* Multiplies the fixed extents; false when that overflows. */
static bool fixed_product(const op_shape *s, int64_t *product) {
    *product = 1;
    for (int i = 0; i < s->rank; i++)
        if (s->dims[i].kind == OP_DIM_FIXED &&
            (s->dims[i].size < 0 || __builtin_mul_overflow(*product, s->dims[i].size, product)))
            return false;
    return true;
}

static int count_of(const op_shape *s, op_dim_kind kind) {
    int n = 0;
    for (int i = 0; i < s->rank; i++) n += s->dims[i].kind == kind;
    return n;
}

/* The result may lie over x whatever its shape: dense elements stay where they are, and a kernel does nothing when both have
 * one address. */
static strand_status reshape_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n, (void)params;
    if (check_x(&in[0], e)) return e->status;
    int64_t from, to;
    if (out->rank < 1 || out->rank > STRAND_PLUGIN_RANK) return bad(e, "the new shape comes with the hint, of 1 to 4 axes");
    if (!fixed_product(&in[0], &from) || !fixed_product(out, &to) || from != to)
        return bad(e, "the fixed extents of the new shape have another product than those of x");
    if (count_of(&in[0], OP_DIM_BATCH) != count_of(out, OP_DIM_BATCH) ||
        count_of(&in[0], OP_DIM_LENGTH) != count_of(out, OP_DIM_LENGTH))
        return bad(e, "x and the new shape must have the same free axes");
    out->dtype = in[0].dtype;
    return STRAND_OK;
}

/* An axis can be cut when everything before it, or everything after it, is the same in both shapes, and it itself. */
static bool reshape_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                         op_axis_rule *rules) {
    (void)params;
    int shift = in[0].rank - out->rank, from_end = axis + shift;
    bool front = axis < in[0].rank, back = from_end >= 0;
    for (int i = 0; i <= axis && front; i++) front = op_dim_equal(in[0].dims[i], out->dims[i]);
    for (int i = axis; i < out->rank && back; i++) back = op_dim_equal(in[0].dims[i + shift], out->dims[i]);
    all_whole(rules, n);
    rules[0] = (op_axis_rule){front ? axis : from_end, 0, 0};
    return front || back;
}

/* ---- CONCAT ---- */

static strand_status concat_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_concat *p = params;
    if (check_x(&in[0], e)) return e->status;
    int axis = axis_of(p->axis, in[0].rank);
    int64_t sum = 0;
    if (axis < 0) return bad(e, "there is no such axis");
    for (uint32_t i = 0; i < n; i++) {
        if (!present(in, n, i)) return bad(e, "an input is missing");
        if (in[i].dtype != in[0].dtype || in[i].rank != in[0].rank)
            return bad(e, "all inputs must have one type and one number of axes");
        for (int k = 0; k < in[0].rank; k++)
            if (k != axis && !op_dim_equal(in[i].dims[k], in[0].dims[k]))
                return bad(e, "other axes must have one extent in all inputs");
        op_dim d = in[i].dims[axis];
        if (d.kind != OP_DIM_FIXED || d.size < 0 || __builtin_add_overflow(sum, d.size, &sum))
            return bad(e, "the axis must be of fixed extent in all inputs");
    }
    *out = in[0];
    out->dims[axis].size = sum;
    return STRAND_OK;
}

static bool concat_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    const strand_op_concat *p = params;
    (void)in;
    for (uint32_t i = 0; i < n; i++) rules[i] = (op_axis_rule){axis, 0, 0};
    return axis != axis_of(p->axis, out->rank);
}

/* ---- SLICE ---- */

/* All of an axis, in one direction or the other. */
static bool all_of_it(const strand_op_slice *p) {
    return p->count == 0 && ((p->begin == 0 && p->step == 1) || (p->begin == -1 && p->step == -1));
}

/* How many indices the parameters take of n; -1 when they leave the axis. */
static int64_t slice_count(const strand_op_slice *p, int64_t n) {
    int64_t begin = p->begin < 0 ? p->begin + n : p->begin, most, end;
    if (p->step == INT64_MIN || begin < 0 || begin >= n) return -1;
    most = p->step > 0 ? (n - 1 - begin) / p->step + 1 : begin / -p->step + 1;
    end = p->count ? p->count : most;
    return end <= most ? end : -1;
}

static strand_status slice_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_slice *p = params;
    (void)n;
    if (check_x(&in[0], e)) return e->status;
    int axis = axis_of(p->axis, in[0].rank);
    if (axis < 0) return bad(e, "x has no such axis");
    if (p->step == 0 || p->count < 0) return bad(e, "the step must not be 0, nor the count negative");
    *out = in[0];
    op_dim *d = &out->dims[axis];
    if (all_of_it(p)) return STRAND_OK;
    if (d->kind == OP_DIM_FIXED) {
        int64_t count = slice_count(p, d->size);
        if (count < 0) return bad(e, "the slice leaves the axis");
        d->size = count;
        return STRAND_OK;
    }
    int64_t reach; /* how long a run must be: the largest index, or the distance from the end */
    if (!p->count) return bad(e, "of a free axis all is taken, or a fixed count from one end");
    if (__builtin_mul_overflow(p->count - 1, p->step, &reach) || __builtin_add_overflow(reach, p->begin, &reach) ||
        (reach < 0) != (p->begin < 0))
        return bad(e, "the slice leaves the axis");
    *d = (op_dim){OP_DIM_FIXED, p->count};
    return STRAND_OK;
}

static bool slice_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    const strand_op_slice *p = params;
    (void)in;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis != axis_of(p->axis, out->rank) || (p->step == 1 && all_of_it(p));
}

/* ---- PERMUTE ---- */

static strand_status permute_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_permute *p = params;
    uint32_t seen = 0;
    (void)n;
    if (check_x(&in[0], e)) return e->status;
    *out = in[0];
    for (int i = 0; i < in[0].rank; i++) {
        if (p->axes[i] >= (uint32_t)in[0].rank || (seen >> p->axes[i] & 1))
            return bad(e, "the axes must be those of x, each once");
        seen |= 1u << p->axes[i];
        out->dims[i] = in[0].dims[p->axes[i]];
    }
    return STRAND_OK;
}

static bool permute_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                         op_axis_rule *rules) {
    const strand_op_permute *p = params;
    (void)in, (void)out;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){(int)p->axes[axis], 0, 0};
    return true;
}

/* ---- PAD and REPEAT ---- */

static strand_status pad_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_pad *p = params;
    (void)n;
    if (check_x(&in[0], e)) return e->status;
    int axis = axis_of(p->axis, in[0].rank);
    if (axis < 0) return bad(e, "x has no such axis");
    op_dim *d = &out->dims[axis];
    *out = in[0];
    if (p->mode > STRAND_PAD_REFLECT) return bad(e, "unknown mode");
    if (d->kind != OP_DIM_FIXED || d->size < 0) return bad(e, "the axis must be of fixed extent");
    if (p->before < 0 || p->after < 0) return bad(e, "padding must not be negative");
    if (p->mode == STRAND_PAD_EDGE && d->size < 1) return bad(e, "an empty axis has no edge");
    if (p->mode == STRAND_PAD_REFLECT && (p->before >= d->size || p->after >= d->size))
        return bad(e, "a reflection must be shorter than the axis");
    if (!floating(in[0].dtype) && p->value != 0) return bad(e, "whole numbers are padded with 0");
    if (__builtin_add_overflow(d->size, p->before, &d->size) || __builtin_add_overflow(d->size, p->after, &d->size))
        return bad(e, "the axis would be too long");
    return STRAND_OK;
}

static bool pad_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    const strand_op_pad *p = params;
    (void)in;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis != axis_of(p->axis, out->rank);
}

static strand_status repeat_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_repeat *p = params;
    (void)n;
    if (check_x(&in[0], e)) return e->status;
    int axis = axis_of(p->axis, in[0].rank);
    if (axis < 0) return bad(e, "x has no such axis");
    op_dim *d = &out->dims[axis];
    *out = in[0];
    if (d->kind != OP_DIM_FIXED || d->size < 0) return bad(e, "the axis must be of fixed extent");
    if (p->times < 1 || __builtin_mul_overflow(d->size, p->times, &d->size))
        return bad(e, "an axis is repeated once at least, and not without end");
    return STRAND_OK;
}

static bool repeat_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    const strand_op_repeat *p = params;
    (void)in;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis != axis_of(p->axis, out->rank);
}

const op_row op_rows_shapes[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_RESHAPE, 1, "reshape", 1, 1, 0, 1, 0, 0.0f, reshape_shape, reshape_axis, light_work, .renames = true},
    {STRAND_OP_CONCAT, 1, "concat", 1, STRAND_PLUGIN_MAX_INPUTS, PARAMS(strand_op_concat), 0, 0, 0.0f, concat_shape,
     concat_axis, light_work},
    {STRAND_OP_SLICE, 1, "slice", 1, 1, PARAMS(strand_op_slice), 0, 0, 0.0f, slice_shape, slice_axis, light_work},
    {STRAND_OP_PERMUTE, 1, "permute", 1, 1, PARAMS(strand_op_permute), 0, 0, 0.0f, permute_shape, permute_axis, light_work},
    {STRAND_OP_PAD, 1, "pad", 1, 1, PARAMS(strand_op_pad), 0, 0, 0.0f, pad_shape, pad_axis, light_work},
    {STRAND_OP_REPEAT, 1, "repeat", 1, 1, PARAMS(strand_op_repeat), 0, 0, 0.0f, repeat_shape, repeat_axis, light_work},
};
const uint32_t op_n_shapes = N_OF(op_rows_shapes);

/* op_table.c - the rows of the instruction set. Adding an operator touches this table, the parameter struct and id in
 * strand_plugin.h, and the kernels; nothing else. Ids and versions never change their meaning. */
#include "op.h"

#include <string.h>

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static bool floating(strand_dtype t) {
    return t == STRAND_F32 || t == STRAND_F16 || t == STRAND_BF16;
}

static bool present(const op_shape *inputs, uint32_t n, uint32_t i) {
    return i < n && inputs[i].dtype != STRAND_NONE;
}

static strand_status bad(error *e, const char *what) {
    return error_set(e, STRAND_ERR_ARGUMENT, "%s", what);
}

/* Is input i absent, or a vector of extent d? */
static bool vector_or_absent(const op_shape *inputs, uint32_t n, uint32_t i, op_dim d) {
    return !present(inputs, n, i) || (inputs[i].dtype == STRAND_F32 && inputs[i].rank == 1 && op_dim_equal(inputs[i].dims[0], d));
}

static bool same_dims(const op_shape *a, const op_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (!op_dim_equal(a->dims[i], b->dims[i])) return false;
    return true;
}

static void all_whole(op_axis_rule *rules, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) rules[i] = OP_WHOLE;
}

static double elements(const op_shape *s) {
    double n = 1;
    for (int i = 0; i < s->rank; i++) n *= (double)s->dims[i].size;
    return n;
}

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
    if (p->kind > STRAND_UNARY_RELU) return bad(e, "unknown function");
    *out = in[0];
    return STRAND_OK;
}

static bool same_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return true;
}

static strand_status binary_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    const strand_op_binary *p = params;
    if (in[0].dtype != STRAND_F32 || in[1].dtype != STRAND_F32) return bad(e, "a and b must be F32");
    if (p->kind > STRAND_BINARY_SUB) return bad(e, "unknown function");
    if (in[0].rank != in[1].rank) return bad(e, "a and b must have the same number of axes");
    for (int i = 0; i < in[0].rank; i++)
        if (!op_dim_equal(in[0].dims[i], in[1].dims[i]) && !op_dim_equal(in[1].dims[i], (op_dim){OP_DIM_FIXED, 1}))
            return bad(e, "b's extents must be those of a, or 1");
    *out = in[0];
    return STRAND_OK;
}

static bool binary_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (op_dim_equal(in[0].dims[axis], in[1].dims[axis])) rules[1] = (op_axis_rule){axis, 0, 0};
    return true;
}

static strand_status cast_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n;
    (void)params;
    if (!floating(in[0].dtype) || !floating(out->dtype)) return bad(e, "cast goes between F32, F16 and BF16");
    strand_dtype to = out->dtype;
    *out = in[0];
    out->dtype = to;
    return STRAND_OK;
}

/* ---- convolutions ---- */

static strand_status short_conv_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    const op_shape *x = &in[0], *w = &in[1];
    if (x->dtype != STRAND_F32 || x->rank < 2) return bad(e, "x must be F32, [..., channels, length]");
    op_dim c = x->dims[x->rank - 2];
    if (w->dtype != STRAND_F32 || w->rank != 2 || !op_dim_equal(w->dims[0], c) || w->dims[1].kind != OP_DIM_FIXED)
        return bad(e, "the weight must be F32, [channels, taps]");
    if (!vector_or_absent(in, n, 2, c)) return bad(e, "the bias must be F32, [channels]");
    *out = *x;
    return STRAND_OK;
}

static bool short_conv_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == out->rank - 1) rules[0].left = in[1].dims[1].size - 1;
    if (axis == out->rank - 2)
        for (uint32_t i = 1; i < n; i++) rules[i] = (op_axis_rule){0, 0, 0};
    return true;
}

static strand_status long_conv_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_long_conv *p = params;
    const op_shape *u = &in[0], *k = &in[1];
    if (u->dtype != STRAND_F32 || u->rank < 2) return bad(e, "u must be F32, [..., channels, length]");
    if (p->flags) return bad(e, "unknown flags");
    op_dim c = u->dims[u->rank - 2];
    if (k->dtype != STRAND_F32 || k->rank != 2 || !op_dim_equal(k->dims[0], c)) return bad(e, "the filter must be F32, [channels, taps]");
    if (!vector_or_absent(in, n, 2, c)) return bad(e, "the skip must be F32, [channels]");
    for (uint32_t i = 3; i < 5; i++)
        if (present(in, n, i) && (in[i].dtype != STRAND_F32 || !same_dims(&in[i], u))) return bad(e, "gates must have u's shape");
    *out = *u;
    return STRAND_OK;
}

static bool long_conv_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || i >= 3) rules[i] = (op_axis_rule){axis, 0, 0};
    if (axis == out->rank - 2)
        for (uint32_t i = 1; i < n && i < 3; i++) rules[i] = (op_axis_rule){0, 0, 0};
    /* Along the length every output needs all that came before it: not a tile of bounded width. */
    if (axis == out->rank - 1) rules[0].left = OP_UNBOUNDED;
    return axis != out->rank - 1;
}

static double long_conv_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in;
    (void)params;
    double log2n = 1;
    for (int64_t l = out->dims[out->rank - 1].size; l > 0; l >>= 1) log2n++;
    return 15 * log2n * elements(out);
}

/* ---- reductions and generators ---- */

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

static strand_status positions_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)in;
    (void)n;
    const strand_op_positions *p = params;
    if (p->n < 2 || p->bands < 1 || p->bands > 1024) return bad(e, "positions need a grid of at least 2 points and 1 to 1024 bands");
    if (out->rank != 2 || out->dtype != STRAND_F32 || out->dims[1].kind != OP_DIM_FIXED || out->dims[1].size != 1 + 2 * (int64_t)p->bands)
        return bad(e, "positions make F32 [taps, 1 + 2 bands]");
    return STRAND_OK;
}

static bool positions_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    return axis == 0;
}

static strand_status decay_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_decay_window *p = params;
    if (in[0].dtype != STRAND_F32 || in[0].rank != 2) return bad(e, "the filter must be F32, [channels, taps]");
    if (p->n < 2) return bad(e, "the decay needs a grid of at least 2 points");
    if (!present(in, n, 1) || !vector_or_absent(in, n, 1, in[0].dims[0])) return bad(e, "the rates must be F32, [channels]");
    *out = in[0];
    return STRAND_OK;
}

static bool decay_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == 0) rules[1] = (op_axis_rule){0, 0, 0};
    return true;
}

static double light_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in;
    (void)params;
    return 8 * elements(out);
}

#define PARAMS(s) (uint32_t)sizeof(s)

static const op_row table[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work */
    {STRAND_OP_GATHER, 1, "gather", 2, 2, 0, 0, 0, 0.0f, gather_shape, gather_axis, light_work},
    {STRAND_OP_MATMUL, 1, "matmul", 2, 3, PARAMS(strand_op_matmul), 0, 0, 2e-5f, matmul_shape, matmul_axis, matmul_work},
    {STRAND_OP_LAYER_NORM, 1, "layer_norm", 2, 3, PARAMS(strand_op_layer_norm), 1, 0, 1e-5f, layer_norm_shape, layer_norm_axis, light_work},
    {STRAND_OP_UNARY, 1, "unary", 1, 1, PARAMS(strand_op_unary), 1, 0, 2e-6f, unary_shape, same_axis, light_work},
    {STRAND_OP_BINARY, 1, "binary", 2, 2, PARAMS(strand_op_binary), 1, 0, 1e-6f, binary_shape, binary_axis, light_work},
    {STRAND_OP_SHORT_CONV, 1, "short_conv", 2, 3, PARAMS(strand_op_short_conv), 0, 0, 2e-6f, short_conv_shape, short_conv_axis, light_work},
    {STRAND_OP_LONG_CONV, 1, "long_conv", 2, 5, PARAMS(strand_op_long_conv), 0, 2, 4e-6f, long_conv_shape, long_conv_axis, long_conv_work},
    {STRAND_OP_REDUCE, 1, "reduce", 1, 2, PARAMS(strand_op_reduce), 0, 0, 1e-5f, reduce_shape, reduce_axis, light_work},
    {STRAND_OP_POSITIONS, 1, "positions", 0, 0, PARAMS(strand_op_positions), 0, 0, 1e-6f, positions_shape, positions_axis, light_work},
    {STRAND_OP_DECAY_WINDOW, 1, "decay_window", 2, 2, PARAMS(strand_op_decay_window), 1, 0, 2e-6f, decay_shape, decay_axis, light_work},
    {STRAND_OP_CAST, 1, "cast", 1, 1, 0, 0, 0, 0.0f, cast_shape, same_axis, light_work},
};

uint32_t op_count(void) {
    return (uint32_t)N_OF(table);
}

const op_row *op_at(uint32_t index) {
    return index < N_OF(table) ? &table[index] : NULL;
}

const op_row *op_find(uint32_t id) {
    for (size_t i = 0; i < N_OF(table); i++)
        if (table[i].id == id) return &table[i];
    return NULL;
}

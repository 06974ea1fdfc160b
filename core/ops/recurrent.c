/* recurrent.c - rows of recurrences whose step is not linear in the state: they run token by token. */
#include "rules.h"

/* Is it F32, [batch axes of x..., hidden]? */
static bool state_of(const op_shape *state, const op_shape *x, op_dim hidden) {
    if (state->dtype != STRAND_F32 || state->rank != x->rank - 1) return false;
    for (int i = 0; i < x->rank - 2; i++)
        if (!op_dim_equal(state->dims[i], x->dims[i])) return false;
    return op_dim_equal(state->dims[x->rank - 2], hidden);
}

static strand_status gru_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *x = &in[0], *w = &in[1];
    int last = x->rank - 1;
    (void)params;
    if (x->dtype != STRAND_F32 || (x->rank != 3 && x->rank != 4))
        return bad(e, "x must be F32, [batch, length, 3 hidden] or with one more batch axis");
    if (w->dtype != STRAND_F32 || w->rank != 2 || w->dims[0].kind != OP_DIM_FIXED || w->dims[1].kind != OP_DIM_FIXED ||
        w->dims[1].size < 1 || w->dims[0].size % 3 || w->dims[0].size / 3 != w->dims[1].size ||
        !op_dim_equal(w->dims[0], x->dims[last]))
        return bad(e, "the weight must be F32, [3 hidden, hidden]");
    if (!vector_or_absent(in, n, 2, x->dims[last])) return bad(e, "the bias must be F32, [3 hidden]");
    if (present(in, n, 3) && !state_of(&in[3], x, w->dims[1])) return bad(e, "the state must be F32, [batch, hidden]");
    out[0] = *x;
    out[0].dims[last] = w->dims[1];
    out[1] = out[0];
    out[1].rank--;
    out[1].dims[last - 1] = w->dims[1];
    return STRAND_OK;
}

static bool gru_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (n > 3) rules[3] = (op_axis_rule){axis, 0, 0};
    return axis < out->rank - 2;
}

static double gru_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return elements(out) * (6.0 * (double)in[1].dims[1].size + 60);
}

/* [..., count, nodes, nodes]: of all graphs, or with the batch in front. */
static bool supports_of(const op_shape *s, op_dim batch, op_dim nodes) {
    if (s->dtype != STRAND_F32 || (s->rank != 3 && s->rank != 4) || (s->rank == 4 && !op_dim_equal(s->dims[0], batch)))
        return false;
    op_dim count = s->dims[s->rank - 3];
    return count.kind == OP_DIM_FIXED && count.size >= 1 && count.size <= 1024 && op_dim_equal(s->dims[s->rank - 2], nodes) &&
           op_dim_equal(s->dims[s->rank - 1], nodes);
}

static bool fixed_matrix(const op_shape *w, int64_t rows, int64_t columns) {
    return w->dtype == STRAND_F32 && w->rank == 2 && w->dims[0].kind == OP_DIM_FIXED && w->dims[1].kind == OP_DIM_FIXED &&
           w->dims[0].size == rows && w->dims[1].size == columns;
}

static strand_status graph_gru_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_graph_gru *p = params;
    const op_shape *gates = &in[0], *x = &in[1], *s = &in[2], *state = &in[5];
    if (x->dtype != STRAND_F32 || x->rank != 4 || x->dims[3].kind != OP_DIM_FIXED || x->dims[3].size < 1 ||
        x->dims[3].size > 1 << 20)
        return bad(e, "the candidate must be F32, [batch, length, nodes, hidden]");
    int64_t hidden = x->dims[3].size;
    if (gates->dtype != STRAND_F32 || gates->rank != 4 || !op_dim_equal(gates->dims[0], x->dims[0]) ||
        !op_dim_equal(gates->dims[1], x->dims[1]) || !op_dim_equal(gates->dims[2], x->dims[2]) ||
        !op_dim_equal(gates->dims[3], (op_dim){OP_DIM_FIXED, 2 * hidden}))
        return bad(e, "the gates must be F32, [batch, length, nodes, 2 hidden]");
    if (!supports_of(s, x->dims[0], x->dims[2]))
        return bad(e, "the supports must be F32, [count, nodes, nodes] or [batch, count, nodes, nodes]");
    if (p->steps < 1 || p->steps > 1024 || p->flags & ~STRAND_DIFFUSION_CARRY_OVER || p->precision > STRAND_PRECISION_BF16)
        return bad(e, "steps must be 1 to 1024, and flags and precision known");
    int64_t rows = hidden * (1 + s->dims[s->rank - 3].size * p->steps);
    if (!fixed_matrix(&in[3], rows, 2 * hidden) || !fixed_matrix(&in[4], rows, hidden))
        return bad(e, "the weights must be F32, [hidden (1 + count steps), 2 hidden] and [hidden (1 + count steps), hidden]");
    if (present(in, n, 5) && (state->dtype != STRAND_F32 || state->rank != 3 || !op_dim_equal(state->dims[0], x->dims[0]) ||
                              !op_dim_equal(state->dims[1], x->dims[2]) || !op_dim_equal(state->dims[2], x->dims[3])))
        return bad(e, "the state must be F32, [batch, nodes, hidden]");
    out[0] = *x;
    out[1] = (op_shape){STRAND_F32, 3, {x->dims[0], x->dims[2], x->dims[3]}};
    return STRAND_OK;
}

static bool graph_gru_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)out, (void)params;
    all_whole(rules, n);
    rules[0] = rules[1] = (op_axis_rule){0, 0, 0};
    if (in[2].rank == 4) rules[2] = (op_axis_rule){0, 0, 0};
    if (n > 5) rules[5] = (op_axis_rule){0, 0, 0};
    return axis == 0;
}

static double graph_gru_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return elements(out) * (6.0 * (double)in[3].dims[0].size + 4.0 * (double)in[2].dims[in[2].rank - 1].size + 60);
}

const op_row op_rows_recurrent[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work, outputs, second in
     * place */
    {STRAND_OP_GRU, 1, "gru", 2, 4, PARAMS(strand_op_gru), 0, 2, 1e-5f, gru_shape, gru_axis, gru_work, 2, 8},
    {STRAND_OP_GRAPH_GRU, 1, "graph_gru", 5, 6, PARAMS(strand_op_graph_gru), 0, 24, 1e-5f, graph_gru_shape, graph_gru_axis,
     graph_gru_work, 2, 32},
};
const uint32_t op_n_recurrent = N_OF(op_rows_recurrent);

/* recurrent.c - rows of recurrences whose step is not linear in the state: they run token by token. */
#include "rules.h"

static strand_status gru_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const op_shape *x = &in[0], *w = &in[1], *state = &in[3];
    (void)params;
    if (x->dtype != STRAND_F32 || x->rank != 3) return bad(e, "x must be F32, [batch, length, 3 hidden]");
    if (w->dtype != STRAND_F32 || w->rank != 2 || w->dims[0].kind != OP_DIM_FIXED || w->dims[1].kind != OP_DIM_FIXED ||
        w->dims[1].size < 1 || w->dims[0].size % 3 || w->dims[0].size / 3 != w->dims[1].size || !op_dim_equal(w->dims[0], x->dims[2]))
        return bad(e, "the weight must be F32, [3 hidden, hidden]");
    if (!vector_or_absent(in, n, 2, x->dims[2])) return bad(e, "the bias must be F32, [3 hidden]");
    if (present(in, n, 3) && (state->dtype != STRAND_F32 || state->rank != 2 || !op_dim_equal(state->dims[0], x->dims[0]) ||
                              !op_dim_equal(state->dims[1], w->dims[1])))
        return bad(e, "the state must be F32, [batch, hidden]");
    out[0] = (op_shape){STRAND_F32, 3, {x->dims[0], x->dims[1], w->dims[1]}};
    out[1] = (op_shape){STRAND_F32, 2, {x->dims[0], w->dims[1]}};
    return STRAND_OK;
}

static bool gru_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){0, 0, 0};
    if (n > 3) rules[3] = (op_axis_rule){0, 0, 0};
    return axis == 0;
}

static double gru_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return elements(out) * (6.0 * (double)in[1].dims[1].size + 60);
}

const op_row op_rows_recurrent[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work, outputs, second in place */
    {STRAND_OP_GRU, 1, "gru", 2, 4, PARAMS(strand_op_gru), 0, 2, 1e-5f, gru_shape, gru_axis, gru_work, 2, 8},
};
const uint32_t op_n_recurrent = N_OF(op_rows_recurrent);

/* matrix_state.c - rows of the recurrences whose state is a matrix for each head, and of the small ones that go with them.
 *
 * All are token-major, carry a state from token to token and are therefore never cut along the length (TOKEN_SHIFT, which looks
 * back one token, is). Columns of the values are independent of one another: y may be cut along its channels wherever one
 * likes, with the values cut alike and everything else whole. */
#include "rules.h"

/* An input that is [B, L, channels] like x, all fixed along the channels; *width: channels / heads. */
static bool tokens(const op_shape *t, const op_shape *x, int64_t heads, int64_t *width) {
    if (t->dtype != STRAND_F32 || t->rank != 3 || !op_dim_equal(t->dims[0], x->dims[0]) ||
        !op_dim_equal(t->dims[1], x->dims[1]))
        return false;
    op_dim c = t->dims[2];
    if (c.kind != OP_DIM_FIXED || heads < 1 || c.size < heads || c.size % heads) return false;
    *width = c.size / heads;
    return true;
}

/* [H] or [B, L, H], of any F32 values for each head (or channel). */
static bool per_channel(const op_shape *t, const op_shape *x, int64_t channels) {
    op_dim c = {OP_DIM_FIXED, channels};
    if (t->dtype != STRAND_F32) return false;
    if (t->rank == 1) return op_dim_equal(t->dims[0], c);
    return t->rank == 3 && op_dim_equal(t->dims[0], x->dims[0]) && op_dim_equal(t->dims[1], x->dims[1]) &&
           op_dim_equal(t->dims[2], c);
}

/* The second output [B, heads, rows, columns], which the state, where there is one, must equal. */
static bool matrix_state(const op_shape *in, uint32_t n, uint32_t i, op_dim batch, int64_t heads, int64_t rows, int64_t columns,
                         op_shape *out) {
    *out = (op_shape){STRAND_F32, 4, {batch, {OP_DIM_FIXED, heads}, {OP_DIM_FIXED, rows}, {OP_DIM_FIXED, columns}}};
    return !present(in, n, i) || (in[i].dtype == STRAND_F32 && same_dims(&in[i], out));
}

/* The batch of y is that of every input of rank 3 or 4; its channels are those of input `values`. */
static bool cut(const op_shape *in, uint32_t n, uint32_t values, int axis, op_axis_rule *rules) {
    all_whole(rules, n);
    if (axis == 0)
        for (uint32_t i = 0; i < n; i++)
            if (in[i].dtype != STRAND_NONE && in[i].rank >= 3) rules[i] = (op_axis_rule){0, 0, 0};
    if (axis == 2) rules[values] = (op_axis_rule){2, 0, 0};
    return axis != 1;
}

static double state_work(const op_shape *out, double per_value) {
    return per_value * elements(out);
}

/* ---- SSD ---- */

static strand_status ssd_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_ssd *p = params;
    int64_t width, states, more;
    if (p->heads < 1 || p->groups < 1 || p->heads % p->groups) return bad(e, "groups must divide the heads");
    if (in[0].rank != 3 || !tokens(&in[0], &in[0], p->heads, &width))
        return bad(e, "x must be F32, [batch, length, heads width]");
    if (!per_channel(&in[1], &in[0], p->heads)) return bad(e, "a must be F32, [heads] or [batch, length, heads]");
    if (!tokens(&in[2], &in[0], p->groups, &states) || !tokens(&in[3], &in[0], p->groups, &more) || states != more)
        return bad(e, "B and C must be F32, [batch, length, groups states]");
    op_dim h = {OP_DIM_FIXED, p->heads};
    bool dt = present(in, n, 4);
    if (dt && (in[4].rank != 3 || !per_channel(&in[4], &in[0], p->heads)))
        return bad(e, "dt must be F32, [batch, length, heads]");
    if (!vector_or_absent(in, n, 5, h) || !vector_or_absent(in, n, 6, h))
        return bad(e, "D and the bias of dt must be F32, [heads]");
    if (present(in, n, 6) && !dt) return bad(e, "a bias of dt belongs to dt");
    if (dt && !(p->dt_min <= p->dt_max)) return bad(e, "the limits of dt are not in order");
    if (!matrix_state(in, n, 7, in[0].dims[0], p->heads, width, states, &out[1]))
        return bad(e, "the state must be F32, [batch, heads, width, states]");
    out[0] = in[0];
    return STRAND_OK;
}

static bool ssd_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)out, (void)params;
    return cut(in, n, 0, axis, rules);
}

static double ssd_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_ssd *p = params;
    return state_work(out, 5 * (double)(in[2].dims[2].size / p->groups));
}

/* ---- gated linear attention ---- */

static strand_status gla_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_gated_linear_attention *p = params;
    int64_t keys, more, values;
    if (p->heads < 1) return bad(e, "heads must be at least 1");
    if (in[0].rank != 3 || !tokens(&in[0], &in[0], p->heads, &keys) || !tokens(&in[1], &in[0], p->heads, &more) || keys != more)
        return bad(e, "q and k must be F32, [batch, length, heads keys]");
    if (!tokens(&in[2], &in[0], p->heads, &values)) return bad(e, "v must be F32, [batch, length, heads values]");
    if (!per_channel(&in[3], &in[0], in[0].dims[2].size))
        return bad(e, "w must be F32, [heads keys] or [batch, length, heads keys]");
    if (!vector_or_absent(in, n, 4, in[0].dims[2])) return bad(e, "u must be F32, [heads keys]");
    if (!matrix_state(in, n, 5, in[0].dims[0], p->heads, keys, values, &out[1]))
        return bad(e, "the state must be F32, [batch, heads, keys, values]");
    out[0] = in[2];
    return STRAND_OK;
}

static bool gla_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)out, (void)params;
    return cut(in, n, 2, axis, rules);
}

static double gla_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_gated_linear_attention *p = params;
    return state_work(out, 5 * (double)(in[0].dims[2].size / p->heads));
}

/* ---- delta rule ---- */

static strand_status delta_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_delta_rule *p = params;
    int64_t keys, more, values;
    static const int like_r[] = {1, 2, 4, 5};
    if (p->heads < 1) return bad(e, "heads must be at least 1");
    if (in[0].rank != 3 || !tokens(&in[0], &in[0], p->heads, &keys))
        return bad(e, "r must be F32, [batch, length, heads keys]");
    for (int i = 0; i < 4; i++)
        if (!tokens(&in[like_r[i]], &in[0], p->heads, &more) || more != keys)
            return bad(e, "w, k, a and b must have r's shape");
    if (!tokens(&in[3], &in[0], p->heads, &values)) return bad(e, "v must be F32, [batch, length, heads values]");
    if (!matrix_state(in, n, 6, in[0].dims[0], p->heads, values, keys, &out[1]))
        return bad(e, "the state must be F32, [batch, heads, values, keys]");
    out[0] = in[3];
    return STRAND_OK;
}

static bool delta_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)out, (void)params;
    return cut(in, n, 3, axis, rules);
}

static double delta_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_delta_rule *p = params;
    return state_work(out, 9 * (double)(in[0].dims[2].size / p->heads));
}

/* ---- linear attention ---- */

#define MOST_KEYS 4096 /* of TAYLOR2, whose features are about the square of it */

static int64_t features(const strand_op_linear_attention *p, int64_t d) {
    return p->feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * d : d;
}

static strand_status linear_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_linear_attention *p = params;
    int64_t keys, more, values;
    if (p->heads < 1) return bad(e, "heads must be at least 1");
    if (p->feature > STRAND_FEATURE_TAYLOR2) return bad(e, "unknown feature map");
    if (in[0].rank != 3 || !tokens(&in[0], &in[0], p->heads, &keys) || !tokens(&in[1], &in[0], p->heads, &more) || keys != more)
        return bad(e, "q and k must be F32, [batch, length, heads keys]");
    if (p->feature == STRAND_FEATURE_TAYLOR2 && keys > MOST_KEYS) return bad(e, "too many keys for the Taylor features");
    if (!tokens(&in[2], &in[0], p->heads, &values)) return bad(e, "v must be F32, [batch, length, heads values]");
    if (values == INT64_MAX) return bad(e, "too many values");
    if (!matrix_state(in, n, 3, in[0].dims[0], p->heads, features(p, keys), values + 1, &out[1]))
        return bad(e, "the state must be F32, [batch, heads, features, values + 1]");
    out[0] = in[2];
    return STRAND_OK;
}

static bool linear_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)out, (void)params;
    return cut(in, n, 2, axis, rules);
}

static double linear_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_linear_attention *p = params;
    return state_work(out, 4 * (double)features(p, in[0].dims[2].size / p->heads));
}

/* ---- WKV4 and the token shift ---- */

static strand_status wkv4_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    if (in[0].dtype != STRAND_F32 || in[0].rank != 3 || in[1].dtype != STRAND_F32 || !same_dims(&in[0], &in[1]))
        return bad(e, "k and v must be F32, [batch, length, channels]");
    op_dim c = in[0].dims[2];
    if (!vector_or_absent(in, n, 2, c) || !vector_or_absent(in, n, 3, c)) return bad(e, "w and u must be F32, [channels]");
    out[0] = in[0];
    out[1] = (op_shape){STRAND_F32, 3, {in[0].dims[0], {OP_DIM_FIXED, 3}, c}};
    if (present(in, n, 4) && (in[4].dtype != STRAND_F32 || !same_dims(&in[4], &out[1])))
        return bad(e, "the state must be F32, [batch, 3, channels]");
    return STRAND_OK;
}

static bool wkv4_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    if (axis == 1) return false;
    for (uint32_t i = 0; i < n; i++) rules[i] = i == 2 || i == 3 ? OP_WHOLE : (op_axis_rule){axis, 0, 0};
    if (axis == 2) rules[2] = rules[3] = (op_axis_rule){0, 0, 0};
    return true;
}

static double wkv4_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in, (void)params;
    return 60 * elements(out);
}

static strand_status shift_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_token_shift *p = params;
    if (in[0].dtype != STRAND_F32 || in[0].rank != 3) return bad(e, "x must be F32, [batch, length, channels]");
    if (p->form > STRAND_SHIFT_LERP_PREV) return bad(e, "unknown form");
    if (!vector_or_absent(in, n, 1, in[0].dims[2])) return bad(e, "mix must be F32, [channels]");
    out[0] = in[0];
    out[1] = (op_shape){STRAND_F32, 2, {in[0].dims[0], in[0].dims[2]}};
    if (present(in, n, 2) && (in[2].dtype != STRAND_F32 || !same_dims(&in[2], &out[1])))
        return bad(e, "the state must be F32, [batch, channels]");
    return STRAND_OK;
}

static bool shift_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, axis == 1 ? 1 : 0, 0};
    if (n > 1 && axis == 2) rules[1] = (op_axis_rule){0, 0, 0};
    if (n > 2 && axis != 1) rules[2] = (op_axis_rule){axis == 0 ? 0 : 1, 0, 0};
    return true;
}

const op_row op_rows_matrix_state[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work, outputs, second in
     * place */
    {STRAND_OP_SSD, 1, "ssd", 4, 8, PARAMS(strand_op_ssd), 1, 0, 4e-6f, ssd_shape, ssd_axis, ssd_work, 2, 1u << 7},
    {STRAND_OP_GATED_LINEAR_ATTENTION, 1, "gated_linear_attention", 4, 6, PARAMS(strand_op_gated_linear_attention), 1u << 2, 0,
     4e-6f, gla_shape, gla_axis, gla_work, 2, 1u << 5},
    {STRAND_OP_DELTA_RULE, 1, "delta_rule", 6, 7, PARAMS(strand_op_delta_rule), 1u << 3, 0, 4e-6f, delta_shape, delta_axis,
     delta_work, 2, 1u << 6},
    {STRAND_OP_LINEAR_ATTENTION, 1, "linear_attention", 3, 4, PARAMS(strand_op_linear_attention), 1u << 2, 0, 4e-6f,
     linear_shape, linear_axis, linear_work, 2, 1u << 3},
    {STRAND_OP_WKV4, 1, "wkv4", 4, 5, 0, 3, 0, 4e-6f, wkv4_shape, wkv4_axis, wkv4_work, 2, 1u << 4},
    {STRAND_OP_TOKEN_SHIFT, 1, "token_shift", 1, 3, PARAMS(strand_op_token_shift), 0, 0, 1e-6f, shift_shape, shift_axis,
     light_work, 2, 1u << 2},
};
const uint32_t op_n_matrix_state = N_OF(op_rows_matrix_state);

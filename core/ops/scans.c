/* scans.c - rows of the diagonal and companion state-space family: from continuous systems to poles, from poles to filters, and
 * the recurrences that run over a sequence with a state handed on.
 *
 * A recurrence can be cut along the batch and along the channels, never along the length: what comes later needs all that came
 * before. Generators are cut along the channels; the diagonal one along the taps too, because any tap is reached from the
 * poles. */
#include "rules.h"

#define DIM_OF(n) ((op_dim){OP_DIM_FIXED, n})

/* Is the shape F32 with these extents? */
static bool is(const op_shape *s, int rank, op_dim a, op_dim b, op_dim c) {
    const op_dim want[3] = {a, b, c};
    if (s->dtype != STRAND_F32 || s->rank != rank) return false;
    for (int i = 0; i < rank && i < 3; i++)
        if (!op_dim_equal(s->dims[i], want[i])) return false;
    return true;
}

/* The same where the input is there at all. */
static bool is_or_absent(const op_shape *in, uint32_t n, uint32_t i, int rank, op_dim a, op_dim b, op_dim c) {
    return !present(in, n, i) || is(&in[i], rank, a, b, c);
}

/* [C or 1, N, 2] */
static bool pairs(const op_shape *s, op_dim c, op_dim n) {
    return is(s, 3, c, n, DIM_OF(2)) || is(s, 3, DIM_OF(1), n, DIM_OF(2));
}

static bool pairs_or_absent(const op_shape *in, uint32_t n, uint32_t i, op_dim c, op_dim states) {
    return !present(in, n, i) || pairs(&in[i], c, states);
}

static bool is_empty(op_dim d) {
    return d.kind == OP_DIM_FIXED && d.size < 1;
}

/* Does the tap axis that the hint gives to a filter make sense? */
static bool filter_hint(const op_shape *out) {
    return out->dtype == STRAND_F32 && out->rank == 2 && !is_empty(out->dims[1]);
}

/* Input i follows the output's axis along its own, where it has that axis whole. */
static void follow(const op_shape *in, uint32_t n, uint32_t i, int axis, op_dim extent, op_axis_rule *rules) {
    if (present(in, n, i) && op_dim_equal(in[i].dims[axis], extent)) rules[i] = (op_axis_rule){axis, 0, 0};
}

/* ---- discretisation and generators ---- */

static strand_status discretize_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_ssm_discretize *p = params;
    if (in[1].dtype != STRAND_F32 || in[1].rank != 1) return bad(e, "dt must be F32, [channels]");
    if (in[0].rank != 3) return bad(e, "A must be F32, [channels or 1, states, 2]");
    op_dim c = in[1].dims[0], states = in[0].dims[1];
    if (!pairs(&in[0], c, states)) return bad(e, "A must be F32, [channels or 1, states, 2]");
    if (!pairs_or_absent(in, n, 2, c, states) || !pairs_or_absent(in, n, 3, c, states))
        return bad(e, "B and C must be F32, [channels or 1, states, 2]");
    if (p->method > STRAND_SSM_PLAIN) return bad(e, "unknown method");
    out[0] = (op_shape){STRAND_F32, 3, {c, states, DIM_OF(2)}};
    out[1] = out[0];
    return STRAND_OK;
}

static bool discretize_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                            op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    if (axis == 0) rules[1] = (op_axis_rule){0, 0, 0};
    for (uint32_t i = 0; i < n; i++)
        if (i != 1) follow(in, n, i, axis, out->dims[axis], rules);
    return axis < 2;
}

static double discretize_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in, (void)params;
    return 200 * elements(out);
}

static strand_status diagonal_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_ssm_kernel_diagonal *p = params;
    (void)n;
    if (in[1].dtype != STRAND_F32 || in[1].rank != 3 || !op_dim_equal(in[1].dims[2], DIM_OF(2)))
        return bad(e, "the coefficients must be F32, [channels, states, 2]");
    if (!pairs(&in[0], in[1].dims[0], in[1].dims[1])) return bad(e, "the poles must be F32, [channels or 1, states, 2]");
    if (!(p->eps >= 0)) return bad(e, "eps must not be negative");
    if (!filter_hint(out)) return bad(e, "the filter is F32, [channels, taps], with one tap at least");
    out->dims[0] = in[1].dims[0];
    return STRAND_OK;
}

static bool diagonal_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                          op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    if (axis == 0)
        for (uint32_t i = 0; i < 2; i++) follow(in, n, i, 0, out->dims[0], rules);
    return true;
}

static double diagonal_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 4 * (double)in[1].dims[1].size * elements(out);
}

static strand_status nplr_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_ssm_kernel_nplr *p = params;
    (void)n;
    if (in[4].dtype != STRAND_F32 || in[4].rank != 1) return bad(e, "dt must be F32, [channels]");
    if (in[3].rank != 3) return bad(e, "C must be F32, [channels, states, 2]");
    op_dim c = in[4].dims[0], states = in[3].dims[1];
    if (!is(&in[3], 3, c, states, DIM_OF(2))) return bad(e, "C must be F32, [channels, states, 2]");
    for (uint32_t i = 0; i < 3; i++)
        if (!pairs(&in[i], c, states)) return bad(e, "A, P and B must be F32, [channels or 1, states, 2]");
    if (p->length < 1 || p->length > (int64_t)1 << 24) return bad(e, "the length must be 1 to 2^24");
    if (!filter_hint(out)) return bad(e, "the filter is F32, [channels, taps], with one tap at least");
    if (out->dims[1].kind == OP_DIM_FIXED && out->dims[1].size > p->length)
        return bad(e, "the filter has more taps than its length");
    out->dims[0] = c;
    return STRAND_OK;
}

static bool nplr_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < n; i++) follow(in, n, i, 0, out->dims[0], rules);
    return axis == 0;
}

static double nplr_work(const op_shape *in, const op_shape *out, const void *params) {
    const strand_op_ssm_kernel_nplr *p = params;
    return (20 * (double)in[3].dims[1].size + 60) * (double)p->length * (double)out->dims[0].size;
}

static strand_status discretize_nplr_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_ssm_discretize_nplr *p = params;
    (void)n;
    if (in[4].dtype != STRAND_F32 || in[4].rank != 1) return bad(e, "dt must be F32, [channels]");
    if (in[3].rank != 3) return bad(e, "C must be F32, [channels, states, 2]");
    op_dim c = in[4].dims[0], states = in[3].dims[1];
    if (!is(&in[3], 3, c, states, DIM_OF(2))) return bad(e, "C must be F32, [channels, states, 2]");
    for (uint32_t i = 0; i < 3; i++)
        if (!pairs(&in[i], c, states)) return bad(e, "A, P and B must be F32, [channels or 1, states, 2]");
    if (p->length < 0 || p->length > (int64_t)1 << 24) return bad(e, "the length must be 0 to 2^24");
    out[0] = (op_shape){STRAND_F32, 4, {DIM_OF(5), c, states, DIM_OF(2)}};
    return STRAND_OK;
}

static bool nothing_cut(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    (void)in, (void)out, (void)params, (void)axis;
    all_whole(rules, n);
    return false;
}

static double discretize_nplr_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)out, (void)params;
    double n = 2 * (double)in[3].dims[1].size;
    return 40 * n * n * n * (double)in[4].dims[0].size;
}

static strand_status kernel_companion_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)n, (void)params;
    if (in[0].dtype != STRAND_F32 || in[0].rank != 2 || is_empty(in[0].dims[1])) return bad(e, "a must be F32, [kernels, d]");
    for (uint32_t i = 1; i < 3; i++)
        if (in[i].dtype != STRAND_F32 || !same_dims(&in[i], &in[0])) return bad(e, "b and c must have the shape of a");
    if (!filter_hint(out)) return bad(e, "the filter is F32, [kernels, taps], with one tap at least");
    out->dims[0] = in[0].dims[0];
    return STRAND_OK;
}

static bool first_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)in, (void)out, (void)params;
    for (uint32_t i = 0; i < n; i++) rules[i] = (op_axis_rule){0, 0, 0};
    return axis == 0;
}

static double kernel_companion_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 4 * (double)in[0].dims[1].size * elements(out);
}

/* ---- recurrences ---- */

/* Kernels divide the channels; both extents are fixed. */
static bool kernels_divide(op_dim c, op_dim k) {
    if (op_dim_equal(c, k)) return true;
    return c.kind == OP_DIM_FIXED && k.kind == OP_DIM_FIXED && k.size > 0 && c.size % k.size == 0;
}

static strand_status lti_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    const op_shape *u = &in[0], *poles = &in[1];
    if (u->dtype != STRAND_F32 || u->rank != 3) return bad(e, "u must be F32, [batch, length, channels]");
    int rank = poles->rank;
    op_dim b = u->dims[0], c = u->dims[2], states = poles->dims[1], two = DIM_OF(2);
    if ((rank != 2 && rank != 3) || !(is(poles, rank, c, states, two) || is(poles, rank, DIM_OF(1), states, two)))
        return bad(e, "the poles must be F32, [channels or 1, states] or [channels or 1, states, 2]");
    for (uint32_t i = 2; i < 4; i++)
        if (!is_or_absent(in, n, i, rank, c, states, two))
            return bad(e, "in and out must be F32, [channels, states], real or complex as the poles are");
    if (!vector_or_absent(in, n, 4, c)) return bad(e, "the skip must be F32, [channels]");
    out[0] = *u;
    out[1] = (op_shape){STRAND_F32, rank + 1, {b, c, states, two}};
    if (present(in, n, 5) && (in[5].dtype != STRAND_F32 || !same_dims(&in[5], &out[1])))
        return bad(e, "the state must be F32, [batch, channels, states], real or complex as the poles are");
    return STRAND_OK;
}

static bool lti_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == 2) {
        for (uint32_t i = 1; i < n && i < 5; i++) follow(in, n, i, 0, out->dims[2], rules);
        if (present(in, n, 5)) rules[5] = (op_axis_rule){1, 0, 0};
    } else if (present(in, n, 5)) {
        rules[5] = (op_axis_rule){0, 0, 0};
    }
    return axis != 1;
}

static double lti_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return (in[1].rank == 3 ? 16 : 6) * (double)in[1].dims[1].size * elements(out);
}

static strand_status dplr_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    const op_shape *u = &in[0], *poles = &in[1];
    if (u->dtype != STRAND_F32 || u->rank != 3) return bad(e, "u must be F32, [batch, length, channels]");
    if (poles->rank != 3) return bad(e, "the poles must be F32, [channels or 1, states, 2]");
    op_dim b = u->dims[0], c = u->dims[2], states = poles->dims[1], two = DIM_OF(2);
    for (uint32_t i = 1; i < 4; i++)
        if (!pairs(&in[i], c, states)) return bad(e, "the poles, p and q must be F32, [channels or 1, states, 2]");
    for (uint32_t i = 4; i < 6; i++)
        if (!is(&in[i], 3, c, states, two)) return bad(e, "in and out must be F32, [channels, states, 2]");
    if (!vector_or_absent(in, n, 6, c)) return bad(e, "the skip must be F32, [channels]");
    out[0] = *u;
    out[1] = (op_shape){STRAND_F32, 4, {b, c, states, two}};
    if (present(in, n, 7) && (in[7].dtype != STRAND_F32 || !same_dims(&in[7], &out[1])))
        return bad(e, "the state must be F32, [batch, channels, states, 2]");
    return STRAND_OK;
}

static bool dplr_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == 2)
        for (uint32_t i = 1; i < n && i < 7; i++) follow(in, n, i, 0, out->dims[2], rules);
    if (present(in, n, 7)) rules[7] = (op_axis_rule){axis / 2, 0, 0};
    return axis != 1;
}

static double dplr_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 24 * (double)in[1].dims[1].size * elements(out);
}

static strand_status dense_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    bool b = present(in, n, 1), u = present(in, n, 2), state = present(in, n, 3);
    if (in[0].dtype != STRAND_F32 || in[0].rank != 3 || !op_dim_equal(in[0].dims[1], in[0].dims[2]) ||
        in[0].dims[2].kind != OP_DIM_FIXED || in[0].dims[2].size < 1)
        return bad(e, "A must be F32, [kernels, d, d]");
    op_dim kernels = in[0].dims[0], d = in[0].dims[1];
    if (b != u || (!u && !state)) return bad(e, "either B and u are there, or neither, and then a state");
    if (b && !is(&in[1], 2, kernels, d, d)) return bad(e, "B must be F32, [kernels, d]");
    if (u && (in[2].dtype != STRAND_F32 || in[2].rank != 3)) return bad(e, "u must be F32, [batch, length, channels]");
    if (state && in[3].rank != 3) return bad(e, "the state must be F32, [batch, channels, d]");
    op_dim batch = u ? in[2].dims[0] : in[3].dims[0], c = u ? in[2].dims[2] : in[3].dims[1];
    if (!is_or_absent(in, n, 3, 3, batch, c, d)) return bad(e, "the state must be F32, [batch, channels, d]");
    if (c.kind != OP_DIM_FIXED || !kernels_divide(c, kernels))
        return bad(e, "the channels must be fixed, and a whole number of times the kernels");
    if (!u && (out->dtype != STRAND_F32 || out->rank != 3))
        return bad(e, "without u the result is F32, [batch, length, channels * d]");
    int64_t wide;
    if (__builtin_mul_overflow(c.size, d.size, &wide)) return bad(e, "too many channels and states");
    out[0] = (op_shape){STRAND_F32, 3, {batch, u ? in[2].dims[1] : out->dims[1], DIM_OF(wide)}};
    out[1] = (op_shape){STRAND_F32, 3, {batch, c, d}};
    return STRAND_OK;
}

static bool dense_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    (void)out, (void)params;
    all_whole(rules, n);
    for (uint32_t i = 2; i < 4; i++)
        if (present(in, n, i)) rules[i] = (op_axis_rule){0, 0, 0};
    return axis == 0;
}

static double dense_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * (double)in[0].dims[1].size * elements(out);
}

static strand_status recurrence_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_linear_recurrence *p = params;
    const op_shape *x = &in[0], *a = &in[1];
    int rank = p->complex_pairs ? 4 : 3;
    if (x->dtype != STRAND_F32 || x->rank != rank || (rank == 4 && !op_dim_equal(x->dims[3], DIM_OF(2))))
        return bad(e, "x must be F32, [batch, length, channels], or [batch, length, channels, 2] of pairs");
    if (p->form > STRAND_RECURRENCE_RGLRU) return bad(e, "unknown form");
    if (p->form == STRAND_RECURRENCE_RGLRU && p->complex_pairs) return bad(e, "the gated form is real");
    op_dim d = x->dims[2], two = DIM_OF(2);
    if (!is(a, rank - 2, d, two, two) && (a->dtype != STRAND_F32 || !same_dims(a, x)))
        return bad(e, "a must be F32, [channels] or of the shape of x");
    out[0] = *x;
    out[1] = (op_shape){STRAND_F32, rank - 1, {x->dims[0], d, two}};
    if (present(in, n, 2) && (in[2].dtype != STRAND_F32 || !same_dims(&in[2], &out[1])))
        return bad(e, "the state must be F32, [batch, channels]");
    return STRAND_OK;
}

static bool recurrence_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                            op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    if (axis != 0 && axis != 2) return false;
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (in[1].rank == out->rank)
        rules[1] = rules[0];
    else if (axis == 2)
        rules[1] = (op_axis_rule){0, 0, 0};
    if (present(in, n, 2)) rules[2] = (op_axis_rule){axis / 2, 0, 0};
    return true;
}

static strand_status companion_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_companion_scan *p = params;
    bool u = present(in, n, 3), k = present(in, n, 4), skip = present(in, n, 5), state = present(in, n, 6);
    if (in[0].dtype != STRAND_F32 || in[0].rank != 2 || is_empty(in[0].dims[1])) return bad(e, "a must be F32, [kernels, d]");
    for (uint32_t i = 1; i < 5; i++)
        if (i != 3 && present(in, n, i) && (in[i].dtype != STRAND_F32 || !same_dims(&in[i], &in[0])))
            return bad(e, "b, c and k must have the shape of a");
    if (p->closed ? u || skip || !k || !state : !u || k)
        return bad(e, "an open loop takes u and may take skip and a state; a closed one takes k and a state");
    if (!p->closed && (in[3].dtype != STRAND_F32 || in[3].rank != 3)) return bad(e, "u must be F32, [batch, length, channels]");
    if (state && (in[6].dtype != STRAND_F32 || in[6].rank != 3)) return bad(e, "the state must be F32, [batch, channels, d]");
    op_dim b = p->closed ? in[6].dims[0] : in[3].dims[0], c = p->closed ? in[6].dims[1] : in[3].dims[2];
    if (!is_or_absent(in, n, 6, 3, b, c, in[0].dims[1])) return bad(e, "the state must be F32, [batch, channels, d]");
    if (!vector_or_absent(in, n, 5, c)) return bad(e, "the skip must be F32, [channels]");
    if (!kernels_divide(c, in[0].dims[0])) return bad(e, "the channels must be a whole number of times the kernels");
    if (p->closed && (out->dtype != STRAND_F32 || out->rank != 3))
        return bad(e, "a closed loop makes F32 [batch, length, channels]");
    op_dim length = p->closed ? out->dims[1] : in[3].dims[1];
    out[0] = (op_shape){STRAND_F32, 3, {b, length, c}};
    out[1] = (op_shape){STRAND_F32, 3, {b, c, in[0].dims[1]}};
    return STRAND_OK;
}

static bool companion_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    if (present(in, n, 3)) rules[3] = (op_axis_rule){axis, 0, 0};
    if (axis == 2) {
        /* With a kernel a channel the kernels are cut as well; shared ones are needed whole. */
        for (uint32_t i = 0; i < n; i++)
            if (i < 3 || i == 4) follow(in, n, i, 0, out->dims[2], rules);
        if (present(in, n, 5)) rules[5] = (op_axis_rule){0, 0, 0};
        if (present(in, n, 6)) rules[6] = (op_axis_rule){1, 0, 0};
    } else if (present(in, n, 6)) {
        rules[6] = (op_axis_rule){0, 0, 0};
    }
    return axis != 1;
}

static double companion_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 8 * (double)in[0].dims[1].size * elements(out);
}

static strand_status selective_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)params;
    const op_shape *u = &in[0];
    if (u->dtype != STRAND_F32 || u->rank != 3) return bad(e, "u must be F32, [batch, length, channels]");
    op_dim b = u->dims[0], l = u->dims[1], d = u->dims[2];
    if (in[2].rank != 2) return bad(e, "A must be F32, [channels, states]");
    op_dim states = in[2].dims[1];
    if (!is(&in[2], 2, d, states, d)) return bad(e, "A must be F32, [channels, states]");
    if (!is(&in[1], 3, b, l, d) || !is_or_absent(in, n, 6, 3, b, l, d))
        return bad(e, "dt and z must be F32 and have u's shape");
    if (!is(&in[3], 3, b, l, states) || !is(&in[4], 3, b, l, states))
        return bad(e, "B and C must be F32, [batch, length, states]");
    if (!vector_or_absent(in, n, 5, d) || !vector_or_absent(in, n, 7, d))
        return bad(e, "D and the bias of dt must be F32, [channels]");
    if (!is_or_absent(in, n, 8, 3, b, d, states)) return bad(e, "the state must be F32, [batch, channels, states]");
    out[0] = *u;
    out[1] = (op_shape){STRAND_F32, 3, {b, d, states}};
    return STRAND_OK;
}

static bool selective_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    static const int channel_axis[9] = {2, 2, 0, -1, -1, 0, 2, 0, 1}, batch_axis[9] = {0, 0, -1, 0, 0, -1, 0, -1, 0};
    (void)out, (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < n; i++) {
        int own = axis == 2 ? channel_axis[i] : batch_axis[i];
        if (present(in, n, i) && own >= 0) rules[i] = (op_axis_rule){own, 0, 0};
    }
    return axis != 1;
}

static double selective_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return (20 * (double)in[2].dims[1].size + 30) * elements(out);
}

const op_row op_rows_scans[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work, outputs, second in
     * place */
    {STRAND_OP_SSM_DISCRETIZE, 1, "ssm_discretize", 2, 4, PARAMS(strand_op_ssm_discretize), 0, 0, 1e-6f, discretize_shape,
     discretize_axis, discretize_work, 2, 0},
    {STRAND_OP_SSM_KERNEL_DIAGONAL, 1, "ssm_kernel_diagonal", 2, 2, PARAMS(strand_op_ssm_kernel_diagonal), 0, 0, 4e-6f,
     diagonal_shape, diagonal_axis, diagonal_work, 0, 0},
    {STRAND_OP_SSM_KERNEL_NPLR, 1, "ssm_kernel_nplr", 5, 5, PARAMS(strand_op_ssm_kernel_nplr), 0, 0, 2e-6f, nplr_shape,
     nplr_axis, nplr_work, 0, 0},
    {STRAND_OP_SSM_KERNEL_COMPANION, 1, "ssm_kernel_companion", 3, 3, 0, 0, 0, 1e-5f, kernel_companion_shape, first_axis,
     kernel_companion_work, 0, 0},
    {STRAND_OP_LTI_SCAN, 1, "lti_scan", 2, 6, PARAMS(strand_op_lti_scan), 1, 0, 1e-5f, lti_shape, lti_axis, lti_work, 2, 32},
    {STRAND_OP_LINEAR_RECURRENCE, 1, "linear_recurrence", 2, 3, PARAMS(strand_op_linear_recurrence), 1, 0, 1e-5f,
     recurrence_shape, recurrence_axis, light_work, 2, 4},
    {STRAND_OP_COMPANION_SCAN, 1, "companion_scan", 3, 7, PARAMS(strand_op_companion_scan), 8, 0, 2e-5f, companion_shape,
     companion_axis, companion_work, 2, 64},
    {STRAND_OP_SELECTIVE_SCAN, 1, "selective_scan", 5, 9, PARAMS(strand_op_selective_scan), 1 | 2 | 64, 0, 1e-5f,
     selective_shape, selective_axis, selective_work, 2, 256},
    {STRAND_OP_DPLR_SCAN, 1, "dplr_scan", 6, 8, PARAMS(strand_op_dplr_scan), 1, 0, 1e-5f, dplr_shape, dplr_axis, dplr_work, 2,
     128},
    {STRAND_OP_SSM_DISCRETIZE_NPLR, 1, "ssm_discretize_nplr", 5, 5, PARAMS(strand_op_ssm_discretize_nplr), 0, 0, 1e-5f,
     discretize_nplr_shape, nothing_cut, discretize_nplr_work, 0, 0},
    {STRAND_OP_DENSE_SCAN, 1, "dense_scan", 1, 4, 0, 0, 0, 1e-5f, dense_shape, dense_axis, dense_work, 2, 8},
};
const uint32_t op_n_scans = N_OF(op_rows_scans);

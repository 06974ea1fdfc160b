/* convolutions.c - rows of convolutions, and of what their filters are made from. */
#include "rules.h"

/* ---- convolutions ---- */

/* An activation that takes no parameters. */
static bool plain_function(uint32_t kind) {
    return kind <= STRAND_UNARY_LAST && kind != STRAND_UNARY_LEAKY_RELU && kind != STRAND_UNARY_AFFINE &&
           kind != STRAND_UNARY_CLAMP && kind != STRAND_UNARY_ELU && kind != STRAND_UNARY_SOFTCAP;
}

static bool token_major(const void *params) {
    return params && ((const strand_op_short_conv *)params)->flags & STRAND_SHORT_CONV_TOKEN_MAJOR;
}

static strand_status short_conv_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_short_conv *p = params;
    const op_shape *x = &in[0], *w = &in[1], *state = &in[3];
    bool tokens = token_major(params);
    if (p->flags & ~STRAND_SHORT_CONV_TOKEN_MAJOR) return bad(e, "unknown flags");
    if (!plain_function(p->activation)) return bad(e, "unknown activation, or one with parameters");
    if (x->dtype != STRAND_F32 || x->rank < 2)
        return bad(e, tokens ? "x must be F32, [..., length, channels]" : "x must be F32, [..., channels, length]");
    int time = x->rank - (tokens ? 2 : 1);
    op_dim c = x->dims[x->rank - (tokens ? 1 : 2)];
    if (w->dtype != STRAND_F32 || w->rank != 2 || !op_dim_equal(w->dims[0], c) || w->dims[1].kind != OP_DIM_FIXED ||
        w->dims[1].size < 1)
        return bad(e, "the weight must be F32, [channels, taps]");
    if (!vector_or_absent(in, n, 2, c)) return bad(e, "the bias must be F32, [channels]");
    out[0] = out[1] = *x;
    out[1].dims[time] = (op_dim){OP_DIM_FIXED, w->dims[1].size - 1};
    if (present(in, n, 3) && (state->dtype != STRAND_F32 || !same_dims(state, &out[1])))
        return bad(e, "the state must be F32, of x's shape with taps - 1 inputs");
    return STRAND_OK;
}

static bool short_conv_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                            op_axis_rule *rules) {
    bool tokens = token_major(params);
    int time = out->rank - (tokens ? 2 : 1), channel = out->rank - (tokens ? 1 : 2);
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    if (axis == time) rules[0].left = in[1].dims[1].size - 1;
    if (axis == channel)
        for (uint32_t i = 1; i < n && i < 3; i++) rules[i] = (op_axis_rule){0, 0, 0};
    if (axis != time && n > 3) rules[3] = (op_axis_rule){axis, 0, 0};
    return true;
}

static bool filter_of(const op_shape *k, op_dim channels) {
    return k->dtype == STRAND_F32 && k->rank == 2 && op_dim_equal(k->dims[0], channels) &&
           (k->dims[1].kind != OP_DIM_FIXED || k->dims[1].size > 0);
}

static strand_status long_conv_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_long_conv *p = params;
    const op_shape *u = &in[0], *k = &in[1];
    if (u->dtype != STRAND_F32 || u->rank < 2) return bad(e, "u must be F32, [..., channels, length]");
    if (p->flags & ~STRAND_LONG_CONV_FLAGS) return bad(e, "unknown flags");
    op_dim c = u->dims[u->rank - 2];
    if (!filter_of(k, c)) return bad(e, "the filter must be F32, [channels, taps]");
    if (present(in, n, 5) && !filter_of(&in[5], c)) return bad(e, "the backward filter must be F32, [channels, taps]");
    if (p->flags & STRAND_LONG_CONV_BACK_FROM_ZERO && !present(in, n, 5))
        return bad(e, "there is no backward filter to begin at zero");
    if (!vector_or_absent(in, n, 2, c)) return bad(e, "the skip must be F32, [channels]");
    for (uint32_t i = 3; i < 5; i++)
        if (present(in, n, i) && (in[i].dtype != STRAND_F32 || !same_dims(&in[i], u)))
            return bad(e, "gates must have u's shape");
    *out = *u;
    return STRAND_OK;
}

/* Has input i u's shape: u itself, the gates? The others are one row, or one value, a channel. */
static bool long_conv_sequence(uint32_t i) {
    return i == 0 || i == 3 || i == 4;
}

static bool long_conv_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)params;
    all_whole(rules, n);
    for (uint32_t i = 0; i < n; i++)
        if (long_conv_sequence(i)) rules[i] = (op_axis_rule){axis, 0, 0};
    if (axis == out->rank - 2)
        for (uint32_t i = 1; i < n; i++)
            if (!long_conv_sequence(i)) rules[i] = (op_axis_rule){0, 0, 0};
    /* Along the length every output needs all that came before it (and with a backward filter all that follows): not a tile of
     * bounded width. */
    if (axis == out->rank - 1) rules[0].left = OP_UNBOUNDED;
    if (axis == out->rank - 1 && present(in, n, 5)) rules[0].right = OP_UNBOUNDED;
    return axis != out->rank - 1;
}

static double long_conv_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in;
    (void)params;
    double log2n = 1;
    for (int64_t l = out->dims[out->rank - 1].size; l > 0; l >>= 1) log2n++;
    return 15 * log2n * elements(out);
}

/* ---- transforms ---- */

#define LONGEST_FFT ((int64_t)1 << 22)

/* A real result loses the axis of pairs, a complex one gains it. */
static strand_status fft_result(const op_shape *x, bool pairs_in, int64_t size, bool pairs_out, op_shape *out, error *e) {
    int last = x->rank - (pairs_in ? 2 : 1);
    if (last + (pairs_out ? 2 : 1) > STRAND_PLUGIN_RANK)
        return bad(e, "the transform's pairs would need one more axis than there is");
    *out = *x;
    out->rank = last + (pairs_out ? 2 : 1);
    out->dims[last] = (op_dim){OP_DIM_FIXED, size};
    if (pairs_out) out->dims[last + 1] = (op_dim){OP_DIM_FIXED, 2};
    return STRAND_OK;
}

static strand_status fft_shape(const op_shape *in, uint32_t n_inputs, const void *params, op_shape *out, error *e) {
    const strand_op_fft *p = params;
    const op_shape *x = &in[0];
    (void)n_inputs;
    if (p->kind > STRAND_FFT_INVERSE || p->form > STRAND_FFT_LOG_AMPLITUDE) return bad(e, "unknown kind or form of transform");
    if (p->kind != STRAND_FFT_R2C && (p->form || p->bins)) return bad(e, "only R2C has a form and bins");
    bool pairs = p->kind != STRAND_FFT_R2C;
    if (x->dtype != STRAND_F32 || x->rank < (pairs ? 2 : 1))
        return bad(e, pairs ? "x must be F32, [..., n, 2]" : "x must be F32");
    if (pairs && (x->dims[x->rank - 1].kind != OP_DIM_FIXED || x->dims[x->rank - 1].size != 2))
        return bad(e, "x must hold pairs, [..., n, 2]");
    op_dim axis = x->dims[x->rank - (pairs ? 2 : 1)];
    if (axis.kind != OP_DIM_FIXED || axis.size < 1) return bad(e, "the transformed axis must have a fixed extent");
    int64_t n = p->n ? p->n : p->kind == STRAND_FFT_C2R ? 2 * (axis.size - 1) : axis.size;
    if (n < 1 || n > LONGEST_FFT || axis.size > LONGEST_FFT) return bad(e, "a transform has 1 to 2^22 points");
    if (p->kind == STRAND_FFT_R2C) {
        if (p->bins < 0 || p->bins > n / 2 + 1) return bad(e, "there are n/2 + 1 bins at most");
        return fft_result(x, false, p->bins ? p->bins : n / 2 + 1, p->form == STRAND_FFT_COMPLEX, out, e);
    }
    if (p->kind == STRAND_FFT_C2R) {
        if (axis.size != n / 2 + 1) return bad(e, "C2R takes n/2 + 1 bins");
        return fft_result(x, true, n, false, out, e);
    }
    if (n != axis.size) return bad(e, "a complex transform has the length of its axis");
    return fft_result(x, true, n, true, out, e);
}

/* Rows are cut from rows: the leading axes. */
static bool fft_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis, op_axis_rule *rules) {
    const strand_op_fft *p = params;
    bool pairs_out = p->kind != STRAND_FFT_C2R && p->form == STRAND_FFT_COMPLEX;
    (void)in;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return axis < out->rank - (pairs_out ? 2 : 1);
}

/* ---- convolutions of any stride ---- */

#define REACH ((int64_t)1 << 40) /* extents and taps beyond this are mistakes, and may overflow */

/* The positions between the first tap and the last, or -1 where that is too many. */
static int64_t conv1d_reach(const strand_op_conv1d *p, int64_t taps) {
    return taps < 1 || taps > REACH || p->dilation < 1 || p->dilation > REACH / taps ? -1 : (taps - 1) * p->dilation;
}

static strand_status conv1d_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    const strand_op_conv1d *p = params;
    const op_shape *x = &in[0], *w = &in[1];
    if (x->dtype != STRAND_F32 || x->rank != 3 || x->dims[1].kind != OP_DIM_FIXED)
        return bad(e, "x must be F32, [batch, channels, length]");
    if (w->dtype != STRAND_F32 || w->rank != 3 || w->dims[0].kind != OP_DIM_FIXED || w->dims[1].kind != OP_DIM_FIXED ||
        w->dims[2].kind != OP_DIM_FIXED)
        return bad(e, "the weight must be F32, [outputs, channels / groups, taps]");
    int64_t reach = conv1d_reach(p, w->dims[2].size), ins = x->dims[1].size, outs = w->dims[0].size;
    if (reach < 0)
        return bad(e, "the weight needs taps, the dilation must be at least 1, and both together reach no further than 2^40");
    if (p->stride < 1 || p->stride > REACH || p->pad_left < 0 || p->pad_left > REACH || p->pad_right < 0 ||
        p->pad_right > REACH)
        return bad(e, "the stride must be at least 1 and the padding at least 0");
    if (outs < 1 || p->groups < 1 || p->groups > ins || ins % p->groups || outs % p->groups ||
        w->dims[1].size != ins / p->groups)
        return bad(e, "groups must divide the channels of x, of which the weight has one group's, and the outputs");
    if (!vector_or_absent(in, n, 2, w->dims[0])) return bad(e, "the bias must be F32, [outputs]");
    if (!known_function(p->activation, 0, 0)) return bad(e, "unknown activation, or one with parameters");
    op_dim length = x->dims[2];
    if (length.kind == OP_DIM_FIXED) {
        if (length.size > REACH || length.size + p->pad_left + p->pad_right <= reach)
            return bad(e, "the taps reach further than x and its padding");
        length.size = (length.size + p->pad_left + p->pad_right - reach - 1) / p->stride + 1;
    } else if (p->stride != 1 || p->pad_left + p->pad_right != reach) {
        return bad(e, "over a free length the stride must be 1 and the padding dilation * (taps - 1)");
    }
    *out = (op_shape){STRAND_F32, 3, {x->dims[0], w->dims[0], length}};
    return STRAND_OK;
}

/* Along the length only where a result's interval is one of x: without stride, and where every result meets x. */
static bool conv1d_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                        op_axis_rule *rules) {
    const strand_op_conv1d *p = params;
    int64_t reach = conv1d_reach(p, in[1].dims[2].size);
    (void)out;
    all_whole(rules, n);
    if (axis == 0) rules[0] = (op_axis_rule){0, 0, 0};
    if (axis == 1) rules[1] = (op_axis_rule){0, 0, 0};
    if (axis == 1 && present(in, n, 2)) rules[2] = (op_axis_rule){0, 0, 0};
    if (axis == 2) rules[0] = (op_axis_rule){2, p->pad_left, reach - p->pad_left};
    return axis < 2 || (p->stride == 1 && p->pad_left <= reach && p->pad_right <= reach);
}

static double conv1d_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)params;
    return 2 * (double)in[1].dims[1].size * (double)in[1].dims[2].size * elements(out);
}

/* ---- generators ---- */

static strand_status positions_shape(const op_shape *in, uint32_t n, const void *params, op_shape *out, error *e) {
    (void)in;
    (void)n;
    const strand_op_positions *p = params;
    if (p->n < 2 || p->bands < 1 || p->bands > 1024)
        return bad(e, "positions need a grid of at least 2 points and 1 to 1024 bands");
    if (out->rank != 2 || out->dtype != STRAND_F32 || out->dims[1].kind != OP_DIM_FIXED ||
        out->dims[1].size != 1 + 2 * (int64_t)p->bands)
        return bad(e, "positions make F32 [taps, 1 + 2 bands]");
    return STRAND_OK;
}

static bool positions_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
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

const op_row op_rows_convolutions[] = {
    /* id, version, name, inputs min/max, params, in place, prepared, tolerance, shape, axis rule, work, outputs, second in
     * place */
    {STRAND_OP_SHORT_CONV, 1, "short_conv", 2, 4, PARAMS(strand_op_short_conv), 0, 0, 2e-6f, short_conv_shape, short_conv_axis,
     light_work, 2, 8},
    {STRAND_OP_LONG_CONV, 1, "long_conv", 2, 6, PARAMS(strand_op_long_conv), 1u << 4, 1u << 1 | 1u << 5, 2e-6f, long_conv_shape,
     long_conv_axis, long_conv_work},
    {STRAND_OP_FFT, 1, "fft", 1, 1, PARAMS(strand_op_fft), 0, 0, 2e-6f, fft_shape, fft_axis, long_conv_work},
    {STRAND_OP_POSITIONS, 1, "positions", 0, 0, PARAMS(strand_op_positions), 0, 0, 1e-6f, positions_shape, positions_axis,
     light_work},
    {STRAND_OP_DECAY_WINDOW, 1, "decay_window", 2, 2, PARAMS(strand_op_decay_window), 1, 0, 2e-6f, decay_shape, decay_axis,
     light_work},
    {STRAND_OP_CONV1D, 1, "conv1d", 2, 3, PARAMS(strand_op_conv1d), 0, 0, 5e-6f, conv1d_shape, conv1d_axis, conv1d_work, 0, 0},
};
const uint32_t op_n_convolutions = N_OF(op_rows_convolutions);

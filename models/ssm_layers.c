/* ssm_layers.c - the layers whose systems have one input and one output a channel, from the names that their published code
 * gives:
 *
 *   S4, S4D     state-spaces/s4: version 4 (layer.kernel.*, S4Block) and 3 (kernel.kernel.*), GSS's bottleneck and gate as
 *   either has them;
 *               Liquid-S4 (raminmh/liquid-s4) is a fork of version 3. Gu, Goel, Re, arXiv 2111.00396; Gu et al., arXiv
 *               2206.11893
 *   S4D minimal the same repository's s4d.py
 *   DSS         ag1988/dss, its standalone layer. Gupta, Gu, Berant, arXiv 2203.14343
 *   EMA         facebookresearch/mega, the multi-head exponential moving average. Ma et al., arXiv 2209.10655
 *   GSS         Mehta, Gupta, Cutkosky, Neyshabur, arXiv 2206.13947 */
#include "ssm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"

/* ---- S4 and S4D ---- */

/* The transform that the config names for a parameter, SSM_EXP ...; -1 after an error. */
static int transform_of(ssm *s, const char *key, const char *fallback) {
    static const char *const names[] = {"exp", "none", "relu", "sigmoid", "softplus", NULL};
    return arrange_choice(&s->b, key, ssm_config_text(s, key, fallback), names);
}

/* A parameter under it. `floor` is added to relu, as published. */
static tensor_id transformed(ssm *s, const char *key, const char *fallback, double floor, tensor_id x) {
    static const uint32_t kinds[] = {STRAND_UNARY_EXP, STRAND_UNARY_IDENTITY, STRAND_UNARY_RELU, STRAND_UNARY_SIGMOID,
                                     STRAND_UNARY_SOFTPLUS};
    int i = transform_of(s, key, fallback);
    if (i < 0 || i == SSM_NONE) return x;
    x = build_unary(&s->b, key, kinds[i], x, 0, 0);
    return i == SSM_RELU && floor > 0 ? build_unary(&s->b, key, STRAND_UNARY_AFFINE, x, 1, (float)floor) : x;
}

/* A whole number that a file holds as a tensor, or -1. */
static int64_t stored_number(ssm *s, const char *part) {
    const weights_tensor *w = build_find(&s->b, ssm_key(s, part));
    if (!w || w->bytes < strand_dtype_size(w->dtype)) return -1;
    if (w->dtype == STRAND_I64) return *(const int64_t *)w->data;
    if (w->dtype == STRAND_I32) return *(const int32_t *)w->data;
    return -1;
}

/* What the versions call the same thing. */
typedef struct s4_names {
    const char *base, *dt, *re, *im, *length, *re_key, *im_key, *skip, *disc;
    double im_sign;
} s4_names;

static const s4_names version_4 = {"layer.kernel.",  "inv_dt",         "A_real",  "A_imag", "l_kernel",
                                   "real_transform", "imag_transform", "layer.D", "zoh",    -1};
static const s4_names version_3_nplr = {"kernel.kernel.", "log_dt", "inv_w_real", "w_imag",   "L",
                                        "real_type",      "",       "D",          "bilinear", 1};
static const s4_names version_3_diagonal = {"kernel.kernel.", "log_dt", "inv_A_real", "A_imag",   "L",
                                            "real_type",      "",       "D",          "bilinear", 1};

static const char *part(ssm *s, const s4_names *n, const char *name) {
    return graph_name(s->b.g, "%s%s", n->base, name);
}

/* [trained systems, ...] for all systems: as it is when there is one, else again and again. */
static tensor_id for_all(ssm *s, tensor_id x, int64_t trained, int64_t systems) {
    if (trained == 1) return x;
    if (trained < 1 || systems % trained)
        build_refuse(&s->b, "%lld trained systems do not divide %lld", (long long)trained, (long long)systems);
    return build_failed(&s->b) ? 0 : arrange_repeat(&s->b, "systems", x, 0, systems / trained, false);
}

/* -transform(real) +- i transform(imaginary), [systems or 1, states, 2] */
static tensor_id s4_poles(ssm *s, const s4_names *n, int64_t trained, int64_t states, int64_t systems) {
    builder *b = &s->b;
    const int64_t dims[3] = {trained, states, 1};
    tensor_id re = build_f32(b, ssm_key(s, part(s, n, n->re)), 3, dims, false),
              im = build_f32(b, ssm_key(s, part(s, n, n->im)), 3, dims, false);
    re = build_unary(b, n->re, STRAND_UNARY_NEG, transformed(s, n->re_key, "exp", n == &version_3_nplr ? 0 : 1e-4, re), 0, 0);
    if (*n->im_key) im = transformed(s, n->im_key, "none", 1e-4, im);
    if (n->im_sign < 0) im = build_unary(b, n->im, STRAND_UNARY_NEG, im, 0, 0);
    return for_all(s, ssm_pair(s, "A", re, im), trained, systems);
}

static tensor_id s4_steps(ssm *s, const s4_names *n, int64_t h, int64_t systems) {
    builder *b = &s->b;
    tensor_id dt = build_flat(b, ssm_key(s, part(s, n, n->dt)), h);
    if (ssm_config_bool(s, "dt_fast", false)) build_refuse(b, "config.json: dt_fast is not supported");
    dt = transformed(s, "dt_transform", "exp", 1e-4, dt);
    return arrange_repeat(b, "dt", dt, 0, systems / h, false);
}

/* log poles and coefficients of a diagonal system */
static void s4_diagonal(ssm *s, const s4_names *n, ssm_system *k, tensor_id a, tensor_id dt, tensor_id bb, tensor_id c) {
    static const char *const names[] = {"zoh", "bilinear", "dss", NULL};
    builder *b = &s->b;
    int method = arrange_choice(b, "disc", ssm_config_text(s, "disc", n->disc), names);
    strand_op_ssm_discretize p = {.method = method == 0   ? STRAND_SSM_ZOH
                                            : method == 1 ? STRAND_SSM_BILINEAR
                                                          : STRAND_SSM_PLAIN};
    if (build_failed(b)) return;
    k->log_poles = true;
    k->poles = graph_op2(b->g, build_name(b, ssm_key(s, "discrete")), STRAND_OP_SSM_DISCRETIZE, &p, (tensor_id[]){a, dt, bb, c},
                         4, NULL, &k->coefficients);
    if (method != 2) return;
    if (s->recurrent) build_refuse(b, "disc dss divides by a sum over the whole length; it runs with mode=conv alone");
    k->normalise = true; /* sum of exponentials over the length, as DSS has it, divided by A */
    k->eps = 1e-7f;
    k->scale = 1;
    k->coefficients = ssm_pair_mul(s, "coefficients", k->coefficients, ssm_pair_reciprocal(s, "A", a, 1e-30f));
}

/* A low-rank part of rank 2 and more (measures fout, legt): the system as a full matrix. */
static void s4_dense(ssm *s, const s4_names *n, ssm_system *k, int64_t trained, int64_t rank) {
    builder *b = &s->b;
    ssm_nplr g = {.trained = trained, .rank = rank, .im_sign = n->im_sign, .re_floor = n == &version_3_nplr ? 0 : 1e-4};
    g.re_kind = transform_of(s, n->re_key, "exp");
    g.im_kind = *n->im_key ? transform_of(s, n->im_key, "none") : SSM_NONE;
    g.dt_kind = transform_of(s, "dt_transform", "exp");
    build_f32(b, ssm_key(s, part(s, n, "P")), 4, (int64_t[]){rank, trained, k->states, 2}, false);
    g.re = build_find(b, ssm_key(s, part(s, n, n->re))), g.im = build_find(b, ssm_key(s, part(s, n, n->im)));
    g.p = build_find(b, ssm_key(s, part(s, n, "P"))), g.b = build_find(b, ssm_key(s, part(s, n, "B")));
    g.c = build_find(b, ssm_key(s, part(s, n, "C"))), g.dt = build_find(b, ssm_key(s, part(s, n, n->dt)));
    ssm_dense(s, &g, k);
}

static void s4_nplr(ssm *s, const s4_names *n, ssm_system *k, int64_t trained, int64_t systems) {
    builder *b = &s->b;
    const weights_tensor *low = build_find(b, ssm_key(s, part(s, n, "P")));
    int64_t rank = low && low->rank == 4 ? low->dims[0] : 1;
    k->nplr = true;
    if (rank == 1)
        k->p = for_all(s, build_f32(b, ssm_key(s, part(s, n, "P")), 3, (int64_t[]){trained, k->states, 2}, false), trained,
                       systems);
    int64_t length = stored_number(s, part(s, n, n->length));
    if (length > (int64_t)1 << 24)
        build_refuse(b, "layer %lld: its filter is %lld long; at most 2^24 is supported", (long long)b->layer,
                     (long long)length);
    if (length < 0) length = s->l_max;
    if (length < 1 && !s->recurrent)
        build_refuse(
            b,
            "layer %lld: the length for which C is stored is 0: it was never run in its own code, so only --set "
            "mode=recurrence can run it",
            (long long)b->layer);
    k->length = length > 0 ? length : 0;
    if (!s->recurrent && (!s->longest || length < s->longest)) s->longest = length;
    if (rank != 1) s4_dense(s, n, k, trained, rank);
}

static bool s4_system(ssm *s, const s4_names *n, ssm_system *k) {
    builder *b = &s->b;
    const weights_tensor *stored = build_find(b, ssm_key(s, part(s, n, "C")));
    int64_t rank = stored ? stored->rank : 0, trained = ssm_extent(s, part(s, n, n->re), 0);
    if (rank != 4 || stored->dims[3] != 2 || stored->dims[0] < 1 || stored->dims[1] < 1 || stored->dims[2] < 1) {
        build_refuse(b, "'%s' is not [channels, d, states, 2]", ssm_key(s, part(s, n, "C")));
        return false;
    }
    int64_t all = stored->dims[0], systems = all * stored->dims[1];
    *k = (ssm_system){.h = stored->dims[1], .states = stored->dims[2], .scale = 2,
                      .bidirectional = ssm_config_bool(s, "bidirectional", false)};
    if (k->bidirectional && all % 2) build_refuse(b, "a bidirectional layer needs an even number of channels in C");
    if (ssm_config_text(s, "hyper_act", NULL) || arrange_member(b->config->root, "bandlimit") ||
        ssm_config_bool(s, "swap_channels", false))
        build_refuse(b, "config.json: hyper_act, bandlimit and swap_channels are not supported");
    /* the published filter ends there */
    if (!s->recurrent && s->l_max > 0 && (!s->longest || s->l_max < s->longest)) s->longest = s->l_max;
    k->channels = k->bidirectional ? all / 2 : all;
    tensor_id a = s4_poles(s, n, trained, k->states, systems), dt = s4_steps(s, n, k->h, systems);
    tensor_id bb =
        for_all(s, build_f32(b, ssm_key(s, part(s, n, "B")), 3, (int64_t[]){trained, k->states, 2}, false), trained, systems);
    tensor_id c = build_f32(b, ssm_key(s, part(s, n, "C")), 3, (int64_t[]){systems, k->states, 2}, true);
    k->skip = build_flat(b, ssm_key(s, n->skip), k->channels * k->h);
    if (!ssm_has(s, part(s, n, "P"))) {
        s4_diagonal(s, n, k, a, dt, bb, c);
        return !build_failed(b);
    }
    k->poles = a, k->b = bb, k->c = c, k->dt = dt;
    s4_nplr(s, n, k, trained, systems);
    return !build_failed(b);
}

/* The activation after the last linear layer: a GLU where the layer has twice the rows, else what the config says. */
static tensor_id linear_out(ssm *s, const char *name, tensor_id y, int64_t columns, int64_t d, const char *key) {
    int64_t rows = ssm_linear_rows(s, name);
    if (!rows) return y;
    if (rows != d && rows != 2 * d)
        build_refuse(&s->b, "'%s' has %lld rows for %lld channels", ssm_key(s, name), (long long)rows, (long long)d);
    y = ssm_linear(s, name, y, rows, columns);
    if (rows == 2 * d) return ssm_glu(s, name, y);
    const char *kind = ssm_config_text(s, key, "none");
    return !strcmp(kind, "glu") ? y : ssm_activate(s, name, ssm_activation(s, key, "none"), y);
}

/* Version 4: u = input_linear x, y = act(system u), then output_gate y times act(input_gate x), output_linear. */
static tensor_id s4_block(ssm *s, tensor_id x) {
    ssm_system k;
    tensor_id gate = 0, u = x;
    if (!s4_system(s, &version_4, &k)) return 0;
    int64_t wide = ssm_linear_rows(s, "input_gate"), inner = ssm_linear_rows(s, "input_linear"), width = k.channels * k.h;
    if (wide)
        gate = ssm_activate(s, "input_gate", ssm_activation(s, "gate_act", "none"), ssm_linear(s, "input_gate", x, wide, s->d));
    if (inner) u = ssm_linear(s, "input_linear", x, inner, s->d);
    tensor_id y = ssm_activate(s, "activation", ssm_activation(s, "activation", "gelu"), ssm_apply(s, &k, u));
    if (gate && ssm_linear_rows(s, "output_gate")) y = ssm_linear(s, "output_gate", y, wide, width), width = wide;
    if (gate) y = build_mul(&s->b, ssm_key(s, "gate"), y, gate);
    if (gate) width = wide;
    y = ssm_activate(s, "mult_act", ssm_activation(s, "mult_act", "none"), y);
    return linear_out(s, "output_linear", y, width, s->d, "final_act");
}

/* Version 3 and Liquid-S4: v = act(input_gate x), u = act(input_linear x), y = act(system u), output_linear, times v,
 * output_gate. */
static tensor_id s4_third(ssm *s, tensor_id x) {
    ssm_system k;
    tensor_id gate = 0, u = x;
    if (!s4_system(s, ssm_has(s, "kernel.kernel.inv_w_real") ? &version_3_nplr : &version_3_diagonal, &k)) return 0;
    uint32_t act = ssm_activation(s, "activation", "gelu");
    int64_t wide = ssm_linear_rows(s, "input_gate"), inner = ssm_linear_rows(s, "input_linear");
    if (wide) gate = ssm_activate(s, "input_gate", act, ssm_linear(s, "input_gate", x, wide, s->d));
    if (inner) u = ssm_activate(s, "input_linear", act, ssm_linear(s, "input_linear", x, inner, s->d));
    tensor_id y = ssm_apply(s, &k, u);
    if (ssm_config_text(s, "liquid_kernel", NULL)) {
        tensor_id plain = ssm_activate(s, "activation", act, y);
        ssm_offer(s, "output_without_liquid",
                  linear_out(s, "output_linear", plain, k.channels * k.h, gate ? wide : s->d, "postact"));
        if (s->liquid) y = ssm_liquid(s, &k, u, y);
    }
    y = ssm_activate(s, "activation", act, y);
    y = linear_out(s, "output_linear", y, k.channels * k.h, gate ? wide : s->d, "postact");
    if (!gate) return y;
    return ssm_linear(s, "output_gate", build_mul(&s->b, ssm_key(s, "gate"), y, gate), s->d, wide);
}

tensor_id ssm_s4(ssm *s, tensor_id x) {
    return ssm_has(s, "layer.kernel.C") ? s4_block(s, x) : s4_third(s, x);
}

tensor_id ssm_s4d_minimal(ssm *s, tensor_id x) {
    builder *b = &s->b;
    int64_t h = ssm_extent(s, "kernel.C", 0), n = ssm_extent(s, "kernel.C", 1);
    ssm_system k = {.channels = 1, .h = h, .states = n, .scale = 2, .log_poles = true};
    tensor_id c = build_f32(b, ssm_key(s, "kernel.C"), 3, (int64_t[]){h, n, 2}, false);
    tensor_id dt = build_unary(b, "dt", STRAND_UNARY_EXP, build_flat(b, ssm_key(s, "kernel.log_dt"), h), 0, 0);
    tensor_id re = build_unary(b, "A", STRAND_UNARY_EXP,
                               build_f32(b, ssm_key(s, "kernel.log_A_real"), 3, (int64_t[]){h, n, 1}, false), 0, 0);
    tensor_id im = build_f32(b, ssm_key(s, "kernel.A_imag"), 3, (int64_t[]){h, n, 1}, false);
    tensor_id a = ssm_pair(s, "A", build_unary(b, "A", STRAND_UNARY_NEG, re, 0, 0), im);
    strand_op_ssm_discretize p = {.method = STRAND_SSM_ZOH};
    k.skip = build_flat(b, ssm_key(s, "D"), h);
    if (build_failed(b)) return 0;
    k.poles = graph_op2(b->g, build_name(b, ssm_key(s, "discrete")), STRAND_OP_SSM_DISCRETIZE, &p, (tensor_id[]){a, dt, 0, c},
                        4, NULL, &k.coefficients);
    tensor_id y = ssm_activate(s, "activation", ssm_activation(s, "activation", "gelu"), ssm_apply(s, &k, x));
    return linear_out(s, "output_linear", y, h, s->d, "final_act");
}

/* ---- DSS ---- */

enum { DSS_SOFTMAX, DSS_EXP, DSS_EXP_RE_IM, DSS_EXP_NO_SCALE, DSS_CLIP, DSS_CLIP_NO_SCALE };

typedef struct cn {
    double re, im;
} cn;

static cn times(cn a, cn b) {
    return (cn){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static cn less_one(cn a) { /* e^a - 1 */
    double half = sin(a.im / 2);
    return (cn){expm1(a.re) * cos(a.im) - 2 * half * half, exp(a.re) * sin(a.im)};
}

/* conj(a) / |a|^2 by whatever is taken for the square */
static cn over(cn a, double square) {
    return (cn){a.re / square, -a.im / square};
}

typedef struct dss {
    int version;
    int64_t channels, h, n, steps; /* steps: 1 or 2 step sizes a channel */
    const weights_tensor *dt, *re, *im, *w; /* re holds pairs where im is NULL */
} dss;

static cn dss_lambda(const dss *d, int64_t n) {
    cn l = {arrange_value(d->re, d->im ? n : 2 * n), d->im ? arrange_value(d->im, n) : arrange_value(d->re, 2 * n + 1)};
    if (d->version >= DSS_CLIP) l.re = fmin(l.re, 1e-4);
    if (d->version >= DSS_EXP && d->version < DSS_CLIP) l.re = -exp(l.re);
    if (d->version == DSS_EXP_RE_IM) l.im = exp(l.im);
    return l;
}

static cn dss_pole(const dss *d, int64_t channel, int64_t n) { /* its logarithm */
    cn l = dss_lambda(d, n);
    double first = exp(arrange_value(d->dt, channel * d->steps)),
           second = d->steps == 2 ? exp(arrange_value(d->dt, channel * 2 + 1)) : first;
    return (cn){first * l.re, second * l.im};
}

/* The coefficient i of [channels h, n]. length: 0 where a softmax is left to the filter, else folded in, as published. */
static cn dss_coefficient(const dss *d, int64_t i, int64_t length) {
    cn w = {arrange_value(d->w, 2 * i), arrange_value(d->w, 2 * i + 1)}, l = dss_lambda(d, i % d->n),
       p = dss_pole(d, i / d->n % d->h, i % d->n);
    double square = l.re * l.re + l.im * l.im;
    if (d->version == DSS_EXP_NO_SCALE || d->version == DSS_CLIP_NO_SCALE) return w;
    if (d->version != DSS_SOFTMAX) return times(w, times(less_one(p), over(l, fmax(square, 1e-7))));
    if (!length) return times(w, over(l, fmax(square, 1e-30)));
    double sign = l.re > 0 ? -1 : 1, last = (double)(length - 1);
    cn den = times(less_one((cn){sign * p.re * (last + 1), sign * p.im * (last + 1)}), l);
    w = times(times(w, less_one((cn){sign * p.re, sign * p.im})), over(den, den.re * den.re + den.im * den.im + 1e-7));
    if (l.re <= 0) return w;
    double size = exp(-p.re * last);
    return times(w, (cn){size * cos(p.im * last), -size * sin(p.im * last)});
}

/* [channels h, n, 2] of poles' logarithms (what < 0; their angles within a turn, which F32 holds better) or of coefficients.
 * They are made here, in double precision: a filter of some hundred taps shows what the steps of F32 lose. */
static tensor_id dss_tensor(ssm *s, const dss *d, const char *part, int64_t what) {
    builder *b = &s->b;
    int64_t systems = d->channels * d->h;
    float *out = build_failed(b) ? NULL : ARENA_ARRAY(b->g->arena, float, (size_t)(systems * d->n * 2));
    if (!out) {
        if (!build_failed(b)) error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
        return 0;
    }
    for (int64_t i = 0; i < systems * d->n; i++) {
        cn v = what < 0 ? dss_pole(d, i / d->n % d->h, i % d->n) : dss_coefficient(d, i, what);
        if (what < 0) v.im = remainder(v.im, 2 * 3.14159265358979323846);
        if (!isfinite(v.re) || !isfinite(v.im)) {
            build_refuse(b, "the tensors of '%s' are quantised, or their values are not finite", ssm_key(s, "kernel"));
            return 0;
        }
        out[2 * i] = (float)v.re;
        out[2 * i + 1] = (float)v.im;
    }
    return graph_weight(b->g, build_name(b, ssm_key(s, part)), STRAND_F32, 3, (op_dim[]){DIM(systems), DIM(d->n), DIM(2)}, out);
}

/* The tensors that a version has, with their shapes checked. */
static void dss_tensors(ssm *s, dss *d) {
    builder *b = &s->b;
    bool pairs = d->version == DSS_SOFTMAX || d->version >= DSS_CLIP;
    const char *re = ssm_key(s, pairs ? "kernel.Lambda" : "kernel.Lambda_log_neg_re");
    const char *im = ssm_key(s, d->version == DSS_EXP_RE_IM ? "kernel.Lambda_log_im" : "kernel.Lambda_im");
    build_f32(b, ssm_key(s, "kernel.log_dt"), 2, (int64_t[]){d->h, d->steps}, true);
    build_f32(b, re, 2, (int64_t[]){d->n, pairs ? 2 : 1}, true);
    if (!pairs) build_flat(b, im, d->n);
    d->re = build_find(b, re);
    d->im = pairs ? NULL : build_find(b, im);
}

tensor_id ssm_dss(ssm *s, tensor_id x) {
    static const char *const names[] = {"softmax", "exp", "exp-re-im", "exp-no-scale", "clip", "clip-no-scale", NULL};
    builder *b = &s->b;
    dss d = {.version = arrange_choice(b, "version",
                                       ssm_config_text(s, "version", ssm_has(s, "kernel.Lambda") ? "softmax" : "exp"), names)};
    d.w = build_find(b, ssm_key(s, "kernel.W")), d.dt = build_find(b, ssm_key(s, "kernel.log_dt"));
    if (!d.w || d.w->rank != 4 || d.w->dims[3] != 2 || d.w->dims[0] < 1 || d.w->dims[1] < 1 || d.w->dims[2] < 1 || !d.dt)
        build_refuse(b, "'%s' is not [channels, d, states, 2]", ssm_key(s, "kernel.W"));
    if (ssm_config_text(s, "hyper_act", NULL)) build_refuse(b, "config.json: hyper_act is not supported");
    if (build_failed(b)) return 0;
    d.channels = d.w->dims[0], d.h = d.w->dims[1], d.n = d.w->dims[2], d.steps = d.dt->rank > 1 ? d.dt->dims[1] : 1;
    ssm_system k = {.h = d.h, .states = d.n, .scale = 1, .log_poles = true,
                    .bidirectional = ssm_config_bool(s, "bidirectional", false), .eps = 1e-7f};
    if (d.steps < 1 || d.steps > 2 || (k.bidirectional && d.channels % 2))
        build_refuse(b, "'%s': channels or step sizes do not fit", ssm_key(s, "kernel.W"));
    k.channels = k.bidirectional ? d.channels / 2 : d.channels;
    const json *cut = arrange_member(b->config->root, "max_kernel_length");
    if (cut && cut->is_integer && cut->integer > 0 && cut->integer < (int64_t)1 << 24) k.taps = cut->integer;
    dss_tensors(s, &d);
    build_f32(b, ssm_key(s, "kernel.W"), 3, (int64_t[]){d.channels * d.h, d.n, 2}, true);
    k.poles = dss_tensor(s, &d, "poles", -1);
    k.normalise = d.version == DSS_SOFTMAX;
    if (!(s->recurrent && k.normalise)) k.coefficients = dss_tensor(s, &d, "coefficients", 0);
    if (s->recurrent && k.normalise && s->l_max > 0) k.folded = dss_tensor(s, &d, "folded", s->l_max);
    k.skip = build_flat(b, ssm_key(s, "D"), k.channels * d.h);
    tensor_id y = ssm_activate(s, "activation", ssm_activation(s, "activation", "gelu"), ssm_apply(s, &k, x));
    return linear_out(s, "output_linear", y, k.channels * d.h, s->d, "postact");
}

/* ---- Mega's EMA ---- */

tensor_id ssm_ema(ssm *s, tensor_id x) {
    builder *b = &s->b;
    int64_t all = ssm_extent(s, "delta", 0), n = ssm_extent(s, "delta", 1), d = ssm_extent(s, "omega", 0);
    ssm_system k = {.channels = 1, .h = d, .states = n, .real = true, .scale = 1, .from_zero = true,
                    .bidirectional = d > 0 && all == 2 * d};
    if (d < 1 || n < 1 || (all != d && all != 2 * d)) build_refuse(b, "'%s' is not [d or 2 d, states, 1]", ssm_key(s, "delta"));
    const json *cut = arrange_member(b->config->root, "truncation");
    if (cut && cut->is_integer && cut->integer > 0 && cut->integer < (int64_t)1 << 24) k.taps = cut->integer;
    const int64_t dims[2] = {all, n};
    tensor_id p = build_unary(b, "p", STRAND_UNARY_SIGMOID, build_f32(b, ssm_key(s, "delta"), 2, dims, true), 0, 0);
    tensor_id q = build_unary(b, "q", STRAND_UNARY_SIGMOID, build_f32(b, ssm_key(s, "alpha"), 2, dims, true), 0, 0);
    q = build_unary(b, "q", STRAND_UNARY_AFFINE, build_mul(b, "q", p, q), -1, 1);
    k.in = build_mul(b, ssm_key(s, "beta"), p, build_f32(b, ssm_key(s, "beta"), 2, dims, true));
    k.out = build_unary(b, ssm_key(s, "gamma"), STRAND_UNARY_AFFINE, build_f32(b, ssm_key(s, "gamma"), 2, dims, true),
                        (float)(1 / sqrt((double)(n > 0 ? n : 1))), 0);
    k.poles = q;
    tensor_id y = 0, omega = build_vector(b, ssm_key(s, "omega"), d);
    if (build_failed(b)) return 0;
    if (!s->recurrent) {
        /* The filters are sums of powers of real poles: pairs without imaginary parts. The last state comes from a scan, if
         * it is asked for. */
        ssm_system c = k;
        op_dim pair[3] = {DIM(all), DIM(n), DIM(1)};
        tensor_id re = arrange_reshape(b, "poles", q, 3, pair), zero = build_unary(b, "zero", STRAND_UNARY_AFFINE, re, 0, 0);
        c.poles = ssm_pair(s, "poles", re, zero);
        c.coefficients = ssm_pair(s, "coefficients",
                                  arrange_reshape(b, "coefficients", build_mul(b, "coefficients", k.in, k.out), 3, pair), zero);
        y = ssm_apply(s, &c, x);
        strand_op_lti_scan scan = {.scale = 1};
        tensor_id last = 0;
        if (!k.bidirectional)
            ssm_with_state(s, "last", STRAND_OP_LTI_SCAN, &scan, (tensor_id[]){x, q, k.in, k.out, 0, 0}, 6, &last);
        ssm_offer(s, "final_state", last);
    } else {
        y = ssm_apply(s, &k, x);
    }
    y = build_add(b, ssm_key(s, "skip"), y, build_mul(b, ssm_key(s, "skip"), x, ssm_per_channel(s, "omega", omega, d)));
    return ssm_activate(s, "activation", STRAND_UNARY_SILU, y);
}

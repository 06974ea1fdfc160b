/* ssm_mimo.c - layers whose systems share their states among all channels: S5 (lindermanlab/S5; Smith, Warrington,
 * Linderman, arXiv 2208.04933) and LRU (NicolasZucchet/minimal-LRU; Orvieto et al., arXiv 2303.06349). x_t = pole x_(t-1) +
 * B u_t, y = 2 Re(C x) + D u, or without the 2: a product, a recurrence of every state by itself (or its convolution), and a
 * product. */
#include "ssm.h"

#include <stdlib.h>
#include <string.h>

typedef struct mimo {
    int64_t h, p;
    tensor_id log_poles;   /* [p, 1, 2] */
    tensor_id b;           /* [p, h, 2] */
    tensor_id c, c_back;   /* [h, p, 2]; c_back 0: one direction */
    tensor_id skip;        /* [h] */
    float scale;
} mimo;

/* x [B, L, 2 p] with the parts of each state side by side, from drive of the same shape. */
static tensor_id run_states(ssm *s, const mimo *m, tensor_id drive, bool backwards, tensor_id *last) {
    builder *b = &s->b;
    op_dim pairs[4] = {DIM_B, s->length, DIM(m->p), DIM(2)}, flat[3] = {DIM_B, s->length, DIM(2 * m->p)};
    tensor_id a =
        arrange_reshape(b, ssm_key(s, "poles"), ssm_pair_exp(s, "poles", m->log_poles), 2, (op_dim[]){DIM(m->p), DIM(2)});
    tensor_id x = arrange_reshape(b, ssm_key(s, "drive"), drive, 4, pairs), state = 0;
    strand_op_linear_recurrence p = {.complex_pairs = 1, .reverse = backwards};
    if (!m->c_back) state = ssm_state(s, "states", 3, (op_dim[]){DIM_B, DIM(m->p), DIM(2)});
    x = ssm_with_state(s, "states", STRAND_OP_LINEAR_RECURRENCE, &p, (tensor_id[]){x, a, state}, 3, last);
    return arrange_reshape(b, ssm_key(s, "states"), x, 3, flat);
}

/* Re and Im of pole^t, [2 p, L] by `first` and `second` of each pair: the real part for (1, 0), the imaginary one for (0,
 * -1). */
static tensor_id powers(ssm *s, const mimo *m, const float first[2], const float second[2]) {
    builder *b = &s->b;
    float *c = build_failed(b) ? NULL : ARENA_ARRAY(b->g->arena, float, (size_t)(4 * m->p));
    if (!c) return 0;
    for (int64_t i = 0; i < m->p; i++) memcpy(c + 4 * i, first, 8), memcpy(c + 4 * i + 2, second, 8);
    tensor_id coefficients =
        graph_weight(b->g, build_name(b, ssm_key(s, "part")), STRAND_F32, 3, (op_dim[]){DIM(2 * m->p), DIM(1), DIM(2)}, c);
    strand_op_ssm_kernel_diagonal p = {.log_poles = 1, .scale = 1};
    op_shape shape = {STRAND_F32, 2, {DIM(2 * m->p), s->length}};
    tensor_id poles = arrange_repeat(b, ssm_key(s, "poles"), m->log_poles, 0, 2, true);
    return build_failed(b) ? 0
                           : graph_op(b->g, build_name(b, ssm_key(s, "filter")), STRAND_OP_SSM_KERNEL_DIAGONAL, &p,
                                      (tensor_id[]){poles, coefficients}, 2, &shape);
}

static tensor_id convolved(ssm *s, tensor_id x, tensor_id filter) {
    strand_op_long_conv p = {0};
    return build_failed(&s->b) ? 0
                               : graph_op(s->b.g, build_name(&s->b, ssm_key(s, "convolution")), STRAND_OP_LONG_CONV, &p,
                                          (tensor_id[]){x, filter}, 2, NULL);
}

/* The same by convolution: with every pair (re, im) of drive and (k, l) of the power, re * k - im * l and im * k + re * l. */
static tensor_id convolve_states(ssm *s, const mimo *m, tensor_id drive, bool backwards, tensor_id *last) {
    builder *b = &s->b;
    static const float re[2] = {1, 0}, minus_im[2] = {0, 1}, im[2] = {0, -1};
    op_dim pairs[4] = {DIM_B, s->length, DIM(m->p), DIM(2)}, flat[3] = {DIM_B, s->length, DIM(2 * m->p)};
    if (backwards) drive = arrange_flip(b, ssm_key(s, "drive"), drive, 1);
    tensor_id split = arrange_reshape(b, ssm_key(s, "drive"), drive, 4, pairs);
    tensor_id other =
        arrange_reshape(b, ssm_key(s, "drive"), ssm_pair(s, "drive", ssm_im(s, split), ssm_re(s, split)), 3, flat);
    tensor_id x = convolved(s, arrange_turn(b, ssm_key(s, "drive"), drive), powers(s, m, re, re));
    tensor_id y = convolved(s, arrange_turn(b, ssm_key(s, "drive"), other), powers(s, m, minus_im, im));
    x = arrange_turn(b, ssm_key(s, "states"), build_add(b, ssm_key(s, "states"), x, y));
    if (!backwards && last)
        *last = arrange_reshape(b, ssm_key(s, "last"), arrange_slice(b, ssm_key(s, "last"), x, 1, -1, 1), 3,
                                (op_dim[]){DIM_B, DIM(m->p), DIM(2)});
    return backwards ? arrange_flip(b, ssm_key(s, "states"), x, 1) : x;
}

/* Re of C x for x in pairs: scale (re, -im) as a matrix [h, 2 p]. */
static tensor_id read_out(ssm *s, const mimo *m, tensor_id c, tensor_id x) {
    builder *b = &s->b;
    const float signs[2] = {m->scale, -m->scale};
    tensor_id w = build_mul(b, ssm_key(s, "C"), c, build_constant(b, "signs", 3, (int64_t[]){1, 1, 2}, signs));
    w = arrange_reshape(b, ssm_key(s, "C"), w, 2, (op_dim[]){DIM(m->h), DIM(2 * m->p)});
    return build_product(b, ssm_key(s, "C"), x, w, 0, STRAND_UNARY_IDENTITY);
}

static void offer_part(ssm *s, const char *name, const mimo *m, tensor_id part) {
    ssm_offer(s, name, arrange_reshape(&s->b, name, part, 2, (op_dim[]){DIM_B, DIM(m->p)}));
}

static tensor_id run(ssm *s, const mimo *m, tensor_id u) {
    builder *b = &s->b;
    tensor_id w = arrange_permute(b, ssm_key(s, "B"), m->b, (uint32_t[]){0, 2, 1, 3}), last = 0;
    w = arrange_reshape(b, ssm_key(s, "B"), w, 2, (op_dim[]){DIM(2 * m->p), DIM(m->h)});
    tensor_id drive = build_product(b, ssm_key(s, "B"), u, w, 0, STRAND_UNARY_IDENTITY);
    tensor_id x = s->recurrent ? run_states(s, m, drive, false, &last) : convolve_states(s, m, drive, false, &last);
    tensor_id y = read_out(s, m, m->c, x);
    if (m->c_back) {
        x = s->recurrent ? run_states(s, m, drive, true, NULL) : convolve_states(s, m, drive, true, NULL);
        y = build_add(b, ssm_key(s, "output"), y, read_out(s, m, m->c_back, x));
    } else {
        offer_part(s, "final_state_re", m, ssm_re(s, last));
        offer_part(s, "final_state_im", m, ssm_im(s, last));
    }
    return build_add(b, ssm_key(s, "output"), y, build_mul(b, ssm_key(s, "skip"), u, ssm_per_channel(s, "D", m->skip, m->h)));
}

/* ---- S5 ---- */

/* Names stand after "seq." where the file holds a whole sequence layer. */
static const char *within(ssm *s, const char *part) {
    const char *inner = graph_name(s->b.g, "seq.%s", part);
    return ssm_has(s, inner) ? inner : part;
}

tensor_id ssm_s5(ssm *s, tensor_id u) {
    static const char *const names[] = {"zoh", "bilinear", NULL};
    builder *b = &s->b;
    const char *in = within(s, "B");
    mimo m = {
        .p = ssm_extent(s, in, 0), .h = ssm_extent(s, in, 1), .scale = ssm_config_bool(s, "conj_sym", true) ? 2.0f : 1.0f};
    int method = arrange_choice(b, "discretization", ssm_config_text(s, "discretization", "zoh"), names);
    double rescale = b->config->root ? json_number(b->config->root, "step_rescale", 1) : 1;
    if (m.p < 1 || m.h < 1) build_refuse(b, "'%s' is not [states, d, 2]", ssm_key(s, in));
    if (!(rescale > 0 && rescale < 1e6)) build_refuse(b, "config.json: 'step_rescale' is not a positive number");
    const int64_t dims[3] = {m.p, 1, 1};
    tensor_id re = build_f32(b, ssm_key(s, within(s, "Lambda_re")), 3, dims, true),
              im = build_f32(b, ssm_key(s, within(s, "Lambda_im")), 3, dims, true);
    if (ssm_config_bool(s, "clip_eigs", false)) re = build_unary(b, "Lambda", STRAND_UNARY_CLAMP, re, -3e38f, -1e-4f);
    tensor_id step = build_unary(b, "step", STRAND_UNARY_EXP, build_flat(b, ssm_key(s, within(s, "log_step")), m.p), 0, 0);
    if (rescale != 1) step = build_unary(b, "step", STRAND_UNARY_AFFINE, step, (float)rescale, 0);
    tensor_id lambda = ssm_pair(s, "Lambda", re, im), raw = build_f32(b, ssm_key(s, in), 3, (int64_t[]){m.p, m.h, 2}, false);
    strand_op_ssm_discretize p = {.method = method ? STRAND_SSM_BILINEAR : STRAND_SSM_ZOH};
    if (build_failed(b)) return 0;
    m.log_poles = graph_op(b->g, build_name(b, ssm_key(s, "discrete")), STRAND_OP_SSM_DISCRETIZE, &p,
                           (tensor_id[]){lambda, step}, 2, NULL);
    tensor_id each = arrange_repeat(b, ssm_key(s, "Lambda"), lambda, 1, m.h, true);
    if (build_failed(b)) return 0;
    graph_op2(b->g, build_name(b, ssm_key(s, "B")), STRAND_OP_SSM_DISCRETIZE, &p, (tensor_id[]){each, step, raw}, 3, NULL,
              &m.b);
    bool both = ssm_has(s, within(s, "C1"));
    m.c = build_f32(b, ssm_key(s, within(s, both ? "C1" : "C")), 3, (int64_t[]){m.h, m.p, 2}, false);
    if (both) m.c_back = build_f32(b, ssm_key(s, within(s, "C2")), 3, (int64_t[]){m.h, m.p, 2}, false);
    m.skip = build_flat(b, ssm_key(s, within(s, "D")), m.h);
    return run(s, &m, u);
}

/* ---- LRU ---- */

/* Two matrices as the parts of one, [rows, columns, 2]. */
static tensor_id parts(ssm *s, const char *re, const char *im, int64_t rows, int64_t columns) {
    const int64_t dims[3] = {rows, columns, 1};
    return ssm_pair(s, re, build_f32(&s->b, ssm_key(s, within(s, re)), 3, dims, true),
                    build_f32(&s->b, ssm_key(s, within(s, im)), 3, dims, true));
}

tensor_id ssm_lru(ssm *s, tensor_id u) {
    builder *b = &s->b;
    mimo m = {.p = ssm_extent(s, within(s, "B_re"), 0), .h = ssm_extent(s, within(s, "B_re"), 1), .scale = 1};
    if (m.p < 1 || m.h < 1) build_refuse(b, "'%s' is not [states, d]", ssm_key(s, within(s, "B_re")));
    const int64_t dims[3] = {m.p, 1, 1};
    tensor_id nu = build_unary(b, "nu", STRAND_UNARY_EXP, build_f32(b, ssm_key(s, within(s, "nu_log")), 3, dims, true), 0, 0);
    tensor_id theta =
        build_unary(b, "theta", STRAND_UNARY_EXP, build_f32(b, ssm_key(s, within(s, "theta_log")), 3, dims, true), 0, 0);
    tensor_id gamma =
        build_unary(b, "gamma", STRAND_UNARY_EXP, build_f32(b, ssm_key(s, within(s, "gamma_log")), 3, dims, true), 0, 0);
    m.log_poles = ssm_pair(s, "poles", build_unary(b, "nu", STRAND_UNARY_NEG, nu, 0, 0), theta);
    m.b = build_mul(b, ssm_key(s, "B"), parts(s, "B_re", "B_im", m.p, m.h), gamma);
    m.c = parts(s, "C_re", "C_im", m.h, m.p);
    m.skip = build_flat(b, ssm_key(s, within(s, "D")), m.h);
    tensor_id y = run(s, &m, u);
    ssm_offer(s, "lru_output", y);
    return y;
}

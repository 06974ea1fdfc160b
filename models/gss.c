/* gss.c - GSS: Mehta et al., "Long Range Language Modeling via Gated State Spaces", arXiv 2206.13947.
 *
 * The authors published no weights; recognised is the layout of the public PyTorch version
 * (lucidrains/gated-state-spaces-pytorch): token_emb, layers.N.0, to_logits. Sizes come from the tensors' shapes.
 *
 * A layer, n = layer_norm x: u = gelu(to_u n), v = layer_norm(gelu(to_v n)); w = diagonal state space of v;  x += to_out (u *
 * to_gate w). The state space (DSS, arXiv 2203.14343): Lambda = -exp(Lambda_real) + i exp(Lambda_imag), one for all channels,
 * with step 1 and zero-order hold: w[t] = Re sum_n C_n (e^Lambda_n - 1) / Lambda_n sum_s e^(Lambda_n (t - s)) v[s] + D v[t].
 * State: [channels, N] complex. */
#include "build.h"

static const build_rename names[] = {{"layers.*.0.", "layers.*."}, {NULL, NULL}};

typedef struct gss {
    int64_t d, layers, vocabulary, wide, channels, states;
} gss;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.dss.Lambda_real") && build_recognises(w, names, "token_emb.weight");
}

static strand_status configure(builder *b, gss *p) {
    p->vocabulary = build_extent(b, "token_emb.weight", 0);
    p->d = build_extent(b, "token_emb.weight", 1);
    p->layers = build_count_layers(b, "layers.*.dss.Lambda_real");
    p->wide = build_extent(b, "layers.*.to_u.0.weight", 0);
    p->channels = build_extent(b, "layers.*.to_v.0.weight", 0);
    p->states = build_extent(b, "layers.*.dss.Lambda_real", 0);
    if (p->d < 1 || p->vocabulary < 1 || p->wide < 1 || p->channels < 1 || p->states < 1)
        return build_refuse(b, "token_emb, to_u, to_v or dss.Lambda_real of layer 0 is missing or has no usable shape");
    build_lengths(b, 0);
    return b->e->status;
}

/* Two vectors or matrices as one of pairs, [.., states, 2]. */
static tensor_id pairs(builder *b, const char *name, tensor_id re, tensor_id im) {
    strand_op_concat join = {.axis = 2};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_CONCAT, &join, (tensor_id[]){re, im}, 2, NULL);
}

static tensor_id ones(builder *b, int64_t n) {
    return build_unary(b, "layers.*.dss.dt", STRAND_UNARY_CLAMP, build_vector(b, "layers.*.dss.param_D", n), 1, 1);
}

static tensor_id state_space(builder *b, const gss *p, tensor_id v) {
    int64_t shared[] = {1, p->states, 1}, each[] = {p->channels, p->states, 1}, state_dims[] = {p->channels, p->states, 2};
    strand_op_ssm_discretize hold = {.method = STRAND_SSM_ZOH};
    strand_op_lti_scan scan = {.log_poles = 1, .scale = 1};
    tensor_id re = build_unary(b, "layers.*.dss.Lambda", STRAND_UNARY_EXP,
                               build_f32(b, "layers.*.dss.Lambda_real", 3, shared, false), 0, 0);
    tensor_id im = build_unary(b, "layers.*.dss.Lambda", STRAND_UNARY_EXP,
                               build_f32(b, "layers.*.dss.Lambda_imag", 3, shared, false), 0, 0);
    tensor_id lambda = pairs(b, "layers.*.dss.Lambda", build_unary(b, "layers.*.dss.Lambda", STRAND_UNARY_NEG, re, 0, 0), im);
    tensor_id c = pairs(b, "layers.*.dss.C", build_f32(b, "layers.*.dss.C_real", 3, each, false),
                        build_f32(b, "layers.*.dss.C_imag", 3, each, false));
    tensor_id dt = ones(b, p->channels), skip = build_vector(b, "layers.*.dss.param_D", p->channels), coefficients, next;
    tensor_id state = build_state(b, "layers.*.dss.state", 3, state_dims);
    if (build_failed(b)) return 0;
    tensor_id poles = graph_op2(b->g, build_name(b, "layers.*.dss.poles"), STRAND_OP_SSM_DISCRETIZE, &hold,
                                (tensor_id[]){lambda, dt, 0, c}, 4, NULL, &coefficients);
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.dss"), STRAND_OP_LTI_SCAN, &scan,
                            (tensor_id[]){v, poles, 0, coefficients, skip, state}, 6, NULL, &next);
    build_state_next(b, state, next);
    return y;
}

static tensor_id layer(builder *b, const gss *p, tensor_id x) {
    tensor_id n = build_layer_norm(b, "layers.*.norm", x, p->d, 1e-5);
    tensor_id u = build_linear(b, "layers.*.to_u.0", n, p->wide, p->d, STRAND_UNARY_GELU),
              v = build_linear(b, "layers.*.to_v.0", n, p->channels, p->d, STRAND_UNARY_GELU);
    tensor_id w = state_space(b, p, build_layer_norm(b, "layers.*.dss.norm", v, p->channels, 1e-5));
    w = build_mul(b, "layers.*.gated", build_linear(b, "layers.*.to_gate", w, p->wide, p->channels, STRAND_UNARY_IDENTITY), u);
    return build_add(b, "layers.*.add", x, build_linear(b, "layers.*.to_out", w, p->d, p->wide, STRAND_UNARY_IDENTITY));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    gss p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "token_emb", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "to_logits", "to_logits", x, p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, NULL};

const family family_gss = {"gss", recognise, build, setting_keys};

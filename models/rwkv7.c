/* rwkv7.c - RWKV-7 "Goose": Peng et al., arXiv 2503.14456; repository BlinkDL/RWKV-LM.
 *
 * Recognises BlinkDL's .pth files, rwkv.cpp's .bin files, flash-linear-attention's on Hugging Face, GGUF's names, and the
 * RWKV-8 experiments whose ROSA tables are zero (of ROSA only the output's bias remains then; others are refused). Sizes and
 * ranks come from the tensors' shapes.
 *
 * A layer: with x_c = n + (n of the token before - n) mix_c for c in r, w, k, v, a, g and n = ln1 x,
 *   r, k, v = R x_r, K x_k, V x_v;  w = exp(-e^(-1/2) sigmoid(w0 + tanh(x_w w1) w2));  a = sigmoid(a0 + x_a a1 a2);  g =
 *   sigmoid(x_g g1) g2 from the second layer on v += (v of the first layer - v) sigmoid(v0 + x_v v1 v2)
 *   kappa = k k_k, each head of length 1;  k += k (a - 1) k_a
 *   S <- S diag(w) - (S kappa)(kappa a)^T + v k^T;  y = ln_x(S r) + (sum over the head of r k r_k) v;  x += O (y g)
 *   x += V relu(K x_k)^2 of ln2 x.
 * States: the two last n, and S [heads, width, width]. */
#include "rwkv.h"

#include <math.h>

#define ATT(part) "blocks.*.att." part

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, rwkv_names, "blocks.0.att.r_k") || build_recognises(w, rwkv_names, "blocks.1.att.r_k");
}

static bool all_zero(const weights_tensor *w) {
    const unsigned char *p = w->data;
    for (uint64_t i = 0; i < w->bytes; i++)
        if (p[i]) return false;
    return true;
}

static strand_status configure(builder *b, rwkv *p) {
    if (rwkv_configure(b, p)) return b->e->status;
    const weights_tensor *r_k = build_find(b, ATT("r_k"));
    if (!p->heads) p->heads = build_int(b, "num_heads", r_k && r_k->rank == 2 ? r_k->dims[0] : 0, 0, p->attention);
    if (build_failed(b) || p->heads < 1 || p->attention % p->heads) return build_refuse(b, "att.r_k is not [heads, width]");
    if (weights_find(b->m->weights, "model.layers.0.attn.w_lora.lora.0.weight")) {
        p->transposed = true;
        p->head_eps = p->eps * (double)(p->attention / p->heads);
    }
    if (rwkv_head_epsilon(b, p)) return b->e->status;
    for (b->layer = p->first; b->layer < p->first + p->layers; b->layer++) {
        const weights_tensor *table = build_find(b, "blocks.*.rosa_table");
        if (table && !all_zero(table))
            return build_refuse(b, "tensor '%s' is not zero: RWKV-8's ROSA is not supported", table->name);
    }
    b->layer = p->first;
    return b->e->status;
}

/* The n-th of the six mixes: its own tensor, or a part of the fused one. */
static tensor_id mixed(builder *b, const rwkv *p, build_shift *s, const char *name, int n) {
    bool fused = build_has(b, ATT("x_rwkvag"));
    tensor_id mix = fused ? build_flat_part(b, ATT("x_rwkvag"), 6 * p->d, n * p->d, p->d) : build_flat(b, name, p->d);
    return build_shift_mix(b, name, s, mix, STRAND_SHIFT_LERP_PREV);
}

/* act(bias + act1(x A1) A2) */
static tensor_id low_rank_pair(builder *b, const rwkv *p, const char *first, const char *second, const char *bias, tensor_id x,
                               uint32_t inner, uint32_t outer) {
    int64_t rank = rwkv_rank(b, p, first);
    tensor_id low = rwkv_low_rank(b, p, first, x, p->d, rank, 0, inner);
    return rwkv_low_rank(b, p, second, low, rank, p->attention, bias ? build_flat(b, bias, p->attention) : 0, outer);
}

/* (sum over each head of r k r_k) v */
static tensor_id bonus(builder *b, const rwkv *p, tensor_id r, tensor_id k, tensor_id v) {
    int64_t width = p->attention / p->heads;
    tensor_id t = build_mul(b, ATT("bonus"), build_mul(b, ATT("bonus"), r, k), build_channels(b, ATT("r_k"), p->attention));
    strand_op_reduce_axis sum = {.kind = STRAND_AXIS_SUM, .axis = -1, .keep = 1};
    t = build_split_heads(b, ATT("bonus"), t, p->heads, width);
    if (build_failed(b)) return 0;
    t = graph_op(b->g, build_name(b, ATT("bonus.sum")), STRAND_OP_REDUCE_AXIS, &sum, &t, 1, NULL);
    t = build_mul(b, ATT("bonus"), build_split_heads(b, ATT("bonus"), v, p->heads, width), t);
    return build_join_heads(b, ATT("bonus"), t, p->attention);
}

static tensor_id delta(builder *b, const rwkv *p, tensor_id r, tensor_id w, tensor_id k, tensor_id v, tensor_id kappa,
                       tensor_id rate) {
    int64_t width = p->attention / p->heads;
    strand_op_delta_rule rule = {.heads = p->heads, .log_w = 1, .scale = 1};
    tensor_id next, state = build_state(b, ATT("state"), 3, (int64_t[]){p->heads, width, width});
    tensor_id away = build_unary(b, ATT("kappa.neg"), STRAND_UNARY_NEG, kappa, 0, 0),
              towards = build_mul(b, ATT("kappa.rate"), kappa, rate);
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, ATT("delta")), STRAND_OP_DELTA_RULE, &rule,
                            (tensor_id[]){r, w, k, v, away, towards, state}, 7, NULL, &next);
    build_state_next(b, state, next);
    return y;
}

static tensor_id time_mix(builder *b, const rwkv *p, tensor_id n, tensor_id *v_first) {
    const uint32_t plain = STRAND_UNARY_IDENTITY, sigmoid = STRAND_UNARY_SIGMOID;
    int64_t c = p->attention;
    build_shift s = build_shift_begin(b, ATT("shift"), n, p->d);
    tensor_id xr = mixed(b, p, &s, ATT("x_r"), 0), xw = mixed(b, p, &s, ATT("x_w"), 1), xk = mixed(b, p, &s, ATT("x_k"), 2),
              xv = mixed(b, p, &s, ATT("x_v"), 3), xa = mixed(b, p, &s, ATT("x_a"), 4), xg = mixed(b, p, &s, ATT("x_g"), 5);
    build_shift_end(b, &s);
    tensor_id r = build_linear(b, ATT("receptance"), xr, c, p->d, plain), k = build_linear(b, ATT("key"), xk, c, p->d, plain),
              v = build_linear(b, ATT("value"), xv, c, p->d, plain);
    tensor_id w = low_rank_pair(b, p, ATT("w1"), ATT("w2"), ATT("w0"), xw, STRAND_UNARY_TANH, sigmoid);
    w = build_unary(b, ATT("log_w"), STRAND_UNARY_AFFINE, w, (float)-exp(-0.5), 0);
    tensor_id a = low_rank_pair(b, p, ATT("a1"), ATT("a2"), ATT("a0"), xa, plain, sigmoid);
    tensor_id g = low_rank_pair(b, p, ATT("g1"), ATT("g2"), NULL, xg, sigmoid, plain);
    if (*v_first) {
        tensor_id back = build_binary(b, ATT("v.back"), STRAND_BINARY_SUB, *v_first, v);
        v = build_add(
            b, ATT("v.mixed"), v,
            build_mul(b, ATT("v.back"), back, low_rank_pair(b, p, ATT("v1"), ATT("v2"), ATT("v0"), xv, plain, sigmoid)));
    } else {
        *v_first = v;
    }
    strand_op_norm unit = {.kind = STRAND_NORM_L2, .eps_rule = STRAND_EPS_FLOOR, .groups = p->heads, .eps = 1e-12f};
    tensor_id kappa = build_norm(b, ATT("kappa"), &unit, build_mul(b, ATT("kappa"), k, build_channels(b, ATT("k_k"), c)), 0, 0);
    tensor_id less = build_unary(b, ATT("a.less"), STRAND_UNARY_AFFINE, a, 1, -1);
    less = build_mul(b, ATT("a.less"), less, build_channels(b, ATT("k_a"), c));
    k = build_add(b, ATT("k"), k, build_mul(b, ATT("k.less"), k, less));
    tensor_id y = rwkv_head_norm(b, p, delta(b, p, r, w, k, v, kappa, a));
    y = build_add(b, ATT("y"), y, bonus(b, p, r, k, v));
    return build_linear(b, ATT("output"), build_mul(b, ATT("gated"), y, g), p->d, c, plain);
}

static tensor_id channel_mix(builder *b, const rwkv *p, tensor_id n) {
    build_shift s = build_shift_begin(b, "blocks.*.ffn.shift", n, p->d);
    tensor_id x = build_shift_mix(b, "blocks.*.ffn.x_k", &s, build_flat(b, "blocks.*.ffn.x_k", p->d), STRAND_SHIFT_LERP_PREV);
    build_shift_end(b, &s);
    return build_linear(b, "blocks.*.ffn.value",
                        build_linear(b, "blocks.*.ffn.key", x, p->inner, p->d, STRAND_UNARY_SQUARED_RELU), p->d, p->inner,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const rwkv *p, tensor_id x, tensor_id *v_first) {
    x = build_add(b, "blocks.*.add1", x, time_mix(b, p, rwkv_norm(b, p, "blocks.*.ln1", x), v_first));
    if (build_has(b, "blocks.*.rosa")) x = build_add(b, "blocks.*.rosa", x, build_channels(b, "blocks.*.rosa", p->d));
    return build_add(b, "blocks.*.add2", x, channel_mix(b, p, rwkv_norm(b, p, "blocks.*.ln2", x)));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    rwkv p = {0};
    if (build_start(&b, m, config, e, rwkv_names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = rwkv_embedding(&b, &p), v_first = 0;
    for (b.layer = p.first; b.layer < p.first + p.layers && !build_failed(&b); b.layer++)
        x = rwkv_rescale(&b, &p, layer(&b, &p, x, &v_first));
    return rwkv_end(&b, &p, x);
}

static const char *const setting_keys[] = {BUILD_SETTINGS, "head_epsilon", NULL};

const family family_rwkv7 = {"rwkv7", recognise, build, setting_keys};

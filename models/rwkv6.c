/* rwkv6.c - RWKV-5 "Eagle" and RWKV-6 "Finch": Peng et al., arXiv 2404.05892; repository BlinkDL/RWKV-LM.
 *
 * Recognises BlinkDL's .pth files, rwkv.cpp's .bin files and, for RWKV-6, GGUF's names. The generation is told by the tensors:
 * 5.1 has decays for whole heads and no gate, 5.2 has decays for channels and a gate, 6 mixes and decays by what it reads.
 *
 * Time mixing of n = ln1 x with heads of N channels, S [N, N] for each:
 *   RWKV-5: x_c = n mix_c + (n before) (1 - mix_c);  w = exp(-exp(time_decay))
 *   RWKV-6: x_c = n + (n before - n) (maa_c + tanh((n + (n before - n) maa_x) W1)_c W2_c);  w = exp(-exp(time_decay + tanh(x_w
 *   D1) D2)) y = r (S + diag(u) k v^T);  S <- diag(w) S + k v^T;  x += O (ln_x(y) * silu(G x_g))
 * States: the two last n, and S [heads, N, N]. */
#include "rwkv.h"

#include <string.h>

#define ATT(part) "blocks.*.att." part

typedef struct rwkv6 {
    rwkv common;
    bool data_dependent; /* RWKV-6 */
    bool per_head;       /* RWKV-5.1: time_decay and time_first [heads] */
    bool gate;
} rwkv6;

static bool recognise6(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, rwkv_names, "blocks.0.att.time_decay_w1");
}

static bool recognise5(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, rwkv_names, "blocks.0.att.time_mix_k") &&
           build_recognises(w, rwkv_names, "blocks.0.att.ln_x.weight");
}

static strand_status configure(builder *b, rwkv6 *p) {
    rwkv *c = &p->common;
    if (rwkv_configure(b, c)) return b->e->status;
    p->data_dependent = build_has(b, ATT("time_decay_w1"));
    p->per_head = build_has(b, ATT("time_first"));
    p->gate = build_has(b, ATT("gate.weight"));
    const char *heads = p->per_head ? ATT("time_first") : ATT("time_faaaa");
    if (!c->heads) c->heads = build_extent(b, heads, 0);
    /* rwkv.cpp computes generation 5 with the epsilon of a plain group norm, on which its users' figures rest. */
    if (!p->data_dependent && !strcmp(weights_format(b->m->weights), "rwkv.cpp")) c->head_eps = 1e-5;
    if (rwkv_head_epsilon(b, c)) return b->e->status;
    if (c->heads < 1 || c->attention % c->heads) return build_refuse(b, "att.time_faaaa is not [heads, width]");
    return b->e->status;
}

/* ---- what differs: mixes, decays ---- */

static const char *const branches[] = {"w", "k", "v", "r", "g"};

/* RWKV-6: the five mixes by what is read, in the order of `branches`. */
static void mixes6(builder *b, const rwkv *p, tensor_id n, tensor_id out[5]) {
    bool gguf = build_has(b, ATT("w1")); /* GGUF names these as it names other ones of RWKV-7 */
    const char *w1 = gguf ? ATT("w1") : ATT("time_maa_w1"), *w2 = gguf ? ATT("w2") : ATT("time_maa_w2");
    int64_t d = p->d, five = rwkv_rank(b, p, w1), rank = five / 5;
    build_shift s = build_shift_begin(b, ATT("shift"), n, d);
    tensor_id x = build_shift_mix(b, ATT("mix_x"), &s, build_flat(b, ATT("time_maa_x"), d), STRAND_SHIFT_LERP_PREV);
    tensor_id away =
        build_binary(b, ATT("away"), STRAND_BINARY_SUB, build_shift_mix(b, ATT("before"), &s, 0, STRAND_SHIFT_LERP_PREV), n);
    build_shift_end(b, &s);
    tensor_id low = rwkv_low_rank(b, p, w1, x, d, five, 0, STRAND_UNARY_TANH);
    bool fused = build_has(b, ATT("x_rwkvag")); /* GGUF: the five base mixes in one */
    for (int i = 0; i < 5; i++) {
        char maa[] = ATT("time_maa_?");
        maa[sizeof maa - 2] = branches[i][0];
        tensor_id base = fused ? build_flat_part(b, ATT("x_rwkvag"), 5 * d, i * d, d) : build_flat(b, maa, d);
        tensor_id part = build_slice(b, maa, low, i * rank, rank), w;
        if (p->transposed)
            w = build_rows_flat(b, w2, 5 * d, i * d, d, rank),
            part = build_product(b, maa, part, w, base, STRAND_UNARY_IDENTITY);
        else
            w = build_rows_flat(b, w2, five, i * rank, rank, d),
            part = build_product_plain(b, maa, part, w, base, STRAND_UNARY_IDENTITY);
        out[i] = build_add(b, maa, n, build_mul(b, maa, away, part));
    }
}

static void mixes5(builder *b, const rwkv6 *p, tensor_id n, tensor_id out[5]) {
    build_shift s = build_shift_begin(b, ATT("shift"), n, p->common.d);
    for (int i = 1; i < (p->gate ? 5 : 4); i++) {
        char mix[] = ATT("time_mix_?");
        mix[sizeof mix - 2] = branches[i][0];
        out[i] = build_shift_mix(b, mix, &s, build_flat(b, mix, p->common.d), STRAND_SHIFT_LERP_X);
    }
    build_shift_end(b, &s);
}

/* One value a head, or a channel, to one a channel. */
static tensor_id per_channel(builder *b, const rwkv6 *p, const char *name, tensor_id x) {
    int64_t heads = p->common.heads, width = p->common.attention / heads;
    strand_op_repeat times = {.axis = 1, .times = width};
    if (!p->per_head || build_failed(b)) return x;
    x = build_reshape(b, name, x, 2, (op_dim[]){DIM(heads), DIM(1)});
    if (build_failed(b)) return 0;
    x = graph_op(b->g, build_name(b, name), STRAND_OP_REPEAT, &times, &x, 1, NULL);
    return build_reshape(b, name, x, 1, (op_dim[]){DIM(heads * width)});
}

static tensor_id function(builder *b, const char *name, uint32_t kind, tensor_id x) {
    return build_unary(b, name, kind, x, 0, 0);
}

/* RWKV-5's ln w, [channels]: rwkv.cpp stores w itself. */
static tensor_id decay5(builder *b, const rwkv6 *p) {
    tensor_id x = build_flat(b, ATT("time_decay"), p->per_head ? p->common.heads : p->common.attention);
    if (p->common.transposed) return per_channel(b, p, ATT("decay"), function(b, ATT("decay"), STRAND_UNARY_LOG, x));
    return per_channel(b, p, ATT("decay"),
                       function(b, ATT("decay"), STRAND_UNARY_NEG, function(b, ATT("decay"), STRAND_UNARY_EXP, x)));
}

static tensor_id decay6(builder *b, const rwkv *p, tensor_id xw) {
    int64_t rank = rwkv_rank(b, p, ATT("time_decay_w1"));
    tensor_id low = rwkv_low_rank(b, p, ATT("time_decay_w1"), xw, p->d, rank, 0, STRAND_UNARY_TANH);
    tensor_id x = rwkv_low_rank(b, p, ATT("time_decay_w2"), low, rank, p->attention,
                                build_flat(b, ATT("time_decay"), p->attention), STRAND_UNARY_EXP);
    return function(b, ATT("log_w"), STRAND_UNARY_NEG, x);
}

static tensor_id first(builder *b, const rwkv6 *p) {
    if (!p->per_head) return build_flat(b, ATT("time_faaaa"), p->common.attention);
    tensor_id x = build_flat(b, ATT("time_first"), p->common.heads);
    return per_channel(b, p, ATT("first"), p->common.transposed ? x : function(b, ATT("first"), STRAND_UNARY_EXP, x));
}

/* ---- a layer ---- */

static tensor_id time_mix(builder *b, const rwkv6 *p, tensor_id n) {
    const rwkv *c = &p->common;
    int64_t width = c->attention / c->heads;
    tensor_id x[5] = {0}, next;
    if (p->data_dependent)
        mixes6(b, c, n, x);
    else
        mixes5(b, p, n, x);
    tensor_id in[] = {build_linear(b, ATT("receptance"), x[3], c->attention, c->d, STRAND_UNARY_IDENTITY),
                      build_linear(b, ATT("key"), x[1], c->attention, c->d, STRAND_UNARY_IDENTITY),
                      build_linear(b, ATT("value"), x[2], c->attention, c->d, STRAND_UNARY_IDENTITY),
                      p->data_dependent ? decay6(b, c, x[0]) : decay5(b, p),
                      first(b, p),
                      build_state(b, ATT("state"), 3, (int64_t[]){c->heads, width, width})};
    strand_op_gated_linear_attention rule = {.heads = c->heads, .log_w = 1, .scale = 1};
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, ATT("wkv")), STRAND_OP_GATED_LINEAR_ATTENTION, &rule, in, 6, NULL, &next);
    build_state_next(b, in[5], next);
    y = rwkv_head_norm(b, c, y);
    if (p->gate) y = build_mul(b, ATT("gated"), y, build_linear(b, ATT("gate"), x[4], c->attention, c->d, STRAND_UNARY_SILU));
    return build_linear(b, ATT("output"), y, c->d, c->attention, STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const rwkv6 *p, tensor_id x) {
    const rwkv *c = &p->common;
    const char *mix_k = !p->data_dependent                 ? "blocks.*.ffn.time_mix_k"
                        : build_has(b, "blocks.*.ffn.x_k") ? "blocks.*.ffn.x_k"
                                                           : "blocks.*.ffn.time_maa_k";
    const char *mix_r = !p->data_dependent ? "blocks.*.ffn.time_mix_r" : "blocks.*.ffn.time_maa_r";
    x = build_add(b, "blocks.*.add1", x, time_mix(b, p, rwkv_norm(b, c, "blocks.*.ln1", x)));
    tensor_id y = rwkv_channel_mix(b, c, mix_k, mix_r, p->data_dependent ? STRAND_SHIFT_LERP_PREV : STRAND_SHIFT_LERP_X,
                                   rwkv_norm(b, c, "blocks.*.ln2", x));
    return build_add(b, "blocks.*.add2", x, y);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    rwkv6 p = {0};
    if (build_start(&b, m, config, e, rwkv_names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = rwkv_embedding(&b, &p.common);
    for (b.layer = 0; b.layer < p.common.layers && !build_failed(&b); b.layer++)
        x = rwkv_rescale(&b, &p.common, layer(&b, &p, x));
    return rwkv_end(&b, &p.common, x);
}

static const char *const setting_keys[] = {BUILD_SETTINGS, "head_epsilon", NULL};

const family family_rwkv5 = {"rwkv5", recognise5, build, setting_keys};
const family family_rwkv6 = {"rwkv6", recognise6, build, setting_keys};

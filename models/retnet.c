/* retnet.c - RetNet: Sun et al., "Retentive Network", arXiv 2307.08621, as flash-linear-attention publishes it
 * (fla-hub/retnet-...).
 *
 * Recognises that repository's Hugging Face layout, with separate or fused gate and up matrices. Sizes come from the tensors'
 * shapes, heads and epsilon from config.json.
 *
 * A layer, H heads of dk keys and dv values, head h decaying by 1 - 2^(-5-h), n = rms_norm x:
 *   q, k rotated (halves of a head), q / sqrt(dk);  S <- decay S + v k^T;  y = S q
 *   x += o (rms_norm of each head's y, times silu(g n));  x += down (silu(gate n) * up n), n = rms_norm x
 * The recurrence is that of Mamba-2 with a fixed decay, run by the same operator. State: S [H, dv, dk]. */
#include <math.h>

#include "build.h"

static const build_rename names[] = {{"model.", ""}, {NULL, NULL}};

typedef struct retnet {
    int64_t d, layers, vocabulary, heads, keys, values, inner; /* keys, values: of all heads */
    double eps, base;
    tensor_id decay; /* ln(1 - 2^(-5-h)), [heads] */
} retnet;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.attn.g_norm_swish_gate.weight") &&
           build_recognises(w, names, "layers.*.attn.g_proj.weight");
}

static strand_status configure(builder *b, retnet *p) {
    const json *root = b->config->root;
    p->vocabulary = build_extent(b, "embeddings.weight", 0);
    p->d = build_extent(b, "embeddings.weight", 1);
    p->layers = build_count_layers(b, "layers.*.attn.q_proj.weight");
    p->keys = build_extent(b, "layers.*.attn.q_proj.weight", 0);
    p->values = build_extent(b, "layers.*.attn.v_proj.weight", 0);
    p->inner = build_extent(b, "layers.*.mlp.down_proj.weight", 1);
    if (p->d < 1 || p->vocabulary < 1 || p->keys < 1 || p->values < 1 || p->inner < 1)
        return build_refuse(b, "the embedding or layer 0 is missing or has no usable shape");
    p->heads = build_int(b, "num_heads", -1, 1, p->keys);
    p->eps = build_number(b, "norm_eps", 1e-6, 0, 1);
    p->base = build_number(b, "rope_theta", 10000, 1e-6, 1e30);
    if (build_failed(b)) return b->e->status;
    if (p->keys % (2 * p->heads) || p->values % p->heads)
        return build_refuse(b, "%lld heads do not divide keys and values", (long long)p->heads);
    if (json_bool(root, "use_short_conv", false) || build_int(b, "num_kv_heads", p->heads, 1, p->keys) != p->heads)
        return build_refuse(b, "config.json: short convolutions and shared key heads are not supported");
    build_lengths(b, 0);
    return b->e->status;
}

static void make_decay(builder *b, retnet *p) {
    if (p->heads > 1024) {
        build_refuse(b, "config.json: num_heads is %lld; at most 1024 are supported", (long long)p->heads);
        return;
    }
    float decay[1024];
    for (int64_t h = 0; h < p->heads; h++) decay[h] = (float)log1p(-pow(2, -5 - (double)h));
    p->decay = build_constant(b, "decay", 1, &p->heads, decay);
}

/* Rotated, and multiplied by `magnitude`. */
static tensor_id rotate(builder *b, const retnet *p, const char *name, tensor_id x, double magnitude) {
    strand_op_rotary r = {.heads = p->heads,
                          .rotary = p->keys / p->heads,
                          .base = (float)p->base,
                          .position_scale = 1,
                          .magnitude = (float)magnitude};
    return build_failed(b)
               ? 0
               : graph_op(b->g, build_name(b, name), STRAND_OP_ROTARY, &r, (tensor_id[]){x, graph_positions(b->g)}, 2, NULL);
}

/* The one weight [dv] of the heads' norm, for all of them. */
static tensor_id head_weight(builder *b, const retnet *p) {
    strand_op_repeat times = {.axis = 0, .times = p->heads};
    tensor_id w = build_vector(b, "layers.*.attn.g_norm_swish_gate.weight", p->values / p->heads);
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, "layers.*.attn.norm"), STRAND_OP_REPEAT, &times, &w, 1, NULL);
}

static tensor_id retention(builder *b, const retnet *p, tensor_id n) {
    const uint32_t plain = STRAND_UNARY_IDENTITY;
    int64_t dk = p->keys / p->heads, dv = p->values / p->heads;
    tensor_id q =
        rotate(b, p, "layers.*.attn.q", build_linear(b, "layers.*.attn.q_proj", n, p->keys, p->d, plain), 1 / sqrt((double)dk));
    tensor_id k = rotate(b, p, "layers.*.attn.k", build_linear(b, "layers.*.attn.k_proj", n, p->keys, p->d, plain), 1);
    tensor_id v = build_linear(b, "layers.*.attn.v_proj", n, p->values, p->d, plain), next;
    tensor_id state = build_state(b, "layers.*.attn.state", 3, (int64_t[]){p->heads, dv, dk});
    strand_op_ssd rule = {.heads = p->heads, .groups = p->heads, .precision = b->precision};
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.attn.retention"), STRAND_OP_SSD, &rule,
                            (tensor_id[]){v, p->decay, k, q, 0, 0, 0, state}, 8, NULL, &next);
    build_state_next(b, state, next);
    strand_op_norm rms = {.kind = STRAND_NORM_RMS, .groups = p->heads, .eps = (float)p->eps};
    y = build_norm(b, "layers.*.attn.norm", &rms, y, head_weight(b, p), 0);
    tensor_id g = build_linear(b, "layers.*.attn.g_proj", n, p->values, p->d, plain);
    return build_linear(b, "layers.*.attn.o_proj", build_gate(b, "layers.*.attn.gate", STRAND_UNARY_SILU, g, y), p->d,
                        p->values, plain);
}

static tensor_id mlp(builder *b, const retnet *p, tensor_id n) {
    static const build_glu apart = {"layers.*.mlp.gate_proj", "layers.*.mlp.up_proj", "layers.*.mlp.down_proj",
                                    STRAND_UNARY_SILU};
    if (build_has(b, "layers.*.mlp.up_proj.weight")) return build_gated_mlp(b, &apart, n, p->d, p->inner);
    tensor_id gate = build_linear_rows(b, apart.gate, n, 2 * p->inner, 0, p->inner, p->d, STRAND_UNARY_IDENTITY);
    tensor_id up = build_linear_rows(b, apart.gate, n, 2 * p->inner, p->inner, p->inner, p->d, STRAND_UNARY_IDENTITY);
    return build_linear(b, apart.down, build_gate(b, "layers.*.mlp.gate", STRAND_UNARY_SILU, gate, up), p->d, p->inner,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const retnet *p, tensor_id x) {
    x = build_add(b, "layers.*.add1", x, retention(b, p, build_rms_norm(b, "layers.*.attn_norm", x, p->d, p->eps)));
    return build_add(b, "layers.*.add2", x, mlp(b, p, build_rms_norm(b, "layers.*.mlp_norm", x, p->d, p->eps)));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    retnet p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    make_decay(&b, &p);
    tensor_id x = build_embedding(&b, "embeddings", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embeddings", build_rms_norm(&b, "norm", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, NULL};

const family family_retnet = {"retnet", recognise, build, setting_keys};

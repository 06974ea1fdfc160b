/* gpt_neox.c - GPT-NeoX and Pythia: Black et al., arXiv 2204.06745; Biderman et al., arXiv 2304.01373.
 *
 * Recognises Hugging Face's names and GGUF's. Sizes come from the tensors' shapes, heads and rotation from config.json or
 * metadata. The buffers that older files hold (attention.bias, masked_bias, rotary_emb.inv_freq) are passed over.
 *
 * A layer: x += o attention(norm1 x) + down act(up norm2 x), both of the same x; without use_parallel_residual one after the
 * other. The rows of query_key_value stand head by head, q, k and v of one head together (in GGUF files all q, all k, all v).
 * States: a cache of keys and values for `context` tokens. */
#include "attention.h"

static const build_rename names[] = {{"gpt_neox.", ""},
                                     {"embed_in", "embedding"},
                                     {"embed_out", "lm_head"},
                                     {"final_layer_norm", "norm"},
                                     {"layers.*.input_layernorm", "layers.*.norm1"},
                                     {"layers.*.post_attention_layernorm", "layers.*.norm2"},
                                     {"layers.*.attention.query_key_value", "layers.*.qkv"},
                                     {"layers.*.attention.dense", "layers.*.o"},
                                     {"layers.*.mlp.dense_h_to_4h", "layers.*.up"},
                                     {"layers.*.mlp.dense_4h_to_h", "layers.*.down"},
                                     /* GGUF */
                                     {"token_embd", "embedding"},
                                     {"output_norm", "norm"},
                                     {"output", "lm_head"},
                                     {"blk.*.attn_norm", "layers.*.norm1"},
                                     {"blk.*.attn_qkv", "layers.*.qkv"},
                                     {"blk.*.attn_output", "layers.*.o"},
                                     {"blk.*.ffn_norm", "layers.*.norm2"},
                                     {"blk.*.ffn_up", "layers.*.up"},
                                     {"blk.*.ffn_down", "layers.*.down"},
                                     {NULL, NULL}};

typedef struct neox {
    int64_t d, layers, vocabulary, inner, longest;
    double eps;
    uint32_t activation;
    bool parallel, apart; /* apart: all q, all k, all v */
    build_attention attention;
} neox;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.qkv.weight") && build_recognises(w, names, "layers.*.norm2.bias") &&
           build_recognises(w, names, "layers.*.up.weight");
}

static strand_status from_config(builder *b, neox *p) {
    build_attention *a = &p->attention;
    const json *root = b->config->root;
    a->heads = build_int(b, "num_attention_heads", -1, 1, p->d);
    p->eps = build_number(b, "layer_norm_eps", 1e-5, 0, 1);
    p->longest = build_int(b, "max_position_embeddings", 2048, 1, INT32_MAX);
    p->parallel = json_bool(root, "use_parallel_residual", true);
    p->activation = build_activation(b, json_text(root, "hidden_act", "gelu"));
    const json *rope = root ? json_get(root, "rope_parameters") : NULL;
    double part = build_number(b, "rotary_pct", json_number(rope, "partial_rotary_factor", 0.25), 0, 1);
    double base = build_number(b, "rotary_emb_base", 10000, 1e-6, 1e30);
    if (build_failed(b)) return b->e->status;
    a->width = p->d / a->heads;
    a->rotary = (int64_t)((double)a->width * part);
    return build_rope(b, a, base, p->longest);
}

static strand_status from_metadata(builder *b, neox *p) {
    build_attention *a = &p->attention;
    a->heads = build_meta_int(b, "attention.head_count", -1, 1, p->d);
    p->eps = build_meta_number(b, "attention.layer_norm_epsilon", 1e-5, 0, 1);
    p->longest = build_meta_int(b, "context_length", 2048, 1, INT32_MAX);
    p->parallel = build_meta_bool(b, "use_parallel_residual", true);
    p->activation = STRAND_UNARY_GELU;
    if (build_failed(b)) return b->e->status;
    a->width = p->d / a->heads;
    a->rotary = build_meta_int(b, "rope.dimension_count", a->width / 4, 0, a->width);
    return build_rope(b, a, 10000, p->longest);
}

static strand_status configure(builder *b, neox *p) {
    build_attention *a = &p->attention;
    p->vocabulary = build_extent(b, "embedding.weight", 0);
    p->d = build_extent(b, "embedding.weight", 1);
    p->layers = build_count_layers(b, "layers.*.qkv.weight");
    p->inner = build_extent(b, "layers.*.up.weight", 0);
    p->apart = build_architecture(b) != NULL;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1)
        return build_refuse(b, "the embedding or layer 0 is missing or has no usable shape");
    if (p->apart ? from_metadata(b, p) : from_config(b, p)) return b->e->status;
    if (p->d % a->heads || a->rotary % 2)
        return build_refuse(b, "%lld heads or %lld rotary elements do not fit", (long long)a->heads, (long long)a->rotary);
    a->kv_heads = a->heads;
    return build_context(b, p->longest, 0);
}

/* Part 0, 1 or 2 of query_key_value's result `x` (or of its rows). */
static tensor_id part(builder *b, const neox *p, tensor_id n, tensor_id x, int which) {
    static const char *const labels[] = {"layers.*.q", "layers.*.k", "layers.*.v"};
    int64_t width = p->attention.width;
    if (p->apart) return build_linear_rows(b, "layers.*.qkv", n, 3 * p->d, which * p->d, p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id heads = build_split_heads(b, labels[which], x, p->attention.heads, 3 * width);
    return build_join_heads(b, labels[which], build_slice(b, labels[which], heads, which * width, width), p->d);
}

static tensor_id attention(builder *b, const neox *p, tensor_id n) {
    tensor_id x = p->apart ? 0 : build_linear(b, "layers.*.qkv", n, 3 * p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id q = part(b, p, n, x, 0), k = part(b, p, n, x, 1), v = part(b, p, n, x, 2);
    return build_linear(b, "layers.*.o", build_attend(b, "layers.*.attention", &p->attention, q, k, v), p->d, p->d,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id mlp(builder *b, const neox *p, tensor_id n) {
    return build_linear(b, "layers.*.down", build_linear(b, "layers.*.up", n, p->inner, p->d, p->activation), p->d, p->inner,
                        STRAND_UNARY_IDENTITY);
}

static tensor_id layer(builder *b, const neox *p, tensor_id x) {
    tensor_id y = build_add(b, "layers.*.add1", x, attention(b, p, build_layer_norm(b, "layers.*.norm1", x, p->d, p->eps)));
    tensor_id n = build_layer_norm(b, "layers.*.norm2", p->parallel ? x : y, p->d, p->eps);
    return build_add(b, "layers.*.add2", y, mlp(b, p, n));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    neox p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embedding", build_layer_norm(&b, "norm", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_gpt_neox = {"gpt_neox", recognise, build, setting_keys};

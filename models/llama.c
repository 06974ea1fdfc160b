/* llama.c - Llama: Touvron et al., arXiv 2302.13971 and 2307.09288; with the same layers Mistral (arXiv 2310.06825, a window)
 * and Qwen2 (arXiv 2407.10671, biases of q, k and v).
 *
 * Recognises Hugging Face's names (whose rotary pairs are the halves of a head), Meta's own and those of llama2.c (pairs side
 * by side), and GGUF's (pairs side by side again). Sizes come from the tensors' shapes; heads, epsilon and rotation from
 * config.json (or Meta's params.json) or from the file itself.
 *
 * A layer: x += o attention(rotary(q n), rotary(k n), v n), n = rms_norm x;  x += down (silu(gate n) * up n), n = rms_norm x.
 * States: a cache of keys and values for `context` tokens. */
#include "attention.h"

#include <string.h>

static const build_rename names[] = {{"model.", ""},
                                     {"embed_tokens", "embedding"},
                                     {"layers.*.self_attn.q_proj", "layers.*.q"},
                                     {"layers.*.self_attn.k_proj", "layers.*.k"},
                                     {"layers.*.self_attn.v_proj", "layers.*.v"},
                                     {"layers.*.self_attn.o_proj", "layers.*.o"},
                                     {"layers.*.input_layernorm", "layers.*.norm1"},
                                     {"layers.*.post_attention_layernorm", "layers.*.norm2"},
                                     {"layers.*.mlp.gate_proj", "layers.*.gate"},
                                     {"layers.*.mlp.up_proj", "layers.*.up"},
                                     {"layers.*.mlp.down_proj", "layers.*.down"},
                                     /* Meta, llama2.c */
                                     {"tok_embeddings", "embedding"},
                                     {"output", "lm_head"},
                                     {"layers.*.attention.wq", "layers.*.q"},
                                     {"layers.*.attention.wk", "layers.*.k"},
                                     {"layers.*.attention.wv", "layers.*.v"},
                                     {"layers.*.attention.wo", "layers.*.o"},
                                     {"layers.*.attention_norm", "layers.*.norm1"},
                                     {"layers.*.ffn_norm", "layers.*.norm2"},
                                     {"layers.*.feed_forward.w1", "layers.*.gate"},
                                     {"layers.*.feed_forward.w2", "layers.*.down"},
                                     {"layers.*.feed_forward.w3", "layers.*.up"},
                                     /* GGUF */
                                     {"token_embd", "embedding"},
                                     {"output_norm", "norm"},
                                     {"blk.*.attn_q", "layers.*.q"},
                                     {"blk.*.attn_k", "layers.*.k"},
                                     {"blk.*.attn_v", "layers.*.v"},
                                     {"blk.*.attn_output", "layers.*.o"},
                                     {"blk.*.attn_norm", "layers.*.norm1"},
                                     {"blk.*.ffn_norm", "layers.*.norm2"},
                                     {"blk.*.ffn_gate", "layers.*.gate"},
                                     {"blk.*.ffn_up", "layers.*.up"},
                                     {"blk.*.ffn_down", "layers.*.down"},
                                     {NULL, NULL}};

typedef struct llama {
    int64_t d, layers, vocabulary, inner, longest;
    double eps;
    build_attention attention;
} llama;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "layers.*.q.weight") && build_recognises(w, names, "layers.*.gate.weight") &&
           build_recognises(w, names, "layers.*.norm2.weight");
}

/* Names alone do not tell Llama from models that compute something else with them. */
static strand_status known_model(builder *b) {
    static const char *const known[] = {"llama", "mistral", "qwen2"};
    const char *type = json_text(b->config->root, "model_type", "llama");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(type, known[i]))
            return build_has(b, "layers.*.self_attn.q_norm.weight")
                       ? build_refuse(b, "norms of queries and keys are not supported")
                       : STRAND_OK;
    return build_refuse(b, "config.json: model_type '%.40s' has Llama's tensor names but is not supported", type);
}

static int64_t either(builder *b, const char *key, const char *other, int64_t fallback) {
    return build_int(b, key, build_int(b, other, fallback, -1, INT32_MAX), 1, INT32_MAX);
}

static strand_status from_config(builder *b, llama *p) {
    const json *root = b->config->root;
    build_attention *a = &p->attention;
    if (known_model(b)) return b->e->status;
    a->heads = either(b, "num_attention_heads", "n_heads", -1);
    a->kv_heads = either(b, "num_key_value_heads", "n_kv_heads", a->heads);
    p->eps = build_number(b, "rms_norm_eps", build_number(b, "norm_eps", 1e-5, 0, 1), 0, 1);
    p->longest = either(b, "max_position_embeddings", "max_seq_len", 4096);
    bool windowed = json_bool(root, "use_sliding_window", strcmp(json_text(root, "model_type", "llama"), "mistral") == 0);
    a->window = windowed ? build_int(b, "sliding_window", 0, 0, INT32_MAX) : 0;
    if (strcmp(json_text(root, "hidden_act", "silu"), "silu") != 0)
        return build_refuse(b, "config.json: hidden_act is not silu");
    if (a->heads < 1 || build_failed(b)) return build_refuse(b, "the number of heads is missing");
    a->width = build_extent(b, "layers.*.q.weight", 0) / a->heads;
    a->rotary = a->width;
    return build_rope(b, a, 10000, p->longest);
}

/* GGUF. Pairs of Llama's stand side by side there, those of Qwen2 are halves. */
static strand_status from_metadata(builder *b, llama *p) {
    build_attention *a = &p->attention;
    bool qwen = !strcmp(build_architecture(b), "qwen2");
    if (!qwen && strcmp(build_architecture(b), "llama") != 0)
        return build_refuse(b, "GGUF architecture '%.40s' has Llama's tensor names but is not supported",
                            build_architecture(b));
    a->heads = build_meta_int(b, "attention.head_count", -1, 1, INT32_MAX);
    a->kv_heads = build_meta_int(b, "attention.head_count_kv", a->heads, 1, INT32_MAX);
    p->eps = build_meta_number(b, "attention.layer_norm_rms_epsilon", 1e-5, 0, 1);
    p->longest = build_meta_int(b, "context_length", 4096, 1, INT32_MAX);
    a->window = build_meta_int(b, "attention.sliding_window", 0, 0, INT32_MAX);
    a->interleaved = !qwen;
    if (build_failed(b)) return b->e->status;
    a->width = build_extent(b, "layers.*.q.weight", 0) / a->heads;
    a->rotary = build_meta_int(b, "rope.dimension_count", a->width, 0, a->width);
    return build_rope(b, a, 10000, p->longest);
}

/* What llama2.c's header says, which the reader left as metadata. */
static strand_status from_llama2c(builder *b, llama *p) {
    build_attention *a = &p->attention;
    if (!config_parse_integer(weights_metadata(b->m->weights, "heads"), &a->heads) ||
        !config_parse_integer(weights_metadata(b->m->weights, "kv_heads"), &a->kv_heads) ||
        !config_parse_integer(weights_metadata(b->m->weights, "context"), &p->longest))
        return build_refuse(b, "the file's header is not usable");
    p->eps = 1e-5;
    a->base = 10000;
    a->interleaved = true;
    a->rotary = a->width = build_extent(b, "layers.*.q.weight", 0) / a->heads;
    return STRAND_OK;
}

static strand_status configure(builder *b, llama *p) {
    build_attention *a = &p->attention;
    p->vocabulary = build_extent(b, "embedding.weight", 0);
    p->d = build_extent(b, "embedding.weight", 1);
    p->layers = build_count_layers(b, "layers.*.q.weight");
    p->inner = build_extent(b, "layers.*.gate.weight", 0);
    a->interleaved = weights_find(b->m->weights, "tok_embeddings.weight") != NULL;
    bool header = !strcmp(weights_format(b->m->weights), "llama2.c");
    if (header ? from_llama2c(b, p) : build_architecture(b) ? from_metadata(b, p) : from_config(b, p)) return b->e->status;
    if (a->heads % a->kv_heads)
        return build_refuse(b, "%lld heads are no multiple of %lld key heads", (long long)a->heads, (long long)a->kv_heads);
    if (a->width < 2 || a->width % 2)
        return build_refuse(b, "heads are %lld wide; an even number is needed", (long long)a->width);
    return build_context(b, p->longest, a->window);
}

static tensor_id layer(builder *b, const llama *p, tensor_id x) {
    static const build_glu mlp = {"layers.*.gate", "layers.*.up", "layers.*.down", STRAND_UNARY_SILU};
    const build_attention *a = &p->attention;
    int64_t q_rows = a->heads * a->width, k_rows = a->kv_heads * a->width;
    tensor_id n = build_rms_norm(b, "layers.*.norm1", x, p->d, p->eps);
    tensor_id q = build_linear(b, "layers.*.q", n, q_rows, p->d, STRAND_UNARY_IDENTITY),
              k = build_linear(b, "layers.*.k", n, k_rows, p->d, STRAND_UNARY_IDENTITY),
              v = build_linear(b, "layers.*.v", n, k_rows, p->d, STRAND_UNARY_IDENTITY);
    tensor_id y = build_attend(b, "layers.*.attention", a, q, k, v);
    x = build_add(b, "layers.*.add1", x, build_linear(b, "layers.*.o", y, p->d, q_rows, STRAND_UNARY_IDENTITY));
    n = build_rms_norm(b, "layers.*.norm2", x, p->d, p->eps);
    return build_add(b, "layers.*.add2", x, build_gated_mlp(b, &mlp, n, p->d, p->inner));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    llama p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embedding", build_rms_norm(&b, "norm", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_llama = {"llama", recognise, build, setting_keys};

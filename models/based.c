/* based.c - Based: Arora et al., "Simple linear attention language models balance the recall-throughput tradeoff", arXiv
 * 2402.18668; repository HazyResearch/based.
 *
 * Recognises that repository's layout (transformer.layers, with or without "model."). What mixes tokens in a layer is told by
 * its tensors: a gated short convolution, linear attention, or attention in a sliding window. Heads, window, epsilon from
 * config.json.
 *
 * A layer, n = rms_norm x:
 *   convolution: (u, w) = in_proj n;  x += out_proj (silu(causal convolution of u) * w)
 *   linear attention: x += out_proj of LINEAR_ATTENTION with the second-order Taylor features of exp(q k / sqrt(width))
 *   window: x += out_proj of attention, rotary (halves of a head), of the token itself and window / 2 before it
 *   x += fc2 (y * silu(g)), (y, g) = fc1 n, n = rms_norm x.
 * States: the convolution's last inputs; the sums over features [heads, features, values + 1]; caches. */
#include <string.h>

#include "attention.h"

static const build_rename names[] = {
    {"model.", ""}, {"transformer.", ""}, {"embeddings.word_embeddings", "embedding"}, {NULL, NULL}};

typedef struct based {
    int64_t d, layers, vocabulary, inner, heads, taps;
    double eps, feature_eps;
    bool attends;
    build_attention attention;
} based;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    if (!build_recognises(w, names, "layers.*.mlp.fc1.weight") || !build_recognises(w, names, "layers.*.norm1.weight"))
        return false;
    for (int64_t i = 0; i < weights_count(w); i++)
        if (strstr(weights_at(w, i)->name, ".mixer.proj_q.")) return true;
    return false;
}

/* The object of config.json that describes one kind of mixer. */
static const json *mixer_of(const builder *b, const char *key) {
    const json *o = b->config->root ? json_get(b->config->root, key) : NULL;
    return o && o->type == JSON_OBJECT ? o : NULL;
}

static strand_status configure(builder *b, based *p) {
    build_attention *a = &p->attention;
    const json *linear = mixer_of(b, "alt_mixer"), *slide = mixer_of(b, "alt_mixer_2");
    p->vocabulary = build_extent(b, "embedding.weight", 0);
    p->d = build_extent(b, "embedding.weight", 1);
    p->layers = build_count_layers(b, "layers.*.norm1.weight");
    p->inner = build_extent(b, "layers.*.mlp.fc1.weight", 0) / 2;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1)
        return build_refuse(b, "the embedding or layer 0 is missing or has no usable shape");
    p->heads = build_int_of(b, linear, "num_heads", build_int(b, "n_head", 16, 1, p->d), 1, p->d);
    p->eps = build_number(b, "layer_norm_epsilon", 1e-5, 0, 1);
    p->feature_eps = json_number(linear, "eps", 1e-12);
    for (b->layer = 0; b->layer < p->layers; b->layer++) {
        p->attends = p->attends || build_has(b, "layers.*.mixer.Wqkv.weight");
        if (build_has(b, "layers.*.mixer.conv.conv.weight")) p->taps = build_extent(b, "layers.*.mixer.conv.conv.weight", 2);
    }
    b->layer = 0;
    if (build_failed(b)) return b->e->status;
    if (!p->attends) {
        build_lengths(b, 0);
        return STRAND_OK;
    }
    a->heads = a->kv_heads = build_int_of(b, slide, "num_heads", p->heads, 1, p->d);
    if (build_failed(b) || p->d % (2 * a->heads))
        return build_refuse(b, "heads do not divide a width of %lld", (long long)p->d);
    a->width = p->d / a->heads;
    a->window = build_int_of(b, slide, "window_size", 128, 1, INT32_MAX) / 2 + 1;
    a->rotary = (int64_t)((double)a->width * build_number(b, "rotary_emb_fraction", 1, 0, 1)) / 2 * 2;
    a->base = build_number(b, "rotary_emb_base", 10000, 1e-6, 1e30);
    return build_context(b, 0, a->window);
}

static tensor_id convolution(builder *b, const based *p, tensor_id n) {
    int64_t rows = build_extent(b, "layers.*.mixer.in_proj.weight", 0), half = rows / 2;
    tensor_id u = build_linear_rows(b, "layers.*.mixer.in_proj", n, rows, 0, half, p->d, STRAND_UNARY_IDENTITY);
    tensor_id w = build_linear_rows(b, "layers.*.mixer.in_proj", n, rows, half, half, p->d, STRAND_UNARY_IDENTITY);
    u = build_short_conv(b, "layers.*.mixer.conv.conv", u, half, p->taps, STRAND_UNARY_SILU);
    return build_linear(b, "layers.*.mixer.out_proj", build_mul(b, "layers.*.mixer.gated", u, w), p->d, half,
                        STRAND_UNARY_IDENTITY);
}

/* out_proj of an attention, which has a bias or not whatever the convolutions' ones have. */
static tensor_id out_proj(builder *b, const based *p, tensor_id y, int64_t columns) {
    tensor_id w = build_matrix(b, "layers.*.mixer.out_proj.weight", p->d, columns);
    return build_product(b, "layers.*.mixer.out_proj", y, w, build_vector_if(b, "layers.*.mixer.out_proj.bias", p->d),
                         STRAND_UNARY_IDENTITY);
}

static tensor_id linear_attention(builder *b, const based *p, tensor_id n) {
    int64_t keys = build_extent(b, "layers.*.mixer.proj_q.weight", 0),
            values = build_extent(b, "layers.*.mixer.proj_v.weight", 0), h = p->heads;
    if (keys < h || keys % h || values < h || values % h) {
        build_refuse(b, "proj_q or proj_v of layer %lld is no whole number of heads", (long long)b->layer);
        return 0;
    }
    int64_t d = keys / h, dims[] = {h, 1 + d + d * d, values / h + 1};
    strand_op_linear_attention rule = {
        .heads = h, .feature = STRAND_FEATURE_TAYLOR2, .normalise = 1, .eps = (float)p->feature_eps};
    tensor_id q = build_linear(b, "layers.*.mixer.proj_q", n, keys, p->d, STRAND_UNARY_IDENTITY);
    tensor_id k = build_linear(b, "layers.*.mixer.proj_k", n, keys, p->d, STRAND_UNARY_IDENTITY);
    tensor_id v = build_linear(b, "layers.*.mixer.proj_v", n, values, p->d, STRAND_UNARY_IDENTITY), next;
    tensor_id state = build_state(b, "layers.*.mixer.state", 3, dims);
    if (build_failed(b)) return 0;
    tensor_id y = graph_op2(b->g, build_name(b, "layers.*.mixer"), STRAND_OP_LINEAR_ATTENTION, &rule,
                            (tensor_id[]){q, k, v, state}, 4, NULL, &next);
    build_state_next(b, state, next);
    return out_proj(b, p, y, values);
}

static tensor_id window(builder *b, const based *p, tensor_id n) {
    tensor_id q = build_linear_rows(b, "layers.*.mixer.Wqkv", n, 3 * p->d, 0, p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id k = build_linear_rows(b, "layers.*.mixer.Wqkv", n, 3 * p->d, p->d, p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id v = build_linear_rows(b, "layers.*.mixer.Wqkv", n, 3 * p->d, 2 * p->d, p->d, p->d, STRAND_UNARY_IDENTITY);
    return out_proj(b, p, build_attend(b, "layers.*.mixer", &p->attention, q, k, v), p->d);
}

static tensor_id layer(builder *b, const based *p, tensor_id x) {
    tensor_id n = build_rms_norm(b, "layers.*.norm1", x, p->d, p->eps), y;
    if (build_has(b, "layers.*.mixer.Wqkv.weight"))
        y = window(b, p, n);
    else
        y = build_has(b, "layers.*.mixer.proj_q.weight") ? linear_attention(b, p, n) : convolution(b, p, n);
    x = build_add(b, "layers.*.add1", x, y);
    n = build_rms_norm(b, "layers.*.norm2", x, p->d, p->eps);
    tensor_id up = build_linear_rows(b, "layers.*.mlp.fc1", n, 2 * p->inner, 0, p->inner, p->d, STRAND_UNARY_IDENTITY);
    tensor_id gate = build_linear_rows(b, "layers.*.mlp.fc1", n, 2 * p->inner, p->inner, p->inner, p->d, STRAND_UNARY_IDENTITY);
    y = build_linear(b, "layers.*.mlp.fc2", build_gate(b, "layers.*.mlp.gate", STRAND_UNARY_SILU, gate, up), p->d, p->inner,
                     STRAND_UNARY_IDENTITY);
    return build_add(b, "layers.*.add2", x, y);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    based p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embedding", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embedding", build_rms_norm(&b, "ln_f", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_based = {"based", recognise, build, setting_keys};

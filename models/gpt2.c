/* gpt2.c - GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
 *
 * Recognises Hugging Face's names, with or without "transformer.". Matrices are stored [inputs, outputs]. Sizes come from the
 * tensors' shapes, heads from config.json; the buffers attn.bias and attn.masked_bias are passed over.
 *
 * x = wte[id] + wpe[position]; a layer: x += c_proj attention(c_attn ln_1 x);  x += c_proj gelu(c_fc ln_2 x); then ln_f, the
 * head tied to wte. States: a cache of keys and values for `context` tokens. */
#include "gpt2.h"

#include <math.h>

static const build_rename names[] = {{"transformer.", ""}, {NULL, NULL}};

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, "wpe.weight") && build_recognises(w, names, "h.*.attn.c_attn.weight");
}

static strand_status configure(builder *b, gpt2 *p) {
    build_attention *a = &p->attention;
    const json *root = b->config->root;
    p->vocabulary = build_extent(b, "wte.weight", 0);
    p->d = build_extent(b, "wte.weight", 1);
    p->longest = build_extent(b, "wpe.weight", 0);
    p->layers = build_count_layers(b, "h.*.attn.c_attn.weight");
    p->inner = build_extent(b, "h.*.mlp.c_fc.weight", 1);
    if (p->d < 1 || p->vocabulary < 1 || p->longest < 1 || p->inner < 1)
        return build_refuse(b, "wte, wpe or mlp.c_fc of layer 0 is missing or has no usable shape");
    a->heads = a->kv_heads = build_int(b, "n_head", build_int(b, "num_attention_heads", -1, -1, p->d), 1, p->d);
    p->eps = build_number(b, "layer_norm_epsilon", 1e-5, 0, 1);
    p->activation = build_activation(b, json_text(root, "activation_function", "gelu_new"));
    p->by_layer = json_bool(root, "scale_attn_by_inverse_layer_idx", false);
    if (build_failed(b)) return b->e->status;
    if (p->d % a->heads)
        return build_refuse(b, "%lld heads do not divide a width of %lld", (long long)a->heads, (long long)p->d);
    a->width = p->d / a->heads;
    a->scale = json_bool(root, "scale_attn_weights", true) ? 1 / sqrt((double)a->width) : 1;
    return build_context(b, p->longest, 0);
}

/* act(x W + bias), W [columns, rows] as the file has it. */
static tensor_id linear(builder *b, const char *name, const char *bias, tensor_id x, int64_t rows, int64_t columns,
                        uint32_t activation) {
    return build_product_plain(b, name, x, build_matrix(b, name, columns, rows), build_vector_if(b, bias, rows), activation);
}

tensor_id gpt2_layer(builder *b, const gpt2 *p, tensor_id x) {
    build_attention a = p->attention;
    if (p->by_layer) a.scale /= (double)(b->layer + 1);
    tensor_id n = build_layer_norm(b, "h.*.ln_1", x, p->d, p->eps);
    tensor_id qkv = linear(b, "h.*.attn.c_attn.weight", "h.*.attn.c_attn.bias", n, 3 * p->d, p->d, STRAND_UNARY_IDENTITY);
    tensor_id y =
        build_attend(b, "h.*.attn", &a, build_slice(b, "h.*.attn.q", qkv, 0, p->d),
                     build_slice(b, "h.*.attn.k", qkv, p->d, p->d), build_slice(b, "h.*.attn.v", qkv, 2 * p->d, p->d));
    x = build_add(b, "h.*.add1", x,
                  linear(b, "h.*.attn.c_proj.weight", "h.*.attn.c_proj.bias", y, p->d, p->d, STRAND_UNARY_IDENTITY));
    n = build_layer_norm(b, "h.*.ln_2", x, p->d, p->eps);
    y = linear(b, "h.*.mlp.c_fc.weight", "h.*.mlp.c_fc.bias", n, p->inner, p->d, p->activation);
    return build_add(b, "h.*.add2", x,
                     linear(b, "h.*.mlp.c_proj.weight", "h.*.mlp.c_proj.bias", y, p->d, p->inner, STRAND_UNARY_IDENTITY));
}

tensor_id gpt2_places(builder *b, const gpt2 *p) {
    tensor_id table = build_matrix(b, "wpe.weight", p->longest, p->d);
    return build_failed(b)
               ? 0
               : graph_op(b->g, "wpe", STRAND_OP_GATHER, NULL, (tensor_id[]){table, graph_positions(b->g)}, 2, NULL);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    gpt2 p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "wte", p.vocabulary, p.d);
    x = build_add(&b, "embedding", x, gpt2_places(&b, &p));
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = gpt2_layer(&b, &p, x);
    build_head(&b, "lm_head", "wte", build_layer_norm(&b, "ln_f", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, ATTENTION_SETTINGS, NULL};

const family family_gpt2 = {"gpt2", recognise, build, setting_keys};

/* hyena.c - Hyena language models: Poli et al., "Hyena Hierarchy", arXiv 2302.10866; repository HazyResearch/safari. (HyenaDNA,
 * which reads characters, has a file of its own.)
 *
 * Recognises that repository's checkpoints (backbone.layers, with or without "model." and the ".layer." of gradient
 * checkpointing). Sizes come from the tensors' shapes; whether the filters are modulated, and their shift, from config.json.
 * Order 2, one head.
 *
 * A layer, n = norm1 x: (x0, x1, v) = a short causal convolution of in_proj n;  u = x1 v;  x += out_proj(x0 (k * u + D u));
 *   x += fc2 gelu(fc1 norm2 x). The filter k [d, l_max] comes from weights alone: positions -> (linear, sin(freq .)) x n ->
 *   linear (-> exponential window). It has no poles, so what a sequence hands on is its last l_max - 1 inputs [d, l_max - 1]:
 *   the long convolution is a SHORT_CONV with l_max taps, exact in any pieces, and l_max is the longest sequence. */
#include "hyena.h"

static const build_rename names[] = {{"module.", ""},
                                     {"model.", ""},
                                     {"backbone.", ""},
                                     {"layers.*.mixer.layer.", "layers.*.mixer."},
                                     {"layers.*.mlp.layer.", "layers.*.mlp."},
                                     {NULL, NULL}};

#define FILTER HYENA_FILTER

typedef struct hyena {
    int64_t d, layers, vocabulary, inner, taps, length; /* length: l_max */
    double eps;
    hyena_filter filter;
} hyena;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    if (!build_recognises(w, names, FILTER "implicit_filter.0.weight")) return false;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const weights_tensor *t = weights_at(w, i);
        if (t->rank == 2 && t->dims[0] > HYENA_CHARACTERS && build_is(t->name, names, "embeddings.word_embeddings.weight"))
            return true;
    }
    return false;
}

static strand_status configure(builder *b, hyena *p) {
    const json *root = b->config->root, *layer = root ? json_get(root, "layer") : NULL;
    const weights_tensor *z = build_find(b, FILTER "pos_emb.z");
    p->vocabulary = build_extent(b, "embeddings.word_embeddings.weight", 0);
    p->d = build_extent(b, "embeddings.word_embeddings.weight", 1);
    p->layers = build_count_layers(b, "layers.*.mixer.in_proj.weight");
    p->inner = build_extent(b, "layers.*.mlp.fc1.weight", 0);
    p->taps = build_extent(b, "layers.*.mixer.short_filter.weight", 2);
    hyena_filter_sizes(b, &p->filter);
    p->length =
        z && z->rank == 3 ? z->dims[1] : build_int_of(b, layer, "l_max", build_int(b, "l_max", -1, -1, 1 << 24), 4, 1 << 24);
    p->eps = build_number(b, "layer_norm_epsilon", 1e-5, 0, 1);
    p->filter.d = p->d;
    p->filter.n = p->length;
    p->filter.modulate = json_bool(layer, "modulate", json_bool(root, "modulate", build_has(b, FILTER "modulation.deltas")));
    p->filter.shift = (float)json_number(layer, "shift", json_number(root, "shift", 0));
    if (build_failed(b)) return b->e->status;
    if (p->d < 1 || p->vocabulary < 1 || p->layers < 1 || p->inner < 1 || p->taps < 1 || p->taps > 64 || p->filter.order < 1 ||
        p->length < 4 || p->length > 1 << 20)
        return build_refuse(b,
                            "the embedding, mlp.fc1, short_filter or filter_fn of layer 0 is missing or has no usable shape");
    if (build_extent(b, "layers.*.mixer.in_proj.weight", 0) != 3 * p->d)
        return build_refuse(b, "mixer.in_proj.weight is not [3 d, d]: only Hyena of order 2 is supported");
    if (json_bool(layer, "normalized", false) || json_bool(layer, "outer_mixing", false) ||
        json_bool(layer, "post_order_ffn", false))
        return build_refuse(
            b, "config.json asks for a normalized filter, outer mixing or a post-order FFN, which no published model has");
    build_lengths(b, p->length);
    return b->e->status;
}

/* ---- the filter ---- */

/* The grid: as stored (it may have been trained), or computed. [length, features] */
static tensor_id positions(builder *b, const hyena *p) {
    if (build_has(b, FILTER "pos_emb.z"))
        return build_f32(b, FILTER "pos_emb.z", 2, (int64_t[]){p->length, p->filter.features}, false);
    strand_op_positions grid = {.n = p->length, .bands = (uint32_t)((p->filter.features - 1) / 2)};
    op_shape hint = {STRAND_F32, 2, {DIM(p->length), DIM(p->filter.features)}};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, FILTER "positions"), STRAND_OP_POSITIONS, &grid, NULL, 0, &hint);
}

/* [d, length], the first tap for the current input */
static tensor_id filter(builder *b, const hyena *p) {
    tensor_id trunk = hyena_filter_trunk(b, &p->filter, positions(b, p));
    return hyena_filter_taps(b, &p->filter, trunk, p->filter.modulate ? build_flat(b, FILTER "modulation.deltas", p->d) : 0);
}

/* ---- a layer: channels before time, [B, d, L] ---- */

/* A causal convolution; the last taps - 1 inputs are the state NAME.state. */
static tensor_id convolve(builder *b, const hyena *p, const char *name, const char *state_name, tensor_id x, tensor_id taps,
                          tensor_id bias, int64_t n) {
    strand_op_short_conv rows = {0};
    tensor_id state = n > 1 ? build_state(b, state_name, 2, (int64_t[]){p->d, n - 1}) : 0, next;
    if (build_failed(b)) return 0;
    tensor_id y =
        graph_op2(b->g, build_name(b, name), STRAND_OP_SHORT_CONV, &rows, (tensor_id[]){x, taps, bias, state}, 4, NULL, &next);
    if (state) build_state_next(b, state, next);
    return y;
}

/* Third `which` of in_proj and of the short convolution. */
static tensor_id part(builder *b, const hyena *p, tensor_id n, int which) {
    static const char *const labels[] = {"layers.*.mixer.x0", "layers.*.mixer.x1", "layers.*.mixer.v"};
    static const char *const states[] = {"layers.*.mixer.x0.state", "layers.*.mixer.x1.state", "layers.*.mixer.v.state"};
    strand_op_matmul turned = {.transpose_b = 1, .bias = STRAND_BIAS_ROWS, .precision = b->precision};
    int64_t d = p->d, first = which * d;
    tensor_id w = build_dense_rows(b, "layers.*.mixer.in_proj.weight", 3 * d, first, d, d),
              bias = build_part(b, "layers.*.mixer.in_proj.bias", 3 * d, first, d);
    tensor_id taps = build_f32_rows(b, "layers.*.mixer.short_filter.weight", 3 * d, first, d, p->taps);
    tensor_id tap_bias = build_has(b, "layers.*.mixer.short_filter.bias")
                             ? build_part(b, "layers.*.mixer.short_filter.bias", 3 * d, first, d)
                             : 0;
    if (build_failed(b)) return 0;
    tensor_id x = graph_op(b->g, build_name(b, labels[which]), STRAND_OP_MATMUL, &turned,
                           (tensor_id[]){build_factor(b, w), n, bias}, 3, NULL);
    return convolve(b, p, labels[which], states[which], x, taps, tap_bias, p->taps);
}

static tensor_id mixer(builder *b, const hyena *p, tensor_id n) {
    strand_op_matmul turned = {.transpose_a = 1, .transpose_b = 1, .bias = STRAND_BIAS_COLUMNS, .precision = b->precision};
    tensor_id k = build_reverse(b, FILTER "taps", filter(b, p)); /* SHORT_CONV's last tap is the current input's */
    tensor_id x0 = part(b, p, n, 0), u = build_mul(b, "layers.*.mixer.u", part(b, p, n, 1), part(b, p, n, 2));
    tensor_id skip = build_f32(b, FILTER "bias", 3, (int64_t[]){1, p->d, 1}, true);
    tensor_id y = convolve(b, p, "layers.*.mixer.long", "layers.*.mixer.long.state", u, k, 0, p->length);
    y = build_add(b, "layers.*.mixer.skip", y, build_mul(b, "layers.*.mixer.skip", u, skip));
    y = build_mul(b, "layers.*.mixer.gated", y, x0);
    tensor_id w = build_dense_rows(b, "layers.*.mixer.out_proj.weight", p->d, 0, p->d, p->d),
              bias = build_vector(b, "layers.*.mixer.out_proj.bias", p->d);
    return build_failed(b) ? 0
                           : graph_op(b->g, build_name(b, "layers.*.mixer.out_proj"), STRAND_OP_MATMUL, &turned,
                                      (tensor_id[]){y, build_factor(b, w), bias}, 3, NULL);
}

static tensor_id layer(builder *b, const hyena *p, tensor_id x) {
    x = build_add(b, "layers.*.add1", x, mixer(b, p, build_layer_norm(b, "layers.*.norm1", x, p->d, p->eps)));
    tensor_id n = build_linear(b, "layers.*.mlp.fc1", build_layer_norm(b, "layers.*.norm2", x, p->d, p->eps), p->inner, p->d,
                               STRAND_UNARY_GELU_TANH);
    return build_add(b, "layers.*.add2", x, build_linear(b, "layers.*.mlp.fc2", n, p->d, p->inner, STRAND_UNARY_IDENTITY));
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    hyena p = {0};
    if (build_start(&b, m, config, e, names) || build_settings(&b) || configure(&b, &p)) return e->status;
    tensor_id x = build_embedding(&b, "embeddings.word_embeddings", p.vocabulary, p.d);
    for (b.layer = 0; b.layer < p.layers && !build_failed(&b); b.layer++) x = layer(&b, &p, x);
    build_head(&b, "lm_head", "embeddings.word_embeddings", build_layer_norm(&b, "ln_f", x, p.d, p.eps), p.vocabulary, p.d, 0);
    return e->status;
}

static const char *const setting_keys[] = {BUILD_SETTINGS, NULL};

const family family_hyena = {"hyena", recognise, build, setting_keys};

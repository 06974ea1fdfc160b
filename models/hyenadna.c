/* hyenadna.c - HyenaDNA: Nguyen et al., "HyenaDNA: Long-Range Genomic Sequence Modeling at Single Nucleotide Resolution",
 * arXiv 2306.15794; repository HazyResearch/hyena-dna.
 *
 * Recognises every published layout: Lightning (`model.backbone.`, with and without `.layer.`), standalone (`backbone.`) and
 * Hugging Face (`hyena.backbone.`); sizes come from the tensors' shapes. Position grids and decays are computed; stored ones
 * are only compared with what is computed.
 *
 * A layer, in the graph's terms (d channels, [batch, length, d] token-major, [batch, d, length] channel-major):
 *   filter:  positions -> (linear, sin(freq .)) x n -> linear -> decay window           [d, taps], from weights alone
 *   mixer:   layer_norm -> three linears to channel-major -> three short convolutions -> gated long convolution -> linear
 *   mlp:     layer_norm -> linear, GELU (tanh) -> linear
 * each added to the residual stream. Order 2 is the only order published. */
#include "hyena.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAD_ID 4
#define FILTER HYENA_FILTER

static const build_rename names[] = {{"module.", ""},
                                     {"_orig_mod.", ""},
                                     {"model.", ""},
                                     {"_orig_mod.", ""},
                                     {"hyena.", ""},
                                     {"net.", ""},
                                     {"backbone.", ""},
                                     {"layers.*.mixer.layer.", "layers.*.mixer."},
                                     {"layers.*.mlp.layer.", "layers.*.mlp."},
                                     {NULL, NULL}};

/* The builder's precision is that of the layers' products and convolutions; filters and heads are always F32. */
typedef struct hyena {
    int64_t d, layers, vocabulary, inner, taps;
    float eps;
    hyena_filter filter;
    tensor_id *filters; /* of each layer, [d, taps] */
} hyena;

static bool recognise(const weights *w, const json *config) {
    (void)config;
    if (!build_recognises(w, names, FILTER "implicit_filter.0.weight")) return false;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const weights_tensor *t = weights_at(w, i);
        if (t->rank == 2 && t->dims[0] > HYENA_CHARACTERS && build_is(t->name, names, "embeddings.word_embeddings.weight"))
            return false; /* words: hyena.c */
    }
    return true;
}

/* ---- operators ---- */

static tensor_id layer_norm(builder *b, const hyena *h, const char *name, tensor_id x) {
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    strand_op_layer_norm p = {h->eps};
    tensor_id w = build_vector(b, weight, h->d), c = build_vector(b, bias, h->d);
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_LAYER_NORM, &p, (tensor_id[]){x, w, c}, 3, NULL);
}

static tensor_id matmul(builder *b, const char *name, const strand_op_matmul *p, tensor_id x, tensor_id y, tensor_id bias) {
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_MATMUL, p, (tensor_id[]){x, y, bias}, 3, NULL);
}

/* ---- the implicit filter ---- */

/* HyenaDNA's decay rates, linspace(ln 0.01 / 1.5, ln 0.01 / 0.3, d); stored ones must be these. */
static tensor_id decay_rates(builder *b, const hyena *h) {
    const double slow = log(0.01) / 1.5, fast = log(0.01) / 0.3;
    const weights_tensor *stored = build_find(b, FILTER "modulation.deltas");
    float *rates = build_failed(b) ? NULL : ARENA_ARRAY(&b->m->arena, float, (size_t)h->d);
    if (!rates) {
        if (!build_failed(b)) error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
        return 0;
    }
    for (int64_t c = 0; c < h->d; c++)
        rates[c] = (float)(h->d > 1 ? slow + (fast - slow) * (double)c / (double)(h->d - 1) : slow);
    if (stored && stored->dtype == STRAND_F32 && stored->bytes == (uint64_t)h->d * sizeof(float))
        for (int64_t c = 0; c < h->d; c++)
            if (!(fabsf(((const float *)stored->data)[c] - rates[c]) < 1e-3f * fabsf(rates[c]))) {
                error_set(b->e, STRAND_ERR_UNSUPPORTED, "tensor '%s' is not the published spacing of decays", stored->name);
                return 0;
            }
    return graph_weight(b->g, build_name(b, FILTER "decay_rates"), STRAND_F32, 1, (op_dim[]){DIM(h->d)}, rates);
}

/* Each layer may have sizes of its own. */
static tensor_id filter_trunk(builder *b, hyena *h) {
    hyena_filter_sizes(b, &h->filter);
    if (!h->filter.order)
        build_refuse(b, "layer %lld: implicit_filter.0.weight is missing or not [order, 1 + 2 bands]", (long long)b->layer);
    if (build_failed(b)) return 0;
    strand_op_positions grid = {.n = h->filter.n, .bands = (uint32_t)((h->filter.features - 1) / 2)};
    op_shape shape = {STRAND_F32, 2, {DIM_L, DIM(h->filter.features)}};
    return hyena_filter_trunk(
        b, &h->filter, graph_op(b->g, build_name(b, FILTER "positions"), STRAND_OP_POSITIONS, &grid, NULL, 0, &shape));
}

/* ---- a layer ---- */

/* One third of the projection and of the short convolution, channel-major. */
static tensor_id projection(builder *b, const hyena *h, tensor_id x, int which) {
    static const char *const labels[2][3] = {
        {"layers.*.mixer.in_proj.x0", "layers.*.mixer.in_proj.x1", "layers.*.mixer.in_proj.v"},
        {"layers.*.mixer.short_filter.x0", "layers.*.mixer.short_filter.x1", "layers.*.mixer.short_filter.v"}};
    const strand_op_matmul turned = {.transpose_b = 1, .bias = STRAND_BIAS_ROWS, .precision = b->precision};
    const strand_op_short_conv rows = {0};
    const int64_t d = h->d, first = which * d;
    tensor_id w = build_dense_rows(b, "layers.*.mixer.in_proj.weight", 3 * d, first, d, d),
              bias = build_part(b, "layers.*.mixer.in_proj.bias", 3 * d, first, d);
    tensor_id y = matmul(b, labels[0][which], &turned, build_factor(b, w), x, bias);
    tensor_id taps = build_f32_rows(b, "layers.*.mixer.short_filter.weight", 3 * d, first, d, h->taps),
              tap_bias = build_part(b, "layers.*.mixer.short_filter.bias", 3 * d, first, d);
    return build_failed(b) ? 0
                           : graph_op(b->g, build_name(b, labels[1][which]), STRAND_OP_SHORT_CONV, &rows,
                                      (tensor_id[]){y, taps, tap_bias}, 3, NULL);
}

static tensor_id mixer(builder *b, hyena *h, tensor_id residual) {
    const strand_op_matmul turned = {
        .transpose_a = 1, .transpose_b = 1, .bias = STRAND_BIAS_COLUMNS, .precision = b->precision};
    const strand_op_long_conv conv = {.flags = b->precision == STRAND_PRECISION_BF16 ? STRAND_LONG_CONV_ROUNDED : 0};
    const int64_t d = h->d;
    /* The trunk stands before the norm, and the tail just before its use, so that little is alive at once. */
    tensor_id trunk = filter_trunk(b, h), x = layer_norm(b, h, "layers.*.norm1", residual);
    tensor_id x0 = projection(b, h, x, 0), x1 = projection(b, h, x, 1), v = projection(b, h, x, 2);
    tensor_id k = hyena_filter_taps(b, &h->filter, trunk, h->filter.modulate ? decay_rates(b, h) : 0);
    tensor_id skip = build_vector(b, FILTER "bias", d);
    if (build_failed(b)) return 0;
    h->filters[b->layer] = k;
    tensor_id y = graph_op(b->g, build_name(b, "layers.*.mixer.long_conv"), STRAND_OP_LONG_CONV, &conv,
                           (tensor_id[]){v, k, skip, x1, x0}, 5, NULL);
    tensor_id w = build_dense_rows(b, "layers.*.mixer.out_proj.weight", d, 0, d, d),
              bias = build_vector(b, "layers.*.mixer.out_proj.bias", d);
    return build_add(b, "layers.*.mixer.add", residual,
                     matmul(b, "layers.*.mixer.out_proj", &turned, y, build_factor(b, w), bias));
}

static tensor_id mlp(builder *b, const hyena *h, tensor_id residual) {
    tensor_id x = layer_norm(b, h, "layers.*.norm2", residual);
    x = build_linear(b, "layers.*.mlp.fc1", x, h->inner, h->d, STRAND_UNARY_GELU_TANH);
    x = build_linear(b, "layers.*.mlp.fc2", x, h->d, h->inner, STRAND_UNARY_IDENTITY);
    return build_add(b, "layers.*.mlp.add", residual, x);
}

/* ---- heads ---- */

/* The pooling modes of the published SequenceDecoder, and "token": the head at every position. */
static bool pool_kind(const char *name, uint32_t *kind) {
    static const struct {
        const char *name;
        uint32_t kind;
    } modes[] = {{"pool", STRAND_REDUCE_MEAN},
                 {"mean", STRAND_REDUCE_MEAN},
                 {"ragged", STRAND_REDUCE_MEAN},
                 {"sum", STRAND_REDUCE_SUM},
                 {"first", STRAND_REDUCE_FIRST},
                 {"last", STRAND_REDUCE_LAST},
                 {"before_pad", STRAND_REDUCE_BEFORE_TOKEN}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(name, modes[i].name)) {
            *kind = modes[i].kind;
            return true;
        }
    return false;
}

/* The name of a classifier's weights, or NULL where the file has none. */
static const char *class_head_name(const builder *b) {
    static const char *const published[] = {"head.output_transform", "decoder.0.output_transform", "score"};
    char weight[64];
    for (int i = 0; i < 3; i++) {
        snprintf(weight, sizeof weight, "%s.weight", published[i]);
        if (build_has(b, weight)) return published[i];
    }
    return NULL;
}

static void class_head(builder *b, const hyena *h, tensor_id ids, tensor_id hidden) {
    const char *name = class_head_name(b), *given = config_given(b->config, "pool");
    char weight[64];
    if (!name || build_failed(b)) return;
    snprintf(weight, sizeof weight, "%s.weight", name);
    const int64_t classes = build_extent(b, weight, 0);
    const char *pool = given ? given : json_text(b->config->root, "pool", strcmp(name, "score") ? "pool" : "before_pad");
    tensor_id x = hidden;
    if (strcmp(pool, "token") != 0) {
        strand_op_reduce p = {.token = PAD_ID};
        if (!pool_kind(pool, &p.kind)) {
            error_set(b->e, STRAND_ERR_ARGUMENT,
                      "setting pool=%.40s is none of pool, mean, sum, first, last, ragged, before_pad, token", pool);
            return;
        }
        x = graph_op(b->g, "head.pool", STRAND_OP_REDUCE, &p, (tensor_id[]){hidden, ids},
                     p.kind == STRAND_REDUCE_BEFORE_TOKEN ? 2 : 1, NULL);
    }
    tensor_id y = build_linear(b, name, x, classes, h->d, STRAND_UNARY_IDENTITY);
    if (build_failed(b)) return;
    graph_output_add(b->g, "class_logits", y);
    config_record(b->m, "pool", pool, b->e);
}

/* ---- configuration ---- */

/* A number from key=value, else from config.json's `layer` or top, else the fallback. */
static double number(builder *b, const char *key, double fallback) {
    const char *given = config_given(b->config, key);
    const json *root = b->config->root;
    double x = json_number(root ? json_get(root, "layer") : NULL, key, json_number(root, key, fallback));
    if (given && !config_parse_number(given, &x))
        error_set(b->e, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not a number", key, given);
    else if (!isfinite(x))
        error_set(b->e, STRAND_ERR_ARGUMENT, "setting %s is not finite", key);
    return x;
}

/* The grid's length: key=value, else as stored with the weights, else config.json (layer.l_max, or max_seq_len). */
static int64_t grid_length(builder *b) {
    const char *given = config_given(b->config, "l_max");
    const weights_tensor *stored = build_find(b, FILTER "pos_emb.t");
    const json *root = b->config->root;
    int64_t n = 0;
    if (given && !config_parse_integer(given, &n))
        return error_set(b->e, STRAND_ERR_ARGUMENT, "setting l_max=%.40s is not an integer", given);
    if (!given && stored && stored->rank == 3) n = stored->dims[1];
    if (!given && !stored)
        n = json_int(root ? json_get(root, "layer") : NULL, "l_max", json_int(root, "l_max", json_int(root, "max_seq_len", 0)));
    if (n == 0)
        build_refuse(b, "the sequence length is in neither the weights nor a config.json; give --set l_max=N");
    else if (n < 4 || n > (int64_t)1 << 32)
        build_refuse(b, "l_max is %lld; expected 4 to 2^32", (long long)n);
    return n;
}

static strand_status sizes(builder *b, hyena *h) {
    const weights_tensor *embedding = build_find(b, "embeddings.word_embeddings.weight"),
                         *in_proj = build_find(b, "layers.*.mixer.in_proj.weight"),
                         *taps = build_find(b, "layers.*.mixer.short_filter.weight");
    if (!embedding || embedding->rank != 2)
        return build_refuse(b, "embeddings.word_embeddings.weight is missing or not [vocabulary, d]");
    h->vocabulary = embedding->dims[0];
    h->d = embedding->dims[1];
    if (h->d < 1 || h->d > 65536) return build_refuse(b, "d is %lld; expected 1 to 65536", (long long)h->d);
    if (!in_proj || in_proj->rank != 2 || in_proj->dims[0] != 3 * h->d)
        return error_set(b->e, STRAND_ERR_UNSUPPORTED,
                         "mixer.in_proj.weight is not [3 d, d]: only Hyena of order 2 is supported");
    h->layers = build_count_layers(b, "layers.*.mixer.in_proj.weight");
    h->inner = build_extent(b, "layers.*.mlp.fc1.weight", 0);
    h->taps = taps && taps->rank > 0 ? taps->dims[taps->rank - 1] : 3;
    h->filters = ARENA_ARRAY(&b->m->arena, tensor_id, (size_t)h->layers);
    return h->filters ? STRAND_OK : error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
}

static strand_status configure(builder *b, hyena *h) {
    const json *layer = b->config->root ? json_get(b->config->root, "layer") : NULL;
    char text[32];
    if (sizes(b, h)) return b->e->status;
    const double shift = number(b, "shift", 0.05);
    h->eps = (float)number(b, "layer_norm_epsilon", 1e-5);
    if (build_failed(b)) return b->e->status;
    h->filter = (hyena_filter){
        .d = h->d, .n = grid_length(b), .shift = (float)shift, .modulate = json_bool(layer, "modulate", true)};
    if (build_failed(b)) return b->e->status;
    if (json_bool(layer, "normalized", false) || json_bool(layer, "bidirectional", false))
        return error_set(b->e, STRAND_ERR_UNSUPPORTED,
                         "config.json asks for a normalized or bidirectional filter, which no published model has");
    snprintf(text, sizeof text, "%.9g", shift);
    if (config_record(b->m, "shift", text, b->e)) return b->e->status;
    snprintf(text, sizeof text, "%lld", (long long)h->filter.n);
    if (config_record(b->m, "l_max", text, b->e)) return b->e->status;
    return build_settings(b);
}

/* Ids of the published character tokenizer. Case matters: a lower-case letter is unknown. */
static void set_tokenizer(strand_model *m) {
    static const char *const text_of[] = {"", "", "", "", "", "", "", "A", "C", "G", "T", "N"};
    static const tokenizer_special specials[] = {{"[CLS]", 0},      {"[SEP]", 1},      {"[BOS]", 2}, {"[MASK]", 3},
                                                 {"[PAD]", PAD_ID}, {"[RESERVED]", 5}, {"[UNK]", 6}};
    for (int i = 0; i < 256; i++) m->tokenizer.id_of[i] = 6;
    for (int16_t id = 7; id < 12; id++) m->tokenizer.id_of[(unsigned char)text_of[id][0]] = id;
    m->tokenizer.text_of = text_of;
    m->tokenizer.n_ids = 12;
    m->tokenizer.specials = specials;
    m->tokenizer.n_specials = 7;
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    builder b;
    hyena h = {0};
    if (build_start(&b, m, config, e, names) || configure(&b, &h)) return e->status;
    const int64_t d = h.d, vocabulary = h.vocabulary;
    const bool tied = !build_has(&b, "lm_head.weight");
    tensor_id ids = graph_input(b.g, "input_ids", STRAND_I64, 2, (op_dim[]){DIM_B, DIM_L});
    tensor_id table = build_matrix(&b, "embeddings.word_embeddings.weight", vocabulary, d);
    if (build_failed(&b)) return e->status;
    tensor_id x = graph_op(b.g, "embeddings", STRAND_OP_GATHER, NULL, (tensor_id[]){table, ids}, 2, NULL);
    for (b.layer = 0; b.layer < h.layers && !build_failed(&b); b.layer++) x = mlp(&b, &h, mixer(&b, &h, x));
    b.precision = STRAND_PRECISION_F32; /* of what follows the layers */
    b.halves = false;
    x = layer_norm(&b, &h, "ln_f", x);
    tensor_id head = tied ? table : build_matrix(&b, "lm_head.weight", vocabulary, d);
    tensor_id logits = build_product(&b, "lm_head", x, head, 0, STRAND_UNARY_IDENTITY);
    if (build_failed(&b)) return e->status;
    graph_output_add(b.g, "hidden", x);
    graph_output_add(b.g, "logits", logits);
    class_head(&b, &h, ids, x);
    for (b.layer = 0; b.layer < h.layers && !build_failed(&b); b.layer++)
        graph_output_on_request(b.g, build_name(&b, "layers.*.filter"), h.filters[b.layer]);
    m->max_length = h.filter.n;
    m->window = h.filter.n - 2; /* the published models count two special tokens */
    set_tokenizer(m);
    return e->status;
}

static const char *const setting_keys[] = {"shift", "l_max", "pool", "layer_norm_epsilon", BUILD_SETTINGS, NULL};

const family family_hyenadna = {"hyenadna", recognise, build, setting_keys};

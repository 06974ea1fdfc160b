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
#include "build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAD_ID 4

typedef struct hyena {
    strand_model *m;
    graph *g;
    const model_config *config;
    error *e;
    const char **canonical; /* for each tensor of the file, its name in the form of `canonical_name` */
    int64_t d, layers, vocab, n; /* n: l_max, the grid's points */
    float shift, eps;
    uint32_t precision; /* STRAND_PRECISION_... of the layers' products and convolutions; filters and heads are always F32 */
    bool halves;        /* precision=f16: the weights of the layers' products are turned to F16, once, where they run */
    bool modulate;
    const char *pool;
    bool hf_head;
    tensor_id *filters; /* of each layer, [d, taps] */
} hyena;

/* ---- names ---- */

static const char *without_prefix(const char *name) {
    static const char *const prefixes[] = {"module.", "model.", "hyena.", "_orig_mod.", "net."};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0];) {
        size_t n = strlen(prefixes[i]);
        if (!strncmp(name, prefixes[i], n)) {
            name += n;
            i = 0;
        } else {
            i++;
        }
    }
    return strncmp(name, "backbone.", 9) ? name : name + 9;
}

/* "model.backbone.layers.0.mixer.layer.in_proj.weight" -> "layers.0.mixer.in_proj.weight". */
static void canonical_name(const char *name, char *out, size_t bytes) {
    snprintf(out, bytes, "%s", without_prefix(name));
    static const char *const inserted[] = {".mixer.layer.", ".mlp.layer."};
    for (size_t i = 0; i < 2; i++) {
        char *at = strstr(out, inserted[i]);
        if (!at) continue;
        char *layer = at + strlen(inserted[i]) - 6; /* "layer." */
        memmove(layer, layer + 6, strlen(layer + 6) + 1);
    }
}

static bool recognise(const weights *w, const json *config) {
    bool filter = false, words = false;
    (void)config;
    for (int64_t i = 0; i < weights_count(w); i++) {
        char name[256];
        canonical_name(weights_at(w, i)->name, name, sizeof name);
        filter = filter || !strcmp(name, "layers.0.mixer.filter_fn.implicit_filter.0.weight");
        words = words || (!strcmp(name, "embeddings.word_embeddings.weight") && weights_at(w, i)->rank == 2 &&
                          weights_at(w, i)->dims[0] > HYENA_CHARACTERS);
    }
    return filter && !words;
}

static strand_status index_names(hyena *h) {
    int64_t n = weights_count(h->m->weights);
    h->canonical = ARENA_ARRAY(&h->m->arena, const char *, (size_t)n + 1);
    for (int64_t i = 0; h->canonical && i < n; i++) {
        char name[256];
        canonical_name(weights_at(h->m->weights, i)->name, name, sizeof name);
        h->canonical[i] = arena_string(&h->m->arena, name, strlen(name));
        if (!h->canonical[i]) h->canonical = NULL;
    }
    return h->canonical ? STRAND_OK : error_set(h->e, STRAND_ERR_MEMORY, "out of memory while loading");
}

static const weights_tensor *find(const hyena *h, const char *name) {
    for (int64_t i = 0; i < weights_count(h->m->weights); i++)
        if (!strcmp(h->canonical[i], name)) return weights_at(h->m->weights, i);
    return NULL;
}

/* `format` is LAYER or FILTER. */
static const weights_tensor *find_layer(const hyena *h, const char *format, int64_t layer, const char *part) {
    char name[256];
    snprintf(name, sizeof name, format, (long long)layer, part);
    return find(h, name);
}

/* ---- weights into the graph ---- */

static bool float_type(strand_dtype t) {
    return t == STRAND_F32 || t == STRAND_F16 || t == STRAND_BF16;
}

static void use(hyena *h, const weights_tensor *w) {
    strand_model *m = h->m;
    for (int64_t i = 0; i < m->n_used; i++)
        if (m->used[i] == w) return;
    int64_t n = 1;
    for (int i = 0; i < w->rank; i++) n *= w->dims[i];
    for (int64_t i = 0; i < m->n_used; i++)
        if (m->used[i]->data == w->data) n = 0; /* tied: counted once */
    m->parameters += n;
    m->used[m->n_used++] = w;
}

/* Rows [first, first + rows) of a weight as a [rows, columns] matrix, or a [rows] vector when columns is 0. Vectors and what
 * is no operand of a product are cast to F32 when the file holds them in half precision. */
static tensor_id weight(hyena *h, const weights_tensor *w, const char *name, int64_t all_rows, int64_t first, int64_t rows,
                        int64_t columns, bool operand) {
    if (h->e->status) return 0;
    uint64_t want = (uint64_t)all_rows * (uint64_t)(columns ? columns : 1), have = 1;
    if (!w) {
        error_set(h->e, STRAND_ERR_FORMAT, "tensor '%s' is missing", name);
        return 0;
    }
    for (int i = 0; i < w->rank; i++) have *= (uint64_t)w->dims[i];
    if (have != want || !float_type(w->dtype)) {
        error_set(h->e, STRAND_ERR_FORMAT, "tensor '%s' has %llu elements of type %s; expected %llu of F32, F16 or BF16",
                  w->name, (unsigned long long)have, strand_dtype_name(w->dtype), (unsigned long long)want);
        return 0;
    }
    use(h, w);
    const unsigned char *data = w->data;
    data += (size_t)(first * (columns ? columns : 1)) * strand_dtype_size(w->dtype);
    op_dim dims[2] = {DIM(rows), DIM(columns)};
    const char *label = graph_name(h->g, "%s", name);
    tensor_id id = graph_weight(h->g, label, w->dtype, columns ? 2 : 1, dims, data);
    if (w->dtype == STRAND_F32 || operand) return id;
    op_shape f32 = {.dtype = STRAND_F32};
    return graph_op(h->g, label, STRAND_OP_CAST, NULL, &id, 1, &f32);
}

#define LAYER "layers.%lld.%s"
#define FILTER "layers.%lld.mixer.filter_fn.%s"

static tensor_id layer_matrix(hyena *h, int64_t layer, const char *part, int64_t all_rows, int64_t first, int64_t rows,
                              int64_t columns) {
    return weight(h, find_layer(h, LAYER, layer, part), graph_name(h->g, LAYER, (long long)layer, part), all_rows, first, rows,
                  columns, true);
}

static tensor_id layer_vector(hyena *h, int64_t layer, const char *part, int64_t all_rows, int64_t first, int64_t rows) {
    return weight(h, find_layer(h, LAYER, layer, part), graph_name(h->g, LAYER, (long long)layer, part), all_rows, first, rows,
                  0, false);
}

/* ---- operators ---- */

static tensor_id product(hyena *h, const char *name, tensor_id a, bool ta, tensor_id b, bool tb, tensor_id bias, uint32_t place,
                         uint32_t activation, uint32_t precision) {
    strand_op_matmul p = {.transpose_a = ta, .transpose_b = tb, .bias = bias ? place : STRAND_BIAS_NONE,
                          .activation = activation, .precision = precision};
    return graph_op(h->g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){a, b, bias}, 3, NULL);
}

static tensor_id matmul(hyena *h, const char *name, tensor_id a, bool ta, tensor_id b, bool tb, tensor_id bias, uint32_t place,
                        uint32_t activation) {
    return product(h, name, a, ta, b, tb, bias, place, activation, STRAND_PRECISION_F32);
}

/* A product of the residual stream's layers, in the precision that was asked for. */
static tensor_id layer_product(hyena *h, const char *name, tensor_id a, bool ta, tensor_id b, bool tb, tensor_id bias,
                               uint32_t place, uint32_t activation) {
    if (h->halves) a = build_halved(h->g, a), b = build_halved(h->g, b);
    return product(h, name, a, ta, b, tb, bias, place, activation, h->precision);
}

static tensor_id layer_norm(hyena *h, const char *name, tensor_id x, tensor_id w, tensor_id b) {
    strand_op_layer_norm p = {h->eps};
    return graph_op(h->g, name, STRAND_OP_LAYER_NORM, &p, (tensor_id[]){x, w, b}, 3, NULL);
}

static tensor_id binary(hyena *h, const char *name, uint32_t kind, tensor_id a, tensor_id b) {
    strand_op_binary p = {kind};
    return graph_op(h->g, name, STRAND_OP_BINARY, &p, (tensor_id[]){a, b}, 2, NULL);
}

/* ---- the implicit filter ---- */

/* The trained frequency of the sines: one vector under up to three names. */
static tensor_id frequency(hyena *h, int64_t layer, int64_t order) {
    static const char *const parts[] = {"implicit_filter.1.freq", "implicit_filter.3.freq", "implicit_filter.5.freq"};
    for (size_t i = 0; i < 3; i++) {
        const weights_tensor *w = find_layer(h, FILTER, layer, parts[i]);
        if (w) return weight(h, w, graph_name(h->g, FILTER, (long long)layer, parts[i]), 1, 0, 1, order, false);
    }
    error_set(h->e, STRAND_ERR_FORMAT, "layer %lld has no implicit_filter.1.freq", (long long)layer);
    return 0;
}

/* HyenaDNA's decay rates: linspace(ln 0.01 / 1.5, ln 0.01 / 0.3, d). */
static double delta(const hyena *h, int64_t channel) {
    const double slow = log(0.01) / 1.5, fast = log(0.01) / 0.3;
    return h->d > 1 ? slow + (fast - slow) * (double)channel / (double)(h->d - 1) : slow;
}

static tensor_id decay_rates(hyena *h, int64_t layer) {
    float *rates = ARENA_ARRAY(&h->m->arena, float, (size_t)h->d);
    if (!rates) {
        error_set(h->e, STRAND_ERR_MEMORY, "out of memory while loading");
        return 0;
    }
    for (int64_t c = 0; c < h->d; c++) rates[c] = (float)delta(h, c);
    const weights_tensor *stored = find_layer(h, FILTER, layer, "modulation.deltas");
    if (stored && stored->dtype == STRAND_F32 && stored->bytes == (uint64_t)h->d * sizeof(float))
        for (int64_t c = 0; c < h->d; c++)
            if (!(fabsf(((const float *)stored->data)[c] - rates[c]) < 1e-3f * fabsf(rates[c]))) {
                error_set(h->e, STRAND_ERR_UNSUPPORTED, "tensor '%s' is not the published spacing of decays", stored->name);
                return 0;
            }
    return graph_weight(h->g, graph_name(h->g, FILTER, (long long)layer, "decay_rates"), STRAND_F32, 1, (op_dim[]){DIM(h->d)},
                        rates);
}

/* The last layer is the one without a bias; the ones before it are followed by a sine. */
static tensor_id filter_trunk(hyena *h, int64_t layer, int64_t order, int64_t features, int64_t *last) {
    strand_op_positions p = {.n = h->n, .bands = (uint32_t)((features - 1) / 2)};
    op_shape shape = {STRAND_F32, 2, {DIM_L, DIM(features)}};
    tensor_id x =
        graph_op(h->g, graph_name(h->g, FILTER, (long long)layer, "positions"), STRAND_OP_POSITIONS, &p, NULL, 0, &shape);
    tensor_id freq = frequency(h, layer, order);
    int64_t columns = features;
    for (int64_t j = 0;; j += 2) {
        char part[64];
        snprintf(part, sizeof part, "implicit_filter.%lld.bias", (long long)j);
        const weights_tensor *b = find_layer(h, FILTER, layer, part);
        *last = j;
        if (!b || h->e->status) return x;
        tensor_id bias = weight(h, b, graph_name(h->g, FILTER, (long long)layer, part), order, 0, order, 0, false);
        snprintf(part, sizeof part, "implicit_filter.%lld.weight", (long long)j);
        const char *name = graph_name(h->g, FILTER, (long long)layer, part);
        tensor_id w = weight(h, find_layer(h, FILTER, layer, part), name, order, 0, order, columns, true);
        strand_op_unary sine = {STRAND_UNARY_SIN};
        x = matmul(h, name, x, false, w, true, bias, STRAND_BIAS_COLUMNS, STRAND_UNARY_IDENTITY);
        x = binary(h, graph_name(h->g, FILTER ".%lld", (long long)layer, "frequency", (long long)j), STRAND_BINARY_MUL, x,
                   freq);
        x = graph_op(h->g, graph_name(h->g, FILTER ".%lld", (long long)layer, "sine", (long long)j), STRAND_OP_UNARY, &sine, &x,
                     1, NULL);
        columns = order;
    }
}

static strand_status filter_sizes(hyena *h, int64_t layer, int64_t *order, int64_t *features) {
    const weights_tensor *w = find_layer(h, FILTER, layer, "implicit_filter.0.weight");
    if (!w || w->rank != 2 || w->dims[1] < 3 || w->dims[1] % 2 == 0 || w->dims[1] > 1025)
        return error_set(h->e, STRAND_ERR_FORMAT, "layer %lld: implicit_filter.0.weight is missing or not [order, 1 + 2 bands]",
                         (long long)layer);
    *order = w->dims[0];
    *features = w->dims[1];
    return STRAND_OK;
}

static tensor_id filter_tail(hyena *h, int64_t layer, tensor_id trunk, int64_t order, int64_t last) {
    char part[64];
    snprintf(part, sizeof part, "implicit_filter.%lld.weight", (long long)last);
    const char *name = graph_name(h->g, FILTER, (long long)layer, part);
    tensor_id w = weight(h, find_layer(h, FILTER, layer, part), name, h->d, 0, h->d, order, true);
    tensor_id k = matmul(h, name, w, false, trunk, true, 0, STRAND_BIAS_NONE, STRAND_UNARY_IDENTITY);
    if (!h->modulate) return k;
    strand_op_decay_window p = {.n = h->n, .shift = h->shift};
    return graph_op(h->g, graph_name(h->g, FILTER, (long long)layer, "decay_window"), STRAND_OP_DECAY_WINDOW, &p,
                    (tensor_id[]){k, decay_rates(h, layer)}, 2, NULL);
}

/* ---- a layer ---- */

/* One third of the projection and of the short convolution, channel-major. */
static tensor_id projection(hyena *h, int64_t layer, tensor_id x, int which) {
    static const char *const names[] = {"x0", "x1", "v"};
    int64_t d = h->d, first = which * d;
    tensor_id w = layer_matrix(h, layer, "mixer.in_proj.weight", 3 * d, first, d, d);
    tensor_id b = layer_vector(h, layer, "mixer.in_proj.bias", 3 * d, first, d);
    const char *name = graph_name(h->g, "layers.%lld.mixer.in_proj.%s", (long long)layer, names[which]);
    tensor_id p = layer_product(h, name, w, false, x, true, b, STRAND_BIAS_ROWS, STRAND_UNARY_IDENTITY);
    const weights_tensor *taps = find_layer(h, LAYER, layer, "mixer.short_filter.weight");
    int64_t k = taps && taps->rank > 0 ? taps->dims[taps->rank - 1] : 3;
    name = graph_name(h->g, "layers.%lld.mixer.short_filter.%s", (long long)layer, names[which]);
    tensor_id sw = weight(h, taps, name, 3 * d, first, d, k, false);
    tensor_id sb = layer_vector(h, layer, "mixer.short_filter.bias", 3 * d, first, d);
    strand_op_short_conv sp = {0};
    return graph_op(h->g, name, STRAND_OP_SHORT_CONV, &sp, (tensor_id[]){p, sw, sb}, 3, NULL);
}

static tensor_id mixer(hyena *h, int64_t layer, tensor_id residual) {
    int64_t order = 0, features = 0, last, d = h->d;
    if (filter_sizes(h, layer, &order, &features)) return 0;
    /* The trunk stands before the norm, and the tail just before its use, so that little is alive at once. */
    tensor_id trunk = filter_trunk(h, layer, order, features, &last);
    tensor_id x = layer_norm(h, graph_name(h->g, LAYER, (long long)layer, "norm1"), residual,
                             layer_vector(h, layer, "norm1.weight", d, 0, d), layer_vector(h, layer, "norm1.bias", d, 0, d));
    tensor_id x0 = projection(h, layer, x, 0), x1 = projection(h, layer, x, 1), v = projection(h, layer, x, 2);
    tensor_id k = h->filters[layer] = filter_tail(h, layer, trunk, order, last);
    tensor_id skip = layer_vector(h, layer, "mixer.filter_fn.bias", d, 0, d);
    strand_op_long_conv p = {.flags = h->precision == STRAND_PRECISION_BF16 ? STRAND_LONG_CONV_ROUNDED : 0};
    tensor_id y = graph_op(h->g, graph_name(h->g, LAYER, (long long)layer, "mixer.long_conv"), STRAND_OP_LONG_CONV, &p,
                           (tensor_id[]){v, k, skip, x1, x0}, 5, NULL);
    tensor_id w = layer_matrix(h, layer, "mixer.out_proj.weight", d, 0, d, d),
              b = layer_vector(h, layer, "mixer.out_proj.bias", d, 0, d);
    y = layer_product(h, graph_name(h->g, LAYER, (long long)layer, "mixer.out_proj"), y, true, w, true, b, STRAND_BIAS_COLUMNS,
                      STRAND_UNARY_IDENTITY);
    return binary(h, graph_name(h->g, LAYER, (long long)layer, "mixer.add"), STRAND_BINARY_ADD, residual, y);
}

static tensor_id mlp(hyena *h, int64_t layer, tensor_id residual) {
    int64_t d = h->d;
    const weights_tensor *fc1 = find_layer(h, LAYER, layer, "mlp.fc1.weight");
    int64_t inner = fc1 && fc1->rank == 2 ? fc1->dims[0] : 4 * d;
    tensor_id x = layer_norm(h, graph_name(h->g, LAYER, (long long)layer, "norm2"), residual,
                             layer_vector(h, layer, "norm2.weight", d, 0, d), layer_vector(h, layer, "norm2.bias", d, 0, d));
    x = layer_product(h, graph_name(h->g, LAYER, (long long)layer, "mlp.fc1"), x, false,
                      layer_matrix(h, layer, "mlp.fc1.weight", inner, 0, inner, d), true,
                      layer_vector(h, layer, "mlp.fc1.bias", inner, 0, inner), STRAND_BIAS_COLUMNS, STRAND_UNARY_GELU_TANH);
    x = layer_product(h, graph_name(h->g, LAYER, (long long)layer, "mlp.fc2"), x, false,
                      layer_matrix(h, layer, "mlp.fc2.weight", d, 0, d, inner), true,
                      layer_vector(h, layer, "mlp.fc2.bias", d, 0, d), STRAND_BIAS_COLUMNS, STRAND_UNARY_IDENTITY);
    return binary(h, graph_name(h->g, LAYER, (long long)layer, "mlp.add"), STRAND_BINARY_ADD, residual, x);
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

static const weights_tensor *head_weight(hyena *h, const weights_tensor **bias) {
    const weights_tensor *w = find(h, "head.output_transform.weight");
    *bias = find(h, "head.output_transform.bias");
    if (w) return w;
    w = find(h, "decoder.0.output_transform.weight");
    *bias = find(h, "decoder.0.output_transform.bias");
    if (w) return w;
    *bias = NULL;
    w = find(h, "score.weight");
    h->hf_head = w != NULL;
    return w;
}

static strand_status class_head(hyena *h, tensor_id ids, tensor_id hidden) {
    const weights_tensor *b, *w = head_weight(h, &b);
    if (!w) return STRAND_OK;
    if (w->rank != 2 || w->dims[0] < 1) return error_set(h->e, STRAND_ERR_FORMAT, "tensor '%s' is not [classes, d]", w->name);
    const char *given = config_given(h->config, "pool");
    h->pool = given ? given : json_text(h->config->root, "pool", h->hf_head ? "before_pad" : "pool");
    tensor_id weights_id = weight(h, w, w->name, w->dims[0], 0, w->dims[0], h->d, true);
    tensor_id bias = b ? weight(h, b, b->name, w->dims[0], 0, w->dims[0], 0, false) : 0;
    tensor_id x = hidden;
    if (strcmp(h->pool, "token") != 0) {
        strand_op_reduce p = {.token = PAD_ID};
        if (!pool_kind(h->pool, &p.kind))
            return error_set(h->e, STRAND_ERR_ARGUMENT,
                             "setting pool=%.40s is none of pool, mean, sum, first, last, ragged, before_pad, token", h->pool);
        x = graph_op(h->g, "head.pool", STRAND_OP_REDUCE, &p, (tensor_id[]){hidden, ids},
                     p.kind == STRAND_REDUCE_BEFORE_TOKEN ? 2 : 1, NULL);
    }
    graph_output_add(
        h->g, "class_logits",
        matmul(h, "head.output_transform", x, false, weights_id, true, bias, STRAND_BIAS_COLUMNS, STRAND_UNARY_IDENTITY));
    return config_record(h->m, "pool", h->pool, h->e);
}

/* ---- configuration ---- */

/* A number from key=value, else from config.json's `layer` or top, else the fallback. */
static strand_status number(hyena *h, const char *key, double fallback, double *out) {
    const char *given = config_given(h->config, key);
    *out = json_number(h->config->root ? json_get(h->config->root, "layer") : NULL, key, json_number(h->config->root, key, fallback));
    if (given && !config_parse_number(given, out))
        return error_set(h->e, STRAND_ERR_ARGUMENT, "setting %s=%.40s is not a number", key, given);
    return isfinite(*out) ? STRAND_OK : error_set(h->e, STRAND_ERR_ARGUMENT, "setting %s is not finite", key);
}

/* The grid's length: key=value, else as stored with the weights, else config.json (layer.l_max, or max_seq_len). */
static strand_status grid_length(hyena *h) {
    const char *given = config_given(h->config, "l_max");
    const weights_tensor *stored = find_layer(h, FILTER, 0, "pos_emb.t");
    const json *root = h->config->root;
    if (given && !config_parse_integer(given, &h->n))
        return error_set(h->e, STRAND_ERR_ARGUMENT, "setting l_max=%.40s is not an integer", given);
    if (!given && stored && stored->rank == 3) h->n = stored->dims[1];
    if (!given && !stored)
        h->n =
            json_int(root ? json_get(root, "layer") : NULL, "l_max", json_int(root, "l_max", json_int(root, "max_seq_len", 0)));
    if (h->n == 0)
        return error_set(h->e, STRAND_ERR_FORMAT,
                         "the sequence length is in neither the weights nor a config.json; give --set l_max=N");
    if (h->n < 4 || h->n > (int64_t)1 << 32)
        return error_set(h->e, STRAND_ERR_FORMAT, "l_max is %lld; expected 4 to 2^32", (long long)h->n);
    return STRAND_OK;
}

/* precision=f32 (the default), f16 or bf16. */
static strand_status product_precision(hyena *h) {
    const char *given = config_given(h->config, "precision");
    if (given && strcmp(given, "f32") != 0 && strcmp(given, "bf16") != 0 && strcmp(given, "f16") != 0)
        return error_set(h->e, STRAND_ERR_ARGUMENT, "setting precision=%.40s is none of f32, f16, bf16", given);
    h->precision = given && !strcmp(given, "bf16") ? STRAND_PRECISION_BF16 : STRAND_PRECISION_F32;
    h->halves = given && !strcmp(given, "f16");
    return config_record(h->m, "precision", h->halves ? "f16" : h->precision ? "bf16" : "f32", h->e);
}

static strand_status configure(hyena *h) {
    double shift, eps;
    const json *layer = h->config->root ? json_get(h->config->root, "layer") : NULL;
    const weights_tensor *embedding = find(h, "embeddings.word_embeddings.weight"),
                         *in_proj = find_layer(h, LAYER, 0, "mixer.in_proj.weight");
    if (!embedding || embedding->rank != 2)
        return error_set(h->e, STRAND_ERR_FORMAT, "embeddings.word_embeddings.weight is missing or not [vocabulary, d]");
    h->vocab = embedding->dims[0];
    h->d = embedding->dims[1];
    if (h->d < 1 || h->d > 65536) return error_set(h->e, STRAND_ERR_FORMAT, "d is %lld; expected 1 to 65536", (long long)h->d);
    if (!in_proj || in_proj->rank != 2 || in_proj->dims[0] != 3 * h->d)
        return error_set(h->e, STRAND_ERR_UNSUPPORTED,
                         "mixer.in_proj.weight is not [3 d, d]: only Hyena of order 2 is supported");
    while (find_layer(h, LAYER, h->layers, "mixer.in_proj.weight")) h->layers++;
    h->filters = ARENA_ARRAY(&h->m->arena, tensor_id, (size_t)h->layers);
    if (!h->filters) return error_set(h->e, STRAND_ERR_MEMORY, "out of memory while loading");
    if (number(h, "shift", 0.05, &shift) || number(h, "layer_norm_epsilon", 1e-5, &eps) || grid_length(h)) return h->e->status;
    h->shift = (float)shift;
    h->eps = (float)eps;
    h->modulate = json_bool(layer, "modulate", true);
    if (json_bool(layer, "normalized", false) || json_bool(layer, "bidirectional", false))
        return error_set(h->e, STRAND_ERR_UNSUPPORTED,
                         "config.json asks for a normalized or bidirectional filter, which no published model has");
    char text[32];
    snprintf(text, sizeof text, "%.9g", shift);
    if (config_record(h->m, "shift", text, h->e)) return h->e->status;
    snprintf(text, sizeof text, "%lld", (long long)h->n);
    return config_record(h->m, "l_max", text, h->e) ? h->e->status : product_precision(h);
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
    hyena h = {.m = m, .g = &m->graph, .config = config, .e = e};
    if (index_names(&h) || configure(&h)) return e->status;
    tensor_id ids = graph_input(h.g, "input_ids", STRAND_I64, 2, (op_dim[]){DIM_B, DIM_L});
    tensor_id table = weight(&h, find(&h, "embeddings.word_embeddings.weight"), "embeddings.word_embeddings.weight", h.vocab, 0,
                             h.vocab, h.d, true);
    tensor_id x = graph_op(h.g, "embeddings", STRAND_OP_GATHER, NULL, (tensor_id[]){table, ids}, 2, NULL);
    for (int64_t i = 0; i < h.layers && !e->status && !h.g->error.status; i++) x = mlp(&h, i, mixer(&h, i, x));
    const weights_tensor *lm_head = find(&h, "lm_head.weight");
    tensor_id head = lm_head ? weight(&h, lm_head, "lm_head.weight", h.vocab, 0, h.vocab, h.d, true) : table;
    tensor_id norm = weight(&h, find(&h, "ln_f.weight"), "ln_f.weight", h.d, 0, h.d, 0, false);
    tensor_id norm_bias = weight(&h, find(&h, "ln_f.bias"), "ln_f.bias", h.d, 0, h.d, 0, false);
    if (e->status) return e->status;
    x = layer_norm(&h, "ln_f", x, norm, norm_bias);
    graph_output_add(h.g, "hidden", x);
    graph_output_add(h.g, "logits", matmul(&h, "lm_head", x, false, head, true, 0, STRAND_BIAS_NONE, STRAND_UNARY_IDENTITY));
    if (class_head(&h, ids, x)) return e->status;
    for (int64_t i = 0; i < h.layers; i++)
        graph_output_on_request(h.g, graph_name(h.g, LAYER, (long long)i, "filter"), h.filters[i]);
    m->max_length = h.n;
    m->window = h.n - 2; /* the published models count two special tokens */
    set_tokenizer(m);
    return e->status;
}

static const char *const setting_keys[] = {"shift", "l_max", "pool", "layer_norm_epsilon", "precision", NULL};

const family family_hyenadna = {"hyenadna", recognise, build, setting_keys};

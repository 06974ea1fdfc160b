/* sleepnet.c - SimpleSleepNet: Guillot et al., "Dreem Open Datasets: Multi-Scored Sleep Datasets to Compare Human and
 * Automated Sleep Staging", arXiv 1911.03221; repository Dreem-Organization/dreem-learning-open (ModuloNet with a
 * SimpleSleepEpochEncoder).
 *
 * The published archive (a tar with state.torch and texts in JSON) is read as it is: sizes come from the tensors, the
 * spectrogram's parameters and the standardisation from normalization_parameters.json. An epoch (30 s) is a token:
 *   signals [B, L, channels, samples] -> clipped, scaled -> log10 power of Hann frames -> standardised
 *   -> bins to filters, channels to virtual channels, GRU both ways over the frames, attention over them: "reduced"
 *   -> beside features of the epoch's place in the night, residual GRUs both ways over the epochs -> classes
 * The spectrogram lies as [channel, frame] rows of bins, so that every step keeps to four axes; the product with the virtual
 * channels leaves [frame, (filter, channel)], for which the GRU's input weight is laid out anew. */
#include "nn.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIRST_KEY ".encoder.filter_reduction.weight"
#define LN10      2.302585092994045684

typedef struct sleepnet {
    builder b;
    char group[64];
    int64_t channels, bins, filters, cells, context, features, dense, width, sequence_cells, layers,
        classes; /* width: of `reduced` */
    int64_t samples, fft, hop, frames;
    double low, high, floor; /* of the clip; of a power */
    const json *mu, *sigma;
    bool logarithm;
    int input;
} sleepnet;

static const char *const input_kinds[] = {"signals", "reduced", NULL};

static bool group_of(const weights *w, char name[64]) {
    for (int64_t i = 0; i < weights_count(w); i++) {
        const char *full = weights_at(w, i)->name, *at = strstr(full, FIRST_KEY);
        if (!at || at[strlen(FIRST_KEY)] || at == full || at - full >= 64) continue;
        memcpy(name, full, (size_t)(at - full));
        name[at - full] = 0;
        return true;
    }
    return false;
}

static bool recognise(const weights *w, const json *config) {
    char name[64];
    (void)config;
    return group_of(w, name) && weights_find(w, "classifier.weight");
}

/* ---- what the archive says ---- */

/* A text of the archive as JSON, or the member of config.json of that name less ".json"; NULL where there is neither. */
static const json *text_of(sleepnet *s, const char *name) {
    const char *text = weights_metadata(s->b.m->weights, name);
    const json *root = NULL;
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)(strlen(name) - 5), name);
    if (!text) return json_get(s->b.config->root, key);
    json_parse(&s->b.m->arena, text, strlen(text), name, &root, s->b.e);
    return root;
}

static int64_t extent(const sleepnet *s, const char *name, int axis) {
    const weights_tensor *w = build_find(&s->b, name);
    return w && axis < w->rank ? w->dims[axis] : 0;
}

static const char *encoder_key(sleepnet *s, const char *part) {
    return graph_name(s->b.g, "%s.encoder.%s", s->group, part);
}

static void sizes(sleepnet *s) {
    s->filters = extent(s, encoder_key(s, "filter_reduction.weight"), 0);
    s->bins = extent(s, encoder_key(s, "filter_reduction.weight"), 1);
    s->channels = extent(s, encoder_key(s, "virtual_channels.weight"), 0);
    s->cells = extent(s, encoder_key(s, "gru.weight_hh_l0"), 1);
    s->width = s->cells * (build_find(&s->b, encoder_key(s, "gru.weight_hh_l0_reverse")) ? 2 : 1);
    s->context = extent(s, graph_name(s->b.g, "reducer.%s.context_matrix", s->group), 0);
    s->features = extent(s, "features_encoder.layers.0.linear_0.weight", 1);
    s->dense = extent(s, "features_encoder.layers.0.linear_0.weight", 0);
    s->sequence_cells = extent(s, "sequence_encoder.encoder.0.gru.weight_hh_l0", 1);
    s->classes = extent(s, "classifier.weight", 0);
    while (s->layers < 64 &&
           build_find(&s->b, graph_name(s->b.g, "sequence_encoder.encoder.%lld.gru.weight_hh_l0", (long long)s->layers)))
        s->layers++;
    const int64_t all[] = {s->filters, s->bins, s->channels, s->cells, s->context, s->sequence_cells, s->classes, s->layers};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] < 1 || all[i] > 1 << 16) {
            nn_fail(&s->b, STRAND_ERR_UNSUPPORTED,
                    "not a SimpleSleepNet: filter_reduction, virtual_channels, gru, reducer, sequence_encoder or classifier is "
                    "missing or too large");
            return;
        }
    if (build_find(&s->b, encoder_key(s, "gru.weight_hh_l1")) || build_find(&s->b, "features_encoder.layers.1.linear_1.weight"))
        nn_fail(&s->b, STRAND_ERR_UNSUPPORTED,
                "more than one layer in the epoch encoder's GRU or in the features encoder, which no published model has");
}

/* One step of the normalization of the signals. */
static void take_step(sleepnet *s, const json *step) {
    const char *type = json_text(step, "type", "");
    const json *args = json_get(step, "args");
    if (!strcmp(type, "clip_and_scale")) {
        s->low = json_number(args, "min_value", 0);
        s->high = json_number(args, "max_value", 0);
    } else if (!strcmp(type, "spectrogram")) {
        int64_t rate = json_int(args, "fs", 100), seconds = json_int(args, "window_duration", 2);
        if (rate < 1 || rate > 100000 || seconds < 1 || seconds > 100) {
            nn_fail(&s->b, STRAND_ERR_FORMAT,
                    "normalization_parameters.json: the spectrogram's fs or window_duration is out of range");
            return;
        }
        s->fft = 1;
        while (s->fft <= rate * seconds) s->fft *= 2; /* 2^int(log2(fs seconds) + 1) */
        s->hop = rate * json_int(args, "window_overlap", 1);
        s->logarithm = json_bool(args, "logpower", true);
        s->floor = json_number(args, "clamp", 1e-20);
    } else if (!strcmp(type, "standardization") || !strcmp(type, "standardize")) {
        s->mu = json_get(args, "mu");
        s->sigma = json_get(args, "sigma");
    } else {
        nn_fail(&s->b, STRAND_ERR_UNSUPPORTED,
                "normalization_parameters.json: step '%.40s' is none of clip_and_scale, spectrogram, standardization", type);
    }
}

static void normalization(sleepnet *s) {
    const json *root = text_of(s, "normalization_parameters.json"), *signals = json_get(root, "signals"),
               *groups = text_of(s, "groups.json");
    const json *steps =
        signals && signals->type == JSON_ARRAY && signals->first ? json_get(signals->first, "normalization") : NULL;
    if (!steps || steps->type != JSON_ARRAY) {
        nn_fail(&s->b, STRAND_ERR_FORMAT,
                "normalization_parameters.json is missing or has no signals; give the published archive, which holds it beside "
                "state.torch");
        return;
    }
    for (const json *step = steps->first; step && !build_failed(&s->b); step = step->next) take_step(s, step);
    const json *shape = json_get(json_get(groups, s->group), "shape");
    s->samples = shape && shape->type == JSON_ARRAY && shape->first && shape->first->is_integer ? shape->first->integer : 3000;
    if (build_failed(&s->b)) return;
    if (s->fft / 2 + 1 != s->bins || s->hop < 1 || s->hop > s->fft || s->samples < s->fft || s->samples > 1 << 22 ||
        !(s->high > s->low) || !(s->floor > 0))
        nn_fail(&s->b, STRAND_ERR_FORMAT,
                "normalization_parameters.json: no clip, or the spectrogram of %lld samples by windows of %lld has not the "
                "%lld bins of the weights",
                (long long)s->samples, (long long)s->fft, (long long)s->bins);
    if (!s->mu || !s->sigma)
        nn_fail(&s->b, STRAND_ERR_FORMAT, "normalization_parameters.json: a standardization with mu and sigma is missing");
    s->frames = s->hop ? 1 + (s->samples - s->fft) / s->hop : 0;
}

/* The numbers of nested arrays in order, `n` of them. */
static bool numbers_of(const json *j, double *to, int64_t n, int64_t *at) {
    if (j->type == JSON_NUMBER) {
        if (*at < n) to[*at] = j->number;
        return ++*at <= n;
    }
    if (j->type != JSON_ARRAY) return false;
    for (const json *x = j->first; x; x = x->next)
        if (!numbers_of(x, to, n, at)) return false;
    return true;
}

/* ---- spectrogram ---- */

/* [channels, samples] -> overlapping frames as rows [(channel, frame), fft]: pieces of `hop` samples, each shifted by one
 * more, side by side. */
static tensor_id frames_of(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    int64_t n = (s->fft + s->hop - 1) / s->hop, span = s->frames * s->hop, need = (n - 1) * s->hop + span;
    tensor_id *pieces = ARENA_ARRAY(&b->m->arena, tensor_id, (size_t)n);
    if (!pieces) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    if (need > s->samples) {
        strand_op_pad p = {.axis = 3, .after = need - s->samples};
        x = build_failed(b) ? 0 : graph_op(b->g, "frames.pad", STRAND_OP_PAD, &p, &x, 1, NULL);
    }
    for (int64_t i = 0; i < n; i++) {
        pieces[i] = nn_slice(b, "frames.piece", x, 3, i * s->hop, span);
        pieces[i] =
            build_reshape(b, "frames.piece", pieces[i], 4, (op_dim[]){DIM_B, DIM_L, DIM(s->channels * s->frames), DIM(s->hop)});
    }
    int64_t rest = s->fft - (n - 1) * s->hop;
    if (rest < s->hop) pieces[n - 1] = nn_slice(b, "frames.rest", pieces[n - 1], 3, 0, rest);
    return nn_concat(b, "frames", 3, pieces, n);
}

/* Hann's window with both ends at zero, divided by its sum. */
static tensor_id window(sleepnet *s) {
    float *w = ARENA_ARRAY(&s->b.m->arena, float, (size_t)s->fft);
    double sum = 0;
    if (!w) return nn_fail(&s->b, STRAND_ERR_MEMORY, "out of memory while loading");
    for (int64_t i = 0; i < s->fft; i++) sum += 0.5 - 0.5 * cos(2 * acos(-1.0) * (double)i / (double)(s->fft - 1));
    for (int64_t i = 0; i < s->fft; i++)
        w[i] = (float)((0.5 - 0.5 * cos(2 * acos(-1.0) * (double)i / (double)(s->fft - 1))) / sum);
    return nn_constant(&s->b, "window", 4, (int64_t[]){1, 1, 1, s->fft}, w);
}

/* x (1 / sigma) - mu / sigma, for each row of the spectrogram. */
static tensor_id standardized(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    int64_t n = s->channels * s->bins, at[2] = {0, 0}, dims[4] = {1, 1, s->channels * s->frames, s->bins};
    double *mu = ARENA_ARRAY(&b->m->arena, double, (size_t)(2 * n));
    float *scale = ARENA_ARRAY(&b->m->arena, float, (size_t)(n * s->frames)),
          *shift = ARENA_ARRAY(&b->m->arena, float, (size_t)(n * s->frames));
    if (!mu || !scale || !shift) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    if (!numbers_of(s->mu, mu, n, &at[0]) || !numbers_of(s->sigma, mu + n, n, &at[1]) || at[0] != n || at[1] != n)
        return nn_fail(b, STRAND_ERR_FORMAT, "normalization_parameters.json: mu and sigma are not [%lld channels, %lld bins]",
                       (long long)s->channels, (long long)s->bins);
    for (int64_t row = 0; row < s->channels * s->frames; row++)
        for (int64_t k = 0; k < s->bins; k++) {
            int64_t from = row / s->frames * s->bins + k;
            scale[row * s->bins + k] = (float)(1 / (mu[n + from] + 1e-15));
            shift[row * s->bins + k] = (float)(-mu[from] / (mu[n + from] + 1e-15));
        }
    x = build_binary(b, "standardized.scale", STRAND_BINARY_MUL, x, nn_constant(b, "standardized.scale", 4, dims, scale));
    return build_binary(b, "standardized", STRAND_BINARY_ADD, x, nn_constant(b, "standardized.shift", 4, dims, shift));
}

static tensor_id spectrogram(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    strand_op_fft p = {.kind = STRAND_FFT_R2C, .form = STRAND_FFT_POWER, .scale = 1};
    double scale = 1 / fmax(fabs(s->low), fabs(s->high));
    x = build_unary(b, "clip", STRAND_UNARY_CLAMP, x, (float)s->low, (float)s->high);
    x = build_unary(b, "scale", STRAND_UNARY_AFFINE, x, (float)scale, 0);
    x = build_binary(b, "frames.window", STRAND_BINARY_MUL, frames_of(s, x), window(s));
    if (build_failed(b)) return 0;
    x = graph_op(b->g, "power", STRAND_OP_FFT, &p, &x, 1, NULL);
    x = build_unary(b, "power.floor", STRAND_UNARY_CLAMP, x, (float)s->floor, 1e32f);
    if (s->logarithm)
        x = build_unary(b, "log10", STRAND_UNARY_AFFINE, build_unary(b, "log", STRAND_UNARY_LOG, x, 0, 0), (float)(1 / LN10),
                        0);
    return standardized(s, x);
}

/* ---- an epoch ---- */

/* The GRU's input weight, [3 cells, (channel, filter)] in the file, as [3 cells, (filter, channel)]. */
static tensor_id turned_input(void *user, bool reverse) {
    sleepnet *s = user;
    builder *b = &s->b;
    int64_t width = s->channels * s->filters, rows = 3 * s->cells;
    const char *name = encoder_key(s, reverse ? "gru.weight_ih_l0_reverse" : "gru.weight_ih_l0");
    const float *from = nn_floats(b, name, rows * width);
    float *to = from ? ARENA_ARRAY(&b->m->arena, float, (size_t)(rows * width)) : NULL;
    if (!to) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t f = 0; f < s->filters; f++) to[i * width + f * s->channels + c] = from[i * width + c * s->filters + f];
    return nn_constant(b, name, 2, (int64_t[]){rows, width}, to);
}

/* The spectrogram through the epoch encoder: [B, L, frames, width]. */
static tensor_id epoch_encoder(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    strand_op_matmul p = {.transpose_a = 1, .transpose_b = 1, .bias = STRAND_BIAS_COLUMNS};
    x = build_linear(b, encoder_key(s, "filter_reduction"), x, s->filters, s->bins, STRAND_UNARY_IDENTITY);
    x = build_reshape(b, "filters.by_channel", x, 4, (op_dim[]){DIM_B, DIM_L, DIM(s->channels), DIM(s->frames * s->filters)});
    tensor_id w = build_matrix(b, encoder_key(s, "virtual_channels.weight"), s->channels, s->channels),
              v = build_vector(b, encoder_key(s, "virtual_channels.bias"), s->channels);
    if (build_failed(b)) return 0;
    x = graph_op(b->g, encoder_key(s, "virtual_channels"), STRAND_OP_MATMUL, &p, (tensor_id[]){x, w, v}, 3, NULL);
    x = build_reshape(b, "filters.by_frame", x, 4, (op_dim[]){DIM_B, DIM_L, DIM(s->frames), DIM(s->filters * s->channels)});
    return nn_gru(b, encoder_key(s, "gru"), "l0", x, s->channels * s->filters, s->cells, turned_input, s);
}

/* Attention over the frames: [B, L, width]. */
static tensor_id reduced(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    strand_op_softmax p = {0};
    const char *base = graph_name(b->g, "reducer.%s", s->group);
    tensor_id w = build_matrix(b, graph_name(b->g, "%s.context_matrix", base), s->context, s->width),
              v = build_matrix(b, graph_name(b->g, "%s.context_vector", base), s->context, 1);
    tensor_id bias = build_vector(b, graph_name(b->g, "%s.context_bias", base), s->context);
    tensor_id u = build_product(b, "reducer.context", x, w, bias, STRAND_UNARY_TANH);
    u = build_reshape(b, "reducer.scores", build_product_plain(b, "reducer.scores", u, v, 0, STRAND_UNARY_IDENTITY), 4,
                      (op_dim[]){DIM_B, DIM_L, DIM(1), DIM(s->frames)});
    u = build_failed(b) ? 0 : graph_op(b->g, "reducer.attention", STRAND_OP_SOFTMAX, &p, &u, 1, NULL);
    return build_reshape(b, "reduced", build_product_plain(b, "reduced", u, x, 0, STRAND_UNARY_IDENTITY), 3,
                         (op_dim[]){DIM_B, DIM_L, DIM(s->width)});
}

/* ---- the night ---- */

/* The inputs that tell where in the night an epoch stands, in the archive's order, side by side. */
static tensor_id features_of(sleepnet *s) {
    builder *b = &s->b;
    const json *root = text_of(s, "features.json");
    tensor_id parts[16];
    int64_t n = 0, sum = 0;
    for (const json *f = root && root->type == JSON_OBJECT ? root->first : NULL; f && n < 16; f = f->next) {
        const json *shape = json_get(f, "shape");
        int64_t width =
            shape && shape->type == JSON_ARRAY && shape->first && shape->first->is_integer ? shape->first->integer : 0;
        if (width < 1 || width > s->features - sum) break;
        sum += width;
        parts[n++] = graph_input(b->g, f->key, STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(width)});
    }
    if (!root && s->features == 6) { /* the published ones */
        parts[n++] = graph_input(b->g, "epoch_index", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(1)});
        parts[n++] = graph_input(b->g, "epoch_cycle_index", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(5)});
        sum = 6;
    }
    if (sum != s->features)
        return nn_fail(b, STRAND_ERR_FORMAT, "features.json has not the %lld features of the weights", (long long)s->features);
    tensor_id x = nn_concat(b, "features", 2, parts, n);
    return build_linear(b, "features_encoder.layers.0.linear_0", x, s->dense, s->features, STRAND_UNARY_RELU);
}

static tensor_id sequence_encoder(sleepnet *s, tensor_id x, int64_t in) {
    builder *b = &s->b;
    for (int64_t i = 0; i < s->layers && !build_failed(b); i++) {
        const char *base = graph_name(b->g, "sequence_encoder.encoder.%lld", (long long)i),
                   *gru = graph_name(b->g, "%s.gru", base);
        int64_t out = s->sequence_cells * (build_find(b, graph_name(b->g, "%s.weight_ih_l0_reverse", gru)) ? 2 : 1);
        tensor_id skip = build_linear(b, graph_name(b->g, "%s.residual_connection", base), x, out, in, STRAND_UNARY_IDENTITY);
        tensor_id y = nn_gru(b, gru, "l0", x, in, s->sequence_cells, NULL, NULL);
        x = build_unary(b, graph_name(b->g, "%s.half", base), STRAND_UNARY_AFFINE,
                        build_binary(b, graph_name(b->g, "%s.sum", base), STRAND_BINARY_ADD, skip, y), 0.5f, 0);
        in = out;
    }
    return build_linear(b, "classifier", x, s->classes, in, STRAND_UNARY_IDENTITY);
}

/* The first epoch's, in the order of the published code: [B, channels, bins, frames]. */
static tensor_id shown_spectrogram(sleepnet *s, tensor_id x) {
    builder *b = &s->b;
    x = build_reshape(b, "spectrogram", nn_slice(b, "spectrogram", x, 1, 0, 1), 4,
                      (op_dim[]){DIM_B, DIM(s->channels), DIM(s->frames), DIM(s->bins)});
    return nn_permute(b, "spectrogram", x, 0, 1, 3, 2);
}

static tensor_id from_signals(sleepnet *s) {
    builder *b = &s->b;
    tensor_id x = graph_input(b->g, "signals", STRAND_F32, 4, (op_dim[]){DIM_B, DIM_L, DIM(s->channels), DIM(s->samples)});
    x = spectrogram(s, x);
    tensor_id shown = shown_spectrogram(s, x), encoded = epoch_encoder(s, x), r = reduced(s, encoded);
    graph_output_add(b->g, "spectrogram", shown);
    graph_output_add(b->g, "epoch_encoder", nn_permute(b, "epoch_encoder", encoded, 0, 1, 3, 2));
    graph_output_add(b->g, "reduced", r);
    return r;
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    static const build_rename names[] = {{NULL, NULL}};
    sleepnet s = {.low = 0, .high = 0};
    strand_op_softmax p = {0};
    if (build_start(&s.b, m, config, e, names)) return e->status;
    if (!group_of(m->weights, s.group)) return error_set(e, STRAND_ERR_FORMAT, "no filter_reduction.weight");
    sizes(&s);
    nn_choice(&s.b, "input", 0, input_kinds, &s.input);
    if (!build_failed(&s.b) && s.input == 0) normalization(&s);
    if (build_failed(&s.b)) return e->status;
    tensor_id x =
        s.input == 0 ? from_signals(&s) : graph_input(s.b.g, "reduced", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(s.width)});
    if (s.features) x = nn_concat(&s.b, "epoch", 2, (tensor_id[]){x, features_of(&s)}, 2);
    x = sequence_encoder(&s, x, s.width + (s.features ? s.dense : 0));
    if (build_failed(&s.b)) return e->status;
    graph_output_add(s.b.g, "logits", x);
    graph_output_add(s.b.g, "probabilities", graph_op(s.b.g, "probabilities", STRAND_OP_SOFTMAX, &p, &x, 1, NULL));
    m->window = 21; /* epochs that the published training and evaluation give at a time */
    m->max_length = (int64_t)1 << 20;
    return e->status;
}

static const char *const setting_keys[] = {"input", NULL};

const family family_sleepnet = {"sleepnet", recognise, build, setting_keys};

/* dcrnn.c - DCRNN for EEG: Tang et al., "Self-Supervised Graph Neural Networks for Improved Electroencephalographic Seizure
 * Analysis", arXiv 2104.08336; repository tsy935/eeg-gnn-ssl. Two forms: the encoder-decoder that predicts the next seconds'
 * log amplitudes (the published pretrained checkpoints), and the encoder with a head that detects or classifies seizures.
 *
 * A token is a second: [nodes, bins] log amplitudes, standardised (input "features_in"), or the second's samples (input
 * "frames", by the setting input=frames). The graph over the electrodes is the published table of distances, the
 * correlations of the sequence itself, or given. Each layer is a GRU on that graph whose products read x, S x, 2 S S x - x
 * of both input and state; the input's part is made for all tokens at once, the state's part token by token (GRAPH_GRU); a
 * session keeps the encoder's states from run to run, and every prediction begins at them. With two supports the published
 * code starts the second from S x of the first (STRAND_DIFFUSION_CARRY_OVER). Sizes come from the tensors' shapes. */
#include "nn.h"

#include <stdio.h>
#include <string.h>

#define ELECTRODES  19 /* of the published table, in the order of the TUH corpus */
#define MOST_LAYERS 16

enum { GRAPH_DISTANCE, GRAPH_CORRELATION, GRAPH_ADJACENCY, GRAPH_SUPPORTS };
static const char *const graph_kinds[] = {"distance", "correlation", "adjacency", "supports", NULL};
enum { FILTER_LAPLACIAN, FILTER_RANDOM_WALK, FILTER_DUAL };
static const char *const filter_kinds[] = {"laplacian", "random_walk", "dual_random_walk", NULL};
static const char *const input_kinds[] = {"features", "frames", NULL};
static const char *const length_kinds[] = {"given", "full", NULL};

typedef struct dcrnn {
    builder b;
    int64_t layers, decoder_layers, nodes, bins, hidden, width, out, classes,
        matrices;                         /* width: 2 bins, samples of a frame; matrices: of a diffusion */
    int64_t steps, count, horizon, top_k; /* steps of each of `count` supports */
    int graph, filter, input, lengths;
    double mean, std;
    tensor_id supports, adjacency, features, log_amplitudes; /* supports: [count, N, N], or with the batch in front */
    tensor_id last[MOST_LAYERS];                             /* the encoder's states after the last token, [B, N, H] */
    tensor_id top;                                           /* the last layer's output, [B, L, N, H] */
} dcrnn;

/* exp(-d^2 / s^2) of the distances between electrodes that are near each other: the published table
 * (electrode_graph/adj_mx_3d.pkl of the repository, MIT licence) for FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 FZ CZ
 * PZ; 1 on the diagonal, the same both ways. */
static const struct {
    unsigned char a, b;
    float weight;
} neighbours[] = {
    {0, 1, 0.242432281f},   {0, 2, 0.241356477f},   {0, 10, 0.242375731f},  {0, 16, 0.0880156904f}, {1, 3, 0.241356477f},
    {1, 11, 0.242375731f},  {1, 16, 0.0880156904f}, {2, 4, 0.145170063f},   {2, 10, 0.302573055f},  {2, 16, 0.276508451f},
    {3, 5, 0.145170063f},   {3, 11, 0.302573055f},  {3, 16, 0.276508451f},  {4, 6, 0.145170063f},   {4, 12, 0.113790922f},
    {4, 17, 0.113790922f},  {5, 7, 0.145170063f},   {5, 13, 0.113790922f},  {5, 17, 0.113790922f},  {6, 8, 0.241356477f},
    {6, 14, 0.302573055f},  {6, 18, 0.276508451f},  {7, 9, 0.241356477f},   {7, 15, 0.302573055f},  {7, 18, 0.276508451f},
    {8, 9, 0.242432281f},   {8, 14, 0.242375731f},  {8, 18, 0.0880156904f}, {9, 15, 0.242375731f},  {9, 18, 0.0880156904f},
    {10, 12, 0.242373049f}, {11, 13, 0.242373049f}, {12, 14, 0.242373049f}, {13, 15, 0.242373049f}, {16, 17, 0.113790922f},
    {17, 18, 0.113790922f},
};

/* Means and standard deviations of the training sets' log amplitudes, as shipped with the repository; [task][12 s, 60 s]. */
enum { TASK_PREDICTION, TASK_DETECTION, TASK_CLASSIFICATION };
static const struct {
    double mean, std;
} statistics[3][2] = {
    {{3.808460947197539, 1.5516092967049024}, {3.808307299905376, 1.5440068213287503}},
    {{3.9594627590488702, 1.5625200363244962}, {3.9242837611870645, 1.5599928276287975}},
    {{3.981457343719602, 1.5870710479224472}, {4.12258998192877, 1.5707507684052386}},
};

/* ---- what the file holds ---- */

#define FIRST_KEY "encoder.encoding_cells.0.dconv_gate.weight"

static const build_rename names[] = {{"module.", ""}, {"model.", ""}, {NULL, NULL}};

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, FIRST_KEY);
}

static const char *cell(dcrnn *d, const char *side, int64_t layer, const char *part) {
    return graph_name(d->b.g, "%s_cells.%lld.dconv_%s", side, (long long)layer, part);
}
#define ENCODER "encoder.encoding"
#define DECODER "decoder.decoding"

static int64_t count_cells(dcrnn *d, const char *side) {
    int64_t n = 0;
    while (n < MOST_LAYERS && build_find(&d->b, cell(d, side, n, "gate.weight"))) n++;
    return n;
}

/* Rows of a cell's gate weight: (features + hidden) matrices. */
static int64_t rows_of(dcrnn *d, const char *side, int64_t layer) {
    const weights_tensor *w = build_find(&d->b, cell(d, side, layer, "gate.weight"));
    return w && w->rank == 2 ? w->dims[0] : 0;
}

static void sizes(dcrnn *d) {
    const weights_tensor *biases = build_find(&d->b, cell(d, ENCODER, 0, "gate.biases")), *fc = build_find(&d->b, "fc.weight");
    const weights_tensor *projection = build_find(&d->b, "decoder.projection_layer.weight");
    int64_t rows = rows_of(d, ENCODER, 0), next;
    d->layers = count_cells(d, ENCODER);
    d->decoder_layers = projection ? count_cells(d, DECODER) : 0;
    d->hidden = biases && biases->rank == 1 && biases->dims[0] % 2 == 0 ? biases->dims[0] / 2 : 0;
    if (d->hidden < 1 || d->hidden > 8192 || rows < 1 || rows > 1 << 24) {
        nn_fail(&d->b, STRAND_ERR_FORMAT,
                "the first cell's gate is not [(bins + hidden) matrices, 2 hidden] with 2 hidden biases");
        return;
    }
    nn_integer(&d->b, "max_diffusion_step", 2, 1, 16, &d->steps);
    next = d->layers > 1 ? rows_of(d, ENCODER, 1) : 0;
    d->matrices = next ? next / (2 * d->hidden) : 0;
    if (!next) { /* one layer: the file does not say it */
        int64_t bins;
        nn_integer(&d->b, "input_dim", 100, 1, 1 << 16, &bins);
        d->matrices = rows / (bins + d->hidden);
    }
    d->count = (d->matrices - 1) / d->steps;
    d->bins = d->matrices > 0 ? rows / d->matrices - d->hidden : 0;
    if (d->matrices < 2 || d->count < 1 || d->count > 2 || d->matrices != 1 + d->count * d->steps || d->bins < 1 ||
        rows != (d->bins + d->hidden) * d->matrices) {
        nn_fail(&d->b, STRAND_ERR_FORMAT,
                "the cells' rows are not (features + hidden) times 1 + supports x %lld; is max_diffusion_step another?",
                (long long)d->steps);
        return;
    }
    if (!projection && (!fc || fc->rank != 2 || fc->dims[0] < 1 || fc->dims[0] > 4096)) {
        nn_fail(&d->b, STRAND_ERR_FORMAT,
                "the file has neither a decoder (decoder.projection_layer.weight) nor a head (fc.weight [classes, hidden])");
        return;
    }
    d->classes = projection ? 0 : fc->dims[0];
    d->out = projection && projection->rank == 2 ? projection->dims[0] : 0;
    if (projection && (d->out < 1 || d->out > 1 << 16 || d->decoder_layers != d->layers))
        nn_fail(&d->b, STRAND_ERR_FORMAT,
                "the decoder has %lld cells, the encoder %lld, and the projection must be [bins, hidden]",
                (long long)d->decoder_layers, (long long)d->layers);
}

/* ---- settings ---- */

static void configure(dcrnn *d) {
    builder *b = &d->b;
    int64_t seconds;
    const char *path = weights_path(b->m->weights), *file = path ? strrchr(path, '/') : NULL;
    bool long_name = strstr(file ? file : path ? path : "", "60s") != NULL;
    sizes(d);
    if (build_failed(b) || build_settings(b)) return;
    nn_integer(b, "num_nodes", ELECTRODES, 1, 1024, &d->nodes);
    nn_choice(b, "filter_type", d->count == 2 ? FILTER_DUAL : FILTER_LAPLACIAN, filter_kinds, &d->filter);
    nn_choice(b, "graph", d->count == 2 ? GRAPH_CORRELATION : GRAPH_DISTANCE, graph_kinds, &d->graph);
    nn_choice(b, "input", 0, input_kinds, &d->input);
    nn_integer(b, "input_steps", long_name ? 60 : 12, 1, 1 << 20, &seconds);
    const int task = d->out ? TASK_PREDICTION : d->classes == 1 ? TASK_DETECTION : TASK_CLASSIFICATION;
    nn_number(b, "mean", statistics[task][seconds > 12].mean, -1e6, 1e6, &d->mean);
    nn_number(b, "std", statistics[task][seconds > 12].std, 1e-6, 1e6, &d->std);
    if (d->graph == GRAPH_CORRELATION) {
        int64_t fallback = d->nodes < 3 ? d->nodes : 3;
        nn_integer(b, "top_k", fallback, 1, 1024, &d->top_k);
    }
    if (d->out) nn_integer(b, "output_steps", 12, 1, 1024, &d->horizon);
    if (!d->out) nn_choice(b, "lengths", 0, length_kinds, &d->lengths);
    if ((d->filter == FILTER_DUAL) != (d->count == 2))
        nn_fail(b, STRAND_ERR_FORMAT, "filter_type %s makes another number of supports than the weights are for (%lld)",
                filter_kinds[d->filter], (long long)d->count);
    if (d->graph == GRAPH_DISTANCE && d->nodes != ELECTRODES)
        nn_fail(b, STRAND_ERR_ARGUMENT,
                "the table of distances has %d electrodes, not num_nodes = %lld; give --set graph=adjacency", ELECTRODES,
                (long long)d->nodes);
    b->m->window = seconds;
    b->m->max_length = (int64_t)1 << 24;
}

/* ---- features ---- */

static void features(dcrnn *d) {
    builder *b = &d->b;
    if (d->input == 0) {
        d->features = graph_input(b->g, "features_in", STRAND_F32, 4, (op_dim[]){DIM_B, DIM_L, DIM(d->nodes), DIM(d->bins)});
        return;
    }
    strand_op_fft p = {.kind = STRAND_FFT_R2C, .form = STRAND_FFT_LOG_AMPLITUDE, .bins = d->bins, .scale = 1, .floor = 1e-8f};
    tensor_id x = graph_input(b->g, "frames", STRAND_F32, 4, (op_dim[]){DIM_B, DIM_L, DIM(d->nodes), DIM(2 * d->bins)});
    d->log_amplitudes = graph_op(b->g, "logfft", STRAND_OP_FFT, &p, &x, 1, NULL);
    d->features =
        build_unary(b, "features", STRAND_UNARY_AFFINE, d->log_amplitudes, (float)(1 / d->std), (float)(-d->mean / d->std));
}

/* ---- the graph ---- */

static tensor_id distances(dcrnn *d) {
    float *a = ARENA_ARRAY(&d->b.m->arena, float, ELECTRODES *ELECTRODES);
    if (!a) return nn_fail(&d->b, STRAND_ERR_MEMORY, "out of memory while loading");
    memset(a, 0, ELECTRODES * ELECTRODES * sizeof *a);
    for (int i = 0; i < ELECTRODES; i++) a[i * ELECTRODES + i] = 1;
    for (size_t i = 0; i < sizeof neighbours / sizeof neighbours[0]; i++) {
        a[neighbours[i].a * ELECTRODES + neighbours[i].b] = neighbours[i].weight;
        a[neighbours[i].b * ELECTRODES + neighbours[i].a] = neighbours[i].weight;
    }
    return nn_constant(&d->b, "distances", 3, (int64_t[]){1, ELECTRODES, ELECTRODES}, a);
}

/* Of the log amplitudes of the whole sequence, as they are before they are standardised. */
static tensor_id correlations(dcrnn *d) {
    builder *b = &d->b;
    strand_op_knn_adjacency p = {.k = d->top_k, .flags = STRAND_KNN_NOT_SELF | STRAND_KNN_ABSOLUTE | STRAND_KNN_UNIT_DIAGONAL};
    tensor_id x = d->log_amplitudes;
    if (!x) x = build_unary(b, "correlation.features", STRAND_UNARY_AFFINE, d->features, (float)d->std, (float)d->mean);
    x = nn_permute(b, "correlation.by_node", x, 0, 2, 1, 3);
    return build_failed(b) ? 0 : graph_op(b->g, "correlation", STRAND_OP_KNN_ADJACENCY, &p, &x, 1, NULL);
}

static tensor_id given_square(dcrnn *d, const char *name) {
    return graph_input(d->b.g, name, STRAND_F32, 3, (op_dim[]){DIM_B, DIM(d->nodes), DIM(d->nodes)});
}

static void given_supports(dcrnn *d) {
    builder *b = &d->b;
    tensor_id s[2] = {0, 0};
    for (int64_t i = 0; i < d->count; i++)
        s[i] = build_reshape(b, "supports.one", given_square(d, i ? "support1" : "support0"), 4,
                             (op_dim[]){DIM_B, DIM(1), DIM(d->nodes), DIM(d->nodes)});
    d->supports = nn_concat(b, "supports", 1, s, d->count);
}

static void graph_of(dcrnn *d) {
    builder *b = &d->b;
    static const uint32_t kinds[] = {STRAND_SUPPORTS_LAPLACIAN, STRAND_SUPPORTS_RANDOM_WALK, STRAND_SUPPORTS_DUAL_RANDOM_WALK};
    strand_op_graph_supports p = {.kind = kinds[d->filter]};
    if (d->graph == GRAPH_SUPPORTS) {
        given_supports(d);
        return;
    }
    d->adjacency = d->graph == GRAPH_DISTANCE      ? distances(d)
                   : d->graph == GRAPH_CORRELATION ? correlations(d)
                                                   : given_square(d, "adjacency");
    if (build_failed(b)) return;
    d->supports = graph_op(b->g, "supports", STRAND_OP_GRAPH_SUPPORTS, &p, &d->adjacency, 1, NULL);
    if (d->graph == GRAPH_DISTANCE)
        d->supports =
            build_reshape(b, "supports.shared", d->supports, 3, (op_dim[]){DIM(d->count), DIM(d->nodes), DIM(d->nodes)});
}

/* ---- cells ---- */

/* One half of a cell's weight: the rows of the input's features (they come first), or of the state's. */
static tensor_id rows(dcrnn *d, const char *side, int64_t layer, const char *part, int64_t in, bool state, int64_t columns) {
    int64_t all = (in + d->hidden) * d->matrices, first = in * d->matrices;
    return build_f32_rows(&d->b, cell(d, side, layer, part), all, state ? first : 0, state ? all - first : first, columns);
}

/* x [B, L, N, in] through a cell from `state` on. */
static tensor_id run_cell(dcrnn *d, const char *side, int64_t layer, tensor_id x, int64_t in, tensor_id state,
                          tensor_id *last) {
    builder *b = &d->b;
    strand_op_diffusion spread = {.steps = d->steps, .flags = STRAND_DIFFUSION_CARRY_OVER};
    strand_op_graph_gru p = {.steps = d->steps, .flags = STRAND_DIFFUSION_CARRY_OVER, .precision = b->precision};
    if (build_failed(b)) return 0;
    x = graph_op(b->g, cell(d, side, layer, "diffusion"), STRAND_OP_DIFFUSION, &spread, (tensor_id[]){x, d->supports}, 2, NULL);
    tensor_id gate_bias = build_vector(b, cell(d, side, layer, "gate.biases"), 2 * d->hidden),
              bias = build_vector(b, cell(d, side, layer, "candidate.biases"), d->hidden);
    tensor_id gates =
        build_product_plain(b, cell(d, side, layer, "gate.input"), x,
                            rows(d, side, layer, "gate.weight", in, false, 2 * d->hidden), gate_bias, STRAND_UNARY_IDENTITY);
    tensor_id candidate =
        build_product_plain(b, cell(d, side, layer, "candidate.input"), x,
                            rows(d, side, layer, "candidate.weight", in, false, d->hidden), bias, STRAND_UNARY_IDENTITY);
    tensor_id w = rows(d, side, layer, "gate.weight", in, true, 2 * d->hidden),
              wc = rows(d, side, layer, "candidate.weight", in, true, d->hidden);
    if (build_failed(b)) return 0;
    return graph_op2(b->g, cell(d, side, layer, "gru"), STRAND_OP_GRAPH_GRU, &p,
                     (tensor_id[]){gates, candidate, d->supports, w, wc, state}, 6, NULL, last);
}

static void encoder(dcrnn *d) {
    tensor_id x = d->features;
    int64_t in = d->bins;
    for (int64_t i = 0; i < d->layers && !build_failed(&d->b); i++, in = d->hidden) {
        tensor_id state =
            graph_state(d->b.g, cell(d, ENCODER, i, "state"), STRAND_F32, 3, (op_dim[]){DIM_B, DIM(d->nodes), DIM(d->hidden)});
        x = run_cell(d, ENCODER, i, x, in, state, &d->last[i]);
        graph_state_next(d->b.g, state, d->last[i]);
    }
    d->top = x;
}

/* ---- prediction ---- */

static tensor_id project(dcrnn *d, tensor_id x, bool bias) {
    builder *b = &d->b;
    tensor_id w = build_matrix(b, "decoder.projection_layer.weight", d->out, d->hidden),
              v = bias ? build_vector(b, "decoder.projection_layer.bias", d->out) : 0;
    return build_product(b, "decoder.projection_layer", x, w, v, STRAND_UNARY_IDENTITY);
}

/* From the encoder's states; what is predicted goes in again, first a second of zeros. */
static tensor_id decoder(dcrnn *d) {
    builder *b = &d->b;
    tensor_id state[MOST_LAYERS], *made = ARENA_ARRAY(&b->m->arena, tensor_id, (size_t)d->horizon);
    if (!made) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
    memcpy(state, d->last, sizeof state);
    tensor_id x = build_reshape(b, "decoder.start", state[0], 4, (op_dim[]){DIM_B, DIM(1), DIM(d->nodes), DIM(d->hidden)});
    x = project(d, build_unary(b, "decoder.start", STRAND_UNARY_AFFINE, x, 0, 0), false);
    for (int64_t t = 0; t < d->horizon && !build_failed(b); t++) {
        int64_t in = d->out;
        for (int64_t i = 0; i < d->layers; i++, in = d->hidden) x = run_cell(d, DECODER, i, x, in, state[i], &state[i]);
        made[t] = x = project(d, x, true);
    }
    return nn_concat(b, "prediction", 1, made, d->horizon);
}

/* ---- detection and classification ---- */

static tensor_id probabilities(dcrnn *d, const char *name, tensor_id logits) {
    strand_op_softmax p = {0};
    if (d->classes == 1) return build_unary(&d->b, name, STRAND_UNARY_SIGMOID, logits, 0, 0);
    return build_failed(&d->b) ? 0 : graph_op(d->b.g, name, STRAND_OP_SOFTMAX, &p, &logits, 1, NULL);
}

/* fc of what is left of h [..., N, H] above 0, the largest over the nodes. */
static tensor_id head(dcrnn *d, const char *name, tensor_id h, int node_axis) {
    builder *b = &d->b;
    tensor_id x = build_linear(b, "fc", build_unary(b, "fc.relu", STRAND_UNARY_RELU, h, 0, 0), d->classes, d->hidden,
                               STRAND_UNARY_IDENTITY);
    return nn_reduce(b, name, STRAND_AXIS_MAX, node_axis, false, x, 0);
}

static void classifier(dcrnn *d) {
    builder *b = &d->b;
    tensor_id last = d->last[d->layers - 1];
    if (d->lengths == 0) {
        tensor_id lengths = graph_input(b->g, "seq_lengths", STRAND_I64, 1, (op_dim[]){DIM_B});
        last = nn_reduce(b, "last_step", STRAND_AXIS_FINAL, 1, false, d->top, lengths);
    }
    tensor_id logits = head(d, "logits", last, 1), each = head(d, "logits_steps", d->top, 2);
    graph_output_add(b->g, "logits", logits);
    graph_output_add(b->g, "probabilities", probabilities(d, "probabilities", logits));
    graph_output_on_request(b->g, "logits_steps", each);
    graph_output_on_request(b->g, "probabilities_steps", probabilities(d, "probabilities_steps", each));
}

/* ---- outputs that show the insides ---- */

/* A graph shared by the batch, or one of its supports, once for each entry: [B, N, N]. */
static tensor_id each_entry(dcrnn *d, const char *name, tensor_id shared) {
    builder *b = &d->b;
    tensor_id x = nn_slice(b, name, nn_slice(b, name, nn_slice(b, name, d->features, 1, 0, 1), 2, 0, 1), 3, 0, 1);
    x = build_unary(b, name, STRAND_UNARY_CLAMP, build_reshape(b, name, x, 3, (op_dim[]){DIM_B, DIM(1), DIM(1)}), 0, 0);
    shared = build_reshape(b, name, shared, 3, (op_dim[]){DIM(1), DIM(d->nodes), DIM(d->nodes)});
    return build_binary(b, name, STRAND_BINARY_ADD, x, shared);
}

static tensor_id support(dcrnn *d, int64_t i, const char *name) {
    builder *b = &d->b;
    if (d->graph == GRAPH_DISTANCE) return each_entry(d, name, nn_slice(b, name, d->supports, 0, i, 1));
    return build_reshape(b, name, nn_slice(b, name, d->supports, 1, i, 1), 3, (op_dim[]){DIM_B, DIM(d->nodes), DIM(d->nodes)});
}

static tensor_id hidden(dcrnn *d) {
    builder *b = &d->b;
    tensor_id rows_[MOST_LAYERS];
    for (int64_t i = 0; i < d->layers; i++)
        rows_[i] = build_reshape(b, "encoder_hidden", d->last[i], 3, (op_dim[]){DIM_B, DIM(1), DIM(d->nodes * d->hidden)});
    return nn_concat(b, "encoder_hidden", 1, rows_, d->layers);
}

static void insides(dcrnn *d) {
    builder *b = &d->b;
    void (*const add)(graph *, const char *, tensor_id) = d->out ? graph_output_add : graph_output_on_request;
    add(b->g, "encoder_hidden", hidden(d));
    if (d->graph != GRAPH_SUPPORTS) {
        add(b->g, "support0", support(d, 0, "support0"));
        if (d->count > 1) add(b->g, "support1", support(d, 1, "support1"));
        if (d->graph != GRAPH_ADJACENCY)
            add(b->g, "adjacency", d->graph == GRAPH_DISTANCE ? each_entry(d, "adjacency", d->adjacency) : d->adjacency);
    }
    graph_output_on_request(b->g, "hidden", d->top);
    if (d->log_amplitudes) graph_output_on_request(b->g, "logfft", d->log_amplitudes);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    dcrnn d = {.supports = 0};
    if (build_start(&d.b, m, config, e, names)) return e->status;
    configure(&d);
    if (build_failed(&d.b)) return e->status;
    features(&d);
    graph_of(&d);
    encoder(&d);
    if (d.out) {
        tensor_id prediction = decoder(&d);
        graph_output_add(d.b.g, "prediction", prediction);
        insides(&d);
        graph_output_on_request(
            d.b.g, "prediction_log",
            build_unary(&d.b, "prediction_log", STRAND_UNARY_AFFINE, prediction, (float)d.std, (float)d.mean));
    } else {
        classifier(&d);
        insides(&d);
    }
    return e->status;
}

static const char *const setting_keys[] = {"graph",       "input",        "filter_type", "mean",      "std",
                                           "input_steps", "output_steps", "top_k",       "num_nodes", "max_diffusion_step",
                                           "input_dim",   "lengths",      BUILD_SETTINGS, NULL};

const family family_dcrnn = {"dcrnn", recognise, build, setting_keys};

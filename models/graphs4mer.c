/* graphs4mer.c - GraphS4mer: Tang et al., "Modeling Multivariate Biosignals With Graph Neural Networks and Structured State
 * Space Models", arXiv 2211.11176; repository tsy935/graphs4mer. Lightning checkpoints (`model.`) and bare ones.
 *
 * Each channel (a node) goes through a stack of S4 layers by itself; its output is averaged over windows of `resolution`
 * samples, or over the true length; of each window a graph over the nodes is made (nearest neighbours by cosine, mixed with
 * attention, pruned), GINE layers pass messages over it, and windows and nodes are pooled.
 *
 * Layouts: residual stream [B, N, T, H], convolutions [B, N, H, T]; the product after a convolution reads it transposed, so
 * that each layer turns its data once. T is fixed, since windows are: the setting max_seq_len. */
#include "nn.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MOST_LAYERS  64
#define MOST_WINDOWS 512

enum { DATASET_TUH, DATASET_DODH, DATASET_ICBEB };
static const char *const datasets[] = {"tuh", "dodh", "icbeb", NULL};
enum { METRIC_ATTENTION, METRIC_COSINE, METRIC_WEIGHTED, METRIC_ADAPTIVE };
static const char *const metrics[] = {"self_attention", "cosine", "weighted_cosine", "adaptive", NULL};
enum { PRUNE_ABOVE, PRUNE_TOP, PRUNE_KNN };
static const char *const prunings[] = {"thresh_abs", "thresh", "knn", NULL};
enum { POOL_SUM, POOL_MEAN, POOL_MAX };
static const char *const graph_pools[] = {"sum", "mean", "max", NULL};
static const char *const temporal_pools[] = {"mean", "last", NULL};
static const char *const activations[] = {"relu", "leaky_relu", "elu", "gelu", NULL};
static const char *const length_kinds[] = {"full", "given", NULL};
static const char *const none_or_glu[] = {"none", "glu", NULL};

typedef struct graphs4mer {
    builder b;
    int64_t nodes, length, resolution, windows, hidden, inputs, layers, gnn_layers, classes, states, trained,
        k; /* trained: the kernels' length */
    int metric, prune, graph_pool, temporal_pool, activation, glu;
    bool gru, bidirectional, prenorm, masked, undirected, prior, multilabel;
    double thresh, top, residual;
    tensor_id x, lengths, mask, given, kernels[2]; /* mask [B, 1, 1, T]; given: the prior graph; kernels: of the first layer */
} graphs4mer;

/* ---- what the file holds ---- */

#define FIRST_KEY "gnn_layers.0.nn.0.weight"

static const build_rename names[] = {{"module.", ""}, {"model.", ""}, {"net.", ""}, {NULL, NULL}};

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, names, FIRST_KEY);
}

static int64_t extent(const graphs4mer *m, const char *name, int axis) {
    const weights_tensor *w = build_find(&m->b, name);
    return w && axis < w->rank ? w->dims[axis] : 0;
}

static const char *s4_key(graphs4mer *m, int64_t layer, const char *part) {
    return graph_name(m->b.g, "t_model.s4_layers.%lld.%s", (long long)layer, part);
}

/* The length for which the kernels' C is stored. */
static void trained_length(graphs4mer *m) {
    const weights_tensor *w = build_find(&m->b, s4_key(m, 0, "kernel.kernel.L"));
    if (w && w->dtype == STRAND_I64 && w->bytes == 8) memcpy(&m->trained, w->data, 8);
    if (m->trained < 2 || m->trained > (int64_t)1 << 24)
        nn_fail(
            &m->b, STRAND_ERR_FORMAT,
            "kernel.kernel.L of the first layer is missing, or not 2 to 2^24: C is stored for a length once the model has run");
}

static void sizes(graphs4mer *m) {
    m->hidden = extent(m, FIRST_KEY, 1);
    m->classes = extent(m, "classifier.weight", 0);
    m->gru = build_find(&m->b, "t_model.weight_ih_l0") != NULL;
    m->inputs = m->gru ? extent(m, "t_model.weight_ih_l0", 1) : extent(m, "t_model.encoder.weight", 1);
    while (m->gnn_layers < MOST_LAYERS &&
           build_find(&m->b, graph_name(m->b.g, "gnn_layers.%lld.nn.0.weight", (long long)m->gnn_layers)))
        m->gnn_layers++;
    while (m->layers < MOST_LAYERS &&
           build_find(&m->b, m->gru ? graph_name(m->b.g, "t_model.weight_ih_l%lld", (long long)m->layers)
                                    : s4_key(m, m->layers, "kernel.kernel.C")))
        m->layers++;
    if (m->hidden < 1 || m->hidden > 8192 || m->classes < 1 || m->classes > 1 << 16 || m->inputs < 1 || m->inputs > 8192 ||
        m->layers < 1) {
        nn_fail(&m->b, STRAND_ERR_FORMAT,
                "t_model (S4 layers of version 3, or a GRU), gnn_layers or classifier is missing or too large");
        return;
    }
    if (m->gru) {
        if (build_find(&m->b, "t_model.weight_ih_l0_reverse"))
            nn_fail(&m->b, STRAND_ERR_UNSUPPORTED, "a bidirectional GRU, which the published model cannot run");
        return;
    }
    m->states = extent(m, s4_key(m, 0, "kernel.kernel.C"), 2);
    m->bidirectional = extent(m, s4_key(m, 0, "kernel.kernel.C"), 0) == 2;
    if (extent(m, s4_key(m, 0, "D"), 0) != 1 || extent(m, s4_key(m, 0, "kernel.kernel.C"), 0) > 2)
        nn_fail(&m->b, STRAND_ERR_UNSUPPORTED, "S4 layers of more than one channel (D is not [1, hidden])");
    trained_length(m);
}

/* ---- settings ---- */

static const struct {
    int64_t nodes, resolution, k;
    int pool;
    double thresh;
    bool multilabel;
} published[] = {{19, 2000, 2, POOL_MAX, 0.1, false}, {16, 2500, 3, POOL_SUM, 0.1, false}, {12, 0, 2, POOL_MEAN, 0.02, true}};

static void configure(graphs4mer *m) {
    builder *b = &m->b;
    int set, masked;
    sizes(m);
    if (build_failed(b) || build_settings(b)) return;
    nn_choice(b, "dataset", m->classes == 9 ? DATASET_ICBEB : m->classes == 5 ? DATASET_DODH : DATASET_TUH, datasets, &set);
    nn_integer(b, "num_nodes", published[set].nodes, 1, 1024, &m->nodes);
    nn_integer(b, "max_seq_len", m->gru ? 12000 : m->trained, 1, m->gru ? 1 << 22 : m->trained, &m->length);
    nn_integer(b, "resolution", json_get(b->config->root, "max_seq_len") ? 0 : published[set].resolution, 0, m->length,
               &m->resolution);
    nn_choice(b, "lengths", m->resolution == 0, length_kinds, &masked);
    m->masked = masked;
    nn_integer(b, "K", published[set].k, 1, 1024, &m->k);
    nn_choice(b, "metric", METRIC_ATTENTION, metrics, &m->metric);
    nn_choice(b, "prune_method", PRUNE_ABOVE, prunings, &m->prune);
    nn_choice(b, "graph_pool", published[set].pool, graph_pools, &m->graph_pool);
    nn_choice(b, "temporal_pool", 0, temporal_pools, &m->temporal_pool);
    nn_choice(b, "activation_fn", 1, activations, &m->activation);
    nn_choice(b, "postact", 0, none_or_glu, &m->glu);
    nn_flag(b, "prenorm", false, &m->prenorm);
    nn_flag(b, "undirected_graph", true, &m->undirected);
    nn_flag(b, "use_prior", false, &m->prior);
    nn_flag(b, "multilabel", published[set].multilabel && m->classes > 1, &m->multilabel);
    nn_number(b, "residual_weight", 0.6, 0, 1, &m->residual);
    if (m->prune == PRUNE_ABOVE) nn_number(b, "thresh", published[set].thresh, -1e6, 1e6, &m->thresh);
    if (m->prune == PRUNE_TOP) nn_number(b, "edge_top_perc", 0.5, 0, 1, &m->top);
    if (build_failed(b)) return;
    m->windows = m->masked || !m->resolution ? 1 : m->length / m->resolution;
    if (!m->masked && m->resolution && m->length % m->resolution)
        nn_fail(b, STRAND_ERR_ARGUMENT, "max_seq_len (%lld) is not a multiple of resolution (%lld)", (long long)m->length,
                (long long)m->resolution);
    if (m->windows > MOST_WINDOWS)
        nn_fail(b, STRAND_ERR_UNSUPPORTED, "%lld windows; at most %d are supported", (long long)m->windows, MOST_WINDOWS);
    if (m->gru && m->masked)
        nn_fail(b, STRAND_ERR_UNSUPPORTED,
                "true lengths with a GRU, which the published model cannot run; give --set lengths=full");
    if (m->k > m->nodes) m->k = m->nodes;
    b->m->window = b->m->max_length = 1; /* a run is a whole clip: no axis is free but the batch */
}

/* ---- the temporal encoder ---- */

/* 1 before the true length and 0 from it on: length - t, cut to [0, 1]. The length as a number is looked up, which refuses
 * what is not in 1 to T. */
static void make_mask(graphs4mer *m) {
    builder *b = &m->b;
    float *numbers = ARENA_ARRAY(&b->m->arena, float, (size_t)m->length + 1);
    if (!numbers) {
        nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading");
        return;
    }
    for (int64_t i = 0; i <= m->length; i++) numbers[i] = (float)i;
    tensor_id ids = graph_input(b->g, "lengths", STRAND_I64, 1, (op_dim[]){DIM_B}),
              table = nn_constant(b, "lengths.numbers", 2, (int64_t[]){m->length + 1, 1}, numbers);
    tensor_id ramp = nn_constant(b, "lengths.ramp", 4, (int64_t[]){1, 1, 1, m->length}, numbers);
    if (build_failed(b)) return;
    m->lengths = graph_op(b->g, "lengths.number", STRAND_OP_GATHER, NULL, (tensor_id[]){table, ids}, 2, NULL);
    tensor_id n = build_reshape(b, "lengths.number", m->lengths, 4, (op_dim[]){DIM_B, DIM(1), DIM(1), DIM(1)});
    m->mask = build_unary(b, "mask", STRAND_UNARY_CLAMP, build_binary(b, "lengths.left", STRAND_BINARY_SUB, n, ramp), 0, 1);
}

/* Poles of the continuous system, -exp(inv_w_real) + i w_imag, as pairs; and the step. */
static bool continuous(graphs4mer *m, int64_t layer, tensor_id *a, tensor_id *dt) {
    builder *b = &m->b;
    int64_t n = m->hidden * m->states;
    const float *re = nn_floats(b, s4_key(m, layer, "kernel.kernel.inv_w_real"), n),
                *im = nn_floats(b, s4_key(m, layer, "kernel.kernel.w_imag"), n);
    const float *log_dt = nn_floats(b, s4_key(m, layer, "kernel.kernel.log_dt"), m->hidden);
    float *pairs = ARENA_ARRAY(&b->m->arena, float, (size_t)(2 * n)),
          *steps = ARENA_ARRAY(&b->m->arena, float, (size_t)m->hidden);
    if (!re || !im || !log_dt || !pairs || !steps) return nn_fail(b, STRAND_ERR_MEMORY, "out of memory while loading"), false;
    for (int64_t i = 0; i < n; i++) {
        pairs[2 * i] = (float)-exp((double)re[i]);
        pairs[2 * i + 1] = im[i];
    }
    for (int64_t i = 0; i < m->hidden; i++) steps[i] = (float)exp((double)log_dt[i]);
    *a = nn_constant(b, s4_key(m, layer, "poles"), 3, (int64_t[]){m->hidden, m->states, 2}, pairs);
    *dt = nn_constant(b, s4_key(m, layer, "dt"), 1, &m->hidden, steps);
    return true;
}

/* The layer's filters [hidden, T]: over the past, and when bidirectional over what comes. */
static void kernels_of(graphs4mer *m, int64_t layer, tensor_id k[2]) {
    builder *b = &m->b;
    strand_op_ssm_kernel_nplr p = {.length = m->trained};
    const op_shape shape = {STRAND_F32, 2, {DIM(m->hidden), DIM(m->length)}};
    int64_t part = m->hidden * m->states * 2, ways = m->bidirectional ? 2 : 1, whole[3] = {m->hidden, m->states, 2};
    tensor_id a, dt;
    k[0] = k[1] = 0;
    if (!continuous(m, layer, &a, &dt)) return;
    tensor_id pp = build_f32(b, s4_key(m, layer, "kernel.kernel.P"), 3, whole, false),
              bb = build_f32(b, s4_key(m, layer, "kernel.kernel.B"), 3, whole, false);
    const float *c = nn_floats(b, s4_key(m, layer, "kernel.kernel.C"), part * ways);
    for (int64_t i = 0; i < ways && !build_failed(b); i++) {
        tensor_id cc = nn_constant(b, s4_key(m, layer, i ? "kernel.kernel.C.back" : "kernel.kernel.C"), 3, whole, c + i * part);
        k[i] = graph_op(b->g, s4_key(m, layer, i ? "filter.back" : "filter"), STRAND_OP_SSM_KERNEL_NPLR, &p,
                        (tensor_id[]){a, pp, bb, cc, dt}, 5, &shape);
    }
}

/* u [B, N, H, T] -> [B, N, T, H]: the convolution, its activation, and the mixing of features. */
static tensor_id s4(graphs4mer *m, int64_t layer, tensor_id u) {
    builder *b = &m->b;
    strand_op_long_conv conv = {0};
    strand_op_glu glu = {.activation = STRAND_UNARY_SIGMOID, .gate_second = 1};
    int64_t rows = m->hidden * (m->glu ? 2 : 1);
    tensor_id k[2], skip = build_vector(b, s4_key(m, layer, "D"), m->hidden);
    kernels_of(m, layer, k);
    if (layer == 0) memcpy(m->kernels, k, sizeof k);
    if (m->mask) u = build_binary(b, s4_key(m, layer, "masked"), STRAND_BINARY_MUL, u, m->mask);
    if (build_failed(b)) return 0;
    u = graph_op(b->g, s4_key(m, layer, "conv"), STRAND_OP_LONG_CONV, &conv, (tensor_id[]){u, k[0], skip, 0, 0, k[1]},
                 k[1] ? 6 : 3, NULL);
    u = build_unary(b, s4_key(m, layer, "gelu"), STRAND_UNARY_GELU, u, 0, 0);
    const char *name = s4_key(m, layer, m->glu ? "output_linear.0" : "output_linear");
    tensor_id w = build_matrix(b, graph_name(b->g, "%s.weight", name), rows, m->hidden),
              bias = build_vector(b, graph_name(b->g, "%s.bias", name), rows);
    strand_op_matmul p = {.transpose_a = 1, .transpose_b = 1, .bias = STRAND_BIAS_COLUMNS, .precision = b->precision};
    if (build_failed(b)) return 0;
    u = graph_op(b->g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){u, build_factor(b, w), bias}, 3, NULL);
    return m->glu ? graph_op(b->g, s4_key(m, layer, "glu"), STRAND_OP_GLU, &glu, &u, 1, NULL) : u;
}

/* The first layer's input in the layout of convolutions, made as a product where the signal is one number a sample. */
static tensor_id encoded_by_channel(graphs4mer *m) {
    builder *b = &m->b;
    strand_op_matmul p = {.bias = STRAND_BIAS_ROWS};
    tensor_id x = build_reshape(b, "x.rows", m->x, 4, (op_dim[]){DIM_B, DIM(m->nodes), DIM(1), DIM(m->length)});
    tensor_id w = build_matrix(b, "t_model.encoder.weight", m->hidden, 1),
              bias = build_vector(b, "t_model.encoder.bias", m->hidden);
    return build_failed(b) ? 0 : graph_op(b->g, "t_model.encoder", STRAND_OP_MATMUL, &p, (tensor_id[]){w, x, bias}, 3, NULL);
}

/* [B, N, T, H] */
static tensor_id temporal(graphs4mer *m) {
    builder *b = &m->b;
    const op_dim shape[4] = {DIM_B, DIM(m->nodes), DIM(m->length), DIM(m->inputs)};
    m->x = graph_input(b->g, "x", STRAND_F32, m->inputs == 1 ? 3 : 4, shape);
    if (m->masked) make_mask(m);
    tensor_id x = m->inputs == 1 ? build_reshape(b, "x.columns", m->x, 4, shape) : m->x;
    if (m->gru) {
        int64_t in = m->inputs;
        for (int64_t i = 0; i < m->layers && !build_failed(b); i++, in = m->hidden)
            x = nn_gru(b, "t_model", graph_name(b->g, "l%lld", (long long)i), x, in, m->hidden, NULL, NULL);
        return x;
    }
    x = build_linear(b, "t_model.encoder", x, m->hidden, m->inputs, STRAND_UNARY_IDENTITY);
    for (int64_t i = 0; i < m->layers && !build_failed(b); i++) {
        const char *norm = graph_name(b->g, "t_model.norms.%lld", (long long)i);
        tensor_id z = m->prenorm ? build_layer_norm(b, norm, x, m->hidden, 1e-5f) : x;
        z = i == 0 && !m->prenorm && m->inputs == 1 ? encoded_by_channel(m)
                                                    : nn_permute(b, s4_key(m, i, "by_channel"), z, 0, 1, 3, 2);
        x = build_binary(b, s4_key(m, i, "add"), STRAND_BINARY_ADD, s4(m, i, z), x);
        if (!m->prenorm) x = build_layer_norm(b, norm, x, m->hidden, 1e-5f);
    }
    return x;
}

/* Means over windows, [B, N, W, H] turned to [B, W, N, H]; over the true length [B, 1, N, H]. */
static tensor_id window_means(graphs4mer *m, tensor_id x) {
    builder *b = &m->b;
    const op_dim flat[4] = {DIM_B, DIM(1), DIM(m->nodes), DIM(m->hidden)};
    if (build_failed(b)) return 0;
    if (!m->masked) {
        strand_op_reduce_axis p = {.kind = STRAND_AXIS_MEAN, .axis = 2, .window = m->length / m->windows};
        x = graph_op(b->g, "windows", STRAND_OP_REDUCE_AXIS, &p, &x, 1, NULL);
        return nn_permute(b, "window_mean", x, 0, 2, 1, 3);
    }
    tensor_id mask = build_reshape(b, "mask.rows", m->mask, 4, (op_dim[]){DIM_B, DIM(1), DIM(m->length), DIM(1)});
    tensor_id n = build_reshape(b, "lengths.each", m->lengths, 3, (op_dim[]){DIM_B, DIM(1), DIM(1)});
    x = nn_reduce(b, "length.sum", STRAND_AXIS_SUM, 2, false, build_binary(b, "length.masked", STRAND_BINARY_MUL, x, mask), 0);
    return build_reshape(b, "window_mean", build_binary(b, "length.mean", STRAND_BINARY_DIV, x, n), 4, flat);
}

/* ---- a window's graph ---- */

/* x [B, N, H] -> [B, N, N]; of the adaptive metric [1, N, N]. */
static tensor_id learned(graphs4mer *m, tensor_id x) {
    builder *b = &m->b;
    strand_op_softmax_adjacency p = {.scale = (float)(1 / sqrt((double)m->hidden)), .symmetric = m->undirected};
    strand_op_knn_adjacency all = {.k = m->nodes, .flags = STRAND_KNN_CLAMP};
    strand_op_softmax soft = {0};
    if (m->metric == METRIC_ATTENTION) {
        tensor_id q = build_linear(b, "attn_layers.linear_Q", x, m->hidden, m->hidden, STRAND_UNARY_IDENTITY);
        tensor_id k = build_linear(b, "attn_layers.linear_K", x, m->hidden, m->hidden, STRAND_UNARY_IDENTITY);
        return build_failed(b) ? 0 : graph_op(b->g, "attention", STRAND_OP_SOFTMAX_ADJACENCY, &p, (tensor_id[]){q, k}, 2, NULL);
    }
    if (m->metric == METRIC_ADAPTIVE) {
        int64_t width = extent(m, "attn_layers.E1", 1);
        tensor_id e = build_f32(b, "attn_layers.E1", 3, (int64_t[]){1, m->nodes, width}, false);
        x = build_unary(b, "attention.products", STRAND_UNARY_LEAKY_RELU,
                        build_product(b, "attention.products", e, e, 0, STRAND_UNARY_IDENTITY), 0.01f, 0);
        x = build_failed(b) ? 0 : graph_op(b->g, "attention.rows", STRAND_OP_SOFTMAX, &soft, &x, 1, NULL);
        if (!m->undirected) return x;
        return build_unary(
            b, "attention", STRAND_UNARY_AFFINE,
            build_binary(b, "attention.both", STRAND_BINARY_ADD, x, nn_permute(b, "attention.turned", x, 0, 2, 1, 0)), 0.5f, 0);
    }
    if (m->metric == METRIC_WEIGHTED)
        x = build_binary(b, "attention.weighted", STRAND_BINARY_MUL, x,
                         build_f32(b, "attn_layers.weight_tensor", 3, (int64_t[]){1, 1, m->hidden}, false));
    return build_failed(b) ? 0 : graph_op(b->g, "attention", STRAND_OP_KNN_ADJACENCY, &all, &x, 1, NULL);
}

/* What of the mixed graph stays; loops as they are, or 1 for messages. The published top fraction keeps those strictly above
 * the one after the K-th largest. */
static tensor_id pruned(graphs4mer *m, tensor_id a, uint32_t loops) {
    builder *b = &m->b;
    int64_t n = m->nodes * m->nodes;
    strand_op_prune_adjacency p = {.mode = STRAND_PRUNE_ABOVE, .loops = loops, .value = (float)m->thresh};
    if (m->prune == PRUNE_TOP) {
        int64_t k = (int64_t)((double)n * m->top);
        if (k + 1 >= n)
            return nn_fail(b, STRAND_ERR_ARGUMENT, "edge_top_perc %.9g would keep all %lld entries; it must be smaller", m->top,
                           (long long)n);
        p.mode = STRAND_PRUNE_TOP_FRACTION;
        p.value = (float)(((double)k + 1.5) / (double)n);
    } else if (m->prune == PRUNE_KNN) {
        p.mode = STRAND_PRUNE_PER_ROW;
        p.value = (float)m->k;
    }
    return build_failed(b)
               ? 0
               : graph_op(b->g, loops == STRAND_LOOPS_KEEP ? "adjacency" : "edges", STRAND_OP_PRUNE_ADJACENCY, &p, &a, 1, NULL);
}

/* Of the window x [B, N, H]: *attention, *adjacency (both [B, N, N]), and the edges that messages take. */
static tensor_id edges(graphs4mer *m, tensor_id x, tensor_id *attention, tensor_id *adjacency) {
    builder *b = &m->b;
    strand_op_knn_adjacency p = {
        .k = m->k, .flags = STRAND_KNN_CLAMP | STRAND_KNN_UNIT_DIAGONAL | (m->undirected ? STRAND_KNN_SYMMETRIC : 0u)};
    if (m->prior && !m->given)
        m->given = graph_input(b->g, "prior", STRAND_F32, 3, (op_dim[]){DIM_B, DIM(m->nodes), DIM(m->nodes)});
    tensor_id first = m->prior ? m->given : graph_op(b->g, "neighbours", STRAND_OP_KNN_ADJACENCY, &p, &x, 1, NULL);
    tensor_id a = learned(m, x);
    first = build_unary(b, "mix.neighbours", STRAND_UNARY_AFFINE, first, (float)m->residual, 0);
    tensor_id mixed = build_binary(b, "mix", STRAND_BINARY_ADD, first,
                                   build_unary(b, "mix.attention", STRAND_UNARY_AFFINE, a, (float)(1 - m->residual), 0));
    if (m->metric == METRIC_ADAPTIVE)
        a = build_binary(b, "attention.each", STRAND_BINARY_ADD, a,
                         build_unary(b, "attention.each", STRAND_UNARY_CLAMP, mixed, 0, 0));
    *attention = a;
    *adjacency = pruned(m, mixed, STRAND_LOOPS_KEEP);
    return pruned(m, mixed, STRAND_LOOPS_UNIT);
}

static tensor_id activate(graphs4mer *m, tensor_id x) {
    static const uint32_t kinds[] = {STRAND_UNARY_RELU, STRAND_UNARY_LEAKY_RELU, STRAND_UNARY_ELU, STRAND_UNARY_GELU};
    return build_unary(&m->b, "activation", kinds[m->activation], x, m->activation == 1 ? 0.01f : 1, 0);
}

/* GINE layers over the window's edges. */
static tensor_id messages(graphs4mer *m, tensor_id x, tensor_id a) {
    builder *b = &m->b;
    for (int64_t i = 0; i < m->gnn_layers && !build_failed(b); i++) {
        const char *base = graph_name(b->g, "gnn_layers.%lld", (long long)i), *key = graph_name(b->g, "%s.eps", base);
        const float *eps = build_find(b, key) ? nn_floats(b, key, 1) : NULL;
        strand_op_gine p = {.eps = eps ? *eps : 0};
        bool two = build_find(b, graph_name(b->g, "%s.nn.2.weight", base)) != NULL;
        tensor_id w = build_vector(b, graph_name(b->g, "%s.lin.weight", base), m->hidden),
                  bias = build_vector(b, graph_name(b->g, "%s.lin.bias", base), m->hidden);
        if (build_failed(b)) return 0;
        x = graph_op(b->g, graph_name(b->g, "%s.gine", base), STRAND_OP_GINE, &p, (tensor_id[]){x, a, w, bias}, 4, NULL);
        x = build_linear(b, graph_name(b->g, "%s.nn.0", base), x, m->hidden, m->hidden,
                         two ? STRAND_UNARY_RELU : STRAND_UNARY_IDENTITY);
        if (two) x = build_linear(b, graph_name(b->g, "%s.nn.2", base), x, m->hidden, m->hidden, STRAND_UNARY_IDENTITY);
        x = activate(m, x);
    }
    return x;
}

/* ---- all of it ---- */

typedef struct shown {
    tensor_id attention[MOST_WINDOWS], adjacency[MOST_WINDOWS], messages[MOST_WINDOWS];
} shown;

/* Each window by itself, from means [B, W, N, H]. */
static void every_window(graphs4mer *m, tensor_id means, shown *s) {
    builder *b = &m->b;
    const op_dim nodes[4] = {DIM_B, DIM(1), DIM(m->nodes), DIM(m->nodes)};
    for (int64_t i = 0; i < m->windows && !build_failed(b); i++) {
        tensor_id x = m->windows > 1 ? nn_slice(b, "window", means, 1, i, 1) : means;
        x = build_reshape(b, "window", x, 3, (op_dim[]){DIM_B, DIM(m->nodes), DIM(m->hidden)});
        if (build_failed(b)) return;
        tensor_id a = edges(m, x, &s->attention[i], &s->adjacency[i]);
        x = messages(m, x, a);
        s->attention[i] = build_reshape(b, "attention.one", s->attention[i], 4, nodes);
        s->adjacency[i] = build_reshape(b, "adjacency.one", s->adjacency[i], 4, nodes);
        s->messages[i] = build_reshape(b, "messages.one", x, 4, (op_dim[]){DIM_B, DIM(1), DIM(m->nodes), DIM(m->hidden)});
    }
}

static tensor_id pooled(graphs4mer *m, const shown *s) {
    builder *b = &m->b;
    static const uint32_t kinds[] = {STRAND_AXIS_SUM, STRAND_AXIS_MEAN, STRAND_AXIS_MAX};
    tensor_id x;
    if (m->temporal_pool == 1) /* last */
        x = build_reshape(b, "last", s->messages[m->windows - 1], 3, (op_dim[]){DIM_B, DIM(m->nodes), DIM(m->hidden)});
    else
        x = nn_reduce(b, "mean", STRAND_AXIS_MEAN, 1, false, nn_concat(b, "messages", 1, s->messages, m->windows), 0);
    return nn_reduce(b, "features", kinds[m->graph_pool], 1, false, x, 0);
}

/* The published case shows every 16th sample of the first node, and six filters of the first layer. */
static void show_insides(graphs4mer *m, tensor_id x) {
    builder *b = &m->b;
    tensor_id first = build_reshape(b, "temporal_node0", nn_slice(b, "temporal_node0", x, 1, 0, 1), 3,
                                    (op_dim[]){DIM_B, DIM(m->length), DIM(m->hidden)}),
              k[2] = {0, 0};
    strand_op_slice p = {.axis = 1, .count = (m->length + 15) / 16, .step = 16};
    if (build_failed(b)) return;
    graph_output_add(b->g, "temporal_node0", graph_op(b->g, "temporal_node0", STRAND_OP_SLICE, &p, &first, 1, NULL));
    int64_t six = m->hidden < 6 ? m->hidden : 6, ways = m->kernels[1] ? 2 : 1;
    for (int64_t i = 0; i < ways && m->kernels[0]; i++)
        k[i] = build_reshape(b, "layer0_kernel", nn_slice(b, "layer0_kernel", m->kernels[i], 0, 0, six), 3,
                             (op_dim[]){DIM(1), DIM(six), DIM(m->length)});
    if (m->kernels[0]) graph_output_add(b->g, "layer0_kernel", nn_concat(b, "layer0_kernel", 0, k, ways));
    graph_output_on_request(b->g, "temporal", x);
}

static strand_status build(strand_model *model, const model_config *config, error *e) {
    graphs4mer m = {.lengths = 0};
    strand_op_softmax p = {0};
    builder *b = &m.b;
    if (build_start(b, model, config, e, names)) return e->status;
    configure(&m);
    if (build_failed(b)) return e->status;
    tensor_id x = temporal(&m), means = window_means(&m, x);
    shown *s = ARENA_NEW(&model->arena, shown);
    if (!s) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    every_window(&m, means, s);
    tensor_id features = build_failed(b) ? 0 : pooled(&m, s),
              logits = build_linear(b, "classifier", features, m.classes, m.hidden, STRAND_UNARY_IDENTITY);
    if (build_failed(b)) return e->status;
    graph_output_add(b->g, "logits", logits);
    graph_output_add(b->g, "probabilities",
                     m.classes == 1 || m.multilabel ? build_unary(b, "probabilities", STRAND_UNARY_SIGMOID, logits, 0, 0)
                                                    : graph_op(b->g, "probabilities", STRAND_OP_SOFTMAX, &p, &logits, 1, NULL));
    graph_output_add(b->g, "features", features);
    graph_output_add(b->g, "attention", nn_concat(b, "attention.all", 1, s->attention, m.windows));
    graph_output_add(b->g, "adjacency", nn_concat(b, "adjacency.all", 1, s->adjacency, m.windows));
    graph_output_add(b->g, "window_mean",
                     m.masked ? build_reshape(b, "window_mean", means, 3, (op_dim[]){DIM_B, DIM(m.nodes), DIM(m.hidden)})
                              : means);
    show_insides(&m, x);
    return e->status;
}

static const char *const setting_keys[] = {
    "dataset",    "num_nodes",     "max_seq_len",     "resolution",       "lengths",
    "K",          "metric",        "prune_method",    "thresh",           "edge_top_perc",
    "graph_pool", "temporal_pool", "activation_fn",   "postact",          "prenorm",
    "use_prior",  "multilabel",    "residual_weight", "undirected_graph", BUILD_SETTINGS, NULL};

const family family_graphs4mer = {"graphs4mer", recognise, build, setting_keys};

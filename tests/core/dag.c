/* dag.c - see dag.h. Values stay tame: weights are scaled by the square root of what they sum over, and functions that grow are
 * followed by ones that do not. */
#include "dag.h"

#include <math.h>

#define POOL 48

typedef struct value {
    tensor_id id;
    bool channel_major; /* [batch, channels, length], else [batch, length, channels] */
    int64_t channels;
} value;

typedef struct maker {
    strand_model *m;
    graph *g;
    randoms r;
    value pool[POOL];
    int n;
    int names;
} maker;

strand_model *dag_empty(strand_context *c) {
    strand_model *m = c->allocator.alloc(c->allocator.user, sizeof *m, _Alignof(strand_model));
    if (!m) return NULL;
    memset(m, 0, sizeof *m);
    m->context = c;
    m->name = "random";
    m->family = "test";
    m->precision = "F32";
    m->max_length = m->window = DAG_MAX_LENGTH;
    arena_init(&m->arena, &c->allocator);
    graph_init(&m->graph, &m->arena);
    return m;
}

strand_model *dag_weighted(strand_context *c) {
    static const char file[] = "\x3a\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}    \0\0\0\0";
    static _Alignas(8) char aligned[sizeof file];
    memcpy(aligned, file, sizeof file);
    strand_model *m = dag_empty(c);
    error e = {0};
    if (weights_open_memory(&c->allocator, aligned, 8 + 0x3a + 4, "test", &m->weights, &e)) fail_msg("%s", e.text);
    return m;
}

static const char *name(maker *k, const char *what) {
    return graph_name(k->g, "%s.%d", what, k->names++);
}

static tensor_id weight(maker *k, int rank, int64_t a, int64_t b, int64_t c, float scale) {
    op_dim dims[3] = {DIM(a), DIM(b), DIM(c)};
    size_t n = (size_t)(a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1));
    float *data = ARENA_ARRAY(&k->m->arena, float, n);
    assert_non_null(data);
    random_fill(&k->r, data, n, scale);
    return graph_weight(k->g, name(k, "weight"), STRAND_F32, rank, dims, data);
}

/* The newest value is taken most often, so that chains grow; old ones keep long lifetimes. */
static value any(maker *k) {
    int64_t back = random_below(&k->r, 5) ? random_below(&k->r, 8) / 7 : random_below(&k->r, k->n);
    return k->pool[back < k->n ? k->n - 1 - back : 0];
}

static value any_like(maker *k, bool channel_major) {
    for (int i = 0; i < 30; i++) {
        value v = any(k);
        if (v.channel_major == channel_major) return v;
    }
    for (int i = 0; i < k->n; i++)
        if (k->pool[i].channel_major == channel_major) return k->pool[i];
    return (value){0};
}

static void keep(maker *k, tensor_id id, bool channel_major, int64_t channels) {
    if (id && k->n < POOL) k->pool[k->n++] = (value){id, channel_major, channels};
}

static int64_t channels(maker *k) {
    static const int64_t some[] = {4, 5, 6, 8, 12, 16};
    return some[random_below(&k->r, 6)];
}

static void unary(maker *k) {
    static const uint32_t kinds[] = {STRAND_UNARY_GELU_TANH, STRAND_UNARY_GELU, STRAND_UNARY_SILU, STRAND_UNARY_SIGMOID,
                                     STRAND_UNARY_SIN,       STRAND_UNARY_TANH, STRAND_UNARY_RELU};
    value v = any(k);
    strand_op_unary p = {kinds[random_below(&k->r, 7)]};
    keep(k, graph_op(k->g, name(k, "unary"), STRAND_OP_UNARY, &p, &v.id, 1, NULL), v.channel_major, v.channels);
}

static void binary(maker *k) {
    value a = any(k), b = {0};
    strand_op_binary p = {(uint32_t)random_below(&k->r, 3)};
    for (int i = 0; i < 20 && (!b.id || b.channel_major != a.channel_major || b.channels != a.channels); i++) b = any(k);
    if (b.channel_major != a.channel_major || b.channels != a.channels || !random_below(&k->r, 4))
        b.id = a.channel_major ? weight(k, 3, 1, a.channels, 1, 1) : weight(k, 3, 1, 1, a.channels, 1);
    keep(k, graph_op(k->g, name(k, "binary"), STRAND_OP_BINARY, &p, (tensor_id[]){a.id, b.id}, 2, NULL), a.channel_major,
         a.channels);
}

static void layer_norm(maker *k) {
    value v = any_like(k, false);
    strand_op_layer_norm p = {1e-5f};
    tensor_id b = random_below(&k->r, 2) ? weight(k, 1, v.channels, 0, 0, 1) : 0;
    keep(k,
         graph_op(k->g, name(k, "norm"), STRAND_OP_LAYER_NORM, &p, (tensor_id[]){v.id, weight(k, 1, v.channels, 0, 0, 1), b}, 3,
                  NULL),
         false, v.channels);
}

/* All four ways between the two layouts. */
static void matmul(maker *k) {
    value v = any(k);
    int64_t d = v.channels, n = channels(k);
    bool to_channels = random_below(&k->r, 2) != 0, biased = random_below(&k->r, 2) != 0;
    float scale = 1.7f / sqrtf((float)d);
    strand_op_matmul p = {.activation = random_below(&k->r, 3) ? STRAND_UNARY_IDENTITY : STRAND_UNARY_GELU_TANH};
    p.bias = !biased ? STRAND_BIAS_NONE : to_channels ? STRAND_BIAS_ROWS : STRAND_BIAS_COLUMNS;
    tensor_id a = v.id, b, bias = biased ? weight(k, 1, n, 0, 0, 1) : 0;
    if (to_channels) { /* W [n, d] times x, or times x transposed */
        a = weight(k, 2, n, d, 0, scale);
        b = v.id;
        p.transpose_b = !v.channel_major;
    } else { /* x or x transposed times W [n, d] transposed */
        b = weight(k, 2, n, d, 0, scale);
        p.transpose_a = v.channel_major;
        p.transpose_b = 1;
    }
    keep(k, graph_op(k->g, name(k, "matmul"), STRAND_OP_MATMUL, &p, (tensor_id[]){a, b, bias}, 3, NULL), to_channels, n);
}

static void short_conv(maker *k) {
    value v = any_like(k, true);
    strand_op_short_conv p = {0};
    if (!v.id) return matmul(k);
    int64_t taps = 1 + random_below(&k->r, 5);
    tensor_id b = random_below(&k->r, 2) ? weight(k, 1, v.channels, 0, 0, 1) : 0;
    keep(k,
         graph_op(k->g, name(k, "short"), STRAND_OP_SHORT_CONV, &p,
                  (tensor_id[]){v.id, weight(k, 2, v.channels, taps, 0, 0.8f), b}, 3, NULL),
         true, v.channels);
}

/* A filter from weights alone, as Hyena has it: positions, a product or two, a sine, a decay. */
static tensor_id filter(maker *k, int64_t d) {
    if (!random_below(&k->r, 4)) return weight(k, 2, d, 1 + random_below(&k->r, 200), 0, 0.1f);
    strand_op_positions p = {.n = DAG_MAX_LENGTH + 2, .bands = 2};
    strand_op_decay_window window = {.n = DAG_MAX_LENGTH + 2, .shift = 0.05f};
    strand_op_matmul first = {.transpose_b = 1, .bias = STRAND_BIAS_COLUMNS}, second = {.transpose_b = 1};
    strand_op_unary sine = {STRAND_UNARY_SIN};
    op_shape shape = {STRAND_F32, 2, {DIM_L, DIM(5)}};
    tensor_id x = graph_op(k->g, name(k, "positions"), STRAND_OP_POSITIONS, &p, NULL, 0, &shape);
    x = graph_op(k->g, name(k, "filter.first"), STRAND_OP_MATMUL, &first,
                 (tensor_id[]){x, weight(k, 2, 7, 5, 0, 2), weight(k, 1, 7, 0, 0, 1)}, 3, NULL);
    x = graph_op(k->g, name(k, "filter.sine"), STRAND_OP_UNARY, &sine, &x, 1, NULL);
    x = graph_op(k->g, name(k, "filter.last"), STRAND_OP_MATMUL, &second, (tensor_id[]){weight(k, 2, d, 7, 0, 0.02f), x, 0}, 3,
                 NULL);
    if (!random_below(&k->r, 3)) return x;
    return graph_op(k->g, name(k, "filter.decay"), STRAND_OP_DECAY_WINDOW, &window, (tensor_id[]){x, weight(k, 1, d, 0, 0, 8)},
                    2, NULL);
}

static void long_conv(maker *k) {
    value v = any_like(k, true);
    strand_op_long_conv p = {0};
    if (!v.id) return matmul(k);
    tensor_id gates[2] = {0, 0}, skip = random_below(&k->r, 2) ? weight(k, 1, v.channels, 0, 0, 1) : 0,
              taps = filter(k, v.channels);
    for (int i = 0; i < 2; i++)
        for (int tries = 0; tries < 6 && random_below(&k->r, 2); tries++) {
            value gate = any_like(k, true);
            if (gate.channels == v.channels) gates[i] = gate.id;
        }
    keep(k,
         graph_op(k->g, name(k, "long"), STRAND_OP_LONG_CONV, &p, (tensor_id[]){v.id, taps, skip, gates[0], gates[1]}, 5, NULL),
         true, v.channels);
}

/* What models are made of: a wide layer between two products, and Hyena's mixer. Each leaves one value. */
static void mlp(maker *k) {
    value v = any_like(k, false);
    int64_t wide = 4 * v.channels;
    strand_op_matmul up = {0, 1, STRAND_BIAS_COLUMNS, STRAND_UNARY_GELU_TANH},
                     down = {0, 1, STRAND_BIAS_NONE, STRAND_UNARY_IDENTITY};
    float scale = 1 / sqrtf((float)v.channels);
    tensor_id x = graph_op(k->g, name(k, "up"), STRAND_OP_MATMUL, &up,
                           (tensor_id[]){v.id, weight(k, 2, wide, v.channels, 0, scale), weight(k, 1, wide, 0, 0, 1)}, 3, NULL);
    x = graph_op(k->g, name(k, "down"), STRAND_OP_MATMUL, &down, (tensor_id[]){x, weight(k, 2, v.channels, wide, 0, scale), 0},
                 3, NULL);
    keep(k, x, false, v.channels);
}

static void mixer(maker *k) {
    value v = any_like(k, false);
    int64_t d = channels(k);
    strand_op_matmul in = {0, 1, STRAND_BIAS_ROWS, STRAND_UNARY_IDENTITY},
                     out = {1, 1, STRAND_BIAS_NONE, STRAND_UNARY_IDENTITY};
    strand_op_short_conv sp = {0};
    strand_op_long_conv lp = {0};
    tensor_id part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = graph_op(
            k->g, name(k, "part"), STRAND_OP_MATMUL, &in,
            (tensor_id[]){weight(k, 2, d, v.channels, 0, 1 / sqrtf((float)v.channels)), v.id, weight(k, 1, d, 0, 0, 1)}, 3,
            NULL);
        part[i] = graph_op(k->g, name(k, "short"), STRAND_OP_SHORT_CONV, &sp,
                           (tensor_id[]){part[i], weight(k, 2, d, 3, 0, 0.8f), weight(k, 1, d, 0, 0, 1)}, 3, NULL);
    }
    tensor_id y = graph_op(k->g, name(k, "long"), STRAND_OP_LONG_CONV, &lp,
                           (tensor_id[]){part[0], filter(k, d), weight(k, 1, d, 0, 0, 1), part[1], part[2]}, 5, NULL);
    keep(k,
         graph_op(k->g, name(k, "out"), STRAND_OP_MATMUL, &out,
                  (tensor_id[]){y, weight(k, 2, v.channels, d, 0, 1 / sqrtf((float)d)), 0}, 3, NULL),
         false, v.channels);
}

strand_model *dag_model(strand_context *c, uint64_t seed, int nodes) {
    static void (*const makers[])(maker *) = {unary,      binary,    binary, layer_norm, matmul, matmul,
                                              short_conv, long_conv, mlp,    mixer,      mixer};
    maker k = {.m = dag_empty(c), .r = {seed}};
    if (!k.m) return NULL;
    k.g = &k.m->graph;
    int64_t d = channels(&k);
    keep(&k, graph_input(k.g, "x", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(d)}), false, d);
    matmul(&k);
    while ((int)k.g->n_nodes < nodes && k.n < POOL) {
        makers[random_below(&k.r, sizeof makers / sizeof makers[0])](&k);
        /* What grew is put in bounds now and then: products of products leave the range of floats otherwise. */
        if (random_below(&k.r, 3) == 0) {
            strand_op_unary p = {STRAND_UNARY_TANH};
            value v = k.pool[k.n - 1];
            keep(&k, graph_op(k.g, name(&k, "tanh"), STRAND_OP_UNARY, &p, &v.id, 1, NULL), v.channel_major, v.channels);
        }
    }
    int outputs = 1 + (int)random_below(&k.r, 3);
    for (int i = 0; i < outputs; i++) graph_output_add(k.g, graph_name(k.g, "y%d", i), i ? any(&k).id : k.pool[k.n - 1].id);
    if (k.g->error.status) fail_msg("seed %llu: %s", (unsigned long long)seed, k.g->error.text);
    return k.m;
}

int64_t dag_input_channels(const strand_model *m) {
    return m->graph.tensors[1].shape.dims[2].size;
}

float *dag_input(const strand_model *m, uint64_t seed, int64_t batch, int64_t length) {
    size_t row = (size_t)(length * dag_input_channels(m));
    float *x = malloc((size_t)batch * row * sizeof *x);
    assert_non_null(x);
    for (int64_t b = 0; b < batch; b++) random_fill(&(randoms){seed + (uint64_t)b}, x + (size_t)b * row, row, 1);
    return x;
}

dag_results dag_run(strand_session *s, const strand_model *m, const float *x, int64_t batch, int64_t length) {
    int64_t d = dag_input_channels(m);
    union {
        const void *read;
        void *any;
    } data = {x};
    strand_tensor in = {"x", STRAND_F32, 3, {batch, length, d}, data.any, (uint64_t)(batch * length * d) * sizeof *x},
                  out[4] = {{0}};
    dag_results r = {.n = (int)m->graph.n_outputs};
    for (int i = 0; i < r.n; i++) out[i].name = m->graph.outputs[i].name;
    if (strand_session_run(s, &in, 1, out, r.n)) fail_msg("run: %s", strand_session_error(s));
    for (int i = 0; i < r.n; i++) {
        r.data[i] = malloc(out[i].bytes);
        assert_non_null(r.data[i]);
        memcpy(r.data[i], out[i].data, out[i].bytes);
        r.bytes[i] = out[i].bytes;
    }
    return r;
}

void dag_free(dag_results *r) {
    for (int i = 0; i < r->n; i++) free(r->data[i]);
    r->n = 0;
}

void dag_same(const dag_results *a, const dag_results *b, const char *what) {
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s, output %d", what, i);
        assert_int_equal(a->bytes[i], b->bytes[i]);
        assert_same_bytes(a->data[i], b->data[i], a->bytes[i], text);
    }
}

double dag_difference(const dag_results *a, const dag_results *b) {
    double most = 0;
    for (int i = 0; i < a->n; i++) {
        size_t n = a->bytes[i] / sizeof(float);
        double large = largest_magnitude(a->data[i], n),
               d = largest_difference(a->data[i], b->data[i], n) / (large > 1 ? large : 1);
        if (d > most || isnan(d)) most = d;
    }
    return most;
}

/* test_ops.c - the instruction set: ids that never change, shape errors that name the node, and the axis rules, each proved on
 * the machine. For every operator, shape and axis that the table says can be cut, a tile computed from no more than the
 * intervals that the rules name has the bytes of the whole; everything the rules leave out is not even in memory. */
#include "support.h"

#include <math.h>

#include "context.h"
#include "graph.h"
#include "schedule.h"

/* The committed list. New operators are added at its end; no line ever changes. */
static const struct {
    uint32_t id, version;
    const char *name;
} frozen[] = {
    {1, 1, "gather"},
    {2, 1, "matmul"},
    {3, 1, "layer_norm"},
    {4, 1, "unary"},
    {5, 1, "binary"},
    {6, 1, "short_conv"},
    {7, 1, "long_conv"},
    {8, 1, "reduce"},
    {9, 1, "positions"},
    {10, 1, "decay_window"},
    {11, 1, "cast"},
    {12, 1, "norm"},
    {13, 1, "glu"},
    {14, 1, "softmax"},
    {15, 1, "reduce_axis"},
    {16, 1, "reshape"},
    {17, 1, "concat"},
    {18, 1, "slice"},
    {19, 1, "permute"},
    {20, 1, "pad"},
    {21, 1, "repeat"},
    {22, 1, "block_diagonal"},
    {23, 1, "grouped_matmul"},
    {24, 1, "top_k"},
    {25, 1, "conv1d"},
    {26, 1, "fft"},
    {27, 1, "rotary"},
    {28, 1, "attention"},
    {29, 1, "cache_write"},
    {30, 1, "ssm_discretize"},
    {31, 1, "ssm_kernel_diagonal"},
    {32, 1, "ssm_kernel_nplr"},
    {33, 1, "ssm_kernel_companion"},
    {34, 1, "lti_scan"},
    {35, 1, "linear_recurrence"},
    {36, 1, "companion_scan"},
    {37, 1, "selective_scan"},
    {38, 1, "gru"},
    {39, 1, "ssd"},
    {40, 1, "gated_linear_attention"},
    {41, 1, "delta_rule"},
    {42, 1, "linear_attention"},
    {43, 1, "wkv4"},
    {44, 1, "token_shift"},
    {45, 1, "knn_adjacency"},
    {46, 1, "softmax_adjacency"},
    {47, 1, "prune_adjacency"},
    {48, 1, "graph_supports"},
    {49, 1, "diffusion"},
    {50, 1, "spmm"},
    {51, 1, "segment_reduce"},
    {52, 1, "gine"},
    {53, 1, "graph_gru"},
    {54, 1, "dplr_scan"},
    {55, 1, "ssm_discretize_nplr"},
    {56, 1, "dense_scan"},
};

static void ids_are_stable(void **state) {
    (void)state;
    assert_int_equal(op_count(), sizeof frozen / sizeof frozen[0]);
    for (uint32_t i = 0; i < op_count(); i++) {
        const op_row *row = op_find(frozen[i].id);
        assert_non_null(row);
        assert_string_equal(row->name, frozen[i].name);
        assert_int_equal(row->version, frozen[i].version);
        assert_true(row->params_size <= STRAND_PLUGIN_PARAMS && row->max_inputs <= STRAND_PLUGIN_MAX_INPUTS &&
                    row->min_inputs <= row->max_inputs);
        assert_true(row->shape && row->axis_rule && row->work);
        for (uint32_t j = 0; j < i; j++) assert_string_not_equal(frozen[i].name, frozen[j].name);
    }
    assert_null(op_find(0));
    assert_null(op_find(frozen[op_count() - 1].id + 1));
    assert_null(op_at(op_count()));
}

/* ---- axis rules ---- */

#define RANK STRAND_PLUGIN_RANK

typedef struct tensor {
    strand_dtype dtype;
    int rank;
    int64_t dims[RANK];
    unsigned char *data;
} tensor;

typedef struct example {
    const char *name;
    uint32_t op, n;
    tensor in[STRAND_PLUGIN_MAX_INPUTS], out;
    int64_t params[STRAND_PLUGIN_PARAMS / 8];
} example;

static size_t bytes_of(const tensor *t) {
    size_t n = strand_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->dims[i];
    return n;
}

static op_shape shape_of(const tensor *t) {
    op_shape s = {.dtype = t->dtype, .rank = t->rank};
    for (int i = 0; i < t->rank; i++) s.dims[i] = DIM(t->dims[i]);
    return s;
}

static void fill(randoms *r, tensor *t) {
    t->data = malloc(bytes_of(t) + 1);
    assert_non_null(t->data);
    size_t n = bytes_of(t) / strand_dtype_size(t->dtype);
    for (size_t i = 0; i < n; i++) {
        float x = random_real(r);
        uint16_t half = (uint16_t)(0x3800 + random_below(r, 0x7ff)); /* 0.5 to 1 as F16 */
        int64_t id = random_below(r, 5);
        if (t->dtype == STRAND_F32) memcpy(t->data + 4 * i, &x, 4);
        if (t->dtype == STRAND_F16) memcpy(t->data + 2 * i, &half, 2);
        if (t->dtype == STRAND_I64) memcpy(t->data + 8 * i, &id, 8);
    }
}

/* Copies [begin, end) of one axis. */
static tensor cut(const tensor *t, int axis, int64_t begin, int64_t end) {
    tensor c = *t;
    size_t inner = strand_dtype_size(t->dtype), outer = 1;
    for (int i = 0; i < axis; i++) outer *= (size_t)t->dims[i];
    for (int i = axis + 1; i < t->rank; i++) inner *= (size_t)t->dims[i];
    c.dims[axis] = end - begin;
    c.data = malloc(bytes_of(&c) + 1);
    assert_non_null(c.data);
    for (size_t o = 0; o < outer; o++)
        memcpy(c.data + o * (size_t)(end - begin) * inner, t->data + (o * (size_t)t->dims[axis] + (size_t)begin) * inner,
               (size_t)(end - begin) * inner);
    return c;
}

static strand_plugin_tensor view(const tensor *part, const tensor *whole, int axis, int64_t begin) {
    strand_plugin_tensor v = {.dtype = part->dtype, .rank = (uint32_t)part->rank};
    int64_t stride = 1;
    for (int i = part->rank; i-- > 0; stride *= part->dims[i]) {
        v.dims[i] = part->dims[i];
        v.whole[i] = whole->dims[i];
        v.strides[i] = stride;
    }
    if (axis >= 0) v.origin[axis] = begin;
    v.memory = (strand_plugin_memory){part->data, NULL, 0, bytes_of(part)};
    return v;
}

static void launch(const registry_device *d, const example *x, const strand_plugin_tensor *in,
                   const strand_plugin_tensor *out) {
    strand_plugin_node node = {.op = x->op,
                               .version = 1,
                               .n_inputs = x->n,
                               .n_outputs = 1,
                               .inputs = in,
                               .outputs = out,
                               .params = x->params,
                               .name = x->name};
    const strand_plugin_api *api = d->plugin->table.api;
    char why[200] = "";
    if (api->supports(d->device, &node, why, sizeof why)) fail_msg("%s: %s", x->name, why);
    uint64_t bytes = api->scratch_size(d->device, &node, 1);
    void *work = aligned_alloc(4096, (bytes + 4096) & ~(uint64_t)4095);
    strand_plugin_memory scratch = {work, NULL, 0, bytes};
    if (api->launch(d->device, &node, 1, &scratch)) fail_msg("%s: the launch failed", x->name);
    free(work);
}

/* The interval of an input that a rule names for [i, j). False: all of it. */
static bool interval(const op_axis_rule *r, const tensor *in, int64_t i, int64_t j, int64_t *begin, int64_t *end) {
    if (r->axis < 0) return false;
    *begin = r->left == OP_UNBOUNDED || i - r->left < 0 ? 0 : i - r->left;
    *end = r->right == OP_UNBOUNDED || j + r->right > in->dims[r->axis] ? in->dims[r->axis] : j + r->right;
    return true;
}

/* Runs the tile [i, j) of an output axis on copies of what the rules name, and compares. */
static void tile(const registry_device *d, const example *x, int axis, const op_axis_rule *rules, int64_t i, int64_t j) {
    strand_plugin_tensor in[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, out;
    tensor parts[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, result, want = cut(&x->out, axis, i, j);
    char what[128];
    for (uint32_t k = 0; k < x->n; k++) {
        int64_t begin, end;
        if (!x->in[k].dtype) continue;
        if (interval(&rules[k], &x->in[k], i, j, &begin, &end)) {
            parts[k] = cut(&x->in[k], rules[k].axis, begin, end);
            in[k] = view(&parts[k], &x->in[k], rules[k].axis, begin);
        } else {
            in[k] = view(&x->in[k], &x->in[k], -1, 0);
        }
    }
    result = want;
    result.data = malloc(bytes_of(&want) + 1);
    memset(result.data, 0xee, bytes_of(&want) + 1);
    out = view(&result, &x->out, axis, i);
    launch(d, x, in, &out);
    snprintf(what, sizeof what, "%s on %s, axis %d, [%lld, %lld)", x->name, d->name, axis, (long long)i, (long long)j);
    assert_same_bytes(want.data, result.data, bytes_of(&want), what);
    assert_int_equal(result.data[bytes_of(&want)], 0xee);
    for (uint32_t k = 0; k < x->n; k++) free(parts[k].data);
    free(want.data);
    free(result.data);
}

static int prove(const registry_device *d, example *x, randoms *r) {
    const op_row *row = op_find(x->op);
    op_shape shapes[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, outs[STRAND_PLUGIN_MAX_OUTPUTS] = {shape_of(&x->out)}, *out = &outs[0];
    strand_plugin_tensor in[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, whole;
    error e = {0};
    int axes = 0;
    for (uint32_t k = 0; k < x->n; k++)
        if (x->in[k].dtype) {
            shapes[k] = shape_of(&x->in[k]);
            fill(r, &x->in[k]);
            in[k] = view(&x->in[k], &x->in[k], -1, 0);
        }
    if (row->shape(shapes, x->n, x->params, outs, &e)) fail_msg("%s: %s", x->name, e.text);
    assert_int_equal(out->rank, x->out.rank);
    for (int i = 0; i < out->rank; i++) assert_int_equal(out->dims[i].size, x->out.dims[i]);
    x->out.data = malloc(bytes_of(&x->out));
    whole = view(&x->out, &x->out, -1, 0);
    launch(d, x, in, &whole);
    for (int axis = 0; axis < x->out.rank; axis++) {
        op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
        int64_t n = x->out.dims[axis];
        if (!row->axis_rule(shapes, x->n, out, x->params, axis, rules)) continue;
        axes++;
        for (int round = 0; round < 6; round++) {
            int64_t i = round ? random_below(r, n) : 0, j = round == 1 ? n : i + 1 + random_below(r, n - i);
            tile(d, x, axis, rules, i, j);
        }
        for (int64_t i = 0; i < n; i += 1 + n / 5) tile(d, x, axis, rules, i, i + 1);
    }
    for (uint32_t k = 0; k < x->n; k++) free(x->in[k].data);
    free(x->out.data);
    return axes;
}

#define T(...)                                                                                                                 \
    { STRAND_F32, __VA_ARGS__ }
#define PARAM(type, ...) memcpy(all[n].params, &(type){__VA_ARGS__}, sizeof(type))
#define ADD(...)                                                                                                               \
    all[++n] = (example) {                                                                                                     \
        __VA_ARGS__                                                                                                            \
    }

/* Shapes at random around every operator's forms. Returns how many. */
static int examples(randoms *r, example *all) {
    int n = -1;
    int64_t b = 1 + random_below(r, 3), l = 2 + random_below(r, 70), d = 2 + random_below(r, 20), m = 2 + random_below(r, 40),
            t = 1 + random_below(r, l + 20);
    ADD("gather", STRAND_OP_GATHER, 2, {T(2, {5, d}), {STRAND_I64, 2, {b, l}, NULL}}, T(3, {b, l, d}));
    ADD("gather F16", STRAND_OP_GATHER, 2, {{STRAND_F16, 2, {5, d}, NULL}, {STRAND_I64, 1, {l}, NULL}}, T(2, {l, d}));
    ADD("matmul", STRAND_OP_MATMUL, 3, {T(3, {b, l, d}), T(2, {m, d}), T(1, {m})}, T(3, {b, l, m}));
    PARAM(strand_op_matmul, 0, 1, STRAND_BIAS_COLUMNS, STRAND_UNARY_GELU_TANH);
    ADD("matmul rows", STRAND_OP_MATMUL, 3, {T(2, {m, d}), T(3, {b, l, d}), T(1, {m})}, T(3, {b, m, l}));
    PARAM(strand_op_matmul, 0, 1, STRAND_BIAS_ROWS, STRAND_UNARY_IDENTITY);
    ADD("matmul transposed a", STRAND_OP_MATMUL, 2, {T(3, {b, d, l}), T(2, {d, m})}, T(3, {b, l, m}));
    PARAM(strand_op_matmul, 1, 0, STRAND_BIAS_NONE, STRAND_UNARY_SILU);
    ADD("matmul batched", STRAND_OP_MATMUL, 2, {T(4, {b, 2, l, d}), T(4, {b, 2, d, m})}, T(4, {b, 2, l, m}));
    ADD("layer_norm", STRAND_OP_LAYER_NORM, 3, {T(3, {b, l, d}), T(1, {d}), T(1, {d})}, T(3, {b, l, d}));
    PARAM(strand_op_layer_norm, 1e-5f);
    for (uint32_t kind = 0; kind <= STRAND_UNARY_RELU; kind++) {
        ADD("unary", STRAND_OP_UNARY, 1, {T(3, {b, d, l})}, T(3, {b, d, l}));
        PARAM(strand_op_unary, kind);
    }
    ADD("binary", STRAND_OP_BINARY, 2, {T(3, {b, l, d}), T(3, {b, l, d})}, T(3, {b, l, d}));
    PARAM(strand_op_binary, STRAND_BINARY_SUB);
    ADD("binary broadcast", STRAND_OP_BINARY, 2, {T(3, {b, l, d}), T(3, {1, 1, d})}, T(3, {b, l, d}));
    PARAM(strand_op_binary, STRAND_BINARY_MUL);
    ADD("binary along the last", STRAND_OP_BINARY, 2, {T(3, {b, d, l}), T(3, {1, d, 1})}, T(3, {b, d, l}));
    ADD("short_conv", STRAND_OP_SHORT_CONV, 3, {T(3, {b, d, l}), T(2, {d, 1 + random_below(r, 7)}), T(1, {d})},
        T(3, {b, d, l}));
    ADD("short_conv bare", STRAND_OP_SHORT_CONV, 2, {T(2, {d, l}), T(2, {d, 4})}, T(2, {d, l}));
    ADD("long_conv", STRAND_OP_LONG_CONV, 5, {T(3, {b, d, l}), T(2, {d, t}), T(1, {d}), T(3, {b, d, l}), T(3, {b, d, l})},
        T(3, {b, d, l}));
    ADD("long_conv both ways", STRAND_OP_LONG_CONV, 6,
        {T(3, {b, d, l}), T(2, {d, t}), T(1, {d}), T(3, {b, d, l}), T(3, {b, d, l}), T(2, {d, l})}, T(3, {b, d, l}));
    PARAM(strand_op_long_conv, STRAND_LONG_CONV_BACK_FROM_ZERO);
    ADD("long_conv rounded", STRAND_OP_LONG_CONV, 2, {T(2, {d, l}), T(2, {d, t})}, T(2, {d, l}));
    PARAM(strand_op_long_conv, STRAND_LONG_CONV_ROUNDED);
    ADD("long_conv one gate", STRAND_OP_LONG_CONV, 5, {T(2, {d, l}), T(2, {d, l}), {0}, {0}, T(2, {d, l})}, T(2, {d, l}));
    for (uint32_t kind = 0; kind <= STRAND_REDUCE_BEFORE_TOKEN; kind++) {
        bool ids = kind == STRAND_REDUCE_BEFORE_TOKEN;
        ADD("reduce", STRAND_OP_REDUCE, ids ? 2 : 1, {T(3, {b, l, d}), {STRAND_I64, 2, {b, l}, NULL}}, T(2, {b, d}));
        PARAM(strand_op_reduce, kind, 4);
    }
    ADD("positions", STRAND_OP_POSITIONS, 0, {{0}}, T(2, {l, 5}));
    PARAM(strand_op_positions, .n = l + 3, .bands = 2);
    ADD("decay_window", STRAND_OP_DECAY_WINDOW, 2, {T(2, {d, l}), T(1, {d})}, T(2, {d, l}));
    PARAM(strand_op_decay_window, .n = l + 2, .shift = 0.05f);
    ADD("cast", STRAND_OP_CAST, 1, {{STRAND_F16, 2, {d, l}, NULL}}, T(2, {d, l}));
    ADD("block_diagonal", STRAND_OP_BLOCK_DIAGONAL, 3, {T(3, {b, l, 3 * d}), T(3, {3, 4, d}), T(1, {12})}, T(3, {b, l, 12}));
    PARAM(strand_op_block_diagonal, .flags = STRAND_BLOCK_OUT_INTERLEAVED);
    ADD("grouped_matmul", STRAND_OP_GROUPED_MATMUL, 4,
        {T(2, {l, d}), T(3, {5, m, d}), {STRAND_I64, 2, {l, 2}, NULL}, T(2, {5, m})}, T(3, {l, 2, m}));
    PARAM(strand_op_grouped_matmul, .activation = STRAND_UNARY_RELU);
    ADD("top_k", STRAND_OP_TOP_K, 1, {T(3, {b, l, d})}, T(3, {b, l, 2}));
    PARAM(strand_op_top_k, .k = 2, .values = STRAND_TOP_K_SOFTMAX);
    return n + 1;
}

static void axis_rules_suffice(void **state) {
    (void)state;
    uint64_t seed = random_seed("axis rules", 4000);
    strand_context *c = open_context(&(open_with){.threads = 2});
    static example all[64];
    static const char *const devices[] = {"cpu", "cpu-reference"};
    for (int i = 0; i < 2; i++) {
        registry_device *d = registry_find(&c->registry, devices[i], strlen(devices[i]));
        bool seen[256] = {0};
        int axes = 0;
        if (!d && i) break; /* a static build has the CPU plugin alone */
        assert_non_null(d);
        for (uint64_t round = 0; round < 12; round++) {
            randoms r = {seed + round};
            memset(all, 0, sizeof all);
            int n = examples(&r, all);
            for (int k = 0; k < n; k++) {
                axes += prove(d, &all[k], &r);
                assert_true(all[k].op < 256);
                seen[all[k].op] = true;
            }
        }
        /* the operator tester has cases of the others */
        for (uint32_t id = 1; id <= STRAND_OP_CAST; id++) assert_true(seen[id]);
        print_message("  %s: %d axes cut\n", devices[i], axes);
        assert_true(axes > 12 * 50);
    }
    strand_context_close(c);
}

/* The rules as they are meant, for the shapes that models have: what tiling relies on. */
static void axis_rules_say_what_they_should(void **state) {
    (void)state;
    op_axis_rule r[STRAND_PLUGIN_MAX_INPUTS];
    op_shape x = {STRAND_F32, 3, {DIM_B, DIM(8), DIM_L}}, w = {STRAND_F32, 2, {DIM(8), DIM(3)}},
             k = {STRAND_F32, 2, {DIM(8), DIM_L}};
    op_shape sc[3] = {x, w}, lc[5] = {x, k};
    assert_true(op_find(STRAND_OP_SHORT_CONV)->axis_rule(sc, 2, &x, NULL, 2, r));
    assert_true(r[0].axis == 2 && r[0].left == 2 && r[0].right == 0 && r[1].axis == -1);
    assert_true(op_find(STRAND_OP_SHORT_CONV)->axis_rule(sc, 2, &x, NULL, 1, r));
    assert_true(r[0].axis == 1 && r[0].left == 0 && r[1].axis == 0);
    assert_false(op_find(STRAND_OP_LONG_CONV)->axis_rule(lc, 2, &x, NULL, 2, r));
    assert_true(op_find(STRAND_OP_LONG_CONV)->axis_rule(lc, 2, &x, NULL, 1, r));
    assert_true(r[0].axis == 1 && r[1].axis == 0);
    op_shape t = {STRAND_F32, 3, {DIM_B, DIM_L, DIM(8)}};
    assert_false(op_find(STRAND_OP_LAYER_NORM)->axis_rule(&t, 1, &t, NULL, 2, r));
    assert_true(op_find(STRAND_OP_LAYER_NORM)->axis_rule(&t, 1, &t, NULL, 1, r));
}

/* ---- graph ---- */

static void shape_errors_name_the_node(void **state) {
    (void)state;
    static const float zeros[64];
    static const struct {
        const char *says;
        uint32_t op;
        int a, b, c; /* ids of the tensors below; 0: absent */
        uint32_t n;
    } cases[] = {
        {"node 'case' (matmul): inner extents of a and b differ", STRAND_OP_MATMUL, 1, 3, 0, 3},
        {"node 'case' (matmul): the bias and its place do not agree", STRAND_OP_MATMUL, 1, 2, 4, 3},
        {"node 'case': input 1 of matmul is missing", STRAND_OP_MATMUL, 1, 0, 0, 3},
        {"node 'case': operator 2 does not take 1 inputs", STRAND_OP_MATMUL, 1, 0, 0, 1},
        {"node 'case': operator 99 does not take 1 inputs", 99, 1, 0, 0, 1},
        {"node 'case' (binary): extents of a and b must be equal, or 1 in one of them", STRAND_OP_BINARY, 1, 5, 0, 2},
        {"node 'case' (binary): a and b must have the same number of axes", STRAND_OP_BINARY, 1, 4, 0, 2},
        {"node 'case' (gather): ids must be I32 or I64", STRAND_OP_GATHER, 2, 4, 0, 2},
        {"node 'case' (short_conv): the weight must be F32, [channels, taps]", STRAND_OP_SHORT_CONV, 1, 2, 0, 2},
        {"node 'case' (long_conv): the filter must be F32, [channels, taps]", STRAND_OP_LONG_CONV, 1, 2, 0, 2},
        {"node 'case' (layer_norm): weight and bias must be F32, one value a channel", STRAND_OP_LAYER_NORM, 1, 5, 0, 2},
        {"node 'case' (reduce): x must be F32, [batch, length, channels]", STRAND_OP_REDUCE, 4, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arena a;
        graph g;
        int64_t params[8] = {0};
        arena_init(&a, allocator_default());
        graph_init(&g, &a);
        tensor_id t[6] = {0};
        t[1] = graph_input(&g, "x", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(4)});
        t[2] = graph_weight(&g, "w", STRAND_F32, 2, (op_dim[]){DIM(4), DIM(5)}, zeros);
        t[3] = graph_weight(&g, "v", STRAND_F32, 2, (op_dim[]){DIM(5), DIM(4)}, zeros);
        t[4] = graph_weight(&g, "b", STRAND_F32, 1, (op_dim[]){DIM(5)}, zeros);
        t[5] = graph_weight(&g, "c", STRAND_F32, 3, (op_dim[]){DIM(1), DIM(1), DIM(5)}, zeros);
        assert_int_equal(graph_op(&g, "case", cases[i].op, params, (tensor_id[]){t[cases[i].a], t[cases[i].b], t[cases[i].c]},
                                  cases[i].n, NULL),
                         0);
        assert_string_equal(g.error.text, cases[i].says);
        assert_true(g.error.status != STRAND_OK && g.n_nodes == 0);
        /* The first error stays; what follows does nothing. */
        assert_int_equal(graph_input(&g, "y", STRAND_F32, 1, (op_dim[]){DIM(1)}), 0);
        assert_int_equal(graph_op(&g, "later", STRAND_OP_UNARY, params, &t[1], 1, NULL), 0);
        graph_output_add(&g, "y", t[1]);
        assert_int_equal(g.n_outputs, 0);
        assert_string_equal(g.error.text, cases[i].says);
        arena_release(&a);
    }
}

static void graphs_grow(void **state) {
    (void)state;
    arena a;
    graph g;
    static const float one = 1;
    strand_op_unary p = {STRAND_UNARY_TANH};
    arena_init(&a, allocator_default());
    graph_init(&g, &a);
    tensor_id x = graph_input(&g, "x", STRAND_F32, 1, (op_dim[]){DIM_L}),
              w = graph_weight(&g, "w", STRAND_F32, 1, (op_dim[]){DIM(1)}, &one);
    tensor_id c = graph_op(&g, "constant", STRAND_OP_UNARY, &p, &w, 1, NULL);
    for (int i = 0; i < 1000; i++) x = graph_op(&g, graph_name(&g, "n%d", i), STRAND_OP_UNARY, &p, &x, 1, NULL);
    tensor_id y = graph_op(&g, "both", STRAND_OP_BINARY, &(strand_op_binary){0}, (tensor_id[]){x, c}, 2, NULL);
    assert_int_equal(g.error.status, STRAND_OK);
    assert_int_equal(g.n_nodes, 1002);
    assert_string_equal(g.nodes[500].name, "n499");
    assert_true(g.tensors[c].constant && !g.tensors[x].constant && !g.tensors[y].constant && g.tensors[w].constant);
    assert_int_equal(g.tensors[y].shape.dims[0].kind, OP_DIM_LENGTH);
    assert_int_equal(graph_weight(&g, "deep", STRAND_F32, 5, (op_dim[]){DIM(1), DIM(1), DIM(1), DIM(1), DIM(1)}, &one), 0);
    assert_non_null(strstr(g.error.text, "tensor 'deep' has 5 axes"));
    arena_release(&a);
}

/* ---- quantised weights ---- */

/* Two blocks of 256 a row: bytes and cuts go by blocks. */
static void quantised_views_go_by_blocks(void **state) {
    (void)state;
    static unsigned char data[6 * 2 * 144];
    graph_tensor t = {
        .name = "w", .kind = TENSOR_WEIGHT, .constant = true, .shape = {STRAND_Q4_K, 2, {DIM(6), DIM(512)}}, .data = data};
    strand_plugin_tensor v;
    uint64_t bytes = 0;
    view_whole(&v, &t, 1, 1);
    v.memory = (strand_plugin_memory){data, NULL, 0, sizeof data};
    assert_true(view_bytes(&v, &bytes) && bytes == sizeof data);
    view_cut(&v, 0, 2, 5);
    assert_true(view_bytes(&v, &bytes) && bytes == 3 * 2 * 144);
    assert_ptr_equal(v.memory.data, data + 2 * 2 * 144);
    assert_int_equal(v.memory.bytes, sizeof data - 2 * 2 * 144);
    assert_true(v.origin[0] == 2 && v.dims[0] == 3 && v.strides[0] == 512);
    v.dims[1] = 300; /* no whole number of blocks */
    v.dims[0] = 1;
    assert_false(view_bytes(&v, &bytes));
}

static void quantised_tensors_are_weights_of_whole_blocks(void **state) {
    (void)state;
    static const unsigned char data[4 * 34];
    static const struct {
        strand_dtype dtype;
        op_dim last;
        bool weight, good;
    } cases[] = {{STRAND_Q8_0, DIM(32), true, true},   {STRAND_Q8_0, DIM(48), true, false}, {STRAND_Q4_K, DIM(32), true, false},
                 {STRAND_Q8_0, DIM(32), false, false}, {STRAND_Q8_0, DIM_L, true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        arena a;
        graph g;
        arena_init(&a, allocator_default());
        graph_init(&g, &a);
        op_dim dims[2] = {DIM(2), cases[i].last};
        tensor_id t = cases[i].weight ? graph_weight(&g, "w", cases[i].dtype, 2, dims, data)
                                      : graph_input(&g, "w", cases[i].dtype, 2, dims);
        assert_int_equal(t != 0, cases[i].good);
        if (!cases[i].good) assert_non_null(strstr(g.error.text, "tensor 'w'"));
        arena_release(&a);
    }
}

/* Products read them transposed; a cut of the last axis needs all of them; casts go to F32. */
static void quantised_rows(void **state) {
    (void)state;
    op_shape in[2] = {{STRAND_F32, 3, {DIM_B, DIM_L, DIM(64)}}, {STRAND_Q8_0, 2, {DIM(10), DIM(64)}}},
             out = {.dtype = STRAND_F32}, table[2] = {in[1], {STRAND_I64, 2, {DIM_B, DIM_L}}};
    op_axis_rule r[STRAND_PLUGIN_MAX_INPUTS];
    error e = {0};
    strand_op_matmul p = {.transpose_b = 1};
    assert_int_equal(op_find(STRAND_OP_MATMUL)->shape(in, 2, &p, &out, &e), STRAND_OK);
    assert_true(out.rank == 3 && out.dims[2].size == 10);
    assert_true(op_find(STRAND_OP_MATMUL)->axis_rule(in, 2, &out, &p, 2, r) && r[1].axis == 0);
    p.transpose_b = 0;
    assert_int_not_equal(op_find(STRAND_OP_MATMUL)->shape(in, 2, &p, &out, &e), STRAND_OK);
    assert_int_equal(op_find(STRAND_OP_GATHER)->shape(table, 2, NULL, &out, &e), STRAND_OK);
    assert_true(op_find(STRAND_OP_GATHER)->axis_rule(table, 2, &out, NULL, 2, r) && r[0].axis == -1);
    out = (op_shape){.dtype = STRAND_F16};
    assert_int_not_equal(op_find(STRAND_OP_CAST)->shape(&in[1], 1, NULL, &out, &e), STRAND_OK);
    out = (op_shape){.dtype = STRAND_F32};
    assert_int_equal(op_find(STRAND_OP_CAST)->shape(&in[1], 1, NULL, &out, &e), STRAND_OK);
    assert_true(op_find(STRAND_OP_CAST)->axis_rule(&in[1], 1, &out, NULL, 1, r) && r[0].axis == -1);
    assert_true(op_find(STRAND_OP_CAST)->axis_rule(&in[1], 1, &out, NULL, 0, r) && r[0].axis == 0);
    assert_int_not_equal(op_find(STRAND_OP_UNARY)->shape(&in[1], 1, &(strand_op_unary){0}, &out, &e), STRAND_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_stable),
        cmocka_unit_test(axis_rules_suffice),
        cmocka_unit_test(axis_rules_say_what_they_should),
        cmocka_unit_test(shape_errors_name_the_node),
        cmocka_unit_test(graphs_grow),
        cmocka_unit_test(quantised_views_go_by_blocks),
        cmocka_unit_test(quantised_tensors_are_weights_of_whole_blocks),
        cmocka_unit_test(quantised_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

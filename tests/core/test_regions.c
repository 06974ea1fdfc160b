/* test_regions.c - what random graphs meet too rarely: regions cut along the length, whose tiles have halos, lie over what
 * they read, and leave values behind that are read again. Each small graph is run whole, and tiled under every limit that
 * can be met. */
#include "dag.h"

#define LENGTH 1300
#define BATCH  2

static float numbers[4096];

static tensor_id weight(graph *g, int rank, int64_t a, int64_t b) {
    static int at;
    int64_t n = a * (rank > 1 ? b : 1);
    if (at + n > 4096) at = 0;
    const float *data = numbers + at;
    at += (int)n;
    return graph_weight(g, "w", STRAND_F32, rank, (op_dim[]){DIM(a), DIM(b)}, data);
}

static tensor_id unary(graph *g, const char *name, uint32_t kind, tensor_id x) {
    return graph_op(g, name, STRAND_OP_UNARY, &(strand_op_unary){kind}, &x, 1, NULL);
}

static tensor_id binary(graph *g, const char *name, uint32_t kind, tensor_id a, tensor_id b) {
    return graph_op(g, name, STRAND_OP_BINARY, &(strand_op_binary){kind}, (tensor_id[]){a, b}, 2, NULL);
}

/* x [B, L, from] times a weight, token-major. */
static tensor_id product(graph *g, const char *name, tensor_id x, int64_t from, int64_t to) {
    strand_op_matmul p = {.transpose_b = 1};
    return graph_op(g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){x, weight(g, 2, to, from), 0}, 3, NULL);
}

/* [B, L, d] to [B, n, L]. */
static tensor_id to_channels(graph *g, const char *name, tensor_id x, int64_t d, int64_t n) {
    strand_op_matmul p = {.transpose_b = 1};
    return graph_op(g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){weight(g, 2, n, d), x, 0}, 3, NULL);
}

static tensor_id short_conv(graph *g, const char *name, tensor_id x, int64_t channels, int64_t taps) {
    return graph_op(g, name, STRAND_OP_SHORT_CONV, &(strand_op_short_conv){0},
                    (tensor_id[]){x, weight(g, 2, channels, taps), 0}, 3, NULL);
}

/* The wide layer is cut; what it read is read once more, after the loop has written a result of the same shape. */
static void read_again(graph *g, tensor_id x) {
    tensor_id v = unary(g, "v", STRAND_UNARY_TANH, x);
    tensor_id y = product(g, "down", unary(g, "act", STRAND_UNARY_SILU, product(g, "up", v, 4, 64)), 64, 4);
    graph_output_add(g, "y", unary(g, "later", STRAND_UNARY_TANH, y));
    graph_output_add(g, "q", binary(g, "sub", STRAND_BINARY_SUB, y, v));
}

/* One channel that a long convolution leaves whole, and many after it: only the length can be cut. */
static tensor_id one_channel(graph *g, tensor_id x) {
    tensor_id v = to_channels(g, "one", x, 4, 1);
    return graph_op(g, "long", STRAND_OP_LONG_CONV, &(strand_op_long_conv){0}, (tensor_id[]){v, weight(g, 2, 1, 50)}, 2, NULL);
}

static tensor_id channels(graph *g, const char *name, tensor_id x, int64_t from, int64_t to) {
    return graph_op(g, name, STRAND_OP_MATMUL, &(strand_op_matmul){0}, (tensor_id[]){weight(g, 2, to, from), x, 0}, 3, NULL);
}

/* The result has the shape of what the loop reads, but may not lie over it: the next tile's halo reads it still. */
static void halo_over_input(graph *g, tensor_id x) {
    tensor_id a = short_conv(g, "short", channels(g, "wide", one_channel(g, x), 1, 32), 32, 5);
    graph_output_add(g, "y", channels(g, "narrow", unary(g, "act", STRAND_UNARY_SILU, a), 32, 1));
}

/* Halos add up through the region, and values are read with two of them. */
static void halos_add_up(graph *g, tensor_id x) {
    tensor_id v = channels(g, "wide", one_channel(g, x), 1, 32);
    tensor_id a = short_conv(g, "first", v, 32, 4), b = short_conv(g, "second", a, 32, 6);
    tensor_id c = binary(g, "mix", STRAND_BINARY_ADD, b, a), d = short_conv(g, "third", c, 32, 3);
    tensor_id e = binary(g, "end", STRAND_BINARY_MUL, d, unary(g, "gate", STRAND_UNARY_SIGMOID, c));
    graph_output_add(g, "y", channels(g, "narrow", e, 32, 1));
}

/* The residual: the last node of the loop reads the input that its result may lie over. */
static void residual(graph *g, tensor_id x) {
    tensor_id v = unary(g, "v", STRAND_UNARY_TANH, x);
    for (int i = 0; i < 3; i++)
        v = binary(g, "add", STRAND_BINARY_ADD, v,
                   product(g, "down", unary(g, "act", STRAND_UNARY_GELU, product(g, "up", v, 4, 80)), 80, 4));
    graph_output_add(g, "y", v);
}

/* Limits from what the whole plan needs downwards; every plan that can be is run. Returns how many were cut along the
 * length. */
static int everywhere(strand_model *m, const char *backends, const char *what) {
    strand_plan_params pp;
    strand_plan *p;
    strand_session *s;
    float *x = dag_input(m, 3, BATCH, LENGTH), *shorter = dag_input(m, 4, BATCH, 700);
    dag_results whole = {0}, less = {0};
    uint64_t all = 0;
    int cut = 0;
    strand_plan_params_init(&pp);
    pp.max_batch = BATCH;
    pp.max_length = LENGTH;
    pp.backends = backends;
    for (uint64_t percent = 100; percent > 10; percent -= 3) {
        strand_plan_node_info node;
        bool along = false;
        pp.no_tiling = percent == 100;
        pp.memory_limit = pp.no_tiling ? 0 : all * percent / 100;
        strand_status status = strand_plan_open(m, &pp, &p);
        if (status == STRAND_ERR_LIMIT) continue;
        assert_ok(m->context, status);
        for (int32_t i = 0; !strand_plan_node(p, i, &node); i++)
            along = along || (node.tiles > 1 && !strcmp(node.axis, "length"));
        cut += along;
        assert_ok(m->context, strand_session_open(p, NULL, &s));
        dag_results r = dag_run(s, m, x, BATCH, LENGTH), t = dag_run(s, m, shorter, BATCH, 700);
        if (pp.no_tiling) {
            strand_plan_info info;
            assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
            all = info.block_bytes + info.device_bytes;
            whole = r;
            less = t;
        } else {
            dag_same(&whole, &r, what);
            dag_same(&less, &t, what);
            dag_free(&r);
            dag_free(&t);
        }
        strand_session_close(s);
        strand_plan_close(p);
    }
    dag_free(&whole);
    dag_free(&less);
    free(x);
    free(shorter);
    return cut;
}

static void cut_along_the_length(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*build)(graph *g, tensor_id x);
    } graphs[] = {{"read again", read_again},
                  {"halo over input", halo_over_input},
                  {"halos add up", halos_add_up},
                  {"residual", residual}};
#ifdef TEST_STATIC
    static const char *const backends[] = {"cpu"};
#else
    static const char *const backends[] = {"cpu", "cpu-reference", "faraway,cpu"};
#endif
    size_t n_backends = sizeof backends / sizeof *backends;
    random_fill(&(randoms){12}, numbers, 4096, 0.5f);
    faraway_env(NULL, "4", NULL);
    setenv("STRAND_FARAWAY_CLAIM", "0", 1); /* one by one: groups would leave less to the regions */
    strand_context *c = open_context(&(open_with){.threads = 2, .faraway = n_backends > 1});
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++)
        for (size_t k = 0; k < n_backends; k++) {
            strand_model *m = dag_empty(c);
            graphs[i].build(&m->graph, graph_input(&m->graph, "x", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(4)}));
            assert_string_equal(m->graph.error.text, "");
            int cut = everywhere(m, backends[k], graphs[i].name);
            print_message("  %-16s %-14s %d plans cut\n", graphs[i].name, backends[k], cut);
            if (k < 2) assert_true(cut > 0); /* a split between devices may leave no region */
            strand_model_close(m);
        }
    strand_context_close(c);
    unsetenv("STRAND_FARAWAY_CLAIM");
    faraway_env(NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cut_along_the_length)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_cuda_groups.c - one token's nodes through the plugin's own interface, on the emulated driver: recorded, where those that
 * fit become one launch, and node by node. Graphs that no model here has: sums with rows of the same launch, results over
 * operands and over each other, in place. All memory must have the same bytes, token by token; each graph has so many launches
 * and no other number. And recordings that fail: they never run, in part least of all. */
#define _GNU_SOURCE
#include "support.h"

#include <dlfcn.h>

#include "../ops/ops_host.h"
#include "strand_ops.h"

enum { MOST_NODES = 8, MOST_VIEWS = 11, NUMBERS = 1 << 15, BATCH = 3, TOKENS = 6 };

static struct {
    void (*fail_call)(const char *name, long nth, int code);
    const char *(*failed)(void);
    const char *(*wrong)(void);
    long (*launches)(void);
    long (*live)(void);
} cuda;

typedef strand_plugin_tensor view;

typedef struct graph {
    ops_plugin plugin;
    strand_plugin_buffer *buffer;
    uint32_t ids;
    int64_t used; /* numbers */
    uint32_t n;
    strand_plugin_node nodes[MOST_NODES];
    view views[MOST_NODES][MOST_VIEWS];
    view x; /* what a token brings */
    union {
        strand_op_norm norm;
        strand_op_matmul matmul;
        strand_op_binary binary;
        strand_op_short_conv conv;
        strand_op_selective_scan scan;
    } params[MOST_NODES];
} graph;

static void open_graph(graph *g) {
    char why[300] = "";
    memset(g, 0, sizeof *g);
    if (ops_open(&g->plugin, build_path("backends/cuda/strand-cuda.so"), why, sizeof why)) fail_msg("%s", why);
    assert_int_equal(g->plugin.api->buffer_create(g->plugin.device, NUMBERS * 4, &g->buffer), 0);
}

static void close_graph(graph *g) {
    g->plugin.api->buffer_destroy(g->plugin.device, g->buffer);
    assert_int_equal(ops_close(&g->plugin), 0);
    assert_string_equal(cuda.wrong(), "");
    assert_int_equal(cuda.live(), 0);
}

/* Dense, of F32; over another one, or (NULL) in memory of its own. Extents end with 0. */
static view tensor(graph *g, const view *over, const int64_t *dims) {
    view t = {.dtype = STRAND_PLUGIN_F32, .id = ++g->ids};
    int64_t n = 1;
    while (dims[t.rank]) t.rank++;
    for (uint32_t i = t.rank; i-- > 0; n *= dims[i]) t.dims[i] = t.whole[i] = dims[i], t.strides[i] = n;
    t.memory = over ? over->memory : (strand_plugin_memory){.buffer = g->buffer, .offset = (uint64_t)g->used * 4};
    t.memory.bytes = (uint64_t)n * 4;
    if (!over) g->used += (n + 63) / 64 * 64;
    assert_true(g->used <= NUMBERS);
    return t;
}
#define NEW(...)        tensor(g, NULL, (const int64_t[]){__VA_ARGS__, 0})
#define OVER(over, ...) tensor(g, &over, (const int64_t[]){__VA_ARGS__, 0})

/* Inputs (absent ones with rank 0), then outputs. */
static void add_node(graph *g, uint32_t op, uint32_t inputs, uint32_t outputs, const view *all) {
    assert_true(g->n < MOST_NODES && inputs + outputs <= MOST_VIEWS);
    memcpy(g->views[g->n], all, (inputs + outputs) * sizeof *all);
    g->nodes[g->n] = (strand_plugin_node){.op = op, .version = 1, .n_inputs = inputs, .n_outputs = outputs,
                                          .inputs = g->views[g->n], .outputs = g->views[g->n] + inputs,
                                          .params = &g->params[g->n], .name = "node"};
    g->n++;
}
static view none;

static void norm(graph *g, view x, view y) {
    g->params[g->n].norm = (strand_op_norm){.kind = STRAND_NORM_RMS, .groups = 1, .eps = 1e-5f};
    add_node(g, STRAND_OP_NORM, 3, 1, (const view[]){x, NEW(x.dims[2]), none, y});
}
static void product(graph *g, view x, view y) {
    g->params[g->n].matmul = (strand_op_matmul){.transpose_b = 1};
    add_node(g, STRAND_OP_MATMUL, 3, 1, (const view[]){x, NEW(y.dims[2], x.dims[2]), none, y});
}
static void sum(graph *g, view a, view b, view y) {
    g->params[g->n].binary = (strand_op_binary){.kind = STRAND_BINARY_ADD};
    add_node(g, STRAND_OP_BINARY, 2, 1, (const view[]){a, b, y});
}
static void conv(graph *g, view x, view from, view y, view to) {
    g->params[g->n].conv = (strand_op_short_conv){STRAND_SHORT_CONV_TOKEN_MAJOR, STRAND_UNARY_SILU};
    add_node(g, STRAND_OP_SHORT_CONV, 4, 2, (const view[]){x, NEW(x.dims[2], from.dims[1] + 1), none, from, y, to});
}
static void scan(graph *g, view u, view dt, view b, view c, view z, view state, view y) {
    g->params[g->n].scan = (strand_op_selective_scan){.softplus = 1};
    add_node(g, STRAND_OP_SELECTIVE_SCAN, 9, 2,
             (const view[]){u, dt, NEW(u.dims[2], b.dims[2]), b, c, none, z, none, state, y, state});
}

/* ---- the graphs: what a token brings is g->x ---- */

enum { D = 44, N = 16 }; /* groups of items are cut at 8 columns */
#define ROW NEW(BATCH, 1, D)

/* s = n + p reads what the norm of the same launch writes. */
static void sum_with_the_norm(graph *g) {
    view n = ROW, p = ROW, s = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    sum(g, p, n, s);
    sum(g, s, g->x, ROW);
}
static void sum_over_the_norm(graph *g) {
    view n = ROW, p = ROW, s = OVER(n, BATCH, 1, D);
    norm(g, g->x, n);
    product(g, n, p);
    sum(g, n, p, s);
    sum(g, s, g->x, ROW);
}
static void sum_with_the_row(graph *g) {
    view n = ROW, p = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    sum(g, g->x, p, OVER(p, BATCH, 1, D));
}
/* In place over the residual, which every group of the norm reads; and where there is no norm. */
static void sum_over_the_row(graph *g) {
    view n = ROW, p = ROW, y = OVER(g->x, BATCH, 1, D), q = ROW, z = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    sum(g, p, g->x, y);
    product(g, n, q);
    sum(g, y, q, OVER(y, BATCH, 1, D));
    product(g, q, z);
}
static void norm_in_place(graph *g) {
    view n = OVER(g->x, BATCH, 1, D);
    norm(g, g->x, n);
    product(g, n, ROW);
    product(g, n, NEW(BATCH, 1, 23));
}
static void convolutions(graph *g) {
    view n = ROW, p = ROW, q = ROW, state = NEW(BATCH, 3, D), other = NEW(BATCH, 1, D), moved = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    product(g, n, q);
    conv(g, p, state, ROW, state);
    conv(g, q, other, ROW, moved);
}
/* A later product lies over a convolution's result, which nobody reads any more. */
static void over_a_convolution(graph *g) {
    view n = ROW, p = ROW, state = NEW(BATCH, 3, D), y = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    conv(g, p, state, y, state);
    product(g, n, OVER(y, BATCH, 1, D));
}
/* The norm's row is a convolution's state, too. */
static void state_of_the_launch(graph *g) {
    view n = ROW, p = ROW;
    norm(g, g->x, n);
    product(g, n, p);
    conv(g, p, n, ROW, ROW);
}
static void scan_of_the_factor(graph *g) {
    view dt = ROW, state = NEW(BATCH, D, N), u = ROW;
    product(g, g->x, dt);
    scan(g, u, dt, NEW(BATCH, 1, N), NEW(BATCH, 1, N), ROW, state, OVER(u, BATCH, 1, D));
}
/* B, and u, are what the launch makes. */
static void scan_with_the_factor(graph *g) {
    view dt = NEW(BATCH, 1, N), state = NEW(BATCH, N, N);
    product(g, g->x, dt);
    scan(g, NEW(BATCH, 1, N), dt, dt, NEW(BATCH, 1, N), none, state, NEW(BATCH, 1, N));
}
static void scan_of_itself(graph *g) {
    view dt = ROW, state = NEW(BATCH, D, N);
    product(g, g->x, dt);
    scan(g, dt, dt, NEW(BATCH, 1, N), NEW(BATCH, 1, N), none, state, ROW);
}
/* The result lies over C, of which each group reads all. */
static void scan_over_c(graph *g) {
    view dt = NEW(BATCH, 1, N), state = NEW(BATCH, N, N), c = NEW(BATCH, 1, N);
    product(g, g->x, dt);
    scan(g, NEW(BATCH, 1, N), dt, NEW(BATCH, 1, N), c, none, state, NEW(BATCH, 1, N));
    product(g, g->x, OVER(c, BATCH, 1, N));
}

static const struct {
    const char *name;
    void (*make)(graph *);
    long launches;
} graphs[] = {{"a sum with the norm's row", sum_with_the_norm, 3},
              {"a sum over the norm's row", sum_over_the_norm, 3},
              {"a sum with the row", sum_with_the_row, 1},
              {"a sum over the row", sum_over_the_row, 4},
              {"a norm in place", norm_in_place, 2},
              {"convolutions", convolutions, 1},
              {"over a convolution", over_a_convolution, 2},
              {"a state of the launch", state_of_the_launch, 3} /* a convolution alone is two */,
              {"a scan of the factor", scan_of_the_factor, 1},
              {"a scan with the factor", scan_with_the_factor, 2},
              {"a scan of itself", scan_of_itself, 2},
              {"a scan, and a product over what it reads", scan_over_c, 2}};
enum { GRAPHS = sizeof graphs / sizeof graphs[0] };

/* ---- runs ---- */

static void make(graph *g, int which) {
    open_graph(g);
    g->x = ROW;
    graphs[which].make(g);
}

static void put(graph *g, const view *t, const float *numbers) {
    const uint64_t bytes = t ? t->memory.bytes : NUMBERS * 4, offset = t ? t->memory.offset : 0;
    assert_int_equal(g->plugin.api->upload(g->plugin.device, g->buffer, offset, numbers, bytes), 0);
}
static void get(graph *g, float *numbers) {
    uint64_t point;
    const strand_plugin_api *api = g->plugin.api;
    assert_int_equal(api->download(g->plugin.device, g->buffer, 0, numbers, NUMBERS * 4), 0);
    assert_int_equal(api->submit(g->plugin.device, &point), 0);
    assert_int_equal(api->wait(g->plugin.device, point), 0);
}
static void launch_all(graph *g) {
    const strand_plugin_memory scratch = {0};
    for (uint32_t i = 0; i < g->n; i++)
        if (g->plugin.api->launch(g->plugin.device, &g->nodes[i], 1, &scratch))
            fail_msg("node %u: %s", i, g->plugin.host.failure);
}
static strand_plugin_segment *record(graph *g) {
    const strand_plugin_memory scratch = {0};
    strand_plugin_segment *s = NULL;
    assert_int_equal(g->plugin.api->segment_create(g->plugin.device, &s), 0);
    for (uint32_t i = 0; i < g->n; i++)
        if (g->plugin.api->segment_launch(g->plugin.device, s, &g->nodes[i], 1, &scratch))
            fail_msg("node %u: %s", i, g->plugin.host.failure);
    return s;
}

static float begin[NUMBERS], tokens[TOKENS][BATCH * D], good[TOKENS][NUMBERS], got[NUMBERS];

static void make_good(graph *g, int which) {
    randoms r = {random_seed("cuda groups", 11 + (uint64_t)which)};
    random_fill(&r, begin, NUMBERS, 0.3f);
    random_fill(&r, tokens[0], TOKENS * BATCH * D, 1);
    put(g, NULL, begin);
    for (int t = 0; t < TOKENS; t++) {
        put(g, &g->x, tokens[t]);
        launch_all(g);
        get(g, good[t]);
    }
    put(g, NULL, begin);
}

static void as_node_by_node(void **state) {
    (void)state;
    for (int i = 0; i < GRAPHS; i++) {
        static graph g;
        make(&g, i);
        make_good(&g, i);
        strand_plugin_segment *s = record(&g);
        for (int t = 0; t < TOKENS; t++) {
            put(&g, &g.x, tokens[t]);
            const long before = cuda.launches();
            assert_int_equal(g.plugin.api->segment_run(g.plugin.device, s), 0);
            const long launches = cuda.launches() - before;
            get(&g, got);
            assert_same_bytes(got, good[t], sizeof got, graphs[i].name);
            if (launches != graphs[i].launches)
                fail_msg("%s: %ld launches, not %ld", graphs[i].name, launches, graphs[i].launches);
        }
        g.plugin.api->segment_destroy(g.plugin.device, s);
        close_graph(&g);
    }
}

/* What fails while nodes that waited are recorded, or the graph is made ready or first launched: nothing has run, now or when
 * it is asked for again, and launches one by one give what they give. */
static void broken_recordings(void **state) {
    (void)state;
    static const struct {
        const char *call;
        long nth;
    } cases[] = {{"cuGraphAddKernelNode", 1}, {"cuGraphAddKernelNode", 2}, {"cuGraphAddKernelNode", 3},
                 {"cuModuleLoadData", 1},     {"cuModuleGetFunction", 1},  {"cuGraphInstantiateWithFlags", 1},
                 {"cuGraphLaunch", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static graph g;
        make(&g, 0);
        make_good(&g, 0);
        strand_plugin_segment *s = record(&g);
        put(&g, &g.x, tokens[0]);
        get(&g, good[1]);
        cuda.fail_call(cases[i].call, cases[i].nth, 2);
        for (int again = 0; again < 3; again++) {
            assert_int_equal(g.plugin.api->segment_run(g.plugin.device, s), STRAND_PLUGIN_ERR_UNSUPPORTED);
            assert_string_equal(cuda.failed(), cases[i].call);
            assert_true(strlen(g.plugin.host.failure) > 10);
            get(&g, got);
            assert_same_bytes(got, good[1], sizeof got, "after a recording that failed");
        }
        cuda.fail_call(NULL, 0, 0);
        g.plugin.api->segment_destroy(g.plugin.device, s);
        launch_all(&g);
        get(&g, got);
        assert_same_bytes(got, good[0], sizeof got, "launched one by one");
        close_graph(&g);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_node_by_node), cmocka_unit_test(broken_recordings)};
    if (argc > 2 && !strcmp(argv[1], "only")) cmocka_set_test_filter(argv[2]);
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    *(void **)&cuda.fail_call = driver ? dlsym(driver, "emulated_cuda_fail") : NULL;
    *(void **)&cuda.failed = driver ? dlsym(driver, "emulated_cuda_failed") : NULL;
    *(void **)&cuda.wrong = driver ? dlsym(driver, "emulated_cuda_wrong") : NULL;
    *(void **)&cuda.launches = driver ? dlsym(driver, "emulated_cuda_launches") : NULL;
    *(void **)&cuda.live = driver ? dlsym(driver, "emulated_cuda_live") : NULL;
    if (!cuda.fail_call || !cuda.failed || !cuda.wrong || !cuda.launches || !cuda.live) {
        fprintf(stderr,
                "the emulated driver is not the libcuda.so.1 that the loader finds: set LD_LIBRARY_PATH to its folder\n");
        return 1;
    }
    return cmocka_run_group_tests_name("cuda, groups of nodes", tests, NULL, NULL);
}

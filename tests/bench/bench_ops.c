/* bench_ops.c - times matmul, long_conv and a few others on one plugin, each next to its floor measured in the same run: how fast
 * this processor multiplies and adds, and how fast it reads and writes the same number of bytes. Shared machines drift by tens of
 * per cent, so only the ratios are worth quoting.
 *
 *   bench_ops --plugin strand-cpu-x86-64-v4.so [--threads N] [--rounds N] */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops_host.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static struct settings {
    const char *plugin;
    int threads, rounds;
} settings = {.threads = 1, .rounds = 9};

/* One thread is timed by its own clock, which other jobs of the machine do not advance. */
static double now(void) {
    struct timespec t;
    clock_gettime(settings.threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the processor's peak ---- */

#define CHAINS     12
#define PEAK_STEPS 200000

/* CHAINS independent sums hide the latency of each. */
#define PEAK(name, isa, type, set, fma)                                                                                        \
    isa static void name(void) {                                                                                               \
        type sum[CHAINS], x = set(1.0000001f), y = set(0.9999999f);                                                            \
        for (int i = 0; i < CHAINS; i++) sum[i] = set((float)i);                                                               \
        for (int k = 0; k < PEAK_STEPS; k++) {                                                                                 \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) sum[i] = fma(x, y, sum[i]);                              \
        }                                                                                                                      \
        for (int i = 1; i < CHAINS; i++) sum[0] = fma(sum[i], y, sum[0]);                                                      \
        __asm__ volatile("" : : "m"(sum[0]));                                                                                  \
    }

#if defined(__x86_64__)
#define MUL_ADD(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
PEAK(peak4, , __m128, _mm_set1_ps, MUL_ADD)
PEAK(peak8, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps, _mm256_fmadd_ps)
PEAK(peak16, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps, _mm512_fmadd_ps)
#else
#define SAME(x)        (x)
#define PLAIN(a, b, c) ((a) * (b) + (c))
PEAK(peak1, , float, SAME, PLAIN)
#endif

/* FLOP/s of one thread with the vectors that the plugin uses. */
static double peak(const ops_plugin *p) {
    int lanes = 1;
    void (*run)(void);
#if defined(__x86_64__)
    bool v4 = strstr(p->info.description, "v4") != NULL, v3 = strstr(p->info.description, "v3") != NULL;
    run = v4 ? peak16 : v3 ? peak8 : peak4;
    lanes = v4 ? 16 : v3 ? 8 : 4;
#else
    (void)p;
    run = peak1;
#endif
    double begin = now();
    run();
    return 2.0 * lanes * CHAINS * PEAK_STEPS / (now() - begin);
}

/* ---- measured cases ---- */

#define MOST_ROUNDS 31

static float *numbers(int64_t n) {
    float *p = aligned_alloc(64, (size_t)(n * 4 + 127) / 64 * 64);
    if (!p) exit(2);
    for (int64_t i = 0; i < n; i++) p[i] = (float)(i * 2654435761u % 1000) * 1e-3f - 0.5f;
    return p;
}

static strand_plugin_tensor tensor(float *data, int rank, int64_t a, int64_t b) {
    strand_plugin_tensor t = {
        .dtype = STRAND_PLUGIN_F32, .rank = (uint32_t)rank, .dims = {a, b}, .whole = {a, b}, .strides = {rank == 1 ? 1 : b, 1}};
    t.memory.data = data;
    return t;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* Reads three streams and writes one: what a long convolution with a prepared filter must move at least. */
static void stream(float *y, const float *a, const float *b, const float *c, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i] * c[i];
}

typedef struct timing {
    double seconds, peak, floor; /* medians of interleaved rounds; floor: of `stream` on as many elements */
} timing;

static timing measure(ops_plugin *p, strand_plugin_node *node, float *y, float *a, float *b, float *c, int64_t elements) {
    uint64_t scratch_bytes = p->api->scratch_size(p->device, node, 1), prepared_bytes = p->api->prepare_size(p->device, node);
    strand_plugin_memory scratch = {.data = numbers((int64_t)scratch_bytes / 4 + 16), .bytes = scratch_bytes};
    double took[MOST_ROUNDS], peaks[MOST_ROUNDS], floors[MOST_ROUNDS];
    node->prepared = (strand_plugin_memory){.data = prepared_bytes ? numbers((int64_t)prepared_bytes / 4 + 16) : NULL,
                                            .bytes = prepared_bytes};
    if (prepared_bytes && p->api->prepare(p->device, node, &scratch)) exit(2);
    for (int i = -1; i < settings.rounds; i++) {
        double begin = now();
        if (p->api->launch(p->device, node, 1, &scratch)) exit(2);
        double end = now();
        if (elements) stream(y, a, b, c, elements);
        double last = now();
        if (i < 0) continue; /* the first round warms up */
        took[i] = end - begin;
        floors[i] = last - end;
        peaks[i] = peak(p);
    }
    free(scratch.data);
    free(node->prepared.data);
    return (timing){median(took, settings.rounds), median(peaks, settings.rounds), median(floors, settings.rounds)};
}

static void bench_matmul(ops_plugin *p, int64_t m, int64_t n, int64_t k, bool weights) {
    float *a = numbers(m * k), *b = numbers(k * n), *y = numbers(m * n);
    strand_op_matmul params = {.transpose_b = weights};
    strand_plugin_tensor in[2] = {tensor(a, 2, m, k), weights ? tensor(b, 2, n, k) : tensor(b, 2, k, n)},
                         out = tensor(y, 2, m, n);
    strand_plugin_node node = {
        .op = STRAND_OP_MATMUL, .version = 1, .n_inputs = 2, .n_outputs = 1, .inputs = in, .outputs = &out, .params = &params};
    timing t = measure(p, &node, NULL, NULL, NULL, NULL, 0);
    double flops = 2.0 * (double)m * (double)n * (double)k / t.seconds, all = t.peak * settings.threads;
    printf("matmul     %5lld x %5lld x %5lld %s %9.1f us  %7.1f GFLOP/s  %5.1f %% of the peak of %.0f\n", (long long)m,
           (long long)n, (long long)k, weights ? "b'" : "b ", 1e6 * t.seconds, 1e-9 * flops, 100 * flops / all, 1e-9 * all);
    free(a), free(b), free(y);
}

static void bench_long_conv(ops_plugin *p, int64_t length, int64_t channels) {
    int64_t n = length * channels;
    float *u = numbers(n), *filter = numbers(n), *y = numbers(n), *more = numbers(n);
    strand_op_long_conv params = {0};
    strand_plugin_tensor in[2] = {tensor(u, 2, channels, length), tensor(filter, 2, channels, length)},
                         out = tensor(y, 2, channels, length);
    in[1].flags = STRAND_TENSOR_CONSTANT;
    strand_plugin_node node = {.op = STRAND_OP_LONG_CONV,
                               .version = 1,
                               .n_inputs = 2,
                               .n_outputs = 1,
                               .inputs = in,
                               .outputs = &out,
                               .params = &params};
    timing t = measure(p, &node, y, u, filter, more, n);
    double n_log = 2 * (double)length * log2(2 * (double)length), flops = 5 * n_log * (double)channels / t.seconds;
    printf("long_conv  %8lld x %3lld            %9.1f us  %7.3f ns/element  %5.1f x the stream floor  %5.1f GFLOP/s by 2 x 2.5 "
           "N log2 N\n",
           (long long)length, (long long)channels, 1e6 * t.seconds, 1e9 * t.seconds / (double)n, t.seconds / t.floor,
           1e-9 * flops);
    free(u), free(filter), free(y), free(more);
}

/* Element-wise and row operators, which should move memory and do nothing else. */
static void bench_rows(ops_plugin *p, const char *name, uint32_t op, const void *params, uint32_t n_inputs, int64_t rows,
                       int64_t columns) {
    int64_t n = rows * columns;
    float *x = numbers(n), *w = numbers(n), *b = numbers(n), *y = numbers(n);
    strand_plugin_tensor out = tensor(y, 2, rows, columns), in[3] = {tensor(x, 2, rows, columns)};
    in[1] = op == STRAND_OP_LAYER_NORM   ? tensor(w, 1, columns, 0)
            : op == STRAND_OP_SHORT_CONV ? tensor(w, 2, rows, 3)
                                         : tensor(w, 2, rows, columns);
    in[2] = op == STRAND_OP_LAYER_NORM ? tensor(b, 1, columns, 0) : tensor(b, 1, rows, 0);
    strand_plugin_node node = {
        .op = op, .version = 1, .n_inputs = n_inputs, .n_outputs = 1, .inputs = in, .outputs = &out, .params = params};
    timing t = measure(p, &node, y, x, w, b, n);
    printf("%-10s %8lld x %5lld          %9.1f us  %7.3f ns/element  %5.1f x the stream floor\n", name, (long long)rows,
           (long long)columns, 1e6 * t.seconds, 1e9 * t.seconds / (double)n, t.seconds / t.floor);
    free(x), free(w), free(b), free(y);
}

static void bench_all(ops_plugin *p) {
    static const int64_t products[][3] = {{1, 1024, 1024}, {1, 5, 64},         {16, 1024, 1024}, {256, 256, 256},
                                          {512, 512, 512}, {1024, 1024, 1024}, {4096, 64, 64},   {4096, 64, 5},
                                          {4096, 16, 256}, {4096, 1024, 256},  {768, 4096, 256}};
    static const int64_t lengths[][2] = {{1024, 256}, {1026, 256},  {8192, 256},  {32768, 64},
                                         {32770, 64}, {131072, 32}, {160002, 32}, {1048576, 4}};
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        for (int w = 0; w < 2; w++) bench_matmul(p, products[i][0], products[i][1], products[i][2], w);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) bench_long_conv(p, lengths[i][0], lengths[i][1]);
    const strand_op_layer_norm norm = {1e-5f};
    const strand_op_unary gelu = {STRAND_UNARY_GELU_TANH}, erf_gelu = {STRAND_UNARY_GELU}, sine = {STRAND_UNARY_SIN};
    const strand_op_binary sum = {STRAND_BINARY_ADD};
    const strand_op_short_conv taps = {0};
    bench_rows(p, "layer_norm", STRAND_OP_LAYER_NORM, &norm, 3, 8192, 256);
    bench_rows(p, "gelu_tanh", STRAND_OP_UNARY, &gelu, 1, 8192, 256);
    bench_rows(p, "gelu", STRAND_OP_UNARY, &erf_gelu, 1, 8192, 256);
    bench_rows(p, "sin", STRAND_OP_UNARY, &sine, 1, 8192, 256);
    bench_rows(p, "add", STRAND_OP_BINARY, &sum, 2, 8192, 256);
    bench_rows(p, "short_conv", STRAND_OP_SHORT_CONV, &taps, 3, 256, 8192);
}

int main(int argc, char **argv) {
    ops_plugin p;
    char why[300] = "";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--plugin")) settings.plugin = argv[i + 1];
        if (!strcmp(argv[i], "--threads")) settings.threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--rounds")) settings.rounds = atoi(argv[i + 1]);
    }
    if (settings.rounds < 1 || settings.rounds > MOST_ROUNDS) settings.rounds = MOST_ROUNDS;
    if (!settings.plugin) return fprintf(stderr, "usage: bench_ops --plugin FILE [--threads N] [--rounds N]\n"), 2;
    int code = ops_open(&p, settings.plugin, why, sizeof why);
    if (code || !ops_host_memory(&p))
        return fprintf(stderr, "%s: %s\n", settings.plugin, code ? why : "only host-memory plugins are timed"),
               code ? code : 77;
    p.host.workers = settings.threads;
    printf("%s: %s; %d thread%s, medians of %d rounds\n", p.table.name, p.info.description, settings.threads,
           settings.threads == 1 ? "" : "s", settings.rounds);
    bench_all(&p);
    ops_close(&p);
    return 0;
}

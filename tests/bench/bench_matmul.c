/* bench_matmul.c - times matrix products at the shapes where kernels change their minds: many rows, few rows, one row, weights
 * [N, K] and [K, N], halves, precision BF16, batches of small ones. Peers and floors are those of bench.h; OpenBLAS chooses its
 * kernels by the processor's name and takes slow ones for a processor that is newer than it, so name the best that runs:
 *
 *   OPENBLAS_CORETYPE=SkylakeX bench_matmul --plugin strand-cpu-x86-64-v4.so [--rounds N] [--json] */
#include "bench.h"

#define F32  STRAND_PLUGIN_F32
#define F16  STRAND_PLUGIN_F16
#define BF16 STRAND_PLUGIN_BF16

typedef struct product {
    int64_t m, n, k, batch;
    bool weights; /* b is [N, K] */
    uint32_t type, precision;
} product;

static const char *type_name(uint32_t type) {
    return type == F32 ? "F32" : type == F16 ? "F16" : "BF16";
}

static void time_product(bench *b, product p) {
    strand_op_matmul params = {.transpose_b = p.weights, .precision = p.precision};
    int64_t a[3] = {p.batch, p.m, p.k}, w[3] = {p.batch, p.weights ? p.n : p.k, p.weights ? p.k : p.n},
            y[3] = {p.batch, p.m, p.n};
    int rank = p.batch > 1 ? 3 : 2, skip = 3 - rank;
    bench_case c;
    bench_begin(b, &c, "matmul", STRAND_OP_MATMUL, &params, sizeof params, "%lldx%lldx%lld %s %s%s, batch %lld", (long long)p.m,
                (long long)p.n, (long long)p.k, p.weights ? "[N,K]" : "[K,N]", type_name(p.type),
                p.precision == STRAND_PRECISION_BF16 ? " as BF16" : "", (long long)p.batch);
    bench_input(&c, bench_random(b, F32, rank, a + skip, -1, 1));
    bench_input(&c, bench_random(b, p.type, rank, w + skip, -1, 1));
    bench_output(&c, bench_zeros(b, F32, rank, y + skip));
    c.flops = 2.0 * (double)p.batch * (double)p.m * (double)p.n * (double)p.k;
    bench_run(b, &c);
}

static void both_ways(bench *b, product p) {
    if (p.batch < 1) p.batch = 1;
    for (int weights = 1; weights >= 0; weights--) {
        p.weights = weights;
        time_product(b, p);
    }
}

static void many_rows(bench *b) {
    static const int64_t shapes[][3] = {{128, 1024, 1024}, {256, 256, 256},    {512, 512, 512},   {1024, 1024, 1024},
                                        {512, 1536, 768},  {1024, 4096, 1024}, {4096, 256, 1024}, {4096, 1024, 256},
                                        {4096, 64, 64},    {4096, 16, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        both_ways(b, (product){.m = shapes[i][0], .n = shapes[i][1], .k = shapes[i][2], .type = F32});
    }
}

static void few_rows(bench *b) {
    static const int64_t rows[] = {1, 2, 4, 8, 16, 32},
                         weights[][2] = {{256, 256}, {768, 64}, {1024, 1024}, {768, 3072}, {4096, 4096}, {50304, 256}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) {
            both_ways(b, (product){.m = rows[i], .n = weights[w][0], .k = weights[w][1], .type = F32});
        }
}

static void halves(bench *b) {
    static const int64_t rows[] = {1, 4, 512};
    static const uint32_t types[] = {F16, BF16};
    for (int i = 0; i < 3; i++) {
        for (int t = 0; t < 2; t++) both_ways(b, (product){.m = rows[i], .n = 4096, .k = 4096, .type = types[t]});
        both_ways(b, (product){.m = rows[i], .n = 4096, .k = 4096, .type = F32, .precision = STRAND_PRECISION_BF16});
        both_ways(b, (product){.m = rows[i], .n = 4096, .k = 4096, .type = BF16, .precision = STRAND_PRECISION_BF16});
    }
}

/* Large enough for a GPU: a square, and a layer of HyenaDNA over 128k tokens. */
static void of_a_device(bench *b) {
    static const uint32_t types[] = {F32, F16, BF16};
    for (int t = 0; t < 3; t++)
        time_product(b, (product){.m = 8192, .n = 8192, .k = 8192, .batch = 1, .type = types[t], .weights = 1});
    for (int k = 256; k <= 1024; k += 768)
        for (uint32_t precision = 0; precision < 2; precision++)
            time_product(
                b,
                (product){.m = 131072, .n = 1280 - k, .k = k, .batch = 1, .type = F32, .precision = precision, .weights = 1});
}

int main(int argc, char **argv) {
    bench b;
    int code = bench_open(&b, argc, argv, "matmul");
    if (code) return code;
    if (b.device) of_a_device(&b);
    many_rows(&b);
    few_rows(&b);
    halves(&b);
    both_ways(&b, (product){.m = 64, .n = 64, .k = 64, .batch = 64, .type = F32});
    both_ways(&b, (product){.m = 16, .n = 16, .k = 16, .batch = 512, .type = F32});
    return bench_close(&b);
}

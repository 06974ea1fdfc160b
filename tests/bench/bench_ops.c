/* bench_ops.c - times convolutions, transforms and the operators that should move memory and do nothing else, each next to
 * its floor. Products are in bench_matmul.c and bench_products.c.
 *
 *   bench_ops --plugin strand-cpu-x86-64-v4.so [--op PART] [--threads N] [--rounds N] [--json] */
#include <math.h>

#include "bench.h"

#define F32 STRAND_PLUGIN_F32

/* flops by the convention of two real transforms of twice the length, 2.5 N log2 N each; memory: u, the spectrum of the filter,
 * which has two numbers an element, and y. */
static void bench_long_conv(bench *b, int64_t length, int64_t channels) {
    const strand_op_long_conv params = {0};
    double n = (double)length * (double)channels;
    bench_case c;
    bench_begin(b, &c, "long_conv", STRAND_OP_LONG_CONV, &params, sizeof params, "L=%lld C=%lld", (long long)length,
                (long long)channels);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){channels, length}, -1, 1));
    bench_input(&c, bench_constant(bench_random(b, F32, 2, (int64_t[]){channels, length}, -1, 1)));
    bench_output(&c, bench_zeros(b, F32, 2, (int64_t[]){channels, length}));
    c.flops = 5 * 2 * n * log2(2 * (double)length);
    c.reads = 12 * n, c.writes = 4 * n;
    bench_run(b, &c);
}

/* Operators of rows [rows, columns]: a second and third input of so many axes (0: none), of the given first extent. */
static void bench_rows(bench *b, const char *name, uint32_t op, const void *params, size_t bytes, int64_t rows, int64_t columns,
                       int second, int64_t first, int64_t taps, int third, double exps) {
    bench_case c;
    bench_begin(b, &c, name, op, params, bytes, "%lld x %lld", (long long)rows, (long long)columns);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){rows, columns}, -2, 2));
    if (second) bench_input(&c, bench_random(b, F32, second, (int64_t[]){first, taps}, -1, 1));
    if (third) bench_input(&c, bench_random(b, F32, third, (int64_t[]){first, taps}, -1, 1));
    bench_output(&c, bench_zeros(b, F32, 2, (int64_t[]){rows, columns}));
    c.exps = exps * (double)(rows * columns);
    bench_run(b, &c);
}

static void bench_all_rows(bench *b) {
    const strand_op_layer_norm norm = {1e-5f};
    const strand_op_unary gelu = {STRAND_UNARY_GELU_TANH}, erf_gelu = {STRAND_UNARY_GELU}, sine = {STRAND_UNARY_SIN};
    const strand_op_binary sum = {STRAND_BINARY_ADD};
    const strand_op_short_conv taps = {0};
    if (bench_wants(b, "layer_norm"))
        bench_rows(b, "layer_norm", STRAND_OP_LAYER_NORM, &norm, sizeof norm, 8192, 256, 1, 256, 0, 1, 0);
    if (bench_wants(b, "gelu_tanh")) bench_rows(b, "gelu_tanh", STRAND_OP_UNARY, &gelu, sizeof gelu, 8192, 256, 0, 0, 0, 0, 1);
    if (bench_wants(b, "gelu")) bench_rows(b, "gelu", STRAND_OP_UNARY, &erf_gelu, sizeof erf_gelu, 8192, 256, 0, 0, 0, 0, 1);
    if (bench_wants(b, "sin")) bench_rows(b, "sin", STRAND_OP_UNARY, &sine, sizeof sine, 8192, 256, 0, 0, 0, 0, 1);
    if (bench_wants(b, "add")) bench_rows(b, "add", STRAND_OP_BINARY, &sum, sizeof sum, 8192, 256, 2, 8192, 256, 0, 0);
    if (bench_wants(b, "short_conv"))
        bench_rows(b, "short_conv", STRAND_OP_SHORT_CONV, &taps, sizeof taps, 256, 8192, 2, 256, 3, 1, 0);
}

/* Rows of real numbers to their half spectra: 2.5 n log2 n each. */
static void bench_fft(bench *b, int64_t rows, int64_t n) {
    const strand_op_fft p = {.kind = STRAND_FFT_R2C, .form = STRAND_FFT_COMPLEX, .scale = 1};
    bench_case c;
    if (!bench_wants(b, "fft")) return;
    bench_begin(b, &c, "fft", STRAND_OP_FFT, &p, sizeof p, "%lld rows, n=%lld, real", (long long)rows, (long long)n);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){rows, n}, -1, 1));
    bench_output(&c, bench_zeros(b, F32, 3, (int64_t[]){rows, n / 2 + 1, 2}));
    c.flops = 2.5 * (double)(rows * n) * log2((double)n);
    bench_run(b, &c);
}

static void bench_more(bench *b) {
    const strand_op_norm rms = {.kind = STRAND_NORM_RMS, .groups = 1, .eps = 1e-6f};
    const strand_op_softmax softmax = {0};
    if (bench_wants(b, "norm")) bench_rows(b, "norm", STRAND_OP_NORM, &rms, sizeof rms, 4096, 768, 1, 768, 0, 0, 0);
    if (bench_wants(b, "softmax"))
        bench_rows(b, "softmax", STRAND_OP_SOFTMAX, &softmax, sizeof softmax, 4096, 768, 0, 0, 0, 0, 1);
    bench_fft(b, 1024, 512);
    bench_fft(b, 64, 2000);
}

int main(int argc, char **argv) {
    static const int64_t lengths[][2] = {{1024, 256}, {1026, 256},  {8192, 256},  {32768, 64},  {32768, 256},
                                         {32770, 64}, {131072, 32}, {131072, 64}, {160002, 32}, {1048576, 8}};
    bench b;
    int code = bench_open(&b, argc, argv, "ops");
    if (code) return code;
    if (bench_wants(&b, "long_conv"))
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) bench_long_conv(&b, lengths[i][0], lengths[i][1]);
    bench_all_rows(&b);
    bench_more(&b);
    return bench_close(&b);
}

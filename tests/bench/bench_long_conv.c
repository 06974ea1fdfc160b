/* bench_long_conv.c - times the long convolution in the forms that models use, and the FFT operator, next to the least that
 * must be moved: a loop that reads u and the filter's spectrum and writes y. FFTW, where it is installed, joins the plain
 * form (peers.h).
 *
 *   bench_long_conv --plugin strand-cpu-x86-64-v4.so [--op long_conv|fft] [--threads N] [--rounds N] [--json] */
#include <math.h>

#include "bench.h"

#define F32 STRAND_PLUGIN_F32

typedef struct stream {
    const float *u, *spectrum;
    float *y;
    int64_t n, channels, batch; /* floats of a row; rows of the spectrum, which is read once for the whole batch */
} stream;

static void stream_channel(void *arg, int64_t c, int32_t worker) {
    const stream *s = arg;
    (void)worker;
    for (int64_t b = 0; b < s->batch; b++) {
        const float *u = s->u + (b * s->channels + c) * s->n, *k = s->spectrum + c * 2 * s->n;
        float *y = s->y + (b * s->channels + c) * s->n;
        for (int64_t i = 0; i < s->n; i++) y[i] = u[i] + k[2 * i] * k[2 * i + 1];
    }
}

static void stream_run(void *arg) {
    const stream *s = arg;
    for (int64_t c = 0; c < s->channels; c++) stream_channel(arg, c, 0);
}

typedef struct form {
    const char *name;
    int64_t batch;
    bool gated, both_ways, fresh; /* gates and skip; a backward filter too; filters that are not constant */
    bool rounded;                 /* products may round to BF16 */
    int64_t taps;                 /* 0: as many as positions */
} form;

static void bench_form(bench *b, const form *f, int64_t length, int64_t channels) {
    const strand_op_long_conv params = {.flags = f->rounded ? STRAND_LONG_CONV_ROUNDED : 0};
    const int64_t x[3] = {f->batch, channels, length}, k[2] = {channels, f->taps ? f->taps : length};
    double n = (double)length * (double)channels, all = n * (double)f->batch;
    bench_case c;
    bench_begin(b, &c, "long_conv", STRAND_OP_LONG_CONV, &params, sizeof params, "%s B=%lld C=%lld L=%lld", f->name,
                (long long)f->batch, (long long)channels, (long long)length);
    strand_plugin_tensor u = bench_random(b, F32, 3, x, -1, 1), y = bench_zeros(b, F32, 3, x);
    strand_plugin_tensor filter = bench_random(b, F32, 2, k, -1, 1);
    bench_input(&c, u);
    bench_input(&c, f->fresh ? filter : bench_constant(filter));
    bench_input(&c, f->gated ? bench_random(b, F32, 1, k, -1, 1) : bench_absent());
    for (int gate = 0; gate < 2; gate++) bench_input(&c, f->gated ? bench_random(b, F32, 3, x, -1, 1) : bench_absent());
    if (f->both_ways) bench_input(&c, bench_constant(bench_random(b, F32, 2, k, -1, 1)));
    bench_output(&c, y);
    stream *s = bench_memory(b, sizeof *s);
    float *spectrum = bench_memory(b, (uint64_t)(8 * n));
    for (int64_t i = 0; i < 2 * length * channels; i++) spectrum[i] = 1;
    *s = (stream){u.memory.data, spectrum, bench_memory(b, (uint64_t)(4 * all)), length, channels, f->batch};
    if (b->threads == 1) c.floor = (bench_contestant){.name = "stream", .run = stream_run, .arg = s};
    c.flops = 5 * 2 * all * log2(2 * (double)length); /* two real transforms of twice the length, 2.5 N log2 N each */
    c.reads = 4 * all * (f->gated ? 3 : 1) + 8 * n, c.writes = 4 * all;
    bench_run(b, &c);
}

static void bench_fft(bench *b, int64_t rows, int64_t n, uint32_t form) {
    const strand_op_fft params = {.kind = STRAND_FFT_R2C, .form = form, .scale = 1, .floor = 1e-8f};
    bench_case c;
    bench_begin(b, &c, "fft", STRAND_OP_FFT, &params, sizeof params, "R2C %lld x %lld form %u", (long long)rows, (long long)n,
                form);
    bench_input(&c, bench_random(b, F32, 2, (int64_t[]){rows, n}, -1, 1));
    bench_output(&c, bench_zeros(b, F32, form ? 2 : 3, (int64_t[]){rows, n / 2 + 1, 2}));
    c.flops = 2.5 * (double)rows * (double)n * log2((double)n);
    c.elements = (double)rows * (double)n;
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    static const int64_t sizes[][2] = {{1024, 256}, {8192, 128}, {32768, 64}, {131072, 32}, {1048576, 8}};
    /* A GPU's: 64M positions, several times its L2. */
    static const int64_t wide[][2] = {{1024, 65536}, {2048, 32768}, {4096, 16384}, {8192, 8192},  {16384, 4096},
                                      {32768, 2048}, {65536, 1024}, {131072, 512}, {262144, 256}, {524288, 128},
                                      {1048576, 64}, {2097152, 32}, {4194304, 16}};
    static const form forms[] = {{"plain", 1, false, false, false},
                                 {"gated", 1, true, false, false},
                                 {"gated, both ways", 1, true, true, false},
                                 {"plain", 4, false, false, false},
                                 {"filter not constant", 1, false, false, true}};
    static const form of_gpus[] = {{.name = "plain", .batch = 1},
                                   {.name = "rounded", .batch = 1, .rounded = true},
                                   {.name = "rounded, gated", .batch = 1, .gated = true, .rounded = true},
                                   {.name = "rounded, 1000 taps", .batch = 1, .rounded = true, .taps = 1000}};
    static const int64_t rows[][2] = {{4096, 200}, {64, 7500}, {64, 12000}, {256, 4096}, {256, 1009}, {1, 1 << 20}};
    bench b;
    int code = bench_open(&b, argc, argv, "long_conv");
    if (code) return code;
    for (size_t i = 0; b.device && bench_wants(&b, "long_conv") && i < sizeof wide / sizeof *wide; i++)
        for (size_t f = 0; f < sizeof of_gpus / sizeof *of_gpus; f++) bench_form(&b, &of_gpus[f], wide[i][0], wide[i][1]);
    for (size_t i = 0; bench_wants(&b, "long_conv") && i < sizeof sizes / sizeof *sizes; i++)
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) bench_form(&b, &forms[f], sizes[i][0], sizes[i][1]);
    for (size_t i = 0; bench_wants(&b, "fft") && i < sizeof rows / sizeof *rows; i++) {
        bench_fft(&b, rows[i][0], rows[i][1], STRAND_FFT_COMPLEX);
        bench_fft(&b, rows[i][0], rows[i][1], STRAND_FFT_LOG_AMPLITUDE);
    }
    return bench_close(&b);
}

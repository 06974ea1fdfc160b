/* bench_scans.c - times the diagonal, dense and companion recurrences and the generators of their filters, long sequences
 * and single steps, next to their floors: multiply-adds and exponentials that the definition needs, or bytes where those
 * bind.
 *
 *   bench_scans --plugin strand-cpu-x86-64-v4.so [--op selective|lti|dplr|dense|recurrence|companion|kernel] */
#include "bench.h"

#include <stdio.h>

#define F32 STRAND_PLUGIN_F32
#define DIMS(...) (int64_t[]){__VA_ARGS__}

/* Four multiply-adds and an exponential a state: 12 vector instructions for as many states as there are lanes. */
static void selective(bench *b, int64_t length, int64_t channels, int64_t states, bool gated, bool step) {
    strand_op_selective_scan p = {.softplus = 1};
    bench_case c;
    if (!bench_wants(b, "selective_scan")) return;
    bench_begin(b, &c, "selective_scan", STRAND_OP_SELECTIVE_SCAN, &p, sizeof p, "L=%lld D=%lld N=%lld%s", (long long)length,
                (long long)channels, (long long)states,
                gated  ? " gated"
                : step ? " with state"
                       : "");
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, channels), -5, -1));
    bench_input(&c, bench_random(b, F32, 2, DIMS(channels, states), -(double)states, -0.5));
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, states), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, states), -1, 1));
    bench_input(&c, gated ? bench_random(b, F32, 1, DIMS(channels), -1, 1) : bench_absent());
    bench_input(&c, gated ? bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1) : bench_absent());
    bench_input(&c, bench_absent());
    bench_input(&c, step ? bench_zeros(b, F32, 3, DIMS(1, channels, states)) : bench_absent());
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, length, channels)));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, channels, states)));
    c.exps = (double)length * (double)channels * (double)states;
    c.flops = 8 * c.exps;
    bench_run(b, &c);
}

/* Eight multiply-adds a complex state. */
static void lti(bench *b, int64_t length, int64_t channels, int64_t states) {
    strand_op_lti_scan p = {.scale = 2};
    bench_case c;
    if (!bench_wants(b, "lti_scan")) return;
    bench_begin(b, &c, "lti_scan", STRAND_OP_LTI_SCAN, &p, sizeof p, "L=%lld C=%lld N=%lld complex", (long long)length,
                (long long)channels, (long long)states);
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -0.7, 0.7));
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -1, 1));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, length, channels)));
    bench_output(&c, bench_zeros(b, F32, 4, DIMS(1, channels, states, 2)));
    c.flops = 16 * (double)length * (double)channels * (double)states;
    bench_run(b, &c);
}

/* Twelve multiply-adds a complex state: eight of a diagonal system, and two each for the sum over the old states and for
 * what it adds. */
static void dplr(bench *b, int64_t length, int64_t channels, int64_t states) {
    strand_op_dplr_scan p = {.scale = 2};
    bench_case c;
    if (!bench_wants(b, "dplr_scan")) return;
    bench_begin(b, &c, "dplr_scan", STRAND_OP_DPLR_SCAN, &p, sizeof p, "L=%lld C=%lld N=%lld", (long long)length,
                (long long)channels, (long long)states);
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -0.6, 0.6));
    for (int i = 0; i < 2; i++) bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -0.05, 0.05));
    for (int i = 0; i < 2; i++) bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -1, 1));
    bench_input(&c, bench_absent());
    bench_input(&c, bench_zeros(b, F32, 4, DIMS(1, channels, states, 2)));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, length, channels)));
    bench_output(&c, bench_zeros(b, F32, 4, DIMS(1, channels, states, 2)));
    c.flops = 24 * (double)length * (double)channels * (double)states;
    bench_run(b, &c);
}

static void dense(bench *b, int64_t length, int64_t channels, int64_t d) {
    bench_case c;
    if (!bench_wants(b, "dense_scan")) return;
    bench_begin(b, &c, "dense_scan", STRAND_OP_DENSE_SCAN, NULL, 0, "L=%lld C=%lld d=%lld", (long long)length,
                (long long)channels, (long long)d);
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, d, d), -0.9 / (double)d, 0.9 / (double)d));
    bench_input(&c, bench_random(b, F32, 2, DIMS(1, d), -1, 1));
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, length, channels * d)));
    c.flops = 2 * (double)length * (double)channels * (double)d * (double)d;
    bench_run(b, &c);
}

static void recurrence(bench *b, int64_t length, int64_t width, bool gated, bool pairs) {
    strand_op_linear_recurrence p = {
        .complex_pairs = pairs, .log_a = gated, .form = gated ? STRAND_RECURRENCE_RGLRU : STRAND_RECURRENCE_PLAIN};
    int rank = pairs ? 4 : 3;
    bench_case c;
    if (!bench_wants(b, "linear_recurrence")) return;
    bench_begin(b, &c, "linear_recurrence", STRAND_OP_LINEAR_RECURRENCE, &p, sizeof p, "L=%lld D=%lld%s%s", (long long)length,
                (long long)width, gated ? " gated" : "", pairs ? " complex" : "");
    bench_input(&c, bench_random(b, F32, rank, DIMS(1, length, width, 2), -1, 1));
    if (gated)
        bench_input(&c, bench_random(b, F32, rank, DIMS(1, length, width, 2), -1, -0.01));
    else
        bench_input(&c, bench_random(b, F32, rank - 2, DIMS(width, 2), -0.7, 0.7));
    bench_output(&c, bench_zeros(b, F32, rank, DIMS(1, length, width, 2)));
    bench_run(b, &c);
}

/* Three multiply-adds an element of the state, four in the closed loop. */
static void companion(bench *b, int64_t length, int64_t channels, int64_t d, bool closed) {
    strand_op_companion_scan p = {.closed = closed};
    bench_case c;
    if (!bench_wants(b, "companion_scan")) return;
    bench_begin(b, &c, "companion_scan", STRAND_OP_COMPANION_SCAN, &p, sizeof p, "L=%lld C=%lld d=%lld%s", (long long)length,
                (long long)channels, (long long)d, closed ? " closed" : "");
    double most = 0.9 / (double)d;
    for (int i = 0; i < 3; i++) bench_input(&c, bench_random(b, F32, 2, DIMS(channels, d), -most, most));
    bench_input(&c, closed ? bench_absent() : bench_random(b, F32, 3, DIMS(1, length, channels), -1, 1));
    bench_input(&c, closed ? bench_random(b, F32, 2, DIMS(channels, d), -most, most) : bench_absent());
    bench_input(&c, bench_absent());
    bench_input(&c, bench_random(b, F32, 3, DIMS(1, channels, d), -1, 1));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, length, channels)));
    bench_output(&c, bench_zeros(b, F32, 3, DIMS(1, channels, d)));
    c.flops = (closed ? 8 : 6) * (double)length * (double)channels * (double)d;
    bench_run(b, &c);
}

/* Two multiply-adds a pole and tap. */
static void diagonal(bench *b, int64_t channels, int64_t states, int64_t taps) {
    strand_op_ssm_kernel_diagonal p = {.log_poles = 1, .scale = 2};
    bench_case c;
    if (!bench_wants(b, "ssm_kernel_diagonal")) return;
    bench_begin(b, &c, "ssm_kernel_diagonal", STRAND_OP_SSM_KERNEL_DIAGONAL, &p, sizeof p, "C=%lld N=%lld T=%lld",
                (long long)channels, (long long)states, (long long)taps);
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -0.5, -0.001));
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -1, 1));
    bench_output(&c, bench_zeros(b, F32, 2, DIMS(channels, taps)));
    c.flops = 4 * (double)channels * (double)states * (double)taps;
    bench_run(b, &c);
}

/* In double precision, so twice: about 24 operations a pole and frequency for the sums, 2.5 log2 a point for the transform. */
static void nplr(bench *b, int64_t channels, int64_t states, int64_t length) {
    strand_op_ssm_kernel_nplr p = {.length = length};
    bench_case c;
    if (!bench_wants(b, "ssm_kernel_nplr")) return;
    bench_begin(b, &c, "ssm_kernel_nplr", STRAND_OP_SSM_KERNEL_NPLR, &p, sizeof p, "C=%lld N=%lld T=%lld", (long long)channels,
                (long long)states, (long long)length);
    bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -1, -0.3));
    for (int i = 0; i < 3; i++) bench_input(&c, bench_random(b, F32, 3, DIMS(channels, states, 2), -0.5, 0.5));
    bench_input(&c, bench_random(b, F32, 1, DIMS(channels), 0.01, 0.1));
    bench_output(&c, bench_zeros(b, F32, 2, DIMS(channels, length)));
    c.flops = 2 * (double)channels * (double)length * (24 * (double)states + 25);
    bench_run(b, &c);
}

static void kernel_companion(bench *b, int64_t kernels, int64_t d, int64_t taps) {
    bench_case c;
    if (!bench_wants(b, "ssm_kernel_companion")) return;
    bench_begin(b, &c, "ssm_kernel_companion", STRAND_OP_SSM_KERNEL_COMPANION, NULL, 0, "K=%lld d=%lld T=%lld",
                (long long)kernels, (long long)d, (long long)taps);
    for (int i = 0; i < 3; i++) bench_input(&c, bench_random(b, F32, 2, DIMS(kernels, d), -0.9 / (double)d, 0.9 / (double)d));
    bench_output(&c, bench_zeros(b, F32, 2, DIMS(kernels, taps)));
    c.flops = 4 * (double)kernels * (double)d * (double)taps;
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    bench b;
    int code = bench_open(&b, argc, argv, "scans");
    if (code) return code;
    for (int d = 1536; d <= 5120; d += 3584) {
        selective(&b, 1, d, 16, false, true);
        selective(&b, 512, d, 16, false, false);
    }
    selective(&b, 512, 1536, 16, true, false);
    selective(&b, 2048, 1536, 16, false, false);
    if (b.device) { /* several times the size of a cache */
        selective(&b, 16384, 1536, 16, false, false);
        selective(&b, 16384, 1536, 16, true, false);
    }
    selective(&b, 512, 256, 64, false, false);
    lti(&b, 1, 512, 32);
    lti(&b, 1024, 128, 32);
    lti(&b, 4096, 256, 4);
    dplr(&b, 1, 512, 32);
    dplr(&b, 1024, 128, 32);
    dplr(&b, 1024, 128, 8);
    dense(&b, 1, 16, 256);
    dense(&b, 1024, 1, 256);
    recurrence(&b, 2048, 2560, false, false);
    recurrence(&b, 2048, 2560, true, false);
    recurrence(&b, 512, 128, false, true);
    recurrence(&b, 256, 256, true, false);
    companion(&b, 1, 128, 64, false);
    companion(&b, 336, 128, 64, false);
    companion(&b, 720, 128, 64, true);
    diagonal(&b, 128, 32, 1024);
    diagonal(&b, 128, 32, 16384);
    diagonal(&b, 8, 8, 1048576);
    nplr(&b, 16, 32, 1024);
    nplr(&b, 16, 32, 1000);
    kernel_companion(&b, 128, 64, 1024);
    return bench_close(&b);
}

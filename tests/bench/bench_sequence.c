/* bench_sequence.c - times recurrences with a state of vectors: scans of state-space models, linear recurrences, GRU; many tokens (a
 * prompt) and one (a step). Those with a state of matrices are in bench_matrix_state.c. Floors count what the mathematics of the plain recurrence needs; a blocked form may need more multiplications and still be
 * quicker, being products.
 *
 *   bench_sequence --plugin strand-cpu-x86-64-v4.so [--op PART] [--threads N] [--rounds N] [--json] */
#include "bench.h"

#define F32 STRAND_PLUGIN_F32

static strand_plugin_tensor random3(bench *b, int64_t x, int64_t y, int64_t z, double low, double high) {
    return bench_random(b, F32, 3, (int64_t[]){x, y, z}, low, high);
}

static strand_plugin_tensor vector(bench *b, int64_t n, double low, double high) {
    return bench_constant(bench_random(b, F32, 1, &n, low, high));
}

static strand_plugin_tensor out3(bench *b, int64_t x, int64_t y, int64_t z) {
    return bench_zeros(b, F32, 3, (int64_t[]){x, y, z});
}

/* Mamba-1: D channels of N states. A state needs an exponential, three multiply-adds and a product. */
static void selective_scan(bench *b, int64_t L, int64_t D, int64_t N, bool gated) {
    const strand_op_selective_scan p = {.softplus = 1};
    bench_case c;
    if (!bench_wants(b, "selective_scan")) return;
    bench_begin(b, &c, "selective_scan", STRAND_OP_SELECTIVE_SCAN, &p, sizeof p, "L=%lld D=%lld N=%lld%s", (long long)L, (long long)D,
                (long long)N, gated ? " D z bias" : "");
    bench_input(&c, random3(b, 1, L, D, -1, 1));
    bench_input(&c, random3(b, 1, L, D, -5, -2));
    bench_input(&c, bench_constant(bench_random(b, F32, 2, (int64_t[]){D, N}, -16, -0.5)));
    bench_input(&c, random3(b, 1, L, N, -1, 1));
    bench_input(&c, random3(b, 1, L, N, -1, 1));
    if (gated) {
        bench_input(&c, vector(b, D, 0.5, 1.5));
        bench_input(&c, random3(b, 1, L, D, -1, 1));
        bench_input(&c, vector(b, D, -1, 1));
    }
    bench_output(&c, out3(b, 1, L, D));
    c.flops = 6.0 * (double)(L * D * N);
    c.exps = (double)(L * D * N);
    bench_run(b, &c);
}

static void linear_recurrence(bench *b, int64_t L, int64_t D) {
    const strand_op_linear_recurrence p = {0};
    bench_case c;
    if (!bench_wants(b, "linear_recurrence")) return;
    bench_begin(b, &c, "linear_recurrence", STRAND_OP_LINEAR_RECURRENCE, &p, sizeof p, "L=%lld D=%lld", (long long)L, (long long)D);
    bench_input(&c, random3(b, 1, L, D, -1, 1));
    bench_input(&c, random3(b, 1, L, D, 0.8, 1));
    bench_output(&c, out3(b, 1, L, D));
    c.flops = 2.0 * (double)(L * D);
    bench_run(b, &c);
}

/* S4D's recurrence: N complex states a channel, eight operations each. */
static void lti_scan(bench *b, int64_t L, int64_t C, int64_t N) {
    const strand_op_lti_scan p = {.scale = 2};
    bench_case c;
    if (!bench_wants(b, "lti_scan")) return;
    bench_begin(b, &c, "lti_scan", STRAND_OP_LTI_SCAN, &p, sizeof p, "L=%lld C=%lld N=%lld complex", (long long)L, (long long)C, (long long)N);
    bench_input(&c, random3(b, 1, L, C, -1, 1));
    bench_input(&c, bench_constant(random3(b, C, N, 2, -0.69, 0.69)));
    bench_input(&c, bench_constant(random3(b, C, N, 2, -1, 1)));
    bench_input(&c, bench_constant(random3(b, C, N, 2, -1, 1)));
    bench_output(&c, out3(b, 1, L, C));
    c.flops = 14.0 * (double)(L * C * N);
    bench_run(b, &c);
}

static void gru(bench *b, int64_t B, int64_t L, int64_t H) {
    const strand_op_gru p = {0};
    bench_case c;
    if (!bench_wants(b, "gru")) return;
    bench_begin(b, &c, "gru", STRAND_OP_GRU, &p, sizeof p, "B=%lld L=%lld H=%lld", (long long)B, (long long)L, (long long)H);
    bench_input(&c, random3(b, B, L, 3 * H, -1, 1));
    bench_input(&c, bench_constant(bench_random(b, F32, 2, (int64_t[]){3 * H, H}, -0.1, 0.1)));
    bench_input(&c, vector(b, 3 * H, -0.1, 0.1));
    bench_output(&c, out3(b, B, L, H));
    c.flops = 6.0 * (double)(B * L * H) * (double)H, c.exps = 3.0 * (double)(B * L * H);
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    bench b;
    int code = bench_open(&b, argc, argv, "sequence");
    if (code) return code;
    selective_scan(&b, 1, 1536, 16, false);
    selective_scan(&b, 512, 1536, 16, false);
    selective_scan(&b, 512, 1536, 16, true);
    selective_scan(&b, 2048, 1536, 16, false);
    linear_recurrence(&b, 2048, 1024);
    lti_scan(&b, 1024, 256, 32);
    gru(&b, 1, 512, 128);
    gru(&b, 16, 128, 128);
    return bench_close(&b);
}

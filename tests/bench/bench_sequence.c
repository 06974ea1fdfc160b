/* bench_sequence.c - times the recurrences: scans of state-space models, linear and matrix states, GRU; many tokens (a prompt) and one
 * (a step). Floors count what the mathematics of the plain recurrence needs; a blocked form may need more multiplications and still be
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

/* Mamba-2: H heads of P channels, N states; the plain recurrence has four operations a state, read and written for every token. */
static void ssd(bench *b, int64_t L, int64_t H, int64_t P, int64_t N) {
    const strand_op_ssd p = {.heads = H, .groups = 1, .softplus = 1, .dt_min = 0, .dt_max = 1e38f};
    bench_case c;
    if (!bench_wants(b, "ssd")) return;
    bench_begin(b, &c, "ssd", STRAND_OP_SSD, &p, sizeof p, "L=%lld H=%lld P=%lld N=%lld", (long long)L, (long long)H, (long long)P, (long long)N);
    bench_input(&c, random3(b, 1, L, H * P, -1, 1));
    bench_input(&c, vector(b, H, -2, -0.5));
    bench_input(&c, random3(b, 1, L, N, -1, 1));
    bench_input(&c, random3(b, 1, L, N, -1, 1));
    bench_input(&c, random3(b, 1, L, H, -5, -2));
    bench_output(&c, out3(b, 1, L, H * P));
    c.flops = 4.0 * (double)(L * H * P) * (double)N;
    bench_run(b, &c);
}

/* RWKV-6 with u, GLA without: H heads of a K x K state. */
static void gated(bench *b, int64_t L, int64_t H, int64_t K, bool bonus) {
    const strand_op_gated_linear_attention p = {.heads = H, .scale = 1};
    bench_case c;
    if (!bench_wants(b, "gated_linear_attention")) return;
    bench_begin(b, &c, "gated_linear_attention", STRAND_OP_GATED_LINEAR_ATTENTION, &p, sizeof p, "L=%lld H=%lld K=%lld%s", (long long)L,
                (long long)H, (long long)K, bonus ? " u" : "");
    for (int i = 0; i < 3; i++) bench_input(&c, random3(b, 1, L, H * K, -1, 1));
    bench_input(&c, random3(b, 1, L, H * K, 0.8, 1));
    if (bonus) bench_input(&c, vector(b, H * K, -1, 1));
    bench_output(&c, out3(b, 1, L, H * K));
    c.flops = (bonus ? 7.0 : 5.0) * (double)(L * H * K) * (double)K;
    bench_run(b, &c);
}

/* RWKV-7. */
static void delta(bench *b, int64_t L, int64_t H, int64_t K) {
    const strand_op_delta_rule p = {.heads = H, .scale = 1};
    bench_case c;
    if (!bench_wants(b, "delta_rule")) return;
    bench_begin(b, &c, "delta_rule", STRAND_OP_DELTA_RULE, &p, sizeof p, "L=%lld H=%lld K=%lld", (long long)L, (long long)H, (long long)K);
    bench_input(&c, random3(b, 1, L, H * K, -1, 1));
    bench_input(&c, random3(b, 1, L, H * K, 0.8, 1));
    bench_input(&c, random3(b, 1, L, H * K, -0.3, 0.3));
    bench_input(&c, random3(b, 1, L, H * K, -1, 1));
    bench_input(&c, random3(b, 1, L, H * K, -0.1, 0.1));
    bench_input(&c, random3(b, 1, L, H * K, -0.1, 0.1));
    bench_output(&c, out3(b, 1, L, H * K));
    c.flops = 9.0 * (double)(L * H * K) * (double)K;
    bench_run(b, &c);
}

static void wkv4(bench *b, int64_t L, int64_t C) {
    bench_case c;
    if (!bench_wants(b, "wkv4")) return;
    bench_begin(b, &c, "wkv4", STRAND_OP_WKV4, NULL, 0, "L=%lld C=%lld", (long long)L, (long long)C);
    bench_input(&c, random3(b, 1, L, C, -1, 1));
    bench_input(&c, random3(b, 1, L, C, -1, 1));
    bench_input(&c, vector(b, C, -2, -0.1));
    bench_input(&c, vector(b, C, -1, 1));
    bench_output(&c, out3(b, 1, L, C));
    c.flops = 10.0 * (double)(L * C), c.exps = 4.0 * (double)(L * C);
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
    ssd(&b, 1, 24, 64, 128);
    ssd(&b, 512, 24, 64, 128);
    ssd(&b, 2048, 24, 64, 128);
    for (int u = 0; u < 2; u++) gated(&b, 1, 32, 64, u), gated(&b, 512, 32, 64, u);
    delta(&b, 1, 32, 64);
    delta(&b, 512, 32, 64);
    wkv4(&b, 1024, 768);
    linear_recurrence(&b, 2048, 1024);
    lti_scan(&b, 1024, 256, 32);
    gru(&b, 1, 512, 128);
    gru(&b, 16, 128, 128);
    return bench_close(&b);
}

/* bench_gru.c - times gated recurrent units: a sequence alone, and many at once. The floor counts the products with the
 * state; three exponentials a unit.
 *
 *   bench_gru --plugin strand-cpu-x86-64-v4.so [--threads N] [--rounds N] [--json] */
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
    int code = bench_open(&b, argc, argv, "gru");
    if (code) return code;
    gru(&b, 1, 512, 128);
    gru(&b, 16, 128, 128);
    return bench_close(&b);
}

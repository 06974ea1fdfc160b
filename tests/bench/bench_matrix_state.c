/* bench_matrix_state.c - times the recurrences with a matrix state, prompts and single tokens, next to their floors. The
 * floor of a prompt counts vector instructions for each element of the state and token (docs/matrix_state.md says where the
 * numbers come from), that of a single token reads and writes the state once.
 *
 *   bench_matrix_state --plugin strand-cpu-x86-64-v4.so [--op PART] [--threads N] [--rounds N] [--json] */
#include "bench.h"

#define F32 STRAND_PLUGIN_F32

static strand_plugin_tensor tokens(bench *b, int64_t l, int64_t channels, double low, double high) {
    return bench_random(b, F32, 3, (int64_t[]){1, l, channels}, low, high);
}

/* The state that comes in and the one that goes out, y between. */
static void finish(bench *b, bench_case *c, int64_t l, int64_t channels, const int64_t state[4], double instructions) {
    double elements = (double)(state[0] * state[1] * state[2] * state[3]);
    bench_input(c, bench_random(b, F32, 4, state, 0, 0.1));
    bench_output(c, bench_zeros(b, F32, 3, (int64_t[]){1, l, channels}));
    bench_output(c, bench_zeros(b, F32, 4, state));
    c->flops = 2 * instructions * elements * (double)l;
    bench_run(b, c);
}

static void ssd(bench *b, int64_t l, int64_t h, int64_t p, int64_t n) {
    strand_op_ssd params = {.heads = h, .groups = 1, .softplus = 1, .dt_min = 0, .dt_max = 100};
    bench_case c;
    bench_begin(b, &c, "ssd", STRAND_OP_SSD, &params, sizeof params, "L=%lld H=%lld P=%lld N=%lld", (long long)l, (long long)h,
                (long long)p, (long long)n);
    bench_input(&c, tokens(b, l, h * p, -1, 1));
    bench_input(&c, bench_random(b, F32, 1, &h, -2, -0.1));
    bench_input(&c, tokens(b, l, n, -1, 1));
    bench_input(&c, tokens(b, l, n, -1, 1));
    bench_input(&c, tokens(b, l, h, -3, 1));
    bench_input(&c, bench_random(b, F32, 1, &h, -1, 1));
    bench_input(&c, bench_random(b, F32, 1, &h, -1, 1));
    finish(b, &c, l, h * p, (int64_t[]){1, h, p, n}, l > 1 ? 2 : 3);
}

static void gated(bench *b, int64_t l, int64_t h, int64_t k, int64_t v, bool bonus) {
    strand_op_gated_linear_attention params = {.heads = h, .log_w = 1, .scale = 0.125f};
    int64_t keys = h * k;
    bench_case c;
    bench_begin(b, &c, bonus ? "gated_linear_attention+u" : "gated_linear_attention", STRAND_OP_GATED_LINEAR_ATTENTION, &params,
                sizeof params, "L=%lld H=%lld K=%lld V=%lld", (long long)l, (long long)h, (long long)k, (long long)v);
    bench_input(&c, tokens(b, l, keys, -1, 1));
    bench_input(&c, tokens(b, l, keys, -1, 1));
    bench_input(&c, tokens(b, l, h * v, -1, 1));
    bench_input(&c, tokens(b, l, keys, -1, -0.01));
    bench_input(&c, bonus ? bench_random(b, F32, 1, &keys, -1, 1) : bench_absent());
    finish(b, &c, l, h * v, (int64_t[]){1, h, k, v}, 3);
}

static void delta(bench *b, int64_t l, int64_t h, int64_t k, int64_t v) {
    strand_op_delta_rule params = {.heads = h, .log_w = 1, .scale = 1};
    double small = 0.1 / (double)k;
    bench_case c;
    bench_begin(b, &c, "delta_rule", STRAND_OP_DELTA_RULE, &params, sizeof params, "L=%lld H=%lld K=%lld V=%lld", (long long)l,
                (long long)h, (long long)k, (long long)v);
    bench_input(&c, tokens(b, l, h * k, -1, 1));
    bench_input(&c, tokens(b, l, h * k, -0.6, -0.01));
    bench_input(&c, tokens(b, l, h * k, -1, 1));
    bench_input(&c, tokens(b, l, h * v, -1, 1));
    bench_input(&c, tokens(b, l, h * k, -0.1, 0.1));
    bench_input(&c, tokens(b, l, h * k, -small, small));
    finish(b, &c, l, h * v, (int64_t[]){1, h, v, k}, 5);
}

static void linear(bench *b, int64_t l, int64_t h, int64_t d, int64_t v, uint32_t feature) {
    strand_op_linear_attention params = {.heads = h, .feature = feature, .normalise = 1, .eps = 1e-6f};
    int64_t features = feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * d : d,
            folded = feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * (d + 1) / 2 : d;
    bench_case c;
    bench_begin(b, &c, feature == STRAND_FEATURE_TAYLOR2 ? "linear_attention taylor" : "linear_attention elu",
                STRAND_OP_LINEAR_ATTENTION, &params, sizeof params, "L=%lld H=%lld d=%lld V=%lld", (long long)l, (long long)h,
                (long long)d, (long long)v);
    bench_input(&c, tokens(b, l, h * d, 0, 1));
    bench_input(&c, tokens(b, l, h * d, 0, 1));
    bench_input(&c, tokens(b, l, h * v, -1, 1));
    finish(b, &c, l, h * v, (int64_t[]){1, h, features, v + 1}, 2.0 * (l > 1 ? (double)folded / (double)features : 1));
}

static void wkv4(bench *b, int64_t l, int64_t channels) {
    bench_case c;
    bench_begin(b, &c, "wkv4", STRAND_OP_WKV4, NULL, 0, "L=%lld C=%lld", (long long)l, (long long)channels);
    bench_input(&c, tokens(b, l, channels, -1, 1));
    bench_input(&c, tokens(b, l, channels, -1, 1));
    bench_input(&c, bench_random(b, F32, 1, &channels, -1, -0.01));
    bench_input(&c, bench_random(b, F32, 1, &channels, -1, 1));
    bench_output(&c, bench_zeros(b, F32, 3, (int64_t[]){1, l, channels}));
    c.exps = 2.0 * (double)(l * channels);
    c.flops = 2.0 * 16 * (double)(l * channels); /* the other instructions */
    bench_run(b, &c);
}

static void shift(bench *b, int64_t l, int64_t channels) {
    strand_op_token_shift params = {STRAND_SHIFT_LERP_PREV};
    bench_case c;
    bench_begin(b, &c, "token_shift", STRAND_OP_TOKEN_SHIFT, &params, sizeof params, "L=%lld C=%lld", (long long)l,
                (long long)channels);
    bench_input(&c, tokens(b, l, channels, -1, 1));
    bench_input(&c, bench_random(b, F32, 1, &channels, 0, 1));
    bench_output(&c, bench_zeros(b, F32, 3, (int64_t[]){1, l, channels}));
    bench_run(b, &c);
}

int main(int argc, char **argv) {
    static const int64_t lengths[] = {512, 1, 16384}; /* the last one on devices alone, several times the size of their
                                                         caches */
    bench b;
    int code = bench_open(&b, argc, argv, "matrix_state");
    if (code) return code;
    for (int i = 0; i < (b.device ? 3 : 2); i++) {
        int64_t l = lengths[i];
        if (bench_wants(&b, "ssd")) {
            ssd(&b, l, 24, 64, 128);
            ssd(&b, l, 80, 64, 64);
        }
        if (bench_wants(&b, "gated_linear_attention")) {
            gated(&b, l, 32, 64, 64, true);
            gated(&b, l, 32, 64, 64, false);
            gated(&b, l, 4, 128, 256, false);
        }
        if (bench_wants(&b, "delta_rule")) {
            delta(&b, l, 32, 64, 64);
            delta(&b, l, 16, 128, 128);
        }
        if (bench_wants(&b, "linear_attention")) {
            linear(&b, l, 16, 16, 64, STRAND_FEATURE_TAYLOR2);
            linear(&b, l, 16, 64, 64, STRAND_FEATURE_ELU1);
        }
        if (bench_wants(&b, "wkv4")) wkv4(&b, l, 1024);
        if (bench_wants(&b, "token_shift")) shift(&b, l, 1024);
    }
    return bench_close(&b);
}

/* test_reference_attention.c - the reference kernels of rotary positions, attention and caches against closed forms and
 * formulas written out again, and what models rely on: relative positions, pieces and steps that agree with the whole. All
 * of it holds for the fast modules too, and is run on them. */
#include "reference_support.h"

#include <stdlib.h>

/* Runs with the working memory that fast kernels ask for. */
static int launch(uint32_t op, const void *params, const strand_plugin_tensor *inputs, uint32_t n,
                  const strand_plugin_tensor *out) {
    strand_plugin_node node = {.op = op, .version = 1, .n_inputs = n, .n_outputs = 1, .inputs = inputs, .outputs = out,
                               .params = params, .name = "case"};
    char why[200] = "";
    if (reference.api->supports(reference.device, &node, why, sizeof why)) fail_msg("not supported: %s", why);
    uint64_t bytes = (reference.api->scratch_size(reference.device, &node, 1) + 127) / 64 * 64;
    strand_plugin_memory scratch = {.data = aligned_alloc(64, bytes), .bytes = bytes};
    int status = reference.api->launch(reference.device, &node, 1, &scratch);
    free(scratch.data);
    return status;
}

static void compute(uint32_t op, const void *params, const strand_plugin_tensor *inputs, uint32_t n,
                    const strand_plugin_tensor *out) {
    assert_int_equal(launch(op, params, inputs, n, out), STRAND_PLUGIN_OK);
}

static strand_plugin_tensor cube(uint32_t dtype, void *data, int64_t a, int64_t b, int64_t c) {
    int64_t dims[3] = {a, b, c};
    return tensor(dtype, data, 3, dims);
}

/* ---- rotary ---- */

static void rotary_turns(void **state) {
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8];
    strand_op_rotary p = {.heads = 2, .rotary = 2, .offset = 3, .base = 10000, .position_scale = 0.5f, .magnitude = 2};
    (void)state;
    strand_plugin_tensor in = cube(STRAND_PLUGIN_F32, x, 1, 1, 8), out = cube(STRAND_PLUGIN_F32, y, 1, 1, 8);
    compute(STRAND_OP_ROTARY, &p, &in, 1, &out); /* one pair, frequency 1, angle 1.5; the other elements stay */
    near((double)y[0], 2 * (1 * cos(1.5) - 2 * sin(1.5)), 4e-6);
    near((double)y[1], 2 * (1 * sin(1.5) + 2 * cos(1.5)), 4e-6);
    assert_true(y[2] == 3 && y[3] == 4 && y[6] == 7);
    near((double)y[5], 2 * (5 * sin(1.5) + 6 * cos(1.5)), 4e-6);
    p = (strand_op_rotary){.heads = 1, .rotary = 4, .base = 100, .position_scale = 1, .magnitude = 1};
    for (uint32_t interleaved = 0; interleaved < 2; interleaved++) {
        int64_t at = 7, one = 1;
        int a = interleaved ? 2 : 1, b = interleaved ? 3 : 3; /* the second pair: frequency 100^(-1/2) */
        p.interleaved = interleaved;
        strand_plugin_tensor two[2] = {cube(STRAND_PLUGIN_F32, x, 1, 1, 4), tensor(STRAND_PLUGIN_I64, &at, 1, &one)};
        out = cube(STRAND_PLUGIN_F32, y, 1, 1, 4);
        compute(STRAND_OP_ROTARY, &p, two, 2, &out);
        near((double)y[a], (double)x[a] * cos(0.7) - (double)x[b] * sin(0.7), 4e-6);
        near((double)y[b], (double)x[a] * sin(0.7) + (double)x[b] * cos(0.7), 4e-6);
    }
}

/* The product of two rotated vectors depends on the difference of their positions; lengths stay. */
static void rotary_is_relative(void **state) {
    float q[16], k[16], rq[16], rk[16];
    strand_op_rotary p = {.heads = 1, .rotary = 16, .base = 10000, .position_scale = 1, .magnitude = 1};
    double first = 0;
    (void)state;
    for (int i = 0; i < 16; i++) q[i] = wave(i), k[i] = wave(i + 50);
    for (int shift = 0; shift < 3; shift++) {
        double dot = 0, length = 0, before = 0;
        strand_plugin_tensor in = cube(STRAND_PLUGIN_F32, q, 1, 1, 16), out = cube(STRAND_PLUGIN_F32, rq, 1, 1, 16);
        p.offset = 20 + 1000 * shift;
        compute(STRAND_OP_ROTARY, &p, &in, 1, &out);
        in = cube(STRAND_PLUGIN_F32, k, 1, 1, 16), out = cube(STRAND_PLUGIN_F32, rk, 1, 1, 16);
        p.offset = 9 + 1000 * shift;
        compute(STRAND_OP_ROTARY, &p, &in, 1, &out);
        for (int i = 0; i < 16; i++) {
            dot += (double)rq[i] * (double)rk[i];
            length += (double)rk[i] * (double)rk[i];
            before += (double)k[i] * (double)k[i];
        }
        near(length, before, 4e-6);
        if (shift) near(dot, first, 4e-6);
        first = dot;
    }
}

/* ---- attention ---- */

#define L  7
#define S  11
#define H  4
#define HK 2
#define D  3
#define DV 5

typedef struct problem {
    float q[L * H * D], k[S * HK * D], v[S * HK * DV], bias[H * L * S];
    int32_t mask[H * L * S];
} problem;

static void fill(problem *p) {
    for (int i = 0; i < L * H * D; i++) p->q[i] = 2 * wave(i);
    for (int i = 0; i < S * HK * D; i++) p->k[i] = 2 * wave(3 * i + 1);
    for (int i = 0; i < S * HK * DV; i++) p->v[i] = wave(5 * i + 2);
    for (int i = 0; i < H * L * S; i++) p->bias[i] = wave(7 * i), p->mask[i] = i % 3 > 0;
}

/* `tokens` queries from token `first` of the problem on, the whole length being `tokens`; valid < 0: not given. */
static void attend(const strand_op_attention *p, problem *x, int first, int tokens, int keys, int32_t valid, bool bias,
                   bool mask, float *y) {
    int64_t one = 1;
    strand_plugin_tensor in[6] = {cube(STRAND_PLUGIN_F32, x->q + first * H * D, 1, tokens, H * D),
                                  cube(STRAND_PLUGIN_F32, x->k, 1, keys, HK * D),
                                  cube(STRAND_PLUGIN_F32, x->v, 1, keys, HK * DV)};
    if (valid >= 0) in[3] = tensor(STRAND_PLUGIN_I32, &valid, 1, &one);
    if (bias) in[4] = cube(STRAND_PLUGIN_F32, x->bias, H, L, S);
    if (mask) in[5] = cube(STRAND_PLUGIN_I32, x->mask, H, L, S);
    strand_plugin_tensor out = cube(STRAND_PLUGIN_F32, y, 1, tokens, H * DV);
    compute(STRAND_OP_ATTENTION, p, in, 6, &out);
}

/* The definition again, for the whole problem: an explicit matrix of weights. */
static void check(const strand_op_attention *p, const problem *x, int valid, bool bias, bool mask, const float *y) {
    for (int t = 0; t < L; t++)
        for (int h = 0; h < H; h++) {
            double weight[S] = {0}, total = 0;
            int position = valid - L + t;
            for (int s = 0; s < valid; s++) {
                bool near_enough = p->window == 0 || s < p->sinks || (position - s < p->window && s - position < p->window);
                if ((p->causal && s > position) || !near_enough || (mask && !x->mask[(h * L + t) * S + s])) continue;
                double score = 0;
                for (int i = 0; i < D; i++) score += (double)x->q[(t * H + h) * D + i] * (double)x->k[(s * HK + h / 2) * D + i];
                score *= (double)p->scale;
                if (p->softcap > 0) score = (double)p->softcap * tanh(score / (double)p->softcap);
                weight[s] = exp(score + (bias ? (double)x->bias[(h * L + t) * S + s] : 0));
                total += weight[s];
            }
            for (int c = 0; c < DV; c++) {
                double sum = 0;
                for (int s = 0; s < valid; s++) sum += weight[s] * (double)x->v[(s * HK + h / 2) * DV + c];
                near((double)y[(t * H + h) * DV + c], total > 0 ? sum / total : 0, 1e-6);
            }
        }
}

static void attention_by_definition(void **state) {
    problem x;
    float y[L * H * DV];
    (void)state;
    fill(&x);
    for (int way = 0; way < 96; way++) {
        bool bias = way & 1, mask = way & 2, cached = way & 4;
        strand_op_attention p = {
            .heads = H, .kv_heads = HK, .scale = 0.7f, .causal = way >> 3 & 1, .softcap = way & 16 ? 2 : 0, .block = 1};
        if (way >= 32) p.window = 3, p.sinks = way >= 64 ? 2 : 0;
        attend(&p, &x, 0, L, S, cached ? 5 : -1, bias, mask, y);
        check(&p, &x, cached ? 5 : S, bias, mask, y);
    }
}

/* Equal scores give the mean of the values; one far above the others gives its value; nothing seen gives 0. */
static void attention_limits(void **state) {
    problem x;
    float y[L * H * DV];
    strand_op_attention p = {.heads = H, .kv_heads = HK, .scale = 0, .block = 1};
    (void)state;
    fill(&x);
    attend(&p, &x, 0, L, S, -1, false, false, y);
    for (int c = 0; c < DV; c++) {
        double mean = 0;
        for (int s = 0; s < S; s++) mean += (double)x.v[(s * HK + 1) * DV + c] / S;
        near((double)y[(2 * H + 3) * DV + c], mean, 1e-6);
    }
    for (int i = 0; i < H * L * S; i++) x.bias[i] = i % S == 4 ? 1e4f : 0;
    attend(&p, &x, 0, L, S, -1, true, false, y);
    for (int c = 0; c < DV; c++) near((double)y[c], (double)x.v[4 * HK * DV + c], 1e-7);
    for (int i = 0; i < H * L * S; i++) x.bias[i] = -INFINITY;
    attend(&p, &x, 0, L, S, -1, true, false, y);
    for (int i = 0; i < L * H * DV; i++) assert_true(y[i] == 0);
    attend(&p, &x, 0, L, S, 0, false, false, y);
    for (int i = 0; i < L * H * DV; i++) assert_true(y[i] == 0);
}

/* A cache filled bit by bit: chunks and steps see what the whole sees. */
static void attention_in_pieces(void **state) {
    problem x;
    float whole[L * H * DV], part[L * H * DV];
    (void)state;
    fill(&x);
    for (int64_t window = 0; window < 4; window += 3)
        for (int step = 1; step < L; step++) {
            strand_op_attention p = {.heads = H, .kv_heads = HK, .scale = 1, .causal = 1, .window = window, .sinks = 1};
            attend(&p, &x, 0, L, L, -1, false, false, whole);
            for (int t = 0; t < L; t += step) {
                int n = t + step < L ? step : L - t;
                attend(&p, &x, t, n, S, t + n, false, false, part);
                for (int i = 0; i < n * H * DV; i++) near((double)part[i], (double)whole[t * H * DV + i], 1e-6);
            }
        }
}

#define LONG  200
#define ROOM  260 /* rows of the cache */
#define WIDTH 24

/* Chunks of more than 8 rows have the bytes of the whole, whatever the cache's size; steps agree to rounding. */
static void attention_in_chunks(void **state) {
    static float q[LONG * WIDTH], k[ROOM * WIDTH], v[ROOM * WIDTH], whole[LONG * WIDTH], part[LONG * WIDTH];
    (void)state;
    for (int i = 0; i < LONG * WIDTH; i++) q[i] = wave(i);
    for (int i = 0; i < ROOM * WIDTH; i++)
        k[i] = i < LONG * WIDTH ? wave(3 * i + 1) : NAN, v[i] = i < LONG * WIDTH ? wave(5 * i + 2) : NAN;
    for (int step = 1; step < 80; step += step < 10 ? 9 : 23)
        for (int64_t window = 0; window < 50; window += 40) {
            strand_op_attention p = {.heads = 1, .kv_heads = 1, .scale = 0.5f, .causal = 1, .window = window, .sinks = 3};
            strand_plugin_tensor in[4] = {cube(STRAND_PLUGIN_F32, q, 1, LONG, WIDTH),
                                          cube(STRAND_PLUGIN_F32, k, 1, LONG, WIDTH),
                                          cube(STRAND_PLUGIN_F32, v, 1, LONG, WIDTH)};
            strand_plugin_tensor out = cube(STRAND_PLUGIN_F32, whole, 1, LONG, WIDTH);
            compute(STRAND_OP_ATTENTION, &p, in, 3, &out);
            for (int t = 0; t < LONG; t += step) {
                int64_t n = t + step < LONG ? step : LONG - t, valid = t + n, one = 1;
                in[0] = cube(STRAND_PLUGIN_F32, q + t * WIDTH, 1, n, WIDTH);
                in[1] = cube(STRAND_PLUGIN_F32, k, 1, ROOM, WIDTH), in[2] = cube(STRAND_PLUGIN_F32, v, 1, ROOM, WIDTH);
                in[3] = tensor(STRAND_PLUGIN_I64, &valid, 1, &one);
                out = cube(STRAND_PLUGIN_F32, part, 1, n, WIDTH);
                compute(STRAND_OP_ATTENTION, &p, in, 4, &out);
                for (int i = 0; i < n * WIDTH; i++) near((double)part[i], (double)whole[t * WIDTH + i], n > 8 ? 0 : 1e-6);
            }
        }
}

/* What is not seen does not enter, be it NaN; what is seen does. */
static void attention_and_nan(void **state) {
    problem x;
    float y[L * H * DV];
    strand_op_attention p = {.heads = H, .kv_heads = HK, .scale = 1, .causal = 1};
    (void)state;
    fill(&x);
    x.k[4 * HK * D] = x.v[5 * HK * DV] = NAN; /* key 4, value 5 of key head 0 */
    attend(&p, &x, 0, L, L, -1, false, false, y);
    for (int t = 0; t < L; t++)
        for (int h = 0; h < H; h++)
            for (int c = 0; c < DV; c++) assert_true(!isnan(y[(t * H + h) * DV + c]) == (h >= 2 || t < 4));
}

/* ---- cache ---- */

static void cache_rows(void **state) {
    float cache[5] = {10, 20, 30, 40, 50}, x[7] = {1, 2, 3, 4, 5, 6, 7}, y[5];
    int32_t at = 3;
    int64_t one = 1;
    strand_op_cache_write p = {0};
    (void)state;
    strand_plugin_tensor in[3] = {cube(STRAND_PLUGIN_F32, cache, 1, 5, 1), cube(STRAND_PLUGIN_F32, x, 1, 2, 1),
                                  tensor(STRAND_PLUGIN_I32, &at, 1, &one)};
    strand_plugin_tensor out = cube(STRAND_PLUGIN_F32, y, 1, 5, 1);
    compute(STRAND_OP_CACHE_WRITE, &p, in, 3, &out);
    const float plain[5] = {10, 20, 30, 1, 2}, ring[5] = {2, 20, 30, 40, 1}, round_and_round[5] = {4, 5, 6, 7, 3};
    assert_memory_equal(y, plain, sizeof y);
    p.ring = 1, at = 14; /* row 4 and then row 0 */
    compute(STRAND_OP_CACHE_WRITE, &p, in, 3, &out);
    assert_memory_equal(y, ring, sizeof y);
    in[1] = cube(STRAND_PLUGIN_F32, x, 1, 7, 1), at = -3; /* rows 2, 3, 4, 0, ... 3: the last ones stay */
    compute(STRAND_OP_CACHE_WRITE, &p, in, 3, &out);
    assert_memory_equal(y, round_and_round, sizeof y);
}

static void cache_bounds(void **state) {
    float cache[5] = {0}, x[2] = {0};
    int64_t at, one = 1;
    strand_op_cache_write p = {0};
    (void)state;
    for (at = -1; at < 6; at++) {
        strand_plugin_tensor in[3] = {cube(STRAND_PLUGIN_F32, cache, 1, 5, 1), cube(STRAND_PLUGIN_F32, x, 1, 2, 1),
                                      tensor(STRAND_PLUGIN_I64, &at, 1, &one)};
        strand_plugin_tensor out = in[0];
        assert_int_equal(launch(STRAND_OP_CACHE_WRITE, &p, in, 3, &out),
                         at < 0 || at > 3 ? STRAND_PLUGIN_ERR_ARGUMENT : STRAND_PLUGIN_OK);
    }
}

REFERENCE_MAIN("reference_attention", cmocka_unit_test(rotary_turns), cmocka_unit_test(rotary_is_relative),
               cmocka_unit_test(attention_by_definition), cmocka_unit_test(attention_limits),
               cmocka_unit_test(attention_in_pieces), cmocka_unit_test(attention_in_chunks),
               cmocka_unit_test(attention_and_nan), cmocka_unit_test(cache_rows), cmocka_unit_test(cache_bounds))

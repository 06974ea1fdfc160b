/* test_reference.c - the judge judged: the reference kernels against closed forms and against formulas written out again
 * here in double precision. Everything else is compared with these kernels, so they are compared with mathematics. */
#include "reference_support.h"

/* y = long_conv(u, filter) of one channel, with optional skip and gates */
static void convolve(float *y, float *u, int64_t length, float *filter, int64_t taps, float *skip, float *pre, float *post) {
    strand_op_long_conv p = {0};
    strand_plugin_tensor in[5] = {matrix(u, 1, length), matrix(filter, 1, taps)}, out = matrix(y, 1, length);
    if (skip) in[2] = vector(skip, 1);
    if (pre) in[3] = matrix(pre, 1, length);
    if (post) in[4] = matrix(post, 1, length);
    run(STRAND_OP_LONG_CONV, &p, in, 5, &out);
}

#define N 37

static void impulse_gives_filter(void **state) {
    float u[N] = {0}, filter[N], y[N], skip = 3;
    (void)state;
    for (int i = 0; i < N; i++) filter[i] = wave(i);
    u[0] = 1;
    convolve(y, u, N, filter, N, NULL, NULL, NULL);
    for (int i = 0; i < N; i++) assert_true(y[i] == filter[i]);
    u[0] = 0;
    u[5] = 2;
    convolve(y, u, N, filter, 20, &skip, NULL, NULL);
    for (int i = 0; i < N; i++) near((double)y[i], i < 5 ? 0 : i < 25 ? 2 * (double)filter[i - 5] + (i == 5 ? 6 : 0) : 0, 1e-6);
}

static void convolution_is_causal_and_linear(void **state) {
    float u[N], v[N], both[N], filter[N], yu[N], yv[N], y[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        u[i] = wave(i);
        v[i] = wave(3 * i + 1);
        filter[i] = wave(7 * i);
        both[i] = 2 * u[i] - v[i];
    }
    convolve(yu, u, N, filter, N, NULL, NULL, NULL);
    convolve(yv, v, N, filter, N, NULL, NULL, NULL);
    convolve(y, both, N, filter, N, NULL, NULL, NULL);
    for (int i = 0; i < N; i++) near((double)y[i], 2 * (double)yu[i] - (double)yv[i], 1e-5);
    u[20] += 100;
    convolve(y, u, N, filter, N, NULL, NULL, NULL);
    for (int i = 0; i < 20; i++) assert_true(y[i] == yu[i]);
}

/* A step through the filter r^t ends at 1/(1 - r); its partial sums are (1 - r^(t+1))/(1 - r). */
static void geometric_filter(void **state) {
    float ones[200], filter[200], y[200], two[200];
    (void)state;
    for (int i = 0; i < 200; i++) {
        ones[i] = 1;
        two[i] = 2;
        filter[i] = (float)pow(0.75, i);
    }
    convolve(y, ones, 200, filter, 200, NULL, two, two);
    for (int i = 0; i < 200; i++) near((double)y[i], 4 * (1 - pow(0.75, i + 1)) / 0.25, 1e-5);
    near((double)y[199], 16, 1e-5);
}

/* An impulse at s gives the forward filter from s on, and the backward one before it, read outwards: its first tap just before
 * s, or at s itself. */
static void backward_filter_is_mirrored(void **state) {
    (void)state;
    for (uint32_t flags = 0; flags <= STRAND_LONG_CONV_BACK_FROM_ZERO; flags++) {
        for (int s = 0; s < N; s += 9) {
            float u[N] = {0}, filter[N], back[20], y[N], skip = 0.5f;
            for (int i = 0; i < N; i++) filter[i] = wave(i);
            for (int i = 0; i < 20; i++) back[i] = wave(5 * i + 2);
            u[s] = 2;
            strand_op_long_conv p = {.flags = flags};
            strand_plugin_tensor in[6] = {matrix(u, 1, N),    matrix(filter, 1, N), vector(&skip, 1), {0}, {0},
                                          matrix(back, 1, 20)},
                                 out = matrix(y, 1, N);
            run(STRAND_OP_LONG_CONV, &p, in, 6, &out);
            for (int t = 0; t < N; t++) {
                int i = s - t - (flags ? 0 : 1);
                double good =
                    (t >= s ? 2 * (double)filter[t - s] : 0) + (i >= 0 && i < 20 ? 2 * (double)back[i] : 0) + (t == s);
                near((double)y[t], good, 1e-6);
            }
        }
    }
}

static void layer_norm_moments(void **state) {
    float x[3 * N], weight[N], y[3 * N], bias[N] = {0};
    strand_op_layer_norm p = {1e-12f};
    (void)state;
    for (int i = 0; i < 3 * N; i++) x[i] = 5 + 3 * wave(i);
    for (int i = 0; i < N; i++) weight[i] = 1;
    strand_plugin_tensor in[3] = {matrix(x, 3, N), vector(weight, N), vector(bias, N)}, out = matrix(y, 3, N);
    run(STRAND_OP_LAYER_NORM, &p, in, 3, &out);
    for (int row = 0; row < 3; row++) {
        double mean = 0, square = 0;
        for (int i = 0; i < N; i++) mean += (double)y[row * N + i] / N;
        for (int i = 0; i < N; i++) square += (double)y[row * N + i] * (double)y[row * N + i] / N;
        near(mean, 0, 1e-6);
        near(square, 1, 1e-5);
    }
    p.eps = 1e6f; /* inside the root: 1/sqrt(var + 1e6) is about 1e-3 */
    run(STRAND_OP_LAYER_NORM, &p, in, 2, &out);
    double mean = 0;
    for (int i = 0; i < N; i++) mean += (double)x[i] / N;
    near((double)y[0], ((double)x[0] - mean) * 1e-3, 1e-7);
}

static double apply_with(uint32_t kind, float alpha, float beta, float x) {
    strand_op_unary p = {kind, alpha, beta};
    float y;
    strand_plugin_tensor in = vector(&x, 1), out = vector(&y, 1);
    run(STRAND_OP_UNARY, &p, &in, 1, &out);
    return (double)y;
}

static double apply(uint32_t kind, float x) {
    return apply_with(kind, 0, 0, x);
}

static void functions(void **state) {
    (void)state;
    near(apply(STRAND_UNARY_GELU, 1), 0.8413447460685429, 1e-7); /* the normal distribution at 1 */
    near(apply(STRAND_UNARY_GELU, -1), -0.15865525393145707, 1e-7);
    near(apply(STRAND_UNARY_GELU, 0), 0, 0);
    near(apply(STRAND_UNARY_GELU_TANH, 1), 0.8411919906082768, 1e-7);
    near(apply(STRAND_UNARY_GELU_TANH, -2), -0.0454022955, 1e-6);
    near(apply(STRAND_UNARY_SILU, 1), 0.7310585786300049, 1e-7);
    near(apply(STRAND_UNARY_SIGMOID, 0), 0.5, 0);
    near(apply(STRAND_UNARY_SIN, 300), -0.9997558399011495, 1e-7);
    near(apply(STRAND_UNARY_EXP, 1), 2.718281828459045, 3e-7);
    near(apply(STRAND_UNARY_TANH, 0.5f), 0.46211715726000973, 1e-7);
    near(apply(STRAND_UNARY_RELU, -3), 0, 0);
    near(apply(STRAND_UNARY_RELU, 3), 3, 0);
    near(apply(STRAND_UNARY_IDENTITY, 1.25f), 1.25, 0);
    assert_true(isnan(apply(STRAND_UNARY_RELU, NAN)));
}

static void more_functions(void **state) {
    const double pi = 3.14159265358979323846, ln2 = 0.6931471805599453;
    (void)state;
    near(apply(STRAND_UNARY_SOFTPLUS, 0), ln2, 1e-7);
    near(apply(STRAND_UNARY_SOFTPLUS, 20.5f), 20.5, 0);
    near(apply(STRAND_UNARY_SOFTPLUS, -3), 0.04858735157374196, 1e-8);
    near(apply(STRAND_UNARY_SQUARED_RELU, 3), 9, 0);
    near(apply(STRAND_UNARY_SQUARED_RELU, -3), 0, 0);
    near(apply_with(STRAND_UNARY_LEAKY_RELU, 0.25f, 0, -3), -0.75, 0);
    near(apply_with(STRAND_UNARY_LEAKY_RELU, 0.25f, 0, 3), 3, 0);
    near(apply(STRAND_UNARY_COS, (float)pi), -1, 1e-7);
    near(apply(STRAND_UNARY_LOG, 2), ln2, 1e-7);
    near(apply(STRAND_UNARY_SQRT, 2.25f), 1.5, 0);
    near(apply(STRAND_UNARY_RSQRT, 4), 0.5, 0);
    near(apply(STRAND_UNARY_RECIPROCAL, -8), -0.125, 0);
    near(apply(STRAND_UNARY_SQUARE, -3), 9, 0);
    near(apply(STRAND_UNARY_ABS, -3), 3, 0);
    near(apply(STRAND_UNARY_NEG, -3), 3, 0);
    near(apply_with(STRAND_UNARY_AFFINE, 2, 1, 3), 7, 0);
    near(apply_with(STRAND_UNARY_CLAMP, -1, 2, 3), 2, 0);
    near(apply_with(STRAND_UNARY_CLAMP, -1, 2, -3), -1, 0);
    near(apply_with(STRAND_UNARY_CLAMP, -1, 2, 1), 1, 0);
    near(apply_with(STRAND_UNARY_ELU, 2, 0, -1), 2 * (exp(-1.0) - 1), 2e-7);
    near(apply_with(STRAND_UNARY_ELU, 2, 0, 1), 1, 0);
    near(apply(STRAND_UNARY_QUICK_GELU, 2), 2 / (1 + exp(-3.404)), 2e-7);
    near(apply_with(STRAND_UNARY_SOFTCAP, 30, 0, 60), 30 * tanh(2.0), 2e-6);
    near(apply(STRAND_UNARY_LOG_SIGMOID, 0), -ln2, 1e-7);
    near(apply(STRAND_UNARY_LOG_SIGMOID, -50), -50, 0);
    near(apply(STRAND_UNARY_ERF, 1), 0.8427007929497149, 1e-7);
    near(apply(STRAND_UNARY_LAPLACE, 0.70710678f), 0.5, 1e-7);
    /* Mega's form of it: (1 + erf((x - mu) / (sigma sqrt 2))) / 2 */
    near(apply(STRAND_UNARY_LAPLACE, 0.9f), (1 + erf((0.9 - sqrt(0.5)) / (sqrt(0.25 / pi) * sqrt(2.0)))) / 2, 1e-7);
    near(apply(STRAND_UNARY_EXPM1, 1e-5f), 1.000005e-5, 1e-12);
    near(apply(STRAND_UNARY_LOG1P, 1e-5f), 0.999995e-5, 1e-12);
    /* infinities have limits */
    near(apply(STRAND_UNARY_SILU, -INFINITY), 0, 0);
    near(apply(STRAND_UNARY_GELU, -INFINITY), 0, 0);
    near(apply(STRAND_UNARY_GELU_TANH, -INFINITY), 0, 0);
    assert_true(isinf(apply(STRAND_UNARY_GELU, INFINITY)) && isinf(apply(STRAND_UNARY_LOG, 0)));
}

/* Either side may be one element along an axis; the activation is of a. */
static void pairs(void **state) {
    float a[2] = {2, -3}, b[3] = {1, 2, 4}, y[6];
    const float good[7][6] = {{3, 4, 6, -2, -1, 1},     {2, 4, 8, -3, -6, -12}, {1, 0, -2, -4, -5, -7},
                              {2, 1, 0.5f, -3, -1.5f, -0.75f}, {2, 2, 4, 1, 2, 4},     {1, 2, 2, -3, -3, -3},
                              {2, 4, 16, NAN, NAN, NAN}};
    (void)state;
    strand_plugin_tensor in[2] = {matrix(a, 2, 1), matrix(b, 1, 3)}, out = matrix(y, 2, 3);
    for (uint32_t kind = 0; kind <= STRAND_BINARY_LAST; kind++) {
        strand_op_binary p = {.kind = kind};
        run(STRAND_OP_BINARY, &p, in, 2, &out);
        for (int i = 0; i < 6; i++) assert_true(y[i] == good[kind][i] || (isnan(y[i]) && isnan(good[kind][i])));
    }
    strand_op_binary p = {STRAND_BINARY_MUL, STRAND_UNARY_LEAKY_RELU, 0.5f, 0};
    run(STRAND_OP_BINARY, &p, in, 2, &out);
    assert_true(y[0] == 2 && y[2] == 8 && y[3] == -1.5f && y[5] == -6);
}

static void products(void **state) {
    float a[6] = {1, 2, 3, 4, 5, 6}, at[6] = {1, 4, 2, 5, 3, 6}, b[6] = {7, 8, 9, 10, 11, 12}, bt[6] = {7, 9, 11, 8, 10, 12},
          y[4];
    float bias[2] = {100, 200}, good[4] = {58, 64, 139, 154};
    (void)state;
    for (uint32_t way = 0; way < 12; way++) {
        strand_op_matmul p = {way & 1, way >> 1 & 1, way / 4, 0};
        strand_plugin_tensor in[3] = {way & 1 ? matrix(at, 3, 2) : matrix(a, 2, 3),
                                      way & 2 ? matrix(bt, 2, 3) : matrix(b, 3, 2), vector(bias, 2)};
        strand_plugin_tensor out = matrix(y, 2, 2);
        run(STRAND_OP_MATMUL, &p, in, p.bias ? 3 : 2, &out);
        for (int i = 0; i < 4; i++)
            near((double)y[i],
                 (double)good[i] + (p.bias == 1   ? (double)bias[i / 2]
                                    : p.bias == 2 ? (double)bias[i % 2]
                                                  : 0),
                 0);
    }
}

static void short_taps(void **state) {
    float x[6] = {1, 2, 3, 4, 5, 6}, w[3] = {100, 10, 1}, bias = 0.5f, y[6];
    const float good[6] = {1.5f, 12.5f, 123.5f, 234.5f, 345.5f, 456.5f}; /* the last tap is the current input */
    strand_op_short_conv p = {0};
    (void)state;
    strand_plugin_tensor in[3] = {matrix(x, 1, 6), matrix(w, 1, 3), vector(&bias, 1)}, out = matrix(y, 1, 6);
    run(STRAND_OP_SHORT_CONV, &p, in, 3, &out);
    for (int i = 0; i < 6; i++) near((double)y[i], (double)good[i], 0);
    /* a tile: positions 3 to 5 of the output, history from position 1 on */
    float tile[3];
    out = matrix(tile, 1, 3);
    out.whole[1] = 6, out.origin[1] = 3;
    in[0] = matrix(x + 1, 1, 5);
    in[0].whole[1] = 6, in[0].origin[1] = 1;
    run(STRAND_OP_SHORT_CONV, &p, in, 3, &out);
    for (int i = 0; i < 3; i++) near((double)tile[i], (double)good[i + 3], 0);
}

/* The state stands before the sequence, in either layout; what comes out is what the next part needs. */
static void short_taps_with_state(void **state) {
    float x[2] = {3, 4}, w[4] = {1000, 100, 10, 1}, before[3] = {7, 1, 2}, y[2], after[3];
    (void)state;
    for (uint32_t tokens = 0; tokens < 2; tokens++) {
        strand_op_short_conv p = {tokens, STRAND_UNARY_NEG};
        strand_plugin_tensor in[4] = {tokens ? matrix(x, 2, 1) : matrix(x, 1, 2), matrix(w, 1, 4)}, out[2];
        in[3] = tokens ? matrix(before, 3, 1) : matrix(before, 1, 3);
        out[0] = tokens ? matrix(y, 2, 1) : matrix(y, 1, 2);
        out[1] = tokens ? matrix(after, 3, 1) : matrix(after, 1, 3);
        run_outputs(STRAND_OP_SHORT_CONV, &p, in, 4, out, 2);
        assert_true(y[0] == -7123 && y[1] == -1234);
        assert_true(after[0] == 2 && after[1] == 3 && after[2] == 4);
    }
}

static void reductions(void **state) {
    float x[2 * 4 * 3], y[6];
    int32_t ids[8] = {5, 6, 9, 6, 9, 5, 5, 5};
    int64_t dims[3] = {2, 4, 3}, id_dims[2] = {2, 4};
    /* mean, sum, first, last, before token 9: position 1 in row 0; in row 1 it comes first, so the last */
    const double good[5][2] = {{4.5, 16.5}, {18, 66}, {0, 12}, {9, 21}, {3, 21}};
    (void)state;
    for (int i = 0; i < 24; i++) x[i] = (float)i;
    for (uint32_t kind = 0; kind < 5; kind++) {
        strand_op_reduce p = {kind, 9};
        strand_plugin_tensor in[2] = {tensor(STRAND_PLUGIN_F32, x, 3, dims), tensor(STRAND_PLUGIN_I32, ids, 2, id_dims)},
                             out = matrix(y, 2, 3);
        run(STRAND_OP_REDUCE, &p, in, kind == 4 ? 2 : 1, &out);
        for (int c = 0; c < 3; c++)
            for (int b = 0; b < 2; b++) near((double)y[b * 3 + c], good[kind][b] + c * (kind == 1 ? 4 : 1), 1e-6);
    }
}

/* Written out for two bands: f = 1e-4 and 1. */
static void grid(void **state) {
    float y[5 * 5];
    strand_op_positions p = {.n = 1000, .bands = 2};
    const double pi = 3.14159265358979323846;
    (void)state;
    strand_plugin_tensor out = matrix(y, 5, 5);
    out.whole[0] = 1000, out.origin[0] = 700;
    run(STRAND_OP_POSITIONS, &p, NULL, 0, &out);
    for (int i = 0; i < 5; i++) {
        float turn = (float)(2 * pi) * (float)(700 + i); /* each step of the angle is rounded, as the operator says */
        turn /= 1000;
        const double low = (double)(1e-4f * turn), high = (double)turn;
        const double good[5] = {(700 + i) / 999.0, cos(low), cos(high), -sin(low), -sin(high)};
        for (int c = 0; c < 5; c++) near((double)y[i * 5 + c], good[c], 6e-8);
        near(high, 2 * pi * (700 + i) / 1000, 1e-6); /* and is the angle */
    }
}

static void window(void **state) {
    float k[2 * 4] = {1, 1, 1, 1, 2, 2, 2, 2}, rate[2] = {-3, 15}, y[8];
    strand_op_decay_window p = {.n = 101, .shift = 0.05f};
    (void)state;
    strand_plugin_tensor in[2] = {matrix(k, 2, 4), vector(rate, 2)}, out = matrix(y, 2, 4);
    in[0].whole[1] = out.whole[1] = 101, in[0].origin[1] = out.origin[1] = 50;
    run(STRAND_OP_DECAY_WINDOW, &p, in, 2, &out);
    for (int t = 0; t < 4; t++) {
        near((double)y[t], exp(-3 * (50 + t) / 100.0) + 0.05, 1e-7);
        near((double)y[4 + t], 2 * (exp(-15 * (50 + t) / 100.0) + 0.05), 1e-7);
    }
}

static void casts(void **state) {
    float x[6] = {1, -2.5f, 65504, 65520, 0x1p-24f, 1.00048828125f /* halfway: to even */};
    const uint16_t f16[6] = {0x3c00, 0xc100, 0x7bff, 0x7c00, 0x0001, 0x3c00},
                   bf16[6] = {0x3f80, 0xc020, 0x4780, 0x4780, 0x3380, 0x3f80};
    uint16_t y[6];
    float back[6];
    int64_t n = 6;
    (void)state;
    for (int i = 0; i < 2; i++) {
        uint32_t type = i ? STRAND_PLUGIN_BF16 : STRAND_PLUGIN_F16;
        strand_plugin_tensor in = vector(x, 6), out = tensor(type, y, 1, &n), again = vector(back, 6);
        run(STRAND_OP_CAST, NULL, &in, 1, &out);
        for (int e = 0; e < 6; e++) assert_int_equal(y[e], (i ? bf16 : f16)[e]);
        run(STRAND_OP_CAST, NULL, &out, 1, &again);
        assert_true(back[0] == 1 && back[1] == -2.5f);
    }
}

static void lookups_and_sums(void **state) {
    float table[6] = {1, 2, 3, 4, 5, 6}, y[4], a[4] = {1, 2, 3, 4}, b[2] = {10, 100};
    int64_t ids[2] = {2, 0}, n = 2;
    const double good[3][4] = {{11, 102, 13, 104}, {10, 200, 30, 400}, {-9, -98, -7, -96}};
    (void)state;
    strand_plugin_tensor in[2] = {matrix(table, 3, 2), tensor(STRAND_PLUGIN_I64, ids, 1, &n)}, out = matrix(y, 2, 2);
    run(STRAND_OP_GATHER, NULL, in, 2, &out);
    assert_true(y[0] == 5 && y[1] == 6 && y[2] == 1 && y[3] == 2);
    for (uint32_t kind = 0; kind < 3; kind++) {
        strand_op_binary p = {kind};
        strand_plugin_tensor ab[2] = {matrix(a, 2, 2), matrix(b, 1, 2)};
        run(STRAND_OP_BINARY, &p, ab, 2, &out);
        for (int i = 0; i < 4; i++) near((double)y[i], good[kind][i], 0);
    }
}

REFERENCE_MAIN("reference",
    cmocka_unit_test(impulse_gives_filter),
    cmocka_unit_test(convolution_is_causal_and_linear),
    cmocka_unit_test(geometric_filter),
    cmocka_unit_test(backward_filter_is_mirrored),
    cmocka_unit_test(layer_norm_moments),
    cmocka_unit_test(functions),
    cmocka_unit_test(more_functions),
    cmocka_unit_test(pairs),
    cmocka_unit_test(products),
    cmocka_unit_test(short_taps),
    cmocka_unit_test(short_taps_with_state),
    cmocka_unit_test(reductions),
    cmocka_unit_test(grid),
    cmocka_unit_test(window),
    cmocka_unit_test(casts),
    cmocka_unit_test(lookups_and_sums))

/* test_reference_elementwise.c - reference kernels of rows and of reductions over an axis, against closed forms. */
#include "reference_support.h"

static void norms(void **state) {
    float x[4] = {3, -4, 6, 8}, weight[4] = {1, 2, 3, 4}, bias[4] = {10, 20, 30, 40}, y[4];
    (void)state;
    strand_plugin_tensor in[3] = {matrix(x, 1, 4), vector(weight, 4), vector(bias, 4)}, out = matrix(y, 1, 4);
    strand_op_norm p = {.kind = STRAND_NORM_L2, .groups = 2}; /* (3, 4) has length 5, (6, 8) has 10 */
    run(STRAND_OP_NORM, &p, in, 1, &out);
    for (int i = 0; i < 4; i++) near((double)y[i], (double[]){0.6, -0.8, 0.6, 0.8}[i], 1e-7);
    p.eps = 5, p.eps_rule = STRAND_EPS_OUTSIDE;
    run(STRAND_OP_NORM, &p, in, 1, &out);
    for (int i = 0; i < 4; i++) near((double)y[i], (double[]){0.3, -0.4, 0.4, 8 / 15.0}[i], 1e-7);
    p.eps = 8, p.eps_rule = STRAND_EPS_FLOOR;
    run(STRAND_OP_NORM, &p, in, 1, &out);
    for (int i = 0; i < 4; i++) near((double)y[i], (double[]){0.375, -0.5, 0.6, 0.8}[i], 1e-7);
    /* squares: 125 in 4; and 0.75: 32 */
    p = (strand_op_norm){.kind = STRAND_NORM_RMS, .groups = 1, .eps = 0.75f, .weight_offset = 1};
    run(STRAND_OP_NORM, &p, in, 3, &out);
    for (int i = 0; i < 4; i++) near((double)y[i], (double)x[i] / sqrt(32.0) * (i + 2) + 10 * (i + 1), 1e-6);
    p = (strand_op_norm){.kind = STRAND_NORM_LAYER, .groups = 2, .eps = 0}; /* two numbers become -1 and 1 */
    run(STRAND_OP_NORM, &p, in, 1, &out);
    for (int i = 0; i < 4; i++) near((double)y[i], (double[]){1, -1, -1, 1}[i], 1e-7);
}

static void gates(void **state) {
    float x[4] = {1, -2, 3, 4}, y[2];
    (void)state;
    strand_plugin_tensor in = vector(x, 4), out = vector(y, 2);
    strand_op_glu p = {.activation = STRAND_UNARY_RELU};
    run(STRAND_OP_GLU, &p, &in, 1, &out);
    assert_true(y[0] == 3 && y[1] == 0);
    p.gate_second = 1;
    run(STRAND_OP_GLU, &p, &in, 1, &out);
    assert_true(y[0] == 3 && y[1] == -8);
    p.interleaved = 1;
    run(STRAND_OP_GLU, &p, &in, 1, &out);
    assert_true(y[0] == 0 && y[1] == 12);
    p = (strand_op_glu){.activation = STRAND_UNARY_SIGMOID, .gate_second = 1};
    run(STRAND_OP_GLU, &p, &in, 1, &out);
    near((double)y[1], -2 / (1 + exp(-4.0)), 1e-6);
}

static void exponentials(void **state) {
    float x[3] = {1000, 1001, 1003}, y[3];
    const double sum = 1 + exp(1.0) + exp(3.0);
    (void)state;
    strand_plugin_tensor in = vector(x, 3), out = vector(y, 3);
    strand_op_softmax p = {0};
    run(STRAND_OP_SOFTMAX, &p, &in, 1, &out);
    for (int i = 0; i < 3; i++) near((double)y[i], exp((double)x[i] - 1000) / sum, 1e-7);
    p.log = 1;
    run(STRAND_OP_SOFTMAX, &p, &in, 1, &out);
    for (int i = 0; i < 3; i++) near((double)y[i], (double)x[i] - 1000 - log(sum), 1e-6);
}

static void axes(void **state) {
    float x[2 * 3 * 2] = {1, -2, 3, 4, -5, 6, 7, 8, 7, -10, 11, 12}, y[6];
    int64_t dims[3] = {2, 3, 2}, out_dims[2] = {2, 2}, places[4], lengths[2] = {2, 1}, two = 2;
    const double good[7][4] = {{-1, 8, 25, 10}, {-1 / 3.0, 8 / 3.0, 25 / 3.0, 10 / 3.0},
                               {3, 6, 11, 12},  {-5, -2, 7, -10},
                               {9, 12, 25, 30}, {5.916079783, 7.483314774, 14.79864859, 17.54992877},
                               {0, 0, 0, 0}};
    (void)state;
    strand_plugin_tensor in[2] = {tensor(STRAND_PLUGIN_F32, x, 3, dims), tensor(STRAND_PLUGIN_I64, lengths, 1, &two)},
                         out = tensor(STRAND_PLUGIN_F32, y, 2, out_dims), ids = tensor(STRAND_PLUGIN_I64, places, 2, out_dims);
    strand_op_reduce_axis p = {.axis = -2};
    for (p.kind = 0; p.kind < STRAND_AXIS_LOG_SUM_EXP; p.kind++) {
        run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &out);
        for (int i = 0; i < 4; i++) near((double)y[i], good[p.kind][i], 1e-6);
    }
    run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &out);
    near((double)y[0], log(exp(1.0) + exp(3.0) + exp(-5.0)), 1e-6);
    near((double)y[2], log(2 * exp(7.0) + exp(11.0)), 1e-6);
    p.kind = STRAND_AXIS_ARGMAX;
    run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &ids);
    assert_true(places[0] == 1 && places[1] == 2 && places[2] == 2 && places[3] == 2);
    run(STRAND_OP_REDUCE_AXIS, &p, in, 2, &ids); /* of 2 rows, and of 1 */
    assert_true(places[0] == 1 && places[1] == 1 && places[2] == 0 && places[3] == 0);
    p.kind = STRAND_AXIS_FINAL;
    run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &out);
    assert_true(y[0] == -5.0f && y[1] == 6.0f && y[2] == 11.0f && y[3] == 12.0f);
    run(STRAND_OP_REDUCE_AXIS, &p, in, 2, &out);
    assert_true(y[0] == 3.0f && y[1] == 4.0f && y[2] == 7.0f && y[3] == 8.0f);
    p.kind = STRAND_AXIS_ARGMAX;
    x[2] = x[4] = NAN; /* larger than everything, and the first counts */
    run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &ids);
    assert_true(places[0] == 1);
    float line[7] = {1, 2, 3, 4, 5, 6, 7};
    int64_t three = 3;
    p = (strand_op_reduce_axis){.kind = STRAND_AXIS_MEAN, .axis = 0, .window = 2};
    in[0] = vector(line, 7);
    out = tensor(STRAND_PLUGIN_F32, y, 1, &three);
    run(STRAND_OP_REDUCE_AXIS, &p, in, 1, &out);
    for (int i = 0; i < 3; i++) near((double)y[i], 2 * i + 1.5, 0);
}

REFERENCE_MAIN("reference_elementwise",
    cmocka_unit_test(norms),
    cmocka_unit_test(gates),
    cmocka_unit_test(exponentials),
    cmocka_unit_test(axes))

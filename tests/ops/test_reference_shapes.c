/* test_reference_shapes.c - reference kernels of the operators that move elements, against results written out by hand. */
#include "reference_support.h"

static void expect(const float *y, int n, const double *good) {
    for (int i = 0; i < n; i++) near((double)y[i], good[i], 0);
}
#define EXPECT(y, ...) expect(y, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__})

static float x[6] = {1, 2, 3, 4, 5, 6}; /* [2, 3] */

static void joined(void **state) {
    float a[2] = {7, 8}, y[8];
    strand_op_concat p = {.axis = -1};
    (void)state;
    strand_plugin_tensor in[2] = {matrix(x, 2, 3), matrix(a, 2, 1)}, out = matrix(y, 2, 4);
    run(STRAND_OP_CONCAT, &p, in, 2, &out);
    EXPECT(y, 1, 2, 3, 7, 4, 5, 6, 8);
}

static void cut_out(void **state) {
    float y[6];
    (void)state;
    strand_plugin_tensor in = matrix(x, 2, 3), out = matrix(y, 2, 2);
    run(STRAND_OP_SLICE, &(strand_op_slice){.axis = 1, .begin = 1, .step = 1}, &in, 1, &out);
    EXPECT(y, 2, 3, 5, 6);
    run(STRAND_OP_SLICE, &(strand_op_slice){.axis = 1, .begin = -1, .count = 2, .step = -2}, &in, 1, &out);
    EXPECT(y, 3, 1, 6, 4);
    out = matrix(y, 1, 3);
    run(STRAND_OP_SLICE, &(strand_op_slice){.axis = 0, .begin = -1, .count = 1, .step = 1}, &in, 1, &out);
    EXPECT(y, 4, 5, 6);
    out = matrix(y, 2, 3);
    run(STRAND_OP_SLICE, &(strand_op_slice){.axis = 0, .begin = -1, .step = -1}, &in, 1, &out);
    EXPECT(y, 4, 5, 6, 1, 2, 3);
}

static void permuted(void **state) {
    float y[12], v[12];
    int64_t dims[3] = {2, 3, 2}, to[3] = {2, 2, 3};
    (void)state;
    strand_plugin_tensor in = matrix(x, 2, 3), out = matrix(y, 3, 2);
    run(STRAND_OP_PERMUTE, &(strand_op_permute){{1, 0}}, &in, 1, &out);
    EXPECT(y, 1, 4, 2, 5, 3, 6);
    for (int i = 0; i < 12; i++) v[i] = (float)i;
    in = tensor(STRAND_PLUGIN_F32, v, 3, dims), out = tensor(STRAND_PLUGIN_F32, y, 3, to);
    run(STRAND_OP_PERMUTE, &(strand_op_permute){{2, 0, 1}}, &in, 1, &out); /* y[i, j, k] = v[j, k, i] */
    EXPECT(y, 0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11);
}

static void padded(void **state) {
    float y[14];
    (void)state;
    strand_plugin_tensor in = matrix(x, 2, 3), out = matrix(y, 2, 6);
    run(STRAND_OP_PAD, &(strand_op_pad){.axis = 1, .before = 1, .after = 2, .value = 9}, &in, 1, &out);
    EXPECT(y, 9, 1, 2, 3, 9, 9, 9, 4, 5, 6, 9, 9);
    run(STRAND_OP_PAD, &(strand_op_pad){.axis = 1, .mode = STRAND_PAD_EDGE, .before = 1, .after = 2}, &in, 1, &out);
    EXPECT(y, 1, 1, 2, 3, 3, 3, 4, 4, 5, 6, 6, 6);
    run(STRAND_OP_PAD, &(strand_op_pad){.axis = 1, .mode = STRAND_PAD_REFLECT, .before = 1, .after = 2}, &in, 1, &out);
    EXPECT(y, 2, 1, 2, 3, 2, 1, 5, 4, 5, 6, 5, 4);
}

static void repeated(void **state) {
    float y[12];
    (void)state;
    strand_plugin_tensor in = matrix(x, 2, 3), out = matrix(y, 2, 6);
    run(STRAND_OP_REPEAT, &(strand_op_repeat){.axis = -1, .times = 2}, &in, 1, &out);
    EXPECT(y, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6);
    run(STRAND_OP_REPEAT, &(strand_op_repeat){.axis = -1, .times = 2, .interleave = 1}, &in, 1, &out);
    EXPECT(y, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6);
    out = matrix(y, 4, 3);
    run(STRAND_OP_REPEAT, &(strand_op_repeat){.axis = 0, .times = 2, .interleave = 1}, &in, 1, &out);
    EXPECT(y, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6);
}

static void reshaped(void **state) {
    float y[6];
    int64_t tokens[6] = {1, 2, 3, 4, 5, 6}, to[6], dims[3] = {3, 1, 2};
    (void)state;
    strand_plugin_tensor in = matrix(x, 2, 3), out = tensor(STRAND_PLUGIN_F32, y, 3, dims);
    run(STRAND_OP_RESHAPE, NULL, &in, 1, &out);
    EXPECT(y, 1, 2, 3, 4, 5, 6);
    in = tensor(STRAND_PLUGIN_I64, tokens, 3, dims), out = tensor(STRAND_PLUGIN_I64, to, 1, (int64_t[]){6});
    run(STRAND_OP_RESHAPE, NULL, &in, 1, &out);
    assert_memory_equal(to, tokens, sizeof to);
}

REFERENCE_MAIN("reference_shapes",
    cmocka_unit_test(joined),
    cmocka_unit_test(cut_out),
    cmocka_unit_test(permuted),
    cmocka_unit_test(padded),
    cmocka_unit_test(repeated),
    cmocka_unit_test(reshaped))

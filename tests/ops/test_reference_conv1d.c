/* test_reference_conv1d.c - the reference kernel of CONV1D against numbers written out, and against the convolution as a
 * matrix. */
#include "reference_support.h"

static strand_plugin_tensor cube(float *data, int64_t a, int64_t b, int64_t c) {
    int64_t dims[3] = {a, b, c};
    return tensor(STRAND_PLUGIN_F32, data, 3, dims);
}

static void written_out(void **state) {
    float x[6] = {1, 2, 3, 4, 5, 6}, w[3] = {100, 10, 1}, bias = 0.5f, y[8];
    const float same[6] = {12.5f, 123.5f, 234.5f, 345.5f, 456.5f, 560.5f},
                causal[6] = {1.5f, 12.5f, 123.5f, 234.5f, 345.5f, 456.5f}, strided[2] = {123.5f, 345.5f},
                dilated[2] = {135.5f, 246.5f};
    (void)state;
    strand_plugin_tensor in[3] = {cube(x, 1, 1, 6), cube(w, 1, 1, 3), vector(&bias, 1)}, out = cube(y, 1, 1, 6);
    strand_op_conv1d p = {1, 1, 1, 1, 1, 0, 0};
    run(STRAND_OP_CONV1D, &p, in, 3, &out);
    assert_memory_equal(y, same, sizeof same);
    p = (strand_op_conv1d){1, 1, 1, 2, 0, 0, 0};
    run(STRAND_OP_CONV1D, &p, in, 3, &out);
    assert_memory_equal(y, causal, sizeof causal);
    p = (strand_op_conv1d){2, 1, 1, 0, 0, 0, 0};
    out = cube(y, 1, 1, 2);
    run(STRAND_OP_CONV1D, &p, in, 3, &out);
    assert_memory_equal(y, strided, sizeof strided);
    p = (strand_op_conv1d){1, 2, 1, 0, 0, 0, 0};
    run(STRAND_OP_CONV1D, &p, in, 3, &out);
    assert_memory_equal(y, dilated, sizeof dilated);
}

#define B  2
#define G  3
#define CI 4 /* channels of a group */
#define CO 2
#define LENGTH 19
#define K  3

/* One matrix for each group: rows are results, columns what they meet. */
static void as_a_matrix(void **state) {
    float x[B * G * CI * LENGTH], w[G * CO * CI * K], y[B * G * CO * 40];
    (void)state;
    for (int i = 0; i < B * G * CI * LENGTH; i++) x[i] = wave(i);
    for (int i = 0; i < G * CO * CI * K; i++) w[i] = wave(3 * i + 1);
    for (int stride = 1; stride < 4; stride++)
        for (int dilation = 1; dilation < 4; dilation++)
            for (int left = 0; left < 6; left += 2) {
                int length = (LENGTH + left + 1 - dilation * (K - 1) - 1) / stride + 1;
                strand_op_conv1d p = {stride, dilation, G, left, 1, STRAND_UNARY_RELU, 0};
                strand_plugin_tensor in[2] = {cube(x, B, G * CI, LENGTH), cube(w, G * CO, CI, K)},
                                     out = cube(y, B, G * CO, length);
                run(STRAND_OP_CONV1D, &p, in, 2, &out);
                for (int b = 0; b < B; b++)
                    for (int o = 0; o < G * CO; o++)
                        for (int t = 0; t < length; t++) {
                            double sum = 0;
                            for (int column = 0; column < CI * LENGTH; column++) {
                                int tap = column % LENGTH + left - t * stride, i = column / LENGTH;
                                if (tap < 0 || tap % dilation || tap / dilation >= K) continue;
                                sum += (double)w[(o * CI + i) * K + tap / dilation] *
                                       (double)x[(b * G * CI + o / CO * CI) * LENGTH + column];
                            }
                            near((double)y[(b * G * CO + o) * length + t], sum > 0 ? sum : 0, 1e-6);
                        }
            }
}

REFERENCE_MAIN("reference_conv1d", cmocka_unit_test(written_out), cmocka_unit_test(as_a_matrix))

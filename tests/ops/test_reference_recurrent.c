/* test_reference_recurrent.c - the reference GRU against the recurrence written out anew, and whole against cut in two. */
#include "reference_support.h"

#define B 2
#define L 7
#define H 3

static double sigmoid(double v) {
    return 1 / (1 + exp(-v));
}

static float x[B * L * 3 * H], w[3 * H * H], bias[3 * H], state[B * H];

static void make(void) {
    for (int i = 0; i < B * L * 3 * H; i++) x[i] = wave(i);
    for (int i = 0; i < 3 * H * H; i++) w[i] = wave(100 + i);
    for (int i = 0; i < 3 * H; i++) bias[i] = wave(300 + i);
    for (int i = 0; i < B * H; i++) state[i] = wave(400 + i);
}

/* Tokens [from, from + length) of every row, from `before` on; y and `after` are dense. */
static void gru(uint32_t reverse, int from, int length, float *before, float *y, float *after) {
    strand_op_gru p = {.reverse = reverse};
    int64_t x_dims[3] = {B, length, 3 * H}, y_dims[3] = {B, length, H};
    strand_plugin_tensor in[4] = {tensor(STRAND_PLUGIN_F32, x + from * 3 * H, 3, x_dims), matrix(w, 3 * H, H), vector(bias, 3 * H)}, out[2];
    in[0].strides[0] = L * 3 * H;
    if (before) in[3] = matrix(before, B, H);
    out[0] = tensor(STRAND_PLUGIN_F32, y, 3, y_dims), out[1] = matrix(after, B, H);
    run_outputs(STRAND_OP_GRU, &p, in, 4, out, 2);
}

static void as_pytorch_says(void **unused) {
    float y[B * L * H], after[B * H];
    (void)unused;
    make();
    for (uint32_t reverse = 0; reverse < 2; reverse++) {
        gru(reverse, 0, L, state, y, after);
        for (int b = 0; b < B; b++) {
            double h[H], next[H];
            for (int i = 0; i < H; i++) h[i] = (double)state[b * H + i];
            for (int s = 0; s < L; s++) {
                int t = reverse ? L - 1 - s : s;
                for (int i = 0; i < H; i++) {
                    double a[3];
                    for (int k = 0; k < 3; k++) {
                        a[k] = (double)bias[k * H + i];
                        for (int j = 0; j < H; j++) a[k] += (double)w[(k * H + i) * H + j] * h[j];
                    }
                    const float *v = x + (b * L + t) * 3 * H + i;
                    double r = sigmoid((double)v[0] + a[0]), z = sigmoid((double)v[H] + a[1]), n = tanh((double)v[2 * H] + r * a[2]);
                    next[i] = (1 - z) * n + z * h[i];
                }
                memcpy(h, next, sizeof h);
                for (int i = 0; i < H; i++) near((double)y[(b * L + t) * H + i], h[i], 1e-6);
            }
            for (int i = 0; i < H; i++) near((double)after[b * H + i], h[i], 1e-6);
        }
    }
}

static void cut_anywhere(void **unused) {
    float whole[B * L * H], after[B * H], first[B * L * H], second[B * L * H], between[B * H], last[B * H];
    (void)unused;
    make();
    for (int cut = 1; cut < L; cut++) {
        gru(0, 0, L, NULL, whole, after);
        gru(0, 0, cut, NULL, first, between);
        gru(0, cut, L - cut, between, second, last);
        for (int b = 0; b < B; b++) {
            assert_memory_equal(whole + b * L * H, first + b * cut * H, (size_t)cut * H * sizeof(float));
            assert_memory_equal(whole + (b * L + cut) * H, second + b * (L - cut) * H, (size_t)(L - cut) * H * sizeof(float));
        }
        assert_memory_equal(after, last, sizeof last);
    }
    float in_place[B * H];
    memcpy(in_place, state, sizeof state);
    gru(1, 0, L, state, whole, after);
    gru(1, 0, L, in_place, first, in_place);
    assert_memory_equal(whole, first, sizeof whole);
    assert_memory_equal(after, in_place, sizeof after);
}

REFERENCE_MAIN("reference_recurrent", cmocka_unit_test(as_pytorch_says), cmocka_unit_test(cut_anywhere))

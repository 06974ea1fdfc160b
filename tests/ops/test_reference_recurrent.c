/* test_reference_recurrent.c - the reference GRUs against the recurrences written out anew, and whole against cut in two. */
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
    strand_plugin_tensor in[4] = {tensor(STRAND_PLUGIN_F32, x + from * 3 * H, 3, x_dims), matrix(w, 3 * H, H),
                                  vector(bias, 3 * H)},
                         out[2];
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
                    double r = sigmoid((double)v[0] + a[0]), z = sigmoid((double)v[H] + a[1]),
                           n = tanh((double)v[2 * H] + r * a[2]);
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

/* ---- on a graph: two supports of two steps, so 5 matrices ---- */

#define N 4
#define M 5

static float graph_gates[B * L * N * 2 * H], graph_x[B * L * N * H], supports[B * 2 * N * N], w_gates[H * M * 2 * H],
    w_candidate[H * M * H], graph_state[B * N * H];

static void make_graph(void) {
    for (int i = 0; i < B * L * N * 2 * H; i++) graph_gates[i] = wave(i);
    for (int i = 0; i < B * L * N * H; i++) graph_x[i] = wave(1000 + i);
    for (int i = 0; i < B * 2 * N * N; i++) supports[i] = wave(2000 + i) / 2;
    for (int i = 0; i < H * M * 2 * H; i++) w_gates[i] = wave(3000 + i) / 4;
    for (int i = 0; i < H * M * H; i++) w_candidate[i] = wave(4000 + i) / 4;
    for (int i = 0; i < B * N * H; i++) graph_state[i] = wave(5000 + i);
}

static void graph_gru(uint32_t flags, int from, int length, float *before, float *y, float *after) {
    strand_op_graph_gru p = {.steps = 2, .flags = flags};
    int64_t g_dims[4] = {B, length, N, 2 * H}, x_dims[4] = {B, length, N, H}, s_dims[4] = {B, 2, N, N},
            state_dims[3] = {B, N, H};
    strand_plugin_tensor in[6] = {tensor(STRAND_PLUGIN_F32, graph_gates + from * N * 2 * H, 4, g_dims),
                                  tensor(STRAND_PLUGIN_F32, graph_x + from * N * H, 4, x_dims),
                                  tensor(STRAND_PLUGIN_F32, supports, 4, s_dims), matrix(w_gates, H * M, 2 * H),
                                  matrix(w_candidate, H * M, H)},
                         out[2];
    in[0].strides[0] = L * N * 2 * H;
    in[1].strides[0] = L * N * H;
    if (before) in[5] = tensor(STRAND_PLUGIN_F32, before, 3, state_dims);
    out[0] = tensor(STRAND_PLUGIN_F32, y, 4, x_dims), out[1] = tensor(STRAND_PLUGIN_F32, after, 3, state_dims);
    run_outputs(STRAND_OP_GRAPH_GRU, &p, in, 6, out, 2);
}

/* to = S from, over the units of all nodes. */
static void over_graph(const float *s, double from[N][H], double to[N][H]) {
    for (int i = 0; i < N; i++)
        for (int k = 0; k < H; k++) {
            to[i][k] = 0;
            for (int j = 0; j < N; j++) to[i][k] += (double)s[i * N + j] * from[j][k];
        }
}

/* sum[n][c] += what the diffusion of x gives with w. Plain: x, S x, 2 S S x - x of each support; carried: the second
 * support's x is S x of the first. */
static void over_weights(uint32_t carried, const float *s, double x[N][H], const float *w, int columns, double *sum) {
    double m[M][N][H];
    memcpy(m[0], x, sizeof m[0]);
    over_graph(s, m[0], m[1]);
    over_graph(s, m[1], m[2]);
    const int start = carried ? 1 : 0;
    over_graph(s + N * N, m[start], m[3]);
    over_graph(s + N * N, m[3], m[4]);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < H; k++) {
            m[2][i][k] = 2 * m[2][i][k] - m[0][i][k];
            m[4][i][k] = 2 * m[4][i][k] - m[start][i][k];
        }
    for (int i = 0; i < N; i++)
        for (int c = 0; c < columns; c++)
            for (int k = 0; k < H; k++)
                for (int j = 0; j < M; j++) sum[i * columns + c] += m[j][i][k] * (double)w[(k * M + j) * columns + c];
}

static void as_dcrnn_says(void **unused) {
    static float y[B * L * N * H], after[B * N * H];
    (void)unused;
    make_graph();
    for (uint32_t carried = 0; carried < 2; carried++) {
        graph_gru(carried ? STRAND_DIFFUSION_CARRY_OVER : 0, 0, L, graph_state, y, after);
        for (int b = 0; b < B; b++) {
            double h[N][H], rh[N][H];
            for (int i = 0; i < N * H; i++) h[i / H][i % H] = (double)graph_state[b * N * H + i];
            for (int t = 0; t < L; t++) {
                double ru[N * 2 * H], c[N * H];
                for (int i = 0; i < N * 2 * H; i++) ru[i] = (double)graph_gates[(b * L + t) * N * 2 * H + i];
                for (int i = 0; i < N * H; i++) c[i] = (double)graph_x[(b * L + t) * N * H + i];
                over_weights(carried, supports + b * 2 * N * N, h, w_gates, 2 * H, ru);
                for (int i = 0; i < N * H; i++) rh[i / H][i % H] = sigmoid(ru[i / H * 2 * H + i % H]) * h[i / H][i % H];
                over_weights(carried, supports + b * 2 * N * N, rh, w_candidate, H, c);
                for (int i = 0; i < N * H; i++) {
                    double u = sigmoid(ru[i / H * 2 * H + H + i % H]);
                    h[i / H][i % H] = u * h[i / H][i % H] + (1 - u) * tanh(c[i]);
                    near((double)y[(b * L + t) * N * H + i], h[i / H][i % H], 1e-6);
                }
            }
            for (int i = 0; i < N * H; i++) near((double)after[b * N * H + i], h[i / H][i % H], 1e-6);
        }
    }
}

static void graph_cut_anywhere(void **unused) {
    static float whole[B * L * N * H], after[B * N * H], first[B * L * N * H], second[B * L * N * H], between[B * N * H],
        last[B * N * H];
    const size_t token = N * H;
    (void)unused;
    make_graph();
    for (int cut = 1; cut < L; cut++) {
        graph_gru(STRAND_DIFFUSION_CARRY_OVER, 0, L, NULL, whole, after);
        graph_gru(STRAND_DIFFUSION_CARRY_OVER, 0, cut, NULL, first, between);
        graph_gru(STRAND_DIFFUSION_CARRY_OVER, cut, L - cut, between, second, last);
        for (size_t b = 0; b < B; b++) {
            assert_memory_equal(whole + b * L * token, first + b * (size_t)cut * token, (size_t)cut * token * sizeof(float));
            assert_memory_equal(whole + (b * L + (size_t)cut) * token, second + b * (size_t)(L - cut) * token,
                                (size_t)(L - cut) * token * sizeof(float));
        }
        assert_memory_equal(after, last, sizeof last);
    }
}

REFERENCE_MAIN("reference_recurrent", cmocka_unit_test(as_pytorch_says), cmocka_unit_test(cut_anywhere),
               cmocka_unit_test(as_dcrnn_says), cmocka_unit_test(graph_cut_anywhere))

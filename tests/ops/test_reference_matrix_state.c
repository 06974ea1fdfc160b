/* test_reference_matrix_state.c - the reference kernels of the recurrences with a matrix state, against their sums over the
 * past written out (no state at all), and cut in two with the state handed on. The fast kernels go through it too: the
 * lengths are longer than their blocks and the cut falls inside one. */
#include "reference_support.h"

enum { L = 37, H = 2, K = 3, V = 4, CUT = 13 };

static float numbers[16][L * H * (K > V ? K : V)];

static void make_numbers(void) {
    for (int i = 0; i < 16; i++)
        for (size_t k = 0; k < sizeof numbers[0] / sizeof numbers[0][0]; k++) numbers[i][k] = wave((int)k * 16 + i);
}

static strand_plugin_tensor seq(float *data, int64_t from, int64_t to, int64_t channels) {
    int64_t dims[3] = {1, to - from, channels};
    return tensor(STRAND_PLUGIN_F32, data + from * channels, 3, dims);
}

static strand_plugin_tensor state(float *data, int64_t rows, int64_t columns) {
    int64_t dims[4] = {1, H, rows, columns};
    return tensor(STRAND_PLUGIN_F32, data, 4, dims);
}

/* Runs tokens [0, CUT) and then the others, the state of the first as that of the second, in place; `last` is the state's
 * input. */
static void in_two(uint32_t op, const void *params, strand_plugin_tensor *in, uint32_t n, float *y, int64_t channels,
                   strand_plugin_tensor *kept) {
    strand_plugin_tensor out[2] = {seq(y, 0, CUT, channels), *kept}, first[10], second[10];
    for (uint32_t i = 0; i < n; i++) {
        first[i] = second[i] = in[i];
        if (in[i].rank != 3 || in[i].dims[1] != L) continue;
        first[i].dims[1] = first[i].whole[1] = CUT;
        second[i].dims[1] = second[i].whole[1] = L - CUT;
        second[i].memory.data = (float *)in[i].memory.data + CUT * in[i].dims[2];
    }
    first[n - 1] = (strand_plugin_tensor){0};
    second[n - 1] = *kept;
    run_outputs(op, params, first, n, out, 2);
    out[0] = seq(y, CUT, L, channels);
    run_outputs(op, params, second, n, out, 2);
}

static void same(const float *a, const float *b, size_t n, double error) {
    for (size_t i = 0; i < n; i++) near((double)a[i], (double)b[i], error);
}

/* A token that holds no numbers, or infinities, changes nothing before it. */
static void past_stays(uint32_t op, const void *params, const strand_plugin_tensor *in, uint32_t n, int64_t channels) {
    static const int64_t at[] = {1, 4, 9, 23, L - 1};
    float clean[L * H * V], y[L * H * V], copy[L * H * (K > V ? K : V)];
    strand_plugin_tensor out = seq(clean, 0, L, channels), poisoned[10];
    run(op, params, in, n, &out);
    for (uint32_t i = 0; i < n; i++)
        for (size_t k = 0; k < 2 * sizeof at / sizeof at[0] && in[i].rank == 3 && in[i].dims[1] == L; k++) {
            int64_t t = at[k / 2], width = in[i].dims[2];
            memcpy(poisoned, in, n * sizeof *in);
            memcpy(copy, in[i].memory.data, (size_t)(L * width) * sizeof *copy);
            for (int64_t c = 0; c < width; c++) copy[t * width + c] = k % 2 ? INFINITY : NAN;
            poisoned[i].memory.data = copy;
            out = seq(y, 0, L, channels);
            run(op, params, poisoned, n, &out);
            if (memcmp(y, clean, (size_t)(t * channels) * sizeof *y))
                fail_msg("input %u of token %d reached an earlier token", i, (int)t);
        }
}

static void ssd(void **unused) {
    float y[L * H * V], two[L * H * V], s[H * V * K], s2[H * V * K], a[H] = {-0.3f, -1.1f}, skip[H] = {0.5f, -2},
                                                                     bias[H] = {0.1f, -0.2f};
    strand_op_ssd p = {.heads = H, .groups = 1, .softplus = 1, .dt_min = 0.2f, .dt_max = 1.0f};
    (void)unused;
    strand_plugin_tensor in[8] = {
        seq(numbers[0], 0, L, H * V), vector(a, H),    seq(numbers[1], 0, L, K), seq(numbers[2], 0, L, K),
        seq(numbers[3], 0, L, H),     vector(skip, H), vector(bias, H)};
    strand_plugin_tensor out[2] = {seq(y, 0, L, H * V), state(s, V, K)}, kept = state(s2, V, K);
    run_outputs(STRAND_OP_SSD, &p, in, 8, out, 2);
    for (int h = 0; h < H; h++)
        for (int v = 0; v < V; v++)
            for (int t = 0; t < L; t++) {
                double sum = (double)skip[h] * (double)numbers[0][t * H * V + h * V + v], faded = 1;
                for (int from = t; from >= 0; from--) {
                    double d = fmin(fmax(log(1 + exp((double)numbers[3][from * H + h] + (double)bias[h])), 0.2f), 1), dot = 0;
                    for (int k = 0; k < K; k++) dot += (double)numbers[2][t * K + k] * (double)numbers[1][from * K + k];
                    sum += faded * dot * d * (double)numbers[0][from * H * V + h * V + v];
                    faded *= exp(d * (double)a[h]);
                }
                near((double)y[t * H * V + h * V + v], sum, 1e-6);
            }
    past_stays(STRAND_OP_SSD, &p, in, 8, H * V);
    in_two(STRAND_OP_SSD, &p, in, 8, two, H * V, &kept);
    same(y, two, L * H * V, 1e-6);
    same(s, s2, H * V * K, 1e-6);
}

/* Retention: no dt, a = ln gamma, one group a head. */
static void retention(void **unused) {
    float y[L * H * V], a[H];
    strand_op_ssd p = {.heads = H, .groups = H};
    (void)unused;
    for (int h = 0; h < H; h++) a[h] = (float)log(1 - pow(2, -5 - h));
    strand_plugin_tensor in[4] = {seq(numbers[0], 0, L, H * V), vector(a, H), seq(numbers[1], 0, L, H * K),
                                  seq(numbers[2], 0, L, H * K)},
                         out = seq(y, 0, L, H * V);
    run(STRAND_OP_SSD, &p, in, 4, &out);
    past_stays(STRAND_OP_SSD, &p, in, 4, H * V);
    for (int h = 0; h < H; h++)
        for (int v = 0; v < V; v++)
            for (int t = 0; t < L; t++) {
                double sum = 0;
                for (int from = 0; from <= t; from++)
                    for (int k = 0; k < K; k++)
                        sum += pow(1 - pow(2, -5 - h), t - from) * (double)numbers[2][(t * H + h) * K + k] *
                               (double)numbers[1][(from * H + h) * K + k] * (double)numbers[0][(from * H + h) * V + v];
                near((double)y[(t * H + h) * V + v], sum, 5e-6);
            }
}

static void gated_linear_attention(void **unused) {
    float y[L * H * V], two[L * H * V], s[H * V * K], s2[H * V * K];
    (void)unused;
    for (int bonus = 0; bonus < 2; bonus++) {
        strand_op_gated_linear_attention p = {.heads = H, .log_w = 1, .scale = 0.5f};
        float w[L * H * K];
        for (int i = 0; i < L * H * K; i++) w[i] = -(float)fabs((double)numbers[3][i]);
        strand_plugin_tensor in[6] = {seq(numbers[0], 0, L, H * K), seq(numbers[1], 0, L, H * K), seq(numbers[2], 0, L, H * V),
                                      seq(w, 0, L, H * K)};
        strand_plugin_tensor out[2] = {seq(y, 0, L, H * V), state(s, K, V)}, kept = state(s2, K, V);
        if (bonus) in[4] = vector(numbers[4], H * K);
        run_outputs(STRAND_OP_GATED_LINEAR_ATTENTION, &p, in, 6, out, 2);
        for (int h = 0; h < H; h++)
            for (int v = 0; v < V; v++)
                for (int t = 0; t < L; t++) {
                    double sum = 0;
                    for (int k = h * K; k < h * K + K; k++)
                        for (int from = 0; from <= t; from++) {
                            double log_decay = 0, q = (double)numbers[0][t * H * K + k],
                                   kv = (double)numbers[1][from * H * K + k] * (double)numbers[2][(from * H + h) * V + v];
                            for (int i = from + 1; i < t + !bonus; i++) log_decay += (double)w[i * H * K + k];
                            sum += q * kv * (bonus && from == t ? (double)numbers[4][k] : exp(log_decay));
                        }
                    near((double)y[(t * H + h) * V + v], 0.5 * sum, 1e-6);
                }
        past_stays(STRAND_OP_GATED_LINEAR_ATTENTION, &p, in, 6, H * V);
        in_two(STRAND_OP_GATED_LINEAR_ATTENTION, &p, in, 6, two, H * V, &kept);
        same(y, two, L * H * V, 1e-6);
        same(s, s2, H * V * K, 1e-6);
    }
}

/* y[t] = sum over s of v[s] (k[s]^T M[s+1] ... M[t]) r[t] with M = diag(w) + a b^T. */
static void delta_rule(void **unused) {
    float y[L * H * V], two[L * H * V], s[H * V * K], s2[H * V * K], w[L * H * K];
    strand_op_delta_rule p = {.heads = H, .scale = 2};
    (void)unused;
    for (int i = 0; i < L * H * K; i++) w[i] = 0.5f + 0.4f * numbers[6][i];
    for (int i = 0; i < L * H * K; i++) numbers[4][i] *= 0.2f;
    strand_plugin_tensor in[7] = {seq(numbers[0], 0, L, H * K), seq(w, 0, L, H * K),          seq(numbers[1], 0, L, H * K),
                                  seq(numbers[2], 0, L, H * V), seq(numbers[4], 0, L, H * K), seq(numbers[5], 0, L, H * K)};
    strand_plugin_tensor out[2] = {seq(y, 0, L, H * V), state(s, V, K)}, kept = state(s2, V, K);
    run_outputs(STRAND_OP_DELTA_RULE, &p, in, 7, out, 2);
    for (int h = 0; h < H; h++)
        for (int t = 0; t < L; t++) {
            double want[V] = {0};
            for (int from = 0; from <= t; from++) {
                double row[K], dot = 0;
                for (int k = 0; k < K; k++) row[k] = (double)numbers[1][(from * H + h) * K + k];
                for (int i = from + 1; i <= t; i++) {
                    double along = 0;
                    for (int k = 0; k < K; k++) along += row[k] * (double)numbers[4][(i * H + h) * K + k];
                    for (int k = 0; k < K; k++)
                        row[k] = row[k] * (double)w[(i * H + h) * K + k] + along * (double)numbers[5][(i * H + h) * K + k];
                }
                for (int k = 0; k < K; k++) dot += row[k] * (double)numbers[0][(t * H + h) * K + k];
                for (int v = 0; v < V; v++) want[v] += 2 * dot * (double)numbers[2][(from * H + h) * V + v];
            }
            for (int v = 0; v < V; v++) near((double)y[(t * H + h) * V + v], want[v], 1e-6 * (1 + fabs(want[v])));
        }
    past_stays(STRAND_OP_DELTA_RULE, &p, in, 7, H * V);
    in_two(STRAND_OP_DELTA_RULE, &p, in, 7, two, H * V, &kept);
    for (int i = 0; i < L * H * V; i++) near((double)y[i], (double)two[i], 1e-5 * (1 + fabs((double)y[i])));
}

static double kernel(uint32_t feature, const float *q, const float *k) {
    double sum = 0;
    for (int i = 0; i < K; i++) {
        double a = (double)q[i], b = (double)k[i];
        if (feature == STRAND_FEATURE_ELU1) a = a > 0 ? a + 1 : exp(a), b = b > 0 ? b + 1 : exp(b);
        if (feature == STRAND_FEATURE_RELU) a = fmax(a, 0), b = fmax(b, 0);
        sum += a * b;
    }
    if (feature == STRAND_FEATURE_TAYLOR2) sum = 1 + sum / sqrt(K) + sum * sum / (2 * K);
    return sum;
}

static void linear_attention(void **unused) {
    float y[L * H * V], two[L * H * V], s[H * (V + 1) * (1 + K + K * K)], s2[H * (V + 1) * (1 + K + K * K)];
    (void)unused;
    for (uint32_t form = 0; form < 8; form++) {
        strand_op_linear_attention p = {.heads = H, .feature = form / 2, .normalise = form & 1, .eps = 2.5f};
        int64_t features = p.feature == STRAND_FEATURE_TAYLOR2 ? 1 + K + K * K : K;
        strand_plugin_tensor in[4] = {seq(numbers[0], 0, L, H * K), seq(numbers[1], 0, L, H * K), seq(numbers[2], 0, L, H * V)};
        strand_plugin_tensor out[2] = {seq(y, 0, L, H * V), state(s, features, V + 1)}, kept = state(s2, features, V + 1);
        run_outputs(STRAND_OP_LINEAR_ATTENTION, &p, in, 4, out, 2);
        for (int h = 0; h < H; h++)
            for (int t = 0; t < L; t++)
                for (int v = 0; v < V; v++) {
                    double sum = 0, all = p.normalise ? 2.5 : 1;
                    for (int from = 0; from <= t; from++) {
                        double weight = kernel(p.feature, numbers[0] + (t * H + h) * K, numbers[1] + (from * H + h) * K);
                        sum += weight * (double)numbers[2][(from * H + h) * V + v];
                        if (p.normalise) all += weight;
                    }
                    near((double)y[(t * H + h) * V + v], sum / all, 1e-5 * (1 + fabs(sum / all)));
                }
        past_stays(STRAND_OP_LINEAR_ATTENTION, &p, in, 4, H * V);
        in_two(STRAND_OP_LINEAR_ATTENTION, &p, in, 4, two, H * V, &kept);
        for (int i = 0; i < L * H * V; i++) near((double)y[i], (double)two[i], 5e-5 * (1 + fabs((double)y[i])));
        same(s, s2, (size_t)(H * features * (V + 1)), 1e-5);
    }
}

/* The state of WKV4 has rank 3 and an extent of its own that is not the length. */
static void wkv4(void **unused) {
    enum { C = 3 };
    float y[L * C], two[L * C], s[3 * C], s2[3 * C], w[C] = {-0.1f, -2, 0}, u[C] = {0.5f, -1, 3};
    int64_t dims[3] = {1, 3, C};
    (void)unused;
    strand_plugin_tensor in[5] = {seq(numbers[0], 0, L, C), seq(numbers[1], 0, L, C), vector(w, C), vector(u, C)};
    strand_plugin_tensor kept = tensor(STRAND_PLUGIN_F32, s2, 3, dims),
                         out[2] = {seq(y, 0, L, C), tensor(STRAND_PLUGIN_F32, s, 3, dims)};
    run_outputs(STRAND_OP_WKV4, NULL, in, 5, out, 2);
    for (int c = 0; c < C; c++)
        for (int t = 0; t < L; t++) {
            double top = 0, bottom = 0;
            for (int from = 0; from <= t; from++) {
                double weight =
                    exp((double)numbers[0][from * C + c] + (from == t ? (double)u[c] : (t - 1 - from) * (double)w[c]));
                top += weight * (double)numbers[1][from * C + c];
                bottom += weight;
            }
            near((double)y[t * C + c], top / bottom, 1e-6);
        }
    past_stays(STRAND_OP_WKV4, NULL, in, 5, C);
    in_two(STRAND_OP_WKV4, NULL, in, 5, two, C, &kept);
    same(y, two, L * C, 1e-6);
    same(s, s2, 3 * C, 1e-6);
}

static void token_shift(void **unused) {
    enum { C = 5 };
    float y[L * C], two[L * C], s[C];
    int64_t dims[2] = {1, C};
    (void)unused;
    for (uint32_t form = 0; form < 3; form++) {
        strand_op_token_shift p = {.form = form == 2 ? STRAND_SHIFT_LERP_PREV : STRAND_SHIFT_LERP_X};
        strand_plugin_tensor in[3] = {seq(numbers[0], 0, L, C)}, out = seq(y, 0, L, C),
                             kept = tensor(STRAND_PLUGIN_F32, s, 2, dims);
        if (form) in[1] = vector(numbers[1], C);
        run(STRAND_OP_TOKEN_SHIFT, &p, in, 3, &out);
        for (int i = 0; i < L * C; i++) {
            double x = (double)numbers[0][i], prev = i < C ? 0 : (double)numbers[0][i - C], m = (double)numbers[1][i % C];
            near((double)y[i], form == 0 ? prev : form == 1 ? x * m + prev * (1 - m) : x + (prev - x) * m, 1e-6);
        }
        in_two(STRAND_OP_TOKEN_SHIFT, &p, in, 3, two, C, &kept);
        same(y, two, L * C, 0);
        same(s, numbers[0] + (L - 1) * C, C, 0);
    }
}

static int begin(void **unused) {
    (void)unused;
    make_numbers();
    return 0;
}

REFERENCE_MAIN("matrix states", cmocka_unit_test_setup(ssd, begin), cmocka_unit_test(retention),
               cmocka_unit_test(gated_linear_attention), cmocka_unit_test_setup(delta_rule, begin),
               cmocka_unit_test_setup(linear_attention, begin), cmocka_unit_test(wkv4), cmocka_unit_test(token_shift))

/* test_reference_scans.c - the scans and the generators of their filters against closed forms and against formulas written
 * out again here in double precision; and a sequence cut in pieces, with the state handed on, against the whole. Any CPU
 * module will do as argument: the fast ones have the same answers, to rounding. */
#include "reference_support.h"

#include <complex.h>
#include <stdlib.h>

#define TOLERANCE 2e-5

static strand_plugin_tensor t3(float *data, int64_t a, int64_t b, int64_t c) {
    return tensor(STRAND_PLUGIN_F32, data, 3, (const int64_t[]){a, b, c});
}
static strand_plugin_tensor t4(float *data, int64_t a, int64_t b, int64_t c, int64_t d) {
    return tensor(STRAND_PLUGIN_F32, data, 4, (const int64_t[]){a, b, c, d});
}
/* Tokens [begin, end) of [B, L, ...]. */
static strand_plugin_tensor tokens(strand_plugin_tensor t, int64_t begin, int64_t end) {
    t.memory.data = (float *)t.memory.data + begin * t.strides[1];
    t.dims[1] = t.whole[1] = end - begin;
    return t;
}
static void waves(float *x, int n, double low, double high) {
    static int seed = 1;
    for (int i = 0; i < n; i++) x[i] = (float)(low + (high - low) * (0.5 + 0.5 * (double)wave(seed++ % 3000)));
}

/* Runs a scan whole, then its pieces [0, cut) and [cut, L) with the state handed on in place; both must agree. Inputs in
 * `along` have tokens on axis 1; `state` is the index of the state. */
static void whole_and_pieces(uint32_t op, const void *params, strand_plugin_tensor *in, uint32_t n, const bool *along,
                             uint32_t state, strand_plugin_tensor y, strand_plugin_tensor last, bool reverse) {
    int64_t length = y.dims[1], size = y.dims[0] * y.strides[0], states = last.dims[0] * last.strides[0];
    float *pieces = calloc((size_t)size, sizeof *pieces), *h = calloc((size_t)states, sizeof *h);
    strand_plugin_tensor out[2] = {y, last};
    run_outputs(op, params, in, n, out, 2);
    for (int64_t cut = 1; cut < length; cut += 1 + length / 5) {
        memset(h, 0, (size_t)states * sizeof *h);
        if (in[state].dtype) memcpy(h, in[state].memory.data, (size_t)states * sizeof *h);
        for (int part = 0; part < 2; part++) {
            int64_t begin = (part ^ (int)reverse) ? cut : 0, end = (part ^ (int)reverse) ? length : cut;
            strand_plugin_tensor some[STRAND_PLUGIN_MAX_INPUTS] = {{0}}, made[2] = {y, last};
            for (uint32_t i = 0; i < n; i++) some[i] = in[i].dtype && along[i] ? tokens(in[i], begin, end) : in[i];
            made[0].memory.data = pieces;
            made[0] = tokens(made[0], begin, end);
            made[1].memory.data = h;
            some[state] = last;
            some[state].memory.data = h;
            run_outputs(op, params, some, n, made, 2);
        }
        for (int64_t i = 0; i < size; i++) near((double)pieces[i], (double)((float *)y.memory.data)[i], TOLERANCE);
        for (int64_t i = 0; i < states; i++) near((double)h[i], (double)((float *)last.memory.data)[i], TOLERANCE);
    }
    free(pieces);
    free(h);
}

/* ---- selective scan ---- */

#define B 2
#define L 41
#define C 5
#define N 3

static void selective_closed_form(void **state) {
    /* one state, everything constant: h[t] = d (1 - a^(t+1)) / (1 - a) */
    float u[L], dt[L], a = -0.7f, b[L], c[L], y[L];
    double d = log1p(exp(-1.0)), decay = exp(-(double)0.7f * d);
    strand_op_selective_scan p = {1};
    (void)state;
    for (int i = 0; i < L; i++) u[i] = b[i] = 1, c[i] = 2, dt[i] = -1;
    strand_plugin_tensor in[5] = {t3(u, 1, L, 1), t3(dt, 1, L, 1), matrix(&a, 1, 1), t3(b, 1, L, 1), t3(c, 1, L, 1)},
                         out = t3(y, 1, L, 1);
    run_outputs(STRAND_OP_SELECTIVE_SCAN, &p, in, 5, &out, 1);
    for (int i = 0; i < L; i++) near((double)y[i], 2 * d * (1 - pow(decay, i + 1)) / (1 - decay), 1e-5);
    p.softplus = 0;
    for (int i = 0; i < L; i++) dt[i] = 0.5f;
    decay = exp(-(double)0.7f * 0.5);
    run_outputs(STRAND_OP_SELECTIVE_SCAN, &p, in, 5, &out, 1);
    for (int i = 0; i < L; i++) near((double)y[i], (1 - pow(decay, i + 1)) / (1 - decay), 1e-5);
}

static void selective_formula(void **state) {
    float u[B * L * C], dt[B * L * C], a[C * N], b[B * L * N], c[B * L * N], d[C], z[B * L * C], bias[C], h[B * C * N],
        y[B * L * C], last[B * C * N];
    strand_op_selective_scan p = {1};
    static const bool along[9] = {true, true, false, true, true, false, true, false, false};
    (void)state;
    waves(u, B * L * C, -2, 2), waves(dt, B * L * C, -4, 2), waves(a, C * N, -3, -0.1), waves(b, B * L * N, -1, 1),
        waves(c, B * L * N, -1, 1);
    waves(d, C, -1, 1), waves(z, B * L * C, -3, 3), waves(bias, C, -1, 1), waves(h, B * C * N, -1, 1);
    dt[3] = 30;
    strand_plugin_tensor in[9] = {t3(u, B, L, C), t3(dt, B, L, C), matrix(a, C, N),  t3(b, B, L, N), t3(c, B, L, N),
                                  vector(d, C),   t3(z, B, L, C),  vector(bias, C), t3(h, B, C, N)};
    whole_and_pieces(STRAND_OP_SELECTIVE_SCAN, &p, in, 9, along, 8, t3(y, B, L, C), t3(last, B, C, N), false);
    for (int i = 0; i < B * C; i++) {
        int q = i / C, k = i % C;
        double s[N];
        for (int n = 0; n < N; n++) s[n] = (double)h[i * N + n];
        for (int t = 0; t < L; t++) {
            int at = (q * L + t) * C + k;
            double step = (double)dt[at] + (double)bias[k], sum = 0;
            if (step <= 20) step = log(1 + exp(step));
            for (int n = 0; n < N; n++) {
                s[n] = exp(step * (double)a[k * N + n]) * s[n] + step * (double)b[(q * L + t) * N + n] * (double)u[at];
                sum += s[n] * (double)c[(q * L + t) * N + n];
            }
            near((double)y[at], (sum + (double)d[k] * (double)u[at]) * (double)z[at] / (1 + exp(-(double)z[at])), TOLERANCE);
        }
        for (int n = 0; n < N; n++) near((double)last[i * N + n], s[n], TOLERANCE);
    }
}

/* ---- linear time-invariant scan ---- */

/* The answer to an impulse is scale Re sum out in pole^t; with reverse, backwards. */
static void lti_impulse(void **state) {
    float u[L * C] = {0}, poles[C * N * 2], in_rows[C * N * 2], out_rows[C * N * 2], skip[C], y[L * C];
    (void)state;
    waves(poles, C * N * 2, -0.65, 0.65), waves(in_rows, C * N * 2, -1, 1), waves(out_rows, C * N * 2, -1, 1),
        waves(skip, C, -1, 1);
    for (int variant = 0; variant < 8; variant++) {
        bool pairs = variant & 1, reverse = variant & 2, logarithms = variant & 4;
        strand_op_lti_scan p = {.log_poles = logarithms, .reverse = reverse, .scale = 2};
        strand_plugin_tensor in[5] = {t3(u, 1, L, C)}, out = t3(y, 1, L, C);
        float *rows[3] = {poles, in_rows, out_rows};
        for (int i = 0; i < 3; i++) in[i + 1] = pairs ? t3(rows[i], C, N, 2) : matrix(rows[i], C, N);
        in[4] = vector(skip, C);
        for (int k = 0; k < C; k++) u[(reverse ? L - 1 : 0) * C + k] = 1, u[(reverse ? 0 : L - 1) * C + k] = 0;
        if (logarithms)
            for (int i = 0; i < C * N * 2; i += pairs ? 2 : 1) poles[i] = -(float)fabs((double)poles[i]);
        run_outputs(STRAND_OP_LTI_SCAN, &p, in, 5, &out, 1);
        for (int t = 0; t < L; t++)
            for (int k = 0; k < C; k++) {
                double want = t == 0 ? (double)skip[k] : 0;
                for (int n = 0; n < N; n++) {
                    int at = k * N + n;
                    double complex pole = pairs ? (double)poles[2 * at] + I * (double)poles[2 * at + 1] : (double)poles[at];
                    double complex b = pairs ? (double)in_rows[2 * at] + I * (double)in_rows[2 * at + 1] : (double)in_rows[at];
                    double complex c =
                        pairs ? (double)out_rows[2 * at] + I * (double)out_rows[2 * at + 1] : (double)out_rows[at];
                    want += 2 * creal(b * c * (logarithms ? cexp(pole * t) : t ? cpow(pole, t) : 1));
                }
                near((double)y[(reverse ? L - 1 - t : t) * C + k], want, TOLERANCE);
            }
    }
}

static void lti_pieces(void **state) {
    float u[B * L * C], poles[N * 2], rows[C * N * 2], h[B * C * N * 2], y[B * L * C], last[B * C * N * 2];
    static const bool along[6] = {true};
    (void)state;
    waves(u, B * L * C, -1, 1), waves(poles, N * 2, -0.65, 0.65), waves(rows, C * N * 2, -1, 1), waves(h, B * C * N * 2, -1, 1);
    for (int reverse = 0; reverse < 2; reverse++) {
        strand_op_lti_scan p = {.reverse = (uint32_t)reverse, .scale = 1};
        strand_plugin_tensor in[6] = {t3(u, B, L, C), t3(poles, 1, N, 2), t3(rows, C, N, 2), {0}, {0}, t4(h, B, C, N, 2)};
        whole_and_pieces(STRAND_OP_LTI_SCAN, &p, in, 6, along, 5, t3(y, B, L, C), t4(last, B, C, N, 2), reverse);
        strand_plugin_tensor real[6] = {t3(u, B, L, C), matrix(poles, 1, N), {0}, matrix(rows, C, N), {0}, {0}};
        whole_and_pieces(STRAND_OP_LTI_SCAN, &p, real, 6, along, 5, t3(y, B, L, C), t3(last, B, C, N), reverse);
    }
}

/* ---- linear recurrence ---- */

static void recurrence_closed_form(void **state) {
    float x[L], a = 0.75f, y[L], turn[2] = {0, 1}, pairs[L * 2], spiral[L * 2];
    strand_op_linear_recurrence p = {0};
    (void)state;
    for (int i = 0; i < L; i++) x[i] = 1;
    strand_plugin_tensor in[2] = {t3(x, 1, L, 1), vector(&a, 1)}, out = t3(y, 1, L, 1);
    run_outputs(STRAND_OP_LINEAR_RECURRENCE, &p, in, 2, &out, 1);
    for (int i = 0; i < L; i++) near((double)y[i], (1 - pow(0.75, i + 1)) / 0.25, 1e-5);
    /* an impulse that turns by a right angle a token */
    memset(pairs, 0, sizeof pairs);
    pairs[0] = 1;
    p.complex_pairs = 1;
    strand_plugin_tensor in2[2] = {t4(pairs, 1, L, 1, 2), matrix(turn, 1, 2)}, out2 = t4(spiral, 1, L, 1, 2);
    run_outputs(STRAND_OP_LINEAR_RECURRENCE, &p, in2, 2, &out2, 1);
    for (int i = 0; i < L; i++) {
        near((double)spiral[2 * i], i % 4 == 0 ? 1 : i % 4 == 2 ? -1 : 0, 1e-6);
        near((double)spiral[2 * i + 1], i % 4 == 1 ? 1 : i % 4 == 3 ? -1 : 0, 1e-6);
    }
}

static void recurrence_gated(void **state) {
    float x[B * L * C], a[B * L * C], y[B * L * C], last[B * C], h[B * C];
    static const bool along[3] = {true, true, false};
    (void)state;
    waves(x, B * L * C, -2, 2), waves(h, B * C, -1, 1);
    for (int variant = 0; variant < 8; variant++) {
        bool logarithms = variant & 1, with_state = variant & 2, reverse = variant & 4;
        strand_op_linear_recurrence p = {.log_a = logarithms, .reverse = reverse, .form = STRAND_RECURRENCE_RGLRU};
        strand_plugin_tensor in[3] = {t3(x, B, L, C), t3(a, B, L, C)};
        if (logarithms)
            waves(a, B * L * C, -2, -0.001);
        else
            waves(a, B * L * C, 0.05, 0.99);
        if (with_state) in[2] = matrix(h, B, C);
        strand_plugin_tensor out[2] = {t3(y, B, L, C), matrix(last, B, C)};
        run_outputs(STRAND_OP_LINEAR_RECURRENCE, &p, in, 3, out, 2);
        for (int i = 0; i < B * C; i++) {
            double s = with_state ? (double)h[i] : 0;
            for (int step = 0; step < L; step++) {
                int at = (i / C * L + (reverse ? L - 1 - step : step)) * C + i % C;
                double decay = logarithms ? exp((double)a[at]) : (double)a[at];
                double gain = step == 0 && !with_state ? 1 : sqrt(1 - decay * decay);
                s = decay * s + gain * (double)x[at];
                near((double)y[at], s, TOLERANCE);
            }
            near((double)last[i], s, TOLERANCE);
        }
        if (with_state)
            whole_and_pieces(STRAND_OP_LINEAR_RECURRENCE, &p, in, 3, along, 2, t3(y, B, L, C), matrix(last, B, C), reverse);
    }
}

static void recurrence_logarithms_of_pairs(void **state) {
    float x[L * C * 2], a[L * C * 2], y[L * C * 2];
    strand_op_linear_recurrence p = {.complex_pairs = 1, .log_a = 1};
    (void)state;
    waves(x, L * C * 2, -1, 1), waves(a, L * C * 2, -3, 3);
    for (int i = 0; i < L * C; i++) a[2 * i] = -(float)fabs((double)a[2 * i]) / 10;
    strand_plugin_tensor in[2] = {t4(x, 1, L, C, 2), t4(a, 1, L, C, 2)}, out = t4(y, 1, L, C, 2);
    run_outputs(STRAND_OP_LINEAR_RECURRENCE, &p, in, 2, &out, 1);
    for (int k = 0; k < C; k++) {
        double complex s = 0;
        for (int t = 0; t < L; t++) {
            int at = 2 * (t * C + k);
            s = cexp((double)a[at] + I * (double)a[at + 1]) * s + (double)x[at] + I * (double)x[at + 1];
            near((double)y[at], creal(s), TOLERANCE);
            near((double)y[at + 1], cimag(s), TOLERANCE);
        }
    }
}

/* ---- companion systems ---- */

#define W 6 /* their width */

/* s <- (A + b k) s + b u with the matrix written out. */
static void companion(double *s, const float *a, const float *b, const float *k, double u) {
    double next[W] = {0};
    for (int i = 0; i < W; i++) {
        next[i] = (double)b[i] * u;
        for (int j = 0; j < W; j++) {
            double entry = (j == i - 1 ? 1 : 0) + (j == W - 1 ? (double)a[i] : 0) + (k ? (double)b[i] * (double)k[j] : 0);
            next[i] += entry * s[j];
        }
    }
    memcpy(s, next, sizeof next);
}

static double inner(const float *c, const double *s) {
    double sum = 0;
    for (int i = 0; i < W; i++) sum += (double)c[i] * s[i];
    return sum;
}

/* With a = (1, 0, ...) the matrix is a rotation of places: b = e_0 is seen through c one place after another. */
static void companion_filter(void **state) {
    float a[2 * W] = {1}, b[2 * W] = {1}, c[2 * W], filter[2 * L];
    (void)state;
    waves(c, 2 * W, -1, 1), waves(a + W, W, -0.2, 0.2), waves(b + W, W, -1, 1);
    strand_plugin_tensor in[3] = {matrix(a, 2, W), matrix(b, 2, W), matrix(c, 2, W)}, out = matrix(filter, 2, L);
    run_outputs(STRAND_OP_SSM_KERNEL_COMPANION, NULL, in, 3, &out, 1);
    double s[W];
    for (int i = 0; i < W; i++) s[i] = (double)b[W + i];
    for (int t = 0; t < L; t++) {
        near((double)filter[t], (double)c[t % W], 1e-6);
        near((double)filter[L + t], inner(c + W, s), 1e-5);
        companion(s, a + W, b + W, NULL, 0);
    }
}

static void companion_open(void **state) {
    float a[2 * W], b[2 * W], c[2 * W], u[B * L * 6], skip[6], h[B * 6 * W], y[B * L * 6], last[B * 6 * W];
    strand_op_companion_scan p = {0};
    static const bool along[7] = {false, false, false, true};
    (void)state;
    waves(a, 2 * W, -0.2, 0.2), waves(b, 2 * W, -1, 1), waves(c, 2 * W, -1, 1), waves(u, B * L * 6, -1, 1),
        waves(skip, 6, -1, 1), waves(h, B * 6 * W, -1, 1);
    strand_plugin_tensor in[7] = {matrix(a, 2, W), matrix(b, 2, W), matrix(c, 2, W), t3(u, B, L, 6), {0},
                                  vector(skip, 6), t3(h, B, 6, W)};
    whole_and_pieces(STRAND_OP_COMPANION_SCAN, &p, in, 7, along, 6, t3(y, B, L, 6), t3(last, B, 6, W), false);
    for (int i = 0; i < B * 6; i++) {
        int k = i % 6 / 3 * W; /* three channels a kernel */
        double s[W];
        for (int n = 0; n < W; n++) s[n] = (double)h[i * W + n];
        for (int t = 0; t < L; t++) {
            int at = (i / 6 * L + t) * 6 + i % 6;
            companion(s, a + k, b + k, NULL, (double)u[at]);
            near((double)y[at], inner(c + k, s) + (double)skip[i % 6] * (double)u[at], TOLERANCE);
        }
        for (int n = 0; n < W; n++) near((double)last[i * W + n], s[n], TOLERANCE);
    }
}

static void companion_closed(void **state) {
    float a[6 * W], b[6 * W], c[6 * W], k[6 * W], h[B * 6 * W], y[B * L * 6], last[B * 6 * W];
    strand_op_companion_scan p = {.closed = 1};
    static const bool along[7] = {false};
    (void)state;
    waves(a, 6 * W, -0.2, 0.2), waves(b, 6 * W, -0.2, 0.2), waves(c, 6 * W, -1, 1), waves(k, 6 * W, -0.3, 0.3),
        waves(h, B * 6 * W, -1, 1);
    strand_plugin_tensor in[7] = {matrix(a, 6, W), matrix(b, 6, W), matrix(c, 6, W), {0}, matrix(k, 6, W), {0}, t3(h, B, 6, W)};
    whole_and_pieces(STRAND_OP_COMPANION_SCAN, &p, in, 7, along, 6, t3(y, B, L, 6), t3(last, B, 6, W), false);
    for (int i = 0; i < B * 6; i++) {
        int row = i % 6 * W;
        double s[W];
        for (int n = 0; n < W; n++) s[n] = (double)h[i * W + n];
        for (int t = 0; t < L; t++) {
            near((double)y[(i / 6 * L + t) * 6 + i % 6], inner(c + row, s), TOLERANCE);
            companion(s, a + row, b + row, k + row, 0);
        }
        for (int n = 0; n < W; n++) near((double)last[i * W + n], s[n], TOLERANCE);
    }
}

/* ---- discretisation and generators ---- */

static double complex number(const float *p) {
    return (double)p[0] + I * (double)p[1];
}
static void near_pair(const float *p, double complex z, double error) {
    near((double)p[0], creal(z), error);
    near((double)p[1], cimag(z), error);
}

static void discretisation(void **state) {
    float a[C * N * 2], dt[C], b[N * 2], c[C * N * 2], poles[C * N * 2], coefficients[C * N * 2];
    (void)state;
    waves(a, C * N * 2, -3, -0.1), waves(dt, C, 0.01, 0.3), waves(b, N * 2, -1, 1), waves(c, C * N * 2, -1, 1);
    strand_plugin_tensor in[4] = {t3(a, C, N, 2), vector(dt, C), t3(b, 1, N, 2), t3(c, C, N, 2)},
                         out[2] = {t3(poles, C, N, 2), t3(coefficients, C, N, 2)};
    for (uint32_t method = 0; method < 4; method++) {
        strand_op_ssm_discretize p = {.method = method};
        run_outputs(STRAND_OP_SSM_DISCRETIZE, &p, in, 4, out, 2);
        for (int i = 0; i < C * N; i++) {
            double complex z = (double)dt[i / N] * number(a + 2 * i), bc = number(b + i % N * 2) * number(c + 2 * i),
                           pole = cexp(z), want = bc;
            if (method == STRAND_SSM_ZOH) want = bc * (cexp(z) - 1) / number(a + 2 * i);
            if (method == STRAND_SSM_BILINEAR) want = bc * (double)dt[i / N] / (1 - z / 2), pole = (1 + z / 2) / (1 - z / 2);
            if (method == STRAND_SSM_EULER) want = bc * (double)dt[i / N];
            near(cabs(cexp(number(poles + 2 * i)) - pole), 0, 1e-6);
            near_pair(coefficients + 2 * i, want, 1e-6);
        }
    }
    /* a pure integrator is held for dt */
    float zero[2] = {0}, step = 0.25f;
    strand_op_ssm_discretize p = {.method = STRAND_SSM_ZOH};
    strand_plugin_tensor one[2] = {t3(zero, 1, 1, 2), vector(&step, 1)},
                         both[2] = {t3(poles, 1, 1, 2), t3(coefficients, 1, 1, 2)};
    run_outputs(STRAND_OP_SSM_DISCRETIZE, &p, one, 2, both, 2);
    near_pair(poles, 0, 0);
    near_pair(coefficients, 0.25, 1e-7);
}

/* Powers of the poles; and normalised, where each pole's own powers sum to one, growing ones too. */
static void diagonal_filter(void **state) {
    float poles[C * N * 2], coefficients[C * N * 2], filter[C * 300];
    const int taps = 300;
    (void)state;
    waves(poles, C * N * 2, -0.7, 0.7), waves(coefficients, C * N * 2, -1, 1);
    for (int logarithms = 0; logarithms < 2; logarithms++) {
        strand_op_ssm_kernel_diagonal p = {.log_poles = (uint32_t)logarithms, .scale = 2};
        for (int i = 0; logarithms && i < C * N; i++) {
            double complex z = clog(number(poles + 2 * i));
            poles[2 * i] = (float)creal(z), poles[2 * i + 1] = (float)cimag(z);
        }
        strand_plugin_tensor in[2] = {t3(poles, C, N, 2), t3(coefficients, C, N, 2)}, out = matrix(filter, C, taps);
        run_outputs(STRAND_OP_SSM_KERNEL_DIAGONAL, &p, in, 2, &out, 1);
        for (int k = 0; k < C; k++)
            for (int t = 0; t < taps; t++) {
                double want = 0;
                for (int n = 0; n < N; n++) {
                    double complex pole = number(poles + 2 * (k * N + n)), power = 1;
                    if (logarithms) pole = cexp(pole);
                    for (int i = 0; i < t; i++) power *= pole;
                    want += 2 * creal(number(coefficients + 2 * (k * N + n)) * power);
                }
                near((double)filter[k * taps + t], want, 1e-5);
            }
    }
    float growth[3] = {-0.1f, 0, 0.2f};
    for (int i = 0; i < 3; i++) {
        strand_op_ssm_kernel_diagonal p = {.log_poles = 1, .normalise = 1, .scale = 1};
        float pole[2] = {growth[i], 0.3f}, one[2] = {1, 0};
        strand_plugin_tensor in[2] = {t3(pole, 1, 1, 2), t3(one, 1, 1, 2)}, out = matrix(filter, 1, taps);
        run_outputs(STRAND_OP_SSM_KERNEL_DIAGONAL, &p, in, 2, &out, 1);
        double sum = 0;
        for (int t = 0; t < taps; t++) sum += (double)filter[t];
        near(sum, 1, 1e-5);
        near((double)filter[i == 2 ? taps - 1 : 0],
             i == 2 ? creal(1 - cexp(-(double)growth[i] - I * (double)0.3f))
                    : creal((1 - cexp((double)growth[i] + I * (double)0.3f)) /
                            (1 - cexp(taps * ((double)growth[i] + I * (double)0.3f)))),
             1e-5);
    }
}

/* x <- m^-1 x by elimination, of a small complex matrix that is destroyed. */
static void solve(double complex m[4][4], double complex x[4]) {
    for (int i = 0; i < 4; i++)
        for (int row = 0; row < 4; row++) {
            if (row == i) continue;
            double complex f = m[row][i] / m[i][i];
            for (int k = 0; k < 4; k++) m[row][k] -= f * m[i][k];
            x[row] -= f * x[i];
        }
    for (int i = 0; i < 4; i++) x[i] /= m[i][i];
}

typedef struct dense {
    double complex forward[4][4], backward[4][4]; /* I + dt A / 2, I - dt A / 2 */
} dense;

static void step_dense(const dense *d, double complex x[4]) {
    double complex y[4] = {0}, m[4][4];
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) y[i] += d->forward[i][k] * x[k];
    memcpy(m, d->backward, sizeof m);
    solve(m, y);
    memcpy(x, y, sizeof y);
}

/* The steps of the same system answer a pulse with its filter. */
static void by_steps(const strand_plugin_tensor in[5], int length, const float *filter) {
    float parts[5 * 4], u[40] = {1}, y[40];
    strand_op_ssm_discretize_nplr p = {.length = length};
    strand_op_dplr_scan scan = {.scale = 2};
    int64_t dims[4] = {5, 1, 2, 2};
    strand_plugin_tensor made = tensor(STRAND_PLUGIN_F32, parts, 4, dims), out = t3(y, 1, length, 1),
                         from[6] = {t3(u, 1, length, 1)};
    run_outputs(STRAND_OP_SSM_DISCRETIZE_NPLR, &p, in, 5, &made, 1);
    for (int i = 0; i < 5; i++) from[i + 1] = t3(parts + 4 * i, 1, 2, 2);
    run_outputs(STRAND_OP_DPLR_SCAN, &scan, from, 6, &out, 1);
    for (int t = 0; t < length; t++) near((double)y[t], (double)filter[t], 3e-6);
}

/* Two conjugate pairs as a dense system of four states: the filter is C Abar^t Bbar, and C~ is C (I - Abar^length). */
static void nplr_filter(void **state) {
    float a[4], p[4], b[4], c[4], dt[1] = {0.2f}, filter[40];
    (void)state;
    for (int length = 1; length <= 40; length += length < 10 ? 1 : 15) {
        waves(a, 4, -3, -0.3), waves(p, 4, -0.5, 0.5), waves(b, 4, -1, 1), waves(c, 4, -1, 1);
        double complex av[4], pv[4], bv[4], cv[4], x[4];
        dense d;
        for (int i = 0; i < 4; i++) {
            av[i] = number(a + i / 2 * 2), pv[i] = number(p + i / 2 * 2), bv[i] = number(b + i / 2 * 2),
            cv[i] = number(c + i / 2 * 2);
            if (i % 2) av[i] = conj(av[i]), pv[i] = conj(pv[i]), bv[i] = conj(bv[i]), cv[i] = conj(cv[i]);
        }
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 4; k++) {
                double complex entry = (double)dt[0] / 2 * ((i == k ? av[i] : 0) - pv[i] * conj(pv[k]));
                d.forward[i][k] = (i == k) + entry;
                d.backward[i][k] = (i == k) - entry;
            }
        /* row i of C (I - Abar^length): through what it makes of unit vectors */
        float stored[4];
        for (int i = 0; i < 4; i += 2) {
            double complex unit[4] = {0}, sum = cv[i];
            unit[i] = 1;
            for (int t = 0; t < length; t++) step_dense(&d, unit);
            for (int k = 0; k < 4; k++) sum -= cv[k] * unit[k];
            stored[i] = (float)creal(sum), stored[i + 1] = (float)cimag(sum);
        }
        strand_op_ssm_kernel_nplr params = {.length = length};
        strand_plugin_tensor in[5] = {t3(a, 1, 2, 2), t3(p, 1, 2, 2), t3(b, 1, 2, 2), t3(stored, 1, 2, 2), vector(dt, 1)},
                             out = matrix(filter, 1, length);
        run_outputs(STRAND_OP_SSM_KERNEL_NPLR, &params, in, 5, &out, 1);
        double complex m[4][4];
        memcpy(m, d.backward, sizeof m);
        for (int i = 0; i < 4; i++) x[i] = (double)dt[0] * bv[i];
        solve(m, x);
        for (int t = 0; t < length; t++) {
            double complex want = 0;
            for (int i = 0; i < 4; i++) want += cv[i] * x[i];
            near((double)filter[t], creal(want), 1e-6);
            step_dense(&d, x);
        }
        by_steps(in, length, filter);
    }
}

/* A rotation that shrinks: the free run is known, and with an input of one pulse the state is that run. */
static void dense_closed_form(void **state) {
    enum { TOKENS = 9 };
    const float r = 0.9f, angle = 0.7f;
    float a[4] = {r * cosf(angle), -r * sinf(angle), r * sinf(angle), r * cosf(angle)}, b[2] = {2, 0}, start[2] = {2, 0},
          u[TOKENS] = {1}, y[2 * TOKENS], last[2];
    (void)state;
    for (int driven = 0; driven < 2; driven++) {
        strand_plugin_tensor in[4] = {t3(a, 1, 2, 2), {0}, {0}, {0}}, out[2] = {t3(y, 1, TOKENS, 2), t3(last, 1, 1, 2)};
        if (driven) in[1] = matrix(b, 1, 2), in[2] = t3(u, 1, TOKENS, 1);
        if (!driven) in[3] = t3(start, 1, 1, 2);
        run_outputs(STRAND_OP_DENSE_SCAN, NULL, in, 4, out, 2);
        for (int t = 0; t < TOKENS; t++) {
            double size = 2 * pow((double)r, t);
            near((double)y[2 * t], size * cos((double)angle * t), 1e-5),
                near((double)y[2 * t + 1], size * sin((double)angle * t), 1e-5);
        }
        int made = driven ? TOKENS - 1 : TOKENS; /* a free run gives the state after the last token it has given */
        near((double)last[0], 2 * pow((double)r, made) * cos((double)angle * made), 1e-5);
    }
}

REFERENCE_MAIN("reference scans", cmocka_unit_test(selective_closed_form), cmocka_unit_test(selective_formula),
               cmocka_unit_test(lti_impulse), cmocka_unit_test(lti_pieces), cmocka_unit_test(recurrence_closed_form),
               cmocka_unit_test(recurrence_gated), cmocka_unit_test(recurrence_logarithms_of_pairs),
               cmocka_unit_test(companion_filter), cmocka_unit_test(companion_open), cmocka_unit_test(companion_closed),
               cmocka_unit_test(discretisation), cmocka_unit_test(diagonal_filter), cmocka_unit_test(nplr_filter),
               cmocka_unit_test(dense_closed_form))

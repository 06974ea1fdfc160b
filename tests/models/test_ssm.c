/* test_ssm.c - stacks of layers of the S4 family with random weights: every layer by convolution and by recurrence gives the
 * same; by recurrence a sequence whole, in pieces and step by step does, and one that is saved in the middle and restored
 * has the same bytes. Layers that look ahead agree over whole sequences. Some stacks are judged by a form of their own in
 * double precision, norms, gates and all. The memory of an LMU remembers what it should, and hostile files are one line. */
#include "made.h"

#include <complex.h>
#include <math.h>

#define L     70
#define D     12
#define N     4
#define BATCH 2
#define IN    3
#define OUT   5

typedef struct layer {
    const char *name, *config;
    void (*make)(made *m, const char *at);
    bool ahead;
} layer;

static void linear(made *m, const char *at, const char *name, int rows, int columns) {
    made_add(m, 0, 0.5 / sqrt(columns), DIMS(rows, columns), "%s%s.weight", at, name);
    made_add(m, 0, 0.2, DIMS(rows), "%s%s.bias", at, name);
}

/* Step sizes of e^-3 to e^-1; poles to the left of -e^-1 with angles up to 5. */
static void s4_kernel(made *m, const char *at, const char *dt, const char *re, const char *im, int channels, int h,
                      double im_sign, int rank) {
    made_add(m, -2, 0.55, DIMS(h), "%s%s", at, dt);
    made_add(m, -0.5, 0.3, DIMS(h, N), "%s%s", at, re);
    made_add(m, 2.5 * im_sign, 1.4, DIMS(h, N), "%s%s", at, im);
    made_add(m, 0, 0.6, DIMS(1, h, N, 2), "%sB", at);
    made_add(m, 0, 0.4, DIMS(channels, h, N, 2), "%sC", at);
    if (rank) made_add(m, 0, 0.4, DIMS(rank, h, N, 2), "%sP", at);
}

static void make_s4_block(made *m, const char *at, int rank, int channels) {
    char base[64];
    snprintf(base, sizeof base, "%slayer.kernel.", at);
    s4_kernel(m, base, "inv_dt", "A_real", "A_imag", channels, D, 1, rank);
    made_add(m, 0, 0.5, DIMS(1, D), "%slayer.D", at);
    linear(m, at, "output_linear.0", 2 * D, D);
}

static void make_s4(made *m, const char *at) {
    make_s4_block(m, at, 1, 1);
}
static void make_s4d(made *m, const char *at) {
    make_s4_block(m, at, 0, 1);
}
static void make_s4_both(made *m, const char *at) {
    make_s4_block(m, at, 1, 2);
}

static void make_rank_2(made *m, const char *at) {
    make_s4_block(m, at, 2, 1);
}
static void make_rank_3_both(made *m, const char *at) {
    make_s4_block(m, at, 3, 2);
}

/* Version 3 with what Liquid-S4's terms are made of. */
static void make_liquid(made *m, const char *at) {
    char base[64];
    snprintf(base, sizeof base, "%skernel.kernel.", at);
    s4_kernel(m, base, "log_dt", "inv_w_real", "w_imag", 1, D, 1, 1);
    made_add(m, 0, 0.5, DIMS(1, D), "%sD", at);
    linear(m, at, "output_linear.0", 2 * D, D);
    made_add(m, -1, 0.5, DIMS(D), "%sliquid.log_dt", at);
    made_add(m, -0.5, 0.3, DIMS(D, N, 2), "%sliquid.w", at);
    made_add(m, 0, 0.9, DIMS(D, N, 2), "%sliquid.B", at);
    made_add(m, 0, 0.9, DIMS(D, N, 2), "%sliquid.C", at);
}

/* Version 3 with a bottleneck and a gate: GSS. */
static void make_gss(made *m, const char *at) {
    char base[64];
    snprintf(base, sizeof base, "%skernel.kernel.", at);
    s4_kernel(m, base, "log_dt", "inv_A_real", "A_imag", 1, D / 2, 1, 0);
    made_add(m, 0, 0.5, DIMS(1, D / 2), "%sD", at);
    linear(m, at, "input_gate.0", 2 * D, D);
    linear(m, at, "input_linear.0", D / 2, D);
    linear(m, at, "output_linear", 2 * D, D / 2);
    linear(m, at, "output_gate", D, 2 * D);
}

static void make_minimal(made *m, const char *at) {
    made_add(m, 0, 0.5, DIMS(D, N, 2), "%skernel.C", at);
    made_add(m, -2, 0.5, DIMS(D), "%skernel.log_dt", at);
    made_add(m, -0.5, 0.3, DIMS(D, N), "%skernel.log_A_real", at);
    made_add(m, 2.5, 1.4, DIMS(D, N), "%skernel.A_imag", at);
    made_add(m, 0, 0.5, DIMS(D), "%sD", at);
    linear(m, at, "output_linear.0", 2 * D, D);
}

static void make_dss(made *m, const char *at, bool softmax, int channels) {
    made_add(m, -2, 0.5, DIMS(D, 2), "%skernel.log_dt", at);
    if (softmax) {
        made_add(m, -0.5, 0.2, DIMS(N, 2), "%skernel.Lambda", at);
    } else {
        made_add(m, -0.5, 0.3, DIMS(N), "%skernel.Lambda_log_neg_re", at);
        made_add(m, 2.5, 1.4, DIMS(N), "%skernel.Lambda_im", at);
    }
    made_add(m, 0, 0.5, DIMS(channels, D, N, 2), "%skernel.W", at);
    made_add(m, 0, 0.5, DIMS(1, D), "%sD", at);
    linear(m, at, "output_linear", D, D);
}
static void make_dss_exp(made *m, const char *at) {
    make_dss(m, at, false, 1);
}
static void make_dss_softmax(made *m, const char *at) {
    make_dss(m, at, true, 1);
}
static void make_dss_both(made *m, const char *at) {
    make_dss(m, at, false, 2);
}

static void make_s5_layer(made *m, const char *at, bool both) {
    made_add(m, -0.6, 0.2, DIMS(N), "%sseq.Lambda_re", at);
    made_add(m, 2.5, 1.4, DIMS(N), "%sseq.Lambda_im", at);
    made_add(m, -2, 0.5, DIMS(N, 1), "%sseq.log_step", at);
    made_add(m, 0, 0.5, DIMS(N, D, 2), "%sseq.B", at);
    made_add(m, 0, 0.5, DIMS(D, N, 2), both ? "%sseq.C1" : "%sseq.C", at);
    if (both) made_add(m, 0, 0.5, DIMS(D, N, 2), "%sseq.C2", at);
    made_add(m, 0, 0.5, DIMS(D), "%sseq.D", at);
    made_add(m, 1, 0.2, DIMS(D), "%snorm.scale", at);
    made_add(m, 0, 0.2, DIMS(D), "%snorm.bias", at);
    made_add(m, 0, 0.3, DIMS(D, D), "%sout2.kernel", at);
    made_add(m, 0, 0.3, DIMS(D), "%sout2.bias", at);
}
static void make_s5(made *m, const char *at) {
    make_s5_layer(m, at, false);
}
static void make_s5_both(made *m, const char *at) {
    make_s5_layer(m, at, true);
}

static void make_lru(made *m, const char *at) {
    static const char *const rows[] = {"nu_log", "theta_log", "gamma_log"};
    for (int i = 0; i < 3; i++) made_add(m, -1.5, 0.5, DIMS(N), "%sseq.%s", at, rows[i]);
    made_add(m, 0, 0.5, DIMS(N, D), "%sseq.B_re", at);
    made_add(m, 0, 0.5, DIMS(N, D), "%sseq.B_im", at);
    made_add(m, 0, 0.5, DIMS(D, N), "%sseq.C_re", at);
    made_add(m, 0, 0.5, DIMS(D, N), "%sseq.C_im", at);
    made_add(m, 0, 0.5, DIMS(D), "%sseq.D", at);
    made_add(m, 1, 0.2, DIMS(D), "%snormalization.scale", at);
    made_add(m, 0, 0.2, DIMS(D), "%snormalization.bias", at);
    for (int i = 1; i < 3; i++)
        made_add(m, 0, 0.3, DIMS(D, D), "%sout%d.kernel", at, i), made_add(m, 0, 0.3, DIMS(D), "%sout%d.bias", at, i);
}

static void make_ema_rows(made *m, const char *at, int rows) {
    made_add(m, 0, 0.5, DIMS(rows, N, 1), "%smove.delta", at);
    made_add(m, 0, 0.5, DIMS(rows, N, 1), "%smove.alpha", at);
    made_add(m, 0, 0.5, DIMS(rows, N, 1), "%smove.beta", at);
    made_add(m, 0, 0.8, DIMS(rows, N), "%smove.gamma", at);
    made_add(m, 0, 0.5, DIMS(D), "%smove.omega", at);
}
static void make_ema(made *m, const char *at) {
    make_ema_rows(m, at, D);
}
static void make_ema_both(made *m, const char *at) {
    make_ema_rows(m, at, 2 * D);
}

static void make_lmu(made *m, const char *at) {
    linear(m, at, "W_u", 2, D);
    linear(m, at, "W_h", D, 2 * 6 + D);
}

static const layer layers[] = {
    {"s4", "", make_s4, false},
    {"s4d", "\"disc\":\"bilinear\"", make_s4d, false},
    {"s4 both ways", "\"bidirectional\":true", make_s4_both, true},
    {"gss", "\"disc\":\"zoh\"", make_gss, false},
    {"s4d minimal", "", make_minimal, false},
    {"dss exp", "\"version\":\"exp\"", make_dss_exp, false},
    {"dss softmax", "\"version\":\"softmax\"", make_dss_softmax, false},
    {"dss both ways", "\"bidirectional\":true", make_dss_both, true},
    {"s5", "\"activation\":\"half_glu1\"", make_s5, false},
    {"s5 both ways", "\"prenorm\":true", make_s5_both, true},
    {"lru", "", make_lru, false},
    {"ema", "", make_ema, false},
    {"ema both ways", "", make_ema_both, true},
    {"lmu", "\"theta\":20", make_lmu, false},
    {"s4 of rank 2", "", make_rank_2, false},
    {"s4 of rank 3 both ways", "\"bidirectional\":true", make_rank_3_both, true},
    {"liquid shift", "\"liquid_kernel\":\"polyb\",\"allcombs\":false,\"liquid_degree\":3", make_liquid, true},
    {"liquid all", "\"liquid_kernel\":\"polyb\",\"lcontract\":\"tanh\"", make_liquid, true},
    {"liquid kb", "\"liquid_kernel\":\"kb\",\"allcombs\":false", make_liquid, true}};

static void make_stack(made *m, const layer *k) {
    char at[64];
    linear(m, "", "encoder", D, IN);
    for (int i = 0; i < 2; i++) {
        snprintf(at, sizeof at, "layers.%d.", i);
        k->make(m, at);
        if (k->make == make_s5 || k->make == make_s5_both || k->make == make_lru) continue; /* these have their own norms */
        made_add(m, 1, 0.2, DIMS(D), "norms.%d.weight", i);
        made_add(m, 0, 0.2, DIMS(D), "norms.%d.bias", i);
    }
    linear(m, "", "decoder", OUT, D);
    made_write(m);
}

/* ---- runs ---- */

static made_session open_stack(strand_context *c, const made *m, const char *config, const char *mode) {
    char setting[32], text[300];
    snprintf(setting, sizeof setting, "mode=%s", mode);
    snprintf(text, sizeof text, "{%s}", config);
    return made_open(c, m, text, setting, BATCH, L, NULL);
}

/* Tokens [first, first + n) of x [BATCH, L, width]; output [BATCH, L, out]. */
static void run(strand_session *s, const float *x, int width, int first, int n, float *y, int out) {
    const float *result = made_run(s, "x", x, BATCH, L, width, first, n, "output", BATCH * n * out * 4);
    for (int b = 0; b < BATCH; b++) memcpy(y + (b * L + first) * out, result + b * n * out, (size_t)(n * out) * sizeof *y);
}

static double relative(const float *a, const float *b, int n) {
    double d = 0, s = 0;
    for (int i = 0; i < n; i++) d += pow((double)a[i] - (double)b[i], 2), s += pow((double)b[i], 2);
    return sqrt(d / s);
}

static void judge_stream(const layer *k, made_session *r, randoms *rand, const float *x, const float *whole) {
    float y[BATCH * L * OUT];
    for (int most = 1; most < 30; most += 12) {
        assert_int_equal(strand_session_reset(r->session, -1), STRAND_OK);
        for (int at = 0, n; at < L; at += n) {
            n = 1 + (int)random_below(rand, most);
            if (n > L - at) n = L - at;
            run(r->session, x, IN, at, n, y, OUT);
        }
        double d = relative(y, whole, BATCH * L * OUT);
        if (!(d < 2e-6)) fail_msg("%s: pieces of up to %d differ from the whole by %.3g", k->name, most, d);
    }
}

static void judge_saved(strand_context *c, const layer *k, made_session *r, const float *x) {
    float y[BATCH * L * OUT] = {0}, again[BATCH * L * OUT] = {0};
    assert_int_equal(strand_session_reset(r->session, -1), STRAND_OK);
    run(r->session, x, IN, 0, 31, y, OUT);
    strand_session *other = made_fork(c, r, BATCH);
    run(r->session, x, IN, 31, L - 31, y, OUT);
    run(other, x, IN, 31, L - 31, again, OUT);
    for (int b = 0; b < BATCH; b++)
        if (memcmp(y + (b * L + 31) * OUT, again + (b * L + 31) * OUT, (L - 31) * OUT * sizeof *y))
            fail_msg("%s: restored, it has other bytes", k->name);
    strand_session_close(other);
}

/* l_kernel, a whole number, is no tensor that `made` makes: S4's length then is the config's l_max. */
static void both_ways(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 2});
    static made m;
    m.r = (randoms){4004};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        const layer *k = &layers[i];
        float x[BATCH * L * IN], y[2][BATCH * L * OUT];
        char config[160];
        snprintf(config, sizeof config, "%s%s\"l_max\":%d", k->config, *k->config ? "," : "", L);
        make_stack(&m, k);
        random_fill(&m.r, x, BATCH * L * IN, 1);
        for (int mode = 0; mode < 2; mode++) {
            made_session r = open_stack(c, &m, config, mode ? "recurrence" : "conv");
            run(r.session, x, IN, 0, L, y[mode], OUT);
            strand_model_info info;
            assert_int_equal(strand_model_get(r.model, &info), STRAND_OK);
            assert_string_equal(info.family, "ssm_stack");
            assert_int_equal(info.stateful != 0, mode && !k->ahead);
            if (mode && !k->ahead) judge_stream(k, &r, &m.r, x, y[1]), judge_saved(c, k, &r, x);
            made_close(&r);
        }
        double d = relative(y[0], y[1], BATCH * L * OUT);
        print_message("  %-22s convolution and recurrence differ by %.1e\n", k->name, d);
        if (!(d < 5e-6)) fail_msg("%s: convolution and recurrence differ by %.3g", k->name, d);
        made_free(&m);
    }
    strand_context_close(c);
}

/* ---- the stack in double precision, token by token ---- */

/* The states of one layer: re and im of each. */
typedef struct memory {
    double complex h[D][8], x[N];
} memory;

static double complex pair(const float *p, int i) {
    return (double)p[2 * i] + I * (double)p[2 * i + 1];
}

/* One step of a diagonal system by zero-order hold: 2 Re C h. */
static double hold(double complex *h, const float *re, const float *im, double im_sign, double dt, const float *b,
                   const float *c, double u) {
    double complex y = 0;
    for (int n = 0; n < N; n++) {
        double complex a = -exp((double)re[n]) + I * im_sign * (double)im[n];
        h[n] = cexp(dt * a) * h[n] + (cexp(dt * a) - 1) / a * (b ? pair(b, n) : 1) * u;
        y += pair(c, n) * h[n];
    }
    return 2 * creal(y);
}

static void dense_of(const made *m, const char *at, const char *name, const double *x, double *y, int rows, int columns) {
    d_linear(y, made_find(m, "%s%s.weight", at, name), made_find(m, "%s%s.bias", at, name), x, rows, columns);
}

static void glu_of(double *y, const double *both, int n) {
    for (int i = 0; i < n; i++) y[i] = both[i] * d_sigmoid(both[n + i]);
}

static void d_minimal(const made *m, const char *at, memory *s, const double *x, double *y) {
    double g[D], both[2 * D];
    for (int c = 0; c < D; c++)
        g[c] = d_gelu(hold(s->h[c], made_find(m, "%skernel.log_A_real", at) + c * N,
                           made_find(m, "%skernel.A_imag", at) + c * N, 1, exp((double)made_find(m, "%skernel.log_dt", at)[c]),
                           NULL, made_find(m, "%skernel.C", at) + c * N * 2, x[c]) +
                      (double)made_find(m, "%sD", at)[c] * x[c]);
    dense_of(m, at, "output_linear.0", g, both, 2 * D, D);
    glu_of(y, both, D);
}

static void d_gss(const made *m, const char *at, memory *s, const double *x, double *y) {
    double v[2 * D], u[D / 2], g[D / 2], wide[2 * D];
    dense_of(m, at, "input_gate.0", x, v, 2 * D, D);
    dense_of(m, at, "input_linear.0", x, u, D / 2, D);
    for (int c = 0; c < D / 2; c++) {
        u[c] = d_gelu(u[c]);
        g[c] = d_gelu(hold(s->h[c], made_find(m, "%skernel.kernel.inv_A_real", at) + c * N,
                           made_find(m, "%skernel.kernel.A_imag", at) + c * N, 1,
                           exp((double)made_find(m, "%skernel.kernel.log_dt", at)[c]),
                           made_find(m, "%skernel.kernel.B", at) + c * N * 2, made_find(m, "%skernel.kernel.C", at) + c * N * 2,
                           u[c]) +
                      (double)made_find(m, "%sD", at)[c] * u[c]);
    }
    dense_of(m, at, "output_linear", g, wide, 2 * D, D / 2);
    for (int i = 0; i < 2 * D; i++) wide[i] *= d_gelu(v[i]);
    dense_of(m, at, "output_gate", wide, y, D, 2 * D);
}

/* y of states shared by all channels, and what a sequence layer makes of it: x + half_glu1(gelu y), normalised. */
static void d_s5(const made *m, const char *at, memory *s, const double *x, double *y) {
    double g[D], gate[D], sum[D];
    for (int n = 0; n < N; n++) {
        double complex a = (double)made_find(m, "%sseq.Lambda_re", at)[n] + I * (double)made_find(m, "%sseq.Lambda_im", at)[n],
                       drive = 0;
        double step = exp((double)made_find(m, "%sseq.log_step", at)[n]);
        for (int c = 0; c < D; c++) drive += pair(made_find(m, "%sseq.B", at), n * D + c) * x[c];
        s->x[n] = cexp(step * a) * s->x[n] + (cexp(step * a) - 1) / a * drive;
    }
    for (int c = 0; c < D; c++) {
        double complex out = 0;
        for (int n = 0; n < N; n++) out += pair(made_find(m, "%sseq.C", at), c * N + n) * s->x[n];
        g[c] = d_gelu_tanh(2 * creal(out) + (double)made_find(m, "%sseq.D", at)[c] * x[c]);
    }
    for (int c = 0; c < D; c++) {
        gate[c] = (double)made_find(m, "%sout2.bias", at)[c];
        for (int k = 0; k < D; k++) gate[c] += (double)made_find(m, "%sout2.kernel", at)[k * D + c] * g[k];
    }
    for (int c = 0; c < D; c++) sum[c] = x[c] + g[c] * d_sigmoid(gate[c]);
    d_layer_norm(y, made_find(m, "%snorm.scale", at), made_find(m, "%snorm.bias", at), sum, D, 1e-6);
}

static void d_ema(const made *m, const char *at, memory *s, const double *x, double *y) {
    for (int c = 0; c < D; c++) {
        double sum = (double)made_find(m, "%smove.omega", at)[c] * x[c];
        for (int n = 0; n < N; n++) {
            int i = c * N + n;
            double p = d_sigmoid((double)made_find(m, "%smove.delta", at)[i]),
                   q = 1 - p * d_sigmoid((double)made_find(m, "%smove.alpha", at)[i]);
            s->h[c][n] = q * s->h[c][n] + p * (double)made_find(m, "%smove.beta", at)[i] * x[c];
            sum += creal(s->h[c][n]) * (double)made_find(m, "%smove.gamma", at)[i] / sqrt(N);
        }
        y[c] = d_silu(sum);
    }
}

/* x of a x = x, both [n, n] and [n, columns], by elimination. */
static void eliminate(double complex *a, double complex *x, int n, int columns) {
    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k; i < n; i++)
            if (cabs(a[i * n + k]) > cabs(a[best * n + k])) best = i;
        for (int j = 0; j < n + columns; j++) {
            double complex *one = j < n ? &a[k * n + j] : &x[k * columns + j - n],
                           *other = j < n ? &a[best * n + j] : &x[best * columns + j - n], swap = *one;
            *one = *other, *other = swap;
        }
        double complex pivot = a[k * n + k];
        for (int j = 0; j < n; j++) a[k * n + j] /= pivot;
        for (int j = 0; j < columns; j++) x[k * columns + j] /= pivot;
        for (int i = 0; i < n; i++) {
            double complex f = i == k ? 0 : a[i * n + k];
            for (int j = 0; j < n; j++) a[i * n + j] -= f * a[k * n + j];
            for (int j = 0; j < columns; j++) x[i * columns + j] -= f * x[k * columns + j];
        }
    }
}

/* One step of S4 with a low-rank part of rank 2 by its definition: the whole complex matrix of both of each conjugate pair,
 * bilinear, and C (I - step^L) = C~. h [2 N]. */
static double whole_matrix(double complex *h, const float *re, const float *im, const float *p, double dt, const float *b,
                           const float *c, double u) {
    enum { E = 2 * N };
    double complex down[E * E], up[E * E], drive[E], copy[E * E], power[E * E], read[E], next[E], y = 0;
    for (int i = 0; i < E; i++) {
        drive[i] = dt * (i < N ? pair(b, i) : conj(pair(b, i - N)));
        read[i] = i < N ? pair(c, i) : conj(pair(c, i - N));
        for (int k = 0; k < E; k++) {
            double complex a = i == k ? -exp((double)re[i % N]) - (i < N ? I : -I) * (double)im[i % N] : 0;
            for (int r = 0; r < 2; r++) {
                const float *row = p + r * D * N * 2;
                double complex left = i < N ? pair(row, i) : conj(pair(row, i - N)),
                               right = k < N ? conj(pair(row, k)) : pair(row, k - N);
                a -= left * right;
            }
            down[i * E + k] = (i == k) - dt / 2 * a, up[i * E + k] = (i == k) + dt / 2 * a;
        }
    }
    memcpy(copy, down, sizeof copy);
    eliminate(copy, drive, E, 1);
    eliminate(down, up, E, E); /* `up` is the step */
    memcpy(power, up, sizeof power);
    for (int t = 1; t < L; t++) {
        memset(copy, 0, sizeof copy);
        for (int i = 0; i < E; i++)
            for (int k = 0; k < E; k++)
                for (int j = 0; j < E; j++) copy[i * E + j] += power[i * E + k] * up[k * E + j];
        memcpy(power, copy, sizeof power);
    }
    for (int i = 0; i < E; i++)
        for (int k = 0; k < E; k++) copy[k * E + i] = (i == k) - power[i * E + k];
    eliminate(copy, read, E, 1);
    for (int i = 0; i < E; i++) {
        next[i] = drive[i] * u;
        for (int k = 0; k < E; k++) next[i] += up[i * E + k] * h[k];
    }
    for (int i = 0; i < E; i++) h[i] = next[i], y += read[i] * next[i];
    return creal(y);
}

static void d_rank_2(const made *m, const char *at, memory *s, const double *x, double *y) {
    double g[D], both[2 * D];
    for (int c = 0; c < D; c++) {
        int n = c * N;
        g[c] = d_gelu(whole_matrix(s->h[c], made_find(m, "%slayer.kernel.A_real", at) + n,
                                   made_find(m, "%slayer.kernel.A_imag", at) + n, made_find(m, "%slayer.kernel.P", at) + 2 * n,
                                   exp((double)made_find(m, "%slayer.kernel.inv_dt", at)[c]),
                                   made_find(m, "%slayer.kernel.B", at) + 2 * n, made_find(m, "%slayer.kernel.C", at) + 2 * n,
                                   x[c]) +
                      (double)made_find(m, "%slayer.D", at)[c] * x[c]);
    }
    dense_of(m, at, "output_linear.0", g, both, 2 * D, D);
    glu_of(y, both, D);
}

typedef struct double_form {
    const layer *layer;
    void (*step)(const made *m, const char *at, memory *s, const double *x, double *y);
    bool first; /* norms before the layers */
} double_form;

static const double_form double_forms[] = {{&layers[4], d_minimal, false}, {&layers[4], d_minimal, true},
                                           {&layers[3], d_gss, true},      {&layers[8], d_s5, false},
                                           {&layers[11], d_ema, true},     {&layers[14], d_rank_2, true}};

static void stack_step(const made *m, const double_form *f, memory *s, const float *in, double *out) {
    double x[D], u[D], y[D], given[IN];
    for (int i = 0; i < IN; i++) given[i] = (double)in[i];
    dense_of(m, "", "encoder", given, x, D, IN);
    for (int i = 0; i < 2; i++) {
        char at[32];
        snprintf(at, sizeof at, "layers.%d.", i);
        if (f->step == d_s5) {
            f->step(m, at, &s[i], x, y);
            memcpy(x, y, sizeof x);
            continue;
        }
        const float *w = made_find(m, "norms.%d.weight", i), *b = made_find(m, "norms.%d.bias", i);
        if (f->first) d_layer_norm(u, w, b, x, D, 1e-5);
        f->step(m, at, &s[i], f->first ? u : x, y);
        for (int c = 0; c < D; c++) y[c] += x[c];
        if (f->first)
            memcpy(x, y, sizeof x);
        else
            d_layer_norm(x, w, b, y, D, 1e-5);
    }
    dense_of(m, "", "decoder", x, out, OUT, D);
}

static void double_precision(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    static made m;
    m.r = (randoms){77};
    for (size_t i = 0; i < sizeof double_forms / sizeof double_forms[0]; i++) {
        const double_form *f = &double_forms[i];
        float x[BATCH * L * IN], y[BATCH * L * OUT];
        char config[160];
        snprintf(config, sizeof config, "%s%s\"l_max\":%d,\"prenorm\":%s", f->layer->config, *f->layer->config ? "," : "", L,
                 f->first ? "true" : "false");
        make_stack(&m, f->layer);
        random_fill(&m.r, x, BATCH * L * IN, 1);
        for (int mode = 0; mode < 2; mode++) {
            made_session r = open_stack(c, &m, config, mode ? "recurrence" : "conv");
            double off = 0, size = 0, want[OUT];
            run(r.session, x, IN, 0, L, y, OUT);
            for (int b = 0; b < BATCH; b++) {
                memory s[2];
                memset(s, 0, sizeof s);
                for (int t = 0; t < L; t++) {
                    stack_step(&m, f, s, x + (b * L + t) * IN, want);
                    for (int k = 0; k < OUT; k++)
                        off += pow((double)y[(b * L + t) * OUT + k] - want[k], 2), size += want[k] * want[k];
                }
            }
            if (!(sqrt(off / size) < 2e-6))
                fail_msg("%s, form %d: differs from double precision by %.3g", f->layer->name, (int)i, sqrt(off / size));
            made_close(&r);
        }
        made_free(&m);
    }
    strand_context_close(c);
}

/* The sum of an LMU's states is the input theta samples ago, for inputs that change slowly. */
static void lmu_remembers(void **state) {
    (void)state;
    enum { STATES = 6, THETA = 20 };
    strand_context *c = open_context(&(open_with){.threads = 1});
    made m = {.r = {5}};
    made_add(&m, 1, 0, DIMS(1, 1), "W_u.weight");
    made_add(&m, 1, 0, DIMS(1, STATES + 1), "W_h.weight");
    m.tensors[1].data[STATES] = 0; /* h = the sum of the memory */
    made_write(&m);
    for (int mode = 0; mode < 2; mode++) {
        float x[BATCH * L], y[BATCH * L];
        for (int i = 0; i < BATCH * L; i++) x[i] = sinf(0.06f * (float)(i % L)) * (i < L ? 1 : -1);
        made_session r = open_stack(c, &m, "\"theta\":20,\"activation\":\"none\"", mode ? "recurrence" : "conv");
        run(r.session, x, 1, 0, L, y, 1);
        for (int b = 0; b < BATCH; b++)
            for (int t = 2 * THETA; t < L; t++)
                if (!(fabsf(y[b * L + t] - x[b * L + t - THETA + 1]) < 0.05f))
                    fail_msg("after %d samples it remembers %g, not %g", t, (double)y[b * L + t],
                             (double)x[b * L + t - THETA + 1]);
        made_close(&r);
    }
    made_free(&m);
    strand_context_close(c);
}

static void hostile(void **state) {
    static const char *const configs[] = {
        "{\"l_max\":-1}",           "{\"disc\":\"euler\"}",           "{\"real_transform\":\"cube\"}",
        "{\"activation\":\"glu\"}", "{\"bidirectional\":true}",       "{\"pool\":\"median\"}",
        "{\"norm\":\"group\"}",     "{\"layer_norm_epsilon\":\"x\"}", "{\"dt_fast\":true}",
        "{\"hyper_act\":\"gelu\"}"};
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    made m = {.r = {6}};
    make_stack(&m, &layers[1]);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        strand_model *model = NULL;
        if (strand_model_open_memory(c, m.file, m.bytes, configs[i], NULL, &model) == STRAND_OK)
            fail_msg("%s was taken", configs[i]);
        assert_true(strlen(strand_error(c)) > 10 && !strchr(strand_error(c), '\n'));
    }
    made_free(&m);
    m = (made){.r = {8}}; /* a layer's product under weight normalisation: not a layer without one */
    make_s4d(&m, "");
    strcpy(m.tensors[m.n - 2].name, "output_linear.0.weight_v");
    made_write(&m);
    strand_model *model = NULL;
    assert_int_equal(strand_model_open_memory(c, m.file, m.bytes, "{}", NULL, &model), STRAND_ERR_FORMAT);
    assert_non_null(strstr(strand_error(c), "output_linear.0"));
    made_free(&m);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_ways), cmocka_unit_test(double_precision),
                                       cmocka_unit_test(lmu_remembers), cmocka_unit_test(hostile)};
    return cmocka_run_group_tests_name("layers of the S4 family", tests, NULL, NULL);
}

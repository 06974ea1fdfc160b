/* test_spacetime.c - SpaceTime of random weights in every form that the published configurations can take, against a form of
 * its own in double precision that runs three ways: filters and sums, the recurrence of shift and rank one, and the horizon
 * as a matrix. The three agree to 1e-10, and the model in each of its modes with them. As a stream: whole, in pieces, sample
 * by sample, saved and restored. */
#include "made.h"

#include <math.h>

#define LAG     40
#define HORIZON 17
#define BATCH   2
#define MOST    (LAG * 48)

enum { MEAN, LAST, STANDARDIZE, NONE };
static const char *const transforms[] = {"mean", "last", "standardize", "none"};
enum { CONV, RECURRENCE, MATRIX, WAYS };
static const char *const modes[] = {"conv", "recurrence", "matrix"};

typedef struct form {
    int inputs, outputs, d, kernels, dim, blocks, order, transform;
    bool linear, differencing, shift, layernorm;
} form;

static const form forms[] = {
    {.inputs = 1, .outputs = 1, .d = 16, .kernels = 4, .dim = 6, .blocks = 1, .order = 1, .transform = MEAN},
    {.inputs = 1, .outputs = 1, .d = 24, .kernels = 3, .dim = 5, .blocks = 3, .order = 2, .transform = LAST},
    {.inputs = 2, .outputs = 2, .d = 32, .kernels = 4, .dim = 4, .blocks = 2, .order = 0, .transform = STANDARDIZE},
    {.inputs = 3, .outputs = 1, .d = 24, .kernels = 6, .dim = 7, .blocks = 1, .order = 1, .transform = MEAN, .linear = true,
     .layernorm = true},
    {.inputs = 2, .outputs = 2, .d = 16, .kernels = 2, .dim = 1, .blocks = 2, .order = 1, .transform = NONE,
     .differencing = true},
    {.inputs = 1, .outputs = 1, .d = 16, .kernels = 8, .dim = 6, .blocks = 2, .order = 1, .transform = MEAN, .shift = true},
};

/* ---- a random checkpoint ---- */

static void make_ssm(made *m, const char *name, int kernels, const form *f, bool closed) {
    made_add(m, 0, 0.5, DIMS(f->d), "%s.skip", name);
    made_add(m, 0, f->shift ? 0 : 0.3 / f->dim, DIMS(kernels, f->dim), "%s.a", name);
    made_add(m, 0, 0.5, DIMS(kernels, f->dim), "%s.b", name);
    made_add(m, 0, 0.5, DIMS(kernels, f->dim), "%s.c", name);
    if (closed) made_add(m, 0, 0.3 / f->dim, DIMS(kernels, f->dim), "%s.k", name);
}

static void make_model(made *m, const form *f) {
    char name[64];
    if (f->linear)
        made_add(m, 0, 1, DIMS(f->d, f->inputs), "embedding.layers.weight"),
            made_add(m, 0, 0.2, DIMS(f->d), "embedding.layers.bias");
    if (f->differencing) {
        made_add(m, 0, 0.6, DIMS(4, 4), "encoder.blocks.0.pre.kernel");
    } else {
        made_add(m, 0, 0.6, DIMS(2 * 2, 2), "encoder.blocks.0.pre.diff_kernel"); /* two groups of two differences of two taps */
        made_add(m, 0, 0.3, DIMS(2 * 2, 9), "encoder.blocks.0.pre.ma_r_kernel");
    }
    for (int i = 0; i < f->blocks; i++) {
        snprintf(name, sizeof name, "encoder.blocks.%d.ssm", i);
        make_ssm(m, name, i ? f->d : f->kernels, f, false);
        if (f->layernorm)
            made_add(m, 1, 0.2, DIMS(f->d), "encoder.blocks.%d.mlp.layernorm.weight", i),
                made_add(m, 0, 0.2, DIMS(f->d), "encoder.blocks.%d.mlp.layernorm.bias", i);
        made_add(m, 0, 0.3, DIMS(f->d, f->d), "encoder.blocks.%d.mlp.layers.2.weight", i);
        made_add(m, 0, 0.3, DIMS(f->d), "encoder.blocks.%d.mlp.layers.2.bias", i);
    }
    make_ssm(m, "decoder.blocks.ssm", f->d, f, true);
    made_add(m, 0, 0.3, DIMS(f->outputs, f->d), "output.layers.2.weight");
    made_add(m, 0, 0.3, DIMS(f->outputs), "output.layers.2.bias");
    made_write(m);
}

/* ---- the form in double precision ---- */

static void row_norm(double *to, const float *all, int kernels, int dim, int row, int order) {
    double mean = 0, own = 0;
    for (int k = 0; k < kernels; k++) {
        double sum = 0;
        for (int i = 0; i < dim; i++)
            sum += order == 1 ? fabs((double)all[k * dim + i]) : (double)all[k * dim + i] * (double)all[k * dim + i];
        if (order == 2) sum = sqrt(sum);
        mean += sum / kernels;
        if (k == row) own = sum;
    }
    for (int i = 0; i < dim; i++) to[i] = (double)all[row * dim + i] / (order > 0 && mean > 1e-4 ? own : 1);
}

/* s <- A s + b u */
static void step(double *s, const double *a, const double *b, double u, int dim) {
    double last = s[dim - 1];
    for (int i = dim - 1; i >= 0; i--) s[i] = (i ? s[i - 1] : 0) + a[i] * last + (b ? b[i] * u : 0);
}

static double dot(const double *x, const double *y, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* y = c A^t b * u, by a filter or by steps. */
static void open_loop(int way, const double *a, const double *b, const double *c, int dim, const double *u, double *y,
                      int length) {
    double s[16] = {0}, filter[MOST / 16];
    if (way == RECURRENCE) {
        for (int t = 0; t < length; t++) step(s, a, b, u[t], dim), y[t] = dot(c, s, dim);
        return;
    }
    memcpy(s, b, (size_t)dim * sizeof *s);
    for (int t = 0; t < length; t++) filter[t] = dot(c, s, dim), step(s, a, NULL, 0, dim);
    for (int t = 0; t < length; t++) {
        y[t] = 0;
        for (int j = 0; j <= t; j++) y[t] += filter[t - j] * u[j];
    }
}

/* x = sum A^(length - 1 - i) b u_i and y_h = c (A + closed_b k^T)^h x. */
static void closed_loop(int way, const double *a, const double *b, const double *closed_b, const double *c, const double *k,
                        int dim, const double *u, double *y, int length) {
    double x[16] = {0}, power[16], row[16], next[16];
    if (way == RECURRENCE) {
        for (int t = 0; t < length; t++) step(x, a, b, u[t], dim);
    } else {
        memcpy(power, b, (size_t)dim * sizeof *power);
        for (int t = length - 1; t >= 0; t--, step(power, a, NULL, 0, dim))
            for (int i = 0; i < dim; i++) x[i] += power[i] * u[t];
    }
    memcpy(row, c, (size_t)dim * sizeof *row); /* row (A + b k^T)^h, or the state */
    for (int h = 0; h < HORIZON; h++) {
        y[h] = dot(way == MATRIX ? row : c, x, dim);
        if (way != MATRIX) {
            step(x, a, closed_b, dot(k, x, dim), dim);
            continue;
        }
        double along = dot(row, closed_b, dim);
        for (int i = 0; i < dim; i++) next[i] = (i + 1 < dim ? row[i + 1] : dot(row, a, dim)) + along * k[i];
        memcpy(row, next, sizeof row);
    }
}

static void prepare(const made *m, const form *f, const double *u, double *z, int length) { /* [length, d] */
    for (int c = 0; c < f->d; c++) {
        const float *taps;
        int n;
        if (f->differencing) { /* (kr nk nh hd), kr = d / (nk inputs) */
            int repeat = f->d / (4 * f->inputs), each = f->d / (4 * repeat);
            taps = made_find(m, "encoder.blocks.0.pre.kernel") + c / each % 4 * 4, n = 4;
        } else { /* (kr nk hd): two groups of two differences and two averages */
            int each = f->d / 8, kernel = c / each % 4, group = c / each / 4;
            taps = kernel < 2 ? made_find(m, "encoder.blocks.0.pre.diff_kernel") + (group * 2 + kernel) * 2
                              : made_find(m, "encoder.blocks.0.pre.ma_r_kernel") + (group * 2 + kernel - 2) * 9;
            n = kernel < 2 ? 2 : 9;
        }
        for (int t = 0; t < length; t++) {
            z[t * f->d + c] = 0;
            for (int j = 0; j < n && j <= t; j++) z[t * f->d + c] += (double)taps[j] * u[(t - j) * f->d + c];
        }
    }
}

static void encoder_block(const made *m, const form *f, int way, int i, double *u, int length) {
    static double z[MOST * 4], y[MOST * 4], column[MOST], out[MOST], normed[64], g[64], mixed[64];
    int d = f->d, kernels = i ? d : f->kernels, order = i ? f->order : 1;
    char name[64];
    snprintf(name, sizeof name, "encoder.blocks.%d.ssm", i);
    if (i)
        memcpy(z, u, (size_t)(length * d) * sizeof *z);
    else
        prepare(m, f, u, z, length);
    for (int c = 0; c < d; c++) {
        double a[16], b[16], read[16];
        int kernel = c / (d / kernels);
        row_norm(a, made_find(m, "%s.a", name), kernels, f->dim, kernel, order);
        row_norm(b, made_find(m, "%s.b", name), kernels, f->dim, kernel, 0);
        row_norm(read, made_find(m, "%s.c", name), kernels, f->dim, kernel, 0);
        for (int t = 0; t < length; t++) column[t] = z[t * d + c];
        open_loop(way, a, b, read, f->dim, column, out, length);
        for (int t = 0; t < length; t++) y[t * d + c] = out[t] + (double)made_find(m, "%s.skip", name)[c] * column[t];
    }
    for (int t = 0; t < length; t++) {
        double *x = y + t * d;
        if (f->layernorm) {
            d_layer_norm(normed, made_find(m, "encoder.blocks.%d.mlp.layernorm.weight", i),
                         made_find(m, "encoder.blocks.%d.mlp.layernorm.bias", i), x, d, 1e-5);
            x = normed;
        }
        for (int c = 0; c < d; c++) g[c] = d_gelu(x[c]);
        d_linear(mixed, made_find(m, "encoder.blocks.%d.mlp.layers.2.weight", i),
                 made_find(m, "encoder.blocks.%d.mlp.layers.2.bias", i), g, d, d);
        for (int c = 0; c < d; c++) u[t * d + c] = mixed[c] + x[c] + (i ? u[t * d + c] : z[t * d + c]);
    }
}

/* Forecast of `length` samples, with the transform of the first `first`. */
static void forecast(const made *m, const form *f, int way, const float *window, int length, int first, double *y) {
    static double u[MOST * 4], column[MOST], rolled[HORIZON * 64];
    double shift[4] = {0}, scale[4] = {1, 1, 1, 1};
    for (int v = 0; v < f->inputs; v++) {
        double mean = 0, square = 0;
        for (int t = 0; t < first; t++) mean += (double)window[t * f->inputs + v] / first;
        for (int t = 0; t < first; t++) square += pow((double)window[t * f->inputs + v] - mean, 2) / (first - 1);
        if (f->transform == MEAN || f->transform == STANDARDIZE) shift[v] = mean;
        if (f->transform == LAST) shift[v] = (double)window[(first - 1) * f->inputs + v];
        if (f->transform == STANDARDIZE) scale[v] = sqrt(square);
    }
    for (int t = 0; t < length; t++) {
        double x[4];
        for (int v = 0; v < f->inputs; v++) x[v] = ((double)window[t * f->inputs + v] - shift[v]) / scale[v];
        if (f->linear)
            d_linear(u + t * f->d, made_find(m, "embedding.layers.weight"), made_find(m, "embedding.layers.bias"), x, f->d,
                     f->inputs);
        for (int c = 0; c < f->d && !f->linear; c++) u[t * f->d + c] = x[c % f->inputs];
    }
    for (int i = 0; i < f->blocks; i++) encoder_block(m, f, way, i, u, length);
    for (int c = 0; c < f->d; c++) {
        double a[16], b[16], closed_b[16], read[16], k[16], out[HORIZON];
        row_norm(a, made_find(m, "decoder.blocks.ssm.a"), f->d, f->dim, c, f->order);
        row_norm(b, made_find(m, "decoder.blocks.ssm.b"), f->d, f->dim, c, 0);
        row_norm(closed_b, made_find(m, "decoder.blocks.ssm.b"), f->d, f->dim, c, f->order);
        row_norm(read, made_find(m, "decoder.blocks.ssm.c"), f->d, f->dim, c, f->order);
        row_norm(k, made_find(m, f->order > 0 ? "decoder.blocks.ssm.k" : "decoder.blocks.ssm.b"), f->d, f->dim, c, f->order);
        for (int t = 0; t < length; t++) column[t] = u[t * f->d + c];
        closed_loop(way, a, b, closed_b, read, k, f->dim, column, out, length);
        for (int h = 0; h < HORIZON; h++) rolled[h * f->d + c] = d_gelu(out[h]);
    }
    for (int h = 0; h < HORIZON; h++) {
        d_linear(y + h * f->outputs, made_find(m, "output.layers.2.weight"), made_find(m, "output.layers.2.bias"),
                 rolled + h * f->d, f->outputs, f->d);
        for (int v = 0; v < f->outputs; v++) {
            int from = f->inputs - f->outputs + v;
            y[h * f->outputs + v] = y[h * f->outputs + v] * scale[from] + shift[from];
        }
    }
}

/* ---- the model ---- */

static made_session open_form(strand_context *c, const made *m, const form *f, int mode) {
    char config[600], setting[32];
    snprintf(config, sizeof config,
             "{\"lag\":%d,\"horizon\":%d,\"input_dim\":%d,\"data_transform\":\"%s\",\"args\":{\"norm_order\":%d}}", LAG,
             HORIZON, f->inputs, transforms[f->transform], f->order);
    snprintf(setting, sizeof setting, "mode=%s", modes[mode]);
    return made_open(c, m, config, setting, BATCH, LAG, "forecast");
}

/* Samples [first, first + n) of each row; the forecast is [BATCH, HORIZON, outputs]. */
static void run(strand_session *s, const form *f, const float *windows, int first, int n, float *y) {
    int64_t bytes = BATCH * HORIZON * f->outputs * 4;
    memcpy(y, made_run(s, "window", windows, BATCH, LAG, f->inputs, first, n, "forecast", bytes), (size_t)bytes);
}

static double distance(const float *a, const double *b, int n) {
    double d = 0, s = 0;
    for (int i = 0; i < n; i++) d += pow((double)a[i] - b[i], 2), s += b[i] * b[i];
    return sqrt(d / s);
}

static void near(const form *f, const char *what, const float *y, const double *want) {
    double d = distance(y, want, BATCH * HORIZON * f->outputs);
    if (!(d < 5e-6)) fail_msg("form %d, %s: relative difference %.3g", (int)(f - forms), what, d);
}

/* A first run of `first` samples, then pieces of up to `most`; every run's forecast is that of a whole pass over all samples
 * so far. */
static void judge_stream(const made *m, const form *f, made_session *r, randoms *rand, const float *windows, int most) {
    float y[BATCH * HORIZON * 4];
    double want[BATCH * HORIZON * 4];
    int first = 12;
    assert_int_equal(strand_session_reset(r->session, -1), STRAND_OK);
    for (int at = 0, n; at < LAG; at += n) {
        n = at ? 1 + (int)random_below(rand, most) : first;
        if (n > LAG - at) n = LAG - at;
        run(r->session, f, windows, at, n, y);
        for (int b = 0; b < BATCH; b++)
            forecast(m, f, CONV, windows + b * LAG * f->inputs, at + n, first, want + b * HORIZON * f->outputs);
        near(f, most == 1 ? "sample by sample" : "in pieces", y, want);
    }
}

/* Saved in the middle of the stream and restored into another session: the same bytes. */
static void judge_saved(strand_context *c, const form *f, made_session *r, const float *windows) {
    float whole[BATCH * HORIZON * 4], again[BATCH * HORIZON * 4];
    assert_int_equal(strand_session_reset(r->session, -1), STRAND_OK);
    run(r->session, f, windows, 0, 21, whole);
    strand_session *other = made_fork(c, r, BATCH);
    run(r->session, f, windows, 21, LAG - 21, whole);
    run(other, f, windows, 21, LAG - 21, again);
    assert_memory_equal(whole, again, (size_t)(BATCH * HORIZON * f->outputs) * sizeof *whole);
    strand_session_close(other);
}

static void judge(strand_context *c, const form *f, randoms *rand) {
    static made m;
    static float windows[BATCH * MOST];
    float y[BATCH * HORIZON * 4];
    double want[WAYS][BATCH * HORIZON * 4], worst = 0, largest = 0;
    m.r = *rand;
    make_model(&m, f);
    for (int i = 0; i < BATCH * LAG * f->inputs; i++) windows[i] = (float)(3 + random_real(rand));
    for (int way = 0; way < WAYS; way++)
        for (int b = 0; b < BATCH; b++)
            forecast(&m, f, way, windows + b * LAG * f->inputs, LAG, LAG, want[way] + b * HORIZON * f->outputs);
    for (int i = 0; i < BATCH * HORIZON * f->outputs; i++) {
        largest = fmax(largest, fabs(want[0][i]));
        for (int way = 1; way < WAYS; way++) worst = fmax(worst, fabs(want[way][i] - want[0][i]));
    }
    if (!(worst <= 1e-10 * largest))
        fail_msg("form %d: the three ways differ by %.3g of %.3g in double precision", (int)(f - forms), worst, largest);
    for (int mode = 0; mode < WAYS; mode++) {
        made_session r = open_form(c, &m, f, mode);
        run(r.session, f, windows, 0, LAG, y);
        near(f, modes[mode], y, want[0]);
        print_message("  form %d, %-10s relative difference %.1e; the three ways in double precision %.1e\n", (int)(f - forms),
                      modes[mode], distance(y, want[0], BATCH * HORIZON * f->outputs), worst / largest);
        if (mode == RECURRENCE) {
            judge_stream(&m, f, &r, rand, windows, 7);
            judge_stream(&m, f, &r, rand, windows, 1);
            judge_saved(c, f, &r, windows);
        }
        made_close(&r);
    }
    made_free(&m);
}

static void three_ways(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 2});
    randoms r = {2303};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) judge(c, &forms[i], &r);
    strand_context_close(c);
}

/* Configurations that no model can have: one line, no crash. */
static void hostile(void **state) {
    static const char *const configs[] = {
        "{\"horizon\":5}",
        "{\"lag\":40}",
        "{\"lag\":-1,\"horizon\":5}",
        "{\"lag\":40,\"horizon\":99999999999}",
        "{\"lag\":40,\"horizon\":\"x\"}",
        "{\"lag\":40,\"horizon\":5,\"input_dim\":0}",
        "{\"lag\":40,\"horizon\":5,\"input_dim\":7}",
        "{\"lag\":40,\"horizon\":5,\"data_transform\":\"cube\"}",
        "{\"lag\":40,\"horizon\":5,\"norm_order\":3}",
        "{\"lag\":40,\"horizon\":5,\"activation\":\"glu\"}",
        "{\"lag\":40,\"horizon\":5,\"resolved\":{\"output_config\":{\"method\":\"mlp\",\"kwargs\":{\"n_layers\":99999}}}}",
        ("{\"lag\":40,\"horizon\":5,\"resolved\":{\"encoder_config\":{\"blocks\":["
         "{\"mlp_config\":{\"kwargs\":{\"n_layers\":5}}}]}}}")};
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    made m = {.r = {7}};
    make_model(&m, &forms[0]);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        strand_model *model = NULL;
        if (strand_model_open_memory(c, m.file, m.bytes, configs[i], NULL, &model) == STRAND_OK)
            fail_msg("%s was taken", configs[i]);
        assert_true(strlen(strand_error(c)) > 10 && !strchr(strand_error(c), '\n'));
    }
    made_free(&m);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(three_ways), cmocka_unit_test(hostile)};
    return cmocka_run_group_tests_name("SpaceTime", tests, NULL, NULL);
}

/* forecast_cv.c - back-tests: the model at past cutoffs, beside forecasts that need no model. See forecast.h.
 *
 * Windows: the last of N ends with the series, each `step` samples after the one before (--cv-windows N --step S); or all
 * windows of a part of the data that the model's config names, one sample apart, measured in the model's scaled units
 * (--split). Nothing after a cutoff is looked at for its forecast, its band or its scale. A window's band comes from past
 * windows that had ended by its cutoff: at most --windows of them, from a fixed row of past cutoffs, evenly over the history
 * or the latest ones (--window-step).
 *
 * MASE: mean absolute error over that of the seasonal naive forecast within the history before the cutoff (Hyndman and
 * Koehler 2006). sMAPE: mean of 200 |y - f| / (|y| + |f|), 0 where both are 0.
 */
#include "forecast.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, MODEL = 0, NAIVE, SEASONAL, DRIFT, MEAN, FORECASTS };

static const char *const baseline_names[] = {"naive", "seasonal-naive", "drift", "mean"};

typedef struct score {
    int64_t values, windows, scaled; /* scaled: of MASE */
    double square, absolute, symmetric, mase;
    int64_t inside[MOST_LEVELS], banded[MOST_LEVELS];
} score;

typedef struct back_test {
    forecaster *f;
    series_set *set;
    const options *settings;
    const band_levels *levels;
    forecast_writer *writer; /* NULL: no rows */
    output *table;
    score *all;
    int64_t season, step, windows, first_row, last_row; /* rows of a split */
    int headed;
} back_test;

/* One series being tested. */
typedef struct test {
    back_test *b;
    series *s;
    int64_t n, first; /* samples that may be seen; first cutoff */
    int64_t grid_first, grid_step, grid_n; /* cutoffs that bands are made of */
    double *past;     /* |residuals| [outputs, grid_n, horizon] */
    double *seasonal; /* [outputs, n + 1]: sums of |y_i - y_(i - season)| */
    double *width;    /* [outputs, levels, horizon] for `used` past windows */
    int64_t used;
    score *scores; /* [outputs, FORECASTS] */
} test;

static double value(const test *t, int v, int64_t i) {
    return track_value(t->b->set, t->s, t->b->f, v, i);
}

/* Forecasts that need no model; `kind` of enum. */
static double baseline(const test *t, int kind, int v, int64_t cutoff, int64_t h, double mean) {
    const double last = value(t, v, cutoff - 1);
    const int64_t m = t->b->season < cutoff ? t->b->season : 1;
    switch (kind) {
    case SEASONAL:
        return value(t, v, cutoff - m + h % m);
    case DRIFT:
        return last + (double)(h + 1) * (last - value(t, v, 0)) / (double)(cutoff > 1 ? cutoff - 1 : 1);
    case MEAN:
        return mean;
    default:
        return last;
    }
}

static void add_error(score *s, double truth, double forecast, double scale) {
    const double e = (forecast - truth) / scale, size = fabs(forecast) + fabs(truth);
    s->square += e * e;
    s->absolute += fabs(e);
    s->symmetric += size > 0 ? 200 * fabs(forecast - truth) / size : 0;
    s->values++;
}

/* ---- bands ---- */

static int64_t grid_cutoff(const test *t, int64_t j) {
    return t->grid_first + j * t->grid_step;
}

/* Without --window-step a row over the whole history with four times as many cutoffs as a band takes, so that each window of
 * the test can take its own evenly from what had ended by then, as a forecast from there would. Else the row that ends with
 * the first window's past, as far back as that one looks. */
static int make_grid(test *t) {
    back_test *b = t->b;
    const int64_t lag = b->f->lag, h = b->f->horizon, most = b->settings->windows;
    const int64_t last = t->first + (b->windows - 1) * b->step, room = t->first - h - lag;
    t->grid_first = lag;
    t->grid_step = b->settings->window_step;
    if (!t->grid_step) {
        const int64_t apart = most ? (last - h - lag) / most / 4 : 1;
        t->grid_step = apart > 1 ? apart : 1;
    } else if (room >= 0 && most > 0) {
        const int64_t steps = room / t->grid_step;
        t->grid_first = t->first - h - (steps < most - 1 ? steps : most - 1) * t->grid_step;
    }
    t->grid_n = b->levels->n && last - h >= t->grid_first ? (last - h - t->grid_first) / t->grid_step + 1 : 0;
    t->past = malloc((size_t)(t->grid_n * h * b->f->outputs + 1) * sizeof *t->past);
    t->width = malloc((size_t)(h * b->f->outputs * MOST_LEVELS) * sizeof *t->width);
    t->used = -1;
    return t->past && t->width ? 0 : (complain("out of memory"), -1);
}

/* Forecasts at n cutoffs from(i), into out [n, horizon, outputs]. */
static int run_windows(test *t, int64_t (*from)(const test *, int64_t), int64_t begin, int64_t n, double *out) {
    forecaster *f = t->b->f;
    const int64_t size = f->horizon * f->outputs;
    double *scale = malloc((size_t)(n * 2 * f->inputs) * sizeof *scale);
    int bad = scale ? 0 : (complain("out of memory"), -1);
    for (int64_t i = 0; !bad && i < n; i++) {
        double *own = scale + i * 2 * f->inputs;
        const int64_t cutoff = from(t, begin + i);
        forecaster_scale(f, t->s, cutoff, own, own + f->inputs);
        bad = forecaster_push(f, t->s, cutoff, own, own + f->inputs, out + i * size);
    }
    if (!bad) bad = forecaster_flush(f);
    free(scale);
    return bad;
}

static int run_grid(test *t) {
    const int64_t h = t->b->f->horizon, o = t->b->f->outputs;
    double *out = malloc((size_t)(CHUNK * h * o) * sizeof *out);
    int bad = out ? 0 : (complain("out of memory"), -1);
    for (int64_t j = 0; !bad && j < t->grid_n; j += CHUNK) {
        const int64_t n = t->grid_n - j < CHUNK ? t->grid_n - j : CHUNK;
        bad = run_windows(t, grid_cutoff, j, n, out);
        for (int64_t i = 0; !bad && i < n * h * o; i++) {
            const int64_t w = j + i / (h * o), step = i / o % h, v = i % o;
            t->past[(v * t->grid_n + w) * h + step] = fabs(value(t, (int)v, grid_cutoff(t, w) + step) - out[i]);
        }
    }
    free(out);
    return bad;
}

/* The widths for a cutoff, by the past windows that had ended then. */
static void find_widths(test *t, int64_t cutoff) {
    const back_test *b = t->b;
    const int64_t h = b->f->horizon, room = cutoff - h - t->grid_first, ended = room < 0 ? 0 : room / t->grid_step + 1;
    const int64_t end = ended < t->grid_n ? ended : t->grid_n;
    if (end == t->used) return;
    t->used = end;
    const int64_t most = b->settings->windows, recent = b->settings->window_step > 0;
    const int64_t apart = recent || end <= most ? 1 : (end + most - 1) / most, fit = end > 0 ? (end - 1) / apart + 1 : 0;
    const int64_t n = fit < most ? fit : most, begin = end - 1 - (n - 1) * apart;
    for (int v = 0; v < b->f->outputs; v++)
        for (int i = 0; i < b->levels->n; i++)
            bands_width(t->past + (v * t->grid_n + (n ? begin : 0)) * h, n, apart * h, h, b->levels->level[i],
                        t->width + (v * b->levels->n + i) * h);
}

/* ---- one window ---- */

static double lag_mean(const test *t, int v, int64_t cutoff) {
    double sum = 0;
    for (int64_t i = cutoff - t->b->f->lag; i < cutoff; i++) sum += value(t, v, i);
    return sum / (double)t->b->f->lag;
}

/* Mean |y_i - y_(i - season)| before the cutoff; 0 when there is none. */
static double seasonal_error(const test *t, int v, int64_t cutoff) {
    const int64_t m = t->b->season;
    return cutoff > m ? t->seasonal[v * (t->n + 1) + cutoff] / (double)(cutoff - m) : 0;
}

static void score_window(test *t, int v, int64_t cutoff, const double *out, double *rows, int columns, double *truth) {
    const back_test *b = t->b;
    const forecaster *f = b->f;
    const double mean = lag_mean(t, v, cutoff), season = seasonal_error(t, v, cutoff);
    const double scale = b->settings->split ? f->model_std[f->inputs - f->outputs + v] : 1;
    for (int k = 0; k < FORECASTS; k++) {
        score *s = &t->scores[v * FORECASTS + k];
        double error = 0;
        for (int64_t h = 0; h < f->horizon; h++) {
            const double y = value(t, v, cutoff + h), guess = k ? baseline(t, k, v, cutoff, h, mean) : out[h * f->outputs + v];
            truth[h] = y;
            add_error(s, y, guess, scale);
            error += fabs(guess - y);
            rows[h * columns + (k ? 2 * b->levels->n + k : 0)] = guess;
            for (int i = 0; !k && i < b->levels->n; i++) {
                const double width = t->width[(v * b->levels->n + i) * f->horizon + h];
                rows[h * columns + 1 + 2 * i] = guess - width;
                rows[h * columns + 2 + 2 * i] = guess + width;
                if (isnan(width)) continue;
                s->banded[i]++;
                s->inside[i] += fabs(guess - y) <= width;
            }
        }
        s->windows++;
        if (season > 0) s->mase += error / (double)f->horizon / season, s->scaled++;
    }
}

/* ---- one series ---- */

static int64_t test_cutoff(const test *t, int64_t i) {
    return t->first + i * t->b->step;
}

static int run_tests(test *t) {
    back_test *b = t->b;
    const int64_t h = b->f->horizon, o = b->f->outputs;
    const int columns = 1 + 2 * b->levels->n + FORECASTS - 1;
    char id[512];
    double *out = malloc((size_t)(CHUNK * h * o) * sizeof *out), *rows = malloc((size_t)(h * columns) * sizeof *rows),
           *truth = malloc((size_t)h * sizeof *truth);
    int bad = out && rows && truth ? 0 : (complain("out of memory"), -1);
    for (int64_t i = 0; !bad && i < b->windows; i += CHUNK) {
        const int64_t n = b->windows - i < CHUNK ? b->windows - i : CHUNK;
        bad = run_windows(t, test_cutoff, i, n, out);
        for (int64_t w = 0; !bad && w < n; w++) {
            const int64_t cutoff = test_cutoff(t, i + w);
            find_widths(t, cutoff);
            for (int v = 0; !bad && v < o; v++) {
                score_window(t, v, cutoff, out + w * h * o, rows, columns, truth);
                track_id(b->set, t->s, b->f, v, id, sizeof id);
                if (b->writer) bad = forecast_writer_put(b->writer, id, t->s->times[cutoff - 1], rows, truth, h);
            }
        }
    }
    free(out);
    free(rows);
    free(truth);
    return bad;
}

static int sum_seasons(test *t) {
    const int64_t m = t->b->season, n = t->n;
    t->seasonal = calloc((size_t)((n + 1) * t->b->f->outputs), sizeof *t->seasonal);
    if (!t->seasonal) return complain("out of memory"), -1;
    for (int v = 0; v < t->b->f->outputs; v++) {
        double *sum = t->seasonal + v * (n + 1);
        for (int64_t i = 0; i < n; i++) sum[i + 1] = sum[i] + (i >= m ? fabs(value(t, v, i) - value(t, v, i - m)) : 0);
    }
    return 0;
}

static void add_score(score *to, const score *s) {
    to->values += s->values;
    to->windows += s->windows;
    to->scaled += s->scaled;
    to->square += s->square;
    to->absolute += s->absolute;
    to->symmetric += s->symmetric;
    to->mase += s->mase;
    for (int i = 0; i < MOST_LEVELS; i++) to->inside[i] += s->inside[i], to->banded[i] += s->banded[i];
}

static void table_number(back_test *b, double number, int known) {
    if (known)
        output_printf(b->table, "  %10.6g", number);
    else
        output_printf(b->table, "  %10s", ".");
}

/* Once, when the first rows are known: a test that is broken off prints nothing. */
static void table_header(back_test *b) {
    if (b->headed) return;
    b->headed = 1;
    output_printf(b->table, "%-12s  %-15s  %7s  %10s  %10s  %10s  %10s  %10s", b->set->id_name, "model", "windows", "mse",
                  "mae", "rmse", "mase", "smape");
    for (int i = 0; i < b->levels->n; i++) output_printf(b->table, "  coverage-%s", b->levels->name[i]);
    output_printf(b->table, "\n");
}

static void table_rows(back_test *b, const char *id, const score *scores) {
    table_header(b);
    for (int k = 0; k < FORECASTS; k++) {
        const score *s = &scores[k];
        const double n = (double)(s->values ? s->values : 1);
        output_printf(b->table, "%-12s  %-15s  %7lld", id, k ? baseline_names[k - 1] : b->f->rt.info.family,
                      (long long)s->windows);
        table_number(b, s->square / n, 1);
        table_number(b, s->absolute / n, 1);
        table_number(b, sqrt(s->square / n), 1);
        table_number(b, s->mase / (double)(s->scaled ? s->scaled : 1), s->scaled > 0);
        table_number(b, s->symmetric / n, 1);
        for (int i = 0; i < b->levels->n; i++)
            table_number(b, 100.0 * (double)s->inside[i] / (double)(s->banded[i] ? s->banded[i] : 1), s->banded[i] > 0);
        output_printf(b->table, "\n");
    }
}

static int test_series(back_test *b, series *s) {
    const int64_t h = b->f->horizon;
    test t = {.b = b, .s = s, .n = b->settings->split ? b->last_row : s->n};
    char id[512];
    t.first = b->settings->split ? b->first_row + b->f->lag : t.n - h - (b->windows - 1) * b->step;
    t.scores = calloc((size_t)b->f->outputs * FORECASTS, sizeof *t.scores);
    int bad = t.scores ? 0 : (complain("out of memory"), -1);
    bad = bad || make_grid(&t) || sum_seasons(&t) || run_grid(&t) || run_tests(&t);
    for (int v = 0; !bad && v < b->f->outputs; v++) {
        const score *own = &t.scores[v * FORECASTS];
        track_id(b->set, s, b->f, v, id, sizeof id);
        table_rows(b, id, own);
        for (int k = 0; k < FORECASTS; k++) add_score(&b->all[k], &own[k]);
    }
    free(t.past);
    free(t.width);
    free(t.seasonal);
    free(t.scores);
    return bad;
}

/* ---- the whole ---- */

/* Fewer samples than the test wants. */
static int is_short(const back_test *b, const series *s) {
    const int64_t least = b->settings->split ? b->last_row : b->f->lag + b->f->horizon + (b->windows - 1) * b->step;
    if (s->n >= least) return 0;
    if (b->settings->split)
        complain("'%.60s': has %lld samples, but the split ends at sample %lld", s->id, (long long)s->n, (long long)least);
    else
        complain("'%.60s': has %lld samples, but %lld windows %lld apart want %lld (%lld to read, %lld to forecast)", s->id,
                 (long long)s->n, (long long)b->windows, (long long)b->step, (long long)least, (long long)b->f->lag,
                 (long long)b->f->horizon);
    return 1;
}

static int choose_windows(back_test *b) {
    const options *settings = b->settings;
    b->windows = settings->cv_windows;
    b->step = settings->step ? settings->step : b->f->horizon;
    if (b->step > INT32_MAX || b->windows > INT32_MAX) return complain("forecast: --cv-windows and --step are too large"), -1;
    if (!settings->split) return 0;
    const char *key = settings->split == SPLIT_TEST ? "test_rows" : "validation_rows", *text = forecaster_setting(b->f, key);
    char *end = NULL;
    if (text) b->first_row = strtoll(text, &end, 10);
    if (text && *end == ',') b->last_row = strtoll(end + 1, &end, 10);
    b->step = settings->step ? settings->step : 1;
    b->windows = (b->last_row - b->first_row - b->f->lag - b->f->horizon) / b->step + 1;
    if (text && !*end && b->first_row >= 0 && b->last_row > b->first_row &&
        b->last_row - b->first_row >= b->f->lag + b->f->horizon)
        return 0;
    return complain(
               "%s: the model's config names no rows '%s' that a lag and a horizon fit into, so --split means nothing here",
               b->f->rt.info.name, key),
           -1;
}

static int run_all(back_test *b) {
    int tested = 0, left_out = 0;
    for (int64_t i = 0; i < b->set->n; i++) {
        if (is_short(b, &b->set->items[i])) {
            left_out++;
            continue;
        }
        if (test_series(b, &b->set->items[i]) || interrupted()) return EXIT_FAILED;
        tested++;
    }
    if (tested * b->f->outputs > 1) table_rows(b, "(all)", b->all);
    return !tested ? EXIT_FAILED : left_out ? EXIT_PARTIAL : EXIT_DONE;
}

int forecast_back_test(forecaster *f, series_set *set, const options *settings, const band_levels *levels) {
    score all[FORECASTS];
    back_test b = {.f = f, .set = set, .settings = settings, .levels = levels, .all = all};
    memset(all, 0, sizeof all);
    if (choose_windows(&b) || forecaster_prepare(f, b.windows)) return EXIT_FAILED;
    b.season = settings->season                                                            ? settings->season
               : f->has_frequency && frequency_same(&f->freq, &set->freq) && f->season > 0 ? f->season
                                                                                           : frequency_season(&set->freq);
    int rc = 0;
    if (settings->output) {
        b.writer = forecast_writer_open(settings, f->rt.info.family, set, levels, baseline_names, FORECASTS - 1, 2);
        if (!b.writer) rc = EXIT_FAILED;
    }
    const int rows_on_stdout = settings->output && !strcmp(settings->output, "-");
    b.table = rows_on_stdout ? output_to(stderr, "standard error") : output_open(NULL);
    if (!b.table) rc = EXIT_FAILED;
    progress_begin("windows");
    if (!rc) rc = run_all(&b);
    if (b.writer && forecast_writer_close(b.writer, rc != EXIT_FAILED)) rc = EXIT_FAILED;
    if (b.table && output_close(b.table, rc != EXIT_FAILED)) rc = EXIT_FAILED;
    if (rc != EXIT_FAILED) {
        if (settings->split)
            remark("in the model's scaled units, over all windows of the part that its config calls %s",
                   settings->split == SPLIT_TEST ? "test" : "validation");
        remark("the season of seasonal-naive and MASE is %lld samples; coverage counts the windows that had enough past for a "
               "band",
               (long long)b.season);
    }
    return rc;
}

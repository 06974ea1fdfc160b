/* forecast.c - `strand forecast`: series in, forecasts with bands out.
 *
 * The whole input is read first (24 bytes a sample), checked and put in order. Then series are taken in chunks: their last
 * windows, and the past windows that the bands are made of, run in common batches. A series that is too short is named, left
 * out, and makes the exit code 3.
 */
#include "forecast.h"

#include "bytes.h"
#include "commands.h"
#include "input.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_VALUES = 1 << 22 }; /* forecast values that are held at once */

int forecast_check_frequency(const forecaster *f, const series_set *set, const options *settings, const char *file) {
    char data[80], model[80];
    if (!f->has_frequency || settings->any_frequency || set->freq.kind == FREQUENCY_COUNT ||
        frequency_same(&f->freq, &set->freq))
        return 0;
    frequency_words(&set->freq, data, sizeof data);
    frequency_words(&f->freq, model, sizeof model);
    complain("%s: has %s, but the model %s was trained on %s; name another model with -m, or say --any-frequency",
             input_name(file), data, f->rt.info.name, model);
    return EXIT_FAILED;
}

/* What was read, for people. */
static void describe(const forecaster *f, const series_set *set, const char *file) {
    char from[48] = "", to[48] = "", words[80], name[32];
    int64_t first = INT64_MAX, last = INT64_MIN, samples = 0;
    for (int64_t i = 0; i < set->n; i++) {
        const series *s = &set->items[i];
        samples += s->n;
        if (s->n && s->times[0] < first) first = s->times[0];
        if (s->n && s->times[s->n - 1] > last) last = s->times[s->n - 1];
    }
    time_format(first, &set->style, from, sizeof from);
    time_format(last, &set->style, to, sizeof to);
    frequency_words(&set->freq, words, sizeof words);
    frequency_name(&set->freq, name, sizeof name);
    remark("%s: %lld series, %lld samples from %s to %s, %s (%s)", input_name(file), (long long)set->n, (long long)samples,
           from, to, words, name);
    if (set->filled || set->cut)
        remark("%s: %lld values were missing and have been filled in; %lld samples at the ends of series had no value to fill "
               "from and are left out",
               input_name(file), (long long)set->filled, (long long)set->cut);
    if (set->sorted)
        remark("%s: %lld series were not in order of time and have been sorted", input_name(file), (long long)set->sorted);
    if (f->horizon > f->trained)
        remark("the model was trained to forecast %lld samples; what is beyond that is its own roll-out",
               (long long)f->trained);
}

/* Says when a series is of another size than what the model was trained on. */
static void check_size(const forecaster *f, const series *s, const options *settings) {
    static int said;
    double mean = 0, square = 0;
    if (said || settings->scale != SCALE_MODEL || !f->scaled || s->n < f->lag || f->inputs > 1) return;
    for (int64_t i = s->n - f->lag; i < s->n; i++) mean += s->values[i] / (double)f->lag;
    for (int64_t i = s->n - f->lag; i < s->n; i++) square += pow(s->values[i] - mean, 2) / (double)f->lag;
    const double ratio = sqrt(square) / f->model_std[0];
    if (ratio > 10 || (ratio < 0.01 && ratio > 0)) {
        said = 1;
        remark("'%.60s' varies %s than the data that the model was trained on; --scale series may forecast it better", s->id,
               ratio > 1 ? "far more" : "far less");
    }
}

typedef struct plain {
    forecaster *f;
    series_set *set;
    const options *settings;
    const band_levels *levels;
    forecast_writer *writer;
    plot *plot;
    int64_t done, too_short, least_windows, most_windows, plotted;
} plain;

/* The picture's history: five horizons of it, at least 48 samples, and no more than what the model read or half a horizon. */
static int show(plain *p, const banded *j, int v, const char *id, const double *values, int columns) {
    const forecaster *f = p->f;
    const int64_t most = f->lag > f->horizon / 2 ? f->lag : f->horizon / 2, wanted = 5 * f->horizon > 48 ? 5 * f->horizon : 48;
    int64_t past = wanted < most ? wanted : most;
    if (past > j->s->n) past = j->s->n;
    double *history = malloc((size_t)past * sizeof *history);
    if (!history) return complain("out of memory"), -1;
    for (int64_t i = 0; i < past; i++) history[i] = track_value(p->set, j->s, f, v, j->s->n - past + i);
    int bad = 0;
    if (p->plot && p->plotted < MOST_PANELS)
        bad = plot_add(p->plot, id, j->s->times[j->s->n - 1], history, past, values, columns, f->horizon);
    if (p->plotted < 8 && !p->settings->quiet) sparkline(id, history, past, values, columns, f->horizon);
    p->plotted++;
    free(history);
    return bad;
}

static int finish_job(plain *p, const banded *j, double *values) {
    const int columns = forecast_writer_columns(p->writer);
    char id[512];
    for (int v = 0; v < p->f->outputs; v++) {
        if (banded_values(p->f, p->set, j, p->levels, v, values, columns)) return -1;
        track_id(p->set, j->s, p->f, v, id, sizeof id);
        if (forecast_writer_put(p->writer, id, j->s->times[j->s->n - 1], values, NULL, p->f->horizon) ||
            show(p, j, v, id, values, columns))
            return -1;
    }
    if (!p->done || j->grid.n < p->least_windows) p->least_windows = j->grid.n;
    if (!p->done || j->grid.n > p->most_windows) p->most_windows = j->grid.n;
    p->done++;
    return 0;
}

/* Series from `from` on, as many as fit together; *next gets the first that is left. */
static int run_chunk(plain *p, int64_t from, int64_t *next) {
    forecaster *f = p->f;
    const int64_t size = f->horizon * f->outputs, left = p->set->n - from, most = left < 1024 ? left : 1024;
    const int columns = forecast_writer_columns(p->writer);
    banded *jobs = calloc((size_t)most, sizeof *jobs);
    int64_t n = 0, values = 0;
    int bad = jobs ? 0 : (complain("out of memory"), -1);
    for (*next = from; !bad && *next < p->set->n && n < most && values < CHUNK_VALUES; ++*next) {
        series *s = &p->set->items[*next];
        if (s->n < f->lag) {
            p->too_short++;
            complain("'%.60s': has %lld samples, but the model reads %lld; it is left out", s->id, (long long)s->n,
                     (long long)f->lag);
            continue;
        }
        check_size(f, s, p->settings);
        bad = banded_start(f, &jobs[n], s, p->settings, p->levels);
        values += size * (jobs[n].grid.n + 1);
        n++;
    }
    if (!bad) bad = forecaster_flush(f);
    double *rows = malloc((size_t)(f->horizon * columns) * sizeof *rows);
    if (!bad && !rows) bad = (complain("out of memory"), -1);
    for (int64_t i = 0; !bad && i < n; i++) bad = finish_job(p, &jobs[i], rows) || interrupted();
    free(rows);
    for (int64_t i = 0; jobs && i < n; i++) banded_free(&jobs[i]);
    free(jobs);
    return bad ? -1 : 0;
}

static void say_bands(const plain *p) {
    char text[64];
    if (!p->levels->n || !p->done) return;
    snprintf(text, sizeof text, p->least_windows == p->most_windows ? "%lld" : "%lld to %lld", (long long)p->least_windows,
             (long long)p->most_windows);
    remark("bands: conformal, from %s past windows a series, each with the whole horizon after it", text);
    for (int i = 0; i < p->levels->n; i++)
        if (p->least_windows < bands_needed(p->levels->level[i]))
            remark("a band of %s %% wants %lld past windows with a whole horizon after them; series with fewer have none",
                   p->levels->name[i], (long long)bands_needed(p->levels->level[i]));
}

/* Every series is shorter than a window. */
static int too_short(const forecaster *f, const series_set *set) {
    const series *longest = &set->items[0];
    for (int64_t i = 1; i < set->n; i++)
        if (set->items[i].n > longest->n) longest = &set->items[i];
    complain("'%.60s': has %lld samples, but the model reads %lld%s", longest->id, (long long)longest->n, (long long)f->lag,
             set->n > 1 ? "; the other series are not longer" : "");
    return EXIT_FAILED;
}

/* Would a forecast leave the calendar? Found before anything is written. */
static int past_the_end(const forecaster *f, const series_set *set) {
    for (int64_t i = 0; i < set->n; i++) {
        const series *s = &set->items[i];
        if (s->n && frequency_after(&set->freq, s->times[s->n - 1], f->horizon) == INT64_MAX)
            return complain("'%.60s': the forecast would go past the year 9999", s->id), 1;
    }
    return 0;
}

/* --unit, or the model's own where the values are what it was trained on. */
static const char *unit_of(const forecaster *f, const series_set *set, const options *settings) {
    if (settings->unit) return settings->unit;
    return set->n_names == 1 && !strcmp(set->names[0], f->columns) ? forecaster_setting(f, "unit") : NULL;
}

int forecast_plain(forecaster *f, series_set *set, const options *settings, const band_levels *levels) {
    plain p = {.f = f, .set = set, .settings = settings, .levels = levels};
    int64_t windows = levels->n ? settings->windows + 1 : 1;
    int64_t long_enough = 0;
    for (int64_t i = 0; i < set->n; i++) long_enough += set->items[i].n >= f->lag;
    for (int64_t i = 0; i < long_enough && windows < 1024; i++) windows++;
    if (!long_enough) return too_short(f, set);
    if (past_the_end(f, set)) return EXIT_FAILED;
    int bad = forecaster_prepare(f, windows);
    if (!bad && settings->plot)
        bad = (p.plot = plot_open(settings->plot, set, f->rt.info.family, levels, unit_of(f, set, settings))) == NULL;
    if (!bad) bad = (p.writer = forecast_writer_open(settings, f->rt.info.family, set, levels, NULL, 0, 0)) == NULL;
    progress_begin("windows");
    for (int64_t i = 0, next; !bad && i < set->n; i = next) bad = run_chunk(&p, i, &next);
    if (forecast_writer_close(p.writer, !bad)) bad = 1;
    if (plot_close(p.plot, !bad)) bad = 1;
    if (bad || interrupted()) return EXIT_FAILED;
    say_bands(&p);
    if (p.plot && p.plotted > MOST_PANELS)
        remark("%s: shows the first %d of %lld series", settings->plot, MOST_PANELS, (long long)p.plotted);
    return p.too_short ? EXIT_PARTIAL : EXIT_DONE;
}

/* ---- the command ---- */

/* The options that are about reading. */
static int reading_options(const forecaster *f, const options *settings, series_options *o, frequency *freq) {
    time_style style;
    *o = (series_options){.id = settings->id_column,
                          .time = settings->time_column,
                          .values = settings->target,
                          .columns = f->inputs,
                          .missing = (series_missing)settings->missing,
                          .decimal = (series_decimal)settings->decimal,
                          .prefer = f->columns};
    if (settings->frequency) {
        if (frequency_parse(settings->frequency, freq))
            return complain("forecast: --freq: '%s' is no frequency; write 1h, 15min, D, W, M, B, or a number for counted "
                            "series; see 'strand help forecast'",
                            settings->frequency),
                   EXIT_USAGE;
        o->given = freq;
    }
    if (settings->until) {
        if (time_parse(settings->until, &o->until, &style))
            return complain("forecast: --until: '%s' is no time; write 2020-12-31 or '2020-12-31 23:00:00'; see 'strand help "
                            "forecast'",
                            settings->until),
                   EXIT_USAGE;
        o->limited = 1;
    }
    return 0;
}

static int read_all(series_set *set, csv *table, const series_options *o, const char *file) {
    int got = series_begin(set, table, o);
    int64_t rows = 0;
    progress_begin("rows");
    for (got = got ? got : 1; got > 0;) {
        got = series_next(set, NULL);
        if (got > 0 && ++rows % 65536 == 0) {
            progress_add("rows", 65536);
            if (interrupted()) return -1;
        }
    }
    if (!got) got = series_finish(set);
    if (got && set->error[0] && !interrupted()) complain("%s: %s", input_name(file), set->error);
    return got;
}

static int run_on(forecaster *f, const options *settings, const char *file, csv *table, const series_options *o,
                  const band_levels *levels) {
    series_set set;
    memset(&set, 0, sizeof set);
    int rc = read_all(&set, table, o, file) ? EXIT_FAILED : 0;
    if (!rc) rc = forecast_check_frequency(f, &set, settings, file);
    if (!rc)
        rc = settings->cv_windows || settings->split ? forecast_back_test(f, &set, settings, levels)
                                                     : forecast_plain(f, &set, settings, levels);
    if (rc == EXIT_DONE || rc == EXIT_PARTIAL) describe(f, &set, file);
    series_free(&set);
    return rc;
}

static int follow_on(forecaster *f, const options *settings, const char *file, csv *table, const series_options *o,
                     const band_levels *levels) {
    series_set set;
    memset(&set, 0, sizeof set);
    int rc = EXIT_FAILED;
    if (series_begin(&set, table, o)) {
        if (set.error[0] && !interrupted()) complain("%s: %s", input_name(file), set.error);
    } else
        rc = forecast_follow(f, &set, settings, levels, file);
    series_free(&set);
    return rc;
}

static int wrong_together(const options *s) {
    const char *what = s->follow && (s->cv_windows || s->split) ? "--follow and a back-test"
                       : s->cv_windows && s->split              ? "--cv-windows and --split"
                       : s->follow && s->plot                   ? "--follow and --plot"
                       : s->plot && (s->cv_windows || s->split) ? "--plot and a back-test"
                       : s->expanding && s->levels              ? "--expanding and --level"
                       : s->expanding && !s->follow             ? "--expanding without --follow"
                                                                : NULL;
    if (!what) return 0;
    complain("forecast: %s do not go together; see 'strand help forecast'", what);
    return EXIT_USAGE;
}

/* Enough of them that the matrix of the whole horizon repays its making: below, the default mode is as fast. --set has the
 * last word. */
static int many_windows(const options *settings) {
    return settings->split || settings->cv_windows >= 200;
}

int run_forecast(const options *settings) {
    forecaster f;
    series_options o;
    frequency freq;
    band_levels levels;
    int rc;
    memset(&f, 0, sizeof f);
    const char *file = input_argument(settings->args, settings->n_args, &rc);
    if (!rc) rc = wrong_together(settings);
    if (!rc) rc = bands_parse(settings->levels ? settings->levels : "90", &levels);
    if (!rc && (!settings->windows || (settings->follow && !settings->levels))) levels.n = 0;
    if (!rc && settings->forecast_format == FORECAST_NPY && (!settings->output || !strcmp(settings->output, "-")))
        rc = (complain("forecast: -f npy needs -o FILE; see 'strand help forecast'"), EXIT_USAGE);
    if (rc) return rc;
    rc = forecaster_open(&f, settings, settings->horizon,
                         settings->expanding      ? "mode=recurrence"
                         : many_windows(settings) ? "mode=matrix"
                                                  : NULL);
    if (!rc) rc = reading_options(&f, settings, &o, &freq);
    if (!rc) {
        bytes *in = bytes_open(file, settings->follow);
        csv *table = in ? csv_open(bytes_read, in) : NULL;
        rc = EXIT_FAILED;
        if (in && !table) complain("out of memory");
        if (table)
            rc = settings->follow ? follow_on(&f, settings, file, table, &o, &levels)
                                  : run_on(&f, settings, file, table, &o, &levels);
        csv_close(table);
        bytes_close(in);
    }
    forecaster_close(&f);
    return rc;
}

/* forecast_follow.c - a stream that grows: a forecast after every sample. See forecast.h.
 *
 * As a rule each new sample re-runs the last window, so that the forecast is, byte for byte, what a plain forecast of the
 * stream so far would be. --expanding carries the model's state on instead: the first `lag` samples fix scale and transform,
 * every later one costs one step of the recurrence, and the forecast is that of one pass over all samples since the start.
 * Only what the next forecast needs of a series is kept: its last window, or all of it where the whole history makes the
 * scale (--scale series) or the bands (--level).
 */
#include "forecast.h"

#include "input.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

/* What goes with a series of the set, by its index. */
typedef struct stream {
    strand_session *session; /* of --expanding: it holds the state */
    int64_t seen;            /* samples of the series that have been forecast from; -1: none */
    double *scale;           /* mean, std [inputs] */
} stream;

typedef struct follower {
    forecaster *f;
    series_set *set;
    const options *settings;
    const band_levels *levels;
    const char *file;
    forecast_writer *writer;
    stream *streams;
    int64_t n_streams;
    double *out, *rows; /* of --expanding: [horizon, outputs]; [horizon, columns] */
    int known;          /* the frequency is */
} follower;

static int complain_set(const follower *w) {
    if (w->set->error[0] && !interrupted()) complain("%s: %s", input_name(w->file), w->set->error);
    return EXIT_FAILED;
}

static stream *stream_of(follower *w, int64_t index) {
    if (index >= w->n_streams) {
        stream *streams = realloc(w->streams, (size_t)w->set->n * sizeof *streams);
        if (!streams) return complain("out of memory"), NULL;
        w->streams = streams;
        for (; w->n_streams < w->set->n; w->n_streams++) streams[w->n_streams] = (stream){.seen = -1};
    }
    stream *st = &w->streams[index];
    if (!st->scale) st->scale = malloc(2 * (size_t)w->f->inputs * sizeof *st->scale);
    return st->scale ? st : (complain("out of memory"), NULL);
}

/* ---- the two ways ---- */

static int put(follower *w, const series *s, int v) {
    char id[512];
    track_id(w->set, s, w->f, v, id, sizeof id);
    return forecast_writer_put(w->writer, id, s->times[s->n - 1], w->rows, NULL, w->f->horizon);
}

static int rerun(follower *w, series *s) {
    const int columns = forecast_writer_columns(w->writer);
    banded b;
    int bad = banded_start(w->f, &b, s, w->settings, w->levels) || forecaster_flush(w->f);
    for (int v = 0; !bad && v < w->f->outputs; v++)
        bad = banded_values(w->f, w->set, &b, w->levels, v, w->rows, columns) || put(w, s, v);
    banded_free(&b);
    return bad ? -1 : 0;
}

static int open_state(follower *w, stream *st, series *s) {
    strand_session_params params;
    strand_session_params_init(&params);
    params.check_finite = 1;
    params.progress = progress_callback;
    forecaster_scale(w->f, s, w->f->lag, st->scale, st->scale + w->f->inputs);
    if (strand_session_open(w->f->plan, &params, &st->session) == STRAND_OK) return 0;
    st->session = NULL;
    return complain("%s", strand_error(w->f->rt.context)), -1;
}

/* The state goes over samples [from, to) of the series, at most the lag at once. */
static int step(follower *w, stream *st, series *s, int64_t from, int64_t to) {
    forecaster *f = w->f;
    for (int64_t n; from < to; from += n) {
        n = to - from < f->lag ? to - from : f->lag;
        const double *values = s->values + from * f->inputs;
        for (int64_t i = 0; i < n * f->inputs; i++)
            f->windows[i] = (float)((values[i] - st->scale[i % f->inputs]) / st->scale[f->inputs + i % f->inputs]);
        strand_tensor in = {"window", STRAND_F32, 3, {1, n, f->inputs}, f->windows, (uint64_t)(n * f->inputs) * sizeof(float)};
        strand_tensor out = {.name = "forecast"};
        if (strand_session_run(st->session, &in, 1, &out, 1) != STRAND_OK) {
            if (!interrupted()) complain("%s", strand_session_error(st->session));
            return -1;
        }
        const int first = f->inputs - f->outputs;
        for (int64_t t = 0; t < f->horizon * f->outputs; t++) {
            const int v = first + (int)(t % f->outputs);
            w->out[t] = (double)((const float *)out.data)[t] * st->scale[f->inputs + v] + st->scale[v];
        }
    }
    return 0;
}

/* Samples before the last `keep` are forgotten. */
static void forget(follower *w, stream *st, series *s) {
    const int64_t keep = w->f->lag, extra = s->n - keep, c = w->set->columns;
    if (extra < keep + 1024 || w->levels->n || w->settings->scale == SCALE_SERIES) return;
    memmove(s->times, s->times + extra, (size_t)keep * sizeof *s->times);
    memmove(s->rows, s->rows + extra, (size_t)keep * sizeof *s->rows);
    memmove(s->values, s->values + extra * c, (size_t)(keep * c) * sizeof *s->values);
    s->n = keep;
    st->seen -= extra;
}

static int expand(follower *w, stream *st, series *s) {
    const forecaster *f = w->f;
    int bad;
    if (st->session)
        bad = step(w, st, s, st->seen, s->n);
    else
        bad = open_state(w, st, s) || step(w, st, s, 0, f->lag) || step(w, st, s, f->lag, s->n);
    for (int v = 0; !bad && v < f->outputs; v++) {
        for (int64_t t = 0; t < f->horizon; t++) w->rows[t] = w->out[t * f->outputs + v];
        bad = put(w, s, v);
    }
    return bad;
}

static int emit(follower *w, int64_t index) {
    series *s = &w->set->items[index];
    stream *st = stream_of(w, index);
    if (!st) return -1;
    if (s->n < w->f->lag || s->n <= st->seen) return 0;
    if (w->settings->expanding ? expand(w, st, s) : rerun(w, s)) return -1;
    st->seen = s->n;
    forget(w, st, s);
    return 0;
}

/* ---- the stream ---- */

/* Enough of a series has come to know the frequency and to begin. */
static int begin(follower *w) {
    if (series_finish(w->set)) return complain_set(w);
    int rc = forecast_check_frequency(w->f, w->set, w->settings, w->file);
    if (rc) return rc;
    w->writer = forecast_writer_open(w->settings, w->f->rt.info.family, w->set, w->levels, NULL, 0, 1);
    if (w->writer) w->rows = malloc((size_t)(w->f->horizon * forecast_writer_columns(w->writer)) * sizeof *w->rows);
    if (w->writer && !w->rows) return complain("out of memory"), EXIT_FAILED;
    w->known = 1;
    for (int64_t i = 0; w->writer && i < w->set->n; i++)
        if (emit(w, i)) return EXIT_FAILED;
    return w->writer ? 0 : EXIT_FAILED;
}

static int take(follower *w, int64_t index) {
    series *s = &w->set->items[index];
    if (!w->known) return s->n >= w->f->lag ? begin(w) : 0;
    if (!s->sorted) {
        char now[48], before[48];
        time_format(s->times[s->n - 1], &w->set->style, now, sizeof now);
        time_format(s->times[s->n > 1 ? s->n - 2 : 0], &w->set->style, before, sizeof before);
        complain("%s: row %lld: %s comes after %s; a stream must be in order of time", input_name(w->file),
                 (long long)s->rows[s->n - 1], now, before);
        return EXIT_FAILED;
    }
    if (series_settle(w->set, s, s->n - 1)) return complain_set(w);
    return emit(w, index) ? EXIT_FAILED : 0;
}

static int follow_rows(follower *w) {
    const int many = w->set->columns == 1 && w->set->n_names > 1;
    for (;;) {
        int64_t index = 0;
        const int got = series_next(w->set, &index);
        if (got < 0) return complain_set(w);
        if (got == 0) return 0;
        for (int64_t i = index; i < (many ? w->set->n : index + 1); i++) {
            const int was_known = w->known, rc = take(w, i);
            if (rc) return rc;
            if (!was_known && w->known) break; /* begin() has seen to all */
        }
        if (w->writer && !csv_ready(w->set->table) && forecast_writer_flush(w->writer)) return EXIT_FAILED;
    }
}

int forecast_follow(forecaster *f, series_set *set, const options *settings, const band_levels *levels, const char *file) {
    follower w = {.f = f, .set = set, .settings = settings, .levels = levels, .file = file};
    w.out = malloc((size_t)(f->horizon * f->outputs) * sizeof *w.out);
    int rc = w.out ? 0 : (complain("out of memory"), EXIT_FAILED);
    if (!rc && forecaster_prepare(f, levels->n ? settings->windows + 1 : 1)) rc = EXIT_FAILED;
    if (!rc) rc = follow_rows(&w);
    if (!rc && !w.known)
        rc = (complain("%s: ended after %lld samples, before a window of %lld was full", input_name(file),
                       (long long)set->samples, (long long)f->lag),
              EXIT_FAILED);
    if (forecast_writer_close(w.writer, rc == 0)) rc = EXIT_FAILED;
    for (int64_t i = 0; i < w.n_streams; i++) {
        if (w.streams[i].session) strand_session_close(w.streams[i].session);
        free(w.streams[i].scale);
    }
    free(w.streams);
    free(w.out);
    free(w.rows);
    return rc;
}

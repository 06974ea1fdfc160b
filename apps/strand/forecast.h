/* forecast.h - what the files of `strand forecast` share.
 *
 * forecast.c         the command: options, reading, the plain forecast of every series
 * forecast_model.c   what the model says about itself; windows in, forecasts out, in the data's own units
 * forecast_bands.c   conformal bands from a series' own past windows
 * forecast_cv.c      back-tests beside forecasts that need no model
 * forecast_follow.c  a growing stream
 * forecast_write.c   rows as CSV, JSON Lines or NPY; forecast_plot.c draws
 *
 * A track is one variable of one series: what a row of the output belongs to. A cutoff is the number of samples that a forecast
 * may know: it predicts samples cutoff, cutoff + 1, ...
 */
#ifndef STRAND_APP_FORECAST_H
#define STRAND_APP_FORECAST_H

#include "runtime.h"
#include "output.h"
#include "series.h"

enum { MOST_LEVELS = 8, MOST_PANELS = 12 };

#define DEFAULT_FORECAST_MODEL "spacetime-etth1-strand"

/* ---- the model ---- */

typedef struct forecaster {
    runtime rt;
    options own;                   /* a copy of the caller's, with the settings that the model is opened by */
    int64_t lag, horizon, trained; /* samples read; predicted; predicted in training */
    int inputs, outputs;           /* variables; the outputs are the last ones of the inputs */
    int64_t season;
    int has_frequency, scaled;
    frequency freq;
    char columns[512];              /* names of the variables in training, ',' between them; may be "" */
    double *mean, *std;             /* [inputs] of the scaling, set before a series is run */
    double *model_mean, *model_std; /* [inputs] of the config */
    strand_plan *plan;
    strand_session *session;
    int64_t batch, queued;
    float *windows;              /* [batch, lag, inputs] */
    struct queued_window *queue; /* [batch] */
} forecaster;

/* Opens the model for forecasts of `horizon` samples (0: as trained). `extra`: one more setting, or NULL. Returns 0 or an
 * exit code, after a message. forecaster_close may follow in any case. */
int forecaster_open(forecaster *f, const options *settings, int64_t horizon, const char *extra);
void forecaster_close(forecaster *f);
/* Memory for runs of at most `windows` windows. 0 or -1, after a message. */
int forecaster_prepare(forecaster *f, int64_t windows);
/* Chooses the scaling for the samples of `s` before `n` (--scale). */
void forecaster_scale(forecaster *f, const series *s, int64_t n, double *mean, double *std);
/* Queues the window before `cutoff`; `to` gets [horizon, outputs] in the series' units by the next forecaster_flush. mean, std
 * [inputs] and `to` must stay there until then. 0 or -1, after a message. */
int forecaster_push(forecaster *f, const series *s, int64_t cutoff, const double *mean, const double *std, double *to);
int forecaster_flush(forecaster *f);
/* The value of a setting of the model, or NULL. */
const char *forecaster_setting(const forecaster *f, const char *key);

/* ---- bands ---- */

typedef struct band_levels {
    int n;
    double level[MOST_LEVELS];  /* percent */
    char name[MOST_LEVELS][16]; /* "90" */
} band_levels;

/* "80,90". 0, or EXIT_USAGE after a message. */
int bands_parse(const char *text, band_levels *levels);
/* Half the width of the band of `level` percent for each of n steps: the k-th smallest of `windows` absolute residuals, k
 * the least whole number of at least (windows + 1) level / 100. residuals [windows, stride], step t at residuals[w * stride
 * + t]; `width` [n]. Returns 0, or -1 (width is NAN) when there are too few windows for that level. */
int bands_width(const double *residuals, int64_t windows, int64_t stride, int64_t n, double level, double *width);
/* How many windows a level needs. */
int64_t bands_needed(double level);
/* Past windows for bands: cutoffs `last` - j * step, j < n. At most `most` windows of the cutoffs [first, last], `step`
 * apart, 0: evenly. */
typedef struct band_grid {
    int64_t last, step, n;
} band_grid;
band_grid bands_grid(int64_t first, int64_t last, int64_t most, int64_t step);

/* A forecast at the end of a series with its past windows. */
typedef struct banded {
    series *s;
    band_grid grid;
    double *forecast, *past; /* [horizon, outputs]; [grid.n, horizon, outputs] */
    double *scale;           /* mean, std [inputs] */
} banded;
/* Queues all windows; forecaster_flush must follow. 0 or -1, after a message; banded_free may follow in any case. */
int banded_start(forecaster *f, banded *b, series *s, const options *settings, const band_levels *levels);
/* values [horizon, columns] of variable v: the forecast, then lo and hi of each level, NAN where there are too few windows. */
int banded_values(const forecaster *f, const series_set *set, const banded *b, const band_levels *levels, int v, double *values,
                  int columns);
void banded_free(banded *b);

/* ---- output ---- */

typedef struct forecast_writer forecast_writer;

/* Names of the value columns: the family's, then lo and hi of each level, then `extra` more. NULL on failure, after a message.
 * `cutoffs`: 1: rows have a cutoff; 2: and the truth y. */
forecast_writer *forecast_writer_open(const options *settings, const char *family, const series_set *set,
                                      const band_levels *levels, const char *const *extra, int n_extra, int cutoffs);
/* Rows of one forecast: values [n, columns], NAN where there is none; times from `first_time` on by the set's frequency. */
int forecast_writer_put(forecast_writer *w, const char *id, int64_t cutoff_time, const double *values, const double *truth,
                        int64_t n);
int forecast_writer_columns(const forecast_writer *w);
/* What was written so far goes out now. */
int forecast_writer_flush(forecast_writer *w);
int forecast_writer_close(forecast_writer *w, int keep);

/* "OT", "a/OT": the id of variable `v` (of the outputs) of a series. */
void track_id(const series_set *set, const series *s, const forecaster *f, int v, char *text, size_t size);
/* Sample i of variable `v` of the outputs. */
double track_value(const series_set *set, const series *s, const forecaster *f, int v, int64_t i);

/* ---- the plot ---- */

typedef struct plot plot;

/* `unit` of the values, or NULL. NULL on failure, after a message. */
plot *plot_open(const char *path, const series_set *set, const char *family, const band_levels *levels, const char *unit);
/* A panel: the last `past` values and the forecast [n, columns] as it is written (the model's value, then lo and hi of each
 * level). */
int plot_add(plot *p, const char *id, int64_t last_time, const double *history, int64_t past, const double *values, int columns,
             int64_t n);
int plot_close(plot *p, int keep);
/* A line of blocks on stderr, when that is a terminal. */
void sparkline(const char *id, const double *history, int64_t past, const double *values, int columns, int64_t n);

/* ---- the ways to run ---- */

int forecast_plain(forecaster *f, series_set *set, const options *settings, const band_levels *levels);
int forecast_back_test(forecaster *f, series_set *set, const options *settings, const band_levels *levels);
int forecast_follow(forecaster *f, series_set *set, const options *settings, const band_levels *levels, const char *file);
/* Common to all, once the frequency is known: is it the model's? 0, or an exit code after a message. */
int forecast_check_frequency(const forecaster *f, const series_set *set, const options *settings, const char *file);

#endif

/* forecast_bands.c - split conformal bands: how far the forecasts of a series' own past windows were from what came. See
 * forecast.h.
 *
 * With n exchangeable windows the next one lies within the k-th smallest absolute residual, k = ceil((n + 1) level), with
 * probability of at least the level (Vovk et al., Algorithmic Learning in a Random World, 2005). Fewer windows than that
 * give no band at all.
 */
#include "forecast.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int bands_parse(const char *text, band_levels *levels) {
    levels->n = 0;
    for (const char *p = text; *p;) {
        char *end;
        const double level = strtod(p, &end);
        const size_t length = (size_t)(end - p);
        if (end == p || (*end && *end != ',') || !(level > 0 && level < 100) || length > 8 || levels->n == MOST_LEVELS)
            return complain("forecast: --level: '%s' is not up to %d percentages between 0 and 100 with ',' between them; see "
                            "'strand help forecast'",
                            text, MOST_LEVELS),
                   EXIT_USAGE;
        levels->level[levels->n] = level;
        snprintf(levels->name[levels->n++], sizeof levels->name[0], "%.*s", (int)length, p);
        p = end + (*end == ',');
    }
    return 0;
}

static int64_t rank_of(int64_t windows, double level) {
    return (int64_t)ceil((double)(windows + 1) * level / 100 - 1e-9);
}

int64_t bands_needed(double level) {
    int64_t n = 1;
    while (rank_of(n, level) > n) n++;
    return n;
}

band_grid bands_grid(int64_t first, int64_t last, int64_t most, int64_t step) {
    const int64_t room = last - first + 1, fit = room < 1 ? 0 : (room - 1) / (step ? step : 1) + 1;
    band_grid grid = {last, step ? step : 1, fit < most ? fit : most};
    if (!step && grid.n > 1) grid.step = (room - 1) / (grid.n - 1);
    return grid;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int bands_width(const double *residuals, int64_t windows, int64_t stride, int64_t n, double level, double *width) {
    const int64_t rank = rank_of(windows, level);
    double *sorted = rank <= windows && windows > 0 ? malloc((size_t)windows * sizeof *sorted) : NULL;
    for (int64_t t = 0; t < n; t++) {
        width[t] = NAN;
        if (!sorted) continue;
        for (int64_t w = 0; w < windows; w++) sorted[w] = residuals[w * stride + t];
        qsort(sorted, (size_t)windows, sizeof *sorted, by_size);
        width[t] = sorted[rank - 1];
    }
    const int made = sorted != NULL;
    free(sorted);
    return made ? 0 : -1;
}

/* ---- a forecast with its bands ---- */

int banded_start(forecaster *f, banded *b, series *s, const options *settings, const band_levels *levels) {
    const size_t size = (size_t)(f->horizon * f->outputs);
    memset(b, 0, sizeof *b);
    b->s = s;
    if (levels->n) b->grid = bands_grid(f->lag, s->n - f->horizon, settings->windows, settings->window_step);
    b->forecast = malloc(size * sizeof *b->forecast);
    b->past = malloc((size * (size_t)b->grid.n + 1) * sizeof *b->past);
    b->scale = malloc(2 * (size_t)f->inputs * sizeof *b->scale);
    if (!b->forecast || !b->past || !b->scale) return complain("out of memory"), -1;
    const double *mean = b->scale, *std = b->scale + f->inputs;
    forecaster_scale(f, s, s->n, b->scale, b->scale + f->inputs);
    for (int64_t w = 0; w < b->grid.n; w++)
        if (forecaster_push(f, s, b->grid.last - w * b->grid.step, mean, std, b->past + (size_t)w * size)) return -1;
    return forecaster_push(f, s, s->n, mean, std, b->forecast);
}

int banded_values(const forecaster *f, const series_set *set, const banded *b, const band_levels *levels, int v, double *values,
                  int columns) {
    const int64_t h = f->horizon, o = f->outputs, n = b->grid.n;
    double *residuals = malloc((size_t)(n * h + h) * sizeof *residuals), *width = residuals + n * h;
    if (!residuals) return complain("out of memory"), -1;
    for (int64_t t = 0; t < h; t++) values[t * columns] = b->forecast[t * o + v];
    for (int64_t i = 0; i < n * h; i++) {
        const int64_t sample = b->grid.last - i / h * b->grid.step + i % h;
        residuals[i] = fabs(track_value(set, b->s, f, v, sample) - b->past[i * o + v]);
    }
    for (int k = 0; k < levels->n; k++) {
        bands_width(residuals, n, h, h, levels->level[k], width);
        for (int64_t t = 0; t < h; t++) {
            values[t * columns + 1 + 2 * k] = values[t * columns] - width[t];
            values[t * columns + 2 + 2 * k] = values[t * columns] + width[t];
        }
    }
    free(residuals);
    return 0;
}

void banded_free(banded *b) {
    free(b->forecast);
    free(b->past);
    free(b->scale);
}

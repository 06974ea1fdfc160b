/* forecast_bands.c - split conformal bands: how far the forecasts of a series' own past windows were from what came. See forecast.h.
 *
 * With n exchangeable windows the next one lies within the k-th smallest absolute residual, k = ceil((n + 1) level), with probability
 * of at least the level (Vovk et al., Algorithmic Learning in a Random World, 2005). Fewer windows than that give no band at all.
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

band_grid bands_grid(int64_t first, int64_t last, int64_t most) {
    const int64_t room = last - first + 1;
    band_grid grid = {last, 1, room < 0 ? 0 : room < most ? room : most};
    if (grid.n > 1) grid.step = (room - 1) / (grid.n - 1);
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

/* settle.c - samples in order: sorting, the common frequency, holes and duplicates. See series.h.
 *
 * A hole is a point of the grid without a row, or a row without a value. Both are errors that name the row unless the caller
 * said how to fill them; then holes before the first value of a series are left out, and so are those after the last one for
 * `linear`, which wants a neighbour on each side.
 */
#include "series.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FILLED ((int64_t)1 << 24) /* samples of one series, where the caller sets no bound */

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static int
fail(series_set *set, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(set->error, sizeof set->error, format, list);
    va_end(list);
    return -1;
}

/* " of series 'x'" where there are several. */
static const char *of_series(const series_set *set, const series *s, char *text, size_t size) {
    text[0] = 0;
    if (set->has_ids) snprintf(text, size, " of series '%.40s'", s->id);
    return text;
}

typedef struct sample_key {
    int64_t time, index;
} sample_key;

static int by_time(const void *a, const void *b) {
    const sample_key *x = a, *y = b;
    return x->time != y->time ? (x->time < y->time ? -1 : 1) : x->index < y->index ? -1 : x->index > y->index;
}

/* Orders s[from, n) by time; rows of one time keep the file's order. */
static int sort_samples(series_set *set, series *s, int64_t from) {
    const int64_t n = s->n - from, c = set->columns;
    sample_key *keys = malloc((size_t)n * sizeof *keys);
    int64_t *rows = malloc((size_t)n * sizeof *rows);
    double *values = malloc((size_t)(n * c) * sizeof *values);
    int rc = keys && rows && values ? 0 : fail(set, "out of memory");
    for (int64_t i = 0; !rc && i < n; i++) keys[i] = (sample_key){s->times[from + i], i};
    if (!rc) qsort(keys, (size_t)n, sizeof *keys, by_time);
    for (int64_t i = 0; !rc && i < n; i++) {
        rows[i] = s->rows[from + keys[i].index];
        memcpy(values + i * c, s->values + (from + keys[i].index) * c, (size_t)c * sizeof *values);
    }
    for (int64_t i = 0; !rc && i < n; i++) s->times[from + i] = keys[i].time;
    if (!rc) memcpy(s->rows + from, rows, (size_t)n * sizeof *rows);
    if (!rc) memcpy(s->values + from * c, values, (size_t)(n * c) * sizeof *values);
    free(keys);
    free(rows);
    free(values);
    return rc;
}

/* Checks s[from, n) for duplicates and steps off the grid; *holes gets how many points of the grid have no row. */
static int check_grid(series_set *set, series *s, int64_t from, int64_t *holes) {
    char a[48], b[48], name[80], words[80];
    const int64_t most = set->options.most_filled ? set->options.most_filled : MOST_FILLED;
    *holes = 0;
    for (int64_t i = from > 0 ? from : 1; i < s->n; i++) {
        time_format(s->times[i - 1], &set->style, a, sizeof a);
        if (s->times[i] == s->times[i - 1])
            return fail(set, "row %lld: %s%s is there twice, first in row %lld; remove one of them", (long long)s->rows[i], a,
                        of_series(set, s, name, sizeof name), (long long)s->rows[i - 1]);
        const int64_t steps = frequency_steps(&set->freq, s->times[i - 1], s->times[i]);
        if (steps == 1) continue;
        time_format(s->times[i], &set->style, b, sizeof b);
        frequency_words(&set->freq, words, sizeof words);
        if (steps < 0)
            return fail(set, "row %lld: from %s to %s%s is no whole number of steps (%s); resample it first, or say --freq",
                        (long long)s->rows[i], a, b, of_series(set, s, name, sizeof name), words);
        if (set->options.missing == MISSING_ERROR)
            return fail(
                set,
                "row %lld: %lld sample%s missing between %s and %s%s (%s); fill the hole with --missing ffill, linear or zero",
                (long long)s->rows[i], (long long)steps - 1, steps == 2 ? " is" : "s are", a, b,
                of_series(set, s, name, sizeof name), words);
        *holes += steps - 1;
        if (*holes > most)
            return fail(set, "row %lld: filling the holes up to %s would take more than %lld samples (%s)",
                        (long long)s->rows[i], b, (long long)most, words);
    }
    return 0;
}

/* Puts rows of NAN into the holes after sample `from` - 1. */
static int open_holes(series_set *set, series *s, int64_t from, int64_t holes) {
    const int64_t n = s->n + holes, c = set->columns;
    int64_t *times = realloc(s->times, (size_t)n * sizeof *times);
    if (times) s->times = times;
    int64_t *rows = realloc(s->rows, (size_t)n * sizeof *rows);
    if (rows) s->rows = rows;
    double *values = realloc(s->values, (size_t)(n * c) * sizeof *values);
    if (values) s->values = values;
    if (!times || !rows || !values) return fail(set, "out of memory");
    s->room = n;
    int64_t to = n;
    for (int64_t i = s->n - 1; i >= (from > 0 ? from : 1); i--) { /* backwards: every sample moves to its place or stays */
        const int64_t before = times[i - 1], steps = frequency_steps(&set->freq, before, times[i]);
        to--;
        times[to] = times[i];
        rows[to] = rows[i];
        memmove(values + to * c, values + i * c, (size_t)c * sizeof *values);
        for (int64_t k = steps - 1; k > 0; k--) {
            to--;
            times[to] = frequency_after(&set->freq, before, k);
            rows[to] = 0;
            for (int64_t v = 0; v < c; v++) values[to * c + v] = NAN;
        }
    }
    s->n = n;
    return 0;
}

static int is_hole(const series_set *set, const series *s, int64_t i) {
    for (int64_t v = 0; v < set->columns; v++)
        if (isnan(s->values[i * set->columns + v])) return 1;
    return 0;
}

/* Drops samples before the first whole one, and for `linear` those after the last. */
static void trim(series_set *set, series *s, int64_t from) {
    const int64_t c = set->columns;
    int64_t first = 0;
    if (set->options.missing == MISSING_LINEAR)
        while (s->n > from && is_hole(set, s, s->n - 1)) s->n--, set->cut++;
    if (set->options.missing == MISSING_ZERO) return;
    while (from == 0 && first < s->n && is_hole(set, s, first)) first++;
    if (!first) return;
    memmove(s->times, s->times + first, (size_t)(s->n - first) * sizeof *s->times);
    memmove(s->rows, s->rows + first, (size_t)(s->n - first) * sizeof *s->rows);
    memmove(s->values, s->values + first * c, (size_t)((s->n - first) * c) * sizeof *s->values);
    s->n -= first;
    set->cut += first;
}

/* Fills samples [i, next) of variable v, which are missing; returns `next`. */
static int64_t fill_run(series_set *set, series *s, int64_t v, int64_t i) {
    const int64_t c = set->columns;
    double *values = s->values + v;
    int64_t next = i;
    while (next < s->n && isnan(values[next * c])) next++;
    const double before = i ? values[(i - 1) * c] : 0, after = next < s->n ? values[next * c] : before;
    for (int64_t k = i; k < next; k++) {
        const double part = (double)(k - i + 1) / (double)(next - i + 1);
        values[k * c] = set->options.missing == MISSING_ZERO    ? 0
                        : set->options.missing == MISSING_FFILL ? before
                                                                : before * (1 - part) + after * part;
    }
    set->filled += next - i;
    return next;
}

static void fill_holes(series_set *set, series *s, int64_t from) {
    trim(set, s, from);
    for (int64_t v = 0; v < set->columns; v++)
        for (int64_t i = from; i < s->n; i++)
            if (isnan(s->values[i * set->columns + v])) i = fill_run(set, s, v, i);
}

/* A value that is not there and may not be filled in. */
static int check_values(series_set *set, const series *s, int64_t from) {
    char name[80], text[48];
    for (int64_t i = from; i < s->n && set->options.missing == MISSING_ERROR; i++)
        for (int64_t v = 0; v < set->columns; v++)
            if (isnan(s->values[i * set->columns + v])) {
                const int64_t column = set->columns == 1 && set->n_names > 1 ? s - set->items : v;
                time_format(s->times[i], &set->style, text, sizeof text);
                return fail(set,
                            "row %lld, column %d: the value at %s%s is missing; fill it with --missing ffill, linear or zero",
                            (long long)s->rows[i], set->value_at[column] + 1, text, of_series(set, s, name, sizeof name));
            }
    return 0;
}

int series_settle(series_set *set, series *s, int64_t from) {
    int64_t holes;
    if (!s->sorted && sort_samples(set, s, 0)) return -1;
    if (!s->sorted) set->sorted++, from = 0;
    s->sorted = 1;
    if (check_grid(set, s, from, &holes) || check_values(set, s, from)) return -1;
    if (holes && open_holes(set, s, from, holes)) return -1;
    if (set->options.missing != MISSING_ERROR) fill_holes(set, s, from);
    return 0;
}

/* The frequency of the longest series; the others are checked against it. */
static int infer(series_set *set) {
    const series *longest = NULL;
    for (int64_t i = 0; i < set->n; i++)
        if (!longest || set->items[i].n > longest->n) longest = &set->items[i];
    if (!longest || longest->n < 2)
        return fail(set, "%s, which does not tell the frequency; say --freq",
                    !longest || !longest->n ? "there are no samples" : "there is one sample a series");
    if (frequency_infer(longest->times, longest->n, set->style.kind, &set->freq))
        return fail(set, "all samples have the same time");
    return 0;
}

int series_finish(series_set *set) {
    for (int64_t i = 0; i < set->n; i++)
        if (!set->items[i].sorted) {
            if (sort_samples(set, &set->items[i], 0)) return -1;
            set->sorted++;
            set->items[i].sorted = 1;
        }
    if (set->options.given)
        set->freq = *set->options.given;
    else if (infer(set))
        return -1;
    if ((set->freq.kind == FREQUENCY_COUNT) != (set->style.kind == TIME_NUMBER) && set->style.kind != TIME_NONE)
        return fail(set, "--freq is for %s, but the column '%.40s' holds %s",
                    set->freq.kind == FREQUENCY_COUNT ? "plain numbers" : "times", set->time_name,
                    set->style.kind == TIME_NUMBER ? "plain numbers" : "times");
    for (int64_t i = 0; i < set->n; i++)
        if (series_settle(set, &set->items[i], 0)) return -1;
    return 0;
}

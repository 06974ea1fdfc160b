/* series.h - time series from a table: which columns mean what, values as numbers, samples in order without holes.
 *
 * Two layouts. Long: a row a sample with the columns unique_id, ds, y (any of which the caller may name otherwise; without
 * an id there is one series). Wide: a row a point in time with a date and a column a variable (date, HUFL, ..., OT). A
 * series holds [n, columns] values: one column of the table each (columns 1), or all wanted columns together (for models of
 * several variables).
 *
 * Rows are added one by one (series_next), so that a growing stream is read as it comes; series_finish then sorts, infers the
 * frequency, and fills or refuses holes. Messages are one line that names row and column; this file prints nothing.
 */
#ifndef STRAND_APP_SERIES_H
#define STRAND_APP_SERIES_H

#include "csv.h"
#include "times.h"

typedef enum series_missing { MISSING_ERROR, MISSING_FFILL, MISSING_LINEAR, MISSING_ZERO } series_missing;
typedef enum series_decimal { DECIMAL_AUTO, DECIMAL_POINT, DECIMAL_COMMA } series_decimal;

typedef struct series_options {
    const char *id, *time, *values; /* names of columns, values may be several with ',' between; NULL: looked for */
    const char *prefer; /* values when the table has all of them and `values` is NULL (what the model was trained on) */
    int columns;        /* variables of a series: 1, or as many as `values` names */
    series_missing missing;
    series_decimal decimal;
    int64_t most_filled;    /* samples that filling holes may make of a series; 0: 2^24 */
    const frequency *given; /* NULL: inferred */
    int limited;            /* take samples up to `until` alone */
    int64_t until;
} series_options;

typedef struct series {
    char *id;        /* as the file has it; the column's name in a wide table; "" where there is none */
    int64_t n, room; /* samples */
    int64_t *times;  /* [n] */
    int64_t *rows;   /* [n] of the file; 0: filled in */
    double *values;  /* [n, columns]; NAN is only there before series_finish */
    int sorted;
} series;

typedef struct series_set {
    series *items;
    int64_t n, room;
    int columns;
    char **names; /* [columns] of the values; of a wide table of single series: one a series */
    int n_names;
    time_style style;
    char time_name[64], id_name[64];
    int has_ids;    /* the table has several series, or an id column */
    frequency freq; /* common to all, after series_finish */
    int64_t samples, filled, cut,
        sorted; /* read; filled in; left out at ends for want of a neighbour; series that had to be sorted */
    char error[512];
    /* of the reader */
    csv *table;
    series_options options;
    int id_at, time_at, *value_at, n_columns;
    int64_t *index, index_room; /* hash of ids -> series + 1 */
    int64_t last_row;
} series_set;

/* Reads the header and the first row, and decides what the columns are. `table` is borrowed. 0, or -1 with set->error. */
int series_begin(series_set *set, csv *table, const series_options *options);
/* Takes one more row. 1, 0 at the end, -1 with set->error ("" when reading failed and that was said). touched: the first
 * series of the set that got a sample (a wide table of n single series: the first of n); may be NULL. */
int series_next(series_set *set, int64_t *touched);
/* Sorts, infers the frequency if none was given, checks and fills. 0, or -1. */
int series_finish(series_set *set);
/* The same for one series, of which the first `from` samples are in order already. The set's frequency is known. */
int series_settle(series_set *set, series *s, int64_t from);
void series_free(series_set *set);

#endif

/* grid.h - a table of results in the form that its reader wants: aligned text, Markdown, CSV or JSON.
 *
 * People get scaled numbers under titles with units, programs the plain values (seconds, bytes) under keys.
 */
#ifndef STRAND_APP_GRID_H
#define STRAND_APP_GRID_H

#include "output.h"

enum { GRID_TEXT, GRID_MD, GRID_CSV, GRID_JSON };

typedef struct grid_column {
    const char *key;    /* for programs: "peak_rss_bytes" */
    const char *title;  /* for people: "peak RSS, MiB" */
    const char *format; /* of the scaled number; NULL: a column of texts */
    double scale;
} grid_column;

typedef struct grid_cell {
    char *text; /* owned; NULL in columns of numbers */
    double number;
} grid_cell;

typedef struct grid {
    const grid_column *columns;
    int n_columns, n_cells, room;
    grid_cell *cells;
    int failed; /* out of memory */
} grid;

void grid_begin(grid *g, const grid_column *columns, int n_columns);
/* Cells are added row by row. A number that is not known is NaN: '-', or nothing, or null. */
void grid_text(grid *g, const char *text);
void grid_number(grid *g, double number);
/* Returns 0 or -1 after a message. */
int grid_print(const grid *g, output *out, int form);
void grid_free(grid *g);

#endif

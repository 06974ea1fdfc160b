/* grid.c - tables in four forms. See grid.h.
 */
#include "grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 256 };

void grid_begin(grid *g, const grid_column *columns, int n_columns) {
    *g = (grid){.columns = columns, .n_columns = n_columns};
}

static void add(grid *g, grid_cell cell) {
    if (g->n_cells == g->room) {
        const int room = g->room ? 2 * g->room : 64;
        grid_cell *cells = realloc(g->cells, (size_t)room * sizeof *cells);
        if (!cells) {
            free(cell.text);
            g->failed = 1;
            return;
        }
        g->cells = cells;
        g->room = room;
    }
    g->cells[g->n_cells++] = cell;
}

void grid_text(grid *g, const char *text) {
    grid_cell cell = {malloc(strlen(text) + 1), 0};
    if (!cell.text) {
        g->failed = 1;
        return;
    }
    strcpy(cell.text, text);
    add(g, cell);
}

void grid_number(grid *g, double number) {
    add(g, (grid_cell){NULL, number});
}

void grid_free(grid *g) {
    for (int i = 0; i < g->n_cells; i++) free(g->cells[i].text);
    free(g->cells);
    *g = (grid){0};
}

/* What people read in a cell. */
static const char *cell_text(const grid *g, int row, int column, char *text) {
    const grid_cell *cell = &g->cells[row * g->n_columns + column];
    const grid_column *c = &g->columns[column];
    if (cell->text) return cell->text;
    if (isnan(cell->number)) return "-";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, CELL, c->format, cell->number * c->scale);
#pragma GCC diagnostic pop
    return text;
}

static void print_text(const grid *g, output *out, int rows) {
    char text[CELL];
    for (int r = -1; r < rows; r++)
        for (int c = 0; c < g->n_columns; c++) {
            int width = (int)strlen(g->columns[c].title);
            for (int i = 0; i < rows; i++) {
                const int have = (int)strlen(cell_text(g, i, c, text));
                if (have > width) width = have;
            }
            const char *shown = r < 0 ? g->columns[c].title : cell_text(g, r, c, text);
            const int last = c == g->n_columns - 1;
            if (g->columns[c].format)
                output_printf(out, "%*s%s", width, shown, last ? "\n" : "  ");
            else
                output_printf(out, "%-*s%s", last ? 0 : width, shown, last ? "\n" : "  ");
        }
}

static void print_md(const grid *g, output *out, int rows) {
    char text[CELL];
    for (int c = 0; c < g->n_columns; c++)
        output_printf(out, "| %s %s", g->columns[c].title, c == g->n_columns - 1 ? "|\n" : "");
    for (int c = 0; c < g->n_columns; c++)
        output_printf(out, "%s%s", g->columns[c].format ? "|--:" : "|---", c == g->n_columns - 1 ? "|\n" : "");
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < g->n_columns; c++)
            output_printf(out, "| %s %s", cell_text(g, r, c, text), c == g->n_columns - 1 ? "|\n" : "");
}

/* A text between double quotes: doubled inside for CSV, with a backslash for JSON. */
static void quoted(output *out, const char *text, int json) {
    output_printf(out, "\"");
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (json && c < 0x20)
            output_printf(out, "\\u%04x", c);
        else if (c == '"' || (json && c == '\\'))
            output_printf(out, "%c%c", json ? '\\' : '"', c);
        else
            output_printf(out, "%c", c);
    }
    output_printf(out, "\"");
}

static void print_csv(const grid *g, output *out, int rows) {
    for (int c = 0; c < g->n_columns; c++) output_printf(out, "%s%s", g->columns[c].key, c == g->n_columns - 1 ? "\n" : ",");
    for (int i = 0; i < rows * g->n_columns; i++) {
        const grid_cell *cell = &g->cells[i];
        if (cell->text && strpbrk(cell->text, ",\"\r\n"))
            quoted(out, cell->text, 0);
        else if (cell->text)
            output_printf(out, "%s", cell->text);
        else if (!isnan(cell->number))
            output_printf(out, "%.9g", cell->number);
        output_printf(out, "%s", (i + 1) % g->n_columns ? "," : "\n");
    }
}

static void print_json(const grid *g, output *out, int rows) {
    output_printf(out, "[");
    for (int i = 0; i < rows * g->n_columns; i++) {
        const grid_cell *cell = &g->cells[i];
        const int c = i % g->n_columns;
        output_printf(out, "%s", c ? ", " : i ? ",\n {" : "\n {");
        quoted(out, g->columns[c].key, 1);
        output_printf(out, ": ");
        if (cell->text)
            quoted(out, cell->text, 1);
        else if (isnan(cell->number))
            output_printf(out, "null");
        else
            output_printf(out, "%.9g", cell->number);
        if (c == g->n_columns - 1) output_printf(out, "}");
    }
    output_printf(out, "\n]");
}

int grid_print(const grid *g, output *out, int form) {
    const int rows = g->n_cells / g->n_columns;
    if (g->failed) return complain("out of memory"), -1;
    if (form == GRID_MD)
        print_md(g, out, rows);
    else if (form == GRID_CSV)
        print_csv(g, out, rows);
    else if (form == GRID_JSON)
        print_json(g, out, rows);
    else
        print_text(g, out, rows);
    return output_write(out, "", 0);
}

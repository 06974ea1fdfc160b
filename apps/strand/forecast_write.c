/* forecast_write.c - forecasts as rows: CSV and TSV, JSON Lines, or one NPY array with a table of its rows beside it. See
 * forecast.h.
 *
 * Long format: unique_id, ds, (cutoff, y,) the model's column, lo and hi of each level, further columns. What is not known
 * is empty in CSV, null in JSON, NaN in NPY.
 */
#include "forecast.h"

#include "npy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 2 * MOST_LEVELS + 8, NAME_SIZE = 96 };

struct forecast_writer {
    output *out, *table; /* table: FILE.tsv beside an array */
    char table_path[4096];
    const series_set *set;
    int format, columns, cutoffs; /* cutoffs: 1 a cutoff a row, 2 the truth too */
    char names[MOST_COLUMNS][NAME_SIZE];
    int64_t written, steps;
};

static int ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int format_by_name(const char *path) {
    if (!path) return FORECAST_CSV;
    if (ends_with(path, ".npy")) return FORECAST_NPY;
    if (ends_with(path, ".jsonl") || ends_with(path, ".ndjson")) return FORECAST_JSONL;
    return ends_with(path, ".tsv") ? FORECAST_TSV : FORECAST_CSV;
}

static void add_name(forecast_writer *w, const char *a, const char *b, const char *c) {
    snprintf(w->names[w->columns++], NAME_SIZE, "%.60s%s%.16s", a, b, c);
}

/* A field of CSV, quoted where it must be. */
static void put_text(forecast_writer *w, const char *text) {
    const char separator = w->format == FORECAST_TSV ? '\t' : ',';
    if (!strchr(text, separator) && !strpbrk(text, "\"\r\n")) {
        output_write(w->out, text, strlen(text));
        return;
    }
    output_write(w->out, "\"", 1);
    for (; *text; text++) output_write(w->out, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1);
    output_write(w->out, "\"", 1);
}

static void put_json_text(forecast_writer *w, const char *text) {
    output_write(w->out, "\"", 1);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            output_printf(w->out, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            output_printf(w->out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            output_write(w->out, text, 1);
    }
    output_write(w->out, "\"", 1);
}

static void put_header(forecast_writer *w) {
    const char *separator = w->format == FORECAST_TSV ? "\t" : ",";
    put_text(w, w->set->id_name);
    output_printf(w->out, "%s", separator);
    put_text(w, w->set->time_name);
    if (w->cutoffs) output_printf(w->out, "%scutoff", separator);
    if (w->cutoffs > 1) output_printf(w->out, "%sy", separator);
    for (int i = 0; i < w->columns; i++) output_printf(w->out, "%s%s", separator, w->names[i]);
    output_printf(w->out, "\n");
}

static int open_array(forecast_writer *w, const char *path) {
    if (!output_seekable(w->out)) return complain("%s: an NPY array needs a regular file", path), -1;
    if (snprintf(w->table_path, sizeof w->table_path, "%s.tsv", path) >= (int)sizeof w->table_path)
        return output_complain(path, 36), -1;
    w->table = output_open(w->table_path);
    if (!w->table || npy_begin(w->out)) return -1;
    output_printf(w->table, "%s\tcutoff\tfirst\tlast", w->set->id_name);
    if (w->cutoffs > 1) output_printf(w->table, "\ty");
    for (int i = 0; i < w->columns; i++) output_printf(w->table, "\t%s", w->names[i]);
    return output_printf(w->table, "\n");
}

forecast_writer *forecast_writer_open(const options *settings, const char *family, const series_set *set,
                                      const band_levels *levels, const char *const *extra, int n_extra, int cutoffs) {
    forecast_writer *w = calloc(1, sizeof *w);
    if (!w) return complain("out of memory"), NULL;
    w->set = set;
    w->cutoffs = cutoffs;
    w->format = settings->forecast_format == FORECAST_AUTO ? format_by_name(settings->output) : settings->forecast_format;
    add_name(w, family, "", "");
    for (int i = 0; i < levels->n; i++) {
        add_name(w, family, "-lo-", levels->name[i]);
        add_name(w, family, "-hi-", levels->name[i]);
    }
    for (int i = 0; i < n_extra; i++) add_name(w, extra[i], "", "");
    w->out = output_open(settings->output);
    if (!w->out) return free(w), NULL;
    int bad = 0;
    if (w->format == FORECAST_NPY)
        bad = open_array(w, settings->output ? settings->output : "standard output");
    else if (w->format != FORECAST_JSONL)
        put_header(w);
    if (!bad) return w;
    forecast_writer_close(w, 0);
    return NULL;
}

int forecast_writer_columns(const forecast_writer *w) {
    return w->columns;
}

static int put_array(forecast_writer *w, const char *id, int64_t cutoff, const double *values, const double *truth, int64_t n) {
    char a[48], b[48], c[48];
    for (int64_t t = 0; t < n; t++) {
        float row[MOST_COLUMNS + 1];
        int used = 0;
        if (w->cutoffs > 1) row[used++] = (float)truth[t];
        for (int i = 0; i < w->columns; i++) row[used++] = (float)values[t * w->columns + i];
        output_write(w->out, row, (size_t)used * sizeof *row);
    }
    time_format(cutoff, &w->set->style, a, sizeof a);
    time_format(frequency_after(&w->set->freq, cutoff, 1), &w->set->style, b, sizeof b);
    time_format(frequency_after(&w->set->freq, cutoff, n), &w->set->style, c, sizeof c);
    w->written++;
    w->steps = n;
    char name[512]; /* one line, whatever the id holds */
    snprintf(name, sizeof name, "%s", id);
    for (char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20) *p = ' ';
    return output_printf(w->table, "%s\t%s\t%s\t%s\n", name, a, b, c);
}

static void put_json_row(forecast_writer *w, const char *id, const char *ds, const char *cutoff, const double *truth,
                         const double *values) {
    const int quote = w->set->style.kind == TIME_CALENDAR;
    output_printf(w->out, "{");
    put_json_text(w, w->set->id_name);
    output_printf(w->out, ":");
    put_json_text(w, id);
    output_printf(w->out, ",");
    put_json_text(w, w->set->time_name);
    output_printf(w->out, quote ? ":\"%s\"" : ":%s", ds);
    if (w->cutoffs) output_printf(w->out, quote ? ",\"cutoff\":\"%s\"" : ",\"cutoff\":%s", cutoff);
    if (w->cutoffs > 1) output_printf(w->out, ",\"y\":%.9g", *truth);
    for (int i = 0; i < w->columns; i++) {
        if (isnan(values[i]))
            output_printf(w->out, ",\"%s\":null", w->names[i]);
        else
            output_printf(w->out, ",\"%s\":%.7g", w->names[i], values[i]);
    }
    output_printf(w->out, "}\n");
}

static void put_text_row(forecast_writer *w, const char *id, const char *ds, const char *cutoff, const double *truth,
                         const double *values) {
    const char separator = w->format == FORECAST_TSV ? '\t' : ',';
    put_text(w, id);
    output_printf(w->out, "%c%s", separator, ds);
    if (w->cutoffs) output_printf(w->out, "%c%s", separator, cutoff);
    if (w->cutoffs > 1) output_printf(w->out, "%c%.9g", separator, *truth);
    for (int i = 0; i < w->columns; i++) {
        if (isnan(values[i]))
            output_printf(w->out, "%c", separator);
        else
            output_printf(w->out, "%c%.7g", separator, values[i]);
    }
    output_printf(w->out, "\n");
}

int forecast_writer_put(forecast_writer *w, const char *id, int64_t cutoff, const double *values, const double *truth,
                        int64_t n) {
    char ds[48], at[48];
    if (frequency_after(&w->set->freq, cutoff, n) == INT64_MAX)
        return complain("'%.60s': the forecast would go past the year 9999", id), -1;
    if (w->format == FORECAST_NPY) return put_array(w, id, cutoff, values, truth, n);
    time_format(cutoff, &w->set->style, at, sizeof at);
    for (int64_t t = 0; t < n; t++) {
        time_format(frequency_after(&w->set->freq, cutoff, t + 1), &w->set->style, ds, sizeof ds);
        const double *row = values + t * w->columns;
        if (w->format == FORECAST_JSONL)
            put_json_row(w, id, ds, at, truth ? &truth[t] : NULL, row);
        else
            put_text_row(w, id, ds, at, truth ? &truth[t] : NULL, row);
    }
    return output_write(w->out, "", 0);
}

int forecast_writer_flush(forecast_writer *w) {
    return output_flush(w->out);
}

int forecast_writer_close(forecast_writer *w, int keep) {
    if (!w) return 0;
    int bad = 0;
    if (w->format == FORECAST_NPY && w->table) {
        const npy_shape shape = {.rank = 3, .dims = {w->written, w->steps, w->columns + (w->cutoffs > 1)}};
        npy_shape named = shape;
        snprintf(named.descr, sizeof named.descr, "%s", npy_float32());
        if (keep) bad = npy_end(w->out, &named);
    }
    if (output_close(w->out, keep && !bad)) bad = 1;
    if (w->table && output_close(w->table, keep && !bad)) bad = 1;
    free(w);
    return bad ? -1 : 0;
}

/* ---- tracks ---- */

void track_id(const series_set *set, const series *s, const forecaster *f, int v, char *text, size_t size) {
    if (set->columns == 1)
        snprintf(text, size, "%s", s->id);
    else
        snprintf(text, size, "%s%s%s", s->id, *s->id ? "/" : "", set->names[f->inputs - f->outputs + v]);
}

double track_value(const series_set *set, const series *s, const forecaster *f, int v, int64_t i) {
    return s->values[i * set->columns + f->inputs - f->outputs + v];
}

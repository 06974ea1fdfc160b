/* series.c - from records to samples: the header's roles, numbers, times, ids. See series.h; order and holes are in settle.c.
 */
#include "series.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- numbers ---- */

static int is_missing(const char *text) {
    static const char *const words[] = {"",     "NA",  "N/A", "#N/A", "<NA>", "NaN",    "NULL",
                                        "None", "NaT", "-",   ".",    "?",    "missing"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *a = text, *b = words[i];
        while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b)) a++, b++;
        if (!*a && !*b) return 1;
    }
    return 0;
}

/* Writes the number with a decimal point into `to`. Where a comma is the decimal sign, points before it are of thousands. In
 * a table that commas separate, a comma within a quoted number could be either: only DECIMAL_COMMA says which. */
static int with_point(const char *text, series_decimal decimal, char separator, char *to, size_t size) {
    const char *comma = strchr(text, ',');
    const int as_decimal = decimal == DECIMAL_COMMA || (decimal == DECIMAL_AUTO && separator == ';');
    size_t n = 0;
    if (comma && (!as_decimal || strchr(comma + 1, ',') || strchr(comma + 1, '.'))) return -1;
    for (; *text && n + 1 < size; text++)
        if (*text != '.' || !comma) to[n++] = *text == ',' ? '.' : *text;
    to[n] = 0;
    return *text || !n || to[strspn(to, "0123456789+-.eE")] ? -1 : 0;
}

static int read_number(series_set *set, const csv_field *field, int column, double *value) {
    char text[64], *end;
    *value = NAN;
    if (is_missing(field->text)) return 0;
    const int bad = with_point(field->text, set->options.decimal, csv_separator(set->table), text, sizeof text);
    if (!bad) *value = strtod(text, &end);
    if (!bad && !*end && end != text && isfinite(*value)) return 0;
    *value = NAN;
    return fail(set, "row %lld, column %d: '%.40s' is no number%s", (long long)csv_row(set->table), column + 1, field->text,
                strchr(field->text, ',') ? "; if its comma is a decimal sign, say --decimal comma" : "");
}

/* ---- roles of the columns ---- */

static int same_name(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) return 0;
    return !*a && !*b;
}

static int find_column(const csv_field *fields, int n, const char *name, size_t length) {
    for (int i = 0; i < n; i++)
        if (fields[i].length == length && !memcmp(fields[i].text, name, length)) return i;
    return -1;
}

static int find_any(const csv_field *fields, int n, const char *const *names) {
    for (; *names; names++)
        for (int i = 0; i < n; i++)
            if (same_name(fields[i].text, *names)) return i;
    return -1;
}

/* "ds, y, OT ..." for messages. */
static const char *list_columns(const csv_field *fields, int n, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < n && used + 48 < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%.24s%s", i ? ", " : "", fields[i].text,
                                 i + 1 < n && used + 96 >= size ? ", ..." : "");
    return text;
}

static int named_column(series_set *set, const csv_field *fields, int n, const char *name, size_t length, const char *option) {
    char list[256];
    const int at = find_column(fields, n, name, length);
    if (at < 0)
        fail(set, "row %lld: there is no column '%.*s', which %s names; there are: %s", (long long)csv_row(set->table),
             (int)(length < 60 ? length : 60), name, option, list_columns(fields, n, list, sizeof list));
    return at;
}

static int add_value_column(series_set *set, const csv_field *fields, int at) {
    int *columns = realloc(set->value_at, (size_t)(set->n_names + 1) * sizeof *columns);
    if (columns) set->value_at = columns;
    char **names = realloc(set->names, (size_t)(set->n_names + 1) * sizeof *names);
    if (names) set->names = names;
    char *name = columns && names ? malloc(fields[at].length + 1) : NULL;
    if (!name) return fail(set, "out of memory");
    memcpy(name, fields[at].text, fields[at].length + 1);
    set->value_at[set->n_names] = at;
    set->names[set->n_names++] = name;
    return 0;
}

/* The columns of a list of names. `must`: each has to be there; otherwise returns 1 when one is not, with nothing added. */
static int add_named(series_set *set, const csv_field *fields, int n, const char *list, int must) {
    for (const char *name = list; !must && *name;) {
        const size_t length = strcspn(name, ",");
        if (find_column(fields, n, name, length) < 0) return 1;
        name += length + (name[length] == ',');
    }
    for (const char *name = list; *name;) {
        const size_t length = strcspn(name, ",");
        const int at = named_column(set, fields, n, name, length, "--target");
        if (at < 0 || add_value_column(set, fields, at)) return -1;
        name += length + (name[length] == ',');
    }
    return set->n_names ? 0 : fail(set, "--target names no column");
}

static int find_values(series_set *set, const csv_field *fields, int n) {
    static const char *const usual[] = {"y", "value", NULL};
    const series_options *o = &set->options;
    if (o->values) return add_named(set, fields, n, o->values, 1);
    int missing = 1;
    if (o->prefer && *o->prefer) missing = add_named(set, fields, n, o->prefer, 0);
    if (missing <= 0) return missing;
    const int y = find_any(fields, n, usual);
    if (y >= 0 && o->columns == 1) return add_value_column(set, fields, y);
    if (set->id_at >= 0 && n > 3 && o->columns == 1) {
        char list[256];
        return fail(set, "row %lld: which column holds the values? Say --target NAME; there are: %s",
                    (long long)csv_row(set->table), list_columns(fields, n, list, sizeof list));
    }
    for (int i = 0; i < n; i++)
        if (i != set->time_at && i != set->id_at && fields[i].length && add_value_column(set, fields, i)) return -1;
    return set->n_names ? 0 : fail(set, "row %lld: there is no column of values", (long long)csv_row(set->table));
}

/* Values without a header look like a header of numbers. */
static int is_header(const csv_field *fields, int n) {
    int64_t time;
    time_style style;
    char *end;
    for (int i = 0; i < n; i++) {
        if (!fields[i].length) continue;
        if (!time_parse(fields[i].text, &time, &style) && style.kind == TIME_CALENDAR) return 0;
        strtod(fields[i].text, &end);
        if (*end) return 1;
    }
    return 0;
}

static int find_roles(series_set *set, const csv_field *fields, int n) {
    static const char *const times[] = {"ds", "date", "datetime", "timestamp", "time", "t", NULL};
    static const char *const ids[] = {"unique_id", "item_id", "series_id", "id", NULL};
    const series_options *o = &set->options;
    char list[256];
    set->id_at = -1;
    if (!is_header(fields, n))
        return fail(set, "row %lld: the table has no header; its first row must name the columns, for example ds,y",
                    (long long)csv_row(set->table));
    set->time_at = o->time ? named_column(set, fields, n, o->time, strlen(o->time), "--time") : find_any(fields, n, times);
    if (set->time_at < 0 && o->time) return -1;
    if (set->time_at < 0 && n > 1 && !fields[0].length) set->time_at = 0; /* an index that was written without a name */
    if (set->time_at < 0)
        return fail(set, "row %lld: which column holds the times? Say --time NAME; there are: %s",
                    (long long)csv_row(set->table), list_columns(fields, n, list, sizeof list));
    set->id_at = o->id ? named_column(set, fields, n, o->id, strlen(o->id), "--id") : find_any(fields, n, ids);
    if (set->id_at < 0 && o->id) return -1;
    if (set->id_at == set->time_at) set->id_at = -1;
    snprintf(set->time_name, sizeof set->time_name, "%s", fields[set->time_at].length ? fields[set->time_at].text : "ds");
    snprintf(set->id_name, sizeof set->id_name, "%s", set->id_at >= 0 ? fields[set->id_at].text : "unique_id");
    set->n_columns = n;
    return find_values(set, fields, n);
}

/* ---- series by their ids ---- */

static uint64_t hash_text(const char *text) {
    uint64_t h = 1469598103934665603u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h ^ h >> 29;
}

static int grow_index(series_set *set) {
    const int64_t room = set->index_room ? 2 * set->index_room : 64;
    int64_t *index = calloc((size_t)room, sizeof *index);
    if (!index) return fail(set, "out of memory");
    for (int64_t i = 0; i < set->n; i++) {
        uint64_t at = hash_text(set->items[i].id) & (uint64_t)(room - 1);
        while (index[at]) at = (at + 1) & (uint64_t)(room - 1);
        index[at] = i + 1;
    }
    free(set->index);
    set->index = index;
    set->index_room = room;
    return 0;
}

static int64_t add_series(series_set *set, const char *id) {
    if (set->n == set->room) {
        const int64_t room = set->room ? 2 * set->room : 4;
        series *items = realloc(set->items, (size_t)room * sizeof *items);
        if (!items) return fail(set, "out of memory");
        set->items = items;
        set->room = room;
    }
    char *copy = malloc(strlen(id) + 1);
    if (!copy) return fail(set, "out of memory");
    strcpy(copy, id);
    set->items[set->n] = (series){.id = copy, .sorted = 1};
    return set->n++;
}

static int64_t series_of(series_set *set, const char *id) {
    if (2 * (set->n + 1) > set->index_room && grow_index(set)) return -1;
    uint64_t at = hash_text(id) & (uint64_t)(set->index_room - 1);
    for (; set->index[at]; at = (at + 1) & (uint64_t)(set->index_room - 1))
        if (!strcmp(set->items[set->index[at] - 1].id, id)) return set->index[at] - 1;
    const int64_t i = add_series(set, id);
    if (i >= 0) set->index[at] = i + 1;
    return i;
}

/* ---- rows ---- */

static int room_for_sample(series_set *set, series *s) {
    if (s->n < s->room) return 0;
    const int64_t room = s->room ? s->room + s->room / 2 + 16 : 64;
    int64_t *times = realloc(s->times, (size_t)room * sizeof *times);
    if (times) s->times = times;
    int64_t *rows = realloc(s->rows, (size_t)room * sizeof *rows);
    if (rows) s->rows = rows;
    double *values = realloc(s->values, (size_t)(room * set->columns) * sizeof *values);
    if (values) s->values = values;
    if (!times || !rows || !values) return fail(set, "out of memory");
    s->room = room;
    return 0;
}

static int add_sample(series_set *set, series *s, int64_t time, const double *values) {
    if (room_for_sample(set, s)) return -1;
    if (s->n && time <= s->times[s->n - 1]) s->sorted = 0;
    s->times[s->n] = time;
    s->rows[s->n] = csv_row(set->table);
    memcpy(s->values + s->n * set->columns, values, (size_t)set->columns * sizeof *values);
    s->n++;
    set->samples++;
    return 0;
}

static const char *kind_words(time_kind kind) {
    return kind == TIME_CALENDAR ? "dates" : kind == TIME_NUMBER ? "plain numbers" : "seconds since 1970";
}

static int read_time(series_set *set, const csv_field *field, int64_t *time) {
    time_style style;
    if (time_parse(field->text, time, &style))
        return fail(set,
                    "row %lld, column %d: '%.40s' is no time; ISO 8601 (2020-12-31 23:00:00), seconds since 1970 and whole "
                    "numbers are read",
                    (long long)csv_row(set->table), set->time_at + 1, field->text);
    if (set->style.kind == TIME_NONE) set->style = style;
    if (style.kind != set->style.kind || style.zoned != set->style.zoned)
        return fail(set, "row %lld, column %d: '%.40s' %s, but the rows before hold %s%s", (long long)csv_row(set->table),
                    set->time_at + 1, field->text,
                    style.kind != set->style.kind ? "is of another kind"
                    : style.zoned                 ? "has a zone"
                                                  : "has no zone",
                    kind_words(set->style.kind),
                    style.kind != set->style.kind ? ""
                    : set->style.zoned            ? " with one"
                                                  : " without");
    if (style.between && !set->style.between)
        set->style.between = style.between; /* midnights may come without their time of day */
    set->style.zone = style.zone;           /* the last one: summer time ends */
    set->style.zulu = style.zulu;
    return 0;
}

/* One variable a series: the value columns of a wide table are series of their own, unless an id says that they are not. */
static int single_series_of_columns(const series_set *set) {
    return set->columns == 1 && set->n_names > 1;
}

static int take_row(series_set *set, const csv_field *fields, int n, int64_t *touched) {
    double values[64], *all = set->n_names <= 64 ? values : malloc((size_t)set->n_names * sizeof *all);
    int64_t time, at = 0;
    int rc = all ? 0 : fail(set, "out of memory");
    if (!rc && n != set->n_columns)
        rc = fail(set, "row %lld: has %d column%s, but the header has %d", (long long)csv_row(set->table), n, n == 1 ? "" : "s",
                  set->n_columns);
    if (!rc) rc = read_time(set, &fields[set->time_at], &time);
    if (!rc && set->options.limited && time > set->options.until) {
        if (all != values) free(all);
        return 0;
    }
    for (int i = 0; !rc && i < set->n_names; i++) rc = read_number(set, &fields[set->value_at[i]], set->value_at[i], &all[i]);
    if (!rc && set->id_at >= 0) at = series_of(set, fields[set->id_at].text);
    if (at < 0) rc = -1;
    if (!rc && touched) *touched = at;
    if (!rc && !single_series_of_columns(set)) rc = add_sample(set, &set->items[at], time, all);
    for (int i = 0; !rc && single_series_of_columns(set) && i < set->n_names; i++)
        rc = add_sample(set, &set->items[i], time, &all[i]);
    if (all && all != values) free(all);
    return rc ? -1 : 1;
}

static int next_record(series_set *set) {
    const int got = csv_next(set->table);
    if (got < 0) fail(set, "%s", csv_error(set->table));
    if (got > 0) set->last_row = csv_row(set->table);
    return got;
}

int series_next(series_set *set, int64_t *touched) {
    for (;;) {
        int n;
        const int got = next_record(set);
        if (got <= 0) return got;
        const csv_field *fields = csv_fields(set->table, &n);
        if (n == 1 && !fields[0].length && set->n_columns > 1) continue;
        const int taken = take_row(set, fields, n, touched);
        if (taken) return taken;
    }
}

int series_begin(series_set *set, csv *table, const series_options *options) {
    int n;
    memset(set, 0, sizeof *set);
    set->table = table;
    set->options = *options;
    const int got = next_record(set);
    if (got < 0) return -1;
    if (!got) return fail(set, "is empty; it must begin with a header, for example ds,y");
    const csv_field *fields = csv_fields(table, &n);
    if (find_roles(set, fields, n)) return -1;
    set->columns = options->columns;
    if (options->columns > 1 && set->n_names != options->columns)
        return fail(set, "row %lld: the model wants %d variables, but %d column%s chosen; --target names them",
                    (long long)set->last_row, options->columns, set->n_names, set->n_names == 1 ? " was" : "s were");
    if (single_series_of_columns(set) && set->id_at >= 0)
        return fail(set, "row %lld: a table with ids holds one column of values a model variable; --target names %d",
                    (long long)set->last_row, set->n_names);
    set->has_ids = set->id_at >= 0 || single_series_of_columns(set);
    if (set->id_at >= 0) return 0;
    for (int i = 0; i < (single_series_of_columns(set) ? set->n_names : 1); i++)
        if (add_series(set, set->columns == 1 ? set->names[i] : "") < 0) return -1;
    return 0;
}

void series_free(series_set *set) {
    for (int64_t i = 0; i < set->n; i++) {
        free(set->items[i].id);
        free(set->items[i].times);
        free(set->items[i].rows);
        free(set->items[i].values);
    }
    for (int i = 0; i < set->n_names; i++) free(set->names[i]);
    free(set->items);
    free(set->names);
    free(set->value_at);
    free(set->index);
    memset(set, 0, sizeof *set);
}

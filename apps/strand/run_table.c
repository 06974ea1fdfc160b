/* run_table.c - see run_table.h. A table is read row by row; rows of other widths, and fields that are no numbers, are
 * refused with their row and column. */
#include "run_table.h"

#include "runtime.h"
#include "csv.h"
#include "npy.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ends(const char *path, const char *end) {
    const size_t n = strlen(path), m = strlen(end);
    return n > m && !strcmp(path + n - m, end);
}

int table_is(const char *path) {
    return ends(path, ".npy") || ends(path, ".tsv") || ends(path, ".csv");
}

/* ---- NumPy ---- */

static int64_t count_of(const npy_shape *shape) {
    int64_t n = 1;
    for (int32_t i = 0; i < shape->rank; i++) n *= shape->dims[i];
    return n;
}

static int read_array(FILE *file, const char *path, strand_tensor *out) {
    npy_shape shape;
    uint64_t bytes;
    if (npy_read_header(file, path, &shape, &bytes)) return -1;
    const int wide = !strcmp(shape.descr, "<f8");
    if (!wide && strcmp(shape.descr, "<f4"))
        return complain("%s: holds '%s'; expected float32 or float64", path, shape.descr), -1;
    const uint64_t n = bytes / (wide ? 8 : 4);
    void *data = bytes <= SIZE_MAX / 2 ? malloc(bytes + 1) : NULL;
    if (!data) return complain("%s: out of memory", path), -1;
    out->data = data;
    if (fread(data, 1, bytes, file) != bytes)
        return complain("%s: ends before its %llu bytes of numbers; it is cut short", path, (unsigned long long)bytes), -1;
    for (uint64_t i = 0; wide && i < n; i++) { /* in place: a float never passes its double */
        double value;
        memcpy(&value, (const char *)data + 8 * i, 8);
        const float narrow = (float)value;
        memcpy((char *)data + 4 * i, &narrow, 4);
    }
    out->rank = shape.rank;
    memcpy(out->dims, shape.dims, sizeof shape.dims);
    out->bytes = (uint64_t)count_of(&shape) * 4;
    return 0;
}

/* ---- tables ---- */

static int64_t fill(void *user, char *to, size_t room) {
    FILE *file = user;
    const size_t n = fread(to, 1, room, file);
    return n ? (int64_t)n : ferror(file) ? -1 : 0;
}

static int number(const csv_field *field, float *value) {
    char *end;
    errno = 0;
    const double v = strtod(field->text, &end);
    *value = (float)v;
    return field->length && end == field->text + field->length && isfinite(v) ? 0 : -1;
}

/* Is the first row one of names: nothing in it is a number? */
static int is_header(const csv_field *fields, int n) {
    float value;
    for (int i = 0; i < n; i++)
        if (!number(&fields[i], &value)) return 0;
    return 1;
}

static int read_rows(csv *table, const char *path, strand_tensor *out) {
    int64_t rows = 0, width = 0, room = 0;
    float *data = NULL;
    int state;
    while ((state = csv_next(table)) > 0) {
        int n;
        const csv_field *fields = csv_fields(table, &n);
        if (!width) {
            width = n;
            if (is_header(fields, n)) continue;
        }
        if (n != width)
            return complain("%s: row %lld has %d columns, the first one %lld", path, (long long)csv_row(table), n,
                            (long long)width),
                   -1;
        if (rows == room) {
            room = room ? 2 * room : 256;
            float *more = room <= (int64_t)(SIZE_MAX / 8) / width ? realloc(data, (size_t)(room * width) * sizeof *data) : NULL;
            if (!more) return complain("%s: out of memory", path), -1;
            out->data = data = more;
        }
        for (int i = 0; i < n; i++)
            if (number(&fields[i], &data[rows * width + i]))
                return complain("%s: row %lld, column %d: '%.40s' is no number", path, (long long)csv_row(table), i + 1,
                                fields[i].text),
                       -1;
        rows++;
    }
    if (state < 0) return complain("%s: %s", path, *csv_error(table) ? csv_error(table) : "cannot be read to its end"), -1;
    if (!rows) return complain("%s: has no rows of numbers", path), -1;
    out->rank = 2;
    out->dims[0] = rows;
    out->dims[1] = width;
    out->bytes = (uint64_t)(rows * width) * sizeof *data;
    return 0;
}

static int read_table(FILE *file, const char *path, strand_tensor *out) {
    csv *table = csv_open(fill, file);
    if (!table) return complain("%s: out of memory", path), -1;
    const int bad = read_rows(table, path, out);
    csv_close(table);
    return bad;
}

int table_read(const char *path, const strand_tensor *want, strand_tensor *out, void **block) {
    FILE *file = fopen(path, "rb");
    if (!file) return complain("%s: cannot be opened: %s", path, strerror(errno)), -1;
    *out = (strand_tensor){.name = want->name, .dtype = STRAND_F32};
    const int bad = ends(path, ".npy") ? read_array(file, path, out) : read_table(file, path, out);
    fclose(file);
    *block = out->data;
    if (bad) return -1;
    if (want->dtype != STRAND_F32)
        return complain("%s: the model's input '%s' is not of floats; give -i IN.safetensors", path, want->name), -1;
    if (out->rank + 1 == want->rank) {
        memmove(out->dims + 1, out->dims, (size_t)out->rank * sizeof *out->dims);
        out->dims[0] = 1;
        out->rank++;
    }
    return 0;
}

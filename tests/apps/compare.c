/* compare.c - compares what `strand` wrote with what is expected; for the scripts beside it, so that they need no Python.
 *
 *     compare column  FILE.tsv COLUMN EXPECTED.safetensors TENSOR TOLERANCE   '.' counts as 0.0
 *     compare tensors A.safetensors NAME_A B.safetensors NAME_B TOLERANCE     floats
 *     compare every   STEP A.safetensors NAME_A B.safetensors NAME_B TOLERANCE  [1, n, d]: rows 0, STEP, 2 STEP ... of A against B
 *     compare prefix  A.safetensors NAME_A B.safetensors NAME_B TOLERANCE     the first elements of A against all of B
 *     compare adapt   IN.safetensors NAME OUT.safetensors                     that integer tensor alone, as input_ids
 *     compare rows    FILE.tsv FIRST_COLUMN A.safetensors NAME                exactly, rows of floats
 *     compare npy     A.npy B.safetensors NAME                                exactly, the data bytes
 *     compare shape   A.safetensors NAME                                      prints [a,b,c]
 */
#include "strand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 64 };

static strand_context *ctx;
static strand_file *files[MOST_FILES]; /* open until the end: tensors point into them */
static int n_files;

static int fail(const char *what, const char *detail) {
    fprintf(stderr, "compare: %s: %s\n", what, detail);
    return 1;
}

static int tensor_of(const char *path, const char *name, strand_tensor *tensor) {
    strand_file *file;
    if (n_files == MOST_FILES) return fail(path, "too many files");
    if (strand_file_open(ctx, path, &file) != STRAND_OK) return fail(path, strand_error(ctx));
    files[n_files++] = file;
    for (int64_t i = 0; i < strand_file_count(file); i++)
        if (strand_file_get(file, i, tensor) == STRAND_OK && !strcmp(tensor->name, name)) return 0;
    return fail(path, name);
}

static int floats_of(const char *path, const char *name, strand_tensor *tensor) {
    if (tensor_of(path, name, tensor)) return 1;
    return tensor->dtype == STRAND_F32 ? 0 : fail(name, "is not F32");
}

/* Next data line of a table: no '#' lines, no column header. Split in place; returns the number of columns, 0 at the end. */
static int next_row(FILE *file, char *line, size_t size, char **columns, int most) {
    do {
        if (!fgets(line, (int)size, file)) return 0;
    } while (*line == '#');
    int n = 0;
    for (char *at = line; n < most; n++) {
        columns[n] = at;
        at += strcspn(at, "\t\n");
        const int last = *at != '\t';
        *at++ = 0;
        if (last) return n + 1;
    }
    return n;
}

static int compare_column(const char *table, int column, const char *path, const char *name, double tolerance) {
    char line[65536], *columns[64];
    strand_tensor want;
    double worst = 0;
    uint64_t n = 0, worst_at = 0;
    FILE *file = fopen(table, "r");
    if (!file || floats_of(path, name, &want)) return fail(table, "cannot be compared");
    next_row(file, line, sizeof line, columns, 64); /* the column header */
    for (; next_row(file, line, sizeof line, columns, 64) > column; n++) {
        if (n >= want.bytes / 4) return fail(table, "has too many rows");
        const double value = strcmp(columns[column], ".") ? atof(columns[column]) : 0;
        const double off = fabs(value - ((const float *)want.data)[n]);
        if (!(off <= worst)) {
            worst = off;
            worst_at = n;
        }
    }
    fclose(file);
    printf("%s: %llu rows, worst difference %.3g at row %llu\n", name, (unsigned long long)n, worst,
           (unsigned long long)worst_at);
    if (n != want.bytes / 4) return fail(table, "has too few rows");
    return worst <= tolerance ? 0 : fail(table, "differs by more than the tolerance");
}

/* Rows 0, step, 2 step ... of a against all of b; a row is the last axis. */
static int compare_tensors(char **v, int64_t step, double tolerance) {
    strand_tensor a, b;
    double worst = 0;
    if (floats_of(v[0], v[1], &a) || floats_of(v[2], v[3], &b)) return 1;
    const uint64_t width = a.rank > 0 ? (uint64_t)a.dims[a.rank - 1] : 1, rows = a.bytes / 4 / width;
    if ((rows + (uint64_t)step - 1) / (uint64_t)step * width != b.bytes / 4) return fail(v[1], "has another size");
    for (uint64_t i = 0; i < b.bytes / 4; i++) {
        const uint64_t at = i / width * (uint64_t)step * width + i % width;
        const double off = fabs((double)((const float *)a.data)[at] - ((const float *)b.data)[i]);
        if (!(off <= worst)) worst = off;
    }
    printf("%s: worst difference %.3g\n", v[1], worst);
    return worst <= tolerance ? 0 : fail(v[0], "differs by more than the tolerance");
}

static int compare_prefix(char **v, double tolerance) {
    strand_tensor a, b;
    double worst = 0;
    if (floats_of(v[0], v[1], &a) || floats_of(v[2], v[3], &b)) return 1;
    if (a.bytes < b.bytes || !b.bytes) return fail(v[1], "has fewer elements");
    for (uint64_t i = 0; i < b.bytes / 4; i++) {
        const double off = fabs((double)((const float *)a.data)[i] - ((const float *)b.data)[i]);
        if (!(off <= worst)) worst = off;
    }
    printf("%s: worst difference %.3g\n", v[1], worst);
    return worst <= tolerance ? 0 : fail(v[0], "differs by more than the tolerance");
}

static int compare_rows(const char *table, int first, const char *path, const char *name) {
    static char line[1 << 20], *columns[8192];
    strand_tensor want;
    uint64_t n = 0;
    int width;
    FILE *file = fopen(table, "r");
    if (!file || floats_of(path, name, &want)) return fail(table, "cannot be compared");
    next_row(file, line, sizeof line, columns, 8192);
    while ((width = next_row(file, line, sizeof line, columns, 8192)) > 0)
        for (int c = first; c < width; c++, n++) {
            const float value = strtof(columns[c], NULL);
            if (n >= want.bytes / 4 || (value != ((const float *)want.data)[n] && !isnan(value)))
                return fail(table, columns[c]);
        }
    fclose(file);
    return n == want.bytes / 4 ? 0 : fail(table, "has another number of values");
}

static int compare_npy(const char *npy, const char *path, const char *name) {
    strand_tensor want;
    if (tensor_of(path, name, &want)) return 1;
    FILE *file = fopen(npy, "rb");
    char *data = malloc(want.bytes + 1);
    char head[128];
    if (!file || !data || fread(head, 1, sizeof head, file) != sizeof head ||
        fread(data, 1, want.bytes + 1, file) != want.bytes)
        return fail(npy, "has another size");
    const int same = !memcmp(data, want.data, want.bytes);
    free(data);
    fclose(file);
    return same ? 0 : fail(npy, "has other bytes");
}

/* A case that holds several runs has an input for each: this makes the file that one run takes. */
static int adapt(const char *in, const char *name, const char *out) {
    strand_tensor t;
    char header[256] = {0};
    if (tensor_of(in, name, &t)) return 1;
    if (t.dtype != STRAND_I64 || t.rank != 2) return fail(name, "is not I64, [batch, length]");
    snprintf(header, sizeof header, "{\"input_ids\":{\"dtype\":\"I64\",\"shape\":[%lld,%lld],\"data_offsets\":[0,%llu]}}",
             (long long)t.dims[0], (long long)t.dims[1], (unsigned long long)t.bytes);
    uint64_t n = (strlen(header) + 7) / 8 * 8;
    memset(header + strlen(header), ' ', n - strlen(header));
    FILE *file = fopen(out, "wb");
    const int good =
        file && fwrite(&n, 8, 1, file) == 1 && fwrite(header, n, 1, file) == 1 && fwrite(t.data, t.bytes, 1, file) == 1;
    if (!file || fclose(file) || !good) return fail(out, "cannot be written");
    return 0;
}

static int print_shape(const char *path, const char *name) {
    strand_tensor t;
    if (tensor_of(path, name, &t)) return 1;
    printf("[");
    for (int32_t i = 0; i < t.rank; i++) printf("%s%lld", i ? "," : "", (long long)t.dims[i]);
    printf("]\n");
    return 0;
}

int main(int argc, char **argv) {
    int rc = 2;
    if (strand_context_open(NULL, &ctx) != STRAND_OK) return fail("context", "cannot be opened");
    if (argc == 7 && !strcmp(argv[1], "column")) rc = compare_column(argv[2], atoi(argv[3]), argv[4], argv[5], atof(argv[6]));
    if (argc == 7 && !strcmp(argv[1], "tensors")) rc = compare_tensors(argv + 2, 1, atof(argv[6]));
    if (argc == 7 && !strcmp(argv[1], "prefix")) rc = compare_prefix(argv + 2, atof(argv[6]));
    if (argc == 8 && !strcmp(argv[1], "every")) rc = compare_tensors(argv + 3, atoi(argv[2]), atof(argv[7]));
    if (argc == 5 && !strcmp(argv[1], "adapt")) rc = adapt(argv[2], argv[3], argv[4]);
    if (argc == 6 && !strcmp(argv[1], "rows")) rc = compare_rows(argv[2], atoi(argv[3]), argv[4], argv[5]);
    if (argc == 5 && !strcmp(argv[1], "npy")) rc = compare_npy(argv[2], argv[3], argv[4]);
    if (argc == 4 && !strcmp(argv[1], "shape")) rc = print_shape(argv[2], argv[3]);
    while (n_files > 0) strand_file_close(files[--n_files]);
    strand_context_close(ctx);
    return rc;
}

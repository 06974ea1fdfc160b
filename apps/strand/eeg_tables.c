/* eeg_tables.c - see eeg_tables.h. NPY and safetensors need a file, because their header is written when the count is known.
 */
#include "eeg_tables.h"

#include "npy.h"
#include "safetensors_write.h"

#include <stdlib.h>
#include <string.h>

struct eeg_table {
    output *out;
    st_writer *tensors;
    int format;
    int64_t rows, values, windows;
    const char *const *columns, *const *row_names;
};

static int ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static int choose(const options *settings) {
    const char *path = settings->output ? settings->output : "-";
    if (settings->format != EMBED_AUTO) return settings->format;
    return ends_with(path, ".npy") ? EMBED_NPY : ends_with(path, ".safetensors") ? EMBED_SAFETENSORS : EMBED_TSV;
}

static int begin(eeg_table *t, const options *settings, const char *name) {
    if (t->format != EMBED_TSV && !output_seekable(t->out))
        return complain("%s: npy and safetensors need -o with the name of a file", settings->command->name), -1;
    if (t->format == EMBED_NPY) return npy_begin(t->out);
    if (t->format == EMBED_SAFETENSORS) {
        strand_tensor shape = {.name = name,
                               .dtype = STRAND_F32,
                               .rank = t->row_names ? 3 : 2,
                               .dims = {-1, t->row_names ? t->rows : t->values, t->values}};
        t->tensors = st_open(t->out, &shape, 1, NULL);
        return t->tensors ? 0 : -1;
    }
    output_printf(t->out, t->row_names ? "onset\tchannel" : "onset");
    for (int64_t i = 0; i < t->values; i++)
        if (t->columns)
            output_printf(t->out, "\t%s", t->columns[i]);
        else
            output_printf(t->out, "\t%lld", (long long)i);
    return output_printf(t->out, "\n");
}

eeg_table *eeg_table_open(const options *settings, const char *name, int64_t rows, int64_t values, const char *const *columns,
                          const char *const *row_names) {
    eeg_table *t = calloc(1, sizeof *t);
    if (!t) return complain("out of memory"), NULL;
    *t = (eeg_table){.format = choose(settings), .rows = rows, .values = values, .columns = columns, .row_names = row_names};
    t->out = output_open(settings->output);
    if (t->out && !begin(t, settings, name)) return t;
    eeg_table_close(t, 0);
    return NULL;
}

int eeg_table_write(eeg_table *t, double onset, const float *numbers) {
    const size_t bytes = (size_t)(t->rows * t->values) * sizeof *numbers;
    t->windows++;
    if (t->format == EMBED_NPY) return output_write(t->out, numbers, bytes);
    if (t->format == EMBED_SAFETENSORS) return st_write(t->tensors, numbers, bytes);
    for (int64_t r = 0; r < t->rows; r++) {
        output_printf(t->out, "%.2f", onset);
        if (t->row_names) output_printf(t->out, "\t%s", t->row_names[r]);
        for (int64_t i = 0; i < t->values; i++) output_printf(t->out, "\t%.7g", numbers[r * t->values + i]);
        if (output_printf(t->out, "\n")) return -1;
    }
    return 0;
}

int eeg_table_flush(eeg_table *t) {
    return output_flush(t->out);
}

int eeg_table_close(eeg_table *t, int keep) {
    if (!t) return 0;
    int bad = 0;
    if (keep && t->format == EMBED_NPY) {
        npy_shape shape = {.rank = t->row_names ? 3 : 2, .dims = {t->windows, t->row_names ? t->rows : t->values, t->values}};
        snprintf(shape.descr, sizeof shape.descr, "%s", npy_float32());
        bad = npy_end(t->out, &shape);
    }
    if (t->tensors) {
        if (keep) bad = st_next(t->tensors, t->windows);
        bad = st_close(t->tensors, keep && !bad) || bad;
    }
    bad = output_close(t->out, keep && !bad) || bad;
    free(t);
    return bad ? -1 : 0;
}

/* embed_write.c - tables of vectors with a row or several a record, as NPY, safetensors or TSV, streamed. What goes with the
 * vectors: NPY has FILE.tsv beside it; safetensors holds length, rows and names after the vectors, kept in memory until then.
 */
#include "embed_write.h"

#include "npy.h"
#include "safetensors_write.h"

#include <stdlib.h>
#include <string.h>

typedef struct spool {
    char *data;
    size_t bytes, room;
} spool;

struct embed_writer {
    const runtime *rt;
    int format, per_base;
    output *out, *table; /* table: beside an NPY file */
    st_writer *st;
    run_metadata metadata;
    int64_t channels, rows, records;
    spool names, lengths, counts;
    const char *name, *contig; /* of the current record */
    int64_t position, length;
};

static int spool_add(spool *s, const void *data, size_t bytes) {
    if (s->bytes + bytes > s->room) {
        const size_t room = 2 * (s->room + bytes) + 4096;
        char *block = realloc(s->data, room);
        if (!block) return complain("out of memory"), -1;
        s->data = block;
        s->room = room;
    }
    memcpy(s->data + s->bytes, data, bytes);
    s->bytes += bytes;
    return 0;
}

static int ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

static int choose_format(const options *settings) {
    if (settings->format != EMBED_AUTO) return settings->format;
    if (settings->output && ends_with(settings->output, ".npy")) return EMBED_NPY;
    if (settings->output && ends_with(settings->output, ".safetensors")) return EMBED_SAFETENSORS;
    return EMBED_TSV;
}

static int begin_npy(embed_writer *w, int header) {
    char beside[4096];
    snprintf(beside, sizeof beside, "%s.tsv", w->rt->settings->output);
    w->table = output_open(beside);
    if (!w->table) return -1;
    if (header && !w->rt->settings->no_version) runtime_header(w->rt, w->table);
    if (header) output_printf(w->table, "name\tlength\trows\n");
    return npy_begin(w->out);
}

static int begin_safetensors(embed_writer *w) {
    const strand_tensor tensors[] = {{"embedding", STRAND_F32, 2, {-1, w->channels}, NULL, 0},
                                     {"length", STRAND_I64, 1, {-1}, NULL, 0},
                                     {"rows", STRAND_I64, 1, {-1}, NULL, 0},
                                     {"names", STRAND_U8, 1, {-1}, NULL, 0}};
    w->st = st_open(w->out, tensors, 4, runtime_metadata(w->rt, &w->metadata));
    return w->st ? 0 : -1;
}

static int begin_tsv(embed_writer *w, int header) {
    if (!header) return 0;
    if (!w->rt->settings->no_version) runtime_header(w->rt, w->out);
    output_printf(w->out, w->per_base ? "contig\tpos" : "name\tlength");
    for (int64_t c = 0; c < w->channels; c++) output_printf(w->out, "\te%lld", (long long)c);
    return output_write(w->out, "\n", 1);
}

int embed_check(const options *settings) {
    if (choose_format(settings) == EMBED_TSV || (settings->output && strcmp(settings->output, "-"))) return 0;
    complain("-f npy and -f safetensors need a file: -o FILE");
    return EXIT_USAGE;
}

embed_writer *embed_open(const runtime *rt, int64_t channels, int header) {
    const options *settings = rt->settings;
    const int format = choose_format(settings);
    embed_writer *w = calloc(1, sizeof *w);
    if (!w) return complain("out of memory"), NULL;
    w->rt = rt;
    w->format = format;
    w->per_base = settings->pool == POOL_NONE;
    w->channels = channels;
    w->out = output_open(settings->output);
    int bad = !w->out;
    if (!bad && format != EMBED_TSV && !output_seekable(w->out))
        bad = (complain("%s: NPY and safetensors need a regular file", settings->output), 1);
    if (!bad)
        bad = format == EMBED_NPY           ? begin_npy(w, header)
              : format == EMBED_SAFETENSORS ? begin_safetensors(w)
                                            : begin_tsv(w, header);
    if (!bad) return w;
    embed_close(w, 0);
    return NULL;
}

int embed_record(embed_writer *w, const char *name, const char *contig, int64_t start, int64_t length, int64_t rows) {
    w->name = name;
    w->contig = contig;
    w->position = start;
    w->length = length;
    w->rows += rows;
    w->records++;
    if (w->format == EMBED_NPY) return output_printf(w->table, "%s\t%lld\t%lld\n", name, (long long)length, (long long)rows);
    if (w->format == EMBED_SAFETENSORS)
        return spool_add(&w->names, name, strlen(name)) || spool_add(&w->names, "\n", 1) ||
                       spool_add(&w->lengths, &length, sizeof length) || spool_add(&w->counts, &rows, sizeof rows)
                   ? -1
                   : 0;
    return 0;
}

int embed_rows_write(embed_writer *w, const float *values, int64_t rows) {
    const size_t bytes = (size_t)(rows * w->channels) * sizeof *values;
    if (w->format == EMBED_NPY) return output_write(w->out, values, bytes);
    if (w->format == EMBED_SAFETENSORS) return st_write(w->st, values, bytes);
    for (int64_t i = 0; i < rows; i++) {
        if (w->per_base)
            output_printf(w->out, "%s\t%lld", w->contig, (long long)++w->position);
        else
            output_printf(w->out, "%s\t%lld", w->name, (long long)w->length);
        for (int64_t c = 0; c < w->channels; c++) output_printf(w->out, "\t%.9g", values[i * w->channels + c]);
        if (output_write(w->out, "\n", 1)) return -1;
    }
    return 0;
}

static int finish(embed_writer *w) {
    if (w->format == EMBED_NPY) {
        npy_shape shape = {"", 2, {w->rows, w->channels}};
        snprintf(shape.descr, sizeof shape.descr, "%s", npy_float32());
        return npy_end(w->out, &shape);
    }
    if (w->format != EMBED_SAFETENSORS) return 0;
    return st_next(w->st, w->rows) || st_write(w->st, w->lengths.data, w->lengths.bytes) || st_next(w->st, w->records) ||
           st_write(w->st, w->counts.data, w->counts.bytes) || st_next(w->st, w->records) ||
           st_write(w->st, w->names.data, w->names.bytes) || st_next(w->st, (int64_t)w->names.bytes);
}

int embed_close(embed_writer *w, int keep) {
    if (!w) return 0;
    int bad = keep ? finish(w) : 0;
    if (w->st && st_close(w->st, keep && !bad)) bad = 1;
    if (output_close(w->table, keep && !bad)) bad = 1;
    if (output_close(w->out, keep && !bad)) bad = 1;
    free(w->names.data);
    free(w->lengths.data);
    free(w->counts.data);
    free(w);
    return bad ? -1 : 0;
}

/* merge.c - `strand merge`: joins the shards of one run into the file that an unsharded run would have written.
 *
 * What a file is, its first bytes say. Shards are read one after the other; only their headers are compared beforehand.
 */
#include "commands.h"
#include "runtime.h"
#include "npy.h"
#include "output.h"
#include "progress.h"
#include "safetensors_write.h"
#include "shard.h"
#include "variants_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum kind { KIND_NPY, KIND_SAFETENSORS, KIND_VARIANTS, KIND_TEXT, KIND_NONE } kind;

static kind kind_of(const char *path) {
    unsigned char head[16] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return complain("%s: cannot open: %s", path, strerror(errno)), KIND_NONE;
    const size_t n = fread(head, 1, sizeof head, file);
    const int bad = ferror(file);
    fclose(file);
    if (bad) return complain("%s: cannot read", path), KIND_NONE;
    if (n > 6 && !memcmp(head, "\x93NUMPY", 6)) return KIND_NPY;
    if (n > 9 && head[8] == '{') return KIND_SAFETENSORS;
    if (n > 2 && head[0] == 0x1f && head[1] == 0x8b) return KIND_VARIANTS; /* bgzip VCF, BCF */
    if (n > 3 && !memcmp(head, "BCF", 3)) return KIND_VARIANTS;            /* BCF without compression */
    return KIND_TEXT;
}

/* ---- NPY ------------------------------------------------------------------------------------------------------------ */

static int copy_bytes(output *out, FILE *from, const char *path, uint64_t bytes) {
    char block[65536];
    while (bytes) {
        const size_t want = bytes < sizeof block ? (size_t)bytes : sizeof block;
        if (fread(block, 1, want, from) != want) return complain("%s: is shorter than its header says", path), -1;
        if (output_write(out, block, want) || interrupted()) return -1;
        bytes -= want;
    }
    return 0;
}

static int append_npy(output *out, const char *path, npy_shape *all) {
    npy_shape shape;
    uint64_t bytes;
    FILE *file = fopen(path, "rb");
    if (!file) return complain("%s: cannot open: %s", path, strerror(errno)), -1;
    int bad = npy_read_header(file, path, &shape, &bytes);
    if (!bad && !all->rank) {
        *all = shape;
        all->dims[0] = 0;
    }
    if (!bad && (strcmp(shape.descr, all->descr) || shape.rank != all->rank ||
                 memcmp(shape.dims + 1, all->dims + 1, (size_t)(shape.rank - 1) * sizeof *shape.dims)))
        bad = (complain("%s: has another type or width than the first shard", path), -1);
    if (!bad) bad = copy_bytes(out, file, path, bytes);
    if (!bad && fgetc(file) != EOF) bad = (complain("%s: is longer than its header says", path), -1);
    all->dims[0] += bad ? 0 : shape.dims[0];
    fclose(file);
    return bad;
}

/* The tables beside NPY files are text whose first shard alone has a header. */
static int merge_tables(const options *settings) {
    char path[4096];
    for (int i = 0; i < settings->n_args; i++) {
        snprintf(path, sizeof path, "%s.tsv", settings->args[i]);
        if (access(path, R_OK)) return 0;
    }
    snprintf(path, sizeof path, "%s.tsv", settings->output);
    output *out = output_open(path);
    int bad = !out;
    for (int i = 0; !bad && i < settings->n_args; i++) {
        char block[65536];
        size_t n;
        snprintf(path, sizeof path, "%s.tsv", settings->args[i]);
        FILE *file = fopen(path, "rb");
        if (!file) bad = (complain("%s: cannot open: %s", path, strerror(errno)), 1);
        while (!bad && (n = fread(block, 1, sizeof block, file)) > 0) bad = output_write(out, block, n);
        if (file && ferror(file)) bad = (complain("%s: cannot read", path), 1);
        if (file) fclose(file);
    }
    return output_close(out, !bad) || bad ? -1 : 0;
}

static int merge_npy(const options *settings) {
    npy_shape all = {"", 0, {0}};
    output *out = output_open(settings->output);
    int bad = !out;
    if (!bad && !output_seekable(out)) bad = (complain("%s: NPY needs a regular file", settings->output), 1);
    bad = bad || npy_begin(out);
    for (int i = 0; !bad && i < settings->n_args; i++) bad = append_npy(out, settings->args[i], &all);
    bad = bad || npy_end(out, &all) || merge_tables(settings);
    return output_close(out, !bad) || bad ? -1 : 0;
}

/* ---- safetensors ---------------------------------------------------------------------------------------------------- */

typedef struct st_merge {
    runtime rt;
    strand_file **files;
    int n;
} st_merge;

static int same_but_rows(const strand_tensor *a, const strand_tensor *b) {
    if (strcmp(a->name, b->name) || a->dtype != b->dtype || a->rank != b->rank || a->rank < 1) return 0;
    return !memcmp(a->dims + 1, b->dims + 1, (size_t)(a->rank - 1) * sizeof *a->dims);
}

/* Tensor `index` of the first shard with the rows of all. */
static int joined_tensor(const st_merge *m, const options *settings, int64_t index, strand_tensor *tensor) {
    strand_tensor part;
    for (int i = 0; i < m->n; i++) {
        if (strand_file_get(m->files[i], index, &part) != STRAND_OK || (i && !same_but_rows(tensor, &part))) {
            complain("%s: its tensors differ from those of the first shard in name, type, order or width", settings->args[i]);
            return -1;
        }
        if (i)
            tensor->dims[0] += part.dims[0];
        else
            *tensor = part;
    }
    return 0;
}

static int write_joined(const st_merge *m, const options *settings, const strand_tensor *tensors, int32_t n) {
    output *out = output_open(settings->output);
    int bad = !out;
    if (!bad && !output_seekable(out)) bad = (complain("%s: safetensors need a regular file", settings->output), 1);
    const char *const pairs[] = {"strand", strand_version(), "command", settings->line, NULL};
    st_writer *w = bad ? NULL : st_open(out, tensors, n, settings->no_version ? NULL : pairs);
    bad = !w;
    for (int32_t t = 0; !bad && t < n; t++) {
        for (int i = 0; !bad && i < m->n; i++) {
            strand_tensor part;
            bad = strand_file_get(m->files[i], t, &part) != STRAND_OK || st_write(w, part.data, part.bytes) || interrupted();
        }
        bad = bad || st_next(w, tensors[t].dims[0]);
    }
    if (w && st_close(w, !bad)) bad = 1;
    return output_close(out, !bad) || bad ? -1 : 0;
}

static int join_files(st_merge *m, const options *settings) {
    for (int i = 0; i < settings->n_args; i++) {
        if (strand_file_open(m->rt.context, settings->args[i], &m->files[i]) != STRAND_OK)
            return complain("%s", strand_error(m->rt.context)), -1;
        m->n++;
    }
    const int64_t n = strand_file_count(m->files[0]);
    strand_tensor *tensors = calloc((size_t)n + 1, sizeof *tensors);
    int bad = !tensors;
    for (int i = 1; !bad && i < m->n; i++)
        if (strand_file_count(m->files[i]) != n)
            bad = (complain("%s: holds another number of tensors than the first shard", settings->args[i]), 1);
    for (int64_t t = 0; !bad && t < n; t++) bad = joined_tensor(m, settings, t, &tensors[t]);
    if (!bad) bad = write_joined(m, settings, tensors, (int32_t)n);
    free(tensors);
    return bad;
}

static int merge_safetensors(const options *settings) {
    st_merge m;
    memset(&m, 0, sizeof m);
    if (runtime_open_context(&m.rt, settings)) return -1;
    m.files = calloc((size_t)settings->n_args, sizeof *m.files);
    const int bad = m.files ? join_files(&m, settings) : (complain("out of memory"), -1);
    for (int i = 0; i < m.n; i++) strand_file_close(m.files[i]);
    free(m.files);
    runtime_close(&m.rt);
    return bad;
}

/* ---- VCF and BCF ---------------------------------------------------------------------------------------------------- */

/* Records store numbers of header lines, so the header that they are written with must be able to translate theirs. */
static int append_variants(variant_writer *writer, bcf_hdr_t *header, variant_reader *reader, bcf1_t *record) {
    int status;
    bcf_hdr_t *own = variants_header(reader);
    while ((status = variants_next(reader, record)) > 0) {
        if (own != header && bcf_translate(header, own, record) < 0)
            return complain("a record does not fit the first header"), -1;
        if (variants_write(writer, record) || interrupted()) return -1;
    }
    return status;
}

static int same_contigs(const bcf_hdr_t *a, const bcf_hdr_t *b) {
    if (a->n[BCF_DT_CTG] != b->n[BCF_DT_CTG] || bcf_hdr_nsamples(a) != bcf_hdr_nsamples(b)) return 0;
    for (int i = 0; i < a->n[BCF_DT_CTG]; i++)
        if (strcmp(a->id[BCF_DT_CTG][i].key, b->id[BCF_DT_CTG][i].key)) return 0;
    for (int i = 0; i < bcf_hdr_nsamples(a); i++)
        if (strcmp(a->samples[i], b->samples[i])) return 0;
    return 1;
}

static int merge_variants(const options *settings) {
    const shard whole = {0, 0};
    variant_reader *first = variants_open(settings->args[0], whole);
    bcf1_t *record = bcf_init();
    if (!first || !record) return variants_close(first), -1;
    bcf_hdr_t *header = variants_header(first);
    if (!settings->no_version) {
        char *line = malloc(strlen(settings->line) + 32);
        if (line) {
            sprintf(line, "##strand_mergeCommand=%s", settings->line);
            if (bcf_hdr_append(header, line) == 0 && bcf_hdr_sync(header) < 0) complain("%s: odd header", settings->args[0]);
        }
        free(line);
    }
    variant_writer *writer = variants_create(settings->output, variants_format(settings->output, VARIANT_AUTO), header, 0);
    int bad = !writer || append_variants(writer, header, first, record);
    for (int i = 1; !bad && i < settings->n_args; i++) {
        variant_reader *next = variants_open(settings->args[i], whole);
        bad = !next;
        if (!bad && !same_contigs(header, variants_header(next)))
            bad = (complain("%s: its contigs or samples differ from those of the first shard", settings->args[i]), 1);
        bad = bad || append_variants(writer, header, next, record);
        variants_close(next);
    }
    if (variants_finish(writer, !bad)) bad = 1;
    bcf_destroy(record);
    variants_close(first);
    return bad ? -1 : 0;
}

int run_merge(const options *settings) {
    if (!settings->output) return complain("merge: no output; give -o FILE"), EXIT_USAGE;
    const kind first = kind_of(settings->args[0]);
    if (first == KIND_NONE) return EXIT_FAILED;
    for (int i = 0; i < settings->n_args; i++) {
        const kind other = kind_of(settings->args[i]);
        if (other == KIND_TEXT)
            complain("%s: is no NPY, safetensors, BCF or bgzip VCF file; text shards are joined by cat", settings->args[i]);
        else if (other != first && other != KIND_NONE)
            complain("%s: is of another kind than %s", settings->args[i], settings->args[0]);
        if (other != first || other == KIND_TEXT) return EXIT_FAILED;
    }
    const int bad = first == KIND_NPY           ? merge_npy(settings)
                    : first == KIND_SAFETENSORS ? merge_safetensors(settings)
                                                : merge_variants(settings);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

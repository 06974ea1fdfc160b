/* dna_classify.c - `strand dna classify`: class probabilities of whole records, by a checkpoint with a head.
 */
#include "batch.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "progress.h"
#include "records.h"
#include "windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_RECORDS = 8192, CHUNK_BASES = 1 << 20 };

typedef struct classifier {
    runtime rt;
    dna_alphabet dna;
    batch_runner *runner;
    output *out;
    int64_t window, classes, failed;
} classifier;

static void reduce(void *user, const batch_item *item, const float *logits, int64_t width) {
    (void)user;
    double *p = item->owner, most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < width; c++) most = logits[c] > most ? logits[c] : most;
    for (int64_t c = 0; c < width; c++) sum += p[c] = exp(logits[c] - most);
    for (int64_t c = 0; c < width; c++) p[c] /= sum;
}

static int classify_chunk(classifier *s, const record_chunk *chunk) {
    batch_item *items = malloc((size_t)chunk->n * sizeof *items);
    int64_t n = 0;
    if (!items) return complain("out of memory"), -1;
    for (int64_t i = 0; i < chunk->n; i++) {
        record *r = &chunk->items[i];
        if (!r->failed && (r->seq.length < 1 || r->seq.length > s->window)) {
            r->failed = 1;
            if (r->seq.length)
                complain("record '%s': %lld bases are more than the %lld that %s classifies at once; cut it", r->seq.name,
                         (long long)r->seq.length, (long long)s->window, s->rt.info.name);
            else
                complain("record '%s': has no bases to classify", r->seq.name);
        }
        if (r->failed) {
            s->failed++;
            continue;
        }
        r->result = calloc((size_t)s->classes, sizeof(double));
        if (!r->result) return free(items), complain("out of memory"), -1;
        items[n++] = (batch_item){r->ids, r->seq.length, r->seq.name, r->result, 0, 0};
    }
    const int rc = batch_run(s->runner, items, n, reduce, s);
    free(items);
    return rc;
}

static int write_chunk(const classifier *s, const record_chunk *chunk) {
    for (int64_t i = 0; i < chunk->n; i++) {
        const record *r = &chunk->items[i];
        const double *p = r->result;
        int64_t best = 0;
        for (int64_t c = 1; p && c < s->classes; c++)
            if (p[c] > p[best]) best = c;
        output_printf(s->out, "%s\t%lld\t", r->seq.name, (long long)r->seq.length);
        if (p)
            output_printf(s->out, "%lld", (long long)best);
        else
            output_printf(s->out, ".");
        for (int64_t c = 0; c < s->classes; c++)
            if (p)
                output_printf(s->out, "\t%.6f", p[c]);
            else
                output_printf(s->out, "\t.");
        if (output_write(s->out, "\n", 1)) return -1;
    }
    return 0;
}

static int classify_all(classifier *s, sequence_reader *reader, const char *file) {
    record_chunk chunk;
    int status;
    while ((status = records_read(&chunk, reader, &s->dna, file, CHUNK_RECORDS, CHUNK_BASES)) > 0) {
        const int bad = classify_chunk(s, &chunk) || write_chunk(s, &chunk);
        records_free(&chunk);
        if (bad || interrupted()) return EXIT_FAILED;
    }
    if (status < 0) return EXIT_FAILED;
    if (!sequences_count(reader)) remark("%s: no records", input_name(file));
    return s->failed ? EXIT_PARTIAL : EXIT_DONE;
}

static void write_header(const classifier *s) {
    if (!s->rt.settings->no_version) runtime_header(&s->rt, s->out);
    output_printf(s->out, "name\tlength\tclass");
    for (int64_t c = 0; c < s->classes; c++) output_printf(s->out, "\tp%lld", (long long)c);
    output_printf(s->out, "\n");
}

static int classify(classifier *s, const options *settings, const char *file) {
    window_rule rule;
    strand_tensor shape;
    int rc = windows_init(&rule, &s->rt);
    if (!rc) rc = dna_alphabet_init(&s->dna, &s->rt, settings->soft_mask, SOFTMAX_ALL);
    if (rc) return rc;
    s->window = rule.window;
    s->runner = batch_open(&s->rt, "class_logits");
    if (!s->runner) return EXIT_FAILED;
    runtime_output(&s->rt, "class_logits", &shape);
    s->classes = shape.dims[shape.rank - 1];
    sequence_reader *reader = records_open(settings, file, &rc);
    if (reader) {
        rc = EXIT_FAILED;
        if (!batch_prepare(s->runner, 1) && (s->out = output_open(settings->output)) != NULL) {
            progress_begin("bases");
            if (sequences_first_shard(reader)) write_header(s);
            rc = classify_all(s, reader, file);
            if (output_close(s->out, rc != EXIT_FAILED)) rc = EXIT_FAILED;
        }
    }
    sequences_close(reader);
    batch_close(s->runner);
    return rc;
}

int run_dna_classify(const options *settings) {
    classifier s;
    int rc;
    memset(&s, 0, sizeof s);
    const char *file = input_argument(settings->args, settings->n_args, &rc);
    if (!rc) rc = runtime_open(&s.rt, settings, NULL);
    if (rc) return rc;
    rc = classify(&s, settings, file);
    runtime_close(&s.rt);
    return rc;
}

/* dna_score.c - `strand dna score`: the log-likelihood of each base given the bases before it.
 *
 * Records are taken in chunks; all windows of a chunk, of both strands where asked for, go to the batch runner, whose reducer
 * leaves one float a base; then the chunk is written in order.
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

typedef struct scorer {
    runtime rt;
    dna_alphabet dna;
    window_rule rule;
    batch_runner *runner;
    output *out;
    int64_t failed;
} scorer;

/* Log-likelihoods of one strand of one record; NaN where there is none. */
typedef struct strand_scores {
    float *loglik;
    uint8_t *ids; /* of the reverse strand: owned */
} strand_scores;

static void reduce(void *user, const batch_item *item, const float *logits, int64_t width) {
    const scorer *s = user;
    const strand_scores *scores = item->owner;
    for (int64_t i = item->keep; i < item->from + item->length; i++) {
        const int64_t t = i - item->from;
        scores->loglik[i] = t ? (float)dna_loglik(&s->dna, logits + (t - 1) * width, width, item->ids[t]) : NAN;
    }
}

static int64_t add_windows(const scorer *s, batch_item *items, const record *r, const uint8_t *ids, strand_scores *scores) {
    const int64_t n = windows_count(&s->rule, r->seq.length);
    for (int64_t w = 0; items && w < n; w++) {
        const window_place place = windows_place(&s->rule, r->seq.length, w);
        items[w] = (batch_item){ids + place.from, place.to - place.from, r->seq.name, scores, place.from, place.keep};
    }
    return n;
}

static void free_scores(strand_scores *scores, int64_t n) {
    for (int64_t i = 0; scores && i < n; i++) {
        free(scores[i].loglik);
        free(scores[i].ids);
    }
    free(scores);
}

/* Fills scores[strands * record + strand] for the chunk. */
static int score_chunk(scorer *s, const record_chunk *chunk, strand_scores *scores, int strands) {
    int64_t total = 0, used = 0;
    for (int64_t i = 0; i < chunk->n; i++) total += strands * windows_count(&s->rule, chunk->items[i].seq.length);
    batch_item *items = malloc(((size_t)total + 1) * sizeof *items);
    int rc = items ? 0 : (complain("out of memory"), -1);
    for (int64_t i = 0; !rc && i < chunk->n; i++) {
        const record *r = &chunk->items[i];
        const int64_t length = r->seq.length;
        for (int strand = 0; !rc && strand < strands; strand++) {
            strand_scores *to = &scores[strands * i + strand];
            to->loglik = malloc(((size_t)length + 1) * sizeof *to->loglik);
            to->ids = strand ? malloc((size_t)length + 1) : NULL;
            if (!to->loglik || (strand && !to->ids)) rc = (complain("out of memory"), -1);
            if (!rc && strand) dna_reverse_complement(&s->dna, r->ids, length, to->ids);
            if (!rc) used += add_windows(s, items + used, r, strand ? to->ids : r->ids, to);
        }
    }
    if (!rc) rc = batch_run(s->runner, items, used, reduce, s);
    free(items);
    return rc;
}

/* Leaves the mean of both strands in the first; a base that one strand alone can score takes that one's value. */
static void join_strands(strand_scores *both, int64_t length) {
    float *forward = both[0].loglik;
    const float *reverse = both[1].loglik;
    for (int64_t i = 0; i < length; i++) {
        const float other = reverse[length - 1 - i];
        if (isnan(forward[i]))
            forward[i] = other;
        else if (!isnan(other))
            forward[i] = 0.5f * (forward[i] + other);
    }
}

static int write_summary(output *out, const record *r, const float *loglik) {
    int64_t scored = 0;
    double sum = 0;
    for (int64_t i = 0; i < r->seq.length; i++)
        if (!isnan(loglik[i])) {
            sum += loglik[i];
            scored++;
        }
    if (!scored) return output_printf(out, "%s\t%lld\t0\t.\t.\n", r->seq.name, (long long)r->seq.length);
    const double mean = sum / (double)scored;
    return output_printf(out, "%s\t%lld\t%lld\t%.6f\t%.6f\n", r->seq.name, (long long)r->seq.length, (long long)scored, mean,
                         0 - mean / log(2));
}

static int write_bases(output *out, const record *r, const float *loglik, int format) {
    for (int64_t i = 0; i < r->seq.length; i++) {
        const long long at = r->seq.start + i;
        int bad = 0;
        if (format == FORMAT_BEDGRAPH) {
            if (!isnan(loglik[i])) bad = output_printf(out, "%s\t%lld\t%lld\t%.6f\n", r->seq.contig, at, at + 1, loglik[i]);
        } else if (isnan(loglik[i]))
            bad = output_printf(out, "%s\t%lld\t%c\t.\n", r->seq.contig, at + 1, r->seq.bases[i]);
        else
            bad = output_printf(out, "%s\t%lld\t%c\t%.6f\n", r->seq.contig, at + 1, r->seq.bases[i], loglik[i]);
        if (bad) return -1;
    }
    return 0;
}

static int write_chunk(scorer *s, const record_chunk *chunk, strand_scores *scores, int strands) {
    const int format = s->rt.settings->format;
    for (int64_t i = 0; i < chunk->n; i++) {
        const record *r = &chunk->items[i];
        strand_scores *own = &scores[strands * i];
        if (strands == 2) join_strands(own, r->seq.length);
        s->failed += r->failed;
        if (format == FORMAT_SUMMARY ? write_summary(s->out, r, own->loglik) : write_bases(s->out, r, own->loglik, format))
            return -1;
    }
    return 0;
}

static void write_header(scorer *s) {
    const options *settings = s->rt.settings;
    if (!settings->no_version) runtime_header(&s->rt, s->out);
    if (settings->format == FORMAT_SUMMARY) output_printf(s->out, "name\tlength\tscored\tmean_loglik\tbits_per_base\n");
    if (settings->format == FORMAT_TSV) output_printf(s->out, "contig\tpos\tbase\tloglik\n");
}

static int score_all(scorer *s, sequence_reader *reader, const char *file) {
    const int strands = s->rt.settings->rc == RC_MEAN ? 2 : 1;
    record_chunk chunk;
    int status;
    while ((status = records_read(&chunk, reader, &s->dna, file, CHUNK_RECORDS, CHUNK_BASES)) > 0) {
        strand_scores *scores = calloc((size_t)(chunk.n * strands), sizeof *scores);
        int bad = scores ? score_chunk(s, &chunk, scores, strands) : (complain("out of memory"), -1);
        if (!bad) bad = write_chunk(s, &chunk, scores, strands);
        free_scores(scores, chunk.n * strands);
        records_free(&chunk);
        if (bad || interrupted()) return EXIT_FAILED;
    }
    if (status < 0) return EXIT_FAILED;
    if (!sequences_count(reader)) remark("%s: no records", input_name(file));
    return s->failed ? EXIT_PARTIAL : EXIT_DONE;
}

static int score(scorer *s, const options *settings, const char *file) {
    int rc = windows_init(&s->rule, &s->rt);
    if (!rc) rc = dna_alphabet_init(&s->dna, &s->rt, settings->soft_mask, settings->softmax);
    if (rc) return rc;
    sequence_reader *reader = records_open(settings, file, &rc);
    if (!reader) return rc;
    rc = EXIT_FAILED;
    s->runner = batch_open(&s->rt, "logits");
    if (s->runner && !batch_prepare(s->runner, 1) && (s->out = output_open(settings->output)) != NULL) {
        progress_begin("bases");
        if (sequences_first_shard(reader)) write_header(s);
        rc = score_all(s, reader, file);
        if (output_close(s->out, rc != EXIT_FAILED)) rc = EXIT_FAILED;
    }
    batch_close(s->runner);
    sequences_close(reader);
    return rc;
}

int run_dna_score(const options *settings) {
    scorer s;
    int rc;
    memset(&s, 0, sizeof s);
    const char *file = input_argument(settings->args, settings->n_args, &rc);
    if (!rc) rc = runtime_open(&s.rt, settings, NULL);
    if (rc) return rc;
    rc = score(&s, settings, file);
    runtime_close(&s.rt);
    return rc;
}

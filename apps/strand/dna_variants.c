/* dna_variants.c - `strand dna variants`: VCF in, VCF out, with the change of log-likelihood that each ALT allele makes.
 *
 * Records are taken in chunks. The windows of a chunk's alleles (alleles.c) run together; a REF window that was seen a few
 * alleles before, as with the alleles of one record, is run once.
 */
#include "alleles.h"
#include "batch.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "progress.h"
#include "variants_io.h"
#include "windows.h"

#include <htslib/kstring.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_RECORDS = 512, CHUNK_BYTES = 32 << 20, LOOK_BACK = 16 };

typedef struct variant {
    bcf1_t *record;
    allele *alleles; /* one a ALT; a record without ALT has one that says so */
    int n, renamed;
} variant;

typedef struct chunk {
    variant items[CHUNK_RECORDS];
    int n;
    int64_t bytes;
} chunk;

typedef struct job {
    runtime rt;
    dna_alphabet dna;
    allele_maker maker;
    batch_runner *runner;
    variant_reader *reader;
    variant_writer *writer;
    chunk chunk;
    float *deltas;
    int deltas_room;
    kstring_t text;
    int64_t records, records_scored, records_failed, alleles, alleles_scored, reasons[REASON_COUNT];
} job;

/* ---- windows of a chunk --------------------------------------------------------------------------------------------- */

/* The REF window of an allele shortly before, of the same place. Those alleles are on the same contig. */
static const allele_window *seen_before(const chunk *c, const variant *v, const allele *a) {
    int left = LOOK_BACK;
    for (const variant *u = v; u >= c->items && left; u--)
        if (u->record->rid == v->record->rid)
            for (int i = (u == v ? (int)(a - v->alleles) : u->n) - 1; i >= 0 && left; i--, left--)
                if (!u->alleles[i].reason && u->alleles[i].from == a->from && u->alleles[i].to == a->to)
                    return u->alleles[i].ref;
    return NULL;
}

static int make_alleles(job *j, variant *v) {
    const bcf1_t *record = v->record;
    const char *contig = bcf_seqname_safe(variants_header(j->reader), record);
    int renamed;
    v->n = record->n_allele > 1 ? record->n_allele - 1 : 1;
    v->alleles = calloc((size_t)v->n, sizeof *v->alleles);
    if (!v->alleles) return complain("out of memory"), -1;
    for (int i = 0; i < v->n; i++) {
        allele *a = &v->alleles[i];
        const char *alt = record->n_allele > 1 ? record->d.allele[i + 1] : NULL;
        if (allele_make(&j->maker, a, contig, record->pos, record->n_allele ? record->d.allele[0] : "", alt)) return -1;
        v->renamed |= a->renamed;
        if (a->reason) continue;
        a->ref = seen_before(&j->chunk, v, a);
        if (!a->ref && allele_make_ref(&j->maker, a, reference_find(j->maker.ref, contig, &renamed))) return -1;
        j->chunk.bytes += (a->alt.length + a->own.length) * j->maker.strands;
    }
    return 0;
}

static void clear_chunk(chunk *c) {
    for (int i = 0; i < c->n; i++) {
        for (int k = 0; c->items[i].alleles && k < c->items[i].n; k++) allele_free(&c->items[i].alleles[k]);
        free(c->items[i].alleles);
        c->items[i].alleles = NULL;
        c->items[i].n = c->items[i].renamed = 0;
    }
    c->n = 0;
    c->bytes = 0;
}

/* 1: some records, 0: none left, -1: failed. */
static int read_chunk(job *j) {
    chunk *c = &j->chunk;
    while (c->n < CHUNK_RECORDS && c->bytes < CHUNK_BYTES) {
        variant *v = &c->items[c->n];
        if (!v->record) v->record = bcf_init();
        if (!v->record) return complain("out of memory"), -1;
        const int status = variants_next(j->reader, v->record);
        if (status < 0) return -1;
        if (status == 0) break;
        c->n++;
        if (make_alleles(j, v)) return -1;
    }
    progress_fraction(variants_fraction(j->reader));
    return c->n > 0;
}

static void reduce(void *user, const batch_item *item, const float *logits, int64_t width) {
    const job *j = user;
    double sum = 0;
    for (int64_t t = 1; t < item->length; t++) {
        const double loglik = dna_loglik(&j->dna, logits + (t - 1) * width, width, item->ids[t]);
        if (!isnan(loglik)) sum += loglik;
    }
    *(double *)item->owner = sum;
}

static int64_t add_window(const job *j, batch_item *items, allele_window *w) {
    for (int strand = 0; w->ids && strand < j->maker.strands; strand++)
        items[strand] = (batch_item){w->ids + strand * w->length, w->length, "a variant's window", &w->loglik[strand], 0, 0};
    return w->ids ? j->maker.strands : 0;
}

static int score_chunk(job *j) {
    int64_t alleles = 0, n = 0;
    for (int i = 0; i < j->chunk.n; i++) alleles += j->chunk.items[i].n;
    batch_item *items = malloc((size_t)(4 * alleles) * sizeof *items);
    if (!items) return complain("out of memory"), -1;
    for (int i = 0; i < j->chunk.n; i++)
        for (int k = 0; k < j->chunk.items[i].n; k++) {
            allele *a = &j->chunk.items[i].alleles[k];
            if (a->reason) continue;
            n += add_window(j, items + n, &a->alt);
            n += add_window(j, items + n, &a->own);
        }
    const int rc = batch_run(j->runner, items, n, reduce, j);
    free(items);
    return rc;
}

/* ---- output --------------------------------------------------------------------------------------------------------- */

static double loglik_of(const job *j, const allele_window *w) {
    return j->maker.strands == 2 ? 0.5 * (w->loglik[0] + w->loglik[1]) : w->loglik[0];
}

/* An allele inside INFO: VCF 4.3's escapes for what separates things there. */
static void put_escaped(kstring_t *text, const char *allele_text) {
    for (; *allele_text; allele_text++) {
        if (strchr(",;=%|: ", *allele_text))
            ksprintf(text, "%%%02X", (unsigned)(unsigned char)*allele_text);
        else
            kputc(*allele_text, text);
    }
}

static void put_allele(job *j, const allele *a, const char *alt) {
    kstring_t *text = &j->text;
    if (text->l) kputc(',', text);
    put_escaped(text, alt);
    if (a->reason)
        ksprintf(text, "|.|.|.|%s", allele_reason_names[a->reason]);
    else {
        const double ref = loglik_of(j, a->ref), other = loglik_of(j, &a->alt);
        ksprintf(text, "|%.6f|%.6f|%.6f|", other - ref, ref, other);
        if (a->n_in_window)
            kputs(allele_reason_names[REASON_N_IN_WINDOW], text);
        else if (!a->renamed)
            kputc('.', text);
    }
    if (a->renamed) ksprintf(text, "%s%s", a->reason || a->n_in_window ? "&" : "", allele_reason_names[REASON_CHR_RENAMED]);
}

static int count_allele(job *j, const allele *a) {
    j->alleles++;
    if (a->renamed) j->reasons[REASON_CHR_RENAMED]++;
    if (a->reason)
        j->reasons[a->reason]++;
    else if (a->n_in_window)
        j->reasons[REASON_N_IN_WINDOW]++;
    j->alleles_scored += !a->reason;
    return a->reason && a->reason != REASON_NO_ALT;
}

static int write_variant(job *j, variant *v) {
    bcf_hdr_t *header = variants_header(j->reader);
    int failed = 0, scored = 0;
    if (v->n > j->deltas_room) {
        float *block = realloc(j->deltas, (size_t)v->n * sizeof *block);
        if (!block) return complain("out of memory"), -1;
        j->deltas = block;
        j->deltas_room = v->n;
    }
    j->text.l = 0;
    for (int i = 0; i < v->n; i++) {
        const allele *a = &v->alleles[i];
        put_allele(j, a, v->record->n_allele > 1 ? v->record->d.allele[i + 1] : ".");
        if (a->reason)
            bcf_float_set_missing(j->deltas[i]);
        else
            j->deltas[i] = (float)(loglik_of(j, &a->alt) - loglik_of(j, a->ref));
        failed |= count_allele(j, a);
        scored |= !a->reason;
    }
    j->records++;
    j->records_failed += failed;
    j->records_scored += scored;
    if (bcf_update_info_string(header, v->record, "STRAND", j->text.s) < 0 ||
        (v->record->n_allele > 1 && bcf_update_info_float(header, v->record, "STRAND_DELTA", j->deltas, v->n) < 0))
        return complain("record %" PRId64 ": the INFO tags cannot be added", j->records), -1;
    return variants_write(j->writer, v->record);
}

static int write_stats(const job *j, const char *path) {
    output *out = output_open(path);
    if (!out) return -1;
    output_printf(out,
                  "{\n  \"records\": %" PRId64 ",\n  \"records_scored\": %" PRId64 ",\n  \"records_failed\": %" PRId64 ",\n",
                  j->records, j->records_scored, j->records_failed);
    output_printf(out, "  \"alleles\": %" PRId64 ",\n  \"alleles_scored\": %" PRId64 ",\n  \"reasons\": {", j->alleles,
                  j->alleles_scored);
    for (int i = 1; i < REASON_COUNT; i++)
        output_printf(out, "%s\n    \"%s\": %" PRId64, i > 1 ? "," : "", allele_reason_names[i], j->reasons[i]);
    output_printf(out, "\n  }\n}\n");
    return output_close(out, 1);
}

/* ---- header --------------------------------------------------------------------------------------------------------- */

/* An INFO line of ours, unless the input has one (a second run over the same file); then it must be of our type. */
static int declare(bcf_hdr_t *header, const char *tag, int type, const char *line) {
    const int id = bcf_hdr_id2int(header, BCF_DT_ID, tag);
    if (bcf_hdr_idinfo_exists(header, BCF_HL_INFO, id)) {
        if ((int)bcf_hdr_id2type(header, BCF_HL_INFO, id) == type) return 0;
        complain("the input has an INFO tag %s of another type; remove it: bcftools annotate -x INFO/%s", tag, tag);
        return -1;
    }
    return bcf_hdr_append(header, line);
}

static int extend_header(job *j) {
    bcf_hdr_t *header = variants_header(j->reader);
    char settings[512];
    kstring_t line = {0, 0, NULL};
    int bad =
        declare(
            header, "STRAND", BCF_HT_STR,
            "##INFO=<ID=STRAND,Number=.,Type=String,Description=\"Change of log-likelihood by a DNA model, one entry per ALT. "
            "Format: ALLELE|DELTA|REF_LOGLIK|ALT_LOGLIK|REASON\">") ||
        declare(header, "STRAND_DELTA", BCF_HT_REAL,
                "##INFO=<ID=STRAND_DELTA,Number=A,Type=Float,Description=\"Sum of log-likelihoods over the window with ALT "
                "minus that "
                "with REF\">");
    if (!bad && !j->rt.settings->no_version) {
        runtime_settings(&j->rt, settings, sizeof settings);
        ksprintf(&line, "##strand_variantsVersion=%s", strand_version());
        bad |= bcf_hdr_append(header, line.s);
        line.l = 0;
        ksprintf(&line, "##strand_variantsModel=%s; sha256=%s; precision=%s; backend=%s; %s", j->rt.info.name,
                 strand_model_sha256(j->rt.model), j->rt.info.precision, j->rt.backends, settings);
        bad |= bcf_hdr_append(header, line.s);
        line.l = 0;
        ksprintf(&line, "##strand_variantsCommand=%s", j->rt.settings->line);
        bad |= bcf_hdr_append(header, line.s);
    }
    free(line.s);
    if (bad || bcf_hdr_sync(header) < 0) return complain("the VCF header cannot be extended"), -1;
    return 0;
}

/* ---- the command ---------------------------------------------------------------------------------------------------- */

static int score_all(job *j) {
    int status;
    while ((status = read_chunk(j)) > 0) {
        if (score_chunk(j) || interrupted()) return EXIT_FAILED;
        for (int i = 0; i < j->chunk.n; i++)
            if (write_variant(j, &j->chunk.items[i])) return EXIT_FAILED;
        progress_add("variants", j->chunk.n);
        clear_chunk(&j->chunk);
    }
    return status < 0 ? EXIT_FAILED : j->records_failed ? EXIT_PARTIAL : EXIT_DONE;
}

/* The longest window that this reference can ask for: what to plan for first. */
static int64_t longest_window(const reference *ref, int64_t window) {
    int64_t most = 1;
    for (int i = 0; i < reference_contigs(ref); i++) {
        const int64_t length = reference_length(ref, reference_contig(ref, i));
        if (length > most) most = length;
    }
    return most < window ? most : window;
}

static int variants(job *j, const options *settings, const char *file) {
    window_rule rule;
    int rc = windows_init(&rule, &j->rt);
    if (!rc) rc = dna_alphabet_init(&j->dna, &j->rt, settings->soft_mask, settings->softmax);
    if (rc) return rc;
    j->maker.dna = &j->dna;
    j->maker.window = rule.window;
    j->maker.strands = settings->rc == RC_MEAN ? 2 : 1;
    j->maker.allow_n = settings->allow_n;
    rc = EXIT_FAILED;
    reference *ref = reference_open(settings->fasta);
    j->maker.ref = ref;
    if (ref) j->runner = batch_open(&j->rt, "logits");
    if (j->runner && !batch_prepare(j->runner, longest_window(ref, rule.window)))
        j->reader = variants_open(file, settings->part);
    const int format = variants_format(settings->output, settings->variant_format);
    if (j->reader && !extend_header(j))
        j->writer = variants_create(settings->output, format, variants_header(j->reader),
                                    format == VARIANT_VCF && settings->part.index > 1);
    if (j->writer) {
        progress_begin("variants");
        rc = score_all(j);
        if (variants_finish(j->writer, rc != EXIT_FAILED)) rc = EXIT_FAILED;
        if (rc != EXIT_FAILED && settings->stats && write_stats(j, settings->stats)) rc = EXIT_FAILED;
        if (rc == EXIT_PARTIAL)
            remark("%" PRId64 " of %" PRId64 " records were not scored; INFO/STRAND says why", j->records_failed, j->records);
    }
    clear_chunk(&j->chunk);
    for (int i = 0; i < CHUNK_RECORDS; i++)
        if (j->chunk.items[i].record) bcf_destroy(j->chunk.items[i].record);
    free(j->deltas);
    free(j->text.s);
    free(j->maker.piece.letters);
    variants_close(j->reader);
    batch_close(j->runner);
    reference_close(ref);
    return rc;
}

int run_dna_variants(const options *settings) {
    int rc;
    if (!settings->fasta) return complain("dna variants: no reference; give -f REF.fa"), EXIT_USAGE;
    const char *file = input_argument(settings->args, settings->n_args, &rc);
    if (rc) return rc;
    job *j = calloc(1, sizeof *j);
    if (!j) return complain("out of memory"), EXIT_FAILED;
    rc = runtime_open(&j->rt, settings, NULL);
    if (!rc) {
        rc = variants(j, settings, file);
        runtime_close(&j->rt);
    }
    free(j);
    return rc;
}

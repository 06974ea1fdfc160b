/* dna_embed.c - `strand dna embed`: the model's last hidden layer, one vector a record or one a base.
 *
 * Pooled vectors are made chunk by chunk like scores. One vector a base would not fit memory for a long record, so there the
 * windows are run in pieces of some ten thousand bases, each written before the next.
 */
#include "batch.h"
#include "commands.h"
#include "embed_write.h"
#include "input.h"
#include "progress.h"
#include "records.h"
#include "windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_RECORDS = 8192, CHUNK_BASES = 1 << 20, PIECE_BASES = 1 << 15 };

typedef struct embedder {
    runtime rt;
    dna_alphabet dna;
    window_rule rule;
    batch_runner *runner;
    embed_writer *out;
    int64_t channels, failed;
    int pool;
} embedder;

static void reduce_pooled(void *user, const batch_item *item, const float *hidden, int64_t width) {
    const embedder *e = user;
    double *sum = item->owner;
    for (int64_t t = item->keep - item->from; t < item->length; t++)
        for (int64_t c = 0; c < width; c++)
            sum[c] = e->pool == POOL_LAST ? hidden[t * width + c] : sum[c] + hidden[t * width + c];
}

/* Here the owner is where the item's own first vector goes. */
static void reduce_positions(void *user, const batch_item *item, const float *hidden, int64_t width) {
    (void)user;
    const int64_t skip = item->keep - item->from;
    memcpy(item->owner, hidden + skip * width, (size_t)((item->length - skip) * width) * sizeof *hidden);
}

static int run_pooled(embedder *e, const record_chunk *chunk) {
    int64_t total = 0, used = 0;
    for (int64_t i = 0; i < chunk->n; i++) total += windows_count(&e->rule, chunk->items[i].seq.length);
    batch_item *items = malloc(((size_t)total + 1) * sizeof *items);
    int rc = items ? 0 : (complain("out of memory"), -1);
    for (int64_t i = 0; !rc && i < chunk->n; i++) {
        record *r = &chunk->items[i];
        const int64_t n = windows_count(&e->rule, r->seq.length);
        r->result = calloc((size_t)e->channels, sizeof(double));
        if (!r->result) rc = (complain("out of memory"), -1);
        for (int64_t w = e->pool == POOL_LAST && n ? n - 1 : 0; !rc && w < n; w++) {
            const window_place place = windows_place(&e->rule, r->seq.length, w);
            items[used++] =
                (batch_item){r->ids + place.from, place.to - place.from, r->seq.name, r->result, place.from, place.keep};
        }
    }
    if (!rc) rc = batch_run(e->runner, items, used, reduce_pooled, e);
    free(items);
    return rc;
}

static int write_pooled(embedder *e, const record_chunk *chunk, float *row) {
    for (int64_t i = 0; i < chunk->n; i++) {
        const record *r = &chunk->items[i];
        const double *sum = r->result, count = e->pool == POOL_LAST ? 1 : (double)r->seq.length;
        for (int64_t c = 0; c < e->channels; c++) row[c] = r->seq.length ? (float)(sum[c] / count) : NAN;
        if (embed_record(e->out, r->seq.name, r->seq.contig, r->seq.start, r->seq.length, 1) ||
            embed_rows_write(e->out, row, 1))
            return -1;
    }
    return 0;
}

/* Walks over the windows of all records of a chunk; whenever a piece is full it is run and written. */
typedef struct piece {
    float *values;
    batch_item *items;
    int64_t room, n_items, rows; /* rows: vectors that the items will give */
    int64_t written_record, written_rows;
} piece;

/* Writes the piece's vectors, which begin inside record `written_record` after `written_rows` of its own. */
static int write_piece(embedder *e, const record_chunk *chunk, piece *p) {
    for (int64_t row = 0; row < p->rows;) {
        const record *r = &chunk->items[p->written_record];
        const int64_t left = r->seq.length - p->written_rows, n = left < p->rows - row ? left : p->rows - row;
        if (!p->written_rows && embed_record(e->out, r->seq.name, r->seq.contig, r->seq.start, r->seq.length, r->seq.length))
            return -1;
        if (embed_rows_write(e->out, p->values + row * e->channels, n)) return -1;
        row += n;
        p->written_rows += n;
        if (p->written_rows == r->seq.length) {
            p->written_record++;
            p->written_rows = 0;
        }
    }
    return 0;
}

static int flush_piece(embedder *e, const record_chunk *chunk, piece *p) {
    if (batch_run(e->runner, p->items, p->n_items, reduce_positions, e)) return -1;
    const int rc = write_piece(e, chunk, p);
    p->n_items = p->rows = 0;
    return rc;
}

static int run_positions(embedder *e, const record_chunk *chunk, piece *p) {
    p->written_record = p->written_rows = 0;
    for (int64_t i = 0; i < chunk->n; i++) {
        record *r = &chunk->items[i];
        const int64_t n = windows_count(&e->rule, r->seq.length);
        if (!n) { /* a record without bases has its line and no vector */
            if (flush_piece(e, chunk, p) || embed_record(e->out, r->seq.name, r->seq.contig, r->seq.start, 0, 0)) return -1;
            p->written_record = i + 1;
        }
        for (int64_t w = 0; w < n; w++) {
            const window_place place = windows_place(&e->rule, r->seq.length, w);
            if (p->rows + place.to - place.keep > p->room || p->n_items == PIECE_BASES)
                if (flush_piece(e, chunk, p)) return -1;
            p->items[p->n_items++] = (batch_item){r->ids + place.from, place.to - place.from,
                                                  r->seq.name,         p->values + p->rows * e->channels,
                                                  place.from,          place.keep};
            p->rows += place.to - place.keep;
        }
    }
    return flush_piece(e, chunk, p);
}

static int embed_all(embedder *e, sequence_reader *reader, const char *file) {
    record_chunk chunk;
    piece p = {0};
    int status = 0, bad = 0;
    p.room = e->rule.window > PIECE_BASES ? e->rule.window : PIECE_BASES;
    const int64_t rows = e->pool == POOL_NONE ? p.room : 1;
    p.values = malloc((size_t)(rows * e->channels) * sizeof *p.values);
    p.items = malloc(PIECE_BASES * sizeof *p.items);
    if (!p.values || !p.items) bad = (complain("out of memory for %lld vectors; give a shorter --window", (long long)rows), 1);
    while (!bad && (status = records_read(&chunk, reader, &e->dna, file, CHUNK_RECORDS, CHUNK_BASES)) > 0) {
        for (int64_t i = 0; i < chunk.n; i++) e->failed += chunk.items[i].failed;
        if (e->pool == POOL_NONE)
            bad = run_positions(e, &chunk, &p);
        else
            bad = run_pooled(e, &chunk) || write_pooled(e, &chunk, p.values);
        records_free(&chunk);
        if (interrupted()) bad = 1;
    }
    free(p.values);
    free(p.items);
    if (bad || status < 0) return EXIT_FAILED;
    if (!sequences_count(reader)) remark("%s: no records", input_name(file));
    return e->failed ? EXIT_PARTIAL : EXIT_DONE;
}

static int embed(embedder *e, const options *settings, const char *file) {
    strand_tensor shape;
    int rc = windows_init(&e->rule, &e->rt);
    if (!rc) rc = dna_alphabet_init(&e->dna, &e->rt, settings->soft_mask, SOFTMAX_ALL);
    if (rc) return rc;
    sequence_reader *reader = records_open(settings, file, &rc);
    if (!reader) return rc;
    rc = EXIT_FAILED;
    e->pool = settings->pool;
    e->runner = batch_open(&e->rt, "hidden");
    if (e->runner && !batch_prepare(e->runner, 1)) {
        runtime_output(&e->rt, "hidden", &shape);
        e->channels = shape.dims[shape.rank - 1];
        e->out = embed_open(&e->rt, e->channels, sequences_first_shard(reader));
        if (e->out) {
            progress_begin("bases");
            rc = embed_all(e, reader, file);
            if (embed_close(e->out, rc != EXIT_FAILED)) rc = EXIT_FAILED;
        }
    }
    batch_close(e->runner);
    sequences_close(reader);
    return rc;
}

int run_dna_embed(const options *settings) {
    embedder e;
    int rc;
    memset(&e, 0, sizeof e);
    const char *file = input_argument(settings->args, settings->n_args, &rc);
    if (!rc) rc = embed_check(settings);
    if (!rc) rc = runtime_open(&e.rt, settings, NULL);
    if (rc) return rc;
    rc = embed(&e, settings, file);
    runtime_close(&e.rt);
    return rc;
}

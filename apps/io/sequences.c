/* sequences.c - records of a FASTA or FASTQ stream (htslib's kseq over BGZF, which also reads plain and gzip files), or regions
 * of an indexed FASTA. A shard of a stream is found by counting its records first, so it needs a file that can be read twice.
 */
#include "sequences.h"

#include "say.h"
#include "input.h"
#include "progress.h"
#include "reference.h"
#include "shard.h"

#include <ctype.h>
#include <htslib/bgzf.h>
#include <htslib/kseq.h>
#include <stdlib.h>
#include <string.h>

KSEQ_INIT(BGZF *, bgzf_read)

struct sequence_reader {
    const char *path;
    BGZF *file; /* a stream ... */
    kseq_t *stream;
    int64_t size, number;
    int may_block;
    reference *ref; /* ... or regions */
    region_set regions;
    shard part;
    int64_t from, to, next; /* records of this shard */
};

static int open_stream(sequence_reader *reader) {
    htsFormat format;
    reader->file = input_open_sequences(reader->path, &format);
    if (!reader->file) return -1;
    reader->stream = kseq_init(reader->file);
    reader->number = 0;
    reader->size = input_size(reader->path);
    reader->may_block = reader->size < 0;
    if (!reader->stream) return complain("out of memory"), -1;
    /* a block-compressed file ends with an empty block; without it the rest of the file is missing */
    if (format.compression == bgzf && reader->size >= 0 && bgzf_check_EOF(reader->file) == 0) {
        complain("%s: the end of the file is missing (no bgzip end marker); copy it again", reader->path);
        return -1;
    }
    return 0;
}

static void close_stream(sequence_reader *reader) {
    if (reader->stream) kseq_destroy(reader->stream);
    if (reader->file) bgzf_close(reader->file);
    reader->stream = NULL;
    reader->file = NULL;
}

/* 1, 0 or -1 like sequences_next; the record stays in the stream. */
static int read_record(sequence_reader *reader) {
    if (reader->may_block) signals_waiting(1);
    const int64_t status = kseq_read(reader->stream);
    if (reader->may_block) signals_waiting(0);
    if (status >= 0) {
        reader->number++;
        return 1;
    }
    const char *name = reader->stream->name.l ? reader->stream->name.s : "";
    if (status == -2)
        complain("%s: record %lld '%s': its quality line is missing or has another length than the sequence",
                 input_name(reader->path), (long long)reader->number + 1, name);
    else if (status < -1 || reader->file->errcode)
        complain("%s: after record %lld: the file is damaged or cut off", input_name(reader->path), (long long)reader->number);
    else
        return 0;
    return -1;
}

static int count_records(sequence_reader *reader, int64_t *total) {
    int status;
    if (input_is_stdin(reader->path) || reader->may_block) {
        complain("--shard needs a file that can be read twice, not %s", input_name(reader->path));
        return -1;
    }
    for (*total = 0; (status = read_record(reader)) > 0; ++*total)
        if (interrupted()) return -1;
    close_stream(reader);
    return status < 0 ? -1 : open_stream(reader);
}

static int open_regions(sequence_reader *reader, const sequence_choice *what) {
    reader->ref = reference_open(reader->path);
    if (!reader->ref) return -1;
    if (regions_from_text(&reader->regions, reader->ref, what->regions)) return -1;
    if (what->region_file && regions_from_file(&reader->regions, reader->ref, what->region_file)) return -1;
    return 0;
}

sequence_reader *sequences_open(const sequence_choice *what, const char *path, int *rc) {
    sequence_reader *reader = calloc(1, sizeof *reader);
    *rc = EXIT_FAILED;
    if (!reader) return complain("out of memory"), NULL;
    reader->path = path;
    if (what) reader->part = what->part;
    const int by_region = what && (what->regions->n || what->region_file);
    int64_t total = INT64_MAX;
    int bad = by_region ? open_regions(reader, what) : open_stream(reader);
    if (!bad && by_region)
        total = reader->regions.n;
    else if (!bad && reader->part.count > 1)
        bad = count_records(reader, &total);
    if (bad) {
        sequences_close(reader);
        *rc = EXIT_FAILED;
        return NULL;
    }
    if (by_region || reader->part.count > 1)
        shard_range(reader->part, total, &reader->from, &reader->to);
    else
        reader->to = INT64_MAX;
    reader->next = by_region ? reader->from : 0;
    return reader;
}

/* Drops blanks and line ends (kseq leaves a lone '\r'), finds the first byte that cannot be a letter of a sequence. */
static void clean(sequence *record) {
    int64_t n = 0;
    for (int64_t i = 0; i < record->length; i++) {
        const unsigned char c = (unsigned char)record->bases[i];
        if (c == '\r' || c == ' ' || c == '\t') continue;
        if (!record->bad && !isalpha(c) && c != '-' && c != '*' && c != '.' && c != '?') record->bad = n + 1;
        record->bases[n++] = (char)c;
    }
    record->length = n;
    record->bases[n] = 0;
}

static char *copy(const char *text, size_t length) {
    char *to = malloc(length + 1);
    if (!to) return NULL;
    memcpy(to, text, length);
    to[length] = 0;
    return to;
}

static int next_region(sequence_reader *reader, sequence *record) {
    const region *r = &reader->regions.items[reader->next];
    record->name = copy(r->name, strlen(r->name));
    record->contig = copy(r->contig, strlen(r->contig));
    record->bases = reference_fetch(reader->ref, r->contig, r->from, r->to);
    record->start = r->from;
    record->length = r->to - r->from;
    return record->bases ? 1 : -1;
}

static int next_record(sequence_reader *reader, sequence *record) {
    int status;
    while ((status = read_record(reader)) > 0 && reader->next < reader->from) reader->next++;
    if (status <= 0) return status;
    const kseq_t *ks = reader->stream;
    record->name = copy(ks->name.s ? ks->name.s : "", ks->name.l);
    record->contig = copy(ks->name.s ? ks->name.s : "", ks->name.l);
    record->bases = copy(ks->seq.s ? ks->seq.s : "", ks->seq.l);
    record->length = (int64_t)ks->seq.l;
    return 1;
}

int sequences_next(sequence_reader *reader, sequence *record) {
    memset(record, 0, sizeof *record);
    if (reader->next >= reader->to) return 0;
    const int status = reader->ref ? next_region(reader, record) : next_record(reader, record);
    if (status <= 0) {
        sequence_free(record);
        return status;
    }
    reader->next++;
    if (!record->name || !record->contig || !record->bases) {
        sequence_free(record);
        return complain("out of memory"), -1;
    }
    clean(record);
    return 1;
}

void sequence_free(sequence *record) {
    free(record->name);
    free(record->contig);
    free(record->bases);
    memset(record, 0, sizeof *record);
}

double sequences_fraction(const sequence_reader *reader) {
    if (reader->ref) {
        const int64_t all = reader->to - reader->from;
        return all > 0 ? (double)(reader->next - reader->from) / (double)all : 1;
    }
    if (reader->size <= 0) return -1;
    if (reader->part.count > 1) {
        const int64_t all = reader->to - reader->from;
        return all > 0 ? (double)(reader->next - reader->from) / (double)all : 1;
    }
    return (double)htell(reader->file->fp) / (double)reader->size;
}

int64_t sequences_count(const sequence_reader *reader) {
    return reader->next - reader->from;
}

int sequences_first_shard(const sequence_reader *reader) {
    return reader->part.index <= 1;
}

void sequences_close(sequence_reader *reader) {
    if (!reader) return;
    close_stream(reader);
    reference_close(reader->ref);
    regions_free(&reader->regions);
    free(reader);
}

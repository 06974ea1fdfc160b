/* records.c - a handful of records at a time: read, encoded, ready for batches.
 */
#include "records.h"

#include "input.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

sequence_reader *records_open(const options *settings, const char *file, int *rc) {
    return sequences_open(&(sequence_choice){&settings->regions, settings->region_file, settings->part}, file, rc);
}

void records_free(record_chunk *chunk) {
    for (int64_t i = 0; i < chunk->n; i++) {
        sequence_free(&chunk->items[i].seq);
        free(chunk->items[i].ids);
        free(chunk->items[i].result);
    }
    free(chunk->items);
    memset(chunk, 0, sizeof *chunk);
}

static int encode(record *r, const dna_alphabet *dna, const char *file, int64_t number) {
    if (r->seq.bad) {
        complain("%s: record %lld '%s': byte 0x%02x at base %lld is no letter of a sequence; the record is skipped",
                 input_name(file), (long long)number, r->seq.name, (unsigned char)r->seq.bases[r->seq.bad - 1],
                 (long long)r->seq.bad);
        r->failed = 1;
        r->seq.length = 0;
    }
    r->ids = malloc((size_t)r->seq.length + 1);
    if (!r->ids) return complain("out of memory"), -1;
    dna_encode(dna, r->seq.bases, r->seq.length, r->ids);
    return 0;
}

int records_read(record_chunk *chunk, sequence_reader *reader, const dna_alphabet *dna, const char *file, int64_t most,
                 int64_t most_bases) {
    memset(chunk, 0, sizeof *chunk);
    chunk->items = calloc((size_t)most, sizeof *chunk->items);
    if (!chunk->items) return complain("out of memory"), -1;
    while (chunk->n < most && chunk->bases < most_bases) {
        record *r = &chunk->items[chunk->n];
        const int status = sequences_next(reader, &r->seq);
        if (status == 0) break;
        if (status > 0) chunk->n++;
        if (status < 0 || encode(r, dna, file, sequences_count(reader))) {
            records_free(chunk);
            return -1;
        }
        chunk->bases += r->seq.length;
    }
    progress_fraction(sequences_fraction(reader));
    if (chunk->n > 0) return 1;
    records_free(chunk);
    return 0;
}

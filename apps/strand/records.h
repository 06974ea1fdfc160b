/* records.h - a handful of records at a time: read, encoded, ready for batches. What score, embed and classify share.
 */
#ifndef STRAND_APP_RECORDS_H
#define STRAND_APP_RECORDS_H

#include "dna.h"
#include "options.h"
#include "sequences.h"

typedef struct record {
    sequence seq;
    uint8_t *ids;
    int failed; /* it holds bytes that are no letters; said already */
    void *result;
} record;

typedef struct record_chunk {
    record *items;
    int64_t n, bases;
} record_chunk;

/* The records that --region, --regions-file and --shard choose of a file. NULL on failure, after a message; *rc gets the exit
 * code. */
sequence_reader *records_open(const options *settings, const char *file, int *rc);
/* Reads on until `most_bases` or `most` records are in the chunk. 1: some, 0: no more, -1: failed, after a message. */
int records_read(record_chunk *chunk, sequence_reader *reader, const dna_alphabet *dna, const char *file, int64_t most,
                 int64_t most_bases);
/* Frees what is in the chunk and its records' results. */
void records_free(record_chunk *chunk);

#endif

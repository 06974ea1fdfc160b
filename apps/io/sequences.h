/* sequences.h - records of a FASTA or FASTQ file one after the other, or regions of an indexed one.
 */
#ifndef STRAND_APP_SEQUENCES_H
#define STRAND_APP_SEQUENCES_H

#include "say.h"
#include "shard.h"
#include "text_list.h"

#include <stdint.h>

typedef struct sequence {
    char *name;    /* first word of the record's header, or the region as written */
    char *contig;  /* where its bases are counted */
    char *bases;   /* letters without blanks and line ends */
    int64_t start; /* 0-based place of the first base on the contig */
    int64_t length;
    int64_t bad; /* 1-based place of the first byte that is no letter (nor - * . ?), or 0 */
} sequence;

typedef struct sequence_reader sequence_reader;

/* Which records of a file: regions of a reference, given as texts and in a file (NULL: none), or else all records; of those
 * that are left, one shard. */
typedef struct sequence_choice {
    const text_list *regions;
    const char *region_file;
    shard part;
} sequence_choice;

/* `what`: NULL for all records. NULL on failure, after a message; *rc gets the exit code. */
sequence_reader *sequences_open(const sequence_choice *what, const char *path, int *rc);
/* 1: `record` is filled (free it), 0: no more, -1: failed, after a message. */
int sequences_next(sequence_reader *reader, sequence *record);
void sequence_free(sequence *record);
/* Part of the input that has been read, 0 to 1; negative when that is not known. */
double sequences_fraction(const sequence_reader *reader);
/* Records handed out so far, and whether this reader is the first shard. */
int64_t sequences_count(const sequence_reader *reader);
int sequences_first_shard(const sequence_reader *reader);
void sequences_close(sequence_reader *reader);

#endif

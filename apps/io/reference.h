/* reference.h - an indexed FASTA file: regions in samtools' reading, BED files, pieces of contigs.
 */
#ifndef STRAND_APP_REFERENCE_H
#define STRAND_APP_REFERENCE_H

#include "say.h"
#include "text_list.h"

#include <stdint.h>

typedef struct reference reference;

/* Uses PATH.fai (and .gzi); builds them beside the file where they are missing, or in a temporary place where that cannot be
 * written. NULL on failure, after a message. */
reference *reference_open(const char *path);
void reference_close(reference *ref);
int reference_contigs(const reference *ref);
const char *reference_contig(const reference *ref, int index);
/* Length of a contig, or -1 when there is none of that name. */
int64_t reference_length(const reference *ref, const char *contig);
/* The name under which `contig` is found, `contig` itself or with "chr" added or taken away (*renamed says so); NULL: not. */
const char *reference_find(const reference *ref, const char *contig, int *renamed);
/* Letters [from, to) of a contig, both inside it, in a new block of to - from + 1 bytes. NULL on failure, after a message. */
char *reference_fetch(const reference *ref, const char *contig, int64_t from, int64_t to);

typedef struct region {
    char *contig, *name; /* name: as the user wrote it, or contig:from-to */
    int64_t from, to;    /* 0-based, half-open, inside the contig */
} region;

typedef struct region_set {
    region *items;
    int64_t n, room;
} region_set;

/* Appends the regions of -r and -R. Returns 0 or an exit code, after a message. */
int regions_from_text(region_set *list, const reference *ref, const text_list *texts);
int regions_from_file(region_set *list, const reference *ref, const char *path);
void regions_free(region_set *list);

#endif

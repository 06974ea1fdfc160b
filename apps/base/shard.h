/* shard.h - "3/8" and "3-of-8": which run of records one process of several takes.
 *
 * Runs are contiguous and their sizes differ by one at most, so that the outputs in order equal the output of one process.
 */
#ifndef STRAND_APP_SHARD_H
#define STRAND_APP_SHARD_H

#include <stdint.h>

typedef struct shard {
    int64_t index, count; /* index from 1; 1 of 1 is everything */
} shard;

/* Returns 0, or EXIT_USAGE after a message. */
int shard_parse(const char *text, shard *part);
/* Records [*from, *to) of `total`. A count of 0 is everything too. */
void shard_range(shard part, int64_t total, int64_t *from, int64_t *to);

#endif

/* sharded.h - the index of a sharded checkpoint as data: parsing it opens no file, so that it can be fuzzed. */
#ifndef STRAND_CORE_WEIGHTS_SHARDED_H
#define STRAND_CORE_WEIGHTS_SHARDED_H

#include "reader.h"

typedef struct shard_entry {
    const char *tensor, *file;
    size_t shard; /* which of shard_index.files */
} shard_entry;

typedef struct shard_index {
    shard_entry *entries; /* in the order of the index */
    size_t count;
    const char **files; /* each once, sorted */
    size_t n_files;
} shard_index;

/* Everything it gives lives in the arena. */
strand_status sharded_parse(arena *a, const uint8_t *data, uint64_t size, const char *path, shard_index *out, error *e);

#endif

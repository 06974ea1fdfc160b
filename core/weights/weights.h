/* weights.h - named tensors from a checkpoint file, one interface for every format.
 *
 * Formats: safetensors, GGUF, PyTorch zip and legacy pickles (read as data, never executed), sharded index.json, and a
 * directory that holds one of them. Files are memory-mapped; tensors point into the mapping, or into the arena where the
 * file holds them strided or misaligned. Every limit comes from the file's size and every product is checked. */
#ifndef STRAND_CORE_WEIGHTS_H
#define STRAND_CORE_WEIGHTS_H

#include "../arena.h"
#include "../error.h"
#include "../strand.h"

typedef struct weights_tensor {
    const char *name;
    strand_dtype dtype;
    int32_t rank;                  /* 0 to STRAND_MAX_RANK */
    int64_t dims[STRAND_MAX_RANK];
    const void *data;              /* contiguous, row-major, aligned to its element size (a quantised block's: 2); read-only */
    uint64_t bytes;
} weights_tensor;

typedef struct weights_text {
    const char *key, *value;
} weights_text;

typedef struct weights weights;

/* Opens a file, or a directory in which the weights file is looked for. `config` is the path of a config.json, or NULL: its
 * "weights" key can name the weights file of a directory. Everything is allocated with `allocator`. */
strand_status weights_open(const strand_allocator *allocator, const char *path, const char *config, weights **out, error *e);
/* A safetensors file in memory that the caller keeps. No file is opened. */
strand_status weights_open_memory(const strand_allocator *allocator, const void *data, size_t bytes, const char *name,
                                  weights **out, error *e);
/* Reads mapped files into memory (map.h), all of them or, without memory, none or some: then the weights can still be used. */
strand_status weights_hold(const weights *w, error *e);
void weights_close(weights *w);

int64_t weights_count(const weights *w);
const weights_tensor *weights_at(const weights *w, int64_t index); /* in file order */
const weights_tensor *weights_find(const weights *w, const char *name);
/* The value of a string in the file's metadata (safetensors __metadata__, GGUF), or NULL. */
const char *weights_metadata(const weights *w, const char *key);
const char *weights_format(const weights *w); /* "safetensors", "gguf", "pytorch-zip", "pytorch-legacy", "sharded
                                                 safetensors" ... */
const char *weights_path(const weights *w);   /* of the weights file that was chosen (of the index, for shards) */
uint64_t weights_mapped_bytes(const weights *w);
/* SHA-256 over the file (over all shards in the order of their names), 64 hex digits. Computed at the first call. */
const char *weights_sha256(weights *w);

#endif

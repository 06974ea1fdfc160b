/* reader.h - what the format readers of this room share: the open file, and how tensors are added to it.
 *
 * Readers work on bytes in memory (w->data, w->size), never on files, so that the fuzzers drive exactly what users run.
 * Whatever a reader needs only while it reads lives in a scratch arena of its own; what stays goes into w->arena. */
#ifndef STRAND_CORE_WEIGHTS_READER_H
#define STRAND_CORE_WEIGHTS_READER_H

#include "weights.h"

#include "../sha256.h"
#include "map.h"

#define WEIGHTS_MAX_TENSORS ((int64_t)1 << 20)
#define WEIGHTS_MAX_NAME    ((size_t)1024)

struct weights {
    arena arena;
    const char *path; /* names the file in errors */
    const char *format;
    const uint8_t *data; /* of one file; NULL for shards, whose bytes are their own */
    uint64_t size;
    map map; /* what is to be unmapped; empty where the caller keeps the bytes */
    weights_tensor *tensors;
    int64_t count, room;
    const void **by_name; /* weights_tensor pointers in the order of their names */
    weights_text *metadata;
    int64_t n_metadata;
    const void **gguf; /* gguf_value pointers in the order of their keys; see gguf.h */
    int64_t n_gguf;
    weights **shards; /* in the order of their file names */
    int64_t n_shards;
    _Atomic int hashed; /* 1: sha256 is being filled in, 2: it is there */
    char sha256[SHA256_HEX];
};

strand_status safetensors_read(weights *w, error *e);
strand_status gguf_read(weights *w, error *e);
strand_status pytorch_zip_read(weights *w, error *e);
strand_status pytorch_legacy_read(weights *w, error *e);
strand_status llama2c_read(weights *w, error *e);
strand_status rwkvcpp_read(weights *w, error *e);
/* A tar archive with one weights file; its *.json members become metadata. */
strand_status tar_read(weights *w, error *e);
bool tar_is(const uint8_t *data, uint64_t size);
/* Are these bytes, a part of a file, a weights file? And reads such a part into w, whose own bytes stay what they are. */
bool weights_is_part(const uint8_t *data, uint64_t size);
strand_status weights_read_part(weights *w, const uint8_t *data, uint64_t size, error *e);
/* Reads the index in `index` (at w->path, in the open directory `dir`) and the shards beside it. */
strand_status sharded_read(weights *w, int dir, const map *index, error *e);

/* Does it begin like the pre-zip torch.save format? */
bool pytorch_is_legacy(const uint8_t *data, uint64_t size);

/* Is it a file of llama2.c, which has no mark but its size? */
bool llama2c_is(const uint8_t *data, uint64_t size);

/* Adds a tensor. Its name must live in w->arena. */
strand_status weights_add(weights *w, const weights_tensor *tensor, error *e);
/* To be called once all are added: sorts the names and refuses two that are alike. */
strand_status weights_finish(weights *w, error *e);
/* `bytes` bytes that have a copy in w->arena aligned to `align`, or themselves when they already are; NULL without memory. */
const void *weights_aligned(weights *w, const void *bytes, uint64_t size, size_t align);
strand_status weights_no_memory(const char *path, error *e);

/* One file of any format but an index, named `name` in the open directory `dir`; `shown` is its path for errors. `follow`: may
 * it be a symbolic link? */
strand_status weights_open_single(const strand_allocator *allocator, int dir, const char *name, const char *shown, bool follow,
                                  weights **out, error *e);
/* The same from bytes that the caller keeps. */
strand_status weights_open_bytes(const strand_allocator *allocator, const void *data, uint64_t size, const char *shown,
                                 weights **out, error *e);
/* Looks for the weights file of a directory; *name is put into `scratch`. `from_config`: its name was text in a config.json. */
strand_status directory_find(arena *scratch, int dir, const char *path, const char *config, const char **name,
                             bool *from_config, error *e);

/* Is it the name of a file in the directory at hand: no separator, no "..", no zero byte? For names that come from files. */
bool weights_plain_name(const char *name, size_t length);

/* A shape's elements and bytes; false when the product, counted without its zeros, does not fit into int64. */
bool shape_bytes(const int64_t *dims, int32_t rank, size_t element, uint64_t *elements, uint64_t *bytes);

#endif

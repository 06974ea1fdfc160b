/* safetensors_write.h - safetensors files, written front to back.
 *
 * The header stands first and needs all shapes, so room is reserved for it and it is written over that room at the end: the
 * first extent of a tensor may be unknown until its data is there. The room depends on names, ranks and metadata only, so that
 * shards joined by `strand merge` give the bytes of an unsharded run.
 */
#ifndef STRAND_APP_SAFETENSORS_WRITE_H
#define STRAND_APP_SAFETENSORS_WRITE_H

#include "output.h"
#include "strand.h"

typedef struct st_writer st_writer;

/* `tensors`: name, dtype, rank and dims in the order of writing; data is not looked at; dims[0] may be -1. `metadata`: key,
 * value, key, value ..., NULL; or NULL. NULL on failure, after a message. */
st_writer *st_open(output *out, const strand_tensor *tensors, int32_t n, const char *const *metadata);
/* Appends data to the current tensor. */
int st_write(st_writer *w, const void *data, size_t bytes);
/* The current tensor is complete; dims[0] gets `rows` where it was unknown. */
int st_next(st_writer *w, int64_t rows);
/* Writes the header if `keep`, frees. The output stays open. 0 or -1. */
int st_close(st_writer *w, int keep);

#endif

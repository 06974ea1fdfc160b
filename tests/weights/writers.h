/* writers.h - makes weights files in memory, good ones and bad ones: byte buffers, a safetensors file, a ZIP file, pickles.
 *
 * For the tests and for the fuzzers' seeds. Memory that cannot be had ends the program: these are tests. */
#ifndef STRAND_TESTS_WEIGHTS_WRITERS_H
#define STRAND_TESTS_WEIGHTS_WRITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct buffer {
    uint8_t *data;
    size_t size, room;
} buffer;

void put_bytes(buffer *b, const void *data, size_t size);
void put_text(buffer *b, const char *text);
/* Little-endian, `bytes` of them. */
void put_int(buffer *b, uint64_t value, int bytes);
void put_fill(buffer *b, int byte, size_t count);
void put_buffer(buffer *b, const buffer *from);
/* Overwrites at `offset`. */
void poke_int(buffer *b, size_t offset, uint64_t value, int bytes);
void buffer_free(buffer *b);

/* A safetensors file: the header's length, the header, `bytes` bytes 0, 1, 2 ... */
void put_safetensors(buffer *b, const char *header, size_t bytes);

/* ---- GGUF ------------------------------------------------------------------------------------------------------------ */

/* "GGUF", version 3 and the two counts. */
void put_gguf(buffer *b, uint64_t tensors, uint64_t values);
void put_gguf_string(buffer *b, const char *text);
/* A key and its type; the value follows. */
void put_gguf_key(buffer *b, const char *key, uint32_t type);
/* A tensor's record; dims fastest first. */
void put_gguf_tensor(buffer *b, const char *name, int axes, const uint64_t *dims, uint32_t type, uint64_t offset);
/* Zeros up to a multiple of `align`. */
void put_padding(buffer *b, size_t align);
/* Two tensors (a F32 [2, 3], q Q8_0 [2, 32]) and one value of every kind. */
void put_small_gguf(buffer *b);

/* ---- tar ------------------------------------------------------------------------------------------------------------- */

/* A ustar member of a type ('0': a file) with its checksum, padded; then two blocks of zeros. */
void put_tar_member(buffer *b, const char *name, char type, const void *data, size_t size);
void put_tar_end(buffer *b);
/* Sets the checksum of the header at `offset`. */
void put_tar_sum(buffer *b, size_t offset);

/* ---- rwkv.cpp -------------------------------------------------------------------------------------------------------- */

/* The header of this version, and a tensor; dims fastest first, the data follow. */
void put_rwkvcpp(buffer *b, uint32_t version);
void put_rwkvcpp_tensor(buffer *b, const char *name, int axes, const uint32_t *dims, uint32_t type);

/* ---- ZIP ------------------------------------------------------------------------------------------------------------- */

#define ZIP_DESCRIPTOR 1u /* sizes and checksum behind the data, as PyTorch writes it */
#define ZIP_ALIGN      2u /* pad so that data begins at a multiple of 64 */
#define ZIP_LARGE      4u /* sizes and offset in ZIP64 extra fields, as if they did not fit; not with the others */

typedef struct zip_writer {
    buffer file, central;
    uint64_t count;
} zip_writer;

uint32_t crc_of(const void *data, size_t size);
void zip_add(zip_writer *z, const char *name, const void *data, size_t size, unsigned how);
/* Writes the directory and its end records; the file is z->file. With `zip64` also those of ZIP64. */
void zip_end(zip_writer *z, bool zip64);
void zip_free(zip_writer *z);

/* ---- pickles --------------------------------------------------------------------------------------------------------- */

void pickle_begin(buffer *b, int protocol);
void pickle_text(buffer *b, const char *text);
void pickle_int(buffer *b, int64_t value);
void pickle_global_name(buffer *b, const char *module, const char *name);
/* ('storage', torch.`type`, key, 'cpu', numel), then BINPERSID. */
void pickle_storage_id(buffer *b, const char *type, const char *key, int64_t numel);
void pickle_ints(buffer *b, const int64_t *values, int n);

typedef struct tensor_spec {
    const char *name, *type, *key; /* "FloatStorage", storage key */
    int64_t numel, offset;
    int rank;
    int64_t dims[9], strides[9];
} tensor_spec;

/* torch._utils._rebuild_tensor_v2(...) */
void pickle_tensor_value(buffer *b, const tensor_spec *t);
/* A dict of tensors, without PROTO and STOP. */
void pickle_state(buffer *b, const tensor_spec *tensors, int n);

/* A small state_dict: w, F32 [2, 3] in storage 0; t, its transpose; i, I64 scalar in storage 1. */
extern const tensor_spec small_state[3];
/* The file archive/data.pkl, archive/data/0 and 1 around a pickle (PROTO to STOP); `how` as for zip_add. */
void put_torch_zip(buffer *b, const buffer *pickle, unsigned how, bool zip64);
/* The pre-zip format around the object's instructions (without PROTO and STOP), with storages 0 and 1 of small_state. They
 * may be left out when the object names none, as a legacy file holds just those that are named. */
void put_torch_legacy(buffer *b, const buffer *object, bool storages);
/* Ready files. */
void put_small_zip(buffer *b);
void put_small_legacy(buffer *b);

#endif

/* gguf.h - the metadata of a GGUF file: typed values by key, for model families and tokenizers.
 *
 * Everything points into the open file or its arena and lives as long as the `weights`. Numbers may stand unaligned in the
 * file; the functions here read them. A question that the value does not fit gets the fallback. */
#ifndef STRAND_CORE_WEIGHTS_GGUF_H
#define STRAND_CORE_WEIGHTS_GGUF_H

#include <stdbool.h>

#include "weights.h"

/* The numbers of the format. */
typedef enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12
} gguf_type;

typedef struct gguf_string {
    const char *text; /* of a single value: zero-terminated; of an array: `length` bytes in the file, any bytes */
    uint64_t length;
} gguf_string;

typedef struct gguf_value {
    const char *key;
    gguf_type type; /* of the value, or of the array's items; never GGUF_ARRAY */
    bool array;
    uint64_t count; /* items; 1 where it is no array */
    const uint8_t *data;
    const gguf_string *strings; /* GGUF_STRING: `count` of them */
} gguf_value;

/* NULL: no such key, or not a GGUF file. */
const gguf_value *weights_gguf(const weights *w, const char *key);
/* Item `index` as a whole number, number or truth; the fallback past the end, for another type, and for a U64 above int64. */
int64_t gguf_int_at(const gguf_value *v, uint64_t index, int64_t fallback);
double gguf_number_at(const gguf_value *v, uint64_t index, double fallback);
/* By key, of single values. */
int64_t gguf_int(const weights *w, const char *key, int64_t fallback);
double gguf_number(const weights *w, const char *key, double fallback);
bool gguf_bool(const weights *w, const char *key, bool fallback);
const char *gguf_text(const weights *w, const char *key, const char *fallback);
/* An array of this item type, or NULL. */
const gguf_value *gguf_array(const weights *w, const char *key, gguf_type type);

#endif

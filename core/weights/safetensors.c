/* safetensors.c - the reader for safetensors files.
 *
 * The file is: the header's length N as 8 bytes little-endian, N bytes of JSON that begin with '{', then the buffer. What is
 * checked, and the reason that nothing after this needs to: N <= 100,000,000 and inside the file; no duplicate keys; every
 * tensor has just dtype, shape and data_offsets; its shape times its dtype is its byte range; sorted by offset the ranges
 * follow each other without hole or overlap from 0 to the end of the buffer. Numbers are whole and spelled so. */
#include "reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../checked.h"
#include "../json.h"
#include "../sort.h"
#include "bytes.h"

#define MAX_HEADER 100000000u

typedef struct dtype_row {
    const char *name;
    strand_dtype dtype;
    size_t size;
} dtype_row;

static const dtype_row dtypes[] = {
    {"F32", STRAND_F32, 4}, {"F16", STRAND_F16, 2}, {"BF16", STRAND_BF16, 2}, {"F64", STRAND_F64, 8}, {"I8", STRAND_I8, 1},
    {"U8", STRAND_U8, 1},   {"I16", STRAND_I16, 2}, {"U16", STRAND_U16, 2},   {"I32", STRAND_I32, 4}, {"U32", STRAND_U32, 4},
    {"I64", STRAND_I64, 8}, {"U64", STRAND_U64, 8}, {"BOOL", STRAND_BOOL, 1},
};

/* A tensor of the header while its offsets are compared with the others'. */
typedef struct entry {
    weights_tensor tensor;
    size_t element;
    uint64_t begin, end;
    size_t order; /* in the header */
} entry;

static strand_status bad(const weights *w, const char *name, error *e, const char *why) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s: %s", w->path, name, why);
}

/* A whole number that is not negative and is spelled without point and exponent. */
static bool whole(const json *value, int64_t *out) {
    if (value->type != JSON_NUMBER || !value->is_integer || value->integer < 0 ||
        strspn(value->text, "0123456789") != value->length) {
        return false;
    }
    *out = value->integer;
    return true;
}

static strand_status read_dtype(const weights *w, const json *value, entry *out, error *e) {
    if (!value || value->type != JSON_STRING) return bad(w, out->tensor.name, e, "its dtype is not a string");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(value->text, dtypes[i].name) != 0 || strlen(value->text) != value->length) continue;
        out->tensor.dtype = dtypes[i].dtype;
        out->element = dtypes[i].size;
        return STRAND_OK;
    }
    return error_set(e, STRAND_ERR_UNSUPPORTED,
                     "%s: tensor %.200s: dtype %.40s is not supported; convert it to F32, F16, BF16, F64, BOOL or an integer "
                     "type of 8 to 64 bits",
                     w->path, out->tensor.name, value->text);
}

static strand_status read_shape(const weights *w, const json *value, entry *out, error *e) {
    weights_tensor *t = &out->tensor;
    if (!value || value->type != JSON_ARRAY) return bad(w, t->name, e, "its shape is not an array");
    if (value->count > STRAND_MAX_RANK) {
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: tensor %.200s: %zu axes; at most %d are supported", w->path, t->name,
                         value->count, STRAND_MAX_RANK);
    }
    for (const json *dim = value->first; dim; dim = dim->next) {
        if (!whole(dim, &t->dims[t->rank++]))
            return bad(w, t->name, e, "an extent of its shape is not a whole number from 0 up");
    }
    uint64_t elements;
    if (!shape_bytes(t->dims, t->rank, out->element, &elements, &t->bytes))
        return bad(w, t->name, e, "its shape's product overflows");
    return STRAND_OK;
}

static strand_status read_offsets(const weights *w, const json *value, uint64_t buffer, entry *out, error *e) {
    int64_t begin, end;
    const weights_tensor *t = &out->tensor;
    if (!value || value->type != JSON_ARRAY || value->count != 2 || !whole(value->first, &begin) ||
        !whole(value->first->next, &end)) {
        return bad(w, t->name, e, "its data_offsets are not two whole numbers");
    }
    if (begin > end) return bad(w, t->name, e, "its data_offsets end before they begin");
    if ((uint64_t)end > buffer) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: tensor %.200s: its data ends at byte %" PRId64 " of a buffer of %" PRIu64
                         "; the file is cut short",
                         w->path, t->name, end, buffer);
    }
    if ((uint64_t)(end - begin) != t->bytes) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: tensor %.200s: shape and dtype need %" PRIu64 " bytes, data_offsets give %" PRId64, w->path,
                         t->name, t->bytes, end - begin);
    }
    out->begin = (uint64_t)begin;
    out->end = (uint64_t)end;
    return STRAND_OK;
}

static strand_status read_entry(weights *w, const json *value, uint64_t buffer, entry *out, error *e) {
    const char *name = value->key;
    out->tensor.name = name; /* the header's copy, for errors; the one that stays is made at the end */
    if (strlen(name) > WEIGHTS_MAX_NAME) return bad(w, name, e, "its name is longer than 1024 bytes");
    if (value->type != JSON_OBJECT) return bad(w, name, e, "not an object with dtype, shape and data_offsets");
    strand_status status = read_dtype(w, json_get(value, "dtype"), out, e);
    if (!status) status = read_shape(w, json_get(value, "shape"), out, e);
    if (!status) status = read_offsets(w, json_get(value, "data_offsets"), buffer, out, e);
    if (!status && value->count != 3) return bad(w, name, e, "keys other than dtype, shape and data_offsets");
    return status;
}

static strand_status read_metadata(weights *w, const json *value, error *e) {
    if (value->type != JSON_OBJECT) return error_set(e, STRAND_ERR_FORMAT, "%s: __metadata__ is not an object", w->path);
    w->metadata = ARENA_ARRAY(&w->arena, weights_text, value->count);
    if (!w->metadata) return weights_no_memory(w->path, e);
    for (const json *text = value->first; text; text = text->next) {
        if (text->type != JSON_STRING)
            return error_set(e, STRAND_ERR_FORMAT, "%s: __metadata__ %.200s is not a string", w->path, text->key);
        weights_text *out = &w->metadata[w->n_metadata];
        out->key = arena_string(&w->arena, text->key, strlen(text->key));
        out->value = arena_string(&w->arena, text->text, text->length);
        if (!out->key || !out->value) return weights_no_memory(w->path, e);
        w->n_metadata++;
    }
    return STRAND_OK;
}

static int compare_offsets(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* In the order of their data: no hole, no overlap; then each gets its bytes and its lasting name. */
static strand_status place_entries(weights *w, const void **sorted, size_t count, const uint8_t *buffer, uint64_t size,
                                   error *e) {
    uint64_t at = 0;
    sort_pointers(sorted, count, compare_offsets);
    for (size_t i = 0; i < count; i++) {
        const entry *x = sorted[i];
        if (x->begin != at) {
            return error_set(e, STRAND_ERR_FORMAT,
                             "%s: tensor %.200s: its data begins at byte %" PRIu64 " of the buffer, %s byte %" PRIu64, w->path,
                             x->tensor.name, x->begin,
                             x->begin > at ? "leaving a hole after" : "overlapping another's that ends at", at);
        }
        at = x->end;
        weights_tensor t = x->tensor;
        t.name = arena_string(&w->arena, t.name, strlen(t.name));
        t.data = weights_aligned(w, buffer + x->begin, t.bytes, x->element);
        if (!t.name || !t.data) return weights_no_memory(w->path, e);
        strand_status status = weights_add(w, &t, e);
        if (status) return status;
    }
    if (at == size) return STRAND_OK;
    return error_set(e, STRAND_ERR_FORMAT,
                     "%s: the tensors end at byte %" PRIu64 " of a buffer of %" PRIu64 " bytes: the rest belongs to none",
                     w->path, at, size);
}

static strand_status read_header(weights *w, arena *scratch, error *e) {
    if (w->size < 8)
        return error_set(e, STRAND_ERR_FORMAT, "%s: %" PRIu64 " bytes are too few for a safetensors file", w->path, w->size);
    uint64_t length = read_u64(w->data);
    if (length > MAX_HEADER) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: a safetensors header of %" PRIu64 " bytes; at most %u are allowed", w->path,
                         length, MAX_HEADER);
    }
    if (length > w->size - 8) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: a safetensors header of %" PRIu64 " bytes in a file of %" PRIu64 "; the file is cut short",
                         w->path, length, w->size);
    }
    if (length < 2 || w->data[8] != '{')
        return error_set(e, STRAND_ERR_FORMAT, "%s: the safetensors header does not begin with '{' at byte 8", w->path);
    const uint8_t *buffer = w->data + 8 + length;
    uint64_t size = w->size - 8 - length;
    const json *root;
    strand_status status = json_parse(scratch, (const char *)w->data + 8, (size_t)length, w->path, &root, e);
    if (status) return status;
    entry *entries = ARENA_ARRAY(scratch, entry, root->count);
    const void **sorted = ARENA_ARRAY(scratch, const void *, root->count);
    if (!entries || !sorted) return weights_no_memory(w->path, e);
    size_t count = 0;
    for (const json *value = root->first; value; value = value->next) {
        if (strcmp(value->key, "__metadata__") == 0) {
            status = read_metadata(w, value, e);
        } else {
            status = read_entry(w, value, size, &entries[count], e);
            entries[count].order = count;
            sorted[count] = &entries[count];
            count++;
        }
        if (status) return status;
    }
    return place_entries(w, sorted, count, buffer, size, e);
}

strand_status safetensors_read(weights *w, error *e) {
    arena scratch;
    arena_init(&scratch, w->arena.allocator);
    w->format = "safetensors";
    strand_status status = read_header(w, &scratch, e);
    arena_release(&scratch);
    return status;
}

/* gguf.c - the reader for GGUF files, versions 2 and 3, little-endian (github.com/ggml-org/ggml, docs/gguf.md).
 *
 * The file is: "GGUF", version, the counts of tensors and of metadata; the metadata; one record a tensor; padding; the data.
 * What is checked, and the reason that nothing after this needs to: every count is bounded by the bytes that its items take
 * at the least before anything is allocated; the alignment is a power of two; arrays hold no arrays; shapes are whole blocks
 * and their product fits; each tensor's bytes lie inside the file, at a multiple of the alignment, and overlap no other's.
 * Axes stand fastest first in the file and are turned round. Quantised tensors stay the blocks that they are. */
#include "gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../checked.h"
#include "../dtype.h"
#include "../sort.h"
#include "../utf8.h"
#include "bytes.h"
#include "reader.h"

#define MAX_AXES  4 /* of ggml's tensors */
#define MAX_ALIGN ((int64_t)1 << 20)

typedef struct type_row {
    uint32_t id;
    const char *name;
    strand_dtype dtype; /* STRAND_NONE: known and not supported */
} type_row;

static const type_row types[] = {
    {0, "F32", STRAND_F32},       {1, "F16", STRAND_F16},      {2, "Q4_0", STRAND_Q4_0},     {3, "Q4_1", STRAND_Q4_1},
    {6, "Q5_0", STRAND_Q5_0},     {7, "Q5_1", STRAND_Q5_1},    {8, "Q8_0", STRAND_Q8_0},     {9, "Q8_1", STRAND_NONE},
    {10, "Q2_K", STRAND_NONE},    {11, "Q3_K", STRAND_NONE},   {12, "Q4_K", STRAND_Q4_K},    {13, "Q5_K", STRAND_Q5_K},
    {14, "Q6_K", STRAND_Q6_K},    {15, "Q8_K", STRAND_NONE},   {16, "IQ2_XXS", STRAND_NONE}, {17, "IQ2_XS", STRAND_NONE},
    {18, "IQ3_XXS", STRAND_NONE}, {19, "IQ1_S", STRAND_NONE},  {20, "IQ4_NL", STRAND_NONE},  {21, "IQ3_S", STRAND_NONE},
    {22, "IQ2_S", STRAND_NONE},   {23, "IQ4_XS", STRAND_NONE}, {29, "IQ1_M", STRAND_NONE},   {34, "TQ1_0", STRAND_NONE},
    {35, "TQ2_0", STRAND_NONE},   {39, "MXFP4", STRAND_NONE},  {24, "I8", STRAND_I8},        {25, "I16", STRAND_I16},
    {26, "I32", STRAND_I32},      {27, "I64", STRAND_I64},     {28, "F64", STRAND_F64},      {30, "BF16", STRAND_BF16},
};
#define SUPPORTED "F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K and integers"

/* What is left to read. `at` never passes `size`. */
typedef struct cursor {
    weights *w;
    uint64_t at;
} cursor;

/* A tensor while its bytes are compared with the others'. */
typedef struct entry {
    weights_tensor tensor;
    uint64_t offset;
    size_t align;
} entry;

static uint64_t left(const cursor *c) {
    return c->w->size - c->at;
}

static strand_status cut_short(const cursor *c, const char *what, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: the file ends at byte %" PRIu64 ", inside %s; it is cut short", c->w->path,
                     c->w->size, what);
}

static bool take_u32(cursor *c, uint32_t *out) {
    if (left(c) < 4) return false;
    *out = read_u32(c->w->data + c->at);
    c->at += 4;
    return true;
}

static bool take_u64(cursor *c, uint64_t *out) {
    if (left(c) < 8) return false;
    *out = read_u64(c->w->data + c->at);
    c->at += 8;
    return true;
}

static bool take_string(cursor *c, gguf_string *out) {
    uint64_t length;
    if (!take_u64(c, &length) || length > left(c)) return false;
    *out = (gguf_string){(const char *)c->w->data + c->at, length};
    c->at += length;
    return true;
}

/* A name: text without zero bytes, copied so that it is zero-terminated. */
static strand_status take_name(cursor *c, size_t most, const char *what, const char **out, error *e) {
    gguf_string s;
    if (!take_string(c, &s)) return cut_short(c, what, e);
    if (s.length == 0 || s.length > most || !utf8_is_text(s.text, (size_t)s.length)) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: before byte %" PRIu64 ": %s is empty, longer than %zu bytes or not UTF-8",
                         c->w->path, c->at, what, most);
    }
    *out = arena_string(&c->w->arena, s.text, (size_t)s.length);
    return *out ? STRAND_OK : weights_no_memory(c->w->path, e);
}

/* ---- metadata -------------------------------------------------------------------------------------------------------- */

/* Bytes of an item; 0 for strings, arrays and unknown types. */
static size_t item_bytes(uint32_t type) {
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes ? sizes[type] : 0;
}

static strand_status bad_value(const cursor *c, const gguf_value *v, error *e, const char *why) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: metadata %.200s: %s", c->w->path, v->key, why);
}

static strand_status read_strings(cursor *c, gguf_value *v, error *e) {
    if (v->count > left(c) / 8) return bad_value(c, v, e, "more strings than the file has room for");
    gguf_string *strings = ARENA_ARRAY(&c->w->arena, gguf_string, (size_t)v->count);
    if (!strings) return weights_no_memory(c->w->path, e);
    for (uint64_t i = 0; i < v->count; i++)
        if (!take_string(c, &strings[i])) return bad_value(c, v, e, "a string that ends beyond the file");
    if (!v->array) {
        strings[0].text = arena_string(&c->w->arena, strings[0].text, (size_t)strings[0].length);
        if (!strings[0].text) return weights_no_memory(c->w->path, e);
    }
    v->strings = strings;
    return STRAND_OK;
}

static strand_status read_value(cursor *c, gguf_value *v, error *e) {
    uint32_t type;
    strand_status status = take_name(c, 65535, "a metadata key", &v->key, e);
    if (status) return status;
    if (!take_u32(c, &type)) return cut_short(c, "the metadata", e);
    v->count = 1;
    if (type == GGUF_ARRAY) {
        v->array = true;
        if (!take_u32(c, &type) || !take_u64(c, &v->count)) return cut_short(c, "the metadata", e);
        if (type == GGUF_ARRAY) return bad_value(c, v, e, "an array of arrays, which no published file has");
    }
    v->type = (gguf_type)type;
    v->data = c->w->data + c->at;
    if (type == GGUF_STRING) return read_strings(c, v, e);
    size_t size = item_bytes(type);
    if (!size) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: metadata %.200s: its type is %" PRIu32 ", which is none of the format's",
                         c->w->path, v->key, type);
    }
    if (v->count > left(c) / size) return bad_value(c, v, e, "more items than the file has room for");
    c->at += v->count * size;
    return STRAND_OK;
}

static int compare_keys(const void *a, const void *b) {
    const gguf_value *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static strand_status read_metadata(cursor *c, uint64_t count, error *e) {
    weights *w = c->w;
    if (count > left(c) / 13) /* a key's length and byte at the least, a type, a byte */
        return error_set(e, STRAND_ERR_FORMAT, "%s: %" PRIu64 " metadata values do not fit into the file", w->path, count);
    gguf_value *values = ARENA_ARRAY(&w->arena, gguf_value, (size_t)count);
    w->gguf = ARENA_ARRAY(&w->arena, const void *, (size_t)count);
    w->metadata = ARENA_ARRAY(&w->arena, weights_text, (size_t)count);
    if (!values || !w->gguf || !w->metadata) return weights_no_memory(w->path, e);
    for (uint64_t i = 0; i < count; i++) {
        strand_status status = read_value(c, &values[i], e);
        if (status) return status;
        w->gguf[i] = &values[i];
        if (values[i].type == GGUF_STRING && !values[i].array)
            w->metadata[w->n_metadata++] = (weights_text){values[i].key, values[i].strings[0].text};
    }
    w->n_gguf = (int64_t)count;
    sort_pointers(w->gguf, (size_t)count, compare_keys);
    for (uint64_t i = 1; i < count; i++)
        if (!compare_keys(w->gguf[i - 1], w->gguf[i])) return bad_value(c, w->gguf[i], e, "the key stands twice");
    return STRAND_OK;
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

static strand_status bad(const cursor *c, const entry *x, error *e, const char *why) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s: %s", c->w->path, x->tensor.name, why);
}

static strand_status read_shape(cursor *c, entry *x, error *e) {
    uint32_t axes;
    if (!take_u32(c, &axes)) return cut_short(c, "the tensors' records", e);
    if (axes > MAX_AXES)
        return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s: %" PRIu32 " axes; the format has at most 4", c->w->path,
                         x->tensor.name, axes);
    x->tensor.rank = (int32_t)axes;
    for (uint32_t i = 0; i < axes; i++) {
        uint64_t extent;
        if (!take_u64(c, &extent)) return cut_short(c, "the tensors' records", e);
        if (extent > INT64_MAX) return bad(c, x, e, "an extent of its shape is negative or above 2^63");
        x->tensor.dims[axes - 1 - i] = (int64_t)extent;
    }
    return STRAND_OK;
}

static strand_status read_type(cursor *c, entry *x, error *e) {
    uint32_t id;
    const type_row *row = NULL;
    if (!take_u32(c, &id)) return cut_short(c, "the tensors' records", e);
    for (size_t i = 0; i < sizeof types / sizeof types[0] && !row; i++)
        if (types[i].id == id) row = &types[i];
    if (!row || !row->dtype) {
        char number[24];
        snprintf(number, sizeof number, "number %" PRIu32, id);
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: tensor %.200s: type %s is not supported (" SUPPORTED " are); quantise the model to one of them",
                         c->w->path, x->tensor.name, row ? row->name : number);
    }
    x->tensor.dtype = row->dtype;
    return STRAND_OK;
}

/* The bytes of the shape, whole blocks along the last axis. */
static strand_status measure(const cursor *c, entry *x, error *e) {
    weights_tensor *t = &x->tensor;
    dtype_block block = dtype_block_of(t->dtype);
    uint64_t elements, unused;
    if (!shape_bytes(t->dims, t->rank, 1, &elements, &unused) ||
        !checked_mul(elements / (uint64_t)block.elements, block.bytes, &t->bytes) || t->bytes > INT64_MAX) {
        return bad(c, x, e, "its shape's product overflows");
    }
    if (block.elements > 1 && (t->rank == 0 || t->dims[t->rank - 1] % block.elements)) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s: its rows of %" PRId64 " are not whole blocks of %" PRId64,
                         c->w->path, t->name, t->rank ? t->dims[t->rank - 1] : 1, block.elements);
    }
    x->align = block.elements > 1 ? 2 : (size_t)block.bytes;
    return STRAND_OK;
}

static strand_status read_tensor(cursor *c, entry *x, error *e) {
    strand_status status = take_name(c, WEIGHTS_MAX_NAME, "a tensor's name", &x->tensor.name, e);
    if (!status) status = read_shape(c, x, e);
    if (!status) status = read_type(c, x, e);
    if (!status && !take_u64(c, &x->offset)) status = cut_short(c, "the tensors' records", e);
    return status ? status : measure(c, x, e);
}

static int compare_offsets(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->tensor.bytes > y->tensor.bytes) - (x->tensor.bytes < y->tensor.bytes);
}

/* In the order of their data: inside the file, aligned, no overlap. */
static strand_status place(cursor *c, const void **sorted, size_t count, uint64_t align, error *e) {
    weights *w = c->w;
    uint64_t begin, end = 0;
    if (!checked_align(c->at, align, &begin) || begin > w->size) begin = w->size; /* without tensors there is no data */
    for (size_t i = 0; i < count; i++) {
        const entry *x = sorted[i];
        weights_tensor t = x->tensor;
        if (x->offset % align) return bad(c, x, e, "its offset is no multiple of the file's alignment");
        if (!checked_range(x->offset, t.bytes, w->size - begin)) {
            return error_set(e, STRAND_ERR_FORMAT,
                             "%s: tensor %.200s: %" PRIu64 " bytes at %" PRIu64 " of the data, which has %" PRIu64
                             "; the file is cut short or its shape is wrong",
                             w->path, t.name, t.bytes, x->offset, w->size - begin);
        }
        if (x->offset < end) return bad(c, x, e, "its data overlaps another's");
        end = x->offset + t.bytes;
        t.data = weights_aligned(w, w->data + begin + x->offset, t.bytes, x->align);
        if (!t.data) return weights_no_memory(w->path, e);
        strand_status status = weights_add(w, &t, e);
        if (status) return status;
    }
    return STRAND_OK;
}

static strand_status read_alignment(const weights *w, uint64_t *align, error *e) {
    const gguf_value *v = weights_gguf(w, "general.alignment");
    int64_t given = v ? gguf_int_at(v, 0, -1) : 32;
    if (given < 1 || given > MAX_ALIGN || (given & (given - 1)))
        return error_set(e, STRAND_ERR_FORMAT, "%s: general.alignment is not a power of two from 1 to 1048576", w->path);
    *align = (uint64_t)given;
    return STRAND_OK;
}

static strand_status read_tensors(cursor *c, arena *scratch, uint64_t count, error *e) {
    weights *w = c->w;
    uint64_t align = 1;
    strand_status status = read_alignment(w, &align, e);
    if (status) return status;
    if (count > (uint64_t)WEIGHTS_MAX_TENSORS || count > left(c) / 25) /* a name of one byte, no axes, a type, an offset */
        return error_set(e, STRAND_ERR_FORMAT, "%s: %" PRIu64 " tensors do not fit into the file, or are above 1048576",
                         w->path, count);
    entry *entries = ARENA_ARRAY(scratch, entry, (size_t)count);
    const void **sorted = ARENA_ARRAY(scratch, const void *, (size_t)count);
    if (!entries || !sorted) return weights_no_memory(w->path, e);
    for (uint64_t i = 0; i < count; i++) {
        status = read_tensor(c, &entries[i], e);
        if (status) return status;
        sorted[i] = &entries[i];
    }
    sort_pointers(sorted, (size_t)count, compare_offsets);
    return place(c, sorted, (size_t)count, align, e);
}

static strand_status read_version(const weights *w, cursor *c, error *e) {
    uint32_t version;
    if (!take_u32(c, &version)) return cut_short(c, "its header", e);
    if (version == 2 || version == 3) return STRAND_OK;
    if (version && !(version & 0xffff))
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: a big-endian GGUF file; convert it to little-endian", w->path);
    return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: GGUF version %" PRIu32 "; versions 2 and 3 are supported", w->path,
                     version);
}

strand_status gguf_read(weights *w, error *e) {
    cursor c = {w, 4};
    uint64_t tensors, values;
    w->format = "gguf";
    strand_status status = read_version(w, &c, e);
    if (status) return status;
    if (!take_u64(&c, &tensors) || !take_u64(&c, &values)) return cut_short(&c, "its header", e);
    status = read_metadata(&c, values, e);
    if (!status && gguf_int(w, "split.count", 1) > 1) {
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: part %" PRId64 " of %" PRId64 " of a model; merge the parts into one file first", w->path,
                         gguf_int(w, "split.no", 0) + 1, gguf_int(w, "split.count", 1));
    }
    if (status) return status;
    arena scratch;
    arena_init(&scratch, w->arena.allocator);
    status = read_tensors(&c, &scratch, tensors, e);
    arena_release(&scratch);
    return status;
}

/* ---- questions ------------------------------------------------------------------------------------------------------- */

const gguf_value *weights_gguf(const weights *w, const char *key) {
    int64_t low = 0, high = w->n_gguf;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const gguf_value *v = w->gguf[middle];
        int order = strcmp(key, v->key);
        if (!order) return v;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

int64_t gguf_int_at(const gguf_value *v, uint64_t index, int64_t fallback) {
    if (!v || index >= v->count) return fallback;
    const uint8_t *at = v->data + index * item_bytes(v->type);
    switch (v->type) {
    case GGUF_U8:
    case GGUF_BOOL:
        return at[0];
    case GGUF_I8:
        return (int8_t)at[0];
    case GGUF_U16:
        return read_u16(at);
    case GGUF_I16:
        return (int16_t)read_u16(at);
    case GGUF_U32:
        return read_u32(at);
    case GGUF_I32:
        return (int32_t)read_u32(at);
    case GGUF_I64:
        return (int64_t)read_u64(at);
    case GGUF_U64:
        return read_u64(at) <= INT64_MAX ? (int64_t)read_u64(at) : fallback;
    default:
        return fallback;
    }
}

double gguf_number_at(const gguf_value *v, uint64_t index, double fallback) {
    if (!v || index >= v->count) return fallback;
    const uint8_t *at = v->data + index * item_bytes(v->type);
    union {
        uint32_t bits;
        float value;
    } f;
    union {
        uint64_t bits;
        double value;
    } d;
    switch (v->type) {
    case GGUF_F32:
        f.bits = read_u32(at);
        return f.value;
    case GGUF_F64:
        d.bits = read_u64(at);
        return d.value;
    case GGUF_U64:
        return (double)read_u64(at);
    case GGUF_STRING:
    case GGUF_ARRAY:
        return fallback;
    default:
        return (double)gguf_int_at(v, index, 0);
    }
}

static const gguf_value *single(const weights *w, const char *key) {
    const gguf_value *v = weights_gguf(w, key);
    return v && !v->array ? v : NULL;
}

int64_t gguf_int(const weights *w, const char *key, int64_t fallback) {
    return gguf_int_at(single(w, key), 0, fallback);
}

double gguf_number(const weights *w, const char *key, double fallback) {
    return gguf_number_at(single(w, key), 0, fallback);
}

bool gguf_bool(const weights *w, const char *key, bool fallback) {
    const gguf_value *v = single(w, key);
    return v && v->type == GGUF_BOOL ? v->data[0] != 0 : fallback;
}

const char *gguf_text(const weights *w, const char *key, const char *fallback) {
    const gguf_value *v = single(w, key);
    return v && v->type == GGUF_STRING ? v->strings[0].text : fallback;
}

const gguf_value *gguf_array(const weights *w, const char *key, gguf_type type) {
    const gguf_value *v = weights_gguf(w, key);
    return v && v->array && v->type == type ? v : NULL;
}

/* rwkvcpp.c - the files of rwkv.cpp (github.com/RWKV/rwkv.cpp, docs/FILE_FORMAT.md): a header of six numbers, then tensor after
 * tensor, each with its number of axes, name, type and extents (the fastest first) before its bytes. Nothing is aligned: what
 * needs it is copied. Tensors keep BlinkDL's names; that decays and low-rank matrices are stored in another form than in
 * BlinkDL's files is the models' matter, who ask for the format ("rwkv.cpp"). */
#include "reader.h"

#include <inttypes.h>
#include <stdio.h>

#include "../checked.h"
#include "../dtype.h"
#include "../utf8.h"
#include "bytes.h"

#define HEADER    24
#define MOST_AXES 3

typedef struct cursor {
    const uint8_t *at, *end;
    uint32_t version;
} cursor;

static bool take(cursor *c, uint64_t n, const uint8_t **out) {
    if ((uint64_t)(c->end - c->at) < n) return false;
    *out = c->at;
    c->at += n;
    return true;
}

/* The format's own type numbers. */
static strand_dtype type_of(uint32_t number) {
    switch (number) {
    case 0:
        return STRAND_F32;
    case 1:
        return STRAND_F16;
    case 2:
        return STRAND_Q4_0;
    case 3:
        return STRAND_Q4_1;
    case 7:
        return STRAND_Q5_0;
    case 8:
        return STRAND_Q5_1;
    case 9:
        return STRAND_Q8_0;
    default:
        return STRAND_NONE;
    }
}

static strand_status cut_short(const weights *w, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: cut short after %" PRId64 " tensors", w->path, w->count);
}

static strand_status read_tensor(weights *w, cursor *c, error *e) {
    const uint8_t *head, *dims, *name, *data;
    if (!take(c, 12, &head)) return cut_short(w, e);
    uint32_t axes = read_u32(head), length = read_u32(head + 4), type = read_u32(head + 8);
    weights_tensor t = {.dtype = type_of(type), .rank = (int32_t)axes};
    if (axes < 1 || axes > MOST_AXES)
        return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %" PRId64 " has %" PRIu32 " axes", w->path, w->count, axes);
    if (length < 1 || length > WEIGHTS_MAX_NAME)
        return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %" PRId64 " has a name of %" PRIu32 " bytes", w->path, w->count,
                         length);
    if (!take(c, 4 * (uint64_t)axes, &dims) || !take(c, length, &name)) return cut_short(w, e);
    if (!utf8_is_text((const char *)name, length))
        return error_set(e, STRAND_ERR_FORMAT, "%s: the name of tensor %" PRId64 " is not UTF-8", w->path, w->count);
    if (!(t.name = arena_string(&w->arena, (const char *)name, length))) return weights_no_memory(w->path, e);
    if (!t.dtype)
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: tensor %.200s has type %" PRIu32 " of rwkv.cpp, which is not supported", w->path, t.name, type);
    if (c->version == 100 && dtype_quantised(t.dtype))
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: tensor %.200s is quantised as rwkv.cpp did before version 101, in other blocks; convert the "
                         "model again",
                         w->path, t.name);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < axes; i++) {
        uint32_t extent = read_u32(dims + 4 * (size_t)(axes - 1 - i));
        t.dims[i] = extent;
        if (extent < 1 || extent > INT32_MAX || !checked_mul(elements, extent, &elements))
            return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s has an impossible shape", w->path, t.name);
    }
    dtype_block block = dtype_block_of(t.dtype);
    if (t.dims[axes - 1] % block.elements || !dtype_bytes(t.dtype, elements, &t.bytes))
        return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s has an impossible shape", w->path, t.name);
    if (!take(c, t.bytes, &data)) return cut_short(w, e);
    t.data = weights_aligned(w, data, t.bytes, t.dtype == STRAND_F32 ? 4 : 2);
    return t.data ? weights_add(w, &t, e) : weights_no_memory(w->path, e);
}

strand_status rwkvcpp_read(weights *w, error *e) {
    cursor c = {w->data, w->data + w->size, 0};
    const uint8_t *head;
    if (!take(&c, HEADER, &head)) return error_set(e, STRAND_ERR_FORMAT, "%s: cut short within its header", w->path);
    uint32_t version = read_u32(head + 4);
    if (version != 100 && version != 101)
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: a ggml file of version %" PRIu32 "; versions 100 and 101 of rwkv.cpp are read", w->path, version);
    c.version = version;
    w->format = "rwkv.cpp";
    strand_status status = STRAND_OK;
    while (!status && c.at < c.end) status = read_tensor(w, &c, e);
    if (!status && !w->count) status = error_set(e, STRAND_ERR_FORMAT, "%s: holds no tensors", w->path);
    return status;
}

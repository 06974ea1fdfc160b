/* writers.c - the writers behind writers.h. Kept naive on purpose: they must be able to write what no sound writer would. */
#include "writers.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

void put_bytes(buffer *b, const void *data, size_t size) {
    if (size > b->room - b->size) {
        b->room = 2 * (b->size + size);
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

void put_text(buffer *b, const char *text) {
    put_bytes(b, text, strlen(text));
}

void put_int(buffer *b, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) put_bytes(b, &(uint8_t){(uint8_t)(i < 8 ? value >> (8 * i) : 0)}, 1);
}

void put_fill(buffer *b, int byte, size_t count) {
    uint8_t block[256];
    memset(block, byte, sizeof block);
    for (; count > sizeof block; count -= sizeof block) put_bytes(b, block, sizeof block);
    put_bytes(b, block, count);
}

void put_buffer(buffer *b, const buffer *from) {
    put_bytes(b, from->data, from->size);
}

void poke_int(buffer *b, size_t offset, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) b->data[offset + (size_t)i] = (uint8_t)(value >> (8 * i));
}

void buffer_free(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}

void put_safetensors(buffer *b, const char *header, size_t bytes) {
    put_int(b, strlen(header), 8);
    put_text(b, header);
    for (size_t i = 0; i < bytes; i++) put_int(b, i, 1);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------ */

void put_gguf(buffer *b, uint64_t tensors, uint64_t values) {
    put_text(b, "GGUF");
    put_int(b, 3, 4);
    put_int(b, tensors, 8);
    put_int(b, values, 8);
}

void put_gguf_string(buffer *b, const char *text) {
    put_int(b, strlen(text), 8);
    put_text(b, text);
}

void put_gguf_key(buffer *b, const char *key, uint32_t type) {
    put_gguf_string(b, key);
    put_int(b, type, 4);
}

void put_gguf_tensor(buffer *b, const char *name, int axes, const uint64_t *dims, uint32_t type, uint64_t offset) {
    put_gguf_string(b, name);
    put_int(b, (uint64_t)axes, 4);
    for (int i = 0; i < axes; i++) put_int(b, dims[i], 8);
    put_int(b, type, 4);
    put_int(b, offset, 8);
}

void put_padding(buffer *b, size_t align) {
    while (b->size % align) put_int(b, 0, 1);
}

void put_small_gguf(buffer *b) {
    put_gguf(b, 2, 8);
    put_gguf_key(b, "general.architecture", 8);
    put_gguf_string(b, "llama");
    put_gguf_key(b, "general.alignment", 4);
    put_int(b, 64, 4);
    put_gguf_key(b, "n", 10);
    put_int(b, 1ull << 40, 8);
    put_gguf_key(b, "minus", 5);
    put_int(b, 0xfffffffe, 4);
    put_gguf_key(b, "eps", 6);
    put_int(b, 0x3f000000, 4);
    put_gguf_key(b, "yes", 7);
    put_int(b, 1, 1);
    put_gguf_key(b, "tokens", 9);
    put_int(b, 8, 4);
    put_int(b, 3, 8);
    put_gguf_string(b, "a");
    put_gguf_string(b, "");
    put_gguf_string(b, "\xff");
    put_gguf_key(b, "scores", 9);
    put_int(b, 6, 4);
    put_int(b, 2, 8);
    put_int(b, 0x3f800000, 4);
    put_int(b, 0xbf800000, 4);
    put_gguf_tensor(b, "q", 2, (const uint64_t[]){32, 2}, 8, 64);
    put_gguf_tensor(b, "a", 2, (const uint64_t[]){3, 2}, 0, 0);
    put_padding(b, 64);
    for (int i = 0; i < 24; i++) put_int(b, (uint64_t)i, 1);
    put_padding(b, 64);
    for (int i = 0; i < 68; i++) put_int(b, (uint64_t)i, 1);
}

/* ---- rwkv.cpp ---- */

void put_rwkvcpp(buffer *b, uint32_t version) {
    const uint32_t head[] = {0x67676d66, version, 256, 8, 1, 0};
    for (int i = 0; i < 6; i++) put_int(b, head[i], 4);
}

void put_rwkvcpp_tensor(buffer *b, const char *name, int axes, const uint32_t *dims, uint32_t type) {
    put_int(b, (uint64_t)axes, 4);
    put_int(b, strlen(name), 4);
    put_int(b, type, 4);
    for (int i = 0; i < axes; i++) put_int(b, dims[i], 4);
    put_text(b, name);
}

/* ---- ZIP ------------------------------------------------------------------------------------------------------------- */

uint32_t crc_of(const void *data, size_t size) {
    const uint8_t *at = data;
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

/* The ZIP64 extra field of `bytes` bytes: both sizes, and the offset where there is room. */
static void put_large(buffer *b, size_t size, size_t offset, int bytes) {
    put_int(b, 1, 2);
    put_int(b, (uint64_t)bytes, 2);
    put_int(b, size, 8);
    put_int(b, size, 8);
    if (bytes > 16) put_int(b, offset, 8);
}

void zip_add(zip_writer *z, const char *name, const void *data, size_t size, unsigned how) {
    bool descriptor = how & ZIP_DESCRIPTOR, large = how & ZIP_LARGE;
    uint32_t crc = crc_of(data, size);
    size_t offset = z->file.size, extra = 0;
    if (how & ZIP_ALIGN) extra = 4 + (64 - (offset + 30 + strlen(name) + 4) % 64) % 64;
    put_int(&z->file, 0x04034b50, 4);
    put_int(&z->file, 20, 2);
    put_int(&z->file, descriptor ? 8 : 0, 2);
    put_int(&z->file, 0, 2 + 4); /* stored; no time */
    put_int(&z->file, descriptor ? 0 : crc, 4);
    put_int(&z->file, large ? 0xFFFFFFFF : descriptor ? 0 : size, 4);
    put_int(&z->file, large ? 0xFFFFFFFF : descriptor ? 0 : size, 4);
    put_int(&z->file, strlen(name), 2);
    put_int(&z->file, large ? 20 : extra, 2);
    put_text(&z->file, name);
    if (large) put_large(&z->file, size, 0, 16);
    if (extra) {
        put_text(&z->file, "FB");
        put_int(&z->file, extra - 4, 2);
        put_fill(&z->file, 'Z', extra - 4);
    }
    put_bytes(&z->file, data, size);
    if (descriptor) {
        put_int(&z->file, 0x08074b50, 4);
        put_int(&z->file, crc, 4);
        put_int(&z->file, size, 4);
        put_int(&z->file, size, 4);
    }
    put_int(&z->central, 0x02014b50, 4);
    put_int(&z->central, 20, 2);
    put_int(&z->central, 20, 2);
    put_int(&z->central, descriptor ? 8 : 0, 2);
    put_int(&z->central, 0, 2 + 4);
    put_int(&z->central, crc, 4);
    put_int(&z->central, large ? 0xFFFFFFFF : size, 4);
    put_int(&z->central, large ? 0xFFFFFFFF : size, 4);
    put_int(&z->central, strlen(name), 2);
    put_int(&z->central, large ? 33 : 0, 2);
    put_int(&z->central, 0, 2 + 2 + 2 + 4);
    put_int(&z->central, large ? 0xFFFFFFFF : offset, 4);
    put_text(&z->central, name);
    if (large) {
        put_bytes(&z->central, "UT\1\0x", 5); /* an extra field of another kind comes first */
        put_large(&z->central, size, offset, 24);
    }
    z->count++;
}

void zip_end(zip_writer *z, bool zip64) {
    size_t offset = z->file.size, bytes = z->central.size;
    put_buffer(&z->file, &z->central);
    if (zip64) {
        size_t at = z->file.size;
        put_int(&z->file, 0x06064b50, 4);
        put_int(&z->file, 44, 8);
        put_int(&z->file, 45, 2);
        put_int(&z->file, 45, 2);
        put_int(&z->file, 0, 8);
        put_int(&z->file, z->count, 8);
        put_int(&z->file, z->count, 8);
        put_int(&z->file, bytes, 8);
        put_int(&z->file, offset, 8);
        put_int(&z->file, 0x07064b50, 4);
        put_int(&z->file, 0, 4);
        put_int(&z->file, at, 8);
        put_int(&z->file, 1, 4);
    }
    put_int(&z->file, 0x06054b50, 4);
    put_int(&z->file, 0, 4);
    put_int(&z->file, z->count, 2);
    put_int(&z->file, z->count, 2);
    put_int(&z->file, bytes, 4);
    put_int(&z->file, zip64 ? 0xFFFFFFFF : offset, 4);
    put_int(&z->file, 0, 2);
}

void zip_free(zip_writer *z) {
    buffer_free(&z->file);
    buffer_free(&z->central);
    z->count = 0;
}

/* ---- pickles --------------------------------------------------------------------------------------------------------- */

void pickle_begin(buffer *b, int protocol) {
    put_int(b, 0x80, 1);
    put_int(b, (uint64_t)protocol, 1);
}

void pickle_text(buffer *b, const char *text) {
    put_text(b, "X");
    put_int(b, strlen(text), 4);
    put_text(b, text);
}

void pickle_int(buffer *b, int64_t value) {
    put_int(b, 0x8a, 1); /* LONG1 */
    put_int(b, 8, 1);
    put_int(b, (uint64_t)value, 8);
}

void pickle_global_name(buffer *b, const char *module, const char *name) {
    put_text(b, "c");
    put_text(b, module);
    put_text(b, "\n");
    put_text(b, name);
    put_text(b, "\n");
}

void pickle_storage_id(buffer *b, const char *type, const char *key, int64_t numel) {
    put_text(b, "(");
    pickle_text(b, "storage");
    pickle_global_name(b, "torch", type);
    pickle_text(b, key);
    pickle_text(b, "cpu");
    pickle_int(b, numel);
    put_text(b, "tQ");
}

void pickle_ints(buffer *b, const int64_t *values, int n) {
    put_text(b, "(");
    for (int i = 0; i < n; i++) pickle_int(b, values[i]);
    put_text(b, "t");
}

void pickle_tensor_value(buffer *b, const tensor_spec *t) {
    pickle_global_name(b, "torch._utils", "_rebuild_tensor_v2");
    put_text(b, "(");
    pickle_storage_id(b, t->type, t->key, t->numel);
    pickle_int(b, t->offset);
    pickle_ints(b, t->dims, t->rank);
    pickle_ints(b, t->strides, t->rank);
    put_int(b, 0x89, 1);
    pickle_global_name(b, "collections", "OrderedDict");
    put_text(b, ")RtR");
}

void pickle_state(buffer *b, const tensor_spec *tensors, int n) {
    pickle_global_name(b, "collections", "OrderedDict");
    put_text(b, ")R(");
    for (int i = 0; i < n; i++) {
        pickle_text(b, tensors[i].name);
        pickle_tensor_value(b, &tensors[i]);
    }
    put_text(b, "u");
}

const tensor_spec small_state[3] = {
    {"w", "FloatStorage", "0", 6, 0, 2, {2, 3}, {3, 1}},
    {"t", "FloatStorage", "0", 6, 0, 2, {3, 2}, {1, 3}},
    {"i", "LongStorage", "1", 1, 0, 0, {0}, {0}},
};

static const float storage0[6] = {0, 1, 2, 3, 4, 5};
static const int64_t storage1 = -7;

void put_torch_zip(buffer *b, const buffer *pickle, unsigned how, bool zip64) {
    zip_writer z = {0};
    zip_add(&z, "archive/data.pkl", pickle->data, pickle->size, how);
    zip_add(&z, "archive/byteorder", "little", 6, how);
    zip_add(&z, "archive/data/0", storage0, sizeof storage0, how);
    zip_add(&z, "archive/data/1", &storage1, sizeof storage1, how);
    zip_add(&z, "archive/version", "3\n", 2, how);
    zip_end(&z, zip64);
    put_buffer(b, &z.file);
    zip_free(&z);
}

void put_torch_legacy(buffer *b, const buffer *object, bool storages) {
    static const uint8_t magic[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
    put_bytes(b, magic, sizeof magic);
    put_bytes(b, "\x80\x02M\xe9\x03.", 6); /* protocol 1001 */
    pickle_begin(b, 2);
    put_text(b, "}");
    pickle_text(b, "little_endian");
    put_int(b, 0x88, 1);
    put_text(b, "s.");
    pickle_begin(b, 2);
    put_buffer(b, object);
    put_text(b, ".");
    pickle_begin(b, 2);
    put_text(b, "](");
    if (storages) {
        pickle_text(b, "1");
        pickle_text(b, "0");
    }
    put_text(b, "e.");
    if (!storages) return;
    put_int(b, 1, 8);
    put_bytes(b, &storage1, sizeof storage1);
    put_int(b, 6, 8);
    put_bytes(b, storage0, sizeof storage0);
}

void put_small_zip(buffer *b) {
    buffer pickle = {0};
    pickle_begin(&pickle, 2);
    pickle_state(&pickle, small_state, 3);
    put_text(&pickle, ".");
    put_torch_zip(b, &pickle, ZIP_DESCRIPTOR | ZIP_ALIGN, true);
    buffer_free(&pickle);
}

void put_small_legacy(buffer *b) {
    buffer object = {0};
    pickle_state(&object, small_state, 3);
    put_torch_legacy(b, &object, true);
    buffer_free(&object);
}

/* ---- tar ------------------------------------------------------------------------------------------------------------- */

void put_tar_sum(buffer *b, size_t offset) {
    unsigned sum = 0;
    char text[16];
    memset(b->data + offset + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += b->data[offset + (size_t)i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(b->data + offset + 148, text, 7);
}

void put_tar_member(buffer *b, const char *name, char type, const void *data, size_t size) {
    size_t at = b->size, n = strlen(name);
    char text[16];
    put_fill(b, 0, 512);
    memcpy(b->data + at, name, n < 100 ? n : 100);
    snprintf(text, sizeof text, "%011zo", size);
    memcpy(b->data + at + 124, text, 12);
    b->data[at + 156] = (uint8_t)type;
    memcpy(b->data + at + 257, "ustar\00000", 8);
    put_tar_sum(b, at);
    put_bytes(b, data, size);
    put_fill(b, 0, (512 - size % 512) % 512);
}

void put_tar_end(buffer *b) {
    put_fill(b, 0, 1024);
}

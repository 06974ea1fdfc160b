/* check.h - what the tests of this folder share: opening bytes, comparing an error, an allocator that counts and fails. */
#ifndef STRAND_TESTS_WEIGHTS_CHECK_H
#define STRAND_TESTS_WEIGHTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "weights/reader.h"
#include "writers.h"

/* Opens bytes that stand at the very end of their block, so that a sanitizer sees a read beyond them. The block is *copy. */
static inline strand_status open_exact(const strand_allocator *allocator, const void *data, size_t size, void **copy,
                                       weights **w, error *e) {
    *copy = malloc(size ? size : 1);
    if (!*copy) abort();
    if (size) memcpy(*copy, data, size);
    return weights_open_bytes(allocator, *copy, size, "f", w, e);
}

/* The bytes must be refused with this status and a line that holds `says`. */
static inline void check_refused(const char *what, const void *data, size_t size, strand_status status, const char *says) {
    error e = {0};
    weights *w = NULL;
    void *copy;
    strand_status got = open_exact(NULL, data, size, &copy, &w, &e);
    if (got != status || !strstr(e.text, says))
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", what, got, e.text, status, says);
    if (w) fail_msg("%s: refused, yet an object was given", what);
    if (strchr(e.text, '\n')) fail_msg("%s: more than one line", what);
    free(copy);
}

static inline void check_tensor(const weights *w, const char *name, strand_dtype dtype, int rank, const int64_t *dims,
                                const void *data, size_t bytes) {
    const weights_tensor *t = weights_find(w, name);
    if (!t) fail_msg("no tensor %s", name);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->rank, rank);
    for (int i = 0; i < rank; i++) assert_int_equal(t->dims[i], dims[i]);
    assert_int_equal(t->bytes, bytes);
    assert_memory_equal(t->data, data, bytes);
}

/* The object's instructions as a zip and as a legacy file; both must behave alike. `says` NULL: they must open. */
static inline void check_object(const char *what, const buffer *object, int64_t count, strand_status status, const char *says) {
    for (int legacy = 0; legacy < 2; legacy++) {
        buffer file = {0}, pickle = {0};
        char label[160];
        snprintf(label, sizeof label, "%s (%s)", what, legacy ? "legacy" : "zip");
        pickle_begin(&pickle, 4);
        put_buffer(&pickle, object);
        put_text(&pickle, ".");
        bool storages = false;
        for (size_t i = 0; i + 7 <= object->size; i++) storages |= memcmp(object->data + i, "storage", 7) == 0;
        if (legacy)
            put_torch_legacy(&file, object, storages);
        else
            put_torch_zip(&file, &pickle, 0, false);
        if (says) {
            check_refused(label, file.data, file.size, status, says);
        } else {
            error e = {0};
            weights *w = NULL;
            void *copy;
            if (open_exact(NULL, file.data, file.size, &copy, &w, &e)) fail_msg("%s: %s", label, e.text);
            if (weights_count(w) != count) fail_msg("%s: %d tensors", label, (int)weights_count(w));
            weights_close(w);
            free(copy);
        }
        buffer_free(&pickle);
        buffer_free(&file);
    }
}

/* Both storages must be mentioned for a legacy file to be whole: a branch that is left alone does it. */
static inline void mention_storages(buffer *b) {
    pickle_text(b, "optimizer_states");
    put_text(b, "](");
    pickle_storage_id(b, "FloatStorage", "0", 6);
    pickle_storage_id(b, "LongStorage", "1", 1);
    put_text(b, "e");
}

/* {"optimizer_states": ..., "x": <value>} */
static inline void check_value(const char *what, const buffer *value, int64_t count, strand_status status, const char *says) {
    buffer b = {0};
    put_text(&b, "}(");
    mention_storages(&b);
    pickle_text(&b, "x");
    put_buffer(&b, value);
    put_text(&b, "u");
    check_object(what, &b, count, status, says);
    buffer_free(&b);
}

/* Fails the allocation number `fail_at` (from 1; once, or from there on) and counts blocks that are out. */
typedef struct counter {
    long calls, fail_at, live;
    bool once;
} counter;

static inline void *counter_alloc(void *user, size_t size, size_t align) {
    counter *c = user;
    c->calls++;
    if (c->fail_at && (c->once ? c->calls == c->fail_at : c->calls >= c->fail_at)) return NULL;
    void *block = aligned_alloc(align < sizeof(void *) ? sizeof(void *) : align, (size + align - 1) / align * align);
    if (block) c->live++;
    return block;
}

static inline void counter_free(void *user, void *block, size_t size) {
    counter *c = user;
    (void)size;
    c->live--;
    free(block);
}

#endif

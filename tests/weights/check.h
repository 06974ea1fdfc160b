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

/* fuzz.h - what the fuzz targets share: an allocator that bounds memory and can fail, and the checks on what has opened.
 *
 * A target aborts when a promise is broken: more memory than a multiple of the input, a block that is not given back, a tensor
 * whose bytes are not its shape, misaligned data, a name that is not found. Reading every byte lets the sanitizer see the
 * rest. */
#ifndef STRAND_TESTS_FUZZ_FUZZ_H
#define STRAND_TESTS_FUZZ_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "weights/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_REQUIRE(condition)                                                                                                \
    do {                                                                                                                       \
        if (!(condition)) abort();                                                                                             \
    } while (0)

typedef struct fuzz_memory {
    size_t live, limit;
    long blocks, calls, fail_at; /* fail_at: the call that gets nothing; 0: none */
} fuzz_memory;

static inline void *fuzz_alloc(void *user, size_t size, size_t align) {
    fuzz_memory *m = user;
    if (++m->calls == m->fail_at) return NULL;
    m->live += size;
    FUZZ_REQUIRE(m->live <= m->limit);
    void *block = aligned_alloc(align < sizeof(void *) ? sizeof(void *) : align, (size + align - 1) / align * align);
    FUZZ_REQUIRE(block);
    m->blocks++;
    return block;
}

static inline void fuzz_free(void *user, void *block, size_t size) {
    fuzz_memory *m = user;
    m->live -= size;
    m->blocks--;
    free(block);
}

static inline void fuzz_check(const weights *w) {
    volatile uint8_t sum = 0;
    for (int64_t i = 0; i < weights_count(w); i++) {
        const weights_tensor *t = weights_at(w, i);
        uint64_t elements, bytes;
        FUZZ_REQUIRE((t->dtype >= STRAND_F32 && t->dtype <= STRAND_BOOL) || dtype_quantised(t->dtype));
        FUZZ_REQUIRE(t->rank >= 0 && t->rank <= STRAND_MAX_RANK);
        FUZZ_REQUIRE(shape_bytes(t->dims, t->rank, 1, &elements, &bytes));
        FUZZ_REQUIRE(dtype_bytes(t->dtype, elements, &bytes) && bytes == t->bytes);
        FUZZ_REQUIRE(t->data && (uintptr_t)t->data % (dtype_quantised(t->dtype) ? 2 : dtype_block_of(t->dtype).bytes) == 0);
        FUZZ_REQUIRE(weights_find(w, t->name) == t);
        for (uint64_t j = 0; j < t->bytes; j++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[j]);
    }
}

/* Opens the bytes, looks at everything, closes; then once more with one allocation failing. */
static inline void fuzz_open(const void *data, size_t size) {
    for (int failing = 0; failing < 2; failing++) {
        fuzz_memory m = {.limit = ((size_t)4 << 20) + 512 * size};
        const strand_allocator allocator = {fuzz_alloc, fuzz_free, &m};
        weights *w = NULL;
        error e = {0};
        if (failing) m.fail_at = 1 + (long)(size % 17);
        strand_status status = weights_open_bytes(&allocator, data, size, "fuzz", &w, &e);
        FUZZ_REQUIRE((status == STRAND_OK) == (w != NULL));
        FUZZ_REQUIRE(status == STRAND_OK || (e.status == status && e.text[0] && !strchr(e.text, '\n')));
        if (w) fuzz_check(w);
        weights_close(w);
        FUZZ_REQUIRE(m.blocks == 0);
    }
}

#endif

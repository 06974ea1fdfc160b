/* arena.c - chunked bump allocation on the caller's allocator. A chunk's header stands at its beginning and remembers its size
 * for the allocator's free. Memory is zeroed, since allocators need not. */
#if defined(__linux__)
#define _DEFAULT_SOURCE /* madvise */
#endif
#include "arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "checked.h"

#define CHUNK_BYTES ((size_t)16 * 1024)
#define CHUNK_ALIGN ((size_t)64)

struct arena_chunk {
    arena_chunk *older;
    size_t bytes;
};

#if defined(MADV_HUGEPAGE)
/* Large blocks ask for large pages: rows of a long sequence lie pages apart, and looking each page up costs more than the
 * work on it. Only pages that lie wholly inside are asked for, so that no more memory is touched than before. */
#define HUGE_PAGE ((size_t)2 * 1024 * 1024)

static void *large_alloc(size_t bytes) {
    void *block = NULL;
    if (posix_memalign(&block, HUGE_PAGE, bytes)) return NULL;
    (void)madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* refused: small pages */
    return block;
}
#endif

static void *default_alloc(void *user, size_t bytes, size_t align) {
    (void)user;
#if defined(MADV_HUGEPAGE)
    if (bytes >= 2 * HUGE_PAGE && align <= HUGE_PAGE) return large_alloc(bytes);
#endif
    if (align <= _Alignof(max_align_t)) return malloc(bytes ? bytes : 1);
    uint64_t rounded;
    if (!checked_align(bytes ? bytes : 1, align, &rounded) || rounded > SIZE_MAX) return NULL;
    return aligned_alloc(align, (size_t)rounded);
}

static void default_free(void *user, void *block, size_t bytes) {
    (void)user;
    (void)bytes;
    free(block);
}

const strand_allocator *allocator_default(void) {
    static const strand_allocator allocator = {default_alloc, default_free, NULL};
    return &allocator;
}

void arena_init(arena *a, const strand_allocator *allocator) {
    *a = (arena){.allocator = allocator};
}

void arena_init_fixed(arena *a, void *block, size_t bytes) {
    *a = (arena){.next = block, .end = (unsigned char *)block + bytes};
}

/* The first aligned address of the free part if `bytes` fit there, else NULL. */
static unsigned char *place(const arena *a, size_t bytes, size_t align) {
    if (!a->next) return NULL;
    size_t pad = (size_t)(-(uintptr_t)a->next & (align - 1));
    size_t room = (size_t)(a->end - a->next);
    return pad <= room && bytes <= room - pad ? a->next + pad : NULL;
}

static bool grow(arena *a, size_t bytes, size_t align) {
    uint64_t need;
    if (!a->allocator || !checked_add(bytes, CHUNK_ALIGN + align, &need) || need > SIZE_MAX) return false;
    size_t size = need > CHUNK_BYTES ? (size_t)need : CHUNK_BYTES;
    arena_chunk *chunk = a->allocator->alloc(a->allocator->user, size, CHUNK_ALIGN);
    if (!chunk) return false;
    *chunk = (arena_chunk){a->chunks, size};
    a->chunks = chunk;
    a->next = (unsigned char *)chunk + sizeof *chunk;
    a->end = (unsigned char *)chunk + size;
    return true;
}

void *arena_alloc(arena *a, size_t bytes, size_t align) {
    unsigned char *at = place(a, bytes, align);
    if (!at && (!grow(a, bytes, align) || !(at = place(a, bytes, align)))) return NULL;
    a->used += (size_t)(at - a->next) + bytes;
    a->next = at + bytes;
    return memset(at, 0, bytes);
}

void *arena_array(arena *a, size_t count, size_t size, size_t align) {
    uint64_t bytes;
    if (!checked_mul(count, size, &bytes) || bytes > SIZE_MAX) return NULL;
    return arena_alloc(a, (size_t)bytes, align);
}

char *arena_string(arena *a, const char *text, size_t length) {
    if (length == SIZE_MAX) return NULL;
    char *copy = arena_alloc(a, length + 1, 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

char *arena_printf(arena *a, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1, 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void arena_release(arena *a) {
    while (a->chunks) {
        arena_chunk *older = a->chunks->older;
        a->allocator->free(a->allocator->user, a->chunks, a->chunks->bytes);
        a->chunks = older;
    }
    a->next = a->end = NULL;
    a->used = 0;
}

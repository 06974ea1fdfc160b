/* arena.h - memory that is given back all at once, on the caller's allocator.
 *
 * An arena hands out aligned pieces from chunks and frees only the chunks. It is how graphs, plans, models and parsed files
 * own their many small parts. `fixed` arenas live in one given block and never grow. */
#ifndef STRAND_CORE_ARENA_H
#define STRAND_CORE_ARENA_H

#include <stdbool.h>

#include "strand.h"

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    const strand_allocator *allocator; /* NULL: fixed */
    arena_chunk *chunks;
    unsigned char *next, *end; /* the free part of the newest chunk or of the fixed block */
    size_t used;               /* bytes handed out, padding included */
} arena;

/* malloc and free. */
const strand_allocator *allocator_default(void);

void arena_init(arena *a, const strand_allocator *allocator);
void arena_init_fixed(arena *a, void *block, size_t bytes);
/* Zeroed memory, or NULL when the allocator or the block is exhausted. `align` is a power of two up to 4096. */
void *arena_alloc(arena *a, size_t bytes, size_t align);
/* arena_alloc(count * size) with the product checked. */
void *arena_array(arena *a, size_t count, size_t size, size_t align);
char *arena_string(arena *a, const char *text, size_t length);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
char *arena_printf(arena *a, const char *format, ...);
/* Frees every chunk; the arena is empty and usable again. */
void arena_release(arena *a);

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type), _Alignof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_array((a), (count), sizeof(type), _Alignof(type)))

#endif

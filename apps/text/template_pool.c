/* template_pool.c - the memory of a chat template: blocks that go all at once, bounded; what fails is said once, and what
 * goes on after that gets zeros. See template_tree.h. */
#include "template_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pool_block {
    pool_block *next;
    size_t size;
};

static _Alignas(16) char shared[4096]; /* only ever zeros are read from it, by what gives up soon */

void pool_fail(pool *p, const char *format, ...) {
    if (p->bad) return;
    p->bad = 1;
    va_list args;
    va_start(args, format);
    vsnprintf(p->why, p->why_size, format, args);
    va_end(args);
    for (char *c = p->why; *c; c++)
        if ((unsigned char)*c < 32) *c = '?';
}

void *pool_get(pool *p, size_t n) {
    n = (n + 15) & ~(size_t)15;
    if (p->bad && n <= sizeof shared) return memset(shared, 0, sizeof shared);
    if ((size_t)(p->end - p->at) < n || !p->at) {
        size_t size = n > 65536 ? n : 65536;
        pool_block *b = size <= p->left ? calloc(1, sizeof *b + 16 + size) : NULL;
        if (!b) {
            pool_fail(p, "chat template: it takes too much memory");
            if (n > sizeof shared) n = sizeof shared;
            return memset(shared, 0, sizeof shared);
        }
        p->left -= size;
        b->next = p->blocks;
        p->blocks = b;
        p->at = (char *)(((uintptr_t)(b + 1) + 15) & ~(uintptr_t)15);
        p->end = p->at + size;
    }
    void *out = p->at;
    p->at += n;
    return out;
}

void pool_free(pool *p) {
    while (p->blocks) {
        pool_block *next = p->blocks->next;
        free(p->blocks);
        p->blocks = next;
    }
    p->at = p->end = NULL;
}

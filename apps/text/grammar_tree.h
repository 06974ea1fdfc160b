/* grammar_tree.h - a parsed grammar, between its parser (grammar_parse.c) and its matcher (grammar.c). */
#ifndef STRAND_APP_GRAMMAR_TREE_H
#define STRAND_APP_GRAMMAR_TREE_H

#include "grammar.h"

#include <stdlib.h>

enum { END, ALTERNATIVE, RULE, CLASS };

typedef struct element {
    int kind, negated;
    uint32_t value, count; /* RULE: its number; CLASS: first range and how many */
} element;

typedef struct range {
    uint32_t low, high;
} range;

typedef struct rule {
    char *name;     /* NULL: made by a group or a repetition */
    uint32_t first; /* its elements: alternatives, END at the end */
    int defined;
} rule;

struct grammar {
    rule *rules;
    uint32_t n_rules, rule_room;
    element *elements;
    uint32_t n_elements, element_room;
    range *ranges;
    uint32_t n_ranges, range_room;
    uint32_t root;
};

/* Room for item n of a list that grows. 0, or -1. */
static inline int grow(void **items, uint32_t *room, uint32_t n, size_t size) {
    if (n < *room) return 0;
    uint32_t more = *room ? 2 * *room : 64;
    void *block = realloc(*items, more * size);
    if (!block) return -1;
    *items = block;
    *room = more;
    return 0;
}

/* Bytes of a character's UTF-8 by its first byte; 0: none. */
static inline int utf8_bytes(unsigned char c) {
    return c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
}

#endif

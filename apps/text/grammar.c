/* grammar.c - follows every way that a text may take through a grammar at once. See grammar.h.
 *
 * A way is a stack of elements that are still to come, kept as a list of nodes that ways share. Between characters every way
 * has a class of characters on top, or is empty (the text may end). To ask about a token is to follow its characters and
 * forget what was made. The bounds (elements, nodes, ways, depth) make left recursion and explosive grammars an error, never
 * a hang. */
#include "grammar_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NODES    1000000
#define MAX_WAYS     4096
#define MAX_DEPTH    2048

#define NOTHING UINT32_MAX

#define BUCKETS 16384

/* Nodes are unique: two ways with the same elements to come are the same node. */
typedef struct node {
    uint32_t element; /* that is to come */
    uint32_t below;   /* node, NOTHING */
    uint32_t depth;
    uint32_t chain;          /* the next node of its bucket, which is older */
    uint32_t waited, listed; /* the last search that met it as work, and as a way */
} node;

typedef struct ways {
    uint32_t *tops; /* nodes; NOTHING: the text may end here */
    uint32_t n, room;
} ways;

struct grammar_state {
    const grammar *g;
    node *nodes;
    uint32_t n_nodes, node_room;
    uint32_t bucket[BUCKETS];
    uint32_t search;
    ways now, next, spare;
    unsigned char partial[4]; /* the beginning of a character */
    int n_partial;
};

static uint32_t bucket_of(uint32_t element, uint32_t below) {
    return (element * 2654435761u ^ below * 2246822519u) >> 7 & (BUCKETS - 1);
}

static uint32_t push(grammar_state *s, uint32_t element, uint32_t below) {
    uint32_t *bucket = &s->bucket[bucket_of(element, below)];
    for (uint32_t i = *bucket; i != NOTHING; i = s->nodes[i].chain)
        if (s->nodes[i].element == element && s->nodes[i].below == below) return i;
    uint32_t depth = below == NOTHING ? 1 : s->nodes[below].depth + 1;
    if (depth > MAX_DEPTH || s->n_nodes >= MAX_NODES || grow((void **)&s->nodes, &s->node_room, s->n_nodes, sizeof *s->nodes))
        return NOTHING;
    s->nodes[s->n_nodes] = (node){element, below, depth, *bucket, 0, 0};
    return *bucket = s->n_nodes++;
}

/* The newest nodes go; they are the first of their buckets. */
static void forget(grammar_state *s, uint32_t n_nodes) {
    while (s->n_nodes > n_nodes) {
        const node *x = &s->nodes[--s->n_nodes];
        s->bucket[bucket_of(x->element, x->below)] = x->chain;
    }
}

static int add_way(grammar_state *s, ways *w, uint32_t top, int *ended) {
    if (top == NOTHING ? *ended : s->nodes[top].listed == s->search) return 0;
    if (w->n >= MAX_WAYS || grow((void **)&w->tops, &w->room, w->n, sizeof *w->tops)) return -1;
    if (top == NOTHING)
        *ended = 1;
    else
        s->nodes[top].listed = s->search;
    w->tops[w->n++] = top;
    return 0;
}

static int ends(const element *x) {
    return x->kind == END || x->kind == ALTERNATIVE;
}

/* From the element `at` on, above `below`: every way to the next character, with an explicit list instead of recursion. Of
 * one search: s->search and *ended are the caller's. */
static int expand(grammar_state *s, uint32_t at, uint32_t below, ways *out, int *ended) {
    const grammar *g = s->g;
    uint32_t from = 0;
    s->spare.n = 0;
    for (;;) {
        const element *x = &g->elements[at];
        if (ends(x)) {
            if (below == NOTHING) {
                if (add_way(s, out, NOTHING, ended)) return -1;
            } else {
                uint32_t up = s->nodes[below].element;
                below = s->nodes[below].below;
                at = up;
                continue;
            }
        } else if (x->kind == CLASS) {
            uint32_t top = push(s, at, below);
            if (top == NOTHING || add_way(s, out, top, ended)) return -1;
        } else {
            /* What follows the reference waits below, unless nothing does. */
            uint32_t after = below;
            if (!ends(&g->elements[at + 1]) && (after = push(s, at + 1, below)) == NOTHING) return -1;
            for (uint32_t k = g->rules[x->value].first;;) {
                uint32_t start = push(s, k, after); /* a marker: element k to be expanded above `after` */
                if (start == NOTHING || s->spare.n >= MAX_WAYS * 4u ||
                    grow((void **)&s->spare.tops, &s->spare.room, s->spare.n, sizeof *s->spare.tops))
                    return -1;
                if (s->nodes[start].waited != s->search) s->spare.tops[s->spare.n++] = start;
                s->nodes[start].waited = s->search;
                while (!ends(&g->elements[k])) k++;
                if (g->elements[k].kind == END) break;
                k++;
            }
        }
        if (from == s->spare.n) return 0;
        at = s->nodes[s->spare.tops[from]].element;
        below = s->nodes[s->spare.tops[from]].below;
        from++;
    }
}

static int in_class(const grammar *g, const element *x, uint32_t low, uint32_t high) {
    int whole = low == high;
    for (uint32_t i = 0; i < x->count; i++) {
        const range *r = &g->ranges[x->value + i];
        if (whole && low >= r->low && low <= r->high) return !x->negated;
        if (!whole && !x->negated && low <= r->high && high >= r->low) return 1;
        if (!whole && x->negated && low >= r->low && high <= r->high) return 0; /* all of it is excluded */
    }
    return x->negated;
}

/* One character: from s->now to s->next, which then change places. */
static int follow(grammar_state *s, uint32_t c) {
    int ended = 0;
    s->next.n = 0;
    s->search++;
    for (uint32_t i = 0; i < s->now.n; i++) {
        uint32_t top = s->now.tops[i];
        if (top == NOTHING) continue;
        node x = s->nodes[top];
        if (in_class(s->g, &s->g->elements[x.element], c, c) && expand(s, x.element + 1, x.below, &s->next, &ended)) return -1;
    }
    ways swap = s->now;
    s->now = s->next;
    s->next = swap;
    return s->now.n ? 0 : -1;
}

static const uint32_t least_of[] = {0, 0, 0x80, 0x800, 0x10000}; /* by the bytes of a character */

/* Can any character that begins with the partial bytes come? */
static int partial_fits(const grammar_state *s) {
    if (!s->n_partial) return 1;
    int n = utf8_bytes(s->partial[0]);
    uint32_t low = s->partial[0] & (0xFFu >> (n + 1)), high;
    for (int i = 1; i < s->n_partial; i++) low = low << 6 | (s->partial[i] & 63);
    int missing = 6 * (n - s->n_partial);
    low <<= missing;
    high = low | ((1u << missing) - 1);
    if (low < least_of[n]) low = least_of[n]; /* a longer form than needed is no character */
    if (low > high) return 0;
    for (uint32_t i = 0; i < s->now.n; i++)
        if (s->now.tops[i] != NOTHING && in_class(s->g, &s->g->elements[s->nodes[s->now.tops[i]].element], low, high)) return 1;
    return 0;
}

static int walk(grammar_state *s, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (s->n_partial ? (c & 0xC0) != 0x80 : !utf8_bytes(c)) return -1;
        s->partial[s->n_partial++] = c;
        if (s->n_partial < utf8_bytes(s->partial[0])) continue;
        uint32_t code = s->n_partial == 1 ? s->partial[0] : s->partial[0] & (0xFFu >> (s->n_partial + 1));
        for (int k = 1; k < s->n_partial; k++) code = code << 6 | (s->partial[k] & 63);
        if (code < least_of[s->n_partial] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return -1;
        s->n_partial = 0;
        if (follow(s, code)) return -1;
    }
    return partial_fits(s) ? 0 : -1;
}

int grammar_allows(grammar_state *s, const char *bytes, size_t n) {
    uint32_t nodes = s->n_nodes, count = s->now.n;
    int n_partial = s->n_partial;
    unsigned char partial[4];
    memcpy(partial, s->partial, 4);
    uint32_t *kept = malloc((count ? count : 1) * sizeof *kept);
    if (!kept) return 0;
    if (count) memcpy(kept, s->now.tops, count * sizeof *kept);
    int fits = walk(s, bytes, n) == 0;
    forget(s, nodes);
    s->n_partial = n_partial;
    memcpy(s->partial, partial, 4);
    s->now.n = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (grow((void **)&s->now.tops, &s->now.room, s->now.n, sizeof *kept)) break;
        s->now.tops[s->now.n++] = kept[i];
    }
    free(kept);
    return fits;
}

/* Only the nodes that ways still have stay, so that a long text takes no more memory than a short one. */
static int compact(grammar_state *s) {
    uint32_t *to = malloc((s->n_nodes ? s->n_nodes : 1) * sizeof *to), n = 0;
    if (!to) return -1;
    memset(to, 0, (s->n_nodes ? s->n_nodes : 1) * sizeof *to);
    for (uint32_t i = 0; i < s->now.n; i++)
        for (uint32_t k = s->now.tops[i]; k != NOTHING && !to[k]; k = s->nodes[k].below) to[k] = 1;
    for (uint32_t i = 0; i < s->n_nodes; i++) { /* what is below has a lower number */
        if (!to[i]) continue;
        node x = s->nodes[i];
        if (x.below != NOTHING) x.below = to[x.below];
        s->nodes[n] = x;
        to[i] = n++;
    }
    for (uint32_t i = 0; i < s->now.n; i++)
        if (s->now.tops[i] != NOTHING) s->now.tops[i] = to[s->now.tops[i]];
    s->n_nodes = n;
    free(to);
    memset(s->bucket, 0xff, sizeof s->bucket);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *bucket = &s->bucket[bucket_of(s->nodes[i].element, s->nodes[i].below)];
        s->nodes[i].chain = *bucket;
        *bucket = i;
    }
    return 0;
}

int grammar_accept(grammar_state *s, const char *bytes, size_t n) {
    return walk(s, bytes, n) || compact(s) ? -1 : 0;
}

int grammar_may_end(const grammar_state *s) {
    for (uint32_t i = 0; i < s->now.n && !s->n_partial; i++)
        if (s->now.tops[i] == NOTHING) return 1;
    return 0;
}

int grammar_must_end(const grammar_state *s) {
    return s->now.n == 1 && s->now.tops[0] == NOTHING && !s->n_partial;
}

grammar_state *grammar_start(const grammar *g, char *why, size_t why_size) {
    grammar_state *s = calloc(1, sizeof *s);
    if (!s) return snprintf(why, why_size, "out of memory"), NULL;
    s->g = g;
    s->search = 1;
    memset(s->bucket, 0xff, sizeof s->bucket);
    int bad = 0, ended = 0;
    for (uint32_t k = g->rules[g->root].first; !bad;) {
        bad = expand(s, k, NOTHING, &s->now, &ended);
        while (!ends(&g->elements[k])) k++;
        if (g->elements[k].kind == END) break;
        k++;
    }
    if (!bad && !compact(s)) return s;
    snprintf(why, why_size, "grammar: a rule that begins with itself, or more ways than can be followed");
    grammar_state_free(s);
    return NULL;
}

void grammar_state_free(grammar_state *s) {
    if (!s) return;
    free(s->nodes);
    free(s->now.tops);
    free(s->next.tops);
    free(s->spare.tops);
    free(s);
}

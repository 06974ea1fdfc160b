/* prefix.c - states of texts that have been run, with the logits that follow them, newest first, found by the tokens that
 * they stand for. A list: there are as many as fit the limit, tens to hundreds, and a comparison ends at the first token
 * that differs. */
#include "server.h"

#include <stdlib.h>
#include <string.h>

struct prefix_entry {
    prefix_entry *next;
    int64_t *ids, n;
    void *state;
    float *logits;
    uint64_t bytes; /* of all of it */
    size_t state_bytes;
};

/* Shorter texts are as quickly run as loaded. */
#define LEAST_TOKENS 16

static void discard(prefix_entry *e) {
    free(e->ids);
    free(e->state);
    free(e->logits);
    free(e);
}

static void drop(prefixes *p, prefix_entry **at) {
    prefix_entry *e = *at;
    *at = e->next;
    p->bytes -= e->bytes;
    discard(e);
}

static prefix_entry **find(prefixes *p, const int64_t *ids, int64_t n, int exact) {
    prefix_entry **best = NULL;
    for (prefix_entry **at = &p->first; *at; at = &(*at)->next) {
        const prefix_entry *e = *at;
        if (exact ? e->n != n : e->n > n || (best && e->n <= (*best)->n)) continue;
        if (!memcmp(e->ids, ids, (size_t)e->n * sizeof *ids)) best = at;
    }
    return best;
}

static void to_front(prefixes *p, prefix_entry **at) {
    prefix_entry *e = *at;
    *at = e->next;
    e->next = p->first;
    p->first = e;
}

int64_t prefix_load(prefixes *p, engine *g, int64_t row, const int64_t *ids, int64_t n) {
    prefix_entry **at = find(p, ids, n, 0);
    if (!at) return 0;
    to_front(p, at);
    const prefix_entry *e = p->first;
    if (engine_load(g, row, e->state, e->state_bytes, e->ids, e->n)) return -1;
    engine_give(g, row, e->logits);
    return e->n;
}

void prefix_keep(prefixes *p, engine *g, int64_t row) {
    int64_t n;
    const int64_t *ids = engine_tokens(g, row, &n);
    if (!engine_stateful(g) || n < LEAST_TOKENS || !p->limit) return;
    prefix_entry **known = find(p, ids, n, 1);
    if (known) {
        to_front(p, known);
        return;
    }
    prefix_entry *e = calloc(1, sizeof *e);
    if (!e) return;
    e->n = n;
    e->ids = malloc((size_t)n * sizeof *ids);
    e->state = e->ids ? engine_save(g, row, &e->state_bytes) : NULL;
    size_t width = (size_t)engine_vocabulary(g) * sizeof *e->logits;
    e->logits = e->state ? malloc(width) : NULL;
    e->bytes = e->state_bytes + width + (uint64_t)n * sizeof *ids + sizeof *e;
    if (!e->logits || e->bytes > p->limit) {
        discard(e);
        return;
    }
    memcpy(e->logits, engine_logits(g, row), width);
    memcpy(e->ids, ids, (size_t)n * sizeof *ids);
    e->next = p->first;
    p->first = e;
    p->bytes += e->bytes;
    while (p->bytes > p->limit) {
        prefix_entry **last = &p->first;
        while ((*last)->next) last = &(*last)->next;
        drop(p, last);
    }
}

void prefix_free(prefixes *p) {
    while (p->first) drop(p, &p->first);
}

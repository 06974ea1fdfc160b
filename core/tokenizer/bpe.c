/* bpe.c - byte-pair encoding of one piece of text: of ids by a list of ranked merges (GPT-2 and its kin), and of texts by the
 * scores of what they make together (SentencePiece).
 *
 * Symbols are a linked list; possible merges wait in a heap, best first and leftmost among equals, and are checked when they
 * come up, since a neighbour may have gone meanwhile. n log n for any text, so that a long run of one letter costs no more. */
#include "text.h"

#include <string.h>

#include "../utf8.h"

typedef struct symbol {
    size_t at, length; /* length 0: merged into its left neighbour */
    int64_t before, after;
    uint32_t id;
} symbol;

typedef struct candidate {
    double rank; /* the least is taken */
    int64_t left, right;
    size_t length; /* of both when it was found */
    uint32_t id, left_id, right_id;
} candidate;

typedef struct work {
    const text_tokenizer *t;
    const char *text;
    symbol *symbols;
    candidate *heap;
    size_t n, waiting;
    bool by_score;
} work;

static bool sooner(const candidate *a, const candidate *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->left < b->left);
}

static void push(work *w, candidate c) {
    size_t i = w->waiting++;
    while (i && sooner(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static candidate pop(work *w) {
    candidate top = w->heap[0], last = w->heap[--w->waiting];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->waiting) break;
        if (child + 1 < w->waiting && sooner(&w->heap[child + 1], &w->heap[child])) child++;
        if (!sooner(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void consider(work *w, int64_t left, int64_t right) {
    if (left < 0 || right < 0) return;
    const symbol *a = &w->symbols[left], *b = &w->symbols[right];
    candidate c = {.left = left, .right = right, .length = a->length + b->length, .left_id = a->id, .right_id = b->id};
    if (w->by_score) {
        c.id = c.length <= w->t->max_length ? vocab_find(w->t, w->text + a->at, c.length) : NO_TOKEN;
        if (c.id == NO_TOKEN) return;
        c.rank = -(double)w->t->tokens[c.id].score;
    } else {
        const merge *m = merges_find(w->t, a->id, b->id);
        if (!m) return;
        c.id = m->id;
        c.rank = m->rank;
    }
    push(w, c);
}

static void run(work *w) {
    for (size_t i = 1; i < w->n; i++) consider(w, (int64_t)i - 1, (int64_t)i);
    while (w->waiting) {
        candidate c = pop(w);
        symbol *a = &w->symbols[c.left], *b = &w->symbols[c.right];
        if (!a->length || !b->length || a->after != c.right || a->length + b->length != c.length || a->id != c.left_id ||
            b->id != c.right_id)
            continue;
        a->length += b->length;
        a->id = c.id;
        a->after = b->after;
        if (b->after >= 0) w->symbols[b->after].before = c.left;
        b->length = 0;
        consider(w, a->before, c.left);
        consider(w, c.left, a->after);
    }
}

/* Each merge removes a symbol and offers two more, so 3 n candidates are enough. */
static bool start(work *w, arena *scratch, size_t n) {
    w->symbols = ARENA_ARRAY(scratch, symbol, n);
    w->heap = n <= SIZE_MAX / 3 ? ARENA_ARRAY(scratch, candidate, 3 * n) : NULL;
    return w->symbols && w->heap;
}

static void add(work *w, size_t at, size_t length, uint32_t id) {
    w->symbols[w->n] = (symbol){at, length, (int64_t)w->n - 1, -1, id};
    if (w->n) w->symbols[w->n - 1].after = (int64_t)w->n;
    w->n++;
}

static void characters(work *w, size_t n) {
    for (size_t i = 0, length; i < n; i += length) {
        length = utf8_length((const unsigned char *)w->text + i, n - i);
        if (!length) length = 1;
        add(w, i, length, vocab_find(w->t, w->text + i, length));
    }
}

static void give(const work *w, id_list *out) {
    bool unknown = false;
    for (int64_t i = w->n ? 0 : -1; i >= 0; i = w->symbols[i].after) {
        const symbol *s = &w->symbols[i];
        if (s->id == NO_TOKEN) {
            encode_unknown(w->t, w->text + s->at, s->length, out, &unknown);
        } else {
            id_add(out, s->id);
            unknown = false;
        }
    }
}

static strand_status encode(work *w, arena *scratch, size_t n, id_list *out, error *e) {
    if (!start(w, scratch, n)) return error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting %zu bytes into tokens", n);
    if (w->t->byte_level)
        for (size_t i = 0; i < n; i++) add(w, i, 1, w->t->byte_ids[(unsigned char)w->text[i]]);
    else
        characters(w, n);
    run(w);
    give(w, out);
    return STRAND_OK;
}

strand_status bpe_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e) {
    work w = {.t = t, .text = text};
    uint32_t whole = t->ignore_merges ? vocab_find(t, text, n) : NO_TOKEN;
    if (whole != NO_TOKEN) {
        id_add(out, whole);
        return STRAND_OK;
    }
    return encode(&w, scratch, n, out, e);
}

strand_status pieces_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e) {
    work w = {.t = t, .text = text, .by_score = true};
    return encode(&w, scratch, n, out, e);
}

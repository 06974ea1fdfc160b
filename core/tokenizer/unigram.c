/* unigram.c - the most probable way to cut a text into the tokens of a unigram vocabulary (Viterbi; Kudo 2018). A character
 * that no token begins with costs 10 more than the least probable token, as in SentencePiece; neighbours among them are one
 * unknown. */
#include "text.h"

#include <math.h>
#include <string.h>

#include "../utf8.h"

typedef struct node {
    double score; /* of the best way here */
    size_t from;
    uint32_t id;
} node;

static void offer(node *to, double score, size_t from, uint32_t id) {
    if (score > to->score) *to = (node){score, from, id};
}

static void spread(const text_tokenizer *t, const char *text, size_t n, size_t at, node *nodes) {
    size_t first = utf8_length((const unsigned char *)text + at, n - at);
    if (!first) first = 1;
    bool single = false;
    for (size_t end = at + first; end <= n && end - at <= t->max_length;) {
        uint32_t id = vocab_find(t, text + at, end - at);
        if (id != NO_TOKEN) {
            offer(&nodes[end], nodes[at].score + (double)t->tokens[id].score, at, id);
            single = single || end - at == first;
        }
        if (end == n) break;
        size_t more = utf8_length((const unsigned char *)text + end, n - end);
        end += more ? more : 1;
    }
    if (!single) offer(&nodes[at + first], nodes[at].score + (double)t->least_score - 10, at, NO_TOKEN);
}

strand_status unigram_encode(const text_tokenizer *t, arena *scratch, const char *text, size_t n, id_list *out, error *e) {
    if (!n) return STRAND_OK;
    node *nodes = n < SIZE_MAX ? ARENA_ARRAY(scratch, node, n + 1) : NULL;
    size_t *path = ARENA_ARRAY(scratch, size_t, n);
    if (!nodes || !path) return error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting %zu bytes into tokens", n);
    for (size_t i = 0; i <= n; i++) nodes[i] = (node){i ? -HUGE_VAL : 0, 0, NO_TOKEN};
    for (size_t at = 0; at < n; at++)
        if (nodes[at].score > -HUGE_VAL) spread(t, text, n, at, nodes);
    size_t steps = 0;
    for (size_t at = n; at; at = nodes[at].from) path[steps++] = at;
    bool unknown = false;
    while (steps--) {
        const node *x = &nodes[path[steps]];
        if (x->id == NO_TOKEN) {
            encode_unknown(t, text + x->from, path[steps] - x->from, out, &unknown);
        } else {
            id_add(out, x->id);
            unknown = false;
        }
    }
    return STRAND_OK;
}

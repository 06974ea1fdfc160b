/* steps.c - what happens to a text before it is cut into tokens: normalisers, which replace it, then cuts, which divide it
 * into pieces. Steps make new text in a scratch arena. What needs patterns or Unicode's tables is in unicode.c. */
#include "text.h"

#include <string.h>

static const char block[] = "\xE2\x96\x81"; /* U+2581, SentencePiece's space */

static strand_status no_memory(error *e) {
    return error_set(e, STRAND_ERR_MEMORY, "out of memory while cutting a text into tokens");
}

step *steps_add(text_tokenizer *t, step_kind kind, error *e) {
    if (t->n_steps == TOKENIZER_MAX_STEPS) {
        error_set(e, STRAND_ERR_UNSUPPORTED, "%s: more than %d normalising and cutting steps", t->path, TOKENIZER_MAX_STEPS);
        return NULL;
    }
    step *s = &t->steps[t->n_steps++];
    *s = (step){.kind = kind};
    return s;
}

strand_status steps_add_split(text_tokenizer *t, const char *pattern, split_how how, bool invert, error *e) {
    step *s = steps_add(t, STEP_SPLIT, e);
    if (!s) return e->status;
    s->how = how;
    s->invert = invert;
    return step_pattern(t, s, pattern, strlen(pattern), false, e);
}

strand_status steps_add_bert(text_tokenizer *t, bool lower, error *e) {
    static const step_kind kinds[] = {STEP_CLEAN, STEP_SPACE_CJK, STEP_NFD, STEP_STRIP_ACCENTS, STEP_LOWER};
    strand_status status = unicode_need(t, "Unicode's tables", e);
    for (size_t i = 0; i < (lower ? 5 : 2) && !status; i++)
        if (!steps_add(t, kinds[i], e)) status = e->status;
    if (!status) status = steps_add_split(t, "\\s+", SPLIT_REMOVED, false, e);
    return status ? status : steps_add_split(t, "[\\p{P}$+<=>^`|~]", SPLIT_ISOLATED, false, e);
}

bool pieces_add(pieces *p, size_t at, size_t length) {
    if (!length) return true;
    if (p->n == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        piece *more = ARENA_ARRAY(p->scratch, piece, room);
        if (!more) return false;
        if (p->n) memcpy(more, p->list, p->n * sizeof *more);
        p->list = more;
        p->room = room;
    }
    p->list[p->n++] = (piece){at, length};
    return true;
}

/* ---- text that grows ---- */

typedef struct grown {
    arena *a;
    char *text;
    size_t n, room;
} grown;

static bool put(grown *g, const char *text, size_t n) {
    if (n > SIZE_MAX / 4 - g->n) return false;
    if (g->n + n > g->room || !g->text) {
        size_t room = 2 * (g->n + n) + 64;
        char *more = arena_alloc(g->a, room, 1);
        if (!more) return false;
        if (g->n) memcpy(more, g->text, g->n);
        g->text = more;
        g->room = room;
    }
    if (n) memcpy(g->text + g->n, text, n);
    g->n += n;
    return true;
}

static void take(pieces *p, const grown *g) {
    p->text = g->text;
    p->length = g->n;
}

static bool replace_text(grown *g, const char *text, size_t n, const char *from, size_t n_from, const char *to, size_t n_to) {
    size_t begun = 0;
    bool fine = true;
    for (size_t at = 0; fine && n_from && at + n_from <= n;) {
        if (memcmp(text + at, from, n_from)) {
            at++;
            continue;
        }
        fine = put(g, text + begun, at - begun) && put(g, to, n_to);
        at += n_from;
        begun = at;
    }
    return fine && put(g, text + begun, n - begun);
}

typedef struct replacing {
    grown g;
    const step *s;
    const char *text;
    size_t begun;
} replacing;

static bool replace_match(void *user, size_t from, size_t to) {
    replacing *r = user;
    bool fine = put(&r->g, r->text + r->begun, from - r->begun) && put(&r->g, r->s->to, r->s->n_to);
    r->begun = to;
    return fine;
}

static strand_status replace_pattern(const step *s, pieces *p, error *e) {
    replacing r = {.g = {.a = p->scratch}, .s = s, .text = p->text};
    strand_status status = pattern_each(s, p->text, p->length, replace_match, &r, e);
    if (status) return status;
    if (!put(&r.g, p->text + r.begun, p->length - r.begun)) return no_memory(e);
    take(p, &r.g);
    return STRAND_OK;
}

static bool white(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void strip(const step *s, pieces *p) {
    while (s->left && p->length && white(p->text[0])) p->text++, p->length--;
    while (s->right && p->length && white(p->text[p->length - 1])) p->length--;
}

/* SentencePiece's remove_extra_whitespaces. */
static void squeeze(pieces *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->length; i++)
        if (p->text[i] != ' ' || (n && p->text[n - 1] != ' ')) p->text[n++] = p->text[i];
    while (n && p->text[n - 1] == ' ') n--;
    p->length = n;
}

/* ---- SentencePiece's precompiled map: a double array trie of what is replaced, then the replacements (Darts-clone's layout:
 * bit 31 value, bits 10.. offset with bit 9 as scale, bit 8 has a leaf, bits 0-7 label). ---- */

static uint32_t unit_at(const uint8_t *units, size_t i) {
    return (uint32_t)units[4 * i] | (uint32_t)units[4 * i + 1] << 8 | (uint32_t)units[4 * i + 2] << 16 |
           (uint32_t)units[4 * i + 3] << 24;
}

static uint32_t unit_offset(uint32_t unit) {
    return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* Bytes of the longest replaced beginning of text[0, n), 0: none; *value: where its replacement is. */
static size_t charsmap_longest(const uint8_t *units, size_t count, const char *text, size_t n, uint32_t *value) {
    size_t best = 0;
    if (!count) return 0;
    uint64_t node = unit_offset(unit_at(units, 0));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        node ^= c;
        if (node >= count) break;
        uint32_t unit = unit_at(units, (size_t)node);
        if ((unit & (1u << 31 | 0xFF)) != c) break;
        node ^= unit_offset(unit);
        if (unit & (1u << 8)) {
            if (node >= count) break;
            *value = unit_at(units, (size_t)node) & 0x7FFFFFFF;
            best = i + 1;
        }
    }
    return best;
}

static strand_status charsmap(const text_tokenizer *t, pieces *p, error *e) {
    grown g = {.a = p->scratch};
    size_t bytes = unit_at(t->charsmap, 0);
    const uint8_t *units = t->charsmap + 4;
    const char *texts = (const char *)units + bytes;
    size_t n_texts = t->charsmap_bytes - 4 - bytes;
    for (size_t at = 0; at < p->length;) {
        uint32_t value = 0;
        size_t n = charsmap_longest(units, bytes / 4, p->text + at, p->length - at, &value);
        const char *to = n && value < n_texts ? texts + value : p->text + at;
        const char *end = n && value < n_texts ? memchr(to, 0, n_texts - value) : to + 1;
        if (!put(&g, to, end ? (size_t)(end - to) : 0)) return no_memory(e);
        at += n ? n : 1;
    }
    if (!put(&g, "", 0)) return no_memory(e);
    take(p, &g);
    return STRAND_OK;
}

/* ---- cuts ---- */

typedef struct cutting {
    pieces *out;
    const step *s;
    size_t at, begun; /* of the piece; what is not given out yet begins at `begun` */
    bool inside;      /* SPLIT_CONTIGUOUS: the last match ends at `begun`, still open */
    size_t open;
} cutting;

static bool cut_match(void *user, size_t from, size_t to) {
    cutting *c = user;
    bool fine = true;
    if (from == to) return true;
    switch (c->s->how) {
    case SPLIT_ISOLATED:
        fine = pieces_add(c->out, c->at + c->begun, from - c->begun) && pieces_add(c->out, c->at + from, to - from);
        c->begun = to;
        break;
    case SPLIT_REMOVED:
        fine =
            c->s->invert ? pieces_add(c->out, c->at + from, to - from) : pieces_add(c->out, c->at + c->begun, from - c->begun);
        c->begun = to;
        break;
    case SPLIT_PREVIOUS:
        fine = pieces_add(c->out, c->at + c->begun, to - c->begun);
        c->begun = to;
        break;
    case SPLIT_NEXT:
        fine = pieces_add(c->out, c->at + c->begun, from - c->begun);
        c->begun = from;
        break;
    case SPLIT_CONTIGUOUS:
        if (c->inside && from == c->begun) {
            c->out->list[c->out->n - 1].length += to - from;
        } else {
            fine = pieces_add(c->out, c->at + c->begun, from - c->begun) && pieces_add(c->out, c->at + from, to - from);
        }
        c->inside = true;
        c->begun = to;
        break;
    }
    return fine;
}

static strand_status split(const step *s, pieces *p, error *e) {
    piece all = {0, p->length};
    const piece *list = p->list ? p->list : &all;
    size_t n = p->list ? p->n : 1;
    pieces out = {.scratch = p->scratch, .text = p->text, .length = p->length};
    out.list = ARENA_ARRAY(p->scratch, piece, 64);
    out.room = 64;
    if (!out.list) return no_memory(e);
    for (size_t i = 0; i < n; i++) {
        cutting c = {.out = &out, .s = s, .at = list[i].at};
        strand_status status = pattern_each(s, p->text + list[i].at, list[i].length, cut_match, &c, e);
        if (status) return status;
        bool rest = !(s->how == SPLIT_REMOVED && s->invert);
        if (rest && !pieces_add(&out, c.at + c.begun, list[i].length - c.begun)) return no_memory(e);
    }
    *p = out;
    return STRAND_OK;
}

/* U+2581 becomes a space, one stands before, and each begins a piece. */
static strand_status metaspace(const step *s, pieces *p, bool first, error *e) {
    piece all = {0, p->length};
    const piece *list = p->list ? p->list : &all;
    size_t n = p->list ? p->n : 1;
    grown g = {.a = p->scratch};
    pieces out = {.scratch = p->scratch};
    bool fine = true;
    for (size_t i = 0; fine && i < n; i++) {
        const char *text = p->text + list[i].at;
        size_t begun = g.n, length = list[i].length;
        bool has = length && (text[0] == ' ' || (length >= 3 && !memcmp(text, block, 3)));
        if (s->prepend && length && !has && (!s->first_only || (first && i == 0))) fine = put(&g, " ", 1);
        fine = fine && replace_text(&g, text, length, block, 3, " ", 1);
        for (size_t at = begun + 1; fine && s->split && at < g.n; at++) {
            if (g.text[at] != ' ') continue;
            fine = pieces_add(&out, begun, at - begun);
            begun = at;
        }
        fine = fine && pieces_add(&out, begun, g.n - begun);
    }
    if (!fine || !put(&g, "", 0)) return no_memory(e);
    out.text = g.text;
    out.length = g.n;
    if (!out.list && !(out.list = ARENA_ARRAY(p->scratch, piece, 1))) return no_memory(e);
    *p = out;
    return STRAND_OK;
}

static strand_status prepend(const step *s, pieces *p, error *e) {
    grown g = {.a = p->scratch};
    if (!p->length || p->list || (s->kind == STEP_PREFIX_SPACE && white(p->text[0]))) return STRAND_OK;
    if (!put(&g, s->to, s->n_to) || !put(&g, p->text, p->length)) return no_memory(e);
    take(p, &g);
    return STRAND_OK;
}

static strand_status one(const text_tokenizer *t, const step *s, pieces *p, bool first, error *e) {
    grown g = {.a = p->scratch};
    switch (s->kind) {
    case STEP_REPLACE:
        if (!replace_text(&g, p->text, p->length, s->from, s->n_from, s->to, s->n_to)) return no_memory(e);
        take(p, &g);
        return STRAND_OK;
    case STEP_REPLACE_PATTERN:
        return replace_pattern(s, p, e);
    case STEP_PREPEND:
    case STEP_PREFIX_SPACE:
        return prepend(s, p, e);
    case STEP_STRIP:
        strip(s, p);
        return STRAND_OK;
    case STEP_SQUEEZE:
        squeeze(p);
        return STRAND_OK;
    case STEP_CHARSMAP:
        return charsmap(t, p, e);
    case STEP_SPLIT:
        return split(s, p, e);
    case STEP_METASPACE:
        return metaspace(s, p, first, e);
    default:
        return unicode_step(s, p, e);
    }
}

strand_status steps_run(const text_tokenizer *t, pieces *p, bool first, error *e) {
    for (int i = 0; i < t->n_steps; i++) {
        strand_status status = one(t, &t->steps[i], p, first, e);
        if (status) return status;
    }
    if (p->list || (!t->space_prefix && !t->escape)) return STRAND_OK;
    grown g = {.a = p->scratch};
    if (t->space_prefix && p->length && !put(&g, " ", 1)) return no_memory(e);
    if (!replace_text(&g, p->text, p->length, block, t->escape ? 3 : 0, " ", 1)) return no_memory(e);
    take(p, &g);
    return STRAND_OK;
}

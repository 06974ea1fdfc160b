/* grammar.c - GBNF: the parser makes rules of elements, the matcher follows every way that the text may take at once.
 *
 * A way is a stack of elements that are still to come, kept as a list of nodes that ways share. Between characters every way has
 * a class of characters on top, or is empty (the text may end). To ask about a token is to follow its characters and forget what
 * was made. The bounds (elements, nodes, ways, depth) make left recursion and explosive grammars an error, never a hang. */
#include "grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RULES 16384
#define MAX_ELEMENTS 262144
#define MAX_RANGES 262144
#define MAX_REPEAT 2000
#define MAX_NESTING 128
#define MAX_NODES 1000000
#define MAX_WAYS 4096
#define MAX_DEPTH 2048
#define MAX_TEXT ((size_t)1 << 20)

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

/* ---- parsing ---- */

typedef struct parser {
    grammar *g;
    const char *text, *at, *end;
    char *why;
    size_t why_size;
    int depth, bad;
} parser;

typedef struct list {
    element *items;
    uint32_t n, room;
} list;

static int fail(parser *p, const char *what) {
    if (!p->bad) {
        int line = 1;
        for (const char *c = p->text; c < p->at; c++) line += *c == '\n';
        snprintf(p->why, p->why_size, "grammar, line %d: %s", line, what);
    }
    p->bad = 1;
    return -1;
}

static int grow(void **items, uint32_t *room, uint32_t n, size_t size) {
    if (n < *room) return 0;
    uint32_t more = *room ? 2 * *room : 64;
    void *block = realloc(*items, more * size);
    if (!block) return -1;
    *items = block;
    *room = more;
    return 0;
}

static int add(parser *p, list *l, element x) {
    if (l->n >= MAX_ELEMENTS || grow((void **)&l->items, &l->room, l->n, sizeof x)) return fail(p, "too large");
    l->items[l->n++] = x;
    return 0;
}

static uint32_t new_rule(parser *p, const char *name, size_t n) {
    grammar *g = p->g;
    if (g->n_rules >= MAX_RULES || grow((void **)&g->rules, &g->rule_room, g->n_rules, sizeof *g->rules)) return fail(p, "too many rules"), 0;
    char *copy = name ? malloc(n + 1) : NULL;
    if (name && !copy) return fail(p, "out of memory"), 0;
    if (name) memcpy(copy, name, n), copy[n] = 0;
    g->rules[g->n_rules] = (rule){copy, 0, 0};
    return g->n_rules++;
}

static uint32_t find_rule(parser *p, const char *name, size_t n) {
    for (uint32_t i = 0; i < p->g->n_rules; i++)
        if (p->g->rules[i].name && strlen(p->g->rules[i].name) == n && !memcmp(p->g->rules[i].name, name, n)) return i;
    return new_rule(p, name, n);
}

/* The elements of a rule, from a list that is emptied. */
static int define(parser *p, uint32_t number, list *l) {
    grammar *g = p->g;
    if (add(p, l, (element){.kind = END})) return -1;
    if (g->n_elements + (uint64_t)l->n > MAX_ELEMENTS) return fail(p, "too large");
    g->rules[number].first = g->n_elements;
    g->rules[number].defined = 1;
    for (uint32_t i = 0; i < l->n; i++) {
        if (grow((void **)&g->elements, &g->element_room, g->n_elements, sizeof *g->elements)) return fail(p, "out of memory");
        g->elements[g->n_elements++] = l->items[i];
    }
    l->n = 0;
    return 0;
}

static void space(parser *p, int lines) {
    while (p->at < p->end) {
        if (*p->at == '#') {
            while (p->at < p->end && *p->at != '\n' && *p->at != '\r') p->at++;
        } else if (*p->at == ' ' || *p->at == '\t' || (lines && (*p->at == '\n' || *p->at == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

static int name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes of a character's UTF-8 by its first byte; 0: none. */
static int utf8_bytes(unsigned char c) {
    return c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
}

static int character(parser *p, uint32_t *c) {
    if (p->at >= p->end) return fail(p, "ends within quotes or brackets");
    if (*p->at != '\\') {
        int n = utf8_bytes((unsigned char)*p->at);
        if (!n || n > p->end - p->at) return fail(p, "not UTF-8");
        *c = n == 1 ? (unsigned char)*p->at : (unsigned char)*p->at & (0xFFu >> (n + 1));
        for (int i = 1; i < n; i++) *c = *c << 6 | ((unsigned char)p->at[i] & 63);
        p->at += n;
        return 0;
    }
    if (p->end - p->at < 2) return fail(p, "ends within an escape");
    char kind = p->at[1];
    int digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    p->at += 2;
    *c = kind == 'n' ? '\n' : kind == 'r' ? '\r' : kind == 't' ? '\t' : (unsigned char)kind;
    if (!digits) return kind && strchr("nrt\\\"[]-^.'/", kind) ? 0 : fail(p, "an unknown escape");
    *c = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        if (p->at >= p->end || hex(*p->at) < 0) return fail(p, "an escape without its digits");
        *c = *c << 4 | (uint32_t)hex(*p->at);
    }
    return *c <= 0x10FFFF ? 0 : fail(p, "a character beyond U+10FFFF");
}

static int add_range(parser *p, uint32_t low, uint32_t high) {
    grammar *g = p->g;
    if (g->n_ranges >= MAX_RANGES || grow((void **)&g->ranges, &g->range_room, g->n_ranges, sizeof *g->ranges)) return fail(p, "too large");
    g->ranges[g->n_ranges++] = (range){low, high};
    return 0;
}

static int quoted(parser *p, list *l) {
    for (p->at++; p->at < p->end && *p->at != '"';) {
        uint32_t c, first = p->g->n_ranges;
        if (character(p, &c) || add_range(p, c, c) || add(p, l, (element){CLASS, 0, first, 1})) return -1;
    }
    if (p->at >= p->end) return fail(p, "quotes that are not closed");
    p->at++;
    return 0;
}

static int bracket(parser *p, list *l) {
    element x = {.kind = CLASS, .value = p->g->n_ranges};
    p->at++;
    if (p->at < p->end && *p->at == '^') x.negated = 1, p->at++;
    while (p->at < p->end && *p->at != ']') {
        uint32_t low, high;
        if (character(p, &low)) return -1;
        high = low;
        if (p->end - p->at > 1 && *p->at == '-' && p->at[1] != ']') {
            p->at++;
            if (character(p, &high)) return -1;
        }
        if (high < low) return fail(p, "a range that ends before it begins");
        if (add_range(p, low, high)) return -1;
        x.count++;
    }
    if (p->at >= p->end) return fail(p, "brackets that are not closed");
    p->at++;
    return add(p, l, x);
}

static int alternatives(parser *p, list *l, int lines);

static int group(parser *p, list *l) {
    list inner = {0};
    p->at++;
    uint32_t number = new_rule(p, NULL, 0);
    int bad = p->bad || ++p->depth > MAX_NESTING ? fail(p, "groups nested too deep") : alternatives(p, &inner, 1);
    p->depth--;
    if (!bad && (p->at >= p->end || *p->at != ')')) bad = fail(p, "a group that is not closed");
    if (!bad) p->at++, bad = define(p, number, &inner) || add(p, l, (element){RULE, 0, number, 0});
    free(inner.items);
    return bad ? -1 : 0;
}

static int number(parser *p, int64_t *out) {
    const char *from = p->at;
    for (*out = 0; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
        *out = *out * 10 + (*p->at - '0');
        if (*out > MAX_REPEAT) return fail(p, "repeated more than 2000 times");
    }
    return p->at > from ? 1 : 0;
}

/* The item in l from `from` on, as a rule of its own, once. */
static int as_rule(parser *p, list *l, uint32_t from, element *out) {
    list inner = {0};
    uint32_t number = new_rule(p, NULL, 0);
    int bad = p->bad;
    for (uint32_t i = from; i < l->n && !bad; i++) bad = add(p, &inner, l->items[i]);
    if (!bad) bad = define(p, number, &inner);
    free(inner.items);
    l->n = from;
    *out = (element){RULE, 0, number, 0};
    return bad ? -1 : 0;
}

/* item{least,most}; most -1: without end. */
static int repeat(parser *p, list *l, uint32_t from, int64_t least, int64_t most) {
    element item, rest = {0};
    list inner = {0};
    if (l->n == from) return fail(p, "nothing stands before a repetition");
    if (most >= 0 && most < least) return fail(p, "a repetition that ends before it begins");
    if (as_rule(p, l, from, &item)) return -1;
    int bad = 0, have = 0;
    if (most < 0) { /* R ::= item R | */
        uint32_t number = new_rule(p, NULL, 0);
        rest = (element){RULE, 0, number, 0};
        bad = p->bad || add(p, &inner, item) || add(p, &inner, rest) || add(p, &inner, (element){.kind = ALTERNATIVE}) || define(p, number, &inner);
        have = 1;
    }
    for (int64_t i = least; i < most && !bad; i++) { /* R ::= item R' | */
        uint32_t number = new_rule(p, NULL, 0);
        bad = p->bad || add(p, &inner, item) || (have && add(p, &inner, rest)) || add(p, &inner, (element){.kind = ALTERNATIVE}) || define(p, number, &inner);
        rest = (element){RULE, 0, number, 0};
        have = 1;
    }
    for (int64_t i = 0; i < least && !bad; i++) bad = add(p, l, item);
    if (!bad && have) bad = add(p, l, rest);
    free(inner.items);
    return bad ? -1 : 0;
}

static int braces(parser *p, list *l, uint32_t from) {
    int64_t least, most;
    p->at++;
    space(p, 0);
    if (number(p, &least) != 1) return fail(p, "a repetition without its number");
    most = least;
    space(p, 0);
    if (p->at < p->end && *p->at == ',') {
        p->at++;
        space(p, 0);
        int got = number(p, &most);
        if (got < 0) return -1;
        if (!got) most = -1;
        space(p, 0);
    }
    if (p->at >= p->end || *p->at != '}') return fail(p, "braces that are not closed");
    p->at++;
    return repeat(p, l, from, least, most);
}

static int item(parser *p, list *l) {
    uint32_t from = l->n;
    char c = *p->at;
    int bad;
    if (c == '"') {
        bad = quoted(p, l);
    } else if (c == '[') {
        bad = bracket(p, l);
    } else if (c == '(') {
        bad = group(p, l);
    } else if (c == '.') {
        p->at++;
        bad = add(p, l, (element){CLASS, 1, p->g->n_ranges, 0});
    } else if (name_char(c)) {
        const char *name = p->at;
        while (p->at < p->end && name_char(*p->at)) p->at++;
        uint32_t number = find_rule(p, name, (size_t)(p->at - name));
        bad = p->bad || add(p, l, (element){RULE, 0, number, 0});
    } else {
        return fail(p, "neither quotes, brackets, a group nor a name");
    }
    while (!bad && p->at < p->end && *p->at && strchr("*+?{", *p->at)) {
        char how = *p->at;
        if (how == '{') {
            bad = braces(p, l, from);
        } else {
            p->at++;
            bad = repeat(p, l, from, how == '+', how == '?' ? 1 : -1);
        }
    }
    return bad ? -1 : 0;
}

/* Up to the end of the line, or of the group where `lines`. */
static int alternatives(parser *p, list *l, int lines) {
    for (;;) {
        space(p, lines);
        if (p->at >= p->end || *p->at == ')' || *p->at == '\n' || *p->at == '\r') return 0;
        if (*p->at == '|') {
            p->at++;
            space(p, 1);
            if (add(p, l, (element){.kind = ALTERNATIVE})) return -1;
            if (p->at < p->end && *p->at != '|' && *p->at != ')' && item(p, l)) return -1;
            continue;
        }
        if (item(p, l)) return -1;
    }
}

static int one_rule(parser *p) {
    const char *name = p->at;
    list l = {0};
    while (p->at < p->end && name_char(*p->at)) p->at++;
    if (p->at == name) return fail(p, "a rule must begin with its name");
    uint32_t number = find_rule(p, name, (size_t)(p->at - name));
    space(p, 0);
    if (p->bad) return -1;
    if (p->end - p->at < 3 || memcmp(p->at, "::=", 3)) return fail(p, "'::=' must follow a rule's name");
    if (p->g->rules[number].defined) return fail(p, "a rule that was there before");
    p->at += 3;
    space(p, 1);
    int bad = alternatives(p, &l, 0);
    if (!bad && p->at < p->end && *p->at == ')') bad = fail(p, "a ')' without its '('");
    if (!bad) bad = define(p, number, &l);
    free(l.items);
    return bad ? -1 : 0;
}

grammar *grammar_parse(const char *text, size_t n, char *why, size_t why_size) {
    grammar *g = calloc(1, sizeof *g);
    parser p = {g, text, text, text + n, why, why_size, 0, 0};
    if (!g) return snprintf(why, why_size, "out of memory"), NULL;
    if (n > MAX_TEXT) fail(&p, "longer than 1 MiB");
    for (space(&p, 1); !p.bad && p.at < p.end; space(&p, 1)) one_rule(&p);
    uint32_t root = UINT32_MAX;
    for (uint32_t i = 0; i < g->n_rules && !p.bad; i++) {
        if (!g->rules[i].defined) snprintf(why, why_size, "grammar: the rule '%.60s' is used and not there", g->rules[i].name), p.bad = 1;
        if (g->rules[i].name && !strcmp(g->rules[i].name, "root")) root = i;
    }
    if (!p.bad && root == UINT32_MAX) snprintf(why, why_size, "grammar: no rule 'root'"), p.bad = 1;
    g->root = root;
    if (!p.bad) return g;
    grammar_free(g);
    return NULL;
}

void grammar_free(grammar *g) {
    if (!g) return;
    for (uint32_t i = 0; i < g->n_rules; i++) free(g->rules[i].name);
    free(g->rules);
    free(g->elements);
    free(g->ranges);
    free(g);
}

/* ---- matching ---- */

#define NOTHING UINT32_MAX

#define BUCKETS 16384

/* Nodes are unique: two ways with the same elements to come are the same node. */
typedef struct node {
    uint32_t element; /* that is to come */
    uint32_t below;   /* node, NOTHING */
    uint32_t depth;
    uint32_t chain;   /* the next node of its bucket, which is older */
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
    if (depth > MAX_DEPTH || s->n_nodes >= MAX_NODES || grow((void **)&s->nodes, &s->node_room, s->n_nodes, sizeof *s->nodes)) return NOTHING;
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

/* From the element `at` on, above `below`: every way to the next character, with an explicit list instead of recursion. Of one search:
 * s->search and *ended are the caller's. */
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
                if (start == NOTHING || s->spare.n >= MAX_WAYS * 4u || grow((void **)&s->spare.tops, &s->spare.room, s->spare.n, sizeof *s->spare.tops)) return -1;
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

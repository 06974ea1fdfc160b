/* grammar_parse.c - GBNF to rules of elements. See grammar.h. Repetitions and groups become rules of their own; sizes and
 * nesting are bounded, and the first thing that is wrong is named with its line. */
#include "grammar_tree.h"

#include <stdio.h>
#include <string.h>

#define MAX_RULES    16384
#define MAX_ELEMENTS 262144
#define MAX_RANGES   262144
#define MAX_REPEAT   2000
#define MAX_NESTING  128
#define MAX_TEXT     ((size_t)1 << 20)

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

static int add(parser *p, list *l, element x) {
    if (l->n >= MAX_ELEMENTS || grow((void **)&l->items, &l->room, l->n, sizeof x)) return fail(p, "too large");
    l->items[l->n++] = x;
    return 0;
}

static uint32_t new_rule(parser *p, const char *name, size_t n) {
    grammar *g = p->g;
    if (g->n_rules >= MAX_RULES || grow((void **)&g->rules, &g->rule_room, g->n_rules, sizeof *g->rules))
        return fail(p, "too many rules"), 0;
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
    if (g->n_ranges >= MAX_RANGES || grow((void **)&g->ranges, &g->range_room, g->n_ranges, sizeof *g->ranges))
        return fail(p, "too large");
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
        bad = p->bad || add(p, &inner, item) || add(p, &inner, rest) || add(p, &inner, (element){.kind = ALTERNATIVE}) ||
              define(p, number, &inner);
        have = 1;
    }
    for (int64_t i = least; i < most && !bad; i++) { /* R ::= item R' | */
        uint32_t number = new_rule(p, NULL, 0);
        bad = p->bad || add(p, &inner, item) || (have && add(p, &inner, rest)) ||
              add(p, &inner, (element){.kind = ALTERNATIVE}) || define(p, number, &inner);
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
        if (!g->rules[i].defined)
            snprintf(why, why_size, "grammar: the rule '%.60s' is used and not there", g->rules[i].name), p.bad = 1;
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

/* template_parse.c - the parser of chat templates: text, {{ }}, {% %} and {# #} to a tree. Whitespace is controlled as
 * Hugging Face's tools set Jinja: a newline after a block goes (trim_blocks), blanks before one at the start of a line go
 * (lstrip_blocks), and so does the template's last newline. Recursion is bounded by `depth`. */
#include "template_tree.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the pool ---- */

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

/* ---- the parser ---- */

typedef struct parser {
    pool *pool;
    const char *source, *at, *end;
    int depth;
    int trim; /* the next text loses its first newline (1) or all blanks (2) */
} parser;

static void wrong(parser *p, const char *what) {
    int line = 1;
    for (const char *c = p->source; c < p->at && c < p->end; c++) line += *c == '\n';
    pool_fail(p->pool, "chat template, line %d: %s", line, what);
}

static expr *expression(parser *p);

static expr *new_expr(parser *p, expr_kind kind) {
    expr *x = pool_get(p->pool, sizeof *x);
    x->kind = kind;
    return x;
}

static int blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static void skip(parser *p) {
    while (p->at < p->end && blank(*p->at)) p->at++;
}

/* The next characters, if they are these. */
static int take(parser *p, const char *text) {
    size_t n = strlen(text);
    skip(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n)) return 0;
    p->at += n;
    return 1;
}

static span peek_word(parser *p) {
    skip(p);
    const char *stop = p->at;
    while (stop < p->end && (letter(*stop) || (stop > p->at && *stop >= '0' && *stop <= '9'))) stop++;
    return (span){p->at, (size_t)(stop - p->at)};
}

static int is(span s, const char *text) {
    return s.n == strlen(text) && !memcmp(s.at, text, s.n);
}

static int take_word(parser *p, const char *text) {
    span s = peek_word(p);
    if (!is(s, text)) return 0;
    p->at += s.n;
    return 1;
}

static span name(parser *p) {
    span s = peek_word(p);
    if (!s.n) wrong(p, "a name is missing");
    p->at += s.n;
    return s;
}

static void need(parser *p, const char *text) {
    if (!take(p, text) && !p->pool->bad) {
        char what[64];
        snprintf(what, sizeof what, "'%s' is missing", text);
        wrong(p, what);
    }
}

static expr *text_literal(parser *p) {
    char quote = *p->at++;
    const char *stop = p->at;
    while (stop < p->end && *stop != quote) stop += *stop == '\\' && stop + 1 < p->end ? 2 : 1;
    if (stop >= p->end) return wrong(p, "quotes that are not closed"), new_expr(p, E_NONE);
    expr *x = new_expr(p, E_TEXT);
    char *out = pool_get(p->pool, (size_t)(stop - p->at) + 1);
    if (p->pool->bad) return x;
    x->name.at = out;
    for (; p->at < stop; p->at++) {
        char c = *p->at;
        if (c == '\\') {
            static const char from[] = "nrtbf0", to[] = "\n\r\t\b\f";
            const char *known = *++p->at ? strchr(from, *p->at) : NULL;
            c = known ? to[known - from] : *p->at;
        }
        *out++ = c;
    }
    x->name.n = (size_t)(out - x->name.at);
    p->at = stop + 1;
    return x;
}

static expr *number_literal(parser *p) {
    char copy[40], *stop;
    size_t n = 0;
    int real = 0;
    while (p->at < p->end && n + 1 < sizeof copy &&
           ((*p->at >= '0' && *p->at <= '9') || *p->at == '_' ||
            (*p->at == '.' && p->end - p->at > 1 && p->at[1] >= '0' && p->at[1] <= '9'))) {
        real |= *p->at == '.';
        if (*p->at != '_') copy[n++] = *p->at;
        p->at++;
    }
    copy[n] = 0;
    expr *x = new_expr(p, real ? E_NUMBER : E_INTEGER);
    x->number = strtod(copy, &stop);
    x->integer = x->number < 9e18 ? (int64_t)strtoll(copy, NULL, 10) : 0;
    return x;
}

/* Items up to `close`; pairs for a dict; keywords for a call. */
static expr *items(parser *p, const char *close, int pairs, int keywords) {
    expr *first = NULL, **last = &first;
    while (!p->pool->bad && !take(p, close)) {
        span key = {0};
        if (keywords) {
            const char *before = p->at;
            key = peek_word(p);
            p->at += key.n;
            skip(p);
            if (!key.n || p->at >= p->end || *p->at != '=' || (p->end - p->at > 1 && p->at[1] == '='))
                p->at = before, key.n = 0;
            else
                p->at++;
        }
        expr *x = expression(p);
        if (key.n) { /* kept apart from the value, which may use `name` itself */
            expr *argument = new_expr(p, E_LIST);
            argument->keyword = 1;
            argument->name = key;
            argument->a = x;
            x = argument;
        } else if (keywords) {
            expr *argument = new_expr(p, E_LIST);
            argument->a = x;
            x = argument;
        } else {
            expr *item = new_expr(p, E_LIST);
            item->a = x;
            x = item;
        }
        *last = x;
        last = &x->next;
        if (pairs) {
            need(p, ":");
            x->b = expression(p);
        }
        if (!take(p, ",")) {
            need(p, close);
            break;
        }
    }
    return first;
}

static expr *primary(parser *p) {
    skip(p);
    if (p->at >= p->end) return wrong(p, "an expression is missing"), new_expr(p, E_NONE);
    char c = *p->at;
    if (c == '\'' || c == '"') {
        expr *x = text_literal(p);
        for (skip(p); !p->pool->bad && p->at < p->end && (*p->at == '\'' || *p->at == '"');
             skip(p)) { /* texts beside each other are one */
            expr *more = new_expr(p, E_CONCAT);
            more->a = x;
            more->b = text_literal(p);
            x = more;
        }
        return x;
    }
    if (c >= '0' && c <= '9') return number_literal(p);
    if (take(p, "[")) {
        expr *x = new_expr(p, E_LIST);
        x->items = items(p, "]", 0, 0);
        return x;
    }
    if (take(p, "{")) {
        expr *x = new_expr(p, E_DICT);
        x->items = items(p, "}", 1, 0);
        return x;
    }
    if (take(p, "(")) {
        expr *x = expression(p);
        if (take(p, ",")) { /* a tuple */
            expr *list = new_expr(p, E_LIST), *item = new_expr(p, E_LIST);
            item->a = x;
            item->next = items(p, ")", 0, 0);
            list->items = item;
            return list;
        }
        need(p, ")");
        return x;
    }
    span s = peek_word(p);
    if (!s.n) return wrong(p, "no expression"), new_expr(p, E_NONE);
    p->at += s.n;
    if (is(s, "true") || is(s, "True")) return new_expr(p, E_TRUE);
    if (is(s, "false") || is(s, "False")) return new_expr(p, E_FALSE);
    if (is(s, "none") || is(s, "None")) return new_expr(p, E_NONE);
    expr *x = new_expr(p, E_NAME);
    x->name = s;
    return x;
}

static expr *subscript(parser *p, expr *x) {
    expr *y = new_expr(p, E_INDEX), *step = NULL;
    y->a = x;
    skip(p);
    if (p->at < p->end && *p->at != ':') y->b = expression(p);
    if (take(p, ":")) {
        y->kind = E_SLICE;
        skip(p);
        if (p->at < p->end && *p->at != ']' && *p->at != ':') y->c = expression(p);
        if (take(p, ":")) {
            skip(p);
            if (p->at < p->end && *p->at != ']') step = expression(p);
        }
        y->items = step;
    }
    need(p, "]");
    return y;
}

static expr *postfix(parser *p, expr *x) {
    while (!p->pool->bad) {
        skip(p);
        if (p->at < p->end && *p->at == '.') {
            p->at++;
            expr *y = new_expr(p, E_ATTRIBUTE);
            y->a = x;
            y->name = name(p);
            x = y;
        } else if (take(p, "[")) {
            x = subscript(p, x);
        } else if (take(p, "(")) {
            expr *y = new_expr(p, E_CALL);
            y->a = x;
            y->items = items(p, ")", 0, 1);
            x = y;
        } else {
            return x;
        }
    }
    return x;
}

/* Can an argument of a test without parentheses begin here ("is divisibleby 2", "is eq 'a'")? */
static int test_argument(parser *p) {
    skip(p);
    if (p->at >= p->end) return 0;
    if (*p->at == '\'' || *p->at == '"' || *p->at == '[' || (*p->at >= '0' && *p->at <= '9')) return 1;
    span s = peek_word(p);
    return s.n && !is(s, "and") && !is(s, "or") && !is(s, "not") && !is(s, "if") && !is(s, "else") && !is(s, "is") &&
           !is(s, "in");
}

static expr *filters(parser *p, expr *x) {
    while (!p->pool->bad) {
        skip(p);
        if (p->at < p->end && *p->at == '|') {
            p->at++;
            expr *y = new_expr(p, E_FILTER);
            y->a = x;
            y->name = name(p);
            if (take(p, "(")) y->items = items(p, ")", 0, 1);
            x = postfix(p, y);
        } else if (take_word(p, "is")) {
            expr *y = new_expr(p, take_word(p, "not") ? E_NOT_TEST : E_TEST);
            y->a = x;
            y->name = name(p);
            if (take(p, "(")) {
                y->items = items(p, ")", 0, 1);
            } else if (test_argument(p)) {
                y->items = new_expr(p, E_LIST);
                y->items->a = postfix(p, primary(p));
            }
            x = y;
        } else {
            return x;
        }
    }
    return x;
}

static expr *unary(parser *p) {
    skip(p);
    if (++p->depth > TEMPLATE_MAX_DEPTH) wrong(p, "nested too deep");
    expr *x;
    if (p->pool->bad) {
        x = new_expr(p, E_NONE);
    } else if (take(p, "-")) {
        x = new_expr(p, E_MINUS);
        x->a = unary(p);
    } else {
        take(p, "+");
        x = postfix(p, primary(p));
        if (p->at + 1 < p->end && (skip(p), p->at + 1 < p->end) && p->at[0] == '*' && p->at[1] == '*') {
            p->at += 2;
            expr *y = new_expr(p, E_POWER);
            y->a = x;
            y->b = unary(p);
            x = y;
        }
        x = filters(p, x);
    }
    p->depth--;
    return x;
}

static expr *binary(parser *p, int level);

/* An operator of this level at hand, and not the end of a tag. */
static int operator_here(parser *p, int level, expr_kind *kind) {
    skip(p);
    if (p->end - p->at < 1) return 0;
    char c = p->at[0], d = p->end - p->at > 1 ? p->at[1] : 0;
    int n = 1;
    if (level == 0) { /* comparisons */
        if (c == '=' && d == '=')
            *kind = E_EQ, n = 2;
        else if (c == '!' && d == '=')
            *kind = E_NE, n = 2;
        else if (c == '<' || c == '>')
            *kind = c == '<' ? (d == '=' ? E_LE : E_LT) : d == '=' ? E_GE : E_GT, n = d == '=' ? 2 : 1;
        else if (take_word(p, "in"))
            return *kind = E_IN, 1;
        else {
            const char *before = p->at;
            if (take_word(p, "not") && take_word(p, "in")) return *kind = E_NOT_IN, 1;
            p->at = before;
            return 0;
        }
    } else if (level == 1) {
        if ((c != '+' && c != '-') || d == '}' || d == '%') return 0;
        *kind = c == '+' ? E_ADD : E_SUB;
    } else if (level == 2) {
        if (c != '~') return 0;
        *kind = E_CONCAT;
    } else {
        if ((c != '*' && c != '/' && c != '%') || (c == '%' && d == '}')) return 0;
        *kind = c == '*' ? E_MUL : c == '%' ? E_MOD : d == '/' ? E_FLOOR : E_DIV;
        n = *kind == E_FLOOR ? 2 : 1;
    }
    p->at += n;
    return 1;
}

static expr *binary(parser *p, int level) {
    if (level == 4) return unary(p);
    expr *x = binary(p, level + 1);
    expr_kind kind;
    while (!p->pool->bad && operator_here(p, level, &kind)) {
        expr *y = new_expr(p, kind);
        y->a = x;
        y->b = binary(p, level + 1);
        x = y;
    }
    return x;
}

static expr *negation(parser *p) {
    if (!take_word(p, "not")) return binary(p, 0);
    if (++p->depth > TEMPLATE_MAX_DEPTH) wrong(p, "nested too deep");
    expr *x = new_expr(p, E_NOT);
    if (!p->pool->bad) x->a = negation(p);
    p->depth--;
    return x;
}

static expr *logical(parser *p, int any) {
    expr *x = any ? logical(p, 0) : negation(p);
    while (!p->pool->bad && take_word(p, any ? "or" : "and")) {
        expr *y = new_expr(p, any ? E_OR : E_AND);
        y->a = x;
        y->b = any ? logical(p, 0) : negation(p);
        x = y;
    }
    return x;
}

static expr *expression(parser *p) {
    if (++p->depth > TEMPLATE_MAX_DEPTH) wrong(p, "nested too deep");
    expr *x = p->pool->bad ? new_expr(p, E_NONE) : logical(p, 1);
    while (!p->pool->bad && take_word(p, "if")) {
        expr *y = new_expr(p, E_CHOICE);
        y->a = x;
        y->b = logical(p, 1);
        if (take_word(p, "else")) y->c = expression(p);
        x = y;
    }
    p->depth--;
    return x;
}

/* ---- statements ---- */

static node *new_node(parser *p, node_kind kind) {
    node *x = pool_get(p->pool, sizeof *x);
    x->kind = kind;
    return x;
}

/* The end of a tag, and what its '-' takes from the text behind. */
static void close_tag(parser *p, const char *close) {
    skip(p);
    int dash = p->at < p->end && (*p->at == '-' || *p->at == '+') ? *p->at : 0;
    if (dash) p->at++;
    need(p, close);
    p->trim = dash == '-' ? 2 : *close == '%' && dash != '+' ? 1 : 0;
}

static span text_before(parser *p) {
    const char *from = p->at, *stop = from;
    if (p->trim == 2)
        while (from < p->end && blank(*from)) from++;
    if (p->trim == 1 && from < p->end && *from == '\r') from++;
    if (p->trim == 1 && from < p->end && *from == '\n') from++;
    p->trim = 0;
    for (stop = from; stop < p->end; stop++)
        if (*stop == '{' && p->end - stop > 1 && strchr("{%#", stop[1]) && stop[1]) break;
    p->at = stop;
    if (stop < p->end) {
        char kind = stop[1], mark = p->end - stop > 2 ? stop[2] : 0;
        const char *cut = stop;
        if (mark == '-') {
            while (cut > from && blank(cut[-1])) cut--;
            stop = cut;
        } else if (kind != '{' && mark != '+') { /* blanks between the line's start and a block */
            while (cut > from && (cut[-1] == ' ' || cut[-1] == '\t')) cut--;
            if (cut == p->source || cut[-1] == '\n') stop = cut;
        }
    }
    return (span){from, (size_t)(stop - from)};
}

static node *statements(parser *p, const char *const *ends, span *ended);

static node *if_statement(parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    node *x = new_node(p, N_IF);
    span by = {0};
    x->value = expression(p);
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    if (p->pool->bad) return x;
    if (is(by, "elif")) {
        if (++p->depth > TEMPLATE_MAX_DEPTH) wrong(p, "too many elif");
        if (!p->pool->bad) x->other = if_statement(p);
        p->depth--;
        return x;
    }
    close_tag(p, "%}");
    if (is(by, "else")) {
        x->other = statements(p, last, &by);
        close_tag(p, "%}");
    }
    return x;
}

static node *for_statement(parser *p) {
    static const char *const ends[] = {"else", "endfor", NULL};
    static const char *const last[] = {"endfor", NULL};
    node *x = new_node(p, N_FOR);
    span by = {0};
    take(p, "(");
    do {
        if (x->n_targets == 4) wrong(p, "more than 4 names in a for");
        if (!p->pool->bad) x->targets[x->n_targets++] = name(p);
    } while (!p->pool->bad && take(p, ","));
    take(p, ")");
    if (!take_word(p, "in")) wrong(p, "'in' is missing");
    x->value = logical(p, 1);
    if (take_word(p, "if")) x->filter = logical(p, 1);
    take_word(p, "recursive");
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    if (p->pool->bad) return x;
    close_tag(p, "%}");
    if (is(by, "else")) {
        x->other = statements(p, last, &by);
        close_tag(p, "%}");
    }
    return x;
}

static node *set_statement(parser *p) {
    static const char *const ends[] = {"endset", NULL};
    node *x = new_node(p, N_SET);
    span by;
    x->text = name(p);
    if (take(p, ".")) x->attribute = name(p);
    if (take(p, "=")) {
        x->value = expression(p);
        if (take(p, ",")) { /* a tuple */
            expr *list = new_expr(p, E_LIST), *item = new_expr(p, E_LIST), *more = new_expr(p, E_LIST);
            item->a = x->value;
            more->a = expression(p);
            item->next = more;
            list->items = item;
            x->value = list;
        }
        close_tag(p, "%}");
        return x;
    }
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    close_tag(p, "%}");
    return x;
}

static node *macro_statement(parser *p) {
    static const char *const ends[] = {"endmacro", NULL};
    node *x = new_node(p, N_MACRO);
    span by;
    expr **last = &x->parameters;
    x->text = name(p);
    need(p, "(");
    while (!p->pool->bad && !take(p, ")")) {
        expr *parameter = new_expr(p, E_NAME);
        parameter->name = name(p);
        if (take(p, "=")) parameter->a = expression(p);
        *last = parameter;
        last = &parameter->next;
        if (!take(p, ",")) {
            need(p, ")");
            break;
        }
    }
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    close_tag(p, "%}");
    return x;
}

/* What {% generation %} and {% filter ... %} hold. */
static node *block_statement(parser *p, const char *end, int filter) {
    const char *const ends[] = {end, NULL};
    node *x = new_node(p, N_FILTER);
    span by;
    if (filter) {
        expr *hole = new_expr(p, E_NAME);
        hole->name = (span){"", 0};
        x->value = new_expr(p, E_FILTER);
        x->value->a = hole;
        x->value->name = name(p);
        if (take(p, "(")) x->value->items = items(p, ")", 0, 1);
        x->value = filters(p, x->value);
    }
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    close_tag(p, "%}");
    return x;
}

static node *block(parser *p, span word) {
    if (is(word, "if")) return if_statement(p);
    if (is(word, "for")) return for_statement(p);
    if (is(word, "set")) return set_statement(p);
    if (is(word, "macro")) return macro_statement(p);
    if (is(word, "generation")) return block_statement(p, "endgeneration", 0);
    if (is(word, "filter")) return block_statement(p, "endfilter", 1);
    if (is(word, "break") || is(word, "continue")) {
        node *x = new_node(p, is(word, "break") ? N_BREAK : N_CONTINUE);
        close_tag(p, "%}");
        return x;
    }
    char what[80];
    snprintf(what, sizeof what, "a block '%.*s' is not supported", (int)(word.n < 40 ? word.n : 40), word.at);
    wrong(p, what);
    return NULL;
}

static int skip_comment(parser *p) {
    const char *stop = p->at;
    while (p->end - stop >= 2 && memcmp(stop, "#}", 2)) stop++;
    if (p->end - stop < 2) return wrong(p, "a comment that is not closed"), -1;
    p->trim = stop > p->at && stop[-1] == '-' ? 2 : 1;
    p->at = stop + 2;
    return 0;
}

/* Up to the end, or to a block whose word is one of `ends` (*ended, without its tag's end). */
static node *statements(parser *p, const char *const *ends, span *ended) {
    node *first = NULL, **last = &first;
    if (++p->depth > TEMPLATE_MAX_DEPTH) wrong(p, "nested too deep");
    while (!p->pool->bad) {
        node *x = new_node(p, N_TEXT);
        x->text = text_before(p);
        if (x->text.n) *last = x, last = &x->next;
        if (p->at >= p->end) {
            if (ends) wrong(p, "a block that is not closed");
            break;
        }
        char kind = p->at[1];
        p->at += 2;
        if (kind != '#' && p->at < p->end && (*p->at == '-' || *p->at == '+')) p->at++;
        if (kind == '#') {
            if (skip_comment(p)) break;
            continue;
        }
        if (kind == '{') {
            x = new_node(p, N_OUT);
            x->value = expression(p);
            close_tag(p, "}}");
        } else {
            span word = name(p);
            for (int i = 0; ends && ends[i]; i++)
                if (is(word, ends[i])) return *ended = word, p->depth--, first;
            x = p->pool->bad ? NULL : block(p, word);
        }
        if (!x) break;
        *last = x;
        last = &x->next;
    }
    p->depth--;
    return first;
}

node *template_parse(pool *pool, const char *source, size_t n) {
    if (n && source[n - 1] == '\n') n--;
    parser p = {.pool = pool, .source = source, .at = source, .end = source + n};
    node *first = statements(&p, NULL, NULL);
    return pool->bad ? NULL : first;
}

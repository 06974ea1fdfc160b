/* template_expr.c - the words and expressions of chat templates: literals, names, calls, subscripts, filters, tests and
 * operators by their binding. Recursion is bounded by the parser's `depth`. */
#include "template_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void parse_wrong(parser *p, const char *what) {
    int line = 1;
    for (const char *c = p->source; c < p->at && c < p->end; c++) line += *c == '\n';
    pool_fail(p->pool, "chat template, line %d: %s", line, what);
}


expr *parse_new(parser *p, expr_kind kind) {
    expr *x = pool_get(p->pool, sizeof *x);
    x->kind = kind;
    return x;
}

int parse_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

void parse_skip(parser *p) {
    while (p->at < p->end && parse_blank(*p->at)) p->at++;
}

/* The next characters, if they are these. */
int parse_take(parser *p, const char *text) {
    size_t n = strlen(text);
    parse_skip(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n)) return 0;
    p->at += n;
    return 1;
}

static span peek_word(parser *p) {
    parse_skip(p);
    const char *stop = p->at;
    while (stop < p->end && (letter(*stop) || (stop > p->at && *stop >= '0' && *stop <= '9'))) stop++;
    return (span){p->at, (size_t)(stop - p->at)};
}

int span_is(span s, const char *text) {
    return s.n == strlen(text) && !memcmp(s.at, text, s.n);
}

int parse_word(parser *p, const char *text) {
    span s = peek_word(p);
    if (!span_is(s, text)) return 0;
    p->at += s.n;
    return 1;
}

span parse_name(parser *p) {
    span s = peek_word(p);
    if (!s.n) parse_wrong(p, "a name is missing");
    p->at += s.n;
    return s;
}

void parse_need(parser *p, const char *text) {
    if (!parse_take(p, text) && !p->pool->bad) {
        char what[64];
        snprintf(what, sizeof what, "'%s' is missing", text);
        parse_wrong(p, what);
    }
}

static expr *text_literal(parser *p) {
    char quote = *p->at++;
    const char *stop = p->at;
    while (stop < p->end && *stop != quote) stop += *stop == '\\' && stop + 1 < p->end ? 2 : 1;
    if (stop >= p->end) return parse_wrong(p, "quotes that are not closed"), parse_new(p, E_NONE);
    expr *x = parse_new(p, E_TEXT);
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
    expr *x = parse_new(p, real ? E_NUMBER : E_INTEGER);
    x->number = strtod(copy, &stop);
    x->integer = x->number < 9e18 ? (int64_t)strtoll(copy, NULL, 10) : 0;
    return x;
}

/* Items up to `close`; pairs for a dict; keywords for a call. */
expr *parse_items(parser *p, const char *close, int pairs, int keywords) {
    expr *first = NULL, **last = &first;
    while (!p->pool->bad && !parse_take(p, close)) {
        span key = {0};
        if (keywords) {
            const char *before = p->at;
            key = peek_word(p);
            p->at += key.n;
            parse_skip(p);
            if (!key.n || p->at >= p->end || *p->at != '=' || (p->end - p->at > 1 && p->at[1] == '='))
                p->at = before, key.n = 0;
            else
                p->at++;
        }
        expr *x = parse_expression(p);
        if (key.n) { /* kept apart from the value, which may use `name` itself */
            expr *argument = parse_new(p, E_LIST);
            argument->keyword = 1;
            argument->name = key;
            argument->a = x;
            x = argument;
        } else if (keywords) {
            expr *argument = parse_new(p, E_LIST);
            argument->a = x;
            x = argument;
        } else {
            expr *item = parse_new(p, E_LIST);
            item->a = x;
            x = item;
        }
        *last = x;
        last = &x->next;
        if (pairs) {
            parse_need(p, ":");
            x->b = parse_expression(p);
        }
        if (!parse_take(p, ",")) {
            parse_need(p, close);
            break;
        }
    }
    return first;
}

static expr *primary(parser *p) {
    parse_skip(p);
    if (p->at >= p->end) return parse_wrong(p, "an expression is missing"), parse_new(p, E_NONE);
    char c = *p->at;
    if (c == '\'' || c == '"') {
        expr *x = text_literal(p);
        for (parse_skip(p); !p->pool->bad && p->at < p->end && (*p->at == '\'' || *p->at == '"');
             parse_skip(p)) { /* texts beside each other are one */
            expr *more = parse_new(p, E_CONCAT);
            more->a = x;
            more->b = text_literal(p);
            x = more;
        }
        return x;
    }
    if (c >= '0' && c <= '9') return number_literal(p);
    if (parse_take(p, "[")) {
        expr *x = parse_new(p, E_LIST);
        x->items = parse_items(p, "]", 0, 0);
        return x;
    }
    if (parse_take(p, "{")) {
        expr *x = parse_new(p, E_DICT);
        x->items = parse_items(p, "}", 1, 0);
        return x;
    }
    if (parse_take(p, "(")) {
        expr *x = parse_expression(p);
        if (parse_take(p, ",")) { /* a tuple */
            expr *list = parse_new(p, E_LIST), *item = parse_new(p, E_LIST);
            item->a = x;
            item->next = parse_items(p, ")", 0, 0);
            list->items = item;
            return list;
        }
        parse_need(p, ")");
        return x;
    }
    span s = peek_word(p);
    if (!s.n) return parse_wrong(p, "no expression"), parse_new(p, E_NONE);
    p->at += s.n;
    if (span_is(s, "true") || span_is(s, "True")) return parse_new(p, E_TRUE);
    if (span_is(s, "false") || span_is(s, "False")) return parse_new(p, E_FALSE);
    if (span_is(s, "none") || span_is(s, "None")) return parse_new(p, E_NONE);
    expr *x = parse_new(p, E_NAME);
    x->name = s;
    return x;
}

static expr *subscript(parser *p, expr *x) {
    expr *y = parse_new(p, E_INDEX), *step = NULL;
    y->a = x;
    parse_skip(p);
    if (p->at < p->end && *p->at != ':') y->b = parse_expression(p);
    if (parse_take(p, ":")) {
        y->kind = E_SLICE;
        parse_skip(p);
        if (p->at < p->end && *p->at != ']' && *p->at != ':') y->c = parse_expression(p);
        if (parse_take(p, ":")) {
            parse_skip(p);
            if (p->at < p->end && *p->at != ']') step = parse_expression(p);
        }
        y->items = step;
    }
    parse_need(p, "]");
    return y;
}

static expr *postfix(parser *p, expr *x) {
    while (!p->pool->bad) {
        parse_skip(p);
        if (p->at < p->end && *p->at == '.') {
            p->at++;
            expr *y = parse_new(p, E_ATTRIBUTE);
            y->a = x;
            y->name = parse_name(p);
            x = y;
        } else if (parse_take(p, "[")) {
            x = subscript(p, x);
        } else if (parse_take(p, "(")) {
            expr *y = parse_new(p, E_CALL);
            y->a = x;
            y->items = parse_items(p, ")", 0, 1);
            x = y;
        } else {
            return x;
        }
    }
    return x;
}

/* Can an argument of a test without parentheses begin here ("is divisibleby 2", "is eq 'a'")? */
static int test_argument(parser *p) {
    parse_skip(p);
    if (p->at >= p->end) return 0;
    if (*p->at == '\'' || *p->at == '"' || *p->at == '[' || (*p->at >= '0' && *p->at <= '9')) return 1;
    span s = peek_word(p);
    return s.n && !span_is(s, "and") && !span_is(s, "or") && !span_is(s, "not") && !span_is(s, "if") && !span_is(s, "else") &&
           !span_is(s, "is") && !span_is(s, "in");
}

expr *parse_filters(parser *p, expr *x) {
    while (!p->pool->bad) {
        parse_skip(p);
        if (p->at < p->end && *p->at == '|') {
            p->at++;
            expr *y = parse_new(p, E_FILTER);
            y->a = x;
            y->name = parse_name(p);
            if (parse_take(p, "(")) y->items = parse_items(p, ")", 0, 1);
            x = postfix(p, y);
        } else if (parse_word(p, "is")) {
            expr *y = parse_new(p, parse_word(p, "not") ? E_NOT_TEST : E_TEST);
            y->a = x;
            y->name = parse_name(p);
            if (parse_take(p, "(")) {
                y->items = parse_items(p, ")", 0, 1);
            } else if (test_argument(p)) {
                y->items = parse_new(p, E_LIST);
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
    parse_skip(p);
    if (++p->depth > TEMPLATE_MAX_DEPTH) parse_wrong(p, "nested too deep");
    expr *x;
    if (p->pool->bad) {
        x = parse_new(p, E_NONE);
    } else if (parse_take(p, "-")) {
        x = parse_new(p, E_MINUS);
        x->a = unary(p);
    } else {
        parse_take(p, "+");
        x = postfix(p, primary(p));
        if (p->at + 1 < p->end && (parse_skip(p), p->at + 1 < p->end) && p->at[0] == '*' && p->at[1] == '*') {
            p->at += 2;
            expr *y = parse_new(p, E_POWER);
            y->a = x;
            y->b = unary(p);
            x = y;
        }
        x = parse_filters(p, x);
    }
    p->depth--;
    return x;
}

static expr *binary(parser *p, int level);

/* An operator of this level at hand, and not the end of a tag. */
static int operator_here(parser *p, int level, expr_kind *kind) {
    parse_skip(p);
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
        else if (parse_word(p, "in"))
            return *kind = E_IN, 1;
        else {
            const char *before = p->at;
            if (parse_word(p, "not") && parse_word(p, "in")) return *kind = E_NOT_IN, 1;
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
        expr *y = parse_new(p, kind);
        y->a = x;
        y->b = binary(p, level + 1);
        x = y;
    }
    return x;
}

static expr *negation(parser *p) {
    if (!parse_word(p, "not")) return binary(p, 0);
    if (++p->depth > TEMPLATE_MAX_DEPTH) parse_wrong(p, "nested too deep");
    expr *x = parse_new(p, E_NOT);
    if (!p->pool->bad) x->a = negation(p);
    p->depth--;
    return x;
}

expr *parse_logical(parser *p, int any) {
    expr *x = any ? parse_logical(p, 0) : negation(p);
    while (!p->pool->bad && parse_word(p, any ? "or" : "and")) {
        expr *y = parse_new(p, any ? E_OR : E_AND);
        y->a = x;
        y->b = any ? parse_logical(p, 0) : negation(p);
        x = y;
    }
    return x;
}

expr *parse_expression(parser *p) {
    if (++p->depth > TEMPLATE_MAX_DEPTH) parse_wrong(p, "nested too deep");
    expr *x = p->pool->bad ? parse_new(p, E_NONE) : parse_logical(p, 1);
    while (!p->pool->bad && parse_word(p, "if")) {
        expr *y = parse_new(p, E_CHOICE);
        y->a = x;
        y->b = parse_logical(p, 1);
        if (parse_word(p, "else")) y->c = parse_expression(p);
        x = y;
    }
    p->depth--;
    return x;
}

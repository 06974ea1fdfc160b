/* template_parse.c - the parser of chat templates: text, {{ }}, {% %} and {# #} to a tree. Whitespace is controlled as
 * Hugging Face's tools set Jinja: a newline after a block goes (trim_blocks), blanks before one at the start of a line go
 * (lstrip_blocks), and so does the template's last newline. Recursion is bounded by `depth`. */
#include "template_parse.h"

#include <stdio.h>
#include <string.h>

static node *new_node(parser *p, node_kind kind) {
    node *x = pool_get(p->pool, sizeof *x);
    x->kind = kind;
    return x;
}

/* The end of a tag, and what its '-' takes from the text behind. */
static void close_tag(parser *p, const char *close) {
    parse_skip(p);
    int dash = p->at < p->end && (*p->at == '-' || *p->at == '+') ? *p->at : 0;
    if (dash) p->at++;
    parse_need(p, close);
    p->trim = dash == '-' ? 2 : *close == '%' && dash != '+' ? 1 : 0;
}

static span text_before(parser *p) {
    const char *from = p->at, *stop = from;
    if (p->trim == 2)
        while (from < p->end && parse_blank(*from)) from++;
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
            while (cut > from && parse_blank(cut[-1])) cut--;
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
    x->value = parse_expression(p);
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    if (p->pool->bad) return x;
    if (span_is(by, "elif")) {
        if (++p->depth > TEMPLATE_MAX_DEPTH) parse_wrong(p, "too many elif");
        if (!p->pool->bad) x->other = if_statement(p);
        p->depth--;
        return x;
    }
    close_tag(p, "%}");
    if (span_is(by, "else")) {
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
    parse_take(p, "(");
    do {
        if (x->n_targets == 4) parse_wrong(p, "more than 4 names in a for");
        if (!p->pool->bad) x->targets[x->n_targets++] = parse_name(p);
    } while (!p->pool->bad && parse_take(p, ","));
    parse_take(p, ")");
    if (!parse_word(p, "in")) parse_wrong(p, "'in' is missing");
    x->value = parse_logical(p, 1);
    if (parse_word(p, "if")) x->filter = parse_logical(p, 1);
    parse_word(p, "recursive");
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    if (p->pool->bad) return x;
    close_tag(p, "%}");
    if (span_is(by, "else")) {
        x->other = statements(p, last, &by);
        close_tag(p, "%}");
    }
    return x;
}

static node *set_statement(parser *p) {
    static const char *const ends[] = {"endset", NULL};
    node *x = new_node(p, N_SET);
    span by;
    x->text = parse_name(p);
    if (parse_take(p, ".")) x->attribute = parse_name(p);
    if (parse_take(p, "=")) {
        x->value = parse_expression(p);
        if (parse_take(p, ",")) { /* a tuple */
            expr *list = parse_new(p, E_LIST), *item = parse_new(p, E_LIST), *more = parse_new(p, E_LIST);
            item->a = x->value;
            more->a = parse_expression(p);
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
    x->text = parse_name(p);
    parse_need(p, "(");
    while (!p->pool->bad && !parse_take(p, ")")) {
        expr *parameter = parse_new(p, E_NAME);
        parameter->name = parse_name(p);
        if (parse_take(p, "=")) parameter->a = parse_expression(p);
        *last = parameter;
        last = &parameter->next;
        if (!parse_take(p, ",")) {
            parse_need(p, ")");
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
        expr *hole = parse_new(p, E_NAME);
        hole->name = (span){"", 0};
        x->value = parse_new(p, E_FILTER);
        x->value->a = hole;
        x->value->name = parse_name(p);
        if (parse_take(p, "(")) x->value->items = parse_items(p, ")", 0, 1);
        x->value = parse_filters(p, x->value);
    }
    close_tag(p, "%}");
    x->body = statements(p, ends, &by);
    close_tag(p, "%}");
    return x;
}

static node *block(parser *p, span word) {
    if (span_is(word, "if")) return if_statement(p);
    if (span_is(word, "for")) return for_statement(p);
    if (span_is(word, "set")) return set_statement(p);
    if (span_is(word, "macro")) return macro_statement(p);
    if (span_is(word, "generation")) return block_statement(p, "endgeneration", 0);
    if (span_is(word, "filter")) return block_statement(p, "endfilter", 1);
    if (span_is(word, "break") || span_is(word, "continue")) {
        node *x = new_node(p, span_is(word, "break") ? N_BREAK : N_CONTINUE);
        close_tag(p, "%}");
        return x;
    }
    char what[80];
    snprintf(what, sizeof what, "a block '%.*s' is not supported", (int)(word.n < 40 ? word.n : 40), word.at);
    parse_wrong(p, what);
    return NULL;
}

static int skip_comment(parser *p) {
    const char *stop = p->at;
    while (p->end - stop >= 2 && memcmp(stop, "#}", 2)) stop++;
    if (p->end - stop < 2) return parse_wrong(p, "a comment that is not closed"), -1;
    p->trim = stop > p->at && stop[-1] == '-' ? 2 : 1;
    p->at = stop + 2;
    return 0;
}

/* Up to the end, or to a block whose word is one of `ends` (*ended, without its tag's end). */
static node *statements(parser *p, const char *const *ends, span *ended) {
    node *first = NULL, **last = &first;
    if (++p->depth > TEMPLATE_MAX_DEPTH) parse_wrong(p, "nested too deep");
    while (!p->pool->bad) {
        node *x = new_node(p, N_TEXT);
        x->text = text_before(p);
        if (x->text.n) *last = x, last = &x->next;
        if (p->at >= p->end) {
            if (ends) parse_wrong(p, "a block that is not closed");
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
            x->value = parse_expression(p);
            close_tag(p, "}}");
        } else {
            span word = parse_name(p);
            for (int i = 0; ends && ends[i]; i++)
                if (span_is(word, ends[i])) return *ended = word, p->depth--, first;
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

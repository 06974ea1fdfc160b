/* template_parse.h - what the two halves of the parser of chat templates share: expressions (template_expr.c), statements
 * around them (template_parse.c). Functions go on after an error; pool->bad says that there was one. */
#ifndef STRAND_APP_TEMPLATE_PARSE_H
#define STRAND_APP_TEMPLATE_PARSE_H

#include "template_tree.h"

typedef struct parser {
    pool *pool;
    const char *source, *at, *end;
    int depth;
    int trim; /* the next text loses its first newline (1) or all blanks (2) */
} parser;

void parse_wrong(parser *p, const char *what);
expr *parse_expression(parser *p);
expr *parse_new(parser *p, expr_kind kind);
int parse_blank(char c);
void parse_skip(parser *p);
int parse_take(parser *p, const char *text);
int span_is(span s, const char *text);
int parse_word(parser *p, const char *text);
span parse_name(parser *p);
void parse_need(parser *p, const char *text);
expr *parse_items(parser *p, const char *close, int pairs, int keywords);
expr *parse_filters(parser *p, expr *x);
expr *parse_logical(parser *p, int any);

#endif

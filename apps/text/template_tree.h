/* template_tree.h - a parsed chat template, between its parser (template_parse.c) and its interpreter (template_run.c). */
#ifndef STRAND_APP_TEMPLATE_TREE_H
#define STRAND_APP_TEMPLATE_TREE_H

#include <stddef.h>
#include <stdint.h>

#define TEMPLATE_MAX_DEPTH  64
#define TEMPLATE_MAX_STEPS  2000000
#define TEMPLATE_MAX_MEMORY ((size_t)128 << 20)

/* Memory that goes all at once; `left` bounds it. */
typedef struct pool_block pool_block;
typedef struct pool {
    pool_block *blocks;
    char *at, *end;
    size_t left;
    int bad;
    char *why;
    size_t why_size;
} pool;

/* Zeroed; never NULL: after a failure (p->bad) it is a block that all share. */
void *pool_get(pool *p, size_t n);
void pool_free(pool *p);
/* Keeps the first message. */
void pool_fail(pool *p, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

typedef struct span {
    const char *at;
    size_t n;
} span;

typedef enum expr_kind {
    E_TEXT,
    E_INTEGER,
    E_NUMBER,
    E_TRUE,
    E_FALSE,
    E_NONE,
    E_NAME,
    E_LIST,
    E_DICT,
    E_AND,
    E_OR,
    E_NOT,
    E_CHOICE,
    E_EQ,
    E_NE,
    E_LT,
    E_LE,
    E_GT,
    E_GE,
    E_IN,
    E_NOT_IN,
    E_ADD,
    E_SUB,
    E_MUL,
    E_DIV,
    E_FLOOR,
    E_MOD,
    E_POWER,
    E_CONCAT,
    E_MINUS,
    E_ATTRIBUTE,
    E_INDEX,
    E_SLICE,
    E_CALL,
    E_FILTER,
    E_TEST,
    E_NOT_TEST
} expr_kind;

typedef struct expr expr;
struct expr {
    expr_kind kind;
    span name; /* text, name, attribute, filter, test; of an argument: its keyword */
    int64_t integer;
    double number;
    expr *a, *b, *c; /* operands; E_CHOICE: a if b else c; E_SLICE: a[b:c:step] */
    expr *items;     /* first of a list, dict (key, value, key ...) or of a call's arguments, by `next` */
    expr *next;
    int keyword; /* an argument NAME=... */
};

typedef enum node_kind { N_TEXT, N_OUT, N_IF, N_FOR, N_SET, N_MACRO, N_BREAK, N_CONTINUE, N_FILTER } node_kind;

typedef struct node node;
struct node {
    node_kind kind;
    span text;       /* N_TEXT; N_MACRO: its name; N_SET: the name */
    span attribute;  /* N_SET: of a namespace */
    span targets[4]; /* N_FOR */
    int n_targets;
    expr *value, *filter; /* N_OUT, N_SET, N_IF: condition; N_FOR: what is walked through, and its 'if' */
    expr *parameters;     /* N_MACRO: names, with defaults in `a` */
    node *body, *other;   /* N_IF: otherwise (elif: an N_IF); N_FOR: when there was nothing; N_SET: a block */
    node *next;
};

/* NULL after a failure. Everything is in the pool, and points into the source. */
node *template_parse(pool *p, const char *source, size_t n);

#endif

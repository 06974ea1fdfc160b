/* template_value.h - the values of chat templates and what can be done to them: between template_run.c and template_value.c. */
#ifndef STRAND_APP_TEMPLATE_VALUE_H
#define STRAND_APP_TEMPLATE_VALUE_H

#include "json_read.h"
#include "template_tree.h"

#define MAX_ARGUMENTS 16

typedef enum val_type { V_UNDEFINED, V_NONE, V_BOOL, V_INTEGER, V_NUMBER, V_TEXT, V_LIST, V_DICT, V_MACRO } val_type;

typedef struct list list;
typedef struct dict dict;

typedef struct val {
    val_type type;
    int64_t integer; /* V_BOOL, V_INTEGER */
    double number;
    span text;
    list *list;
    dict *dict;
    const node *macro;
} val;

struct list {
    val *items;
    size_t n, room;
};

struct dict { /* in the order of insertion */
    val *keys, *values;
    size_t n, room;
};

typedef struct output_text {
    char *at;
    size_t n, room;
} output_text;

typedef struct scope scope;
struct scope {
    dict *names;
    scope *outer;
};

typedef struct run {
    pool pool;
    dict *globals;
    scope *scope;
    output_text *out;
    val hole; /* what {% filter %} works on */
    int64_t steps;
    int depth;
    int jump; /* N_BREAK or N_CONTINUE on the way to its loop */
} run;

typedef struct arguments {
    val at[MAX_ARGUMENTS], named[MAX_ARGUMENTS];
    span names[MAX_ARGUMENTS];
    int n, n_named;
} arguments;

/* Keeps the first message; the value is undefined. */
val fail(run *r, const char *what);
val val_text(const char *at, size_t n);
val val_integer(int64_t i);
val val_number(double x);
val val_bool(int b);
val val_list(run *r);
void list_add(run *r, list *l, val v);
dict *dict_new(run *r);
void dict_put(run *r, dict *d, val key, val v);
val *dict_get(dict *d, val key);
void put(run *r, output_text *out, const char *text, size_t n);
val from_json(run *r, const value *v);

int truth(val v);
int is_number(val v);
double as_number(val v);
int equal(val a, val b, int depth);
int compare_text(span a, span b);
int contains(run *r, val all, val one);
/* As {{ }} shows it. */
span shown(run *r, val v);
val concat(run *r, span a, span b);
/* Characters, and the byte at which one begins. */
size_t text_length(span s);
size_t text_offset(span s, size_t character);
/* What a for walks through: items, keys, characters. */
val as_list(run *r, val v);
val attribute(run *r, val object, span name);

val call_method(run *r, val object, span name, const arguments *a);
val call_function(run *r, span name, const arguments *a);
val filter(run *r, span name, val v, const arguments *a);
int test(run *r, span name, val v, const arguments *a);

/* template_run.c */
void run_nodes(run *r, const node *first);
void unpack(run *r, const node *x, val item);

#endif

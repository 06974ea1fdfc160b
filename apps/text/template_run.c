/* template_run.c - runs a parsed chat template. See template.h.
 *
 * Values are small and point into the pool; nothing is freed before the end. Every evaluated node is a step, and steps, depth
 * and memory are bounded, so that a hostile template ends with one line. Names are looked up from the innermost scope
 * outwards; a `set` in a loop stays in the loop, as in Jinja. */
#include "template.h"

#include "template_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- scopes ---- */

static val *lookup_in(dict *d, span name) {
    for (size_t i = 0; d && i < d->n; i++)
        if (d->keys[i].type == V_TEXT && d->keys[i].text.n == name.n && !memcmp(d->keys[i].text.at, name.at, name.n))
            return &d->values[i];
    return NULL;
}

static val lookup(run *r, span name) {
    for (scope *s = r->scope; s; s = s->outer) {
        val *v = lookup_in(s->names, name);
        if (v) return *v;
    }
    val *v = lookup_in(r->globals, name);
    return v ? *v : (val){.type = V_UNDEFINED};
}

static void assign(run *r, span name, val v) {
    dict *d = r->scope ? r->scope->names : r->globals;
    val *known = lookup_in(d, name);
    if (known)
        *known = v;
    else
        dict_put(r, d, val_text(name.at, name.n), v);
}

static void push(run *r, scope *s) {
    s->outer = r->scope;
    s->names = dict_new(r);
    r->scope = s;
}

/* ---- expressions ---- */

val eval(run *r, const expr *x);

static val arguments_value(run *r, const expr *items, arguments *out) {
    *out = (arguments){0};
    for (const expr *x = items; x && !r->pool.bad; x = x->next) {
        if (x->keyword) {
            if (out->n_named == MAX_ARGUMENTS) return fail(r, "too many arguments");
            out->names[out->n_named] = x->name;
            out->named[out->n_named++] = eval(r, x->a);
        } else {
            if (out->n == MAX_ARGUMENTS) return fail(r, "too many arguments");
            out->at[out->n++] = eval(r, x->a);
        }
    }
    return (val){0};
}

static val call_macro(run *r, const node *m, const arguments *a) {
    if (++r->depth > 200) return fail(r, "macros nested too deep");
    scope s, *before = r->scope;
    r->scope = NULL; /* a macro sees its parameters and the outermost names */
    push(r, &s);
    int i = 0;
    for (const expr *p = m->parameters; p && !r->pool.bad; p = p->next, i++) {
        val v = i < a->n ? a->at[i] : p->a ? eval(r, p->a) : (val){.type = V_UNDEFINED};
        for (int k = 0; k < a->n_named; k++)
            if (a->names[k].n == p->name.n && !memcmp(a->names[k].at, p->name.at, p->name.n)) v = a->named[k];
        assign(r, p->name, v);
    }
    output_text out = {0}, *outer = r->out;
    r->out = &out;
    run_nodes(r, m->body);
    r->out = outer;
    r->scope = before;
    r->depth--;
    r->jump = 0;
    return val_text(out.at ? out.at : "", out.n);
}

static val call(run *r, const expr *x) {
    arguments a;
    const expr *f = x->a;
    if (f->kind == E_ATTRIBUTE) {
        val object = eval(r, f->a);
        arguments_value(r, x->items, &a);
        if (r->pool.bad) return (val){0};
        if (object.type == V_DICT) { /* a member that is a macro, else a method */
            val *member = lookup_in(object.dict, f->name);
            if (member && member->type == V_MACRO) return call_macro(r, member->macro, &a);
        }
        return call_method(r, object, f->name, &a);
    }
    arguments_value(r, x->items, &a);
    if (r->pool.bad) return (val){0};
    if (f->kind == E_NAME) {
        val v = lookup(r, f->name);
        if (v.type == V_MACRO) return call_macro(r, v.macro, &a);
        if (v.type == V_UNDEFINED) return call_function(r, f->name, &a);
    }
    return fail(r, "what is called is no function");
}

static val index_value(val a, val i) {
    if (a.type == V_DICT) {
        val *v = dict_get(a.dict, i);
        return v ? *v : (val){.type = V_UNDEFINED};
    }
    if (i.type != V_INTEGER && i.type != V_BOOL) return (val){.type = V_UNDEFINED};
    int64_t n = a.type == V_LIST   ? (int64_t)a.list->n
                : a.type == V_TEXT ? (int64_t)text_length(a.text)
                                   : 0,
            at = i.integer < 0 ? i.integer + n : i.integer;
    if (at < 0 || at >= n) return (val){.type = V_UNDEFINED};
    if (a.type == V_LIST) return a.list->items[at];
    size_t from = text_offset(a.text, (size_t)at), to = text_offset(a.text, (size_t)at + 1);
    return val_text(a.text.at + from, to - from);
}

static int64_t bound(run *r, const expr *x, int64_t n, int64_t fallback) {
    if (!x) return fallback;
    val v = eval(r, x);
    if (v.type == V_NONE || v.type == V_UNDEFINED) return fallback;
    if (v.type != V_INTEGER) return fail(r, "a slice's bound is no whole number"), 0;
    int64_t at = v.integer < 0 ? (v.integer < -n ? 0 : v.integer + n) : v.integer;
    return at > n ? n : at;
}

static val slice(run *r, const expr *x) {
    val a = eval(r, x->a);
    int64_t n = a.type == V_LIST ? (int64_t)a.list->n : a.type == V_TEXT ? (int64_t)text_length(a.text) : -1, step = 1;
    if (n < 0) return fail(r, "only lists and texts have slices");
    if (x->items) {
        val s = eval(r, x->items);
        if (s.type != V_INTEGER || (s.integer != 1 && s.integer != -1)) return fail(r, "a slice's step must be 1 or -1");
        step = s.integer;
    }
    if (step < 0 && (x->b || x->c)) return fail(r, "a slice that goes back must be [::-1]");
    int64_t from = bound(r, x->b, n, 0), to = bound(r, x->c, n, n);
    if (a.type == V_TEXT) {
        if (step < 0) return fail(r, "a text cannot be reversed by a slice");
        size_t at = text_offset(a.text, (size_t)from), end = from < to ? text_offset(a.text, (size_t)to) : at;
        return val_text(a.text.at + at, end - at);
    }
    val out = val_list(r);
    for (int64_t i = 0; from + i < to; i++) list_add(r, out.list, a.list->items[step > 0 ? from + i : to - 1 - i]);
    return out;
}

static val arithmetic(run *r, expr_kind kind, val a, val b) {
    if (kind == E_ADD && a.type == V_TEXT && b.type == V_TEXT) return concat(r, a.text, b.text);
    if (kind == E_ADD && a.type == V_LIST && b.type == V_LIST) {
        val out = val_list(r);
        for (size_t i = 0; i < a.list->n; i++) list_add(r, out.list, a.list->items[i]);
        for (size_t i = 0; i < b.list->n; i++) list_add(r, out.list, b.list->items[i]);
        return out;
    }
    if (kind == E_MUL && a.type == V_TEXT && b.type == V_INTEGER) {
        output_text out = {0};
        for (int64_t i = 0; i < b.integer && !r->pool.bad; i++) put(r, &out, a.text.at, a.text.n);
        return val_text(out.at ? out.at : "", out.n);
    }
    if (!is_number(a) || !is_number(b)) return fail(r, "arithmetic on what are no numbers");
    double x = as_number(a), y = as_number(b);
    int whole = a.type != V_NUMBER && b.type != V_NUMBER;
    if ((kind == E_DIV || kind == E_FLOOR || kind == E_MOD) && y == 0) return fail(r, "a division by zero");
    if (kind == E_POWER) x = pow(x, y);
    if (kind == E_DIV) return val_number(x / y);
    if (whole && fabs(x) < 1e9 && fabs(y) < 1e9) {
        int64_t i = a.integer, j = b.integer;
        switch (kind) {
        case E_ADD:
            return val_integer(i + j);
        case E_SUB:
            return val_integer(i - j);
        case E_MUL:
            return val_integer(i * j);
        case E_FLOOR:
            return val_integer((int64_t)floor(x / y));
        case E_MOD:
            return val_integer(i - j * (int64_t)floor(x / y));
        default:
            return fabs(x) < 9e15 && x == floor(x) ? val_integer((int64_t)x) : val_number(x);
        }
    }
    switch (kind) {
    case E_ADD:
        return val_number(x + y);
    case E_SUB:
        return val_number(x - y);
    case E_MUL:
        return val_number(x * y);
    case E_FLOOR:
        return val_number(floor(x / y));
    case E_MOD:
        return val_number(x - y * floor(x / y));
    default:
        return val_number(x);
    }
}

static val compare(run *r, expr_kind kind, val a, val b) {
    if (kind == E_EQ || kind == E_NE) return val_bool(equal(a, b, 0) == (kind == E_EQ));
    int order;
    if (is_number(a) && is_number(b))
        order = (as_number(a) > as_number(b)) - (as_number(a) < as_number(b));
    else if (a.type == V_TEXT && b.type == V_TEXT)
        order = compare_text(a.text, b.text);
    else
        return fail(r, "a comparison of what has no order");
    return val_bool(kind == E_LT ? order < 0 : kind == E_LE ? order <= 0 : kind == E_GT ? order > 0 : order >= 0);
}

static val dict_value(run *r, const expr *x) {
    val out = {.type = V_DICT, .dict = dict_new(r)};
    for (const expr *item = x->items; item && !r->pool.bad; item = item->next) {
        val key = eval(r, item->a);
        dict_put(r, out.dict, key, eval(r, item->b));
    }
    return out;
}

static val list_value(run *r, const expr *x) {
    val out = val_list(r);
    for (const expr *item = x->items; item && !r->pool.bad; item = item->next) list_add(r, out.list, eval(r, item->a));
    return out;
}

static val eval_inner(run *r, const expr *x) {
    val a, b;
    switch (x->kind) {
    case E_TEXT:
        return val_text(x->name.at, x->name.n);
    case E_INTEGER:
        return val_integer(x->integer);
    case E_NUMBER:
        return val_number(x->number);
    case E_TRUE:
        return val_bool(1);
    case E_FALSE:
        return val_bool(0);
    case E_NONE:
        return (val){.type = V_NONE};
    case E_NAME:
        return x->name.n ? lookup(r, x->name) : r->hole;
    case E_LIST:
        return list_value(r, x);
    case E_DICT:
        return dict_value(r, x);
    case E_AND:
        return a = eval(r, x->a), truth(a) ? eval(r, x->b) : a;
    case E_OR:
        return a = eval(r, x->a), truth(a) ? a : eval(r, x->b);
    case E_NOT:
        return val_bool(!truth(eval(r, x->a)));
    case E_CHOICE:
        return truth(eval(r, x->b)) ? eval(r, x->a) : x->c ? eval(r, x->c) : (val){.type = V_UNDEFINED};
    case E_IN:
    case E_NOT_IN:
        return a = eval(r, x->a), b = eval(r, x->b), val_bool(contains(r, b, a) == (x->kind == E_IN));
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE:
    case E_GT:
    case E_GE:
        return a = eval(r, x->a), b = eval(r, x->b), compare(r, x->kind, a, b);
    case E_CONCAT:
        return a = eval(r, x->a), b = eval(r, x->b), concat(r, shown(r, a), shown(r, b));
    case E_MINUS:
        return a = eval(r, x->a), a.type == V_INTEGER ? val_integer(-a.integer)
                                  : is_number(a)      ? val_number(-as_number(a))
                                                      : fail(r, "a minus before what is no number");
    case E_ATTRIBUTE:
        return attribute(r, eval(r, x->a), x->name);
    case E_INDEX:
        return a = eval(r, x->a), b = eval(r, x->b),
               a.type == V_DICT && b.type == V_TEXT ? attribute(r, a, b.text) : index_value(a, b);
    case E_SLICE:
        return slice(r, x);
    case E_CALL:
        return call(r, x);
    case E_FILTER:
    case E_TEST:
    case E_NOT_TEST: {
        arguments arguments;
        a = eval(r, x->a);
        arguments_value(r, x->items, &arguments);
        if (r->pool.bad) return (val){0};
        if (x->kind == E_FILTER) return filter(r, x->name, a, &arguments);
        return val_bool(test(r, x->name, a, &arguments) == (x->kind == E_TEST));
    }
    default:
        return a = eval(r, x->a), b = eval(r, x->b), arithmetic(r, x->kind, a, b);
    }
}

val eval(run *r, const expr *x) {
    if (!x || r->pool.bad) return (val){.type = V_UNDEFINED};
    if (++r->steps > TEMPLATE_MAX_STEPS) return fail(r, "it takes too many steps");
    if (++r->depth > 1000) return fail(r, "nested too deep");
    val v = eval_inner(r, x);
    r->depth--;
    return v;
}

/* ---- statements ---- */

static void for_each(run *r, const node *x) {
    val all = as_list(r, eval(r, x->value)), kept = val_list(r);
    scope s;
    if (r->pool.bad) return;
    push(r, &s);
    for (size_t i = 0; i < all.list->n && !r->pool.bad; i++) {
        if (x->filter) {
            unpack(r, x, all.list->items[i]);
            if (!truth(eval(r, x->filter))) continue;
        }
        list_add(r, kept.list, all.list->items[i]);
    }
    size_t n = kept.list->n;
    for (size_t i = 0; i < n && !r->pool.bad && r->jump != N_BREAK; i++) {
        r->jump = 0;
        s.names = dict_new(r); /* what one turn sets is gone in the next */
        val loop = {.type = V_DICT, .dict = dict_new(r)};
        const struct {
            const char *name;
            val v;
        } facts[] = {{"index", val_integer((int64_t)i + 1)},
                     {"index0", val_integer((int64_t)i)},
                     {"revindex", val_integer((int64_t)(n - i))},
                     {"revindex0", val_integer((int64_t)(n - i) - 1)},
                     {"first", val_bool(i == 0)},
                     {"last", val_bool(i + 1 == n)},
                     {"length", val_integer((int64_t)n)},
                     {"previtem", i ? kept.list->items[i - 1] : (val){.type = V_UNDEFINED}},
                     {"nextitem", i + 1 < n ? kept.list->items[i + 1] : (val){.type = V_UNDEFINED}}};
        for (size_t k = 0; k < sizeof facts / sizeof facts[0]; k++)
            dict_put(r, loop.dict, val_text(facts[k].name, strlen(facts[k].name)), facts[k].v);
        assign(r, (span){"loop", 4}, loop);
        unpack(r, x, kept.list->items[i]);
        run_nodes(r, x->body);
    }
    r->jump = 0;
    r->scope = s.outer;
    if (!n) run_nodes(r, x->other);
}

void unpack(run *r, const node *x, val item) {
    if (x->n_targets == 1) {
        assign(r, x->targets[0], item);
        return;
    }
    if (item.type != V_LIST || item.list->n != (size_t)x->n_targets) {
        fail(r, "a for with several names over what has other parts");
        return;
    }
    for (int i = 0; i < x->n_targets; i++) assign(r, x->targets[i], item.list->items[i]);
}

/* The text that nodes make, apart. */
static val captured(run *r, const node *body) {
    output_text out = {0}, *outer = r->out;
    r->out = &out;
    run_nodes(r, body);
    r->out = outer;
    return val_text(out.at ? out.at : "", out.n);
}

static void set(run *r, const node *x) {
    val v = x->value ? eval(r, x->value) : captured(r, x->body);
    if (!x->attribute.n) {
        assign(r, x->text, v);
        return;
    }
    val object = lookup(r, x->text);
    if (object.type != V_DICT) {
        fail(r, "a set of a member of what is no namespace");
        return;
    }
    val *known = lookup_in(object.dict, x->attribute);
    if (known)
        *known = v;
    else
        dict_put(r, object.dict, val_text(x->attribute.at, x->attribute.n), v);
}

static void run_node(run *r, const node *x) {
    span s;
    switch (x->kind) {
    case N_TEXT:
        put(r, r->out, x->text.at, x->text.n);
        return;
    case N_OUT:
        s = shown(r, eval(r, x->value)), put(r, r->out, s.at, s.n);
        return;
    case N_IF:
        run_nodes(r, truth(eval(r, x->value)) ? x->body : x->other);
        return;
    case N_FOR:
        for_each(r, x);
        return;
    case N_SET:
        set(r, x);
        return;
    case N_MACRO:
        assign(r, x->text, (val){.type = V_MACRO, .macro = x});
        return;
    case N_FILTER:
        r->hole = captured(r, x->body);
        s = x->value ? shown(r, eval(r, x->value)) : r->hole.text;
        put(r, r->out, s.at, s.n);
        return;
    default:
        r->jump = x->kind;
        return;
    }
}

void run_nodes(run *r, const node *first) {
    if (++r->depth > 1000) fail(r, "nested too deep");
    for (const node *x = first; x && !r->pool.bad && !r->jump; x = x->next) {
        if (++r->steps > TEMPLATE_MAX_STEPS) fail(r, "it takes too many steps");
        run_node(r, x);
    }
    r->depth--;
}

char *template_render(const char *source, size_t n, const value *context, size_t *length, char *why, size_t why_size) {
    run *r = calloc(1, sizeof *r);
    if (!r) return snprintf(why, why_size, "out of memory"), NULL;
    r->pool = (pool){.left = TEMPLATE_MAX_MEMORY, .why = why, .why_size = why_size};
    output_text out = {0};
    char *copy = NULL;
    node *tree = n > ((size_t)1 << 20) ? (pool_fail(&r->pool, "chat template: longer than 1 MiB"), NULL)
                                       : template_parse(&r->pool, source, n);
    r->out = &out;
    r->globals = dict_new(r);
    for (const value *v = context && context->type == VALUE_OBJECT ? context->first : NULL; v && !r->pool.bad; v = v->next)
        dict_put(r, r->globals, val_text(v->key, strlen(v->key)), from_json(r, v));
    if (!r->pool.bad) run_nodes(r, tree);
    if (!r->pool.bad && !(copy = malloc(out.n + 1))) pool_fail(&r->pool, "out of memory");
    if (copy) {
        if (out.n) memcpy(copy, out.at, out.n);
        copy[out.n] = 0;
        *length = out.n;
    }
    pool_free(&r->pool);
    free(r);
    return copy;
}

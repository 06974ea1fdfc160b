/* template_value.c - values of chat templates: their forms, and comparison, display and JSON of them. See template_value.h. */
#include "template_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

val fail(run *r, const char *what) {
    pool_fail(&r->pool, "chat template: %s", what);
    return (val){.type = V_UNDEFINED};
}

val val_text(const char *at, size_t n) {
    return (val){.type = V_TEXT, .text = {at, n}};
}

val val_integer(int64_t i) {
    return (val){.type = V_INTEGER, .integer = i};
}

val val_number(double x) {
    return (val){.type = V_NUMBER, .number = x};
}

val val_bool(int b) {
    return (val){.type = V_BOOL, .integer = b != 0};
}

val val_list(run *r) {
    return (val){.type = V_LIST, .list = pool_get(&r->pool, sizeof(list))};
}

void list_add(run *r, list *l, val v) {
    if (r->pool.bad) return;
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 8;
        val *more = pool_get(&r->pool, room * sizeof *more);
        if (r->pool.bad) return;
        if (l->n) memcpy(more, l->items, l->n * sizeof *more);
        l->items = more;
        l->room = room;
    }
    l->items[l->n++] = v;
}

dict *dict_new(run *r) {
    return pool_get(&r->pool, sizeof(dict));
}

val *dict_get(dict *d, val key) {
    for (size_t i = 0; i < d->n; i++)
        if (equal(d->keys[i], key, 0)) return &d->values[i];
    return NULL;
}

void dict_put(run *r, dict *d, val key, val v) {
    if (r->pool.bad) return;
    val *known = dict_get(d, key);
    if (known) {
        *known = v;
        return;
    }
    r->steps += (int64_t)d->n / 16; /* it is searched from its beginning */
    if (d->n == d->room) {
        size_t room = d->room ? 2 * d->room : 4;
        val *keys = pool_get(&r->pool, 2 * room * sizeof *keys);
        if (r->pool.bad) return;
        if (d->n) memcpy(keys, d->keys, d->n * sizeof *keys), memcpy(keys + room, d->values, d->n * sizeof *keys);
        d->keys = keys;
        d->values = keys + room;
        d->room = room;
    }
    d->keys[d->n] = key;
    d->values[d->n++] = v;
}

void put(run *r, output_text *out, const char *text, size_t n) {
    if (r->pool.bad || !n) return;
    if (out->n + n > out->room) {
        size_t room = 2 * (out->n + n) + 64;
        char *more = pool_get(&r->pool, room);
        if (r->pool.bad) return;
        if (out->n) memcpy(more, out->at, out->n);
        out->at = more;
        out->room = room;
    }
    memcpy(out->at + out->n, text, n);
    out->n += n;
}

/* json_read.c bounds the depth. */
val from_json(run *r, const value *v) {
    val out;
    switch (v->type) {
    case VALUE_NULL:
        return (val){.type = V_NONE};
    case VALUE_FALSE:
    case VALUE_TRUE:
        return val_bool(v->type == VALUE_TRUE);
    case VALUE_NUMBER:
        if (v->number == floor(v->number) && fabs(v->number) < 9e15 && !strpbrk(v->text, ".eE"))
            return val_integer((int64_t)v->number);
        return val_number(v->number);
    case VALUE_TEXT:
        return val_text(v->text, v->n);
    case VALUE_LIST:
        out = val_list(r);
        for (const value *x = v->first; x && !r->pool.bad; x = x->next) list_add(r, out.list, from_json(r, x));
        return out;
    default:
        break;
    }
    out = (val){.type = V_DICT, .dict = dict_new(r)};
    for (const value *x = v->first; x && !r->pool.bad; x = x->next)
        dict_put(r, out.dict, val_text(x->key, strlen(x->key)), from_json(r, x));
    return out;
}

int truth(val v) {
    switch (v.type) {
    case V_UNDEFINED:
    case V_NONE:
        return 0;
    case V_BOOL:
    case V_INTEGER:
        return v.integer != 0;
    case V_NUMBER:
        return v.number != 0;
    case V_TEXT:
        return v.text.n != 0;
    case V_LIST:
        return v.list->n != 0;
    case V_DICT:
        return v.dict->n != 0;
    default:
        return 1;
    }
}

int is_number(val v) {
    return v.type == V_BOOL || v.type == V_INTEGER || v.type == V_NUMBER;
}

double as_number(val v) {
    return v.type == V_NUMBER ? v.number : (double)v.integer;
}

int compare_text(span a, span b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.at, b.at, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

int equal(val a, val b, int depth) {
    if (is_number(a) && is_number(b)) return as_number(a) == as_number(b);
    if (a.type != b.type || depth > 32) return 0;
    switch (a.type) {
    case V_TEXT:
        return a.text.n == b.text.n && !compare_text(a.text, b.text);
    case V_LIST:
        if (a.list->n != b.list->n) return 0;
        for (size_t i = 0; i < a.list->n; i++)
            if (!equal(a.list->items[i], b.list->items[i], depth + 1)) return 0;
        return 1;
    case V_DICT:
        if (a.dict->n != b.dict->n) return 0;
        for (size_t i = 0; i < a.dict->n; i++) {
            val *other = a.dict == b.dict ? &a.dict->values[i] : dict_get(b.dict, a.dict->keys[i]);
            if (!other || !equal(a.dict->values[i], *other, depth + 1)) return 0;
        }
        return 1;
    case V_MACRO:
        return a.macro == b.macro;
    default:
        return 1;
    }
}

static int holds(span all, span part) {
    for (size_t i = 0; i + part.n <= all.n; i++)
        if (!part.n || !memcmp(all.at + i, part.at, part.n)) return 1;
    return 0;
}

int contains(run *r, val all, val one) {
    if (all.type == V_TEXT) return one.type == V_TEXT && holds(all.text, one.text);
    if (all.type == V_DICT) return dict_get(all.dict, one) != NULL;
    if (all.type == V_UNDEFINED) return 0;
    if (all.type != V_LIST) return fail(r, "'in' what holds nothing"), 0;
    for (size_t i = 0; i < all.list->n; i++)
        if (equal(all.list->items[i], one, 0)) return 1;
    return 0;
}

/* ---- display ---- */

static void put_word(run *r, output_text *out, const char *word) {
    put(r, out, word, strlen(word));
}

static void put_number(run *r, output_text *out, double x) {
    char text[40];
    snprintf(text, sizeof text, "%.17g", x);
    for (int digits = 1; digits < 17; digits++) { /* the shortest that reads back */
        char shorter[40];
        double back = 0;
        snprintf(shorter, sizeof shorter, "%.*g", digits, x);
        if (sscanf(shorter, "%lf", &back) == 1 && back == x) {
            memcpy(text, shorter, sizeof text);
            break;
        }
    }
    put_word(r, out, text);
    if (!strpbrk(text, ".eni")) put_word(r, out, ".0");
}

static void display(run *r, output_text *out, val v, int inside, int depth) {
    char text[32];
    if (depth > 32) {
        fail(r, "a value nested too deep");
        return;
    }
    switch (v.type) {
    case V_UNDEFINED:
        return;
    case V_NONE:
        put_word(r, out, "None");
        return;
    case V_BOOL:
        put_word(r, out, v.integer ? "True" : "False");
        return;
    case V_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)v.integer);
        put_word(r, out, text);
        return;
    case V_NUMBER:
        put_number(r, out, v.number);
        return;
    case V_TEXT:
        if (inside) put_word(r, out, "'");
        put(r, out, v.text.at, v.text.n);
        if (inside) put_word(r, out, "'");
        return;
    case V_LIST:
        put_word(r, out, "[");
        for (size_t i = 0; i < v.list->n && !r->pool.bad; i++) {
            if (i) put_word(r, out, ", ");
            display(r, out, v.list->items[i], 1, depth + 1);
        }
        put_word(r, out, "]");
        return;
    case V_DICT:
        put_word(r, out, "{");
        for (size_t i = 0; i < v.dict->n && !r->pool.bad; i++) {
            if (i) put_word(r, out, ", ");
            display(r, out, v.dict->keys[i], 1, depth + 1);
            put_word(r, out, ": ");
            display(r, out, v.dict->values[i], 1, depth + 1);
        }
        put_word(r, out, "}");
        return;
    default:
        fail(r, "a macro is shown and not called");
        return;
    }
}

span shown(run *r, val v) {
    if (v.type == V_TEXT) return v.text;
    output_text out = {0};
    display(r, &out, v, 0, 0);
    return (span){out.at ? out.at : "", out.n};
}

val concat(run *r, span a, span b) {
    char *text = pool_get(&r->pool, a.n + b.n + 1);
    if (r->pool.bad) return val_text("", 0);
    if (a.n) memcpy(text, a.at, a.n);
    if (b.n) memcpy(text + a.n, b.at, b.n);
    return val_text(text, a.n + b.n);
}

size_t text_length(span s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.at[i] & 0xC0) != 0x80;
    return n;
}

size_t text_offset(span s, size_t character) {
    size_t i = 0;
    for (size_t n = 0; i < s.n; i++)
        if (((unsigned char)s.at[i] & 0xC0) != 0x80 && n++ == character) return i;
    return s.n;
}

val as_list(run *r, val v) {
    val out = val_list(r);
    if (v.type == V_LIST) return v;
    if (v.type == V_DICT) {
        for (size_t i = 0; i < v.dict->n; i++) list_add(r, out.list, v.dict->keys[i]);
    } else if (v.type == V_TEXT) {
        for (size_t at = 0, next; at < v.text.n && !r->pool.bad; at = next) {
            for (next = at + 1; next < v.text.n && ((unsigned char)v.text.at[next] & 0xC0) == 0x80;) next++;
            list_add(r, out.list, val_text(v.text.at + at, next - at));
        }
    } else if (v.type != V_UNDEFINED) {
        fail(r, "a loop over what has no parts");
    }
    return out;
}

val attribute(run *r, val object, span name) {
    (void)r;
    if (object.type != V_DICT) return (val){.type = V_UNDEFINED};
    val *v = dict_get(object.dict, val_text(name.at, name.n));
    return v ? *v : (val){.type = V_UNDEFINED};
}

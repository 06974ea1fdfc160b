/* template_calls.c - methods, functions, filters and tests of chat templates. See template_value.h. What is not here is an
 * error that names it. */
#include "template_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int is(span s, const char *text) {
    return s.n == strlen(text) && !memcmp(s.at, text, s.n);
}

static int is_any(span s, const char *words) { /* "a|b|c" */
    for (const char *at = words; *at;) {
        size_t n = strcspn(at, "|");
        if (s.n == n && !memcmp(s.at, at, n)) return 1;
        at += n + (at[n] == '|');
    }
    return 0;
}

static val unknown(run *r, const char *what, span name) {
    pool_fail(&r->pool, "chat template: %s '%.*s' is not supported", what, (int)(name.n < 60 ? name.n : 60), name.at);
    return (val){.type = V_UNDEFINED};
}

/* Argument `i`, or the one of this name; undefined where there is none. */
static val argument(const arguments *a, int i, const char *name) {
    for (int k = 0; k < a->n_named; k++)
        if (is(a->names[k], name)) return a->named[k];
    return i >= 0 && i < a->n ? a->at[i] : (val){.type = V_UNDEFINED};
}

/* ---- texts ---- */

static int blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static val stripped(span s, val chars, int left, int right) {
    span set = chars.type == V_TEXT ? chars.text : (span){" \t\n\r\v\f", 6};
    while (left && s.n && memchr(set.at, s.at[0], set.n)) s.at++, s.n--;
    while (right && s.n && memchr(set.at, s.at[s.n - 1], set.n)) s.n--;
    return val_text(s.at, s.n);
}

/* ASCII letters; others stay as they are. */
static val cased(run *r, span s, const char *how) {
    char *out = pool_get(&r->pool, s.n + 1);
    int begins = 1;
    if (r->pool.bad) return val_text("", 0);
    for (size_t i = 0; i < s.n; i++) {
        char c = s.at[i];
        int up = *how == 'u' || (*how == 't' && begins) || (*how == 'c' && i == 0),
            word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        out[i] = up && c >= 'a' && c <= 'z' ? (char)(c - 32) : !up && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        begins = !word && (unsigned char)c < 128;
    }
    return val_text(out, s.n);
}

static size_t find(span s, size_t from, span part) {
    for (size_t i = from; i + part.n <= s.n; i++)
        if (!memcmp(s.at + i, part.at, part.n)) return i;
    return SIZE_MAX;
}

static val replaced(run *r, span s, val from, val to, val count) {
    output_text out = {0};
    if (from.type != V_TEXT || to.type != V_TEXT) return fail(r, "replace wants texts");
    int64_t most = count.type == V_INTEGER ? count.integer : INT64_MAX;
    size_t at = 0;
    if (!from.text.n) return val_text(s.at, s.n);
    for (size_t hit; most-- > 0 && (hit = find(s, at, from.text)) != SIZE_MAX && !r->pool.bad; at = hit + from.text.n) {
        put(r, &out, s.at + at, hit - at);
        put(r, &out, to.text.at, to.text.n);
    }
    put(r, &out, s.at + at, s.n - at);
    return val_text(out.at ? out.at : "", out.n);
}

static val split(run *r, span s, val by, val most) {
    val out = val_list(r);
    int64_t left = most.type == V_INTEGER && most.integer >= 0 ? most.integer : INT64_MAX;
    size_t at = 0;
    if (by.type == V_TEXT && by.text.n) {
        for (size_t hit; left-- > 0 && (hit = find(s, at, by.text)) != SIZE_MAX && !r->pool.bad; at = hit + by.text.n)
            list_add(r, out.list, val_text(s.at + at, hit - at));
        list_add(r, out.list, val_text(s.at + at, s.n - at));
        return out;
    }
    while (at < s.n && !r->pool.bad) {
        while (at < s.n && blank(s.at[at])) at++;
        size_t from = at;
        if (left-- <= 0) at = s.n;
        while (at < s.n && !blank(s.at[at])) at++;
        if (at > from) list_add(r, out.list, val_text(s.at + from, at - from));
    }
    return out;
}

static int starts(span s, val with, int end) {
    if (with.type == V_LIST) {
        for (size_t i = 0; i < with.list->n; i++)
            if (starts(s, with.list->items[i], end)) return 1;
        return 0;
    }
    return with.type == V_TEXT && with.text.n <= s.n &&
           !memcmp(s.at + (end ? s.n - with.text.n : 0), with.text.at, with.text.n);
}

static val text_method(run *r, span s, span name, const arguments *a) {
    val one = argument(a, 0, "chars"), two = argument(a, 1, "");
    if (is(name, "strip")) return stripped(s, one, 1, 1);
    if (is(name, "lstrip")) return stripped(s, one, 1, 0);
    if (is(name, "rstrip")) return stripped(s, one, 0, 1);
    if (is_any(name, "upper|lower|title|capitalize")) return cased(r, s, is(name, "lower") ? "l" : name.at);
    if (is(name, "replace")) return replaced(r, s, one, two, argument(a, 2, "count"));
    if (is(name, "split")) return split(r, s, argument(a, 0, "sep"), argument(a, 1, "maxsplit"));
    if (is(name, "startswith") || is(name, "endswith")) return val_bool(starts(s, one, is(name, "endswith")));
    if (is(name, "find")) {
        size_t hit = one.type == V_TEXT ? find(s, 0, one.text) : SIZE_MAX;
        return val_integer(hit == SIZE_MAX ? -1 : (int64_t)text_length((span){s.at, hit}));
    }
    if (is(name, "count")) {
        int64_t n = 0;
        for (size_t at = 0, hit; one.type == V_TEXT && one.text.n && (hit = find(s, at, one.text)) != SIZE_MAX;
             at = hit + one.text.n)
            n++;
        return val_integer(n);
    }
    if (is(name, "isdigit")) {
        int digits = s.n > 0;
        for (size_t i = 0; i < s.n; i++) digits = digits && s.at[i] >= '0' && s.at[i] <= '9';
        return val_bool(digits);
    }
    if (is(name, "join")) {
        arguments none = {.n = 1, .at = {val_text(s.at, s.n)}};
        return filter(r, (span){"join", 4}, one, &none);
    }
    return unknown(r, "a text's method", name);
}

/* ---- lists and dicts ---- */

static val pairs(run *r, dict *d, int keys, int values) {
    val out = val_list(r);
    for (size_t i = 0; i < d->n && !r->pool.bad; i++) {
        val pair = keys && values ? val_list(r) : keys ? d->keys[i] : d->values[i];
        if (keys && values) list_add(r, pair.list, d->keys[i]), list_add(r, pair.list, d->values[i]);
        list_add(r, out.list, pair);
    }
    return out;
}

val call_method(run *r, val object, span name, const arguments *a) {
    if (object.type == V_TEXT) return text_method(r, object.text, name, a);
    if (object.type == V_DICT) {
        if (is(name, "items")) return pairs(r, object.dict, 1, 1);
        if (is(name, "keys")) return pairs(r, object.dict, 1, 0);
        if (is(name, "values")) return pairs(r, object.dict, 0, 1);
        if (is(name, "get")) {
            val *v = dict_get(object.dict, argument(a, 0, "key")), other = argument(a, 1, "default");
            return v ? *v : other.type == V_UNDEFINED ? (val){.type = V_NONE} : other;
        }
        if (is(name, "update")) {
            val more = argument(a, 0, "");
            for (size_t i = 0; more.type == V_DICT && i < more.dict->n; i++)
                dict_put(r, object.dict, more.dict->keys[i], more.dict->values[i]);
            for (int k = 0; k < a->n_named; k++) dict_put(r, object.dict, val_text(a->names[k].at, a->names[k].n), a->named[k]);
            return (val){.type = V_NONE};
        }
    }
    if (object.type == V_LIST && is(name, "append")) {
        list_add(r, object.list, argument(a, 0, ""));
        return (val){.type = V_NONE};
    }
    if (object.type == V_LIST && is(name, "pop")) {
        if (object.list->n == 0) return fail(r, "pop of an empty list");
        return object.list->items[--object.list->n];
    }
    return unknown(r, "a method", name);
}

val call_function(run *r, span name, const arguments *a) {
    if (is(name, "raise_exception")) {
        span s = shown(r, argument(a, 0, "message"));
        pool_fail(&r->pool, "the chat template refuses these messages: %.*s", (int)(s.n < 150 ? s.n : 150), s.at);
        return (val){.type = V_UNDEFINED};
    }
    if (is(name, "namespace") || is(name, "dict")) {
        val out = {.type = V_DICT, .dict = dict_new(r)};
        for (int k = 0; k < a->n_named; k++) dict_put(r, out.dict, val_text(a->names[k].at, a->names[k].n), a->named[k]);
        return out;
    }
    if (is(name, "range")) {
        val out = val_list(r), x = argument(a, 0, ""), y = argument(a, 1, ""), z = argument(a, 2, "");
        int64_t from = y.type == V_INTEGER ? x.integer : 0, to = y.type == V_INTEGER ? y.integer : x.integer,
                step = z.type == V_INTEGER ? z.integer : 1;
        if (x.type != V_INTEGER || step == 0 || llabs(to) > 1000000 || llabs(from) > 1000000)
            return fail(r, "a range of what is no number, or above 1000000");
        for (int64_t i = from; (step > 0 ? i < to : i > to) && !r->pool.bad; i += step) list_add(r, out.list, val_integer(i));
        return out;
    }
    if (is(name, "strftime_now")) {
        char format[128], text[256];
        val f = argument(a, 0, "format");
        time_t now = time(NULL);
        struct tm parts;
        if (f.type != V_TEXT || f.text.n >= sizeof format || !localtime_r(&now, &parts))
            return fail(r, "strftime_now wants a format");
        memcpy(format, f.text.at, f.text.n);
        format[f.text.n] = 0;
        size_t n = strftime(text, sizeof text, format, &parts);
        return concat(r, (span){text, n}, (span){"", 0});
    }
    return unknown(r, "a function", name);
}

/* ---- JSON ---- */

static void json_text(run *r, output_text *out, span s) {
    put(r, out, "\"", 1);
    for (size_t i = 0; i < s.n && !r->pool.bad; i++) {
        char code[8];
        unsigned char c = (unsigned char)s.at[i];
        const char *known = c && c != '/' ? strchr("\"\\\b\f\n\r\t", c) : NULL;
        if (known)
            snprintf(code, sizeof code, "\\%c", "\"\\bfnrt"[known - "\"\\\b\f\n\r\t"]);
        else if (c < 32)
            snprintf(code, sizeof code, "\\u%04x", c);
        else
            snprintf(code, sizeof code, "%c", c);
        put(r, out, code, strlen(code));
    }
    put(r, out, "\"", 1);
}

static void json_break(run *r, output_text *out, int64_t indent, int depth) {
    if (indent < 0) return;
    put(r, out, "\n", 1);
    for (int64_t i = 0; i < indent * depth; i++) put(r, out, " ", 1);
}

static void to_json(run *r, output_text *out, val v, int64_t indent, int depth) {
    span s;
    if (depth > 32) {
        fail(r, "a value nested too deep");
        return;
    }
    switch (v.type) {
    case V_TEXT:
        json_text(r, out, v.text);
        return;
    case V_UNDEFINED:
    case V_NONE:
        put(r, out, "null", 4);
        return;
    case V_BOOL:
        put(r, out, v.integer ? "true" : "false", v.integer ? 4 : 5);
        return;
    case V_LIST:
    case V_DICT:
        break;
    default:
        s = shown(r, v);
        put(r, out, s.at, s.n);
        return;
    }
    size_t n = v.type == V_LIST ? v.list->n : v.dict->n;
    put(r, out, v.type == V_LIST ? "[" : "{", 1);
    for (size_t i = 0; i < n && !r->pool.bad; i++) {
        if (i) put(r, out, indent < 0 ? ", " : ",", indent < 0 ? 2 : 1);
        json_break(r, out, indent, depth + 1);
        if (v.type == V_DICT) {
            json_text(r, out, shown(r, v.dict->keys[i]));
            put(r, out, ": ", 2);
        }
        to_json(r, out, v.type == V_LIST ? v.list->items[i] : v.dict->values[i], indent, depth + 1);
    }
    if (n) json_break(r, out, indent, depth);
    put(r, out, v.type == V_LIST ? "]" : "}", 1);
}

/* ---- filters ---- */

static int compare_values(const void *a, const void *b) {
    const val *x = a, *y = b;
    if (is_number(*x) && is_number(*y)) return (as_number(*x) > as_number(*y)) - (as_number(*x) < as_number(*y));
    return x->type == V_TEXT && y->type == V_TEXT ? compare_text(x->text, y->text) : 0;
}

static int compare_pairs(const void *a, const void *b) {
    const val *x = a, *y = b;
    return compare_values(&x->list->items[0], &y->list->items[0]);
}

static val joined(run *r, val v, val by, val member) {
    val all = as_list(r, v);
    output_text out = {0};
    for (size_t i = 0; !r->pool.bad && i < all.list->n; i++) {
        val item = member.type == V_TEXT ? attribute(r, all.list->items[i], member.text) : all.list->items[i];
        span s = shown(r, item);
        if (i && by.type == V_TEXT) put(r, &out, by.text.at, by.text.n);
        put(r, &out, s.at, s.n);
    }
    return val_text(out.at ? out.at : "", out.n);
}

/* selectattr, rejectattr (by a member), select, reject (by the item). */
static val selected(run *r, span name, val v, const arguments *a) {
    int by_member = name.n > 6, keep = name.at[0] == 's';
    val all = as_list(r, v), out = val_list(r), member = argument(a, 0, "attribute"), how = argument(a, by_member, "");
    arguments rest = {.n = a->n > by_member + 1 ? a->n - by_member - 1 : 0};
    for (int i = 0; i < rest.n; i++) rest.at[i] = a->at[i + by_member + 1];
    for (size_t i = 0; !r->pool.bad && i < all.list->n; i++) {
        val item = all.list->items[i], x = by_member && member.type == V_TEXT ? attribute(r, item, member.text) : item;
        int fits = how.type == V_TEXT ? test(r, how.text, x, &rest) : truth(x);
        if (fits == keep) list_add(r, out.list, item);
    }
    return out;
}

static val mapped(run *r, val v, const arguments *a) {
    val all = as_list(r, v), out = val_list(r), member = argument(a, -1, "attribute"), other = argument(a, -1, "default"),
        name = argument(a, 0, "");
    arguments rest = {.n = a->n > 1 ? a->n - 1 : 0};
    for (int i = 0; i < rest.n; i++) rest.at[i] = a->at[i + 1];
    for (size_t i = 0; !r->pool.bad && i < all.list->n; i++) {
        val x = all.list->items[i];
        if (member.type == V_TEXT) {
            x = attribute(r, x, member.text);
            if (x.type == V_UNDEFINED) x = other;
        } else if (name.type == V_TEXT) {
            x = filter(r, name.text, x, &rest);
        }
        list_add(r, out.list, x);
    }
    return out;
}

static val sorted(run *r, val v, const arguments *a) {
    val all = as_list(r, v), pairs_list = val_list(r), out = val_list(r), member = argument(a, -1, "attribute");
    for (size_t i = 0; !r->pool.bad && i < all.list->n; i++) {
        val pair = val_list(r);
        list_add(r, pair.list, member.type == V_TEXT ? attribute(r, all.list->items[i], member.text) : all.list->items[i]);
        list_add(r, pair.list, all.list->items[i]);
        list_add(r, pairs_list.list, pair);
    }
    if (r->pool.bad) return out;
    if (pairs_list.list->n) qsort(pairs_list.list->items, pairs_list.list->n, sizeof(val), compare_pairs);
    for (size_t i = 0; i < pairs_list.list->n; i++) list_add(r, out.list, pairs_list.list->items[i].list->items[1]);
    return out;
}

static val indented(run *r, span s, val width, val first) {
    output_text out = {0};
    int64_t n = width.type == V_INTEGER && width.integer >= 0 && width.integer < 1000 ? width.integer : 4;
    for (size_t i = 0; i <= s.n && !r->pool.bad; i++) {
        int line = i == 0 ? truth(first) : s.at[i - 1] == '\n' && i < s.n && s.at[i] != '\n';
        for (int64_t k = 0; line && k < n; k++) put(r, &out, " ", 1);
        if (i < s.n) put(r, &out, s.at + i, 1);
    }
    return val_text(out.at ? out.at : "", out.n);
}

static val to_integer(run *r, val v) {
    (void)r;
    char text[32];
    if (is_number(v)) return fabs(as_number(v)) < 9e18 ? val_integer((int64_t)as_number(v)) : val_integer(0);
    if (v.type != V_TEXT || v.text.n >= sizeof text) return val_integer(0);
    memcpy(text, v.text.at, v.text.n);
    text[v.text.n] = 0;
    return val_integer(strtoll(text, NULL, 10));
}

static val to_number(val v) {
    char text[64];
    if (is_number(v)) return val_number(as_number(v));
    if (v.type != V_TEXT || v.text.n >= sizeof text) return val_number(0);
    memcpy(text, v.text.at, v.text.n);
    text[v.text.n] = 0;
    double x = strtod(text, NULL);
    return val_number(isfinite(x) ? x : 0);
}

static val escaped(run *r, span s) {
    output_text out = {0};
    for (size_t i = 0; i < s.n; i++) {
        const char *code = s.at[i] == '<'    ? "&lt;"
                           : s.at[i] == '>'  ? "&gt;"
                           : s.at[i] == '&'  ? "&amp;"
                           : s.at[i] == '"'  ? "&#34;"
                           : s.at[i] == '\'' ? "&#39;"
                                             : NULL;
        put(r, &out, code ? code : s.at + i, code ? strlen(code) : 1);
    }
    return val_text(out.at ? out.at : "", out.n);
}

static val list_filter(run *r, span name, val v) {
    val all = as_list(r, v), out = val_list(r);
    size_t n = r->pool.bad ? 0 : all.list->n;
    if (is(name, "first")) return n ? all.list->items[0] : (val){.type = V_UNDEFINED};
    if (is(name, "last")) return n ? all.list->items[n - 1] : (val){.type = V_UNDEFINED};
    if (is(name, "min") || is(name, "max")) {
        val best = n ? all.list->items[0] : (val){.type = V_UNDEFINED};
        for (size_t i = 1; i < n; i++)
            if ((compare_values(&all.list->items[i], &best) < 0) == is(name, "min") &&
                compare_values(&all.list->items[i], &best))
                best = all.list->items[i];
        return best;
    }
    if (is(name, "sum")) {
        double sum = 0;
        int whole = 1;
        for (size_t i = 0; i < n; i++)
            if (is_number(all.list->items[i]))
                sum += as_number(all.list->items[i]), whole = whole && all.list->items[i].type != V_NUMBER;
        return whole && fabs(sum) < 9e15 ? val_integer((int64_t)sum) : val_number(sum);
    }
    for (size_t i = 0; i < n && !r->pool.bad; i++) {
        val item = all.list->items[is(name, "reverse") ? n - 1 - i : i];
        r->steps += is(name, "unique") ? (int64_t)out.list->n : 0;
        if (!is(name, "unique") || !contains(r, out, item)) list_add(r, out.list, item);
    }
    if (r->steps > TEMPLATE_MAX_STEPS) return fail(r, "it takes too many steps");
    return is(name, "reverse") && v.type == V_TEXT ? joined(r, out, (val){.type = V_UNDEFINED}, (val){.type = V_UNDEFINED})
                                                   : out;
}

val filter(run *r, span name, val v, const arguments *a) {
    val one = argument(a, 0, "");
    if (is_any(name, "length|count"))
        return val_integer(v.type == V_TEXT   ? (int64_t)text_length(v.text)
                           : v.type == V_LIST ? (int64_t)v.list->n
                           : v.type == V_DICT ? (int64_t)v.dict->n
                                              : 0);
    if (is(name, "tojson")) {
        output_text out = {0};
        val indent = argument(a, 0, "indent");
        to_json(r, &out, v, indent.type == V_INTEGER && indent.integer >= 0 && indent.integer < 100 ? indent.integer : -1, 0);
        return val_text(out.at ? out.at : "", out.n);
    }
    if (is_any(name, "default|d")) {
        int empty = v.type == V_UNDEFINED || (truth(argument(a, 1, "boolean")) && !truth(v));
        one = argument(a, 0, "default_value");
        return empty ? (one.type == V_UNDEFINED ? val_text("", 0) : one) : v;
    }
    if (is(name, "join")) return joined(r, v, argument(a, 0, "d"), argument(a, 1, "attribute"));
    if (is_any(name, "selectattr|rejectattr|select|reject")) return selected(r, name, v, a);
    if (is(name, "map")) return mapped(r, v, a);
    if (is(name, "sort")) return sorted(r, v, a);
    if (is_any(name, "first|last|min|max|sum|unique|list|reverse")) return list_filter(r, name, v);
    if (is_any(name, "items|dictsort")) {
        val all = v.type == V_DICT ? pairs(r, v.dict, 1, 1) : val_list(r);
        return is(name, "dictsort") ? sorted(r, all, a) : all;
    }
    if (is_any(name, "safe|string")) {
        span s = shown(r, v);
        return val_text(s.at, s.n);
    }
    if (is(name, "int")) return to_integer(r, v);
    if (is(name, "float")) return to_number(v);
    if (is(name, "abs"))
        return v.type == V_INTEGER ? val_integer(v.integer < 0 ? -v.integer : v.integer)
                                   : val_number(fabs(to_number(v).number));
    if (is(name, "round")) return val_number(round(to_number(v).number));
    span s = shown(r, v);
    if (is(name, "trim")) return stripped(s, one, 1, 1);
    if (is_any(name, "upper|lower|title|capitalize")) return cased(r, s, is(name, "lower") ? "l" : name.at);
    if (is(name, "replace")) return replaced(r, s, one, argument(a, 1, ""), argument(a, 2, "count"));
    if (is(name, "split")) return split(r, s, one, argument(a, 1, ""));
    if (is(name, "indent")) return indented(r, s, argument(a, 0, "width"), argument(a, 1, "first"));
    if (is_any(name, "escape|e")) return escaped(r, s);
    return unknown(r, "a filter", name);
}

/* ---- tests ---- */

int test(run *r, span name, val v, const arguments *a) {
    val one = argument(a, 0, "");
    if (is(name, "defined")) return v.type != V_UNDEFINED;
    if (is(name, "undefined")) return v.type == V_UNDEFINED;
    if (is_any(name, "none|None")) return v.type == V_NONE;
    if (is(name, "string")) return v.type == V_TEXT;
    if (is(name, "number")) return v.type == V_INTEGER || v.type == V_NUMBER;
    if (is(name, "integer")) return v.type == V_INTEGER;
    if (is(name, "float")) return v.type == V_NUMBER;
    if (is(name, "boolean")) return v.type == V_BOOL;
    if (is_any(name, "true|True")) return v.type == V_BOOL && v.integer;
    if (is_any(name, "false|False")) return v.type == V_BOOL && !v.integer;
    if (is(name, "mapping")) return v.type == V_DICT;
    if (is_any(name, "iterable|sequence")) return v.type == V_LIST || v.type == V_DICT || v.type == V_TEXT;
    if (is(name, "callable")) return v.type == V_MACRO;
    if (is(name, "odd")) return v.type == V_INTEGER && v.integer % 2 != 0;
    if (is(name, "even")) return v.type == V_INTEGER && v.integer % 2 == 0;
    if (is(name, "divisibleby"))
        return v.type == V_INTEGER && one.type == V_INTEGER && one.integer > 0 && v.integer % one.integer == 0;
    if (is_any(name, "eq|equalto|sameas")) return equal(v, one, 0);
    if (is(name, "ne")) return !equal(v, one, 0);
    if (is(name, "in")) return contains(r, one, v);
    if (is(name, "startswith")) return v.type == V_TEXT && starts(v.text, one, 0);
    if (is(name, "endswith")) return v.type == V_TEXT && starts(v.text, one, 1);
    unknown(r, "a test", name);
    return 0;
}

/* schema.c - JSON Schema to GBNF. See schema.h. Every schema becomes one expression; what is referred to becomes a rule of
 * its own, made once, so that recursive schemas work. Depth and the grammar's size are bounded. */
#include "schema.h"

#include "json_read.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH      48
#define MAX_GRAMMAR    ((size_t)1 << 20)
#define MAX_REFERENCES 256
#define MAX_PARTS      4096

typedef struct maker {
    const value *root;
    char *text; /* rules that are finished */
    size_t n, room;
    const value *referred[MAX_REFERENCES];
    int n_referred, n_parts, bad;
    struct part {
        const value *schema, *member;
        int begun;
    } parts[MAX_PARTS]; /* tails of objects that have a rule */
    char *why;
    size_t why_size;
} maker;

typedef struct text {
    char *at;
    size_t n, room;
} text;

static int fail(maker *m, const char *what, const char *name) {
    if (!m->bad) snprintf(m->why, m->why_size, "JSON schema: %s%.60s", what, name);
    m->bad = 1;
    return -1;
}

static int put_n(maker *m, text *t, const char *more, size_t n) {
    if (t->n + n + 1 > MAX_GRAMMAR) return fail(m, "too large a grammar", "");
    if (t->n + n + 1 > t->room) {
        size_t room = 2 * (t->n + n) + 256;
        char *grown = realloc(t->at, room);
        if (!grown) return fail(m, "out of memory", "");
        t->at = grown;
        t->room = room;
    }
    memcpy(t->at + t->n, more, n);
    t->n += n;
    t->at[t->n] = 0;
    return 0;
}

static int put(maker *m, text *t, const char *more) {
    return put_n(m, t, more, strlen(more));
}

/* Text within a grammar's quotes. */
static int put_quoted(maker *m, text *t, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char code[8];
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            snprintf(code, sizeof code, "\\%c", c);
        else if (c < 32 || c == 127)
            snprintf(code, sizeof code, "\\x%02X", c);
        else
            snprintf(code, sizeof code, "%c", c);
        if (put(m, t, code)) return -1;
    }
    return 0;
}

/* A text as JSON writes it, within a grammar's quotes. */
static int put_json_text(maker *m, text *t, const char *s, size_t n) {
    if (put(m, t, "\\\"")) return -1;
    for (size_t i = 0; i < n; i++) {
        char code[16];
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            snprintf(code, sizeof code, "\\%c", c);
        else if (c == '\n')
            snprintf(code, sizeof code, "\\n");
        else if (c < 32)
            snprintf(code, sizeof code, "\\u%04x", c);
        else
            snprintf(code, sizeof code, "%c", c);
        if (put_quoted(m, t, code, strlen(code))) return -1;
    }
    return put(m, t, "\\\"");
}

/* A value of enum or const as the JSON that stands for it. */
static int put_value(maker *m, text *t, const value *v, int depth) {
    static const char *const words[] = {"null", "false", "true"};
    if (depth > MAX_DEPTH) return fail(m, "nested too deep", "");
    if (v->type <= VALUE_TRUE) return put(m, t, words[v->type]);
    if (v->type == VALUE_NUMBER) return put_quoted(m, t, v->text, v->n);
    if (v->type == VALUE_TEXT) return put_json_text(m, t, v->text, v->n);
    if (put(m, t, v->type == VALUE_LIST ? "[" : "{")) return -1;
    for (const value *x = v->first; x; x = x->next) {
        if (x != v->first && put(m, t, ", ")) return -1;
        if (x->key && (put_json_text(m, t, x->key, strlen(x->key)) || put(m, t, ": "))) return -1;
        if (put_value(m, t, x, depth + 1)) return -1;
    }
    return put(m, t, v->type == VALUE_LIST ? "]" : "}");
}

static int expression(maker *m, text *t, const value *s, int depth);

static int whole(maker *m, const value *s, const char *key, int64_t fallback, int64_t *out) {
    const value *v = value_get(s, key);
    *out = fallback;
    if (!v) return 0;
    if (v->type != VALUE_NUMBER || v->number < 0 || v->number > 2000 || v->number != (double)(int64_t)v->number)
        return fail(m, "not a whole number from 0 to 2000: ", key);
    *out = (int64_t)v->number;
    return 0;
}

static int put_count(maker *m, text *t, int64_t least, int64_t most) {
    char code[64];
    if (most < 0)
        snprintf(code, sizeof code, "{%lld,}", (long long)least);
    else
        snprintf(code, sizeof code, "{%lld,%lld}", (long long)least, (long long)most);
    return put(m, t, code);
}

static int put_string(maker *m, text *t, const value *s) {
    int64_t least, most;
    if (whole(m, s, "minLength", 0, &least) || whole(m, s, "maxLength", -1, &most)) return -1;
    return put(m, t, "\"\\\"\" char") || put_count(m, t, least, most) || put(m, t, " \"\\\"\"");
}

static int put_list(maker *m, text *t, const value *s, int depth) {
    const value *items = value_get(s, "items"), *first = value_get(s, "prefixItems");
    int64_t least, most;
    if (whole(m, s, "minItems", 0, &least) || whole(m, s, "maxItems", -1, &most) || put(m, t, "\"[\" space ")) return -1;
    if (most >= 0 && most < least) return fail(m, "maxItems is less than minItems", "");
    if (first && first->type == VALUE_LIST) {
        for (const value *x = first->first; x; x = x->next)
            if ((x != first->first && put(m, t, " \",\" space ")) || expression(m, t, x, depth + 1)) return -1;
        if (items && items->type != VALUE_FALSE) return fail(m, "items after prefixItems are not understood", "");
        return put(m, t, " \"]\" space");
    }
    text one = {0};
    int bad = items ? expression(m, &one, items, depth + 1) : put(m, &one, "value");
    if (!bad && most != 0) {
        bad = (least == 0 && put(m, t, "(")) || put(m, t, "(") || put(m, t, one.at) || put(m, t, ") (\",\" space (") ||
              put(m, t, one.at) || put(m, t, "))") || put_count(m, t, least > 0 ? least - 1 : 0, most < 0 ? -1 : most - 1) ||
              (least == 0 && put(m, t, ")?"));
    }
    free(one.at);
    return bad ? -1 : put(m, t, " \"]\" space");
}

static int required(const value *s, const char *key) {
    const value *list = value_get(s, "required");
    for (const value *v = list && list->type == VALUE_LIST ? list->first : NULL; v; v = v->next)
        if (v->type == VALUE_TEXT && !strcmp(v->text, key)) return 1;
    return 0;
}

static int put_member(maker *m, text *t, const value *p, int depth) {
    return put(m, t, "\"") || put_json_text(m, t, p->key, strlen(p->key)) || put(m, t, "\" space \":\" space ") ||
           expression(m, t, p, depth + 1);
}

/* The members from `p` on, in order; `begun`: one stands before for sure. Those that may be left out fork: either this one
 * and then the others with a comma before them, or the others as they are. To keep that small each tail is a rule of its
 * own. */
static int put_tail(maker *m, text *t, const value *s, const value *p, const value *more, int begun, int depth) {
    char name[32];
    text rule = {0};
    int bad = 0, id = 0;
    while (id < m->n_parts && (m->parts[id].schema != s || m->parts[id].member != p || m->parts[id].begun != begun)) id++;
    snprintf(name, sizeof name, "part%d", id);
    if (id < m->n_parts) return put(m, t, name);
    if (id == MAX_PARTS) return fail(m, "too many members", "");
    m->parts[m->n_parts++] = (struct part){s, p, begun};
    if (p) {
        int needed = required(s, p->key);
        bad = put(m, &rule, begun ? "\",\" space " : "") || put_member(m, &rule, p, depth) || put(m, &rule, " ") ||
              put_tail(m, &rule, s, p->next, more, 1, depth);
        if (!bad && !needed) bad = put(m, &rule, " | ") || put_tail(m, &rule, s, p->next, more, begun, depth);
    } else if (more) {
        text one = {0};
        bad = put(m, &one, "string \":\" space ") ||
              (more->type == VALUE_TRUE ? put(m, &one, "value") : expression(m, &one, more, depth + 1));
        if (!bad && begun) bad = put(m, &rule, "(\",\" space ") || put(m, &rule, one.at) || put(m, &rule, ")*");
        if (!bad && !begun)
            bad = put(m, &rule, "(") || put(m, &rule, one.at) || put(m, &rule, " (\",\" space ") || put(m, &rule, one.at) ||
                  put(m, &rule, ")*)?");
        free(one.at);
    } else {
        bad = put(m, &rule, "\"\"");
    }
    text all = {m->text, m->n, m->room};
    if (!bad)
        bad = put(m, &all, name) || put(m, &all, " ::= ") || put(m, &all, rule.at ? rule.at : "") || put(m, &all, "\n") ||
              put(m, t, name);
    m->text = all.at;
    m->n = all.n;
    m->room = all.room;
    free(rule.at);
    return bad ? -1 : 0;
}

static int put_object(maker *m, text *t, const value *s, int depth) {
    const value *members = value_get(s, "properties"), *more = value_get(s, "additionalProperties");
    if (!members && !more) return put(m, t, "object");
    if (members && members->type != VALUE_OBJECT) return fail(m, "properties is not an object", "");
    if (more && more->type == VALUE_FALSE)
        more = NULL;
    else if (!more && !members->first)
        return put(m, t, "object");
    if (members && members->count > 64) return fail(m, "an object of more than 64 members", "");
    const value *list = value_get(s, "required");
    for (const value *v = list && list->type == VALUE_LIST ? list->first : NULL; v; v = v->next)
        if (v->type != VALUE_TEXT || !members || !value_get(members, v->text))
            return fail(m, "a required member is none of its properties", "");
    return put(m, t, "\"{\" space ") || put_tail(m, t, s, members ? members->first : NULL, more, 0, depth) ||
           put(m, t, " \"}\" space");
}

static int put_type(maker *m, text *t, const value *s, const char *type, int depth) {
    static const char *const plain[] = {"number", "integer", "boolean", "null"};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!strcmp(type, plain[i])) return put(m, t, type);
    if (!strcmp(type, "string")) return put_string(m, t, s) || put(m, t, " space") ? -1 : 0;
    if (!strcmp(type, "array")) return put_list(m, t, s, depth);
    if (!strcmp(type, "object")) return put_object(m, t, s, depth);
    return fail(m, "an unknown type: ", type);
}

static int check_keywords(maker *m, const value *s) {
    static const char *const known[] = {"type",        "properties",  "required",  "additionalProperties",
                                        "items",       "prefixItems", "minItems",  "maxItems",
                                        "enum",        "const",       "anyOf",     "oneOf",
                                        "minLength",   "maxLength",   "$ref",      "$defs",
                                        "definitions", "$schema",     "$id",       "$comment",
                                        "title",       "description", "default",   "examples",
                                        "deprecated",  "readOnly",    "writeOnly", "strict",
                                        "name"};
    for (const value *v = s->first; v; v = v->next) {
        int fine = 0;
        for (size_t i = 0; i < sizeof known / sizeof known[0] && !fine; i++) fine = !strcmp(v->key, known[i]);
        if (!fine) return fail(m, "a keyword that is not understood: ", v->key);
    }
    return 0;
}

/* "#/$defs/name" */
static const value *resolve(maker *m, const char *ref) {
    const value *at = m->root;
    if (ref[0] != '#') return fail(m, "a reference that leaves the document: ", ref), NULL;
    for (ref++; at && *ref == '/';) {
        char key[256];
        size_t n = 0;
        for (ref++; *ref && *ref != '/' && n + 1 < sizeof key; ref++) {
            if (ref[0] == '~' && (ref[1] == '0' || ref[1] == '1'))
                key[n++] = *++ref == '0' ? '~' : '/';
            else
                key[n++] = *ref;
        }
        key[n] = 0;
        at = value_get(at, key);
    }
    if (!at || *ref) fail(m, "a reference to what is not there: ", ref);
    return m->bad ? NULL : at;
}

static int put_reference(maker *m, text *t, const char *ref) {
    const value *to = resolve(m, ref);
    char name[32];
    int i = 0;
    if (!to) return -1;
    while (i < m->n_referred && m->referred[i] != to) i++;
    if (i == MAX_REFERENCES) return fail(m, "too many references", "");
    if (i == m->n_referred) m->referred[m->n_referred++] = to; /* its rule is made at the end */
    snprintf(name, sizeof name, "ref%d", i);
    return put(m, t, name);
}

static int put_choices(maker *m, text *t, const value *list, int depth) {
    if (!list->first) return fail(m, "an empty anyOf or oneOf", "");
    for (const value *v = list->first; v; v = v->next)
        if (put(m, t, v == list->first ? "(" : " | ") || expression(m, t, v, depth + 1)) return -1;
    return put(m, t, ")");
}

static int expression(maker *m, text *t, const value *s, int depth) {
    if (depth > MAX_DEPTH) return fail(m, "nested too deep", "");
    if (s->type == VALUE_TRUE) return put(m, t, "value");
    if (s->type != VALUE_OBJECT) return fail(m, "a schema that is no object", "");
    if (check_keywords(m, s)) return -1;
    const value *v;
    if ((v = value_get(s, "$ref")) && v->type == VALUE_TEXT) return put_reference(m, t, v->text);
    if ((v = value_get(s, "const"))) return put(m, t, "\"") || put_value(m, t, v, depth) || put(m, t, "\" space") ? -1 : 0;
    if ((v = value_get(s, "enum")) && v->type == VALUE_LIST && v->first) {
        for (const value *x = v->first; x; x = x->next)
            if (put(m, t, x == v->first ? "(\"" : " | \"") || put_value(m, t, x, depth) || put(m, t, "\"")) return -1;
        return put(m, t, ") space");
    }
    if (((v = value_get(s, "anyOf")) || (v = value_get(s, "oneOf"))) && v->type == VALUE_LIST)
        return put_choices(m, t, v, depth);
    v = value_get(s, "type");
    if (v && v->type == VALUE_TEXT) return put_type(m, t, s, v->text, depth);
    if (v && v->type == VALUE_LIST && v->first) {
        for (const value *x = v->first; x; x = x->next)
            if (x->type != VALUE_TEXT || put(m, t, x == v->first ? "(" : " | ") || put_type(m, t, s, x->text, depth))
                return fail(m, "a type that is no text", "");
        return put(m, t, ")");
    }
    if (v) return fail(m, "a type that is neither text nor list", "");
    if (value_get(s, "properties")) return put_object(m, t, s, depth);
    return value_get(s, "items") ? put_list(m, t, s, depth) : put(m, t, "value");
}

static const char base[] =
    "space ::= (\" \" | \"\\n\" \" \"{0,8})?\n"
    "char ::= [^\"\\\\\\x00-\\x1F\\x7F] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" [0-9a-fA-F]{4})\n"
    "string ::= \"\\\"\" char* \"\\\"\" space\n"
    "number ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15}) (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})? space\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15}) space\n"
    "boolean ::= (\"true\" | \"false\") space\n"
    "null ::= \"null\" space\n"
    "array ::= \"[\" space (value (\",\" space value)*)? \"]\" space\n"
    "object ::= \"{\" space (string \":\" space value (\",\" space string \":\" space value)*)? \"}\" space\n"
    "value ::= object | array | string | number | boolean | null\n";

char *schema_to_grammar(const char *schema, size_t n, char *why, size_t why_size) {
    value *root = value_parse(schema, n, why, why_size);
    maker *m = root ? calloc(1, sizeof *m) : NULL;
    if (!m) return value_free(root), NULL;
    m->root = root;
    m->why = why;
    m->why_size = why_size;
    text t = {0};
    int bad = put(m, &t, "root ::= ") || expression(m, &t, root, 0) || put(m, &t, "\n");
    for (int i = 0; i < m->n_referred && !bad; i++) {
        char name[32];
        snprintf(name, sizeof name, "ref%d ::= ", i);
        bad = put(m, &t, name) || expression(m, &t, m->referred[i], 0) || put(m, &t, "\n");
    }
    if (!bad) bad = put(m, &t, m->text ? m->text : "") || put(m, &t, base);
    value_free(root);
    bad = bad || m->bad;
    free(m->text);
    free(m);
    if (!bad) return t.at;
    if (!*why) snprintf(why, why_size, "JSON schema: it cannot be made a grammar");
    free(t.at);
    return NULL;
}

/* json_read.c - a strict reader of JSON (RFC 8259). See json_read.h. Recursion is bounded by MAX_DEPTH, memory by the text's
 * own length: a value takes one byte of text at the least. Of two members with one key the last counts, as in most readers. */
#include "json_read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH  64
#define MAX_VALUES 1000000

typedef struct reader {
    const char *text, *at, *end;
    char *why;
    size_t why_size, values;
    int bad;
} reader;

static value *fail(reader *r, const char *what) {
    if (!r->bad) snprintf(r->why, r->why_size, "JSON, byte %zu: %s", (size_t)(r->at - r->text), what);
    r->bad = 1;
    return NULL;
}

static void space(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static int hex(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int four(reader *r, unsigned *c) {
    *c = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        if (r->at >= r->end || hex(*r->at) < 0) return fail(r, "an escape without its digits"), -1;
        *c = *c << 4 | (unsigned)hex(*r->at);
    }
    return 0;
}

static char *put_utf8(char *out, unsigned c) {
    if (c < 0x80) return *out++ = (char)c, out;
    if (c < 0x800) return *out++ = (char)(0xC0 | c >> 6), *out++ = (char)(0x80 | (c & 63)), out;
    if (c < 0x10000)
        return *out++ = (char)(0xE0 | c >> 12), *out++ = (char)(0x80 | (c >> 6 & 63)), *out++ = (char)(0x80 | (c & 63)), out;
    return *out++ = (char)(0xF0 | c >> 18), *out++ = (char)(0x80 | (c >> 12 & 63)), *out++ = (char)(0x80 | (c >> 6 & 63)),
           *out++ = (char)(0x80 | (c & 63)), out;
}

static int escape(reader *r, char **out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at >= r->end) return fail(r, "a text that is not closed"), -1;
    const char *known = strchr(from, *r->at);
    if (*r->at && known) {
        *(*out)++ = to[known - from];
        r->at++;
        return 0;
    }
    unsigned c, low;
    if (*r->at != 'u') return fail(r, "an unknown escape"), -1;
    r->at++;
    if (four(r, &c)) return -1;
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u') return fail(r, "half of a surrogate pair"), -1;
        r->at += 2;
        if (four(r, &low)) return -1;
        if (low < 0xDC00 || low > 0xDFFF) return fail(r, "half of a surrogate pair"), -1;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c < 0xE000) {
        return fail(r, "half of a surrogate pair"), -1;
    }
    *out = put_utf8(*out, c);
    return 0;
}

/* What it stands for is never longer than what it is. */
static char *string(reader *r, size_t *n) {
    const char *stop = r->at + 1;
    while (stop < r->end && *stop != '"') stop += *stop == '\\' ? 2 : 1;
    if (stop >= r->end) return fail(r, "a text that is not closed"), NULL;
    char *text = malloc((size_t)(stop - r->at) + 1), *out = text;
    if (!text) return fail(r, "out of memory"), NULL;
    for (r->at++; *r->at != '"' && !r->bad;) {
        if ((unsigned char)*r->at < 32) {
            fail(r, "a control character in a text");
        } else if (*r->at == '\\') {
            r->at++;
            escape(r, &out);
        } else {
            *out++ = *r->at++;
        }
    }
    if (r->bad) return free(text), NULL;
    r->at++;
    *out = 0;
    *n = (size_t)(out - text);
    return text;
}

static value *new_value(reader *r, value_type type) {
    value *v = ++r->values > MAX_VALUES ? NULL : calloc(1, sizeof *v);
    if (!v) return fail(r, "too many values");
    v->type = type;
    return v;
}

static value *number(reader *r) {
    char *stop, copy[64];
    const char *from = r->at;
    if (*r->at == '-') r->at++;
    if (r->at >= r->end || *r->at < '0' || *r->at > '9' ||
        (*r->at == '0' && r->end - r->at > 1 && r->at[1] >= '0' && r->at[1] <= '9'))
        return fail(r, "no value");
    while (r->at < r->end && strchr("0123456789+-.eE", *r->at) && *r->at) r->at++;
    size_t n = (size_t)(r->at - from);
    if (n >= sizeof copy) return fail(r, "a number of more than 63 characters");
    memcpy(copy, from, n);
    copy[n] = 0;
    double x = strtod(copy, &stop);
    if (*stop || !isfinite(x)) return fail(r, "no number");
    value *v = new_value(r, VALUE_NUMBER);
    if (!v || !(v->text = malloc(n + 1))) return value_free(v), fail(r, "out of memory");
    memcpy(v->text, copy, n + 1);
    v->n = n;
    v->number = x;
    return v;
}

static value *parse(reader *r, int depth);

static value *children(reader *r, int depth, char close) {
    value *v = new_value(r, close == '}' ? VALUE_OBJECT : VALUE_LIST), **last = v ? &v->first : NULL;
    r->at++;
    space(r);
    if (v && r->at < r->end && *r->at == close) return r->at++, v;
    while (v && !r->bad) {
        char *key = NULL;
        size_t n;
        space(r);
        if (close == '}') {
            if (r->at >= r->end || *r->at != '"') fail(r, "a member without its name");
            key = r->bad ? NULL : string(r, &n);
            space(r);
            if (!r->bad && (r->at >= r->end || *r->at != ':')) fail(r, "a ':' is missing");
            r->at += !r->bad;
        }
        value *child = r->bad ? NULL : parse(r, depth + 1);
        if (!child) {
            free(key);
            break;
        }
        child->key = key;
        *last = child;
        last = &child->next;
        v->count++;
        space(r);
        if (r->at < r->end && *r->at == close) return r->at++, v;
        if (r->at >= r->end || *r->at != ',') fail(r, "a ',' is missing");
        r->at += !r->bad;
    }
    value_free(v);
    return NULL;
}

static value *word(reader *r, const char *text, value_type type) {
    size_t n = strlen(text);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, text, n)) return fail(r, "no value");
    r->at += n;
    return new_value(r, type);
}

static value *parse(reader *r, int depth) {
    space(r);
    if (depth > MAX_DEPTH) return fail(r, "nested deeper than 64 levels");
    if (r->at >= r->end) return fail(r, "a value is missing");
    switch (*r->at) {
    case '{':
        return children(r, depth, '}');
    case '[':
        return children(r, depth, ']');
    case 't':
        return word(r, "true", VALUE_TRUE);
    case 'f':
        return word(r, "false", VALUE_FALSE);
    case 'n':
        return word(r, "null", VALUE_NULL);
    case '"': {
        size_t n;
        char *text = string(r, &n);
        value *v = text ? new_value(r, VALUE_TEXT) : NULL;
        if (v)
            v->text = text, v->n = n;
        else
            free(text);
        return v;
    }
    default:
        return number(r);
    }
}

value *value_parse(const char *text, size_t n, char *why, size_t why_size) {
    reader r = {text, text, text + n, why, why_size, 0, 0};
    value *v = parse(&r, 0);
    space(&r);
    if (v && r.at < r.end) fail(&r, "more after the value");
    if (!r.bad) return v;
    value_free(v);
    return NULL;
}

/* Siblings in a loop, children by recursion, which parse has bounded. */
void value_free(value *v) {
    while (v) {
        value *next = v->next;
        value_free(v->first);
        free(v->key);
        free(v->text);
        free(v);
        v = next;
    }
}

const value *value_get(const value *object, const char *key) {
    const value *found = NULL;
    for (const value *v = object && object->type == VALUE_OBJECT ? object->first : NULL; v; v = v->next)
        if (!strcmp(v->key, key)) found = v;
    return found;
}

const char *value_text(const value *object, const char *key, const char *fallback) {
    const value *v = value_get(object, key);
    return v && v->type == VALUE_TEXT ? v->text : fallback;
}

double value_number(const value *object, const char *key, double fallback) {
    const value *v = value_get(object, key);
    return v && v->type == VALUE_NUMBER ? v->number : fallback;
}

int value_true(const value *object, const char *key, int fallback) {
    const value *v = value_get(object, key);
    return v && v->type == VALUE_TRUE ? 1 : v && v->type == VALUE_FALSE ? 0 : fallback;
}

/* json.c - the reader behind json.h: recursive descent over the text, nodes and strings copied into the arena.
 *
 * Invariants: `at` never passes `length`; recursion is at most JSON_MAX_DEPTH; a document makes at most MAX_NODES nodes, so
 * that a file of "[0,0,0..." cannot take an unbounded multiple of its size; nothing depends on the locale. */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sort.h"
#include "utf8.h"

#define MAX_NODES  ((size_t)1 << 22)
#define MAX_NUMBER 512 /* characters in a number */
#define FEW_KEYS   8   /* up to here duplicate keys are looked for pairwise */

/* A node and where its text began, for the line and column of a duplicate key. `node` is first: one address for both. */
typedef struct item {
    json node;
    size_t at;
} item;

typedef struct parser {
    arena *arena;
    const char *text, *what;
    size_t length, at, nodes;
    error *error;
} parser;

static strand_status fail(const parser *p, size_t at, const char *message) {
    size_t line = 1, start = 0;
    for (size_t i = 0; i < at; i++) {
        if (p->text[i] == '\n') line++, start = i + 1;
    }
    return error_set(p->error, STRAND_ERR_FORMAT, "%s:%zu:%zu: %s", p->what, line, at - start + 1, message);
}

static strand_status no_memory(const parser *p) {
    return error_set(p->error, STRAND_ERR_MEMORY, "%s: out of memory while reading JSON of %zu bytes", p->what, p->length);
}

/* The next byte, or -1 at the end. */
static int peek(const parser *p) {
    return p->at < p->length ? (unsigned char)p->text[p->at] : -1;
}

static void skip_space(parser *p) {
    while (p->at < p->length &&
           (p->text[p->at] == ' ' || p->text[p->at] == '\t' || p->text[p->at] == '\n' || p->text[p->at] == '\r')) {
        p->at++;
    }
}

static bool take_word(parser *p, const char *word) {
    size_t n = strlen(word);
    if (n > p->length - p->at || memcmp(p->text + p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

/* ---- strings --------------------------------------------------------------------------------------------------------- */

/* Four hex digits at `at`, or -1. */
static int32_t hex4(const parser *p, size_t at) {
    if (p->length - at < 4) return -1;
    int32_t value = 0;
    for (size_t i = at; i < at + 4; i++) {
        char c = p->text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(char *out, uint32_t c) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    size_t n = c < 0x10000 ? 3 : 4;
    out[0] = (char)(n == 3 ? 0xE0 | c >> 12 : 0xF0 | c >> 18);
    for (size_t i = 1; i < n; i++) out[i] = (char)(0x80 | (c >> (6 * (n - 1 - i)) & 63));
    return n;
}

/* The escape whose backslash is at p->at: steps over it and gives its code point. */
static strand_status parse_escape(parser *p, uint32_t *out) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    size_t start = p->at++;
    int c = peek(p);
    const char *letter = c > 0 ? strchr(letters, c) : NULL;
    if (letter) {
        p->at++;
        *out = (unsigned char)values[letter - letters];
        return STRAND_OK;
    }
    if (c != 'u') return fail(p, start, "unknown escape in a string");
    int32_t high = hex4(p, p->at + 1);
    if (high < 0) return fail(p, start, "\\u wants four hex digits");
    p->at += 5;
    *out = (uint32_t)high;
    if (high < 0xD800 || high > 0xDFFF) return STRAND_OK;
    int32_t low = high < 0xDC00 && p->length - p->at >= 2 && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u'
                      ? hex4(p, p->at + 2)
                      : -1;
    if (low < 0xDC00 || low > 0xDFFF) return fail(p, start, "half a surrogate pair");
    p->at += 6;
    *out = 0x10000 + (((uint32_t)high - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    return STRAND_OK;
}

/* A string; p->at is at its opening quote. The copy is as long as the spelling, which an escape only shortens. */
static strand_status parse_string(parser *p, const char **text, size_t *length) {
    size_t start = p->at + 1, end = start;
    while (end < p->length && p->text[end] != '"') end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->length) return fail(p, p->at, "a string without its closing quote");
    char *copy = arena_alloc(p->arena, end - start + 1, 1);
    if (!copy) return no_memory(p);
    size_t n = 0;
    for (p->at = start; p->at < end;) {
        if (p->text[p->at] == '\\') {
            uint32_t c = 0;
            strand_status status = parse_escape(p, &c);
            if (status) return status;
            n += put_utf8(copy + n, c);
            continue;
        }
        if ((unsigned char)p->text[p->at] < 32) return fail(p, p->at, "a control character in a string");
        size_t bytes = utf8_length((const unsigned char *)p->text + p->at, end - p->at);
        if (bytes == 0) return fail(p, p->at, "not UTF-8");
        memcpy(copy + n, p->text + p->at, bytes);
        n += bytes, p->at += bytes;
    }
    p->at = end + 1;
    *text = copy;
    *length = n;
    return STRAND_OK;
}

/* ---- numbers --------------------------------------------------------------------------------------------------------- */

static size_t skip_digits(parser *p) {
    size_t start = p->at;
    while (p->at < p->length && p->text[p->at] >= '0' && p->text[p->at] <= '9') p->at++;
    return p->at - start;
}

/* strtod wants a terminated string and the locale's own decimal point: ask snprintf for that one, and spell the number with
 * it. */
static double to_double(const char *text, size_t length) {
    char half[32], copy[MAX_NUMBER + sizeof half];
    int n = snprintf(half, sizeof half, "%.1f", 0.5); /* "0.5", "0,5", ... */
    size_t point = n > 2 && (size_t)n < sizeof half ? (size_t)n - 2 : 0;
    size_t out = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.' && point) {
            memcpy(copy + out, half + 1, point);
            out += point;
        } else {
            copy[out++] = text[i];
        }
    }
    copy[out] = 0;
    return strtod(copy, NULL);
}

/* The exact value of a spelling without fraction and exponent; false when int64 cannot hold it. */
static bool to_int64(const char *text, size_t length, int64_t *out) {
    bool negative = text[0] == '-';
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX, value = 0;
    for (size_t i = negative; i < length; i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (value > (limit - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = !negative ? (int64_t)value : value > (uint64_t)INT64_MAX ? INT64_MIN : -(int64_t)value;
    return true;
}

static strand_status parse_number(parser *p, json *node) {
    size_t start = p->at;
    bool whole = true;
    node->type = JSON_NUMBER;
    if (peek(p) == '-') p->at++;
    if (take_word(p, "Infinity")) {
        node->number = p->text[start] == '-' ? -(double)INFINITY : (double)INFINITY;
    } else {
        bool zero = peek(p) == '0';
        size_t digits = skip_digits(p);
        if (digits == 0) return fail(p, start, "a value is missing here");
        if (zero && digits > 1) return fail(p, start, "a number with a leading zero");
        if (peek(p) == '.') {
            p->at++, whole = false;
            if (skip_digits(p) == 0) return fail(p, start, "a number without digits after its point");
        }
        if (peek(p) == 'e' || peek(p) == 'E') {
            p->at++, whole = false;
            if (peek(p) == '+' || peek(p) == '-') p->at++;
            if (skip_digits(p) == 0) return fail(p, start, "a number without digits in its exponent");
        }
        if (p->at - start > MAX_NUMBER) return fail(p, start, "a number of more than 512 characters");
        node->number = to_double(p->text + start, p->at - start);
        if (!isfinite(node->number)) return fail(p, start, "a number beyond double precision's range");
        if (whole) {
            node->is_integer = to_int64(p->text + start, p->at - start, &node->integer);
        } else if (fabs(node->number) <= 9007199254740992.0 && (double)(int64_t)node->number == node->number) {
            node->is_integer = true; /* 1e6 and 4096.0: exact up to 2^53 */
            node->integer = (int64_t)node->number;
        }
    }
    node->length = p->at - start;
    node->text = arena_string(p->arena, p->text + start, node->length);
    return node->text ? STRAND_OK : no_memory(p);
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static strand_status parse_value(parser *p, json *node, int depth);

static int compare_keys(const void *a, const void *b) {
    const item *x = a, *y = b;
    int order = strcmp(x->node.key, y->node.key);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

static strand_status duplicate(const parser *p, const item *second) {
    char message[160];
    snprintf(message, sizeof message, "the key \"%.100s\" appears twice in one object", second->node.key);
    return fail(p, second->at, message);
}

static strand_status check_keys(const parser *p, const json *object) {
    if (object->count <= FEW_KEYS) {
        for (const json *x = object->first; x; x = x->next) {
            for (const json *y = object->first; y != x; y = y->next) {
                if (strcmp(x->key, y->key) == 0) return duplicate(p, (const item *)x);
            }
        }
        return STRAND_OK;
    }
    const void **sorted = ARENA_ARRAY(p->arena, const void *, object->count);
    if (!sorted) return no_memory(p);
    size_t n = 0;
    for (const json *x = object->first; x; x = x->next) sorted[n++] = x;
    sort_pointers(sorted, n, compare_keys);
    for (size_t i = 1; i < n; i++) {
        const item *x = sorted[i - 1], *y = sorted[i];
        if (strcmp(x->node.key, y->node.key) == 0) return duplicate(p, y);
    }
    return STRAND_OK;
}

static item *new_item(parser *p, strand_status *status) {
    if (++p->nodes > MAX_NODES) {
        *status = fail(p, p->at, "more than 4194304 values in one document");
        return NULL;
    }
    item *node = ARENA_NEW(p->arena, item);
    if (node) node->at = p->at;
    *status = node ? STRAND_OK : no_memory(p);
    return node;
}

static strand_status parse_key(parser *p, json *node) {
    if (peek(p) != '"') return fail(p, p->at, "a key in double quotes is missing here");
    size_t start = p->at, length;
    strand_status status = parse_string(p, &node->key, &length);
    if (status) return status;
    if (strlen(node->key) != length) return fail(p, start, "a key with a zero character");
    skip_space(p);
    if (peek(p) != ':') return fail(p, p->at, "a ':' is missing here");
    p->at++;
    skip_space(p);
    return STRAND_OK;
}

/* The children of an array or object; p->at is at its opening bracket. */
static strand_status parse_children(parser *p, json *parent, int depth) {
    bool object = parent->type == JSON_OBJECT;
    char closing = object ? '}' : ']';
    if (depth >= JSON_MAX_DEPTH) return fail(p, p->at, "nested deeper than 64 levels");
    p->at++;
    skip_space(p);
    if (peek(p) == closing) return p->at++, STRAND_OK;
    for (json *last = NULL;;) {
        strand_status status;
        item *child = new_item(p, &status);
        if (!child) return status;
        if (object && (status = parse_key(p, &child->node))) return status;
        if ((status = parse_value(p, &child->node, depth + 1))) return status;
        if (last)
            last->next = &child->node;
        else
            parent->first = &child->node;
        last = &child->node;
        parent->count++;
        skip_space(p);
        int c = peek(p);
        if (c != closing && c != ',')
            return fail(p, p->at, object ? "a ',' or '}' is missing here" : "a ',' or ']' is missing here");
        p->at++;
        if (c == closing) return object ? check_keys(p, parent) : STRAND_OK;
        skip_space(p);
    }
}

static strand_status parse_value(parser *p, json *node, int depth) {
    switch (peek(p)) {
    case '{':
        node->type = JSON_OBJECT;
        return parse_children(p, node, depth);
    case '[':
        node->type = JSON_ARRAY;
        return parse_children(p, node, depth);
    case '"':
        node->type = JSON_STRING;
        return parse_string(p, &node->text, &node->length);
    default:
        break;
    }
    if (take_word(p, "null")) return node->type = JSON_NULL, STRAND_OK;
    if (take_word(p, "false")) return node->type = JSON_BOOL, STRAND_OK;
    if (take_word(p, "true")) return node->type = JSON_BOOL, node->number = 1, STRAND_OK;
    if (take_word(p, "NaN")) {
        *node = (json){.type = JSON_NUMBER, .key = node->key, .text = "NaN", .length = 3, .number = (double)NAN};
        return STRAND_OK;
    }
    return parse_number(p, node);
}

strand_status json_parse(arena *a, const char *text, size_t length, const char *what, const json **out, error *e) {
    parser p = {.arena = a, .text = text, .what = what, .length = length, .error = e};
    strand_status status;
    skip_space(&p);
    item *root = new_item(&p, &status);
    if (!root) return status;
    if ((status = parse_value(&p, &root->node, 0))) return status;
    skip_space(&p);
    if (p.at < p.length) return fail(&p, p.at, "text after the end of the document");
    *out = &root->node;
    return STRAND_OK;
}

/* ---- looking things up ----------------------------------------------------------------------------------------------- */

const json *json_get(const json *object, const char *key) {
    if (!object || object->type != JSON_OBJECT) return NULL;
    for (const json *child = object->first; child; child = child->next) {
        if (strcmp(child->key, key) == 0) return child;
    }
    return NULL;
}

int64_t json_int(const json *object, const char *key, int64_t fallback) {
    const json *member = json_get(object, key);
    return member && member->type == JSON_NUMBER && member->is_integer ? member->integer : fallback;
}

double json_number(const json *object, const char *key, double fallback) {
    const json *member = json_get(object, key);
    return member && member->type == JSON_NUMBER ? member->number : fallback;
}

const char *json_text(const json *object, const char *key, const char *fallback) {
    const json *member = json_get(object, key);
    return member && member->type == JSON_STRING ? member->text : fallback;
}

bool json_bool(const json *object, const char *key, bool fallback) {
    const json *member = json_get(object, key);
    return member && member->type == JSON_BOOL ? member->number != 0 : fallback;
}

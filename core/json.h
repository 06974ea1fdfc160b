/* json.h - a small, strict JSON reader for headers and configs. Ours, so that libstrand links nothing; fuzzed.
 *
 * Accepts RFC 8259 plus the bare words NaN, Infinity and -Infinity as numbers, which published config.json files hold.
 * Duplicate keys are an error. Depth and node count are bounded. The whole document becomes nodes in an arena. */
#ifndef STRAND_CORE_JSON_H
#define STRAND_CORE_JSON_H

#include "arena.h"
#include "error.h"

#define JSON_MAX_DEPTH 64

typedef enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_type;

typedef struct json json;
struct json {
    json_type type;
    const char *key;   /* in an object: UTF-8, zero-terminated */
    const char *text;  /* JSON_STRING: the value; JSON_NUMBER: its spelling */
    size_t length;     /* of text; a string may hold zero bytes */
    double number;     /* JSON_NUMBER, JSON_BOOL (0 or 1) */
    int64_t integer;   /* JSON_NUMBER that is an integer within int64: its exact value */
    bool is_integer;
    const json *first; /* JSON_ARRAY, JSON_OBJECT: the first child */
    const json *next;  /* the next sibling */
    size_t count;      /* children */
};

/* Parses exactly `length` bytes (surrounding white space allowed). `what` names the document in errors, with line and
 * column. */
strand_status json_parse(arena *a, const char *text, size_t length, const char *what, const json **out, error *e);
/* The member of an object, or NULL. */
const json *json_get(const json *object, const char *key);
/* The member as an integer / number / text / bool, or the fallback when it is absent or of another type. */
int64_t json_int(const json *object, const char *key, int64_t fallback);
double json_number(const json *object, const char *key, double fallback);
const char *json_text(const json *object, const char *key, const char *fallback);
bool json_bool(const json *object, const char *key, bool fallback);

#endif

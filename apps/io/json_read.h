/* json_read.h - JSON from others: requests, schemas. Bounded in depth and size; strings are UTF-8 and may hold zeros.
 */
#ifndef STRAND_APP_JSON_READ_H
#define STRAND_APP_JSON_READ_H

#include <stddef.h>

typedef enum value_type { VALUE_NULL, VALUE_FALSE, VALUE_TRUE, VALUE_NUMBER, VALUE_TEXT, VALUE_LIST, VALUE_OBJECT } value_type;

typedef struct value value;
struct value {
    value_type type;
    char *key;   /* in an object; zero-terminated */
    char *text;  /* VALUE_TEXT, and a number's spelling; zero-terminated */
    size_t n;    /* of the text */
    double number;
    value *first, *next; /* children; the next sibling */
    size_t count;
};

/* NULL and one line in `why`. value_free the result. */
value *value_parse(const char *text, size_t n, char *why, size_t why_size);
void value_free(value *v);
/* A member of an object, or NULL. */
const value *value_get(const value *object, const char *key);
/* A member's text or number, or the fallback when it is absent, null or of another type. */
const char *value_text(const value *object, const char *key, const char *fallback);
double value_number(const value *object, const char *key, double fallback);
int value_true(const value *object, const char *key, int fallback);

#endif

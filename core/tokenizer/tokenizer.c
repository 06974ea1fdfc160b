/* tokenizer.c - the character tokenizer: a table of 256 entries that the model family fills in. */
#include "tokenizer.h"

#include <string.h>

size_t tokenizer_encode(const tokenizer *t, const char *text, size_t bytes, int64_t *ids, size_t capacity) {
    size_t n = bytes < capacity ? bytes : capacity;
    for (size_t i = 0; i < n; i++) ids[i] = t->id_of[(unsigned char)text[i]];
    return bytes;
}

const char *tokenizer_text(const tokenizer *t, int64_t id) {
    return t->text_of && id >= 0 && id < t->n_ids ? t->text_of[id] : "";
}

int64_t tokenizer_special_id(const tokenizer *t, const char *name) {
    for (int32_t i = 0; i < t->n_specials; i++)
        if (!strcmp(t->specials[i].name, name)) return t->specials[i].id;
    return -1;
}

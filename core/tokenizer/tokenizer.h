/* tokenizer.h - text to token ids and back. This version has one kind, characters: every byte is a token of its own. */
#ifndef STRAND_CORE_TOKENIZER_H
#define STRAND_CORE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

typedef struct tokenizer_special {
    const char *name; /* "[CLS]" */
    int64_t id;
} tokenizer_special;

typedef struct tokenizer {
    int16_t id_of[256];           /* of each byte; the unknown id for bytes outside the alphabet */
    const char *const *text_of;   /* text_of[id], "" for special ids */
    int64_t n_ids;
    const tokenizer_special *specials;
    int32_t n_specials;
} tokenizer;

/* Ids of the bytes of `text`; writes at most `capacity`, returns how many there are. */
size_t tokenizer_encode(const tokenizer *t, const char *text, size_t bytes, int64_t *ids, size_t capacity);
const char *tokenizer_text(const tokenizer *t, int64_t id);
int64_t tokenizer_special_id(const tokenizer *t, const char *name);

#endif

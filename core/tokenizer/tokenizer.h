/* tokenizer.h - text to token ids and back: characters by a table that a model family fills in, or a text tokenizer that was
 * read from the checkpoint's own files (text.h). */
#ifndef STRAND_CORE_TOKENIZER_H
#define STRAND_CORE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../arena.h"
#include "../error.h"
#include "../weights/weights.h"

typedef struct tokenizer_special {
    const char *name; /* "[CLS]" */
    int64_t id;
} tokenizer_special;

typedef struct text_tokenizer text_tokenizer;

typedef struct tokenizer {
    int16_t id_of[256];         /* of each byte; the unknown id for bytes outside the alphabet */
    const char *const *text_of; /* text_of[id], "" for special ids */
    int64_t n_ids;              /* 0: the model has no tokenizer */
    const tokenizer_special *specials;
    int32_t n_specials;
    text_tokenizer *text; /* NULL: the table above */
} tokenizer;

/* Reads a text tokenizer for a model of `vocabulary` ids. `path`: a file or folder that was asked for, "bytes", or NULL: GGUF
 * metadata, then the files beside the weights (tokenizer.json, tokenizer.model, rwkv_vocab_*.txt, tok*.bin, vocab.txt), then
 * bytes where the vocabulary has 256 ids. None found is no error: t->n_ids stays 0. What lives long goes into `a`. */
strand_status tokenizer_open(tokenizer *t, arena *a, const weights *w, const char *path, int64_t vocabulary, error *e);
/* The same without looking at files beside the weights, which are in memory. */
strand_status tokenizer_open_memory(tokenizer *t, arena *a, const weights *w, int64_t vocabulary, error *e);
/* Gives back what is not in the arena. */
void tokenizer_close(tokenizer *t);

/* Ids of `text`; writes at most `capacity`, *count is how many there are. `flags`: STRAND_ENCODE_... of strand.h. */
strand_status tokenizer_encode(const tokenizer *t, const strand_allocator *allocator, const char *text, size_t bytes,
                               uint32_t flags, int64_t *ids, size_t capacity, size_t *count, error *e);
/* The bytes that an id stands for, zero-terminated; "" for special ids. */
const char *tokenizer_text(const tokenizer *t, int64_t id, size_t *length);
/* The name of a special id, or NULL. */
const char *tokenizer_name(const tokenizer *t, int64_t id);
/* STRAND_TOKEN_... */
uint32_t tokenizer_flags(const tokenizer *t, int64_t id);
int64_t tokenizer_special_id(const tokenizer *t, const char *name);
/* "chat_template" and the like; NULL: none. */
const char *tokenizer_fact(const tokenizer *t, const char *key);
/* See strand_decode. */
size_t tokenizer_decode(const tokenizer *t, strand_decoder *d, int64_t id, char *text, size_t capacity);

#endif

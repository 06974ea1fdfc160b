/* text.h - what the text commands share: prompts as tokens, states in files, and the store of prefixes.
 *
 * A state file holds the tokens that a row has seen, those that are still to be fed, and the model's state; it is bound to
 * the model and checked when it is read. A store is a folder of such files named after the hash of their tokens, so that the
 * longest prefix of a prompt is found without reading any. Functions return 0, or -1 after a message. */
#ifndef STRAND_APP_TEXT_H
#define STRAND_APP_TEXT_H

#include "engine.h"
#include "output.h"
#include "sample.h"

typedef struct text_ids {
    int64_t *ids, n, room;
} text_ids;

#define TEXT_MODEL "mamba-bytes-strand"

int text_ids_add(text_ids *t, const int64_t *ids, int64_t n);
void text_ids_free(text_ids *t);
/* Appends the tokens of a text; `flags`: STRAND_ENCODE_... */
int text_encode(const runtime *rt, const char *text, size_t n, uint32_t flags, text_ids *out);
/* The tokens of a prompt as it is fed: with the token that begins texts, and never none. */
int text_prompt(const runtime *rt, const char *text, size_t n, uint32_t flags, text_ids *out);
/* A whole file, or the standard input for "-"; at most `most` bytes. free() *text. */
int text_read(const char *path, size_t most, char **text, size_t *n);
/* Positions that the model has room for; INT64_MAX: no end. */
int64_t text_context(const runtime *rt);
/* Opens the model of a text command and checks its options. */
int text_open(runtime *rt, const options *settings);
int text_rule(const options *settings, sample_rule *rule);

int text_state_save(const char *path, engine *g, int64_t row, const int64_t *pending, int64_t n_pending);
/* Loads into a row; the tokens that are still to be fed are appended to `pending`. */
int text_state_load(const char *path, engine *g, int64_t row, text_ids *pending);

/* Feeds `prompt` to an empty row, from the longest prefix in the store (NULL: none) on, and puts the prompt's own state
 * there. *reused: how many tokens were not run. */
int text_feed(engine *g, int64_t row, const text_ids *prompt, const char *store, uint64_t limit, int64_t *reused);

/* The mean of a text's vectors, or the last; free() *vector. */
int text_embed(runtime *rt, engine *g, const int64_t *ids, int64_t n, int last, double **vector, int64_t *width);
/* A token as one cell of a table, escaped. */
void write_token(output *out, const char *bytes, size_t n);

#endif

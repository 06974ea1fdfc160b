/* engine.h - a language model as texts use it: rows of tokens that grow, each with the logits after its last one.
 *
 * A row is fed many tokens at once (a prompt, in pieces) or one token together with other rows (a step of several texts as
 * one batch). Its state can be taken out and put into any row. A model without states is run over the whole row each time.
 * Functions return 0, or -1 after a message. */
#ifndef STRAND_APP_ENGINE_H
#define STRAND_APP_ENGINE_H

#include "runtime.h"

typedef struct engine engine;

/* Rows that can step together, and the tokens of a piece (0: chosen). */
engine *engine_open(runtime *rt, int64_t rows, int64_t piece);
void engine_close(engine *g);
int64_t engine_vocabulary(const engine *g);
int engine_stateful(const engine *g);
/* The SHA-256 of the model's weights, in hex. */
const char *engine_model(const engine *g);

/* Feeds tokens to one row; its logits are those after the last. */
int engine_feed(engine *g, int64_t row, const int64_t *ids, int64_t n);
/* One token for each of the rows 0 to n-1. */
int engine_step(engine *g, const int64_t *ids, int64_t n);
const float *engine_logits(const engine *g, int64_t row);
/* All tokens that the row has been fed. */
const int64_t *engine_tokens(const engine *g, int64_t row, int64_t *n);

int engine_reset(engine *g, int64_t row);
/* What the row needs to go on elsewhere; free() it. NULL after a message. */
void *engine_save(engine *g, int64_t row, size_t *bytes);
/* `ids`: the tokens that the state has seen. Refuses what is not of this model. The row's logits are those from before, until
 * engine_give says which they are or a token is run. */
int engine_load(engine *g, int64_t row, const void *state, size_t bytes, const int64_t *ids, int64_t n);
void engine_give(engine *g, int64_t row, const float *logits);
/* Row `from` becomes row `to` too, logits included. */
int engine_copy(engine *g, int64_t from, int64_t to);

/* Natural logarithms of the probabilities of `next` after `logits`. */
double engine_loglik(const float *logits, int64_t n, int64_t next);
/* Runs tokens of row 0 in pieces and gives each piece's output `name` [n, width]. */
int engine_run(engine *g, const int64_t *ids, int64_t n, const char *name,
               int (*take)(void *user, int64_t at, int64_t n, const float *values, int64_t width), void *user);

#endif

/* gen.h - texts being generated, several at once: each has a row of the engine, a sampler, perhaps a grammar, and strings
 * that end it.
 *
 * gen_pick chooses the next token after a row's logits and gives the text that it completes; gen_run steps all texts of a
 * list as one batch until each is done. Text that could be the beginning of a stop string waits until that is settled. */
#ifndef STRAND_APP_GEN_H
#define STRAND_APP_GEN_H

#include "grammar.h"
#include "sample.h"
#include "text.h"

typedef struct gen {
    const runtime *rt;
    int64_t row;
    sampler sampler;
    grammar_state *grammar; /* NULL: none; owned */
    const char *const *stops;
    int n_stops;
    int64_t most;                                        /* tokens to make at most; -1: until the model ends its text */
    int64_t context;                                     /* positions in all */
    int goes_on;                                         /* there is text before it, so that a space it begins with stays */
    int ignore_end;                                      /* go on after the model has ended its text */
    int (*emit)(void *user, const char *text, size_t n); /* nonzero: stop (a reader is gone) */
    void *user;

    strand_decoder decoder;
    char *held;
    size_t n_held, held_room;
    int64_t made, next; /* next: chosen and not fed yet, -1: none */
    const char *finish; /* "stop", "length"; NULL: it goes on */
    int failed;
} gen;

/* The fields above `decoder` are filled in by the caller. */
void gen_begin(gen *t);
void gen_end(gen *t);
/* Chooses after the row's logits. 0, or -1 after a message. */
int gen_pick(gen *t, engine *g);
/* All of them, in rows 0 to n-1, fed with their prompts. 0, or -1 after a message. */
int gen_run(gen *const *list, int64_t n, engine *g);

/* --grammar or --json-schema; NULL where neither is given. 0, or an exit code after a message. */
int text_grammar(const options *settings, grammar **out);

#endif

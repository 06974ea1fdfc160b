/* grammar.h - grammars in GBNF (llama.cpp's notation) that a generated text must follow, character by character.
 *
 * Rules are NAME ::= alternatives with '|' between them; items are "text", [a-z^...] classes, '.', names and (groups), each
 * with ?, *, + or {m}, {m,}, {m,n} behind it; '#' begins a comment. The text must match `root`. Size, nesting and the number
 * of ways that are followed at once are bounded; what is beyond is refused with one line. */
#ifndef STRAND_APP_GRAMMAR_H
#define STRAND_APP_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

typedef struct grammar grammar;
typedef struct grammar_state grammar_state;

/* NULL and one line in `why`. */
grammar *grammar_parse(const char *text, size_t n, char *why, size_t why_size);
void grammar_free(grammar *g);

/* At the beginning of a text; the grammar must live longer. NULL and one line in `why` for a grammar that recurs to the left
 * or goes beyond the bounds. */
grammar_state *grammar_start(const grammar *g, char *why, size_t why_size);
void grammar_state_free(grammar_state *s);
/* Can the text go on with these bytes, which may end within a character? */
int grammar_allows(grammar_state *s, const char *bytes, size_t n);
/* Goes on with them. -1: not allowed, or out of bounds. */
int grammar_accept(grammar_state *s, const char *bytes, size_t n);
int grammar_may_end(const grammar_state *s);
/* Is the end all that can come? */
int grammar_must_end(const grammar_state *s);

#endif

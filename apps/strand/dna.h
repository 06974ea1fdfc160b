/* dna.h - letters, token ids and probabilities of DNA.
 */
#ifndef STRAND_APP_DNA_H
#define STRAND_APP_DNA_H

#include "runtime.h"

typedef struct dna_alphabet {
    uint8_t id[256];         /* of each letter, after the rules for case, U and IUPAC */
    uint8_t complement[256]; /* of each id */
    uint8_t base[4];         /* ids of A, C, G, T */
    uint8_t is_base[256];    /* id is one of them */
    int softmax;             /* SOFTMAX_ACGT or SOFTMAX_ALL */
} dna_alphabet;

/* Learns the ids from the model. Returns 0 or an exit code, after a message. */
int dna_alphabet_init(dna_alphabet *dna, const runtime *rt, int soft_mask, int softmax);

/* Letters to ids, one a byte; `ids` has room for `n`. */
void dna_encode(const dna_alphabet *dna, const char *letters, int64_t n, uint8_t *ids);
void dna_reverse_complement(const dna_alphabet *dna, const uint8_t *ids, int64_t n, uint8_t *to);

/* Natural logarithm of the probability of `id` by one row of logits, or NaN where the softmax does not cover it. */
double dna_loglik(const dna_alphabet *dna, const float *logits, int64_t width, uint8_t id);

#endif

/* alleles.h - the two windows of a variant, REF and ALT, and why some variants have none.
 */
#ifndef STRAND_APP_ALLELES_H
#define STRAND_APP_ALLELES_H

#include "dna.h"
#include "reference.h"

/* Reasons, in the order in which they are looked for; the codes of `Format: ...|REASON`. */
typedef enum allele_reason {
    REASON_NONE,
    REASON_NO_ALT,
    REASON_CONTIG_MISSING,
    REASON_OUT_OF_RANGE,
    REASON_REF_MISMATCH,
    REASON_STAR,
    REASON_SYMBOLIC,
    REASON_N_IN_ALLELE,
    REASON_TOO_LONG,
    REASON_N_IN_WINDOW,
    REASON_CHR_RENAMED, /* a note only */
    REASON_COUNT
} allele_reason;

extern const char *const allele_reason_names[REASON_COUNT];

typedef struct allele_window {
    uint8_t *ids; /* [2 * length] with the reverse strand behind the forward one when both are scored */
    int64_t length;
    double loglik[2]; /* sums of both strands, filled by scoring */
} allele_window;

typedef struct allele {
    allele_reason reason;
    int n_in_window, renamed; /* notes */
    int64_t from, to;         /* the REF window on the contig */
    allele_window alt, own;   /* own: the REF window, unless one before it is the same */
    const allele_window *ref;
} allele;

/* A piece of the reference, kept because neighbouring variants look at the same place. */
typedef struct reference_piece {
    char contig[256];
    int64_t from, to;
    char *letters;
} reference_piece;

typedef struct allele_maker {
    const reference *ref;
    const dna_alphabet *dna;
    int64_t window;
    int strands, allow_n;
    reference_piece piece;
} allele_maker;

/* Fills `a` for REF and ALT at 0-based `pos`; alt may be NULL (no ALT). Returns 0, or -1 after a message. */
int allele_make(allele_maker *maker, allele *a, const char *contig, int64_t pos, const char *ref, const char *alt);
/* The REF window of `a`, made anew. Returns 0 or -1, after a message. */
int allele_make_ref(allele_maker *maker, allele *a, const char *contig);
void allele_free(allele *a);

#endif

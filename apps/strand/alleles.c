/* alleles.c - the two windows of a variant.
 *
 * Both begin half a window left of POS and end at the same base of the contig, chosen so that the longer allele fills the
 * window; at the ends of a contig both are shorter on that side. What differs between them is the allele alone.
 */
#include "alleles.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *const allele_reason_names[REASON_COUNT] = {
    ".",        "NO_ALT",      "CONTIG_MISSING", "OUT_OF_RANGE", "REF_MISMATCH", "STAR",
    "SYMBOLIC", "N_IN_ALLELE", "TOO_LONG",       "N_IN_WINDOW",  "CHR_RENAMED"};

static char plain(char letter) {
    const char upper = (char)toupper((unsigned char)letter);
    return upper == 'U' ? 'T' : upper;
}

static int all_bases(const char *text) {
    for (; *text; text++)
        if (!strchr("ACGT", plain(*text))) return 0;
    return 1;
}

/* Letters [from, to) of the contig; good until the next call. */
static const char *letters_at(allele_maker *maker, const char *contig, int64_t from, int64_t to) {
    reference_piece *piece = &maker->piece;
    if (!piece->letters || strcmp(piece->contig, contig) || from < piece->from || to > piece->to) {
        const int64_t length = reference_length(maker->ref, contig), margin = 1 << 18;
        free(piece->letters);
        piece->from = from;
        piece->to = to + margin < length ? to + margin : length;
        piece->letters = reference_fetch(maker->ref, contig, piece->from, piece->to);
        snprintf(piece->contig, sizeof piece->contig, "%s", contig);
        if (!piece->letters) return NULL;
    }
    return piece->letters + (from - piece->from);
}

static allele_reason look_at_alt(const char *alt) {
    if (!alt || !strcmp(alt, ".")) return REASON_NO_ALT;
    if (!strcmp(alt, "*")) return REASON_STAR;
    if (strpbrk(alt, "<>[].")) return REASON_SYMBOLIC; /* <DEL>, breakends with a mate, and single ones ("G.") */
    return REASON_NONE;
}

static int finish_window(const allele_maker *maker, allele *a, allele_window *w) {
    for (int64_t i = 0; i < w->length; i++)
        if (!maker->dna->is_base[w->ids[i]]) a->n_in_window = 1;
    if (maker->strands == 2) dna_reverse_complement(maker->dna, w->ids, w->length, w->ids + w->length);
    return 0;
}

static int window_room(const allele_maker *maker, allele_window *w, int64_t length) {
    w->length = length;
    w->ids = malloc((size_t)(maker->strands * length) + 1);
    return w->ids ? 0 : (complain("out of memory"), -1);
}

static int make_alt(allele_maker *maker, allele *a, const char *contig, int64_t pos, int64_t ref_length, const char *alt) {
    const int64_t alt_length = (int64_t)strlen(alt), left = pos - a->from, right = a->to - pos - ref_length;
    const char *letters = letters_at(maker, contig, a->from, a->to);
    if (!letters || window_room(maker, &a->alt, left + alt_length + right)) return -1;
    dna_encode(maker->dna, letters, left, a->alt.ids);
    for (int64_t i = 0; i < alt_length; i++) a->alt.ids[left + i] = maker->dna->id[(unsigned char)plain(alt[i])];
    dna_encode(maker->dna, letters + left + ref_length, right, a->alt.ids + left + alt_length);
    return finish_window(maker, a, &a->alt);
}

int allele_make_ref(allele_maker *maker, allele *a, const char *contig) {
    const char *letters = letters_at(maker, contig, a->from, a->to);
    if (!letters || window_room(maker, &a->own, a->to - a->from)) return -1;
    dna_encode(maker->dna, letters, a->to - a->from, a->own.ids);
    a->ref = &a->own;
    return finish_window(maker, a, &a->own);
}

/* Checks REF against the contig and sets the borders of the window. */
static int place(allele_maker *maker, allele *a, const char *contig, int64_t pos, const char *ref, const char *alt) {
    const int64_t length = reference_length(maker->ref, contig), n = (int64_t)strlen(ref);
    if (pos < 0 || pos + n > length || n == 0) return a->reason = REASON_OUT_OF_RANGE, 0;
    const char *letters = letters_at(maker, contig, pos, pos + n);
    if (!letters) return -1;
    for (int64_t i = 0; i < n; i++)
        if (plain(ref[i]) != plain(letters[i])) return a->reason = REASON_REF_MISMATCH, 0;
    a->reason = look_at_alt(alt);
    if (a->reason) return 0;
    if (!all_bases(ref) || !all_bases(alt)) return a->reason = REASON_N_IN_ALLELE, 0;
    const int64_t m = (int64_t)strlen(alt), half = maker->window / 2, right = maker->window - half - (m > n ? m : n);
    if (right < 0) return a->reason = REASON_TOO_LONG, 0;
    a->from = pos > half ? pos - half : 0;
    a->to = pos + n + right < length ? pos + n + right : length;
    return 0;
}

int allele_make(allele_maker *maker, allele *a, const char *contig, int64_t pos, const char *ref, const char *alt) {
    memset(a, 0, sizeof *a);
    if (look_at_alt(alt) == REASON_NO_ALT) return a->reason = REASON_NO_ALT, 0;
    const char *found = reference_find(maker->ref, contig, &a->renamed);
    if (!found) {
        a->renamed = 0;
        return a->reason = REASON_CONTIG_MISSING, 0;
    }
    if (place(maker, a, found, pos, ref, alt)) return -1;
    if (a->reason) return 0;
    if (make_alt(maker, a, found, pos, (int64_t)strlen(ref), alt)) return -1;
    if (a->n_in_window && !maker->allow_n) a->reason = REASON_N_IN_WINDOW;
    return 0;
}

void allele_free(allele *a) {
    free(a->alt.ids);
    free(a->own.ids);
    memset(a, 0, sizeof *a);
}

/* dna.c - letters, token ids and probabilities of DNA. The ids come from the model's own tokenizer, so that any character
 * tokenizer with A, C, G and T works.
 */
#include "dna.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* The model's id of one letter, or -1 when that is not exactly one token that fits a byte. */
static int letter_id(const strand_model *model, char letter) {
    int64_t id = -1;
    size_t count = 0;
    if (strand_tokenize(model, &letter, 1, &id, 1, &count) != STRAND_OK || count != 1 || id < 0 || id > 255) return -1;
    return (int)id;
}

int dna_alphabet_init(dna_alphabet *dna, const runtime *rt, int soft_mask, int softmax) {
    static const char bases[] = "ACGT";
    memset(dna, 0, sizeof *dna);
    dna->softmax = softmax;
    for (int i = 0; i < 4; i++) {
        const int id = letter_id(rt->model, bases[i]);
        if (id < 0 || dna->is_base[id]) {
            complain("%s: the model's tokenizer does not know the bases A, C, G, T one by one; take a DNA model",
                     rt->info.name);
            return EXIT_FAILED;
        }
        dna->base[i] = (uint8_t)id;
        dna->is_base[id] = 1;
    }
    const int n_id = letter_id(rt->model, 'N');
    int64_t unknown = strand_special_token(rt->model, "[UNK]");
    if (unknown < 0 || unknown > 255) unknown = n_id;
    if (unknown < 0) {
        complain("%s: the model's tokenizer has neither N nor [UNK]; take a DNA model", rt->info.name);
        return EXIT_FAILED;
    }
    for (int c = 0; c < 256; c++) {
        int letter = c;
        dna->id[c] = (uint8_t)unknown;
        if (islower(c) && soft_mask == MASK_N)
            letter = 'N';
        else if (islower(c) && soft_mask == MASK_UPPER)
            letter = toupper(c);
        if (letter == 'U') letter = 'T';
        const char *known = letter ? strchr("ACGTN", letter) : NULL;
        const int id = known || islower(letter) ? letter_id(rt->model, (char)letter) : -1;
        if (id >= 0) dna->id[c] = (uint8_t)id;
    }
    for (int id = 0; id < 256; id++) dna->complement[id] = (uint8_t)id;
    for (int i = 0; i < 4; i++) dna->complement[dna->base[i]] = dna->base[3 - i];
    return 0;
}

void dna_encode(const dna_alphabet *dna, const char *letters, int64_t n, uint8_t *ids) {
    for (int64_t i = 0; i < n; i++) ids[i] = dna->id[(unsigned char)letters[i]];
}

void dna_reverse_complement(const dna_alphabet *dna, const uint8_t *ids, int64_t n, uint8_t *to) {
    for (int64_t i = 0; i < n; i++) to[i] = dna->complement[ids[n - 1 - i]];
}

double dna_loglik(const dna_alphabet *dna, const float *logits, int64_t width, uint8_t id) {
    double most = -INFINITY, sum = 0;
    if (dna->softmax == SOFTMAX_ACGT) {
        if (!dna->is_base[id]) return NAN;
        for (int i = 0; i < 4; i++) most = logits[dna->base[i]] > most ? logits[dna->base[i]] : most;
        for (int i = 0; i < 4; i++) sum += exp(logits[dna->base[i]] - most);
    } else {
        if (id >= width) return NAN;
        for (int64_t i = 0; i < width; i++) most = logits[i] > most ? logits[i] : most;
        for (int64_t i = 0; i < width; i++) sum += exp(logits[i] - most);
    }
    return (double)logits[id] - most - log(sum);
}

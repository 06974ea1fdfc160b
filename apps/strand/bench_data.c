/* bench_data.c - inputs for `strand bench`: random, valid by the model's own description, the same in every run.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static uint64_t next(uint64_t *state) { /* SplitMix64 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The ids of A, C, G and T, if each is one token of its own and the vocabulary is an alphabet. */
static int dna_ids(const strand_model *model, int64_t *ids) {
    size_t count = 0;
    if (strand_tokenize(model, "ACGT", 4, ids, 4, &count) != STRAND_OK || count != 4) return 0;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            if (ids[i] == ids[k]) return 0;
    const char *far_one = strand_token_text(model, 128);
    return !far_one || !*far_one;
}

const char *bench_unit(const strand_model *model) {
    int64_t ids[4];
    return dna_ids(model, ids) ? "bases" : "positions";
}

int bench_has_length(const strand_model *model) {
    strand_tensor t;
    for (int32_t i = 0; strand_model_input(model, i, &t) == STRAND_OK; i++)
        for (int32_t a = 0; a < t.rank; a++)
            if (t.dims[a] == STRAND_DIM_LENGTH) return 1;
    return 0;
}

enum { MOST_IDS = 64 };

/* Ids to draw from; returns how many, at least 1. */
static size_t some_ids(const strand_model *model, int64_t *ids) {
    static const char sentence[] = "The quick brown fox jumps over the lazy dog, and 42 more follow.";
    size_t count = 0;
    if (dna_ids(model, ids)) return 4;
    if (strand_tokenize(model, sentence, sizeof sentence - 1, ids, MOST_IDS, &count) == STRAND_OK && count > 0)
        return count < MOST_IDS ? count : MOST_IDS;
    ids[0] = 0; /* every vocabulary has it */
    return 1;
}

static void put_integer(void *data, size_t width, uint64_t i, int64_t value) {
    memcpy((char *)data + i * width, &value, width); /* little-endian, as everywhere in this program */
}

/* Half-precision values of about the same size: sign and three bits of the fraction are random, the exponent is that of 1/2. */
static void put_half(void *data, strand_dtype type, uint64_t i, uint64_t random) {
    const uint16_t half =
        (uint16_t)((random & 0x8000) | (type == STRAND_F16 ? 0x3800 | (random & 0x380) : 0x3f00 | (random & 0x70)));
    memcpy((char *)data + 2 * i, &half, 2);
}

static void fill(const strand_tensor *t, uint64_t n, const int64_t *ids, size_t n_ids, uint64_t *random) {
    const size_t width = strand_dtype_size(t->dtype);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t r = next(random);
        const double real = (double)(r >> 11) * 0x1p-52 - 1;
        const float single = (float)real;
        if (t->dtype == STRAND_F32)
            memcpy((char *)t->data + 4 * i, &single, 4);
        else if (t->dtype == STRAND_F64)
            memcpy((char *)t->data + 8 * i, &real, 8);
        else if (t->dtype == STRAND_F16 || t->dtype == STRAND_BF16)
            put_half(t->data, t->dtype, i, r);
        else
            put_integer(t->data, width, i, t->dtype == STRAND_BOOL ? 1 : ids[r % n_ids]);
    }
}

int bench_inputs_make(bench_inputs *in, const strand_model *model, int64_t batch, int64_t length) {
    int64_t ids[MOST_IDS];
    const size_t n_ids = some_ids(model, ids);
    uint64_t random = 1;
    memset(in, 0, sizeof *in);
    for (int32_t i = 0; i < BENCH_INPUTS && strand_model_input(model, i, &in->tensors[i]) == STRAND_OK; i++) {
        strand_tensor *t = &in->tensors[i];
        uint64_t n = 1;
        for (int32_t a = 0; a < t->rank; a++) {
            if (t->dims[a] == STRAND_DIM_BATCH) t->dims[a] = batch;
            if (t->dims[a] == STRAND_DIM_LENGTH) t->dims[a] = length;
            if (t->dims[a] < 1 || n > UINT64_MAX / 16 / (uint64_t)t->dims[a])
                return complain("input '%s' is too large", t->name), -1;
            n *= (uint64_t)t->dims[a];
        }
        t->bytes = n * strand_dtype_size(t->dtype);
        t->data = malloc((size_t)t->bytes + 1);
        in->n = i + 1;
        if (!t->data) return complain("out of memory"), -1;
        fill(t, n, ids, n_ids, &random);
    }
    return 0;
}

void bench_inputs_free(bench_inputs *in) {
    for (int32_t i = 0; i < in->n; i++) free(in->tensors[i].data);
    in->n = 0;
}

/* op_table.c - the instruction set: the families of rows in core/ops/, seen as one table. Adding an operator touches its
 * family's file there, its id and parameters in strand_ops.h, and the kernels; nothing else. Ids and versions never change
 * their meaning. */
#include "op.h"

#define FAMILIES(X) \
    X(products) \
    X(elementwise) \
    X(shapes) \
    X(recurrent) \
    X(convolutions) \
    X(matrix_state) \
    X(graphs) \
    X(attention) \
    X(scans)

#define DECLARE(family)                       \
    extern const op_row op_rows_##family[]; \
    extern const uint32_t op_n_##family;
FAMILIES(DECLARE)

static const struct {
    const op_row *rows;
    const uint32_t *n;
} families[] = {
#define ENTRY(family) {op_rows_##family, &op_n_##family},
    FAMILIES(ENTRY)};

#define N_FAMILIES (sizeof families / sizeof families[0])

uint32_t op_count(void) {
    uint32_t n = 0;
    for (size_t f = 0; f < N_FAMILIES; f++) n += *families[f].n;
    return n;
}

const op_row *op_at(uint32_t index) {
    for (size_t f = 0; f < N_FAMILIES; f++) {
        if (index < *families[f].n) return &families[f].rows[index];
        index -= *families[f].n;
    }
    return NULL;
}

const op_row *op_find(uint32_t id) {
    for (size_t f = 0; f < N_FAMILIES; f++)
        for (uint32_t i = 0; i < *families[f].n; i++)
            if (families[f].rows[i].id == id) return &families[f].rows[i];
    return NULL;
}

/* op.h - the instruction set: one row an operator. Everything that must know all operators reads this table.
 *
 * A row is mathematics, not a kernel: its shape rule, which inputs its result may overwrite, and its axis rules. An axis rule
 * says, for one axis of the result and one input, which interval of which input axis the result's interval [i, j) needs. It is
 * what tiling, and later streaming and splitting over machines, are made of. */
#ifndef STRAND_CORE_OP_H
#define STRAND_CORE_OP_H

#include <stdbool.h>

#include "error.h"
#include "strand_plugin.h"

typedef enum op_dim_kind { OP_DIM_FIXED, OP_DIM_BATCH, OP_DIM_LENGTH } op_dim_kind;

typedef struct op_dim {
    op_dim_kind kind;
    int64_t size; /* OP_DIM_FIXED; 0 otherwise */
} op_dim;

typedef struct op_shape {
    strand_dtype dtype; /* STRAND_NONE: absent */
    int rank;
    op_dim dims[STRAND_PLUGIN_RANK];
} op_shape;

/* The interval of `axis` of an input that [i, j) of the result's axis needs: [i - left, j + right), clipped to the extent.
 * axis -1: all of the input, whatever the interval. OP_UNBOUNDED as left or right: everything on that side. */
typedef struct op_axis_rule {
    int axis;
    int64_t left, right;
} op_axis_rule;
#define OP_UNBOUNDED INT64_MAX
#define OP_WHOLE ((op_axis_rule){-1, 0, 0})

typedef struct op_row op_row;
struct op_row {
    uint32_t id, version;
    const char *name;
    uint32_t min_inputs, max_inputs;
    uint32_t params_size;
    uint32_t in_place; /* bit i: the result may overwrite input i (same shape and type) */
    uint32_t prepared; /* bit i: what a backend prepares depends on input i */
    float tolerance;   /* of every kernel against double precision, relative to the largest value of the result (of each
                          output) */
    /* Fills out[0] (holding the hint on entry) from the inputs, and out[1] where the row has a second output; inputs beyond
     * n are absent. */
    strand_status (*shape)(const op_shape *inputs, uint32_t n, const void *params, op_shape *out, error *e);
    /* Can the first output be computed in intervals of `axis`? If so, the rule of each input. A node whose second output is
     * used is never cut. */
    bool (*axis_rule)(const op_shape *inputs, uint32_t n, const op_shape *out, const void *params, int axis,
                      op_axis_rule *rules);
    /* Rough floating-point operations, for progress. All dims have their size filled in, whatever their kind. */
    double (*work)(const op_shape *inputs, const op_shape *out, const void *params);
    uint32_t outputs;       /* 2 where there is a second output, else 0 */
    uint32_t second_in_place; /* bit i: the second output may overwrite input i (a state) */
    bool renames;           /* RESHAPE: in place whatever the shapes, since the elements stay where they are */
};

const op_row *op_find(uint32_t id); /* NULL for an unknown id */
uint32_t op_count(void);
const op_row *op_at(uint32_t index);

static inline bool op_dim_equal(op_dim a, op_dim b) {
    return a.kind == b.kind && a.size == b.size;
}

#endif

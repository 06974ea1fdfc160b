/* ops_program.h - a test case: a few tensors with their bytes, and one operator or a few that follow one another.
 *
 * Every tensor lies in a storage of its own that is larger than it: what is not an element of it is filled with ones, which
 * reads as NaN or as the id -1. An operator that reads past a view makes NaN; one that writes past it is found by comparing. */
#ifndef STRAND_TESTS_OPS_PROGRAM_H
#define STRAND_TESTS_OPS_PROGRAM_H

#include "op.h"
#include "ops_host.h"

#define OPS_TENSORS 20
#define OPS_NODES   5
#define OPS_GUARD   4096 /* bytes before and after; a multiple of every alignment */

typedef struct ops_tensor {
    strand_plugin_tensor view; /* the whole tensor, without memory */
    uint64_t lead;             /* bytes of the storage before the first element */
    uint64_t bytes;            /* of the storage */
    unsigned char *start;      /* what the storage holds before a run */
} ops_tensor;

typedef struct ops_node {
    uint32_t op, n_inputs;
    int inputs[STRAND_PLUGIN_MAX_INPUTS]; /* tensors, -1: absent */
    int output, second; /* second: the second output, -1 when it is not asked for */
    uint64_t params[STRAND_PLUGIN_PARAMS / 8];
} ops_node;

typedef struct ops_program {
    ops_tensor tensors[OPS_TENSORS];
    ops_node nodes[OPS_NODES];
    int n_tensors, n_nodes;
    uint64_t random;
    bool strided; /* are tensors laid out with gaps and odd beginnings? */
    double slack; /* how much larger an inner result is than the last one: what a sine makes of 400 has 400's error */
    char text[256];
} ops_program;

typedef enum ops_values {
    OPS_NORMAL, /* about -2 .. 2 */
    OPS_WIDE,   /* about -20 .. 20, now and then far out */
    OPS_OUTPUT, /* ones: not written yet */
} ops_values;

void ops_program_begin(ops_program *g, uint64_t seed);
void ops_program_free(ops_program *g);

/* Adds a tensor and returns its index. Quantised types get valid blocks of numbers about -1 .. 1. */
int ops_add(ops_program *g, uint32_t dtype, int rank, const int64_t *dims, ops_values values);
/* Adds ids below `rows`, I32 or I64. */
int ops_add_ids(ops_program *g, uint32_t dtype, int rank, const int64_t *dims, int64_t rows);
/* Adds a node; params may be NULL. The output is a tensor added before, of OPS_OUTPUT; so is node->second, when set. */
ops_node *ops_add_node(ops_program *g, uint32_t op, const void *params, size_t params_bytes, uint32_t n_inputs,
                       const int *inputs, int output);

/* Random integer in [low, high]; a number of a few favourite extents up to `most`. */
int64_t ops_between(ops_program *g, int64_t low, int64_t high);
int64_t ops_extent(ops_program *g, int64_t most);

/* Is byte `at` of the tensor's storage part of an element of `view` (the tensor or a tile of it)? Marks them all in `mask`. */
void ops_mark(const ops_tensor *t, const strand_plugin_tensor *view, unsigned char *mask);
/* Byte offset in the storage of element `index` (row-major count) of the view; of its block, when the type is quantised. */
uint64_t ops_place(const ops_tensor *t, const strand_plugin_tensor *view, int64_t index);
int64_t ops_count(const strand_plugin_tensor *view);
/* Bytes of a block of the type (an element of a plain one), and elements of it. */
uint64_t ops_block_bytes(uint32_t dtype);
int64_t ops_block(uint32_t dtype);
bool ops_quantised(uint32_t dtype);

/* Cuts [begin, end) of `axis` out of the view. */
void ops_cut(strand_plugin_tensor *view, int axis, int64_t begin, int64_t end);

/* For each node, the views of its inputs and output when the last node makes [begin, end) of `axis` (-1: everything). False
 * when an operator on the way is not computed in such pieces. */
typedef struct ops_views {
    strand_plugin_tensor inputs[OPS_NODES][STRAND_PLUGIN_MAX_INPUTS], outputs[OPS_NODES];
    strand_plugin_tensor seconds[OPS_NODES]; /* rank 0: not made (a piece has no second output) */
} ops_views;
bool ops_tile(const ops_program *g, int axis, int64_t begin, int64_t end, ops_views *v);

#endif

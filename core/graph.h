/* graph.h - a model as an append-only SSA graph: tensors that are inputs, weights, states or results, and the operators
 * between them.
 *
 * Shapes are symbolic in two extents that the caller chooses at run time, batch and length; everything else is fixed when the
 * model is loaded. The graph is built once, lives in the model's arena and never changes afterwards. Building keeps the first
 * error and turns later calls into no-ops, so that a model file can be written without a check on every line. */
#ifndef STRAND_CORE_GRAPH_H
#define STRAND_CORE_GRAPH_H

#include "arena.h"
#include "error.h"
#include "op.h"

typedef uint32_t tensor_id; /* 0: none */

/* STATE: what the session keeps from run to run. CLOCK: where in their sequences this run's tokens stand, made by the
 * session. */
typedef enum tensor_kind { TENSOR_INPUT, TENSOR_WEIGHT, TENSOR_RESULT, TENSOR_STATE, TENSOR_CLOCK } tensor_kind;

typedef enum graph_clock { CLOCK_BEGIN, CLOCK_END, CLOCK_POSITIONS } graph_clock;

typedef struct graph_tensor {
    const char *name;
    tensor_kind kind;
    bool constant; /* depends on weights alone */
    op_shape shape;
    const void *data; /* TENSOR_WEIGHT: contiguous, kept by the owner of the weights; TENSOR_STATE: a row at the start, NULL:
                         zeros */
    uint32_t node;    /* TENSOR_RESULT: its producer */
    tensor_id next;   /* TENSOR_STATE: what it is after a run */
    bool cache;       /* TENSOR_STATE: axis 1 is time, rows from the position on are not in use */
    graph_clock clock;
    int64_t most; /* CLOCK_END: what it is cut to; 0: never */
} graph_tensor;

typedef struct graph_node {
    const op_row *op;
    const char *name;
    bool constant;
    uint32_t n_inputs;
    tensor_id inputs[STRAND_PLUGIN_MAX_INPUTS]; /* 0 where an optional one is absent */
    tensor_id output, second; /* second: 0 where the operator has one output, or the model has no use for the other */
    _Alignas(8) unsigned char params[STRAND_PLUGIN_PARAMS];
} graph_node;

typedef struct graph_output {
    const char *name;
    tensor_id tensor;
    bool on_request; /* made only when named; these come after the others */
} graph_output;

typedef struct graph {
    arena *arena;
    error error;
    graph_tensor *tensors; /* [1, n_tensors) */
    graph_node *nodes;
    graph_output *outputs;
    uint32_t n_tensors, n_nodes, n_outputs;
    uint32_t tensor_room, node_room, output_room;
} graph;

void graph_init(graph *g, arena *a);

/* A dimension: fixed, or one of the run's extents. */
#define DIM(n) ((op_dim){OP_DIM_FIXED, (n)})
#define DIM_B ((op_dim){OP_DIM_BATCH, 0})
#define DIM_L ((op_dim){OP_DIM_LENGTH, 0})

tensor_id graph_input(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims);
/* `data` is contiguous and outlives the graph. */
tensor_id graph_weight(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims, const void *data);
/* A state: a tensor that a session keeps for each sequence of its batch. dims[0] is DIM_B, the others are fixed. A sequence
 * begins with zeros, or with `row` (graph_state_start; contiguous, kept by the caller as weights are). After a run the state is
 * `next`, a result of the same type and shape; where the operator allows that, it lies over the state and nothing is copied. */
tensor_id graph_state(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims);
/* The same with time as axis 1, one row a token, as CACHE_WRITE fills it at graph_begin: only rows before the position are
 * saved, and a run that would go beyond the last row is refused. (A ring is a plain state.) */
tensor_id graph_state_cache(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims);
void graph_state_start(graph *g, tensor_id state, const void *row);
void graph_state_next(graph *g, tensor_id state, tensor_id next);
/* How many tokens each sequence had before this run, and has after it: [B] I64; and the number of each token: [B, L] I64. */
tensor_id graph_begin(graph *g);
tensor_id graph_end(graph *g);
/* min(graph_end, most), most > 0: the rows in use of a cache that slides (CACHE_WRITE). */
tensor_id graph_end_within(graph *g, int64_t most);
tensor_id graph_positions(graph *g);
bool graph_stateful(const graph *g);
/* Every state has a next one: the last check of a graph that is complete. */
strand_status graph_check(graph *g);
/* One operator. `inputs` holds n ids, 0 for an absent optional one; `params` is the operator's struct or NULL. For operators
 * whose result is not determined by their inputs (POSITIONS, CAST) `hint` gives the result's type and shape, else NULL. */
tensor_id graph_op(graph *g, const char *name, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                   const op_shape *hint);
/* The same for an operator with two outputs; *second gets the other one (a recurrence's state after the last token). */
tensor_id graph_op2(graph *g, const char *name, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                    const op_shape *hint, tensor_id *second);
/* Names a result that the caller gets, or may ask for. Results on request are added after all others. */
void graph_output_add(graph *g, const char *name, tensor_id tensor);
void graph_output_on_request(graph *g, const char *name, tensor_id tensor);
/* A name in the graph's arena, for names made of parts. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
const char *graph_name(graph *g, const char *format, ...);

#endif

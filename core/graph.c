/* graph.c - builds the SSA graph. Arrays grow by doubling inside the arena (the old ones stay behind until the model is
 * closed; graphs have hundreds of nodes, not millions). */
#include "graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dtype.h"

void graph_init(graph *g, arena *a) {
    memset(g, 0, sizeof *g);
    g->arena = a;
    g->n_tensors = 1; /* id 0 means none */
}

/* Makes room for one more element; returns the array, moved if need be, or NULL. */
static void *room(graph *g, void *array, uint32_t used, uint32_t *have, size_t size, size_t align) {
    if (used < *have) return array;
    uint32_t more = *have ? *have * 2 : 64;
    void *bigger = arena_array(g->arena, more, size, align);
    if (!bigger) {
        error_set(&g->error, STRAND_ERR_MEMORY, "out of memory while building the graph");
        return NULL;
    }
    if (array) memcpy(bigger, array, (size_t)used * size);
    *have = more;
    return bigger;
}

static tensor_id add_tensor(graph *g, const graph_tensor *t) {
    graph_tensor *array = room(g, g->tensors, g->n_tensors, &g->tensor_room, sizeof *array, _Alignof(graph_tensor));
    if (!array) return 0;
    g->tensors = array;
    array[g->n_tensors] = *t;
    return g->n_tensors++;
}

static tensor_id leaf(graph *g, const char *name, tensor_kind kind, strand_dtype dtype, int rank, const op_dim *dims,
                      const void *data) {
    if (g->error.status) return 0;
    if (rank < 0 || rank > STRAND_PLUGIN_RANK) {
        error_set(&g->error, STRAND_ERR_UNSUPPORTED, "tensor '%s' has %d axes; at most %d are supported", name, rank,
                  STRAND_PLUGIN_RANK);
        return 0;
    }
    graph_tensor t = {
        .name = name, .kind = kind, .constant = kind == TENSOR_WEIGHT, .shape = {.dtype = dtype, .rank = rank}, .data = data};
    if (rank) memcpy(t.shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t block = dtype_block_of(dtype).elements;
    if (block > 1 &&
        (kind != TENSOR_WEIGHT || rank < 1 || dims[rank - 1].kind != OP_DIM_FIXED || dims[rank - 1].size % block)) {
        error_set(&g->error, STRAND_ERR_UNSUPPORTED, "tensor '%s': %s is for weights whose last axis is a multiple of %d", name,
                  strand_dtype_name(dtype), (int)block);
        return 0;
    }
    return add_tensor(g, &t);
}

tensor_id graph_input(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims) {
    return leaf(g, name, TENSOR_INPUT, dtype, rank, dims, NULL);
}

tensor_id graph_weight(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims, const void *data) {
    return leaf(g, name, TENSOR_WEIGHT, dtype, rank, dims, data);
}

static tensor_id add_state(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims, bool cache) {
    bool good = rank >= (cache ? 2 : 1) && dims[0].kind == OP_DIM_BATCH;
    for (int i = 1; i < rank; i++) good = good && dims[i].kind == OP_DIM_FIXED && dims[i].size > 0;
    if (!good) {
        if (!g->error.status) error_set(&g->error, STRAND_ERR_ARGUMENT, "state '%s' is not [batch, fixed extents]", name);
        return 0;
    }
    tensor_id t = leaf(g, name, TENSOR_STATE, dtype, rank, dims, NULL);
    if (t) g->tensors[t].cache = cache;
    return t;
}

tensor_id graph_state(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims) {
    return add_state(g, name, dtype, rank, dims, false);
}

tensor_id graph_state_cache(graph *g, const char *name, strand_dtype dtype, int rank, const op_dim *dims) {
    return add_state(g, name, dtype, rank, dims, true);
}

void graph_state_start(graph *g, tensor_id state, const void *row) {
    if (!g->error.status && state) g->tensors[state].data = row;
}

void graph_state_next(graph *g, tensor_id state, tensor_id next) {
    if (g->error.status) return;
    graph_tensor *s = &g->tensors[state];
    const graph_tensor *n = &g->tensors[next];
    bool same = state && next && s->kind == TENSOR_STATE && n->kind == TENSOR_RESULT && !n->constant &&
                s->shape.dtype == n->shape.dtype && s->shape.rank == n->shape.rank;
    for (int i = 0; same && i < s->shape.rank; i++) same = op_dim_equal(s->shape.dims[i], n->shape.dims[i]);
    if (!same) {
        error_set(&g->error, STRAND_ERR_ARGUMENT, "state '%s' does not become '%s', which is no result of its type and shape",
                  state ? s->name : "", next ? n->name : "");
        return;
    }
    s->next = next;
}

static tensor_id clock_tensor(graph *g, graph_clock clock, const char *name, int rank, int64_t most) {
    for (tensor_id t = 1; t < g->n_tensors; t++)
        if (g->tensors[t].kind == TENSOR_CLOCK && g->tensors[t].clock == clock && g->tensors[t].most == most) return t;
    tensor_id t = leaf(g, name, TENSOR_CLOCK, STRAND_I64, rank, (op_dim[]){DIM_B, DIM_L}, NULL);
    if (t) g->tensors[t].clock = clock, g->tensors[t].most = most;
    return t;
}

tensor_id graph_begin(graph *g) {
    return clock_tensor(g, CLOCK_BEGIN, "begin", 1, 0);
}

tensor_id graph_end(graph *g) {
    return clock_tensor(g, CLOCK_END, "end", 1, 0);
}

tensor_id graph_end_within(graph *g, int64_t most) {
    return clock_tensor(g, CLOCK_END, "end within", 1, most);
}

tensor_id graph_positions(graph *g) {
    return clock_tensor(g, CLOCK_POSITIONS, "positions", 2, 0);
}

bool graph_stateful(const graph *g) {
    for (tensor_id t = 1; t < g->n_tensors; t++)
        if (g->tensors[t].kind == TENSOR_STATE) return true;
    return false;
}

strand_status graph_check(graph *g) {
    for (tensor_id t = 1; t < g->n_tensors && !g->error.status; t++)
        if (g->tensors[t].kind == TENSOR_STATE && !g->tensors[t].next)
            error_set(&g->error, STRAND_ERR_ARGUMENT, "state '%s' has no next one", g->tensors[t].name);
    return g->error.status;
}

/* Shapes of the inputs, and whether all of them depend on weights alone. */
static bool gather_inputs(graph *g, const char *name, const op_row *row, const tensor_id *inputs, uint32_t n, op_shape *shapes,
                          bool *constant) {
    *constant = true;
    for (uint32_t i = 0; i < n; i++) {
        if (inputs[i] >= g->n_tensors || (!inputs[i] && i < row->min_inputs)) {
            error_set(&g->error, STRAND_ERR_ARGUMENT, "node '%s': input %u of %s is missing", name, i, row->name);
            return false;
        }
        shapes[i] = inputs[i] ? g->tensors[inputs[i]].shape : (op_shape){0};
        if (inputs[i] && !g->tensors[inputs[i]].constant) *constant = false;
    }
    return true;
}

tensor_id graph_op(graph *g, const char *name, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                   const op_shape *hint) {
    return graph_op2(g, name, op, params, inputs, n, hint, NULL);
}

tensor_id graph_op2(graph *g, const char *name, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                    const op_shape *hint, tensor_id *second) {
    if (second) *second = 0;
    if (g->error.status) return 0;
    const op_row *row = op_find(op);
    if (row && second && row->outputs < 2) {
        error_set(&g->error, STRAND_ERR_ARGUMENT, "node '%s': %s has one output", name, row->name);
        return 0;
    }
    if (!row || n < row->min_inputs || n > row->max_inputs || (row->params_size && !params)) {
        error_set(&g->error, STRAND_ERR_ARGUMENT, "node '%s': operator %u does not take %u inputs", name, op, n);
        return 0;
    }
    op_shape shapes[STRAND_PLUGIN_MAX_INPUTS];
    bool constant;
    if (!gather_inputs(g, name, row, inputs, n, shapes, &constant)) return 0;
    op_shape out[STRAND_PLUGIN_MAX_OUTPUTS] = {hint ? *hint : (op_shape){.dtype = STRAND_F32}};
    error why = {0};
    if (row->shape(shapes, n, params, out, &why)) {
        error_set(&g->error, why.status, "node '%s' (%s): %s", name, row->name, why.text);
        return 0;
    }
    graph_node *nodes = room(g, g->nodes, g->n_nodes, &g->node_room, sizeof *nodes, _Alignof(graph_node));
    if (!nodes) return 0;
    g->nodes = nodes;
    graph_tensor t = {.name = name, .kind = TENSOR_RESULT, .constant = constant, .shape = out[0], .node = g->n_nodes};
    tensor_id id = add_tensor(g, &t);
    t.shape = out[1];
    if (!id || (second && !(*second = add_tensor(g, &t)))) return 0;
    graph_node *node = &nodes[g->n_nodes++];
    *node = (graph_node){
        .op = row, .name = name, .constant = constant, .n_inputs = n, .output = id, .second = second ? *second : 0};
    if (n) memcpy(node->inputs, inputs, n * sizeof *inputs);
    if (row->params_size) memcpy(node->params, params, row->params_size);
    return id;
}

static void add_output(graph *g, const char *name, tensor_id tensor, bool on_request) {
    if (g->error.status) return;
    graph_output *array = room(g, g->outputs, g->n_outputs, &g->output_room, sizeof *array, _Alignof(graph_output));
    if (!array) return;
    g->outputs = array;
    array[g->n_outputs++] = (graph_output){name, tensor, on_request};
}

void graph_output_add(graph *g, const char *name, tensor_id tensor) {
    add_output(g, name, tensor, false);
}

void graph_output_on_request(graph *g, const char *name, tensor_id tensor) {
    add_output(g, name, tensor, true);
}

const char *graph_name(graph *g, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = arena_string(g->arena, text, strlen(text));
    if (!copy) error_set(&g->error, STRAND_ERR_MEMORY, "out of memory while building the graph");
    return copy ? copy : "";
}

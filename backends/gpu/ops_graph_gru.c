/* ops_graph_gru.c - GRAPH_GRU (DCGRU) on the GPU plugins: token after token, DIFFUSION and MATMUL of the state and of what
 * the reset gate leaves of it, and the kernels of graphs.k between them.
 *
 * The state and everything between stand in spare memory, contiguous, [batch, nodes, ...]; so the state that comes in may be
 * overwritten by the one that goes out. */
#include "gpu.h"

typedef struct graph_gru_room {
    int64_t batch, nodes, units, all; /* all: matrices of the diffusion, the identity included */
    uint64_t state, kept, update, sums, diffusion, bytes; /* offsets in spare memory */
} graph_gru_room;

/* The two operators that a token is made of, over spare memory. */
typedef struct graph_gru_part {
    strand_plugin_tensor in[2], out;
    strand_op_diffusion diffusion;
    strand_op_matmul matmul;
    strand_plugin_node node;
} graph_gru_part;

static graph_gru_room room_of(const strand_plugin_node *node) {
    const strand_op_graph_gru *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0], *s = &node->inputs[2];
    graph_gru_room r = {
        .batch = y->dims[0], .nodes = y->dims[2], .units = y->dims[3], .all = 1 + s->dims[s->rank - 3] * p->steps};
    uint64_t one = ((uint64_t)(r.batch * r.nodes * r.units) * sizeof(float) + 255) / 256 * 256;
    r.kept = one;
    r.update = 2 * one;
    r.sums = 3 * one;
    r.diffusion = 5 * one;
    r.bytes = r.diffusion + one * (uint64_t)r.all;
    return r;
}

/* [batch, nodes, width] in spare memory, the batch counted as the output's is. */
static strand_plugin_tensor spare(const strand_plugin_tensor *y, const strand_plugin_memory *scratch, uint64_t at,
                                  int64_t width) {
    int64_t n = y->dims[2];
    strand_plugin_tensor t = {.dtype = STRAND_PLUGIN_F32, .rank = 3, .dims = {y->dims[0], n, width},
                              .strides = {n * width, width, 1}, .origin = {y->origin[0]}, .whole = {y->whole[0], n, width}};
    if (scratch) t.memory = *scratch;
    t.memory.offset += at;
    return t;
}

static void diffusion_part(const strand_plugin_node *node, const strand_plugin_memory *scratch, const graph_gru_room *r,
                           uint64_t from, graph_gru_part *part) {
    const strand_op_graph_gru *p = node->params;
    const strand_plugin_tensor *y = &node->outputs[0];
    *part = (graph_gru_part){.in = {spare(y, scratch, from, r->units), node->inputs[2]},
                             .out = spare(y, scratch, r->diffusion, r->units * r->all),
                             .diffusion = {.steps = p->steps, .flags = p->flags}};
    part->node = (strand_plugin_node){.op = STRAND_OP_DIFFUSION, .version = 1, .n_inputs = 2, .n_outputs = 1,
                                      .inputs = part->in, .outputs = &part->out, .params = &part->diffusion};
}

/* The diffusion times weight `input`, into the sums: rows of all batch entries' nodes, counted as the output's entries are,
 * since a product of few rows has kernels of its own. */
static void product_part(const strand_plugin_node *node, const strand_plugin_memory *scratch, const graph_gru_room *r,
                         uint32_t input, graph_gru_part *part) {
    const strand_plugin_tensor *w = &node->inputs[input], *y = &node->outputs[0];
    int64_t rows = r->batch * r->nodes, from = r->units * r->all, to = w->dims[1], first = y->origin[0] * r->nodes,
            whole = y->whole[0] * r->nodes;
    *part = (graph_gru_part){.in = {{.dtype = STRAND_PLUGIN_F32, .rank = 2, .dims = {rows, from}, .strides = {from, 1},
                                     .origin = {first}, .whole = {whole, from}},
                                    *w},
                             .out = {.dtype = STRAND_PLUGIN_F32, .rank = 2, .dims = {rows, to}, .strides = {to, 1},
                                     .origin = {first}, .whole = {whole, to}}};
    if (scratch) part->in[0].memory = part->out.memory = *scratch;
    part->in[0].memory.offset += r->diffusion;
    part->out.memory.offset += r->sums;
    part->node = (strand_plugin_node){.op = STRAND_OP_MATMUL, .version = 1, .n_inputs = 2, .n_outputs = 1, .inputs = part->in,
                                      .outputs = &part->out, .params = &part->matmul};
}

bool gpu_supports_graph_gru(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    graph_gru_room r = room_of(node);
    graph_gru_part part;
    if (r.bytes > device->limits.binding_bytes / 2 || r.bytes >= (uint64_t)1 << 33)
        return cpu_no(why, why_bytes, "the diffused state does not fit the memory that a kernel sees");
    diffusion_part(node, NULL, &r, 0, &part);
    if (!gpu_supports_diffusion(device, &part.node, why, why_bytes)) return false;
    product_part(node, NULL, &r, 3, &part);
    return gpu_supports_matmul(device, &part.node, why, why_bytes);
}

uint64_t gpu_graph_gru_scratch(strand_plugin_device *device, const strand_plugin_node *node) {
    (void)device;
    return room_of(node).bytes;
}

static void bind_spare(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *scratch,
                       const graph_gru_room *r, uint64_t at, int64_t times) {
    gpu_bind_memory(device, d, scratch, at, (uint64_t)(r->batch * r->nodes * r->units * times) * sizeof(float), sizeof(float));
}

static void push_extents(gpu_dispatch *d, const graph_gru_room *r) {
    gpu_int(d, r->batch * r->nodes * r->units);
    gpu_int(d, r->nodes);
    gpu_int(d, r->units);
}

/* Where token t of the output's first batch entry stands. */
static int32_t token(const strand_plugin_tensor *x, const strand_plugin_tensor *y, int64_t t) {
    return (int32_t)(cpu_lead(x, 0, y, 0) * x->strides[0] + t * x->strides[1]);
}

/* sums = diffusion of what stands at `from`, times weight `input`. */
static strand_plugin_status gain(strand_plugin_device *device, const strand_plugin_node *node,
                                 const strand_plugin_memory *scratch, const graph_gru_room *r, uint64_t from, uint32_t input) {
    graph_gru_part part;
    diffusion_part(node, scratch, r, from, &part);
    strand_plugin_status status = gpu_diffusion(device, &part.node, scratch);
    if (status) return status;
    product_part(node, scratch, r, input, &part);
    return gpu_matmul(device, &part.node, scratch);
}

static strand_plugin_status begin(strand_plugin_device *device, const strand_plugin_node *node,
                                  const strand_plugin_memory *scratch, const graph_gru_room *r) {
    const strand_plugin_tensor *state = cpu_input(node, 5), *y = &node->outputs[0];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_graph_gru_begin);
    gpu_bind_or(device, &d, state, &node->inputs[1]);
    bind_spare(device, &d, scratch, r, r->state, 1);
    if (state) d.params[0] += (int32_t)(cpu_lead(state, 0, y, 0) * state->strides[0]);
    push_extents(&d, r);
    gpu_int(&d, state != NULL);
    gpu_int(&d, state ? state->strides[0] : 0);
    gpu_int(&d, state ? state->strides[1] : 0);
    return gpu_over(device, &d, r->batch * r->nodes * r->units);
}

static strand_plugin_status gates_of(strand_plugin_device *device, const strand_plugin_node *node,
                                     const strand_plugin_memory *scratch, const graph_gru_room *r, int64_t t) {
    const strand_plugin_tensor *gates = &node->inputs[0];
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_graph_gru_gates);
    gpu_bind(device, &d, gates);
    bind_spare(device, &d, scratch, r, r->sums, 2);
    bind_spare(device, &d, scratch, r, r->state, 1);
    bind_spare(device, &d, scratch, r, r->kept, 1);
    bind_spare(device, &d, scratch, r, r->update, 1);
    d.params[0] += token(gates, &node->outputs[0], t);
    push_extents(&d, r);
    gpu_int(&d, gates->strides[0]);
    gpu_int(&d, gates->strides[2]);
    return gpu_over(device, &d, r->batch * r->nodes * r->units);
}

static strand_plugin_status next(strand_plugin_device *device, const strand_plugin_node *node,
                                 const strand_plugin_memory *scratch, const graph_gru_room *r, int64_t t) {
    const strand_plugin_tensor *x = &node->inputs[1], *y = &node->outputs[0];
    const strand_plugin_tensor *after = node->n_outputs > 1 && t == y->dims[1] - 1 ? &node->outputs[1] : NULL;
    gpu_dispatch d;
    gpu_begin(&d, GPU_K_graph_gru_next);
    gpu_bind(device, &d, x);
    bind_spare(device, &d, scratch, r, r->sums, 1);
    bind_spare(device, &d, scratch, r, r->update, 1);
    bind_spare(device, &d, scratch, r, r->state, 1);
    gpu_bind(device, &d, y);
    gpu_bind_or(device, &d, after, y);
    d.params[0] += token(x, y, t);
    d.params[4] += (int32_t)(t * y->strides[1]);
    push_extents(&d, r);
    const int64_t numbers[] = {x->strides[0], x->strides[2], y->strides[0], y->strides[2], after != NULL,
                               after ? after->strides[0] : 0, after ? after->strides[1] : 0};
    gpu_ints(&d, numbers, 7);
    return gpu_over(device, &d, r->batch * r->nodes * r->units);
}

GPU_RUN(graph_gru) {
    graph_gru_room r = room_of(node);
    strand_plugin_status status = begin(device, node, scratch, &r);
    for (int64_t t = 0; t < node->outputs[0].dims[1] && !status; t++) {
        status = gain(device, node, scratch, &r, r.state, 3);
        if (!status) status = gates_of(device, node, scratch, &r, t);
        if (!status) status = gain(device, node, scratch, &r, r.kept, 4);
        if (!status) status = next(device, node, scratch, &r, t);
    }
    return status;
}

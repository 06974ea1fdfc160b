/* ssd.c - SSD, gated linear attention and the delta rule on tensor cores (kernels/ssd_mma.cu, gated_mma.cu, delta_mma.cu), from
 * compute capability 8.0 on: which nodes, how they are cut, and the launches.
 *
 * Some chunks at a time: what heads share of them is made, the ends of parts where the heads alone do not fill a device,
 * then results. How a sequence is cut depends on heads, groups and its length, so that tiles and neighbours in a batch
 * change nothing. Between parts of the delta rule stands a matrix for each head, which is walked like columns of the state. */
#include "driver_cuda.h"
#include "kernels/numbers.h"

#define LEAST_TOKENS 16
#define LEAST_ROWS   9 /* of a state: of fewer, most of a tile is empty */
#define LEAST_WIDTH  8
#define FILLING      264 /* groups: two for each multiprocessor of a large device */
#define PART         8   /* chunks, at least */
#define LEAST_PARTS  3   /* of the delta rule: an end costs 0.7 of a walk */
#define MOST_PARTS   32  /* of it: joining one more costs half of a chunk */
#define MOST_CHUNKS  512
#define MOST_BYTES   ((int64_t)64 << 20) /* of chunks, and of states; one batch entry of a run must fit */

/* chunks: of a run; block, steps, tile: bytes of a group's chunk, of a head's, of a slice's state. */
typedef struct ssd_form {
    int64_t length, n, width, slices, chunks, parts, part, most_parts, batch;
    int64_t block, steps, tile, turn, turns; /* turn: bytes of a part's matrix of a head, which `turns` groups make */
    int64_t heads, first_head, groups, first_group; /* that y touches */
    uint64_t at_steps, at_slots, at_totals, bytes;
    bool halves, wide, gated, delta; /* one BF16 number; more than 64 rows; decays by row, as the delta rule has them too */
} ssd_form;

static int64_t heads_of(const strand_plugin_node *node) {
    if (node->op == STRAND_OP_SSD) return ((const strand_op_ssd *)node->params)->heads;
    return node->op == STRAND_OP_DELTA_RULE ? ((const strand_op_delta_rule *)node->params)->heads
                                            : ((const strand_op_gated_linear_attention *)node->params)->heads;
}
static int64_t groups_of(const strand_plugin_node *node) {
    return node->op == STRAND_OP_SSD ? ((const strand_op_ssd *)node->params)->groups : heads_of(node);
}

static bool form_of(const cuda_device *d, const strand_plugin_node *node, ssd_form *f) {
    const strand_plugin_tensor *y = &node->outputs[0];
    const bool delta = node->op == STRAND_OP_DELTA_RULE, gated = delta || node->op == STRAND_OP_GATED_LINEAR_ATTENTION;
    if ((node->op != STRAND_OP_SSD && !gated) || !d->tensor_cores) return false;
    const int64_t all_heads = heads_of(node), all_groups = groups_of(node);
    const bool one = !gated && ((const strand_op_ssd *)node->params)->precision == STRAND_PRECISION_BF16;
    *f = (ssd_form){.length = y->dims[1], .n = node->inputs[delta ? 0 : gated ? 1 : 2].dims[2] / all_groups,
                    .width = y->whole[2] / all_heads, .halves = one, .gated = gated, .delta = delta};
    if (f->length < LEAST_TOKENS || f->n < LEAST_ROWS || f->n > 128 || f->width < LEAST_WIDTH || !y->dims[0] || !y->dims[2])
        return false;
    f->wide = f->n > 64;
    f->slices = (f->width + 63) / 64;
    const int64_t nn = f->wide ? 128 : 64, terms = one ? 1 : 2, all = (f->length + SSD_CHUNK - 1) / SSD_CHUNK,
                  units = all_heads * f->slices, each = all_heads / all_groups, keeps = gated ? nn : SSD_CHUNK;
    f->block = SSD_BLOCK(nn, terms, delta);
    f->steps = SSD_STEPS(nn, gated);
    f->tile = 128 * nn / 2 * 4;
    /* What fills a device: results of parts; of the delta rule ends, with the matrices of parts between the first and last. */
    const int64_t turns = all_heads * nn / 64, ends = cpu_min(MOST_PARTS, (FILLING + units + 2 * turns) / (units + turns));
    f->turns = delta ? nn / 64 : 0;
    f->most_parts = !delta ? (FILLING + units - 1) / units : ends < LEAST_PARTS ? 1 : ends;
    f->turn = f->most_parts > 1 ? DELTA_MATRIX(nn) : 0;
    const int64_t chunk = all_groups * f->block + all_heads * f->steps, room = MOST_BYTES / chunk, tiles = MOST_BYTES / f->tile;
    if (room < (delta ? 1 : PART) || 4 * units > tiles || units > CUDA_GROUPS_YZ ||
        d->shared_bytes < (uint32_t)SSD_WALK_SHARED(nn, terms, gated, delta))
        return false;
    f->chunks = cpu_min(cpu_min(all, MOST_CHUNKS), room);
    f->parts = cpu_max(1, cpu_min(f->most_parts, f->chunks / PART));
    if (delta && f->parts < LEAST_PARTS) f->parts = 1;
    f->part = (f->chunks + f->parts - 1) / f->parts;
    f->parts = (f->chunks + f->part - 1) / f->part;
    f->batch = cpu_min(room / f->chunks, tiles / ((f->most_parts + 1) * units));
    f->batch = cpu_max(1, cpu_min(f->batch, cpu_min(y->dims[0], CUDA_GROUPS_YZ)));
    f->first_head = y->origin[2] / f->width;
    f->heads = (y->origin[2] + y->dims[2] - 1) / f->width + 1 - f->first_head;
    f->first_group = f->first_head / each;
    f->groups = (f->first_head + f->heads - 1) / each + 1 - f->first_group;
    /* As much as any shorter sequence needs, and a tile of as many channels wherever it begins. */
    const int64_t heads = cpu_min(all_heads, (y->dims[2] + f->width - 2) / f->width + 1),
                  groups = cpu_min(all_groups, (heads + each - 2) / each + 1);
    const int64_t at_a_time = cpu_min(y->dims[0] * all, room),
                  entries = cpu_max(1, cpu_min(y->dims[0], tiles / ((f->most_parts + 1) * units)));
    f->at_steps = (uint64_t)(at_a_time * groups * f->block);
    f->at_slots = f->at_steps + (uint64_t)(at_a_time * heads * f->steps);
    f->at_totals = f->at_slots + (uint64_t)(entries * heads * f->slices * (f->most_parts + 1) * f->tile);
    f->bytes = f->at_totals +
               (uint64_t)(entries * heads * f->most_parts * (delta ? f->turn : f->slices * keeps * 4));
    return true;
}

uint64_t cuda_ssd_scratch(const cuda_device *d, const strand_plugin_node *node) {
    ssd_form f;
    return form_of(d, node, &f) ? f.bytes : 0;
}

static ssd_numbers shape_of(const strand_plugin_node *node, const ssd_form *f) {
    const strand_plugin_tensor *y = &node->outputs[0];
    ssd_numbers n = {.tokens = (int)f->length, .most_parts = (int)f->most_parts, .part = (int)f->part, .heads = (int)f->heads,
                     .first_head = (int)f->first_head, .heads_a_group = (int)(heads_of(node) / groups_of(node)),
                     .groups = (int)f->groups, .first_group = (int)f->first_group, .n = (int)f->n, .width = (int)f->width,
                     .slices = (int)f->slices, .origin = (int)y->origin[2], .channels = (int)y->dims[2]};
    cuda_strides(n.y, y, 2);
    return n;
}

static ssd_numbers numbers_of(const strand_plugin_node *node, const ssd_form *f) {
    const strand_op_ssd *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *a = &node->inputs[1], *B = &node->inputs[2], *C = &node->inputs[3],
                               *dt = cpu_input(node, 4), *D = cpu_input(node, 5), *bias = cpu_input(node, 6),
                               *state = cpu_input(node, 7), *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    ssd_numbers n = shape_of(node, f);
    n.a_moves = a->rank == 3;
    n.has_dt = dt != NULL;
    n.has_bias = dt && bias;
    n.bias_stride = bias ? (int)bias->strides[0] : 0;
    n.softplus = p->softplus != 0;
    n.has_d = D != NULL;
    n.d_stride = D ? (int)D->strides[0] : 0;
    n.has_state = state != NULL;
    n.has_after = after != NULL;
    n.dt_min = p->dt_min;
    n.dt_max = p->dt_max;
    cuda_strides(n.x, x, 2);
    cuda_strides(n.b, B, 2);
    cuda_strides(n.c, C, 2);
    cuda_strides(n.dt, dt, 2);
    n.a[0] = (int)a->strides[0];
    if (a->rank == 3) n.a[1] = (int)a->strides[1];
    cuda_strides(n.state, state, 4);
    cuda_strides(n.after, after, 4);
    return n;
}

static ssd_numbers delta_numbers_of(const strand_plugin_node *node, const ssd_form *f) {
    const strand_op_delta_rule *p = node->params;
    const strand_plugin_tensor *in = node->inputs, *state = cpu_input(node, 6),
                               *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    ssd_numbers n = shape_of(node, f);
    n.softplus = p->log_w != 0;
    n.has_state = state != NULL;
    n.has_after = after != NULL;
    n.scale = p->scale;
    cuda_strides(n.c, &in[0], 2);
    cuda_strides(n.a, &in[1], 2);
    cuda_strides(n.b, &in[2], 2);
    cuda_strides(n.x, &in[3], 2);
    cuda_strides(n.dt, &in[4], 2);
    cuda_strides(n.put, &in[5], 2);
    cuda_strides(n.state, state, 4);
    cuda_strides(n.after, after, 4);
    return n;
}

/* Of gated linear attention: q, k, w stand for C, B, a, and a state's columns are its last axis. */
static ssd_numbers gated_numbers_of(const strand_plugin_node *node, const ssd_form *f) {
    const strand_op_gated_linear_attention *p = node->params;
    const strand_plugin_tensor *w = &node->inputs[3], *u = cpu_input(node, 4), *state = cpu_input(node, 5),
                               *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    ssd_numbers n = shape_of(node, f);
    n.a_moves = w->rank == 3;
    n.has_bias = u != NULL;
    n.bias_stride = u ? (int)u->strides[0] : 0;
    n.softplus = p->log_w != 0;
    n.has_state = state != NULL;
    n.has_after = after != NULL;
    n.scale = p->scale;
    cuda_strides(n.c, &node->inputs[0], 2);
    cuda_strides(n.b, &node->inputs[1], 2);
    cuda_strides(n.x, &node->inputs[2], 2);
    n.a[0] = (int)w->strides[0];
    if (w->rank == 3) n.a[1] = (int)w->strides[1];
    for (int i = 0; i < 4; i++) {
        if (state) n.state[i] = (int)state->strides[i < 2 ? i : 5 - i];
        if (after) n.after[i] = (int)after->strides[i < 2 ? i : 5 - i];
    }
    return n;
}

enum { PREPARE, ENDS, WALK, JOIN };

static strand_plugin_status launch(cuda_device *d, const ssd_form *f, int what, int64_t x, int64_t y, int64_t z,
                                   void **arguments) {
    static const cuda_own_kernel kernels[4][8] = {
        {CUDA_OWN_ssd_prepare_f16x2_64, CUDA_OWN_ssd_prepare_f16x2_128, CUDA_OWN_ssd_prepare_bf16_64,
         CUDA_OWN_ssd_prepare_bf16_128, CUDA_OWN_gated_prepare_64, CUDA_OWN_gated_prepare_128, CUDA_OWN_delta_prepare_64,
         CUDA_OWN_delta_prepare_128},
        {CUDA_OWN_ssd_ends_f16x2_64, CUDA_OWN_ssd_ends_f16x2_128, CUDA_OWN_ssd_ends_bf16_64, CUDA_OWN_ssd_ends_bf16_128,
         CUDA_OWN_gated_ends_64, CUDA_OWN_gated_ends_128, CUDA_OWN_delta_ends_64, CUDA_OWN_delta_ends_128},
        {CUDA_OWN_ssd_walk_f16x2_64, CUDA_OWN_ssd_walk_f16x2_128, CUDA_OWN_ssd_walk_bf16_64, CUDA_OWN_ssd_walk_bf16_128,
         CUDA_OWN_gated_walk_64, CUDA_OWN_gated_walk_128, CUDA_OWN_delta_walk_64, CUDA_OWN_delta_walk_128},
        {[6] = CUDA_OWN_delta_join_64, [7] = CUDA_OWN_delta_join_128}};
    const int64_t nn = f->wide ? 128 : 64,
                  making = f->delta ? DELTA_PREPARE_SHARED(nn) : f->gated ? GATED_PREPARE_SHARED(nn) : 0,
                  shared = what == JOIN      ? 0
                           : what == PREPARE ? making
                                             : SSD_WALK_SHARED(nn, f->halves ? 1 : 2, f->gated, f->delta);
    const uint32_t groups[3] = {(uint32_t)x, (uint32_t)y, (uint32_t)z};
    CUfunction function;
    const int kind = f->delta ? 3 : f->gated ? 2 : f->halves;
    strand_plugin_status status = cuda_own_find(d, kernels[what][2 * kind + f->wide], shared > 0, &function);
    if (!status && !function) status = gpu_fail(d->base.host, STRAND_PLUGIN_ERR_DEVICE, "the device has no code for SSD");
    return status ? status
                  : cuda_launch(d, d->base.segment, function, groups, 128, (uint32_t)shared, arguments,
                                f->delta ? "delta rule" : f->gated ? "gated linear attention" : "SSD");
}

/* Entries [begin, begin + n), chunks of one run after another. */
static strand_plugin_status run_entries(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                        const ssd_form *f, int64_t begin, int64_t n) {
    const bool gated = f->gated, delta = f->delta;
    const strand_plugin_tensor *x = &node->inputs[delta ? 3 : gated ? 2 : 0], *a = &node->inputs[gated && !delta ? 3 : 1],
                               *D = gated ? NULL : cpu_input(node, 5),
                               *bias = delta ? NULL : cpu_input(node, gated ? 4 : 6), *y = &node->outputs[0],
                               *after = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    const CUdeviceptr memory = scratch->buffer->memory + scratch->offset, none = cuda_address(y, 0);
    CUdeviceptr at_x = cuda_entry(x, y, begin, none) + (CUdeviceptr)(cpu_lead(x, 2, y, 2) * x->strides[2] * 4),
                at_a = a->rank == 3 ? cuda_entry(a, y, begin, none) : cuda_address(a, 0),
                at_b = cuda_entry(&node->inputs[gated && !delta ? 1 : 2], y, begin, none),
                at_c = cuda_entry(&node->inputs[gated ? 0 : 3], y, begin, none),
                at_dt = gated && !delta ? none : cuda_entry(cpu_input(node, 4), y, begin, none),
                at_put = delta ? cuda_entry(&node->inputs[5], y, begin, none) : none, at_d = D ? cuda_address(D, 0) : none,
                at_bias = bias ? cuda_address(bias, 0) : none,
                at_state = cuda_entry(cpu_input(node, delta ? 6 : gated ? 5 : 7), y, begin, none),
                at_y = cuda_address(y, begin * y->strides[0]),
                at_after = after ? cuda_address(after, begin * after->strides[0]) : none, blocks = memory,
                steps = memory + f->at_steps, slots = memory + f->at_slots, totals = memory + f->at_totals;
    ssd_numbers s = delta ? delta_numbers_of(node, f) : gated ? gated_numbers_of(node, f) : numbers_of(node, f);
    s.fast_x = at_x % 16 == 0 && (s.x[0] | s.x[1] | s.width | s.origin) % 4 == 0;
    s.fast_bc = (at_b | at_c) % 16 == 0 && (s.b[0] | s.b[1] | s.c[0] | s.c[1] | s.n) % 4 == 0;
    if (delta)
        s.fast_bc = s.fast_bc && (at_a | at_dt | at_put) % 16 == 0 &&
                    (s.a[0] | s.a[1] | s.dt[0] | s.dt[1] | s.put[0] | s.put[1]) % 4 == 0;
    s.fast_y = at_y % 8 == 0 && (s.y[0] | s.y[1] | s.width | s.origin) % 2 == 0;
    void *gates[] = {&at_c, &at_b, &at_a, &at_bias, &blocks, &steps, &s};
    void *pairs[] = {&at_c, &at_a, &at_b, &at_dt, &at_put, &blocks, &steps, &s};
    void *prepare[] = {&at_b, &at_c, &at_a, &at_dt, &at_bias, &blocks, &steps, &s},
         *join[] = {&slots, &totals, &s},
         *walk[] = {&at_x, &at_d, &at_state, &blocks, &steps, &slots, &totals, &at_y, &at_after, &s};
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int64_t first = 0; first < f->length && !status; first += f->chunks * SSD_CHUNK) {
        const int64_t chunks = cpu_min(f->chunks, (f->length - first + SSD_CHUNK - 1) / SSD_CHUNK),
                      parts = (chunks + f->part - 1) / f->part;
        s.first = (int)first;
        s.chunks = (int)chunks;
        s.parts = (int)parts;
        s.last = first + chunks * SSD_CHUNK >= f->length;
        status = launch(d, f, PREPARE, chunks, f->groups, n, delta ? pairs : gated ? gates : prepare);
        if (!status && parts > 1) status = launch(d, f, ENDS, f->heads * (f->slices + f->turns), parts - 1, n, walk);
        if (!status && delta && parts > 2) status = launch(d, f, JOIN, f->heads * f->slices, n, 1, join);
        if (!status) status = launch(d, f, WALK, f->heads * f->slices, parts, n, walk);
    }
    return status;
}

strand_plugin_status cuda_ssd_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                  bool *done) {
    ssd_form f;
    CUfunction function;
    if (!form_of(d, node, &f)) return STRAND_PLUGIN_OK;
    strand_plugin_status status = cuda_current(d);
    const cuda_own_kernel one = f.delta   ? CUDA_OWN_delta_walk_64
                                : f.gated ? CUDA_OWN_gated_walk_64
                                          : CUDA_OWN_ssd_walk_f16x2_64;
    if (!status) status = cuda_own_find(d, one, true, &function);
    if (status || !function) return status;
    *done = true;
    for (int64_t begin = 0; begin < node->outputs[0].dims[0] && !status; begin += f.batch)
        status = run_entries(d, node, scratch, &f, begin, cpu_min(f.batch, node->outputs[0].dims[0] - begin));
    return status;
}

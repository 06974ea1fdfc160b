/* dplr_scan.c - DPLR_SCAN: diagonal systems with a term of rank one, complex states in pairs.
 *
 * A lane is a part of a state: the sum that the rank-one term needs of the old states is over the lanes, so a channel's
 * states lie in vectors. TOGETHER channels go side by side, since each waits for its sum before the next token. What the
 * next token needs (Re sum q h) and what this one gives (Re sum out h) are summed in the same pass that makes h.
 * Coefficients are spread once a channel, except for single tokens. The operations on a state and their order are the same
 * whatever the cut. */
#include "kernels.h"
#include "scans.h"

#define TOGETHER 4 /* channels */
#define BLOCK    16 /* channels of a piece of work */
#define KINDS    6 /* the poles' real parts twice, their imaginary parts with signs, p, q, in, out */

typedef struct job {
    const float *u, *skip;
    float *y, *scratch;
    int64_t u_batch, u_time, y_batch, y_time, state_batch, last_batch;
    scan_rows rows[5], state, last; /* poles, p, q, in, out */
    int64_t length, channels, states, vectors, blocks;
    float scale;
} job;

/* One channel's coefficients, [KINDS][vectors][lanes], and h [vectors][lanes]. */
static void spread(const job *j, int64_t channel, float *k) {
    int64_t e = 2 * j->states, step = j->vectors * CPU_LANES;
    for (int64_t v = 0; v < j->vectors; v++) {
        int64_t at = v * CPU_LANES, n = cpu_min(CPU_LANES, e - at);
        vf row[5];
        for (int i = 0; i < 5; i++) row[i] = scan_row_load(&j->rows[i], channel, at, n);
        vf_store(k + at, vf_even_twice(row[0]));
        vf_store(k + step + at, vf_negate_even(vf_odd_twice(row[0])));
        vf_store(k + 2 * step + at, row[1]);
        vf_store(k + 3 * step + at, vf_negate_odd(row[2]));
        vf_store(k + 4 * step + at, row[3]);
        vf_store(k + 5 * step + at, vf_negate_odd(row[4]));
    }
}

static float first_sum(const float *k, const float *h, int64_t vectors) {
    vf sum = vf_zero();
    for (int64_t v = 0; v < vectors; v++)
        sum = vf_fma(vf_load(k + 3 * vectors * CPU_LANES + v * CPU_LANES), vf_load(h + v * CPU_LANES), sum);
    return vf_sum(sum);
}

/* One token of `count` channels side by side, whose sums wait for each other's no longer than they must: h goes on, r
 * becomes Re sum q h of the new one, y Re sum out h. */
CPU_INLINE void step(const float *const *k, float *const *h, const int count, int64_t vectors, const float *u, float *r,
                     float *y) {
    int64_t size = vectors * CPU_LANES;
    vf drive[TOGETHER], rank_one[TOGETHER], seen[TOGETHER], next[TOGETHER];
#pragma GCC unroll 4
    for (int c = 0; c < count; c++) drive[c] = vf_set(u[c]), rank_one[c] = vf_set(r[c]), seen[c] = next[c] = vf_zero();
    for (int64_t at = 0; at < size; at += CPU_LANES)
#pragma GCC unroll 4
        for (int c = 0; c < count; c++) {
            vf old = vf_load(h[c] + at), x = vf_load(k[c] + 4 * size + at) * drive[c];
            x = vf_fma(vf_load(k[c] + 2 * size + at), rank_one[c], x);
            x = vf_fma(vf_load(k[c] + size + at), vf_swap_pairs(old), x);
            x = vf_fma(vf_load(k[c] + at), old, x);
            vf_store(h[c] + at, x);
            next[c] = vf_fma(vf_load(k[c] + 3 * size + at), x, next[c]);
            seen[c] = vf_fma(vf_load(k[c] + 5 * size + at), x, seen[c]);
        }
#pragma GCC unroll 4
    for (int c = 0; c < count; c++) r[c] = vf_sum(next[c]), y[c] = vf_sum(seen[c]);
}

/* The same for one channel and one token whose coefficients are not worth spreading; the same operations. */
static float step_once(const job *j, int64_t channel, const scan_rows *from, const scan_rows *to, float u) {
    int64_t e = 2 * j->states;
    vf sum = vf_zero(), y = vf_zero(), drive = vf_set(u);
    for (int64_t at = 0; at < e && from->rows; at += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, e - at);
        sum = vf_fma(vf_negate_odd(scan_row_load(&j->rows[2], channel, at, n)), scan_row_load(from, channel, at, n), sum);
    }
    vf rank_one = vf_set(vf_sum(sum));
    for (int64_t at = 0; at < e; at += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, e - at);
        vf old = from->rows ? scan_row_load(from, channel, at, n) : vf_zero(),
           pole = scan_row_load(&j->rows[0], channel, at, n);
        vf x = scan_row_load(&j->rows[3], channel, at, n) * drive;
        x = vf_fma(scan_row_load(&j->rows[1], channel, at, n), rank_one, x);
        x = vf_fma(vf_negate_even(vf_odd_twice(pole)), vf_swap_pairs(old), x);
        x = vf_fma(vf_even_twice(pole), old, x);
        y = vf_fma(vf_negate_odd(scan_row_load(&j->rows[4], channel, at, n)), x, y);
        if (to->rows) scan_row_store(to, channel, at, x, n);
    }
    return vf_sum(y);
}

static int64_t floats_a_worker(int64_t vectors) {
    return TOGETHER * (KINDS + 1) * vectors * CPU_LANES;
}

/* Channels [first, first + count) of one sequence. */
CPU_INLINE void run_block(const job *j, int64_t batch, int64_t first, const int count, const scan_rows *state,
                          const scan_rows *last, float *memory) {
    int64_t size = j->vectors * CPU_LANES, e = 2 * j->states;
    const float *k[TOGETHER], *from = j->u + batch * j->u_batch + first;
    float *h[TOGETHER], r[TOGETHER], u[TOGETHER], y[TOGETHER], *to = j->y + batch * j->y_batch + first;
    for (int c = 0; c < count; c++) {
        float *mine = memory + c * (KINDS + 1) * size;
        k[c] = mine, h[c] = mine + KINDS * size;
        spread(j, first + c, mine);
        for (int64_t at = 0; at < size; at += CPU_LANES)
            vf_store(h[c] + at, state->rows ? scan_row_load(state, first + c, at, cpu_min(CPU_LANES, e - at)) : vf_zero());
        r[c] = first_sum(k[c], h[c], j->vectors);
    }
    for (int64_t t = 0; t < j->length; t++) {
        for (int c = 0; c < count; c++) u[c] = from[t * j->u_time + c];
        step(k, h, count, j->vectors, u, r, y);
        for (int c = 0; c < count; c++) to[t * j->y_time + c] = j->scale * y[c] + (j->skip ? j->skip[first + c] * u[c] : 0);
    }
    for (int c = 0; c < count && last->rows; c++)
        for (int64_t at = 0; at < size; at += CPU_LANES)
            scan_row_store(last, first + c, at, vf_load(h[c] + at), cpu_min(CPU_LANES, e - at));
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t batch = i / j->blocks, begin = i % j->blocks * BLOCK, end = cpu_min(begin + BLOCK, j->channels), c = begin;
    scan_rows state = j->state, last = j->last;
    float *memory = j->scratch + worker * floats_a_worker(j->vectors);
    if (state.rows) state.rows += batch * j->state_batch;
    if (last.rows) last.rows += batch * j->last_batch;
    for (; j->length == 1 && c < end; c++) {
        float u = j->u[batch * j->u_batch + c], y = step_once(j, c, &state, &last, u);
        j->y[batch * j->y_batch + c] = j->scale * y + (j->skip ? j->skip[c] * u : 0);
    }
    for (; c + TOGETHER <= end; c += TOGETHER) run_block(j, batch, c, TOGETHER, &state, &last, memory);
    for (; c < end; c++) run_block(j, batch, c, 1, &state, &last, memory);
}

static int64_t vectors_of(const strand_plugin_node *node) {
    return cpu_max(1, (2 * node->inputs[1].dims[1] + CPU_LANES - 1) / CPU_LANES);
}

uint64_t cpu_dplr_scan_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)floats_a_worker(vectors_of(node)) * sizeof(float);
}

CPU_KERNEL(cpu_dplr_scan) {
    const strand_op_dplr_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *u = &node->inputs[0], *state = cpu_input(node, 7),
                               *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {
        .u = scan_sequence(u, out), .u_batch = u->strides[0], .u_time = u->strides[1], .scale = p->scale, .scratch = scratch};
    j.y = cpu_f32(out), j.y_batch = out->strides[0], j.y_time = out->strides[1];
    j.skip = scan_at(cpu_input(node, 6), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    for (uint32_t i = 0; i < 5; i++) {
        const strand_plugin_tensor *in = &node->inputs[i + 1];
        j.rows[i] = (scan_rows){scan_channels(in, out, 2), scan_channel_stride(in), in->strides[1], 2};
    }
    if (state)
        j.state = (scan_rows){scan_state(state, out), state->strides[1], state->strides[2], 2},
        j.state_batch = state->strides[0];
    if (last) j.last = (scan_rows){cpu_f32(last), last->strides[1], last->strides[2], 2}, j.last_batch = last->strides[0];
    j.length = out->dims[1], j.channels = out->dims[2], j.states = node->inputs[1].dims[1], j.vectors = vectors_of(node);
    j.blocks = (j.channels + BLOCK - 1) / BLOCK;
    cpu_parallel(device, out->dims[0] * j.blocks, body, &j);
    return STRAND_PLUGIN_OK;
}

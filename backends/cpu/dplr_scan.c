/* dplr_scan.c - DPLR_SCAN: diagonal systems with a term of rank one, complex states in pairs.
 *
 * A lane is a part of a state: the sum that the rank-one term needs of the old states is over the lanes, so a channel's states lie in
 * vectors and channels follow each other. What the next token needs (Re sum q h) and what this one gives (Re sum out h) are summed in the
 * same pass that makes h. Coefficients are spread once a channel. The operations on a state are the same whatever the cut. */
#include "kernels.h"
#include "scans.h"

#define KINDS 6 /* the poles' real parts twice, their imaginary parts with signs, p, q, in, out */

typedef struct job {
    const float *u, *skip;
    float *y, *scratch;
    int64_t u_batch, u_time, y_batch, y_time, state_batch, last_batch;
    scan_rows rows[5], state, last; /* poles, p, q, in, out */
    int64_t length, channels, states, vectors;
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
    for (int64_t v = 0; v < vectors; v++) sum = vf_fma(vf_load(k + 3 * vectors * CPU_LANES + v * CPU_LANES), vf_load(h + v * CPU_LANES), sum);
    return vf_sum(sum);
}

/* One token: h goes on, r becomes Re sum q h of the new one; the result is Re sum out h. */
CPU_INLINE float step(const float *k, float *h, int64_t vectors, float u, float *r) {
    int64_t size = vectors * CPU_LANES;
    vf drive = vf_set(u), rank_one = vf_set(*r), y = vf_zero(), next = vf_zero();
    for (int64_t at = 0; at < size; at += CPU_LANES) {
        vf old = vf_load(h + at), x = vf_load(k + 4 * size + at) * drive;
        x = vf_fma(vf_load(k + 2 * size + at), rank_one, x);
        x = vf_fma(vf_load(k + size + at), vf_swap_pairs(old), x);
        x = vf_fma(vf_load(k + at), old, x);
        vf_store(h + at, x);
        next = vf_fma(vf_load(k + 3 * size + at), x, next);
        y = vf_fma(vf_load(k + 5 * size + at), x, y);
    }
    *r = vf_sum(next);
    return vf_sum(y);
}

static int64_t floats_a_worker(int64_t vectors) {
    return (KINDS + 1) * vectors * CPU_LANES;
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t batch = i / j->channels, c = i % j->channels, size = j->vectors * CPU_LANES, e = 2 * j->states;
    float *k = j->scratch + worker * floats_a_worker(j->vectors), *h = k + KINDS * size;
    scan_rows state = j->state, last = j->last;
    spread(j, c, k);
    if (state.rows) state.rows += batch * j->state_batch;
    if (last.rows) last.rows += batch * j->last_batch;
    for (int64_t at = 0; at < size; at += CPU_LANES) vf_store(h + at, state.rows ? scan_row_load(&state, c, at, cpu_min(CPU_LANES, e - at)) : vf_zero());
    const float *u = j->u + batch * j->u_batch + c;
    float *y = j->y + batch * j->y_batch + c, r = first_sum(k, h, j->vectors), skip = j->skip ? j->skip[c] : 0;
    for (int64_t t = 0; t < j->length; t++) {
        float drive = u[t * j->u_time];
        y[t * j->y_time] = j->scale * step(k, h, j->vectors, drive, &r) + skip * drive;
    }
    if (last.rows)
        for (int64_t at = 0; at < size; at += CPU_LANES) scan_row_store(&last, c, at, vf_load(h + at), cpu_min(CPU_LANES, e - at));
}

static int64_t vectors_of(const strand_plugin_node *node) {
    return cpu_max(1, (2 * node->inputs[1].dims[1] + CPU_LANES - 1) / CPU_LANES);
}

uint64_t cpu_dplr_scan_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)floats_a_worker(vectors_of(node)) * sizeof(float);
}

CPU_KERNEL(cpu_dplr_scan) {
    const strand_op_dplr_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *u = &node->inputs[0], *state = cpu_input(node, 7), *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.u = scan_sequence(u, out), .u_batch = u->strides[0], .u_time = u->strides[1], .scale = p->scale, .scratch = scratch};
    j.y = cpu_f32(out), j.y_batch = out->strides[0], j.y_time = out->strides[1];
    j.skip = scan_at(cpu_input(node, 6), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    for (uint32_t i = 0; i < 5; i++) {
        const strand_plugin_tensor *in = &node->inputs[i + 1];
        j.rows[i] = (scan_rows){scan_channels(in, out, 2), scan_channel_stride(in), in->strides[1], 2};
    }
    if (state) j.state = (scan_rows){scan_state(state, out), state->strides[1], state->strides[2], 2}, j.state_batch = state->strides[0];
    if (last) j.last = (scan_rows){cpu_f32(last), last->strides[1], last->strides[2], 2}, j.last_batch = last->strides[0];
    j.length = out->dims[1], j.channels = out->dims[2], j.states = node->inputs[1].dims[1], j.vectors = vectors_of(node);
    cpu_parallel(device, out->dims[0] * j.channels, body, &j);
    return STRAND_PLUGIN_OK;
}

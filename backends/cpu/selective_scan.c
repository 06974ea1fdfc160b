/* selective_scan.c - SELECTIVE_SCAN: the recurrence of Mamba-1. A lane is a channel and a channel's states stay in
 * registers, sixteen at a time, while time runs; a block of CPU_LANES channels and one sequence is a piece of work of its
 * own.
 *
 * Time runs in blocks of TIME tokens: first the steps d and d u of the block are made, then each group of states runs over
 * it and adds to y, which began as D u, then the gate is applied. The exponent of a decay is (d log2 e) A, the same product
 * everywhere, so that the states have the same bytes however a sequence is cut. Sequences of a few tokens (decoding) would
 * spend their time on turning the states around; they run with a lane a state, where only the sum over the states is taken
 * in another order. */
#include "decay.h"
#include "kernels.h"
#include "scans.h"

#define TIME  32
#define SHORT 4 /* tokens below which a lane is a state */

typedef struct sequence {
    float *at;
    int64_t batch, time; /* strides */
} sequence;

typedef struct job {
    sequence u, dt, b, c, z, y;
    const float *skip, *bias;
    scan_rows a;
    float *state, *last;
    int64_t state_batch, state_channel, last_batch, last_channel;
    int64_t length, channels, states, blocks, blocks_a_piece;
    bool softplus;
    float *scratch; /* A and the states of one block a worker */
} job;

/* What one block of channels works on. */
typedef struct block {
    const job *j;
    int64_t batch, first, n; /* channels [first, first + n) */
    float step[TIME * CPU_LANES] __attribute__((aligned(CPU_ALIGN))); /* d log2 e */
    float drive[TIME * CPU_LANES] __attribute__((aligned(CPU_ALIGN))); /* d u */
    float y[TIME * CPU_LANES] __attribute__((aligned(CPU_ALIGN)));
} block;

static inline float *place(const sequence *s, const block *k, int64_t t) {
    return s->at + k->batch * s->batch + t * s->time + k->first;
}

/* Asks for what token t + TIME will want, to lie in the second cache: rows are far apart, and the first one has few places
 * for them. */
CPU_INLINE void ask(const sequence *s, const block *k, int64_t t) {
    if (s->at) __builtin_prefetch(place(s, k, t + TIME), 0, 2);
}

/* d and d u of tokens [t0, t0 + tokens), and y = D u to begin with. */
CPU_INLINE void make_steps(block *k, int64_t t0, int64_t tokens) {
    const job *j = k->j;
    vf bias = j->bias ? scan_load(j->bias + k->first, k->n) : vf_zero(),
       skip = j->skip ? scan_load(j->skip + k->first, k->n) : vf_zero();
    for (int64_t i = 0; i < tokens; i++) {
        vf d = scan_load(place(&j->dt, k, t0 + i), k->n) + bias, u = scan_load(place(&j->u, k, t0 + i), k->n);
        ask(&j->dt, k, t0 + i);
        ask(&j->u, k, t0 + i);
        ask(&j->y, k, t0 + i);
        ask(&j->z, k, t0 + i);
        if (j->softplus) d = scan_softplus(d);
        vf_store(k->step + i * CPU_LANES, d * CPU_LOG2_E);
        vf_store(k->drive + i * CPU_LANES, d * u);
        vf_store(k->y + i * CPU_LANES, j->skip ? skip * u : vf_zero());
    }
}

/* The gate. */
CPU_INLINE void finish(const block *k, int64_t t0, int64_t tokens) {
    const job *j = k->j;
    for (int64_t i = 0; i < tokens; i++) {
        vf y = vf_load(k->y + i * CPU_LANES);
        if (j->z.at) {
            vf z = scan_load(place(&j->z, k, t0 + i), k->n);
            y = y * z / (1.0f + vf_exp2(z * -CPU_LOG2_E));
        }
        scan_store(place(&j->y, k, t0 + i), y, k->n);
    }
}

/* ---- a lane is a channel ---- */

/* `count` states over a block of time. */
CPU_INLINE void run_states(block *k, const int count, const float *a, float *h, int64_t state, int64_t t0, int64_t tokens) {
    const job *j = k->j;
    const float *b = j->b.at + k->batch * j->b.batch + t0 * j->b.time + state;
    const float *c = j->c.at + k->batch * j->c.batch + t0 * j->c.time + state;
    vf s[16];
#pragma GCC unroll 16
    for (int n = 0; n < count; n++) s[n] = vf_load(h + n * CPU_LANES);
    for (int64_t i = 0; i < tokens; i++, b += j->b.time, c += j->c.time) {
        vf step = vf_load(k->step + i * CPU_LANES), drive = vf_load(k->drive + i * CPU_LANES);
        vf sum[2] = {vf_load(k->y + i * CPU_LANES), vf_zero()};
#pragma GCC unroll 16
        for (int n = 0; n < count; n++) {
            vf decay = vf_exp2(step * vf_load(a + n * CPU_LANES));
            s[n] = vf_fma(decay, s[n], drive * vf_set(b[n]));
            sum[n & 1] = vf_fma(s[n], vf_set(c[n]), sum[n & 1]);
        }
        vf_store(k->y + i * CPU_LANES, sum[0] + sum[1]);
    }
#pragma GCC unroll 16
    for (int n = 0; n < count; n++) vf_store(h + n * CPU_LANES, s[n]);
}

#define RUN_STATES(count)                                                                                                      \
    static __attribute__((noinline)) void run_##count(block *k, const float *a, float *h, int64_t state, int64_t t0, int64_t tokens) { \
        run_states(k, count, a + state * CPU_LANES, h + state * CPU_LANES, state, t0, tokens);                                 \
    }
RUN_STATES(16)
RUN_STATES(8)
RUN_STATES(4)
RUN_STATES(2)
RUN_STATES(1)

static void run_time(block *k, const float *a, float *h, int64_t t0, int64_t tokens) {
    int64_t states = k->j->states, n = 0;
    make_steps(k, t0, tokens);
    for (; n + 16 <= states; n += 16) run_16(k, a, h, n, t0, tokens);
    if (states & 8) run_8(k, a, h, n, t0, tokens), n += 8;
    if (states & 4) run_4(k, a, h, n, t0, tokens), n += 4;
    if (states & 2) run_2(k, a, h, n, t0, tokens), n += 2;
    if (states & 1) run_1(k, a, h, n, t0, tokens);
    finish(k, t0, tokens);
}

static void run_long(block *k, float *a, float *h) {
    const job *j = k->j;
    const scan_rows from = {j->state ? j->state + k->batch * j->state_batch : NULL, j->state_channel, 1, 1};
    const scan_rows to = {j->last ? j->last + k->batch * j->last_batch : NULL, j->last_channel, 1, 1};
    scan_turn(a, &j->a, k->first, k->n, j->states, 0);
    scan_turn(h, &from, k->first, k->n, j->states, 0);
    for (int64_t t0 = 0; t0 < j->length; t0 += TIME) run_time(k, a, h, t0, cpu_min(TIME, j->length - t0));
    if (to.rows) scan_turn_back(&to, h, k->first, k->n, j->states);
}

/* ---- a lane is a state ---- */

/* One token of one channel: the states in `from` go to `to`, and the terms of y are the lanes of the result. */
CPU_INLINE vf step_channel(const float *a, const float *from, float *to, const float *b, const float *c, int64_t states,
                           float step, float drive) {
    vf sum = vf_zero(), s = vf_set(step), d = vf_set(drive);
    for (int64_t n = 0; n < states; n += CPU_LANES) {
        int64_t some = cpu_min(CPU_LANES, states - n);
        vf h = scan_load(b + n, some) * d;
        if (from) h = vf_fma(vf_exp2(s * scan_load(a + n, some)), scan_load(from + n, some), h);
        scan_store(to + n, h, some);
        sum = vf_fma(h, scan_load(c + n, some), sum);
    }
    return sum;
}

/* Where the states of channels stand: at + i * stride, or nowhere. */
typedef struct states {
    float *at;
    int64_t stride;
} states;

/* A whole block with a state a lane: the usual case, without branches. */
CPU_INLINE void step_block(const float *a, int64_t a_stride, states from, states to, vf b, vf c, const float *step,
                           const float *drive, vf rows[CPU_LANES], const bool fresh) {
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) {
        vf h = b * vf_set(drive[i]);
        if (!fresh) h = vf_fma(vf_exp2(vf_set(step[i]) * vf_load(a + i * a_stride)), vf_load(from.at + i * from.stride), h);
        vf_store(to.at + i * to.stride, h);
        rows[i] = h * c;
    }
}

static void step_channels(const block *k, int64_t t, states from, states to, vf rows[CPU_LANES]) {
    const job *j = k->j;
    const float *b = j->b.at + k->batch * j->b.batch + t * j->b.time, *c = j->c.at + k->batch * j->c.batch + t * j->c.time;
    const float *a = j->a.rows + k->first * j->a.stride, *step = k->step + t * CPU_LANES, *drive = k->drive + t * CPU_LANES;
    if (k->n == CPU_LANES && j->states == CPU_LANES) {
        if (from.at)
            step_block(a, j->a.stride, from, to, vf_load(b), vf_load(c), step, drive, rows, false);
        else
            step_block(a, j->a.stride, from, to, vf_load(b), vf_load(c), step, drive, rows, true);
        return;
    }
    for (int i = 0; i < CPU_LANES; i++) {
        rows[i] = vf_zero();
        if (i >= k->n) continue;
        rows[i] = step_channel(a + i * j->a.stride, from.at ? from.at + i * from.stride : NULL, to.at + i * to.stride, b, c,
                               j->states, step[i], drive[i]);
    }
}

/* The states stay in h, a row a channel, between the tokens; the last token writes them out if that is asked for. */
static void run_short(block *k, float *h) {
    const job *j = k->j;
    const states inner = {h, j->states},
                 last = {j->last ? j->last + k->batch * j->last_batch + k->first * j->last_channel : NULL, j->last_channel};
    states from = {j->state ? j->state + k->batch * j->state_batch + k->first * j->state_channel : NULL, j->state_channel};
    make_steps(k, 0, j->length);
    for (int64_t t = 0; t < j->length; t++) {
        states to = t == j->length - 1 && last.at ? last : inner;
        vf rows[CPU_LANES];
        step_channels(k, t, from, to, rows);
        vf_store(k->y + t * CPU_LANES, vf_load(k->y + t * CPU_LANES) + vf_sums_of_rows(rows));
        from = to;
    }
    finish(k, 0, j->length);
}

/* ---- the launch ---- */

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    float *a = j->scratch + (int64_t)worker * 2 * j->states * CPU_LANES, *h = a + j->states * CPU_LANES;
    int64_t pieces = (j->blocks + j->blocks_a_piece - 1) / j->blocks_a_piece;
    int64_t begin = i % pieces * j->blocks_a_piece, end = cpu_min(begin + j->blocks_a_piece, j->blocks);
    block k;
    k.j = j, k.batch = i / pieces;
    for (int64_t at = begin; at < end; at++) {
        k.first = at * CPU_LANES;
        k.n = cpu_min(CPU_LANES, j->channels - k.first);
        if (j->length < SHORT)
            run_short(&k, h);
        else
            run_long(&k, a, h);
    }
}

uint64_t cpu_selective_scan_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * 2 * (uint64_t)node->inputs[2].dims[1] * CPU_LANES * sizeof(float);
}

static sequence sequence_of(const strand_plugin_node *node, uint32_t i) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (!in) return (sequence){0};
    return (sequence){scan_sequence(in, &node->outputs[0]), in->strides[0], in->strides[1]};
}

/* B and C: all of their last axis. */
static sequence states_of(const strand_plugin_node *node, uint32_t i) {
    const strand_plugin_tensor *in = &node->inputs[i];
    float *at = scan_at(in, &node->outputs[0], 2, (const uint32_t[]){0, 1}, (const uint32_t[]){0, 1});
    return (sequence){at, in->strides[0], in->strides[1]};
}

CPU_KERNEL(cpu_selective_scan) {
    const strand_op_selective_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[2], *state = cpu_input(node, 8);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.u = sequence_of(node, 0), .dt = sequence_of(node, 1), .b = states_of(node, 3), .c = states_of(node, 4),
             .z = sequence_of(node, 6)};
    j.y = (sequence){cpu_f32(out), out->strides[0], out->strides[1]};
    j.skip = scan_at(cpu_input(node, 5), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    j.bias = scan_at(cpu_input(node, 7), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    j.a = (scan_rows){scan_at(a, out, 1, (const uint32_t[]){0}, (const uint32_t[]){2}), a->strides[0], 1, 1};
    if (state) j.state = scan_state(state, out), j.state_batch = state->strides[0], j.state_channel = state->strides[1];
    if (last) j.last = scan_state(last, out), j.last_batch = last->strides[0], j.last_channel = last->strides[1];
    j.length = out->dims[1], j.channels = out->dims[2], j.states = a->dims[1];
    j.softplus = p->softplus != 0;
    j.scratch = scratch;
    j.blocks = (j.channels + CPU_LANES - 1) / CPU_LANES;
    j.blocks_a_piece = scan_blocks_a_piece(((double)j.states * 10 + 60) * (double)j.length);
    if (j.blocks < 1) return STRAND_PLUGIN_OK;
    cpu_parallel(device, out->dims[0] * ((j.blocks + j.blocks_a_piece - 1) / j.blocks_a_piece), body, &j);
    return STRAND_PLUGIN_OK;
}

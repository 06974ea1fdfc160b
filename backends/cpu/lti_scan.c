/* lti_scan.c - LTI_SCAN: diagonal linear systems, real or complex, with states that stay in registers while time runs.
 *
 * A lane is a channel. A block of CPU_LANES channels of one sequence is a piece of work: its poles, inputs and outputs are
 * turned once so that a state's coefficients are whole vectors, time runs in blocks of TIME tokens whose u lies turned in
 * the first cache, and a few states at a time (GROUP) run over the block and add to y. The states follow each other in the
 * same order whatever the cut. Sequences of a few tokens (decoding) would spend their time on turning, and few channels
 * would leave lanes empty; they run with a lane an element of the state, with the same operations on the states and another
 * order of the sum over them. */
#include "kernels.h"
#include "scans.h"

#include <math.h>

#define TIME  64
#define GROUP 4
#define SHORT 4 /* tokens below which a lane is an element of a state */

/* The rows of the channels: coefficients, and states of one sequence. */
typedef struct rows {
    scan_rows poles, in, out, state, last;
} rows;

typedef struct job {
    const float *u, *skip;
    float *y, *scratch;
    int64_t u_batch, u_time, y_batch, y_time, state_batch, last_batch;
    rows rows;
    int64_t length, channels, states, blocks, blocks_a_piece;
    bool pairs, log_poles, reverse, few; /* few: most lanes would be empty if each were a channel */
    float scale;
} job;

/* What one block of channels works on: [states][re, im][lanes], or without the im. */
typedef struct block {
    const job *j;
    rows from; /* beginning at the block's first channel */
    float *poles, *in, *out, *h, *rows;
    const float *u; /* of the channels' first token; tokens follow at u_time, backwards when reversed */
    float *y;
    int64_t u_time, y_time, batch, first, n; /* channels [first, first + n) */
    float sums[TIME * CPU_LANES] __attribute__((aligned(CPU_ALIGN)));
    float drive[TIME * CPU_LANES] __attribute__((aligned(CPU_ALIGN)));
} block;

/* ---- one group of states over a block of time ---- */

CPU_INLINE void run_complex(block *k, const int count, int64_t state, int64_t tokens, const bool with_in) {
    const float *poles = k->poles + state * 2 * CPU_LANES, *in = k->in + state * 2 * CPU_LANES,
                *out = k->out + state * 2 * CPU_LANES;
    float *h = k->h + state * 2 * CPU_LANES;
    vf re[GROUP], im[GROUP], pole_re[GROUP], pole_im[GROUP];
#pragma GCC unroll 4
    for (int n = 0; n < count; n++) {
        re[n] = vf_load(h + 2 * n * CPU_LANES), im[n] = vf_load(h + (2 * n + 1) * CPU_LANES);
        pole_re[n] = vf_load(poles + 2 * n * CPU_LANES), pole_im[n] = vf_load(poles + (2 * n + 1) * CPU_LANES);
    }
    for (int64_t i = 0; i < tokens; i++) {
        vf u = vf_load(k->drive + i * CPU_LANES), sum = state ? vf_load(k->sums + i * CPU_LANES) : vf_zero();
#pragma GCC unroll 4
        for (int n = 0; n < count; n++) {
            vf a = with_in ? vf_load(in + 2 * n * CPU_LANES) * u : u;
            vf b = pole_im[n] * re[n];
            a = vf_fnma(pole_im[n], im[n], a);
            if (with_in) b = vf_fma(pole_im[n], re[n], vf_load(in + (2 * n + 1) * CPU_LANES) * u);
            re[n] = vf_fma(pole_re[n], re[n], a);
            im[n] = vf_fma(pole_re[n], im[n], b);
            sum = vf_fma(vf_load(out + 2 * n * CPU_LANES), re[n], sum);
            sum = vf_fnma(vf_load(out + (2 * n + 1) * CPU_LANES), im[n], sum);
        }
        vf_store(k->sums + i * CPU_LANES, sum);
    }
#pragma GCC unroll 4
    for (int n = 0; n < count; n++) vf_store(h + 2 * n * CPU_LANES, re[n]), vf_store(h + (2 * n + 1) * CPU_LANES, im[n]);
}

CPU_INLINE void run_real(block *k, const int count, int64_t state, int64_t tokens) {
    const float *poles = k->poles + state * CPU_LANES, *in = k->in + state * CPU_LANES, *out = k->out + state * CPU_LANES;
    float *h = k->h + state * CPU_LANES;
    vf s[GROUP];
#pragma GCC unroll 4
    for (int n = 0; n < count; n++) s[n] = vf_load(h + n * CPU_LANES);
    for (int64_t i = 0; i < tokens; i++) {
        vf u = vf_load(k->drive + i * CPU_LANES), sum = state ? vf_load(k->sums + i * CPU_LANES) : vf_zero();
#pragma GCC unroll 4
        for (int n = 0; n < count; n++) {
            s[n] = vf_fma(vf_load(poles + n * CPU_LANES), s[n], vf_load(in + n * CPU_LANES) * u);
            sum = vf_fma(vf_load(out + n * CPU_LANES), s[n], sum);
        }
        vf_store(k->sums + i * CPU_LANES, sum);
    }
#pragma GCC unroll 4
    for (int n = 0; n < count; n++) vf_store(h + n * CPU_LANES, s[n]);
}

static __attribute__((noinline)) void complex_group(block *k, int64_t state, int64_t tokens) {
    if (k->from.in.rows)
        run_complex(k, GROUP, state, tokens, true);
    else
        run_complex(k, GROUP, state, tokens, false);
}
static __attribute__((noinline)) void complex_one(block *k, int64_t state, int64_t tokens) {
    if (k->from.in.rows)
        run_complex(k, 1, state, tokens, true);
    else
        run_complex(k, 1, state, tokens, false);
}
static __attribute__((noinline)) void real_group(block *k, int64_t state, int64_t tokens) {
    run_real(k, GROUP, state, tokens);
}
static __attribute__((noinline)) void real_one(block *k, int64_t state, int64_t tokens) {
    run_real(k, 1, state, tokens);
}

/* y = scale times the sum, and the skip. */
CPU_INLINE void finish(const block *k, int64_t t, vf sum, vf u) {
    const job *j = k->j;
    vf y = sum * j->scale;
    if (j->skip) y = vf_fma(scan_load(j->skip + k->first, k->n), u, y);
    scan_store(k->y + t * k->y_time, y, k->n);
}

static void run_time(block *k, int64_t t0, int64_t tokens) {
    const job *j = k->j;
    int64_t n = 0;
    if (!j->states) memset(k->sums, 0, sizeof k->sums);
    for (int64_t i = 0; i < tokens; i++) {
        const float *u = k->u + (t0 + i) * k->u_time;
        vf_store(k->drive + i * CPU_LANES, scan_load(u, k->n));
        __builtin_prefetch(u + TIME * k->u_time, 0, 2);
        __builtin_prefetch(k->y + (t0 + i + TIME) * k->y_time, 0, 2);
    }
    for (; n + GROUP <= j->states; n += GROUP) (j->pairs ? complex_group : real_group)(k, n, tokens);
    for (; n < j->states; n++) (j->pairs ? complex_one : real_one)(k, n, tokens);
    for (int64_t i = 0; i < tokens; i++) finish(k, t0 + i, vf_load(k->sums + i * CPU_LANES), vf_load(k->drive + i * CPU_LANES));
}

static int64_t elements(const job *j) {
    return j->states * (j->pairs ? 2 : 1);
}

static void run_long(block *k) {
    const job *j = k->j;
    int64_t e = elements(j);
    scan_turn(k->poles, &k->from.poles, 0, k->n, e, 1);
    scan_turn(k->in, &k->from.in, 0, k->n, e, 1);
    scan_turn(k->out, &k->from.out, 0, k->n, e, 1);
    scan_turn(k->h, &k->from.state, 0, k->n, e, 0);
    if (j->pairs && !k->from.out.rows)
        for (int64_t n = 0; n < j->states; n++) vf_store(k->out + (2 * n + 1) * CPU_LANES, vf_zero());
    for (int64_t t0 = 0; t0 < j->length; t0 += TIME) run_time(k, t0, cpu_min(TIME, j->length - t0));
    if (k->from.last.rows) scan_turn_back(&k->from.last, k->h, 0, k->n, e);
}

/* ---- a lane is an element of a state ---- */

/* Ones, or pairs (1, 0), for an absent row; lanes beyond its n elements are zero. */
CPU_INLINE vf row_or_ones(const scan_rows *r, int64_t channel, int64_t e, int64_t n, bool pairs) {
    if (r->rows) return scan_row_load(r, channel, e, n);
    float ones[CPU_LANES];
    for (int i = 0; i < CPU_LANES; i++) ones[i] = i < n && !(pairs && i % 2) ? 1.0f : 0.0f;
    return vf_load(ones);
}

/* One token of one channel; the terms of y are the lanes of the result. */
static vf step_channel(const block *k, int64_t channel, const scan_rows *from, const scan_rows *to, float drive) {
    const job *j = k->j;
    vf sum = vf_zero(), u = vf_set(drive);
    int64_t e = elements(j);
    for (int64_t i = 0; i < e; i += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, e - i);
        vf h = from->rows ? scan_row_load(from, channel, i, n) : vf_zero(), pole = scan_row_load(&k->from.poles, channel, i, n);
        vf x = row_or_ones(&k->from.in, channel, i, n, j->pairs) * u, out = row_or_ones(&k->from.out, channel, i, n, j->pairs);
        if (j->pairs) {
            x = vf_fma(vf_negate_even(vf_odd_twice(pole)), vf_swap_pairs(h), x);
            pole = vf_even_twice(pole);
            out = vf_negate_odd(out);
        }
        h = vf_fma(pole, h, x);
        scan_row_store(to, channel, i, h, n);
        sum = vf_fma(out, h, sum);
    }
    return sum;
}

/* Between the tokens the states stay in k->h, a row a channel. */
static void run_short(block *k) {
    const job *j = k->j;
    int64_t e = elements(j), width = j->pairs ? 2 : 1;
    const scan_rows inner = {k->h, e, width, width}, *from = &k->from.state, *last = &k->from.last;
    for (int64_t t = 0; t < j->length; t++) {
        const scan_rows *to = t == j->length - 1 && last->rows ? last : &inner;
        float drive[CPU_LANES];
        vf rows[CPU_LANES], u = scan_load(k->u + t * k->u_time, k->n);
        vf_store(drive, u);
        for (int i = 0; i < CPU_LANES; i++) rows[i] = i < k->n ? step_channel(k, i, from, to, drive[i]) : vf_zero();
        finish(k, t, vf_sums_of_rows(rows), u);
        from = to;
    }
}

/* ---- the launch ---- */

/* Poles of one channel from their logarithms. */
static void exponentials(const scan_rows *from, int64_t channel, float *to, int64_t states, bool pairs) {
    for (int64_t n = 0; n < states; n++) {
        if (pairs) {
            double r = exp((double)from->rows[scan_row_at(from, channel, 2 * n)]),
                   angle = (double)from->rows[scan_row_at(from, channel, 2 * n + 1)];
            to[2 * n] = (float)(r * cos(angle));
            to[2 * n + 1] = (float)(r * sin(angle));
        } else {
            to[n] = (float)exp((double)from->rows[scan_row_at(from, channel, n)]);
        }
    }
}

static void advance(scan_rows *r, int64_t by) {
    if (r->rows) r->rows += by;
}

static void run_block(block *k) {
    const job *j = k->j;
    int64_t e = elements(j), width = j->pairs ? 2 : 1;
    k->from = j->rows;
    advance(&k->from.poles, k->first * j->rows.poles.stride);
    advance(&k->from.in, k->first * j->rows.in.stride);
    advance(&k->from.out, k->first * j->rows.out.stride);
    advance(&k->from.state, k->batch * j->state_batch + k->first * j->rows.state.stride);
    advance(&k->from.last, k->batch * j->last_batch + k->first * j->rows.last.stride);
    if (j->log_poles) {
        bool shared = k->from.poles.stride == 0;
        for (int64_t i = 0; i < (shared ? 1 : k->n); i++) exponentials(&k->from.poles, i, k->rows + i * e, j->states, j->pairs);
        k->from.poles = (scan_rows){k->rows, shared ? 0 : e, width, width};
    }
    int64_t begin = j->reverse ? j->length - 1 : 0, sign = j->reverse ? -1 : 1;
    k->u = j->u + k->batch * j->u_batch + begin * j->u_time + k->first, k->u_time = sign * j->u_time;
    k->y = j->y + k->batch * j->y_batch + begin * j->y_time + k->first, k->y_time = sign * j->y_time;
    if (j->length < SHORT || j->few)
        run_short(k);
    else
        run_long(k);
}

#define BLOCKS_OF_STATES 5 /* poles, in, out, h, and rows of poles */

/* Floats of one of them; an odd number of vectors, so that they do not lie at the same place modulo a page. */
static int64_t size_of(int64_t elements) {
    return (elements | 1) * CPU_LANES;
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t size = size_of(elements(j)), pieces = (j->blocks + j->blocks_a_piece - 1) / j->blocks_a_piece;
    int64_t begin = i % pieces * j->blocks_a_piece, end = cpu_min(begin + j->blocks_a_piece, j->blocks);
    float *mine = j->scratch + (int64_t)worker * BLOCKS_OF_STATES * size;
    block k;
    k.j = j, k.batch = i / pieces;
    k.poles = mine, k.in = mine + size, k.out = mine + 2 * size, k.h = mine + 3 * size, k.rows = mine + 4 * size;
    for (int64_t at = begin; at < end; at++) {
        k.first = at * CPU_LANES;
        k.n = cpu_min(CPU_LANES, j->channels - k.first);
        run_block(&k);
    }
}

uint64_t cpu_lti_scan_scratch(const cpu_device *device, const strand_plugin_node *node) {
    int64_t elements = node->inputs[1].dims[1] * (node->inputs[1].rank == 3 ? 2 : 1);
    return (uint64_t)cpu_workers(device) * BLOCKS_OF_STATES * (uint64_t)size_of(elements) * sizeof(float);
}

/* [C or 1, N(, 2)] as rows. */
static scan_rows rows_of(const strand_plugin_tensor *in, const strand_plugin_tensor *out, bool pairs) {
    if (!in) return (scan_rows){NULL, 0, 1, 1};
    return (scan_rows){scan_channels(in, out, 2), scan_channel_stride(in), pairs ? in->strides[1] : 1, pairs ? 2 : 1};
}
static scan_rows state_rows(const strand_plugin_tensor *in, const strand_plugin_tensor *out, bool pairs) {
    if (!in) return (scan_rows){NULL, 0, 1, 1};
    return (scan_rows){scan_state(in, out), in->strides[1], pairs ? in->strides[2] : 1, pairs ? 2 : 1};
}

CPU_KERNEL(cpu_lti_scan) {
    const strand_op_lti_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *u = &node->inputs[0], *poles = &node->inputs[1],
                               *state = cpu_input(node, 5);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    bool pairs = poles->rank == 3;
    job j = {.u = scan_sequence(u, out), .u_batch = u->strides[0], .u_time = u->strides[1], .pairs = pairs, .scale = p->scale};
    j.y = cpu_f32(out), j.y_batch = out->strides[0], j.y_time = out->strides[1];
    j.skip = scan_at(cpu_input(node, 4), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    j.rows = (rows){rows_of(poles, out, pairs), rows_of(cpu_input(node, 2), out, pairs),
                    rows_of(cpu_input(node, 3), out, pairs), state_rows(state, out, pairs), state_rows(last, out, pairs)};
    if (state) j.state_batch = state->strides[0];
    if (last) j.last_batch = last->strides[0];
    j.length = out->dims[1], j.channels = out->dims[2], j.states = poles->dims[1];
    j.log_poles = p->log_poles != 0, j.reverse = p->reverse != 0;
    j.scratch = scratch;
    j.blocks = (j.channels + CPU_LANES - 1) / CPU_LANES;
    j.few = out->whole[2] * 8 <= CPU_LANES && elements(&j) >= CPU_LANES;
    j.blocks_a_piece = scan_blocks_a_piece((double)elements(&j) * 4 * (double)j.length);
    if (j.blocks < 1) return STRAND_PLUGIN_OK;
    cpu_parallel(device, out->dims[0] * ((j.blocks + j.blocks_a_piece - 1) / j.blocks_a_piece), body, &j);
    return STRAND_PLUGIN_OK;
}

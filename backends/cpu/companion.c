/* companion.c - COMPANION_SCAN and SSM_KERNEL_COMPANION: systems whose matrix shifts the state by one and adds a multiple of
 * its last column. A lane is a channel (or a kernel); a step is O(d): s[i] <- s[i-1] + a[i] w + b[i] u, where w was the last
 * element.
 *
 * TOGETHER steps are made in one pass from the last element down: an element moves TOGETHER places while it passes through
 * registers, so that the shift costs nothing and the state is read and written once for several tokens. What w will be in
 * each of the steps is worked out first, from the last few elements, by the same operations. One step or several, the
 * operations on every number and their order are the same: a sequence cut anywhere has the same bytes. */
#include "kernels.h"
#include "scans.h"

#define TOGETHER 4

/* One block of lanes; coefficients and state are [d][lanes]. */
typedef struct system {
    const float *a, *b, *c, *k;
    float *s;
    int64_t d;
} system_block;

CPU_INLINE vf at(const float *p, int64_t i) {
    return vf_load(p + i * CPU_LANES);
}

/* Steps [q, ...) of what begins as element m (before the first: as zero): adds to y, and stores what has made all steps. */
CPU_INLINE void edge(const system_block *k, int64_t m, const int steps, const bool driven, const vf *w, const vf *u, vf *y) {
    vf v = m >= 0 ? at(k->s, m) : vf_zero();
    int64_t q = cpu_max(0, -m - 1);
    for (; q < steps && m + 1 + q < k->d; q++) {
        int64_t i = m + 1 + q;
        v = vf_fma(at(k->a, i), w[q], v);
        if (driven) v = vf_fma(at(k->b, i), u[q], v);
        y[q] = vf_fma(at(k->c, i), v, y[q]);
    }
    if (q == steps) vf_store(k->s + (m + steps) * CPU_LANES, v);
}

/* `steps` steps: y[q] is c s after step q, in which u[q] drives the state. */
CPU_INLINE void run_steps(const system_block *block, const int steps, const bool driven, const vf *drive, vf *out) {
    const system_block copy = *block, *k = &copy;
    vf w[TOGETHER], u[TOGETHER], y[TOGETHER]; /* of its own: what is stored to the state cannot change them */
#pragma GCC unroll 4
    for (int j = 0; j < steps; j++) {
        u[j] = driven ? drive[j] : vf_zero();
        int64_t m = k->d - 1 - j;
        w[j] = m >= 0 ? at(k->s, m) : vf_zero();
        for (int64_t q = cpu_max(0, -m - 1); q < j; q++) {
            w[j] = vf_fma(at(k->a, m + 1 + q), w[q], w[j]);
            if (driven) w[j] = vf_fma(at(k->b, m + 1 + q), u[q], w[j]);
        }
        y[j] = vf_zero();
    }
    int64_t m = k->d - 1;
    for (; m >= 0 && m > k->d - 1 - steps; m--) edge(k, m, steps, driven, w, u, y);
    for (; m >= 0; m--) {
        vf v = at(k->s, m);
#pragma GCC unroll 4
        for (int q = 0; q < steps; q++) {
            v = vf_fma(at(k->a, m + 1 + q), w[q], v);
            if (driven) v = vf_fma(at(k->b, m + 1 + q), u[q], v);
            y[q] = vf_fma(at(k->c, m + 1 + q), v, y[q]);
        }
        vf_store(k->s + (m + steps) * CPU_LANES, v);
    }
    for (m = -1; m >= -steps; m--) edge(k, m, steps, driven, w, u, y);
#pragma GCC unroll 4
    for (int j = 0; j < steps; j++) out[j] = y[j];
}

static __attribute__((noinline)) void driven_together(const system_block *k, const vf *u, vf *y) {
    run_steps(k, TOGETHER, true, u, y);
}
static __attribute__((noinline)) void driven_one(const system_block *k, const vf *u, vf *y) {
    run_steps(k, 1, true, u, y);
}
static __attribute__((noinline)) void free_together(const system_block *k, vf *y) {
    run_steps(k, TOGETHER, false, NULL, y);
}
static __attribute__((noinline)) void free_one(const system_block *k, vf *y) {
    run_steps(k, 1, false, NULL, y);
}

/* p s, from the last element down as run_steps adds. */
static vf inner(const float *p, const float *s, int64_t d) {
    vf sum = vf_zero();
    for (int64_t i = d - 1; i >= 0; i--) sum = vf_fma(at(p, i), at(s, i), sum);
    return sum;
}

/* One step of the closed loop: *u is k s before, and after; *y c s after. */
static void closed_step(const system_block *k, vf *u, vf *y) {
    vf w = at(k->s, k->d - 1), drive = *u, next = vf_zero(), sum = vf_zero();
    for (int64_t i = k->d - 1; i >= 0; i--) {
        vf v = i ? at(k->s, i - 1) : vf_zero();
        v = vf_fma(at(k->a, i), w, v);
        v = vf_fma(at(k->b, i), drive, v);
        sum = vf_fma(at(k->c, i), v, sum);
        next = vf_fma(at(k->k, i), v, next);
        vf_store(k->s + i * CPU_LANES, v);
    }
    *u = next;
    *y = sum;
}

/* ---- COMPANION_SCAN ---- */

#define BLOCKS_OF_STATES 5 /* a, b, c, k, s */

/* Floats of one of them. The odd vectors keep the five from lying at the same place modulo a page, where loads of one would
 * wait for stores to another. */
static int64_t size_of(int64_t d) {
    return (d + 3) * CPU_LANES;
}

typedef struct job {
    const float *u, *skip;
    float *y, *scratch;
    scan_rows a, b, c, k, state, last;
    int64_t u_batch, u_time, y_batch, y_time, state_batch, last_batch;
    int64_t batches, length, channels, d, shared, origin; /* `shared` channels have a kernel; the first channel is number
                                                             `origin` */
    int64_t blocks, blocks_a_piece;
    bool closed;
} job;

/* The kernels of channels [first, first + n): rows begin with the kernel of the first one of the whole tensor that is here. */
static void turn_kernels(const job *j, float *to, const scan_rows *r, int64_t first, int64_t n) {
    if (j->shared == 1) {
        scan_turn(to, r, first, n, j->d, 0);
        return;
    }
    for (int64_t i = 0; i < j->d; i++) {
        float lanes[CPU_LANES] = {0};
        for (int64_t lane = 0; lane < n; lane++) lanes[lane] = r->rows[(j->origin + first + lane) / j->shared * r->stride + i];
        memcpy(to + i * CPU_LANES, lanes, sizeof lanes);
    }
}

static void run_open(const job *j, system_block *k, const float *u, float *y, int64_t first, int64_t n) {
    vf skip = j->skip ? scan_load(j->skip + first, n) : vf_zero();
    for (int64_t t = 0; t < j->length;) {
        int steps = j->length - t >= TOGETHER ? TOGETHER : 1;
        vf drive[TOGETHER], out[TOGETHER];
        for (int q = 0; q < steps; q++) drive[q] = scan_load(u + (t + q) * j->u_time, n);
        (steps == 1 ? driven_one : driven_together)(k, drive, out);
        for (int q = 0; q < steps; q++)
            scan_store(y + (t + q) * j->y_time, j->skip ? vf_fma(skip, drive[q], out[q]) : out[q], n);
        t += steps;
    }
}

static void run_closed(const job *j, system_block *k, float *y, int64_t n) {
    vf u = inner(k->k, k->s, k->d), out = inner(k->c, k->s, k->d);
    for (int64_t t = 0; t < j->length; t++) {
        scan_store(y + t * j->y_time, out, n);
        closed_step(k, &u, &out);
    }
}

static void scan_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t size = size_of(j->d), pieces = (j->blocks + j->blocks_a_piece - 1) / j->blocks_a_piece, batch = i / pieces;
    int64_t begin = i % pieces * j->blocks_a_piece, end = cpu_min(begin + j->blocks_a_piece, j->blocks);
    float *mine = j->scratch + (int64_t)worker * BLOCKS_OF_STATES * size;
    system_block k = {mine, mine + size, mine + 2 * size, mine + 3 * size, mine + 4 * size, j->d};
    scan_rows state = j->state, last = j->last;
    if (state.rows) state.rows += batch * j->state_batch;
    if (last.rows) last.rows += batch * j->last_batch;
    for (int64_t at = begin; at < end; at++) {
        int64_t first = at * CPU_LANES, n = cpu_min(CPU_LANES, j->channels - first);
        turn_kernels(j, mine, &j->a, first, n);
        turn_kernels(j, mine + size, &j->b, first, n);
        turn_kernels(j, mine + 2 * size, &j->c, first, n);
        if (j->closed) turn_kernels(j, mine + 3 * size, &j->k, first, n);
        scan_turn(k.s, &state, first, n, j->d, 0);
        float *y = j->y + batch * j->y_batch + first;
        if (j->closed)
            run_closed(j, &k, y, n);
        else
            run_open(j, &k, j->u + batch * j->u_batch + first, y, first, n);
        if (last.rows) scan_turn_back(&last, k.s, first, n, j->d);
    }
}

uint64_t cpu_companion_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * BLOCKS_OF_STATES * (uint64_t)size_of(node->inputs[0].dims[1]) * sizeof(float);
}

/* a, b, c or k: cut like the channels where there is one a channel, else whole. */
static scan_rows kernels_of(const strand_plugin_tensor *in, const strand_plugin_tensor *out, int64_t shared) {
    if (!in) return (scan_rows){NULL, 0, 1, 1};
    float *rows = shared == 1 ? scan_at(in, out, 1, (const uint32_t[]){0}, (const uint32_t[]){2}) : cpu_f32(in);
    return (scan_rows){rows, in->strides[0], 1, 1};
}
static scan_rows state_rows(const strand_plugin_tensor *in, const strand_plugin_tensor *out) {
    if (!in) return (scan_rows){NULL, 0, 1, 1};
    return (scan_rows){scan_state(in, out), in->strides[1], 1, 1};
}

CPU_KERNEL(cpu_companion_scan) {
    const strand_op_companion_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0], *u = cpu_input(node, 3),
                               *state = cpu_input(node, 6);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.closed = p->closed != 0, .scratch = scratch, .length = out->dims[1], .channels = out->dims[2], .d = a->dims[1],
             .origin = out->origin[2]};
    j.shared = out->whole[2] / a->whole[0];
    j.y = cpu_f32(out), j.y_batch = out->strides[0], j.y_time = out->strides[1];
    if (u) j.u = scan_sequence(u, out), j.u_batch = u->strides[0], j.u_time = u->strides[1];
    j.skip = scan_at(cpu_input(node, 5), out, 1, (const uint32_t[]){0}, (const uint32_t[]){2});
    j.a = kernels_of(a, out, j.shared), j.b = kernels_of(&node->inputs[1], out, j.shared),
    j.c = kernels_of(&node->inputs[2], out, j.shared);
    j.k = kernels_of(cpu_input(node, 4), out, j.shared);
    j.state = state_rows(state, out), j.last = state_rows(last, out);
    if (state) j.state_batch = state->strides[0];
    if (last) j.last_batch = last->strides[0];
    j.blocks = (j.channels + CPU_LANES - 1) / CPU_LANES;
    j.blocks_a_piece = scan_blocks_a_piece((double)j.d * 4 * (double)(j.length + 3));
    if (j.blocks < 1) return STRAND_PLUGIN_OK;
    cpu_parallel(device, out->dims[0] * ((j.blocks + j.blocks_a_piece - 1) / j.blocks_a_piece), scan_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- SSM_KERNEL_COMPANION ---- */

typedef struct filter_job {
    scan_rows a, b, c;
    float *out, *scratch;
    int64_t stride, taps, kernels, d;
} filter_job;

/* Stores `tokens` <= CPU_LANES taps of n kernels. */
static void store_taps(const filter_job *j, vf taps[CPU_LANES], int64_t first, int64_t n, int64_t t, int64_t tokens) {
    vf_transpose(taps);
    for (int64_t i = 0; i < n; i++) scan_store(j->out + (first + i) * j->stride + t, taps[i], tokens);
}

static void filter_body(void *arg, int64_t i, int32_t worker) {
    const filter_job *j = arg;
    int64_t size = size_of(j->d), first = i * CPU_LANES, n = cpu_min(CPU_LANES, j->kernels - first);
    float *mine = j->scratch + (int64_t)worker * BLOCKS_OF_STATES * size;
    const system_block k = {mine, NULL, mine + size, NULL, mine + 2 * size, j->d};
    scan_turn(mine, &j->a, first, n, j->d, 0);
    scan_turn(mine + size, &j->c, first, n, j->d, 0);
    scan_turn(k.s, &j->b, first, n, j->d, 0);
    vf taps[CPU_LANES];
    int64_t have = 1;
    taps[0] = inner(k.c, k.s, j->d);
    for (int64_t t = 0; t < j->taps;) {
        /* The first tap is there before any step, so that blocks of taps are filled by single steps at their end. */
        while (have < CPU_LANES && t + have < j->taps) {
            if (have + TOGETHER <= CPU_LANES) {
                free_together(&k, taps + have);
                have += TOGETHER;
            } else {
                free_one(&k, taps + have++);
            }
        }
        int64_t tokens = cpu_min(CPU_LANES, j->taps - t);
        for (int64_t more = have; more < CPU_LANES; more++) taps[more] = vf_zero();
        store_taps(j, taps, first, n, t, tokens);
        t += tokens;
        have = 0;
    }
}

CPU_KERNEL(cpu_ssm_kernel_companion) {
    const strand_plugin_tensor *out = &node->outputs[0], *in = node->inputs;
    filter_job j = {.out = cpu_f32(out), .scratch = scratch, .stride = out->strides[0], .taps = out->dims[1],
                    .kernels = out->dims[0], .d = in[0].dims[1]};
    scan_rows *rows[3] = {&j.a, &j.b, &j.c};
    for (int i = 0; i < 3; i++)
        *rows[i] = (scan_rows){scan_at(&in[i], out, 1, (const uint32_t[]){0}, (const uint32_t[]){0}), in[i].strides[0], 1, 1};
    if (j.taps > 0) cpu_parallel(device, (j.kernels + CPU_LANES - 1) / CPU_LANES, filter_body, &j);
    return STRAND_PLUGIN_OK;
}

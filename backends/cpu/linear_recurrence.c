/* linear_recurrence.c - LINEAR_RECURRENCE: h <- a h + x, element by element, of reals or of pairs that lie in neighbouring
 * lanes. It moves memory and does little else, so it must read and write long runs of it: COLUMNS vectors of neighbouring
 * elements go through time together, TOKENS tokens at a time, with their states in the first cache. A lane knows nothing of
 * the others, except of the other half of its pair. */
#include "kernels.h"
#include "scans.h"
#include "vecmath.h"

#include <math.h>

#define COLUMNS 64 /* vectors of neighbouring elements that run through time together */
#define TOKENS  4  /* in registers at a time */

typedef struct job {
    scan_rows x, a, state, y, last; /* one row a token; for `state` and `last` the row of a sequence */
    int64_t x_batch, x_time, a_batch, a_time, y_batch, y_time, state_batch, last_batch;
    int64_t length, elements, width; /* width: elements of a piece of work */
    bool pairs, each, log_a, gated;
} job;

/* Square root, lane by lane. */
CPU_INLINE vf root(vf x) {
#if CPU_LANES == 16
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif CPU_LANES == 8
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vf)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < CPU_LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* 1 - e^y for y <= 0, with its relative accuracy where y is small; `far` is the value elsewhere. */
CPU_INLINE vf one_minus_exp(vf y, vf far) {
    vf p = vf_fma(y, vf_set(-1.0f / 40320), vf_set(-1.0f / 5040));
    p = vf_fma(p, y, vf_set(-1.0f / 720));
    p = vf_fma(p, y, vf_set(-1.0f / 120));
    p = vf_fma(p, y, vf_set(-1.0f / 24));
    p = vf_fma(p, y, vf_set(-1.0f / 6));
    p = vf_fma(p, y, vf_set(-0.5f));
    vf near = vf_fma(p * y, y, -y);
    return vf_select(y > -0.5f, near, far);
}

/* What x is multiplied by in the gated form: sqrt(1 - a^2); `a` may be its logarithm, of which `decay` is the exponential. */
CPU_INLINE vf gate(vf a, vf decay, bool logarithm) {
    vf square = (1.0f - decay) * (1.0f + decay);
    return root(logarithm ? one_minus_exp(a + a, square) : square);
}

/* (cos, sin) of the angle that both lanes of a pair hold: sin(x + s pi) with s = 1/2 in the first. |x| <= 8192. */
CPU_INLINE vf cos_sin(vf x) {
    const vf shift = (vf)((vul)vf_set(0.5f) & (uint64_t)0xffffffffu);
    vf t = vf_fma(x, vf_set(0x1.45f306p-2f), shift) + CPU_ROUNDER;
    vu odd = (vu)t << 31;
    vf n = (t - CPU_ROUNDER) - shift;
    vf r = vf_fnma(n, vf_set(0x1.92p+1f), x);
    r = vf_fnma(n, vf_set(0x1.fb4p-11f), r);
    r = vf_fnma(n, vf_set(0x1.4442d2p-23f), r);
    vf y = r * r;
    vf p = vf_fma(y, vf_set(-2.406103405e-8f), vf_set(2.75356274e-6f));
    p = vf_fma(p, y, vf_set(-0.0001984107512f));
    p = vf_fma(p, y, vf_set(0.008333332837f));
    p = vf_fma(p, y, vf_set(-0.1666666716f));
    return (vf)((vu)vf_fma(p * y, r, r) ^ odd);
}

/* The decay that a token's or a channel's `a` stands for; `cross` multiplies the other of a pair. */
CPU_INLINE void decay_of(vf a, const bool pairs, bool logarithm, vf *decay, vf *cross) {
    if (!pairs) {
        *decay = logarithm ? vf_exp(a) : a;
        return;
    }
    if (logarithm) a = vf_exp(vf_even_twice(a)) * cos_sin(vf_odd_twice(a));
    *decay = vf_even_twice(a);
    *cross = vf_negate_even(vf_odd_twice(a));
}

/* What does not change along the length, and the states: [COLUMNS] of each. */
typedef struct columns {
    vf h[COLUMNS], decay[COLUMNS], cross[COLUMNS], gate[COLUMNS];
} columns;

/* `count` tokens, from token i on, of n elements from `first` on. */
CPU_INLINE void run_tokens(const job *j, columns *c, int v, const scan_rows *x, const scan_rows *a, const scan_rows *y,
                           int64_t first, int64_t n, int64_t i, const int count, const bool each, const bool pairs) {
    vf h = c->h[v], decay = c->decay[v], cross = c->cross[v], by = c->gate[v];
    scan_rows from = *x, to = *y, rates = *a;
#pragma GCC unroll 4
    for (int t = 0; t < count; t++) {
        bool plain = !j->gated || (i + t == 0 && !j->state.rows);
        vf in = scan_row_load(&from, 0, first, n);
        if (each) {
            vf now = scan_row_load(&rates, 0, first, n);
            decay_of(now, pairs, j->log_a, &decay, &cross);
            if (!plain) by = gate(now, decay, j->log_a);
        }
        if (!plain) in = in * by;
        if (pairs) in = vf_fma(cross, vf_swap_pairs(h), in);
        h = vf_fma(decay, h, in);
        scan_row_store(&to, 0, first, h, n);
        from.rows += j->x_time, to.rows += j->y_time;
        if (each) rates.rows += j->a_time;
    }
    c->h[v] = h;
}

CPU_INLINE void run_columns(const job *j, int64_t batch, int64_t first, int64_t elements, const bool each, const bool pairs) {
    columns c;
    scan_rows x = j->x, a = j->a, y = j->y, state = j->state, last = j->last;
    int count = (int)((elements + CPU_LANES - 1) / CPU_LANES);
    x.rows += batch * j->x_batch, a.rows += each ? batch * j->a_batch : 0, y.rows += batch * j->y_batch;
    if (state.rows) state.rows += batch * j->state_batch;
    if (last.rows) last.rows += batch * j->last_batch;
    for (int v = 0; v < count; v++) {
        int64_t e = first + v * CPU_LANES, n = cpu_min(CPU_LANES, elements - v * CPU_LANES);
        c.h[v] = state.rows ? scan_row_load(&state, 0, e, n) : vf_zero();
        c.decay[v] = c.cross[v] = c.gate[v] = vf_zero();
        if (each) continue;
        vf fixed = scan_row_load(&a, 0, e, n);
        decay_of(fixed, pairs, j->log_a, &c.decay[v], &c.cross[v]);
        if (j->gated) c.gate[v] = gate(fixed, c.decay[v], j->log_a);
    }
    for (int64_t i = 0; i < j->length;) {
        int tokens = j->length - i >= TOKENS ? TOKENS : 1;
        for (int v = 0; v < count; v++) {
            int64_t e = first + v * CPU_LANES, n = cpu_min(CPU_LANES, elements - v * CPU_LANES);
            if (tokens == TOKENS && n == CPU_LANES)
                run_tokens(j, &c, v, &x, &a, &y, e, CPU_LANES, i, TOKENS, each, pairs);
            else
                run_tokens(j, &c, v, &x, &a, &y, e, n, i, tokens, each, pairs);
        }
        x.rows += tokens * j->x_time, y.rows += tokens * j->y_time, i += tokens;
        if (each) a.rows += tokens * j->a_time;
    }
    for (int v = 0; last.rows && v < count; v++)
        scan_row_store(&last, 0, first + v * CPU_LANES, c.h[v], cpu_min(CPU_LANES, elements - v * CPU_LANES));
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t pieces = (j->elements + j->width - 1) / j->width, batch = i / pieces, first = i % pieces * j->width;
    int64_t n = cpu_min(j->width, j->elements - first);
    (void)worker;
    if (j->each && j->pairs)
        run_columns(j, batch, first, n, true, true);
    else if (j->each)
        run_columns(j, batch, first, n, true, false);
    else if (j->pairs)
        run_columns(j, batch, first, n, false, true);
    else
        run_columns(j, batch, first, n, false, false);
}

/* `axis` is that of the elements. */
static scan_rows rows_of(float *at, const strand_plugin_tensor *t, uint32_t axis, bool pairs) {
    return (scan_rows){at, 0, pairs ? t->strides[axis] : 1, pairs ? 2 : 1};
}

CPU_KERNEL(cpu_linear_recurrence) {
    const strand_op_linear_recurrence *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *x = &node->inputs[0], *a = &node->inputs[1],
                               *state = cpu_input(node, 2);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    bool pairs = p->complex_pairs != 0, each = a->rank == x->rank;
    job j = {.pairs = pairs, .each = each, .log_a = p->log_a != 0, .gated = p->form == STRAND_RECURRENCE_RGLRU,
             .length = out->dims[1]};
    int64_t begin = p->reverse ? cpu_max(0, j.length - 1) : 0, sign = p->reverse ? -1 : 1;
    (void)scratch;
    j.x = rows_of(scan_sequence(x, out) + begin * x->strides[1], x, 2, pairs);
    j.y = rows_of(cpu_f32(out) + begin * out->strides[1], out, 2, pairs);
    j.x_batch = x->strides[0], j.x_time = sign * x->strides[1], j.y_batch = out->strides[0], j.y_time = sign * out->strides[1];
    j.a = rows_of(each ? scan_sequence(a, out) + begin * a->strides[1]
                       : scan_at(a, out, 1, (const uint32_t[]){0}, (const uint32_t[]){2}),
                  a, each ? 2 : 0, pairs);
    if (each) j.a_batch = a->strides[0], j.a_time = sign * a->strides[1];
    if (state) j.state = rows_of(scan_state(state, out), state, 1, pairs), j.state_batch = state->strides[0];
    if (last) j.last = rows_of(scan_state(last, out), last, 1, pairs), j.last_batch = last->strides[0];
    j.elements = out->dims[2] * (pairs ? 2 : 1);
    j.width = COLUMNS * CPU_LANES;
    if (j.elements < 1) return STRAND_PLUGIN_OK;
    cpu_parallel(device, out->dims[0] * ((j.elements + j.width - 1) / j.width), body, &j);
    return STRAND_PLUGIN_OK;
}

/* linear_recurrence.c - LINEAR_RECURRENCE: h <- a h + x, element by element, of reals or of pairs that lie in neighbouring lanes. It moves
 * memory and does little else, so four vectors of neighbouring elements run through time together with their states in registers.
 * A lane knows nothing of the others, except of the other half of its pair. */
#include "kernels.h"
#include "scans.h"
#include "vecmath.h"

#include <math.h>

#define COLUMNS 4 /* vectors that run together */

typedef struct job {
    scan_rows x, a, state, y, last; /* one row a token; for `state` and `last` the row of a sequence */
    int64_t x_batch, x_time, a_batch, a_time, y_batch, y_time, state_batch, last_batch;
    int64_t length, elements, columns, columns_a_piece;
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

/* 1 - e^y for y <= 0, with its relative accuracy where y is small. */
CPU_INLINE vf one_minus_exp(vf y) {
    vf p = vf_fma(y, vf_set(-1.0f / 40320), vf_set(-1.0f / 5040));
    p = vf_fma(p, y, vf_set(-1.0f / 720));
    p = vf_fma(p, y, vf_set(-1.0f / 120));
    p = vf_fma(p, y, vf_set(-1.0f / 24));
    p = vf_fma(p, y, vf_set(-1.0f / 6));
    p = vf_fma(p, y, vf_set(-0.5f));
    vf near = vf_fma(p * y, y, -y);
    return vf_select(y > -0.5f, near, 1.0f - vf_exp(y));
}

/* What x is multiplied by in the gated form: sqrt(1 - a^2). */
CPU_INLINE vf gate(vf a, bool logarithm) {
    return root(logarithm ? one_minus_exp(a + a) : (1.0f - a) * (1.0f + a));
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

/* One of the COLUMNS vectors; n elements of it are there. */
typedef struct column {
    vf h, decay, cross, gate;
} column;

CPU_INLINE void run_columns(const job *j, int64_t batch, int64_t first, const int count, int64_t n, const bool each, const bool pairs) {
    column c[COLUMNS];
    scan_rows x = j->x, a = j->a, y = j->y, state = j->state, last = j->last;
    x.rows += batch * j->x_batch, a.rows += each ? batch * j->a_batch : 0, y.rows += batch * j->y_batch;
    if (state.rows) state.rows += batch * j->state_batch;
    if (last.rows) last.rows += batch * j->last_batch;
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) {
        int64_t e = first + v * CPU_LANES;
        c[v] = (column){.h = state.rows ? scan_row_load(&state, 0, e, n) : vf_zero()};
        if (each) continue;
        vf fixed = scan_row_load(&a, 0, e, n);
        decay_of(fixed, pairs, j->log_a, &c[v].decay, &c[v].cross);
        c[v].gate = j->gated ? gate(fixed, j->log_a) : vf_set(1.0f);
    }
    for (int64_t i = 0; i < j->length; i++) {
        bool plain = !j->gated || (i == 0 && !state.rows);
#pragma GCC unroll 4
        for (int v = 0; v < count; v++) {
            int64_t e = first + v * CPU_LANES;
            vf in = scan_row_load(&x, 0, e, n);
            if (each) {
                vf now = scan_row_load(&a, 0, e, n);
                decay_of(now, pairs, j->log_a, &c[v].decay, &c[v].cross);
                if (!plain) c[v].gate = gate(now, j->log_a);
            }
            if (!plain) in = in * c[v].gate;
            if (pairs) in = vf_fma(c[v].cross, vf_swap_pairs(c[v].h), in);
            c[v].h = vf_fma(c[v].decay, c[v].h, in);
            scan_row_store(&y, 0, e, c[v].h, n);
        }
        x.rows += j->x_time, y.rows += j->y_time;
        if (each) a.rows += j->a_time;
    }
    if (!last.rows) return;
#pragma GCC unroll 4
    for (int v = 0; v < count; v++) scan_row_store(&last, 0, first + v * CPU_LANES, c[v].h, n);
}

CPU_INLINE void run_either(const job *j, int64_t batch, int64_t first, const int count, int64_t n, const bool each) {
    if (j->pairs)
        run_columns(j, batch, first, count, n, each, true);
    else
        run_columns(j, batch, first, count, n, each, false);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t pieces = (j->columns + j->columns_a_piece - 1) / j->columns_a_piece, batch = i / pieces;
    int64_t begin = i % pieces * j->columns_a_piece, end = cpu_min(begin + j->columns_a_piece, j->columns);
    bool each = j->each;
    (void)worker;
    for (int64_t at = begin; at < end; at++) {
        int64_t first = at * COLUMNS * CPU_LANES, stop = cpu_min(first + COLUMNS * CPU_LANES, j->elements);
        if (stop - first == COLUMNS * CPU_LANES && each)
            run_either(j, batch, first, COLUMNS, CPU_LANES, true);
        else if (stop - first == COLUMNS * CPU_LANES)
            run_either(j, batch, first, COLUMNS, CPU_LANES, false);
        else
            for (; first < stop; first += CPU_LANES) {
                if (each)
                    run_either(j, batch, first, 1, cpu_min(CPU_LANES, stop - first), true);
                else
                    run_either(j, batch, first, 1, cpu_min(CPU_LANES, stop - first), false);
            }
    }
}

/* `axis` is that of the elements. */
static scan_rows rows_of(float *at, const strand_plugin_tensor *t, uint32_t axis, bool pairs) {
    return (scan_rows){at, 0, pairs ? t->strides[axis] : 1, pairs ? 2 : 1};
}

CPU_KERNEL(cpu_linear_recurrence) {
    const strand_op_linear_recurrence *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *x = &node->inputs[0], *a = &node->inputs[1], *state = cpu_input(node, 2);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    bool pairs = p->complex_pairs != 0, each = a->rank == x->rank;
    job j = {.pairs = pairs, .each = each, .log_a = p->log_a != 0, .gated = p->form == STRAND_RECURRENCE_RGLRU, .length = out->dims[1]};
    int64_t begin = p->reverse ? cpu_max(0, j.length - 1) : 0, sign = p->reverse ? -1 : 1;
    (void)scratch;
    j.x = rows_of(scan_sequence(x, out) + begin * x->strides[1], x, 2, pairs);
    j.y = rows_of(cpu_f32(out) + begin * out->strides[1], out, 2, pairs);
    j.x_batch = x->strides[0], j.x_time = sign * x->strides[1], j.y_batch = out->strides[0], j.y_time = sign * out->strides[1];
    j.a = rows_of(each ? scan_sequence(a, out) + begin * a->strides[1] : scan_at(a, out, 1, (const uint32_t[]){0}, (const uint32_t[]){2}), a,
                  each ? 2 : 0, pairs);
    if (each) j.a_batch = a->strides[0], j.a_time = sign * a->strides[1];
    if (state) j.state = rows_of(scan_state(state, out), state, 1, pairs), j.state_batch = state->strides[0];
    if (last) j.last = rows_of(scan_state(last, out), last, 1, pairs), j.last_batch = last->strides[0];
    j.elements = out->dims[2] * (pairs ? 2 : 1);
    j.columns = (j.elements + COLUMNS * CPU_LANES - 1) / (COLUMNS * CPU_LANES);
    j.columns_a_piece = scan_blocks_a_piece((double)j.length * 16);
    if (j.columns < 1) return STRAND_PLUGIN_OK;
    cpu_parallel(device, out->dims[0] * ((j.columns + j.columns_a_piece - 1) / j.columns_a_piece), body, &j);
    return STRAND_PLUGIN_OK;
}

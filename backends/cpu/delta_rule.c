/* delta_rule.c - DELTA_RULE: RWKV-7 and gated delta networks. S <- S diag(w) + (S a) b^T + v k^T, y = scale S r.
 *
 * While a sequence runs, the state is turned over, S [K][V], so that values lie along the lanes and nothing is summed across them.
 * One pass over the state a token: a row of it decays, takes b and k, and gives its share of this token's y and of the next
 * token's S a: five instructions a vector, which is the floor of the recurrence. One token alone is a step over the state as it
 * lies in memory, [V][K]. */
#include "matrix_state.h"
#include "vecmath.h"

#if CPU_LANES == 16
#define VECTORS 4 /* of values at once, as the registers allow */
#else
#define VECTORS 2
#endif
#define COLUMNS (VECTORS * CPU_LANES)
#define AHEAD   4 /* tokens whose rows are asked for before they are used */

typedef struct job {
    const strand_op_delta_rule *p;
    ms_cut cut;
    ms_tokens r, w, k, v, a, b, y;
    ms_state in, out;
    int64_t length, keys, each;
    float *work;
} job;

static int64_t room_floats(int64_t keys) {
    return ms_floats(keys * COLUMNS) + ms_floats(ms_pitch(keys));
}

/* The decays of n keys: as they stand, or e to them in `to`. */
static const float *decays(const job *j, float *to, const float *w, int64_t n) {
    if (!j->p->log_w) return w;
    for (int64_t c = 0; c < n; c += CPU_LANES) vf_store(to + c, vf_exp(ms_load(w + c, n - c)));
    return to;
}

/* ---- a sequence ---- */

/* The tokens of one unit of `vectors` vectors of values. `next_a` of the last token is its own, and what comes of it is not used. */
CPU_INLINE void run_tokens(const job *j, const ms_unit *u, float *s, float *decay, const int vectors) {
    int64_t first = u->h * j->keys, pitch = vectors * CPU_LANES;
    vf removed[VECTORS], next[VECTORS], sum[VECTORS], value[VECTORS];
    const ms_tokens *const keyed[] = {&j->r, &j->w, &j->k, &j->a, &j->b};
    const float *a = ms_at(&j->a, u->b, 0, first);
    for (int e = 0; e < vectors; e++) next[e] = vf_zero();
    for (int64_t i = 0; i < j->keys && j->length > 0; i++)
        for (int e = 0; e < vectors; e++) next[e] = vf_fma(vf_set(a[i]), vf_load(s + i * pitch + e * CPU_LANES), next[e]);
    for (int64_t t = 0; t < j->length; t++) {
        const float *w = decays(j, decay, ms_at(&j->w, u->b, t, first), j->keys), *v = ms_at(&j->v, u->b, t, u->channel);
        const float *b = ms_at(&j->b, u->b, t, first), *k = ms_at(&j->k, u->b, t, first), *r = ms_at(&j->r, u->b, t, first);
        float *y = ms_at(&j->y, u->b, t, u->channel), *row = s;
        a = ms_at(&j->a, u->b, cpu_min(t + 1, j->length - 1), first);
        for (int i = 0; i < 5; i++) ms_ahead(keyed[i], u->b, t + AHEAD, 1, j->length, first, j->keys);
        ms_ahead(&j->v, u->b, t + AHEAD, 1, j->length, u->channel, u->n);
        ms_ahead(&j->y, u->b, t + AHEAD, 1, j->length, u->channel, u->n);
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) {
            value[e] = ms_load(v + e * CPU_LANES, u->n - e * CPU_LANES);
            removed[e] = next[e];
            next[e] = sum[e] = vf_zero();
        }
        for (int64_t i = 0; i < j->keys; i++, row += pitch) {
            vf wi = vf_set(w[i]), bi = vf_set(b[i]), ki = vf_set(k[i]), ri = vf_set(r[i]), ai = vf_set(a[i]);
#pragma GCC unroll 4
            for (int e = 0; e < vectors; e++) {
                vf x = wi * vf_load(row + e * CPU_LANES);
                x = vf_fma(bi, removed[e], x);
                x = vf_fma(ki, value[e], x);
                vf_store(row + e * CPU_LANES, x);
                sum[e] = vf_fma(ri, x, sum[e]);
                next[e] = vf_fma(ai, x, next[e]);
            }
        }
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) ms_store(y + e * CPU_LANES, vf_set(j->p->scale) * sum[e], u->n - e * CPU_LANES);
    }
}

static void run_sequence(const job *j, const ms_unit *u, float *s) {
    float *decay = s + ms_floats(j->keys * COLUMNS), *out = ms_head(&j->out, u->b, u->h);
    const float *in = ms_head(&j->in, u->b, u->h);
    int64_t vectors = ms_pitch(u->n) / CPU_LANES, pitch = (vectors == 3 ? 4 : vectors) * CPU_LANES;
    memset(s, 0, (size_t)(j->keys * pitch) * sizeof *s);
    if (in) ms_transpose_in(s, pitch, in + u->v * j->in.row, j->in.row, u->n, j->keys);
    if (pitch == CPU_LANES) run_tokens(j, u, s, decay, 1);
    if (pitch == 2 * CPU_LANES) run_tokens(j, u, s, decay, 2);
#if VECTORS == 4
    if (pitch == 4 * CPU_LANES) run_tokens(j, u, s, decay, 4);
#endif
    if (out) ms_transpose_out(out + u->v * j->out.row, j->out.row, s, pitch, u->n, j->keys);
}

/* ---- one token ---- */

/* The rows of a step: CPU_LANES of the state at a time, so that their sums are taken together. */
typedef struct rows {
    const float *in, *w, *a, *b, *k, *r; /* in NULL: zeros */
    float *out;                          /* NULL: not kept */
    int64_t in_row, out_row, n, count;   /* keys, rows */
} rows;

/* Keys [c, ...) of `vectors` vectors (of one: perhaps not all of it): sums[e] += row e times a. */
CPU_INLINE void look(const rows *s, int64_t c, const int vectors, vf sums[CPU_LANES]) {
    vf a[VECTORS];
    for (int i = 0; i < vectors; i++) a[i] = ms_load(s->a + c + i * CPU_LANES, s->n - c);
    for (int64_t e = 0; e < s->count; e++)
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) sums[e] = vf_fma(ms_load(s->in + e * s->in_row + c + i * CPU_LANES, s->n - c), a[i], sums[e]);
}

/* The same keys of the rows anew, and sums[e] += row e times r. */
CPU_INLINE void change(const rows *s, int64_t c, const int vectors, const float *value, const float *removed, vf sums[CPU_LANES]) {
    vf w[VECTORS], b[VECTORS], k[VECTORS], r[VECTORS];
    for (int i = 0; i < vectors; i++) {
        int64_t at = c + i * CPU_LANES;
        w[i] = ms_load(s->w + at, s->n - c), b[i] = ms_load(s->b + at, s->n - c), k[i] = ms_load(s->k + at, s->n - c), r[i] = ms_load(s->r + at, s->n - c);
    }
    for (int64_t e = 0; e < s->count; e++) {
        vf new_value = vf_set(value[e]), less = vf_set(removed[e]);
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) {
            int64_t at = c + i * CPU_LANES;
            vf x = s->in ? w[i] * ms_load(s->in + e * s->in_row + at, s->n - c) : vf_zero();
            x = vf_fma(less, b[i], x);
            x = vf_fma(new_value, k[i], x);
            if (s->out) ms_store(s->out + e * s->out_row + at, x, s->n - c);
            sums[e] = vf_fma(r[i], x, sums[e]);
        }
    }
}

static void run_step(const job *j, const ms_unit *u, float *decay) {
    int64_t first = u->h * j->keys, n = j->keys, whole = n / COLUMNS * COLUMNS;
    const float *in = ms_head(&j->in, u->b, u->h), *v = ms_at(&j->v, u->b, 0, u->channel);
    float *out = ms_head(&j->out, u->b, u->h), *y = ms_at(&j->y, u->b, 0, u->channel);
    rows s = {.in_row = j->in.row, .out_row = j->out.row, .n = n, .w = decays(j, decay, ms_at(&j->w, u->b, 0, first), n)};
    s.a = ms_at(&j->a, u->b, 0, first), s.b = ms_at(&j->b, u->b, 0, first), s.k = ms_at(&j->k, u->b, 0, first), s.r = ms_at(&j->r, u->b, 0, first);
    for (int64_t row = 0; row < u->n; row += CPU_LANES) {
        vf sums[CPU_LANES];
        float removed[CPU_LANES], value[CPU_LANES];
        s.count = cpu_min(CPU_LANES, u->n - row);
        s.in = in ? in + (u->v + row) * j->in.row : NULL;
        s.out = out ? out + (u->v + row) * j->out.row : NULL;
        for (int e = 0; e < CPU_LANES; e++) sums[e] = vf_zero();
        for (int64_t c = 0; c < whole && in; c += COLUMNS) look(&s, c, VECTORS, sums);
        for (int64_t c = whole; c < n && in; c += CPU_LANES) look(&s, c, 1, sums);
        vf_store(removed, vf_sums_of_rows(sums));
        vf_store(value, ms_load(v + row, s.count)); /* y may lie over v */
        for (int e = 0; e < CPU_LANES; e++) sums[e] = vf_zero();
        for (int64_t c = 0; c < whole; c += COLUMNS) change(&s, c, VECTORS, value, removed, sums);
        for (int64_t c = whole; c < n; c += CPU_LANES) change(&s, c, 1, value, removed, sums);
        ms_store(y + row, vf_set(j->p->scale) * vf_sums_of_rows(sums), s.count);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    ms_unit u;
    for (int64_t k = i * j->cut.group; k < cpu_min((i + 1) * j->cut.group, j->cut.units); k++) {
        if (!ms_take(&j->cut, k, &u)) continue;
        if (j->length == 1)
            run_step(j, &u, j->work + worker * j->each);
        else
            run_sequence(j, &u, j->work + worker * j->each);
    }
}

static int64_t keys_of(const strand_plugin_node *node) {
    return node->inputs[0].dims[2] / ((const strand_op_delta_rule *)node->params)->heads;
}

uint64_t cpu_delta_rule_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)(room_floats(keys_of(node))) * sizeof(float);
}

CPU_KERNEL(cpu_delta_rule) {
    const strand_op_delta_rule *p = node->params;
    int64_t keys = keys_of(node), length = node->outputs[0].dims[1];
    job j = {.p = p, .work = scratch, .length = length, .keys = keys, .each = room_floats(keys)};
    j.r = ms_view(node, cpu_input(node, 0));
    j.w = ms_view(node, cpu_input(node, 1));
    j.k = ms_view(node, cpu_input(node, 2));
    j.v = ms_view(node, cpu_input(node, 3));
    j.a = ms_view(node, cpu_input(node, 4));
    j.b = ms_view(node, cpu_input(node, 5));
    j.y = ms_view(node, &node->outputs[0]);
    j.in = ms_state_in(node, 6);
    j.out = ms_state_out(node);
    j.cut = ms_plan(node, p->heads, COLUMNS, (double)length * (double)keys * COLUMNS / 3);
    cpu_parallel(device, j.cut.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}

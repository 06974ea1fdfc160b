/* delta_rule.c - DELTA_RULE: RWKV-7 and gated delta networks. S <- S diag(w) + (S a) b^T + v k^T, y = scale S r.
 *
 * While a sequence runs, the state is turned over, S [K][V], so that values lie along the lanes and nothing is summed across them,
 * and blocks of BLOCK tokens pass it. With P_i the product of the block's decays up to token i, [j, i] that of those after j up to i,
 * and s_i what token i takes away (S a before it),
 *
 *   s[i] = (a[i] P_(i-1)) S + sum_{j < i} (a[i] . b[j] [j, i-1]) s[j] + (a[i] . k[j] [j, i-1]) v[j]
 *   y[i] = (r[i] P_i) S + sum_{j <= i} (r[i] . b[j] [j, i]) s[j] + (r[i] . k[j] [j, i]) v[j]
 *   S    = diag(P_last) S + sum_j (b[j] [j, last]) s[j]^T + (k[j] [j, last]) v[j]^T
 *
 * The first terms of s and y are one product of 2 BLOCK rows, the last line one of 2 BLOCK columns: 4 BLOCK + 1 instructions a vector
 * of the state instead of 5 BLOCK, and it is stored once instead of BLOCK times, which counts for more. Longer blocks would pay more
 * for their pairs than they save. Decays are multiplied up one after another, which neither overflows nor divides. One token alone is
 * a step over the state as it lies in memory, [V][K]. */
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 4
#define AHEAD 2 /* blocks before their rows are needed they are asked for */
#define PAIRS (BLOCK * (BLOCK + 1) / 2)                /* (i, j), j <= i */
#define SUMS  (2 * PAIRS + 2 * (PAIRS - BLOCK))        /* r with b and k; a with both, j < i */
#define SUMS_ROOM ((SUMS + CPU_LANES - 1) / CPU_LANES * CPU_LANES)
#if CPU_LANES == 16
#define VECTORS 4 /* of a step's keys at once, as the registers allow */
#else
#define VECTORS 2
#endif
#define COLUMNS (VECTORS * CPU_LANES)

typedef struct job {
    const strand_op_delta_rule *p;
    ms_cut cut;
    ms_tokens r, w, k, v, a, b, y;
    ms_state in, out;
    int64_t length, keys, each;
    float *work;
} job;

/* Rows of keys have `pitch` floats, rows of values `v_pitch`; zeros behind the last key and in rows behind the last token (decays:
 * ones). */
typedef struct room {
    float *s;             /* [keys][v_pitch] */
    float *look, *seen;   /* what reads the state, a[i] P_(i-1) and r[i] P_i [2 BLOCK], and what it read */
    float *change, *take; /* what changes it, b and k [2 BLOCK], and by how much: s and v */
    float *r, *w, *a, *last, *parts;
    int64_t pitch, v_pitch;
} room;

static int64_t room_floats(int64_t keys, int64_t width) {
    int64_t pitch = ms_floats(ms_pitch(keys)), v_pitch = ms_floats(ms_pitch(width));
    return ms_floats(keys * v_pitch) + 4 * BLOCK * v_pitch + (7 * BLOCK + 1) * pitch + SUMS_ROOM * CPU_LANES;
}

static room room_at(float *p, int64_t keys, int64_t width) {
    room m = {.pitch = ms_floats(ms_pitch(keys)), .v_pitch = ms_pitch(width), .s = p};
    int64_t v_room = ms_floats(m.v_pitch);
    m.seen = m.s + ms_floats(keys * v_room);
    m.take = m.seen + 2 * BLOCK * v_room;
    m.look = m.take + 2 * BLOCK * v_room;
    m.change = m.look + 2 * BLOCK * m.pitch;
    m.r = m.change + 2 * BLOCK * m.pitch;
    m.w = m.r + BLOCK * m.pitch;
    m.a = m.w + BLOCK * m.pitch;
    m.last = m.a + BLOCK * m.pitch;
    m.parts = m.last + m.pitch;
    return m;
}

/* ---- a sequence ---- */

/* The rows of n tokens from t on, and, since every product of decays is met on the way, what reads the state. b and k go where they
 * will be multiplied up. */
static void load(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n) {
    int64_t first = u->h * j->keys, step = m->pitch;
    for (int64_t c = 0; c < j->keys; c += CPU_LANES) vf_store(m->last + c, vf_set(1.0f));
    for (int64_t i = 0; i < n; i++) {
        const float *a = ms_at(&j->a, u->b, t + i, first), *r = ms_at(&j->r, u->b, t + i, first), *w = ms_at(&j->w, u->b, t + i, first);
        const float *b = ms_at(&j->b, u->b, t + i, first), *k = ms_at(&j->k, u->b, t + i, first);
        float *to = m->look + i * step;
        for (int64_t c = 0; c < j->keys; c += CPU_LANES, to += CPU_LANES) {
            int64_t left = j->keys - c;
            vf product = vf_load(m->last + c), decay = ms_load(w + c, left), take = ms_load(a + c, left), read = ms_load(r + c, left);
            if (j->p->log_w) decay = vf_exp(decay);
            vf_store(to, take * product);
            product *= decay;
            vf_store(to + BLOCK * step, read * product);
            vf_store(m->last + c, product);
            vf_store(to + (m->change - m->look), ms_load(b + c, left));
            vf_store(to + (m->change - m->look) + BLOCK * step, ms_load(k + c, left));
            vf_store(to + (m->a - m->look), take);
            vf_store(to + (m->r - m->look), read);
            vf_store(to + (m->w - m->look), decay);
        }
    }
    for (int64_t i = n; i < BLOCK; i++)
        for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
            float *const zero[] = {m->look, m->look + BLOCK * step, m->change, m->change + BLOCK * step, m->a, m->r};
            for (size_t e = 0; e < sizeof zero / sizeof *zero; e++) vf_store(zero[e] + i * step + c, vf_zero());
            vf_store(m->w + i * step + c, vf_set(1.0f));
        }
}

/* Token b's b and k with the rows of itself (r . b, r . k) and of each later token i (a . b, a . k, r . b, r . k), as lanes that are
 * to be summed. On the way they take the decays up to the block's end. */
CPU_INLINE void pairs_of(const job *j, const room *m, const int b, float *parts) {
    int64_t step = m->pitch;
    float *bs = m->change + b * step, *ks = m->change + (BLOCK + b) * step;
    vf with_b[2 * BLOCK], with_k[2 * BLOCK]; /* a of token i [i], r [BLOCK + i] */
#pragma GCC unroll 8
    for (int i = 0; i < 2 * BLOCK; i++) with_b[i] = with_k[i] = vf_zero();
    for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
        vf x = vf_load(bs + c), y = vf_load(ks + c), r = vf_load(m->r + b * step + c);
        with_b[BLOCK + b] = vf_fma(r, x, with_b[BLOCK + b]);
        with_k[BLOCK + b] = vf_fma(r, y, with_k[BLOCK + b]);
#pragma GCC unroll 4
        for (int i = b + 1; i < BLOCK; i++) {
            vf a = vf_load(m->a + i * step + c), decay = vf_load(m->w + i * step + c);
            r = vf_load(m->r + i * step + c);
            with_b[i] = vf_fma(a, x, with_b[i]);
            with_k[i] = vf_fma(a, y, with_k[i]);
            x *= decay, y *= decay;
            with_b[BLOCK + i] = vf_fma(r, x, with_b[BLOCK + i]);
            with_k[BLOCK + i] = vf_fma(r, y, with_k[BLOCK + i]);
        }
        vf_store(bs + c, x);
        vf_store(ks + c, y);
    }
    vf_store(parts, with_b[BLOCK + b]);
    vf_store(parts + CPU_LANES, with_k[BLOCK + b]);
    parts += 2 * CPU_LANES;
#pragma GCC unroll 4
    for (int i = b + 1; i < BLOCK; i++, parts += 4 * CPU_LANES) {
        vf_store(parts, with_b[i]);
        vf_store(parts + CPU_LANES, with_k[i]);
        vf_store(parts + 2 * CPU_LANES, with_b[BLOCK + i]);
        vf_store(parts + 3 * CPU_LANES, with_k[BLOCK + i]);
    }
}

/* All of them in the order in which `solve` takes them. */
static void pairs(const job *j, const room *m, float sums[SUMS_ROOM]) {
    float *parts = m->parts;
#pragma GCC unroll 4
    for (int b = 0; b < BLOCK; b++) {
        pairs_of(j, m, b, parts);
        parts += (4 * (BLOCK - b) - 2) * CPU_LANES;
    }
    for (; parts < m->parts + SUMS_ROOM * CPU_LANES; parts += CPU_LANES) vf_store(parts, vf_zero());
    for (int64_t group = 0; group < SUMS_ROOM; group += CPU_LANES) {
        vf lanes[CPU_LANES];
        for (int e = 0; e < CPU_LANES; e++) lanes[e] = vf_load(m->parts + (group + e) * CPU_LANES);
        vf_store(sums + group, vf_sums_of_rows(lanes));
    }
}

/* s and y of the block's n tokens from what was read, one after another: s to `take`, y in place in `seen`. Behind the last token s
 * is zero: what a row of zeros read may be no number. */
static void solve(const room *m, const float sums[SUMS_ROOM], int64_t n) {
    for (int64_t c = 0; c < m->v_pitch; c += CPU_LANES) {
        vf s[BLOCK], y[BLOCK];
        const float *pair = sums;
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i++) s[i] = vf_load(m->seen + i * m->v_pitch + c), y[i] = vf_load(m->seen + (BLOCK + i) * m->v_pitch + c);
#pragma GCC unroll 4
        for (int b = 0; b < BLOCK; b++) {
            vf v = vf_load(m->take + (BLOCK + b) * m->v_pitch + c);
            y[b] = vf_fma(vf_set(pair[0]), s[b], vf_fma(vf_set(pair[1]), v, y[b]));
            pair += 2;
#pragma GCC unroll 4
            for (int i = b + 1; i < BLOCK; i++, pair += 4) {
                s[i] = vf_fma(vf_set(pair[0]), s[b], vf_fma(vf_set(pair[1]), v, s[i]));
                y[i] = vf_fma(vf_set(pair[2]), s[b], vf_fma(vf_set(pair[3]), v, y[i]));
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i++) {
            vf_store(m->take + i * m->v_pitch + c, i < n ? s[i] : vf_zero());
            vf_store(m->seen + (BLOCK + i) * m->v_pitch + c, y[i]);
        }
    }
}

static void block(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n) {
    const ms_tokens *const keyed[] = {&j->r, &j->w, &j->k, &j->a, &j->b};
    int64_t first = u->h * j->keys, next = t + AHEAD * BLOCK, pitch = m->v_pitch;
    float sums[SUMS_ROOM], *v = m->take + BLOCK * pitch, *y = m->seen + BLOCK * pitch;
    load(j, u, m, t, n);
    pairs(j, m, sums);
    ms_rows_in(v, pitch, ms_at(&j->v, u->b, t, u->channel), j->v.token, n, u->n);
    memset(v + n * pitch, 0, (size_t)((BLOCK - n) * pitch) * sizeof *v);
    /* What is asked for takes the places of misses: only ahead of the two products, which have none. */
    for (int i = 0; i < 3; i++) ms_ahead(keyed[i], u->b, next, BLOCK, j->length, first, j->keys);
    ms_reading reading = {.q = m->look, .q_pitch = m->pitch, .depth = j->keys, .s = m->s, .pitch = pitch, .y = m->seen};
    ms_product(&reading, 2 * BLOCK);
    solve(m, sums, n);
    for (int i = 3; i < 5; i++) ms_ahead(keyed[i], u->b, next, BLOCK, j->length, first, j->keys);
    ms_ahead(&j->v, u->b, next, BLOCK, j->length, u->channel, u->n);
    ms_ahead(&j->y, u->b, next, BLOCK, j->length, u->channel, u->n);
    ms_writing writing = {.b = m->change, .b_pitch = m->pitch, .x = m->take, .decay = m->last, .decay_step = 1, .s = m->s, .depth = j->keys, .pitch = pitch, .n = 2 * BLOCK};
    ms_write(&writing);
    for (int64_t i = 0; i < n; i++) {
        float *to = ms_at(&j->y, u->b, t + i, u->channel);
        for (int64_t c = 0; c < u->n; c += CPU_LANES) ms_store(to + c, vf_set(j->p->scale) * vf_load(y + i * pitch + c), u->n - c);
    }
}

static void run_sequence(const job *j, const ms_unit *u, float *work) {
    room m = room_at(work, j->keys, j->cut.block);
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h);
    m.v_pitch = ms_pitch(u->n);
    memset(m.s, 0, (size_t)(j->keys * m.v_pitch) * sizeof *m.s);
    if (in) ms_transpose_in(m.s, m.v_pitch, in + u->v * j->in.row, j->in.row, u->n, j->keys);
    for (int64_t t = 0; t < j->length; t += BLOCK) block(j, u, &m, t, cpu_min(BLOCK, j->length - t));
    if (out) ms_transpose_out(out + u->v * j->out.row, j->out.row, m.s, m.v_pitch, u->n, j->keys);
}

/* ---- one token ---- */

/* The decays of n keys: as they stand, or e to them in `to`. */
static const float *decays(const job *j, float *to, const float *w, int64_t n) {
    if (!j->p->log_w) return w;
    for (int64_t c = 0; c < n; c += CPU_LANES) vf_store(to + c, vf_exp(ms_load(w + c, n - c)));
    return to;
}

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

static int64_t block_of(int64_t width) {
    return cpu_min(width, 128);
}

static int64_t keys_of(const strand_plugin_node *node) {
    return node->inputs[0].dims[2] / ((const strand_op_delta_rule *)node->params)->heads;
}

uint64_t cpu_delta_rule_scratch(const cpu_device *device, const strand_plugin_node *node) {
    int64_t width = node->outputs[0].whole[2] / ((const strand_op_delta_rule *)node->params)->heads;
    return (uint64_t)cpu_workers(device) * (uint64_t)room_floats(keys_of(node), block_of(width)) * sizeof(float);
}

CPU_KERNEL(cpu_delta_rule) {
    const strand_op_delta_rule *p = node->params;
    int64_t keys = keys_of(node), length = node->outputs[0].dims[1], block = block_of(node->outputs[0].whole[2] / p->heads);
    job j = {.p = p, .work = scratch, .length = length, .keys = keys, .each = room_floats(keys, block)};
    j.r = ms_view(node, cpu_input(node, 0));
    j.w = ms_view(node, cpu_input(node, 1));
    j.k = ms_view(node, cpu_input(node, 2));
    j.v = ms_view(node, cpu_input(node, 3));
    j.a = ms_view(node, cpu_input(node, 4));
    j.b = ms_view(node, cpu_input(node, 5));
    j.y = ms_view(node, &node->outputs[0]);
    j.in = ms_state_in(node, 6);
    j.out = ms_state_out(node);
    j.cut = ms_plan(node, p->heads, block, (double)length * (double)keys * (double)block / 3);
    cpu_parallel(device, j.cut.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}

/* delta_rule.c - DELTA_RULE: RWKV-7 and gated delta networks. S <- S diag(w) + (S a) b^T + v k^T, y = scale S r.
 *
 * While a sequence runs, the state is turned over, S [K][V], so that values lie along the lanes and nothing is summed across
 * them, and blocks of BLOCK tokens pass it. With P_i the product of the block's decays up to token i, [j, i] that of those
 * after j up to i, and s_i what token i takes away (S a before it),
 *
 *   s[i] = (a[i] P_(i-1)) S + sum_{j < i} (a[i] . b[j] [j, i-1]) s[j] + (a[i] . k[j] [j, i-1]) v[j]
 *   y[i] = (r[i] P_i) S + sum_{j <= i} (r[i] . b[j] [j, i]) s[j] + (r[i] . k[j] [j, i]) v[j]
 *   S    = diag(P_last) S + sum_j (b[j] [j, last]) s[j]^T + (k[j] [j, last]) v[j]^T
 *
 * The first terms of s and y are one product of 2 BLOCK rows, the last line one of 2 BLOCK columns: 4 BLOCK + 1 instructions
 * a vector of the state instead of 5 BLOCK, and it is stored once instead of BLOCK times, which counts for more. What the next
 * block's keys give does not need the state, so that its first product can go over the state together with this block's last
 * one. Longer blocks would pay more for their pairs than they save. Decays are multiplied up one after another, which neither
 * overflows nor divides. One token alone is a step over the state as it lies in memory, [V][K]. */
#include "decay.h"
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 4
#define AHEAD 2 /* blocks before their rows are needed they are asked for */
#define SUMS  (2 * BLOCK * BLOCK) /* pairs of tokens (i, j): r with b and k, j <= i; a with both, j < i */
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

/* Rows of keys have `pitch` floats, rows of values `v_pitch`; zeros behind the last key. */
typedef struct room {
    float *s;             /* [keys][v_pitch] */
    float *look, *seen;   /* what reads the state, a[i] P_(i-1) and r[i] P_i [2 BLOCK], and what it read */
    float *change, *take; /* what changes it, b and k [2 BLOCK], and by how much: s and v */
    float *w, *last;      /* the tokens' decays, and their product */
    float *none, *ones;   /* rows behind the last token */
    float *parts, *sums;  /* the pairs, before and after their lanes are summed */
    int64_t pitch, v_pitch;
} room;

static int64_t room_floats(int64_t keys, int64_t width) {
    int64_t pitch = ms_floats(ms_pitch(keys)), v_pitch = ms_floats(ms_pitch(width));
    return ms_floats(keys * v_pitch) + 4 * BLOCK * v_pitch + (BLOCK + 2) * pitch + SUMS * CPU_LANES +
           2 * ((4 * BLOCK + 1) * pitch + SUMS);
}

/* `turn` 0 or 1: what is made of a block's keys has two places, all else one. */
static room room_at(float *p, int64_t keys, int64_t width, int64_t turn) {
    room m = {.pitch = ms_floats(ms_pitch(keys)), .v_pitch = ms_pitch(width), .s = p};
    int64_t v_room = ms_floats(m.v_pitch);
    m.seen = m.s + ms_floats(keys * v_room);
    m.take = m.seen + 2 * BLOCK * v_room;
    m.w = m.take + 2 * BLOCK * v_room;
    m.none = m.w + BLOCK * m.pitch;
    m.ones = m.none + m.pitch;
    m.parts = m.ones + m.pitch;
    m.look = m.parts + SUMS * CPU_LANES + turn * ((4 * BLOCK + 1) * m.pitch + SUMS);
    m.change = m.look + 2 * BLOCK * m.pitch;
    m.last = m.change + 2 * BLOCK * m.pitch;
    m.sums = m.last + m.pitch;
    for (int64_t c = 0; c < m.pitch; c++) m.none[c] = 0.0f, m.ones[c] = 1.0f;
    return m;
}

/* ---- a sequence ---- */

/* A block's rows of keys. Behind the last token stand zeros and decays of one. */
typedef struct given {
    const float *r[BLOCK], *w[BLOCK], *k[BLOCK], *a[BLOCK], *b[BLOCK];
} given;

CPU_INLINE given given_at(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n) {
    const int64_t first = u->h * j->keys;
    given g;
    ms_rows(g.r, BLOCK, &j->r, u->b, t, n, first, m->none);
    ms_rows(g.w, BLOCK, &j->w, u->b, t, n, first, j->p->log_w ? m->none : m->ones);
    ms_rows(g.k, BLOCK, &j->k, u->b, t, n, first, m->none);
    ms_rows(g.a, BLOCK, &j->a, u->b, t, n, first, m->none);
    ms_rows(g.b, BLOCK, &j->b, u->b, t, n, first, m->none);
    return g;
}

/* Pairs are kept token by token: token b's b and k with its own r, then with a and with r of each later token, in the order
 * in which `solve` takes them. Token b's begin at: */
CPU_INLINE int pairs_before(int b) {
    return b * (4 * BLOCK - 2 * b);
}

/* A vector of keys of token b's b and k (x, y) with the rows of itself (r) and of each later token i (a, r), to sums of
 * their own. On the way x and y take the decays up to the block's end. */
CPU_INLINE void pair(const int b, vf *x, vf *y, const vf *a, const vf *r, const vf *decay, vf *sum) {
    sum[0] = vf_fma(r[b], *x, sum[0]);
    sum[1] = vf_fma(r[b], *y, sum[1]);
    sum += 2;
#pragma GCC unroll 4
    for (int i = b + 1; i < BLOCK; i++, sum += 4) {
        sum[0] = vf_fma(a[i], *x, sum[0]);
        sum[1] = vf_fma(a[i], *y, sum[1]);
        *x *= decay[i], *y *= decay[i];
        sum[2] = vf_fma(r[i], *x, sum[2]);
        sum[3] = vf_fma(r[i], *y, sum[3]);
    }
}

/* What reads the state, since every product of decays is met on the way; the decays themselves; and the pairs of the first
 * token. */
CPU_INLINE void first_pairs(const given *g, const room *m, int64_t keys, const bool log_w, const bool whole) {
    float *look = m->look, *change = m->change, *last = m->last, *w = m->w;
    const int64_t step = m->pitch;
    vf sum[4 * BLOCK - 2];
#pragma GCC unroll 16
    for (int e = 0; e < 4 * BLOCK - 2; e++) sum[e] = vf_zero();
    for (int64_t c = 0; c < keys; c += CPU_LANES) {
        int64_t left = whole ? CPU_LANES : keys - c;
        vf a[BLOCK], r[BLOCK], decay[BLOCK], product = vf_set(1.0f), x = ms_load(g->b[0] + c, left),
                                             y = ms_load(g->k[0] + c, left);
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i++) {
            decay[i] = ms_load(g->w[i] + c, left);
            if (log_w) decay[i] = vf_exp2(decay[i] * CPU_LOG2_E);
        }
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i++) {
            a[i] = ms_load(g->a[i] + c, left);
            r[i] = ms_load(g->r[i] + c, left);
            vf_store(look + i * step + c, a[i] * product);
            product *= decay[i];
            vf_store(look + (BLOCK + i) * step + c, r[i] * product);
            if (i > 1) vf_store(w + i * step + c, decay[i]);
        }
        vf_store(last + c, product);
        pair(0, &x, &y, a, r, decay, sum);
        vf_store(change + c, x);
        vf_store(change + BLOCK * step + c, y);
    }
#pragma GCC unroll 16
    for (int e = 0; e < 4 * BLOCK - 2; e++) vf_store(m->parts + e * CPU_LANES, sum[e]);
}

/* The pairs of tokens [from, to), as many as the registers hold. */
CPU_INLINE void later_pairs(const given *g, const room *m, int64_t keys, const int from, const int to, const bool whole) {
    float *change = m->change, *w = m->w, *parts = m->parts + pairs_before(from) * CPU_LANES;
    const int64_t step = m->pitch;
    const int count = pairs_before(to) - pairs_before(from);
    vf sum[SUMS];
#pragma GCC unroll 32
    for (int e = 0; e < count; e++) sum[e] = vf_zero();
    for (int64_t c = 0; c < keys; c += CPU_LANES) {
        int64_t left = whole ? CPU_LANES : keys - c;
        vf a[BLOCK], r[BLOCK], decay[BLOCK];
#pragma GCC unroll 4
        for (int i = from; i < BLOCK; i++) {
            r[i] = ms_load(g->r[i] + c, left);
            if (i > from) a[i] = ms_load(g->a[i] + c, left), decay[i] = vf_load(w + i * step + c);
        }
#pragma GCC unroll 4
        for (int b = from; b < to; b++) {
            vf x = ms_load(g->b[b] + c, left), y = ms_load(g->k[b] + c, left);
            pair(b, &x, &y, a, r, decay, sum + pairs_before(b) - pairs_before(from));
            vf_store(change + b * step + c, x);
            vf_store(change + (BLOCK + b) * step + c, y);
        }
    }
#pragma GCC unroll 32
    for (int e = 0; e < count; e++) vf_store(parts + e * CPU_LANES, sum[e]);
}

CPU_INLINE void all_pairs(const given *g, const room *m, int64_t keys, const bool log_w, const bool whole) {
    first_pairs(g, m, keys, log_w, whole);
#if CPU_LANES == 16
    later_pairs(g, m, keys, 1, 4, whole);
#else
    later_pairs(g, m, keys, 1, 2, whole);
    later_pairs(g, m, keys, 2, 4, whole);
#endif
}

static __attribute__((noinline)) void pairs(const job *j, const given *g, const room *m) {
    if (j->keys % CPU_LANES)
        all_pairs(g, m, j->keys, j->p->log_w, false);
    else if (j->p->log_w)
        all_pairs(g, m, j->keys, true, true);
    else
        all_pairs(g, m, j->keys, false, true);
    for (int64_t group = 0; group < SUMS; group += CPU_LANES) {
        vf lanes[CPU_LANES];
        for (int e = 0; e < CPU_LANES; e++) lanes[e] = vf_load(m->parts + (group + e) * CPU_LANES);
        vf_store(m->sums + group, vf_sums_of_rows(lanes));
    }
}

/* s and y of the block's n tokens from what was read, one after another: s and v to `take`, y to its place. Behind the last
 * token s and v are zero: what a row of zeros read may be no number. */
CPU_INLINE void solve(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n, const bool whole) {
    const float *sums = m->sums, *seen = m->seen, *from = ms_at(&j->v, u->b, t, u->channel);
    const int64_t pitch = m->v_pitch, step = j->y.token, v_step = j->v.token;
    float *take = m->take, *to = ms_at(&j->y, u->b, t, u->channel);
    const vf scale = vf_set(j->p->scale);
    for (int64_t c = 0; c < pitch; c += CPU_LANES) {
        const int64_t left = whole ? CPU_LANES : u->n - c;
        vf s[BLOCK], y[BLOCK], v[BLOCK];
#pragma GCC unroll 4
        for (int i = 0; i < BLOCK; i++) {
            s[i] = vf_load(seen + i * pitch + c), y[i] = vf_load(seen + (BLOCK + i) * pitch + c);
            v[i] = i < n ? ms_load(from + i * v_step + c, left) : vf_zero();
        }
#pragma GCC unroll 4
        for (int b = 0; b < BLOCK; b++) {
            const float *by = sums + pairs_before(b);
            y[b] = vf_fma(vf_set(by[0]), s[b], vf_fma(vf_set(by[1]), v[b], y[b]));
            by += 2;
#pragma GCC unroll 4
            for (int i = b + 1; i < BLOCK; i++, by += 4) {
                s[i] = vf_fma(vf_set(by[0]), s[b], vf_fma(vf_set(by[1]), v[b], s[i]));
                y[i] = vf_fma(vf_set(by[2]), s[b], vf_fma(vf_set(by[3]), v[b], y[i]));
            }
            vf_store(take + b * pitch + c, b < n ? s[b] : vf_zero());
            vf_store(take + (BLOCK + b) * pitch + c, v[b]);
            if (b < n) ms_store(to + b * step + c, scale * y[b], left);
        }
    }
}

/* The rows of the tokens from t on, those of one block after the other from AHEAD on; past the end, where the state will be
 * left. */
CPU_INLINE void look_ahead(const job *j, const ms_unit *u, int64_t t, ms_later *l) {
    const int64_t first = u->h * j->keys, n = cpu_min(BLOCK, j->length - t);
    if (n == BLOCK && t > AHEAD * BLOCK) {
        ms_move_on(l);
        return;
    }
    l->asking.asks = l->asking.done = 0;
    if (n > 0) {
        ms_ask_rows(l, &j->r, u->b, t, n, BLOCK, first, j->keys);
        ms_ask_rows(l, &j->w, u->b, t, n, BLOCK, first, j->keys);
        ms_ask_rows(l, &j->a, u->b, t, n, BLOCK, first, j->keys);
        ms_ask_rows(l, &j->b, u->b, t, n, BLOCK, first, j->keys);
        ms_ask_rows(l, &j->k, u->b, t, n, BLOCK, first, j->keys);
        ms_ask_rows(l, &j->v, u->b, t, n, BLOCK, u->channel, u->n);
        ms_ask_rows(l, &j->y, u->b, t, n, BLOCK, u->channel, u->n);
    } else if (j->out.data) {
        int64_t share = (u->n + AHEAD - 1) / AHEAD, row = (t - j->length) / BLOCK * share;
        for (int64_t end = cpu_min(u->n, row + share); row < end; row++)
            ms_will_ask(&l->asking, ms_head(&j->out, u->b, u->h) + (u->v + row) * j->out.row, j->keys);
    }
}

/* The products keep all registers busy: each is compiled by itself. */
static __attribute__((noinline)) void read_state(const ms_reading *m) {
    ms_product(m, 2 * BLOCK);
}
static __attribute__((noinline)) void write_state(const ms_writing *m) {
    ms_write(m);
}

/* What a block's keys give, in one of two places: those of the next block are made before this one changes the state. */
static void prepare(const job *j, const ms_unit *u, const room *m, int64_t t) {
    given g = given_at(j, u, m, t, cpu_min(BLOCK, j->length - t));
    pairs(j, &g, m);
}

static void solve_block(const job *j, const ms_unit *u, const room *m, int64_t t) {
    if (t + BLOCK <= j->length && u->n == m->v_pitch)
        solve(j, u, m, t, BLOCK, true);
    else
        solve(j, u, m, t, cpu_min(BLOCK, j->length - t), false);
}

static void run_sequence(const job *j, const ms_unit *u, float *work) {
    room m[2] = {room_at(work, j->keys, j->cut.block, 0), room_at(work, j->keys, j->cut.block, 1)};
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h), *s = m->s;
    const int64_t pitch = m[0].v_pitch = m[1].v_pitch = ms_pitch(u->n);
    memset(s, 0, (size_t)(j->keys * pitch) * sizeof *s);
    if (in) ms_transpose_in(s, pitch, in + u->v * j->in.row, j->in.row, u->n, j->keys);
    ms_later later;
    ms_reading reading = {.q_pitch = m->pitch, .depth = j->keys, .s = s, .pitch = pitch, .y = m->seen, .asking = &later.asking};
    ms_writing writing = {.b_pitch = m->pitch, .x = m->take, .decay_step = 1, .s = s, .depth = j->keys, .pitch = pitch,
                          .n = 2 * BLOCK};
    prepare(j, u, m, 0);
    look_ahead(j, u, AHEAD * BLOCK, &later);
    reading.q = m->look;
    read_state(&reading);
    for (int64_t t = 0, turn = 0; t < j->length; t += BLOCK, turn = !turn) {
        solve_block(j, u, &m[turn], t);
        writing.b = m[turn].change, writing.decay = m[turn].last;
        if (t + BLOCK >= j->length) {
            write_state(&writing);
            break;
        }
        prepare(j, u, &m[!turn], t + BLOCK);
        look_ahead(j, u, t + (AHEAD + 1) * BLOCK, &later);
        reading.q = m[!turn].look;
#ifdef MS_BOTH
        if (j->keys == MS_BOTH && pitch == MS_BOTH) {
            ms_write_and_read(&writing, &reading);
            continue;
        }
#endif
        write_state(&writing);
        read_state(&reading);
    }
    if (out) ms_transpose_out(out + u->v * j->out.row, j->out.row, s, pitch, u->n, j->keys);
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
        for (int i = 0; i < vectors; i++)
            sums[e] = vf_fma(ms_load(s->in + e * s->in_row + c + i * CPU_LANES, s->n - c), a[i], sums[e]);
}

/* The same keys of the rows anew, and sums[e] += row e times r. */
CPU_INLINE void change(const rows *s, int64_t c, const int vectors, const float *value, const float *removed,
                       vf sums[CPU_LANES]) {
    vf w[VECTORS], b[VECTORS], k[VECTORS], r[VECTORS];
    for (int i = 0; i < vectors; i++) {
        int64_t at = c + i * CPU_LANES;
        w[i] = ms_load(s->w + at, s->n - c), b[i] = ms_load(s->b + at, s->n - c), k[i] = ms_load(s->k + at, s->n - c),
        r[i] = ms_load(s->r + at, s->n - c);
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
    s.a = ms_at(&j->a, u->b, 0, first), s.b = ms_at(&j->b, u->b, 0, first), s.k = ms_at(&j->k, u->b, 0, first),
    s.r = ms_at(&j->r, u->b, 0, first);
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

/* gated_linear_attention.c - GATED_LINEAR_ATTENTION: a decay for each key (GLA, RWKV-5/6). A head's state S [K][V] stays in
 * working memory while blocks of BLOCK tokens pass. With P_i the product of the decays of the block up to token i (before
 * it, with u) and R_j that of those after token j,
 *
 *   y[i] = (q[i] P_i) S + sum_{j <= i} a_ij v[j],   a_ij = sum over keys of q[i] k[j] (decays between j and i)
 *   S    = diag(P_last) S + sum_j (k[j] R_j) v[j]^T
 *
 * The work is 2 BLOCK + 1 instructions a vector of the state instead of 3 BLOCK. P, R and a come about together: of two
 * neighbouring stretches of tokens, the later one's queries have the decays from its begin on and the earlier one's keys those
 * up to its end; their products are the stretch's a; then each takes the other's decays, and the two are one. Nothing
 * overflows or divides, and no token meets a later one's decay. What the next block's keys give does not need the state, so
 * that its first product can go over the state together with this block's last one. One token alone is a step over the state
 * as it lies in memory. */
#include "decay.h"
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 8
#define HALF  4
#define AHEAD 1  /* blocks before their rows are needed they are asked for */
#define SUMS  48 /* of the pairs (i, j), j <= i: see pair_at */

typedef struct job {
    const strand_op_gated_linear_attention *p;
    ms_cut cut;
    ms_tokens q, k, v, w, u, y;
    ms_state in, out;
    int64_t length, keys, each;
    float *work;
} job;

/* Rows of keys have `pitch` floats, rows of values `v_pitch`; zeros behind the last key. */
typedef struct room {
    float *s;              /* [keys][v_pitch] */
    float *q, *seen;       /* q[i] P_i [BLOCK], and what it read of the state */
    float *k, *v;          /* k[j] R_j [BLOCK] and v */
    float *last, *halves;  /* P_last; the products of each half's decays [2] */
    float *sums;           /* a */
    float *none, *ones;    /* rows behind the last token */
    float *w, *power;      /* decays that are the same for all tokens, and those of a block of them */
    int64_t pitch, v_pitch;
} room;

static int64_t room_floats(int64_t keys, int64_t width) {
    int64_t pitch = ms_floats(ms_pitch(keys)), v_pitch = ms_floats(ms_pitch(width));
    return ms_floats(keys * v_pitch) + 2 * BLOCK * v_pitch + (3 * BLOCK + 8) * pitch + SUMS;
}

/* `turn` 0 or 1: what changes the state has two places, all else one. */
static room room_at(float *p, int64_t keys, int64_t width, int64_t turn) {
    room m = {.pitch = ms_floats(ms_pitch(keys)), .v_pitch = ms_pitch(width), .s = p};
    int64_t v_room = ms_floats(m.v_pitch);
    m.seen = m.s + ms_floats(keys * v_room);
    m.v = m.seen + BLOCK * v_room;
    m.q = m.v + BLOCK * v_room;
    m.halves = m.q + BLOCK * m.pitch;
    m.none = m.halves + 2 * m.pitch;
    m.ones = m.none + m.pitch;
    m.w = m.ones + m.pitch;
    m.power = m.w + m.pitch;
    m.sums = m.power + m.pitch;
    m.k = m.sums + SUMS + turn * (BLOCK + 1) * m.pitch;
    m.last = m.k + BLOCK * m.pitch;
    for (int64_t c = 0; c < m.pitch; c++) m.none[c] = 0.0f, m.ones[c] = 1.0f;
    return m;
}

/* The decays of n keys from their logarithms, in `to`. */
static const float *decays(float *to, const float *w, int64_t n) {
    for (int64_t c = 0; c < n; c += CPU_LANES) vf_store(to + c, vf_exp(ms_load(w + c, n - c)));
    return to;
}

/* w to the power of BLOCK, rounded once: what a product of floats is off by would be so again in every block. */
static void block_power(float *to, const float *w, int64_t n) {
    for (int64_t c = 0; c < n; c++) {
        double power = (double)w[c];
        for (int i = 1; i < BLOCK; i *= 2) power *= power;
        to[c] = (float)power;
    }
}

/* ---- a sequence ---- */

/* A block's rows of keys. Behind the last token stand zeros and decays of one. */
typedef struct given {
    const float *q[BLOCK], *k[BLOCK], *w[BLOCK], *u;
    vf scale;
    bool log_w;
} given;

CPU_INLINE given given_at(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n) {
    const int64_t first = u->h * j->keys;
    given g = {.u = j->u.data ? ms_at(&j->u, 0, 0, first) : NULL,
               .scale = vf_set(j->p->scale),
               .log_w = j->p->log_w && j->w.token};
    ms_rows(g.q, BLOCK, &j->q, u->b, t, n, first, m->none);
    ms_rows(g.k, BLOCK, &j->k, u->b, t, n, first, m->none);
    if (j->w.token)
        ms_rows(g.w, BLOCK, &j->w, u->b, t, n, first, j->p->log_w ? m->none : m->ones);
    else
        for (int i = 0; i < BLOCK; i++) g.w[i] = i < n ? m->w : m->ones;
    return g;
}

/* Where a_ij stands among the sums: those of the first half, of the second one, and those between the two. */
CPU_INLINE int pair_at(int i, int j) {
    int base = i / HALF * 16, row = i % HALF, column = j % HALF;
    if (i / HALF != j / HALF) return 32 + row * HALF + column;
    if (row == column) return base + row;
    return base + ((row ^ column) == 1 ? 4 + row / 2 : 6 + (row - 2) * 2 + column);
}

/* Half of a block, tokens [b, b + HALF): its pairs; its queries and keys with the half's own decays, and their product. */
CPU_INLINE void half(const given *g, const room *m, int64_t keys, ms_asking *asking, const int b, const bool bonus,
                     const bool log_w, const bool whole) {
    const int64_t step = m->pitch;
    float *to_q = m->q + b * step, *to_k = m->k + b * step, *product = m->halves + b / HALF * step;
    vf sum[16];
#pragma GCC unroll 16
    for (int e = 0; e < 16; e++) sum[e] = vf_zero();
    for (int64_t c = 0; c < keys; c += CPU_LANES) {
        const int64_t left = whole ? CPU_LANES : keys - c;
        vf q[HALF], k[HALF], w[HALF];
#pragma GCC unroll 4
        for (int i = 0; i < HALF; i++) {
            w[i] = ms_load(g->w[b + i] + c, left);
            if (log_w) w[i] = vf_exp2(w[i] * CPU_LOG2_E);
        }
#pragma GCC unroll 4
        for (int i = 0; i < HALF; i++) q[i] = g->scale * ms_load(g->q[b + i] + c, left), k[i] = ms_load(g->k[b + i] + c, left);
        vf u = bonus ? ms_load(g->u + c, left) : vf_zero();
#pragma GCC unroll 4
        for (int i = 0; i < HALF; i++) {
            sum[i] = vf_fma(q[i], bonus ? u * k[i] : k[i], sum[i]);
            if (!bonus) q[i] *= w[i];
        }
#pragma GCC unroll 2
        for (int i = 0; i < HALF; i += 2) {
            sum[4 + i / 2] = vf_fma(q[i + 1], k[i], sum[4 + i / 2]);
            q[i + 1] *= w[i], k[i] *= w[i + 1], w[i] *= w[i + 1];
        }
#pragma GCC unroll 4
        for (int e = 0; e < 4; e++) sum[6 + e] = vf_fma(q[2 + e / 2], k[e % 2], sum[6 + e]);
        q[2] *= w[0], q[3] *= w[0], k[0] *= w[2], k[1] *= w[2];
        vf_store(product + c, w[0] * w[2]);
#pragma GCC unroll 4
        for (int i = 0; i < HALF; i++) vf_store(to_q + i * step + c, q[i]), vf_store(to_k + i * step + c, k[i]);
        if (asking) ms_ask(asking);
    }
    for (int e = 0; e < 16; e += CPU_LANES) vf_store(m->sums + b / HALF * 16 + e, vf_sums_of_rows(sum + e));
}

/* Both halves of a block: the pairs between them, their decays to one another, and those of the whole block. `rows` queries
 * at a time, as the registers allow. */
CPU_INLINE void between(const room *m, int64_t keys, const int rows) {
    const int64_t step = m->pitch;
    const float *product = m->halves;
    for (int from = 0; from < HALF; from += rows) {
        float *q = m->q + (HALF + from) * step, *k = m->k;
        vf sum[HALF * HALF];
#pragma GCC unroll 16
        for (int e = 0; e < rows * HALF; e++) sum[e] = vf_zero();
        for (int64_t c = 0; c < keys; c += CPU_LANES) {
            const vf before = vf_load(product + c), behind = vf_load(product + step + c);
            vf one[HALF];
#pragma GCC unroll 4
            for (int j = 0; j < HALF; j++) one[j] = vf_load(k + j * step + c);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) {
                vf x = vf_load(q + i * step + c);
#pragma GCC unroll 4
                for (int j = 0; j < HALF; j++) sum[i * HALF + j] = vf_fma(x, one[j], sum[i * HALF + j]);
                vf_store(q + i * step + c, x * before);
            }
            if (from + rows < HALF) continue;
#pragma GCC unroll 4
            for (int j = 0; j < HALF; j++) vf_store(k + j * step + c, one[j] * behind);
            vf_store(m->last + c, before * behind);
        }
        for (int e = 0; e < rows * HALF; e += CPU_LANES)
            vf_store(m->sums + 32 + from * HALF + e, vf_sums_of_rows(sum + e));
    }
}

CPU_INLINE void both_halves(const given *g, const room *m, int64_t keys, ms_asking *asking, const bool bonus, const bool log_w,
                            const bool whole) {
    half(g, m, keys, asking, 0, bonus, log_w, whole);
    half(g, m, keys, asking, HALF, bonus, log_w, whole);
}

/* What a block's rows of keys give. */
static __attribute__((noinline)) void pairs(const job *j, const given *g, const room *m, ms_asking *asking) {
    if (j->keys % CPU_LANES)
        both_halves(g, m, j->keys, asking, g->u != NULL, g->log_w, false);
    else if (g->u && g->log_w)
        both_halves(g, m, j->keys, asking, true, true, true);
    else if (g->u)
        both_halves(g, m, j->keys, asking, true, false, true);
    else if (g->log_w)
        both_halves(g, m, j->keys, asking, false, true, true);
    else
        both_halves(g, m, j->keys, asking, false, false, true);
    between(m, j->keys, CPU_LANES == 16 ? HALF : CPU_LANES / HALF);
}

/* y of the block's n tokens from what was read, to its place; v to where it is taken from. Behind the last token v is zero. */
CPU_INLINE void finish(const job *j, const ms_unit *u, const room *m, int64_t t, int64_t n, const bool whole) {
    const float *sums = m->sums, *seen = m->seen, *from = ms_at(&j->v, u->b, t, u->channel);
    const int64_t pitch = m->v_pitch, step = j->y.token, v_step = j->v.token;
    float *take = m->v, *to = ms_at(&j->y, u->b, t, u->channel);
    for (int64_t c = 0; c < pitch; c += CPU_LANES) {
        const int64_t left = whole ? CPU_LANES : u->n - c;
        vf y[BLOCK], v[BLOCK];
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK; i++) {
            y[i] = vf_load(seen + i * pitch + c);
            v[i] = i < n ? ms_load(from + i * v_step + c, left) : vf_zero();
        }
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK; i++) {
#pragma GCC unroll 8
            for (int b = 0; b <= i; b++) y[i] = vf_fma(vf_set(sums[pair_at(i, b)]), v[b], y[i]);
            vf_store(take + i * pitch + c, v[i]);
            if (i < n) ms_store(to + i * step + c, y[i], left);
        }
    }
}

static void finish_block(const job *j, const ms_unit *u, const room *m, int64_t t) {
    if (t + BLOCK <= j->length && u->n == m->v_pitch)
        finish(j, u, m, t, BLOCK, true);
    else
        finish(j, u, m, t, cpu_min(BLOCK, j->length - t), false);
}

/* The rows of the tokens from t on, those of one block after the other from AHEAD on. */
static void look_ahead(const job *j, const ms_unit *u, int64_t t, ms_later *l) {
    const int64_t first = u->h * j->keys, n = cpu_min(BLOCK, j->length - t);
    if (n == BLOCK && t > AHEAD * BLOCK) {
        ms_move_on(l);
        return;
    }
    l->asking.asks = l->asking.done = 0;
    if (n <= 0) return;
    ms_ask_rows(l, &j->q, u->b, t, n, BLOCK, first, j->keys);
    ms_ask_rows(l, &j->k, u->b, t, n, BLOCK, first, j->keys);
    if (j->w.token) ms_ask_rows(l, &j->w, u->b, t, n, BLOCK, first, j->keys);
    ms_ask_rows(l, &j->v, u->b, t, n, BLOCK, u->channel, u->n);
    ms_ask_rows(l, &j->y, u->b, t, n, BLOCK, u->channel, u->n);
}

static void prepare(const job *j, const ms_unit *u, const room *m, int64_t t, ms_asking *asking) {
    given g = given_at(j, u, m, t, cpu_min(BLOCK, j->length - t));
    pairs(j, &g, m, asking);
}

/* The products keep all registers busy: each is compiled by itself. */
static __attribute__((noinline)) void read_state(const ms_reading *m) {
    ms_product(m, BLOCK);
}
static __attribute__((noinline)) void write_state(const ms_writing *m) {
    ms_write(m);
}

static void run_sequence(const job *j, const ms_unit *u, float *work) {
    room m[2] = {room_at(work, j->keys, j->cut.block, 0), room_at(work, j->keys, j->cut.block, 1)};
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h), *s = m->s;
    const int64_t pitch = m[0].v_pitch = m[1].v_pitch = ms_pitch(u->n);
    if (in)
        ms_rows_in(s, pitch, in + u->v, j->in.row, j->keys, u->n);
    else
        memset(s, 0, (size_t)(j->keys * pitch) * sizeof *s);
    if (!j->w.token) {
        const float *w = ms_at(&j->w, u->b, 0, u->h * j->keys);
        ms_rows_in(m->w, m->pitch, j->p->log_w ? decays(m->w, w, j->keys) : w, 0, 1, j->keys);
        block_power(m->power, m->w, j->keys);
    }
    ms_later later;
    ms_reading reading = {.q = m->q, .q_pitch = m->pitch, .depth = j->keys, .s = s, .pitch = pitch, .y = m->seen,
                          .asking = &later.asking};
    ms_writing writing = {.b_pitch = m->pitch, .x = m->v, .decay_step = 1, .s = s, .depth = j->keys, .pitch = pitch,
                          .n = BLOCK};
    look_ahead(j, u, AHEAD * BLOCK, &later);
    prepare(j, u, m, 0, &later.asking);
    read_state(&reading);
    for (int64_t t = 0, turn = 0; t < j->length; t += BLOCK, turn = !turn) {
        finish_block(j, u, &m[turn], t);
        writing.b = m[turn].k;
        writing.decay = !j->w.token && t + BLOCK <= j->length ? m->power : m[turn].last;
        if (t + BLOCK >= j->length) {
            write_state(&writing);
            break;
        }
        look_ahead(j, u, t + (AHEAD + 1) * BLOCK, &later);
        prepare(j, u, &m[!turn], t + BLOCK, &later.asking);
#ifdef MS_BOTH
        if (j->keys == MS_BOTH && pitch == MS_BOTH) {
            ms_write_and_read(&writing, &reading);
            continue;
        }
#endif
        write_state(&writing);
        read_state(&reading);
    }
    if (out) ms_rows_out(out + u->v, j->out.row, s, pitch, j->keys, u->n);
}

/* ---- one token ---- */

/* Columns [c, c + n) of the state, n of at most `vectors` vectors, down all keys. */
CPU_INLINE void step_columns(const job *j, const ms_unit *u, int64_t c, int64_t n, const int vectors, const float *w) {
    int64_t first = u->h * j->keys;
    const float *q = ms_at(&j->q, u->b, 0, first), *k = ms_at(&j->k, u->b, 0, first),
                *bonus = j->u.data ? ms_at(&j->u, 0, 0, first) : NULL;
    const float *in = ms_head(&j->in, u->b, u->h), *v = ms_at(&j->v, u->b, 0, u->channel + c);
    float *out = ms_head(&j->out, u->b, u->h), *y = ms_at(&j->y, u->b, 0, u->channel + c), own = 0.0f;
    vf value[4], sum[4];
    for (int e = 0; e < vectors; e++) {
        value[e] = ms_load(v + e * CPU_LANES, n - e * CPU_LANES);
        sum[e] = vf_zero();
    }
    for (int64_t i = 0; i < j->keys; i++) {
        vf query = vf_set(q[i]), key = vf_set(k[i]), decay = vf_set(w[i]);
        if (bonus) own += q[i] * (bonus[i] * k[i]);
        for (int e = 0; e < vectors; e++) {
            int64_t left = n - e * CPU_LANES;
            vf s = in ? ms_load(in + i * j->in.row + u->v + c + e * CPU_LANES, left) : vf_zero();
            vf next = vf_fma(key, value[e], decay * s);
            sum[e] = vf_fma(query, bonus ? s : next, sum[e]);
            if (out) ms_store(out + i * j->out.row + u->v + c + e * CPU_LANES, next, left);
        }
    }
    for (int e = 0; e < vectors; e++)
        ms_store(y + e * CPU_LANES, vf_set(j->p->scale) * (bonus ? vf_fma(vf_set(own), value[e], sum[e]) : sum[e]),
                 n - e * CPU_LANES);
}

static void run_step(const job *j, const ms_unit *u, float *work) {
    const float *w = ms_at(&j->w, u->b, 0, u->h * j->keys);
    if (j->p->log_w) w = decays(work, w, j->keys);
    int64_t c = 0;
    for (; c + 4 * CPU_LANES <= u->n; c += 4 * CPU_LANES) step_columns(j, u, c, 4 * CPU_LANES, 4, w);
    for (; c < u->n; c += CPU_LANES) step_columns(j, u, c, cpu_min(CPU_LANES, u->n - c), 1, w);
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

uint64_t cpu_gated_linear_attention_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const strand_op_gated_linear_attention *p = node->params;
    int64_t keys = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads;
    return (uint64_t)cpu_workers(device) * (uint64_t)room_floats(keys, block_of(width)) * sizeof(float);
}

CPU_KERNEL(cpu_gated_linear_attention) {
    const strand_op_gated_linear_attention *p = node->params;
    int64_t keys = node->inputs[0].dims[2] / p->heads, width = node->outputs[0].whole[2] / p->heads,
            length = node->outputs[0].dims[1];
    job j = {.p = p, .work = scratch, .length = length, .keys = keys, .each = room_floats(keys, block_of(width))};
    j.q = ms_view(node, cpu_input(node, 0));
    j.k = ms_view(node, cpu_input(node, 1));
    j.v = ms_view(node, cpu_input(node, 2));
    j.w = ms_view(node, cpu_input(node, 3));
    j.u = ms_view(node, cpu_input(node, 4));
    j.y = ms_view(node, &node->outputs[0]);
    j.in = ms_state_in(node, 5);
    j.out = ms_state_out(node);
    j.cut = ms_plan(node, p->heads, block_of(width), (double)length * (double)keys * (double)block_of(width) / 6);
    cpu_parallel(device, j.cut.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}

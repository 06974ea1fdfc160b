/* gated_linear_attention.c - GATED_LINEAR_ATTENTION: a decay for each key (GLA, RWKV-5/6). A head's state S [K][V] stays in
 * working memory while blocks of BLOCK tokens pass. With P_i the product of the decays of the block up to token i (before
 * it, with u) and R_j that of those after token j,
 *
 *   y[i] = (q[i] P_i) S + sum_{j <= i} a_ij v[j],   a_ij = sum over keys of q[i] k[j] (decays between j and i)
 *   S    = diag(P_last) S + sum_j (k[j] R_j) v[j]^T
 *
 * The decays between two tokens are multiplied up one after another, which neither overflows nor divides. The work is 2
 * BLOCK + 1 instructions a vector of the state instead of 3 BLOCK. One token alone is a step over the state as it lies in
 * memory. */
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 8
#define PAIRS (BLOCK * (BLOCK + 1) / 2) /* (i, j), j <= i, as they follow one another: j outside */

typedef struct job {
    const strand_op_gated_linear_attention *p;
    ms_cut cut;
    ms_tokens q, k, v, w, u, y;
    ms_state in, out;
    int64_t length, keys, each;
    float *work;
} job;

/* Rows of keys have `pitch` floats, zeros (decays: ones) behind the last key and in rows behind the last token. */
typedef struct room {
    float *s, *v, *y, *q, *k, *w, *u, *last, *a, *parts; /* last: P_last; a [BLOCK][BLOCK]; parts: lanes of each pair */
    int64_t pitch, v_pitch;
} room;

static int64_t room_floats(int64_t keys, int64_t width) {
    int64_t pitch = ms_floats(ms_pitch(keys)), v_pitch = ms_floats(ms_pitch(width));
    return ms_floats(keys * v_pitch) + 2 * BLOCK * v_pitch + (3 * BLOCK + 2) * pitch + BLOCK * BLOCK +
           ms_pitch(PAIRS) * CPU_LANES;
}

static room room_at(float *p, int64_t keys, int64_t width) {
    room r = {.pitch = ms_floats(ms_pitch(keys)), .v_pitch = ms_pitch(width), .s = p};
    int64_t v_room = ms_floats(r.v_pitch);
    r.v = r.s + ms_floats(keys * v_room);
    r.y = r.v + BLOCK * v_room;
    r.q = r.y + BLOCK * v_room;
    r.k = r.q + BLOCK * r.pitch;
    r.w = r.k + BLOCK * r.pitch;
    r.u = r.w + BLOCK * r.pitch;
    r.last = r.u + r.pitch;
    r.a = r.last + r.pitch;
    r.parts = r.a + BLOCK * BLOCK;
    return r;
}

/* ---- blocks ---- */

/* A row of decays of n keys; ones behind them. */
static void decays(const job *j, float *to, const float *w, int64_t n) {
    for (int64_t c = 0; c < n; c += CPU_LANES) {
        float lanes[CPU_LANES];
        vf x = ms_load(w + c, n - c);
        if (j->p->log_w) x = vf_exp(x);
        if (n - c < CPU_LANES) {
            vf_store(lanes, x);
            for (int64_t e = n - c; e < CPU_LANES; e++) lanes[e] = 1.0f;
            x = vf_load(lanes);
        }
        vf_store(to + c, x);
    }
}

/* Rows of queries, times scale, and of keys and decays of n tokens from t on; decays that are the same for all are there
 * already. */
static void load(const job *j, const ms_unit *u, const room *r, int64_t t, int64_t n) {
    vf scale = vf_set(j->p->scale);
    int64_t first = u->h * j->keys;
    for (int64_t i = 0; i < BLOCK; i++) {
        float *q = r->q + i * r->pitch, *k = r->k + i * r->pitch, *w = r->w + i * r->pitch;
        const float *from_q = i < n ? ms_at(&j->q, u->b, t + i, first) : NULL,
                    *from_k = i < n ? ms_at(&j->k, u->b, t + i, first) : NULL;
        for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
            vf_store(q + c, from_q ? scale * ms_load(from_q + c, j->keys - c) : vf_zero());
            vf_store(k + c, from_k ? ms_load(from_k + c, j->keys - c) : vf_zero());
            if (i >= n) vf_store(w + c, vf_set(1.0f));
        }
        if (i < n && j->w.token) decays(j, w, ms_at(&j->w, u->b, t + i, first), j->keys);
    }
}

/* a from q, k and decays as they came: each pair's lanes first, then their sums. */
static void pairs(const job *j, const room *r) {
    bool bonus = j->u.data != NULL;
    int64_t at = 0, step = r->pitch;
    for (int64_t b = 0; b < BLOCK; b++) {
        vf sum[BLOCK];
        for (int64_t i = 0; i < BLOCK; i++) sum[i] = vf_zero();
        for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
            const float *q = r->q + c, *w = r->w + c;
            vf d = vf_load(r->k + b * step + c);
            sum[b] = vf_fma(vf_load(q + b * step), bonus ? d * vf_load(r->u + c) : d, sum[b]);
            if (bonus)
                for (int64_t i = b + 1; i < BLOCK; i++) {
                    sum[i] = vf_fma(vf_load(q + i * step), d, sum[i]);
                    d *= vf_load(w + i * step);
                }
            else
                for (int64_t i = b + 1; i < BLOCK; i++) {
                    d *= vf_load(w + i * step);
                    sum[i] = vf_fma(vf_load(q + i * step), d, sum[i]);
                }
        }
        for (int64_t i = b; i < BLOCK; i++) vf_store(r->parts + at++ * CPU_LANES, sum[i]);
    }
    float sums[(PAIRS + CPU_LANES - 1) / CPU_LANES * CPU_LANES];
    for (; at % CPU_LANES; at++) vf_store(r->parts + at * CPU_LANES, vf_zero());
    for (int64_t group = 0; group < at; group += CPU_LANES) {
        vf lanes[CPU_LANES];
        for (int e = 0; e < CPU_LANES; e++) lanes[e] = vf_load(r->parts + (group + e) * CPU_LANES);
        vf_store(sums + group, vf_sums_of_rows(lanes));
    }
    at = 0;
    for (int64_t b = 0; b < BLOCK; b++)
        for (int64_t i = 0; i < BLOCK; i++) r->a[i * BLOCK + b] = i < b ? 0.0f : sums[at++];
}

/* q[i] *= P_i, k[j] *= R_j, last = P_last. */
static void carry(const job *j, const room *r) {
    bool bonus = j->u.data != NULL;
    for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
        vf product = vf_set(1.0f);
        for (int64_t i = 0; i < BLOCK; i++) {
            float *q = r->q + i * r->pitch + c;
            vf before = product;
            product *= vf_load(r->w + i * r->pitch + c);
            vf_store(q, vf_load(q) * (bonus ? before : product));
        }
        vf_store(r->last + c, product);
        product = vf_set(1.0f);
        for (int64_t i = BLOCK - 1; i >= 0; i--) {
            float *k = r->k + i * r->pitch + c;
            vf_store(k, vf_load(k) * product);
            product *= vf_load(r->w + i * r->pitch + c);
        }
    }
}

static void block(const job *j, const ms_unit *u, const room *r, int64_t t, int64_t n) {
    int64_t first = u->h * j->keys;
    int64_t next = t + BLOCK;
    load(j, u, r, t, n);
    ms_ahead(&j->q, u->b, next, BLOCK, j->length, first, j->keys);
    pairs(j, r);
    ms_ahead(&j->k, u->b, next, BLOCK, j->length, first, j->keys);
    carry(j, r);
    ms_ahead(&j->w, u->b, next, BLOCK, j->length, first, j->keys);
    ms_rows_in(r->v, r->v_pitch, ms_at(&j->v, u->b, t, u->channel), j->v.token, n, u->n);
    for (int64_t i = n; i < BLOCK; i++) memset(r->v + i * r->v_pitch, 0, (size_t)r->v_pitch * sizeof *r->v);
    ms_reading reading = {.q = r->q, .q_pitch = r->pitch, .depth = j->keys, .s = r->s, .pitch = r->v_pitch, .a = r->a,
                          .a_pitch = BLOCK, .x = r->v, .y = r->y};
    ms_read(&reading, BLOCK);
    ms_ahead(&j->v, u->b, next, BLOCK, j->length, u->channel, u->n);
    ms_rows_out(ms_at(&j->y, u->b, t, u->channel), j->y.token, r->y, r->v_pitch, n, u->n);
    ms_writing writing = {.b = r->k, .b_pitch = r->pitch, .x = r->v, .decay = r->last, .decay_step = 1, .s = r->s,
                          .depth = j->keys, .pitch = r->v_pitch, .n = BLOCK};
    ms_write(&writing);
    ms_ahead(&j->y, u->b, next, BLOCK, j->length, u->channel, u->n);
}

static void run_blocks(const job *j, const ms_unit *u, float *work) {
    room r = room_at(work, j->keys, j->cut.block);
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h);
    r.v_pitch = ms_pitch(u->n);
    if (in)
        ms_rows_in(r.s, r.v_pitch, in + u->v, j->in.row, j->keys, u->n);
    else
        memset(r.s, 0, (size_t)(j->keys * r.v_pitch) * sizeof *r.s);
    for (int64_t i = 0; i < BLOCK && !j->w.token && j->length > 0; i++)
        decays(j, r.w + i * r.pitch, ms_at(&j->w, u->b, 0, u->h * j->keys), j->keys);
    if (j->u.data) ms_rows_in(r.u, r.pitch, ms_at(&j->u, 0, 0, u->h * j->keys), 0, 1, j->keys);
    for (int64_t t = 0; t < j->length; t += BLOCK) block(j, u, &r, t, cpu_min(BLOCK, j->length - t));
    if (out) ms_rows_out(out + u->v, j->out.row, r.s, r.v_pitch, j->keys, u->n);
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
    if (j->p->log_w) {
        decays(j, work, w, j->keys);
        w = work;
    }
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
            run_blocks(j, &u, j->work + worker * j->each);
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

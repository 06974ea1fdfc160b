/* linear_attention.c - LINEAR_ATTENTION: a sum of outer products of features, not decayed. A head's state stays in working
 * memory while blocks of BLOCK tokens pass; inside a block y is a masked product, and the products f(q).f(k) of the Taylor
 * features are 1 + s + s^2/2 with s = q.k / sqrt(d), which needs no features at all.
 *
 * The quadratic Taylor features are symmetric, so the state at work is folded: for a < b one row W holds KV[ab] + KV[ba],
 * and the key's feature counts twice. Leaving, KV[ab] = (W + KV0[ab] - KV0[ba]) / 2 with KV0 the state that came in, which
 * need not be symmetric. Z is a vector beside it, folded alike. One token alone is a step over the whole state as it lies in
 * memory. */
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK       16
#define MOST_TAYLOR 1024 /* keys, as the predicate says */

typedef struct job {
    const strand_op_linear_attention *p;
    ms_cut cut;
    ms_tokens q, k, v, y;
    ms_state in, out;
    int64_t length, keys, each;
    float *work;
} job;

/* Rows of features have f_pitch floats; features behind the last are 0. */
typedef struct room {
    float *s, *z, *v, *y, *q, *k, *turned, *a, *sum; /* turned: keys (or features) [.][BLOCK]; a [BLOCK][BLOCK]; sum [BLOCK] */
    int64_t features, pitch, f_pitch;
} room;

static bool taylor(const strand_op_linear_attention *p) {
    return p->feature == STRAND_FEATURE_TAYLOR2;
}

static int64_t folded(const strand_op_linear_attention *p, int64_t d) {
    return taylor(p) ? 1 + d + d * (d + 1) / 2 : d;
}

/* A row of the folded features is written with up to a vector too much at its end. */
static int64_t feature_pitch(const strand_op_linear_attention *p, int64_t d) {
    return ms_floats(folded(p, d) + 2 * CPU_LANES);
}

static int64_t room_floats(const strand_op_linear_attention *p, int64_t d, int64_t width) {
    int64_t f = folded(p, d), pitch = ms_floats(ms_pitch(width)), f_pitch = feature_pitch(p, d);
    return ms_floats(f * pitch) + f_pitch + 2 * BLOCK * (pitch + f_pitch) + ms_floats(d * BLOCK) + BLOCK * BLOCK + BLOCK;
}

static room room_at(const strand_op_linear_attention *p, float *at, int64_t d, int64_t width) {
    room r = {.features = folded(p, d), .pitch = ms_pitch(width), .f_pitch = feature_pitch(p, d), .s = at};
    int64_t pitch = ms_floats(r.pitch);
    r.z = r.s + ms_floats(r.features * pitch);
    r.v = r.z + r.f_pitch;
    r.y = r.v + BLOCK * pitch;
    r.q = r.y + BLOCK * pitch;
    r.k = r.q + BLOCK * r.f_pitch;
    r.turned = r.k + BLOCK * r.f_pitch;
    r.a = r.turned + ms_floats(d * BLOCK);
    r.sum = r.a + BLOCK * BLOCK;
    return r;
}

/* ---- features ---- */

static vf map(uint32_t feature, vf x) {
    if (feature == STRAND_FEATURE_ELU1) return vf_select(x > 0.0f, x + 1.0f, vf_exp(x));
    if (feature == STRAND_FEATURE_RELU) return vf_select(x < 0.0f, vf_zero(), x);
    return x;
}

/* Folded features of one row x of d numbers, with zeros behind them; `twice`: products of two different numbers count
 * double. */
static void taylor_row(float *to, const float *x, int64_t d, bool twice) {
    float root = sqrtf((float)d), linear = 1.0f / sqrtf(root), square = 1.0f / (sqrtf(2.0f) * root);
    float *at = to + 1;
    to[0] = 1.0f;
    for (int64_t c = 0; c < d; c += CPU_LANES) vf_store(at + c, vf_load(x + c) * linear);
    at += d;
    for (int64_t a = 0; a < d; a++) {
        vf one = vf_set(x[a] * square * (twice ? 2.0f : 1.0f));
        for (int64_t c = a; c < d; c += CPU_LANES) vf_store(at + c - a, one * vf_load(x + c));
        at[0] = x[a] * square * x[a];
        at += d - a;
    }
    vf_store(at, vf_zero());
}

static void feature_rows(const job *j, float *to, int64_t pitch, const ms_tokens *from, const ms_unit *u, int64_t t, int64_t n,
                         bool twice) {
    float padded[MOST_TAYLOR + CPU_LANES];
    for (int64_t i = 0; i < n; i++) {
        const float *x = ms_at(from, u->b, t + i, u->h * j->keys);
        if (taylor(j->p)) {
            for (int64_t c = 0; c < j->keys; c += CPU_LANES) vf_store(padded + c, ms_load(x + c, j->keys - c));
            vf_store(padded + j->keys, vf_zero());
            taylor_row(to + i * pitch, padded, j->keys, twice);
        } else
            for (int64_t c = 0; c < j->keys; c += CPU_LANES) {
                vf f = map(j->p->feature, ms_load(x + c, j->keys - c));
                vf_store(to + i * pitch + c, f);
                if (j->keys - c < CPU_LANES) memset(to + i * pitch + j->keys, 0, CPU_LANES * sizeof *to); /* f(0) may be 1 */
            }
    }
}

/* ---- the state, folded and back ---- */

/* Row of the folded state that features (a, b), a <= b, have. */
static int64_t fold(int64_t d, int64_t a, int64_t b) {
    return 1 + d + a * d - a * (a - 1) / 2 + (b - a);
}

static void state_in(const job *j, const ms_unit *u, const room *r) {
    int64_t d = j->keys, first = taylor(j->p) ? 1 + d : d, width = j->cut.width;
    const float *in = ms_head(&j->in, u->b, u->h);
    memset(r->s, 0, (size_t)(r->features * r->pitch) * sizeof *r->s);
    memset(r->z, 0, (size_t)r->f_pitch * sizeof *r->z);
    if (!in) return;
    ms_rows_in(r->s, r->pitch, in + u->v, j->in.row, first, u->n);
    for (int64_t f = 0; f < first; f++) r->z[f] = in[f * j->in.row + width];
    for (int64_t a = 0; a < d && taylor(j->p); a++)
        for (int64_t b = a; b < d; b++) {
            const float *x = in + (1 + d + a * d + b) * j->in.row, *y = in + (1 + d + b * d + a) * j->in.row;
            float *to = r->s + fold(d, a, b) * r->pitch;
            for (int64_t c = 0; c < u->n; c += CPU_LANES) {
                vf one = ms_load(x + u->v + c, u->n - c);
                vf_store(to + c, a == b ? one : one + ms_load(y + u->v + c, u->n - c));
            }
            r->z[fold(d, a, b)] = a == b ? x[width] : x[width] + y[width];
        }
}

/* One element that went in as x (and y, its mirror) and stands folded as w. */
static void unfold(float w, float x, float y, float *to_x, float *to_y) {
    *to_x = (w + (x - y)) * 0.5f;
    *to_y = (w + (y - x)) * 0.5f;
}

static void state_out(const job *j, const ms_unit *u, const room *r) {
    int64_t d = j->keys, first = taylor(j->p) ? 1 + d : d, width = j->cut.width;
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h);
    if (!out) return;
    ms_rows_out(out + u->v, j->out.row, r->s, r->pitch, first, u->n);
    for (int64_t f = 0; f < first; f++) out[f * j->out.row + width] = r->z[f];
    for (int64_t a = 0; a < d && taylor(j->p); a++)
        for (int64_t b = a; b < d; b++) {
            int64_t ab = 1 + d + a * d + b, ba = 1 + d + b * d + a, row = fold(d, a, b);
            const float *w = r->s + row * r->pitch, *x = in ? in + ab * j->in.row : NULL, *y = in ? in + ba * j->in.row : NULL;
            float *to_x = out + ab * j->out.row, *to_y = out + ba * j->out.row;
            if (a == b) {
                ms_rows_out(to_x + u->v, 0, w, 0, 1, u->n);
                to_x[width] = r->z[row];
                continue;
            }
            for (int64_t c = 0; c < u->n; c += CPU_LANES) {
                vf folded_row = vf_load(w + c),
                   skew = in ? ms_load(x + u->v + c, u->n - c) - ms_load(y + u->v + c, u->n - c) : vf_zero();
                ms_store(to_x + u->v + c, (folded_row + skew) * 0.5f, u->n - c);
                ms_store(to_y + u->v + c, (folded_row - skew) * 0.5f, u->n - c);
            }
            unfold(r->z[row], in ? x[width] : 0.0f, in ? y[width] : 0.0f, to_x + width, to_y + width);
        }
}

/* ---- blocks ---- */

/* a[i][j] = f(q[i]).f(k[j]) for j <= i, else 0. */
static void products(const job *j, const ms_unit *u, const room *r, int64_t t, int64_t n) {
    bool raw = taylor(j->p);
    const float *q = raw ? ms_at(&j->q, u->b, t, u->h * j->keys) : r->q,
                *k = raw ? ms_at(&j->k, u->b, t, u->h * j->keys) : r->k;
    vf scale = vf_set(1.0f / sqrtf((float)j->keys));
    ms_transpose_in(r->turned, BLOCK, k, raw ? j->k.token : r->f_pitch, n, j->keys);
    ms_reading m = {
        .q = q, .q_pitch = raw ? j->q.token : r->f_pitch, .depth = j->keys, .s = r->turned, .pitch = BLOCK, .y = r->a};
    ms_product(&m, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < BLOCK; c += CPU_LANES) {
            vi index;
            for (int e = 0; e < CPU_LANES; e++) index[e] = (int32_t)(c + e);
            vf x = vf_load(r->a + i * BLOCK + c);
            if (raw) {
                x *= scale;
                x = vf_fma(x, vf_fma(x, vf_set(0.5f), vf_set(1.0f)), vf_set(1.0f));
            }
            vf_store(r->a + i * BLOCK + c, vf_select(index <= (int32_t)i, x, vf_zero()));
        }
}

/* sum[i] = f(q[i]) Z + sum of a[i] + eps, then 1 over it. */
static void normalisers(const job *j, const room *r, int64_t n) {
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        vf lanes[CPU_LANES];
        for (int64_t e = 0; e < CPU_LANES; e++) {
            vf sum = vf_zero();
            const float *q = r->q + (i + e) * r->f_pitch, *a = r->a + (i + e) * BLOCK;
            for (int64_t c = 0; c < r->features && i + e < n; c += CPU_LANES)
                sum = vf_fma(vf_load(q + c), vf_load(r->z + c), sum);
            for (int64_t c = 0; c < BLOCK && i + e < n; c += CPU_LANES) sum += vf_load(a + c);
            lanes[e] = sum;
        }
        vf_store(r->sum + i, vf_sums_of_rows(lanes) + j->p->eps);
    }
}

static void block(const job *j, const ms_unit *u, const room *r, int64_t t, int64_t n) {
    float one = 1.0f;
    feature_rows(j, r->q, r->f_pitch, &j->q, u, t, n, false);
    feature_rows(j, r->k, r->f_pitch, &j->k, u, t, n, true);
    ms_ahead(&j->q, u->b, t + BLOCK, BLOCK, j->length, u->h * j->keys, j->keys);
    ms_ahead(&j->k, u->b, t + BLOCK, BLOCK, j->length, u->h * j->keys, j->keys);
    ms_ahead(&j->v, u->b, t + BLOCK, BLOCK, j->length, u->channel, u->n);
    ms_ahead(&j->y, u->b, t + BLOCK, BLOCK, j->length, u->channel, u->n);
    products(j, u, r, t, n);
    ms_rows_in(r->v, r->pitch, ms_at(&j->v, u->b, t, u->channel), j->v.token, n, u->n);
    ms_reading reading = {.q = r->q, .q_pitch = r->f_pitch, .depth = r->features, .s = r->s, .pitch = r->pitch, .a = r->a,
                          .a_pitch = BLOCK, .x = r->v, .y = r->y};
    ms_read(&reading, n);
    if (j->p->normalise) {
        normalisers(j, r, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < r->pitch; c += CPU_LANES)
                vf_store(r->y + i * r->pitch + c, vf_load(r->y + i * r->pitch + c) / r->sum[i]);
    }
    ms_rows_out(ms_at(&j->y, u->b, t, u->channel), j->y.token, r->y, r->pitch, n, u->n);
    ms_writing writing = {
        .b = r->k, .b_pitch = r->f_pitch, .x = r->v, .decay = &one, .s = r->s, .depth = r->features, .pitch = r->pitch, .n = n};
    ms_write(&writing);
    for (int64_t c = 0; c < r->features; c += CPU_LANES) {
        vf z = vf_load(r->z + c);
        for (int64_t i = 0; i < n; i++) z += vf_load(r->k + i * r->f_pitch + c);
        vf_store(r->z + c, z);
    }
}

static void run_blocks(const job *j, const ms_unit *u, float *work) {
    room r = room_at(j->p, work, j->keys, j->cut.block);
    r.pitch = ms_pitch(u->n);
    state_in(j, u, &r);
    for (int64_t t = 0; t < j->length; t += BLOCK) block(j, u, &r, t, cpu_min(BLOCK, j->length - t));
    state_out(j, u, &r);
}

/* ---- one token ---- */

/* All features of one row x of d numbers, not folded; up to a vector too much is written. */
static void feature_row(const strand_op_linear_attention *p, float *to, const float *x, int64_t d) {
    float root = sqrtf((float)d), linear = 1.0f / sqrtf(root), square = 1.0f / (sqrtf(2.0f) * root);
    if (!taylor(p)) {
        for (int64_t c = 0; c < d; c += CPU_LANES) vf_store(to + c, map(p->feature, ms_load(x + c, d - c)));
        return;
    }
    *to++ = 1.0f;
    for (int64_t c = 0; c < d; c += CPU_LANES) vf_store(to + c, ms_load(x + c, d - c) * linear);
    to += d;
    for (int64_t a = 0; a < d; a++, to += d)
        for (int64_t c = 0; c < d; c += CPU_LANES) vf_store(to + c, vf_set(x[a] * square) * ms_load(x + c, d - c));
}

/* Columns [c, c + n) of the values, of at most `vectors` vectors, down all features; fq and fk hold the features. The first
 * columns take Z along, the last column of the state's rows, with four sums to hide their latency, and leave f(q) Z + eps in
 * *normaliser. */
CPU_INLINE void step_columns(const job *j, const ms_unit *u, int64_t features, const float *fq, const float *fk, int64_t c,
                             int64_t n, const int vectors, const bool with_z, float *normaliser) {
    int64_t width = j->cut.width;
    const float *in = ms_head(&j->in, u->b, u->h), *v = ms_at(&j->v, u->b, 0, u->channel + c);
    float *out = ms_head(&j->out, u->b, u->h), *y = ms_at(&j->y, u->b, 0, u->channel + c), sums[4] = {0};
    vf value[4], sum[4];
    for (int e = 0; e < vectors; e++) {
        value[e] = ms_load(v + e * CPU_LANES, n - e * CPU_LANES);
        sum[e] = vf_zero();
    }
    for (int64_t f = 0; f < features; f++) {
        vf query = vf_set(fq[f]), key = vf_set(fk[f]);
        const float *from = in ? in + f * j->in.row : NULL;
        float *to = out ? out + f * j->out.row : NULL;
        for (int e = 0; e < vectors; e++) {
            int64_t left = n - e * CPU_LANES;
            vf next = key * value[e];
            if (from) next = vf_fma(key, value[e], ms_load(from + u->v + c + e * CPU_LANES, left));
            sum[e] = vf_fma(query, next, sum[e]);
            if (to) ms_store(to + u->v + c + e * CPU_LANES, next, left);
        }
        if (with_z) {
            float z = (from ? from[width] : 0.0f) + fk[f];
            sums[f & 3] += fq[f] * z;
            if (to) to[width] = z;
        }
    }
    if (with_z) *normaliser = (sums[0] + sums[1]) + (sums[2] + sums[3]) + j->p->eps;
    for (int e = 0; e < vectors; e++)
        ms_store(y + e * CPU_LANES, j->p->normalise ? sum[e] / *normaliser : sum[e], n - e * CPU_LANES);
}

static void run_step(const job *j, const ms_unit *u, float *fq) {
    int64_t d = j->keys, features = taylor(j->p) ? 1 + d + d * d : d, c = 0;
    float *fk = fq + ms_floats(features + CPU_LANES), normaliser;
    feature_row(j->p, fq, ms_at(&j->q, u->b, 0, u->h * d), d);
    feature_row(j->p, fk, ms_at(&j->k, u->b, 0, u->h * d), d);
    if (u->n >= 4 * CPU_LANES) {
        step_columns(j, u, features, fq, fk, 0, 4 * CPU_LANES, 4, true, &normaliser);
        c = 4 * CPU_LANES;
    } else {
        step_columns(j, u, features, fq, fk, 0, cpu_min(CPU_LANES, u->n), 1, true, &normaliser);
        c = CPU_LANES;
    }
    for (; c + 4 * CPU_LANES <= u->n; c += 4 * CPU_LANES)
        step_columns(j, u, features, fq, fk, c, 4 * CPU_LANES, 4, false, &normaliser);
    for (; c < u->n; c += CPU_LANES)
        step_columns(j, u, features, fq, fk, c, cpu_min(CPU_LANES, u->n - c), 1, false, &normaliser);
}

static int64_t step_floats(const strand_op_linear_attention *p, int64_t d) {
    return 2 * ms_floats((taylor(p) ? 1 + d + d * d : d) + CPU_LANES);
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

static int64_t each_worker(const strand_plugin_node *node) {
    const strand_op_linear_attention *p = node->params;
    int64_t d = node->inputs[0].dims[2] / p->heads;
    return cpu_max(room_floats(p, d, node->outputs[0].whole[2] / p->heads), step_floats(p, d));
}

uint64_t cpu_linear_attention_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)each_worker(node) * sizeof(float);
}

/* A head is one unit, whose Z is written once: heads are not cut into blocks of values. */
CPU_KERNEL(cpu_linear_attention) {
    const strand_op_linear_attention *p = node->params;
    int64_t width = node->outputs[0].whole[2] / p->heads;
    job j = {.p = p, .work = scratch, .length = node->outputs[0].dims[1], .keys = node->inputs[0].dims[2] / p->heads,
             .each = each_worker(node)};
    j.q = ms_view(node, cpu_input(node, 0));
    j.k = ms_view(node, cpu_input(node, 1));
    j.v = ms_view(node, cpu_input(node, 2));
    j.y = ms_view(node, &node->outputs[0]);
    j.in = ms_state_in(node, 3);
    j.out = ms_state_out(node);
    j.cut = ms_plan(node, p->heads, width, (double)j.length * (double)folded(p, j.keys) * (double)width / 8);
    cpu_parallel(device, j.cut.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}

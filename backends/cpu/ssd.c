/* ssd.c - SSD: Mamba-2's state-space duality, and retention. A head's state S [N][P] stays in working memory while blocks of BLOCK
 * tokens pass: inside a block y is a masked product, (C B^T, decays, dt) x; what came before it enters through S:
 *
 *   y[i] = e^(l_i) C[i] S + sum_{j <= i} (C[i].B[j]) e^(l_i - l_j) d_j x[j] + D x[i],   l = sums of log decays in the block
 *   S    = e^(l_last) S + sum_j B[j] (e^(l_last - l_j) d_j x[j])
 *
 * Differences l_i - l_j are summed token by token (never a difference of large sums, never a ratio of exponentials). One token
 * alone is a step over the state as it lies in memory, [P][N], read and written once. */
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 32 /* tokens; the share of the products inside a block grows with it, the traffic of the state falls */

typedef struct job {
    const strand_op_ssd *p;
    ms_cut cut;
    ms_tokens x, a, b, c, dt, d, bias, y;
    ms_state in, out;
    int64_t length, states, each;
    float *work;
} job;

/* What a block needs, in working memory. */
typedef struct room {
    float *s, *x, *y, *bt, *products, *a; /* S [N][pitch]; x, y [BLOCK][pitch]; B^T [N][BLOCK]; products and a [BLOCK][BLOCK] */
    int64_t pitch;
} room;

static int64_t room_floats(int64_t states, int64_t width) {
    int64_t pitch = ms_pitch(width);
    return ms_floats(states * pitch) + 2 * BLOCK * ms_floats(pitch) + ms_floats(states * BLOCK) + 2 * BLOCK * BLOCK;
}

static room room_at(float *p, int64_t states, int64_t width) {
    room r = {.pitch = ms_pitch(width), .s = p};
    r.x = r.s + ms_floats(states * r.pitch);
    r.y = r.x + BLOCK * ms_floats(r.pitch);
    r.bt = r.y + BLOCK * ms_floats(r.pitch);
    r.products = r.bt + ms_floats(states * BLOCK);
    r.a = r.products + BLOCK * BLOCK;
    return r;
}

/* ---- steps and decays ---- */

static float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

/* d and the log decay of n tokens from t on; entries beyond n are 0. */
static void steps(const job *j, int64_t b, int64_t h, int64_t t, int64_t n, float d[BLOCK], float log_decay[BLOCK]) {
    float bias = j->bias.data ? *ms_at(&j->bias, 0, 0, h) : 0.0f;
    for (int64_t i = 0; i < BLOCK; i++) d[i] = log_decay[i] = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        d[i] = 1.0f;
        if (j->dt.data) {
            d[i] = *ms_at(&j->dt, b, t + i, h) + bias;
            if (j->p->softplus) d[i] = softplus(d[i]);
            d[i] = d[i] < j->p->dt_min ? j->p->dt_min : d[i] > j->p->dt_max ? j->p->dt_max : d[i];
        }
        log_decay[i] = d[i] * *ms_at(&j->a, b, t + i, h);
    }
}

/* a[i][j] = products[i][j] e^(l_i - l_j) d_j for j <= i < n, else 0; D on the diagonal besides. gain[i] = e^(l_i); last[j] =
 * e^(l_last - l_j) d_j. Returns e^(l_last). */
static float mask(const room *r, int64_t n, const float d[BLOCK], const float log_decay[BLOCK], float skip, float gain[BLOCK], float last[BLOCK]) {
    vf sums[BLOCK / CPU_LANES], steps_of[BLOCK / CPU_LANES];
    vi index[BLOCK / CPU_LANES];
    float l = 0.0f;
    for (int v = 0; v < BLOCK / CPU_LANES; v++) {
        sums[v] = vf_zero();
        steps_of[v] = vf_load(d + v * CPU_LANES);
        for (int e = 0; e < CPU_LANES; e++) index[v][e] = v * CPU_LANES + e;
    }
    for (int64_t i = 0; i < n; i++) {
        l += log_decay[i];
        gain[i] = l;
        for (int v = 0; v < BLOCK / CPU_LANES; v++) {
            vi before = index[v] < (int32_t)i;
            sums[v] = vf_select(before, sums[v] + log_decay[i], vf_zero());
            vf weight = vf_zero();
            if (v * CPU_LANES <= i) weight = vf_select(index[v] <= (int32_t)i, vf_exp(sums[v]) * steps_of[v], vf_zero());
            vf_store(r->a + i * BLOCK + v * CPU_LANES, weight * vf_load(r->products + i * BLOCK + v * CPU_LANES));
            if (i == n - 1) vf_store(last + v * CPU_LANES, weight);
        }
        r->a[i * BLOCK + i] += skip;
    }
    for (int64_t i = n; i < BLOCK; i++) gain[i] = 0.0f;
    for (int v = 0; v < BLOCK / CPU_LANES; v++) vf_store(gain + v * CPU_LANES, vf_exp(vf_load(gain + v * CPU_LANES)));
    return gain[n - 1];
}

/* ---- blocks ---- */

static void block(const job *j, const ms_unit *u, const room *r, int64_t group, int64_t t, int64_t n) {
    float d[BLOCK], log_decay[BLOCK], gain[BLOCK], last[BLOCK], decay;
    const float *b = ms_at(&j->b, u->b, t, group * j->states), *c = ms_at(&j->c, u->b, t, group * j->states);
    ms_transpose_in(r->bt, BLOCK, b, j->b.token, n, j->states);
    ms_reading products = {.q = c, .q_pitch = j->c.token, .depth = j->states, .s = r->bt, .pitch = BLOCK, .y = r->products};
    ms_product(&products, n);
    steps(j, u->b, u->h, t, n, d, log_decay);
    decay = mask(r, n, d, log_decay, j->d.data ? *ms_at(&j->d, 0, 0, u->h) : 0.0f, gain, last);
    ms_rows_in(r->x, r->pitch, ms_at(&j->x, u->b, t, u->channel), j->x.token, n, u->n);
    ms_reading reading = {.q = c, .q_pitch = j->c.token, .depth = j->states, .s = r->s, .pitch = r->pitch, .a = r->a, .a_pitch = BLOCK, .x = r->x, .gain = gain, .y = r->y};
    ms_read(&reading, n);
    ms_rows_out(ms_at(&j->y, u->b, t, u->channel), j->y.token, r->y, r->pitch, n, u->n);
    for (int64_t i = 0; i < n; i++) {
        vf scale = vf_set(last[i]);
        for (int64_t v = 0; v < r->pitch; v += CPU_LANES) vf_store(r->x + i * r->pitch + v, scale * vf_load(r->x + i * r->pitch + v));
    }
    ms_writing writing = {.b = b, .b_pitch = j->b.token, .x = r->x, .decay = &decay, .s = r->s, .depth = j->states, .pitch = r->pitch, .n = n};
    ms_write(&writing);
}

static void run_blocks(const job *j, const ms_unit *u, float *work) {
    room r = room_at(work, j->states, j->cut.block);
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h);
    r.pitch = ms_pitch(u->n);
    if (in)
        ms_transpose_in(r.s, r.pitch, in + u->v * j->in.row, j->in.row, u->n, j->states);
    else
        memset(r.s, 0, (size_t)(j->states * r.pitch) * sizeof *r.s);
    for (int64_t t = 0; t < j->length; t += BLOCK) block(j, u, &r, u->h / (j->p->heads / j->p->groups), t, cpu_min(BLOCK, j->length - t));
    if (out) ms_transpose_out(out + u->v * j->out.row, j->out.row, r.s, r.pitch, u->n, j->states);
}

/* ---- one token ---- */

/* CPU_LANES rows of the state at a time, so that their sums are taken together. */
static void run_step(const job *j, const ms_unit *u) {
    float d[BLOCK], log_decay[BLOCK];
    int64_t group = u->h / (j->p->heads / j->p->groups), n = j->states;
    const float *b = ms_at(&j->b, u->b, 0, group * n), *c = ms_at(&j->c, u->b, 0, group * n), *x = ms_at(&j->x, u->b, 0, u->channel);
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h), *y = ms_at(&j->y, u->b, 0, u->channel);
    steps(j, u->b, u->h, 0, 1, d, log_decay);
    vf decay = vf_exp(vf_set(log_decay[0]));
    float skip = j->d.data ? *ms_at(&j->d, 0, 0, u->h) : 0.0f;
    for (int64_t row = 0; row < u->n; row += CPU_LANES) {
        vf sums[CPU_LANES];
        int64_t rows = cpu_min(CPU_LANES, u->n - row);
        for (int r = 0; r < CPU_LANES; r++) {
            sums[r] = vf_zero();
            if (r >= rows) continue;
            const float *s = in ? in + (u->v + row + r) * j->in.row : NULL;
            float *to = out ? out + (u->v + row + r) * j->out.row : NULL;
            vf dx = vf_set(d[0] * x[row + r]);
            for (int64_t i = 0; i < n; i += CPU_LANES) {
                vf next = dx * ms_load(b + i, n - i);
                if (s) next = vf_fma(decay, ms_load(s + i, n - i), next);
                if (to) ms_store(to + i, next, n - i);
                sums[r] = vf_fma(next, ms_load(c + i, n - i), sums[r]);
            }
        }
        ms_store(y + row, vf_fma(vf_set(skip), ms_load(x + row, rows), ms_sums(sums)), rows);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    ms_unit u;
    for (int64_t k = i * j->cut.group; k < cpu_min((i + 1) * j->cut.group, j->cut.units); k++) {
        if (!ms_take(&j->cut, k, &u)) continue;
        if (j->length == 1)
            run_step(j, &u);
        else
            run_blocks(j, &u, j->work + worker * j->each);
    }
}

static int64_t states_of(const strand_plugin_node *node) {
    return node->inputs[2].dims[2] / ((const strand_op_ssd *)node->params)->groups;
}

/* Wide heads are cut so that the state of a block stays in the second level of cache. */
static int64_t block_of(int64_t width) {
    return cpu_min(width, 128);
}

uint64_t cpu_ssd_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const strand_op_ssd *p = node->params;
    return (uint64_t)cpu_workers(device) * (uint64_t)room_floats(states_of(node), block_of(node->outputs[0].whole[2] / p->heads)) * sizeof(float);
}

CPU_KERNEL(cpu_ssd) {
    const strand_op_ssd *p = node->params;
    int64_t width = node->outputs[0].whole[2] / p->heads, states = states_of(node), length = node->outputs[0].dims[1];
    job j = {.p = p, .work = scratch, .length = length, .states = states, .each = room_floats(states, block_of(width))};
    const ms_tokens views[] = {ms_view(node, cpu_input(node, 0)), ms_view(node, cpu_input(node, 1)), ms_view(node, cpu_input(node, 2)),
                               ms_view(node, cpu_input(node, 3)), ms_view(node, cpu_input(node, 4)), ms_view(node, cpu_input(node, 5)),
                               ms_view(node, cpu_input(node, 6)), ms_view(node, &node->outputs[0])};
    j.x = views[0], j.a = views[1], j.b = views[2], j.c = views[3], j.dt = views[4], j.d = views[5], j.bias = views[6], j.y = views[7];
    j.in = ms_state_in(node, 7);
    j.out = ms_state_out(node);
    j.cut = ms_plan(node, p->heads, block_of(width), (double)length * (double)states * (double)block_of(width) / 8);
    cpu_parallel(device, j.cut.pieces, body, &j);
    return STRAND_PLUGIN_OK;
}

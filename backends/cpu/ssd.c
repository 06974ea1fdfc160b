/* ssd.c - SSD: Mamba-2's state-space duality, and retention. A head's state S [N][P] stays in working memory while blocks of
 * BLOCK tokens pass: inside a block y is a masked product, (C B^T, decays, dt) x; what came before it enters through S:
 *
 *   y[i] = e^(l_i) C[i] S + sum_{j <= i} (C[i].B[j]) e^(l_i - l_j) d_j x[j] + D x[i],   l = sums of log decays in the block
 *   S    = e^(l_last) S + sum_j B[j] (e^(l_last - l_j) d_j x[j])
 *
 * Differences l_i - l_j are summed token by token (never a difference of large sums, never a ratio of exponentials). The
 * products C B^T belong to a group: they are made once for a span of tokens, then all heads of the group pass over the span.
 * One token alone is a step over the state as it lies in memory, [P][N], read and written once. */
#include "matrix_state.h"
#include "vecmath.h"

#define BLOCK 16   /* tokens; the share of the products inside a block grows with it, the traffic of the state falls */
#define SPAN  1024 /* tokens whose products are kept */
#define UNITS 64   /* heads that keep their state at once: batch entries go by together as long as there are fewer */

typedef struct job {
    const strand_op_ssd *p;
    ms_cut cut;
    ms_tokens x, a, b, c, dt, d, bias, y;
    ms_state in, out;
    int64_t length, states, pitch, each;
    int64_t entry, entries, first_group, groups, span, span_end, span_blocks; /* what runs now: batch entries, groups, tokens */
    /* products of groups, states of units, rooms of workers */
    float *products, *kept, *work;
} job;

/* What a worker needs for a block: x, y [BLOCK][pitch]; B^T [N][BLOCK]; a [BLOCK][BLOCK]. */
typedef struct room {
    float *x, *y, *bt, *a;
} room;

static int64_t room_floats(int64_t states, int64_t pitch) {
    return 2 * BLOCK * ms_floats(pitch) + ms_floats(states * BLOCK) + BLOCK * BLOCK;
}

static room room_at(const job *j, int32_t worker) {
    room r = {.x = j->work + worker * j->each};
    r.y = r.x + BLOCK * ms_floats(j->pitch);
    r.bt = r.y + BLOCK * ms_floats(j->pitch);
    r.a = r.bt + ms_floats(j->states * BLOCK);
    return r;
}

/* ---- steps and decays ---- */

/* d and the log decay of n tokens from t on; entries beyond n are 0. */
static void steps(const job *j, int64_t b, int64_t h, int64_t t, int64_t n, float d[BLOCK], float log_decay[BLOCK]) {
    const strand_op_ssd *p = j->p;
    float bias = j->bias.data ? *ms_at(&j->bias, 0, 0, h) : 0.0f;
    for (int64_t i = 0; i < BLOCK; i++) {
        d[i] = i >= n ? 0.0f : j->dt.data ? *ms_at(&j->dt, b, t + i, h) + bias : 1.0f;
        log_decay[i] = i < n ? *ms_at(&j->a, b, t + i, h) : 0.0f;
    }
    for (int64_t c = 0; c < n; c += CPU_LANES) {
        vf x = vf_load(d + c);
        if (j->dt.data) {
            if (p->softplus) x = vf_softplus(x);
            x = vf_select(x < p->dt_min, vf_set(p->dt_min), x);
            x = vf_select(x > p->dt_max, vf_set(p->dt_max), x);
            vf_store(d + c, x);
        }
        vf_store(log_decay + c, vf_load(log_decay + c) * x);
    }
    for (int64_t i = n; i < BLOCK; i++) d[i] = log_decay[i] = 0.0f;
}

/* a[i][j] = products[i][j] e^(l_i - l_j) d_j for j <= i < n, else 0; D on the diagonal besides. gain[i] = e^(l_i); last[j] =
 * e^(l_last - l_j) d_j. Returns e^(l_last). */
static float mask(float *a, const float *products, int64_t n, const float d[BLOCK], const float log_decay[BLOCK], float skip,
                  float gain[BLOCK], float last[BLOCK]) {
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
            vf_store(a + i * BLOCK + v * CPU_LANES, weight * vf_load(products + i * BLOCK + v * CPU_LANES));
            if (i == n - 1) vf_store(last + v * CPU_LANES, weight);
        }
        a[i * BLOCK + i] += skip;
    }
    for (int64_t i = n; i < BLOCK; i++) gain[i] = 0.0f;
    for (int v = 0; v < BLOCK / CPU_LANES; v++) vf_store(gain + v * CPU_LANES, vf_exp(vf_load(gain + v * CPU_LANES)));
    return gain[n - 1];
}

/* ---- blocks ---- */

static float *products_of(const job *j, int64_t b, int64_t group, int64_t block) {
    return j->products + (((b - j->entry) * j->groups + group - j->first_group) * j->span_blocks + block) * BLOCK * BLOCK;
}

/* C[i].B[j] of one block of one group; columns beyond the diagonal's vectors are not made. */
static void group_block(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    room r = room_at(j, worker);
    int64_t block = i % j->span_blocks, group = j->first_group + i / j->span_blocks % j->groups,
            b = j->entry + i / j->span_blocks / j->groups;
    int64_t t = j->span + block * BLOCK, n = cpu_min(BLOCK, j->span_end - t), first = group * j->states;
    float *to = products_of(j, b, group, block);
    ms_transpose_in(r.bt, BLOCK, ms_at(&j->b, b, t, first), j->b.token, n, j->states);
    ms_reading m = {
        .q = ms_at(&j->c, b, t, first), .q_pitch = j->c.token, .depth = j->states, .s = r.bt, .pitch = BLOCK, .y = to};
    ms_product(&m, n);
    ms_ahead(&j->b, b, t + BLOCK, BLOCK, j->span_end, first, j->states);
    ms_ahead(&j->c, b, t + BLOCK, BLOCK, j->span_end, first, j->states);
}

static void block(const job *j, const ms_unit *u, const room *r, float *s, const float *products, int64_t t, int64_t n) {
    float d[BLOCK], log_decay[BLOCK], gain[BLOCK], last[BLOCK], decay;
    int64_t group = u->h / (j->p->heads / j->p->groups), next = t + BLOCK, pitch = ms_pitch(u->n);
    steps(j, u->b, u->h, t, n, d, log_decay);
    decay = mask(r->a, products, n, d, log_decay, j->d.data ? *ms_at(&j->d, 0, 0, u->h) : 0.0f, gain, last);
    ms_ahead(&j->x, u->b, next, BLOCK / 2, j->length, u->channel, u->n);
    ms_rows_in(r->x, pitch, ms_at(&j->x, u->b, t, u->channel), j->x.token, n, u->n);
    ms_reading reading = {.q = ms_at(&j->c, u->b, t, group * j->states), .q_pitch = j->c.token, .depth = j->states, .s = s,
                          .pitch = pitch, .a = r->a, .a_pitch = BLOCK, .x = r->x, .gain = gain, .y = r->y};
    ms_read(&reading, n);
    ms_ahead(&j->x, u->b, next + BLOCK / 2, BLOCK / 2, j->length, u->channel, u->n);
    ms_rows_out(ms_at(&j->y, u->b, t, u->channel), j->y.token, r->y, pitch, n, u->n);
    ms_ahead(&j->y, u->b, next, BLOCK / 2, j->length, u->channel, u->n);
    for (int64_t i = 0; i < n; i++) {
        vf scale = vf_set(last[i]);
        for (int64_t v = 0; v < pitch; v += CPU_LANES) vf_store(r->x + i * pitch + v, scale * vf_load(r->x + i * pitch + v));
    }
    ms_writing writing = {.b = ms_at(&j->b, u->b, t, group * j->states), .b_pitch = j->b.token, .x = r->x, .decay = &decay,
                          .s = s, .depth = j->states, .pitch = pitch, .n = n};
    ms_write(&writing);
    ms_ahead(&j->y, u->b, next + BLOCK / 2, BLOCK / 2, j->length, u->channel, u->n);
}

/* One unit over the span; its state waits in working memory from span to span. */
static void unit_span(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    ms_unit u;
    if (!ms_take(&j->cut, j->entry * j->cut.heads * j->cut.blocks + i, &u)) return;
    room r = room_at(j, worker);
    int64_t pitch = ms_pitch(u.n), group = u.h / (j->p->heads / j->p->groups);
    const float *in = ms_head(&j->in, u.b, u.h);
    float *out = ms_head(&j->out, u.b, u.h), *s = j->kept + i * ms_floats(j->states * j->pitch);
    if (j->span == 0 && in)
        ms_transpose_in(s, pitch, in + u.v * j->in.row, j->in.row, u.n, j->states);
    else if (j->span == 0)
        memset(s, 0, (size_t)(j->states * pitch) * sizeof *s);
    for (int64_t k = 0; k < j->span_blocks; k++) {
        int64_t t = j->span + k * BLOCK;
        block(j, &u, &r, s, products_of(j, u.b, group, k), t, cpu_min(BLOCK, j->span_end - t));
    }
    if (j->span_end == j->length && out) ms_transpose_out(out + u.v * j->out.row, j->out.row, s, pitch, u.n, j->states);
}

/* Batch entries that go together: fewer heads than UNITS are not enough for many workers. Of all heads, whatever the tile,
 * so that a tile needs no more working memory than the whole. */
static int64_t together(const job *j) {
    return cpu_max(1, cpu_min(j->cut.batches, UNITS / cpu_max(1, j->p->heads * j->cut.blocks)));
}

static void run_blocks(const cpu_device *device, job *j) {
    int64_t heads_a_group = j->p->heads / j->p->groups;
    j->first_group = j->cut.first / heads_a_group;
    j->groups = j->cut.heads ? (j->cut.first + j->cut.heads - 1) / heads_a_group + 1 - j->first_group : 0;
    for (j->entry = 0; j->entry < j->cut.batches; j->entry += j->entries) {
        j->entries = cpu_min(together(j), j->cut.batches - j->entry);
        for (j->span = 0; j->span == 0 || j->span < j->length; j->span += SPAN) {
            j->span_end = cpu_min(j->span + SPAN, j->length);
            j->span_blocks = (j->span_end - j->span + BLOCK - 1) / BLOCK;
            cpu_parallel(device, j->entries * j->groups * j->span_blocks, group_block, j);
            cpu_parallel(device, j->entries * j->cut.heads * j->cut.blocks, unit_span, j);
        }
    }
}

/* ---- one token ---- */

#define VECTORS 4 /* of states at once */

/* Rows of a step, and what they meet. */
typedef struct rows {
    const float *in, *b, *c; /* in NULL: zeros */
    float *out;              /* NULL: not kept */
    int64_t in_row, out_row, n, count; /* states, rows */
    vf decay;
} rows;

/* States [i, ...) of `vectors` vectors (of one: perhaps not all of it) of the rows; sums[r] += row r times C. */
CPU_INLINE void step_states(const rows *s, int64_t i, const int vectors, const float *dx, vf sums[CPU_LANES]) {
    vf b[VECTORS], c[VECTORS];
    for (int e = 0; e < vectors; e++)
        b[e] = ms_load(s->b + i + e * CPU_LANES, s->n - i), c[e] = ms_load(s->c + i + e * CPU_LANES, s->n - i);
    for (int64_t r = 0; r < s->count; r++) {
        vf x = vf_set(dx[r]);
#pragma GCC unroll 4
        for (int e = 0; e < vectors; e++) {
            int64_t at = i + e * CPU_LANES;
            vf next = x * b[e];
            if (s->in) next = vf_fma(s->decay, ms_load(s->in + r * s->in_row + at, s->n - i), next);
            if (s->out) ms_store(s->out + r * s->out_row + at, next, s->n - i);
            sums[r] = vf_fma(next, c[e], sums[r]);
        }
    }
}

/* CPU_LANES rows of the state at a time, so that their sums are taken together. */
static void run_step(const job *j, const ms_unit *u) {
    float d[BLOCK], log_decay[BLOCK], skip = j->d.data ? *ms_at(&j->d, 0, 0, u->h) : 0.0f;
    int64_t group = u->h / (j->p->heads / j->p->groups), n = j->states, whole = n / (VECTORS * CPU_LANES) * VECTORS * CPU_LANES;
    const float *x = ms_at(&j->x, u->b, 0, u->channel), *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h), *y = ms_at(&j->y, u->b, 0, u->channel);
    rows s = {.b = ms_at(&j->b, u->b, 0, group * n), .c = ms_at(&j->c, u->b, 0, group * n), .in_row = j->in.row,
              .out_row = j->out.row, .n = n};
    steps(j, u->b, u->h, 0, 1, d, log_decay);
    s.decay = vf_exp(vf_set(log_decay[0]));
    for (int64_t row = 0; row < u->n; row += CPU_LANES) {
        vf sums[CPU_LANES], value;
        float dx[CPU_LANES];
        s.count = cpu_min(CPU_LANES, u->n - row);
        s.in = in ? in + (u->v + row) * j->in.row : NULL;
        s.out = out ? out + (u->v + row) * j->out.row : NULL;
        value = ms_load(x + row, s.count);
        vf_store(dx, vf_set(d[0]) * value);
        for (int r = 0; r < CPU_LANES; r++) sums[r] = vf_zero();
        for (int64_t i = 0; i < whole; i += VECTORS * CPU_LANES) step_states(&s, i, VECTORS, dx, sums);
        for (int64_t i = whole; i < n; i += CPU_LANES) step_states(&s, i, 1, dx, sums);
        ms_store(y + row, vf_fma(vf_set(skip), value, vf_sums_of_rows(sums)), s.count);
    }
}

/* No token at all: the state is handed on. */
static void pass(const job *j, const ms_unit *u) {
    const float *in = ms_head(&j->in, u->b, u->h);
    float *out = ms_head(&j->out, u->b, u->h);
    for (int64_t row = u->v; row < u->v + u->n && out; row++)
        for (int64_t i = 0; i < j->states; i += CPU_LANES)
            ms_store(out + row * j->out.row + i, in ? ms_load(in + row * j->in.row + i, j->states - i) : vf_zero(),
                     j->states - i);
}

static void step_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    ms_unit u;
    (void)worker;
    for (int64_t k = i * j->cut.group; k < cpu_min((i + 1) * j->cut.group, j->cut.units); k++)
        if (ms_take(&j->cut, k, &u)) (j->length ? run_step : pass)(j, &u);
}

/* Wide heads are cut so that the state of a unit stays in the second level of cache. */
static int64_t block_of(int64_t width) {
    return cpu_min(width, 128);
}

/* The shape of the work, and the floats of products, states and rooms in this order. */
static job begin(const cpu_device *device, const strand_plugin_node *node, int64_t floats[3]) {
    const strand_op_ssd *p = node->params;
    int64_t width = node->outputs[0].whole[2] / p->heads;
    job j = {.p = p,
             .states = node->inputs[2].dims[2] / p->groups,
             .length = node->outputs[0].dims[1],
             .pitch = ms_pitch(block_of(width))};
    j.cut = ms_plan(node, p->heads, block_of(width), (double)j.length * (double)j.states * (double)block_of(width) / 8);
    j.each = room_floats(j.states, j.pitch);
    int64_t blocks = (cpu_min(j.length, SPAN) + BLOCK - 1) / BLOCK, entries = j.length > 1 ? together(&j) : 0;
    floats[0] = entries * p->groups * blocks * BLOCK * BLOCK;
    floats[1] = entries * j.cut.heads * j.cut.blocks * ms_floats(j.states * j.pitch);
    floats[2] = j.length > 1 ? cpu_workers(device) * j.each : 0;
    return j;
}

uint64_t cpu_ssd_scratch(const cpu_device *device, const strand_plugin_node *node) {
    int64_t floats[3];
    begin(device, node, floats);
    return (uint64_t)(floats[0] + floats[1] + floats[2]) * sizeof(float);
}

CPU_KERNEL(cpu_ssd) {
    int64_t floats[3];
    job j = begin(device, node, floats);
    j.products = scratch;
    j.kept = j.products + floats[0];
    j.work = j.kept + floats[1];
    const ms_tokens views[] = {ms_view(node, cpu_input(node, 0)), ms_view(node, cpu_input(node, 1)),
                               ms_view(node, cpu_input(node, 2)), ms_view(node, cpu_input(node, 3)),
                               ms_view(node, cpu_input(node, 4)), ms_view(node, cpu_input(node, 5)),
                               ms_view(node, cpu_input(node, 6)), ms_view(node, &node->outputs[0])};
    j.x = views[0], j.a = views[1], j.b = views[2], j.c = views[3], j.dt = views[4], j.d = views[5], j.bias = views[6],
    j.y = views[7];
    j.in = ms_state_in(node, 7);
    j.out = ms_state_out(node);
    if (j.length <= 1)
        cpu_parallel(device, j.cut.pieces, step_body, &j);
    else
        run_blocks(device, &j);
    return STRAND_PLUGIN_OK;
}

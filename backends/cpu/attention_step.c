/* attention_step.c - ATTENTION of a step: few rows against many keys, which is a matter of reading keys and values once.
 *
 * Elements of a head lie in lanes: a score is a dot product, of which CPU_LANES are summed together by a tree of exchanges. The valid
 * keys are cut into at most SPLITS chunks (by their number alone), each with a maximum, a sum and a result of its own, so that
 * threads share long caches; a second pass joins the chunks in order. Rows are computed one by one: a row's bytes depend on its keys. */
#include "attention.h"

#define SPLITS      64
#define SPLIT_LEAST 512 /* keys of a chunk at least; a multiple of TILE */
#define PIECE       65536 /* elements of k and v in a piece of work at least, when heads are many */

typedef struct job {
    const cpu_heads *a;
    int64_t rows, splits, heads_each, pieces; /* splits: the most of any batch entry; pieces of a chunk of one batch entry */
    int64_t dr, dvr;                          /* d and dv, rounded to vectors */
    float *states, *sums;                     /* [batch, kv_heads, splits, rows]: (maximum, sum), and [dvr] */
    char *workers;
    uint64_t bytes;
} job;

/* Rows of k or v, as they are or unpacked. */
typedef struct plane {
    const char *data; /* of the tile's first key */
    uint32_t dtype;
    int64_t stride; /* bytes */
    int64_t ahead;  /* so many rows from the first on may be prefetched */
} plane;

static int64_t rounded(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static int64_t chunk_of(int64_t valid) {
    return cpu_max(SPLIT_LEAST, rounded((valid + SPLITS - 1) / SPLITS, TILE));
}

/* ---- scores ---- */

/* Lane i of the result is the sum of x[i]. */
CPU_INLINE vf sums_of(vf x[CPU_LANES]) {
#if CPU_LANES == 16
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vf_exchange8(&x[i], &x[i + 8]);
        x[i] += x[i + 8];
    }
#endif
#if CPU_LANES >= 8
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vf_exchange4(&x[i], &x[i + 4]);
        x[i] += x[i + 4];
    }
#endif
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vf_exchange2(&x[i], &x[i + 2]);
        x[i] += x[i + 2];
    }
    vf_exchange1(&x[0], &x[1]);
    return x[0] + x[1];
}

CPU_INLINE void prefetch_row(const plane *p, int64_t row, int64_t bytes) {
    if (row >= p->ahead) return;
    const char *at = p->data + row * p->stride;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i, 0, 3);
}

/* q times keys [first, first + CPU_LANES) of the plane, of which the last one is `last`. */
CPU_INLINE vf dots(const float *q, const plane *k, uint32_t dtype, int64_t first, int64_t last, int64_t d) {
    vf x[CPU_LANES];
    int64_t whole = d - d % CPU_LANES;
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) {
        const char *key = k->data + cpu_min(first + i, last) * k->stride;
        vf sum = vf_zero();
        for (int64_t c = 0; c < whole; c += CPU_LANES) sum = vf_fma(cpu_attention_load(key, dtype, c, CPU_LANES), vf_load(q + c), sum);
        if (whole < d) sum = vf_fma(cpu_attention_load(key, dtype, whole, d - whole), vf_load(q + whole), sum);
        x[i] = sum;
    }
    return sums_of(x);
}

static vf dots_f32(const float *q, const plane *k, int64_t first, int64_t last, int64_t d) {
    return dots(q, k, STRAND_PLUGIN_F32, first, last, d);
}
static vf dots_f16(const float *q, const plane *k, int64_t first, int64_t last, int64_t d) {
    return dots(q, k, STRAND_PLUGIN_F16, first, last, d);
}
static vf dots_bf16(const float *q, const plane *k, int64_t first, int64_t last, int64_t d) {
    return dots(q, k, STRAND_PLUGIN_BF16, first, last, d);
}

static vf dots_any(const float *q, const plane *k, int64_t first, int64_t last, int64_t d) {
    if (k->dtype == STRAND_PLUGIN_F32) return dots_f32(q, k, first, last, d);
    return k->dtype == STRAND_PLUGIN_F16 ? dots_f16(q, k, first, last, d) : dots_bf16(q, k, first, last, d);
}

/* Lanes i of the tile from `first` on, n of which are valid: softcap, bias, and -infinity for what the row does not see. */
static vf finish(const cpu_heads *a, const cpu_attention_row *row, int64_t first, int64_t i, int64_t n, vf x) {
    float cap = a->p->softcap;
    int32_t at[CPU_LANES], open[CPU_LANES];
    vi lane, seen;
    for (int l = 0; l < CPU_LANES; l++) at[l] = (int32_t)i + l;
    memcpy(&lane, at, sizeof lane);
    if (cap > 0) x = vf_tanh(x / cap) * cap * LOG2_E;
    if (row->bias) x = vf_fma(vf_load_part(row->bias + first + i, cpu_min(CPU_LANES, n - i)), vf_set(LOG2_E), x);
    int32_t low = (int32_t)cpu_min(cpu_max(row->low - first, 0), TILE), high = (int32_t)cpu_min(cpu_max(row->high - first, 0), n);
    int32_t sinks = (int32_t)cpu_min(cpu_max(a->p->sinks - first, 0), TILE);
    seen = (lane < high) & ((lane >= low) | (lane < sinks));
    if (row->mask) {
        for (int l = 0; l < CPU_LANES; l++) open[l] = i + l < n && row->mask[(first + i + l) / a->p->block] ? -1 : 0;
        memcpy(&lane, open, sizeof lane);
        seen &= lane;
    }
    return vf_select(seen, x, vf_set(-INFINITY));
}

/* ---- the result ---- */

/* `parts` vectors of the result: sum = sum * shrink + sum over keys of weight * value; a negative weight: not seen. */
CPU_INLINE void weigh(int parts, const plane *v, uint32_t dtype, int64_t column, int64_t width, const float *weights, int64_t from, int64_t to, float shrink, float *sum,
                      int64_t prefetch) {
    vf x[8];
#pragma GCC unroll 8
    for (int i = 0; i < parts; i++) x[i] = vf_zero();
#pragma GCC unroll 1
    for (int64_t key = from; key < to; key++) {
        if (prefetch) prefetch_row(v, key + TILE, prefetch);
        if (weights[key] < 0) continue;
        const char *row = v->data + key * v->stride;
        vf w = vf_set(weights[key]);
#pragma GCC unroll 8
        for (int i = 0; i < parts; i++) x[i] = vf_fma(cpu_attention_load(row, dtype, column + i * CPU_LANES, width), w, x[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < parts; i++) vf_store(sum + i * CPU_LANES, vf_fma(vf_load(sum + i * CPU_LANES), vf_set(shrink), x[i]));
}

CPU_INLINE void weigh_typed(const plane *v, uint32_t dtype, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum, int64_t prefetch) {
    int64_t c = 0;
    for (; c + 8 * CPU_LANES <= dv; c += 8 * CPU_LANES, prefetch = 0) weigh(8, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, prefetch);
    for (; c + 4 * CPU_LANES <= dv; c += 4 * CPU_LANES, prefetch = 0) weigh(4, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, prefetch);
    for (; c + CPU_LANES <= dv; c += CPU_LANES, prefetch = 0) weigh(1, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, prefetch);
    if (c < dv) weigh(1, v, dtype, c, dv - c, weights, from, to, shrink, sum + c, prefetch);
}

static void weigh_f32(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum, int64_t prefetch) {
    weigh_typed(v, STRAND_PLUGIN_F32, dv, weights, from, to, shrink, sum, prefetch);
}
static void weigh_f16(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum, int64_t prefetch) {
    weigh_typed(v, STRAND_PLUGIN_F16, dv, weights, from, to, shrink, sum, prefetch);
}
static void weigh_bf16(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum, int64_t prefetch) {
    weigh_typed(v, STRAND_PLUGIN_BF16, dv, weights, from, to, shrink, sum, prefetch);
}

/* ---- one row and one tile ---- */

/* The lanes-wide range of a tile of n keys that the row may see. */
static bool row_range(const cpu_heads *a, const cpu_attention_row *row, int64_t first, int64_t n, int64_t *from, int64_t *to) {
    *from = first < a->p->sinks ? 0 : cpu_max(0, row->low - first) / CPU_LANES * CPU_LANES;
    *to = cpu_min(row->high - first, n);
    return *from < *to;
}

/* state: the maximum and the sum so far. */
static void row_tile(const cpu_heads *a, const cpu_attention_row *row, const float *q, const plane *k, const plane *v, int64_t first, int64_t n, float *state, float *sum,
                     bool prefetch) {
    float weights[TILE];
    int64_t from, to, bytes_k = prefetch ? a->d * cpu_element_bytes(k->dtype) : 0, bytes_v = prefetch ? a->dv * cpu_element_bytes(v->dtype) : 0;
    if (!row_range(a, row, first, n, &from, &to)) return;
    vf most = vf_set(-INFINITY), total = vf_zero();
    for (int64_t i = from; i < to; i += CPU_LANES) {
        for (int64_t l = i; prefetch && l < i + CPU_LANES; l++) prefetch_row(k, l + TILE, bytes_k);
        vf x = finish(a, row, first, i, n, dots_any(q, k, i, n - 1, a->d));
        most = cpu_attention_max(x, most);
        vf_store(weights + i, x);
    }
    float lanes[CPU_LANES], best = state[0];
    vf_store(lanes, most);
    for (int l = 0; l < CPU_LANES; l++) best = lanes[l] > best ? lanes[l] : best;
    vf base = cpu_attention_base(vf_set(best));
    float shrink = cpu_attention_exp2(vf_set(state[0]) - base)[0];
    for (int64_t i = from; i < to; i += CPU_LANES) {
        vf x = vf_load(weights + i), w = cpu_attention_exp2(x - base);
        total += w;
        vf_store(weights + i, vf_select(x == -INFINITY, vf_set(-1.0f), w));
    }
    state[0] = best;
    state[1] = state[1] * shrink + vf_sum(total);
    if (v->dtype == STRAND_PLUGIN_F32) weigh_f32(v, a->dv, weights, from, to, shrink, sum, bytes_v);
    if (v->dtype == STRAND_PLUGIN_F16) weigh_f16(v, a->dv, weights, from, to, shrink, sum, bytes_v);
    if (v->dtype == STRAND_PLUGIN_BF16) weigh_bf16(v, a->dv, weights, from, to, shrink, sum, bytes_v);
}

/* ---- a chunk of keys of one key head ---- */

/* Several rows read halves once: they are unpacked. */
static plane unpacked(plane p, int64_t n, int64_t width, int64_t ld, float *to) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < width; c += CPU_LANES) vf_store(to + i * ld + c, cpu_attention_load(p.data + i * p.stride, p.dtype, c, cpu_min(CPU_LANES, width - c)));
    return (plane){(const char *)to, STRAND_PLUGIN_F32, ld * (int64_t)sizeof(float), 0};
}

static plane plane_at(const cpu_heads *a, uint32_t input, int64_t b, int64_t kv_head, int64_t first, int64_t end, int64_t width) {
    const strand_plugin_tensor *x = &a->node->inputs[input];
    return (plane){cpu_attention_at(a, x, b, first, kv_head, width), x->dtype, x->strides[1] * cpu_element_bytes(x->dtype), end - first};
}

static void chunk(const job *j, int64_t b, int64_t kv_head, int64_t split, char *space) {
    const cpu_heads *a = j->a;
    int64_t valid = cpu_attention_valid(a, b), keys = chunk_of(valid), begin = split * keys, end = cpu_min(begin + keys, valid);
    int64_t slot = ((b * a->kv_heads + kv_head) * j->splits + split) * j->rows;
    float *q = (float *)(void *)space, *k_tile = q + STEP_ROWS * j->dr, *v_tile = k_tile + TILE * j->dr;
    cpu_attention_row rows[STEP_ROWS];
    const strand_plugin_tensor *query = &a->node->inputs[0];
    for (int64_t r = 0; r < j->rows; r++) {
        rows[r] = cpu_attention_row_at(a, b, kv_head, r);
        const char *from = cpu_attention_at(a, query, b, a->first - query->origin[1] + rows[r].token, rows[r].head, a->d);
        for (int64_t c = 0; c < a->d; c += CPU_LANES)
            vf_store(q + r * j->dr + c, cpu_attention_load(from, STRAND_PLUGIN_F32, c, cpu_min(CPU_LANES, a->d - c)) * a->factor);
        j->states[2 * (slot + r)] = -INFINITY;
        j->states[2 * (slot + r) + 1] = 0;
        memset(j->sums + (slot + r) * j->dvr, 0, (size_t)j->dvr * sizeof(float));
    }
    for (int64_t first = begin; first < end; first += TILE) {
        int64_t n = cpu_min(TILE, end - first), from, to;
        plane k = plane_at(a, 1, b, kv_head, first, end, a->d), v = plane_at(a, 2, b, kv_head, first, end, a->dv);
        bool any = false;
        for (int64_t r = 0; r < j->rows; r++) any |= row_range(a, &rows[r], first, n, &from, &to);
        if (!any) continue;
        if (j->rows > 1 && k.dtype != STRAND_PLUGIN_F32) k = unpacked(k, n, a->d, j->dr, k_tile);
        if (j->rows > 1 && v.dtype != STRAND_PLUGIN_F32) v = unpacked(v, n, a->dv, j->dvr, v_tile);
        for (int64_t r = 0; r < j->rows; r++)
            row_tile(a, &rows[r], q + r * j->dr, &k, &v, first, n, j->states + 2 * (slot + r), j->sums + (slot + r) * j->dvr, r == 0);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t head = i % j->pieces * j->heads_each, split = i / j->pieces % j->splits, b = i / j->pieces / j->splits;
    int64_t valid = cpu_attention_valid(j->a, b), end = cpu_min(head + j->heads_each, j->a->kv_heads);
    if (split * chunk_of(valid) >= valid) return;
    for (; head < end; head++) chunk(j, b, head, split, j->workers + (uint64_t)worker * j->bytes);
}

/* Joins the chunks of one row. Adding 0 makes one zero of the two. */
static void join(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const cpu_heads *a = j->a;
    (void)worker;
    int64_t b = i / a->kv_heads, kv_head = i % a->kv_heads, valid = cpu_attention_valid(a, b), keys = chunk_of(valid), splits = (valid + keys - 1) / keys;
    for (int64_t r = 0; r < j->rows; r++) {
        cpu_attention_row row = cpu_attention_row_at(a, b, kv_head, r);
        float *y = (float *)(void *)cpu_attention_at(a, &a->node->outputs[0], b, row.token, row.head, a->dv);
        int64_t slot = i * j->splits * j->rows + r;
        float best = -INFINITY, total = 0, share[SPLITS];
        for (int64_t s = 0; s < splits; s++) {
            float most = j->states[2 * (slot + s * j->rows)];
            best = most > best ? most : best;
        }
        vf base = cpu_attention_base(vf_set(best));
        for (int64_t s = 0; s < splits; s++) {
            const float *state = j->states + 2 * (slot + s * j->rows);
            share[s] = cpu_attention_exp2(vf_set(state[0]) - base)[0];
            total += state[1] * share[s];
        }
        for (int64_t c = 0; c < a->dv; c += CPU_LANES) {
            vf sum = vf_zero();
            for (int64_t s = 0; s < splits; s++) sum = vf_fma(vf_load(j->sums + (slot + s * j->rows) * j->dvr + c), vf_set(share[s]), sum);
            sum = total == 0 ? vf_zero() : sum / total + 0.0f;
            if (c + CPU_LANES <= a->dv)
                vf_store(y + c, sum);
            else
                vf_store_part(y + c, sum, a->dv - c);
        }
    }
}

/* ---- the whole ---- */

static job job_of(const cpu_heads *a) {
    job j = {.a = a, .dr = rounded(a->d, CPU_LANES), .dvr = rounded(a->dv, CPU_LANES)};
    j.bytes = cpu_round((uint64_t)(STEP_ROWS * j.dr + TILE * (j.dr + j.dvr)) * sizeof(float));
    return j;
}

uint64_t cpu_attention_step_scratch(const cpu_device *device, const cpu_heads *a) {
    job j = job_of(a);
    int64_t splits = cpu_min(SPLITS, (a->keys + SPLIT_LEAST - 1) / SPLIT_LEAST);
    if (a->group > STEP_ROWS) return 0;
    uint64_t slots = (uint64_t)(a->batch * a->kv_heads * splits * cpu_min(STEP_ROWS, a->group * cpu_min(STEP_ROWS, a->length)));
    return cpu_round(slots * 2 * sizeof(float)) + cpu_round(slots * (uint64_t)j.dvr * sizeof(float)) + j.bytes * (uint64_t)cpu_workers(device);
}

void cpu_attention_step(const cpu_device *device, const cpu_heads *a, void *scratch) {
    job j = job_of(a);
    int64_t longest = 0;
    j.rows = a->tokens * a->group;
    for (int64_t b = 0; b < a->batch; b++) {
        int64_t valid = cpu_attention_valid(a, b), keys = chunk_of(valid);
        longest = cpu_max(longest, cpu_min(valid, keys));
        j.splits = cpu_max(j.splits, (valid + keys - 1) / keys);
    }
    j.heads_each = cpu_max(1, cpu_min(a->kv_heads, PIECE / cpu_max(1, longest * (a->d + a->dv))));
    j.pieces = (a->kv_heads + j.heads_each - 1) / j.heads_each;
    uint64_t slots = (uint64_t)(a->batch * a->kv_heads * j.splits * j.rows);
    j.states = scratch;
    j.sums = (float *)(void *)((char *)scratch + cpu_round(slots * 2 * sizeof(float)));
    j.workers = (char *)j.sums + cpu_round(slots * (uint64_t)j.dvr * sizeof(float));
    if (j.splits > 0) cpu_parallel(device, a->batch * j.splits * j.pieces, body, &j);
    cpu_parallel(device, a->batch * a->kv_heads, join, &j);
}

/* attention_step.c - ATTENTION of a step: few rows against many keys, which is a matter of reading keys and values once.
 *
 * Elements of a head lie in lanes: a score is a dot product, of which CPU_LANES are summed together by a tree of exchanges.
 * The valid keys are cut into at most SPLITS chunks (by their number alone), each with a maximum, a sum and a result of its
 * own, so that threads share long caches; a second pass joins the chunks in order. Rows are computed one by one: a row's
 * bytes depend on its keys.
 *
 * Keys of one head lie far apart (a row of all heads is often a page), so a piece of work takes as many heads as fill a
 * page, tile by tile, and asks for each head's part of the next tile while it computes: pages are visited once, and lines
 * arrive in time. */
#include "attention.h"

#define SPLITS      64
#define SPLIT_LEAST 512 /* keys of a chunk at least; a multiple of TILE */
#define STEP_TILE   32  /* keys that are computed together; divides TILE */
#define PAGE        4096

typedef struct job {
    const cpu_heads *a;
    int64_t rows, splits, heads_each, pieces; /* splits: the most of any batch entry; pieces: of a chunk of one batch entry */
    int64_t dr, dvr;                          /* d and dv, rounded to vectors */
    float *states, *sums;                     /* [batch, kv_heads, splits, rows]: (maximum, sum), and [dvr] */
    char *workers;
    uint64_t bytes;
} job;

/* What is still to be asked for of the next tile of k or v: the parts of its rows that belong to one head each, row by row,
 * so that memory is asked for in its own order. Each head of a piece asks for its share of them. */
typedef struct ahead {
    const char *row; /* of the first of the heads */
    int64_t stride, part, parts, bytes, left; /* bytes: of a part; left: parts */
} ahead;

/* Rows of k or v, as they are or unpacked, from the tile's first key on. */
typedef struct plane {
    const char *data;
    uint32_t dtype;
    int64_t stride; /* bytes */
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

CPU_INLINE void ask(ahead *a) {
    if (a->left <= 0) return;
    const char *at = a->row + a->part * a->bytes;
    for (int64_t i = 0; i < a->bytes; i += 64) __builtin_prefetch(at + i, 0, 2);
    a->left--;
    if (++a->part == a->parts) a->part = 0, a->row += a->stride;
}

/* q times keys [first, first + CPU_LANES) of the plane, of which the last one is `last`. */
CPU_INLINE vf dots(const float *q, const plane *k, uint32_t dtype, int64_t first, int64_t last, int64_t d) {
    vf x[CPU_LANES];
    int64_t whole = d - d % CPU_LANES;
    bool inside = first + CPU_LANES - 1 <= last;
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) x[i] = vf_zero();
#pragma GCC unroll 1
    for (int64_t c = 0; c < whole && inside; c += CPU_LANES) {
        const char *key = k->data + first * k->stride;
        vf y = vf_load(q + c);
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++, key += k->stride)
            x[i] = vf_fma(cpu_attention_load(key, dtype, c, CPU_LANES), y, x[i]);
    }
    for (int64_t c = inside ? whole : 0; c < d; c += CPU_LANES)
#pragma GCC unroll 16
        for (int i = 0; i < CPU_LANES; i++) {
            const char *key = k->data + cpu_min(first + i, last) * k->stride;
            x[i] = vf_fma(c < whole ? cpu_attention_load(key, dtype, c, CPU_LANES) : cpu_attention_load(key, dtype, c, d - c),
                          vf_load(q + c), x[i]);
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
    if (cap > 0) x = vf_tanh(x / cap) * cap * LOG2_E;
    if (row->bias) x = vf_fma(vf_load_part(row->bias + first + i, cpu_min(CPU_LANES, n - i)), vf_set(LOG2_E), x);
    if (!row->mask && row->low <= first + i && row->high >= first + i + CPU_LANES) return x;
    for (int l = 0; l < CPU_LANES; l++) at[l] = (int32_t)i + l;
    memcpy(&lane, at, sizeof lane);
    int32_t low = (int32_t)cpu_min(cpu_max(row->low - first, 0), STEP_TILE),
            high = (int32_t)cpu_min(cpu_max(row->high - first, 0), n);
    int32_t sinks = (int32_t)cpu_min(cpu_max(a->p->sinks - first, 0), STEP_TILE);
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
CPU_INLINE void weigh(int parts, const plane *v, uint32_t dtype, int64_t column, int64_t width, const float *weights,
                      int64_t from, int64_t to, float shrink, float *sum, ahead *next) {
    vf x[8];
#pragma GCC unroll 8
    for (int i = 0; i < parts; i++) x[i] = vf_zero();
#pragma GCC unroll 1
    for (int64_t key = from; key < to; key++) {
        if (next) ask(next);
        if (weights[key] < 0) continue;
        const char *row = v->data + key * v->stride;
        vf w = vf_set(weights[key]);
#pragma GCC unroll 8
        for (int i = 0; i < parts; i++) x[i] = vf_fma(cpu_attention_load(row, dtype, column + i * CPU_LANES, width), w, x[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < parts; i++) vf_store(sum + i * CPU_LANES, vf_fma(vf_load(sum + i * CPU_LANES), vf_set(shrink), x[i]));
}

CPU_INLINE void weigh_typed(const plane *v, uint32_t dtype, int64_t dv, const float *weights, int64_t from, int64_t to,
                            float shrink, float *sum, ahead *next) {
    int64_t c = 0;
    for (; c + 8 * CPU_LANES <= dv; c += 8 * CPU_LANES, next = NULL)
        weigh(8, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, next);
    for (; c + 4 * CPU_LANES <= dv; c += 4 * CPU_LANES, next = NULL)
        weigh(4, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, next);
    for (; c + CPU_LANES <= dv; c += CPU_LANES, next = NULL)
        weigh(1, v, dtype, c, CPU_LANES, weights, from, to, shrink, sum + c, next);
    if (c < dv) weigh(1, v, dtype, c, dv - c, weights, from, to, shrink, sum + c, next);
}

static void weigh_f32(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum,
                      ahead *next) {
    weigh_typed(v, STRAND_PLUGIN_F32, dv, weights, from, to, shrink, sum, next);
}
static void weigh_f16(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum,
                      ahead *next) {
    weigh_typed(v, STRAND_PLUGIN_F16, dv, weights, from, to, shrink, sum, next);
}
static void weigh_bf16(const plane *v, int64_t dv, const float *weights, int64_t from, int64_t to, float shrink, float *sum,
                       ahead *next) {
    weigh_typed(v, STRAND_PLUGIN_BF16, dv, weights, from, to, shrink, sum, next);
}

/* ---- one row and one tile ---- */

/* The lanes-wide range of a tile of n keys that the row may see. */
static bool row_range(const cpu_heads *a, const cpu_attention_row *row, int64_t first, int64_t n, int64_t *from, int64_t *to) {
    *from = first < a->p->sinks ? 0 : cpu_max(0, row->low - first) / CPU_LANES * CPU_LANES;
    *to = cpu_min(row->high - first, n);
    return *from < *to;
}

/* The largest lane. */
CPU_INLINE float largest(vf x) {
#if CPU_LANES == 16
    return _mm512_reduce_max_ps((__m512)x);
#else
    float best = x[0];
    for (int l = 1; l < CPU_LANES; l++) best = x[l] > best ? x[l] : best;
    return best;
#endif
}

/* state: the maximum and the sum so far. */
static void row_tile(const cpu_heads *a, const cpu_attention_row *row, const float *q, const plane *k, const plane *v,
                     int64_t first, int64_t n, float *state, float *sum, ahead *next_k, ahead *next_v) {
    float weights[STEP_TILE];
    int64_t from, to;
    if (!row_range(a, row, first, n, &from, &to)) return;
    vf most = vf_set(-INFINITY), total = vf_zero();
    for (int64_t i = from; i < to; i += CPU_LANES) {
        for (int l = 0; next_k && l < CPU_LANES; l++) ask(next_k);
        vf x = finish(a, row, first, i, n, dots_any(q, k, i, n - 1, a->d));
        most = cpu_attention_max(x, most);
        vf_store(weights + i, x);
    }
    float best = largest(most);
    best = best > state[0] ? best : state[0];
    vf base = cpu_attention_base(vf_set(best));
    float shrink = cpu_attention_exp2(vf_set(state[0]) - base)[0];
    for (int64_t i = from; i < to; i += CPU_LANES) {
        vf x = vf_load(weights + i), w = cpu_attention_exp2(x - base);
        total += w;
        vf_store(weights + i, vf_select(x == -INFINITY, vf_set(-1.0f), w));
    }
    state[0] = best;
    state[1] = state[1] * shrink + vf_sum(total);
    if (v->dtype == STRAND_PLUGIN_F32) weigh_f32(v, a->dv, weights, from, to, shrink, sum, next_v);
    if (v->dtype == STRAND_PLUGIN_F16) weigh_f16(v, a->dv, weights, from, to, shrink, sum, next_v);
    if (v->dtype == STRAND_PLUGIN_BF16) weigh_bf16(v, a->dv, weights, from, to, shrink, sum, next_v);
}

/* ---- a chunk of keys of some heads ---- */

/* Several rows read a tile as often, so it is brought together first. */
static plane unpacked(plane p, int64_t n, int64_t width, int64_t ld, float *to, ahead *next) {
    for (int64_t i = 0; i < n; i++) {
        ask(next);
        for (int64_t c = 0; c < width; c += CPU_LANES) {
            vf x = c + CPU_LANES <= width ? cpu_attention_load(p.data + i * p.stride, p.dtype, c, CPU_LANES)
                                          : cpu_attention_load(p.data + i * p.stride, p.dtype, c, width - c);
            vf_store(to + i * ld + c, x);
        }
    }
    return (plane){(const char *)to, STRAND_PLUGIN_F32, ld * (int64_t)sizeof(float)};
}

static plane plane_at(const cpu_heads *a, uint32_t input, int64_t b, int64_t kv_head, int64_t first, int64_t width) {
    const strand_plugin_tensor *x = &a->node->inputs[input];
    return (plane){cpu_attention_at(a, x, b, first, kv_head, width), x->dtype, x->strides[1] * cpu_element_bytes(x->dtype)};
}

/* The share of head `h` of `heads`, from `head` on, in asking for the tile that begins with key `first`. */
static ahead ahead_at(const cpu_heads *a, uint32_t input, int64_t b, int64_t head, int64_t h, int64_t heads, int64_t first,
                      int64_t end, int64_t width) {
    int64_t begin = h * STEP_TILE, all = cpu_min(STEP_TILE, end - first) * heads, row = begin / heads;
    if (begin >= all) return (ahead){0};
    plane p = plane_at(a, input, b, head, first + row, width);
    return (ahead){p.data, p.stride, begin % heads, heads, width * cpu_element_bytes(p.dtype), cpu_min(STEP_TILE, all - begin)};
}

/* Working memory of one worker: q of all rows of the heads, then a tile of keys and one of values. */
static int64_t worker_floats(const job *j, int64_t heads) {
    return heads * j->rows * j->dr + STEP_TILE * (j->dr + j->dvr);
}

/* Where the state of the first row of a head's chunk stands. */
static int64_t slot_of(const job *j, int64_t b, int64_t kv_head, int64_t split) {
    return ((b * j->a->kv_heads + kv_head) * j->splits + split) * j->rows;
}

static void begin_head(const job *j, int64_t b, int64_t kv_head, int64_t split, float *q) {
    const cpu_heads *a = j->a;
    const strand_plugin_tensor *query = &a->node->inputs[0];
    int64_t slot = slot_of(j, b, kv_head, split);
    for (int64_t r = 0; r < j->rows; r++) {
        cpu_attention_row row = cpu_attention_row_at(a, b, kv_head, r);
        const char *from = cpu_attention_at(a, query, b, a->first - query->origin[1] + row.token, row.head, a->d);
        for (int64_t c = 0; c < a->d; c += CPU_LANES)
            vf_store(q + r * j->dr + c,
                     cpu_attention_load(from, STRAND_PLUGIN_F32, c, cpu_min(CPU_LANES, a->d - c)) * a->factor);
        j->states[2 * (slot + r)] = -INFINITY;
        j->states[2 * (slot + r) + 1] = 0;
        memset(j->sums + (slot + r) * j->dvr, 0, (size_t)j->dvr * sizeof(float));
    }
}

/* Tile [first, first + STEP_TILE) of the keys before `end`, for head `h` of those from `head` on. */
static void head_tile(const job *j, int64_t b, int64_t head, int64_t h, int64_t heads, int64_t split, int64_t first,
                      int64_t end, const float *q, float *tiles) {
    const cpu_heads *a = j->a;
    int64_t n = cpu_min(STEP_TILE, end - first), slot = slot_of(j, b, head + h, split), from, to;
    cpu_attention_row rows[STEP_ROWS];
    bool any = false;
    for (int64_t r = 0; r < j->rows; r++) {
        rows[r] = cpu_attention_row_at(a, b, head + h, r);
        any |= row_range(a, &rows[r], first, n, &from, &to);
    }
    if (!any) return;
    plane k = plane_at(a, 1, b, head + h, first, a->d), v = plane_at(a, 2, b, head + h, first, a->dv);
    ahead next_k = ahead_at(a, 1, b, head, h, heads, first + STEP_TILE, end, a->d),
          next_v = ahead_at(a, 2, b, head, h, heads, first + STEP_TILE, end, a->dv);
    if (j->rows > 1) {
        k = unpacked(k, n, a->d, j->dr, tiles, &next_k);
        v = unpacked(v, n, a->dv, j->dvr, tiles + STEP_TILE * j->dr, &next_v);
    }
    for (int64_t r = 0; r < j->rows; r++)
        row_tile(a, &rows[r], q + r * j->dr, &k, &v, first, n, j->states + 2 * (slot + r), j->sums + (slot + r) * j->dvr,
                 &next_k, &next_v);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const cpu_heads *a = j->a;
    int64_t head = i % j->pieces * j->heads_each, split = i / j->pieces % j->splits, b = i / j->pieces / j->splits;
    int64_t valid = cpu_attention_valid(a, b), keys = chunk_of(valid), begin = split * keys, end = cpu_min(begin + keys, valid);
    int64_t heads = cpu_min(j->heads_each, a->kv_heads - head);
    float *q = (float *)(void *)(j->workers + (uint64_t)worker * j->bytes), *tiles = q + j->heads_each * j->rows * j->dr;
    for (int64_t h = 0; h < heads && begin < end; h++) begin_head(j, b, head + h, split, q + h * j->rows * j->dr);
    for (int64_t first = begin; first < end; first += STEP_TILE)
        for (int64_t h = 0; h < heads; h++) head_tile(j, b, head, h, heads, split, first, end, q + h * j->rows * j->dr, tiles);
}

/* Joins the chunks of one row. Adding 0 makes one zero of the two. */
static void join(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const cpu_heads *a = j->a;
    (void)worker;
    int64_t b = i / a->kv_heads, kv_head = i % a->kv_heads, valid = cpu_attention_valid(a, b), keys = chunk_of(valid),
            splits = (valid + keys - 1) / keys;
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
            for (int64_t s = 0; s < splits; s++)
                sum = vf_fma(vf_load(j->sums + (slot + s * j->rows) * j->dvr + c), vf_set(share[s]), sum);
            sum = total == 0 ? vf_zero() : sum / total + 0.0f;
            if (c + CPU_LANES <= a->dv)
                vf_store(y + c, sum);
            else
                vf_store_part(y + c, sum, a->dv - c);
        }
    }
}

/* ---- the whole ---- */

static job job_of(const cpu_heads *a, int64_t rows) {
    job j = {.a = a, .rows = rows, .dr = rounded(a->d, CPU_LANES), .dvr = rounded(a->dv, CPU_LANES)};
    int64_t row_bytes = a->d * cpu_element_bytes(a->node->inputs[1].dtype);
    j.heads_each = cpu_max(1, cpu_min(a->kv_heads, PAGE / row_bytes));
    j.pieces = (a->kv_heads + j.heads_each - 1) / j.heads_each;
    j.bytes = cpu_round((uint64_t)worker_floats(&j, j.heads_each) * sizeof(float));
    return j;
}

uint64_t cpu_attention_step_scratch(const cpu_device *device, const cpu_heads *a) {
    if (a->group > STEP_ROWS) return 0;
    job j = job_of(a, cpu_min(STEP_ROWS, a->group * cpu_min(STEP_ROWS, a->length)));
    int64_t splits = cpu_min(SPLITS, (a->keys + SPLIT_LEAST - 1) / SPLIT_LEAST);
    uint64_t slots = (uint64_t)(a->batch * a->kv_heads * splits * j.rows);
    return cpu_round(slots * 2 * sizeof(float)) + cpu_round(slots * (uint64_t)j.dvr * sizeof(float)) +
           j.bytes * (uint64_t)cpu_workers(device);
}

void cpu_attention_step(const cpu_device *device, const cpu_heads *a, void *scratch) {
    job j = job_of(a, a->tokens * a->group);
    for (int64_t b = 0; b < a->batch; b++) {
        int64_t valid = cpu_attention_valid(a, b), keys = chunk_of(valid);
        j.splits = cpu_max(j.splits, (valid + keys - 1) / keys);
    }
    uint64_t slots = (uint64_t)(a->batch * a->kv_heads * j.splits * j.rows);
    j.states = scratch;
    j.sums = (float *)(void *)((char *)scratch + cpu_round(slots * 2 * sizeof(float)));
    j.workers = (char *)j.sums + cpu_round(slots * (uint64_t)j.dvr * sizeof(float));
    if (j.splits > 0) cpu_parallel(device, a->batch * j.splits * j.pieces, body, &j);
    cpu_parallel(device, a->batch * a->kv_heads, join, &j);
}

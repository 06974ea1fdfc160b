/* attention_rows.c - ATTENTION of many rows: one lane a row, blocked, with the running maximum of an online softmax.
 *
 * A panel holds PANEL rows turned on their side: q [d][PANEL], the result [dv][PANEL], one maximum and one sum a row. A tile of
 * keys and one of values are unpacked to F32 once for all panels of a block of rows. Scores are a register block of KEYS
 * keys by a panel: a row of q against broadcast elements of the keys; the result is the same thing with broadcast elements
 * of the values. Lanes never meet, so a row's bytes depend on nothing of its neighbours; see attention.h for what else keeps
 * them. */
#include "attention.h"

#define VECTORS 2
#define PANEL   (VECTORS * CPU_LANES)
#define BLOCK   512 /* rows of a piece of work at most: the panels that share an unpacked tile */
#if CPU_LANES == 16 || defined(__aarch64__)
#define KEYS 8
#else
#define KEYS 4
#endif

/* Working memory of one worker. */
typedef struct space {
    float *q, *sums;                  /* [panels][d][PANEL], [panels][dv rounded][PANEL] */
    float *most, *total;              /* [panels][PANEL]: the maximum so far, the sum of exponentials */
    float *keys, *values;             /* [TILE][d], [TILE][dv rounded] */
    float *scores;                    /* [TILE][PANEL] */
    int32_t *blocks;                  /* [TILE][PANEL]: the block mask of a tile, one row a block of keys */
    cpu_attention_row *rows;          /* [block] */
} space;

typedef struct job {
    const cpu_heads *a;
    int64_t block, pieces, ldv, bytes; /* block: rows of a piece */
    char *scratch;
    bool pairs; /* products of BF16 */
} job;

/* The keys [from, to) of a tile that a panel may see, and whether each row sees all of them. */
typedef struct range {
    int64_t from, to;
    bool whole;
} range;

static int64_t rounded(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

#include "attention_pairs.h"

/* ---- unpacking ---- */

/* n rows of k or v, `width` elements each and zeros up to ld. Returns whether all are finite. */
static bool unpack(float *to, int64_t ld, const char *from, uint32_t dtype, int64_t stride, int64_t n, int64_t width) {
    int64_t bytes = cpu_element_bytes(dtype), whole = width - width % CPU_LANES;
    vi odd = {0};
    for (int64_t i = 0; i < n; i++, from += stride * bytes, to += ld) {
        for (int64_t c = 0; c < width; c += CPU_LANES) {
            int64_t some = c < whole ? CPU_LANES : width - c;
            vf x = c < whole ? cpu_attention_load(from, dtype, c, CPU_LANES) : cpu_attention_load(from, dtype, c, some);
            odd |= ((vi)x & 0x7f800000) == 0x7f800000;
            if (c < whole)
                vf_store(to + c, x);
            else
                vf_store_part(to + c, x, some);
        }
        for (int64_t c = width; c < ld; c++) to[c] = 0;
    }
    return !vi_any(odd);
}

/* Turns CPU_LANES rows of q, n of them there, on their side, times the factor; from[i] is row i. */
CPU_INLINE void turn_in(const float *const from[CPU_LANES], int64_t n, int64_t c, int64_t some, float factor, float *q) {
    vf square[CPU_LANES];
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        square[i] = i < n ? (some == CPU_LANES ? vf_load(from[i] + c) : vf_load_part(from[i] + c, some)) * factor : vf_zero();
    vf_transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        if (i < some) vf_store(q + (c + i) * PANEL, square[i]);
}

static void load_panel(const cpu_heads *a, int64_t b, const cpu_attention_row *rows, int64_t n, float *q) {
    const strand_plugin_tensor *x = &a->node->inputs[0];
    for (int64_t v = 0; v < VECTORS; v++, q += CPU_LANES) {
        const float *from[CPU_LANES] = {0};
        int64_t left = cpu_max(0, cpu_min(CPU_LANES, n - v * CPU_LANES)), whole = a->d - a->d % CPU_LANES;
        for (int64_t i = 0; i < left; i++) {
            const cpu_attention_row *r = &rows[v * CPU_LANES + i];
            from[i] = (const float *)(const void *)cpu_attention_at(a, x, b, a->first - x->origin[1] + r->token, r->head, a->d);
        }
        for (int64_t c = 0; c < whole; c += CPU_LANES)
            if (left == CPU_LANES)
                turn_in(from, CPU_LANES, c, CPU_LANES, a->factor, q);
            else
                turn_in(from, left, c, CPU_LANES, a->factor, q);
        if (whole < a->d) turn_in(from, left, whole, a->d - whole, a->factor, q);
    }
}

/* The other way round: CPU_LANES elements of the result, `some` of them there, over the total of each row. */
CPU_INLINE void turn_out(float *const to[CPU_LANES], int64_t n, int64_t c, int64_t some, vf total, const float *sums) {
    vf square[CPU_LANES];
    vi nothing = total == 0.0f;
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++)
        square[i] = i < some ? vf_select(nothing, vf_zero(), vf_load(sums + (c + i) * PANEL) / total) + 0.0f : vf_zero();
    vf_transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < CPU_LANES; i++) {
        if (i >= n) continue;
        if (some == CPU_LANES)
            vf_store(to[i] + c, square[i]);
        else
            vf_store_part(to[i] + c, square[i], some);
    }
}

/* The result of a panel: sums over totals, and 0 for a row that has seen nothing. Adding 0 makes one zero of the two. */
static void store_panel(const cpu_heads *a, int64_t b, const cpu_attention_row *rows, int64_t n, const float *sums,
                        const float *total) {
    for (int64_t v = 0; v < VECTORS; v++, sums += CPU_LANES) {
        float *to[CPU_LANES] = {0};
        int64_t left = cpu_max(0, cpu_min(CPU_LANES, n - v * CPU_LANES)), whole = a->dv - a->dv % CPU_LANES;
        vf all = vf_load(total + v * CPU_LANES);
        for (int64_t i = 0; i < left; i++) {
            const cpu_attention_row *r = &rows[v * CPU_LANES + i];
            to[i] = (float *)(void *)cpu_attention_at(a, &a->node->outputs[0], b, r->token, r->head, a->dv);
        }
        for (int64_t c = 0; c < whole; c += CPU_LANES)
            if (left == CPU_LANES)
                turn_out(to, CPU_LANES, c, CPU_LANES, all, sums);
            else
                turn_out(to, left, c, CPU_LANES, all, sums);
        if (whole < a->dv) turn_out(to, left, whole, a->dv - whole, all, sums);
    }
}

/* ---- the two products ---- */

/* Scores of KEYS keys from k on; `most` takes their maximum in. */
CPU_INLINE void score_keys(int vectors, const float *q, const float *k, int64_t d, float *scores, vf most[VECTORS]) {
    vf sum[KEYS][VECTORS];
    const float *key[KEYS];
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++) {
        key[r] = k + r * d;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_zero();
    }
#pragma GCC unroll 1
    for (int64_t i = 0; i < d; i++, q += PANEL) {
        vf x[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) x[v] = vf_load(q + v * CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < KEYS; r++) {
            vf y = vf_set(key[r][i]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(y, x[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            vf_store(scores + r * PANEL + v * CPU_LANES, sum[r][v]);
            most[v] = cpu_attention_max(sum[r][v], most[v]);
        }
}

/* KEYS elements of the result: sums = sums * shrink + sum over keys of weight * value. */
CPU_INLINE void weigh(int vectors, const float *weights, const float *values, int64_t ldv, int64_t keys, float *sums,
                      const vf shrink[VECTORS]) {
    vf sum[KEYS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = vf_zero();
#pragma GCC unroll 1
    for (int64_t i = 0; i < keys; i++, weights += PANEL, values += ldv) {
        vf x[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) x[v] = vf_load(weights + v * CPU_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < KEYS; r++) {
            vf y = vf_set(values[r]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] = vf_fma(y, x[v], sum[r][v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < KEYS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *to = sums + r * PANEL + v * CPU_LANES;
            vf_store(to, vf_fma(vf_load(to), shrink[v], sum[r][v]));
        }
}

/* The same for values that are not all finite: a weight of -0 marks a key that is not seen. */
static void weigh_seen(int vectors, const float *weights, const float *values, int64_t ldv, int64_t keys, float *sums,
                       const vf shrink[VECTORS]) {
    for (int r = 0; r < KEYS; r++)
        for (int v = 0; v < vectors; v++) {
            vf sum = vf_zero();
            for (int64_t i = 0; i < keys; i++) {
                vf w = vf_load(weights + i * PANEL + v * CPU_LANES);
                sum = vf_select((vi)w == INT32_MIN, sum, vf_fma(vf_set(values[i * ldv + r]), w, sum));
            }
            float *to = sums + r * PANEL + v * CPU_LANES;
            vf_store(to, vf_fma(vf_load(to), shrink[v], sum));
        }
}

/* ---- what is between them ---- */

static void bias_part(const cpu_attention_row *rows, int64_t n, int64_t key, int64_t count, float *scores, int v, vf unit) {
    vf square[CPU_LANES];
    for (int i = 0; i < CPU_LANES; i++) {
        int64_t r = v * CPU_LANES + i;
        const float *from = r < n ? rows[r].bias + key : NULL;
        square[i] = !from ? vf_zero() : count == CPU_LANES ? vf_load(from) : vf_load_part(from, count);
    }
    vf_transpose(square);
    for (int64_t i = 0; i < count; i++) {
        float *s = scores + i * PANEL + v * CPU_LANES;
        vf_store(s, vf_fma(square[i], unit, vf_load(s)));
    }
}

/* Softcap and bias, after which scores are in units of log 2. */
static void finish_scores(const cpu_heads *a, const cpu_attention_row *rows, int64_t n, int64_t first, range r, float *scores) {
    float cap = a->p->softcap;
    if (cap > 0)
        for (int64_t i = r.from * VECTORS; i < r.to * VECTORS; i++)
            vf_store(scores + i * CPU_LANES, vf_tanh(vf_load(scores + i * CPU_LANES) / cap) * cap * LOG2_E);
    for (int64_t i = r.from; a->bias && i < r.to; i += CPU_LANES)
        for (int v = 0; v < VECTORS; v++)
            bias_part(rows, n, first + i, cpu_min(CPU_LANES, r.to - i), scores + i * PANEL, v, vf_set(LOG2_E));
}

/* Gives -infinity to keys that a row does not see. */
CPU_INLINE void hide(int vectors, const cpu_heads *a, const cpu_attention_row *rows, int64_t n, int64_t first, range r,
                     float *scores, const int32_t *blocks) {
    int32_t low[PANEL] = {0}, high[PANEL] = {0};
    for (int64_t i = 0; i < n; i++) {
        low[i] = (int32_t)cpu_min(cpu_max(rows[i].low - first, 0), TILE);
        high[i] = (int32_t)cpu_min(cpu_max(rows[i].high - first, 0), TILE);
    }
    for (int v = 0; v < vectors; v++) {
        vi least, end;
        memcpy(&least, low + v * CPU_LANES, sizeof least);
        memcpy(&end, high + v * CPU_LANES, sizeof end);
        for (int64_t i = r.from; i < r.to; i++) {
            vi at = {0}, seen;
            at += (int32_t)i;
            seen = at < end;
            if (first + i >= a->p->sinks) seen &= at >= least;
            if (blocks) {
                vi open;
                memcpy(&open, blocks + ((first + i) / a->p->block - first / a->p->block) * PANEL + v * CPU_LANES, sizeof open);
                seen &= open;
            }
            float *s = scores + i * PANEL + v * CPU_LANES;
            vf_store(s, vf_select(seen, vf_load(s), vf_set(-INFINITY)));
        }
    }
}

/* Scores become weights: 2^(score - maximum). shrink: what the sums so far are to be multiplied by. */
CPU_INLINE void soften(int vectors, float *scores, range r, float *most, float *total, const vf best[VECTORS], bool mark,
                       vf shrink[VECTORS]) {
    vf base[VECTORS], sum[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        vf before = vf_load(most + v * CPU_LANES), now = cpu_attention_max(best[v], before);
        base[v] = cpu_attention_base(now);
        shrink[v] = cpu_attention_exp2(before - base[v]);
        sum[v] = vf_zero();
        vf_store(most + v * CPU_LANES, now);
    }
    for (int64_t i = r.from; i < r.to; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            float *s = scores + i * PANEL + v * CPU_LANES;
            vf x = vf_load(s), w = cpu_attention_exp2(x - base[v]);
            sum[v] += w;
            if (mark) w = vf_select(x == -INFINITY, vf_set(-0.0f), w);
            vf_store(s, w);
        }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vf_store(total + v * CPU_LANES, vf_fma(vf_load(total + v * CPU_LANES), shrink[v], sum[v]));
}

/* ---- one panel and one tile ---- */

static range panel_range(const cpu_heads *a, const cpu_attention_row *rows, int64_t n, int64_t first, int64_t valid) {
    int64_t low = INT64_MAX, high = 0, most_low = 0, least_high = INT64_MAX;
    for (int64_t i = 0; i < n; i++) {
        low = cpu_min(low, rows[i].low);
        high = cpu_max(high, rows[i].high);
        most_low = cpu_max(most_low, rows[i].low);
        least_high = cpu_min(least_high, rows[i].high);
    }
    range r = {.from = first < a->p->sinks ? 0 : cpu_max(0, low - first),
               .to = cpu_min(high - first, cpu_min(TILE, valid - first))};
    r.whole = least_high >= first + r.to && (most_low <= first + r.from || first + r.to <= a->p->sinks);
    return r;
}

/* The block mask over a tile, or false where no row sees any block. */
static bool open_blocks(const cpu_heads *a, const cpu_attention_row *rows, int64_t n, int64_t first, int64_t end,
                        int32_t *blocks) {
    int64_t from = first / a->p->block, to = (end - 1) / a->p->block;
    int32_t any = 0;
    for (int64_t c = from; c <= to; c++, blocks += PANEL)
        for (int64_t i = 0; i < PANEL; i++) {
            blocks[i] = i < n && rows[i].mask[c] ? -1 : 0;
            any |= blocks[i];
        }
    return any != 0;
}

CPU_INLINE void products(int vectors, const cpu_heads *a, const space *s, int64_t ldv, int64_t panel, int64_t n, int64_t first,
                         range r, bool finite) {
    const cpu_attention_row *rows = s->rows + panel * PANEL;
    const float *q = s->q + panel * a->d * PANEL;
    float *sums = s->sums + panel * ldv * PANEL;
    vf best[VECTORS], shrink[VECTORS];
    int64_t from = r.from / KEYS * KEYS;
    for (int v = 0; v < VECTORS; v++) best[v] = vf_set(-INFINITY);
    for (int64_t i = from; i < r.to; i += KEYS) score_keys(vectors, q, s->keys + i * a->d, a->d, s->scores + i * PANEL, best);
    bool exact = r.whole && r.from == from && r.to % KEYS == 0;
    if (a->p->softcap > 0 || a->bias) finish_scores(a, rows, n, first, r, s->scores);
    if (!r.whole) hide(vectors, a, rows, n, first, r, s->scores, a->mask ? s->blocks : NULL);
    if (!exact || a->p->softcap > 0 || a->bias)
        for (int v = 0; v < vectors; v++) {
            best[v] = vf_set(-INFINITY);
            for (int64_t i = r.from; i < r.to; i++)
                best[v] = cpu_attention_max(vf_load(s->scores + i * PANEL + v * CPU_LANES), best[v]);
        }
    soften(vectors, s->scores, r, s->most + panel * PANEL, s->total + panel * PANEL, best, !finite, shrink);
    const float *weights = s->scores + r.from * PANEL, *values = s->values + r.from * ldv;
    for (int64_t c = 0; c < ldv; c += KEYS)
        if (finite)
            weigh(vectors, weights, values + c, ldv, r.to - r.from, sums + c * PANEL, shrink);
        else
            weigh_seen(vectors, weights, values + c, ldv, r.to - r.from, sums + c * PANEL, shrink);
}

static void products_wide(const cpu_heads *a, const space *s, int64_t ldv, int64_t panel, int64_t n, int64_t first, range r,
                          bool finite) {
    products(VECTORS, a, s, ldv, panel, n, first, r, finite);
}
#if CPU_LANES == 16
static void products_pairs(const cpu_heads *a, const space *s, int64_t ldv, int64_t panel, int64_t n, int64_t first, range r,
                           bool finite) {
    float *sums = s->sums + panel * ldv * PANEL;
    const float *q = s->q + panel * a->d * PANEL;
    int64_t from = r.from / KEYS * KEYS, d = (a->d + 1) / 2;
    vf best[VECTORS], shrink[VECTORS];
    for (int v = 0; v < VECTORS; v++) best[v] = vf_set(-INFINITY);
    for (int64_t i = from; i < r.to; i += KEYS) score_pairs(q, s->keys + i * d, d, s->scores + i * PANEL, best);
    if (a->p->softcap > 0) finish_scores(a, s->rows + panel * PANEL, n, first, r, s->scores);
    if (!r.whole) hide(VECTORS, a, s->rows + panel * PANEL, n, first, r, s->scores, a->mask ? s->blocks : NULL);
    for (int v = 0; v < VECTORS; v++) {
        best[v] = vf_set(-INFINITY);
        for (int64_t i = r.from; i < r.to; i++)
            best[v] = cpu_attention_max(vf_load(s->scores + i * PANEL + v * CPU_LANES), best[v]);
    }
    soften(VECTORS, s->scores, r, s->most + panel * PANEL, s->total + panel * PANEL, best, !finite, shrink);
    float *weights = s->scores + r.from * PANEL;
    const float *values = s->values + r.from / 2 * ldv;
    int64_t pairs = (r.to - r.from) / 2;
    pair_rows(VECTORS, weights, 2 * pairs);
    for (int64_t c = 0; c < ldv; c += KEYS)
        if (finite)
            weigh_pairs(weights, values + c, ldv, pairs, sums + c * PANEL, shrink);
        else
            weigh_pairs_seen(weights, values + c, ldv, pairs, sums + c * PANEL, shrink);
}

/* Pairs of keys begin with even ones. */
static range even(range r) {
    if ((r.from | r.to) & 1) r.whole = false;
    r.from -= r.from & 1;
    r.to += r.to & 1;
    return r;
}
#endif

static void products_narrow(const cpu_heads *a, const space *s, int64_t ldv, int64_t panel, int64_t n, int64_t first, range r,
                            bool finite) {
    products(1, a, s, ldv, panel, n, first, r, finite);
}

/* ---- a piece: a block of rows of one key head against all keys that they see ---- */

static space space_of(const job *j, int32_t worker, uint64_t *bytes) {
    const cpu_heads *a = j->a;
    uint64_t at = (uint64_t)worker * (uint64_t)j->bytes, start = at;
    space s;
#define TAKE(slot, count)                                            \
    s.slot = j->scratch ? (void *)(j->scratch + at) : NULL;          \
    at += cpu_round((uint64_t)(count) * sizeof *s.slot)
    TAKE(q, j->block * a->d);
    TAKE(sums, j->block * j->ldv);
    TAKE(most, j->block);
    TAKE(total, j->block);
    TAKE(keys, TILE * a->d);
    TAKE(values, TILE * j->ldv);
    TAKE(scores, TILE * PANEL);
    TAKE(blocks, TILE * PANEL);
    TAKE(rows, j->block);
#undef TAKE
    if (bytes) *bytes = at - start;
    return s;
}

static void begin(const cpu_heads *a, const space *s, int64_t ldv, int64_t b, int64_t kv_head, int64_t row, int64_t n) {
    for (int64_t i = 0; i < n; i++) s->rows[i] = cpu_attention_row_at(a, b, kv_head, row + i);
    for (int64_t i = 0; i < n; i += PANEL) load_panel(a, b, s->rows + i, cpu_min(PANEL, n - i), s->q + i * a->d);
    int64_t used = rounded(n, PANEL);
    memset(s->sums, 0, (size_t)(used * ldv) * sizeof(float));
    for (int64_t i = 0; i < used; i++) {
        s->most[i] = -INFINITY;
        s->total[i] = 0;
    }
}

/* Asks for keys [from, to) of k or v. */
static void ask(const cpu_heads *a, const strand_plugin_tensor *x, int64_t b, int64_t kv_head, int64_t from, int64_t to,
                int64_t width) {
    int64_t bytes = cpu_element_bytes(x->dtype);
    for (; from < to; from++) {
        const char *row = cpu_attention_at(a, x, b, from, kv_head, width);
        for (int64_t c = 0; c < width * bytes; c += 64) __builtin_prefetch(row + c, 0, 2);
    }
}

/* Keys and values of a tile, and zeros up to the end of a register block. Returns whether the values are all finite. */
static bool unpack_tile(const job *j, const space *s, int64_t b, int64_t kv_head, int64_t first, int64_t count) {
    const cpu_heads *a = j->a;
    const strand_plugin_tensor *k = &a->node->inputs[1], *v = &a->node->inputs[2];
    const char *keys = cpu_attention_at(a, k, b, first, kv_head, a->d),
               *values = cpu_attention_at(a, v, b, first, kv_head, a->dv);
    int64_t rest = rounded(count, KEYS) - count, width = j->pairs ? (a->d + 1) / 2 : a->d;
    memset(s->keys + count * width, 0, (size_t)(rest * width) * sizeof(float));
#if CPU_LANES == 16
    if (j->pairs) {
        unpack_key_pairs(s->keys, keys, k->strides[1], count, a->d);
        return unpack_value_pairs(s->values, j->ldv, values, v->strides[1], count, a->dv);
    }
#endif
    unpack(s->keys, a->d, keys, k->dtype, k->strides[1], count, a->d);
    return unpack(s->values, j->ldv, values, v->dtype, v->strides[1], count, a->dv);
}

/* All panels against one tile; the next one is asked for bit by bit, as the cache takes it in. */
static void tile(const job *j, const space *s, int64_t b, int64_t kv_head, int64_t n, int64_t first, int64_t valid) {
    const cpu_heads *a = j->a;
    const strand_plugin_tensor *k = &a->node->inputs[1], *v = &a->node->inputs[2];
    int64_t count = cpu_min(TILE, valid - first);
    int64_t panels = (n + PANEL - 1) / PANEL, share = (TILE + panels - 1) / panels, next = first + TILE;
    bool unpacked = false, finite = true;
    for (int64_t i = 0; i < n; i += PANEL, next += share) {
        int64_t some = cpu_min(PANEL, n - i);
        range r = panel_range(a, s->rows + i, some, first, valid);
        if (r.from >= r.to) continue;
        if (a->mask) {
            if (!open_blocks(a, s->rows + i, some, first, first + count, s->blocks)) continue;
            r.whole = false;
        }
        if (!unpacked) {
            finite = unpack_tile(j, s, b, kv_head, first, count);
            unpacked = true;
        }
        int64_t end = cpu_min(cpu_min(next + share, first + 2 * TILE), valid);
        ask(a, k, b, kv_head, next, end, a->d);
        ask(a, v, b, kv_head, next, end, a->dv);
#if CPU_LANES == 16
        if (j->pairs) {
            products_pairs(a, s, j->ldv, i / PANEL, some, first, even(r), finite);
            continue;
        }
#endif
        if (some > CPU_LANES)
            products_wide(a, s, j->ldv, i / PANEL, some, first, r, finite);
        else
            products_narrow(a, s, j->ldv, i / PANEL, some, first, r, finite);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const cpu_heads *a = j->a;
    int64_t rows = a->tokens * a->group, piece = i % j->pieces, kv_head = i / j->pieces % a->kv_heads,
            b = i / j->pieces / a->kv_heads;
    int64_t row = piece * j->block, n = cpu_min(j->block, rows - row), valid = cpu_attention_valid(a, b);
    space s = space_of(j, worker, NULL);
    begin(a, &s, j->ldv, b, kv_head, row, n);
#if CPU_LANES == 16
    for (int64_t r = 0; r < n && j->pairs; r += PANEL) pair_rows(VECTORS, s.q + r * a->d, a->d);
#endif
    int64_t low = INT64_MAX, high = 0;
    for (int64_t r = 0; r < n; r++) {
        low = cpu_min(low, s.rows[r].low);
        high = cpu_max(high, s.rows[r].high);
    }
    int64_t sinks = cpu_min(high, a->p->sinks);
    for (int64_t first = 0; first < sinks; first += TILE) tile(j, &s, b, kv_head, n, first, valid);
    int64_t first = cpu_max(low / TILE * TILE, rounded(sinks, TILE));
    for (; first < high; first += TILE) tile(j, &s, b, kv_head, n, first, valid);
    for (int64_t r = 0; r < n; r += PANEL)
        store_panel(a, b, s.rows + r, cpu_min(PANEL, n - r), s.sums + r * j->ldv, s.total + r);
}

/* q and sums of a block should leave half of a cache of 1 MB to others. */
static int64_t most_rows(const cpu_heads *a) {
    int64_t rows = 131072 / (a->d + a->dv) / PANEL * PANEL;
    return cpu_max(4 * PANEL, cpu_min(rows, BLOCK));
}

static job job_of(const cpu_heads *a, int64_t block, void *scratch) {
    job j = {.a = a, .block = block, .ldv = rounded(a->dv, KEYS)};
    uint64_t bytes;
    space_of(&j, 0, &bytes);
    j.pieces = (a->tokens * a->group + block - 1) / block;
    j.bytes = (int64_t)bytes;
    j.scratch = scratch;
    return j;
}

uint64_t cpu_attention_rows_scratch(const cpu_device *device, const cpu_heads *a) {
    return (uint64_t)job_of(a, most_rows(a), NULL).bytes * (uint64_t)cpu_workers(device);
}

/* Blocks are made smaller where they would be too few to share; their size does not show in the result. */
void cpu_attention_rows(const cpu_device *device, const cpu_heads *a, void *scratch) {
    int64_t block = most_rows(a), rows = a->tokens * a->group;
    while (block > 4 * PANEL && a->batch * a->kv_heads * ((rows + block - 1) / block) < 16) block = rounded(block / 2, PANEL);
    job j = job_of(a, block, scratch);
#if CPU_LANES == 16
    bool halves = a->node->inputs[1].dtype == STRAND_PLUGIN_BF16 && a->node->inputs[2].dtype == STRAND_PLUGIN_BF16;
    j.pairs = a->p->precision == STRAND_PRECISION_BF16 && halves && !a->bias && (device->features & CPU_AVX512_BF16);
#endif
    cpu_parallel(device, a->batch * a->kv_heads * j.pieces, body, &j);
}

/* top_k.c - TOP_K. An element's order is an integer that rises with it, NaN above all; of equals the smaller index comes
 * first, which every way below keeps by going through the elements from the first on, so the picks do not depend on the way.
 *
 * Few picks of few elements: the largest is looked for k times. Else elements above the bound, the k-th largest of those
 * before, are gathered; when they fill their room the k largest stay, in the order in which they stand, and the bound rises.
 * Few picks are then put in order by the first way, many by a radix sort that keeps equals as they stand. */
#include "half.h"
#include "kernels.h"
#include "vecmath.h"

#define LEAST INT32_MIN /* below every order */
#define FEW   64        /* picks that are put in order by looking for the largest */
#define SHORT 1024      /* elements among which a few picks are looked for without gathering */
#define SLACK 32        /* behind the last element: whole vectors are written */
#define DIGIT 256       /* values of a digit of the radix sort */

typedef struct job {
    const strand_op_top_k *p;
    cpu_operand x, out, ids;
    bool has_ids;
    int64_t dims[STRAND_PLUGIN_RANK], n, rows, height;
    int32_t *rooms;
    int64_t most; /* elements that are gathered at once */
} job;

/* What a worker works on: orders and indices of what is gathered, the same again for the sort, and the picks. */
typedef struct room {
    int32_t *order, *index, *other_order, *other_index, *picks;
} room;

static int64_t room_integers(int64_t most) {
    return 5 * (most + SLACK);
}

static room room_at(const job *j, int32_t worker) {
    int32_t *p = j->rooms + worker * room_integers(j->most);
    int64_t each = j->most + SLACK;
    return (room){p, p + each, p + 2 * each, p + 3 * each, p + 4 * each};
}

/* ---- vectors of integers ---- */

typedef int32_t vi_unaligned __attribute__((vector_size(4 * CPU_LANES), aligned(4), may_alias));

CPU_INLINE vi vi_load(const int32_t *p) {
    return *(const vi_unaligned *)p;
}
CPU_INLINE void vi_store(int32_t *p, vi x) {
    *(vi_unaligned *)p = x;
}
CPU_INLINE vi vi_set(int32_t x) {
    return (vi){0} + x;
}
CPU_INLINE vi vi_select(vi mask, vi yes, vi no) {
    return (mask & yes) | (~mask & no);
}
CPU_INLINE vi vi_lanes(void) {
    vi x;
    for (int l = 0; l < CPU_LANES; l++) x[l] = l;
    return x;
}
CPU_INLINE vi vi_larger(vi a, vi b) {
#if CPU_LANES == 16
    return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b);
#else
    return vi_select(a > b, a, b);
#endif
}
CPU_INLINE int32_t vi_largest(vi x) {
#if CPU_LANES == 16
    return _mm512_reduce_max_epi32((__m512i)x);
#else
    int32_t most = x[0];
    for (int l = 1; l < CPU_LANES; l++) most = x[l] > most ? x[l] : most;
    return most;
#endif
}
/* The lanes of a mask as bits. */
CPU_INLINE uint32_t vi_bits(vi mask) {
#if CPU_LANES == 16
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
#elif CPU_LANES == 8
    return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
    return (uint32_t)((mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8));
#endif
}

CPU_INLINE vi orders_of(vf x) {
    vi bits = (vi)vf_select(x == 0.0f, vf_zero(), x);
    return vi_select(x != x, vi_set(INT32_MAX), bits ^ (vi)((vu)(bits >> 31) >> 1));
}

/* Those of n elements, at most a vector; the lanes behind them come last of all. */
CPU_INLINE vi orders_at(const float *x, int64_t n) {
    if (n >= CPU_LANES) return orders_of(vf_load(x));
    return vi_select(vi_lanes() < (int32_t)n, orders_of(vf_load_part(x, n)), vi_set(LEAST));
}

/* The number of which this is the order; for LEAST one that is no number. */
CPU_INLINE vf number_of(int32_t order) {
    return (vf)vi_set(order < 0 ? order ^ INT32_MAX : order);
}

/* Writes the lanes of `mask` one behind the other, and perhaps something behind them; returns how many there are. */
CPU_INLINE int64_t keep(vi mask, vi order, vi index, int32_t *to_order, int32_t *to_index) {
    uint32_t bits = vi_bits(mask);
#if CPU_LANES == 16
    vi_store(to_order, (vi)_mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)order));
    vi_store(to_index, (vi)_mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)index));
    return __builtin_popcount(bits);
#else
    int64_t n = 0;
    for (; bits; bits &= bits - 1, n++) {
        int l = __builtin_ctz(bits);
        to_order[n] = order[l], to_index[n] = index[l];
    }
    return n;
#endif
}

/* ---- picks ---- */

/* picks[0, k): where the largest of `order` stand, the first of equals first. Their places are taken: they become LEAST.
 * order is whole vectors, of n elements and LEAST behind. */
static void take_largest(int32_t *order, int64_t n, int32_t *picks, int64_t k) {
    for (int64_t l = 0; l < k; l++) {
        vi most = vi_load(order);
        int64_t at = 0;
        for (int64_t i = CPU_LANES; i < n; i += CPU_LANES) most = vi_larger(most, vi_load(order + i));
        const vi largest = vi_set(vi_largest(most));
        uint32_t bits;
        while (!(bits = vi_bits(vi_load(order + at) == largest))) at += CPU_LANES;
        picks[l] = (int32_t)(at + __builtin_ctz(bits));
        order[picks[l]] = LEAST;
    }
}

static int64_t at_least(const int32_t *order, int64_t n, int32_t bound) {
    vi count = {0};
    for (int64_t i = 0; i < n; i += CPU_LANES) count -= vi_load(order + i) >= bound;
    int64_t sum = 0;
    for (int l = 0; l < CPU_LANES; l++) sum += count[l];
    return sum;
}

/* Keeps the k largest of `count` that are gathered, in the order in which they stand. Returns what a later element has to be
 * above of to be one of the k largest; it need not be the highest such bound. */
static int32_t shrink(const room *r, int64_t count, int64_t k) {
    vi_store(r->order + count, vi_set(LEAST));
    int64_t low = LEAST, high = (int64_t)INT32_MAX + 1, above = 0, enough = count; /* so many are at least high, low */
    while (enough > k && high - low > 1) {
        int64_t middle = low + (high - low) / 2, n = at_least(r->order, count, (int32_t)middle);
        if (n >= k)
            low = middle, enough = n;
        else
            high = middle, above = n;
    }
    /* Of those that are `low` so many stay: all, where all that are enough do. */
    int64_t equals = enough == k ? count : k - above, kept = 0;
    const int32_t bound = (int32_t)low;
    for (int64_t i = 0; i < count; i += CPU_LANES) {
        vi order = vi_load(r->order + i), index = vi_load(r->index + i), stays = order >= bound;
        vi same = order == bound;
        if (enough > k && vi_any(same))
            for (int l = 0; l < CPU_LANES; l++)
                if (same[l] && equals-- <= 0) stays[l] = 0;
        kept += keep(stays, order, index, r->order + kept, r->index + kept);
    }
    return enough == k && bound > LEAST ? bound - 1 : bound;
}

/* Sorts the k that are gathered, the largest first; picks are their indices. */
static void sort(const room *r, int64_t k) {
    int32_t *order = r->order, *index = r->index, *to_order = r->other_order, *to_index = r->other_index;
    uint32_t counts[4][DIGIT] = {{0}};
    for (int64_t i = 0; i < k; i++) {
        uint32_t key = ~((uint32_t)order[i] ^ 0x80000000u);
        order[i] = (int32_t)key;
        for (int d = 0; d < 4; d++) counts[d][key >> 8 * d & (DIGIT - 1)]++;
    }
    for (int d = 0; d < 4; d++) {
        uint32_t *count = counts[d], before = 0;
        if (count[(uint32_t)order[0] >> 8 * d & (DIGIT - 1)] == k) continue;
        for (int v = 0; v < DIGIT; v++) {
            uint32_t n = count[v];
            count[v] = before, before += n;
        }
        for (int64_t i = 0; i < k; i++) {
            uint32_t at = count[(uint32_t)order[i] >> 8 * d & (DIGIT - 1)]++;
            to_order[at] = order[i], to_index[at] = index[i];
        }
        int32_t *o = order, *x = index;
        order = to_order, index = to_index, to_order = o, to_index = x;
    }
    for (int64_t i = 0; i < k; i++) r->picks[i] = index[i];
}

static bool few(int64_t n, int64_t k) {
    return n <= SHORT && k <= FEW / 4;
}

static void pick(const float *x, int64_t n, const room *r, int64_t k, int64_t most) {
    if (few(n, k)) {
        for (int64_t i = 0; i < n; i += CPU_LANES) vi_store(r->order + i, orders_at(x + i, n - i));
        take_largest(r->order, n, r->picks, k);
        return;
    }
    const vi lanes = vi_lanes();
    int64_t count = 0;
    int32_t bound = LEAST;
    vf limit = number_of(bound);
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        if (i + CPU_LANES <= n && !vi_any(~(vi)(vf_load(x + i) <= limit))) continue;
        vi order = orders_at(x + i, n - i), more = order > bound;
        count += keep(more, order, lanes + (int32_t)i, r->order + count, r->index + count);
        if (count + CPU_LANES > most) bound = shrink(r, count, k), limit = number_of(bound), count = k;
    }
    if (count > k) shrink(r, count, k);
    if (k > FEW) {
        sort(r, k);
        return;
    }
    vi_store(r->order + k, vi_set(LEAST));
    take_largest(r->order, k, r->picks, k);
    for (int64_t l = 0; l < k; l++) r->picks[l] = r->index[r->picks[l]];
}

/* ---- values ---- */

/* y = f(x): e^(x - most), or the logistic function; returns the sum. y may be NULL. */
static double sum_of(float *y, const float *x, int64_t n, bool sigmoid, float most) {
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += 512) {
        vf part = vf_zero();
        for (int64_t i = begin; i < cpu_min(begin + 512, n); i += CPU_LANES) {
            int64_t some = cpu_min(CPU_LANES, n - i);
            vf v = some < CPU_LANES ? vf_load_part(x + i, some) : vf_load(x + i);
            v = sigmoid ? vf_sigmoid(v) : vf_exp(v - most);
            if (some < CPU_LANES) v = vf_select(vi_lanes() < (int32_t)some, v, vf_zero());
            part += v;
            if (y) vf_store_part(y + i, v, some);
        }
        sum += (double)vf_sum(part);
    }
    return sum;
}

static void divide(float *y, int64_t n, double by) {
    float factor = (float)(1 / by);
    for (int64_t i = 0; i < n; i++) y[i] *= factor;
}

static void row_values(const job *j, const float *x, float *y) {
    const strand_op_top_k *p = j->p;
    double sum = 0;
    float most = y[0];
    if (p->values == STRAND_TOP_K_RAW)
        for (int64_t i = 0; i < p->k; i++) sum += (double)y[i];
    else
        sum = sum_of(y, y, p->k, p->values == STRAND_TOP_K_SIGMOID, most);
    if (p->normalise || p->values == STRAND_TOP_K_SOFTMAX_PICKED)
        divide(y, p->k, sum);
    else if (p->values == STRAND_TOP_K_SOFTMAX)
        divide(y, p->k, sum_of(NULL, x, j->n, false, most));
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const room r = room_at(j, worker);
    int64_t end = cpu_min((i + 1) * j->height, j->rows), k = j->p->k;
    for (int64_t row = i * j->height; row < end; row++) {
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, row);
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row);
        int64_t *ids = j->has_ids ? (int64_t *)(void *)cpu_row(&j->ids, j->dims, row) : NULL;
        pick(x, j->n, &r, k, j->most);
        for (int64_t l = 0; l < k; l++) y[l] = x[r.picks[l]];
        for (int64_t l = 0; l < k && ids; l++) ids[l] = r.picks[l];
        row_values(j, x, y);
    }
}

/* Room for four times the picks, so that each time it is full most of it goes. */
static int64_t gathered(const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[0];
    int64_t n = x->dims[x->rank - 1], k = ((const strand_op_top_k *)node->params)->k;
    if (few(n, k)) return (n + SLACK - 1) / SLACK * SLACK;
    return (cpu_min(n, cpu_max(4 * k, 256)) + 2 * SLACK - 1) / SLACK * SLACK;
}

uint64_t cpu_top_k_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)room_integers(gathered(node)) * sizeof(int32_t) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_top_k) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    job j = {
        .p = node->params, .n = x->dims[x->rank - 1], .rooms = scratch, .most = gathered(node), .has_ids = node->n_outputs > 1};
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    if (j.has_ids) {
        cpu_place(&node->outputs[1], &node->outputs[1], false, &j.ids);
    }
    int64_t first = 0;
    j.x = (cpu_operand){.bytes = sizeof(float)};
    for (uint32_t axis = 0; axis + 1 < x->rank; axis++) {
        j.x.strides[STRAND_PLUGIN_RANK - x->rank + axis] = x->strides[axis];
        first += cpu_lead(x, axis, out, axis) * x->strides[axis];
    }
    j.x.base = (char *)(cpu_f32(x) + first);
    j.rows = cpu_rows(j.dims);
    j.height = cpu_max(1, 16384 / j.n);
    cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

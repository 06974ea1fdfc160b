/* graphs_adjacency.c - KNN_ADJACENCY, SOFTMAX_ADJACENCY and PRUNE_ADJACENCY. One graph is one piece of work.
 *
 * Which neighbours are kept must not hang on rounding, so similarities are summed in double precision; all products of a
 * graph are made with the same chains of additions, so that equal rows have equal similarities. Pruning compares the numbers
 * as they stand. */
#include "matrix_state.h"
#include "vecmath.h"

#define ROWS 4

#if CPU_LANES == 4
typedef float half_vector __attribute__((vector_size(8), aligned(4), may_alias));
#else
typedef float half_vector __attribute__((vector_size(2 * CPU_LANES), aligned(4), may_alias));
#endif
#define HALF (CPU_LANES / 2)

typedef struct job {
    const strand_plugin_node *node;
    const void *params;
    int64_t n, width, pitch, each; /* nodes, features, n in whole vectors, floats of working memory a worker */
    int64_t runs, run_stride;      /* the features of a node are `runs` times `width` */
    float *work;
} job;

/* Row i of graph b (of the output's tile) of an input. */
static const float *row_in(const job *j, uint32_t input, int64_t b, int64_t i) {
    const strand_plugin_tensor *t = &j->node->inputs[input];
    return cpu_f32(t) + (b + j->node->outputs[0].origin[0] - t->origin[0]) * t->strides[0] + i * t->strides[1];
}

static float *row_out(const job *j, int64_t b, int64_t i) {
    const strand_plugin_tensor *t = &j->node->outputs[0];
    return cpu_f32(t) + b * t->strides[0] + i * t->strides[1];
}

/* w becomes (w + w^T) / 2. */
static void make_symmetric(const job *j, int64_t b) {
    for (int64_t i = 0; i < j->n; i++)
        for (int64_t k = 0; k < i; k++) {
            float *x = row_out(j, b, i) + k, *y = row_out(j, b, k) + i;
            *x = *y = (*x + *y) * 0.5f;
        }
}

/* ---- nearest neighbours ---- */

CPU_INLINE vd load_half(const float *p, int64_t n) {
    half_vector x = {0};
    if (n >= HALF)
        x = *(const half_vector *)p;
    else
        memcpy(&x, p, (size_t)n * sizeof *p);
#if CPU_LANES == 16
    return (vd)_mm512_cvtps_pd((__m256)x);
#else
    return __builtin_convertvector(x, vd);
#endif
}

static double sum_of(vd x) {
    double v[HALF];
    memcpy(v, &x, sizeof v);
    for (int half = HALF / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

CPU_INLINE vd multiply_add(vd a, vd b, vd c) {
#if CPU_LANES == 16
    return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif CPU_LANES == 8
    return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

/* dots[r][c] = x[r].y[c] of ROWS by ROWS rows. Each is the same chain, whichever place in the square it has. */
static void dots_of(const job *j, const float *const x[ROWS], const float *const y[ROWS], double dots[ROWS][ROWS]) {
    vd sum[ROWS][ROWS];
    int64_t n = j->width;
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int c = 0; c < ROWS; c++) sum[r][c] = vd_set(0);
    for (int64_t run = 0; run < j->runs * j->run_stride; run += j->run_stride)
        for (int64_t at = 0; at < n; at += HALF) {
            vd left[ROWS];
#pragma GCC unroll 4
            for (int r = 0; r < ROWS; r++) left[r] = load_half(x[r] + run + at, n - at);
#pragma GCC unroll 4
            for (int c = 0; c < ROWS; c++) {
                vd right = load_half(y[c] + run + at, n - at);
#pragma GCC unroll 4
                for (int r = 0; r < ROWS; r++) sum[r][c] = multiply_add(left[r], right, sum[r][c]);
            }
        }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int c = 0; c < ROWS; c++) dots[r][c] = sum_of(sum[r][c]);
}

/* Keeps the k largest of row[0, n), the smaller index first of equals, and row[own] in any case. */
static void keep_largest(const double *row, unsigned char *kept, int64_t n, int64_t k, int64_t own, bool besides) {
    memset(kept, 0, (size_t)n);
    kept[own] = 1;
    for (int64_t round = !besides; round < k && round < n; round++) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++)
            if (!kept[i] && (best < 0 || row[i] > row[best])) best = i;
        if (best < 0) return;
        kept[best] = 1;
    }
}

/* ROWS rows of graph b from row `first` on; the last row again where there are no more. */
static void rows_at(const job *j, int64_t b, int64_t first, const float *rows[ROWS]) {
    for (int64_t r = 0; r < ROWS; r++) rows[r] = row_in(j, 0, b, cpu_min(first + r, j->n - 1));
}

/* ROWS rows of w, from their products with every node and the nodes' lengths. */
static void knn_rows(const job *j, int64_t b, int64_t first, double *w, const double *lengths, unsigned char *kept) {
    const strand_op_knn_adjacency *p = j->params;
    const float *x[ROWS], *y[ROWS];
    int64_t rows = cpu_min(ROWS, j->n - first);
    rows_at(j, b, first, x);
    for (int64_t i = 0; i < j->n; i += ROWS) {
        double dots[ROWS][ROWS];
        rows_at(j, b, i, y);
        dots_of(j, x, y, dots);
        for (int64_t r = 0; r < ROWS; r++)
            for (int64_t c = i; c < cpu_min(i + ROWS, j->n); c++) w[r * j->n + c] = dots[r][c - i];
    }
    for (int64_t r = 0; r < rows; r++) {
        double *row = w + r * j->n;
        float *to = row_out(j, b, first + r);
        for (int64_t i = 0; i < j->n; i++) {
            double product = lengths[first + r] * lengths[i];
            row[i] = product > 0 ? row[i] / product : 0;
            if (p->flags & STRAND_KNN_ABSOLUTE) row[i] = fabs(row[i]);
        }
        keep_largest(row, kept, j->n, p->k, first + r, p->flags & STRAND_KNN_NOT_SELF);
        for (int64_t i = 0; i < j->n; i++)
            to[i] = !kept[i] || ((p->flags & STRAND_KNN_CLAMP) && row[i] < 0) ? 0.0f : (float)row[i];
    }
}

static void knn_graph(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    const strand_op_knn_adjacency *p = j->params;
    double *w = (double *)(void *)(j->work + worker * j->each), *lengths = w + ROWS * j->n;
    for (int64_t i = 0; i < j->n; i += ROWS) { /* lengths by the chains of the products: equal rows, equal numbers */
        const float *x[ROWS];
        double dots[ROWS][ROWS];
        rows_at(j, b, i, x);
        dots_of(j, x, x, dots);
        for (int64_t r = i; r < cpu_min(i + ROWS, j->n); r++) lengths[r] = sqrt(dots[r - i][r - i]);
    }
    for (int64_t i = 0; i < j->n; i += ROWS) knn_rows(j, b, i, w, lengths, (unsigned char *)(lengths + j->n));
    if (p->flags & STRAND_KNN_SYMMETRIC) make_symmetric(j, b);
    for (int64_t i = 0; i < j->n && (p->flags & STRAND_KNN_UNIT_DIAGONAL); i++) row_out(j, b, i)[i] = 1.0f;
}

static int64_t knn_floats(int64_t n) {
    return ms_floats(2 * (ROWS + 2) * n);
}

static job begin(const strand_plugin_node *node, void *scratch, int64_t each) {
    int64_t n = node->outputs[0].dims[node->outputs[0].rank - 1];
    const strand_plugin_tensor *x = &node->inputs[0];
    job j = {.node = node, .params = node->params, .work = scratch, .n = n, .width = x->dims[x->rank - 1], .pitch = ms_pitch(n),
             .each = each, .runs = 1, .run_stride = 1};
    if (x->rank == 4) {
        j.runs = x->dims[2];
        j.run_stride = x->strides[2] > 0 ? x->strides[2] : 1;
    }
    return j;
}

uint64_t cpu_knn_adjacency_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)knn_floats(node->outputs[0].dims[2]) * sizeof(float);
}

CPU_KERNEL(cpu_knn_adjacency) {
    job j = begin(node, scratch, knn_floats(node->outputs[0].dims[2]));
    cpu_parallel(device, node->outputs[0].dims[0], knn_graph, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- softmax ---- */

/* Keys turned over lie along the lanes: [width][pitch], then scores [n][pitch]. */
static int64_t softmax_floats(int64_t n, int64_t width) {
    return ms_floats((n + width) * ms_pitch(n));
}

static void softmax_row(float *to, float *scores, int64_t n, float scale) {
    vf most = vf_set(-INFINITY), sum = vf_zero();
    float lanes[CPU_LANES], largest;
    for (int64_t c = 0; c < n; c += CPU_LANES) {
        vf x = vf_load(scores + c) * scale;
        if (n - c < CPU_LANES) {
            vf_store(lanes, x);
            for (int64_t e = n - c; e < CPU_LANES; e++) lanes[e] = -INFINITY;
            x = vf_load(lanes);
        }
        vf_store(scores + c, x);
        most = vf_select(x > most, x, most);
    }
    vf_store(lanes, most);
    largest = lanes[0];
    for (int e = 1; e < CPU_LANES; e++) largest = lanes[e] > largest ? lanes[e] : largest;
    for (int64_t c = 0; c < n; c += CPU_LANES) {
        vf x = vf_exp(vf_load(scores + c) - largest); /* lanes behind the last: e^-inf, about 1e-46 at most and 0 in F32 */
        vf_store(scores + c, x);
        sum += x;
    }
    vf scale_by = vf_set(1.0f / vf_sum(sum));
    for (int64_t c = 0; c < n; c += CPU_LANES) ms_store(to + c, vf_load(scores + c) * scale_by, n - c);
}

static void softmax_graph(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    const strand_op_softmax_adjacency *p = j->params;
    float *keys = j->work + worker * j->each, *scores = keys + j->width * j->pitch;
    ms_transpose_in(keys, j->pitch, row_in(j, 1, b, 0), j->node->inputs[1].strides[1], j->n, j->width);
    ms_reading m = {.q = row_in(j, 0, b, 0), .q_pitch = j->node->inputs[0].strides[1], .depth = j->width, .s = keys,
                    .pitch = j->pitch, .y = scores};
    ms_product(&m, j->n);
    for (int64_t i = 0; i < j->n; i++) softmax_row(row_out(j, b, i), scores + i * j->pitch, j->n, p->scale);
    if (p->symmetric) make_symmetric(j, b);
}

uint64_t cpu_softmax_adjacency_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)softmax_floats(node->outputs[0].dims[2], node->inputs[0].dims[2]) *
           sizeof(float);
}

CPU_KERNEL(cpu_softmax_adjacency) {
    job j = begin(node, scratch, softmax_floats(node->outputs[0].dims[2], node->inputs[0].dims[2]));
    cpu_parallel(device, node->outputs[0].dims[0], softmax_graph, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- pruning ---- */

/* Numbers in the order of floats; the two zeros are one. */
static int32_t order_of(float x) {
    int32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits >= 0 ? bits : (int32_t)(0x80000000u - (uint32_t)bits);
}

/* How many of the rows' entries are at least as large as `least`. */
static int64_t count_from(const job *j, int64_t b, int64_t first, int64_t rows, int32_t least) {
    int64_t count = 0;
    for (int64_t i = first; i < first + rows; i++) {
        const float *row = row_in(j, 0, b, i);
        for (int64_t k = 0; k < j->n; k++) count += order_of(row[k]) >= least;
    }
    return count;
}

/* The k-th largest entry of the rows, by halving the range of all floats: the largest number that k entries reach. */
static int32_t kth_largest(const job *j, int64_t b, int64_t first, int64_t rows, int64_t k) {
    int64_t low = INT32_MIN, high = INT32_MAX;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (count_from(j, b, first, rows, (int32_t)middle) >= k)
            low = middle;
        else
            high = middle - 1;
    }
    return (int32_t)low;
}

static float loop_value(uint32_t loops, float value) {
    return loops == STRAND_LOOPS_KEEP ? value : loops == STRAND_LOOPS_UNIT ? 1.0f : 0.0f;
}

/* Entries above the threshold stay, and the first `equals` of those that are equal to it. */
static void prune_row(float *to, const float *from, int64_t n, int32_t threshold, int64_t equals) {
    for (int64_t k = 0; k < n; k++) {
        int32_t order = order_of(from[k]);
        bool keep = order > threshold || (order == threshold && equals > 0);
        equals -= order == threshold;
        to[k] = keep ? from[k] : 0.0f;
    }
}

static void prune_graph(void *arg, int64_t b, int32_t worker) {
    const job *j = arg;
    const strand_op_prune_adjacency *p = j->params;
    int64_t k = p->mode == STRAND_PRUNE_TOP_FRACTION ? (int64_t)((float)(j->n * j->n) * p->value)
                : p->mode == STRAND_PRUNE_PER_ROW    ? (int64_t)p->value
                                                     : 0;
    int32_t threshold = INT32_MAX;
    (void)worker;
    if (p->mode == STRAND_PRUNE_TOP_FRACTION && k > 0) threshold = kth_largest(j, b, 0, j->n, k);
    for (int64_t i = 0; i < j->n; i++) {
        const float *from = row_in(j, 0, b, i);
        float *to = row_out(j, b, i);
        int64_t equals = 0;
        if (p->mode == STRAND_PRUNE_PER_ROW && k > 0) {
            threshold = kth_largest(j, b, i, 1, cpu_min(k, j->n));
            equals = cpu_min(k, j->n) - (threshold < INT32_MAX ? count_from(j, b, i, 1, threshold + 1) : 0);
        }
        if (p->mode == STRAND_PRUNE_ABOVE)
            for (int64_t c = 0; c < j->n; c++) to[c] = from[c] > p->value ? from[c] : 0.0f;
        else
            prune_row(to, from, j->n, threshold, equals);
        to[i] = loop_value(p->loops, to[i]);
    }
}

CPU_KERNEL(cpu_prune_adjacency) {
    job j = begin(node, scratch, 0);
    cpu_parallel(device, node->outputs[0].dims[0], prune_graph, &j);
    return STRAND_PLUGIN_OK;
}

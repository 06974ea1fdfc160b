/* graphs_sparse.c - SPMM, SEGMENT_REDUCE and GINE: sums over lists of neighbours, features along the lanes. Lists are looked
 * through for bad indices before anything is written; sums are taken in the order of the lists. */
#include "matrix_state.h"

#include <math.h>

#define COLUMNS (4 * CPU_LANES) /* features at once, in registers */

/* x and the output over all axes but the last two; a piece is one batch entry and a run of rows or features. */
typedef struct job {
    const strand_plugin_node *node;
    const strand_plugin_tensor *x, *out;
    int64_t rows, features, height, down, graphs;
    float *work;
    int64_t each;
} job;

static job begin(const strand_plugin_node *node, uint32_t x, void *scratch) {
    job j = {.node = node, .x = &node->inputs[x], .out = &node->outputs[0], .graphs = 1, .work = scratch};
    uint32_t rank = j.out->rank;
    j.rows = j.out->dims[rank - 2], j.features = j.out->dims[rank - 1];
    for (uint32_t axis = 0; axis + 2 < rank; axis++) j.graphs *= j.out->dims[axis];
    j.height = cpu_max(1, 16384 / cpu_max(1, j.features));
    j.down = (j.rows + j.height - 1) / j.height;
    return j;
}

/* First element of batch entry `graph` of x (under the output's first feature) and of the output. */
static void places(const job *j, int64_t graph, const float **x, float **out) {
    uint32_t rank = j->out->rank;
    int64_t from = (j->out->origin[rank - 1] - j->x->origin[rank - 1]) * j->x->strides[rank - 1], to = 0;
    for (uint32_t axis = rank - 2; axis-- > 0; graph /= j->out->dims[axis]) {
        int64_t at = graph % j->out->dims[axis];
        from += (at + j->out->origin[axis] - j->x->origin[axis]) * j->x->strides[axis];
        to += at * j->out->strides[axis];
    }
    *x = cpu_f32(j->x) + from;
    *out = cpu_f32(j->out) + to;
}

/* ---- sparse times dense ---- */

static void spmm_row(const job *j, int64_t i, const float *x, float *y) {
    const strand_plugin_tensor *rows = &j->node->inputs[0], *col = &j->node->inputs[1], *values = cpu_input(j->node, 2);
    uint32_t axis = j->out->rank - 2;
    const int32_t *pointers =
        (const int32_t *)rows->memory.data + (i + j->out->origin[axis] - rows->origin[0]) * rows->strides[0];
    const int32_t *columns = col->memory.data;
    const float *v = cpu_f32(values);
    int64_t begin = pointers[0], end = pointers[rows->strides[0]], step = j->x->strides[axis];
    for (int64_t c = 0; c < j->features; c += COLUMNS) {
        vf sum[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
        int64_t left = j->features - c;
        for (int64_t e = begin; e < end; e++) {
            const float *from = x + columns[e] * step + c;
            vf value = vf_set(v ? v[e] : 1.0f);
            for (int k = 0; k < 4; k++)
                if (k * CPU_LANES < left) sum[k] = vf_fma(value, ms_load(from + k * CPU_LANES, left - k * CPU_LANES), sum[k]);
        }
        for (int k = 0; k < 4; k++) ms_store(y + c + k * CPU_LANES, sum[k], left - k * CPU_LANES);
    }
}

static void spmm_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const float *x;
    float *out;
    (void)worker;
    places(j, i / j->down, &x, &out);
    for (int64_t r = i % j->down * j->height; r < cpu_min((i % j->down + 1) * j->height, j->rows); r++)
        spmm_row(j, r, x, out + r * j->out->strides[j->out->rank - 2]);
}

CPU_KERNEL(cpu_spmm) {
    job j = begin(node, 3, scratch);
    const strand_plugin_tensor *rows = &node->inputs[0], *col = &node->inputs[1];
    const int32_t *pointers = (const int32_t *)rows->memory.data +
                              (j.out->origin[j.out->rank - 2] - rows->origin[0]) * rows->strides[0],
                  *columns = col->memory.data;
    int64_t entries = col->dims[0], nodes = j.x->dims[j.x->rank - 2], step = rows->strides[0];
    for (int64_t i = 0; i < j.rows; i++) {
        int64_t from = pointers[i * step], to = pointers[(i + 1) * step];
        if (from < 0 || to < from || to > entries)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: row pointers %lld, %lld of %lld entries",
                            node->name ? node->name : "spmm", (long long)from, (long long)to, (long long)entries);
        for (int64_t e = from; e < to; e++)
            if (columns[e] < 0 || columns[e] >= nodes)
                return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: column %lld of %lld nodes",
                                node->name ? node->name : "spmm", (long long)columns[e], (long long)nodes);
    }
    cpu_parallel(device, j.graphs * j.down, spmm_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- segments ---- */

static int64_t id_of(const strand_plugin_tensor *index, int64_t e) {
    return index->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)index->memory.data)[e]
                                             : ((const int32_t *)index->memory.data)[e];
}

CPU_INLINE vf combine(uint32_t kind, vf sum, vf x) {
    return kind == STRAND_SEGMENT_MAX ? vf_select(x > sum, x, sum) : sum + x;
}

/* One vector of features of one batch entry: segments gather in the output itself. */
static void segment_columns(const job *j, const float *x, float *out, int64_t c, int64_t n) {
    const strand_op_segment_reduce *p = j->node->params;
    const strand_plugin_tensor *index = &j->node->inputs[1];
    uint32_t axis = j->out->rank - 2;
    const int32_t *counts = (const int32_t *)(const void *)j->work;
    int64_t step = j->out->strides[axis], first = j->out->origin[axis];
    for (int64_t i = 0; i < j->rows; i++)
        ms_store(out + i * step + c, vf_set(p->kind == STRAND_SEGMENT_MAX && counts[i] ? -INFINITY : 0.0f), n);
    for (int64_t e = 0; e < index->dims[0]; e++) {
        int64_t i = id_of(index, e) - first;
        if (i < 0 || i >= j->rows) continue;
        float *to = out + i * step + c;
        ms_store(to, combine(p->kind, ms_load(to, n), ms_load(x + e * j->x->strides[axis] + c, n)), n);
    }
    for (int64_t i = 0; i < j->rows && p->kind == STRAND_SEGMENT_MEAN; i++)
        if (counts[i]) ms_store(out + i * step + c, ms_load(out + i * step + c, n) / (float)counts[i], n);
}

static void segment_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const float *x;
    float *out;
    int64_t blocks = (j->features + COLUMNS - 1) / COLUMNS, first = i % blocks * COLUMNS;
    (void)worker;
    places(j, i / blocks, &x, &out);
    for (int64_t c = first; c < cpu_min(first + COLUMNS, j->features); c += CPU_LANES)
        segment_columns(j, x, out, c, cpu_min(CPU_LANES, j->features - c));
}

/* The number of entries of each segment of the output. */
uint64_t cpu_segment_reduce_scratch(const cpu_device *device, const strand_plugin_node *node) {
    (void)device;
    return (uint64_t)node->outputs[0].dims[node->outputs[0].rank - 2] * sizeof(int32_t);
}

CPU_KERNEL(cpu_segment_reduce) {
    const strand_op_segment_reduce *p = node->params;
    const strand_plugin_tensor *index = &node->inputs[1];
    job j = begin(node, 0, scratch);
    int32_t *counts = scratch;
    for (int64_t i = 0; i < j.rows; i++) counts[i] = 0;
    for (int64_t e = 0; e < index->dims[0]; e++) {
        int64_t id = id_of(index, e), i = id - j.out->origin[j.out->rank - 2];
        if (id < 0 || id >= p->n)
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: entry %lld belongs to segment %lld of %lld",
                            node->name ? node->name : "segment_reduce", (long long)e, (long long)id, (long long)p->n);
        if (i >= 0 && i < j.rows) counts[i] += counts[i] < INT32_MAX;
    }
    cpu_parallel(device, j.graphs * ((j.features + COLUMNS - 1) / COLUMNS), segment_body, &j);
    return STRAND_PLUGIN_OK;
}

/* ---- messages ---- */

/* Node i of graph b: the neighbours are listed first, with their edges. */
static void gine_node(const job *j, int64_t b, int64_t i, const float *x, float *y, float *list) {
    const strand_op_gine *p = j->node->params;
    const strand_plugin_tensor *a = &j->node->inputs[1], *w = &j->node->inputs[2], *bias = &j->node->inputs[3];
    const float *edges = cpu_f32(a) + (b + j->out->origin[0] - a->origin[0]) * a->strides[0] +
                         (i + j->out->origin[1] - a->origin[2]) * a->strides[2];
    const float *weight = cpu_f32(w) + (j->out->origin[2] - w->origin[0]),
                *shift = cpu_f32(bias) + (j->out->origin[2] - bias->origin[0]),
                *own = x + (i + j->out->origin[1]) * j->x->strides[1];
    int64_t nodes = j->x->dims[1], n = 0;
    int32_t *from = (int32_t *)(void *)(list + nodes);
    for (int64_t k = 0; k < nodes; k++)
        if (edges[k * a->strides[1]] != 0.0f) {
            list[n] = edges[k * a->strides[1]];
            from[n++] = (int32_t)k;
        }
    for (int64_t c = 0; c < j->features; c += CPU_LANES) {
        int64_t left = j->features - c;
        vf wc = ms_load(weight + c, left), bc = ms_load(shift + c, left), sum = vf_set(1.0f + p->eps) * ms_load(own + c, left);
        for (int64_t e = 0; e < n; e++) {
            vf message = vf_fma(wc, vf_set(list[e]), ms_load(x + from[e] * j->x->strides[1] + c, left) + bc);
            sum += vf_select(message < 0.0f, vf_zero(), message);
        }
        ms_store(y + c, sum, left);
    }
}

static void gine_body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const float *x;
    float *out;
    int64_t b = i / j->down, first = i % j->down * j->height;
    places(j, b, &x, &out);
    for (int64_t r = first; r < cpu_min(first + j->height, j->rows); r++)
        gine_node(j, b, r, x, out + r * j->out->strides[1], j->work + worker * j->each);
}

static int64_t gine_floats(const strand_plugin_node *node) {
    return ms_floats(2 * node->inputs[0].dims[1]);
}

uint64_t cpu_gine_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)gine_floats(node) * sizeof(float);
}

CPU_KERNEL(cpu_gine) {
    job j = begin(node, 0, scratch);
    j.each = gine_floats(node);
    cpu_parallel(device, j.graphs * j.down, gine_body, &j);
    return STRAND_PLUGIN_OK;
}

/* top_k.c - TOP_K: a heap of the k largest of each row. An element and its index make one 64-bit key whose order is that of the
 * operator (NaN above all, of equals the smaller index first), so keys are never equal and the picks do not depend on the way
 * they were found. Vectors of elements that are all below the smallest pick are passed over. */
#include "half.h"
#include "kernels.h"
#include "vecmath.h"

typedef struct job {
    const strand_op_top_k *p;
    cpu_operand x, out, ids;
    bool has_ids;
    int64_t dims[STRAND_PLUGIN_RANK], n, rows, height;
    uint64_t *heaps;
    int64_t each; /* keys of a worker */
} job;

static uint64_t key_of(float x, int64_t i) {
    uint32_t bits = cpu_to_bits(x);
    if (x == 0) bits = 0;
    uint32_t order = x != x ? UINT32_MAX : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)order << 32 | (uint32_t)~(uint32_t)i;
}

static int64_t index_of(uint64_t key) {
    return (int64_t)(uint32_t)~(uint32_t)key;
}

/* Puts `key` at place i of a heap of n whose smallest is the first, and lets it sink. */
static void sink(uint64_t *heap, int64_t n, int64_t i, uint64_t key) {
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void pick(const float *x, int64_t n, uint64_t *heap, int64_t k) {
    for (int64_t i = 0; i < k; i++) heap[i] = key_of(x[i], i);
    for (int64_t i = k / 2; i-- > 0;) sink(heap, k, i, heap[i]);
    for (int64_t i = k; i < n; i += CPU_LANES) {
        int64_t some = cpu_min(CPU_LANES, n - i);
        float least = x[index_of(heap[0])];
        vf v = some == CPU_LANES ? vf_load(x + i) : vf_load_part(x + i, some);
        if (!vi_any(~(vi)(v <= least))) continue;
        for (int64_t l = i; l < i + some; l++) {
            uint64_t key = key_of(x[l], l);
            if (key > heap[0]) sink(heap, k, 0, key);
        }
    }
    for (int64_t left = k - 1; left > 0; left--) { /* the smallest goes to the end */
        uint64_t last = heap[left];
        heap[left] = heap[0];
        sink(heap, left, 0, last);
    }
}

/* y = f(x): e^(x - most), or the logistic function; returns the sum. y may be NULL. */
static double sum_of(float *y, const float *x, int64_t n, bool sigmoid, float most) {
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += 512) {
        vf part = vf_zero();
        for (int64_t i = begin; i < cpu_min(begin + 512, n); i += CPU_LANES) {
            int64_t some = cpu_min(CPU_LANES, n - i);
            float padded[CPU_LANES];
            for (int l = 0; l < CPU_LANES && some < CPU_LANES; l++) padded[l] = l < some ? x[i + l] : -INFINITY; /* makes 0 of both */
            vf v = vf_load(some < CPU_LANES ? padded : x + i);
            v = sigmoid ? vf_sigmoid(v) : vf_exp(v - most);
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
    uint64_t *heap = j->heaps + worker * j->each;
    int64_t end = cpu_min((i + 1) * j->height, j->rows), k = j->p->k;
    for (int64_t row = i * j->height; row < end; row++) {
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, row);
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row);
        int64_t *ids = j->has_ids ? (int64_t *)(void *)cpu_row(&j->ids, j->dims, row) : NULL;
        pick(x, j->n, heap, k);
        for (int64_t l = 0; l < k; l++) y[l] = x[index_of(heap[l])];
        for (int64_t l = 0; l < k && ids; l++) ids[l] = index_of(heap[l]);
        row_values(j, x, y);
    }
}

static int64_t worker_keys(const strand_plugin_node *node) {
    const strand_op_top_k *p = node->params;
    return (int64_t)cpu_round((uint64_t)p->k * sizeof(uint64_t)) / (int64_t)sizeof(uint64_t);
}

uint64_t cpu_top_k_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)worker_keys(node) * sizeof(uint64_t) * (uint64_t)cpu_workers(device);
}

CPU_KERNEL(cpu_top_k) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    job j = {.p = node->params, .n = x->dims[x->rank - 1], .heaps = scratch, .each = worker_keys(node), .has_ids = node->n_outputs > 1};
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

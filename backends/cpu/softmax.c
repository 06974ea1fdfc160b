/* softmax.c - SOFTMAX and log-softmax over the last axis: the largest element, the sum of e^(x - largest), then the result.
 * Three passes over a row that is in cache; the order of the sum depends on the row's length alone. */
#include "kernels.h"
#include "vecmath.h"

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK], rows, height;
    bool log;
} job;

/* The largest element. A NaN may be overlooked here: it makes the sum NaN. */
static float largest(const float *x, int64_t n) {
    vf most[4];
    int64_t i = 0;
    for (int k = 0; k < 4; k++) most[k] = vf_set(-INFINITY);
    for (; i + 4 * CPU_LANES <= n; i += 4 * CPU_LANES)
        for (int k = 0; k < 4; k++) most[k] = vf_at_least(vf_load(x + i + k * CPU_LANES), most[k]);
    for (; i + CPU_LANES <= n; i += CPU_LANES) most[0] = vf_at_least(vf_load(x + i), most[0]);
    float all = vf_largest(vf_at_least(vf_at_least(most[0], most[1]), vf_at_least(most[2], most[3])));
    for (; i < n; i++) all = x[i] > all ? x[i] : all;
    return all;
}

/* Sum of e^(x - most), which is also stored when there is a y. */
CPU_INLINE float powers(float *y, const float *x, int64_t n, vf most) {
    vf sums[2] = {vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + 2 * CPU_LANES <= n; i += 2 * CPU_LANES)
        for (int k = 0; k < 2; k++) {
            vf e = vf_exp(vf_load(x + i + k * CPU_LANES) - most);
            if (y) vf_store(y + i + k * CPU_LANES, e);
            sums[k] += e;
        }
    for (; i < n; i += CPU_LANES) {
        int64_t left = cpu_min(CPU_LANES, n - i);
        float lanes[CPU_LANES];
        vf e = vf_exp(vf_load_part(x + i, left) - most);
        vf_store(lanes, e);
        sums[0] += vf_load_part(lanes, left); /* lanes beyond the row must not count */
        if (y) vf_store_part(y + i, e, left);
    }
    return vf_sum(sums[0] + sums[1]);
}

static void row(bool log, float *y, const float *x, int64_t n) {
    vf most = vf_set(largest(x, n));
    float sum = powers(log ? NULL : y, x, n, most);
    vf scale = vf_set(1.0f / sum), log_sum = log ? vf_log(vf_set(sum)) : vf_zero();
    int64_t i = 0;
    for (; i + CPU_LANES <= n; i += CPU_LANES)
        vf_store(y + i, log ? (vf_load(x + i) - most) - log_sum : vf_load(y + i) * scale);
    if (i < n)
        vf_store_part(y + i, log ? (vf_load_part(x + i, n - i) - most) - log_sum : vf_load_part(y + i, n - i) * scale, n - i);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->rows);
    (void)worker;
    for (int64_t r = i * j->height; r < end; r++)
        row(j->log, (float *)(void *)cpu_row(&j->out, j->dims, r), (const float *)(const void *)cpu_row(&j->x, j->dims, r),
            j->dims[3]);
}

CPU_KERNEL(cpu_softmax) {
    const strand_op_softmax *p = node->params;
    job j = {.log = p->log != 0};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    j.rows = cpu_rows(j.dims);
    j.height = cpu_max(1, 8192 / cpu_max(1, j.dims[3]));
    if (j.dims[3] > 0) cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

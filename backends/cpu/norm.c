/* norm.c - NORM: each part of a row to mean square 1 (RMS), to mean 0 and variance 1 (LAYER) or to length 1 (L2), then
 * weight and bias. The row is in cache when it is read again; the order of the sums depends on the part's width alone. */
#include "kernels.h"
#include "vecmath.h"

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK], rows, height, width; /* width of a part */
    const float *weight, *bias;
    const strand_op_norm *params;
} job;

/* Sum of x - mean, or of its square, in four running sums. */
CPU_INLINE float sum_of(const float *x, int64_t n, float mean, int squared) {
    vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()}, m = vf_set(mean);
    int64_t i = 0;
    for (; i + 4 * CPU_LANES <= n; i += 4 * CPU_LANES)
        for (int k = 0; k < 4; k++) {
            vf d = vf_load(x + i + k * CPU_LANES) - m;
            sums[k] = squared ? vf_fma(d, d, sums[k]) : sums[k] + d;
        }
    for (; i + CPU_LANES <= n; i += CPU_LANES) {
        vf d = vf_load(x + i) - m;
        sums[0] = squared ? vf_fma(d, d, sums[0]) : sums[0] + d;
    }
    if (i < n) {
        float d[CPU_LANES];
        vf_store(d, vf_load_part(x + i, n - i) - m);
        vf last = vf_load_part(d, n - i); /* lanes beyond the row must not count */
        sums[1] = squared ? vf_fma(last, last, sums[1]) : sums[1] + last;
    }
    return vf_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

static float scale_of(const strand_op_norm *p, float m) {
    if (p->eps_rule == STRAND_EPS_INSIDE) return 1.0f / sqrtf(m + p->eps);
    float root = sqrtf(m);
    if (p->eps_rule == STRAND_EPS_OUTSIDE) return 1.0f / (root + p->eps);
    return 1.0f / (root < p->eps ? p->eps : root);
}

static void part(const strand_op_norm *p, float *y, const float *x, const float *weight, const float *bias, int64_t n) {
    float mean = p->kind == STRAND_NORM_LAYER ? sum_of(x, n, 0, 0) / (float)n : 0, squares = sum_of(x, n, mean, 1);
    vf scale = vf_set(scale_of(p, p->kind == STRAND_NORM_L2 ? squares : squares / (float)n)), m = vf_set(mean);
    vf offset = vf_set(p->weight_offset);
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        int64_t left = n - i;
        if (left >= CPU_LANES) {
            vf v = (vf_load(x + i) - m) * scale;
            if (weight) v = v * (vf_load(weight + i) + offset);
            vf_store(y + i, bias ? v + vf_load(bias + i) : v);
        } else {
            vf v = (vf_load_part(x + i, left) - m) * scale;
            if (weight) v = v * (vf_load_part(weight + i, left) + offset);
            vf_store_part(y + i, bias ? v + vf_load_part(bias + i, left) : v, left);
        }
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->rows), w = j->width;
    (void)worker;
    for (int64_t row = i * j->height; row < end; row++) {
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, row);
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row);
        for (int64_t at = 0; at < j->dims[3]; at += w)
            part(j->params, y + at, x + at, j->weight ? j->weight + at : NULL, j->bias ? j->bias + at : NULL, w);
    }
}

CPU_KERNEL(cpu_norm) {
    const strand_op_norm *p = node->params;
    job j = {.params = p, .weight = cpu_f32(cpu_input(node, 1)), .bias = cpu_f32(cpu_input(node, 2))};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    j.rows = cpu_rows(j.dims);
    j.width = j.dims[3] / p->groups;
    j.height = cpu_max(1, 16384 / cpu_max(1, j.dims[3]));
    if (j.dims[3] > 0) cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

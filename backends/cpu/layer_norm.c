/* layer_norm.c - LAYER_NORM: each row of the last axis to mean 0 and variance 1, then weight and bias. Two passes over a row
 * that is in cache; the order of the sums depends on the row's length alone. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

#include <math.h>

void cpu_layer_norm_row(float eps, float *y, const float *x, const float *weight, const float *bias, int64_t n) {
    int64_t i = 0, whole = n - n % CPU_LANES, rest = n - whole;
    vf sum = vf_zero();
    for (i = 0; i < whole; i += CPU_LANES) sum += vf_load(x + i);
    if (rest) sum += vf_load_part(x + whole, rest);
    vf mean = vf_set(vf_sum(sum) / (float)n), squares = vf_zero();
    for (i = 0; i < whole; i += CPU_LANES) {
        vf c = vf_load(x + i) - mean;
        squares = vf_fma(c, c, squares);
    }
    if (rest) {
        float c[CPU_LANES];
        vf_store(c, vf_load_part(x + whole, rest) - mean);
        vf last = vf_load_part(c, rest); /* lanes beyond the row must not count */
        squares = vf_fma(last, last, squares);
    }
    vf scale = vf_set(1.0f / sqrtf(vf_sum(squares) / (float)n + eps));
    for (i = 0; i < whole; i += CPU_LANES) {
        vf c = (vf_load(x + i) - mean) * scale;
        vf_store(y + i, vf_fma(c, vf_load(weight + i), bias ? vf_load(bias + i) : vf_zero()));
    }
    if (rest) {
        vf c = (vf_load_part(x + whole, rest) - mean) * scale;
        vf_store_part(y + whole,
                      vf_fma(c, vf_load_part(weight + whole, rest), bias ? vf_load_part(bias + whole, rest) : vf_zero()), rest);
    }
}

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK], rows, height;
    const float *weight, *bias;
    float eps;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->rows);
    (void)worker;
    for (int64_t row = i * j->height; row < end; row++) {
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, row);
        cpu_layer_norm_row(j->eps, (float *)(void *)cpu_row(&j->out, j->dims, row), x, j->weight, j->bias, j->dims[3]);
    }
}

CPU_KERNEL(cpu_layer_norm) {
    const strand_op_layer_norm *p = node->params;
    const strand_plugin_tensor *bias = cpu_input(node, 2);
    job j = {.eps = p->eps, .weight = cpu_f32(&node->inputs[1]), .bias = cpu_f32(bias)};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    j.rows = cpu_rows(j.dims);
    j.height = cpu_max(1, 16384 / cpu_max(1, j.dims[3]));
    cpu_parallel(device, (j.rows + j.height - 1) / j.height, body, &j);
    return STRAND_PLUGIN_OK;
}

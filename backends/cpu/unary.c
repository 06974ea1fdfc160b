/* unary.c - UNARY: functions of one element. */
#include "kernels.h"
#include "rows.h"
#include "vecmath.h"

CPU_INLINE vf identity(vf x) {
    return x;
}
CPU_INLINE vf relu(vf x) {
    return vf_select(x <= 0.0f, vf_zero(), x);
}

/* Whole vectors, then the last elements through the same instructions. */
#define ROW(name, f)                                                                                                           \
    static void name(float *y, const float *x, int64_t n) {                                                                    \
        int64_t i = 0;                                                                                                         \
        for (; i + CPU_LANES <= n; i += CPU_LANES) vf_store(y + i, f(vf_load(x + i)));                                         \
        if (i < n) vf_store_part(y + i, f(vf_load_part(x + i, n - i)), n - i);                                                 \
    }

ROW(identity_row, identity)
ROW(gelu_tanh_row, vf_gelu_tanh)
ROW(gelu_row, vf_gelu)
ROW(silu_row, vf_silu)
ROW(sigmoid_row, vf_sigmoid)
ROW(sin_row, vf_sin)
ROW(exp_row, vf_exp)
ROW(tanh_row, vf_tanh)
ROW(relu_row, relu)

void cpu_unary_row(uint32_t kind, float *y, const float *x, int64_t n) {
    static void (*const rows[])(float *, const float *, int64_t) = {
        [STRAND_UNARY_IDENTITY] = identity_row, [STRAND_UNARY_GELU_TANH] = gelu_tanh_row, [STRAND_UNARY_GELU] = gelu_row,
        [STRAND_UNARY_SILU] = silu_row,         [STRAND_UNARY_SIGMOID] = sigmoid_row,     [STRAND_UNARY_SIN] = sin_row,
        [STRAND_UNARY_EXP] = exp_row,           [STRAND_UNARY_TANH] = tanh_row,           [STRAND_UNARY_RELU] = relu_row};
    if (kind == STRAND_UNARY_IDENTITY && y == x) return;
    rows[kind](y, x, n);
}

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    uint32_t kind;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row) + column;
        cpu_unary_row(j->kind, y, (const float *)(const void *)cpu_row(&j->x, j->dims, row) + column, width);
    }
}

CPU_KERNEL(cpu_unary) {
    const strand_op_unary *p = node->params;
    job j = {.kind = p->kind};
    cpu_operand *const operands[] = {&j.out, &j.x};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    cpu_collapse(j.dims, operands, 2);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

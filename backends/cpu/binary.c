/* binary.c - BINARY: sums, products and differences; b may be one element for a row, a column or everything. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

CPU_INLINE vf add(vf a, vf b) {
    return a + b;
}
CPU_INLINE vf mul(vf a, vf b) {
    return a * b;
}
CPU_INLINE vf sub(vf a, vf b) {
    return a - b;
}

#define ROW(name, f)                                                                                                           \
    static void name##_row(float *y, const float *a, const float *b, int64_t n) {                                              \
        int64_t i = 0;                                                                                                         \
        for (; i + CPU_LANES <= n; i += CPU_LANES) vf_store(y + i, f(vf_load(a + i), vf_load(b + i)));                         \
        if (i < n) vf_store_part(y + i, f(vf_load_part(a + i, n - i), vf_load_part(b + i, n - i)), n - i);                     \
    }                                                                                                                          \
    static void name##_one(float *y, const float *a, const float *b, int64_t n) {                                              \
        vf one = vf_set(*b);                                                                                                   \
        int64_t i = 0;                                                                                                         \
        for (; i + CPU_LANES <= n; i += CPU_LANES) vf_store(y + i, f(vf_load(a + i), one));                                    \
        if (i < n) vf_store_part(y + i, f(vf_load_part(a + i, n - i), one), n - i);                                            \
    }

ROW(add, add)
ROW(mul, mul)
ROW(sub, sub)

void cpu_binary_row(uint32_t kind, float *y, const float *a, const float *b, int64_t b_step, int64_t n) {
    typedef void row(float *, const float *, const float *, int64_t);
    static row *const rows[] = {[STRAND_BINARY_ADD] = add_row, [STRAND_BINARY_MUL] = mul_row, [STRAND_BINARY_SUB] = sub_row};
    static row *const ones[] = {[STRAND_BINARY_ADD] = add_one, [STRAND_BINARY_MUL] = mul_one, [STRAND_BINARY_SUB] = sub_one};
    (b_step ? rows : ones)[kind](y, a, b, n);
}

typedef struct job {
    cpu_operand out, a, b;
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    uint32_t kind;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width, b_step = j->b.strides[STRAND_PLUGIN_RANK - 1] != 0;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        const float *a = (const float *)(const void *)cpu_row(&j->a, j->dims, row) + column;
        const float *b = (const float *)(const void *)cpu_row(&j->b, j->dims, row) + column * b_step;
        cpu_binary_row(j->kind, (float *)(void *)cpu_row(&j->out, j->dims, row) + column, a, b, b_step, width);
    }
}

CPU_KERNEL(cpu_binary) {
    const strand_op_binary *p = node->params;
    job j = {.kind = p->kind};
    cpu_operand *const operands[] = {&j.out, &j.a, &j.b};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.a);
    cpu_place(&node->outputs[0], &node->inputs[1], true, &j.b);
    cpu_collapse(j.dims, operands, 3);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

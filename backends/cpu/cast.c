/* cast.c - CAST between F32, F16 and BF16, rounding to nearest even. */
#include "half.h"
#include "kernels.h"

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    uint32_t from, to;
} job;

static void to_f32(uint32_t from, float *y, const char *x, int64_t n) {
    const uint16_t *h = (const uint16_t *)(const void *)x;
    if (from == STRAND_PLUGIN_F32) memcpy(y, x, (size_t)n * sizeof *y);
    if (from == STRAND_PLUGIN_F16)
        for (int64_t i = 0; i < n; i++) y[i] = cpu_f16_to_f32(h[i]);
    if (from == STRAND_PLUGIN_BF16)
        for (int64_t i = 0; i < n; i++) y[i] = cpu_bf16_to_f32(h[i]);
}

static void from_f32(uint32_t to, char *y, const float *x, int64_t n) {
    uint16_t *h = (uint16_t *)(void *)y;
    if (to == STRAND_PLUGIN_F32) memcpy(y, x, (size_t)n * sizeof *x);
    if (to == STRAND_PLUGIN_F16)
        for (int64_t i = 0; i < n; i++) h[i] = cpu_f32_to_f16(x[i]);
    if (to == STRAND_PLUGIN_BF16)
        for (int64_t i = 0; i < n; i++) h[i] = cpu_f32_to_bf16(x[i]);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width;
    float some[256];
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++)
        for (int64_t at = 0; at < width; at += 256) {
            int64_t n = cpu_min(256, width - at);
            to_f32(j->from, some, cpu_row(&j->x, j->dims, row) + (column + at) * j->x.bytes, n);
            from_f32(j->to, cpu_row(&j->out, j->dims, row) + (column + at) * j->out.bytes, some, n);
        }
}

CPU_KERNEL(cpu_cast) {
    job j = {.from = node->inputs[0].dtype, .to = node->outputs[0].dtype};
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

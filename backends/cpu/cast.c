/* cast.c - CAST between F32, F16 and BF16, rounding to nearest even, and from quantised types to F32. */
#include "half.h"
#include "kernels.h"
#include "quant.h"

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

/* Rows of blocks: x.base is the tensor's first element, `lead` how many elements before the output's first row that is, without
 * the last axis, of which x has all. */
typedef struct quantised_job {
    job all;
    int64_t lead, first;
} quantised_job;

static void quantised_body(void *arg, int64_t i, int32_t worker) {
    const quantised_job *q = arg;
    const job *j = &q->all;
    int64_t row, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        int64_t i2 = row % j->dims[2], i1 = row / j->dims[2] % j->dims[1], i0 = row / j->dims[2] / j->dims[1];
        int64_t at = q->lead + i0 * j->x.strides[0] + i1 * j->x.strides[1] + i2 * j->x.strides[2];
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row) + column;
        cpu_dequantise(j->from, j->x.base + cpu_span(j->from, at), q->first + column, width, y);
    }
}

static void cast_quantised(const cpu_device *device, const strand_plugin_node *node, job *j) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    quantised_job q = {.first = out->origin[out->rank - 1]};
    cpu_place(out, x, false, &j->x);
    j->x.base = x->memory.data;
    for (uint32_t axis = 0; axis + 1 < x->rank; axis++)
        q.lead += cpu_lead(x, axis, out, axis + out->rank - x->rank) * x->strides[axis];
    j->pieces = cpu_cut(j->dims);
    q.all = *j;
    cpu_parallel(device, j->pieces.count, quantised_body, &q);
}

CPU_KERNEL(cpu_cast) {
    job j = {.from = node->inputs[0].dtype, .to = node->outputs[0].dtype};
    cpu_operand *const operands[] = {&j.out, &j.x};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    if (cpu_is_quantised(j.from)) {
        cast_quantised(device, node, &j);
        return STRAND_PLUGIN_OK;
    }
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    cpu_collapse(j.dims, operands, 2);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

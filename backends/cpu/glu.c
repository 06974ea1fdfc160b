/* glu.c - GLU: one half of a row times the other, one of them through an activation. Halves stand one after the other or
 * element by element. A row is done in pieces that stay in the first cache. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

#include <string.h>

#define BUFFER 1024 /* elements of a half */

typedef struct job {
    cpu_operand out;
    const strand_plugin_tensor *x;
    int64_t x_base, x_strides[STRAND_PLUGIN_RANK]; /* the input's strides over the output's four axes */
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    const strand_op_glu *params;
} job;

/* The even elements of x[0, 2n) to a, the odd ones to b. */
static void apart(const float *x, float *a, float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        a[i] = x[2 * i];
        b[i] = x[2 * i + 1];
    }
}

static void times(float *y, const float *a, const float *b, int64_t n) {
    cpu_binary_row(STRAND_BINARY_MUL, y, a, b, 1, n);
}

/* y[0, n) of the halves at a and b, or at x when they are interleaved; n <= BUFFER. */
static void piece(const strand_op_glu *p, float *y, const float *a, const float *b, const float *x, int64_t n) {
    float first[BUFFER], second[BUFFER];
    if (p->interleaved) {
        apart(x, first, second, n);
        a = first, b = second;
    }
    if (p->gate_second)
        cpu_unary_row(p->activation, p->alpha, p->beta, second, b, n);
    else
        cpu_unary_row(p->activation, p->alpha, p->beta, first, a, n);
    times(y, p->gate_second ? a : first, p->gate_second ? second : b, n);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width, d = j->dims[3];
    cpu_operand x = {.base = (char *)((float *)j->x->memory.data + j->x_base), .bytes = sizeof(float)};
    (void)worker;
    memcpy(x.strides, j->x_strides, sizeof x.strides);
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        const float *from = (const float *)(const void *)cpu_row(&x, j->dims, row);
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row);
        for (int64_t c = column; c < column + width; c += BUFFER)
            piece(j->params, y + c, from + c, from + d + c, from + 2 * c, cpu_min(BUFFER, column + width - c));
    }
}

CPU_KERNEL(cpu_glu) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    job j = {.params = node->params, .x = x};
    (void)scratch;
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    for (uint32_t axis = 0; axis + 1 < out->rank; axis++) {
        j.x_strides[STRAND_PLUGIN_RANK - out->rank + axis] = x->strides[axis];
        j.x_base += cpu_lead(x, axis, out, axis) * x->strides[axis];
    }
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

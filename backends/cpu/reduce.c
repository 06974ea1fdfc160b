/* reduce.c - REDUCE over the middle axis of [B, L, d]: a mean, a sum, or one position. Sums are kept in double precision, in
 * order of the positions, so that a million of them lose nothing and no cut of the work changes them. */
#include "kernels.h"

#include <string.h>

#define BAND 64 /* channels that one piece of work sums */

typedef struct job {
    const strand_plugin_node *node;
    const float *x;
    float *y;
    int64_t bands;
} job;

static int64_t id_at(const strand_plugin_tensor *ids, int64_t at) {
    return ids->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)ids->memory.data)[at] : ((const int32_t *)ids->memory.data)[at];
}

/* The position that row b of the output takes. */
static int64_t position(const strand_plugin_node *node, int64_t b) {
    const strand_op_reduce *p = node->params;
    int64_t length = node->inputs[0].dims[1];
    if (p->kind == STRAND_REDUCE_FIRST) return 0;
    if (p->kind == STRAND_REDUCE_LAST) return length - 1;
    const strand_plugin_tensor *ids = &node->inputs[1];
    int64_t row = (b + cpu_lead(ids, 0, &node->outputs[0], 0)) * ids->strides[0];
    for (int64_t t = 0; t < length; t++)
        if (id_at(ids, row + t) == p->token) return t > 0 ? t - 1 : length - 1;
    return length - 1;
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_op_reduce *p = j->node->params;
    const strand_plugin_tensor *x = &j->node->inputs[0], *out = &j->node->outputs[0];
    int64_t b = i / j->bands, c = i % j->bands * BAND, n = cpu_min(BAND, out->dims[1] - c);
    const float *from = j->x + b * x->strides[0] + c;
    float *to = j->y + b * out->strides[0] + c;
    double sum[BAND] = {0};
    (void)worker;
    if (p->kind != STRAND_REDUCE_MEAN && p->kind != STRAND_REDUCE_SUM) {
        memcpy(to, from + position(j->node, b) * x->strides[1], (size_t)n * sizeof *to);
        return;
    }
    for (int64_t t = 0; t < x->dims[1]; t++)
        for (int64_t e = 0; e < n; e++) sum[e] += (double)from[t * x->strides[1] + e];
    double divisor = p->kind == STRAND_REDUCE_MEAN ? (double)x->dims[1] : 1;
    for (int64_t e = 0; e < n; e++) to[e] = (float)(sum[e] / divisor);
}

CPU_KERNEL(cpu_reduce) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    job j = {.node = node, .y = cpu_f32(out), .bands = (out->dims[1] + BAND - 1) / BAND};
    (void)scratch;
    j.x = cpu_f32(x) + cpu_lead(x, 0, out, 0) * x->strides[0] + cpu_lead(x, 2, out, 1);
    cpu_parallel(device, out->dims[0] * j.bands, body, &j);
    return STRAND_PLUGIN_OK;
}

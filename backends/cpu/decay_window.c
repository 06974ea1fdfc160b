/* decay_window.c - DECAY_WINDOW: k[c, t] (exp(-t/(n-1) |rate[c]|) + shift). The window is computed in double precision, because
 * positions up to 2^22 times a rate leave too few bits in a float; each element depends on its position alone. */
#include "kernels.h"
#include "rows.h"
#include "simd.h"

#include <math.h>

#define HALF (CPU_LANES / 2)

/* e^x of doubles x <= 0, relative error 1e-10; below -150 it is as good as 0 in float. */
CPU_INLINE vd exp_down(vd x) {
    const double rounder = 0x1.8p52;
    vl low = x < -150.0;
    x = (vd)((~low & (vl)x) | (low & (vl)vd_set(-150.0)));
    vd t = x * 0x1.71547652b82fep0 + rounder;
    vl n = (vl)t - 0x4338000000000000ll;
    vd whole = t - rounder, r = x - whole * 0x1.62e42fefa0000p-1 - whole * 0x1.cf79abc9e3b3ap-40;
    vd p = r * (1.0 / 40320) + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * (vd)((vul)(n + 1023) << 52);
}

void cpu_decay_row(const strand_op_decay_window *p, float *y, const float *k, float rate, int64_t first, int64_t n) {
    vd slope = vd_set(-fabs((double)rate) / (double)(p->n > 1 ? p->n - 1 : 1)), t, shift = vd_set((double)p->shift);
    for (int i = 0; i < HALF; i++) t[i] = (double)(first + i);
    for (int64_t i = 0; i < n; i += HALF, t += (double)HALF) {
        vd window = exp_down(t * slope) + shift;
        int64_t m = cpu_min(HALF, n - i);
        for (int64_t e = 0; e < m; e++) y[i + e] = (float)((double)k[i + e] * window[e]);
    }
}

typedef struct job {
    cpu_operand out, k;
    int64_t dims[STRAND_PLUGIN_RANK], first;
    cpu_pieces pieces;
    const float *rate;
    int64_t rate_stride;
    const strand_op_decay_window *p;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row) + column;
        const float *k = (const float *)(const void *)cpu_row(&j->k, j->dims, row) + column;
        cpu_decay_row(j->p, y, k, j->rate[row * j->rate_stride], j->first + column, width);
    }
}

CPU_KERNEL(cpu_decay_window) {
    const strand_plugin_tensor *out = &node->outputs[0], *rate = &node->inputs[1];
    job j = {.p = node->params, .first = out->origin[1]};
    (void)scratch;
    j.rate_stride = rate->strides[0];
    j.rate = cpu_f32(rate) + cpu_lead(rate, 0, out, 0) * j.rate_stride;
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    cpu_place(out, &node->inputs[0], false, &j.k);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

/* reference_convolutions.c - transforms as their sums say it, in double precision. Angles are exact fractions of a turn. */
#include "reference.h"

/* Number j of the row that begins at element `at`: those that C2R's symmetry gives too. */
static void number(const strand_plugin_node *node, int64_t at, int64_t n, int64_t j, double *re, double *im) {
    const strand_op_fft *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0];
    uint32_t axis = x->rank - (p->kind == STRAND_FFT_R2C ? 1 : 2);
    bool mirrored = p->kind == STRAND_FFT_C2R && j > n / 2, alone = p->kind == STRAND_FFT_C2R && (j == 0 || 2 * j == n);
    int64_t from = at + (mirrored ? n - j : j) * x->strides[axis];
    bool outside = p->kind == STRAND_FFT_R2C && j >= x->dims[axis];
    *re = outside ? 0 : get(x, from);
    *im = p->kind == STRAND_FFT_R2C || alone ? 0 : mirrored ? -get(x, from + 1) : get(x, from + 1);
}

static double in_form(const strand_op_fft *p, double re, double im) {
    double amplitude = hypot(re, im);
    if (p->form == STRAND_FFT_POWER) return amplitude * amplitude;
    if (p->form == STRAND_FFT_LOG_AMPLITUDE) return log(amplitude == 0 ? (double)p->floor : amplitude);
    return amplitude;
}

CPU_KERNEL(cpu_reference_fft) {
    (void)device, (void)scratch;
    const strand_op_fft *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    bool pairs = p->kind != STRAND_FFT_C2R && p->form == STRAND_FFT_COMPLEX;
    uint32_t axis = out->rank - (pairs ? 2 : 1);
    int64_t width = x->dims[axis], n = p->n && p->kind == STRAND_FFT_R2C ? p->n
                                       : p->kind == STRAND_FFT_C2R       ? out->dims[axis]
                                                                         : width;
    double sign = p->kind == STRAND_FFT_R2C || p->kind == STRAND_FFT_FORWARD ? -1 : 1;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t at = 0, k = w.index[axis];
        for (uint32_t i = 0; i < axis; i++) at += (w.index[i] + out->origin[i] - x->origin[i]) * x->strides[i];
        double re = 0, im = 0;
        for (int64_t j = 0; j < (p->kind == STRAND_FFT_R2C ? cpu_min(n, width) : n); j++) {
            double a, b, angle = sign * 2 * PI * (double)(j * k % n) / (double)n, c = cos(angle), s = sin(angle);
            number(node, at, n, j, &a, &b);
            re += a * c - b * s;
            im += a * s + b * c;
        }
        re *= (double)p->scale, im *= (double)p->scale;
        if (pairs) {
            put(out, here(&w), re);
            step(&w);
            put(out, here(&w), im);
        } else {
            put(out, here(&w), p->form == STRAND_FFT_COMPLEX ? re : in_form(p, re, im));
        }
    }
    return STRAND_PLUGIN_OK;
}

/* reference_complex.h - complex numbers in double precision and working memory, for the reference kernels of the scans. */
#ifndef STRAND_CPU_REFERENCE_COMPLEX_H
#define STRAND_CPU_REFERENCE_COMPLEX_H

#include "reference.h"
#include "scans.h"

/* ---- complex numbers ---- */

typedef struct complex_number {
    double re, im;
} cn;

static inline cn add(cn a, cn b) {
    return (cn){a.re + b.re, a.im + b.im};
}
static inline cn mul(cn a, cn b) {
    return (cn){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
static inline cn scaled(double s, cn a) {
    return (cn){s * a.re, s * a.im};
}
static inline cn conj_of(cn a) {
    return (cn){a.re, -a.im};
}
static inline cn divided(cn a, cn b) {
    double n = b.re * b.re + b.im * b.im;
    return scaled(1 / n, mul(a, conj_of(b)));
}
static inline cn exp_of(cn a) {
    double r = exp(a.re);
    return r > 0 ? (cn){r * cos(a.im), r * sin(a.im)} : (cn){r, r};
}
/* e^a - 1 without cancellation */
static inline cn expm1_of(cn a) {
    double s = sin(a.im / 2);
    return (cn){expm1(a.re) * cos(a.im) - 2 * s * s, exp(a.re) * sin(a.im)};
}

static inline cn pair_at(const float *p) {
    return p ? (cn){(double)p[0], (double)p[1]} : (cn){1, 0};
}

/* Working memory, zeroed; the reference module asks the host for it. */
static inline double *numbers(const cpu_device *device, int64_t n) {
    double *p = device->host->alloc(device->host->context, (uint64_t)(n + 1) * sizeof *p, CPU_ALIGN);
    if (p) memset(p, 0, (size_t)(n + 1) * sizeof *p);
    return p;
}
static inline void give_back(const cpu_device *device, double *p, int64_t n) {
    device->host->free(device->host->context, p, (uint64_t)(n + 1) * sizeof *p);
}
static inline strand_plugin_status no_memory(const cpu_device *device) {
    return cpu_fail(device, STRAND_PLUGIN_ERR_MEMORY, "no working memory for the reference");
}

/* Element n of row c of [C or 1, N, 2]; ones where the tensor is absent. */
static inline cn pair(const strand_plugin_tensor *t, const strand_plugin_tensor *out, uint32_t oa, int64_t c, int64_t n) {
    return t ? pair_at(scan_channels(t, out, oa) + c * scan_channel_stride(t) + n * t->strides[1]) : (cn){1, 0};
}

#endif

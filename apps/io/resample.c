/* resample.c - the two ways to another sampling rate (resample.h).
 *
 * The Fourier method sees the whole signal at once, so it is exact for band-limited periodic signals, rings at the ends, and is
 * what published pipelines did. The polyphase one is a finite filter: each result depends on a few milliseconds around it,
 * whatever the length, so that a stream gives what a file gives.
 */
#include "resample.h"

#include "fft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t resample_fourier_bytes(int64_t n, int64_t count) {
    const int64_t most = n > count ? n : count;
    const uint64_t a = fft_bytes(n), b = fft_bytes(count);
    return (a > b ? a : b) + sizeof(fft_complex) * (uint64_t)most;
}

int resample_fourier(const double *x, int64_t n, double *y, int64_t count) {
    if (n < 1 || count < 1) return -1;
    const int64_t most = n > count ? n : count, least = n < count ? n : count;
    fft_complex *work = malloc((size_t)most * sizeof *work);
    fft *f = work ? fft_open(n) : NULL;
    if (!f) return free(work), -1;
    for (int64_t t = 0; t < n; t++) work[t] = (fft_complex){x[t], 0};
    fft_forward(f, work);
    fft_close(f);
    f = fft_open(count);
    if (!f) return free(work), -1;
    /* Non-negative frequencies up to half the lower rate stay; their mirror images follow from the signal being real. */
    for (int64_t k = least / 2 + 1; k < most; k++) work[k] = (fft_complex){0, 0};
    if (least % 2 == 0 && n != count) {
        const double scale = count < n ? 2 : 0.5;
        work[least / 2].re *= scale;
        work[least / 2].im *= scale;
    }
    for (int64_t k = 1; 2 * k < count; k++) work[count - k] = (fft_complex){work[k].re, -work[k].im};
    if (count % 2 == 0) work[count / 2].im = 0; /* real part alone, as the inverse of a real signal takes it */
    fft_backward(f, work);
    fft_close(f);
    for (int64_t t = 0; t < count; t++) y[t] = work[t].re / (double)n;
    free(work);
    return 0;
}

/* ---- polyphase ---- */

static int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        const int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* to / from as a fraction of small whole numbers, by continued fractions. */
static int ratio(double from, double to, int64_t *up, int64_t *down) {
    double x = to / from;
    int64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0;
    for (int i = 0; i < 40; i++) {
        const double whole = floor(x);
        if (!(whole < 20001)) return -2;
        const int64_t p = (int64_t)whole * p1 + p0, q = (int64_t)whole * q1 + q0;
        if (p > 20000 || q > 20000) return -2;
        p0 = p1, q0 = q1, p1 = p, q1 = q;
        if (fabs((double)p * from - (double)q * to) <= 1e-9 * to * (double)q) break;
        if (x == whole) break;
        x = 1 / (x - whole);
    }
    if (p1 < 1 || q1 < 1) return -2;
    const int64_t d = gcd(p1, q1);
    *up = p1 / d;
    *down = q1 / d;
    return 0;
}

static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; k < 60; k++) {
        term *= (x / 2 / k) * (x / 2 / k);
        sum += term;
    }
    return sum;
}

int polyphase_open(polyphase *p, double from, double to) {
    memset(p, 0, sizeof *p);
    if (!(from > 0) || !(to > 0) || ratio(from, to, &p->up, &p->down)) return -2;
    const int64_t most = p->up > p->down ? p->up : p->down, n = 2 * (p->half = 10 * most) + 1;
    p->taps = malloc((size_t)n * sizeof *p->taps);
    if (!p->taps) return -1;
    const double pi = 3.14159265358979323846, beta = 5;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double t = (double)(i - p->half), u = t / (double)p->half, v = t / (double)most;
        p->taps[i] =
            (t == 0 ? 1 : sin(pi * v) / (pi * v)) * bessel_i0(beta * sqrt(1 - u * u > 0 ? 1 - u * u : 0)) / bessel_i0(beta);
        sum += p->taps[i];
    }
    for (int64_t i = 0; i < n; i++) p->taps[i] *= (double)p->up / sum; /* gain 1 after stuffing with zeros */
    return 0;
}

void polyphase_close(polyphase *p) {
    free(p->taps);
    p->taps = NULL;
}

int64_t polyphase_count(const polyphase *p, int64_t n) {
    return n / p->down * p->up + (n % p->down * p->up + p->down - 1) / p->down;
}

static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

void polyphase_needs(const polyphase *p, int64_t m, int64_t n, int64_t *first, int64_t *last) {
    *first = floor_divide(m * p->down - p->half + p->up - 1, p->up);
    *last = floor_divide((m + n - 1) * p->down + p->half, p->up) + 1;
}

void polyphase_run(const polyphase *p, const double *x, int64_t first, int64_t last, int64_t m, int64_t n, double *y) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (m + i) * p->down;
        int64_t k = floor_divide(at - p->half + p->up - 1, p->up), end = floor_divide(at + p->half, p->up) + 1;
        if (k < first) k = first;
        if (end > last) end = last;
        double sum = 0;
        for (const double *tap = p->taps + (at - k * p->up + p->half); k < end; k++, tap -= p->up) sum += *tap * x[k - first];
        y[i] = sum;
    }
}

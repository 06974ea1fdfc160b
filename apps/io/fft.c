/* fft.c - mixed-radix transforms where the length has small factors only, Bluestein's chirp otherwise.
 *
 * Cooley and Tukey 1965, decimation in time, out of place by recursion over the factors; Bluestein 1970: a transform of any
 * length as a convolution of length a power of two. Twiddles come from a table of exact angles, so the error stays near 1e-15
 * log n.
 */
#include "fft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FACTORS = 64, LARGEST_RADIX = 61 };
static const double PI = 3.14159265358979323846;

struct fft {
    int64_t n;
    int radix[MOST_FACTORS];
    fft_complex *twiddle; /* exp(-2 pi i k / n) */
    fft_complex *scratch;
    fft *inner; /* Bluestein: power of two */
    fft_complex *chirp, *spectrum;
};

static int is_smooth(int64_t n) {
    for (int p = 2; p <= LARGEST_RADIX; p++)
        while (n % p == 0) n /= p;
    return n == 1;
}

static int64_t bluestein_length(int64_t n) {
    int64_t m = 1;
    while (m < 2 * n - 1) m *= 2;
    return m;
}

uint64_t fft_bytes(int64_t n) {
    const uint64_t one = sizeof(fft_complex);
    if (n < 1) return 0;
    if (is_smooth(n)) return 2 * one * (uint64_t)n;
    return one * (uint64_t)n + 4 * one * (uint64_t)bluestein_length(n);
}

static fft_complex unit(int64_t k, int64_t n) { /* exp(-2 pi i k / n) */
    const double angle = 2 * PI * (double)k / (double)n;
    return (fft_complex){cos(angle), -sin(angle)};
}

static fft_complex times(fft_complex a, fft_complex b) {
    return (fft_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static void factor(fft *f) {
    int64_t n = f->n;
    int used = 0;
    while (n % 4 == 0) f->radix[used++] = 4, n /= 4;
    for (int p = 2; p <= LARGEST_RADIX; p++)
        while (n % p == 0) f->radix[used++] = p, n /= p;
    f->radix[used] = 0;
}

static int open_bluestein(fft *f) {
    const int64_t n = f->n, m = bluestein_length(n);
    f->inner = fft_open(m);
    f->chirp = malloc((size_t)n * sizeof *f->chirp);
    f->spectrum = malloc((size_t)m * sizeof *f->spectrum);
    f->scratch = malloc((size_t)m * sizeof *f->scratch);
    if (!f->inner || !f->chirp || !f->spectrum || !f->scratch) return -1;
    uint64_t square = 0; /* k * k mod 2 n */
    memset(f->spectrum, 0, (size_t)m * sizeof *f->spectrum);
    for (int64_t k = 0; k < n; k++) {
        f->chirp[k] = unit((int64_t)square, 2 * n);
        square = (square + 2 * (uint64_t)k + 1) % (2 * (uint64_t)n);
        const fft_complex c = {f->chirp[k].re, -f->chirp[k].im};
        f->spectrum[k] = c;
        if (k) f->spectrum[m - k] = c;
    }
    fft_forward(f->inner, f->spectrum);
    return 0;
}

static int open_smooth(fft *f) {
    factor(f);
    f->twiddle = malloc((size_t)f->n * sizeof *f->twiddle);
    f->scratch = malloc((size_t)f->n * sizeof *f->scratch);
    for (int64_t k = 0; f->twiddle && k < f->n; k++) f->twiddle[k] = unit(k, f->n);
    return f->twiddle && f->scratch ? 0 : -1;
}

fft *fft_open(int64_t n) {
    fft *f = n >= 1 && n < (int64_t)1 << 40 ? calloc(1, sizeof *f) : NULL;
    if (!f) return NULL;
    f->n = n;
    if ((is_smooth(n) ? open_smooth(f) : open_bluestein(f)) == 0) return f;
    fft_close(f);
    return NULL;
}

void fft_close(fft *f) {
    if (!f) return;
    fft_close(f->inner);
    free(f->twiddle);
    free(f->scratch);
    free(f->chirp);
    free(f->spectrum);
    free(f);
}

static void butterfly2(const fft *f, fft_complex *out, int64_t m, int64_t stride) {
    for (int64_t k = 0; k < m; k++) {
        const fft_complex a = out[k], b = times(out[k + m], f->twiddle[k * stride]);
        out[k] = (fft_complex){a.re + b.re, a.im + b.im};
        out[k + m] = (fft_complex){a.re - b.re, a.im - b.im};
    }
}

static void butterfly4(const fft *f, fft_complex *out, int64_t m, int64_t stride) {
    for (int64_t k = 0; k < m; k++) {
        const fft_complex a = out[k], b = times(out[k + m], f->twiddle[k * stride]);
        const fft_complex c = times(out[k + 2 * m], f->twiddle[2 * k * stride]),
                          d = times(out[k + 3 * m], f->twiddle[3 * k * stride]);
        const fft_complex s = {a.re + c.re, a.im + c.im}, t = {a.re - c.re, a.im - c.im};
        const fft_complex u = {b.re + d.re, b.im + d.im}, v = {b.re - d.re, b.im - d.im};
        out[k] = (fft_complex){s.re + u.re, s.im + u.im};
        out[k + 2 * m] = (fft_complex){s.re - u.re, s.im - u.im};
        out[k + m] = (fft_complex){t.re + v.im, t.im - v.re};
        out[k + 3 * m] = (fft_complex){t.re - v.im, t.im + v.re};
    }
}

static void butterfly(const fft *f, fft_complex *out, int p, int64_t m, int64_t stride) {
    fft_complex part[LARGEST_RADIX];
    for (int64_t k = 0; k < m; k++) {
        for (int q = 0; q < p; q++) part[q] = out[k + q * m];
        for (int r = 0; r < p; r++) {
            const int64_t step = (k + r * m) * stride;
            int64_t at = 0;
            fft_complex sum = part[0];
            for (int q = 1; q < p; q++) {
                at = (at + step) % f->n;
                const fft_complex x = times(part[q], f->twiddle[at]);
                sum.re += x.re;
                sum.im += x.im;
            }
            out[k + r * m] = sum;
        }
    }
}

/* Transform of n samples of `in` that lie `stride` apart. */
static void transform(const fft *f, const fft_complex *in, fft_complex *out, int64_t n, int64_t stride, const int *radix) {
    const int p = *radix;
    if (n == 1) {
        *out = *in;
        return;
    }
    const int64_t m = n / p;
    for (int q = 0; q < p; q++) transform(f, in + q * stride, out + q * m, m, stride * p, radix + 1);
    if (p == 2)
        butterfly2(f, out, m, stride);
    else if (p == 4)
        butterfly4(f, out, m, stride);
    else
        butterfly(f, out, p, m, stride);
}

static void run_bluestein(fft *f, fft_complex *x) {
    const int64_t n = f->n, m = f->inner->n;
    fft_complex *work = f->scratch;
    for (int64_t k = 0; k < n; k++) work[k] = times(x[k], f->chirp[k]);
    memset(work + n, 0, (size_t)(m - n) * sizeof *work);
    fft_forward(f->inner, work);
    for (int64_t k = 0; k < m; k++) work[k] = times(work[k], f->spectrum[k]);
    fft_backward(f->inner, work);
    for (int64_t k = 0; k < n; k++) {
        const fft_complex y = times(work[k], f->chirp[k]);
        x[k] = (fft_complex){y.re / (double)m, y.im / (double)m};
    }
}

void fft_forward(fft *f, fft_complex *x) {
    if (f->inner) {
        run_bluestein(f, x);
        return;
    }
    memcpy(f->scratch, x, (size_t)f->n * sizeof *x);
    transform(f, f->scratch, x, f->n, 1, f->radix);
}

void fft_backward(fft *f, fft_complex *x) {
    for (int64_t k = 0; k < f->n; k++) x[k].im = -x[k].im;
    fft_forward(f, x);
    for (int64_t k = 0; k < f->n; k++) x[k].im = -x[k].im;
}

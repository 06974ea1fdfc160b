/* fft.h - discrete Fourier transforms of any length in double precision, for signals before they reach a model.
 */
#ifndef STRAND_APP_FFT_H
#define STRAND_APP_FFT_H

#include <stdint.h>

typedef struct fft_complex {
    double re, im;
} fft_complex;

typedef struct fft fft;

/* Bytes that a transform of length n takes (its arrays for one call included). */
uint64_t fft_bytes(int64_t n);
/* NULL when memory is short or n < 1. */
fft *fft_open(int64_t n);
void fft_close(fft *f);
/* X[k] = sum over t of x[t] exp(-2 pi i k t / n), in place. */
void fft_forward(fft *f, fft_complex *x);
/* x[t] = sum over k of X[k] exp(+2 pi i k t / n): n times the inverse. */
void fft_backward(fft *f, fft_complex *x);

#endif

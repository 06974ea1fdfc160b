/* resample.h - to another sampling rate: by Fourier transform of a whole signal, or by a polyphase filter piece by piece.
 */
#ifndef STRAND_APP_RESAMPLE_H
#define STRAND_APP_RESAMPLE_H

#include <stdint.h>

/* The Fourier method: `n` samples of x become `count` of y, which cover the same time. What scipy.signal.resample computes (no
 * window): the spectrum is cut or filled up with zeros, and the component at half the lower rate is split between both signs.
 * 0, or -1 when memory is short. Takes resample_fourier_bytes besides x and y. */
int resample_fourier(const double *x, int64_t n, double *y, int64_t count);
uint64_t resample_fourier_bytes(int64_t n, int64_t count);

/* The polyphase method: y[m] = sum over k of h[m down - k up] x[k]: a low-pass filter (windowed sinc, Kaiser beta 5, 10 zero
 * crossings a side at the lower rate, as scipy.signal.resample_poly has by default), evaluated where samples are wanted. Zeros
 * stand outside of the signal. */
typedef struct polyphase {
    int64_t up, down, half; /* half: taps on each side, at `up` times the input's rate */
    double *taps;           /* 2 half + 1 */
} polyphase;

/* 0; -1: memory is short; -2: the rates have no ratio of whole numbers up to 20000. */
int polyphase_open(polyphase *p, double from, double to);
void polyphase_close(polyphase *p);
/* Samples that n become. */
int64_t polyphase_count(const polyphase *p, int64_t n);
/* The samples of x that y[m .. m + n) depends on: [*first, *last), which may lie outside of the signal. */
void polyphase_needs(const polyphase *p, int64_t m, int64_t n, int64_t *first, int64_t *last);
/* y[m .. m + n) from x[first .. last); what is not given counts as 0. */
void polyphase_run(const polyphase *p, const double *x, int64_t first, int64_t last, int64_t m, int64_t n, double *y);

#endif

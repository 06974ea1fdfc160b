/* dft.h - discrete Fourier transforms in their natural order, any number of points, for the FFT operator.
 *
 * CPU_LANES transforms of one size run side by side, a lane each: block k (STEP floats: real parts, then imaginary parts) holds
 * the k-th number of every lane. The lanes are different rows, or, for a longer row, its residues modulo `lanes`, which a last
 * step combines. A lane's arithmetic is the same whatever the other lanes hold. */
#ifndef STRAND_CPU_DFT_H
#define STRAND_CPU_DFT_H

#include "cpu.h"

#define DFT_MOST_PASSES 24
#define DFT_IN_ROWS     1024               /* up to here lanes are rows */

/* n = lanes m, m = product of the radices. Tables lie in the caller's memory. */
typedef struct cpu_dft {
    int64_t n, lanes, m;
    int passes, radix[DFT_MOST_PASSES];
    const float *twiddle[DFT_MOST_PASSES]; /* radix - 1 complex numbers for each p < (rest of m) */
    const float *combine;                  /* m blocks: e^(2 pi i lane k/n) */
    const float *small;                    /* e^(2 pi i k/lanes) */
} cpu_dft;

/* Can n be planned: has it no prime factor above 13, and if it is long a divisor that fits the lanes? */
bool cpu_dft_smooth(int64_t n);

/* The smallest smooth size of at least n that is quick: 2^k, 3 2^k or 5 2^k. */
int64_t cpu_dft_above(int64_t n);

int64_t cpu_dft_table_floats(int64_t n);
int64_t cpu_dft_blocks(int64_t n); /* m */

/* Splits a smooth n and points into `table`; fills it when asked. */
void cpu_dft_plan(cpu_dft *f, int64_t n, float *table, bool fill);

/* re, im = e^(2 pi i k step/n) for k < count, `gap` floats apart. */
void cpu_dft_roots(float *re, float *im, int64_t gap, int64_t count, int64_t step, int64_t n);

/* Transforms m blocks of x (which is overwritten); the result is in x or other, and is returned. backward: e^(+2 pi i jk/m). */
float *cpu_dft_lanes(const cpu_dft *f, float *x, float *other, bool backward);

/* One row of n complex numbers, from in to out (which may be the same); x and other are m blocks each. For plans with lanes
 * > 1. */
void cpu_dft_row(const cpu_dft *f, const float *in, float *out, float *x, float *other, bool backward);

#endif

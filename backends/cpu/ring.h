/* ring.h - the right-angle convolution of real sequences: products modulo z^n - i.
 *
 * Modulo z^n - i the wrapped-around half of a product of two real polynomials of degree < n comes out multiplied by i, that is
 * in the imaginary part: the real part is the causal convolution itself, exactly, without zero padding to 2n. */
#ifndef STRAND_CPU_RING_H
#define STRAND_CPU_RING_H

#include "cpu.h"

#define RING_MOST_PASSES 12

/* How a size is split: n = first * radix[0] * radix[1] ... * leaf. Twiddles lie in the caller's memory. */
typedef struct cpu_ring {
    int64_t n;
    int first, passes, radix[RING_MOST_PASSES], leaf_floats;
    const float *lanes;                        /* constants of the leaves, one vector each */
    const float *twiddle[RING_MOST_PASSES + 1]; /* of the first pass, then of each pass: (radix - 1) complex numbers a block */
    const float *leaf;                         /* leaf_floats a leaf */
} cpu_ring;

#define RING_SOON 4

/* What the first pass reads: u (times gate, when there is one) for the first `length` positions, zeros to n. A filter that also
 * looks ahead has imaginary parts, n of them. Soon: rows of `length` that the next call will read or write, or NULL; they are
 * fetched between leaves. */
typedef struct cpu_ring_source {
    const float *u, *gate, *imaginary;
    int64_t length;
    const float *soon[RING_SOON];
} cpu_ring_source;

/* The smallest size that holds `length`: 2^k, 3 2^k or 5 2^k, at least 256. Depends on the length alone, and grows with it. */
int64_t cpu_ring_size(int64_t length);

/* Floats of tables for size n. */
int64_t cpu_ring_table_floats(int64_t n);

/* Splits n and points into `table`, which has cpu_ring_table_floats(n) floats; fills it when asked. */
void cpu_ring_plan(cpu_ring *f, int64_t n, float *table, bool fill);

/* spectrum (2 n floats) of a real sequence, scaled by 1/n. */
void cpu_ring_spectrum(const cpu_ring *f, const cpu_ring_source *from, float *spectrum);

/* y[t] = gate[t] * (filter * source + skip source)[t] for t < length, work being 2 n floats; gate may be NULL. */
void cpu_ring_convolve(const cpu_ring *f, const cpu_ring_source *from, const float *spectrum, float skip, float *y,
                      const float *gate, int64_t length, float *work);

#endif

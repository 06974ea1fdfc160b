/* iir.h - Butterworth filters as cascades of second-order sections, run causally piece by piece.
 */
#ifndef STRAND_APP_IIR_H
#define STRAND_APP_IIR_H

#include <stdint.h>

enum { IIR_MOST_SECTIONS = 16 };

typedef struct iir_section {
    double b0, b1, b2, a1, a2;
    double s1, s2; /* what it remembers */
} iir_section;

typedef struct iir {
    iir_section sections[IIR_MOST_SECTIONS];
    int32_t n;
} iir;

/* Adds a band-pass or band-stop filter of `order` (2 * order poles) with its edges in Hz, as scipy.signal.iirfilter designs it.
 * 0; -1 when an edge is not inside (0, rate / 2), or there are too many sections. */
int iir_add_bandpass(iir *f, int order, double low, double high, double rate);
int iir_add_bandstop(iir *f, int order, double low, double high, double rate);
/* Filters in place, going on from what came before. */
void iir_run(iir *f, double *x, int64_t n);
/* Forgets what came before. */
void iir_reset(iir *f);

#endif

/* eeg_quality.h - what can be seen of a signal's health: flat, clipped, mains hum.
 */
#ifndef STRAND_APP_EEG_QUALITY_H
#define STRAND_APP_EEG_QUALITY_H

#include "recording.h"

typedef struct eeg_quality {
    int64_t windows;     /* of two seconds, spread over the recording */
    double flat;         /* share of windows whose samples are (nearly) all equal */
    double clipped;      /* share of samples at an end of the stored range, 0 where samples lie beyond it */
    double beyond;       /* share of samples beyond the range that the header states */
    double hum50, hum60; /* power at the mains frequency over that of its neighbours, densities; NaN when the rate is too low */
    double rms;          /* median over windows of the standard deviation, in the signal's unit */
    double least, most;
    int64_t not_finite; /* samples that are NaN or infinite */
} eeg_quality;

/* Looks at no more than 600 windows. 0, or -1 with a line in `error`. */
int eeg_quality_measure(recording *r, int32_t signal, eeg_quality *q, char *error);
/* "ok", or "flat 100 %; hum 50 Hz". Returns 1 when it is not ok. */
int eeg_quality_text(const eeg_quality *q, char *text, size_t size);

#endif

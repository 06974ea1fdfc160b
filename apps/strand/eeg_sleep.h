/* eeg_sleep.h - signals as SimpleSleepNet was trained on them: filtered at their own rate, brought to 100 Hz, cut into epochs
 * of 30 s.
 */
#ifndef STRAND_APP_EEG_SLEEP_H
#define STRAND_APP_EEG_SLEEP_H

#include "eeg_source.h"
#include "iir.h"

enum { SLEEP_CHANNELS = 16, SLEEP_SAMPLES = 3000 };

/* The model's channels in its order: derivations, chin EMG, ECG, two eyes. */
extern const char *const sleep_channels[SLEEP_CHANNELS];

/* One channel of one span, going forward. */
typedef struct sleep_signal {
    iir filter;
    double rate;
    int64_t samples;  /* of the span */
    double *filtered; /* [base, base + count) of the span */
    int64_t base, count, room;
} sleep_signal;

typedef struct sleep_reader {
    eeg_source *source;
    sleep_signal signals[SLEEP_CHANNELS];
    int64_t span;
} sleep_reader;

/* 0 or an exit code, after a message. */
int sleep_open(sleep_reader *r, eeg_source *source);
void sleep_close(sleep_reader *r);
void sleep_begin(sleep_reader *r, int64_t span);
/* Whole epochs of the span that can be had now; `final`: no more of it will come. */
int64_t sleep_epochs(sleep_reader *r, int final);
/* Epoch e of the span; they are asked for in order. to [channels][samples]. 0 or -1. */
int sleep_epoch(sleep_reader *r, int64_t e, float *to);

#endif

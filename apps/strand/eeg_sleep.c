/* eeg_sleep.c - see eeg_sleep.h. The published preprocessing (dreem-learning-open): Butterworth band-pass 0.4 to 18 Hz of order
 * 2, band-stops 58 to 62 and 48 to 52 Hz of order 3 and 62 to 63 Hz of order 1, all causal; then straight lines between samples
 * to 100 Hz. A band-stop whose band a recording's rate cannot hold is left out: there is nothing to stop.
 */
#include "eeg_sleep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const sleep_channels[SLEEP_CHANNELS] = {"C3-M2",  "F4-M1",  "F3-F4",  "F3-M2",  "F4-O2",  "F3-O1",
                                                    "FP1-F3", "FP1-M2", "FP1-O1", "FP2-F4", "FP2-M1", "FP2-O2",
                                                    "EMG",    "ECG",    "EOG1",   "EOG2"};

static const double RATE = 100;

static int open_filter(sleep_signal *s) {
    static const struct {
        int order;
        double low, high;
    } stops[] = {{3, 58, 62}, {3, 48, 52}, {1, 62, 63}};
    if (iir_add_bandpass(&s->filter, 2, 0.4, 18, s->rate)) return -1;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (stops[i].high < s->rate / 2 && iir_add_bandstop(&s->filter, stops[i].order, stops[i].low, stops[i].high, s->rate))
            return -1;
    return 0;
}

int sleep_open(sleep_reader *r, eeg_source *source) {
    memset(r, 0, sizeof *r);
    r->source = source;
    for (int c = 0; c < SLEEP_CHANNELS; c++) {
        sleep_signal *s = &r->signals[c];
        const channel_source *ch = &source->map.channels[c];
        if (ch->plus < 0) continue;
        s->rate = source->rec->signals[ch->plus].rate;
        if (open_filter(s))
            return complain("%s: channel %s has %g Hz; sleep staging needs more than 36 Hz (its filter ends at 18 Hz)",
                            source->path, ch->name, s->rate),
                   EXIT_FAILED;
        s->room = (int64_t)(32 * s->rate) + 8;
        s->filtered = malloc((size_t)s->room * sizeof *s->filtered);
        if (!s->filtered) return complain("out of memory"), EXIT_FAILED;
    }
    return 0;
}

void sleep_close(sleep_reader *r) {
    for (int c = 0; c < SLEEP_CHANNELS; c++) free(r->signals[c].filtered);
}

void sleep_begin(sleep_reader *r, int64_t span) {
    r->span = span;
    for (int c = 0; c < SLEEP_CHANNELS; c++) {
        sleep_signal *s = &r->signals[c];
        if (!s->filtered) continue;
        iir_reset(&s->filter);
        s->base = s->count = 0;
    }
}

/* The last sample of an epoch lies before the one that begins the next, and that is looked at too unless there will be none. */
int64_t sleep_epochs(sleep_reader *r, int final) {
    int64_t epochs = INT64_MAX;
    for (int c = 0; c < SLEEP_CHANNELS; c++) {
        sleep_signal *s = &r->signals[c];
        if (!s->filtered) continue;
        s->samples = recording_samples(r->source->rec, r->source->map.channels[c].plus, r->span);
        const int64_t n = (int64_t)floor((double)(s->samples - !final) / s->rate / 30 + 1e-9);
        if (n < epochs) epochs = n;
    }
    return epochs == INT64_MAX || epochs < 0 ? 0 : epochs;
}

/* Makes samples up to `last` (or the end) filtered, and forgets those before `first`. */
static int advance(sleep_reader *r, int c, int64_t first, int64_t last) {
    sleep_signal *s = &r->signals[c];
    const int64_t gone = first - s->base < s->count ? first - s->base : s->count;
    if (gone > 0) {
        memmove(s->filtered, s->filtered + gone, (size_t)(s->count - gone) * sizeof *s->filtered);
        s->base += gone;
        s->count -= gone;
    }
    const int64_t at = s->base + s->count, until = last + 1 < s->samples ? last + 1 : s->samples;
    if (until <= at) return 0;
    if (eeg_source_read_native(r->source, c, r->span, at, until - at, s->filtered + s->count)) return -1;
    iir_run(&s->filter, s->filtered + s->count, until - at);
    s->count += until - at;
    return 0;
}

int sleep_epoch(sleep_reader *r, int64_t e, float *to) {
    memset(to, 0, SLEEP_CHANNELS * SLEEP_SAMPLES * sizeof *to);
    for (int c = 0; c < SLEEP_CHANNELS; c++) {
        sleep_signal *s = &r->signals[c];
        if (!s->filtered) continue;
        const double step = s->rate / RATE;
        const int64_t first = (int64_t)floor((double)(e * SLEEP_SAMPLES) * step);
        if (advance(r, c, first > 0 ? first - 1 : 0,
                    (int64_t)floor((double)(e * SLEEP_SAMPLES + SLEEP_SAMPLES - 1) * step) + 1))
            return -1;
        for (int64_t m = 0; m < SLEEP_SAMPLES; m++) {
            const double at = (double)(e * SLEEP_SAMPLES + m) * step;
            int64_t i = (int64_t)floor(at);
            if (i > s->samples - 2) i = s->samples - 2;
            const double *x = s->filtered + (i - s->base);
            to[c * SLEEP_SAMPLES + m] = (float)(x[0] + (x[1] - x[0]) * (at - (double)i));
        }
    }
    return 0;
}

/* eeg_source.h - a recording as a model wants it: chosen channels in microvolts at one rate, read in windows.
 *
 * Without resampling, and with the polyphase method, a window is read straight from the file, so memory does not depend on the
 * length. The Fourier method needs whole signals: when the source is opened each channel of each span is resampled, one at a
 * time, into a temporary file without a name, from which windows are read afterwards. What a window holds never depends on how
 * the recording is cut into windows.
 */
#ifndef STRAND_APP_EEG_SOURCE_H
#define STRAND_APP_EEG_SOURCE_H

#include "runtime.h"
#include "electrodes.h"
#include "recording.h"
#include "resample.h"

typedef struct eeg_source {
    const options *settings;
    const char *path;
    recording *rec;
    channel_map map;
    double rate;        /* Hz of what is read; 0: each channel at its own rate (info) */
    int32_t average;    /* the mean of all channels is taken off each */
    polyphase *filters; /* one a channel: up 0 where the file has the rate already */
    int32_t fourier;    /* any channel goes through the temporary file */
    int spool;          /* its descriptor, or -1 */
    int64_t *spool_at;  /* [span + 1]: first sample of the span in the spool, all channels of a span together */
    int64_t *samples;   /* [span]: samples at `rate` */
    double *scratch, *scratch_minus;
    int64_t scratch_room;
} eeg_source;

/* Opens FILE, or with --follow '-': frames from the standard input, of which the newest `seconds` are kept. 0 or an exit code,
 * after a message. */
int eeg_source_open(eeg_source *s, const options *settings, const char *path, int64_t seconds);
/* Finds the channels (NULL: all signals) and gets ready to read them at `rate`. `montage` 0: --montage may only be as-is. */
int eeg_source_prepare(eeg_source *s, const char *const *wanted, int32_t n, double rate);
/* The recording has grown (--follow): takes the new samples in. 1: it has; 0: not; -1 after a message. */
int eeg_source_refresh(eeg_source *s);
void eeg_source_close(eeg_source *s);
/* Samples at the rate in a span that can be read now; `final`: no more will come, so that zeros may stand behind the end. */
int64_t eeg_source_samples(const eeg_source *s, int64_t span, int final);
/* Samples from .. from + n of all channels of a span: to[channel][n], in microvolts. 0, or -1 after a message. */
int eeg_source_read(eeg_source *s, int64_t span, int64_t from, int64_t n, double *to);
/* One channel alone, never averaged. */
int eeg_source_read_channel(eeg_source *s, int32_t channel, int64_t span, int64_t from, int64_t n, double *to);
/* The same at the signal's own rate, whatever the source was prepared for. */
int eeg_source_read_native(eeg_source *s, int32_t channel, int64_t span, int64_t from, int64_t n, double *to);
/* The file's name without its folder: the only name that outputs show. */
const char *eeg_source_name(const eeg_source *s);
/* One line a channel on stderr: what stands for what. Silent when all is as named, and after -q. */
void eeg_source_say_map(const eeg_source *s);

#endif

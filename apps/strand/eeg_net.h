/* eeg_net.h - a recording through a graph model: seconds of samples become log amplitudes, windows of them become results.
 *
 * A second of a channel at `rate` Hz is `bins` values ln|X_k|, k = 0 .. bins - 1, of its discrete Fourier transform, as the
 * published pipeline of DCRNN has them; the model gets them standardised by its own mean and deviation.
 */
#ifndef STRAND_APP_EEG_NET_H
#define STRAND_APP_EEG_NET_H

#include "eeg_source.h"
#include "fft.h"

/* The seconds of a source as log amplitudes, the newest ones kept. */
typedef struct eeg_seconds {
    eeg_source *source;
    int64_t bins, width, room; /* width: samples a second */
    int64_t *spans, *seconds;  /* which one each place holds */
    double *values;            /* [room][channels][bins] */
    double *samples;
    fft *f;
    fft_complex *work;
} eeg_seconds;

int eeg_seconds_open(eeg_seconds *s, eeg_source *source, int64_t bins, int64_t room);
void eeg_seconds_close(eeg_seconds *s);
/* Whole seconds of a span that can be had now. */
int64_t eeg_seconds_count(const eeg_seconds *s, int64_t span, int final);
/* [channels][bins] of one second, good until `room` others were asked for. NULL after a message. */
const double *eeg_second(eeg_seconds *s, int64_t span, int64_t second);

typedef struct eeg_net {
    runtime rt;
    int64_t nodes, bins, steps, horizon, layers,
        hidden;      /* steps: seconds of a window; horizon: seconds predicted, 0 for classifiers */
    int64_t classes; /* of a classifier, else 0 */
    int64_t samples; /* of a window, for models that take signals (GraphS4mer: "x" [batch, channels, samples]); else 0 */
    double *means, *deviations; /* [nodes], that such a model's signals are standardised by */
    double *window;             /* [nodes][samples] */
    double rate;                /* Hz */
    double mean, std;
    int64_t batch;
    strand_plan *plan;
    strand_session *session;
    float *features; /* [batch][steps][nodes][bins] */
    int64_t *lengths;
    int32_t wants_lengths;
    int64_t filled;   /* windows in `features` */
    int32_t stepwise; /* goes second by second: `batch` windows are open at once */
} eeg_net;

/* Opens the model (--model) and checks that it is one for log amplitudes, or where `signals` one for signals. 0 or an exit
 * code, after a message. */
int eeg_net_open(eeg_net *net, const options *settings, int signals);
/* For a model that takes signals: means and deviations by --statistics, else those of the whole recording. */
int eeg_net_statistics(eeg_net *net, eeg_source *source);
/* Gets ready for windows of --clip seconds, up to `batch` at once, with these outputs. */
int eeg_net_prepare(eeg_net *net, int64_t batch, const char *outputs);
/* Gets ready for windows of --clip seconds that begin every `step` seconds of a recording that is coming in: by steps of a
 * second where the model's state allows it (`stepwise`: eeg_net_step), else window by window, one at a time. */
int eeg_net_prepare_steps(eeg_net *net, int64_t step, const char *outputs);
void eeg_net_close(eeg_net *net);
/* Puts the window that begins at a second in; at most `batch` of them. 0 or -1. */
int eeg_net_add(eeg_net *net, eeg_seconds *seconds, int64_t span, int64_t second);
/* Runs what was added. outputs[i].name is set, the rest is filled in (session's memory). 0 or -1. */
int eeg_net_run(eeg_net *net, strand_tensor *outputs, int32_t n);
/* Carries the open windows on by a second of the span; they are asked for in order. The window that began `steps` - 1
 * seconds ago, the i-th of the span, is complete then: row i mod `batch` of the outputs. */
int eeg_net_step(eeg_net *net, eeg_seconds *seconds, int64_t span, int64_t second, int64_t step, strand_tensor *outputs,
                 int32_t n);

#endif

/* eeg_windows.h - the walk over a recording that predict, detect, embed and features share: window after window of every span,
 * in order, in batches; and with --follow again and again as the recording grows.
 */
#ifndef STRAND_APP_EEG_WINDOWS_H
#define STRAND_APP_EEG_WINDOWS_H

#include "eeg_net.h"
#include "output.h"

enum { EEG_MOST_BATCH = 8 };

typedef struct eeg_walk {
    eeg_source *source;
    eeg_seconds seconds;
    eeg_net *net;       /* NULL: no model, `take` gets the window's place alone */
    int64_t need, step; /* seconds that a window needs, and between two */
    strand_tensor outputs[4];
    int32_t n_outputs;
    /* A window is done; `row` is its place in the outputs' first axis. 0, or -1 after a message. */
    int (*take)(void *user, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row);
    /* No window of this span will come any more. May be NULL. */
    int (*span_done)(void *user, int64_t span);
    /* After what has come so far was handed on (--follow). May be NULL. */
    int (*idle)(void *user);
    void *user;
    int64_t windows;    /* how many there were */
    int64_t span, next; /* where the walk stands */
    int64_t second;     /* of the span that a stepwise model takes next */
} eeg_walk;

/* Opens FILE (or '-' with --follow), finds the channels, opens the seconds. 0 or an exit code, after a message. `seconds`: that
 * a stream must keep. */
int eeg_walk_open(eeg_walk *w, eeg_source *source, const options *settings, const char *path, const char *const *channels,
                  int32_t n, double rate, int64_t bins, int64_t seconds);
int eeg_walk_run(eeg_walk *w);
void eeg_walk_close(eeg_walk *w);

/* What --follow does: calls `all` whenever there may be news, and for the last time with `final`; `idle` (may be NULL) after
 * what has come was handed on. 0 or -1. */
int eeg_follow(eeg_source *source, int (*all)(void *user, int final), int (*idle)(void *user), void *user);

/* Windows that run together: --batch, bounded. */
int64_t eeg_batch(const options *settings);
/* '#' lines: version, model, recording (its name only), settings. */
int eeg_write_header(output *out, const runtime *rt, const eeg_source *source);

#endif

/* batch.h - runs many sequences of any lengths through the model: equal lengths together, never padded.
 *
 * Sessions are opened when a length first needs them, one for each class of lengths (256, 1024, 4096 ... bases), so that a
 * file of short records never pays for the longest sequence the model allows. Under --memory one session is open at a time.
 * The library promises the same bytes whatever the plan and the neighbours, so none of this shows in a result.
 */
#ifndef STRAND_APP_BATCH_H
#define STRAND_APP_BATCH_H

#include "runtime.h"

typedef struct batch_item {
    const uint8_t *ids;
    int64_t length;
    const char *label; /* for messages: the record */
    void *owner;       /* the rest is the reducer's: whose it is, */
    int64_t from;      /* where it begins there, */
    int64_t keep;      /* and the first position there that is its own (windows.h) */
} batch_item;

/* Takes one item's part of the output: [length, width], or [width] for an output without a length axis. */
typedef void (*batch_reduce)(void *user, const batch_item *item, const float *values, int64_t width);

typedef struct batch_runner batch_runner;

/* `output` must be one of the model's. NULL on failure, after a message. */
batch_runner *batch_open(runtime *rt, const char *output);
/* Plans for `length` now, so that errors come early and the output header can name the backend. 0 or -1, after a message. */
int batch_prepare(batch_runner *runner, int64_t length);
/* Runs all items; the reducer sees them sorted by length, equal lengths in their order. 0 or -1, after a message (none when the
 * user interrupted). */
int batch_run(batch_runner *runner, const batch_item *items, int64_t n, batch_reduce reduce, void *user);
void batch_close(batch_runner *runner);

#endif

/* runs.h - what the model tests share: a model, a plan and a session opened together, and one run of them. */
#ifndef STRAND_TEST_RUNS_H
#define STRAND_TEST_RUNS_H

#include "support.h"

/* How to run a checkpoint. Zeroed: the CPU, one thread, no limit, exactly the extents of the input. */
typedef struct run_how {
    const char *backends;
    uint64_t limit;
    int64_t max_batch, max_length; /* 0: those of the input */
    int no_tiling;
    const char *outputs; /* names, or NULL: the default ones */
    const char *settings[2];
    int n_settings;
} run_how;

typedef struct opened {
    strand_context *context;
    strand_model *model;
    strand_plan *plan;
    strand_session *session;
    strand_plan_info info;
} opened;

/* Opens all of it for runs up to [batch, length]; fails the test when something does not open. */
opened open_all(strand_context *c, const char *path, const run_how *how, int64_t batch, int64_t length);
void close_all(opened *o);
/* A result in memory of its own: free() it. dims go to *out. */
float *run_output(opened *o, const int64_t *ids, int64_t batch, int64_t length, const char *name, strand_tensor *out);
/* Opens, runs one output, closes. */
float *run_once(strand_context *c, const char *path, const run_how *how, const int64_t *ids, int64_t batch, int64_t length,
                const char *name, strand_tensor *out);
/* The plan's block_bytes without a limit. */
uint64_t unlimited_bytes(strand_context *c, const char *path, const run_how *how, int64_t batch, int64_t length);
/* Random bases. */
void random_bases(randoms *r, int64_t *ids, size_t n);

#endif

/* context.h - what everything opened on one context shares. */
#ifndef STRAND_CORE_CONTEXT_H
#define STRAND_CORE_CONTEXT_H

#include <pthread.h>

#include "registry.h"
#include "threads.h"

struct strand_context {
    strand_allocator allocator;
    strand_log_fn log;
    void *log_user;
    strand_parallel parallel; /* the embedder's, when run is set */
    thread_pool *pool;
    strand_host host;
    registry registry;
    error error; /* the last failure */
    pthread_mutex_t fail_lock;
    char fail_text[256]; /* what a plugin said with host->fail */
};

/* Keeps a failure for strand_error and returns its status. */
strand_status context_fail(strand_context *c, const error *e);
/* Takes what a plugin left with host->fail: copies it to `text` and clears it. */
void context_take_fail(strand_context *c, char *text, size_t bytes);
void context_log(const strand_context *c, strand_log_level level, const char *text);

#endif

/* threads.h - one pool of threads a context: a parallel loop and nothing more.
 *
 * Bodies take indices from a shared counter, so which worker runs which index is left to chance; results must not depend on it
 * (rule 6 of strand_plugin.h). A loop that is started while the pool is busy with another session's runs on its own thread. */
#ifndef STRAND_CORE_THREADS_H
#define STRAND_CORE_THREADS_H

#include "strand.h"

typedef struct thread_pool thread_pool;
typedef void (*thread_body)(void *arg, int64_t i, int32_t worker);

/* Processors that this process may use: the smaller of its affinity and its cgroup's quota, at least 1. */
int32_t threads_available(void);
/* The smallest processor quota of the groups that the file `self` (as /proc/self/cgroup) names below `root`, and of all
 * groups above them, rounded up; 0: none. */
int32_t threads_quota(const char *root, const char *self);
/* Starts workers - 1 threads (the caller is the remaining one). NULL when memory or threads are exhausted. */
thread_pool *thread_pool_open(const strand_allocator *allocator, int32_t workers);
void thread_pool_close(thread_pool *pool);
void thread_pool_run(thread_pool *pool, int64_t n, thread_body body, void *arg);
int32_t thread_pool_workers(const thread_pool *pool);

#endif

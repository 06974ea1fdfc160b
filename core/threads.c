/* threads.c - the pool. Sleeping workers wait on a condition; a loop raises the generation and wakes them. The caller works too
 * and leaves when every worker that joined has left. Allocates only in open. */
#define _GNU_SOURCE
#include "threads.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

typedef struct worker {
    thread_pool *pool;
    pthread_t thread;
    int32_t index;
} worker;

struct thread_pool {
    strand_allocator allocator;
    size_t bytes;
    int32_t workers, started;
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    uint64_t generation;
    int32_t inside; /* workers that have joined the current loop and not left */
    bool stop, busy;
    thread_body body;
    void *arg;
    int64_t n;
    _Atomic int64_t next;
    worker threads[];
};

/* The text of a small file, or false. */
static bool read_text(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, room - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* quota / period as processors, rounded up; 0 for no quota. */
static int32_t processors(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus > 1024 ? 1024 : (int32_t)cpus;
}

/* The quota of one group: cpu.max of version 2 ("max 100000", "150000 100000"), or the two files of version 1. */
static int32_t folder_quota(const char *folder) {
    char path[1024], text[64], *end;
    long long quota, period;
    if (snprintf(path, sizeof path, "%s/cpu.max", folder) >= (int)sizeof path) return 0;
    if (read_text(path, text, sizeof text)) {
        quota = strtoll(text, &end, 10);
        return end == text ? 0 : processors(quota, strtoll(end, NULL, 10));
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_text(path, text, sizeof text)) return 0;
    quota = strtoll(text, NULL, 10);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    period = read_text(path, text, sizeof text) ? strtoll(text, NULL, 10) : 0;
    return processors(quota, period);
}

static int32_t smaller_quota(int32_t a, int32_t b) {
    return !a || (b && b < a) ? b : a;
}

/* The smallest quota of the group at root/path and of the groups above it. */
static int32_t quota_upwards(const char *root, const char *path) {
    char folder[900];
    int32_t least = 0;
    int n = snprintf(folder, sizeof folder, "%s%s", root, path);
    if (n < 0 || n >= (int)sizeof folder) return 0;
    for (size_t floor = strlen(root);;) {
        least = smaller_quota(least, folder_quota(folder));
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= floor || !slash) return least;
        *slash = 0;
    }
}

/* A line of /proc/self/cgroup is "0::/path" (version 2) or "4:cpu,cpuacct:/path". In a container that shows its own group as
 * the root, the path may name folders that are not there: those have no quota files and are passed over. */
int32_t threads_quota(const char *root, const char *self) {
    char text[4096];
    int32_t least = folder_quota(root);
    if (!read_text(self, text, sizeof text)) return least;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL, base[900];
        if (!path) continue;
        *controllers++ = 0;
        *path++ = 0;
        if (!*controllers) least = smaller_quota(least, quota_upwards(root, path));
        if (strcmp(controllers, "cpu") && strncmp(controllers, "cpu,", 4) && !strstr(controllers, ",cpu")) continue;
        if (snprintf(base, sizeof base, "%s/%s", root, controllers) < (int)sizeof base)
            least = smaller_quota(least, quota_upwards(base, path));
        if (snprintf(base, sizeof base, "%s/cpu", root) < (int)sizeof base)
            least = smaller_quota(least, quota_upwards(base, path));
    }
    return least;
}

int32_t threads_available(void) {
    int32_t n = 0;
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    if (!sched_getaffinity(0, sizeof set, &set)) n = CPU_COUNT(&set);
#endif
    if (n < 1) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        n = online > 0 && online < 4096 ? (int32_t)online : 1;
    }
    int32_t quota = threads_quota("/sys/fs/cgroup", "/proc/self/cgroup");
    return quota > 0 && quota < n ? quota : n;
}

static void take_indices(thread_pool *pool, int32_t index) {
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= pool->n) return;
        pool->body(pool->arg, i, index);
    }
}

static void *worker_main(void *p) {
    worker *w = p;
    thread_pool *pool = w->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->stop && (!pool->busy || pool->generation == seen)) pthread_cond_wait(&pool->work, &pool->lock);
        if (pool->stop) break;
        seen = pool->generation;
        pool->inside++;
        pthread_mutex_unlock(&pool->lock);
        take_indices(pool, w->index);
        pthread_mutex_lock(&pool->lock);
        if (--pool->inside == 0) pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

thread_pool *thread_pool_open(const strand_allocator *allocator, int32_t workers) {
    if (workers < 1) workers = 1;
    if (workers > 1024) workers = 1024;
    size_t bytes = sizeof(thread_pool) + (size_t)workers * sizeof(worker);
    thread_pool *pool = allocator->alloc(allocator->user, bytes, _Alignof(thread_pool));
    if (!pool) return NULL;
    memset(pool, 0, bytes);
    pool->allocator = *allocator;
    pool->bytes = bytes;
    pool->workers = workers;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->idle, NULL);
    for (int32_t i = 1; i < workers; i++) {
        pool->threads[i] = (worker){.pool = pool, .index = i};
        if (pthread_create(&pool->threads[i].thread, NULL, worker_main, &pool->threads[i])) {
            thread_pool_close(pool);
            return NULL;
        }
        pool->started = i;
    }
    return pool;
}

void thread_pool_close(thread_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int32_t i = 1; i <= pool->started; i++) pthread_join(pool->threads[i].thread, NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    strand_allocator allocator = pool->allocator;
    allocator.free(allocator.user, pool, pool->bytes);
}

void thread_pool_run(thread_pool *pool, int64_t n, thread_body body, void *arg) {
    bool alone = pool->workers == 1 || n < 2;
    if (!alone) {
        pthread_mutex_lock(&pool->lock);
        alone = pool->busy;
        if (!alone) {
            pool->busy = true;
            pool->generation++;
            pool->body = body;
            pool->arg = arg;
            pool->n = n;
            atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
            pthread_cond_broadcast(&pool->work);
        }
        pthread_mutex_unlock(&pool->lock);
    }
    if (alone) {
        for (int64_t i = 0; i < n; i++) body(arg, i, 0);
        return;
    }
    take_indices(pool, 0);
    pthread_mutex_lock(&pool->lock);
    /* A worker that wakes late finds busy false and sleeps on: only those that joined are waited for. */
    while (pool->inside > 0) pthread_cond_wait(&pool->idle, &pool->lock);
    pool->busy = false;
    pthread_mutex_unlock(&pool->lock);
}

int32_t thread_pool_workers(const thread_pool *pool) {
    return pool->workers;
}

/* ops_host.c - the host's side of the plugin ABI, for tests and benchmarks. */
#include "ops_host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_THREADS 16

uint64_t ops_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void *host_alloc(void *context, uint64_t bytes, uint64_t align) {
    ops_host *h = context;
    if (align < sizeof(void *)) align = sizeof(void *);
    void *block = aligned_alloc(align, (bytes + align - 1) / align * align);
    if (block) h->blocks++;
    return block;
}

static void host_free(void *context, void *block, uint64_t bytes) {
    ops_host *h = context;
    (void)bytes;
    if (block) h->blocks--;
    free(block);
}

static int32_t host_workers(void *context) {
    return ((ops_host *)context)->workers;
}

static void host_log(void *context, int32_t level, const char *text) {
    ops_host *h = context;
    if (level == 3 && strstr(text, "COOPERATIVE")) h->matrices = true;
    if (level <= 1 && !h->messages++) snprintf(h->message, sizeof h->message, "%s", text); /* 0 error, 1 warning */
}

static void host_fail(void *context, const char *text) {
    ops_host *h = context;
    snprintf(h->failure, sizeof h->failure, "%s", text);
}

/* ---- parallel-for ---- */

typedef struct shared_loop {
    pthread_mutex_t lock;
    int64_t next, n;
    const int64_t *order;
    void (*body)(void *arg, int64_t i, int32_t worker);
    void *arg;
} shared_loop;

typedef struct loop_thread {
    shared_loop *loop;
    int32_t worker;
} loop_thread;

static void *loop_main(void *arg) {
    loop_thread *t = arg;
    for (;;) {
        pthread_mutex_lock(&t->loop->lock);
        int64_t i = t->loop->next < t->loop->n ? t->loop->next++ : -1;
        pthread_mutex_unlock(&t->loop->lock);
        if (i < 0) return NULL;
        t->loop->body(t->loop->arg, t->loop->order ? t->loop->order[i] : i, t->worker);
    }
}

static int64_t *shuffled(ops_host *h, int64_t n) {
    int64_t *order = malloc((size_t)n * sizeof *order);
    for (int64_t i = 0; order && i < n; i++) order[i] = i;
    for (int64_t i = n - 1; order && i > 0; i--) {
        int64_t k = (int64_t)(ops_random(&h->random) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
    return order;
}

static void host_parallel_for(void *context, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg) {
    ops_host *h = context;
    if (n < 1) return;
    if (h->workers < 2) {
        for (int64_t i = 0; i < n; i++) body(arg, i, 0);
        return;
    }
    shared_loop loop = {.lock = PTHREAD_MUTEX_INITIALIZER, .n = n, .body = body, .arg = arg};
    int64_t *order = h->shuffle ? shuffled(h, n) : NULL;
    loop.order = order;
    pthread_t threads[MOST_THREADS];
    loop_thread mine[MOST_THREADS];
    int started = 0, want = h->workers < MOST_THREADS ? h->workers : MOST_THREADS;
    for (int i = 0; i < want; i++) {
        mine[i] = (loop_thread){&loop, i};
        if (i == want - 1)
            loop_main(&mine[i]);
        else if (!pthread_create(&threads[started], NULL, loop_main, &mine[i]))
            started++;
    }
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    free(order);
}

/* ---- loading ---- */

static void host_init(ops_host *h) {
    h->workers = 1;
    h->table = (strand_host){.size = sizeof h->table,
                             .abi_major = STRAND_PLUGIN_ABI_MAJOR,
                             .abi_minor = STRAND_PLUGIN_ABI_MINOR,
                             .context = h,
                             .alloc = host_alloc,
                             .free = host_free,
                             .parallel_for = host_parallel_for,
                             .workers = host_workers,
                             .log = host_log,
                             .fail = host_fail};
}

static int no(char *why, size_t why_bytes, int code, const char *text, const char *more) {
    snprintf(why, why_bytes, "%s%s%s", text, more ? ": " : "", more ? more : "");
    return code;
}

static bool matches(const strand_plugin *t) {
    return t->magic == STRAND_PLUGIN_MAGIC && t->abi_major == STRAND_PLUGIN_ABI_MAJOR &&
           t->layout_hash == strand_plugin_layout_hash() && t->score && t->api;
}

int ops_open(ops_plugin *p, const char *path, char *why, size_t why_bytes) {
    return ops_open_masked(p, path, 0, why, why_bytes);
}

int ops_open_masked(ops_plugin *p, const char *path, uint32_t cpu_mask, char *why, size_t why_bytes) {
    memset(p, 0, sizeof *p);
    host_init(&p->host);
    p->host.table.cpu_mask = cpu_mask;
    snprintf(p->path, sizeof p->path, "%s", path);
    p->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!p->library) return no(why, why_bytes, 1, "cannot be loaded", dlerror());
    strand_plugin_entry_fn entry;
    void *symbol = dlsym(p->library, "strand_plugin_entry");
    if (!symbol) return no(why, why_bytes, 1, "has no strand_plugin_entry", NULL);
    memcpy(&entry, &symbol, sizeof entry);
    p->table.capacity = sizeof p->table;
    if (entry(&p->host.table, &p->table)) return no(why, why_bytes, 1, "its entry failed", NULL);
    if (!matches(&p->table)) return no(why, why_bytes, 1, "is built for another ABI", NULL);
    char reason[200] = "";
    if (p->table.score(&p->host.table, reason, sizeof reason) <= 0) return no(why, why_bytes, 77, "cannot run here", reason);
    p->api = p->table.api;
    p->info.size = sizeof p->info;
    if (p->api->open(&p->host.table, &p->instance)) return no(why, why_bytes, 1, "cannot be opened", p->host.failure);
    if (!p->api->device_count(p->instance)) return no(why, why_bytes, 77, "has no device", p->host.failure);
    if (p->api->device_info(p->instance, 0, &p->info) || p->api->device_open(p->instance, 0, &p->device)) {
        return no(why, why_bytes, 1, "its device cannot be opened", p->host.failure);
    }
    return 0;
}

int64_t ops_close(ops_plugin *p) {
    if (p->device) p->api->device_close(p->device);
    if (p->instance) p->api->close(p->instance);
    if (p->library) dlclose(p->library);
    return p->host.blocks;
}

bool ops_host_memory(const ops_plugin *p) {
    return p->info.flags & STRAND_DEVICE_HOST_MEMORY;
}

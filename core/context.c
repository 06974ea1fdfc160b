/* context.c - opens and closes the library, and is the host that plugins see: allocator, threads, log and error text. */
#include "context.h"

#include <stdio.h>
#include <string.h>

const char *strand_version(void) {
    return STRAND_VERSION_STRING;
}

const char *strand_status_name(strand_status status) {
    static const char *const names[] = {"ok",          "argument", "memory",  "io",        "format",
                                        "unsupported", "limit",    "backend", "cancelled", "numeric"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "unknown";
}

static void *host_alloc(void *context, uint64_t bytes, uint64_t align) {
    strand_context *c = context;
    if (bytes > SIZE_MAX || align > 4096) return NULL;
    return c->allocator.alloc(c->allocator.user, (size_t)bytes, (size_t)align);
}

static void host_free(void *context, void *block, uint64_t bytes) {
    strand_context *c = context;
    if (block) c->allocator.free(c->allocator.user, block, (size_t)bytes);
}

static void host_parallel_for(void *context, int64_t n, thread_body body, void *arg) {
    strand_context *c = context;
    if (c->parallel.run)
        c->parallel.run(c->parallel.user, n, body, arg);
    else
        thread_pool_run(c->pool, n, body, arg);
}

static int32_t host_workers(void *context) {
    strand_context *c = context;
    if (!c->parallel.run) return thread_pool_workers(c->pool);
    return c->parallel.workers > 0 ? c->parallel.workers : 1;
}

void context_log(const strand_context *c, strand_log_level level, const char *text) {
    if (c->log) c->log(c->log_user, level, text);
}

static void host_log(void *context, int32_t level, const char *text) {
    context_log(context, (strand_log_level)level, text);
}

static void host_fail(void *context, const char *text) {
    strand_context *c = context;
    pthread_mutex_lock(&c->fail_lock);
    snprintf(c->fail_text, sizeof c->fail_text, "%s", text);
    pthread_mutex_unlock(&c->fail_lock);
}

void context_take_fail(strand_context *c, char *text, size_t bytes) {
    pthread_mutex_lock(&c->fail_lock);
    snprintf(text, bytes, "%s", c->fail_text);
    c->fail_text[0] = 0;
    pthread_mutex_unlock(&c->fail_lock);
}

strand_status context_fail(strand_context *c, const error *e) {
    c->error = *e;
    return e->status;
}

void strand_context_params_init(strand_context_params *params) {
    if (params) *params = (strand_context_params){.size = sizeof *params};
}

/* The caller's struct may be older and shorter than ours: what it does not have is the default. */
static bool take_params(strand_context_params *p, const strand_context_params *given) {
    strand_context_params_init(p);
    if (!given) return true;
    if (given->size < offsetof(strand_context_params, allocator)) return false;
    memcpy(p, given, given->size < sizeof *p ? given->size : sizeof *p);
    return p->threads >= 0 && (!p->allocator || (p->allocator->alloc && p->allocator->free));
}

strand_status strand_context_open(const strand_context_params *given, strand_context **out) {
    strand_context_params p;
    if (!out || !take_params(&p, given)) return STRAND_ERR_ARGUMENT;
    const strand_allocator *allocator = p.allocator ? p.allocator : allocator_default();
    strand_context *c = allocator->alloc(allocator->user, sizeof *c, _Alignof(strand_context));
    if (!c) return STRAND_ERR_MEMORY;
    memset(c, 0, sizeof *c);
    c->allocator = *allocator;
    c->log = p.log;
    c->log_user = p.log_user;
    if (p.parallel) c->parallel = *p.parallel;
    pthread_mutex_init(&c->fail_lock, NULL);
    c->host = (strand_host){sizeof c->host, STRAND_PLUGIN_ABI_MAJOR, STRAND_PLUGIN_ABI_MINOR, p.cpu_mask, c, host_alloc,
                            host_free, host_parallel_for, host_workers, host_log, host_fail};
    error e = {0};
    if (!c->parallel.run) c->pool = thread_pool_open(&c->allocator, p.threads ? p.threads : threads_available());
    if (!c->parallel.run && !c->pool) e.status = STRAND_ERR_MEMORY;
    if (!e.status) registry_open(&c->registry, &c->allocator, &c->host, p.plugin_path, p.no_plugins != 0, &e);
    if (e.status) {
        if (e.text[0]) context_log(c, STRAND_LOG_ERROR, e.text);
        strand_context_close(c);
        return e.status;
    }
    *out = c;
    return STRAND_OK;
}

void strand_context_close(strand_context *c) {
    if (!c) return;
    registry_close(&c->registry);
    thread_pool_close(c->pool);
    pthread_mutex_destroy(&c->fail_lock);
    strand_allocator allocator = c->allocator;
    allocator.free(allocator.user, c, sizeof *c);
}

const char *strand_error(const strand_context *c) {
    return c ? c->error.text : "no context: its opening failed; give a log callback to learn why";
}

/* Listing is what starts the plugins that wait to be named; a context is never a constant object. */
static void wake_all(const strand_context *c) {
    union {
        const registry *read;
        registry *any;
    } r = {&c->registry};
    registry_wake(r.any, NULL, 0);
}

int32_t strand_backend_count(const strand_context *c) {
    if (c) wake_all(c);
    return c ? c->registry.n_devices : 0;
}

strand_status strand_backend_get(const strand_context *c, int32_t index, strand_backend_info *info) {
    if (c) wake_all(c);
    if (!c || !info || index < 0 || index >= c->registry.n_devices) return STRAND_ERR_ARGUMENT;
    const registry_device *d = &c->registry.devices[index];
    *info = (strand_backend_info){d->name, d->plugin->file, d->plugin->table.version, d->info.description, d->info.memory,
                                  (d->info.flags & STRAND_DEVICE_HOST_MEMORY) != 0, d->plugin->score};
    return STRAND_OK;
}

strand_status strand_backend_feature(const strand_context *c, int32_t index, int32_t feature, const char **name,
                                     const char **value) {
    if (c) wake_all(c);
    if (!c || !name || !value || index < 0 || index >= c->registry.n_devices) return STRAND_ERR_ARGUMENT;
    const registry_device *d = &c->registry.devices[index];
    if (feature < 0 || feature >= d->n_features) return STRAND_ERR_ARGUMENT;
    *name = d->features[feature].name;
    *value = d->features[feature].value;
    return STRAND_OK;
}

int32_t strand_refused_count(const strand_context *c) {
    if (c) wake_all(c);
    return c ? c->registry.n_refusals : 0;
}

strand_status strand_refused_get(const strand_context *c, int32_t index, const char **file, const char **why) {
    if (!c || !file || !why || index < 0 || index >= c->registry.n_refusals) return STRAND_ERR_ARGUMENT;
    *file = c->registry.refusals[index].file;
    *why = c->registry.refusals[index].why;
    return STRAND_OK;
}

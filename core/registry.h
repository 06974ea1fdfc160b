/* registry.h - finds plugins, checks them before it calls them, and keeps the devices that they offer.
 *
 * Order of the search: the application's plugin_path, then STRAND_BACKEND_PATH (ignored when the process has more rights than
 * its user), then the folder of the library (and its strand/ and backends/<any>/ sub-folders), then the compiled-in folder.
 * Never the working directory; only files named strand-*.so. */
#ifndef STRAND_CORE_REGISTRY_H
#define STRAND_CORE_REGISTRY_H

#include <pthread.h>

#include "arena.h"
#include "error.h"
#include "strand_plugin.h"

typedef struct registry_plugin {
    const char *file; /* path, or "built-in" */
    void *handle;     /* of dlopen; NULL when linked in */
    strand_plugin table;
    strand_plugin_instance *instance;
    int32_t score;
    bool started;
} registry_plugin;

/* "timeline semaphores" = "yes": what a plugin says of its device. */
typedef struct registry_feature {
    const char *name, *value;
} registry_feature;

typedef struct registry_device {
    const char *name; /* "cpu", "vulkan:0" */
    registry_plugin *plugin;
    strand_plugin_device *device;
    strand_plugin_device_info info;
    uint32_t api_size; /* smaller of the plugin's table and ours */
    registry_feature *features;
    int32_t n_features;
} registry_device;

typedef struct registry_refusal {
    const char *file, *why;
} registry_refusal;

#define REGISTRY_MAX_PLUGINS 32
#define REGISTRY_MAX_DEVICES 64
#define REGISTRY_MAX_REFUSALS 64

/* A file that was looked at, whatever came of it: one found again by another path is passed over. */
typedef struct registry_seen {
    uint64_t device, inode;
} registry_seen;

typedef struct registry {
    const strand_host *host;
    arena arena;
    registry_plugin plugins[REGISTRY_MAX_PLUGINS];
    registry_device devices[REGISTRY_MAX_DEVICES];
    registry_refusal refusals[REGISTRY_MAX_REFUSALS];
    registry_seen seen[REGISTRY_MAX_PLUGINS + REGISTRY_MAX_REFUSALS];
    int32_t n_plugins, n_devices, n_refusals, n_seen;
    bool exhausted; /* memory ran out while looking */
    pthread_mutex_t lock; /* of starting plugins late */
} registry;

/* Plugins of this score are started when they are named, or when all devices are listed. */
#define REGISTRY_LATE_SCORE 1

/* Loads what it finds. Refused plugins are not an error; being out of memory is. */
strand_status registry_open(registry *r, const strand_allocator *allocator, const strand_host *host, const char *plugin_path,
                            bool no_plugins, error *e);
void registry_close(registry *r);
/* Checks a filled table against what this host knows; returns false with one line in `why`. Exposed for tests. */
bool registry_check(const strand_plugin *table, char *why, size_t why_bytes);
/* Starts the plugins that wait to be named: those called `name` (up to ':' or its end), or all with NULL. */
void registry_wake(registry *r, const char *name, size_t length);
/* The device of that name, or NULL; starts a plugin of that name if it waits. "vulkan" finds "vulkan:0", "vulkan:radeon" the
 * first whose description mentions that. */
registry_device *registry_find(registry *r, const char *name, size_t length);
/* Why a plugin in a file of that name (strand-NAME.so) was refused, or NULL when none was. */
const char *registry_refused(const registry *r, const char *name, size_t length);
/* Does the plugin list this version of the operator? */
bool registry_knows(const registry_device *d, uint32_t op, uint32_t version);

/* Is a slot of the function table there? Use before calling a slot that was appended after 1.0 or may be NULL. */
#define REGISTRY_HAS(d, slot)                                                                                                  \
    ((d)->api_size >= offsetof(strand_plugin_api, slot) + sizeof((d)->plugin->table.api->slot) && (d)->plugin->table.api->slot)

/* The folder of the file that holds this library (or the program it is linked into), or NULL. */
const char *registry_own_folder(arena *a);

#endif

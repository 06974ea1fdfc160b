/* ops_host.h - a small host for testing plugins: it loads one, plays the host's side of the ABI, and has a parallel-for whose
 * order and workers can be chosen, so that results can be shown not to depend on them. */
#ifndef STRAND_TESTS_OPS_HOST_H
#define STRAND_TESTS_OPS_HOST_H

#include <stdbool.h>

#include "strand_plugin.h"

typedef struct ops_host {
    strand_host table;
    int32_t workers;   /* what plugins are told */
    bool shuffle;      /* bodies in random order, spread over `workers` threads */
    uint64_t random;   /* state of the shuffling */
    int64_t blocks;    /* allocations that are alive */
    char failure[256]; /* the last line given to fail */
    int64_t messages;  /* errors and warnings given to log, as a validation layer's */
    char message[1024]; /* the first of them */
    bool matrices;      /* the log has named a kernel that multiplies by the device's matrices */
} ops_host;

/* A loaded plugin with its first device opened. `host` is its own. */
typedef struct ops_plugin {
    void *library;
    strand_plugin table;
    const strand_plugin_api *api;
    strand_plugin_instance *instance;
    strand_plugin_device *device;
    strand_plugin_device_info info;
    ops_host host;
    char path[512];
} ops_plugin;

/* Loads and opens. Returns 0, or 77 when the plugin says that it cannot run here, or 1; `why` says why. */
int ops_open(ops_plugin *p, const char *path, char *why, size_t why_bytes);
/* The same, hiding features of the processor (strand_host.cpu_mask). */
int ops_open_masked(ops_plugin *p, const char *path, uint32_t cpu_mask, char *why, size_t why_bytes);

/* Closes, and returns the number of allocations that were not given back. */
int64_t ops_close(ops_plugin *p);

bool ops_host_memory(const ops_plugin *p);

/* A random number; the generator is SplitMix64, so that a seed means the same everywhere. */
uint64_t ops_random(uint64_t *state);

#endif

/* bench_device.h - what bench.c needs of plugins that have memory of their own. */
#ifndef STRAND_TESTS_BENCH_DEVICE_H
#define STRAND_TESTS_BENCH_DEVICE_H

#include "bench.h"

#define BENCH_DEVICE_BUFFERS (STRAND_PLUGIN_MAX_INPUTS + 4)

typedef struct bench_device {
    const ops_plugin *p;
    strand_plugin_tensor inputs[STRAND_PLUGIN_MAX_INPUTS], outputs[2];
    strand_plugin_buffer *buffers[BENCH_DEVICE_BUFFERS];
    int n;
    bool failed;
} bench_device;

/* Copies a node's inputs to the device and points the node at what is there. False with a line when it has no room. */
bool bench_device_place(bench_device *d, const ops_plugin *p, strand_plugin_node *node, char *why, size_t why_bytes);
bool bench_device_memory(bench_device *d, uint64_t bytes, strand_plugin_memory *memory);
/* Waits for everything in the queue; of a bench_device. */
void bench_device_settle(void *arg);
/* The first output back in the case's own memory. */
void bench_device_fetch(bench_device *d, const bench_case *c);
/* Frees it and what it allocated. */
void bench_device_free(void *arg);

#endif

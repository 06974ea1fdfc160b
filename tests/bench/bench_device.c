/* bench_device.c - cases on plugins that have memory of their own: tensors are uploaded once, launches follow one another in
 * the device's queue, and the clock is read when all of them are done. The floor is a copy by the same device of as many
 * bytes as the case must move, unless the case has its own. */
#include "bench_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bench_device_memory(bench_device *d, uint64_t bytes, strand_plugin_memory *memory) {
    strand_plugin_buffer *b;
    *memory = (strand_plugin_memory){0};
    if (!bytes) return true;
    if (d->n == BENCH_DEVICE_BUFFERS || d->p->api->buffer_create(d->p->device, bytes, &b)) return false;
    d->buffers[d->n++] = b;
    *memory = (strand_plugin_memory){.buffer = b, .bytes = bytes};
    return true;
}

void bench_device_settle(void *arg) {
    bench_device *d = arg;
    uint64_t point;
    if (d->p->api->submit(d->p->device, &point) || d->p->api->wait(d->p->device, point)) d->failed = true;
}

static bool place(bench_device *d, const strand_plugin_tensor *from, strand_plugin_tensor *to, bool upload) {
    *to = *from;
    if (!from->dtype) return true;
    uint64_t bytes = bench_bytes(from);
    if (!bench_device_memory(d, bytes, &to->memory)) return false;
    if (!upload || d->p->api->upload(d->p->device, to->memory.buffer, 0, from->memory.data, bytes)) return !upload;
    bench_device_settle(d);
    return !d->failed;
}

bool bench_device_place(bench_device *d, const ops_plugin *p, strand_plugin_node *node, char *why, size_t why_bytes) {
    *d = (bench_device){.p = p};
    bool good = true;
    for (uint32_t i = 0; i < node->n_inputs && good; i++) good = place(d, &node->inputs[i], &d->inputs[i], true);
    for (uint32_t i = 0; i < node->n_outputs && good; i++) good = place(d, &node->outputs[i], &d->outputs[i], false);
    if (!good) snprintf(why, why_bytes, "no memory on the device: %.200s", p->host.failure);
    node->inputs = d->inputs;
    node->outputs = d->outputs;
    return good;
}

void bench_device_fetch(bench_device *d, const bench_case *c) {
    if (d->p->api->download(d->p->device, d->outputs[0].memory.buffer, 0, c->outputs[0].memory.data,
                            bench_bytes(&c->outputs[0])))
        d->failed = true;
    bench_device_settle(d);
}

void bench_device_free(void *arg) {
    bench_device *d = arg;
    while (d->n) d->p->api->buffer_destroy(d->p->device, d->buffers[--d->n]);
    free(d);
}

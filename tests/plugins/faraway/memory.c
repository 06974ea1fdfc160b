/* memory.c - faraway's buffers. The handle that the host gets is an address in pages that allow nothing, over the whole
 * length of the buffer: reading or writing through it, or through it plus an offset, ends the process at the very
 * instruction. The bytes stand in memory that the host has no way to find, and begin as NaN, so that reading what nobody
 * wrote shows. */
#define _GNU_SOURCE
#include "faraway.h"

#include <string.h>
#include <sys/mman.h>

strand_plugin_status far_buffer_create(strand_plugin_device *d, uint64_t bytes, strand_plugin_buffer **out) {
    const strand_host *host = d->instance->host;
    strand_plugin_status status = far_turn(d, FAR_BUFFER);
    if (status) return status;
    if (!bytes || bytes > (uint64_t)1 << 32 || (d->instance->set.buffer && bytes > d->instance->set.buffer))
        return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no such buffer: %llu bytes", (unsigned long long)bytes);
    far_buffer *b = host->alloc(host->context, sizeof *b, 16);
    if (!b) return STRAND_PLUGIN_ERR_MEMORY;
    *b = (far_buffer){.size = bytes, .mapped = (bytes + 4095) & ~(uint64_t)4095};
    b->bytes = host->alloc(host->context, bytes, 64);
    b->reserved = b->bytes ? mmap(NULL, b->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (b->reserved == MAP_FAILED) {
        if (b->bytes) host->free(host->context, b->bytes, bytes);
        host->free(host->context, b, sizeof *b);
        return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a buffer");
    }
    memset(b->bytes, 0xff, bytes);
    pthread_mutex_lock(&d->memory);
    b->next = d->buffers;
    d->buffers = b;
    pthread_mutex_unlock(&d->memory);
    *out = (strand_plugin_buffer *)(void *)b->reserved;
    return STRAND_PLUGIN_OK;
}

static void unlink_buffer(strand_plugin_device *d, far_buffer **at) {
    pthread_mutex_lock(&d->memory);
    *at = (*at)->next;
    pthread_mutex_unlock(&d->memory);
}

void far_buffer_destroy(strand_plugin_device *d, strand_plugin_buffer *buffer) {
    const strand_host *host = d->instance->host;
    if (!far_idle(d)) host->log(host->context, 0, "faraway: ABI violation: a buffer was destroyed while work was pending");
    for (far_buffer **at = &d->buffers; *at; at = &(*at)->next) {
        far_buffer *b = *at;
        if ((void *)b->reserved != (void *)buffer) continue;
        unlink_buffer(d, at);
        munmap(b->reserved, b->mapped);
        host->free(host->context, b->bytes, b->size);
        host->free(host->context, b, sizeof *b);
        return;
    }
    host->log(host->context, 0, "faraway: ABI violation: an unknown buffer was destroyed");
}

unsigned char *far_bytes(strand_plugin_device *d, const strand_plugin_buffer *buffer, uint64_t offset, uint64_t bytes) {
    unsigned char *at = NULL;
    pthread_mutex_lock(&d->memory); /* the worker asks too */
    for (far_buffer *b = d->buffers; b; b = b->next)
        if ((const void *)b->reserved == (const void *)buffer && offset <= b->size && bytes <= b->size - offset)
            at = b->bytes + offset;
    pthread_mutex_unlock(&d->memory);
    return at;
}

static strand_plugin_status queue_copy(strand_plugin_device *d, far_call call, strand_plugin_buffer *b, uint64_t offset,
                                       const void *from, void *to, uint64_t bytes) {
    strand_plugin_status status = far_turn(d, call);
    if (status) return status;
    unsigned char *at = far_bytes(d, b, offset, bytes);
    if (!at || !(from || to))
        return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: a copy outside its buffer, or from nowhere");
    far_command *c = far_command_new(d, call == FAR_UPLOAD ? FAR_TAKE : FAR_GIVE, 0);
    if (!c) return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a command");
    c->device_bytes = at;
    c->from = from;
    c->to = to;
    c->length = bytes;
    far_push(d, c);
    return STRAND_PLUGIN_OK;
}

strand_plugin_status far_upload(strand_plugin_device *d, strand_plugin_buffer *b, uint64_t offset, const void *from,
                                uint64_t bytes) {
    return queue_copy(d, FAR_UPLOAD, b, offset, from, NULL, bytes);
}

strand_plugin_status far_download(strand_plugin_device *d, strand_plugin_buffer *b, uint64_t offset, void *to, uint64_t bytes) {
    return queue_copy(d, FAR_DOWNLOAD, b, offset, NULL, to, bytes);
}

strand_plugin_status far_copy(strand_plugin_device *d, strand_plugin_buffer *from, uint64_t from_offset,
                              strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes) {
    strand_plugin_status status = far_turn(d, FAR_COPY);
    if (status) return status;
    unsigned char *a = far_bytes(d, from, from_offset, bytes), *b = far_bytes(d, to, to_offset, bytes);
    if (!a || !b) return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: a copy outside its buffers");
    if (a < b + bytes && b < a + bytes) return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: a copy onto itself");
    far_command *c = far_command_new(d, FAR_MOVE, 0);
    if (!c) return far_fail(d, STRAND_PLUGIN_ERR_MEMORY, "no memory for a command");
    c->from = a;
    c->device_bytes = b;
    c->length = bytes;
    far_push(d, c);
    return STRAND_PLUGIN_OK;
}

/* memory.c - the memory of a CUDA device: buffers from a pool of the device's own, taken and given back in the order of its
 * stream, so that neither waits for the work before it. Where there are no pools, allocations are plain.
 *
 * Everything that touches a buffer is given to the one stream, after the buffer was made and before it is given back. */
#include "driver_cuda.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_SHARE 32 /* of the device's memory, what the pool keeps for the next session when nothing uses it */

/* The functions of a pool, which an older libcuda does not have: the plugin is not linked against them. */
static bool find_functions(cuda_pool *p) {
    const struct {
        const char *name;
        void *to;
    } all[] = {{"cuMemPoolCreate", &p->create},
               {"cuMemPoolSetAttribute", &p->set},
               {"cuMemPoolDestroy", &p->destroy},
               {"cuMemAllocFromPoolAsync", &p->take},
               {"cuMemFreeAsync", &p->give}};
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    bool found = library != NULL;
    for (size_t i = 0; i < sizeof all / sizeof all[0] && found; i++) {
        void *symbol = dlsym(library, all[i].name);
        found = symbol != NULL;
        memcpy(all[i].to, &symbol, sizeof symbol);
    }
    if (library) dlclose(library); /* it stays: the plugin is linked against it */
    return found;
}

void cuda_pool_open(cuda_device *d) {
    const char *setting = getenv("STRAND_CUDA_POOL");
    cuda_pool *p = &d->pool;
    int there = 0;
    size_t bytes = 0;
    const CUmemPoolProps what = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = d->id}};
    if (setting && !strcmp(setting, "0")) return;
    cuDeviceGetAttribute(&there, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, d->id);
    if (!there || !find_functions(p) || p->create(&p->pool, &what) != CUDA_SUCCESS) {
        p->pool = NULL;
        return;
    }
    cuDeviceTotalMem(&bytes, d->id);
    cuuint64_t kept = bytes / KEPT_SHARE;
    p->set(p->pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &kept); /* it keeps nothing where this fails */
}

void cuda_pool_close(cuda_device *d) {
    if (d->pool.pool) d->pool.destroy(d->pool.pool);
    d->pool.pool = NULL;
}

strand_plugin_status driver_buffer_create(strand_plugin_device *device, uint64_t bytes, strand_plugin_buffer **buffer) {
    cuda_device *d = cuda_of(device);
    const strand_host *host = device->host;
    strand_plugin_status status = cuda_current(d);
    if (status) return status;
    strand_plugin_buffer *b = host->alloc(host->context, sizeof *b, 64);
    if (!b) return STRAND_PLUGIN_ERR_MEMORY;
    b->bytes = bytes ? (bytes + 255) / 256 * 256 : 256;
    CUresult e = d->pool.pool ? d->pool.take(&b->memory, b->bytes, d->pool.pool, d->stream) : cuMemAlloc(&b->memory, b->bytes);
    status = cuda_check(host, e, "allocating device memory");
    if (status)
        host->free(host->context, b, sizeof *b);
    else
        *buffer = b;
    return status;
}

void driver_buffer_destroy(strand_plugin_device *device, strand_plugin_buffer *buffer) {
    cuda_device *d = cuda_of(device);
    if (!buffer) return;
    if (!cuda_current(d) && (!d->pool.pool || d->pool.give(buffer->memory, d->stream) != CUDA_SUCCESS)) {
        cuStreamSynchronize(d->stream);
        cuMemFree(buffer->memory);
    }
    device->host->free(device->host->context, buffer, sizeof *buffer);
}

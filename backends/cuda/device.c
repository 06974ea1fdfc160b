/* device.c - CUDA devices, their stream, copies and launches.
 *
 * An upload is copied into pinned memory at once and goes to the device from there; a download comes back through pinned
 * memory and reaches its place in the wait, or when its half is needed again. Work is in the order of the one stream. */
#include "driver_cuda.h"

#include <stdio.h>
#include <string.h>

const char gpu_name[] = "cuda";
const char gpu_description[] = "NVIDIA CUDA";
const int32_t gpu_score_value = 30;

#define MOST_BYTES ((uint64_t)1 << 40)

strand_plugin_status cuda_check(const strand_host *host, CUresult error, const char *what) {
    const char *text = NULL;
    if (error == CUDA_SUCCESS) return STRAND_PLUGIN_OK;
    if (cuGetErrorString(error, &text) != CUDA_SUCCESS || !text) text = "unknown error";
    strand_plugin_status status = error == CUDA_ERROR_OUT_OF_MEMORY ? STRAND_PLUGIN_ERR_MEMORY : STRAND_PLUGIN_ERR_DEVICE;
    return gpu_fail(host, status, "%s: %s", what, text);
}

strand_plugin_status driver_open(const strand_host *host, strand_plugin_instance **instance) {
    int n = 0;
    CUresult e = cuInit(0);
    if (e != CUDA_SUCCESS || cuDeviceGetCount(&n) != CUDA_SUCCESS || n < 1)
        return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED,
                        "there is no CUDA device, or its driver does not run (CUDA error %d)", (int)e);
    cuda_instance *x = host->alloc(host->context, sizeof *x, 64);
    if (!x) return STRAND_PLUGIN_ERR_MEMORY;
    memset(x, 0, sizeof *x);
    x->base.host = host;
    for (int i = 0; i < n && i < CUDA_DEVICES; i++)
        if (cuDeviceGet(&x->devices[x->n_devices], i) == CUDA_SUCCESS) x->n_devices++;
    *instance = &x->base;
    return STRAND_PLUGIN_OK;
}

void driver_close(strand_plugin_instance *instance) {
    if (instance) instance->host->free(instance->host->context, instance, sizeof(cuda_instance));
}

uint32_t driver_device_count(strand_plugin_instance *instance) {
    return ((cuda_instance *)(void *)instance)->n_devices;
}

static int attribute(CUdevice id, CUdevice_attribute what) {
    int v = 0;
    cuDeviceGetAttribute(&v, what, id);
    return v;
}

strand_plugin_status driver_device_info(strand_plugin_instance *instance, uint32_t index, strand_plugin_device_info *info) {
    const cuda_instance *x = (const cuda_instance *)(const void *)instance;
    char name[128] = "";
    size_t bytes = 0;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    CUdevice id = x->devices[index];
    cuDeviceGetName(name, sizeof name, id);
    cuDeviceTotalMem(&bytes, id);
    strand_plugin_device_info mine = {.flags = STRAND_DEVICE_ASYNC, .memory = bytes, .alignment = 256};
    snprintf(mine.name, sizeof mine.name, "%u", index);
    snprintf(mine.description, sizeof mine.description, "%.100s", name);
    mine.size = info->size;
    memcpy(info, &mine, info->size < sizeof mine ? info->size : sizeof mine);
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_device_features(strand_plugin_instance *instance, uint32_t index, gpu_text *text) {
    const cuda_instance *x = (const cuda_instance *)(const void *)instance;
    int driver = 0;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    CUdevice id = x->devices[index];
    cuDriverGetVersion(&driver);
    gpu_say(text, "type", "%s", attribute(id, CU_DEVICE_ATTRIBUTE_INTEGRATED) ? "integrated GPU" : "discrete GPU");
    gpu_say(text, "driver", "for CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    gpu_say(text, "compute capability", "%d.%d", attribute(id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            attribute(id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
    gpu_say(text, "multiprocessors", "%d", attribute(id, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
    gpu_say(text, "unified memory", "%s", attribute(id, CU_DEVICE_ATTRIBUTE_INTEGRATED) ? "yes" : "no");
    gpu_say(text, "shared memory", "%.0f KiB a group",
            (double)attribute(id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK) / 1024);
    gpu_say(text, "stream-ordered memory", "%s", attribute(id, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED) ? "yes" : "no");
    gpu_say(text, "states on the device", "yes");
    gpu_say(text, "tensor cores", "%s",
            !cuda_tensor_wanted(id) ? "no"
            : cuda_wgmma_wanted(id) ? "yes, of warp groups too"
                                    : "yes");
    gpu_say(text, "recorded segments", "yes, as graphs");
    return STRAND_PLUGIN_OK;
}

strand_plugin_status cuda_current(cuda_device *d) {
    return cuda_check(d->base.host, cuCtxSetCurrent(d->context), "the context");
}

static strand_plugin_status open_memory(cuda_device *d) {
    const strand_host *host = d->base.host;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int i = 0; i < 2 && !status; i++) {
        void *pinned = NULL;
        status = cuda_check(host, cuMemHostAlloc(&pinned, CUDA_STAGING, 0), "allocating pinned memory");
        d->halves[i].pinned = pinned;
        if (!status) status = cuda_check(host, cuEventCreate(&d->halves[i].passed, CU_EVENT_DISABLE_TIMING), "making an event");
    }
    void *words = NULL;
    if (!status) status = cuda_check(host, cuMemHostAlloc(&words, 64, CU_MEMHOSTALLOC_DEVICEMAP), "allocating pinned memory");
    d->fault_words = words;
    if (words) memset(words, 0, 64);
    if (!status) status = cuda_check(host, cuMemHostGetDevicePointer(&d->fault.memory, words, 0), "mapping pinned memory");
    d->fault.bytes = 64;
    return status;
}

strand_plugin_status driver_device_open(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device) {
    const cuda_instance *x = (const cuda_instance *)(const void *)instance;
    const strand_host *host = instance->host;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    cuda_device *d = host->alloc(host->context, sizeof *d, 64);
    if (!d) return STRAND_PLUGIN_ERR_MEMORY;
    memset(d, 0, sizeof *d);
    d->base.instance = instance;
    d->base.host = host;
    d->id = x->devices[index];
    d->base.own = &cuda_own;
    d->base.limits = (gpu_limits){.shared_bytes = (uint32_t)attribute(d->id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
                                  .bindings = GPU_MOST_BINDINGS,
                                  .groups_x = 1u << 20,
                                  .groups_y = 65535,
                                  .group = 1024,
                                  .binding_bytes = MOST_BYTES,
                                  .offset_alignment = 16};
    /* The primary context is shared with the rest of the process, as the runtime API and frameworks do. */
    strand_plugin_status status = cuda_check(host, cuDevicePrimaryCtxRetain(&d->context, d->id), "opening the device");
    if (!status) status = cuda_current(d);
    if (!status) status = cuda_check(host, cuStreamCreate(&d->stream, CU_STREAM_NON_BLOCKING), "making a stream");
    if (!status) status = open_memory(d);
    if (!status) cuda_pool_open(d);
    if (!status) cuda_blas_open(d);
    cuda_tensor_open(d);
    if (!status) cuda_long_conv_open(d);
    if (status)
        driver_device_close(&d->base);
    else
        *device = &d->base;
    return status;
}

void driver_device_close(strand_plugin_device *device) {
    cuda_device *d = cuda_of(device);
    if (d->context && cuCtxSetCurrent(d->context) == CUDA_SUCCESS) {
        if (d->stream) cuStreamSynchronize(d->stream);
        cuda_blas_close(d);
        cuda_tensor_close(d);
        for (int i = 0; i < GPU_N_KERNELS; i++)
            if (d->modules[i]) cuModuleUnload(d->modules[i]);
        for (int i = 0; i < 2; i++) {
            if (d->halves[i].passed) cuEventDestroy(d->halves[i].passed);
            if (d->halves[i].pinned) cuMemFreeHost(d->halves[i].pinned);
        }
        if (d->fault_words) cuMemFreeHost(d->fault_words);
        cuda_pool_close(d);
        if (d->side) cuStreamDestroy(d->side);
        if (d->stream) cuStreamDestroy(d->stream);
    }
    cuda_blas_close(d); /* where the context was lost */
    cuda_pool_close(d);
    if (d->context) cuDevicePrimaryCtxRelease(d->id);
    device->host->free(device->host->context, d, sizeof *d);
}

/* ---- copies ---- */

/* Waits until a half is free: its downloads reach their places. */
static strand_plugin_status finish_half(cuda_device *d, cuda_half *h) {
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (h->pending) status = cuda_check(d->base.host, cuEventSynchronize(h->passed), "waiting");
    for (uint32_t i = 0; i < h->n_reads && !status; i++)
        memcpy(h->reads[i].to, h->pinned + h->reads[i].at, (size_t)h->reads[i].bytes);
    h->pending = false;
    h->n_reads = 0;
    h->used = 0;
    return status;
}

/* Leaves the half at hand to the stream and turns to the other one. */
static strand_plugin_status turn_half(cuda_device *d) {
    cuda_half *h = &d->halves[d->current];
    strand_plugin_status status = cuda_check(d->base.host, cuEventRecord(h->passed, d->stream), "recording an event");
    h->pending = true;
    d->current ^= 1;
    return status ? status : finish_half(d, &d->halves[d->current]);
}

static strand_plugin_status stage(cuda_device *d, uint64_t bytes, cuda_half **half, uint64_t *at, uint64_t *got) {
    cuda_half *h = &d->halves[d->current];
    if (h->used >= CUDA_STAGING || h->n_reads == CUDA_READS) {
        strand_plugin_status status = turn_half(d);
        if (status) return status;
        h = &d->halves[d->current];
    }
    uint64_t left = CUDA_STAGING - h->used;
    *half = h;
    *at = h->used;
    *got = bytes < left ? bytes : left;
    h->used = (*at + *got + 255) / 256 * 256;
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_upload(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset,
                                   const void *from, uint64_t bytes) {
    cuda_device *d = cuda_of(device);
    strand_plugin_status status = cuda_current(d);
    for (uint64_t done = 0, at, got; done < bytes && !status; done += got) {
        cuda_half *h;
        status = stage(d, bytes - done, &h, &at, &got);
        if (status) return status;
        memcpy(h->pinned + at, (const char *)from + done, (size_t)got);
        status = cuda_check(device->host, cuMemcpyHtoDAsync(buffer->memory + offset + done, h->pinned + at, got, d->stream),
                            "an upload");
    }
    return status;
}

strand_plugin_status driver_download(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes) {
    cuda_device *d = cuda_of(device);
    strand_plugin_status status = cuda_current(d);
    for (uint64_t done = 0, at, got; done < bytes && !status; done += got) {
        cuda_half *h;
        status = stage(d, bytes - done, &h, &at, &got);
        if (status) return status;
        status = cuda_check(device->host, cuMemcpyDtoHAsync(h->pinned + at, buffer->memory + offset + done, got, d->stream),
                            "a download");
        if (!status) h->reads[h->n_reads++] = (cuda_read){at, got, (char *)to + done};
    }
    return status;
}

strand_plugin_status driver_copy(strand_plugin_device *device, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes) {
    cuda_device *d = cuda_of(device);
    strand_plugin_status status = cuda_current(d);
    return status
               ? status
               : cuda_check(device->host,
                            cuMemcpyDtoDAsync(to->memory + to_offset, from->memory + from_offset, bytes, d->stream), "a copy");
}

/* ---- the queue ---- */

static strand_plugin_status find_kernel(cuda_device *d, gpu_kernel kernel, CUfunction *function) {
    if (!d->kernels[kernel]) {
        uint32_t family;
        const void *image = cuda_image_of(kernel, &family);
        strand_plugin_status status = STRAND_PLUGIN_OK;
        if (!d->modules[family])
            status = cuda_check(d->base.host, cuModuleLoadData(&d->modules[family], image), "loading kernels");
        if (!status)
            status =
                cuda_check(d->base.host, cuModuleGetFunction(&d->kernels[kernel], d->modules[family], gpu_kernels[kernel].name),
                           gpu_kernels[kernel].name);
        if (status) return status;
    }
    *function = d->kernels[kernel];
    return STRAND_PLUGIN_OK;
}

strand_plugin_status cuda_launch(cuda_device *d, strand_plugin_segment *segment, CUfunction function, const uint32_t groups[3],
                                 uint32_t group, uint32_t shared, void **arguments, const char *name) {
    if (segment) return cuda_segment_launch(d, segment, function, groups, group, shared, arguments, name);
    return cuda_check(
        d->base.host,
        cuLaunchKernel(function, groups[0], groups[1], groups[2], group, 1, 1, shared, d->stream, arguments, NULL), name);
}

strand_plugin_status driver_segment_dispatch(strand_plugin_device *device, strand_plugin_segment *segment,
                                             const gpu_dispatch *g) {
    cuda_device *d = cuda_of(device);
    CUfunction function;
    CUdeviceptr pointers[GPU_MOST_BINDINGS];
    void *arguments[GPU_MOST_BINDINGS + 1];
    union {
        const int32_t *read;
        void *any;
    } params = {g->params};
    strand_plugin_status status = cuda_current(d);
    if (!status) status = find_kernel(d, g->kernel, &function);
    if (status) return status;
    for (uint32_t i = 0; i < g->n_bindings; i++) {
        pointers[i] = g->bindings[i].buffer->memory + g->bindings[i].offset;
        arguments[i] = &pointers[i];
    }
    arguments[g->n_bindings] = params.any;
    return cuda_launch(d, segment, function, g->groups, gpu_kernels[g->kernel].group, 0, arguments,
                       gpu_kernels[g->kernel].name);
}

strand_plugin_status driver_dispatch(strand_plugin_device *device, const gpu_dispatch *g) {
    return driver_segment_dispatch(device, NULL, g);
}

strand_plugin_status driver_submit(strand_plugin_device *device, uint64_t *point) {
    *point = ++cuda_of(device)->point; /* the stream runs by itself */
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_wait(strand_plugin_device *device, uint64_t point) {
    cuda_device *d = cuda_of(device);
    (void)point;
    strand_plugin_status status = cuda_current(d);
    if (!status) status = cuda_check(device->host, cuStreamSynchronize(d->stream), "waiting");
    for (int i = 0; i < 2 && !status; i++) status = finish_half(d, &d->halves[i]);
    return status;
}

strand_plugin_buffer *driver_fault_buffer(strand_plugin_device *device) {
    return &cuda_of(device)->fault;
}

bool driver_take_fault(strand_plugin_device *device, int32_t fault[4]) {
    int32_t *words = cuda_of(device)->fault_words;
    memcpy(fault, words, 16);
    if (!fault[0]) return false;
    memset(words, 0, 16);
    return true;
}

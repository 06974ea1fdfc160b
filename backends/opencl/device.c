/* device.c - OpenCL platforms and devices, in the ICD loader's order; buffers; the queue. */
#include "opencl.h"

#include <stdio.h>
#include <string.h>

const char gpu_name[] = "opencl";
const char gpu_description[] = "OpenCL";
const int32_t gpu_score_value = 10;

/* Kernels count elements of a buffer with 32 bits, halves too. */
#define MOST_BYTES ((uint64_t)1 << 32)

strand_plugin_status ocl_check(const strand_host *host, cl_int error, const char *what) {
    switch (error) {
    case CL_SUCCESS:
        return STRAND_PLUGIN_OK;
    case CL_OUT_OF_HOST_MEMORY:
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "%s: out of host memory", what);
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_INVALID_BUFFER_SIZE:
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "%s: out of device memory", what);
    default:
        return gpu_fail(host, STRAND_PLUGIN_ERR_DEVICE, "%s: OpenCL error %d", what, (int)error);
    }
}

static bool usable(cl_device_id id) {
    cl_bool available = CL_FALSE, compiler = CL_FALSE;
    clGetDeviceInfo(id, CL_DEVICE_AVAILABLE, sizeof available, &available, NULL);
    clGetDeviceInfo(id, CL_DEVICE_COMPILER_AVAILABLE, sizeof compiler, &compiler, NULL);
    return available && compiler;
}

static void find_devices(ocl_instance *x) {
    cl_platform_id platforms[16];
    cl_uint n_platforms = 0;
    if (clGetPlatformIDs(16, platforms, &n_platforms) != CL_SUCCESS) return;
    for (cl_uint p = 0; p < n_platforms && p < 16; p++) {
        cl_device_id ids[CL_DEVICES];
        cl_uint n = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, CL_DEVICES, ids, &n) != CL_SUCCESS) continue;
        for (cl_uint i = 0; i < n && i < CL_DEVICES && x->n_devices < CL_DEVICES; i++) {
            if (!usable(ids[i])) continue;
            x->platforms[x->n_devices] = platforms[p];
            x->devices[x->n_devices++] = ids[i];
        }
    }
}

strand_plugin_status driver_open(const strand_host *host, strand_plugin_instance **instance) {
    ocl_instance *x = host->alloc(host->context, sizeof *x, 64);
    if (!x) return STRAND_PLUGIN_ERR_MEMORY;
    memset(x, 0, sizeof *x);
    x->base.host = host;
    find_devices(x);
    if (!x->n_devices) {
        driver_close(&x->base);
        return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED,
                        "there is no OpenCL device (no ICD is installed, or none has a device with a compiler)");
    }
    *instance = &x->base;
    return STRAND_PLUGIN_OK;
}

void driver_close(strand_plugin_instance *instance) {
    if (instance) instance->host->free(instance->host->context, instance, sizeof(ocl_instance));
}

uint32_t driver_device_count(strand_plugin_instance *instance) {
    return ((ocl_instance *)(void *)instance)->n_devices;
}

static void text_info(cl_device_id id, cl_device_info what, char *text, size_t room) {
    size_t n = 0;
    if (clGetDeviceInfo(id, what, room, text, &n) != CL_SUCCESS || n > room) text[0] = 0;
    text[room - 1] = 0;
}

static cl_ulong number(cl_device_id id, cl_device_info what) {
    cl_ulong n = 0; /* of 4 or 8 bytes, little-endian where it matters */
    clGetDeviceInfo(id, what, sizeof n, &n, NULL);
    return n;
}

static const char *type_name(cl_device_type type) {
    return type & CL_DEVICE_TYPE_GPU ? "GPU" : type & CL_DEVICE_TYPE_CPU ? "software device" : "accelerator";
}

strand_plugin_status driver_device_info(strand_plugin_instance *instance, uint32_t index, strand_plugin_device_info *info) {
    const ocl_instance *x = (const ocl_instance *)(const void *)instance;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    cl_device_id id = x->devices[index];
    char name[128], platform[96] = "";
    text_info(id, CL_DEVICE_NAME, name, sizeof name);
    clGetPlatformInfo(x->platforms[index], CL_PLATFORM_NAME, sizeof platform - 1, platform, NULL);
    strand_plugin_device_info mine = {
        .flags = STRAND_DEVICE_ASYNC, .memory = number(id, CL_DEVICE_GLOBAL_MEM_SIZE), .alignment = 64};
    if (number(id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) mine.flags |= STRAND_DEVICE_SOFTWARE;
    snprintf(mine.name, sizeof mine.name, "%u", index);
    snprintf(mine.description, sizeof mine.description, "%.120s (%.90s)", name, platform);
    mine.size = info->size;
    memcpy(info, &mine, info->size < sizeof mine ? info->size : sizeof mine);
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_device_features(strand_plugin_instance *instance, uint32_t index, gpu_text *text) {
    const ocl_instance *x = (const ocl_instance *)(const void *)instance;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    cl_device_id id = x->devices[index];
    char version[128], driver[128], cache[640];
    ocl_cache_state(cache, sizeof cache);
    text_info(id, CL_DEVICE_VERSION, version, sizeof version);
    text_info(id, CL_DRIVER_VERSION, driver, sizeof driver);
    gpu_say(text, "type", "%s", type_name(number(id, CL_DEVICE_TYPE)));
    gpu_say(text, "driver", "%s", driver);
    gpu_say(text, "version", "%s", version);
    gpu_say(text, "compute units", "%u", (unsigned)number(id, CL_DEVICE_MAX_COMPUTE_UNITS));
    gpu_say(text, "unified memory", "%s", number(id, CL_DEVICE_HOST_UNIFIED_MEMORY) ? "yes" : "no");
    gpu_say(text, "largest allocation", "%.0f MiB", (double)number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE) / 1048576);
    gpu_say(text, "shared memory", "%.0f KiB a group%s", (double)number(id, CL_DEVICE_LOCAL_MEM_SIZE) / 1024,
            number(id, CL_DEVICE_LOCAL_MEM_TYPE) == CL_LOCAL ? "" : " (emulated)");
    gpu_say(text, "work group", "%u items at most", (unsigned)number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE));
    gpu_say(text, "states on the device", "yes");
    gpu_say(text, "recorded segments", "no");
    gpu_say(text, "kernel cache", "%s", cache);
    return STRAND_PLUGIN_OK;
}

/* Kernels whose groups are 8 x 32 items (KERNEL8_LANES) are compiled for 256 in a line where a device has no such groups. */
static void read_shape(ocl_device *d) {
    size_t most[8] = {0};
    cl_uint dimensions = 0;
    clGetDeviceInfo(d->id, CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS, sizeof dimensions, &dimensions, NULL);
    if (dimensions > 8) dimensions = 0;
    cl_int e = clGetDeviceInfo(d->id, CL_DEVICE_MAX_WORK_ITEM_SIZES, dimensions * sizeof *most, most, NULL);
    d->build_options = e == CL_SUCCESS && most[0] >= 8 && most[1] >= 32 ? "" : "-DLINES_OF_ONE";
}

static void read_limits(ocl_device *d) {
    cl_ulong shared = 0, most = 0;
    size_t group = 0;
    clGetDeviceInfo(d->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof shared, &shared, NULL);
    clGetDeviceInfo(d->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most, NULL);
    clGetDeviceInfo(d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL);
    if (most > MOST_BYTES) most = MOST_BYTES;
    /* A kernel is given whole buffers: all of the offset goes to it as a number. */
    d->base.limits = (gpu_limits){.shared_bytes = shared > UINT32_MAX ? UINT32_MAX : (uint32_t)shared,
                                  .bindings = GPU_MOST_BINDINGS,
                                  .groups_x = 1u << 20,
                                  .groups_y = 65535,
                                  .group = (uint32_t)group,
                                  .binding_bytes = UINT64_MAX,
                                  .buffer_bytes = most,
                                  .software = (number(d->id, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0,
                                  .offset_alignment = (uint64_t)1 << 62};
}

strand_plugin_status driver_device_open(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device) {
    const ocl_instance *x = (const ocl_instance *)(const void *)instance;
    const strand_host *host = instance->host;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    ocl_device *d = host->alloc(host->context, sizeof *d, 64);
    if (!d) return STRAND_PLUGIN_ERR_MEMORY;
    memset(d, 0, sizeof *d);
    d->base.instance = instance;
    d->base.host = host;
    d->id = x->devices[index];
    read_limits(d);
    read_shape(d);
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)x->platforms[index], 0};
    const int32_t zero[4] = {0};
    cl_int e;
    d->context = clCreateContext(properties, 1, &d->id, NULL, NULL, &e);
    strand_plugin_status status = ocl_check(host, e, "opening the device");
    if (!status) {
        d->queue = clCreateCommandQueue(d->context, d->id, 0, &e);
        status = ocl_check(host, e, "making a queue");
    }
    if (!status) {
        d->fault.memory = clCreateBuffer(d->context, CL_MEM_READ_WRITE, 64, NULL, &e);
        status = ocl_check(host, e, "making a buffer");
    }
    if (!status)
        status = ocl_check(host, clEnqueueWriteBuffer(d->queue, d->fault.memory, CL_TRUE, 0, sizeof zero, zero, 0, NULL, NULL),
                           "an upload");
    if (status)
        driver_device_close(&d->base);
    else
        *device = &d->base;
    return status;
}

void driver_device_close(strand_plugin_device *device) {
    ocl_device *d = ocl_of(device);
    if (d->queue) clFinish(d->queue);
    for (int i = 0; i < GPU_N_KERNELS; i++)
        if (d->kernels[i]) clReleaseKernel(d->kernels[i]);
    if (d->fault.memory) clReleaseMemObject(d->fault.memory);
    if (d->queue) clReleaseCommandQueue(d->queue);
    if (d->context) clReleaseContext(d->context);
    d->base.host->free(d->base.host->context, d, sizeof *d);
}

/* ---- memory ---- */

strand_plugin_status driver_buffer_create(strand_plugin_device *device, uint64_t bytes, strand_plugin_buffer **buffer) {
    ocl_device *d = ocl_of(device);
    const strand_host *host = device->host;
    cl_int e;
    if (bytes > device->limits.buffer_bytes)
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "the device gives %.0f MiB at once, %.0f are needed",
                        (double)device->limits.buffer_bytes / 1048576, (double)bytes / 1048576);
    strand_plugin_buffer *b = host->alloc(host->context, sizeof *b, 64);
    if (!b) return STRAND_PLUGIN_ERR_MEMORY;
    b->bytes = (bytes + 63) / 64 * 64;
    b->memory = clCreateBuffer(d->context, CL_MEM_READ_WRITE, b->bytes ? b->bytes : 64, NULL, &e);
    strand_plugin_status status = ocl_check(host, e, "allocating device memory");
    if (status)
        host->free(host->context, b, sizeof *b);
    else
        *buffer = b;
    return status;
}

void driver_buffer_destroy(strand_plugin_device *device, strand_plugin_buffer *buffer) {
    if (!buffer) return;
    clFinish(ocl_of(device)->queue);
    clReleaseMemObject(buffer->memory);
    device->host->free(device->host->context, buffer, sizeof *buffer);
}

strand_plugin_status driver_upload(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset,
                                   const void *from, uint64_t bytes) {
    ocl_device *d = ocl_of(device);
    return ocl_check(device->host, clEnqueueWriteBuffer(d->queue, buffer->memory, CL_FALSE, offset, bytes, from, 0, NULL, NULL),
                     "an upload");
}

strand_plugin_status driver_download(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes) {
    ocl_device *d = ocl_of(device);
    return ocl_check(device->host, clEnqueueReadBuffer(d->queue, buffer->memory, CL_FALSE, offset, bytes, to, 0, NULL, NULL),
                     "a download");
}

strand_plugin_status driver_copy(strand_plugin_device *device, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes) {
    return ocl_check(
        device->host,
        clEnqueueCopyBuffer(ocl_of(device)->queue, from->memory, to->memory, from_offset, to_offset, bytes, 0, NULL, NULL),
        "a copy");
}

/* ---- the queue ---- */

strand_plugin_status driver_dispatch(strand_plugin_device *device, const gpu_dispatch *g) {
    ocl_device *d = ocl_of(device);
    cl_kernel kernel;
    strand_plugin_status status = ocl_kernel(d, g->kernel, &kernel);
    if (status) return status;
    cl_int e = CL_SUCCESS;
    for (uint32_t i = 0; i < g->n_bindings && e == CL_SUCCESS; i++) {
        e = clSetKernelArg(kernel, i, sizeof(cl_mem), &g->bindings[i].buffer->memory);
        d->faultable = d->faultable || g->bindings[i].buffer == &d->fault;
    }
    if (e == CL_SUCCESS) e = clSetKernelArg(kernel, g->n_bindings, sizeof g->params, g->params);
    const size_t *group = d->shapes[g->kernel];
    const size_t items[3] = {g->groups[0] * group[0], g->groups[1] * group[1], g->groups[2] * group[2]};
    if (e == CL_SUCCESS) e = clEnqueueNDRangeKernel(d->queue, kernel, 3, NULL, items, group, 0, NULL, NULL);
    return ocl_check(device->host, e, gpu_kernels[g->kernel].name);
}

strand_plugin_status driver_submit(strand_plugin_device *device, uint64_t *point) {
    ocl_device *d = ocl_of(device);
    *point = ++d->point;
    return ocl_check(device->host, clFlush(d->queue), "submitting");
}

/* The queue is in order, and the host waits for its last point or for one just before it: all of it is waited for. */
strand_plugin_status driver_wait(strand_plugin_device *device, uint64_t point) {
    (void)point;
    return ocl_check(device->host, clFinish(ocl_of(device)->queue), "waiting");
}

strand_plugin_buffer *driver_fault_buffer(strand_plugin_device *device) {
    return &ocl_of(device)->fault;
}

bool driver_take_fault(strand_plugin_device *device, int32_t fault[4]) {
    ocl_device *d = ocl_of(device);
    const int32_t zero[4] = {0};
    if (!d->faultable) return false;
    d->faultable = false;
    if (clEnqueueReadBuffer(d->queue, d->fault.memory, CL_TRUE, 0, 16, fault, 0, NULL, NULL) != CL_SUCCESS || !fault[0])
        return false;
    clEnqueueWriteBuffer(d->queue, d->fault.memory, CL_TRUE, 0, 16, zero, 0, NULL, NULL);
    return true;
}

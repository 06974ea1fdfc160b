/* program.c - kernels: each is a program of its own, compiled when first used and kept in the user's cache (cache.c), so that a
 * second start compiles nothing. */
#include "opencl.h"

#include <stdio.h>
#include <string.h>

static uint64_t fnv(uint64_t h, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) h = (h ^ at[i]) * 1099511628211ull;
    return h;
}

/* All that the binary depends on: device, driver, and the source by two hashes and its length. */
static void make_key(const ocl_device *d, gpu_kernel kernel, const ocl_source *s, char *key, size_t room) {
    static const cl_device_info what[] = {CL_DEVICE_VENDOR, CL_DEVICE_NAME, CL_DEVICE_VERSION, CL_DRIVER_VERSION};
    size_t used = (size_t)snprintf(key, room, "strand 1\n%s\n", gpu_kernels[kernel].name), bytes = 0;
    uint64_t a = 14695981039346656037ull, b = 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < sizeof what / sizeof what[0] && used < room; i++) {
        char text[160] = "";
        if (clGetDeviceInfo(d->id, what[i], sizeof text - 1, text, NULL) != CL_SUCCESS) text[0] = 0;
        used += (size_t)snprintf(key + used, room - used, "%s\n", text);
    }
    for (int i = 0; i < OCL_TEXTS; i++) {
        a = fnv(a, s->texts[i], s->bytes[i]);
        b = fnv(b, s->texts[i], s->bytes[i]);
        bytes += s->bytes[i];
    }
    if (used < room)
        snprintf(key + used, room - used, "%016llx %016llx %zu\n", (unsigned long long)a, (unsigned long long)b, bytes);
}

/* A program from a cached binary, or NULL: a driver may refuse an old one. */
static cl_program from_cache(ocl_device *d, const char *key) {
    size_t bytes;
    cl_int status, e;
    unsigned char *binary = ocl_cache_load(d, key, &bytes);
    if (!binary) return NULL;
    const unsigned char *const in = binary;
    cl_program p =
        clCreateProgramWithBinary(d->context, 1, &d->id, &bytes, (const unsigned char **)(uintptr_t)&in, &status, &e);
    d->base.host->free(d->base.host->context, binary, bytes);
    if (!p) return NULL;
    if (e == CL_SUCCESS && status == CL_SUCCESS && clBuildProgram(p, 1, &d->id, d->build_options, NULL, NULL) == CL_SUCCESS)
        return p;
    clReleaseProgram(p);
    return NULL;
}

static void to_cache(ocl_device *d, cl_program p, const char *key) {
    const strand_host *host = d->base.host;
    size_t bytes = 0;
    if (clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS || !bytes) return;
    unsigned char *binary = host->alloc(host->context, bytes, 64);
    if (!binary) return;
    if (clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
        ocl_cache_store(d, key, binary, bytes);
    host->free(host->context, binary, bytes);
}

/* The first line of what the compiler said. It is no reason to give up the device. */
static strand_plugin_status refused(ocl_device *d, cl_program p, gpu_kernel kernel) {
    char log[2048] = "";
    clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
    char *error = strstr(log, "error");
    char *from = error ? error : log;
    from[strcspn(from, "\n")] = 0;
    return gpu_fail(d->base.host, STRAND_PLUGIN_ERR_UNSUPPORTED, "the driver does not compile kernel %s%s%.160s",
                    gpu_kernels[kernel].name, from[0] ? ": " : "", from);
}

static strand_plugin_status compile(ocl_device *d, gpu_kernel kernel, const ocl_source *s, cl_program *out) {
    cl_int e;
    const char *texts[OCL_TEXTS];
    for (int i = 0; i < OCL_TEXTS; i++) texts[i] = s->texts[i];
    cl_program p = clCreateProgramWithSource(d->context, OCL_TEXTS, texts, s->bytes, &e);
    strand_plugin_status status = ocl_check(d->base.host, e, "making a program");
    if (status) return status;
    if (clBuildProgram(p, 1, &d->id, d->build_options, NULL, NULL) != CL_SUCCESS) {
        status = refused(d, p, kernel);
        clReleaseProgram(p);
        return status;
    }
    *out = p;
    return STRAND_PLUGIN_OK;
}

strand_plugin_status ocl_kernel(ocl_device *d, gpu_kernel kernel, cl_kernel *out) {
    if (!d->kernels[kernel]) {
        char key[1024];
        ocl_source source;
        cl_int e;
        ocl_source_of(kernel, &source);
        make_key(d, kernel, &source, key, sizeof key);
        cl_program p = from_cache(d, key);
        if (!p) {
            strand_plugin_status status = compile(d, kernel, &source, &p);
            if (status) return status;
            to_cache(d, p, key);
        }
        cl_kernel made = clCreateKernel(p, gpu_kernels[kernel].name, &e);
        clReleaseProgram(p);
        if (e == CL_SUCCESS) /* KERNEL8_LANES shapes a group otherwise than in a line */
            e = clGetKernelWorkGroupInfo(made, d->id, CL_KERNEL_COMPILE_WORK_GROUP_SIZE, sizeof d->shapes[kernel],
                                         d->shapes[kernel], NULL);
        strand_plugin_status status = ocl_check(d->base.host, e, gpu_kernels[kernel].name);
        if (status) {
            if (made) clReleaseKernel(made);
            return status;
        }
        d->kernels[kernel] = made;
    }
    *out = d->kernels[kernel];
    return STRAND_PLUGIN_OK;
}

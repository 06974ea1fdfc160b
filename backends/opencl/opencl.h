/* opencl.h - what the files of the OpenCL driver share. OpenCL 1.2 through the ICD loader; one in-order queue a device. */
#ifndef STRAND_OPENCL_H
#define STRAND_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "driver.h"

#define CL_DEVICES 16

typedef struct ocl_instance {
    strand_plugin_instance base;
    uint32_t n_devices;
    cl_device_id devices[CL_DEVICES];
    cl_platform_id platforms[CL_DEVICES];
} ocl_instance;

struct strand_plugin_buffer {
    cl_mem memory;
    uint64_t bytes;
};

typedef struct ocl_device {
    strand_plugin_device base;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    cl_kernel kernels[GPU_N_KERNELS]; /* made when first used */
    size_t shapes[GPU_N_KERNELS][3];  /* items of its group in x, y and z */
    const char *build_options;
    strand_plugin_buffer fault;
    uint64_t point;
    bool cache_told; /* that the cache cannot be used */
    bool faultable; /* since the last look at the fault words, a kernel was given them */
} ocl_device;

static inline ocl_device *ocl_of(strand_plugin_device *d) {
    return (ocl_device *)(void *)d; /* base is its first field */
}

/* Turns an OpenCL error into a status with a line. */
strand_plugin_status ocl_check(const strand_host *host, cl_int error, const char *what);

/* program.c: the compiled kernel, from the cache or from its source. */
strand_plugin_status ocl_kernel(ocl_device *d, gpu_kernel kernel, cl_kernel *out);

/* sources.c: the texts of a kernel: its own define, the dialect, the functions, its file. */
#define OCL_TEXTS 4
typedef struct ocl_source {
    const char *texts[OCL_TEXTS];
    size_t bytes[OCL_TEXTS];
} ocl_source;
void ocl_source_of(gpu_kernel kernel, ocl_source *source);

/* cache.c: program binaries in the user's cache folder. `key` is all that the binary depends on. load gives memory of the
 * host's allocator, or NULL. Neither fails: a cache that cannot be used is not used. */
unsigned char *ocl_cache_load(ocl_device *d, const char *key, size_t *bytes);
void ocl_cache_store(ocl_device *d, const char *key, const unsigned char *binary, size_t bytes);

/* The folder and whether it can be used, or "off"; makes nothing. */
void ocl_cache_state(char *text, size_t room);

#endif

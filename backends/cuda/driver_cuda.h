/* driver_cuda.h - what the files of the CUDA driver share. The driver API alone (libcuda); one stream a device. */
#ifndef STRAND_CUDA_H
#define STRAND_CUDA_H

#include <cuda.h>

#include "driver.h"

#define CUDA_DEVICES 16
#define CUDA_STAGING ((uint64_t)16 << 20) /* bytes of each half of the pinned memory through which copies go */
#define CUDA_READS 256

typedef struct cuda_instance {
    strand_plugin_instance base;
    uint32_t n_devices;
    CUdevice devices[CUDA_DEVICES];
} cuda_instance;

struct strand_plugin_buffer {
    CUdeviceptr memory;
    uint64_t bytes;
};

/* A download that is finished by copying out of pinned memory when the stream has come so far. */
typedef struct cuda_read {
    uint64_t at, bytes;
    void *to;
} cuda_read;

/* One half of the pinned memory: filled, then waited for before it is filled again. */
typedef struct cuda_half {
    unsigned char *pinned;
    uint64_t used;
    CUevent passed;
    bool pending;
    cuda_read reads[CUDA_READS];
    uint32_t n_reads;
} cuda_half;

typedef struct cuda_device {
    strand_plugin_device base;
    CUdevice id;
    CUcontext context;
    CUstream stream;
    CUmodule modules[GPU_N_KERNELS]; /* one image holds a family; those that are loaded, by the first kernel that asked */
    CUfunction kernels[GPU_N_KERNELS];
    cuda_half halves[2];
    uint32_t current;
    strand_plugin_buffer fault;
    int32_t *fault_words; /* the same memory, seen by the host */
    uint64_t point;
} cuda_device;

static inline cuda_device *cuda_of(strand_plugin_device *d) {
    return (cuda_device *)(void *)d; /* base is its first field */
}

/* Turns a CUDA error into a status with a line. */
strand_plugin_status cuda_check(const strand_host *host, CUresult error, const char *what);

/* images.c: the compiled code (a fat binary) of the family that a kernel belongs to, and the family's number. */
const void *cuda_image_of(gpu_kernel kernel, uint32_t *family);

#endif

/* driver_cuda.h - what the files of the CUDA driver share. The driver API alone (libcuda); one stream a device. */
#ifndef STRAND_CUDA_H
#define STRAND_CUDA_H

#include <cuda.h>

#include "gpu.h"

#define CUDA_GROUPS_YZ   65535 /* groups of one launch along y and z */
#define CUDA_TENSOR_ROWS 16    /* fewer rows or queries leave most of a tile of tensor cores empty */

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

typedef struct cuda_blas cuda_blas;

/* A pool of device memory, and the functions of it, which an older driver does not have (memory.c). */
typedef struct cuda_pool {
    CUmemoryPool pool; /* NULL: plain allocations */
    __typeof__(&cuMemPoolCreate) create;
    __typeof__(&cuMemPoolSetAttribute) set;
    __typeof__(&cuMemPoolDestroy) destroy;
    __typeof__(&cuMemAllocFromPoolAsync) take;
    __typeof__(&cuMemFreeAsync) give;
} cuda_pool;

/* Kernels that this plugin alone has (kernels/): X(name, image). */
#define CUDA_OWN_KERNELS(X)                                                                                                  \
    X(attention_bf16_64, 0) X(attention_bf16_128, 0) X(attention_bf16x3_64, 0) X(attention_bf16x3_128, 0) X(attention_f16x2_64, 0) \
    X(attention_f16x2_128, 0) X(product_bf16, 1) X(product_bf16x3, 1) X(product_f16, 1) X(product_row, 1)                                        \
    X(attention_wide_bf16_64, 2) X(attention_wide_bf16_128, 2) X(attention_wide_bf16_192, 2) X(attention_wide_bf16_256, 2)     \
    X(attention_wide_bf16x3_64, 2) X(attention_wide_bf16x3_128, 2) X(attention_wide_bf16x3_192, 2) X(attention_wide_bf16x3_256, 2) \
    X(attention_wide_f16x2_64, 2) X(attention_wide_f16x2_128, 2) X(attention_wide_f16x2_192, 2) X(attention_wide_f16x2_256, 2) \
    X(attention_step_bf16_64, 2) X(attention_step_bf16_128, 2) X(attention_step_bf16_256, 2)                                   \
    X(attention_step_bf16x3_64, 2) X(attention_step_bf16x3_128, 2) X(attention_step_bf16x3_256, 2)                             \
    X(attention_step_f16x2_64, 2) X(attention_step_f16x2_128, 2) X(attention_step_f16x2_256, 2) \
    X(long_conv_2_f16, 3) X(long_conv_4_f16, 3) X(long_conv_8_f16, 3) X(long_conv_16_f16, 3) X(long_conv_32_f16, 3)                  \
    X(long_conv_64_f16, 3) X(long_conv_128_f16, 3) X(long_conv_2_f16x2, 3) X(long_conv_4_f16x2, 3) X(long_conv_8_f16x2, 3)           \
    X(long_conv_16_f16x2, 3) X(long_conv_32_f16x2, 3) X(long_conv_64_f16x2, 3) X(long_conv_inner_16_f16, 3)                          \
    X(long_conv_inner_64_f16, 3) X(long_conv_inner_16_f16x2, 3) X(long_conv_inner_64_f16x2, 3) X(long_conv_spectra_f16, 4)           \
    X(long_conv_spectra_f16x2, 4) X(long_conv_outer_f16, 4) X(long_conv_outer_f16x2, 4) X(long_conv_back_f16, 4)                     \
    X(long_conv_back_f16x2, 4) X(long_conv_inner_8_f16, 3) X(long_conv_inner_4_f16x2, 3) X(long_conv_inner_8_f16x2, 3)              \
    X(ssd_prepare_f16x2_64, 5) X(ssd_prepare_f16x2_128, 5) X(ssd_prepare_bf16_64, 5) X(ssd_prepare_bf16_128, 5)                      \
    X(ssd_ends_f16x2_64, 5) X(ssd_ends_f16x2_128, 5) X(ssd_ends_bf16_64, 5) X(ssd_ends_bf16_128, 5)                                  \
    X(ssd_walk_f16x2_64, 5) X(ssd_walk_f16x2_128, 5) X(ssd_walk_bf16_64, 5) X(ssd_walk_bf16_128, 5) \
    X(hyena_in_128, 6) X(hyena_in_256, 6) X(hyena_out_128, 6) X(hyena_out_256, 6)                                         \
    X(attention_wgmma_bf16_64, 7) X(attention_wgmma_bf16_128, 7) X(attention_wgmma_f16_64, 7) X(attention_wgmma_f16_128, 7) \
    X(selective_chunks, 8) X(selective_step, 8) X(ssd_step, 8) X(gated_step, 8) X(delta_step, 8) \
    X(gated_prepare_64, 9) X(gated_prepare_128, 9) X(gated_ends_64, 9) X(gated_ends_128, 9) X(gated_walk_64, 9) X(gated_walk_128, 9) \
    X(step_products, 10) X(step_scan, 10) \
    X(delta_prepare_64, 11) X(delta_prepare_128, 11) X(delta_ends_64, 11) X(delta_ends_128, 11) \
    X(delta_join_64, 11) X(delta_join_128, 11) X(delta_walk_64, 11) X(delta_walk_128, 11)
#define CUDA_OWN_IMAGES 12
typedef enum cuda_own_kernel {
#define CUDA_OWN(name, image) CUDA_OWN_##name,
    CUDA_OWN_KERNELS(CUDA_OWN)
#undef CUDA_OWN
    CUDA_N_OWN
} cuda_own_kernel;

typedef struct cuda_device {
    strand_plugin_device base;
    CUdevice id;
    CUcontext context;
    CUstream stream;
    CUstream side; /* what libraries do is captured there for a recording; NULL until then */
    CUmodule modules[GPU_N_KERNELS]; /* one image holds a family; those that are loaded, by the first kernel that asked */
    CUfunction kernels[GPU_N_KERNELS];
    cuda_half halves[2];
    uint32_t current;
    strand_plugin_buffer fault;
    int32_t *fault_words; /* the same memory, seen by the host */
    uint64_t point;
    cuda_pool pool;
    cuda_blas *blas; /* cuBLASLt, or NULL */
    bool tensor_cores, own_missing; /* own_missing: there is no code of our own kernels for this device */
    bool long_conv;                 /* is there of the long convolution's? */
    __typeof__(&cuTensorMapEncodeTiled) encode; /* tensor maps; NULL: kernels of 9.0 alone (architecture 90a) are not wanted */
    bool refusal_told;              /* that the driver makes no tensor map */
    uint32_t shared_bytes;          /* that a group may ask for */
    CUmodule own_modules[CUDA_OWN_IMAGES];
    CUfunction own_kernels[CUDA_N_OWN];
} cuda_device;

static inline cuda_device *cuda_of(strand_plugin_device *d) {
    return (cuda_device *)(void *)d; /* base is its first field */
}

/* Turns a CUDA error into a status with a line. */
strand_plugin_status cuda_check(const strand_host *host, CUresult error, const char *what);

/* The address of a tensor's first element, `elements` further on. */
static inline CUdeviceptr cuda_address(const strand_plugin_tensor *t, int64_t elements) {
    return t->memory.buffer->memory + t->memory.offset + (uint64_t)(elements * cpu_element_bytes(t->dtype));
}
/* The same of weights, which may be quantised. */
static inline CUdeviceptr cuda_weights(const strand_plugin_tensor *t, int64_t elements) {
    return cpu_is_quantised(t->dtype) ? cuda_address(t, 0) + (uint64_t)gpu_steps(t, elements) : cuda_address(t, elements);
}
/* Of an operand that may be absent: `none` then, an address of any kind that is never read. */
static inline CUdeviceptr cuda_address_or(const strand_plugin_tensor *t, int64_t elements, CUdeviceptr none) {
    return t ? cuda_address(t, elements) : none;
}
/* Of what y's batch entry `begin` reads of it. */
static inline CUdeviceptr cuda_entry(const strand_plugin_tensor *t, const strand_plugin_tensor *y, int64_t begin,
                                     CUdeviceptr none) {
    return t ? cuda_address(t, (cpu_lead(t, 0, y, 0) + begin) * t->strides[0]) : none;
}
/* The first n strides of t; none of an absent one. */
static inline void cuda_strides(int *to, const strand_plugin_tensor *t, int n) {
    for (int i = 0; i < n && t; i++) to[i] = (int)t->strides[i];
}

/* device.c. Every entry may come on another thread: the context is made current each time. */
strand_plugin_status cuda_current(cuda_device *d);
/* Launches a kernel, or adds it to the segment (not NULL). */
strand_plugin_status cuda_launch(cuda_device *d, strand_plugin_segment *segment, CUfunction function, const uint32_t groups[3],
                                 uint32_t group, uint32_t shared, void **arguments, const char *name);

/* memory.c: buffers, from a pool where there is one. */
void cuda_pool_open(cuda_device *d);
void cuda_pool_close(cuda_device *d);

/* segments.c: one more link of a recording; and what is given to d->side between begin and end (keep: it becomes a link). */
strand_plugin_status cuda_segment_launch(cuda_device *d, strand_plugin_segment *segment, CUfunction function,
                                         const uint32_t groups[3], uint32_t group, uint32_t shared, void **arguments,
                                         const char *name);
strand_plugin_status cuda_capture_begin(cuda_device *d);
strand_plugin_status cuda_capture_end(cuda_device *d, strand_plugin_segment *segment, bool keep);

/* own.c: what this driver does in its own way. */
extern const gpu_own cuda_own;
bool cuda_blas_is_first(const cuda_device *d, const strand_plugin_node *node); /* is this product cuBLASLt's? */

/* blas.c: large products by cuBLASLt. Opening it finds no library: d->blas stays NULL, which is no error. */
void cuda_blas_open(cuda_device *d);
void cuda_blas_close(cuda_device *d);
bool cuda_blas_takes(const cuda_device *d, const strand_plugin_node *node);
uint64_t cuda_blas_scratch(cuda_device *d, const strand_plugin_node *node);
strand_plugin_status cuda_blas_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                   bool *done);

/* tensor.c: attention and products on tensor cores. */
bool cuda_tensor_wanted(CUdevice id); /* STRAND_CUDA_TENSOR_CORES=0: never */
bool cuda_wgmma_wanted(CUdevice id);  /* on 9.0 alone; STRAND_CUDA_TENSOR_CORES=mma: never */
void cuda_tensor_open(cuda_device *d);
void cuda_tensor_close(cuda_device *d);
bool cuda_tensor_takes(const cuda_device *d, const strand_plugin_node *node);
bool cuda_tensor_takes_row(const strand_plugin_node *node); /* one row by weights [N, K] */
/* Would they multiply these factors, had the product rows enough? */
bool cuda_tensor_products(const cuda_device *d, const strand_plugin_node *node);
uint64_t cuda_tensor_scratch(const cuda_device *d, const strand_plugin_node *node);
strand_plugin_status cuda_tensor_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                     bool *done);
/* One of our own kernels; shared: its launches ask for shared memory, up to all that a group may have. NULL with no error
 * where the plugin was built without code for the device: then the common kernels run. */
strand_plugin_status cuda_own_find(cuda_device *d, cuda_own_kernel kernel, bool shared, CUfunction *function);

/* hyena.c: layers of HyenaDNA as groups of nodes; claim: how many nodes from the first on are one. */
bool cuda_hyena_product(const strand_plugin_node *node);
uint32_t cuda_hyena_claim(cuda_device *d, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed);
uint64_t cuda_hyena_scratch(cuda_device *d, const strand_plugin_node *nodes, uint32_t n);
strand_plugin_status cuda_hyena_run(cuda_device *d, const strand_plugin_node *nodes, uint32_t n,
                                    const strand_plugin_memory *scratch);

/* steps.c: one token's nodes, which wait while a graph is recorded and become few launches. take: *done where the node waits;
 * what waited before it is recorded first where it does not. end: all that waits is recorded. */
typedef struct cuda_steps cuda_steps;
strand_plugin_status cuda_steps_take(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                     bool *done);
strand_plugin_status cuda_steps_end(cuda_device *d);
void cuda_steps_free(cuda_device *d, cuda_steps *w);
cuda_steps **cuda_segment_steps(strand_plugin_segment *segment); /* segments.c: what waits for this recording, or NULL */

/* long_conv.c: long convolutions on tensor cores. Opening it where they cannot be is no error. */
void cuda_long_conv_open(cuda_device *d);
uint64_t cuda_long_conv_scratch(const cuda_device *d, const strand_plugin_node *node);
uint64_t cuda_long_conv_prepare_size(const cuda_device *d, const strand_plugin_node *node);
strand_plugin_status cuda_long_conv_prepare(cuda_device *d, const strand_plugin_node *node,
                                            const strand_plugin_memory *scratch);
strand_plugin_status cuda_long_conv_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                        bool *done);

/* ssd.c: SSD, gated linear attention and the delta rule of many tokens on tensor cores. */
uint64_t cuda_ssd_scratch(const cuda_device *d, const strand_plugin_node *node);
strand_plugin_status cuda_ssd_run(cuda_device *d, const strand_plugin_node *node, const strand_plugin_memory *scratch,
                                  bool *done);

/* scans.c: selective scans in one pass; few tokens of scans and matrix states. */
strand_plugin_status cuda_scans_run(cuda_device *d, const strand_plugin_node *node, bool *done);

/* images.c: the compiled code (a fat binary) of the family that a kernel belongs to, and the family's number. */
const void *cuda_image_of(gpu_kernel kernel, uint32_t *family);
/* NULL: nvcc did not know the architecture. */
const void *cuda_own_image_of(cuda_own_kernel kernel, uint32_t *image, const char **name);

#endif

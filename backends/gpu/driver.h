/* driver.h - what the common part of the GPU plugins asks of each of them: devices, memory, a queue, and the dispatch of one
 * kernel. vulkan/, opencl/ and cuda/ implement these functions; the operators (ops_*.c), the kernels (kernels/) and the ABI's
 * table (plugin.c) are common.
 *
 * Invariants: calls on one device come from one thread at a time (the lock in plugin.c sees to it); work is done in the order
 * given; every function leaves a line with gpu_fail before it returns an error. */
#ifndef STRAND_GPU_DRIVER_H
#define STRAND_GPU_DRIVER_H

#include <pthread.h>
#include <stdbool.h>

#include "strand_plugin.h"

typedef enum gpu_kernel {
#define GPU_KERNEL(name, bindings, group) GPU_K_##name,
#include "gpu_kernels.inc"
#undef GPU_KERNEL
    GPU_N_KERNELS
} gpu_kernel;

typedef struct gpu_kernel_info {
    const char *name;
    uint32_t bindings, group;
} gpu_kernel_info;
extern const gpu_kernel_info gpu_kernels[GPU_N_KERNELS];

#define GPU_MOST_BINDINGS 12
#define GPU_MOST_PARAMS 64 /* words; the last three are the groups before the dispatch's first (dialect.md) */
#define GPU_FIRST_GROUP 61

typedef struct gpu_limits {
    uint32_t shared_bytes;      /* of a work group */
    uint32_t bindings;          /* buffers of one kernel, its parameters not counted */
    uint32_t groups_x, groups_y;/* largest dispatch */
    uint32_t group;             /* largest work group */
    uint64_t binding_bytes;     /* largest range of a buffer that a kernel sees */
    uint64_t buffer_bytes;      /* largest buffer; 0: as large as the memory */
    bool software;              /* the device is a processor */
    bool slow_barriers;         /* items that wait for one another cost more than what they share (llvmpipe) */
    bool matrices;              /* matmul_half is of the device's matrices of halves */
    uint64_t offset_alignment;  /* of a binding; what is left over goes to the kernel as an offset */
} gpu_limits;

struct strand_plugin_instance {
    const strand_host *host;
};

/* What a driver does in its own way. It is asked before the common kernels: run says in *done whether it did the node. All
 * may be asked about any accepted node; scratch says what run and prepare may need, and grows with the extents.
 * prepare_size: 0 where the node is prepared in the common way; else prepare makes the constant, in a form of the driver's
 * own. */
typedef struct gpu_own {
    uint64_t (*scratch)(strand_plugin_device *device, const strand_plugin_node *node);
    uint64_t (*prepare_size)(strand_plugin_device *device, const strand_plugin_node *node);
    strand_plugin_status (*prepare)(strand_plugin_device *device, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch);
    strand_plugin_status (*run)(strand_plugin_device *device, const strand_plugin_node *node,
                                const strand_plugin_memory *scratch, bool *done);
    /* Groups of nodes (the ABI's claim, and what it brings with it); all three or none. A group is run whole. */
    uint32_t (*claim)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed);
    uint64_t (*group_scratch)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n);
    strand_plugin_status (*group_run)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n,
                                      const strand_plugin_memory *scratch);
} gpu_own;

/* Drivers put their own fields after this one. */
struct strand_plugin_device {
    strand_plugin_instance *instance;
    const strand_host *host;
    const gpu_own *own; /* or NULL */
    gpu_limits limits;
    pthread_mutex_t lock;
    bool lost;              /* after a device error everything fails */
    strand_plugin_segment *segment; /* dispatches are recorded there instead of being made; NULL: they are made */
    uint64_t private_bytes; /* of the device structure, for freeing it */
};

/* A range of a buffer: [offset, offset + bytes), offset a multiple of the device's offset_alignment. */
typedef struct gpu_binding {
    strand_plugin_buffer *buffer;
    uint64_t offset, bytes;
} gpu_binding;

typedef struct gpu_dispatch {
    gpu_kernel kernel;
    uint32_t n_bindings, n_params;
    gpu_binding bindings[GPU_MOST_BINDINGS];
    int32_t params[GPU_MOST_PARAMS];
    uint32_t groups[3];
} gpu_dispatch;

/* Says a line through the host and returns the status. */
strand_plugin_status gpu_fail(const strand_host *host, strand_plugin_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Lines "name=value" in a buffer that may be too short: what does not fit is left out. */
typedef struct gpu_text {
    char *at;
    size_t room;
} gpu_text;
void gpu_say(gpu_text *text, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

extern const char gpu_name[], gpu_description[];
extern const int32_t gpu_score_value;

strand_plugin_status driver_open(const strand_host *host, strand_plugin_instance **instance);
void driver_close(strand_plugin_instance *instance);
uint32_t driver_device_count(strand_plugin_instance *instance);
strand_plugin_status driver_device_info(strand_plugin_instance *instance, uint32_t index, strand_plugin_device_info *info);
/* Pushes what the device is and what is used of it, with gpu_say. */
strand_plugin_status driver_device_features(strand_plugin_instance *instance, uint32_t index, gpu_text *text);
/* Fills everything but `lock`. */
strand_plugin_status driver_device_open(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device);
void driver_device_close(strand_plugin_device *device);

strand_plugin_status driver_buffer_create(strand_plugin_device *device, uint64_t bytes, strand_plugin_buffer **buffer);
void driver_buffer_destroy(strand_plugin_device *device, strand_plugin_buffer *buffer);
strand_plugin_status driver_upload(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset,
                                   const void *from, uint64_t bytes);
strand_plugin_status driver_download(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes);
strand_plugin_status driver_copy(strand_plugin_device *device, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes);
strand_plugin_status driver_dispatch(strand_plugin_device *device, const gpu_dispatch *dispatch);

/* Recordings of dispatches that are run again and again (segment_... of strand_plugin.h): the same kernels, buffers and
 * parameters in the same order. A driver without them links segments_none.c, which refuses to make one. Buffers outlive the
 * recordings that name them. */
strand_plugin_status driver_segment_create(strand_plugin_device *device, strand_plugin_segment **segment);
strand_plugin_status driver_segment_dispatch(strand_plugin_device *device, strand_plugin_segment *segment,
                                             const gpu_dispatch *dispatch);
strand_plugin_status driver_segment_run(strand_plugin_device *device, strand_plugin_segment *segment);
void driver_segment_destroy(strand_plugin_device *device, strand_plugin_segment *segment);

strand_plugin_status driver_submit(strand_plugin_device *device, uint64_t *point);
strand_plugin_status driver_wait(strand_plugin_device *device, uint64_t point);

/* A few words that kernels may write when an input is out of range (see gpu_fault_... in gpu.h); read and cleared by
 * driver_wait's caller. Lives as long as the device. */
strand_plugin_buffer *driver_fault_buffer(strand_plugin_device *device);
/* Reads the words after a wait; true when a kernel has written there. They are zero again afterwards. */
bool driver_take_fault(strand_plugin_device *device, int32_t fault[4]);

#endif

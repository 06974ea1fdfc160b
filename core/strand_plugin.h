/* strand_plugin.h - the plugin ABI: the one header that a backend includes.
 *
 * It brings strand_ops.h, the operators and their parameters, with it.
 *
 * A plugin is a shared object named strand-*.so that exports one symbol, strand_plugin_entry. It links nothing of Strand: what
 * it needs of the host comes through the strand_host table. In a static build the same entry has another name and is called
 * directly (STRAND_PLUGIN_ENTRY_NAME).
 *
 * Invariants
 *  1. The host checks magic, struct size, ABI version and layout before it calls anything but the entry. The entry and `score`
 *     run on the plainest processor of the architecture and touch no device.
 *  2. Structs grow at the end only. The layout table below is frozen for a major version: a struct that a plugin was compiled
 *     with another shape of is refused by the name of the field. A slot is used only if it lies inside the given size and is
 *     not NULL.
 *  3. Operators are (id, version) pairs. Ids are never renumbered. What a plugin does not list is never offered to it.
 *  4. `supports` and `launch` share one predicate: what was accepted must run. A launch on a shape that was accepted may fail
 *     only because the device failed.
 *  5. Work on one device runs in the order in which it was given (upload, launch, download), possibly later than the call. A
 *     host pointer given to upload or download stays valid until `wait` has passed the point that `submit` returned. The node
 *     descriptions given to launch and prepare are good during the call alone (params and names as long as the model).
 *  6. Every output byte depends on the operator's inputs, shapes and whole extents alone: not on how the host cut tiles, on
 *     the number of threads, or on other entries of the batch.
 *  7. Nothing aborts, exits or prints. Every call returns a status and may leave a line of text with host->fail.
 */
#ifndef STRAND_PLUGIN_H
#define STRAND_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#include "strand_ops.h"

#ifdef __cplusplus
extern "C" {
#endif

#define STRAND_PLUGIN_MAGIC 0x444e415254530001ull /* "STRAND", form 1 */
#define STRAND_PLUGIN_ABI_MAJOR 1
#ifndef STRAND_PLUGIN_ABI_MINOR
#define STRAND_PLUGIN_ABI_MINOR 3 /* 1.1 added claim; 1.2 device_features, copy, the segments and buffer_limit; 1.3: see
                                     claim */
#endif
#define STRAND_PLUGIN_RANK 4
#define STRAND_PLUGIN_MAX_INPUTS 10
#define STRAND_PLUGIN_MAX_OUTPUTS 2
#define STRAND_PLUGIN_PARAMS 64 /* bytes of operator parameters at most */

/* Status values are those of strand.h (strand_status); repeated so that a plugin needs one header. */
typedef int32_t strand_plugin_status;
#define STRAND_PLUGIN_OK 0
#define STRAND_PLUGIN_ERR_ARGUMENT 1
#define STRAND_PLUGIN_ERR_MEMORY 2
#define STRAND_PLUGIN_ERR_UNSUPPORTED 5
#define STRAND_PLUGIN_ERR_DEVICE 7
#define STRAND_PLUGIN_ERR_CANCELLED 8

/* ---- what a launch is given -------------------------------------------------------------------------------------------- */

typedef struct strand_plugin_instance strand_plugin_instance; /* the plugin's own */
typedef struct strand_plugin_device strand_plugin_device;     /* the plugin's own */
typedef struct strand_plugin_buffer strand_plugin_buffer;     /* the plugin's own; host-memory devices have none */
typedef struct strand_plugin_segment strand_plugin_segment;   /* the plugin's own: launches that were recorded */

/* Memory of a device: an address on host-memory devices, else a place in a buffer. */
typedef struct strand_plugin_memory {
    void *data;
    strand_plugin_buffer *buffer;
    uint64_t offset; /* bytes */
    uint64_t bytes;
} strand_plugin_memory;

#define STRAND_TENSOR_CONSTANT 1u /* depends on weights alone */
#define STRAND_TENSOR_INTERNAL 2u /* lives inside a claimed group: has no memory */

/* A view of a tensor: the whole of it, or the tile of it that this launch reads or writes. Element [i0,i1,i2,i3] of the view
 * stands at data[sum i*strides] and is element [i0+origin0, ...] of the whole. The last stride is 1. */
typedef struct strand_plugin_tensor {
    uint32_t dtype;
    uint32_t rank;
    int64_t dims[STRAND_PLUGIN_RANK];
    int64_t strides[STRAND_PLUGIN_RANK]; /* in elements */
    int64_t origin[STRAND_PLUGIN_RANK];
    int64_t whole[STRAND_PLUGIN_RANK];
    uint32_t flags;
    uint32_t id; /* equal ids, not 0, are one tensor of the model: how a group's nodes hang together; 0 when absent or not
                    told */
    strand_plugin_memory memory; /* of the first element of the view; empty while asking supports or claim */
} strand_plugin_tensor;

/* One operator to judge or to run. While judging, shapes are the plan's maximum and inputs may have any extent up to it. */
typedef struct strand_plugin_node {
    uint32_t op, version;
    uint32_t n_inputs, n_outputs;
    const strand_plugin_tensor *inputs;
    const strand_plugin_tensor *outputs;
    const void *params; /* the strand_op_... struct of the operator */
    const char *name;
    /* What `prepare` made of this node, or empty: the host may choose to keep nothing, then launch makes what it needs in its
     * scratch. When it is there, the inputs from which it was made (the filter of LONG_CONV) have no memory. */
    strand_plugin_memory prepared;
} strand_plugin_node;

/* ---- the host's services ------------------------------------------------------------------------------------------------ */

typedef struct strand_host {
    uint32_t size;
    uint32_t abi_major, abi_minor;
    uint32_t cpu_mask; /* features to hide: bit 0 x86-64-v3, bit 1 x86-64-v4, bit 2 AVX512-BF16 and AVX512-VNNI */
    void *context;
    void *(*alloc)(void *context, uint64_t bytes, uint64_t align); /* the application's allocator; NULL when exhausted */
    void (*free)(void *context, void *block, uint64_t bytes);
    /* Runs body(arg, i, worker) for every i in [0, n); worker < workers(context). Returns when all are done. */
    void (*parallel_for)(void *context, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg);
    int32_t (*workers)(void *context);
    void (*log)(void *context, int32_t level, const char *text);
    /* Keeps the text for the status that the plugin is about to return. */
    void (*fail)(void *context, const char *text);
} strand_host;

/* ---- what a plugin offers ------------------------------------------------------------------------------------------------ */

#define STRAND_DEVICE_HOST_MEMORY 1u /* reads and writes host pointers; has no buffers, upload or download */
#define STRAND_DEVICE_ASYNC 2u       /* calls return before the work is done */
#define STRAND_DEVICE_SOFTWARE 4u    /* a processor in disguise: used when it is named, never by itself */

typedef struct strand_plugin_device_info {
    uint32_t size;
    uint32_t flags;
    uint64_t memory;    /* bytes, 0 when it is the host's */
    uint64_t alignment; /* of every tensor, at least 16; a power of two, at most 4096 */
    char name[32];      /* "" or the part after ':' in "vulkan:0" */
    char description[256];
} strand_plugin_device_info;

/* The function table. `why` buffers get one line without newline. */
typedef struct strand_plugin_api {
    uint32_t size;
    uint32_t reserved;
    strand_plugin_status (*open)(const strand_host *host, strand_plugin_instance **instance);
    void (*close)(strand_plugin_instance *instance);
    uint32_t (*device_count)(strand_plugin_instance *instance);
    strand_plugin_status (*device_info)(strand_plugin_instance *instance, uint32_t index, strand_plugin_device_info *info);
    strand_plugin_status (*device_open)(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device);
    void (*device_close)(strand_plugin_device *device);

    /* Memory; NULL slots on host-memory devices. */
    strand_plugin_status (*buffer_create)(strand_plugin_device *device, uint64_t bytes, strand_plugin_buffer **buffer);
    void (*buffer_destroy)(strand_plugin_device *device, strand_plugin_buffer *buffer);
    strand_plugin_status (*upload)(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset,
                                   const void *from, uint64_t bytes);
    strand_plugin_status (*download)(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes);

    /* The queue. NULL slots mean that every call is done when it returns. */
    strand_plugin_status (*submit)(strand_plugin_device *device, uint64_t *point);
    strand_plugin_status (*wait)(strand_plugin_device *device, uint64_t point);

    /* Operators. */
    strand_plugin_status (*supports)(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes);
    /* Working memory that launch needs for these nodes (one, or a claimed group), at any extent up to the given one. */
    uint64_t (*scratch_size)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n);
    /* Bytes of what the node wants made of its constant inputs (a spectrum, packed weights); 0: nothing. Exact for the given
     * extents, and growing with them. Two nodes with equal extents and tile size have equal sizes. */
    uint64_t (*prepare_size)(strand_plugin_device *device, const strand_plugin_node *node);
    /* Makes it, in node->prepared. Only the constant inputs of the node have memory. `scratch` is as large as scratch_size
     * said. */
    strand_plugin_status (*prepare)(strand_plugin_device *device, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch);
    /* Runs one node, or the nodes of a claimed group in order. */
    strand_plugin_status (*launch)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n,
                                   const strand_plugin_memory *scratch);
#if STRAND_PLUGIN_ABI_MINOR >= 1
    /* Since 1.1. Given n consecutive nodes on this device, returns how many from the first on it takes as one group (0 or 1:
     * none). `needed` has one byte a node: nonzero when the node's output is used outside the n nodes or is followed by a use
     * after the group would end; the group may have such an output only at its last node. Results must have the bytes that the
     * nodes have one by one. Tiles are cut along the same axis for all nodes of a group.
     * Since 1.3 there may be nodes among them for which something is prepared: prepared.bytes is not 0 then (no memory is
     * told). */
    uint32_t (*claim)(strand_plugin_device *device, const strand_plugin_node *nodes, uint32_t n, const uint8_t *needed);
#endif
#if STRAND_PLUGIN_ABI_MINOR >= 2
    /* Since 1.2; may be NULL, as all that follows. What the device is and what the plugin uses of it, one "name=value" a line
     * ('\n' between them): "type" and "driver" where there are such, then the features. Like device_info, on any device. */
    strand_plugin_status (*device_features)(strand_plugin_instance *instance, uint32_t index, char *text, size_t bytes);

    /* Copies inside the device's memory, in the order of the queue; the ranges do not overlap. Devices that have it keep the
     * states of a session: without it those go to the host and back in every run. */
    strand_plugin_status (*copy)(strand_plugin_device *device, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes);

    /* Segments: launches that are recorded once and then run again and again with the same nodes, extents and memory (all four
     * slots or none). `create` begins an empty one, or returns UNSUPPORTED where the device has no use for them; `launch` takes
     * the next one like its namesake and runs nothing; `run` runs all in the queue's order. UNSUPPORTED from it: nothing ran
     * or ever will; the host destroys it and launches node by node. What came before the first run stays, buffers live, nothing
     * is added after it. Other work may be given to the device between any two calls, from any thread, no part of it.
     * `destroy` may come while a run is under way, and before the buffers are destroyed. */
    strand_plugin_status (*segment_create)(strand_plugin_device *device, strand_plugin_segment **segment);
    strand_plugin_status (*segment_launch)(strand_plugin_device *device, strand_plugin_segment *segment,
                                           const strand_plugin_node *nodes, uint32_t n, const strand_plugin_memory *scratch);
    strand_plugin_status (*segment_run)(strand_plugin_device *device, strand_plugin_segment *segment);
    void (*segment_destroy)(strand_plugin_device *device, strand_plugin_segment *segment);

    /* Bytes of the largest buffer that the device gives, or 0: as large as its memory. A session that needs more gets several,
     * each tensor whole in one of them. */
    uint64_t (*buffer_limit)(strand_plugin_device *device);
#endif
} strand_plugin_api;

typedef struct strand_plugin_op {
    uint32_t op, version;
} strand_plugin_op;

/* Filled by the plugin. `capacity` is set by the host to the bytes it owns: write no further. */
typedef struct strand_plugin {
    uint64_t magic;
    uint32_t capacity;
    uint32_t size; /* sizeof(strand_plugin) as the plugin knows it */
    uint32_t abi_major, abi_minor;
    uint64_t layout_hash;
    const uint32_t *layout; /* strand_plugin_layout(): sizes and offsets as the plugin was compiled with */
    uint32_t n_layout;
    uint32_t n_ops;
    const strand_plugin_op *ops;
    const char *name; /* "cpu"; a-z, 0-9 and '-' */
    const char *version;
    const char *description;
    /* 0: cannot run here, `why` says what is missing. Else higher is better among plugins of one name. 1: good for those who
     * name it, and for nobody else (a software device, a judge of tests): nothing of it is opened until then. Cheap: opens
     * nothing. */
    int32_t (*score)(const strand_host *host, char *why, size_t why_bytes);
    const strand_plugin_api *api;
} strand_plugin;

/* ---- the frozen layout --------------------------------------------------------------------------------------------------- */

/* Every size and offset that two sides compiled apart must agree on, as frozen at ABI 1.0. Appended slots do not enter. */
#define STRAND_PLUGIN_LAYOUT(FIELD, SIZE)                                                                                      \
    FIELD(strand_plugin_memory, buffer) FIELD(strand_plugin_memory, offset) FIELD(strand_plugin_memory, bytes)                 \
    SIZE(strand_plugin_memory)                                                                                                 \
    FIELD(strand_plugin_tensor, dims) FIELD(strand_plugin_tensor, strides) FIELD(strand_plugin_tensor, origin)                 \
    FIELD(strand_plugin_tensor, whole) FIELD(strand_plugin_tensor, flags) FIELD(strand_plugin_tensor, memory)                  \
    SIZE(strand_plugin_tensor)                                                                                                 \
    FIELD(strand_plugin_node, n_inputs) FIELD(strand_plugin_node, inputs) FIELD(strand_plugin_node, outputs)                   \
    FIELD(strand_plugin_node, params) FIELD(strand_plugin_node, name) FIELD(strand_plugin_node, prepared)                      \
    SIZE(strand_plugin_node)                                                                                                   \
    FIELD(strand_host, context) FIELD(strand_host, alloc) FIELD(strand_host, free) FIELD(strand_host, parallel_for)            \
    FIELD(strand_host, workers) FIELD(strand_host, log) FIELD(strand_host, fail)                                               \
    FIELD(strand_plugin_device_info, flags) FIELD(strand_plugin_device_info, memory)                                           \
    FIELD(strand_plugin_device_info, alignment) FIELD(strand_plugin_device_info, name)                                         \
    FIELD(strand_plugin_device_info, description) SIZE(strand_plugin_device_info)                                              \
    FIELD(strand_plugin_api, open) FIELD(strand_plugin_api, close) FIELD(strand_plugin_api, device_count)                      \
    FIELD(strand_plugin_api, device_info) FIELD(strand_plugin_api, device_open) FIELD(strand_plugin_api, device_close)         \
    FIELD(strand_plugin_api, buffer_create) FIELD(strand_plugin_api, buffer_destroy) FIELD(strand_plugin_api, upload)          \
    FIELD(strand_plugin_api, download) FIELD(strand_plugin_api, submit) FIELD(strand_plugin_api, wait)                         \
    FIELD(strand_plugin_api, supports) FIELD(strand_plugin_api, scratch_size) FIELD(strand_plugin_api, prepare_size)           \
    FIELD(strand_plugin_api, prepare) FIELD(strand_plugin_api, launch)

#define STRAND_LAYOUT_FIELD(s, f) (uint32_t)offsetof(s, f),
#define STRAND_LAYOUT_SIZE(s) (uint32_t)sizeof(s),
#define STRAND_LAYOUT_ONE_F(s, f) +1
#define STRAND_LAYOUT_ONE_S(s) +1
#define STRAND_PLUGIN_N_LAYOUT (0 STRAND_PLUGIN_LAYOUT(STRAND_LAYOUT_ONE_F, STRAND_LAYOUT_ONE_S))

/* The layout that this compilation sees. */
static inline const uint32_t *strand_plugin_layout(void) {
    static const uint32_t layout[] = {STRAND_PLUGIN_LAYOUT(STRAND_LAYOUT_FIELD, STRAND_LAYOUT_SIZE)};
    return layout;
}

/* FNV-1a over the layout. */
static inline uint64_t strand_plugin_layout_hash(void) {
    const uint32_t *layout = strand_plugin_layout();
    uint64_t h = 14695981039346656037ull;
    int i, byte;
    for (i = 0; i < STRAND_PLUGIN_N_LAYOUT; i++)
        for (byte = 0; byte < 4; byte++) {
            h ^= (layout[i] >> (8 * byte)) & 255u;
            h *= 1099511628211ull;
        }
    return h;
}

/* The one exported symbol. Fills `plugin` (whose capacity the host has set) and returns STRAND_PLUGIN_OK; calls nothing. */
typedef strand_plugin_status (*strand_plugin_entry_fn)(const strand_host *host, strand_plugin *plugin);
#ifndef STRAND_PLUGIN_ENTRY_NAME
#define STRAND_PLUGIN_ENTRY_NAME strand_plugin_entry
#endif
#if defined(__GNUC__)
#define STRAND_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define STRAND_PLUGIN_EXPORT
#endif

#ifdef __cplusplus
}
#endif
#endif

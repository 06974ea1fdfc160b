/* vulkan.h - what the files of the Vulkan driver share. Vulkan 1.1 core; nothing beyond it is required.
 *
 * Work is recorded into batches: a command buffer with its descriptor sets, its parameters and its share of host-visible
 * staging memory. A batch is submitted when the host asks, or when it is full, and used again when it has passed: its number
 * has come up on the timeline semaphore, or, on devices without one, its fence has. A barrier stands before every command
 * that touches what an earlier one wrote, or writes what one read (hazards.c), so everything happens as if in the order
 * given. Segments are secondary command buffers that batches execute (segment.c). */
#ifndef STRAND_VULKAN_H
#define STRAND_VULKAN_H

#include <vulkan/vulkan.h>

#include "cooperative.h"
#include "driver.h"

#define VK_DEVICES     16
#define VK_BATCHES     8
#define VK_DISPATCHES  256                  /* of a batch */
#define VK_PARAM_BYTES 256                  /* of a dispatch */
#define VK_STAGING     ((uint64_t)8 << 20)  /* bytes of a batch */
#define VK_READS       256                  /* downloads of a batch */
#define VK_PAGE        128                  /* dispatches of one page of a segment */
#define VK_RANGES      128                  /* of memory that are remembered from one barrier to the next; more than a
                                               dispatch's bindings */

typedef struct vk_instance {
    strand_plugin_instance base;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger; /* with STRAND_VULKAN_VALIDATE */
    uint32_t version;                   /* that the instance speaks: 1.1 or 1.2 */
    uint32_t n_devices;
    VkPhysicalDevice devices[VK_DEVICES];
    uint32_t families[VK_DEVICES];
} vk_instance;

typedef enum vk_timeline { VK_TIMELINE_NONE, VK_TIMELINE_CORE, VK_TIMELINE_EXTENSION } vk_timeline;

/* What kernels may be compiled for (variants.list), a bit each. HARDWARE: the device is no processor. */
enum {
    VK_HAS_SUBGROUPS = 1, /* basic operations and shuffles in compute shaders */
    VK_HAS_HALVES16 = 2,  /* 16-bit numbers in storage buffers */
    VK_HAS_BYTES8 = 4,    /* 8-bit numbers in storage buffers */
    VK_HAS_FLOAT16 = 8,   /* f16 arithmetic */
    VK_HAS_HARDWARE = 16,
    VK_HAS_COOPERATIVE = 32 /* matrices of halves; FLOAT16 is needed with it */
};

/* The features and extensions that a device is opened with beyond Vulkan 1.1, timeline semaphores aside. */
typedef struct vk_features {
    uint32_t has, subgroup; /* items of a subgroup */
    bool sized;             /* pipelines may ask for full subgroups of that many */
    bool tiny_halves;       /* modules that read halves must ask for those below 2^-14 to be kept */
    uint32_t n_extensions;
    const char *extensions[8];
    void *chain; /* of the structures below, for pNext of vkCreateDevice; NULL: none */
    VkPhysicalDevice16BitStorageFeatures halves;
    VkPhysicalDevice8BitStorageFeatures bytes;
    VkPhysicalDeviceShaderFloat16Int8Features float16;
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes;
    uint32_t shape[3]; /* of cooperative matrices: M, N, K */
    bool intel;        /* whose matrices need subgroups of a size that the driver chooses */
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrices;
    VkPhysicalDeviceVulkanMemoryModelFeatures model;
} vk_features;

struct strand_plugin_buffer {
    VkBuffer buffer;
    VkDeviceMemory memory;
    unsigned char *mapped; /* host-visible ones */
    uint64_t bytes;
};

/* A download that is finished by copying from staging when its batch has passed. */
typedef struct vk_read {
    uint64_t at, bytes;
    void *to;
} vk_read;

/* Descriptor sets and parameters of some dispatches. */
typedef struct vk_page {
    VkDescriptorPool descriptors;
    strand_plugin_buffer params;
    uint32_t used, room; /* dispatches */
    struct vk_page *next;
} vk_page;

/* Bytes [from, to) of a buffer that a command reads, or reads and writes. */
typedef struct vk_range {
    VkBuffer buffer;
    uint64_t from, to;
    bool written;
} vk_range;

/* What a command buffer's commands have touched since its last barrier. */
typedef struct vk_hazards {
    bool unknown; /* anything */
    uint32_t n;
    vk_range ranges[VK_RANGES];
} vk_hazards;

typedef struct vk_batch {
    VkCommandBuffer commands;
    vk_hazards hazards;
    VkFence fence; /* where there is no timeline */
    vk_page page;
    strand_plugin_buffer staging;
    uint32_t n_reads;
    uint64_t staged; /* bytes in use */
    vk_read reads[VK_READS];
    uint64_t point; /* of its submission; 0: not submitted */
    bool recording;
} vk_batch;

typedef struct vk_device {
    strand_plugin_device base;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    VkPhysicalDeviceMemoryProperties memory;
    vk_features features;
    VkCommandPool pool;
    VkDescriptorSetLayout set_layouts[GPU_MOST_BINDINGS + 2]; /* by number of buffers, parameters included */
    VkPipelineLayout layouts[GPU_MOST_BINDINGS + 2];
    VkPipeline pipelines[GPU_N_KERNELS]; /* made when first used */
    uint32_t writes[GPU_N_KERNELS];      /* bit i: the kernel of that pipeline may write its buffer i */
    VkSemaphore timeline; /* counts the batches that have passed; NULL: fences do */
    PFN_vkWaitSemaphores wait;
    vk_batch batches[VK_BATCHES];
    uint32_t current;
    uint64_t last_point;
    strand_plugin_buffer fault;
} vk_device;

static inline vk_device *vk_of(strand_plugin_device *d) {
    return (vk_device *)(void *)d; /* base is its first field */
}

/* Turns a VkResult into a status with a line; VK_SUCCESS gives OK. */
strand_plugin_status vk_check(const strand_host *host, VkResult result, const char *what);

/* features.c: what of the device is used, by what it reports and STRAND_VULKAN_FEATURES. The structure stays where it is. */
void vk_features_of(const vk_instance *x, VkPhysicalDevice device, vk_features *f);
/* A line in the log where STRAND_VULKAN_FEATURES is nothing that is known. */
void vk_features_check(const strand_host *host);
void vk_features_say(const vk_features *f, gpu_text *text);
bool vk_has_extension(VkPhysicalDevice device, const char *name);

/* cooperative.c: are there cooperative matrices that the kernels can use? Then their part of the features is filled in. */
bool vk_cooperative_of(const vk_instance *x, VkPhysicalDevice device, bool core_1_2, vk_features *f);
void vk_cooperative_constants(const vk_features *f, VkSpecializationMapEntry entries[4], uint32_t values[4]);

/* memory.c */
strand_plugin_status vk_buffer_make(vk_device *d, uint64_t bytes, bool host_visible, strand_plugin_buffer *b);
void vk_buffer_drop(vk_device *d, strand_plugin_buffer *b);

/* queue.c */
strand_plugin_status vk_queue_open(vk_device *d);
void vk_queue_close(vk_device *d);
/* The batch that takes commands now, begun if need be. */
strand_plugin_status vk_recording(vk_device *d, vk_batch **batch);
/* Submits the batch at hand, if it holds anything, and turns to the next one, which is waited for. */
strand_plugin_status vk_flush(vk_device *d);
void vk_barrier(VkCommandBuffer commands);
strand_plugin_status vk_page_open(vk_device *d, vk_page *page, uint32_t room);
void vk_page_close(vk_device *d, vk_page *page);
/* Records a dispatch, whose descriptors and parameters the page has room for. */
strand_plugin_status vk_record(vk_device *d, VkCommandBuffer commands, vk_hazards *hazards, vk_page *page,
                               const gpu_dispatch *g);

/* hazards.c */
/* At the beginning of a command buffer, and behind a segment in it: the next command has a barrier. */
void vk_hazards_forget(vk_hazards *h);
/* A barrier if a command that touches these ranges needs one here; the command is recorded next. */
void vk_before(VkCommandBuffer commands, vk_hazards *h, const vk_range *touched, uint32_t n);

/* pipeline.c */
strand_plugin_status vk_pipeline(vk_device *d, gpu_kernel kernel, VkPipeline *pipeline);
strand_plugin_status vk_layouts_open(vk_device *d);
void vk_pipelines_close(vk_device *d);

#endif

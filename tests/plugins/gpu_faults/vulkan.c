/* vulkan.c - the functions of the Vulkan loader that the plugin calls and that may fail, and those that make and destroy.
 *
 * Vulkan's functions are taken from the loader itself. A wait that is told to fail has been done: a real device that is lost
 * has stopped, and lavapipe's threads must not work in memory that is freed. */
#include <vulkan/vulkan.h>

#include "faults.h"

#include <string.h>

#define LOADER "libvulkan.so.1"

#define REAL(name)                                          \
    static PFN_##name real;                                 \
    if (!real) real = (PFN_##name)fault_real(LOADER, #name)

/* A call that fails without having been made; `made` objects otherwise. */
#define MAY_FAIL(name, made, parameters, arguments)                \
    VKAPI_ATTR VkResult VKAPI_CALL name parameters {               \
        int code;                                                  \
        REAL(name);                                                \
        if (fault_now(#name, &code)) return (VkResult)code;        \
        VkResult result = real arguments;                          \
        if (result == VK_SUCCESS) fault_count(made);               \
        return result;                                             \
    }

/* A wait: it is made in any case. */
#define WAITS(name, parameters, arguments)                         \
    VKAPI_ATTR VkResult VKAPI_CALL name parameters {               \
        int code;                                                  \
        REAL(name);                                                \
        bool fails = fault_now(#name, &code);                      \
        VkResult result = real arguments;                          \
        return fails ? (VkResult)code : result;                    \
    }

#define DESTROYS(name, handle, parameters, arguments)              \
    VKAPI_ATTR void VKAPI_CALL name parameters {                   \
        REAL(name);                                                \
        if (handle) fault_count(-1);                               \
        real arguments;                                            \
    }

#define MAKES(name, info, type) \
    MAY_FAIL(name, 1, (VkDevice d, const info *i, const VkAllocationCallbacks *a, type *o), (d, i, a, o))
#define DROPS(name, type) DESTROYS(name, x, (VkDevice d, type x, const VkAllocationCallbacks *a), (d, x, a))

MAY_FAIL(vkCreateInstance, 1, (const VkInstanceCreateInfo *i, const VkAllocationCallbacks *a, VkInstance *o), (i, a, o))
MAY_FAIL(vkCreateDevice, 1, (VkPhysicalDevice p, const VkDeviceCreateInfo *i, const VkAllocationCallbacks *a, VkDevice *o),
         (p, i, a, o))
MAKES(vkAllocateMemory, VkMemoryAllocateInfo, VkDeviceMemory)
MAKES(vkCreateBuffer, VkBufferCreateInfo, VkBuffer)
MAKES(vkCreateCommandPool, VkCommandPoolCreateInfo, VkCommandPool)
MAKES(vkCreateDescriptorPool, VkDescriptorPoolCreateInfo, VkDescriptorPool)
MAKES(vkCreateDescriptorSetLayout, VkDescriptorSetLayoutCreateInfo, VkDescriptorSetLayout)
MAKES(vkCreateFence, VkFenceCreateInfo, VkFence)
MAKES(vkCreateSemaphore, VkSemaphoreCreateInfo, VkSemaphore)
MAKES(vkCreatePipelineLayout, VkPipelineLayoutCreateInfo, VkPipelineLayout)
MAY_FAIL(vkCreateComputePipelines, 1,
         (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,
          VkPipeline *o),
         (d, c, n, i, a, o))
MAY_FAIL(vkAllocateCommandBuffers, 0, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))
MAY_FAIL(vkAllocateDescriptorSets, 0, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o))
MAY_FAIL(vkBeginCommandBuffer, 0, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))
MAY_FAIL(vkEndCommandBuffer, 0, (VkCommandBuffer c), (c))
MAY_FAIL(vkBindBufferMemory, 0, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))
MAY_FAIL(vkMapMemory, 0, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize n, VkMemoryMapFlags f, void **at),
         (d, m, o, n, f, at))
MAY_FAIL(vkQueueSubmit, 0, (VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f), (q, n, s, f))
MAY_FAIL(vkResetDescriptorPool, 0, (VkDevice d, VkDescriptorPool p, VkDescriptorPoolResetFlags f), (d, p, f))
MAY_FAIL(vkResetFences, 0, (VkDevice d, uint32_t n, const VkFence *f), (d, n, f))
WAITS(vkWaitForFences, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t), (d, n, f, all, t))
WAITS(vkDeviceWaitIdle, (VkDevice d), (d))

/* The plugin asks for this function by its name. */
static PFN_vkWaitSemaphores real_wait;

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t t) {
    int code;
    bool fails = fault_now("vkWaitSemaphores", &code);
    VkResult result = real_wait(d, i, t);
    return fails ? (VkResult)code : result;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetDeviceProcAddr(VkDevice d, const char *name) {
    REAL(vkGetDeviceProcAddr);
    PFN_vkVoidFunction found = real(d, name);
    if (!found || strncmp(name, "vkWaitSemaphores", 16) != 0) return found;
    real_wait = (PFN_vkWaitSemaphores)found;
    return (PFN_vkVoidFunction)wait_semaphores;
}

int fault_tiny_halves;
long fault_halves, fault_keeping;
bool fault_plain;

/* What a module declares. */
typedef struct declared {
    bool shuffles, bytes, halves, capability, extension, mode;
} declared;

static declared look(const VkShaderModuleCreateInfo *info) {
    enum { EXTENSION = 10, ENTRY_POINT = 15, EXECUTION_MODE = 16, CAPABILITY = 17 };
    declared d = {0};
    uint32_t entry = 0;
    for (const uint32_t *op = info->pCode + 5, *end = info->pCode + info->codeSize / 4; op < end; op += op[0] >> 16) {
        switch (op[0] & 0xffff) {
        case CAPABILITY:
            d.shuffles = d.shuffles || op[1] == 65;
            d.bytes = d.bytes || op[1] == 4448;
            d.halves = d.halves || op[1] == 4433;
            d.capability = d.capability || op[1] == 4464;
            break;
        case EXTENSION:
            d.extension = d.extension || !strcmp((const char *)(op + 1), "SPV_KHR_float_controls");
            break;
        case ENTRY_POINT:
            entry = op[2];
            break;
        case EXECUTION_MODE: /* DenormPreserve, of 16 bits */
            d.mode = d.mode || (op[1] == entry && op[2] == 4459 && op[3] == 16);
            break;
        }
    }
    return d;
}

VKAPI_ATTR VkResult VKAPI_CALL vkCreateShaderModule(VkDevice d, const VkShaderModuleCreateInfo *i,
                                                    const VkAllocationCallbacks *a, VkShaderModule *o) {
    int code;
    REAL(vkCreateShaderModule);
    if (fault_now("vkCreateShaderModule", &code)) return (VkResult)code;
    const declared has = look(i);
    fault_halves += has.halves;
    fault_keeping += has.capability && has.extension && has.mode;
    if (fault_plain && (has.shuffles || has.bytes || has.halves)) return VK_ERROR_INITIALIZATION_FAILED;
    VkResult result = real(d, i, a, o);
    if (result == VK_SUCCESS) fault_count(1);
    return result;
}

VKAPI_ATTR void VKAPI_CALL vkGetPhysicalDeviceProperties2(VkPhysicalDevice p, VkPhysicalDeviceProperties2 *out) {
    REAL(vkGetPhysicalDeviceProperties2);
    real(p, out);
    if (fault_tiny_halves == FAULT_HALVES_LOST) out->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
    for (VkBaseOutStructure *s = out->pNext; s; s = s->pNext) {
        if (fault_largest && s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES)
            ((VkPhysicalDeviceMaintenance3Properties *)(void *)s)->maxMemoryAllocationSize = fault_largest;
        if (fault_tiny_halves && s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES) {
            VkPhysicalDeviceFloatControlsProperties *c = (void *)s;
            c->shaderDenormPreserveFloat16 = fault_tiny_halves == FAULT_HALVES_KEPT;
            c->denormBehaviorIndependence = VK_SHADER_FLOAT_CONTROLS_INDEPENDENCE_ALL;
        }
    }
}

VKAPI_ATTR VkResult VKAPI_CALL vkEnumeratePhysicalDevices(VkInstance x, uint32_t *n, VkPhysicalDevice *o) {
    int code;
    REAL(vkEnumeratePhysicalDevices);
    if (fault_now("vkEnumeratePhysicalDevices", &code)) return (VkResult)code;
    if (fault_no_device) *n = 0;
    return fault_no_device ? VK_SUCCESS : real(x, n, o);
}

VKAPI_ATTR void VKAPI_CALL vkGetPhysicalDeviceMemoryProperties(VkPhysicalDevice p, VkPhysicalDeviceMemoryProperties *out) {
    REAL(vkGetPhysicalDeviceMemoryProperties);
    real(p, out);
    for (uint32_t i = 0; i < out->memoryHeapCount && fault_memory; i++) out->memoryHeaps[i].size = fault_memory;
}

long fault_commands, fault_barriers;

VKAPI_ATTR void VKAPI_CALL vkCmdDispatch(VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z) {
    REAL(vkCmdDispatch);
    fault_commands++;
    real(c, x, y, z);
}

VKAPI_ATTR void VKAPI_CALL vkCmdCopyBuffer(VkCommandBuffer c, VkBuffer from, VkBuffer to, uint32_t n, const VkBufferCopy *r) {
    REAL(vkCmdCopyBuffer);
    fault_commands++;
    real(c, from, to, n, r);
}

/* Not those at the end of a batch, which are the host's. */
VKAPI_ATTR void VKAPI_CALL vkCmdPipelineBarrier(VkCommandBuffer c, VkPipelineStageFlags from, VkPipelineStageFlags to,
                                                VkDependencyFlags f, uint32_t n, const VkMemoryBarrier *m, uint32_t nb,
                                                const VkBufferMemoryBarrier *b, uint32_t ni, const VkImageMemoryBarrier *i) {
    REAL(vkCmdPipelineBarrier);
    if (to != VK_PIPELINE_STAGE_HOST_BIT) fault_barriers++;
    real(c, from, to, f, n, m, nb, b, ni, i);
}

DESTROYS(vkDestroyInstance, x, (VkInstance x, const VkAllocationCallbacks *a), (x, a))
DESTROYS(vkDestroyDevice, x, (VkDevice x, const VkAllocationCallbacks *a), (x, a))
DROPS(vkFreeMemory, VkDeviceMemory)
DROPS(vkDestroyBuffer, VkBuffer)
DROPS(vkDestroyCommandPool, VkCommandPool)
DROPS(vkDestroyDescriptorPool, VkDescriptorPool)
DROPS(vkDestroyDescriptorSetLayout, VkDescriptorSetLayout)
DROPS(vkDestroyFence, VkFence)
DROPS(vkDestroySemaphore, VkSemaphore)
DROPS(vkDestroyPipelineLayout, VkPipelineLayout)
DROPS(vkDestroyShaderModule, VkShaderModule)
DROPS(vkDestroyPipeline, VkPipeline)

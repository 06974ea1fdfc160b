/* device.c - the Vulkan instance and its devices: every physical device with a compute queue, in the loader's order.
 *
 * STRAND_VULKAN_VALIDATE=1 asks for the Khronos validation layer, with synchronisation; "gpu" for it with checks inside the
 * kernels instead (slow); its messages go to the host's log as errors. STRAND_VULKAN_FENCES=1 leaves timeline semaphores
 * alone; STRAND_VULKAN_FEATURES is read in features.c. */
#include "vulkan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char gpu_name[] = "vulkan";
const char gpu_description[] = "Vulkan compute";
const int32_t gpu_score_value = 20;

strand_plugin_status vk_check(const strand_host *host, VkResult result, const char *what) {
    switch (result) {
    case VK_SUCCESS:
        return STRAND_PLUGIN_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "%s: out of host memory", what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "%s: out of device memory", what);
    case VK_ERROR_DEVICE_LOST:
        return gpu_fail(host, STRAND_PLUGIN_ERR_DEVICE, "%s: the device was lost", what);
    default:
        return gpu_fail(host, STRAND_PLUGIN_ERR_DEVICE, "%s: Vulkan error %d", what, (int)result);
    }
}

static VKAPI_ATTR VkBool32 VKAPI_CALL message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                              VkDebugUtilsMessageTypeFlagsEXT types,
                                              const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
    const strand_host *host = user;
    (void)severity, (void)types;
    if (host->log) host->log(host->context, 0, data->pMessage);
    return VK_FALSE;
}

static bool has_layer(const char *name) {
    VkLayerProperties layers[64];
    uint32_t n = 64;
    VkResult r = vkEnumerateInstanceLayerProperties(&n, layers);
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(layers[i].layerName, name)) return true;
    return false;
}

typedef enum validation { VALIDATE_NOTHING, VALIDATE_CALLS, VALIDATE_KERNELS } validation;

static VkResult make_instance(vk_instance *x, validation validate) {
    static const char *const layer = "VK_LAYER_KHRONOS_validation", *const extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    static const VkValidationFeatureEnableEXT calls[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT},
                                              kernels[] = {VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT};
    const VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "strand", .apiVersion = x->version};
    const VkDebugUtilsMessengerCreateInfoEXT debug = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = message,
        .pUserData = (void *)(uintptr_t)x->base.host};
    const VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                              .pNext = &debug,
                                              .enabledValidationFeatureCount = 1,
                                              .pEnabledValidationFeatures = validate == VALIDATE_KERNELS ? kernels : calls};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
    if (validate) {
        info.pNext = &features;
        info.enabledLayerCount = 1;
        info.ppEnabledLayerNames = &layer;
        info.enabledExtensionCount = 1;
        info.ppEnabledExtensionNames = &extension;
    }
    VkResult r = vkCreateInstance(&info, NULL, &x->instance);
    if (r != VK_SUCCESS || !validate) return r;
    PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(x->instance, "vkCreateDebugUtilsMessengerEXT");
    return create ? create(x->instance, &debug, NULL, &x->messenger) : VK_SUCCESS;
}

static validation wanted_validation(void) {
    const char *text = getenv("STRAND_VULKAN_VALIDATE");
    return !text                  ? VALIDATE_NOTHING
           : !strcmp(text, "1")   ? VALIDATE_CALLS
           : !strcmp(text, "gpu") ? VALIDATE_KERNELS
                                  : VALIDATE_NOTHING;
}

static bool switched_on(const char *name) {
    const char *text = getenv(name);
    return text && !strcmp(text, "1");
}

static uint32_t instance_version(void) {
    uint32_t v = 0;
    return vkEnumerateInstanceVersion(&v) == VK_SUCCESS && v >= VK_API_VERSION_1_2 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_1;
}

/* How the device has timeline semaphores, if it has them. */
static vk_timeline timeline_of(const vk_instance *x, VkPhysicalDevice device) {
    VkPhysicalDeviceProperties p;
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {.sType =
                                                              VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &timeline};
    if (switched_on("STRAND_VULKAN_FENCES")) return VK_TIMELINE_NONE;
    vkGetPhysicalDeviceProperties(device, &p);
    bool core = x->version >= VK_API_VERSION_1_2 && p.apiVersion >= VK_API_VERSION_1_2;
    if (!core && !vk_has_extension(device, VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME)) return VK_TIMELINE_NONE;
    vkGetPhysicalDeviceFeatures2(device, &features);
    return !timeline.timelineSemaphore ? VK_TIMELINE_NONE : core ? VK_TIMELINE_CORE : VK_TIMELINE_EXTENSION;
}

/* A queue family that computes; one that does nothing else is left to others. */
static bool compute_family(VkPhysicalDevice device, uint32_t *family) {
    VkQueueFamilyProperties families[32];
    uint32_t n = 32;
    vkGetPhysicalDeviceQueueFamilyProperties(device, &n, families);
    for (uint32_t i = 0; i < n; i++)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            *family = i;
            return true;
        }
    return false;
}

static void find_devices(vk_instance *x) {
    VkPhysicalDevice all[VK_DEVICES];
    uint32_t n = VK_DEVICES;
    VkResult r = vkEnumeratePhysicalDevices(x->instance, &n, all);
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) return;
    for (uint32_t i = 0; i < n; i++) {
        VkPhysicalDeviceProperties p;
        vkGetPhysicalDeviceProperties(all[i], &p);
        if (p.apiVersion < VK_API_VERSION_1_1 || !compute_family(all[i], &x->families[x->n_devices])) continue;
        x->devices[x->n_devices++] = all[i];
    }
}

strand_plugin_status driver_open(const strand_host *host, strand_plugin_instance **instance) {
    validation wanted = wanted_validation();
    vk_instance *x = host->alloc(host->context, sizeof *x, 64);
    if (!x) return STRAND_PLUGIN_ERR_MEMORY;
    memset(x, 0, sizeof *x);
    x->base.host = host;
    x->version = instance_version();
    vk_features_check(host);
    if (wanted && !has_layer("VK_LAYER_KHRONOS_validation")) {
        host->free(host->context, x, sizeof *x);
        return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED,
                        "STRAND_VULKAN_VALIDATE is set, but the validation layer is not installed");
    }
    VkResult r = make_instance(x, wanted);
    if (r == VK_SUCCESS) find_devices(x);
    if (r != VK_SUCCESS || !x->n_devices) {
        driver_close(&x->base);
        return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED,
                        r == VK_SUCCESS || r == VK_ERROR_INCOMPATIBLE_DRIVER
                            ? "there is no Vulkan 1.1 device (no driver is installed, or none has a compute queue)"
                            : "the Vulkan instance cannot be made");
    }
    *instance = &x->base;
    return STRAND_PLUGIN_OK;
}

void driver_close(strand_plugin_instance *instance) {
    vk_instance *x = (vk_instance *)(void *)instance;
    if (!x) return;
    PFN_vkDestroyDebugUtilsMessengerEXT destroy =
        x->messenger
            ? (PFN_vkDestroyDebugUtilsMessengerEXT)vkGetInstanceProcAddr(x->instance, "vkDestroyDebugUtilsMessengerEXT")
            : NULL;
    if (destroy) destroy(x->instance, x->messenger, NULL);
    if (x->instance) vkDestroyInstance(x->instance, NULL);
    x->base.host->free(x->base.host->context, x, sizeof *x);
}

uint32_t driver_device_count(strand_plugin_instance *instance) {
    return ((vk_instance *)(void *)instance)->n_devices;
}

static uint64_t local_memory(VkPhysicalDevice device) {
    VkPhysicalDeviceMemoryProperties m;
    uint64_t most = 0;
    vkGetPhysicalDeviceMemoryProperties(device, &m);
    for (uint32_t i = 0; i < m.memoryHeapCount; i++)
        if ((m.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && m.memoryHeaps[i].size > most)
            most = m.memoryHeaps[i].size;
    return most;
}

static uint64_t alignment(const VkPhysicalDeviceLimits *l) {
    return l->minStorageBufferOffsetAlignment < 64 ? 64 : l->minStorageBufferOffsetAlignment;
}

strand_plugin_status driver_device_info(strand_plugin_instance *instance, uint32_t index, strand_plugin_device_info *info) {
    const vk_instance *x = (const vk_instance *)(const void *)instance;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    VkPhysicalDeviceProperties p;
    vkGetPhysicalDeviceProperties(x->devices[index], &p);
    strand_plugin_device_info mine = {
        .flags = STRAND_DEVICE_ASYNC, .memory = local_memory(x->devices[index]), .alignment = alignment(&p.limits)};
    if (p.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU) mine.flags |= STRAND_DEVICE_SOFTWARE;
    snprintf(mine.name, sizeof mine.name, "%u", index);
    snprintf(mine.description, sizeof mine.description, "%.200s", p.deviceName);
    mine.size = info->size;
    memcpy(info, &mine, info->size < sizeof mine ? info->size : sizeof mine);
    return STRAND_PLUGIN_OK;
}

/* Can the host reach all of the device's own memory? */
static bool unified(VkPhysicalDevice device) {
    VkPhysicalDeviceMemoryProperties m;
    vkGetPhysicalDeviceMemoryProperties(device, &m);
    for (uint32_t i = 0; i < m.memoryHeapCount; i++)
        if (!(m.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)) return false;
    return true;
}

strand_plugin_status driver_device_features(strand_plugin_instance *instance, uint32_t index, gpu_text *text) {
    static const char *const types[] = {"other", "integrated GPU", "discrete GPU", "virtual GPU", "software device"};
    const vk_instance *x = (const vk_instance *)(const void *)instance;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    vkGetPhysicalDeviceProperties(x->devices[index], &p.properties);
    if (p.properties.apiVersion >= VK_API_VERSION_1_2) p.pNext = &driver;
    vkGetPhysicalDeviceProperties2(x->devices[index], &p);
    const VkPhysicalDeviceLimits *l = &p.properties.limits;
    uint32_t v = p.properties.apiVersion, dv = p.properties.driverVersion;
    gpu_say(text, "type", "%s", types[(unsigned)p.properties.deviceType <= 4 ? p.properties.deviceType : 0]);
    if (p.pNext)
        gpu_say(text, "driver", "%s %s", driver.driverName, driver.driverInfo);
    else
        gpu_say(text, "driver", "version %u.%u.%u", VK_API_VERSION_MAJOR(dv), VK_API_VERSION_MINOR(dv),
                VK_API_VERSION_PATCH(dv));
    gpu_say(text, "Vulkan", "%u.%u.%u", VK_API_VERSION_MAJOR(v), VK_API_VERSION_MINOR(v), VK_API_VERSION_PATCH(v));
    vk_timeline timeline = timeline_of(x, x->devices[index]);
    gpu_say(text, "waiting", "%s",
            timeline == VK_TIMELINE_NONE   ? "fences"
            : timeline == VK_TIMELINE_CORE ? "timeline semaphore"
                                           : "timeline semaphore (VK_KHR_timeline_semaphore)");
    vk_features features;
    vk_features_of(x, x->devices[index], &features);
    vk_features_say(&features, text);
    gpu_say(text, "recorded segments", "yes");
    gpu_say(text, "unified memory", "%s", unified(x->devices[index]) ? "yes" : "no");
    gpu_say(text, "largest binding", "%.0f MiB", (double)l->maxStorageBufferRange / 1048576);
    gpu_say(text, "shared memory", "%.0f KiB a group", (double)l->maxComputeSharedMemorySize / 1024);
    gpu_say(text, "work group", "%u items at most", l->maxComputeWorkGroupInvocations);
    gpu_say(text, "states on the device", "yes");
    gpu_say(text, "validation", "%s", x->messenger ? "yes" : "no");
    return STRAND_PLUGIN_OK;
}

static void read_limits(vk_device *d) {
    VkPhysicalDeviceMaintenance3Properties m = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &m};
    vkGetPhysicalDeviceProperties2(d->physical, &p);
    const VkPhysicalDeviceLimits *l = &p.properties.limits;
    uint32_t buffers = l->maxPerStageDescriptorStorageBuffers;
    d->base.limits = (gpu_limits){.shared_bytes = l->maxComputeSharedMemorySize,
                                  .bindings = buffers < GPU_MOST_BINDINGS ? buffers : GPU_MOST_BINDINGS,
                                  .groups_x = l->maxComputeWorkGroupCount[0],
                                  .groups_y = l->maxComputeWorkGroupCount[1],
                                  .group = l->maxComputeWorkGroupInvocations,
                                  .binding_bytes = l->maxStorageBufferRange,
                                  .buffer_bytes = m.maxMemoryAllocationSize,
                                  .software = p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU,
                                  .slow_barriers = p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU,
                                  .offset_alignment = alignment(l)};
    vkGetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
}

/* The semaphore that counts, and the function that waits for it: the loader may be older than either. */
static strand_plugin_status make_timeline(vk_device *d, vk_timeline how) {
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    d->wait = (PFN_vkWaitSemaphores)vkGetDeviceProcAddr(d->device,
                                                        how == VK_TIMELINE_CORE ? "vkWaitSemaphores" : "vkWaitSemaphoresKHR");
    return d->wait ? vk_check(d->base.host, vkCreateSemaphore(d->device, &info, NULL, &d->timeline), "making a semaphore")
                   : STRAND_PLUGIN_OK;
}

static strand_plugin_status make_device(vk_device *d, uint32_t family, vk_timeline how) {
    const char *extensions[9];
    uint32_t n_extensions = d->features.n_extensions;
    memcpy(extensions, d->features.extensions, sizeof d->features.extensions);
    if (how == VK_TIMELINE_EXTENSION) extensions[n_extensions++] = VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME;
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
        .pNext = d->features.chain,
        .timelineSemaphore = VK_TRUE};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = how ? &timeline : d->features.chain,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = n_extensions,
                                     .ppEnabledExtensionNames = extensions};
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = family};
    const strand_host *host = d->base.host;
    strand_plugin_status status = vk_check(host, vkCreateDevice(d->physical, &info, NULL, &d->device), "opening the device");
    if (status) return status;
    vkGetDeviceQueue(d->device, family, 0, &d->queue);
    status = vk_check(host, vkCreateCommandPool(d->device, &pool, NULL, &d->pool), "making a command pool");
    if (!status && how) status = make_timeline(d, how);
    if (!status) status = vk_layouts_open(d);
    if (!status) status = vk_queue_open(d);
    if (!status) status = vk_buffer_make(d, 16, true, &d->fault);
    if (!status) memset(d->fault.mapped, 0, 16);
    return status;
}

strand_plugin_status driver_device_open(strand_plugin_instance *instance, uint32_t index, strand_plugin_device **device) {
    vk_instance *x = (vk_instance *)(void *)instance;
    const strand_host *host = instance->host;
    if (index >= x->n_devices) return STRAND_PLUGIN_ERR_ARGUMENT;
    vk_device *d = host->alloc(host->context, sizeof *d, 64);
    if (!d) return STRAND_PLUGIN_ERR_MEMORY;
    memset(d, 0, sizeof *d);
    d->base.instance = instance;
    d->base.host = host;
    d->physical = x->devices[index];
    read_limits(d);
    vk_features_of(x, d->physical, &d->features);
    d->base.limits.matrices = d->features.has & VK_HAS_COOPERATIVE;
    strand_plugin_status status = make_device(d, x->families[index], timeline_of(x, d->physical));
    if (status)
        driver_device_close(&d->base);
    else
        *device = &d->base;
    return status;
}

void driver_device_close(strand_plugin_device *device) {
    vk_device *d = vk_of(device);
    if (d->device) {
        vkDeviceWaitIdle(d->device);
        vk_queue_close(d);
        vk_pipelines_close(d);
        vk_buffer_drop(d, &d->fault);
        if (d->pool) vkDestroyCommandPool(d->device, d->pool, NULL);
        vkDestroyDevice(d->device, NULL);
    }
    d->base.host->free(d->base.host->context, d, sizeof *d);
}

strand_plugin_buffer *driver_fault_buffer(strand_plugin_device *device) {
    return &vk_of(device)->fault;
}

bool driver_take_fault(strand_plugin_device *device, int32_t fault[4]) {
    vk_device *d = vk_of(device);
    memcpy(fault, d->fault.mapped, 16);
    if (!fault[0]) return false;
    memset(d->fault.mapped, 0, 16);
    return true;
}

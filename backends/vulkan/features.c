/* features.c - what a device has beyond Vulkan 1.1 that kernels use where it is there: subgroups, 16- and 8-bit storage, f16
 * arithmetic. Kernels are compiled with and without (variants.list); pipeline.c takes the first form whose needs are met.
 *
 * STRAND_VULKAN_FEATURES=none leaves all of it alone, as on a device that has none; "all" takes software devices for hardware:
 * forms that are slower on a processor are used there too. Only what is used is asked for when the device is opened. */
#include "vulkan.h"

#include <stdlib.h>
#include <string.h>

bool vk_has_extension(VkPhysicalDevice device, const char *name) {
    VkExtensionProperties all[512];
    uint32_t n = 512;
    VkResult r = vkEnumerateDeviceExtensionProperties(device, NULL, &n, all);
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(all[i].extensionName, name)) return true;
    return false;
}

static bool asked(const char *what) {
    const char *text = getenv("STRAND_VULKAN_FEATURES");
    return text && !strcmp(text, what);
}

void vk_features_check(const strand_host *host) {
    const char *text = getenv("STRAND_VULKAN_FEATURES");
    if (text && *text && !asked("none") && !asked("all") && host->log)
        host->log(host->context, 1, "STRAND_VULKAN_FEATURES is neither 'none' nor 'all': it is ignored");
}

/* Puts a structure before the others of the chain. */
static void chain(vk_features *f, void *structure) {
    VkBaseOutStructure *s = structure;
    s->pNext = f->chain;
    f->chain = s;
}

static void extension(vk_features *f, const char *name) {
    f->extensions[f->n_extensions++] = name;
}

/* Which structures the device knows, by its version and its extensions. */
typedef struct known {
    bool core_1_2, bytes, float16, sizes, controls;
} known;

static known known_of(const vk_instance *x, VkPhysicalDevice device, uint32_t version) {
    known k = {.core_1_2 = x->version >= VK_API_VERSION_1_2 && version >= VK_API_VERSION_1_2};
    k.bytes = k.core_1_2 || vk_has_extension(device, VK_KHR_8BIT_STORAGE_EXTENSION_NAME);
    k.float16 = k.core_1_2 || vk_has_extension(device, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    k.controls = k.core_1_2 || vk_has_extension(device, VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME);
    k.sizes = vk_has_extension(device, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    return k;
}

static void ask(VkPhysicalDevice device, vk_features *f, known k) {
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    f->halves.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES;
    f->bytes.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES;
    f->float16.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES;
    f->sizes.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT;
    chain(f, &f->halves);
    if (k.bytes) chain(f, &f->bytes);
    if (k.float16) chain(f, &f->float16);
    if (k.sizes) chain(f, &f->sizes);
    features.pNext = f->chain;
    vkGetPhysicalDeviceFeatures2(device, &features);
    f->chain = NULL;
}

/* Subgroups: their items exchange numbers by shuffles. Where the device lets a pipeline ask for them, full ones of the size
 * that it reports; else the kernels look at how many there are (dialect_glsl.h). */
static void find_subgroups(VkPhysicalDevice device, vk_features *f, known k) {
    const VkSubgroupFeatureFlags needed = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT};
    VkPhysicalDeviceSubgroupProperties s = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES,
                                            .pNext = k.sizes ? &sizes : NULL};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &s};
    vkGetPhysicalDeviceProperties2(device, &p);
    f->subgroup = s.subgroupSize;
    if (s.subgroupSize < 2 || (s.subgroupSize & (s.subgroupSize - 1)) || !(s.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) ||
        (s.supportedOperations & needed) != needed)
        return;
    f->has |= VK_HAS_SUBGROUPS;
    f->sized = k.sizes && f->sizes.subgroupSizeControl && f->sizes.computeFullSubgroups &&
               (sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) && s.subgroupSize >= sizes.minSubgroupSize &&
               s.subgroupSize <= sizes.maxSubgroupSize && sizes.maxComputeWorkgroupSubgroups * s.subgroupSize >= 256;
}

/* Keeps what is used alone, and chains it for vkCreateDevice. */
static void keep(vk_features *f, known k) {
    f->halves.uniformAndStorageBuffer16BitAccess = f->halves.storagePushConstant16 = f->halves.storageInputOutput16 = VK_FALSE;
    f->bytes.uniformAndStorageBuffer8BitAccess = f->bytes.storagePushConstant8 = VK_FALSE;
    f->float16.shaderInt8 = VK_FALSE;
    if (f->has & VK_HAS_HALVES16) chain(f, &f->halves);
    if (f->has & VK_HAS_BYTES8) chain(f, &f->bytes);
    if (f->has & VK_HAS_FLOAT16) chain(f, &f->float16);
    if (f->sized) chain(f, &f->sizes);
    if ((f->has & VK_HAS_BYTES8) && !k.core_1_2) extension(f, VK_KHR_8BIT_STORAGE_EXTENSION_NAME);
    if (f->tiny_halves && !k.core_1_2) extension(f, VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME);
    if ((f->has & VK_HAS_FLOAT16) && !k.core_1_2) extension(f, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    if (f->has & VK_HAS_COOPERATIVE) {
        chain(f, &f->matrices);
        chain(f, &f->model);
        extension(f, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
        if (!k.core_1_2) extension(f, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME);
    }
    if (f->sized) extension(f, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
}

/* May halves be turned into floats by the device? It may read tiny ones (below 2^-14) as 0 but where a module says that they
 * are kept (pipeline.c), and a module may say so, of halves alone, on a device with that property. Processors keep them
 * unasked. */
static bool halves_are_read(VkPhysicalDevice device, vk_features *f, known k) {
    VkPhysicalDeviceFloatControlsProperties c = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = k.controls ? &c : NULL};
    if (!f->halves.storageBuffer16BitAccess) return false;
    vkGetPhysicalDeviceProperties2(device, &p);
    f->tiny_halves =
        c.shaderDenormPreserveFloat16 && c.denormBehaviorIndependence != VK_SHADER_FLOAT_CONTROLS_INDEPENDENCE_NONE;
    return f->tiny_halves || p.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
}

void vk_features_of(const vk_instance *x, VkPhysicalDevice device, vk_features *f) {
    VkPhysicalDeviceProperties p;
    memset(f, 0, sizeof *f);
    if (asked("none")) return;
    vkGetPhysicalDeviceProperties(device, &p);
    known k = known_of(x, device, p.apiVersion);
    ask(device, f, k);
    find_subgroups(device, f, k);
    if (halves_are_read(device, f, k)) f->has |= VK_HAS_HALVES16;
    if (k.bytes && f->bytes.storageBuffer8BitAccess) f->has |= VK_HAS_BYTES8;
    if (k.float16 && f->float16.shaderFloat16) f->has |= VK_HAS_FLOAT16;
    if ((f->has & VK_HAS_FLOAT16) && vk_cooperative_of(x, device, k.core_1_2, f)) f->has |= VK_HAS_COOPERATIVE;
    if (p.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU || asked("all")) f->has |= VK_HAS_HARDWARE;
    keep(f, k);
}

void vk_features_say(const vk_features *f, gpu_text *text) {
    if (asked("none")) {
        gpu_say(text, "features", "none (STRAND_VULKAN_FEATURES)");
        return;
    }
    if (f->has & VK_HAS_SUBGROUPS)
        gpu_say(text, "subgroups", "%u wide, shuffles%s", f->subgroup, f->sized ? ", full" : "");
    else
        gpu_say(text, "subgroups", "no");
    gpu_say(text, "16-bit storage", "%s", f->has & VK_HAS_HALVES16 ? "yes" : "no");
    gpu_say(text, "8-bit storage", "%s", f->has & VK_HAS_BYTES8 ? "yes" : "no");
    gpu_say(text, "f16 arithmetic", "%s", f->has & VK_HAS_FLOAT16 ? "yes" : "no");
    if (f->has & VK_HAS_COOPERATIVE)
        gpu_say(text, "cooperative matrices", "%u x %u x %u", f->shape[0], f->shape[1], f->shape[2]);
    else
        gpu_say(text, "cooperative matrices", "no");
}

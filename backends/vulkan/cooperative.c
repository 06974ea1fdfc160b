/* cooperative.c - the device's cooperative matrices (VK_KHR_cooperative_matrix) that products of halves are made of: F16 by
 * F16, added up in F32, of a subgroup. Of the shapes that a device reports one is taken for all products; the kernel gets it
 * by specialisation constants. */
#include "vulkan.h"

#include <string.h>

#define MOST_SHAPES 256

/* A subgroup has 32 x 32 of a result in such matrices, 32 of k at a time, and room for 256 elements in shared memory. */
static bool divides(uint32_t size) {
    return size >= 4 && size <= 32 && 32 % size == 0;
}

static bool usable(const VkCooperativeMatrixPropertiesKHR *p) {
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           !p->saturatingAccumulation && p->scope == VK_SCOPE_SUBGROUP_KHR && divides(p->MSize) && divides(p->NSize) &&
           divides(p->KSize) && p->MSize * p->NSize <= 256;
}

/* The largest, by multiplications. */
static bool find_shape(const vk_instance *x, VkPhysicalDevice device, uint32_t shape[3]) {
    VkCooperativeMatrixPropertiesKHR all[MOST_SHAPES];
    uint32_t n = MOST_SHAPES, most = 0;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)vkGetInstanceProcAddr(
            x->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    if (!list) return false;
    memset(all, 0, sizeof all);
    for (int i = 0; i < MOST_SHAPES; i++) all[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    VkResult r = list(device, &n, all);
    if (r != VK_SUCCESS && r != VK_INCOMPLETE) return false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t size = all[i].MSize * all[i].NSize * all[i].KSize;
        if (!usable(&all[i]) || size <= most) continue;
        most = size;
        shape[0] = all[i].MSize, shape[1] = all[i].NSize, shape[2] = all[i].KSize;
    }
    return most > 0;
}

/* In compute shaders? */
static bool staged(VkPhysicalDevice device) {
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR m = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &m};
    vkGetPhysicalDeviceProperties2(device, &p);
    return m.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
}

bool vk_cooperative_of(const vk_instance *x, VkPhysicalDevice device, bool core_1_2, vk_features *f) {
    VkPhysicalDeviceVulkanMemoryModelFeatures model = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrices = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, .pNext = &model};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &matrices};
    VkPhysicalDeviceProperties p;
    if (!f->subgroup || !vk_has_extension(device, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) ||
        !(core_1_2 || vk_has_extension(device, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME)))
        return false;
    vkGetPhysicalDeviceFeatures2(device, &features);
    vkGetPhysicalDeviceProperties(device, &p);
    if (!matrices.cooperativeMatrix || !model.vulkanMemoryModel || !model.vulkanMemoryModelDeviceScope || !staged(device) ||
        !find_shape(x, device, f->shape) || 4 * f->subgroup > p.limits.maxComputeWorkGroupInvocations ||
        4 * f->subgroup > p.limits.maxComputeWorkGroupSize[0] || p.limits.maxComputeSharedMemorySize < 32768)
        return false;
    f->matrices = matrices;
    f->matrices.cooperativeMatrixRobustBufferAccess = VK_FALSE;
    f->model = model;
    f->model.vulkanMemoryModelAvailabilityVisibilityChains = VK_FALSE; /* device scope: of every other kernel's barriers */
    f->intel = p.vendorID == 0x8086;
    return true;
}

/* Constants 0 to 3: items of a group, and the shape. */
void vk_cooperative_constants(const vk_features *f, VkSpecializationMapEntry entries[4], uint32_t values[4]) {
    values[0] = 4 * f->subgroup;
    memcpy(values + 1, f->shape, sizeof f->shape);
    for (uint32_t i = 0; i < 4; i++) entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = i * 4, .size = 4};
}

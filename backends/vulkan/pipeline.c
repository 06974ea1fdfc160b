/* pipeline.c - the kernels' SPIR-V, embedded, and a compute pipeline for each that is used. Some kernels have further forms for
 * what a device may have (variants.list); the first one whose needs the opened device meets is taken. */
#include "vulkan.h"

#include <stddef.h>
#include <string.h>

#include "gpu_spirv.inc"

typedef struct spirv {
    const uint32_t *code;
    size_t bytes;
} spirv;

static const spirv codes[GPU_N_KERNELS] = {
#define GPU_KERNEL(name, bindings, group) {spirv_##name, sizeof spirv_##name},
#include "gpu_kernels.inc"
#undef GPU_KERNEL
};

typedef struct variant {
    gpu_kernel kernel;
    uint32_t needs; /* VK_HAS_... */
    spirv code;
    const char *name;
} variant;

static const variant variants[] = {
#define VK_VARIANT(name, needs, symbol) {GPU_K_##name, needs, {spirv_##symbol, sizeof spirv_##symbol}, #symbol},
#include "gpu_variants.inc"
#undef VK_VARIANT
};

/* The form of a kernel for this device; NULL: the plain one. */
static const variant *form_of(const vk_device *d, gpu_kernel kernel) {
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (variants[i].kernel == kernel && (variants[i].needs & d->features.has) == variants[i].needs) return &variants[i];
    return NULL;
}

strand_plugin_status vk_layouts_open(vk_device *d) {
    const strand_host *host = d->base.host;
    VkDescriptorSetLayoutBinding bindings[GPU_MOST_BINDINGS + 1];
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (uint32_t n = 1; n <= d->base.limits.bindings + 1 && !status; n++) {
        for (uint32_t i = 0; i < n; i++)
            bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                         .descriptorType = i + 1 < n ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
                                                                                     : VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER,
                                                         .descriptorCount = 1,
                                                         .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
        const VkDescriptorSetLayoutCreateInfo set = {
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = n, .pBindings = bindings};
        status = vk_check(host, vkCreateDescriptorSetLayout(d->device, &set, NULL, &d->set_layouts[n]), "making a layout");
        const VkPipelineLayoutCreateInfo layout = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1, .pSetLayouts = &d->set_layouts[n]};
        if (!status)
            status = vk_check(host, vkCreatePipelineLayout(d->device, &layout, NULL, &d->layouts[n]), "making a layout");
    }
    return status;
}

/* What the module says of its variables: those of a storage buffer that is not readonly in GLSL have no NonWritable, neither
 * on the variable nor on the buffer's only member. */
typedef struct spirv_id {
    uint32_t type;    /* of a variable: its pointer; of a pointer: what it points to */
    uint32_t binding; /* plus one; 0: none */
    bool read_only;
} spirv_id;

/* Buffers that the kernel may write, a bit each. All of them where there is no memory to find out. */
static uint32_t written(const strand_host *host, const spirv *s) {
    enum {
        HEADER = 5,
        BOUND = 3,
        VARIABLE = 59,
        POINTER = 32,
        DECORATE = 71,
        DECORATE_MEMBER = 72,
        BINDING = 33,
        NON_WRITABLE = 24
    };
    const uint32_t *code = s->code, bound = code[BOUND];
    const size_t words = s->bytes / 4, bytes = bound * sizeof(spirv_id);
    spirv_id *ids = host->alloc(host->context, bytes, 64);
    uint32_t bits = 0;
    if (!ids) return ~(uint32_t)0;
    memset(ids, 0, bytes);
    for (size_t at = HEADER; at < words; at += code[at] >> 16) {
        const uint32_t *op = code + at;
        switch (op[0] & 0xffff) {
        case DECORATE:
            if (op[2] == BINDING) ids[op[1]].binding = op[3] + 1;
            if (op[2] == NON_WRITABLE) ids[op[1]].read_only = true;
            break;
        case DECORATE_MEMBER:
            if (op[3] == NON_WRITABLE) ids[op[1]].read_only = true;
            break;
        case POINTER:
            ids[op[1]].type = op[3];
            break;
        case VARIABLE: /* types and decorations come first */
            ids[op[2]].type = op[1];
            if (ids[op[2]].binding && !ids[op[2]].read_only && !ids[ids[op[1]].type].read_only)
                bits |= (uint32_t)1 << (ids[op[2]].binding - 1);
            break;
        }
    }
    host->free(host->context, ids, bytes);
    return bits;
}

/* A kernel that the driver refuses is no reason to give up the device. */
static strand_plugin_status refused(const strand_host *host, VkResult result, gpu_kernel kernel) {
    if (result == VK_SUCCESS || result == VK_ERROR_OUT_OF_HOST_MEMORY || result == VK_ERROR_OUT_OF_DEVICE_MEMORY ||
        result == VK_ERROR_DEVICE_LOST)
        return vk_check(host, result, gpu_kernels[kernel].name);
    return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED, "the driver does not take kernel %s: Vulkan error %d",
                    gpu_kernels[kernel].name, (int)result);
}

/* Subgroups are full, and of the size that the device reports, where pipelines may ask for that; those of Intel's matrices of
 * the size that the driver chooses. */
static VkResult make_pipeline(vk_device *d, gpu_kernel kernel, VkShaderModule module, uint32_t needs) {
    const bool matrices = needs & VK_HAS_COOPERATIVE, chosen = matrices && d->features.intel;
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = d->features.subgroup};
    const bool sized = (needs & (VK_HAS_SUBGROUPS | VK_HAS_COOPERATIVE)) && d->features.sized &&
                       (matrices || gpu_kernels[kernel].group % d->features.subgroup == 0);
    VkSpecializationMapEntry entries[4];
    uint32_t constants[4];
    const VkSpecializationInfo special = {
        .mapEntryCount = 4, .pMapEntries = entries, .dataSize = sizeof constants, .pData = constants};
    if (matrices) vk_cooperative_constants(&d->features, entries, constants);
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = sized && !chosen ? &size : NULL,
                  .flags = !sized   ? 0
                           : chosen ? VK_PIPELINE_SHADER_STAGE_CREATE_ALLOW_VARYING_SUBGROUP_SIZE_BIT_EXT
                                    : VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = matrices ? &special : NULL},
        .layout = d->layouts[gpu_kernels[kernel].bindings + 1]};
    return vkCreateComputePipelines(d->device, VK_NULL_HANDLE, 1, &info, NULL, &d->pipelines[kernel]);
}

static strand_plugin_status make(vk_device *d, gpu_kernel kernel, const spirv *s, uint32_t needs) {
    const VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = s->bytes, .pCode = s->code};
    VkShaderModule module;
    strand_plugin_status status = refused(d->base.host, vkCreateShaderModule(d->device, &code, NULL, &module), kernel);
    if (status) return status;
    status = refused(d->base.host, make_pipeline(d, kernel, module, needs), kernel);
    vkDestroyShaderModule(d->device, module, NULL);
    if (!status) d->writes[kernel] = written(d->base.host, s);
    return status;
}

/* The log names the forms that are taken. */
strand_plugin_status vk_pipeline(vk_device *d, gpu_kernel kernel, VkPipeline *pipeline) {
    if (!d->pipelines[kernel]) {
        const strand_host *host = d->base.host;
        const variant *form = form_of(d, kernel);
        strand_plugin_status status = make(d, kernel, form ? &form->code : &codes[kernel], form ? form->needs : 0);
        if (status == STRAND_PLUGIN_ERR_UNSUPPORTED && form && (form->needs & VK_HAS_COOPERATIVE)) {
            d->pipelines[kernel] = VK_NULL_HANDLE; /* matrices, or a group of them, that the driver does not take after all */
            form = NULL;
            status = make(d, kernel, &codes[kernel], 0);
        }
        if (status) return status;
        if (form && host->log) host->log(host->context, 3, form->name);
    }
    *pipeline = d->pipelines[kernel];
    return STRAND_PLUGIN_OK;
}

void vk_pipelines_close(vk_device *d) {
    for (int i = 0; i < GPU_N_KERNELS; i++)
        if (d->pipelines[i]) vkDestroyPipeline(d->device, d->pipelines[i], NULL);
    for (int i = 0; i < GPU_MOST_BINDINGS + 2; i++) {
        if (d->layouts[i]) vkDestroyPipelineLayout(d->device, d->layouts[i], NULL);
        if (d->set_layouts[i]) vkDestroyDescriptorSetLayout(d->device, d->set_layouts[i], NULL);
    }
}

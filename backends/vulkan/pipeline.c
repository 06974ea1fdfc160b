/* pipeline.c - the kernels' SPIR-V, embedded, and a compute pipeline for each that is used. Some kernels have further forms for
 * what a device may have (variants.list): the first is used whose needs the opened device meets and that its driver takes. */
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

/* The next form of a kernel for this device, of those from *at on; NULL: the plain one. */
static const variant *next_form(const vk_device *d, gpu_kernel kernel, size_t *at) {
    while (*at < sizeof variants / sizeof *variants) {
        const variant *v = &variants[(*at)++];
        if (v->kernel == kernel && (v->needs & d->features.has) == v->needs) return v;
    }
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

/* The module that says that the device keeps halves below 2^-14: a capability, an extension, and a mode of the entry point.
 * (A compiler writes them for all devices, or none.) The caller frees its words; NULL: out of memory. */
static uint32_t *keeping_tiny_halves(const strand_host *host, const spirv *s, size_t *bytes) {
    enum {
        HEADER = 5,
        EXTENSION = 10,
        ENTRY_POINT = 15,
        EXECUTION_MODE = 16,
        CAPABILITY = 17,
        DENORM_PRESERVE = 4464,
        MODE_DENORM_PRESERVE = 4459
    };
    const uint32_t capability[] = {2u << 16 | CAPABILITY, DENORM_PRESERVE};
    uint32_t extension[7] = {7u << 16 | EXTENSION}, mode[] = {4u << 16 | EXECUTION_MODE, 0, MODE_DENORM_PRESERVE, 16};
    memcpy(extension + 1, "SPV_KHR_float_controls", 23);
    *bytes = s->bytes + sizeof capability + sizeof extension + sizeof mode;
    uint32_t *made = host->alloc(host->context, *bytes, 64), *to = made;
    if (!made) return NULL;
#define PUT(words, n) (memcpy(to, words, (n) * sizeof *to), to += (n))
    PUT(s->code, HEADER);
    PUT(capability, 2);
    bool capabilities = true; /* which come first; extensions follow */
    for (const uint32_t *op = s->code + HEADER, *end = s->code + s->bytes / 4; op < end; op += op[0] >> 16) {
        const uint32_t kind = op[0] & 0xffff;
        if (capabilities && kind != CAPABILITY) PUT(extension, 7);
        capabilities = capabilities && kind == CAPABILITY;
        PUT(op, op[0] >> 16);
        if (kind == ENTRY_POINT) {
            mode[1] = op[2];
            PUT(mode, 4);
        }
    }
#undef PUT
    return made;
}

/* A kernel that the driver refuses is no reason to give up the device. */
static bool refused(VkResult result) {
    return result != VK_SUCCESS && result != VK_ERROR_OUT_OF_HOST_MEMORY && result != VK_ERROR_OUT_OF_DEVICE_MEMORY &&
           result != VK_ERROR_DEVICE_LOST;
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

static VkResult make_module(vk_device *d, const spirv *s, uint32_t needs, VkShaderModule *module) {
    const strand_host *host = d->base.host;
    VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = s->bytes, .pCode = s->code};
    uint32_t *made = NULL;
    if ((needs & VK_HAS_HALVES16) && d->features.tiny_halves) {
        made = keeping_tiny_halves(host, s, &code.codeSize);
        if (!made) return VK_ERROR_OUT_OF_HOST_MEMORY;
        code.pCode = made;
    }
    VkResult result = vkCreateShaderModule(d->device, &code, NULL, module);
    if (made) host->free(host->context, made, code.codeSize);
    return result;
}

static VkResult make(vk_device *d, gpu_kernel kernel, const spirv *s, uint32_t needs) {
    VkShaderModule module;
    VkResult result = make_module(d, s, needs, &module);
    if (result != VK_SUCCESS) return result;
    result = make_pipeline(d, kernel, module, needs);
    vkDestroyShaderModule(d->device, module, NULL);
    if (result == VK_SUCCESS)
        d->writes[kernel] = written(d->base.host, s);
    else
        d->pipelines[kernel] = VK_NULL_HANDLE;
    return result;
}

/* One form after another until the driver takes one, whatever it has said that it has. The log names the form. */
strand_plugin_status vk_pipeline(vk_device *d, gpu_kernel kernel, VkPipeline *pipeline) {
    const strand_host *host = d->base.host;
    if (!d->pipelines[kernel]) {
        size_t at = 0;
        const variant *form;
        VkResult result;
        do {
            form = next_form(d, kernel, &at);
            result = make(d, kernel, form ? &form->code : &codes[kernel], form ? form->needs : 0);
        } while (form && refused(result));
        if (refused(result))
            return gpu_fail(host, STRAND_PLUGIN_ERR_UNSUPPORTED, "the driver does not take kernel %s: Vulkan error %d",
                            gpu_kernels[kernel].name, (int)result);
        if (result != VK_SUCCESS) return vk_check(host, result, gpu_kernels[kernel].name);
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

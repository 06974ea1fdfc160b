/* memory.c - buffers, each with memory of its own: the host asks for one a session, so there are few and they are large. */
#include "vulkan.h"

#include <string.h>

/* The first memory type that the buffer can have with all of `need`, preferring one that has `prefer` too. */
static bool memory_type(const vk_device *d, uint32_t allowed, VkMemoryPropertyFlags need, VkMemoryPropertyFlags prefer,
                        uint32_t *type) {
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++) {
            VkMemoryPropertyFlags want = round ? need : need | prefer;
            if ((allowed >> i & 1) && (d->memory.memoryTypes[i].propertyFlags & want) == want) {
                *type = i;
                return true;
            }
        }
    return false;
}

strand_plugin_status vk_buffer_make(vk_device *d, uint64_t bytes, bool host_visible, strand_plugin_buffer *b) {
    const strand_host *host = d->base.host;
    const VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    memset(b, 0, sizeof *b);
    b->bytes = (bytes + 63) / 64 * 64;
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .size = b->bytes,
                                     .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT |
                                               VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VkMemoryRequirements need;
    uint32_t type = 0;
    if (b->bytes > d->base.limits.buffer_bytes)
        return gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "the device gives %.0f MiB at once, %.0f are needed",
                        (double)d->base.limits.buffer_bytes / 1048576, (double)b->bytes / 1048576);
    strand_plugin_status status = vk_check(host, vkCreateBuffer(d->device, &info, NULL, &b->buffer), "making a buffer");
    if (status) return status;
    vkGetBufferMemoryRequirements(d->device, b->buffer, &need);
    VkMemoryPropertyFlags must = host_visible ? visible : 0,
                          rather = host_visible ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    if (!memory_type(d, need.memoryTypeBits, must, rather, &type)) {
        status = gpu_fail(host, STRAND_PLUGIN_ERR_MEMORY, "the device has no memory of the kind that is needed");
    } else {
        const VkMemoryAllocateInfo allocate = {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size, .memoryTypeIndex = type};
        status = vk_check(host, vkAllocateMemory(d->device, &allocate, NULL, &b->memory), "allocating device memory");
    }
    if (!status) status = vk_check(host, vkBindBufferMemory(d->device, b->buffer, b->memory, 0), "binding device memory");
    if (!status && host_visible) {
        void *at = NULL;
        status = vk_check(host, vkMapMemory(d->device, b->memory, 0, VK_WHOLE_SIZE, 0, &at), "mapping memory");
        b->mapped = at;
    }
    if (status) vk_buffer_drop(d, b);
    return status;
}

void vk_buffer_drop(vk_device *d, strand_plugin_buffer *b) {
    if (b->buffer) vkDestroyBuffer(d->device, b->buffer, NULL);
    if (b->memory) vkFreeMemory(d->device, b->memory, NULL);
    memset(b, 0, sizeof *b);
}

strand_plugin_status driver_buffer_create(strand_plugin_device *device, uint64_t bytes, strand_plugin_buffer **buffer) {
    const strand_host *host = device->host;
    strand_plugin_buffer *b = host->alloc(host->context, sizeof *b, 64);
    if (!b) return STRAND_PLUGIN_ERR_MEMORY;
    strand_plugin_status status = vk_buffer_make(vk_of(device), bytes, false, b);
    if (status)
        host->free(host->context, b, sizeof *b);
    else
        *buffer = b;
    return status;
}

/* Commands that use the buffer may still be under way. */
void driver_buffer_destroy(strand_plugin_device *device, strand_plugin_buffer *buffer) {
    vk_device *d = vk_of(device);
    if (!buffer) return;
    uint64_t point;
    if (!driver_submit(device, &point)) driver_wait(device, point);
    vkDeviceWaitIdle(d->device);
    vk_buffer_drop(d, buffer);
    device->host->free(device->host->context, buffer, sizeof *buffer);
}

/* segment.c - launches that are recorded once: a secondary command buffer with the descriptor sets and parameters of its
 * dispatches, which batches execute as often as they are asked to. Pages are added as it grows; a page keeps its place for
 * good.
 *
 * A segment may be in several batches that are under way. The point of the last of them is remembered, and waited for before
 * the segment goes. */
#include "vulkan.h"

#include <string.h>

struct strand_plugin_segment {
    VkCommandBuffer commands;
    vk_hazards hazards;
    vk_page *pages; /* the newest first */
    uint64_t point; /* of the last batch that executes it; 0: none yet */
    bool recording, broken; /* broken: it could not be ended, and never runs */
};

static strand_plugin_status begin(vk_device *d, strand_plugin_segment *s) {
    const VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                  .commandPool = d->pool,
                                                  .level = VK_COMMAND_BUFFER_LEVEL_SECONDARY,
                                                  .commandBufferCount = 1};
    const VkCommandBufferInheritanceInfo inherits = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_INHERITANCE_INFO};
    const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                           .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
                                           .pInheritanceInfo = &inherits};
    strand_plugin_status status =
        vk_check(d->base.host, vkAllocateCommandBuffers(d->device, &commands, &s->commands), "making a command buffer");
    if (!status) status = vk_check(d->base.host, vkBeginCommandBuffer(s->commands, &info), "recording");
    s->recording = !status;
    vk_hazards_forget(&s->hazards);
    return status;
}

strand_plugin_status driver_segment_create(strand_plugin_device *device, strand_plugin_segment **segment) {
    const strand_host *host = device->host;
    strand_plugin_segment *s = host->alloc(host->context, sizeof *s, 64);
    if (!s) return STRAND_PLUGIN_ERR_MEMORY;
    memset(s, 0, sizeof *s);
    strand_plugin_status status = begin(vk_of(device), s);
    if (status)
        driver_segment_destroy(device, s);
    else
        *segment = s;
    return status;
}

static strand_plugin_status add_page(vk_device *d, strand_plugin_segment *s) {
    const strand_host *host = d->base.host;
    vk_page *page = host->alloc(host->context, sizeof *page, 64);
    if (!page) return STRAND_PLUGIN_ERR_MEMORY;
    memset(page, 0, sizeof *page);
    page->next = s->pages;
    s->pages = page;
    return vk_page_open(d, page, VK_PAGE);
}

strand_plugin_status driver_segment_dispatch(strand_plugin_device *device, strand_plugin_segment *s, const gpu_dispatch *g) {
    vk_device *d = vk_of(device);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (!s->recording)
        return gpu_fail(device->host, STRAND_PLUGIN_ERR_ARGUMENT, "a segment that has been run takes no more launches");
    if (!s->pages || s->pages->used == s->pages->room) status = add_page(d, s);
    return status ? status : vk_record(d, s->commands, &s->hazards, s->pages, g);
}

/* The first dispatch begins with a barrier, as what comes behind the segment does. */
strand_plugin_status driver_segment_run(strand_plugin_device *device, strand_plugin_segment *s) {
    vk_device *d = vk_of(device);
    vk_batch *b;
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (s->recording) status = vk_check(device->host, vkEndCommandBuffer(s->commands), "recording");
    s->recording = false;
    s->broken = s->broken || status;
    if (s->broken) return status == STRAND_PLUGIN_ERR_DEVICE ? status : STRAND_PLUGIN_ERR_UNSUPPORTED;
    status = vk_recording(d, &b);
    if (status) return status;
    vkCmdExecuteCommands(b->commands, 1, &s->commands);
    vk_hazards_forget(&b->hazards);
    s->point = d->last_point + 1;
    return STRAND_PLUGIN_OK;
}

void driver_segment_destroy(strand_plugin_device *device, strand_plugin_segment *s) {
    vk_device *d = vk_of(device);
    const strand_host *host = device->host;
    uint64_t point;
    bool passed = !s->point || (!driver_submit(device, &point) && !driver_wait(device, s->point));
    if (!passed) vkDeviceWaitIdle(d->device);
    for (vk_page *page = s->pages, *next; page; page = next) {
        next = page->next;
        vk_page_close(d, page);
        host->free(host->context, page, sizeof *page);
    }
    if (s->commands) vkFreeCommandBuffers(d->device, d->pool, 1, &s->commands);
    host->free(host->context, s, sizeof *s);
}

/* queue.c - batches of commands: recording, submitting, waiting, and the copies between host and device through staging memory.
 *
 * An upload copies the caller's bytes into staging at once; a download copies them out when the batch has passed, at the
 * latest in the wait for its point. Transfers larger than a batch's staging are cut. */
#include "vulkan.h"

#include <string.h>

#define FOREVER UINT64_MAX

strand_plugin_status vk_page_open(vk_device *d, vk_page *page, uint32_t room) {
    const VkDescriptorPoolSize sizes[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, room * GPU_MOST_BINDINGS},
                                          {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, room}};
    const VkDescriptorPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = room, .poolSizeCount = 2, .pPoolSizes = sizes};
    page->room = room;
    strand_plugin_status status =
        vk_check(d->base.host, vkCreateDescriptorPool(d->device, &pool, NULL, &page->descriptors), "making a descriptor pool");
    return status ? status : vk_buffer_make(d, (uint64_t)room * VK_PARAM_BYTES, true, &page->params);
}

void vk_page_close(vk_device *d, vk_page *page) {
    if (page->descriptors) vkDestroyDescriptorPool(d->device, page->descriptors, NULL);
    vk_buffer_drop(d, &page->params);
}

static strand_plugin_status batch_open(vk_device *d, vk_batch *b) {
    const strand_host *host = d->base.host;
    const VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                  .commandPool = d->pool,
                                                  .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                  .commandBufferCount = 1};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    strand_plugin_status status =
        vk_check(host, vkAllocateCommandBuffers(d->device, &commands, &b->commands), "making a command buffer");
    if (!status && !d->timeline) status = vk_check(host, vkCreateFence(d->device, &fence, NULL, &b->fence), "making a fence");
    if (!status) status = vk_page_open(d, &b->page, VK_DISPATCHES);
    if (!status) status = vk_buffer_make(d, VK_STAGING, true, &b->staging);
    return status;
}

strand_plugin_status vk_queue_open(vk_device *d) {
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (int i = 0; i < VK_BATCHES && !status; i++) status = batch_open(d, &d->batches[i]);
    return status;
}

void vk_queue_close(vk_device *d) {
    for (int i = 0; i < VK_BATCHES; i++) {
        vk_batch *b = &d->batches[i];
        if (b->fence) vkDestroyFence(d->device, b->fence, NULL);
        vk_page_close(d, &b->page);
        vk_buffer_drop(d, &b->staging);
    }
    if (d->timeline) vkDestroySemaphore(d->device, d->timeline, NULL);
}

static VkResult batch_wait(vk_device *d, const vk_batch *b) {
    const VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &d->timeline, .pValues = &b->point};
    return d->timeline ? d->wait(d->device, &info, FOREVER) : vkWaitForFences(d->device, 1, &b->fence, VK_TRUE, FOREVER);
}

/* Waits for a submitted batch and makes it empty: its downloads reach their places. */
static strand_plugin_status batch_finish(vk_device *d, vk_batch *b) {
    if (!b->point) return STRAND_PLUGIN_OK;
    strand_plugin_status status = vk_check(d->base.host, batch_wait(d, b), "waiting");
    for (uint32_t i = 0; i < b->n_reads && !status; i++)
        memcpy(b->reads[i].to, b->staging.mapped + b->reads[i].at, (size_t)b->reads[i].bytes);
    b->point = 0;
    b->n_reads = b->page.used = 0;
    b->staged = 0;
    return status;
}

strand_plugin_status vk_recording(vk_device *d, vk_batch **batch) {
    vk_batch *b = &d->batches[d->current];
    *batch = b;
    if (b->recording) return STRAND_PLUGIN_OK;
    strand_plugin_status status = batch_finish(d, b);
    if (status) return status;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    if (b->fence) status = vk_check(d->base.host, vkResetFences(d->device, 1, &b->fence), "resetting a fence");
    if (!status)
        status = vk_check(d->base.host, vkResetDescriptorPool(d->device, b->page.descriptors, 0), "resetting descriptors");
    if (!status) status = vk_check(d->base.host, vkBeginCommandBuffer(b->commands, &begin), "recording");
    b->recording = !status;
    vk_hazards_forget(&b->hazards);
    return status;
}

/* A copy of `bytes`: staging's are a batch's own, each used once, and need no barrier. */
static void record_copy(vk_batch *b, const strand_plugin_buffer *from, uint64_t from_offset, const strand_plugin_buffer *to,
                        uint64_t to_offset, uint64_t bytes) {
    const VkBufferCopy copy = {from_offset, to_offset, bytes};
    const vk_range touched[] = {{from->buffer, from_offset, from_offset + bytes, false},
                                {to->buffer, to_offset, to_offset + bytes, true}};
    vk_before(b->commands, &b->hazards, touched, 2);
    vkCmdCopyBuffer(b->commands, from->buffer, to->buffer, 1, &copy);
}

static void memory_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags wrote, VkPipelineStageFlags to,
                           VkAccessFlags reads) {
    const VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = wrote, .dstAccessMask = reads};
    vkCmdPipelineBarrier(commands, from, to, 0, 1, &barrier, 0, NULL, 0, NULL);
}

void vk_barrier(VkCommandBuffer commands) {
    const VkPipelineStageFlags work = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    memory_barrier(commands, work, VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, work,
                   VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                       VK_ACCESS_TRANSFER_WRITE_BIT);
}

strand_plugin_status vk_flush(vk_device *d) {
    vk_batch *b = &d->batches[d->current];
    const strand_host *host = d->base.host;
    if (!b->recording) return STRAND_PLUGIN_OK;
    memory_barrier(b->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                   VK_ACCESS_HOST_READ_BIT);
    b->recording = false;
    strand_plugin_status status = vk_check(host, vkEndCommandBuffer(b->commands), "recording");
    const uint64_t point = d->last_point + 1;
    const VkTimelineSemaphoreSubmitInfo value = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                 .signalSemaphoreValueCount = 1,
                                                 .pSignalSemaphoreValues = &point};
    const VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                 .pNext = d->timeline ? &value : NULL,
                                 .commandBufferCount = 1,
                                 .pCommandBuffers = &b->commands,
                                 .signalSemaphoreCount = d->timeline ? 1 : 0,
                                 .pSignalSemaphores = &d->timeline};
    if (!status) status = vk_check(host, vkQueueSubmit(d->queue, 1, &submit, b->fence), "submitting");
    if (status) { /* what it held is lost; its downloads must not be taken for made */
        b->n_reads = b->page.used = 0;
        b->staged = 0;
        return status;
    }
    b->point = d->last_point = point;
    d->current = (d->current + 1) % VK_BATCHES;
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_submit(strand_plugin_device *device, uint64_t *point) {
    vk_device *d = vk_of(device);
    strand_plugin_status status = vk_flush(d);
    *point = d->last_point;
    return status;
}

/* Batches pass in order. Those that were used again since have been waited for then. */
strand_plugin_status driver_wait(strand_plugin_device *device, uint64_t point) {
    vk_device *d = vk_of(device);
    strand_plugin_status status = STRAND_PLUGIN_OK;
    for (uint32_t i = 0; i < VK_BATCHES && !status; i++) {
        vk_batch *b = &d->batches[(d->current + i) % VK_BATCHES]; /* the oldest first */
        if (b->point && b->point <= point) status = batch_finish(d, b);
    }
    return status;
}

/* Room for up to `bytes` in the staging of a batch that is recording; *got of them. */
static strand_plugin_status stage(vk_device *d, uint64_t bytes, vk_batch **batch, uint64_t *at, uint64_t *got) {
    strand_plugin_status status = vk_recording(d, batch);
    if (!status && ((*batch)->staged >= VK_STAGING || (*batch)->n_reads == VK_READS)) {
        status = vk_flush(d);
        if (!status) status = vk_recording(d, batch);
    }
    if (status) return status;
    uint64_t left = VK_STAGING - (*batch)->staged;
    *at = (*batch)->staged;
    *got = bytes < left ? bytes : left;
    (*batch)->staged = (*at + *got + 15) / 16 * 16;
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_upload(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset,
                                   const void *from, uint64_t bytes) {
    vk_device *d = vk_of(device);
    for (uint64_t done = 0, at, got; done < bytes; done += got) {
        vk_batch *b;
        strand_plugin_status status = stage(d, bytes - done, &b, &at, &got);
        if (status) return status;
        memcpy(b->staging.mapped + at, (const char *)from + done, (size_t)got);
        record_copy(b, &b->staging, at, buffer, offset + done, got);
    }
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_download(strand_plugin_device *device, strand_plugin_buffer *buffer, uint64_t offset, void *to,
                                     uint64_t bytes) {
    vk_device *d = vk_of(device);
    for (uint64_t done = 0, at, got; done < bytes; done += got) {
        vk_batch *b;
        strand_plugin_status status = stage(d, bytes - done, &b, &at, &got);
        if (status) return status;
        record_copy(b, buffer, offset + done, &b->staging, at, got);
        b->reads[b->n_reads++] = (vk_read){at, got, (char *)to + done};
    }
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_copy(strand_plugin_device *device, strand_plugin_buffer *from, uint64_t from_offset,
                                 strand_plugin_buffer *to, uint64_t to_offset, uint64_t bytes) {
    vk_batch *b;
    strand_plugin_status status = vk_recording(vk_of(device), &b);
    if (!status) record_copy(b, from, from_offset, to, to_offset, bytes);
    return status;
}

/* The dispatch's descriptors, and what it touches: its bindings' ranges. */
static void write_set(vk_device *d, const vk_page *page, VkDescriptorSet set, const gpu_dispatch *g, vk_range *touched) {
    VkDescriptorBufferInfo infos[GPU_MOST_BINDINGS + 1];
    VkWriteDescriptorSet writes[GPU_MOST_BINDINGS + 1];
    for (uint32_t i = 0; i <= g->n_bindings; i++) {
        const gpu_binding *from = &g->bindings[i];
        if (i < g->n_bindings) {
            uint64_t room = from->buffer->bytes - from->offset;
            infos[i] = (VkDescriptorBufferInfo){from->buffer->buffer, from->offset,
                                                from->bytes < 4      ? 4
                                                : from->bytes < room ? from->bytes
                                                                     : room};
            touched[i] =
                (vk_range){from->buffer->buffer, from->offset, from->offset + infos[i].range, d->writes[g->kernel] >> i & 1};
        } else {
            infos[i] = (VkDescriptorBufferInfo){page->params.buffer, (uint64_t)page->used * VK_PARAM_BYTES, VK_PARAM_BYTES};
        }
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = i < g->n_bindings ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
                                                                               : VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER,
                                           .pBufferInfo = &infos[i]};
    }
    vkUpdateDescriptorSets(d->device, g->n_bindings + 1, writes, 0, NULL);
}

strand_plugin_status vk_record(vk_device *d, VkCommandBuffer commands, vk_hazards *hazards, vk_page *page,
                               const gpu_dispatch *g) {
    vk_range touched[GPU_MOST_BINDINGS];
    VkPipeline pipeline;
    VkDescriptorSet set;
    const VkDescriptorSetAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                                  .descriptorPool = page->descriptors,
                                                  .descriptorSetCount = 1,
                                                  .pSetLayouts = &d->set_layouts[g->n_bindings + 1]};
    strand_plugin_status status = vk_pipeline(d, g->kernel, &pipeline);
    if (!status)
        status = vk_check(d->base.host, vkAllocateDescriptorSets(d->device, &allocate, &set), "making a descriptor set");
    if (status) return status;
    memcpy(page->params.mapped + (size_t)page->used * VK_PARAM_BYTES, g->params, sizeof g->params);
    write_set(d, page, set, g, touched);
    page->used++;
    vk_before(commands, hazards, touched, g->n_bindings);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, d->layouts[g->n_bindings + 1], 0, 1, &set, 0, NULL);
    vkCmdDispatch(commands, g->groups[0], g->groups[1], g->groups[2]);
    return STRAND_PLUGIN_OK;
}

strand_plugin_status driver_dispatch(strand_plugin_device *device, const gpu_dispatch *g) {
    vk_device *d = vk_of(device);
    vk_batch *b;
    strand_plugin_status status = vk_recording(d, &b);
    if (!status && b->page.used == b->page.room) {
        status = vk_flush(d);
        if (!status) status = vk_recording(d, &b);
    }
    return status ? status : vk_record(d, b->commands, &b->hazards, &b->page, g);
}

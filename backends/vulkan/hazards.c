/* hazards.c - where a command buffer needs a barrier: before a command that reads or writes what an earlier one since the
 * last barrier wrote, or writes what one read. What a command touches is the ranges of its bindings; which of them a kernel
 * writes is read from its SPIR-V (pipeline.c).
 *
 * What ran before a command buffer's first command is not known, and neither is what a segment's commands touched: a barrier
 * stands there. So it does when more ranges are touched between two barriers than are kept. */
#include "vulkan.h"

void vk_hazards_forget(vk_hazards *h) {
    h->unknown = true;
    h->n = 0;
}

static bool meet(const vk_range *a, const vk_range *b) {
    return a->buffer == b->buffer && (a->written || b->written) && a->from < b->to && b->from < a->to;
}

static bool needs_barrier(const vk_hazards *h, const vk_range *touched, uint32_t n) {
    if (h->unknown || h->n + n > VK_RANGES) return true;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < h->n; j++)
            if (meet(&touched[i], &h->ranges[j])) return true;
    return false;
}

static bool is_kept(const vk_hazards *h, const vk_range *r) {
    for (uint32_t j = 0; j < h->n; j++) {
        const vk_range *k = &h->ranges[j];
        if (k->buffer == r->buffer && k->written == r->written && k->from <= r->from && r->to <= k->to) return true;
    }
    return false;
}

void vk_before(VkCommandBuffer commands, vk_hazards *h, const vk_range *touched, uint32_t n) {
    if (needs_barrier(h, touched, n)) {
        vk_barrier(commands);
        h->unknown = false;
        h->n = 0;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!is_kept(h, &touched[i])) h->ranges[h->n++] = touched[i];
}

/* plan.c - first-fit placement in four orders: by size, by size times lifetime, by first use, and by first use where blocks
 * that do not stay to the end and are nearly as large as the largest of them take as much room, so that they fit each other's
 * places. Each block goes to the lowest gap between the blocks already placed that are alive with it. Quadratic in the
 * number of blocks, which is a few hundred. The order of equal blocks is their index, so that a plan depends on nothing but
 * its input. */
#include "plan.h"

#include <string.h>

#include "checked.h"

typedef struct work {
    uint32_t *order;   /* block indices */
    uint32_t *by_place;/* placed and overlapping in time, sorted by offset */
    uint64_t *trial;   /* offsets of the order being tried */
    uint64_t *alive;   /* bytes alive at each step */
    uint32_t end;      /* blocks that end before this step, */
    uint64_t most;     /* and have nearly so many bytes, take the room of so many; 0: none do */
} work;

enum { BY_SIZE, BY_LIFE, BY_FIRST_USE, LARGEST_ALIKE, N_ORDERS };

size_t plan_work_bytes(size_t n, uint32_t steps) {
    return n * (2 * sizeof(uint32_t) + sizeof(uint64_t)) + (size_t)steps * sizeof(uint64_t) + 64;
}

static void carve(work *w, void *memory, size_t n, uint32_t steps) {
    w->trial = memory;
    w->alive = w->trial + n;
    w->order = (uint32_t *)(w->alive + steps);
    w->by_place = w->order + n;
}

/* Nearly the largest: as much as that. */
static uint64_t room_of(const plan_block *b, const work *w) {
    return b->last < w->end && b->bytes >= w->most - w->most / 8 ? w->most : b->bytes;
}

static uint64_t weight_of(const plan_block *b, int key, const work *w) {
    if (key == BY_SIZE) return b->bytes;
    if (key == LARGEST_ALIKE && b->last >= w->end) return UINT64_MAX; /* what stays is placed first */
    if (key == BY_LIFE) {
        uint64_t life = (uint64_t)(b->last - b->first) + 1, product;
        return checked_mul(b->bytes, life, &product) ? product : UINT64_MAX;
    }
    return UINT64_MAX - 1 - b->first; /* earliest first */
}

static void sort_order(const plan_block *blocks, size_t n, int key, const work *w) {
    uint32_t *order = w->order;
    /* Heap sort would do better on thousands; insertion keeps equal blocks in index order and n is small. */
    for (size_t i = 0; i < n; i++) {
        uint64_t mine = weight_of(&blocks[i], key, w);
        size_t j = i;
        for (; j > 0 && weight_of(&blocks[order[j - 1]], key, w) < mine; j--) order[j] = order[j - 1];
        order[j] = (uint32_t)i;
    }
}

static bool together(const plan_block *a, const plan_block *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Moves a block that would lie across the end of a page to the next one. */
static bool within_page(uint64_t bytes, uint64_t page, uint64_t *offset) {
    if (!page || !bytes || *offset / page == (*offset + bytes - 1) / page) return true;
    return checked_mul(*offset / page + 1, page, offset);
}

/* The lowest aligned offset at which block `i` fits between its neighbours, the first `placed` of w->order. */
static bool lowest_gap(const plan_block *blocks, const work *w, size_t placed, uint32_t i, uint64_t page, uint64_t *at) {
    size_t m = 0;
    for (size_t k = 0; k < placed; k++) {
        uint32_t other = w->order[k];
        if (!together(&blocks[i], &blocks[other]) || !blocks[other].bytes) continue;
        size_t j = m++;
        for (; j > 0 && w->trial[w->by_place[j - 1]] > w->trial[other]; j--) w->by_place[j] = w->by_place[j - 1];
        w->by_place[j] = other;
    }
    uint64_t offset = 0, end;
    const uint64_t mine = room_of(&blocks[i], w);
    for (size_t k = 0; k < m; k++) {
        uint32_t other = w->by_place[k];
        if (!checked_add(offset, mine, &end)) return false;
        if (end <= w->trial[other]) break;
        uint64_t after = w->trial[other] + room_of(&blocks[other], w);
        if (after > offset && (!checked_align(after, blocks[i].align, &offset) || !checked_add(offset, mine, &end)))
            return false;
        if (!within_page(mine, page, &offset)) return false;
    }
    *at = offset;
    return checked_add(offset, mine, &end);
}

static bool place_all(const plan_block *blocks, size_t n, uint64_t page, work *w, uint64_t *peak) {
    *peak = 0;
    for (size_t k = 0; k < n; k++) {
        uint32_t i = w->order[k];
        if (!lowest_gap(blocks, w, k, i, page, &w->trial[i])) return false;
        uint64_t end = w->trial[i] + blocks[i].bytes;
        if (end > *peak) *peak = end;
    }
    return true;
}

static bool count_alive(const plan_block *blocks, size_t n, uint32_t steps, work *w, plan_result *result) {
    memset(w->alive, 0, steps * sizeof *w->alive);
    result->lower_bound = 0;
    result->peak_step = 0;
    for (size_t i = 0; i < n; i++)
        for (uint32_t s = blocks[i].first; s <= blocks[i].last; s++)
            if (!checked_add(w->alive[s], blocks[i].bytes, &w->alive[s])) return false;
    for (uint32_t s = 0; s < steps; s++)
        if (w->alive[s] > result->lower_bound) {
            result->lower_bound = w->alive[s];
            result->peak_step = s;
        }
    return true;
}

static uint64_t largest_before(const plan_block *blocks, size_t n, uint32_t end) {
    uint64_t most = 0;
    for (size_t i = 0; i < n; i++)
        if (blocks[i].last < end && blocks[i].bytes > most) most = blocks[i].bytes;
    return most;
}

bool plan_offsets(const plan_block *blocks, size_t n, uint32_t steps, uint64_t page, void *memory, uint64_t *offsets,
                  plan_result *result) {
    work w;
    carve(&w, memory, n, steps);
    if (!count_alive(blocks, n, steps, &w, result)) return false;
    result->peak = UINT64_MAX;
    for (int key = 0; key < N_ORDERS; key++) {
        uint64_t peak;
        w.end = key == LARGEST_ALIKE ? steps - 1 : 0;
        w.most = largest_before(blocks, n, w.end);
        sort_order(blocks, n, key, &w);
        if (!place_all(blocks, n, page, &w, &peak)) {
            if (key == LARGEST_ALIKE) break;
            return false;
        }
        if (peak < result->peak) {
            result->peak = peak;
            if (n) memcpy(offsets, w.trial, n * sizeof *offsets);
        }
    }
    return true;
}

bool plan_verify(const plan_block *blocks, size_t n, uint64_t page, const uint64_t *offsets, uint64_t peak, size_t *a,
                 size_t *b) {
    for (size_t i = 0; i < n; i++) {
        *a = *b = i;
        if (page && blocks[i].bytes && offsets[i] / page != (offsets[i] + blocks[i].bytes - 1) / page) return false;
        if ((offsets[i] & (blocks[i].align - 1)) || !checked_range(offsets[i], blocks[i].bytes, peak)) return false;
        for (size_t j = 0; j < i; j++) {
            if (!blocks[i].bytes || !blocks[j].bytes || !together(&blocks[i], &blocks[j])) continue;
            *b = j;
            if (offsets[i] < offsets[j] + blocks[j].bytes && offsets[j] < offsets[i] + blocks[i].bytes) return false;
        }
    }
    return true;
}

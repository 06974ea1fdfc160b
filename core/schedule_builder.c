/* schedule_builder.c - the pieces that a schedule is put together from: arrays that grow, blocks of memory with their lives in
 * steps, instances of tensors, and the copies that bring a tensor to the space that reads it. */
#include "schedule_builder.h"

#include <string.h>

#include "checked.h"

strand_status builder_no_memory(builder *b) {
    return error_set(b->e, STRAND_ERR_MEMORY, "out of memory while planning");
}

/* The arrays grow by doubling in the arena, as the graph's do. */
static void *grown(arena *a, void *array, uint32_t used, uint32_t *room, size_t size) {
    if (used < *room) return array;
    uint32_t more = *room ? *room * 2 : 128;
    void *bigger = arena_array(a, more, size, 8);
    if (bigger && used) memcpy(bigger, array, (size_t)used * size);
    if (bigger) *room = more;
    return bigger;
}

#define PUSH(b, array, count, room, value, out)                                                                                \
    do {                                                                                                                       \
        void *grown_ = grown((b)->a, (b)->s->array, (b)->s->count, &(b)->room, sizeof *(b)->s->array);                         \
        if (!grown_) return builder_no_memory(b);                                                                              \
        (b)->s->array = grown_;                                                                                                \
        (b)->s->array[(b)->s->count] = (value);                                                                                \
        *(out) = (b)->s->count++;                                                                                              \
    } while (0)

strand_status builder_block(builder *b, uint32_t space, uint64_t bytes, uint64_t align, uint32_t first, uint32_t *out) {
    uint64_t rounded; /* whole cache lines, so that threads never share one between tensors */
    if (align < 64) align = 64;
    if (!checked_align(bytes, 64, &rounded))
        return error_set(b->e, STRAND_ERR_LIMIT, "a tensor of this length does not fit 64 bits");
    schedule_block block = {space, 0, {rounded, align, first, first}};
    PUSH(b, blocks, n_blocks, block_room, block, out);
    return STRAND_OK;
}

void builder_use(builder *b, uint32_t block, uint32_t at) {
    if (block == NONE) return;
    plan_block *life = &b->s->blocks[block].life;
    if (at > life->last) life->last = at;
    if (at < life->first) life->first = at;
}

uint64_t builder_alignment(const builder *b, uint32_t space) {
    uint64_t most = 64;
    for (uint32_t d = 0; d < b->p->n_devices; d++)
        if (b->p->space[d] == space && b->p->devices[d]->info.alignment > most) most = b->p->devices[d]->info.alignment;
    return most;
}

uint32_t *builder_whole(builder *b, int ph, uint32_t space, tensor_id t) {
    return &b->whole[ph][(size_t)space * b->g->n_tensors + t];
}

strand_status builder_push(builder *b, const instance *x, uint32_t *out) {
    PUSH(b, instances, n_instances, instance_room, *x, out);
    return STRAND_OK;
}

strand_status builder_instance(builder *b, tensor_id t, uint32_t space, uint32_t region, const placed_node *tile, uint32_t step,
                               uint32_t *out) {
    strand_plugin_tensor v;
    uint64_t bytes;
    view_whole(&v, &b->g->tensors[t], b->p->batch, b->p->length);
    instance x = {.tensor = t, .space = space, .region = NONE, .axis = -1, .block = NONE};
    if (tile) {
        int64_t n = b->s->tile[region] + tile->left + tile->right;
        x.region = region;
        x.axis = tile->axis;
        x.left = tile->left;
        x.right = tile->right;
        if (n < v.dims[x.axis]) v.dims[x.axis] = n;
    }
    if (!view_bytes(&v, &bytes)) return error_set(b->e, STRAND_ERR_LIMIT, "a tensor of this length does not fit 63 bits");
    bool in_place = b->g->tensors[t].kind == TENSOR_WEIGHT && space == 0;
    if (!in_place && builder_block(b, space, bytes, builder_alignment(b, space), step, &x.block)) return b->e->status;
    if (builder_push(b, &x, out)) return b->e->status;
    if (x.block != NONE) builder_use(b, x.block, step);
    return STRAND_OK;
}

strand_status builder_step(builder *b, step st, uint32_t *out) {
    PUSH(b, steps, n_steps, step_room, st, out);
    return STRAND_OK;
}

strand_status builder_need(builder *b, int ph, uint32_t space, tensor_id t, uint32_t *out) {
    uint32_t *at = builder_whole(b, ph, space, t);
    const graph_tensor *x = &b->g->tensors[t];
    if (*at == NONE && x->kind == TENSOR_WEIGHT) {
        if (builder_instance(b, t, space, NONE, NULL, 0, at)) return b->e->status;
        *builder_whole(b, !ph, space, t) = *at;
        if (space != 0 && builder_weight(b, *at)) return b->e->status;
    }
    if (*at == NONE) {
        uint32_t from = NONE, sp;
        for (sp = 0; sp < b->p->n_spaces && from == NONE; sp++) from = *builder_whole(b, ph, sp, t);
        if (from == NONE) return error_set(b->e, STRAND_ERR_BACKEND, "planning lost tensor '%s'", x->name);
        sp = b->s->instances[from].space;
        if (sp != 0 && space != 0) { /* two devices meet in the host's memory */
            if (builder_need(b, ph, 0, t, &from)) return b->e->status;
            sp = 0;
        }
        uint32_t i, device = 0, other = sp ? sp : space;
        while (b->p->space[device] != other) device++;
        if (builder_instance(b, t, space, NONE, NULL, b->s->n_steps, at)) return b->e->status;
        b->s->instances[*at].kept = b->s->instances[from].kept && ph == PROLOGUE;
        if (builder_step(b, (step){STEP_COPY, (uint8_t)ph, device, NONE, 0, 0, from, *at, NONE, 0}, &i)) return b->e->status;
        builder_use(b, b->s->instances[from].block, i);
    }
    *out = *at;
    return STRAND_OK;
}

strand_status builder_node(builder *b, const scheduled_node *n, uint32_t *out) {
    PUSH(b, nodes, n_nodes, node_room, *n, out);
    return STRAND_OK;
}

strand_status builder_weight(builder *b, uint32_t instance) {
    uint32_t unused;
    PUSH(b, weights, n_weights, weight_room, instance, &unused);
    return STRAND_OK;
}

strand_status builder_state(builder *b, uint32_t instance) {
    uint32_t unused;
    PUSH(b, states, n_states, state_room, instance, &unused);
    return STRAND_OK;
}

strand_status builder_open(builder *b) {
    const graph *g = b->g;
    size_t n = g->n_nodes + 1, t = g->n_tensors;
    for (int ph = 0; ph < 2; ph++) {
        b->in_phase[ph] = ARENA_ARRAY(b->a, uint8_t, n);
        b->whole[ph] = ARENA_ARRAY(b->a, uint32_t, t * b->p->n_spaces);
        if (!b->in_phase[ph] || !b->whole[ph]) return builder_no_memory(b);
        memset(b->whole[ph], 0xff, t * b->p->n_spaces * sizeof *b->whole[ph]);
    }
    b->prepare = ARENA_ARRAY(b->a, uint8_t, n);
    b->tile = ARENA_ARRAY(b->a, uint32_t, t);
    b->prepared = ARENA_ARRAY(b->a, uint32_t, n);
    b->s->kept = ARENA_ARRAY(b->a, uint8_t, t);
    b->s->tile = ARENA_ARRAY(b->a, int64_t, b->p->n_regions + 1);
    b->s->tiles = ARENA_ARRAY(b->a, uint32_t, b->p->n_regions + 1);
    if (!b->prepare || !b->tile || !b->prepared || !b->s->kept || !b->s->tile || !b->s->tiles) return builder_no_memory(b);
    memset(b->tile, 0xff, t * sizeof *b->tile);
    memset(b->prepared, 0xff, n * sizeof *b->prepared);
    return STRAND_OK;
}

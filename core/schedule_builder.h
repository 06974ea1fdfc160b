/* schedule_builder.h - what the files that make a schedule share: the builder, and the pieces that it is put together from.
 *
 *   schedule_builder.c   arrays, blocks with their lives, instances, copies between spaces
 *   schedule_launch.c    launches: groups that backends claim, results that lie over inputs, regions in loops
 *   schedule.c           which constants are kept, the two phases, states and outputs, offsets */
#ifndef STRAND_CORE_SCHEDULE_BUILDER_H
#define STRAND_CORE_SCHEDULE_BUILDER_H

#include "schedule.h"

typedef struct builder {
    schedule *s;
    arena *a;
    const placement *p;
    const graph *g;
    const uint8_t *keep;
    error *e;
    uint8_t *in_phase[2]; /* for each node: computed in the prologue, in the main phase */
    uint8_t *prepare;     /* for each node: its prepared constant is kept */
    uint32_t *whole[2];   /* for each (space, tensor): the whole instance visible in the phase, or NONE */
    uint32_t *tile;       /* for each tensor: its instance inside the region being emitted */
    uint32_t *prepared;   /* for each node: the block of its kept prepared constant, or NONE */
    uint32_t instance_room, node_room, step_room, block_room, weight_room, state_room;
} builder;

/* The nodes of one phase that stand together: one node, or those of a region. */
typedef struct run_of_nodes {
    uint32_t *nodes;
    uint32_t n;
    int ph;
    uint32_t region; /* NONE unless the region is cut */
} run_of_nodes;

static inline bool region_cut(const schedule *s, uint32_t region) {
    return region != NONE && s->tiles[region] > 1;
}

static inline bool is_kept(const builder *b, tensor_id t) {
    return (b->s->kept[t] & KEPT_ITSELF) != 0;
}

/* ---- schedule_builder.c ---- */

strand_status builder_open(builder *b);
strand_status builder_no_memory(builder *b);

/* A block of memory that lives from step `first` on; use makes it live at step `at` too (no block: nothing). */
strand_status builder_block(builder *b, uint32_t space, uint64_t bytes, uint64_t align, uint32_t first, uint32_t *out);
void builder_use(builder *b, uint32_t block, uint32_t at);
uint64_t builder_alignment(const builder *b, uint32_t space);

/* Where the whole instance of a tensor that a phase sees in a space is noted, or NONE. */
uint32_t *builder_whole(builder *b, int ph, uint32_t space, tensor_id t);
/* An instance: whole, or (tile not NULL) what one iteration of the region has of it. */
strand_status builder_instance(builder *b, tensor_id t, uint32_t space, uint32_t region, const placed_node *tile, uint32_t step,
                               uint32_t *out);
/* Adds an instance as it is, for a result that lies in the block of another. */
strand_status builder_push(builder *b, const instance *x, uint32_t *out);
/* Makes sure that tensor t is whole in `space` before the next step: a weight, an input or a result elsewhere is copied. */
strand_status builder_need(builder *b, int ph, uint32_t space, tensor_id t, uint32_t *out);

strand_status builder_step(builder *b, step st, uint32_t *out);
strand_status builder_node(builder *b, const scheduled_node *n, uint32_t *out);
strand_status builder_weight(builder *b, uint32_t instance);
strand_status builder_state(builder *b, uint32_t instance);

/* ---- schedule_launch.c ---- */

/* Work of a node at the maximum, for progress. */
double builder_work(const builder *b, uint32_t node);
/* A launch's scratch, for the one step: NONE where it needs none. */
strand_status builder_scratch(builder *b, const run_of_nodes *run, const step *st, uint32_t step_index, uint32_t *out);
/* All launches of a run. left: how often each tensor is still going to be read in this phase. */
strand_status builder_emit(builder *b, const run_of_nodes *run, uint32_t *left);

#endif

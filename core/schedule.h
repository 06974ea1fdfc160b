/* schedule.h - from a graph to a list of steps: where each node runs, which nodes are tiled together, what is copied between
 * devices, and which memory each tensor has. Nothing is allocated for the run itself here; offsets come from plan.c.
 *
 * Words
 *   space     a memory: 0 is the host's, shared by all devices that compute there; other devices have one each
 *   phase     PROLOGUE makes what depends on weights (and the run's length) alone and is kept; MAIN is every run
 *   region    nodes that may run together in a loop over tiles of one axis; `tiles` says in how many (1: not cut)
 *   instance  one tensor in one space and phase: whole, or the tile of it that a region's iteration has
 *   launch    one node, or the nodes of a claimed group
 * Invariants
 *   1. Every result inside a region, its last node's excepted, is used inside that region alone: so a region's nodes can stand
 *      together at the place of its last node.
 *   2. A kept constant is never a tile: a region that is cut recomputes the constants inside it in every run. */
#ifndef STRAND_CORE_SCHEDULE_H
#define STRAND_CORE_SCHEDULE_H

#include "context.h"
#include "graph.h"
#include "plan.h"

#define NONE UINT32_MAX

/* Views that describe one node: its inputs, then its outputs. */
#define NODE_VIEWS (STRAND_PLUGIN_MAX_INPUTS + STRAND_PLUGIN_MAX_OUTPUTS)

typedef enum phase { PROLOGUE = 0, MAIN = 1 } phase;

/* Where a node runs; made once a plan. */
typedef struct placed_node {
    bool live;
    uint32_t device; /* index into placement.devices */
    uint32_t region; /* or NONE */
    int axis;        /* of its result, cut by the region */
    int64_t left, right;
    op_axis_rule rules[STRAND_PLUGIN_MAX_INPUTS];
    const char *why; /* why not on an earlier device */
} placed_node;

typedef struct region {
    uint32_t sink;  /* its last node */
    int axis;       /* of the sink's result */
    int64_t extent; /* of that axis at the maximum */
} region;

#define SCHEDULE_MAX_DEVICES 8

typedef struct placement {
    const graph *graph;
    strand_context *context;
    int64_t batch, length; /* the maximum */
    registry_device *devices[SCHEDULE_MAX_DEVICES];
    uint32_t space[SCHEDULE_MAX_DEVICES];    /* 0: host */
    uint64_t page[SCHEDULE_MAX_DEVICES + 1]; /* a space: bytes of its largest buffer, whole pages of 4096; 0: no limit */
    uint32_t n_devices, n_spaces;
    placed_node *nodes; /* one a graph node */
    uint32_t *uses;     /* for each tensor, how many live nodes and wanted outputs use it */
    uint8_t *wanted;    /* for each tensor: WANTED_... */
    region *regions;
    uint32_t n_regions;
} placement;

#define WANTED_ASKED 1u /* an output that was asked for */
#define WANTED_NEXT 2u  /* what a state becomes: it stays where the state is */

typedef struct instance {
    tensor_id tensor;
    uint32_t space;
    uint32_t region; /* the region whose tile it is, or NONE: whole */
    int axis;        /* of the tile */
    int64_t left, right;
    bool kept;      /* from the prologue */
    uint32_t block; /* index into schedule.blocks, or NONE: inside a group, or a weight in place */
} instance;

typedef struct scheduled_node {
    uint32_t node;
    uint32_t inputs[STRAND_PLUGIN_MAX_INPUTS]; /* instances, NONE where absent */
    uint32_t output, second;                   /* second: NONE where it is not used */
    uint32_t prepared;                         /* block, or NONE */
} scheduled_node;

/* INPUT also makes the clocks. STATE: a state becomes its next one, where that does not lie over it; `device` as for COPY where
 * they are not in the host's space. */
typedef enum step_kind { STEP_INPUT, STEP_COPY, STEP_PREPARE, STEP_LAUNCH, STEP_STATE } step_kind;

typedef struct step {
    step_kind kind;
    uint8_t phase;
    uint32_t device;   /* LAUNCH, PREPARE; COPY: the device whose memory is not the host's */
    uint32_t region;   /* or NONE */
    uint32_t first, n; /* scheduled nodes of a LAUNCH or PREPARE */
    uint32_t from, to; /* instances of a COPY or STATE; INPUT: to */
    uint32_t scratch;  /* block, or NONE */
    double work;
} step;

typedef struct schedule_block {
    uint32_t space;
    uint64_t offset;
    plan_block life;
} schedule_block;

/* Launches in a row on one device of its own memory: the same in every run of the same extents. */
typedef struct schedule_segment {
    uint32_t first, n; /* steps */
} schedule_segment;

#define KEPT_ITSELF   1 /* the tensor stays from run to run */
#define KEPT_PREPARED 2 /* what a backend prepared of it does */

typedef struct schedule {
    const placement *place;
    int64_t *tile;   /* a region: extent of a tile; whole extent when not cut */
    uint32_t *tiles; /* a region: number of tiles at the maximum */
    instance *instances;
    scheduled_node *nodes;
    step *steps;
    schedule_block *blocks;
    uint32_t n_instances, n_nodes, n_steps, n_blocks;
    uint32_t first_main; /* steps before it are the prologue */
    uint32_t *weights;   /* instances of weights that are uploaded when a session opens */
    uint32_t n_weights;
    uint32_t *states; /* instances of the states, where what they become is made, in graph order */
    uint32_t n_states;
    schedule_segment *segments; /* of the main phase, in order */
    uint32_t n_segments;
    uint64_t state_bytes;
    uint32_t *outputs;                        /* instance of each graph output in the host's space, or NONE when not wanted */
    uint8_t *kept;                            /* for each tensor: KEPT_... bits */
    uint64_t bytes[SCHEDULE_MAX_DEVICES + 1]; /* planned, a space */
    uint32_t first_buffer[SCHEDULE_MAX_DEVICES + 1],
        n_buffers; /* a device's space is one buffer, or several of a page's size */
    uint64_t lower_bound, kept_bytes;
    uint32_t peak_step;                            /* of the host's space */
    uint32_t peak_steps[SCHEDULE_MAX_DEVICES + 1]; /* of each */
    uint32_t max_group;                            /* most nodes in a launch */
    double work;
} schedule;

/* Finds devices for the wanted nodes and forms the regions. `backends` and `outputs` are comma lists or NULL. */
strand_status placement_make(placement *p, arena *a, strand_context *c, const graph *g, int64_t batch, int64_t length,
                             const char *backends, const char *outputs, error *e);
/* Forms the regions of a placement (regions.c). */
strand_status regions_make(placement *p, arena *a, error *e);

/* Steps, instances and offsets for a choice of kept constants (`keep`, one byte a tensor) and of tile counts (one a region). */
strand_status schedule_make(schedule *s, arena *a, const placement *p, const uint8_t *keep, const uint32_t *tiles, error *e);

/* Extent of a dimension for a run of this size. */
static inline int64_t dim_extent(op_dim d, int64_t batch, int64_t length) {
    return d.kind == OP_DIM_FIXED ? d.size : d.kind == OP_DIM_BATCH ? batch : length;
}

/* The second output of a node, where something uses it, else 0. Such a node is never cut into tiles or claimed into a group. */
static inline tensor_id used_second(const placement *p, uint32_t node) {
    tensor_id t = p->graph->nodes[node].second;
    return t && p->uses[t] ? t : 0;
}

/* Rough floating-point operations of a node for a run of this size. */
double schedule_node_work(const graph *g, uint32_t node, int64_t batch, int64_t length);

/* A whole tensor's view without memory: dims, contiguous strides, origin 0. */
void view_whole(strand_plugin_tensor *v, const graph_tensor *t, int64_t batch, int64_t length);
/* Cuts a view to [begin, end) of an axis, keeping its strides; origin grows by begin. Memory moves with it. */
void view_cut(strand_plugin_tensor *v, int axis, int64_t begin, int64_t end);
/* Bytes of a contiguous tensor of the view's dims, or false on overflow. */
bool view_bytes(const strand_plugin_tensor *v, uint64_t *bytes);
/* The node as a plugin sees it at the plan's maximum, without memory; `views` has room for NODE_VIEWS. With tile > 0 the
 * views of a node in a region are those of a tile of that extent. */
void node_at_maximum(const placement *p, uint32_t node, int64_t tile, strand_plugin_node *out, strand_plugin_tensor *views);

#endif

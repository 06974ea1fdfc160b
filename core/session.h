/* session.h - a plan (immutable: what runs where, at which offsets) and a session (the memory of one that runs). */
#ifndef STRAND_CORE_SESSION_H
#define STRAND_CORE_SESSION_H

#include "model.h"
#include "schedule.h"

struct strand_plan {
    strand_model *model;
    strand_context *context;
    arena arena;       /* the plan itself and the placement */
    arena chosen;      /* the schedule */
    placement place;
    schedule schedule;
    uint64_t unlimited_bytes, block_bytes;
    uint32_t *launch_of; /* for each live node in execution order: its step */
    uint32_t *order;     /* scheduled nodes in execution order, PREPARE steps left out */
    uint32_t n_order;
};

/* Recordings are kept for the extents of some runs: prompts differ, steps are alike. */
#define SEGMENT_SHAPES 4

typedef struct segment_shape {
    int64_t batch, length; /* 0: free */
    uint64_t last;         /* run in which it was used */
    uint64_t runs;
} segment_shape;

struct strand_session {
    strand_plan *plan;
    strand_allocator allocator; /* alloc NULL: lives in the caller's block */
    size_t block_bytes;
    unsigned char *arena;       /* of space 0 */
    strand_plugin_buffer **buffers; /* [schedule.n_buffers] */
    strand_plugin_node *nodes;  /* for one launch */
    strand_plugin_tensor *views;
    strand_progress_fn progress;
    void *progress_user;
    strand_trace_fn trace;
    void *trace_user;
    double began;               /* the current run, for the trace */
    bool check_finite;
    uint32_t uploading, downloading, busy; /* devices (bits) that have such copies under way, or anything */
    strand_plugin_segment **segments;      /* [SEGMENT_SHAPES][n_segments], NULL where not recorded */
    segment_shape shapes[SEGMENT_SHAPES];
    uint32_t shape;             /* of the current run */
    uint64_t runs;
    bool unrecorded;            /* a device did not record: not asked again */
    int64_t prologue_length;    /* the length for which the prologue last ran; 0: never */
    int64_t batch, length;      /* of the current run */
    int64_t *positions;         /* for each sequence of the batch: tokens that its states have seen, or STATE_LOST */
    double done;
    error error;
};

/* Runs the prologue if need be, and the main phase, for session->batch and ->length (execute.c). Inputs stand in the caller's
 * tensors, matched to the graph's by index. */
strand_status execute_run(strand_session *s, const strand_tensor *const *inputs);
/* Uploads the weights that devices of their own memory need. */
strand_status execute_load(strand_session *s);
/* Waits until every device has done all it was given. */
void execute_drain(strand_session *s);
/* The session's error for a status that a plugin returned, with the text that it left. */
strand_status execute_fail(strand_session *s, const registry_device *d, strand_plugin_status status, const char *what);
/* Where a whole instance in the host's space stands. */
void *execute_host_address(const strand_session *s, uint32_t instance);
/* Bytes from and to a whole instance in any space, `at` bytes behind its begin. Those on a device are under way until
 * execute_settle, which waits for all of them. */
strand_status execute_put(strand_session *s, uint32_t instance, uint64_t at, const void *from, uint64_t bytes);
strand_status execute_get(strand_session *s, uint32_t instance, uint64_t at, void *to, uint64_t bytes);
strand_status execute_settle(strand_session *s);
/* One launch or prepare step, whole; with a segment it is described to that instead of being run. */
strand_status execute_step(strand_session *s, const step *st, strand_plugin_segment *segment);

/* Segments (segments.c): chooses the extents' recordings for a run that begins; runs segment `index`, recording it the
 * second time that these extents are run, or says that its steps are to be run one by one (*ran false); forgets all
 * recordings. */
void segments_begin(strand_session *s);
strand_status segments_run(strand_session *s, uint32_t index, bool *ran);
void segments_forget(strand_session *s);

/* A step as the trace is told of it: one tile of its region (0 of 1 where it is not cut), which is so large a part of the
 * whole. `begin` is what trace_now said before it (trace.c). */
typedef struct trace_tile {
    int64_t index, count;
    double part;
} trace_tile;
double trace_now(void);
void trace_step(strand_session *s, const step *st, const trace_tile *tile, double begin);

/* A run failed half-way: the states are neither what they were nor what they would be. */
#define STATE_LOST (-1)
/* n sequences begin again; those whose states could not be set are lost. Refuses the run that is described by batch and
 * length if states are lost or a cache is full (state.c). */
strand_status state_reset(strand_session *s, int64_t first, int64_t n, bool fresh);
strand_status state_check(strand_session *s);

/* Bytes of a session of this plan in one block, and the parts' places when `base` is not NULL (session.c). */
uint64_t session_layout(const strand_plan *p, unsigned char *base, strand_session **session);

#endif

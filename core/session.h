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

struct strand_session {
    strand_plan *plan;
    strand_allocator allocator; /* alloc NULL: lives in the caller's block */
    size_t block_bytes;
    unsigned char *arena;       /* of space 0 */
    strand_plugin_buffer *buffers[SCHEDULE_MAX_DEVICES + 1];
    strand_plugin_node *nodes;  /* for one launch */
    strand_plugin_tensor *views;
    strand_progress_fn progress;
    void *progress_user;
    strand_trace_fn trace;
    void *trace_user;
    double began;               /* the current run, for the trace */
    bool check_finite;
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
/* Where a whole instance in the host's space stands. */
void *execute_host_address(const strand_session *s, uint32_t instance);

/* A step as the trace is told of it: one tile of its region (0 of 1 where it is not cut), which is so large a part of the whole.
 * `begin` is what trace_now said before it (trace.c). */
typedef struct trace_tile {
    int64_t index, count;
    double part;
} trace_tile;
double trace_now(void);
void trace_step(strand_session *s, const step *st, const trace_tile *tile, double begin);

/* A run failed half-way: the states are neither what they were nor what they would be. */
#define STATE_LOST (-1)
/* n sequences begin again. Refuses the run that is described by batch and length if states are lost or a cache is full
 * (state.c). */
void state_reset(strand_session *s, int64_t first, int64_t n);
strand_status state_check(strand_session *s);

/* Bytes of a session of this plan in one block, and the parts' places when `base` is not NULL (session.c). */
uint64_t session_layout(const strand_plan *p, unsigned char *base, strand_session **session);

#endif

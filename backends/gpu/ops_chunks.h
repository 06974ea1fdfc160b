/* ops_chunks.h - recurrences with a matrix state in chunks of 64 tokens (kernels/chunks.k): what is at work, and the steps
 * that the operators put together (ops_chunks.c has the steps, ops_chunks_forms.c the operators, ops_ssd.c SSD, which has
 * steps of its own). */
#ifndef STRAND_GPU_OPS_CHUNKS_H
#define STRAND_GPU_OPS_CHUNKS_H

#include "gpu.h"

#define CHUNK              64
#define CHUNKS_LEAST       16                  /* tokens: fewer walk */
#define CHUNKS_MOST_FLOATS ((int64_t)16 << 20) /* of all that is at work at a time; one chunk of all heads must fit */

/* What an operator says of itself. */
typedef struct chunk_form {
    int64_t heads;              /* of the operator */
    int64_t rows, each;         /* K of a state; numbers of a head in q and k */
    int64_t padded;             /* P: K, or its features, padded to a multiple of four */
    int64_t width, columns;     /* V, and columns of a state: V or V + 1 */
    int pairs;                  /* of lefts and of rights: 1, or 2 (DELTA_RULE) */
    uint32_t state;             /* which input is the state */
} chunk_form;

/* Where things are in spare memory, in bytes; lefts come first. */
typedef struct chunk_places {
    uint64_t rights, gains, states, under, others, matrices, bytes;
    uint64_t left, right, other; /* numbers of the first lefts, rights, others: what the second ones come behind */
} chunk_places;

/* What runs: batch entries [begin, begin + n), `now` chunks from token `token` on. How a sequence is cut up changes no byte
 * of the result. */
typedef struct chunk_run {
    strand_plugin_device *device;
    const strand_plugin_node *node;
    const strand_plugin_memory *scratch;
    chunk_form form;
    chunk_places at;
    int64_t length, first, heads; /* tokens; heads that y touches */
    int64_t chunks, batch;        /* at a time */
    int64_t begin, n, token, now;
} chunk_run;

/* The shape of the work; false: too few tokens, or not one chunk fits in spare memory, and the operator walks. */
bool gpu_in_chunks(const strand_plugin_node *node, const chunk_form *form, chunk_run *r);

/* Runs `step` over pieces of the batch and of the sequence. */
typedef strand_plugin_status chunk_step(const chunk_run *r);
strand_plugin_status gpu_run_chunks(chunk_run *r, strand_plugin_device *device, const strand_plugin_memory *scratch,
                                    chunk_step *step);

/* A tensor of the node (or NULL) under the batch entries that run now. */
void chunk_bind(const chunk_run *r, gpu_dispatch *d, const strand_plugin_tensor *t, bool batched);
/* Spare memory from `from` to `to`. */
void chunk_bind_spare(const chunk_run *r, gpu_dispatch *d, uint64_t from, uint64_t to);
void chunk_bind_lefts(const chunk_run *r, gpu_dispatch *d);
void chunk_bind_rights(const chunk_run *r, gpu_dispatch *d);
void chunk_bind_gains(const chunk_run *r, gpu_dispatch *d);
void chunk_bind_states(const chunk_run *r, gpu_dispatch *d);

/* Units that run now. */
int64_t chunk_units(const chunk_run *r);
/* Does this run begin the sequence, does it end it? */
bool chunk_starts(const chunk_run *r);
bool chunk_ends_here(const chunk_run *r);
/* Where the state of the run before this one was left, from the first state on. */
int64_t chunk_left_at(const chunk_run *r);

/* A decay, a pair of left and right, and what they are for. */
typedef struct chunk_pair {
    const strand_plugin_tensor *left, *right, *w;
    bool log_w, before; /* `before`: lefts stop before their own token */
    float scale;
} chunk_pair;

/* Lefts, rights and gains of pair `which`. */
strand_plugin_status chunk_steps(const chunk_run *r, const chunk_pair *p, int which);
/* A of all pairs; before: by lefts. decays, taylor: see the kernel. */
strand_plugin_status chunk_scores(const chunk_run *r, bool decays, bool taylor, const bool before[2], int64_t columns);
/* A of the units that are not tame: of p->left, number `left` of the lefts, with p->right, number `right` of the rights. */
strand_plugin_status chunk_levels(const chunk_run *r, const chunk_pair *p, int left, int right);
strand_plugin_status chunk_ends(const chunk_run *r, const strand_plugin_tensor *v);
strand_plugin_status chunk_begin(const chunk_run *r, bool rows_first);
strand_plugin_status chunk_turn(const chunk_run *r, bool decays);
strand_plugin_status chunk_after(const chunk_run *r, bool rows_first);
strand_plugin_status chunk_outputs(const chunk_run *r, const strand_plugin_tensor *v, bool divided);

#endif

/* ops_run.h - running a test case on a plugin: memory with guards, on the host or on the device, and what came out. */
#ifndef STRAND_TESTS_OPS_RUN_H
#define STRAND_TESTS_OPS_RUN_H

#include "ops_program.h"

typedef struct ops_options {
    int32_t workers; /* more than one: bodies in random order */
    bool grouped;    /* all nodes in one launch, without memory for what lies between */
    bool prepared;   /* constants prepared, and then taken away */
    bool alias;      /* the (single) node's output lies over its input 0 */
    bool over_state; /* the second output lies over the input that it may overwrite */
    bool loose;      /* the output is a tile, its inputs are whole */
    int axis;        /* of the last output; -1: everything */
    int64_t begin, end;
    int repeat; /* > 0: launch so often and keep the fastest time */
} ops_options;

typedef struct ops_result {
    unsigned char *after[OPS_TENSORS]; /* every storage after the run */
    double seconds;
} ops_result;

#define OPS_OK          0
#define OPS_UNSUPPORTED 1 /* the plugin does not take this case, which is no failure */
#define OPS_FAILED      2
#define OPS_ERROR       3 /* launch returned an error, kept in `status` */

/* Runs, and checks guards and inputs. `why` gets a line for everything but OPS_OK. */
int ops_run(ops_plugin *p, const ops_program *g, const ops_options *o, ops_result *r, char *why, size_t why_bytes);
void ops_result_free(ops_result *r);

/* How many of the program's nodes, from the first on, the plugin takes as a group. */
uint32_t ops_claim(ops_plugin *p, const ops_program *g);

/* Does the working memory of each node never fall as its batch or length grows (ops_scratch.c)? Adds the sizes that it
 * looked at. */
bool ops_scratch_grows(ops_plugin *p, const ops_program *g, int *looked_at, char *why, size_t why_bytes);

#endif

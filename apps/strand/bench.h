/* bench.h - the parts of `strand bench`: inputs made up from a model's own description of them (bench_data.c), and the
 * profile of a run by its operators (bench_profile.c).
 */
#ifndef STRAND_APP_BENCH_H
#define STRAND_APP_BENCH_H

#include "grid.h"
#include "strand.h"

enum { BENCH_INPUTS = 16 };

typedef struct bench_inputs {
    strand_tensor tensors[BENCH_INPUTS];
    int32_t n;
} bench_inputs;

/* "bases" for models whose ids are letters of DNA, else "positions". */
const char *bench_unit(const strand_model *model);
/* Does the caller choose the length of some input? */
int bench_has_length(const strand_model *model);
/* Random valid inputs of this size, the same in every run of the program: bases for DNA models, ids from a sentence for other
 * models with a tokenizer, numbers around 0 for the rest. Returns 0 or -1 after a message; bench_inputs_free either way. */
int bench_inputs_make(bench_inputs *in, const strand_model *model, int64_t batch, int64_t length);
void bench_inputs_free(bench_inputs *in);

/* What one run's steps took, by operator of the plan. */
typedef struct bench_profile {
    struct bench_profile_row *rows;
    int32_t n, room;
    int failed;
    double made_once; /* seconds of steps that are not in every run */
    const strand_plan *plan;
} bench_profile;

void bench_profile_begin(bench_profile *p, const strand_plan *plan);
/* A strand_trace_fn; user is the profile. */
void bench_profile_step(void *user, const strand_step_info *step);
/* Forgets what was gathered. */
void bench_profile_clear(bench_profile *p);
void bench_profile_free(bench_profile *p);

/* Rows of one operator kind, of single operators, the longest first; seconds is the whole run's. */
extern const grid_column bench_profile_columns[];
enum { BENCH_PROFILE_COLUMNS = 8 };
void bench_profile_ops(bench_profile *p, double seconds, grid *g);
void bench_profile_nodes(bench_profile *p, double seconds, grid *g);

#endif

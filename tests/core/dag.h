/* dag.h - random models without a checkpoint: graphs of element-wise operators, products, short and long convolutions, with the
 * filters' constants computed inside, built with graph.h alone. The same seed gives the same model and weights. */
#ifndef STRAND_TEST_DAG_H
#define STRAND_TEST_DAG_H

#include "support.h"

#include "session.h"

#define DAG_MAX_LENGTH 1400

/* A model with one F32 input "x" [batch, length, channels] and outputs "y0", "y1" ... Close it with strand_model_close. */
strand_model *dag_model(strand_context *c, uint64_t seed, int nodes);
/* An empty model, to be filled with graph_... on &m->graph. */
strand_model *dag_empty(strand_context *c);
/* The same with a file of weights in memory, to which saved states are bound. */
strand_model *dag_weighted(strand_context *c);
int64_t dag_input_channels(const strand_model *m);
/* Its input for a batch and length: free() it. Row b of a batch is the row of seed + b. */
float *dag_input(const strand_model *m, uint64_t seed, int64_t batch, int64_t length);

typedef struct dag_results {
    int n;
    float *data[4];
    uint64_t bytes[4];
} dag_results;

/* Runs every output and copies the results. */
dag_results dag_run(strand_session *s, const strand_model *m, const float *x, int64_t batch, int64_t length);
void dag_free(dag_results *r);
void dag_same(const dag_results *a, const dag_results *b, const char *what);
/* Largest difference relative to each output's largest value. */
double dag_difference(const dag_results *a, const dag_results *b);

#endif

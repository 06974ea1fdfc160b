/* made.h - random checkpoints in memory, for families of which no published numbers are at hand, and arithmetic in double
 * precision for their second forms. */
#ifndef STRAND_TEST_MADE_H
#define STRAND_TEST_MADE_H

#include "support.h"

typedef struct made_tensor {
    char name[96];
    int rank;
    int64_t dims[4], n;
    float *data;
} made_tensor;

typedef struct made {
    randoms r;
    made_tensor tensors[256];
    int n;
    unsigned char *file; /* safetensors, aligned to 8 bytes */
    size_t bytes;
} made;

/* A tensor of normal-like numbers, mean + scale * [-1.7, 1.7]. dims end with 0. */
void made_add(made *m, double mean, double scale, const int64_t *dims, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#define DIMS(...) ((const int64_t[]){__VA_ARGS__, 0})
/* Its values; fails the test where there is none. */
const float *made_find(const made *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void made_write(made *m);
void made_free(made *m);

/* Logits of one sequence by the library: whole, in random pieces and token by token, all of them within `relative` (L2) of
 * `want`. */
void made_judge(made *m, const char *config, const char *family, const int64_t *ids, int64_t length, int64_t vocabulary,
                const double *want, double relative);

/* A session of a checkpoint on the CPU, and what it was made of. */
typedef struct made_session {
    strand_model *model;
    strand_plan *plan;
    strand_session *session;
} made_session;

/* `config` is the text of a config.json; `setting`: "mode=conv", or NULL; `outputs`: names, or NULL. Fails the test where it
 * does not open. */
made_session made_open(strand_context *c, const made *m, const char *config, const char *setting, int64_t batch, int64_t length,
                       const char *outputs);
void made_close(made_session *s);
/* One run on tokens [first, first + n) of each sequence of x [batch, length, width] as `input`. Output `output` of it, valid
 * until the next run; its bytes must be `bytes`. */
const float *made_run(strand_session *s, const char *input, const float *x, int64_t batch, int64_t length, int64_t width,
                      int64_t first, int64_t n, const char *output, int64_t bytes);
/* A new session of the same plan with the states of all sequences of `s`, saved and restored one by one. */
strand_session *made_fork(strand_context *c, const made_session *s, int64_t batch);

/* y[rows] = W x + b */
void d_linear(double *y, const float *w, const float *b, const double *x, int64_t rows, int64_t columns);
void d_layer_norm(double *y, const float *w, const float *b, const double *x, int64_t n, double eps);
void d_rms_norm(double *y, const float *w, const double *x, int64_t n, double eps);
double d_sigmoid(double x);
double d_silu(double x);
double d_gelu(double x);
double d_gelu_tanh(double x);

#endif

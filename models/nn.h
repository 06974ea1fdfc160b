/* nn.h - what model files share to put weights and layers into a graph.
 *
 * Nothing here returns an error by itself: the first one stays in b->e (or in the graph), later calls then do nothing and give 0, so
 * that a model reads like its equations; the model file looks at nn_failed where it needs numbers. Weights are given by their names
 * in the file and checked against the shape that the model wants; what is not F32 becomes it. */
#ifndef STRAND_MODELS_NN_H
#define STRAND_MODELS_NN_H

#include "family.h"

typedef struct nn {
    strand_model *m;
    graph *g;
    const model_config *config;
    error *e;
    const char *prefix; /* of all names in the file: "model." */
} nn;

bool nn_failed(const nn *b);
/* Keeps the first error. Always returns 0, no tensor. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
tensor_id nn_fail(nn *b, strand_status status, const char *format, ...);

/* ---- settings: key=value first, then config.json's top level, then the fallback; each is recorded as in force ---- */

void nn_integer(nn *b, const char *key, int64_t fallback, int64_t least, int64_t most, int64_t *out);
void nn_number(nn *b, const char *key, double fallback, double least, double most, double *out);
/* One of the names in `choices`, which NULL ends; *out is its index, `fallback` where nothing is given. */
void nn_choice(nn *b, const char *key, int fallback, const char *const *choices, int *out);
void nn_flag(nn *b, const char *key, bool fallback, bool *out);

/* ---- weights ---- */

/* A tensor of the file under prefix + name, or NULL. */
const weights_tensor *nn_find(const nn *b, const char *name);
/* The whole of it in this shape, which has the file's number of elements and, from the last axis on, its extents (axes of 1 left out
 * on either side). */
tensor_id nn_weight(nn *b, const char *name, int rank, const int64_t *dims);
tensor_id nn_vector(nn *b, const char *name, int64_t n);
tensor_id nn_matrix(nn *b, const char *name, int64_t rows, int64_t columns);
/* Rows [first, first + rows) of a matrix of `all` rows; columns 0: elements of a vector of `all`. */
tensor_id nn_rows(nn *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns);
/* The elements of a weight as F32: in the file, or converted in the model's arena. NULL after an error; counts the weight as used. */
const float *nn_floats(nn *b, const char *name, int64_t elements);
/* Numbers that the model computes itself: `data` lives in its arena. */
tensor_id nn_constant(nn *b, const char *name, int rank, const int64_t *dims, const float *data);

/* ---- operators ---- */

tensor_id nn_matmul(nn *b, const char *name, tensor_id x, tensor_id w, bool transpose_w, tensor_id bias, uint32_t activation);
/* x [..., in] -> activation(x weight^T + bias), with name.weight [out, in] and, where the file has it, name.bias [out]. */
tensor_id nn_linear(nn *b, const char *name, tensor_id x, int64_t in, int64_t out, uint32_t activation);
tensor_id nn_unary(nn *b, const char *name, uint32_t kind, float alpha, float beta, tensor_id x);
tensor_id nn_binary(nn *b, const char *name, uint32_t kind, tensor_id x, tensor_id y);
tensor_id nn_reshape(nn *b, const char *name, tensor_id x, int rank, const op_dim *dims);
tensor_id nn_permute(nn *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3);
tensor_id nn_slice(nn *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count);
/* Any number of tensors, which are joined in order. */
tensor_id nn_concat(nn *b, const char *name, int axis, const tensor_id *x, int64_t n);
tensor_id nn_reduce(nn *b, const char *name, uint32_t kind, int axis, bool keep, tensor_id x, tensor_id lengths);
tensor_id nn_layer_norm(nn *b, const char *name, tensor_id x, int64_t width, float eps);
/* A PyTorch GRU over x [..., L, in], from zeros on: NAME.weight_ih_SUFFIX and so on; both ways side by side where the file has
 * NAME.weight_ih_SUFFIX_reverse. `ih` gives the input weight where it is not the file's own ([3 hidden, in], of either way), else NULL. */
typedef tensor_id (*nn_gru_input)(void *user, bool reverse);
tensor_id nn_gru(nn *b, const char *name, const char *suffix, tensor_id x, int64_t in, int64_t hidden, nn_gru_input ih, void *user);
/* The graph's own name for it: prefix, format. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
const char *nn_name(nn *b, const char *format, ...);

#endif

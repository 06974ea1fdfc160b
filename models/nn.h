/* nn.h - what the models of signals share beyond build.h: settings that a config.json or the caller may give, tensors cut
 * and joined along any axis, constants that a model computes, and PyTorch's GRU.
 *
 * As in build.h, the first error stays (in b->e or in the graph), later calls then do nothing and give 0, so that a model
 * reads like its equations; a model file looks at build_failed where it needs numbers. */
#ifndef STRAND_MODELS_NN_H
#define STRAND_MODELS_NN_H

#include "build.h"

/* Keeps the first error, whatever its kind. Always returns 0, no tensor. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
tensor_id
nn_fail(builder *b, strand_status status, const char *format, ...);

/* ---- settings: key=value first, then config.json's top level, then the fallback; each is recorded as in force ---- */

/* After an error *out is `least`. */
void nn_integer(builder *b, const char *key, int64_t fallback, int64_t least, int64_t most, int64_t *out);
void nn_number(builder *b, const char *key, double fallback, double least, double most, double *out);
/* One of the names in `choices`, which NULL ends; *out is its index, `fallback` where nothing is given. */
void nn_choice(builder *b, const char *key, int fallback, const char *const *choices, int *out);
void nn_flag(builder *b, const char *key, bool fallback, bool *out);

/* ---- weights ---- */

/* The elements of an F32 weight where they lie, in any shape; NULL after an error. Counts it as used. */
const float *nn_floats(builder *b, const char *name, int64_t elements);
/* Numbers that the model has computed: `data` lives in its arena. NULL is the error of having no memory. */
tensor_id nn_constant(builder *b, const char *name, int rank, const int64_t *dims, const float *data);

/* ---- operators ---- */

tensor_id nn_permute(builder *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3);
tensor_id nn_slice(builder *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count);
/* Any number of tensors, which are joined in order. */
tensor_id nn_concat(builder *b, const char *name, int axis, const tensor_id *x, int64_t n);
tensor_id nn_reduce(builder *b, const char *name, uint32_t kind, int axis, bool keep, tensor_id x, tensor_id lengths);
/* A PyTorch GRU over x [..., L, in], from zeros on: NAME.weight_ih_SUFFIX and so on; both ways side by side where the file
 * has NAME.weight_ih_SUFFIX_reverse. `ih` gives the input weight where it is not the file's own ([3 hidden, in], of either
 * way), else NULL. */
typedef tensor_id (*nn_gru_input)(void *user, bool reverse);
tensor_id nn_gru(builder *b, const char *name, const char *suffix, tensor_id x, int64_t in, int64_t hidden, nn_gru_input ih,
                 void *user);

#endif

/* arrange.h - what build.h leaves out: operators that move, join and reduce elements, and numbers of a config.json that is
 * nested. As there, names are canonical, and after the first error every function returns 0 and does nothing. */
#ifndef STRAND_MODELS_ARRANGE_H
#define STRAND_MODELS_ARRANGE_H

#include "build.h"

tensor_id arrange_reshape(builder *b, const char *name, tensor_id x, int rank, const op_dim *dims);
/* Axis i of the result is axis axes[i] of x; as many as x has. */
tensor_id arrange_permute(builder *b, const char *name, tensor_id x, const uint32_t axes[4]);
/* [B, L, C] <-> [B, C, L] */
tensor_id arrange_turn(builder *b, const char *name, tensor_id x);
tensor_id arrange_concat(builder *b, const char *name, int axis, const tensor_id *x, uint32_t n);
tensor_id arrange_repeat(builder *b, const char *name, tensor_id x, int axis, int64_t times, bool interleave);
tensor_id arrange_pad(builder *b, const char *name, tensor_id x, int axis, int64_t before, int64_t after);
/* [begin, begin + count) of an axis; count 0: up to its end; begin below 0: from the end. */
tensor_id arrange_slice(builder *b, const char *name, tensor_id x, int axis, int64_t begin, int64_t count);
/* An axis backwards. */
tensor_id arrange_flip(builder *b, const char *name, tensor_id x, int axis);
/* STRAND_AXIS_... over an axis, which stays with extent 1 (`keep`) or vanishes. */
tensor_id arrange_reduce(builder *b, const char *name, uint32_t kind, tensor_id x, int axis, bool keep);

/* Element i of a tensor of F32, F16 or BF16; NaN for other types. For decisions while a model is loaded. */
double arrange_value(const weights_tensor *w, int64_t i);

/* ---- config.json ---- */

/* The member "a.b.c" of nested objects ("blocks.0": an element of an array), or NULL. */
const json *arrange_member(const json *object, const char *path);
/* A name out of a list ended by NULL: its place, or -1 after an error that says what there is. */
int arrange_choice(builder *b, const char *key, const char *text, const char *const *names);
/* "key=value" when given, else the config's member `key`: text or fallback; a number or fallback within [low, high]. */
const char *arrange_text(builder *b, const char *key, const char *fallback);
int64_t arrange_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high);
void arrange_record_int(builder *b, const char *key, int64_t value);
void arrange_record_text(builder *b, const char *key, const char *value);

#endif

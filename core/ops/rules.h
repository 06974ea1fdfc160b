/* rules.h - what the families of rows share: small predicates over shapes, and the axis rules that many rows have. */
#ifndef STRAND_CORE_OPS_RULES_H
#define STRAND_CORE_OPS_RULES_H

#include <string.h>

#include "dtype.h"
#include "op.h"

#define PARAMS(s) (uint32_t)sizeof(s)
#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static inline bool floating(strand_dtype t) {
    return t == STRAND_F32 || t == STRAND_F16 || t == STRAND_BF16;
}

/* A quantised tensor whose last axis is whole blocks. */
static inline bool quantised(const op_shape *s) {
    if (!dtype_quantised(s->dtype) || s->rank < 1) return false;
    op_dim last = s->dims[s->rank - 1];
    return last.kind == OP_DIM_FIXED && last.size % dtype_block_of(s->dtype).elements == 0;
}

static inline bool present(const op_shape *inputs, uint32_t n, uint32_t i) {
    return i < n && inputs[i].dtype != STRAND_NONE;
}

static inline strand_status bad(error *e, const char *what) {
    return error_set(e, STRAND_ERR_ARGUMENT, "%s", what);
}

/* Is input i absent, or a vector of extent d? */
static inline bool vector_or_absent(const op_shape *inputs, uint32_t n, uint32_t i, op_dim d) {
    return !present(inputs, n, i) ||
           (inputs[i].dtype == STRAND_F32 && inputs[i].rank == 1 && op_dim_equal(inputs[i].dims[0], d));
}

/* Is this a function of UNARY, or an activation, with parameters that it can have? */
static inline bool known_function(uint32_t kind, float alpha, float beta) {
    if (kind == STRAND_UNARY_SOFTCAP) return alpha > 0;
    if (kind == STRAND_UNARY_CLAMP) return alpha <= beta;
    return kind <= STRAND_UNARY_LAST;
}

static inline bool same_dims(const op_shape *a, const op_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (!op_dim_equal(a->dims[i], b->dims[i])) return false;
    return true;
}

static inline void all_whole(op_axis_rule *rules, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) rules[i] = OP_WHOLE;
}

static inline double elements(const op_shape *s) {
    double n = 1;
    for (int i = 0; i < s->rank; i++) n *= (double)s->dims[i].size;
    return n;
}

/* Each interval of the result needs the same interval of input 0, and all of the others. */
static inline bool same_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                             op_axis_rule *rules) {
    (void)in;
    (void)out;
    (void)params;
    all_whole(rules, n);
    rules[0] = (op_axis_rule){axis, 0, 0};
    return true;
}

/* Never cut. */
static inline bool no_axis(const op_shape *in, uint32_t n, const op_shape *out, const void *params, int axis,
                           op_axis_rule *rules) {
    (void)in, (void)n, (void)out, (void)params, (void)axis, (void)rules;
    return false;
}

/* Rough operations of what reads and writes each element a few times. */
static inline double light_work(const op_shape *in, const op_shape *out, const void *params) {
    (void)in;
    (void)params;
    return 8 * elements(out);
}

#endif

/* rows.h - element-wise work on one row. The operators use these alone and inside groups, which is why a group's bytes are
 * those of its nodes one by one. y may be x (or a): the same memory, element for element. */
#ifndef STRAND_CPU_ROWS_H
#define STRAND_CPU_ROWS_H

#include "cpu.h"

/* y = f(x), `kind` a STRAND_UNARY_... with its parameters. */
void cpu_unary_row(uint32_t kind, float alpha, float beta, float *y, const float *x, int64_t n);

/* y = a op b, `kind` a STRAND_BINARY_...; b_step 1, or 0 when b is one number for the row. */
void cpu_binary_row(uint32_t kind, float *y, const float *a, const float *b, int64_t b_step, int64_t n);

/* y = act(a) op b; a_step and b_step 1, or 0 where it is one number for the row. */
void cpu_binary_rows(const strand_op_binary *p, float *y, const float *a, int64_t a_step, const float *b, int64_t b_step,
                     int64_t n);

/* y = k (exp(-t/(points-1) |rate|) + shift) for t = first, first + 1, ... */
void cpu_decay_row(const strand_op_decay_window *p, float *y, const float *k, float rate, int64_t first, int64_t n);

/* y = (x - mean) / sqrt(variance + eps) * weight + bias; bias may be NULL. */
void cpu_layer_norm_row(float eps, float *y, const float *x, const float *weight, const float *bias, int64_t n);

#endif

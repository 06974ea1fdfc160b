/* reference.h - what the reference kernels share: elements of a view as doubles, and a walk over the output. */
#ifndef STRAND_CPU_REFERENCE_H
#define STRAND_CPU_REFERENCE_H

#include "half.h"
#include "kernels.h"
#include "quant.h"

#include <math.h>

#define PI 3.14159265358979323846

/* The same for the quantised types: each element by its own formula, in double. */
static inline double get_quantised(const strand_plugin_tensor *t, int64_t at) {
    int64_t length = cpu_block_elements(t->dtype), i = at % length, j = i / 32;
    const uint8_t *b = (const uint8_t *)t->memory.data + at / length * cpu_block_bytes(t->dtype);
    int scale, minimum;
    switch (t->dtype) {
    case STRAND_PLUGIN_Q8_0:
        return (double)cpu_half_at(b) * (int8_t)b[2 + i];
    case STRAND_PLUGIN_Q4_0:
        return (double)cpu_half_at(b) * ((i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4) - 8);
    case STRAND_PLUGIN_Q4_K:
        cpu_q4_k_scale(b + 4, (int)j, &scale, &minimum);
        return (double)cpu_half_at(b) * scale * (b[16 + j / 2 * 32 + i % 32] >> j % 2 * 4 & 15) -
               (double)cpu_half_at(b + 2) * minimum;
    case STRAND_PLUGIN_Q4_1:
        return (double)cpu_half_at(b) * (i < 16 ? b[4 + i] & 15 : b[4 + i - 16] >> 4) + (double)cpu_half_at(b + 2);
    case STRAND_PLUGIN_Q5_0:
        return (double)cpu_half_at(b) * ((i < 16 ? b[6 + i] & 15 : b[6 + i - 16] >> 4) + 16 * (b[2 + i / 8] >> i % 8 & 1) - 16);
    case STRAND_PLUGIN_Q5_1:
        return (double)cpu_half_at(b) * ((i < 16 ? b[8 + i] & 15 : b[8 + i - 16] >> 4) + 16 * (b[4 + i / 8] >> i % 8 & 1)) +
               (double)cpu_half_at(b + 2);
    case STRAND_PLUGIN_Q5_K:
        cpu_q4_k_scale(b + 4, (int)j, &scale, &minimum);
        return (double)cpu_half_at(b) * scale *
                   ((b[48 + j / 2 * 32 + i % 32] >> j % 2 * 4 & 15) + 16 * (b[16 + i % 32] >> j & 1)) -
               (double)cpu_half_at(b + 2) * minimum;
    default: {
        int low = b[i / 128 * 64 + j % 2 * 32 + i % 32] >> (j % 4 / 2) * 4 & 15,
            high = b[128 + i / 128 * 32 + i % 32] >> j % 4 * 2 & 3;
        return (double)cpu_half_at(b + 208) * (int8_t)b[192 + i / 16] * ((low | high << 4) - 32);
    }
    }
}

/* Element `at` (counted from the view's first element) as a number. */
static inline double get(const strand_plugin_tensor *t, int64_t at) {
    switch (t->dtype) {
    case STRAND_PLUGIN_F32:
        return ((const float *)t->memory.data)[at];
    case STRAND_PLUGIN_F16:
        return (double)cpu_f16_to_f32(((const uint16_t *)t->memory.data)[at]);
    case STRAND_PLUGIN_BF16:
        return (double)cpu_bf16_to_f32(((const uint16_t *)t->memory.data)[at]);
    case STRAND_PLUGIN_I32:
        return ((const int32_t *)t->memory.data)[at];
    default:
        return cpu_is_quantised(t->dtype) ? get_quantised(t, at) : 0;
    }
}

static inline int64_t get_id(const strand_plugin_tensor *t, int64_t at) {
    return t->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)t->memory.data)[at] : ((const int32_t *)t->memory.data)[at];
}

static inline void put(const strand_plugin_tensor *t, int64_t at, double value) {
    ((float *)t->memory.data)[at] = (float)value;
}

/* Walks the output's elements in row-major order: index[] are the coordinates inside the view. */
typedef struct walk {
    const strand_plugin_tensor *out;
    int64_t index[STRAND_PLUGIN_RANK];
    int64_t left;
} walk;

static inline walk walk_over(const strand_plugin_tensor *out) {
    walk w = {.out = out, .left = 1};
    for (uint32_t i = 0; i < out->rank; i++) w.left *= out->dims[i];
    return w;
}

static inline void step(walk *w) {
    w->left--;
    for (uint32_t i = w->out->rank; i-- > 0;) {
        if (++w->index[i] < w->out->dims[i]) return;
        w->index[i] = 0;
    }
}

static inline int64_t here(const walk *w) {
    int64_t at = 0;
    for (uint32_t i = 0; i < w->out->rank; i++) at += w->index[i] * w->out->strides[i];
    return at;
}

/* Where element index[] of the output stands in `in`, whose last axis is the output's last but `cut`; axes of extent 1 serve
 * every index when `broadcast`. */
static inline int64_t there(const walk *w, const strand_plugin_tensor *in, uint32_t cut, bool broadcast) {
    int64_t at = 0;
    for (uint32_t i = 0; i < in->rank && i < w->out->rank - cut; i++) {
        uint32_t ia = in->rank - 1 - i, oa = w->out->rank - 1 - cut - i;
        if (broadcast && in->dims[ia] == 1) continue;
        at += (w->index[oa] + w->out->origin[oa] - in->origin[ia]) * in->strides[ia];
    }
    return at;
}

/* Where vector `in` (a bias, a weight) stands for the output's axis `oa`; NULL has no place. */
static inline double vector_at(const walk *w, const strand_plugin_tensor *in, uint32_t oa, double absent) {
    return in ? get(in, (w->index[oa] + w->out->origin[oa] - in->origin[0]) * in->strides[0]) : absent;
}

/* x times a factor that may vanish where x is infinite. */
static inline double gated(double x, double factor) {
    return factor == 0 ? 0 : x * factor;
}

/* f of UNARY, and activations, as strand_ops.h says them. */
static inline double function(uint32_t kind, double alpha, double beta, double x) {
    switch (kind) {
    case STRAND_UNARY_GELU_TANH:
        return gated(x, 1 / (1 + exp(-2 * sqrt(2 / PI) * (x + 0.044715 * x * x * x)))); /* (1 + tanh u)/2 = 1/(1 + e^-2u) */
    case STRAND_UNARY_GELU:
        return gated(x, erfc(-x / sqrt(2.0)) / 2);
    case STRAND_UNARY_SILU:
        return gated(x, 1 / (1 + exp(-x)));
    case STRAND_UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    case STRAND_UNARY_SIN:
        return sin(x);
    case STRAND_UNARY_EXP:
        return exp(x);
    case STRAND_UNARY_TANH:
        return tanh(x);
    case STRAND_UNARY_RELU:
        return x > 0 || x != x ? x : 0;
    case STRAND_UNARY_SOFTPLUS:
        return x > 20 ? x : log1p(exp(x));
    case STRAND_UNARY_SQUARED_RELU:
        return x > 0 || x != x ? x * x : 0;
    case STRAND_UNARY_LEAKY_RELU:
        return x < 0 ? alpha * x : x;
    case STRAND_UNARY_COS:
        return cos(x);
    case STRAND_UNARY_LOG:
        return log(x);
    case STRAND_UNARY_SQRT:
        return sqrt(x);
    case STRAND_UNARY_RSQRT:
        return 1 / sqrt(x);
    case STRAND_UNARY_RECIPROCAL:
        return 1 / x;
    case STRAND_UNARY_SQUARE:
        return x * x;
    case STRAND_UNARY_ABS:
        return fabs(x);
    case STRAND_UNARY_NEG:
        return -x;
    case STRAND_UNARY_AFFINE:
        return alpha * x + beta;
    case STRAND_UNARY_CLAMP:
        return x < alpha ? alpha : x > beta ? beta : x;
    case STRAND_UNARY_ELU:
        return x > 0 ? x : alpha * expm1(x);
    case STRAND_UNARY_QUICK_GELU:
        return gated(x, 1 / (1 + exp(-1.702 * x)));
    case STRAND_UNARY_SOFTCAP:
        return alpha * tanh(x / alpha);
    case STRAND_UNARY_LOG_SIGMOID:
        return x > 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
    case STRAND_UNARY_ERF:
        return erf(x);
    case STRAND_UNARY_LAPLACE:
        return erfc(-(x - sqrt(0.5)) * sqrt(2 * PI)) / 2;
    case STRAND_UNARY_EXPM1:
        return expm1(x);
    case STRAND_UNARY_LOG1P:
        return log1p(x);
    default:
        return x;
    }
}

#endif

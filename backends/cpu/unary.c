/* unary.c - UNARY: functions of one element. */
#include "kernels.h"
#include "rows.h"
#include "vecmath.h"

CPU_INLINE vf positive(vf x) {
    return vf_select(x <= 0.0f, vf_zero(), x);
}
CPU_INLINE vf clamp(vf x, vf low, vf high) {
    return vf_at_most(vf_at_least(x, low), high);
}

/* Whole vectors, then the last elements through the same instructions. f is an expression of x, alpha and beta. */
#define ROW(name, f)                                                                                                           \
    static void name(float *to, const float *from, int64_t n, vf alpha, vf beta) {                                             \
        int64_t i = 0;                                                                                                         \
        (void)alpha, (void)beta;                                                                                               \
        for (; i + CPU_LANES <= n; i += CPU_LANES) {                                                                           \
            vf x = vf_load(from + i);                                                                                          \
            vf_store(to + i, f);                                                                                               \
        }                                                                                                                      \
        if (i < n) {                                                                                                           \
            vf x = vf_load_part(from + i, n - i);                                                                              \
            vf_store_part(to + i, f, n - i);                                                                                   \
        }                                                                                                                      \
    }

/* X(kind, name, f) */
#define FUNCTIONS(X)                                                                                                           \
    X(IDENTITY, identity, x)                                                                                                   \
    X(GELU_TANH, gelu_tanh, vf_gelu_tanh(x))                                                                                   \
    X(GELU, gelu, vf_gelu(x))                                                                                                  \
    X(SILU, silu, vf_silu(x))                                                                                                  \
    X(SIGMOID, sigmoid, vf_sigmoid(x))                                                                                         \
    X(SIN, sine, vf_sin(x))                                                                                                    \
    X(EXP, exponential, vf_exp(x))                                                                                             \
    X(TANH, tangent, vf_tanh(x))                                                                                               \
    X(RELU, relu, positive(x))                                                                                                 \
    X(SOFTPLUS, softplus, vf_softplus(x))                                                                                      \
    X(SQUARED_RELU, squared_relu, positive(x) * positive(x))                                                                   \
    X(LEAKY_RELU, leaky_relu, vf_select(x < 0.0f, alpha * x, x))                                                               \
    X(COS, cosine, vf_cos(x))                                                                                                  \
    X(LOG, logarithm, vf_log(x))                                                                                               \
    X(SQRT, root, vf_sqrt(x))                                                                                                  \
    X(RSQRT, reciprocal_root, 1.0f / vf_sqrt(x))                                                                               \
    X(RECIPROCAL, reciprocal, 1.0f / x)                                                                                        \
    X(SQUARE, square, x * x)                                                                                                   \
    X(ABS, absolute, vf_abs(x))                                                                                                \
    X(NEG, negative, -x)                                                                                                       \
    X(AFFINE, affine, vf_fma(alpha, x, beta))                                                                                  \
    X(CLAMP, clamped, clamp(x, alpha, beta))                                                                                   \
    X(ELU, elu, vf_select(x > 0.0f, x, alpha * vf_expm1(x)))                                                                   \
    X(QUICK_GELU, quick_gelu, vf_quick_gelu(x))                                                                                \
    X(SOFTCAP, softcap, alpha * vf_tanh(x / alpha))                                                                            \
    X(LOG_SIGMOID, log_sigmoid, vf_log_sigmoid(x))                                                                             \
    X(ERF, error_function, vf_erf(x))                                                                                          \
    X(LAPLACE, laplace, vf_laplace(x))                                                                                         \
    X(EXPM1, exponential_less_1, vf_expm1(x))                                                                                  \
    X(LOG1P, logarithm_of_1_more, vf_log1p(x))

#define MAKE(kind, name, f) ROW(name##_row, f)
FUNCTIONS(MAKE)

void cpu_unary_row(uint32_t kind, float alpha, float beta, float *y, const float *x, int64_t n) {
#define ENTRY(kind, name, f) [STRAND_UNARY_##kind] = name##_row,
    static void (*const rows[STRAND_UNARY_LAST + 1])(float *, const float *, int64_t, vf, vf) = {FUNCTIONS(ENTRY)};
    if (kind == STRAND_UNARY_IDENTITY && y == x) return;
    rows[kind](y, x, n, vf_set(alpha), vf_set(beta));
}

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    const strand_op_unary *params;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, row) + column;
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, row) + column;
        cpu_unary_row(j->params->kind, j->params->alpha, j->params->beta, y, x, width);
    }
}

CPU_KERNEL(cpu_unary) {
    job j = {.params = node->params};
    cpu_operand *const operands[] = {&j.out, &j.x};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], false, &j.x);
    cpu_collapse(j.dims, operands, 2);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

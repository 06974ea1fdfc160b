/* binary.c - BINARY: f(act(a), b) of two tensors, either of which may be one element for a row, a column or everything.
 *
 * An activation goes over a piece of `a` into a small buffer before f: that stays in the first cache, and spares a loop for
 * each pair of functions. */
#include "kernels.h"
#include "rows.h"
#include "vecmath.h"

#define BUFFER 1024 /* elements */

/* What a NaN meets is NaN. */
CPU_INLINE vf larger(vf a, vf b) {
    return vf_select((vi)(a > b) | (vi)(a != a), a, b);
}
CPU_INLINE vf smaller(vf a, vf b) {
    return vf_select((vi)(a < b) | (vi)(a != a), a, b);
}

#define LOOP(load_a, load_b, part_a, part_b, f)                                                                                \
    int64_t i = 0;                                                                                                             \
    for (; i + CPU_LANES <= n; i += CPU_LANES) {                                                                               \
        vf u = load_a, v = load_b;                                                                                             \
        vf_store(y + i, f);                                                                                                    \
    }                                                                                                                          \
    if (i < n) {                                                                                                               \
        vf u = part_a, v = part_b;                                                                                             \
        vf_store_part(y + i, f, n - i);                                                                                        \
    }

/* Rows of two vectors, of a vector and a number, and of a number and a vector; f is an expression of u and v. */
#define ROW(name, f)                                                                                                           \
    static void name##_row(float *y, const float *a, const float *b, int64_t n) {                                              \
        LOOP(vf_load(a + i), vf_load(b + i), vf_load_part(a + i, n - i), vf_load_part(b + i, n - i), f)                        \
    }                                                                                                                          \
    static void name##_by_one(float *y, const float *a, const float *b, int64_t n) {                                           \
        vf one = vf_set(*b);                                                                                                   \
        LOOP(vf_load(a + i), one, vf_load_part(a + i, n - i), one, f)                                                          \
    }                                                                                                                          \
    static void name##_of_one(float *y, const float *a, const float *b, int64_t n) {                                           \
        vf one = vf_set(*a);                                                                                                   \
        LOOP(one, vf_load(b + i), one, vf_load_part(b + i, n - i), f)                                                          \
    }

#define FUNCTIONS(X)                                                                                                           \
    X(ADD, add, u + v)                                                                                                         \
    X(MUL, mul, u *v)                                                                                                          \
    X(SUB, sub, u - v)                                                                                                         \
    X(DIV, quotient, u / v)                                                                                                    \
    X(MAX, max, larger(u, v))                                                                                                  \
    X(MIN, min, smaller(u, v))                                                                                                 \
    X(POW, power, vf_pow(u, v))

#define MAKE(kind, name, f) ROW(name, f)
FUNCTIONS(MAKE)

/* a_step and b_step: 1, or 0 for one number. */
static void plain(uint32_t kind, float *y, const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t n) {
    typedef void row(float *, const float *, const float *, int64_t);
#define ENTRY(kind, name, f) [STRAND_BINARY_##kind] = {name##_of_one, name##_by_one, name##_row},
    static row *const rows[STRAND_BINARY_LAST + 1][3] = {FUNCTIONS(ENTRY)};
    if (a_step || b_step) {
        rows[kind][!a_step ? 0 : !b_step ? 1 : 2](y, a, b, n);
        return;
    }
    float one;
    rows[kind][2](&one, a, b, 1);
    for (int64_t i = 0; i < n; i++) y[i] = one;
}

void cpu_binary_row(uint32_t kind, float *y, const float *a, const float *b, int64_t b_step, int64_t n) {
    plain(kind, y, a, 1, b, b_step, n);
}

void cpu_binary_rows(const strand_op_binary *p, float *y, const float *a, int64_t a_step, const float *b, int64_t b_step,
                     int64_t n) {
    float act[BUFFER];
    if (p->activation == STRAND_UNARY_IDENTITY) {
        plain(p->kind, y, a, a_step, b, b_step, n);
        return;
    }
    for (int64_t i = 0; i < n; i += BUFFER) {
        int64_t m = cpu_min(BUFFER, n - i);
        if (a_step || i == 0) cpu_unary_row(p->activation, p->alpha, p->beta, act, a + i * a_step, a_step ? m : 1);
        plain(p->kind, y + i, act, a_step, b + i * b_step, b_step, m);
    }
}

typedef struct job {
    cpu_operand out, a, b;
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_pieces pieces;
    const strand_op_binary *params;
} job;

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t row, end, column, width;
    int64_t a_step = j->a.strides[STRAND_PLUGIN_RANK - 1] != 0, b_step = j->b.strides[STRAND_PLUGIN_RANK - 1] != 0;
    (void)worker;
    cpu_piece(&j->pieces, i, &row, &end, &column, &width);
    for (; row < end; row++) {
        const float *a = (const float *)(const void *)cpu_row(&j->a, j->dims, row) + column * a_step;
        const float *b = (const float *)(const void *)cpu_row(&j->b, j->dims, row) + column * b_step;
        cpu_binary_rows(j->params, (float *)(void *)cpu_row(&j->out, j->dims, row) + column, a, a_step, b, b_step, width);
    }
}

CPU_KERNEL(cpu_binary) {
    job j = {.params = node->params};
    cpu_operand *const operands[] = {&j.out, &j.a, &j.b};
    (void)scratch;
    cpu_extents(&node->outputs[0], j.dims);
    cpu_place(&node->outputs[0], &node->outputs[0], false, &j.out);
    cpu_place(&node->outputs[0], &node->inputs[0], true, &j.a);
    cpu_place(&node->outputs[0], &node->inputs[1], true, &j.b);
    cpu_collapse(j.dims, operands, 3);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

/* gru.c - GRU: the recurrence over gates whose input part is there already.
 *
 * A step is a product of the state with [3H, H] and then a few functions, each lane one hidden unit. The weight is packed so
 * that the lanes of a block of units stand side by side: [block][H][r, z, n][lanes]; that is a prepared constant when the
 * weight is a constant, else it is made in working memory. Rows of the batch share each load of the weight, and pieces of
 * work are rows of the batch. Every sum runs over the state from first to last in one accumulator, so a row's bytes are the
 * same with any neighbours. The state before a token is the output of the token before it, where that stands. */
#include "kernels.h"
#include "vecmath.h"

#define GATES     3
#define MOST_ROWS 4 /* of the batch at once */

typedef struct job {
    const strand_plugin_node *node;
    const float *bias, *packed, *zero;
    int64_t batch, length, h, rows; /* rows: of a piece */
    uint32_t time;                  /* the axis of tokens */
} job;

static int64_t blocks_of(int64_t h) {
    return (h + CPU_LANES - 1) / CPU_LANES;
}

static uint64_t packed_floats(const strand_plugin_node *node) {
    uint64_t h = (uint64_t)node->outputs[0].dims[node->outputs[0].rank - 1];
    return (uint64_t)blocks_of((int64_t)h) * h * GATES * CPU_LANES;
}

static void pack(const strand_plugin_tensor *w, float *packed) {
    int64_t h = w->dims[1];
    for (int64_t u = 0; u < h; u += CPU_LANES) {
        int64_t lanes = cpu_min(CPU_LANES, h - u);
        for (int gate = 0; gate < GATES; gate++) {
            const float *from = cpu_f32(w) + (gate * h + u) * w->strides[0];
            for (int64_t j = 0; j < h; j += CPU_LANES) { /* squares are turned */
                vf r[CPU_LANES];
                int64_t columns = cpu_min(CPU_LANES, h - j);
                for (int64_t i = 0; i < CPU_LANES; i++)
                    r[i] = i < lanes ? vf_load_part(from + i * w->strides[0] + j, columns) : vf_zero();
                vf_transpose(r);
                for (int64_t i = 0; i < columns; i++) vf_store(packed + ((j + i) * GATES + gate) * CPU_LANES, r[i]);
            }
        }
        packed += h * GATES * CPU_LANES;
    }
}

/* ---- a step ---- */

typedef struct step {
    const float *packed, *bias; /* of all units */
    const float *x[MOST_ROWS], *before[MOST_ROWS];
    float *after[MOST_ROWS];
    int64_t h;
} step;

static vf bias_at(const step *s, int gate, int64_t u, int64_t lanes) {
    return s->bias ? vf_load_part(s->bias + gate * s->h + u, lanes) : vf_zero();
}

/* The new state of `lanes` units from u on, in one row; the sums have their bias. */
CPU_INLINE void gates(const step *s, int row, int64_t u, int64_t lanes, vf r, vf z, vf n) {
    const float *x = s->x[row] + u;
    vf h = vf_load_part(s->before[row] + u, lanes);
    r = vf_sigmoid(vf_load_part(x, lanes) + r);
    z = vf_sigmoid(vf_load_part(x + s->h, lanes) + z);
    n = vf_tanh(vf_fma(r, n, vf_load_part(x + 2 * s->h, lanes)));
    vf_store_part(s->after[row] + u, vf_fma(z, h - n, n), lanes);
}

/* `blocks` blocks of units from block `first` on, in `rows` rows; both numbers are known to the compiler. */
CPU_INLINE void units(const step *s, int64_t first, int blocks, int rows) {
    vf sum[MOST_ROWS][4][GATES];
    const float *w[4];
    for (int k = 0; k < blocks; k++) {
        int64_t u = (first + k) * CPU_LANES, lanes = cpu_min(CPU_LANES, s->h - u);
        w[k] = s->packed + (first + k) * s->h * GATES * CPU_LANES;
        for (int gate = 0; gate < GATES; gate++) {
            vf bias = bias_at(s, gate, u, lanes);
            for (int r = 0; r < rows; r++) sum[r][k][gate] = bias;
        }
    }
    for (int64_t j = 0; j < s->h; j++)
#pragma GCC unroll 4
        for (int k = 0; k < blocks; k++)
#pragma GCC unroll 3
            for (int gate = 0; gate < GATES; gate++) {
                vf v = vf_load(w[k] + (j * GATES + gate) * CPU_LANES);
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++) sum[r][k][gate] = vf_fma(vf_set(s->before[r][j]), v, sum[r][k][gate]);
            }
    for (int k = 0; k < blocks; k++) {
        int64_t u = (first + k) * CPU_LANES, lanes = cpu_min(CPU_LANES, s->h - u);
        for (int r = 0; r < rows; r++) gates(s, r, u, lanes, sum[r][k][0], sum[r][k][1], sum[r][k][2]);
    }
}

/* As many accumulators at once as hide the latency of a multiply-add and stay in registers. */
static void all_units_1(const step *s) {
    int64_t n = blocks_of(s->h), i = 0;
    for (; i + 4 <= n; i += 4) units(s, i, 4, 1);
    for (; i < n; i++) units(s, i, 1, 1);
}
static void all_units_2(const step *s) {
    int64_t n = blocks_of(s->h), i = 0;
    for (; i + 2 <= n; i += 2) units(s, i, 2, 2);
    for (; i < n; i++) units(s, i, 1, 2);
}
static void all_units_4(const step *s) {
    int64_t n = blocks_of(s->h), i = 0;
#if CPU_LANES == 16
    for (; i + 2 <= n; i += 2) units(s, i, 2, 4);
#endif
    for (; i < n; i++) units(s, i, 1, 4);
}

static void all_units(const step *s, int64_t rows) {
    if (rows == 1)
        all_units_1(s);
    else if (rows == 2)
        all_units_2(s);
    else
        all_units_4(s);
}

/* ---- the operator ---- */

/* Row b of the batch, over one or two axes, in tensor t (whose view may begin before the output's; NULL stays so). */
static float *row_of(const job *j, const strand_plugin_tensor *t, int64_t b, bool output) {
    const strand_plugin_tensor *out = &j->node->outputs[0];
    int64_t inner = j->time == 2 ? out->dims[1] : 1, at[2] = {b / inner, b % inner}, place = 0;
    if (!t) return NULL;
    for (uint32_t axis = 0; axis < j->time; axis++)
        place += (at[axis] + (output ? 0 : out->origin[axis] - t->origin[axis])) * t->strides[axis];
    return cpu_f32(t) + place;
}

/* Rows [b, b + rows) through the whole sequence; rows is 1, 2 or 4. */
static void sequence(const job *j, int64_t b, int64_t rows) {
    const strand_op_gru *p = j->node->params;
    const strand_plugin_tensor *x = &j->node->inputs[0], *out = &j->node->outputs[0], *state = cpu_input(j->node, 3);
    step s = {.packed = j->packed, .bias = j->bias, .h = j->h};
    const float *x_row[MOST_ROWS];
    float *y_row[MOST_ROWS];
    for (int64_t r = 0; r < rows; r++) {
        x_row[r] = row_of(j, x, b + r, false);
        y_row[r] = row_of(j, out, b + r, true);
        s.before[r] = state ? row_of(j, state, b + r, false) : j->zero;
    }
    for (int64_t i = 0; i < j->length; i++) {
        int64_t t = p->reverse ? j->length - 1 - i : i;
        for (int64_t r = 0; r < rows; r++) {
            s.x[r] = x_row[r] + t * x->strides[j->time];
            s.after[r] = y_row[r] + t * out->strides[j->time];
        }
        all_units(&s, rows);
        for (int64_t r = 0; r < rows; r++) s.before[r] = s.after[r];
    }
    if (j->node->n_outputs < 2) return;
    const strand_plugin_tensor *last = &j->node->outputs[1];
    for (int64_t r = 0; r < rows; r++) memmove(row_of(j, last, b + r, true), s.before[r], (size_t)j->h * sizeof(float));
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t b = i * j->rows, end = cpu_min(b + j->rows, j->batch);
    (void)worker;
    while (b < end) {
        int64_t rows = end - b >= 4 ? 4 : end - b >= 2 ? 2 : 1;
        sequence(j, b, rows);
        b += rows;
    }
}

/* The packed weight, and a row of zeros. */
uint64_t cpu_gru_scratch(const cpu_device *device, const strand_plugin_node *node) {
    (void)device;
    return (packed_floats(node) + (uint64_t)blocks_of(node->outputs[0].dims[node->outputs[0].rank - 1]) * CPU_LANES) *
           sizeof(float);
}

uint64_t cpu_gru_prepare_size(const strand_plugin_node *node) {
    return node->inputs[1].flags & STRAND_TENSOR_CONSTANT ? packed_floats(node) * sizeof(float) : 0;
}

CPU_KERNEL(cpu_gru_prepare) {
    (void)scratch;
    if (!node->inputs[1].memory.data)
        return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: the weight has no memory", node->name ? node->name : "gru");
    pack(&node->inputs[1], node->prepared.data);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_gru) {
    const strand_plugin_tensor *w = &node->inputs[1], *out = &node->outputs[0];
    job j = {.node = node, .bias = cpu_f32(cpu_input(node, 2)), .time = out->rank - 2, .batch = out->dims[0]};
    float *zero = (float *)scratch + packed_floats(node);
    j.length = out->dims[j.time];
    j.h = out->dims[j.time + 1];
    if (j.time == 2) j.batch *= out->dims[1];
    if (j.batch < 1) return STRAND_PLUGIN_OK;
    memset(zero, 0, (size_t)j.h * sizeof *zero);
    j.zero = zero;
    j.packed = node->prepared.data;
    if (!w->memory.data && !j.packed)
        return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: the weight has no memory", node->name ? node->name : "gru");
    if (!j.packed || !cpu_gru_prepare_size(node) || node->prepared.bytes < cpu_gru_prepare_size(node)) {
        pack(w, scratch);
        j.packed = scratch;
    }
    j.rows = cpu_max(1, cpu_min(MOST_ROWS, j.batch / cpu_workers(device))); /* any cut gives the same bytes */
    cpu_parallel(device, (j.batch + j.rows - 1) / j.rows, body, &j);
    return STRAND_PLUGIN_OK;
}

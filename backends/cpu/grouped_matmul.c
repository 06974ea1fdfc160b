/* grouped_matmul.c - GROUPED_MATMUL, the products of a mixture of experts. Rows (a token and one of its picks) are ordered by
 * expert, so that each expert's weight is read once for a run of rows; every row's elements are those of a MATMUL of that row.
 * All ids are checked before anything is written. Quantised weights: each row of x is rounded once, whatever experts read
 * it. */
#include "kernels.h"
#include "matmul.h"
#include "matmul_quant.h"
#include "rows.h"

#include <string.h>

#define RUN 96 /* rows of a run at most */

typedef struct run {
    int32_t expert, first, n; /* rows [first, first + n) of the order */
} run;

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_grouped_matmul *p;
    cpu_operand x, out;
    int64_t dims[STRAND_PLUGIN_RANK];
    int64_t picks, rows, k, n, width, across;
    const cpu_quant_kernel *quant; /* NULL: plain weights */
    const int32_t *order;
    const run *runs;
    char *rounded, *work;
    int64_t row_bytes, each; /* bytes of a rounded row; of a worker */
    int64_t distinct, height; /* rows of x, and of a piece of rounding */
} job;

/* ---- working memory: what it consists of, at these extents ---- */

typedef struct parts {
    int64_t counts, order, runs, rounded, worker; /* bytes, multiples of CPU_ALIGN */
    int64_t most_runs;
} parts;

static int64_t whole(int64_t bytes) {
    return (int64_t)cpu_round((uint64_t)bytes);
}

static parts parts_of(const cpu_device *device, const strand_plugin_node *node) {
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *out = &node->outputs[0];
    int64_t rows = out->dims[0] * out->dims[1], experts = w->dims[0], k = w->dims[2], run_rows = cpu_min(RUN, rows);
    parts s = {.most_runs = cpu_min(rows, experts) + rows / RUN + 1};
    s.counts = whole((experts + 1) * (int64_t)sizeof(int32_t));
    s.order = whole(rows * (int64_t)sizeof(int32_t));
    s.runs = whole(s.most_runs * (int64_t)sizeof(run));
    if (cpu_is_quantised(w->dtype)) {
        const cpu_quant_kernel *kernel = cpu_quant_kernels(device, w->dtype);
        s.rounded = (x->rank == 3 ? rows : out->dims[0]) * cpu_quant_row_bytes(kernel, k);
        s.worker = whole(kernel->panel_bytes);
    } else {
        int64_t floats = run_rows * k + run_rows * out->dims[2] + cpu_product_scratch(run_rows, out->dims[2], k) + 32;
        s.worker = whole(floats * (int64_t)sizeof(float));
    }
    return s;
}

uint64_t cpu_grouped_matmul_scratch(const cpu_device *device, const strand_plugin_node *node) {
    parts s = parts_of(device, node);
    return (uint64_t)(s.counts + s.order + s.runs + s.rounded) + (uint64_t)s.worker * (uint64_t)cpu_workers(device);
}

/* ---- ordering ---- */

static int64_t id_of(const job *j, int64_t row) {
    const strand_plugin_tensor *ids = &j->node->inputs[2], *out = &j->node->outputs[0];
    int64_t at = (row / j->picks + cpu_lead(ids, 0, out, 0)) * ids->strides[0] +
                 (row % j->picks + cpu_lead(ids, 1, out, 1)) * ids->strides[1];
    return ids->dtype == STRAND_PLUGIN_I64 ? ((const int64_t *)ids->memory.data)[at] : ((const int32_t *)ids->memory.data)[at];
}

/* Orders the rows by expert, in their own order within one, and cuts runs. `at` has room for experts + 1. Returns how many
 * runs. */
static int64_t order_rows(const job *j, int32_t *at, int32_t *order, run *runs) {
    int64_t experts = j->node->inputs[1].dims[0], n = 0;
    memset(at, 0, (size_t)(experts + 1) * sizeof *at);
    for (int64_t r = 0; r < j->rows; r++) at[id_of(j, r) + 1]++;
    for (int64_t e = 0; e < experts; e++) {
        for (int32_t first = 0; first < at[e + 1]; first += RUN)
            runs[n++] = (run){(int32_t)e, at[e] + first, (int32_t)cpu_min(RUN, at[e + 1] - first)};
        at[e + 1] += at[e];
    }
    for (int64_t r = 0; r < j->rows; r++) order[at[id_of(j, r)]++] = (int32_t)r;
    return n;
}

/* ---- products ---- */

static const float *x_row(const job *j, int64_t row) {
    return (const float *)(const void *)cpu_row(&j->x, j->dims, row);
}
static float *out_row(const job *j, int64_t row) {
    return (float *)(void *)cpu_row(&j->out, j->dims, row);
}

/* The expert's first weight and its bias, at the output's first column. */
static const char *weight_of(const job *j, int64_t expert) {
    const strand_plugin_tensor *w = &j->node->inputs[1];
    int64_t at = expert * w->strides[0] + cpu_lead(w, 1, &j->node->outputs[0], 2) * w->strides[1];
    return (const char *)w->memory.data + cpu_span(w->dtype, at);
}
static const float *bias_of(const job *j, int64_t expert) {
    const strand_plugin_tensor *bias = cpu_input(j->node, 3);
    return bias ? cpu_f32(bias) + expert * bias->strides[0] + cpu_lead(bias, 1, &j->node->outputs[0], 2) : NULL;
}

/* One run of rows, columns [column, column + n). A single row is read and written where it stands. */
static void plain_run(const job *j, const run *r, int64_t column, int64_t n, float *work) {
    const strand_plugin_tensor *w = &j->node->inputs[1];
    int64_t most = cpu_min(RUN, j->rows);
    float *x = work, *y = x + most * j->k, *rest = y + most * j->node->outputs[0].dims[2] + 16;
    rest += (16 - (rest - work) % 16) % 16; /* as aligned as `work` */
    cpu_product p = {.a = {(const char *)x, STRAND_PLUGIN_F32, j->k, 1},
                     .b = {weight_of(j, r->expert), w->dtype, w->strides[1], 1},
                     .m = r->n,
                     .n = j->n,
                     .k = j->k,
                     .bias = bias_of(j, r->expert),
                     .bias_stride = 1,
                     .activation = j->p->activation,
                     .alpha = j->p->alpha,
                     .beta = j->p->beta};
    p.bias_kind = p.bias ? STRAND_BIAS_COLUMNS : STRAND_BIAS_NONE;
    if (r->n == 1) {
        int64_t row = j->order[r->first];
        p.a.data = (const char *)x_row(j, row);
        cpu_product_block(&p, 0, 1, column, n, out_row(j, row) + column, n, rest);
        return;
    }
    for (int64_t i = 0; i < r->n; i++) memcpy(x + i * j->k, x_row(j, j->order[r->first + i]), (size_t)j->k * sizeof *x);
    cpu_product_block(&p, 0, r->n, column, n, y, n, rest);
    for (int64_t i = 0; i < r->n; i++) memcpy(out_row(j, j->order[r->first + i]) + column, y + i * n, (size_t)n * sizeof *y);
}

static int64_t rounded_row(const job *j, int64_t row) {
    return j->distinct == j->rows ? row : row / j->picks;
}

static void quantised_run(const job *j, const run *r, int64_t column, int64_t n, void *work) {
    const strand_plugin_tensor *w = &j->node->inputs[1];
    cpu_quant_weights weights = {w->dtype, (const uint8_t *)weight_of(j, r->expert), cpu_span(w->dtype, w->strides[1]), j->n,
                                 j->k};
    const float *bias = bias_of(j, r->expert);
    const char *starts[RUN];
    float *c[RUN];
    for (int64_t i = 0; i < r->n; i++) {
        int64_t row = j->order[r->first + i];
        starts[i] = j->rounded + rounded_row(j, row) * j->row_bytes;
        c[i] = out_row(j, row) + column;
    }
    j->quant->columns(&weights, column, n, starts, c, r->n, work);
    for (int64_t i = 0; i < r->n; i++) {
        if (bias) cpu_binary_row(STRAND_BINARY_ADD, c[i], c[i], bias + column, 1, n);
        if (j->p->activation) cpu_unary_row(j->p->activation, j->p->alpha, j->p->beta, c[i], c[i], n);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const run *r = &j->runs[i / j->across];
    int64_t column = i % j->across * j->width, n = cpu_min(j->width, j->n - column);
    void *work = j->work + worker * j->each;
    if (j->quant)
        quantised_run(j, r, column, n, work);
    else
        plain_run(j, r, column, n, work);
}

static void round_rows(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->height, j->distinct), step = j->rows / j->distinct;
    (void)worker;
    for (int64_t r = i * j->height; r < end; r++)
        cpu_quant_round(j->quant, j->node->inputs[1].dtype, x_row(j, r * step), STRAND_PLUGIN_F32, j->k,
                        j->rounded + r * j->row_bytes);
}

/* x seen through the output's axes [tokens, picks, N], without the last one. */
static void place_x(const strand_plugin_tensor *x, const strand_plugin_tensor *out, cpu_operand *o) {
    int64_t first = 0;
    *o = (cpu_operand){.bytes = sizeof(float)};
    for (uint32_t axis = 0; axis + 1 < x->rank; axis++) {
        o->strides[1 + axis] = x->strides[axis];
        first += cpu_lead(x, axis, out, axis) * x->strides[axis];
    }
    o->base = (char *)(cpu_f32(x) + first);
}

CPU_KERNEL(cpu_grouped_matmul) {
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *out = &node->outputs[0];
    parts s = parts_of(device, node);
    char *memory = scratch;
    job j = {.node = node, .p = node->params, .picks = out->dims[1], .rows = out->dims[0] * out->dims[1], .k = w->dims[2],
             .n = out->dims[2]};
    int32_t *order = (int32_t *)(void *)(memory + s.counts);
    run *runs = (run *)(void *)(memory + s.counts + s.order);
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    place_x(x, out, &j.x);
    for (int64_t r = 0; r < j.rows; r++) {
        int64_t e = id_of(&j, r);
        if (e < 0 || e >= w->dims[0])
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: id %lld is outside the %lld experts",
                            node->name ? node->name : "grouped_matmul", (long long)e, (long long)w->dims[0]);
    }
    if (j.rows < 1 || j.n < 1) return STRAND_PLUGIN_OK;
    int64_t n_runs = order_rows(&j, (int32_t *)(void *)memory, order, runs);
    j.order = order;
    j.runs = runs;
    j.rounded = memory + s.counts + s.order + s.runs;
    j.work = j.rounded + s.rounded;
    j.each = s.worker;
    if (cpu_is_quantised(w->dtype)) {
        const cpu_quant_weights shape = {w->dtype, NULL, 0, j.n, j.k};
        j.quant = cpu_quant_kernels(device, w->dtype);
        j.row_bytes = cpu_quant_row_bytes(j.quant, j.k);
        j.distinct = x->rank == 3 ? j.rows : out->dims[0];
        j.height = cpu_max(1, 32768 / cpu_max(1, j.k));
        cpu_parallel(device, (j.distinct + j.height - 1) / j.height, round_rows, &j);
        j.width = cpu_quant_width(&shape, cpu_min(RUN, j.rows / n_runs));
    } else {
        j.width = cpu_min(512, cpu_max(1, 262144 / cpu_max(1, j.k) / 64) * 64);
    }
    j.across = (j.n + j.width - 1) / j.width;
    cpu_parallel(device, n_runs * j.across, body, &j);
    return STRAND_PLUGIN_OK;
}

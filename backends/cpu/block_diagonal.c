/* block_diagonal.c - BLOCK_DIAGONAL: every block is a small matrix product, shared out by blocks and by runs of rows. Interleaved
 * inputs are gathered, and interleaved outputs scattered, by way of a run's own working memory. */
#include "kernels.h"
#include "matmul.h"

#include <string.h>

#define RUN 96 /* rows of a piece: whole panels of every variant */

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_block_diagonal *p;
    cpu_operand x, out;
    int64_t dims[STRAND_PLUGIN_RANK], rows, runs;
    int64_t blocks, ins, outs;
    const float *bias;
    int64_t bias_stride;
    float *scratch;
    int64_t each; /* floats of a worker */
} job;

/* Floats of a worker: rows of one block's inputs, its outputs and its bias, and what the product needs. */
static int64_t gathered(int64_t rows, int64_t ins) {
    return (int64_t)cpu_round((uint64_t)(rows * ins) * sizeof(float)) / (int64_t)sizeof(float);
}
static int64_t worker_floats(const strand_plugin_node *node) {
    const strand_plugin_tensor *w = &node->inputs[1];
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_extents(&node->outputs[0], dims);
    int64_t rows = cpu_min(RUN, cpu_rows(dims));
    return gathered(rows, w->dims[2]) + gathered(rows, w->dims[1]) + gathered(1, w->dims[1]) + cpu_product_scratch(rows, w->dims[1], w->dims[2]);
}

uint64_t cpu_block_diagonal_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)worker_floats(node) * sizeof(float) * (uint64_t)cpu_workers(device);
}

static float *row_of(const cpu_operand *o, const job *j, int64_t row) {
    return (float *)(void *)cpu_row(o, j->dims, row);
}

/* Are all rows evenly apart? Then they can be read or written where they are. */
static bool even(const cpu_operand *o, const int64_t dims[STRAND_PLUGIN_RANK]) {
    int64_t apart = o->strides[2] * dims[2];
    return (dims[1] == 1 || o->strides[1] == apart) && (dims[0] == 1 || o->strides[0] == apart * dims[1]);
}

/* Rows of block b's inputs. */
static void gather(const job *j, int64_t b, int64_t row, int64_t n, float *to) {
    bool interleaved = j->p->flags & STRAND_BLOCK_IN_INTERLEAVED;
    for (int64_t r = 0; r < n; r++, to += j->ins) {
        const float *x = row_of(&j->x, j, row + r);
        if (interleaved)
            for (int64_t i = 0; i < j->ins; i++) to[i] = x[i * j->blocks + b];
        else
            memcpy(to, x + b * j->ins, (size_t)j->ins * sizeof *to);
    }
}

static void scatter(const job *j, int64_t b, int64_t row, int64_t n, const float *from) {
    bool interleaved = j->p->flags & STRAND_BLOCK_OUT_INTERLEAVED;
    for (int64_t r = 0; r < n; r++, from += j->outs) {
        float *y = row_of(&j->out, j, row + r);
        if (interleaved)
            for (int64_t o = 0; o < j->outs; o++) y[o * j->blocks + b] = from[o];
        else
            memcpy(y + b * j->outs, from, (size_t)j->outs * sizeof *from);
    }
}

/* Block i / runs, rows of run i % runs. */
static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_plugin_tensor *w = &j->node->inputs[1];
    int64_t b = i / j->runs, row = i % j->runs * RUN, n = cpu_min(RUN, j->rows - row), most = cpu_min(RUN, j->rows);
    float *x = j->scratch + worker * j->each, *y = x + gathered(most, j->ins), *bias = y + gathered(most, j->outs), *rest = bias + gathered(1, j->outs);
    bool in_interleaved = j->p->flags & STRAND_BLOCK_IN_INTERLEAVED, out_interleaved = j->p->flags & STRAND_BLOCK_OUT_INTERLEAVED;
    cpu_product p = {.a = {(const char *)x, STRAND_PLUGIN_F32, j->ins, 1},
                     .b = {(const char *)(cpu_f32(w) + b * w->strides[0]), STRAND_PLUGIN_F32, w->strides[1], 1},
                     .m = n,
                     .n = j->outs,
                     .k = j->ins,
                     .activation = j->p->activation,
                     .alpha = j->p->alpha,
                     .beta = j->p->beta};
    if (j->bias) {
        for (int64_t o = 0; o < j->outs; o++) bias[o] = j->bias[(out_interleaved ? o * j->blocks + b : b * j->outs + o) * j->bias_stride];
        p.bias_kind = STRAND_BIAS_COLUMNS;
        p.bias = bias;
        p.bias_stride = 1;
    }
    if (!in_interleaved && even(&j->x, j->dims)) {
        p.a.data = (const char *)(row_of(&j->x, j, row) + b * j->ins);
        p.a.outer = j->x.strides[STRAND_PLUGIN_RANK - 2];
    } else {
        gather(j, b, row, n, x);
    }
    if (!out_interleaved && even(&j->out, j->dims)) {
        cpu_product_block(&p, 0, n, 0, j->outs, row_of(&j->out, j, row) + b * j->outs, j->out.strides[STRAND_PLUGIN_RANK - 2], rest);
    } else {
        cpu_product_block(&p, 0, n, 0, j->outs, y, j->outs, rest);
        scatter(j, b, row, n, y);
    }
}

CPU_KERNEL(cpu_block_diagonal) {
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2), *out = &node->outputs[0];
    job j = {.node = node, .p = node->params, .blocks = w->dims[0], .outs = w->dims[1], .ins = w->dims[2], .scratch = scratch, .each = worker_floats(node)};
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    /* x has the output's axes but for the last, of which it is whole. */
    j.x = (cpu_operand){.bytes = sizeof(float)};
    int64_t first = 0;
    for (uint32_t axis = 0; axis + 1 < x->rank; axis++) {
        j.x.strides[STRAND_PLUGIN_RANK - x->rank + axis] = x->strides[axis];
        first += cpu_lead(x, axis, out, axis) * x->strides[axis];
    }
    j.x.base = (char *)(cpu_f32(x) + first);
    if (bias) {
        j.bias_stride = bias->dims[0] > 1 ? bias->strides[0] : 1;
        j.bias = cpu_f32(bias) + cpu_lead(bias, 0, out, out->rank - 1) * j.bias_stride;
    }
    j.rows = cpu_rows(j.dims);
    if (j.rows < 1 || j.outs < 1) return STRAND_PLUGIN_OK;
    j.runs = (j.rows + RUN - 1) / RUN;
    cpu_parallel(device, j.runs * j.blocks, body, &j);
    return STRAND_PLUGIN_OK;
}

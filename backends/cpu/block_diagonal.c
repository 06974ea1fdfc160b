/* block_diagonal.c - BLOCK_DIAGONAL: every block is a small matrix product, shared out by blocks and by runs of rows.
 * Interleaved inputs are gathered, and interleaved outputs scattered, by way of a run's own working memory: for CPU_LANES
 * blocks at once, by squares that are transposed in registers. */
#include "kernels.h"
#include "matmul.h"
#include "simd.h"

#include <string.h>

#define RUN  96     /* rows of a piece at most: whole panels of every variant */
#define ROOM 131072 /* floats that the rows of a group of blocks should not exceed */

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_block_diagonal *p;
    cpu_operand x, out;
    int64_t dims[STRAND_PLUGIN_RANK], rows, run, runs;
    int64_t blocks, ins, outs, group; /* group: blocks of a piece */
    const float *bias;
    int64_t bias_stride;
    float *scratch;
} job;

/* ---- pieces, and the floats that a worker needs for one ---- */

typedef struct piece_shape {
    int64_t group, run, x, y, bias; /* floats of a block's inputs, outputs and bias, rounded up */
    int64_t each;
} piece_shape;

static int64_t room_for(int64_t floats) {
    return (int64_t)cpu_round((uint64_t)floats * sizeof(float)) / (int64_t)sizeof(float);
}

static piece_shape shape_of(const strand_plugin_node *node) {
    const strand_op_block_diagonal *p = node->params;
    const strand_plugin_tensor *w = &node->inputs[1];
    int64_t dims[STRAND_PLUGIN_RANK], outs = w->dims[1], ins = w->dims[2];
    cpu_extents(&node->outputs[0], dims);
    piece_shape s = {.group = p->flags && w->dims[0] >= CPU_LANES ? CPU_LANES : 1};
    s.run = RUN;
    while (s.run > 12 && s.group > 1 && s.group * s.run * (ins + outs) > ROOM) s.run /= 2;
    int64_t most = cpu_min(s.run, cpu_rows(dims));
    s.x = room_for(most * ins);
    s.y = room_for(most * outs);
    s.bias = room_for(outs);
    s.each = s.group * (s.x + s.y) + s.bias + cpu_product_scratch(most, outs, ins);
    return s;
}

uint64_t cpu_block_diagonal_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)shape_of(node).each * sizeof(float) * (uint64_t)cpu_workers(device);
}

static float *row_of(const cpu_operand *o, const job *j, int64_t row) {
    return (float *)(void *)cpu_row(o, j->dims, row);
}

/* Are all rows evenly apart? Then they can be read or written where they are. */
static bool even(const cpu_operand *o, const int64_t dims[STRAND_PLUGIN_RANK]) {
    int64_t apart = o->strides[2] * dims[2];
    return (dims[1] == 1 || o->strides[1] == apart) && (dims[0] == 1 || o->strides[0] == apart * dims[1]);
}

/* Squares: to[b][i] = from[i stride + b] for CPU_LANES b, which stand `apart` in `to`; and back, to[o stride + b] =
 * from[b][o]. */
static void spread(const float *from, int64_t stride, int64_t n, float *to, int64_t apart) {
    for (int64_t i = 0; i < n; i += CPU_LANES) {
        vf square[CPU_LANES];
        int64_t some = cpu_min(CPU_LANES, n - i);
#pragma GCC unroll 16
        for (int l = 0; l < CPU_LANES; l++) square[l] = l < some ? vf_load(from + (i + l) * stride) : vf_zero();
        vf_transpose(square);
        if (some == CPU_LANES) {
#pragma GCC unroll 16
            for (int b = 0; b < CPU_LANES; b++) vf_store(to + b * apart + i, square[b]);
        } else {
            for (int b = 0; b < CPU_LANES; b++) vf_store_part(to + b * apart + i, square[b], some);
        }
    }
}

static void join(const float *from, int64_t apart, int64_t n, float *to, int64_t stride) {
    for (int64_t o = 0; o < n; o += CPU_LANES) {
        vf square[CPU_LANES];
        int64_t some = cpu_min(CPU_LANES, n - o);
#pragma GCC unroll 16
        for (int b = 0; b < CPU_LANES; b++)
            square[b] = some == CPU_LANES ? vf_load(from + b * apart + o) : vf_load_part(from + b * apart + o, some);
        vf_transpose(square);
#pragma GCC unroll 16
        for (int l = 0; l < CPU_LANES; l++)
            if (l < some) vf_store(to + (o + l) * stride, square[l]);
    }
}

/* A piece of work: rows [row, row + n) of blocks [first, first + blocks). */
typedef struct piece {
    int64_t row, n, first, blocks;
    bool gathers, scatters; /* by way of x and y, where block b has its rows at b * x_apart and b * y_apart */
    float *x, *y;
    int64_t x_apart, y_apart;
} piece;

static void gather(const job *j, const piece *p) {
    bool interleaved = j->p->flags & STRAND_BLOCK_IN_INTERLEAVED;
    for (int64_t r = 0; r < p->n; r++) {
        const float *x = row_of(&j->x, j, p->row + r);
        float *to = p->x + r * j->ins;
        if (interleaved && p->blocks == CPU_LANES)
            spread(x + p->first, j->blocks, j->ins, to, p->x_apart);
        else
            for (int64_t b = 0; b < p->blocks; b++)
                for (int64_t i = 0; i < j->ins; i++)
                    to[b * p->x_apart + i] = x[interleaved ? i * j->blocks + p->first + b : (p->first + b) * j->ins + i];
    }
}

static void scatter(const job *j, const piece *p) {
    bool interleaved = j->p->flags & STRAND_BLOCK_OUT_INTERLEAVED;
    for (int64_t r = 0; r < p->n; r++) {
        float *y = row_of(&j->out, j, p->row + r);
        const float *from = p->y + r * j->outs;
        if (interleaved && p->blocks == CPU_LANES)
            join(from, p->y_apart, j->outs, y + p->first, j->blocks);
        else
            for (int64_t b = 0; b < p->blocks; b++)
                for (int64_t o = 0; o < j->outs; o++)
                    y[interleaved ? o * j->blocks + p->first + b : (p->first + b) * j->outs + o] = from[b * p->y_apart + o];
    }
}

/* The product of one block of a piece. */
static void multiply(const job *j, const piece *at, int64_t i, float *bias, float *rest) {
    const strand_plugin_tensor *w = &j->node->inputs[1];
    int64_t b = at->first + i;
    const float *x = at->gathers ? at->x + i * at->x_apart : row_of(&j->x, j, at->row) + b * j->ins;
    float *y = at->scatters ? at->y + i * at->y_apart : row_of(&j->out, j, at->row) + b * j->outs;
    cpu_product p = {.a = {(const char *)x, STRAND_PLUGIN_F32, at->gathers ? j->ins : j->x.strides[STRAND_PLUGIN_RANK - 2], 1},
                     .b = {(const char *)(cpu_f32(w) + b * w->strides[0]), STRAND_PLUGIN_F32, w->strides[1], 1},
                     .m = at->n,
                     .n = j->outs,
                     .k = j->ins,
                     .activation = j->p->activation,
                     .alpha = j->p->alpha,
                     .beta = j->p->beta};
    if (j->bias) {
        bool interleaved = j->p->flags & STRAND_BLOCK_OUT_INTERLEAVED;
        for (int64_t o = 0; o < j->outs; o++)
            bias[o] = j->bias[(interleaved ? o * j->blocks + b : b * j->outs + o) * j->bias_stride];
        p.bias_kind = STRAND_BIAS_COLUMNS;
        p.bias = bias;
        p.bias_stride = 1;
    }
    cpu_product_block(&p, 0, at->n, 0, j->outs, y, at->scatters ? j->outs : j->out.strides[STRAND_PLUGIN_RANK - 2], rest);
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    piece_shape s = shape_of(j->node);
    float *work = j->scratch + worker * s.each;
    piece p = {.row = i % j->runs * j->run, .first = i / j->runs * j->group, .x = work, .x_apart = s.x,
               .y = work + s.group * s.x, .y_apart = s.y};
    p.n = cpu_min(j->run, j->rows - p.row);
    p.blocks = cpu_min(j->group, j->blocks - p.first);
    p.gathers = j->p->flags & STRAND_BLOCK_IN_INTERLEAVED || !even(&j->x, j->dims);
    p.scatters = j->p->flags & STRAND_BLOCK_OUT_INTERLEAVED || !even(&j->out, j->dims);
    float *bias = p.y + s.group * s.y;
    if (p.gathers) gather(j, &p);
    for (int64_t b = 0; b < p.blocks; b++) multiply(j, &p, b, bias, bias + s.bias);
    if (p.scatters) scatter(j, &p);
}

CPU_KERNEL(cpu_block_diagonal) {
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2),
                               *out = &node->outputs[0];
    job j = {.node = node, .p = node->params, .blocks = w->dims[0], .outs = w->dims[1], .ins = w->dims[2], .scratch = scratch};
    piece_shape s = shape_of(node);
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
    j.run = s.run;
    j.group = s.group;
    j.runs = (j.rows + s.run - 1) / s.run;
    cpu_parallel(device, j.runs * ((j.blocks + s.group - 1) / s.group), body, &j);
    return STRAND_PLUGIN_OK;
}

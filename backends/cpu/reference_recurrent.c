/* reference_recurrent.c - readable kernels of recurrences that are not linear in the state. The state is kept as the F32
 * numbers that the outputs are, so that a sequence cut in two is the whole one. */
#include "reference.h"

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* Where batch entry b (of one or two axes) begins in t, whose view begins before the output's. */
static int64_t batch_entry(const strand_plugin_node *node, const strand_plugin_tensor *t, int64_t b) {
    const strand_plugin_tensor *out = &node->outputs[0];
    if (out->rank == 3) return (b + out->origin[0] - t->origin[0]) * t->strides[0];
    return (b / out->dims[1] + out->origin[0] - t->origin[0]) * t->strides[0] +
           (b % out->dims[1] + out->origin[1] - t->origin[1]) * t->strides[1];
}

/* Row b, unit i, of the state before token t: the output of the token before it, the given state, or zero. */
static double before(const strand_plugin_node *node, int64_t b, int64_t t, int64_t i) {
    const strand_op_gru *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 3);
    uint32_t time = out->rank - 2;
    int64_t earlier = p->reverse ? t + 1 : t - 1;
    if (earlier >= 0 && earlier < out->dims[time])
        return get(out, batch_entry(node, out, b) + earlier * out->strides[time] + i);
    return state ? get(state, batch_entry(node, state, b) + i) : 0;
}

CPU_KERNEL(cpu_reference_gru) {
    (void)device, (void)scratch;
    const strand_op_gru *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2),
                               *out = &node->outputs[0];
    uint32_t time = out->rank - 2;
    int64_t length = out->dims[time], h = out->dims[time + 1], batch = out->dims[0] * (out->rank == 4 ? out->dims[1] : 1);
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t s = 0; s < length; s++) {
            int64_t t = p->reverse ? length - 1 - s : s;
            int64_t at_x = batch_entry(node, x, b) + t * x->strides[time];
            for (int64_t i = 0; i < h; i++) {
                double gate[3];
                for (int k = 0; k < 3; k++) {
                    gate[k] = bias ? get(bias, k * h + i) : 0;
                    for (int64_t j = 0; j < h; j++) gate[k] += get(w, (k * h + i) * w->strides[0] + j) * before(node, b, t, j);
                }
                double r = sigmoid(get(x, at_x + i) + gate[0]), z = sigmoid(get(x, at_x + h + i) + gate[1]);
                double n = tanh(get(x, at_x + 2 * h + i) + r * gate[2]);
                put(out, batch_entry(node, out, b) + t * out->strides[time] + i, (1 - z) * n + z * before(node, b, t, i));
            }
        }
        const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
        if (!last) continue;
        int64_t to =
            out->rank == 3 ? b * last->strides[0] : b / out->dims[1] * last->strides[0] + b % out->dims[1] * last->strides[1];
        for (int64_t i = 0; i < h; i++) put(last, to + i, before(node, b, p->reverse ? -1 : length, i));
    }
    return STRAND_PLUGIN_OK;
}

/* ---- a GRU on a graph ---- */

/* What one step needs of one entry of the batch. */
typedef struct graph_step {
    const strand_plugin_node *node;
    const strand_op_graph_gru *p;
    int64_t b, n, h, all;
    double *x; /* [all][n]: the diffusion of one unit */
} graph_step;

static int64_t entry(const graph_step *g, const strand_plugin_tensor *t) {
    return (g->b + g->node->outputs[0].origin[0] - t->origin[0]) * t->strides[0];
}

/* Unit f's features x[0][*] become those of its whole diffusion. */
static void diffuse(const graph_step *g) {
    const strand_plugin_tensor *s = &g->node->inputs[2];
    uint32_t r = s->rank;
    int64_t start = 0, made = 1, first = r == 4 ? entry(g, s) : 0;
    for (int64_t m = 0; m < s->dims[r - 3]; m++) {
        int64_t before = start, now = start;
        for (int64_t k = 1; k <= g->p->steps; k++, made++) {
            for (int64_t i = 0; i < g->n; i++) {
                double sum = 0;
                for (int64_t j = 0; j < g->n; j++)
                    sum += get(s, first + m * s->strides[r - 3] + i * s->strides[r - 2] + j) * g->x[now * g->n + j];
                g->x[made * g->n + i] = k == 1 ? sum : 2 * sum - g->x[before * g->n + i];
            }
            before = now;
            now = made;
        }
        if (g->p->flags & STRAND_DIFFUSION_CARRY_OVER) start = before;
    }
}

/* sums [n][columns] gain the product of the diffusion of `state` [n][h] with weight `input`. */
static void gain(const graph_step *g, const double *state, uint32_t input, int64_t columns, double *sums) {
    const strand_plugin_tensor *w = &g->node->inputs[input];
    for (int64_t f = 0; f < g->h; f++) {
        for (int64_t i = 0; i < g->n; i++) g->x[i] = state[i * g->h + f];
        diffuse(g);
        for (int64_t m = 0; m < g->all; m++)
            for (int64_t i = 0; i < g->n; i++)
                for (int64_t c = 0; c < columns; c++)
                    sums[i * columns + c] += g->x[m * g->n + i] * get(w, (f * g->all + m) * w->strides[0] + c);
    }
}

/* Token t; `h` [n][h] is the state, `work` has room for 4 of them. */
static void graph_token(const graph_step *g, int64_t t, double *h, double *work) {
    const strand_plugin_tensor *gates = &g->node->inputs[0], *x = &g->node->inputs[1];
    int64_t size = g->n * g->h;
    double *ru = work, *c = ru + 2 * size, *rh = c + size;
    for (int64_t i = 0; i < g->n; i++)
        for (int64_t k = 0; k < 2 * g->h; k++)
            ru[i * 2 * g->h + k] = get(gates, entry(g, gates) + t * gates->strides[1] + i * gates->strides[2] + k);
    for (int64_t i = 0; i < size; i++) c[i] = get(x, entry(g, x) + t * x->strides[1] + i / g->h * x->strides[2] + i % g->h);
    gain(g, h, 3, 2 * g->h, ru);
    for (int64_t i = 0; i < size; i++) rh[i] = sigmoid(ru[i / g->h * 2 * g->h + i % g->h]) * h[i];
    gain(g, rh, 4, g->h, c);
    for (int64_t i = 0; i < size; i++) {
        double u = sigmoid(ru[i / g->h * 2 * g->h + g->h + i % g->h]);
        h[i] = (double)(float)(u * h[i] + (1 - u) * tanh(c[i])); /* F32, as the outputs are */
    }
}

CPU_KERNEL(cpu_reference_graph_gru) {
    const strand_plugin_tensor *x = &node->inputs[1], *s = &node->inputs[2], *state = cpu_input(node, 5),
                               *out = &node->outputs[0];
    graph_step g = {.node = node, .p = node->params, .n = x->dims[2], .h = x->dims[3]};
    int64_t size = g.n * g.h;
    (void)scratch;
    g.all = 1 + s->dims[s->rank - 3] * g.p->steps;
    uint64_t bytes = (uint64_t)(5 * size + g.all * g.n + 1) * sizeof(double);
    double *h = device->host->alloc(device->host->context, bytes, CPU_ALIGN);
    if (!h) return cpu_fail(device, STRAND_PLUGIN_ERR_MEMORY, "no memory for a reference kernel");
    g.x = h + 5 * size;
    for (g.b = 0; g.b < out->dims[0]; g.b++) {
        for (int64_t i = 0; i < size; i++)
            h[i] = state ? get(state, entry(&g, state) + i / g.h * state->strides[1] + i % g.h) : 0;
        for (int64_t t = 0; t < out->dims[1]; t++) {
            graph_token(&g, t, h, h + size);
            for (int64_t i = 0; i < size; i++)
                put(out, g.b * out->strides[0] + t * out->strides[1] + i / g.h * out->strides[2] + i % g.h, h[i]);
        }
        const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
        for (int64_t i = 0; i < size && last; i++)
            put(last, g.b * last->strides[0] + i / g.h * last->strides[1] + i % g.h, h[i]);
    }
    device->host->free(device->host->context, h, bytes);
    return STRAND_PLUGIN_OK;
}

/* graphs_diffusion.c - DIFFUSION: a signal carried over a small dense graph by Chebyshev's recursion. A piece of work is one
 * graph and a block of its features, which lie along the lanes: every step is a sum over neighbours, made where x lies in
 * cache; at the end the steps of a feature are laid side by side. */
#include "graphs_links.h"
#include "matrix_state.h"

#define BLOCK 128 /* features */

typedef struct job {
    const strand_plugin_node *node;
    const strand_op_diffusion *p;
    int64_t n, features, count, all, blocks, each, links; /* nodes; supports; matrices of y; links: where the lists stand in
                                                             a worker's floats */
    float *work;
} job;

static int64_t room_floats(int64_t n, int64_t features, int64_t all) {
    return all * n * ms_pitch(cpu_min(features, BLOCK));
}

/* x_0 stands at the front of x, [n][pitch]; the others follow it. */
static void steps(const job *j, const cpu_links *supports, float *x, int64_t pitch) {
    int64_t size = j->n * pitch, start = 0, made = 1;
    for (int64_t m = 0; m < j->count; m++) {
        int64_t before = start, now = start;
        for (int64_t k = 1; k <= j->p->steps; k++, made++) {
            cpu_links_carry(supports, m, x + now * size, k > 1 ? x + before * size : NULL, x + made * size, pitch, pitch);
            before = now;
            now = made;
        }
        if (j->p->flags & STRAND_DIFFUSION_CARRY_OVER) start = before;
    }
}

/* y[f all + m] = x_m[f]. The numbers that the published models have are constants, which lets compilers shuffle whole
 * vectors. */
static void lay_side_by_side(const float *x, int64_t stride, int64_t all, int64_t width, float *restrict y) {
    const float *a = x, *b = x + stride, *c = b + stride, *d = c + stride, *e = d + stride;
    if (all == 3)
        for (int64_t f = 0; f < width; f++) y[3 * f] = a[f], y[3 * f + 1] = b[f], y[3 * f + 2] = c[f];
    else if (all == 5)
        for (int64_t f = 0; f < width; f++)
            y[5 * f] = a[f], y[5 * f + 1] = b[f], y[5 * f + 2] = c[f], y[5 * f + 3] = d[f], y[5 * f + 4] = e[f];
    else
        for (int64_t f = 0; f < width; f++)
            for (int64_t m = 0; m < all; m++) y[f * all + m] = x[m * stride + f];
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    const strand_plugin_tensor *x = &j->node->inputs[0], *s = &j->node->inputs[1], *out = &j->node->outputs[0];
    int64_t first = i % j->blocks * BLOCK, width = cpu_min(BLOCK, j->features - first), pitch = ms_pitch(width), from = first,
            to = first * j->all, graph = i / j->blocks, supports = 0;
    uint32_t rank = out->rank;
    for (uint32_t axis = rank - 2; axis-- > 0;) {
        int64_t at = graph % out->dims[axis];
        graph /= out->dims[axis];
        from += (at + out->origin[axis] - x->origin[axis]) * x->strides[axis];
        to += at * out->strides[axis];
        if (axis == 0 && s->rank == 4) supports = (at + out->origin[0] - s->origin[0]) * s->strides[0];
    }
    float *room = j->work + worker * j->each;
    ms_rows_in(room, pitch, cpu_f32(x) + from, x->strides[rank - 2], j->n, width);
    cpu_links links = cpu_links_of(cpu_f32(s) + supports, s->strides + (s->rank - 3), j->n, j->count, room + j->links);
    steps(j, &links, room, pitch);
    for (int64_t node = 0; node < j->n; node++) {
        float *y = cpu_f32(out) + to + node * out->strides[rank - 2];
        lay_side_by_side(room + node * pitch, j->n * pitch, j->all, width, y);
    }
}

static job begin(const strand_plugin_node *node, void *scratch) {
    const strand_plugin_tensor *x = &node->inputs[0], *s = &node->inputs[1];
    job j = {.node = node, .p = node->params, .n = x->dims[x->rank - 2], .features = x->dims[x->rank - 1],
             .count = s->dims[s->rank - 3], .work = scratch};
    j.all = 1 + j.count * j.p->steps;
    j.blocks = (j.features + BLOCK - 1) / BLOCK;
    j.links = room_floats(j.n, j.features, j.all);
    j.each = ms_floats(j.links + cpu_links_floats(j.n, j.count));
    return j;
}

uint64_t cpu_diffusion_scratch(const cpu_device *device, const strand_plugin_node *node) {
    job j = begin(node, NULL);
    return (uint64_t)cpu_workers(device) * (uint64_t)j.each * sizeof(float);
}

CPU_KERNEL(cpu_diffusion) {
    job j = begin(node, scratch);
    int64_t graphs = 1;
    for (uint32_t axis = 0; axis + 2 < node->outputs[0].rank; axis++) graphs *= node->outputs[0].dims[axis];
    cpu_parallel(device, graphs * j.blocks, body, &j);
    return STRAND_PLUGIN_OK;
}

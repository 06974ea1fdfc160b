/* cases_recurrent.c - recurrences that are not linear in the state. Weights are so small that the state forgets: what
 * rounding does at one token must not grow with the tokens after it. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void scale(ops_program *g, int tensor, float by) {
    const ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        float x;
        unsigned char *at = t->start + ops_place(t, &t->view, i);
        memcpy(&x, at, 4);
        x *= by;
        memcpy(at, &x, 4);
    }
}

/* Most of a published support is zeros. */
static void thin(ops_program *g, int tensor) {
    const ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++)
        if (ops_between(g, 0, 3)) memset(t->start + ops_place(t, &t->view, i), 0, 4);
}

static void make_gru(ops_program *g, int index) {
    static const int64_t widths[] = {1, 16, 64, 5, 33, 15, 17, 48, 80, 128, 3, 31};
    int64_t h = index < 12 ? widths[index] : ops_extent(g, 100), b = index % 3 ? ops_between(g, 1, 7) : 1,
            l = ops_between(g, 1, 12);
    if (index % 6 == 1) l = 1;
    while (b * l * h * h > 120000 && l > 1) l = (l + 1) / 2;
    int optional = (int)ops_between(g, 0, 7);
    strand_op_gru p = {(uint32_t)ops_between(g, 0, 1), 0};
    int64_t outer = index % 4 == 3 ? ops_between(g, 1, 3) : 1; /* two batch axes */
    int skip = index % 4 == 3 ? 0 : 1;
    int64_t x_dims[4] = {outer, b, l, 3 * h}, w_dims[2] = {3 * h, h}, out_dims[4] = {outer, b, l, h},
            state_dims[3] = {outer, b, h};
    int in[4] = {ops_add(g, F32, 4 - skip, x_dims + skip, OPS_NORMAL), ops_add(g, F32, 2, w_dims, OPS_NORMAL), -1, -1};
    scale(g, in[1], 0.7f / sqrtf((float)h));
    if (ops_between(g, 0, 1)) g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
    if (optional & 1) in[2] = ops_vector(g, 3 * h);
    if (optional & 2) in[3] = ops_add(g, F32, 3 - skip, state_dims + skip, OPS_NORMAL);
    ops_node *node =
        ops_add_node(g, STRAND_OP_GRU, &p, sizeof p, 4, in, ops_add(g, F32, 4 - skip, out_dims + skip, OPS_OUTPUT));
    if (optional & 4) node->second = ops_add(g, F32, 3 - skip, state_dims + skip, OPS_OUTPUT);
    SAY("%lldx%lldx%lldx%lld, reverse %u, bias %d, state %d in, %d out, constant %u", (long long)outer, (long long)b,
        (long long)l, (long long)h, p.reverse, optional & 1, optional >> 1 & 1, optional >> 2, g->tensors[in[1]].view.flags);
}

static void make_graph_gru(ops_program *g, int index) {
    static const int64_t widths[] = {1, 16, 64, 5, 33, 15}, many[] = {19, 1, 8, 3, 2, 12};
    int64_t h = index < 6 ? widths[index] : ops_extent(g, 70), n = index < 6 ? many[index] : ops_between(g, 1, 21),
            b = ops_between(g, 1, 4), l = ops_between(g, 1, 5);
    int64_t count = ops_between(g, 1, 2);
    strand_op_graph_gru p = {.steps = ops_between(g, 1, 3), .flags = (uint32_t)ops_between(g, 0, 1)};
    if (ops_between(g, 0, 2) == 0) p.precision = STRAND_PRECISION_BF16, g->slack *= 500; /* factors that are rounded */
    int64_t rows = h * (1 + count * p.steps);
    while (l > 1 && b * l * n * rows * h > 3000000) l = (l + 1) / 2;
    int optional = (int)ops_between(g, 0, 3), batched = (int)ops_between(g, 0, 1);
    int64_t gates[4] = {b, l, n, 2 * h}, x[4] = {b, l, n, h}, state[3] = {b, n, h}, s[4] = {b, count, n, n},
            w[2][2] = {{rows, 2 * h}, {rows, h}};
    int in[6] = {ops_add(g, F32, 4, gates, OPS_NORMAL), ops_add(g, F32, 4, x, OPS_NORMAL),
                 ops_add(g, F32, batched ? 4 : 3, batched ? s : s + 1, OPS_NORMAL), -1, -1, -1};
    if (ops_between(g, 0, 1)) thin(g, in[2]);
    scale(g, in[2], 0.8f / sqrtf((float)n));
    for (int i = 0; i < 2; i++) {
        in[3 + i] = ops_add(g, F32, 2, w[i], OPS_NORMAL);
        scale(g, in[3 + i], 0.5f / sqrtf((float)rows));
    }
    if (ops_between(g, 0, 1)) g->tensors[in[3]].view.flags = g->tensors[in[4]].view.flags = STRAND_TENSOR_CONSTANT;
    if (optional & 1) in[5] = ops_add(g, F32, 3, state, OPS_NORMAL);
    ops_node *node = ops_add_node(g, STRAND_OP_GRAPH_GRU, &p, sizeof p, 6, in, ops_add(g, F32, 4, x, OPS_OUTPUT));
    if (optional & 2) node->second = ops_add(g, F32, 3, state, OPS_OUTPUT);
    SAY("%lldx%lldx%lldx%lld, %lld supports of rank %d, %lld steps, flags %u, precision %u, state %d in, %d out, constant %u",
        (long long)b, (long long)l, (long long)n, (long long)h, (long long)count, batched ? 4 : 3, (long long)p.steps, p.flags,
        p.precision, optional & 1, optional >> 1, g->tensors[in[3]].view.flags);
}

OPS_CASES(recurrent, {"gru", make_gru, false}, {"graph_gru", make_graph_gru, false});

/* cases_recurrent.c - recurrences that are not linear in the state. Weights are so small that the state forgets: what rounding does at
 * one token must not grow with the tokens after it. */
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

static void make_gru(ops_program *g, int index) {
    static const int64_t widths[] = {1, 16, 64, 5, 33, 15, 17, 48, 80, 128, 3, 31};
    int64_t h = index < 12 ? widths[index] : ops_extent(g, 100), b = index % 3 ? ops_between(g, 1, 7) : 1, l = ops_between(g, 1, 12);
    if (index % 6 == 1) l = 1;
    while (b * l * h * h > 120000 && l > 1) l = (l + 1) / 2;
    int optional = (int)ops_between(g, 0, 7);
    strand_op_gru p = {(uint32_t)ops_between(g, 0, 1), 0};
    int64_t x_dims[3] = {b, l, 3 * h}, w_dims[2] = {3 * h, h}, out_dims[3] = {b, l, h}, state_dims[2] = {b, h};
    int in[4] = {ops_add(g, F32, 3, x_dims, OPS_NORMAL), ops_add(g, F32, 2, w_dims, OPS_NORMAL), -1, -1};
    scale(g, in[1], 0.7f / sqrtf((float)h));
    if (ops_between(g, 0, 1)) g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
    if (optional & 1) in[2] = ops_vector(g, 3 * h);
    if (optional & 2) in[3] = ops_add(g, F32, 2, state_dims, OPS_NORMAL);
    ops_node *node = ops_add_node(g, STRAND_OP_GRU, &p, sizeof p, 4, in, ops_add(g, F32, 3, out_dims, OPS_OUTPUT));
    if (optional & 4) node->second = ops_add(g, F32, 2, state_dims, OPS_OUTPUT);
    SAY("%lldx%lldx%lld, reverse %u, bias %d, state %d in, %d out, constant %u", (long long)b, (long long)l, (long long)h, p.reverse,
        optional & 1, optional >> 1 & 1, optional >> 2, g->tensors[in[1]].view.flags);
}

OPS_CASES(recurrent, {"gru", make_gru, false});

/* cases_conv1d.c - CONV1D: groups, strides, dilations and padding of every kind, depthwise ones, and taps that reach far. */
#include "ops_cases.h"

#include <stdio.h>

static void make_conv1d(ops_program *g, int index) {
    static const int64_t corners[][9] = {
        /* batch, groups, in and out channels of a group, length, taps, stride, dilation, which padding */
        {1, 1, 1, 1, 1, 1, 1, 1, 0},     {1, 1, 3, 5, 17, 3, 1, 1, 1},      {2, 1, 16, 16, 33, 3, 1, 2, 2},
        {1, 1, 64, 64, 600, 3, 1, 1, 2}, {1, 300, 1, 1, 70, 4, 1, 1, 1},    {2, 37, 1, 2, 600, 7, 1, 3, 2},
        {1, 4, 5, 6, 129, 5, 2, 1, 2},   {1, 1, 8, 13, 1100, 10, 5, 1, 0},  {1, 1, 7, 9, 100, 1, 3, 1, 0},
        {1, 2, 3, 4, 50, 3, 1, 400, 2},  {1, 1, 12, 20, 513, 2, 1, 256, 1}, {1, 1, 2, 3, 40, 40, 1, 1, 0},
        {3, 1, 130, 40, 15, 3, 1, 1, 2}, {1, 1, 3, 70, 1025, 1, 1, 1, 0},   {1, 2, 9, 100, 31, 4, 4, 2, 3},
        {1, 1, 1, 64, 1500, 16, 8, 1, 3}};
    int64_t c[9];
    for (int i = 0; i < 9; i++) c[i] = ops_between(g, 1, 3);
    if (index < (int)(sizeof corners / sizeof *corners)) {
        for (int i = 0; i < 9; i++) c[i] = corners[index][i];
    } else {
        bool depthwise = ops_between(g, 0, 2) == 0;
        c[1] = depthwise ? ops_between(g, 1, 70) : ops_between(g, 1, 4);
        c[2] = depthwise ? 1 : ops_between(g, 1, 20);
        c[3] = depthwise ? ops_between(g, 1, 2) : ops_between(g, 1, 30);
        c[5] = ops_between(g, 1, 9);
        c[6] = ops_between(g, 0, 1) ? 1 : ops_between(g, 1, 4);
        c[7] = ops_between(g, 0, 1) ? 1 : ops_between(g, 1, 20);
        c[8] = ops_between(g, 0, 3);
        c[4] = ops_length(g, 1000);
        while (c[0] * c[1] * c[2] * c[3] * c[4] * c[5] > 1500000 && c[4] > 1) c[4] /= 2;
    }
    int64_t reach = (c[5] - 1) * c[7], causal = c[8] == 1 ? reach : c[8] == 2 ? reach / 2 : 0;
    strand_op_conv1d p = {
        .stride = c[6], .dilation = c[7], .groups = c[1], .pad_left = causal, .pad_right = c[8] == 2 ? reach - reach / 2 : 0};
    if (c[8] == 3) p.pad_left = ops_between(g, 0, reach + 3), p.pad_right = ops_between(g, 0, reach + 9);
    if (c[4] + p.pad_left + p.pad_right <= reach) c[4] = reach + 1;
    if (index % 3 == 2) p.activation = index & 1 ? STRAND_UNARY_SILU : STRAND_UNARY_RELU;
    int64_t x[3] = {c[0], c[1] * c[2], c[4]}, w[3] = {c[1] * c[3], c[2], c[5]},
            y[3] = {c[0], w[0], (c[4] + p.pad_left + p.pad_right - reach - 1) / c[6] + 1};
    int in[3] = {ops_add(g, F32, 3, x, OPS_NORMAL), ops_add(g, F32, 3, w, OPS_NORMAL), index & 1 ? ops_vector(g, w[0]) : -1};
    ops_add_node(g, STRAND_OP_CONV1D, &p, sizeof p, 3, in, ops_add(g, F32, 3, y, OPS_OUTPUT));
    SAY("%lldx%lldx%lld by %lldx%lldx%lld, stride %lld, dilation %lld, groups %lld, padding %lld %lld, bias %d, activation %u",
        (long long)x[0], (long long)x[1], (long long)x[2], (long long)w[0], (long long)w[1], (long long)w[2],
        (long long)p.stride, (long long)p.dilation, (long long)p.groups, (long long)p.pad_left, (long long)p.pad_right,
        in[2] >= 0, p.activation);
}

OPS_CASES(conv1d, {"conv1d", make_conv1d, false});

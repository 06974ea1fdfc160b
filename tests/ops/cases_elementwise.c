/* cases_elementwise.c - functions of rows and reductions over an axis. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int rows_shape(ops_program *g, int64_t *dims, int64_t most) {
    int rank = 1 + ops_batch_axes(g, dims, 2) + (int)ops_between(g, 0, 1);
    if (rank >= 2) dims[rank - 2] = ops_extent(g, 70);
    dims[rank - 1] = ops_extent(g, most);
    return rank;
}

static void make_norm(ops_program *g, int index) {
    int64_t dims[4], groups = index % 3 ? 1 : ops_between(g, 2, 6);
    int rank = rows_shape(g, dims, groups > 1 ? 150 : 1100), optional = (int)ops_between(g, 0, 3);
    dims[rank - 1] *= groups;
    strand_op_norm p = {(uint32_t)(index / 3 % 3), (uint32_t)(index / 9 % 3), groups, 1e-5f,
                        optional & 1 && index & 1 ? 1.0f : 0.0f};
    if (ops_between(g, 0, 5) == 0) p.eps = 0.5f;
    if (dims[rank - 1] / groups < 3 && p.kind == STRAND_NORM_LAYER) p.eps = 0.1f; /* the variance of one is 0 */
    int in[3] = {ops_add(g, F32, rank, dims, OPS_NORMAL), -1, -1};
    if (optional & 1) in[1] = ops_vector(g, dims[rank - 1]);
    if (optional & 2) in[2] = ops_vector(g, dims[rank - 1]);
    ops_add_node(g, STRAND_OP_NORM, &p, sizeof p, 3, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("kind %u, eps rule %u, %lld rows of %lld in %lld groups, weight %d, bias %d", p.kind, p.eps_rule,
        (long long)ops_product(rank - 1, dims), (long long)dims[rank - 1], (long long)groups, optional & 1, optional >> 1);
}

static void make_glu(ops_program *g, int index) {
    static const uint32_t activations[] = {STRAND_UNARY_SIGMOID, STRAND_UNARY_SILU, STRAND_UNARY_GELU, STRAND_UNARY_IDENTITY};
    int64_t dims[4];
    int rank = rows_shape(g, dims, 1500);
    strand_op_glu p = {activations[index % 4], (uint32_t)index / 4 & 1, (uint32_t)index / 8 & 1, 0, 0};
    if (ops_between(g, 0, 3) == 0) p.activation = (uint32_t)ops_between(g, STRAND_UNARY_RELU, STRAND_UNARY_LEAKY_RELU);
    ops_function_parameters(g, p.activation, &p.alpha, &p.beta);
    int out = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    dims[rank - 1] *= 2;
    int x = ops_add(g, F32, rank, dims, OPS_NORMAL);
    ops_add_node(g, STRAND_OP_GLU, &p, sizeof p, 1, &x, out);
    SAY("activation %u, second %u, interleaved %u, %lld rows of %lld", p.activation, p.gate_second, p.interleaved,
        (long long)ops_product(rank - 1, dims), (long long)dims[rank - 1]);
}

static void make_softmax(ops_program *g, int index) {
    int64_t dims[4];
    int rank = rows_shape(g, dims, 3000);
    strand_op_softmax p = {(uint32_t)index & 1};
    if (index < 70) dims[rank - 1] = ops_length(g, index / 2);
    int x = ops_add(g, F32, rank, dims, ops_between(g, 0, 1) ? OPS_NORMAL : OPS_WIDE),
        out = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    float special[2] = {-INFINITY, NAN};
    int64_t n = ops_product(rank, dims);
    for (int i = 0; i < 2 && ops_between(g, 0, 2) == 0; i++)
        memcpy(g->tensors[x].start + ops_place(&g->tensors[x], &g->tensors[x].view, ops_between(g, 0, n - 1)), &special[i], 4);
    ops_add_node(g, STRAND_OP_SOFTMAX, &p, sizeof p, 1, &x, out);
    SAY("log %u, %lld rows of %lld", p.log, (long long)(n / dims[rank - 1]), (long long)dims[rank - 1]);
}

static float coarse(float x) {
    return roundf(2 * x) / 2;
}

static int add_lengths(ops_program *g, int64_t batch, int64_t most) {
    uint32_t type = ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32;
    int lengths = ops_add_ids(g, type, 1, &batch, most);
    for (int64_t b = 0; b < batch; b++) { /* from 1 on */
        unsigned char *at = g->tensors[lengths].start + ops_place(&g->tensors[lengths], &g->tensors[lengths].view, b);
        int64_t id = 0;
        memcpy(&id, at, type == STRAND_PLUGIN_I64 ? 8 : 4);
        id++;
        memcpy(at, &id, type == STRAND_PLUGIN_I64 ? 8 : 4);
    }
    return lengths;
}

static void make_reduce_axis(ops_program *g, int index) {
    int64_t dims[4] = {ops_between(g, 1, 5), ops_between(g, 1, 9), ops_extent(g, 70), ops_extent(g, 150)}, out_dims[4];
    int rank = (int)ops_between(g, 1, 4), axis = (int)ops_between(g, 0, rank - 1), out_rank = rank;
    bool with_lengths = rank > 1 && ops_between(g, 0, 3) == 0;
    if (with_lengths) axis = 1;
    dims[axis] = ops_length(g, index / 2);
    while (ops_product(rank, dims) > 300000) {
        int largest = 0;
        for (int i = 1; i < rank; i++) largest = dims[i] > dims[largest] ? i : largest;
        dims[largest] = (dims[largest] + 1) / 2;
    }
    strand_op_reduce_axis p = {(uint32_t)(index % (STRAND_AXIS_LAST + 1)), ops_between(g, 0, 1) ? axis : axis - rank,
                               (uint32_t)ops_between(g, 0, 1), 0, 0};
    if (!with_lengths && ops_between(g, 0, 2) == 0)
        p.window = ops_between(g, 1, ops_between(g, 0, 1) ? dims[axis] : 1 + dims[axis] / 3);
    if (rank == 1 && !p.window) p.keep = 1;
    memcpy(out_dims, dims, sizeof dims);
    if (p.window) {
        out_dims[axis] = dims[axis] / p.window;
    } else if (p.keep) {
        out_dims[axis] = 1;
    } else {
        for (int i = axis; i + 1 < rank; i++) out_dims[i] = dims[i + 1];
        out_rank--;
    }
    int in[2] = {ops_add(g, F32, rank, dims, OPS_NORMAL), with_lengths ? add_lengths(g, dims[0], dims[1]) : -1};
    if (p.kind == STRAND_AXIS_ARGMAX) ops_map(g, in[0], coarse); /* with equals */
    if (p.kind <= STRAND_AXIS_MEAN && ops_product(out_rank, out_dims) < 50) g->slack = 20; /* a sum may be near nothing */
    float nan = NAN;
    if (ops_between(g, 0, 3) == 0)
        memcpy(g->tensors[in[0]].start +
                   ops_place(&g->tensors[in[0]], &g->tensors[in[0]].view, ops_between(g, 0, ops_product(rank, dims) - 1)),
               &nan, 4);
    ops_add_node(g, STRAND_OP_REDUCE_AXIS, &p, sizeof p, 2, in,
                 ops_add(g, p.kind == STRAND_AXIS_ARGMAX ? STRAND_PLUGIN_I64 : F32, out_rank, out_dims, OPS_OUTPUT));
    SAY("kind %u over axis %d of %d (%lld elements of %lld), window %lld, keep %u, lengths %d", p.kind, p.axis, rank,
        (long long)dims[axis], (long long)ops_product(rank, dims), (long long)p.window, p.keep, with_lengths);
}

OPS_CASES(elementwise,
    {"norm", make_norm, false},
    {"glu", make_glu, false},
    {"softmax", make_softmax, false},
    {"reduce_axis", make_reduce_axis, false});

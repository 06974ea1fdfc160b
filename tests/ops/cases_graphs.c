/* cases_graphs.c - operators on graphs: few nodes, many graphs, widths around vectors, isolated nodes, lists that are empty.
 * Random similarities never tie, except where rows are equal or zero: those ties are meant. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int64_t some_nodes(ops_program *g, int index) {
    static const int64_t corners[] = {19, 1, 2, 12, 16, 17, 3, 33, 64, 15, 32, 5, 8, 4, 65};
    int n = (int)(sizeof corners / sizeof *corners);
    return index < n ? corners[index] : ops_between(g, 1, 40);
}

static void set(ops_program *g, int tensor, int64_t i, float value) {
    memcpy(g->tensors[tensor].start + ops_place(&g->tensors[tensor], &g->tensors[tensor].view, i), &value, sizeof value);
}

static float value_of(const ops_program *g, int tensor, int64_t i) {
    float value;
    memcpy(&value, g->tensors[tensor].start + ops_place(&g->tensors[tensor], &g->tensors[tensor].view, i), sizeof value);
    return value;
}

/* Graphs of which about `part` of a hundred entries are not 0; signed, or not negative. */
static int some_adjacency(ops_program *g, int64_t b, int64_t n, int64_t part, bool has_negative) {
    int64_t dims[3] = {b, n, n};
    int a = ops_add(g, F32, 3, dims, OPS_NORMAL);
    for (int64_t i = 0; i < b * n * n; i++) {
        float x = value_of(g, a, i);
        set(g, a, i, ops_between(g, 0, 99) >= part ? 0.0f : has_negative ? x : fabsf(x));
    }
    return a;
}

static void make_knn_adjacency(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), x[4] = {ops_between(g, 1, 4), n, ops_extent(g, 260)}, out[3] = {x[0], n, n};
    strand_op_knn_adjacency p = {.k = ops_between(g, 1, ops_between(g, 0, 3) ? 4 : n + 2),
                                 .flags = (uint32_t)ops_between(g, 0, 31)};
    int rank = ops_between(g, 0, 2) ? 3 : 4; /* the features of a node in one run, or in several */
    if (x[2] < 3) x[2] += 3;                 /* in one or two dimensions directions coincide */
    int64_t features = x[2];
    if (rank == 4) {
        x[3] = x[2];
        x[2] = ops_between(g, 1, 5);
        features = x[2] * x[3];
    }
    int in = ops_add(g, F32, rank, x, OPS_NORMAL);
    for (int64_t f = 0; f < features && n > 3; f++) { /* a zero row, and two equal ones */
        set(g, in, f, 0.0f);
        set(g, in, 3 * features + f, value_of(g, in, features + f));
    }
    ops_add_node(g, STRAND_OP_KNN_ADJACENCY, &p, sizeof p, 1, &in, ops_add(g, F32, 3, out, OPS_OUTPUT));
    SAY("%lld graphs of %lld nodes, %lld features in runs of %lld, k %lld, flags %u", (long long)x[0], (long long)n,
        (long long)features, (long long)x[rank - 1], (long long)p.k, p.flags);
}

static void make_softmax_adjacency(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), x[3] = {ops_between(g, 1, 4), n, ops_extent(g, 150)}, out[3] = {x[0], n, n};
    strand_op_softmax_adjacency p = {.scale = (float)(1 / sqrt((double)x[2])), .symmetric = (uint32_t)ops_between(g, 0, 1)};
    if (ops_between(g, 0, 4) == 0) p.scale = -2;
    int in[2] = {ops_add(g, F32, 3, x, OPS_NORMAL), ops_add(g, F32, 3, x, OPS_NORMAL)};
    ops_add_node(g, STRAND_OP_SOFTMAX_ADJACENCY, &p, sizeof p, 2, in, ops_add(g, F32, 3, out, OPS_OUTPUT));
    if (p.scale < -1) g->slack = 4 + (double)x[2] / 4; /* the error of a score is that of the softmax */
    SAY("%lld graphs of %lld nodes, width %lld, scale %g, symmetric %u", (long long)x[0], (long long)n, (long long)x[2],
        (double)p.scale, p.symmetric);
}

static void make_prune_adjacency(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), b = ops_between(g, 1, 4), out[3] = {b, n, n};
    strand_op_prune_adjacency p = {.mode = (uint32_t)(index % 3), .loops = (uint32_t)ops_between(g, 0, 2)};
    static const float fractions[] = {0.1f, 0.02f, 0, 1, 0.5f};
    p.value = p.mode == STRAND_PRUNE_ABOVE          ? 0.1f
              : p.mode == STRAND_PRUNE_TOP_FRACTION ? fractions[ops_between(g, 0, 4)]
                                                    : (float)ops_between(g, 0, n + 1);
    int in = some_adjacency(g, b, n, ops_between(g, 0, 1) ? 100 : 40, ops_between(g, 0, 1));
    ops_add_node(g, STRAND_OP_PRUNE_ADJACENCY, &p, sizeof p, 1, &in, ops_add(g, F32, 3, out, OPS_OUTPUT));
    SAY("%lld graphs of %lld nodes, mode %u, value %g, loops %u", (long long)b, (long long)n, p.mode, (double)p.value, p.loops);
}

static void make_graph_supports(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), b = ops_between(g, 1, 3);
    strand_op_graph_supports p = {.kind = (uint32_t)(index % 3), .lambda_max = ops_between(g, 0, 1) ? 0 : 0.79056f};
    int64_t out[4] = {b, p.kind == STRAND_SUPPORTS_DUAL_RANDOM_WALK ? 2 : 1, n, n};
    int in = some_adjacency(g, b, n, ops_between(g, 0, 2) * 45 + 5, false);
    ops_add_node(g, STRAND_OP_GRAPH_SUPPORTS, &p, sizeof p, 1, &in, ops_add(g, F32, 4, out, OPS_OUTPUT));
    SAY("%lld graphs of %lld nodes, kind %u, lambda %g", (long long)b, (long long)n, p.kind, (double)p.lambda_max);
}

static void make_diffusion(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), dims[4], count = ops_between(g, 1, 3), s[4];
    strand_op_diffusion p = {.steps = ops_between(g, 1, 3), .flags = (uint32_t)ops_between(g, 0, 1)};
    int rank = 2 + ops_batch_axes(g, dims, 2), s_rank = rank > 2 && ops_between(g, 0, 1) ? 4 : 3;
    dims[rank - 2] = n;
    dims[rank - 1] = ops_extent(g, 170);
    while (ops_product(rank, dims) * n * count * p.steps > 3000000) dims[rank - 1] = (dims[rank - 1] + 1) / 2;
    s[0] = dims[0];
    s[s_rank - 3] = count;
    s[s_rank - 2] = s[s_rank - 1] = n;
    int in[2] = {ops_add(g, F32, rank, dims, OPS_NORMAL), ops_add(g, F32, s_rank, s, OPS_NORMAL)};
    for (int64_t i = 0; i < ops_product(s_rank, s); i++) set(g, in[1], i, value_of(g, in[1], i) / (float)n);
    int64_t features = dims[rank - 1];
    dims[rank - 1] *= 1 + count * p.steps;
    ops_add_node(g, STRAND_OP_DIFFUSION, &p, sizeof p, 2, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%d axes, %lld nodes, %lld features, %lld supports of rank %d, %lld steps, flags %u", rank, (long long)n,
        (long long)features, (long long)count, s_rank, (long long)p.steps, p.flags);
}

static int32_t *id_at(ops_program *g, int tensor, int64_t i) {
    return (int32_t *)(void *)(g->tensors[tensor].start + ops_place(&g->tensors[tensor], &g->tensors[tensor].view, i));
}

static void make_spmm(ops_program *g, int index) {
    int64_t dims[4], n = some_nodes(g, index), nodes = some_nodes(g, index + 3),
                     entries = ops_between(g, 0, 3) ? ops_between(g, 1, 5 * n) : 1, pointers = n + 1;
    int rank = 2 + ops_batch_axes(g, dims, 2);
    dims[rank - 2] = nodes;
    dims[rank - 1] = ops_extent(g, 170);
    int in[4] = {ops_add_ids(g, STRAND_PLUGIN_I32, 1, &pointers, 1), ops_add_ids(g, STRAND_PLUGIN_I32, 1, &entries, nodes),
                 ops_between(g, 0, 1) ? ops_vector(g, entries) : -1, ops_add(g, F32, rank, dims, OPS_NORMAL)};
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) { /* the last entries may belong to no row */
        *id_at(g, in[0], i) = (int32_t)at;
        at += ops_between(g, 0, 2) ? ops_between(g, 0, (entries - at) < 9 ? entries - at : 9) : 0;
    }
    *id_at(g, in[0], n) = (int32_t)at;
    dims[rank - 2] = n;
    ops_add_node(g, STRAND_OP_SPMM, NULL, 0, 4, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld rows of %lld nodes, %lld entries, %lld used, width %lld, values %d", (long long)n, (long long)nodes,
        (long long)entries, (long long)at, (long long)dims[rank - 1], in[2] >= 0);
}

static void make_segment_reduce(ops_program *g, int index) {
    int64_t dims[4], entries = ops_between(g, 1, 150);
    strand_op_segment_reduce p = {.kind = (uint32_t)(index % 3), .n = some_nodes(g, index)};
    int rank = 2 + ops_batch_axes(g, dims, 2);
    dims[rank - 2] = entries;
    dims[rank - 1] = ops_extent(g, 170);
    int in[2] = {ops_add(g, F32, rank, dims, OPS_NORMAL),
                 ops_add_ids(g, ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32, 1, &entries, p.n)};
    dims[rank - 2] = p.n;
    ops_add_node(g, STRAND_OP_SEGMENT_REDUCE, &p, sizeof p, 2, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("kind %u, %lld entries in %lld segments, width %lld", p.kind, (long long)entries, (long long)p.n,
        (long long)dims[rank - 1]);
}

static void make_gine(ops_program *g, int index) {
    int64_t n = some_nodes(g, index), b = ops_between(g, 1, 4), x[3] = {b, n, ops_extent(g, 170)};
    strand_op_gine p = {.eps = ops_between(g, 0, 1) ? 0 : 0.3f};
    int in[4] = {ops_add(g, F32, 3, x, OPS_NORMAL), some_adjacency(g, b, n, 30, true), ops_vector(g, x[2]),
                 ops_vector(g, x[2])};
    ops_add_node(g, STRAND_OP_GINE, &p, sizeof p, 4, in, ops_add(g, F32, 3, x, OPS_OUTPUT));
    SAY("%lld graphs of %lld nodes, %lld features, eps %g", (long long)b, (long long)n, (long long)x[2], (double)p.eps);
}

OPS_CASES(graphs,
    {"knn_adjacency", make_knn_adjacency, false},
    {"softmax_adjacency", make_softmax_adjacency, false},
    {"prune_adjacency", make_prune_adjacency, false},
    {"graph_supports", make_graph_supports, false},
    {"diffusion", make_diffusion, false},
    {"spmm", make_spmm, false},
    {"segment_reduce", make_segment_reduce, false},
    {"gine", make_gine, false});

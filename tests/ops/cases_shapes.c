/* cases_shapes.c - operators that move elements, of every type of fixed size. */
#include "ops_cases.h"

#include <stdio.h>
#include <string.h>

static uint32_t any_type(ops_program *g) {
    static const uint32_t types[] = {STRAND_PLUGIN_F32, STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16, STRAND_PLUGIN_I32,
                                     STRAND_PLUGIN_I64};
    return types[ops_between(g, 0, 7) > 4 ? 0 : ops_between(g, 0, 4)];
}

static bool whole_number(uint32_t type) {
    return type == STRAND_PLUGIN_I32 || type == STRAND_PLUGIN_I64;
}

static int add_any(ops_program *g, uint32_t type, int rank, const int64_t *dims) {
    return whole_number(type) ? ops_add_ids(g, type, rank, dims, 1000000) : ops_add(g, type, rank, dims, OPS_NORMAL);
}

/* Up to four axes, some of them long, of at most `most` elements. */
static int any_shape(ops_program *g, int64_t *dims, int64_t most) {
    int rank = (int)ops_between(g, 1, 4);
    for (int i = 0; i < rank; i++) dims[i] = ops_extent(g, ops_between(g, 0, 2) ? 9 : 200);
    while (ops_product(rank, dims) > most) {
        int largest = 0;
        for (int i = 1; i < rank; i++) largest = dims[i] > dims[largest] ? i : largest;
        dims[largest] = (dims[largest] + 1) / 2;
    }
    return rank;
}

static const char *dims_text(char *text, size_t n, int rank, const int64_t *dims) {
    size_t at = 0;
    for (int i = 0; i < rank; i++) at += (size_t)snprintf(text + at, n - at, "%s%lld", i ? "x" : "", (long long)dims[i]);
    return text;
}

/* Axes are merged, or split into two factors, at random; now and then nothing changes. */
static void make_reshape(ops_program *g, int index) {
    int64_t dims[4], to[4];
    int rank = any_shape(g, dims, 60000), to_rank = rank;
    uint32_t type = any_type(g);
    memcpy(to, dims, sizeof dims);
    for (int round = (int)ops_between(g, index % 5 ? 1 : 0, 3); round > 0; round--) {
        int at = (int)ops_between(g, 0, to_rank - 1);
        if (to_rank > 1 && ops_between(g, 0, 1)) {
            at = at < to_rank - 1 ? at : at - 1;
            to[at] *= to[at + 1];
            for (int i = at + 1; i + 1 < to_rank; i++) to[i] = to[i + 1];
            to_rank--;
        } else if (to_rank < 4) {
            int64_t factor = ops_between(g, 1, 6);
            while (to[at] % factor) factor--;
            for (int i = to_rank++; i > at; i--) to[i] = to[i - 1];
            to[at] = factor;
            to[at + 1] /= factor;
        }
    }
    char a[80], b[80];
    int x = add_any(g, type, rank, dims);
    ops_add_node(g, STRAND_OP_RESHAPE, NULL, 0, 1, &x, ops_add(g, type, to_rank, to, OPS_OUTPUT));
    SAY("%s to %s of type %u", dims_text(a, sizeof a, rank, dims), dims_text(b, sizeof b, to_rank, to), type);
}

static void make_concat(ops_program *g, int index) {
    int64_t dims[4], sum = 0;
    int rank = any_shape(g, dims, 8000), axis = (int)ops_between(g, 0, rank - 1), n = 1 + index % 10, in[10];
    uint32_t type = any_type(g);
    strand_op_concat p = {ops_between(g, 0, 1) ? axis : axis - rank, 0};
    for (int i = 0; i < n; i++) {
        dims[axis] = ops_extent(g, ops_between(g, 0, 1) ? 4 : 70);
        sum += dims[axis];
        in[i] = add_any(g, type, rank, dims);
    }
    dims[axis] = sum;
    char text[80];
    ops_add_node(g, STRAND_OP_CONCAT, &p, sizeof p, (uint32_t)n, in, ops_add(g, type, rank, dims, OPS_OUTPUT));
    SAY("%d of type %u along %d to %s", n, type, axis, dims_text(text, sizeof text, rank, dims));
}

static void make_slice(ops_program *g, int index) {
    int64_t dims[4];
    int rank = any_shape(g, dims, 60000), axis = (int)ops_between(g, 0, rank - 1);
    uint32_t type = any_type(g);
    int64_t n = dims[axis];
    strand_op_slice p = {.axis = ops_between(g, 0, 1) ? axis : axis - rank, .step = 1};
    int x = add_any(g, type, rank, dims);
    if (index % 5 == 1) p.begin = -1, p.step = -1;
    if (index % 5 > 1) {
        int64_t begin = ops_between(g, 0, n - 1), step = ops_between(g, 1, 3) * (ops_between(g, 0, 1) ? 1 : -1);
        int64_t most = step > 0 ? (n - 1 - begin) / step + 1 : begin / -step + 1;
        p.begin = ops_between(g, 0, 1) ? begin : begin - n;
        p.step = step;
        p.count = ops_between(g, 0, 2) ? ops_between(g, 1, most) : 0;
        dims[axis] = p.count ? p.count : most;
    }
    ops_add_node(g, STRAND_OP_SLICE, &p, sizeof p, 1, &x, ops_add(g, type, rank, dims, OPS_OUTPUT));
    SAY("%lld from %lld by %lld of %lld, axis %d of %d, type %u", (long long)p.count, (long long)p.begin, (long long)p.step,
        (long long)n, axis, rank, type);
}

static void make_permute(ops_program *g, int index) {
    int64_t dims[4], to[4];
    int rank = any_shape(g, dims, 60000);
    uint32_t type = any_type(g);
    strand_op_permute p = {{0, 1, 2, 3}};
    (void)index;
    for (int i = rank - 1; i > 0; i--) {
        int k = (int)ops_between(g, 0, i);
        uint32_t axis = p.axes[i];
        p.axes[i] = p.axes[k];
        p.axes[k] = axis;
    }
    for (int i = 0; i < rank; i++) to[i] = dims[p.axes[i]];
    int x = add_any(g, type, rank, dims);
    char text[80];
    ops_add_node(g, STRAND_OP_PERMUTE, &p, sizeof p, 1, &x, ops_add(g, type, rank, to, OPS_OUTPUT));
    SAY("%s of type %u, axes %u %u %u %u", dims_text(text, sizeof text, rank, dims), type, p.axes[0], p.axes[1], p.axes[2],
        p.axes[3]);
}

static void make_pad(ops_program *g, int index) {
    int64_t dims[4];
    int rank = any_shape(g, dims, 30000), axis = (int)ops_between(g, 0, rank - 1);
    uint32_t type = any_type(g);
    strand_op_pad p = {.axis = ops_between(g, 0, 1) ? axis : axis - rank, .mode = (uint32_t)(index % 3)};
    int64_t most = p.mode == STRAND_PAD_REFLECT ? dims[axis] - 1 : 20;
    p.before = ops_between(g, 0, most < 20 ? most : 20);
    p.after = ops_between(g, 0, most < 20 ? most : 20);
    if (!whole_number(type)) p.value = (float)ops_between(g, -8, 8) / 4;
    int x = add_any(g, type, rank, dims);
    char text[80];
    dims_text(text, sizeof text, rank, dims);
    dims[axis] += p.before + p.after;
    ops_add_node(g, STRAND_OP_PAD, &p, sizeof p, 1, &x, ops_add(g, type, rank, dims, OPS_OUTPUT));
    SAY("%s of type %u, mode %u, axis %d by %lld and %lld, value %g", text, type, p.mode, axis, (long long)p.before,
        (long long)p.after, (double)p.value);
}

static void make_repeat(ops_program *g, int index) {
    int64_t dims[4];
    int rank = any_shape(g, dims, 10000), axis = (int)ops_between(g, 0, rank - 1);
    uint32_t type = any_type(g);
    strand_op_repeat p = {ops_between(g, 0, 1) ? axis : axis - rank, (uint32_t)index & 1, ops_between(g, 1, 7)};
    int x = add_any(g, type, rank, dims);
    char text[80];
    dims_text(text, sizeof text, rank, dims);
    dims[axis] *= p.times;
    ops_add_node(g, STRAND_OP_REPEAT, &p, sizeof p, 1, &x, ops_add(g, type, rank, dims, OPS_OUTPUT));
    SAY("%s of type %u, axis %d %lld times, interleaved %u", text, type, axis, (long long)p.times, p.interleave);
}

OPS_CASES(shapes,
    {"reshape", make_reshape, false},
    {"concat", make_concat, false},
    {"slice", make_slice, false},
    {"permute", make_permute, false},
    {"pad", make_pad, false},
    {"repeat", make_repeat, false});

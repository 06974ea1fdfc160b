/* cases_first.c - the first operators and groups of them. Sizes are bounded by what the reference, which is slow on purpose,
 * can do in a moment. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Halves below 2^-14, which a device must not read as 0. */
static void make_tiny_halves(ops_program *g, int tensor) {
    const ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        unsigned char *at = t->start + ops_place(t, &t->view, i);
        memcpy(&half, at, 2);
        half &= 0x83ff;
        memcpy(at, &half, 2);
    }
}

static void make_gather(ops_program *g, int index) {
    int64_t dims[4], rows = ops_extent(g, 100), d = ops_extent(g, 600), table_dims[2] = {rows, d};
    int rank = 1 + ops_batch_axes(g, dims, 2);
    dims[rank - 1] = ops_extent(g, 200);
    dims[rank] = d;
    uint32_t type = ops_any_float(g), id = ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32;
    int table = ops_add(g, type, 2, table_dims, OPS_NORMAL), ids = ops_add_ids(g, id, rank, dims, rows);
    int in[2] = {table, ids}, out = ops_add(g, F32, rank + 1, dims, OPS_OUTPUT);
    if (type == STRAND_PLUGIN_F16 && index % 2) make_tiny_halves(g, table);
    ops_add_node(g, STRAND_OP_GATHER, NULL, 0, 2, in, out);
    SAY("table %lldx%lld of type %u, %lld ids", (long long)rows, (long long)d, type, (long long)ops_product(rank, dims));
}

typedef struct matmul_case {
    int64_t batch[4];
    int n_batch;
    int64_t m, n, k;
    strand_op_matmul p;
    bool shared_a, shared_b;
    uint32_t type_a, type_b;
} matmul_case;

static int matrix(ops_program *g, const matmul_case *c, bool shared, uint32_t type, bool transposed, int64_t rows,
                  int64_t columns) {
    int64_t dims[4];
    int rank = shared ? 0 : c->n_batch;
    for (int i = 0; i < rank; i++) dims[i] = c->batch[i];
    dims[rank] = transposed ? columns : rows;
    dims[rank + 1] = transposed ? rows : columns;
    return ops_add(g, type, rank + 2, dims, OPS_NORMAL);
}

static bool of_positive(uint32_t kind) {
    return kind == STRAND_UNARY_LOG || kind == STRAND_UNARY_SQRT || kind == STRAND_UNARY_RSQRT ||
           kind == STRAND_UNARY_RECIPROCAL || kind == STRAND_UNARY_LOG1P;
}

static bool grows_fast(uint32_t kind) {
    return kind == STRAND_UNARY_EXP || kind == STRAND_UNARY_EXPM1;
}

/* Functions whose values stay small while their argument, and its error, grows. */
static bool bounded(uint32_t kind) {
    return (kind >= STRAND_UNARY_SIGMOID && kind <= STRAND_UNARY_TANH) || kind == STRAND_UNARY_COS ||
           kind == STRAND_UNARY_CLAMP || kind == STRAND_UNARY_SOFTCAP || kind == STRAND_UNARY_ERF ||
           kind == STRAND_UNARY_LAPLACE || grows_fast(kind);
}

static float to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, 4);
    return x;
}

/* Precision BF16: mostly with factors that lose nothing, so that errors of the sums show. */
static void make_bf16(ops_program *g, matmul_case *c, int a, int b) {
    bool exact = ops_between(g, 0, 3) > 0;
    if (exact && c->type_a == F32) ops_map(g, a, to_bf16);
    if (exact && c->type_b == F32) ops_map(g, b, to_bf16);
    if (!exact || c->type_a == STRAND_PLUGIN_F16 || c->type_b == STRAND_PLUGIN_F16) g->slack *= 500;
}

static void make_matmul(ops_program *g, int index) {
    static const int64_t corners[][3] = {{1, 1, 1},      {1, 5, 64},      {64, 5, 64},    {1, 512, 300}, {5, 1, 700},
                                         {13, 33, 17},   {145, 513, 257}, {12, 32, 256},  {24, 64, 512}, {300, 16, 64},
                                         {2, 600, 1030}, {289, 48, 5},    {1, 100, 2500}, {3, 31, 4099}, {8, 40, 2049},
                                         {9, 70, 33},    {4, 4200, 9},    {16, 500, 60}};
    matmul_case c = {.m = ops_extent(g, 300), .n = ops_extent(g, 600), .k = ops_extent(g, 1100)};
    if (ops_between(g, 0, 2) == 0) c.m = ops_between(g, 1, 9);
    if (index % 3 == 2) c.n = (c.n + 3) / 4 * 4, c.k = (c.k + 3) / 4 * 4; /* rows that kernels may read four elements at a
                                                                             time */
    if (index < (int)(sizeof corners / sizeof *corners))
        c.m = corners[index][0], c.n = corners[index][1], c.k = corners[index][2];
    c.n_batch = ops_batch_axes(g, c.batch, 2);
    while (ops_product(c.n_batch, c.batch) * c.m * c.n * c.k > 20000000)
        c.m = (c.m + 1) / 2, c.n = (c.n + 1) / 2, c.k = (c.k + 1) / 2;
    c.p = (strand_op_matmul){(uint32_t)ops_between(g, 0, 1), (uint32_t)ops_between(g, 0, 1), (uint32_t)ops_between(g, 0, 2),
                             ops_between(g, 0, 1) ? (uint32_t)ops_between(g, 0, STRAND_UNARY_LAST) : 0, 0, 0, 0, 0};
    if (of_positive(c.p.activation)) c.p.activation = STRAND_UNARY_IDENTITY; /* a sum may be 0 */
    ops_function_parameters(g, c.p.activation, &c.p.alpha, &c.p.beta);
    c.p.precision = ops_between(g, 0, 2) == 0 ? STRAND_PRECISION_BF16 : STRAND_PRECISION_F32;
    c.shared_a = ops_between(g, 0, 3) == 0;
    c.shared_b = !c.shared_a && ops_between(g, 0, 1);
    c.type_a = ops_any_float(g);
    c.type_b = ops_any_float(g);
    if (index == 3 || index == 12) { /* a decoding step: one row by halves as they are stored */
        c.p.transpose_a = 0, c.p.transpose_b = 1, c.p.precision = STRAND_PRECISION_F32;
        c.type_a = F32, c.type_b = index == 3 ? STRAND_PLUGIN_F16 : STRAND_PLUGIN_BF16;
    }
    int a = matrix(g, &c, c.shared_a, c.type_a, c.p.transpose_a, c.m, c.k),
        b = matrix(g, &c, c.shared_b, c.type_b, c.p.transpose_b, c.k, c.n);
    int bias = c.p.bias ? ops_vector(g, c.p.bias == STRAND_BIAS_ROWS ? c.m : c.n) : -1;
    int in[3] = {a, b, bias}, out = matrix(g, &c, false, F32, false, c.m, c.n);
    memset(g->tensors[out].start, 0xff, g->tensors[out].bytes);
    ops_add_node(g, STRAND_OP_MATMUL, &c.p, sizeof c.p, c.p.bias ? 3 : 2, in, out);
    if (bounded(c.p.activation)) g->slack = 2 * sqrt((double)(c.k + 1));
    if (c.p.precision == STRAND_PRECISION_BF16) make_bf16(g, &c, a, b);
    SAY("%lldx%lldx%lld, %d batch axes, transposed %u %u, bias %u, activation %u, types %u %u, precision %u", (long long)c.m,
        (long long)c.n, (long long)c.k, c.n_batch, c.p.transpose_a, c.p.transpose_b, c.p.bias, c.p.activation, c.type_a,
        c.type_b, c.p.precision);
}

/* Weights as they are stored, and so few steps that a sum may be one chain: every number of rows that kernels tell apart, and
 * columns and steps that fill no vector. */
static void make_matmul_short(ops_program *g, int index) {
    static const int64_t rows[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 40}, steps[] = {64, 127, 65, 96, 128, 63, 33, 8, 7, 3, 1};
    static const uint32_t types[] = {F32, STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16};
    const int64_t m = rows[index % 10], k = steps[index % 11], n = ops_between(g, 1, 12) * (index % 3 ? 1 : 8) + index % 3 * 33;
    matmul_case c = {.m = m, .n = n, .k = k, .type_b = types[index / 2 % 3]};
    c.p = (strand_op_matmul){.transpose_b = 1, .precision = index % 4 == 3 ? STRAND_PRECISION_BF16 : STRAND_PRECISION_F32};
    c.type_a = c.p.precision ? STRAND_PLUGIN_BF16 : F32;
    int in[2] = {matrix(g, &c, false, c.type_a, false, m, k), matrix(g, &c, false, c.type_b, true, k, n)};
    ops_add_node(g, STRAND_OP_MATMUL, &c.p, sizeof c.p, 2, in, matrix(g, &c, false, F32, false, m, n));
    if (c.type_b == STRAND_PLUGIN_F16 && index % 3 == 2) make_tiny_halves(g, in[1]);
    if (c.p.precision) make_bf16(g, &c, in[0], in[1]);
    SAY("%lldx%lldx%lld, types %u %u, precision %u", (long long)m, (long long)n, (long long)k, c.type_a, c.type_b, c.p.precision);
}

static float tiny(float x) {
    return ldexpf(x, -70);
}

static float huge(float x) {
    return ldexpf(x, 60);
}

static float uneven(float x) { /* some 2^-40 of others */
    return x * x * x * x * x * x * x * x * x;
}

/* Products of halves of more than a few rows, and of F32 by them: for plugins that multiply halves. What is F32 may be far out
 * of the range of halves, and loses nothing unless the case says so. */
static void make_matmul_halves(ops_program *g, int index) {
    static const uint32_t types[][2] = {{F32, STRAND_PLUGIN_F16},  {F32, STRAND_PLUGIN_BF16},
                                        {STRAND_PLUGIN_F16, F32},  {STRAND_PLUGIN_F16, STRAND_PLUGIN_F16},
                                        {F32, F32},                {STRAND_PLUGIN_BF16, STRAND_PLUGIN_F16},
                                        {STRAND_PLUGIN_BF16, F32}};
    static float (*const maps[])(float) = {NULL, tiny, huge, uneven};
    static const int64_t corners[][3] = {{17, 1, 1},   {64, 64, 32},  {65, 63, 33}, {128, 130, 96},
                                         {33, 32, 31}, {100, 7, 700}, {32, 65, 64}};
    matmul_case c = {.m = ops_between(g, 17, 150), .n = ops_between(g, 1, 150), .k = ops_between(g, 1, 300)};
    if (index < (int)(sizeof corners / sizeof *corners))
        c.m = corners[index][0], c.n = corners[index][1], c.k = corners[index][2];
    c.n_batch = ops_batch_axes(g, c.batch, 2);
    while (c.m > 34 && ops_product(c.n_batch, c.batch) * c.m * c.n * c.k > 10000000)
        c.m = (c.m + 1) / 2, c.n = (c.n + 1) / 2, c.k = (c.k + 1) / 2;
    c.type_a = types[index % 7][0], c.type_b = types[index % 7][1];
    c.shared_a = ops_between(g, 0, 3) == 0;
    c.shared_b = !c.shared_a && ops_between(g, 0, 1);
    c.p = (strand_op_matmul){.transpose_a = (uint32_t)ops_between(g, 0, 1), .transpose_b = (uint32_t)ops_between(g, 0, 1)};
    float (*map)(float) = maps[index / 7 % 4];
    if (!map) {
        c.p.bias = (uint32_t)ops_between(g, 0, 2);
        c.p.activation = ops_between(g, 0, 1) ? STRAND_UNARY_GELU : STRAND_UNARY_IDENTITY;
    }
    int a = matrix(g, &c, c.shared_a, c.type_a, c.p.transpose_a, c.m, c.k),
        b = matrix(g, &c, c.shared_b, c.type_b, c.p.transpose_b, c.k, c.n);
    if (map && (c.type_a == F32 || c.type_b == F32)) ops_map(g, c.type_a == F32 ? a : b, map);
    int bias = c.p.bias ? ops_vector(g, c.p.bias == STRAND_BIAS_ROWS ? c.m : c.n) : -1;
    int in[3] = {a, b, bias}, out = matrix(g, &c, false, F32, false, c.m, c.n);
    if (c.type_a == F32 && c.type_b == F32) {
        c.p.precision = STRAND_PRECISION_BF16;
        make_bf16(g, &c, a, b);
    }
    ops_add_node(g, STRAND_OP_MATMUL, &c.p, sizeof c.p, c.p.bias ? 3 : 2, in, out);
    SAY("%lldx%lldx%lld, %d batch axes, transposed %u %u, bias %u, activation %u, types %u %u, precision %u, range %d",
        (long long)c.m, (long long)c.n, (long long)c.k, c.n_batch, c.p.transpose_a, c.p.transpose_b, c.p.bias, c.p.activation,
        c.type_a, c.type_b, c.p.precision, index / 7 % 4);
}

static int rows_shape(ops_program *g, int64_t *dims, int64_t most) {
    int rank = 1 + ops_batch_axes(g, dims, 2) + (int)ops_between(g, 0, 1);
    if (rank >= 2) dims[rank - 2] = ops_extent(g, 70);
    dims[rank - 1] = ops_extent(g, most);
    return rank;
}

static void make_layer_norm(ops_program *g, int index) {
    int64_t dims[4];
    int rank = rows_shape(g, dims, 1100), with_bias = (int)ops_between(g, 0, 1);
    strand_op_layer_norm p = {1e-5f};
    (void)index;
    int x = ops_add(g, F32, rank, dims, OPS_NORMAL), w = ops_vector(g, dims[rank - 1]),
        b = with_bias ? ops_vector(g, dims[rank - 1]) : -1;
    int in[3] = {x, w, b};
    ops_add_node(g, STRAND_OP_LAYER_NORM, &p, sizeof p, with_bias ? 3 : 2, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld rows of %lld, bias %d", (long long)ops_product(rank - 1, dims), (long long)dims[rank - 1], with_bias);
}

/* Away from zero, where reciprocals dwarf everything else. */
static float above(float x) {
    return fabsf(x) + 0.01f;
}

/* Some elements become the ends of arithmetic. */
static void make_special(ops_program *g, int tensor) {
    static const float specials[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, -1.0f, 1e-40f, 0x1p-126f};
    const ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int i = 0; i < 9; i++) memcpy(t->start + ops_place(t, &t->view, ops_between(g, 0, n - 1)), &specials[i], 4);
}

static void make_unary(ops_program *g, int index) {
    int64_t dims[4];
    int rank = rows_shape(g, dims, 5000);
    strand_op_unary p = {(uint32_t)(index % (STRAND_UNARY_LAST + 1)), 0, 0};
    ops_function_parameters(g, p.kind, &p.alpha, &p.beta);
    int x = ops_add(g, F32, rank, dims, grows_fast(p.kind) || ops_between(g, 0, 2) == 0 ? OPS_NORMAL : OPS_WIDE);
    if (of_positive(p.kind)) ops_map(g, x, above);
    if (ops_product(rank, dims) >= 16 && ops_between(g, 0, 1)) make_special(g, x);
    if (p.kind == STRAND_UNARY_AFFINE) g->slack = 30; /* few elements may all cancel */
    ops_add_node(g, STRAND_OP_UNARY, &p, sizeof p, 1, &x, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("function %u (%g, %g) of %lld elements", p.kind, (double)p.alpha, (double)p.beta, (long long)ops_product(rank, dims));
}

static void make_binary(ops_program *g, int index) {
    int64_t dims[4], a_dims[4], b_dims[4];
    int rank = rows_shape(g, dims, 5000), wide = (int)ops_between(g, 0, 2);
    strand_op_binary p = {(uint32_t)(index % (STRAND_BINARY_LAST + 1)), 0, 0, 0};
    if (ops_between(g, 0, 2) == 0) p.activation = (uint32_t)ops_between(g, 1, STRAND_UNARY_LAST);
    ops_function_parameters(g, p.activation, &p.alpha, &p.beta);
    for (int i = 0; i < rank; i++) {
        a_dims[i] = wide != 1 || ops_between(g, 0, 1) ? dims[i] : 1;
        b_dims[i] = wide != 2 || a_dims[i] == 1 || ops_between(g, 0, 1) ? dims[i] : 1;
        if (wide == 1 && a_dims[i] != 1 && ops_between(g, 0, 3) == 0) b_dims[i] = 1; /* one this way, one the other */
    }
    int in[2] = {ops_add(g, F32, rank, a_dims, OPS_NORMAL), ops_add(g, F32, rank, b_dims, OPS_NORMAL)};
    if (of_positive(p.activation)) ops_map(g, in[0], above);
    if (p.kind == STRAND_BINARY_POW && !p.activation) ops_map(g, in[0], above);
    if (p.kind == STRAND_BINARY_DIV) ops_map(g, in[1], above);
    g->slack = p.activation ? 30 : 1; /* a difference may be smaller than what it is of; powers and quotients enlarge errors */
    ops_add_node(g, STRAND_OP_BINARY, &p, sizeof p, 2, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("kind %u of activation %u, %lld elements with %lld", p.kind, p.activation, (long long)ops_product(rank, a_dims),
        (long long)ops_product(rank, b_dims));
}

static void make_short_conv(ops_program *g, int index) {
    static const int64_t widths[] = {3, 4, 1, 2, 5, 7, 16, 17, 40, 70, 200};
    static const uint32_t activations[] = {STRAND_UNARY_IDENTITY, STRAND_UNARY_SILU, STRAND_UNARY_RELU, STRAND_UNARY_GELU};
    int64_t dims[4], kept[4];
    int rank = ops_batch_axes(g, dims, 2) + 2, optional = (int)ops_between(g, 0, 7);
    bool tokens = index & 1;
    int time = rank - (tokens ? 2 : 1), channel = rank - (tokens ? 1 : 2);
    strand_op_short_conv p = {tokens ? STRAND_SHORT_CONV_TOKEN_MAJOR : 0, activations[ops_between(g, 0, 3)]};
    dims[channel] = tokens ? ops_extent(g, 140) : ops_between(g, 1, 9);
    dims[time] = ops_length(g, index / 2);
    while (ops_product(rank, dims) > 100000) dims[time] = (dims[time] + 1) / 2;
    int64_t w_dims[2] = {dims[channel], widths[index / 2 % 11]};
    memcpy(kept, dims, sizeof dims);
    kept[time] = w_dims[1] - 1;
    if (kept[time] == 0) optional &= 1;
    int in[4] = {ops_add(g, F32, rank, dims, OPS_NORMAL), ops_add(g, F32, 2, w_dims, OPS_NORMAL), -1, -1};
    if (optional & 1) in[2] = ops_vector(g, w_dims[0]);
    if (optional & 2) in[3] = ops_add(g, F32, rank, kept, OPS_NORMAL);
    ops_node *node = ops_add_node(g, STRAND_OP_SHORT_CONV, &p, sizeof p, 4, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    if (optional & 4) node->second = ops_add(g, F32, rank, kept, OPS_OUTPUT);
    if (p.activation) g->slack = 4; /* of a few sums none may be positive */
    SAY("%lld channels of %lld, token-major %u, %lld taps, activation %u, bias %d, state %d in, %d out",
        (long long)dims[channel], (long long)dims[time], p.flags, (long long)w_dims[1], p.activation, optional & 1,
        optional >> 1 & 1, optional >> 2);
}

static void make_long_conv(ops_program *g, int index) {
    int64_t dims[4];
    int rank = ops_batch_axes(g, dims, 2) + 2, optional = (int)ops_between(g, 0, 15);
    strand_op_long_conv p = {0};
    dims[rank - 2] = ops_between(g, 1, 4);
    dims[rank - 1] = ops_length(g, index);
    bool longest = index == 35;
    if (longest) {
        rank = 2;
        dims[0] = 1;
        dims[1] = 65537;
    }
    int64_t length = dims[rank - 1], c = dims[rank - 2], f_dims[2] = {c, length + ops_between(g, 0, 30)},
            b_dims[2] = {c, f_dims[1]};
    if (ops_between(g, 0, 3) == 0 || longest) f_dims[1] = ops_between(g, 1, longest ? 1000 : length);
    if (ops_between(g, 0, 3) == 0 || longest) b_dims[1] = ops_between(g, 1, longest ? 1000 : length);
    int in[6] = {ops_add(g, F32, rank, dims, OPS_NORMAL), ops_add(g, F32, 2, f_dims, OPS_NORMAL), -1, -1, -1, -1};
    if (optional & 1) in[2] = ops_vector(g, c);
    if (optional & 2) in[3] = ops_add(g, F32, rank, dims, OPS_NORMAL);
    if (optional & 4) in[4] = ops_add(g, F32, rank, dims, OPS_NORMAL);
    if (optional & 8) {
        in[5] = ops_add(g, F32, 2, b_dims, OPS_NORMAL);
        p.flags = ops_between(g, 0, 1) ? STRAND_LONG_CONV_BACK_FROM_ZERO : 0;
    }
    if (index % 3 == 1) p.flags |= STRAND_LONG_CONV_ROUNDED, g->slack = 1000;
    if (ops_between(g, 0, 1)) {
        g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
        if (in[5] >= 0 && ops_between(g, 0, 3)) g->tensors[in[5]].view.flags = STRAND_TENSOR_CONSTANT;
    }
    ops_add_node(g, STRAND_OP_LONG_CONV, &p, sizeof p, optional & 8 ? 6 : 5, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld channels of %lld, %lld taps, skip %d, pre %d, post %d, back %lld, flags %u, constant %u",
        (long long)ops_product(rank - 1, dims), (long long)length, (long long)f_dims[1], optional & 1, optional >> 1 & 1,
        optional >> 2 & 1, (long long)(optional & 8 ? b_dims[1] : 0), p.flags, g->tensors[in[1]].view.flags);
}

static void make_reduce(ops_program *g, int index) {
    int64_t dims[3] = {ops_between(g, 1, 3), ops_length(g, index), ops_extent(g, 300)}, out_dims[2] = {dims[0], dims[2]};
    while (ops_product(3, dims) > 1000000) dims[1] = (dims[1] + 1) / 2;
    strand_op_reduce p = {(uint32_t)(index % 5), (int32_t)ops_between(g, 0, 5)};
    int in[2] = {ops_add(g, F32, 3, dims, OPS_NORMAL), -1}, with_ids = p.kind == STRAND_REDUCE_BEFORE_TOKEN;
    if (with_ids) in[1] = ops_add_ids(g, ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32, 2, dims, 12);
    ops_add_node(g, STRAND_OP_REDUCE, &p, sizeof p, with_ids ? 2 : 1, in, ops_add(g, F32, 2, out_dims, OPS_OUTPUT));
    SAY("kind %u of %lldx%lldx%lld", p.kind, (long long)dims[0], (long long)dims[1], (long long)dims[2]);
}

static void make_positions(ops_program *g, int index) {
    int64_t n = ops_between(g, 2, 100000), bands = ops_between(g, 1, 5), dims[2] = {ops_length(g, index), 1 + 2 * bands};
    strand_op_positions p = {.n = n, .bands = (uint32_t)bands};
    if (dims[0] > n) p.n = dims[0];
    ops_add_node(g, STRAND_OP_POSITIONS, &p, sizeof p, 0, NULL, ops_add(g, F32, 2, dims, OPS_OUTPUT));
    SAY("%lld of %lld points, %lld bands", (long long)dims[0], (long long)p.n, (long long)bands);
}

static void make_decay_window(ops_program *g, int index) {
    int64_t dims[2] = {ops_between(g, 1, 9), ops_length(g, index)};
    strand_op_decay_window p = {.n = dims[1] + ops_between(g, 1, 3000), .shift = ops_between(g, 0, 1) ? 0.05f : 0.0f};
    int in[2] = {ops_add(g, F32, 2, dims, OPS_NORMAL), ops_add(g, F32, 1, dims, OPS_WIDE)};
    ops_add_node(g, STRAND_OP_DECAY_WINDOW, &p, sizeof p, 2, in, ops_add(g, F32, 2, dims, OPS_OUTPUT));
    SAY("%lldx%lld of %lld", (long long)dims[0], (long long)dims[1], (long long)p.n);
}

static void make_cast(ops_program *g, int index) {
    static const uint32_t types[] = {STRAND_PLUGIN_F32, STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16};
    int64_t dims[4];
    int rank = rows_shape(g, dims, 1000);
    uint32_t from = types[index % 3], to = types[index / 3 % 3];
    int x = ops_add(g, from, rank, dims, OPS_WIDE);
    ops_add_node(g, STRAND_OP_CAST, NULL, 0, 1, &x, ops_add(g, to, rank, dims, OPS_OUTPUT));
    SAY("%lld elements from type %u to %u", (long long)ops_product(rank, dims), from, to);
}

/* ---- groups ---- */

static int unary_node(ops_program *g, uint32_t kind, int x, int rank, const int64_t *dims) {
    strand_op_unary p = {kind};
    int out = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    ops_add_node(g, STRAND_OP_UNARY, &p, sizeof p, 1, &x, out);
    return out;
}

static int binary_node(ops_program *g, uint32_t kind, int a, int b, int rank, const int64_t *dims) {
    strand_op_binary p = {kind};
    int in[2] = {a, b}, out = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    ops_add_node(g, STRAND_OP_BINARY, &p, sizeof p, 2, in, out);
    return out;
}

/* x [..., rows, k] times a shared [n, k] read transposed, plus a bias. */
static int linear_node(ops_program *g, int x, int64_t k, int rank, const int64_t *dims, uint32_t activation) {
    int64_t w_dims[2] = {dims[rank - 1], k};
    strand_op_matmul p = {0, 1, STRAND_BIAS_COLUMNS, activation};
    int in[3] = {x, ops_add(g, ops_any_float(g), 2, w_dims, OPS_NORMAL), ops_vector(g, w_dims[0])},
        out = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, 3, in, out);
    return out;
}

/* A filter's layer: a product, a frequency for each column, a sine. */
static void make_sine_layer(ops_program *g, int index) {
    int64_t dims[2] = {ops_extent(g, 600), 2 + ops_extent(g, 100)}, x_dims[2] = {dims[0], 1 + ops_extent(g, 70)},
            one[2] = {1, dims[1]};
    if (dims[0] == 1) dims[0] = x_dims[0] = 2;
    (void)index;
    int x = ops_add(g, F32, 2, x_dims, OPS_NORMAL), product_out = linear_node(g, x, x_dims[1], 2, dims, 0);
    int scaled = binary_node(g, STRAND_BINARY_MUL, product_out, ops_add(g, F32, 2, one, OPS_WIDE), 2, dims);
    unary_node(g, STRAND_UNARY_SIN, scaled, 2, dims);
    g->slack = 400;
    SAY("%lldx%lldx%lld", (long long)dims[0], (long long)dims[1], (long long)x_dims[1]);
}

static void make_residual(ops_program *g, int index) {
    int64_t dims[3] = {ops_between(g, 1, 3), ops_extent(g, 300), ops_extent(g, 300)},
            x_dims[3] = {dims[0], dims[1], ops_extent(g, 300)};
    int x = ops_add(g, F32, 3, x_dims, OPS_NORMAL), r = ops_add(g, F32, 3, dims, OPS_NORMAL),
        y = linear_node(g, x, x_dims[2], 3, dims, 0);
    binary_node(g, (uint32_t)(index % 3), index & 1 ? r : y, index & 1 ? y : r, 3, dims);
    SAY("%lldx%lldx%lldx%lld, kind %d", (long long)dims[0], (long long)dims[1], (long long)dims[2], (long long)x_dims[2],
        index % 3);
}

static void make_windowed(ops_program *g, int index) {
    int64_t dims[2] = {ops_extent(g, 64), ops_extent(g, 2000)}, w_dims[2] = {dims[0], ops_extent(g, 70)},
            x_dims[2] = {dims[1], w_dims[1]};
    strand_op_matmul p = {0, 1, STRAND_BIAS_NONE, 0};
    strand_op_decay_window d = {.n = dims[1] + 5, .shift = 0.05f};
    int in[2] = {ops_add(g, F32, 2, w_dims, OPS_NORMAL), ops_add(g, F32, 2, x_dims, OPS_NORMAL)},
        k = ops_add(g, F32, 2, dims, OPS_OUTPUT);
    int decay_in[2] = {k, ops_add(g, F32, 1, dims, OPS_WIDE)};
    (void)index;
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, 2, in, k);
    ops_add_node(g, STRAND_OP_DECAY_WINDOW, &d, sizeof d, 2, decay_in, ops_add(g, F32, 2, dims, OPS_OUTPUT));
    SAY("%lldx%lldx%lld", (long long)dims[0], (long long)dims[1], (long long)w_dims[1]);
}

static void make_mlp(ops_program *g, int index) {
    int64_t dims[3] = {ops_between(g, 1, 3), ops_extent(g, 400), ops_extent(g, 130)},
            hidden[3] = {dims[0], dims[1], 4 * dims[2]};
    int x = ops_add(g, F32, 3, dims, OPS_NORMAL), r = ops_add(g, F32, 3, dims, OPS_NORMAL);
    int h = linear_node(g, x, dims[2], 3, hidden, STRAND_UNARY_GELU_TANH), y = linear_node(g, h, hidden[2], 3, dims, 0);
    binary_node(g, STRAND_BINARY_ADD, index & 1 ? y : r, index & 1 ? r : y, 3, dims);
    SAY("%lldx%lldx%lld", (long long)dims[0], (long long)dims[1], (long long)dims[2]);
}

OPS_CASES(first,
    {"gather", make_gather, false},
    {"matmul", make_matmul, false},
    {"matmul_short", make_matmul_short, false},
    {"matmul_halves", make_matmul_halves, false},
    {"layer_norm", make_layer_norm, false},
    {"unary", make_unary, false},
    {"binary", make_binary, false},
    {"short_conv", make_short_conv, false},
    {"long_conv", make_long_conv, false},
    {"reduce", make_reduce, false},
    {"positions", make_positions, false},
    {"decay_window", make_decay_window, false},
    {"cast", make_cast, false},
    {"sine_layer", make_sine_layer, true},
    {"residual", make_residual, true},
    {"windowed", make_windowed, true},
    {"mlp", make_mlp, true});

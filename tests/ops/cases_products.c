/* cases_products.c - products with quantised weights, look-ups and casts of them; block-diagonal and grouped products; TOP_K;
 * products of halves by what they hardly hold.
 *
 * A backend may round the rows of `a` to Q8 blocks of 32. So most cases have rows that such blocks hold exactly, and the
 * row's own tolerance judges them; the others are rounded, and allow for it. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const uint32_t quantised[] = {STRAND_PLUGIN_Q8_0, STRAND_PLUGIN_Q4_0, STRAND_PLUGIN_Q4_K, STRAND_PLUGIN_Q6_K,
                                     STRAND_PLUGIN_Q4_1, STRAND_PLUGIN_Q5_0, STRAND_PLUGIN_Q5_1, STRAND_PLUGIN_Q5_K};

#define N_QUANTISED ((int)(sizeof quantised / sizeof quantised[0]))

#define ROUNDED_SLACK 1000 /* 2e-2 of the largest value: what Q8 rows make of sums of a few dozen terms or more */

static void put_float(unsigned char *at, uint32_t dtype, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == STRAND_PLUGIN_F16)
        half = x == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 0x3ff));
    memcpy(at, dtype == F32 ? (void *)&x : (void *)&half, dtype == F32 ? 4 : 2);
}

/* Numbers that Q8 blocks of 32 along the last axis hold exactly: multiples of a power of two of which the largest is 127. */
static int exact_rows(ops_program *g, uint32_t dtype, int rank, const int64_t *dims) {
    int index = ops_add(g, dtype, rank, dims, OPS_OUTPUT);
    ops_tensor *t = &g->tensors[index];
    int64_t n = ops_count(&t->view), peak = 0;
    float step = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % dims[rank - 1] % 32 == 0) {
            step = (float)ops_between(g, 0, 1) / 64 + 1 / 64.0f;
            peak = i + ops_between(g, 0, 31);
        }
        int64_t q = ops_between(g, -126, 126);
        if (i == peak) q = q < 0 ? -127 : 127;
        put_float(t->start + ops_place(t, &t->view, i), dtype, (float)q * step);
    }
    return index;
}

static void make_matmul_quantised(ops_program *g, int index) {
    static const int64_t corners[][3] = {{1, 1, 1},   {1, 33, 2},  {2, 17, 1},   {3, 40, 3},  {4, 64, 2},  {5, 31, 1},
                                         {6, 32, 2},  {7, 65, 1},  {13, 100, 2}, {1, 300, 9}, {70, 20, 4}, {9, 16, 10},
                                         {1, 50, 2},  {1, 9, 1},   {1, 21, 3},   {1, 33, 1},  {1, 90, 5},  {1, 130, 3},
                                         {1, 45, 4},  {1, 77, 2}};
    int64_t a_dims[4], b_dims[4], dims[4], m = ops_extent(g, 40), n = ops_extent(g, 150), units = ops_between(g, 1, 6);
    uint32_t type = quantised[index % N_QUANTISED], a_type = ops_any_float(g);
    if (index < (int)(sizeof corners / sizeof *corners))
        m = corners[index][0], n = corners[index][1], units = corners[index][2];
    int64_t k = units * (ops_block(type) == 32 && ops_between(g, 0, 3) ? 32 : 256);
    int batch = ops_batch_axes(g, dims, 2);
    bool shared_a = ops_between(g, 0, 4) == 0, shared_b = !shared_a && ops_between(g, 0, 3) > 0,
         exact = ops_between(g, 0, 3) > 0 || m * n < 200;
    if (!shared_b) n = n > 40 ? 40 : n;
    int a_batch = shared_a ? 0 : batch, b_batch = shared_b ? 0 : batch;
    for (int i = 0; i < batch; i++) a_dims[i] = b_dims[i] = dims[i];
    a_dims[a_batch] = m, a_dims[a_batch + 1] = k;
    b_dims[b_batch] = n, b_dims[b_batch + 1] = k;
    dims[batch] = m, dims[batch + 1] = n;
    strand_op_matmul p = {
        .transpose_b = 1, .bias = (uint32_t)ops_between(g, 0, 2), .activation = ops_between(g, 0, 2) ? 0 : STRAND_UNARY_RELU};
    int a = exact ? exact_rows(g, a_type, a_batch + 2, a_dims) : ops_add(g, a_type, a_batch + 2, a_dims, OPS_NORMAL);
    int b = ops_add(g, type, b_batch + 2, b_dims, OPS_NORMAL);
    int bias = p.bias ? ops_vector(g, p.bias == STRAND_BIAS_ROWS ? m : n) : -1;
    int in[3] = {a, b, bias};
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, p.bias ? 3 : 2, in, ops_add(g, F32, batch + 2, dims, OPS_OUTPUT));
    if (!exact) g->slack = ROUNDED_SLACK;
    SAY("%lldx%lldx%lld, %d batch axes, shared %d %d, bias %u, activation %u, types %u %u, %s", (long long)m, (long long)n,
        (long long)k, batch, shared_a, shared_b, p.bias, p.activation, a_type, type, exact ? "exact" : "rounded");
}

static void make_gather_quantised(ops_program *g, int index) {
    int64_t dims[4], rows = ops_extent(g, 60);
    uint32_t type = quantised[index % N_QUANTISED], id = ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32;
    int64_t d = ops_block(type) * ops_between(g, 1, 4), table_dims[2] = {rows, d};
    int rank = 1 + ops_batch_axes(g, dims, 2);
    dims[rank - 1] = ops_extent(g, 64);
    dims[rank] = d;
    int in[2] = {ops_add(g, type, 2, table_dims, OPS_NORMAL), ops_add_ids(g, id, rank, dims, rows)};
    ops_add_node(g, STRAND_OP_GATHER, NULL, 0, 2, in, ops_add(g, F32, rank + 1, dims, OPS_OUTPUT));
    SAY("table %lldx%lld of type %u, %lld ids", (long long)rows, (long long)d, type, (long long)ops_product(rank, dims));
}

static void make_cast_quantised(ops_program *g, int index) {
    int64_t dims[4];
    uint32_t type = quantised[index % N_QUANTISED];
    int rank = 1 + ops_batch_axes(g, dims, 3);
    if (rank > 1) dims[rank - 2] = ops_extent(g, 40);
    dims[rank - 1] = ops_block(type) * ops_between(g, 1, 3);
    int x = ops_add(g, type, rank, dims, OPS_NORMAL);
    ops_add_node(g, STRAND_OP_CAST, NULL, 0, 1, &x, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld elements of type %u", (long long)ops_product(rank, dims), type);
}

/* Halves of one sign, so many that what a sum of them loses at each step, always towards zero, comes to more than is allowed. */
static void make_matmul_long(ops_program *g, int index) {
    const uint32_t type = index & 1 ? STRAND_PLUGIN_BF16 : STRAND_PLUGIN_F16;
    const int64_t k = 2048 + 8 * index, a_dims[2] = {16 + index, k}, b_dims[2] = {24, k}, dims[2] = {16 + index, 24};
    strand_op_matmul p = {.transpose_b = 1};
    int in[2] = {ops_add(g, index & 2 ? F32 : type, 2, a_dims, OPS_OUTPUT), ops_add(g, type, 2, b_dims, OPS_OUTPUT)};
    for (int side = 0; side < 2; side++) {
        ops_tensor *t = &g->tensors[in[side]];
        for (int64_t i = 0; i < ops_count(&t->view); i++)
            put_float(t->start + ops_place(t, &t->view, i), side == 0 && index & 2 ? F32 : type, (float)ops_between(g, 128, 255) / 256);
    }
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, 2, in, ops_add(g, F32, 2, dims, OPS_OUTPUT));
    SAY("%lldx24x%lld of type %u, first of F32 %d", (long long)dims[0], (long long)k, type, index >> 1 & 1);
}

/* ---- block-diagonal and grouped products, the largest ---- */

static int32_t any_activation(ops_program *g) {
    static const int32_t some[] = {STRAND_UNARY_IDENTITY, STRAND_UNARY_IDENTITY, STRAND_UNARY_RELU, STRAND_UNARY_GELU,
                                   STRAND_UNARY_LEAKY_RELU};
    return some[ops_between(g, 0, 4)];
}

static void make_block_diagonal(ops_program *g, int index) {
    static const int64_t corners[][4] = {{1, 1, 1, 1},    {1, 7, 5, 3},    {4, 1, 9, 2},     {5, 6, 1, 100},
                                         {3, 33, 17, 97}, {2, 65, 130, 1}, {16, 16, 16, 40}, {7, 3, 2, 200}};
    int64_t dims[4], nb = ops_extent(g, 16), ins = ops_extent(g, 70), outs = ops_extent(g, 70), rows = ops_extent(g, 130);
    if (index < (int)(sizeof corners / sizeof *corners))
        nb = corners[index][0], outs = corners[index][1], ins = corners[index][2], rows = corners[index][3];
    int batch = ops_batch_axes(g, dims, 2);
    while (ops_product(batch, dims) * rows * nb * ins * outs > 3000000) rows = (rows + 1) / 2, nb = (nb + 1) / 2;
    strand_op_block_diagonal p = {.flags = (uint32_t)index & 3, .activation = (uint32_t)any_activation(g), .alpha = 0.1f};
    int64_t w_dims[3] = {nb, outs, ins};
    dims[batch] = rows, dims[batch + 1] = nb * ins;
    int rank = batch + 2, with_bias = (int)ops_between(g, 0, 1);
    if (rank == 2 && ops_between(g, 0, 3) == 0) dims[0] = dims[1], rank = 1;
    int in[3] = {ops_add(g, F32, rank, dims, OPS_NORMAL), ops_add(g, F32, 3, w_dims, OPS_NORMAL),
                 with_bias ? ops_vector(g, nb * outs) : -1};
    dims[rank - 1] = nb * outs;
    ops_add_node(g, STRAND_OP_BLOCK_DIAGONAL, &p, sizeof p, with_bias ? 3 : 2, in, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    SAY("%lld rows, %lld blocks of %lldx%lld, flags %u, bias %d, activation %u", (long long)ops_product(rank - 1, dims),
        (long long)nb, (long long)outs, (long long)ins, p.flags, with_bias, p.activation);
}

static void make_grouped_matmul(ops_program *g, int index) {
    static const int64_t corners[][5] = {/* tokens, picks, experts, N, K */ {1, 1, 1, 1, 1},
                                         {1, 4, 8, 33, 64},
                                         {200, 2, 2, 40, 32},
                                         {99, 1, 1, 20, 30},
                                         {7, 3, 40, 70, 17},
                                         {64, 1, 3, 600, 8},
                                         {5, 2, 4, 9, 256}};
    int64_t tokens = ops_extent(g, 64), picks = ops_between(g, 1, 4), experts = ops_extent(g, 12), n = ops_extent(g, 130),
            k = ops_extent(g, 300);
    uint32_t type = ops_between(g, 0, 1) ? quantised[ops_between(g, 0, N_QUANTISED - 1)] : ops_any_float(g),
             id = ops_between(g, 0, 1) ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_I32;
    if (index < (int)(sizeof corners / sizeof *corners)) {
        tokens = corners[index][0], picks = corners[index][1], experts = corners[index][2], n = corners[index][3],
        k = corners[index][4];
        if (!ops_quantised(type) || k % ops_block(type)) type = k % 256 ? F32 : STRAND_PLUGIN_Q4_K;
    }
    int64_t block = ops_block(type);
    k = (k + block - 1) / block * block;
    while (tokens * picks * n * k > 3000000) tokens = (tokens + 1) / 2, n = (n + 1) / 2;
    while (experts * n * k > 3000000) experts = (experts + 1) / 2;
    bool each = ops_between(g, 0, 2) == 0, with_bias = ops_between(g, 0, 1);
    strand_op_grouped_matmul p = {.activation = (uint32_t)any_activation(g), .alpha = 0.1f};
    int64_t x_dims[3] = {tokens, each ? picks : k, k}, w_dims[3] = {experts, n, k}, id_dims[2] = {tokens, picks},
            b_dims[2] = {experts, n}, dims[3] = {tokens, picks, n};
    int x = ops_quantised(type) ? exact_rows(g, F32, each ? 3 : 2, x_dims) : ops_add(g, F32, each ? 3 : 2, x_dims, OPS_NORMAL);
    int in[4] = {x, ops_add(g, type, 3, w_dims, OPS_NORMAL), ops_add_ids(g, id, 2, id_dims, experts),
                 with_bias ? ops_add(g, F32, 2, b_dims, OPS_NORMAL) : -1};
    ops_add_node(g, STRAND_OP_GROUPED_MATMUL, &p, sizeof p, with_bias ? 4 : 3, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    SAY("%lld tokens, %lld picks%s of %lld experts %lldx%lld of type %u, bias %d, activation %u", (long long)tokens,
        (long long)picks, each ? " with their own x" : "", (long long)experts, (long long)n, (long long)k, type, with_bias,
        p.activation);
}

/* x of TOP_K: often with many equal numbers, sometimes with NaN and infinities, positive where a sum divides. */
static int ranked(ops_program *g, int rank, const int64_t *dims, bool positive, bool special) {
    int x = ops_add(g, F32, rank, dims, OPS_NORMAL);
    ops_tensor *t = &g->tensors[x];
    int64_t n = ops_count(&t->view), coarse = ops_between(g, 0, 1);
    for (int64_t i = 0; i < n; i++) {
        float v;
        unsigned char *at = t->start + ops_place(t, &t->view, i);
        memcpy(&v, at, 4);
        if (coarse) v = (float)(int)(v * 4) / 2; /* -0 and 0 among them */
        if (positive) v = v < 0 ? 0.25f - v : 0.25f + v;
        if (special && ops_between(g, 0, 20) == 0)
            v = (float[]){__builtin_nanf(""), -__builtin_inff(), __builtin_inff(), -__builtin_nanf("")}[ops_between(g, 0, 3)];
        memcpy(at, &v, 4);
    }
    return x;
}

static void make_top_k(ops_program *g, int index) {
    static const int64_t corners[][2] = {{1, 1},    {2, 2}, {16, 16}, {17, 1},    {300, 300},
                                         {1000, 1}, {8, 2}, {64, 63}, {2500, 40}, {33, 32}, {2000, 300}, {2400, 250}};
    int64_t dims[4], n = ops_extent(g, 1200), k = ops_between(g, 1, n < 30 ? n : 30);
    if (index < (int)(sizeof corners / sizeof *corners)) n = corners[index][0], k = corners[index][1];
    int rank = 1 + ops_batch_axes(g, dims, 3);
    while (ops_product(rank - 1, dims) * n * k > 600000) dims[0] = 1, k = (k + 1) / 2;
    dims[rank - 1] = n;
    strand_op_top_k p = {.k = k, .values = (uint32_t)ops_between(g, 0, 3), .normalise = (uint32_t)ops_between(g, 0, 1)};
    bool special = ops_between(g, 0, 4) == 0;
    int x = ranked(g, rank, dims, p.normalise && p.values == STRAND_TOP_K_RAW, special);
    dims[rank - 1] = k;
    ops_node *node = ops_add_node(g, STRAND_OP_TOP_K, &p, sizeof p, 1, &x, ops_add(g, F32, rank, dims, OPS_OUTPUT));
    if (ops_between(g, 0, 3)) node->second = ops_add(g, STRAND_PLUGIN_I64, rank, dims, OPS_OUTPUT);
    SAY("%lld of %lld in %lld rows, values %u, normalise %u, special %d", (long long)k, (long long)n,
        (long long)ops_product(rank - 1, dims), p.values, p.normalise, special);
}

/* ---- factors that halves hold with difficulty, or not at all ---- */

static const char *const extremes[] = {"infinite b", "infinite a",    "NaN in either", "a near 2^120", "outliers by 0",
                                       "a mask",     "blocks unlike", "ranges unlike", "tiny halves",  "near 2^-90"};

#define N_EXTREMES ((int)(sizeof extremes / sizeof extremes[0]))

/* Rounded towards zero to what the type holds; F16's denormals too. */
static void put_any(ops_program *g, int tensor, int64_t at, float x) {
    ops_tensor *t = &g->tensors[tensor];
    unsigned char *to = t->start + ops_place(t, &t->view, at);
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint16_t half = (uint16_t)(bits >> 16);
    if (t->view.dtype == STRAND_PLUGIN_F16) {
        int exponent = (int)(bits >> 23 & 255) - 112;
        half = (uint16_t)(bits >> 16 & 0x8000);
        if (isnan(x))
            half |= 0x7e00;
        else if (exponent > 30)
            half |= isinf(x) ? 0x7c00 : 0x7bff;
        else if (exponent > 0)
            half |= (uint16_t)(exponent << 10 | (bits >> 13 & 0x3ff));
        else
            half |= (uint16_t)(fabsf(x) * 0x1p24f);
    }
    memcpy(to, t->view.dtype == F32 ? (void *)&x : (void *)&half, t->view.dtype == F32 ? 4 : 2);
}

/* Which of a row's numbers are outliers: the other factor has 0 there. */
static bool outlier(int64_t k) {
    return k % 11 == 3;
}

/* A number of the factor that is extreme (here: a), or of the other one. */
static float extreme_of(ops_program *g, int kind, bool of_a, uint32_t type, int64_t line, int64_t k) {
    float x = (float)ops_between(g, -4095, 4095) / 4096;
    bool other = outlier(k), half = type == STRAND_PLUGIN_F16;
    switch (kind) {
    case 3:
        return of_a ? ldexpf(x, half ? 14 : 120) : x;
    case 4:
        return !other ? x : of_a ? (half ? 6e4f : ldexpf(1.25f, 4 + (int)(line % 40))) * (x < 0 ? -1 : 1) : 0;
    case 5:
        return !other ? x : of_a ? (half ? -65504 : -3.3895314e38f) : 0;
    case 6: /* each 32 far from the others; those that would outweigh them meet 0 */
        if (!of_a) return k / 32 % 3 == 1 ? 0 : x;
        return ldexpf(x, k / 32 % 3 == 1 ? (half ? 15 : 50) : half ? -2 : (int)(line % 9) - (int)(k / 32 % 3) * 10);
    case 7:
        return !of_a ? (other ? 0 : x) : other ? x : ldexpf(x, half ? -(int)(k * 7 % 12) : -20 - (int)(k * 7 % 40));
    case 8:
        return ldexpf(x, half || type == STRAND_PLUGIN_BF16 ? -13 - (int)(k % 4) : -(int)(k % 4));
    case 9:
        return of_a && !half ? ldexpf(x, -90) : x;
    }
    return x;
}

/* One number of `tensor` becomes x. */
static void put_one(ops_program *g, int tensor, float x) {
    put_any(g, tensor, ops_between(g, 0, ops_count(&g->tensors[tensor].view) - 1), x);
}

/* Products with a factor of F16 or BF16, whose results are as near to the reference as any product's: what is large in a factor
 * and meets 0 in the other must not cost the accuracy of what is small beside it; Inf and NaN reach what they reach. */
static void make_matmul_extremes(ops_program *g, int index) {
    static const uint32_t types[][2] = {{F32, STRAND_PLUGIN_F16},
                                        {F32, STRAND_PLUGIN_BF16},
                                        {STRAND_PLUGIN_F16, F32},
                                        {STRAND_PLUGIN_BF16, F32},
                                        {STRAND_PLUGIN_F16, STRAND_PLUGIN_BF16},
                                        {STRAND_PLUGIN_F16, STRAND_PLUGIN_F16}};
    const int kind = index % N_EXTREMES, pair = (index / N_EXTREMES + index) % 6;
    const uint32_t type[2] = {types[pair][0], types[pair][1]};
    const int64_t m = ops_between(g, 17, 80), n = ops_between(g, 1, 80), k = ops_between(g, kind == 6 ? 64 : 1, 200);
    const uint32_t swapped[2] = {(uint32_t)ops_between(g, 0, 1), (uint32_t)ops_between(g, 0, 1)};
    const int64_t dims[2][2] = {{swapped[0] ? k : m, swapped[0] ? m : k}, {swapped[1] ? n : k, swapped[1] ? k : n}};
    const int64_t to[2] = {m, n};
    const int wide = type[0] != F32; /* which factor is extreme: the one of F32, if any */
    int in[2];
    for (int f = 0; f < 2; f++) {
        in[f] = ops_add(g, type[f], 2, dims[f], OPS_OUTPUT);
        const bool k_last = f == 0 ? !swapped[0] : swapped[1];
        for (int64_t i = 0; i < m * k * (1 - f) + k * n * f; i++) {
            int64_t line = k_last ? i / k : i % dims[f][1], step = k_last ? i % k : i / dims[f][1];
            put_any(g, in[f], i, extreme_of(g, kind, f == wide, type[f], line, step));
        }
    }
    if (kind == 0 || kind == 1) put_one(g, in[kind == 1 ? wide : 1 - wide], ops_between(g, 0, 1) ? INFINITY : -INFINITY);
    if (kind == 2) put_one(g, in[ops_between(g, 0, 1)], NAN);
    strand_op_matmul p = {.transpose_a = swapped[0], .transpose_b = swapped[1]};
    ops_add_node(g, STRAND_OP_MATMUL, &p, sizeof p, 2, in, ops_add(g, F32, 2, to, OPS_OUTPUT));
    SAY("%lldx%lldx%lld, transposed %u %u, types %u %u, %s", (long long)m, (long long)n, (long long)k, p.transpose_a,
        p.transpose_b, type[0], type[1], extremes[kind]);
}

OPS_CASES(products, {"matmul_quantised", make_matmul_quantised, false}, {"gather_quantised", make_gather_quantised, false},
          {"cast_quantised", make_cast_quantised, false}, {"block_diagonal", make_block_diagonal, false},
          {"grouped_matmul", make_grouped_matmul, false}, {"top_k", make_top_k, false},
          {"matmul_extremes", make_matmul_extremes, false}, {"matmul_long", make_matmul_long, false});

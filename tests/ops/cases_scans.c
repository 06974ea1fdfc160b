/* cases_scans.c - random cases of the scans and of the generators of their filters. Decays lie within the unit circle, as
 * trained ones do: elsewhere a recurrence has no accuracy to be tested. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Replaces the elements of a tensor by uniform ones. */
static void fill(ops_program *g, int tensor, double low, double high) {
    ops_tensor *t = &g->tensors[tensor];
    int64_t n = ops_count(&t->view);
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(low + (high - low) * (double)ops_between(g, 0, 1 << 20) / (double)(1 << 20));
        memcpy(t->start + ops_place(t, &t->view, i), &x, 4);
    }
}

static float *element(ops_program *g, int tensor, int64_t i) {
    ops_tensor *t = &g->tensors[tensor];
    return (float *)(void *)(t->start + ops_place(t, &t->view, i));
}

/* Makes [..., 2] poles: within radius `most` of zero, or their logarithms. */
static void fill_poles(ops_program *g, int tensor, bool logarithms, double most) {
    int64_t n = ops_count(&g->tensors[tensor].view) / 2;
    for (int64_t i = 0; i < n; i++) {
        double r = most * sqrt((double)ops_between(g, 1, 1000) / 1000),
               angle = 3.2 * (double)ops_between(g, -1000, 1000) / 1000;
        *element(g, tensor, 2 * i) = (float)(logarithms ? log(r) : r * cos(angle));
        *element(g, tensor, 2 * i + 1) = (float)(logarithms ? angle : r * sin(angle));
    }
}

static int add2(ops_program *g, int64_t a, int64_t b) {
    return ops_add(g, F32, 2, (const int64_t[]){a, b}, OPS_NORMAL);
}
static int add3(ops_program *g, int64_t a, int64_t b, int64_t c) {
    return ops_add(g, F32, 3, (const int64_t[]){a, b, c}, OPS_NORMAL);
}
static bool coin(ops_program *g) {
    return ops_between(g, 0, 1) != 0;
}

/* [batch, length, channels] of a scan whose reference takes `cost` per element; lengths at block sizes first. */
typedef struct sizes {
    int64_t b, l, c;
} sizes;

static sizes scan_sizes(ops_program *g, int index, int64_t cost) {
    static const int64_t lengths[] = {1, 2, 3, 4, 5, 31, 32, 33, 63, 1024, 65, 1300, 129, 97, 200};
    static const int64_t channels[] = {16, 1, 17, 8, 33, 3, 64, 15, 40};
    sizes s = {ops_between(g, 1, 3), index < 15 ? lengths[index] : ops_between(g, 1, 300),
               index < 9 ? channels[index] : ops_between(g, 1, 90)};
    if (s.l > 1000) { /* a backend may cut it in parts */
        if (s.b > 2) s.b = 2;
        if (s.c > 9) s.c = 9;
        return s;
    }
    while (s.b * s.l * s.c * cost > 400000) {
        if (s.b > 1)
            s.b--;
        else if (s.c > 40 || s.l < 20)
            s.c = (s.c + 1) / 2;
        else
            s.l = (s.l + 1) / 2;
    }
    return s;
}

static void selective_scan_of(ops_program *g, int index, sizes s, int64_t n) {
    strand_op_selective_scan p = {.softplus = coin(g)};
    int optional = index < 3 ? (index == 0 ? 15 : index == 1 ? 0 : 8) : (int)ops_between(g, 0, 15);
    int in[9] = {add3(g, s.b, s.l, s.c), add3(g, s.b, s.l, s.c), add2(g, s.c, n), add3(g, s.b, s.l, n), add3(g, s.b, s.l, n),
                 -1, -1, -1, -1};
    if (p.softplus)
        fill(g, in[1], -6, 2);
    else
        fill(g, in[1], 0.001, 0.5);
    if (p.softplus) *element(g, in[1], 0) = 25; /* the linear branch */
    fill(g, in[2], -4, -0.02);
    if (optional & 1) in[5] = ops_vector(g, s.c);
    if (optional & 2) in[6] = add3(g, s.b, s.l, s.c);
    if (optional & 4) in[7] = ops_vector(g, s.c);
    if (optional & 8) in[8] = add3(g, s.b, s.c, n);
    if (optional & 4 && !p.softplus) fill(g, in[7], 0, 0.1);
    int64_t dims[3] = {s.b, s.l, s.c}, last[3] = {s.b, s.c, n};
    ops_node *node = ops_add_node(g, STRAND_OP_SELECTIVE_SCAN, &p, sizeof p, 9, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 3 < 2) node->second = ops_add(g, F32, 3, last, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, %lld states, softplus %u, D %d, z %d, bias %d, state %d, last %d", (long long)s.b, (long long)s.l,
        (long long)s.c, (long long)n, p.softplus, optional & 1, optional >> 1 & 1, optional >> 2 & 1, optional >> 3,
        node->second >= 0);
}

static void make_selective_scan(ops_program *g, int index) {
    static const int64_t states[] = {16, 16, 1, 8, 5, 17, 33, 64, 3, 31, 48};
    int64_t n = index < 11 ? states[index] : coin(g) ? 16 : ops_between(g, 1, 40);
    selective_scan_of(g, index, scan_sizes(g, index, n), n);
}

/* Channels as models have them, and lengths around chunks of 256 tokens. */
static void make_selective_scan_wide(ops_program *g, int index) {
    static const int64_t lengths[] = {300, 17, 256, 530, 40}, channels[] = {518, 512, 771}, states[] = {16, 5, 20, 64};
    sizes s = scan_sizes(g, index, 1);
    s.b = index % 3 == 1 ? 2 : 1;
    s.l = lengths[index % 5];
    s.c = channels[index % 3];
    selective_scan_of(g, index, s, states[index % 4]);
}

static void make_lti_scan(ops_program *g, int index) {
    static const int64_t states[] = {4, 1, 3, 5, 8, 2, 16, 33, 7};
    int64_t n = index < 9 ? states[index] : ops_between(g, 1, 40);
    bool pairs = index % 2 == 0, shared = ops_between(g, 0, 3) == 0;
    sizes s = scan_sizes(g, index, n * (pairs ? 2 : 1));
    if (index > 9 && index % 7 == 3) s.c = 1, n = 40, s.b = 2, s.l = 150; /* one channel of many states */
    strand_op_lti_scan p = {.log_poles = coin(g), .reverse = coin(g), .scale = coin(g) ? 2.0f : 0.3f};
    int optional = index < 3 ? (index == 0 ? 15 : index == 1 ? 0 : 8) : (int)ops_between(g, 0, 15);
    int64_t pole_dims[3] = {shared ? 1 : s.c, n, 2}, row_dims[3] = {s.c, n, 2}, state_dims[4] = {s.b, s.c, n, 2},
            dims[3] = {s.b, s.l, s.c};
    int rank = pairs ? 3 : 2;
    int in[6] = {add3(g, s.b, s.l, s.c), ops_add(g, F32, rank, pole_dims, OPS_NORMAL), -1, -1, -1, -1};
    if (pairs)
        fill_poles(g, in[1], p.log_poles, 0.98);
    else
        fill(g, in[1], p.log_poles ? -2 : -0.9, p.log_poles ? -0.01 : 0.98);
    if (optional & 1) in[2] = ops_add(g, F32, rank, row_dims, OPS_NORMAL);
    if (optional & 2) in[3] = ops_add(g, F32, rank, row_dims, OPS_NORMAL);
    if (optional & 4) in[4] = ops_vector(g, s.c);
    if (optional & 8) in[5] = ops_add(g, F32, rank + 1, state_dims, OPS_NORMAL);
    if (coin(g)) g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
    ops_node *node = ops_add_node(g, STRAND_OP_LTI_SCAN, &p, sizeof p, 6, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 3 < 2) node->second = ops_add(g, F32, rank + 1, state_dims, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, %lld states, complex %d, shared %d, logarithms %u, reverse %u, in %d, out %d, skip %d, "
        "state %d, last %d",
        (long long)s.b, (long long)s.l, (long long)s.c, (long long)n, pairs, shared, p.log_poles, p.reverse, optional & 1,
        optional >> 1 & 1, optional >> 2 & 1, optional >> 3, node->second >= 0);
}

static void make_linear_recurrence(ops_program *g, int index) {
    bool pairs = index % 3 == 0, each = coin(g), state = coin(g);
    sizes s = scan_sizes(g, index, 4);
    if (index > 20 && coin(g)) s.c = ops_between(g, 60, 200), s.l = ops_between(g, 1, 40);
    strand_op_linear_recurrence p = {.complex_pairs = pairs, .log_a = coin(g), .reverse = coin(g), .form = !pairs && coin(g)};
    int64_t x_dims[4] = {s.b, s.l, s.c, 2}, a_dims[2] = {s.c, 2}, state_dims[3] = {s.b, s.c, 2};
    int rank = pairs ? 4 : 3;
    int in[3] = {ops_add(g, F32, rank, x_dims, OPS_NORMAL),
                 each ? ops_add(g, F32, rank, x_dims, OPS_NORMAL) : ops_add(g, F32, rank - 2, a_dims, OPS_NORMAL), -1};
    if (pairs)
        fill_poles(g, in[1], p.log_a, 0.97);
    else
        fill(g, in[1], p.log_a ? -3 : 0, p.log_a ? -1e-4 : 0.98);
    if (state) in[2] = ops_add(g, F32, rank - 1, state_dims, OPS_NORMAL);
    ops_node *node =
        ops_add_node(g, STRAND_OP_LINEAR_RECURRENCE, &p, sizeof p, 3, in, ops_add(g, F32, rank, x_dims, OPS_OUTPUT));
    if (index % 4 < 2) node->second = ops_add(g, F32, rank - 1, state_dims, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, complex %d, each %d, logarithms %u, reverse %u, form %u, state %d, last %d", (long long)s.b,
        (long long)s.l, (long long)s.c, pairs, each, p.log_a, p.reverse, p.form, state, node->second >= 0);
}

/* Companion columns as trained ones are: of absolute sum below 1, which bounds the spectral radius by 1. */
static void fill_rows(ops_program *g, int tensor, double sum) {
    const strand_plugin_tensor *v = &g->tensors[tensor].view;
    int64_t d = v->dims[1];
    fill(g, tensor, -1, 1);
    for (int64_t k = 0; k < v->dims[0]; k++) {
        double all = 1e-6;
        for (int64_t i = 0; i < d; i++) all += fabs((double)*element(g, tensor, k * d + i));
        for (int64_t i = 0; i < d; i++) *element(g, tensor, k * d + i) *= (float)(sum / all);
    }
}

static void make_companion_scan(ops_program *g, int index) {
    static const int64_t widths[] = {16, 1, 2, 3, 4, 5, 64, 7, 33, 8};
    int64_t d = index < 10 ? widths[index] : ops_between(g, 1, 70), each = ops_between(g, 0, 2);
    sizes s = scan_sizes(g, index, d);
    /* closed loops long enough for parts */
    if (index % 24 == 13 || index % 24 == 16) s = (sizes){2, index % 24 == 13 ? 777 : 523, 3};
    strand_op_companion_scan p = {.closed = index % 3 == 1};
    int64_t kernels = each == 0 ? 1 : s.c;
    if (each == 2) {
        kernels = (s.c + 2) / 3;
        s.c = 3 * kernels;
    }
    int in[7] = {add2(g, kernels, d), add2(g, kernels, d), add2(g, kernels, d), -1, -1, -1, -1};
    fill_rows(g, in[0], 0.9);
    if (p.closed) fill_rows(g, in[1], 0.2);
    if (p.closed) {
        in[4] = add2(g, kernels, d);
        fill_rows(g, in[4], 0.4);
    } else {
        in[3] = add3(g, s.b, s.l, s.c);
        if (coin(g)) in[5] = ops_vector(g, s.c);
    }
    if (p.closed || coin(g)) in[6] = add3(g, s.b, s.c, d);
    int64_t dims[3] = {s.b, s.l, s.c}, last[3] = {s.b, s.c, d};
    ops_node *node = ops_add_node(g, STRAND_OP_COMPANION_SCAN, &p, sizeof p, 7, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 4 < 2) node->second = ops_add(g, F32, 3, last, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, width %lld, %lld kernels, closed %u, skip %d, state %d, last %d", (long long)s.b, (long long)s.l,
        (long long)s.c, (long long)d, (long long)kernels, p.closed, in[5] >= 0, in[6] >= 0, node->second >= 0);
}

static void make_dplr_scan(ops_program *g, int index) {
    static const int64_t states[] = {4, 1, 3, 8, 9, 16, 2, 33, 32};
    int64_t n = index < 9 ? states[index] : ops_between(g, 1, 40);
    bool shared = ops_between(g, 0, 3) == 0, skip = coin(g), state = coin(g);
    sizes s = scan_sizes(g, index, 4 * n);
    strand_op_dplr_scan p = {.scale = coin(g) ? 2.0f : 0.3f};
    int64_t pole_dims[3] = {shared ? 1 : s.c, n, 2}, row_dims[3] = {s.c, n, 2}, state_dims[4] = {s.b, s.c, n, 2},
            dims[3] = {s.b, s.l, s.c};
    int in[8] = {add3(g, s.b, s.l, s.c), ops_add(g, F32, 3, pole_dims, OPS_NORMAL), ops_add(g, F32, 3, pole_dims, OPS_NORMAL),
                 ops_add(g, F32, 3, pole_dims, OPS_NORMAL), ops_add(g, F32, 3, row_dims, OPS_NORMAL),
                 ops_add(g, F32, 3, row_dims, OPS_NORMAL), -1, -1};
    fill_poles(g, in[1], false, 0.6);
    fill(g, in[2], -0.12, 0.12);
    fill(g, in[3], -0.12, 0.12);
    if (skip) in[6] = ops_vector(g, s.c);
    if (state) in[7] = ops_add(g, F32, 4, state_dims, OPS_NORMAL);
    if (coin(g)) g->tensors[in[1]].view.flags = STRAND_TENSOR_CONSTANT;
    ops_node *node = ops_add_node(g, STRAND_OP_DPLR_SCAN, &p, sizeof p, 8, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 3 < 2) node->second = ops_add(g, F32, 4, state_dims, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, %lld states, shared %d, skip %d, state %d, last %d", (long long)s.b, (long long)s.l,
        (long long)s.c, (long long)n, shared, skip, state, node->second >= 0);
}

/* Poles of decaying systems with steps of 1/100 to 1, and every kind of length: none, odd, a power of two, long. */
static void make_ssm_discretize_nplr(ops_program *g, int index) {
    static const int64_t lengths[] = {0, 1, 2, 64, 301, 4096, 1000, 16};
    int64_t n = index < 3 ? index + 1 : ops_between(g, 1, 12), c = ops_between(g, 1, 5);
    bool shared = coin(g);
    strand_op_ssm_discretize_nplr p = {.length = index < 8 ? lengths[index] : ops_between(g, 0, 600)};
    int64_t dims[3] = {shared ? 1 : c, n, 2}, out[4] = {5, c, n, 2};
    int in[5] = {ops_add(g, F32, 3, dims, OPS_NORMAL), ops_add(g, F32, 3, dims, OPS_NORMAL),
                 ops_add(g, F32, 3, dims, OPS_NORMAL), add3(g, c, n, 2), ops_vector(g, c)};
    for (int64_t i = 0; i < dims[0] * n; i++) {
        *element(g, in[0], 2 * i) = -0.2f - 0.001f * (float)ops_between(g, 0, 1000);
        *element(g, in[0], 2 * i + 1) = 0.02f * (float)ops_between(g, 0, 1000);
    }
    fill(g, in[4], 0.01, 1);
    for (int i = 0; i < 5; i++) g->tensors[in[i]].view.flags = STRAND_TENSOR_CONSTANT;
    ops_add_node(g, STRAND_OP_SSM_DISCRETIZE_NPLR, &p, sizeof p, 5, in, ops_add(g, F32, 4, out, OPS_OUTPUT));
    SAY("%lld channels, %lld states, shared %d, length %lld", (long long)c, (long long)n, shared, (long long)p.length);
}

static void make_dense_scan(ops_program *g, int index) {
    static const int64_t widths[] = {1, 3, 8, 16, 17, 31, 32, 48, 5};
    int64_t d = index < 9 ? widths[index] : ops_between(g, 1, 50), kernels = ops_between(g, 1, 3),
            c = kernels * ops_between(g, 1, 3), b = ops_between(g, 1, 3);
    int64_t l = index < 4 ? index + 1 : ops_between(g, 1, 40), dims[3] = {b, l, c * d}, last[3] = {b, c, d};
    bool free_run = index % 4 == 3, state = free_run || coin(g);
    int in[4] = {add3(g, kernels, d, d), -1, -1, -1};
    fill(g, in[0], -1 / (double)d, 0.9 / (double)d);
    if (!free_run) in[1] = add2(g, kernels, d), in[2] = add3(g, b, l, c);
    if (state) in[3] = add3(g, b, c, d);
    ops_node *node = ops_add_node(g, STRAND_OP_DENSE_SCAN, NULL, 0, 4, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 3 < 2) node->second = ops_add(g, F32, 3, last, OPS_OUTPUT);
    SAY("%lld x %lld x %lld, d %lld, %lld kernels, free %d, state %d, last %d", (long long)b, (long long)l, (long long)c,
        (long long)d, (long long)kernels, free_run, state, node->second >= 0);
}

static void make_ssm_kernel_companion(ops_program *g, int index) {
    static const int64_t widths[] = {16, 1, 2, 3, 4, 5, 64, 7, 33, 8};
    int64_t d = index < 10 ? widths[index] : ops_between(g, 1, 70);
    sizes s = scan_sizes(g, index, d);
    int in[3] = {add2(g, s.c, d), add2(g, s.c, d), add2(g, s.c, d)};
    fill_rows(g, in[0], 0.95);
    ops_add_node(g, STRAND_OP_SSM_KERNEL_COMPANION, NULL, 0, 3, in,
                 ops_add(g, F32, 2, (const int64_t[]){s.c, s.l}, OPS_OUTPUT));
    SAY("%lld kernels of width %lld, %lld taps", (long long)s.c, (long long)d, (long long)s.l);
}

/* ---- generators ---- */

static int add_pairs(ops_program *g, int64_t channels, int64_t states) {
    return add3(g, channels, states, 2);
}

/* Real parts in one range and imaginary ones in another. */
static void fill_pairs(ops_program *g, int tensor, double low, double high, double most) {
    int64_t n = ops_count(&g->tensors[tensor].view);
    fill(g, tensor, low, high);
    for (int64_t i = 1; i < n; i += 2) *element(g, tensor, i) = (float)(most * (double)ops_between(g, -1000, 1000) / 1000);
}

static void make_ssm_discretize(ops_program *g, int index) {
    int64_t c = index < 3 ? index + 1 : ops_between(g, 1, 40), n = ops_between(g, 1, 70), optional = ops_between(g, 0, 3);
    strand_op_ssm_discretize p = {.method = (uint32_t)(index % 4)};
    int64_t shared = ops_between(g, 0, 7), dims[3] = {c, n, 2};
    int in[4] = {add_pairs(g, shared & 1 ? 1 : c, n), ops_vector(g, c), -1, -1};
    fill_pairs(g, in[0], -2, -0.01, 20);
    if (index % 5 == 4) *element(g, in[0], 0) = *element(g, in[0], 1) = 0;
    fill(g, in[1], 0.001, 0.1);
    if (optional & 1) in[2] = add_pairs(g, shared & 2 ? 1 : c, n);
    if (optional & 2) in[3] = add_pairs(g, shared & 4 ? 1 : c, n);
    ops_node *node = ops_add_node(g, STRAND_OP_SSM_DISCRETIZE, &p, sizeof p, 4, in, ops_add(g, F32, 3, dims, OPS_OUTPUT));
    if (index % 3 < 2) node->second = ops_add(g, F32, 3, dims, OPS_OUTPUT);
    SAY("%lld channels of %lld, method %u, B %d, C %d, shared %lld, coefficients %d", (long long)c, (long long)n, p.method,
        (int)optional & 1, (int)optional >> 1, (long long)shared, node->second >= 0);
}

static void make_ssm_kernel_diagonal(ops_program *g, int index) {
    static const int64_t taps[] = {1, 2, 63, 64, 65, 384, 385, 16385, 17000, 500, 33000, 128, 7, 16384};
    int64_t t = index < 14 ? taps[index] : ops_between(g, 1, 1200), n = ops_between(g, 1, 40), c = ops_between(g, 1, 6);
    bool shared = ops_between(g, 0, 3) == 0;
    while (t * n * c > 150000) c > 1 ? c-- : n > 3 ? (n /= 2) : (t /= 2);
    strand_op_ssm_kernel_diagonal p = {
        .log_poles = coin(g), .normalise = index % 3 == 2, .scale = coin(g) ? 2.0f : 1.0f, .eps = coin(g) ? 1e-7f : 0.0f};
    int in[2] = {add_pairs(g, shared ? 1 : c, n), add_pairs(g, c, n)};
    double slow = t > 2000 ? 0.999 : 0.97;
    fill_poles(g, in[0], p.log_poles, slow);
    if (p.normalise && p.log_poles) fill_pairs(g, in[0], -0.6, -0.2, 3);
    if (p.normalise && p.log_poles && coin(g)) *element(g, in[0], 0) = coin(g) ? 0.3f : 0.01f; /* one that grows */
    ops_add_node(g, STRAND_OP_SSM_KERNEL_DIAGONAL, &p, sizeof p, 2, in,
                 ops_add(g, F32, 2, (const int64_t[]){c, t}, OPS_OUTPUT));
    SAY("%lld channels of %lld, %lld taps, shared %d, logarithms %u, normalised %u", (long long)c, (long long)n, (long long)t,
        shared, p.log_poles, p.normalise);
}

static void make_ssm_kernel_nplr(ops_program *g, int index) {
    static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 100, 127, 128, 257, 256, 330};
    strand_op_ssm_kernel_nplr p = {.length = index < 16 ? lengths[index] : ops_between(g, 1, 400)};
    int64_t n = ops_between(g, 1, 33), c = ops_between(g, 1, 3), shared = ops_between(g, 0, 7),
            t = coin(g) ? p.length : ops_between(g, 1, p.length);
    int in[5];
    for (int i = 0; i < 4; i++) in[i] = add_pairs(g, i < 3 && (shared >> i & 1) ? 1 : c, n);
    in[4] = ops_vector(g, c);
    fill_pairs(g, in[0], -1, -0.3, 30);
    fill(g, in[1], -0.3, 0.3);
    fill(g, in[4], 0.01, 0.1);
    ops_add_node(g, STRAND_OP_SSM_KERNEL_NPLR, &p, sizeof p, 5, in, ops_add(g, F32, 2, (const int64_t[]){c, t}, OPS_OUTPUT));
    SAY("%lld channels of %lld, length %lld, %lld taps, shared %lld", (long long)c, (long long)n, (long long)p.length,
        (long long)t, (long long)shared);
}

OPS_CASES(scans, {"ssm_discretize", make_ssm_discretize, false}, {"ssm_kernel_diagonal", make_ssm_kernel_diagonal, false},
          {"ssm_kernel_nplr", make_ssm_kernel_nplr, false}, {"ssm_kernel_companion", make_ssm_kernel_companion, false},
          {"lti_scan", make_lti_scan, false}, {"linear_recurrence", make_linear_recurrence, false},
          {"companion_scan", make_companion_scan, false}, {"selective_scan", make_selective_scan, false},
          {"selective_scan_wide", make_selective_scan_wide, false},
          {"dplr_scan", make_dplr_scan, false}, {"ssm_discretize_nplr", make_ssm_discretize_nplr, false},
          {"dense_scan", make_dense_scan, false});

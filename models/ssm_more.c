/* ssm_more.c - what is not a diagonal system: Liquid-S4's terms of higher degree (raminmh/liquid-s4; Hasani et al., arXiv 2209.12951), and
 * the memory of an LMU (Voelker, Kajic, Eliasmith, NeurIPS 2019) as the linear layer of Chilkuri and Eliasmith, arXiv 2102.11417:
 * u = f(W_u x), m' = A m + B u, h = g(W_h [m, x]). */
#include "ssm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Liquid-S4 ---- */

/* Products of `degree` different ones of the last samples, in the order of itertools.combinations, one a position and zeros behind. As
 * published they are taken from as many samples as give `length` of them at least, and the last `length` are kept. From sample i on they
 * are sample i times those of one less from i + 1 on, and then those from i + 1 on. */
static tensor_id combinations(ssm *s, tensor_id u, int64_t length, int64_t degree) {
    builder *b = &s->b;
    const char *name = ssm_key(s, "combinations");
    int64_t n = 1;
    double count = 0;
    for (int64_t i = 2; i < length && n == 1; i++) {
        count = i >= degree ? 1 : 0;
        for (int64_t j = 0; j < degree; j++) count = count * (double)(i - j) / (double)(j + 1);
        if (count >= (double)length) n = i;
    }
    if (n < degree || n > 2048) build_refuse(b, "there are no liquid terms of degree %lld over %lld positions", (long long)degree, (long long)length);
    tensor_id *from = build_failed(b) ? NULL : ARENA_ARRAY(b->g->arena, tensor_id, (size_t)n);
    if (!from) return 0;
    for (int64_t i = 0; i < n; i++) from[i] = arrange_slice(b, name, u, 1, length - n + i, n - i);
    for (int64_t p = 2; p <= degree; p++) {
        tensor_id after = 0; /* of degree p from i + 1 on; from[] holds degree p - 1 */
        for (int64_t i = n - p; i >= 0; i--) {
            tensor_id with = build_mul(b, name, arrange_slice(b, name, u, 1, length - n + i, 1), from[i + 1]);
            from[i + 1] = after; /* no longer needed as degree p - 1 */
            after = after ? arrange_concat(b, name, 1, (tensor_id[]){with, after}, 2) : with;
        }
        from[0] = after;
    }
    int64_t have = (int64_t)count;
    if (have > length) return arrange_slice(b, name, from[0], 1, have - length, length);
    return arrange_pad(b, name, from[0], 1, 0, length - have);
}

/* Products of one less with itself shifted: us <- us shift(us). */
static tensor_id shifted(ssm *s, tensor_id us) {
    strand_op_token_shift p = {0};
    if (build_failed(&s->b)) return 0;
    return build_mul(&s->b, ssm_key(s, "liquid"), us, graph_op(s->b.g, build_name(&s->b, ssm_key(s, "liquid")), STRAND_OP_TOKEN_SHIFT, &p, &us, 1, NULL));
}

/* Twice the real part of the sum over the states, [r, n, 2] -> [r, 1, 1]: the sum over both of every conjugate pair. */
static tensor_id sum_of(ssm *s, tensor_id pairs) {
    tensor_id sum = arrange_reduce(&s->b, ssm_key(s, "liquid"), STRAND_AXIS_SUM, ssm_re(s, pairs), 1, true);
    return build_unary(&s->b, ssm_key(s, "liquid"), STRAND_UNARY_AFFINE, sum, 2, 0);
}

/* Row `which` of one gain a channel, [r h, 1, 1] -> [1, 1, h]. */
static tensor_id gains(ssm *s, tensor_id all, int64_t which, int64_t h) {
    return ssm_per_channel(s, "liquid", arrange_slice(&s->b, ssm_key(s, "liquid"), all, 0, which * h, h), h);
}

/* "polyb": for every degree p the products of p samples, backwards in time, times C B S^(p - 2) with B discretised by the diagonal part
 * alone and S the sum of it and of what it became. B, C, w and log_dt are those that the published code keeps beside its parameters: they
 * are in no checkpoint of its own, so the file must have them as liquid.*. */
tensor_id ssm_liquid(ssm *s, tensor_id u, tensor_id y, int64_t h) {
    builder *b = &s->b;
    const char *name = ssm_key(s, "liquid");
    bool all = ssm_config_bool(s, "allcombs", true), both = ssm_config_bool(s, "bidirectional", false);
    int64_t n = ssm_extent(s, "liquid.w", 1), rows = both ? 2 : 1;
    int64_t degree = b->config->root ? build_int_of(b, b->config->root, "liquid_degree", 2, 2, 16) : 2;
    if (strcmp(ssm_config_text(s, "liquid_kernel", ""), "polyb") != 0)
        build_refuse(b, "liquid_kernel '%.40s' is not supported, polyb is; --set liquid=0 leaves the liquid terms out", ssm_config_text(s, "liquid_kernel", ""));
    if (n < 1) build_refuse(b, "the file has no liquid.{B,C,w,log_dt} (the published code does not save them); --set liquid=0 leaves the liquid terms out");
    if (strcmp(ssm_config_text(s, "lcontract", "none"), "none") != 0 && strcmp(ssm_config_text(s, "lcontract", "none"), "tanh") != 0)
        build_refuse(b, "lcontract is neither none nor tanh");
    if (all && s->length.kind != OP_DIM_FIXED) build_refuse(b, "allcombs needs 'l_max' in config.json, or --set l_max=NUMBER: the length of every input");
    tensor_id dt = build_unary(b, name, STRAND_UNARY_EXP, build_flat(b, ssm_key(s, "liquid.log_dt"), h), 0, 0);
    tensor_id w = build_f32(b, ssm_key(s, "liquid.w"), 3, (int64_t[]){h, n, 2}, false), db = build_f32(b, ssm_key(s, "liquid.B"), 3, (int64_t[]){h, n, 2}, false);
    tensor_id c = build_f32(b, ssm_key(s, "liquid.C"), 3, (int64_t[]){rows * h, n, 2}, true), us = u;
    strand_op_ssm_discretize p = {.method = STRAND_SSM_BILINEAR};
    if (build_failed(b)) return 0;
    graph_op2(b->g, build_name(b, name), STRAND_OP_SSM_DISCRETIZE, &p, (tensor_id[]){w, dt, db}, 3, NULL, &db);
    for (int64_t i = 2; i <= degree && !build_failed(b); i++) {
        us = all ? combinations(s, u, s->length.size, i) : shifted(s, us);
        tensor_id terms = strcmp(ssm_config_text(s, "lcontract", "none"), "tanh") ? us : build_unary(b, name, STRAND_UNARY_TANH, us, 0, 0);
        db = build_mul(b, name, db, sum_of(s, db));
        tensor_id gain = sum_of(s, ssm_pair_mul(s, "liquid", c, arrange_repeat(b, name, db, 0, rows, false)));
        y = build_add(b, name, y, build_mul(b, name, arrange_flip(b, name, terms, 1), gains(s, gain, 0, h)));
        if (both) y = build_add(b, name, y, build_mul(b, name, terms, gains(s, gain, 1, h)));
    }
    return y;
}

/* ---- LMU ---- */

#define LMU_MOST 512 /* states of a memory whose matrices are computed here */

static void multiply(double *to, const double *a, const double *b, int64_t n) {
    memset(to, 0, (size_t)(n * n) * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < n; j++) to[i * n + j] += a[i * n + k] * b[k * n + j];
}

/* e^m in place, by squaring what a short series gives for m / 2^k; work holds 2 n^2 numbers. */
static void exponential(double *m, double *work, int64_t n) {
    double *term = work, *next = work + n * n, norm = 0;
    int squarings = 0;
    for (int64_t i = 0; i < n; i++) {
        double row = 0;
        for (int64_t j = 0; j < n; j++) row += fabs(m[i * n + j]);
        norm = fmax(norm, row);
    }
    while (norm > 0.25) norm /= 2, squarings++;
    for (int64_t i = 0; i < n * n; i++) m[i] = ldexp(m[i], -squarings);
    double *sum = next + n * n;
    for (int64_t i = 0; i < n * n; i++) sum[i] = term[i] = i % (n + 1) ? 0 : 1;
    for (int k = 1; k <= 12; k++) {
        multiply(next, term, m, n);
        for (int64_t i = 0; i < n * n; i++) sum[i] += term[i] = next[i] / k;
    }
    for (; squarings > 0; squarings--) {
        multiply(next, sum, sum, n);
        memcpy(sum, next, (size_t)(n * n) * sizeof *sum);
    }
    memcpy(m, sum, (size_t)(n * n) * sizeof *sum);
}

/* A [1, n, n] and B [1, n] of the Legendre delay of `theta` samples by zero-order hold with step 1: row i of A is (2 i + 1) / theta times -1
 * above the diagonal and (-1)^(i - j + 1) below, of B (2 i + 1) (-1)^i / theta. */
static bool lmu_matrices(ssm *s, int64_t n, double theta, tensor_id *a, tensor_id *b) {
    int64_t w = n + 1;
    double *m = ARENA_ARRAY(s->b.g->arena, double, (size_t)(4 * w * w));
    float *out = ARENA_ARRAY(s->b.g->arena, float, (size_t)(n * w));
    if (!m || !out) {
        error_set(s->b.e, STRAND_ERR_MEMORY, "out of memory while loading");
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        double r = (double)(2 * i + 1) / theta;
        for (int64_t j = 0; j < n; j++) m[i * w + j] = i < j || (i - j) % 2 == 0 ? -r : r;
        m[i * w + n] = i % 2 ? -r : r;
    }
    exponential(m, m + w * w, w);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) out[i * n + j] = (float)m[i * w + j];
        out[n * n + i] = (float)m[i * w + n];
    }
    *a = graph_weight(s->b.g, build_name(&s->b, ssm_key(s, "A")), STRAND_F32, 3, (op_dim[]){DIM(1), DIM(n), DIM(n)}, out);
    *b = graph_weight(s->b.g, build_name(&s->b, ssm_key(s, "B")), STRAND_F32, 2, (op_dim[]){DIM(1), DIM(n)}, out + n * n);
    return true;
}

/* u [B, L, c] -> the memories of all channels, [B, L, c n] */
static tensor_id memory(ssm *s, tensor_id u, int64_t c, int64_t n, tensor_id a, tensor_id b) {
    builder *g = &s->b;
    if (build_failed(g)) return 0;
    if (s->recurrent) {
        tensor_id last = 0, state = ssm_state(s, "memory", 3, (op_dim[]){DIM_B, DIM(c), DIM(n)});
        tensor_id m = ssm_with_state(s, "memory", STRAND_OP_DENSE_SCAN, NULL, (tensor_id[]){a, b, u, state}, 4, &last);
        ssm_offer(s, "final_state", last);
        return m;
    }
    op_shape shape = {STRAND_F32, 3, {DIM(1), s->length, DIM(n)}};
    tensor_id start = arrange_reshape(g, ssm_key(s, "B"), b, 3, (op_dim[]){DIM(1), DIM(1), DIM(n)});
    if (build_failed(g)) return 0;
    tensor_id filter = graph_op(g->g, build_name(g, ssm_key(s, "filter")), STRAND_OP_DENSE_SCAN, NULL, (tensor_id[]){a, 0, 0, start}, 4, &shape);
    filter = arrange_reshape(g, ssm_key(s, "filter"), arrange_turn(g, ssm_key(s, "filter"), filter), 2, (op_dim[]){DIM(n), s->length});
    ssm_offer(s, "kernel", filter);
    filter = arrange_repeat(g, ssm_key(s, "filter"), filter, 0, c, false);
    u = arrange_repeat(g, ssm_key(s, "input"), arrange_turn(g, ssm_key(s, "input"), u), 1, n, true);
    strand_op_long_conv p = {0};
    if (build_failed(g)) return 0;
    return arrange_turn(g, ssm_key(s, "memory"), graph_op(g->g, build_name(g, ssm_key(s, "memory")), STRAND_OP_LONG_CONV, &p, (tensor_id[]){u, filter}, 2, NULL));
}

tensor_id ssm_lmu(ssm *s, tensor_id x) {
    builder *g = &s->b;
    int64_t c = ssm_linear_rows(s, "W_u"), rows = ssm_linear_rows(s, "W_h"), columns = ssm_extent(s, "W_h.weight", 1);
    int64_t n = ssm_has(s, "A") ? ssm_extent(s, "A", 0) : c > 0 ? (columns - s->d) / c : 0;
    double theta = g->config->root ? json_number(g->config->root, "theta", 0) : 0;
    tensor_id a = 0, b = 0;
    if (n < 1 || c < 1 || columns != c * n + s->d) build_refuse(g, "'%s' is not [d', memory + d]", ssm_key(s, "W_h.weight"));
    if (!ssm_has(s, "A") && (!(theta >= 1 && theta < 1e9) || n > LMU_MOST))
        build_refuse(g, "config.json: 'theta', the samples that the memory spans, is missing; or there are more than %d states", LMU_MOST);
    if (build_failed(g)) return 0;
    if (ssm_has(s, "A")) {
        a = build_f32(g, ssm_key(s, "A"), 3, (int64_t[]){1, n, n}, false);
        b = build_f32(g, ssm_key(s, "B"), 2, (int64_t[]){1, n}, true);
    } else if (!lmu_matrices(s, n, theta, &a, &b)) {
        return 0;
    }
    uint32_t act = ssm_activation(s, "activation", "relu");
    tensor_id u = ssm_activate(s, "W_u", ssm_activation(s, "u_activation", ssm_config_text(s, "activation", "relu")), ssm_linear(s, "W_u", x, c, s->d));
    tensor_id m = memory(s, u, c, n, a, b);
    m = arrange_concat(g, ssm_key(s, "W_h"), 2, (tensor_id[]){m, x}, 2);
    return ssm_activate(s, "W_h", act, ssm_linear(s, "W_h", m, rows, columns));
}

/* ssm_more.c - what is not a diagonal system: Liquid-S4's terms of higher degree (raminmh/liquid-s4; Hasani et al., arXiv
 * 2209.12951), and the memory of an LMU (Voelker, Kajic, Eliasmith, NeurIPS 2019) as the linear layer of Chilkuri and
 * Eliasmith, arXiv 2102.11417: u = f(W_u x), m' = A m + B u, h = g(W_h [m, x]). */
#include "ssm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Liquid-S4 ---- */

/* Products of `degree` different ones of the last samples, in the order of itertools.combinations, one a position and zeros
 * behind. As published they are taken from as many samples as give `length` of them at least, and the last `length` are
 * kept. From sample i on they are sample i times those of one less from i + 1 on, and then those from i + 1 on. */
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
    if (n < degree || n > 2048)
        build_refuse(b, "there are no liquid terms of degree %lld over %lld positions", (long long)degree, (long long)length);
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
    return build_mul(&s->b, ssm_key(s, "liquid"), us,
                     graph_op(s->b.g, build_name(&s->b, ssm_key(s, "liquid")), STRAND_OP_TOKEN_SHIFT, &p, &us, 1, NULL));
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

/* What both kinds of liquid terms are made of. */
typedef struct liquid {
    bool all, both, tanh;
    int64_t degree, h, states;
    tensor_id db, c; /* B discretised by the diagonal part alone, and C (0 for kb): [h, states, 2] */
} liquid;

static bool liquid_of(ssm *s, int64_t h, bool with_c, liquid *q) {
    builder *b = &s->b;
    const char *name = ssm_key(s, "liquid"), *contract = ssm_config_text(s, "lcontract", "none");
    *q = (liquid){.all = ssm_config_bool(s, "allcombs", true), .both = ssm_config_bool(s, "bidirectional", false),
                  .tanh = !strcmp(contract, "tanh"), .h = h};
    q->degree = b->config->root ? build_int_of(b, b->config->root, "liquid_degree", 2, 2, 16) : 2;
    q->states = ssm_extent(s, "liquid.w", 1);
    if (q->states < 1)
        build_refuse(
            b,
            "the file has no liquid.{B,C,w,log_dt} (the published code does not save them); --set liquid=0 leaves the liquid "
            "terms out");
    if (!q->tanh && strcmp(contract, "none") != 0) build_refuse(b, "lcontract is neither none nor tanh");
    if ((q->all || !with_c) && s->length.kind != OP_DIM_FIXED)
        build_refuse(b, "%s needs 'l_max' in config.json, or --set l_max=NUMBER: the length of every input",
                     with_c ? "allcombs" : "liquid_kernel kb");
    tensor_id dt = build_unary(b, name, STRAND_UNARY_EXP, build_flat(b, ssm_key(s, "liquid.log_dt"), h), 0, 0);
    tensor_id w = build_f32(b, ssm_key(s, "liquid.w"), 3, (int64_t[]){h, q->states, 2}, false),
              raw = build_f32(b, ssm_key(s, "liquid.B"), 3, (int64_t[]){h, q->states, 2}, false);
    if (with_c) q->c = build_f32(b, ssm_key(s, "liquid.C"), 3, (int64_t[]){(q->both ? 2 : 1) * h, q->states, 2}, true);
    strand_op_ssm_discretize p = {.method = STRAND_SSM_BILINEAR};
    if (build_failed(b)) return false;
    graph_op2(b->g, build_name(b, name), STRAND_OP_SSM_DISCRETIZE, &p, (tensor_id[]){w, dt, raw}, 3, NULL, &q->db);
    return !build_failed(b);
}

/* The products of degree i, from those of one less; *terms gets them as they enter. */
static tensor_id upgraded(ssm *s, const liquid *q, tensor_id u, tensor_id us, int64_t i, tensor_id *terms) {
    us = q->all ? combinations(s, u, s->length.size, i) : shifted(s, us);
    *terms = q->tanh ? build_unary(&s->b, ssm_key(s, "liquid"), STRAND_UNARY_TANH, us, 0, 0) : us;
    return us;
}

/* "polyb": for every degree p the products of p samples, backwards in time, times C B S^(p - 2), S the sum of B and of what
 * it became. */
static tensor_id by_polynomial(ssm *s, const liquid *q, tensor_id u, tensor_id y) {
    builder *b = &s->b;
    const char *name = ssm_key(s, "liquid");
    tensor_id us = u, db = q->db, terms = 0;
    for (int64_t i = 2; i <= q->degree && !build_failed(b); i++) {
        us = upgraded(s, q, u, us, i, &terms);
        db = build_mul(b, name, db, sum_of(s, db));
        tensor_id gain = sum_of(s, ssm_pair_mul(s, "liquid", q->c, arrange_repeat(b, name, db, 0, q->both ? 2 : 1, false)));
        y = build_add(b, name, y, build_mul(b, name, arrange_flip(b, name, terms, 1), gains(s, gain, 0, q->h)));
        if (q->both) y = build_add(b, name, y, build_mul(b, name, terms, gains(s, gain, 1, q->h)));
    }
    return y;
}

static tensor_id transform(ssm *s, uint32_t kind, int64_t n, tensor_id x) {
    strand_op_fft p = {.kind = kind, .n = n, .scale = kind == STRAND_FFT_C2R ? 1 / (float)n : 1};
    return build_failed(&s->b) ? 0 : graph_op(s->b.g, build_name(&s->b, ssm_key(s, "liquid")), STRAND_OP_FFT, &p, &x, 1, NULL);
}

/* "kb": the products, backwards in time, times the filter of k by S^(p - 1), bin by bin: as published the products'
 * transform is of 2 L points, of which L + 1 are independent, and the filter's of L + 1. */
static tensor_id by_filter(ssm *s, const liquid *q, const ssm_system *k, tensor_id u, tensor_id y) {
    builder *b = &s->b;
    const char *name = ssm_key(s, "liquid");
    int64_t l = s->length.size, h = q->h;
    tensor_id sum = sum_of(s, q->db), us = u, terms = 0, spectrum = 0;
    if (k->nplr && !k->length)
        build_refuse(b, "liquid_kernel kb needs the filter, and so the length for which C is stored, which is 0");
    if (k->channels != 1) build_refuse(b, "liquid_kernel kb is for one channel");
    if (q->both) build_refuse(b, "liquid_kernel kb is not for bidirectional layers");
    sum = arrange_reshape(b, name, sum, 2, (op_dim[]){DIM(h), DIM(1)});
    tensor_id filter = ssm_filters(s, k);
    for (int64_t i = 2; i <= q->degree && !build_failed(b); i++) {
        us = upgraded(s, q, u, us, i, &terms);
        filter = build_mul(b, name, filter, sum);
        tensor_id taps =
            arrange_reshape(b, name, arrange_pad(b, name, filter, 1, 0, 1), 3, (op_dim[]){DIM(h), DIM(l + 1), DIM(1)});
        taps = transform(s, STRAND_FFT_FORWARD, 0,
                         ssm_pair(s, "liquid", taps, build_unary(b, name, STRAND_UNARY_AFFINE, taps, 0, 0)));
        taps = arrange_reshape(b, name, taps, 4, (op_dim[]){DIM(1), DIM(h), DIM(l + 1), DIM(2)});
        terms = transform(s, STRAND_FFT_R2C, 2 * l, arrange_turn(b, name, arrange_flip(b, name, terms, 1)));
        terms = ssm_pair_mul(s, "liquid", terms, taps);
        spectrum = spectrum ? build_add(b, name, spectrum, terms) : terms;
    }
    tensor_id more = arrange_slice(b, name, transform(s, STRAND_FFT_C2R, 2 * l, spectrum), 2, 0, l);
    return build_add(b, name, y, arrange_turn(b, name, more));
}

/* The terms at position t are of the samples around L - 1 - t: as published their products are turned backwards in time. So
 * they look ahead, and no recurrence over t can make them as samples come; by recurrence the system itself runs step by
 * step, and the terms, which are not of its state, are of the whole sequence as by convolution. B, C, w and log_dt of the
 * terms are those that the published code keeps beside its parameters: they are in no checkpoint of its own, so the file
 * must have them as liquid.*. */
tensor_id ssm_liquid(ssm *s, const ssm_system *k, tensor_id u, tensor_id y) {
    const char *kind = ssm_config_text(s, "liquid_kernel", "");
    bool filter = !strcmp(kind, "kb");
    liquid q;
    if (!filter && strcmp(kind, "polyb") != 0)
        build_refuse(&s->b, "liquid_kernel '%.40s' is neither polyb nor kb; --set liquid=0 leaves the liquid terms out", kind);
    if (build_failed(&s->b) || !liquid_of(s, k->h, !filter, &q)) return 0;
    return filter ? by_filter(s, &q, k, u, y) : by_polynomial(s, &q, u, y);
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

/* A [1, n, n] and B [1, n] of the Legendre delay of `theta` samples by zero-order hold with step 1: row i of A is (2 i + 1)
 * / theta times -1 above the diagonal and (-1)^(i - j + 1) below, of B (2 i + 1) (-1)^i / theta. */
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
    tensor_id filter = graph_op(g->g, build_name(g, ssm_key(s, "filter")), STRAND_OP_DENSE_SCAN, NULL,
                                (tensor_id[]){a, 0, 0, start}, 4, &shape);
    filter = arrange_reshape(g, ssm_key(s, "filter"), arrange_turn(g, ssm_key(s, "filter"), filter), 2,
                             (op_dim[]){DIM(n), s->length});
    ssm_offer(s, "kernel", filter);
    filter = arrange_repeat(g, ssm_key(s, "filter"), filter, 0, c, false);
    u = arrange_repeat(g, ssm_key(s, "input"), arrange_turn(g, ssm_key(s, "input"), u), 1, n, true);
    strand_op_long_conv p = {0};
    if (build_failed(g)) return 0;
    return arrange_turn(
        g, ssm_key(s, "memory"),
        graph_op(g->g, build_name(g, ssm_key(s, "memory")), STRAND_OP_LONG_CONV, &p, (tensor_id[]){u, filter}, 2, NULL));
}

tensor_id ssm_lmu(ssm *s, tensor_id x) {
    builder *g = &s->b;
    int64_t c = ssm_linear_rows(s, "W_u"), rows = ssm_linear_rows(s, "W_h"), columns = ssm_extent(s, "W_h.weight", 1);
    int64_t n = ssm_has(s, "A") ? ssm_extent(s, "A", 0) : c > 0 ? (columns - s->d) / c : 0;
    double theta = g->config->root ? json_number(g->config->root, "theta", 0) : 0;
    tensor_id a = 0, b = 0;
    if (n < 1 || c < 1 || columns != c * n + s->d) build_refuse(g, "'%s' is not [d', memory + d]", ssm_key(s, "W_h.weight"));
    if (!ssm_has(s, "A") && (!(theta >= 1 && theta < 1e9) || n > LMU_MOST))
        build_refuse(g, "config.json: 'theta', the samples that the memory spans, is missing; or there are more than %d states",
                     LMU_MOST);
    if (build_failed(g)) return 0;
    if (ssm_has(s, "A")) {
        a = build_f32(g, ssm_key(s, "A"), 3, (int64_t[]){1, n, n}, false);
        b = build_f32(g, ssm_key(s, "B"), 2, (int64_t[]){1, n}, true);
    } else if (!lmu_matrices(s, n, theta, &a, &b)) {
        return 0;
    }
    uint32_t act = ssm_activation(s, "activation", "relu");
    tensor_id u = ssm_activate(s, "W_u", ssm_activation(s, "u_activation", ssm_config_text(s, "activation", "relu")),
                               ssm_linear(s, "W_u", x, c, s->d));
    tensor_id m = memory(s, u, c, n, a, b);
    m = arrange_concat(g, ssm_key(s, "W_h"), 2, (tensor_id[]){m, x}, 2);
    return ssm_activate(s, "W_h", act, ssm_linear(s, "W_h", m, rows, columns));
}

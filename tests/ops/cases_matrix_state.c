/* cases_matrix_state.c - recurrences with a matrix for each head: lengths around the blocks that kernels work in, widths around
 * their vectors, every combination of optional inputs. Decays lie in (0, 1] and are sometimes nearly 0 or exactly 1. */
#include "ops_cases.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double uniform(ops_program *g, double low, double high) {
    return low + (high - low) * (double)(ops_random(&g->random) >> 11) * 0x1p-53;
}

static int64_t elements(const int64_t *dims, int rank) {
    return ops_product(rank, dims);
}

/* A tensor of numbers in [low, high], now and then one of its ends. */
static int in_range(ops_program *g, int rank, const int64_t *dims, double low, double high) {
    int index = ops_add(g, F32, rank, dims, OPS_OUTPUT);
    ops_tensor *t = &g->tensors[index];
    for (int64_t i = 0; i < elements(dims, rank); i++) {
        int64_t end = ops_between(g, 0, 40);
        float x = (float)(end == 0 ? low : end == 1 ? high : uniform(g, low, high));
        memcpy(t->start + ops_place(t, &t->view, i), &x, sizeof x);
    }
    return index;
}

/* Lengths around blocks of 8 and 32 tokens, and some that a backend may cut in parts. */
static int64_t some_length(ops_program *g, int index) {
    static const int64_t corners[] = {1, 2, 7, 8, 9, 31, 32, 33, 1024, 63, 1350, 65, 16, 17, 3, 97, 130, 1};
    int n = (int)(sizeof corners / sizeof *corners);
    return index < n ? corners[index] : ops_between(g, 0, 3) ? ops_between(g, 1, 70) : ops_between(g, 71, 200);
}

static int64_t some_width(ops_program *g, int64_t most) {
    static const int64_t favourites[] = {1, 3, 4, 8, 15, 16, 17, 31, 32, 33, 48, 64, 65, 80, 129, 140};
    int64_t n = 0, count = (int64_t)(sizeof favourites / sizeof *favourites);
    while (n < count && favourites[n] <= most) n++;
    return favourites[ops_between(g, 0, n - 1)];
}

/* Batch, heads, length, depth of the state and width of the values, of a size that the reference can do. */
typedef struct sizes {
    int64_t b, h, l, k, v;
} sizes;

static sizes some_sizes(ops_program *g, int index, int64_t most_depth, double most) {
    sizes s = {ops_between(g, 1, 3), ops_between(g, 1, 4), some_length(g, index), some_width(g, most_depth),
               some_width(g, 140)};
    while ((double)(s.b * s.h * s.l * s.k) * (double)s.v > (s.l > 1000 ? 2 * most : most)) {
        if (s.b > 1 + (s.l > 1000))
            s.b--;
        else if (s.h > 2)
            s.h--;
        else if (s.v > s.k)
            s.v = (s.v + 1) / 2;
        else
            s.k = (s.k + 1) / 2;
    }
    return s;
}

static void finish(ops_program *g, uint32_t op, const void *params, size_t bytes, uint32_t n, const int *in, int out, int rank,
                   const int64_t *state) {
    ops_node *node = ops_add_node(g, op, params, bytes, n, in, out);
    if (ops_between(g, 0, 2)) node->second = ops_add(g, F32, rank, state, OPS_OUTPUT);
}

static void ssd_of_sizes(ops_program *g, sizes s, bool rounded) {
    int64_t groups = s.h % 2 == 0 && ops_between(g, 0, 1) ? 2 : ops_between(g, 0, 1) ? s.h : 1, with = ops_between(g, 0, 31);
    int64_t x[3] = {s.b, s.l, s.h * s.v}, heads[3] = {s.b, s.l, s.h}, bc[3] = {s.b, s.l, groups * s.k},
            state[4] = {s.b, s.h, s.v, s.k};
    bool dt = with & 1, moving = ops_between(g, 0, 1);
    strand_op_ssd p = {.heads = s.h, .groups = groups, .softplus = dt && ops_between(g, 0, 1), .dt_min = 0,
                       .dt_max = ops_between(g, 0, 1) ? INFINITY : 1.0f};
    if (rounded) p.precision = STRAND_PRECISION_BF16, g->slack = 2000; /* factors that are rounded */
    double strongest = ops_between(g, 0, 3) ? -1 : -30;
    int in[8] = {ops_add(g, F32, 3, x, OPS_NORMAL),
                 moving ? in_range(g, 3, heads, strongest, 0) : in_range(g, 1, heads + 2, strongest, 0),
                 ops_add(g, F32, 3, bc, OPS_NORMAL), ops_add(g, F32, 3, bc, OPS_NORMAL), -1, -1, -1, -1};
    if (dt) in[4] = p.softplus ? ops_add(g, F32, 3, heads, OPS_NORMAL) : in_range(g, 3, heads, 0, 1.5);
    if (with & 2) in[5] = ops_vector(g, s.h);
    if (dt && (with & 4)) in[6] = ops_vector(g, s.h);
    if (with & 24) in[7] = ops_add(g, F32, 4, state, OPS_NORMAL);
    finish(g, STRAND_OP_SSD, &p, sizeof p, 8, in, ops_add(g, F32, 3, x, OPS_OUTPUT), 4, state);
    SAY("%lldx%lld tokens, %lld heads of %lldx%lld in %lld groups, a moves %d, optional %lld, softplus %u, precision %u",
        (long long)s.b, (long long)s.l, (long long)s.h, (long long)s.v, (long long)s.k, (long long)groups, moving,
        (long long)with, p.softplus, p.precision);
}

static void make_ssd(ops_program *g, int index) {
    ssd_of_sizes(g, some_sizes(g, index, 140, 1.2e6), false);
}

/* Heads as models have them, of which a backend may do chunks and parts of long sequences. */
static sizes model_sizes(ops_program *g, int index) {
    static const int64_t lengths[] = {33, 600, 64, 17, 1030}, depths[] = {64, 128, 16, 100}, widths[] = {64, 72, 16, 33};
    return (sizes){ops_between(g, 1, 2), ops_between(g, 1, 3), lengths[index % 5], depths[index % 4], widths[index % 4]};
}
static void make_ssd_heads(ops_program *g, int index) {
    ssd_of_sizes(g, model_sizes(g, index), index / 2 % 2);
}

static void gated_of_sizes(ops_program *g, sizes s) {
    int64_t k[3] = {s.b, s.l, s.h * s.k}, v[3] = {s.b, s.l, s.h * s.v}, state[4] = {s.b, s.h, s.k, s.v},
            with = ops_between(g, 0, 3);
    bool moving = ops_between(g, 0, 2);
    strand_op_gated_linear_attention p = {
        .heads = s.h, .log_w = ops_between(g, 0, 1), .scale = ops_between(g, 0, 1) ? 1.0f : 0.25f};
    double low = p.log_w ? (ops_between(g, 0, 3) ? -1 : -40) : 0, high = p.log_w ? 0 : 1;
    int in[6] = {ops_add(g, F32, 3, k, OPS_NORMAL), ops_add(g, F32, 3, k, OPS_NORMAL), ops_add(g, F32, 3, v, OPS_NORMAL),
                 moving ? in_range(g, 3, k, low, high) : in_range(g, 1, k + 2, low, high), -1, -1};
    if (with & 1) in[4] = ops_vector(g, s.h * s.k);
    if (with & 2) in[5] = ops_add(g, F32, 4, state, OPS_NORMAL);
    /* A fixed decay near 1 carries the rounding of its exponential, an ulp of 2^-24, on for all tokens (4e-6 is allowed). */
    if (p.log_w && !moving) g->slack = 1 + (double)s.l * 0x1p-24 / 4e-6;
    finish(g, STRAND_OP_GATED_LINEAR_ATTENTION, &p, sizeof p, 6, in, ops_add(g, F32, 3, v, OPS_OUTPUT), 4, state);
    SAY("%lldx%lld tokens, %lld heads of %lldx%lld, w moves %d, logarithms %u, optional %lld", (long long)s.b, (long long)s.l,
        (long long)s.h, (long long)s.k, (long long)s.v, moving, p.log_w, (long long)with);
}

static void make_gated_linear_attention(ops_program *g, int index) {
    gated_of_sizes(g, some_sizes(g, index, 140, 1.2e6));
}
static void make_gated_heads(ops_program *g, int index) {
    gated_of_sizes(g, model_sizes(g, index));
}

/* a = -kappa and b = kappa rate with |kappa| = 1 and rate in (0, 1), which keeps the transition a contraction. */
static void fill_ab(ops_program *g, int a, int b, const sizes *s) {
    for (int64_t row = 0; row < s->b * s->l * s->h; row++) {
        double kappa[160], norm = 0;
        for (int64_t i = 0; i < s->k; i++) {
            kappa[i] = uniform(g, -1, 1);
            norm += kappa[i] * kappa[i];
        }
        for (int64_t i = 0; i < s->k; i++) {
            double x = kappa[i] / sqrt(norm + 1e-12);
            float minus = (float)-x, rate = (float)(x * uniform(g, 0, 1));
            memcpy(g->tensors[a].start + ops_place(&g->tensors[a], &g->tensors[a].view, row * s->k + i), &minus, sizeof minus);
            memcpy(g->tensors[b].start + ops_place(&g->tensors[b], &g->tensors[b].view, row * s->k + i), &rate, sizeof rate);
        }
    }
}

static void delta_of_sizes(ops_program *g, sizes s) {
    int64_t k[3] = {s.b, s.l, s.h * s.k}, v[3] = {s.b, s.l, s.h * s.v}, state[4] = {s.b, s.h, s.v, s.k};
    strand_op_delta_rule p = {.heads = s.h, .log_w = ops_between(g, 0, 1), .scale = ops_between(g, 0, 1) ? 1.0f : 0.125f};
    bool strong = !ops_between(g, 0, 3); /* beyond RWKV-7's e^-0.61 */
    double low = p.log_w ? (strong ? -40 : -0.61) : strong ? 0 : 0.5, high = p.log_w ? 0 : 1;
    int in[7] = {ops_add(g, F32, 3, k, OPS_NORMAL), in_range(g, 3, k, low, high), ops_add(g, F32, 3, k, OPS_NORMAL),
                 ops_add(g, F32, 3, v, OPS_NORMAL), ops_add(g, F32, 3, k, OPS_OUTPUT), ops_add(g, F32, 3, k, OPS_OUTPUT), -1};
    fill_ab(g, in[4], in[5], &s);
    bool with = ops_between(g, 0, 1);
    if (with) in[6] = ops_add(g, F32, 4, state, OPS_NORMAL);
    finish(g, STRAND_OP_DELTA_RULE, &p, sizeof p, 7, in, ops_add(g, F32, 3, v, OPS_OUTPUT), 4, state);
    SAY("%lldx%lld tokens, %lld heads of %lldx%lld, logarithms %u, state %d", (long long)s.b, (long long)s.l, (long long)s.h,
        (long long)s.k, (long long)s.v, p.log_w, with);
}

static void make_delta_rule(ops_program *g, int index) {
    delta_of_sizes(g, some_sizes(g, index, 140, 1.2e6));
}

static void make_delta_heads(ops_program *g, int index) {
    delta_of_sizes(g, model_sizes(g, index));
}

/* Lengths about those that a backend may cut in parts, and (last) so many heads that it does so in two runs of chunks. */
static void make_delta_parts(ops_program *g, int index) {
    static const sizes all[] = {{1, 1, 767, 16, 8},  {1, 1, 736, 64, 16},  {1, 1, 769, 33, 72}, {1, 1, 800, 128, 16},
                                {1, 2, 1100, 9, 20}, {2, 1, 1030, 72, 24}, {1, 40, 1500, 9, 8}};
    delta_of_sizes(g, all[index % 7]);
}

/* The commonest heads, of every length about a block. */
static void make_delta_rule_64(ops_program *g, int index) {
    int64_t length = index < 12 ? index + 1 : ops_between(g, 1, 70);
    delta_of_sizes(g, (sizes){1 + index % 2, ops_between(g, 1, 3), length, 64, 64});
}

/* Normalised sums must stay away from 0: positive queries and keys, and a state that is positive in Z. The Taylor kernel is at
 * least 1/2 by itself. */
static void linear_of_sizes(ops_program *g, sizes s, uint32_t feature) {
    strand_op_linear_attention p = {.feature = feature, .normalise = ops_between(g, 0, 2) > 0, .eps = 1e-6f};
    bool taylor = p.feature == STRAND_FEATURE_TAYLOR2, with = ops_between(g, 0, 1);
    p.heads = s.h;
    int64_t features = taylor ? 1 + s.k + s.k * s.k : s.k;
    int64_t k[3] = {s.b, s.l, s.h * s.k}, v[3] = {s.b, s.l, s.h * s.v}, state[4] = {s.b, s.h, features, s.v + 1};
    double low = p.feature == STRAND_FEATURE_IDENTITY || p.feature == STRAND_FEATURE_RELU ? 0.05 : -1.5;
    int in[4] = {in_range(g, 3, k, low, 2), in_range(g, 3, k, low, 2), ops_add(g, F32, 3, v, OPS_NORMAL), -1};
    if (with)
        in[3] = taylor && p.normalise ? in_range(g, 4, state, 0.02, 0.05) : in_range(g, 4, state, p.normalise ? 0 : -1, 1);
    if (with && taylor && p.normalise) { /* 1 times a large count outweighs what random features may subtract */
        ops_tensor *t = &g->tensors[in[3]];
        for (int64_t head = 0; head < s.b * s.h; head++) {
            float count = 100;
            memcpy(t->start + ops_place(t, &t->view, head * features * (s.v + 1) + s.v), &count, sizeof count);
        }
    }
    finish(g, STRAND_OP_LINEAR_ATTENTION, &p, sizeof p, 4, in, ops_add(g, F32, 3, v, OPS_OUTPUT), 4, state);
    SAY("%lldx%lld tokens, %lld heads of %lldx%lld, feature %u, normalise %u, state %d", (long long)s.b, (long long)s.l,
        (long long)s.h, (long long)s.k, (long long)s.v, p.feature, p.normalise, with);
}

static void make_linear_attention(ops_program *g, int index) {
    const uint32_t feature = (uint32_t)(index % 4);
    bool taylor = feature == STRAND_FEATURE_TAYLOR2;
    linear_of_sizes(g, some_sizes(g, index, taylor ? 17 : 140, taylor ? 4e4 : 6e5), feature);
}

/* So many heads that a backend which does chunks of all of them at a time has to go through a sequence in several pieces: on the
 * GPU two or three chunks at a time, of seven. */
static void make_huge_states(ops_program *g, int index) {
    if (index % 3 == 0) gated_of_sizes(g, (sizes){1, 230, 440, 128, 16});
    if (index % 3 == 1) delta_of_sizes(g, (sizes){1, 76, 440, 128, 16});
    if (index % 3 == 2) linear_of_sizes(g, (sizes){1, 230, 440, 128, 16}, STRAND_FEATURE_ELU1);
}

static void make_wkv4(ops_program *g, int index) {
    int64_t x[3] = {ops_between(g, 1, 3), some_length(g, index), ops_extent(g, 150)}, state[3] = {x[0], 3, x[2]}, c = x[2];
    bool wide = ops_between(g, 0, 2) == 0, with = ops_between(g, 0, 1);
    int in[5] = {wide ? in_range(g, 3, x, -30, 30) : ops_add(g, F32, 3, x, OPS_NORMAL), ops_add(g, F32, 3, x, OPS_NORMAL),
                 in_range(g, 1, &c, ops_between(g, 0, 1) ? -3 : -0.01, 0), ops_vector(g, c), -1};
    if (with) {
        in[4] = in_range(g, 3, state, 0.1, 2);
        for (int64_t b = 0; b < x[0]; b++) /* fresh: as a sequence begins */
            for (int64_t i = 0; i < c; i++) {
                float fresh[3] = {0, 0, -1e30f};
                for (int r = 0; r < 3 && i % 5 == 0; r++)
                    memcpy(g->tensors[in[4]].start +
                               ops_place(&g->tensors[in[4]], &g->tensors[in[4]].view, (b * 3 + r) * c + i),
                           &fresh[r], sizeof fresh[r]);
            }
    }
    finish(g, STRAND_OP_WKV4, NULL, 0, 5, in, ops_add(g, F32, 3, x, OPS_OUTPUT), 3, state);
    SAY("%lldx%lldx%lld, wide %d, state %d", (long long)x[0], (long long)x[1], (long long)x[2], wide, with);
}

static void make_token_shift(ops_program *g, int index) {
    int64_t x[3] = {ops_between(g, 1, 3), some_length(g, index), ops_extent(g, 300)}, state[2] = {x[0], x[2]},
            with = ops_between(g, 0, 3);
    strand_op_token_shift p = {.form = (uint32_t)(index & 1)};
    int in[3] = {ops_add(g, F32, 3, x, OPS_NORMAL), with & 1 ? ops_vector(g, x[2]) : -1,
                 with & 2 ? ops_add(g, F32, 2, state, OPS_NORMAL) : -1};
    finish(g, STRAND_OP_TOKEN_SHIFT, &p, sizeof p, 3, in, ops_add(g, F32, 3, x, OPS_OUTPUT), 2, state);
    SAY("%lldx%lldx%lld, form %u, optional %lld", (long long)x[0], (long long)x[1], (long long)x[2], p.form, (long long)with);
}

OPS_CASES(matrix_state,
    {"ssd", make_ssd, false},
    {"ssd_heads", make_ssd_heads, false},
    {"gated_linear_attention", make_gated_linear_attention, false},
    {"gated_heads", make_gated_heads, false},
    {"delta_rule", make_delta_rule, false},
    {"delta_heads", make_delta_heads, false},
    {"delta_parts", make_delta_parts, false},
    {"delta_rule_64", make_delta_rule_64, false},
    {"linear_attention", make_linear_attention, false},
    {"huge_states", make_huge_states, false},
    {"wkv4", make_wkv4, false},
    {"token_shift", make_token_shift, false});

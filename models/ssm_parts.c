/* ssm_parts.c - see ssm.h: names, small parts, complex tensors. All of the complex arithmetic is on weights, so the planner
 * makes its results once and keeps them. */
#include "ssm.h"

#include <string.h>

#include "dtype.h"

/* ---- names and results ---- */

const char *ssm_key(ssm *s, const char *part) {
    return graph_name(s->b.g, "%s%s", s->prefix, part);
}

bool ssm_has(ssm *s, const char *part) {
    return build_has(&s->b, ssm_key(s, part));
}

int64_t ssm_extent(ssm *s, const char *part, int axis) {
    return build_extent(&s->b, ssm_key(s, part), axis);
}

void ssm_offer(ssm *s, const char *name, tensor_id x) {
    if (!x || build_failed(&s->b)) return;
    if (s->n_results == s->result_room) {
        uint32_t more = s->result_room ? 2 * s->result_room : SSM_MAX_RESULTS;
        ssm_result *r = ARENA_ARRAY(s->b.g->arena, ssm_result, more);
        if (!r) {
            error_set(s->b.e, STRAND_ERR_MEMORY, "out of memory while loading");
            return;
        }
        if (s->n_results) memcpy(r, s->results, s->n_results * sizeof *r);
        s->results = r;
        s->result_room = more;
    }
    const char *full = s->stack ? graph_name(s->b.g, "layers.%lld.%s", (long long)s->b.layer, name) : name;
    s->results[s->n_results++] = (ssm_result){full, x};
}

const char *ssm_config_text(const ssm *s, const char *key, const char *fallback) {
    return s->b.config->root ? json_text(s->b.config->root, key, fallback) : fallback;
}

bool ssm_config_bool(const ssm *s, const char *key, bool fallback) {
    const json *v = arrange_member(s->b.config->root, key);
    return v && (v->type == JSON_BOOL || v->type == JSON_NUMBER) ? v->number != 0 : fallback;
}

/* ---- small parts ---- */

uint32_t ssm_activation(ssm *s, const char *key, const char *fallback) {
    static const char *const names[] = {"identity", "id",      "none", "linear", "gelu", "gelu_tanh", "silu",
                                        "swish",    "sigmoid", "tanh", "relu",   "elu",  "softplus",  NULL};
    static const uint32_t kinds[] = {
        STRAND_UNARY_IDENTITY,  STRAND_UNARY_IDENTITY, STRAND_UNARY_IDENTITY, STRAND_UNARY_IDENTITY, STRAND_UNARY_GELU,
        STRAND_UNARY_GELU_TANH, STRAND_UNARY_SILU,     STRAND_UNARY_SILU,     STRAND_UNARY_SIGMOID,  STRAND_UNARY_TANH,
        STRAND_UNARY_RELU,      STRAND_UNARY_ELU,      STRAND_UNARY_SOFTPLUS};
    int i = arrange_choice(&s->b, key, ssm_config_text(s, key, fallback), names);
    uint32_t kind = i < 0 ? STRAND_UNARY_IDENTITY : kinds[i];
    return kind == STRAND_UNARY_GELU && !strcmp(ssm_config_text(s, "gelu", "erf"), "tanh") ? STRAND_UNARY_GELU_TANH : kind;
}

tensor_id ssm_activate(ssm *s, const char *name, uint32_t kind, tensor_id x) {
    return kind ? build_unary(&s->b, ssm_key(s, name), kind, x, kind == STRAND_UNARY_ELU ? 1.0f : 0, 0) : x;
}

/* "PART" or "PART.0", whichever has a weight; NULL where neither has one. */
static const char *linear_name(ssm *s, const char *part, bool *plain) {
    const char *name = ssm_key(s, part), *inner = graph_name(s->b.g, "%s.0", name);
    *plain = build_has(&s->b, graph_name(s->b.g, "%s.kernel", name));
    if (*plain || build_has(&s->b, graph_name(s->b.g, "%s.weight", name))) return name;
    return build_has(&s->b, graph_name(s->b.g, "%s.weight", inner)) ? inner : NULL;
}

int64_t ssm_linear_rows(ssm *s, const char *part) {
    bool plain;
    const char *name = linear_name(s, part, &plain);
    return name ? build_extent(&s->b, graph_name(s->b.g, plain ? "%s.kernel" : "%s.weight", name), plain) : 0;
}

tensor_id ssm_linear(ssm *s, const char *part, tensor_id x, int64_t rows, int64_t columns) {
    bool plain = false;
    const char *name = linear_name(s, part, &plain);
    if (!plain) return build_linear(&s->b, name ? name : ssm_key(s, part), x, rows, columns, STRAND_UNARY_IDENTITY);
    tensor_id w = build_matrix(&s->b, graph_name(s->b.g, "%s.kernel", name), columns, rows);
    return build_product_plain(&s->b, name, x, w, build_vector_if(&s->b, graph_name(s->b.g, "%s.bias", name), rows),
                               STRAND_UNARY_IDENTITY);
}

tensor_id ssm_per_channel(ssm *s, const char *part, tensor_id x, int64_t n) {
    return arrange_reshape(&s->b, ssm_key(s, part), x, 3, (op_dim[]){DIM(1), DIM(1), DIM(n)});
}

tensor_id ssm_glu(ssm *s, const char *name, tensor_id x) {
    strand_op_glu p = {.activation = STRAND_UNARY_SIGMOID, .gate_second = 1};
    return build_failed(&s->b) ? 0 : graph_op(s->b.g, build_name(&s->b, ssm_key(s, name)), STRAND_OP_GLU, &p, &x, 1, NULL);
}

tensor_id ssm_state(ssm *s, const char *part, int rank, const op_dim *dims) {
    if (!s->recurrent || !s->one_way || build_failed(&s->b)) return 0;
    return graph_state(s->b.g, build_name(&s->b, graph_name(s->b.g, "%s%s.state", s->prefix, part)), STRAND_F32, rank, dims);
}

tensor_id ssm_with_state(ssm *s, const char *part, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                         tensor_id *after) {
    if (build_failed(&s->b)) return 0;
    tensor_id before = inputs[n - 1], next = 0;
    tensor_id y =
        graph_op2(s->b.g, build_name(&s->b, ssm_key(s, part)), op, params, inputs, n, NULL, before || after ? &next : NULL);
    if (before) graph_state_next(s->b.g, before, next);
    if (after) *after = next;
    return y;
}

/* ---- pairs ---- */

tensor_id ssm_re(ssm *s, tensor_id x) {
    return arrange_slice(&s->b, "re", x, -1, 0, 1);
}

tensor_id ssm_im(ssm *s, tensor_id x) {
    return arrange_slice(&s->b, "im", x, -1, 1, 1);
}

tensor_id ssm_pair(ssm *s, const char *part, tensor_id re, tensor_id im) {
    return arrange_concat(&s->b, ssm_key(s, part), -1, (tensor_id[]){re, im}, 2);
}

tensor_id ssm_pair_mul(ssm *s, const char *part, tensor_id x, tensor_id y) {
    builder *b = &s->b;
    const char *name = ssm_key(s, part);
    tensor_id xr = ssm_re(s, x), xi = ssm_im(s, x), yr = ssm_re(s, y), yi = ssm_im(s, y);
    tensor_id re = build_binary(b, name, STRAND_BINARY_SUB, build_mul(b, name, xr, yr), build_mul(b, name, xi, yi));
    return ssm_pair(s, part, re, build_add(b, name, build_mul(b, name, xr, yi), build_mul(b, name, xi, yr)));
}

static tensor_id unary(ssm *s, const char *name, uint32_t kind, tensor_id x) {
    return build_unary(&s->b, name, kind, x, 0, 0);
}

tensor_id ssm_pair_exp(ssm *s, const char *part, tensor_id x) {
    const char *name = ssm_key(s, part);
    tensor_id r = unary(s, name, STRAND_UNARY_EXP, ssm_re(s, x)), angle = ssm_im(s, x);
    return ssm_pair(s, part, build_mul(&s->b, name, r, unary(s, name, STRAND_UNARY_COS, angle)),
                    build_mul(&s->b, name, r, unary(s, name, STRAND_UNARY_SIN, angle)));
}

tensor_id ssm_pair_reciprocal(ssm *s, const char *part, tensor_id x, float least) {
    builder *b = &s->b;
    const char *name = ssm_key(s, part);
    tensor_id re = ssm_re(s, x), im = ssm_im(s, x);
    tensor_id square = build_add(b, name, unary(s, name, STRAND_UNARY_SQUARE, re), unary(s, name, STRAND_UNARY_SQUARE, im));
    square = build_unary(b, name, STRAND_UNARY_CLAMP, square, least, 3e38f);
    re = build_binary(b, name, STRAND_BINARY_DIV, re, square);
    return ssm_pair(s, part, re, unary(s, name, STRAND_UNARY_NEG, build_binary(b, name, STRAND_BINARY_DIV, im, square)));
}

/* ---- systems of one input and one output ---- */

static tensor_id rows(ssm *s, tensor_id x, int64_t first, int64_t n, int64_t all) {
    return !x || n == all ? x : arrange_slice(&s->b, "rows", x, 0, first, n);
}

tensor_id ssm_filters(ssm *s, const ssm_system *k) {
    builder *b = &s->b;
    int64_t systems = k->channels * k->h * (k->bidirectional ? 2 : 1);
    const char *name = build_name(b, ssm_key(s, "filter"));
    op_shape shape = {STRAND_F32, 2, {DIM(systems), k->taps ? DIM(k->taps) : s->length}};
    if (build_failed(b)) return 0;
    if (k->matrix) return ssm_dense_filters(s, k);
    if (k->nplr) {
        strand_op_ssm_kernel_nplr p = {.length = k->length};
        return graph_op(b->g, name, STRAND_OP_SSM_KERNEL_NPLR, &p, (tensor_id[]){k->poles, k->p, k->b, k->c, k->dt}, 5, &shape);
    }
    strand_op_ssm_kernel_diagonal p = {.log_poles = k->log_poles, .normalise = k->normalise, .scale = k->scale, .eps = k->eps};
    return graph_op(b->g, name, STRAND_OP_SSM_KERNEL_DIAGONAL, &p, (tensor_id[]){k->poles, k->coefficients}, 2, &shape);
}

static tensor_id by_convolution(ssm *s, const ssm_system *k, tensor_id u) {
    builder *b = &s->b;
    int64_t one_way = k->channels * k->h, systems = one_way * (k->bidirectional ? 2 : 1);
    tensor_id filters = ssm_filters(s, k), back = 0;
    op_dim taps = k->taps ? DIM(k->taps) : s->length;
    int64_t of_kernel = systems / k->h;
    ssm_offer(s, "kernel",
              k->from_zero || k->real
                  ? filters
                  : arrange_reshape(b, ssm_key(s, "kernel"), filters, 3, (op_dim[]){DIM(of_kernel), DIM(k->h), taps}));
    if (k->bidirectional) back = rows(s, filters, one_way, one_way, systems);
    u = arrange_repeat(b, ssm_key(s, "input"), arrange_turn(b, ssm_key(s, "input"), u), 1, k->channels, false);
    strand_op_long_conv p = {.flags = k->bidirectional && k->from_zero ? STRAND_LONG_CONV_BACK_FROM_ZERO : 0};
    if (build_failed(b)) return 0;
    tensor_id in[6] = {u, rows(s, filters, 0, one_way, systems), k->skip, 0, 0, back};
    tensor_id y = graph_op(b->g, build_name(b, ssm_key(s, "convolution")), STRAND_OP_LONG_CONV, &p, in, 6, NULL);
    return arrange_turn(b, ssm_key(s, "convolution"), y);
}

typedef struct scan_inputs {
    tensor_id poles, p, q, in, out; /* poles: the matrix of a dense system */
} scan_inputs;

/* One direction. */
static tensor_id scan(ssm *s, const ssm_system *k, const scan_inputs *f, tensor_id u, tensor_id skip, tensor_id state,
                      tensor_id *after) {
    if (k->matrix) return ssm_dense_scan(s, u, f->poles, f->in, f->out, skip, state, after);
    if (k->nplr) {
        strand_op_dplr_scan p = {.scale = k->scale};
        return ssm_with_state(s, "scan", STRAND_OP_DPLR_SCAN, &p,
                              (tensor_id[]){u, f->poles, f->p, f->q, f->in, f->out, skip, state}, 8, after);
    }
    strand_op_lti_scan p = {.scale = k->scale};
    return ssm_with_state(s, "scan", STRAND_OP_LTI_SCAN, &p, (tensor_id[]){u, f->poles, f->in, f->out, skip, state}, 6, after);
}

/* Part i of the five that SSM_DISCRETIZE_NPLR makes. */
static tensor_id nplr_part(ssm *s, tensor_id all, int64_t i, int64_t systems, int64_t states) {
    return arrange_reshape(&s->b, "part", arrange_slice(&s->b, "part", all, 0, i, 1), 3,
                           (op_dim[]){DIM(systems), DIM(states), DIM(2)});
}

static scan_inputs scan_of(ssm *s, const ssm_system *k, int64_t systems) {
    builder *b = &s->b;
    if (k->matrix) return (scan_inputs){.poles = k->matrix, .in = k->drive, .out = k->read};
    if (!k->nplr) {
        tensor_id out = k->out ? k->out : k->folded ? k->folded : k->coefficients;
        if (k->normalise && !k->folded)
            build_refuse(
                b,
                "mode=recurrence: these filters are normalised over their length, which is not known; give --set l_max=NUMBER");
        return (scan_inputs){.poles = k->log_poles ? ssm_pair_exp(s, "poles", k->poles) : k->poles, .in = k->in, .out = out};
    }
    strand_op_ssm_discretize_nplr p = {.length = k->length};
    if (build_failed(b)) return (scan_inputs){0};
    tensor_id all = graph_op(b->g, build_name(b, ssm_key(s, "discrete")), STRAND_OP_SSM_DISCRETIZE_NPLR, &p,
                             (tensor_id[]){k->poles, k->p, k->b, k->c, k->dt}, 5, NULL);
    tensor_id t[5];
    for (int i = 0; i < 5; i++) t[i] = nplr_part(s, all, i, systems, k->states);
    return (scan_inputs){t[0], t[1], t[2], t[3], t[4]};
}

static scan_inputs part_of(ssm *s, const scan_inputs *all, int64_t first, int64_t n, int64_t systems) {
    bool shared = !build_failed(&s->b) && s->b.g->tensors[all->poles].shape.dims[0].size == 1;
    return (scan_inputs){shared ? all->poles : rows(s, all->poles, first, n, systems), rows(s, all->p, first, n, systems),
                         rows(s, all->q, first, n, systems), rows(s, all->in, first, n, systems),
                         rows(s, all->out, first, n, systems)};
}

static tensor_id by_recurrence(ssm *s, const ssm_system *k, tensor_id u) {
    builder *b = &s->b;
    int64_t one_way = k->channels * k->h, systems = one_way * (k->bidirectional ? 2 : 1);
    if (k->taps) build_refuse(b, "mode=recurrence: a filter that is cut short has no recurrence; use mode=conv");
    scan_inputs all = scan_of(s, k, systems), f = part_of(s, &all, 0, one_way, systems);
    tensor_id last = 0, state = 0;
    u = arrange_repeat(b, ssm_key(s, "input"), u, 2, k->channels, false);
    op_dim dims[4] = {DIM_B, DIM(one_way), DIM(k->matrix ? 2 * k->states : k->states), DIM(2)};
    if (!k->bidirectional) state = ssm_state(s, "scan", k->real || k->matrix ? 3 : 4, dims);
    tensor_id y = scan(s, k, &f, u, k->skip, state, &last);
    if (!k->bidirectional) {
        if (k->matrix)
            last = arrange_reshape(b, ssm_key(s, "last"), last, 4, (op_dim[]){DIM_B, DIM(one_way), DIM(k->states), DIM(2)});
        ssm_offer(s, "final_state", last);
        return y;
    }
    scan_inputs g = part_of(s, &all, one_way, one_way, systems);
    tensor_id back = scan(s, k, &g, arrange_flip(b, ssm_key(s, "back"), u, 1), 0, 0, NULL);
    strand_op_token_shift p = {0};
    if (!k->from_zero && !build_failed(b))
        back = graph_op(b->g, build_name(b, ssm_key(s, "back")), STRAND_OP_TOKEN_SHIFT, &p, &back, 1, NULL);
    return build_add(b, ssm_key(s, "scan"), y, arrange_flip(b, ssm_key(s, "back"), back, 1));
}

tensor_id ssm_apply(ssm *s, const ssm_system *k, tensor_id u) {
    if (build_failed(&s->b)) return 0;
    return s->recurrent ? by_recurrence(s, k, u) : by_convolution(s, k, u);
}

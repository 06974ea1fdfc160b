/* spacetime.c - SpaceTime: Zhang, Saab, Poli, Dao, Goel, Re, "Effectively Modeling Time Series with Simple Discrete State
 * Spaces", arXiv 2303.09489; repository HazyResearch/spacetime (checkpoints are {epoch, state_dict, ...} in .pth).
 *
 * Input `window` [batch, length, variables] in the units that the model was trained in (scaled by scaler_mean and
 * scaler_std, which are settings). Outputs `forecast` [batch, horizon, variables] in those units, `model_output` (before the
 * window's transform is undone), `encoder_output` [batch, length, d]; on request `model_input` (the transformed window) and
 * `state` [batch, d, kernel_dim]. Settings: mode, horizon (any), data_transform, lag, norm_order, input_dim; see
 * docs/models.md.
 *
 * In the graph's terms (A: ones below the diagonal, last column a; a normalised):
 *   encoder block:  fixed filters -> y = c A^t b * u + skip u, by convolution or step by step -> MLP
 *   decoder:        x = sum A^(L-1-i) b u_i, then y_h = c (A + b k)^h x: step by step, or (mode matrix) x and y by
 *                  matrices that are made once
 * In mode recurrence a session carries states on: a run continues the one before, with the transform that the first one
 * found. */
#include "spacetime.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const build_rename renames[] = {{"state_dict.", ""}, {"module.", ""}, {"model.", ""}, {NULL, NULL}};

static bool recognise(const weights *w, const json *config) {
    (void)config;
    return build_recognises(w, renames, "decoder.blocks.ssm.a") && build_recognises(w, renames, "decoder.blocks.ssm.k") &&
           build_recognises(w, renames, "encoder.blocks.0.ssm.a");
}

/* ---- small parts ---- */

/* In mode recurrence, what a session carries from run to run: [B, rows, columns]. */
static tensor_id carried(spacetime *s, const char *name, int64_t rows, int64_t columns) {
    if (s->mode != SPACETIME_RECURRENCE || build_failed(&s->b)) return 0;
    return graph_state(s->b.g, graph_name(s->b.g, "%s.state", build_name(&s->b, name)), STRAND_F32, 3,
                       (op_dim[]){DIM_B, DIM(rows), DIM(columns)});
}

/* An operator whose last input is its state, and whose second result the next one. */
static tensor_id with_state(spacetime *s, const char *name, uint32_t op, const void *params, const tensor_id *inputs,
                            uint32_t n, tensor_id *state) {
    if (build_failed(&s->b)) return 0;
    tensor_id before = inputs[n - 1], after = 0;
    tensor_id y = graph_op2(s->b.g, build_name(&s->b, name), op, params, inputs, n, NULL, before || state ? &after : NULL);
    if (before) graph_state_next(s->b.g, before, after);
    if (state) *state = after;
    return y;
}

static tensor_id short_conv(spacetime *s, const char *name, tensor_id x, tensor_id taps) {
    strand_op_short_conv p = {.flags = s->channels_first ? 0 : STRAND_SHORT_CONV_TOKEN_MAJOR};
    if (build_failed(&s->b)) return 0;
    int64_t before = s->b.g->tensors[taps].shape.dims[1].size - 1;
    return with_state(s, name, STRAND_OP_SHORT_CONV, &p, (tensor_id[]){x, taps, 0, before ? carried(s, name, before, s->d) : 0},
                      4, NULL);
}

/* x W^T + bias over the channels, wherever they stand. */
static tensor_id linear(spacetime *s, const char *name, bool channels_first, tensor_id x, int64_t rows, int64_t columns,
                        uint32_t activation) {
    char part[160];
    builder *b = &s->b;
    if (!channels_first) return build_linear(b, name, x, rows, columns, activation);
    snprintf(part, sizeof part, "%s.weight", name);
    tensor_id w = build_matrix(b, part, rows, columns);
    snprintf(part, sizeof part, "%s.bias", name);
    tensor_id bias = build_vector_if(b, part, rows);
    strand_op_matmul p = {.bias = bias ? STRAND_BIAS_ROWS : STRAND_BIAS_NONE, .activation = activation};
    return build_failed(b) ? 0 : graph_op(b->g, build_name(b, name), STRAND_OP_MATMUL, &p, (tensor_id[]){w, x, bias}, 3, NULL);
}

/* Rows divided by their norm; as published, only when the norms of all rows are 1e-4 in the mean. A row of zeros stays. */
static tensor_id normalised(spacetime *s, const char *name, int64_t order, tensor_id x) {
    builder *b = &s->b;
    const weights_tensor *w = build_find(b, name);
    double sum = 0;
    if (build_failed(b) || order < 1 || !w) return x;
    int64_t rows = w->dims[0], columns = w->dims[1];
    for (int64_t i = 0; i < rows; i++) {
        double norm = 0;
        for (int64_t j = 0; j < columns; j++)
            norm += order == 1 ? fabs(arrange_value(w, i * columns + j)) : pow(arrange_value(w, i * columns + j), 2);
        sum += order == 1 ? norm : sqrt(norm);
    }
    if (!isfinite(sum)) {
        build_refuse(b, "tensor '%.120s' is quantised or not finite: its norms are not known", w->name);
        return 0;
    }
    if (sum <= 1e-4 * (double)rows) return x;
    tensor_id norm = arrange_reduce(b, name, order == 1 ? STRAND_AXIS_L1 : STRAND_AXIS_L2, x, 1, true);
    norm = build_unary(b, name, STRAND_UNARY_CLAMP, norm, 1e-30f, 3e38f);
    return build_binary(b, name, STRAND_BINARY_DIV, x, norm);
}

/* ---- an encoder block ---- */

/* The stored filters, [kernels, taps] with the tap of the current input first, as [d, taps] with it last. */
static tensor_id as_taps(spacetime *s, const char *name, tensor_id kernels, int64_t n, int64_t repeat) {
    builder *b = &s->b;
    if (repeat < 1 || n < 1 || s->d % (n * repeat)) {
        build_refuse(b, "'%s': %lld filters do not divide %lld channels", build_name(b, name), (long long)n, (long long)s->d);
        return 0;
    }
    kernels = arrange_repeat(b, name, kernels, 0, s->d / (n * repeat), true);
    return arrange_flip(b, name, arrange_repeat(b, name, kernels, 0, repeat, false), 1);
}

/* Differences of several orders and what moving averages leave: in each of `repeat` groups first the former, then the
 * latter. */
static tensor_id residual_taps(spacetime *s) {
    builder *b = &s->b;
    const char *diff = "encoder.blocks.*.pre.diff_kernel", *average = "encoder.blocks.*.pre.ma_r_kernel";
    int64_t nd = build_extent(b, diff, 0), kd = build_extent(b, diff, 1), na = build_extent(b, average, 0),
            ka = build_extent(b, average, 1);
    int64_t repeat = kd > 0 ? nd / kd : 0, taps = kd > ka ? kd : ka;
    if (repeat < 1 || nd % kd || na < 1 || na % repeat || nd > s->d || na > s->d) {
        build_refuse(b, "block %lld: diff_kernel and ma_r_kernel are not [repeat * n, taps] each", (long long)b->layer);
        return 0;
    }
    tensor_id parts[2] = {build_f32(b, diff, 2, (int64_t[]){nd, kd}, false),
                          build_f32(b, average, 2, (int64_t[]){na, ka}, false)};
    parts[0] = arrange_reshape(b, diff, arrange_pad(b, diff, parts[0], 1, 0, taps - kd), 3,
                               (op_dim[]){DIM(repeat), DIM(nd / repeat), DIM(taps)});
    parts[1] = arrange_reshape(b, average, arrange_pad(b, average, parts[1], 1, 0, taps - ka), 3,
                               (op_dim[]){DIM(repeat), DIM(na / repeat), DIM(taps)});
    tensor_id all = arrange_concat(b, "encoder.blocks.*.pre.kernels", 1, parts, 2);
    all = arrange_reshape(b, "encoder.blocks.*.pre.kernels", all, 2, (op_dim[]){DIM(nd + na), DIM(taps)});
    return as_taps(s, "encoder.blocks.*.pre.kernels", all, nd + na, 1);
}

static tensor_id preprocess(spacetime *s, const spacetime_block *block, tensor_id u) {
    builder *b = &s->b;
    const char *kernel = "encoder.blocks.*.pre.kernel";
    int64_t n = build_extent(b, kernel, 0), taps = build_extent(b, kernel, 1);
    if (build_has(b, "encoder.blocks.*.pre.diff_kernel")) return short_conv(s, "encoder.blocks.*.pre", u, residual_taps(s));
    if (!build_has(b, kernel)) return u;
    int64_t repeat = block->pre_repeat ? block->pre_repeat : n > 0 ? s->d / (n * s->inputs) : 0;
    tensor_id kernels = build_f32(b, kernel, 2, (int64_t[]){n, taps}, false);
    return short_conv(s, "encoder.blocks.*.pre", u, as_taps(s, kernel, kernels, n, repeat));
}

typedef struct companion {
    tensor_id a, b, c, k;
    int64_t kernels, dim;
} companion;

/* a, b, c of a block; for the decoder k too, all but its own b normalised. */
static companion companion_of(spacetime *s, const char *prefix, const spacetime_block *block, bool closed,
                              tensor_id *closed_b) {
    char name[4][160];
    static const char letters[4] = {'a', 'b', 'c', 'k'};
    builder *b = &s->b;
    tensor_id t[4] = {0};
    for (int i = 0; i < 4; i++) snprintf(name[i], sizeof name[i], "%s.%c", prefix, letters[i]);
    companion r = {.kernels = build_extent(b, name[0], 0), .dim = build_extent(b, name[0], 1)};
    if (r.kernels < 1 || r.dim < 1 || r.dim > 4096 || s->d % r.kernels) {
        build_refuse(b, "'%s' is not [kernels, 1 to 4096] with kernels that divide %lld channels", build_name(b, name[0]),
                     (long long)s->d);
        return r;
    }
    for (int i = 0; i < (closed ? 4 : 3); i++) t[i] = build_f32(b, name[i], 2, (int64_t[]){r.kernels, r.dim}, false);
    r.a = normalised(s, name[0], block->norm_order, t[0]);
    r.b = t[1];
    r.c = closed ? normalised(s, name[2], block->norm_order, t[2]) : t[2];
    if (!closed) return r;
    *closed_b = normalised(s, name[1], block->norm_order, t[1]);
    /* as published: without norms b stands for k */
    r.k = block->norm_order > 0 ? normalised(s, name[3], block->norm_order, t[3]) : t[1];
    return r;
}

static tensor_id open_loop(spacetime *s, const spacetime_block *block, tensor_id z) {
    builder *b = &s->b;
    const char *name = "encoder.blocks.*.ssm";
    companion m = companion_of(s, name, block, false, NULL);
    tensor_id skip = block->skip_ssm ? build_vector(b, "encoder.blocks.*.ssm.skip", s->d) : 0;
    if (build_failed(b)) return 0;
    if (!s->channels_first) {
        strand_op_companion_scan p = {0};
        return with_state(s, name, STRAND_OP_COMPANION_SCAN, &p,
                          (tensor_id[]){m.a, m.b, m.c, z, 0, skip, carried(s, name, s->d, m.dim)}, 7, NULL);
    }
    op_shape shape = {STRAND_F32, 2, {DIM(m.kernels), DIM_L}};
    tensor_id filter = graph_op(b->g, build_name(b, "encoder.blocks.*.ssm.filter"), STRAND_OP_SSM_KERNEL_COMPANION, NULL,
                                (tensor_id[]){m.a, m.b, m.c}, 3, &shape);
    filter = arrange_repeat(b, "encoder.blocks.*.ssm.filter", filter, 0, s->d / m.kernels, true);
    strand_op_long_conv p = {0};
    return build_failed(b)
               ? 0
               : graph_op(b->g, build_name(b, name), STRAND_OP_LONG_CONV, &p, (tensor_id[]){z, filter, skip}, 3, NULL);
}

/* d: channels of x. */
static tensor_id mlp(spacetime *s, const char *prefix, const spacetime_mlp *m, bool channels_first, tensor_id x, int64_t d) {
    char name[160];
    builder *b = &s->b;
    if (!m->n) return x;
    if (m->norm) {
        snprintf(name, sizeof name, "%s.layernorm", prefix);
        if (channels_first) x = arrange_turn(b, name, x);
        x = build_layer_norm(b, name, x, d, 1e-5);
        if (channels_first) x = arrange_turn(b, name, x);
    }
    tensor_id y = x;
    for (int i = 0; i < m->n; i++) {
        if (m->linear[i] < 0) {
            snprintf(name, sizeof name, "%s.activation", prefix);
            y = m->activation ? build_unary(b, name, m->activation, y, 0, 0) : y;
            if (i == 0 && m->in_place) x = y;
            continue;
        }
        bool activate = i + 1 < m->n && m->linear[i + 1] < 0;
        snprintf(name, sizeof name, "%s.layers.%lld.weight", prefix, (long long)m->linear[i]);
        int64_t rows = build_extent(b, name, 0);
        name[strlen(name) - 7] = 0;
        y = linear(s, name, channels_first, y, rows, d, activate ? m->activation : STRAND_UNARY_IDENTITY);
        d = rows;
        i += activate;
    }
    if (!m->skip) return y;
    snprintf(name, sizeof name, "%s.add", prefix);
    return build_add(b, name, y, x);
}

static tensor_id encoder_block(spacetime *s, tensor_id u) {
    spacetime_block block;
    spacetime_block_of(s, s->b.layer, &block);
    tensor_id z = preprocess(s, &block, u);
    tensor_id y = mlp(s, "encoder.blocks.*.mlp", &block.mlp, s->channels_first, open_loop(s, &block, z), s->d);
    return block.skip ? build_add(&s->b, "encoder.blocks.*.add", y, block.skip_pre ? u : z) : y;
}

/* ---- the decoder ---- */

/* The unit vectors of a state, [dim, dim]. */
static tensor_id unit_states(spacetime *s, int64_t dim) {
    builder *b = &s->b;
    float *unit = build_failed(b) ? NULL : ARENA_ARRAY(b->g->arena, float, (size_t)(dim * dim));
    if (!unit) {
        if (!build_failed(b)) error_set(b->e, STRAND_ERR_MEMORY, "out of memory while loading");
        return 0;
    }
    for (int64_t i = 0; i < dim; i++) unit[i * dim + i] = 1;
    return graph_weight(b->g, "decoder.unit_states", STRAND_F32, 2, (op_dim[]){DIM(dim), DIM(dim)}, unit);
}

/* What every unit state becomes: [dim, horizon, d] -> [d, horizon, dim]. */
static tensor_id horizon_matrix(spacetime *s, const companion *m, tensor_id closed_b, tensor_id units) {
    builder *b = &s->b;
    tensor_id states = arrange_reshape(b, "decoder.unit_states", units, 3, (op_dim[]){DIM(m->dim), DIM(1), DIM(m->dim)});
    states = arrange_repeat(b, "decoder.unit_states", states, 1, s->d, false);
    strand_op_companion_scan p = {.closed = 1};
    op_shape shape = {STRAND_F32, 3, {DIM(m->dim), DIM(s->horizon), DIM(s->d)}};
    tensor_id rows = build_failed(b) ? 0
                                     : graph_op(b->g, "decoder.horizon", STRAND_OP_COMPANION_SCAN, &p,
                                                (tensor_id[]){m->a, closed_b, m->c, 0, m->k, 0, states}, 7, &shape);
    return arrange_permute(b, "decoder.horizon", rows, (uint32_t[]){2, 1, 0, 3});
}

/* What an input at every position leaves in the state after the last: A^(L - 1 - i) b, [d, dim, L]. */
static tensor_id window_matrix(spacetime *s, const companion *m, tensor_id units) {
    builder *b = &s->b;
    int64_t each = s->d / m->kernels * m->dim;
    tensor_id in[3] = {arrange_repeat(b, "decoder.window", m->a, 0, each, true),
                       arrange_repeat(b, "decoder.window", m->b, 0, each, true),
                       arrange_repeat(b, "decoder.window", units, 0, s->d, false)};
    op_shape shape = {STRAND_F32, 2, {DIM(s->d * m->dim), DIM_L}};
    tensor_id rows =
        build_failed(b) ? 0 : graph_op(b->g, "decoder.window", STRAND_OP_SSM_KERNEL_COMPANION, NULL, in, 3, &shape);
    return arrange_reshape(b, "decoder.window", arrange_flip(b, "decoder.window", rows, 1), 3,
                           (op_dim[]){DIM(s->d), DIM(m->dim), DIM_L});
}

/* x [d, B, columns] by a matrix [d, rows, columns] of each channel. */
static tensor_id by_channel(spacetime *s, const char *name, tensor_id x, tensor_id matrix) {
    strand_op_matmul p = {.transpose_b = 1};
    return build_failed(&s->b) ? 0 : graph_op(s->b.g, name, STRAND_OP_MATMUL, &p, (tensor_id[]){x, matrix}, 2, NULL);
}

/* z [B, d, L] -> [B, d, horizon], by two matrices of each channel that are made of weights alone. */
static tensor_id decoder_by_matrix(spacetime *s, const companion *m, tensor_id closed_b, tensor_id z) {
    builder *b = &s->b;
    tensor_id units = unit_states(s, m->dim);
    z = arrange_permute(b, "decoder.input", z, (uint32_t[]){1, 0, 2, 3});
    tensor_id state = by_channel(s, "decoder", z, window_matrix(s, m, units));
    s->state = arrange_permute(b, "decoder.state", state, (uint32_t[]){1, 0, 2, 3});
    return arrange_permute(b, "decoder.rollout", by_channel(s, "decoder.rollout", state, horizon_matrix(s, m, closed_b, units)),
                           (uint32_t[]){1, 0, 2, 3});
}

/* z [B, L, d] -> [B, horizon, d]; in mode matrix [B, d, L] -> [B, d, horizon] */
static tensor_id decoder(spacetime *s, tensor_id z) {
    builder *b = &s->b;
    spacetime_block block;
    tensor_id closed_b = 0, state = 0;
    spacetime_block_of(s, -1, &block);
    companion m = companion_of(s, "decoder.blocks.ssm", &block, true, &closed_b);
    if (s->mode == SPACETIME_MATRIX) return build_failed(b) ? 0 : decoder_by_matrix(s, &m, closed_b, z);
    strand_op_companion_scan open = {0}, closed = {.closed = 1};
    with_state(s, "decoder", STRAND_OP_COMPANION_SCAN, &open,
               (tensor_id[]){m.a, m.b, m.c, z, 0, 0, carried(s, "decoder", s->d, m.dim)}, 7, &state);
    s->state = state;
    op_shape shape = {STRAND_F32, 3, {DIM_B, DIM(s->horizon), DIM(s->d)}};
    return build_failed(b) ? 0
                           : graph_op(b->g, "decoder.rollout", STRAND_OP_COMPANION_SCAN, &closed,
                                      (tensor_id[]){m.a, closed_b, m.c, 0, m.k, 0, state}, 7, &shape);
}

/* ---- the window's transform ---- */

/* u = (window - shift) / scale; scale 0: none. [B, 1, inputs] */
typedef struct affine {
    tensor_id shift, scale;
} affine;

/* The deviation over the window by n - 1, as published; a constant window has one that is tiny instead of none. */
static tensor_id deviation(builder *b, tensor_id window, tensor_id mean) {
    tensor_id centred = build_binary(b, "transform.centred", STRAND_BINARY_SUB, window, mean);
    tensor_id norm = arrange_reduce(b, "transform.norm", STRAND_AXIS_L2, centred, 1, true);
    tensor_id one = build_unary(b, "transform.count", STRAND_UNARY_AFFINE, window, 0, 1);
    tensor_id less = build_unary(b, "transform.count", STRAND_UNARY_AFFINE,
                                 arrange_reduce(b, "transform.count", STRAND_AXIS_SUM, one, 1, true), 1, -1);
    less = build_unary(b, "transform.count", STRAND_UNARY_SQRT,
                       build_unary(b, "transform.count", STRAND_UNARY_CLAMP, less, 1, 3e38f), 0, 0);
    return build_unary(b, "transform.deviation", STRAND_UNARY_CLAMP,
                       build_binary(b, "transform.deviation", STRAND_BINARY_DIV, norm, less), 1e-12f, 3e38f);
}

/* found at the first run of a session, and then what it was there; `begun` is 0 and then 1. */
static tensor_id kept(spacetime *s, const char *name, tensor_id begun, tensor_id found) {
    builder *b = &s->b;
    tensor_id before = carried(s, name, 1, s->inputs);
    if (!before || !found) return found;
    tensor_id first = build_mul(b, name, build_unary(b, name, STRAND_UNARY_AFFINE, begun, -1, 1), found);
    tensor_id now = build_add(b, name, build_mul(b, name, begun, before), first);
    graph_state_next(b->g, before, now);
    return now;
}

static affine transform(spacetime *s, tensor_id window) {
    builder *b = &s->b;
    affine t = {0};
    if (s->transform == TRANSFORM_LAST) t.shift = arrange_slice(b, "transform.last", window, 1, -1, 1);
    if (s->transform == TRANSFORM_MEAN || s->transform == TRANSFORM_STANDARDIZE)
        t.shift = arrange_reduce(b, "transform.mean", STRAND_AXIS_MEAN, window, 1, true);
    if (s->transform == TRANSFORM_STANDARDIZE) t.scale = deviation(b, window, t.shift);
    tensor_id begun = s->transform == TRANSFORM_NONE ? 0 : carried(s, "transform.begun", 1, 1);
    if (!begun) return t;
    graph_state_next(b->g, begun, build_unary(b, "transform.begun", STRAND_UNARY_AFFINE, begun, 0, 1));
    t.shift = kept(s, "transform.shift", begun, t.shift);
    if (t.scale) t.scale = kept(s, "transform.scale", begun, t.scale);
    return t;
}

static tensor_id forwards(spacetime *s, const affine *t, tensor_id x) {
    if (t->shift) x = build_binary(&s->b, "model_input", STRAND_BINARY_SUB, x, t->shift);
    return t->scale ? build_binary(&s->b, "model_input", STRAND_BINARY_DIV, x, t->scale) : x;
}

/* Fewer outputs than inputs are the last ones: the published data sets put their targets there. */
static tensor_id backwards(spacetime *s, const affine *t, tensor_id y) {
    builder *b = &s->b;
    tensor_id shift = t->shift, scale = t->scale;
    if (shift && s->outputs < s->inputs) shift = arrange_slice(b, "transform.shift", shift, 2, -s->outputs, s->outputs);
    if (scale && s->outputs < s->inputs) scale = arrange_slice(b, "transform.scale", scale, 2, -s->outputs, s->outputs);
    if (scale) y = build_mul(b, "forecast", y, scale);
    return shift ? build_add(b, "forecast", y, shift) : y;
}

/* ---- the whole ---- */

/* The inputs repeated, "(r d)", or a linear layer. */
static tensor_id embedding(spacetime *s, tensor_id u) {
    builder *b = &s->b;
    if (build_has(b, "embedding.layers.weight"))
        return linear(s, "embedding.layers", s->channels_first, u, s->d, s->inputs, STRAND_UNARY_IDENTITY);
    return arrange_repeat(b, "embedding", u, s->channels_first ? 1 : 2, s->d / s->inputs, false);
}

static strand_status build(strand_model *m, const model_config *config, error *e) {
    spacetime s = {0};
    builder *b = &s.b;
    spacetime_mlp out;
    if (build_start(b, m, config, e, renames) || spacetime_configure(&s)) return e->status;
    tensor_id window = graph_input(b->g, "window", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(s.inputs)});
    affine t = transform(&s, window);
    tensor_id input = forwards(&s, &t, window), z = input;
    if (s.channels_first) z = arrange_turn(b, "model_input", z);
    z = embedding(&s, z);
    for (b->layer = 0; b->layer < s.blocks && !build_failed(b); b->layer++) z = encoder_block(&s, z);
    tensor_id tokens = s.channels_first ? arrange_turn(b, "encoder_output", z) : z;
    tensor_id y = decoder(&s, s.mode == SPACETIME_MATRIX ? z : tokens);
    spacetime_output_of(&s, &out);
    y = mlp(&s, "output", &out, s.mode == SPACETIME_MATRIX, y, s.d);
    if (s.mode == SPACETIME_MATRIX) y = arrange_turn(b, "model_output", y);
    if (build_failed(b)) return e->status;
    graph_output_add(b->g, "forecast", backwards(&s, &t, y));
    graph_output_add(b->g, "model_output", y);
    graph_output_add(b->g, "encoder_output", tokens);
    graph_output_on_request(b->g, "state", s.state);
    if (input != window) graph_output_on_request(b->g, "model_input", input);
    m->max_length = (int64_t)1 << 24;
    m->window = s.lag;
    return e->status;
}

const family family_spacetime = {"spacetime", recognise, build, spacetime_settings};

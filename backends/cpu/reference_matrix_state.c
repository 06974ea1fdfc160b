/* reference_matrix_state.c - the recurrences with a matrix for each head, token by token as their definitions say, in double
 * precision: one column of values after another, with its part of the state as a vector. TOKEN_SHIFT and WKV4 besides. */
#include "reference.h"

/* Element of [B, L, channels], or of a vector over channels: batch entry and token count from y's, the channel from the
 * whole's. */
static double at(const strand_plugin_node *node, uint32_t i, int64_t b, int64_t t, int64_t channel) {
    const strand_plugin_tensor *in = &node->inputs[i];
    if (in->rank == 1) return get(in, (channel - in->origin[0]) * in->strides[0]);
    return get(in, (b + node->outputs[0].origin[0] - in->origin[0]) * in->strides[0] + t * in->strides[1] +
                       (channel - in->origin[2]) * in->strides[2]);
}

/* Element [b, h, row, column] of the state that came in, 0 without one. */
static double state_at(const strand_plugin_node *node, uint32_t i, int64_t b, int64_t h, int64_t row, int64_t column) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (!in) return 0;
    return get(in, (b + node->outputs[0].origin[0] - in->origin[0]) * in->strides[0] + h * in->strides[1] +
                       row * in->strides[2] + column * in->strides[3]);
}

static void put_state(const strand_plugin_node *node, int64_t b, int64_t h, int64_t row, int64_t column, double value) {
    const strand_plugin_tensor *out = &node->outputs[1];
    if (node->n_outputs > 1)
        put(out, b * out->strides[0] + h * out->strides[1] + row * out->strides[2] + column * out->strides[3], value);
}

static void put_y(const strand_plugin_node *node, int64_t b, int64_t t, int64_t channel, double value) {
    const strand_plugin_tensor *out = &node->outputs[0];
    put(out, b * out->strides[0] + t * out->strides[1] + (channel - out->origin[2]) * out->strides[2], value);
}

/* A column: batch entry b, head h, value v of `width`, which is channel h width + v. */
typedef struct column {
    int64_t b, h, v, width, channel;
    double *s; /* room for its part of the state */
} column;

typedef void (*column_body)(const strand_plugin_node *node, const column *c);

/* Runs the body for each column of y with room for `n` doubles, from the device's host. */
static strand_plugin_status each_column(const cpu_device *device, const strand_plugin_node *node, int64_t heads, int64_t n,
                                        column_body body) {
    const strand_plugin_tensor *out = &node->outputs[0];
    uint64_t bytes = (uint64_t)n * sizeof(double);
    double *s = device->host->alloc(device->host->context, bytes, CPU_ALIGN);
    if (!s) return cpu_fail(device, STRAND_PLUGIN_ERR_MEMORY, "no memory for a column of the state");
    column c = {.width = out->whole[2] / heads, .s = s};
    for (c.b = 0; c.b < out->dims[0]; c.b++)
        for (c.channel = out->origin[2]; c.channel < out->origin[2] + out->dims[2]; c.channel++) {
            c.h = c.channel / c.width;
            c.v = c.channel % c.width;
            body(node, &c);
        }
    device->host->free(device->host->context, s, bytes);
    return STRAND_PLUGIN_OK;
}

static double softplus(double x) {
    return x > 20 ? x : log1p(exp(x));
}

/* ---- SSD ---- */

static double ssd_step(const strand_plugin_node *node, const column *c, int64_t t) {
    const strand_op_ssd *p = node->params;
    if (!cpu_input(node, 4)) return 1;
    double d = at(node, 4, c->b, t, c->h) + (cpu_input(node, 6) ? at(node, 6, c->b, t, c->h) : 0);
    if (p->softplus) d = softplus(d);
    return fmin(fmax(d, (double)p->dt_min), (double)p->dt_max);
}

static void ssd_column(const strand_plugin_node *node, const column *c) {
    const strand_op_ssd *p = node->params;
    int64_t n = node->inputs[2].dims[2] / p->groups, first = c->h / (p->heads / p->groups) * n;
    for (int64_t i = 0; i < n; i++) c->s[i] = state_at(node, 7, c->b, c->h, c->v, i);
    for (int64_t t = 0; t < node->outputs[0].dims[1]; t++) {
        double d = ssd_step(node, c, t), decay = exp(d * at(node, 1, c->b, t, c->h)), x = at(node, 0, c->b, t, c->channel);
        double y = cpu_input(node, 5) ? at(node, 5, c->b, t, c->h) * x : 0;
        for (int64_t i = 0; i < n; i++) {
            c->s[i] = decay * c->s[i] + d * x * at(node, 2, c->b, t, first + i);
            y += c->s[i] * at(node, 3, c->b, t, first + i);
        }
        put_y(node, c->b, t, c->channel, y);
    }
    for (int64_t i = 0; i < n; i++) put_state(node, c->b, c->h, c->v, i, c->s[i]);
}

CPU_KERNEL(cpu_reference_ssd) {
    const strand_op_ssd *p = node->params;
    (void)scratch;
    return each_column(device, node, p->heads, node->inputs[2].dims[2] / p->groups, ssd_column);
}

/* ---- gated linear attention ---- */

static void gla_column(const strand_plugin_node *node, const column *c) {
    const strand_op_gated_linear_attention *p = node->params;
    int64_t n = node->inputs[0].dims[2] / p->heads, first = c->h * n;
    for (int64_t i = 0; i < n; i++) c->s[i] = state_at(node, 5, c->b, c->h, i, c->v);
    for (int64_t t = 0; t < node->outputs[0].dims[1]; t++) {
        double v = at(node, 2, c->b, t, c->channel), y = 0;
        for (int64_t i = first; i < first + n; i++) {
            double q = at(node, 0, c->b, t, i), k = at(node, 1, c->b, t, i), w = at(node, 3, c->b, t, i), *s = &c->s[i - first];
            double before = *s;
            *s = (p->log_w ? exp(w) : w) * before + k * v;
            y += q * (cpu_input(node, 4) ? before + at(node, 4, c->b, t, i) * k * v : *s);
        }
        put_y(node, c->b, t, c->channel, (double)p->scale * y);
    }
    for (int64_t i = 0; i < n; i++) put_state(node, c->b, c->h, i, c->v, c->s[i]);
}

CPU_KERNEL(cpu_reference_gated_linear_attention) {
    const strand_op_gated_linear_attention *p = node->params;
    (void)scratch;
    return each_column(device, node, p->heads, node->inputs[0].dims[2] / p->heads, gla_column);
}

/* ---- delta rule ---- */

static void delta_column(const strand_plugin_node *node, const column *c) {
    const strand_op_delta_rule *p = node->params;
    int64_t n = node->inputs[0].dims[2] / p->heads, first = c->h * n;
    for (int64_t i = 0; i < n; i++) c->s[i] = state_at(node, 6, c->b, c->h, c->v, i);
    for (int64_t t = 0; t < node->outputs[0].dims[1]; t++) {
        double v = at(node, 3, c->b, t, c->channel), removed = 0, y = 0;
        for (int64_t i = 0; i < n; i++) removed += c->s[i] * at(node, 4, c->b, t, first + i);
        for (int64_t i = 0; i < n; i++) {
            double w = at(node, 1, c->b, t, first + i);
            c->s[i] = c->s[i] * (p->log_w ? exp(w) : w) + removed * at(node, 5, c->b, t, first + i) +
                      v * at(node, 2, c->b, t, first + i);
            y += c->s[i] * at(node, 0, c->b, t, first + i);
        }
        put_y(node, c->b, t, c->channel, (double)p->scale * y);
    }
    for (int64_t i = 0; i < n; i++) put_state(node, c->b, c->h, c->v, i, c->s[i]);
}

CPU_KERNEL(cpu_reference_delta_rule) {
    const strand_op_delta_rule *p = node->params;
    (void)scratch;
    return each_column(device, node, p->heads, node->inputs[0].dims[2] / p->heads, delta_column);
}

/* ---- linear attention ---- */

/* Element f of the feature map of head h's part of input i. */
static double feature(const strand_plugin_node *node, uint32_t i, int64_t b, int64_t t, int64_t h, int64_t f) {
    const strand_op_linear_attention *p = node->params;
    int64_t d = node->inputs[0].dims[2] / p->heads, first = h * d;
    if (p->feature == STRAND_FEATURE_TAYLOR2) {
        if (f == 0) return 1;
        if (f <= d) return at(node, i, b, t, first + f - 1) / pow((double)d, 0.25);
        return at(node, i, b, t, first + (f - 1 - d) / d) * at(node, i, b, t, first + (f - 1 - d) % d) /
               (sqrt(2.0) * sqrt((double)d));
    }
    double x = at(node, i, b, t, first + f);
    if (p->feature == STRAND_FEATURE_ELU1) return x > 0 ? x + 1 : exp(x);
    if (p->feature == STRAND_FEATURE_RELU) return x < 0 ? 0 : x;
    return x;
}

static int64_t features(const strand_plugin_node *node) {
    const strand_op_linear_attention *p = node->params;
    int64_t d = node->inputs[0].dims[2] / p->heads;
    return p->feature == STRAND_FEATURE_TAYLOR2 ? 1 + d + d * d : d;
}

/* s holds the column of KV and Z. The last column of a head gives Z too: those before it still read the one that came in. */
static void linear_column(const strand_plugin_node *node, const column *c) {
    const strand_op_linear_attention *p = node->params;
    int64_t n = features(node);
    double *kv = c->s, *z = c->s + n;
    for (int64_t f = 0; f < n; f++) {
        kv[f] = state_at(node, 3, c->b, c->h, f, c->v);
        z[f] = state_at(node, 3, c->b, c->h, f, c->width);
    }
    for (int64_t t = 0; t < node->outputs[0].dims[1]; t++) {
        double v = at(node, 2, c->b, t, c->channel), y = 0, sum = 0;
        for (int64_t f = 0; f < n; f++) {
            double q = feature(node, 0, c->b, t, c->h, f), k = feature(node, 1, c->b, t, c->h, f);
            kv[f] += k * v;
            z[f] += k;
            y += q * kv[f];
            sum += q * z[f];
        }
        put_y(node, c->b, t, c->channel, p->normalise ? y / (sum + (double)p->eps) : y);
    }
    for (int64_t f = 0; f < n; f++) {
        put_state(node, c->b, c->h, f, c->v, kv[f]);
        if (c->v == c->width - 1) put_state(node, c->b, c->h, f, c->width, z[f]);
    }
}

CPU_KERNEL(cpu_reference_linear_attention) {
    const strand_op_linear_attention *p = node->params;
    (void)scratch;
    return each_column(device, node, p->heads, 2 * features(node), linear_column);
}

/* ---- WKV4 and the token shift ---- */

CPU_KERNEL(cpu_reference_wkv4) {
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 4),
                               *second = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    (void)device, (void)scratch;
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t c = out->origin[2]; c < out->origin[2] + out->dims[2]; c++) {
            double s[3] = {0, 0, -1e30}, w = at(node, 2, b, 0, c), u = at(node, 3, b, 0, c);
            for (int r = 0; r < 3 && state; r++)
                s[r] = get(state, (b + out->origin[0] - state->origin[0]) * state->strides[0] + r * state->strides[1] +
                                      (c - state->origin[2]) * state->strides[2]);
            for (int64_t t = 0; t < out->dims[1]; t++) {
                double k = at(node, 0, b, t, c), v = at(node, 1, b, t, c);
                double q = fmax(s[2], u + k), old = exp(s[2] - q), new = exp(u + k - q);
                put_y(node, b, t, c, (old * s[0] + new *v) / (old * s[1] + new));
                q = fmax(s[2] + w, k), old = exp(s[2] + w - q), new = exp(k - q);
                s[0] = old * s[0] + new *v;
                s[1] = old * s[1] + new;
                s[2] = q;
            }
            for (int r = 0; r < 3 && second; r++)
                put(second, b * second->strides[0] + r * second->strides[1] + c * second->strides[2], s[r]);
        }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_token_shift) {
    const strand_op_token_shift *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0], *state = cpu_input(node, 2);
    (void)device, (void)scratch;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        double now = get(x, there(&w, x, 0, false)), before = 0, mix = vector_at(&w, cpu_input(node, 1), 2, 0);
        if (w.index[1] + out->origin[1] > 0)
            before = get(x, there(&w, x, 0, false) - x->strides[1]);
        else if (state)
            before = get(state, (w.index[0] + out->origin[0] - state->origin[0]) * state->strides[0] +
                                    (w.index[2] + out->origin[2] - state->origin[1]) * state->strides[1]);
        if (!cpu_input(node, 1))
            put(out, here(&w), before);
        else
            put(out, here(&w), p->form == STRAND_SHIFT_LERP_X ? now * mix + before * (1 - mix) : now + (before - now) * mix);
    }
    if (node->n_outputs < 2) return STRAND_PLUGIN_OK;
    const strand_plugin_tensor *second = &node->outputs[1];
    int64_t length = out->dims[1];
    for (walk w = walk_over(second); w.left > 0; step(&w)) {
        int64_t b = w.index[0], c = w.index[1];
        double last = length ? get(x, (b - x->origin[0]) * x->strides[0] + (length - 1 - x->origin[1]) * x->strides[1] +
                                          (c - x->origin[2]) * x->strides[2])
                      : state
                          ? get(state, (b - state->origin[0]) * state->strides[0] + (c - state->origin[1]) * state->strides[1])
                          : 0;
        put(second, here(&w), last);
    }
    return STRAND_PLUGIN_OK;
}

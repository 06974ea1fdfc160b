/* reference.c - the readable kernels: every operator as its definition says it, in double precision, one plain loop after
 * another. They are slow on purpose; tests judge every other kernel by them. Views are followed exactly as the fast kernels
 * must follow them. Nothing here is threaded, and nothing here knows the fast kernels. */
#include "reference.h"

CPU_KERNEL(cpu_reference_gather) {
    (void)scratch;
    const strand_plugin_tensor *table = &node->inputs[0], *ids = &node->inputs[1], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t id = get_id(ids, there(&w, ids, 1, false));
        if (id < 0 || id >= table->dims[0]) {
            return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: id %lld is outside the table of %lld rows",
                            node->name ? node->name : "gather", (long long)id, (long long)table->dims[0]);
        }
        int64_t column = w.index[last] + out->origin[last] - table->origin[1];
        put(out, here(&w), get(table, id * table->strides[0] + column * table->strides[1]));
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_matmul) {
    (void)device, (void)scratch;
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *out = &node->outputs[0];
    const strand_plugin_tensor *bias = p->bias ? cpu_input(node, 2) : NULL;
    uint32_t m_axis = out->rank - 2, n_axis = out->rank - 1;
    uint32_t am = a->rank - (p->transpose_a ? 1 : 2), ak = a->rank - (p->transpose_a ? 2 : 1);
    uint32_t bn = b->rank - (p->transpose_b ? 2 : 1), bk = b->rank - (p->transpose_b ? 1 : 2);
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t at_a = (w.index[m_axis] + out->origin[m_axis] - a->origin[am]) * a->strides[am];
        int64_t at_b = (w.index[n_axis] + out->origin[n_axis] - b->origin[bn]) * b->strides[bn];
        for (uint32_t i = 0; i + 2 < out->rank; i++) {
            if (a->rank > 2) at_a += (w.index[i] + out->origin[i] - a->origin[i]) * a->strides[i];
            if (b->rank > 2) at_b += (w.index[i] + out->origin[i] - b->origin[i]) * b->strides[i];
        }
        double sum = 0;
        for (int64_t k = 0; k < a->dims[ak]; k++) sum += get(a, at_a + k * a->strides[ak]) * get(b, at_b + k * b->strides[bk]);
        sum += vector_at(&w, bias, p->bias == STRAND_BIAS_ROWS ? m_axis : n_axis, 0);
        put(out, here(&w), function(p->activation, (double)p->alpha, (double)p->beta, sum));
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_layer_norm) {
    (void)device, (void)scratch;
    const strand_op_layer_norm *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    int64_t d = out->dims[last];
    for (walk w = walk_over(out); w.left > 0;) {
        int64_t row = there(&w, x, 0, false); /* the output may be x itself: moments first, then in order */
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < d; i++) mean += get(x, row + i) / (double)d;
        for (int64_t i = 0; i < d; i++) variance += (get(x, row + i) - mean) * (get(x, row + i) - mean) / (double)d;
        double scale = 1 / sqrt(variance + (double)p->eps);
        for (int64_t i = 0; i < d; i++, step(&w)) {
            double weight = vector_at(&w, cpu_input(node, 1), last, 1), bias = vector_at(&w, cpu_input(node, 2), last, 0);
            put(out, here(&w), (get(x, row + i) - mean) * scale * weight + bias);
        }
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_unary) {
    (void)device, (void)scratch;
    const strand_op_unary *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        put(out, here(&w), function(p->kind, (double)p->alpha, (double)p->beta, get(x, there(&w, x, 0, false))));
    }
    return STRAND_PLUGIN_OK;
}

static double combine(uint32_t kind, double a, double b) {
    switch (kind) {
    case STRAND_BINARY_ADD:
        return a + b;
    case STRAND_BINARY_MUL:
        return a * b;
    case STRAND_BINARY_SUB:
        return a - b;
    case STRAND_BINARY_DIV:
        return a / b;
    case STRAND_BINARY_MAX:
        return a > b || a != a ? a : b;
    case STRAND_BINARY_MIN:
        return a < b || a != a ? a : b;
    default:
        return a < 0 ? NAN : pow(fabs(a), b);
    }
}

CPU_KERNEL(cpu_reference_binary) {
    (void)device, (void)scratch;
    const strand_op_binary *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        double a = get(&node->inputs[0], there(&w, &node->inputs[0], 0, true));
        double b = get(&node->inputs[1], there(&w, &node->inputs[1], 0, true));
        put(out, here(&w), combine(p->kind, function(p->activation, (double)p->alpha, (double)p->beta, a), b));
    }
    return STRAND_PLUGIN_OK;
}

/* Input at position t of the sequence, at the walk's batch entry and channel; before the sequence stands the state, or
 * zeros. */
static double input_at(const walk *w, const strand_plugin_node *node, uint32_t time, int64_t t) {
    const strand_plugin_tensor *in = t >= 0 ? &node->inputs[0] : cpu_input(node, 3);
    int64_t at = 0, index = t >= 0 ? t - node->inputs[0].origin[time] : node->inputs[1].dims[1] - 1 + t;
    if (!in || index < 0) return 0;
    for (uint32_t i = 0; i < in->rank; i++)
        at += (i == time ? index : w->index[i] + w->out->origin[i] - in->origin[i]) * in->strides[i];
    return get(in, at);
}

CPU_KERNEL(cpu_reference_short_conv) {
    (void)device, (void)scratch;
    const strand_op_short_conv *p = node->params;
    const strand_plugin_tensor *weight = &node->inputs[1], *out = &node->outputs[0];
    bool tokens = p->flags & STRAND_SHORT_CONV_TOKEN_MAJOR;
    uint32_t channel = out->rank - (tokens ? 1 : 2), time = out->rank - (tokens ? 2 : 1);
    int64_t taps = weight->dims[1];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t t = w.index[time] + out->origin[time]; /* position in the whole sequence */
        int64_t c = w.index[channel] + out->origin[channel] - weight->origin[0];
        double sum = vector_at(&w, cpu_input(node, 2), channel, 0);
        for (int64_t i = 0; i < taps; i++)
            sum += get(weight, c * weight->strides[0] + i) * input_at(&w, node, time, t - (taps - 1) + i);
        put(out, here(&w), function(p->activation, 0, 0, sum));
    }
    if (node->n_outputs < 2) return STRAND_PLUGIN_OK;
    const strand_plugin_tensor *last = &node->outputs[1]; /* may lie over the state, of which only what comes later is still
                                                             wanted */
    int64_t length = out->dims[time];
    for (int64_t i = 0; i < taps - 1; i++) {
        strand_plugin_tensor one = *last;
        one.dims[time] = 1;
        for (walk w = walk_over(&one); w.left > 0; step(&w))
            put(last, here(&w) + i * last->strides[time], input_at(&w, node, time, length - (taps - 1) + i));
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_long_conv) {
    (void)device, (void)scratch;
    const strand_op_long_conv *p = node->params;
    const strand_plugin_tensor *u = &node->inputs[0], *filter = &node->inputs[1], *out = &node->outputs[0];
    const strand_plugin_tensor *pre = cpu_input(node, 3), *post = cpu_input(node, 4), *back = cpu_input(node, 5);
    uint32_t channel = out->rank - 2, time = out->rank - 1;
    /* back's first tap meets t + from */
    int64_t length = out->dims[time], from = p->flags & STRAND_LONG_CONV_BACK_FROM_ZERO ? 0 : 1;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t t = w.index[time], at_u = there(&w, u, 0, false) - t, at_pre = pre ? there(&w, pre, 0, false) - t : 0;
        int64_t c = w.index[channel] + out->origin[channel], at_filter = (c - filter->origin[0]) * filter->strides[0];
        double sum = 0;
#define W(s) (get(u, at_u + (s)) * (pre ? get(pre, at_pre + (s)) : 1))
        for (int64_t s = cpu_max(0, t - filter->dims[1] + 1); s <= t; s++) sum += get(filter, at_filter + t - s) * W(s);
        for (int64_t j = 0; back && j < back->dims[1] && t + from + j < length; j++)
            sum += get(back, (c - back->origin[0]) * back->strides[0] + j) * W(t + from + j);
        sum += vector_at(&w, cpu_input(node, 2), channel, 0) * W(t);
#undef W
        put(out, here(&w), (post ? get(post, there(&w, post, 0, false)) : 1) * sum);
    }
    return STRAND_PLUGIN_OK;
}

/* The position that REDUCE takes for row b, for the kinds that take one. */
static int64_t position(const strand_plugin_node *node, int64_t b) {
    const strand_op_reduce *p = node->params;
    int64_t length = node->inputs[0].dims[1];
    if (p->kind == STRAND_REDUCE_FIRST) return 0;
    if (p->kind == STRAND_REDUCE_LAST) return length - 1;
    const strand_plugin_tensor *ids = &node->inputs[1];
    int64_t row = (b + node->outputs[0].origin[0] - ids->origin[0]) * ids->strides[0];
    for (int64_t t = 0; t < length; t++)
        if (get_id(ids, row + t) == p->token) return t > 0 ? t - 1 : length - 1;
    return length - 1;
}

CPU_KERNEL(cpu_reference_reduce) {
    (void)device, (void)scratch;
    const strand_op_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int64_t length = x->dims[1];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t at = (w.index[0] + out->origin[0] - x->origin[0]) * x->strides[0] +
                     (w.index[1] + out->origin[1] - x->origin[2]) * x->strides[2];
        double value = 0;
        if (p->kind == STRAND_REDUCE_MEAN || p->kind == STRAND_REDUCE_SUM) {
            for (int64_t t = 0; t < length; t++) value += get(x, at + t * x->strides[1]);
            if (p->kind == STRAND_REDUCE_MEAN) value /= (double)length;
        } else {
            value = get(x, at + position(node, w.index[0]) * x->strides[1]);
        }
        put(out, here(&w), value);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_positions) {
    (void)device, (void)scratch;
    const strand_op_positions *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t i = w.index[0] + out->origin[0], column = w.index[1] + out->origin[1];
        int64_t bands = p->bands, j = (column - 1) % (bands ? bands : 1);
        double step_f = bands > 1 ? ((double)bands - 1 - 1e-4) / (double)(bands - 1) : 0;
        float turn = (float)(2 * PI) * (float)i;
        turn /= (float)p->n;
        float angle = (float)(1e-4 + step_f * (double)j) * turn;
        double value = column == 0       ? (p->n > 1 ? (double)i / (double)(p->n - 1) : 0)
                       : column <= bands ? cos((double)angle)
                                         : -sin((double)angle);
        put(out, here(&w), value);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_decay_window) {
    (void)device, (void)scratch;
    const strand_op_decay_window *p = node->params;
    const strand_plugin_tensor *k = &node->inputs[0], *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        double t = (double)(w.index[1] + out->origin[1]) / (double)(p->n > 1 ? p->n - 1 : 1);
        double window = exp(-t * fabs(vector_at(&w, &node->inputs[1], 0, 0))) + (double)p->shift;
        put(out, here(&w), get(k, there(&w, k, 0, false)) * window);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_cast) {
    (void)device, (void)scratch;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        float value = (float)get(x, there(&w, x, 0, false));
        uint16_t *half = (uint16_t *)out->memory.data + here(&w);
        if (out->dtype == STRAND_PLUGIN_F32) put(out, here(&w), (double)value);
        if (out->dtype == STRAND_PLUGIN_F16) *half = cpu_f32_to_f16(value);
        if (out->dtype == STRAND_PLUGIN_BF16) *half = cpu_f32_to_bf16(value);
    }
    return STRAND_PLUGIN_OK;
}

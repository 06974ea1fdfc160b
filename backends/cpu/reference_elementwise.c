/* reference_elementwise.c - readable kernels of functions of rows and of reductions over an axis. */
#include "reference.h"

/* The element of x `i` places from the start of the row that w stands in. */
static double row_get(const walk *w, const strand_plugin_tensor *x, int64_t i) {
    walk start = *w;
    start.index[w->out->rank - 1] = 0;
    return get(x, there(&start, x, 0, false) + i);
}

CPU_KERNEL(cpu_reference_norm) {
    (void)device, (void)scratch;
    const strand_op_norm *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *weight = cpu_input(node, 1), *bias = cpu_input(node, 2),
                               *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    int64_t width = out->dims[last] / p->groups;
    for (walk w = walk_over(out); w.left > 0;) { /* part by part: the output may be x itself */
        int64_t first = w.index[last];
        double mean = 0, squares = 0;
        for (int64_t i = 0; i < width && p->kind == STRAND_NORM_LAYER; i++) mean += row_get(&w, x, first + i) / (double)width;
        for (int64_t i = 0; i < width; i++) squares += pow(row_get(&w, x, first + i) - mean, 2);
        double m = p->kind == STRAND_NORM_L2 ? squares : squares / (double)width, eps = (double)p->eps;
        double r = p->eps_rule == STRAND_EPS_INSIDE    ? 1 / sqrt(m + eps)
                   : p->eps_rule == STRAND_EPS_OUTSIDE ? 1 / (sqrt(m) + eps)
                                                       : 1 / (sqrt(m) < eps ? eps : sqrt(m));
        for (int64_t i = 0; i < width; i++, step(&w)) {
            double scale = weight ? vector_at(&w, weight, last, 1) + (double)p->weight_offset : 1;
            put(out, here(&w), (row_get(&w, x, first + i) - mean) * r * scale + vector_at(&w, bias, last, 0));
        }
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_glu) {
    (void)device, (void)scratch;
    const strand_op_glu *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t i = w.index[last], d = out->dims[last];
        double a = row_get(&w, x, p->interleaved ? 2 * i : i), b = row_get(&w, x, p->interleaved ? 2 * i + 1 : d + i);
        double *gate = p->gate_second ? &b : &a;
        *gate = function(p->activation, (double)p->alpha, (double)p->beta, *gate);
        put(out, here(&w), a * b);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_softmax) {
    (void)device, (void)scratch;
    const strand_op_softmax *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int64_t d = out->dims[out->rank - 1];
    for (walk w = walk_over(out); w.left > 0;) {
        double most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < d; i++) most = fmax(most, row_get(&w, x, i));
        for (int64_t i = 0; i < d; i++) sum += exp(row_get(&w, x, i) - most);
        for (int64_t i = 0; i < d; i++, step(&w)) {
            double over = row_get(&w, x, i) - most;
            put(out, here(&w), p->log ? over - log(sum) : exp(over) / sum);
        }
    }
    return STRAND_PLUGIN_OK;
}

/* What the n elements from `at` on, `stride` apart, are reduced to. */
static double reduced(uint32_t kind, const strand_plugin_tensor *x, int64_t at, int64_t stride, int64_t n) {
    double sum = 0, squares = 0, sizes = 0, most = get(x, at), least = most, powers = 0;
    int64_t where = 0;
    for (int64_t t = 0; t < n; t++) {
        double v = get(x, at + t * stride), best = get(x, at + where * stride);
        sum += v;
        sizes += fabs(v);
        squares += v * v;
        most = most != most || v != v ? NAN : v > most ? v : most;
        least = least != least || v != v ? NAN : v < least ? v : least;
        if (v > best || (v != v && best == best)) where = t;
    }
    double shift = fabs(most) == INFINITY ? 0 : most;
    for (int64_t t = 0; t < n; t++) powers += exp(get(x, at + t * stride) - shift);
    switch (kind) {
    case STRAND_AXIS_SUM:
        return sum;
    case STRAND_AXIS_MEAN:
        return sum / (double)n;
    case STRAND_AXIS_MAX:
        return most;
    case STRAND_AXIS_MIN:
        return least;
    case STRAND_AXIS_L1:
        return sizes;
    case STRAND_AXIS_L2:
        return sqrt(squares);
    case STRAND_AXIS_LOG_SUM_EXP:
        return log(powers) + shift;
    case STRAND_AXIS_FINAL:
        return get(x, at + (n - 1) * stride);
    default:
        return (double)where;
    }
}

CPU_KERNEL(cpu_reference_reduce_axis) {
    (void)scratch;
    const strand_op_reduce_axis *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *lengths = cpu_input(node, 1), *out = &node->outputs[0];
    uint32_t axis = (uint32_t)(p->axis < 0 ? p->axis + (int32_t)x->rank : p->axis);
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t at = 0, n = p->window ? p->window : x->dims[axis];
        for (uint32_t i = 0; i < x->rank; i++) {
            uint32_t oi = i > axis && out->rank < x->rank ? i - 1 : i;
            if (i == axis)
                at += p->window ? w.index[i] * p->window * x->strides[i] : 0;
            else
                at += (w.index[oi] + out->origin[oi] - x->origin[i]) * x->strides[i];
        }
        if (lengths) {
            n = get_id(lengths, (w.index[0] + out->origin[0] - lengths->origin[0]) * lengths->strides[0]);
            if (n < 1 || n > x->dims[1]) {
                return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: length %lld is not between 1 and %lld",
                                node->name ? node->name : "reduce_axis", (long long)n, (long long)x->dims[1]);
            }
        }
        double value = reduced(p->kind, x, at, x->strides[axis], n);
        if (p->kind == STRAND_AXIS_ARGMAX)
            ((int64_t *)out->memory.data)[here(&w)] = (int64_t)value;
        else
            put(out, here(&w), value);
    }
    return STRAND_PLUGIN_OK;
}

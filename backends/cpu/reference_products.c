/* reference_products.c - BLOCK_DIAGONAL, GROUPED_MATMUL and TOP_K as their definitions say them, in double. */
#include "reference.h"

CPU_KERNEL(cpu_reference_block_diagonal) {
    (void)device, (void)scratch;
    const strand_op_block_diagonal *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *weight = &node->inputs[1], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    int64_t blocks = weight->dims[0], outs = weight->dims[1], ins = weight->dims[2];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t y = w.index[last];
        int64_t j = p->flags & STRAND_BLOCK_OUT_INTERLEAVED ? y % blocks : y / outs;
        int64_t o = p->flags & STRAND_BLOCK_OUT_INTERLEAVED ? y / blocks : y % outs;
        int64_t row = 0;
        for (uint32_t axis = 0; axis < last; axis++)
            row += (w.index[axis] + out->origin[axis] - x->origin[axis]) * x->strides[axis];
        double sum = vector_at(&w, cpu_input(node, 2), last, 0);
        for (int64_t i = 0; i < ins; i++) {
            int64_t at = p->flags & STRAND_BLOCK_IN_INTERLEAVED ? i * blocks + j : j * ins + i;
            sum += get(weight, j * weight->strides[0] + o * weight->strides[1] + i) * get(x, row + at);
        }
        put(out, here(&w), function(p->activation, (double)p->alpha, (double)p->beta, sum));
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_grouped_matmul) {
    (void)scratch;
    const strand_op_grouped_matmul *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *weight = &node->inputs[1], *ids = &node->inputs[2],
                               *bias = cpu_input(node, 3), *out = &node->outputs[0];
    for (int64_t t = 0; t < out->dims[0]; t++)
        for (int64_t j = 0; j < out->dims[1]; j++) {
            int64_t ti = t + out->origin[0], ji = j + out->origin[1];
            int64_t e = get_id(ids, (ti - ids->origin[0]) * ids->strides[0] + (ji - ids->origin[1]) * ids->strides[1]);
            if (e < 0 || e >= weight->dims[0])
                return cpu_fail(device, STRAND_PLUGIN_ERR_ARGUMENT, "%s: id %lld is outside the %lld experts",
                                node->name ? node->name : "grouped_matmul", (long long)e, (long long)weight->dims[0]);
            int64_t row = (ti - x->origin[0]) * x->strides[0] + (x->rank == 3 ? (ji - x->origin[1]) * x->strides[1] : 0);
            for (int64_t n = 0; n < out->dims[2]; n++) {
                int64_t ni = n + out->origin[2];
                int64_t column = e * weight->strides[0] + (ni - weight->origin[1]) * weight->strides[1];
                double sum = bias ? get(bias, e * bias->strides[0] + ni - bias->origin[1]) : 0;
                for (int64_t k = 0; k < weight->dims[2]; k++) sum += get(weight, column + k) * get(x, row + k);
                put(out, t * out->strides[0] + j * out->strides[1] + n,
                    function(p->activation, (double)p->alpha, (double)p->beta, sum));
            }
        }
    return STRAND_PLUGIN_OK;
}

/* Is element b picked before element a, where a has the smaller index? */
static bool above(double a, double b) {
    return b != b ? a == a : b > a;
}

/* The element that comes after element `before` (-1: the first of all) in falling order. */
static int64_t next_largest(const strand_plugin_tensor *x, int64_t row, int64_t n, int64_t before) {
    int64_t best = -1;
    double old = before < 0 ? 0 : get(x, row + before);
    for (int64_t i = 0; i < n; i++) {
        double v = get(x, row + i);
        bool same = v == old || (v != v && old != old);
        if (before >= 0 && !(same ? i > before : above(v, old))) continue;
        if (best < 0 || above(get(x, row + best), v)) best = i;
    }
    return best;
}

/* The k numbers in `y`, which are elements of x, as the values that are asked for. */
static void values(const strand_op_top_k *p, const strand_plugin_tensor *x, int64_t row, int64_t n,
                   const strand_plugin_tensor *out, int64_t y) {
    double most = -INFINITY, all = 0, sum = 0;
    bool picked = p->values == STRAND_TOP_K_SOFTMAX_PICKED;
    for (int64_t i = 0; i < n; i++) most = fmax(most, get(x, row + i));
    for (int64_t i = 0; i < (picked ? p->k : n); i++) all += exp((picked ? get(out, y + i) : get(x, row + i)) - most);
    for (int64_t i = 0; i < p->k; i++) {
        double v = get(out, y + i);
        if (p->values == STRAND_TOP_K_SOFTMAX || picked) v = exp(v - most) / all;
        if (p->values == STRAND_TOP_K_SIGMOID) v = 1 / (1 + exp(-v));
        put(out, y + i, v);
        sum += v;
    }
    for (int64_t i = 0; i < p->k && p->normalise; i++) put(out, y + i, get(out, y + i) / sum);
}

CPU_KERNEL(cpu_reference_top_k) {
    (void)device, (void)scratch;
    const strand_op_top_k *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0],
                               *ids = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    uint32_t last = out->rank - 1;
    for (walk w = walk_over(out); w.left > 0;) {
        int64_t row = 0, y = here(&w), id = 0, at = -1;
        for (uint32_t axis = 0; axis < last; axis++) {
            row += (w.index[axis] + out->origin[axis] - x->origin[axis]) * x->strides[axis];
            if (ids) id += w.index[axis] * ids->strides[axis];
        }
        for (int64_t i = 0; i < p->k; i++, step(&w)) {
            at = next_largest(x, row, x->dims[last], at);
            put(out, y + i, get(x, row + at));
            if (ids) ((int64_t *)ids->memory.data)[id + i] = at;
        }
        values(p, x, row, x->dims[last], out, y);
    }
    return STRAND_PLUGIN_OK;
}

/* reference_recurrent.c - readable kernels of recurrences that are not linear in the state. The state is kept as the F32 numbers that
 * the outputs are, so that a sequence cut in two is the whole one. */
#include "reference.h"

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* Row b, unit i, of the state before token t: the output of the token before it, the given state, or zero. */
static double before(const strand_plugin_node *node, int64_t b, int64_t t, int64_t i) {
    const strand_op_gru *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 3);
    int64_t earlier = p->reverse ? t + 1 : t - 1;
    if (earlier >= 0 && earlier < out->dims[1]) return get(out, b * out->strides[0] + earlier * out->strides[1] + i);
    return state ? get(state, (b + out->origin[0] - state->origin[0]) * state->strides[0] + i) : 0;
}

CPU_KERNEL(cpu_reference_gru) {
    (void)device, (void)scratch;
    const strand_op_gru *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *bias = cpu_input(node, 2), *out = &node->outputs[0];
    int64_t length = out->dims[1], h = out->dims[2];
    for (int64_t b = 0; b < out->dims[0]; b++) {
        for (int64_t s = 0; s < length; s++) {
            int64_t t = p->reverse ? length - 1 - s : s;
            int64_t at_x = (b + out->origin[0] - x->origin[0]) * x->strides[0] + t * x->strides[1];
            for (int64_t i = 0; i < h; i++) {
                double gate[3];
                for (int k = 0; k < 3; k++) {
                    gate[k] = bias ? get(bias, k * h + i) : 0;
                    for (int64_t j = 0; j < h; j++) gate[k] += get(w, (k * h + i) * w->strides[0] + j) * before(node, b, t, j);
                }
                double r = sigmoid(get(x, at_x + i) + gate[0]), z = sigmoid(get(x, at_x + h + i) + gate[1]);
                double n = tanh(get(x, at_x + 2 * h + i) + r * gate[2]);
                put(out, b * out->strides[0] + t * out->strides[1] + i, (1 - z) * n + z * before(node, b, t, i));
            }
        }
        const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
        for (int64_t i = 0; i < h && last; i++) put(last, b * last->strides[0] + i, before(node, b, p->reverse ? -1 : length, i));
    }
    return STRAND_PLUGIN_OK;
}

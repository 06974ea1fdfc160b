/* supports_conv1d.c - what the plugin accepts of CONV1D: any tile of the result; of x all channels, and every position that the
 * tile reads. */
#include "check.h"

#define MOST ((int64_t)1 << 40)

bool cpu_supports_conv1d(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 3, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_conv1d *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *out = &node->outputs[0];
    if (x->rank != 3 || w->rank != 3 || out->rank != 3) NO("x, the weight and the output have rank 3");
    int64_t taps = w->dims[2], ins = w->dims[1];
    if (taps < 1 || taps > MOST || ins < 1 || w->origin[1] || w->origin[2]) NO("the weight is not [Co, Ci / groups, K]");
    if (p->stride < 1 || p->stride > MOST || p->dilation < 1 || p->groups < 1) NO("stride, dilation and groups are at least 1");
    if (p->pad_left < 0 || p->pad_left > MOST || p->pad_right < 0 || p->pad_right > MOST) NO("the padding is out of range");
    if (p->dilation > MOST / taps) NO("the taps reach too far");
    if (!known_function(p->activation, 0, 0)) NO("unknown activation, or one with parameters");
    if (x->origin[1] || x->dims[1] % p->groups || x->dims[1] / p->groups != ins)
        NO("x's channels are not groups times those of the weight");
    if (out->whole[1] < out->origin[1] + out->dims[1] || out->whole[1] % p->groups)
        NO("the output's channels are not a whole number of groups");
    if (!covers(node, 0, 0, 0) || !covers(node, 1, 0, 1)) NO("x or the weight does not cover the output");
    TRY(vector(node, 2, 1, why, why_bytes));
    if (x->whole[2] > MOST || out->origin[2] < 0 || out->origin[2] + out->dims[2] > MOST / p->stride) NO("too long");
    if (out->dims[2] < 1) return true;
    int64_t first = out->origin[2] * p->stride - p->pad_left,
            last = (out->origin[2] + out->dims[2] - 1) * p->stride + (taps - 1) * p->dilation - p->pad_left;
    first = cpu_max(first, 0), last = cpu_min(last, x->whole[2] - 1);
    if (first <= last && (first < x->origin[2] || last >= x->origin[2] + x->dims[2]))
        NO("x does not cover what the output reads");
    return true;
}

/* reference_conv1d.c - CONV1D as its definition says it. */
#include "reference.h"

CPU_KERNEL(cpu_reference_conv1d) {
    (void)device, (void)scratch;
    const strand_op_conv1d *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *weight = &node->inputs[1], *out = &node->outputs[0];
    int64_t ins = weight->dims[1], outs = out->whole[1] / p->groups; /* of a group */
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t o = w.index[1] + out->origin[1], t = w.index[2] + out->origin[2];
        int64_t row = (w.index[0] + out->origin[0] - x->origin[0]) * x->strides[0];
        double sum = vector_at(&w, cpu_input(node, 2), 1, 0);
        for (int64_t i = 0; i < ins; i++)
            for (int64_t j = 0; j < weight->dims[2]; j++) {
                int64_t s = t * p->stride + j * p->dilation - p->pad_left;
                if (s < 0 || s >= x->whole[2]) continue;
                double a =
                    get(weight, (o - weight->origin[0]) * weight->strides[0] + i * weight->strides[1] + j * weight->strides[2]);
                sum += a * get(x, row + (o / outs * ins + i) * x->strides[1] + s - x->origin[2]);
            }
        put(out, here(&w), function(p->activation, 0, 0, sum));
    }
    return STRAND_PLUGIN_OK;
}

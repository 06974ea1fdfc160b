/* reference_shapes.c - readable kernels of the operators that move elements: for each element of the output, where it comes
 * from. */
#include "reference.h"
#include "shapes.h"

#include <string.h>

/* Element of `t` at index[] of the whole tensor. */
static char *element(const strand_plugin_tensor *t, const int64_t *index) {
    int64_t at = 0;
    for (uint32_t i = 0; i < t->rank; i++) at += (index[i] - t->origin[i]) * t->strides[i];
    return (char *)t->memory.data + at * cpu_element_bytes(t->dtype);
}

/* The walk's place, counted in the whole output. */
static void place(const walk *w, int64_t *index) {
    for (uint32_t i = 0; i < w->out->rank; i++) index[i] = w->index[i] + w->out->origin[i];
}

static void move(const walk *w, const strand_plugin_tensor *in, const int64_t *from) {
    int64_t to[STRAND_PLUGIN_RANK];
    place(w, to);
    memmove(element(w->out, to), element(in, from), (size_t)cpu_element_bytes(in->dtype)); /* they may be one */
}

CPU_KERNEL(cpu_reference_reshape) {
    (void)device, (void)scratch;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t index[STRAND_PLUGIN_RANK], at = 0;
        place(&w, index);
        for (uint32_t i = 0; i < out->rank; i++) at = at * out->whole[i] + index[i]; /* in row-major order */
        for (uint32_t i = x->rank; i-- > 0; at /= x->whole[i]) index[i] = at % x->whole[i];
        move(&w, x, index);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_concat) {
    (void)device, (void)scratch;
    const strand_op_concat *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, out->rank), i;
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t index[STRAND_PLUGIN_RANK];
        place(&w, index);
        for (i = 0; index[axis] >= node->inputs[i].dims[axis]; i++) index[axis] -= node->inputs[i].dims[axis];
        move(&w, &node->inputs[i], index);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_slice) {
    (void)device, (void)scratch;
    const strand_op_slice *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, out->rank);
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t index[STRAND_PLUGIN_RANK];
        place(&w, index);
        index[axis] = (p->begin < 0 ? p->begin + x->whole[axis] : p->begin) + index[axis] * p->step;
        move(&w, x, index);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_permute) {
    (void)device, (void)scratch;
    const strand_op_permute *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t to[STRAND_PLUGIN_RANK], from[STRAND_PLUGIN_RANK];
        place(&w, to);
        for (uint32_t i = 0; i < out->rank; i++) from[p->axes[i]] = to[i];
        move(&w, x, from);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_pad) {
    (void)device, (void)scratch;
    const strand_op_pad *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, out->rank);
    int64_t n = x->dims[axis];
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t index[STRAND_PLUGIN_RANK], *i = &index[axis];
        place(&w, index);
        *i -= p->before;
        if (p->mode == STRAND_PAD_VALUE && (*i < 0 || *i >= n)) {
            char *to = (char *)out->memory.data + here(&w) * cpu_element_bytes(out->dtype);
            uint16_t half = out->dtype == STRAND_PLUGIN_F16 ? cpu_f32_to_f16(p->value) : cpu_f32_to_bf16(p->value);
            memset(to, 0, (size_t)cpu_element_bytes(out->dtype));
            if (out->dtype == STRAND_PLUGIN_F32) memcpy(to, &p->value, 4);
            if (cpu_element_bytes(out->dtype) == 2) memcpy(to, &half, 2);
            continue;
        }
        if (p->mode == STRAND_PAD_EDGE) *i = *i < 0 ? 0 : *i >= n ? n - 1 : *i;
        if (p->mode == STRAND_PAD_REFLECT) *i = *i < 0 ? -*i : *i >= n ? 2 * (n - 1) - *i : *i;
        move(&w, x, index);
    }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_repeat) {
    (void)device, (void)scratch;
    const strand_op_repeat *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t axis = cpu_axis(p->axis, out->rank);
    for (walk w = walk_over(out); w.left > 0; step(&w)) {
        int64_t index[STRAND_PLUGIN_RANK];
        place(&w, index);
        index[axis] = p->interleave ? index[axis] / p->times : index[axis] % x->dims[axis];
        move(&w, x, index);
    }
    return STRAND_PLUGIN_OK;
}

/* supports_shapes.c - predicates of the operators that move elements. */
#include "check.h"
#include "shapes.h"

static bool movable(const strand_plugin_node *node, uint32_t most_inputs, char *why, size_t why_bytes) {
    TRY(sane(node, 1, most_inputs, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0];
    uint32_t type = out->dtype;
    if (!cpu_is_float(type) && type != STRAND_PLUGIN_I32 && type != STRAND_PLUGIN_I64)
        NO("the output is of no type of fixed size");
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        if (!cpu_input(node, i)) NO("%s is missing", what[i]);
        if (node->inputs[i].dtype != type) NO("%s is of another type than the output", what[i]);
    }
    return true;
}

/* Input i has the output's rank and covers all of its axes but this one, of which it and the output are whole. */
static bool along(const strand_plugin_node *node, uint32_t i, int32_t axis, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = &node->inputs[i], *out = &node->outputs[0];
    uint32_t at = cpu_axis(axis, out->rank);
    if (in->rank != out->rank) NO("%s has another rank than the output", what[i]);
    if (at >= out->rank) NO("there is no axis %d", axis);
    if (!whole_axis(in, at, -1) || !whole_axis(out, at, -1)) NO("axis %d must be whole", axis);
    for (uint32_t k = 0; k < out->rank; k++)
        if (k != at && !covers(node, i, k, k)) NO("%s does not cover the output", what[i]);
    return true;
}

bool cpu_supports_reshape(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(movable(node, 1, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    int64_t first[STRAND_PLUGIN_RANK] = {0}, n[STRAND_PLUGIN_RANK], from = 1, to = 1;
    cpu_reshape_source(x, out, first, n);
    for (uint32_t i = 0; i < x->rank; i++)
        if (first[i] < 0) NO("x does not cover the output");
    for (uint32_t i = 0; i < x->rank; i++)
        if (__builtin_mul_overflow(from, n[i], &from)) NO("too many elements");
    for (uint32_t i = 0; i < out->rank; i++)
        if (__builtin_mul_overflow(to, out->dims[i], &to)) NO("too many elements");
    if (from != to) NO("x and the output have different numbers of elements");
    return true;
}

bool cpu_supports_concat(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_concat *p = node->params;
    TRY(movable(node, STRAND_PLUGIN_MAX_INPUTS, why, why_bytes));
    int64_t sum = 0;
    for (uint32_t i = 0; i < node->n_inputs; i++) {
        TRY(along(node, i, p->axis, why, why_bytes));
        if (__builtin_add_overflow(sum, node->inputs[i].dims[cpu_axis(p->axis, node->outputs[0].rank)], &sum))
            NO("too many elements");
    }
    if (sum != node->outputs[0].dims[cpu_axis(p->axis, node->outputs[0].rank)]) NO("the inputs do not add up to the output");
    return true;
}

bool cpu_supports_slice(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_slice *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    TRY(movable(node, 1, why, why_bytes));
    uint32_t axis = cpu_axis(p->axis, out->rank);
    if (cpu_slice_is_all(p)) {
        if (x->rank != out->rank || axis >= out->rank) NO("there is no axis %d, or x has another rank", p->axis);
        return placed(node, 0, false, why, why_bytes);
    }
    TRY(along(node, 0, p->axis, why, why_bytes));
    int64_t n = x->dims[axis], last = 0, count = out->dims[axis], begin = p->begin < 0 ? p->begin + n : p->begin;
    if (count < 1) return true;
    if (p->step == 0 || __builtin_mul_overflow(count - 1, p->step, &last) || __builtin_add_overflow(begin, last, &last))
        NO("the slice leaves the axis");
    if (begin < 0 || begin >= n || last < 0 || last >= n) NO("the slice leaves the axis of %lld", (long long)n);
    return true;
}

bool cpu_supports_permute(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_permute *p = node->params;
    TRY(movable(node, 1, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t seen = 0;
    if (x->rank != out->rank) NO("x has another rank than the output");
    for (uint32_t i = 0; i < out->rank; i++) {
        if (p->axes[i] >= x->rank || (seen >> p->axes[i] & 1)) NO("the axes are not those of x, each once");
        seen |= 1u << p->axes[i];
        if (!covers(node, 0, p->axes[i], i)) NO("x does not cover the output");
    }
    return true;
}

bool cpu_supports_pad(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_pad *p = node->params;
    TRY(movable(node, 1, why, why_bytes));
    TRY(along(node, 0, p->axis, why, why_bytes));
    uint32_t axis = cpu_axis(p->axis, node->outputs[0].rank);
    int64_t n = node->inputs[0].dims[axis], sum;
    if (p->mode > STRAND_PAD_REFLECT || p->before < 0 || p->after < 0)
        NO("unknown mode %u, or padding that is negative", p->mode);
    if (p->mode == STRAND_PAD_EDGE && n < 1) NO("an empty axis has no edge");
    if (p->mode == STRAND_PAD_REFLECT && (p->before >= n || p->after >= n)) NO("a reflection must be shorter than the axis");
    if (!cpu_is_float(node->outputs[0].dtype) && p->value != 0) NO("whole numbers are padded with 0");
    if (__builtin_add_overflow(n, p->before, &sum) || __builtin_add_overflow(sum, p->after, &sum) ||
        sum != node->outputs[0].dims[axis])
        NO("the output is not as long as x and its padding");
    return true;
}

bool cpu_supports_repeat(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_repeat *p = node->params;
    TRY(movable(node, 1, why, why_bytes));
    TRY(along(node, 0, p->axis, why, why_bytes));
    uint32_t axis = cpu_axis(p->axis, node->outputs[0].rank);
    int64_t all;
    if (p->times < 1 || __builtin_mul_overflow(node->inputs[0].dims[axis], p->times, &all) ||
        all != node->outputs[0].dims[axis])
        NO("the output is not %lld times x", (long long)p->times);
    return true;
}

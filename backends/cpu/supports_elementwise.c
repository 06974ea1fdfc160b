/* supports_elementwise.c - predicates of functions of rows and of reductions over an axis. */
#include "check.h"

/* x has the output's shape, and the whole of its last axis. */
static bool whole_rows(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    TRY(placed(node, 0, false, why, why_bytes));
    if (x->rank != out->rank || x->dims[out->rank - 1] != out->dims[out->rank - 1]) NO("the last axis must be whole");
    return true;
}

bool cpu_supports_norm(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 3, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_norm *p = node->params;
    uint32_t last = node->outputs[0].rank - 1;
    if (p->kind > STRAND_NORM_L2 || p->eps_rule > STRAND_EPS_FLOOR)
        NO("unknown kind %u or rule for eps %u", p->kind, p->eps_rule);
    if (p->groups < 1 || node->outputs[0].dims[last] % p->groups)
        NO("%lld groups do not divide the last axis", (long long)p->groups);
    TRY(whole_rows(node, why, why_bytes));
    TRY(vector(node, 1, last, why, why_bytes));
    return vector(node, 2, last, why, why_bytes);
}

bool cpu_supports_softmax(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    return whole_rows(node, why, why_bytes);
}

bool cpu_supports_glu(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_glu *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    if (!known_function(p->activation, p->alpha, p->beta)) NO("unknown activation, or parameters that it cannot have");
    if (x->rank != out->rank || x->dims[last] % 2 || x->dims[last] / 2 != out->dims[last] || x->origin[last] ||
        out->origin[last])
        NO("x is not [..., 2d] with the whole of the last axis");
    for (uint32_t axis = 0; axis < last; axis++)
        if (!covers(node, 0, axis, axis)) NO("x does not cover the output");
    return true;
}

bool cpu_supports_reduce_axis(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 2, why, why_bytes));
    const strand_op_reduce_axis *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0], *lengths = cpu_input(node, 1);
    int32_t rank = (int32_t)x->rank, axis = p->axis < 0 ? p->axis + rank : p->axis;
    if (x->dtype != STRAND_PLUGIN_F32) NO("x is not F32");
    if (p->kind > STRAND_AXIS_LAST || p->window < 0)
        NO("unknown reduction %u, or a window of %lld", p->kind, (long long)p->window);
    if (out->dtype != (p->kind == STRAND_AXIS_ARGMAX ? STRAND_PLUGIN_I64 : STRAND_PLUGIN_F32))
        NO("the output is neither F32 nor, of ARGMAX, I64");
    if (axis < 0 || axis >= rank) NO("x has no axis %d", p->axis);
    bool stays = p->window || p->keep;
    if (out->rank + (stays ? 0 : 1) != x->rank) NO("the output's rank is %u", out->rank);
    if (!whole_axis(x, (uint32_t)axis, -1) || x->dims[axis] < 1 || x->dims[axis] > INT32_MAX)
        NO("the reduced axis must be whole, and not empty");
    if (stays && (out->origin[axis] || out->dims[axis] > (p->window ? x->dims[axis] / p->window : 1)))
        NO("the output has too many windows");
    for (uint32_t i = 0; i < x->rank; i++)
        if ((int32_t)i != axis && !covers(node, 0, i, (int32_t)i > axis && !stays ? i - 1 : i))
            NO("x does not cover the output");
    if (!lengths) return true;
    if (axis != 1 || p->window) NO("lengths are of the whole of axis 1");
    if (lengths->rank != 1 || (lengths->dtype != STRAND_PLUGIN_I32 && lengths->dtype != STRAND_PLUGIN_I64) ||
        !covers(node, 1, 0, 0))
        NO("lengths are not I32 or I64, one for each index of axis 0");
    return true;
}

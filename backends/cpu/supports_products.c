/* supports_products.c - what the plugin accepts of block-diagonal and grouped products and of TOP_K. */
#include "check.h"

/* Is a = b * c, for extents that are not negative? Says no rather than overflow. */
static bool is_product(int64_t a, int64_t b, int64_t c) {
    return b == 0 ? a == 0 : a % b == 0 && a / b == c;
}

bool cpu_supports_block_diagonal(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 3, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_block_diagonal *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    if (p->flags & ~(STRAND_BLOCK_IN_INTERLEAVED | STRAND_BLOCK_OUT_INTERLEAVED)) NO("unknown flags");
    if (!known_function(p->activation, p->alpha, p->beta)) NO("unknown activation, or parameters that it cannot have");
    if (w->rank != 3 || !whole_axis(w, 0, -1) || !whole_axis(w, 1, -1) || !whole_axis(w, 2, -1))
        NO("the weight is not a whole [blocks, out, in]");
    if (x->rank != out->rank) NO("x and the output differ in rank");
    if (!whole_axis(x, last, -1) || !is_product(x->dims[last], w->dims[0], w->dims[2]))
        NO("x's last axis has not the inputs of all blocks");
    if (!whole_axis(out, last, -1) || !is_product(out->dims[last], w->dims[0], w->dims[1]))
        NO("the output's last axis has not the outputs of all blocks");
    for (uint32_t axis = 0; axis < last; axis++)
        if (!covers(node, 0, axis, axis)) NO("x does not cover the output");
    return vector(node, 2, last, why, why_bytes);
}

bool cpu_supports_grouped_matmul(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_quantised(node, 3, 4, 1, 2, why, why_bytes));
    const strand_op_grouped_matmul *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *ids = &node->inputs[2],
                               *bias = cpu_input(node, 3), *out = &node->outputs[0];
    if (!known_function(p->activation, p->alpha, p->beta)) NO("unknown activation, or parameters that it cannot have");
    if (out->rank != 3 || w->rank != 3 || ids->rank != 2 || (x->rank != 2 && x->rank != 3))
        NO("a tensor has another rank than it should");
    TRY(f32(node, 0, 1, why, why_bytes));
    if (!cpu_is_float(w->dtype) && !cpu_is_quantised(w->dtype)) NO("the weight is not F32, F16, BF16 or a quantised type");
    if (ids->dtype != STRAND_PLUGIN_I32 && ids->dtype != STRAND_PLUGIN_I64) NO("ids are neither I32 nor I64");
    if (!whole_axis(w, 0, -1) || !whole_axis(w, 2, -1) || x->dims[x->rank - 1] != w->dims[2])
        NO("the inner extents differ, or experts are cut");
    if (x->origin[x->rank - 1] != 0) NO("x is cut along its inner axis");
    if (!covers(node, 1, 1, 2) || !covers(node, 2, 0, 0) || !covers(node, 2, 1, 1))
        NO("the weight or ids do not cover the output");
    if (!covers(node, 0, 0, 0) || (x->rank == 3 && !covers(node, 0, 1, 1))) NO("x does not cover the output");
    if (out->dims[0] > 0 && out->dims[1] > INT32_MAX / out->dims[0]) NO("more than 2^31 rows");
    if (!bias) return true;
    if (bias->dtype != STRAND_PLUGIN_F32 || bias->rank != 2 || bias->origin[0] || bias->dims[0] != w->dims[0] ||
        !covers(node, 3, 1, 2))
        NO("the bias is not F32 [experts, N]");
    return true;
}

bool cpu_supports_top_k(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 1, 1, 2, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_top_k *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    if (p->values > STRAND_TOP_K_SIGMOID) NO("unknown kind of values");
    if (x->rank != out->rank || !whole_axis(x, last, x->whole[last])) NO("x is not whole along its last axis");
    if (x->dims[last] > INT32_MAX || p->k < 1 || p->k > x->dims[last]) NO("k is less than 1 or more than the last extent");
    if (!whole_axis(out, last, p->k)) NO("the output has not k values a row");
    for (uint32_t axis = 0; axis < last; axis++)
        if (!covers(node, 0, axis, axis)) NO("x does not cover the output");
    if (node->n_outputs < 2) return true;
    const strand_plugin_tensor *ids = &node->outputs[1];
    if (ids->dtype != STRAND_PLUGIN_I64 || ids->rank != out->rank) NO("the second output is not I64 of the output's rank");
    for (uint32_t axis = 0; axis <= last; axis++)
        if (ids->dims[axis] != out->dims[axis]) NO("the two outputs differ in shape");
    return true;
}

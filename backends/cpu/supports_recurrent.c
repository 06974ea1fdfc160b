/* supports_recurrent.c - predicates of recurrences that are not linear in the state. */
#include "check.h"

bool cpu_supports_gru(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 2, 4, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *b = cpu_input(node, 2), *state = cpu_input(node, 3);
    const strand_plugin_tensor *out = &node->outputs[0], *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    if (x->rank != 3 || out->rank != 3 || w->rank != 2) NO("x, weight and output are not [B, L, 3H], [3H, H] and [B, L, H]");
    int64_t h = out->dims[2];
    if (h < 1 || x->dims[2] % 3 || x->dims[2] / 3 != h || x->origin[2] || out->origin[2]) NO("x is not three times as wide as the output");
    if (w->dims[1] != h || w->dims[0] != x->dims[2] || w->origin[0] || w->origin[1]) NO("the weight is not [3H, H]");
    if (!covers(node, 0, 0, 0)) NO("x does not cover the output");
    if (x->origin[1] || out->origin[1] || x->dims[1] != out->dims[1]) NO("the length must be whole");
    if (b && (b->rank != 1 || b->origin[0] || b->dims[0] != x->dims[2])) NO("the bias is not [3H]");
    if (state && (state->rank != 2 || !covers(node, 3, 0, 0) || state->origin[1] || state->dims[1] != h)) NO("the state is not [B, H]");
    if (!last) return true;
    if (last->dtype != STRAND_PLUGIN_F32 || last->rank != 2 || last->dims[0] != out->dims[0] || last->dims[1] != h || last->origin[1])
        NO("the second output is not F32 [B, H]");
    return true;
}

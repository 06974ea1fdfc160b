/* supports_recurrent.c - predicates of recurrences that are not linear in the state. */
#include "check.h"

bool cpu_supports_gru(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 2, 4, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *b = cpu_input(node, 2),
                               *state = cpu_input(node, 3);
    const strand_plugin_tensor *out = &node->outputs[0], *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    if ((out->rank != 3 && out->rank != 4) || x->rank != out->rank || w->rank != 2)
        NO("x, weight and output are not [..., L, 3H], [3H, H] and [..., L, H]");
    uint32_t time = out->rank - 2, width = out->rank - 1;
    int64_t h = out->dims[width];
    if (h < 1 || x->dims[width] % 3 || x->dims[width] / 3 != h || x->origin[width] || out->origin[width])
        NO("x is not three times as wide as the output");
    if (w->dims[1] != h || w->dims[0] != x->dims[width] || w->origin[0] || w->origin[1]) NO("the weight is not [3H, H]");
    if (x->origin[time] || out->origin[time] || x->dims[time] != out->dims[time]) NO("the length must be whole");
    if (b && (b->rank != 1 || b->origin[0] || b->dims[0] != x->dims[width])) NO("the bias is not [3H]");
    if (state && (state->rank != width || state->origin[time] || state->dims[time] != h)) NO("the state is not [..., H]");
    if (last && (last->dtype != STRAND_PLUGIN_F32 || last->rank != width || last->dims[time] != h || last->origin[time]))
        NO("the second output is not F32 [..., H]");
    for (uint32_t axis = 0; axis < time; axis++) {
        if (!covers(node, 0, axis, axis) || !covers(node, 3, axis, axis)) NO("x and the state do not cover the output");
        if (last && last->dims[axis] != out->dims[axis]) NO("the second output has another batch");
    }
    return true;
}

/* Every extent of t from axis `from` on is whole and as given. */
static bool extents(const strand_plugin_tensor *t, uint32_t from, uint32_t n, const int64_t *dims) {
    for (uint32_t i = 0; i < n; i++)
        if (!whole_axis(t, from + i, dims[i])) return false;
    return true;
}

bool cpu_supports_graph_gru(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 5, 6, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_graph_gru *p = node->params;
    const strand_plugin_tensor *gates = &node->inputs[0], *x = &node->inputs[1], *s = &node->inputs[2],
                               *state = cpu_input(node, 5);
    const strand_plugin_tensor *out = &node->outputs[0], *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    if (out->rank != 4 || x->rank != 4 || gates->rank != 4 || node->inputs[3].rank != 2 || node->inputs[4].rank != 2 ||
        s->rank < 3)
        NO("tensors have other ranks");
    int64_t l = out->dims[1], n = out->dims[2], h = out->dims[3], count = s->dims[s->rank - 3];
    if (p->steps < 1 || p->steps > 1024 || count < 1 || count > 1024 || p->flags & ~STRAND_DIFFUSION_CARRY_OVER ||
        p->precision > STRAND_PRECISION_BF16)
        NO("too many steps or supports, or unknown flags or precision");
    if (n > 1 << 13 || h < 1 || h > 1 << 16) NO("too many nodes or units");
    int64_t rows = h * (1 + count * p->steps);
    if (!extents(out, 1, 3, (int64_t[]){l, n, h}) || !extents(x, 1, 3, (int64_t[]){l, n, h}) ||
        !extents(gates, 1, 3, (int64_t[]){l, n, 2 * h}))
        NO("the inputs are not [B, L, N, 2H] and [B, L, N, H]");
    if (!extents(s, s->rank - 3, 3, (int64_t[]){count, n, n}) || (s->rank == 4 && !covers(node, 2, 0, 0)))
        NO("the supports are not [M, N, N] or [B, M, N, N]");
    if (!extents(&node->inputs[3], 0, 2, (int64_t[]){rows, 2 * h}) || !extents(&node->inputs[4], 0, 2, (int64_t[]){rows, h}))
        NO("the weights have other extents");
    if (!covers(node, 0, 0, 0) || !covers(node, 1, 0, 0)) NO("the inputs do not cover the output");
    if (state && (state->rank != 3 || !covers(node, 5, 0, 0) || !extents(state, 1, 2, (int64_t[]){n, h})))
        NO("the state is not [B, N, H]");
    if (last && (last->dtype != STRAND_PLUGIN_F32 || last->rank != 3 || last->dims[0] != out->dims[0] ||
                 !extents(last, 1, 2, (int64_t[]){n, h})))
        NO("the second output is not F32 [B, N, H]");
    return true;
}

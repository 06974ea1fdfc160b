/* supports.c - what the plugin accepts: one predicate an operator, asked while the host plans and again by each launch.
 *
 * The reference and the fast kernels share these, so they accept the same shapes. A predicate looks at shapes, types and
 * parameters only (while judging there is no memory); it is what keeps a kernel from reading outside a view. */
#include "check.h"

bool cpu_supports_gather(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_quantised(node, 2, 2, 1, 1, why, why_bytes));
    const strand_plugin_tensor *table = &node->inputs[0], *ids = &node->inputs[1], *out = &node->outputs[0];
    bool type = cpu_is_float(table->dtype) || cpu_is_quantised(table->dtype);
    if (!type || table->rank != 2) NO("the table is not [rows, d] of F32, F16, BF16 or a quantised type");
    if (ids->dtype != STRAND_PLUGIN_I32 && ids->dtype != STRAND_PLUGIN_I64) NO("ids are neither I32 nor I64");
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != ids->rank + 1) NO("the output is not F32 [ids..., d]");
    if (table->origin[0] != 0) NO("a tile of the table's rows cannot be looked up");
    if (!covers(node, 0, 1, out->rank - 1)) NO("the table's rows are narrower than the output's");
    for (uint32_t axis = 0; axis < ids->rank; axis++)
        if (!covers(node, 1, axis, axis)) NO("ids do not cover the output");
    return true;
}

/* Does matrix input `i` have the output's batch axes (or none), and cover `rows` of it along axis `oa`? */
static bool matrix(const strand_plugin_node *node, uint32_t i, uint32_t oa, bool last, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = &node->inputs[i], *out = &node->outputs[0];
    if (!cpu_is_float(in->dtype) && !cpu_is_quantised(in->dtype)) NO("%s is not F32, F16, BF16 or a quantised type", what[i]);
    if (in->rank != 2 && in->rank != out->rank) NO("%s has neither the output's rank nor rank 2", what[i]);
    if (!covers(node, i, in->rank - (last ? 1 : 2), oa)) NO("%s does not cover the output", what[i]);
    if (in->rank == 2) return true;
    for (uint32_t axis = 0; axis + 2 < out->rank; axis++)
        if (!covers(node, i, axis, axis)) NO("the batch axes of %s differ from the output's", what[i]);
    return true;
}

bool cpu_supports_matmul(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_quantised(node, 2, 3, 1, 2, why, why_bytes));
    const strand_op_matmul *p = node->params;
    const strand_plugin_tensor *a = &node->inputs[0], *b = &node->inputs[1], *out = &node->outputs[0];
    if (out->rank < 2 || a->rank < 2 || b->rank < 2) NO("matrices have rank 2 at least");
    if (p->bias > STRAND_BIAS_COLUMNS || p->precision > STRAND_PRECISION_BF16) NO("unknown bias or precision");
    if (!known_function(p->activation, p->alpha, p->beta)) NO("unknown activation, or parameters that it cannot have");
    TRY(f32(node, 2, node->n_inputs, why, why_bytes));
    TRY(matrix(node, 0, out->rank - 2, p->transpose_a != 0, why, why_bytes));
    TRY(matrix(node, 1, out->rank - 1, p->transpose_b == 0, why, why_bytes));
    uint32_t ka = a->rank - (p->transpose_a ? 2 : 1), kb = b->rank - (p->transpose_b ? 1 : 2);
    if (a->dims[ka] != b->dims[kb] || a->origin[ka] != b->origin[kb]) NO("the inner extents differ");
    if (cpu_is_quantised(b->dtype) && (p->transpose_a || !p->transpose_b))
        NO("a quantised b is read transposed, with a that is not");
    if (p->bias && !cpu_input(node, 2)) NO("the bias is missing");
    return !p->bias || vector(node, 2, out->rank - (p->bias == STRAND_BIAS_ROWS ? 2 : 1), why, why_bytes);
}

bool cpu_supports_layer_norm(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 3, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    uint32_t last = out->rank - 1;
    TRY(placed(node, 0, false, why, why_bytes));
    if (x->rank != out->rank || x->dims[last] != out->dims[last]) NO("the last axis must be whole");
    TRY(vector(node, 1, last, why, why_bytes));
    return vector(node, 2, last, why, why_bytes);
}

bool cpu_supports_unary(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 1, why, why_bytes));
    TRY(f32(node, 0, 1, why, why_bytes));
    const strand_op_unary *p = node->params;
    if (!known_function(p->kind, p->alpha, p->beta)) NO("unknown function %u, or parameters that it cannot have", p->kind);
    return placed(node, 0, false, why, why_bytes);
}

bool cpu_supports_binary(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(f32(node, 0, 2, why, why_bytes));
    const strand_op_binary *p = node->params;
    if (p->kind > STRAND_BINARY_LAST) NO("unknown function %u", p->kind);
    if (!known_function(p->activation, p->alpha, p->beta)) NO("unknown activation, or parameters that it cannot have");
    TRY(placed(node, 0, true, why, why_bytes));
    return placed(node, 1, true, why, why_bytes);
}

/* An activation that takes no parameters. */
static bool plain_function(uint32_t kind) {
    return kind <= STRAND_UNARY_LAST && kind != STRAND_UNARY_LEAKY_RELU && kind != STRAND_UNARY_AFFINE &&
           kind != STRAND_UNARY_CLAMP && kind != STRAND_UNARY_ELU && kind != STRAND_UNARY_SOFTCAP;
}

/* The second output is [..., C, K-1] or [..., K-1, C]; so is the state. */
static bool kept_inputs(const strand_plugin_node *node, uint32_t channel, uint32_t time, int64_t kept, char *why,
                        size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 3),
                               *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    for (uint32_t i = 0; i < out->rank && state; i++)
        if (i != time && (state->rank != out->rank || !covers(node, 3, i, i))) NO("the state does not cover the output");
    if (state && (state->rank != out->rank || !whole_axis(state, time, kept)))
        NO("the state does not hold %lld inputs", (long long)kept);
    if (!last) return true;
    if (last->dtype != STRAND_PLUGIN_F32 || last->rank != out->rank || last->dims[channel] != out->dims[channel] ||
        last->dims[time] != kept)
        NO("the second output is not x's last %lld inputs", (long long)kept);
    for (uint32_t i = 0; i + 2 < out->rank; i++)
        if (last->dims[i] != out->dims[i]) NO("the second output has another batch");
    if (out->dims[time] < 1) NO("an empty sequence has no last inputs");
    return true;
}

bool cpu_supports_short_conv(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 2, 4, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_short_conv *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *w = &node->inputs[1], *out = &node->outputs[0];
    if (p->flags & ~STRAND_SHORT_CONV_TOKEN_MAJOR || !plain_function(p->activation))
        NO("unknown flags %u or activation %u", p->flags, p->activation);
    if (out->rank < 2 || x->rank != out->rank) NO("x and the output have no channels and length");
    TRY(placed(node, 0, false, why, why_bytes));
    bool tokens = p->flags & STRAND_SHORT_CONV_TOKEN_MAJOR;
    uint32_t channel = out->rank - (tokens ? 1 : 2), time = out->rank - (tokens ? 2 : 1);
    if (w->rank != 2 || w->dims[1] < 1 || w->origin[1] != 0 || !covers(node, 1, 0, channel)) NO("weight is not [C, K]");
    TRY(vector(node, 2, channel, why, why_bytes));
    if (x->origin[time] > cpu_max(0, out->origin[time] - (w->dims[1] - 1))) NO("x begins after the history that is needed");
    return kept_inputs(node, channel, time, w->dims[1] - 1, why, why_bytes);
}

bool cpu_supports_long_conv(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 6, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_long_conv *p = node->params;
    const strand_plugin_tensor *u = &node->inputs[0], *out = &node->outputs[0];
    if (p->flags & ~STRAND_LONG_CONV_FLAGS) NO("unknown flags");
    if (out->rank < 2 || u->rank != out->rank) NO("u and the output are [..., C, L]");
    uint32_t channels = out->rank - 2, length = out->rank - 1;
    if (out->origin[length] != 0 || u->origin[length] != 0) NO("a tile along the length cannot be convolved");
    if (out->dims[length] > (int64_t)1 << 22) NO("longer than 2^22");
    static const uint32_t sequences[] = {0, 3, 4}, filters[] = {1, 5};
    for (int i = 0; i < 3; i++) TRY(placed(node, sequences[i], false, why, why_bytes));
    for (int i = 0; i < 2; i++) {
        const strand_plugin_tensor *f = cpu_input(node, filters[i]);
        if (f && (f->rank != 2 || f->dims[1] < 1 || f->origin[1] != 0 || !covers(node, filters[i], 0, channels)))
            NO("%s is not [C, T]", what[filters[i]]);
    }
    return vector(node, 2, channels, why, why_bytes);
}

bool cpu_supports_reduce(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 1, 2, why, why_bytes));
    const strand_op_reduce *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *ids = cpu_input(node, 1), *out = &node->outputs[0];
    TRY(f32(node, 0, 1, why, why_bytes));
    if (p->kind > STRAND_REDUCE_BEFORE_TOKEN) NO("unknown reduction %u", p->kind);
    if (x->rank != 3 || out->rank != 2 || x->dims[1] < 1 || x->origin[1] != 0) NO("x is not [B, L, d] with the whole of L");
    if (!covers(node, 0, 0, 0) || !covers(node, 0, 2, 1)) NO("x does not cover the output");
    if (p->kind != STRAND_REDUCE_BEFORE_TOKEN) return true;
    if (!ids || (ids->dtype != STRAND_PLUGIN_I32 && ids->dtype != STRAND_PLUGIN_I64)) NO("ids are neither I32 nor I64");
    if (ids->rank != 2 || ids->dims[1] != x->dims[1] || ids->origin[1] != 0 || !covers(node, 1, 0, 0)) NO("ids are not [B, L]");
    return true;
}

bool cpu_supports_positions(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 0, 0, why, why_bytes));
    TRY(f32(node, 0, 0, why, why_bytes));
    const strand_op_positions *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    if (p->n < 1) NO("a grid of %lld points", (long long)p->n);
    if (out->rank != 2 || out->origin[1] < 0 || out->origin[1] + out->dims[1] > 1 + 2 * (int64_t)p->bands) {
        NO("the output is not [T, 1 + 2 bands]");
    }
    return true;
}

bool cpu_supports_decay_window(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(f32(node, 0, 2, why, why_bytes));
    const strand_op_decay_window *p = node->params;
    if (p->n < 1) NO("a grid of %lld points", (long long)p->n);
    if (node->outputs[0].rank != 2 || node->inputs[0].rank != 2) NO("k and the output are [C, T]");
    TRY(placed(node, 0, false, why, why_bytes));
    return vector(node, 1, 0, why, why_bytes);
}

bool cpu_supports_cast(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_quantised(node, 1, 1, 1, 1, why, why_bytes));
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    if (cpu_is_quantised(x->dtype)) {
        if (out->dtype != STRAND_PLUGIN_F32) NO("quantised types are cast to F32 alone");
    } else if (!cpu_is_float(x->dtype) || !cpu_is_float(out->dtype)) {
        NO("only F32, F16, BF16 and quantised types are cast");
    }
    return placed(node, 0, false, why, why_bytes);
}

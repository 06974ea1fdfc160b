/* supports_matrix_state.c - what the plugin accepts of the recurrences with a matrix for each head. The length is always
 * whole (but for TOKEN_SHIFT), y may be a tile of batch entries and of channels; only the values are cut with it. */
#include "check.h"

#define MOST_WIDTH    ((int64_t)1 << 20) /* of a head's keys or values */
#define MOST_STATE    ((int64_t)1 << 28) /* elements of one head's state: keeps the sizes of working memory in range */
#define MOST_CHANNELS ((int64_t)1 << 40)

/* Input i is [B, L, channels] with the batch entries and all the tokens of y; `channels` 0: those of y. */
static bool tokens(const strand_plugin_node *node, uint32_t i, int64_t channels, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i), *out = &node->outputs[0];
    if (!in) return true;
    if (in->rank != 3 || !covers(node, i, 0, 0)) NO("%s is not [B, L, channels]", what[i]);
    if (in->origin[1] != 0 || in->dims[1] != out->dims[1]) NO("%s has not the length of y", what[i]);
    if (channels ? !whole_axis(in, 2, channels) : !covers(node, i, 2, 2))
        NO("%s has not the channels that are needed", what[i]);
    return true;
}

/* The same, or one value a channel. */
static bool tokens_or_vector(const strand_plugin_node *node, uint32_t i, int64_t channels, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = &node->inputs[i];
    if (in->rank != 1) return tokens(node, i, channels, why, why_bytes);
    if (!whole_axis(in, 0, channels)) NO("%s is not a vector over all channels", what[i]);
    return true;
}

static bool whole_vector(const strand_plugin_node *node, uint32_t i, int64_t extent, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (in && (in->rank != 1 || !whole_axis(in, 0, extent))) NO("%s is not a whole vector", what[i]);
    return true;
}

static bool whole_output(const strand_plugin_node *node) {
    const strand_plugin_tensor *out = &node->outputs[0];
    for (uint32_t axis = 0; axis < out->rank; axis++)
        if (!whole_axis(out, axis, out->whole[axis])) return false;
    return true;
}

/* y is [B, whole L, channels]: at least one head of at least one value. */
static bool values(const strand_plugin_node *node, int64_t heads, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0];
    if (out->rank != 3 || out->origin[1] != 0) NO("y is not [B, L, channels] with the whole length");
    if (heads < 1 || out->whole[2] < heads || out->whole[2] > MOST_CHANNELS || out->whole[2] % heads)
        NO("the heads do not divide the channels");
    if (out->origin[2] < 0 || out->dims[2] > out->whole[2] || out->origin[2] > out->whole[2] - out->dims[2])
        NO("y is not inside its whole");
    return true;
}

/* The state, input i where it is present, and the second output are [B, heads, rows, columns]. */
static bool states(const strand_plugin_node *node, uint32_t i, int64_t heads, int64_t rows, int64_t columns, char *why,
                   size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i), *second = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    const int64_t extents[4] = {0, heads, rows, columns};
    if (rows < 1 || columns < 1 || rows > MOST_STATE / columns) NO("a head's state is too large");
    if (in && (in->rank != 4 || !covers(node, i, 0, 0))) NO("the state is not of the batch of y");
    if (second && (second->rank != 4 || second->dtype != STRAND_PLUGIN_F32 || !whole_output(node) ||
                   !whole_axis(second, 0, node->outputs[0].dims[0])))
        NO("the state goes with the whole of y");
    for (uint32_t axis = 1; axis < 4; axis++) {
        if (in && !whole_axis(in, axis, extents[axis])) NO("the state has not the extents of the heads");
        if (second && !whole_axis(second, axis, extents[axis])) NO("the new state has not the extents of the heads");
    }
    return true;
}

/* The width of one of `parts` equal parts of input i's channels, or 0. */
static int64_t width_of(const strand_plugin_node *node, uint32_t i, int64_t parts) {
    const strand_plugin_tensor *in = &node->inputs[i];
    int64_t channels = in->rank == 3 ? in->dims[2] : 0;
    return parts > 0 && channels >= parts && channels % parts == 0 && channels / parts <= MOST_WIDTH ? channels / parts : 0;
}

bool cpu_supports_ssd(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 4, 8, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_ssd *p = node->params;
    TRY(values(node, p->heads, why, why_bytes));
    int64_t n = width_of(node, 2, p->groups), width = node->outputs[0].whole[2] / p->heads;
    if (p->groups < 1 || p->heads % p->groups || !n || width > MOST_WIDTH) NO("the groups do not divide heads and channels");
    TRY(tokens(node, 0, 0, why, why_bytes));
    TRY(tokens_or_vector(node, 1, p->heads, why, why_bytes));
    TRY(tokens(node, 2, n * p->groups, why, why_bytes));
    TRY(tokens(node, 3, n * p->groups, why, why_bytes));
    TRY(tokens(node, 4, p->heads, why, why_bytes));
    TRY(whole_vector(node, 5, p->heads, why, why_bytes));
    TRY(whole_vector(node, 6, p->heads, why, why_bytes));
    return states(node, 7, p->heads, width, n, why, why_bytes);
}

bool cpu_supports_gated_linear_attention(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 4, 6, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_gated_linear_attention *p = node->params;
    TRY(values(node, p->heads, why, why_bytes));
    int64_t keys = width_of(node, 0, p->heads), width = node->outputs[0].whole[2] / p->heads;
    if (!keys || width > MOST_WIDTH) NO("the heads do not divide the channels of q");
    for (uint32_t i = 0; i < 3; i++) TRY(tokens(node, i, i < 2 ? keys * p->heads : 0, why, why_bytes));
    TRY(tokens_or_vector(node, 3, keys * p->heads, why, why_bytes));
    TRY(whole_vector(node, 4, keys * p->heads, why, why_bytes));
    return states(node, 5, p->heads, keys, width, why, why_bytes);
}

bool cpu_supports_delta_rule(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 6, 7, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_delta_rule *p = node->params;
    TRY(values(node, p->heads, why, why_bytes));
    int64_t keys = width_of(node, 0, p->heads), width = node->outputs[0].whole[2] / p->heads;
    if (!keys || width > MOST_WIDTH) NO("the heads do not divide the channels of r");
    for (uint32_t i = 0; i < 6; i++) TRY(tokens(node, i, i != 3 ? keys * p->heads : 0, why, why_bytes));
    return states(node, 6, p->heads, width, keys, why, why_bytes);
}

bool cpu_supports_linear_attention(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 3, 4, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_linear_attention *p = node->params;
    TRY(values(node, p->heads, why, why_bytes));
    int64_t keys = width_of(node, 0, p->heads), width = node->outputs[0].whole[2] / p->heads;
    if (!keys || width > MOST_WIDTH) NO("the heads do not divide the channels of q");
    if (p->feature > STRAND_FEATURE_TAYLOR2) NO("unknown feature map %u", p->feature);
    if (p->feature == STRAND_FEATURE_TAYLOR2 && keys > 1024) NO("more than 1024 keys a head for the Taylor features");
    for (uint32_t i = 0; i < 3; i++) TRY(tokens(node, i, i < 2 ? keys * p->heads : 0, why, why_bytes));
    int64_t features = p->feature == STRAND_FEATURE_TAYLOR2 ? 1 + keys + keys * keys : keys;
    return states(node, 3, p->heads, features, width + 1, why, why_bytes);
}

/* A state of rank `rank` whose first axis is the batch of y and whose last its channels, and the second output alike. */
static bool small_states(const strand_plugin_node *node, uint32_t i, uint32_t rank, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i), *out = &node->outputs[0],
                               *second = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    if (in && (in->rank != rank || !covers(node, i, 0, 0) || !covers(node, i, rank - 1, 2)))
        NO("the state does not cover the output");
    if (in && rank == 3 && !whole_axis(in, 1, 3)) NO("the state is not [B, 3, C]");
    if (!second) return true;
    if (second->rank != rank || second->dtype != STRAND_PLUGIN_F32 || !whole_output(node))
        NO("the state goes with the whole of y");
    if (!whole_axis(second, 0, out->dims[0]) || !whole_axis(second, rank - 1, out->dims[2]) ||
        (rank == 3 && !whole_axis(second, 1, 3)))
        NO("the new state has other extents than y");
    return true;
}

bool cpu_supports_wkv4(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 4, 5, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    TRY(values(node, 1, why, why_bytes));
    TRY(tokens(node, 0, 0, why, why_bytes));
    TRY(tokens(node, 1, 0, why, why_bytes));
    TRY(vector(node, 2, 2, why, why_bytes));
    TRY(vector(node, 3, 2, why, why_bytes));
    return small_states(node, 4, 3, why, why_bytes);
}

bool cpu_supports_token_shift(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 1, 3, 2, why, why_bytes));
    TRY(f32(node, 0, node->n_inputs, why, why_bytes));
    const strand_op_token_shift *p = node->params;
    const strand_plugin_tensor *x = &node->inputs[0], *out = &node->outputs[0];
    if (p->form > STRAND_SHIFT_LERP_PREV) NO("unknown form %u", p->form);
    if (out->rank != 3 || x->rank != 3) NO("x and the output are [B, L, C]");
    TRY(placed(node, 0, false, why, why_bytes));
    if (out->origin[1] < 0 || x->origin[1] > cpu_max(0, out->origin[1] - 1)) NO("x begins after the token that is needed");
    TRY(vector(node, 1, 2, why, why_bytes));
    return small_states(node, 2, 2, why, why_bytes);
}

/* supports_scans.c - what the plugin accepts of the scans and of the generators of their filters. Sequences are accepted
 * with the whole of their length, states with all their elements; batch and channels may be cut anywhere. */
#include "check.h"

#define STATES ((int64_t)1 << 16) /* a channel; keeps working memory countable */

/* Is input i F32 of this rank, with its axes in `along` covering those axes of the output (-1: the whole axis, of the given
 * extent)? */
static bool lies(const strand_plugin_node *node, uint32_t i, uint32_t rank, const int along[], int64_t extent, char *why,
                 size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (!in) return true;
    if (in->dtype != STRAND_PLUGIN_F32 || in->rank != rank) NO("%s is not F32 of rank %u", what[i], rank);
    for (uint32_t axis = 0; axis < rank; axis++) {
        if (along[axis] < 0 && !whole_axis(in, axis, extent))
            NO("axis %u of %s is not whole, or not of extent %lld", axis, what[i], (long long)extent);
        if (along[axis] >= 0 && !covers(node, i, axis, (uint32_t)along[axis])) NO("%s does not cover the output", what[i]);
    }
    return true;
}

#define LIES(i, rank, extent, ...) TRY(lies(node, i, rank, (const int[]){__VA_ARGS__}, extent, why, why_bytes))

/* [C or 1, N, 2], or [C or 1, N] of reals, where the first axis goes along `oa` of the output. */
static bool states_of(const strand_plugin_node *node, uint32_t i, uint32_t oa, int64_t states, bool pairs, bool shared,
                      char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (!in) return true;
    if (in->dtype != STRAND_PLUGIN_F32 || in->rank != (pairs ? 3 : 2))
        NO("%s is not F32, [channels, states%s]", what[i], pairs ? ", 2" : "");
    if (!whole_axis(in, 1, states)) NO("%s has other states", what[i]);
    if (pairs && !whole_axis(in, 2, 2)) NO("%s has no pairs", what[i]);
    bool one = shared && in->whole[0] == 1 && in->dims[0] == 1 && in->origin[0] == 0;
    if (!one && !covers(node, i, 0, oa)) NO("%s does not cover the output", what[i]);
    return true;
}

/* The second output: F32 with these extents, whole. */
static bool second(const strand_plugin_node *node, uint32_t rank, int64_t a, int64_t b, int64_t c, int64_t d, char *why,
                   size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[1];
    const int64_t dims[4] = {a, b, c, d};
    if (node->n_outputs < 2) return true;
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != rank) NO("the second output is not F32 of rank %u", rank);
    for (uint32_t axis = 0; axis < rank; axis++)
        if (!whole_axis(out, axis, dims[axis])) NO("the second output has another extent along axis %u", axis);
    for (uint32_t axis = 0; axis < node->outputs[0].rank; axis++)
        if (node->outputs[0].origin[axis]) NO("a tile has no second output");
    return true;
}

/* The output of a recurrence: F32 [B, L, C(, 2)], its length whole. */
static bool scanned(const strand_plugin_node *node, uint32_t rank, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0];
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != rank) NO("the output is not F32 of rank %u", rank);
    if (!whole_axis(out, 1, out->whole[1])) NO("a tile along the length cannot be scanned");
    if (rank == 4 && !whole_axis(out, 3, 2)) NO("the output has no pairs");
    return true;
}

static bool filter(const strand_plugin_node *node, bool tiles, char *why, size_t why_bytes) {
    const strand_plugin_tensor *out = &node->outputs[0];
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != 2) NO("the filter is not F32, [channels, taps]");
    if (!tiles && out->origin[1] != 0) NO("the filter is made from its first tap on");
    if (out->origin[1] < 0 || out->dims[1] > ((int64_t)1 << 40) - out->origin[1]) NO("too many taps");
    return true;
}

bool cpu_supports_ssm_discretize(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssm_discretize *p = node->params;
    TRY(sane_outputs(node, 2, 4, 2, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0];
    if (p->method > STRAND_SSM_PLAIN) NO("unknown method %u", p->method);
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != 3 || !whole_axis(out, 2, 2))
        NO("the output is not F32, [channels, states, 2]");
    LIES(1, 1, 0, 0);
    for (uint32_t i = 0; i < 4; i++) {
        const strand_plugin_tensor *in = i == 1 ? NULL : cpu_input(node, i);
        if (!in) continue;
        if (in->rank != 3 || in->dtype != STRAND_PLUGIN_F32) NO("%s is not F32, [channels or 1, states, 2]", what[i]);
        bool one = in->whole[0] == 1 && in->dims[0] == 1 && in->origin[0] == 0;
        if ((!one && !covers(node, i, 0, 0)) || !covers(node, i, 1, 1) || !covers(node, i, 2, 2))
            NO("%s does not cover the output", what[i]);
    }
    return second(node, 3, out->dims[0], out->dims[1], 2, 0, why, why_bytes);
}

bool cpu_supports_ssm_kernel_diagonal(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    TRY(sane(node, 2, 2, why, why_bytes));
    TRY(filter(node, true, why, why_bytes));
    if (!(p->eps >= 0)) NO("eps is negative");
    if (node->inputs[1].rank != 3 || node->inputs[1].dims[1] > STATES) NO("the coefficients are not [channels, states, 2]");
    TRY(states_of(node, 0, 0, node->inputs[1].dims[1], true, true, why, why_bytes));
    return states_of(node, 1, 0, node->inputs[1].dims[1], true, false, why, why_bytes);
}

bool cpu_supports_ssm_kernel_nplr(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    TRY(sane(node, 5, 5, why, why_bytes));
    TRY(filter(node, false, why, why_bytes));
    if (p->length < 1 || p->length > (int64_t)1 << 24) NO("a length of %lld", (long long)p->length);
    if (node->outputs[0].dims[1] > p->length) NO("more taps than the length");
    if (node->inputs[3].rank != 3 || node->inputs[3].dims[1] > STATES) NO("C is not [channels, states, 2]");
    for (uint32_t i = 0; i < 4; i++) TRY(states_of(node, i, 0, node->inputs[3].dims[1], true, i < 3, why, why_bytes));
    LIES(4, 1, 0, 0);
    return true;
}

bool cpu_supports_ssm_kernel_companion(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane(node, 3, 3, why, why_bytes));
    TRY(filter(node, false, why, why_bytes));
    int64_t d = node->inputs[0].rank == 2 ? node->inputs[0].dims[1] : 0;
    if (d < 1 || d > STATES) NO("a is not [kernels, d]");
    for (uint32_t i = 0; i < 3; i++) LIES(i, 2, d, 0, -1);
    return true;
}

bool cpu_supports_lti_scan(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 2, 6, 2, why, why_bytes));
    TRY(scanned(node, 3, why, why_bytes));
    const strand_plugin_tensor *poles = &node->inputs[1], *out = &node->outputs[0];
    bool pairs = poles->rank == 3;
    int64_t n = poles->rank > 1 ? poles->dims[1] : -1;
    if (n < 0 || n > STATES) NO("the poles are not [channels or 1, states] or [channels or 1, states, 2]");
    LIES(0, 3, 0, 0, 1, 2);
    for (uint32_t i = 1; i < 4; i++) TRY(states_of(node, i, 2, n, pairs, i == 1, why, why_bytes));
    LIES(4, 1, 0, 2);
    if (pairs) {
        const strand_plugin_tensor *state = cpu_input(node, 5);
        if (state && (state->rank != 4 || !whole_axis(state, 3, 2) || !whole_axis(state, 2, n)))
            NO("the state is not [batch, channels, states, 2]");
        if (state && (state->dtype != STRAND_PLUGIN_F32 || !covers(node, 5, 0, 0) || !covers(node, 5, 1, 2)))
            NO("the state does not cover the output");
    } else {
        LIES(5, 3, n, 0, 2, -1);
    }
    return second(node, pairs ? 4 : 3, out->dims[0], out->dims[2], n, 2, why, why_bytes);
}

bool cpu_supports_linear_recurrence(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_linear_recurrence *p = node->params;
    uint32_t rank = p->complex_pairs ? 4 : 3;
    TRY(sane_outputs(node, 2, 3, 2, why, why_bytes));
    TRY(scanned(node, rank, why, why_bytes));
    if (p->form > STRAND_RECURRENCE_RGLRU || (p->form && p->complex_pairs)) NO("an unknown form");
    const strand_plugin_tensor *out = &node->outputs[0];
    LIES(0, rank, 0, 0, 1, 2, 3);
    if (node->inputs[1].rank == rank) {
        LIES(1, rank, 0, 0, 1, 2, 3);
    } else {
        LIES(1, rank - 2, 0, 2, 3);
    }
    LIES(2, rank - 1, 0, 0, 2, 3);
    return second(node, rank - 1, out->dims[0], out->dims[2], 2, 0, why, why_bytes);
}

bool cpu_supports_companion_scan(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_companion_scan *p = node->params;
    TRY(sane_outputs(node, 3, 7, 2, why, why_bytes));
    TRY(scanned(node, 3, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0];
    bool u = cpu_input(node, 3), k = cpu_input(node, 4), skip = cpu_input(node, 5), state = cpu_input(node, 6);
    if (p->closed ? u || skip || !k || !state : !u || k) NO("an open loop takes u, a closed one k and a state");
    if (a->rank != 2 || a->dims[1] < 1 || a->dims[1] > STATES) NO("a is not [kernels, d]");
    if (a->whole[0] < 1 || out->whole[2] % a->whole[0]) NO("the channels are not a whole number of times the kernels");
    for (uint32_t i = 0; i < 5; i++) {
        const strand_plugin_tensor *in = i == 3 ? NULL : cpu_input(node, i);
        if (!in) continue;
        if (in->rank != 2 || in->whole[0] != a->whole[0]) NO("%s has not the kernels of a", what[i]);
        if (a->whole[0] == out->whole[2]) {
            LIES(i, 2, a->dims[1], 2, -1);
        } else {
            if (in->dtype != STRAND_PLUGIN_F32 || !whole_axis(in, 0, in->whole[0]) || !whole_axis(in, 1, a->dims[1]))
                NO("%s is not F32, [kernels, d] of all kernels", what[i]);
        }
    }
    LIES(3, 3, 0, 0, 1, 2);
    LIES(5, 1, 0, 2);
    LIES(6, 3, a->dims[1], 0, 2, -1);
    return second(node, 3, out->dims[0], out->dims[2], a->dims[1], 0, why, why_bytes);
}

bool cpu_supports_selective_scan(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 5, 9, 2, why, why_bytes));
    TRY(scanned(node, 3, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = node->inputs[2].rank == 2 ? node->inputs[2].dims[1] : -1;
    if (n < 0 || n > STATES) NO("A is not [channels, states]");
    LIES(0, 3, 0, 0, 1, 2);
    LIES(1, 3, 0, 0, 1, 2);
    LIES(2, 2, n, 2, -1);
    LIES(3, 3, n, 0, 1, -1);
    LIES(4, 3, n, 0, 1, -1);
    LIES(5, 1, 0, 2);
    LIES(6, 3, 0, 0, 1, 2);
    LIES(7, 1, 0, 2);
    LIES(8, 3, n, 0, 2, -1);
    return second(node, 3, out->dims[0], out->dims[2], n, 0, why, why_bytes);
}

bool cpu_supports_dplr_scan(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 6, 8, 2, why, why_bytes));
    TRY(scanned(node, 3, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 7);
    int64_t n = node->inputs[1].rank == 3 ? node->inputs[1].dims[1] : -1;
    if (n < 0 || n > STATES) NO("the poles are not [channels or 1, states, 2]");
    LIES(0, 3, 0, 0, 1, 2);
    for (uint32_t i = 1; i < 6; i++) TRY(states_of(node, i, 2, n, true, i < 4, why, why_bytes));
    LIES(6, 1, 0, 2);
    if (state && (state->rank != 4 || !whole_axis(state, 3, 2) || !whole_axis(state, 2, n)))
        NO("the state is not [batch, channels, states, 2]");
    if (state && (state->dtype != STRAND_PLUGIN_F32 || !covers(node, 7, 0, 0) || !covers(node, 7, 1, 2)))
        NO("the state does not cover the output");
    return second(node, 4, out->dims[0], out->dims[2], n, 2, why, why_bytes);
}

bool cpu_supports_ssm_discretize_nplr(const strand_plugin_node *node, char *why, size_t why_bytes) {
    const strand_op_ssm_discretize_nplr *p = node->params;
    TRY(sane(node, 5, 5, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t n = node->inputs[3].rank == 3 ? node->inputs[3].dims[1] : -1;
    if (p->length < 0 || p->length > (int64_t)1 << 24) NO("a length of %lld", (long long)p->length);
    if (n < 0 || n > 1024) NO("C is not [channels, up to 1024 states, 2]");
    if (out->dtype != STRAND_PLUGIN_F32 || out->rank != 4 || !whole_axis(out, 0, 5) || !whole_axis(out, 1, out->whole[1]) ||
        !whole_axis(out, 2, n) || !whole_axis(out, 3, 2))
        NO("the output is not F32, [5, channels, states, 2], whole");
    for (uint32_t i = 0; i < 4; i++) TRY(states_of(node, i, 1, n, true, i < 3, why, why_bytes));
    LIES(4, 1, 0, 1);
    return true;
}

bool cpu_supports_dense_scan(const strand_plugin_node *node, char *why, size_t why_bytes) {
    TRY(sane_outputs(node, 1, 4, 2, why, why_bytes));
    TRY(scanned(node, 3, why, why_bytes));
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0], *b = cpu_input(node, 1),
                               *u = cpu_input(node, 2), *state = cpu_input(node, 3);
    if ((b != NULL) != (u != NULL) || (!u && !state)) NO("B and u come together, and without them a state");
    int64_t d = a->rank == 3 ? a->dims[1] : 0, channels = d > 0 ? out->whole[2] / d : 0;
    if (a->dtype != STRAND_PLUGIN_F32 || d < 1 || d > STATES || !whole_axis(a, 0, a->whole[0]) || !whole_axis(a, 1, d) ||
        !whole_axis(a, 2, d))
        NO("A is not F32, [kernels, d, d]");
    if (a->whole[0] < 1 || out->whole[2] % d || channels % a->whole[0] || !whole_axis(out, 2, out->whole[2]))
        NO("the channels are not a whole number of times the kernels");
    if (b && (b->dtype != STRAND_PLUGIN_F32 || b->rank != 2 || !whole_axis(b, 0, a->whole[0]) || !whole_axis(b, 1, d)))
        NO("B is not F32, [kernels, d]");
    LIES(2, 3, channels, 0, 1, -1);
    if (state && (state->dtype != STRAND_PLUGIN_F32 || state->rank != 3 || !covers(node, 3, 0, 0) ||
                  !whole_axis(state, 1, channels) || !whole_axis(state, 2, d)))
        NO("the state is not F32, [batch, channels, d]");
    return second(node, 3, out->dims[0], channels, d, 0, why, why_bytes);
}

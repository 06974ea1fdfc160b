/* check.c - does the host keep the ABI? Every description that comes with a launch is checked: memory inside live buffers
 * and as large as the view, origins inside the whole, alignment, internal tensors that an earlier node of the group makes,
 * results that overlap nothing but what the operator may overwrite, working memory as large as was asked for. */
#include "faraway.h"

#include <stdio.h>
#include <string.h>

#define NO(...)                                                                                                                \
    do {                                                                                                                       \
        snprintf(why, why_bytes, __VA_ARGS__);                                                                                 \
        return false;                                                                                                          \
    } while (0)

/* Bytes from the first element of a view to the end of its last; 0 when it is empty. */
static uint64_t span(const strand_plugin_tensor *t) {
    uint64_t last = 0;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dims[i] < 1) return 0;
        last += (uint64_t)(t->dims[i] - 1) * (uint64_t)t->strides[i];
    }
    return (last + 1) * sizeof(float);
}

static bool check_extents(const strand_plugin_tensor *t, const char *name, char *why, size_t why_bytes) {
    if (t->rank > STRAND_PLUGIN_RANK) NO("'%s': rank %u", name, t->rank);
    for (uint32_t i = 0; i < t->rank; i++)
        if (t->dims[i] < 1 || t->origin[i] < 0 || t->origin[i] + t->dims[i] > t->whole[i])
            NO("'%s': axis %u of a view is [%lld, +%lld) of %lld", name, i, (long long)t->origin[i], (long long)t->dims[i],
               (long long)t->whole[i]);
    if (t->rank && t->dims[t->rank - 1] > 1 && t->strides[t->rank - 1] != 1) NO("'%s': the last stride is not 1", name);
    return true;
}

static bool check_range(strand_plugin_device *d, const strand_plugin_memory *m, uint64_t need, const char *what,
                        const char *name, char *why, size_t why_bytes) {
    if (m->data) NO("'%s': %s has a host address", name, what);
    if (!far_bytes(d, m->buffer, m->offset, m->bytes)) NO("'%s': %s is not inside a live buffer", name, what);
    if (m->bytes < need)
        NO("'%s': %s has %llu bytes, %llu are needed", name, what, (unsigned long long)m->bytes, (unsigned long long)need);
    return true;
}

static bool check_tensor(strand_plugin_device *d, const strand_plugin_tensor *t, const char *what, const char *name, char *why,
                         size_t why_bytes) {
    bool cut = false;
    for (uint32_t i = 0; i < t->rank; i++) cut = cut || t->origin[i] != 0;
    if (!cut && t->memory.offset % FAR_ALIGNMENT) NO("'%s': %s is not aligned", name, what);
    return check_range(d, &t->memory, span(t), what, name, why, why_bytes);
}

static bool has_memory(const strand_plugin_tensor *t) {
    return t->memory.buffer || t->memory.data;
}

/* Is the tensor the result of one of the first `before` nodes? */
static bool made_before(const strand_plugin_node *nodes, uint32_t before, const strand_plugin_tensor *t) {
    for (uint32_t i = 0; i < before; i++)
        if (t->id && nodes[i].outputs[0].id == t->id) return true;
    return false;
}

static bool check_input(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t i, uint32_t k, char *why,
                        size_t why_bytes) {
    const strand_plugin_node *n = &nodes[i];
    const strand_plugin_tensor *t = &n->inputs[k];
    if (t->dtype == STRAND_PLUGIN_NONE) return true;
    if (!check_extents(t, n->name, why, why_bytes)) return false;
    if (has_memory(t)) return check_tensor(d, t, "an input", n->name, why, why_bytes);
    if (n->op == STRAND_OP_LONG_CONV && k == 1 && n->prepared.buffer) return true;
    if (!(t->flags & STRAND_TENSOR_INTERNAL)) NO("'%s': input %u has no memory", n->name, k);
    if (!made_before(nodes, i, t)) NO("'%s': input %u is internal, but no node of the group makes it", n->name, k);
    return true;
}

/* May the result lie exactly over input k? */
static bool may_overwrite(const strand_plugin_node *n, uint32_t k) {
    if (n->op == STRAND_OP_LONG_CONV) return k == 4;
    return k == 0 && (n->op == STRAND_OP_UNARY || n->op == STRAND_OP_BINARY || n->op == STRAND_OP_LAYER_NORM ||
                      n->op == STRAND_OP_DECAY_WINDOW);
}

static bool check_overlap(const strand_plugin_node *n, const strand_plugin_tensor *out, bool alone, char *why,
                          size_t why_bytes) {
    for (uint32_t k = 0; k < n->n_inputs; k++) {
        const strand_plugin_tensor *t = &n->inputs[k];
        if (t->dtype == STRAND_PLUGIN_NONE || t->memory.buffer != out->memory.buffer || !has_memory(t)) continue;
        uint64_t a = t->memory.offset, b = out->memory.offset;
        if (a + span(t) <= b || b + span(out) <= a) continue;
        bool same = a == b && t->rank == out->rank && !memcmp(t->dims, out->dims, sizeof t->dims) &&
                    !memcmp(t->strides, out->strides, sizeof t->strides);
        if (!alone || !same || !may_overwrite(n, k)) NO("'%s': the result overlaps input %u", n->name, k);
    }
    return true;
}

bool far_check_launch(strand_plugin_device *d, const strand_plugin_node *nodes, uint32_t n, const strand_plugin_memory *scratch,
                      char *why, size_t why_bytes) {
    if (n < 1 || n > FAR_MAX_GROUP) NO("a launch of %u nodes", n);
    const strand_plugin_tensor *result = nodes[n - 1].outputs;
    for (uint32_t i = 0; i < n; i++) {
        const strand_plugin_node *x = &nodes[i];
        char inner[FAR_TEXT / 2];
        if (!far_capable(x, inner, sizeof inner)) NO("'%s': was not accepted like this: %s", x->name, inner);
        for (uint32_t k = 0; k < x->n_inputs; k++)
            if (!check_input(d, nodes, i, k, why, why_bytes)) return false;
        if (!check_extents(x->outputs, x->name, why, why_bytes)) return false;
        if (i + 1 < n && (has_memory(x->outputs) || !(x->outputs[0].flags & STRAND_TENSOR_INTERNAL)))
            NO("'%s': a result inside a group has memory", x->name);
        if (x->prepared.buffer &&
            !check_range(d, &x->prepared, far_prepare_size(d, x), "what was prepared", x->name, why, why_bytes))
            return false;
    }
    if (!check_tensor(d, result, "the result", nodes[n - 1].name, why, why_bytes)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!check_overlap(&nodes[i], result, n == 1, why, why_bytes)) return false;
    uint64_t need = far_scratch_size(d, nodes, n);
    return !need || (scratch && check_range(d, scratch, need, "working memory", nodes[0].name, why, why_bytes));
}

bool far_check_prepare(strand_plugin_device *d, const strand_plugin_node *n, const strand_plugin_memory *scratch, char *why,
                       size_t why_bytes) {
    uint64_t need = far_prepare_size(d, n), work = far_scratch_size(d, n, 1);
    if (!need) NO("'%s': nothing is to be prepared", n->name);
    if (!check_extents(&n->inputs[1], n->name, why, why_bytes)) return false;
    if (!(n->inputs[1].flags & STRAND_TENSOR_CONSTANT)) NO("'%s': prepared from what is not constant", n->name);
    if (!check_tensor(d, &n->inputs[1], "the filter", n->name, why, why_bytes)) return false;
    if (!check_range(d, &n->prepared, need, "room for what is prepared", n->name, why, why_bytes)) return false;
    return !work || (scratch && check_range(d, scratch, work, "working memory", n->name, why, why_bytes));
}

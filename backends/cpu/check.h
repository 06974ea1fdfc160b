/* check.h - what the predicates (supports*.c) share: tests of a node's shapes and views that leave one line in `why`. */
#ifndef STRAND_CPU_CHECK_H
#define STRAND_CPU_CHECK_H

#include "kernels.h"
#include "quant.h"

#include <string.h>

#define NO(...) return cpu_no(why, why_bytes, __VA_ARGS__)

static const char *const what[] = {"input 0", "input 1", "input 2", "input 3", "input 4",
                                   "input 5", "input 6", "input 7", "input 8", "input 9"};

/* A quantised tensor stands in whole blocks: so must its last axis, its strides and its origin. */
static inline bool whole_blocks(const strand_plugin_tensor *t) {
    int64_t length = cpu_block_elements(t->dtype);
    uint32_t last = t->rank - 1;
    for (uint32_t axis = 0; axis < last; axis++)
        if (t->dims[axis] > 1 && t->strides[axis] % length) return false;
    return t->dims[last] % length == 0 && t->origin[last] == 0 && t->dims[last] == t->whole[last];
}

/* Counts, ranks, extents and the last stride of every tensor of the node; quantised ones may be the inputs in the mask
 * alone. */
static inline bool sane_quantised(const strand_plugin_node *node, uint32_t least_inputs, uint32_t most_inputs,
                                  uint32_t most_outputs, uint32_t quantised, char *why, size_t why_bytes) {
    if (node->n_outputs < 1 || node->n_outputs > most_outputs)
        NO("%u outputs are made at most, not %u", most_outputs, node->n_outputs);
    if (node->n_inputs > most_inputs || node->n_inputs > STRAND_PLUGIN_MAX_INPUTS) NO("too many inputs: %u", node->n_inputs);
    for (uint32_t i = 0; i < least_inputs; i++)
        if (!cpu_input(node, i)) NO("%s is missing", what[i]);
    for (uint32_t i = 0; i < node->n_inputs + node->n_outputs; i++) {
        const strand_plugin_tensor *t = i < node->n_inputs ? cpu_input(node, i) : &node->outputs[i - node->n_inputs];
        const char *name = i < node->n_inputs ? what[i] : i == node->n_inputs ? "the output" : "the second output";
        if (!t) continue;
        if (t->rank < 1 || t->rank > STRAND_PLUGIN_RANK) NO("%s has rank %u", name, t->rank);
        for (uint32_t axis = 0; axis < t->rank; axis++)
            if (t->dims[axis] < 0) NO("%s has a negative extent", name);
        if (t->dims[t->rank - 1] > 1 && t->strides[t->rank - 1] != 1) NO("%s is not dense along its last axis", name);
        if (!cpu_is_quantised(t->dtype)) continue;
        if (i >= node->n_inputs || !(quantised >> i & 1)) NO("%s is quantised", name);
        if (!whole_blocks(t)) NO("%s is not made of whole blocks", name);
    }
    return true;
}

/* The same, with nothing quantised. */
static inline bool sane_outputs(const strand_plugin_node *node, uint32_t least_inputs, uint32_t most_inputs,
                                uint32_t most_outputs, char *why, size_t why_bytes) {
    return sane_quantised(node, least_inputs, most_inputs, most_outputs, 0, why, why_bytes);
}

/* The same with one output. */
static inline bool sane(const strand_plugin_node *node, uint32_t least_inputs, uint32_t most_inputs, char *why,
                        size_t why_bytes) {
    return sane_outputs(node, least_inputs, most_inputs, 1, why, why_bytes);
}

static inline bool f32(const strand_plugin_node *node, uint32_t from, uint32_t to, char *why, size_t why_bytes) {
    for (uint32_t i = from; i < to; i++)
        if (cpu_input(node, i) && node->inputs[i].dtype != STRAND_PLUGIN_F32) NO("%s is not F32", what[i]);
    if (node->outputs[0].dtype != STRAND_PLUGIN_F32) NO("the output is not F32");
    return true;
}

/* Does axis `ia` of input `i` cover axis `oa` of the output? */
static inline bool covers(const strand_plugin_node *node, uint32_t i, uint32_t ia, uint32_t oa) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    return !in || cpu_lead(in, ia, &node->outputs[0], oa) >= 0;
}

static inline bool placed(const strand_plugin_node *node, uint32_t i, bool broadcast, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    cpu_operand operand;
    if (in && !cpu_place(&node->outputs[0], in, broadcast, &operand)) NO("%s does not cover the output", what[i]);
    return true;
}

/* An input of rank 1 along axis `oa` of the output: a weight, a bias. */
static inline bool vector(const strand_plugin_node *node, uint32_t i, uint32_t oa, char *why, size_t why_bytes) {
    const strand_plugin_tensor *in = cpu_input(node, i);
    if (in && (in->rank != 1 || !covers(node, i, 0, oa))) NO("%s is not a vector along axis %u of the output", what[i], oa);
    return true;
}

/* Is this a function of UNARY, or an activation, with parameters that it can have? */
static inline bool known_function(uint32_t kind, float alpha, float beta) {
    if (kind == STRAND_UNARY_SOFTCAP) return alpha > 0;
    if (kind == STRAND_UNARY_CLAMP) return alpha <= beta;
    return kind <= STRAND_UNARY_LAST;
}

#define TRY(test)                                                                                                              \
    if (!(test)) return false

/* Is tensor t whole (not a tile) along `axis`, with this extent (-1: any)? */
static inline bool whole_axis(const strand_plugin_tensor *t, uint32_t axis, int64_t extent) {
    return t->origin[axis] == 0 && (extent < 0 || t->dims[axis] == extent);
}

#endif

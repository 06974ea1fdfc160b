/* shapes.h - what the predicates and both kinds of kernels of shapes.c read out of the parameters. */
#ifndef STRAND_CPU_SHAPES_H
#define STRAND_CPU_SHAPES_H

#include "cpu.h"
#include "half.h"

/* An axis of the parameters, counted from the first; no axis at all where it is out of range. */
static inline uint32_t cpu_axis(int32_t axis, uint32_t rank) {
    return (uint32_t)(axis < 0 ? axis + (int32_t)rank : axis);
}

/* All of the axis, forwards: then it may be a tile. */
static inline bool cpu_slice_is_all(const strand_op_slice *p) {
    return p->begin == 0 && p->count == 0 && p->step == 1;
}

/* RESHAPE: leading and trailing axes that are the same in both may be tiles. Where in x the output's elements are: n[] from
 * first[] on. */
static inline void cpu_reshape_source(const strand_plugin_tensor *x, const strand_plugin_tensor *out, int64_t *first,
                                      int64_t *n) {
    uint32_t front = 0, back = 0, least = x->rank < out->rank ? x->rank : out->rank;
    while (front < least && x->whole[front] == out->whole[front]) front++;
    while (back < least - front && x->whole[x->rank - 1 - back] == out->whole[out->rank - 1 - back]) back++;
    for (uint32_t i = 0; i < x->rank; i++) {
        uint32_t oi = i < front ? i : i + out->rank - x->rank;
        bool same = i < front || i >= x->rank - back;
        first[i] = same ? cpu_lead(x, i, out, oi) : 0;
        n[i] = same ? out->dims[oi] : x->dims[i];
    }
}

#endif

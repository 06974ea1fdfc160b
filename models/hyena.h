/* hyena.h - the implicit filter of Hyena (Poli et al., "Hyena Hierarchy", arXiv 2302.10866), which its language models
 * (hyena.c) and HyenaDNA (hyenadna.c) share. Tensors are those of the layer at hand, under HYENA_FILTER. */
#ifndef STRAND_MODELS_HYENA_H
#define STRAND_MODELS_HYENA_H

#include "build.h"

#define HYENA_FILTER "layers.*.mixer.filter_fn."

/* d channels; a grid of n points with `features` numbers each; layers of width `order`; exp(-|rate| t) + shift as its
 * window. */
typedef struct hyena_filter {
    int64_t d, n, order, features;
    float shift;
    bool modulate;
} hyena_filter;

/* order and features of the layer at hand; both 0 where the filter's first layer has no usable shape. */
void hyena_filter_sizes(const builder *b, hyena_filter *f);
/* positions [taps, features] -> (linear, sin(frequency .)) x n: [taps, order]. In F32 whatever precision the model has. */
tensor_id hyena_filter_trunk(builder *b, const hyena_filter *f, tensor_id positions);
/* The last linear and the window, whose rates are [d]: [d, taps], the first tap for the current input. */
tensor_id hyena_filter_taps(builder *b, const hyena_filter *f, tensor_id trunk, tensor_id rates);

#endif

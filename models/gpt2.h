/* gpt2.h - the layers of GPT-2 for models that are made of them. Names are canonical as in gpt2.c: "h.*.attn.c_attn.weight"
 * and so on. */
#ifndef STRAND_MODELS_GPT2_H
#define STRAND_MODELS_GPT2_H

#include "attention.h"

typedef struct gpt2 {
    int64_t d, layers, vocabulary, inner, longest; /* longest: rows of wpe */
    double eps;
    uint32_t activation;
    bool by_layer; /* scores are divided by the layer's number too */
    build_attention attention;
} gpt2;

/* One layer (b->layer) of x [B, L, d], with its cache of keys and values. */
tensor_id gpt2_layer(builder *b, const gpt2 *p, tensor_id x);
/* The positions' rows of wpe [longest, d]: [B, L, d]. */
tensor_id gpt2_places(builder *b, const gpt2 *p);

#endif

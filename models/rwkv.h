/* rwkv.h - what the generations of RWKV share: the names of their tensors, layer norms, and how heads are normalised. */
#ifndef STRAND_MODELS_RWKV_H
#define STRAND_MODELS_RWKV_H

#include "build.h"

/* BlinkDL's names are the canonical ones; Hugging Face's, flash-linear-attention's, GGUF's and those of the digit-reversing
 * RWKV-8 experiments come from these. */
extern const build_rename rwkv_names[];

typedef struct rwkv {
    /* attention: width of the time mixing; first: the first layer's number */
    int64_t d, attention, layers, first, vocabulary, heads, inner;
    double eps, head_eps;
    /* x is halved after every so many layers (GGUF files, whose output matrices are divided to match); 0: never */
    int64_t rescale;
    bool transposed; /* low-rank matrices are stored [rank, d] */
} rwkv;

/* Sizes that all generations read alike. */
strand_status rwkv_configure(builder *b, rwkv *p);
/* The setting head_epsilon, over what the family takes. */
strand_status rwkv_head_epsilon(builder *b, rwkv *p);
/* emb and, where there is one, ln0. */
tensor_id rwkv_embedding(builder *b, const rwkv *p);
tensor_id rwkv_norm(builder *b, const rwkv *p, const char *name, tensor_id x);
/* ln_x over each head. */
tensor_id rwkv_head_norm(builder *b, const rwkv *p, tensor_id x);
/* act(x A), A one of a low-rank pair, [in, out] (or [out, in] when transposed). */
tensor_id rwkv_low_rank(builder *b, const rwkv *p, const char *name, tensor_id x, int64_t in, int64_t out, tensor_id bias,
                        uint32_t activation);
int64_t rwkv_rank(const builder *b, const rwkv *p, const char *name);
/* The channel mixing of generations 4 to 6: sigmoid(r) * (value relu(key)^2). `mix_k`, `mix_r`: names of the mixes. */
tensor_id rwkv_channel_mix(builder *b, const rwkv *p, const char *mix_k, const char *mix_r, uint32_t form, tensor_id x);
/* What a layer gives to the next one: x, halved where the file wants that. */
tensor_id rwkv_rescale(builder *b, const rwkv *p, tensor_id x);
/* ln_out and head. */
strand_status rwkv_end(builder *b, const rwkv *p, tensor_id x);

#endif

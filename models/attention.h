/* attention.h - softmax attention as model files use it: rotary positions, the cache of keys and values that a sequence hands
 * on from run to run, and the attention itself. */
#ifndef STRAND_MODELS_ATTENTION_H
#define STRAND_MODELS_ATTENTION_H

#include "build.h"

typedef struct build_attention {
    int64_t heads, kv_heads, width; /* width: of a query's and a key's head */
    int64_t value_width;            /* 0: width */
    int64_t window, sinks;          /* as in strand_op_attention; window counts the query's own token */
    double scale;                   /* 0: 1 / sqrt(width) */
    double softcap;
    /* Rotary positions: the first `rotary` elements of each head; 0: none. */
    int64_t rotary;
    bool interleaved;
    double base, position_scale, magnitude; /* 0: 1 */
    tensor_id frequencies;                  /* [rotary / 2], or 0: from base */
} build_attention;

/* Reads the settings `context`, the rows of the caches, and `cache`, their type, and sets the model's lengths. `longest`: the
 * model's own limit (0: none). With a `window` (0: none) that the caches hold they slide along with it: a sequence may then go
 * on beyond them, in runs of at most context - window + 1 tokens. To be called once, before build_attend. */
strand_status build_context(builder *b, int64_t longest, int64_t window);
/* q [B, L, heads width], k [B, L, kv_heads width], v [B, L, kv_heads value_width] -> [B, L, heads value_width], causal. `name`
 * names the layer's attention, and its caches NAME.k and NAME.v. */
tensor_id build_attend(builder *b, const char *name, const build_attention *p, tensor_id q, tensor_id k, tensor_id v);

/* The frequencies of config.json's rope_scaling (or rope_parameters): linear, llama3, yarn, dynamic within its first range;
 * fills base, position_scale, magnitude and frequencies of `p` from rope_theta (or `base`) on. */
strand_status build_rope(builder *b, build_attention *p, double base, int64_t longest);

#define ATTENTION_SETTINGS "context", "cache"

#endif

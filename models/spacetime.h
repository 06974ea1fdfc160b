/* spacetime.h - what the two files of SpaceTime share: the structure that a checkpoint has, as its config and its tensors
 * tell. */
#ifndef STRAND_MODELS_SPACETIME_H
#define STRAND_MODELS_SPACETIME_H

#include "arrange.h"

#define SPACETIME_MAX_LAYERS 32 /* of one MLP; encoders may have any number of blocks */

enum { SPACETIME_CONV, SPACETIME_RECURRENCE, SPACETIME_MATRIX };
enum { TRANSFORM_MEAN, TRANSFORM_LAST, TRANSFORM_STANDARDIZE, TRANSFORM_NONE };

/* The layers of an MLP in order: a linear layer with its number in the file (`linear` >= 0), or an activation (-1). */
typedef struct spacetime_mlp {
    int n;
    int64_t linear[SPACETIME_MAX_LAYERS];
    int64_t inner, out;  /* columns between two linears, and of the last one */
    uint32_t activation; /* STRAND_UNARY_... */
    bool in_place;       /* the published activation overwrites its input, which a skip connection then adds */
    bool skip, norm;
} spacetime_mlp;

/* A block of the encoder, or the decoder's. */
typedef struct spacetime_block {
    bool skip, skip_pre, skip_ssm;
    int64_t norm_order;
    int64_t pre_repeat; /* kernel_repeat of the preprocessing; 0: as its tensors say */
    spacetime_mlp mlp;  /* n 0: identity */
} spacetime_block;

typedef struct spacetime {
    builder b;
    int64_t blocks, d, inputs, outputs, lag, horizon;
    int mode, transform;
    tensor_id state;     /* of the decoder, [B, d, kernel_dim] */
    bool channels_first; /* the encoder's tensors are [B, d, L], else [B, L, d] */
} spacetime;

/* Sizes and settings; afterwards inputs, outputs, d, blocks ... are known and sensible. */
strand_status spacetime_configure(spacetime *s);
/* Block i of the encoder, of the decoder (i < 0), and the MLP at the end. */
void spacetime_block_of(spacetime *s, int64_t i, spacetime_block *out);
void spacetime_output_of(spacetime *s, spacetime_mlp *out);

extern const char *const spacetime_settings[];

#endif

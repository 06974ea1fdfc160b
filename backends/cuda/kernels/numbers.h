/* numbers.h - what the kernels of this folder are told beside pointers; read by C and by CUDA C++. Strides are in elements. */
#ifndef STRAND_CUDA_NUMBERS_H
#define STRAND_CUDA_NUMBERS_H

/* Strides are of (batch, token). */
typedef struct attention_numbers {
    int queries, first, all_queries; /* here, before these, in the whole sequence */
    int keys, d, dv, heads, kv_heads;
    int causal, window, sinks;
    int length_words, length_stride; /* of kv_length: 0, 1 or 2 words each */
    int fast;                        /* rows of k and v may be read 16 bytes at a time */
    int fast_rows; /* rows of q may be read 16 bytes at a time, and of y written 8 (attention_wgmma.cu alone) */
    int q[2], k[2], v[2], y[2];
    float scale, softcap;
    /* attention_parts.cu alone */
    int splits, least;               /* ranges of keys, and the least number of keys of one */
    int biased, masked, block;
    int bias[2], mask[2];            /* strides of (head, query) and (head, block of queries) */
} attention_numbers;

/* attention_wgmma.cu: queries of a group, tiles of keys that it holds at once by the head's width, and the shared memory that
 * it asks for. */
#define ATTENTION_GROUP_ROWS    128
#define ATTENTION_STAGES(width) ((width) > 64 ? 2 : 4)
#define ATTENTION_SHARED(width) (256 * (width) + ATTENTION_STAGES(width) * 512 * (width) + 2048)

/* A tensor map as the driver makes it (CUtensorMap). */
#ifdef __CUDACC__
struct __align__(64) tensor_map {
#else
struct tensor_map {
#endif
    unsigned long long words[16];
};

/* Strides of two batch axes, in which the third extent of the grid counts, the second one fastest. product_row: one extent, in
 * which all `batch` entries of eight columns follow one another, since they read the same weights. */
typedef struct product_numbers {
    int m, n, k;
    int a_m, a_k, b_k, b_n, y_m;
    int batch, inner, a_batch[2], b_batch[2], y_batch[2];
    int bias, bias_stride, activation; /* STRAND_BIAS_..., STRAND_UNARY_... */
    int type_a, type_b;
    int fast_a, fast_b; /* may be read 16 bytes at a time along their dense axis */
    float alpha, beta;
} product_numbers;

/* Rows of a long convolution: number r of all is that of channel r / batch and batch entry r % batch, the second of two batch
 * axes having `inner`. Strides are of (two batch axes, channel). A row is cut into `segments` of `valid` results each, which
 * lie from `lead` on in what is transformed; or it is 2^log_outer columns around the transforms of its rows. */
typedef struct long_conv_numbers {
    int rows, batch, entry, inner; /* rows here, entries of each channel, the first of them */
    int length, segments, valid, lead;
    int log_outer, log_inner;
    int has_pre, has_post, has_skip, skip_stride;
    int fast; /* u and pre may be read 16 bytes at a time, post and y 8 */
    int u[3], pre[3], post[3], y[3];
} long_conv_numbers;

/* Vectors of the three projections in the order of their rows: addresses, 0 where there is none. Strides of a row are of a
 * token's channels (x, y) or of a channel's tokens (the others). */
#define HYENA_HALO 8 /* tokens that a group of hyena_in makes again */
typedef struct hyena_in_numbers {
    unsigned long long bias[3], taps_of[3], tap_bias[3];
    int length, taps, norm_bias; /* norm_bias, bias0 ...: is there one? */
    int x_row, gated_row, post_row;
    int x_batch, gated_batch, post_batch;
    float eps;
} hyena_in_numbers;

typedef struct hyena_out_numbers {
    int rows, inner;
    int bias0, bias1, bias2, norm_bias;
    int mixed_row, x_row, y_row;
    int mixed_batch, x_batch, y_batch;
    float eps;
} hyena_out_numbers;

typedef struct spectra_numbers {
    int log_r, log_outer, reserved;
} spectra_numbers;

#define SSD_CHUNK 32 /* tokens */
/* Bytes of shared memory that launches ask for, rows of a state padded to nn: of the walk (two sets of a chunk's steps, which
 * are SSD_STEPS each), and of what makes chunks of gates and of the delta rule. A gate keeps by row, and the delta rule has two
 * tiles of halves more. */
#define SSD_STEPS(nn, gated) ((5 * SSD_CHUNK + ((gated) ? (nn) : SSD_CHUNK)) * 4)
#define SSD_WALK_SHARED(nn, terms, gated, delta)                                                                               \
    ((terms) * SSD_CHUNK * 2 * (((delta) ? 4 : 2) * ((nn) + 8) + 40 + 2 * 72) +                                                \
     (SSD_CHUNK * (SSD_CHUNK + 4) + 3 * 64 + SSD_CHUNK) * 4 + 2 * SSD_STEPS(nn, gated))
#define GATED_PREPARE_SHARED(nn) (2 * 2 * SSD_CHUNK * 2 * ((nn) + 8) + 2 * SSD_CHUNK * 4 + 3 * SSD_CHUNK * ((nn) + 4) * 4)
#define DELTA_PREPARE_SHARED(nn) ((5 * SSD_CHUNK * ((nn) + 4) + 3 * SSD_CHUNK * (SSD_CHUNK + 4)) * 4)
/* Bytes of the matrix by which a part of the delta rule turns a state, three BF16 terms. */
#define DELTA_MATRIX(nn) ((nn) * (nn) * 6)
/* Bytes of what is made of a chunk: terms of 2 (the delta rule: 4) tiles of halves, scales of two, scores. */
#define SSD_BLOCK(nn, terms, delta)                                                                                            \
    ((terms) * ((delta) ? 4 : 2) * SSD_CHUNK * (nn) * 2 + (2 * SSD_CHUNK + SSD_CHUNK * SSD_CHUNK) * 4)
/* SSD, gated linear attention (c, b, a: q, k, w; bias: u; softplus: w is given as its logarithm) and the delta rule (c, b, a,
 * dt, put: r, k, w, a, b) in chunks. Strides are of (batch, token), of states of (batch, head, column, row). What y touches:
 * heads from first_head on, groups from first_group on; its channels begin at `origin` of all. */
typedef struct ssd_numbers {
    int tokens, first;                    /* of the sequence; the first of this run over some of its chunks */
    int chunks, part, parts, most_parts;  /* of this run; of a part; parts, and as many as there is room for */
    int heads, first_head, heads_a_group, groups, first_group;
    int n, width, slices;                 /* rows and columns of a head's state; slices of 64 columns */
    int origin, channels;
    int x[2], b[2], c[2], y[2], dt[2], a[2], put[2], state[4], after[4];
    int a_moves, has_dt, has_bias, bias_stride, softplus, has_d, d_stride, has_state, has_after, last;
    int fast_x, fast_bc, fast_y;          /* may be read or written 16 bytes (y: 8) at a time */
    float dt_min, dt_max, scale;
} ssd_numbers;

#define SCAN_SLAB  16  /* states of B and of C that are in shared memory at a time */
#define SCAN_PITCH 266 /* numbers from one to the next: 8 tokens of each lane, 33 apart, and 2 */
#define SCAN_SHARED(group, states) (((2 * SCAN_SLAB + 2 * (group)) * SCAN_PITCH + (group) * (states)) * 4) /* bytes */
/* A selective scan. Strides are of (batch, token), of states of (batch, channel, state). group: channels of a group, a warp
 * each. */
typedef struct scan_numbers {
    int tokens, channels, states, group;
    int u[2], dt[2], b[2], c[2], z[2], y[2], state[3], after[3];
    int a_stride, has_d, d_stride, has_z, has_bias, bias_stride, has_state, has_after, softplus;
} scan_numbers;

/* Few tokens of a recurrence with a matrix state. Inputs by kernel (scans_own.cu), strides of (batch, token). fast: may be
 * read or written 16 bytes at a time. */
typedef struct step_numbers {
    int tokens, n, width, first_head, heads_a_group, origin, channels;
    int in[6][2], y[2], state[4], after[4];
    int fast_in, fast_y, fast_state, fast_after;
    int a_moves, has_dt, has_bias, bias_stride, softplus, has_d, d_stride, has_state, has_after, log_w;
    float dt_min, dt_max, scale;
} step_numbers;

/* steps.cu: what one token of a sequence is to nodes in a row, one launch for all of them. Addresses, 0 where there is none
 * or nothing is to be written there; strides of (batch) or as said. The grid has one extent: all `batch` entries of eight
 * columns, then those of the next. */
#define STEP_MATRICES 6
typedef struct step_matrix {
    unsigned long long b, bias, y;                /* y: of the product itself */
    unsigned long long tap, tap_bias, from, to, out; /* a short convolution of it: its state, what that becomes, its result */
    int n, b_n, type, fast, bias_kind, bias_stride, activation, y_batch;
    int taps, tap_row, tap_bias_stride, tap_activation, out_batch; /* taps: 0, or there is one */
    int from_strides[3], to_strides[3];           /* batch, tap, channel */
    float alpha, beta;
} step_matrix;

/* norm: x is normalised first. add: sum = residual + the one product. */
typedef struct step_products_numbers {
    unsigned long long x, norm_weight, norm_bias, normed, residual, sum;
    int k, batch, matrices, x_batch, fast_x;
    int norm, kind, eps_rule, lanes, weight_stride, norm_bias_stride, normed_batch, residual_batch, sum_batch;
    float eps, weight_offset;
    step_matrix of[STEP_MATRICES];
} step_products_numbers;

/* A product and the selective scan that reads it as its dt. */
typedef struct step_scan_numbers {
    unsigned long long x, u, a, b, c, d, z, scan_bias, state, y, after;
    int k, batch, x_batch, fast_x;
    step_matrix of;
    scan_numbers scan;
} step_scan_numbers;

#endif

/* strand_ops.h - the operators: ids, what each computes, its inputs, outputs and parameters. Part of the plugin ABI
 * (strand_plugin.h brings it along); the shape, in-place and axis rules are the rows of core/op_table.c.
 *
 * Conventions
 *  - Shapes are row-major; [...] are leading batch axes. An optional input is marked '?' and, when absent, has dtype
 *    STRAND_PLUGIN_NONE. Everything is F32 unless said.
 *  - Sequence operators are token-major: x [B, L, C] with C = heads * width, as matrix products make them. Long and short
 *    convolutions are channel-major [..., C, L] unless their flag says otherwise.
 *  - Operators that carry a state take it as an optional last input (absent: zeros) and give the state after the last token as
 *    their second output, if that is asked for. L may be 1: a step is a short sequence. A sequence cut anywhere, with the state
 *    handed on, gives what it gives whole. The state output may lie over the state input.
 *  - Complex numbers are pairs (re, im) in a last axis of extent 2.
 *  - Ids and the numbers in enums never change; structs grow at their end. */
#ifndef STRAND_OPS_H
#define STRAND_OPS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Element types: the numbers of strand_dtype. The quantised ones are blocks along the last axis, whose extent is a whole number
 * of blocks, laid out as in GGUF files (github.com/ggml-org/ggml, docs/gguf.md and ggml-common.h); d, m are F16. Strides and
 * extents count elements; a view may be cut along every axis but the last. */
enum {
    STRAND_PLUGIN_NONE = 0,
    STRAND_PLUGIN_F32 = 1,
    STRAND_PLUGIN_F16 = 2,
    STRAND_PLUGIN_BF16 = 3,
    STRAND_PLUGIN_I32 = 9,
    STRAND_PLUGIN_I64 = 11,
    STRAND_PLUGIN_Q8_0 = 32, /* 32 in 34 bytes: d, 32 int8: x = d q */
    STRAND_PLUGIN_Q4_0 = 33, /* 32 in 18 bytes: d, 16 bytes: byte j holds elements j (low) and j+16 (high): x = d (q - 8) */
    STRAND_PLUGIN_Q4_K = 34, /* 256 in 144 bytes: d, dmin, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles */
    STRAND_PLUGIN_Q6_K = 35, /* 256 in 210 bytes: 128 low nibbles, 64 high pairs, 16 int8 scales, d */
    STRAND_PLUGIN_Q4_1 = 36, /* 32 in 20 bytes: d, m, 16 bytes of nibbles as Q4_0: x = d q + m */
    STRAND_PLUGIN_Q5_0 = 37, /* 32 in 22 bytes: d, 4 bytes whose bit j is the fifth of element j, nibbles as Q4_0: x = d (q -
                                16) */
    STRAND_PLUGIN_Q5_1 = 38, /* 32 in 24 bytes: d, m, fifth bits and nibbles as Q5_0: x = d q + m */
    STRAND_PLUGIN_Q5_K = 39  /* 256 in 176 bytes: as Q4_K, with 32 bytes before the nibbles: bit s of byte i is the fifth of
                                element 32 s + i */
};

enum {
    STRAND_OP_GATHER = 1,         /* table [rows, d] of any type, ids [...] I32/I64 -> [..., d]; an id outside the table is
                                     an error */
    STRAND_OP_MATMUL = 2,         /* a, b, bias? -> act(op(a) op(b) + bias), see strand_op_matmul */
    STRAND_OP_LAYER_NORM = 3,     /* x [..., d], weight [d], bias? [d] -> [..., d], over the last axis */
    STRAND_OP_UNARY = 4,          /* x -> f(x) */
    STRAND_OP_BINARY = 5,         /* a, b -> f(act(a), b); each axis is equal, or 1 in either of them */
    STRAND_OP_SHORT_CONV = 6,     /* x [..., C, L], weight [C, K], bias? [C], state? [..., C, K-1] -> [..., C, L], state */
    STRAND_OP_LONG_CONV = 7,      /* u [..., C, L], filter [C, T], skip? [C], pre? [..., C, L], post? [..., C, L], back? [C,
                                     T2] -> [..., C, L] */
    STRAND_OP_REDUCE = 8,         /* x [B, L, d] (, ids [B, L]) -> [B, d] over axis 1 */
    STRAND_OP_POSITIONS = 9,      /* (nothing) -> [T, 1 + 2 bands], see strand_op_positions */
    STRAND_OP_DECAY_WINDOW = 10,  /* k [C, T], rate [C] -> k[c,t] (exp(-t/(n-1) |rate[c]|) + shift) */
    STRAND_OP_CAST = 11,          /* x -> x in another element type (that of the output); quantised -> F32 too */
    /* rows */
    STRAND_OP_NORM = 12,          /* x [..., d], weight? [d], bias? [d] -> [..., d], see strand_op_norm */
    STRAND_OP_GLU = 13,           /* x [..., 2d] -> [..., d]: act(one half) times the other */
    STRAND_OP_SOFTMAX = 14,       /* x -> softmax or log-softmax over the last axis */
    STRAND_OP_REDUCE_AXIS = 15,   /* x, lengths? [dim 0] I32/I64 -> x without an axis, or with a shorter one, see
                                     strand_op_reduce_axis */
    /* shapes */
    STRAND_OP_RESHAPE = 16,       /* x -> the same elements in order, in another shape (the hint) */
    STRAND_OP_CONCAT = 17,        /* 1 to 10 tensors -> one, along an axis */
    STRAND_OP_SLICE = 18,         /* x -> every step-th index of an axis */
    STRAND_OP_PERMUTE = 19,       /* x -> its axes in another order */
    STRAND_OP_PAD = 20,           /* x -> x with more at both ends of an axis */
    STRAND_OP_REPEAT = 21,        /* x -> x several times along an axis */
    /* products */
    STRAND_OP_BLOCK_DIAGONAL = 22, /* x [..., nb in], weight [nb, out, in], bias? [nb out] -> [..., nb out] (Monarch) */
    STRAND_OP_GROUPED_MATMUL = 23, /* x [T, K] or [T, k, K], weight [E, N, K] of any type, ids [T, k] I32/I64, bias? [E, N]
                                      -> [T, k, N] */
    STRAND_OP_TOP_K = 24,         /* x [..., n] -> values [..., k] in falling order, ids [..., k] I64 */
    /* convolutions and transforms */
    STRAND_OP_CONV1D = 25,        /* x [B, Ci, L], weight [Co, Ci/groups, K], bias? [Co] -> [B, Co, L'], see strand_op_conv1d */
    STRAND_OP_FFT = 26,           /* x -> its discrete Fourier transform over the last axis, see strand_op_fft */
    /* attention */
    STRAND_OP_ROTARY = 27,        /* x [B, L, H d], positions? [L] or [B, L] I32/I64, frequencies? [rotary/2] -> [B, L, H d] */
    STRAND_OP_ATTENTION = 28,     /* q [B, L, H d], k [B, S, Hk d], v [B, S, Hk dv], kv_length? [1] or [B] I32/I64, bias? [1
                                     or H, L, S], mask? [1 or H, L/block, S/block] I32 -> [B, L, H dv] */
    STRAND_OP_CACHE_WRITE = 29,   /* cache [B, S, C] F32/F16/BF16, x [B, L, C], at [1] or [B] I32/I64 -> cache with rows at..
                                     replaced */
    /* state-space models */
    STRAND_OP_SSM_DISCRETIZE = 30, /* A [C or 1, N, 2], dt [C], B? [C or 1, N, 2], C? [C or 1, N, 2] -> log poles [C, N, 2],
                                      coefficients [C, N, 2] */
    STRAND_OP_SSM_KERNEL_DIAGONAL = 31, /* poles [C or 1, N, 2], coefficients [C, N, 2] -> filter [C, T] (Vandermonde) */
    STRAND_OP_SSM_KERNEL_NPLR = 32, /* A, P, B [C or 1, N, 2], C~ [C, N, 2], dt [C] -> filter [C, T] (Cauchy) */
    STRAND_OP_SSM_KERNEL_COMPANION = 33, /* a, b, c [K, d] -> filter [K, T] (Krylov) */
    STRAND_OP_LTI_SCAN = 34,      /* u [B, L, C], poles [C or 1, N(, 2)], in? out? [C, N(, 2)], skip? [C], state? [B, C, N(,
                                     2)] -> y [B, L, C], state */
    STRAND_OP_LINEAR_RECURRENCE = 35, /* x [B, L, D(, 2)], a [D(, 2)] or [B, L, D(, 2)], state? [B, D(, 2)] -> h [B, L, D(,
                                         2)], state */
    STRAND_OP_COMPANION_SCAN = 36, /* a, b, c [K, d], u? [B, L, C], k? [K, d], skip? [C], state? [B, C, d] -> y [B, L, C],
                                      state */
    STRAND_OP_SELECTIVE_SCAN = 37, /* u, dt [B, L, D], A [D, N], B, C [B, L, N], D? [D], z? [B, L, D], dt_bias? [D], state?
                                      [B, D, N] -> y [B, L, D], state (Mamba-1) */
    STRAND_OP_GRU = 38,           /* x [..., L, 3H] (input gates with bias), w [3H, H], b? [3H], state? [..., H] -> [..., L,
                                     H], state; one or two batch axes */
    /* matrix-state recurrences */
    STRAND_OP_SSD = 39,           /* x [B, L, H P], a [H] or [B, L, H], B, C [B, L, G N], dt? [B, L, H], D? [H], dt_bias?
                                     [H], state? [B, H, P, N] -> y [B, L, H P], state (Mamba-2, RetNet) */
    STRAND_OP_GATED_LINEAR_ATTENTION = 40, /* q, k [B, L, H K], v [B, L, H V], w [H K] or [B, L, H K], u? [H K], state? [B,
                                              H, K, V] -> y [B, L, H V], state (RWKV-5/6, GLA) */
    STRAND_OP_DELTA_RULE = 41,    /* r, w, k [B, L, H K], v [B, L, H V], a, b [B, L, H K], state? [B, H, V, K] -> y [B, L, H
                                     V], state (RWKV-7, gated DeltaNet) */
    STRAND_OP_LINEAR_ATTENTION = 42, /* q, k [B, L, H d], v [B, L, H V], state? [B, H, F, V + 1] -> y [B, L, H V], state
                                        (Based) */
    STRAND_OP_WKV4 = 43,          /* k, v [B, L, C], w, u [C], state? [B, 3, C] -> y [B, L, C], state (RWKV-4) */
    STRAND_OP_TOKEN_SHIFT = 44,   /* x [B, L, C], mix? [C], state? [B, C] -> [B, L, C], state [B, C] */
    /* graphs */
    STRAND_OP_KNN_ADJACENCY = 45, /* x [B, N, F] or [B, N, T, F] -> [B, N, N] */
    STRAND_OP_SOFTMAX_ADJACENCY = 46, /* q, k [B, N, d] -> [B, N, N] */
    STRAND_OP_PRUNE_ADJACENCY = 47, /* a [B, N, N] -> [B, N, N] */
    STRAND_OP_GRAPH_SUPPORTS = 48, /* a [B, N, N] -> [B, M, N, N], the matrices of a diffusion */
    STRAND_OP_DIFFUSION = 49,     /* x [..., N, F], supports [M, N, N] or [B, M, N, N] -> [..., N, F (1 + M steps)] */
    STRAND_OP_SPMM = 50,          /* row_ptr [N + 1] I32, col [E] I32, values? [E], x [..., M, F] -> [..., N, F] (CSR) */
    STRAND_OP_SEGMENT_REDUCE = 51, /* x [..., E, F], index [E] I32/I64 -> [..., n, F] */
    STRAND_OP_GINE = 52,          /* x [B, N, F], adjacency [B, N, N], w, b [F] -> [B, N, F] */
    STRAND_OP_GRAPH_GRU = 53,     /* gates [B, L, N, 2H], candidate [B, L, N, H] (input parts with bias), supports [M, N, N]
                                     or [B, M, N, N], w_gates [H (1 + M steps), 2H], w_candidate [H (1 + M steps), H], state?
                                     [B, N, H] -> [B, L, N, H], state (DCGRU) */
    STRAND_OP_DPLR_SCAN = 54,     /* u [B, L, C], poles, p, q [C or 1, N, 2], in, out [C, N, 2], skip? [C], state? [B, C, N,
                                     2] -> y [B, L, C], state (S4 by steps) */
    STRAND_OP_SSM_DISCRETIZE_NPLR = 55, /* A, P, B [C or 1, N, 2], C~ [C, N, 2], dt [C] -> [5, C, N, 2]: poles, p, q, in, out
                                           of DPLR_SCAN */
    STRAND_OP_DENSE_SCAN = 56     /* A [K, d, d], B? [K, d], u? [B, L, C], state? [B, C, d] -> h [B, L, C d], state (LMU) */
};

/* f of UNARY, and activations. Stable numbers. alpha and beta are parameters of the node. */
enum {
    STRAND_UNARY_IDENTITY = 0,
    STRAND_UNARY_GELU_TANH = 1, /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), Hendrycks & Gimpel 2016 */
    STRAND_UNARY_GELU = 2,      /* x/2 (1 + erf(x / sqrt 2)) */
    STRAND_UNARY_SILU = 3,
    STRAND_UNARY_SIGMOID = 4,
    STRAND_UNARY_SIN = 5,
    STRAND_UNARY_EXP = 6,
    STRAND_UNARY_TANH = 7,
    STRAND_UNARY_RELU = 8,
    STRAND_UNARY_SOFTPLUS = 9,      /* ln(1 + e^x), x itself above 20 */
    STRAND_UNARY_SQUARED_RELU = 10, /* max(x, 0)^2 */
    STRAND_UNARY_LEAKY_RELU = 11,   /* x < 0 ? alpha x : x */
    STRAND_UNARY_COS = 12,
    STRAND_UNARY_LOG = 13,
    STRAND_UNARY_SQRT = 14,
    STRAND_UNARY_RSQRT = 15,
    STRAND_UNARY_RECIPROCAL = 16,
    STRAND_UNARY_SQUARE = 17,
    STRAND_UNARY_ABS = 18,
    STRAND_UNARY_NEG = 19,
    STRAND_UNARY_AFFINE = 20,      /* alpha x + beta */
    STRAND_UNARY_CLAMP = 21,       /* to [alpha, beta] */
    STRAND_UNARY_ELU = 22,         /* x > 0 ? x : alpha (e^x - 1) */
    STRAND_UNARY_QUICK_GELU = 23,  /* x sigmoid(1.702 x) */
    STRAND_UNARY_SOFTCAP = 24,     /* alpha tanh(x / alpha) */
    STRAND_UNARY_LOG_SIGMOID = 25, /* -softplus(-x), without the linear branch's error */
    STRAND_UNARY_ERF = 26,
    STRAND_UNARY_LAPLACE = 27,     /* (1 + erf((x - sqrt(1/2)) sqrt(2 pi))) / 2: Mega's attention function, mu = sqrt(1/2),
                                      sigma = sqrt(1/(4 pi)) */
    STRAND_UNARY_EXPM1 = 28,
    STRAND_UNARY_LOG1P = 29,
    STRAND_UNARY_LAST = 29
};
enum {
    STRAND_BINARY_ADD = 0,
    STRAND_BINARY_MUL = 1,
    STRAND_BINARY_SUB = 2,
    STRAND_BINARY_DIV = 3,
    STRAND_BINARY_MAX = 4,
    STRAND_BINARY_MIN = 5,
    STRAND_BINARY_POW = 6, /* a^b for a > 0 */
    STRAND_BINARY_LAST = 6
};
enum {
    STRAND_REDUCE_MEAN = 0,
    STRAND_REDUCE_SUM = 1,
    STRAND_REDUCE_FIRST = 2,
    STRAND_REDUCE_LAST = 3,
    STRAND_REDUCE_BEFORE_TOKEN = 4 /* the position before the first `token` in ids; the last one when that is absent or first */
};
/* Where MATMUL's bias lies. */
enum { STRAND_BIAS_NONE = 0, STRAND_BIAS_ROWS = 1 /* [M] */, STRAND_BIAS_COLUMNS = 2 /* [N] */ };

/* out [..., M, N] = act(A B + bias): A = a [..., M, K], or a [..., K, M] read transposed; B = b [..., K, N], or b [..., N, K]
 * read transposed. Batch axes of a and b are equal, or absent on one side (that matrix is shared). F32 accumulation. a and b
 * may be F32, F16 or BF16; b may also be quantised when it is read transposed (rows of weights) and `a` is not transposed.
 * With a quantised b a backend may round the rows of `a` to Q8 blocks of 32 first (d = largest / 127), as is the practice of
 * those formats: the tolerance of the row then holds for rows that such blocks hold exactly; rounding adds an error of up to
 * 1/254 of the largest of 32 to each element of `a`. out is F32. */
typedef struct strand_op_matmul {
    uint32_t transpose_a, transpose_b;
    uint32_t bias;       /* STRAND_BIAS_... */
    uint32_t activation; /* STRAND_UNARY_... */
    float alpha, beta;   /* of the activation */
    uint32_t precision;  /* STRAND_PRECISION_... */
    uint32_t reserved;
} strand_op_matmul;
/* BF16: a backend may round a and b to BF16 before multiplying (sums stay F32). */
enum { STRAND_PRECISION_F32 = 0, STRAND_PRECISION_BF16 = 1 };

typedef struct strand_op_layer_norm {
    float eps; /* inside the root */
} strand_op_layer_norm;

typedef struct strand_op_unary {
    uint32_t kind;
    float alpha, beta;
} strand_op_unary;

typedef struct strand_op_binary {
    uint32_t kind;
    uint32_t activation; /* of a: GLUs of two tensors are MUL with an activation */
    float alpha, beta;   /* of the activation */
} strand_op_binary;

/* y[t] = act(bias + sum_i weight[i] x[t - (K-1) + i]); before the start stands the state, or zeros (the last tap is the current
 * input). state: the K-1 inputs before the first one, oldest first, in x's own layout. */
#define STRAND_SHORT_CONV_TOKEN_MAJOR 1u /* x [..., L, C], state [..., K-1, C] */
typedef struct strand_op_short_conv {
    uint32_t flags;
    uint32_t activation; /* STRAND_UNARY_... without parameters */
} strand_op_short_conv;

/* w = pre * u; y[t] = post[t] * (sum_{s<=t} filter[t-s] w[s] + sum_{s>t} back[s-t-1] w[s] + skip w[t]); a filter is zero
 * beyond its taps. Poli et al., "Hyena Hierarchy", arXiv 2302.10866; bidirectional as in the S4 and M2 repositories: the
 * backward filter's first tap meets the next input. With BACK_FROM_ZERO it meets the current one, sum_{s>=t} back[s-t] w[s],
 * as in Mega. The filters' spectra are a prepared constant when the filters depend on weights alone. */
#define STRAND_LONG_CONV_BACK_FROM_ZERO 1u
#define STRAND_LONG_CONV_ROUNDED 2u /* a backend may round to BF16 or finer inside its transforms: errors of 1e-2 of the
                                       largest value */
#define STRAND_LONG_CONV_FLAGS 3u   /* all of them */
typedef struct strand_op_long_conv {
    uint32_t flags;
    uint32_t reserved;
} strand_op_long_conv;

typedef struct strand_op_reduce {
    uint32_t kind;
    int32_t token; /* for STRAND_REDUCE_BEFORE_TOKEN */
} strand_op_reduce;

/* Row i of the grid of `n` points: [ i/(n-1), cos(f_j w_i) for j < bands, -sin(f_j w_i) for j < bands ], w_i = 2 pi i / n,
 * f = `bands` points from 1e-4 to bands-1. HyenaDNA's positional features. The angle is rounded to F32 after each of its steps,
 * fl(fl(f_j) fl(fl(fl(2 pi) i) / n)), as in the grids that published checkpoints hold: trained filters amplify the difference
 * (5e-7 in the angle is 2e-4 in the logits of the published tiny-1k). */
typedef struct strand_op_positions {
    int64_t n;
    uint32_t bands;
    uint32_t reserved;
} strand_op_positions;

typedef struct strand_op_decay_window {
    int64_t n;
    float shift;
    uint32_t reserved;
} strand_op_decay_window;

/* ---- rows --------------------------------------------------------------------------------------------------------------- */

/* The last axis is cut into `groups` equal parts, each normalised by itself: with m = mean of x^2 (RMS), variance (LAYER, after
 * the mean is taken off) or sum of x^2 (L2), y = x r (weight + weight_offset) + bias, r = 1/sqrt(m + eps) (INSIDE),
 * 1/(sqrt(m) + eps) (OUTSIDE) or 1/max(sqrt(m), eps) (FLOOR). An absent weight is 1 (whatever weight_offset). */
enum { STRAND_NORM_RMS = 0, STRAND_NORM_LAYER = 1, STRAND_NORM_L2 = 2 };
enum { STRAND_EPS_INSIDE = 0, STRAND_EPS_OUTSIDE = 1, STRAND_EPS_FLOOR = 2 };
typedef struct strand_op_norm {
    uint32_t kind, eps_rule;
    int64_t groups; /* at least 1; divides d */
    float eps;
    float weight_offset; /* 1 for weights stored as (weight - 1), else 0 */
} strand_op_norm;

/* Halves a = x[0, d), b = x[d, 2d), or with `interleaved` a = x[2i], b = x[2i+1]; y = act(a) b, or a act(b) with
 * gate_second. */
typedef struct strand_op_glu {
    uint32_t activation, gate_second, interleaved;
    float alpha, beta; /* of the activation */
} strand_op_glu;

typedef struct strand_op_softmax {
    uint32_t log; /* nonzero: log-softmax */
} strand_op_softmax;

/* Over `axis` of x (negative: from the last). window 0: the whole axis, which then vanishes, or stays with extent 1 (`keep`).
 * window w > 0: windows of w one after another; the axis, of fixed extent, has then extent / w (what does not fill a window is
 * left out). lengths (axis 1, window 0 only): only the first lengths[b] >= 1 indices count. ARGMAX gives I64, the first of
 * equals; NaN is larger than everything. FINAL: the element at the last index that counts. */
enum {
    STRAND_AXIS_SUM = 0,
    STRAND_AXIS_MEAN = 1,
    STRAND_AXIS_MAX = 2,
    STRAND_AXIS_MIN = 3,
    STRAND_AXIS_L1 = 4, /* sum |x| */
    STRAND_AXIS_L2 = 5, /* sqrt(sum x^2) */
    STRAND_AXIS_LOG_SUM_EXP = 6,
    STRAND_AXIS_ARGMAX = 7,
    STRAND_AXIS_FINAL = 8,
    STRAND_AXIS_LAST = 8
};
typedef struct strand_op_reduce_axis {
    uint32_t kind;
    int32_t axis;
    uint32_t keep;
    uint32_t reserved;
    int64_t window;
} strand_op_reduce_axis;

/* ---- shapes: any element type of fixed size ------------------------------------------------------------------------- */

typedef struct strand_op_concat {
    int32_t axis; /* of fixed extent in all inputs */
    uint32_t reserved;
} strand_op_concat;

/* out index i = x index begin + i step, i < count. begin < 0 counts from the end (-1 is the last index). count 0: as many as
 * there are. On an axis of free extent: all of it in either direction (begin 0, step 1 or begin -1, step -1; count 0), or a
 * fixed count from the start or the end, which the run must be long enough for. */
typedef struct strand_op_slice {
    int32_t axis;
    uint32_t reserved;
    int64_t begin, count, step;
} strand_op_slice;

typedef struct strand_op_permute {
    uint32_t axes[4]; /* axis i of the result is axis axes[i] of x */
} strand_op_permute;

enum { STRAND_PAD_VALUE = 0, STRAND_PAD_EDGE = 1, STRAND_PAD_REFLECT = 2 /* without the edge itself */ };
typedef struct strand_op_pad {
    int32_t axis; /* of fixed extent */
    uint32_t mode;
    int64_t before, after; /* not negative; REFLECT: smaller than the extent */
    float value;           /* F32, F16, BF16 only; others 0 */
    uint32_t reserved;
} strand_op_pad;

typedef struct strand_op_repeat {
    int32_t axis;        /* of fixed extent */
    uint32_t interleave; /* nonzero: each index `times` times in a row, else the whole axis again and again */
    int64_t times;
} strand_op_repeat;

/* ---- products ------------------------------------------------------------------------------------------------------- */

/* Block j maps its `in` inputs to its `out` outputs. Inputs of block j are x[j in + i], or with IN_INTERLEAVED x[i nb + j];
 * outputs stand at y[j out + o], or with OUT_INTERLEAVED at y[o nb + j]. The bias is in the order of y. Two of them with a
 * permutation between are a Monarch matrix (Dao et al., arXiv 2204.00595). */
#define STRAND_BLOCK_IN_INTERLEAVED 1u
#define STRAND_BLOCK_OUT_INTERLEAVED 2u
typedef struct strand_op_block_diagonal {
    uint32_t flags;
    uint32_t activation;
    float alpha, beta;
} strand_op_block_diagonal;

/* y[t, j] = act(weight[ids[t, j]] x[t] + bias[ids[t, j]]), x[t, j] when x has rank 3. An id outside [0, E) is an error. */
typedef struct strand_op_grouped_matmul {
    uint32_t activation;
    float alpha, beta;
    uint32_t reserved;
} strand_op_grouped_matmul;

/* Values are x (RAW), softmax over all n (SOFTMAX), softmax over the k picked (SOFTMAX_PICKED), or sigmoid; `normalise`: then
 * divided by their sum. Equal values: the smaller id first; NaN counts as the largest. */
enum { STRAND_TOP_K_RAW = 0, STRAND_TOP_K_SOFTMAX = 1, STRAND_TOP_K_SOFTMAX_PICKED = 2, STRAND_TOP_K_SIGMOID = 3 };
typedef struct strand_op_top_k {
    int64_t k;
    uint32_t values, normalise;
} strand_op_top_k;

/* ---- convolutions and transforms ------------------------------------------------------------------------------------ */

/* y[o, t] = act(bias[o] + sum_{i, j} weight[o, i, j] x[i, t stride + j dilation - pad_left]), zeros outside
 * (cross-correlation). L' = (L + pad_left + pad_right - dilation (K - 1) - 1) / stride + 1; over a free length L' must be L.
 * Padding is not negative. The activation is one without parameters. */
typedef struct strand_op_conv1d {
    int64_t stride, dilation, groups, pad_left, pad_right;
    uint32_t activation;
    uint32_t reserved;
} strand_op_conv1d;

/* X[k] = scale sum_j x[j] e^(-+2 pi i j k / n). R2C: x [..., m], cut or padded with zeros to n (0: m) -> the first `bins`
 * (0: all n/2 + 1) as pairs, or one number each by `form`. C2R: x [..., n/2 + 1, 2] -> [..., n] with e^(+...), the missing
 * half by symmetry (imaginary parts of the first and, for even n, last bin are not read); n 0: twice the bins less 2.
 * FORWARD, INVERSE: pairs [..., n, 2] -> [..., n, 2]. The transformed axis has fixed extent, n is at most 2^22; form and
 * bins belong to R2C. LOG_AMPLITUDE: ln |X|, with `floor` in place of an amplitude of 0. */
enum { STRAND_FFT_R2C = 0, STRAND_FFT_C2R = 1, STRAND_FFT_FORWARD = 2, STRAND_FFT_INVERSE = 3 };
enum { STRAND_FFT_COMPLEX = 0, STRAND_FFT_AMPLITUDE = 1, STRAND_FFT_POWER = 2, STRAND_FFT_LOG_AMPLITUDE = 3 };
typedef struct strand_op_fft {
    uint32_t kind, form;
    int64_t n, bins;
    float scale, floor;
} strand_op_fft;

/* ---- attention ------------------------------------------------------------------------------------------------------ */

/* In each head of d = C / heads the first `rotary` elements are rotated in pairs: (x[i], x[i + rotary/2]), or interleaved
 * (x[2i], x[2i+1]), by position * position_scale * f_i; f_i = base^(-2i / rotary) unless frequencies are given; the rotated
 * elements are multiplied by `magnitude`, the others stay. Without positions token t has offset + t. Su et al., arXiv
 * 2104.09864. */
typedef struct strand_op_rotary {
    int64_t heads, rotary, offset;
    uint32_t interleaved;
    float base, position_scale, magnitude;
} strand_op_rotary;

/* y[t] = sum_s softmax_s(score(t, s)) v[s]; score = cap(scale q[t].k[s]) + bias[h, t, s]; cap(x) = softcap tanh(x /
 * softcap), or x when softcap is 0. Query head h reads key head h / (heads / kv_heads). With n = kv_length (absent: S) valid
 * keys, query t stands at position p = n - L + t. Key s is seen when s < n; with `causal` s <= p; with window w > 0 also p -
 * s < w (not causal: |p - s| < w), or s < sinks; and, with a mask, where mask[h, t / block, s / block] is not 0 (the mask's
 * extents are rounded up). A key whose score is -infinity is not seen either; nothing of a key that is not seen enters, be
 * it NaN. A query that sees nothing gives 0. kv_length outside [0, S] is an error. k and v may be F16 or BF16; with
 * precision BF16, and both BF16 or both F16, a backend may round q (times scale) and the softmax's weights to their type first
 * (sums stay F32): the tolerance of that is 2000 times the row's, of F16 400. Online softmax: Dao, arXiv 2307.08691; sinks:
 * arXiv 2309.17453. */
typedef struct strand_op_attention {
    int64_t heads, kv_heads, window, sinks, block;
    float scale, softcap;
    uint32_t causal;
    uint32_t precision; /* STRAND_PRECISION_... */
} strand_op_attention;

/* Rows at, at+1, ... of the cache become x's (rounded to the cache's type); with `ring` row indices are taken modulo S, else
 * rows at or beyond S, or before 0, are an error. With `slide` > 0 (and no ring) `at` counts the tokens so far, whose last
 * min(at, S) are the cache's first rows; where x does not fit behind them, the oldest go and the result's S rows are the
 * last S of both. At least `slide` of those before x, or all that there are, must stay: else x is too long, which is an
 * error. Attention whose window looks back at most `slide` tokens reads such a cache with kv_length min(at + L, S). The
 * result may lie over the cache. */
typedef struct strand_op_cache_write {
    uint32_t ring;
    uint32_t slide;
} strand_op_cache_write;

/* ---- state-space models --------------------------------------------------------------------------------------------- */

/* Poles are e^lambda. ZOH: lambda = dt A, coefficient = C B (e^lambda - 1) / A. BILINEAR: e^lambda = (1 + dt A/2) / (1 - dt
 * A/2), coefficient = C B dt / (1 - dt A/2). EULER: lambda = dt A, coefficient = C B dt. PLAIN: lambda = dt A, coefficient =
 * C B. Absent B or C: ones; where A = 0 ZOH takes its limit dt. S5 discretises the rows of its B: C = its states, N = 1. Gu
 * et al., arXiv 2206.11893. */
enum { STRAND_SSM_ZOH = 0, STRAND_SSM_BILINEAR = 1, STRAND_SSM_EULER = 2, STRAND_SSM_PLAIN = 3 };
typedef struct strand_op_ssm_discretize {
    uint32_t method;
    uint32_t reserved;
} strand_op_ssm_discretize;

/* filter[c, t] = scale Re sum_n coefficient[c, n] pole[c, n]^t; with log_poles the first input holds lambda, pole =
 * e^lambda. With `normalise` each coefficient is divided by sum_{r < T} pole^r (DSS-softmax, Gupta et al., arXiv
 * 2203.14343): exponents are shifted by T - 1 where Re lambda > 0, and 1/x is taken as conj(x) / (|x|^2 + eps). (The
 * published code puts its 1e-7 on the square of the sum times Lambda; with sums that are not small neither is seen.) */
typedef struct strand_op_ssm_kernel_diagonal {
    uint32_t log_poles, normalise;
    float scale, eps;
} strand_op_ssm_kernel_diagonal;

/* The filter of x' = (diag(A) - P P*) x + B u, y = 2 Re C x, by the bilinear rule with step dt, truncated at T = length: N
 * conjugate pairs by one of each. C~ = C (I - Abar^length) is what checkpoints store. With z_k = 2 (1 - w)/(1 + w), w =
 * e^(-2 pi i k / length), and r(x, y) = dt sum over all 2N of x y / (z - dt A): K^ = (r(B, C) - r(B, P*) r(P, C) / (1 + r(P,
 * P*))) 2 / (1 + w), filter = irfft K^; at w = -1 the limit dt Re sum B C~ (over N) is taken. Gu et al., arXiv 2111.00396. T
 * <= length. */
typedef struct strand_op_ssm_kernel_nplr {
    int64_t length;
} strand_op_ssm_kernel_nplr;

/* filter[k, t] = c A^t b with A = ones below the diagonal and last column a. Zhang et al., "SpaceTime", arXiv 2303.09489. */

/* h <- pole h + in u[t]; y[t] = scale Re sum_n out h + skip u[t]. Real when poles have rank 2. log_poles: the input holds
 * lambda. Absent in or out: ones. reverse runs from the last token to the first; the state is then the one after the first. */
typedef struct strand_op_lti_scan {
    uint32_t log_poles, reverse;
    float scale;
    uint32_t reserved;
} strand_op_lti_scan;

/* h <- pole h + p r + in u[t], r = Re sum_n q h of the h before; y[t] = scale Re sum_n out h + skip u[t]: a diagonal system
 * and one of rank one. */
typedef struct strand_op_dplr_scan {
    float scale;
    uint32_t reserved;
} strand_op_dplr_scan;

/* The system of SSM_KERNEL_NPLR by steps. With m = 1 / (1 - dt A/2) and g = (dt/2) / (1 + (dt/2) 2 sum |P|^2 Re m): poles =
 * 2 m - 1, p = -4 g m P, q = conj(P) m, in = dt m (B - g P 2 Re sum conj(P) m B), and out = C, where C (I - Abar^length) =
 * C~; length 0: C~ is C itself. scale is 2. */
typedef struct strand_op_ssm_discretize_nplr {
    int64_t length;
} strand_op_ssm_discretize_nplr;

/* Channel c uses kernel c / (C / K). h <- A h + B u[t], given for every t; without u (and B) it is A^t state, h[0] = state,
 * L is the hint's, and the state given back is A^L state. No parameters. */

/* h[t] = a[t] h[t-1] + x[t], element by element, of pairs when `complex`; reverse runs from the last token to the first (the
 * state is then the one after the first). log_a: the input holds ln a. RGLRU: x[t] is first multiplied by sqrt(1 - a[t]^2),
 * except at the token where a sequence without state begins; real only (Griffin, arXiv 2402.19427). */
enum { STRAND_RECURRENCE_PLAIN = 0, STRAND_RECURRENCE_RGLRU = 1 };
typedef struct strand_op_linear_recurrence {
    uint32_t complex_pairs, log_a, reverse, form;
} strand_op_linear_recurrence;

/* Channel c uses kernel c / (C / K). Open: s <- A s + b u[t], y[t] = c s + skip u[t]. Closed (no u; k and state are there; L
 * is the hint's): y[h] = c x_h, x_0 = state, x_(h+1) = (A + b k^T) x_h; the state given back is x_L. A as for
 * SSM_KERNEL_COMPANION. */
typedef struct strand_op_companion_scan {
    uint32_t closed;
    uint32_t reserved;
} strand_op_companion_scan;

/* d = dt + dt_bias, softplus(d) if asked for (d itself above 20); h[n] <- e^(d A[n]) h[n] + d B[n] u; y = (sum_n C[n] h[n] +
 * D u) silu(z). Gu & Dao, "Mamba", arXiv 2312.00752. */
typedef struct strand_op_selective_scan {
    uint32_t softplus;
    uint32_t reserved;
} strand_op_selective_scan;

/* Gates in the order r, z, n (PyTorch): r = sigmoid(x_r + w_r h + b_r), z alike, n = tanh(x_n + r (w_n h + b_n)),
 * h <- (1 - z) n + z h. */
typedef struct strand_op_gru {
    uint32_t reverse;
    uint32_t reserved;
} strand_op_gru;

/* ---- matrix-state recurrences --------------------------------------------------------------------------------------- */

/* d = dt + dt_bias, softplus if asked for, then clamped to [dt_min, dt_max] (absent dt: d = 1, nothing of this); S <- e^(d
 * a) S + (d x) B^T; y = S C + D x. Head h reads group h / (heads / groups) of B and C. Without dt, a is the log decay
 * itself: ln gamma [H] of RetNet. Dao & Gu, arXiv 2405.21060. */
typedef struct strand_op_ssd {
    int64_t heads, groups;
    uint32_t softplus;
    float dt_min, dt_max;
    uint32_t precision; /* STRAND_PRECISION_...: BF16 lets a backend round what is multiplied (sums, decays and states stay
                           F32) */
} strand_op_ssd;

/* S [K, V]: without u: S <- diag(w) S + k v^T, y = scale q S (GLA, arXiv 2312.06635); with u: y = scale q (S + diag(u) k
 * v^T), then S <- diag(w) S + k v^T (RWKV-5/6, arXiv 2404.05892). log_w: the input holds ln w. */
typedef struct strand_op_gated_linear_attention {
    int64_t heads;
    uint32_t log_w;
    float scale;
} strand_op_gated_linear_attention;

/* S [V, K]: S <- S diag(w) + (S a) b^T + v k^T, y = scale S r (RWKV-7, arXiv 2503.14456: a = -kappa, b = kappa * rate). */
typedef struct strand_op_delta_rule {
    int64_t heads;
    uint32_t log_w;
    float scale;
} strand_op_delta_rule;

/* y[t] = f(q[t]) KV / (f(q[t]) Z + eps), KV = sum_{s<=t} f(k[s]) v[s]^T, Z = sum_{s<=t} f(k[s]); the division only with
 * `normalise`. f: IDENTITY x; ELU1 elu(x) + 1; RELU; TAYLOR2 [1, x / d^(1/4), vec(x x^T) / (sqrt(2) sqrt(d))] of F = 1 + d +
 * d^2 elements (Based, arXiv 2402.18668). The state holds KV and, as its last column, Z. */
enum { STRAND_FEATURE_IDENTITY = 0, STRAND_FEATURE_ELU1 = 1, STRAND_FEATURE_RELU = 2, STRAND_FEATURE_TAYLOR2 = 3 };
typedef struct strand_op_linear_attention {
    int64_t heads;
    uint32_t feature, normalise;
    float eps;
    uint32_t reserved;
} strand_op_linear_attention;

/* y = (e^(p - q) aa + e^(u + k - q) v) / (e^(p - q) bb + e^(u + k - q)), q = max(p, u + k); then with q = max(p + w, k):
 * aa <- e^(p + w - q) aa + e^(k - q) v, bb <- e^(p + w - q) bb + e^(k - q), p <- q. state rows aa, bb, p; absent: 0, 0, -1e30.
 * w is the log decay (negative). RWKV-4, arXiv 2305.13048. No parameters. */

/* prev[t] = x[t-1], the state (or 0) before the first. Without mix the result is prev; LERP_X: x mix + prev (1 - mix);
 * LERP_PREV: x + (prev - x) mix. The state is the last x. */
enum { STRAND_SHIFT_LERP_X = 0, STRAND_SHIFT_LERP_PREV = 1 };
typedef struct strand_op_token_shift {
    uint32_t form;
    uint32_t reserved;
} strand_op_token_shift;

/* ---- graphs --------------------------------------------------------------------------------------------------------- */

/* w[i, j] = x[i].x[j] / (|x[i]| |x[j]|) over all axes after the nodes' (a zero row: 0), with ABSOLUTE |w|; of it each row
 * keeps the k largest, the smaller j first of equals. Itself is one of the k, or with NOT_SELF kept besides them. CLAMP:
 * then max(w, 0); SYMMETRIC: then (w + w^T)/2; UNIT_DIAGONAL: w[i, i] = 1 at last. Neighbours are chosen by double-precision
 * similarities. */
#define STRAND_KNN_NOT_SELF 1u
#define STRAND_KNN_ABSOLUTE 2u
#define STRAND_KNN_CLAMP 4u
#define STRAND_KNN_SYMMETRIC 8u
#define STRAND_KNN_UNIT_DIAGONAL 16u
typedef struct strand_op_knn_adjacency {
    int64_t k;
    uint32_t flags;
    uint32_t reserved;
} strand_op_knn_adjacency;

/* softmax over j of scale q[i].k[j]; symmetric: then (w + w^T)/2. */
typedef struct strand_op_softmax_adjacency {
    float scale;
    uint32_t symmetric;
} strand_op_softmax_adjacency;

/* Keeps entries: ABOVE value; TOP_FRACTION: those strictly above the K-th largest of all N N, K = (int)(N N value), a
 * product in F32 (K < 1: none); PER_ROW: the K = value largest of each row, the smaller j first of equals. Others are 0.
 * Then self loops: KEEP, DROP (0), or UNIT (1). */
enum { STRAND_PRUNE_ABOVE = 0, STRAND_PRUNE_TOP_FRACTION = 1, STRAND_PRUNE_PER_ROW = 2 };
enum { STRAND_LOOPS_KEEP = 0, STRAND_LOOPS_DROP = 1, STRAND_LOOPS_UNIT = 2 };
typedef struct strand_op_prune_adjacency {
    uint32_t mode, loops;
    float value;
    uint32_t reserved;
} strand_op_prune_adjacency;

/* RANDOM_WALK: (D^-1 A)^T; DUAL_RANDOM_WALK: that and (D_in^-1 A^T)^T (M = 2), D row sums, 1/0 read as 0; LAPLACIAN: with A
 * <- max(A, A^T), L = I - D^-1/2 A D^-1/2 (1/sqrt of what is not above 0 read as 0), the result is (2 / lambda_max) L - I.
 * lambda_max 0: the largest eigenvalue of L. Li et al., arXiv 1707.01926. */
enum { STRAND_SUPPORTS_RANDOM_WALK = 0, STRAND_SUPPORTS_DUAL_RANDOM_WALK = 1, STRAND_SUPPORTS_LAPLACIAN = 2 };
typedef struct strand_op_graph_supports {
    uint32_t kind;
    float lambda_max;
} strand_op_graph_supports;

/* Chebyshev: x_0 = x; for each support S in turn x_1 = S x_0, x_2 = 2 S x_1 - x_0, ... (`steps` of them). y[n, f (1 + M
 * steps) + m] = x_m[n, f]. CARRY_OVER copies the published DCRNN: each support after the first begins where the one before
 * it stood one step before its end (x_0 is overwritten by x_1 as the recursion runs). Whether a value that is not finite
 * crosses a link of weight zero is left open, here and in GRAPH_GRU. */
#define STRAND_DIFFUSION_CARRY_OVER 1u
typedef struct strand_op_diffusion {
    int64_t steps;
    uint32_t flags;
    uint32_t reserved;
} strand_op_diffusion;

/* y[i] = sum over e in [row_ptr[i], row_ptr[i+1]) of values[e] x[col[e]] (absent values: 1). Bad pointers or columns are an
 * error. */

/* y[i] = sum, mean or largest of x[e] over the e with index[e] = i; 0 where there is none. An index outside [0, n) is an
 * error. */
enum { STRAND_SEGMENT_SUM = 0, STRAND_SEGMENT_MEAN = 1, STRAND_SEGMENT_MAX = 2 };
typedef struct strand_op_segment_reduce {
    uint32_t kind;
    uint32_t reserved;
    int64_t n;
} strand_op_segment_reduce;

/* y[i] = (1 + eps) x[i] + sum over j with adjacency[j, i] != 0 of max(x[j] + w adjacency[j, i] + b, 0). Hu et al., arXiv
 * 1905.12265, with edges of one feature. */
typedef struct strand_op_gine {
    float eps;
    uint32_t reserved;
} strand_op_gine;

/* A GRU whose products are diffusions over the graph: with d(x) [N, H (1 + M steps)] = DIFFUSION of x [N, H] by `steps` and
 * `flags`, r | u = sigmoid(gates + d(h) w_gates), c = tanh(candidate + d(r h) w_candidate), h <- u h + (1 - u) c. Li et al.,
 * arXiv 1707.01926; the weights as published checkpoints hold them (their last rows: those before belong to the input). */
typedef struct strand_op_graph_gru {
    int64_t steps;
    uint32_t flags;     /* STRAND_DIFFUSION_... */
    uint32_t precision; /* STRAND_PRECISION_...: BF16 lets a backend round weights and what they multiply (sums and states
                           stay F32) */
} strand_op_graph_gru;

#ifdef __cplusplus
}
#endif
#endif

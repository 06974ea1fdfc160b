/* ssm.h - what the files of ssm_stack share: one layer's surroundings, complex tensors as pairs, and one-in one-out systems
 * in both of their forms. A layer maps [B, L, d] to [B, L, d']. Names of tensors are "PREFIX part", PREFIX being "" (a file
 * of one layer) or "layers.*.". */
#ifndef STRAND_MODELS_SSM_H
#define STRAND_MODELS_SSM_H

#include "arrange.h"

#define SSM_MAX_RESULTS 8

/* A result that a layer offers beside its output: its filter, a final state. */
typedef struct ssm_result {
    const char *name;
    tensor_id tensor;
} ssm_result;

typedef struct ssm {
    builder b;
    const char *prefix;
    bool stack;      /* several layers: results beside the output come on request */
    bool recurrent;  /* mode=recurrence */
    bool one_way;    /* no layer so far looks ahead: states can be carried on */
    bool liquid;     /* liquid terms wanted; they look ahead */
    int64_t d;       /* channels of a layer's input */
    int64_t l_max;   /* of the config or given; 0: none */
    int64_t longest; /* that all layers so far can take; 0: no limit */
    op_dim length;   /* DIM_L, or fixed where a layer needs its length known */
    ssm_result *results;
    uint32_t n_results, result_room;
} ssm;

/* ---- names and results ---- */

const char *ssm_key(ssm *s, const char *part); /* prefix and part */
bool ssm_has(ssm *s, const char *part);
int64_t ssm_extent(ssm *s, const char *part, int axis);
/* Offers a result; in a stack its name is "layers.I.NAME". */
void ssm_offer(ssm *s, const char *name, tensor_id x);
/* A key of config.json: text, or the fallback. */
const char *ssm_config_text(const ssm *s, const char *key, const char *fallback);
bool ssm_config_bool(const ssm *s, const char *key, bool fallback);
/* The number of an activation by its name; `fallback` where the config has no such key. */
uint32_t ssm_activation(ssm *s, const char *key, const char *fallback);
tensor_id ssm_activate(ssm *s, const char *name, uint32_t kind, tensor_id x);
/* PART.weight [rows, d] (and bias), or PART.kernel [d, rows]; PART.0 in place of PART where the file has it so. */
tensor_id ssm_linear(ssm *s, const char *part, tensor_id x, int64_t rows, int64_t columns);
int64_t ssm_linear_rows(ssm *s, const char *part); /* 0: there is none */
/* [n] -> [1, 1, n], to meet [B, L, n] element by element */
tensor_id ssm_per_channel(ssm *s, const char *part, tensor_id x, int64_t n);
/* a sigmoid(b) of two halves of the last axis */
tensor_id ssm_glu(ssm *s, const char *name, tensor_id x);
/* A state that the session carries on, in mode recurrence of a model that looks at the past alone; else 0. */
tensor_id ssm_state(ssm *s, const char *part, int rank, const op_dim *dims);
/* An operator whose last input is the state; *after gets the next one where wanted. */
tensor_id ssm_with_state(ssm *s, const char *part, uint32_t op, const void *params, const tensor_id *inputs, uint32_t n,
                         tensor_id *after);

/* ---- pairs: complex numbers in a last axis of 2 (rank 3) ---- */

tensor_id ssm_re(ssm *s, tensor_id x);
tensor_id ssm_im(ssm *s, tensor_id x);
tensor_id ssm_pair(ssm *s, const char *part, tensor_id re, tensor_id im); /* [r, n, 1] each */
tensor_id ssm_pair_mul(ssm *s, const char *part, tensor_id x, tensor_id y);
tensor_id ssm_pair_exp(ssm *s, const char *part, tensor_id x);
/* conj(x) / max(|x|^2, least) */
tensor_id ssm_pair_reciprocal(ssm *s, const char *part, tensor_id x, float least);

/* ---- systems of one input and one output a channel ---- */

typedef struct ssm_system {
    int64_t channels, h, states; /* channels outputs of each of h inputs; systems: channels * h, twice that when
                                    bidirectional */
    bool bidirectional, from_zero; /* the way back begins with the current input (Mega), or with the next one */
    bool log_poles, normalise, real;
    float scale, eps;
    tensor_id poles;        /* [systems or 1, states, 2] */
    tensor_id coefficients; /* [systems, states, 2] */
    tensor_id in, out;      /* in place of coefficients for recurrences, or 0: [systems, states(, 2)] */
    tensor_id folded;       /* coefficients for recurrences where normalised ones depend on a length */
    bool nplr;
    tensor_id p, b, c, dt; /* then poles is A */
    int64_t length;        /* for which C is stored; 0: C is C */
    tensor_id matrix;      /* in place of all that, the discrete system in real numbers (ssm_dense): [systems, 2 states, 2
                              states], */
    tensor_id drive, read; /* [systems, 2 states], [systems, 1, 2 states] */
    tensor_id skip; /* [channels * h] or 0 */
    int64_t taps;   /* 0: as many as positions */
} ssm_system;

/* u [B, L, h] -> [B, L, channels h]; offers the filter as `kernel` and the last state as `final_state`. */
tensor_id ssm_apply(ssm *s, const ssm_system *k, tensor_id u);
/* The filters of all systems, [systems, L or taps]. */
tensor_id ssm_filters(ssm *s, const ssm_system *k);

/* ---- systems whose low-rank part has rank 2 and more ---- */

enum { SSM_EXP, SSM_NONE, SSM_RELU, SSM_SIGMOID, SSM_SOFTPLUS }; /* transforms of parameters */

/* A = diag(-f(re) + i sign f(im)) - sum over the rank of P P^*, B, C~ and dt as they are stored: [trained, n], [rank,
 * trained, n, 2], [trained, n, 2], [channels, h, n, 2], [h]. */
typedef struct ssm_nplr {
    const weights_tensor *re, *im, *p, *b, *c, *dt;
    int64_t trained, rank;
    int re_kind, im_kind, dt_kind;
    double re_floor, im_sign; /* re_floor: what relu adds to re */
} ssm_nplr;

/* Sets matrix, drive and read of k, whose channels, h, states, length and direction are known. */
void ssm_dense(ssm *s, const ssm_nplr *given, ssm_system *k);
/* The filters and the steps of such systems; as scan and ssm_filters. u [B, L, C] -> [B, L, C]; drive .. are those of the C
 * systems. */
tensor_id ssm_dense_filters(ssm *s, const ssm_system *k);
tensor_id ssm_dense_scan(ssm *s, tensor_id u, tensor_id matrix, tensor_id drive, tensor_id read, tensor_id skip,
                         tensor_id state, tensor_id *after);

/* ---- the layers: 0 and an error where the file's tensors do not fit ---- */

tensor_id ssm_s4(ssm *s, tensor_id x);         /* S4, S4D, Liquid-S4, GSS: versions 3 and 4 */
tensor_id ssm_s4d_minimal(ssm *s, tensor_id x);
tensor_id ssm_dss(ssm *s, tensor_id x);
tensor_id ssm_ema(ssm *s, tensor_id x);        /* Mega */
tensor_id ssm_s5(ssm *s, tensor_id x);
tensor_id ssm_lru(ssm *s, tensor_id x);
tensor_id ssm_lmu(ssm *s, tensor_id x);
/* y and the terms of higher degree in u [B, L, h], of a system k */
tensor_id ssm_liquid(ssm *s, const ssm_system *k, tensor_id u, tensor_id y);

#endif

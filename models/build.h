/* build.h - what model files share: the tensors of a checkpoint under names of the family's own, with their shapes checked, and
 * the parts that layers are made of (products, norms, embeddings, heads, attention with its cache).
 *
 * Names. Checkpoints of one family come with several sets of names (Hugging Face's, the authors', GGUF's). A family writes its
 * graph with one canonical set and gives a list of renames from the others. In a canonical name '*' stands for the layer at
 * hand (builder.layer), so that "layers.*.mlp.up" is the name in every layer.
 * Errors are kept: after the first one every function returns 0 and does nothing, so that a family reads as a list of parts. */
#ifndef STRAND_MODELS_BUILD_H
#define STRAND_MODELS_BUILD_H

#include "family.h"

/* A name that begins with `from` ('*': a number) up to its end or a '.' begins with `to` instead, which may hold that '*' too.
 * A `from` that ends with '.' or '_' is a prefix. Every rename of a list is tried once, in the list's order, on what the ones
 * before it made. */
typedef struct build_rename {
    const char *from, *to;
} build_rename;

typedef struct build_slot {
    const char *name; /* canonical */
    const weights_tensor *tensor;
} build_slot;

typedef struct builder {
    strand_model *m;
    graph *g;
    const model_config *config;
    error *e;
    int64_t layer;      /* what '*' stands for */
    uint32_t precision; /* STRAND_PRECISION_... of products with weights */
    bool halves;        /* precision=f16: weights of products that are F32 are turned to F16, once, where they run */
    int64_t context;    /* rows of the caches of keys and values; see build_context */
    strand_dtype cache; /* their type */
    build_slot *slots;  /* by the hash of the name; the number of them is a power of two */
    uint64_t n_slots;
} builder;

/* Indexes the file's names. `renames` ends with a NULL `from`. */
strand_status build_start(builder *b, strand_model *m, const model_config *config, error *e, const build_rename *renames);
/* Has the file a tensor of this canonical name? For recognise(), where '*' is layer 0. */
bool build_recognises(const weights *w, const build_rename *renames, const char *name);

/* Is this the canonical name of the file's `name`? */
bool build_is(const char *name, const build_rename *renames, const char *canonical);

/* ---- tensors of the file ---- */

const weights_tensor *build_find(const builder *b, const char *name);
bool build_has(const builder *b, const char *name);
/* Extent `axis` of a tensor; 0 where there is no such tensor or axis. */
int64_t build_extent(const builder *b, const char *name, int axis);
/* Layers 0, 1, ... that have this tensor. */
int64_t build_count_layers(builder *b, const char *name);
/* The tensor as [rows, columns] in the type that it has, for products and gathers. Extents of 1 anywhere in its shape are
 * allowed. */
tensor_id build_matrix(builder *b, const char *name, int64_t rows, int64_t columns);
/* An F32 weight in F16, turned once a session; anything else as it is. */
tensor_id build_halved(graph *g, tensor_id w);
/* A weight as a factor of a product: in F16 with precision=f16, else as it is. */
tensor_id build_factor(builder *b, tensor_id w);
/* Rows [first, first + rows) of an [all, columns] matrix. */
tensor_id build_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns);
/* The same in F32 where the file's are quantised, which only a second factor may be. */
tensor_id build_dense_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns);
/* build_rows of a tensor of any shape with as many elements. */
tensor_id build_rows_flat(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns);
/* In F32 whatever the file's type. `flat`: any shape with as many elements. */
tensor_id build_f32(builder *b, const char *name, int rank, const int64_t *dims, bool flat);
tensor_id build_f32_rows(builder *b, const char *name, int64_t all, int64_t first, int64_t rows, int64_t columns);
tensor_id build_vector(builder *b, const char *name, int64_t n);
tensor_id build_flat(builder *b, const char *name, int64_t n);
tensor_id build_part(builder *b, const char *name, int64_t all, int64_t first, int64_t n);
tensor_id build_flat_part(builder *b, const char *name, int64_t all, int64_t first, int64_t n);
tensor_id build_channels(builder *b, const char *name,
                         int64_t n); /* as build_flat, but [1, 1, n]: to be combined with [B, L, n] */
tensor_id build_vector_if(builder *b, const char *name, int64_t n); /* 0 where the file has none */
/* Counts a tensor that the family reads by itself among those that the model was built from. */
void build_use(builder *b, const weights_tensor *w);
/* Numbers of the family's own, F32. `data` is copied. */
tensor_id build_constant(builder *b, const char *name, int rank, const int64_t *dims, const float *data);

/* ---- operators. `name` is canonical and names the node ---- */

const char *build_name(builder *b, const char *name); /* with the layer's number in */
tensor_id build_unary(builder *b, const char *name, uint32_t kind, tensor_id x, float alpha, float beta);
tensor_id build_binary(builder *b, const char *name, uint32_t kind, tensor_id x, tensor_id y);
tensor_id build_add(builder *b, const char *name, tensor_id x, tensor_id y);
tensor_id build_mul(builder *b, const char *name, tensor_id x, tensor_id y);
/* act(x) y */
tensor_id build_gate(builder *b, const char *name, uint32_t activation, tensor_id x, tensor_id y);
/* act(x W^T + bias), W [rows, columns] */
tensor_id build_product(builder *b, const char *name, tensor_id x, tensor_id w, tensor_id bias, uint32_t activation);
/* The same with W [columns, rows], not transposed. */
tensor_id build_product_plain(builder *b, const char *name, tensor_id x, tensor_id w, tensor_id bias, uint32_t activation);
/* With NAME.weight [rows, columns] and NAME.bias, if that is there. */
tensor_id build_linear(builder *b, const char *name, tensor_id x, int64_t rows, int64_t columns, uint32_t activation);
/* With rows [first, first + rows) of an [all, columns] weight, and its bias alike. */
tensor_id build_linear_rows(builder *b, const char *name, tensor_id x, int64_t all, int64_t first, int64_t rows,
                            int64_t columns, uint32_t activation);
/* x [..., d] by NAME.weight (and NAME.bias). */
tensor_id build_rms_norm(builder *b, const char *name, tensor_id x, int64_t d, double eps);
tensor_id build_layer_norm(builder *b, const char *name, tensor_id x, int64_t d, double eps);
tensor_id build_norm(builder *b, const char *name, const strand_op_norm *p, tensor_id x, tensor_id weight, tensor_id bias);
/* [begin, begin + count) of the last axis */
tensor_id build_slice(builder *b, const char *name, tensor_id x, int64_t begin, int64_t count);
tensor_id build_repeat(builder *b, const char *name, tensor_id x, int axis, int64_t times, bool interleave);
/* Another order of its axes, of which the last ones may be left out. */
tensor_id build_permute(builder *b, const char *name, tensor_id x, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3);
/* The last axis from its end to its start. */
tensor_id build_reverse(builder *b, const char *name, tensor_id x);
/* The same elements in another shape; extents as in graph.h. */
tensor_id build_reshape(builder *b, const char *name, tensor_id x, int rank, const op_dim *dims);
/* [B, L, heads width] -> [B, L, heads, width], and back */
tensor_id build_split_heads(builder *b, const char *name, tensor_id x, int64_t heads, int64_t width);
tensor_id build_join_heads(builder *b, const char *name, tensor_id x, int64_t channels);
/* w2(act(w1 x) * (w3 x)), all by canonical names; inner x d matrices, without or with biases. */
typedef struct build_glu {
    const char *gate, *up, *down;
    uint32_t activation;
} build_glu;
tensor_id build_gated_mlp(builder *b, const build_glu *names, tensor_id x, int64_t d, int64_t inner);

/* ---- states: what a sequence hands on from run to run ---- */

/* [batch, dims...] F32, zeros at the start; also offered as an output of that name, as it is after the run. */
tensor_id build_state(builder *b, const char *name, int rank, const int64_t *dims);
void build_state_next(builder *b, tensor_id state, tensor_id next);
/* What the state of this name becomes, for models whose published code gives it under another name; 0 where there is none. */
tensor_id build_state_after(builder *b, const char *name);
/* x [B, L, channels] with each token's mixed with the one's before it: x + (before - x) mix. The last x is a state NAME, which
 * all shifts of one x share: begin one, shift as often as needed, end it. */
typedef struct build_shift {
    tensor_id x, state, next;
} build_shift;
build_shift build_shift_begin(builder *b, const char *name, tensor_id x, int64_t channels);
tensor_id build_shift_mix(builder *b, const char *name, build_shift *s, tensor_id mix, uint32_t form);
void build_shift_end(builder *b, build_shift *s);
/* y of SHORT_CONV over tokens: x [B, L, channels], NAME.weight [channels, taps], NAME.bias if it is there; the last taps - 1
 * inputs are a state. */
tensor_id build_short_conv(builder *b, const char *name, tensor_id x, int64_t channels, int64_t taps, uint32_t activation);
/* The same with channels [first, first + n) of `all`; LABEL names the node, and its state LABEL.state. */
tensor_id build_short_conv_rows(builder *b, const char *name, const char *label, tensor_id x, int64_t all, int64_t first,
                                int64_t n, int64_t taps, uint32_t activation);

/* ---- the ends of a language model ---- */

/* input_ids [B, L] I64 -> rows of the table `name` [vocabulary, d]. */
tensor_id build_embedding(builder *b, const char *name, int64_t vocabulary, int64_t d);
/* The outputs `hidden` and `logits`, and on request `last_hidden` [B, d] and `last_logits` [B, vocabulary] of the last token
 * alone, which is all that the next one is sampled from (a head of 50,000 rows is a large part of a small model). Hidden times
 * HEAD.weight, or the table TIED where the file has no head. softcap: 0 or as in UNARY. */
void build_head(builder *b, const char *head, const char *tied, tensor_id hidden, int64_t vocabulary, int64_t d,
                double softcap);

/* ---- configuration ---- */

/* A number of config.json within [low, high]; `fallback` where it is absent, or an error where that is outside too. */
int64_t build_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high);
double build_number(builder *b, const char *key, double fallback, double low, double high);
/* The same of any object. */
int64_t build_int_of(builder *b, const json *object, const char *key, int64_t fallback, int64_t low, int64_t high);
/* The same of a GGUF file's metadata "ARCHITECTURE.KEY"; the architecture is NULL in other files. */
const char *build_architecture(const builder *b);
int64_t build_meta_int(builder *b, const char *key, int64_t fallback, int64_t low, int64_t high);
double build_meta_number(builder *b, const char *key, double fallback, double low, double high);
bool build_meta_bool(const builder *b, const char *key, bool fallback);
const char *build_meta_text(const builder *b, const char *key, const char *fallback);
/* A Hugging Face name of an activation ("gelu_new") as STRAND_UNARY_...; refuses others. */
uint32_t build_activation(builder *b, const char *name);
/* A line for a shape or a setting that the family cannot take. */
strand_status build_refuse(builder *b, const char *format, ...);
/* The settings that all of these families have: precision. */
strand_status build_settings(builder *b);
bool build_failed(const builder *b);
/* The longest sequence that the model takes in one run (0: any), and the length that long inputs are cut into. */
void build_lengths(builder *b, int64_t longest);

#define BUILD_SETTINGS "precision"

#endif

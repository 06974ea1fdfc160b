/* gpu.h - what the operators of the GPU plugins (ops_*.c) are written with: a table row each, and a dispatch put together from
 * tensors and numbers. */
#ifndef STRAND_GPU_H
#define STRAND_GPU_H

#include "check.h" /* predicates of the CPU plugin: what an operator's shapes must be is the same everywhere */
#include "driver.h"

#define GPU_RUN(name) strand_plugin_status gpu_##name(strand_plugin_device *device, const strand_plugin_node *node, const strand_plugin_memory *scratch)

/* X(id, name, scratch, prepare_size, prepare): cpu_supports_NAME says what shapes mean, gpu_supports_NAME what runs here,
 * gpu_NAME runs. One line an operator. */
#define GPU_PRODUCTS(X)                           \
    X(STRAND_OP_GATHER, gather, NULL, NULL, NULL) \
    X(STRAND_OP_MATMUL, matmul, NULL, NULL, NULL)

#define GPU_ELEMENTWISE(X)                                \
    X(STRAND_OP_UNARY, unary, NULL, NULL, NULL)           \
    X(STRAND_OP_BINARY, binary, NULL, NULL, NULL)         \
    X(STRAND_OP_CAST, cast, NULL, NULL, NULL)             \
    X(STRAND_OP_POSITIONS, positions, NULL, NULL, NULL)   \
    X(STRAND_OP_DECAY_WINDOW, decay_window, NULL, NULL, NULL)

#define GPU_ROWS(X)                                       \
    X(STRAND_OP_LAYER_NORM, layer_norm, NULL, NULL, NULL) \
    X(STRAND_OP_REDUCE, reduce, NULL, NULL, NULL)         \
    X(STRAND_OP_NORM, norm, NULL, NULL, NULL)             \
    X(STRAND_OP_GLU, glu, NULL, NULL, NULL)               \
    X(STRAND_OP_SOFTMAX, softmax, NULL, NULL, NULL)       \
    X(STRAND_OP_REDUCE_AXIS, reduce_axis, NULL, NULL, NULL)

#define GPU_SCANS(X)                                                                                    \
    X(STRAND_OP_SELECTIVE_SCAN, selective_scan, gpu_selective_scan_scratch, NULL, NULL)                 \
    X(STRAND_OP_LTI_SCAN, lti_scan, gpu_lti_scan_scratch, NULL, NULL)                                   \
    X(STRAND_OP_LINEAR_RECURRENCE, linear_recurrence, NULL, NULL, NULL)                                 \
    X(STRAND_OP_COMPANION_SCAN, companion_scan, gpu_companion_scan_scratch, NULL, NULL)                                       \
    X(STRAND_OP_SSM_DISCRETIZE, ssm_discretize, NULL, NULL, NULL)                                       \
    X(STRAND_OP_SSM_KERNEL_DIAGONAL, ssm_kernel_diagonal, gpu_ssm_kernel_diagonal_scratch, NULL, NULL)  \
    X(STRAND_OP_SSM_KERNEL_COMPANION, ssm_kernel_companion, NULL, NULL, NULL)                           \
    X(STRAND_OP_SSM_KERNEL_NPLR, ssm_kernel_nplr, gpu_ssm_kernel_nplr_scratch, NULL, NULL)              \
    X(STRAND_OP_GRU, gru, NULL, NULL, NULL)

#define GPU_CONVOLUTIONS(X) \
    X(STRAND_OP_SHORT_CONV, short_conv, NULL, NULL, NULL)

#define GPU_ATTENTION(X)                                                  \
    X(STRAND_OP_ROTARY, rotary, NULL, NULL, NULL)                         \
    X(STRAND_OP_ATTENTION, attention, gpu_attention_scratch, NULL, NULL)  \
    X(STRAND_OP_CACHE_WRITE, cache_write, gpu_cache_write_scratch, NULL, NULL)

#define GPU_MATRIX_STATE(X)                                                                                                    \
    X(STRAND_OP_SSD, ssd, gpu_ssd_scratch, NULL, NULL)                                                                         \
    X(STRAND_OP_GATED_LINEAR_ATTENTION, gated_linear_attention, gpu_gated_linear_attention_scratch, NULL, NULL)                \
    X(STRAND_OP_DELTA_RULE, delta_rule, gpu_delta_rule_scratch, NULL, NULL)                                                    \
    X(STRAND_OP_LINEAR_ATTENTION, linear_attention, gpu_linear_attention_scratch, NULL, NULL)                                  \
    X(STRAND_OP_WKV4, wkv4, gpu_wkv4_scratch, NULL, NULL)                                                                      \
    X(STRAND_OP_TOKEN_SHIFT, token_shift, NULL, NULL, NULL)

#define GPU_SHAPES(X)                               \
    X(STRAND_OP_RESHAPE, reshape, NULL, NULL, NULL) \
    X(STRAND_OP_CONCAT, concat, NULL, NULL, NULL)   \
    X(STRAND_OP_SLICE, slice, NULL, NULL, NULL)     \
    X(STRAND_OP_PERMUTE, permute, NULL, NULL, NULL) \
    X(STRAND_OP_PAD, pad, NULL, NULL, NULL)         \
    X(STRAND_OP_REPEAT, repeat, NULL, NULL, NULL)

#define GPU_TOP_K(X) X(STRAND_OP_TOP_K, top_k, NULL, NULL, NULL)

#define GPU_TRANSFORMS(X)                                                                                              \
    X(STRAND_OP_LONG_CONV, long_conv, gpu_long_conv_scratch, gpu_long_conv_prepare_size, gpu_long_conv_prepare)         \
    X(STRAND_OP_FFT, fft, gpu_fft_scratch, NULL, NULL)                                                                  \
    X(STRAND_OP_CONV1D, conv1d, NULL, NULL, NULL)

#define GPU_GRAPHS(X)                                                                        \
    X(STRAND_OP_KNN_ADJACENCY, knn_adjacency, gpu_knn_adjacency_scratch, NULL, NULL)         \
    X(STRAND_OP_SOFTMAX_ADJACENCY, softmax_adjacency, NULL, NULL, NULL)                      \
    X(STRAND_OP_PRUNE_ADJACENCY, prune_adjacency, NULL, NULL, NULL)                          \
    X(STRAND_OP_GRAPH_SUPPORTS, graph_supports, gpu_graph_supports_scratch, NULL, NULL)      \
    X(STRAND_OP_DIFFUSION, diffusion, NULL, NULL, NULL)                                      \
    X(STRAND_OP_SPMM, spmm, NULL, NULL, NULL)                                                \
    X(STRAND_OP_SEGMENT_REDUCE, segment_reduce, NULL, NULL, NULL)                            \
    X(STRAND_OP_GINE, gine, NULL, NULL, NULL)                                                \
    X(STRAND_OP_GRAPH_GRU, graph_gru, gpu_graph_gru_scratch, NULL, NULL)

#define GPU_GROUPED(X)                                            \
    X(STRAND_OP_BLOCK_DIAGONAL, block_diagonal, NULL, NULL, NULL) \
    X(STRAND_OP_GROUPED_MATMUL, grouped_matmul, NULL, NULL, NULL)

#define GPU_DENSE_SCANS(X)                            \
    X(STRAND_OP_DPLR_SCAN, dplr_scan, NULL, NULL, NULL) \
    X(STRAND_OP_DENSE_SCAN, dense_scan, NULL, NULL, NULL) \
    X(STRAND_OP_SSM_DISCRETIZE_NPLR, ssm_discretize_nplr, gpu_ssm_discretize_nplr_scratch, NULL, NULL)

#define GPU_TABLE(X) \
    GPU_DENSE_SCANS(X) \
    GPU_SHAPES(X) \
    GPU_TOP_K(X) \
    GPU_GRAPHS(X) \
    GPU_SCANS(X) \
    GPU_GROUPED(X) \
    GPU_PRODUCTS(X) \
    GPU_ELEMENTWISE(X) \
    GPU_ROWS(X) \
    GPU_CONVOLUTIONS(X) \
    GPU_TRANSFORMS(X) \
    GPU_ATTENTION(X) \
    GPU_MATRIX_STATE(X)

#define GPU_DECLARE(id, name, scratch, size, make)                                                                       \
    bool gpu_supports_##name(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes); \
    GPU_RUN(name);
GPU_TABLE(GPU_DECLARE)
uint64_t gpu_knn_adjacency_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_graph_gru_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_graph_supports_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_selective_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_companion_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_lti_scan_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_ssm_discretize_nplr_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_ssm_kernel_nplr_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_ssm_kernel_diagonal_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_ssd_scratch(strand_plugin_device *device, const strand_plugin_node *node);
/* SSD of many tokens; *done: whether there were enough. */
strand_plugin_status gpu_ssd_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                       const strand_plugin_memory *scratch, bool *done);
uint64_t gpu_gated_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_delta_rule_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_wkv4_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_linear_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_fft_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_long_conv_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_long_conv_prepare_size(strand_plugin_device *device, const strand_plugin_node *node);
strand_plugin_status gpu_long_conv_prepare(strand_plugin_device *device, const strand_plugin_node *node,
                                           const strand_plugin_memory *scratch);
uint64_t gpu_cache_write_scratch(strand_plugin_device *device, const strand_plugin_node *node);
uint64_t gpu_attention_scratch(strand_plugin_device *device, const strand_plugin_node *node);

/* ATTENTION's result from what `splits` ranges of the keys gave each query of each head: [B, H, L, splits, dv + 2], sums,
 * then the largest score and the sum of weights. */
strand_plugin_status gpu_attention_merge(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, int64_t splits);

/* Counts (kv_length) beyond `most` become the error of the next wait. */
strand_plugin_status gpu_check_counts(strand_plugin_device *device, const strand_plugin_tensor *counts, int64_t most);

typedef struct gpu_op {
    uint32_t op, version;
    bool (*shapes)(const strand_plugin_node *node, char *why, size_t why_bytes);
    bool (*supports)(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes);
    uint64_t (*scratch)(strand_plugin_device *device, const strand_plugin_node *node);
    uint64_t (*prepare_size)(strand_plugin_device *device, const strand_plugin_node *node);
    strand_plugin_status (*prepare)(strand_plugin_device *device, const strand_plugin_node *node,
                                    const strand_plugin_memory *scratch);
    strand_plugin_status (*run)(strand_plugin_device *device, const strand_plugin_node *node,
                                const strand_plugin_memory *scratch);
} gpu_op;

/* One node as launch runs it, and its working memory: for groups that are made of other nodes. The device is entered
 * already. */
uint64_t gpu_node_scratch(strand_plugin_device *device, const strand_plugin_node *node);
strand_plugin_status gpu_run_node(strand_plugin_device *device, const strand_plugin_node *node,
                                  const strand_plugin_memory *scratch);

/* ---- putting a dispatch together ---- */

/* Begins one; bindings and parameters are pushed in the kernel's order, all bindings first. */
void gpu_begin(gpu_dispatch *d, gpu_kernel kernel);
/* The tensor's memory, from its first element to its last; its offset becomes a parameter. An absent tensor (NULL): any
 * memory of `stand_in`, never touched by the kernel. */
void gpu_bind(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_tensor *t);
void gpu_bind_or(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_tensor *t,
                 const strand_plugin_tensor *stand_in);
/* A range of bytes of raw memory (scratch, prepared), read as elements of `size` bytes. */
void gpu_bind_memory(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *m, uint64_t at, uint64_t bytes,
                     uint32_t size);
/* Four words in which a kernel may leave what it found wrong: [0] = a code that is not 0, [1], [2] = numbers. */
void gpu_bind_fault(strand_plugin_device *device, gpu_dispatch *d);
void gpu_int(gpu_dispatch *d, int64_t value);
void gpu_ints(gpu_dispatch *d, const int64_t *values, int count);
#define GPU_INTS(d, ...)                                                                                                       \
    gpu_ints(d, (const int64_t[]){__VA_ARGS__}, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
/* The kernel for vectors of four, which has been begun with, where all of these parameters are multiples of four, else the one
 * behind it in kernels.list, for any numbers. */
void gpu_choose(gpu_dispatch *d, const int *parameters, int count);
#define GPU_CHOOSE(d, ...) gpu_choose(d, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))
void gpu_float(gpu_dispatch *d, float value);
/* dims[4] of the output, right-aligned. */
void gpu_dims(gpu_dispatch *d, const strand_plugin_tensor *out);
/* strides[4] of a tensor through the output's axes (0 along broadcast axes), and moves the pushed offset of binding
 * `binding` to the element that stands under the output's first. */
void gpu_place(gpu_dispatch *d, uint32_t binding, const strand_plugin_tensor *out, const strand_plugin_tensor *t,
               bool broadcast);
/* Runs over n items, in groups of the kernel's size, in x and y as needed; nothing for n = 0. */
strand_plugin_status gpu_over(strand_plugin_device *device, gpu_dispatch *d, int64_t n);
/* Any number of groups: in several dispatches where there are more than a device takes at once. */
strand_plugin_status gpu_groups(strand_plugin_device *device, gpu_dispatch *d, int64_t x, int64_t y, int64_t z);

/* Items that share a row of n elements in NORM: by its length alone, and so the order of additions. */
int64_t gpu_norm_lanes(int64_t n);

/* One group a row, in x and y as needed. */
strand_plugin_status gpu_rows(strand_plugin_device *device, gpu_dispatch *d, int64_t rows);

/* Elements of a tensor as kernels count its offsets: for the quantised types the bytes of the whole blocks among them. */
int64_t gpu_steps(const strand_plugin_tensor *t, int64_t elements);
/* Elements of a tensor. */
int64_t gpu_count(const strand_plugin_tensor *t);
/* Can every tensor of the node be bound: enough bindings, ranges, and 32-bit indices? */
bool gpu_fits(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes);

#endif

/* kernels.h - the table of operators and what its rows point to: for each operator one predicate, asked by supports and launch
 * (supports*.c), a fast kernel (one file a family) and a reference kernel (reference*.c). Adding an operator adds one line
 * here.
 *
 * X(id, name, scratch, prepare_size, prepare): cpu_supports_NAME, cpu_NAME, cpu_reference_NAME. */
#ifndef STRAND_CPU_KERNELS_H
#define STRAND_CPU_KERNELS_H

#include "cpu.h"

#define CPU_KERNEL(name) strand_plugin_status name(const cpu_device *device, const strand_plugin_node *node, void *scratch)

#define CPU_PRODUCTS(X)                        \
    X(STRAND_OP_GATHER, gather, NULL, NULL, NULL) \
    X(STRAND_OP_MATMUL, matmul, cpu_matmul_scratch, cpu_matmul_prepare_size, cpu_matmul_prepare) \
    X(STRAND_OP_BLOCK_DIAGONAL, block_diagonal, cpu_block_diagonal_scratch, NULL, NULL) \
    X(STRAND_OP_GROUPED_MATMUL, grouped_matmul, cpu_grouped_matmul_scratch, NULL, NULL) \
    X(STRAND_OP_TOP_K, top_k, cpu_top_k_scratch, NULL, NULL)

#define CPU_ELEMENTWISE(X)                        \
    X(STRAND_OP_LAYER_NORM, layer_norm, NULL, NULL, NULL) \
    X(STRAND_OP_UNARY, unary, NULL, NULL, NULL)   \
    X(STRAND_OP_BINARY, binary, NULL, NULL, NULL) \
    X(STRAND_OP_REDUCE, reduce, NULL, NULL, NULL) \
    X(STRAND_OP_CAST, cast, NULL, NULL, NULL)     \
    X(STRAND_OP_NORM, norm, NULL, NULL, NULL)     \
    X(STRAND_OP_GLU, glu, NULL, NULL, NULL)       \
    X(STRAND_OP_SOFTMAX, softmax, NULL, NULL, NULL) \
    X(STRAND_OP_REDUCE_AXIS, reduce_axis, NULL, NULL, NULL)

#define CPU_SHAPES(X)                           \
    X(STRAND_OP_RESHAPE, reshape, NULL, NULL, NULL) \
    X(STRAND_OP_CONCAT, concat, NULL, NULL, NULL)   \
    X(STRAND_OP_SLICE, slice, NULL, NULL, NULL)     \
    X(STRAND_OP_PERMUTE, permute, NULL, NULL, NULL) \
    X(STRAND_OP_PAD, pad, NULL, NULL, NULL)         \
    X(STRAND_OP_REPEAT, repeat, NULL, NULL, NULL)

#define CPU_RECURRENT(X)                                                          \
    X(STRAND_OP_GRU, gru, cpu_gru_scratch, cpu_gru_prepare_size, cpu_gru_prepare) \
    X(STRAND_OP_GRAPH_GRU, graph_gru, cpu_graph_gru_scratch, cpu_graph_gru_prepare_size, cpu_graph_gru_prepare)

#define CPU_CONVOLUTIONS(X)                                                                                     \
    X(STRAND_OP_CONV1D, conv1d, cpu_conv1d_scratch, NULL, NULL) \
    X(STRAND_OP_SHORT_CONV, short_conv, cpu_short_conv_scratch, NULL, NULL) \
    X(STRAND_OP_LONG_CONV, long_conv, cpu_long_conv_scratch, cpu_long_conv_prepare_size, cpu_long_conv_prepare) \
    X(STRAND_OP_FFT, fft, cpu_fft_scratch, NULL, NULL)                                                          \
    X(STRAND_OP_POSITIONS, positions, NULL, NULL, NULL)                                                         \
    X(STRAND_OP_DECAY_WINDOW, decay_window, NULL, NULL, NULL)

#define CPU_ATTENTION(X)                                              \
    X(STRAND_OP_ROTARY, rotary, cpu_rotary_scratch, NULL, NULL)          \
    X(STRAND_OP_ATTENTION, attention, cpu_attention_scratch, NULL, NULL) \
    X(STRAND_OP_CACHE_WRITE, cache_write, NULL, NULL, NULL)

#define CPU_SCANS(X)                                                                                    \
    X(STRAND_OP_SSM_DISCRETIZE, ssm_discretize, NULL, NULL, NULL)                                       \
    X(STRAND_OP_SSM_KERNEL_DIAGONAL, ssm_kernel_diagonal, cpu_ssm_kernel_diagonal_scratch, NULL, NULL)  \
    X(STRAND_OP_SSM_KERNEL_NPLR, ssm_kernel_nplr, cpu_ssm_kernel_nplr_scratch, NULL, NULL)              \
    X(STRAND_OP_SSM_KERNEL_COMPANION, ssm_kernel_companion, cpu_companion_scratch, NULL, NULL)          \
    X(STRAND_OP_LTI_SCAN, lti_scan, cpu_lti_scan_scratch, NULL, NULL)                                   \
    X(STRAND_OP_LINEAR_RECURRENCE, linear_recurrence, NULL, NULL, NULL)                                 \
    X(STRAND_OP_COMPANION_SCAN, companion_scan, cpu_companion_scratch, NULL, NULL)                      \
    X(STRAND_OP_SELECTIVE_SCAN, selective_scan, cpu_selective_scan_scratch, NULL, NULL)                 \
    X(STRAND_OP_DPLR_SCAN, dplr_scan, cpu_dplr_scan_scratch, NULL, NULL)                                \
    X(STRAND_OP_SSM_DISCRETIZE_NPLR, ssm_discretize_nplr, cpu_ssm_discretize_nplr_scratch, NULL, NULL)  \
    X(STRAND_OP_DENSE_SCAN, dense_scan, cpu_dense_scan_scratch, NULL, NULL)

#define CPU_MATRIX_STATE(X)                                                                                            \
    X(STRAND_OP_SSD, ssd, cpu_ssd_scratch, NULL, NULL)                                                                 \
    X(STRAND_OP_GATED_LINEAR_ATTENTION, gated_linear_attention, cpu_gated_linear_attention_scratch, NULL, NULL)        \
    X(STRAND_OP_DELTA_RULE, delta_rule, cpu_delta_rule_scratch, NULL, NULL)                                            \
    X(STRAND_OP_LINEAR_ATTENTION, linear_attention, cpu_linear_attention_scratch, NULL, NULL)                          \
    X(STRAND_OP_WKV4, wkv4, NULL, NULL, NULL)                                                                          \
    X(STRAND_OP_TOKEN_SHIFT, token_shift, NULL, NULL, NULL)

#define CPU_GRAPHS(X)                                                                                 \
    X(STRAND_OP_KNN_ADJACENCY, knn_adjacency, cpu_knn_adjacency_scratch, NULL, NULL)                 \
    X(STRAND_OP_SOFTMAX_ADJACENCY, softmax_adjacency, cpu_softmax_adjacency_scratch, NULL, NULL)     \
    X(STRAND_OP_PRUNE_ADJACENCY, prune_adjacency, NULL, NULL, NULL)                                  \
    X(STRAND_OP_GRAPH_SUPPORTS, graph_supports, cpu_graph_supports_scratch, NULL, NULL)              \
    X(STRAND_OP_DIFFUSION, diffusion, cpu_diffusion_scratch, NULL, NULL)                             \
    X(STRAND_OP_SPMM, spmm, NULL, NULL, NULL)                                                        \
    X(STRAND_OP_SEGMENT_REDUCE, segment_reduce, cpu_segment_reduce_scratch, NULL, NULL)              \
    X(STRAND_OP_GINE, gine, cpu_gine_scratch, NULL, NULL)

#define CPU_TABLE(X)  \
    CPU_PRODUCTS(X)     \
    CPU_ELEMENTWISE(X)  \
    CPU_SHAPES(X)       \
    CPU_RECURRENT(X)    \
    CPU_CONVOLUTIONS(X) \
    CPU_ATTENTION(X)    \
    CPU_SCANS(X)        \
    CPU_MATRIX_STATE(X) \
    CPU_GRAPHS(X)

#define CPU_DECLARE(id, name, scratch, size, make)                                          \
    bool cpu_supports_##name(const strand_plugin_node *node, char *why, size_t why_bytes); \
    CPU_KERNEL(cpu_##name);                                                                  \
    CPU_KERNEL(cpu_reference_##name);
CPU_TABLE(CPU_DECLARE)

uint64_t cpu_matmul_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_matmul_prepare_size(const strand_plugin_node *node);
CPU_KERNEL(cpu_matmul_prepare);
uint64_t cpu_conv1d_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_rotary_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_attention_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_ssm_kernel_diagonal_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_ssm_kernel_nplr_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_companion_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_dplr_scan_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_ssm_discretize_nplr_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_dense_scan_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_lti_scan_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_selective_scan_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_block_diagonal_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_grouped_matmul_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_top_k_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_gru_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_gru_prepare_size(const strand_plugin_node *node);
CPU_KERNEL(cpu_gru_prepare);
uint64_t cpu_graph_gru_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_graph_gru_prepare_size(const strand_plugin_node *node);
CPU_KERNEL(cpu_graph_gru_prepare);
uint64_t cpu_short_conv_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_long_conv_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_fft_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_long_conv_prepare_size(const strand_plugin_node *node);
CPU_KERNEL(cpu_long_conv_prepare);
uint64_t cpu_ssd_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_gated_linear_attention_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_delta_rule_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_linear_attention_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_knn_adjacency_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_softmax_adjacency_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_graph_supports_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_diffusion_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_segment_reduce_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_gine_scratch(const cpu_device *device, const strand_plugin_node *node);

#endif

/* kernels.h - the kernels that the table points to: the fast ones (one file a family) and the reference (reference.c). */
#ifndef STRAND_CPU_KERNELS_H
#define STRAND_CPU_KERNELS_H

#include "cpu.h"

#define CPU_KERNEL(name) strand_plugin_status name(const cpu_device *device, const strand_plugin_node *node, void *scratch)

CPU_KERNEL(cpu_gather);
CPU_KERNEL(cpu_matmul);
CPU_KERNEL(cpu_layer_norm);
CPU_KERNEL(cpu_unary);
CPU_KERNEL(cpu_binary);
CPU_KERNEL(cpu_short_conv);
CPU_KERNEL(cpu_long_conv);
CPU_KERNEL(cpu_reduce);
CPU_KERNEL(cpu_positions);
CPU_KERNEL(cpu_decay_window);
CPU_KERNEL(cpu_cast);

CPU_KERNEL(cpu_reference_gather);
CPU_KERNEL(cpu_reference_matmul);
CPU_KERNEL(cpu_reference_layer_norm);
CPU_KERNEL(cpu_reference_unary);
CPU_KERNEL(cpu_reference_binary);
CPU_KERNEL(cpu_reference_short_conv);
CPU_KERNEL(cpu_reference_long_conv);
CPU_KERNEL(cpu_reference_reduce);
CPU_KERNEL(cpu_reference_positions);
CPU_KERNEL(cpu_reference_decay_window);
CPU_KERNEL(cpu_reference_cast);

uint64_t cpu_matmul_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_long_conv_scratch(const cpu_device *device, const strand_plugin_node *node);
uint64_t cpu_long_conv_prepare_size(const strand_plugin_node *node);
CPU_KERNEL(cpu_long_conv_prepare);

#endif

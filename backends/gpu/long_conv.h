/* long_conv.h - what LONG_CONV's own forms share with the common one (ops_long_conv.c): its extents, and spectra of its
 * filters. */
#ifndef STRAND_GPU_LONG_CONV_H
#define STRAND_GPU_LONG_CONV_H

#include "gpu.h"

#define GPU_LONG_CONV_DIRECT 64 /* the longest sequence that is summed as it stands, where the filter is not prepared */

typedef struct gpu_long_conv_shape {
    int64_t batch, inner, channels, length, n; /* n: points of the transforms */
    int64_t taps, ahead, from; /* taps that are used, forward and backward; the first backward one looks `from` positions
                                  ahead */
} gpu_long_conv_shape;

gpu_long_conv_shape gpu_long_conv_of(const strand_plugin_node *node);
/* Do the filters depend on constants alone? */
bool gpu_long_conv_prepares(const strand_plugin_node *node);
/* The first element of a filter or skip (NULL: 0) under channel `channel` of the output. */
int64_t gpu_long_conv_lead(const strand_plugin_node *node, const strand_plugin_tensor *t, int64_t channel);
/* Spectra of `channels` channels from `first` on, n pairs each: in the order of the common kernels, or bit-reversed. */
strand_plugin_status gpu_long_conv_spectra(strand_plugin_device *device, const strand_plugin_node *node,
                                           const gpu_long_conv_shape *s, const strand_plugin_memory *m, uint64_t at,
                                           int64_t first, int64_t channels, bool common);

#endif

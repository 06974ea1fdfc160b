/* ops_chunks_forms.h - the operators in chunks, for those that walk few tokens. *done: whether there were enough tokens for
 * chunks. */
#ifndef STRAND_GPU_OPS_CHUNKS_FORMS_H
#define STRAND_GPU_OPS_CHUNKS_FORMS_H

#include "gpu.h"

strand_plugin_status gpu_gated_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, bool *done);
strand_plugin_status gpu_linear_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                          const strand_plugin_memory *scratch, bool *done);
strand_plugin_status gpu_delta_in_chunks(strand_plugin_device *device, const strand_plugin_node *node,
                                         const strand_plugin_memory *scratch, bool *done);
/* Spare memory of LINEAR_ATTENTION in chunks, 0 where it walks. */
uint64_t gpu_linear_chunks_scratch(const strand_plugin_node *node);

#endif

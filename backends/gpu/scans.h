/* scans.h - what the scans of the GPU plugins (ops_scans.c, ops_scans_parts.c) share: where inputs stand under a tile of
 * batch entries and channels. */
#ifndef STRAND_GPU_SCANS_H
#define STRAND_GPU_SCANS_H

#include "gpu.h"

/* Elements from an input's first to the one under the output's: axis `ia` of the input along `oa` of the output. */
static inline int32_t lead(const strand_plugin_tensor *in, uint32_t ia, const strand_plugin_tensor *y, uint32_t oa) {
    return in ? (int32_t)(cpu_lead(in, ia, y, oa) * in->strides[ia]) : 0;
}
static inline int32_t lead_sequence(const strand_plugin_tensor *in, const strand_plugin_tensor *y) {
    return lead(in, 0, y, 0) + lead(in, 2, y, 2);
}
static inline int32_t lead_state(const strand_plugin_tensor *in, const strand_plugin_tensor *y) {
    return lead(in, 0, y, 0) + lead(in, 1, y, 2);
}
/* [C, ...], or [1, ...] for all channels. */
static inline int32_t lead_channels(const strand_plugin_tensor *in, const strand_plugin_tensor *y, uint32_t oa) {
    return in && in->whole[0] != 1 ? lead(in, 0, y, oa) : 0;
}
static inline int64_t channel_stride(const strand_plugin_tensor *in) {
    return in && in->whole[0] != 1 ? in->strides[0] : 0;
}

static inline int64_t stride(const strand_plugin_tensor *t, uint32_t axis) {
    return t ? t->strides[axis] : 0;
}
static inline void push_strides(gpu_dispatch *d, const strand_plugin_tensor *t, uint32_t a, uint32_t b) {
    gpu_int(d, stride(t, a));
    gpu_int(d, stride(t, b));
}
static inline void push_vector(gpu_dispatch *d, const strand_plugin_tensor *t) {
    gpu_int(d, t != NULL);
    gpu_int(d, stride(t, 0));
}

#endif

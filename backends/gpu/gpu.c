/* gpu.c - puts dispatches together: bindings that begin where the device wants them to, the left-over offsets as parameters,
 * views as strides, and large ranges as two-dimensional dispatches. */
#include "gpu.h"

#include <string.h>

#define GPU_KERNEL(name, bindings, group) {#name, bindings, group},
const gpu_kernel_info gpu_kernels[GPU_N_KERNELS] = {
#include "gpu_kernels.inc"
};
#undef GPU_KERNEL

int64_t gpu_count(const strand_plugin_tensor *t) {
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

/* Bytes from the first element of a view to the end of its last. */
static uint64_t span_bytes(const strand_plugin_tensor *t) {
    int64_t last = 0;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (t->dims[i] < 1) return 0;
        last += (t->dims[i] - 1) * t->strides[i];
    }
    if (!cpu_is_quantised(t->dtype)) return (uint64_t)(last + 1) * (uint64_t)cpu_element_bytes(t->dtype);
    return (uint64_t)cpu_span(t->dtype, last + 1);
}

int64_t gpu_steps(const strand_plugin_tensor *t, int64_t elements) {
    return cpu_is_quantised(t->dtype) ? cpu_span(t->dtype, elements) : elements;
}

void gpu_begin(gpu_dispatch *d, gpu_kernel kernel) {
    memset(d, 0, sizeof *d);
    d->kernel = kernel;
}

static void bind(strand_plugin_device *device, gpu_dispatch *d, strand_plugin_buffer *buffer, uint64_t offset, uint64_t bytes,
                 uint32_t size) {
    uint64_t aligned = offset / device->limits.offset_alignment * device->limits.offset_alignment;
    uint64_t rest = offset - aligned;
    d->bindings[d->n_bindings++] = (gpu_binding){buffer, aligned, (bytes + rest + 3) / 4 * 4}; /* kernels read whole words */
    gpu_int(d, (int64_t)(rest / size));
}

void gpu_bind(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_tensor *t) {
    bind(device, d, t->memory.buffer, t->memory.offset, span_bytes(t),
         cpu_is_quantised(t->dtype) ? 1 : (uint32_t)cpu_element_bytes(t->dtype));
}

void gpu_bind_or(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_tensor *t,
                 const strand_plugin_tensor *stand_in) {
    gpu_bind(device, d, t ? t : stand_in);
}

void gpu_bind_memory(strand_plugin_device *device, gpu_dispatch *d, const strand_plugin_memory *m, uint64_t at, uint64_t bytes,
                     uint32_t size) {
    bind(device, d, m->buffer, m->offset + at, bytes, size);
}

void gpu_bind_fault(strand_plugin_device *device, gpu_dispatch *d) {
    d->bindings[d->n_bindings++] = (gpu_binding){driver_fault_buffer(device), 0, 16};
    gpu_int(d, 0);
}

void gpu_int(gpu_dispatch *d, int64_t value) {
    d->params[d->n_params++] = (int32_t)value;
}

void gpu_ints(gpu_dispatch *d, const int64_t *values, int count) {
    for (int i = 0; i < count; i++) gpu_int(d, values[i]);
}

void gpu_choose(gpu_dispatch *d, const int *parameters, int count) {
    for (int i = 0; i < count; i++)
        if (d->params[parameters[i]] % 4) {
            d->kernel = (gpu_kernel)(d->kernel + 1);
            return;
        }
}

void gpu_float(gpu_dispatch *d, float value) {
    memcpy(&d->params[d->n_params++], &value, sizeof value);
}

void gpu_dims(gpu_dispatch *d, const strand_plugin_tensor *out) {
    int64_t dims[STRAND_PLUGIN_RANK];
    cpu_extents(out, dims);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(d, dims[i]);
}

void gpu_place(gpu_dispatch *d, uint32_t binding, const strand_plugin_tensor *out, const strand_plugin_tensor *t,
               bool broadcast) {
    cpu_operand operand;
    int64_t first = 0;
    cpu_place(out, t, broadcast, &operand);
    for (uint32_t i = 0; i < t->rank && i < out->rank; i++) {
        uint32_t ia = t->rank - 1 - i, oa = out->rank - 1 - i;
        if (!(broadcast && t->dims[ia] == 1)) first += (out->origin[oa] - t->origin[ia]) * t->strides[ia];
    }
    d->params[binding] += (int32_t)gpu_steps(t, first);
    for (int i = 0; i < STRAND_PLUGIN_RANK; i++) gpu_int(d, operand.strides[i]);
}

strand_plugin_status gpu_groups(strand_plugin_device *device, gpu_dispatch *d, int64_t x, int64_t y, int64_t z) {
    const int64_t all[3] = {x, y, z},
                  most[3] = {device->limits.groups_x, device->limits.groups_y, cpu_min(device->limits.groups_y, 65535)};
    int64_t first[3] = {0, 0, 0};
    strand_plugin_status status = STRAND_PLUGIN_OK;
    if (x < 1 || y < 1 || z < 1) return STRAND_PLUGIN_OK;
    while (!status && first[2] < z) { /* x fastest */
        for (int i = 0; i < 3; i++) {
            d->groups[i] = (uint32_t)cpu_min(all[i] - first[i], most[i]);
            d->params[GPU_FIRST_GROUP + i] = (int32_t)first[i];
        }
        status = device->segment ? driver_segment_dispatch(device, device->segment, d) : driver_dispatch(device, d);
        first[0] += most[0];
        for (int i = 0; i < 2 && first[i] >= all[i]; i++) {
            first[i] = 0;
            first[i + 1] += most[i + 1];
        }
    }
    return status;
}

strand_plugin_status gpu_over(strand_plugin_device *device, gpu_dispatch *d, int64_t n) {
    int64_t groups = (n + gpu_kernels[d->kernel].group - 1) / gpu_kernels[d->kernel].group, most = device->limits.groups_x;
    int64_t y = (groups + most - 1) / most;
    if (groups < 1) return STRAND_PLUGIN_OK;
    return gpu_groups(device, d, (groups + y - 1) / y, y, 1);
}

strand_plugin_status gpu_rows(strand_plugin_device *device, gpu_dispatch *d, int64_t rows) {
    return gpu_over(device, d, rows * gpu_kernels[d->kernel].group);
}

bool gpu_fits(strand_plugin_device *device, const strand_plugin_node *node, char *why, size_t why_bytes) {
    uint32_t n = 1; /* perhaps the fault words; parameters are not counted by the limit */
    for (uint32_t i = 0; i < node->n_inputs + node->n_outputs; i++) {
        const strand_plugin_tensor *t = i < node->n_inputs ? cpu_input(node, i) : &node->outputs[i - node->n_inputs];
        if (!t) continue;
        uint64_t bytes = span_bytes(t);
        n++;
        if (device->limits.buffer_bytes && bytes > device->limits.buffer_bytes)
            return cpu_no(why, why_bytes, "a tensor of %.0f MiB is larger than the %.0f MiB that the device gives in one piece",
                          (double)bytes / 1048576, (double)device->limits.buffer_bytes / 1048576);
        if (bytes > device->limits.binding_bytes - device->limits.offset_alignment)
            return cpu_no(why, why_bytes, "a tensor of %.0f MiB is larger than the %.0f MiB that a kernel sees here",
                          (double)bytes / 1048576, (double)device->limits.binding_bytes / 1048576);
        uint64_t elements = bytes / (uint64_t)cpu_block_bytes(t->dtype) * (uint64_t)cpu_block_elements(t->dtype);
        if (elements >= (uint64_t)1 << 31 || (cpu_is_quantised(t->dtype) && bytes >= (uint64_t)1 << 31))
            return cpu_no(why, why_bytes, "a tensor has 2^31 elements or more");
    }
    if (n > device->limits.bindings)
        return cpu_no(why, why_bytes, "a kernel sees %u buffers here, %u are needed", device->limits.bindings, n);
    return true;
}

/* dense_scan.c - DENSE_SCAN: linear systems with a full matrix. A token is a product of the matrix and the state: CPU_LANES
 * rows at a time, lanes along the rows, summed over the lanes by one tree of exchanges. A sequence and a channel are a piece
 * of work. */
#include "kernels.h"
#include "scans.h"

typedef struct job {
    const float *a, *b, *u, *state;
    float *h, *last, *scratch;
    int64_t a_kernel, a_row, b_kernel, u_batch, u_time, state_batch, state_channel, h_batch, h_time, last_batch, last_channel;
    int64_t length, channels, a_kernel_of, d, padded;
} job;

/* to = A from (+ b u), both padded with zeros; rows of `a` are `stride` apart. */
static void product(const job *j, const float *a, const float *b, float u, const float *from, float *to) {
    for (int64_t row = 0; row < j->d; row += CPU_LANES) {
        int64_t n = cpu_min(CPU_LANES, j->d - row);
        vf sums[CPU_LANES];
        for (int i = 0; i < CPU_LANES; i++) sums[i] = vf_zero();
        for (int64_t k = 0; k < j->d; k += CPU_LANES) {
            int64_t m = cpu_min(CPU_LANES, j->d - k);
            vf x = vf_load(from + k);
            for (int64_t i = 0; i < n; i++) sums[i] = vf_fma(scan_load(a + (row + i) * j->a_row + k, m), x, sums[i]);
        }
        vf y = vf_sums_of_rows(sums);
        if (b) y = vf_fma(scan_load(b + row, n), vf_set(u), y);
        vf_store(to + row, y);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t batch = i / j->channels, c = i % j->channels, kernel = c / j->a_kernel_of;
    float *from = j->scratch + worker * 2 * j->padded, *to = from + j->padded, *h = j->h + batch * j->h_batch + c * j->d;
    const float *a = j->a + kernel * j->a_kernel, *b = j->b ? j->b + kernel * j->b_kernel : NULL,
                *u = j->u ? j->u + batch * j->u_batch + c : NULL;
    memset(from, 0, (size_t)(2 * j->padded) * sizeof *from);
    if (j->state) memcpy(from, j->state + batch * j->state_batch + c * j->state_channel, (size_t)j->d * sizeof *from);
    for (int64_t t = 0; t < j->length; t++) {
        if (!u) memcpy(h + t * j->h_time, from, (size_t)j->d * sizeof *h);
        product(j, a, b, u ? u[t * j->u_time] : 0, from, to);
        if (u) memcpy(h + t * j->h_time, to, (size_t)j->d * sizeof *h);
        float *swap = from;
        from = to;
        to = swap;
    }
    if (j->last) memcpy(j->last + batch * j->last_batch + c * j->last_channel, from, (size_t)j->d * sizeof *from);
}

static int64_t padded(int64_t d) {
    return (d + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

uint64_t cpu_dense_scan_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * 2 * (uint64_t)padded(node->inputs[0].dims[1]) * sizeof(float);
}

CPU_KERNEL(cpu_dense_scan) {
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0], *b = cpu_input(node, 1),
                               *u = cpu_input(node, 2), *state = cpu_input(node, 3);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.a = cpu_f32(a), .a_kernel = a->strides[0], .a_row = a->strides[1], .d = a->dims[1], .scratch = scratch,
             .length = out->dims[1]};
    j.channels = out->dims[2] / j.d, j.a_kernel_of = j.channels / a->dims[0], j.padded = padded(j.d);
    j.h = cpu_f32(out), j.h_batch = out->strides[0], j.h_time = out->strides[1];
    if (b) j.b = cpu_f32(b), j.b_kernel = b->strides[0];
    if (u)
        j.u = scan_at(u, out, 2, (const uint32_t[]){0, 1}, (const uint32_t[]){0, 1}), j.u_batch = u->strides[0],
        j.u_time = u->strides[1];
    if (state)
        j.state = scan_at(state, out, 1, (const uint32_t[]){0}, (const uint32_t[]){0}), j.state_batch = state->strides[0],
        j.state_channel = state->strides[1];
    if (last) j.last = cpu_f32(last), j.last_batch = last->strides[0], j.last_channel = last->strides[1];
    cpu_parallel(device, out->dims[0] * j.channels, body, &j);
    return STRAND_PLUGIN_OK;
}

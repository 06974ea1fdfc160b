/* short_conv.c - SHORT_CONV: a few causal taps per channel, y[t] = bias + sum_i weight[i] x[t - (K-1) + i].
 *
 * Taps are summed in order of i. Before position 0 of the sequence there are zeros, which are multiplied like everything else;
 * before the tile there is the view's own history. So an element's bytes do not depend on where a tile began. */
#include "kernels.h"
#include "simd.h"

typedef struct job {
    cpu_operand out, x;
    int64_t dims[STRAND_PLUGIN_RANK], begin; /* begin: the tile's first position in the sequence */
    cpu_pieces pieces;
    const float *weight, *bias;
    int64_t weight_stride, bias_stride, taps;
} job;

/* x[at .. at + CPU_LANES) where only [low, high) may be read; zeros elsewhere. */
static vf load_inside(const float *x, int64_t at, int64_t low, int64_t high) {
    float lanes[CPU_LANES] = {0};
    for (int64_t i = cpu_max(0, low - at); i < CPU_LANES && at + i < high; i++) lanes[i] = x[at + i];
    return vf_load(lanes);
}

/* y[from, to) of one row; x[i] and y[i] stand at the same position, x may be read from `low`. */
CPU_INLINE void row(float *y, const float *x, const float *w, float bias, int64_t taps, int64_t from, int64_t to, int64_t low) {
    int64_t t = from;
    while (t < to) {
        vf sum = vf_set(bias);
        int64_t at = t - (taps - 1);
        if (at >= low && t + CPU_LANES <= to) {
            for (int64_t i = 0; i < taps; i++) sum = vf_fma(vf_set(w[i]), vf_load(x + at + i), sum);
            vf_store(y + t, sum);
        } else {
            for (int64_t i = 0; i < taps; i++) sum = vf_fma(vf_set(w[i]), load_inside(x, at + i, low, to), sum);
            vf_store_part(y + t, sum, cpu_min(CPU_LANES, to - t));
        }
        t += CPU_LANES;
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t r, end, column, width;
    (void)worker;
    cpu_piece(&j->pieces, i, &r, &end, &column, &width);
    for (; r < end; r++) {
        int64_t c = r % j->dims[2];
        float *y = (float *)(void *)cpu_row(&j->out, j->dims, r);
        const float *x = (const float *)(const void *)cpu_row(&j->x, j->dims, r), *w = j->weight + c * j->weight_stride;
        float bias = j->bias ? j->bias[c * j->bias_stride] : 0;
        if (j->taps == 3)
            row(y, x, w, bias, 3, column, column + width, -j->begin);
        else if (j->taps == 4)
            row(y, x, w, bias, 4, column, column + width, -j->begin);
        else
            row(y, x, w, bias, j->taps, column, column + width, -j->begin);
    }
}

CPU_KERNEL(cpu_short_conv) {
    const strand_plugin_tensor *w = &node->inputs[1], *bias = cpu_input(node, 2), *out = &node->outputs[0];
    uint32_t channels = out->rank - 2;
    job j = {.begin = out->origin[out->rank - 1], .weight_stride = w->strides[0], .taps = w->dims[1]};
    (void)scratch;
    j.weight = cpu_f32(w) + cpu_lead(w, 0, out, channels) * w->strides[0];
    if (bias) {
        j.bias_stride = bias->strides[0];
        j.bias = cpu_f32(bias) + cpu_lead(bias, 0, out, channels) * bias->strides[0];
    }
    cpu_extents(out, j.dims);
    cpu_place(out, out, false, &j.out);
    cpu_place(out, &node->inputs[0], false, &j.x);
    j.pieces = cpu_cut(j.dims);
    cpu_parallel(device, j.pieces.count, body, &j);
    return STRAND_PLUGIN_OK;
}

/* wkv4.c - WKV4: RWKV-4's average over the past with weights e^k that fade. Channels lie along the lanes; a block of them keeps its
 * three numbers in registers over the whole sequence. Numerator and denominator are carried relative to e^p with p the largest
 * exponent so far. Of the two exponentials of each step one is e^0, so one of e^-|difference| does for both. */
#include "matrix_state.h"
#include "vecmath.h"

typedef struct job {
    ms_tokens k, v, w, u, y;
    float *in, *out; /* states [B, 3, C] */
    int64_t in_batch, in_row, out_batch, out_row;
    int64_t length, begin, end, blocks, width; /* channels [begin, end) of the whole; width: of a piece */
} job;

/* Weights e^(x - max(x, y)), e^(y - max(x, y)). */
CPU_INLINE vf weights(vf x, vf y, vf *of_x, vf *of_y) {
    vi first = x > y;
    vf less = vf_exp(vf_select(first, y - x, x - y)), one = vf_set(1.0f);
    *of_x = vf_select(first, one, less);
    *of_y = vf_select(first, less, one);
    return vf_select(first, x, y);
}

CPU_INLINE void token(const float *k_at, const float *v_at, float *y_at, int64_t n, vf w, vf u, vf *aa, vf *bb, vf *p) {
    vf k = ms_load(k_at, n), v = ms_load(v_at, n), old, new;
    weights(*p, u + k, &old, &new);
    ms_store(y_at, vf_fma(new, v, old * *aa) / vf_fma(old, *bb, new), n);
    *p = weights(*p + w, k, &old, &new);
    *aa = vf_fma(new, v, old * *aa);
    *bb = vf_fma(old, *bb, new);
}

/* Two vectors of channels side by side hide each other's latency. */
static void channels(const job *j, int64_t b, int64_t c, int64_t n) {
    vf w[2], u[2], aa[2], bb[2], p[2];
    for (int e = 0; e < 2; e++) {
        int64_t at = c + e * CPU_LANES, left = n - e * CPU_LANES;
        w[e] = u[e] = aa[e] = bb[e] = vf_zero();
        p[e] = vf_set(-1e30f);
        if (left <= 0) continue;
        w[e] = ms_load(ms_at(&j->w, 0, 0, at), left);
        u[e] = ms_load(ms_at(&j->u, 0, 0, at), left);
        if (!j->in) continue;
        const float *s = j->in + b * j->in_batch + (at - j->begin);
        aa[e] = ms_load(s, left), bb[e] = ms_load(s + j->in_row, left), p[e] = ms_load(s + 2 * j->in_row, left);
    }
    for (int64_t t = 0; t < j->length; t++) {
        const float *k = ms_at(&j->k, b, t, c), *v = ms_at(&j->v, b, t, c);
        float *y = ms_at(&j->y, b, t, c);
        token(k, v, y, n, w[0], u[0], &aa[0], &bb[0], &p[0]);
        if (n > CPU_LANES) token(k + CPU_LANES, v + CPU_LANES, y + CPU_LANES, n - CPU_LANES, w[1], u[1], &aa[1], &bb[1], &p[1]);
    }
    for (int e = 0; e < 2 && j->out; e++) {
        float *s = j->out + b * j->out_batch + (c + e * CPU_LANES - j->begin);
        int64_t left = n - e * CPU_LANES;
        ms_store(s, aa[e], left), ms_store(s + j->out_row, bb[e], left), ms_store(s + 2 * j->out_row, p[e], left);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t b = i / j->blocks, first = j->begin + i % j->blocks * j->width, last = cpu_min(first + j->width, j->end);
    (void)worker;
    for (int64_t c = first; c < last; c += 2 * CPU_LANES) channels(j, b, c, cpu_min(2 * CPU_LANES, last - c));
}

CPU_KERNEL(cpu_wkv4) {
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 4), *second = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.length = out->dims[1], .begin = out->origin[2], .end = out->origin[2] + out->dims[2]};
    (void)scratch;
    j.k = ms_view(node, cpu_input(node, 0));
    j.v = ms_view(node, cpu_input(node, 1));
    j.w = ms_view(node, cpu_input(node, 2));
    j.u = ms_view(node, cpu_input(node, 3));
    j.y = ms_view(node, out);
    if (state) {
        j.in = cpu_f32(state) + (out->origin[0] - state->origin[0]) * state->strides[0] + (out->origin[2] - state->origin[2]) * state->strides[2];
        j.in_batch = state->strides[0], j.in_row = state->strides[1];
    }
    if (second) j.out = cpu_f32(second), j.out_batch = second->strides[0], j.out_row = second->strides[1];
    j.width = cpu_max(2 * CPU_LANES, 32768 / (cpu_max(j.length, 1) * 2 * CPU_LANES) * 2 * CPU_LANES);
    j.blocks = (j.end - j.begin + j.width - 1) / j.width;
    cpu_parallel(device, out->dims[0] * j.blocks, body, &j);
    return STRAND_PLUGIN_OK;
}

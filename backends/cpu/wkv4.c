/* wkv4.c - WKV4: RWKV-4's average over the past with weights e^k that fade. Channels lie along the lanes; a block of them
 * keeps its three numbers in registers over the whole sequence. Numerator and denominator are carried relative to e^p with p
 * the largest exponent so far. Of the two exponentials of each step one is e^0, so one of e^-|difference| does for both. */
#include "matrix_state.h"
#include "vecmath.h"

#define AHEAD 8 /* tokens whose rows are asked for before they are used */

typedef struct job {
    ms_tokens k, v, w, u, y;
    float *in, *out; /* states [B, 3, C] */
    int64_t in_batch, in_row, out_batch, out_row;
    int64_t length, begin, end, blocks, width; /* channels [begin, end) of the whole; width: of a piece */
} job;

/* Lanes for which something holds; AVX-512 has registers for them. */
#if CPU_LANES == 16
typedef __mmask16 lanes;
CPU_INLINE lanes above(vf x, vf y) {
    return _mm512_cmp_ps_mask((__m512)x, (__m512)y, _CMP_GT_OQ);
}
CPU_INLINE vf pick(lanes m, vf yes, vf no) {
    return (vf)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes);
}
#else
typedef vi lanes;
CPU_INLINE lanes above(vf x, vf y) {
    return x > y;
}
CPU_INLINE vf pick(lanes m, vf yes, vf no) {
    return vf_select(m, yes, no);
}
#endif

/* e^x for x <= 0; what is below e^-87 is e^-87, a weight that no sum notices. NaN stays. */
CPU_INLINE vf exp_down(vf x) {
    x = pick(above(vf_set(-87.0f), x), vf_set(-87.0f), x);
    vf t = vf_fma(x, vf_set(0x1.715476p0f), vf_set(CPU_ROUNDER)), whole = t - CPU_ROUNDER;
    vf r = vf_fnma(whole, vf_set(0x1.0bfbe8p-15f), vf_fnma(whole, vf_set(0x1.62ep-1f), x));
    vf p = vf_fma(r, vf_set(0.001392692677f), vf_set(0.008363774046f));
    p = vf_fma(p, r, vf_set(0.0416665487f));
    p = vf_fma(p, r, vf_set(0.1666657329f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p * r, r, r) + 1.0f;
    return p * (vf)(((vu)t << 23) + (127u << 23)); /* the rounder's own bits leave at the top */
}

/* Weights of two terms whose exponents are `apart`: e^0 for the larger, e^-|apart| for the other. Is the first the larger? */
CPU_INLINE lanes weights(vf apart, vf *of_first, vf *of_second) {
    vf less = exp_down((vf)((vi)apart | (int32_t)0x80000000u)), one = vf_set(1.0f);
    lanes first = above(apart, vf_zero());
    *of_first = pick(first, one, less);
    *of_second = pick(first, less, one);
    return first;
}

/* What a vector of channels carries: sums relative to e^(p + rest), rest being what rounding p + w again and again has left. */
typedef struct carried {
    vf aa, bb, p, rest;
} carried;

CPU_INLINE void token(const float *k_at, const float *v_at, float *y_at, int64_t n, vf w, vf u, carried *s) {
    vf k = ms_load(k_at, n), v = ms_load(v_at, n), old, new;
    weights((s->p - (u + k)) + s->rest, &old, &new);
    ms_store(y_at, vf_fma(new, v, old * s->aa) / vf_fma(old, s->bb, new), n);
    vf later = s->p + w, rest = s->rest + (w - (later - s->p));
    lanes first = weights((later - k) + rest, &old, &new);
    s->p = pick(first, later, k);
    s->rest = pick(first, rest, vf_zero());
    s->aa = vf_fma(new, v, old * s->aa);
    s->bb = vf_fma(old, s->bb, new);
}

/* Two vectors of channels side by side hide each other's latency. */
static void channels(const job *j, int64_t b, int64_t c, int64_t n) {
    vf w[2], u[2];
    carried s[2];
    for (int e = 0; e < 2; e++) {
        int64_t at = c + e * CPU_LANES, left = n - e * CPU_LANES;
        w[e] = u[e] = vf_zero();
        s[e] = (carried){.p = vf_set(-1e30f)};
        if (left <= 0) continue;
        w[e] = ms_load(ms_at(&j->w, 0, 0, at), left);
        u[e] = ms_load(ms_at(&j->u, 0, 0, at), left);
        if (!j->in) continue;
        const float *in = j->in + b * j->in_batch + (at - j->begin);
        s[e] = (carried){ms_load(in, left), ms_load(in + j->in_row, left), ms_load(in + 2 * j->in_row, left), vf_zero()};
    }
    for (int64_t t = 0; t < j->length; t++) {
        const float *k = ms_at(&j->k, b, t, c), *v = ms_at(&j->v, b, t, c);
        float *y = ms_at(&j->y, b, t, c);
        ms_ahead(&j->k, b, t + AHEAD, 1, j->length, c, n);
        ms_ahead(&j->v, b, t + AHEAD, 1, j->length, c, n);
        ms_ahead(&j->y, b, t + AHEAD, 1, j->length, c, n);
        token(k, v, y, n, w[0], u[0], &s[0]);
        if (n > CPU_LANES) token(k + CPU_LANES, v + CPU_LANES, y + CPU_LANES, n - CPU_LANES, w[1], u[1], &s[1]);
    }
    for (int e = 0; e < 2 && j->out; e++) {
        int64_t left = n - e * CPU_LANES;
        if (left <= 0) continue;
        float *out = j->out + b * j->out_batch + (c + e * CPU_LANES - j->begin);
        vf p = s[e].p + s[e].rest, scale = (s[e].rest - (p - s[e].p)) + 1.0f; /* e to what p leaves out */
        ms_store(out, s[e].aa * scale, left), ms_store(out + j->out_row, s[e].bb * scale, left),
            ms_store(out + 2 * j->out_row, p, left);
    }
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t b = i / j->blocks, first = j->begin + i % j->blocks * j->width, last = cpu_min(first + j->width, j->end);
    (void)worker;
    for (int64_t c = first; c < last; c += 2 * CPU_LANES) channels(j, b, c, cpu_min(2 * CPU_LANES, last - c));
}

CPU_KERNEL(cpu_wkv4) {
    const strand_plugin_tensor *out = &node->outputs[0], *state = cpu_input(node, 4),
                               *second = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    job j = {.length = out->dims[1], .begin = out->origin[2], .end = out->origin[2] + out->dims[2]};
    (void)scratch;
    j.k = ms_view(node, cpu_input(node, 0));
    j.v = ms_view(node, cpu_input(node, 1));
    j.w = ms_view(node, cpu_input(node, 2));
    j.u = ms_view(node, cpu_input(node, 3));
    j.y = ms_view(node, out);
    if (state) {
        j.in = cpu_f32(state) + (out->origin[0] - state->origin[0]) * state->strides[0] +
               (out->origin[2] - state->origin[2]) * state->strides[2];
        j.in_batch = state->strides[0], j.in_row = state->strides[1];
    }
    if (second) j.out = cpu_f32(second), j.out_batch = second->strides[0], j.out_row = second->strides[1];
    j.width = cpu_max(2 * CPU_LANES, 32768 / (cpu_max(j.length, 1) * 2 * CPU_LANES) * 2 * CPU_LANES);
    j.blocks = (j.end - j.begin + j.width - 1) / j.width;
    cpu_parallel(device, out->dims[0] * j.blocks, body, &j);
    return STRAND_PLUGIN_OK;
}

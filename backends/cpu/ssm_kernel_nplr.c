/* ssm_kernel_nplr.c - SSM_KERNEL_NPLR: the filter of a diagonal-minus-rank-one system by its values on the unit circle.
 *
 * Each value takes four sums over the poles, 1/(z - a) of a pole and of its conjugate together being (alpha + i beta y) /
 * (|a|^2 - y^2 - 2 i re(a) y) on z = i y: one reciprocal serves all four. Lanes are frequencies. The sums cancel where poles
 * lie close to the circle and the transform of `length` values adds its error to small taps, so both run in double
 * precision; a filter is made once. */
#include "kernels.h"
#include "scans.h"

#include <math.h>

#define PI      3.14159265358979323846
#define DOUBLES (CPU_LANES / 2)
#define SUMS    4  /* r(B, C), r(B, P*), r(P, C), r(P, P*) */
#define POLE    10 /* doubles of a pole: |a|^2, 2 re(a), and alpha, beta of each sum */

typedef struct complex_number {
    double re, im;
} cn;

static cn product(cn a, cn b) {
    return (cn){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
static cn quotient(cn a, cn b) {
    double n = b.re * b.re + b.im * b.im;
    return (cn){(a.re * b.re + a.im * b.im) / n, (a.im * b.re - a.re * b.im) / n};
}

CPU_INLINE vd vd_fma(vd a, vd b, vd c) {
#if CPU_LANES == 16
    return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif CPU_LANES == 8
    return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
    return a * b + c;
#endif
}

/* ---- the inverse transform ---- */

/* Complex transforms of `size` points: of a power of two directly, of another size as a convolution with a chirp, through
 * `padded`. */
typedef struct transform {
    int64_t length, size, padded; /* size: half the length where that is even */
    double *turn_re, *turn_im;    /* [padded / 2] e^(2 pi i k / padded) */
    double *chirp_re, *chirp_im;  /* [size] e^(i pi k^2 / size) */
    double *answer_re, *answer_im; /* [padded] the transform of the conjugate chirp, wrapped around, over padded */
} transform;

static bool is_power_of_two(int64_t n) {
    return (n & (n - 1)) == 0;
}

static void sizes_of(transform *t, int64_t length) {
    t->length = length;
    t->size = length % 2 ? length : length / 2;
    t->padded = t->size;
    if (is_power_of_two(t->size)) return;
    for (t->padded = 1; t->padded < 2 * t->size - 1;) t->padded *= 2;
}

/* Sum of x[k] e^(2 pi i j k / n) for every j, by halving; the result is in x or, after an odd number of halvings, in y. */
static void transform_power(const transform *t, double *x_re, double *x_im, double *y_re, double *y_im) {
    int64_t n = t->padded, stride = 1;
    bool swapped = false;
    for (; n > 1; n /= 2, stride *= 2, swapped = !swapped) {
        const double *in_re = swapped ? y_re : x_re, *in_im = swapped ? y_im : x_im;
        double *to_re = swapped ? x_re : y_re, *to_im = swapped ? x_im : y_im;
        for (int64_t p = 0; p < n / 2; p++) {
            double w_re = t->turn_re[p * stride], w_im = t->turn_im[p * stride];
            const double *a_re = in_re + stride * p, *a_im = in_im + stride * p, *b_re = a_re + stride * (n / 2),
                         *b_im = a_im + stride * (n / 2);
            double *c_re = to_re + stride * 2 * p, *c_im = to_im + stride * 2 * p;
            for (int64_t q = 0; q < stride; q++) {
                double re = a_re[q] - b_re[q], im = a_im[q] - b_im[q];
                c_re[q] = a_re[q] + b_re[q];
                c_im[q] = a_im[q] + b_im[q];
                c_re[q + stride] = re * w_re - im * w_im;
                c_im[q + stride] = re * w_im + im * w_re;
            }
        }
    }
    if (!swapped) return;
    memcpy(x_re, y_re, (size_t)t->padded * sizeof *x_re);
    memcpy(x_im, y_im, (size_t)t->padded * sizeof *x_im);
}

/* In place on x [padded], of which `size` points count; y is working memory. */
static void transform_any(const transform *t, double *x_re, double *x_im, double *y_re, double *y_im) {
    if (t->padded == t->size) {
        transform_power(t, x_re, x_im, y_re, y_im);
        return;
    }
    for (int64_t k = 0; k < t->padded; k++) {
        cn v = {0, 0};
        if (k < t->size) v = product((cn){x_re[k], x_im[k]}, (cn){t->chirp_re[k], t->chirp_im[k]});
        x_re[k] = v.re, x_im[k] = v.im;
    }
    transform_power(t, x_re, x_im, y_re, y_im);
    for (int64_t k = 0; k < t->padded; k++) {
        cn v = product((cn){x_re[k], x_im[k]}, (cn){t->answer_re[k], t->answer_im[k]});
        x_re[k] = v.re, x_im[k] = v.im;
    }
    transform_power(t, x_im, x_re, y_re, y_im); /* parts exchanged: the inverse */
    for (int64_t k = 0; k < t->size; k++) {
        cn v = product((cn){x_re[k], x_im[k]}, (cn){t->chirp_re[k], t->chirp_im[k]});
        x_re[k] = v.re, x_im[k] = v.im;
    }
}

/* Tables; y is working memory of 2 padded. */
static void make_transform(const transform *t, double *y) {
    for (int64_t k = 0; k < t->padded / 2; k++) {
        t->turn_re[k] = cos(2 * PI * (double)k / (double)t->padded);
        t->turn_im[k] = sin(2 * PI * (double)k / (double)t->padded);
    }
    if (t->padded == t->size) return;
    for (int64_t k = 0; k < t->padded; k++) t->answer_re[k] = t->answer_im[k] = 0;
    for (int64_t k = 0; k < t->size; k++) {
        double angle = PI * (double)(k * k % (2 * t->size)) / (double)t->size;
        t->chirp_re[k] = cos(angle), t->chirp_im[k] = sin(angle);
        int64_t wrapped = k ? t->padded - k : 0;
        t->answer_re[k] = t->answer_re[wrapped] = cos(angle) / (double)t->padded;
        t->answer_im[k] = t->answer_im[wrapped] = -sin(angle) / (double)t->padded;
    }
    transform_power(t, t->answer_re, t->answer_im, y, y + t->padded);
}

/* length times the real signal whose values at the frequencies 0 .. length / 2 are s; it comes out in x: of an even length
 * element 2 j is x_re[j] and 2 j + 1 is x_im[j], of an odd one element j is x_re[j]. */
static void inverse_real(const transform *t, const double *s_re, const double *s_im, double *x_re, double *x_im, double *y) {
    int64_t n = t->length, h = t->size;
    if (n % 2) {
        for (int64_t k = 0; k < n; k++) {
            int64_t from = k <= n / 2 ? k : n - k;
            x_re[k] = s_re[from];
            x_im[k] = k == 0 ? 0 : k <= n / 2 ? s_im[from] : -s_im[from];
        }
    } else {
        for (int64_t k = 0; k < h; k++) {
            cn a = {s_re[k], k ? s_im[k] : 0}, b = {s_re[h - k], k ? -s_im[h - k] : 0};
            double angle = 2 * PI * (double)k / (double)n;
            cn odd = product((cn){a.re - b.re, a.im - b.im}, (cn){cos(angle), sin(angle)});
            x_re[k] = a.re + b.re - odd.im;
            x_im[k] = a.im + b.im + odd.re;
        }
    }
    transform_any(t, x_re, x_im, y, y + t->padded);
}

/* ---- the values on the circle ---- */

typedef struct operand {
    const float *at;
    int64_t channel, state;
} operand;

typedef struct job {
    operand a, p, b, c;
    const float *dt;
    float *out;
    int64_t out_channel, taps, states;
    transform t;
    double *heights; /* y of each frequency, rounded up to whole vectors */
    int64_t bins, room;
    double *mine; /* what a worker has: poles, spectrum, x, y */
    int64_t mine_size;
} job;

static cn at(const operand *o, int64_t channel, int64_t n) {
    const float *p = o->at + channel * o->channel + n * o->state;
    return (cn){(double)p[0], (double)p[1]};
}

/* The constants of the poles, times dt where a sum wants it. Returns the limit at w = -1. */
static double prepare_poles(const job *j, int64_t channel, double *poles) {
    double dt = (double)j->dt[channel], limit = 0;
    for (int64_t n = 0; n < j->states; n++, poles += POLE) {
        cn a = at(&j->a, channel, n), p = at(&j->p, channel, n), b = at(&j->b, channel, n), c = at(&j->c, channel, n),
           p_conj = {p.re, -p.im};
        cn v[SUMS] = {product(b, c), product(b, p_conj), product(p, c), product(p, p_conj)};
        a.re *= dt, a.im *= dt;
        limit += dt * v[0].re;
        poles[0] = a.re * a.re + a.im * a.im;
        poles[1] = 2 * a.re;
        for (int s = 0; s < SUMS; s++) {
            poles[2 + 2 * s] = -2 * dt * (v[s].re * a.re + v[s].im * a.im);
            poles[3 + 2 * s] = 2 * dt * v[s].re;
        }
    }
    return limit;
}

/* The four sums at DOUBLES frequencies. */
static void sums_at(const double *poles, int64_t states, vd y, vd re[SUMS], vd im[SUMS]) {
    vd alpha_re[SUMS] = {{0}}, alpha_im[SUMS] = {{0}}, beta_re[SUMS] = {{0}}, beta_im[SUMS] = {{0}}, square = y * y;
    for (int64_t n = 0; n < states; n++, poles += POLE) {
        vd d_re = poles[0] - square, d_im = poles[1] * y; /* the conjugate of the denominator is d_re + i d_im */
        vd scale = 1.0 / vd_fma(d_re, d_re, d_im * d_im);
        vd g_re = d_re * scale, g_im = d_im * scale;
#pragma GCC unroll 4
        for (int s = 0; s < SUMS; s++) {
            vd alpha = vd_set(poles[2 + 2 * s]), beta = vd_set(poles[3 + 2 * s]);
            alpha_re[s] = vd_fma(alpha, g_re, alpha_re[s]);
            alpha_im[s] = vd_fma(alpha, g_im, alpha_im[s]);
            beta_re[s] = vd_fma(beta, g_re, beta_re[s]);
            beta_im[s] = vd_fma(beta, g_im, beta_im[s]);
        }
    }
    for (int s = 0; s < SUMS; s++) {
        re[s] = alpha_re[s] - y * beta_im[s];
        im[s] = alpha_im[s] + y * beta_re[s];
    }
}

static void make_spectrum(const job *j, int64_t channel, double *poles, double *s_re, double *s_im) {
    double limit = prepare_poles(j, channel, poles);
    for (int64_t k = 0; k < j->bins; k += DOUBLES) {
        vd y, re[SUMS], im[SUMS];
        memcpy(&y, j->heights + k, sizeof y);
        sums_at(poles, j->states, y, re, im);
        for (int i = 0; i < DOUBLES && k + i < j->bins; i++) {
            cn inner = quotient(product((cn){re[1][i], im[1][i]}, (cn){re[2][i], im[2][i]}), (cn){1 + re[3][i], im[3][i]});
            cn v = product((cn){re[0][i] - inner.re, im[0][i] - inner.im}, (cn){1, y[i] / 2}); /* 2 / (1 + w) = 1 + i y / 2 */
            s_re[k + i] = v.re, s_im[k + i] = v.im;
        }
    }
    if (j->t.length % 2 == 0) s_re[j->bins - 1] = limit, s_im[j->bins - 1] = 0;
}

static void body(void *arg, int64_t channel, int32_t worker) {
    const job *j = arg;
    int64_t padded = j->t.padded;
    double *poles = j->mine + (int64_t)worker * j->mine_size, *s_re = poles + j->states * POLE, *s_im = s_re + j->room;
    double *x_re = s_im + j->room, *x_im = x_re + padded, *y = x_im + padded;
    make_spectrum(j, channel, poles, s_re, s_im);
    inverse_real(&j->t, s_re, s_im, x_re, x_im, y);
    float *to = j->out + channel * j->out_channel;
    double scale = 1 / (double)j->t.length;
    for (int64_t i = 0; i < j->taps; i++) {
        double v = j->t.length % 2 ? x_re[i] : i % 2 ? x_im[i / 2] : x_re[i / 2];
        to[i] = (float)(scale * v);
    }
}

/* ---- the launch ---- */

static int64_t shared_size(const transform *t, int64_t room) {
    return room + t->padded + (t->padded == t->size ? 0 : 2 * t->size + 2 * t->padded) + 8;
}
static int64_t worker_size(const transform *t, int64_t room, int64_t states) {
    return (states * POLE + 2 * room + 4 * t->padded + 7) / 8 * 8;
}
static int64_t room_of(int64_t length) {
    return (length / 2 + 1 + 7) / 8 * 8;
}

uint64_t cpu_ssm_kernel_nplr_scratch(const cpu_device *device, const strand_plugin_node *node) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    transform t;
    sizes_of(&t, p->length);
    int64_t room = room_of(p->length);
    return (uint64_t)(shared_size(&t, room) + (int64_t)cpu_workers(device) * worker_size(&t, room, node->inputs[3].dims[1])) *
           sizeof(double);
}

static operand operand_of(const strand_plugin_node *node, uint32_t i) {
    const strand_plugin_tensor *in = &node->inputs[i];
    return (operand){scan_channels(in, &node->outputs[0], 0), scan_channel_stride(in), in->strides[1]};
}

CPU_KERNEL(cpu_ssm_kernel_nplr) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.a = operand_of(node, 0), .p = operand_of(node, 1), .b = operand_of(node, 2), .c = operand_of(node, 3)};
    j.dt = scan_at(&node->inputs[4], out, 1, (const uint32_t[]){0}, (const uint32_t[]){0});
    j.out = cpu_f32(out), j.out_channel = out->strides[0], j.taps = out->dims[1], j.states = node->inputs[3].dims[1];
    j.bins = p->length / 2 + 1, j.room = room_of(p->length);
    sizes_of(&j.t, p->length);
    double *free_at = scratch;
    j.heights = free_at, free_at += j.room;
    j.t.turn_re = free_at, free_at += j.t.padded / 2;
    j.t.turn_im = free_at, free_at += j.t.padded / 2;
    if (j.t.padded != j.t.size) {
        j.t.chirp_re = free_at, free_at += j.t.size;
        j.t.chirp_im = free_at, free_at += j.t.size;
        j.t.answer_re = free_at, free_at += j.t.padded;
        j.t.answer_im = free_at;
    }
    j.mine = (double *)scratch + shared_size(&j.t, j.room), j.mine_size = worker_size(&j.t, j.room, j.states);
    if (out->dims[0] < 1 || j.taps < 1) return STRAND_PLUGIN_OK;
    for (int64_t k = 0; k < j.room; k++)
        j.heights[k] = k < j.bins && 2 * k != p->length ? 2 * tan(PI * (double)k / (double)p->length) : 0;
    make_transform(&j.t, j.mine);
    cpu_parallel(device, out->dims[0], body, &j);
    return STRAND_PLUGIN_OK;
}

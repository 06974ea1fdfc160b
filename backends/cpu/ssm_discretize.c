/* ssm_discretize.c - SSM_DISCRETIZE: log poles and coefficients of a continuous diagonal system. It runs once for a model,
 * on few numbers on which all taps of a filter depend, so it runs in double precision, one state after another. */
#include "kernels.h"
#include "scans.h"

#include <math.h>

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

/* (e^z - 1) / a, which tends to dt where a does to zero; z = dt a. */
static cn held(cn z, cn a, double dt) {
    double half_sine = sin(z.im / 2), grown = exp(z.re);
    if (a.re == 0 && a.im == 0) return (cn){dt, 0};
    return quotient((cn){expm1(z.re) * cos(z.im) - 2 * half_sine * half_sine, grown * sin(z.im)}, a);
}

/* ln((1 + x) / (1 - x)): the real part from |1 + x|^2 - |1 - x|^2 = 4 re x, which does not cancel. */
static cn twice_atanh(cn x) {
    double below = (1 - x.re) * (1 - x.re) + x.im * x.im;
    return (cn){log1p(4 * x.re / below) / 2, atan2(x.im, 1 + x.re) + atan2(x.im, 1 - x.re)};
}

static void discretise(uint32_t method, cn a, double dt, cn bc, cn *lambda, cn *coefficient) {
    cn z = {dt * a.re, dt * a.im}, half = {z.re / 2, z.im / 2}, step = {dt * bc.re, dt * bc.im};
    *lambda = method == STRAND_SSM_BILINEAR ? twice_atanh(half) : z;
    *coefficient = method == STRAND_SSM_ZOH        ? product(bc, held(z, a, dt))
                   : method == STRAND_SSM_BILINEAR ? quotient(step, (cn){1 - half.re, -half.im})
                   : method == STRAND_SSM_EULER    ? step
                                                   : bc;
}

/* [C or 1, N, 2] under the output [C, N, 2]. */
typedef struct operand {
    const float *at;
    int64_t channel, state;
} operand;

typedef struct job {
    operand a, b, c;
    const float *dt;
    float *out[2];
    int64_t out_channel[2], out_state[2];
    int64_t channels, states, channels_a_piece;
    uint32_t method, n_out;
} job;

static operand operand_of(const strand_plugin_node *node, uint32_t i) {
    const strand_plugin_tensor *in = cpu_input(node, i), *out = &node->outputs[0];
    if (!in) return (operand){NULL, 0, 0};
    const float *at = scan_channels(in, out, 0) + (out->origin[1] - in->origin[1]) * in->strides[1];
    return (operand){at, scan_channel_stride(in), in->strides[1]};
}

static cn pair_of(const operand *o, int64_t c, int64_t n) {
    if (!o->at) return (cn){1, 0};
    const float *p = o->at + c * o->channel + n * o->state;
    return (cn){(double)p[0], (double)p[1]};
}

static void body(void *arg, int64_t i, int32_t worker) {
    const job *j = arg;
    int64_t end = cpu_min((i + 1) * j->channels_a_piece, j->channels);
    (void)worker;
    for (int64_t c = i * j->channels_a_piece; c < end; c++)
        for (int64_t n = 0; n < j->states; n++) {
            cn values[2];
            discretise(j->method, pair_of(&j->a, c, n), (double)j->dt[c], product(pair_of(&j->b, c, n), pair_of(&j->c, c, n)),
                       &values[0], &values[1]);
            for (uint32_t o = 0; o < j->n_out; o++) {
                float *to = j->out[o] + c * j->out_channel[o] + n * j->out_state[o];
                to[0] = (float)values[o].re;
                to[1] = (float)values[o].im;
            }
        }
}

CPU_KERNEL(cpu_ssm_discretize) {
    const strand_op_ssm_discretize *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    job j = {.a = operand_of(node, 0), .b = operand_of(node, 2), .c = operand_of(node, 3), .method = p->method,
             .n_out = node->n_outputs};
    (void)scratch;
    j.dt = scan_at(&node->inputs[1], out, 1, (const uint32_t[]){0}, (const uint32_t[]){0});
    for (uint32_t o = 0; o < j.n_out; o++) {
        j.out[o] = cpu_f32(&node->outputs[o]);
        j.out_channel[o] = node->outputs[o].strides[0], j.out_state[o] = node->outputs[o].strides[1];
    }
    j.channels = out->dims[0], j.states = out->dims[1];
    j.channels_a_piece = cpu_max(1, 256 / cpu_max(1, j.states));
    cpu_parallel(device, (j.channels + j.channels_a_piece - 1) / j.channels_a_piece, body, &j);
    return STRAND_PLUGIN_OK;
}

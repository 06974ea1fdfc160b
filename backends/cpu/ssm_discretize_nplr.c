/* ssm_discretize_nplr.c - SSM_DISCRETIZE_NPLR: the steps of a diagonal-minus-rank-one system, from its Woodbury form, and C
 * from C~, which takes a power of the whole matrix and a solution of a linear system. In double precision, over real
 * numbers: the parts of the states that stand for pairs. It runs once a model. A channel is a piece of work. */
#include "kernels.h"
#include "scans.h"

#include <math.h>

typedef struct complex_number {
    double re, im;
} cn;

static cn product(cn a, cn b) {
    return (cn){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

typedef struct job {
    scan_rows rows[4]; /* A, P, B, C~ */
    const float *dt;
    int64_t dt_stride, states, length, to_kind, to_channel, to_state, matrix;
    float *to;
    double *scratch;
} job;

static cn at(const job *j, int which, int64_t channel, int64_t n) {
    const scan_rows *r = &j->rows[which];
    return (cn){(double)r->rows[scan_row_at(r, channel, 2 * n)], (double)r->rows[scan_row_at(r, channel, 2 * n + 1)]};
}

static void put(const job *j, int kind, int64_t channel, int64_t n, cn value) {
    float *to = j->to + kind * j->to_kind + channel * j->to_channel + n * j->to_state;
    to[0] = (float)value.re;
    to[1] = (float)value.im;
}

static void multiply(double *to, const double *a, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double *row = to + i * n;
        for (int64_t k = 0; k < n; k++) row[k] = 0;
        for (int64_t k = 0; k < n; k++) {
            double x = a[i * n + k];
            for (int64_t m = 0; m < n; m++) row[m] += x * b[k * n + m];
        }
    }
}

/* x of a x = x (the right side goes in, the solution comes out), by elimination with the largest pivot. a is used up. */
static void solve(double *a, double *x, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[best * n + k])) best = i;
        for (int64_t m = 0; m < n && best != k; m++) {
            double swap = a[k * n + m];
            a[k * n + m] = a[best * n + m];
            a[best * n + m] = swap;
        }
        double swap = x[k], pivot = a[k * n + k];
        x[k] = x[best];
        if (best != k) x[best] = swap;
        for (int64_t i = k + 1; i < n; i++) {
            double f = a[i * n + k] / pivot;
            for (int64_t m = k; m < n && f != 0; m++) a[i * n + m] -= f * a[k * n + m];
            x[i] -= f * x[k];
        }
    }
    for (int64_t k = n; k-- > 0;) {
        for (int64_t m = k + 1; m < n; m++) x[k] -= a[k * n + m] * x[m];
        x[k] /= a[k * n + k];
    }
}

/* The matrix of one step on (real parts, imaginary parts). */
static void real_matrix(const cn *pole, const cn *p, const cn *q, int64_t states, double *a) {
    int64_t n = 2 * states;
    for (int64_t i = 0; i < states; i++)
        for (int64_t k = 0; k < states; k++) {
            a[i * n + k] = p[i].re * q[k].re + (i == k ? pole[i].re : 0);
            a[i * n + states + k] = -p[i].re * q[k].im - (i == k ? pole[i].im : 0);
            a[(states + i) * n + k] = p[i].im * q[k].re + (i == k ? pole[i].im : 0);
            a[(states + i) * n + states + k] = -p[i].im * q[k].im + (i == k ? pole[i].re : 0);
        }
}

/* C of C (I - A^length) = C~; c holds C~ and gets C. w: working memory of three matrices and a row. */
static void recover(const job *j, cn *c, double *w) {
    int64_t n = 2 * j->states;
    double *base = w, *power = w + n * n, *other = power + n * n, *row = other + n * n;
    bool begun = false;
    for (int64_t left = j->length; left > 0; left /= 2) {
        if (left % 2 && !begun) memcpy(power, base, (size_t)(n * n) * sizeof *power);
        if (left % 2 && begun) {
            multiply(other, power, base, n);
            memcpy(power, other, (size_t)(n * n) * sizeof *power);
        }
        begun = begun || left % 2;
        if (left == 1) break;
        multiply(other, base, base, n);
        memcpy(base, other, (size_t)(n * n) * sizeof *base);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) other[i * n + k] = (i == k ? 1 : 0) - power[k * n + i];
    for (int64_t i = 0; i < j->states; i++) row[i] = c[i].re, row[j->states + i] = -c[i].im;
    solve(other, row, n);
    for (int64_t i = 0; i < j->states; i++) c[i] = (cn){row[i], -row[j->states + i]};
}

static void body(void *arg, int64_t channel, int32_t worker) {
    const job *j = arg;
    int64_t states = j->states, n = 2 * states;
    double *w = j->scratch + worker * j->matrix, dt = (double)j->dt[channel * j->dt_stride], pp = 0, pb = 0;
    cn *pole = (cn *)(void *)(w + 3 * n * n + n), *p = pole + states, *q = p + states, *in = q + states, *c = in + states;
    for (int64_t i = 0; i < states; i++) {
        cn a = at(j, 0, channel, i), P = at(j, 1, channel, i), down = {1 - dt * a.re / 2, -dt * a.im / 2};
        double size = down.re * down.re + down.im * down.im;
        cn m = {down.re / size, -down.im / size};
        pole[i] = (cn){2 * m.re - 1, 2 * m.im};
        p[i] = product(m, P);
        q[i] = product((cn){P.re, -P.im}, m);
        in[i] = product(m, at(j, 2, channel, i));
        c[i] = at(j, 3, channel, i);
        pp += 2 * (P.re * P.re + P.im * P.im) * m.re;
        pb += 2 * product((cn){P.re, -P.im}, in[i]).re;
    }
    double g = dt / 2 / (1 + dt / 2 * pp);
    for (int64_t i = 0; i < states; i++) {
        in[i] = (cn){dt * (in[i].re - g * pb * p[i].re), dt * (in[i].im - g * pb * p[i].im)};
        p[i] = (cn){-4 * g * p[i].re, -4 * g * p[i].im};
    }
    if (j->length > 0) {
        real_matrix(pole, p, q, states, w);
        recover(j, c, w);
    }
    const cn *parts[5] = {pole, p, q, in, c};
    for (int kind = 0; kind < 5; kind++)
        for (int64_t i = 0; i < states; i++) put(j, kind, channel, i, parts[kind][i]);
}

/* Doubles a worker needs: three matrices, a row, and five rows of pairs. */
static int64_t doubles_a_worker(int64_t states) {
    return 12 * states * states + 2 * states + 10 * states + 8;
}

uint64_t cpu_ssm_discretize_nplr_scratch(const cpu_device *device, const strand_plugin_node *node) {
    return (uint64_t)cpu_workers(device) * (uint64_t)doubles_a_worker(node->inputs[3].dims[1]) * sizeof(double);
}

CPU_KERNEL(cpu_ssm_discretize_nplr) {
    const strand_op_ssm_discretize_nplr *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *dt = &node->inputs[4];
    job j = {.dt = scan_at(dt, out, 1, (const uint32_t[]){0}, (const uint32_t[]){1}),
             .dt_stride = dt->strides[0],
             .states = node->inputs[3].dims[1],
             .length = p->length};
    for (uint32_t i = 0; i < 4; i++) {
        const strand_plugin_tensor *in = &node->inputs[i];
        j.rows[i] = (scan_rows){scan_channels(in, out, 1), scan_channel_stride(in), in->strides[1], 2};
    }
    j.to = cpu_f32(out), j.to_kind = out->strides[0], j.to_channel = out->strides[1], j.to_state = out->strides[2];
    j.scratch = scratch, j.matrix = doubles_a_worker(j.states);
    cpu_parallel(device, out->dims[1], body, &j);
    return STRAND_PLUGIN_OK;
}

/* reference_nplr.c - the readable kernels of systems whose matrix is not diagonal: DPLR_SCAN, what makes its coefficients,
 * and DENSE_SCAN. SSM_DISCRETIZE_NPLR goes by the whole complex matrix of both of each conjugate pair, unlike the fast
 * kernel. */
#include "reference_complex.h"

CPU_KERNEL(cpu_reference_dplr_scan) {
    const strand_op_dplr_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *in = node->inputs, *skip = cpu_input(node, 6),
                               *state = cpu_input(node, 7);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    int64_t n = in[1].dims[1];
    double *h = numbers(device, 2 * n);
    (void)scratch;
    if (!h) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t c = 0; c < out->dims[2]; c++) {
            for (int64_t i = 0; i < 2 * n; i++)
                h[i] = state ? (double)(scan_state(state, out) + b * state->strides[0] + c * state->strides[1] +
                                        i / 2 * state->strides[2])[i % 2]
                             : 0;
            for (int64_t t = 0; t < out->dims[1]; t++) {
                double u = (double)scan_sequence(&in[0], out)[b * in[0].strides[0] + t * in[0].strides[1] + c], r = 0, y = 0;
                for (int64_t i = 0; i < n; i++) r += mul(pair(&in[3], out, 2, c, i), (cn){h[2 * i], h[2 * i + 1]}).re;
                for (int64_t i = 0; i < n; i++) {
                    cn next = mul(pair(&in[1], out, 2, c, i), (cn){h[2 * i], h[2 * i + 1]});
                    next = add(next, add(scaled(r, pair(&in[2], out, 2, c, i)), scaled(u, pair(&in[4], out, 2, c, i))));
                    y += mul(pair(&in[5], out, 2, c, i), next).re;
                    h[2 * i] = next.re;
                    h[2 * i + 1] = next.im;
                }
                double through = skip ? get(skip, (c + out->origin[2] - skip->origin[0]) * skip->strides[0]) * u : 0;
                put(out, b * out->strides[0] + t * out->strides[1] + c, (double)p->scale * y + through);
            }
            for (int64_t i = 0; last && i < 2 * n; i++)
                put(last, b * last->strides[0] + c * last->strides[1] + i / 2 * last->strides[2] + i % 2, h[i]);
        }
    give_back(device, h, 2 * n);
    return STRAND_PLUGIN_OK;
}

/* ---- SSM_DISCRETIZE_NPLR ---- */

static double size_of(cn a) {
    return a.re * a.re + a.im * a.im;
}

/* a [n, n] and x [n, columns] become what they are after elimination: x of a x = x. */
static void eliminate(cn *a, cn *x, int64_t n, int64_t columns) {
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (size_of(a[i * n + k]) > size_of(a[best * n + k])) best = i;
        for (int64_t m = 0; m < n + columns; m++) {
            cn *one = m < n ? &a[k * n + m] : &x[k * columns + m - n],
               *other = m < n ? &a[best * n + m] : &x[best * columns + m - n], swap = *one;
            *one = *other;
            *other = swap;
        }
        cn pivot = a[k * n + k];
        for (int64_t i = 0; i < n; i++) {
            cn f = i == k ? (cn){0, 0} : divided(a[i * n + k], pivot);
            for (int64_t m = 0; m < n + columns && i != k; m++) {
                cn *to = m < n ? &a[i * n + m] : &x[i * columns + m - n];
                *to = add(*to, scaled(-1, mul(f, m < n ? a[k * n + m] : x[k * columns + m - n])));
            }
        }
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t m = 0; m < columns; m++) x[k * columns + m] = divided(x[k * columns + m], a[k * n + k]);
}

static void matrix_product(cn *to, const cn *a, const cn *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            cn sum = {0, 0};
            for (int64_t m = 0; m < n; m++) sum = add(sum, mul(a[i * n + m], b[m * n + k]));
            to[i * n + k] = sum;
        }
}

/* The vectors of one channel, 2 n long: what is given and the conjugates. */
typedef struct whole {
    cn *a, *p, *b, *c;
} whole;

/* Abar and Bbar of the whole system by their definitions, in `step` and w.b; m, right: working memory of its size. */
static void bilinear(const whole *w, double dt, int64_t n, cn *m, cn *step) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) {
            cn a = scaled(-1, mul(w->p[i], conj_of(w->p[k])));
            if (i == k) a = add(a, w->a[i]);
            m[i * n + k] = add(scaled(-dt / 2, a), (cn){i == k, 0});
            step[i * n + k] = add(scaled(dt / 2, a), (cn){i == k, 0});
        }
    for (int64_t i = 0; i < n; i++) w->b[i] = scaled(dt, w->b[i]);
}

/* The row c with c (I - step^length) = what it was. */
static void recover(cn *c, const cn *step, int64_t length, int64_t n, cn *power, cn *other) {
    for (int64_t i = 0; i < n * n; i++) power[i] = (cn){i % (n + 1) == 0, 0};
    for (int64_t bit = 24; bit >= 0; bit--) {
        matrix_product(other, power, power, n);
        memcpy(power, other, (size_t)(n * n) * sizeof *power);
        if (!(length >> bit & 1)) continue;
        matrix_product(other, power, step, n);
        memcpy(power, other, (size_t)(n * n) * sizeof *power);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++) other[i * n + k] = add((cn){i == k, 0}, scaled(-1, power[k * n + i]));
    eliminate(other, c, n, 1);
}

static void discretise_channel(const strand_plugin_node *node, int64_t channel, double *memory) {
    const strand_op_ssm_discretize_nplr *params = node->params;
    const strand_plugin_tensor *in = node->inputs, *out = &node->outputs[0];
    int64_t half = in[3].dims[1], n = 2 * half;
    cn *m = (cn *)(void *)memory, *step = m + n * n, *power = step + n * n, *rest = power + n * n, *copy = rest + 4 * n;
    whole w = {rest, rest + n, rest + 2 * n, rest + 3 * n};
    double dt = get(&in[4], (channel + out->origin[1] - in[4].origin[0]) * in[4].strides[0]);
    cn *const to[4] = {w.a, w.p, w.b, w.c};
    for (uint32_t i = 0; i < 4; i++)
        for (int64_t k = 0; k < half; k++) {
            to[i][k] = pair(&in[i], out, 1, channel, k);
            to[i][half + k] = conj_of(to[i][k]);
        }
    double pp = 0;
    for (int64_t k = 0; k < n; k++) {
        cn down = add((cn){1, 0}, scaled(-dt / 2, w.a[k])), value = divided((cn){1, 0}, down);
        pp += size_of(w.p[k]) * value.re;
        copy[k] = value; /* m of the definition */
    }
    double g = dt / 2 / (1 + dt / 2 * pp);
    bilinear(&w, dt, n, m, step);
    /* (I - dt/2 A) against [I + dt/2 A, dt B]: one elimination each. */
    memcpy(power, m, (size_t)(n * n) * sizeof *m);
    eliminate(power, w.b, n, 1);
    eliminate(m, step, n, n);
    if (params->length > 0) recover(w.c, step, params->length, n, power, m);
    for (int64_t k = 0; k < half; k++) {
        const cn parts[5] = {add(scaled(2, copy[k]), (cn){-1, 0}), scaled(-4 * g, mul(copy[k], w.p[k])),
                             mul(conj_of(w.p[k]), copy[k]), w.b[k], w.c[k]};
        for (int i = 0; i < 5; i++) {
            int64_t at = i * out->strides[0] + channel * out->strides[1] + k * out->strides[2];
            put(out, at, parts[i].re);
            put(out, at + 1, parts[i].im);
        }
    }
}

CPU_KERNEL(cpu_reference_ssm_discretize_nplr) {
    int64_t n = 2 * node->inputs[3].dims[1], need = 2 * (3 * n * n + 5 * n);
    double *memory = numbers(device, need);
    (void)scratch;
    if (!memory) return no_memory(device);
    for (int64_t c = 0; c < node->outputs[0].dims[1]; c++) discretise_channel(node, c, memory);
    give_back(device, memory, need);
    return STRAND_PLUGIN_OK;
}

/* ---- DENSE_SCAN ---- */

CPU_KERNEL(cpu_reference_dense_scan) {
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0], *b = cpu_input(node, 1),
                               *u = cpu_input(node, 2), *state = cpu_input(node, 3);
    const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    int64_t d = a->dims[1], channels = out->dims[2] / d, shared = channels / a->dims[0];
    double *h = numbers(device, 2 * d), *next = h ? h + d : NULL;
    (void)scratch;
    if (!h) return no_memory(device);
    for (int64_t s = 0; s < out->dims[0]; s++)
        for (int64_t c = 0; c < channels; c++) {
            for (int64_t i = 0; i < d; i++)
                h[i] = state
                           ? get(state, (s + out->origin[0] - state->origin[0]) * state->strides[0] + c * state->strides[1] + i)
                           : 0;
            for (int64_t t = 0; t < out->dims[1]; t++) {
                double drive =
                    u ? get(u, (s + out->origin[0] - u->origin[0]) * u->strides[0] + (t - u->origin[1]) * u->strides[1] + c)
                      : 0;
                for (int64_t i = 0; i < d && !u; i++) put(out, s * out->strides[0] + t * out->strides[1] + c * d + i, h[i]);
                for (int64_t i = 0; i < d; i++) {
                    next[i] = b ? get(b, c / shared * b->strides[0] + i) * drive : 0;
                    for (int64_t k = 0; k < d; k++)
                        next[i] += get(a, c / shared * a->strides[0] + i * a->strides[1] + k) * h[k];
                }
                for (int64_t i = 0; i < d; i++) h[i] = next[i];
                for (int64_t i = 0; i < d && u; i++) put(out, s * out->strides[0] + t * out->strides[1] + c * d + i, h[i]);
            }
            for (int64_t i = 0; last && i < d; i++) put(last, s * last->strides[0] + c * last->strides[1] + i, h[i]);
        }
    give_back(device, h, 2 * d);
    return STRAND_PLUGIN_OK;
}

/* reference_scans.c - the readable kernels of the scans and of the generators of their filters, in double precision and in
 * the order of time. They judge the fast ones; each says what its definition in strand_ops.h says. */
#include "reference_complex.h"

/* ---- discretisation and generators ---- */

static void discretise(uint32_t method, cn a, double dt, cn bc, cn *lambda, cn *coefficient) {
    cn z = scaled(dt, a), x = scaled(0.5, z), down = {1 - x.re, -x.im};
    *lambda = z;
    *coefficient = bc;
    if (method == STRAND_SSM_EULER) *coefficient = scaled(dt, bc);
    if (method == STRAND_SSM_ZOH) {
        bool none = a.re == 0 && a.im == 0;
        *coefficient = mul(bc, none ? (cn){dt, 0} : divided(expm1_of(z), a));
    }
    if (method == STRAND_SSM_BILINEAR) {
        double n = down.re * down.re + down.im * down.im;
        *coefficient = divided(scaled(dt, bc), down);
        *lambda = (cn){log1p(4 * x.re / n) / 2, atan2(x.im, 1 + x.re) + atan2(x.im, 1 - x.re)};
    }
}

CPU_KERNEL(cpu_reference_ssm_discretize) {
    const strand_op_ssm_discretize *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *dt = &node->inputs[1];
    const strand_plugin_tensor *a = &node->inputs[0], *b = cpu_input(node, 2), *c = cpu_input(node, 3);
    (void)device, (void)scratch;
    for (int64_t k = 0; k < out->dims[0]; k++)
        for (int64_t n = 0; n < out->dims[1]; n++) {
            cn values[2], bc = {1, 0};
            if (b) bc = pair(b, out, 0, k, n + out->origin[1] - b->origin[1]);
            if (c) bc = mul(bc, pair(c, out, 0, k, n + out->origin[1] - c->origin[1]));
            discretise(p->method, pair(a, out, 0, k, n + out->origin[1] - a->origin[1]),
                       get(dt, (k + out->origin[0] - dt->origin[0]) * dt->strides[0]), bc, &values[0], &values[1]);
            for (uint32_t o = 0; o < node->n_outputs; o++) {
                const strand_plugin_tensor *to = &node->outputs[o];
                put(to, k * to->strides[0] + n * to->strides[1], values[o].re);
                put(to, k * to->strides[0] + n * to->strides[1] + 1, values[o].im);
            }
        }
    return STRAND_PLUGIN_OK;
}

/* pole^t from the pole itself, or from its logarithm. */
static cn power(cn pole, bool logarithm, double t) {
    if (t == 0) return (cn){1, 0};
    if (logarithm) return exp_of(scaled(t, pole));
    double r = hypot(pole.re, pole.im);
    return r > 0 ? exp_of((cn){t * log(r), t * atan2(pole.im, pole.re)}) : (cn){0, 0};
}

/* The coefficient divided by the sum of pole^r over the taps; where |pole| > 1 both are first divided by pole^(taps - 1), so
 * that the filter's exponents become t - (taps - 1). */
static cn normalised(cn pole, bool logarithm, int64_t taps, double eps, cn coefficient, double *shift) {
    cn sum = {0, 0};
    *shift = (logarithm ? pole.re > 0 : hypot(pole.re, pole.im) > 1) ? (double)(taps - 1) : 0;
    for (int64_t r = 0; r < taps; r++) sum = add(sum, power(pole, logarithm, (double)r - *shift));
    return mul(coefficient, scaled(1 / (sum.re * sum.re + sum.im * sum.im + eps), conj_of(sum)));
}

CPU_KERNEL(cpu_reference_ssm_kernel_diagonal) {
    const strand_op_ssm_kernel_diagonal *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *poles = &node->inputs[0], *coefficients = &node->inputs[1];
    int64_t states = coefficients->dims[1], taps = out->dims[1];
    double *sums = numbers(device, taps);
    (void)scratch;
    if (!sums) return no_memory(device);
    for (int64_t c = 0; c < out->dims[0]; c++) {
        for (int64_t i = 0; i < taps; i++) sums[i] = 0;
        for (int64_t n = 0; n < states; n++) {
            cn pole = pair(poles, out, 0, c, n), coefficient = pair(coefficients, out, 0, c, n);
            double shift = 0;
            if (p->normalise) coefficient = normalised(pole, p->log_poles, out->whole[1], (double)p->eps, coefficient, &shift);
            for (int64_t i = 0; i < taps; i++)
                sums[i] += mul(coefficient, power(pole, p->log_poles, (double)(i + out->origin[1]) - shift)).re;
        }
        for (int64_t i = 0; i < taps; i++) put(out, c * out->strides[0] + i, (double)p->scale * sums[i]);
    }
    give_back(device, sums, taps);
    return STRAND_PLUGIN_OK;
}

/* dt times the sum over n and over both of a conjugate pair of x[n] y[n] / (z - dt a[n]), for v = x y. */
static cn cauchy_term(cn v, cn z, cn a, double dt) {
    cn a1 = scaled(dt, a), a2 = conj_of(a1);
    return add(divided(scaled(dt, v), (cn){z.re - a1.re, z.im - a1.im}),
               divided(scaled(dt, conj_of(v)), (cn){z.re - a2.re, z.im - a2.im}));
}

static cn nplr_bin(const strand_plugin_node *node, int64_t channel, int64_t k, int64_t length) {
    const strand_plugin_tensor *in = node->inputs, *out = &node->outputs[0];
    double dt = get(&in[4], (channel + out->origin[0] - in[4].origin[0]) * in[4].strides[0]);
    cn r_bc = {0, 0}, r_bp = {0, 0}, r_pc = {0, 0}, r_pp = {0, 0};
    double half_angle = PI * (double)k / (double)length;
    cn z = {0, 2 * tan(half_angle)};
    double nyquist = 0;
    for (int64_t n = 0; n < in[3].dims[1]; n++) {
        cn a = pair(&in[0], out, 0, channel, n), p = pair(&in[1], out, 0, channel, n), b = pair(&in[2], out, 0, channel, n),
           c = pair(&in[3], out, 0, channel, n);
        nyquist += dt * mul(b, c).re;
        r_bc = add(r_bc, cauchy_term(mul(b, c), z, a, dt));
        r_bp = add(r_bp, cauchy_term(mul(b, conj_of(p)), z, a, dt));
        r_pc = add(r_pc, cauchy_term(mul(p, c), z, a, dt));
        r_pp = add(r_pp, cauchy_term(mul(p, conj_of(p)), z, a, dt));
    }
    if (2 * k == length) return (cn){nyquist, 0};
    cn inner = divided(mul(r_bp, r_pc), (cn){1 + r_pp.re, r_pp.im});
    cn two_over = {1, tan(half_angle)}; /* 2 / (1 + w) */
    return mul((cn){r_bc.re - inner.re, r_bc.im - inner.im}, two_over);
}

CPU_KERNEL(cpu_reference_ssm_kernel_nplr) {
    const strand_op_ssm_kernel_nplr *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t bins = p->length / 2 + 1;
    double *spectrum = numbers(device, 2 * bins);
    (void)scratch;
    if (!spectrum) return no_memory(device);
    for (int64_t c = 0; c < out->dims[0]; c++) {
        for (int64_t k = 0; k < bins; k++) {
            cn bin = nplr_bin(node, c, k, p->length);
            spectrum[2 * k] = bin.re;
            spectrum[2 * k + 1] = bin.im;
        }
        for (int64_t t = 0; t < out->dims[1]; t++) {
            double sum = spectrum[0];
            for (int64_t k = 1; k < bins; k++) {
                double angle = 2 * PI * (double)(k * t % p->length) / (double)p->length;
                sum += (2 * k == p->length ? 1 : 2) * (spectrum[2 * k] * cos(angle) - spectrum[2 * k + 1] * sin(angle));
            }
            put(out, c * out->strides[0] + t, sum / (double)p->length);
        }
    }
    give_back(device, spectrum, 2 * bins);
    return STRAND_PLUGIN_OK;
}

/* s <- A s + b u, with A = ones below the diagonal and last column a; b may be absent. */
static void companion_step(double *s, const float *a, const float *b, double u, int64_t d) {
    double last = s[d - 1];
    for (int64_t i = d - 1; i >= 0; i--) s[i] = (i ? s[i - 1] : 0) + (double)a[i] * last + (b ? (double)b[i] * u : 0);
}

static double dot(const float *a, const double *s, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += (double)a[i] * s[i];
    return sum;
}

CPU_KERNEL(cpu_reference_ssm_kernel_companion) {
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t d = node->inputs[0].dims[1];
    double *s = numbers(device, d);
    (void)scratch;
    if (!s) return no_memory(device);
    for (int64_t k = 0; k < out->dims[0]; k++) {
        const float *rows[3];
        for (int i = 0; i < 3; i++)
            rows[i] = scan_channels(&node->inputs[i], out, 0) + k * scan_channel_stride(&node->inputs[i]);
        for (int64_t i = 0; i < d; i++) s[i] = (double)rows[1][i];
        for (int64_t t = 0; t < out->dims[1]; t++) {
            put(out, k * out->strides[0] + t, dot(rows[2], s, d));
            companion_step(s, rows[0], NULL, 0, d);
        }
    }
    give_back(device, s, d);
    return STRAND_PLUGIN_OK;
}

/* ---- recurrences ---- */

/* The states of one channel of one sequence from and to [B, C, N(, 2)]. */
static void read_states(const strand_plugin_tensor *t, const strand_plugin_tensor *out, int64_t b, int64_t c, int64_t n,
                        int64_t width, double *h) {
    for (int64_t i = 0; i < n * width; i++) {
        const float *at = t ? scan_state(t, out) + b * t->strides[0] + c * t->strides[1] : NULL;
        h[i] = at ? (double)at[width == 2 ? i / 2 * t->strides[2] + i % 2 : i] : 0;
    }
}
static void write_states(const strand_plugin_node *node, int64_t b, int64_t c, int64_t n, int64_t width, const double *h) {
    const strand_plugin_tensor *t = node->n_outputs > 1 ? &node->outputs[1] : NULL;
    for (int64_t i = 0; t && i < n * width; i++)
        put(t, b * t->strides[0] + c * t->strides[1] + (width == 2 ? i / 2 * t->strides[2] + i % 2 : i), h[i]);
}

/* x[b, t, c] of a sequence under the output. */
static double at3(const strand_plugin_tensor *x, const strand_plugin_tensor *out, int64_t b, int64_t t, int64_t c) {
    return (double)scan_sequence(x, out)[b * x->strides[0] + t * x->strides[1] + c];
}
static double channel_value(const strand_plugin_tensor *v, const strand_plugin_tensor *out, int64_t c) {
    return v ? get(v, (c + out->origin[2] - v->origin[0]) * v->strides[0]) : 0;
}

static double real(const strand_plugin_tensor *t, const strand_plugin_tensor *out, int64_t c, int64_t n) {
    return t ? (double)(scan_channels(t, out, 2) + c * scan_channel_stride(t))[n] : 1;
}

/* One token of one channel; h holds pairs, or reals with width 1. Returns the sum over the states. */
static double lti_step(const strand_plugin_node *node, int64_t c, double u, double *h, int64_t width) {
    const strand_op_lti_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *poles = &node->inputs[1];
    double sum = 0;
    for (int64_t n = 0; n < poles->dims[1]; n++) {
        if (width == 1) {
            double pole = real(poles, out, c, n);
            h[n] = (p->log_poles ? exp(pole) : pole) * h[n] + real(cpu_input(node, 2), out, c, n) * u;
            sum += real(cpu_input(node, 3), out, c, n) * h[n];
            continue;
        }
        cn pole = pair(poles, out, 2, c, n), state = {h[2 * n], h[2 * n + 1]};
        if (p->log_poles) pole = exp_of(pole);
        state = add(mul(pole, state), scaled(u, pair(cpu_input(node, 2), out, 2, c, n)));
        sum += mul(pair(cpu_input(node, 3), out, 2, c, n), state).re;
        h[2 * n] = state.re;
        h[2 * n + 1] = state.im;
    }
    return (double)p->scale * sum;
}

CPU_KERNEL(cpu_reference_lti_scan) {
    const strand_op_lti_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0];
    int64_t states = node->inputs[1].dims[1], width = node->inputs[1].rank == 3 ? 2 : 1, length = out->dims[1];
    double *h = numbers(device, states * width);
    (void)scratch;
    if (!h) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t c = 0; c < out->dims[2]; c++) {
            read_states(cpu_input(node, 5), out, b, c, states, width, h);
            for (int64_t i = 0; i < length; i++) {
                int64_t t = p->reverse ? length - 1 - i : i;
                double u = at3(&node->inputs[0], out, b, t, c), y = lti_step(node, c, u, h, width);
                put(out, b * out->strides[0] + t * out->strides[1] + c, y + channel_value(cpu_input(node, 4), out, c) * u);
            }
            write_states(node, b, c, states, width, h);
        }
    give_back(device, h, states * width);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_linear_recurrence) {
    const strand_op_linear_recurrence *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *x = &node->inputs[0], *a = &node->inputs[1],
                               *state = cpu_input(node, 2);
    int64_t length = out->dims[1];
    int width = p->complex_pairs ? 2 : 1;
    bool each = a->rank == x->rank; /* a decay a token */
    (void)device, (void)scratch;
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t d = 0; d < out->dims[2]; d++) {
            const strand_plugin_tensor *last = node->n_outputs > 1 ? &node->outputs[1] : NULL;
            int64_t dx = width == 2 ? x->strides[2] : 1, da = width == 2 ? a->strides[each ? 2 : 0] : 1,
                    ds = state && width == 2 ? state->strides[1] : 1;
            cn h = {0, 0};
            if (state) {
                const float *at = scan_state(state, out) + b * state->strides[0] + d * ds;
                h = (cn){(double)at[0], width == 2 ? (double)at[1] : 0};
            }
            for (int64_t i = 0; i < length; i++) {
                int64_t t = p->reverse ? length - 1 - i : i;
                const float *xt = scan_sequence(x, out) + b * x->strides[0] + t * x->strides[1] + d * dx;
                const float *at = each ? scan_sequence(a, out) + b * a->strides[0] + t * a->strides[1] + d * da
                                       : scan_at(a, out, 1, (const uint32_t[]){0}, (const uint32_t[]){2}) + d * da;
                cn decay = {(double)at[0], width == 2 ? (double)at[1] : 0},
                   value = {(double)xt[0], width == 2 ? (double)xt[1] : 0};
                bool first = i == 0 && !state;
                if (p->form == STRAND_RECURRENCE_RGLRU && !first)
                    value.re *= sqrt(p->log_a ? -expm1(2 * decay.re) : (1 - decay.re) * (1 + decay.re));
                if (p->log_a) decay = exp_of(decay);
                h = add(mul(decay, h), value);
                int64_t to = b * out->strides[0] + t * out->strides[1] + d * (width == 2 ? out->strides[2] : 1);
                put(out, to, h.re);
                if (width == 2) put(out, to + 1, h.im);
            }
            if (!last) continue;
            int64_t to = b * last->strides[0] + d * (width == 2 ? last->strides[1] : 1);
            put(last, to, h.re);
            if (width == 2) put(last, to + 1, h.im);
        }
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_companion_scan) {
    const strand_op_companion_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *a = &node->inputs[0];
    int64_t d = a->dims[1], shared = out->whole[2] / a->whole[0];
    double *s = numbers(device, d);
    (void)scratch;
    if (!s) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t c = 0; c < out->dims[2]; c++) {
            const float *rows[5] = {NULL};
            for (int i = 0; i < 5; i++) {
                const strand_plugin_tensor *t = i == 3 ? NULL : cpu_input(node, (uint32_t)i);
                int64_t kernel = (c + out->origin[2]) / shared;
                if (t) rows[i] = (const float *)t->memory.data + (kernel - t->origin[0]) * t->strides[0];
            }
            read_states(cpu_input(node, 6), out, b, c, d, 1, s);
            for (int64_t t = 0; t < out->dims[1]; t++) {
                double u = p->closed ? 0 : at3(&node->inputs[3], out, b, t, c), y;
                if (p->closed) {
                    y = dot(rows[2], s, d);
                    companion_step(s, rows[0], rows[1], dot(rows[4], s, d), d);
                } else {
                    companion_step(s, rows[0], rows[1], u, d);
                    y = dot(rows[2], s, d) + channel_value(cpu_input(node, 5), out, c) * u;
                }
                put(out, b * out->strides[0] + t * out->strides[1] + c, y);
            }
            write_states(node, b, c, d, 1, s);
        }
    give_back(device, s, d);
    return STRAND_PLUGIN_OK;
}

CPU_KERNEL(cpu_reference_selective_scan) {
    const strand_op_selective_scan *p = node->params;
    const strand_plugin_tensor *out = &node->outputs[0], *in = node->inputs, *z = cpu_input(node, 6);
    int64_t states = in[2].dims[1];
    double *h = numbers(device, states);
    (void)scratch;
    if (!h) return no_memory(device);
    for (int64_t b = 0; b < out->dims[0]; b++)
        for (int64_t c = 0; c < out->dims[2]; c++) {
            const float *a = (const float *)in[2].memory.data + (c + out->origin[2] - in[2].origin[0]) * in[2].strides[0];
            read_states(cpu_input(node, 8), out, b, c, states, 1, h);
            for (int64_t t = 0; t < out->dims[1]; t++) {
                int64_t at_b =
                    (b + out->origin[0] - in[3].origin[0]) * in[3].strides[0] + (t - in[3].origin[1]) * in[3].strides[1];
                int64_t at_c =
                    (b + out->origin[0] - in[4].origin[0]) * in[4].strides[0] + (t - in[4].origin[1]) * in[4].strides[1];
                double u = at3(&in[0], out, b, t, c), d = at3(&in[1], out, b, t, c) + channel_value(cpu_input(node, 7), out, c),
                       y = 0;
                if (p->softplus && d <= 20) d = log1p(exp(d));
                for (int64_t n = 0; n < states; n++) {
                    h[n] = exp(d * (double)a[n]) * h[n] + d * get(&in[3], at_b + n) * u;
                    y += get(&in[4], at_c + n) * h[n];
                }
                y += channel_value(cpu_input(node, 5), out, c) * u;
                if (z) y *= at3(z, out, b, t, c) / (1 + exp(-at3(z, out, b, t, c)));
                put(out, b * out->strides[0] + t * out->strides[1] + c, y);
            }
            write_states(node, b, c, states, 1, h);
        }
    give_back(device, h, states);
    return STRAND_PLUGIN_OK;
}

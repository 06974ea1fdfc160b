/* iir.c - see iir.h. Poles of the analogue prototype (Butterworth 1930) are moved to the band and mapped by the bilinear
 * transform with its edges pre-warped; sections stay exact where one polynomial of high order would lose digits.
 */
#include "iir.h"

#include <complex.h>
#include <math.h>

static const double PI = 3.14159265358979323846;

static int add(iir *f, int order, double low, double high, double rate, int stop) {
    if (!(low > 0 && low < high && high < rate / 2) || order < 1 || f->n + order > IIR_MOST_SECTIONS) return -1;
    const double w1 = 4 * tan(PI * low / rate), w2 = 4 * tan(PI * high / rate), width = w2 - w1, centre = w1 * w2;
    double complex gain = 1;
    iir_section *s = &f->sections[f->n];
    for (int k = 0; k < order; k++) {
        const double complex p = cexp(I * PI * (2 * k + 1 + order) / (2 * order)); /* left half plane */
        const double complex h = stop ? width / 2 / p : p * width / 2, root = csqrt(h * h - centre);
        /* The two poles of this prototype pole, and those of its conjugate, are the conjugates of each other: one section takes
         * one pole with its own conjugate. Prototype poles in the upper half plane give two such pairs, a real one gives one.
         */
        if (cimag(p) < -1e-9) continue;
        const double complex poles[2] = {h + root, h - root};
        const int pairs = cimag(p) > 1e-9 ? 2 : 1;
        for (int i = 0; i < pairs; i++, s++) {
            double complex z1, z2;
            if (pairs == 2)
                z1 = (4 + poles[i]) / (4 - poles[i]), z2 = conj(z1);
            else
                z1 = (4 + poles[0]) / (4 - poles[0]), z2 = (4 + poles[1]) / (4 - poles[1]);
            *s = (iir_section){.b0 = 1, .a1 = -creal(z1 + z2), .a2 = creal(z1 * z2)};
            const double complex zero = stop ? (4 + I * sqrt(centre)) / (4 - I * sqrt(centre)) : 0;
            s->b1 = stop ? -2 * creal(zero) : 0;
            s->b2 = stop ? 1 : -1;
            const double complex q1 = pairs == 2 ? poles[i] : poles[0], q2 = pairs == 2 ? conj(poles[i]) : poles[1];
            gain *= stop ? (4 - I * sqrt(centre)) * (4 + I * sqrt(centre)) / ((4 - q1) * (4 - q2))
                         : 4 * width / ((4 - q1) * (4 - q2));
        }
    }
    s = &f->sections[f->n];
    s->b0 *= creal(gain);
    s->b1 *= creal(gain);
    s->b2 *= creal(gain);
    f->n += order;
    return 0;
}

int iir_add_bandpass(iir *f, int order, double low, double high, double rate) {
    return add(f, order, low, high, rate, 0);
}

int iir_add_bandstop(iir *f, int order, double low, double high, double rate) {
    return add(f, order, low, high, rate, 1);
}

void iir_run(iir *f, double *x, int64_t n) {
    for (int32_t i = 0; i < f->n; i++) {
        iir_section *s = &f->sections[i];
        for (int64_t t = 0; t < n; t++) {
            const double y = s->b0 * x[t] + s->s1;
            s->s1 = s->b1 * x[t] - s->a1 * y + s->s2;
            s->s2 = s->b2 * x[t] - s->a2 * y;
            x[t] = y;
        }
    }
}

void iir_reset(iir *f) {
    for (int32_t i = 0; i < f->n; i++) f->sections[i].s1 = f->sections[i].s2 = 0;
}

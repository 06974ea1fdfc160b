/* eeg_quality.c - see eeg_quality.h. Windows of two seconds under a Hann window; hum is a narrow peak: the power density within
 * 1 Hz of 50 or 60 Hz, over the density from 2 to 6 Hz beside it.
 */
#include "eeg_quality.h"

#include "electrodes.h"
#include "fft.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WINDOWS = 600 };

typedef struct measure {
    recording *r;
    int32_t signal;
    int64_t width;
    double *x, *power, *deviations;
    fft *f;
    fft_complex *work;
    int64_t clipped, beyond, samples, flat;
} measure;

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void add_window(measure *m, eeg_quality *q) {
    const rec_signal *s = &m->r->signals[m->signal];
    const double step = fabs(s->gain), volts = unit_microvolts(s->unit);
    const double low = fmin(s->physical_min, s->physical_max), high = fmax(s->physical_min, s->physical_max);
    double sum = 0, squares = 0, least = INFINITY, most = -INFINITY;
    int64_t bad = 0;
    for (int64_t i = 0; i < m->width; i++) {
        if (!isfinite(m->x[i])) m->x[i] = 0, bad++;
        sum += m->x[i];
        least = fmin(least, m->x[i]);
        most = fmax(most, m->x[i]);
        if (!s->unscaled && (m->x[i] < low - step / 2 || m->x[i] > high + step / 2))
            m->beyond++;
        else if (!s->unscaled && (m->x[i] <= low + step / 2 || m->x[i] >= high - step / 2))
            m->clipped++;
    }
    const double mean = sum / (double)m->width;
    for (int64_t i = 0; i < m->width; i++) {
        const double d = m->x[i] - mean;
        squares += d * d;
        m->work[i] = (fft_complex){d * (0.5 - 0.5 * cos(6.283185307179586 * ((double)i + 0.5) / (double)m->width)), 0};
    }
    fft_forward(m->f, m->work);
    for (int64_t k = 0; k <= m->width / 2; k++) m->power[k] += m->work[k].re * m->work[k].re + m->work[k].im * m->work[k].im;
    m->flat += most - least <= (volts > 0 ? 0.5 / volts : 0);
    m->deviations[q->windows++] = sqrt(squares / (double)m->width);
    m->samples += m->width;
    q->not_finite += bad;
    q->least = fmin(q->least, least);
    q->most = fmax(q->most, most);
}

/* What can be said of a span that is shorter than a window. */
static void add_short(measure *m, eeg_quality *q, int64_t n) {
    double sum = 0, squares = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(m->x[i])) {
            q->not_finite++;
            continue;
        }
        finite++;
        sum += m->x[i];
        squares += m->x[i] * m->x[i];
        q->least = fmin(q->least, m->x[i]);
        q->most = fmax(q->most, m->x[i]);
    }
    if (finite) q->rms = sqrt(fmax(0, squares / (double)finite - sum / (double)finite * (sum / (double)finite)));
}

static double density(const measure *m, double from, double to) {
    const double step = m->r->signals[m->signal].rate / (double)m->width;
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = (int64_t)ceil(from / step); k <= (int64_t)floor(to / step) && k <= m->width / 2; k++)
        sum += m->power[k], n++;
    return n ? sum / (double)n : NAN;
}

static double hum(const measure *m, double mains) {
    if (m->r->signals[m->signal].rate < 2 * (mains + 6)) return NAN;
    const double beside = (density(m, mains - 6, mains - 2) + density(m, mains + 2, mains + 6)) / 2;
    return beside > 0 ? density(m, mains - 1, mains + 1) / beside : 0;
}

static int scan(measure *m, eeg_quality *q, char *error) {
    int64_t total = 0;
    for (int64_t k = 0; k < m->r->n_spans; k++) total += recording_samples(m->r, m->signal, k) / m->width;
    const int64_t every = total / MOST_WINDOWS + 1;
    for (int64_t k = 0; k < m->r->n_spans && !total; k++) {
        const int64_t n = recording_samples(m->r, m->signal, k);
        if (n > 0 && recording_read(m->r, m->signal, k, 0, n, m->x, error)) return -1;
        add_short(m, q, n);
    }
    for (int64_t k = 0, at = 0; k < m->r->n_spans; k++) {
        const int64_t n = recording_samples(m->r, m->signal, k) / m->width;
        for (int64_t w = 0; w < n && q->windows < MOST_WINDOWS; w++, at++) {
            if (at % every) continue;
            if (recording_read(m->r, m->signal, k, w * m->width, m->width, m->x, error)) return -1;
            add_window(m, q);
        }
    }
    return 0;
}

int eeg_quality_measure(recording *r, int32_t signal, eeg_quality *q, char *error) {
    measure m = {.r = r, .signal = signal, .width = (int64_t)(2 * r->signals[signal].rate)};
    memset(q, 0, sizeof *q);
    q->least = INFINITY;
    q->most = -INFINITY;
    q->hum50 = q->hum60 = q->rms = NAN;
    if (m.width < 4 || m.width > 1 << 24) return 0; /* too slow to say anything */
    const size_t n = (size_t)m.width;
    m.x = malloc(n * sizeof *m.x);
    m.power = calloc(n, sizeof *m.power);
    m.work = malloc(n * sizeof *m.work);
    m.deviations = malloc(MOST_WINDOWS * sizeof *m.deviations);
    m.f = fft_open(m.width);
    int bad = m.x && m.power && m.work && m.deviations && m.f ? scan(&m, q, error) : rec_fail(error, "out of memory");
    if (!bad && q->windows) {
        qsort(m.deviations, (size_t)q->windows, sizeof *m.deviations, compare);
        q->rms = m.deviations[q->windows / 2];
        q->flat = (double)m.flat / (double)q->windows;
        q->beyond = (double)m.beyond / (double)m.samples;
        q->clipped = m.beyond ? 0 : (double)m.clipped / (double)m.samples; /* a range that samples pass is not where they
                                                                              were cut */
        q->hum50 = hum(&m, 50);
        q->hum60 = hum(&m, 60);
    }
    fft_close(m.f);
    free(m.deviations);
    free(m.work);
    free(m.power);
    free(m.x);
    return bad;
}

int eeg_quality_text(const eeg_quality *q, char *text, size_t size) {
    size_t n = 0;
    text[0] = 0;
    if (!q->windows) return snprintf(text, size, "too short to tell"), 0;
    if (q->not_finite) n += (size_t)snprintf(text + n, size - n, "%sNaN in it", n ? "; " : "");
    if (q->flat > 0.005 && n < size) n += (size_t)snprintf(text + n, size - n, "%sflat %.0f %%", n ? "; " : "", 100 * q->flat);
    const int all_flat = q->flat > 0.995;
    if (q->clipped > 0.001 && !all_flat && n < size)
        n += (size_t)snprintf(text + n, size - n, "%sclipped %.1f %%", n ? "; " : "", 100 * q->clipped);
    if (q->beyond > 0.0005 && n < size) /* a sample of a million says nothing */
        n += (size_t)snprintf(text + n, size - n, "%s%.1f %% beyond the range in the header", n ? "; " : "", 100 * q->beyond);
    if (q->hum50 > 10 && !all_flat && n < size) n += (size_t)snprintf(text + n, size - n, "%shum 50 Hz", n ? "; " : "");
    if (q->hum60 > 10 && !all_flat && n < size) n += (size_t)snprintf(text + n, size - n, "%shum 60 Hz", n ? "; " : "");
    if (!n) snprintf(text, size, "ok");
    return n > 0;
}

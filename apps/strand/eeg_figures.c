/* eeg_figures.c - the figures of a report as inline SVG. Colours come from the document's style (light, dark, print); a figure
 * is 1000 units wide and scales with the page. Long series are drawn as the largest value of each column, so that no peak is
 * lost.
 */
#include "eeg_report.h"
#include "escape.h"
#include "fft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDE = 1000, LEFT = 64, RIGHT = 12 };
static const double INNER = WIDE - LEFT - RIGHT;

/* A round step so that about `wanted` of them fill the range. */
static double round_step(double range, double wanted) {
    const double raw = range / wanted, power = pow(10, floor(log10(raw > 0 ? raw : 1))), lead = raw / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

static double time_step(double range) {
    static const double steps[] = {1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (range / steps[i] <= 10.5) return steps[i];
    return round_step(range, 10);
}

static void time_text(double t, double range, char *text, size_t size) {
    const long s = lrint(t);
    if (range < 180 && s < 600)
        snprintf(text, size, "%ld s", s);
    else
        snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
}

void svg_begin(output *out, double height, const char *title) {
    output_printf(out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", WIDE, height);
    write_html_text(out, title);
    output_printf(out, "\"><title>");
    write_html_text(out, title);
    output_printf(out, "</title>");
}

static void time_axis(output *out, double from, double to, double y, double top) {
    const double range = to - from, step = time_step(range);
    char text[32];
    for (double t = ceil(from / step) * step; t <= to + 1e-9; t += step) {
        const double x = LEFT + (t - from) / range * INNER;
        time_text(t, range, text, sizeof text);
        output_printf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, top, y);
        output_printf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, y + 16,
                      x > WIDE - 50 ? "end" : "middle", text);
    }
}

static void event_bands(output *out, const eeg_report *r, double from, double to, double top, double bottom) {
    for (int64_t i = 0; i < r->events.n; i++) {
        const eeg_event *e = &r->events.items[i];
        const double a = fmax(e->onset, from), b = fmin(e->onset + e->duration, to);
        if (b <= a || !strcmp(e->type, "bckg")) continue;
        const double x = LEFT + (a - from) / (to - from) * INNER, w = fmax((b - a) / (to - from) * INNER, 1.5);
        output_printf(out, "<rect class=\"event\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x, top, w,
                      bottom - top);
    }
}

/* A step line through the series: the largest value of every half unit, broken where nothing stands. */
static void series_path(output *out, const eeg_series *s, double end, double low, double high, double top, double bottom) {
    const double scale = (bottom - top) / (high - low);
    double last = -1e9, x = -1, y = bottom;
    int begun = 0;
    output_printf(out, "<path class=\"line\" d=\"");
    for (int64_t i = 0; i < s->n;) {
        const double at = LEFT + s->at[i] / end * INNER;
        double most = s->value[i], until = s->at[i] + s->width;
        int64_t k = i + 1;
        for (; k < s->n && LEFT + s->at[k] / end * INNER < at + 0.5; k++)
            most = fmax(most, s->value[k]), until = s->at[k] + s->width;
        x = at;
        y = bottom - (fmin(fmax(most, low), high) - low) * scale;
        output_printf(out, begun && s->at[i] <= last + 1e-6 ? "L%.1f %.1f" : "M%.1f %.1f", x, y);
        output_printf(out, "L%.1f %.1f", LEFT + until / end * INNER, y);
        begun = 1;
        last = until;
        i = k;
    }
    output_printf(out, "\"/>");
}

void figure_timeline(output *out, const eeg_report *r, const eeg_series *s, const char *label, double end, double top_value,
                     double threshold) {
    const double top = 10, bottom = 150;
    double high = top_value, low = 0;
    if (!(high > 0)) {
        high = -INFINITY, low = INFINITY;
        for (int64_t i = 0; i < s->n; i++) high = fmax(high, s->value[i]), low = fmin(low, s->value[i]);
        const double margin = fmax((high - low) * 0.1, 0.01);
        high += margin;
        low = fmax(0, low - margin);
    }
    svg_begin(out, bottom + 26, label);
    event_bands(out, r, 0, end, top, bottom);
    time_axis(out, 0, end, bottom, top);
    const double step = round_step(high - low, 4);
    for (double v = ceil(low / step) * step; v <= high + 1e-9; v += step) {
        const double y = bottom - (v - low) / (high - low) * (bottom - top);
        output_printf(out,
                      "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" x=\"%d\" "
                      "y=\"%.1f\" text-anchor=\"end\">%.3g</text>",
                      LEFT, WIDE - RIGHT, y, y, LEFT - 6, y + 4, v);
    }
    if (threshold > low && threshold < high) {
        const double y = bottom - (threshold - low) / (high - low) * (bottom - top);
        output_printf(out,
                      "<line class=\"threshold\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" x=\"%d\" "
                      "y=\"%.1f\" text-anchor=\"end\">threshold</text>",
                      LEFT, WIDE - RIGHT, y, y, WIDE - RIGHT - 4, y - 4);
    }
    series_path(out, s, end, low, high, top, bottom);
    output_printf(out, "</svg>\n");
}

void figure_hypnogram(output *out, const eeg_report *r, double end) {
    static const char *const names[REPORT_STAGES] = {"W", "N1", "N2", "N3", "REM"};
    static const int row[REPORT_STAGES] = {0, 2, 3, 4, 1}; /* as sleep laboratories draw it: wake, REM, N1, N2, N3 */
    const double top = 12, high = 30, bottom = top + 4 * high;
    svg_begin(out, bottom + 36, "hypnogram");
    time_axis(out, 0, end, bottom + 10, top - 6);
    for (int i = 0; i < REPORT_STAGES; i++) {
        const double y = top + row[i] * high;
        output_printf(out,
                      "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"tick\" x=\"%d\" "
                      "y=\"%.1f\" text-anchor=\"end\">%s</text>",
                      LEFT, WIDE - RIGHT, y, y, LEFT - 8, y + 4, names[i]);
    }
    output_printf(out, "<path class=\"line\" d=\"");
    for (int64_t i = 0; i < r->stage.n; i++) {
        const double x = LEFT + r->stage.at[i] / end * INNER, to = LEFT + (r->stage.at[i] + r->stage.width) / end * INNER;
        const double y = top + row[(int)r->stage.value[i] % REPORT_STAGES] * high;
        output_printf(out, "%s%.1f %.1fL%.1f %.1f",
                      i && r->stage.at[i] <= r->stage.at[i - 1] + r->stage.width + 1e-6 ? "L" : "M", x, y, to, y);
    }
    output_printf(out, "\"/>");
    for (int64_t i = 0; i < r->stage.n; i++) { /* REM is drawn thick, as is usual */
        if ((int)r->stage.value[i] != 4) continue;
        const double x = LEFT + r->stage.at[i] / end * INNER, to = LEFT + (r->stage.at[i] + r->stage.width) / end * INNER;
        output_printf(out, "<line class=\"rem\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, to, top + high,
                      top + high);
    }
    output_printf(out, "</svg>\n");
}

/* Probabilities of the stages, one on top of the other: how sure each epoch is. */
void figure_stage_probabilities(output *out, const eeg_report *r, double end) {
    static const char *const names[REPORT_STAGES] = {"W", "N1", "N2", "N3", "REM"};
    static const char *const colours[REPORT_STAGES] = {"#e8b73c", "#9cc5e3", "#4a90c4", "#1f4e82", "#d6452b"};
    static const int order[REPORT_STAGES] = {3, 2, 1, 4, 0};
    const double top = 10, bottom = 110;
    svg_begin(out, bottom + 46, "probabilities of the stages");
    time_axis(out, 0, end, bottom, top);
    for (int k = 0; k < REPORT_STAGES; k++) {
        output_printf(out, "<path fill=\"%s\" d=\"", colours[order[k]]);
        for (int64_t i = 0; i < r->stage.n; i++) {
            double below = 0;
            for (int j = 0; j < k; j++) below += r->stage_probability[order[j]].value[i];
            const double x = LEFT + r->stage.at[i] / end * INNER, w = r->stage.width / end * INNER,
                         h = r->stage_probability[order[k]].value[i] * (bottom - top);
            if (h >= 0.05) output_printf(out, "M%.2f %.1fh%.2fv%.1fh-%.2fz", x, bottom - below * (bottom - top), w, -h, w);
        }
        output_printf(out,
                      "\"/><rect x=\"%d\" y=\"%.0f\" width=\"12\" height=\"12\" fill=\"%s\"/><text class=\"tick\" x=\"%d\" "
                      "y=\"%.0f\">%s</text>",
                      LEFT + 70 * k, bottom + 30, colours[order[k]], LEFT + 70 * k + 17, bottom + 40, names[order[k]]);
    }
    output_printf(out, "</svg>\n");
}

/* ---- traces ---- */

/* The span that holds second t, or -1. */
static int64_t span_at(const eeg_source *s, double t) {
    for (int64_t k = 0; k < s->rec->n_spans; k++)
        if (t >= s->rec->spans[k].onset - 1e-9 && t < s->rec->spans[k].onset + s->rec->spans[k].duration) return k;
    return -1;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Microvolts between two channels' lines: a round number that leaves the ordinary swings inside it. */
static double trace_scale(const double *x, int64_t n, int32_t channels) {
    double spreads[REPORT_NODES];
    int32_t used = 0;
    for (int32_t c = 0; c < channels && used < REPORT_NODES; c++) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) sum += x[c * n + i];
        for (int64_t i = 0; i < n; i++) squares += (x[c * n + i] - sum / (double)n) * (x[c * n + i] - sum / (double)n);
        if (squares > 0) spreads[used++] = sqrt(squares / (double)n);
    }
    if (!used) return 50;
    qsort(spreads, (size_t)used, sizeof *spreads, compare);
    return round_step(6 * spreads[used * 3 / 4], 1);
}

/* Up is negative, as EEG is read; a negative scale draws up what is positive. */
static void trace(output *out, const double *x, int64_t n, double baseline, double scale) {
    const int64_t columns = 2 * (int64_t)INNER;
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / (double)n;
    output_printf(out, "<path class=\"trace\" d=\"M");
    if (n <= columns) {
        for (int64_t i = 0; i < n; i++)
            output_printf(out, "%s%.1f %.1f", i ? "L" : "", LEFT + (double)i / (double)n * INNER,
                          baseline + (x[i] - mean) * scale);
    } else
        for (int64_t c = 0; c < columns / 2; c++) { /* lowest and highest of each column */
            double low = INFINITY, high = -INFINITY;
            for (int64_t i = c * n / (columns / 2); i < (c + 1) * n / (columns / 2); i++)
                low = fmin(low, x[i]), high = fmax(high, x[i]);
            output_printf(out, "%s%.1f %.1fL%.1f %.1f", c ? "L" : "", LEFT + (double)c, baseline + (low - mean) * scale,
                          LEFT + (double)c, baseline + (high - mean) * scale);
        }
    output_printf(out, "\"/>");
}

/* Channels before the first that is no EEG. */
static int32_t eeg_channels(const eeg_source *s) {
    char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
    int32_t n = 0;
    while (n < s->map.n && electrode_parse(s->map.channels[n].name, name, reference)) n++;
    return n ? n : s->map.n;
}

int figure_traces(output *out, const eeg_report *r, eeg_source *s, double at, double from, double to) {
    const int64_t span = span_at(s, at);
    if (span < 0) return 0;
    const double onset = s->rec->spans[span].onset;
    if (from < onset) from = onset;
    int64_t first = (int64_t)((from - onset) * s->rate), n = (int64_t)((to - from) * s->rate);
    const int64_t have = eeg_source_samples(s, span, 1);
    if (first < 0) first = 0;
    if (n > have - first) n = have - first;
    if (n < 2) return 0;
    const int32_t channels = s->map.n;
    double *x = malloc((size_t)(n * channels) * sizeof *x);
    if (!x) return complain("out of memory"), -1;
    if (eeg_source_read(s, span, first, n, x)) return free(x), -1;
    const double row = 26, top = 22, bottom = top + row * channels, per_row = trace_scale(x, n, eeg_channels(s)),
                 scale = row / per_row;
    const double begins = onset + (double)first / s->rate, ends = begins + (double)n / s->rate;
    svg_begin(out, bottom + 46, "traces");
    event_bands(out, r, begins, ends, top, bottom);
    time_axis(out, begins, ends, bottom, top);
    output_printf(out, "<svg x=\"%d\" y=\"0\" width=\"%.0f\" height=\"%.0f\" viewBox=\"%d 0 %.0f %.0f\">", LEFT, INNER,
                  bottom + 2, LEFT, INNER, bottom + 2);
    int own = 0; /* muscles, heart and eyes: each fits its row */
    for (int32_t c = 0; c < channels; c++) {
        char name[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
        const int is_eeg = electrode_parse(s->map.channels[c].name, name, reference);
        own = own || !is_eeg;
        trace(out, x + c * n, n, top + row * (c + 0.5), is_eeg ? scale : -row / trace_scale(x + c * n, n, 1));
    }
    output_printf(out, "</svg>");
    for (int32_t c = 0; c < channels; c++) {
        output_printf(out, "<text class=\"label\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6,
                      top + row * (c + 0.5) + 4);
        write_html_text(out, s->map.channels[c].name);
        output_printf(out, "</text>");
    }
    output_printf(out,
                  "<path class=\"scale\" d=\"M%d %.1fv%.1f\"/><text class=\"label\" x=\"%d\" y=\"%.1f\">%.0f µV; negative is "
                  "up%s</text></svg>\n",
                  20, bottom + 16, row, 28, bottom + 33, per_row,
                  own ? "; EMG, ECG and EOG have scales of their own, positive is up" : "");
    free(x);
    return 0;
}

/* ---- spectrogram ---- */

enum { SPECTRUM_COLUMNS = 468, SPECTRUM_ROWS = 60 };

/* Mean over the channels of the log power of a second, bins of 0.5 Hz from two seconds where there are two. */
static int add_spectrum(eeg_source *s, int64_t span, int64_t from, int64_t width, fft *f, fft_complex *work, double *x,
                        double *sum) {
    if (eeg_source_read(s, span, from, width, x)) return -1;
    for (int32_t c = 0; c < s->map.n; c++) {
        if (s->map.channels[c].plus < 0) continue;
        double mean = 0;
        for (int64_t i = 0; i < width; i++) mean += x[c * width + i] / (double)width;
        for (int64_t i = 0; i < width; i++)
            work[i] =
                (fft_complex){(x[c * width + i] - mean) * (0.5 - 0.5 * cos(6.283185307179586 * (double)i / (double)width)), 0};
        fft_forward(f, work);
        for (int64_t k = 0; k < SPECTRUM_ROWS && k <= width / 2; k++)
            sum[k] += log(work[k].re * work[k].re + work[k].im * work[k].im + 1e-6) / s->map.n;
    }
    return 0;
}

static int fill_spectrum(eeg_source *s, double end, double *table) {
    const int64_t width = 2 * (int64_t)s->rate;
    fft *f = fft_open(width);
    fft_complex *work = malloc((size_t)width * sizeof *work);
    double *x = malloc((size_t)(width * s->map.n) * sizeof *x);
    int bad = f && work && x ? 0 : (complain("out of memory"), -1);
    for (int64_t column = 0; !bad && column < SPECTRUM_COLUMNS; column++) {
        const double t = (column + 0.5) / SPECTRUM_COLUMNS * end;
        const int64_t span = span_at(s, t);
        double *to = table + column * SPECTRUM_ROWS;
        to[0] = NAN;
        if (span < 0) continue;
        int64_t from = (int64_t)((t - s->rec->spans[span].onset - 1) * s->rate);
        const int64_t have = eeg_source_samples(s, span, 1);
        if (from > have - width) from = have - width;
        if (from < 0) from = 0;
        if (have < width) continue;
        memset(to, 0, SPECTRUM_ROWS * sizeof *to);
        bad = add_spectrum(s, span, from, width, f, work, x, to);
    }
    free(x);
    free(work);
    fft_close(f);
    return bad;
}

static void spectrum_range(const double *table, double *low, double *high) {
    double *sorted = malloc(sizeof *sorted * SPECTRUM_COLUMNS * SPECTRUM_ROWS);
    int64_t n = 0;
    *low = 0, *high = 1;
    if (!sorted) return;
    for (int64_t c = 0; c < SPECTRUM_COLUMNS; c++)
        for (int64_t k = 0; k < SPECTRUM_ROWS && !isnan(table[c * SPECTRUM_ROWS]); k++)
            sorted[n++] = table[c * SPECTRUM_ROWS + k];
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    if (n) *low = sorted[n / 50], *high = sorted[n - 1 - n / 100];
    if (*high <= *low) *high = *low + 1;
    free(sorted);
}

static int spectrum_picture(output *out, const double *table, double low, double high) {
    uint8_t *rgba = calloc(SPECTRUM_COLUMNS * SPECTRUM_ROWS, 4);
    if (!rgba) return complain("out of memory"), -1;
    for (int64_t c = 0; c < SPECTRUM_COLUMNS; c++)
        for (int64_t k = 0; k < SPECTRUM_ROWS && !isnan(table[c * SPECTRUM_ROWS]); k++) {
            uint8_t *pixel = rgba + 4 * ((SPECTRUM_ROWS - 1 - k) * SPECTRUM_COLUMNS + c);
            colour_of((table[c * SPECTRUM_ROWS + k] - low) / (high - low), pixel);
            pixel[3] = 255;
        }
    const int bad = png_write_base64(out, rgba, SPECTRUM_COLUMNS, SPECTRUM_ROWS);
    free(rgba);
    return bad;
}

int figure_spectrogram(output *out, const eeg_report *r, eeg_source *s) {
    double *table = calloc(SPECTRUM_COLUMNS * SPECTRUM_ROWS, sizeof *table), low, high;
    const double end = s->rec->end, top = 10, bottom = 160;
    if (!table) return complain("out of memory"), -1;
    int bad = fill_spectrum(s, end, table);
    if (!bad) {
        spectrum_range(table, &low, &high);
        svg_begin(out, bottom + 26, "spectrogram");
        output_printf(out,
                      "<image x=\"%d\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" preserveAspectRatio=\"none\" "
                      "href=\"data:image/png;base64,",
                      LEFT, top, INNER, bottom - top);
        bad = spectrum_picture(out, table, low, high);
        output_printf(out, "\"/>");
        for (int i = 0; i < r->events.n; i++) {
            const eeg_event *e = &r->events.items[i];
            if (strcmp(e->type, "bckg"))
                output_printf(out, "<rect class=\"mark\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"5\"/>",
                              LEFT + e->onset / end * INNER, top - 6, fmax(1.5, e->duration / end * INNER));
        }
        time_axis(out, 0, end, bottom, bottom);
        for (int hz = 0; hz <= 30; hz += 10)
            output_printf(out, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%d Hz</text>", LEFT - 6,
                          bottom - hz * 2.0 / SPECTRUM_ROWS * (bottom - top) + 4, hz);
        output_printf(out, "</svg>\n");
    }
    free(table);
    return bad;
}

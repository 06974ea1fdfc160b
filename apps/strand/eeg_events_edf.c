/* eeg_events_edf.c - an EDF+ file with the channels as a model saw them and events as annotations, for viewers like EDFbrowser.
 *
 * Records of one second, EDF+C: viewers do not open EDF+D, so zeros stand in the gaps and an annotation "gap" over them;
 * only where gaps are much longer than what was recorded it is EDF+D. Two passes: ranges first, then samples scaled to 16
 * bits. The fields for patient and recording hold the "X" that EDF+ has for what is left out. An event stands in the record
 * in which it begins, as time-stamped annotation lists that fit its room; what does not fit waits for the next record.
 */
#include "eeg_events.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ANNOTATION_SAMPLES = 120, ANNOTATION_BYTES = 2 * ANNOTATION_SAMPLES };

typedef struct edf_writer {
    eeg_source *s;
    eeg_event_list events; /* with the gaps */
    output *out;
    int64_t width, next_event;
    int32_t continuous;
    double *samples, *piece, *low, *high;
    uint8_t *record;
    int64_t records;
} edf_writer;

static int64_t seconds_of(const edf_writer *w, int64_t span) {
    return eeg_source_samples(w->s, span, 1) / w->width;
}

/* Where a span begins on the line of samples from the recording's start on. */
static int64_t begin_of(const edf_writer *w, int64_t span) {
    return llround(w->s->rec->spans[span].onset * (double)w->width);
}

static int order(const void *a, const void *b) {
    const double x = ((const eeg_event *)a)->onset, y = ((const eeg_event *)b)->onset;
    return (x > y) - (x < y);
}

/* Decides how gaps are written, and takes the events with an annotation for each gap. */
static int take_gaps(edf_writer *w, const eeg_event_list *events) {
    const recording *r = w->s->rec;
    w->continuous = r->end <= 4 * r->duration + 3600;
    for (int64_t i = 0; i < events->n; i++)
        if (eeg_events_add(&w->events, &events->items[i])) return -1;
    for (int64_t k = 1; w->continuous && k < r->n_spans; k++) {
        eeg_event gap = {.onset = r->spans[k - 1].onset + r->spans[k - 1].duration, .type = "gap", .confidence = NAN};
        gap.duration = r->spans[k].onset - gap.onset;
        if (gap.duration > 0 && eeg_events_add(&w->events, &gap)) return -1;
    }
    if (w->events.n) qsort(w->events.items, (size_t)w->events.n, sizeof *w->events.items, order);
    const int64_t last = r->n_spans - 1;
    if (w->continuous) w->records = (begin_of(w, last) + eeg_source_samples(w->s, last, 1)) / w->width;
    for (int64_t k = 0; !w->continuous && k <= last; k++) w->records += seconds_of(w, k);
    return 0;
}

/* A second of the line, zeros where nothing was recorded; *span goes along. */
static int read_line(edf_writer *w, int64_t second, int64_t *span) {
    const int64_t from = second * w->width, to = from + w->width, n = w->s->map.n;
    memset(w->samples, 0, (size_t)(n * w->width) * sizeof *w->samples);
    for (int64_t k = *span; k < w->s->rec->n_spans && begin_of(w, k) < to; k++) {
        const int64_t begin = begin_of(w, k), end = begin + eeg_source_samples(w->s, k, 1);
        const int64_t a = begin > from ? begin : from, b = end < to ? end : to;
        if (end <= from) *span = k;
        if (a >= b) continue;
        if (eeg_source_read(w->s, k, a - begin, b - a, w->piece)) return -1;
        for (int64_t c = 0; c < n; c++)
            memcpy(w->samples + c * w->width + (a - from), w->piece + c * (b - a), (size_t)(b - a) * sizeof *w->samples);
    }
    return 0;
}

/* All records in order: `take` finds each in `samples`, and gets its onset. */
static int each_record(edf_writer *w, int (*take)(edf_writer *w, double at, int last)) {
    int64_t done = 0, span = 0;
    for (int64_t t = 0; w->continuous && t < w->records; t++)
        if (interrupted() || read_line(w, t, &span) || take(w, (double)t, t + 1 == w->records)) return -1;
    for (int64_t k = 0; !w->continuous && k < w->s->rec->n_spans; k++)
        for (int64_t t = 0; t < seconds_of(w, k); t++)
            if (interrupted() || eeg_source_read(w->s, k, t * w->width, w->width, w->samples) ||
                take(w, w->s->rec->spans[k].onset + (double)t, ++done == w->records))
                return -1;
    return 0;
}

static int measure(edf_writer *w, double at, int last) {
    (void)at;
    (void)last;
    for (int32_t c = 0; c < w->s->map.n; c++)
        for (int64_t i = 0; i < w->width; i++) {
            w->low[c] = fmin(w->low[c], w->samples[c * w->width + i]);
            w->high[c] = fmax(w->high[c], w->samples[c * w->width + i]);
        }
    return 0;
}

static int find_ranges(edf_writer *w) {
    const int32_t n = w->s->map.n;
    for (int32_t c = 0; c < n; c++) w->low[c] = INFINITY, w->high[c] = -INFINITY;
    if (each_record(w, measure)) return -1;
    for (int32_t c = 0; c < n; c++) { /* the header has 8 characters for each */
        const double most = fmax(fmax(fabs(w->low[c]), fabs(w->high[c])), 1);
        w->high[c] = isfinite(most) ? ceil(most) : 1;
        w->low[c] = -w->high[c];
    }
    return 0;
}

static void field(output *out, int width, const char *text) {
    char buffer[96];
    memset(buffer, ' ', sizeof buffer);
    size_t n = strlen(text);
    if (n > (size_t)width) n = (size_t)width;
    for (size_t i = 0; i < n; i++) buffer[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    output_write(out, buffer, (size_t)width);
}

static void number(output *out, int width, double value) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", width - 1, value);
    field(out, width, text);
}

static void write_header(edf_writer *w) {
    static const char *const months[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"};
    const int32_t n = w->s->map.n, all = n + 1;
    const int known = w->s->rec->has_start && !w->s->settings->no_date;
    const int *t = w->s->rec->start;
    char text[96];
    field(w->out, 8, "0");
    field(w->out, 80, "X X X X");
    if (known)
        snprintf(text, sizeof text, "Startdate %02d-%s-%04d X X strand", t[2], months[(t[1] + 11) % 12], t[0]);
    else
        snprintf(text, sizeof text, "Startdate X X X strand");
    field(w->out, 80, text);
    snprintf(text, sizeof text, "%02d.%02d.%02d", known ? t[2] : 1, known ? t[1] : 1, known ? t[0] % 100 : 85);
    field(w->out, 8, text);
    snprintf(text, sizeof text, "%02d.%02d.%02d", known ? t[3] : 0, known ? t[4] : 0, known ? t[5] : 0);
    field(w->out, 8, text);
    number(w->out, 8, 256.0 * (all + 1));
    field(w->out, 44, w->continuous ? "EDF+C" : "EDF+D");
    number(w->out, 8, (double)w->records);
    field(w->out, 8, "1");
    number(w->out, 4, all);
    for (int32_t c = 0; c < n; c++) {
        snprintf(text, sizeof text, "EEG %s", w->s->map.channels[c].name);
        field(w->out, 16, text);
    }
    field(w->out, 16, "EDF Annotations");
    for (int32_t c = 0; c < all; c++) field(w->out, 80, "");
    for (int32_t c = 0; c < all; c++) field(w->out, 8, c < n ? "uV" : "");
    for (int32_t c = 0; c < all; c++) number(w->out, 8, c < n ? w->low[c] : -1);
    for (int32_t c = 0; c < all; c++) number(w->out, 8, c < n ? w->high[c] : 1);
    for (int32_t c = 0; c < all; c++) field(w->out, 8, "-32768");
    for (int32_t c = 0; c < all; c++) field(w->out, 8, "32767");
    for (int32_t c = 0; c < all; c++) field(w->out, 80, "");
    for (int32_t c = 0; c < all; c++) number(w->out, 8, c < n ? (double)w->width : ANNOTATION_SAMPLES);
    for (int32_t c = 0; c < all; c++) field(w->out, 32, "");
}

/* The record's time stamp, then as many waiting events as have begun and fit. */
static void fill_annotations(edf_writer *w, uint8_t *to, double at, int last) {
    char text[128];
    memset(to, 0, ANNOTATION_BYTES);
    size_t used = (size_t)snprintf((char *)to, ANNOTATION_BYTES, "+%.6g\x14\x14", at) + 1;
    if (at >= 1e5) used = (size_t)snprintf((char *)to, ANNOTATION_BYTES, "+%.3f\x14\x14", at) + 1;
    for (; w->next_event < w->events.n; w->next_event++) {
        const eeg_event *e = &w->events.items[w->next_event];
        if (e->onset >= at + 1 && !last) return;
        char confidence[16] = "";
        if (isfinite(e->confidence)) snprintf(confidence, sizeof confidence, " %.2f", e->confidence);
        const int n = snprintf(text, sizeof text, "+%.3f\x15%.3f\x14%s%s\x14", e->onset, e->duration, e->type, confidence);
        if (n < 0 || used + (size_t)n + 1 > ANNOTATION_BYTES) return;
        memcpy(to + used, text, (size_t)n);
        used += (size_t)n + 1;
    }
}

static int write_record(edf_writer *w, double at, int last) {
    const int32_t n = w->s->map.n;
    uint8_t *p = w->record;
    for (int32_t c = 0; c < n; c++) {
        const double scale = 65535 / (w->high[c] - w->low[c]);
        for (int64_t i = 0; i < w->width; i++) {
            double v = (w->samples[c * w->width + i] - w->low[c]) * scale - 32768;
            v = v < -32768 ? -32768 : v > 32767 ? 32767 : v;
            const uint16_t bits = (uint16_t)(int16_t)lrint(v);
            *p++ = (uint8_t)bits;
            *p++ = (uint8_t)(bits >> 8);
        }
    }
    fill_annotations(w, p, at, last);
    return output_write(w->out, w->record, (size_t)(p - w->record) + ANNOTATION_BYTES);
}

int eeg_events_edf(const char *path, eeg_source *s, const eeg_event_list *events) {
    edf_writer w = {.s = s, .width = (int64_t)s->rate};
    const size_t n = (size_t)s->map.n, samples = n * (size_t)w.width;
    w.samples = malloc(samples * sizeof *w.samples);
    w.piece = malloc(samples * sizeof *w.piece);
    w.low = malloc(n * sizeof *w.low);
    w.high = malloc(n * sizeof *w.high);
    w.record = malloc(2 * samples + ANNOTATION_BYTES);
    int bad = w.samples && w.piece && w.low && w.high && w.record ? 0 : (complain("out of memory"), -1);
    if (!bad) bad = take_gaps(&w, events) || find_ranges(&w) ? -1 : 0;
    if (!bad && (w.out = output_open(path)) == NULL) bad = -1;
    if (!bad) {
        write_header(&w);
        bad = each_record(&w, write_record);
        if (!bad && w.next_event < w.events.n)
            remark("%s: %lld of %lld events did not fit into its annotations", path, (long long)(w.events.n - w.next_event),
                   (long long)w.events.n);
    }
    if (output_close(w.out, !bad)) bad = -1;
    free(w.record);
    free(w.high);
    free(w.low);
    free(w.piece);
    free(w.samples);
    eeg_events_free(&w.events);
    return bad;
}

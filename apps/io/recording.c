/* recording.c - what the readers of recordings share: choosing one by the first bytes, notes, text, spans and annotations.
 *
 * Invariant: everything that comes from a file is bounded before memory is taken for it, and header text is printable UTF-8.
 */
#include "recording.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EVENTS = 2000000, MOST_SPANS = 2000000, MOST_TEXT = 4096 };

int rec_fail(char *error, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(error, REC_ERROR_BYTES, format, list);
    va_end(list);
    return -1;
}

void rec_note(recording *r, const char *format, ...) {
    if (r->n_notes == REC_NOTES) return;
    va_list list;
    va_start(list, format);
    vsnprintf(r->notes[r->n_notes++], sizeof r->notes[0], format, list);
    va_end(list);
}

/* Bytes of one UTF-8 character at p, or 0. */
static size_t utf8_length(const uint8_t *p, size_t n) {
    if (p[0] < 0x80) return 1;
    const size_t want = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (!want || want > n) return 0;
    for (size_t i = 1; i < want; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return want;
}

static int is_utf8(const uint8_t *p, size_t n) {
    for (size_t i = 0, w; i < n; i += w)
        if (!(w = utf8_length(p + i, n - i))) return 0;
    return 1;
}

void rec_text(const void *bytes, size_t n, char *to, size_t size) {
    const uint8_t *p = bytes;
    const uint8_t *zero = memchr(p, 0, n);
    if (zero) n = (size_t)(zero - p);
    while (n && p[n - 1] <= ' ') n--;
    while (n && *p <= ' ') p++, n--;
    const int utf8 = is_utf8(p, n);
    size_t used = 0;
    for (size_t i = 0, w; i < n; i += w) {
        w = utf8 ? utf8_length(p + i, n - i) : 1;
        const size_t need = !utf8 && p[i] >= 0x80 ? 2 : w;
        if (used + need + 1 > size) break;
        if (p[i] < 0x20 || p[i] == 0x7f || (!utf8 && p[i] >= 0x80 && p[i] < 0xa0) ||
            (utf8 && w == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0))
            to[used++] = '?';
        else if (!utf8 && p[i] >= 0x80) {
            to[used++] = (char)(0xc0 | p[i] >> 6);
            to[used++] = (char)(0x80 | (p[i] & 0x3f));
        } else {
            memcpy(to + used, p + i, w);
            used += w;
        }
    }
    to[used] = 0;
}

/* Room for one more of `n` items: the block doubles at powers of two. */
static void *grow(void *block, int64_t n, size_t item) {
    if (n & (n - 1)) return block;
    return realloc(block, item * (size_t)(n ? 2 * n : 1));
}

int rec_add_event(recording *r, double onset, double duration, const char *text, size_t n) {
    if (r->n_events >= MOST_EVENTS) return 0;
    rec_event *events = grow(r->events, r->n_events, sizeof *events);
    if (!events) return -1;
    r->events = events;
    if (n > MOST_TEXT) n = MOST_TEXT;
    char *copy = malloc(2 * n + 1);
    if (!copy) return -1;
    rec_text(text, n, copy, 2 * n + 1);
    events[r->n_events++] = (rec_event){onset, duration, copy};
    return 0;
}

int rec_add_span(recording *r, double onset, double duration, int64_t first, int64_t count) {
    if (r->n_spans >= MOST_SPANS) return -1;
    rec_span *spans = grow(r->spans, r->n_spans, sizeof *spans);
    if (!spans) return -1;
    r->spans = spans;
    spans[r->n_spans++] = (rec_span){onset, duration, first, count};
    return 0;
}

void rec_measure(recording *r) {
    r->duration = r->end = 0;
    for (int64_t i = 0; i < r->n_spans; i++) {
        r->duration += r->spans[i].duration;
        if (r->spans[i].onset + r->spans[i].duration > r->end) r->end = r->spans[i].onset + r->spans[i].duration;
    }
}

static int choose(recording *r, const char *path, const rec_options *options, char *error) {
    uint8_t first[256] = {0};
    const int64_t n = random_bytes_read(&r->in, 0, first, sizeof first);
    if (n < 0) return rec_fail(error, "cannot be read: %s", strerror(errno));
    if (n == 0) return rec_fail(error, "is empty");
    if ((first[0] == 0xff && !memcmp(first + 1, "BIOSEMI", 7)) ||
        (first[0] == '0' && n >= 8 && !memcmp(first + 1, "       ", 7)))
        return edf_open(r, error);
    if (n >= 128 && !memcmp(first, "MATLAB 5", 8)) return mat_open(r, options, error);
    if (n >= 128 && !memcmp(first, "MATLAB 7.3", 10))
        return rec_fail(error, "is a MAT file of version 7.3 (HDF5); save it with '-v7', or write EDF");
    if (!memcmp(first, "Brain Vision", 12) || !memcmp(first, "BrainVision", 11) ||
        !memcmp(first,
                "\xef\xbb\xbf"
                "Brain",
                8))
        return path ? brainvision_open(r, path, error) : rec_fail(error, "BrainVision files cannot be read from memory");
    const char *dot = path ? strrchr(path, '.') : NULL;
    if (dot && (!strcmp(dot, ".eeg") || !strcmp(dot, ".vmrk")))
        return rec_fail(error, "give the .vhdr file of the BrainVision triplet instead");
    if (first[0] == '0' && n < 8) return rec_fail(error, "is truncated: %lld bytes are no EDF header", (long long)n);
    return rec_fail(error, "is no EDF, BDF, MAT v5 or BrainVision (.vhdr) file");
}

static recording *finish(recording *r, int bad) {
    if (!bad) return r;
    recording_close(r);
    return NULL;
}

recording *recording_open(const char *path, const rec_options *options, char *error) {
    recording *r = calloc(1, sizeof *r);
    if (!r) return rec_fail(error, "out of memory"), NULL;
    if (random_bytes_open(&r->in, path)) {
        if (errno == ESPIPE)
            rec_fail(error, "is no regular file (only --follow reads a stream, as float frames)");
        else
            rec_fail(error, "cannot be opened: %s", strerror(errno));
        free(r);
        return NULL;
    }
    return finish(r, choose(r, path, options, error));
}

recording *recording_open_memory(const void *data, size_t size, const rec_options *options, char *error) {
    recording *r = calloc(1, sizeof *r);
    if (!r) return rec_fail(error, "out of memory"), NULL;
    random_bytes_memory(&r->in, data, size);
    return finish(r, choose(r, NULL, options, error));
}

void recording_close(recording *r) {
    if (!r) return;
    if (r->release) r->release(r);
    for (int64_t i = 0; i < r->n_events; i++) free(r->events[i].text);
    free(r->events);
    free(r->spans);
    free(r->signals);
    random_bytes_close(&r->in);
    free(r);
}

int64_t recording_samples(const recording *r, int32_t signal, int64_t span) {
    const int64_t per = r->signals[signal].per_record;
    return r->spans[span].count * (per ? per : 1);
}

int recording_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error) {
    if (signal < 0 || signal >= r->n_signals || span < 0 || span >= r->n_spans)
        return rec_fail(error, "there is no such signal or span");
    if (from < 0 || n < 0 || from > recording_samples(r, signal, span) - n)
        return rec_fail(error, "samples %lld to %lld are outside of the recording", (long long)from, (long long)(from + n));
    return n ? r->read(r, signal, span, from, n, to, error) : 0;
}

int recording_refresh(recording *r, char *error) {
    return r->refresh ? r->refresh(r, error) : 0;
}

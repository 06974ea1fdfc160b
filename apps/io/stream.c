/* stream.c - float frames from a descriptor as a recording that grows: what `--follow -` reads.
 *
 * A frame is one 32-bit little-endian float a channel, in microvolts. The newest seconds are kept in a ring; older samples are
 * gone. Invariant: memory is fixed when the stream is opened.
 */
#include "stream.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CHANNELS = 4096, PIECE = 1 << 16 };

typedef struct stream {
    int fd, ended;
    int64_t room, total; /* frames */
    float *ring;
    uint8_t *piece;
    size_t held; /* bytes of an incomplete frame at the begin of piece */
} stream;

static int stream_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error) {
    const stream *s = r->state;
    (void)span;
    if (from < s->total - s->room)
        return rec_fail(error, "samples before %.1f s are no longer kept", (double)(s->total - s->room) / r->signals[0].rate);
    for (int64_t i = 0; i < n; i++) to[i] = s->ring[(from + i) % s->room * r->n_signals + signal];
    return 0;
}

static void take(recording *r, stream *s, size_t bytes) {
    const size_t frame = 4 * (size_t)r->n_signals;
    const size_t have = s->held + bytes, whole = have / frame;
    for (size_t f = 0; f < whole; f++) {
        float *to = s->ring + (s->total++ % s->room) * r->n_signals;
        for (int32_t c = 0; c < r->n_signals; c++) {
            const uint8_t *p = s->piece + f * frame + 4 * (size_t)c;
            const uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
            memcpy(&to[c], &bits, 4);
        }
    }
    s->held = have - whole * frame;
    memmove(s->piece, s->piece + whole * frame, s->held);
}

/* Takes at most a piece, so that a fast writer cannot overrun what has not been looked at. */
static int stream_refresh(recording *r, char *error) {
    stream *s = r->state;
    struct pollfd wait = {s->fd, POLLIN, 0};
    if (s->ended || poll(&wait, 1, 0) <= 0) return 0;
    const ssize_t got = read(s->fd, s->piece + s->held, PIECE);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (got < 0) return rec_fail(error, "cannot be read: %s", strerror(errno));
    if (got == 0) {
        s->ended = 1;
        if (s->held) rec_note(r, "the stream ended inside a frame");
        return 0;
    }
    const int64_t before = s->total;
    take(r, s, (size_t)got);
    r->spans[0].count = s->total;
    r->spans[0].duration = (double)s->total / r->signals[0].rate;
    rec_measure(r);
    return s->total > before;
}

static void stream_release(recording *r) {
    stream *s = r->state;
    if (!s) return;
    free(s->ring);
    free(s->piece);
    free(s);
}

int stream_ended(const recording *r) {
    return r->read == stream_read && ((const stream *)r->state)->ended;
}

static int32_t count_labels(const char *labels) {
    int32_t n = 1;
    for (; *labels; labels++) n += *labels == ',';
    return n;
}

recording *stream_open(int fd, const char *labels, double rate, double seconds, char *error) {
    if (!labels || !*labels || !(rate > 0)) return rec_fail(error, "a stream needs --channels A,B,C and --rate HZ"), NULL;
    const int32_t n = count_labels(labels);
    if (n > MOST_CHANNELS || rate > 1e6)
        return rec_fail(error, "a stream has at most %d channels of 1 MHz", MOST_CHANNELS), NULL;
    recording *r = calloc(1, sizeof *r);
    stream *s = calloc(1, sizeof *s);
    if (!r || !s) {
        free(r);
        free(s);
        return rec_fail(error, "out of memory"), NULL;
    }
    r->in.fd = -1;
    r->state = s;
    r->format = "float frames";
    r->read = stream_read;
    r->refresh = stream_refresh;
    r->release = stream_release;
    r->n_signals = n;
    r->signals = calloc((size_t)n, sizeof *r->signals);
    s->fd = fd;
    s->room = (int64_t)(seconds * rate) + PIECE / (4 * n) + 1;
    s->ring = calloc((size_t)s->room * (size_t)n, sizeof *s->ring);
    s->piece = malloc(PIECE + 4 * (size_t)n);
    if (!r->signals || !s->ring || !s->piece || rec_add_span(r, 0, 0, 0, 0)) {
        recording_close(r);
        return rec_fail(error, "out of memory"), NULL;
    }
    for (int32_t i = 0; i < n; i++) {
        const size_t width = strcspn(labels, ",");
        rec_signal *x = &r->signals[i];
        rec_text(labels, width, x->label, sizeof x->label);
        labels += width + (labels[width] == ',');
        snprintf(x->unit, sizeof x->unit, "uV");
        x->rate = rate;
        x->gain = 1;
        x->physical_min = x->physical_max = x->digital_min = x->digital_max = NAN;
    }
    return r;
}

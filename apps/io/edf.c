/* edf.c - EDF, EDF+C, EDF+D, BDF and BDF+ recordings, read as clinical files are, not only as the standard wants them.
 *
 * Layout (Kemp et al. 1992, Kemp and Olivan 2003; BDF: BioSemi): a header of 256 bytes, 256 bytes a signal, then data records
 * that hold each signal's samples of one stretch of time, 16 bits each, 24 in BDF. EDF+ adds an annotation signal whose first
 * time stamp in a record is the record's onset: in EDF+D the gaps between spans come from there. Tolerated, with a note: an
 * unknown or wrong number of records, a truncated tail, header text in Latin-1, a physical or digital range that is empty
 * (values stay as stored) or inverted (it scales as written), a record duration of 0. The fields for patient and recording
 * (bytes 8 to 167) are not looked at. Memory: a cache of 4 MiB, the annotations, the spans.
 */
#include "recording.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIGNALS = 4096, CACHE_BYTES = 4 << 20, MOST_TAL_BYTES = 1 << 20 };

typedef struct edf_place {
    int64_t at, samples; /* in a record: first byte, samples */
} edf_place;

typedef struct edf {
    int64_t header, record_bytes, records; /* records: complete ones that were seen */
    double duration;                       /* of a record */
    int32_t width;                         /* bytes a sample */
    int32_t discontinuous;
    double origin;     /* onset of the first record by its time stamp */
    int32_t stamped;   /* origin is known */
    edf_place *places; /* of recording->signals */
    edf_place *tals;   /* annotation signals */
    int32_t n_tals;
    uint8_t *cache;
    int64_t cache_bytes;                          /* 4 MiB, less for small files */
    int64_t cache_first, cache_count, cache_room; /* records */
    uint8_t *tal;
} edf;

/* A number in a field of blanks-padded text; NaN when it is none. A decimal comma is read as a point. */
static double field_number(const uint8_t *field, size_t n) {
    char text[24];
    rec_text(field, n, text, sizeof text);
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.';
    if (!*text || text[strspn(text, "0123456789+-.eE")]) return NAN;
    char *end;
    const double value = strtod(text, &end);
    return *end || !isfinite(value) ? NAN : value;
}

static int parse_start(recording *r, const uint8_t *header) {
    char date[9] = {0}, time[9] = {0};
    memcpy(date, header + 168, 8);
    memcpy(time, header + 176, 8);
    int *s = r->start;
    r->has_start = sscanf(date, "%2d%*1[.:/-]%2d%*1[.:/-]%2d", &s[2], &s[1], &s[0]) == 3 &&
                   sscanf(time, "%2d%*1[.:/-]%2d%*1[.:/-]%2d", &s[3], &s[4], &s[5]) == 3 && s[1] >= 1 && s[1] <= 12 &&
                   s[2] >= 1 && s[2] <= 31 && s[3] >= 0 && s[3] < 24 && s[4] >= 0 && s[4] < 60 && s[5] >= 0 && s[5] < 61 &&
                   s[0] >= 0;
    if (r->has_start) s[0] += s[0] >= 85 ? 1900 : 2000;
    return 0;
}

static void set_scale(recording *r, rec_signal *s) {
    const double physical = s->physical_max - s->physical_min, digital = s->digital_max - s->digital_min;
    s->unscaled = !(isfinite(physical) && isfinite(digital)) || physical == 0 || digital == 0;
    s->gain = s->unscaled ? 1 : physical / digital;
    s->offset = s->unscaled ? 0 : s->physical_min - s->digital_min * s->gain;
    if (s->unscaled)
        rec_note(r, "signal '%.60s': its %s range is empty or no number; values are as stored, without a unit", s->label,
                 digital == 0 || !isfinite(digital) ? "digital" : "physical");
    else if (s->gain < 0)
        rec_note(r, "signal '%.60s': its range is inverted (%g to %g); polarity is as the header says", s->label,
                 s->physical_min, s->physical_max);
}

/* Signal i's fields lie in columns: all labels, then all transducers ... */
static int parse_signal(recording *r, edf *e, const uint8_t *columns, int32_t n, int32_t i, int64_t *at, char *error) {
    const uint8_t *rest = columns + 96 * (size_t)n; /* after labels (16) and transducers (80) */
    char label[64];
    rec_text(columns + 16 * i, 16, label, sizeof label);
    const double samples = field_number(rest + 120 * (size_t)n + 8 * i, 8);
    if (!(samples >= 0) || samples != floor(samples) || samples > 1e8)
        return rec_fail(error, "signal %d ('%s'): its number of samples a record is no whole number from 0 to 100000000", i + 1,
                        label);
    const edf_place place = {*at, (int64_t)samples};
    *at += place.samples * e->width;
    if (!strcmp(label, "EDF Annotations") || !strcmp(label, "BDF Annotations")) {
        r->n_skipped++;
        e->tals[e->n_tals++] = place;
        return 0;
    }
    if (place.samples == 0) {
        rec_note(r, "signal '%.60s' holds no samples and is left out", label);
        return 0;
    }
    rec_signal *s = &r->signals[r->n_signals];
    snprintf(s->label, sizeof s->label, "%s", label);
    rec_text(rest + 8 * i, 8, s->unit, sizeof s->unit);
    s->physical_min = field_number(rest + 8 * (size_t)n + 8 * i, 8);
    s->physical_max = field_number(rest + 16 * (size_t)n + 8 * i, 8);
    s->digital_min = field_number(rest + 24 * (size_t)n + 8 * i, 8);
    s->digital_max = field_number(rest + 32 * (size_t)n + 8 * i, 8);
    rec_text(rest + 40 * (size_t)n + 80 * i, 80, s->filter, sizeof s->filter);
    s->per_record = place.samples;
    s->rate = (double)place.samples / e->duration;
    set_scale(r, s);
    e->places[r->n_signals++] = place;
    return 0;
}

static int parse_header(recording *r, edf *e, double *claimed, char *error) {
    uint8_t header[256];
    const int64_t got = random_bytes_read(&r->in, 0, header, sizeof header);
    if (got < 0) return rec_fail(error, "cannot be read: %s", strerror(errno));
    if (got < 256) return rec_fail(error, "is truncated: the header needs 256 bytes, there are %lld", (long long)got);
    const int bdf = header[0] == 0xff;
    e->width = bdf ? 3 : 2;
    char reserved[48];
    rec_text(header + 192, 44, reserved, sizeof reserved);
    const int plus = !strncmp(reserved, bdf ? "BDF+" : "EDF+", 4);
    e->discontinuous = plus && reserved[4] == 'D';
    r->format = bdf                ? (!plus              ? "BDF"
                                      : e->discontinuous ? "BDF+D"
                                                         : "BDF+C")
                : !plus            ? "EDF"
                : e->discontinuous ? "EDF+D"
                                   : "EDF+C";
    parse_start(r, header);
    *claimed = field_number(header + 236, 8);
    e->duration = field_number(header + 244, 8);
    const double signals = field_number(header + 252, 4);
    if (!(signals >= 1) || signals != floor(signals) || signals > MOST_SIGNALS)
        return rec_fail(error, "the header's number of signals is not 1 to %d: this is no EDF file, or a damaged one",
                        MOST_SIGNALS);
    if (!(e->duration >= 0)) return rec_fail(error, "the duration of a data record (header byte 244) is no number");
    if (e->duration == 0) {
        e->duration = 1;
        rec_note(r, "the header says that a data record lasts 0 s; it is taken to last 1 s");
    }
    const int32_t n = (int32_t)signals;
    e->header = 256 * (int64_t)(n + 1);
    const double bytes = field_number(header + 184, 8);
    if (bytes != (double)e->header)
        rec_note(r, "the header gives its own size wrongly; %d signals need %lld bytes", n, (long long)e->header);
    if (r->in.size < e->header)
        return rec_fail(error, "is truncated: a header of %d signals needs %lld bytes, there are %lld", n, (long long)e->header,
                        (long long)r->in.size);
    r->signals = calloc((size_t)n, sizeof *r->signals);
    e->places = calloc((size_t)n, sizeof *e->places);
    e->tals = calloc((size_t)n, sizeof *e->tals);
    uint8_t *columns = malloc(256 * (size_t)n);
    int bad = !r->signals || !e->places || !e->tals || !columns ? rec_fail(error, "out of memory") : 0;
    if (!bad && random_bytes_read(&r->in, 256, columns, 256 * (int64_t)n) != 256 * (int64_t)n)
        bad = rec_fail(error, "its header cannot be read");
    for (int32_t i = 0; !bad && i < n; i++) bad = parse_signal(r, e, columns, n, i, &e->record_bytes, error);
    free(columns);
    if (!bad && r->n_signals == 0) bad = rec_fail(error, "holds no signal, only %s", e->n_tals ? "annotations" : "empty ones");
    return bad;
}

/* ---- annotations ---- */

typedef struct tal_reader {
    recording *r;
    edf *e;
    double stamp; /* of this record, NaN until found */
} tal_reader;

/* One list "+onset[15 duration]14 text 14 ... 0" of n bytes, the 0 left out. Returns -1 when memory is short. */
static int parse_tal(tal_reader *t, const uint8_t *p, size_t n, int first) {
    const uint8_t *stop = memchr(p, 0x14, n);
    if (!stop || (*p != '+' && *p != '-')) return 0;
    const uint8_t *bar = memchr(p, 0x15, (size_t)(stop - p));
    double onset = field_number(p, (size_t)((bar ? bar : stop) - p));
    double duration = bar ? field_number(bar + 1, (size_t)(stop - bar - 1)) : -1;
    if (!isfinite(onset)) return 0;
    if (!(duration >= 0)) duration = -1;
    const uint8_t *text = stop + 1, *end = p + n;
    if (first && isnan(t->stamp)) {
        t->stamp = onset;
        if (!t->e->stamped) t->e->origin = onset, t->e->stamped = 1;
    }
    while (text < end) {
        const uint8_t *next = memchr(text, 0x14, (size_t)(end - text));
        const size_t length = (size_t)((next ? next : end) - text);
        if (length && rec_add_event(t->r, onset - t->e->origin, duration, (const char *)text, length)) return -1;
        if (!next) break;
        text = next + 1;
    }
    return 0;
}

static int parse_tals(tal_reader *t, const uint8_t *p, size_t n, int first) {
    for (size_t at = 0; at < n;) {
        const uint8_t *zero = memchr(p + at, 0, n - at);
        const size_t length = (size_t)((zero ? zero : p + n) - (p + at));
        if (length && parse_tal(t, p + at, length, first)) return -1;
        at += length + 1;
    }
    return 0;
}

/* Record k's annotations; *stamp gets its onset, or NaN. */
static int read_tals(recording *r, edf *e, int64_t k, double *stamp, char *error) {
    tal_reader t = {r, e, NAN};
    for (int32_t i = 0; i < e->n_tals; i++) {
        int64_t bytes = e->tals[i].samples * e->width;
        if (bytes > MOST_TAL_BYTES) bytes = MOST_TAL_BYTES;
        const int64_t got = random_bytes_read(&r->in, e->header + k * e->record_bytes + e->tals[i].at, e->tal, bytes);
        if (got != bytes)
            return rec_fail(error, "data record %lld cannot be read: %s", (long long)k,
                            got < 0 ? strerror(errno) : "the file became shorter");
        if (parse_tals(&t, e->tal, (size_t)bytes, i == 0)) return rec_fail(error, "out of memory");
    }
    *stamp = isnan(t.stamp) ? NAN : t.stamp - e->origin;
    return 0;
}

/* ---- spans ---- */

/* Takes records [from, to) in: their annotations, and where a gap lies between two of them a new span. */
static int add_records(recording *r, edf *e, int64_t from, int64_t to, char *error) {
    double slack = e->duration;
    for (int32_t i = 0; i < r->n_signals; i++)
        if (1 / r->signals[i].rate < slack)
            slack = 1 / r->signals[i].rate; /* less than a sample of the fastest signal is no gap */
    for (int64_t k = from; k < to; k++) {
        double stamp = NAN;
        if (e->n_tals && read_tals(r, e, k, &stamp, error)) return -1;
        rec_span *last = r->n_spans ? &r->spans[r->n_spans - 1] : NULL;
        const double expected = last ? last->onset + last->duration : 0;
        if (!e->discontinuous || isnan(stamp)) stamp = expected;
        if (last && stamp < expected - slack)
            return rec_fail(
                error, "data record %lld begins at %g s, before the one before it ends (%g s): its time stamps are damaged",
                (long long)k, stamp, expected);
        if (last && fabs(stamp - expected) < slack) {
            last->count++;
            last->duration = (double)last->count * e->duration;
        } else if (rec_add_span(r, stamp, e->duration, k, 1))
            return rec_fail(error, "out of memory, or too many gaps");
    }
    e->records = to;
    rec_measure(r);
    return 0;
}

static int count_records(recording *r, edf *e, double claimed, char *error) {
    const int64_t body = r->in.size - e->header, whole = body / e->record_bytes;
    if (whole < 1)
        return rec_fail(error,
                        "holds no complete data record: the header claims records of %lld bytes, and %lld bytes follow it",
                        (long long)e->record_bytes, (long long)body);
    if (!(claimed >= 0))
        rec_note(r, "the header does not say how many data records there are; the file's size gives %lld", (long long)whole);
    else if (claimed > (double)whole)
        rec_note(r, "is truncated: the header claims %.0f data records, %lld are complete", claimed, (long long)whole);
    else if (claimed < (double)whole)
        rec_note(r, "the header claims %.0f data records, the file holds %lld: all are read", claimed, (long long)whole);
    if (body % e->record_bytes && !(claimed > (double)whole))
        rec_note(r, "%lld bytes after the last complete data record are left out", (long long)(body % e->record_bytes));
    return add_records(r, e, 0, whole, error);
}

/* A binary file that went through a text converter has U+FFFD where its bytes were: nothing can bring the samples back. */
static void look_for_damage(recording *r, const edf *e) {
    static const uint8_t mark[3] = {0xef, 0xbf, 0xbd};
    uint8_t block[8192];
    const int64_t n = random_bytes_read(&r->in, e->header, block, sizeof block);
    int64_t marks = 0;
    for (int64_t i = 0; i + 3 <= n; i++) marks += !memcmp(block + i, mark, 3);
    if (n > 256 && marks * 3 > n / 4)
        rec_note(r, "its samples are damaged: the bytes look as if they had been converted as UTF-8 text (%.0f %% are U+FFFD)",
                 300.0 * (double)marks / (double)n);
}

/* ---- samples ---- */

static void decode(const uint8_t *p, int32_t width, int64_t n, const rec_signal *s, double *to) {
    for (int64_t i = 0; i < n; i++, p += width) {
        const int32_t v = width == 2 ? (int16_t)(uint16_t)(p[0] | p[1] << 8)
                                     : (int32_t)((uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24) >> 8;
        to[i] = s->gain * v + s->offset;
    }
}

static int lost(int64_t k, int64_t got, char *error) {
    return rec_fail(error, "data record %lld cannot be read: %s", (long long)k,
                    got < 0 ? strerror(errno) : "the file became shorter");
}

/* Bytes of record k from `at` on, through the cache. */
static const uint8_t *record_bytes(recording *r, edf *e, int64_t k, char *error) {
    if (k < e->cache_first || k >= e->cache_first + e->cache_count) {
        int64_t want = e->records - k < e->cache_room ? e->records - k : e->cache_room;
        const int64_t got = random_bytes_read(&r->in, e->header + k * e->record_bytes, e->cache, want * e->record_bytes);
        e->cache_first = k;
        e->cache_count = got < 0 ? 0 : got / e->record_bytes;
        if (e->cache_count < 1) return lost(k, got, error), NULL;
    }
    return e->cache + (k - e->cache_first) * e->record_bytes;
}

static int read_large(recording *r, edf *e, int64_t k, int64_t at, int32_t width, int64_t n, const rec_signal *s, double *to,
                      char *error) {
    for (int64_t done = 0; done < n;) {
        const int64_t most = e->cache_bytes / width, now = n - done < most ? n - done : most;
        const int64_t got =
            random_bytes_read(&r->in, e->header + k * e->record_bytes + at + done * width, e->cache, now * width);
        if (got != now * width) return lost(k, got, error);
        decode(e->cache, width, now, s, to + done);
        done += now;
    }
    return 0;
}

static int edf_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error) {
    edf *e = r->state;
    const edf_place *place = &e->places[signal];
    while (n > 0) {
        const int64_t k = r->spans[span].first + from / place->samples, skip = from % place->samples;
        const int64_t now = place->samples - skip < n ? place->samples - skip : n;
        const int64_t at = place->at + skip * e->width;
        if (e->cache_room) {
            const uint8_t *record = record_bytes(r, e, k, error);
            if (!record) return -1;
            decode(record + at, e->width, now, &r->signals[signal], to);
        } else if (read_large(r, e, k, at, e->width, now, &r->signals[signal], to, error))
            return -1;
        from += now;
        to += now;
        n -= now;
    }
    return 0;
}

static int edf_refresh(recording *r, char *error) {
    edf *e = r->state;
    const int64_t whole = (random_bytes_size(&r->in) - e->header) / e->record_bytes;
    if (whole < e->records) return rec_fail(error, "became shorter while it was read");
    if (whole == e->records) return 0;
    return add_records(r, e, e->records, whole, error) ? -1 : 1;
}

static void edf_release(recording *r) {
    edf *e = r->state;
    if (!e) return;
    free(e->places);
    free(e->tals);
    free(e->cache);
    free(e->tal);
    free(e);
}

int edf_open(recording *r, char *error) {
    edf *e = calloc(1, sizeof *e);
    double claimed;
    r->state = e;
    r->release = edf_release;
    r->read = edf_read;
    r->refresh = edf_refresh;
    if (!e) return rec_fail(error, "out of memory");
    if (parse_header(r, e, &claimed, error)) return -1;
    if (e->record_bytes < 1) return rec_fail(error, "its data records are empty");
    e->cache_bytes = r->in.size > CACHE_BYTES ? CACHE_BYTES : r->in.size + 65536;
    e->cache_room = e->cache_bytes / e->record_bytes; /* 0: records too large, read in pieces */
    int64_t tal = 1;
    for (int32_t i = 0; i < e->n_tals; i++)
        if (e->tals[i].samples * e->width > tal) tal = e->tals[i].samples * e->width;
    e->cache = malloc((size_t)e->cache_bytes);
    e->tal = malloc((size_t)(tal < MOST_TAL_BYTES ? tal : MOST_TAL_BYTES));
    if (!e->cache || !e->tal) return rec_fail(error, "out of memory");
    if (count_records(r, e, claimed, error)) return -1;
    look_for_damage(r, e);
    if (e->stamped && fabs(e->origin) >= 1)
        rec_note(r, "the first data record begins %.3f s after the start time of the header", e->origin);
    return 0;
}

/* brainvision.c - BrainVision recordings: a header .vhdr that names a data file and a marker file beside it.
 *
 * Read: DataFormat BINARY, INT_16, UINT_16, INT_32 and IEEE_FLOAT_32 (little-endian), multiplexed or vectorised; markers, and
 * from "New Segment" markers with a date the gaps between segments. The named files must lie beside the header: a path in them
 * is cut off. Comments and marker types stay unread unless they are annotations; the format has no field for a patient.
 */
#include "recording.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MOST_CHANNELS = 4096, MOST_TEXT_BYTES = 64 << 20, PATH_BYTES = 4096, PIECE = 65536 };

typedef struct vision {
    int32_t width, is_float, is_unsigned, vectorised;
    int64_t samples;
    uint8_t *piece;
    double interval; /* microseconds */
    char data[512], markers[512];
} vision;

/* A whole text file, zero-terminated. */
static char *read_text(const char *path, char *error) {
    random_bytes in;
    if (random_bytes_open(&in, path))
        return rec_fail(error, "names the file '%.120s', which cannot be opened: %s",
                        strrchr(path, '/') ? strrchr(path, '/') + 1 : path, strerror(errno)),
               NULL;
    char *text = in.size <= MOST_TEXT_BYTES ? malloc((size_t)in.size + 1) : NULL;
    const int64_t got = text ? random_bytes_read(&in, 0, text, in.size) : -1;
    random_bytes_close(&in);
    if (got < 0) {
        free(text);
        return rec_fail(error, "is no header or marker text of at most 64 MiB"), NULL;
    }
    text[got] = 0;
    return text;
}

/* The next line of *at, trimmed; NULL at the end. Cuts the text up. */
static char *next_line(char **at) {
    char *line = *at;
    if (!line || !*line) return NULL;
    const size_t n = strcspn(line, "\r\n");
    *at = line + n;
    while (**at == '\r' || **at == '\n') *(*at)++ = 0;
    while (*line == ' ' || *line == '\t') line++;
    return line;
}

/* "\1" stands for a comma inside a part. */
static void part_text(const char *from, size_t n, char *to, size_t size) {
    char buffer[256];
    size_t used = 0;
    for (size_t i = 0; i < n && used + 1 < sizeof buffer; i++) {
        if (from[i] == '\\' && i + 1 < n && from[i + 1] == '1') {
            buffer[used++] = ',';
            i++;
        } else
            buffer[used++] = from[i];
    }
    rec_text(buffer, used, to, size);
}

/* Part i of "a,b,c". */
static void part(const char *list, int i, char *to, size_t size) {
    for (; i > 0 && *list; i--) {
        list += strcspn(list, ",");
        if (*list) list++;
    }
    part_text(list, strcspn(list, ","), to, size);
}

static int take_common(recording *r, vision *v, const char *key, const char *value, char *error) {
    if (!strcasecmp(key, "DataFile")) snprintf(v->data, sizeof v->data, "%s", value);
    if (!strcasecmp(key, "MarkerFile")) snprintf(v->markers, sizeof v->markers, "%s", value);
    if (!strcasecmp(key, "DataFormat") && strcasecmp(value, "BINARY"))
        return rec_fail(error, "its data are '%.20s', only BINARY is read", value);
    if (!strcasecmp(key, "DataOrientation")) v->vectorised = !strcasecmp(value, "VECTORIZED");
    if (!strcasecmp(key, "SamplingInterval")) v->interval = strtod(value, NULL);
    if (!strcasecmp(key, "NumberOfChannels")) {
        const long n = strtol(value, NULL, 10);
        if (n < 1 || n > MOST_CHANNELS || r->signals)
            return rec_fail(error, "its number of channels is not 1 to %d", MOST_CHANNELS);
        r->signals = calloc((size_t)n, sizeof *r->signals);
        if (!r->signals) return rec_fail(error, "out of memory");
        r->n_signals = (int32_t)n;
    }
    return 0;
}

static int take_format(vision *v, const char *value, char *error) {
    v->is_float = !strcasecmp(value, "IEEE_FLOAT_32");
    v->is_unsigned = !strcasecmp(value, "UINT_16");
    v->width = v->is_float || !strcasecmp(value, "INT_32") ? 4 : v->is_unsigned || !strcasecmp(value, "INT_16") ? 2 : 0;
    return v->width ? 0 : rec_fail(error, "its binary format '%.30s' is none of INT_16, UINT_16, INT_32, IEEE_FLOAT_32", value);
}

static void take_channel(recording *r, const char *key, const char *value) {
    const long i = strtol(key + 2, NULL, 10);
    if (i < 1 || i > r->n_signals) return;
    rec_signal *s = &r->signals[i - 1];
    char resolution[32];
    part(value, 0, s->label, sizeof s->label);
    part(value, 2, resolution, sizeof resolution);
    part(value, 3, s->unit, sizeof s->unit);
    const double gain = *resolution ? strtod(resolution, NULL) : 1;
    s->gain = gain > 0 && isfinite(gain) ? gain : 1;
    if (!*s->unit) snprintf(s->unit, sizeof s->unit, "µV");
}

static int parse_header(recording *r, vision *v, char *text, char *error) {
    char section[64] = "", *at = text, *line;
    int bad = 0;
    while (!bad && (line = next_line(&at)) != NULL) {
        if (*line == '[') {
            snprintf(section, sizeof section, "%.*s", (int)strcspn(line + 1, "]"), line + 1);
            if (!strcasecmp(section, "Comment")) break;
            continue;
        }
        char *equals = strchr(line, '=');
        if (*line == ';' || !equals) continue;
        *equals = 0;
        if (!strcasecmp(section, "Common Infos")) bad = take_common(r, v, line, equals + 1, error);
        if (!strcasecmp(section, "Binary Infos") && !strcasecmp(line, "BinaryFormat")) bad = take_format(v, equals + 1, error);
        if (!strcasecmp(section, "Channel Infos") && !strncasecmp(line, "Ch", 2)) take_channel(r, line, equals + 1);
    }
    if (bad) return -1;
    if (!r->n_signals) return rec_fail(error, "does not say its number of channels");
    if (!(v->interval >= 0.1 && v->interval <= 1e9)) /* 10 MHz to a sample in 17 minutes */
        return rec_fail(error, "does not say its sampling interval in microseconds");
    if (!v->width) return rec_fail(error, "does not say its binary format");
    if (!*v->data) return rec_fail(error, "does not name its data file");
    for (int32_t i = 0; i < r->n_signals; i++) {
        rec_signal *s = &r->signals[i];
        if (!*s->label) snprintf(s->label, sizeof s->label, "%d", i + 1);
        if (!(s->gain > 0)) s->gain = 1;
        s->rate = 1e6 / v->interval;
        s->physical_min = s->physical_max = s->digital_min = s->digital_max = NAN;
        if (!v->is_float) {
            s->digital_min = v->is_unsigned ? 0 : v->width == 2 ? INT16_MIN : INT32_MIN;
            s->digital_max = v->is_unsigned ? UINT16_MAX : v->width == 2 ? INT16_MAX : INT32_MAX;
            s->physical_min = s->digital_min * s->gain;
            s->physical_max = s->digital_max * s->gain;
        }
    }
    return 0;
}

/* A file named in the header, beside it; "$b" in the name is the header's own base name. */
static int beside(const char *header, const char *name, char *path, char *error) {
    const char *slash = strrchr(header, '/'), *base = name;
    for (const char *p = name; *p; p++)
        if (*p == '/' || *p == '\\') base = p + 1;
    const char *own = slash ? slash + 1 : header, *dot = strrchr(own, '.'), *mark = strstr(base, "$b");
    const int stem = dot ? (int)(dot - own) : (int)strlen(own);
    int n;
    if (mark)
        n = snprintf(path, PATH_BYTES, "%.*s%.*s%.*s%s", slash ? (int)(slash - header + 1) : 0, header, (int)(mark - base),
                     base, stem, own, mark + 2);
    else
        n = snprintf(path, PATH_BYTES, "%.*s%s", slash ? (int)(slash - header + 1) : 0, header, base);
    return n < 0 || n >= PATH_BYTES ? rec_fail(error, "names a file whose path is too long") : 0;
}

/* "20240131235959123456" -> seconds since a fixed day, or NaN. */
static double parse_date(recording *r, const char *text, int first) {
    int s[6];
    long micro;
    static const int least[6] = {1900, 1, 1, 0, 0, 0}, most[6] = {9999, 12, 31, 23, 59, 60};
    if (strspn(text, "0123456789") != 20 ||
        sscanf(text, "%4d%2d%2d%2d%2d%2d%6ld", &s[0], &s[1], &s[2], &s[3], &s[4], &s[5], &micro) != 7)
        return NAN;
    for (int i = 0; i < 6; i++)
        if (s[i] < least[i] || s[i] > most[i]) return NAN;
    struct tm tm = {
        .tm_year = s[0] - 1900, .tm_mon = s[1] - 1, .tm_mday = s[2], .tm_hour = s[3], .tm_min = s[4], .tm_sec = s[5]};
    const time_t seconds = timegm(&tm);
    if (first) {
        memcpy(r->start, s, sizeof s);
        r->has_start = 1;
    }
    return (double)seconds + 1e-6 * (double)micro;
}

typedef struct segments {
    int64_t begin;      /* first sample of the one that is open */
    double onset, zero; /* zero: date of the first */
} segments;

static int close_segment(recording *r, segments *s, int64_t end) {
    if (end <= s->begin) return 0;
    const double duration = (double)(end - s->begin) / r->signals[0].rate;
    const int bad = rec_add_span(r, s->onset, duration, s->begin, end - s->begin);
    s->onset += duration;
    s->begin = end;
    return bad;
}

/* A segment begins at sample `at`: after a gap when its date says so. */
static int new_segment(recording *r, segments *s, int64_t at, const char *date) {
    const double now = parse_date(r, date, isnan(s->zero));
    if (isnan(s->zero)) s->zero = now;
    if (at <= s->begin) return 0;
    const double since = now - s->zero, next = s->onset + (double)(at - s->begin) / r->signals[0].rate;
    if (isnan(since) || since < next + 1 / r->signals[0].rate) return 0; /* no gap: the span goes on */
    if (close_segment(r, s, at)) return -1;
    s->onset = since;
    return 0;
}

static int parse_markers(recording *r, vision *v, char *text, segments *s) {
    char *at = text, *line;
    while (at && (line = next_line(&at)) != NULL) {
        char *equals = strchr(line, '=');
        if (strncasecmp(line, "Mk", 2) || !equals) continue;
        char type[64], description[256], position[32], size[32], date[32];
        part(equals + 1, 0, type, sizeof type);
        part(equals + 1, 1, description, sizeof description);
        part(equals + 1, 2, position, sizeof position);
        part(equals + 1, 3, size, sizeof size);
        part(equals + 1, 5, date, sizeof date);
        const int64_t sample = strtoll(position, NULL, 10) - 1;
        if (sample < 0 || sample >= v->samples) continue;
        if (!strcasecmp(type, "New Segment")) {
            if (new_segment(r, s, sample, date)) return -1;
            continue;
        }
        char both[330];
        const int n = snprintf(both, sizeof both, "%s%s%s", type, *description ? "/" : "", description);
        const int64_t length = strtoll(size, NULL, 10);
        const double onset = s->onset + (double)(sample - s->begin) / r->signals[0].rate;
        if (rec_add_event(r, onset, length > 1 ? (double)length / r->signals[0].rate : -1, both, (size_t)n)) return -1;
    }
    return 0;
}

static int vision_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error) {
    vision *v = r->state;
    const rec_signal *s = &r->signals[signal];
    const int64_t frame = v->vectorised ? v->width : (int64_t)v->width * r->n_signals;
    const int64_t base = v->vectorised ? signal * v->samples * v->width : (int64_t)v->width * signal;
    for (int64_t i = r->spans[span].first + from; n > 0;) {
        int64_t now = (int64_t)PIECE * v->width / frame;
        if (now > n) now = n;
        if (now < 1) now = 1;
        const int64_t bytes = (now - 1) * frame + v->width;
        if (random_bytes_read(&r->in, base + i * frame, v->piece, bytes) != bytes)
            return rec_fail(error, "its data file cannot be read at sample %lld", (long long)i);
        for (int64_t k = 0; k < now; k++) {
            const uint8_t *p = v->piece + k * frame;
            const uint32_t bits = v->width == 2
                                      ? (uint32_t)(p[0] | p[1] << 8)
                                      : (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
            float f;
            memcpy(&f, &bits, 4);
            to[k] = s->gain * (v->is_float ? f : v->is_unsigned ? (double)bits : v->width == 2 ? (int16_t)bits : (int32_t)bits);
        }
        to += now;
        i += now;
        n -= now;
    }
    return 0;
}

static void vision_release(recording *r) {
    vision *v = r->state;
    if (v) free(v->piece);
    free(v);
}

static int open_data(recording *r, vision *v, const char *path, char *error) {
    char file[PATH_BYTES];
    random_bytes data;
    if (beside(path, v->data, file, error)) return -1;
    if (random_bytes_open(&data, file))
        return rec_fail(error, "names the data file '%.120s', which cannot be opened: %s", v->data, strerror(errno));
    random_bytes_close(&r->in);
    r->in = data;
    const int64_t frame = (int64_t)v->width * r->n_signals;
    v->samples = data.size / frame;
    if (v->samples < 1) return rec_fail(error, "its data file holds no complete sample of %d channels", r->n_signals);
    if (data.size % frame)
        rec_note(r, "%lld bytes at the end of the data file are no whole sample and are left out",
                 (long long)(data.size % frame));
    v->piece = malloc((size_t)PIECE * 4 + (size_t)frame);
    return v->piece ? 0 : rec_fail(error, "out of memory");
}

int brainvision_open(recording *r, const char *path, char *error) {
    char file[PATH_BYTES];
    segments s = {0, 0, NAN};
    vision *v = calloc(1, sizeof *v);
    r->state = v;
    r->release = vision_release;
    r->read = vision_read;
    r->format = "BrainVision";
    char *text = v ? read_text(path, error) : NULL;
    if (!v) return rec_fail(error, "out of memory");
    int bad = !text || parse_header(r, v, text, error) || open_data(r, v, path, error);
    free(text);
    if (bad) return -1;
    if (*v->markers) {
        if (beside(path, v->markers, file, error)) return -1;
        text = read_text(file, error);
        if (!text) rec_note(r, "its marker file cannot be read: no annotations, no gaps");
        bad = text && parse_markers(r, v, text, &s);
        free(text);
    }
    if (bad || close_segment(r, &s, v->samples)) return rec_fail(error, "out of memory, or too many segments");
    rec_measure(r);
    return 0;
}

/* mat.c - arrays of MATLAB MAT files, level 5 (versions 5 to 7, zlib or not), as recordings: the form of research clips.
 *
 * A file is a list of tagged elements; a compressed one inflates to another element. An array of numbers of two axes is the
 * recording (the largest, or the one asked for): its shorter axis holds the channels. A scalar fs, Fs, srate, sfreq, rate or
 * sampling_rate gives the rate; a character matrix or cell array channels, labels, ch_names, chan_names or channel_names the
 * labels. Cells, structs, sparse and complex arrays are passed over otherwise. No code in a file is ever run.
 * Every length is checked against the bytes that are there; what inflates is bounded by the caller's limit, not by its own
 * claim.
 */
#include "recording.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { TYPE_MATRIX = 14, TYPE_COMPRESSED = 15, CLASS_CELL = 1, CLASS_CHAR = 4, CLASS_FIRST_NUMBER = 6, CLASS_LAST_NUMBER = 15 };
enum { MOST_CHANNELS = 4096, NAME_BYTES = 64 };
static const uint64_t DEFAULT_MEMORY = (uint64_t)1 << 30;

/* An element: `p` points at its data. */
typedef struct element {
    uint32_t type;
    const uint8_t *p;
    size_t n;
} element;

typedef struct matrix {
    uint32_t class_, flags;
    int64_t rows, columns; /* 0 when there are more than two axes */
    char name[NAME_BYTES];
    element data; /* the real part; for cells everything after the name */
} matrix;

typedef struct mat {
    int swap;
    uint64_t limit;
    const char *wanted;
    uint8_t *block; /* holds the chosen array; owned */
    matrix chosen;
    int64_t channels, samples;
    int by_rows; /* channels are rows */
    double rate;
    char *labels; /* lines; owned */
    int n_labels, arrays;
    char names[160]; /* of the arrays that were seen */
} mat;

static uint32_t u32(const mat *m, const uint8_t *p) {
    return m->swap ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]
                   : (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* Reads the element at *at of the n bytes at p and moves behind its padding. 0 when there is none, -1 when it is damaged. */
static int next_element(const mat *m, const uint8_t *p, size_t n, size_t *at, element *e) {
    if (*at > n || n - *at < 8) return 0;
    const uint32_t word = u32(m, p + *at);
    if (word >> 16) { /* small form: type and size share a word, data follows in the tag */
        *e = (element){word & 0xffff, p + *at + 4, word >> 16};
        if (e->n > 4) return -1;
        *at += 8;
        return 1;
    }
    *e = (element){word, p + *at + 8, u32(m, p + *at + 4)};
    if (e->n > n - *at - 8) return -1;
    *at += 8 + e->n;
    if (e->type != TYPE_COMPRESSED) *at += (8 - e->n % 8) % 8;
    return 1;
}

/* The parts of a matrix element. -1: damaged or of no use. */
static int parse_matrix(const mat *m, const uint8_t *p, size_t n, matrix *x) {
    size_t at = 0;
    element e;
    memset(x, 0, sizeof *x);
    if (next_element(m, p, n, &at, &e) != 1 || e.n < 8) return -1;
    const uint32_t flags = u32(m, e.p);
    x->class_ = flags & 0xff;
    x->flags = flags >> 8 & 0xff;
    if (next_element(m, p, n, &at, &e) != 1 || e.n < 8) return -1;
    if (e.n == 8) {
        x->rows = (int32_t)u32(m, e.p);
        x->columns = (int32_t)u32(m, e.p + 4);
        if (x->rows < 0 || x->columns < 0) return -1;
    }
    if (next_element(m, p, n, &at, &e) != 1) return -1;
    rec_text(e.p, e.n, x->name, sizeof x->name);
    if (x->class_ == CLASS_CELL) {
        x->data = at <= n ? (element){0, p + at, n - at} : (element){0, p, 0};
        return 0;
    }
    if (x->class_ != CLASS_CHAR && (x->class_ < CLASS_FIRST_NUMBER || x->class_ > CLASS_LAST_NUMBER)) return -1;
    return next_element(m, p, n, &at, &x->data) == 1 ? 0 : -1;
}

static size_t type_size(uint32_t type) {
    static const uint8_t sizes[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8, 0, 0, 1, 2, 4};
    return type < sizeof sizes ? sizes[type] : 0;
}

/* Whether rows * columns values are really there. */
static int is_whole(const matrix *x) {
    const size_t size = type_size(x->data.type);
    return size && x->rows > 0 && x->columns > 0 && (uint64_t)x->rows <= x->data.n / size / (uint64_t)x->columns;
}

static double value_at(const mat *m, const matrix *x, int64_t i) {
    uint8_t b[8];
    const size_t size = type_size(x->data.type);
    const uint8_t *p = x->data.p + (size_t)i * size;
    for (size_t k = 0; k < size; k++) b[k] = m->swap ? p[size - 1 - k] : p[k];
    uint64_t bits = 0;
    for (size_t k = 0; k < size; k++) bits |= (uint64_t)b[k] << 8 * k;
    float f;
    double d;
    const uint32_t low = (uint32_t)bits;
    switch (x->data.type) {
    case 1:
        return (int8_t)bits;
    case 3:
        return (int16_t)bits;
    case 5:
        return (int32_t)bits;
    case 7:
        return memcpy(&f, &low, 4), f;
    case 9:
        return memcpy(&d, &bits, 8), d;
    case 12:
        return (double)(int64_t)bits;
    default:
        return (double)bits;
    }
}

static int one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (!strcmp(name, *names)) return 1;
    return 0;
}

static int add_label(mat *m, const matrix *x, int64_t row) {
    char text[96];
    size_t n = 0;
    for (int64_t c = 0; c < x->columns && n + 1 < sizeof text; c++) {
        const double code = value_at(m, x, c * x->rows + row);
        text[n++] = code > 0 && code < 256 ? (char)(uint8_t)code : ' ';
    }
    char clean[200];
    rec_text(text, n, clean, sizeof clean);
    const size_t have = m->labels ? strlen(m->labels) : 0;
    char *grown = m->n_labels < MOST_CHANNELS ? realloc(m->labels, have + strlen(clean) + 2) : NULL;
    if (!grown) return -1;
    m->labels = grown;
    sprintf(grown + have, "%s\n", clean);
    m->n_labels++;
    return 0;
}

static void take_labels(mat *m, const matrix *x) {
    if (m->labels) return;
    if (x->class_ == CLASS_CHAR && is_whole(x)) {
        for (int64_t r = 0; r < x->rows && !add_label(m, x, r); r++) {}
        return;
    }
    size_t at = 0;
    element e;
    matrix cell;
    while (x->class_ == CLASS_CELL && next_element(m, x->data.p, x->data.n, &at, &e) == 1 && e.type == TYPE_MATRIX)
        if (parse_matrix(m, e.p, e.n, &cell) || cell.class_ != CLASS_CHAR || !is_whole(&cell) || add_label(m, &cell, 0)) return;
}

/* Looks at a matrix that lies in `block` (owned by the caller). 1: the block is kept. */
static int take_matrix(mat *m, const uint8_t *p, size_t n, uint8_t *block) {
    static const char *const rates[] = {"fs", "Fs", "FS", "srate", "sfreq", "rate", "sampling_rate", NULL};
    static const char *const labels[] = {"channels", "labels", "ch_names", "chan_names", "channel_names", "chnames", NULL};
    matrix x;
    if (parse_matrix(m, p, n, &x)) return 0;
    if (one_of(x.name, labels)) take_labels(m, &x);
    if (x.class_ < CLASS_FIRST_NUMBER || !is_whole(&x) || x.flags & 0x08) return 0;
    if (x.rows == 1 && x.columns == 1) {
        if (one_of(x.name, rates)) m->rate = value_at(m, &x, 0);
        return 0;
    }
    const size_t used = strlen(m->names);
    if (used + strlen(x.name) + 3 < sizeof m->names) sprintf(m->names + used, "%s%s", used ? ", " : "", x.name);
    m->arrays++;
    if (m->wanted ? strcmp(m->wanted, x.name) : m->block && x.rows * x.columns <= m->chosen.rows * m->chosen.columns) return 0;
    free(m->block);
    m->block = block;
    m->chosen = x;
    return 1;
}

/* Inflates [at, at + n) of the file into a block that grows as it must. */
static uint8_t *inflate_element(recording *r, const mat *m, int64_t at, int64_t n, size_t *size, char *error) {
    z_stream z;
    memset(&z, 0, sizeof z);
    uint8_t in[16384], *out = NULL;
    size_t room = 0, have = 0;
    int state = Z_OK, bad = inflateInit(&z) != Z_OK ? rec_fail(error, "out of memory") : 0;
    if (bad) return NULL;
    while (!bad && state != Z_STREAM_END) {
        if (z.avail_in == 0 && n > 0) {
            const int64_t got = random_bytes_read(&r->in, at, in, n < (int64_t)sizeof in ? n : (int64_t)sizeof in);
            if (got < 1) bad = rec_fail(error, "cannot be read to its end");
            z.next_in = in;
            z.avail_in = got > 0 ? (uInt)got : 0;
            at += got;
            n -= got;
        }
        if (have == room) {
            room = room ? 2 * room : 65536;
            if (room > m->limit + 65536) room = (size_t)m->limit + 65536;
            uint8_t *grown = have >= m->limit ? NULL : realloc(out, room);
            if (!grown)
                bad = rec_fail(error,
                               have >= m->limit ? "an array takes more than %llu MiB; raise --memory"
                                                : "out of memory (%llu MiB allowed)",
                               (unsigned long long)(m->limit >> 20));
            if (grown) out = grown;
        }
        if (bad) break;
        const size_t most = room - have < (1u << 30) ? room - have : (1u << 30);
        z.next_out = out + have;
        z.avail_out = (uInt)most;
        state = inflate(&z, Z_NO_FLUSH);
        have += most - z.avail_out;
        if (state != Z_OK && state != Z_STREAM_END && !(state == Z_BUF_ERROR && n > 0))
            bad = rec_fail(error, "a compressed array is damaged or truncated");
    }
    inflateEnd(&z);
    if (!bad) return *size = have, out;
    free(out);
    return NULL;
}

static uint8_t *read_element(recording *r, const mat *m, int64_t at, int64_t n, size_t *size, char *error) {
    if ((uint64_t)n > m->limit)
        return rec_fail(error, "an array takes more than %llu MiB; raise --memory", (unsigned long long)(m->limit >> 20)), NULL;
    uint8_t *block = malloc((size_t)n + 1);
    if (!block) return rec_fail(error, "out of memory"), NULL;
    if (random_bytes_read(&r->in, at, block, n) == n) return *size = (size_t)n, block;
    free(block);
    return rec_fail(error, "cannot be read: %s", strerror(errno)), NULL;
}

static int scan(recording *r, mat *m, char *error) {
    for (int64_t at = 128; r->in.size - at >= 8;) {
        uint8_t tag[8];
        if (random_bytes_read(&r->in, at, tag, 8) != 8) return rec_fail(error, "cannot be read to its end");
        const uint32_t type = u32(m, tag);
        const int64_t n = u32(m, tag + 4), body = at + 8;
        if (type >> 16) { /* a small element: nothing that we look for */
            at = body;
            continue;
        }
        if (n > r->in.size - body)
            return rec_fail(error, "is truncated: the element at byte %lld needs %lld bytes, %lld are left", (long long)at,
                            (long long)n, (long long)(r->in.size - body));
        at = body + n + (type == TYPE_COMPRESSED ? 0 : (8 - n % 8) % 8);
        if (type != TYPE_COMPRESSED && type != TYPE_MATRIX) continue;
        size_t size = 0, inner = 0;
        uint8_t *block =
            type == TYPE_COMPRESSED ? inflate_element(r, m, body, n, &size, error) : read_element(r, m, body, n, &size, error);
        if (!block) return -1;
        element e = {TYPE_MATRIX, block, size};
        int good = type == TYPE_MATRIX || (next_element(m, block, size, &inner, &e) == 1 && e.type == TYPE_MATRIX);
        if (!good || !take_matrix(m, e.p, e.n, block)) free(block);
    }
    return 0;
}

static int mat_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error) {
    const mat *m = r->state;
    (void)span;
    (void)error;
    for (int64_t i = 0; i < n; i++)
        to[i] = value_at(m, &m->chosen, m->by_rows ? (from + i) * m->channels + signal : signal * m->samples + from + i);
    return 0;
}

static void mat_release(recording *r) {
    mat *m = r->state;
    if (!m) return;
    free(m->block);
    free(m->labels);
    free(m);
}

/* The i-th part of a list, split at any of `marks`. */
static int list_part(const char *list, const char *marks, int64_t i, char *to, size_t size) {
    for (; list && *list && i > 0; i--) {
        list += strcspn(list, marks);
        if (*list) list++;
    }
    if (!list || !*list) return -1;
    rec_text(list, strcspn(list, marks), to, size);
    return 0;
}

static int64_t list_count(const char *list, const char *marks) {
    char part[8];
    int64_t n = 0;
    while (n <= MOST_CHANNELS && !list_part(list, marks, n, part, sizeof part)) n++;
    return n;
}

static int build(recording *r, mat *m, const rec_options *o, char *error) {
    if (!m->block) {
        if (m->wanted)
            return rec_fail(error, "holds no array '%.60s' of numbers with two axes; it has: %s", m->wanted,
                            m->arrays ? m->names : "none");
        return rec_fail(error, "holds no array of numbers with two axes");
    }
    const matrix *x = &m->chosen;
    const char *labels = o->labels ? o->labels : m->labels, *marks = o->labels ? "," : "\n";
    const int64_t named = list_count(labels, marks);
    m->by_rows = named == x->rows && named != x->columns   ? 1
                 : named == x->columns && named != x->rows ? 0
                                                           : x->rows <= x->columns;
    m->channels = m->by_rows ? x->rows : x->columns;
    m->samples = m->by_rows ? x->columns : x->rows;
    if (o->labels && named != m->channels)
        return rec_fail(error, "array '%s' is %lld x %lld, but %lld channel names are given", x->name, (long long)x->rows,
                        (long long)x->columns, (long long)named);
    if (m->channels > MOST_CHANNELS) return rec_fail(error, "array '%s' has more than %d channels", x->name, MOST_CHANNELS);
    if (o->rate > 0) m->rate = o->rate;
    if (!(m->rate > 0) || !isfinite(m->rate))
        return rec_fail(error, "array '%s' comes without a sampling rate; give --rate HZ", x->name);
    r->signals = calloc((size_t)m->channels, sizeof *r->signals);
    if (!r->signals) return rec_fail(error, "out of memory");
    r->n_signals = (int32_t)m->channels;
    for (int32_t i = 0; i < r->n_signals; i++) {
        rec_signal *s = &r->signals[i];
        if (named != m->channels || list_part(labels, marks, i, s->label, sizeof s->label))
            snprintf(s->label, sizeof s->label, "%d", i + 1);
        snprintf(s->unit, sizeof s->unit, "uV");
        s->rate = m->rate;
        s->gain = 1;
        s->physical_min = s->physical_max = s->digital_min = s->digital_max = NAN;
    }
    rec_note(r, "array '%s', %lld channels of %lld samples, taken to be in uV", x->name, (long long)m->channels,
             (long long)m->samples);
    if (rec_add_span(r, 0, (double)m->samples / m->rate, 0, m->samples)) return rec_fail(error, "out of memory");
    rec_measure(r);
    return 0;
}

int mat_open(recording *r, const rec_options *options, char *error) {
    const rec_options none = {0};
    const rec_options *o = options ? options : &none;
    mat *m = calloc(1, sizeof *m);
    uint8_t order[2];
    r->state = m;
    r->release = mat_release;
    r->read = mat_read;
    r->format = "MAT v5";
    if (!m) return rec_fail(error, "out of memory");
    m->limit = o->memory ? o->memory : DEFAULT_MEMORY;
    m->wanted = o->variable;
    if (random_bytes_read(&r->in, 126, order, 2) != 2) return rec_fail(error, "is truncated");
    if (order[0] == 'M' && order[1] == 'I')
        m->swap = 1;
    else if (order[0] != 'I' || order[1] != 'M')
        return rec_fail(error, "is no MAT v5 file: its byte order mark (byte 126) is damaged");
    return scan(r, m, error) ? -1 : build(r, m, o, error);
}

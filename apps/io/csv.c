/* csv.c - one buffer that holds the record at hand, cut in place into zero-terminated fields. See csv.h.
 *
 * Invariants: buffer[begin, end) is what was read and not yet used; buffer[end] may be written. A record is at most MAX_RECORD
 * bytes. `scan` remembers how far the search for the record's end has come, so that a long record is looked at once.
 */
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16, MAX_RECORD = 1 << 24 };

struct csv {
    csv_fill fill;
    void *user;
    char *buffer;
    size_t begin, end, room;
    int begun, at_end;
    char separator; /* 0 until the first record */
    csv_field *fields;
    int n_fields, fields_room;
    int64_t row, next_row;
    char error[160];
};

/* How far the search for a record's end has come. */
typedef struct scan {
    size_t at;
    int quoted, field_start, closed; /* closed: the byte before closed a quote */
    int64_t lines;
} scan;

csv *csv_open(csv_fill fill, void *user) {
    csv *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->fill = fill;
    c->user = user;
    c->next_row = 1;
    return c;
}

void csv_close(csv *c) {
    if (!c) return;
    free(c->buffer);
    free(c->fields);
    free(c);
}

const csv_field *csv_fields(const csv *c, int *n) {
    *n = c->n_fields;
    return c->fields;
}

int64_t csv_row(const csv *c) {
    return c->row;
}

char csv_separator(const csv *c) {
    return c->separator;
}

const char *csv_error(const csv *c) {
    return c->error;
}

static int fail(csv *c, const char *what) {
    snprintf(c->error, sizeof c->error, "row %lld: %s", (long long)c->row, what);
    return -1;
}

/* More bytes after `end`. 1, 0 at the end of the input, -1. Moves what is unused to the front when the room is used up. */
static int more(csv *c, size_t *at) {
    if (c->at_end) return 0;
    if (c->begin && c->room - c->end < CHUNK / 2) {
        memmove(c->buffer, c->buffer + c->begin, c->end - c->begin);
        c->end -= c->begin;
        *at -= c->begin;
        c->begin = 0;
    }
    if (c->end - c->begin >= MAX_RECORD) return fail(c, "is longer than 16 MiB; is a quote not closed?");
    if (c->room - c->end < CHUNK / 2) {
        const size_t room = c->room ? 2 * c->room : CHUNK;
        char *buffer = realloc(c->buffer, room + 1);
        if (!buffer) return fail(c, "out of memory");
        c->buffer = buffer;
        c->room = room;
    }
    const int64_t n = c->fill(c->user, c->buffer + c->end, c->room - c->end);
    if (n < 0) return c->error[0] = 0, -1;
    c->at_end = n == 0;
    c->end += (size_t)n;
    return n > 0;
}

static int is_separator(const csv *c, char byte) {
    return c->separator ? byte == c->separator : byte == ',' || byte == ';' || byte == '\t';
}

/* Goes on to the end of the record (its LF or CR) within what is in the buffer. 1 when it is there. A quote opens a quoted
 * field only where a field begins (after blanks). */
static int scan_on(const csv *c, scan *s) {
    for (; s->at < c->end; s->at++) {
        const char byte = c->buffer[s->at];
        const int closed = s->closed;
        s->closed = 0;
        if (byte == '\n') s->lines++;
        if (s->quoted) {
            if (byte == '"') s->quoted = 0, s->closed = 1; /* of a doubled quote the second opens again */
        } else if (byte == '\n' || byte == '\r') {
            return 1;
        } else if (byte == '"' && (s->field_start || closed)) {
            s->quoted = 1;
            s->field_start = 0;
        } else if (is_separator(c, byte))
            s->field_start = 1;
        else if (byte != ' ')
            s->field_start = 0;
    }
    return 0;
}

int csv_ready(const csv *c) {
    scan s = {.at = c->begin, .field_start = 1};
    return scan_on(c, &s);
}

/* The separator that the first record has most of outside of quotes; a comma when it has none. */
static char find_separator(const char *text, size_t length) {
    static const char kinds[] = "\t;,";
    size_t count[3] = {0};
    int quoted = 0, best = 2;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"') quoted = !quoted;
        for (int k = 0; k < 3; k++) count[k] += !quoted && text[i] == kinds[k];
    }
    for (int k = 2; k >= 0; k--)
        if (count[k] > count[best]) best = k;
    return kinds[best];
}

static int add_field(csv *c, const char *text, size_t length, int quoted) {
    if (c->n_fields == CSV_MAX_FIELDS) return fail(c, "has more than 65536 columns");
    if (c->n_fields == c->fields_room) {
        const int room = c->fields_room ? 2 * c->fields_room : 16;
        csv_field *fields = realloc(c->fields, (size_t)room * sizeof *fields);
        if (!fields) return fail(c, "out of memory");
        c->fields = fields;
        c->fields_room = room;
    }
    if (memchr(text, 0, length)) return fail(c, "holds a zero byte; is this text?");
    c->fields[c->n_fields++] = (csv_field){text, length, quoted};
    return 0;
}

/* The quoted field that begins at text[at] == '"'. Unquotes in place, moves *at behind it; its length, or -1. */
static int64_t unquote(csv *c, char *text, size_t *at, size_t length) {
    size_t from = *at + 1, to = *at + 1;
    for (; from < length; from++) {
        if (text[from] == '"') {
            if (from + 1 < length && text[from + 1] == '"')
                from++;
            else
                break;
        }
        text[to++] = text[from];
    }
    if (from == length) return fail(c, "a quote is not closed");
    const size_t begin = *at + 1;
    *at = from + 1;
    while (*at < length && text[*at] == ' ') ++*at;
    if (*at < length && text[*at] != c->separator) return fail(c, "text follows a closing quote");
    if (to < length) text[to] = 0;
    return (int64_t)(to - begin);
}

/* Cuts text[0, length) into fields. text[length] may be written. */
static int cut(csv *c, char *text, size_t length) {
    c->n_fields = 0;
    for (size_t at = 0;; at++) {
        while (at < length && text[at] == ' ') at++;
        if (at < length && text[at] == '"') {
            char *begin = text + at + 1;
            const int64_t n = unquote(c, text, &at, length);
            if (n < 0) return -1;
            begin[n] = 0;
            if (add_field(c, begin, (size_t)n, 1)) return -1;
        } else {
            const char *stop = at < length ? memchr(text + at, c->separator, length - at) : NULL;
            const size_t end = stop ? (size_t)(stop - text) : length;
            size_t last = end;
            while (last > at && text[last - 1] == ' ') last--;
            if (add_field(c, text + at, last - at, 0)) return -1;
            text[last] = 0;
            at = end;
        }
        if (at >= length) return 1;
    }
}

/* Passes the byte-order mark that the input may begin with. 0 or -1. */
static int skip_mark(csv *c) {
    size_t at = c->begin;
    int got = 1;
    c->begun = 1;
    while (c->end - c->begin < 3 && got > 0) got = more(c, &at);
    if (got < 0) return -1;
    if (c->end - c->begin >= 3 && !memcmp(c->buffer + c->begin, "\xEF\xBB\xBF", 3)) c->begin += 3;
    return 0;
}

/* One line end: LF, CR, or CRLF, whose LF may still have to be read. */
static int pass_line_end(csv *c, size_t *end) {
    int got = 1;
    if (c->buffer[*end] == '\r') {
        if (*end + 1 == c->end) got = more(c, end);
        if (got < 0) return -1;
        if (*end + 1 < c->end && c->buffer[*end + 1] == '\n') ++*end;
    }
    ++*end;
    return 0;
}

int csv_next(csv *c) {
    c->row = c->next_row;
    if (!c->begun && skip_mark(c)) return -1;
    for (;;) {
        scan s = {.at = c->begin, .field_start = 1};
        int got = 1, found;
        c->row = c->next_row;
        while (!(found = scan_on(c, &s)) && got > 0) got = more(c, &s.at);
        if (got < 0) return -1;
        size_t length = s.at - c->begin, end = s.at;
        if (!found && !length) return 0;
        if (found && c->buffer[end] == '\n') s.lines--;
        if (found && pass_line_end(c, &end)) return -1; /* may move the buffer: the record stays at begin */
        c->next_row += s.lines + found;
        char *text = c->buffer + c->begin;
        c->begin = end;
        size_t blank = 0;
        while (blank < length && text[blank] == ' ') blank++;
        if (blank == length || (!c->separator && text[blank] == '#')) continue;
        if (!c->separator) c->separator = find_separator(text, length);
        return cut(c, text, length);
    }
}

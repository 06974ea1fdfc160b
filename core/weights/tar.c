/* tar.c - a plain tar archive that holds one weights file and texts about it, as some training code saves its models (often
 * under a name that promises compression).
 *
 * The one member that is a weights file is read where it lies; members named *.json become metadata under their names.
 * Whatever else there is (folders, links, extended headers) is stepped over; nothing is ever unpacked. Every header's
 * checksum is compared, sizes are those that fit the file, and what is kept is never more than the file itself. Formats:
 * POSIX ustar, pax, GNU; IEEE 1003.1-1988. */
#include <inttypes.h>
#include <string.h>

#include "../checked.h"
#include "reader.h"

#define BLOCK        512u
#define MOST_TEXTS   64
#define MOST_MEMBERS ((uint64_t)1 << 16)

bool tar_is(const uint8_t *data, uint64_t size) {
    return size >= BLOCK && memcmp(data + 257, "ustar", 5) == 0;
}

typedef struct member {
    char name[256];
    char type;
    const uint8_t *data;
    uint64_t size;
} member;

static strand_status bad_at(const weights *w, uint64_t at, const char *why, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: byte %" PRIu64 ": %s", w->path, at, why);
}

/* Octal digits, ended by a space, a zero or the field's end, or a binary number behind a byte of 0x80. False for anything
 * else. */
static bool number(const uint8_t *field, size_t width, uint64_t *out) {
    size_t i = 0;
    *out = 0;
    if (field[0] == 0x80) {
        for (i = 1; i < width; i++) {
            if (*out >> 56) return false;
            *out = *out << 8 | field[i];
        }
        return true;
    }
    while (i < width && field[i] == ' ') i++;
    size_t begin = i;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) {
        if (*out >> 61) return false;
        *out = *out << 3 | (uint64_t)(field[i] - '0');
    }
    return i > begin && (i == width || field[i] == ' ' || field[i] == 0);
}

/* The sum of the header's bytes, its own field counted as spaces. */
static bool sum_holds(const uint8_t *h) {
    uint64_t stored, sum = 0;
    for (unsigned i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? ' ' : h[i];
    return number(h + 148, 8, &stored) && stored == sum;
}

static void name_of(const uint8_t *h, char name[256]) {
    size_t prefix = strnlen((const char *)h + 345, 155), n = strnlen((const char *)h, 100), at = 0;
    if (memcmp(h + 257, "ustar\0", 6) == 0 && prefix) { /* POSIX alone: GNU keeps other things there */
        memcpy(name, h + 345, prefix);
        name[prefix] = '/';
        at = prefix + 1;
    }
    if (n > 255 - at) n = 255 - at;
    memcpy(name + at, h, n);
    name[at + n] = 0;
}

/* The member whose header stands at *at, which moves behind it. *end: there are no more. */
static strand_status next_member(const weights *w, uint64_t *at, member *m, bool *end, error *e) {
    const uint8_t *h = w->data + *at;
    static const uint8_t zeros[BLOCK];
    uint64_t whole;
    *end = w->size - *at < BLOCK || memcmp(h, zeros, BLOCK) == 0;
    if (*end)
        return w->size == *at || w->size - *at >= BLOCK
                   ? STRAND_OK
                   : bad_at(w, *at, "the archive ends within a header; it is cut short, fetch it again", e);
    if (!sum_holds(h)) return bad_at(w, *at, "a tar header whose checksum does not hold; the file is damaged", e);
    if (!number(h + 124, 12, &m->size) || !checked_align(m->size, BLOCK, &whole))
        return bad_at(w, *at, "a tar member without a sound size", e);
    name_of(h, m->name);
    m->type = (char)h[156];
    m->data = h + BLOCK;
    if (!checked_range(*at + BLOCK, m->size, w->size))
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: member %.100s reaches past the end of the file; it is cut short, fetch it again", w->path,
                         m->name);
    uint64_t next;
    if (!checked_add(*at + BLOCK, whole, &next) || next > w->size) next = w->size; /* the last one's padding may be missing */
    *at = next;
    return STRAND_OK;
}

static bool is_text(const member *m) {
    size_t n = strlen(m->name);
    return n > 5 && !strcmp(m->name + n - 5, ".json") && !memchr(m->data, 0, (size_t)m->size);
}

/* The texts of the archive, beside those that the weights file itself has. */
typedef struct texts {
    weights_text all[MOST_TEXTS];
    int64_t n;
} texts;

static strand_status keep_text(weights *w, texts *t, const member *m, error *e) {
    const char *slash = strrchr(m->name, '/'), *name = slash ? slash + 1 : m->name;
    if (t->n == MOST_TEXTS)
        return error_set(e, STRAND_ERR_FORMAT, "%s: more than %d texts in the archive", w->path, MOST_TEXTS);
    weights_text *to = &t->all[t->n++];
    to->key = arena_string(&w->arena, name, strlen(name));
    to->value = arena_string(&w->arena, (const char *)m->data, (size_t)m->size);
    return to->key && to->value ? STRAND_OK : weights_no_memory(w->path, e);
}

static strand_status find_weights(weights *w, texts *t, member *found, error *e) {
    member m;
    bool end = false;
    uint64_t count = 0;
    for (uint64_t at = 0; !end && at <= w->size;) {
        strand_status status = next_member(w, &at, &m, &end, e);
        if (status) return status;
        if (end || (m.type != '0' && m.type != 0 && m.type != '7')) continue;
        if (++count > MOST_MEMBERS) return error_set(e, STRAND_ERR_FORMAT, "%s: more than 65536 files in the archive", w->path);
        if (is_text(&m)) {
            if ((status = keep_text(w, t, &m, e))) return status;
        } else if (weights_is_part(m.data, m.size)) {
            if (found->data)
                return error_set(e, STRAND_ERR_FORMAT,
                                 "%s: %.100s and %.100s in the archive are both weights; unpack it and give one of them",
                                 w->path, found->name, m.name);
            *found = m;
        }
    }
    return found->data ? STRAND_OK
                       : error_set(e, STRAND_ERR_FORMAT, "%s: a tar archive without a weights file of a known format", w->path);
}

strand_status tar_read(weights *w, error *e) {
    member found = {.size = 0};
    texts t = {.n = 0};
    strand_status status = find_weights(w, &t, &found, e);
    if (!status) status = weights_read_part(w, found.data, found.size, e);
    if (status) return status;
    const char *format = arena_printf(&w->arena, "%s in tar", w->format);
    weights_text *all = ARENA_ARRAY(&w->arena, weights_text, (size_t)(t.n + w->n_metadata + 1));
    if (!format || !all) return weights_no_memory(w->path, e);
    memcpy(all, t.all, (size_t)t.n * sizeof *all);
    if (w->n_metadata) memcpy(all + t.n, w->metadata, (size_t)w->n_metadata * sizeof *all);
    w->metadata = all;
    w->n_metadata += t.n;
    w->format = format;
    return STRAND_OK;
}

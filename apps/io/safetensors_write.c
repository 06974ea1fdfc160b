/* safetensors_write.c - safetensors files, written front to back. See safetensors_write.h.
 */
#include "safetensors_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct st_writer {
    output *out;
    strand_tensor *tensors; /* bytes: written so far */
    const char *const *metadata;
    int32_t n, current;
    size_t room; /* of the header's text */
};

/* JSON text of a string. With to == NULL: only its length. */
static size_t quote(char *to, const char *text) {
    size_t n = 0;
    char piece[8];
#define PUT(c) (to ? (void)(to[n] = (c)) : (void)0, n++)
    PUT('"');
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            PUT('\\');
            PUT((char)c);
        } else if (c < 0x20) {
            snprintf(piece, sizeof piece, "\\u%04x", c);
            for (int i = 0; i < 6; i++) PUT(piece[i]);
        } else
            PUT((char)c);
    }
    PUT('"');
#undef PUT
    return n;
}

static size_t header_room(const st_writer *w) {
    size_t room = 32;
    for (int i = 0; w->metadata && w->metadata[i]; i++) room += quote(NULL, w->metadata[i]) + 2;
    for (int32_t i = 0; i < w->n; i++) room += quote(NULL, w->tensors[i].name) + 64 + 21 * (size_t)(w->tensors[i].rank + 2);
    return (room + 7) / 8 * 8;
}

static int write_blank(output *out, size_t bytes) {
    char blank[256];
    memset(blank, ' ', sizeof blank);
    for (; bytes; bytes -= bytes < sizeof blank ? bytes : sizeof blank)
        if (output_write(out, blank, bytes < sizeof blank ? bytes : sizeof blank)) return -1;
    return 0;
}

st_writer *st_open(output *out, const strand_tensor *tensors, int32_t n, const char *const *metadata) {
    st_writer *w = calloc(1, sizeof *w);
    if (w) w->tensors = calloc((size_t)n + 1, sizeof *w->tensors);
    if (!w || !w->tensors) {
        free(w);
        return complain("out of memory"), NULL;
    }
    memcpy(w->tensors, tensors, (size_t)n * sizeof *tensors);
    for (int32_t i = 0; i < n; i++) w->tensors[i].bytes = 0;
    w->out = out;
    w->n = n;
    w->metadata = metadata;
    w->room = header_room(w);
    if (write_blank(out, 8 + w->room)) {
        free(w->tensors);
        free(w);
        return NULL;
    }
    return w;
}

int st_write(st_writer *w, const void *data, size_t bytes) {
    w->tensors[w->current].bytes += bytes;
    return output_write(w->out, data, bytes);
}

int st_next(st_writer *w, int64_t rows) {
    strand_tensor *t = &w->tensors[w->current];
    if (t->dims[0] < 0 && t->rank) t->dims[0] = rows;
    uint64_t bytes = strand_dtype_size(t->dtype);
    for (int32_t i = 0; i < t->rank; i++) bytes *= (uint64_t)t->dims[i];
    if (bytes != t->bytes) return complain("tensor '%s': %" PRIu64 " bytes instead of %" PRIu64, t->name, t->bytes, bytes), -1;
    w->current++;
    return 0;
}

static size_t header_text(const st_writer *w, char *text) {
    size_t n = 0;
    uint64_t at = 0;
    text[n++] = '{';
    for (int i = 0; w->metadata && w->metadata[i]; i += 2) {
        n += (size_t)sprintf(text + n, "%s", i ? "," : "\"__metadata__\":{");
        n += quote(text + n, w->metadata[i]);
        text[n++] = ':';
        n += quote(text + n, w->metadata[i + 1]);
    }
    if (w->metadata && w->metadata[0]) n += (size_t)sprintf(text + n, "}%s", w->n ? "," : "");
    for (int32_t i = 0; i < w->n; i++) {
        const strand_tensor *t = &w->tensors[i];
        if (i) text[n++] = ',';
        n += quote(text + n, t->name);
        n += (size_t)sprintf(text + n, ":{\"dtype\":\"%s\",\"shape\":[", strand_dtype_name(t->dtype));
        for (int32_t k = 0; k < t->rank; k++) n += (size_t)sprintf(text + n, "%s%" PRId64, k ? "," : "", t->dims[k]);
        n += (size_t)sprintf(text + n, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, at + t->bytes);
        at += t->bytes;
    }
    text[n++] = '}';
    return n;
}

int st_close(st_writer *w, int keep) {
    int rc = keep && w->current != w->n ? -1 : 0;
    if (keep && !rc) {
        char *text = malloc(8 + w->room + 64);
        if (!text) {
            rc = (complain("out of memory"), -1);
        } else {
            memset(text, ' ', 8 + w->room);
            for (int i = 0; i < 8; i++) text[i] = (char)(unsigned char)((uint64_t)w->room >> (8 * i) & 0xff);
            const size_t n = header_text(w, text + 8);
            if (n > w->room)
                rc = (complain("the safetensors header outgrew its room"), -1);
            else {
                text[8 + n] = ' ';
                rc = output_rewrite(w->out, 0, text, 8 + w->room);
            }
            free(text);
        }
    }
    free(w->tensors);
    free(w);
    return rc;
}

/* buffer.c - text that grows, and values as JSON. See server.h. */
#include "server.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void buffer_put(buffer *b, const char *text, size_t n) {
    if (b->failed) return;
    if (b->n + n + 1 > b->room) {
        size_t room = 2 * (b->n + n) + 256;
        char *more = realloc(b->data, room);
        if (!more) {
            b->failed = 1;
            return;
        }
        b->data = more;
        b->room = room;
    }
    if (n) memcpy(b->data + b->n, text, n);
    b->n += n;
    b->data[b->n] = 0;
}

void buffer_text(buffer *b, const char *text) {
    buffer_put(b, text, strlen(text));
}

void buffer_format(buffer *b, const char *format, ...) {
    char small[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof small)
        b->failed = 1; /* numbers and names of our own only: texts go through buffer_json */
    else
        buffer_put(b, small, (size_t)n);
}

/* Bytes of the character at `text`, 0 where it is none (RFC 3629). */
static size_t character(const unsigned char *p, size_t left) {
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;
    if (!n || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return n;
}

void buffer_json(buffer *b, const char *text, size_t n) {
    buffer_put(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        size_t k = character((const unsigned char *)text + i, n - i);
        if (!k)
            buffer_text(b, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            buffer_format(b, "\\%c", c);
        else if (c < 32 || c == 127)
            buffer_format(b, "\\u%04x", c);
        else
            buffer_put(b, text + i, k);
        i += k ? k : 1;
    }
    buffer_put(b, "\"", 1);
}

void buffer_base64(buffer *b, const void *data, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                       i + 2 < n ? digits[v & 63] : '='};
        buffer_put(b, out, 4);
    }
}

void buffer_free(buffer *b) {
    free(b->data);
    *b = (buffer){0};
}

/* utf8.h - one question about bytes that claim to be UTF-8: how long is the next character, if it is one? */
#ifndef STRAND_CORE_UTF8_H
#define STRAND_CORE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes in the character at text[0], of `room` bytes; 0 when it is cut, overlong, a surrogate or above U+10FFFF. */
static inline size_t utf8_length(const unsigned char *text, size_t room) {
    if (room == 0) return 0;
    unsigned c = text[0];
    if (c < 0x80) return 1;
    size_t n = c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n == 0 || n > room) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    if (c == 0xE0 && text[1] < 0xA0) return 0; /* overlong */
    if (c == 0xED && text[1] > 0x9F) return 0; /* surrogate */
    if (c == 0xF0 && text[1] < 0x90) return 0; /* overlong */
    if (c == 0xF4 && text[1] > 0x8F) return 0; /* above U+10FFFF */
    return n;
}

/* Is all of it UTF-8 without zero bytes, so that it can live as a C string? */
static inline bool utf8_is_text(const char *text, size_t length) {
    const unsigned char *at = (const unsigned char *)text;
    for (size_t i = 0, n; i < length; i += n) {
        n = utf8_length(at + i, length - i);
        if (n == 0 || at[i] == 0) return false;
    }
    return true;
}

#endif

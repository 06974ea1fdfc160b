/* error.c - keeps one failure as a line of text. Control bytes that a hostile file may have put into a name are replaced, so
 * that a message is always one printable line. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

strand_status error_set(error *e, strand_status status, const char *format, ...) {
    if (!e) return status;
    char text[ERROR_TEXT]; /* the arguments may point into e->text */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t i = 0;
    for (; text[i]; i++) e->text[i] = (unsigned char)text[i] < 32 || text[i] == 127 ? '?' : text[i];
    e->text[i] = 0;
    e->status = status;
    return status;
}

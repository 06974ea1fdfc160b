/* escape.c - see escape.h.
 */
#include "escape.h"

#include <math.h>
#include <string.h>

void write_json_text(output *out, const char *text) {
    output_write(out, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            output_printf(out, "\\%c", *p);
        else if (*p < 0x20)
            output_printf(out, "\\u%04x", *p);
        else
            output_write(out, p, 1);
    }
    output_write(out, "\"", 1);
}

void write_json_number(output *out, const char *format, double value) {
    char text[64];
    if (!isfinite(value)) {
        output_write(out, "null", 4);
        return;
    }
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    snprintf(text, sizeof text, format, value);
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
    output_write(out, text, strlen(text));
}

void write_html_text(output *out, const char *text) {
    for (const char *p = text; *p; p++) {
        const char *code = *p == '&'    ? "&amp;"
                           : *p == '<'  ? "&lt;"
                           : *p == '>'  ? "&gt;"
                           : *p == '"'  ? "&quot;"
                           : *p == '\'' ? "&#39;"
                                        : NULL;
        if (code)
            output_write(out, code, strlen(code));
        else
            output_write(out, p, 1);
    }
}

void write_cell(output *out, const char *text) {
    for (const char *p = text; *p; p++) output_write(out, *p == '\t' || *p == '\n' || *p == '\r' ? " " : p, 1);
}

/* escape.h - text of files and users inside JSON, HTML and tables.
 */
#ifndef STRAND_APP_ESCAPE_H
#define STRAND_APP_ESCAPE_H

#include "output.h"

/* "text" with its quotes. */
void write_json_text(output *out, const char *text);
/* A number, or null when it is not finite (JSON has no NaN). */
void write_json_number(output *out, const char *format, double value);
/* For element content and quoted attributes. */
void write_html_text(output *out, const char *text);
/* Tabs and line ends become blanks. */
void write_cell(output *out, const char *text);

#endif

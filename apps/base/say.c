/* say.c - messages of one line on the standard error, which is also where the progress line stands: it goes first.
 */
#include "say.h"

#include "progress.h"

#include <stdarg.h>
#include <stdio.h>

static int quiet_messages;

void messages_quiet(int quiet) {
    quiet_messages = quiet;
}

static void say(const char *format, va_list list) {
    char text[2048];
    vsnprintf(text, sizeof text, format, list);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\r') *p = ' ';
    progress_clear();
    fprintf(stderr, "strand: %s\n", text);
}

void complain(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(format, list);
    va_end(list);
}

void remark(const char *format, ...) {
    if (quiet_messages) return;
    va_list list;
    va_start(list, format);
    say(format, list);
    va_end(list);
}

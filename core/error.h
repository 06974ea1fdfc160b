/* error.h - one failure as a status and a line of text. Errors are values: nothing prints, exits or aborts. */
#ifndef STRAND_CORE_ERROR_H
#define STRAND_CORE_ERROR_H

#include "strand.h"

#define ERROR_TEXT 512

typedef struct error {
    strand_status status;
    char text[ERROR_TEXT];
} error;

/* Keeps the formatted line and returns `status`, so that `return error_set(...)` reads well. A NULL error is allowed. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
strand_status error_set(error *e, strand_status status, const char *format, ...);

#endif

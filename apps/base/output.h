/* output.h - writing so that nothing is lost in silence.
 *
 * A file is written under a temporary name beside its place and renamed when it is complete and on the disk; what is not a
 * regular file (a device, a pipe, the standard output) is written in place. Every write is checked, and the last ones by flush
 * and close. The first failure is one line on stderr; later calls on that output fail without another word.
 */
#ifndef STRAND_APP_OUTPUT_H
#define STRAND_APP_OUTPUT_H

#include "say.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct output output;

/* NULL or "-" is the standard output. NULL on failure, after a message. */
output *output_open(const char *path);
/* On a stream that stays open, which messages call `name`. */
output *output_to(FILE *stream, const char *name);
/* Nonzero when the output is a file that can be written at any place. */
int output_seekable(const output *out);
/* These return 0, or -1 when this or an earlier write failed. */
int output_write(output *out, const void *data, size_t bytes);
int output_printf(output *out, const char *format, ...) PRINTF_LIKE(2, 3);
/* Writes over what is at byte `at`, then goes back to the end. */
int output_rewrite(output *out, int64_t at, const void *data, size_t bytes);
/* What was written goes out now. 0 or -1. */
int output_flush(output *out);
/* keep: checks that all has arrived and lets the file appear. Otherwise the file is dropped. Frees `out`; NULL is allowed. */
int output_close(output *out, int keep);

/* The same in three steps for files that another library writes: `temp` gets the name to write to (PATH itself where it is no
 * regular file, "-" for the standard output). Returns 0 or -1, after a message. */
int output_reserve(const char *path, char *temp, size_t size);
/* Flushes to the disk and renames. */
int output_commit(const char *temp, const char *path);
void output_discard(const char *temp);

/* Flushes and closes the standard output. -1 when something was lost. */
int output_finish_stdout(void);
/* Says that writing failed with errno `code`: one line, or none for a closed pipe. */
void output_complain(const char *path, int code);
int output_pipe_closed(void);
/* For signal handlers. */
void output_remove_temps(void);

#endif

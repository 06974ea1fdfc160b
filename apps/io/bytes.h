/* bytes.h - the bytes of a file or of the standard input as they come, unpacked where they are gzip.
 *
 * Reading returns what there is (a pipe's writer is not waited for longer than needed), so that a growing stream can be
 * followed.
 */
#ifndef STRAND_APP_BYTES_H
#define STRAND_APP_BYTES_H

#include <stddef.h>
#include <stdint.h>

typedef struct bytes bytes;

/* NULL or "-" is the standard input. NULL on failure, after a message. `follow`: the end of a regular file is not the end:
 * more is waited for, as tail -f does. */
bytes *bytes_open(const char *path, int follow);
void bytes_close(bytes *b);
/* A csv_fill: at most `room` bytes; 0 at the end, -1 after a message (none when a signal ended it). */
int64_t bytes_read(void *user, char *to, size_t room);

#endif

/* bytes_in.h - a file, or bytes in memory, that is read at any place; what the readers of recordings stand on.
 */
#ifndef STRAND_APP_BYTES_IN_H
#define STRAND_APP_BYTES_IN_H

#include <stddef.h>
#include <stdint.h>

typedef struct bytes_in {
    int fd;              /* -1: memory */
    const uint8_t *data; /* borrowed */
    int64_t size;
} bytes_in;

/* Opens a regular file. 0, or -1 with errno set (EISDIR, ESPIPE for what is no regular file ...). */
int bytes_open(bytes_in *in, const char *path);
void bytes_memory(bytes_in *in, const void *data, size_t size);
/* The size of a file may grow: asks again. */
int64_t bytes_size(bytes_in *in);
/* Reads up to `n` bytes at `at`: how many there were, or -1 with errno set. */
int64_t bytes_read(const bytes_in *in, int64_t at, void *to, int64_t n);
void bytes_close(bytes_in *in);

#endif

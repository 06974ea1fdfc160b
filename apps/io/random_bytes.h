/* random_bytes.h - a file, or bytes in memory, that is read at any place; what the readers of recordings stand on.
 */
#ifndef STRAND_APP_RANDOM_BYTES_H
#define STRAND_APP_RANDOM_BYTES_H

#include <stddef.h>
#include <stdint.h>

typedef struct random_bytes {
    int fd;              /* -1: memory */
    const uint8_t *data; /* borrowed */
    int64_t size;
} random_bytes;

/* Opens a regular file. 0, or -1 with errno set (EISDIR, ESPIPE for what is no regular file ...). */
int random_bytes_open(random_bytes *in, const char *path);
void random_bytes_memory(random_bytes *in, const void *data, size_t size);
/* The size of a file may grow: asks again. */
int64_t random_bytes_size(random_bytes *in);
/* Reads up to `n` bytes at `at`: how many there were, or -1 with errno set. */
int64_t random_bytes_read(const random_bytes *in, int64_t at, void *to, int64_t n);
void random_bytes_close(random_bytes *in);

#endif

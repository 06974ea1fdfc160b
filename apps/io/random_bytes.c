/* random_bytes.c - reading a file at any place by descriptor, or the same from memory (tests and fuzz targets).
 *
 * Files are read, never mapped: a recording that another program truncates while it is read must not kill the process.
 */
#include "random_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int random_bytes_open(random_bytes *in, const char *path) {
    struct stat st;
    in->data = NULL;
    in->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang */
    if (in->fd < 0) return -1;
    int code = 0;
    if (fstat(in->fd, &st))
        code = errno;
    else if (S_ISDIR(st.st_mode))
        code = EISDIR;
    else if (!S_ISREG(st.st_mode))
        code = ESPIPE;
    if (code) {
        close(in->fd);
        in->fd = -1;
        errno = code;
        return -1;
    }
    in->size = (int64_t)st.st_size;
    return 0;
}

void random_bytes_memory(random_bytes *in, const void *data, size_t size) {
    in->fd = -1;
    in->data = data;
    in->size = (int64_t)size;
}

int64_t random_bytes_size(random_bytes *in) {
    struct stat st;
    if (in->fd >= 0 && !fstat(in->fd, &st)) in->size = (int64_t)st.st_size;
    return in->size;
}

int64_t random_bytes_read(const random_bytes *in, int64_t at, void *to, int64_t n) {
    if (at < 0 || n < 0) return errno = EINVAL, -1;
    if (in->fd < 0) {
        const int64_t have = at >= in->size ? 0 : in->size - at < n ? in->size - at : n;
        if (have) memcpy(to, in->data + at, (size_t)have);
        return have;
    }
    int64_t done = 0;
    while (done < n) {
        const ssize_t got = pread(in->fd, (char *)to + done, (size_t)(n - done), (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += got;
    }
    return done;
}

void random_bytes_close(random_bytes *in) {
    if (in->fd >= 0) close(in->fd);
    in->fd = -1;
}

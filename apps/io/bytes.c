/* bytes.c - read(2), and zlib's inflate over the members of a gzip file. See bytes.h.
 */
#include "bytes.h"

#include "say.h"
#include "input.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { CHUNK = 1 << 16 };

struct bytes {
    const char *path;
    int fd, follow, may_block;
    int looked, packed, in_member; /* the first bytes tell what it is; in_member: a gzip member has begun and not ended */
    z_stream z;
    unsigned char raw[CHUNK];
    size_t begin, end;
};

bytes *bytes_open(const char *path, int follow) {
    struct stat st;
    const int fd = input_is_stdin(path) ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    const char *why = fd < 0 || fstat(fd, &st) ? strerror(errno) : S_ISDIR(st.st_mode) ? "it is a directory" : NULL;
    bytes *b = why ? NULL : calloc(1, sizeof *b);
    if (!b) {
        complain(why ? "%s: cannot open: %s" : "%s: %s", input_name(path), why ? why : "out of memory");
        if (fd >= 0) close(fd);
        return NULL;
    }
    b->path = path;
    b->fd = fd;
    b->may_block = !S_ISREG(st.st_mode);
    b->follow = follow && S_ISREG(st.st_mode) && !input_is_stdin(path);
    return b;
}

void bytes_close(bytes *b) {
    if (!b) return;
    if (b->packed) inflateEnd(&b->z);
    close(b->fd);
    free(b);
}

/* read(2) that a first signal ends. 0 at the end; -1 after a message, or without one when a signal asked to stop. */
static int64_t read_raw(bytes *b, void *to, size_t room) {
    static const struct timespec nap = {0, 100000000};
    for (;;) {
        if (interrupted()) return -1;
        if (b->may_block) signals_waiting(1);
        const ssize_t n = read(b->fd, to, room);
        const int code = errno;
        if (b->may_block) signals_waiting(0);
        if (n > 0 || (n == 0 && !b->follow)) return n;
        if (n < 0 && code != EINTR && code != EAGAIN)
            return complain("%s: cannot read: %s", input_name(b->path), strerror(code)), -1;
        if (n == 0 || code == EAGAIN) nanosleep(&nap, NULL);
    }
}

/* Are there unread raw bytes? Reads when not. 1, 0 at the end, -1. */
static int raw_more(bytes *b) {
    if (b->begin < b->end) return 1;
    const int64_t n = read_raw(b, b->raw, sizeof b->raw);
    if (n < 0) return -1;
    b->begin = 0;
    b->end = (size_t)n;
    return n > 0;
}

static int look(bytes *b) {
    static const struct {
        const char *magic, *cure;
    } other[] = {{"BZh", "is packed with bzip2; unpack it first, or use gzip"},
                 {"\xFD"
                  "7zXZ",
                  "is packed with xz; unpack it first, or use gzip"},
                 {"\x28\xB5\x2F\xFD", "is packed with zstd; unpack it first, or use gzip"},
                 {"PK\x03\x04", "is a zip archive or a spreadsheet; save the table as CSV"},
                 {"PAR1", "is Parquet; save it as CSV"},
                 {"\xFF\xFE", "is UTF-16; save it as UTF-8"},
                 {"\xFE\xFF", "is UTF-16; save it as UTF-8"}};
    int got;
    while (b->end < 2) { /* nothing has been used yet: more goes behind what is there */
        const int64_t n = read_raw(b, b->raw + b->end, sizeof b->raw - b->end);
        if (n < 0) return -1;
        if (n == 0) break;
        b->end += (size_t)n;
    }
    got = (int)b->end;
    b->looked = 1;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if ((size_t)got >= strlen(other[i].magic) && !memcmp(b->raw, other[i].magic, strlen(other[i].magic)))
            return complain("%s: %s", input_name(b->path), other[i].cure), -1;
    b->packed = got >= 2 && b->raw[0] == 0x1f && b->raw[1] == 0x8b;
    if (b->packed && b->follow)
        return complain("%s: a gzip file cannot be followed; unpack it", input_name(b->path)), b->packed = 0, -1;
    if (b->packed && inflateInit2(&b->z, 15 + 16) != Z_OK) return b->packed = 0, complain("out of memory"), -1;
    return 0;
}

static int64_t unpack(bytes *b, char *to, size_t room) {
    for (;;) {
        const int got = raw_more(b);
        if (got < 0) return -1;
        if (!got && !b->in_member) return 0;
        if (!got) return complain("%s: is cut off: its gzip data do not end", input_name(b->path)), -1;
        b->z.next_in = b->raw + b->begin;
        b->z.avail_in = (uInt)(b->end - b->begin);
        b->z.next_out = (Bytef *)to;
        b->z.avail_out = (uInt)(room < CHUNK ? room : CHUNK);
        const uInt space = b->z.avail_out;
        b->in_member = 1;
        const int rc = inflate(&b->z, Z_NO_FLUSH);
        b->begin = b->end - b->z.avail_in;
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
            return complain("%s: is damaged: its gzip data do not unpack", input_name(b->path)), -1;
        if (rc == Z_STREAM_END) {
            b->in_member = 0;
            inflateReset(&b->z);
        }
        if (b->z.avail_out < space) return (int64_t)(space - b->z.avail_out);
    }
}

int64_t bytes_read(void *user, char *to, size_t room) {
    bytes *b = user;
    if (!b->looked && look(b)) return -1;
    if (b->packed) return unpack(b, to, room);
    if (b->begin == b->end) return read_raw(b, to, room);
    const size_t n = b->end - b->begin < room ? b->end - b->begin : room;
    memcpy(to, b->raw + b->begin, n);
    b->begin += n;
    return (int64_t)n;
}

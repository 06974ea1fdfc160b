/* map.c - opens and maps one file. O_NONBLOCK, so that a pipe in the place of a file is refused and not waited for. The size is
 * taken once, with fstat on the open file: a file that is cut while it is mapped is beyond what a reader can guard against. */
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static strand_status map_fd(int fd, const char *shown, map *out, error *e) {
    struct stat facts;
    if (fstat(fd, &facts) != 0) return error_set(e, STRAND_ERR_IO, "%s: cannot be examined: %s", shown, strerror(errno));
    if (!S_ISREG(facts.st_mode)) return error_set(e, STRAND_ERR_IO, "%s: not a regular file", shown);
    if (facts.st_size == 0) return error_set(e, STRAND_ERR_FORMAT, "%s: the file is empty", shown);
    uint64_t size = (uint64_t)facts.st_size;
    if (size > SIZE_MAX / 2) return error_set(e, STRAND_ERR_LIMIT, "%s: too large for this machine's address space", shown);
    void *data = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return error_set(e, STRAND_ERR_IO, "%s: cannot be mapped into memory: %s", shown, strerror(errno));
    *out = (map){data, size};
    return STRAND_OK;
}

strand_status map_open(int dir, const char *name, const char *shown, bool follow, map *out, error *e) {
    int fd;
    do {
        fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW));
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 && !follow && errno == ELOOP) {
        return error_set(e, STRAND_ERR_IO,
                         "%s: a symbolic link, which a name from another file may not lead through; put the file itself there",
                         shown);
    }
    if (fd < 0) return error_set(e, STRAND_ERR_IO, "%s: cannot be opened: %s", shown, strerror(errno));
    strand_status status = map_fd(fd, shown, out, e);
    close(fd); /* the mapping stays */
    return status;
}

void map_close(map *m) {
    union {
        const uint8_t *data;
        void *pages; /* munmap wants it without const */
    } at = {m->data};
    if (m->data) munmap(at.pages, (size_t)m->size);
    *m = (map){NULL, 0};
}

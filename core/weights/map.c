/* map.c - opens and maps one file. O_NONBLOCK, so that a pipe in the place of a file is refused and not waited for. The size is
 * taken once, with fstat on the open file: a file that is cut while it is mapped is beyond what a reader can guard against. */
#if defined(__linux__)
#define _GNU_SOURCE /* mremap, madvise */
#endif
#include "map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__linux__)
#define LARGE_PAGE ((size_t)2 * 1024 * 1024)
#define WORTH_IT   (2 * (uint64_t)LARGE_PAGE)

/* Address space of `bytes` from a multiple of a large page on, of anonymous memory; NULL. */
static void *aligned_space(size_t bytes, int protection) {
    size_t room = bytes + LARGE_PAGE;
    char *all = mmap(NULL, room, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return NULL;
    size_t before = (size_t)(-(uintptr_t)all & (LARGE_PAGE - 1)), behind = LARGE_PAGE - before;
    if (before) munmap(all, before);
    if (behind) munmap(all + before + bytes, behind);
    return all + before;
}

static size_t whole_pages(uint64_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return ((size_t)size + page - 1) / page * page;
}

/* Large files lie where large pages could, for map_hold. */
static void *map_file(int fd, uint64_t size) {
    void *space = size >= WORTH_IT ? aligned_space(whole_pages(size), PROT_NONE) : NULL;
    return mmap(space, (size_t)size, PROT_READ, MAP_PRIVATE | (space ? MAP_FIXED : 0), fd, 0);
}

strand_status map_hold(const map *m, const char *shown, error *e) {
    if (m->size < WORTH_IT || (uintptr_t)m->data % LARGE_PAGE) return STRAND_OK;
    size_t bytes = whole_pages(m->size);
    void *copy = aligned_space(bytes, PROT_READ | PROT_WRITE);
    if (!copy)
        return error_set(e, STRAND_ERR_MEMORY, "%s: no memory to hold its %llu bytes", shown, (unsigned long long)m->size);
    (void)madvise(copy, bytes, MADV_HUGEPAGE); /* refused: small pages */
    for (uint64_t at = 0; at < m->size; at += LARGE_PAGE) {
        uint64_t left = m->size - at, n = left < LARGE_PAGE ? left : LARGE_PAGE;
        memcpy((char *)copy + at, m->data + at, (size_t)n);
        /* the file's pages need not stay beside the copy */
        (void)madvise((void *)(uintptr_t)(m->data + at), (size_t)n, MADV_DONTNEED);
    }
    if (mprotect(copy, bytes, PROT_READ) || mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, m->data) == MAP_FAILED) {
        munmap(copy, bytes);
        return error_set(e, STRAND_ERR_MEMORY, "%s: cannot be held in memory: %s", shown, strerror(errno));
    }
    return STRAND_OK;
}
#else
static void *map_file(int fd, uint64_t size) {
    return mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
}

strand_status map_hold(const map *m, const char *shown, error *e) {
    (void)m, (void)shown, (void)e;
    return STRAND_OK;
}
#endif

static strand_status map_fd(int fd, const char *shown, map *out, error *e) {
    struct stat facts;
    if (fstat(fd, &facts) != 0) return error_set(e, STRAND_ERR_IO, "%s: cannot be examined: %s", shown, strerror(errno));
    if (!S_ISREG(facts.st_mode)) return error_set(e, STRAND_ERR_IO, "%s: not a regular file", shown);
    if (facts.st_size == 0) return error_set(e, STRAND_ERR_FORMAT, "%s: the file is empty", shown);
    uint64_t size = (uint64_t)facts.st_size;
    if (size > SIZE_MAX / 2) return error_set(e, STRAND_ERR_LIMIT, "%s: too large for this machine's address space", shown);
    void *data = map_file(fd, size);
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

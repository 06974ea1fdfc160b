/* cache.c - compiled kernels in the user's cache folder: $STRAND_CACHE_DIR, else $XDG_CACHE_HOME/strand, else ~/.cache/strand;
 * STRAND_CACHE_DIR set to nothing turns it off.
 *
 * A file is: the key's length, the binary's length, a hash of both, the key, the binary. It is used only when the whole key
 * (device, driver, source) is the one asked for, the hash is right, and folder and file belong to this user and can be
 * written by nobody else. Files come into being under another name and are then renamed, so that a reader sees all or
 * nothing and two writers do no harm. A cache that cannot be used is not used; where STRAND_CACHE_DIR names it, that is said
 * once a device. */
#define _GNU_SOURCE
#include "opencl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_BINARY ((uint64_t)64 << 20)

typedef struct header {
    char magic[8];
    uint64_t key_bytes, bytes, hash;
} header;

static const char magic[8] = {'s', 't', 'r', 'a', 'n', 'd', 'c', '2'};

#define BASIS 14695981039346656037ull

static uint64_t hash_more(uint64_t h, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) h = (h ^ at[i]) * 1099511628211ull;
    return h;
}

static uint64_t hash_of(const char *key, const void *binary, size_t bytes) {
    return hash_more(hash_more(BASIS, key, strlen(key)), binary, bytes);
}

static void say(ocl_device *d, const char *path, const char *what) {
    const strand_host *host = d->base.host;
    char text[480];
    snprintf(text, sizeof text, "kernel cache %.250s is not used: %.100s; give STRAND_CACHE_DIR another folder, or nothing",
             path, what);
    if (host->log && !d->cache_told) host->log(host->context, secure_getenv("STRAND_CACHE_DIR") ? 1 : 2, text);
    d->cache_told = true;
}

/* The folder's path and its length, cut to the room; 0 or less: there is none. */
static int folder_path(char *path, size_t room) {
    const char *given = secure_getenv("STRAND_CACHE_DIR"), *xdg = secure_getenv("XDG_CACHE_HOME"),
               *home = secure_getenv("HOME");
    return given         ? snprintf(path, room, "%s", given)
           : xdg && *xdg ? snprintf(path, room, "%s/strand", xdg)
           : home        ? snprintf(path, room, "%s/.cache/strand", home)
                         : 0;
}

static bool trusted(const struct stat *s) {
    return s->st_uid == geteuid() && !(s->st_mode & 022);
}

void ocl_cache_state(char *text, size_t room) {
    char path[600];
    struct stat s;
    int n = folder_path(path, sizeof path);
    bool usable = n > 0 && n < (int)sizeof path && path[0] == '/';
    if (n <= 0)
        snprintf(text, room, "off");
    else if (usable && stat(path, &s) && errno == ENOENT)
        snprintf(text, room, "%s (not made yet)", path);
    else
        snprintf(text, room, "%s%s", path,
                 usable && !stat(path, &s) && S_ISDIR(s.st_mode) && trusted(&s) ? "" : " (cannot be used)");
}

/* Opens the folder, making it if need be; -1 when there is none that can be trusted. */
static int open_folder(ocl_device *d) {
    char path[600];
    int n = folder_path(path, sizeof path);
    if (n <= 0) return -1;
    if (n >= (int)sizeof path || path[0] != '/') {
        say(d, path, n >= (int)sizeof path ? "its name is too long" : "it is not an absolute path");
        return -1;
    }
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    mkdir(path, 0700);
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat s;
    if (folder < 0) {
        say(d, path, strerror(errno));
        return -1;
    }
    if (fstat(folder, &s) || !trusted(&s)) {
        say(d, path, "it belongs to someone else, or others may write it");
        close(folder);
        return -1;
    }
    return folder;
}

static bool read_all(int file, void *to, size_t bytes) {
    for (char *at = to; bytes;) {
        ssize_t n = read(file, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool write_all(int file, const void *from, size_t bytes) {
    for (const char *at = from; bytes;) {
        ssize_t n = write(file, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static void file_name(const char *key, char name[40]) {
    snprintf(name, 40, "opencl-%016llx", (unsigned long long)hash_more(BASIS, key, strlen(key)));
}

static unsigned char *read_file(const strand_host *host, int file, const char *key, size_t *bytes) {
    struct stat s;
    header h;
    char have[1024];
    if (fstat(file, &s) || !S_ISREG(s.st_mode) || s.st_uid != geteuid() || (s.st_mode & 022)) return NULL;
    if (!read_all(file, &h, sizeof h) || memcmp(h.magic, magic, 8)) return NULL;
    if (h.key_bytes != strlen(key) || h.key_bytes > sizeof have || !h.bytes || h.bytes > MOST_BINARY) return NULL;
    if (!read_all(file, have, (size_t)h.key_bytes) || memcmp(have, key, (size_t)h.key_bytes)) return NULL;
    unsigned char *binary = host->alloc(host->context, h.bytes, 64);
    if (!binary) return NULL;
    if (read_all(file, binary, (size_t)h.bytes) && hash_of(key, binary, (size_t)h.bytes) == h.hash) {
        *bytes = (size_t)h.bytes;
        return binary;
    }
    host->free(host->context, binary, h.bytes);
    return NULL;
}

unsigned char *ocl_cache_load(ocl_device *d, const char *key, size_t *bytes) {
    char name[40];
    int folder = open_folder(d);
    if (folder < 0) return NULL;
    file_name(key, name);
    int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    unsigned char *binary = file < 0 ? NULL : read_file(d->base.host, file, key, bytes);
    if (file >= 0) close(file);
    close(folder);
    return binary;
}

void ocl_cache_store(ocl_device *d, const char *key, const unsigned char *binary, size_t bytes) {
    char name[40], temporary[80], path[600];
    struct timespec now;
    if (bytes > MOST_BINARY) return;
    int folder = open_folder(d);
    if (folder < 0) return;
    header h = {.key_bytes = strlen(key), .bytes = bytes, .hash = hash_of(key, binary, bytes)};
    memcpy(h.magic, magic, 8);
    file_name(key, name);
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(temporary, sizeof temporary, "%s.%ld.%ld", name, (long)getpid(), now.tv_nsec);
    int file = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = file < 0 ? errno : 0;
    if (file >= 0) {
        if (!write_all(file, &h, sizeof h) || !write_all(file, key, strlen(key)) || !write_all(file, binary, bytes))
            error = errno;
        if (close(file) && !error) error = errno;
        if (!error && renameat(folder, temporary, folder, name)) error = errno;
        if (error) unlinkat(folder, temporary, 0);
    }
    if (error && folder_path(path, sizeof path) > 0) say(d, path, strerror(error));
    close(folder);
}

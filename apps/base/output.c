/* output.c - temporary file, checked writes, rename. See output.h.
 */
#include "output.h"

#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

struct output {
    FILE *stream;
    const char *name; /* for messages */
    char temp[PATH_MAX], path[PATH_MAX];
    int failed, seekable, to_stdout;
};

/* Names of files that must not survive. A row is read by the signal handler only while `used` is set. */
static struct {
    char path[PATH_MAX];
    volatile sig_atomic_t used;
} temps[8];
static int pipe_closed;

static void temp_register(const char *path) {
    for (size_t i = 0; i < sizeof temps / sizeof *temps; i++)
        if (!temps[i].used) {
            snprintf(temps[i].path, sizeof temps[i].path, "%s", path);
            temps[i].used = 1;
            return;
        }
}

static void temp_forget(const char *path) {
    for (size_t i = 0; i < sizeof temps / sizeof *temps; i++)
        if (temps[i].used && !strcmp(temps[i].path, path)) temps[i].used = 0;
}

void output_remove_temps(void) {
    for (size_t i = 0; i < sizeof temps / sizeof *temps; i++)
        if (temps[i].used) {
            unlink(temps[i].path);
            temps[i].used = 0;
        }
}

int output_pipe_closed(void) {
    return pipe_closed;
}

void output_complain(const char *path, int code) {
    if (code == EPIPE)
        pipe_closed = 1;
    else
        complain("%s: cannot write: %s", path, strerror(code ? code : EIO));
}

static int is_stdout(const char *path) {
    return !path || !strcmp(path, "-");
}

int output_reserve(const char *path, char *temp, size_t size) {
    struct stat st;
    if (is_stdout(path)) return snprintf(temp, size, "-"), 0;
    const int exists = stat(path, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) return output_complain(path, EISDIR), -1;
    if (exists && !S_ISREG(st.st_mode)) return snprintf(temp, size, "%s", path), 0;
    if (snprintf(temp, size, "%s.part-XXXXXX", path) >= (int)size) return output_complain(path, ENAMETOOLONG), -1;
    const int fd = mkstemp(temp);
    if (fd < 0) return output_complain(path, errno), -1;
    temp_register(temp);
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, exists ? st.st_mode & 0777 : 0666 & ~mask); /* mkstemp's 0600 is not what a user expects of an output */
    close(fd);
    return 0;
}

int output_commit(const char *temp, const char *path) {
    if (is_stdout(path) || !strcmp(temp, path)) return 0;
    char target[PATH_MAX];
    const int fd = open(temp, O_RDONLY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0;
    int code = errno;
    if (fd >= 0 && close(fd) != 0 && !bad) bad = 1, code = errno;
    if (!realpath(path, target)) snprintf(target, sizeof target, "%s", path); /* a link stays a link */
    if (!bad && rename(temp, target) != 0) bad = 1, code = errno;
    if (bad) {
        output_complain(path, code);
        output_discard(temp);
        return -1;
    }
    temp_forget(temp);
    return 0;
}

void output_discard(const char *temp) {
    for (size_t i = 0; i < sizeof temps / sizeof *temps; i++)
        if (temps[i].used && !strcmp(temps[i].path, temp)) {
            unlink(temp);
            temps[i].used = 0;
        }
}

output *output_open(const char *path) {
    output *out = calloc(1, sizeof *out);
    if (!out) return complain("out of memory"), NULL;
    out->to_stdout = is_stdout(path);
    if (out->to_stdout) {
        out->stream = stdout;
        out->name = "standard output";
        return out;
    }
    snprintf(out->path, sizeof out->path, "%s", path);
    out->name = out->path;
    if (strlen(path) >= sizeof out->path) {
        output_complain(path, ENAMETOOLONG);
        free(out);
        return NULL;
    }
    if (output_reserve(path, out->temp, sizeof out->temp)) {
        free(out);
        return NULL;
    }
    out->stream = fopen(out->temp, "w+b");
    if (!out->stream) out->stream = fopen(out->temp, "wb"); /* a pipe or a device that cannot be read */
    if (!out->stream) {
        output_complain(path, errno);
        output_discard(out->temp);
        free(out);
        return NULL;
    }
    out->seekable = strcmp(out->temp, out->path) != 0;
    return out;
}

output *output_to(FILE *stream, const char *name) {
    output *out = calloc(1, sizeof *out);
    if (!out) return complain("out of memory"), NULL;
    out->to_stdout = 1; /* flushed at the end and not closed */
    out->stream = stream;
    out->name = name;
    return out;
}

int output_seekable(const output *out) {
    return out->seekable;
}

static int failed(output *out) {
    if (!out->failed) output_complain(out->name, errno);
    out->failed = 1;
    return -1;
}

int output_write(output *out, const void *data, size_t bytes) {
    if (out->failed) return -1;
    errno = 0;
    return bytes && fwrite(data, 1, bytes, out->stream) != bytes ? failed(out) : 0;
}

int output_printf(output *out, const char *format, ...) {
    if (out->failed) return -1;
    va_list list;
    va_start(list, format);
    errno = 0;
    const int n = vfprintf(out->stream, format, list);
    va_end(list);
    return n < 0 ? failed(out) : 0;
}

int output_flush(output *out) {
    if (out->failed) return -1;
    errno = 0;
    return fflush(out->stream) ? failed(out) : 0;
}

int output_rewrite(output *out, int64_t at, const void *data, size_t bytes) {
    if (out->failed) return -1;
    errno = 0;
    if (fseeko(out->stream, (off_t)at, SEEK_SET) || fwrite(data, 1, bytes, out->stream) != bytes ||
        fseeko(out->stream, 0, SEEK_END))
        return failed(out);
    return 0;
}

int output_close(output *out, int keep) {
    if (!out) return 0;
    int bad = out->failed;
    errno = 0;
    if (out->to_stdout) {
        if (!bad && fflush(out->stream)) bad = 1, failed(out);
    } else {
        if (!bad && fflush(out->stream)) bad = 1, failed(out);
        if (fclose(out->stream) && !bad) bad = 1, failed(out);
        if (keep && !bad)
            bad = output_commit(out->temp, out->path) != 0;
        else
            output_discard(out->temp);
    }
    free(out);
    return bad ? -1 : 0;
}

int output_finish_stdout(void) {
    static int finished;
    if (finished) return 0;
    finished = 1;
    errno = 0;
    int bad = ferror(stdout) != 0;
    if (fflush(stdout)) bad = 1;
    const int code = errno;
    if (close(STDOUT_FILENO) && errno != EBADF && !bad) return output_complain("standard output", errno), -1;
    if (bad && !pipe_closed && code) output_complain("standard output", code);
    return bad ? -1 : 0;
}

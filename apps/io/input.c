/* input.c - opening what the user names, and refusing early what it is not. See input.h.
 */
#include "input.h"

#include "say.h"
#include "progress.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int input_is_stdin(const char *path) {
    return !path || !strcmp(path, "-");
}

const char *input_name(const char *path) {
    return input_is_stdin(path) ? "standard input" : path;
}

int64_t input_size(const char *path) {
    struct stat st;
    if (input_is_stdin(path) || stat(path, &st) || !S_ISREG(st.st_mode)) return -1;
    return (int64_t)st.st_size;
}

const char *input_argument(const char *const *args, int n_args, int *rc) {
    *rc = 0;
    if (n_args > 0) return input_is_stdin(args[0]) ? NULL : args[0];
    if (isatty(STDIN_FILENO)) {
        complain("no input: name a file, or give '-' to type on the terminal");
        *rc = EXIT_USAGE;
    }
    return NULL;
}

static int open_fd(const char *path) {
    struct stat st;
    const int fd = input_is_stdin(path) ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        complain("%s: cannot open: %s", input_name(path), strerror(errno));
        if (fd >= 0) close(fd);
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        complain("%s: is a directory, not a file", path);
        close(fd);
        return -1;
    }
    return fd;
}

static int is_wanted(const htsFormat *format, int wanted) {
    const enum htsCompression packed = format->compression;
    if (packed != no_compression && packed != gzip && packed != bgzf) return 0;
    if (format->format == empty_format) return 1;
    if (wanted == INPUT_SEQUENCES)
        return format->format == fasta_format || format->format == fastq_format || format->format == unknown_format ||
               format->format == text_format;
    return format->format == vcf || format->format == bcf;
}

static const char *cure(const htsFormat *format, int wanted) {
    const enum htsCompression packed = format->compression;
    if (packed == bzip2_compression || packed == xz_compression || packed == zstd_compression)
        return "unpack it first, or use gzip or bgzip";
    if (wanted == INPUT_VARIANTS) return "this command reads VCF and BCF";
    if (format->format == sam || format->format == bam || format->format == cram)
        return "this command reads FASTA and FASTQ: samtools fasta turns it into that";
    if (format->format == vcf || format->format == bcf)
        return "this command reads FASTA and FASTQ; 'strand dna variants' reads VCF";
    return "this command reads FASTA and FASTQ, plain, gzip or bgzip";
}

hFILE *input_open(const char *path, int wanted, htsFormat *format) {
    const int fd = open_fd(path);
    if (fd < 0) return NULL;
    hFILE *file = hdopen(fd, "r");
    if (!file) {
        complain("%s: cannot open: %s", input_name(path), strerror(errno));
        close(fd);
        return NULL;
    }
    const int may_block = input_size(path) < 0;
    memset(format, 0, sizeof *format);
    if (may_block) signals_waiting(1);
    const int detected = hts_detect_format(file, format);
    if (may_block) signals_waiting(0);
    if (detected >= 0 && is_wanted(format, wanted)) return file;
    if (detected < 0) {
        complain("%s: cannot read: %s", input_name(path), strerror(errno));
    } else {
        char *what = hts_format_description(format);
        complain("%s: is %s; %s", input_name(path), what ? what : "of another kind", cure(format, wanted));
        free(what);
    }
    hclose_abruptly(file);
    return NULL;
}

BGZF *input_open_sequences(const char *path, htsFormat *format) {
    hFILE *raw = input_open(path, INPUT_SEQUENCES, format);
    if (!raw) return NULL;
    BGZF *file = bgzf_hopen(raw, "r");
    if (!file) {
        complain("%s: cannot read: it is damaged, or memory is short", input_name(path));
        hclose_abruptly(raw);
        return NULL;
    }
    if (input_size(path) < 0) signals_waiting(1);
    int first = bgzf_peek(file);
    while (first >= 0 && isspace(first)) {
        bgzf_getc(file);
        first = bgzf_peek(file);
    }
    if (input_size(path) < 0) signals_waiting(0);
    if (first == '>')
        format->format = fasta_format;
    else if (first == '@')
        format->format = fastq_format;
    else if (first == -1)
        format->format = empty_format;
    else {
        if (first < -1)
            complain("%s: is damaged or cut off", input_name(path));
        else
            complain("%s: is no FASTA (which begins with '>') and no FASTQ ('@')", input_name(path));
        bgzf_close(file);
        return NULL;
    }
    return file;
}

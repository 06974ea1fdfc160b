/* reference.c - an indexed FASTA file through htslib's faidx: opening, indexing where needed, fetching. Regions of it are read
 * in regions.c.
 */
#include "reference.h"

#include "say.h"
#include "input.h"

#include <errno.h>
#include <htslib/faidx.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reference {
    faidx_t *index;
    char *path;
};

static char *suffixed(const char *path, const char *suffix) {
    const size_t room = strlen(path) + strlen(suffix) + 1;
    char *text = malloc(room);
    if (text) snprintf(text, room, "%s%s", path, suffix);
    return text;
}

/* Only plain and bgzip files have places that an index can point at. */
static int check_kind(const char *path) {
    htsFormat format;
    if (input_is_stdin(path)) {
        complain("regions need an indexed file; the standard input has no index");
        return -1;
    }
    BGZF *file = input_open_sequences(path, &format);
    if (!file) return -1;
    bgzf_close(file);
    if (format.compression == gzip) {
        complain("%s: is compressed with gzip, which cannot be indexed; recompress it: gunzip -c FILE | bgzip", path);
        return -1;
    }
    if (format.format != fasta_format) {
        complain("%s: is no FASTA file with sequences in it; regions need one", path);
        return -1;
    }
    return 0;
}

/* An index is built under another name and renamed, so that shards that start together never read half of one. */
static faidx_t *build_index(const char *path, const char *fai, const char *gzi) {
    char base[4096];
    const char *dir = getenv("TMPDIR");
    faidx_t *index = NULL;
    snprintf(base, sizeof base, "%s.fai-XXXXXX", path);
    int fd = mkstemp(base), beside = 1;
    if (fd < 0) {
        beside = 0;
        snprintf(base, sizeof base, "%s/strand-fai-XXXXXX", dir && *dir ? dir : "/tmp");
        fd = mkstemp(base);
    }
    if (fd < 0) return complain("%s: cannot write an index for it: %s", path, strerror(errno)), NULL;
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    close(fd);
    char *base_gzi = suffixed(base, ".gzi");
    if (base_gzi && fai_build3(path, base, base_gzi) == 0) {
        if (beside && (access(base_gzi, F_OK) != 0 || rename(base_gzi, gzi) == 0) && rename(base, fai) == 0) {
            remark("%s: made the index %s", path, fai);
            index = fai_load3(path, fai, gzi, 0);
        } else
            index = fai_load3(path, base, base_gzi, 0);
    }
    if (!index)
        complain(
            "%s: cannot be indexed; all lines of a record but the last must have one width, and names must differ (samtools "
            "faidx says where)",
            path);
    unlink(base);
    if (base_gzi) unlink(base_gzi);
    free(base_gzi);
    return index;
}

static faidx_t *load_index(const char *path) {
    struct stat file, made;
    char *fai = suffixed(path, ".fai"), *gzi = suffixed(path, ".gzi");
    faidx_t *index = NULL;
    if (!fai || !gzi) {
        complain("out of memory");
    } else if (stat(fai, &made) == 0) {
        if (stat(path, &file) == 0 && file.st_mtime > made.st_mtime)
            remark("%s: is older than the FASTA file; if that has changed, remove the index", fai);
        index = fai_load3(path, fai, gzi, 0);
        if (!index) complain("%s: the index cannot be read; remove it and it will be made again", fai);
    } else
        index = build_index(path, fai, gzi);
    free(fai);
    free(gzi);
    return index;
}

reference *reference_open(const char *path) {
    if (check_kind(path)) return NULL;
    reference *ref = calloc(1, sizeof *ref);
    if (!ref) return complain("out of memory"), NULL;
    ref->path = suffixed(path, "");
    ref->index = load_index(path);
    if (ref->index && ref->path) return ref;
    reference_close(ref);
    return NULL;
}

void reference_close(reference *ref) {
    if (!ref) return;
    if (ref->index) fai_destroy(ref->index);
    free(ref->path);
    free(ref);
}

int reference_contigs(const reference *ref) {
    return faidx_nseq(ref->index);
}

const char *reference_contig(const reference *ref, int index) {
    return faidx_iseq(ref->index, index);
}

int64_t reference_length(const reference *ref, const char *contig) {
    return faidx_has_seq(ref->index, contig) ? faidx_seq_len(ref->index, contig) : -1;
}

const char *reference_find(const reference *ref, const char *contig, int *renamed) {
    static char other[256];
    *renamed = 0;
    if (faidx_has_seq(ref->index, contig)) return contig;
    *renamed = 1;
    if (!strncmp(contig, "chr", 3))
        snprintf(other, sizeof other, "%s", !strcmp(contig, "chrM") ? "MT" : contig + 3);
    else
        snprintf(other, sizeof other, "chr%s", !strcmp(contig, "MT") ? "M" : contig);
    return faidx_has_seq(ref->index, other) ? other : NULL;
}

char *reference_fetch(const reference *ref, const char *contig, int64_t from, int64_t to) {
    hts_pos_t got = 0;
    char *letters = to > from ? faidx_fetch_seq64(ref->index, contig, from, to - 1, &got) : calloc(1, 1);
    if (letters && got == to - from) return letters;
    free(letters);
    complain("%s: cannot read %s:%lld-%lld; the file is damaged or its index is of another file", ref->path, contig,
             (long long)from + 1, (long long)to);
    return NULL;
}

/* regions.c - lists of regions: `-r` as samtools reads it, `-R` files as BED or as 1-based tables. Parsing of `-r` is htslib's,
 * so that colons in names, commas in numbers and open ends mean what they mean there.
 */
#include "say.h"
#include "input.h"
#include "progress.h"
#include "reference.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <htslib/bgzf.h>
#include <htslib/hts.h>
#include <htslib/kstring.h>
#include <stdlib.h>
#include <string.h>

static int append(region_set *list, const char *contig, const char *name, int64_t from, int64_t to) {
    if (list->n == list->room) {
        const int64_t room = list->room ? 2 * list->room : 64;
        region *items = realloc(list->items, (size_t)room * sizeof *items);
        if (!items) return complain("out of memory"), EXIT_FAILED;
        list->items = items;
        list->room = room;
    }
    char made[512];
    if (!name) {
        snprintf(made, sizeof made, "%s:%lld-%lld", contig, (long long)from + 1, (long long)to);
        name = made;
    }
    region *r = &list->items[list->n];
    r->contig = strdup(contig);
    r->name = strdup(name);
    r->from = from;
    r->to = to;
    if (!r->contig || !r->name) {
        free(r->contig);
        free(r->name);
        return complain("out of memory"), EXIT_FAILED;
    }
    list->n++;
    return 0;
}

void regions_free(region_set *list) {
    for (int64_t i = 0; i < list->n; i++) {
        free(list->items[i].contig);
        free(list->items[i].name);
    }
    free(list->items);
    memset(list, 0, sizeof *list);
}

static int no_contig(const reference *ref, const char *where, const char *contig) {
    int renamed;
    const char *other = reference_find(ref, contig, &renamed);
    if (other && renamed)
        complain("%s: no sequence '%s' in the FASTA file, but there is '%s'", where, contig, other);
    else
        complain("%s: no sequence '%s' in the FASTA file (it begins with '%s')", where, contig,
                 reference_contigs(ref) ? reference_contig(ref, 0) : "nothing");
    return EXIT_FAILED;
}

/* Clips to the contig as samtools does, but says so; a region that is wholly outside is an error. */
static int clip_and_append(region_set *list, const reference *ref, const char *where, const char *contig, const char *name,
                           int64_t from, int64_t to, int open_end) {
    const int64_t length = reference_length(ref, contig);
    if (from >= length && !(from == 0 && length == 0)) {
        complain("%s: begins at base %lld, but '%s' has %lld", where, (long long)from + 1, contig, (long long)length);
        return EXIT_FAILED;
    }
    if (to > length) {
        if (!open_end) remark("%s: '%s' ends at base %lld; the region is cut there", where, contig, (long long)length);
        to = length;
    }
    return append(list, contig, name, from, to);
}

static int name_to_id(void *user, const char *name) {
    const reference *ref = user;
    for (int i = 0; i < reference_contigs(ref); i++)
        if (!strcmp(reference_contig(ref, i), name)) return i;
    return -1;
}

int regions_from_text(region_set *list, const reference *ref, const text_list *texts) {
    for (int i = 0; i < texts->n; i++) {
        const char *text = texts->items[i];
        int id = -1;
        hts_pos_t from = 0, to = 0;
        union {
            const reference *in;
            void *out;
        } user = {ref};
        const char *end = hts_parse_region(text, &id, &from, &to, name_to_id, user.out, 0);
        int rc;
        if (id == -1) {
            char contig[256];
            snprintf(contig, sizeof contig, "%.*s", (int)strcspn(text, ":"), text);
            return no_contig(ref, text, contig);
        }
        if (!end || *end || id < 0) {
            complain("'%s' is no region; write chr1, chr1:1,001-2,000 or {name:with:colons}:1-100", text);
            return EXIT_FAILED;
        }
        rc = clip_and_append(list, ref, text, reference_contig(ref, id), text, from, to, to == HTS_POS_MAX);
        if (rc) return rc;
    }
    return 0;
}

static int ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcasecmp(text + a - b, end);
}

static int skipped_line(const char *line) {
    return !*line || *line == '#' || !strncmp(line, "track", 5) || !strncmp(line, "browser", 7);
}

/* One line of a -R file; `bed` is 0-based and half-open. */
static int parse_line(region_set *list, const reference *ref, const char *where, char *line, int bed) {
    char *save = NULL, *end;
    const char *contig = strtok_r(line, "\t ", &save), *a = strtok_r(NULL, "\t ", &save), *b = strtok_r(NULL, "\t ", &save);
    if (!contig) return 0;
    errno = 0;
    long long from = a && isdigit((unsigned char)*a) ? strtoll(a, &end, 10) : -1;
    if (from >= 0 && *end) from = -1;
    long long to = b && isdigit((unsigned char)*b) ? strtoll(b, &end, 10) : -1;
    if (to >= 0 && *end) to = -1;
    if (!b && !bed) to = from; /* a position alone, as in bcftools' target files */
    if (!bed) from--;
    if (from < 0 || to < from || errno) {
        complain("%s: is no %s line: contig, from, to", where,
                 bed ? "BED (0-based, half-open)" : "region (1-based, both ends included)");
        return EXIT_FAILED;
    }
    if (reference_length(ref, contig) < 0) return no_contig(ref, where, contig);
    return clip_and_append(list, ref, where, contig, NULL, from, to, 0);
}

int regions_from_file(region_set *list, const reference *ref, const char *path) {
    const int bed = ends_with(path, ".bed") || ends_with(path, ".bed.gz");
    const int fd = input_is_stdin(path) ? 0 : open(path, O_RDONLY | O_CLOEXEC);
    BGZF *file = fd >= 0 ? bgzf_dopen(fd, "r") : NULL;
    if (!file) return complain("%s: cannot open: %s", input_name(path), strerror(errno)), EXIT_FAILED;
    kstring_t line = {0, 0, NULL};
    char where[512];
    int rc = 0, status = 0;
    for (long long number = 1; !rc; number++) {
        if (input_is_stdin(path)) signals_waiting(1);
        status = bgzf_getline(file, '\n', &line);
        if (input_is_stdin(path)) signals_waiting(0);
        if (status < 0) break;
        if (line.l && line.s[line.l - 1] == '\r') line.s[--line.l] = 0;
        snprintf(where, sizeof where, "%s:%lld", input_name(path), number);
        if (!skipped_line(line.s)) rc = parse_line(list, ref, where, line.s, bed);
    }
    if (!rc && status < -1) rc = (complain("%s: is damaged or cannot be read", input_name(path)), EXIT_FAILED);
    free(line.s);
    bgzf_close(file);
    return rc;
}

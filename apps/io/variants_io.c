/* variants_io.c - VCF and BCF in and out through htslib, checked to the last byte. See variants_io.h.
 */
#include "variants_io.h"

#include "say.h"
#include "input.h"
#include "output.h"
#include "progress.h"

#include <errno.h>
#include <htslib/kseq.h>
#include <stdlib.h>
#include <string.h>

struct variant_reader {
    const char *path;
    hFILE *raw; /* owned by file; its place tells how far we are */
    htsFile *file;
    bcf_hdr_t *header;
    kstring_t line;
    int64_t size, number, from, to;
    int may_block;
};

static int reader_begin(variant_reader *reader) {
    htsFormat format;
    reader->number = 0;
    reader->raw = input_open(reader->path, INPUT_VARIANTS, &format);
    if (!reader->raw) return -1;
    reader->size = input_size(reader->path);
    reader->may_block = reader->size < 0;
    reader->file = hts_hopen(reader->raw, input_name(reader->path), "r");
    if (!reader->file) {
        hclose_abruptly(reader->raw);
        return complain("%s: cannot be read as VCF or BCF", input_name(reader->path)), -1;
    }
    if (format.format != empty_format) {
        if (reader->may_block) signals_waiting(1);
        reader->header = bcf_hdr_read(reader->file);
        if (reader->may_block) signals_waiting(0);
    }
    if (!reader->header)
        return complain("%s: %s", input_name(reader->path),
                        format.format == empty_format ? "is empty; a VCF file has at least a header"
                                                      : "the VCF or BCF header is damaged or incomplete"),
               -1;
    if (reader->size >= 0 && hts_check_EOF(reader->file) == 0)
        return complain("%s: the end of the file is missing (no bgzip end marker); copy it again", reader->path), -1;
    return 0;
}

static void reader_end(variant_reader *reader) {
    if (reader->header) bcf_hdr_destroy(reader->header);
    if (reader->file) hts_close(reader->file);
    reader->header = NULL;
    reader->file = NULL;
}

/* htslib takes a VCF line of four columns, or with a POS that is no number, without a word. */
static int line_is_whole(const char *line) {
    int tabs = 0;
    const char *pos = strchr(line, '\t');
    for (const char *p = line; *p; p++) tabs += *p == '\t';
    return tabs >= 7 && pos && strspn(pos + 1, "0123456789") == strcspn(pos + 1, "\t");
}

/* Like bcf_read, but a line of text is looked at before it is parsed. */
static int read_checked(variant_reader *reader, bcf1_t *record) {
    if (hts_get_format(reader->file)->format != vcf) return bcf_read(reader->file, reader->header, record);
    int status;
    do {
        status = hts_getline(reader->file, KS_SEP_LINE, &reader->line);
    } while (status >= 0 && reader->line.l == 0);
    if (status < 0) return status;
    return line_is_whole(reader->line.s) && vcf_parse(&reader->line, reader->header, record) == 0 ? 0 : -2;
}

static int read_record(variant_reader *reader, bcf1_t *record) {
    if (reader->may_block) signals_waiting(1);
    const int status = read_checked(reader, record);
    if (reader->may_block) signals_waiting(0);
    if (status == -1) return 0;
    reader->number++;
    const int harmless = BCF_ERR_CTG_UNDEF | BCF_ERR_TAG_UNDEF;
    if (status < -1 || (record->errcode & ~harmless) || bcf_unpack(record, BCF_UN_STR) < 0) {
        complain("%s: record %lld cannot be read; the file is damaged or the line has a wrong column", input_name(reader->path),
                 (long long)reader->number);
        return -1;
    }
    record->errcode = 0;
    return 1;
}

/* Reads the file once to learn how many records there are, and begins again. */
static int find_shard(variant_reader *reader, shard part) {
    int64_t total = 0;
    int status;
    if (reader->may_block) return complain("--shard needs a file that can be read twice, not %s", input_name(reader->path)), -1;
    bcf1_t *record = bcf_init();
    if (!record) return complain("out of memory"), -1;
    while ((status = read_record(reader, record)) > 0 && !interrupted()) total++;
    bcf_destroy(record);
    if (status < 0 || interrupted()) return -1;
    shard_range(part, total, &reader->from, &reader->to);
    reader_end(reader);
    return reader_begin(reader);
}

variant_reader *variants_open(const char *path, shard part) {
    variant_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return complain("out of memory"), NULL;
    reader->path = path;
    reader->to = INT64_MAX;
    if (reader_begin(reader) || (part.count > 1 && find_shard(reader, part))) {
        variants_close(reader);
        return NULL;
    }
    return reader;
}

bcf_hdr_t *variants_header(variant_reader *reader) {
    return reader->header;
}

int variants_next(variant_reader *reader, bcf1_t *record) {
    int status;
    do {
        if (reader->number >= reader->to) return 0;
        status = read_record(reader, record);
    } while (status > 0 && reader->number <= reader->from);
    return status;
}

int64_t variants_count(const variant_reader *reader) {
    return reader->number > reader->from ? reader->number - reader->from : 0;
}

double variants_fraction(const variant_reader *reader) {
    return reader->size > 0 ? (double)htell(reader->raw) / (double)reader->size : -1;
}

void variants_close(variant_reader *reader) {
    if (!reader) return;
    reader_end(reader);
    free(reader->line.s);
    free(reader);
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

struct variant_writer {
    htsFile *file;
    bcf_hdr_t *header;
    const char *path;
    char temp[4096];
    int format, failed, contigs, tags;
};

static int ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

int variants_format(const char *path, int format) {
    if (format != VARIANT_AUTO) return format;
    if (path && ends_with(path, ".bcf")) return VARIANT_BCF;
    if (path && (ends_with(path, ".vcf.gz") || ends_with(path, ".vcf.bgz"))) return VARIANT_VCF_GZ;
    return VARIANT_VCF;
}

static int write_failed(variant_writer *writer) {
    if (!writer->failed) output_complain(writer->path ? writer->path : "standard output", errno);
    writer->failed = 1;
    return -1;
}

variant_writer *variants_create(const char *path, int format, bcf_hdr_t *header, int bare) {
    static const char *const modes[] = {"w", "w", "wz", "wb", "wbu"};
    variant_writer *writer = calloc(1, sizeof *writer);
    if (!writer) return complain("out of memory"), NULL;
    writer->path = path && strcmp(path, "-") ? path : NULL;
    writer->header = header;
    writer->format = format;
    if (output_reserve(path, writer->temp, sizeof writer->temp)) {
        free(writer);
        return NULL;
    }
    errno = 0;
    writer->file = hts_open(writer->temp, modes[format]);
    if (!writer->file || (!bare && bcf_hdr_write(writer->file, header) < 0)) {
        write_failed(writer);
        variants_finish(writer, 0);
        return NULL;
    }
    writer->contigs = header->n[BCF_DT_CTG];
    writer->tags = header->n[BCF_DT_ID];
    return writer;
}

int variants_write(variant_writer *writer, bcf1_t *record) {
    if (writer->failed) return -1;
    /* BCF stores numbers of header lines: what the written header lacks cannot be stored */
    if (writer->format >= VARIANT_BCF &&
        (writer->contigs != writer->header->n[BCF_DT_CTG] || writer->tags != writer->header->n[BCF_DT_ID])) {
        complain("at %s:%lld the input uses a contig or tag that its header does not declare, which BCF cannot hold; write VCF "
                 "(-O v "
                 "or z)",
                 bcf_seqname_safe(writer->header, record), (long long)record->pos + 1);
        writer->failed = 1;
        return -1;
    }
    errno = 0;
    return bcf_write(writer->file, writer->header, record) < 0 ? write_failed(writer) : 0;
}

int variants_finish(variant_writer *writer, int keep) {
    if (!writer) return 0;
    errno = 0;
    if (writer->file && hts_close(writer->file) < 0) write_failed(writer);
    int bad = writer->failed;
    if (keep && !bad)
        bad = output_commit(writer->temp, writer->path) != 0;
    else
        output_discard(writer->temp);
    free(writer);
    return bad ? -1 : 0;
}

/* variants_io.h - VCF and BCF in and out, checked to the last byte.
 */
#ifndef STRAND_APP_VARIANTS_IO_H
#define STRAND_APP_VARIANTS_IO_H

#include "say.h"
#include "shard.h"

#include <htslib/vcf.h>

enum { VARIANT_AUTO, VARIANT_VCF, VARIANT_VCF_GZ, VARIANT_BCF, VARIANT_BCF_RAW }; /* AUTO: by the name */

typedef struct variant_reader variant_reader;

/* Records of the shard. NULL on failure, after a message. */
variant_reader *variants_open(const char *path, shard part);
/* Borrowed; it gains entries where records use tags or contigs that it does not declare. */
bcf_hdr_t *variants_header(variant_reader *reader);
/* 1, 0 at the end, -1 after a message. */
int variants_next(variant_reader *reader, bcf1_t *record);
/* Records handed out, and the part of the file read (negative: not known). */
int64_t variants_count(const variant_reader *reader);
double variants_fraction(const variant_reader *reader);
void variants_close(variant_reader *reader);

typedef struct variant_writer variant_writer;

/* VARIANT_AUTO goes by the name: .bcf, .vcf.gz, .vcf.bgz, else VCF. */
int variants_format(const char *path, int format);
/* Writes the header unless `bare`. */
variant_writer *variants_create(const char *path, int format, bcf_hdr_t *header, int bare);
int variants_write(variant_writer *writer, bcf1_t *record);
/* Lets the file appear if `keep`. 0 or -1. */
int variants_finish(variant_writer *writer, int keep);

#endif

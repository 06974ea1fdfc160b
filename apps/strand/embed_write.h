/* embed_write.h - tables of vectors with a row or several a record, as NPY, safetensors or TSV, streamed.
 */
#ifndef STRAND_APP_EMBED_WRITE_H
#define STRAND_APP_EMBED_WRITE_H

#include "options.h"
#include "output.h"
#include "runtime.h"

typedef struct embed_writer embed_writer;

/* Whether --format can go to --output. Returns 0, or EXIT_USAGE after a message. */
int embed_check(const options *settings);
/* By the options --output, --format, --pool; `header`: this is the first shard. NULL on failure, after a message. */
embed_writer *embed_open(const runtime *rt, int64_t channels, int header);
/* A record begins: `rows` vectors of it follow. `contig` and `start` name the positions of a row-a-base table. */
int embed_record(embed_writer *w, const char *name, const char *contig, int64_t start, int64_t length, int64_t rows);
/* The next `rows` vectors of the current record. */
int embed_rows_write(embed_writer *w, const float *values, int64_t rows);
/* Lets the files appear if `keep`. 0 or -1. */
int embed_close(embed_writer *w, int keep);

#endif

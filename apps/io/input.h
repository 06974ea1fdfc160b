/* input.h - opening what the user names, and refusing early what it is not.
 *
 * htslib would happily start to parse CRAM, BAM or a URL. Files are opened here by descriptor (so nothing ever goes to the
 * network), their first bytes are looked at, and anything but the wanted kind is one clear line.
 */
#ifndef STRAND_APP_INPUT_H
#define STRAND_APP_INPUT_H

#include <htslib/bgzf.h>
#include <htslib/hfile.h>
#include <htslib/hts.h>

enum { INPUT_SEQUENCES, INPUT_VARIANTS };

/* NULL or "-" is the standard input. *format gets what the first bytes say. NULL on failure, after a message. */
hFILE *input_open(const char *path, int wanted, htsFormat *format);
/* The same for FASTA and FASTQ, unpacked: the first letter is looked at too, because htslib takes RNA for text. */
BGZF *input_open_sequences(const char *path, htsFormat *format);
/* How messages call it. */
const char *input_name(const char *path);
int input_is_stdin(const char *path);
/* Bytes of a regular file, or -1. */
int64_t input_size(const char *path);
/* The positional argument, or NULL for the standard input; *rc becomes EXIT_USAGE, after a message, when that is a terminal. */
const char *input_argument(const char *const *args, int n_args, int *rc);

#endif

/* run_table.h - numbers for `strand run` from a NumPy array or a table of text, as a model's only input. */
#ifndef STRAND_APP_RUN_TABLE_H
#define STRAND_APP_RUN_TABLE_H

#include "strand.h"

/* Does the path end as such a file does: .npy, .tsv, .csv? */
int table_is(const char *path);
/* Reads it as F32 in the shape of `want`: an array with one axis less becomes a batch of one; a table is [1, rows, columns],
 * a row a token, after a first row of names if it has one. *block is what to free. 0, or -1 after a message. */
int table_read(const char *path, const strand_tensor *want, strand_tensor *out, void **block);

#endif

/* eeg_tables.h - numbers of windows as TSV, NPY or safetensors: [windows, rows, values], rows being channels.
 */
#ifndef STRAND_APP_EEG_TABLES_H
#define STRAND_APP_EEG_TABLES_H

#include "options.h"
#include "output.h"

typedef struct eeg_table eeg_table;

/* By --output and --format. `name` is the tensor's; `columns` the values' names in TSV (NULL: numbers); `row_names` the rows',
 * or NULL when a window has one row (then the shape is [windows, values]). NULL on failure, after a message. */
eeg_table *eeg_table_open(const options *settings, const char *name, int64_t rows, int64_t values, const char *const *columns,
                          const char *const *row_names);
/* A window of rows * values numbers, which begins at `onset` seconds. */
int eeg_table_write(eeg_table *t, double onset, const float *numbers);
/* What was written goes out now (--follow). 0 or -1. */
int eeg_table_flush(eeg_table *t);
/* Lets the file appear if `keep`. 0 or -1. NULL is allowed. */
int eeg_table_close(eeg_table *t, int keep);

#endif

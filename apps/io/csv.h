/* csv.h - tables of text: fields that commas, semicolons or tabs separate, one record after another, in bounded memory.
 *
 * No I/O of its own: bytes come from a callback, so that the same code reads files, pipes, and what a fuzzer makes up. Quoted
 * fields may hold separators, line ends and doubled quotes; lines end with LF, CRLF or CR; a byte-order mark, empty lines and
 * lines that begin with '#' before the header are skipped. The separator is found in the first record.
 */
#ifndef STRAND_APP_CSV_H
#define STRAND_APP_CSV_H

#include <stddef.h>
#include <stdint.h>

enum { CSV_MAX_FIELDS = 65536 };

/* At most `room` bytes into `to`. Returns how many (what there is now, it need not fill), 0 at the end, -1 after a failure. */
typedef int64_t (*csv_fill)(void *user, char *to, size_t room);

typedef struct csv_field {
    const char *text; /* zero-terminated; blanks around an unquoted field are gone */
    size_t length;
    int quoted;
} csv_field;

typedef struct csv csv;

/* NULL when memory is short. */
csv *csv_open(csv_fill fill, void *user);
void csv_close(csv *c);
/* Reads the next record. 1; 0 at the end; -1 on a malformed one or when reading failed, and csv_error says which. */
int csv_next(csv *c);
/* The fields of the last record; good until the next call. */
const csv_field *csv_fields(const csv *c, int *n);
/* The line of the file, from 1, in which the last record begins: what an editor or a spreadsheet calls its row. */
int64_t csv_row(const csv *c);
char csv_separator(const csv *c);
/* "row 17: ..." or "" when the callback has spoken for itself. */
const char *csv_error(const csv *c);
/* Nonzero when the next record is whole in the buffer, so that csv_next does not read. */
int csv_ready(const csv *c);

#endif

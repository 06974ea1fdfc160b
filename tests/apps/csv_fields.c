/* csv_fields.c - prints the records of standard input as the reader of tables sees them: the row, then each field in
 * hexadecimal. The argument is how many bytes it gets at a time. forecast.sh compares that with another reader. */
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>

static size_t piece;

static int64_t fill(void *user, char *to, size_t room) {
    return (int64_t)fread(to, 1, room < piece ? room : piece, user);
}

int main(int argc, char **argv) {
    piece = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 65536;
    csv *table = csv_open(fill, stdin);
    int got, n;
    while (table && (got = csv_next(table)) > 0) {
        const csv_field *fields = csv_fields(table, &n);
        printf("%lld", (long long)csv_row(table));
        for (int i = 0; i < n; i++) {
            putchar(' ');
            for (size_t k = 0; k < fields[i].length; k++) printf("%02x", (unsigned)(unsigned char)fields[i].text[k]);
        }
        putchar('\n');
    }
    if (!table || got < 0) return fprintf(stderr, "%s\n", table ? csv_error(table) : "out of memory"), 1;
    csv_close(table);
    return 0;
}

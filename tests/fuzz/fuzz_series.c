/* fuzz_series.c - tables of time series: rows by any bytes in pieces of any size. What is read is in order, on its grid, and
 * finite. */
#include "series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                                     \
    do {                                                                                                                       \
        if (!(condition)) abort();                                                                                             \
    } while (0)

typedef struct pieces {
    const uint8_t *data;
    size_t size, piece;
} pieces;

static int64_t fill(void *user, char *to, size_t room) {
    pieces *p = user;
    size_t n = p->size < p->piece ? p->size : p->piece;
    if (n > room) n = room;
    memcpy(to, p->data, n);
    p->data += n;
    p->size -= n;
    return (int64_t)n;
}

static void check_fields(const csv *table) {
    int n;
    const csv_field *fields = csv_fields(table, &n);
    REQUIRE(n > 0 && csv_row(table) > 0);
    for (int i = 0; i < n; i++) REQUIRE(strlen(fields[i].text) == fields[i].length);
}

static void check_series(const series_set *set) {
    for (int64_t i = 0; i < set->n; i++) {
        const series *s = &set->items[i];
        for (int64_t k = 1; k < s->n; k++) REQUIRE(frequency_steps(&set->freq, s->times[k - 1], s->times[k]) == 1);
        for (int64_t k = 0; k < s->n * set->columns; k++) REQUIRE(isfinite(s->values[k]));
        for (int64_t k = 0; k < s->n; k++) {
            char text[48];
            time_format(s->times[k], &set->style, text, sizeof text);
            REQUIRE(strlen(text) < sizeof text);
        }
    }
}

/* The records alone, however they are cut into pieces: the same fields. */
static uint64_t read_table(const uint8_t *data, size_t size, size_t piece) {
    pieces p = {data, size, piece};
    csv *table = csv_open(fill, &p);
    uint64_t sum = 1469598103934665603u;
    int n, got;
    REQUIRE(table);
    while ((got = csv_next(table)) > 0) {
        check_fields(table);
        const csv_field *fields = csv_fields(table, &n);
        for (int i = 0; i < n; i++)
            for (size_t k = 0; k <= fields[i].length; k++) sum = (sum ^ (unsigned char)fields[i].text[k]) * 1099511628211u;
        sum = (sum ^ (uint64_t)csv_row(table)) * 1099511628211u;
    }
    REQUIRE(got == 0 || csv_error(table)[0]);
    csv_close(table);
    return sum + (uint64_t)got;
}

static void read_series(const uint8_t *data, size_t size, size_t piece, const series_options *o) {
    pieces p = {data, size, piece};
    csv *table = csv_open(fill, &p);
    series_set set;
    REQUIRE(table);
    int bad = series_begin(&set, table, o);
    while (!bad) {
        int64_t touched = 0;
        const int got = series_next(&set, &touched);
        if (got > 0) REQUIRE(touched >= 0 && touched < set.n);
        if (got == 0) break;
        bad = got < 0;
    }
    if (!bad) bad = series_finish(&set);
    REQUIRE(!bad || (set.error[0]));
    if (!bad) check_series(&set);
    series_free(&set);
    csv_close(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    const uint8_t how = data[0], cut = data[1];
    const size_t piece = 1 + (size_t)cut * 7;
    series_options o = {.most_filled = 5000,
                        .columns = 1 + (how >> 6 == 1),
                        .missing = (series_missing)(how & 3),
                        .decimal = (series_decimal)((how >> 2) % 3)};
    if (how >> 6 == 2) o.prefer = "OT";
    if (how >> 6 == 3) o.values = "y,b";
    if (size < 4096) REQUIRE(read_table(data + 2, size - 2, 1) == read_table(data + 2, size - 2, 1 << 20));
    read_series(data + 2, size - 2, piece, &o);
    return 0;
}

/* test_series.c - the reader of time series: times, frequencies, numbers, layouts, holes, and what each kind of bad table is
 * told. */
#include "series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- times ---- */

static void check_time(const char *text, int64_t seconds, time_kind kind) {
    int64_t time;
    time_style style;
    char back[48];
    if (time_parse(text, &time, &style)) fail_msg("'%s' is not read", text);
    assert_int_equal(style.kind, kind);
    assert_int_equal(time, kind == TIME_NUMBER ? seconds : seconds * 1000000);
    time_format(time, &style, back, sizeof back);
    assert_string_equal(back, text);
}

static void times_go_there_and_back(void **state) {
    (void)state;
    check_time("2016-07-01 00:00:00", 1467331200, TIME_CALENDAR);
    check_time("2016-07-01T00:00:00Z", 1467331200, TIME_CALENDAR);
    check_time("2016-07-01T02:00:00+02:00", 1467331200, TIME_CALENDAR);
    check_time("2016-06-30T18:30:00-05:30", 1467331200, TIME_CALENDAR);
    check_time("2016-07-01", 1467331200, TIME_CALENDAR);
    check_time("2016/07/01 00:00", 1467331200, TIME_CALENDAR);
    check_time("01.07.2016 00:00", 1467331200, TIME_CALENDAR);
    check_time("2016-07", 1467331200, TIME_CALENDAR);
    check_time("1467331200", 1467331200, TIME_SECONDS);
    check_time("1467331200000", 1467331200, TIME_MILLISECONDS);
    check_time("17", 17, TIME_NUMBER);
    check_time("-3", -3, TIME_NUMBER);
    check_time("1969-12-31 23:59:59", -1, TIME_CALENDAR);
    check_time("0001-01-01", -62135596800, TIME_CALENDAR);
    check_time("9999-12-31 23:59:59", 253402300799, TIME_CALENDAR);
    check_time("2000-02-29", 951782400, TIME_CALENDAR);
}

static void fractions_of_seconds_are_kept(void **state) {
    (void)state;
    int64_t time;
    time_style style;
    char text[48];
    assert_int_equal(time_parse("2020-01-01T00:00:00.125Z", &time, &style), 0);
    assert_int_equal(time, 1577836800125000);
    time_format(time + 125000, &style, text, sizeof text);
    assert_string_equal(text, "2020-01-01T00:00:00.250Z");
}

static void what_is_no_time(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "x",
                                      "2020-13-01",
                                      "2020-02-30",
                                      "1900-02-29",
                                      "2020-01-01T",
                                      "2020-01-01 24:00",
                                      "2020-01-01 00:60",
                                      "2020-1-1",
                                      "2020-01-01 00:00+25:00",
                                      "2020-01-01 00:00:00.",
                                      "1.5",
                                      "12/31/2020",
                                      "2020-01-01 00:00 x",
                                      "0000-01-01",
                                      "99999999999999999999",
                                      "--1",
                                      "2020-01/01"};
    int64_t time;
    time_style style;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!time_parse(bad[i], &time, &style)) fail_msg("'%s' is read as a time", bad[i]);
}

/* ---- frequencies ---- */

static void check_frequency(const char *name, const char *first, const char *second, const char *tenth) {
    frequency f;
    int64_t time;
    time_style style;
    char text[48];
    assert_int_equal(frequency_parse(name, &f), 0);
    assert_int_equal(time_parse(first, &time, &style), 0);
    time_format(frequency_after(&f, time, 1), &style, text, sizeof text);
    assert_string_equal(text, second);
    time_format(frequency_after(&f, time, 10), &style, text, sizeof text);
    assert_string_equal(text, tenth);
    assert_int_equal(frequency_steps(&f, time, frequency_after(&f, time, 10)), 10);
}

static void steps_through_time(void **state) {
    (void)state;
    check_frequency("15min", "2020-02-28 23:45", "2020-02-29 00:00", "2020-02-29 02:15");
    check_frequency("h", "2020-02-28 23:45", "2020-02-29 00:45", "2020-02-29 09:45");
    check_frequency("D", "2020-02-28", "2020-02-29", "2020-03-09");
    check_frequency("W", "2020-02-28", "2020-03-06", "2020-05-08");
    check_frequency("MS", "2020-02-01", "2020-03-01", "2020-12-01");
    check_frequency("ME", "2020-01-31", "2020-02-29", "2020-11-30");
    check_frequency("Q", "2020-01-01", "2020-04-01", "2022-07-01");
    check_frequency("Y", "2020-01-01", "2021-01-01", "2030-01-01");
    check_frequency("B", "2020-02-28", "2020-03-02", "2020-03-13");
    check_frequency("B", "2020-03-03", "2020-03-04", "2020-03-17");
    check_frequency("5", "10", "15", "60");
}

static void steps_that_are_none(void **state) {
    (void)state;
    static const char *const bad[] = {"", "x", "0h", "-1h", "1.5h", "2B", "h h", "99999999999h", "1 h"};
    frequency f;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!frequency_parse(bad[i], &f)) fail_msg("'%s' is read as a frequency", bad[i]);
}

/* ---- tables ---- */

typedef struct source {
    const char *text;
    size_t left;
} source;

static int64_t give(void *user, char *to, size_t room) {
    source *s = user;
    size_t n = s->left < 5 ? s->left : 5;
    if (n > room) n = room;
    memcpy(to, s->text, n);
    s->text += n;
    s->left -= n;
    return (int64_t)n;
}

static int read_text(series_set *set, const char *text, const series_options *given) {
    source s = {text, strlen(text)};
    series_options o = given ? *given : (series_options){0};
    if (!o.columns) o.columns = 1;
    csv *table = csv_open(give, &s);
    assert_non_null(table);
    int got = series_begin(set, table, &o);
    for (got = got ? got : 1; got > 0;) got = series_next(set, NULL);
    if (!got) got = series_finish(set);
    csv_close(table);
    return got;
}

static void check_values(const char *text, const series_options *o, int64_t which, int64_t n, const double *values) {
    series_set set;
    if (read_text(&set, text, o)) fail_msg("%s", set.error);
    assert_true(which < set.n);
    assert_int_equal(set.items[which].n, n);
    for (int64_t i = 0; i < n * set.columns; i++)
        if (fabs(set.items[which].values[i] - values[i]) > 1e-12)
            fail_msg("value %d is %g, not %g", (int)i, set.items[which].values[i], values[i]);
    series_free(&set);
}

#define VALUES(...)                                                                                                            \
    (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]) {                                                  \
        __VA_ARGS__                                                                                                            \
    }

static void layouts(void **state) {
    (void)state;
    check_values("ds,y\n2020-01-01,1\n2020-01-02,2\n", NULL, 0, VALUES(1, 2));
    check_values("unique_id,ds,y\na,2020-01-01,1\nb,2020-01-01,5\na,2020-01-02,2\nb,2020-01-02,6\n", NULL, 1, VALUES(5, 6));
    check_values("date,A,OT\n2020-01-01,1,5\n2020-01-02,2,6\n", NULL, 0, VALUES(1, 2));
    check_values("date,A,OT\n2020-01-01,1,5\n2020-01-02,2,6\n", &(series_options){.prefer = "OT"}, 0, VALUES(5, 6));
    check_values("date,A,OT\n2020-01-01,1,5\n2020-01-02,2,6\n", &(series_options){.values = "A"}, 0, VALUES(1, 2));
    check_values("k;when;what\nx;2020-01-01;1,5\nx;2020-01-02;-2,25e1\n",
                 &(series_options){.id = "k", .time = "when", .values = "what"}, 0, VALUES(1.5, -22.5));
    check_values(",v\n2020-01-01,1\n2020-01-02,2\n", NULL, 0, VALUES(1, 2)); /* an index without a name */
    series_set set;
    assert_int_equal(read_text(&set, "date,A,OT\n2020-01-01,1,5\n2020-01-02,2,6\n", &(series_options){.columns = 2}), 0);
    assert_int_equal(set.n, 1);
    assert_true(set.items[0].values[3] == 6);
    series_free(&set);
}

static void ways_of_writing(void **state) {
    (void)state;
    check_values("\xEF\xBB\xBF"
                 "ds;y\r\n2020-01-01;1,5\r\n2020-01-02;\"1.234,5\"\r\n",
                 NULL, 0, VALUES(1.5, 1234.5));
    check_values("ds\ty\n2020-01-01\t 1 \n2020-01-02\t2", NULL, 0, VALUES(1, 2));
    check_values("# made by hand\n\nds,y\r2020-01-01,1\r2020-01-02,2\r", NULL, 0, VALUES(1, 2));
    check_values("\"ds\",\"y\"\n\"2020-01-01\",\"1\"\n\"2020-01-02\", \"2\" \n", NULL, 0, VALUES(1, 2));
    check_values("ds,y\n2020-01-01,\"1,5\"\n2020-01-02,2\n", &(series_options){.decimal = DECIMAL_COMMA}, 0, VALUES(1.5, 2));
    check_values("ds,y\n2020-01-03,3\n2020-01-01,1\n2020-01-02,2\n", NULL, 0, VALUES(1, 2, 3));
}

static void holes_are_filled(void **state) {
    (void)state;
    const char *const text = "ds,y\n2020-01-01,NA\n2020-01-02,2\n2020-01-03,4\n2020-01-04,nan\n2020-01-06,10\n2020-01-07,\n";
    check_values(text, &(series_options){.missing = MISSING_LINEAR}, 0, VALUES(2, 4, 6, 8, 10));
    check_values(text, &(series_options){.missing = MISSING_FFILL}, 0, VALUES(2, 4, 4, 4, 10, 10));
    check_values(text, &(series_options){.missing = MISSING_ZERO}, 0, VALUES(0, 2, 4, 0, 0, 10, 0));
    static const char *const words[] = {"NA", "N/A", "NaN", "null", "None", "-", ".", "?", "#N/A", "<NA>", "\"\""};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char table[96];
        snprintf(table, sizeof table, "ds,y\n2020-01-01,1\n2020-01-02,%s\n2020-01-03,3\n", words[i]);
        check_values(table, &(series_options){.missing = MISSING_LINEAR}, 0, VALUES(1, 2, 3));
    }
}

static void check_inferred(const char *text, const char *name) {
    series_set set;
    char found[32];
    if (read_text(&set, text, NULL)) fail_msg("%s", set.error);
    frequency_name(&set.freq, found, sizeof found);
    assert_string_equal(found, name);
    series_free(&set);
}

static void frequencies_are_inferred(void **state) {
    (void)state;
    check_inferred("ds,y\n2020-01-01 00:00,1\n2020-01-01 00:15,2\n2020-01-01 00:30,2\n", "15min");
    check_inferred("ds,y\n2020-01-31,1\n2020-02-29,2\n2020-03-31,2\n2020-04-30,2\n", "1M");
    check_inferred("ds,y\n2020-01,1\n2020-04,2\n2020-07,2\n", "1Q");
    check_inferred("ds,y\n2019-01-01,1\n2020-01-01,2\n2021-01-01,2\n", "1Y");
    check_inferred("ds,y\n2020-01-02,1\n2020-01-03,2\n2020-01-06,3\n2020-01-07,3\n2020-01-08,3\n", "1B");
    check_inferred("ds,y\n2020-01-02,1\n2020-01-09,2\n2020-01-16,3\n", "1W");
    check_inferred("ds,y\n1577836800,1\n1577840400,2\n", "1h");
    check_inferred("ds,y\n10,1\n20,2\n", "10");
    /* summer time begins: the zone says that no hour is missing */
    check_inferred("ds,y\n2020-03-29T00:00+01:00,1\n2020-03-29T01:00+01:00,2\n2020-03-29T03:00+02:00,3\n", "1h");
}

static void check_refused(const char *text, const series_options *o, const char *said) {
    series_set set;
    if (!read_text(&set, text, o)) fail_msg("this should say '%s': %s", said, text);
    if (!strstr(set.error, said)) fail_msg("says '%s', not '%s'", set.error, said);
    if (strchr(set.error, '\n')) fail_msg("more than one line: %s", set.error);
    series_free(&set);
}

static void bad_tables_are_refused(void **state) {
    (void)state;
    check_refused("", NULL, "is empty");
    check_refused("ds,y\n", NULL, "there are no samples");
    check_refused("ds,y\n2020-01-01,1\n", NULL, "say --freq");
    check_refused("2020-01-01,1\n2020-01-02,2\n", NULL, "row 1: the table has no header");
    check_refused("a,b\n2020-01-01,1\n", NULL, "row 1: which column holds the times?");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,x\n", NULL, "row 3, column 2: 'x' is no number");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,inf\n", NULL, "row 3, column 2: 'inf'");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,\"1,5\"\n", NULL, "--decimal comma");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,1e999\n", NULL, "row 3, column 2: '1e999'");
    check_refused("ds,y\n2020-01-01,1\nyesterday,2\n", NULL, "row 3, column 1: 'yesterday' is no time");
    check_refused("ds,y\n2020-01-01,1\n5,2\n", NULL, "row 3, column 1: '5' is of another kind");
    check_refused("ds,y\n2020-01-01 00:00,1\n2020-01-01 01:00Z,2\n", NULL, "has a zone");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02\n", NULL, "row 3: has 1 column, but the header has 2");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2,3\n", NULL, "row 3: has 3 columns");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,\n2020-01-03,3\n", NULL,
                  "row 3, column 2: the value at 2020-01-02 is missing");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n2020-01-04,3\n", NULL,
                  "row 4: 1 sample is missing between 2020-01-02 and 2020-01-04");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n2020-01-02,3\n", NULL, "row 4: 2020-01-02 is there twice, first in row 3");
    check_refused("ds,y\n2020-01-01 00:00,1\n2020-01-01 01:00,2\n2020-01-01 02:00,2\n2020-01-01 02:30,3\n", NULL,
                  "row 5: from 2020-01-01 02:00 to 2020-01-01 02:30 is no whole number of steps");
    check_refused("id,ds,y\na,2020-01-01,1\na,2020-01-02,2\nb,2020-01-01,1\nb,2020-01-01,2\n", NULL, "of series 'b'");
    check_refused("ds,y\n\"2020-01-01,1\n", NULL, "row 2: a quote is not closed");
    check_refused("ds,y\n\"2020-01-01\"x,1\n", NULL, "row 2: text follows a closing quote");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n", &(series_options){.values = "z"}, "there is no column 'z'");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n", &(series_options){.time = "z"}, "there is no column 'z'");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n", &(series_options){.columns = 2}, "the model wants 2 variables");
    check_refused("ds,y\n2020-01-01,1\n2020-01-02,2\n2199-01-01,2\n",
                  &(series_options){.missing = MISSING_ZERO, .most_filled = 100}, "would take more than 100 samples");
}

static void limits_of_time(void **state) {
    (void)state;
    series_set set;
    int64_t until;
    time_style style;
    assert_int_equal(time_parse("2020-01-02", &until, &style), 0);
    assert_int_equal(
        read_text(&set, "ds,y\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n", &(series_options){.limited = 1, .until = until}),
        0);
    assert_int_equal(set.items[0].n, 2);
    series_free(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_go_there_and_back),  cmocka_unit_test(fractions_of_seconds_are_kept),
        cmocka_unit_test(what_is_no_time),          cmocka_unit_test(steps_through_time),
        cmocka_unit_test(steps_that_are_none),      cmocka_unit_test(layouts),
        cmocka_unit_test(ways_of_writing),          cmocka_unit_test(holes_are_filled),
        cmocka_unit_test(frequencies_are_inferred), cmocka_unit_test(bad_tables_are_refused),
        cmocka_unit_test(limits_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

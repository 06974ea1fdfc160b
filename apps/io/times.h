/* times.h - points in time as text and as numbers, and series that are sampled at a steady frequency.
 *
 * A time is an int64: microseconds since 1970-01-01 (UTC, or the file's own clock where it names no zone), or a plain whole
 * number where the file counts. Read: ISO 8601 dates and times with or without zone ('T' or a blank between, slashes for
 * hyphens), 31.12.2020 [23:59], seconds since 1970 (9 to 11 digits), milliseconds (12 to 14), other whole numbers as they are.
 */
#ifndef STRAND_APP_TIMES_H
#define STRAND_APP_TIMES_H

#include <stddef.h>
#include <stdint.h>

typedef enum time_kind { TIME_NONE, TIME_NUMBER, TIME_SECONDS, TIME_MILLISECONDS, TIME_CALENDAR } time_kind;

/* How a column writes its times, so that new ones can be written the same way. */
typedef struct time_style {
    time_kind kind;
    char date;       /* '-', '/', '.' (day first) */
    char between;    /* 'T', ' ', or 0: dates without a time of day; 'M': year and month alone */
    int seconds;     /* seconds are written */
    int decimals;    /* of the seconds */
    int zoned, zulu; /* a zone is written; as 'Z' */
    int32_t zone;    /* minutes east of Greenwich */
} time_style;

#define TIME_DAY ((int64_t)86400000000)

/* Reads the whole text. 0, or -1 when it is no time of any kind. */
int time_parse(const char *text, int64_t *time, time_style *style);
/* Writes a time in this style; `text` holds at least 48 bytes. */
void time_format(int64_t time, const time_style *style, char *text, size_t size);
/* Year, month and day of a calendar time. */
void time_date(int64_t time, int *year, int *month, int *day);
/* The time at which this day begins. */
int64_t time_from_date(int64_t year, int month, int day);

typedef enum frequency_kind {
    FREQUENCY_NONE,
    FREQUENCY_COUNT,
    FREQUENCY_STEP,
    FREQUENCY_MONTHS,
    FREQUENCY_BUSINESS
} frequency_kind;

typedef struct frequency {
    frequency_kind kind;
    int64_t step; /* numbers; microseconds; months; 1 */
    int day;      /* FREQUENCY_MONTHS: of the month, 1 to 31; a shorter month ends it */
} frequency;

/* "15min", "1h", "H", "D", "W", "MS", "M", "Q", "Y", "B", or a number for counted series. 0, or -1. */
int frequency_parse(const char *text, frequency *f);
/* "1h", "15min", "1D", "1M", "1B", "1"; at least 32 bytes. */
void frequency_name(const frequency *f, char *text, size_t size);
/* "one sample every 15 minutes" ... for people. */
void frequency_words(const frequency *f, char *text, size_t size);
/* The frequency that most neighbours of these ascending times have. 0, or -1 when there are fewer than two distinct times. */
int frequency_infer(const int64_t *times, int64_t n, time_kind kind, frequency *f);
/* The time `steps` samples after `time`, or INT64_MAX when that is out of range. */
int64_t frequency_after(const frequency *f, int64_t time, int64_t steps);
/* Samples from `from` on to `to` (> from), or -1 when `to` is not on the grid. */
int64_t frequency_steps(const frequency *f, int64_t from, int64_t to);
int frequency_same(const frequency *a, const frequency *b);
/* Samples in the usual season: a day of hours or minutes, a week of days, a year of months; 1 where there is none. */
int64_t frequency_season(const frequency *f);

#endif

/* times.c - times as text. Arithmetic of frequencies is in frequency.c. See times.h.
 *
 * Days are counted by Howard Hinnant's algorithm (era of 400 years, March first), which holds for all years that are let in
 * here: 1 to 9999.
 */
#include "times.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int month_days(int64_t year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

int64_t time_from_date(int64_t year, int month, int day) {
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    const int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    const int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    return days * TIME_DAY;
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

void time_date(int64_t time, int *year, int *month, int *day) {
    const int64_t z = floor_div(time, TIME_DAY) + 719468;
    const int64_t era = floor_div(z, 146097), of_era = z - era * 146097;
    const int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

/* Exactly `digits` decimal digits. */
static int read_digits(const char **text, int digits, int *value) {
    *value = 0;
    for (int i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)(*text)[i])) return -1;
        *value = *value * 10 + (*text)[i] - '0';
    }
    *text += digits;
    return 0;
}

static int read_date(const char **text, time_style *style, int64_t *time) {
    int year, month, day = 1;
    const char *p = *text;
    if (p[0] && p[1] && p[2] == '.') {
        if (read_digits(&p, 2, &day) || *p++ != '.' || read_digits(&p, 2, &month) || *p++ != '.' || read_digits(&p, 4, &year))
            return -1;
        style->date = '.';
    } else {
        if (read_digits(&p, 4, &year) || (*p != '-' && *p != '/')) return -1;
        style->date = *p++;
        if (read_digits(&p, 2, &month)) return -1;
        if (*p == style->date) {
            p++;
            if (read_digits(&p, 2, &day)) return -1;
        } else if (!*p)
            style->between = 'M';
        else
            return -1;
    }
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days(year, month)) return -1;
    *time = time_from_date(year, month, day);
    *text = p;
    return 0;
}

static int read_clock(const char **text, time_style *style, int64_t *time) {
    int hour, minute, second = 0;
    int64_t micro = 0;
    const char *p = *text;
    if (read_digits(&p, 2, &hour) || *p++ != ':' || read_digits(&p, 2, &minute)) return -1;
    if (*p == ':') {
        p++;
        if (read_digits(&p, 2, &second)) return -1;
        style->seconds = 1;
        if (*p == '.' || *p == ',') {
            int64_t unit = 100000;
            for (p++; isdigit((unsigned char)*p); p++, unit /= 10) {
                micro += unit * (*p - '0');
                if (style->decimals < 6) style->decimals++;
            }
            if (!style->decimals) return -1;
        }
    }
    if (hour > 23 || minute > 59 || second > 59) return -1;
    *time += (((int64_t)hour * 60 + minute) * 60 + second) * 1000000 + micro;
    *text = p;
    return 0;
}

static int read_zone(const char **text, time_style *style, int64_t *time) {
    const char *p = *text;
    int hour = 0, minute = 0;
    if (*p == ' ' && (p[1] == '+' || p[1] == '-' || p[1] == 'Z' || p[1] == 'U')) p++;
    if (!*p) return *text = p, 0;
    if (!strcmp(p, "Z") || !strcmp(p, "z") || !strcmp(p, "UTC")) {
        style->zoned = style->zulu = 1;
        *text = p + strlen(p);
        return 0;
    }
    if (*p != '+' && *p != '-') return -1;
    const int sign = *p++ == '-' ? -1 : 1;
    if (read_digits(&p, 2, &hour)) return -1;
    if (*p == ':') p++;
    if (*p && read_digits(&p, 2, &minute)) return -1;
    if (hour > 23 || minute > 59) return -1;
    style->zoned = 1;
    style->zone = sign * (hour * 60 + minute);
    *time -= (int64_t)style->zone * 60 * 1000000;
    *text = p;
    return 0;
}

static int parse_number(const char *text, int64_t *time, time_style *style) {
    const int negative = *text == '-';
    const char *p = text + (negative || *text == '+');
    int64_t value = 0;
    int digits = 0;
    for (; isdigit((unsigned char)*p) && digits < 16; p++, digits += digits || value) value = value * 10 + *p - '0';
    if (p == text || !isdigit((unsigned char)p[-1])) return -1;
    if (!strcmp(p, ".0")) p += 2; /* as programs write whole numbers of a column that has holes */
    if (*p || value > (int64_t)100000000000000) return -1;
    style->kind = digits >= 9 && digits <= 11 ? TIME_SECONDS : digits >= 12 ? TIME_MILLISECONDS : TIME_NUMBER;
    if (style->kind == TIME_SECONDS) value *= 1000000;
    if (style->kind == TIME_MILLISECONDS) value *= 1000;
    *time = negative ? -value : value;
    return 0;
}

int time_parse(const char *text, int64_t *time, time_style *style) {
    const char *p = text;
    memset(style, 0, sizeof *style);
    if (!parse_number(text, time, style)) return 0;
    memset(style, 0, sizeof *style);
    style->kind = TIME_CALENDAR;
    if (read_date(&p, style, time)) return -1;
    if (!*p) return 0;
    if ((*p != 'T' && *p != 't' && *p != ' ') || style->between == 'M') return -1;
    style->between = *p++ == ' ' ? ' ' : 'T';
    return read_clock(&p, style, time) || read_zone(&p, style, time) || *p ? -1 : 0;
}

void time_format(int64_t time, const time_style *style, char *text, size_t size) {
    int year, month, day;
    if (style->kind != TIME_CALENDAR) {
        const int64_t unit = style->kind == TIME_SECONDS ? 1000000 : style->kind == TIME_MILLISECONDS ? 1000 : 1;
        snprintf(text, size, "%lld", (long long)floor_div(time, unit));
        return;
    }
    const int64_t local = time + (int64_t)style->zone * 60 * 1000000;
    time_date(local, &year, &month, &day);
    const int64_t clock = local - floor_div(local, TIME_DAY) * TIME_DAY;
    int n;
    if (style->date == '.')
        n = snprintf(text, size, "%02d.%02d.%04d", day, month, year);
    else if (style->between == 'M')
        n = snprintf(text, size, "%04d%c%02d", year, style->date, month);
    else
        n = snprintf(text, size, "%04d%c%02d%c%02d", year, style->date, month, style->date, day);
    const int seconds = style->seconds || clock / 1000000 % 60 || clock % 1000000;
    if (style->between == 'M' || (!style->between && !clock)) return;
    n += snprintf(text + n, size - (size_t)n, "%c%02d:%02d", style->between ? style->between : ' ', (int)(clock / 3600000000LL),
                  (int)(clock / 60000000 % 60));
    if (seconds) n += snprintf(text + n, size - (size_t)n, ":%02d", (int)(clock / 1000000 % 60));
    const int decimals = clock % 1000000 && !style->decimals ? 6 : style->decimals;
    if (decimals) {
        char digits[16];
        snprintf(digits, sizeof digits, "%06d", (int)(clock % 1000000));
        n += snprintf(text + n, size - (size_t)n, ".%.*s", decimals, digits);
    }
    if (style->zulu)
        snprintf(text + n, size - (size_t)n, "Z");
    else if (style->zoned)
        snprintf(text + n, size - (size_t)n, "%c%02d:%02d", style->zone < 0 ? '-' : '+', abs(style->zone) / 60,
                 abs(style->zone) % 60);
}

/* frequency.c - steady steps through time: fixed ones, months, business days. See times.h.
 */
#include "times.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND ((int64_t)1000000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define WEEK   (7 * TIME_DAY)
#define FAR    ((int64_t)1 << 60)
#define LATEST ((int64_t)253402300799 * SECOND + 999999) /* the end of the year 9999 */

static const struct unit {
    const char *names; /* words that mean it, blanks around each */
    const char *name, *word;
    frequency_kind kind;
    int64_t step;
} units[] = {
    {" us microsecond ", "us", "microsecond", FREQUENCY_STEP, 1},
    {" ms L millisecond ", "ms", "millisecond", FREQUENCY_STEP, 1000},
    {" s S sec second ", "s", "second", FREQUENCY_STEP, SECOND},
    {" min T t minute ", "min", "minute", FREQUENCY_STEP, MINUTE},
    {" h H hour hourly ", "h", "hour", FREQUENCY_STEP, HOUR},
    {" D d day daily ", "D", "day", FREQUENCY_STEP, TIME_DAY},
    {" W w week weekly ", "W", "week", FREQUENCY_STEP, WEEK},
    {" M MS ME month monthly ", "M", "month", FREQUENCY_MONTHS, 1},
    {" Q QS QE quarter quarterly ", "Q", "quarter", FREQUENCY_MONTHS, 3},
    {" Y YS YE A AS year yearly ", "Y", "year", FREQUENCY_MONTHS, 12},
    {" B business ", "B", "business day", FREQUENCY_BUSINESS, 1},
};
enum { N_UNITS = sizeof units / sizeof *units };

int frequency_parse(const char *text, frequency *f) {
    char *end = NULL, word[24];
    const long long count = isdigit((unsigned char)*text) ? strtoll(text, &end, 10) : 1;
    const char *name = end ? end : text;
    if (count < 1 || count > 1000000000) return -1;
    if (end && !*end) return *f = (frequency){FREQUENCY_COUNT, count, 0}, 0;
    if (strlen(name) > 16 || !isalpha((unsigned char)*name)) return -1;
    snprintf(word, sizeof word, " %s ", name);
    for (int i = 0; i < N_UNITS; i++)
        if (strstr(units[i].names, word)) {
            if (units[i].kind == FREQUENCY_BUSINESS && count != 1) return -1;
            if (units[i].step > FAR / count) return -1;
            const int last = strlen(name) == 2 && name[1] == 'E', first = strlen(name) == 2 && name[1] == 'S';
            *f = (frequency){units[i].kind, units[i].step * count, last ? 31 : first ? 1 : 0};
            return 0;
        }
    return -1;
}

/* The largest unit that divides the step. */
static const struct unit *unit_of(const frequency *f) {
    const struct unit *best = NULL;
    for (int i = 0; i < N_UNITS; i++)
        if (units[i].kind == f->kind && f->step % units[i].step == 0 && (units[i].step != WEEK || f->step == WEEK))
            best = &units[i];
    return best;
}

void frequency_name(const frequency *f, char *text, size_t size) {
    const struct unit *unit = unit_of(f);
    if (unit)
        snprintf(text, size, "%lld%s", (long long)(f->step / unit->step), unit->name);
    else
        snprintf(text, size, "%lld", (long long)f->step);
}

void frequency_words(const frequency *f, char *text, size_t size) {
    const struct unit *unit = unit_of(f);
    const long long count = (long long)(unit ? f->step / unit->step : f->step);
    if (!unit)
        snprintf(text, size, count == 1 ? "counted one by one" : "counted in steps of %lld", count);
    else if (count == 1)
        snprintf(text, size, "one sample every %s", unit->word);
    else
        snprintf(text, size, "one sample every %lld %ss", count, unit->word);
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

/* 0: Monday. */
static int weekday(int64_t time) {
    const int64_t days = floor_div(time, TIME_DAY) + 3;
    return (int)(days - floor_div(days, 7) * 7);
}

static int days_in(int64_t year, int month) {
    return (
        int)((time_from_date(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1, 1) - time_from_date(year, month, 1)) /
             TIME_DAY);
}

static int64_t after_months(const frequency *f, int64_t time, int64_t months) {
    int year, month, day;
    time_date(time, &year, &month, &day);
    const int64_t clock = time - floor_div(time, TIME_DAY) * TIME_DAY, index = (int64_t)year * 12 + month - 1 + months;
    if (index < 12 || index >= 120000) return INT64_MAX;
    const int64_t to_year = index / 12;
    const int to_month = (int)(index % 12) + 1, most = days_in(to_year, to_month), want = f->day > day ? f->day : day;
    return time_from_date(to_year, to_month, want < most ? want : most) + clock;
}

int64_t frequency_after(const frequency *f, int64_t time, int64_t steps) {
    if (steps > FAR / (f->step ? f->step : 1) || time > FAR || time < -FAR) return INT64_MAX;
    if (f->kind == FREQUENCY_MONTHS) return after_months(f, time, steps * f->step);
    if (f->kind == FREQUENCY_COUNT) return time + steps * f->step;
    if (f->kind != FREQUENCY_BUSINESS) return time + steps * f->step <= LATEST ? time + steps * f->step : INT64_MAX;
    if (steps > FAR / (2 * TIME_DAY)) return INT64_MAX;
    int at = weekday(time);
    if (at > 4) { /* a weekend counts as its Friday */
        time -= (at - 4) * TIME_DAY;
        at = 4;
    }
    const int64_t weeks = (at + steps) / 5, rest = (at + steps) % 5;
    return time + (weeks * 7 + rest - at) * TIME_DAY <= LATEST ? time + (weeks * 7 + rest - at) * TIME_DAY : INT64_MAX;
}

int64_t frequency_steps(const frequency *f, int64_t from, int64_t to) {
    int64_t steps;
    if (to <= from || to > FAR || from < -FAR) return -1;
    if (f->kind == FREQUENCY_MONTHS) {
        int y0, m0, d0, y1, m1, d1;
        time_date(from, &y0, &m0, &d0);
        time_date(to, &y1, &m1, &d1);
        steps = ((int64_t)(y1 - y0) * 12 + m1 - m0) / f->step;
    } else if (f->kind == FREQUENCY_BUSINESS) {
        const int64_t days = floor_div(to, TIME_DAY) - floor_div(from, TIME_DAY), at = weekday(from);
        if (weekday(to) > 4 || at > 4) return -1;
        steps = days / 7 * 5 + days % 7 - (at + days % 7 > 6 ? 2 : 0);
    } else
        steps = (to - from) / f->step;
    return steps > 0 && frequency_after(f, from, steps) == to ? steps : -1;
}

int frequency_same(const frequency *a, const frequency *b) {
    return a->kind == b->kind && a->step == b->step;
}

static int by_value(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The difference that occurs most among the first neighbours; the smaller of two that occur as often. */
static int64_t commonest_step(const int64_t *times, int64_t n, int64_t *least, int64_t *most) {
    enum { LOOK = 1000 };
    int64_t steps[LOOK], count = 0, best = 0, times_best = 0;
    for (int64_t i = 1; i < n && count < LOOK; i++)
        if (times[i] > times[i - 1] && times[i - 1] > -FAR && times[i] < FAR) steps[count++] = times[i] - times[i - 1];
    if (!count) return 0;
    qsort(steps, (size_t)count, sizeof *steps, by_value);
    for (int64_t i = 0, run = 0; i < count; i++) {
        run = i && steps[i] == steps[i - 1] ? run + 1 : 1;
        if (run > times_best) best = steps[i], times_best = run;
    }
    *least = steps[0];
    *most = steps[count - 1];
    return best;
}

/* Steps of calendar months: at least 28 days a month, and the same clock and day (or the months' ends) throughout. */
static int months_fit(const int64_t *times, int64_t n, int64_t least, frequency *f) {
    static const int candidates[] = {12, 3, 1};
    int year, month, day, latest = 0;
    for (int64_t i = 0; i < n; i++) {
        time_date(times[i], &year, &month, &day);
        if (day > latest) latest = day;
    }
    for (size_t c = 0; c < sizeof candidates / sizeof *candidates; c++) {
        const frequency trial = {FREQUENCY_MONTHS, candidates[c], latest};
        int64_t bad = 0;
        if (least < candidates[c] * 28 * TIME_DAY) continue;
        for (int64_t i = 1; i < n && !bad; i++) bad = frequency_steps(&trial, times[i - 1], times[i]) < 0;
        if (!bad) return *f = trial, 1;
    }
    return 0;
}

static int business_fits(const int64_t *times, int64_t n, int64_t most) {
    int64_t over_weekends = 0;
    for (int64_t i = 0; i < n; i++) {
        if (weekday(times[i]) > 4) return 0;
        over_weekends += i && weekday(times[i]) < weekday(times[i - 1]);
    }
    return over_weekends > 0 && most >= 3 * TIME_DAY;
}

int frequency_infer(const int64_t *times, int64_t n, time_kind kind, frequency *f) {
    int64_t least = 0, most = 0;
    const int64_t step = commonest_step(times, n, &least, &most);
    if (step <= 0) return -1;
    if (kind == TIME_NUMBER) return *f = (frequency){FREQUENCY_COUNT, step, 0}, 0;
    if (least >= 28 * TIME_DAY && months_fit(times, n, least, f)) return 0;
    *f = (frequency){FREQUENCY_STEP, step, 0};
    if (step == TIME_DAY && least == TIME_DAY && business_fits(times, n, most)) *f = (frequency){FREQUENCY_BUSINESS, 1, 0};
    return 0;
}

int64_t frequency_season(const frequency *f) {
    if (f->kind == FREQUENCY_BUSINESS) return 5;
    if (f->kind == FREQUENCY_MONTHS) return f->step < 12 && 12 % f->step == 0 ? 12 / f->step : 1;
    if (f->kind != FREQUENCY_STEP) return 1;
    if (f->step == TIME_DAY) return 7;
    if (f->step == WEEK) return 52;
    if (f->step < TIME_DAY && f->step >= SECOND && TIME_DAY % f->step == 0)
        return f->step >= MINUTE ? TIME_DAY / f->step : MINUTE / f->step;
    return 1;
}

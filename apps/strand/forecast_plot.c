/* forecast_plot.c - a picture a person can read: history, forecast and bands of up to MOST_PANELS series, as SVG. See
 * forecast.h.
 *
 * One panel a series, under each other, with axes of their own. Colours are classes of one style sheet that follows the
 * reader's choice of light or dark. Lines of very many samples are thinned to the least and the most of each run, so that no
 * peak is lost.
 */
#include "forecast.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 960, PANEL = 330, LEFT = 76, RIGHT = 24, TOP = 58, BOTTOM = 58, MOST_POINTS = 2000 };
#define INNER_WIDTH  (WIDTH - LEFT - RIGHT)
#define INNER_HEIGHT (PANEL - TOP - BOTTOM)

struct plot {
    output *out;
    const series_set *set;
    const char *family, *unit;
    const band_levels *levels;
    int panels;
};

/* A panel's scales: x by sample (0: the first of the history), y by value. */
typedef struct frame {
    plot *p;
    int64_t samples, past, last_time;
    double low, high, top; /* of y; of the panel */
} frame;

static double x_at(const frame *f, double sample) {
    return LEFT + INNER_WIDTH * sample / (double)(f->samples > 1 ? f->samples - 1 : 1);
}

static double y_at(const frame *f, double value) {
    return f->top + TOP + INNER_HEIGHT * (f->high - value) / (f->high - f->low);
}

static void put_xml(plot *p, const char *text, size_t most) {
    for (size_t n = 0; *text && n < most; text++, n++) {
        if (*text == '<')
            output_printf(p->out, "&lt;");
        else if (*text == '&')
            output_printf(p->out, "&amp;");
        else if ((unsigned char)*text >= 0x20)
            output_write(p->out, text, 1);
    }
}

/* Bytes of the first `most` characters of UTF-8. */
static size_t prefix_bytes(const char *text, size_t most) {
    size_t n = 0;
    for (; text[n] && most; n++)
        if (((unsigned char)text[n + 1] & 0xC0) != 0x80) most--;
    return n;
}

static const char style[] =
    "<style>\n"
    "text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#3b3b3b}\n"
    ".title{font-size:16px;font-weight:600;fill:#111}\n"
    ".paper{fill:#fff}.grid{stroke:#e4e4e4;stroke-width:1}.axis{stroke:#8a8a8a;stroke-width:1}\n"
    ".history{fill:none;stroke:#4a4a4a;stroke-width:1.3}.forecast{fill:none;stroke:#0b62c4;stroke-width:1.8}\n"
    ".band{fill:#0b62c4;fill-opacity:.18;stroke:none}.now{stroke:#8a8a8a;stroke-width:1;stroke-dasharray:4 4}\n"
    "@media "
    "(prefers-color-scheme:dark){text{fill:#c9c9c9}.title{fill:#f2f2f2}.paper{fill:#15181c}.grid{stroke:#2b3036}.axis,.now{"
    "stroke:#7d848c}"
    ".history{stroke:#c4c7cb}.forecast{stroke:#6db1ff}.band{fill:#6db1ff;fill-opacity:.24}}\n"
    "</style>\n";

plot *plot_open(const char *path, const series_set *set, const char *family, const band_levels *levels, const char *unit) {
    plot *p = calloc(1, sizeof *p);
    if (!p) return complain("out of memory"), NULL;
    p->set = set;
    p->family = family;
    p->levels = levels;
    p->unit = unit;
    p->out = output_open(path);
    if (!p->out) return free(p), NULL;
    if (output_seekable(p->out)) return p;
    complain("%s: a plot needs a regular file", path);
    plot_close(p, 0);
    return NULL;
}

/* ---- axes ---- */

/* The step of 1, 2 or 5 times a power of ten that gives about `wanted` steps. */
static double nice_step(double range, int wanted) {
    const double raw = range / wanted, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static void y_axis(frame *f, const char *name) {
    plot *p = f->p;
    const double step = nice_step(f->high - f->low, 5);
    for (double v = ceil(f->low / step) * step; v <= f->high + 1e-9 * step; v += step) {
        const double y = y_at(f, v), shown = fabs(v) < 1e-9 * step ? 0 : v;
        output_printf(p->out,
                      "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" "
                      "text-anchor=\"end\">%.6g</text>\n",
                      LEFT, WIDTH - RIGHT, y, y, LEFT - 8, y + 4.5, shown);
    }
    output_printf(p->out, "<text transform=\"translate(18 %.1f) rotate(-90)\" text-anchor=\"middle\">",
                  f->top + TOP + INNER_HEIGHT / 2.0);
    put_xml(p, name, prefix_bytes(name, 24));
    if (p->unit) {
        output_printf(p->out, " (");
        put_xml(p, p->unit, prefix_bytes(p->unit, 12));
        output_printf(p->out, ")");
    }
    output_printf(p->out, "</text>\n");
}

static int64_t time_of(const frame *f, int64_t sample) {
    const frequency *q = &f->p->set->freq;
    const int64_t steps = sample - (f->past - 1);
    if (steps >= 0) return frequency_after(q, f->last_time, steps);
    if (q->kind == FREQUENCY_MONTHS || q->kind == FREQUENCY_BUSINESS) { /* backwards only by search: there are few samples */
        int64_t time = f->last_time;
        for (int64_t i = steps; i < 0; i++) {
            int64_t before = time - TIME_DAY;
            while (frequency_steps(q, before, time) != 1 && time - before < 400 * TIME_DAY * q->step) before -= TIME_DAY;
            time = before;
        }
        return time;
    }
    return f->last_time + steps * q->step;
}

static int64_t floor_to(int64_t a, int64_t b) {
    return (a / b - (a % b < 0)) * b;
}

/* The first tick at or after `time`; months > 0: on the first day of every so many months. */
static int64_t tick_at(int64_t time, int64_t step, int months) {
    int year, month, day;
    if (!months) return floor_to(time + step - 1, step);
    time_date(time, &year, &month, &day);
    int64_t index = (int64_t)year * 12 + month - 1;
    if (time_from_date(year, month, 1) < time) index++;
    index = (index + months - 1) / months * months;
    return time_from_date(index / 12, (int)(index % 12) + 1, 1);
}

static void choose_ticks(int64_t span, int64_t *step, int *months) {
    static const int64_t steps[] = {1,    2,    5,    10,    15,    30,    60,    120,    300,    600,    900,
                                    1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 604800, 1209600};
    static const int month_steps[] = {1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200};
    *months = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        *step = steps[i] * 1000000;
        if (span / *step <= 8) return;
    }
    for (size_t i = 0; i < sizeof month_steps / sizeof *month_steps; i++) {
        *months = month_steps[i];
        if (span / (30 * TIME_DAY * *months) <= 8) return;
    }
}

/* "5 Jul 2018" where the year is new, "5 Jul", "18:00" within a day. */
static void tick_text(int64_t time, int64_t step, int months, int first, char *text, size_t size) {
    static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static int last_year;
    int year, month, day;
    time_date(time, &year, &month, &day);
    const int64_t clock = time - floor_to(time, TIME_DAY);
    const int new_year = first || year != last_year;
    last_year = year;
    if (months >= 12)
        snprintf(text, size, "%d", year);
    else if (months)
        snprintf(text, size, new_year ? "%s %d" : "%s", names[month - 1], year);
    else if (clock && first)
        snprintf(text, size, "%d %s %02d:%02d", day, names[month - 1], (int)(clock / 3600000000LL),
                 (int)(clock / 60000000 % 60));
    else if (!clock)
        snprintf(text, size, new_year && step >= TIME_DAY ? "%d %s %d" : "%d %s", day, names[month - 1], year);
    else if (step < 60000000)
        snprintf(text, size, "%02d:%02d:%02d", (int)(clock / 3600000000LL), (int)(clock / 60000000 % 60),
                 (int)(clock / 1000000 % 60));
    else
        snprintf(text, size, "%02d:%02d", (int)(clock / 3600000000LL), (int)(clock / 60000000 % 60));
}

static void x_tick(frame *f, double x, const char *text) {
    const double bottom = f->top + TOP + INNER_HEIGHT;
    output_printf(f->p->out,
                  "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%.1f\" y=\"%.1f\" "
                  "text-anchor=\"middle\">%s</text>\n",
                  x, x, bottom, bottom + 5, x, bottom + 20, text);
}

static void number_ticks(frame *f) {
    char text[32];
    const int64_t first = time_of(f, 0), last = time_of(f, f->samples - 1), unit = f->p->set->freq.step;
    int64_t step = (int64_t)nice_step((double)(last - first) / (double)unit + 1, 7);
    step = (step < 1 ? 1 : step) * unit;
    for (int64_t t = floor_to(first + step - 1, step); t <= last; t += step) {
        snprintf(text, sizeof text, "%lld", (long long)t);
        x_tick(f, LEFT + (double)INNER_WIDTH * (double)(t - first) / (double)(last - first ? last - first : 1), text);
    }
}

/* Returns the year when the ticks do not name it, else 0. */
static int time_ticks(frame *f) {
    char text[48];
    int months, count = 0;
    int64_t step;
    const int64_t zone = (int64_t)f->p->set->style.zone * 60000000, first = time_of(f, 0) + zone,
                  last = time_of(f, f->samples - 1) + zone;
    choose_ticks(last - first, &step, &months);
    for (int64_t t = tick_at(first, step, months); t <= last; t = tick_at(t + 1, step, months)) {
        const double x = LEFT + (double)INNER_WIDTH * (double)(t - first) / (double)(last - first ? last - first : 1);
        tick_text(t, step, months, count++ == 0, text, sizeof text);
        if (x > WIDTH - RIGHT - 12) break; /* its text would leave the picture */
        x_tick(f, x, text);
    }
    int year, month, day;
    time_date(first, &year, &month, &day);
    return !months && step < TIME_DAY ? year : 0;
}

static void x_axis(frame *f) {
    char words[80], in_year[24] = "";
    plot *p = f->p;
    const double bottom = f->top + TOP + INNER_HEIGHT;
    output_printf(p->out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, WIDTH - RIGHT, bottom,
                  bottom);
    const int year = p->set->freq.kind == FREQUENCY_COUNT ? (number_ticks(f), 0) : time_ticks(f);
    if (year) snprintf(in_year, sizeof in_year, " in %d", year);
    frequency_words(&p->set->freq, words, sizeof words);
    output_printf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">time%s, %s%s</text>\n", LEFT + INNER_WIDTH / 2.0,
                  bottom + 42, in_year, words, p->set->style.zoned ? p->set->style.zone ? ", local" : ", UTC" : "");
}

/* ---- lines ---- */

/* Points of n values `stride` apart, from sample `from` on. */
static void points(frame *f, const double *values, int64_t n, int stride, int64_t from) {
    const int64_t run = (n + MOST_POINTS - 1) / MOST_POINTS;
    for (int64_t i = 0; i < n; i += run) {
        int64_t low = i, high = i;
        for (int64_t k = i; k < i + run && k < n; k++) {
            if (values[k * stride] < values[low * stride]) low = k;
            if (values[k * stride] > values[high * stride]) high = k;
        }
        const int64_t a = low < high ? low : high, b = low < high ? high : low;
        output_printf(f->p->out, "%.1f,%.1f ", x_at(f, (double)(from + a)), y_at(f, values[a * stride]));
        if (b != a) output_printf(f->p->out, "%.1f,%.1f ", x_at(f, (double)(from + b)), y_at(f, values[b * stride]));
    }
}

static void band(frame *f, const double *values, int columns, int64_t n, int level) {
    const double *lo = values + 1 + 2 * level, *hi = values + 2 + 2 * level;
    if (isnan(*lo)) return;
    output_printf(f->p->out, "<polygon class=\"band\" points=\"");
    points(f, lo, n, columns, f->past);
    for (int64_t t = n - 1; t >= 0; t--)
        output_printf(f->p->out, "%.1f,%.1f ", x_at(f, (double)(f->past + t)), y_at(f, hi[t * columns]));
    output_printf(f->p->out, "\"/>\n");
}

static void legend(frame *f, int bands) {
    plot *p = f->p;
    double x = LEFT;
    const double y = f->top + 44;
    output_printf(
        p->out,
        "<line class=\"history\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%.0f\" y=\"%.1f\">history</text>\n",
        x, x + 24, y - 4, y - 4, x + 30, y);
    x += 96;
    output_printf(p->out,
                  "<line class=\"forecast\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%.0f\" "
                  "y=\"%.1f\">forecast (%s)</text>\n",
                  x, x + 24, y - 4, y - 4, x + 30, y, p->family);
    x += 52 + 8.0 * (double)(strlen(p->family) + 11);
    if (!bands) return;
    output_printf(p->out,
                  "<rect class=\"band\" x=\"%.0f\" y=\"%.1f\" width=\"24\" height=\"12\"/><text x=\"%.0f\" y=\"%.1f\">band", x,
                  y - 10, x + 30, y);
    for (int i = 0; i < p->levels->n; i++) output_printf(p->out, "%s %s %%", i ? "," : "", p->levels->name[i]);
    output_printf(p->out, "</text>\n");
}

static void find_range(frame *f, const double *history, const double *values, int columns, int64_t n) {
    f->low = INFINITY;
    f->high = -INFINITY;
    for (int64_t i = 0; i < f->past; i++) f->low = fmin(f->low, history[i]), f->high = fmax(f->high, history[i]);
    for (int64_t i = 0; i < n * columns; i++)
        if (!isnan(values[i])) f->low = fmin(f->low, values[i]), f->high = fmax(f->high, values[i]);
    const double room = f->high > f->low ? 0.06 * (f->high - f->low) : fabs(f->high) > 0 ? 0.1 * fabs(f->high) : 1;
    f->low -= room;
    f->high += room;
}

int plot_add(plot *p, const char *id, int64_t last_time, const double *history, int64_t past, const double *values, int columns,
             int64_t n) {
    frame f = {.p = p, .samples = past + n, .past = past, .last_time = last_time, .top = (double)p->panels * PANEL};
    if (!p->panels)
        output_printf(p->out,
                      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%6d\" viewBox=\"0 0 %d %6d\" "
                      "role=\"img\">\n%s<rect class=\"paper\" width=\"100%%\" height=\"100%%\"/>\n",
                      WIDTH, 0, WIDTH, 0, style);
    p->panels++;
    find_range(&f, history, values, columns, n);
    output_printf(p->out, "<text class=\"title\" x=\"%d\" y=\"%.1f\">", LEFT, f.top + 24);
    put_xml(p, id, prefix_bytes(id, 80));
    output_printf(p->out, "</text>\n");
    y_axis(&f, p->set->has_ids && p->set->n_names == 1 ? p->set->names[0] : id);
    x_axis(&f);
    legend(&f, p->levels->n > 0 && columns > 1 && !isnan(values[1]));
    for (int i = 0; i < p->levels->n && columns > 1; i++) band(&f, values, columns, n, i);
    output_printf(
        p->out, "<line class=\"now\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n<polyline class=\"history\" points=\"",
        x_at(&f, (double)past - 0.5), x_at(&f, (double)past - 0.5), f.top + TOP, f.top + TOP + INNER_HEIGHT);
    points(&f, history, past, 1, 0);
    output_printf(p->out, "\"/>\n<polyline class=\"forecast\" points=\"");
    points(&f, values, n, columns, past);
    return output_printf(p->out, "\"/>\n");
}

int plot_close(plot *p, int keep) {
    if (!p) return 0;
    char head[160];
    int bad = 0;
    output_printf(p->out, "</svg>\n");
    const int n = snprintf(head, sizeof head,
                           "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%6d\" viewBox=\"0 0 %d %6d\"",
                           WIDTH, p->panels * PANEL, WIDTH, p->panels * PANEL);
    if (keep) bad = output_rewrite(p->out, 0, head, (size_t)n);
    if (output_close(p->out, keep && !bad)) bad = 1;
    free(p);
    return bad ? -1 : 0;
}

/* ---- sparkline ---- */

static void blocks(const double *values, int64_t n, int stride, int width, double low, double high) {
    static const char *const marks[] = {"\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
    for (int i = 0; i < width; i++) {
        const int64_t from = n * i / width, to = n * (i + 1) / width > from ? n * (i + 1) / width : from + 1;
        double sum = 0;
        for (int64_t k = from; k < to; k++) sum += values[k * stride];
        const double level = high > low ? (sum / (double)(to - from) - low) / (high - low) : 0.5;
        fputs(marks[level >= 1 ? 7 : level <= 0 ? 0 : (int)(level * 8)], stderr);
    }
}

void sparkline(const char *id, const double *history, int64_t past, const double *values, int columns, int64_t n) {
    enum { CELLS = 64 };
    if (!isatty(STDERR_FILENO)) return;
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < past; i++) low = fmin(low, history[i]), high = fmax(high, history[i]);
    for (int64_t i = 0; i < n; i++) low = fmin(low, values[i * columns]), high = fmax(high, values[i * columns]);
    int left = (int)(CELLS * past / (past + n)), right;
    if (left < 1) left = 1;
    if (left > CELLS - 1) left = CELLS - 1;
    right = n < CELLS - left ? (int)n : CELLS - left;
    if (past < left) left = (int)past;
    progress_clear();
    fprintf(stderr, "%.16s ", id);
    blocks(history, past, 1, left, low, high);
    fputs(" | ", stderr);
    blocks(values, n, columns, right, low, high);
    fprintf(stderr, "  %.4g to %.4g; %lld samples, then %lld\n", low, high, (long long)past, (long long)n);
}

/* eeg_score.c - `strand eeg score`: detected events against a reference, as SzCORE scores them (Dan et al. 2024, timescoring).
 *
 * By events: neighbours closer than 90 s are joined and events longer than 5 min cut; a reference event is found when anything
 * overlaps it from 30 s before its begin to 60 s after its end; a detected event is false when none of it lies in the found
 * ones so widened. By samples: seconds. Both on a grid of time, 0.1 s and 1 s, as the published program does it (timescoring
 * 0.0.7).
 */
#include "commands.h"
#include "eeg_events.h"
#include "escape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct interval {
    double from, to;
} interval;

typedef struct interval_list {
    interval *items;
    int64_t n;
} interval_list;

typedef struct score {
    int64_t found, reference, false_ones;
    double seconds;
} score;

static int compare(const void *a, const void *b) {
    const interval *x = a, *y = b;
    return x->from != y->from ? (x->from < y->from ? -1 : 1) : x->to < y->to ? -1 : x->to > y->to;
}

/* The seizures of a list: every type that begins with "sz". */
static int take_seizures(const eeg_event_list *events, interval_list *to) {
    to->n = 0;
    to->items = malloc(((size_t)events->n + 1) * sizeof *to->items);
    if (!to->items) return complain("out of memory"), -1;
    for (int64_t i = 0; i < events->n; i++)
        if (!strncmp(events->items[i].type, "sz", 2))
            to->items[to->n++] = (interval){events->items[i].onset, events->items[i].onset + events->items[i].duration};
    qsort(to->items, (size_t)to->n, sizeof *to->items, compare);
    return 0;
}

static void join(interval_list *l, double gap) {
    int64_t kept = 0;
    for (int64_t i = 0; i < l->n; i++) {
        if (kept && l->items[i].from - l->items[kept - 1].to < gap)
            l->items[kept - 1].to = fmax(l->items[kept - 1].to, l->items[i].to);
        else
            l->items[kept++] = l->items[i];
    }
    l->n = kept;
}

static int cut(interval_list *l, double most) {
    int64_t n = 0;
    for (int64_t i = 0; i < l->n; i++) n += 1 + (int64_t)((l->items[i].to - l->items[i].from) / most);
    interval *pieces = malloc(((size_t)n + 1) * sizeof *pieces);
    if (!pieces) return complain("out of memory"), -1;
    n = 0;
    for (int64_t i = 0; i < l->n; i++) {
        interval rest = l->items[i];
        for (; rest.to - rest.from > most; rest.from += most) pieces[n++] = (interval){rest.from, rest.from + most};
        pieces[n++] = rest;
    }
    free(l->items);
    *l = (interval_list){pieces, n};
    return 0;
}

static int64_t place(double seconds, double rate, int64_t n) {
    const double at = rint(seconds * rate);
    return at < 0 ? 0 : at > (double)n ? n : (int64_t)at;
}

static uint8_t *paint(const interval_list *l, double rate, int64_t n) {
    uint8_t *mask = calloc((size_t)n + 1, 1);
    for (int64_t i = 0; mask && i < l->n; i++) {
        const int64_t from = place(l->items[i].from, rate, n), to = place(l->items[i].to, rate, n);
        if (to > from) memset(mask + from, 1, (size_t)(to - from));
    }
    if (!mask) complain("out of memory");
    return mask;
}

static int score_samples(const interval_list *reference, const interval_list *found, double seconds, score *s) {
    const int64_t n = (int64_t)rint(seconds);
    uint8_t *a = paint(reference, 1, n), *b = a ? paint(found, 1, n) : NULL;
    *s = (score){.seconds = (double)n};
    for (int64_t i = 0; b && i < n; i++) {
        s->reference += a[i];
        s->found += a[i] && b[i];
        s->false_ones += !a[i] && b[i];
    }
    free(a);
    free(b);
    return b ? 0 : -1;
}

static int64_t count(const uint8_t *mask, int64_t from, int64_t to) {
    int64_t n = 0;
    for (int64_t i = from; i < to; i++) n += mask[i];
    return n;
}

static int score_events(const options *o, interval_list *reference, interval_list *found, double seconds, score *s) {
    const double rate = 10;
    const int64_t n = (int64_t)rint(seconds * rate);
    join(reference, o->min_between);
    join(found, o->min_between);
    if (cut(reference, o->max_event) || cut(found, o->max_event)) return -1;
    uint8_t *b = paint(found, rate, n), *good = b ? calloc((size_t)n + 1, 1) : NULL;
    *s = (score){.reference = reference->n, .seconds = seconds};
    for (int64_t i = 0; good && i < reference->n; i++) {
        const double from = fmax(0, reference->items[i].from - o->tolerance_start),
                     to = fmin(seconds, reference->items[i].to + o->tolerance_end);
        const int64_t p = place(from, rate, n), q = place(to, rate, n);
        if (!(to > from) || (double)count(b, p, q) / rate / (to - from) <= o->min_overlap + 1e-6) continue;
        s->found++;
        memset(good + p, 1, (size_t)(q - p));
    }
    for (int64_t i = 0; good && i < found->n; i++)
        s->false_ones += !count(good, place(found->items[i].from, rate, n), place(found->items[i].to, rate, n));
    free(b);
    free(good);
    return good ? 0 : (complain("out of memory"), -1);
}

static void write_score(output *out, const char *name, const score *s, int format) {
    const double sensitivity = s->reference ? (double)s->found / (double)s->reference : NAN;
    const double precision = s->found + s->false_ones ? (double)s->found / (double)(s->found + s->false_ones) : NAN;
    const int64_t both = s->reference + s->found + s->false_ones; /* 2 found + missed + false */
    const double f1 = both ? 2 * (double)s->found / (double)both : NAN;
    const double rate = s->seconds > 0 ? (double)s->false_ones / (s->seconds / 86400) : NAN;
    const double values[] = {sensitivity, precision, f1, rate};
    static const char *const keys[] = {"sensitivity", "precision", "f1", "fpRate"};
    if (format == SCORE_JSON) {
        output_printf(out, "%s  \"%s_results\": {\"tp\": %lld, \"refTrue\": %lld, \"fp\": %lld",
                      strcmp(name, "sample") ? ",\n" : "", name, (long long)s->found, (long long)s->reference,
                      (long long)s->false_ones);
        for (int i = 0; i < 4; i++) {
            output_printf(out, ", \"%s\": ", keys[i]);
            write_json_number(out, "%.6f", values[i]);
        }
        output_printf(out, "}");
        return;
    }
    output_printf(out, "%s\t%lld\t%lld\t%lld", name, (long long)s->reference, (long long)s->found, (long long)s->false_ones);
    for (int i = 0; i < 4; i++)
        if (isnan(values[i]))
            output_printf(out, "\tn/a");
        else
            output_printf(out, "\t%.4f", values[i]);
    output_printf(out, "\n");
}

static int write_scores(const options *o, const score *samples, const score *events) {
    output *out = output_open(o->output);
    if (!out) return EXIT_FAILED;
    if (o->score_format == SCORE_JSON)
        output_printf(out, "{\n");
    else
        output_printf(out, "scoring\treference\tfound\tfalse\tsensitivity\tprecision\tf1\tfalse_per_24h\n");
    write_score(out, "sample", samples, o->score_format);
    write_score(out, "event", events, o->score_format);
    if (o->score_format == SCORE_JSON) output_printf(out, "\n}\n");
    return output_close(out, 1) ? EXIT_FAILED : EXIT_DONE;
}

static int score_lists(const options *o, const eeg_event_list lists[2], double seconds) {
    interval_list reference = {0}, found = {0};
    score samples, events;
    int bad = take_seizures(&lists[0], &reference) || take_seizures(&lists[1], &found) ||
              score_samples(&reference, &found, seconds, &samples) || score_events(o, &reference, &found, seconds, &events);
    const int rc = bad ? EXIT_FAILED : write_scores(o, &samples, &events);
    free(reference.items);
    free(found.items);
    return rc;
}

int run_eeg_score(const options *settings) {
    eeg_event_list lists[2] = {{0}};
    double seconds[2] = {0, 0};
    int bad = 0;
    for (int i = 0; i < 2 && !bad; i++) bad = eeg_events_read(settings->args[i], &lists[i], &seconds[i]);
    double total = settings->rate > 0 ? settings->rate : seconds[0] > 0 ? seconds[0] : seconds[1];
    if (!bad && seconds[0] > 0 && seconds[1] > 0 && fabs(seconds[0] - seconds[1]) > 1) {
        complain("%s and %s are of recordings of different length (%.2f s and %.2f s)", settings->args[0], settings->args[1],
                 seconds[0], seconds[1]);
        bad = -1;
    }
    if (!bad && !(total > 0))
        bad = (complain("%s: does not say how long the recording is (recordingDuration); give --duration SECONDS",
                        settings->args[0]),
               -1);
    if (!bad && total > 1e8) bad = (complain("%s: a recording of %.0f s is no recording", settings->args[0], total), -1);
    const int rc = bad ? EXIT_FAILED : score_lists(settings, lists, total);
    eeg_events_free(&lists[0]);
    eeg_events_free(&lists[1]);
    return rc;
}

/* eeg_events.c - see eeg_events.h. The table has the columns of SzCORE (Dan et al. 2024, BIDS events), two decimals, "n/a".
 */
#include "eeg_events.h"

#include "escape.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int eeg_events_add(eeg_event_list *list, const eeg_event *event) {
    if (!(list->n & (list->n - 1))) {
        eeg_event *items = realloc(list->items, sizeof *items * (size_t)(list->n ? 2 * list->n : 1));
        if (!items) return complain("out of memory: %lld events", (long long)list->n), -1;
        list->items = items;
    }
    list->items[list->n++] = *event;
    return 0;
}

void eeg_events_free(eeg_event_list *list) {
    free(list->items);
    list->items = NULL;
    list->n = 0;
}

/* ---- making ---- */

static void name_channels(const eeg_event_maker *m, eeg_event *e) {
    size_t used = 0;
    for (int32_t c = 0; m->channels && c < m->n_channels && m->seconds; c++) {
        if (m->sums[c] / (double)m->seconds < m->threshold) continue;
        const int n = snprintf(e->channels + used, sizeof e->channels - used, "%s%s", used ? "," : "", m->channels[c].name);
        if (n < 0 || (size_t)n >= sizeof e->channels - used) break;
        used += (size_t)n;
    }
    if (!used) snprintf(e->channels, sizeof e->channels, "n/a");
}

int32_t eeg_events_likeliest(const double *kinds, int32_t n) {
    int32_t best = 0;
    for (int32_t k = 1; k < n; k++)
        if (kinds[k] > kinds[best]) best = k;
    return best;
}

int eeg_events_break(eeg_event_maker *m) {
    if (!m->open) return 0;
    m->open = 0;
    if (m->to - m->from < m->least) return 0;
    eeg_event e = {.onset = m->from, .duration = m->to - m->from, .type = "sz", .confidence = m->peak};
    if (m->n_kinds) snprintf(e.type, sizeof e.type, "%s", m->kinds[eeg_events_likeliest(m->kind_sums, m->n_kinds)]);
    name_channels(m, &e);
    return m->give(m->user, &e);
}

int eeg_events_second(eeg_event_maker *m, double at, double probability, const double *channels, const double *kinds) {
    const int32_t kind = kinds ? eeg_events_likeliest(kinds, m->n_kinds) : 0;
    if (m->open && at - m->to >= m->gap && probability < m->threshold) {
        const int rc = eeg_events_break(m);
        if (rc) return rc;
    }
    if (!(probability >= m->threshold)) return 0;
    if (m->open && ((at - m->to >= m->gap && at > m->to) || (m->split && kind != m->kind))) {
        const int rc = eeg_events_break(m);
        if (rc) return rc;
    }
    if (!m->open) {
        m->open = 1;
        m->from = at;
        m->peak = 0;
        m->seconds = 0;
        memset(m->sums, 0, sizeof m->sums);
        memset(m->kind_sums, 0, sizeof m->kind_sums);
    }
    m->kind = kind;
    m->to = at + 1;
    m->seconds++;
    if (probability > m->peak) m->peak = probability;
    for (int32_t c = 0; channels && c < m->n_channels && c < EVENT_CHANNELS; c++) m->sums[c] += channels[c];
    for (int32_t k = 0; kinds && k < m->n_kinds; k++) m->kind_sums[k] += kinds[k];
    return 0;
}

/* ---- writing ---- */

void eeg_start_text(const eeg_source *s, char text[24]) {
    const int *t = s->rec->start;
    char date[96];
    if (s->rec->has_start && !s->settings->no_date)
        snprintf(date, sizeof date, "%04d-%02d-%02d %02d:%02d:%02d", t[0], t[1], t[2], t[3], t[4], t[5]);
    else
        snprintf(date, sizeof date, "1925-01-01 00:00:00");
    snprintf(text, 24, "%.23s", date);
}

void eeg_events_tsv_header(output *out) {
    output_printf(out, "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n");
}

void eeg_events_tsv_row(output *out, const eeg_source *s, const eeg_event *e, double duration) {
    char start[24];
    eeg_start_text(s, start);
    output_printf(out, "%.2f\t%.2f\t%s\t", e->onset, e->duration, e->type);
    if (isfinite(e->confidence))
        output_printf(out, "%.2f", e->confidence);
    else
        output_printf(out, "n/a");
    output_printf(out, "\t%s\t%s\t%.2f\n", e->channels, start, duration);
}

void eeg_events_json_row(output *out, const eeg_event *e) {
    output_printf(out, "{\"onset\": %.2f, \"duration\": %.2f, \"eventType\": \"%s\", \"confidence\": ", e->onset, e->duration,
                  e->type);
    write_json_number(out, "%.4f", e->confidence);
    output_printf(out, ", \"channels\": [");
    for (const char *p = strcmp(e->channels, "n/a") ? e->channels : ""; *p;) {
        const size_t n = strcspn(p, ",");
        output_printf(out, "%s\"%.*s\"", p == e->channels ? "" : ", ", (int)n, p);
        p += n + (p[n] == ',');
    }
    output_printf(out, "]}\n");
}

void eeg_events_background(eeg_event *e, double duration) {
    memset(e, 0, sizeof *e);
    e->duration = duration;
    e->confidence = NAN;
    snprintf(e->type, sizeof e->type, "bckg");
    snprintf(e->channels, sizeof e->channels, "n/a");
}

/* ---- reading ---- */

typedef struct columns {
    int onset, duration, type, total;
} columns;

static int find_columns(char *line, columns *c) {
    int i = 0;
    *c = (columns){-1, -1, -1, -1};
    for (char *cell = strtok(line, "\t\r\n"); cell; cell = strtok(NULL, "\t\r\n"), i++) {
        if (!strcmp(cell, "onset")) c->onset = i;
        if (!strcmp(cell, "duration")) c->duration = i;
        if (!strcmp(cell, "eventType") || !strcmp(cell, "trial_type")) c->type = i;
        if (!strcmp(cell, "recordingDuration")) c->total = i;
    }
    return c->onset < 0 || c->duration < 0 || c->type < 0 ? -1 : 0;
}

/* Cell i, cut out of the line; NULL when there is none. */
static const char *cell(char *copy, int i) {
    char *at = copy;
    for (; i > 0; i--) {
        at = strchr(at, '\t');
        if (!at) return NULL;
        at++;
    }
    at[strcspn(at, "\t\r\n")] = 0;
    return at;
}

static int number_cell(const char *line, int i, double *value) {
    char copy[1024], *end;
    snprintf(copy, sizeof copy, "%s", line);
    const char *text = i < 0 ? NULL : cell(copy, i);
    if (!text || !*text) return -1;
    *value = strtod(text, &end);
    return *end || !isfinite(*value) ? -1 : 0;
}

static int read_row(const char *path, const char *line, int number, const columns *c, eeg_event_list *list, double *duration) {
    char copy[1024];
    eeg_event e = {.confidence = NAN};
    double total;
    snprintf(copy, sizeof copy, "%s", line);
    const char *type = cell(copy, c->type);
    if (!type || !*type || number_cell(line, c->onset, &e.onset) || number_cell(line, c->duration, &e.duration) ||
        e.onset < 0 || e.duration < 0)
        return complain("%s:%d: is no event: onset and duration must be seconds, eventType a word", path, number), -1;
    if (!number_cell(line, c->total, &total) && total > 0) *duration = total;
    snprintf(e.type, sizeof e.type, "%.47s", type);
    snprintf(e.channels, sizeof e.channels, "n/a");
    return eeg_events_add(list, &e);
}

int eeg_events_read(const char *path, eeg_event_list *list, double *duration) {
    FILE *file = fopen(path, "r");
    if (!file) return complain("%s: cannot be opened: %s", path, strerror(errno)), -1;
    char line[1024], header[1024];
    columns c = {-1, -1, -1, -1};
    int number = 0, bad = 0, have = 0;
    while (!bad && fgets(line, sizeof line, file)) {
        number++;
        if (!strchr(line, '\n') && !feof(file))
            bad = (complain("%s:%d: the line is too long for a table of events", path, number), -1);
        if (bad || !line[strspn(line, " \t\r\n")] || line[0] == '#') continue;
        snprintf(header, sizeof header, "%s", line);
        if (!have && find_columns(header, &c))
            bad = (complain("%s:%d: is no table of events: it needs the columns onset, duration and eventType", path, number),
                   -1);
        if (!bad && have) bad = read_row(path, line, number, &c, list, duration);
        have = 1;
    }
    if (!bad && ferror(file)) bad = (complain("%s: cannot be read: %s", path, strerror(errno)), -1);
    if (!bad && !have) bad = (complain("%s: is empty", path), -1);
    fclose(file);
    return bad;
}

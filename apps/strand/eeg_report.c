/* eeg_report.c - the document. See eeg_report.h.
 *
 * Order: what it is and what it is not; what was found; timelines; traces around what was found; where on the scalp; how
 * channels were mapped and how good the signals are; the model. Nothing here comes from the header's patient fields (they are
 * never read), and neither dates, paths nor the recording's own annotations are shown.
 */
#include "eeg_report.h"

#include "escape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TRACES = 6 };

void eeg_report_open(eeg_report *r, const options *settings, const char *kind) {
    memset(r, 0, sizeof *r);
    r->settings = settings;
    r->kind = kind;
}

static void series_free(eeg_series *s) {
    free(s->at);
    free(s->value);
}

void eeg_report_close(eeg_report *r) {
    series_free(&r->probability);
    series_free(&r->error);
    series_free(&r->stage);
    for (int i = 0; i < REPORT_STAGES; i++) series_free(&r->stage_probability[i]);
    eeg_events_free(&r->events);
}

static int series_add(eeg_series *s, double at, double width, double value) {
    if (!(s->n & (s->n - 1))) {
        const size_t room = (size_t)(s->n ? 2 * s->n : 1);
        double *a = realloc(s->at, room * sizeof *a), *b = a ? realloc(s->value, room * sizeof *b) : NULL;
        if (a) s->at = a;
        if (b) s->value = b;
        if (!b) return complain("out of memory"), -1;
    }
    s->at[s->n] = at;
    s->value[s->n++] = value;
    s->width = width;
    return 0;
}

static void add_nodes(eeg_report *r, const double *channels) {
    if (!channels) return;
    for (int i = 0; i < 19; i++) r->node_sum[i] += channels[i];
    r->node_n++;
}

int eeg_report_error(eeg_report *r, double onset, double duration, double error, const double *channels) {
    add_nodes(r, channels);
    return series_add(&r->error, onset, duration, error);
}

int eeg_report_probability(eeg_report *r, double at, double probability, const double *channels) {
    add_nodes(r, channels);
    return series_add(&r->probability, at, 1, probability);
}

int eeg_report_stage(eeg_report *r, double at, int stage, const double p[REPORT_STAGES]) {
    for (int i = 0; i < REPORT_STAGES; i++)
        if (series_add(&r->stage_probability[i], at, 30, p[i])) return -1;
    return series_add(&r->stage, at, 30, stage);
}

int eeg_report_graph(eeg_report *r, const float *adjacency) {
    for (int i = 0; i < 19 * 19; i++) r->graph[i] += adjacency[i];
    r->graph_n++;
    return 0;
}

/* ---- document ---- */

/* On a telephone figures keep a size at which their text can be read, and are pushed aside within their own frame. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--bg:#fff;--ink:#1b1f24;--soft:#5b6570;--line:#d8dde3;--accent:#0b5cad;--event:#d6452b;--card:#f5f7f9;--warn:#fff4e0;"
    "--warnline:#d98e04}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171b;--ink:#e8ebee;--soft:#9aa5b1;--line:#343b43;--accent:#6cb4ff;--event:"
    "#ff7a5c;--card:#1d2228;--warn:#33270f;--warnline:#d9a441}}"
    "@media "
    "print{:root{--bg:#fff;--ink:#000;--soft:#444;--line:#ccc;--accent:#0b5cad;--event:#d6452b;--card:#fff;--warn:#fff}figure,"
    "table{break-inside:avoid}}"
    "@media screen and (max-width:760px){figure{overflow-x:auto}figure>svg{width:760px}figcaption{position:sticky;left:0}"
    ".scroll "
    "table{min-width:620px}}"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1060px;padding:24px 20px "
    "60px;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,'Segoe UI','DejaVu Sans',sans-serif}"
    "h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 6px;padding-top:10px;border-top:1px solid "
    "var(--line)}p{margin:6px 0}.soft{color:var(--soft)}"
    ".warn{background:var(--warn);border-left:4px solid var(--warnline);padding:8px 14px;margin:14px 0;border-radius:3px}"
    ".facts{display:flex;flex-wrap:wrap;gap:10px;margin:14px 0}.facts div{background:var(--card);border:1px solid "
    "var(--line);border-radius:6px;padding:8px 14px;min-width:120px}"
    ".facts b{display:block;font-size:19px;font-weight:600}.facts span{font-size:12.5px;color:var(--soft)}"
    "figure{margin:14px "
    "0}figcaption{font-size:13.5px;color:var(--soft);margin-bottom:4px}svg{width:100%;height:auto;display:block}"
    "table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px "
    "solid "
    "var(--line);vertical-align:top}th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right;font-variant-numeric:"
    "tabular-nums}.made td{overflow-wrap:anywhere}.scroll{overflow-x:auto}.bad{color:var(--event);font-weight:600}"
    "code{font:12.5px ui-monospace,'DejaVu Sans Mono',monospace;overflow-wrap:anywhere}"
    "svg "
    "text{font-family:inherit;fill:var(--ink)}.tick{font-size:12px;fill:var(--soft)!important}.label{font-size:12.5px}.over{"
    "font-size:12px;font-weight:600;paint-order:stroke;stroke:#000;stroke-width:2.5px;stroke-linejoin:round;fill:#fff!"
    "important}"
    ".clear{font-weight:600;paint-order:stroke;stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}"
    ".grid{stroke:var(--line);stroke-width:.8}.line{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round}."
    "trace{fill:none;stroke:var(--ink);stroke-width:.85;stroke-linejoin:round}"
    ".event{fill:var(--event);opacity:.2}.mark{fill:var(--event)}.threshold{stroke:var(--event);stroke-width:1.2;stroke-"
    "dasharray:6 "
    "4}.head{fill:none;stroke:var(--ink);stroke-width:1.6}.dot{fill:var(--ink)}.edge{stroke:var(--accent);stroke-linecap:round}"
    ".rem{stroke:var(--event);stroke-width:4}.scale{stroke:var(--ink);stroke-width:2;fill:none}";

static void fact(output *out, const char *value, const char *name) {
    output_printf(out, "<div><b>");
    write_html_text(out, value);
    output_printf(out, "</b><span>%s</span></div>", name);
}

static int64_t found_events(const eeg_report *r) {
    int64_t n = 0;
    for (int64_t i = 0; i < r->events.n; i++) n += strcmp(r->events.items[i].type, "bckg") != 0;
    return n;
}

static double mean_of(const eeg_series *s) {
    double sum = 0;
    for (int64_t i = 0; i < s->n; i++) sum += s->value[i];
    return s->n ? sum / (double)s->n : NAN;
}

static void clock_text(double seconds, char *text, size_t size) {
    const int64_t s = (int64_t)(seconds + 0.5);
    snprintf(text, size, "%lld:%02d:%02d", (long long)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
}

static void facts(output *out, const eeg_report *r, const eeg_source *s) {
    char text[64];
    output_printf(out, "<div class=\"facts\">");
    clock_text(s->rec->duration, text, sizeof text);
    fact(out, text, "recorded (h:mm:ss)");
    if (r->probability.n) {
        snprintf(text, sizeof text, "%lld", (long long)found_events(r));
        fact(out, text, "events found");
        double most = 0;
        for (int64_t i = 0; i < r->probability.n; i++) most = fmax(most, r->probability.value[i]);
        snprintf(text, sizeof text, "%.2f", most);
        fact(out, text, "highest probability");
    }
    if (r->error.n) {
        snprintf(text, sizeof text, "%.3f", mean_of(&r->error));
        fact(out, text, "mean prediction error (log amplitude)");
        snprintf(text, sizeof text, "%lld", (long long)r->error.n);
        fact(out, text, "windows");
    }
    if (r->stage.n) {
        double asleep = 0;
        for (int64_t i = 0; i < r->stage.n; i++) asleep += r->stage.value[i] != 0;
        clock_text(asleep * 30, text, sizeof text);
        fact(out, text, "scored as sleep (h:mm:ss)");
        snprintf(text, sizeof text, "%.0f %%", 100 * asleep / (double)r->stage.n);
        fact(out, text, "of the scored epochs");
    }
    snprintf(text, sizeof text, "%d", s->map.n);
    fact(out, text, "channels used");
    output_printf(out, "</div>\n");
}

static void caption(output *out, const char *text) {
    output_printf(out, "<figure><figcaption>%s</figcaption>\n", text);
}

static void events_table(output *out, const eeg_report *r) {
    char text[32];
    output_printf(out, "<h2>Events</h2>\n");
    if (!found_events(r)) {
        output_printf(out,
                      "<p>Nothing reached the threshold of %.2f for %.0f s. This does not show that there was nothing.</p>\n",
                      r->settings->threshold, r->settings->min_duration);
        return;
    }
    output_printf(out, "<div class=\"scroll\"><table><tr><th class=\"n\">#</th><th class=\"n\">begin</th><th class=\"n\">onset "
                       "(s)</th><th class=\"n\">duration (s)</th><th>type</th><th class=\"n\">confidence</th><th>channels "
                       "above the threshold</th></tr>\n");
    for (int64_t i = 0, k = 0; i < r->events.n && k < 500; i++) {
        const eeg_event *e = &r->events.items[i];
        if (!strcmp(e->type, "bckg")) continue;
        clock_text(e->onset, text, sizeof text);
        output_printf(
            out, "<tr><td class=\"n\">%lld</td><td class=\"n\">%s</td><td class=\"n\">%.2f</td><td class=\"n\">%.2f</td><td>",
            (long long)++k, text, e->onset, e->duration);
        write_html_text(out, e->type);
        output_printf(out, "</td><td class=\"n\">%.2f</td><td>", e->confidence);
        for (const char *p = e->channels; *p; p++)
            output_write(out, *p == ',' ? ", " : p, *p == ',' ? 2 : 1); /* blanks, to break lines at */
        output_printf(out, "</td></tr>\n");
    }
    output_printf(out, "</table></div>\n");
    if (found_events(r) > 500) output_printf(out, "<p class=\"soft\">The first 500 of %lld.</p>\n", (long long)found_events(r));
}

static int traces(output *out, const eeg_report *r, eeg_source *s) {
    int64_t shown = 0;
    for (int64_t i = 0; i < r->events.n && shown < MOST_TRACES; i++) {
        const eeg_event *e = &r->events.items[i];
        if (!strcmp(e->type, "bckg")) continue;
        char text[160];
        const double from = fmax(0, e->onset - 5), to = fmin(e->onset + e->duration + 5, from + 25);
        char begins[32];
        clock_text(e->onset, begins, sizeof begins);
        snprintf(text, sizeof text, "Event %lld, from %.0f s (%s) on%s. Red: the event.", (long long)++shown, e->onset, begins,
                 e->onset + e->duration + 5 > to ? ": its begin" : "");
        caption(out, text);
        if (figure_traces(out, r, s, e->onset, from, to)) return -1;
        output_printf(out, "</figure>\n");
    }
    if (shown) return 0;
    double at = 0;
    const eeg_series *series = r->error.n ? &r->error : &r->probability;
    for (int64_t i = 0, best = 0; i < series->n; i++)
        if (series->value[i] >= series->value[best]) best = i, at = series->at[i];
    char text[160], begins[32];
    clock_text(at, begins, sizeof begins);
    snprintf(text, sizeof text, "%s, from %.0f s (%s) on.",
             r->error.n  ? "The stretch that was predicted worst"
             : series->n ? "The stretch of the highest probability"
                         : "The begin",
             at, begins);
    caption(out, text);
    const double wide = r->stage.n ? 30 : 12;
    if (figure_traces(out, r, s, at, at, at + wide)) return -1;
    output_printf(out, "</figure>\n");
    return 0;
}

static void stage_table(output *out, const eeg_report *r) {
    static const char *const names[REPORT_STAGES] = {"W", "N1", "N2", "N3", "REM"};
    output_printf(out, "<table style=\"max-width:420px\"><tr><th>stage</th><th class=\"n\">epochs</th><th "
                       "class=\"n\">minutes</th><th class=\"n\">share</th></tr>\n");
    for (int k = 0; k < REPORT_STAGES; k++) {
        int64_t n = 0;
        for (int64_t i = 0; i < r->stage.n; i++) n += (int)r->stage.value[i] == k;
        output_printf(out,
                      "<tr><td>%s</td><td class=\"n\">%lld</td><td class=\"n\">%.1f</td><td class=\"n\">%.1f %%</td></tr>\n",
                      names[k], (long long)n, 0.5 * (double)n, r->stage.n ? 100.0 * (double)n / (double)r->stage.n : 0);
    }
    output_printf(out, "</table>\n");
}

/* Three digits, never as a power of ten. */
static void amount(output *out, double x) {
    output_printf(out, "</td><td class=\"n\">");
    if (isfinite(x)) output_printf(out, fabs(x) >= 99.5 ? "%.0f" : "%.3g", x);
}

static int quality_table(output *out, eeg_source *s) {
    char text[256], error[REC_ERROR_BYTES];
    output_printf(out, "<h2>Channels and signal quality</h2>\n<p class=\"soft\">What stood for each channel of the model, as "
                       "recorded.</p>\n<div class=\"scroll\"><table><tr><th>channel</th><th>signal of the recording</th><th "
                       "class=\"n\">Hz</th><th>unit</th><th class=\"n\">typical amplitude (rms)</th><th "
                       "class=\"n\">lowest</th><th class=\"n\">highest</th><th>quality</th></tr>\n");
    for (int32_t c = 0; c < s->map.n; c++) {
        const channel_source *ch = &s->map.channels[c];
        eeg_quality q;
        channel_map_text(&s->map, s->rec, c, text, sizeof text);
        output_printf(out, "<tr><td>");
        write_html_text(out, ch->name);
        output_printf(out, "</td><td>");
        write_html_text(out, text);
        if (ch->plus < 0) {
            output_printf(out, "</td><td></td><td></td><td></td><td></td><td></td><td class=\"bad\">missing</td></tr>\n");
            continue;
        }
        if (eeg_quality_measure(s->rec, ch->plus, &q, error)) return complain("%s: %s", s->path, error), -1;
        const int bad = eeg_quality_text(&q, text, sizeof text);
        output_printf(out, "</td><td class=\"n\">%g</td><td>", s->rec->signals[ch->plus].rate);
        write_html_text(out, s->rec->signals[ch->plus].unit);
        amount(out, q.rms);
        amount(out, q.least);
        amount(out, q.most);
        output_printf(out, "</td><td%s>%s</td></tr>\n", bad ? " class=\"bad\"" : "", text);
    }
    output_printf(out, "</table></div>\n");
    for (int32_t i = 0; i < s->rec->n_notes; i++) {
        output_printf(out, "<p class=\"soft\">Note: ");
        write_html_text(out, s->rec->notes[i]);
        output_printf(out, ".</p>\n");
    }
    return 0;
}

static void row(output *out, const char *name, const char *value) {
    output_printf(out, "<tr><th>%s</th><td>", name);
    write_html_text(out, value);
    output_printf(out, "</td></tr>\n");
}

static void model_card(output *out, const eeg_report *r, const eeg_source *s, const runtime *rt) {
    char text[600];
    output_printf(out, "<h2>How this was made</h2>\n<table class=\"made\">\n");
    row(out, "Program", "strand " STRAND_VERSION_STRING);
    snprintf(text, sizeof text, "%s (family %s, %lld parameters, %s)", rt->info.name, rt->info.family,
             (long long)rt->info.parameters, rt->info.precision);
    row(out, "Model", text);
    output_printf(out, "<tr><th>SHA-256 of its weights</th><td><code>%s</code></td></tr>\n", strand_model_sha256(rt->model));
    runtime_settings(rt, text, sizeof text);
    row(out, "Settings", text);
    row(out, "Backend", rt->backends[0] ? rt->backends : "none");
    if (r->head) row(out, "Detection head", r->head);
    if (r->kinds) row(out, "Types of events", r->kinds);
    snprintf(text, sizeof text, "%s, %lld span%s; read at %g Hz%s, montage %s", s->rec->format, (long long)s->rec->n_spans,
             s->rec->n_spans == 1 ? "" : "s", s->rate,
             s->fourier                       ? " (resampled by the Fourier method over each whole span)"
             : s->filters && s->filters[0].up ? " (polyphase filter)"
                                              : " (as recorded)",
             s->average ? "average reference" : "as recorded");
    row(out, "Recording", text);
    if (r->probability.n) {
        snprintf(text, sizeof text, "threshold %.2f, at least %.0f s, joined across gaps under %.0f s", r->settings->threshold,
                 r->settings->min_duration, r->settings->merge_gap);
        row(out, "Events", text);
    }
    output_printf(out, "</table>\n");
}

static const char *explanation(const eeg_report *r) {
    if (r->stage.n)
        return "Sleep stages of 30-second epochs by a neural network. It was trained on 18 nights of healthy sleepers; on "
               "other people, montages and devices it may be wrong in ways that this page cannot show.";
    if (r->probability.n)
        return "Stretches that a small detection head on a pretrained encoder marked as seizure-like. Detectors of this kind "
               "raise many false alarms and miss seizures; every event needs to be looked at in the recording itself.";
    return "How far the recording's next seconds were from what a self-supervised network expected. A high error means unusual "
           "activity or an artefact; it is no diagnosis.";
}

static int body(output *out, eeg_report *r, eeg_source *s, const runtime *rt) {
    const double end = s->rec->end;
    output_printf(out, "<h1>EEG report: ");
    write_html_text(out, eeg_source_name(s));
    output_printf(out, "</h1>\n<p class=\"soft\">%s by ", r->kind);
    write_html_text(out, rt->info.name);
    output_printf(out,
                  ". Times are seconds or h:mm:ss from the first sample.</p>\n<div class=\"warn\"><b>Research use. Not a "
                  "medical device.</b> %s</div>\n",
                  explanation(r));
    facts(out, r, s);
    if (r->probability.n) events_table(out, r);
    output_printf(out, "<h2>Over time</h2>\n");
    if (r->stage.n) {
        caption(out, "Hypnogram");
        figure_hypnogram(out, r, end);
        output_printf(out, "</figure>\n");
        caption(out, "Probabilities of the stages: where one colour fills the height, the network was sure");
        figure_stage_probabilities(out, r, end);
        output_printf(out, "</figure>\n");
        stage_table(out, r);
    }
    if (r->probability.n) {
        caption(out, "Probability of seizure-like activity; red bands are the events");
        figure_timeline(out, r, &r->probability, "probability", end, 1, r->settings->threshold);
        output_printf(out, "</figure>\n");
    }
    if (r->error.n) {
        caption(out, "Prediction error (mean absolute error of the log amplitudes of the next seconds): high where the "
                     "recording is unlike what the model expects");
        figure_timeline(out, r, &r->error, "prediction error", end, 0, -1);
        output_printf(out, "</figure>\n");
    }
    caption(out, "Spectrogram, 0 to 30 Hz, mean over the channels (bright: more power)");
    if (figure_spectrogram(out, r, s)) return -1;
    output_printf(out, "</figure>\n<h2>Traces</h2>\n");
    if (traces(out, r, s)) return -1;
    if (r->node_n || r->graph_n) {
        output_printf(out, "<h2>Scalp</h2>\n");
        caption(out, "Seen from above, nose up.");
        if (figure_scalp(out, r, s,
                         r->probability.n ? "mean probability of each channel" : "mean prediction error of each channel"))
            return -1;
        output_printf(out, "</figure>\n");
    }
    if (quality_table(out, s)) return -1;
    model_card(out, r, s, rt);
    return 0;
}

int eeg_report_write(eeg_report *r, eeg_source *s, const runtime *rt) {
    output *out = output_open(r->settings->report);
    if (!out) return EXIT_FAILED;
    output_printf(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                       "content=\"width=device-width,initial-scale=1\"><title>EEG report: ");
    write_html_text(out, eeg_source_name(s));
    output_printf(out, "</title>\n<style>%s</style></head>\n<body>\n", style);
    const int bad = body(out, r, s, rt);
    output_printf(out, "</body></html>\n");
    return output_close(out, !bad) ? EXIT_FAILED : bad ? EXIT_FAILED : 0;
}

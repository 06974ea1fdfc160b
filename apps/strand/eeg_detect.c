/* eeg_detect.c - `strand eeg detect`: windows to probabilities, seconds to events.
 *
 * A window's probability counts for each of its seconds; a second has the mean of the windows that cover it, and is settled as
 * soon as no later window can. So events come out in order while the recording goes by, in memory that depends on the window
 * alone (a report keeps its series, of one number a second).
 *
 * A classifier tells kinds of seizures apart (--kinds for the events of another model, or -m alone for a recording that is a
 * seizure): probabilities of kinds go the same way, and the likeliest one names the event.
 */
#include "commands.h"
#include "eeg_events.h"
#include "eeg_head.h"
#include "eeg_report.h"
#include "eeg_windows.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 19, KINDS = 1 + NODES, WIDE = KINDS + EVENT_KINDS };

typedef struct detector {
    eeg_net net, kinds; /* kinds: of --kinds, else without a session */
    options kinds_settings;
    eeg_source source;
    eeg_walk walk;
    eeg_head head;
    eeg_event_maker maker;
    eeg_report report;
    eeg_event_list events; /* kept for --edf and --report */
    output *out, *windows;
    int has_head, by_channel;
    int64_t found, room;
    double *sums, *counts; /* ring over seconds: [room][WIDE] and [room]; in `sums` the probability, channels, kinds */
    int32_t n_kinds, background; /* of the kinds, the one that is no event; -1: none */
    int64_t settled;       /* seconds of the current span that are done */
} detector;

static int give(void *user, const eeg_event *event) {
    detector *d = user;
    const options *settings = d->source.settings;
    d->found++;
    if (settings->edf_annotations || settings->report)
        if (eeg_events_add(&d->events, event)) return -1;
    if (settings->eeg_format == EEG_JSONL)
        eeg_events_json_row(d->out, event);
    else
        eeg_events_tsv_row(d->out, &d->source, event, d->source.rec->end);
    return settings->follow ? output_flush(d->out) : 0;
}

static int write_second(detector *d, double at, double p, const double *kinds) {
    output_printf(d->windows, "%.2f\t%.6f", at, p);
    for (int32_t k = 0; k < d->n_kinds; k++) output_printf(d->windows, "\t%.6f", kinds[k]);
    return output_printf(d->windows, "\n");
}

/* Second `t` of the span gets no more windows. */
static int settle(detector *d, int64_t span, int64_t t) {
    const int64_t place = t % d->room;
    double *sums = d->sums + place * WIDE, means[WIDE];
    const double n = d->counts[place], at = d->source.rec->spans[span].onset + (double)t;
    for (int i = 0; i < WIDE; i++) means[i] = n ? sums[i] / n : 0;
    memset(sums, 0, WIDE * sizeof *sums);
    d->counts[place] = 0;
    if (!n) return 0;
    const double *channels = d->by_channel ? means + 1 : NULL, *kinds = d->n_kinds ? means + KINDS : NULL;
    double p = means[0];
    if (d->kinds.session && d->background >= 0) means[KINDS + d->background] = 0; /* whether it is an event was -m's to say */
    if (kinds && !d->kinds.session) { /* no detector: what is likeliest counts, unless that is the background */
        const int32_t best = eeg_events_likeliest(kinds, d->n_kinds);
        p = best == d->background ? 0 : kinds[best];
    }
    if (d->windows && write_second(d, at, p, kinds)) return -1;
    if (d->source.settings->report && eeg_report_probability(&d->report, at, p, channels)) return -1;
    return eeg_events_second(&d->maker, at, p, channels, kinds);
}

/* The probabilities of the kinds in the window: those of -m, or of --kinds, which runs it too. */
static int take_kinds(detector *d, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row, double *kinds) {
    strand_tensor own = {.name = "probabilities"};
    const float *from = outputs[0].data;
    if (d->kinds.session) {
        if (eeg_net_add(&d->kinds, &d->walk.seconds, span, second) || eeg_net_run(&d->kinds, &own, 1)) return -1;
        from = own.data;
        row = 0;
    }
    for (int32_t k = 0; k < d->n_kinds; k++) kinds[k] = from[row * d->n_kinds + k];
    return 0;
}

static int take(void *user, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row) {
    detector *d = user;
    const eeg_net *net = &d->net;
    double values[WIDE] = {0};
    if (d->has_head)
        values[0] = eeg_head_run(
            &d->head, (const float *)outputs[0].data + (row * net->layers + net->layers - 1) * net->nodes * net->hidden,
            net->nodes, values + 1);
    else if (net->classes == 1)
        values[0] = ((const float *)outputs[0].data)[row];
    if (d->n_kinds && take_kinds(d, span, second, outputs, row, values + KINDS)) return -1;
    for (; d->settled < second; d->settled++)
        if (settle(d, span, d->settled)) return -1;
    for (int64_t t = second; t < second + net->steps; t++) {
        for (int i = 0; i < WIDE; i++) d->sums[t % d->room * WIDE + i] += values[i];
        d->counts[t % d->room]++;
    }
    return d->walk.n_outputs > 1 ? eeg_report_graph(&d->report, (const float *)outputs[1].data + row * net->nodes * net->nodes)
                                 : 0;
}

static int span_done(void *user, int64_t span) {
    detector *d = user;
    const int64_t end = d->settled + d->room;
    for (; d->settled < end; d->settled++)
        if (settle(d, span, d->settled)) return -1;
    d->settled = 0;
    return eeg_events_break(&d->maker);
}

static int flush(void *user) {
    const detector *d = user;
    return output_flush(d->out) || (d->windows && output_flush(d->windows)) ? -1 : 0;
}

/* The four kinds of the published classifiers (file_markers_classification of eeg-gnn-ssl): focal, generalised, absence, and
 * tonic with tonic-clonic, as HED-SCORE names them. */
static const char *const published_kinds = "sz_foc,sz_gen,sz_gen_nm,sz_gen_m";

static int name_kinds(detector *d, const eeg_net *net, const options *settings) {
    const char *at = settings->types ? settings->types : net->classes == 4 ? published_kinds : NULL;
    if (!at)
        return complain("%s: has %lld classes; name their types with --types A,B,...", net->rt.info.name,
                        (long long)net->classes),
               EXIT_USAGE;
    d->background = -1;
    for (;; at++) {
        const size_t n = strcspn(at, ",");
        if (!n || n >= sizeof d->maker.kinds[0] ||
            strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") < n || d->n_kinds == EVENT_KINDS)
            return complain("--types: '%.60s' is not a list of at most %d words of letters, digits and '_'", settings->types,
                            (int)EVENT_KINDS),
                   EXIT_USAGE;
        snprintf(d->maker.kinds[d->n_kinds], sizeof d->maker.kinds[0], "%.*s", (int)n, at);
        if (!strcmp(d->maker.kinds[d->n_kinds], "bckg")) d->background = d->n_kinds;
        d->n_kinds++;
        at += n;
        if (!*at) break;
    }
    if (d->n_kinds != net->classes)
        return complain("%s: has %lld classes, --types names %d", net->rt.info.name, (long long)net->classes, (int)d->n_kinds),
               EXIT_USAGE;
    d->maker.n_kinds = d->n_kinds;
    return 0;
}

/* The second model, which sees the same windows. */
static int open_kinds(detector *d, const options *settings) {
    d->kinds_settings = *settings;
    d->kinds_settings.model = settings->kinds;
    d->kinds_settings.clip = d->net.steps;
    const int rc = eeg_net_open(&d->kinds, &d->kinds_settings, 0);
    if (rc) return rc;
    if (d->kinds.classes < 2)
        return complain("%s: tells no kinds apart; --kinds wants a DCRNN classifier of several classes", d->kinds.rt.info.name),
               EXIT_FAILED;
    if (d->kinds.bins != d->net.bins)
        return complain("%s: takes %lld bins a second, %s %lld", d->kinds.rt.info.name, (long long)d->kinds.bins,
                        d->net.rt.info.name, (long long)d->net.bins),
               EXIT_FAILED;
    return name_kinds(d, &d->kinds, settings);
}

/* What turns a window into a probability: the checkpoint's own head, or ours on its encoder. */
static int choose_head(detector *d, const options *settings) {
    const eeg_net *net = &d->net;
    const char *name = net->rt.info.name;
    d->maker.threshold = settings->threshold >= 0 ? settings->threshold : 0.5;
    if (settings->types && net->classes < 2 && !settings->kinds)
        return complain("--types names the classes of a classifier, and %s is none", name), EXIT_USAGE;
    if (net->classes > 1) {
        if (settings->kinds) return complain("%s: tells kinds apart itself; leave --kinds out", name), EXIT_USAGE;
        const int rc = name_kinds(d, net, settings);
        if (rc) return rc;
        if (d->background < 0)
            remark(
                "%s: tells kinds of seizures apart, it does not find them: every second counts as one. With --kinds it names "
                "the events that another model finds",
                name);
        if (settings->threshold < 0) d->maker.threshold = d->background < 0 ? 0 : DBL_MIN;
        d->maker.split = 1;
    } else if (settings->kinds) {
        const int rc = open_kinds(d, settings);
        if (rc) return rc;
    }
    if (net->classes) {
        if (settings->head) return complain("%s: has a head of its own; leave --head out", name), EXIT_USAGE;
        d->walk.outputs[0].name = "probabilities";
        return 0;
    }
    const int rc = eeg_head_open(&d->head, net->rt.context, settings->head, net->hidden);
    if (rc) return rc;
    if (!settings->head && strcmp(strand_model_sha256(net->rt.model), DEFAULT_HEAD_ENCODER))
        return complain("%s: the built-in head was made for the published pretrained_distance_graph_12s; give another one with "
                        "--head FILE",
                        name),
               EXIT_FAILED;
    if (settings->threshold < 0) d->maker.threshold = d->head.threshold;
    d->has_head = d->by_channel = 1;
    d->walk.outputs[0].name = "encoder_hidden";
    return 0;
}

static int finish(detector *d) {
    const options *settings = d->source.settings;
    if (!d->walk.windows)
        return complain("%s: no stretch without a gap lasts the %lld s of a window", d->source.path, (long long)d->net.steps),
               EXIT_FAILED;
    if (!d->found && settings->eeg_format == EEG_TSV) {
        eeg_event none;
        eeg_events_background(&none, d->source.rec->end);
        eeg_events_tsv_row(d->out, &d->source, &none, d->source.rec->end);
    }
    remark("%lld event%s in %.0f s; for research, not a medical device", (long long)d->found, d->found == 1 ? "" : "s",
           d->source.rec->duration);
    if (settings->edf_annotations && eeg_events_edf(settings->edf_annotations, &d->source, &d->events)) return EXIT_FAILED;
    if (!settings->report) return 0;
    d->report.events = d->events;
    memset(&d->events, 0, sizeof d->events);
    options shown = *settings;
    shown.threshold = d->maker.threshold;
    d->report.settings = &shown;
    return eeg_report_write(&d->report, &d->source, &d->net.rt);
}

static int open_outputs(detector *d, const options *settings) {
    d->out = output_open(settings->output);
    if (!d->out) return EXIT_FAILED;
    if (settings->eeg_format == EEG_TSV) eeg_events_tsv_header(d->out);
    if (!settings->windows_file) return 0;
    d->windows = output_open(settings->windows_file);
    if (!d->windows) return EXIT_FAILED;
    output_printf(d->windows, "onset\tprobability");
    for (int32_t k = 0; k < d->n_kinds; k++) output_printf(d->windows, "\t%s", d->maker.kinds[k]);
    output_printf(d->windows, "\n");
    return 0;
}

static int prepare(detector *d, const options *settings) {
    eeg_walk *w = &d->walk;
    if (settings->montage == MONTAGE_BIPOLAR)
        return complain("%s: the model wants the 19 referential electrodes; --montage may be as-is or average",
                        settings->command->name),
               EXIT_USAGE;
    const int64_t steps = d->net.steps, usual = steps >= 4 ? steps / 3 : 1;
    *w = (eeg_walk){.net = &d->net,
                    .need = steps,
                    .step = settings->step ? settings->step : usual,
                    .take = take,
                    .span_done = span_done,
                    .idle = flush,
                    .user = d};
    if (w->step > steps)
        return complain("%s: --step %lld leaves seconds between windows of %lld s out", settings->command->name,
                        (long long)w->step, (long long)steps),
               EXIT_USAGE;
    int rc = choose_head(d, settings);
    if (rc) return rc;
    w->outputs[1].name = "adjacency";
    w->n_outputs = settings->report && d->has_head && runtime_output(&d->net.rt, "adjacency", NULL) >= 0 ? 2 : 1;
    char names[64];
    snprintf(names, sizeof names, "%s%s", w->outputs[0].name, w->n_outputs > 1 ? ",adjacency" : "");
    rc = eeg_walk_open(w, &d->source, settings, settings->args[0], electrodes_tuh, 19, d->net.rate, d->net.bins, steps);
    if (!rc) rc = eeg_net_statistics(&d->net, &d->source);
    if (!rc)
        rc = settings->follow ? eeg_net_prepare_steps(&d->net, w->step, names)
                              : eeg_net_prepare(&d->net, eeg_batch(settings), names);
    if (!rc && d->n_kinds && d->net.classes < 2) rc = eeg_net_prepare(&d->kinds, 1, "probabilities");
    if (rc) return rc;
    d->room = steps + 1;
    d->sums = calloc((size_t)d->room * WIDE, sizeof *d->sums);
    d->counts = calloc((size_t)d->room, sizeof *d->counts);
    if (!d->sums || !d->counts) return complain("out of memory"), EXIT_FAILED;
    d->maker.gap = settings->merge_gap;
    d->maker.least = settings->min_duration;
    d->maker.n_channels = NODES;
    d->maker.channels = d->by_channel ? d->source.map.channels : NULL;
    d->maker.give = give;
    d->maker.user = d;
    return 0;
}

static int detect(detector *d, const options *settings) {
    char about_kinds[200];
    int rc = prepare(d, settings);
    if (!rc) rc = open_outputs(d, settings);
    if (!rc) {
        d->report.head = d->has_head ? settings->head ? "given by --head"
                                                      : "eeg-seizure-head: 65 numbers, trained on 24 clips of 50 s (4 with "
                                                        "seizures); see its model card for how little that shows"
                                     : "part of the checkpoint";
        if (d->kinds.session) {
            snprintf(about_kinds, sizeof about_kinds, "%.100s, SHA-256 %.64s", d->kinds.rt.info.name,
                     strand_model_sha256(d->kinds.rt.model));
            d->report.kinds = about_kinds;
        }
        rc = eeg_walk_run(&d->walk) ? EXIT_FAILED : finish(d);
    }
    const int keep = !rc || (settings->follow && d->out);
    if (output_close(d->out, keep) || output_close(d->windows, keep)) rc = EXIT_FAILED;
    return rc;
}

int run_eeg_detect(const options *settings) {
    detector *d = calloc(1, sizeof *d);
    if (!d) return complain("out of memory"), EXIT_FAILED;
    int rc = eeg_net_open(&d->net, settings, 1);
    if (!rc) {
        eeg_report_open(&d->report, settings, "Detection of seizure-like activity");
        rc = detect(d, settings);
        eeg_walk_close(&d->walk);
        eeg_report_close(&d->report);
        eeg_events_free(&d->events);
        eeg_head_close(&d->head);
        free(d->sums);
        free(d->counts);
    }
    eeg_net_close(&d->kinds);
    eeg_net_close(&d->net);
    free(d);
    return rc;
}

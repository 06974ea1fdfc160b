/* eeg_predict.c - `strand eeg predict`: the log amplitudes of the next seconds, and how far they were from what came.
 *
 * A window is `steps` seconds of input and `horizon` seconds of target. Beside the model's mean absolute error stand those of
 * two forecasts that know nothing: the mean of the past, and a copy of its last seconds. The error over time is an anomaly
 * trace.
 */
#include "commands.h"
#include "eeg_report.h"
#include "eeg_windows.h"
#include "output.h"
#include "safetensors_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct predictor {
    eeg_net net;
    eeg_source source;
    eeg_walk walk;
    output *out, *tensors_out;
    st_writer *tensors;
    eeg_report report;
    int64_t rows, ahead; /* windows with a target; and one without */
    double sums[3];
} predictor;

/* Errors of one channel: the model, the mean of the past, a copy of it. */
static int channel_errors(predictor *p, int64_t span, int64_t second, int64_t c, const float *prediction, double to[3]) {
    const eeg_net *net = &p->net;
    const int64_t bins = net->bins, wide = net->nodes * bins, steps = net->steps, horizon = net->horizon;
    to[0] = to[1] = to[2] = 0;
    for (int64_t k = 0; k < bins; k++) {
        double mean = 0;
        for (int64_t t = 0; t < steps; t++)
            mean += eeg_second(&p->walk.seconds, span, second + t)[c * bins + k] / (double)steps;
        for (int64_t t = 0; t < horizon; t++) {
            const double target = eeg_second(&p->walk.seconds, span, second + steps + t)[c * bins + k];
            const int64_t copied = steps - horizon + t;
            to[0] += fabs((double)prediction[t * wide + c * bins + k] * net->std + net->mean - target);
            to[1] += fabs(mean - target);
            to[2] += fabs(eeg_second(&p->walk.seconds, span, second + (copied > 0 ? copied : 0))[c * bins + k] - target);
        }
    }
    for (int i = 0; i < 3; i++) to[i] /= (double)(bins * horizon);
    return 0;
}

static int write_tensors(predictor *p, const float *prediction) {
    const int64_t n = p->net.horizon * p->net.nodes * p->net.bins;
    for (int64_t i = 0; i < n; i++) {
        const float value = (float)(prediction[i] * p->net.std + p->net.mean);
        if (st_write(p->tensors, &value, sizeof value)) return -1;
    }
    return 0;
}

static int write_row(predictor *p, double start, const double mean[3], const double *channels) {
    const eeg_net *net = &p->net;
    const double onset = start + (double)net->steps;
    if (p->source.settings->eeg_format == EEG_JSONL) {
        output_printf(p->out,
                      "{\"start\": %.2f, \"onset\": %.2f, \"duration\": %lld, \"mae\": %.6f, \"mae_mean_of_past\": %.6f, "
                      "\"mae_copy_past\": %.6f, \"channels\": {",
                      start, onset, (long long)net->horizon, mean[0], mean[1], mean[2]);
        for (int64_t c = 0; c < net->nodes; c++)
            output_printf(p->out, "%s\"%s\": %.6f", c ? ", " : "", p->source.map.channels[c].name, channels[c]);
        return output_printf(p->out, "}}\n");
    }
    output_printf(p->out, "%.2f\t%.2f\t%lld\t%.6f\t%.6f\t%.6f", start, onset, (long long)net->horizon, mean[0], mean[1],
                  mean[2]);
    for (int64_t c = 0; c < net->nodes; c++) output_printf(p->out, "\t%.6f", channels[c]);
    return output_printf(p->out, "\n");
}

static int take(void *user, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row) {
    predictor *p = user;
    const eeg_net *net = &p->net;
    const float *prediction = (const float *)outputs[0].data + row * net->horizon * net->nodes * net->bins;
    double mean[3] = {0, 0, 0}, channels[64], three[3];
    for (int64_t t = 0; t < p->walk.need; t++)
        if (!eeg_second(&p->walk.seconds, span, second + t)) return -1;
    for (int64_t c = 0; c < net->nodes; c++) {
        channel_errors(p, span, second, c, prediction, three);
        channels[c] = three[0];
        for (int i = 0; i < 3; i++) mean[i] += three[i] / (double)net->nodes;
    }
    for (int i = 0; i < 3; i++) p->sums[i] += mean[i];
    p->rows++;
    const double start = p->source.rec->spans[span].onset + (double)second;
    if (p->source.settings->report &&
        eeg_report_error(&p->report, start + (double)net->steps, (double)net->horizon, mean[0], channels))
        return -1;
    if (p->source.settings->report && p->walk.n_outputs > 1 &&
        eeg_report_graph(&p->report, (const float *)outputs[1].data + row * net->nodes * net->nodes))
        return -1;
    if (p->tensors && write_tensors(p, prediction)) return -1;
    return write_row(p, start, mean, channels);
}

/* The seconds after the end of the recording: nothing to compare with, so they go to --predictions alone and a row without
 * errors. */
static int predict_ahead(predictor *p) {
    const int64_t span = p->source.rec->n_spans - 1, there = eeg_seconds_count(&p->walk.seconds, span, 1);
    const int64_t second = there - p->net.steps;
    const double start = p->source.rec->spans[span].onset + (double)second;
    if (second < 0) return 0;
    if (eeg_net_add(&p->net, &p->walk.seconds, span, second) || eeg_net_run(&p->net, p->walk.outputs, p->walk.n_outputs))
        return -1;
    p->ahead = 1;
    if (write_tensors(p, p->walk.outputs[0].data)) return -1;
    if (p->source.settings->eeg_format == EEG_JSONL)
        return output_printf(p->out, "{\"start\": %.2f, \"onset\": %.2f, \"duration\": %lld, \"mae\": null}\n", start,
                             start + (double)p->net.steps, (long long)p->net.horizon);
    output_printf(p->out, "%.2f\t%.2f\t%lld", start, start + (double)p->net.steps, (long long)p->net.horizon);
    for (int64_t c = 0; c < 3 + p->net.nodes; c++) output_printf(p->out, "\tn/a");
    return output_printf(p->out, "\n");
}

static int flush(void *user) {
    const predictor *p = user;
    return output_flush(p->out);
}

static int write_header(predictor *p) {
    if (!p->source.settings->no_version) eeg_write_header(p->out, &p->net.rt, &p->source);
    if (p->source.settings->eeg_format == EEG_JSONL) return 0;
    output_printf(p->out, "start\tonset\tduration\tmae\tmae_mean_of_past\tmae_copy_past");
    for (int32_t c = 0; c < p->source.map.n; c++) output_printf(p->out, "\t%s", p->source.map.channels[c].name);
    return output_printf(p->out, "\n");
}

static int open_tensors(predictor *p) {
    const options *settings = p->source.settings;
    if (!settings->predictions) return 0;
    run_metadata metadata;
    const strand_tensor shape = {
        .name = "prediction_log", .dtype = STRAND_F32, .rank = 4, .dims = {-1, p->net.horizon, p->net.nodes, p->net.bins}};
    p->tensors_out = output_open(settings->predictions);
    p->tensors = p->tensors_out
                     ? st_open(p->tensors_out, &shape, 1, settings->no_version ? NULL : runtime_metadata(&p->net.rt, &metadata))
                     : NULL;
    return p->tensors ? 0 : EXIT_FAILED;
}

static int close_tensors(predictor *p, int keep) {
    int bad = 0;
    if (p->tensors) {
        if (keep) bad = st_next(p->tensors, p->rows + p->ahead);
        bad = st_close(p->tensors, keep && !bad) || bad;
    }
    return output_close(p->tensors_out, keep && !bad) || bad;
}

static int finish(predictor *p) {
    if (!p->rows)
        return complain("%s: no stretch without a gap lasts the %lld s that a window needs (%lld s in, %lld s predicted)%s",
                        p->source.path, (long long)p->walk.need, (long long)p->net.steps, (long long)p->net.horizon,
                        p->net.steps > 12 ? "; --clip takes less in" : ""),
               EXIT_FAILED;
    if (p->tensors && predict_ahead(p)) return EXIT_FAILED;
    const double n = (double)p->rows;
    remark("%lld windows: mean absolute error %.6f (mean of the past %.6f, copy of the past %.6f)", (long long)p->rows,
           p->sums[0] / n, p->sums[1] / n, p->sums[2] / n);
    return p->source.settings->report ? eeg_report_write(&p->report, &p->source, &p->net.rt) : 0;
}

static int predict(predictor *p, const options *settings) {
    eeg_walk *w = &p->walk;
    if (!p->net.horizon)
        return complain("%s: has no decoder: it classifies, it does not predict", p->net.rt.info.name), EXIT_FAILED;
    if (settings->montage == MONTAGE_BIPOLAR)
        return complain("%s: the model wants the 19 referential electrodes; --montage may be as-is or average",
                        settings->command->name),
               EXIT_USAGE;
    *w = (eeg_walk){.net = &p->net,
                    .need = p->net.steps + p->net.horizon,
                    .step = settings->step ? settings->step : p->net.horizon,
                    .take = take,
                    .idle = flush,
                    .user = p};
    w->outputs[0].name = "prediction";
    w->outputs[1].name = "adjacency";
    w->n_outputs = settings->report && runtime_output(&p->net.rt, "adjacency", NULL) >= 0 ? 2 : 1;
    int rc = eeg_walk_open(w, &p->source, settings, settings->args[0], electrodes_tuh, 19, 2.0 * (double)p->net.bins,
                           p->net.bins, w->need);
    if (!rc) rc = eeg_net_prepare(&p->net, eeg_batch(settings), w->n_outputs > 1 ? "prediction,adjacency" : "prediction");
    if (!rc) rc = open_tensors(p);
    if (rc) return rc;
    p->out = output_open(settings->output);
    if (!p->out) return EXIT_FAILED;
    rc = write_header(p) || eeg_walk_run(w) ? EXIT_FAILED : finish(p);
    if (output_close(p->out, !rc || settings->follow)) rc = EXIT_FAILED;
    return rc;
}

int run_eeg_predict(const options *settings) {
    predictor *p = calloc(1, sizeof *p);
    if (!p) return complain("out of memory"), EXIT_FAILED;
    int rc = eeg_net_open(&p->net, settings, 0);
    if (!rc) {
        eeg_report_open(&p->report, settings, "Prediction of the next seconds");
        rc = predict(p, settings);
        if (close_tensors(p, !rc)) rc = EXIT_FAILED;
        eeg_walk_close(&p->walk);
        eeg_report_close(&p->report);
    }
    eeg_net_close(&p->net);
    free(p);
    return rc;
}

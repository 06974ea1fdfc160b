/* eeg_net.c - see eeg_net.h.
 *
 * The transform is made here, in double precision from the file's own samples, because the weakest bins lose digits in single
 * precision (they are logarithms of differences of large numbers); everything after it runs through the library's plugins.
 */
#include "eeg_net.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- seconds ---- */

int eeg_seconds_open(eeg_seconds *s, eeg_source *source, int64_t bins, int64_t room) {
    memset(s, 0, sizeof *s);
    s->source = source;
    s->bins = bins;
    s->width = (int64_t)source->rate;
    s->room = room;
    const size_t channels = (size_t)source->map.n;
    s->spans = malloc((size_t)room * sizeof *s->spans);
    s->seconds = malloc((size_t)room * sizeof *s->seconds);
    s->values = malloc((size_t)room * channels * (size_t)bins * sizeof *s->values);
    s->samples = malloc((size_t)s->width * channels * sizeof *s->samples);
    s->work = malloc((size_t)s->width * sizeof *s->work);
    s->f = fft_open(s->width);
    if (!s->spans || !s->seconds || !s->values || !s->samples || !s->work || !s->f)
        return complain("out of memory"), EXIT_FAILED;
    for (int64_t i = 0; i < room; i++) s->seconds[i] = -1;
    return 0;
}

void eeg_seconds_close(eeg_seconds *s) {
    free(s->spans);
    free(s->seconds);
    free(s->values);
    free(s->samples);
    free(s->work);
    fft_close(s->f);
}

int64_t eeg_seconds_count(const eeg_seconds *s, int64_t span, int final) {
    return eeg_source_samples(s->source, span, final) / s->width;
}

/* Two real channels share a complex transform: with z = a + i b, A_k = (Z_k + conj Z_-k) / 2 and B_k = (Z_k - conj Z_-k) / 2i.
 */
static void log_amplitudes(eeg_seconds *s, const double *a, const double *b, double *to_a, double *to_b) {
    for (int64_t t = 0; t < s->width; t++) s->work[t] = (fft_complex){a[t], b ? b[t] : 0};
    fft_forward(s->f, s->work);
    for (int64_t k = 0; k < s->bins; k++) {
        const fft_complex z = s->work[k], w = s->work[k ? s->width - k : 0];
        double x = hypot((z.re + w.re) / 2, (z.im - w.im) / 2), y = hypot((z.im + w.im) / 2, (w.re - z.re) / 2);
        to_a[k] = log(x > 0 ? x : 1e-8);
        if (to_b) to_b[k] = log(y > 0 ? y : 1e-8);
    }
}

static int is_zero(const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] != 0) return 0;
    return 1;
}

const double *eeg_second(eeg_seconds *s, int64_t span, int64_t second) {
    const int64_t place = second % s->room, n = s->source->map.n;
    double *values = s->values + place * n * s->bins;
    if (s->seconds[place] == second && s->spans[place] == span) return values;
    s->seconds[place] = -1;
    if (eeg_source_read(s->source, span, second * s->width, s->width, s->samples)) return NULL;
    for (int64_t c = 0; c < n; c++) { /* a channel of zeros is exactly -18.4, alone: pairs leave rounding behind */
        const double *x = s->samples + c * s->width, *y = c + 1 < n ? x + s->width : NULL;
        if (is_zero(x, s->width) || (y && is_zero(y, s->width))) y = NULL;
        log_amplitudes(s, x, y, values + c * s->bins, y ? values + (c + 1) * s->bins : NULL);
        c += y != NULL;
    }
    s->spans[place] = span;
    s->seconds[place] = second;
    return values;
}

/* ---- the model ---- */

static const char *setting_text(const eeg_net *net, const char *wanted) {
    const char *key, *text;
    for (int32_t i = 0; strand_model_setting(net->rt.model, i, &key, &text) == STRAND_OK; i++)
        if (!strcmp(key, wanted)) return text;
    return NULL;
}

static int setting(const eeg_net *net, const char *wanted, double *value) {
    const char *text = setting_text(net, wanted);
    if (text) *value = strtod(text, NULL);
    return text != NULL;
}

/* What the model's inputs say: log amplitudes, or signals of a fixed number of samples at 200 Hz. */
static int take_inputs(eeg_net *net) {
    strand_tensor t;
    for (int32_t i = 0; strand_model_input(net->rt.model, i, &t) == STRAND_OK; i++) {
        if (!strcmp(t.name, "features_in") && t.rank == 4) net->nodes = t.dims[2], net->bins = t.dims[3];
        if (!strcmp(t.name, "x") && t.rank == 3 && t.dims[2] > 0) net->nodes = t.dims[1], net->samples = t.dims[2];
        net->wants_lengths = net->wants_lengths || !strcmp(t.name, "seq_lengths");
        if (!strcmp(t.name, "support0") || !strcmp(t.name, "adjacency") || !strcmp(t.name, "prior") ||
            !strcmp(t.name, "lengths"))
            return complain("%s: needs the input '%s', which a recording does not give; set graph=distance or correlation, or "
                            "lengths=full, with --set",
                            net->rt.info.name, t.name),
                   -1;
    }
    return 0;
}

/* A clip of the classifier of signals. */
static int take_clip(eeg_net *net, const options *settings) {
    net->rate = 200;
    net->bins = 100; /* of the seconds that nobody looks at */
    net->steps = net->samples / 200;
    if (net->samples % 200)
        return complain("%s: its clips have %lld samples, which is no whole number of seconds at 200 Hz", net->rt.info.name,
                        (long long)net->samples),
               EXIT_FAILED;
    if (settings->clip && settings->clip != net->steps)
        return complain("%s: takes clips of %lld s; --set max_seq_len=%lld makes it one for %lld s", net->rt.info.name,
                        (long long)net->steps, (long long)settings->clip * 200, (long long)settings->clip),
               EXIT_USAGE;
    return 0;
}

int eeg_net_open(eeg_net *net, const options *settings, int signals) {
    strand_tensor t;
    memset(net, 0, sizeof *net);
    if (!settings->model)
        return complain("%s: give the model with -m: the published checkpoints are not part of Strand (docs/eeg.md says where "
                        "they are)",
                        settings->command->name),
               EXIT_USAGE;
    const int rc = runtime_open(&net->rt, settings, NULL);
    if (rc) return rc;
    if (take_inputs(net)) return EXIT_FAILED;
    const int by_signals = signals && net->samples;
    if (!net->nodes || (!by_signals && (net->samples || !setting(net, "mean", &net->mean) || !setting(net, "std", &net->std))))
        return complain("%s: is a model of family %s, which does not take log amplitudes of an EEG (input features_in); %s "
                        "wants a DCRNN checkpoint%s",
                        net->rt.info.name, net->rt.info.family, settings->command->name, signals ? " or a GraphS4mer one" : ""),
               EXIT_FAILED;
    if (runtime_output(&net->rt, "prediction", &t) >= 0) net->horizon = t.dims[1];
    if (runtime_output(&net->rt, "logits", &t) >= 0) net->classes = t.dims[1];
    if (runtime_output(&net->rt, "encoder_hidden", &t) >= 0) net->layers = t.dims[1], net->hidden = t.dims[2] / net->nodes;
    if (net->nodes != 19)
        return complain("%s: has %lld nodes; the commands know the 19 electrodes of the 10-20 system", net->rt.info.name,
                        (long long)net->nodes),
               EXIT_FAILED;
    if (by_signals) return take_clip(net, settings);
    net->rate = 2.0 * (double)net->bins;
    net->steps = settings->clip ? settings->clip : net->rt.info.window;
    return 0;
}

/* ---- signals ---- */

/* Lines "CHANNEL mean deviation", tabs or blanks between them. */
static int read_statistics(eeg_net *net, const eeg_source *source, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return complain("%s: cannot be opened", path), -1;
    char line[256], name[64], wanted[ELECTRODE_BYTES], have[ELECTRODE_BYTES], reference[ELECTRODE_BYTES];
    double mean, deviation;
    int64_t found = 0;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%63s %lf %lf", name, &mean, &deviation) != 3 || !isfinite(mean) || !(deviation > 0)) continue;
        electrode_parse(name, have, reference);
        for (int64_t c = 0; c < net->nodes; c++) {
            electrode_parse(source->map.channels[c].name, wanted, reference);
            if (strcmp(wanted, have) || net->deviations[c] > 0) continue;
            net->means[c] = mean;
            net->deviations[c] = deviation;
            found++;
        }
    }
    fclose(file);
    if (found == net->nodes) return 0;
    return complain("%s: gives a mean and a deviation for %lld of the %lld channels; a line for each is 'FP1 mean deviation'",
                    path, (long long)found, (long long)net->nodes),
           -1;
}

static int measure_statistics(eeg_net *net, eeg_source *source) {
    const int64_t width = (int64_t)source->rate;
    double *x = malloc((size_t)(width * net->nodes) * sizeof *x), *squares = calloc((size_t)net->nodes, sizeof *squares);
    int bad = x && squares ? 0 : (complain("out of memory"), -1);
    double n = 0;
    for (int64_t k = 0; !bad && k < source->rec->n_spans; k++)
        for (int64_t at = 0; !bad && at + width <= eeg_source_samples(source, k, 1); at += width) {
            bad = interrupted() || eeg_source_read(source, k, at, width, x);
            for (int64_t i = 0; !bad && i < width; i++, n++)
                for (int64_t c = 0; c < net->nodes; c++) { /* Welford 1962: no loss where the mean is large */
                    const double d = x[c * width + i] - net->means[c];
                    net->means[c] += d / (n + 1);
                    squares[c] += d * (x[c * width + i] - net->means[c]);
                }
        }
    for (int64_t c = 0; !bad && c < net->nodes; c++) net->deviations[c] = n && squares[c] > 0 ? sqrt(squares[c] / n) : 1;
    free(x);
    free(squares);
    return bad;
}

int eeg_net_statistics(eeg_net *net, eeg_source *source) {
    const options *settings = source->settings;
    if (!net->samples) return 0;
    net->means = calloc((size_t)net->nodes, sizeof *net->means);
    net->deviations = calloc((size_t)net->nodes, sizeof *net->deviations);
    net->window = malloc((size_t)(net->nodes * net->samples) * sizeof *net->window);
    if (!net->means || !net->deviations || !net->window) return complain("out of memory"), EXIT_FAILED;
    if (settings->statistics) return read_statistics(net, source, settings->statistics) ? EXIT_FAILED : 0;
    if (settings->follow)
        return complain("%s: standardises signals by means and deviations; with --follow give them with --statistics FILE",
                        net->rt.info.name),
               EXIT_USAGE;
    remark(
        "%s: signals are standardised by this recording's own means and deviations; --statistics gives those of the training "
        "set",
        net->rt.info.name);
    return measure_statistics(net, source) ? EXIT_FAILED : 0;
}

static int add_signals(eeg_net *net, eeg_source *source, int64_t span, int64_t second) {
    const int64_t n = net->samples;
    float *to = net->features + net->filled++ * net->nodes * n;
    if (eeg_source_read(source, span, second * 200, n, net->window)) return -1;
    for (int64_t c = 0; c < net->nodes; c++)
        for (int64_t i = 0; i < n; i++) to[c * n + i] = (float)((net->window[c * n + i] - net->means[c]) / net->deviations[c]);
    return 0;
}

static int open_session(eeg_net *net, int64_t batch, int64_t length, const char *outputs) {
    net->batch = batch;
    if (runtime_plan(&net->rt, batch, length, outputs, &net->plan) != STRAND_OK)
        return complain("%s", strand_error(net->rt.context)), EXIT_FAILED;
    strand_session_params p;
    strand_session_params_init(&p);
    p.check_finite = 1;
    p.progress = progress_callback;
    if (strand_session_open(net->plan, &p, &net->session) != STRAND_OK)
        return complain("%s", strand_error(net->rt.context)), EXIT_FAILED;
    const int64_t each = net->nodes * (net->samples ? net->samples : length * net->bins);
    net->features = malloc((size_t)(batch * each) * sizeof *net->features);
    net->lengths = malloc((size_t)batch * sizeof *net->lengths);
    return net->features && net->lengths ? 0 : (complain("out of memory"), EXIT_FAILED);
}

int eeg_net_prepare(eeg_net *net, int64_t batch, const char *outputs) {
    return open_session(net, batch, net->samples ? net->rt.info.window : net->steps, outputs);
}

/* The graph of correlations is that of a whole window; all others are there before its first second. */
int eeg_net_prepare_steps(eeg_net *net, int64_t step, const char *outputs) {
    const char *graph = setting_text(net, "graph");
    if (net->samples || !net->rt.info.stateful || !graph || strcmp(graph, "distance"))
        return eeg_net_prepare(net, 1, outputs);
    net->stepwise = 1;
    return open_session(net, (net->steps + step - 1) / step, 1, outputs);
}

void eeg_net_close(eeg_net *net) {
    if (net->session) strand_session_close(net->session);
    if (net->plan) strand_plan_close(net->plan);
    if (net->rt.context) runtime_close(&net->rt);
    free(net->features);
    free(net->lengths);
    free(net->means);
    free(net->deviations);
    free(net->window);
}

int eeg_net_add(eeg_net *net, eeg_seconds *seconds, int64_t span, int64_t second) {
    if (net->samples) return add_signals(net, seconds->source, span, second);
    const int64_t wide = net->nodes * net->bins;
    float *to = net->features + net->filled * net->steps * wide;
    for (int64_t t = 0; t < net->steps; t++, to += wide) {
        const double *values = eeg_second(seconds, span, second + t);
        if (!values) return -1;
        for (int64_t i = 0; i < wide; i++) to[i] = (float)((values[i] - net->mean) / net->std);
    }
    net->lengths[net->filled++] = net->steps;
    return 0;
}

static int run(eeg_net *net, int64_t length, strand_tensor *outputs, int32_t n) {
    const int64_t b = net->filled;
    strand_tensor inputs[2] = {
        {.name = "features_in",
         .dtype = STRAND_F32,
         .rank = 4,
         .dims = {b, length, net->nodes, net->bins},
         .data = net->features,
         .bytes = (uint64_t)(b * length * net->nodes * net->bins) * 4},
        {.name = "seq_lengths", .dtype = STRAND_I64, .rank = 1, .dims = {b}, .data = net->lengths, .bytes = (uint64_t)b * 8}};
    if (net->samples) {
        inputs[0].name = "x";
        inputs[0].rank = 3;
        inputs[0].dims[1] = net->nodes;
        inputs[0].dims[2] = net->samples;
        inputs[0].bytes = (uint64_t)(b * net->nodes * net->samples) * 4;
    }
    for (int32_t i = 0; i < n; i++) outputs[i].data = NULL;
    net->filled = 0;
    const strand_status status = strand_session_run(net->session, inputs, net->wants_lengths ? 2 : 1, outputs, n);
    if (status == STRAND_OK) return 0;
    if (status != STRAND_ERR_CANCELLED) complain("%s", strand_session_error(net->session));
    return -1;
}

int eeg_net_run(eeg_net *net, strand_tensor *outputs, int32_t n) {
    if (net->rt.info.stateful) strand_session_reset(net->session, -1); /* every window begins anew */
    return run(net, net->steps, outputs, n);
}

int eeg_net_step(eeg_net *net, eeg_seconds *seconds, int64_t span, int64_t second, int64_t step, strand_tensor *outputs,
                 int32_t n) {
    const int64_t wide = net->nodes * net->bins;
    const double *values = eeg_second(seconds, span, second);
    if (!values) return -1;
    for (int64_t i = 0; i < wide; i++) net->features[i] = (float)((values[i] - net->mean) / net->std);
    for (int64_t b = 1; b < net->batch; b++)
        memcpy(net->features + b * wide, net->features, (size_t)wide * sizeof *net->features);
    for (int64_t b = 0; b < net->batch; b++) net->lengths[b] = 1;
    if (second % step == 0) strand_session_reset(net->session, second / step % net->batch);
    net->filled = net->batch;
    return run(net, 1, outputs, n);
}

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
    if (!s->spans || !s->seconds || !s->values || !s->samples || !s->work || !s->f) return complain("out of memory"), EXIT_FAILED;
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

/* Two real channels share a complex transform: with z = a + i b, A_k = (Z_k + conj Z_-k) / 2 and B_k = (Z_k - conj Z_-k) / 2i. */
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

static int setting(const eeg_net *net, const char *wanted, double *value) {
    const char *key, *text;
    for (int32_t i = 0; strand_model_setting(net->rt.model, i, &key, &text) == STRAND_OK; i++)
        if (!strcmp(key, wanted)) return *value = strtod(text, NULL), 1;
    return 0;
}

int eeg_net_open(eeg_net *net, const options *settings) {
    strand_tensor t;
    memset(net, 0, sizeof *net);
    if (!settings->model) return complain("%s: give the model with -m: the published checkpoints are not part of Strand (docs/eeg.md says where they are)", settings->command->name), EXIT_USAGE;
    const int rc = runtime_open(&net->rt, settings, NULL);
    if (rc) return rc;
    for (int32_t i = 0; strand_model_input(net->rt.model, i, &t) == STRAND_OK; i++) {
        if (!strcmp(t.name, "features_in") && t.rank == 4) net->nodes = t.dims[2], net->bins = t.dims[3];
        net->wants_lengths = net->wants_lengths || !strcmp(t.name, "seq_lengths");
        if (!strcmp(t.name, "support0") || !strcmp(t.name, "adjacency"))
            return complain("%s: takes its graph as input '%s'; use --set graph=distance or graph=correlation", net->rt.info.name, t.name), EXIT_FAILED;
    }
    if (!net->nodes || !setting(net, "mean", &net->mean) || !setting(net, "std", &net->std))
        return complain("%s: is a model of family %s, which does not take log amplitudes of an EEG (input features_in); %s wants a DCRNN checkpoint", net->rt.info.name, net->rt.info.family,
                        settings->command->name),
               EXIT_FAILED;
    if (runtime_output(&net->rt, "prediction", &t) >= 0) net->horizon = t.dims[1];
    if (runtime_output(&net->rt, "logits", &t) >= 0) net->classes = t.dims[1];
    if (runtime_output(&net->rt, "encoder_hidden", &t) >= 0) net->layers = t.dims[1], net->hidden = t.dims[2] / net->nodes;
    if (net->nodes != 19) return complain("%s: has %lld nodes; the commands know the 19 electrodes of the 10-20 system", net->rt.info.name, (long long)net->nodes), EXIT_FAILED;
    net->steps = settings->clip ? settings->clip : net->rt.info.window;
    return 0;
}

int eeg_net_prepare(eeg_net *net, int64_t batch, const char *outputs) {
    net->batch = batch;
    if (runtime_plan(&net->rt, batch, net->steps, outputs, &net->plan) != STRAND_OK) return complain("%s", strand_error(net->rt.context)), EXIT_FAILED;
    strand_session_params p;
    strand_session_params_init(&p);
    p.check_finite = 1;
    p.progress = progress_callback;
    if (strand_session_open(net->plan, &p, &net->session) != STRAND_OK) return complain("%s", strand_error(net->rt.context)), EXIT_FAILED;
    net->features = malloc((size_t)(batch * net->steps * net->nodes * net->bins) * sizeof *net->features);
    net->lengths = malloc((size_t)batch * sizeof *net->lengths);
    return net->features && net->lengths ? 0 : (complain("out of memory"), EXIT_FAILED);
}

void eeg_net_close(eeg_net *net) {
    if (net->session) strand_session_close(net->session);
    if (net->plan) strand_plan_close(net->plan);
    if (net->rt.context) runtime_close(&net->rt);
    free(net->features);
    free(net->lengths);
}

int eeg_net_add(eeg_net *net, eeg_seconds *seconds, int64_t span, int64_t second) {
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

int eeg_net_run(eeg_net *net, strand_tensor *outputs, int32_t n) {
    const int64_t b = net->filled;
    strand_tensor inputs[2] = {
        {.name = "features_in", .dtype = STRAND_F32, .rank = 4, .dims = {b, net->steps, net->nodes, net->bins}, .data = net->features, .bytes = (uint64_t)(b * net->steps * net->nodes * net->bins) * 4},
        {.name = "seq_lengths", .dtype = STRAND_I64, .rank = 1, .dims = {b}, .data = net->lengths, .bytes = (uint64_t)b * 8}};
    for (int32_t i = 0; i < n; i++) outputs[i].data = NULL;
    net->filled = 0;
    if (net->rt.info.stateful) strand_session_reset(net->session, -1); /* every window begins anew */
    const strand_status status = strand_session_run(net->session, inputs, net->wants_lengths ? 2 : 1, outputs, n);
    if (status == STRAND_OK) return 0;
    if (status != STRAND_ERR_CANCELLED) complain("%s", strand_session_error(net->session));
    return -1;
}

/* eeg_features.c - `strand eeg features` and `strand eeg embed`: numbers of seconds without a model, vectors of windows from
 * one.
 */
#include "commands.h"
#include "eeg_tables.h"
#include "eeg_windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 100, BANDS = 5, MOST_CHANNELS = 19 };

typedef struct feature_job {
    eeg_source source;
    eeg_walk walk;
    eeg_net net;
    eeg_table *table;
    float *numbers;
    const char *names[MOST_CHANNELS];
} feature_job;

/* Mean square in microvolts squared that the bins of a band hold: 2 |X_k|^2 / N^2 each. */
static void band_powers(const double *log_amplitude, int64_t width, float to[BANDS]) {
    static const int edges[BANDS + 1] = {1, 4, 8, 13, 30, 80};
    for (int b = 0; b < BANDS; b++) {
        double sum = 0;
        for (int k = edges[b]; k < edges[b + 1]; k++) sum += 2 * exp(2 * log_amplitude[k]) / ((double)width * (double)width);
        to[b] = (float)sum;
    }
}

static int take_features(void *user, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row) {
    feature_job *job = user;
    const int bands = job->source.settings->features_kind == FEATURES_BANDS;
    const double *values = eeg_second(&job->walk.seconds, span, second);
    (void)outputs;
    (void)row;
    if (!values) return -1;
    for (int32_t c = 0; c < job->source.map.n; c++) {
        if (bands)
            band_powers(values + c * BINS, job->walk.seconds.width, job->numbers + c * BANDS);
        else
            for (int k = 0; k < BINS; k++) job->numbers[c * BINS + k] = (float)values[c * BINS + k];
    }
    return eeg_table_write(job->table, job->source.rec->spans[span].onset + (double)second, job->numbers);
}

static int flush(void *user) {
    const feature_job *job = user;
    return eeg_table_flush(job->table);
}

static int name_channels(feature_job *job) {
    for (int32_t c = 0; c < job->source.map.n; c++) job->names[c] = job->source.map.channels[c].name;
    return 0;
}

static int features(feature_job *job, const options *settings) {
    static const char *const bands[BANDS] = {"delta_1_3", "theta_4_7", "alpha_8_12", "beta_13_29", "gamma_30_79"};
    const int bipolar = settings->montage == MONTAGE_BIPOLAR, by_bands = settings->features_kind == FEATURES_BANDS;
    job->walk = (eeg_walk){.need = 1, .step = 1, .take = take_features, .idle = flush, .user = job};
    int rc = eeg_walk_open(&job->walk, &job->source, settings, settings->args[0], bipolar ? electrodes_bipolar : electrodes_tuh,
                           bipolar ? 18 : 19, 200, BINS, 1);
    if (rc) return rc;
    name_channels(job);
    job->numbers = malloc(MOST_CHANNELS * BINS * sizeof *job->numbers);
    job->table = job->numbers ? eeg_table_open(settings, by_bands ? "bands" : "logfft", job->source.map.n,
                                               by_bands ? BANDS : BINS, by_bands ? bands : NULL, job->names)
                              : NULL;
    if (!job->table) return EXIT_FAILED;
    rc = eeg_walk_run(&job->walk) ? EXIT_FAILED : 0;
    if (!rc && !job->walk.windows) rc = (complain("%s: no stretch lasts a second", job->source.path), EXIT_FAILED);
    return rc;
}

static int close_job(feature_job *job, int rc) {
    if (eeg_table_close(job->table, !rc || (job->source.settings && job->source.settings->follow)))
        rc = EXIT_FAILED; /* of a stream, what came stays */
    eeg_walk_close(&job->walk);
    free(job->numbers);
    free(job);
    return rc;
}

int run_eeg_features(const options *settings) {
    feature_job *job = calloc(1, sizeof *job);
    if (!job) return complain("out of memory"), EXIT_FAILED;
    return close_job(job, features(job, settings));
}

/* ---- embed ---- */

/* encoder_hidden is [windows, layers, nodes * hidden]; the last layer is taken. */
static int take_vectors(void *user, int64_t span, int64_t second, const strand_tensor *outputs, int64_t row) {
    feature_job *job = user;
    const eeg_net *net = &job->net;
    const float *last = (const float *)outputs[0].data + (row * net->layers + net->layers - 1) * net->nodes * net->hidden;
    const double onset = job->source.rec->spans[span].onset + (double)second;
    if (job->source.settings->per_node) return eeg_table_write(job->table, onset, last);
    for (int64_t i = 0; i < net->hidden; i++) {
        double sum = 0;
        for (int64_t n = 0; n < net->nodes; n++) sum += last[n * net->hidden + i];
        job->numbers[i] = (float)(sum / (double)net->nodes);
    }
    return eeg_table_write(job->table, onset, job->numbers);
}

static int embed(feature_job *job, const options *settings) {
    if (!job->net.hidden) return complain("%s: offers no encoder_hidden", job->net.rt.info.name), EXIT_FAILED;
    if (settings->montage == MONTAGE_BIPOLAR)
        return complain("%s: the model wants the 19 referential electrodes; --montage may be as-is or average",
                        settings->command->name),
               EXIT_USAGE;
    eeg_walk *w = &job->walk;
    *w = (eeg_walk){.net = &job->net,
                    .need = job->net.steps,
                    .step = settings->step ? settings->step : job->net.steps,
                    .take = take_vectors,
                    .idle = flush,
                    .user = job,
                    .n_outputs = 1};
    w->outputs[0].name = "encoder_hidden";
    int rc = eeg_walk_open(w, &job->source, settings, settings->args[0], electrodes_tuh, 19, 2.0 * (double)job->net.bins,
                           job->net.bins, w->need);
    if (!rc)
        rc = settings->follow ? eeg_net_prepare_steps(&job->net, w->step, "encoder_hidden")
                              : eeg_net_prepare(&job->net, eeg_batch(settings), "encoder_hidden");
    if (rc) return rc;
    name_channels(job);
    job->numbers = malloc((size_t)job->net.hidden * sizeof *job->numbers);
    job->table = job->numbers ? eeg_table_open(settings, "embedding", settings->per_node ? job->net.nodes : 1, job->net.hidden,
                                               NULL, settings->per_node ? job->names : NULL)
                              : NULL;
    if (!job->table) return EXIT_FAILED;
    rc = eeg_walk_run(w) ? EXIT_FAILED : 0;
    if (!rc && !w->windows)
        rc = (complain("%s: no stretch without a gap lasts the %lld s of a window; --clip takes less", job->source.path,
                       (long long)w->need),
              EXIT_FAILED);
    return rc;
}

int run_eeg_embed(const options *settings) {
    feature_job *job = calloc(1, sizeof *job);
    if (!job) return complain("out of memory"), EXIT_FAILED;
    int rc = eeg_net_open(&job->net, settings, 0);
    if (!rc) rc = embed(job, settings);
    eeg_net net = job->net;
    rc = close_job(job, rc);
    eeg_net_close(&net);
    return rc;
}

/* forecast_model.c - a model that reads `window` [batch, lag, variables] and gives `forecast` [batch, horizon, variables],
 * seen in the units of the data. See forecast.h.
 *
 * Scaling: the model was trained on (value - mean) / std with the numbers of its config; --scale series takes the series'
 * own mean and deviation instead. Windows are queued, of any series, and run when a batch is full.
 */
#include "forecast.h"

#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32 };

typedef struct queued_window {
    const double *mean, *std;
    double *to;
    const char *id;
} queued_window;

const char *forecaster_setting(const forecaster *f, const char *key) {
    const char *name, *value;
    for (int32_t i = 0; strand_model_setting(f->rt.model, i, &name, &value) == STRAND_OK; i++)
        if (!strcmp(name, key)) return value;
    return NULL;
}

static int64_t setting_number(const forecaster *f, const char *key) {
    const char *text = forecaster_setting(f, key);
    return text ? strtoll(text, NULL, 10) : 0;
}

/* "17.1,2.5" -> n numbers; 0 when there are that many. */
static int setting_numbers(const forecaster *f, const char *key, double *to, int n) {
    const char *text = forecaster_setting(f, key);
    char *end;
    for (int i = 0; i < n; i++) {
        if (!text || !*text) return -1;
        to[i] = strtod(text, &end);
        if (end == text || !isfinite(to[i])) return -1;
        text = end + (*end == ',');
    }
    return text && *text ? -1 : 0;
}

static int find_shapes(forecaster *f) {
    strand_tensor in, out;
    const int32_t index = runtime_output(&f->rt, "forecast", &out);
    if (index < 0 || strand_model_input(f->rt.model, 0, &in) != STRAND_OK || strcmp(in.name, "window") || in.rank != 3 ||
        out.rank != 3 || in.dtype != STRAND_F32 || out.dtype != STRAND_F32 || in.dims[2] < 1 || out.dims[1] < 1 ||
        out.dims[2] < 1 || out.dims[2] > in.dims[2] || in.dims[2] > CSV_MAX_FIELDS)
        return complain("%s: a %s model makes no forecasts; this command wants one with the input 'window' and the output "
                        "'forecast' (SpaceTime)",
                        f->rt.info.name, f->rt.info.family),
               -1;
    f->inputs = (int)in.dims[2];
    f->outputs = (int)out.dims[2];
    f->horizon = out.dims[1];
    f->lag = setting_number(f, "lag");
    if (f->lag < 1) f->lag = f->rt.info.window;
    return f->lag < 1
               ? (complain("%s: the model does not say how many samples it reads; --set lag=N does", f->rt.info.name), -1)
               : 0;
}

static int find_facts(forecaster *f) {
    const char *text = forecaster_setting(f, "columns"), *freq = forecaster_setting(f, "freq");
    const size_t n = (size_t)f->inputs;
    if (text) snprintf(f->columns, sizeof f->columns, "%s", text);
    f->season = setting_number(f, "season");
    f->has_frequency = freq && !frequency_parse(freq, &f->freq);
    f->model_mean = calloc(n, sizeof *f->model_mean);
    f->model_std = calloc(n, sizeof *f->model_std);
    if (!f->model_mean || !f->model_std) return complain("out of memory"), -1;
    f->scaled = !setting_numbers(f, "scaler_mean", f->model_mean, f->inputs) &&
                !setting_numbers(f, "scaler_std", f->model_std, f->inputs);
    for (int i = 0; f->scaled && i < f->inputs; i++) f->scaled = f->model_std[i] > 0;
    if (!f->scaled && f->rt.settings->scale == SCALE_MODEL &&
        (forecaster_setting(f, "scaler_mean") || forecaster_setting(f, "scaler_std")))
        return complain("%s: scaler_mean and scaler_std of the model's config are not %d numbers each (std > 0)",
                        f->rt.info.name, f->inputs),
               -1;
    for (int i = 0; !f->scaled && i < f->inputs; i++) f->model_mean[i] = 0, f->model_std[i] = 1;
    return 0;
}

static void close_model(forecaster *f) {
    if (f->rt.context) runtime_close(&f->rt);
    memset(&f->rt, 0, sizeof f->rt);
    free(f->model_mean);
    free(f->model_std);
    f->model_mean = f->model_std = NULL;
}

static int open_model(forecaster *f) {
    const int rc = runtime_open(&f->rt, &f->own, f->own.model ? f->own.model : DEFAULT_FORECAST_MODEL);
    if (rc) return memset(&f->rt, 0, sizeof f->rt), rc;
    return find_shapes(f) || find_facts(f) ? EXIT_FAILED : 0;
}

/* The user's settings and two of ours. */
static int own_settings(forecaster *f, const options *settings, const char *horizon, const char *extra) {
    const int n = settings->settings.n;
    const char **items = malloc(((size_t)n + 2) * sizeof *items);
    if (!items) return complain("out of memory"), EXIT_FAILED;
    free(f->own.settings.items);
    f->own.settings.items = items;
    f->own.settings.n = 0;
    if (extra) items[f->own.settings.n++] = extra;
    for (int i = 0; i < n; i++) items[f->own.settings.n++] = settings->settings.items[i];
    if (horizon) items[f->own.settings.n++] = horizon;
    return 0;
}

int forecaster_open(forecaster *f, const options *settings, int64_t horizon, const char *extra) {
    char text[48];
    memset(f, 0, sizeof *f);
    f->own = *settings;
    f->own.settings.items = NULL;
    int rc = own_settings(f, settings, NULL, extra);
    if (!rc) rc = open_model(f);
    if (rc) return rc;
    f->trained = f->horizon;
    if (!horizon || horizon == f->horizon) return 0;
    close_model(f);
    snprintf(text, sizeof text, "horizon=%lld", (long long)horizon);
    rc = own_settings(f, settings, text, extra);
    if (!rc) rc = open_model(f);
    f->own.settings.n = 0; /* `text` ends here */
    return rc;
}

void forecaster_close(forecaster *f) {
    if (f->session) strand_session_close(f->session);
    if (f->plan) strand_plan_close(f->plan);
    close_model(f);
    free(f->own.settings.items);
    free(f->windows);
    free(f->queue);
    memset(f, 0, sizeof *f);
}

int forecaster_prepare(forecaster *f, int64_t windows) {
    strand_session_params params;
    const int64_t wanted = f->own.batch, most = wanted ? wanted : BATCH;
    f->batch = windows < most ? windows : most;
    strand_status status = runtime_plan(&f->rt, f->batch, f->lag, "forecast", &f->plan);
    if (status == STRAND_ERR_LIMIT && !wanted && f->batch > 1)
        status = runtime_plan(&f->rt, f->batch = 1, f->lag, "forecast", &f->plan);
    if (status != STRAND_OK) return f->plan = NULL, complain("%s", strand_error(f->rt.context)), -1;
    strand_session_params_init(&params);
    params.check_finite = 1;
    params.progress = progress_callback;
    if (strand_session_open(f->plan, &params, &f->session) != STRAND_OK)
        return f->session = NULL, complain("%s", strand_error(f->rt.context)), -1;
    f->windows = malloc((size_t)(f->batch * f->lag * f->inputs) * sizeof *f->windows);
    f->queue = malloc((size_t)f->batch * sizeof *f->queue);
    return f->windows && f->queue ? 0 : (complain("out of memory"), -1);
}

void forecaster_scale(forecaster *f, const series *s, int64_t n, double *mean, double *std) {
    for (int v = 0; v < f->inputs; v++) {
        mean[v] = f->own.scale == SCALE_MODEL ? f->model_mean[v] : 0;
        std[v] = f->own.scale == SCALE_MODEL ? f->model_std[v] : 1;
        if (f->own.scale != SCALE_SERIES) continue;
        double sum = 0, square = 0;
        for (int64_t i = 0; i < n; i++) sum += s->values[i * f->inputs + v];
        mean[v] = sum / (double)n;
        for (int64_t i = 0; i < n; i++) square += pow(s->values[i * f->inputs + v] - mean[v], 2);
        std[v] = square > 0 ? sqrt(square / (double)n) : 1;
    }
}

int forecaster_flush(forecaster *f) {
    const int64_t n = f->queued, size = f->horizon * f->outputs;
    if (!n) return interrupted() ? -1 : 0;
    strand_tensor in = {
        "window", STRAND_F32, 3, {n, f->lag, f->inputs}, f->windows, (uint64_t)(n * f->lag * f->inputs) * sizeof(float)};
    strand_tensor out = {.name = "forecast"};
    strand_status status = strand_session_reset(f->session, -1);
    if (status == STRAND_OK) status = strand_session_run(f->session, &in, 1, &out, 1);
    if (status != STRAND_OK) {
        if (!interrupted()) complain("%s%s%s", f->queue[0].id, *f->queue[0].id ? ": " : "", strand_session_error(f->session));
        return -1;
    }
    const float *values = out.data;
    for (int64_t i = 0; i < n; i++) {
        const queued_window *q = &f->queue[i];
        const int first = f->inputs - f->outputs;
        for (int64_t t = 0; t < size; t++) {
            const int v = first + (int)(t % f->outputs);
            q->to[t] = (double)values[i * size + t] * q->std[v] + q->mean[v];
        }
    }
    f->queued = 0;
    progress_add("windows", (double)n);
    return interrupted() ? -1 : 0;
}

int forecaster_push(forecaster *f, const series *s, int64_t cutoff, const double *mean, const double *std, double *to) {
    float *window = f->windows + f->queued * f->lag * f->inputs;
    const double *values = s->values + (cutoff - f->lag) * f->inputs;
    for (int64_t i = 0; i < f->lag * f->inputs; i++) {
        const int v = (int)(i % f->inputs);
        window[i] = (float)((values[i] - mean[v]) / std[v]);
    }
    f->queue[f->queued++] = (queued_window){mean, std, to, s->id};
    return f->queued == f->batch ? forecaster_flush(f) : 0;
}

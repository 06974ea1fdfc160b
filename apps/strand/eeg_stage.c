/* eeg_stage.c - `strand eeg stage`: sleep stages of epochs of 30 s by SimpleSleepNet.
 *
 * As the published evaluation does it, the sequence part sees 21 epochs around each epoch, zeros standing before and behind the
 * recording, and an epoch's stage comes from the sum of the log probabilities of all such windows that hold it. The epoch
 * encoder's work does not depend on the window, so it runs once an epoch (output "reduced"), and the sequence part alone over
 * the windows (setting input=reduced). The night goes by in a ring of epochs, so memory does not depend on its length, and a
 * recording that is coming in (--follow) gives what it gives when it is whole.
 */
#include "commands.h"
#include "eeg_report.h"
#include "eeg_sleep.h"
#include "eeg_windows.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 21, HALF = CONTEXT / 2, STAGES = REPORT_STAGES, CYCLES = 5, BATCH = 8, RING = 32, MOST_WIDTH = 4096 };

static const char *const stage_names[STAGES] = {"W", "N1", "N2", "N3", "REM"};

/* A model with its session. */
typedef struct part {
    runtime rt;
    strand_plan *plan;
    strand_session *session;
} part;

typedef struct stager {
    eeg_source source;
    sleep_reader reader;
    part encoder, sequence;
    int64_t width;                          /* of an epoch's vector */
    float *reduced, *nothing;               /* [RING][width], epoch e of the span at e mod RING; an epoch of zeros */
    double sums[RING][STAGES + 1];          /* log probabilities, and of how many windows */
    int64_t span, encoded, centred, written; /* where it stands: epochs encoded, windows run around, epochs written */
    float *signals, *windows, *index, *cycles;
    output *out;
    eeg_report report;
    eeg_event_list events;
    int64_t epochs;
} stager;

static int open_part(part *p, const options *settings, const char *input, int64_t batch, int64_t length, const char *outputs) {
    options own = *settings;
    const char **items = calloc((size_t)settings->settings.n + 1, sizeof *items);
    if (!items) return complain("out of memory"), EXIT_FAILED;
    for (int i = 0; i < settings->settings.n; i++) items[i] = settings->settings.items[i];
    items[settings->settings.n] = input;
    own.settings = (text_list){items, settings->settings.n + 1};
    int rc = runtime_open(&p->rt, &own, NULL);
    p->rt.settings = settings;
    free(items);
    if (rc) return rc;
    if (strcmp(p->rt.info.family, "sleepnet"))
        return complain("%s: is a model of family %s; %s wants a SimpleSleepNet archive", p->rt.info.name, p->rt.info.family,
                        settings->command->name),
               EXIT_FAILED;
    strand_session_params params;
    strand_session_params_init(&params);
    params.check_finite = 1;
    params.progress = progress_callback;
    if (runtime_plan(&p->rt, batch, length, outputs, &p->plan) != STRAND_OK ||
        strand_session_open(p->plan, &params, &p->session) != STRAND_OK)
        return complain("%s", strand_error(p->rt.context)), EXIT_FAILED;
    return 0;
}

static void close_part(part *p) {
    if (p->session) strand_session_close(p->session);
    if (p->plan) strand_plan_close(p->plan);
    if (p->rt.context) runtime_close(&p->rt);
}

static int run_part(part *p, const strand_tensor *inputs, int32_t n, const char *output, const float **result) {
    strand_tensor out = {.name = output};
    if (p->rt.info.stateful) strand_session_reset(p->session, -1);
    const strand_status status = strand_session_run(p->session, inputs, n, &out, 1);
    if (status != STRAND_OK) {
        if (status != STRAND_ERR_CANCELLED) complain("%s", strand_session_error(p->session));
        return -1;
    }
    *result = out.data;
    return 0;
}

/* Features of epochs from .. from + n of the night: i / 1200, and cos(pi i / c). Before the begin the index stays 0, behind the
 * end last. */
static void night_features(int64_t from, int64_t n, int64_t last, float *index, float *cycles) {
    static const double lengths[CYCLES] = {10, 30, 60, 90, 120};
    for (int64_t i = 0; i < n; i++) {
        const double e = from + i < 0 ? 0 : from + i > last ? (double)last : (double)(from + i);
        index[i] = (float)(e / 1200);
        for (int k = 0; k < CYCLES; k++) cycles[i * CYCLES + k] = (float)cos(3.14159265358979323846 * e / lengths[k]);
    }
}

static strand_tensor tensor(const char *name, void *data, int32_t rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    strand_tensor t = {.name = name, .dtype = STRAND_F32, .rank = rank, .dims = {a, b, c, d}, .data = data};
    t.bytes = 4;
    for (int32_t i = 0; i < rank; i++) t.bytes *= (uint64_t)t.dims[i];
    return t;
}

/* n epochs at `signals` -> their vectors. */
static int encode(stager *s, int64_t n, float *to) {
    const float *result;
    night_features(0, n, n, s->index, s->cycles); /* not looked at by the encoder, but named inputs of the model */
    const strand_tensor inputs[3] = {tensor("signals", s->signals, 4, 1, n, SLEEP_CHANNELS, SLEEP_SAMPLES),
                                     tensor("epoch_index", s->index, 3, 1, n, 1, 0),
                                     tensor("epoch_cycle_index", s->cycles, 3, 1, n, CYCLES, 0)};
    if (run_part(&s->encoder, inputs, 3, "reduced", &result)) return -1;
    memcpy(to, result, (size_t)(n * s->width) * sizeof *to);
    return 0;
}

/* The next n epochs of the span. */
static int encode_epochs(stager *s, int64_t n) {
    float vectors[BATCH * MOST_WIDTH];
    for (int64_t i = 0; i < n; i++)
        if (sleep_epoch(&s->reader, s->encoded + i, s->signals + i * SLEEP_CHANNELS * SLEEP_SAMPLES)) return -1;
    if (encode(s, n, vectors) || interrupted()) return -1;
    for (int64_t i = 0; i < n; i++, s->encoded++)
        memcpy(s->reduced + s->encoded % RING * s->width, vectors + i * s->width, (size_t)s->width * sizeof *vectors);
    progress_add("epochs", (double)n);
    return 0;
}

/* Whether epoch e takes the window around epoch c in: those that are complete when --wait epochs after it are there. */
static int counts(const stager *s, int64_t e, int64_t c) {
    const int64_t last = e + s->source.settings->stage_wait - HALF;
    return c <= (last > 0 ? last : 0);
}

static void add_window(stager *s, int64_t c, const float *logits) {
    for (int64_t i = 0; i < CONTEXT; i++) {
        const int64_t epoch = c + i - HALF;
        if (epoch < 0 || epoch >= s->encoded || !counts(s, epoch, c)) continue;
        const float *z = logits + i * STAGES;
        double *sums = s->sums[epoch % RING], most = z[0], sum = 0;
        for (int k = 1; k < STAGES; k++) most = fmax(most, z[k]);
        for (int k = 0; k < STAGES; k++) sum += exp(z[k] - most);
        for (int k = 0; k < STAGES; k++) sums[k] += z[k] - most - log(sum);
        sums[STAGES]++;
    }
}

/* The next n windows of the span. */
static int run_windows(stager *s, int64_t n) {
    const float *logits;
    const int64_t first = (int64_t)(s->source.rec->spans[s->span].onset / 30);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < CONTEXT; k++) {
            const int64_t e = s->centred + i + k - HALF;
            memcpy(s->windows + (i * CONTEXT + k) * s->width,
                   e < 0 || e >= s->encoded ? s->nothing : s->reduced + e % RING * s->width,
                   (size_t)s->width * sizeof *s->windows);
        }
        night_features(first + s->centred + i - HALF, CONTEXT, first + s->encoded - 1, s->index + i * CONTEXT,
                       s->cycles + i * CONTEXT * CYCLES);
    }
    const strand_tensor inputs[3] = {tensor("reduced", s->windows, 3, n, CONTEXT, s->width, 0),
                                     tensor("epoch_index", s->index, 3, n, CONTEXT, 1, 0),
                                     tensor("epoch_cycle_index", s->cycles, 3, n, CONTEXT, CYCLES, 0)};
    if (run_part(&s->sequence, inputs, 3, "logits", &logits)) return -1;
    for (int64_t i = 0; i < n; i++, s->centred++) add_window(s, s->centred, logits + i * CONTEXT * STAGES);
    return 0;
}

static int write_epoch(stager *s, double onset, const double *sums) {
    double p[STAGES], total = 0, most = -INFINITY;
    int stage = 0;
    for (int k = 0; k < STAGES; k++) most = fmax(most, sums[k] / sums[STAGES]);
    for (int k = 0; k < STAGES; k++) total += p[k] = exp(sums[k] / sums[STAGES] - most);
    for (int k = 0; k < STAGES; k++) {
        p[k] /= total;
        if (p[k] > p[stage]) stage = k;
    }
    const options *settings = s->source.settings;
    if (settings->report && eeg_report_stage(&s->report, onset, stage, p)) return -1;
    if (settings->edf_annotations) {
        eeg_event e = {.onset = onset, .duration = 30, .confidence = NAN};
        snprintf(e.type, sizeof e.type, "Sleep stage %s", stage == 4 ? "R" : stage_names[stage]); /* as EDF+ spells them */
        if (eeg_events_add(&s->events, &e)) return -1;
    }
    if (settings->eeg_format == EEG_JSONL) {
        output_printf(s->out, "{\"onset\": %.2f, \"duration\": 30.00, \"stage\": \"%s\", \"probabilities\": {", onset,
                      stage_names[stage]);
        for (int k = 0; k < STAGES; k++) output_printf(s->out, "%s\"%s\": %.6f", k ? ", " : "", stage_names[k], p[k]);
        return output_printf(s->out, "}}\n");
    }
    output_printf(s->out, "%.2f\t30.00\t%s", onset, stage_names[stage]);
    for (int k = 0; k < STAGES; k++) output_printf(s->out, "\t%.6f", p[k]);
    return output_printf(s->out, "\n");
}

/* Epochs that take no more windows in. */
static int write_ready(stager *s, int over) {
    for (; s->written < s->encoded && (over || !counts(s, s->written, s->centred)); s->written++, s->epochs++) {
        double *sums = s->sums[s->written % RING];
        if (write_epoch(s, s->source.rec->spans[s->span].onset + 30.0 * (double)s->written, sums)) return -1;
        memset(sums, 0, sizeof s->sums[0]);
    }
    return 0;
}

/* All of the current span that can be had; `final`: no more of it will come. */
static int stage_span(stager *s, int final) {
    const int64_t there = sleep_epochs(&s->reader, final);
    while (s->encoded < there || (final && s->centred < there)) {
        const int64_t n = there - s->encoded < BATCH ? there - s->encoded : BATCH;
        if (n && encode_epochs(s, n)) return -1;
        for (int64_t end = final && s->encoded == there ? there : s->encoded - HALF; s->centred < end;)
            if (run_windows(s, end - s->centred < BATCH ? end - s->centred : BATCH) || write_ready(s, 0) || interrupted())
                return -1;
    }
    return final ? write_ready(s, 1) : 0;
}

static void begin_span(stager *s, int64_t span) {
    s->span = span;
    s->encoded = s->centred = s->written = 0;
    sleep_begin(&s->reader, span);
}

static int stage_all(void *user, int final) {
    stager *s = user;
    for (;;) {
        const int last = s->span + 1 >= s->source.rec->n_spans;
        if (stage_span(s, final || !last)) return -1;
        if (last) return 0;
        begin_span(s, s->span + 1);
    }
}

static int flush(void *user) {
    const stager *s = user;
    return output_flush(s->out);
}

static int stage(stager *s) {
    const options *settings = s->source.settings;
    if (!settings->no_version && settings->eeg_format == EEG_TSV) eeg_write_header(s->out, &s->encoder.rt, &s->source);
    if (settings->eeg_format == EEG_TSV) output_printf(s->out, "onset\tduration\tstage\tW\tN1\tN2\tN3\tREM\n");
    progress_begin("epochs");
    if (encode(s, 1, s->nothing)) return EXIT_FAILED; /* an epoch of zeros, which stands before and behind each span */
    begin_span(s, 0);
    if (settings->follow ? eeg_follow(&s->source, stage_all, flush, s) : stage_all(s, 1)) return EXIT_FAILED;
    if (!s->epochs) return complain("%s: no stretch without a gap lasts the 30 s of an epoch", s->source.path), EXIT_FAILED;
    if (settings->edf_annotations && eeg_events_edf(settings->edf_annotations, &s->source, &s->events)) return EXIT_FAILED;
    return settings->report ? eeg_report_write(&s->report, &s->source, &s->encoder.rt) : 0;
}

static int prepare(stager *s, const options *settings) {
    strand_tensor t;
    if (settings->stage_wait > 2 * HALF)
        return complain("%s: --wait may be 0 to %d epochs: no window reaches further", settings->command->name, 2 * HALF),
               EXIT_USAGE;
    if (settings->montage != MONTAGE_AS_IS)
        return complain("%s: the model's channels are derivations; --montage may only be as-is", settings->command->name),
               EXIT_USAGE;
    int rc = open_part(&s->encoder, settings, "input=signals", 1, BATCH, "reduced");
    if (!rc) rc = open_part(&s->sequence, settings, "input=reduced", BATCH, CONTEXT, "logits");
    if (rc) return rc;
    if (runtime_output(&s->encoder.rt, "reduced", &t) < 0 || t.rank != 3 ||
        strand_model_input(s->encoder.rt.model, 0, &t) != STRAND_OK || t.dims[2] != SLEEP_CHANNELS ||
        t.dims[3] != SLEEP_SAMPLES)
        return complain("%s: is not the network for 16 channels and epochs of 3000 samples (dodh); 'strand run' takes it",
                        s->encoder.rt.info.name),
               EXIT_FAILED;
    runtime_output(&s->encoder.rt, "reduced", &t);
    s->width = t.dims[2];
    if (s->width > MOST_WIDTH)
        return complain("%s: its epochs' vectors have %lld numbers; %d at most", s->encoder.rt.info.name, (long long)s->width,
                        MOST_WIDTH),
               EXIT_FAILED;
    s->reduced = malloc((size_t)(RING * s->width) * sizeof *s->reduced);
    s->nothing = malloc((size_t)s->width * sizeof *s->nothing);
    s->signals = calloc((size_t)BATCH * SLEEP_CHANNELS * SLEEP_SAMPLES, sizeof *s->signals);
    s->windows = malloc((size_t)(BATCH * CONTEXT * s->width) * sizeof *s->windows);
    s->index = malloc((size_t)BATCH * CONTEXT * sizeof *s->index);
    s->cycles = malloc((size_t)BATCH * CONTEXT * CYCLES * sizeof *s->cycles);
    if (!s->reduced || !s->nothing || !s->signals || !s->windows || !s->index || !s->cycles)
        return complain("out of memory"), EXIT_FAILED;
    rc = eeg_source_open(&s->source, settings, settings->args[0], 60);
    if (!rc)
        rc = eeg_source_prepare(&s->source, sleep_channels, SLEEP_CHANNELS,
                                settings->report || settings->edf_annotations ? 100 : 0);
    if (!rc && !settings->quiet) eeg_source_say_map(&s->source);
    if (!rc) rc = sleep_open(&s->reader, &s->source);
    return rc;
}

int run_eeg_stage(const options *settings) {
    stager *s = calloc(1, sizeof *s);
    if (!s) return complain("out of memory"), EXIT_FAILED;
    int rc =
        settings->model
            ? 0
            : (complain(
                   "%s: give the model with -m: the published archive is not part of Strand (docs/eeg.md says where it is)",
                   settings->command->name),
               EXIT_USAGE);
    eeg_report_open(&s->report, settings, "Sleep stages");
    s->source.spool = -1;
    if (!rc) rc = prepare(s, settings);
    if (!rc && (s->out = output_open(settings->output)) == NULL) rc = EXIT_FAILED;
    if (!rc) rc = stage(s);
    if (output_close(s->out, !rc || settings->follow)) rc = EXIT_FAILED;
    sleep_close(&s->reader);
    eeg_source_close(&s->source);
    close_part(&s->sequence);
    close_part(&s->encoder);
    eeg_report_close(&s->report);
    eeg_events_free(&s->events);
    free(s->reduced);
    free(s->nothing);
    free(s->signals);
    free(s->windows);
    free(s->index);
    free(s->cycles);
    free(s);
    return rc;
}

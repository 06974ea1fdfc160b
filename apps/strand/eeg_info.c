/* eeg_info.c - `strand eeg info`: what a recording holds, without a model. Nothing about the patient is read, so nothing can be
 * shown; annotations are free text and shown on request only.
 */
#include "commands.h"
#include "eeg_quality.h"
#include "eeg_source.h"
#include "escape.h"
#include "output.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct info_job {
    eeg_source source;
    eeg_quality *quality;
    output *out;
} info_job;

static void duration_text(double seconds, char *text, size_t size) {
    const int64_t whole = (int64_t)seconds;
    if (seconds < 120)
        snprintf(text, size, "%g s", seconds);
    else
        snprintf(text, size, "%lld:%02d:%02d", (long long)(whole / 3600), (int)(whole / 60 % 60), (int)(whole % 60));
}

static const char *electrode_of(const rec_signal *s, char name[ELECTRODE_BYTES]) {
    char reference[ELECTRODE_BYTES];
    return electrode_parse(s->label, name, reference) ? name : "-";
}

static void write_text(info_job *job) {
    const recording *r = job->source.rec;
    char text[128], name[ELECTRODE_BYTES];
    duration_text(r->duration, text, sizeof text);
    output_printf(job->out, "file        %s\nformat      %s\nduration    %s", eeg_source_name(&job->source), r->format, text);
    if (r->n_spans > 1) output_printf(job->out, " in %lld spans, %.3f s of gaps", (long long)r->n_spans, r->end - r->duration);
    output_printf(job->out, "\nsignals     %d\nannotations %lld%s\n", r->n_signals, (long long)r->n_events,
                  r->n_events && !job->source.settings->annotations ? " (--annotations lists them)" : "");
    for (int32_t i = 0; i < r->n_notes; i++) output_printf(job->out, "note        %s\n", r->notes[i]);
    for (int64_t k = 0; r->n_spans > 1 && k < r->n_spans && k < 50; k++)
        output_printf(job->out, "span        %.3f to %.3f s\n", r->spans[k].onset, r->spans[k].onset + r->spans[k].duration);
    if (r->n_spans > 50) output_printf(job->out, "span        ... %lld more\n", (long long)(r->n_spans - 50));
    output_printf(job->out, "\n%4s  %-20s %-10s %9s %-6s %12s %12s %10s  %s\n", "#", "label", "electrode", "Hz", "unit",
                  "least", "most", "rms", "quality");
    for (int32_t i = 0; i < r->n_signals; i++) {
        const rec_signal *s = &r->signals[i];
        const eeg_quality *q = &job->quality[i];
        eeg_quality_text(q, text, sizeof text);
        output_printf(job->out, "%4d  %-20s %-10s %9.6g %-6s %12.5g %12.5g %10.4g  %s\n", i + 1, s->label,
                      electrode_of(s, name), s->rate, s->unit, q->least, q->most, q->rms, text);
    }
}

static void write_tsv(info_job *job) {
    const recording *r = job->source.rec;
    char text[128], name[ELECTRODE_BYTES];
    output_printf(job->out, "number\tlabel\telectrode\trate\tunit\tleast\tmost\trms\tflat\tclipped\thum50\thum60\tquality\n");
    for (int32_t i = 0; i < r->n_signals; i++) {
        const rec_signal *s = &r->signals[i];
        const eeg_quality *q = &job->quality[i];
        eeg_quality_text(q, text, sizeof text);
        output_printf(job->out, "%d\t", i + 1);
        write_cell(job->out, s->label);
        output_printf(job->out, "\t%s\t%.9g\t", electrode_of(s, name), s->rate);
        write_cell(job->out, s->unit);
        output_printf(job->out, "\t%.6g\t%.6g\t%.6g\t%.4f\t%.6f\t%.4g\t%.4g\t%s\n", q->least, q->most, q->rms, q->flat,
                      q->clipped, q->hum50, q->hum60, text);
    }
}

static void write_json_signals(info_job *job) {
    const recording *r = job->source.rec;
    char text[128], name[ELECTRODE_BYTES];
    for (int32_t i = 0; i < r->n_signals; i++) {
        const rec_signal *s = &r->signals[i];
        const eeg_quality *q = &job->quality[i];
        eeg_quality_text(q, text, sizeof text);
        output_printf(job->out, "%s\n    {\"label\": ", i ? "," : "");
        write_json_text(job->out, s->label);
        output_printf(job->out, ", \"electrode\": ");
        if (!strcmp(electrode_of(s, name), "-"))
            output_printf(job->out, "null");
        else
            write_json_text(job->out, name);
        output_printf(job->out, ", \"rate\": %.9g, \"unit\": ", s->rate);
        write_json_text(job->out, s->unit);
        const struct {
            const char *key;
            double value;
        } numbers[] = {{"least", q->least},     {"most", q->most},   {"rms", q->rms},    {"flat", q->flat},
                       {"clipped", q->clipped}, {"hum50", q->hum50}, {"hum60", q->hum60}};
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            output_printf(job->out, ", \"%s\": ", numbers[k].key);
            write_json_number(job->out, "%.6g", numbers[k].value);
        }
        output_printf(job->out, ", \"quality\": \"%s\"}", text);
    }
}

static void write_json(info_job *job) {
    const recording *r = job->source.rec;
    output_printf(job->out, "{\n  \"file\": ");
    write_json_text(job->out, eeg_source_name(&job->source));
    output_printf(job->out,
                  ",\n  \"format\": \"%s\",\n  \"duration\": %.6f,\n  \"end\": %.6f,\n  \"annotations\": %lld,\n  \"notes\": [",
                  r->format, r->duration, r->end, (long long)r->n_events);
    for (int32_t i = 0; i < r->n_notes; i++) {
        if (i) output_printf(job->out, ", ");
        write_json_text(job->out, r->notes[i]);
    }
    output_printf(job->out, "],\n  \"spans\": [");
    for (int64_t k = 0; k < r->n_spans; k++)
        output_printf(job->out, "%s{\"onset\": %.6f, \"duration\": %.6f}", k ? ", " : "", r->spans[k].onset,
                      r->spans[k].duration);
    output_printf(job->out, "],\n  \"signals\": [");
    write_json_signals(job);
    output_printf(job->out, "\n  ]\n}\n");
}

static void write_annotations(info_job *job) {
    const recording *r = job->source.rec;
    output_printf(job->out, "onset\tduration\ttext\n");
    for (int64_t i = 0; i < r->n_events; i++) {
        const rec_event *e = &r->events[i];
        if (e->duration < 0)
            output_printf(job->out, "%.3f\tn/a\t", e->onset);
        else
            output_printf(job->out, "%.3f\t%.3f\t", e->onset, e->duration);
        write_cell(job->out, e->text);
        output_printf(job->out, "\n");
    }
}

static int measure(info_job *job) {
    const recording *r = job->source.rec;
    char error[REC_ERROR_BYTES];
    job->quality = calloc((size_t)r->n_signals + 1, sizeof *job->quality);
    if (!job->quality) return complain("out of memory"), EXIT_FAILED;
    for (int32_t i = 0; i < r->n_signals; i++) {
        if (interrupted()) return EXIT_FAILED;
        if (eeg_quality_measure(job->source.rec, i, &job->quality[i], error))
            return complain("%s: %s", job->source.path, error), EXIT_FAILED;
    }
    return 0;
}

static int inform(info_job *job, const options *settings) {
    int rc = settings->annotations ? 0 : measure(job);
    if (rc) return rc;
    job->out = output_open(settings->output);
    if (!job->out) return EXIT_FAILED;
    if (settings->annotations)
        write_annotations(job);
    else if (settings->info_format == INFO_TSV)
        write_tsv(job);
    else if (settings->info_format == INFO_JSON)
        write_json(job);
    else
        write_text(job);
    return output_close(job->out, 1) ? EXIT_FAILED : EXIT_DONE;
}

int run_eeg_info(const options *settings) {
    info_job job = {0};
    int rc = eeg_source_open(&job.source, settings, settings->args[0], 0);
    if (!rc) rc = inform(&job, settings);
    eeg_source_close(&job.source);
    free(job.quality);
    return rc;
}

/* eeg_report.h - what a report is made of, and the document: one HTML file with its figures inside, nothing from a network,
 * readable in light and dark and on paper.
 */
#ifndef STRAND_APP_EEG_REPORT_H
#define STRAND_APP_EEG_REPORT_H

#include "eeg_events.h"
#include "eeg_quality.h"

enum { REPORT_NODES = 64, REPORT_STAGES = 5 };

/* A value for each of some stretches of time. */
typedef struct eeg_series {
    double *at, *value; /* seconds */
    int64_t n;
    double width; /* seconds that a value stands for */
} eeg_series;

typedef struct eeg_report {
    const options *settings;
    const char *kind; /* "detection", "prediction", "sleep stages" */
    eeg_series probability, error, stage;
    eeg_series stage_probability[REPORT_STAGES];
    eeg_event_list events;
    double node_sum[REPORT_NODES]; /* a channel's mean error or probability */
    int64_t node_n;
    double graph[REPORT_NODES * REPORT_NODES]; /* sum of the learned or given graph's weights */
    int64_t graph_n;
    const char *head, *kinds; /* text about the detection head and about what names types, or NULL */
} eeg_report;

void eeg_report_open(eeg_report *r, const options *settings, const char *kind);
void eeg_report_close(eeg_report *r);
/* These return 0, or -1 after a message. */
int eeg_report_error(eeg_report *r, double onset, double duration, double error, const double *channels);
int eeg_report_probability(eeg_report *r, double at, double probability, const double *channels);
int eeg_report_stage(eeg_report *r, double at, int stage, const double probabilities[REPORT_STAGES]);
int eeg_report_graph(eeg_report *r, const float *adjacency);
/* Writes --report. 0 or an exit code, after a message. */
int eeg_report_write(eeg_report *r, eeg_source *s, const runtime *rt);

/* ---- eeg_figures.c, eeg_scalp.c ---- */
/* Begins a figure of 1000 units' width. */
void svg_begin(output *out, double height, const char *title);
void figure_timeline(output *out, const eeg_report *r, const eeg_series *series, const char *label, double end, double top,
                     double threshold);
void figure_hypnogram(output *out, const eeg_report *r, double end);
void figure_stage_probabilities(output *out, const eeg_report *r, double end);
/* All channels from .. to, inside the span that holds second `at`. 0, or -1 after a message. */
int figure_traces(output *out, const eeg_report *r, eeg_source *s, double at, double from, double to);
int figure_spectrogram(output *out, const eeg_report *r, eeg_source *s);
int figure_scalp(output *out, const eeg_report *r, const eeg_source *s, const char *label);

/* ---- png.c: a picture as text for an href ---- */
/* `rgba`: 4 bytes a pixel, row by row from the top. 0, or -1 after a message. */
int png_write_base64(output *out, const uint8_t *rgba, int32_t width, int32_t height);
/* A colour of 0 (dark) to 1 (bright). */
void colour_of(double value, uint8_t rgb[3]);

#endif

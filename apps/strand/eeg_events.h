/* eeg_events.h - from a probability a second to events, and events as files: SzCORE/BIDS tables, JSON Lines, EDF+ annotations.
 */
#ifndef STRAND_APP_EEG_EVENTS_H
#define STRAND_APP_EEG_EVENTS_H

#include "eeg_source.h"
#include "output.h"

enum { EVENT_CHANNELS = 64, EVENT_KINDS = 16 };

typedef struct eeg_event {
    double onset, duration; /* seconds */
    char type[48];          /* "sz" ... as HED-SCORE has it, "bckg" */
    double confidence;      /* 0 to 1, NaN: none */
    char channels[256];     /* "FP1,F7", or "n/a" */
} eeg_event;

typedef struct eeg_event_list {
    eeg_event *items;
    int64_t n;
} eeg_event_list;

/* 0, or -1 after a message. */
int eeg_events_add(eeg_event_list *list, const eeg_event *event);
void eeg_events_free(eeg_event_list *list);

/* Takes a probability for each second, in order, and gives events out as soon as nothing can be merged to them any more: runs
 * of at least `threshold`, joined where less than `gap` seconds lie between them, dropped when they are shorter than `least`.
 * The confidence is the largest probability of the event; its channels are those whose own mean is at least the threshold.
 * Its type is "sz", or the likeliest of the kinds by their mean over the event; with `split` an event ends where the
 * likeliest kind changes. */
typedef struct eeg_event_maker {
    double threshold, gap, least;
    int32_t n_kinds, split;
    char kinds[EVENT_KINDS][48];
    int32_t n_channels;
    const channel_source *channels; /* for their names; NULL: "n/a" */
    int (*give)(void *user, const eeg_event *event);
    void *user;
    int open;
    double from, to, peak;
    double sums[EVENT_CHANNELS], kind_sums[EVENT_KINDS];
    int64_t seconds;
    int32_t kind; /* of the last second */
} eeg_event_maker;

/* `channels`: a probability a channel, or NULL; `kinds`: one a kind, or NULL. 0, or what `give` returned. */
int eeg_events_second(eeg_event_maker *m, double at, double probability, const double *channels, const double *kinds);
/* The place of the largest. */
int32_t eeg_events_likeliest(const double *kinds, int32_t n);
/* A gap, or the end. */
int eeg_events_break(eeg_event_maker *m);

/* ---- writers ---- */
/* "YYYY-MM-DD HH:MM:SS"; 1925-01-01 00:00:00, which BIDS has for dates that are left out, when unknown or under --no-date. */
void eeg_start_text(const eeg_source *s, char text[24]);
void eeg_events_tsv_header(output *out);
void eeg_events_tsv_row(output *out, const eeg_source *s, const eeg_event *e, double duration);
void eeg_events_json_row(output *out, const eeg_event *e);
/* The row that says that nothing was found. */
void eeg_events_background(eeg_event *e, double duration);
/* An EDF+ file with the channels as the model saw them and the events as annotations. 0, or -1 after a message. */
int eeg_events_edf(const char *path, eeg_source *s, const eeg_event_list *events);

/* Reads a table of events: the columns onset, duration and eventType are found by name. Sets *duration to recordingDuration
 * where the table has it. 0, or -1 after a message. */
int eeg_events_read(const char *path, eeg_event_list *list, double *duration);

#endif

/* recording.h - a recording of several signals over time, whatever its file format: EDF, EDF+, BDF, BDF+, MAT v5, BrainVision.
 *
 * A recording is a list of signals, each with its own rate, over a list of spans. A span is a stretch without a gap: one for
 * most files, several for EDF+D, BDF+D and BrainVision files with several segments. Samples are read in physical units, by
 * signal and span, any number at any place; the readers keep a few MiB whatever the length of the file (MAT arrays are held
 * whole).
 *
 * Identity of patient and recording is skipped where headers are read: no field of these structs can hold it.
 * The functions print nothing: a failure is one line in the caller's `error`, without the file's name.
 */
#ifndef STRAND_APP_RECORDING_H
#define STRAND_APP_RECORDING_H

#include "random_bytes.h"

#include <stddef.h>
#include <stdint.h>

enum { REC_ERROR_BYTES = 320, REC_NOTES = 16 };

typedef struct rec_signal {
    char label[96]; /* UTF-8, printable, trimmed */
    char unit[32];
    char filter[96]; /* prefilter text of the header */
    double rate;     /* samples a second */
    double physical_min, physical_max;
    double digital_min, digital_max;
    double gain, offset; /* physical = gain * stored + offset */
    int32_t unscaled;    /* the file gives no usable scale: values are as stored */
    int64_t per_record;  /* EDF, BDF: samples in a data record */
} rec_signal;

typedef struct rec_span {
    double onset;    /* seconds after the start of the recording */
    double duration; /* seconds */
    int64_t first;   /* EDF, BDF: its first data record; others: its first sample */
    int64_t count;   /* data records; samples */
} rec_span;

/* An annotation of the file. `text` belongs to the recording. It is free text, which people sometimes fill with names. */
typedef struct rec_event {
    double onset, duration; /* duration < 0: none given */
    char *text;
} rec_event;

typedef struct rec_options {
    double rate;          /* MAT: Hz when the file does not say; 0: unknown */
    const char *variable; /* MAT: the array's name; NULL: the largest one */
    const char *labels;   /* MAT: names of the rows, ',' between them; NULL: those of the file, else numbers */
    uint64_t memory;      /* MAT: most bytes that arrays may take; 0: 1 GiB */
} rec_options;

typedef struct recording recording;
struct recording {
    const char *format; /* "EDF+C" ... */
    rec_signal *signals;
    int32_t n_signals;
    rec_span *spans;
    int64_t n_spans;
    rec_event *events;
    int64_t n_events;
    double duration;            /* seconds of samples, gaps not counted */
    double end;                 /* seconds from start to the end of the last span */
    int has_start;              /* date and time of the first sample, local to the recorder */
    int start[6];               /* year, month, day, hour, minute, second */
    char notes[REC_NOTES][200]; /* what was odd and how it was read; no names, no identity */
    int32_t n_notes;
    int32_t n_skipped; /* signals of the file that are not samples (annotations) */

    random_bytes in;
    void *state; /* the format's own */
    int (*read)(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error);
    int (*refresh)(recording *r, char *error); /* the file has grown: more spans or longer ones; NULL: cannot grow */
    void (*release)(recording *r);
};

/* Opens `path`, whose format its first bytes tell. NULL with a line in `error` (REC_ERROR_BYTES). */
recording *recording_open(const char *path, const rec_options *options, char *error);
/* The same from memory, which must stay (BrainVision needs files and is refused). */
recording *recording_open_memory(const void *data, size_t size, const rec_options *options, char *error);
void recording_close(recording *r);

/* Samples of a signal in a span. */
int64_t recording_samples(const recording *r, int32_t signal, int64_t span);
/* `n` samples from `from` on, all inside the span, in physical units. 0, or -1 with a line in `error`. */
int recording_read(recording *r, int32_t signal, int64_t span, int64_t from, int64_t n, double *to, char *error);
/* Looks whether the file has grown. 1: it has; 0: not; -1 with a line in `error`. */
int recording_refresh(recording *r, char *error);

/* ---- for the readers ---- */
#if defined(__GNUC__)
#define REC_PRINTF __attribute__((format(printf, 2, 3)))
#else
#define REC_PRINTF
#endif
int rec_fail(char *error, const char *format, ...) REC_PRINTF; /* -1 */
void rec_note(recording *r, const char *format, ...) REC_PRINTF;
/* Header text to UTF-8: what is not UTF-8 is read as Latin-1, controls become '?', blanks at both ends go. */
void rec_text(const void *bytes, size_t n, char *to, size_t size);
/* Adds an annotation; texts and counts are bounded. 0, or -1 when memory is short. */
int rec_add_event(recording *r, double onset, double duration, const char *text, size_t n);
int rec_add_span(recording *r, double onset, double duration, int64_t first, int64_t count);
/* Sets duration and end by the spans. */
void rec_measure(recording *r);
int edf_open(recording *r, char *error);
int mat_open(recording *r, const rec_options *options, char *error);
int brainvision_open(recording *r, const char *path, char *error);

#endif

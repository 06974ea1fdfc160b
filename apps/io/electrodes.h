/* electrodes.h - what a channel label says, and which signals of a recording make the channels that a model wants.
 */
#ifndef STRAND_APP_ELECTRODES_H
#define STRAND_APP_ELECTRODES_H

#include "recording.h"

enum { ELECTRODE_BYTES = 24, MAP_ERROR_BYTES = 400 };

/* "EEG FP1-REF" -> name "FP1", reference "REF". Names are upper case, without blanks and dots, in the modern form of the 10-20
 * system: T3, T4, T5, T6 become T7, T8, P7, P8 (not T9 and T10), A1 and A2 become M1 and M2, and 01 (a zero) O1. Labels that
 * name no electrode keep their own text as name: "EMG", "ECG", "EOG1" and their usual spellings are made one. Returns 1 when
 * name is an electrode. */
int electrode_parse(const char *label, char name[ELECTRODE_BYTES], char reference[ELECTRODE_BYTES]);
/* The 19 electrodes of the 10-20 system in the order of the TUH corpus, with the old names: FP1 FP2 F3 ... PZ. */
extern const char *const electrodes_tuh[19];
/* The 18 derivations of the longitudinal bipolar montage ("double banana"). */
extern const char *const electrodes_bipolar[18];
/* Place on a head seen from above, nose up, in a circle of radius 1 around (0, 0); 0 when unknown. */
int electrode_place(const char *name, double *x, double *y);

typedef struct channel_source {
    char name[ELECTRODE_BYTES]; /* as the model calls it */
    int32_t plus, minus;        /* signals; minus -1: none; plus -1: zeros */
    double scale;               /* to microvolts */
    int32_t by_map;             /* --map named the signal */
} channel_source;

typedef struct channel_map {
    channel_source *channels;
    int32_t n;
    char common[ELECTRODE_BYTES]; /* reference that the electrodes share, "" when the labels name none */
} channel_map;

typedef struct map_options {
    const char *file; /* --map: lines "CHANNEL<tab>label" or "CHANNEL<tab>#number"; NULL: none */
    int zero_missing; /* zeros for what is not there */
} map_options;

/* Finds `n` channels ("FP1", a derivation "C3-M2", "EMG") in the recording. 0, or -1 with a line in `error` (MAP_ERROR_BYTES).
 */
int channel_map_open(channel_map *map, const recording *r, const char *const *wanted, int32_t n, const map_options *options,
                     char *error);
/* All signals as they are, electrodes by their names. */
int channel_map_all(channel_map *map, const recording *r, char *error);
void channel_map_close(channel_map *map);
/* "EEG FP1-REF", "C3-REF minus M2-REF", "missing: zeros". */
void channel_map_text(const channel_map *map, const recording *r, int32_t channel, char *text, size_t size);
/* Factor from a unit to microvolts; 0 when the unit is no voltage. */
double unit_microvolts(const char *unit);

#endif

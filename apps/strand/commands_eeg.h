/* commands_eeg.h - the rows of the eeg commands for the table in commands.c, which this file belongs to: options and manual
 * text.
 */
#ifndef STRAND_APP_COMMANDS_EEG_H
#define STRAND_APP_COMMANDS_EEG_H

#include "commands.h"

extern const option_row common_rows[];
extern const option_row eeg_info_rows[], eeg_recording_rows[], eeg_predict_rows[], eeg_detect_rows[], eeg_stage_rows[],
    eeg_features_rows[], eeg_embed_rows[], eeg_score_rows[];
extern const char eeg_info_text[], eeg_predict_text[], eeg_detect_text[], eeg_stage_text[], eeg_features_text[],
    eeg_embed_text[], eeg_score_text[];
void eeg_detect_defaults(options *settings);
void eeg_stage_defaults(options *settings);
void eeg_score_defaults(options *settings);

#define EEG_COMMANDS                                                                                                           \
    {"eeg info", "FILE", "header, channels, gaps and signal quality of a recording", eeg_info_text, {eeg_info_rows}, 1, 1,     \
     NULL, run_eeg_info},                                                                                                      \
    {"eeg predict", "FILE -m MODEL", "the next seconds of an EEG, and how far off they were", eeg_predict_text,                \
     {eeg_predict_rows, eeg_recording_rows, common_rows}, 1, 1, NULL, run_eeg_predict},                                        \
    {"eeg detect", "FILE -m MODEL", "find seizure-like events", eeg_detect_text,                                               \
     {eeg_detect_rows, eeg_recording_rows, common_rows}, 1, 1, eeg_detect_defaults, run_eeg_detect},                           \
    {"eeg stage", "FILE -m MODEL", "sleep stages", eeg_stage_text, {eeg_stage_rows, eeg_recording_rows, common_rows}, 1, 1,    \
     eeg_stage_defaults, run_eeg_stage},                                                                                       \
    {"eeg features", "FILE", "log amplitudes or band powers of each second", eeg_features_text,                                \
     {eeg_features_rows, eeg_recording_rows}, 1, 1, NULL, run_eeg_features},                                                   \
    {"eeg embed", "FILE -m MODEL", "vectors of windows from an encoder", eeg_embed_text,                                       \
     {eeg_embed_rows, eeg_recording_rows, common_rows}, 1, 1, NULL, run_eeg_embed},                                            \
    {"eeg score", "REFERENCE.tsv FOUND.tsv", "compare events with a reference", eeg_score_text, {eeg_score_rows}, 2, 2,        \
     eeg_score_defaults, run_eeg_score},

#endif

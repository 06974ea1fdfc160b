/* commands_eeg.c - options and manual text of the eeg commands. See commands.c.
 */
#include "commands_eeg.h"

#define AT(field) offsetof(options, field)
#define ROWS_END                                                                                                               \
    { 0, NULL, OPTION_FLAG, NULL, 0, 0, NULL }

#define OUTPUT_ROW                                                                                                             \
    {                                                                                                                          \
        'o', "output", OPTION_FILE, "FILE", AT(output), 0,                                                                     \
            "Write to FILE, which appears when it is complete; the default '-' is the standard output."                        \
    }
#define NO_VERSION_ROW                                                                                                         \
    {                                                                                                                          \
        0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0,                                                                 \
            "Leave versions and hashes out of the output, so that a re-run gives the same bytes."                              \
    }
#define REPORT_ROW                                                                                                             \
    {                                                                                                                          \
        0, "report", OPTION_FILE, "FILE.html", AT(report), 0,                                                                  \
            "Write a page for people too: one file with its figures inside, which needs no network."                           \
    }
#define FOLLOW_ROWS                                                                                                            \
    {0,                                                                                                                        \
     "follow",                                                                                                                 \
     OPTION_FLAG,                                                                                                              \
     NULL,                                                                                                                     \
     AT(follow),                                                                                                               \
     0,                                                                                                                        \
     "Go on as the recording grows: a file is looked at four times a second, as tail -f does; '-' reads frames from the "      \
     "standard input, one 32-bit little-endian float a channel in microvolts, and needs --channels and --rate. Resampling is " \
     "polyphase. Rows are on the standard output as soon as they are known (see above for when that is), a FILE of --output "  \
     "appears at the end; memory stays what it was at the start."},                                                            \
    {                                                                                                                          \
        0, "idle", OPTION_REAL, "SECONDS", AT(idle), 0,                                                                        \
            "With --follow: end after so many seconds without new samples; default 0: never."                                  \
    }
#define CLIP_ROWS                                                                                                              \
    {                                                                                                                          \
        'c',                                                                                                                   \
        "clip",                                                                                                                \
        OPTION_INT,                                                                                                            \
        "SECONDS",                                                                                                             \
        AT(clip),                                                                                                              \
        2,                                                                                                                     \
        "Seconds that the model sees at once; default: what it was trained on."},                                              \
    {                                                                                                                          \
        0, "step", OPTION_INT, "SECONDS", AT(step), 1, "Seconds from one window to the next."                                  \
    }
#define BATCH_ROW                                                                                                              \
    {                                                                                                                          \
        0, "batch", OPTION_INT, "N", AT(batch), 0,                                                                             \
            "Windows that run together, at most 8; 0, the default, chooses. Results do not depend on it."                      \
    }
#define DATE_ROW                                                                                                               \
    {                                                                                                                          \
        0, "no-date", OPTION_FLAG, NULL, AT(no_date), 0,                                                                       \
            "Write 1925-01-01 00:00:00, the date that BIDS has for withheld ones, instead of the recording's."                 \
    }

#define ARRAY_ROWS                                                                                                             \
    {0, "rate", OPTION_REAL, "HZ", AT(rate), 0, "Sampling rate of a MAT array or a stream, which do not tell theirs."},        \
        {0, "variable", OPTION_TEXT, "NAME", AT(variable), 0, "The array of a MAT file to read; default: the largest one."}, { \
        0, "channels", OPTION_TEXT, "A,B,C", AT(channels), 0,                                                                  \
            "Names of the channels of a MAT array or a stream, in its order; 'iiic-sparcnet' stands for those of that "        \
            "collection's clips."                                                                                              \
    }

const option_row eeg_info_rows[] = {
    OUTPUT_ROW,
    {'f', "format", OPTION_CHOICE, "text|tsv|json", AT(info_format), 0,
     "text, the default, is for people; tsv: a row a signal."},
    {0, "annotations", OPTION_FLAG, NULL, AT(annotations), 0,
     "Write the recording's own annotations as a table instead. They are free text: people may have written names there."},
    ARRAY_ROWS,
    {0, "memory", OPTION_SIZE, "SIZE", AT(memory), 0, "Most that a MAT array may take; default 1G."},
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

const option_row eeg_recording_rows[] = {{0, "map", OPTION_FILE, "FILE", AT(map_file), 0,
                                          "Which signal stands for which channel, where labels do not tell: lines CHANNEL, a "
                                          "tab, and the signal's label or #NUMBER."},
                                         {0, "missing", OPTION_CHOICE, "refuse|zero", AT(missing_channel), 0,
                                          "A channel that is not there: refuse the recording (default), or take zeros."},
                                         {0, "montage", OPTION_CHOICE, "as-is|average|bipolar", AT(montage), 0,
                                          "as-is, the default, takes the recording's reference; average takes the mean of the "
                                          "channels off each; bipolar (features only) is the "
                                          "longitudinal montage."},
                                         {0, "resample", OPTION_CHOICE, "fft|polyphase", AT(resample), 0,
                                          "fft, the default: the Fourier method over each whole stretch, as published "
                                          "pipelines do it (scipy.signal.resample); it holds one "
                                          "channel at a time. polyphase: a filter that goes along in constant memory."},
                                         ARRAY_ROWS,
                                         ROWS_END};

const option_row eeg_predict_rows[] = {OUTPUT_ROW,
                                       {'f', "format", OPTION_CHOICE, "tsv|jsonl", AT(eeg_format), 0,
                                        "tsv, the default: a row a window; jsonl: an object a line."},
                                       {0, "predictions", OPTION_FILE, "FILE", AT(predictions), 0,
                                        "Write the predicted log amplitudes too: [windows, seconds, channels, bins], "
                                        "safetensors. The last window is the recording's last "
                                        "seconds; what it predicts lies ahead, and its row has no errors."},
                                       CLIP_ROWS,
                                       REPORT_ROW,
                                       FOLLOW_ROWS,
                                       BATCH_ROW,
                                       NO_VERSION_ROW,
                                       ROWS_END};

const option_row eeg_detect_rows[] = {
    OUTPUT_ROW,
    {'f', "format", OPTION_CHOICE, "tsv|jsonl", AT(eeg_format), 0,
     "tsv, the default: the table of SzCORE and BIDS; jsonl: an object a line."},
    {0, "head", OPTION_FILE, "HEAD", AT(head), 0,
     "Detection head for an encoder that has none: a safetensors file; default: the built-in eeg-seizure-head, made for "
     "pretrained_distance_graph_12s. Not used with checkpoints that have a head of their own."},
    {0, "kinds", OPTION_FILE, "MODEL", AT(kinds), 0,
     "A DCRNN classifier of several classes, which names the type of each event: the likeliest by the mean over the event."},
    {0, "types", OPTION_TEXT, "A,B,...", AT(types), 0,
     "eventType of each class of a classifier; default for four: sz_foc,sz_gen,sz_gen_nm,sz_gen_m, the order of the published "
     "code (focal, generalised, absence, tonic). 'bckg' stands for a class that is no event."},
    {0, "statistics", OPTION_FILE, "FILE", AT(statistics), 0,
     "For models that take signals (GraphS4mer): lines CHANNEL MEAN DEVIATION of the training set; default: those of the "
     "recording."},
    {'t', "threshold", OPTION_REAL, "P", AT(threshold), 0,
     "Probability from which a second counts; default: the head's own, else 0.5; 0 where -m is a classifier of several "
     "classes."},
    {0, "min-duration", OPTION_REAL, "SECONDS", AT(min_duration), 0, "Shorter events are dropped; default 10."},
    {0, "merge-gap", OPTION_REAL, "SECONDS", AT(merge_gap), 0,
     "Events with less than this between them become one; default 10."},
    CLIP_ROWS,
    {0, "edf", OPTION_FILE, "FILE.edf", AT(edf_annotations), 0,
     "Write an EDF+ file too: the channels as the model saw them, with the events as annotations."},
    {0, "windows", OPTION_FILE, "FILE.tsv", AT(windows_file), 0, "Write the probability of every second too."},
    REPORT_ROW,
    FOLLOW_ROWS,
    DATE_ROW,
    BATCH_ROW,
    ROWS_END};

const option_row eeg_stage_rows[] = {
    OUTPUT_ROW,
    {'f', "format", OPTION_CHOICE, "tsv|jsonl", AT(eeg_format), 0,
     "tsv, the default: a row an epoch; jsonl: an object a line."},
    {0, "edf", OPTION_FILE, "FILE.edf", AT(edf_annotations), 0,
     "Write an EDF+ file too: the channels as the model saw them, with the stages as annotations."},
    {0, "wait", OPTION_INT, "EPOCHS", AT(stage_wait), 0,
     "Epochs that must have come after one before its stage is settled, 0 to 20. 20, the default, takes all windows that hold "
     "it, as the published evaluation does; fewer windows settle it sooner."},
    REPORT_ROW,
    FOLLOW_ROWS,
    NO_VERSION_ROW,
    DATE_ROW,
    ROWS_END};

const option_row eeg_features_rows[] = {
    OUTPUT_ROW,
    {'k', "kind", OPTION_CHOICE, "logfft|bands", AT(features_kind), 0,
     "logfft, the default: ln|X| of the 100 bins from 0 to 99 Hz of each second at 200 Hz; bands: power in delta, theta, "
     "alpha, beta and "
     "gamma, microvolts squared."},
    {'f', "format", OPTION_CHOICE, "auto|npy|tsv|safetensors", AT(format), 0,
     "auto, the default, goes by the name of the output: .npy, .safetensors, anything else is tsv."},
    {0, "memory", OPTION_SIZE, "SIZE", AT(memory), 0,
     "Memory that resampling by the Fourier method may take; it says so when that is too little."},
    FOLLOW_ROWS,
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No progress and no remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

const option_row eeg_embed_rows[] = {
    OUTPUT_ROW,
    {'f', "format", OPTION_CHOICE, "auto|npy|tsv|safetensors", AT(format), 0,
     "auto, the default, goes by the name of the output: .npy, .safetensors, anything else is tsv."},
    {0, "per-node", OPTION_FLAG, NULL, AT(per_node), 0,
     "A vector for every channel of a window, one after the other, instead of their mean."},
    CLIP_ROWS,
    FOLLOW_ROWS,
    BATCH_ROW,
    NO_VERSION_ROW,
    ROWS_END};

const option_row eeg_score_rows[] = {
    OUTPUT_ROW,
    {'f', "format", OPTION_CHOICE, "tsv|json", AT(score_format), 0, "tsv, the default, or json."},
    {0, "duration", OPTION_REAL, "SECONDS", AT(rate), 0, "Length of the recording; default: recordingDuration of the tables."},
    {0, "tolerance-start", OPTION_REAL, "SECONDS", AT(tolerance_start), 0,
     "Time before a reference event that still counts; default 30."},
    {0, "tolerance-end", OPTION_REAL, "SECONDS", AT(tolerance_end), 0, "Time after it; default 60."},
    {0, "min-overlap", OPTION_REAL, "SHARE", AT(min_overlap), 0,
     "Share of a reference event that must be found; default 0: any."},
    {0, "max-event", OPTION_REAL, "SECONDS", AT(max_event), 1, "Longer events are cut; default 300."},
    {0, "min-between", OPTION_REAL, "SECONDS", AT(min_between), 0, "Events closer than this are joined; default 90."},
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

void eeg_detect_defaults(options *settings) {
    settings->threshold = -1;
    settings->min_duration = 10;
    settings->merge_gap = 10;
}

void eeg_stage_defaults(options *settings) {
    settings->stage_wait = 20;
}

void eeg_score_defaults(options *settings) {
    settings->tolerance_start = 30;
    settings->tolerance_end = 60;
    settings->max_event = 300;
    settings->min_between = 90;
}

#define FILES_TEXT                                                                                                             \
    "Reads EDF, EDF+ (with gaps too), BDF, BDF+, MATLAB MAT v5 and BrainVision (.vhdr). Channels are found by their labels: "  \
    "'EEG FP1-REF', "                                                                                                          \
    "'Fp1-LE', 'Fp1' are one electrode, T3 is T7, T4 T8, T5 P7, T6 P8. What stands for what is said on stderr; a channel "     \
    "that is missing or "                                                                                                      \
    "there twice is refused (--map, --missing). The header's fields about patient and recording are never read.\n\n"
#define RESEARCH_TEXT "For research. Not a medical device.\n\n"

const char eeg_info_text[] = "Reads EDF, EDF+ (with gaps too), BDF, BDF+, MATLAB MAT v5 and BrainVision (.vhdr) and shows what "
                             "is in it: signals with the electrode "
                             "that each label means, spans without a gap, and for each signal the shares that are flat or "
                             "clipped and whether there is mains hum.\n\n"
                             "Files are read as they are: an unknown number of records, a truncated end, Latin-1 headers, "
                             "inverted or empty ranges are named in "
                             "notes. The header's fields about patient and recording are skipped and can reach no output.\n\n";
const char eeg_predict_text[] = "Predicts the log amplitudes (natural logarithm of the spectrum of each second, 0 to 99 Hz) of "
                                "the seconds after each window by a DCRNN "
                                "encoder-decoder, and compares them with what came: mean absolute error, beside those of the "
                                "mean of the past and of a copy of it. "
                                "The error over time shows where a recording is unlike what the model expects. Windows begin "
                                "every 12 s and never reach over a gap.\n\n"
                                "With --follow a window's row comes when the last second that it predicted is "
                                "there.\n\n" FILES_TEXT RESEARCH_TEXT;
const char eeg_detect_text[] =
    "Gives each second that a window covers a probability of seizure activity (the mean of those windows), and makes events of "
    "the seconds that reach the threshold. The table has the columns onset, duration, eventType, confidence, channels, "
    "dateTime, recordingDuration of SzCORE and BIDS, and one row 'bckg' when nothing was found. --edf writes the events over "
    "the traces for EDFbrowser.\n\n"
    "The model is a DCRNN or GraphS4mer checkpoint with a head of one class, or the published pretrained predictor, whose "
    "encoder then gets the small head that comes with Strand (docs/eeg.md has its figures). A DCRNN classifier of several "
    "classes tells kinds of seizures apart: with --kinds it names the events of another model; as -m alone it takes every "
    "second for a seizure, and an event ends where the likeliest kind changes.\n\n"
    "With --follow a second is settled when no later window can cover it: at most the length of a window after it (12 s by "
    "default); an event comes when it is over and --merge-gap has passed, --windows has every second. DCRNN with the graph of "
    "distances goes second by second and keeps the state of each open window, other models run a window every --step "
    "seconds.\n\n" FILES_TEXT RESEARCH_TEXT;
const char eeg_stage_text[] = "Gives each epoch of 30 s a sleep stage (W, N1, N2, N3, REM) with probabilities, by "
                              "SimpleSleepNet. Its 16 channels are derivations "
                              "such as C3-M2: a signal labelled so, or the difference of two signals. The signals are filtered "
                              "and brought to 100 Hz as in the "
                              "published pipeline.\n\n"
                              "With --follow an epoch's stage comes --wait epochs of 30 s after its end (default 20: 10 "
                              "minutes); the first ones not before 11 epochs are there.\n\n" FILES_TEXT RESEARCH_TEXT;
const char eeg_features_text[] =
    "Writes features of every second: log amplitudes as DCRNN takes them (before they are standardised), or band powers. A row "
    "of the table "
    "is a second of a channel; npy and safetensors hold [seconds, channels, values]. With --follow a second's rows come when "
    "its last sample is there.\n\n" FILES_TEXT;
const char eeg_embed_text[] = "Writes what the encoder of a DCRNN checkpoint remembers at the end of each window: the last "
                              "layer's state, the mean over the channels or "
                              "with --per-node each channel's. With --follow the encoder goes second by second (DCRNN with the "
                              "graph of distances), and a window's vector comes when its last sample is there.\n\n" FILES_TEXT;
const char eeg_score_text[] = "Compares two tables of events as SzCORE does, by events and by seconds: sensitivity, precision, "
                              "F1 and false alarms in 24 hours. "
                              "Types that begin with sz count. n/a stands where there is nothing to divide by.\n\n";

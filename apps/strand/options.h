/* options.h - what the command line can say, in one table a command.
 *
 * A command is a row that points at groups of option rows. The same rows drive the parser (options.c), `--help`, the man page
 * and the shell completions (help.c), so that none of them can promise what another does not know. Values land in one plain
 * struct, `options`, by offset. Strings are borrowed from argv.
 */
#ifndef STRAND_APP_OPTIONS_H
#define STRAND_APP_OPTIONS_H

#include "say.h"
#include "shard.h"
#include "text_list.h"

#include <stddef.h>
#include <stdint.h>

enum { FORMAT_SUMMARY, FORMAT_TSV, FORMAT_BEDGRAPH };                             /* dna score -f */
enum { EMBED_AUTO, EMBED_NPY, EMBED_TSV, EMBED_SAFETENSORS };                     /* dna embed -f */
enum { POOL_MEAN, POOL_LAST, POOL_NONE };                                         /* dna embed --pool */
enum { RC_NONE, RC_MEAN };                                                        /* --rc */
enum { MASK_UPPER, MASK_N, MASK_KEEP };                                           /* --soft-mask */
enum { SOFTMAX_ACGT, SOFTMAX_ALL };                                               /* --softmax */
enum { SCALE_MODEL, SCALE_SERIES, SCALE_NONE };                                   /* forecast --scale */
enum { FORECAST_AUTO, FORECAST_CSV, FORECAST_TSV, FORECAST_JSONL, FORECAST_NPY }; /* forecast -f */
enum { SPLIT_NONE, SPLIT_VALIDATION, SPLIT_TEST };                                /* forecast --split */
enum { INFO_TEXT, INFO_TSV, INFO_JSON };                                         /* eeg info -f */
enum { CHANNEL_REFUSE, CHANNEL_ZERO };                                            /* --missing */
enum { MONTAGE_AS_IS, MONTAGE_AVERAGE, MONTAGE_BIPOLAR };                         /* --montage */
enum { RESAMPLE_FOURIER, RESAMPLE_POLYPHASE };                                    /* --resample */
enum { EEG_TSV, EEG_JSONL };                                                      /* eeg detect, predict, stage -f */
enum { SCORE_TSV, SCORE_JSON };                                                   /* eeg score -f */
enum { TEXT_PLAIN, TEXT_JSONL };                                                  /* text generate -f */
enum { FEATURES_LOGFFT, FEATURES_BANDS };                                         /* eeg features --kind */

struct command;

typedef struct options {
    const struct command *command;
    char *line;        /* the whole command line, quoted for a shell; owned */
    const char **args; /* positional arguments; owned array */
    int n_args;

    /* all commands */
    int32_t help, quiet, no_version, no_mmap, mmap;
    const char *model, *backend, *config, *plugins;
    text_list settings;
    int64_t threads;
    uint64_t memory;

    /* dna commands */
    const char *output, *region_file;
    shard part; /* count 0: not given */
    text_list regions;
    int64_t window, overlap, batch;
    int32_t format, pool, rc, soft_mask, softmax;

    /* dna variants */
    const char *fasta, *stats;
    int32_t variant_format, allow_n;

    /* dna generate */
    const char *prompt, *prompt_file;
    int64_t count, top_k, seed;
    double temperature;
    int32_t only_new;

    /* run, plan, inspect, backends */
    const char *input, *outputs;
    int64_t length;
    int32_t tsv, devices, backends_format;

    /* forecast */
    const char *id_column, *time_column, *target, *frequency, *until, *levels, *plot, *unit;
    int64_t horizon, windows, window_step, cv_windows, step, season;
    int32_t missing, decimal, scale, split, forecast_format, any_frequency, follow, expanding;

    /* text */
    text_list prompts, stops;
    const char *state_save, *state_load, *store, *grammar, *json_schema, *system, *chat_template;
    uint64_t store_limit, cache, max_body;
    const char *host, *api_key;
    text_list origins, hosts;
    int64_t port, sessions, queue, time_limit, max_prompt;
    int64_t samples, repeat_last;
    double top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int32_t quant_type, text_format, lines, ignore_end, special, bounds, raw, token_rows;

    /* bench */
    const char *lengths, *thread_list, *pp, *tg, *depth;
    text_list backends;
    int64_t repeat;
    int32_t bench_format, profile;

    /* eeg */
    const char *map_file, *variable, *channels, *report, *edf_annotations, *jsonl, *predictions, *head, *windows_file,
        *statistics, *kinds, *types;
    int32_t info_format, annotations, missing_channel, montage, resample, no_date, eeg_format, score_format, features_kind,
        per_node;
    double rate, threshold, min_duration, merge_gap, idle, tolerance_start, tolerance_end, min_overlap, max_event, min_between;
    int64_t clip, stage_wait;
} options;

typedef enum option_kind {
    OPTION_FLAG,  /* int32_t, 1 when given */
    OPTION_TEXT,  /* const char * */
    OPTION_FILE,  /* const char *, completed as a path */
    OPTION_LIST,  /* text_list, may be given several times */
    OPTION_INT,   /* int64_t, at least `least` */
    OPTION_REAL,  /* double, at least `least` */
    OPTION_SHARD, /* shard */
    OPTION_SIZE,  /* uint64_t bytes with a unit */
    OPTION_CHOICE /* int32_t: the place of the word in `value`, words separated by '|' */
} option_kind;

typedef struct option_row {
    char letter; /* short form, 0: none */
    const char *name;
    option_kind kind;
    const char *value; /* what help calls the value; the words of a choice */
    size_t offset;     /* into options */
    int64_t least;
    const char *help; /* one sentence */
} option_row;

typedef struct command {
    const char *name;      /* "dna score" */
    const char *arguments; /* "[IN.fa]" */
    const char *summary;   /* one line */
    const char *text;      /* paragraphs, an empty line between them */
    const option_row *groups[4];
    int min_args, max_args;              /* max_args < 0: any number */
    void (*defaults)(options *settings); /* values other than 0; may be NULL */
    int (*run)(const options *settings);
} command;

/* All commands, ended by a NULL name. Groups of rows end with a NULL name too. */
extern const command command_table[];

/* Reads argv (after the command's own words) into `settings`. Returns 0, or EXIT_USAGE after one line on stderr. */
int options_parse(options *settings, const command *cmd, int argc, char **argv);
void options_free(options *settings);
/* The command line as one line of text, quoted where a shell would need it. NULL when memory is short. */
char *options_line(int argc, char **argv);
/* "1.5G" -> bytes. K, M, G, T are powers of 1024 (KiB ... too); KB, MB, GB, TB powers of 1000. Returns 0 when it is no size. */
int options_size(const char *text, uint64_t *bytes);

/* ---- help.c: everything that is generated from the table ---- */
int help_command(const command *cmd);
int help_overview(void);
/* What is "man", "bash", "zsh" or "fish". */
int help_generate(const char *what);

#endif

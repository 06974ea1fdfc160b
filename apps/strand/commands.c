/* commands.c - the table: every command, every option, every sentence of the manual that belongs to one of them.
 *
 * Parsing, help, man page and completions are generated from here; an option is added by adding a row.
 */
#include "commands.h"
#include "commands_eeg.h"
#include "commands_text.h"

#define AT(field) offsetof(options, field)
#define ROWS_END                                                                                                               \
    { 0, NULL, OPTION_FLAG, NULL, 0, 0, NULL }

const option_row common_rows[] = {
    {'m', "model", OPTION_FILE, "MODEL", AT(model), 0,
     "Weights: a file, a directory that holds them, or the name of a built-in model. Default: hyenadna-tiny-strand, of "
     "forecast spacetime-etth1-strand, of text mamba-bytes-strand."},
    {0, "config", OPTION_FILE, "FILE", AT(config), 0, "Take this config.json instead of the one beside the weights."},
    {0, "set", OPTION_LIST, "KEY=VALUE", AT(settings), 0,
     "Override one setting of the model, for example shift=0.0; may be given several times."},
    {0, "backend", OPTION_TEXT, "LIST", AT(backend), 0,
     "Backends in order of preference, ',' between them (see 'strand backends'); cpu is always last. vulkan:1 is a device by "
     "its index, vulkan:radeon the first whose name has that in it."},
    {0, "no-mmap", OPTION_FLAG, NULL, AT(no_mmap), 0,
     "Read the weights into memory in place of mapping their files: longer to open and not shared with other processes, faster "
     "to compute with where they are larger than the caches (large pages). Without --mmap and --no-mmap the commands that make "
     "texts choose (docs/text.md), the others map."},
    {0, "mmap", OPTION_FLAG, NULL, AT(mmap), 0, "Leave the files mapped in any case."},
    {'@', "threads", OPTION_INT, "N", AT(threads), 0,
     "Threads to compute with; 0, the default, takes as many as the process may use. Results do not depend on it."},
    {0, "memory", OPTION_SIZE, "SIZE", AT(memory), 0,
     "Memory that the computation may take besides the weights: 512M, 2G, 1.5GiB (powers of 1024) or 2GB (powers of 1000). "
     "Without it a plan that would take more than three quarters of the memory that is free is made to fit there."},
    {0, "plugins", OPTION_FILE, "PATH", AT(plugins), 0,
     "Look for backend plugins here first: directories or files, ':' between them."},
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No progress and no remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

static const option_row merge_rows[] = {
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0, "Where the joined file goes (required)."},
    {0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0, "Add nothing about this command to the joined file."},
    {0, "plugins", OPTION_FILE, "PATH", AT(plugins), 0, "As in the other commands."},
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

/* Sequences in: what score, embed and classify share. */
static const option_row sequence_rows[] = {
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0,
     "Write to FILE, which appears when it is complete; the default '-' is the standard output."},
    {'r', "region", OPTION_LIST, "REGION", AT(regions), 0,
     "Only this region of an indexed FASTA, read as samtools reads it: 1-based, both ends included; chr1:5 means from 5 to the "
     "end; {name}:1-9 for names with a colon. May be given several times."},
    {'R', "regions-file", OPTION_FILE, "FILE", AT(region_file), 0,
     "Regions from FILE: 0-based and half-open when its name ends in .bed or .bed.gz, otherwise a table CONTIG FROM TO, "
     "1-based, "
     "both ends included."},
    {0, "soft-mask", OPTION_CHOICE, "upper|n|keep", AT(soft_mask), 0,
     "Lower-case letters: upper reads them as upper-case, n as N, keep gives them to the model as they are (HyenaDNA: "
     "unknown)."},
    {0, "batch", OPTION_INT, "N", AT(batch), 0,
     "Windows of equal length that run together; 0, the default, chooses. Results do not depend on it."},
    {0, "shard", OPTION_SHARD, "I/N", AT(part), 0,
     "Only the I-th of N equal runs of records, 1/4 or 1-of-4. Of text output the first shard alone carries the header."},
    {0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0,
     "Leave versions, hashes and the command line out of the output, so that a re-run gives the same bytes."},
    ROWS_END};

#define WINDOW_ROW                                                                                                             \
    {                                                                                                                          \
        'w', "window", OPTION_INT, "N", AT(window), 1,                                                                         \
            "Longest piece that the model sees at once; default: what it was made for."                                        \
    }
#define OVERLAP_ROW                                                                                                            \
    { 0, "overlap", OPTION_INT, "N", AT(overlap), 0, "Bases that neighbouring windows share; default: half a window." }
#define RC_ROW                                                                                                                 \
    {                                                                                                                          \
        0, "rc", OPTION_CHOICE, "none|mean", AT(rc), 0,                                                                        \
            "mean: score the reverse complement too and take the mean of both strands."                                        \
    }
#define SOFTMAX_ROW                                                                                                            \
    {                                                                                                                          \
        0, "softmax", OPTION_CHOICE, "acgt|16", AT(softmax), 0,                                                                \
            "acgt: probabilities over A, C, G and T, other bases are not scored; 16: over all outputs of the model, as "       \
            "published, and "                                                                                                  \
            "every base is scored."                                                                                            \
    }

static const option_row score_rows[] = {{'f', "format", OPTION_CHOICE, "summary|tsv|bedgraph", AT(format), 0,
                                         "summary: a row a record; tsv: a row a base; bedgraph: a track of the scored bases."},
                                        RC_ROW,
                                        SOFTMAX_ROW,
                                        WINDOW_ROW,
                                        OVERLAP_ROW,
                                        ROWS_END};

static const option_row embed_rows[] = {
    {'f', "format", OPTION_CHOICE, "auto|npy|tsv|safetensors", AT(format), 0,
     "auto, the default, goes by the name of the output: .npy, .safetensors, anything else is tsv."},
    {'p', "pool", OPTION_CHOICE, "mean|last|none", AT(pool), 0,
     "One vector a record, the mean over its bases or the one of its last base; none: one a base."},
    WINDOW_ROW,
    OVERLAP_ROW,
    ROWS_END};

static const option_row classify_rows[] = {WINDOW_ROW, ROWS_END};

static const option_row variants_rows[] = {
    {'f', "fasta", OPTION_FILE, "FILE", AT(fasta), 0, "Reference sequence, plain or bgzip (required)."},
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0,
     "Write to FILE, which appears when it is complete; the default '-' is the standard output."},
    {'O', "output-type", OPTION_CHOICE, "auto|v|z|b|u", AT(variant_format), 0,
     "v VCF, z bgzip VCF, b BCF, u BCF without compression; auto, the default, goes by the name of the output, else v."},
    RC_ROW,
    SOFTMAX_ROW,
    WINDOW_ROW,
    {0, "allow-n", OPTION_FLAG, NULL, AT(allow_n), 0,
     "Score windows that hold bases other than A, C, G, T too, leaving those bases out of both sums."},
    {0, "stats", OPTION_FILE, "FILE", AT(stats), 0, "Write counts of records, alleles and reasons to FILE as JSON."},
    {0, "soft-mask", OPTION_CHOICE, "upper|n|keep", AT(soft_mask), 0,
     "Lower-case letters of the reference, as in 'strand dna score'."},
    {0, "batch", OPTION_INT, "N", AT(batch), 0,
     "Windows of equal length that run together; 0, the default, chooses. Results do not depend on it."},
    {0, "shard", OPTION_SHARD, "I/N", AT(part), 0,
     "Only the I-th of N equal runs of records, 1/4 or 1-of-4. Of -O v the first shard alone carries the header; z, b and u "
     "shards are joined by 'strand merge'."},
    {0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0, "Add no lines about this run to the header."},
    ROWS_END};

static const option_row generate_rows[] = {
    {'p', "prompt", OPTION_TEXT, "BASES", AT(prompt), 0, "Bases to go on from."},
    {'i', "prompt-file", OPTION_FILE, "FILE", AT(prompt_file), 0,
     "A FASTA file: go on from each of its records ('-': standard input)."},
    {'n', "bases", OPTION_INT, "N", AT(count), 1, "Bases to add; default 100."},
    {'t', "temperature", OPTION_REAL, "T", AT(temperature), 0,
     "0 takes the likeliest base each time; 1, the default, draws from the model's probabilities; between and above sharpens "
     "or flattens them."},
    {'k', "top-k", OPTION_INT, "K", AT(top_k), 1, "Draw from the K likeliest of A, C, G, T only; default 4."},
    {'s', "seed", OPTION_INT, "N", AT(seed), 0, "Start of the random numbers; default 0. The generator is the program's own."},
    {0, "only-new", OPTION_FLAG, NULL, AT(only_new), 0, "Write the added bases without the prompt."},
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0, "Write FASTA to FILE; the default '-' is the standard output."},
    WINDOW_ROW,
    {0, "soft-mask", OPTION_CHOICE, "upper|n|keep", AT(soft_mask), 0,
     "Lower-case letters of the prompt, as in 'strand dna score'."},
    {0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0, "Names only in the FASTA headers."},
    ROWS_END};

static const option_row forecast_rows[] = {
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0,
     "Write to FILE, which appears when it is complete; the default '-' is the standard output."},
    {'f', "format", OPTION_CHOICE, "auto|csv|tsv|jsonl|npy", AT(forecast_format), 0,
     "auto, the default, goes by the name of the output: .tsv, .jsonl, .npy, anything else is csv."},
    {'H', "horizon", OPTION_INT, "N", AT(horizon), 1,
     "Samples to forecast; default: as many as the model was trained for. It can roll out more, and says so."},
    {0, "id", OPTION_TEXT, "COLUMN", AT(id_column), 0,
     "Column that names the series; looked for: unique_id, item_id, series_id, id."},
    {0, "time", OPTION_TEXT, "COLUMN", AT(time_column), 0,
     "Column of times; looked for: ds, date, datetime, timestamp, time, t."},
    {'t', "target", OPTION_TEXT, "COLUMNS", AT(target), 0,
     "Columns of values, ',' between them. Default: those that the model was trained on, if the table has them; else y or "
     "value; else all that are left, each a series of its own."},
    {0, "freq", OPTION_TEXT, "FREQ", AT(frequency), 0,
     "Steps between samples: 15min, 1h, D, W, M, Q, Y, B (business days), or a number where times are counted; default: what "
     "most samples have."},
    {0, "any-frequency", OPTION_FLAG, NULL, AT(any_frequency), 0,
     "Forecast data of another frequency than the model was trained on too."},
    {0, "missing", OPTION_CHOICE, "error|ffill|linear|zero", AT(missing), 0,
     "Missing values and holes in time: error, the default, names the first; ffill repeats the value before, linear goes "
     "straight to the next one, zero takes 0."},
    {0, "decimal", OPTION_CHOICE, "auto|point|comma", AT(decimal), 0,
     "Decimal sign; auto, the default, reads a comma as one where semicolons separate the columns."},
    {0, "until", OPTION_TEXT, "TIME", AT(until), 0, "Leave out samples after TIME."},
    {0, "scale", OPTION_CHOICE, "model|series|none", AT(scale), 0,
     "Scale values before the model, and back after it: model, the default, by the mean and deviation of its training data; "
     "series by those of each series' history."},
    {0, "level", OPTION_TEXT, "LIST", AT(levels), 0, "Bands to give, percent, ',' between them; default 90."},
    {0, "windows", OPTION_INT, "N", AT(windows), 0,
     "Most past windows of each series that its bands are made of; default 100, 0 gives no bands."},
    {0, "window-step", OPTION_INT, "S", AT(window_step), 1,
     "Samples from one of these windows to the next, counted back from the end: bands of the recent past. Default: evenly over "
     "the history."},
    {0, "cv-windows", OPTION_INT, "N", AT(cv_windows), 1,
     "Back-test instead: forecast N past windows, the last ending with the series. The table of errors goes to the standard "
     "output, the rows to -o if that is given."},
    {0, "step", OPTION_INT, "S", AT(step), 1, "Samples from one window of a back-test to the next; default: the horizon."},
    {0, "season", OPTION_INT, "N", AT(season), 1,
     "Samples in a season, for seasonal-naive and MASE; default: a day of hours, a week of days and so on."},
    {0, "split", OPTION_CHOICE, "none|validation|test", AT(split), 0,
     "Back-test over all windows of that part of the data that the model was made with, errors in its scaled units: the "
     "figures of its card."},
    {'p', "plot", OPTION_FILE, "FILE.svg", AT(plot), 0, "Draw history, forecast and bands of the first 12 series too."},
    {0, "unit", OPTION_TEXT, "TEXT", AT(unit), 0, "Unit of the values, for the plot."},
    {0, "follow", OPTION_FLAG, NULL, AT(follow), 0,
     "Read a stream that grows and give a forecast after every sample, from the moment a window is full: that of the last "
     "window, the same as without --follow. A file is waited on as tail -f does."},
    {0, "expanding", OPTION_FLAG, NULL, AT(expanding), 0,
     "With --follow: carry the model's state from sample to sample instead. The model then sees all samples since the start, "
     "not a window; the first window fixes its transform."},
    {0, "batch", OPTION_INT, "N", AT(batch), 0,
     "Windows that run together; 0, the default, chooses. Results do not depend on it."},
    ROWS_END};

static const option_row run_rows[] = {
    {'i', "input", OPTION_FILE, "FILE", AT(input), 0,
     "Named input tensors, safetensors or PyTorch (required); for a model of one input also a NumPy array (.npy) or a table "
     "(.tsv, .csv)."},
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0, "Where the results go, safetensors (required)."},
    {0, "outputs", OPTION_TEXT, "A,B", AT(outputs), 0, "Only these outputs; default: all that the model has."},
    {0, "no-version", OPTION_FLAG, NULL, AT(no_version), 0, "No metadata about this run in the result."},
    ROWS_END};

static const option_row plan_rows[] = {
    {'l', "length", OPTION_INT, "N", AT(length), 1, "Longest sequence (required)."},
    {'b', "batch", OPTION_INT, "B", AT(batch), 1, "Sequences that run together; default 1."},
    {0, "outputs", OPTION_TEXT, "A,B", AT(outputs), 0, "Only these outputs; default: all that the model has."},
    {0, "tsv", OPTION_FLAG, NULL, AT(tsv), 0, "The nodes as tab-separated values, sizes in bytes, without totals."},
    ROWS_END};

static const option_row bench_rows[] = {
    {'l', "length", OPTION_TEXT, "LIST", AT(lengths), 0,
     "Lengths to time, ',' between them; default: 256, 1024, 4096 ... and the model's window, up to 65536."},
    {'b', "batch", OPTION_INT, "B", AT(batch), 1, "Sequences that run together; default 1."},
    {'n', "repeat", OPTION_INT, "N", AT(repeat), 1, "Runs of which the median is taken, after one to warm up; default 5."},
    {0, "outputs", OPTION_TEXT, "A,B", AT(outputs), 0, "Only these outputs; default: all that the model has."},
    {0, "pp", OPTION_TEXT, "LIST", AT(pp), 0, "Of a language model: time prompts of so many tokens (512), ',' between them."},
    {0, "tg", OPTION_TEXT, "LIST", AT(tg), 0, "Of a language model: time the making of so many tokens one by one (128)."},
    {0, "depth", OPTION_TEXT, "LIST", AT(depth), 0, "With --pp and --tg: after so many tokens; default 0."},
    {0, "profile", OPTION_FLAG, NULL, AT(profile), 0,
     "Show where the time goes too: the quickest of --repeat more runs by kinds of operators and by operators, with their "
     "work."},
    {'f', "format", OPTION_CHOICE, "table|md|csv|json", AT(bench_format), 0,
     "table, the default, and md are for people; csv and json hold seconds and bytes."},
    {'o', "output", OPTION_FILE, "FILE", AT(output), 0,
     "Write to FILE, which appears when it is complete; the default '-' is the standard output."},
    {'@', "threads", OPTION_TEXT, "LIST", AT(thread_list), 0,
     "Numbers of threads to time, ',' between them; 0, the default, takes as many as the process may use."},
    {0, "backend", OPTION_LIST, "LIST", AT(backends), 0,
     "Backends in order of preference, ',' between them; given several times, each is timed."},
    {0, "memory", OPTION_SIZE, "SIZE", AT(memory), 0,
     "Memory that the computation may take besides the weights, as in the other commands."},
    {0, "config", OPTION_FILE, "FILE", AT(config), 0, "Take this config.json instead of the one beside the weights."},
    {0, "set", OPTION_LIST, "KEY=VALUE", AT(settings), 0, "Override one setting of the models; may be given several times."},
    {0, "no-mmap", OPTION_FLAG, NULL, AT(no_mmap), 0,
     "Read the weights into memory in place of mapping their files: longer to open and not shared with other processes, faster "
     "to compute with where they are larger than the caches (large pages). Without --mmap and --no-mmap the commands that make "
     "texts choose (docs/text.md), the others map."},
    {0, "mmap", OPTION_FLAG, NULL, AT(mmap), 0, "Leave the files mapped in any case."},
    {0, "plugins", OPTION_FILE, "PATH", AT(plugins), 0,
     "Look for backend plugins here first: directories or files, ':' between them."},
    {'q', "quiet", OPTION_FLAG, NULL, AT(quiet), 0, "No progress and no remarks; errors only."},
    {'h', "help", OPTION_FLAG, NULL, AT(help), 0, "Show this help."},
    ROWS_END};

static const option_row backends_rows[] = {
    {'f', "format", OPTION_CHOICE, "text|json", AT(backends_format), 0,
     "text, the default, is for people; json holds the same, memory in bytes."},
    {0, "devices", OPTION_FLAG, NULL, AT(devices), 0, "Only the names that --backend takes, one a line."},
    ROWS_END};

static const option_row no_rows[] = {ROWS_END};

static void window_defaults(options *settings) {
    settings->overlap = -1;
}

static void generate_defaults(options *settings) {
    settings->count = 100;
    settings->temperature = 1.0;
    settings->top_k = 4;
}

static void forecast_defaults(options *settings) {
    settings->windows = 100;
}

static void bench_defaults(options *settings) {
    settings->batch = 1;
    settings->repeat = 5;
}

static void plan_defaults(options *settings) {
    settings->batch = 1;
}

#define LETTERS_TEXT                                                                                                           \
    "Letters: lower case is read as upper case unless --soft-mask says otherwise, U as T; N is the model's N, and every "      \
    "other "                                                                                                                   \
    "letter (IUPAC codes) is its unknown token. Blanks and line ends of any kind inside a sequence are left out.\n\n"

#define WINDOWS_TEXT                                                                                                           \
    "A record longer than the window is cut into windows that start every (window - overlap) bases. Each base is taken once, " \
    "from the first window that covers it, which gives it the longest left context; its value does not depend on what "        \
    "follows "                                                                                                                 \
    "it. Nothing is ever padded, and a record gives the same bytes alone, among others, in any shard and with any number of "  \
    "threads.\n\n"

const command command_table[] = {
    {"dna score",
     "[IN.fa]",
     "log-likelihood of DNA sequences",
     "Reads FASTA or FASTQ (plain, gzip or bgzip; '-' or nothing: standard input) and writes how likely each base is, given "
     "the "
     "bases before it.\n\n"
     "summary: name, length, scored (bases that have a value), mean_loglik (natural logarithm) and bits_per_base. tsv: contig, "
     "pos (1-based), base, loglik; '.' where a base has no value. bedgraph: contig, from, to, loglik, 0-based; bases without a "
     "value are left out.\n\n"
     "The first base of a record has no value (nothing stands before it); with --overlap 0 the first base of every window has "
     "none. With --rc mean a base that one strand alone can score (the first and the last) takes that strand's value. A record "
     "without bases gets a row with 0 scored bases.\n\n" LETTERS_TEXT WINDOWS_TEXT,
     {score_rows, sequence_rows, common_rows},
     0,
     1,
     window_defaults,
     run_dna_score},
    {"dna embed",
     "[IN.fa]",
     "embeddings of DNA sequences",
     "Writes the model's last hidden layer, after its final norm: one vector a record, or with --pool none one a base.\n\n"
     "npy: one float32 array [rows, channels] in the order of the records, and beside it FILE.tsv with name, length and rows "
     "of "
     "each record. safetensors: embedding [rows, channels] F32, length and rows [records] I64, names U8 (one name a line). "
     "tsv: "
     "name, length and the channels; with --pool none contig, pos and the channels. npy and safetensors need -o FILE.\n\n"
     "A record without bases gets a row of nan (no row with --pool none).\n\n" LETTERS_TEXT WINDOWS_TEXT,
     {embed_rows, sequence_rows, common_rows},
     0,
     1,
     window_defaults,
     run_dna_embed},
    {"dna classify",
     "[IN.fa]",
     "class of DNA sequences, by a model with a classification head",
     "Writes name, length, class (the likeliest, counted from 0) and the probability of each class. The model must have the "
     "output class_logits. A record is never cut: one that is empty or longer than the model's window gets a row of '.', a "
     "line "
     "on standard error, and the exit code is 3.\n\n" LETTERS_TEXT,
     {classify_rows, sequence_rows, common_rows},
     0,
     1,
     window_defaults,
     run_dna_classify},
    {"dna variants",
     "-f REF.fa [IN.vcf]",
     "effect of variants on the likelihood of their surroundings",
     "Reads VCF or BCF (any compression; '-' or nothing: standard input) and adds two INFO tags. STRAND_DELTA (Number=A, "
     "Float): "
     "the sum of log-likelihoods over the window with the ALT allele minus that over the window with REF. STRAND: one "
     "ALLELE|DELTA|REF_LOGLIK|ALT_LOGLIK|REASON a ALT allele.\n\n"
     "Both windows start half a window left of POS (or at the start of the contig) and end at the same base right of the "
     "variant, so that the longer allele fills the window. With --rc mean each sum is the mean of both strands.\n\n"
     "REASON is '.' or codes joined by '&'. Not scored: REF_MISMATCH (REF differs from the FASTA), SYMBOLIC (<DEL>, "
     "breakends), "
     "STAR (the * allele), NO_ALT, CONTIG_MISSING, OUT_OF_RANGE (POS or END past the contig), N_IN_ALLELE, N_IN_WINDOW (unless "
     "--allow-n; then a note), TOO_LONG (an allele longer than half a window). Note: CHR_RENAMED (the contig was found after a "
     "'chr' was added or taken away). Records that are not scored pass through; all but NO_ALT make the exit code 3.\n\n",
     {variants_rows, common_rows},
     0,
     1,
     NULL,
     run_dna_variants},
    {"dna generate",
     "",
     "continue DNA sequences",
     "Draws bases one by one from the model's probabilities over A, C, G and T and writes FASTA. When the window is full, its "
     "first half is forgotten and generation goes on from the last half. The same prompt, seed and options give the same "
     "bases; "
     "record K of a prompt file uses seed + K - 1.\n\n",
     {generate_rows, common_rows},
     0,
     0,
     generate_defaults,
     run_dna_generate},
    {"forecast",
     "[IN.csv]",
     "forecast time series, with bands",
     "Reads a table of samples (CSV or TSV, plain or gzip; '-' or nothing: standard input), forecasts each series by the last "
     "window of it, and writes a row a future sample: unique_id, ds, the forecast, and the ends of a band. Two layouts: long, "
     "with the columns unique_id, ds, y (without ids: one series); wide, with a column of times and a column a variable. Times "
     "are ISO 8601 with or without zone, seconds (9 to 11 digits) or milliseconds since 1970, or whole numbers.\n\n"
     "The default model, spacetime-etth1-strand, reads 336 hourly samples and forecasts 720. Data of another frequency than "
     "the model's are refused. The band is conformal: half its width at each step is the quantile of the absolute errors that "
     "the model made at that step on past windows of the same series. Series with too few of them get none.\n\n"
     "A back-test (--cv-windows, --split) prints mean squared and absolute error, MASE, sMAPE and the band's coverage beside "
     "naive, seasonal-naive, drift and the mean of the window. Rows have a cutoff, the time of the last sample that was known, "
     "and the truth y.\n\n"
     "A series that is shorter than the model's window is named and left out; the exit code is then 3.\n\n",
     {forecast_rows, common_rows},
     0,
     1,
     forecast_defaults,
     run_forecast},
    EEG_COMMANDS
    TEXT_COMMANDS
    {"run",
     "MODEL -i IN.safetensors -o OUT.safetensors",
     "run any model on named tensors",
     "Reads the model's inputs by name from a file of tensors, runs once and writes the outputs as F32 safetensors. Tensors "
     "that "
     "the model does not need are ignored with a remark; a missing one is an error, and so is a sequence longer than the model "
     "allows. An array without a batch axis, and a table (a row a token, after a row of names if there is one), is a batch of "
     "one. MODEL may also be given by -m.\n\n",
     {run_rows, common_rows},
     0,
     1,
     NULL,
     run_run},
    {"inspect",
     "[MODEL]",
     "what a model or a file of tensors holds",
     "Prints family, sizes, settings, inputs, outputs and weights. A file of tensors that no model family knows is listed as "
     "it is.\n\n",
     {common_rows},
     0,
     1,
     NULL,
     run_inspect},
    {"backends",
     "",
     "devices that can compute here, and plugins that were refused",
     "One paragraph a device: what it is, its driver, its memory, and what the plugin uses of it; plugins that were found and "
     "not taken follow, each with the reason.\n\n",
     {backends_rows, common_rows},
     0,
     0,
     NULL,
     run_backends},
    {"plan",
     "[MODEL] --length N",
     "where each operator would run and what memory it takes",
     "Plans without running. One row an operator: name, op, backend and why it is not on the preferred one, group of fused "
     "operators, region of tiled ones with axis and number of tiles, whether a tensor that depends on weights alone is kept or "
     "recomputed, and bytes. Totals follow.\n\n",
     {plan_rows, common_rows},
     0,
     1,
     plan_defaults,
     run_plan},
    {"bench",
     "[MODEL...]",
     "how fast models run on this machine",
     "Times whole runs on random inputs that are valid for the model (bases for DNA models), in one process: loading, planning "
     "and opening (startup), a first run, which makes what is kept from run to run, and then the median, the least and the "
     "most of --repeat runs. One row for each model, backend, number of threads and length, with bases (or positions of the "
     "sequence) a second, the planned memory (arena) and the most memory that the process had.\n\n"
     "--profile: work is the number of rough floating-point operations that the operators' mathematics needs, so the rates "
     "show where time is lost, not the machine's exact load. A group of operators that ran as one is one row.\n\n"
     "With --pp or --tg a language model is timed as llama-bench does it: prompt tokens and made tokens a second, mean and "
     "standard deviation of --repeat runs, under its columns.\n\n"
     "Results are not written: see 'strand run'. Other programs that compute at the same time make all figures worse.\n\n",
     {bench_rows},
     0,
     -1,
     bench_defaults,
     run_bench},
    {"merge",
     "-o OUT SHARD...",
     "join the shards of one run",
     "Joins, in the order given, NPY files along their first axis (with the .tsv beside them, where all shards have one), "
     "safetensors files tensor by tensor along the first axis, and VCF or BCF files (bgzip or BCF) under the header of the "
     "first. "
     "Text shards are joined by cat.\n\n",
     {merge_rows},
     1,
     -1,
     NULL,
     run_merge},
    {NULL, NULL, NULL, NULL, {no_rows}, 0, 0, NULL, NULL}};

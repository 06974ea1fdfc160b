/* bench.c - `strand bench`: how fast a model runs here. One row for each model, backend, number of threads and length: a run
 * to warm up, then the median of some runs; memory planned and taken; and with --profile where the time goes.
 */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include "commands.h"
#include "runtime.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST_RUNS = 1001, MOST_NUMBERS = 64 };

static const grid_column columns[] = {
    {"model", "model", NULL, 1},
    {"backend", "backend", NULL, 1},
    {"threads", "threads", "%.0f", 1},
    {"batch", "batch", "%.0f", 1},
    {"length", "length", "%.0f", 1},
    {"seconds", "time, ms", "%.3f", 1e3},
    {"least_seconds", "least, ms", "%.3f", 1e3},
    {"most_seconds", "most, ms", "%.3f", 1e3},
    {"per_second", "per second", "%.0f", 1},
    {"unit", "of", NULL, 1},
    {"arena_bytes", "arena, MiB", "%.1f", 1.0 / 1048576},
    {"peak_rss_bytes", "peak RSS, MiB", "%.1f", 1.0 / 1048576},
    {"startup_seconds", "startup, ms", "%.1f", 1e3},
    {"first_seconds", "first run, ms", "%.1f", 1e3},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* A list of whole numbers, ',' between them. */
typedef struct numbers {
    int64_t v[MOST_NUMBERS];
    int n;
} numbers;

typedef struct bench_job {
    const options *settings;
    output *out;
    grid rows;
    numbers lengths, threads;
    int profiles; /* printed */
} bench_job;

/* One row: a model in a context with so many threads. */
typedef struct bench_row {
    options settings;
    runtime rt;
    strand_plan *plan;
    strand_session *session;
    bench_inputs inputs;
    bench_profile profile;
    int64_t batch, length;
    double startup, first, seconds, least, most, peak, profiled;
} bench_row;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The most memory that the process has had, since forget_peak where the system can start anew. */
static double peak_rss(void) {
    char line[128];
    double kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "VmHWM:", 6)) kib = strtod(line + 6, NULL);
    if (f) fclose(f);
    struct rusage usage;
    if (kib <= 0 && !getrusage(RUSAGE_SELF, &usage)) kib = (double)usage.ru_maxrss;
    return kib * 1024;
}

static void forget_peak(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- one row ---- */

static int run_once(bench_row *row, double *seconds) {
    const double begin = now();
    strand_session_reset(row->session, -1);
    const strand_status status = strand_session_run(row->session, row->inputs.tensors, row->inputs.n, NULL, 0);
    *seconds = now() - begin;
    if (status == STRAND_OK) return 0;
    if (!interrupted()) complain("%s", strand_session_error(row->session));
    return -1;
}

static int open_session(bench_row *row, strand_trace_fn trace) {
    strand_session_params params;
    strand_session_params_init(&params);
    params.progress = progress_callback;
    params.trace = trace;
    params.trace_user = &row->profile;
    if (strand_session_open(row->plan, &params, &row->session) == STRAND_OK) return 0;
    row->session = NULL;
    complain("%s", strand_error(row->rt.context));
    return -1;
}

static int open_row(bench_row *row, const char *name) {
    const double begin = now();
    if (runtime_open(&row->rt, &row->settings, name)) return -1;
    if (runtime_plan(&row->rt, row->batch, row->length, row->rt.settings->outputs, &row->plan) != STRAND_OK) {
        row->plan = NULL;
        complain("%s", strand_error(row->rt.context));
        return -1;
    }
    if (open_session(row, NULL)) return -1;
    row->startup = now() - begin;
    return bench_inputs_make(&row->inputs, row->rt.model, row->batch, row->length);
}

static int time_row(bench_row *row, int64_t repeat) {
    double took[MOST_RUNS];
    if (run_once(row, &row->first)) return -1;
    for (int64_t i = 0; i < repeat; i++)
        if (run_once(row, &took[i])) return -1;
    qsort(took, (size_t)repeat, sizeof *took, by_value);
    row->seconds = (took[(repeat - 1) / 2] + took[repeat / 2]) / 2;
    row->least = took[0];
    row->most = took[repeat - 1];
    row->peak = peak_rss();
    return 0;
}

/* Runs of their own, since waiting for every step costs a little; the quickest is taken, whole. The first makes what is
 * kept. */
static int profile_row(bench_row *row, int64_t repeat) {
    double seconds;
    bench_profile best = {0};
    strand_session_close(row->session);
    bench_profile_begin(&row->profile, row->plan);
    int bad = open_session(row, bench_profile_step) || run_once(row, &seconds);
    const double once = row->profile.made_once;
    for (int64_t i = 0; i < repeat && !bad; i++) {
        bench_profile_clear(&row->profile);
        bad = run_once(row, &seconds);
        if (bad || (i && seconds >= row->profiled)) continue;
        const bench_profile swap = best;
        best = row->profile;
        row->profile = swap;
        row->profile.plan = row->plan;
        row->profiled = seconds;
    }
    bench_profile_free(&row->profile);
    row->profile = best;
    row->profile.made_once = once;
    return bad ? -1 : 0;
}

static void close_row(bench_row *row) {
    bench_profile_free(&row->profile);
    bench_inputs_free(&row->inputs);
    if (row->session) strand_session_close(row->session);
    if (row->plan) strand_plan_close(row->plan);
    runtime_close(&row->rt);
}

/* ---- what is printed ---- */

static void add_row(bench_job *job, const bench_row *row) {
    strand_plan_info info;
    grid *g = &job->rows;
    if (strand_plan_get(row->plan, &info) != STRAND_OK) return;
    grid_text(g, row->rt.info.name);
    grid_text(g, row->rt.backends);
    grid_number(g, (double)row->settings.threads);
    grid_number(g, (double)row->batch);
    grid_number(g, (double)row->length);
    grid_number(g, row->seconds);
    grid_number(g, row->least);
    grid_number(g, row->most);
    grid_number(g, (double)row->batch * (double)row->length / row->seconds);
    grid_text(g, bench_unit(row->rt.model));
    grid_number(g, (double)info.arena_bytes);
    grid_number(g, row->peak);
    grid_number(g, row->startup);
    grid_number(g, row->first);
}

/* The keys of a row, as what follows belongs to it. */
static void profile_title(bench_job *job, const bench_row *row, const char *of) {
    const char *name = row->rt.info.name;
    const int form = job->settings->bench_format;
    if (form == GRID_JSON || form == GRID_CSV) return;
    output_printf(job->out,
                  "%s%s of %s, batch %" PRId64 ", length %" PRId64 ", %" PRId64 " threads (0: all): the quickest run, %.3f ms",
                  form == GRID_MD ? "### " : "", of, name, row->batch, row->length, row->settings.threads, 1e3 * row->profiled);
    output_printf(job->out, row->profile.made_once > 0 ? ", after %.3f ms of what is made once a length\n\n" : "\n\n",
                  1e3 * row->profile.made_once);
}

static int print_profile(bench_job *job, bench_row *row) {
    const int form = job->settings->bench_format;
    int bad = 0;
    if (form == GRID_JSON)
        output_printf(job->out, "%s{\"row\": %d, \"seconds\": %.9g, \"made_once_seconds\": %.9g, \"kinds\": ",
                      job->profiles++ ? ",\n" : "{\"profiles\": [\n", job->rows.n_cells / COLUMNS, row->profiled,
                      row->profile.made_once);
    for (int k = 0; k < 2 && !bad; k++) {
        grid g;
        grid_begin(&g, bench_profile_columns, BENCH_PROFILE_COLUMNS);
        if (k)
            bench_profile_nodes(&row->profile, row->profiled, &g);
        else
            bench_profile_ops(&row->profile, row->profiled, &g);
        profile_title(job, row, k ? "Operators" : "Kinds of operators");
        bad = grid_print(&g, job->out, form);
        output_printf(job->out, form != GRID_JSON ? "\n" : k ? "}" : ", \"operators\": ");
        grid_free(&g);
    }
    return bad;
}

static int print_rows(bench_job *job) {
    const int json = job->settings->bench_format == GRID_JSON, profile = job->settings->profile;
    if (json && profile) output_printf(job->out, "%s],\n\"rows\": ", job->profiles ? "\n" : "{\"profiles\": [");
    const int bad = grid_print(&job->rows, job->out, job->settings->bench_format);
    if (json) output_printf(job->out, profile ? "}\n" : "\n");
    return bad;
}

/* ---- all rows ---- */

static int measure(bench_job *job, const char *name, const char *backend, int64_t threads, int64_t length) {
    bench_row *row = calloc(1, sizeof *row);
    if (!row) return complain("out of memory"), -1;
    row->settings = *job->settings;
    row->settings.threads = threads;
    row->settings.backend = backend;
    row->batch = job->settings->batch;
    row->length = length;
    forget_peak();
    int bad = open_row(row, name) || time_row(row, job->settings->repeat);
    if (!bad && job->settings->profile) bad = profile_row(row, job->settings->repeat) || print_profile(job, row);
    if (!bad) add_row(job, row);
    close_row(row);
    free(row);
    return bad;
}

/* What was asked for, or powers of 4 up to the model's window; a model whose inputs have no free length has one. */
static int choose_lengths(const bench_job *job, const char *name, numbers *lengths) {
    runtime rt;
    options quick = *job->settings;
    quick.threads = 1;
    if (runtime_open(&rt, &quick, name)) return -1;
    *lengths = job->lengths;
    if (!bench_has_length(rt.model)) {
        *lengths = (numbers){{rt.info.window > 0 ? rt.info.window : 1}, 1};
    } else if (!lengths->n) {
        for (int64_t length = 256; length < rt.info.window && length <= 65536; length *= 4) lengths->v[lengths->n++] = length;
        if (rt.info.window <= 65536) lengths->v[lengths->n++] = rt.info.window;
    }
    int kept = 0;
    for (int i = 0; i < lengths->n; i++) {
        if (lengths->v[i] <= rt.info.max_length || rt.info.max_length < 1)
            lengths->v[kept++] = lengths->v[i];
        else
            remark("%s: %" PRId64 " is longer than its %" PRId64 "; left out", rt.info.name, lengths->v[i], rt.info.max_length);
    }
    lengths->n = kept;
    runtime_close(&rt);
    return 0;
}

static int measure_model(bench_job *job, const char *name) {
    const text_list *backends = &job->settings->backends;
    numbers lengths;
    if (choose_lengths(job, name, &lengths)) return -1;
    for (int b = 0; b < (backends->n ? backends->n : 1); b++)
        for (int t = 0; t < job->threads.n; t++)
            for (int i = 0; i < lengths.n; i++)
                if (measure(job, name, backends->n ? backends->items[b] : NULL, job->threads.v[t], lengths.v[i])) return -1;
    return 0;
}

static int read_numbers(const char *text, const char *option, int64_t least, numbers *to) {
    while (*text) {
        char *end;
        errno = 0;
        const long long value = strtoll(text, &end, 10);
        if (end == text || errno || value < least || (*end && *end != ',') || to->n == MOST_NUMBERS) {
            complain("bench: --%s: '%s' is no list of whole numbers of at least %" PRId64, option, text, least);
            return EXIT_USAGE;
        }
        to->v[to->n++] = value;
        text = end + (*end == ',');
    }
    return 0;
}

int run_bench(const options *settings) {
    if (settings->pp || settings->tg) return run_bench_text(settings);
    bench_job job = {.settings = settings};
    if (read_numbers(settings->lengths ? settings->lengths : "", "length", 1, &job.lengths) ||
        read_numbers(settings->thread_list ? settings->thread_list : "0", "threads", 0, &job.threads))
        return EXIT_USAGE;
    if (settings->repeat > MOST_RUNS) return complain("bench: --repeat: %d at most", MOST_RUNS), EXIT_USAGE;
    if (!job.threads.n) job.threads.n = 1;
    job.out = output_open(settings->output);
    if (!job.out) return EXIT_FAILED;
    grid_begin(&job.rows, columns, COLUMNS);
    int bad = 0;
    for (int i = 0; i < (settings->n_args ? settings->n_args : 1) && !bad; i++)
        bad = measure_model(&job, settings->n_args ? settings->args[i] : NULL);
    if (!bad && !job.rows.n_cells) complain("bench: nothing was measured"), bad = 1;
    if (!bad) bad = print_rows(&job);
    grid_free(&job.rows);
    if (output_close(job.out, !bad)) bad = 1;
    return bad ? EXIT_FAILED : EXIT_DONE;
}

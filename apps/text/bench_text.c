/* bench_text.c - `strand bench --pp N --tg N --depth N`: prompt processing and text generation, under the columns of
 * llama-bench.
 *
 * pp: N random tokens are fed to an empty row (or one that has `depth` tokens), as a prompt is. tg: N tokens one after the
 * other. Each is run once to warm up and then --repeat times; t/s is the mean, with its standard deviation. */
#include "text.h"

#include "commands.h"
#include "grid.h"
#include "progress.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const grid_column columns[] = {
    {"model", "model", NULL, 1},           {"size_bytes", "size, MiB", "%.2f", 1.0 / 1048576},
    {"params", "params, M", "%.3f", 1e-6}, {"backend", "backend", NULL, 1},
    {"threads", "threads", NULL, 1},       {"test", "test", NULL, 1},
    {"depth", "depth", "%.0f", 1},         {"tokens_per_second", "t/s", "%.2f", 1},
    {"deviation", "+-", "%.2f", 1},        {"peak_rss_bytes", "peak RSS, MiB", "%.1f", 1.0 / 1048576}};
enum { COLUMNS = sizeof columns / sizeof columns[0] };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The i-th number of "512,1024"; -1 past the end, -2 for what is no number. */
static int64_t number_at(const char *list, int i) {
    const char *at = list;
    while (at && i-- > 0) at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
    if (!at || !*at) return -1;
    char *end;
    long long n = strtoll(at, &end, 10);
    return end == at || (*end && *end != ',') || n < 0 || n > 100000000 ? -2 : n;
}

static int once(engine *g, const int64_t *ids, int64_t depth, int64_t n, int generate, double *seconds) {
    if (engine_reset(g, 0) || (depth && engine_feed(g, 0, ids, depth))) return -1;
    double begun = now();
    if (!generate && engine_feed(g, 0, ids + depth, n)) return -1;
    for (int64_t i = 0; generate && i < n; i++)
        if (engine_step(g, ids + depth + i, 1) || interrupted()) return -1;
    *seconds = now() - begun;
    return interrupted() ? -1 : 0;
}

static int measure(runtime *rt, engine *g, grid *rows, int64_t depth, int64_t n, int generate) {
    const options *s = rt->settings;
    int64_t *ids = malloc((size_t)(depth + n + 1) * sizeof *ids);
    uint32_t seed = 1;
    double sum = 0, squares = 0, seconds = 0;
    char test[64], threads[24];
    if (!ids) return complain("out of memory"), -1;
    for (int64_t i = 0; i < depth + n; i++)
        ids[i] = (int64_t)((seed = seed * 1664525 + 1013904223) >> 8) % engine_vocabulary(g);
    int bad = 0;
    for (int64_t i = 0; i <= s->repeat && !bad; i++) {
        bad = once(g, ids, depth, n, generate, &seconds);
        double rate = (double)n / seconds;
        if (i && !bad) sum += rate, squares += rate * rate;
    }
    free(ids);
    if (bad) return -1;
    double mean = sum / (double)s->repeat, variance = s->repeat > 1 ? (squares - sum * mean) / (double)(s->repeat - 1) : 0;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    snprintf(test, sizeof test, depth ? "%s%lld @ d%lld" : "%s%lld", generate ? "tg" : "pp", (long long)n, (long long)depth);
    snprintf(threads, sizeof threads, "%lld", (long long)s->threads);
    grid_text(rows, rt->info.name);
    grid_number(rows, (double)rt->info.weight_bytes);
    grid_number(rows, (double)rt->info.parameters);
    grid_text(rows, rt->backends);
    grid_text(rows, s->threads ? threads : "all");
    grid_text(rows, test);
    grid_number(rows, (double)depth);
    grid_number(rows, mean);
    grid_number(rows, sqrt(variance > 0 ? variance : 0));
    grid_number(rows, (double)usage.ru_maxrss * 1024);
    return 0;
}

static int all(runtime *rt, engine *g, grid *rows) {
    const options *s = rt->settings;
    const char *const lists[2] = {s->pp, s->tg}, *depths = s->depth ? s->depth : "0";
    int64_t context = text_context(rt), depth, n;
    for (int d = 0; (depth = number_at(depths, d)) != -1; d++)
        for (int kind = 0; kind < 2; kind++)
            for (int i = 0; lists[kind] && (n = number_at(lists[kind], i)) != -1; i++) {
                if (depth == -2 || n < 1)
                    return complain("bench: --pp, --tg and --depth are numbers with ',' between them"), EXIT_USAGE;
                if (depth + n > context) {
                    remark("%lld tokens at a depth of %lld are more than the model's %lld; left out", (long long)n,
                           (long long)depth, (long long)context);
                    continue;
                }
                if (measure(rt, g, rows, depth, n, kind)) return EXIT_FAILED;
            }
    return 0;
}

int run_bench_text(const options *settings) {
    grid rows;
    int rc = 0;
    output *out = output_open(settings->output);
    if (!out) return EXIT_FAILED;
    grid_begin(&rows, columns, COLUMNS);
    for (int i = 0; i < (settings->n_args ? settings->n_args : 1) && !rc; i++) {
        runtime rt;
        options with = *settings;
        if (settings->thread_list) with.threads = strtoll(settings->thread_list, NULL, 10);
        if (settings->backends.n) with.backend = settings->backends.items[0];
        rc = runtime_open(&rt, &with, settings->n_args ? settings->args[i] : TEXT_MODEL);
        if (rc) break;
        engine *g = engine_open(&rt, 1, 512);
        rc = g ? runtime_hold(&rt, -1) : EXIT_FAILED;
        if (!rc) rc = all(&rt, g, &rows);
        engine_close(g);
        runtime_close(&rt);
    }
    if (!rc && !rows.n_cells) complain("bench: nothing was measured"), rc = EXIT_FAILED;
    if (!rc && grid_print(&rows, out, settings->bench_format)) rc = EXIT_FAILED;
    grid_free(&rows);
    if (output_close(out, !rc)) rc = EXIT_FAILED;
    return rc;
}

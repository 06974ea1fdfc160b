/* dna_generate.c - `strand dna generate`: goes on from a prompt, base by base.
 *
 * Each base takes one run over the context so far. When the context fills the window its first half is dropped, so that half
 * a window of history is always there and a run costs no more than the window.
 */
#include "batch.h"
#include "commands.h"
#include "input.h"
#include "output.h"
#include "progress.h"
#include "records.h"
#include "windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 60 };

typedef struct generator {
    runtime rt;
    dna_alphabet dna;
    int64_t window;
    batch_runner *runner;
    output *out;
    uint64_t random;
    double logits[4]; /* of A, C, G, T after the last run */
} generator;

/* splitmix64 (Vigna, public domain): the same numbers on every machine. */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static void reduce(void *user, const batch_item *item, const float *logits, int64_t width) {
    generator *g = user;
    for (int i = 0; i < 4; i++) g->logits[i] = logits[(item->length - 1) * width + g->dna.base[i]];
}

/* Which of the four: the likeliest, or a draw from the top_k likeliest. */
static int choose(generator *g) {
    const options *settings = g->rt.settings;
    int order[4] = {0, 1, 2, 3};
    for (int i = 1; i < 4; i++)
        for (int k = i; k > 0 && g->logits[order[k]] > g->logits[order[k - 1]]; k--) {
            const int swap = order[k];
            order[k] = order[k - 1];
            order[k - 1] = swap;
        }
    if (settings->temperature == 0) return order[0];
    const int n = settings->top_k < 4 ? (int)settings->top_k : 4;
    double weight[4], sum = 0;
    for (int i = 0; i < n; i++) sum += weight[i] = exp((g->logits[order[i]] - g->logits[order[0]]) / settings->temperature);
    double at = uniform(&g->random) * sum;
    for (int i = 0; i < n - 1; i++)
        if ((at -= weight[i]) < 0) return order[i];
    return order[n - 1];
}

/* Appends `count` bases to letters[0, length); both blocks have room for them. */
static int extend(generator *g, const char *name, char *letters, uint8_t *ids, int64_t length, int64_t count) {
    static const char bases[] = "ACGT";
    int64_t start = 0;
    for (int64_t i = 0; i < count; i++, length++) {
        if (length - start >= g->window) start = length - (g->window + 1) / 2;
        const batch_item item = {ids + start, length - start, name, NULL, 0, 0};
        if (batch_run(g->runner, &item, 1, reduce, g)) return -1;
        const int next = choose(g);
        letters[length] = bases[next];
        ids[length] = g->dna.base[next];
        progress_fraction((double)(i + 1) / (double)count);
    }
    return 0;
}

static int write_record(const generator *g, const char *name, const char *letters, int64_t n, int64_t prompt, int64_t seed) {
    const options *settings = g->rt.settings;
    output_printf(g->out, ">%s", name);
    if (!settings->no_version)
        output_printf(
            g->out,
            " strand=%s model=%s sha256=%s precision=%s backend=%s prompt=%lld bases=%lld temperature=%g top_k=%lld seed=%lld",
            strand_version(), g->rt.info.name, strand_model_sha256(g->rt.model), g->rt.info.precision, g->rt.backends,
            (long long)prompt, (long long)settings->count, settings->temperature, (long long)settings->top_k, (long long)seed);
    output_printf(g->out, "\n");
    for (int64_t i = 0; i < n; i += LINE)
        if (output_printf(g->out, "%.*s\n", (int)(n - i < LINE ? n - i : LINE), letters + i)) return -1;
    return 0;
}

static int generate_one(generator *g, const char *name, const char *prompt, int64_t length, int64_t seed) {
    const int64_t count = g->rt.settings->count;
    char *letters = malloc((size_t)(length + count) + 1);
    uint8_t *ids = malloc((size_t)(length + count) + 1);
    int bad = letters && ids ? 0 : (complain("out of memory"), 1);
    if (!bad) {
        memcpy(letters, prompt, (size_t)length);
        dna_encode(&g->dna, prompt, length, ids);
        g->random = (uint64_t)seed;
        const int64_t skip = g->rt.settings->only_new ? length : 0;
        bad = extend(g, name, letters, ids, length, count) ||
              write_record(g, name, letters + skip, length + count - skip, length, seed);
    }
    free(letters);
    free(ids);
    return bad ? -1 : 0;
}

static int generate_from_file(generator *g, const options *settings) {
    record_chunk chunk;
    int rc, status, failed = 0;
    int64_t seed = settings->seed;
    sequence_reader *reader = sequences_open(NULL, settings->prompt_file, &rc);
    if (!reader) return rc;
    while ((status = records_read(&chunk, reader, &g->dna, settings->prompt_file, 1, INT64_MAX)) > 0) {
        const record *r = &chunk.items[0];
        int bad = 0;
        if (!r->failed && r->seq.length == 0) complain("record '%s': is empty; there is nothing to go on from", r->seq.name);
        if (r->failed || r->seq.length == 0)
            failed = 1;
        else
            bad = generate_one(g, r->seq.name, r->seq.bases, r->seq.length, seed);
        seed++;
        records_free(&chunk);
        if (bad || interrupted()) status = -1;
        if (status < 0) break;
    }
    sequences_close(reader);
    return status < 0 ? EXIT_FAILED : failed ? EXIT_PARTIAL : EXIT_DONE;
}

static int generate(generator *g, const options *settings) {
    window_rule rule;
    int rc = windows_init(&rule, &g->rt);
    if (!rc) rc = dna_alphabet_init(&g->dna, &g->rt, settings->soft_mask, SOFTMAX_ACGT);
    if (rc) return rc;
    g->window = rule.window;
    g->runner = batch_open(&g->rt, "logits");
    rc = EXIT_FAILED;
    if (g->runner && !batch_prepare(g->runner, 1) && (g->out = output_open(settings->output)) != NULL) {
        progress_begin("bases");
        if (settings->prompt_file)
            rc = generate_from_file(g, settings);
        else
            rc = generate_one(g, "generated", settings->prompt, (int64_t)strlen(settings->prompt), settings->seed) ? EXIT_FAILED
                                                                                                                   : EXIT_DONE;
        if (output_close(g->out, rc != EXIT_FAILED)) rc = EXIT_FAILED;
    }
    batch_close(g->runner);
    return rc;
}

int run_dna_generate(const options *settings) {
    generator g;
    memset(&g, 0, sizeof g);
    if (!settings->prompt == !settings->prompt_file)
        return complain("dna generate: give one of --prompt BASES and --prompt-file FILE"), EXIT_USAGE;
    const size_t letters =
        settings->prompt ? strspn(settings->prompt, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") : 0;
    if (settings->prompt && (!letters || settings->prompt[letters]))
        return complain("dna generate: --prompt '%s' must be letters, one at least", settings->prompt), EXIT_USAGE;
    int rc = runtime_open(&g.rt, settings, NULL);
    if (rc) return rc;
    rc = generate(&g, settings);
    runtime_close(&g.rt);
    return rc;
}

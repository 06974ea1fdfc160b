/* score.c - `strand text score`: how likely a text is under a model, as a whole or token by token; and `strand text embed`:
 * its vector. Texts of any length run in pieces with the state carried on; a model with a context of its own is run in
 * windows. */
#include "text.h"

#include "commands.h"
#include "escape.h"
#include "output.h"
#include "progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define LN2            0.69314718055994530942

typedef struct scoring {
    runtime *rt;
    output *out;
    const int64_t *ids;
    int64_t from, n; /* of the run's first token, and of all */
    double sum;
    int64_t scored;
    int tokens;
    float *last; /* logits after the last token of a piece */
    int have_last;
} scoring;

static int one(scoring *s, const float *logits, int64_t width, int64_t at) {
    double value = engine_loglik(logits, width, s->ids[at]);
    s->sum += value;
    s->scored++;
    if (!s->tokens) return 0;
    size_t n;
    const char *bytes = strand_token_bytes(s->rt->model, s->ids[at], &n), *name = strand_token_name(s->rt->model, s->ids[at]);
    output_printf(s->out, "%lld\t%lld\t%.6f\t", (long long)at, (long long)s->ids[at], value);
    write_token(s->out, name ? name : bytes, name ? strlen(name) : n);
    return output_printf(s->out, "\n");
}

static int take(void *user, int64_t at, int64_t n, const float *values, int64_t width) {
    scoring *s = user;
    at += s->from;
    if (s->have_last && one(s, s->last, width, at)) return -1;
    for (int64_t i = 0; i + 1 < n; i++)
        if (one(s, values + i * width, width, at + i + 1)) return -1;
    if (!s->last && !(s->last = malloc((size_t)width * sizeof *s->last))) return complain("out of memory"), -1;
    memcpy(s->last, values + (n - 1) * width, (size_t)width * sizeof *s->last);
    s->have_last = 1;
    return 0;
}

/* One run over all where the model has room; else windows that start anew, whose first token has no value. */
static int score_all(scoring *s, engine *g, int64_t window) {
    for (s->from = 0; s->from < s->n; s->from += window) {
        int64_t n = s->n - s->from < window ? s->n - s->from : window;
        s->have_last = 0;
        if (engine_run(g, s->ids + s->from, n, "logits", take, s)) return -1;
    }
    return 0;
}

static int read_ids(runtime *rt, const options *s, const char *path, text_ids *ids, size_t *bytes) {
    char *text;
    if (text_read(path, MAX_TEXT_BYTES, &text, bytes)) return -1;
    int bad = text_prompt(rt, text, *bytes, s->special ? STRAND_ENCODE_SPECIAL : 0, ids);
    free(text);
    return bad;
}

static int score_file(runtime *rt, engine *g, output *out, const char *path) {
    const options *o = rt->settings;
    text_ids ids = {0};
    size_t bytes;
    if (read_ids(rt, o, path, &ids, &bytes)) return -1;
    int64_t context = text_context(rt), window = o->window ? o->window : context;
    if (window > context) window = context;
    scoring s = {.rt = rt, .out = out, .ids = ids.ids, .n = ids.n, .tokens = o->token_rows};
    int bad = score_all(&s, g, window);
    if (!bad && !o->token_rows) {
        double none = NAN, mean = s.scored ? s.sum / (double)s.scored : none;
        write_cell(out, path);
        bad = output_printf(out, "\t%zu\t%lld\t%lld\t%.6f\t%.6f\t%.6f\n", bytes, (long long)ids.n, (long long)s.scored, mean,
                            s.scored ? exp(-mean) : none, bytes && s.scored ? -s.sum / LN2 / (double)bytes : none);
    }
    free(s.last);
    text_ids_free(&ids);
    return bad;
}

static int with_engine(runtime *rt, const char *head, int (*each)(runtime *rt, engine *g, output *out, const char *path)) {
    const options *s = rt->settings;
    static const char *const standard[] = {"-"};
    const char *const *files = s->n_args ? (const char *const *)s->args : standard;
    engine *g = engine_open(rt, 1, s->batch);
    output *out = g ? output_open(s->output) : NULL;
    int bad = !out || (head && output_printf(out, "%s", head));
    for (int i = 0; i < (s->n_args ? s->n_args : 1) && !bad; i++) bad = each(rt, g, out, files[i]) || interrupted();
    if (out && output_close(out, !bad)) bad = 1;
    engine_close(g);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

int run_text_score(const options *settings) {
    runtime rt;
    int rc = text_open(&rt, settings);
    if (rc) return rc;
    rc = with_engine(&rt,
                     settings->token_rows ? "at\tid\tloglik\ttoken\n"
                                          : "file\tbytes\ttokens\tscored\tmean_loglik\tperplexity\tbits_per_byte\n",
                     score_file);
    runtime_close(&rt);
    return rc;
}

/* ---- embed ---- */

typedef struct pooling {
    double *sum;
    int64_t width, n;
    int last;
} pooling;

static int pool(void *user, int64_t at, int64_t n, const float *values, int64_t width) {
    pooling *p = user;
    (void)at;
    if (!p->sum && !(p->sum = calloc((size_t)width, sizeof *p->sum))) return complain("out of memory"), -1;
    p->width = width;
    for (int64_t i = p->last ? n - 1 : 0; i < n; i++)
        for (int64_t k = 0; k < width; k++) p->sum[k] = (p->last ? 0 : p->sum[k]) + (double)values[i * width + k];
    p->n += n;
    return 0;
}

int text_embed(runtime *rt, engine *g, const int64_t *ids, int64_t n, int last, double **vector, int64_t *width) {
    pooling p = {.last = last};
    if (runtime_output(rt, "hidden", NULL) < 0) return complain("%s: the model has no output 'hidden'", rt->info.name), -1;
    int64_t context = text_context(rt);
    if (n > context)
        return complain("a text of %lld tokens is longer than the %lld that the model has room for", (long long)n,
                        (long long)context),
               -1;
    if (engine_run(g, ids, n, "hidden", pool, &p)) return free(p.sum), -1;
    for (int64_t k = 0; !last && k < p.width; k++) p.sum[k] /= (double)p.n;
    *vector = p.sum;
    *width = p.width;
    return 0;
}

static int embed_file(runtime *rt, engine *g, output *out, const char *path) {
    text_ids ids = {0};
    size_t bytes;
    double *vector = NULL;
    int64_t width = 0;
    int bad = read_ids(rt, rt->settings, path, &ids, &bytes) ||
              text_embed(rt, g, ids.ids, ids.n, rt->settings->pool == POOL_LAST, &vector, &width);
    if (!bad) write_cell(out, path);
    for (int64_t k = 0; k < width && !bad; k++) bad = output_printf(out, "\t%.7g", vector[k]);
    if (!bad) bad = output_printf(out, "\n");
    free(vector);
    text_ids_free(&ids);
    return bad;
}

int run_text_embed(const options *settings) {
    runtime rt;
    int rc = text_open(&rt, settings);
    if (rc) return rc;
    rc = with_engine(&rt, NULL, embed_file);
    runtime_close(&rt);
    return rc;
}

/* generate.c - `strand text generate`: goes on from prompts, several of them stepped as one batch.
 *
 * One text streams as it is made; several are written when all are done, in their order. A state that was saved is a prompt
 * that has been run already. */
#include "gen.h"

#include "commands.h"
#include "escape.h"
#include "output.h"
#include "progress.h"
#include "schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_PROMPT ((size_t)256 << 20)
#define MAX_TEXTS  1024

typedef struct job {
    const char *prompt;
    size_t n_prompt;
    text_ids ids;
    int64_t reused;
    gen gen;
    char *text; /* what was made, where it is not streamed */
    size_t n_text, room;
    struct program *program;
} job;

typedef struct program {
    runtime rt;
    const options *settings;
    engine *engine;
    output *out;
    grammar *grammar;
    job *jobs;
    int64_t n;
    char *file; /* the prompt file's text */
    int stream;
} program;

static int emit(void *user, const char *text, size_t n) {
    job *j = user;
    if (j->program->stream) return output_write(j->program->out, text, n) || output_flush(j->program->out);
    if (j->n_text + n + 1 > j->room) {
        size_t room = 2 * (j->n_text + n) + 256;
        char *more = realloc(j->text, room);
        if (!more) return complain("out of memory"), -1;
        j->text = more;
        j->room = room;
    }
    memcpy(j->text + j->n_text, text, n);
    j->n_text += n;
    j->text[j->n_text] = 0;
    return 0;
}

static int add_job(program *p, const char *prompt, size_t n) {
    const options *s = p->settings;
    for (int64_t i = 0; i < s->samples; i++) {
        if (p->n == MAX_TEXTS) return complain("text generate: more than %d texts at once", MAX_TEXTS), EXIT_USAGE;
        job *j = &p->jobs[p->n];
        memset(j, 0, sizeof *j);
        j->prompt = prompt;
        j->n_prompt = n;
        j->program = p;
        j->gen.rt = &p->rt;
        j->gen.row = p->n;
        j->gen.stops = s->stops.items;
        j->gen.n_stops = s->stops.n;
        j->gen.most = s->count;
        j->gen.context = text_context(&p->rt);
        j->gen.goes_on = n > 0 || s->state_load;
        j->gen.ignore_end = s->ignore_end;
        j->gen.emit = emit;
        j->gen.user = j;
        sample_rule rule;
        int rc = text_rule(s, &rule);
        if (rc) return rc;
        rule.seed += (uint64_t)p->n;
        sampler_init(&j->gen.sampler, &rule);
        p->n++;
    }
    return 0;
}

static int add_jobs(program *p) {
    const options *s = p->settings;
    size_t n = 0;
    int rc = 0;
    for (int i = 0; i < s->prompts.n && !rc; i++) rc = add_job(p, s->prompts.items[i], strlen(s->prompts.items[i]));
    if (rc || !s->prompt_file) return rc ? rc : p->n ? 0 : add_job(p, "", 0);
    if (text_read(s->prompt_file, MAX_PROMPT, &p->file, &n)) return EXIT_FAILED;
    if (!s->lines) return add_job(p, p->file, n);
    for (size_t at = 0; at < n && !rc;) {
        const char *stop = memchr(p->file + at, '\n', n - at);
        size_t length = stop ? (size_t)(stop - p->file) - at : n - at,
               cut = length && p->file[at + length - 1] == '\r' ? length - 1 : length;
        if (cut) rc = add_job(p, p->file + at, cut);
        at += length + 1;
    }
    return rc;
}

int text_grammar(const options *s, grammar **out) {
    char *text = NULL, *made = NULL, why[256] = "";
    size_t n = 0;
    *out = NULL;
    if (s->grammar && s->json_schema) return complain("give one of --grammar and --json-schema"), EXIT_USAGE;
    if (!s->grammar && !s->json_schema) return 0;
    const char *path = s->grammar ? s->grammar : s->json_schema;
    if (text_read(path, (size_t)1 << 20, &text, &n)) return EXIT_FAILED;
    if (s->json_schema) made = schema_to_grammar(text, n, why, sizeof why);
    if (!*why) *out = made ? grammar_parse(made, strlen(made), why, sizeof why) : grammar_parse(text, n, why, sizeof why);
    free(text);
    free(made);
    if (*out) return 0;
    complain("%s: %s", path, why);
    return EXIT_FAILED;
}

/* Every row gets its prompt; equal prompts are run once. */
static int feed(program *p) {
    const options *s = p->settings;
    for (int64_t i = 0; i < p->n; i++) {
        job *j = &p->jobs[i];
        const job *before = i ? &p->jobs[i - 1] : NULL;
        if (before && before->prompt == j->prompt && before->n_prompt == j->n_prompt) {
            if (engine_copy(p->engine, i - 1, i)) return -1;
            j->reused = before->reused;
            continue;
        }
        uint32_t flags = s->special ? STRAND_ENCODE_SPECIAL : 0;
        if (s->state_load) {
            if (text_state_load(s->state_load, p->engine, i, &j->ids)) return -1;
            engine_tokens(p->engine, i, &j->reused);
            if (j->n_prompt && text_encode(&p->rt, j->prompt, j->n_prompt, flags, &j->ids)) return -1;
            if (!j->ids.n) return complain("%s: nothing is left to go on from; give a prompt", s->state_load), -1;
            if (engine_feed(p->engine, i, j->ids.ids, j->ids.n)) return -1;
        } else if (text_prompt(&p->rt, j->prompt, j->n_prompt, flags, &j->ids) ||
                   text_feed(p->engine, i, &j->ids, s->store, s->store_limit, &j->reused)) {
            return -1;
        }
        if (interrupted()) return -1;
    }
    return 0;
}

static int start_grammars(program *p) {
    char why[256];
    for (int64_t i = 0; i < p->n && p->grammar; i++) {
        p->jobs[i].gen.grammar = grammar_start(p->grammar, why, sizeof why);
        if (!p->jobs[i].gen.grammar) return complain("%s", why), -1;
    }
    return 0;
}

static void write_json_bytes(output *out, const char *text, size_t n) {
    char *copy = malloc(n + 1);
    if (copy) memcpy(copy, text, n), copy[n] = 0, write_json_text(out, copy);
    free(copy);
}

static int write_texts(program *p) {
    const options *s = p->settings;
    for (int64_t i = 0; i < p->n; i++) {
        const job *j = &p->jobs[i];
        if (s->text_format == TEXT_JSONL) {
            output_printf(p->out, "{\"prompt\":");
            write_json_bytes(p->out, j->prompt, j->n_prompt);
            output_printf(p->out, ",\"text\":");
            write_json_text(p->out, j->text ? j->text : "");
            output_printf(p->out, ",\"tokens\":%lld,\"prompt_tokens\":%lld,\"reused\":%lld,\"finish\":\"%s\"}\n",
                          (long long)j->gen.made, (long long)j->ids.n, (long long)j->reused, j->gen.finish);
            continue;
        }
        if (i) output_printf(p->out, "----\n");
        if (!s->only_new) output_write(p->out, j->prompt, j->n_prompt);
        output_write(p->out, j->text ? j->text : "", j->n_text);
        output_printf(p->out, "\n");
    }
    return output_flush(p->out);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int generate(program *p) {
    const options *s = p->settings;
    double begun = now();
    if (feed(p) || start_grammars(p)) return EXIT_FAILED;
    double fed = now();
    int64_t made = 0, prompt = 0;
    for (int64_t i = 0; i < p->n; i++) gen_begin(&p->jobs[i].gen);
    if (p->stream && !s->only_new && output_write(p->out, p->jobs[0].prompt, p->jobs[0].n_prompt)) return EXIT_FAILED;
    gen **list = malloc((size_t)p->n * sizeof *list);
    if (!list) return complain("out of memory"), EXIT_FAILED;
    for (int64_t i = 0; i < p->n; i++) list[i] = &p->jobs[i].gen;
    int bad = gen_run(list, p->n, p->engine);
    free(list);
    if (bad) return EXIT_FAILED;
    double done = now();
    if (p->stream ? output_printf(p->out, "\n") || output_flush(p->out) : write_texts(p)) return EXIT_FAILED;
    for (int64_t i = 0; i < p->n; i++)
        made += p->jobs[i].gen.made, prompt += p->jobs[i].ids.n - (s->state_load ? 0 : p->jobs[i].reused);
    remark("prompt: %lld tokens in %.2f s, %lld reused; made: %lld tokens in %.2f s (%.1f a second)",
           (long long)(prompt > 0 ? prompt : 0), fed - begun, (long long)p->jobs[0].reused, (long long)made, done - fed,
           (double)made / (done > fed ? done - fed : 1));
    const gen *first = &p->jobs[0].gen;
    if (s->state_save && text_state_save(s->state_save, p->engine, first->row, &first->next, first->next >= 0))
        return EXIT_FAILED;
    return EXIT_DONE;
}

static int with_model(program *p) {
    const options *s = p->settings;
    p->jobs = calloc(MAX_TEXTS, sizeof *p->jobs);
    if (!p->jobs) return complain("out of memory"), EXIT_FAILED;
    int rc = add_jobs(p);
    if (!rc) rc = text_grammar(s, &p->grammar);
    if (!rc && p->n > 1 && (s->state_save || s->state_load))
        rc = (complain("text generate: --state-save and --state-load are for one text"), EXIT_USAGE);
    if (rc) return rc;
    p->stream = p->n == 1 && s->text_format == TEXT_PLAIN;
    p->engine = engine_open(&p->rt, p->n, 0);
    if (p->engine && (rc = runtime_hold(&p->rt, s->count))) return rc;
    p->out = p->engine ? output_open(s->output) : NULL;
    rc = p->out ? generate(p) : EXIT_FAILED;
    if (p->out && output_close(p->out, rc == EXIT_DONE)) rc = EXIT_FAILED;
    return rc;
}

int run_text_generate(const options *settings) {
    program p = {.settings = settings};
    int rc = text_open(&p.rt, settings);
    if (rc) return rc;
    rc = with_model(&p);
    for (int64_t i = 0; p.jobs && i < p.n; i++) {
        gen_end(&p.jobs[i].gen);
        text_ids_free(&p.jobs[i].ids);
        free(p.jobs[i].text);
    }
    free(p.jobs);
    free(p.file);
    grammar_free(p.grammar);
    engine_close(p.engine);
    runtime_close(&p.rt);
    return rc;
}

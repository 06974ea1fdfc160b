/* chat.c - `strand text chat`: a conversation, whose state is kept so that a turn costs only its own tokens; and prompts from
 * messages.
 *
 * After each turn the tokens that the row has seen are compared with those of the next prompt: what is the same from the
 * beginning is not run again, from a snapshot where a model cannot step back. */
#include "chat.h"

#include "commands.h"
#include "escape.h"
#include "gen.h"
#include "output.h"
#include "progress.h"
#include "template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LINE ((size_t)1 << 20)

int chat_add(chat *c, const char *role, const char *content, size_t n) {
    if (c->n == c->room) {
        int room = c->room ? 2 * c->room : 16;
        chat_message *more = realloc(c->items, (size_t)room * sizeof *more);
        if (!more) return complain("out of memory"), -1;
        c->items = more;
        c->room = room;
    }
    chat_message *m = &c->items[c->n];
    m->role = strdup(role);
    m->content = malloc(n + 1);
    if (!m->role || !m->content) return free(m->role), free(m->content), complain("out of memory"), -1;
    memcpy(m->content, content, n);
    m->content[n] = 0;
    c->n++;
    return 0;
}

void chat_free(chat *c) {
    for (int i = 0; i < c->n; i++) free(c->items[i].role), free(c->items[i].content);
    free(c->items);
    *c = (chat){0};
}

/* ---- prompts ---- */

static void put_json(FILE *f, const char *text, size_t n) {
    fputc('"', f);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static const char *content_text(const value *m, size_t *n) {
    const value *v = value_get(m, "content");
    if (v && v->type == VALUE_LIST) /* parts; the first text */
        for (const value *x = v->first; x; x = x->next)
            if (!strcmp(value_text(x, "type", ""), "text")) {
                v = value_get(x, "text");
                break;
            }
    *n = v && v->type == VALUE_TEXT ? v->n : 0;
    return v && v->type == VALUE_TEXT ? v->text : "";
}

/* Without a template: "role: content" in paragraphs. */
static char *plain(const value *messages, size_t *n, const char **stop, char *why, size_t why_size) {
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    for (const value *m = f && messages ? messages->first : NULL; m; m = m->next) {
        size_t length;
        const char *content = content_text(m, &length), *role = value_text(m, "role", "user");
        if (!strcmp(role, "system"))
            fprintf(f, "%.*s\n\n", (int)length, content);
        else
            fprintf(f, "%s: %.*s\n\n", !strcmp(role, "assistant") ? "Assistant" : "User", (int)length, content);
    }
    if (f) fprintf(f, "Assistant:");
    *stop = "\nUser:";
    if (f && !fclose(f) && text) return text;
    snprintf(why, why_size, "out of memory");
    free(text);
    return NULL;
}

/* {"messages": ..., "add_generation_prompt": true, "bos_token": ...} as the template sees it. */
char *chat_render(const runtime *rt, const char *source, const value *root, size_t *n, const char **stop, char *why,
                  size_t why_size) {
    const value *messages = value_get(root, "messages");
    const char *template = source ? source : strand_tokenizer_fact(rt->model, "chat_template");
    *stop = NULL;
    if (!messages || messages->type != VALUE_LIST) return snprintf(why, why_size, "messages is not a list"), NULL;
    if (!template) return plain(messages, n, stop, why, why_size);
    static const char *const roles[] = {"bos", "eos"};
    char keys[3][24] = {"add_generation_prompt", "bos_token", "eos_token"};
    value extra[3] = {{.type = VALUE_TRUE, .key = keys[0]}};
    for (int i = 0; i < 2; i++) {
        int64_t id = strand_special_token(rt->model, roles[i]);
        const char *name = id >= 0 ? strand_token_name(rt->model, id) : NULL;
        extra[i + 1] = (value){.type = VALUE_TEXT, .key = keys[i + 1], .n = name ? strlen(name) : 0};
        extra[i + 1].text = strdup(name ? name : "");
        if (!extra[i + 1].text) return snprintf(why, why_size, "out of memory"), NULL;
    }
    value context = *root; /* its members behind ours, of which the last of a name counts */
    extra[0].next = &extra[1];
    extra[1].next = &extra[2];
    extra[2].next = root->first;
    context.first = &extra[0];
    char *text = template_render(template, strlen(template), &context, n, why, why_size);
    free(extra[1].text);
    free(extra[2].text);
    return text;
}

char *chat_prompt(const runtime *rt, const char *source, const chat *c, size_t *n, const char **stop, char *why,
                  size_t why_size) {
    char *json = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&json, &size);
    if (!f) return snprintf(why, why_size, "out of memory"), NULL;
    fprintf(f, "{\"messages\":[");
    for (int i = 0; i < c->n; i++) {
        fprintf(f, "%s{\"role\":", i ? "," : "");
        put_json(f, c->items[i].role, strlen(c->items[i].role));
        fprintf(f, ",\"content\":");
        put_json(f, c->items[i].content, strlen(c->items[i].content));
        fprintf(f, "}");
    }
    fprintf(f, "]}");
    value *root = fclose(f) || !json ? NULL : value_parse(json, size, why, why_size);
    char *text = root ? chat_render(rt, source, root, n, stop, why, why_size) : NULL;
    value_free(root);
    free(json);
    return text;
}

/* ---- the command ---- */

typedef struct talk {
    runtime rt;
    const options *settings;
    engine *engine;
    output *out;
    chat chat;
    char *template;
    grammar *grammar;
    sample_rule rule;
    char *answer;
    size_t n_answer, room;
    void *snapshot; /* the state before the last answer */
    size_t snapshot_bytes;
    text_ids snapshot_ids;
} talk;

static int emit(void *user, const char *text, size_t n) {
    talk *t = user;
    if (t->n_answer + n + 1 > t->room) {
        size_t room = 2 * (t->n_answer + n) + 256;
        char *more = realloc(t->answer, room);
        if (!more) return complain("out of memory"), -1;
        t->answer = more;
        t->room = room;
    }
    memcpy(t->answer + t->n_answer, text, n);
    t->n_answer += n;
    t->answer[t->n_answer] = 0;
    return output_write(t->out, text, n) || output_flush(t->out);
}

static int64_t common(const int64_t *a, int64_t n, const int64_t *b, int64_t m) {
    int64_t i = 0;
    while (i < n && i < m && a[i] == b[i]) i++;
    return i;
}

/* The row gets the prompt, from what it has seen already if that is its beginning, else from the snapshot, else anew. */
static int feed(talk *t, const text_ids *prompt) {
    int64_t n, from;
    const int64_t *seen = engine_tokens(t->engine, 0, &n);
    if (!engine_stateful(t->engine) || common(seen, n, prompt->ids, prompt->n) != n || n >= prompt->n) {
        const text_ids *s = &t->snapshot_ids;
        int fits = t->snapshot && s->n < prompt->n && common(s->ids, s->n, prompt->ids, prompt->n) == s->n;
        if (fits ? engine_load(t->engine, 0, t->snapshot, t->snapshot_bytes, s->ids, s->n) : engine_reset(t->engine, 0))
            return -1;
        engine_tokens(t->engine, 0, &n);
    }
    from = n;
    if (engine_feed(t->engine, 0, prompt->ids + from, prompt->n - 1 - from)) return -1;
    if (engine_stateful(t->engine) && prompt->n > 1) {
        free(t->snapshot);
        t->snapshot = engine_save(t->engine, 0, &t->snapshot_bytes);
        t->snapshot_ids.n = 0;
        if (!t->snapshot || text_ids_add(&t->snapshot_ids, prompt->ids, prompt->n - 1)) return -1;
    }
    if (engine_feed(t->engine, 0, prompt->ids + prompt->n - 1, 1)) return -1;
    remark("%lld of %lld tokens of the prompt were run, the others kept", (long long)(prompt->n - from), (long long)prompt->n);
    return 0;
}

static int answer(talk *t) {
    char why[256] = "";
    size_t n;
    const char *stop, *stops[17];
    char *text = chat_prompt(&t->rt, t->template, &t->chat, &n, &stop, why, sizeof why);
    if (!text) return complain("%s", why), -1;
    text_ids prompt = {0};
    /* A template writes the token that begins texts itself; the plain form does not. */
    int bad = stop ? text_prompt(&t->rt, text, n, 0, &prompt) : text_encode(&t->rt, text, n, STRAND_ENCODE_SPECIAL, &prompt);
    free(text);
    if (!bad && !prompt.n) bad = text_prompt(&t->rt, "", 0, 0, &prompt);
    if (!bad) bad = feed(t, &prompt);
    text_ids_free(&prompt);
    if (bad) return -1;
    const options *s = t->settings;
    gen g = {.rt = &t->rt,
             .most = s->count,
             .context = text_context(&t->rt),
             .goes_on = stop == NULL,
             .emit = emit,
             .user = t,
             .stops = stops};
    for (int i = 0; i < s->stops.n && i < 16; i++) stops[g.n_stops++] = s->stops.items[i];
    if (stop) stops[g.n_stops++] = stop;
    sampler_init(&g.sampler, &t->rule);
    t->rule.seed++;
    if (t->grammar && !(g.grammar = grammar_start(t->grammar, why, sizeof why))) return complain("%s", why), -1;
    gen_begin(&g);
    t->n_answer = 0;
    gen *list[1] = {&g};
    bad = gen_run(list, 1, t->engine) || output_printf(t->out, "\n") || output_flush(t->out);
    gen_end(&g);
    return bad ? -1 : chat_add(&t->chat, "assistant", t->answer ? t->answer : "", t->n_answer);
}

/* A line of a person's; 1: the end. */
static int ask(talk *t, char **line, size_t *room) {
    int person = isatty(0) && !t->settings->quiet;
    if (person) fprintf(stderr, "> "), fflush(stderr);
    signals_waiting(1);
    ssize_t n = getline(line, room, stdin);
    signals_waiting(0);
    if (n <= 0 || interrupted()) return 1;
    while (n && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r')) n--;
    if ((size_t)n > MAX_LINE) return complain("a line of more than %zu bytes", MAX_LINE), -1;
    return n ? chat_add(&t->chat, "user", *line, (size_t)n) : 2;
}

static int converse(talk *t) {
    const options *s = t->settings;
    int bad = s->system ? chat_add(&t->chat, "system", s->system, strlen(s->system)) : 0;
    for (int i = 0; i < s->prompts.n && !bad; i++)
        bad = chat_add(&t->chat, "user", s->prompts.items[i], strlen(s->prompts.items[i])) || answer(t);
    char *line = NULL;
    size_t room = 0;
    for (int got = 0; !bad && !s->prompts.n && got != 1;) {
        got = ask(t, &line, &room);
        bad = got < 0 || (got == 0 && answer(t));
    }
    free(line);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

int run_text_chat(const options *settings) {
    talk t = {.settings = settings};
    int rc = text_open(&t.rt, settings);
    size_t n = 0;
    if (rc) return rc;
    rc = text_rule(settings, &t.rule);
    if (!rc) rc = text_grammar(settings, &t.grammar);
    if (!rc && settings->chat_template)
        rc = text_read(settings->chat_template, (size_t)1 << 20, &t.template, &n) ? EXIT_FAILED : 0;
    if (t.template) {
        char *ended = realloc(t.template, n + 1);
        if (ended)
            t.template = ended, ended[n] = 0;
        else
            rc = (complain("out of memory"), EXIT_FAILED);
    }
    if (!rc && !(t.engine = engine_open(&t.rt, 1, 0))) rc = EXIT_FAILED;
    if (!rc) rc = runtime_hold(&t.rt, -1);
    if (!rc && !(t.out = output_open(settings->output))) rc = EXIT_FAILED;
    if (!rc) rc = converse(&t);
    if (t.out && output_close(t.out, rc == EXIT_DONE)) rc = EXIT_FAILED;
    engine_close(t.engine);
    grammar_free(t.grammar);
    chat_free(&t.chat);
    free(t.template);
    free(t.answer);
    free(t.snapshot);
    text_ids_free(&t.snapshot_ids);
    runtime_close(&t.rt);
    return rc;
}

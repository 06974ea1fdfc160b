/* request.c - requests of the OpenAI form to jobs; answer.c makes the answers. What a request asks for and the server does
 * not do is refused by name: an answer that only looks as asked would be worse. */
#include "server.h"

#include "chat.h"
#include "schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_STOPS 16
#define DEFAULT_MADE 1024 /* of chats, where the model has no end of its own */

typedef struct reading {
    server *s;
    request *r;
    const value *body;
    char *why;
    size_t why_size;
    int status;
} reading;

static int refuse(reading *x, int status, const char *format, ...) PRINTF_LIKE(3, 4);

static int refuse(reading *x, int status, const char *format, ...) {
    va_list args;
    if (x->status) return -1;
    x->status = status;
    va_start(args, format);
    vsnprintf(x->why, x->why_size, format, args);
    va_end(args);
    return -1;
}

/* ---- jobs ---- */

static job *add_job(reading *x) {
    if (x->r->n == REQUEST_MOST_JOBS) return refuse(x, 400, "more than %d texts in one request", REQUEST_MOST_JOBS), NULL;
    job *j = calloc(1, sizeof *j);
    if (!j) return refuse(x, 500, "out of memory"), NULL;
    j->request = x->r;
    x->r->jobs[x->r->n++] = j;
    return j;
}

static void free_job(job *j) {
    text_ids_free(&j->prompt);
    for (int i = 0; i < j->n_stops; i++) free(j->stops[i]);
    free(j->stops);
    buffer_free(&j->text);
    free(j->vector);
    free(j);
}

static void free_request(request *r) {
    for (int i = 0; i < r->n; i++) free_job(r->jobs[i]);
    grammar_free(r->grammar);
    pthread_cond_destroy(&r->changed);
    free(r);
}

void request_unref(request *r) {
    if (--r->refs == 0) free_request(r);
}

void request_leave(request *r) {
    server *s = r->server;
    pthread_mutex_lock(&s->lock);
    r->cancelled = 1;
    pthread_cond_signal(&s->wake);
    request_unref(r);
    pthread_mutex_unlock(&s->lock);
}

/* ---- reading ---- */

static int has(const value *object, const char *key) {
    const value *v = value_get(object, key);
    return v && v->type != VALUE_NULL;
}

/* A number within [low, high]. */
static double number(reading *x, const char *key, double fallback, double low, double high) {
    const value *v = value_get(x->body, key);
    if (!v || v->type == VALUE_NULL) return fallback;
    if (v->type != VALUE_NUMBER || !(v->number >= low && v->number <= high))
        return refuse(x, 400, "'%s' is not a number from %g to %g", key, low, high), fallback;
    return v->number;
}

static int64_t integer(reading *x, const char *key, int64_t fallback, double low, double high) {
    double v = number(x, key, (double)fallback, low, high);
    if (v != floor(v)) return refuse(x, 400, "'%s' is not a whole number", key), fallback;
    return (int64_t)v;
}

static int read_rule(reading *x, sample_rule *rule) {
    sample_rule_init(rule);
    rule->temperature = number(x, "temperature", 1, 0, 100);
    rule->top_p = number(x, "top_p", 1, 0, 1);
    rule->top_k = integer(x, "top_k", 0, 0, 1e9);
    rule->min_p = number(x, "min_p", 0, 0, 1);
    rule->presence = number(x, "presence_penalty", 0, -2, 2);
    rule->frequency = number(x, "frequency_penalty", 0, -2, 2);
    rule->repeat = number(x, has(x->body, "repetition_penalty") ? "repetition_penalty" : "repeat_penalty", 1, 1e-3, 1e3);
    rule->last = -1;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    rule->seed = (uint64_t)integer(x, "seed", (int64_t)t.tv_nsec ^ (int64_t)t.tv_sec << 20, -9e15, 9e18);
    const char *wrong = sample_rule_wrong(rule);
    return wrong ? refuse(x, 400, "%s", wrong) : x->status ? -1 : 0;
}

static int add_stop(reading *x, job *j, const value *v) {
    if (v->type != VALUE_TEXT || !v->n || strlen(v->text) != v->n)
        return refuse(x, 400, "'stop' holds something that is no text");
    if (j->n_stops == MOST_STOPS) return refuse(x, 400, "more than %d stop texts", MOST_STOPS);
    char **more = realloc(j->stops, ((size_t)j->n_stops + 1) * sizeof *more);
    if (!more) return refuse(x, 500, "out of memory");
    j->stops = more;
    if (!(j->stops[j->n_stops] = strdup(v->text))) return refuse(x, 500, "out of memory");
    j->n_stops++;
    return 0;
}

static int read_stops(reading *x, job *j) {
    const value *v = value_get(x->body, "stop");
    if (!v || v->type == VALUE_NULL) return 0;
    if (v->type != VALUE_LIST) return add_stop(x, j, v);
    for (const value *e = v->first; e; e = e->next)
        if (add_stop(x, j, e)) return -1;
    return 0;
}

/* A value that was read, as JSON again. Its depth is bounded by the reader. */
static void write_value(buffer *b, const value *v) {
    static const char *const words[] = {[VALUE_NULL] = "null", [VALUE_FALSE] = "false", [VALUE_TRUE] = "true"};
    if (v->type <= VALUE_TRUE) buffer_text(b, words[v->type]);
    if (v->type == VALUE_NUMBER) buffer_put(b, v->text, v->n);
    if (v->type == VALUE_TEXT) buffer_json(b, v->text, v->n);
    if (v->type < VALUE_LIST) return;
    buffer_text(b, v->type == VALUE_LIST ? "[" : "{");
    for (const value *e = v->first; e; e = e->next) {
        if (e != v->first) buffer_text(b, ",");
        if (v->type == VALUE_OBJECT) {
            buffer_json(b, e->key, strlen(e->key));
            buffer_text(b, ":");
        }
        write_value(b, e);
    }
    buffer_text(b, v->type == VALUE_LIST ? "]" : "}");
}

/* response_format, or a grammar in GBNF under "grammar". */
static int read_grammar(reading *x) {
    const value *format = value_get(x->body, "response_format"), *given = value_get(x->body, "grammar");
    const char *type = value_text(format, "type", "text");
    char *text = NULL, why[200] = "";
    if (given && given->type == VALUE_TEXT) {
        x->r->grammar = grammar_parse(given->text, given->n, why, sizeof why);
        return x->r->grammar ? 0 : refuse(x, 400, "'grammar': %s", why);
    }
    if (!format || format->type == VALUE_NULL || !strcmp(type, "text")) return 0;
    if (!strcmp(type, "json_object")) {
        text = schema_to_grammar("{\"type\":\"object\"}", 17, why, sizeof why);
    } else if (!strcmp(type, "json_schema")) {
        const value *schema = value_get(value_get(format, "json_schema"), "schema");
        buffer b = {0};
        if (!schema) return refuse(x, 400, "'response_format' has no json_schema.schema");
        write_value(&b, schema);
        if (!b.failed) text = schema_to_grammar(b.data, b.n, why, sizeof why);
        buffer_free(&b);
    } else {
        return refuse(x, 400, "'response_format' is of an unknown type; text, json_object and json_schema are known");
    }
    if (!text) return refuse(x, 400, "'response_format': %s", *why ? why : "out of memory");
    x->r->grammar = grammar_parse(text, strlen(text), why, sizeof why);
    free(text);
    return x->r->grammar ? 0 : refuse(x, 400, "'response_format': %s", why);
}

/* Members that would change the answer and are not understood. */
static int check_members(reading *x) {
    static const char *const never[] = {"logprobs",   "top_logprobs", "tools", "tool_choice", "functions",
                                        "logit_bias", "suffix",       "audio", "modalities",  "best_of"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        const value *v = value_get(x->body, never[i]);
        int harmless = !v || v->type == VALUE_NULL || v->type == VALUE_FALSE || (v->type == VALUE_LIST && !v->first) ||
                       (v->type == VALUE_OBJECT && !v->first) ||
                       (v->type == VALUE_NUMBER && (v->number == 0 || (v->number == 1 && !strcmp(never[i], "best_of")))) ||
                       (v->type == VALUE_TEXT && (!v->n || !strcmp(v->text, "none")));
        if (!harmless) return refuse(x, 400, "'%s' is not supported by this server", never[i]);
    }
    return 0;
}

/* Encodes with the tokenizer's lock held: a failure leaves its line in the context. */
static int encode(reading *x, job *j, const char *text, size_t n, uint32_t flags) {
    pthread_mutex_lock(&x->s->tokens);
    int bad = text_prompt(&x->s->rt, text, n, flags, &j->prompt);
    pthread_mutex_unlock(&x->s->tokens);
    return bad ? refuse(x, 400, "the text could not be made into tokens") : 0;
}

static int take_ids(reading *x, job *j, const value *list) {
    for (const value *e = list->first; e; e = e->next) {
        int64_t id =
            e->type == VALUE_NUMBER && e->number >= 0 && e->number < (double)x->s->vocabulary ? (int64_t)e->number : -1;
        if (id < 0 || (double)id != e->number)
            return refuse(x, 400, "a prompt of ids holds something that is no token of the model");
        if (text_ids_add(&j->prompt, &id, 1)) return refuse(x, 500, "out of memory");
    }
    return j->prompt.n ? 0 : refuse(x, 400, "a prompt of ids is empty");
}

/* Everything but the prompt of a job that makes text. */
static int finish_job(reading *x, job *j, int index, int64_t most) {
    server *s = x->s;
    if (read_rule(x, &j->rule) || read_stops(x, j)) return -1;
    j->rule.seed += (uint64_t)index;
    int64_t room = s->context - j->prompt.n;
    if (j->prompt.n > s->settings->max_prompt)
        return refuse(x, 400, "the prompt has %lld tokens, the server takes %lld", (long long)j->prompt.n,
                      (long long)s->settings->max_prompt);
    if (most > s->settings->count) most = s->settings->count;
    if (room < 1)
        return refuse(x, 400, "the prompt has %lld tokens, the model's context is %lld", (long long)j->prompt.n,
                      (long long)s->context);
    j->most = most < room ? most : room;
    j->ignore_end = value_true(x->body, "ignore_eos", 0);
    return 0;
}

static int copy_ids(reading *x, job *to, const job *from) {
    return text_ids_add(&to->prompt, from->prompt.ids, from->prompt.n) ? refuse(x, 500, "out of memory") : 0;
}

/* n choices of one prompt. */
static int choices(reading *x, const value *prompt, int64_t n, int64_t most, int echo) {
    job *first = NULL;
    for (int64_t i = 0; i < n; i++) {
        job *j = add_job(x);
        if (!j) return -1;
        int bad = first                        ? copy_ids(x, j, first)
                  : prompt->type == VALUE_LIST ? take_ids(x, j, prompt)
                                               : encode(x, j, prompt->text, prompt->n, 0);
        if (bad || finish_job(x, j, x->r->n - 1, most)) return -1;
        if (echo && prompt->type == VALUE_TEXT) buffer_put(&j->text, prompt->text, prompt->n);
        if (!first) first = j;
    }
    return 0;
}

static int read_completion(reading *x) {
    const value *prompt = value_get(x->body, "prompt");
    int64_t n = integer(x, "n", 1, 1, REQUEST_MOST_JOBS), most = integer(x, "max_tokens", 16, 0, 1e9);
    int echo = value_true(x->body, "echo", 0);
    if (x->status) return -1;
    if (!prompt || (prompt->type != VALUE_TEXT && prompt->type != VALUE_LIST))
        return refuse(x, 400, "'prompt' must be a text, a list of texts, or token ids");
    int many =
        prompt->type == VALUE_LIST && prompt->first && (prompt->first->type == VALUE_TEXT || prompt->first->type == VALUE_LIST);
    if (!many) return choices(x, prompt, n, most, echo);
    for (const value *e = prompt->first; e; e = e->next) {
        if (e->type != VALUE_TEXT && e->type != VALUE_LIST)
            return refuse(x, 400, "'prompt' must be a text, a list of texts, or token ids");
        if (choices(x, e, n, most, echo)) return -1;
    }
    return 0;
}

/* A message's content may be a list of parts; only those of text are understood. */
static int check_messages(reading *x, const value *messages) {
    if (!messages || messages->type != VALUE_LIST || !messages->first)
        return refuse(x, 400, "'messages' must be a list of messages");
    for (const value *m = messages->first; m; m = m->next) {
        const value *content = value_get(m, "content");
        if (m->type != VALUE_OBJECT || !value_text(m, "role", NULL)) return refuse(x, 400, "a message has no role");
        if (content && content->type == VALUE_LIST)
            for (const value *part = content->first; part; part = part->next)
                if (strcmp(value_text(part, "type", ""), "text") != 0)
                    return refuse(x, 400, "a message holds a part that is not text");
    }
    return 0;
}

/* The content of parts, joined; the caller writes it as one JSON text. */
static void write_content(buffer *b, const value *content) {
    if (content && content->type == VALUE_LIST) {
        buffer joined = {0};
        for (const value *part = content->first; part; part = part->next) {
            const value *text = value_get(part, "text");
            if (text && text->type == VALUE_TEXT) buffer_put(&joined, text->text, text->n);
        }
        buffer_json(b, joined.data ? joined.data : "", joined.n);
        buffer_free(&joined);
    } else {
        buffer_json(b, content && content->type == VALUE_TEXT ? content->text : "",
                    content && content->type == VALUE_TEXT ? content->n : 0);
    }
}

/* {"messages": [...]} with each content one text; nothing else of the request reaches the template. */
static value *plain_messages(reading *x, const value *messages) {
    buffer b = {0};
    char why[160];
    buffer_text(&b, "{\"messages\":[");
    for (const value *m = messages->first; m; m = m->next) {
        const char *role = value_text(m, "role", "");
        buffer_text(&b, m == messages->first ? "{\"role\":" : ",{\"role\":");
        buffer_json(&b, role, strlen(role));
        buffer_text(&b, ",\"content\":");
        write_content(&b, value_get(m, "content"));
        buffer_text(&b, "}");
    }
    buffer_text(&b, "]}");
    value *v = b.failed ? NULL : value_parse(b.data, b.n, why, sizeof why);
    buffer_free(&b);
    if (!v) refuse(x, 500, "out of memory");
    return v;
}

static int read_chat(reading *x) {
    server *s = x->s;
    const value *messages = value_get(x->body, "messages");
    int64_t n = integer(x, "n", 1, 1, REQUEST_MOST_JOBS), most = integer(x, "max_tokens", DEFAULT_MADE, 0, 1e9);
    most = integer(x, "max_completion_tokens", most, 0, 1e9);
    if (x->status || check_messages(x, messages)) return -1;
    value *root = plain_messages(x, messages);
    if (!root) return -1;
    char why[200] = "";
    size_t length;
    const char *stop; /* of the plain form, which stands in where there is no template */
    char *text = chat_render(&s->rt, s->template, root, &length, &stop, why, sizeof why);
    value_free(root);
    if (!text) return refuse(x, 400, "the chat template cannot take these messages: %s", why);
    /* The template writes the token that begins texts itself, if the model has one. */
    job *first = NULL;
    int bad = 0;
    for (int64_t i = 0; i < n && !bad; i++) {
        job *j = add_job(x);
        bad = !j || (first ? copy_ids(x, j, first) : encode(x, j, text, length, STRAND_ENCODE_SPECIAL)) ||
              finish_job(x, j, (int)i, most);
        if (!bad && stop) bad = add_stop(x, j, &(value){.type = VALUE_TEXT, .text = (char[]){"\nUser:"}, .n = 6});
        if (!first) first = j;
    }
    free(text);
    return bad ? -1 : 0;
}

static int read_embedding(reading *x) {
    const value *input = value_get(x->body, "input");
    const char *format = value_text(x->body, "encoding_format", "float");
    if (!input || (input->type != VALUE_TEXT && input->type != VALUE_LIST))
        return refuse(x, 400, "'input' must be a text, a list of texts, or token ids");
    if (has(x->body, "dimensions")) return refuse(x, 400, "'dimensions' is not supported by this server");
    if (strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        return refuse(x, 400, "'encoding_format' is float or base64");
    x->r->base64 = format[0] == 'b';
    int many = input->type == VALUE_LIST && input->first && input->first->type != VALUE_NUMBER;
    const value *e = many ? input->first : input;
    for (; e; e = many ? e->next : NULL) {
        job *j = add_job(x);
        if (!j) return -1;
        if (e->type == VALUE_LIST   ? take_ids(x, j, e)
            : e->type != VALUE_TEXT ? refuse(x, 400, "'input' holds something that is no text")
                                    : encode(x, j, e->text, e->n, 0))
            return -1;
        if (j->prompt.n > x->s->context)
            return refuse(x, 400, "a text has %lld tokens, the model's context is %lld", (long long)j->prompt.n,
                          (long long)x->s->context);
    }
    return x->r->n ? 0 : refuse(x, 400, "'input' is empty");
}

static void name_request(request *r) {
    static const char *const kinds[] = {"cmpl", "chatcmpl", "embd"};
    static _Atomic uint64_t count;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    r->created = (int64_t)t.tv_sec;
    snprintf(r->id, sizeof r->id, "%s-%llx%08lx%llx", kinds[r->kind], (unsigned long long)t.tv_sec, (unsigned long)t.tv_nsec,
             (unsigned long long)count++);
}

request *request_read(server *s, job_kind kind, const char *body, size_t n, int *status, char *why, size_t why_size) {
    char wrong[160] = "";
    value *v = value_parse(body ? body : "", n, wrong, sizeof wrong);
    *status = 400;
    if (!v) return snprintf(why, why_size, "the body is no JSON: %s", wrong), NULL;
    request *r = calloc(1, sizeof *r);
    if (!r) return value_free(v), *status = 500, snprintf(why, why_size, "out of memory"), NULL;
    r->server = s;
    r->kind = kind;
    r->refs = 1;
    r->arrived = server_now();
    r->deadline = r->arrived + s->settings->time_limit;
    pthread_cond_init(&r->changed, NULL);
    name_request(r);
    reading x = {s, r, v, why, why_size, 0};
    if (v->type != VALUE_OBJECT) refuse(&x, 400, "the body is no JSON object");
    r->stream = kind != JOB_EMBEDDING && value_true(v, "stream", 0);
    r->usage = value_true(value_get(v, "stream_options"), "include_usage", 0);
    if (!x.status && kind != JOB_EMBEDDING && !check_members(&x)) read_grammar(&x);
    if (!x.status && kind == JOB_CHAT) read_chat(&x);
    if (!x.status && kind == JOB_COMPLETION) read_completion(&x);
    if (!x.status && kind == JOB_EMBEDDING) read_embedding(&x);
    value_free(v);
    if (!x.status) return r;
    *status = x.status;
    free_request(r);
    return NULL;
}

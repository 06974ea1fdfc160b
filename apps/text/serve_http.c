/* serve_http.c - the HTTP side of `strand serve`: routes, limits, requests in and answers out. See serve.h.
 *
 * A connection has a thread (libmicrohttpd). Bodies are collected up to --max-body and parsed as JSON of bounded depth. A streamed answer
 * is read piece by piece from its request's events; a client that leaves is noticed there, and its texts end. Only local
 * addresses are answered unless --host says otherwise, and then a Host header of another name is refused, so that no page of the
 * web can reach the server through a name that it controls. */
#include "serve.h"

#include "chat.h"
#include "progress.h"
#include "schema.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CHOICES 16
#define WHY 300

/* What a connection is at. */
typedef struct exchange {
    char *body;
    size_t n, room;
    int too_long;
} exchange;

/* Text that grows; `bad` after memory ran out. */
typedef struct text {
    char *at;
    size_t n;
    FILE *f;
} text;

static void text_open_stream(text *t) {
    *t = (text){0};
    t->f = open_memstream(&t->at, &t->n);
}

static int text_end(text *t) {
    return !t->f || fclose(t->f) || !t->at ? -1 : 0;
}

static void json_text(FILE *f, const char *s, size_t n) {
    if (!f) return;
    fputc('"', f);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", f);
        else if (c < 32)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

/* ---- answers ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const char *type, char *data, size_t n) {
    struct MHD_Response *r = MHD_create_response_from_buffer(n, data, MHD_RESPMEM_MUST_FREE);
    if (!r) return free(data), MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (status == 401) MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    if (status == 429 || status == 503) MHD_add_response_header(r, "Retry-After", "1");
    enum MHD_Result got = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return got;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *kind, const char *why) {
    text t;
    text_open_stream(&t);
    if (t.f) fputs("{\"error\":{\"message\":", t.f);
    json_text(t.f, why, strlen(why));
    if (t.f) fprintf(t.f, ",\"type\":\"%s\",\"param\":null,\"code\":null}}\n", kind);
    return text_end(&t) ? MHD_NO : answer(c, status, "application/json", t.at, t.n);
}

static enum MHD_Result bad_request(struct MHD_Connection *c, const char *why) {
    return refuse(c, 400, "invalid_request_error", why);
}

/* ---- who may ask ---- */

static int same_secret(const char *a, const char *b) { /* in a time that does not tell where they differ */
    size_t n = strlen(a), m = strlen(b);
    unsigned char differ = n != m;
    for (size_t i = 0; i < n; i++) differ |= (unsigned char)(a[i] ^ b[m ? i % m : 0]);
    return !differ;
}

static int is_local_name(const char *host, size_t n) {
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < 3; i++)
        if (strlen(names[i]) == n && !strncasecmp(names[i], host, n)) return 1;
    return 0;
}

/* Without the port. */
static size_t host_length(const char *host) {
    const char *end = *host == '[' ? strchr(host, ']') : NULL;
    return end ? (size_t)(end - host) + 1 : strcspn(host, ":");
}

static int allowed_host(const server *s, const char *host) {
    if (!host) return 0;
    size_t n = host_length(host);
    if (is_local_name(host, n)) return 1;
    for (int i = 0; i < s->settings->hosts.n; i++)
        if (strlen(s->settings->hosts.items[i]) == n && !strncasecmp(host, s->settings->hosts.items[i], n)) return 1;
    if (s->settings->host && s->settings->api_key && !s->settings->hosts.n) return 1; /* the key keeps pages of the web out */
    return s->settings->host && strlen(s->settings->host) == n && !strncasecmp(host, s->settings->host, n);
}

/* A page of another place may not ask, unless --origin names it. */
static int allowed_origin(const server *s, const char *origin) {
    if (!origin || !*origin) return 1;
    for (int i = 0; i < s->settings->origins.n; i++)
        if (!strcmp(origin, s->settings->origins.items[i])) return 1;
    const char *host = !strncmp(origin, "http://", 7) ? origin + 7 : !strncmp(origin, "https://", 8) ? origin + 8 : NULL;
    return host && allowed_host(s, host);
}

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* 0, or the answer was given in *got. */
static int guard(server *s, struct MHD_Connection *c, const char *url, enum MHD_Result *got) {
    const char *key = s->settings->api_key, *given = header(c, "Authorization");
    if (!allowed_host(s, header(c, "Host"))) return *got = refuse(c, 403, "permission_error", "this Host is not answered (see --allow-host)"), 1;
    if (!allowed_origin(s, header(c, "Origin"))) return *got = refuse(c, 403, "permission_error", "this Origin is not answered (see --origin)"), 1;
    if (key && strcmp(url, "/health") && strcmp(url, "/") && (!given || strncmp(given, "Bearer ", 7) || !same_secret(given + 7, key)))
        return *got = refuse(c, 401, "authentication_error", "a key is needed: Authorization: Bearer KEY"), 1;
    return 0;
}

/* ---- requests ---- */

typedef struct reading {
    server *s;
    const value *root;
    request *r;
    char *why; /* WHY bytes */
    unsigned status;
} reading;

static int wrong(reading *x, unsigned status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
static int wrong(reading *x, unsigned status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(x->why, WHY, format, args);
    va_end(args);
    x->status = status;
    return -1;
}

static double number_of(const value *root, const char *key, double fallback) {
    return value_number(root, key, fallback);
}

static int read_rule(reading *x, sample_rule *rule) {
    const value *root = x->root;
    *rule = (sample_rule){.temperature = number_of(root, "temperature", 1), .top_p = number_of(root, "top_p", 1), .min_p = number_of(root, "min_p", 0),
                          .repeat = number_of(root, "repetition_penalty", 1), .presence = number_of(root, "presence_penalty", 0),
                          .frequency = number_of(root, "frequency_penalty", 0), .last = -1};
    double k = number_of(root, "top_k", 0), seed = number_of(root, "seed", -1);
    if (!(k >= -1 && k <= 1e9)) return wrong(x, 400, "top_k is out of its range");
    rule->top_k = k > 0 ? (int64_t)k : 0;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    rule->seed = seed >= 0 && seed < 1.8e19 ? (uint64_t)seed : (uint64_t)t.tv_nsec * 2654435761u ^ (uint64_t)t.tv_sec;
    const char *bad = sample_rule_wrong(rule);
    return bad ? wrong(x, 400, "%s", bad) : 0;
}

static int add_stop(reading *x, const value *v) {
    if (v->type != VALUE_TEXT || !v->n || v->n > 256) return wrong(x, 400, "stop must be texts of 1 to 256 bytes");
    if (x->r->n_stops == 15) return wrong(x, 400, "more than 15 stop strings");
    char *copy = strdup(v->text);
    if (!copy) return wrong(x, 500, "out of memory");
    x->r->stops[x->r->n_stops++] = copy;
    return 0;
}

static int read_stops(reading *x) {
    const value *v = value_get(x->root, "stop");
    if (!v || v->type == VALUE_NULL) return 0;
    if (v->type != VALUE_LIST) return add_stop(x, v);
    for (v = v->first; v; v = v->next)
        if (add_stop(x, v)) return -1;
    return 0;
}

/* The text of a JSON value again, for a schema. */
static void put_value(FILE *f, const value *v) {
    static const char *const words[] = {"null", "false", "true"};
    if (v->type <= VALUE_TRUE) {
        fputs(words[v->type], f);
    } else if (v->type == VALUE_NUMBER) {
        fputs(v->text, f);
    } else if (v->type == VALUE_TEXT) {
        json_text(f, v->text, v->n);
    } else {
        fputc(v->type == VALUE_LIST ? '[' : '{', f);
        for (const value *c = v->first; c; c = c->next) {
            if (c != v->first) fputc(',', f);
            if (v->type == VALUE_OBJECT) json_text(f, c->key, strlen(c->key)), fputc(':', f);
            put_value(f, c);
        }
        fputc(v->type == VALUE_LIST ? ']' : '}', f);
    }
}

static int read_grammar(reading *x) {
    const value *format = value_get(x->root, "response_format"), *source = value_get(x->root, "grammar"), *schema = NULL;
    const char *type = value_text(format, "type", "text");
    char why[WHY - 40] = "", *made = NULL;
    if (source && source->type == VALUE_TEXT) {
        x->r->grammar = grammar_parse(source->text, source->n, why, sizeof why);
        return x->r->grammar ? 0 : wrong(x, 400, "%s", why);
    }
    if (!strcmp(type, "text")) return 0;
    if (strcmp(type, "json_object") && strcmp(type, "json_schema")) return wrong(x, 400, "response_format of this type is not supported");
    if (!strcmp(type, "json_schema")) {
        const value *outer = value_get(format, "json_schema");
        schema = value_get(outer, "schema");
        if (!schema) return wrong(x, 400, "response_format.json_schema has no schema");
        text t;
        text_open_stream(&t);
        if (t.f) put_value(t.f, schema);
        if (text_end(&t)) return wrong(x, 500, "out of memory");
        made = schema_to_grammar(t.at, t.n, why, sizeof why);
        free(t.at);
    } else {
        made = schema_to_grammar("{\"type\":\"object\"}", 17, why, sizeof why);
    }
    if (made) x->r->grammar = grammar_parse(made, strlen(made), why, sizeof why);
    free(made);
    return x->r->grammar ? 0 : wrong(x, 400, "%s", why);
}

/* The prompt `i` of the request as tokens: a text, or a list of ids. */
static int encode(reading *x, job *j, const value *v) {
    int bad;
    if (v->type == VALUE_TEXT) {
        bad = text_prompt(&x->s->rt, v->text, v->n, 0, &j->prompt);
        j->goes_on = v->n > 0;
    } else {
        bad = 0;
        j->goes_on = 1;
        for (const value *id = v->first; id && !bad; id = id->next) {
            int64_t n = id->type == VALUE_NUMBER ? (int64_t)id->number : -1;
            if (n < 0 || n >= engine_vocabulary(x->s->engine)) return wrong(x, 400, "a token of the prompt is none of the model's");
            bad = text_ids_add(&j->prompt, &n, 1);
        }
    }
    if (bad || !j->prompt.n) return wrong(x, 400, "the prompt cannot be read as tokens, or is empty");
    if (j->prompt.n >= x->s->context || j->prompt.n > x->s->settings->max_prompt)
        return wrong(x, 400, "the prompt has %lld tokens; there is room for %lld", (long long)j->prompt.n, (long long)(x->s->context < x->s->settings->max_prompt ? x->s->context - 1 : x->s->settings->max_prompt));
    return 0;
}

static int make_jobs(reading *x, int n) {
    x->r->jobs = calloc((size_t)n, sizeof *x->r->jobs);
    if (!x->r->jobs) return wrong(x, 500, "out of memory");
    x->r->n_jobs = n;
    for (int i = 0; i < n; i++) x->r->jobs[i].request = x->r, x->r->jobs[i].index = i;
    return 0;
}

/* Everything that a text needs but its prompt, the same for all. */
static int fill_jobs(reading *x) {
    sample_rule rule;
    double most = number_of(x->root, "max_completion_tokens", number_of(x->root, "max_tokens", x->r->kind == REQUEST_CHAT ? (double)x->s->settings->count : 16));
    if (!(most >= 1 && most <= 1e9)) return wrong(x, 400, "max_tokens must be 1 or more");
    if ((int64_t)most > x->s->settings->count) most = (double)x->s->settings->count;
    if (read_rule(x, &rule) || read_stops(x) || read_grammar(x)) return -1;
    if (x->r->grammar) { /* refuses here what cannot be followed */
        char why[WHY - 40];
        grammar_state *g = grammar_start(x->r->grammar, why, sizeof why);
        if (!g) return wrong(x, 400, "%s", why);
        grammar_state_free(g);
    }
    for (int i = 0; i < x->r->n_jobs; i++) {
        job *j = &x->r->jobs[i];
        j->rule = rule;
        j->rule.seed += (uint64_t)i;
        j->most = (int64_t)most;
        j->ignore_end = value_true(x->root, "ignore_eos", 0);
    }
    return 0;
}

static int read_count(reading *x, int *n) {
    double count = number_of(x->root, "n", 1);
    if (!(count >= 1 && count <= MAX_CHOICES)) return wrong(x, 400, "n must be from 1 to %d", MAX_CHOICES);
    *n = (int)count;
    return 0;
}

static int read_completion(reading *x) {
    const value *v = value_get(x->root, "prompt");
    int n = 0;
    if (read_count(x, &n)) return -1;
    int many = v && v->type == VALUE_LIST && v->first && v->first->type != VALUE_NUMBER;
    size_t prompts = many ? v->count : 1;
    if (!v || (v->type != VALUE_TEXT && v->type != VALUE_LIST) || prompts * (size_t)n > MAX_CHOICES) return wrong(x, 400, "prompt must be a text, a list of ids, or a few of them");
    if (make_jobs(x, (int)prompts * n)) return -1;
    const value *one = many ? v->first : v;
    for (int i = 0; i < x->r->n_jobs; i++) {
        if (encode(x, &x->r->jobs[i], one)) return -1;
        if (many && i % n == n - 1) one = one->next;
    }
    return fill_jobs(x);
}

static int read_chat(reading *x) {
    char why[WHY - 40] = "";
    size_t length;
    const char *stop;
    int n = 0;
    if (read_count(x, &n) || make_jobs(x, n)) return -1;
    char *prompt = chat_render(&x->s->rt, x->s->template, x->root, &length, &stop, why, sizeof why);
    if (!prompt) return wrong(x, 400, "%s", why);
    int bad = 0;
    for (int i = 0; i < n && !bad; i++) {
        job *j = &x->r->jobs[i];
        bad = stop ? text_prompt(&x->s->rt, prompt, length, 0, &j->prompt) : text_encode(&x->s->rt, prompt, length, STRAND_ENCODE_SPECIAL, &j->prompt);
        if (!bad && !j->prompt.n) bad = text_prompt(&x->s->rt, "", 0, 0, &j->prompt);
        j->goes_on = stop == NULL;
    }
    free(prompt);
    if (bad) return wrong(x, 500, "the prompt cannot be made tokens");
    if (x->r->jobs[0].prompt.n >= x->s->context || x->r->jobs[0].prompt.n > x->s->settings->max_prompt) return wrong(x, 400, "the messages have %lld tokens, more than there is room for", (long long)x->r->jobs[0].prompt.n);
    if (stop && !(x->r->stops[x->r->n_stops++] = strdup(stop))) return wrong(x, 500, "out of memory");
    return fill_jobs(x);
}

static int read_embeddings(reading *x) {
    const value *v = value_get(x->root, "input");
    int many = v && v->type == VALUE_LIST && v->first && v->first->type != VALUE_NUMBER;
    size_t n = many ? v->count : 1;
    if (!v || (v->type != VALUE_TEXT && v->type != VALUE_LIST) || n > 256) return wrong(x, 400, "input must be a text, a list of ids, or at most 256 of them");
    const char *format = value_text(x->root, "encoding_format", "float");
    x->r->base64 = !strcmp(format, "base64");
    if (!x->r->base64 && strcmp(format, "float")) return wrong(x, 400, "encoding_format must be float or base64");
    if (runtime_output(&x->s->rt, "hidden", NULL) < 0) return wrong(x, 400, "this model has no embeddings");
    if (make_jobs(x, (int)n)) return -1;
    x->r->vectors = calloc(n, sizeof *x->r->vectors);
    if (!x->r->vectors) return wrong(x, 500, "out of memory");
    const value *one = many ? v->first : v;
    for (size_t i = 0; i < n; i++, one = many ? one->next : one)
        if (encode(x, &x->r->jobs[i], one)) return -1;
    return 0;
}

static request *read_request(server *s, const value *root, int kind, char *why, unsigned *status) {
    static int (*const readers[])(reading *) = {read_completion, read_chat, read_embeddings};
    static unsigned long serial;
    request *r = calloc(1, sizeof *r);
    reading x = {s, root, r, why, 400};
    if (!r) return wrong(&x, 500, "out of memory"), *status = 500, NULL;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&r->ready, &clock);
    pthread_condattr_destroy(&clock);
    r->kind = kind;
    r->created = (int64_t)time(NULL);
    r->deadline = serve_now() + (double)s->settings->time_limit;
    r->stream = kind != REQUEST_EMBED && value_true(root, "stream", 0);
    r->usage = value_true(value_get(root, "stream_options"), "include_usage", 0);
    pthread_mutex_lock(&s->lock);
    snprintf(r->id, sizeof r->id, "%s-%lx%08lx", kind == REQUEST_CHAT ? "chatcmpl" : "cmpl", (unsigned long)r->created, ++serial);
    pthread_mutex_unlock(&s->lock);
    if (!readers[kind](&x)) return r;
    *status = x.status;
    request_free(r);
    return NULL;
}

/* ---- answers of texts ---- */

static void put_usage(FILE *f, const request *r) {
    fprintf(f, "\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld}}", (long long)r->prompt_tokens, (long long)r->made,
            (long long)(r->prompt_tokens + r->made), (long long)r->reused);
}

static const char *finish_word(const char *finish) {
    return !strcmp(finish, "stop") ? "stop" : "length";
}

static void put_head(FILE *f, const server *s, const request *r, const char *object) {
    fprintf(f, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", r->id, object, (long long)r->created);
    json_text(f, s->rt.info.name, strlen(s->rt.info.name));
}

/* One event as a line of a stream. */
static void put_event(FILE *f, const server *s, const request *r, const event *e) {
    int chat = r->kind == REQUEST_CHAT;
    fputs("data: ", f);
    put_head(f, s, r, chat ? "chat.completion.chunk" : "text_completion");
    fprintf(f, ",\"choices\":[{\"index\":%d,%s", e->index, chat ? "\"delta\":{" : "\"text\":");
    if (chat && !e->finish) fputs("\"content\":", f);
    if (!chat || !e->finish) json_text(f, e->text, e->n);
    fprintf(f, "%s,\"logprobs\":null,\"finish_reason\":", chat ? "}" : "");
    if (e->finish)
        fprintf(f, "\"%s\"", finish_word(e->finish));
    else
        fputs("null", f);
    fputs("}]}\n\n", f);
}

typedef struct stream {
    server *s;
    request *r;
    char *pending;
    size_t n, at;
    int begun, ended;
} stream;

/* The next bytes of a streamed answer; waits for them. */
static ssize_t stream_read(void *user, uint64_t position, char *out, size_t most) {
    stream *t = user;
    request *r = t->r;
    (void)position;
    if (t->at == t->n) {
        free(t->pending);
        t->pending = NULL;
        t->n = t->at = 0;
        if (t->ended) return MHD_CONTENT_READER_END_OF_STREAM;
        text x;
        text_open_stream(&x);
        if (!x.f) return MHD_CONTENT_READER_END_WITH_ERROR;
        for (int i = 0; !t->begun && r->kind == REQUEST_CHAT && i < r->n_jobs; i++) {
            fputs("data: ", x.f);
            put_head(x.f, t->s, r, "chat.completion.chunk");
            fprintf(x.f, ",\"choices\":[{\"index\":%d,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n", i);
        }
        t->begun = 1;
        pthread_mutex_lock(&t->s->lock);
        while (!r->first && r->left) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += 5;
            if (pthread_cond_timedwait(&r->ready, &t->s->lock, &until) == ETIMEDOUT && !r->first) {
                fputs(": waiting\n\n", x.f); /* so that a client that has left is noticed */
                break;
            }
        }
        while (r->first) {
            event *e = r->first;
            if (e->n || e->finish) put_event(x.f, t->s, r, e);
            r->first = e->next;
            if (!r->first) r->last = NULL;
            free(e);
        }
        if (!r->left && !r->first) {
            if (r->failed) fputs("data: {\"error\":{\"message\":\"the text could not be made\",\"type\":\"server_error\"}}\n\n", x.f);
            if (r->usage) {
                fputs("data: ", x.f);
                put_head(x.f, t->s, r, r->kind == REQUEST_CHAT ? "chat.completion.chunk" : "text_completion");
                fputs(",\"choices\":[],", x.f);
                put_usage(x.f, r);
                fputs("}\n\n", x.f);
            }
            fputs("data: [DONE]\n\n", x.f);
            t->ended = 1;
        }
        pthread_mutex_unlock(&t->s->lock);
        if (text_end(&x)) return MHD_CONTENT_READER_END_WITH_ERROR;
        t->pending = x.at;
        t->n = x.n;
    }
    size_t n = t->n - t->at < most ? t->n - t->at : most;
    memcpy(out, t->pending + t->at, n);
    t->at += n;
    return (ssize_t)n;
}

static void stream_free(void *user) {
    stream *t = user;
    work_leave(t->s, t->r);
    free(t->pending);
    free(t);
}

static enum MHD_Result answer_stream(server *s, struct MHD_Connection *c, request *r) {
    stream *t = calloc(1, sizeof *t);
    if (!t) return work_leave(s, r), refuse(c, 500, "server_error", "out of memory");
    t->s = s;
    t->r = r;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, stream_read, t, stream_free);
    if (!response) return stream_free(t), MHD_NO;
    MHD_add_response_header(response, "Content-Type", "text/event-stream");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    enum MHD_Result got = MHD_queue_response(c, 200, response);
    MHD_destroy_response(response);
    return got;
}

/* All texts of a request that is done, each from its events. */
static void put_choices(FILE *f, const request *r) {
    fputs(",\"choices\":[", f);
    for (int i = 0; i < r->n_jobs; i++) {
        const char *finish = "stop";
        text t;
        text_open_stream(&t);
        for (const event *e = r->first; t.f && e; e = e->next) {
            if (e->index != i) continue;
            fwrite(e->text, 1, e->n, t.f);
            if (e->finish) finish = e->finish;
        }
        int bad = text_end(&t);
        fprintf(f, "%s{\"index\":%d,%s", i ? "," : "", i, r->kind == REQUEST_CHAT ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
        json_text(f, bad ? "" : t.at, bad ? 0 : t.n);
        fprintf(f, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}", r->kind == REQUEST_CHAT ? "}" : "", finish_word(finish));
        if (!bad) free(t.at);
    }
    fputs("],", f);
}

static void put_base64(FILE *f, const double *v, int64_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int have = 0;
    int64_t written = 0;
    for (int64_t i = 0; i < 4 * n; i++) {
        float x = v ? (float)v[i / 4] : 0;
        uint32_t u;
        memcpy(&u, &x, 4);
        bits = bits << 8 | (u >> 8 * (i % 4) & 255);
        for (have += 8; have >= 6; written++) fputc(digits[bits >> (have -= 6) & 63], f);
    }
    if (have) fputc(digits[bits << (6 - have) & 63], f), written++;
    for (; written % 4; written++) fputc('=', f);
}

static void put_vectors(FILE *f, const server *s, const request *r) {
    fputs("{\"object\":\"list\",\"model\":", f);
    json_text(f, s->rt.info.name, strlen(s->rt.info.name));
    fputs(",\"data\":[", f);
    for (int i = 0; i < r->n_jobs; i++) {
        fprintf(f, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":%c", i ? "," : "", i, r->base64 ? '"' : '[');
        for (int64_t k = 0; !r->base64 && k < r->width; k++) fprintf(f, "%s%.7g", k ? "," : "", r->vectors[i] ? r->vectors[i][k] : 0.0);
        if (r->base64) put_base64(f, r->vectors[i], r->width);
        fputs(r->base64 ? "\"}" : "]}", f);
    }
    fprintf(f, "],\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}\n", (long long)r->prompt_tokens, (long long)r->prompt_tokens);
}

/* Has the other side closed its end? */
static int has_left(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    return info && recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static enum MHD_Result answer_whole(server *s, struct MHD_Connection *c, request *r) {
    text t;
    int left = 0;
    pthread_mutex_lock(&s->lock);
    while (r->left && !left) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        if (pthread_cond_timedwait(&r->ready, &s->lock, &until) == ETIMEDOUT) left = has_left(c);
    }
    pthread_mutex_unlock(&s->lock);
    if (left) return work_leave(s, r), MHD_NO;
    if (r->failed) return work_leave(s, r), refuse(c, 500, "server_error", "the text could not be made");
    text_open_stream(&t);
    if (t.f && r->kind == REQUEST_EMBED) {
        put_vectors(t.f, s, r);
    } else if (t.f) {
        put_head(t.f, s, r, r->kind == REQUEST_CHAT ? "chat.completion" : "text_completion");
        put_choices(t.f, r);
        put_usage(t.f, r);
        fputs("}\n", t.f);
    }
    work_leave(s, r);
    return text_end(&t) ? MHD_NO : answer(c, 200, "application/json", t.at, t.n);
}

static enum MHD_Result ask(server *s, struct MHD_Connection *c, const exchange *x, int kind) {
    char why[WHY] = "";
    unsigned status = 400;
    value *root = value_parse(x->body ? x->body : "", x->n, why, sizeof why);
    if (!root) return bad_request(c, why);
    request *r = root->type == VALUE_OBJECT ? read_request(s, root, kind, why, &status) : (snprintf(why, sizeof why, "the body is no object"), NULL);
    value_free(root);
    if (!r) return refuse(c, status, status == 500 ? "server_error" : "invalid_request_error", why);
    if (work_add(s, r)) return request_free(r), refuse(c, 429, "rate_limit_error", "too many texts are waiting");
    return r->stream ? answer_stream(s, c, r) : answer_whole(s, c, r);
}

/* ---- the small routes ---- */

static enum MHD_Result models(server *s, struct MHD_Connection *c) {
    text t;
    text_open_stream(&t);
    if (t.f) fputs("{\"object\":\"list\",\"data\":[{\"id\":", t.f);
    json_text(t.f, s->rt.info.name, strlen(s->rt.info.name));
    if (t.f) fprintf(t.f, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"local\",\"family\":\"%s\",\"parameters\":%lld}]}\n", s->rt.info.family, (long long)s->rt.info.parameters);
    return text_end(&t) ? MHD_NO : answer(c, 200, "application/json", t.at, t.n);
}

static enum MHD_Result metrics(server *s, struct MHD_Connection *c) {
    text t;
    text_open_stream(&t);
    if (!t.f) return MHD_NO;
    pthread_mutex_lock(&s->lock);
    const struct {
        const char *name, *type;
        double v;
    } rows[] = {{"strand_requests_total", "counter", (double)s->requests}, {"strand_requests_refused_total", "counter", (double)s->refused}, {"strand_requests_cancelled_total", "counter", (double)s->cancelled},
                {"strand_prompt_tokens_total", "counter", (double)s->prompt_tokens}, {"strand_prompt_tokens_reused_total", "counter", (double)s->reused_tokens},
                {"strand_generated_tokens_total", "counter", (double)s->made_tokens}, {"strand_steps_total", "counter", (double)s->steps}, {"strand_step_seconds_total", "counter", s->busy},
                {"strand_texts_active", "gauge", (double)s->active}, {"strand_texts_waiting", "gauge", (double)s->queued}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) fprintf(t.f, "# TYPE %s %s\n%s %.15g\n", rows[i].name, rows[i].type, rows[i].name, rows[i].v);
    pthread_mutex_unlock(&s->lock);
    return text_end(&t) ? MHD_NO : answer(c, 200, "text/plain; version=0.0.4", t.at, t.n);
}

static enum MHD_Result fixed(struct MHD_Connection *c, const char *type, const char *text) {
    char *copy = strdup(text);
    return copy ? answer(c, 200, type, copy, strlen(copy)) : MHD_NO;
}

static enum MHD_Result route(server *s, struct MHD_Connection *c, const char *url, const char *method, exchange *x) {
    static const char *const posts[] = {"/v1/completions", "/v1/chat/completions", "/v1/embeddings"};
    enum MHD_Result got;
    if (guard(s, c, url, &got)) return got;
    if (x->too_long) return refuse(c, 413, "invalid_request_error", "the body is longer than --max-body allows");
    for (int i = 0; i < 3; i++) {
        if (strcmp(url, posts[i])) continue;
        return strcmp(method, "POST") ? refuse(c, 405, "invalid_request_error", "this route wants POST") : ask(s, c, x, i);
    }
    if (strcmp(method, "GET") && strcmp(method, "HEAD")) return refuse(c, 404, "invalid_request_error", "there is no such route");
    if (!strcmp(url, "/health")) return fixed(c, "application/json", "{\"status\":\"ok\"}\n");
    if (!strcmp(url, "/v1/models")) return models(s, c);
    if (!strcmp(url, "/metrics")) return metrics(s, c);
    if (!strcmp(url, "/")) return fixed(c, "text/html; charset=utf-8", serve_page);
    return refuse(c, 404, "invalid_request_error", "there is no such route");
}

/* ---- the daemon ---- */

static enum MHD_Result handle(void *user, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *data, size_t *n, void **state) {
    server *s = user;
    exchange *x = *state;
    (void)version;
    if (!x) return (*state = calloc(1, sizeof *x)) ? MHD_YES : MHD_NO;
    if (!*n) return route(s, c, url, method, x);
    if (x->n + *n > s->settings->max_body) x->too_long = 1;
    if (!x->too_long && x->n + *n > x->room) {
        size_t room = 2 * (x->n + *n) + 1024;
        char *more = realloc(x->body, room);
        if (!more) return MHD_NO;
        x->body = more;
        x->room = room;
    }
    if (!x->too_long) memcpy(x->body + x->n, data, *n), x->n += *n;
    *n = 0;
    return MHD_YES;
}

static void completed(void *user, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why) {
    exchange *x = *state;
    (void)user, (void)c, (void)why;
    if (x) free(x->body);
    free(x);
    *state = NULL;
}

int http_serve(server *s) {
    const options *o = s->settings;
    const char *host = o->host ? o->host : "127.0.0.1";
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)o->port)};
    int is_six = inet_pton(AF_INET6, host, &six.sin6_addr) == 1;
    if (!is_six && inet_pton(AF_INET, host, &four.sin_addr) != 1) return complain("serve: --host '%s' is no address (127.0.0.1, 0.0.0.0, ::1 ...)", host), -1;
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | (is_six ? MHD_USE_IPv6 : 0);
    struct MHD_Daemon *d = MHD_start_daemon(flags, (uint16_t)o->port, NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
                                            MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)(o->queue + s->rows + 32),
                                            MHD_OPTION_CONNECTION_TIMEOUT, 30u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536, MHD_OPTION_END);
    if (!d) return complain("serve: %s:%lld cannot be listened on: %s", host, (long long)o->port, strerror(errno)), -1;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
    printf("http://%s%s%s:%u\n", is_six ? "[" : "", host, is_six ? "]" : "", info ? info->port : (unsigned)o->port);
    fflush(stdout);
    while (!interrupted()) {
        struct timespec moment = {0, 100000000};
        nanosleep(&moment, NULL);
    }
    work_stop(s); /* so that no connection waits for a text */
    MHD_stop_daemon(d);
    return 0;
}

/* http.c - the HTTP side, by libmicrohttpd with a thread a connection: who may ask, which route, bodies in, answers and
 * streams out.
 *
 * Safe by default: only this machine can connect; a Host header of another name is refused (a web page could otherwise reach
 * the server through a name of its own that resolves to 127.0.0.1), and so is an Origin that is neither the server nor one
 * that was allowed. Bodies, connections, waiting requests and time are bounded. What was asked and answered is never written
 * anywhere. */
#include "server.h"

#include "progress.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define MOST_CONNECTIONS 256
#define IDLE_SECONDS 120

typedef struct exchange {
    buffer body;
    int too_large;
} exchange;

typedef enum MHD_Result result;

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* ---- who may ask ---- */

static int same_bytes(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    unsigned char different = n != m;
    for (size_t i = 0; i < n; i++) different |= (unsigned char)(a[i] ^ b[m ? i % m : 0]); /* as long for every wrong key */
    return !different;
}

static int key_fits(const server *s, struct MHD_Connection *c) {
    const char *given = header(c, "Authorization");
    if (!s->key) return 1;
    return given && !strncasecmp(given, "Bearer ", 7) && same_bytes(given + 7, s->key);
}

static int is_local(const char *host) {
    return !strcmp(host, "127.0.0.1") || !strcmp(host, "::1") || !strcmp(host, "localhost");
}

/* "[::1]:8080" -> "::1", "localhost:8080" -> "localhost". */
static void host_name(const char *text, char *out, size_t size) {
    size_t n = text[0] == '[' ? strcspn(++text, "]") : strcspn(text, ":");
    snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), text);
}

static int host_fits(const server *s, struct MHD_Connection *c) {
    const char *given = header(c, "Host");
    char name[256];
    if (!given) return 0;
    host_name(given, name, sizeof name);
    for (int i = 0; i < s->settings->hosts.n; i++)
        if (!strcasecmp(s->settings->hosts.items[i], name)) return 1;
    if (is_local(name) || !strcasecmp(name, s->host)) return 1;
    return !is_local(s->host) && !s->settings->hosts.n; /* reached by names that only the operator knows: there the key
                                                           guards */
}

static int origin_listed(const server *s, const char *origin) {
    for (int i = 0; i < s->settings->origins.n; i++)
        if (!strcmp(s->settings->origins.items[i], origin)) return 1;
    return 0;
}

static int origin_fits(const server *s, struct MHD_Connection *c) {
    const char *origin = header(c, "Origin"), *host = header(c, "Host");
    if (!origin) return 1;
    const char *name = strstr(origin, "://");
    return (name && host && !strcmp(name + 3, host)) || origin_listed(s, origin);
}

static uint64_t client_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char name[64] = "";
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    if (info && info->client_addr) {
        const struct sockaddr *a = info->client_addr;
        if (a->sa_family == AF_INET)
            inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, name, sizeof name);
        if (a->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, name, sizeof name);
    }
    const char *user = header(c, "X-Client"); /* a proxy may tell its users apart */
    for (const char *p = name; *p; p++) h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    for (const char *p = user ? user : ""; *p; p++) h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    return h;
}

/* ---- answers ---- */

static void common_headers(const server *s, struct MHD_Connection *c, struct MHD_Response *response, const char *type) {
    const char *origin = header(c, "Origin");
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(
        response, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'");
    if (origin && origin_listed(s, origin)) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "authorization, content-type");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        MHD_add_response_header(response, "Vary", "Origin");
    }
}

/* Takes the buffer's memory. */
static result reply(const server *s, struct MHD_Connection *c, int status, const char *type, buffer *b) {
    if (b->failed) {
        buffer_free(b);
        return MHD_NO;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(b->n, b->data ? b->data : NULL, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        buffer_free(b);
        return MHD_NO;
    }
    common_headers(s, c, response, type);
    if (status == 429 || status == 503) MHD_add_response_header(response, "Retry-After", "1");
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    result r = MHD_queue_response(c, (unsigned)status, response);
    MHD_destroy_response(response);
    return r;
}

static result reply_error(server *s, struct MHD_Connection *c, int status, const char *why) {
    buffer b = {0};
    request_error(&b, status, why);
    return reply(s, c, status, "application/json", &b);
}

static result reply_text(const server *s, struct MHD_Connection *c, const char *type, const char *text) {
    buffer b = {0};
    buffer_text(&b, text);
    return reply(s, c, 200, type, &b);
}

static result metrics(server *s, struct MHD_Connection *c) {
    buffer b = {0};
    pthread_mutex_lock(&s->lock);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"requests_total", "counter", "requests taken", (double)s->count.requests},
        {"refused_total", "counter", "requests refused because too many waited", (double)s->count.refused},
        {"failed_total", "counter", "texts that failed", (double)s->count.failed},
        {"cancelled_total", "counter", "texts whose client left", (double)s->count.cancelled},
        {"prompt_tokens_total", "counter", "tokens of prompts that were run", (double)s->count.prompt_tokens},
        {"reused_tokens_total", "counter", "tokens of prompts whose state was kept", (double)s->count.reused_tokens},
        {"generated_tokens_total", "counter", "tokens of texts that ended", (double)s->count.made_tokens},
        {"steps_total", "counter", "steps of all texts as one batch", (double)s->count.steps},
        {"prompt_seconds_total", "counter", "seconds spent on prompts", s->count.prompt_seconds},
        {"step_seconds_total", "counter", "seconds spent on steps", s->count.step_seconds},
        {"active", "gauge", "texts being made now", (double)s->count.active},
        {"waiting", "gauge", "texts waiting for a row", (double)s->count.waiting},
        {"prefix_bytes", "gauge", "bytes of kept states", (double)s->count.kept_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        buffer_format(&b, "# HELP strand_%s %s\n# TYPE strand_%s %s\nstrand_%s %.10g\n", rows[i].name, rows[i].help,
                      rows[i].name, rows[i].type, rows[i].name, rows[i].value);
    pthread_mutex_unlock(&s->lock);
    return reply(s, c, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}

/* ---- waiting for texts ---- */

/* Waits for a change at most a fifth of a second; the lock is held. */
static void wait_a_little(request *r) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_cond_timedwait(&r->changed, &r->server->lock, &until);
}

/* Has the client closed its end? */
static int client_left(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (!info) return 0;
    ssize_t n = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

static int all_done(const request *r) {
    int done = 0;
    for (int i = 0; i < r->n; i++) done += r->jobs[i]->done;
    return done == r->n || r->status;
}

typedef struct stream {
    request *r;
    struct MHD_Connection *connection;
    buffer out;
    size_t sent;
} stream;

static ssize_t stream_read(void *cls, uint64_t at, char *to, size_t most) {
    stream *t = cls;
    request *r = t->r;
    (void)at;
    if (t->sent == t->out.n) {
        t->sent = t->out.n = 0;
        pthread_mutex_lock(&r->server->lock);
        while (!r->ended) {
            request_stream(r, &t->out);
            if (t->out.n || t->out.failed || r->ended) break;
            wait_a_little(r);
            if (client_left(t->connection)) break;
        }
        pthread_mutex_unlock(&r->server->lock);
        if (!t->out.n) return r->ended ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
        if (t->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t n = t->out.n - t->sent < most ? t->out.n - t->sent : most;
    memcpy(to, t->out.data + t->sent, n);
    t->sent += n;
    return (ssize_t)n;
}

static void stream_free(void *cls) {
    stream *t = cls;
    request_leave(t->r);
    buffer_free(&t->out);
    free(t);
}

static result answer_stream(server *s, struct MHD_Connection *c, request *r) {
    stream *t = calloc(1, sizeof *t);
    if (!t) {
        request_leave(r);
        return reply_error(s, c, 500, "out of memory");
    }
    t->r = r;
    t->connection = c;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, t, stream_free);
    if (!response) {
        stream_free(t);
        return MHD_NO;
    }
    common_headers(s, c, response, "text/event-stream; charset=utf-8");
    result q = MHD_queue_response(c, 200, response);
    MHD_destroy_response(response);
    return q;
}

static result answer_whole(server *s, struct MHD_Connection *c, request *r) {
    buffer b = {0};
    int left = 0, status;
    pthread_mutex_lock(&s->lock);
    while (!all_done(r) && !left) {
        wait_a_little(r);
        left = client_left(c);
    }
    status = left ? 0 : r->status ? r->status : 200;
    if (status == 200) request_answer(r, &b);
    if (status > 200) request_error(&b, r->status, r->error);
    pthread_mutex_unlock(&s->lock);
    request_leave(r);
    return left ? MHD_NO : reply(s, c, status, "application/json", &b);
}

static result answer_job(server *s, struct MHD_Connection *c, job_kind kind, const exchange *x) {
    char why[300] = "";
    int status;
    if (x->too_large) return reply_error(s, c, 413, "the body is larger than the server takes");
    request *r = request_read(s, kind, x->body.data, x->body.n, &status, why, sizeof why);
    if (!r) return reply_error(s, c, status, why);
    r->client = client_of(c);
    status = schedule_add(s, r);
    if (status) {
        request_leave(r);
        return reply_error(s, c, status,
                           status == 429 ? "too many requests are waiting; try again later" : "the server is going down");
    }
    return r->stream ? answer_stream(s, c, r) : answer_whole(s, c, r);
}

/* ---- routes ---- */

static result route(server *s, struct MHD_Connection *c, const char *url, int post, const exchange *x) {
    static const struct {
        const char *url;
        job_kind kind;
    } jobs[] = {{"/v1/completions", JOB_COMPLETION}, {"/v1/chat/completions", JOB_CHAT}, {"/v1/embeddings", JOB_EMBEDDING}};
    static const struct {
        const char *url, *type, *text;
    } pages[] = {{"/", "text/html; charset=utf-8", page_html},
                 {"/chat.css", "text/css; charset=utf-8", page_css},
                 {"/chat.js", "text/javascript; charset=utf-8", page_js}};
    if (!strcmp(url, "/health"))
        return post ? reply_error(s, c, 405, "use GET") : reply_text(s, c, "application/json", "{\"status\":\"ok\"}");
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(url, pages[i].url))
            return post ? reply_error(s, c, 405, "use GET") : reply_text(s, c, pages[i].type, pages[i].text);
    if (!key_fits(s, c)) return reply_error(s, c, 401, "the key is missing or wrong: send 'Authorization: Bearer KEY'");
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(url, jobs[i].url)) return post ? answer_job(s, c, jobs[i].kind, x) : reply_error(s, c, 405, "use POST");
    if (post) return reply_error(s, c, 404, "there is no such route");
    if (!strcmp(url, "/metrics")) return metrics(s, c);
    if (!strcmp(url, "/v1/models")) {
        buffer b = {0};
        models_answer(s, &b);
        return reply(s, c, 200, "application/json", &b);
    }
    return reply_error(s, c, 404, "there is no such route");
}

static result answer(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                     const char *data, size_t *size, void **state) {
    server *s = cls;
    exchange *x = *state;
    (void)version;
    if (!x) {
        if (!(x = calloc(1, sizeof *x))) return MHD_NO;
        *state = x;
        return MHD_YES;
    }
    if (*size) {
        if (x->body.n + *size > s->settings->max_body) x->too_large = 1;
        if (!x->too_large) buffer_put(&x->body, data, *size);
        *size = 0;
        return x->body.failed ? MHD_NO : MHD_YES;
    }
    if (!host_fits(s, c)) return reply_error(s, c, 403, "the Host header names another machine");
    if (!origin_fits(s, c)) return reply_error(s, c, 403, "pages of this origin may not ask: start the server with --origin");
    if (!strcmp(method, "OPTIONS")) return reply_text(s, c, "text/plain", "");
    if (!strcmp(method, "GET") || !strcmp(method, "HEAD")) return route(s, c, url, 0, x);
    if (!strcmp(method, "POST")) return route(s, c, url, 1, x);
    return reply_error(s, c, 405, "use GET or POST");
}

static void completed(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code) {
    exchange *x = *state;
    (void)cls;
    (void)c;
    (void)code;
    if (!x) return;
    buffer_free(&x->body);
    free(x);
    *state = NULL;
}

/* ---- the whole ---- */

/* The library's own messages go nowhere: a client that leaves is no news. */
static void silent(void *cls, const char *format, va_list args) {
    (void)cls;
    (void)format;
    (void)args;
}

static struct MHD_Daemon *listen_at(server *s, const struct addrinfo *at) {
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG;
    if (at->ai_family == AF_INET6) flags |= MHD_USE_IPv6;
    return MHD_start_daemon(flags, 0, NULL, NULL, answer, s, MHD_OPTION_EXTERNAL_LOGGER, silent, NULL, MHD_OPTION_SOCK_ADDR,
                            at->ai_addr, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)MOST_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536, MHD_OPTION_END);
}

int http_serve(server *s) {
    const options *o = s->settings;
    struct addrinfo wish = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    char port[16];
    pthread_t scheduler;
    snprintf(port, sizeof port, "%d", (int)o->port);
    int bad = getaddrinfo(s->host, port, &wish, &found);
    if (bad) return complain("serve: --host '%s': %s", s->host, gai_strerror(bad)), EXIT_FAILED;
    struct MHD_Daemon *d = listen_at(s, found);
    int ipv6 = found->ai_family == AF_INET6;
    freeaddrinfo(found);
    if (!d) return complain("serve: cannot listen at %s port %s: %s", s->host, port, strerror(errno)), EXIT_FAILED;
    if (pthread_create(&scheduler, NULL, schedule_main, s))
        return MHD_stop_daemon(d), complain("serve: no thread can be started"), EXIT_FAILED;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT);
    printf(ipv6 ? "serving %s at http://[%s]:%u\n" : "serving %s at http://%s:%u\n", s->rt.info.name, s->host,
           info ? (unsigned)info->port : (unsigned)o->port);
    fflush(stdout);
    while (!interrupted()) nanosleep(&(struct timespec){0, 100000000}, NULL);
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(scheduler, NULL);
    MHD_stop_daemon(d);
    return EXIT_DONE;
}

/* server.h - the parts of `strand serve`.
 *
 * Requests come on threads of the HTTP library (http.c), are read into jobs (request.c), wait in a queue, and run in one
 * thread that owns the model's engine (schedule.c): it feeds one prompt a piece at a time between the steps of all texts
 * that are being made; answer.c writes what the clients get. Each job has a row of the engine. States of prompts and of
 * finished texts are kept for the next request that begins like them (prefix.c).
 *
 * Locks: `server.lock` guards the queue, the counters and the fields of jobs under "shared"; everything else of a job
 * belongs to the scheduler once it is in the queue. The engine belongs to the scheduler alone, the tokenizer to whoever
 * holds `server.tokens`. */
#ifndef STRAND_APP_SERVER_H
#define STRAND_APP_SERVER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "gen.h"
#include "json_read.h"
#include "text.h"

/* Text that grows. After an allocation failed it stays as it is and `failed` says so. */
typedef struct buffer {
    char *data;
    size_t n, room;
    int failed;
} buffer;

void buffer_put(buffer *b, const char *text, size_t n);
void buffer_text(buffer *b, const char *text);
void buffer_format(buffer *b, const char *format, ...) PRINTF_LIKE(2, 3);
/* "..." with its quotes; bytes that are no UTF-8 become U+FFFD. */
void buffer_json(buffer *b, const char *text, size_t n);
void buffer_base64(buffer *b, const void *data, size_t n);
void buffer_free(buffer *b);

/* ---- states to begin from ---- */

typedef struct prefix_entry prefix_entry;
typedef struct prefixes {
    prefix_entry *first; /* the one used last */
    uint64_t bytes, limit;
} prefixes;

/* Loads the longest kept beginning of ids into a row, with the logits that follow it; how many tokens it has, 0: none, -1
 * after a message. */
int64_t prefix_load(prefixes *p, engine *g, int64_t row, const int64_t *ids, int64_t n);
/* Keeps a row's state and tokens; what was used longest ago goes. Without room or memory nothing is kept. */
void prefix_keep(prefixes *p, engine *g, int64_t row);
void prefix_free(prefixes *p);

/* ---- jobs ---- */

typedef enum job_kind { JOB_COMPLETION, JOB_CHAT, JOB_EMBEDDING } job_kind;

struct request;

typedef struct job {
    struct job *next; /* in the queue */
    struct request *request;
    text_ids prompt;
    sample_rule rule;
    char **stops;
    int n_stops;
    int64_t most;
    int ignore_end;
    /* the scheduler's */
    gen gen;
    int64_t row, fed;
    /* shared */
    buffer text;       /* made so far */
    size_t sent;       /* of it, to a client that streams */
    int done, told;    /* told: the client has its end */
    const char *finish;/* "stop", "length" */
    int64_t made, reused;
    double *vector;
    int64_t width;
} job;

#define REQUEST_MOST_JOBS 64
#define SERVE_MOST_ROWS 256

typedef struct request {
    struct server *server;
    job_kind kind;
    int stream, usage, base64, begun, ended;
    char id[48];
    int64_t created;
    uint64_t client; /* who asks, for fairness */
    double arrived, deadline;
    grammar *grammar;
    job *jobs[REQUEST_MOST_JOBS];
    int n;
    /* shared */
    pthread_cond_t changed;
    int refs;      /* the HTTP side, and each job that the scheduler has */
    int cancelled;
    int status;    /* HTTP status of an error, 0: none */
    char error[256];
} request;

typedef struct server {
    runtime rt;
    const options *settings;
    engine *engine;
    int64_t rows, context, vocabulary;
    const char *host, *key; /* key NULL: none */
    char *template;         /* NULL: none was given */
    int64_t started;
    prefixes prefixes;
    pthread_mutex_t tokens;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    job *queue, **queue_end;
    int64_t queued;
    int stopping;
    job **active; /* the scheduler's: in rows 0 to n_active-1 */
    int64_t n_active;
    job *filling; /* in row n_active */
    double step_cost, token_cost; /* seconds of a step, and of a prompt's token, of late */
    /* counters, for /metrics */
    struct {
        int64_t requests, refused, failed, cancelled, prompt_tokens, reused_tokens, made_tokens, steps, active, waiting;
        double prompt_seconds, step_seconds;
        int64_t kept_bytes;
    } count;
} server;

double server_now(void);

/* request.c: reads a body into a request; NULL, an HTTP status in *status and one line in `why`. */
request *request_read(server *s, job_kind kind, const char *body, size_t n, int *status, char *why, size_t why_size);
/* The HTTP side lets go of it; what still runs is cancelled. */
void request_leave(request *r);
void request_unref(request *r); /* with the lock held */
/* answer.c: the whole answer, and the pieces of one that streams; with the lock held. */
void request_answer(request *r, buffer *out);
/* Appends what there is to send now; sets r->ended when that was the last. */
void request_stream(request *r, buffer *out);
void request_error(buffer *out, int status, const char *why);
void models_answer(server *s, buffer *out);

/* schedule.c: 0, or the HTTP status of a refusal (the queue is full). */
int schedule_add(server *s, request *r);
void *schedule_main(void *server_);

/* http.c: serves until interrupted; an exit code. */
int http_serve(server *s);

/* page.c */
extern const char page_html[], page_css[], page_js[];

#endif

/* serve.h - `strand serve`: what its parts share. Connections have threads of their own (serve_http.c) and wait for texts that one
 * worker makes (serve_work.c): it alone touches the engine, and steps all texts at hand as one batch. */
#ifndef STRAND_APP_SERVE_H
#define STRAND_APP_SERVE_H

#include "gen.h"
#include "json_read.h"

#include <pthread.h>

struct request;

/* One text of a request. */
typedef struct job {
    struct request *request;
    int index; /* of its choice */
    text_ids prompt;
    sample_rule rule;
    int64_t most;
    grammar *grammar; /* owned by the request */
    int goes_on, ignore_end;
    struct job *next; /* in the queue */
    /* the worker's */
    gen gen;
    int64_t fed, reused;
    int started;
} job;

/* What a client waits for. All below `lock` is under the worker's lock. */
typedef struct request {
    int n_jobs, kind; /* REQUEST_... */
    job *jobs;
    char *stops[16];
    int n_stops;
    grammar *grammar;
    char id[40];
    int64_t created;
    int stream, usage, base64; /* base64: embeddings as the bytes of F32 numbers */
    /* under the lock */
    struct event *first, *last;
    int left;         /* jobs that are not done */
    int gone;         /* the client has left, or time is up */
    int failed;
    int64_t made, prompt_tokens, reused;
    double **vectors; /* REQUEST_EMBED */
    int64_t width;
    double deadline;
    pthread_cond_t ready;
} request;

enum { REQUEST_COMPLETION, REQUEST_CHAT, REQUEST_EMBED };

/* A piece of a choice's text, or its end. */
typedef struct event {
    struct event *next;
    int index;
    const char *finish;
    size_t n;
    char text[];
} event;

typedef struct server {
    const options *settings;
    runtime rt;
    engine *engine;
    int64_t rows, context, queue_limit;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    job *queue, *queue_last;
    int64_t queued, active;
    int stopping;
    char *template;
    /* metrics, under the lock */
    uint64_t requests, refused, prompt_tokens, reused_tokens, made_tokens, steps, cancelled;
    double busy;
} server;

double serve_now(void);
/* Starts and stops the worker. 0 or -1. */
int work_start(server *s);
void work_stop(server *s);
/* Queues all jobs of a request; -1: the queue is full. */
int work_add(server *s, request *r);
/* The request is no longer wanted; frees it when the worker has let it go. */
void work_leave(server *s, request *r);
void request_free(request *r);

/* serve_http.c */
int http_serve(server *s);
extern const char serve_page[];

#endif

/* serve_work.c - the worker of `strand serve`. See serve.h.
 *
 * Each turn: texts whose client has gone or whose time is up leave; waiting ones take free rows, in the order in which they came; every row
 * that still has prompt gets one piece of it, so that a long prompt does not hold the others up; then all rows that have their prompt
 * step as one batch. Rows 0 to `texts - 1` are in use, those with a whole prompt first. States of prompts are kept (newest first, up to
 * --cache bytes), and a prompt begins from the longest of them. */
#include "serve.h"

#include "progress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIECE 256

double serve_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct snapshot {
    struct snapshot *next;
    text_ids ids;
    void *state;
    size_t bytes;
} snapshot;

typedef struct worker {
    server *s;
    job **texts; /* by row */
    int64_t n, ready; /* the first `ready` have their prompts */
    snapshot *kept;
    uint64_t kept_bytes;
} worker;

/* ---- events ---- */

static void add_event(request *r, int index, const char *text, size_t n, const char *finish) {
    event *e = malloc(sizeof *e + n + 1);
    if (!e) {
        r->failed = 1;
        return;
    }
    *e = (event){.index = index, .finish = finish, .n = n};
    memcpy(e->text, text, n);
    e->text[n] = 0;
    if (r->last)
        r->last->next = e;
    else
        r->first = e;
    r->last = e;
}

static int emit(void *user, const char *text, size_t n) {
    job *j = user;
    request *r = j->request;
    add_event(r, j->index, text, n, NULL);
    return r->gone;
}

void request_free(request *r) {
    if (!r) return;
    for (int i = 0; i < r->n_jobs; i++) {
        text_ids_free(&r->jobs[i].prompt);
        if (r->vectors) free(r->vectors[i]);
    }
    for (int i = 0; i < r->n_stops; i++) free(r->stops[i]);
    while (r->first) {
        event *next = r->first->next;
        free(r->first);
        r->first = next;
    }
    pthread_cond_destroy(&r->ready);
    grammar_free(r->grammar);
    free(r->vectors);
    free(r->jobs);
    free(r);
}

/* A job is over, whatever its end. Under the lock. */
static void done(server *s, job *j, const char *finish, int failed) {
    request *r = j->request;
    add_event(r, j->index, "", 0, finish);
    if (failed) r->failed = 1;
    r->made += j->gen.made;
    s->made_tokens += (uint64_t)j->gen.made;
    if (j->started) gen_end(&j->gen);
    r->left--;
    pthread_cond_broadcast(&r->ready);
    if (r->gone == 2 && !r->left) request_free(r); /* nobody waits any more */
}

int work_add(server *s, request *r) {
    int full;
    pthread_mutex_lock(&s->lock);
    full = s->stopping || s->queued + r->n_jobs > s->queue_limit;
    for (int i = 0; i < r->n_jobs && !full; i++) {
        job *j = &r->jobs[i];
        if (s->queue_last)
            s->queue_last->next = j;
        else
            s->queue = j;
        s->queue_last = j;
        s->queued++;
    }
    if (full)
        s->refused++;
    else
        r->left = r->n_jobs, s->requests++;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    return full ? -1 : 0;
}

void work_leave(server *s, request *r) {
    pthread_mutex_lock(&s->lock);
    int free_now = !r->left;
    if (!free_now) s->cancelled++;
    r->gone = 2;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (free_now) request_free(r);
}

/* ---- snapshots ---- */

static void drop_last(worker *w) {
    snapshot **at = &w->kept;
    while (*at && (*at)->next) at = &(*at)->next;
    if (!*at) return;
    snapshot *x = *at;
    *at = NULL;
    w->kept_bytes -= x->bytes;
    text_ids_free(&x->ids);
    free(x->state);
    free(x);
}

static void keep(worker *w, int64_t row) {
    int64_t n;
    const int64_t *ids = engine_tokens(w->s->engine, row, &n);
    snapshot *x;
    for (x = w->kept; x; x = x->next)
        if (x->ids.n == n && !memcmp(x->ids.ids, ids, (size_t)n * sizeof *ids)) return;
    if (!engine_stateful(w->s->engine) || n < 8 || !(x = calloc(1, sizeof *x))) return;
    x->state = engine_save(w->s->engine, row, &x->bytes);
    if (!x->state || x->bytes > w->s->settings->cache || text_ids_add(&x->ids, ids, n)) {
        text_ids_free(&x->ids);
        free(x->state);
        free(x);
        return;
    }
    x->next = w->kept;
    w->kept = x;
    w->kept_bytes += x->bytes;
    while (w->kept_bytes > w->s->settings->cache) drop_last(w);
}

/* The row begins from the longest kept state that is a beginning of the prompt. */
static int begin(worker *w, job *j, int64_t row) {
    snapshot *best = NULL, **at, **best_at = NULL;
    for (at = &w->kept; *at; at = &(*at)->next) {
        const text_ids *ids = &(*at)->ids;
        if (ids->n >= j->prompt.n || (best && ids->n <= best->ids.n) || memcmp(ids->ids, j->prompt.ids, (size_t)ids->n * sizeof *ids->ids)) continue;
        best = *at;
        best_at = at;
    }
    j->fed = j->reused = 0;
    if (!best) return engine_reset(w->s->engine, row);
    *best_at = best->next; /* to the front: used now */
    best->next = w->kept;
    w->kept = best;
    if (engine_load(w->s->engine, row, best->state, best->bytes, best->ids.ids, best->ids.n)) return -1;
    j->fed = j->reused = best->ids.n;
    return 0;
}

/* ---- rows ---- */

static int move(worker *w, int64_t from, int64_t to) {
    if (from == to) return 0;
    if (engine_copy(w->s->engine, from, to)) return -1;
    w->texts[to] = w->texts[from];
    w->texts[to]->gen.row = to;
    return 0;
}

/* The job of a row goes; rows stay without holes, the ready ones first. */
static int leave(worker *w, int64_t row) {
    int bad = 0;
    if (row < w->ready) {
        bad = move(w, w->ready - 1, row);
        row = --w->ready;
    }
    if (!bad) bad = move(w, w->n - 1, row);
    w->n--;
    return bad;
}

static void end(worker *w, int64_t row, const char *finish, int failed) {
    job *j = w->texts[row];
    pthread_mutex_lock(&w->s->lock);
    done(w->s, j, finish, failed);
    w->s->active--;
    pthread_mutex_unlock(&w->s->lock);
    if (leave(w, row)) complain("a text could not be moved; its neighbours may be lost");
}

/* Two rows change places: the row above all in use is free, or the state goes by way of memory. */
static int make_ready(worker *w, int64_t row) {
    if (row != w->ready) {
        size_t bytes;
        int64_t n;
        job *a = w->texts[row], *b = w->texts[w->ready];
        text_ids ids = {0};
        const int64_t *seen = engine_tokens(w->s->engine, w->ready, &n);
        void *state = engine_stateful(w->s->engine) ? engine_save(w->s->engine, w->ready, &bytes) : NULL;
        int bad = text_ids_add(&ids, seen, n) || engine_copy(w->s->engine, row, w->ready);
        if (!bad && state) bad = engine_load(w->s->engine, row, state, bytes, ids.ids, ids.n);
        if (!bad && !state) bad = engine_reset(w->s->engine, row), b->fed = 0; /* without states: its prompt again */
        free(state);
        text_ids_free(&ids);
        if (bad) return -1;
        w->texts[w->ready] = a;
        w->texts[row] = b;
        a->gen.row = w->ready;
        b->gen.row = row;
    }
    w->ready++;
    return 0;
}

static void start_text(worker *w, job *j, int64_t row) {
    request *r = j->request;
    char why[256];
    memset(&j->gen, 0, sizeof j->gen);
    j->gen.rt = &w->s->rt;
    j->gen.row = row;
    j->gen.stops = (const char *const *)r->stops;
    j->gen.n_stops = r->n_stops;
    j->gen.most = j->most;
    j->gen.context = w->s->context;
    j->gen.goes_on = j->goes_on;
    j->gen.ignore_end = j->ignore_end;
    j->gen.emit = emit;
    j->gen.user = j;
    sampler_init(&j->gen.sampler, &j->rule);
    if (r->grammar) j->gen.grammar = grammar_start(r->grammar, why, sizeof why);
    gen_begin(&j->gen);
    j->started = 1;
}

/* Takes waiting texts into free rows. 1: there is nothing to do and the server is stopping. */
static int admit(worker *w) {
    server *s = w->s;
    pthread_mutex_lock(&s->lock);
    while (!s->queue && !w->n && !s->stopping) pthread_cond_wait(&s->work, &s->lock);
    int stop = s->stopping;
    while (s->queue && (w->n < s->rows || s->queue->request->gone || stop)) {
        job *j = s->queue;
        s->queue = j->next;
        if (!s->queue) s->queue_last = NULL;
        s->queued--;
        if (j->request->gone || stop) {
            done(s, j, "cancelled", stop);
            continue;
        }
        w->texts[w->n++] = j;
        s->active++;
        pthread_mutex_unlock(&s->lock);
        start_text(w, j, w->n - 1);
        int bad = j->request->kind == REQUEST_EMBED ? 0 : begin(w, j, w->n - 1);
        pthread_mutex_lock(&s->lock);
        if (bad) j->request->failed = 1;
    }
    pthread_mutex_unlock(&s->lock);
    return stop;
}

static void embed(worker *w, int64_t row) {
    job *j = w->texts[row];
    double *vector = NULL;
    int64_t width = 0;
    int bad = text_embed(&w->s->rt, w->s->engine, j->prompt.ids, j->prompt.n, 0, &vector, &width);
    pthread_mutex_lock(&w->s->lock);
    j->request->vectors[j->index] = vector;
    j->request->width = width;
    j->request->prompt_tokens += j->prompt.n;
    pthread_mutex_unlock(&w->s->lock);
    end(w, row, bad ? "error" : "stop", bad);
}

/* One piece of the prompt of every row that is not ready. */
static void feed(worker *w) {
    for (int64_t row = w->ready; row < w->n; row++) {
        job *j = w->texts[row];
        if (j->request->kind == REQUEST_EMBED) {
            embed(w, row--);
            continue;
        }
        int64_t left = j->prompt.n - 1 - j->fed, n = left < PIECE ? left : PIECE;
        int bad = j->request->failed || engine_feed(w->s->engine, row, j->prompt.ids + j->fed, n);
        j->fed += n;
        if (!bad && j->fed == j->prompt.n - 1) {
            keep(w, row);
            bad = engine_feed(w->s->engine, row, j->prompt.ids + j->fed, 1);
            pthread_mutex_lock(&w->s->lock); /* gen_pick adds events */
            if (!bad && gen_pick(&j->gen, w->s->engine)) bad = -1;
            w->s->prompt_tokens += (uint64_t)(j->prompt.n - j->reused);
            w->s->reused_tokens += (uint64_t)j->reused;
            j->request->prompt_tokens += j->prompt.n;
            j->request->reused += j->reused;
            pthread_cond_broadcast(&j->request->ready);
            pthread_mutex_unlock(&w->s->lock);
            if (!bad && !j->gen.finish && !j->gen.failed) bad = make_ready(w, row);
        }
        if (bad || j->gen.finish || j->gen.failed) end(w, row--, bad ? "error" : j->gen.finish ? j->gen.finish : "cancelled", bad);
    }
}

static void step(worker *w, int64_t *ids) {
    if (!w->ready) return;
    double begun = serve_now();
    for (int64_t i = 0; i < w->ready; i++) ids[i] = w->texts[i]->gen.next;
    int bad = engine_step(w->s->engine, ids, w->ready);
    pthread_mutex_lock(&w->s->lock);
    for (int64_t i = 0; i < w->ready && !bad; i++) {
        job *j = w->texts[i];
        j->gen.next = -1;
        if (gen_pick(&j->gen, w->s->engine)) j->gen.failed = 1;
        pthread_cond_broadcast(&j->request->ready);
    }
    w->s->steps++;
    w->s->busy += serve_now() - begun;
    pthread_mutex_unlock(&w->s->lock);
    for (int64_t i = w->ready; i-- > 0;) {
        const gen *g = &w->texts[i]->gen;
        if (bad || g->finish || g->failed) end(w, i, bad ? "error" : g->finish ? g->finish : "cancelled", bad);
    }
}

/* Texts that nobody waits for, or whose time is up. */
static void sweep(worker *w) {
    double now = serve_now();
    for (int64_t i = w->n; i-- > 0;) {
        request *r = w->texts[i]->request;
        pthread_mutex_lock(&w->s->lock);
        int gone = r->gone, late = now > r->deadline;
        pthread_mutex_unlock(&w->s->lock);
        if (gone || late || w->s->stopping) end(w, i, late ? "length" : "cancelled", 0);
    }
}

static void *run(void *user) {
    worker w = {.s = user};
    server *s = w.s;
    w.texts = calloc((size_t)s->rows + 1, sizeof *w.texts);
    int64_t *ids = calloc((size_t)s->rows + 1, sizeof *ids);
    while (w.texts && ids && !admit(&w)) {
        sweep(&w);
        feed(&w);
        step(&w, ids);
    }
    sweep(&w);
    while (w.kept) drop_last(&w);
    free(w.texts);
    free(ids);
    return NULL;
}

int work_start(server *s) {
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    if (pthread_create(&s->thread, NULL, run, s)) return complain("serve: no thread can be started"), -1;
    return 0;
}

void work_stop(server *s) {
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}

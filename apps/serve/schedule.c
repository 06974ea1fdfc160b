/* schedule.c - which row does what next. One thread owns the engine: each turn it feeds a piece of one prompt (or several
 * short ones), then steps all texts that are being made as one batch. How long a piece is depends on who waits for that
 * step: as much as the engine takes at once when nobody does; else what costs about two steps, and up to four while as many
 * wait for their first token as for their next one, by what steps and prompts cost of late. Pieces are whole multiples of 16
 * tokens, so that products and scans come to the same bytes: a seed gives the same text whatever the load, from the same
 * kept prefix.
 *
 * Rows: texts being made have rows 0 to n_active-1, the prompt that is being fed has the next one. A text that ends gives
 * its row to the last of them, and that one's to the prompt. Of the jobs that wait, the next is the oldest of the client
 * with the fewest rows. */
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_PIECE  256 /* tokens of a prompt between two steps */
#define LEAST_PIECE 32  /* fewer cost as much: the weights are read for each piece */
#define PIECE_STEPS 2   /* what a piece may cost while texts wait for their next step; twice that while many wait for their
                           first */

double server_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int schedule_add(server *s, request *r) {
    pthread_mutex_lock(&s->lock);
    int status = s->stopping ? 503 : s->queued + r->n > s->settings->queue ? 429 : 0;
    if (status) {
        s->count.refused++;
    } else {
        s->count.requests++;
        for (int i = 0; i < r->n; i++) {
            r->refs++;
            *s->queue_end = r->jobs[i];
            s->queue_end = &r->jobs[i]->next;
            s->queued++;
        }
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* ---- with the lock held ---- */

static void end_job(job *j, const char *finish) {
    request *r = j->request;
    j->finish = finish;
    j->done = 1;
    pthread_cond_broadcast(&r->changed);
    request_unref(r);
}

static void fail_job(server *s, job *j, int status, const char *why) {
    request *r = j->request;
    if (!r->status) {
        r->status = status;
        snprintf(r->error, sizeof r->error, "%s", why);
    }
    s->count.failed++;
    end_job(j, "stop");
}

static int64_t rows_of(const server *s, uint64_t client) {
    int64_t n = s->filling && s->filling->request->client == client;
    for (int64_t i = 0; i < s->n_active; i++) n += s->active[i]->request->client == client;
    return n;
}

static job *take(server *s, job **at) {
    job *j = *at;
    *at = j->next;
    if (s->queue_end == &j->next) s->queue_end = at;
    j->next = NULL;
    s->queued--;
    return j;
}

static job *next_job(server *s) {
    job **best = NULL;
    int64_t fewest = INT64_MAX;
    for (job **at = &s->queue; *at;) {
        request *r = (*at)->request;
        if (r->cancelled) {
            end_job(take(s, at), "stop");
            continue;
        }
        if (r->deadline < server_now()) {
            fail_job(s, take(s, at), 504, "the request waited longer than the server's time limit");
            continue;
        }
        int64_t n = rows_of(s, r->client);
        if (n < fewest) fewest = n, best = at;
        at = &(*at)->next;
    }
    return best ? take(s, best) : NULL;
}

/* ---- with the lock free ---- */

static int emit(void *user, const char *text, size_t n) {
    job *j = user;
    server *s = j->request->server;
    pthread_mutex_lock(&s->lock);
    buffer_put(&j->text, text, n);
    int gone = j->request->cancelled || j->text.failed;
    pthread_cond_broadcast(&j->request->changed);
    pthread_mutex_unlock(&s->lock);
    return gone;
}

static void drop_gen(job *j) {
    gen_end(&j->gen);
}

/* The engine failed: what has a row is lost, and the rows begin again. */
static void fail_all(server *s) {
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_active; i++)
        drop_gen(s->active[i]), fail_job(s, s->active[i], 500, "the model could not be run; the server's messages say why");
    if (s->filling)
        drop_gen(s->filling), fail_job(s, s->filling, 500, "the model could not be run; the server's messages say why");
    s->n_active = 0;
    s->filling = NULL;
    pthread_mutex_unlock(&s->lock);
    for (int64_t i = 0; i <= s->rows; i++) engine_reset(s->engine, i);
}

static int embed(server *s, job *j) {
    double *vector;
    int64_t width;
    int bad = text_embed(&s->rt, s->engine, j->prompt.ids, j->prompt.n, 0, &vector, &width);
    pthread_mutex_lock(&s->lock);
    if (bad) {
        fail_job(s, j, 500, "the model could not be run; the server's messages say why");
    } else {
        j->vector = vector;
        j->width = width;
        s->count.prompt_tokens += j->prompt.n;
        end_job(j, "stop");
    }
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* Gives a job the row behind the active ones. */
static int begin(server *s, job *j) {
    j->row = s->n_active;
    if (engine_reset(s->engine, j->row)) return -1;
    j->fed = prefix_load(&s->prefixes, s->engine, j->row, j->prompt.ids, j->prompt.n);
    if (j->fed < 0) return -1;
    j->reused = j->fed;
    j->gen = (gen){.rt = &s->rt, .row = j->row, .stops = (const char *const *)j->stops, .n_stops = j->n_stops, .most = j->most,
                   .context = s->context, .goes_on = 1, .ignore_end = j->ignore_end, .emit = emit, .user = j};
    sampler_init(&j->gen.sampler, &j->rule);
    char why[256] = "";
    if (j->request->grammar && !(j->gen.grammar = grammar_start(j->request->grammar, why, sizeof why))) {
        pthread_mutex_lock(&s->lock);
        drop_gen(j);
        fail_job(s, j, 400, why);
        pthread_mutex_unlock(&s->lock);
        return 1;
    }
    gen_begin(&j->gen);
    return 0;
}

/* Tokens of prompts that may be fed before the next step. */
static int64_t allowance(const server *s) {
    if (!s->n_active || !(s->token_cost > 0)) return s->n_active ? 4 * LEAST_PIECE : MOST_PIECE;
    double waiting = (double)s->count.waiting / (double)s->n_active;
    double n = PIECE_STEPS * (1 + (waiting < 1 ? waiting : 1)) * s->step_cost / s->token_cost;
    return n >= MOST_PIECE ? MOST_PIECE : n <= LEAST_PIECE ? LEAST_PIECE : (int64_t)n / 16 * 16;
}

/* Costs of late: a running mean that follows within some ten of them. */
static void note_cost(double *cost, double seconds) {
    *cost = *cost > 0 ? *cost + (seconds - *cost) / 8 : seconds;
}

/* A piece of the prompt, `most` tokens or, where that is the end, half as many more; how many tokens, or -1. No piece leaves
 * less than 16, since a few tokens take other kernels. The state of a whole prompt is kept: the same prompt, and one that
 * goes on from it, begin there. */
static int64_t feed(server *s, job *j, int64_t most) {
    int64_t n = j->prompt.n, left = n - j->fed, now = left <= most + most / 2 && left <= MOST_PIECE ? left : most;
    if (now < left && left - now < 16) now -= 16;
    double begun = server_now();
    if (now && engine_feed(s->engine, j->row, j->prompt.ids + j->fed, now)) return -1;
    if (now >= 16) note_cost(&s->token_cost, (server_now() - begun) / (double)now);
    j->fed += now;
    int last = j->fed == n;
    if (last && now) prefix_keep(&s->prefixes, s->engine, j->row);
    pthread_mutex_lock(&s->lock);
    s->count.prompt_seconds += server_now() - begun;
    if (last) s->count.prompt_tokens += n - j->reused, s->count.reused_tokens += j->reused;
    s->count.kept_bytes = (int64_t)s->prefixes.bytes;
    pthread_mutex_unlock(&s->lock);
    return now;
}

/* Ends the texts that are done and closes the gaps in the rows. */
static int settle(server *s) {
    for (int64_t i = 0; i < s->n_active;) {
        job *j = s->active[i];
        pthread_mutex_lock(&s->lock);
        int gone = j->request->cancelled, late = j->request->deadline < server_now();
        j->made = j->gen.made;
        pthread_mutex_unlock(&s->lock);
        if (!j->gen.finish && !j->gen.failed && !gone && !late) {
            i++;
            continue;
        }
        if (!gone && !j->gen.failed) prefix_keep(&s->prefixes, s->engine, i);
        int64_t last = s->n_active - 1;
        if (i != last && engine_copy(s->engine, last, i)) return -1;
        if (s->filling && engine_copy(s->engine, s->filling->row, last)) return -1;
        pthread_mutex_lock(&s->lock);
        s->count.made_tokens += j->gen.made;
        s->count.cancelled += gone;
        const char *finish = j->gen.finish ? j->gen.finish : "length";
        if (i != last) {
            s->active[i] = s->active[last];
            s->active[i]->row = s->active[i]->gen.row = i;
        }
        drop_gen(j);
        end_job(j, finish); /* which may free it */
        if (s->filling) s->filling->row = s->filling->gen.row = last;
        s->n_active--;
        pthread_mutex_unlock(&s->lock);
    }
    return 0;
}

static int step(server *s) {
    int64_t ids[SERVE_MOST_ROWS];
    double begun = server_now();
    for (int64_t i = 0; i < s->n_active; i++) ids[i] = s->active[i]->gen.next;
    if (engine_step(s->engine, ids, s->n_active)) return -1;
    note_cost(&s->step_cost, server_now() - begun);
    for (int64_t i = 0; i < s->n_active; i++) {
        s->active[i]->gen.next = -1;
        if (gen_pick(&s->active[i]->gen, s->engine)) return -1;
    }
    pthread_mutex_lock(&s->lock);
    s->count.steps++;
    s->count.step_seconds += server_now() - begun;
    pthread_mutex_unlock(&s->lock);
    return settle(s);
}

/* Turns a fed prompt into a text that is being made. */
static int activate(server *s, job *j) {
    if (gen_pick(&j->gen, s->engine)) return -1;
    s->active[s->n_active++] = j;
    s->filling = NULL;
    return settle(s);
}

/* The job that waits the longest, if there is a row for it; a prompt that nobody waits for any more is dropped. */
static job *choose(server *s) {
    pthread_mutex_lock(&s->lock);
    job *fresh = !s->filling && s->n_active < s->rows ? next_job(s) : NULL;
    if (s->filling && (s->filling->request->cancelled || s->filling->request->deadline < server_now())) {
        drop_gen(s->filling);
        if (s->filling->request->cancelled) {
            s->count.cancelled++;
            end_job(s->filling, "stop");
        } else {
            fail_job(s, s->filling, 504, "the prompt took longer than the server's time limit");
        }
        s->filling = NULL;
    }
    s->count.active = s->n_active + (s->filling || fresh);
    s->count.waiting = s->queued;
    pthread_mutex_unlock(&s->lock);
    return fresh;
}

/* Work on prompts: a piece of one. The tokens of it, 0: nothing to do, -1: the engine failed. */
static int64_t fill(server *s, int64_t most) {
    job *fresh = choose(s);
    if (fresh && fresh->request->kind == JOB_EMBEDDING) {
        int64_t n = fresh->prompt.n;
        embed(s, fresh);
        return n ? n : 1;
    }
    if (fresh) {
        s->filling = fresh;
        int bad = begin(s, fresh);
        if (bad < 0) return -1;
        if (bad) return s->filling = NULL, 1;
    }
    if (!s->filling) return 0;
    int64_t n = feed(s, s->filling, most);
    if (n < 0 || (s->filling->fed == s->filling->prompt.n && activate(s, s->filling))) return -1;
    return n ? n : 1;
}

/* One turn: prompts until as many tokens are done as may be, of several prompts where they are short, then a step. 0 when
 * there was nothing to do. */
static int turn(server *s) {
    int64_t fed = 0, n = 1;
    for (int64_t most; fed < (most = allowance(s)) && n > 0;) {
        n = fill(s, most);
        if (n > 0) fed += n;
    }
    int worked = fed || s->n_active;
    if (n < 0 || (s->n_active && step(s))) return fail_all(s), 1;
    return worked;
}

void *schedule_main(void *server_) {
    server *s = server_;
    for (;;) {
        int worked = turn(s);
        pthread_mutex_lock(&s->lock);
        while (!worked && !s->stopping && !s->queue) pthread_cond_wait(&s->wake, &s->lock);
        int stop = s->stopping;
        pthread_mutex_unlock(&s->lock);
        if (stop) break;
    }
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_active; i++)
        drop_gen(s->active[i]), fail_job(s, s->active[i], 503, "the server is going down");
    if (s->filling) drop_gen(s->filling), fail_job(s, s->filling, 503, "the server is going down");
    while (s->queue) fail_job(s, take(s, &s->queue), 503, "the server is going down");
    s->n_active = 0;
    s->filling = NULL;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

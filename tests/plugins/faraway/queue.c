/* queue.c - faraway's queue. Every command waits: in deferred mode until wait() asks for its point, in thread mode until a
 * worker has slept and come to it. Host memory is read and written only then. A command that fails empties the queue, and
 * the next wait says so, once. Commands are freed by the host's own thread: its allocator need not be safe for others. */
#define _GNU_SOURCE
#include "faraway.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

far_command *far_command_new(strand_plugin_device *d, far_kind kind, uint32_t n) {
    const strand_host *host = d->instance->host;
    uint64_t bytes = sizeof(far_command) + n * sizeof(far_node);
    far_command *c = host->alloc(host->context, bytes, 16);
    if (!c) return NULL;
    memset(c, 0, bytes);
    c->bytes = bytes;
    c->kind = kind;
    c->n = n;
    return c;
}

void far_free_commands(strand_plugin_device *d, far_command *c) {
    const strand_host *host = d->instance->host;
    while (c) {
        far_command *next = c->next;
        host->free(host->context, c, c->bytes);
        c = next;
    }
}

/* Runs the first command. Called with the lock held; leaves it while working. */
static void run_first(strand_plugin_device *d) {
    far_command *c = d->first;
    if (!d->failure) {
        pthread_mutex_unlock(&d->lock);
        if (c->kind == FAR_TAKE)
            memcpy(c->device_bytes, c->from, c->length);
        else if (c->kind == FAR_GIVE)
            memcpy(c->to, c->device_bytes, c->length);
        else if (c->kind == FAR_MOVE)
            memcpy(c->device_bytes, c->from, c->length);
        else if (!c->fails)
            far_run(d, c);
        pthread_mutex_lock(&d->lock);
        if (c->fails) {
            d->failure = d->instance->set.fail_status;
            snprintf(d->text, sizeof d->text, "'%s' was told to fail late", c->nodes[0].name);
        }
    }
    d->first = c->next;
    if (!d->first) d->last = NULL;
    d->done = c->point;
    c->next = d->ran;
    d->ran = c;
    pthread_cond_broadcast(&d->finished);
}

static void *worker_main(void *arg) {
    strand_plugin_device *d = arg;
    struct timespec delay = {0, d->instance->set.delay_us * 1000};
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (!d->first && !d->stop) pthread_cond_wait(&d->more, &d->lock);
        if (!d->first) break;
        pthread_mutex_unlock(&d->lock);
        nanosleep(&delay, NULL);
        pthread_mutex_lock(&d->lock);
        run_first(d);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

strand_plugin_status far_queue_open(strand_plugin_device *d) {
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->memory, NULL);
    pthread_cond_init(&d->more, NULL);
    pthread_cond_init(&d->finished, NULL);
    if (!d->instance->set.thread || !pthread_create(&d->worker, NULL, worker_main, d)) return STRAND_PLUGIN_OK;
    return STRAND_PLUGIN_ERR_DEVICE;
}

void far_queue_close(strand_plugin_device *d) {
    if (d->instance->set.thread) {
        pthread_mutex_lock(&d->lock);
        d->stop = true;
        pthread_cond_signal(&d->more);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->worker, NULL);
    }
    far_free_commands(d, d->first);
    far_free_commands(d, d->ran);
    d->first = d->ran = NULL;
    pthread_cond_destroy(&d->finished);
    pthread_cond_destroy(&d->more);
    pthread_mutex_destroy(&d->lock);
}

void far_push(strand_plugin_device *d, far_command *c) {
    pthread_mutex_lock(&d->lock);
    c->point = ++d->given;
    if (d->last)
        d->last->next = c;
    else
        d->first = c;
    d->last = c;
    pthread_cond_signal(&d->more);
    pthread_mutex_unlock(&d->lock);
}

bool far_idle(strand_plugin_device *d) {
    pthread_mutex_lock(&d->lock);
    bool idle = !d->first;
    pthread_mutex_unlock(&d->lock);
    return idle;
}

strand_plugin_status far_submit(strand_plugin_device *d, uint64_t *point) {
    pthread_mutex_lock(&d->lock);
    *point = d->given;
    pthread_mutex_unlock(&d->lock);
    return STRAND_PLUGIN_OK;
}

strand_plugin_status far_wait(strand_plugin_device *d, uint64_t point) {
    pthread_mutex_lock(&d->lock);
    while (d->done < point && d->first) {
        if (d->instance->set.thread)
            pthread_cond_wait(&d->finished, &d->lock);
        else
            run_first(d);
    }
    strand_plugin_status status = d->failure;
    far_command *ran = d->ran;
    d->ran = NULL;
    d->failure = STRAND_PLUGIN_OK;
    bool beyond = point > d->given;
    pthread_mutex_unlock(&d->lock);
    far_free_commands(d, ran);
    if (status) return far_fail(d, status, "%s", d->text);
    if (beyond) return far_fail(d, STRAND_PLUGIN_ERR_ARGUMENT, "ABI violation: a wait for a point that was never given");
    return far_turn(d, FAR_WAIT);
}

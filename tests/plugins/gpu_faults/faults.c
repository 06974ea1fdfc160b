/* faults.c - which call fails, and the count of objects. One lock: plugins may call from several threads. */
#define _GNU_SOURCE
#include "faults.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t fault_largest, fault_memory;
bool fault_no_device;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const char *name;
    long nth, calls, live;
    int code;
    bool on, broken;
} state;

void fault_set(const char *name, long nth, int code, bool on) {
    pthread_mutex_lock(&lock);
    state.name = name;
    state.nth = nth;
    state.code = code;
    state.on = on;
    state.broken = false;
    state.calls = 0;
    pthread_mutex_unlock(&lock);
}

long fault_live(void) {
    pthread_mutex_lock(&lock);
    long n = state.live;
    pthread_mutex_unlock(&lock);
    return n;
}

long fault_calls(void) {
    pthread_mutex_lock(&lock);
    long n = state.calls;
    pthread_mutex_unlock(&lock);
    return n;
}

bool fault_now(const char *name, int *code) {
    pthread_mutex_lock(&lock);
    bool mine = state.name && (!strcmp(state.name, "*") || !strcmp(state.name, name));
    bool fails = state.broken || (mine && ++state.calls == state.nth);
    if (fails && state.on) state.broken = true;
    *code = state.code;
    pthread_mutex_unlock(&lock);
    return fails;
}

void fault_count(long objects) {
    pthread_mutex_lock(&lock);
    state.live += objects;
    pthread_mutex_unlock(&lock);
}

void *fault_real(const char *library, const char *name) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL), *symbol = handle ? dlsym(handle, name) : NULL;
    if (symbol) return symbol;
    fprintf(stderr, "%s: no %s\n", library, name);
    abort();
}

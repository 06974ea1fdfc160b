/* progress.c - the progress line and the signal handlers. See progress.h for what a signal does.
 */
#include "progress.h"

#include "output.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Atomic int stop_signal, waiting;

static struct {
    int enabled, shown;
    const char *unit;
    double units, fraction, start, last;
} state;

static void die_by(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
}

static void on_signal(int number) {
    if (stop_signal || waiting) { /* only async-signal-safe calls here */
        output_remove_temps();
        die_by(number);
        _exit(128 + number);
    }
    stop_signal = number;
}

void signals_setup(void) {
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) /* what nohup or a shell's `&` ignores stays ignored */
        if (sigaction(stops[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(stops[i], &action, NULL);
    action.sa_handler = SIG_IGN; /* a closed pipe is then an EPIPE, after which temporary files can be removed */
    sigaction(SIGPIPE, &action, NULL);
}

int interrupted(void) {
    return stop_signal != 0;
}

void signals_waiting(int on) {
    waiting = on;
    if (on && stop_signal) on_signal(stop_signal);
}

int signals_exit(int rc) {
    output_remove_temps();
    if (stop_signal) {
        progress_clear();
        die_by(stop_signal);
    }
    if (output_pipe_closed()) die_by(SIGPIPE);
    return rc;
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

void progress_setup(int quiet) {
    state.enabled = !quiet && isatty(STDERR_FILENO);
}

void progress_begin(const char *unit) {
    state.unit = unit;
    state.units = 0;
    state.fraction = -1;
    state.start = state.last = now();
}

static void show(void) {
    const double time = now();
    if (!state.enabled || !state.unit || time - state.last < 0.25) return;
    state.last = time;
    const double elapsed = time - state.start;
    fprintf(stderr, "\r\033[K%.0f %s, %.0f/s", state.units, state.unit, elapsed > 0 ? state.units / elapsed : 0);
    if (state.fraction > 0 && state.fraction <= 1) {
        const long left = (long)(elapsed * (1 - state.fraction) / state.fraction + 0.5);
        fprintf(stderr, ", %.1f %%, %ld:%02ld:%02ld left", 100 * state.fraction, left / 3600, left / 60 % 60, left % 60);
    }
    fflush(stderr);
    state.shown = 1;
}

void progress_add(const char *unit, double count) {
    if (state.unit && !strcmp(unit, state.unit)) state.units += count;
    show();
}

void progress_fraction(double fraction) {
    state.fraction = fraction;
}

void progress_clear(void) {
    if (!state.shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    state.shown = 0;
}

int progress_callback(void *user, double done) {
    (void)user;
    (void)done;
    show();
    return interrupted();
}

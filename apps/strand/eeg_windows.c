/* eeg_windows.c - see eeg_windows.h. A window never reaches over a gap.
 *
 * With --follow a file is asked four times a second whether it has grown, a stream is read as it comes; the walk goes on where
 * it stood, so memory stays what it was. It ends by a signal, by the end of the stream, or after --idle seconds without news.
 *
 * A model that keeps a state goes second by second then: windows that overlap are rows of one session, each begun anew where
 * its window begins, so that a window costs one step when its last second is there. Window i is row i mod `open`; a row is
 * free again before its next window begins, because `open` windows together last at least as long as one.
 */
#include "eeg_windows.h"

#include "progress.h"
#include "stream.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t eeg_batch(const options *settings) {
    const int64_t wanted = settings->batch ? settings->batch : settings->follow ? 1 : 4;
    return wanted > EEG_MOST_BATCH ? EEG_MOST_BATCH : wanted;
}

int eeg_write_header(output *out, const runtime *rt, const eeg_source *source) {
    char settings[512];
    runtime_settings(rt, settings, sizeof settings);
    output_printf(out, "# strand %s\n# model %s sha256 %s precision %s\n", strand_version(), rt->info.name,
                  strand_model_sha256(rt->model), rt->info.precision);
    output_printf(out, "# backend %s\n# settings %s\n", rt->backends[0] ? rt->backends : "none", settings);
    if (!source->filters) return output_printf(out, "# recording %s, %s\n", eeg_source_name(source), source->rec->format);
    return output_printf(out, "# recording %s, %s, at %g Hz%s\n", eeg_source_name(source), source->rec->format, source->rate,
                         source->fourier         ? " by the Fourier method"
                         : source->filters[0].up ? " by a polyphase filter"
                                                 : "");
}

int eeg_walk_open(eeg_walk *w, eeg_source *source, const options *settings, const char *path, const char *const *channels,
                  int32_t n, double rate, int64_t bins, int64_t seconds) {
    w->source = source;
    int rc = eeg_source_open(source, settings, path, seconds);
    if (!rc) rc = eeg_source_prepare(source, channels, n, rate);
    if (!rc) source->average = settings->montage == MONTAGE_AVERAGE;
    if (!rc) rc = eeg_seconds_open(&w->seconds, source, bins, seconds + EEG_MOST_BATCH * w->step + 2);
    if (!rc && !settings->quiet) eeg_source_say_map(source);
    return rc;
}

void eeg_walk_close(eeg_walk *w) {
    eeg_seconds_close(&w->seconds);
    if (w->source) eeg_source_close(w->source);
}

static int hand_on(eeg_walk *w, int64_t first, int64_t n) {
    if (w->net && eeg_net_run(w->net, w->outputs, w->n_outputs)) return -1;
    for (int64_t i = 0; i < n; i++)
        if (w->take(w->user, w->span, first + i * w->step, w->outputs, i)) return -1;
    w->windows += n;
    progress_add("windows", (double)n);
    return 0;
}

/* The same second by second: what ends with a second is handed on at once. */
static int step_span(eeg_walk *w, int64_t there) {
    for (; w->second < there; w->second++) {
        const int64_t first = w->second + 1 - w->need, window = first / w->step;
        if (eeg_net_step(w->net, &w->seconds, w->span, w->second, w->step, w->outputs, w->n_outputs)) return -1;
        if (first < 0 || first % w->step) continue;
        if (w->take(w->user, w->span, first, w->outputs, window % w->net->batch)) return -1;
        w->next = first + w->step;
        w->windows++;
        progress_add("windows", 1);
        if (interrupted()) return -1;
    }
    return 0;
}

/* All windows of the current span that can be had. */
static int walk_span(eeg_walk *w, int final) {
    const int64_t there = eeg_seconds_count(&w->seconds, w->span, final), batch = w->net ? w->net->batch : 1;
    if (w->net && w->net->stepwise) return step_span(w, there);
    while (w->next + w->need <= there) {
        const int64_t first = w->next;
        int64_t n = 0;
        for (; n < batch && w->next + w->need <= there; n++, w->next += w->step)
            if (w->net && eeg_net_add(w->net, &w->seconds, w->span, w->next)) return -1;
        if (hand_on(w, first, n) || interrupted()) return -1;
    }
    return 0;
}

/* Everything that is there; `final`: nothing more will come. */
static int walk_all(eeg_walk *w, int final) {
    for (;;) {
        const int last = w->span + 1 >= w->source->rec->n_spans;
        if (walk_span(w, final || !last)) return -1;
        if (last && !final) return 0;
        if (w->span_done && w->span_done(w->user, w->span)) return -1;
        if (last) return 0;
        w->span++;
        w->next = w->second = 0;
    }
}

static void pause_for(const eeg_source *source) {
    struct pollfd wait = {STDIN_FILENO, POLLIN, 0};
    const int is_stream = source->rec->refresh && source->rec->in.fd < 0;
    poll(&wait, is_stream ? 1 : 0, 250);
}

int eeg_follow(eeg_source *source, int (*all)(void *user, int final), int (*idle)(void *user), void *user) {
    time_t news = time(NULL);
    const double patience = source->settings->idle;
    for (;;) {
        const int grown = eeg_source_refresh(source);
        if (grown < 0) return -1;
        if (grown) news = time(NULL);
        if (all(user, 0) || (grown && idle && idle(user))) return -1;
        const int over = stream_ended(source->rec) || (patience > 0 && difftime(time(NULL), news) >= patience);
        if (over) return all(user, 1);
        if (interrupted()) return -1;
        if (!grown) pause_for(source);
    }
}

static int all_of(void *user, int final) {
    return walk_all(user, final);
}

static int idle_of(void *user) {
    const eeg_walk *w = user;
    return w->idle ? w->idle(w->user) : 0;
}

int eeg_walk_run(eeg_walk *w) {
    progress_begin("windows");
    if (w->source->settings->follow) return eeg_follow(w->source, all_of, idle_of, w);
    return walk_all(w, 1);
}

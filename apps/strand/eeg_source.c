/* eeg_source.c - from signals of a file to channels of a model (eeg_source.h).
 *
 * Fourier resampling follows the published pipelines: n samples at f Hz become rate * floor(n / f). Each span is a signal of
 * its own. Invariant: nothing here keeps more than a window, one signal (Fourier method) and the file reader's cache.
 */
#include "eeg_source.h"

#include "memory.h"
#include "progress.h"
#include "stream.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *eeg_source_name(const eeg_source *s) {
    const char *slash = strrchr(s->path, '/');
    return slash ? slash + 1 : s->path;
}

/* "iiic-sparcnet" names the rows of that collection's clips. */
static const char *row_names(const char *given) {
    if (given && !strcmp(given, "iiic-sparcnet")) return "Fp1,F3,C3,P3,F7,T3,T5,O1,Fz,Cz,Pz,Fp2,F4,C4,P4,F8,T4,T6,O2,EKG";
    return given;
}

/* Frames from the standard input. */
static int open_stream(eeg_source *s, int64_t seconds) {
    char error[REC_ERROR_BYTES];
    const options *settings = s->settings;
    if (!settings->follow)
        return complain("%s: the standard input is read with --follow only, as float frames", settings->command->name),
               EXIT_USAGE;
    s->path = "standard input";
    s->rec = stream_open(STDIN_FILENO, row_names(settings->channels), settings->rate, (double)seconds + 30, error);
    return s->rec ? 0 : (complain("%s: %s", settings->command->name, error), EXIT_USAGE);
}

int eeg_source_open(eeg_source *s, const options *settings, const char *path, int64_t seconds) {
    char error[REC_ERROR_BYTES];
    memset(s, 0, sizeof *s);
    s->spool = -1;
    s->settings = settings;
    s->path = path;
    if (settings->follow && settings->report)
        return complain("%s: --report needs a finished recording, not --follow", settings->command->name), EXIT_USAGE;
    if (settings->follow && settings->edf_annotations)
        return complain("%s: --edf needs a finished recording, not --follow", settings->command->name), EXIT_USAGE;
    if (!strcmp(path, "-")) return open_stream(s, seconds);
    const rec_options o = {settings->rate, settings->variable, row_names(settings->channels), settings->memory};
    s->rec = recording_open(path, &o, error);
    if (!s->rec) return complain("%s: %s", path, error), EXIT_FAILED;
    if (settings->follow && !s->rec->refresh)
        return complain("%s: a %s file is not followed; EDF and BDF files are, and frames from the standard input", path,
                        s->rec->format),
               EXIT_USAGE;
    return 0;
}

static void say_notes(const eeg_source *s) {
    for (int32_t i = 0; i < s->rec->n_notes; i++) remark("%s: %s", s->path, s->rec->notes[i]);
}

void eeg_source_close(eeg_source *s) {
    for (int32_t c = 0; s->filters && c < s->map.n; c++) polyphase_close(&s->filters[c]);
    free(s->filters);
    free(s->spool_at);
    free(s->samples);
    free(s->scratch);
    free(s->scratch_minus);
    if (s->spool >= 0) close(s->spool);
    channel_map_close(&s->map);
    recording_close(s->rec);
    s->rec = NULL;
}

static double channel_rate(const eeg_source *s, int32_t channel) {
    const int32_t plus = s->map.channels[channel].plus;
    return plus < 0 ? s->rate : s->rec->signals[plus].rate;
}

static int reserve(eeg_source *s, int64_t n) {
    if (n <= s->scratch_room) return 0;
    free(s->scratch);
    free(s->scratch_minus);
    s->scratch = malloc((size_t)n * sizeof *s->scratch);
    s->scratch_minus = malloc((size_t)n * sizeof *s->scratch_minus);
    s->scratch_room = s->scratch && s->scratch_minus ? n : 0;
    return s->scratch_room ? 0 : (complain("out of memory: %lld samples at once", (long long)n), -1);
}

/* Samples of a channel at the file's rate, in microvolts. */
static int read_raw(eeg_source *s, int32_t channel, int64_t span, int64_t from, int64_t n, double *to) {
    char error[REC_ERROR_BYTES];
    const channel_source *c = &s->map.channels[channel];
    if (c->plus < 0) {
        memset(to, 0, (size_t)n * sizeof *to);
        return 0;
    }
    int bad = recording_read(s->rec, c->plus, span, from, n, to, error);
    if (!bad && c->minus >= 0) {
        bad = recording_read(s->rec, c->minus, span, from, n, s->scratch_minus, error);
        for (int64_t i = 0; !bad && i < n; i++) to[i] -= s->scratch_minus[i];
    }
    if (bad) return complain("%s: %s", s->path, error), -1;
    for (int64_t i = 0; i < n; i++) {
        to[i] *= c->scale;
        if (isfinite(to[i])) continue;
        complain("%s: channel %s is not a finite number at %.3f s; cut this stretch out or choose another channel with --map",
                 s->path, c->name, s->rec->spans[span].onset + (double)(from + i) / channel_rate(s, channel));
        return -1;
    }
    return 0;
}

/* ---- Fourier method ---- */

static int open_spool(eeg_source *s) {
    char path[512];
    const char *folder = getenv("TMPDIR");
    if (snprintf(path, sizeof path, "%s/strand-eeg-XXXXXX", folder && *folder ? folder : "/tmp") >= (int)sizeof path)
        return complain("TMPDIR is too long"), -1;
    s->spool = mkstemp(path);
    if (s->spool < 0) return complain("%s: cannot be made: %s; set TMPDIR to a folder with room", path, strerror(errno)), -1;
    unlink(path);
    return 0;
}

static int spool_write(eeg_source *s, int64_t at, const double *data, int64_t n) {
    const char *p = (const char *)data;
    int64_t left = n * (int64_t)sizeof *data, place = at * (int64_t)sizeof *data;
    while (left > 0) {
        const ssize_t done = pwrite(s->spool, p, (size_t)left, (off_t)place);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return complain("the temporary file for resampled signals cannot be written: %s; set TMPDIR to a folder with room, "
                            "or use --resample polyphase",
                            strerror(errno)),
                   -1;
        p += done;
        left -= done;
        place += done;
    }
    return 0;
}

static int spool_read(const eeg_source *s, int64_t at, double *to, int64_t n) {
    char *p = (char *)to;
    int64_t left = n * (int64_t)sizeof *to, place = at * (int64_t)sizeof *to;
    while (left > 0) {
        const ssize_t done = pread(s->spool, p, (size_t)left, (off_t)place);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return complain("the temporary file for resampled signals cannot be read: %s", strerror(done < 0 ? errno : EIO)),
                   -1;
        p += done;
        left -= done;
        place += done;
    }
    return 0;
}

static int check_memory(const eeg_source *s, int64_t n, int64_t count) {
    const uint64_t need =
        resample_fourier_bytes(n, count) + 3 * sizeof(double) * (uint64_t)n + sizeof(double) * (uint64_t)count;
    uint64_t limit = s->settings->memory;
    if (!limit) limit = memory_available() / 4 * 3;
    if (!limit || need <= limit) return 0;
    complain("%s: resampling %lld samples at once by the Fourier method takes %.0f MiB, more than the %.0f MiB allowed; use "
             "--resample polyphase, or raise --memory",
             s->path, (long long)n, (double)need / 1048576, (double)limit / 1048576);
    return -1;
}

static int spool_channel(eeg_source *s, int32_t channel, int64_t span, double *out) {
    const channel_source *c = &s->map.channels[channel];
    const int64_t count = s->samples[span], at = s->spool_at[span] + channel * count;
    if (c->plus < 0) {
        memset(out, 0, (size_t)count * sizeof *out);
        return spool_write(s, at, out, count);
    }
    const int64_t n = recording_samples(s->rec, c->plus, span);
    if (reserve(s, n) || read_raw(s, channel, span, 0, n, s->scratch)) return -1;
    if (s->rec->signals[c->plus].rate == s->rate) return spool_write(s, at, s->scratch, count);
    if (resample_fourier(s->scratch, n, out, count))
        return complain("out of memory: resampling %lld samples", (long long)n), -1;
    return spool_write(s, at, out, count);
}

static int spool_all(eeg_source *s) {
    int64_t most = 1, longest = 1;
    for (int64_t k = 0; k < s->rec->n_spans; k++) {
        if (s->samples[k] > most) most = s->samples[k];
        for (int32_t c = 0; c < s->map.n; c++)
            if (s->map.channels[c].plus >= 0 && recording_samples(s->rec, s->map.channels[c].plus, k) > longest)
                longest = recording_samples(s->rec, s->map.channels[c].plus, k);
        s->spool_at[k + 1] = s->spool_at[k] + s->samples[k] * s->map.n;
    }
    if (check_memory(s, longest, most) || open_spool(s)) return -1;
    double *out = malloc((size_t)most * sizeof *out);
    int bad = out ? 0 : (complain("out of memory: %lld samples", (long long)most), -1);
    for (int64_t k = 0; !bad && k < s->rec->n_spans; k++)
        for (int32_t c = 0; !bad && c < s->map.n && s->samples[k]; c++) {
            bad = interrupted() ? -1 : spool_channel(s, c, k, out);
            progress_fraction(-1);
        }
    free(out);
    return bad;
}

/* ---- getting ready ---- */

static int64_t count_at_rate(const eeg_source *s, int64_t span) {
    int64_t least = INT64_MAX;
    for (int32_t c = 0; c < s->map.n; c++) {
        const int32_t plus = s->map.channels[c].plus;
        if (plus < 0) continue;
        const int64_t n = recording_samples(s->rec, plus, span);
        const double rate = s->rec->signals[plus].rate;
        int64_t count = n;
        if (rate != s->rate)
            count = s->fourier ? (int64_t)(s->rate * floor((double)n / rate + 1e-9)) : polyphase_count(&s->filters[c], n);
        if (count < least) least = count;
    }
    return least == INT64_MAX ? 0 : least;
}

static int size_spans(eeg_source *s) {
    const size_t n = (size_t)s->rec->n_spans;
    int64_t *at = realloc(s->spool_at, (n + 1) * sizeof *at),
            *samples = at ? realloc(s->samples, (n + 1) * sizeof *samples) : NULL;
    if (at) s->spool_at = at;
    if (samples) s->samples = samples;
    if (!at || !samples) return complain("out of memory"), -1;
    at[0] = 0;
    for (int64_t k = 0; k < s->rec->n_spans; k++) samples[k] = count_at_rate(s, k);
    return 0;
}

static int open_filters(eeg_source *s) {
    s->filters = calloc((size_t)s->map.n + 1, sizeof *s->filters);
    if (!s->filters) return complain("out of memory"), -1;
    int differ = 0;
    for (int32_t c = 0; c < s->map.n; c++) differ = differ || channel_rate(s, c) != s->rate;
    s->fourier = differ && s->settings->resample == RESAMPLE_FOURIER && !s->settings->follow;
    for (int32_t c = 0; c < s->map.n && differ && !s->fourier; c++) {
        if (channel_rate(s, c) == s->rate) continue;
        const int state = polyphase_open(&s->filters[c], channel_rate(s, c), s->rate);
        if (state == -1) return complain("out of memory"), -1;
        if (state == -2)
            return complain("%s: channel %s has %g Hz, which has no simple ratio to %g Hz; use --resample fft", s->path,
                            s->map.channels[c].name, channel_rate(s, c), s->rate),
                   -1;
    }
    return 0;
}

int eeg_source_prepare(eeg_source *s, const char *const *wanted, int32_t n, double rate) {
    char error[MAP_ERROR_BYTES];
    const map_options o = {s->settings->map_file, s->settings->missing_channel == CHANNEL_ZERO};
    const int bad = wanted ? channel_map_open(&s->map, s->rec, wanted, n, &o, error) : channel_map_all(&s->map, s->rec, error);
    if (bad) return complain("%s: %s", s->path, error), EXIT_FAILED;
    say_notes(s);
    s->rate = rate;
    if (rate <= 0) return 0;
    if (open_filters(s) || size_spans(s)) return EXIT_FAILED;
    if (s->fourier && spool_all(s)) return EXIT_FAILED;
    return 0;
}

int eeg_source_refresh(eeg_source *s) {
    char error[REC_ERROR_BYTES];
    const int grown = recording_refresh(s->rec, error);
    if (grown < 0) return complain("%s: %s", s->path, error), -1;
    if (grown && s->rate > 0 && size_spans(s)) return -1;
    return grown;
}

int64_t eeg_source_samples(const eeg_source *s, int64_t span, int final) {
    int64_t least = s->samples[span];
    if (final || s->fourier || span + 1 < s->rec->n_spans) return least;
    for (int32_t c = 0; c < s->map.n; c++) { /* what the filter needs must be there */
        const polyphase *p = &s->filters[c];
        if (!p->up) continue;
        const int64_t n = recording_samples(s->rec, s->map.channels[c].plus, span), ready = (n * p->up - p->half) / p->down;
        if (ready < least) least = ready < 0 ? 0 : ready;
    }
    return least;
}

/* ---- reading ---- */

int eeg_source_read_channel(eeg_source *s, int32_t c, int64_t span, int64_t from, int64_t n, double *to) {
    if (s->fourier) return spool_read(s, s->spool_at[span] + c * s->samples[span] + from, to, n);
    const polyphase *p = &s->filters[c];
    if (!p->up) return reserve(s, n) || read_raw(s, c, span, from, n, to) ? -1 : 0;
    int64_t first, last;
    const int64_t have = recording_samples(s->rec, s->map.channels[c].plus, span);
    polyphase_needs(p, from, n, &first, &last);
    if (first < 0) first = 0;
    if (last > have) last = have;
    if (last < first) last = first;
    if (reserve(s, last - first + 1) || read_raw(s, c, span, first, last - first, s->scratch)) return -1;
    polyphase_run(p, s->scratch, first, last, from, n, to);
    return 0;
}

int eeg_source_read_native(eeg_source *s, int32_t c, int64_t span, int64_t from, int64_t n, double *to) {
    return reserve(s, n) || read_raw(s, c, span, from, n, to) ? -1 : 0;
}

int eeg_source_read(eeg_source *s, int64_t span, int64_t from, int64_t n, double *to) {
    for (int32_t c = 0; c < s->map.n; c++)
        if (eeg_source_read_channel(s, c, span, from, n, to + c * n)) return -1;
    if (!s->average) return 0;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        int32_t there = 0;
        for (int32_t c = 0; c < s->map.n; c++)
            if (s->map.channels[c].plus >= 0) sum += to[c * n + i], there++;
        for (int32_t c = 0; c < s->map.n; c++)
            if (s->map.channels[c].plus >= 0) to[c * n + i] -= sum / there;
    }
    return 0;
}

void eeg_source_say_map(const eeg_source *s) {
    char line[1900], text[256];
    size_t used = 0;
    for (int32_t c = 0; c < s->map.n; c++) {
        channel_map_text(&s->map, s->rec, c, text, sizeof text);
        const int n = snprintf(line + used, sizeof line - used, "%s%s <- %s", c ? "; " : "", s->map.channels[c].name, text);
        if (n < 0 || (size_t)n >= sizeof line - used) break;
        used += (size_t)n;
    }
    remark("channels: %s", line);
}

/* eeg_dump.c - samples of a recording as raw doubles on the standard output, for comparison with other readers and resamplers.
 * Usage: eeg_dump FILE all | fourier HZ | polyphase HZ. Signals one after the other, spans inside; MAT arrays are read at
 * 200 Hz.
 */
#include "recording.h"
#include "resample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_doubles(const double *x, int64_t n) {
    return fwrite(x, sizeof *x, (size_t)n, stdout) == (size_t)n ? 0 : -1;
}

static int resampled(const char *how, const double *x, int64_t n, double from, double to) {
    polyphase p = {0};
    int64_t count = (int64_t)(to * (double)(int64_t)((double)n / from));
    if (how[0] == 'p') {
        if (polyphase_open(&p, from, to)) return -1;
        count = polyphase_count(&p, n);
    }
    double *y = malloc((size_t)(count + 1) * sizeof *y);
    int bad = y ? 0 : -1;
    if (!bad && how[0] == 'p')
        polyphase_run(&p, x, 0, n, 0, count, y);
    else if (!bad)
        bad = resample_fourier(x, n, y, count);
    if (!bad) bad = write_doubles(y, count);
    free(y);
    polyphase_close(&p);
    return bad;
}

int main(int argc, char **argv) {
    char error[REC_ERROR_BYTES];
    const rec_options options = {.rate = 200};
    recording *r = argc > 2 ? recording_open(argv[1], &options, error) : NULL;
    if (!r) return fprintf(stderr, "%s\n", argc > 2 ? error : "usage: eeg_dump FILE all|fourier|polyphase [HZ]"), 1;
    int bad = 0;
    for (int32_t s = 0; !bad && s < r->n_signals; s++)
        for (int64_t k = 0; !bad && k < r->n_spans; k++) {
            const int64_t n = recording_samples(r, s, k);
            double *x = malloc((size_t)(n + 1) * sizeof *x);
            bad = !x || recording_read(r, s, k, 0, n, x, error);
            if (!bad)
                bad = argc > 3 ? resampled(argv[2], x, n, r->signals[s].rate, strtod(argv[3], NULL)) : write_doubles(x, n);
            free(x);
        }
    recording_close(r);
    return bad ? 1 : 0;
}

/* check_recording.h - what the fuzz targets of the readers of recordings hold every opened one to. */
#ifndef STRAND_TESTS_FUZZ_CHECK_RECORDING_H
#define STRAND_TESTS_FUZZ_CHECK_RECORDING_H

#include <math.h>

#include "fuzz.h"
#include "recording.h"

enum { MOST_SAMPLES = 4096 };

static void check_text(const char *text) {
    for (; *text; text++) FUZZ_REQUIRE((unsigned char)*text >= 0x20 && *text != 0x7f);
}

/* The ends of each span can be read, and nothing behind it. */
static void check_signal(recording *r, int32_t i) {
    static double x[MOST_SAMPLES];
    char error[REC_ERROR_BYTES];
    check_text(r->signals[i].label);
    check_text(r->signals[i].unit);
    FUZZ_REQUIRE(r->signals[i].rate > 0 && isfinite(r->signals[i].rate));
    for (int64_t k = 0; k < r->n_spans && k < 16; k++) {
        const int64_t n = recording_samples(r, i, k), some = n < MOST_SAMPLES ? n : MOST_SAMPLES;
        FUZZ_REQUIRE(n > 0);
        FUZZ_REQUIRE(recording_read(r, i, k, 0, some, x, error) == 0);
        FUZZ_REQUIRE(recording_read(r, i, k, n - some, some, x, error) == 0);
        FUZZ_REQUIRE(recording_read(r, i, k, n - some + 1, some, x, error) != 0);
    }
}

#endif

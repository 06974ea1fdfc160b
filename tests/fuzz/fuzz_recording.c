/* fuzz_recording.c - EDF, BDF and MAT v5: opens or says why not; every sample that is promised can be read, and no text holds controls. */
#include "fuzz.h"
#include "recording.h"

enum { MOST = 4096 };

static void check_text(const char *text) {
    for (; *text; text++) FUZZ_REQUIRE((unsigned char)*text >= 0x20 && *text != 0x7f);
}

static void check_signal(recording *r, int32_t i, double *x, char *error) {
    check_text(r->signals[i].label);
    check_text(r->signals[i].unit);
    FUZZ_REQUIRE(r->signals[i].rate > 0);
    for (int64_t k = 0; k < r->n_spans && k < 16; k++) {
        const int64_t n = recording_samples(r, i, k), some = n < MOST ? n : MOST;
        FUZZ_REQUIRE(n > 0);
        FUZZ_REQUIRE(recording_read(r, i, k, 0, some, x, error) == 0);
        FUZZ_REQUIRE(recording_read(r, i, k, n - some, some, x, error) == 0);
        FUZZ_REQUIRE(recording_read(r, i, k, n - some + 1, some, x, error) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static double x[MOST];
    char error[REC_ERROR_BYTES] = "";
    const rec_options options = {.rate = 200, .memory = (uint64_t)8 << 20};
    recording *r = recording_open_memory(data, size, &options, error);
    if (!r) {
        FUZZ_REQUIRE(error[0]);
        return 0;
    }
    FUZZ_REQUIRE(r->n_signals > 0 && r->n_spans > 0);
    for (int64_t k = 1; k < r->n_spans; k++) FUZZ_REQUIRE(r->spans[k].onset > r->spans[k - 1].onset);
    for (int64_t i = 0; i < r->n_events; i++) check_text(r->events[i].text);
    for (int32_t i = 0; i < r->n_signals && i < 32; i++) check_signal(r, i, x, error);
    recording_close(r);
    return 0;
}

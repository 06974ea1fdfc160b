/* fuzz_recording.c - EDF, BDF and MAT v5: opens or says why not; every sample that is promised can be read, and no text
 * holds controls. */
#include "check_recording.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
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
    for (int32_t i = 0; i < r->n_signals && i < 32; i++) check_signal(r, i);
    recording_close(r);
    return 0;
}

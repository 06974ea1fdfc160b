/* fuzz_brainvision.c - a BrainVision triplet: opens or says why not; what is promised can be read, dates and spans make sense.
 *
 * The input is the header, a byte 0xFE, the marker file, another 0xFE, and the data file. They become a.vhdr, a.vmrk and
 * a.eeg in a folder of their own, for the reader takes files beside the header and nothing else. */
#include "check_recording.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[64], header[80], markers[80], samples[80];

static void remove_all(void) {
    unlink(header);
    unlink(markers);
    unlink(samples);
    rmdir(folder);
}

static void make_folder(void) {
    const char *root = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(folder, sizeof folder, "%s/strand-fuzz-XXXXXX", root);
    FUZZ_REQUIRE(mkdtemp(folder));
    snprintf(header, sizeof header, "%s/a.vhdr", folder);
    snprintf(markers, sizeof markers, "%s/a.vmrk", folder);
    snprintf(samples, sizeof samples, "%s/a.eeg", folder);
    atexit(remove_all);
}

/* Up to the next 0xFE; returns what is behind it. */
static const uint8_t *write_part(const char *path, const uint8_t *from, const uint8_t *end, int last) {
    const uint8_t *stop = last || from == end ? NULL : memchr(from, 0xfe, (size_t)(end - from));
    const size_t n = (size_t)((stop ? stop : end) - from);
    FILE *file = fopen(path, "wb");
    FUZZ_REQUIRE(file && (!n || fwrite(from, 1, n, file) == n));
    FUZZ_REQUIRE(!fclose(file));
    return stop ? stop + 1 : end;
}

static void check(recording *r) {
    FUZZ_REQUIRE(r->n_signals > 0 && r->n_spans > 0 && isfinite(r->duration) && isfinite(r->end));
    for (int64_t k = 0; k < r->n_spans; k++) {
        FUZZ_REQUIRE(isfinite(r->spans[k].onset) && isfinite(r->spans[k].duration) && r->spans[k].duration > 0);
        FUZZ_REQUIRE(!k || r->spans[k].onset > r->spans[k - 1].onset);
    }
    for (int64_t i = 0; i < r->n_events; i++) {
        check_text(r->events[i].text);
        FUZZ_REQUIRE(isfinite(r->events[i].onset) && isfinite(r->events[i].duration));
    }
    if (r->has_start) {
        static const int least[6] = {1900, 1, 1, 0, 0, 0}, most[6] = {9999, 12, 31, 23, 59, 60};
        for (int i = 0; i < 6; i++) FUZZ_REQUIRE(r->start[i] >= least[i] && r->start[i] <= most[i]);
    }
    for (int32_t i = 0; i < r->n_signals && i < 8; i++) check_signal(r, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[REC_ERROR_BYTES] = "";
    const rec_options options = {0};
    if (!*folder) make_folder();
    const uint8_t *end = data + size;
    write_part(samples, write_part(markers, write_part(header, data, end, 0), end, 0), end, 1);
    recording *r = recording_open(header, &options, error);
    if (!r) {
        FUZZ_REQUIRE(error[0]);
        return 0;
    }
    check(r);
    recording_close(r);
    return 0;
}

/* eeg_adapt.c - prepares and judges what golden_eeg.sh cannot with `compare` alone.
 *
 *     eeg_adapt frames IN.safetensors NAME SAMPLES OUT.safetensors   [channels, T] -> "frames" [1, T / SAMPLES, channels, SAMPLES]
 *     eeg_adapt head   A.safetensors NAME_A B.safetensors NAME_B TOLERANCE   all of A against as many first elements of B
 */
#include "strand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static strand_context *ctx;

static int fail(const char *what, const char *detail) {
    fprintf(stderr, "eeg_adapt: %s: %s\n", what, detail);
    return 1;
}

static int floats_of(const char *path, const char *name, strand_tensor *tensor) {
    strand_file *file; /* stays open until exit: the tensor points into it */
    if (strand_file_open(ctx, path, &file) != STRAND_OK) return fail(path, strand_error(ctx));
    for (int64_t i = 0; i < strand_file_count(file); i++)
        if (strand_file_get(file, i, tensor) == STRAND_OK && !strcmp(tensor->name, name)) return tensor->dtype == STRAND_F32 ? 0 : fail(name, "is not F32");
    return fail(path, name);
}

static int write_floats(const char *path, const char *name, const float *data, int rank, const int64_t *dims) {
    char header[512] = {0}, shape[128] = "";
    uint64_t bytes = 4;
    for (int i = 0; i < rank; i++) {
        bytes *= (uint64_t)dims[i];
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? "," : "", (long long)dims[i]);
    }
    snprintf(header, sizeof header - 8, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[0,%llu]}}", name, shape, (unsigned long long)bytes);
    uint64_t n = (strlen(header) + 7) / 8 * 8;
    memset(header + strlen(header), ' ', n - strlen(header));
    FILE *file = fopen(path, "wb");
    const int good = file && fwrite(&n, 8, 1, file) == 1 && fwrite(header, n, 1, file) == 1 && fwrite(data, bytes, 1, file) == 1;
    return !file || fclose(file) || !good ? fail(path, "cannot be written") : 0;
}

static int frames(const char *in, const char *name, int64_t samples, const char *out) {
    strand_tensor t;
    if (floats_of(in, name, &t)) return 1;
    if (t.rank != 2 || samples < 1) return fail(name, "is not [channels, samples]");
    int64_t channels = t.dims[0], steps = t.dims[1] / samples, dims[4] = {1, steps, channels, samples};
    float *data = malloc((size_t)(steps * channels * samples) * sizeof *data + 1);
    if (!data) return fail(name, "no memory");
    for (int64_t s = 0; s < steps; s++)
        for (int64_t c = 0; c < channels; c++)
            memcpy(data + (s * channels + c) * samples, (const float *)t.data + c * t.dims[1] + s * samples, (size_t)samples * sizeof *data);
    const int bad = write_floats(out, "frames", data, 4, dims);
    free(data);
    return bad;
}

static int head(char **v) {
    strand_tensor a, b;
    double worst = 0, tolerance = atof(v[4]);
    if (floats_of(v[0], v[1], &a) || floats_of(v[2], v[3], &b)) return 1;
    if (a.bytes > b.bytes || !a.bytes) return fail(v[1], "has more elements than the other");
    for (uint64_t i = 0; i < a.bytes / 4; i++) {
        const double off = fabs((double)((const float *)a.data)[i] - ((const float *)b.data)[i]);
        if (!(off <= worst)) worst = off;
    }
    printf("%s: worst difference %.3g\n", v[1], worst);
    return worst <= tolerance ? 0 : fail(v[0], "differs by more than the tolerance");
}

int main(int argc, char **argv) {
    if (strand_context_open(NULL, &ctx) != STRAND_OK) return fail("context", "cannot be opened");
    if (argc == 6 && !strcmp(argv[1], "frames")) return frames(argv[2], argv[3], atoll(argv[4]), argv[5]);
    if (argc == 7 && !strcmp(argv[1], "head")) return head(argv + 2);
    return fail("usage", "see the head of eeg_adapt.c");
}

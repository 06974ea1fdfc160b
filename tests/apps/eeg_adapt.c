/* eeg_adapt.c - prepares and judges what golden_eeg.sh cannot with `compare` alone.
 *
 *     eeg_adapt frames IN.safetensors NAME SAMPLES OUT.safetensors   [channels, T] -> "frames" [1, T / SAMPLES, channels,
 *        SAMPLES]
 *     eeg_adapt join   OUT.safetensors FILE NAME [FILE NAME]...   those tensors in one file
 *     eeg_adapt classes IN N OUT.safetensors   a checkpoint whose head has N classes: its row, turned by k places for class k
 *     eeg_adapt mean   A.safetensors NAME_A B.safetensors NAME_B TOLERANCE   the mean difference, where single elements hang
 *        on rounding
 *     eeg_adapt head   A.safetensors NAME_A B.safetensors NAME_B TOLERANCE   all of A against as many first elements of B */
#include "strand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32 };

static strand_context *ctx;

static int fail(const char *what, const char *detail) {
    fprintf(stderr, "eeg_adapt: %s: %s\n", what, detail);
    return 1;
}

static int floats_of(const char *path, const char *name, strand_tensor *tensor) {
    strand_file *file; /* stays open until exit: the tensor points into it */
    if (strand_file_open(ctx, path, &file) != STRAND_OK) return fail(path, strand_error(ctx));
    for (int64_t i = 0; i < strand_file_count(file); i++)
        if (strand_file_get(file, i, tensor) == STRAND_OK && !strcmp(tensor->name, name))
            return tensor->dtype == STRAND_F32 ? 0 : fail(name, "is not F32");
    return fail(path, name);
}

/* n <= MOST tensors, as a safetensors file. */
static int write_tensors(const char *path, const strand_tensor *t, int n) {
    char header[160 * MOST] = "{";
    uint64_t at = 0;
    for (int k = 0; k < n; k++) {
        size_t used = strlen(header);
        used += (size_t)snprintf(header + used, sizeof header - used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", k ? "," : "",
                                 t[k].name, strand_dtype_name(t[k].dtype));
        for (int i = 0; i < t[k].rank; i++)
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%lld", i ? "," : "", (long long)t[k].dims[i]);
        snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                 (unsigned long long)(at + t[k].bytes));
        at += t[k].bytes;
    }
    strcat(header, "}       ");
    uint64_t bytes = strlen(header) / 8 * 8;
    FILE *file = fopen(path, "wb");
    int good = file && fwrite(&bytes, 8, 1, file) == 1 && fwrite(header, bytes, 1, file) == 1;
    for (int k = 0; k < n && good; k++) good = fwrite(t[k].data, t[k].bytes, 1, file) == 1;
    return !file || fclose(file) || !good ? fail(path, "cannot be written") : 0;
}

static int join(char **v, int n) {
    strand_tensor t[MOST];
    int count = 0;
    for (int i = 1; i + 1 < n && count < MOST; i += 2)
        if (floats_of(v[i], v[i + 1], &t[count++])) return 1;
    return write_tensors(v[0], t, count);
}

static int frames(const char *in, const char *name, int64_t samples, const char *out) {
    strand_tensor t;
    if (floats_of(in, name, &t)) return 1;
    if (t.rank != 2 || samples < 1) return fail(name, "is not [channels, samples]");
    int64_t channels = t.dims[0], steps = t.dims[1] / samples;
    float *data = malloc((size_t)(steps * channels * samples) * sizeof *data + 1);
    if (!data) return fail(name, "no memory");
    for (int64_t s = 0; s < steps; s++)
        for (int64_t c = 0; c < channels; c++)
            memcpy(data + (s * channels + c) * samples, (const float *)t.data + c * t.dims[1] + s * samples,
                   (size_t)samples * sizeof *data);
    const strand_tensor made = {
        "frames", STRAND_F32, 4, {1, steps, channels, samples}, data, (uint64_t)(steps * channels * samples) * sizeof *data};
    const int bad = write_tensors(out, &made, 1);
    free(data);
    return bad;
}

static int classes(const char *in, int64_t n, const char *out) {
    strand_file *file;
    strand_tensor t[MOST];
    int count = 0;
    if (n < 1 || n > 100) return fail("classes", "1 to 100");
    if (strand_file_open(ctx, in, &file) != STRAND_OK) return fail(in, strand_error(ctx));
    for (int64_t i = 0; i < strand_file_count(file) && count < MOST; i++) {
        strand_tensor *x = &t[count];
        if (strand_file_get(file, i, x) != STRAND_OK || x->dtype != STRAND_F32) continue;
        count++;
        if (strncmp(x->name, "fc.", 3)) continue;
        const int64_t wide = (int64_t)(x->bytes / 4);
        float *made = malloc((size_t)(n * wide) * sizeof *made); /* lives until exit, as the file does */
        if (!made) return fail(in, "no memory");
        for (int64_t k = 0; k < n * wide; k++) made[k] = ((const float *)x->data)[(k / wide + k % wide) % wide];
        x->dims[0] = n;
        x->data = made;
        x->bytes *= (uint64_t)n;
    }
    return write_tensors(out, t, count);
}

static int mean(char **v) {
    strand_tensor a, b;
    double sum = 0;
    if (floats_of(v[0], v[1], &a) || floats_of(v[2], v[3], &b)) return 1;
    if (a.bytes != b.bytes || !a.bytes) return fail(v[1], "has another size");
    for (uint64_t i = 0; i < a.bytes / 4; i++) sum += fabs((double)((const float *)a.data)[i] - ((const float *)b.data)[i]);
    sum /= (double)(a.bytes / 4);
    printf("%s: mean difference %.3g\n", v[1], sum);
    return sum <= atof(v[4]) ? 0 : fail(v[0], "differs by more than the tolerance");
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
    if (argc == 5 && !strcmp(argv[1], "classes")) return classes(argv[2], atoll(argv[3]), argv[4]);
    if (argc == 7 && !strcmp(argv[1], "head")) return head(argv + 2);
    if (argc == 7 && !strcmp(argv[1], "mean")) return mean(argv + 2);
    if (argc >= 5 && !strcmp(argv[1], "join")) return join(argv + 2, argc - 2);
    return fail("usage", "see the head of eeg_adapt.c");
}

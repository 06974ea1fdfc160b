/* gpu_floors.c - the rates of an NVIDIA GPU that floors are counted by, measured through the CUDA driver alone:
 *
 *   gpu_floors [ROUNDS]
 *
 * copying 1 GB, multiply-adds in F32, exponentials, BF16 products by mma.sync. One line a rate: JSON, medians of ROUNDS (9)
 * with the 10th and 90th percentile of the seconds. A rate that cannot be had is said in one line on the error output, and
 * the exit code is 1. */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu_floors.h"

#define MOST 101
#define COPY ((size_t)1 << 30)

static int failed(CUresult e, const char *what) {
    const char *text = NULL;
    if (e == CUDA_SUCCESS) return 0;
    if (cuGetErrorString(e, &text) || !text) text = "unknown error";
    fprintf(stderr, "gpu_floors: %s: %s\n", what, text);
    return 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct rate {
    const char *name, *unit;
    CUfunction kernel;    /* NULL: the copy */
    CUdeviceptr to, from; /* of the copy; `to` is what kernels could write to */
    unsigned groups;
    int n;       /* rounds of a kernel's loop */
    double work; /* of one run */
} rate;

static CUresult run(const rate *r, CUstream stream) {
    CUdeviceptr to = r->to;
    int n = r->n;
    void *arguments[] = {&to, &n};
    if (!r->kernel) return cuMemcpyDtoDAsync(r->to, r->from, COPY, stream);
    return cuLaunchKernel(r->kernel, r->groups, 1, 1, 256, 1, 1, 0, stream, arguments, NULL);
}

static int measure(const rate *r, CUstream stream, int rounds) {
    double t[MOST];
    for (int i = -2; i < rounds; i++) { /* twice to warm up */
        double begin = now();
        if (failed(run(r, stream), r->name) || failed(cuStreamSynchronize(stream), r->name)) return 1;
        if (i >= 0) t[i] = now() - begin;
    }
    qsort(t, (size_t)rounds, sizeof *t, by_size);
    double middle = t[rounds / 2];
    printf("{\"row\": \"floors\", \"case\": \"%s\", \"who\": \"device\", \"seconds\": %.6g, \"p10\": %.6g, \"p90\": %.6g, "
           "\"rate\": %.6g, \"unit\": \"%s\"}\n",
           r->name, middle, t[rounds / 10], t[rounds - 1 - rounds / 10], r->work / middle, r->unit);
    return fflush(stdout) != 0;
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 9, code = 0, processors = 0;
    CUdevice device;
    CUcontext context;
    CUstream stream;
    CUmodule module;
    CUdeviceptr a = 0, b = 0;
    if (rounds < 1 || rounds > MOST) return fprintf(stderr, "usage: gpu_floors [ROUNDS], 1 to %d\n", MOST), 2;
    if (failed(cuInit(0), "cuInit") || failed(cuDeviceGet(&device, 0), "the first device") ||
        failed(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device), "its multiprocessors") ||
        failed(cuDevicePrimaryCtxRetain(&context, device), "its context") || failed(cuCtxSetCurrent(context), "its context") ||
        failed(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "a stream"))
        return 1;
    if (failed(cuMemAlloc(&a, COPY), "memory") || failed(cuMemAlloc(&b, COPY), "memory")) code = 1;
    const rate copy = {.name = "copy", .unit = "B/s", .to = a, .from = b, .work = 2.0 * (double)COPY};
    if (!code) code = measure(&copy, stream, rounds);
    static const struct {
        const char *symbol, *name, *unit;
        double work; /* of an item, or (mma) a warp's share of it, and round */
    } kernels[] = {{"floor_fma", "F32 multiply-adds", "FLOP/s", 16},
                   {"floor_exp", "exponentials", "1/s", 8},
                   {"floor_mma", "BF16 mma.sync", "FLOP/s", 8 * 4096.0 / 32}};
    if (!a) return 1;
    if (failed(cuModuleLoadData(&module, text_gpu_floors), "kernels")) return 1;
    for (int i = 0; i < 3; i++) {
        const int n = 20000;
        rate r = {.name = kernels[i].name, .unit = kernels[i].unit, .to = a, .groups = 8 * (unsigned)processors, .n = n,
                  .work = kernels[i].work * 256.0 * 8.0 * (double)processors * n};
        if (failed(cuModuleGetFunction(&r.kernel, module, kernels[i].symbol), kernels[i].name) || measure(&r, stream, rounds))
            code = 1;
    }
    cuModuleUnload(module);
    cuMemFree(a);
    if (b) cuMemFree(b);
    cuStreamDestroy(stream);
    cuDevicePrimaryCtxRelease(device);
    return code;
}

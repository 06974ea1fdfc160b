/* environment.c - the stand-ins as a library that is preloaded into the program strand: the environment says what fails.
 *
 * GPU_FAULT="NAME NTH CODE [on]" is fault_set; GPU_FAULT_MEMORY and GPU_FAULT_LARGEST are bytes; GPU_FAULT_DEVICES=0 leaves a
 * driver without devices. When the process ends, GPU_FAULT_REPORT (a file) gets "CALLS LIVE": the calls that could have
 * failed, and the objects that were not given back. */
#include "faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bytes_of(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    static char name[64]; /* fault_set keeps the pointer */
    char on[8] = "";
    long nth;
    int code;
    const char *fault = getenv("GPU_FAULT"), *devices = getenv("GPU_FAULT_DEVICES");
    fault_memory = bytes_of("GPU_FAULT_MEMORY");
    fault_largest = bytes_of("GPU_FAULT_LARGEST");
    fault_no_device = devices && !strcmp(devices, "0");
    if (!fault) return;
    if (sscanf(fault, "%63s %ld %d %7s", name, &nth, &code, on) < 3) {
        fprintf(stderr, "GPU_FAULT=%s: not NAME NTH CODE [on]\n", fault);
        abort();
    }
    fault_set(name, nth, code, !strcmp(on, "on"));
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("GPU_FAULT_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld %ld\n", fault_calls(), fault_live());
    fclose(file);
}

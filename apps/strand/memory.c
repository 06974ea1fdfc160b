/* memory.c - reads /proc/meminfo and the cgroup's limit (version 2, and version 1's file). See memory.h.
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t first_number(const char *path) {
    char text[64];
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    const char *line = fgets(text, sizeof text, f);
    fclose(f);
    return line && *line >= '0' && *line <= '9' ? strtoull(line, NULL, 10) : 0; /* "max": no limit */
}

uint64_t memory_available(void) {
    char line[128];
    uint64_t bytes = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "MemAvailable:", 13)) bytes = strtoull(line + 13, NULL, 10) * 1024;
    if (f) fclose(f);
    const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (int i = 0; i < 2; i++) {
        const uint64_t limit = first_number(limits[i]);
        if (limit && (!bytes || limit < bytes)) bytes = limit;
    }
    return bytes;
}

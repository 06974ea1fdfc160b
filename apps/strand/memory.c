/* memory.c - reads /proc/meminfo and the limits of the cgroups that the process is in: version 2's from its own up to the
 * root, version 1's where it is mounted. Of a limit what is used already goes off, but not the pages of files, which the
 * system takes back. See memory.h.
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CGROUPS "/sys/fs/cgroup"

/* The number that follows `key` at the beginning of a line of a file, "" for the file's first; UINT64_MAX: none. */
static uint64_t number_in(const char *path, const char *key) {
    char line[256];
    const size_t n = strlen(key);
    uint64_t value = UINT64_MAX;
    FILE *f = fopen(path, "r");
    while (f && value == UINT64_MAX && fgets(line, sizeof line, f)) {
        const char *at = line + n;
        if (strncmp(line, key, n)) continue;
        while (*at == ' ') at++;
        if (*at >= '0' && *at <= '9') value = strtoull(at, NULL, 10);
        if (!n) break; /* "max": no limit */
    }
    if (f) fclose(f);
    return value;
}

/* What is left below the limit of one cgroup; UINT64_MAX: no limit. */
static uint64_t left_in(const char *folder, const char *limit, const char *used, const char *const files[2]) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, limit);
    const uint64_t most = number_in(path, "");
    if (most == UINT64_MAX) return most;
    snprintf(path, sizeof path, "%s/%s", folder, used);
    uint64_t now = number_in(path, "");
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (now == UINT64_MAX) return most;
    for (int i = 0; i < 2; i++) { /* pages of files can be dropped, those in use lately too */
        const uint64_t free_again = number_in(path, files[i]);
        if (free_again != UINT64_MAX) now = now > free_again ? now - free_again : 0;
    }
    return now < most ? most - now : 0;
}

/* The least that is left in the process's cgroup (version 2) and those above it. */
static uint64_t left_in_cgroups(void) {
    char line[1024], folder[1100];
    static const char *const files_v1[] = {"total_inactive_file", "total_active_file"}, *const files[] = {"inactive_file",
                                                                                                          "active_file"};
    uint64_t least = left_in(CGROUPS "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", files_v1);
    FILE *f = fopen("/proc/self/cgroup", "r");
    snprintf(folder, sizeof folder, CGROUPS);
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "0::/", 4)) snprintf(folder, sizeof folder, CGROUPS "%s", line + 3);
    }
    if (f) fclose(f);
    while (strlen(folder) >= strlen(CGROUPS)) {
        const uint64_t left = left_in(folder, "memory.max", "memory.current", files);
        if (left < least) least = left;
        *strrchr(folder, '/') = 0;
    }
    return least;
}

uint64_t memory_available(void) {
    const uint64_t free_kib = number_in("/proc/meminfo", "MemAvailable:"), left = left_in_cgroups();
    const uint64_t bytes = free_kib == UINT64_MAX ? UINT64_MAX : free_kib * 1024, least = left < bytes ? left : bytes;
    return least == UINT64_MAX ? 0 : least < 4096 ? 4096 : least; /* 0 would say that nothing is known */
}

int memory_large_pages(void) {
    char line[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (f && !fgets(line, sizeof line, f)) line[0] = 0;
    if (f) fclose(f);
    return line[0] && !strstr(line, "[never]");
}

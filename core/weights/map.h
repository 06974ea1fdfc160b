/* map.h - a regular file, read-only in memory. */
#ifndef STRAND_CORE_WEIGHTS_MAP_H
#define STRAND_CORE_WEIGHTS_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "../error.h"

typedef struct map {
    const uint8_t *data;
    uint64_t size;
} map;

/* Maps `name` in the open directory `dir` (AT_FDCWD: the working directory). `shown` is its path in errors. With `follow` false
 * a symbolic link is refused. Pipes, devices and empty files are refused. */
strand_status map_open(int dir, const char *name, const char *shown, bool follow, map *out, error *e);
/* Puts the file's bytes into memory of their own, in large pages where the system has them, at the same address: reading
 * them costs no page of the file then, and less time a page. Small files, and systems that cannot, keep the file. */
strand_status map_hold(const map *m, const char *shown, error *e);
/* Unmaps; an empty map is allowed. */
void map_close(map *m);

#endif

/* zip.h - the directory of a ZIP or ZIP64 file whose entries are stored as they are, which is how PyTorch writes its files. */
#ifndef STRAND_CORE_WEIGHTS_ZIP_H
#define STRAND_CORE_WEIGHTS_ZIP_H

#include "../arena.h"
#include "../error.h"

typedef struct zip_entry {
    const char *name; /* in the file, not terminated */
    size_t name_length;
    uint32_t crc;
    const uint8_t *data; /* in the file */
    uint64_t size;
} zip_entry;

typedef struct zip {
    const uint8_t *data;
    uint64_t size;
    const char *path; /* for errors */
    const zip_entry *entries;
    size_t count;
    const void **by_name;
} zip;

/* Reads and checks the whole directory and every local header; entries neither overlap nor share a name. What is kept goes
 * into the arena. */
strand_status zip_open(arena *a, const uint8_t *data, uint64_t size, const char *path, zip *out, error *e);
/* The entry of that name, or NULL. */
const zip_entry *zip_find(const zip *z, const char *name, size_t length);
/* Compares the entry's bytes with its checksum. */
strand_status zip_check(const zip *z, const zip_entry *entry, error *e);

#endif

/* replay.c - runs every file of the folders and files on the command line through a fuzz target: the corpus as a test, with any
 * compiler. The bytes stand in a block of just their size, so that a sanitizer sees a read beyond them. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return fprintf(stderr, "%s: %s\n", path, strerror(errno)), -1;
    uint8_t *data = NULL;
    size_t size = 0;
    for (;;) {
        uint8_t block[65536];
        size_t n = fread(block, 1, sizeof block, f);
        uint8_t *longer = n ? realloc(data, size + n) : NULL;
        if (!longer) break;
        data = longer;
        memcpy(data + size, block, n);
        size += n;
    }
    fclose(f);
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) return -1;
    if (size) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(data);
    return 1;
}

/* The number of files replayed, or -1. */
static int replay(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) return replay_file(path);
    int count = 0;
    for (const struct dirent *item; (item = readdir(folder));) {
        char name[4096];
        if (item->d_name[0] == '.') continue;
        int length = snprintf(name, sizeof name, "%s/%s", path, item->d_name);
        int n = length < (int)sizeof name ? replay(name) : -1;
        if (n < 0) {
            count = -1;
            break;
        }
        count += n;
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv) {
    int count = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay(argv[i]);
        if (n < 0) return 1;
        count += n;
    }
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1; /* an empty corpus tests nothing */
}

/* state.c - states in files, and the store of prefixes. See text.h.
 *
 * A file: "STRANDT1", then little-endian u64: tokens seen, tokens pending, bytes of the state; the ids as u32; the state; the
 * FNV-1a hash of all that stands before it. The state itself is bound to the model's weights by the library. It is written
 * under a temporary name and renamed, so that a reader never sees half of one. */
#include "text.h"

#include "output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC      "STRANDT1"
#define MAX_TOKENS ((uint64_t)1 << 31)
#define MAX_FILE   ((size_t)64 << 30)

static uint64_t fnv(uint64_t h, const void *data, size_t n) {
    const unsigned char *at = data;
    for (size_t i = 0; i < n; i++) h = (h ^ at[i]) * 0x100000001b3u;
    return h;
}
#define FNV_START 0xcbf29ce484222325u

static void put64(unsigned char *at, uint64_t v) {
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(v >> 8 * i);
}

static uint64_t get64(const unsigned char *at) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)at[i] << 8 * i;
    return v;
}

/* ---- writing ---- */

typedef struct writer {
    output *out;
    uint64_t hash;
} writer;

static int put(writer *w, const void *data, size_t n) {
    w->hash = fnv(w->hash, data, n);
    return output_write(w->out, data, n);
}

static int put_ids(writer *w, const int64_t *ids, int64_t n) {
    int bad = 0;
    for (int64_t i = 0; i < n && !bad; i++) {
        unsigned char four[4] = {(unsigned char)ids[i], (unsigned char)(ids[i] >> 8), (unsigned char)(ids[i] >> 16),
                                 (unsigned char)(ids[i] >> 24)};
        bad = put(w, four, 4);
    }
    return bad;
}

int text_state_save(const char *path, engine *g, int64_t row, const int64_t *pending, int64_t n_pending) {
    size_t bytes;
    int64_t n;
    const int64_t *ids = engine_tokens(g, row, &n);
    void *state = engine_save(g, row, &bytes);
    if (!state) return -1;
    writer w = {output_open(path), FNV_START};
    unsigned char head[32];
    memcpy(head, MAGIC, 8);
    put64(head + 8, (uint64_t)n);
    put64(head + 16, (uint64_t)n_pending);
    put64(head + 24, bytes);
    int bad =
        !w.out || put(&w, head, sizeof head) || put_ids(&w, ids, n) || put_ids(&w, pending, n_pending) || put(&w, state, bytes);
    put64(head, w.hash);
    if (!bad) bad = output_write(w.out, head, 8);
    if (w.out && output_close(w.out, !bad)) bad = 1;
    free(state);
    return bad ? -1 : 0;
}

/* ---- reading ---- */

static int damaged(const char *path) {
    complain("%s: not a state of 'strand text', or damaged", path);
    return -1;
}

static int take_ids(const unsigned char *at, uint64_t n, text_ids *out) {
    for (uint64_t i = 0; i < n; i++) {
        int64_t id =
            (int64_t)at[4 * i] | (int64_t)at[4 * i + 1] << 8 | (int64_t)at[4 * i + 2] << 16 | (int64_t)at[4 * i + 3] << 24;
        if (text_ids_add(out, &id, 1)) return -1;
    }
    return 0;
}

static int load(const char *path, const unsigned char *data, size_t size, engine *g, int64_t row, text_ids *pending) {
    if (size < 40 || memcmp(data, MAGIC, 8)) return damaged(path);
    uint64_t seen = get64(data + 8), wait = get64(data + 16), bytes = get64(data + 24);
    if (seen > MAX_TOKENS || wait > MAX_TOKENS || bytes > size - 40 || (seen + wait) * 4 != size - 40 - bytes)
        return damaged(path);
    if (get64(data + size - 8) != fnv(FNV_START, data, size - 8)) return damaged(path);
    text_ids ids = {0};
    int bad = take_ids(data + 32, seen, &ids);
    if (!bad) bad = engine_load(g, row, data + 32 + 4 * (seen + wait), (size_t)bytes, ids.ids, ids.n);
    if (!bad) bad = take_ids(data + 32 + 4 * seen, wait, pending);
    text_ids_free(&ids);
    return bad;
}

int text_state_load(const char *path, engine *g, int64_t row, text_ids *pending) {
    char *data;
    size_t size;
    if (text_read(path, MAX_FILE, &data, &size)) return -1;
    int bad = load(path, (const unsigned char *)data, size, g, row, pending);
    free(data);
    return bad;
}

/* ---- the store: files of the name MODEL-TOKENS-HASH.state ---- */

static uint64_t hash_id(uint64_t h, int64_t id) {
    return fnv(h, &id, sizeof id);
}

static int parse_name(const char *name, const char *model, int64_t *n, uint64_t *hash) {
    size_t m = strlen(model);
    char end[8] = "";
    return !strncmp(name, model, m) && sscanf(name + m, "-%" SCNd64 "-%16" SCNx64 "%7s", n, hash, end) == 3 &&
           !strcmp(end, ".state") && *n > 0;
}

/* The longest stored prefix that leaves a token to feed; 0: none. */
static int64_t find_prefix(const char *store, const char *model, const text_ids *prompt, char *path, size_t size) {
    int64_t best = 0;
    DIR *dir = opendir(store);
    uint64_t *hashes = malloc((size_t)(prompt->n + 1) * sizeof *hashes);
    hashes && (hashes[0] = FNV_START);
    for (int64_t i = 0; hashes && i < prompt->n; i++) hashes[i + 1] = hash_id(hashes[i], prompt->ids[i]);
    for (const struct dirent *item; dir && hashes && (item = readdir(dir));) {
        int64_t n;
        uint64_t hash;
        if (!parse_name(item->d_name, model, &n, &hash) || n <= best || n >= prompt->n || hashes[n] != hash) continue;
        if (snprintf(path, size, "%s/%s", store, item->d_name) < (int)size) best = n;
    }
    if (dir) closedir(dir);
    free(hashes);
    return best;
}

/* The files that were used longest ago go until the rest fits. */
static void shrink(const char *store, const char *model, uint64_t limit) {
    for (;;) {
        uint64_t total = 0;
        char oldest[4096] = "";
        time_t age = 0;
        DIR *dir = opendir(store);
        for (const struct dirent *item; dir && (item = readdir(dir));) {
            char path[4096];
            struct stat st;
            int64_t n;
            uint64_t hash;
            if (!parse_name(item->d_name, model, &n, &hash) ||
                snprintf(path, sizeof path, "%s/%s", store, item->d_name) >= (int)sizeof path || stat(path, &st))
                continue;
            total += (uint64_t)st.st_size;
            if (!*oldest || st.st_mtime < age) memcpy(oldest, path, sizeof oldest), age = st.st_mtime;
        }
        if (dir) closedir(dir);
        if (total <= limit || !*oldest || unlink(oldest)) return;
    }
}

static int save_prefix(engine *g, int64_t row, const char *store, const char *model, uint64_t limit) {
    char path[4096];
    int64_t n;
    const int64_t *ids = engine_tokens(g, row, &n);
    uint64_t hash = FNV_START;
    for (int64_t i = 0; i < n; i++) hash = hash_id(hash, ids[i]);
    if (snprintf(path, sizeof path, "%s/%s-%" PRId64 "-%016" PRIx64 ".state", store, model, n, hash) >= (int)sizeof path)
        return complain("%s: too long a path", store), -1;
    if (!access(path, F_OK)) return 0;
    if (mkdir(store, 0777) && errno != EEXIST) return complain("%s: cannot be made: %s", store, strerror(errno)), -1;
    if (text_state_save(path, g, row, NULL, 0)) return -1;
    shrink(store, model, limit);
    return 0;
}

/* The tokens are compared too: a hash alone is no proof. */
static int same(engine *g, int64_t row, const text_ids *prompt, int64_t n) {
    int64_t have;
    const int64_t *ids = engine_tokens(g, row, &have);
    return have == n && !memcmp(ids, prompt->ids, (size_t)n * sizeof *ids);
}

int text_feed(engine *g, int64_t row, const text_ids *prompt, const char *store, uint64_t limit, int64_t *reused) {
    char path[4096], model[17];
    text_ids pending = {0};
    *reused = 0;
    if (engine_reset(g, row)) return -1;
    if (!store || !engine_stateful(g)) return engine_feed(g, row, prompt->ids, prompt->n);
    snprintf(model, sizeof model, "%.16s", engine_model(g));
    int64_t n = find_prefix(store, model, prompt, path, sizeof path);
    if (n && !text_state_load(path, g, row, &pending) && same(g, row, prompt, n)) {
        *reused = n;
        utimensat(AT_FDCWD, path, NULL, 0); /* used now */
    } else if (n && engine_reset(g, row)) {
        return -1;
    }
    text_ids_free(&pending);
    int64_t last = prompt->n - 1;
    if (last > *reused &&
        (engine_feed(g, row, prompt->ids + *reused, last - *reused) || save_prefix(g, row, store, model, limit)))
        return -1;
    return engine_feed(g, row, prompt->ids + last, 1);
}

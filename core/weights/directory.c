/* directory.c - which file of a directory holds the weights. The order is a promise (docs/models.md); two files of one rank are
 * an error, since silently taking either would be a guess. */
#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../json.h"

/* Ranks in order; the alternatives of one rank are separated by NULL-terminated rows. A name with '*' stands for any
 * beginning. */
static const char *const ranks[][3] = {
    {"*.index.json"},          {"model.safetensors"},           {"pytorch_model.bin"},
    {"model.pt", "model.pth"}, {"weights.ckpt", "weights.pth"}, {"last.ckpt"},
    {"best.pth.tar"},          {"params.safetensors"},          {"*.gguf"},
};
#define LOOKED_FOR                                                                                                             \
    "*.index.json, model.safetensors, pytorch_model.bin, model.{pt,pth}, weights.{ckpt,pth}, last.ckpt, best.pth.tar, "        \
    "params.safetensors, *.gguf"
#define N_RANKS ((int)(sizeof ranks / sizeof ranks[0]))

static bool matches(const char *pattern, const char *name) {
    if (pattern[0] != '*') return strcmp(pattern, name) == 0;
    size_t n = strlen(name), tail = strlen(pattern + 1);
    return n > tail && strcmp(name + n - tail, pattern + 1) == 0;
}

static int rank_of(const char *name) {
    for (int i = 0; i < N_RANKS; i++) {
        for (int j = 0; j < 3 && ranks[i][j]; j++) {
            if (matches(ranks[i][j], name)) return i;
        }
    }
    return N_RANKS;
}

/* The best name and its rank; `second` is another of the same rank. Of several, the two that sort first, so that the message
 * does not depend on the order in which the file system lists them. */
typedef struct found {
    char first[256], second[256];
    int rank;
} found;

static void consider(found *f, const char *name) {
    int rank = rank_of(name);
    if (rank == N_RANKS || rank > f->rank || strlen(name) >= sizeof f->first) return;
    if (rank < f->rank) *f = (found){.rank = rank};
    const char *later = name;
    if (!f->first[0] || strcmp(name, f->first) < 0) {
        char older[sizeof f->first];
        memcpy(older, f->first, sizeof older);
        snprintf(f->first, sizeof f->first, "%s", name);
        memcpy(f->second, older, sizeof older);
        return;
    }
    if (!f->second[0] || strcmp(later, f->second) < 0) snprintf(f->second, sizeof f->second, "%s", later);
}

static strand_status list(int dir, const char *path, found *f, error *e) {
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fdopendir keeps what it is given */
    DIR *listing = copy >= 0 ? fdopendir(copy) : NULL;
    if (!listing) {
        if (copy >= 0) close(copy);
        return error_set(e, STRAND_ERR_IO, "%s: the directory cannot be listed: %s", path, strerror(errno));
    }
    for (const struct dirent *item; (item = readdir(listing));) consider(f, item->d_name);
    closedir(listing);
    return STRAND_OK;
}

bool weights_plain_name(const char *name, size_t length) {
    return length > 0 && length < 256 && strlen(name) == length && !strchr(name, '/') && !strchr(name, '\\') &&
           !strstr(name, "..") && strcmp(name, ".") != 0;
}

/* The "weights" key of a config.json; *name is NULL when there is no config or no such key. */
static strand_status read_config(arena *scratch, int dir, const char *path, const char *config, const char **name, error *e) {
    map m;
    struct stat facts;
    const char *shown = config ? config : arena_printf(scratch, "%s/config.json", path);
    if (!shown) return weights_no_memory(path, e);
    if (!config && fstatat(dir, "config.json", &facts, 0) != 0) return STRAND_OK;
    strand_status status = map_open(config ? AT_FDCWD : dir, config ? config : "config.json", shown, true, &m, e);
    if (status) return status;
    const json *root;
    status = json_parse(scratch, (const char *)m.data, (size_t)m.size, shown, &root, e);
    map_close(&m);
    if (status) return status;
    const json *value = json_get(root, "weights");
    const char *given = value && value->type == JSON_STRING ? value->text : NULL;
    if (given && !weights_plain_name(given, value->length)) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: \"weights\" is %.100s, not the plain name of a file in %s; open the weights file itself", shown,
                         given, path);
    }
    *name = given;
    return STRAND_OK;
}

strand_status directory_find(arena *scratch, int dir, const char *path, const char *config, const char **name,
                             bool *from_config, error *e) {
    found f = {.rank = N_RANKS};
    strand_status status = list(dir, path, &f, e);
    if (status) return status;
    if (f.second[0]) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: holds both %.100s and %.100s; open the one that is meant, or remove the other", path, f.first,
                         f.second);
    }
    *from_config = f.rank == N_RANKS;
    *name = NULL;
    if (*from_config)
        status = read_config(scratch, dir, path, config, name, e);
    else if (!(*name = arena_string(scratch, f.first, strlen(f.first))))
        status = weights_no_memory(path, e);
    if (status || *name) return status;
    return error_set(e, STRAND_ERR_IO, "%s: no weights file; looked for " LOOKED_FOR " and the \"weights\" of config.json",
                     path);
}

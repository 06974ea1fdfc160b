/* open.c - which tokenizer a model gets: the one that was asked for, the one in its GGUF file, the one beside its weights, or
 * bytes. A file is told by its contents; what stands beside it (tokenizer_config.json) gives the special tokens' parts and
 * the template. */
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "../weights/gguf.h"
#include "../weights/map.h"

static bool begins(const uint8_t *data, size_t n, const char *text) {
    size_t m = strlen(text);
    return n >= m && !memcmp(data, text, m);
}

static bool is_json(const uint8_t *data, size_t n) {
    size_t at = 0;
    while (at < n && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t')) at++;
    return at < n && data[at] == '{';
}

strand_status read_tokenizer_bytes_of_file(text_tokenizer *t, const uint8_t *data, size_t n, int64_t vocabulary, error *e) {
    if (is_json(data, n)) return read_tokenizer_json(t, (const char *)data, n, e);
    if (begins(data, n, "\n")) return read_tokenizer_model(t, data, n, e); /* field 1, bytes: the first piece */
    if (begins(data, n, "[PAD]")) return read_tokenizer_vocab(t, (const char *)data, n, e);
    if (n > 2 && data[0] >= '0' && data[0] <= '9' && memchr(data, ' ', n < 16 ? n : 16))
        return read_tokenizer_rwkv(t, (const char *)data, n, e);
    if (n > 12 && !data[2] && !data[3]) return read_tokenizer_llama2c(t, data, n, vocabulary, e);
    return error_set(
        e, STRAND_ERR_FORMAT,
        "%s: not a tokenizer of a known kind (tokenizer.json, tokenizer.model, RWKV vocabulary, vocab.txt, tok*.bin)", t->path);
}

/* ---- tokenizer_config.json ---- */

/* A special token's text: a string, or an object with content. */
static const char *special_text(const json *v) {
    if (v && v->type == JSON_OBJECT) v = json_get(v, "content");
    return v && v->type == JSON_STRING ? v->text : NULL;
}

static void take_special(text_tokenizer *t, const json *root, const char *key, uint32_t *id) {
    const char *text = special_text(json_get(root, key));
    uint32_t found = text ? vocab_named(t, text) : NO_TOKEN;
    if (found != NO_TOKEN) *id = found;
}

/* A list of named templates has one called "default". */
static const char *find_template(const json *root) {
    const json *v = json_get(root, "chat_template");
    if (v && v->type == JSON_STRING) return v->text;
    for (const json *x = v && v->type == JSON_ARRAY ? v->first : NULL; x; x = x->next)
        if (x->type == JSON_OBJECT && !strcmp(json_text(x, "name", ""), "default")) return json_text(x, "template", NULL);
    return NULL;
}

static strand_status read_config(text_tokenizer *t, const char *path, error *e) {
    map m = {0};
    error ignored = {0};
    if (map_open(AT_FDCWD, path, path, true, &m, &ignored)) return STRAND_OK; /* most have none */
    arena scratch;
    arena_init(&scratch, t->arena->allocator);
    const json *root;
    strand_status status = m.size > TOKENIZER_MAX_FILE
                               ? error_set(e, STRAND_ERR_LIMIT, "%s: larger than 256 MiB", path)
                               : json_parse(&scratch, (const char *)m.data, (size_t)m.size, path, &root, e);
    if (!status && root->type == JSON_OBJECT) {
        take_special(t, root, "bos_token", &t->bos);
        take_special(t, root, "eos_token", &t->eos);
        if (t->eos != NO_TOKEN) t->tokens[t->eos].flags |= TOKEN_END;
        t->add_bos = json_bool(root, "add_bos_token", t->add_bos) && t->bos != NO_TOKEN;
        t->add_eos = json_bool(root, "add_eos_token", t->add_eos) && t->eos != NO_TOKEN;
        const char *text = find_template(root);
        if (text && !(t->chat_template = arena_string(t->arena, text, strlen(text)))) status = tokenizer_no_memory(t, e);
    }
    arena_release(&scratch);
    map_close(&m);
    return status;
}

/* ---- finding ---- */

static strand_status read_file(text_tokenizer *t, const char *path, int64_t vocabulary, error *e) {
    map m = {0};
    t->path = path;
    strand_status status = map_open(AT_FDCWD, path, path, true, &m, e);
    if (status) return status;
    status = m.size > TOKENIZER_MAX_FILE ? error_set(e, STRAND_ERR_LIMIT, "%s: larger than 256 MiB", path)
                                         : read_tokenizer_bytes_of_file(t, m.data, (size_t)m.size, vocabulary, e);
    map_close(&m);
    const char *slash = strrchr(path, '/');
    const char *config =
        status ? NULL : arena_printf(t->arena, "%.*stokenizer_config.json", slash ? (int)(slash - path + 1) : 0, path);
    return status ? status : !config ? tokenizer_no_memory(t, e) : read_config(t, config, e);
}

static bool matches(const char *name, const char *begin, const char *end) {
    size_t n = strlen(name), a = strlen(begin), b = strlen(end);
    return n >= a + b && !strncmp(name, begin, a) && !strcmp(name + n - b, end);
}

/* The best name of a folder, or NULL. Of several vocabularies the one that sorts first. */
static const char *find_in(arena *a, const char *folder) {
    static const char *const names[][2] = {{"tokenizer", ".json"}, {"tokenizer", ".model"}, {"rwkv_vocab_", ".txt"},
                                           {"tok", ".bin"},        {"vocab", ".txt"},       {"", "_tokenizer.json"}};
    char best[256] = "";
    size_t rank = 6;
    DIR *dir = opendir(folder);
    if (!dir) return NULL;
    for (const struct dirent *item; (item = readdir(dir));) {
        for (size_t i = 0; i < 6 && i <= rank && strlen(item->d_name) < sizeof best; i++) {
            bool fits = i < 2 || i == 4 ? strlen(item->d_name) == strlen(names[i][0]) + strlen(names[i][1]) &&
                                              matches(item->d_name, names[i][0], names[i][1])
                                        : matches(item->d_name, names[i][0], names[i][1]);
            if (!fits || (i == rank && strcmp(item->d_name, best) > 0)) continue;
            strcpy(best, item->d_name);
            rank = i;
            break;
        }
    }
    closedir(dir);
    return rank < 6 ? arena_printf(a, "%s/%s", folder, best) : NULL;
}

static const char *folder_of(arena *a, const char *path) {
    struct stat st;
    if (!stat(path, &st) && S_ISDIR(st.st_mode)) return arena_string(a, path, strlen(path));
    const char *slash = strrchr(path, '/');
    return slash ? arena_printf(a, "%.*s", (int)(slash - path), path) : arena_string(a, ".", 1);
}

static strand_status find(text_tokenizer *t, const weights *w, const char *path, bool files, int64_t vocabulary, bool *found,
                          error *e) {
    struct stat st;
    *found = true;
    t->path = path ? path : weights_path(w);
    if (path && !strcmp(path, "bytes")) return read_tokenizer_bytes(t, vocabulary, e);
    if (path && (stat(path, &st) || !S_ISDIR(st.st_mode))) {
        size_t n = strlen(path);
        if (n < 5 || strcmp(path + n - 5, ".gguf")) return read_file(t, path, vocabulary, e);
        weights *other;
        strand_status status = weights_open(t->arena->allocator, path, NULL, &other, e);
        if (status) return status;
        status = read_tokenizer_gguf(t, other, found, e);
        if (!status && t->chat_template) t->chat_template = arena_string(t->arena, t->chat_template, strlen(t->chat_template));
        weights_close(other);
        return status;
    }
    if (!path) {
        strand_status status = read_tokenizer_gguf(t, w, found, e);
        if (status || *found) return status;
    }
    const char *folder = files ? folder_of(t->arena, path ? path : weights_path(w)) : NULL,
               *file = folder ? find_in(t->arena, folder) : NULL;
    *found = true;
    if (file) return read_file(t, file, vocabulary, e);
    if (path) return error_set(e, STRAND_ERR_IO, "%s: no tokenizer in this folder", path);
    if (vocabulary == 256) return read_tokenizer_bytes(t, vocabulary, e);
    *found = false;
    return STRAND_OK;
}

static strand_status open_any(tokenizer *t, arena *a, const weights *w, const char *path, bool files, int64_t vocabulary,
                              error *e) {
    text_tokenizer *x = ARENA_NEW(a, text_tokenizer);
    if (!x) return error_set(e, STRAND_ERR_MEMORY, "out of memory while reading the tokenizer");
    x->arena = a;
    x->continuing = "";
    x->unknown = x->bos = x->eos = NO_TOKEN;
    bool found = false;
    tokenizer_close(t);
    t->text = x; /* so that closing gives back what a failure leaves */
    strand_status status = find(x, w, path, files, vocabulary, &found, e);
    if (status || !found) {
        tokenizer_close(t);
        return status;
    }
    t->n_ids = x->n;
    return STRAND_OK;
}

strand_status tokenizer_open(tokenizer *t, arena *a, const weights *w, const char *path, int64_t vocabulary, error *e) {
    return open_any(t, a, w, path, true, vocabulary, e);
}

strand_status tokenizer_open_memory(tokenizer *t, arena *a, const weights *w, int64_t vocabulary, error *e) {
    return open_any(t, a, w, NULL, false, vocabulary, e);
}

void tokenizer_close(tokenizer *t) {
    for (int i = 0; t->text && i < t->text->n_steps; i++) step_close(&t->text->steps[i]);
    if (t->text) t->text = NULL, t->n_ids = 0;
}

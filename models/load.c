/* load.c - strand_model_open: finds the files, maps the weights, reads config.json, and lets the family that recognises the
 * checkpoint build its graph. Adding a family adds a line to the table and a file beside this one. */
#include "family.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const family *const families[] = {
    &family_hyenadna,
    &family_mamba,
    &family_llama,
    &family_spacetime,
    &family_ssm_stack,
    &family_rwkv7,
    &family_rwkv6,
    &family_rwkv5,
    &family_rwkv4,
    &family_mamba2,
    &family_dcrnn,
    &family_sleepnet,
    &family_graphs4mer,
    &family_brain_csm,
    &family_gpt_neox,
    &family_gpt2,
    &family_retnet,
    &family_griffin,
    &family_based,
    &family_h3,
    &family_stripedhyena,
    &family_gss,
    &family_hyena,
};
#define N_FAMILIES (sizeof families / sizeof families[0])

#define CONFIG_MAX_BYTES ((off_t)4 << 20)

const char *config_given(const model_config *c, const char *key) {
    size_t n = strlen(key);
    for (int32_t i = c->n_given; i-- > 0;) /* the last one wins */
        if (!strncmp(c->given[i], key, n) && c->given[i][n] == '=') return c->given[i] + n + 1;
    return NULL;
}

bool config_parse_number(const char *text, double *out) {
    char *end;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
    *out = strtod(text, &end);
    return !*end;
}

bool config_parse_integer(const char *text, int64_t *out) {
    char *end;
    if (!*text || strspn(text, "0123456789+-") != strlen(text)) return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return !*end && !errno;
}

strand_status config_record(strand_model *m, const char *key, const char *value, error *e) {
    const char *copy = arena_string(&m->arena, value, strlen(value));
    if (!copy || m->n_settings == MODEL_MAX_SETTINGS) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    m->settings[m->n_settings++] = (model_setting){key, copy};
    return STRAND_OK;
}

static strand_status check_settings(const family *f, const model_config *c, error *e) {
    for (int32_t i = 0; i < c->n_given; i++) {
        const char *equals = c->given[i] ? strchr(c->given[i], '=') : NULL;
        if (!equals)
            return error_set(e, STRAND_ERR_ARGUMENT, "setting '%s' is not of the form key=value",
                             c->given[i] ? c->given[i] : "");
        bool known = !strncmp(c->given[i], "tokenizer=", 10); /* of every language model */
        char list[256] = "";
        for (const char *const *k = f->setting_keys; *k; k++) {
            known = known ||
                    (strlen(*k) == (size_t)(equals - c->given[i]) && !strncmp(*k, c->given[i], (size_t)(equals - c->given[i])));
            size_t used = strlen(list);
            if (used + strlen(*k) + 3 < sizeof list) {
                if (used) strcat(list, ", ");
                strcat(list, *k);
            }
        }
        if (!known)
            return error_set(e, STRAND_ERR_ARGUMENT, "family %s has no setting '%.*s'; it has %s", f->name,
                             (int)(equals - c->given[i]), c->given[i], list);
    }
    return STRAND_OK;
}

/* A text file, whole, zero-terminated, in the arena. *found is false when there is no such file. */
static strand_status read_text(arena *a, const char *path, char **text, size_t *length, bool *found, error *e) {
    struct stat st;
    *found = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) return STRAND_OK;
        return error_set(e, STRAND_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    *found = true;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX_BYTES) {
        close(fd);
        return error_set(e, STRAND_ERR_FORMAT, "%s: not a plain file of at most 4 MiB", path);
    }
    size_t size = (size_t)st.st_size, have = 0;
    *text = arena_alloc(a, size + 1, 1);
    while (*text && have < size) {
        ssize_t n = read(fd, *text + have, size - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        have += (size_t)n;
    }
    close(fd);
    if (!*text) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    *length = have;
    return have == size ? STRAND_OK : error_set(e, STRAND_ERR_IO, "%s: cannot be read to its end", path);
}

static bool exists(const char *path, bool *folder) {
    struct stat st;
    if (stat(path, &st)) return false;
    *folder = S_ISDIR(st.st_mode);
    return true;
}

/* A name without '/' that is no file here may be a built-in model: beside the library in the build tree, or installed. */
static strand_status resolve(strand_model *m, const char *path, const char **full, bool *folder, error *e) {
    arena *a = &m->arena;
    bool found = exists(path, folder), memory = true;
    *full = found ? arena_string(a, path, strlen(path)) : NULL;
    memory = !found || *full;
    if (!found && !strchr(path, '/')) {
        const char *own = registry_own_folder(a);
        const char *const roots[3] = {own ? arena_printf(a, "%s/models/weights", own) : "",
                                      own ? arena_printf(a, "%s/../models/weights", own) : "",
#ifdef STRAND_DATA_DIR
                                      STRAND_DATA_DIR "/models"
#else
                                      ""
#endif
        };
        for (int i = 0; i < 3 && memory && !found; i++) {
            *full = roots[i] ? arena_printf(a, "%s/%s", roots[i], path) : NULL;
            memory = *full != NULL;
            found = memory && roots[i][0] && exists(*full, folder) && *folder;
        }
    }
    if (!memory) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    return found ? STRAND_OK : error_set(e, STRAND_ERR_IO, "%s: there is no such file, directory or built-in model", path);
}

/* "x/hyenadna-tiny-1k/" -> "hyenadna-tiny-1k". */
static const char *last_part(arena *a, const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t begin = n;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    return arena_string(a, path + begin, n - begin);
}

static strand_status load_config(strand_model *m, const char *given, const char *path, bool folder, model_config *c,
                                 const char **used, error *e) {
    const char *file = given;
    char *text = NULL;
    size_t length = 0;
    bool found;
    if (!file) {
        const char *slash = strrchr(path, '/');
        if (folder)
            file = arena_printf(&m->arena, "%s/config.json", path);
        else
            file = slash ? arena_printf(&m->arena, "%.*s/config.json", (int)(slash - path), path) : "config.json";
    }
    if (!file) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    if (read_text(&m->arena, file, &text, &length, &found, e)) return e->status;
    if (!found) return given ? error_set(e, STRAND_ERR_IO, "%s: there is no such file", given) : STRAND_OK;
    *used = file;
    return json_parse(&m->arena, text, length, file, &c->root, e);
}

static void name_precision(strand_model *m) {
    strand_dtype seen = STRAND_NONE;
    bool mixed = false;
    for (int64_t i = 0; i < m->n_used; i++) {
        if (m->used[i]->rank < 2) continue; /* vectors often stay F32 */
        mixed = mixed || (seen && seen != m->used[i]->dtype);
        seen = m->used[i]->dtype;
    }
    m->precision = mixed ? "mixed" : strand_dtype_name(seen);
}

/* Everything after the weights are open: the family builds, and what it left is checked. */
static strand_status build(strand_model *m, const model_config *c, const char *what, error *e) {
    const family *f = NULL;
    for (size_t i = 0; i < N_FAMILIES && !f; i++)
        if (families[i]->recognise(m->weights, c->root)) f = families[i];
    if (!f)
        return error_set(
            e, STRAND_ERR_UNSUPPORTED,
            "%s: no model family of this version recognises these weights (first tensor: '%.80s'); see 'strand inspect'", what,
            weights_count(m->weights) ? weights_at(m->weights, 0)->name : "none");
    m->family = f->name;
    graph_init(&m->graph, &m->arena);
    m->used = ARENA_ARRAY(&m->arena, const weights_tensor *, (size_t)weights_count(m->weights) + 1);
    if (!m->used) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    error inner = {0};
    if (check_settings(f, c, &inner) || f->build(m, c, &inner))
        return error_set(e, inner.status, "%s: %.400s", what, inner.text);
    if (graph_check(&m->graph)) return error_set(e, m->graph.error.status, "%s: %.400s", what, m->graph.error.text);
    name_precision(m);
    return STRAND_OK;
}

/* Ids that a language model gives logits for; 0: it is none. */
static int64_t vocabulary_of(const strand_model *m) {
    for (uint32_t i = 0; i < m->graph.n_outputs; i++) {
        const op_shape *s = &m->graph.tensors[m->graph.outputs[i].tensor].shape;
        if (!strcmp(m->graph.outputs[i].name, "logits") && s->rank == 3 && s->dims[2].kind == OP_DIM_FIXED)
            return s->dims[2].size;
    }
    return 0;
}

/* A tokenizer that was asked for must open; without the one that comes with a model it still runs on ids, and
 * m->no_tokenizer says why. */
static strand_status open_tokenizer(strand_model *m, const model_config *c, bool memory, error *e) {
    int64_t vocabulary = vocabulary_of(m);
    const char *given = config_given(c, "tokenizer"), *config = c->root ? json_text(c->root, "tokenizer", NULL) : NULL;
    error why = {0};
    if (m->tokenizer.n_ids || !vocabulary) return STRAND_OK;
    if (given)
        return tokenizer_open(&m->tokenizer, &m->arena, m->weights, given, vocabulary, e)
                   ? e->status
                   : config_record(m, "tokenizer", given, e);
    strand_status status = config && !strcmp(config, "bytes")
                               ? tokenizer_open(&m->tokenizer, &m->arena, m->weights, "bytes", vocabulary, &why)
                           : memory ? tokenizer_open_memory(&m->tokenizer, &m->arena, m->weights, vocabulary, &why)
                                    : tokenizer_open(&m->tokenizer, &m->arena, m->weights, NULL, vocabulary, &why);
    if (!status && !m->tokenizer.n_ids && m->byte_level)
        status = tokenizer_open(&m->tokenizer, &m->arena, m->weights, "bytes", vocabulary, &why);
    if (status == STRAND_ERR_MEMORY) return error_set(e, status, "%s", why.text);
    if (status && !(m->no_tokenizer = arena_string(&m->arena, why.text, strlen(why.text))))
        return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    return STRAND_OK;
}

static strand_status take_params(const strand_model_params *given, strand_model_params *p) {
    strand_model_params_init(p);
    if (!given) return STRAND_OK;
    if (given->size < offsetof(strand_model_params, hold)) return STRAND_ERR_ARGUMENT;
    memcpy(p, given, given->size < sizeof *p ? given->size : sizeof *p); /* a program of before has fewer fields */
    return p->n_settings < 0 || (p->n_settings > 0 && !p->settings) ? STRAND_ERR_ARGUMENT : STRAND_OK;
}

static strand_model *new_model(strand_context *c, error *e) {
    strand_model *m = c->allocator.alloc(c->allocator.user, sizeof *m, _Alignof(strand_model));
    if (!m) {
        error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
        return NULL;
    }
    memset(m, 0, sizeof *m);
    m->context = c;
    arena_init(&m->arena, &c->allocator);
    return m;
}

static strand_status open_files(strand_model *m, const char *path, const strand_model_params *p, error *e) {
    bool folder = false;
    const char *config_file = NULL;
    model_config c = {.given = p->settings, .n_given = p->n_settings};
    const char *full;
    if (resolve(m, path, &full, &folder, e)) return e->status;
    if (load_config(m, p->config, full, folder, &c, &config_file, e)) return e->status;
    if (weights_open(&m->context->allocator, full, config_file, &m->weights, e)) return e->status;
    if (p->hold && weights_hold(m->weights, e)) return e->status;
    const char *inside = c.root ? NULL : weights_metadata(m->weights, "strand.config"); /* of 'strand quantize' */
    if (inside && json_parse(&m->arena, inside, strlen(inside), "strand.config", &c.root, e)) return e->status;
    m->name = last_part(&m->arena, full);
    if (!m->name) return error_set(e, STRAND_ERR_MEMORY, "out of memory while loading");
    if (build(m, &c, weights_path(m->weights), e)) return e->status;
    return open_tokenizer(m, &c, false, e);
}

strand_status strand_model_open(strand_context *c, const char *path, const strand_model_params *given, strand_model **out) {
    strand_model_params p;
    error e = {0};
    if (!c || !path || !out) return STRAND_ERR_ARGUMENT;
    if (take_params(given, &p)) {
        error_set(&e, STRAND_ERR_ARGUMENT, "the model parameters have a wrong size or settings");
        return context_fail(c, &e);
    }
    strand_model *m = new_model(c, &e);
    if (!m || open_files(m, path, &p, &e)) {
        strand_model_close(m);
        return context_fail(c, &e);
    }
    *out = m;
    return STRAND_OK;
}

static strand_status open_memory(strand_model *m, const void *data, size_t bytes, const char *config,
                                 const strand_model_params *p, error *e) {
    model_config c = {.given = p->settings, .n_given = p->n_settings};
    m->name = "memory";
    if (config && json_parse(&m->arena, config, strlen(config), "config", &c.root, e)) return e->status;
    if (weights_open_memory(&m->context->allocator, data, bytes, "memory", &m->weights, e)) return e->status;
    if (build(m, &c, "memory", e)) return e->status;
    return open_tokenizer(m, &c, true, e);
}

strand_status strand_model_open_memory(strand_context *c, const void *data, size_t bytes, const char *config,
                                       const strand_model_params *given, strand_model **out) {
    strand_model_params p;
    error e = {0};
    if (!c || !data || !out) return STRAND_ERR_ARGUMENT;
    if (take_params(given, &p) || ((uintptr_t)data & 7)) {
        error_set(&e, STRAND_ERR_ARGUMENT, "the model's data must be aligned to 8 bytes and its parameters well-formed");
        return context_fail(c, &e);
    }
    strand_model *m = new_model(c, &e);
    if (!m || open_memory(m, data, bytes, config, &p, &e)) {
        strand_model_close(m);
        return context_fail(c, &e);
    }
    *out = m;
    return STRAND_OK;
}

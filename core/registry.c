/* registry.c - the handshake of docs/plugins.md. A plugin is refused with one line and closed again whenever anything about it
 * is not as strand_plugin.h says; nothing of it but the entry and `score` has run by then. Of several plugins of one name the
 * one with the highest score stays: that is how the CPU plugin's builds for different instruction sets are chosen. */
#define _GNU_SOURCE
#include "registry.h"

#include "context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef STRAND_STATIC_PLUGINS
#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

/* What the plugin left with host->fail, as " (text)", or "". Also keeps it from being taken for a later failure's. */
static void take_reason(const registry *r, char *text, size_t bytes) {
    char said[200];
    context_take_fail(r->host->context, said, sizeof said);
    snprintf(text, bytes, said[0] ? " (%s)" : "%s", said);
}

#define NAME_FIELD(s, f) #s "." #f,
#define NAME_SIZE(s) "sizeof " #s,
static const char *const layout_names[] = {STRAND_PLUGIN_LAYOUT(NAME_FIELD, NAME_SIZE)};

static bool say(char *why, size_t bytes, const char *text) {
    snprintf(why, bytes, "%s", text);
    return false;
}

static bool check_layout(const strand_plugin *t, char *why, size_t bytes) {
    if (t->layout_hash == strand_plugin_layout_hash()) return true;
    const uint32_t *ours = strand_plugin_layout();
    for (uint32_t i = 0; t->layout && i < STRAND_PLUGIN_N_LAYOUT; i++) {
        if (i >= t->n_layout) break;
        if (t->layout[i] == ours[i]) continue;
        snprintf(why, bytes,
                 "was compiled with another layout: %s is %u there and %u here; rebuild it with this strand_plugin.h",
                 layout_names[i], t->layout[i], ours[i]);
        return false;
    }
    snprintf(why, bytes, "was compiled with another layout (%u entries there, %d here); rebuild it with this strand_plugin.h",
             t->n_layout, STRAND_PLUGIN_N_LAYOUT);
    return false;
}

static bool check_name(const char *name) {
    if (!name || !*name) return false;
    for (size_t i = 0; name[i]; i++)
        if (i > 30 || !((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '-'))
            return false;
    return true;
}

/* Every slot that 1.0 has and that may not be NULL; device memory slots are checked with the device. */
static bool check_slots(const strand_plugin_api *api, char *why, size_t bytes) {
#define NEED(slot)                                                                                                             \
    if (!api->slot) return say(why, bytes, "its function table has no '" #slot "'");
    if (api->size < offsetof(strand_plugin_api, launch) + sizeof api->launch) {
        snprintf(why, bytes, "its function table is short: %u bytes, ABI 1.0 has %zu", api->size,
                 offsetof(strand_plugin_api, launch) + sizeof api->launch);
        return false;
    }
    NEED(open) NEED(close) NEED(device_count) NEED(device_info) NEED(device_open) NEED(device_close)
    NEED(supports) NEED(scratch_size) NEED(prepare_size) NEED(prepare) NEED(launch)
#undef NEED
    return true;
}

bool registry_check(const strand_plugin *t, char *why, size_t bytes) {
    if (t->magic != STRAND_PLUGIN_MAGIC)
        return say(why, bytes, "the magic number is wrong: not a Strand plugin, or of another byte order");
    if (t->size < offsetof(strand_plugin, api) + sizeof t->api) {
        snprintf(why, bytes, "its table is short: %u bytes, ABI 1.0 has %zu", t->size,
                 offsetof(strand_plugin, api) + sizeof t->api);
        return false;
    }
    if (t->abi_major != STRAND_PLUGIN_ABI_MAJOR) {
        snprintf(why, bytes, "speaks plugin ABI %u.%u, this library %d.%d; install the plugin that belongs to this version",
                 t->abi_major, t->abi_minor, STRAND_PLUGIN_ABI_MAJOR, STRAND_PLUGIN_ABI_MINOR);
        return false;
    }
    if (!check_layout(t, why, bytes)) return false;
    if (!check_name(t->name)) return say(why, bytes, "its name is missing or not made of a-z, 0-9 and '-'");
    if (!t->ops || !t->n_ops) return say(why, bytes, "it lists no operators");
    if (!t->score) return say(why, bytes, "it has no 'score'");
    if (!t->api) return say(why, bytes, "it has no function table");
    return check_slots(t->api, why, bytes);
}

/* A plugin's own text may hold anything; what is kept is one line. */
static void refuse(registry *r, const char *file, const char *why) {
    if (r->n_refusals == REGISTRY_MAX_REFUSALS) return;
    char *f = arena_string(&r->arena, file, strlen(file)), *w = arena_string(&r->arena, why, strlen(why));
    if (!f || !w) {
        r->exhausted = true;
        return;
    }
    for (char *at = w; *at; at++)
        if ((unsigned char)*at < 32 || *at == 127) *at = ' ';
    why = w;
    char line[512];
    snprintf(line, sizeof line, "plugin %s: %s", file, why);
    r->host->log(r->host->context, STRAND_LOG_INFO, line);
    r->refusals[r->n_refusals++] = (registry_refusal){f, w};
}

static void unload(registry_plugin *p) {
#ifndef STRAND_STATIC_PLUGINS
    if (p->handle) dlclose(p->handle);
#endif
    *p = (registry_plugin){0};
}

/* Calls the entry and `score`, and decides whether this plugin replaces one of its name. */
static void consider(registry *r, const char *file, void *handle, strand_plugin_entry_fn entry) {
    registry_plugin p = {.handle = handle};
    char why[256] = "";
    p.table.capacity = sizeof p.table;
    strand_plugin_status status = entry(r->host, &p.table);
    if (status) {
        snprintf(why, sizeof why, "its entry failed with status %d", status);
    } else if (registry_check(&p.table, why, sizeof why)) {
        char missing[200] = "";
        p.score = p.table.score(r->host, missing, sizeof missing);
        if (p.score <= 0) snprintf(why, sizeof why, "cannot run here: %s", missing[0] ? missing : "it gives no reason");
    }
    registry_plugin *slot = NULL;
    for (int32_t i = 0; !why[0] && i < r->n_plugins; i++) {
        registry_plugin *q = &r->plugins[i];
        if (strcmp(q->table.name, p.table.name) != 0) continue;
        if (q->score == p.score)
            snprintf(why, sizeof why, "another plugin named '%s' is already loaded from %.120s", p.table.name, q->file);
        else if (q->score > p.score)
            snprintf(why, sizeof why, "not needed: %.120s offers '%s' with score %d, this one %d", q->file, p.table.name,
                     q->score, p.score);
        else
            slot = q;
    }
    if (!why[0] && !slot && r->n_plugins == REGISTRY_MAX_PLUGINS) snprintf(why, sizeof why, "too many plugins");
    p.file = arena_string(&r->arena, file, strlen(file));
    if (!p.file) r->exhausted = true;
    if (why[0] || !p.file) {
        if (why[0]) refuse(r, file, why);
        unload(&p);
        return;
    }
    if (slot) {
        snprintf(why, sizeof why, "not needed: %.120s offers '%s' with score %d, this one %d", file, p.table.name, p.score,
                 slot->score);
        refuse(r, slot->file, why);
        unload(slot);
    } else {
        slot = &r->plugins[r->n_plugins++];
    }
    *slot = p;
}

#ifndef STRAND_STATIC_PLUGINS
/* Was this very file looked at before, by whatever path? The folders of the search may well be one. */
static bool seen_before(registry *r, const struct stat *st) {
    for (int32_t i = 0; i < r->n_seen; i++)
        if (r->seen[i].device == (uint64_t)st->st_dev && r->seen[i].inode == (uint64_t)st->st_ino) return true;
    if (r->n_seen < (int32_t)(sizeof r->seen / sizeof r->seen[0]))
        r->seen[r->n_seen++] = (registry_seen){(uint64_t)st->st_dev, (uint64_t)st->st_ino};
    return false;
}

static void load_file(registry *r, const char *path) {
    struct stat st;
    char why[300];
    if (stat(path, &st)) return refuse(r, path, "cannot be opened");
    if (seen_before(r, &st)) return;
    if (!S_ISREG(st.st_mode)) return refuse(r, path, "is not a file");
    if (st.st_mode & S_IWOTH) return refuse(r, path, "may be written by anybody; take the write permission for others away");
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *text = dlerror();
        snprintf(why, sizeof why, "cannot be loaded: %s", text ? text : "no reason given");
        return refuse(r, path, why);
    }
    union {
        void *object;
        strand_plugin_entry_fn entry;
    } symbol = {dlsym(handle, "strand_plugin_entry")};
    if (!symbol.object) {
        dlclose(handle);
        return refuse(r, path, "does not export strand_plugin_entry: not a Strand plugin");
    }
    consider(r, path, handle, symbol.entry);
}

static bool plugin_name(const char *name) {
    size_t n = strlen(name);
    return n > 10 && !strncmp(name, "strand-", 7) && !strcmp(name + n - 3, ".so");
}

static void load_folder(registry *r, const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    /* Sorted by name, so that which of two equal plugins is refused does not depend on the file system. */
    const char *names[REGISTRY_MAX_REFUSALS];
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!plugin_name(entry->d_name) || n == REGISTRY_MAX_REFUSALS) continue;
        const char *name = arena_string(&r->arena, entry->d_name, strlen(entry->d_name));
        if (!name) {
            r->exhausted = true;
            break;
        }
        int j = n++;
        for (; j > 0 && strcmp(names[j - 1], name) > 0; j--) names[j] = names[j - 1];
        names[j] = name;
    }
    closedir(dir);
    for (int i = 0; i < n; i++) {
        const char *path = arena_printf(&r->arena, "%s/%s", folder, names[i]);
        if (path)
            load_file(r, path);
        else
            r->exhausted = true;
    }
}

/* Folders and files with ':' between them. Relative ones are refused: they would mean the working directory. */
static void load_list(registry *r, const char *list) {
    for (const char *at = list; at && *at;) {
        size_t n = strcspn(at, ":");
        char *path = arena_string(&r->arena, at, n);
        at += n + (at[n] == ':');
        if (!path) r->exhausted = true;
        if (!path || !n) continue;
        struct stat st;
        if (path[0] != '/')
            refuse(r, path, "is not an absolute path; plugins are never looked for in the working directory");
        else if (!stat(path, &st) && S_ISDIR(st.st_mode))
            load_folder(r, path);
        else if (plugin_name(strrchr(path, '/') + 1))
            load_file(r, path);
        else
            refuse(r, path, "is not named strand-*.so");
    }
}

/* In the build tree the plugins lie in backends/<room>/ beside the library. */
static void load_rooms(registry *r, const char *folder) {
    const char *rooms = arena_printf(&r->arena, "%s/backends", folder);
    DIR *dir = rooms ? opendir(rooms) : NULL;
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        const char *path = arena_printf(&r->arena, "%s/%s", rooms, entry->d_name);
        if (path) load_folder(r, path);
    }
    closedir(dir);
}

const char *registry_own_folder(arena *a) {
    Dl_info info;
    union {
        const char *(*function)(arena *);
        void *address;
    } here = {registry_own_folder};
    if (!dladdr(here.address, &info) || !info.dli_fname) return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    if (!slash || info.dli_fname[0] != '/') return NULL;
    return arena_string(a, info.dli_fname, (size_t)(slash - info.dli_fname));
}

static void search(registry *r, const char *plugin_path) {
    load_list(r, plugin_path);
    load_list(r, secure_getenv("STRAND_BACKEND_PATH"));
    const char *own = registry_own_folder(&r->arena);
    if (own) {
        load_folder(r, own);
        const char *sub = arena_printf(&r->arena, "%s/strand", own);
        if (sub) load_folder(r, sub);
        load_rooms(r, own);
    }
#ifdef STRAND_PLUGIN_DIR
    load_folder(r, STRAND_PLUGIN_DIR);
#endif
}
#else
strand_plugin_status strand_cpu_entry(const strand_host *host, strand_plugin *plugin);

const char *registry_own_folder(arena *a) {
    (void)a;
    return NULL;
}

static void search(registry *r, const char *plugin_path) {
    (void)plugin_path;
    (void)r;
}
#endif

/* Cuts the lines "name=value" of a text, which is changed; returns how many there are, and keeps up to `room` of them. */
static int32_t cut_features(char *text, registry_feature *out, int32_t room) {
    int32_t n = 0;
    for (char *line = text; *line;) {
        char *end = line + strcspn(line, "\n"), *next = *end ? end + 1 : end;
        *end = 0;
        char *equals = strchr(line, '=');
        if (equals && equals != line && n < room) {
            *equals = 0;
            out[n++] = (registry_feature){line, equals + 1};
        }
        line = next;
    }
    return n;
}

/* What the plugin says of its device, if anything. Like all text of a plugin it may hold anything: control characters go. */
static void take_features(registry *r, registry_device *d, uint32_t index) {
    char text[2048] = "";
    registry_feature found[32];
    if (!REGISTRY_HAS(d, device_features) ||
        d->plugin->table.api->device_features(d->plugin->instance, index, text, sizeof text))
        return;
    text[sizeof text - 1] = 0;
    for (char *at = text; *at; at++)
        if (((unsigned char)*at < 32 && *at != '\n') || *at == 127) *at = ' ';
    char *kept = arena_string(&r->arena, text, strlen(text));
    int32_t n = kept ? cut_features(kept, found, (int32_t)(sizeof found / sizeof found[0])) : 0;
    d->features = arena_array(&r->arena, (size_t)n + 1, sizeof *d->features, _Alignof(registry_feature));
    if (!kept || !d->features)
        r->exhausted = true;
    else if (n)
        memcpy(d->features, found, (size_t)n * sizeof *found);
    d->n_features = d->features ? n : 0;
}

/* Opens one device of a plugin and checks what only a device can tell. */
static bool add_device(registry *r, registry_plugin *p, uint32_t index, char *why, size_t bytes) {
    const strand_plugin_api *api = p->table.api;
    registry_device d = {.plugin = p, .info = {.size = sizeof d.info}};
    if (r->n_devices == REGISTRY_MAX_DEVICES) return say(why, bytes, "too many devices");
    if (api->device_info(p->instance, index, &d.info)) return say(why, bytes, "device_info failed");
    d.info.name[sizeof d.info.name - 1] = 0;
    d.info.description[sizeof d.info.description - 1] = 0;
    if (d.info.alignment < 16 || d.info.alignment > 4096 || (d.info.alignment & (d.info.alignment - 1)))
        return say(why, bytes, "its device asks for an alignment that is not a power of two from 16 to 4096");
    bool memory = api->buffer_create && api->buffer_destroy && api->upload && api->download;
    if (!(d.info.flags & STRAND_DEVICE_HOST_MEMORY) && !memory)
        return say(why, bytes, "its device has own memory but no buffer functions");
    if (!api->submit != !api->wait) return say(why, bytes, "it has only one of 'submit' and 'wait'");
    d.name = d.info.name[0] ? arena_printf(&r->arena, "%s:%s", p->table.name, d.info.name) : p->table.name;
    d.api_size = api->size < sizeof *api ? api->size : (uint32_t)sizeof *api;
    strand_plugin_status status = d.name ? api->device_open(p->instance, index, &d.device) : STRAND_PLUGIN_ERR_MEMORY;
    if (status || !d.device) {
        char reason[210];
        take_reason(r, reason, sizeof reason);
        snprintf(why, bytes, "its device %u did not open, status %d%s", index, status, reason);
        return false;
    }
    take_features(r, &d, index);
    r->devices[r->n_devices++] = d;
    return true;
}

/* Starts a chosen plugin. Where that fails it is refused like any other. */
static void start(registry *r, registry_plugin *p) {
    char why[300] = "";
    p->started = true;
    strand_plugin_status status = p->table.api->open(r->host, &p->instance);
    if (status || !p->instance) {
        char reason[210];
        take_reason(r, reason, sizeof reason);
        snprintf(why, sizeof why, "its initialisation failed with status %d%s", status, reason);
        p->instance = NULL;
    } else {
        uint32_t n = p->table.api->device_count(p->instance);
        if (!n) snprintf(why, sizeof why, "it has no device");
        for (uint32_t i = 0; i < n && add_device(r, p, i, why, sizeof why); i++) {
        }
    }
    if (why[0]) refuse(r, p->file, why);
}

strand_status registry_open(registry *r, const strand_allocator *allocator, const strand_host *host, const char *plugin_path,
                            bool no_plugins, error *e) {
    memset(r, 0, sizeof *r);
    r->host = host;
    pthread_mutex_init(&r->lock, NULL);
    arena_init(&r->arena, allocator);
#ifdef STRAND_STATIC_PLUGINS
    consider(r, "built-in", NULL, strand_cpu_entry);
#endif
    if (!no_plugins) search(r, plugin_path);
    for (int32_t i = 0; i < r->n_plugins && !r->exhausted; i++)
        if (r->plugins[i].score > REGISTRY_LATE_SCORE) start(r, &r->plugins[i]);
    if (!r->n_devices && !r->exhausted) registry_wake(r, NULL, 0); /* better than nothing */
    if (r->exhausted) {
        registry_close(r);
        return error_set(e, STRAND_ERR_MEMORY, "out of memory while looking for plugins");
    }
    if (r->n_devices > 0) return STRAND_OK;
    char first[400] = "";
    if (r->n_refusals > 0) snprintf(first, sizeof first, "; %.150s: %.200s", r->refusals[0].file, r->refusals[0].why);
    registry_close(r);
    return error_set(e, STRAND_ERR_BACKEND,
                     "no usable backend plugin was found%s; set STRAND_BACKEND_PATH to the folder that holds strand-cpu*.so",
                     first);
}

void registry_close(registry *r) {
    for (int32_t i = r->n_devices; i-- > 0;) r->devices[i].plugin->table.api->device_close(r->devices[i].device);
    r->n_devices = 0;
    for (int32_t i = r->n_plugins; i-- > 0;) {
        registry_plugin *p = &r->plugins[i];
        if (p->instance) p->table.api->close(p->instance);
        unload(p);
    }
    r->n_plugins = r->n_refusals = 0;
    arena_release(&r->arena);
    if (r->host) pthread_mutex_destroy(&r->lock);
    r->host = NULL; /* closed, or never opened */
}

void registry_wake(registry *r, const char *name, size_t length) {
    size_t n = 0;
    while (n < length && name[n] != ':') n++;
    pthread_mutex_lock(&r->lock);
    for (int32_t i = 0; i < r->n_plugins; i++) {
        registry_plugin *p = &r->plugins[i];
        if (!p->started && (!name || (!strncmp(p->table.name, name, n) && !p->table.name[n]))) start(r, p);
    }
    pthread_mutex_unlock(&r->lock);
}

/* Does `text` hold the `length` letters of `part`, whatever their case? */
static bool mentions(const char *text, const char *part, size_t length) {
    for (; length && *text; text++)
        if (!strncasecmp(text, part, length)) return true;
    return false;
}

registry_device *registry_find(registry *r, const char *name, size_t length) {
    registry_wake(r, name, length);
    for (int32_t i = 0; i < r->n_devices; i++) {
        const char *have = r->devices[i].name;
        if (!strncmp(have, name, length) && (have[length] == 0 || have[length] == ':')) return &r->devices[i];
    }
    const char *colon = memchr(name, ':', length); /* "vulkan:radeon": a part of what the device is called */
    size_t n = colon ? (size_t)(colon - name) : length;
    for (int32_t i = 0; colon && i < r->n_devices; i++) {
        const registry_device *d = &r->devices[i];
        if (!strncmp(d->plugin->table.name, name, n) && !d->plugin->table.name[n] &&
            mentions(d->info.description, colon + 1, length - n - 1))
            return &r->devices[i];
    }
    return NULL;
}

const char *registry_refused(const registry *r, const char *name, size_t length) {
    const char *colon = memchr(name, ':', length); /* "vulkan:0": the plugin's name */
    if (colon) length = (size_t)(colon - name);
    for (int32_t i = 0; i < r->n_refusals; i++) {
        const char *slash = strrchr(r->refusals[i].file, '/'), *file = slash ? slash + 1 : r->refusals[i].file;
        if (!strncmp(file, "strand-", 7) && !strncmp(file + 7, name, length) && !strcmp(file + 7 + length, ".so"))
            return r->refusals[i].why;
    }
    return NULL;
}

bool registry_knows(const registry_device *d, uint32_t op, uint32_t version) {
    const strand_plugin *t = &d->plugin->table;
    for (uint32_t i = 0; i < t->n_ops; i++)
        if (t->ops[i].op == op && t->ops[i].version == version) return true;
    return false;
}

/* sharded.c - Hugging Face's *.index.json: {"metadata": ..., "weight_map": {tensor: file, ...}}.
 *
 * A file's name is text from a file: it must be a plain name and is opened in the index's own directory without following a
 * link. Every tensor of the map must be in its shard; what a shard holds beyond the map is left out. */
#include "sharded.h"

#include <inttypes.h>
#include <string.h>

#include "../json.h"
#include "../sort.h"

#define MAX_SHARDS 4096

static int compare_entries(const void *a, const void *b) {
    const shard_entry *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : (x > y) - (x < y);
}

strand_status sharded_parse(arena *a, const uint8_t *data, uint64_t size, const char *path, shard_index *out, error *e) {
    const json *root;
    strand_status status = json_parse(a, (const char *)data, (size_t)size, path, &root, e);
    if (status) return status;
    const json *files = json_get(root, "weight_map");
    if (!files || files->type != JSON_OBJECT) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: JSON without a \"weight_map\": not the index of a sharded checkpoint",
                         path);
    }
    shard_index index = {.entries = ARENA_ARRAY(a, shard_entry, files->count)};
    const void **sorted = ARENA_ARRAY(a, const void *, files->count);
    if (!index.entries || !sorted) return weights_no_memory(path, e);
    for (const json *name = files->first; name; name = name->next) {
        if (name->type != JSON_STRING || !weights_plain_name(name->text, name->length)) {
            return error_set(e, STRAND_ERR_FORMAT, "%s: weight_map %.200s: %.100s is not a plain file name beside the index",
                             path, name->key, name->type == JSON_STRING ? name->text : "the value");
        }
        sorted[index.count] = &index.entries[index.count];
        index.entries[index.count++] = (shard_entry){name->key, name->text, 0};
    }
    sort_pointers(sorted, index.count, compare_entries);
    index.files = ARENA_ARRAY(a, const char *, index.count);
    if (!index.files) return weights_no_memory(path, e);
    for (size_t i = 0; i < index.count; i++) {
        const shard_entry *x = sorted[i];
        if (index.n_files == 0 || strcmp(x->file, index.files[index.n_files - 1]) != 0) index.files[index.n_files++] = x->file;
        index.entries[x - index.entries].shard = index.n_files - 1;
    }
    if (index.count == 0) return error_set(e, STRAND_ERR_FORMAT, "%s: its weight_map is empty", path);
    if (index.n_files > MAX_SHARDS)
        return error_set(e, STRAND_ERR_LIMIT, "%s: %zu shards; at most %d are allowed", path, index.n_files, MAX_SHARDS);
    *out = index;
    return STRAND_OK;
}

static strand_status open_shards(weights *w, arena *scratch, int dir, const shard_index *index, error *e) {
    const char *slash = strrchr(w->path, '/');
    int parent = slash ? (int)(slash - w->path) + 1 : 0;
    w->shards = ARENA_ARRAY(&w->arena, weights *, index->n_files);
    if (!w->shards) return weights_no_memory(w->path, e);
    for (size_t i = 0; i < index->n_files; i++) {
        const char *shown = arena_printf(scratch, "%.*s%s", parent, w->path, index->files[i]);
        if (!shown) return weights_no_memory(w->path, e);
        strand_status status = weights_open_single(w->arena.allocator, dir, index->files[i], shown, false, &w->shards[i], e);
        if (status) return status;
        w->n_shards++;
    }
    return STRAND_OK;
}

/* "sharded safetensors"; just "sharded" when the shards differ. */
static strand_status name_format(weights *w, error *e) {
    const char *format = w->shards[0]->format;
    for (int64_t i = 1; i < w->n_shards; i++) {
        if (strcmp(w->shards[i]->format, format) != 0) return w->format = "sharded", STRAND_OK;
    }
    w->format = arena_printf(&w->arena, "sharded %s", format);
    return w->format ? STRAND_OK : weights_no_memory(w->path, e);
}

static strand_status gather(weights *w, arena *scratch, int dir, const map *m, error *e) {
    shard_index index;
    strand_status status = sharded_parse(scratch, m->data, m->size, w->path, &index, e);
    if (!status) status = open_shards(w, scratch, dir, &index, e);
    if (!status) status = name_format(w, e);
    for (size_t i = 0; !status && i < index.count; i++) {
        const shard_entry *x = &index.entries[i];
        const weights_tensor *t = weights_find(w->shards[x->shard], x->tensor);
        if (!t)
            return error_set(e, STRAND_ERR_FORMAT, "%s: tensor %.200s is not in %s, where the index says it is", w->path,
                             x->tensor, x->file);
        status = weights_add(w, t, e);
    }
    return status;
}

strand_status sharded_read(weights *w, int dir, const map *index, error *e) {
    arena scratch;
    arena_init(&scratch, w->arena.allocator);
    strand_status status = gather(w, &scratch, dir, index, e);
    arena_release(&scratch);
    return status;
}

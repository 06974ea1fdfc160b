/* weights.c - opens a checkpoint whatever its format, and answers for its tensors.
 *
 * The format is told by the bytes, never by the file's name. One file is one `weights` object with its mapping; a sharded
 * checkpoint is an object whose tensors are borrowed from the objects of its shards, which it owns. After weights_finish
 * nothing changes any more, except that the checksum is kept when it has been asked for. */
#include "weights.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../checked.h"
#include "../sort.h"
#include "bytes.h"
#include "reader.h"

strand_status weights_no_memory(const char *path, error *e) {
    return error_set(e, STRAND_ERR_MEMORY, "%s: out of memory while reading the tensors' names and shapes", path);
}

/* ---- adding tensors -------------------------------------------------------------------------------------------------- */

bool shape_bytes(const int64_t *dims, int32_t rank, size_t element, uint64_t *elements, uint64_t *bytes) {
    uint64_t product = element;
    bool empty = false;
    for (int32_t i = 0; i < rank; i++) {
        if (dims[i] < 0) return false;
        if (dims[i] == 0)
            empty = true;
        else if (!checked_mul(product, (uint64_t)dims[i], &product))
            return false;
    }
    if (product > INT64_MAX) return false;
    *bytes = empty ? 0 : product;
    *elements = *bytes / element;
    return true;
}

const void *weights_aligned(weights *w, const void *bytes, uint64_t size, size_t align) {
    if (((uintptr_t)bytes & (align - 1)) == 0) return bytes;
    if (size > SIZE_MAX) return NULL;
    void *copy = arena_alloc(&w->arena, (size_t)size, align);
    if (copy && size) memcpy(copy, bytes, (size_t)size);
    return copy;
}

strand_status weights_add(weights *w, const weights_tensor *tensor, error *e) {
    if (w->count == w->room) {
        if (w->count >= WEIGHTS_MAX_TENSORS) return error_set(e, STRAND_ERR_LIMIT, "%s: more than 1048576 tensors", w->path);
        int64_t room = w->room ? 2 * w->room : 64;
        weights_tensor *more = ARENA_ARRAY(&w->arena, weights_tensor, (size_t)room);
        if (!more) return weights_no_memory(w->path, e);
        if (w->count) memcpy(more, w->tensors, (size_t)w->count * sizeof *more);
        w->tensors = more;
        w->room = room;
    }
    w->tensors[w->count++] = *tensor;
    return STRAND_OK;
}

static int compare_names(const void *a, const void *b) {
    const weights_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

strand_status weights_finish(weights *w, error *e) {
    w->by_name = ARENA_ARRAY(&w->arena, const void *, (size_t)w->count);
    if (!w->by_name) return weights_no_memory(w->path, e);
    for (int64_t i = 0; i < w->count; i++) w->by_name[i] = &w->tensors[i];
    sort_pointers(w->by_name, (size_t)w->count, compare_names);
    for (int64_t i = 1; i < w->count; i++) {
        const weights_tensor *x = w->by_name[i];
        if (compare_names(w->by_name[i - 1], x) == 0)
            return error_set(e, STRAND_ERR_FORMAT, "%s: two tensors are named %.200s", w->path, x->name);
    }
    return STRAND_OK;
}

/* ---- which format ---------------------------------------------------------------------------------------------------- */

/* NULL: not a weights file by itself. */
typedef strand_status (*reader)(weights *w, error *e);

static bool begins(const uint8_t *data, uint64_t size, const char *magic, size_t length) {
    return size >= length && memcmp(data, magic, length) == 0;
}

/* A file of a kind that is known and not read here: what it is and what helps, or NULL. */
static const char *foreign(const uint8_t *data, uint64_t size) {
    if (begins(data, size, "\x1f\x8b", 2))
        return "compressed with gzip; unpack it first (gunzip, or tar xzf) and give the weights file";
    if (begins(data, size, "BZh", 3) ||
        begins(data, size,
               "\xfd"
               "7zXZ",
               5) ||
        begins(data, size, "\x28\xb5\x2f\xfd", 4)) {
        return "a compressed file; unpack it first and give the weights file";
    }
    if (begins(data, size, "\x89HDF", 4)) return "an HDF5 file, which is not supported; convert it to safetensors";
    if (begins(data, size, "\x93NUMPY", 6)) return "a NumPy array, which is not supported; convert it to safetensors";
    if (begins(data, size, "version https://git-lfs", 23))
        return "a Git LFS pointer and not the file itself; fetch it with git lfs pull";
    if (begins(data, size, "lmgg", 4) || begins(data, size, "tjgg", 4)) {
        return "a ggml file, which is not supported; give safetensors or PyTorch weights";
    }
    if (size >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5) {
        return "a pickle that torch.save did not write; save a dict of tensors with torch.save or as safetensors";
    }
    return NULL;
}

static bool is_json(const uint8_t *data, uint64_t size) {
    uint64_t at = 0;
    while (at < size && (data[at] == ' ' || data[at] == '\t' || data[at] == '\n' || data[at] == '\r')) at++;
    return at < size && data[at] == '{';
}

/* Is the '{' at byte 8 a safetensors header's? Its length stands before it, and by chance the first bytes of that can be a
 * '{' or another format's mark (0x80 0x02, a pickle's, is a header of 640 bytes). A length that fits settles it; one that
 * does not may still be a damaged safetensors file's, unless the eight bytes are text or begin as something else does. */
static bool is_safetensors(const uint8_t *data, uint64_t size) {
    if (size <= 8 || data[8] != '{') return false;
    uint64_t length = read_u64(data);
    return length <= size - 8 || (!(is_json(data, size) && length >> 32) && !foreign(data, size));
}

/* One that may also be part of another file. */
static reader recognise_part(const uint8_t *data, uint64_t size) {
    if (pytorch_is_legacy(data, size)) return pytorch_legacy_read;
    if (begins(data, size, "PK\3\4", 4) || begins(data, size, "PK\5\6", 4)) return pytorch_zip_read;
    /* As a safetensors header's length these bytes, with a version behind them, would be above its limit. */
    if (begins(data, size, "GGUF", 4) && (size < 8 || read_u32(data + 4))) return gguf_read;
    if (begins(data, size, "fmgg", 4)) return rwkvcpp_read;
    return is_safetensors(data, size) ? safetensors_read : NULL;
}

bool weights_is_part(const uint8_t *data, uint64_t size) {
    return recognise_part(data, size) != NULL;
}

strand_status weights_read_part(weights *w, const uint8_t *data, uint64_t size, error *e) {
    const uint8_t *all = w->data;
    const uint64_t all_size = w->size;
    w->data = data;
    w->size = size;
    strand_status status = recognise_part(data, size)(w, e);
    w->data = all;
    w->size = all_size;
    return status;
}

static reader recognise(const uint8_t *data, uint64_t size) {
    reader part = recognise_part(data, size);
    if (part) return part;
    if (tar_is(data, size)) return tar_read;
    return llama2c_is(data, size) ? llama2c_read : NULL;
}

static strand_status read_bytes(weights *w, error *e) {
    reader read = recognise(w->data, w->size);
    if (!read) {
        const char *what = foreign(w->data, w->size);
        if (what) return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: %s", w->path, what);
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: not a weights file of a known format (safetensors, GGUF, PyTorch zip or legacy, a tar of one, "
                         "*.index.json)",
                         w->path);
    }
    strand_status status = read(w, e);
    return status ? status : weights_finish(w, e);
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

/* The object lives in its own arena, so that closing is: unmap, release. */
static strand_status create(const strand_allocator *allocator, const char *path, weights **out, error *e) {
    arena a;
    arena_init(&a, allocator ? allocator : allocator_default());
    weights *w = ARENA_NEW(&a, weights);
    char *copy = w ? arena_string(&a, path, strlen(path)) : NULL;
    if (!copy) {
        arena_release(&a);
        return error_set(e, STRAND_ERR_MEMORY, "%s: out of memory", path);
    }
    w->arena = a;
    w->path = copy;
    *out = w;
    return STRAND_OK;
}

/* Ends an opening: hands the object out, or closes it. */
static strand_status deliver(weights *w, strand_status status, weights **out) {
    if (status)
        weights_close(w);
    else
        *out = w;
    return status;
}

strand_status weights_open_bytes(const strand_allocator *allocator, const void *data, uint64_t size, const char *shown,
                                 weights **out, error *e) {
    weights *w;
    strand_status status = create(allocator, shown, &w, e);
    if (status) return status;
    w->data = data;
    w->size = size;
    return deliver(w, read_bytes(w, e), out);
}

strand_status weights_open_memory(const strand_allocator *allocator, const void *data, size_t bytes, const char *name,
                                  weights **out, error *e) {
    weights *w;
    strand_status status = create(allocator, name ? name : "memory", &w, e);
    if (status) return status;
    w->data = data;
    w->size = bytes;
    status = safetensors_read(w, e);
    return deliver(w, status ? status : weights_finish(w, e), out);
}

/* The file `name` in `dir`: a single file, or, where `index` allows it, an index with its shards. */
static strand_status open_in(const strand_allocator *allocator, int dir, const char *name, const char *shown, bool follow,
                             bool index, weights **out, error *e) {
    weights *w;
    strand_status status = create(allocator, shown, &w, e);
    if (status) return status;
    status = map_open(dir, name, w->path, follow, &w->map, e);
    if (!status && index && !recognise(w->map.data, w->map.size) && is_json(w->map.data, w->map.size)) {
        status = sharded_read(w, dir, &w->map, e);
        if (!status) status = weights_finish(w, e);
        map_close(&w->map); /* its text is not weights */
    } else if (!status) {
        w->data = w->map.data;
        w->size = w->map.size;
        status = read_bytes(w, e);
    }
    return deliver(w, status, out);
}

strand_status weights_open_single(const strand_allocator *allocator, int dir, const char *name, const char *shown, bool follow,
                                  weights **out, error *e) {
    return open_in(allocator, dir, name, shown, follow, false, out, e);
}

static strand_status open_directory(const strand_allocator *allocator, int dir, const char *path, const char *config,
                                    weights **out, error *e) {
    arena scratch;
    arena_init(&scratch, allocator);
    const char *name;
    bool from_config = false;
    strand_status status = directory_find(&scratch, dir, path, config, &name, &from_config, e);
    if (!status) {
        size_t length = strlen(path);
        const char *shown = arena_printf(&scratch, "%s%s%s", path, length && path[length - 1] == '/' ? "" : "/", name);
        /* A name that a config gave is text from a file and may not lead elsewhere; the fixed names are the user's own
         * links. */
        status = shown ? open_in(allocator, dir, name, shown, !from_config, true, out, e) : weights_no_memory(path, e);
    }
    arena_release(&scratch);
    return status;
}

/* A file: its directory is opened too, since shards are opened in it. */
static strand_status open_file(const strand_allocator *allocator, const char *path, weights **out, error *e) {
    const char *slash = strrchr(path, '/');
    if (!slash) return open_in(allocator, AT_FDCWD, path, path, true, true, out, e);
    arena scratch;
    arena_init(&scratch, allocator);
    strand_status status = STRAND_OK;
    const char *parent = arena_string(&scratch, path, (size_t)(slash - path) + 1);
    int dir = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (!parent)
        status = weights_no_memory(path, e);
    else if (dir < 0)
        status = error_set(e, STRAND_ERR_IO, "%s: its directory cannot be opened", path);
    else
        status = open_in(allocator, dir, slash + 1, path, true, true, out, e);
    if (dir >= 0) close(dir);
    arena_release(&scratch);
    return status;
}

strand_status weights_open(const strand_allocator *allocator, const char *path, const char *config, weights **out, error *e) {
    struct stat facts;
    if (!allocator) allocator = allocator_default();
    if (stat(path, &facts) != 0)
        return error_set(e, STRAND_ERR_IO, "%s: no such file or directory, or no permission to look", path);
    if (!S_ISDIR(facts.st_mode)) return open_file(allocator, path, out, e);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return error_set(e, STRAND_ERR_IO, "%s: the directory cannot be opened", path);
    strand_status status = open_directory(allocator, dir, path, config, out, e);
    close(dir);
    return status;
}

strand_status weights_hold(const weights *w, error *e) {
    strand_status status = w->map.data ? map_hold(&w->map, w->path, e) : STRAND_OK;
    for (int64_t i = 0; i < w->n_shards && !status; i++) status = weights_hold(w->shards[i], e);
    return status;
}

void weights_close(weights *w) {
    if (!w) return;
    for (int64_t i = 0; i < w->n_shards; i++) weights_close(w->shards[i]);
    map_close(&w->map);
    arena a = w->arena; /* `w` itself is in it */
    arena_release(&a);
}

/* ---- questions ------------------------------------------------------------------------------------------------------- */

int64_t weights_count(const weights *w) {
    return w->count;
}

const weights_tensor *weights_at(const weights *w, int64_t index) {
    return index >= 0 && index < w->count ? &w->tensors[index] : NULL;
}

const weights_tensor *weights_find(const weights *w, const char *name) {
    int64_t low = 0, high = w->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const weights_tensor *x = w->by_name[middle];
        int order = strcmp(name, x->name);
        if (order == 0) return x;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *weights_metadata(const weights *w, const char *key) {
    for (int64_t i = 0; i < w->n_metadata; i++) {
        if (strcmp(w->metadata[i].key, key) == 0) return w->metadata[i].value;
    }
    return NULL;
}

const char *weights_format(const weights *w) {
    return w->format;
}

const char *weights_path(const weights *w) {
    return w->path;
}

uint64_t weights_mapped_bytes(const weights *w) {
    uint64_t bytes = w->size;
    for (int64_t i = 0; i < w->n_shards; i++) bytes += w->shards[i]->size;
    return bytes;
}

const char *weights_sha256(weights *w) {
    if (atomic_load(&w->hashed) == 2) return w->sha256;
    char text[SHA256_HEX];
    sha256 s;
    sha256_init(&s);
    sha256_update(&s, w->data, (size_t)w->size);
    for (int64_t i = 0; i < w->n_shards; i++) sha256_update(&s, w->shards[i]->data, (size_t)w->shards[i]->size);
    sha256_final_hex(&s, text);
    int before = 0; /* of threads that come together each computes it, and one keeps it */
    if (atomic_compare_exchange_strong(&w->hashed, &before, 1)) {
        memcpy(w->sha256, text, sizeof text);
        atomic_store(&w->hashed, 2);
    }
    while (atomic_load(&w->hashed) != 2) continue;
    return w->sha256;
}

/* pytorch.c - the two containers of torch.save: where the pickle is, and where the bytes of its storages are.
 *
 * Zip (since PyTorch 1.6): NAME/data.pkl, and the storage with key K in the entry NAME/data/K. Legacy: five pickles (a magic
 * number, the protocol, facts of the system, the object, the list of storage keys), then for each key in that order the number
 * of elements as 8 bytes and the elements. Every storage that is named must be there and as long as it says. */
#include "pytorch.h"

#include <inttypes.h>
#include <string.h>

#include "../checked.h"
#include "../sort.h"
#include "bytes.h"
#include "zip.h"

#define MAX_KEY 255u

/* ---- storages by key ------------------------------------------------------------------------------------------------- */

static int compare_key(const char *a, uint64_t a_length, const char *b, uint64_t b_length) {
    int order = memcmp(a, b, (size_t)(a_length < b_length ? a_length : b_length));
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_storages(const void *a, const void *b) {
    const pickle_storage *x = a, *y = b;
    return compare_key(x->key, x->key_length, y->key, y->key_length);
}

static strand_status bad_storage(const weights *w, const pickle_storage *s, const char *why, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: storage %.*s: %s", w->path, (int)(s->key_length < 100 ? s->key_length : 100),
                     s->key, why);
}

/* Each storage key once, in order; storages of one key share their bytes and must agree in type and length. */
typedef struct storages {
    const void **leaders;
    uint64_t count;
} storages;

static strand_status group_storages(const weights *w, pickle *p, storages *out, error *e) {
    const void **sorted = ARENA_ARRAY(p->arena, const void *, (size_t)p->n_storages);
    if (!sorted) return weights_no_memory(w->path, e);
    uint64_t n = 0, count = 0;
    for (const pickle_storage *s = p->storages; s; s = s->older) sorted[n++] = s;
    sort_pointers(sorted, (size_t)n, compare_storages);
    for (uint64_t i = 0; i < n; i++) {
        const pickle_storage *s = sorted[i], *leader = count ? sorted[count - 1] : NULL;
        if (s->key_length > MAX_KEY) return bad_storage(w, s, "a key of more than 255 bytes", e);
        if (!leader || compare_storages(leader, s) != 0) {
            sorted[count++] = leader = s;
        } else if (leader->numel != s->numel || strcmp(leader->type, s->type) != 0) {
            return bad_storage(w, s, "described twice, with different types or lengths", e);
        }
        s->bytes->shared = leader->bytes;
    }
    *out = (storages){sorted, count};
    return STRAND_OK;
}

static const pickle_storage *find_storage(const storages *all, const char *key, uint64_t length) {
    uint64_t low = 0, high = all->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const pickle_storage *s = all->leaders[middle];
        int order = compare_key(key, length, s->key, s->key_length);
        if (order == 0) return s;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Gives a storage its bytes, which must be just its elements. */
static strand_status give_bytes(const weights *w, const pickle_storage *s, const uint8_t *data, uint64_t size, error *e) {
    uint64_t need;
    if (!checked_mul(s->numel, s->element, &need) || need != size) {
        return error_set(e, STRAND_ERR_FORMAT,
                         "%s: storage %.*s: %" PRIu64 " elements of %zu bytes are said to be in %" PRIu64 " bytes", w->path,
                         (int)s->key_length, s->key, s->numel, s->element, size);
    }
    s->bytes->data = data;
    s->bytes->size = size;
    return STRAND_OK;
}

/* ---- zip ------------------------------------------------------------------------------------------------------------- */

/* The one entry NAME/data.pkl. Its NAME/ begins every other entry of the file. */
static strand_status find_pickle(const weights *w, const zip *z, const zip_entry **out, error *e) {
    static const char wanted[] = "data.pkl";
    const size_t n = sizeof wanted - 1;
    *out = NULL;
    for (size_t i = 0; i < z->count; i++) {
        const zip_entry *x = &z->entries[i];
        if (x->name_length < n || memcmp(x->name + x->name_length - n, wanted, n) != 0) continue;
        const char *slash = memchr(x->name, '/', x->name_length);
        if (slash ? slash != x->name + x->name_length - n - 1 : x->name_length != n)
            continue; /* deeper, or the end of another name */
        if (*out) return error_set(e, STRAND_ERR_FORMAT, "%s: two entries are named data.pkl; a PyTorch file has one", w->path);
        *out = x;
    }
    if (*out) return STRAND_OK;
    return error_set(e, STRAND_ERR_FORMAT, "%s: a ZIP file without data.pkl: not a PyTorch checkpoint", w->path);
}

/* The entry whose name is the pickle's folder and `name`. */
static const zip_entry *find_beside(const zip *z, const zip_entry *pickle_entry, const char *folder, const char *name,
                                    uint64_t length) {
    char full[WEIGHTS_MAX_NAME];
    size_t base = pickle_entry->name_length - strlen("data.pkl"), middle = strlen(folder);
    if (base > sizeof full || middle > sizeof full - base || length > sizeof full - base - middle) return NULL;
    memcpy(full, pickle_entry->name, base);
    memcpy(full + base, folder, middle);
    memcpy(full + base + middle, name, (size_t)length);
    return zip_find(z, full, base + middle + (size_t)length);
}

static strand_status read_zip(weights *w, arena *scratch, error *e) {
    zip z;
    pickle p;
    storages all;
    const zip_entry *entry = NULL;
    const pickle_value *object;
    strand_status status = zip_open(scratch, w->data, w->size, w->path, &z, e);
    if (!status) status = find_pickle(w, &z, &entry, e);
    if (!status) status = zip_check(&z, entry, e);
    if (status) return status;
    const zip_entry *order = find_beside(&z, entry, "", "byteorder", 9);
    if (order && (order->size != 6 || memcmp(order->data, "little", 6) != 0)) {
        return error_set(e, STRAND_ERR_UNSUPPORTED,
                         "%s: its byte order is not little-endian; save it again on a little-endian machine", w->path);
    }
    pickle_init(&p, scratch, entry->data, entry->size, w->path, "data.pkl", e);
    if ((status = pickle_read(&p, &object))) return status;
    if (p.at != p.size) return pickle_fail(&p, "bytes after the end of the pickle");
    if ((status = group_storages(w, &p, &all, e))) return status;
    for (uint64_t i = 0; i < all.count; i++) {
        const pickle_storage *s = all.leaders[i];
        const zip_entry *x = find_beside(&z, entry, "data/", s->key, s->key_length);
        if (!x) return bad_storage(w, s, "the file has no such entry in data/; it is incomplete, fetch it again", e);
        if ((status = give_bytes(w, s, x->data, x->size, e))) return status;
    }
    return pytorch_flatten(w, object, entry->size, e);
}

strand_status pytorch_zip_read(weights *w, error *e) {
    arena scratch;
    arena_init(&scratch, w->arena.allocator);
    w->format = "pytorch-zip";
    strand_status status = read_zip(w, &scratch, e);
    arena_release(&scratch);
    return status;
}

/* ---- legacy ---------------------------------------------------------------------------------------------------------- */

/* A pickled integer of 10 bytes: 0x1950a86a20f9469cfc6c, then STOP. */
static const uint8_t legacy_magic[] = {0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

/* The magic number's offset: behind the protocol and, from protocol 4 on, perhaps a frame; 0 when there is none. */
static uint64_t find_magic(const uint8_t *data, uint64_t size) {
    if (size < 2 || data[0] != 0x80 || data[1] < 2 || data[1] > 5) return 0;
    uint64_t at = size > 2 && data[2] == 0x95 ? 11 : 2;
    if (!checked_range(at, sizeof legacy_magic, size) || memcmp(data + at, legacy_magic, sizeof legacy_magic) != 0) return 0;
    return at;
}

bool pytorch_is_legacy(const uint8_t *data, uint64_t size) {
    return find_magic(data, size) != 0;
}

static strand_status check_system(const weights *w, const pickle_value *version, const pickle_value *system, error *e) {
    if (version->kind != PICKLE_INT || version->as.integer != 1001) {
        return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: a legacy PyTorch file of a protocol other than 1001", w->path);
    }
    if (system->kind != PICKLE_DICT)
        return error_set(e, STRAND_ERR_FORMAT, "%s: the legacy header's facts of the system are not a dict", w->path);
    for (const pickle_cell *cell = system->as.list.first; cell; cell = cell->next) {
        if (!pickle_is_text(cell->key, "little_endian")) continue;
        if (cell->value->kind == PICKLE_BOOL && cell->value->as.integer) return STRAND_OK;
        break;
    }
    return error_set(e, STRAND_ERR_UNSUPPORTED, "%s: not written by a little-endian machine; save it again on one", w->path);
}

/* The data behind the pickles: for each key its number of elements and the elements, to the end of the file. */
static strand_status read_legacy_data(const weights *w, const storages *all, const pickle_value *keys, uint64_t at, error *e) {
    if (keys->kind != PICKLE_LIST)
        return error_set(e, STRAND_ERR_FORMAT, "%s: the legacy list of storage keys is not a list", w->path);
    for (const pickle_cell *cell = keys->as.list.first; cell; cell = cell->next) {
        const pickle_value *key = cell->value;
        const pickle_storage *s =
            key->kind == PICKLE_STRING ? find_storage(all, key->as.string.bytes, key->as.string.length) : NULL;
        if (!s)
            return error_set(e, STRAND_ERR_FORMAT, "%s: byte %" PRIu64 ": a storage that the object does not mention", w->path,
                             at);
        if (s->bytes->data) return bad_storage(w, s, "it is in the list of storages twice", e);
        uint64_t bytes;
        if (!checked_range(at, 8, w->size) || read_u64(w->data + at) != s->numel) {
            return bad_storage(w, s, "its number of elements is not what the object says; the file is damaged or cut short", e);
        }
        if (!checked_mul(s->numel, s->element, &bytes) || !checked_range(at + 8, bytes, w->size)) {
            return bad_storage(w, s, "its data reaches past the end of the file; it is cut short, fetch it again", e);
        }
        strand_status status = give_bytes(w, s, w->data + at + 8, bytes, e);
        if (status) return status;
        at += 8 + bytes;
    }
    if (at != w->size) return error_set(e, STRAND_ERR_FORMAT, "%s: byte %" PRIu64 ": data after the last storage", w->path, at);
    for (uint64_t i = 0; i < all->count; i++) {
        const pickle_storage *s = all->leaders[i];
        if (!s->bytes->data) return bad_storage(w, s, "it is not in the list of storages", e);
    }
    return STRAND_OK;
}

static strand_status read_legacy(weights *w, arena *scratch, error *e) {
    pickle p;
    storages all;
    const pickle_value *version = NULL, *system = NULL, *object = NULL, *keys = NULL;
    pickle_init(&p, scratch, w->data, w->size, w->path, "pickle", e);
    p.at = find_magic(w->data, w->size) + sizeof legacy_magic;
    strand_status status = pickle_read(&p, &version);
    if (!status) status = pickle_read(&p, &system);
    if (!status) status = check_system(w, version, system, e);
    if (!status) status = pickle_read(&p, &object);
    if (!status) status = pickle_read(&p, &keys);
    if (!status) status = group_storages(w, &p, &all, e);
    if (!status) status = read_legacy_data(w, &all, keys, p.at, e);
    return status ? status : pytorch_flatten(w, object, p.at, e);
}

strand_status pytorch_legacy_read(weights *w, error *e) {
    arena scratch;
    arena_init(&scratch, w->arena.allocator);
    w->format = "pytorch-legacy";
    strand_status status = read_legacy(w, &scratch, e);
    arena_release(&scratch);
    return status;
}

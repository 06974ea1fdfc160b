/* zip.c - a bounded reader of ZIP and ZIP64 directories; stored entries only.
 *
 * A ZIP says everything twice, and files that say two things are read differently by different tools. So both must agree: the
 * local header of each entry with the directory (sizes and checksum may be absent there, PyTorch leaves them to a descriptor
 * behind the data), the ZIP64 end record with the plain one. Entries must lie in the order of the directory, one behind the
 * other, before it; the directory must end where its end record begins. No name appears twice. */
#include "zip.h"

#include <inttypes.h>
#include <string.h>

#include "../checked.h"
#include "../sort.h"
#include "bytes.h"

#define LOCAL_BYTES     30u
#define CENTRAL_BYTES   46u
#define END_BYTES       22u
#define END64_BYTES     56u
#define LOCATOR64_BYTES 20u

#define FLAG_ENCRYPTED  1u
#define FLAG_DESCRIPTOR 8u

/* Where the directory is, from the end records. */
typedef struct directory {
    uint64_t offset, bytes, count;
    uint64_t end; /* where the end records begin */
} directory;

static strand_status bad(const zip *z, uint64_t at, const char *why, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: byte %" PRIu64 ": %s; the ZIP file is damaged", z->path, at, why);
}

static strand_status bad_entry(const zip *z, const zip_entry *x, const char *why, error *e) {
    return error_set(e, STRAND_ERR_FORMAT, "%s: ZIP entry %.*s: %s", z->path,
                     (int)(x->name_length < 200 ? x->name_length : 200), x->name, why);
}

/* ---- end records ----------------------------------------------------------------------------------------------------- */

/* The end record is the last in the file; only its comment, up to 65535 bytes, may follow. */
static bool find_end(const zip *z, uint64_t *at) {
    uint64_t last = z->size < END_BYTES ? 0 : z->size - END_BYTES;
    for (uint64_t comment = 0; z->size >= END_BYTES && comment <= 65535 && comment <= last; comment++) {
        const uint8_t *record = z->data + last - comment;
        if (read_u32(record) == 0x06054b50 && read_u16(record + 20) == comment) {
            *at = last - comment;
            return true;
        }
    }
    return false;
}

/* The ZIP64 end record, when its locator stands before the plain one; what the plain one says too must be equal. */
static strand_status read_end64(const zip *z, directory *d, error *e) {
    uint64_t locator = d->end - LOCATOR64_BYTES, at = read_u64(z->data + locator + 8);
    if (read_u32(z->data + locator + 4) != 0 || read_u32(z->data + locator + 16) > 1)
        return bad(z, locator, "it spans several disks", e);
    if (!checked_range(at, END64_BYTES, locator) || read_u32(z->data + at) != 0x06064b50) {
        return bad(z, locator, "the ZIP64 end record is not where its locator points", e);
    }
    const uint8_t *record = z->data + at;
    uint64_t bytes = read_u64(record + 4);
    if (bytes < END64_BYTES - 12 || bytes != locator - at - 12) return bad(z, at, "the ZIP64 end record has a wrong size", e);
    if (read_u32(record + 16) != 0 || read_u32(record + 20) != 0) return bad(z, at, "it spans several disks", e);
    uint64_t count = read_u64(record + 32), size = read_u64(record + 40), offset = read_u64(record + 48);
    if (read_u64(record + 24) != count || (d->count != 0xFFFF && d->count != count) ||
        (d->bytes != 0xFFFFFFFF && d->bytes != size) || (d->offset != 0xFFFFFFFF && d->offset != offset)) {
        return bad(z, at, "the two end records disagree", e);
    }
    *d = (directory){offset, size, count, at};
    return STRAND_OK;
}

static strand_status read_end(const zip *z, directory *d, error *e) {
    uint64_t at;
    if (!find_end(z, &at)) {
        return error_set(e, STRAND_ERR_FORMAT, "%s: a ZIP file without its end record; it is cut short, fetch it again",
                         z->path);
    }
    const uint8_t *record = z->data + at;
    if (read_u16(record + 4) != 0 || read_u16(record + 6) != 0) return bad(z, at, "it spans several disks", e);
    if (read_u16(record + 8) != read_u16(record + 10)) return bad(z, at, "the end record gives two numbers of entries", e);
    *d = (directory){read_u32(record + 16), read_u32(record + 12), read_u16(record + 10), at};
    if (at >= LOCATOR64_BYTES && read_u32(z->data + at - LOCATOR64_BYTES) == 0x07064b50) {
        strand_status status = read_end64(z, d, e);
        if (status) return status;
    }
    if (!checked_range(d->offset, d->bytes, d->end) || d->offset + d->bytes != d->end) {
        return bad(z, d->end, "the directory does not end where its end record begins", e);
    }
    if (d->count > d->bytes / CENTRAL_BYTES) return bad(z, d->end, "more entries than the directory has room for", e);
    return STRAND_OK;
}

/* ---- entries --------------------------------------------------------------------------------------------------------- */

/* What the directory says of an entry, ZIP64 fields resolved. */
typedef struct central {
    uint16_t flags, method;
    uint64_t packed, offset;
} central;

/* Replaces the fields that are all ones by those of the ZIP64 extra field, which holds just these, in this order. */
static bool resolve64(const uint8_t *extra, size_t bytes, uint64_t *const fields[], int n) {
    while (bytes >= 4) {
        size_t size = read_u16(extra + 2);
        if (size > bytes - 4) return false;
        if (read_u16(extra) == 1) {
            const uint8_t *at = extra + 4;
            for (int i = 0; i < n; i++) {
                if (*fields[i] != 0xFFFFFFFF) continue;
                if (size < 8) return false;
                *fields[i] = read_u64(at);
                at += 8, size -= 8;
            }
            return true;
        }
        extra += 4 + size, bytes -= 4 + size;
    }
    for (int i = 0; i < n; i++) {
        if (*fields[i] == 0xFFFFFFFF) return false;
    }
    return true;
}

static strand_status read_central(const zip *z, const directory *d, uint64_t *at, zip_entry *x, central *c, error *e) {
    const uint8_t *record = z->data + *at;
    if (!checked_range(*at, CENTRAL_BYTES, d->end) || read_u32(record) != 0x02014b50)
        return bad(z, *at, "no directory entry here", e);
    size_t name = read_u16(record + 28), extra = read_u16(record + 30), comment = read_u16(record + 32);
    if (!checked_range(*at, CENTRAL_BYTES + name + extra + comment, d->end))
        return bad(z, *at, "a directory entry reaches past the directory", e);
    *x = (zip_entry){.name = (const char *)record + CENTRAL_BYTES,
                     .name_length = name,
                     .crc = read_u32(record + 16),
                     .size = read_u32(record + 24)};
    *c = (central){read_u16(record + 8), read_u16(record + 10), read_u32(record + 20), read_u32(record + 42)};
    uint64_t *const fields[] = {&x->size, &c->packed, &c->offset};
    if (name == 0 || memchr(x->name, 0, name)) return bad(z, *at, "an entry's name is empty or holds a zero byte", e);
    if (!resolve64(record + CENTRAL_BYTES + name, extra, fields, 3))
        return bad_entry(z, x, "its ZIP64 sizes are missing or cut", e);
    if (c->flags & FLAG_ENCRYPTED) return bad_entry(z, x, "encrypted", e);
    if (c->method != 0) {
        return error_set(
            e, STRAND_ERR_UNSUPPORTED,
            "%s: ZIP entry %.*s is compressed; write the file again with torch.save, which stores entries as they are", z->path,
            (int)(name < 200 ? name : 200), x->name);
    }
    if (c->packed != x->size) return bad_entry(z, x, "stored, yet with two different sizes", e);
    *at += CENTRAL_BYTES + name + extra + comment;
    return STRAND_OK;
}

/* May a local header's field differ from the directory's? Only when it leaves the matter to a descriptor: zero, or all ones
 * with a ZIP64 extra field that was resolved to zero. */
static bool agrees(uint64_t local, uint64_t said, unsigned flags) {
    return local == said || ((flags & FLAG_DESCRIPTOR) && local == 0);
}

/* Compares the local header and sets x->data. `used` is the first byte that no earlier entry uses; it is moved behind this
 * one. */
static strand_status read_local(const zip *z, const directory *d, const central *c, uint64_t *used, zip_entry *x, error *e) {
    if (c->offset < *used) return bad_entry(z, x, "it overlaps the entry before it, or is not in the directory's order", e);
    if (!checked_range(c->offset, LOCAL_BYTES, d->offset)) return bad_entry(z, x, "its local header is outside the file", e);
    const uint8_t *record = z->data + c->offset;
    if (read_u32(record) != 0x04034b50) return bad_entry(z, x, "there is no local header where the directory points", e);
    size_t name = read_u16(record + 26), extra = read_u16(record + 28);
    if (!checked_range(c->offset, LOCAL_BYTES + name + extra, d->offset))
        return bad_entry(z, x, "its local header is outside the file", e);
    uint64_t data = c->offset + LOCAL_BYTES + name + extra;
    if (!checked_range(data, x->size, d->offset)) return bad_entry(z, x, "its data is outside the file", e);
    if (name != x->name_length || memcmp(record + LOCAL_BYTES, x->name, name) != 0)
        return bad_entry(z, x, "its local header has another name", e);
    uint64_t packed = read_u32(record + 18), size = read_u32(record + 22);
    uint64_t *const fields[] = {&size, &packed};
    bool padded = size != 0xFFFFFFFF && packed != 0xFFFFFFFF; /* its extra field may be PyTorch's padding, of any content */
    if (!padded && !resolve64(record + LOCAL_BYTES + name, extra, fields, 2))
        return bad_entry(z, x, "its local ZIP64 sizes are missing or cut", e);
    unsigned flags = read_u16(record + 6);
    if (flags != c->flags || read_u16(record + 8) != c->method || !agrees(read_u32(record + 14), x->crc, flags) ||
        !agrees(size, x->size, flags) || !agrees(packed, x->size, flags)) {
        return bad_entry(z, x, "its local header and the directory disagree", e);
    }
    x->data = z->data + data;
    *used = data + x->size;
    return STRAND_OK;
}

static int compare_text(const char *a, size_t a_length, const char *b, size_t b_length) {
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_names(const void *a, const void *b) {
    const zip_entry *x = a, *y = b;
    return compare_text(x->name, x->name_length, y->name, y->name_length);
}

static strand_status read_entries(arena *a, zip *z, const directory *d, error *e) {
    zip_entry *entries = ARENA_ARRAY(a, zip_entry, (size_t)d->count);
    z->by_name = ARENA_ARRAY(a, const void *, (size_t)d->count);
    if (!entries || !z->by_name) return error_set(e, STRAND_ERR_MEMORY, "%s: out of memory", z->path);
    z->entries = entries;
    uint64_t at = d->offset, used = 0;
    for (z->count = 0; z->count < d->count; z->count++) {
        central c;
        zip_entry *x = &entries[z->count];
        strand_status status = read_central(z, d, &at, x, &c, e);
        if (!status) status = read_local(z, d, &c, &used, x, e);
        if (status) return status;
        z->by_name[z->count] = x;
    }
    if (at != d->end) return bad(z, at, "the directory is longer than its entries", e);
    sort_pointers(z->by_name, z->count, compare_names);
    for (size_t i = 1; i < z->count; i++) {
        if (compare_names(z->by_name[i - 1], z->by_name[i]) == 0)
            return bad_entry(z, z->by_name[i], "two entries have this name", e);
    }
    return STRAND_OK;
}

strand_status zip_open(arena *a, const uint8_t *data, uint64_t size, const char *path, zip *out, error *e) {
    zip z = {.data = data, .size = size, .path = path};
    directory d = {0};
    strand_status status = read_end(&z, &d, e);
    if (!status) status = read_entries(a, &z, &d, e);
    if (!status) *out = z;
    return status;
}

const zip_entry *zip_find(const zip *z, const char *name, size_t length) {
    size_t low = 0, high = z->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const zip_entry *x = z->by_name[middle];
        int order = compare_text(name, length, x->name, x->name_length);
        if (order == 0) return x;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

strand_status zip_check(const zip *z, const zip_entry *entry, error *e) {
    uint32_t table[256], crc = 0xFFFFFFFF;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xEDB88320 : 0);
        table[i] = c;
    }
    for (uint64_t i = 0; i < entry->size; i++) crc = table[(crc ^ entry->data[i]) & 255] ^ crc >> 8;
    if (~crc == entry->crc) return STRAND_OK;
    return bad_entry(z, entry, "its bytes do not match its checksum; the file is damaged, fetch it again", e);
}

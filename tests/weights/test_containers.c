/* test_containers.c - the ZIP and legacy containers of torch.save: what opens, with which tensors, and what is refused. */
#include "check.h"

static void check_small(const weights *w) {
    static const float values[6] = {0, 1, 2, 3, 4, 5}, turned[6] = {0, 3, 1, 4, 2, 5};
    static const int64_t integer = -7;
    assert_int_equal(weights_count(w), 3);
    check_tensor(w, "w", STRAND_F32, 2, (const int64_t[]){2, 3}, values, sizeof values);
    check_tensor(w, "t", STRAND_F32, 2, (const int64_t[]){3, 2}, turned, sizeof turned);
    check_tensor(w, "i", STRAND_I64, 0, NULL, &integer, sizeof integer);
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal((uintptr_t)weights_at(w, i)->data % (weights_at(w, i)->dtype == STRAND_I64 ? 8 : 4), 0);
}

static void open_small(const buffer *b, const char *format) {
    weights *w = NULL;
    error e = {0};
    void *copy;
    if (open_exact(NULL, b->data, b->size, &copy, &w, &e)) fail_msg("%s", e.text);
    assert_string_equal(weights_format(w), format);
    check_small(w);
    weights_close(w);
    free(copy);
}

static void small_pickle(buffer *b, int protocol) {
    pickle_begin(b, protocol);
    pickle_state(b, small_state, 3);
    put_text(b, ".");
}

static void test_good_zip(void **state) {
    (void)state;
    for (int protocol = 2; protocol <= 5; protocol++) {
        for (unsigned how = 0; how < 8; how++) {
            buffer pickle = {0}, b = {0};
            small_pickle(&pickle, protocol);
            put_torch_zip(&b, &pickle, how & 3, how & 4);
            open_small(&b, "pytorch-zip");
            buffer_free(&b);
            buffer_free(&pickle);
        }
    }
}

/* Any folder, or none; a comment at the end; entries of no interest. */
static void test_zip_names(void **state) {
    (void)state;
    static const char *const folders[] = {"", "x/", "best.pth/", "data/"};
    for (size_t i = 0; i < 4; i++) {
        zip_writer z = {0};
        buffer pickle = {0};
        char name[64];
        small_pickle(&pickle, 2);
        snprintf(name, sizeof name, "%sdata.pkl", folders[i]);
        zip_add(&z, name, pickle.data, pickle.size, 0);
        snprintf(name, sizeof name, "%sdata/1", folders[i]);
        zip_add(&z, name, "\xf9\xff\xff\xff\xff\xff\xff\xff", 8, 0);
        snprintf(name, sizeof name, "%sdata/0", folders[i]);
        zip_add(&z, name, (const float[]){0, 1, 2, 3, 4, 5}, 24, 0);
        zip_add(&z, "other/deeper/data.pkl", "", 0, 0);
        zip_add(&z, "x/metadata.pkl", "", 0, 0);
        zip_end(&z, false);
        poke_int(&z.file, z.file.size - 2, 300, 2); /* the comment's length */
        put_fill(&z.file, 'c', 300);
        open_small(&z.file, "pytorch-zip");
        zip_free(&z);
        buffer_free(&pickle);
    }
}

/* ---- bad ZIP files --------------------------------------------------------------------------------------------------- */

/* Offsets in the file that put_torch_zip(how = 0, zip64) makes. */
typedef struct places {
    size_t local1, central, central1, end, end64, locator;
} places;

static size_t find(const buffer *b, uint32_t signature, int nth) {
    for (size_t i = 0; i + 4 <= b->size; i++) {
        uint32_t at;
        memcpy(&at, b->data + i, 4);
        if (at == signature && nth-- == 0) return i;
    }
    fail_msg("no record %x", signature);
    return 0;
}

static buffer make_zip(places *at) {
    buffer pickle = {0}, b = {0};
    small_pickle(&pickle, 2);
    put_torch_zip(&b, &pickle, 0, true);
    buffer_free(&pickle);
    at->local1 = find(&b, 0x04034b50, 1);
    at->central = find(&b, 0x02014b50, 0);
    at->central1 = find(&b, 0x02014b50, 1);
    at->end64 = find(&b, 0x06064b50, 0);
    at->locator = find(&b, 0x07064b50, 0);
    at->end = find(&b, 0x06054b50, 0);
    return b;
}

enum { LOCAL0, LOCAL1, CENTRAL0, CENTRAL1, END64, LOCATOR, END };

static void test_bad_zip_fields(void **state) {
    (void)state;
    static const struct {
        int record;
        size_t field;
        uint64_t value;
        int bytes;
        strand_status status;
        const char *says;
    } rows[] = {
        {LOCAL0, 0, 0x04034b51, 4, STRAND_ERR_FORMAT, "not a weights file"},
        {LOCAL1, 0, 0x04034b51, 4, STRAND_ERR_FORMAT, "ZIP entry archive/byteorder: there is no local header"},
        {LOCAL1, 6, 1, 2, STRAND_ERR_FORMAT, "disagree"},
        {LOCAL1, 8, 8, 2, STRAND_ERR_FORMAT, "disagree"},
        {LOCAL1, 14, 1, 4, STRAND_ERR_FORMAT, "disagree"},
        {LOCAL1, 18, 1, 4, STRAND_ERR_FORMAT, "disagree"},
        {LOCAL1, 22, 0, 4, STRAND_ERR_FORMAT, "disagree"},
        {LOCAL1, 22, 0xFFFFFFFF, 4, STRAND_ERR_FORMAT, "local ZIP64 sizes"},
        {LOCAL1, 26, 4, 2, STRAND_ERR_FORMAT, "another name"},
        {LOCAL1, 30, 'A', 1, STRAND_ERR_FORMAT, "another name"},
        {LOCAL1, 28, 65535, 2, STRAND_ERR_FORMAT, "outside the file"},
        {CENTRAL0, 0, 0x02014b51, 4, STRAND_ERR_FORMAT, "no directory entry"},
        {CENTRAL0, 8, 1, 2, STRAND_ERR_FORMAT, "encrypted"},
        {CENTRAL0, 8, 8, 2, STRAND_ERR_FORMAT, "disagree"},
        {CENTRAL0, 10, 8, 2, STRAND_ERR_UNSUPPORTED, "ZIP entry archive/data.pkl is compressed"},
        {CENTRAL0, 10, 99, 2, STRAND_ERR_UNSUPPORTED, "is compressed"},
        {CENTRAL0, 16, 1, 4, STRAND_ERR_FORMAT, "disagree"},
        {CENTRAL0, 20, 1, 4, STRAND_ERR_FORMAT, "two different sizes"},
        {CENTRAL0, 24, 1, 4, STRAND_ERR_FORMAT, "two different sizes"},
        {CENTRAL0, 24, 0xFFFFFFFF, 4, STRAND_ERR_FORMAT, "ZIP64 sizes are missing"},
        {CENTRAL0, 28, 0, 2, STRAND_ERR_FORMAT, "name is empty"},
        {CENTRAL0, 28, 65535, 2, STRAND_ERR_FORMAT, "past the directory"},
        {CENTRAL0, 30, 65535, 2, STRAND_ERR_FORMAT, "past the directory"},
        {CENTRAL0, 32, 1, 2, STRAND_ERR_FORMAT, "no directory entry"},
        {CENTRAL0, 42, 0xFFFFFFFE, 4, STRAND_ERR_FORMAT, "its local header is outside the file"},
        {CENTRAL0, 42, 0xFFFFFFFF, 4, STRAND_ERR_FORMAT, "ZIP64 sizes are missing"},
        {CENTRAL0, 46, 0, 1, STRAND_ERR_FORMAT, "holds a zero byte"},
        {CENTRAL1, 42, 0, 4, STRAND_ERR_FORMAT, "ZIP entry archive/byteorder: it overlaps"},
        {CENTRAL1, 42, 40, 4, STRAND_ERR_FORMAT, "ZIP entry archive/byteorder: it overlaps"},
        {END64, 0, 0, 4, STRAND_ERR_FORMAT, "not where its locator points"},
        {END64, 4, 43, 8, STRAND_ERR_FORMAT, "wrong size"},
        {END64, 4, UINT64_MAX, 8, STRAND_ERR_FORMAT, "wrong size"},
        {END64, 16, 1, 4, STRAND_ERR_FORMAT, "several disks"},
        {END64, 24, 4, 8, STRAND_ERR_FORMAT, "disagree"},
        {END64, 32, 4, 8, STRAND_ERR_FORMAT, "disagree"},
        {END64, 40, 1, 8, STRAND_ERR_FORMAT, "disagree"},
        {END64, 48, 0, 8, STRAND_ERR_FORMAT, "does not end where"},
        {END64, 48, UINT64_MAX, 8, STRAND_ERR_FORMAT, "does not end where"},
        {LOCATOR, 8, 0, 8, STRAND_ERR_FORMAT, "not where its locator points"},
        {LOCATOR, 8, UINT64_MAX, 8, STRAND_ERR_FORMAT, "not where its locator points"},
        {LOCATOR, 4, 1, 4, STRAND_ERR_FORMAT, "several disks"},
        {LOCATOR, 16, 2, 4, STRAND_ERR_FORMAT, "several disks"},
        {LOCATOR, 0, 0, 4, STRAND_ERR_FORMAT, "does not end where"},
        {END, 0, 0, 4, STRAND_ERR_FORMAT, "without its end record"},
        {END, 4, 1, 2, STRAND_ERR_FORMAT, "several disks"},
        {END, 8, 4, 2, STRAND_ERR_FORMAT, "two numbers of entries"},
        {END, 12, 7, 4, STRAND_ERR_FORMAT, "disagree"},
        {END, 16, 7, 4, STRAND_ERR_FORMAT, "disagree"},
        {END, 20, 1, 2, STRAND_ERR_FORMAT, "without its end record"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        places at;
        buffer b = make_zip(&at);
        size_t records[] = {0, at.local1, at.central, at.central1, at.end64, at.locator, at.end};
        poke_int(&b, records[rows[i].record] + rows[i].field, rows[i].value, rows[i].bytes);
        char label[64];
        snprintf(label, sizeof label, "zip row %zu (%s)", i, rows[i].says);
        check_refused(label, b.data, b.size, rows[i].status, rows[i].says);
        buffer_free(&b);
    }
    print_message("%zu bad ZIP fields refused\n", sizeof rows / sizeof rows[0]);
}

/* Sizes and offset in ZIP64 extra fields, as in files beyond 4 GiB. */
static void test_zip64_fields(void **state) {
    (void)state;
    buffer pickle = {0}, b = {0};
    small_pickle(&pickle, 2);
    put_torch_zip(&b, &pickle, ZIP_LARGE, true);
    open_small(&b, "pytorch-zip");
    size_t central = find(&b, 0x02014b50, 1), extra = central + 46 + strlen("archive/byteorder") + 5;
    size_t local = find(&b, 0x04034b50, 1) + 30 + strlen("archive/byteorder");
    static const struct {
        int local;
        size_t field;
        uint64_t value;
        int bytes;
        const char *says;
    } rows[] = {
        {0, 2, 23, 2, "ZIP64 sizes are missing or cut"},
        {0, 2, 25, 2, "ZIP64 sizes are missing or cut"},
        {0, 0, 2, 2, "ZIP64 sizes are missing or cut"},
        {0, 4, 7, 8, "two different sizes"},
        {0, 12, 7, 8, "two different sizes"},
        {0, 20, 0, 8, "overlaps"},
        {0, 20, UINT64_MAX, 8, "outside the file"},
        {0, 20, 5, 8, "overlaps"},
        {1, 2, 8, 2, "local ZIP64 sizes are missing"},
        {1, 2, 17, 2, "local ZIP64 sizes are missing"},
        {1, 0, 7, 2, "local ZIP64 sizes are missing"},
        {1, 4, 7, 8, "disagree"},
        {1, 12, UINT64_MAX, 8, "disagree"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer copy = {0};
        put_buffer(&copy, &b);
        poke_int(&copy, (rows[i].local ? local : extra) + rows[i].field, rows[i].value, rows[i].bytes);
        char label[64];
        snprintf(label, sizeof label, "zip64 row %zu", i);
        check_refused(label, copy.data, copy.size, STRAND_ERR_FORMAT, rows[i].says);
        buffer_free(&copy);
    }
    poke_int(&b, extra + 4, UINT64_MAX, 8), poke_int(&b, extra + 12, UINT64_MAX, 8);
    check_refused("2^64 - 1 bytes", b.data, b.size, STRAND_ERR_FORMAT, "its data is outside the file");
    buffer_free(&b);
    buffer_free(&pickle);
}

/* Changes that more than one field makes. */
static void test_bad_zip(void **state) {
    (void)state;
    places at;
    buffer b = make_zip(&at);
    poke_int(&b, 40 + 20, 0xEE, 1); /* in the pickle */
    check_refused("wrong checksum", b.data, b.size, STRAND_ERR_FORMAT, "archive/data.pkl: its bytes do not match its checksum");
    buffer_free(&b);
    b = make_zip(&at);
    poke_int(&b, at.central + 8, 1, 2), poke_int(&b, 6, 1, 2);
    check_refused("encrypted", b.data, b.size, STRAND_ERR_FORMAT, "encrypted");
    poke_int(&b, at.central + 8, 0, 2), poke_int(&b, 6, 0, 2);
    poke_int(&b, at.end64 + 24, 6, 8), poke_int(&b, at.end64 + 32, 6, 8), poke_int(&b, at.end + 8, 6, 2),
        poke_int(&b, at.end + 10, 6, 2);
    check_refused("an entry too many", b.data, b.size, STRAND_ERR_FORMAT, "no directory entry");
    poke_int(&b, at.end64 + 24, 4, 8), poke_int(&b, at.end64 + 32, 4, 8), poke_int(&b, at.end + 8, 4, 2),
        poke_int(&b, at.end + 10, 4, 2);
    check_refused("an entry too few", b.data, b.size, STRAND_ERR_FORMAT, "longer than its entries");
    uint64_t many = (uint64_t)1 << 60;
    poke_int(&b, at.end64 + 24, many, 8), poke_int(&b, at.end64 + 32, many, 8), poke_int(&b, at.end + 8, 0xFFFF, 2),
        poke_int(&b, at.end + 10, 0xFFFF, 2);
    check_refused("2^60 entries", b.data, b.size, STRAND_ERR_FORMAT, "more entries than");
    buffer_free(&b);
    b = (buffer){0};
    put_text(&b, "PK\3\4");
    put_small_zip(&b); /* what stands before moves every offset */
    check_refused("a prefix", b.data, b.size, STRAND_ERR_FORMAT, "ZIP");
    buffer_free(&b);
    check_refused("only magic", "PK\3\4", 4, STRAND_ERR_FORMAT, "without its end record");
    check_refused("an empty zip", "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, STRAND_ERR_FORMAT, "without data.pkl");
}

static void check_zip(const char *what, const char *const names[], strand_status status, const char *says) {
    zip_writer z = {0};
    buffer pickle = {0};
    small_pickle(&pickle, 2);
    for (int i = 0; names[i]; i++) {
        bool pkl = strstr(names[i], "data.pkl"), zero = strstr(names[i], "data/0");
        if (pkl)
            zip_add(&z, names[i], pickle.data, pickle.size, 0);
        else if (zero)
            zip_add(&z, names[i], (const float[]){0, 1, 2, 3, 4, 5}, 24, 0);
        else
            zip_add(&z, names[i], "BIGENDIA", 8, 0);
    }
    zip_end(&z, false);
    check_refused(what, z.file.data, z.file.size, status, says);
    zip_free(&z);
    buffer_free(&pickle);
}

static void test_bad_zip_contents(void **state) {
    (void)state;
    check_zip("no pickle", (const char *const[]){"a/data/0", "a/data/1", NULL}, STRAND_ERR_FORMAT, "without data.pkl");
    check_zip("two pickles", (const char *const[]){"a/data.pkl", "b/data.pkl", NULL}, STRAND_ERR_FORMAT,
              "two entries are named data.pkl");
    check_zip("the same twice", (const char *const[]){"a/data.pkl", "a/data/0", "a/data/0", "a/data/1", NULL},
              STRAND_ERR_FORMAT, "two entries have this name");
    check_zip("no storage", (const char *const[]){"a/data.pkl", "a/data/1", NULL}, STRAND_ERR_FORMAT,
              "storage 0: the file has no such entry");
    check_zip("another folder", (const char *const[]){"a/data.pkl", "b/data/0", "a/data/1", NULL}, STRAND_ERR_FORMAT,
              "storage 0: the file has no such entry");
    check_zip("a storage's length",
              (const char *const[]){"a/data.pkl", "a/data/00", "a/data/0", "a/data/1x", "a/data/1", "a/byteorder", NULL},
              STRAND_ERR_UNSUPPORTED, "byte order");
    zip_writer z = {0};
    buffer pickle = {0};
    small_pickle(&pickle, 2);
    put_text(&pickle, "N.");
    zip_add(&z, "a/data.pkl", pickle.data, pickle.size, 0);
    zip_end(&z, false);
    check_refused("two pickles in one", z.file.data, z.file.size, STRAND_ERR_FORMAT, "bytes after the end of the pickle");
    zip_free(&z);
    pickle.size -= 2;
    zip_add(&z, "a/data.pkl", pickle.data, pickle.size, 0);
    zip_add(&z, "a/data/0", "", 0, 0);
    zip_add(&z, "a/data/1", "", 0, 0);
    zip_end(&z, false);
    check_refused("empty storages", z.file.data, z.file.size, STRAND_ERR_FORMAT,
                  "storage 0: 6 elements of 4 bytes are said to be in 0 bytes");
    zip_free(&z);
    buffer_free(&pickle);
}

/* ---- legacy ---------------------------------------------------------------------------------------------------------- */

static void test_good_legacy(void **state) {
    (void)state;
    buffer object = {0};
    for (int pad = 0; pad < 8; pad++) { /* the data at every alignment */
        buffer b = {0};
        object.size = 0;
        put_fill(&object, 0x95, 1); /* a frame, to make the pickle longer by any number of bytes */
        put_int(&object, 0, 8);
        put_text(&object, "U");
        put_int(&object, (uint64_t)pad, 1);
        put_fill(&object, 'p', (size_t)pad);
        put_text(&object, "0");
        pickle_state(&object, small_state, 3);
        put_torch_legacy(&b, &object, true);
        open_small(&b, "pytorch-legacy");
        buffer_free(&b);
    }
    buffer_free(&object);
}

/* ('storage', type, key, location, numel, (view key, offset, view numel)) */
static void put_view(buffer *b, int64_t offset, int64_t numel) {
    put_text(b, "}(");
    pickle_text(b, "i");
    pickle_tensor_value(b, &small_state[2]);
    pickle_text(b, "v");
    pickle_global_name(b, "torch._utils", "_rebuild_tensor");
    put_text(b, "((");
    pickle_text(b, "storage");
    pickle_global_name(b, "torch", "FloatStorage");
    pickle_text(b, "0");
    pickle_text(b, "cpu");
    pickle_int(b, 6);
    put_text(b, "(");
    pickle_text(b, "view");
    pickle_int(b, offset);
    pickle_int(b, numel);
    put_text(b, "ttQ");
    pickle_int(b, 1);
    pickle_ints(b, (const int64_t[]){3}, 1);
    pickle_ints(b, (const int64_t[]){1}, 1);
    put_text(b, "tRu");
}

static void test_legacy_views(void **state) {
    (void)state;
    buffer object = {0}, b = {0};
    weights *w = NULL;
    void *copy;
    put_view(&object, 2, 4);
    put_torch_legacy(&b, &object, true);
    assert_int_equal(open_exact(NULL, b.data, b.size, &copy, &w, NULL), STRAND_OK);
    check_tensor(w, "v", STRAND_F32, 1, (const int64_t[]){3}, (const float[]){3, 4, 5}, 12);
    weights_close(w);
    free(copy);
    static const struct {
        int64_t offset, numel;
        const char *says;
    } rows[] = {{2, 3, "outside of its storage"},
                {2, 5, "view is outside"},
                {7, 0, "view is outside"},
                {-1, 4, "view is outside"},
                {INT64_MAX, 1, "view is outside"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        object.size = b.size = 0;
        put_view(&object, rows[i].offset, rows[i].numel);
        put_torch_legacy(&b, &object, true);
        check_refused("a view", b.data, b.size, STRAND_ERR_FORMAT, rows[i].says);
    }
    buffer_free(&b);
    buffer_free(&object);
}

static void test_bad_legacy(void **state) {
    (void)state;
    buffer b = {0};
    put_small_legacy(&b);
    size_t tail = b.size - (8 + 8 + 8 + 24); /* numel and data of storages 1 and 0 */
    static const struct {
        size_t back; /* from the tail, or from the start where `start` */
        bool start;
        int value, bytes;
        strand_status status;
        const char *says;
    } rows[] = {
        {0, false, 2, 1, STRAND_ERR_FORMAT, "storage 1: its number of elements"},
        {7, false, 0x80, 1, STRAND_ERR_FORMAT, "storage 1: its number of elements"},
        {16, false, 7, 1, STRAND_ERR_FORMAT, "storage 0: its number of elements"},
        {18, true, 0, 1, STRAND_ERR_UNSUPPORTED, "protocol other than 1001"},
        {14, true, 'N', 1, STRAND_ERR_UNSUPPORTED, "a pickle that torch.save did not write"},
        {15, true, 'N', 1, STRAND_ERR_FORMAT, "no pickle of protocol 2 to 5 begins here"},
        {42, true, 0x89, 1, STRAND_ERR_UNSUPPORTED, "little-endian"},
        {30, true, 'b', 1, STRAND_ERR_UNSUPPORTED, "little-endian"},
        {23, true, ']', 1, STRAND_ERR_FORMAT, "not a list or dict"},
        {44, true, 'N', 1, STRAND_ERR_FORMAT, "pickle, byte"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t at = rows[i].start ? rows[i].back : tail + rows[i].back;
        uint8_t was = b.data[at];
        b.data[at] = (uint8_t)rows[i].value;
        char label[32];
        snprintf(label, sizeof label, "legacy row %zu", i);
        check_refused(label, b.data, b.size, rows[i].status, rows[i].says);
        b.data[at] = was;
    }
    open_small(&b, "pytorch-legacy");
    /* The list of keys: "1" and "0", each X + length + text, then "e." */
    size_t key1 = tail - 2 - 6 - 1, key0 = tail - 2 - 1;
    assert_int_equal(b.data[key1], '1');
    assert_int_equal(b.data[key0], '0');
    b.data[key0] = '1';
    check_refused("a key twice", b.data, b.size, STRAND_ERR_FORMAT, "storage 1: it is in the list of storages twice");
    b.data[key0] = '2';
    check_refused("a key unknown", b.data, b.size, STRAND_ERR_FORMAT, "a storage that the object does not mention");
    b.data[key0] = '0';
    b.data[tail - 2 - 6] = '0'; /* POP in the place of the second key's X: nothing but a broken list */
    check_refused("a broken list", b.data, b.size, STRAND_ERR_FORMAT, "pickle, byte");
    b.data[tail - 2 - 6] = 'X';
    put_int(&b, 0, 1);
    check_refused("a byte more", b.data, b.size, STRAND_ERR_FORMAT, "data after the last storage");
    buffer_free(&b);
}

/* ---- both ------------------------------------------------------------------------------------------------------------ */

static void test_truncated(void **state) {
    (void)state;
    for (int legacy = 0; legacy < 2; legacy++) {
        buffer b = {0};
        if (legacy)
            put_small_legacy(&b);
        else
            put_small_zip(&b);
        for (size_t n = 0; n < b.size; n++) {
            weights *w = NULL;
            void *copy;
            error e = {0};
            assert_int_not_equal(open_exact(NULL, b.data, n, &copy, &w, &e), STRAND_OK);
            assert_true(e.text[0]);
            free(copy);
        }
        buffer_free(&b);
    }
}

/* Every byte changed to many values: opens or is refused, and what opens is readable. */
static void test_mutated(void **state) {
    (void)state;
    for (int legacy = 0; legacy < 2; legacy++) {
        buffer b = {0};
        if (legacy)
            put_small_legacy(&b);
        else
            put_small_zip(&b);
        for (size_t at = 0; at < b.size; at++) {
            uint8_t was = b.data[at];
            for (int value = 0; value < 256; value += 5) {
                weights *w = NULL;
                b.data[at] = (uint8_t)value;
                if (weights_open_bytes(NULL, b.data, b.size, "m", &w, NULL) != STRAND_OK) continue;
                for (int64_t i = 0; i < weights_count(w); i++) {
                    const weights_tensor *t = weights_at(w, i);
                    volatile uint8_t sum = 0;
                    for (uint64_t j = 0; j < t->bytes; j++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[j]);
                }
                weights_close(w);
            }
            b.data[at] = was;
        }
        buffer_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_zip),     cmocka_unit_test(test_zip_names),    cmocka_unit_test(test_bad_zip_fields),
        cmocka_unit_test(test_zip64_fields), cmocka_unit_test(test_bad_zip),      cmocka_unit_test(test_bad_zip_contents),
        cmocka_unit_test(test_good_legacy),  cmocka_unit_test(test_legacy_views), cmocka_unit_test(test_bad_legacy),
        cmocka_unit_test(test_truncated),    cmocka_unit_test(test_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

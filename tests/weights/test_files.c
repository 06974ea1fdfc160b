/* test_files.c - files and directories: which file is taken, shards, what may not be opened, and a failing allocator. */
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a directory of its own for each test ---------------------------------------------------------------------------- */

static char base[64];

static int make_base(void **state) {
    (void)state;
    snprintf(base, sizeof base, "/tmp/strand-weights-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    return system(command);
}

static const char *path(const char *name) {
    static char paths[4][256];
    static int next;
    char *out = paths[next++ % 4];
    snprintf(out, sizeof paths[0], "%s%s%s", base, name[0] ? "/" : "", name);
    return out;
}

static void write_file(const char *name, const void *data, size_t size) {
    FILE *f = fopen(path(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* A safetensors file with one tensor of that name. */
static void write_tensor(const char *name, const char *tensor) {
    char header[256];
    buffer b = {0};
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", tensor);
    put_safetensors(&b, header, 2);
    write_file(name, b.data, b.size);
    buffer_free(&b);
}

static void write_index(const char *name, const char *json) {
    write_file(name, json, strlen(json));
}

static void check_open(const char *name, const char *config, const char *chosen, const char *tensor) {
    weights *w = NULL;
    error e = {0};
    if (weights_open(NULL, path(name), config, &w, &e)) fail_msg("%s: %s", name, e.text);
    assert_string_equal(weights_path(w), path(chosen));
    assert_non_null(weights_find(w, tensor));
    weights_close(w);
}

static void check_fails(const char *name, const char *config, strand_status status, const char *says) {
    weights *w = NULL;
    error e = {0};
    strand_status got = weights_open(NULL, path(name), config, &w, &e);
    if (got != status || !strstr(e.text, says))
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", name, got, e.text, status, says);
    assert_null(w);
}

/* ---- one file -------------------------------------------------------------------------------------------------------- */

static void test_single(void **state) {
    (void)state;
    write_tensor("a.bin", "x"); /* the name says nothing */
    check_open("a.bin", NULL, "a.bin", "x");
    assert_int_equal(symlink("a.bin", path("link")), 0);
    check_open("link", NULL, "link", "x"); /* what the user names may be a link */
    assert_int_equal(chdir(base), 0);
    weights *w = NULL;
    assert_int_equal(weights_open(NULL, "a.bin", NULL, &w, NULL), STRAND_OK);
    assert_int_equal(weights_mapped_bytes(w), 8 + 53 + 2);
    const char *sum = weights_sha256(w);
    assert_int_equal(strlen(sum), 64);
    assert_ptr_equal(sum, weights_sha256(w));
    weights_close(w);
    weights_close(NULL);
    assert_int_equal(chdir("/"), 0);
}

static void test_refused_files(void **state) {
    (void)state;
    check_fails("none", NULL, STRAND_ERR_IO, "none: no such file");
    check_fails("none/x", NULL, STRAND_ERR_IO, "no such file");
    write_file("empty", "", 0);
    check_fails("empty", NULL, STRAND_ERR_FORMAT, "the file is empty");
    assert_int_equal(mkfifo(path("pipe"), 0600), 0);
    check_fails("pipe", NULL, STRAND_ERR_IO, "pipe: not a regular file"); /* and does not wait for a writer */
    weights *w = NULL;
    error e = {0};
    assert_int_equal(weights_open(NULL, "/dev/zero", NULL, &w, &e), STRAND_ERR_IO);
    assert_non_null(strstr(e.text, "/dev/zero: not a regular file"));
    assert_int_equal(weights_open(NULL, "", NULL, &w, &e), STRAND_ERR_IO);
    if (geteuid() != 0) {
        write_tensor("secret", "x");
        assert_int_equal(chmod(path("secret"), 0), 0);
        check_fails("secret", NULL, STRAND_ERR_IO, "cannot be opened");
    }
}

static void test_foreign_files(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        strand_status status;
        const char *says;
    } rows[] = {
        {"GGUF\3\0\0\0\0\0\0\0", 12, STRAND_ERR_FORMAT, "the file ends at byte 12, inside its header"},
        {"GGUF\3\0\0\0{}", 10, STRAND_ERR_FORMAT, "cut short"},
        {"\x1f\x8b\x08\0\0\0\0\0{}", 10, STRAND_ERR_UNSUPPORTED, "gzip; unpack it first"},
        {"BZh91AY&SY", 10, STRAND_ERR_UNSUPPORTED, "unpack it first"},
        {"\xfd"
         "7zXZ\0",
         6, STRAND_ERR_UNSUPPORTED, "unpack it first"},
        {"\x28\xb5\x2f\xfd", 4, STRAND_ERR_UNSUPPORTED, "unpack it first"},
        {"\x89HDF\r\n\x1a\n", 8, STRAND_ERR_UNSUPPORTED, "HDF5"},
        {"\x93NUMPY\1\0", 8, STRAND_ERR_UNSUPPORTED, "NumPy"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, STRAND_ERR_UNSUPPORTED, "git lfs pull"},
        {"lmgg\1\0\0\0", 8, STRAND_ERR_UNSUPPORTED, "ggml"},
        {"\x80\2]q\0.", 6, STRAND_ERR_UNSUPPORTED, "a pickle that torch.save did not write"},
        {"hello, world", 12, STRAND_ERR_FORMAT, "not a weights file of a known format"},
        {"[1, 2]", 6, STRAND_ERR_FORMAT, "not a weights file of a known format"},
        {"{\"a\": 1}", 8, STRAND_ERR_FORMAT, "JSON without a \"weight_map\""},
        {"x", 1, STRAND_ERR_FORMAT, "not a weights file of a known format"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file("f", rows[i].bytes, rows[i].n);
        check_fails("f", NULL, rows[i].status, rows[i].says);
    }
    /* A '{' at byte 8 does not make a safetensors file of an index. */
    write_index("f", "{\"abcd\":{},\"weight_map\":{\"x\":\"gone\"}}");
    check_fails("f", NULL, STRAND_ERR_IO, "gone: cannot be opened");
}

/* ---- directories ----------------------------------------------------------------------------------------------------- */

/* From the last rank to the first: each that is added takes over. */
static void test_order(void **state) {
    (void)state;
    check_fails("", NULL, STRAND_ERR_IO,
                "no weights file; looked for *.index.json, model.safetensors, pytorch_model.bin, model.{pt,pth}, "
                "weights.{ckpt,pth}, last.ckpt, best.pth.tar, params.safetensors, *.gguf and the \"weights\" of config.json");
    write_tensor("mine.bin", "mine");
    write_tensor("other.safetensors", "other"); /* no name that is looked for */
    write_index("config.json", "{\"weights\": \"mine.bin\"}");
    check_open("", NULL, "mine.bin", "mine");
    static const char *const names[] = {"x.gguf",      "params.safetensors", "best.pth.tar",      "last.ckpt",
                                        "weights.pth", "model.pth",          "pytorch_model.bin", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        write_tensor(names[i], names[i]);
        check_open("", NULL, names[i], names[i]);
    }
    write_index("a.index.json", "{\"weight_map\": {\"mine\": \"mine.bin\"}}");
    check_open("", NULL, "a.index.json", "mine");
}

static void test_two_of_a_rank(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"model.pt", "model.pth"}, {"weights.ckpt", "weights.pth"}, {"a.gguf", "b.gguf"}, {"a.index.json", "b.index.json"}};
    for (size_t i = 0; i < 4; i++) {
        char says[80];
        snprintf(says, sizeof says, "holds both %s and %s", pairs[i][0], pairs[i][1]);
        write_tensor(pairs[i][1], "x");
        write_tensor(pairs[i][0], "x");
        check_fails("", NULL, STRAND_ERR_FORMAT, says);
        unlink(path(pairs[i][0]));
        unlink(path(pairs[i][1]));
    }
    write_tensor("model.safetensors", "x"); /* a better rank settles it */
    write_tensor("model.pt", "y");
    write_tensor("model.pth", "y");
    check_open("", NULL, "model.safetensors", "x");
}

static void test_config(void **state) {
    (void)state;
    static const char *const bad[] = {"../x", "/etc/passwd", "a/b", "a\\\\b", "..", ".", "", "x\\u0000y"};
    char config[128];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(config, sizeof config, "{\"weights\": \"%s\"}", bad[i]);
        write_index("config.json", config);
        check_fails("", NULL, STRAND_ERR_FORMAT, "not the plain name of a file");
    }
    write_index("config.json", "{\"weights\": \"gone.bin\"}");
    check_fails("", NULL, STRAND_ERR_IO, "gone.bin: cannot be opened");
    write_index("config.json", "{\"weights\": 5}");
    check_fails("", NULL, STRAND_ERR_IO, "no weights file");
    write_index("config.json", "{\"weights\":");
    check_fails("", NULL, STRAND_ERR_FORMAT, "config.json:1:12:");
    write_tensor("real.bin", "x");
    assert_int_equal(symlink("real.bin", path("link.bin")), 0);
    write_index("config.json", "{\"weights\": \"link.bin\"}");
    check_fails("", NULL, STRAND_ERR_IO, "a symbolic link");
    write_index("else.json", "{\"weights\": \"real.bin\"}");
    check_open("", path("else.json"), "real.bin", "x"); /* the caller's config, not the directory's */
    check_fails("", path("nowhere.json"), STRAND_ERR_IO, "nowhere.json: cannot be opened");
}

/* ---- shards ---------------------------------------------------------------------------------------------------------- */

static void test_shards(void **state) {
    (void)state;
    write_tensor("b.bin", "x");
    write_tensor("a.bin", "y");
    write_index("m.index.json", "{\"metadata\": {\"total_size\": 4}, \"weight_map\": {\"x\": \"b.bin\", \"y\": \"a.bin\"}}");
    weights *w = NULL;
    assert_int_equal(weights_open(NULL, path("m.index.json"), NULL, &w, NULL), STRAND_OK);
    assert_int_equal(weights_count(w), 2);
    assert_string_equal(weights_at(w, 0)->name, "x"); /* in the order of the index */
    assert_string_equal(weights_format(w), "sharded safetensors");
    assert_int_equal(weights_mapped_bytes(w), 2 * (8 + 53 + 2));
    char both[SHA256_HEX]; /* the sum runs over a.bin, then b.bin */
    snprintf(both, sizeof both, "%s", weights_sha256(w));
    weights_close(w);
    buffer b = {0};
    put_safetensors(&b, "{\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    put_safetensors(&b, "{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    sha256 s;
    char expected[SHA256_HEX];
    sha256_init(&s);
    sha256_update(&s, b.data, b.size);
    sha256_final_hex(&s, expected);
    assert_string_equal(both, expected);
    b.size = 0;
    put_small_zip(&b);
    write_file("c.bin", b.data, b.size);
    write_index("m.index.json", "{\"weight_map\": {\"w\": \"c.bin\", \"t\": \"c.bin\"}}");
    assert_int_equal(weights_open(NULL, path("m.index.json"), NULL, &w, NULL), STRAND_OK);
    assert_string_equal(weights_format(w), "sharded pytorch-zip");
    assert_int_equal(weights_count(w), 2);
    weights_close(w);
    write_index("m.index.json", "{\"weight_map\": {\"w\": \"c.bin\", \"x\": \"b.bin\"}}");
    assert_int_equal(weights_open(NULL, path("m.index.json"), NULL, &w, NULL), STRAND_OK);
    assert_string_equal(weights_format(w), "sharded");
    weights_close(w);
    buffer_free(&b);
}

static void test_bad_shards(void **state) {
    (void)state;
    write_tensor("a.bin", "x");
    assert_int_equal(symlink("a.bin", path("link.bin")), 0);
    assert_int_equal(mkdir(path("dir"), 0700), 0);
    write_index("i.json", "{\"weight_map\": {\"x\": \"a.bin\"}}");
    static const struct {
        const char *map;
        strand_status status;
        const char *says;
    } rows[] = {
        {"{\"x\": \"../a.bin\"}", STRAND_ERR_FORMAT, "weight_map x: ../a.bin is not a plain file name"},
        {"{\"x\": \"/etc/passwd\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": \"dir/a.bin\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": \"..\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": \".\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": \"\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": \"a.bin\\u0000\"}", STRAND_ERR_FORMAT, "not a plain file name"},
        {"{\"x\": 5}", STRAND_ERR_FORMAT, "the value is not a plain file name"},
        {"{}", STRAND_ERR_FORMAT, "its weight_map is empty"},
        {"[]", STRAND_ERR_FORMAT, "without a \"weight_map\""},
        {"{\"x\": \"a.bin\", \"x\": \"a.bin\"}", STRAND_ERR_FORMAT, "appears twice"},
        {"{\"x\": \"gone.bin\"}", STRAND_ERR_IO, "gone.bin: cannot be opened"},
        {"{\"x\": \"link.bin\"}", STRAND_ERR_IO, "link.bin: a symbolic link"},
        {"{\"x\": \"dir\"}", STRAND_ERR_IO, "dir: not a regular file"},
        {"{\"x\": \"i.json\"}", STRAND_ERR_FORMAT, "i.json: not a weights file"},
        {"{\"y\": \"a.bin\"}", STRAND_ERR_FORMAT, "tensor y is not in a.bin"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char json[160];
        snprintf(json, sizeof json, "{\"metadata\": {}, \"weight_map\": %s}", rows[i].map);
        write_index("m.index.json", json);
        check_fails("m.index.json", NULL, rows[i].status, rows[i].says);
    }
    buffer b = {0};
    put_text(&b, "{\"weight_map\": {\"t\": \"s\"");
    for (int i = 0; i < 4096; i++) {
        char row[64];
        snprintf(row, sizeof row, ", \"t%d\": \"s%d\"", i, i);
        put_text(&b, row);
    }
    put_text(&b, "}}");
    write_file("m.index.json", b.data, b.size);
    check_fails("m.index.json", NULL, STRAND_ERR_LIMIT, "4097 shards; at most 4096");
    buffer_free(&b);
    print_message("%zu bad indexes refused\n", sizeof rows / sizeof rows[0]);
}

/* ---- a failing allocator --------------------------------------------------------------------------------------------- */

/* Opens `name` with every allocation failing in turn, once and for good, until it opens. */
static void fail_each(const char *name) {
    for (int once = 0; once < 2; once++) {
        bool opened = false;
        long n = 1;
        for (; !opened; n++) {
            counter c = {.fail_at = n, .once = once};
            const strand_allocator allocator = {counter_alloc, counter_free, &c};
            weights *w = NULL;
            error e = {0};
            strand_status status = weights_open(&allocator, path(name), NULL, &w, &e);
            opened = status == STRAND_OK;
            if (status != STRAND_OK && (status != STRAND_ERR_MEMORY || w))
                fail_msg("%s, allocation %ld: %d %s", name, n, status, e.text);
            weights_close(w);
            if (c.live != 0) fail_msg("%s, allocation %ld: %ld blocks leaked", name, n, c.live);
            if (opened && c.calls >= n) fail_msg("%s: allocation %ld failed and it opened", name, n);
        }
        if (n < 3) fail_msg("%s: %ld allocations", name, n);
        print_message("%s: %ld allocations failed %s\n", name, n - 2, once ? "one by one" : "from there on");
    }
}

static void test_allocation_failures(void **state) {
    (void)state;
    buffer b = {0}, pickle = {0};
    /* Large enough that every growing array grows. */
    put_text(&b, "{");
    for (int i = 0; i < 300; i++) {
        char row[100];
        snprintf(row, sizeof row, "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i,
                 4 * i, 4 * i + 4);
        put_text(&b, row);
    }
    put_text(&b, ",\"__metadata__\":{\"a\":\"b\"}}");
    put_int(&b, 0, 1);
    buffer file = {0};
    put_safetensors(&file, (const char *)b.data, 1200);
    write_file("s", file.data, file.size);
    fail_each("s");
    pickle_begin(&pickle, 2);
    put_text(&pickle, "}(");
    for (int i = 0; i < 300; i++) {
        pickle_int(&pickle, i);
        pickle_tensor_value(&pickle, &small_state[i % 3]);
        put_text(&pickle, "r");
        put_int(&pickle, (uint64_t)i, 4);
    }
    put_text(&pickle, "u.");
    file.size = 0;
    put_torch_zip(&file, &pickle, 0, true);
    write_file("z", file.data, file.size);
    fail_each("z");
    b.size = file.size = 0;
    put_bytes(&b, pickle.data + 2, pickle.size - 3);
    put_torch_legacy(&file, &b, true);
    write_file("l", file.data, file.size);
    fail_each("l");
    assert_int_equal(mkdir(path("d"), 0700), 0);
    write_tensor("d/a.bin", "x");
    write_file("d/l", file.data, file.size);
    write_index("d/m.index.json", "{\"weight_map\": {\"x\": \"a.bin\", \"7\": \"l\"}}");
    fail_each("d");
    assert_int_equal(mkdir(path("c"), 0700), 0);
    write_tensor("c/a.bin", "x");
    write_index("c/config.json", "{\"weights\": \"a.bin\"}");
    fail_each("c");
    buffer_free(&b);
    buffer_free(&pickle);
    buffer_free(&file);
}

/* Held, a large file's bytes are where they were, and need the file no longer. */
static void held_files_may_be_cut(void **state) {
    (void)state;
    const int64_t n = 7 * 1024 * 1024 + 13;
    char header[128];
    buffer b = {0};
    weights *w = NULL;
    error e = {0};
    snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"U8\",\"shape\":[%lld],\"data_offsets\":[0,%lld]}}", (long long)n,
             (long long)n);
    put_safetensors(&b, header, (size_t)n);
    memset((char *)b.data + b.size - n, 0x5a, (size_t)n);
    write_file("large.safetensors", b.data, b.size);
    buffer_free(&b);
    if (weights_open(NULL, path("large.safetensors"), NULL, &w, &e)) fail_msg("%s", e.text);
    const weights_tensor *x = weights_find(w, "x");
    const unsigned char *at = x->data;
    assert_int_equal(weights_hold(w, &e), STRAND_OK);
    assert_int_equal(weights_hold(w, &e), STRAND_OK); /* again is no harm */
    assert_int_equal(truncate(path("large.safetensors"), 0), 0);
    assert_ptr_equal(x->data, at);
    for (int64_t i = 0; i < n; i++)
        if (at[i] != 0x5a) fail_msg("byte %lld", (long long)i);
    weights_close(w);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_base, remove_base)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_single), TEST(test_refused_files), TEST(test_foreign_files), TEST(test_order),
                                       TEST(test_two_of_a_rank), TEST(test_config), TEST(held_files_may_be_cut),
                                       TEST(test_shards), TEST(test_bad_shards), TEST(test_allocation_failures)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_safetensors.c - every rule of the format, from both sides. The files are made here. */
#include "check.h"

/* ---- good files ------------------------------------------------------------------------------------------------------ */

static const char small[] = "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"b\"},"
                            "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
                            "\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                            "\"e\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[32,32]},"
                            "\"c\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[32,35]}}";

static void test_good(void **state) {
    (void)state;
    buffer b = {0};
    weights *w = NULL;
    error e = {0};
    put_safetensors(&b, small, 35);
    const uint8_t *data = b.data + b.size - 35;
    assert_int_equal(weights_open_memory(NULL, b.data, b.size, "small", &w, &e), STRAND_OK);
    assert_int_equal(weights_count(w), 4);
    assert_string_equal(weights_format(w), "safetensors");
    assert_string_equal(weights_path(w), "small");
    assert_string_equal(weights_metadata(w, "format"), "pt");
    assert_string_equal(weights_metadata(w, "a"), "b");
    assert_null(weights_metadata(w, "b"));
    assert_int_equal(weights_mapped_bytes(w), b.size);
    assert_string_equal(weights_at(w, 0)->name, "a"); /* in the order of the data */
    assert_string_equal(weights_at(w, 1)->name, "b");
    assert_null(weights_at(w, 4));
    assert_null(weights_at(w, -1));
    assert_null(weights_find(w, "d"));
    check_tensor(w, "a", STRAND_I64, 0, NULL, data, 8);
    check_tensor(w, "b", STRAND_F32, 2, (const int64_t[]){2, 3}, data + 8, 24);
    check_tensor(w, "c", STRAND_BOOL, 1, (const int64_t[]){3}, data + 32, 3);
    check_tensor(w, "e", STRAND_F16, 2, (const int64_t[]){0, 7}, data + 32, 0);
    weights_close(w);
    buffer_free(&b);
}

static void test_dtypes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        strand_dtype dtype;
        int size;
    } rows[] = {{"F32", STRAND_F32, 4},  {"F16", STRAND_F16, 2}, {"BF16", STRAND_BF16, 2}, {"F64", STRAND_F64, 8},
                {"I8", STRAND_I8, 1},    {"U8", STRAND_U8, 1},   {"I16", STRAND_I16, 2},   {"U16", STRAND_U16, 2},
                {"I32", STRAND_I32, 4},  {"U32", STRAND_U32, 4}, {"I64", STRAND_I64, 8},   {"U64", STRAND_U64, 8},
                {"BOOL", STRAND_BOOL, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char header[128];
        buffer b = {0};
        weights *w = NULL;
        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[5],\"data_offsets\":[0,%d]}}", rows[i].name,
                 5 * rows[i].size);
        put_safetensors(&b, header, 5 * (size_t)rows[i].size);
        assert_int_equal(weights_open_memory(NULL, b.data, b.size, "x", &w, NULL), STRAND_OK);
        check_tensor(w, "x", rows[i].dtype, 1, (const int64_t[]){5}, b.data + b.size - 5 * rows[i].size,
                     5 * (size_t)rows[i].size);
        assert_int_equal((uintptr_t)weights_at(w, 0)->data % (uintptr_t)rows[i].size, 0);
        weights_close(w);
        buffer_free(&b);
    }
}

/* Wherever the data falls, a tensor is aligned to its elements; where it already was, it is not copied. */
static void test_alignment(void **state) {
    (void)state;
    int copies = 0;
    for (int pad = 0; pad < 8; pad++) {
        char header[128];
        buffer b = {0};
        weights *w = NULL;
        snprintf(header, sizeof header, "{\"x\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}%*s", pad, "");
        put_safetensors(&b, header, 16);
        assert_int_equal(weights_open_memory(NULL, b.data, b.size, "x", &w, NULL), STRAND_OK);
        const weights_tensor *t = weights_at(w, 0);
        assert_int_equal((uintptr_t)t->data % 8, 0);
        assert_memory_equal(t->data, b.data + b.size - 16, 16);
        copies += t->data != b.data + b.size - 16;
        weights_close(w);
        buffer_free(&b);
    }
    assert_int_equal(copies, 7);
}

/* ---- bad files ------------------------------------------------------------------------------------------------------- */

#define X(shape, offsets)      "{\"x\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define T(name, begin, end, n) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" n "],\"data_offsets\":[" begin "," end "]}"

static const struct {
    const char *header;
    size_t bytes;
    strand_status status;
    const char *says;
} bad_headers[] = {
    /* the buffer: holes, overlaps, ends */
    {"{" T("a", "0", "4", "4") "," T("b", "5", "8", "3") "}", 8, STRAND_ERR_FORMAT,
     "tensor b: its data begins at byte 5 of the buffer, leaving a hole after byte 4"},
    {"{" T("a", "0", "4", "4") "," T("b", "3", "8", "5") "}", 8, STRAND_ERR_FORMAT,
     "tensor b: its data begins at byte 3 of the buffer, overlapping"},
    {"{" T("a", "0", "4", "4") "," T("b", "0", "4", "4") "}", 4, STRAND_ERR_FORMAT, "overlapping"},
    {"{" T("a", "1", "4", "3") "}", 4, STRAND_ERR_FORMAT, "leaving a hole after byte 0"},
    {"{" T("a", "0", "4", "4") "}", 5, STRAND_ERR_FORMAT, "end at byte 4 of a buffer of 5"},
    {"{" T("a", "0", "4", "4") "}", 3, STRAND_ERR_FORMAT, "cut short"},
    {"{}", 1, STRAND_ERR_FORMAT, "end at byte 0 of a buffer of 1"},
    /* offsets */
    {X("[1]", "[4,0]"), 4, STRAND_ERR_FORMAT, "end before they begin"},
    {X("[1]", "[0,4,8]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[-4,0]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0,4.0]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0,4e0]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0,\"4\"]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "{\"a\":0,\"b\":4}"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0,18446744073709551615]"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    {X("[1]", "[0,9223372036854775807]"), 4, STRAND_ERR_FORMAT, "ends at byte 9223372036854775807 of a buffer of 4"},
    {X("[1]", "null"), 4, STRAND_ERR_FORMAT, "not two whole numbers"},
    /* shapes */
    {X("[2]", "[0,4]"), 4, STRAND_ERR_FORMAT, "need 8 bytes, data_offsets give 4"},
    {X("[]", "[0,8]"), 8, STRAND_ERR_FORMAT, "need 4 bytes, data_offsets give 8"},
    {X("[0]", "[0,4]"), 4, STRAND_ERR_FORMAT, "need 0 bytes"},
    {X("[-1]", "[0,4]"), 4, STRAND_ERR_FORMAT, "not a whole number"},
    {X("[1.0]", "[0,4]"), 4, STRAND_ERR_FORMAT, "not a whole number"},
    {X("[NaN]", "[0,4]"), 4, STRAND_ERR_FORMAT, "not a whole number"},
    {X("[null]", "[0,4]"), 4, STRAND_ERR_FORMAT, "not a whole number"},
    {X("1", "[0,4]"), 4, STRAND_ERR_FORMAT, "its shape is not an array"},
    {X("[4611686018427387905,4]", "[0,4]"), 4, STRAND_ERR_FORMAT, "product overflows"},
    {X("[4294967296,4294967296]", "[0,0]"), 0, STRAND_ERR_FORMAT, "product overflows"},
    {X("[0,4294967296,4294967296]", "[0,0]"), 0, STRAND_ERR_FORMAT, "product overflows"},
    {X("[9223372036854775807]", "[0,4]"), 4, STRAND_ERR_FORMAT, "product overflows"},
    {X("[2305843009213693952]", "[0,0]"), 0, STRAND_ERR_FORMAT, "product overflows"},
    {X("[1099511627776]", "[0,4398046511104]"), 4, STRAND_ERR_FORMAT, "of a buffer of 4"},
    {X("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, STRAND_ERR_UNSUPPORTED, "9 axes; at most 8"},
    /* dtypes */
    {"{\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_UNSUPPORTED,
     "tensor x: dtype F8_E4M3 is not supported"},
    {"{\"x\":{\"dtype\":\"F8_E5M2\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_UNSUPPORTED, "F8_E5M2"},
    {"{\"x\":{\"dtype\":\"C64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, STRAND_ERR_UNSUPPORTED, "C64"},
    {"{\"x\":{\"dtype\":\"f32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_UNSUPPORTED, "f32"},
    {"{\"x\":{\"dtype\":\"F32\\u0000\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_UNSUPPORTED, "dtype"},
    {"{\"x\":{\"dtype\":4,\"shape\":[],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_FORMAT, "its dtype is not a string"},
    /* structure */
    {"{\"x\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, STRAND_ERR_FORMAT, "its dtype is not a string"},
    {"{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, STRAND_ERR_FORMAT, "its shape is not an array"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, STRAND_ERR_FORMAT, "data_offsets are not"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"y\":0}}", 4, STRAND_ERR_FORMAT, "keys other than"},
    {"{\"x\":[]}", 0, STRAND_ERR_FORMAT, "not an object with"},
    {"{\"x\":null}", 0, STRAND_ERR_FORMAT, "not an object with"},
    {"{" T("a", "0", "4", "4") "," T("a", "4", "8", "4") "}", 8, STRAND_ERR_FORMAT, "\"a\" appears twice"},
    {"{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, STRAND_ERR_FORMAT,
     "\"dtype\" appears twice"},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, STRAND_ERR_FORMAT, "zero character"},
    {"{\"__metadata__\":{\"a\":1}}", 0, STRAND_ERR_FORMAT, "__metadata__ a is not a string"},
    {"{\"__metadata__\":[]}", 0, STRAND_ERR_FORMAT, "__metadata__ is not an object"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, STRAND_ERR_FORMAT, "appears twice"},
    {"{\"x\":", 0, STRAND_ERR_FORMAT, "f:1:6: a value is missing"},
    {"{}x", 0, STRAND_ERR_FORMAT, "text after the end"},
    {"{} {", 0, STRAND_ERR_FORMAT, "text after the end"},
};

static void test_bad_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_headers / sizeof bad_headers[0]; i++) {
        buffer b = {0};
        put_safetensors(&b, bad_headers[i].header, bad_headers[i].bytes);
        check_refused(bad_headers[i].header, b.data, b.size, bad_headers[i].status, bad_headers[i].says);
        buffer_free(&b);
    }
    print_message("%zu bad headers refused\n", sizeof bad_headers / sizeof bad_headers[0]);
}

static void test_bad_lengths(void **state) {
    (void)state;
    static const struct {
        uint64_t length;
        const char *says;
    } rows[] = {{3, "f:1:2: a string without"},        {100000000, "header of 100000000 bytes in a file of"},
                {100000001, "at most 100000000"},      {UINT64_MAX, "at most 100000000"},
                {UINT64_MAX - 7, "at most 100000000"}, {(uint64_t)1 << 63, "at most 100000000"},
                {1, "does not begin with '{'"},        {0, "does not begin with '{'"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        put_safetensors(&b, small, 35);
        poke_int(&b, 0, rows[i].length, 8);
        check_refused(rows[i].says, b.data, b.size, STRAND_ERR_FORMAT, rows[i].says);
        buffer_free(&b);
    }
    /* A space before the brace is JSON, yet not safetensors. Only open_memory is sure that it is meant to be one. */
    buffer b = {0};
    weights *w = NULL;
    error e = {0};
    put_safetensors(&b, " {}", 0);
    assert_int_equal(weights_open_memory(NULL, b.data, b.size, NULL, &w, &e), STRAND_ERR_FORMAT);
    assert_non_null(strstr(e.text, "memory: the safetensors header does not begin"));
    assert_int_equal(weights_open_memory(NULL, "PK\3\4", 4, "z", &w, &e), STRAND_ERR_FORMAT);
    buffer_free(&b);
}

static void test_name_limit(void **state) {
    (void)state;
    for (int length = 1024; length <= 1025; length++) {
        char header[1200];
        buffer b = {0};
        weights *w = NULL;
        int n = snprintf(header, sizeof header, "{\"%0*d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", length, 0);
        assert_true(n > 0 && (size_t)n < sizeof header);
        put_safetensors(&b, header, 1);
        assert_int_equal(weights_open_memory(NULL, b.data, b.size, "n", &w, NULL),
                         length == 1024 ? STRAND_OK : STRAND_ERR_FORMAT);
        weights_close(w);
        buffer_free(&b);
    }
}

/* Cut after every byte, and with one byte more. */
static void test_truncated(void **state) {
    (void)state;
    buffer b = {0};
    put_safetensors(&b, small, 35);
    for (size_t n = 0; n < b.size; n++) {
        weights *w = NULL;
        void *copy;
        assert_int_not_equal(open_exact(NULL, b.data, n, &copy, &w, NULL), STRAND_OK);
        free(copy);
    }
    put_int(&b, 0, 1);
    check_refused("one byte more", b.data, b.size, STRAND_ERR_FORMAT, "the rest belongs to none");
    buffer_free(&b);
}

/* Every byte changed to every value: opens or is refused, and what opens is inside the file. */
static void test_mutated(void **state) {
    (void)state;
    buffer b = {0};
    put_safetensors(&b, small, 35);
    int opened = 0;
    for (size_t at = 0; at < b.size - 35; at++) {
        uint8_t was = b.data[at];
        for (int value = 0; value < 256; value++) {
            weights *w = NULL;
            b.data[at] = (uint8_t)value;
            if (weights_open_bytes(NULL, b.data, b.size, "m", &w, NULL) != STRAND_OK) continue;
            opened++;
            for (int64_t i = 0; i < weights_count(w); i++) {
                const weights_tensor *t = weights_at(w, i);
                volatile uint8_t sum = 0;
                for (uint64_t j = 0; j < t->bytes; j++) sum = (uint8_t)(sum + ((const uint8_t *)t->data)[j]);
            }
            weights_close(w);
        }
        b.data[at] = was;
    }
    assert_true(opened > 0);
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),        cmocka_unit_test(test_dtypes),      cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_bad_headers), cmocka_unit_test(test_bad_lengths), cmocka_unit_test(test_name_limit),
        cmocka_unit_test(test_truncated),   cmocka_unit_test(test_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_gguf.c - GGUF files: what is read, and every rule from its bad side. The named cases are bugs that readers of this
 * format have had: counts that overflow, an alignment of 0, a shape larger than its file, arrays without end, negative
 * extents. */
#include "check.h"

#include "weights/gguf.h"

static void test_good(void **state) {
    (void)state;
    buffer b = {0};
    weights *w = NULL;
    error e = {0};
    put_small_gguf(&b);
    if (weights_open_bytes(NULL, b.data, b.size, "small", &w, &e)) fail_msg("%s", e.text);
    assert_string_equal(weights_format(w), "gguf");
    assert_int_equal(weights_count(w), 2);
    assert_string_equal(weights_at(w, 0)->name, "a"); /* in the order of the data */
    const uint8_t *data = b.data + b.size - 68 - 64;
    check_tensor(w, "a", STRAND_F32, 2, (const int64_t[]){2, 3}, data, 24);
    check_tensor(w, "q", STRAND_Q8_0, 2, (const int64_t[]){2, 32}, data + 64, 68);
    assert_string_equal(weights_metadata(w, "general.architecture"), "llama");
    assert_string_equal(gguf_text(w, "general.architecture", ""), "llama");
    assert_int_equal(gguf_int(w, "n", 0), INT64_C(1) << 40);
    assert_int_equal(gguf_int(w, "minus", 0), -2);
    assert_true(gguf_number(w, "minus", 0) == -2);
    assert_true(gguf_number(w, "eps", 0) == 0.5);
    assert_int_equal(gguf_int(w, "eps", 7), 7); /* no whole number */
    assert_true(gguf_bool(w, "yes", false));
    assert_int_equal(gguf_int(w, "absent", 9), 9);
    assert_int_equal(gguf_int(w, "scores", 9), 9); /* an array is no single value */
    const gguf_value *tokens = gguf_array(w, "tokens", GGUF_STRING);
    assert_non_null(tokens);
    assert_int_equal(tokens->count, 3);
    assert_int_equal(tokens->strings[1].length, 0);
    assert_memory_equal(tokens->strings[2].text, "\xff", 1);
    assert_null(gguf_array(w, "tokens", GGUF_F32));
    const gguf_value *scores = gguf_array(w, "scores", GGUF_F32);
    assert_true(gguf_number_at(scores, 1, 0) == -1);
    assert_true(gguf_number_at(scores, 2, 5) == 5);
    weights_close(w);
    buffer_free(&b);
}

/* Cut at every byte: refused, never read beyond. The last 68 bytes belong to a tensor whose size is known. */
static void test_cut(void **state) {
    (void)state;
    buffer b = {0};
    put_small_gguf(&b);
    for (size_t n = 8; n < b.size; n++) check_refused("cut", b.data, n, STRAND_ERR_FORMAT, "f: ");
    buffer_free(&b);
}

typedef struct bad_row {
    const char *what;
    void (*make)(buffer *b);
    strand_status status;
    const char *says;
} bad_row;

static void one_tensor(buffer *b, int axes, const uint64_t *dims, uint32_t type, uint64_t offset, int bytes) {
    put_gguf(b, 1, 0);
    put_gguf_tensor(b, "t", axes, dims, type, offset);
    put_padding(b, 32);
    put_fill(b, 0, (size_t)bytes);
}

static void tensor_count(buffer *b) { put_gguf(b, UINT64_MAX, 0), put_fill(b, 0, 64); }
static void value_count(buffer *b) { put_gguf(b, 0, UINT64_MAX), put_fill(b, 0, 64); }
static void count_times_size(buffer *b) { put_gguf(b, 0, UINT64_MAX / 13 + 2), put_fill(b, 0, 64); }

static void align(buffer *b, uint32_t value) {
    put_gguf(b, 0, 1);
    put_gguf_key(b, "general.alignment", 4);
    put_int(b, value, 4);
}
static void align_zero(buffer *b) { align(b, 0); }
static void align_odd(buffer *b) { align(b, 24); }
static void align_huge(buffer *b) { align(b, 0x80000000); }
static void align_text(buffer *b) {
    put_gguf(b, 0, 1);
    put_gguf_key(b, "general.alignment", 8);
    put_gguf_string(b, "32");
}

static void larger(buffer *b) { one_tensor(b, 1, (const uint64_t[]){1000}, 0, 0, 64); }
static void offset_beyond(buffer *b) { one_tensor(b, 1, (const uint64_t[]){4}, 0, UINT64_MAX - 31, 64); }
static void product(buffer *b) { one_tensor(b, 3, (const uint64_t[]){1ull << 31, 1ull << 31, 1ull << 31}, 0, 0, 64); }
static void blocks_overflow(buffer *b) { one_tensor(b, 2, (const uint64_t[]){1ull << 32, (1ull << 31) - 1}, 8, 0, 64); }
static void negative(buffer *b) { one_tensor(b, 2, (const uint64_t[]){UINT64_MAX, 2}, 0, 0, 64); }
static void axes(buffer *b) { one_tensor(b, 5, (const uint64_t[]){1, 1, 1, 1, 1}, 0, 0, 64); }
static void axes_huge(buffer *b) {
    put_gguf(b, 1, 0);
    put_gguf_string(b, "t");
    put_int(b, UINT32_MAX, 4);
    put_fill(b, 0, 64);
}
static void half_block(buffer *b) { one_tensor(b, 2, (const uint64_t[]){48, 2}, 8, 0, 128); }
static void scalar_block(buffer *b) { one_tensor(b, 0, NULL, 8, 0, 64); }
static void unaligned(buffer *b) { one_tensor(b, 1, (const uint64_t[]){4}, 0, 8, 64); }
static void type_known(buffer *b) { one_tensor(b, 1, (const uint64_t[]){256}, 10, 0, 128); }
static void type_unknown(buffer *b) { one_tensor(b, 1, (const uint64_t[]){256}, 77, 0, 128); }

static void overlap(buffer *b) {
    put_gguf(b, 2, 0);
    put_gguf_tensor(b, "t", 1, (const uint64_t[]){16}, 0, 0);
    put_gguf_tensor(b, "u", 1, (const uint64_t[]){16}, 0, 32);
    put_padding(b, 32);
    put_fill(b, 0, 128);
}

static void same_name(buffer *b) {
    put_gguf(b, 2, 0);
    put_gguf_tensor(b, "t", 1, (const uint64_t[]){8}, 0, 0);
    put_gguf_tensor(b, "t", 1, (const uint64_t[]){8}, 0, 32);
    put_padding(b, 32);
    put_fill(b, 0, 64);
}

static void same_key(buffer *b) {
    put_gguf(b, 0, 2);
    for (int i = 0; i < 2; i++) put_gguf_key(b, "k", 7), put_int(b, 1, 1);
}

static void array(buffer *b, uint32_t type, uint64_t count) {
    put_gguf(b, 0, 1);
    put_gguf_key(b, "k", 9);
    put_int(b, type, 4);
    put_int(b, count, 8);
    put_fill(b, 0, 64);
}
static void nested(buffer *b) {
    put_gguf(b, 0, 1);
    put_gguf_key(b, "k", 9);
    for (int i = 0; i < 100000; i++) put_int(b, 9, 4), put_int(b, 1, 8);
}
static void array_huge(buffer *b) { array(b, 4, UINT64_MAX / 4 + 1); }
static void strings_huge(buffer *b) { array(b, 8, UINT64_MAX / 8 + 1); }
static void value_type(buffer *b) { put_gguf(b, 0, 1), put_gguf_key(b, "k", 13), put_fill(b, 0, 64); }
static void item_type(buffer *b) { array(b, 4000000000u, 1); }

static void string_long(buffer *b) {
    put_gguf(b, 0, 1);
    put_gguf_key(b, "k", 8);
    put_int(b, UINT64_MAX - 3, 8);
    put_fill(b, 'x', 64);
}
static void key_long(buffer *b) {
    put_gguf(b, 0, 1);
    put_int(b, 65536, 8);
    put_fill(b, 'x', 65536 + 16);
}
static void key_zero(buffer *b) {
    put_gguf(b, 0, 1);
    put_int(b, 3, 8);
    put_bytes(b, "a\0b", 3);
    put_fill(b, 0, 64);
}
static void key_empty(buffer *b) { put_gguf(b, 0, 1), put_gguf_key(b, "", 7), put_fill(b, 0, 64); }

static void version_one(buffer *b) { put_text(b, "GGUF"), put_int(b, 1, 4), put_fill(b, 0, 64); }
static void version_big(buffer *b) { put_text(b, "GGUF"), put_int(b, 3u << 24, 4), put_fill(b, 0, 64); }
static void split(buffer *b) {
    put_gguf(b, 0, 2);
    put_gguf_key(b, "split.count", 2), put_int(b, 3, 2);
    put_gguf_key(b, "split.no", 2), put_int(b, 1, 2);
}

static const bad_row rows[] = {
    {"a count of tensors that overflows", tensor_count, STRAND_ERR_FORMAT, "tensors do not fit into the file"},
    {"a count of values that overflows", value_count, STRAND_ERR_FORMAT, "metadata values do not fit into the file"},
    {"a count whose product wraps", count_times_size, STRAND_ERR_FORMAT, "do not fit into the file"},
    {"alignment 0", align_zero, STRAND_ERR_FORMAT, "general.alignment is not a power of two"},
    {"alignment 24", align_odd, STRAND_ERR_FORMAT, "general.alignment is not a power of two"},
    {"alignment 2^31", align_huge, STRAND_ERR_FORMAT, "general.alignment is not a power of two"},
    {"alignment as text", align_text, STRAND_ERR_FORMAT, "general.alignment is not a power of two"},
    {"a shape larger than the file", larger, STRAND_ERR_FORMAT, "tensor t: 4000 bytes at 0 of the data, which has 64"},
    {"an offset beyond the file", offset_beyond, STRAND_ERR_FORMAT, "the file is cut short or its shape is wrong"},
    {"a shape's product that wraps to 0", product, STRAND_ERR_FORMAT, "its shape's product overflows"},
    {"blocks that are more bytes than int64", blocks_overflow, STRAND_ERR_FORMAT, "its shape's product overflows"},
    {"a negative extent", negative, STRAND_ERR_FORMAT, "negative or above 2^63"},
    {"five axes", axes, STRAND_ERR_FORMAT, "5 axes; the format has at most 4"},
    {"4294967295 axes", axes_huge, STRAND_ERR_FORMAT, "4294967295 axes"},
    {"half a block", half_block, STRAND_ERR_FORMAT, "rows of 48 are not whole blocks of 32"},
    {"a scalar in blocks", scalar_block, STRAND_ERR_FORMAT, "rows of 1 are not whole blocks"},
    {"an unaligned offset", unaligned, STRAND_ERR_FORMAT, "no multiple of the file's alignment"},
    {"a type that is known and not supported", type_known, STRAND_ERR_UNSUPPORTED, "tensor t: type Q2_K is not supported"},
    {"an unknown type", type_unknown, STRAND_ERR_UNSUPPORTED, "type number 77 is not supported"},
    {"overlapping tensors", overlap, STRAND_ERR_FORMAT, "tensor u: its data overlaps another's"},
    {"two tensors of one name", same_name, STRAND_ERR_FORMAT, "two tensors are named t"},
    {"a key that stands twice", same_key, STRAND_ERR_FORMAT, "metadata k: the key stands twice"},
    {"arrays in arrays, 100000 deep", nested, STRAND_ERR_FORMAT, "metadata k: an array of arrays"},
    {"an array whose size wraps", array_huge, STRAND_ERR_FORMAT, "more items than the file has room for"},
    {"strings whose size wraps", strings_huge, STRAND_ERR_FORMAT, "more strings than the file has room for"},
    {"an unknown type of value", value_type, STRAND_ERR_FORMAT, "its type is 13, which is none of the format's"},
    {"an unknown type of item", item_type, STRAND_ERR_FORMAT, "its type is 4000000000"},
    {"a string longer than the file", string_long, STRAND_ERR_FORMAT, "a string that ends beyond the file"},
    {"a key of 65536 bytes", key_long, STRAND_ERR_FORMAT, "longer than 65535 bytes"},
    {"a key with a zero byte", key_zero, STRAND_ERR_FORMAT, "a metadata key is empty, longer than"},
    {"an empty key", key_empty, STRAND_ERR_FORMAT, "a metadata key is empty"},
    {"version 1", version_one, STRAND_ERR_UNSUPPORTED, "GGUF version 1; versions 2 and 3 are supported"},
    {"big-endian", version_big, STRAND_ERR_UNSUPPORTED, "big-endian"},
    {"a part of a split model", split, STRAND_ERR_UNSUPPORTED, "part 2 of 3 of a model; merge"},
};

static void test_bad(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        rows[i].make(&b);
        check_refused(rows[i].what, b.data, b.size, rows[i].status, rows[i].says);
        buffer_free(&b);
    }
}

/* With an alignment of 1 tensors may stand at odd addresses: they are copied, so that kernels find them aligned. */
static void test_align_one(void **state) {
    (void)state;
    for (int pad = 0; pad < 4; pad++) {
        buffer b = {0};
        weights *w = NULL;
        error e = {0};
        char key[8] = "kkk";
        key[pad] = 0;
        put_gguf(&b, 1, 1 + (pad > 0));
        put_gguf_key(&b, "general.alignment", 4);
        put_int(&b, 1, 4);
        if (pad) put_gguf_key(&b, key, 7), put_int(&b, 1, 1);
        put_gguf_tensor(&b, "t", 1, (const uint64_t[]){2}, 0, 0);
        put_text(&b, "abcdefgh");
        if (weights_open_bytes(NULL, b.data, b.size, "f", &w, &e)) fail_msg("%s", e.text);
        check_tensor(w, "t", STRAND_F32, 1, (const int64_t[]){2}, "abcdefgh", 8);
        assert_int_equal((uintptr_t)weights_find(w, "t")->data % 4, 0);
        weights_close(w);
        buffer_free(&b);
    }
}

/* Every type of blocks: the bytes that it takes, as they lie in the file. */
static void test_blocks(void **state) {
    (void)state;
    static const struct {
        uint32_t number;
        strand_dtype dtype;
        int elements, bytes;
    } rows[] = {{2, STRAND_Q4_0, 32, 18}, {3, STRAND_Q4_1, 32, 20},    {6, STRAND_Q5_0, 32, 22},    {7, STRAND_Q5_1, 32, 24},
                {8, STRAND_Q8_0, 32, 34}, {12, STRAND_Q4_K, 256, 144}, {13, STRAND_Q5_K, 256, 176}, {14, STRAND_Q6_K, 256, 210},
                {0, STRAND_F32, 1, 4},    {1, STRAND_F16, 1, 2},       {30, STRAND_BF16, 1, 2},     {26, STRAND_I32, 1, 4}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        weights *w = NULL;
        error e = {0};
        put_gguf(&b, 1, 0);
        put_gguf_tensor(&b, "t", 2, (const uint64_t[]){(uint64_t)rows[i].elements * 2, 3}, rows[i].number, 0);
        put_padding(&b, 32);
        size_t at = b.size;
        put_fill(&b, 7, (size_t)rows[i].bytes * 6);
        if (weights_open_bytes(NULL, b.data, b.size, "f", &w, &e)) fail_msg("%s", e.text);
        check_tensor(w, "t", rows[i].dtype, 2, (const int64_t[]){3, rows[i].elements * 2}, b.data + at,
                     (size_t)rows[i].bytes * 6);
        weights_close(w);
        check_refused("a byte less", b.data, b.size - 1, STRAND_ERR_FORMAT, "cut short");
        buffer_free(&b);
    }
}

static void test_memory(void **state) {
    (void)state;
    buffer b = {0};
    put_small_gguf(&b);
    for (long n = 1;; n++) {
        counter c = {.fail_at = n};
        const strand_allocator allocator = {counter_alloc, counter_free, &c};
        weights *w = NULL;
        error e = {0};
        strand_status status = weights_open_bytes(&allocator, b.data, b.size, "f", &w, &e);
        weights_close(w);
        assert_int_equal(c.live, 0);
        if (!status) break;
        assert_int_equal(status, STRAND_ERR_MEMORY);
    }
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_cut),    cmocka_unit_test(test_bad),
        cmocka_unit_test(test_align_one), cmocka_unit_test(test_memory), cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_language_files.c - the files of rwkv.cpp and llama2.c: what is read, and what is refused. */
#include "check.h"

#include <math.h>

static void test_rwkvcpp(void **state) {
    (void)state;
    buffer b = {0};
    weights *w = NULL;
    error e = {0};
    put_rwkvcpp(&b, 101);
    put_rwkvcpp_tensor(&b, "emb.weight", 2, (const uint32_t[]){3, 2}, 0);
    put_fill(&b, 1, 24);
    put_rwkvcpp_tensor(&b, "att.x", 3, (const uint32_t[]){4, 1, 6}, 1);
    put_fill(&b, 2, 48);
    put_rwkvcpp_tensor(&b, "q", 2, (const uint32_t[]){32, 1}, 9);
    put_fill(&b, 3, 34);
    size_t without = b.size;
    put_rwkvcpp_tensor(&b, "five", 2, (const uint32_t[]){32, 1}, 7);
    put_fill(&b, 4, 22);
    if (weights_open_bytes(NULL, b.data, b.size, "f", &w, &e)) fail_msg("%s", e.text);
    assert_string_equal(weights_format(w), "rwkv.cpp");
    assert_int_equal(weights_count(w), 4);
    assert_int_equal(weights_find(w, "five")->dtype, STRAND_Q5_0);
    b.size = without;
    uint8_t same[48];
    memset(same, 1, sizeof same);
    check_tensor(w, "emb.weight", STRAND_F32, 2, (const int64_t[]){2, 3}, same, 24);
    memset(same, 2, sizeof same);
    check_tensor(w, "att.x", STRAND_F16, 3, (const int64_t[]){6, 1, 4}, same, 48);
    memset(same, 3, sizeof same);
    check_tensor(w, "q", STRAND_Q8_0, 2, (const int64_t[]){1, 32}, same, 34);
    weights_close(w);
    for (size_t n = 8; n < b.size; n++) {
        w = NULL;
        void *copy;
        e = (error){0};
        /* Cut between two tensors nothing is missing that could be known. */
        strand_status status = open_exact(NULL, b.data, n, &copy, &w, &e);
        if (!status) assert_true(weights_count(w) < 3);
        if (status) assert_int_equal(status, STRAND_ERR_FORMAT);
        weights_close(w);
        free(copy);
    }
    buffer_free(&b);
}

static void refuse(uint32_t version, int axes, const uint32_t *dims, const char *name, uint32_t type, strand_status status,
                   const char *says) {
    buffer b = {0};
    put_rwkvcpp(&b, version);
    put_rwkvcpp_tensor(&b, name, axes < 4 ? axes : 3, dims, type);
    if (axes > 3) poke_int(&b, 24, (uint64_t)axes, 4);
    put_fill(&b, 0, 64);
    check_refused(says, b.data, b.size, status, says);
    buffer_free(&b);
}

static void test_rwkvcpp_bad(void **state) {
    (void)state;
    const uint32_t small[] = {4, 4, 1}, none[] = {0, 4, 1}, huge[] = {0x7fffffff, 0x7fffffff, 0x7fffffff},
                   uneven[] = {33, 1, 1}, negative[] = {0xffffffff, 1, 1};
    refuse(99, 2, small, "a", 0, STRAND_ERR_UNSUPPORTED, "version 99");
    refuse(100, 2, (const uint32_t[]){32, 1, 1}, "a", 9, STRAND_ERR_UNSUPPORTED, "before version 101");
    refuse(101, 0, small, "a", 0, STRAND_ERR_FORMAT, "0 axes");
    refuse(101, 200, small, "a", 0, STRAND_ERR_FORMAT, "200 axes");
    refuse(101, 2, small, "", 0, STRAND_ERR_FORMAT, "a name of 0 bytes");
    refuse(101, 2, small, "\xff", 0, STRAND_ERR_FORMAT, "not UTF-8");
    refuse(101, 2, small, "a", 77, STRAND_ERR_UNSUPPORTED, "type 77");
    refuse(101, 2, none, "a", 0, STRAND_ERR_FORMAT, "impossible shape");
    refuse(101, 2, negative, "a", 0, STRAND_ERR_FORMAT, "impossible shape");
    refuse(101, 3, huge, "a", 0, STRAND_ERR_FORMAT, "impossible shape");
    refuse(101, 2, uneven, "a", 9, STRAND_ERR_FORMAT, "impossible shape");
    refuse(101, 2, (const uint32_t[]){4, 5, 1}, "a", 0, STRAND_ERR_FORMAT, "cut short");
    buffer b = {0};
    put_rwkvcpp(&b, 100);
    check_refused("empty", b.data, b.size, STRAND_ERR_FORMAT, "no tensors");
    buffer_free(&b);
}

/* dim 8, hidden 6, 2 layers, 4 heads of which 2 for keys, 5 tokens, a context of 3. */
static void put_llama2c(buffer *b, int version, bool shared) {
    const int64_t numbers[] = {8, 6, 2, 4, 2, shared || version ? 5 : -5, 3};
    if (version) put_int(b, 0x616b3432u, 4), put_int(b, (uint64_t)version, 4);
    for (int i = 0; i < 7; i++) put_int(b, (uint64_t)numbers[i], 4);
    if (version) put_int(b, shared, 1), put_fill(b, 0, 256 - b->size);
    size_t layer = 2 * 8 + 2 * 64 + 2 * 4 * 8 + 3 * 6 * 8,
           floats = 5 * 8 + 2 * layer + 8 + (shared ? 0 : 5 * 8) + (version ? 0 : 3 * 2);
    for (size_t i = 0; i < floats; i++) {
        float x = (float)i;
        put_bytes(b, &x, 4);
    }
}

static float first_of(const weights *w, const char *name) {
    const weights_tensor *t = weights_find(w, name);
    if (!t) fail_msg("no tensor %s", name);
    return *(const float *)t->data;
}

/* The same with `width` and `hidden`, matrices in bytes: element i of each is i % 200 - 100, the scale of its group g (g +
 * 1) / 1024. */
static void put_int8(buffer *b, int64_t width, int64_t hidden, int64_t group) {
    const int64_t numbers[] = {width, hidden, 2, 4, 2, 5, 3}, square = width * width, tall = hidden * width;
    put_int(b, 0x616b3432u, 4), put_int(b, 2, 4);
    for (int i = 0; i < 7; i++) put_int(b, (uint64_t)numbers[i], 4);
    put_int(b, 1, 1), put_int(b, (uint64_t)group, 4), put_fill(b, 0, 256 - b->size);
    for (int64_t i = 0; i < 5 * width; i++) put_bytes(b, &(float){(float)i}, 4);
    const int64_t sizes[] = {5 * width,  square, square, square / 2, square / 2, square / 2, square / 2, square, square,
                             tall, tall, tall, tall, tall, tall};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (int64_t i = 0; i < sizes[k]; i++) put_int(b, (uint64_t)(i % 200 - 100) & 255, 1);
        for (int64_t g = 0; g < sizes[k] / group; g++) put_bytes(b, &(float){(float)(g + 1) / 1024}, 4);
    }
}

/* Version 2: whole groups of blocks stay bytes, under the same scales; others become numbers. */
static void test_llama2c_int8(void **state) {
    (void)state;
    for (int blocks = 0; blocks < 2; blocks++) {
        const int64_t width = blocks ? 64 : 8, hidden = blocks ? 96 : 6, group = blocks ? 32 : 4;
        buffer b = {0};
        weights *w = NULL;
        error e = {0};
        put_int8(&b, width, hidden, group);
        if (weights_open_bytes(NULL, b.data, b.size, "f", &w, &e)) fail_msg("%s", e.text);
        assert_int_equal(weights_count(w), 2 + 2 * 9);
        assert_true(first_of(w, "layers.1.ffn_norm.weight") == (float)(3 * width));
        const weights_tensor *t = weights_find(w, "layers.1.feed_forward.w2.weight");
        assert_int_equal(t->dtype, blocks ? STRAND_Q8_0 : STRAND_F32);
        assert_int_equal(t->dims[0], width);
        assert_int_equal(t->dims[1], hidden);
        const unsigned char *data = t->data;
        for (int64_t i = 0; i < width * hidden; i++) {
            float want = (float)(i % 200 - 100) * ((float)(i / group + 1) / 1024), have;
            if (blocks) { /* such scales are halves exactly */
                const unsigned char *block = data + i / 32 * 34;
                unsigned bits = block[0] | (unsigned)block[1] << 8;
                have = (float)(signed char)block[2 + i % 32] * ldexpf((float)(1024 + (bits & 1023)), (int)(bits >> 10) - 25);
            } else {
                memcpy(&have, data + 4 * i, 4);
            }
            if (have != want) fail_msg("element %d is %g, not %g", (int)i, (double)have, (double)want);
        }
        weights_close(w);
        for (size_t n = 8; n < b.size; n += 61) {
            void *copy;
            w = NULL;
            assert_int_not_equal(open_exact(NULL, b.data, n, &copy, &w, &e), STRAND_OK);
            assert_null(w);
            free(copy);
        }
        poke_int(&b, 37, 0, 4);
        check_refused("a group of nothing", b.data, b.size, STRAND_ERR_FORMAT, "makes no sense");
        poke_int(&b, 37, 0xffffffffu, 4);
        check_refused("a negative group", b.data, b.size, STRAND_ERR_FORMAT, "makes no sense");
        poke_int(&b, 37, (uint64_t)group * 2, 4);
        check_refused("another group", b.data, b.size, STRAND_ERR_FORMAT, "where its header needs");
        buffer_free(&b);
    }
}

static void test_llama2c(void **state) {
    (void)state;
    for (int version = 0; version < 2; version++)
        for (int shared = 0; shared < 2; shared++) {
            buffer b = {0};
            weights *w = NULL;
            error e = {0};
            put_llama2c(&b, version, shared);
            if (weights_open_bytes(NULL, b.data, b.size, "f", &w, &e)) fail_msg("%s", e.text);
            assert_string_equal(weights_format(w), "llama2.c");
            assert_int_equal(weights_count(w), 2 + 2 * 9 + !shared);
            assert_string_equal(weights_metadata(w, "heads"), "4");
            assert_string_equal(weights_metadata(w, "kv_heads"), "2");
            assert_string_equal(weights_metadata(w, "context"), "3");
            /* Each where export.py writes it: in version 0 the embedding first, in version 1 all norms. */
            assert_true(first_of(w, "tok_embeddings.weight") == (version ? 40 : 0));
            assert_true(first_of(w, "layers.1.attention_norm.weight") == (version ? 8 : 48));
            assert_true(first_of(w, "layers.1.attention.wq.weight") == (version ? 80 + 64 : 56 + 64));
            assert_true(first_of(w, "norm.weight") == (version ? 32 : 40 + 16 + 256 + 128 + 16 + 288));
            const weights_tensor *k = weights_find(w, "layers.0.attention.wk.weight");
            assert_int_equal(k->dims[0], 4);
            assert_int_equal(k->dims[1], 8);
            weights_close(w);
            for (size_t n = 8; n < b.size; n += 7) {
                void *copy;
                w = NULL;
                assert_int_not_equal(open_exact(NULL, b.data, n, &copy, &w, &e), STRAND_OK);
                assert_null(w);
                free(copy);
            }
            put_int(&b, 0, 4); /* a byte too many is another file */
            assert_int_not_equal(weights_open_bytes(NULL, b.data, b.size, "f", &w, &e), STRAND_OK);
            buffer_free(&b);
        }
    buffer b = {0};
    put_llama2c(&b, 3, true);
    check_refused("version 3", b.data, b.size, STRAND_ERR_UNSUPPORTED, "version 3");
    poke_int(&b, 4, 1, 4);
    poke_int(&b, 8, 0x7fffffff, 4);
    check_refused("a dim that is too large", b.data, b.size, STRAND_ERR_FORMAT, "makes no sense");
    poke_int(&b, 8, 9, 4);
    check_refused("heads that do not divide it", b.data, b.size, STRAND_ERR_FORMAT, "makes no sense");
    poke_int(&b, 8, 16, 4);
    check_refused("another size", b.data, b.size, STRAND_ERR_FORMAT, "where its header needs");
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rwkvcpp), cmocka_unit_test(test_rwkvcpp_bad),
                                       cmocka_unit_test(test_llama2c), cmocka_unit_test(test_llama2c_int8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

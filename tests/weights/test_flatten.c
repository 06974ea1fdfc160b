/* test_flatten.c - from the pickled object to named tensors: layouts, storages, names, branches. Each object is tried in both
 * containers of torch.save. */
#include "check.h"

#define W        small_state[0]
#define R(bytes) bytes, sizeof(bytes) - 1

static void test_copy_bombs(void **state) {
    (void)state;
    static const tensor_spec bombs[] = {
        {"x", "FloatStorage", "0", 6, 0, 1, {(int64_t)1 << 40}, {0}},
        {"x", "FloatStorage", "0", 6, 0, 2, {(int64_t)1 << 20, 6}, {0, 1}},
        {"x", "FloatStorage", "0", 6, 0, 8, {128, 128, 128, 1, 1, 1, 1, 2}, {0, 0, 0, 0, 0, 0, 0, 5}},
    };
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        buffer b = {0};
        pickle_tensor_value(&b, &bombs[i]);
        check_value("an expanded tensor", &b, 0, STRAND_ERR_LIMIT, "tensor x: expanded from few elements");
        buffer_free(&b);
    }
    /* Many small ones: the sum is what counts. */
    static const tensor_spec some = {"x", "FloatStorage", "0", 6, 0, 1, {100000}, {0}};
    buffer b = {0};
    put_text(&b, "}(");
    for (int i = 0; i < 8; i++) {
        pickle_int(&b, i);
        pickle_tensor_value(&b, &some);
    }
    put_text(&b, "u");
    check_value("many expanded tensors", &b, 0, STRAND_ERR_LIMIT, "tensor x.2: expanded");
    buffer_free(&b);
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

static void test_bad_tensors(void **state) {
    (void)state;
    static const struct {
        tensor_spec t;
        strand_status status;
        const char *says;
    } rows[] = {
        {{"x", "FloatStorage", "0", 6, 0, 1, {7}, {1}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, 1, 1, {6}, {1}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, 6, 0, {0}, {0}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, INT64_MAX, 1, {1}, {1}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, -1, 1, {1}, {1}}, STRAND_ERR_FORMAT, "its offset, shape or strides"},
        {{"x", "FloatStorage", "0", 6, 0, 1, {-1}, {1}}, STRAND_ERR_FORMAT, "not a whole number"},
        {{"x", "FloatStorage", "0", 6, 5, 1, {2}, {-1}}, STRAND_ERR_FORMAT, "not a whole number"},
        {{"x", "FloatStorage", "0", 6, 0, 2, {2, 3}, {4, 1}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, 0, 2, {2, 2}, {INT64_MAX, INT64_MAX}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, 0, 1, {3}, {INT64_MAX}}, STRAND_ERR_FORMAT, "outside of its storage"},
        {{"x", "FloatStorage", "0", 6, 0, 1, {4}, {INT64_MAX}}, STRAND_ERR_FORMAT, "strides overflow"},
        {{"x", "FloatStorage", "0", 6, 0, 2, {(int64_t)1 << 32, (int64_t)1 << 32}, {0, 0}},
         STRAND_ERR_FORMAT,
         "product overflows"},
        {{"x", "FloatStorage", "0", 6, 0, 3, {0, (int64_t)1 << 32, (int64_t)1 << 32}, {0, 0, 0}},
         STRAND_ERR_FORMAT,
         "product overflows"},
        {{"x", "FloatStorage", "0", 6, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {0}}, STRAND_ERR_UNSUPPORTED, "9 axes"},
        {{"x", "FloatStorage", "0", 7, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "storage 0: described twice"},
        {{"x", "IntStorage", "0", 6, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "storage 0: described twice"},
        {{"x", "FloatStorage", "0", -1, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "a persistent id other"},
        {{"x", "FloatStorage", "0", INT64_MAX, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "storage 0: "},
        {{"x", "FloatStorage", "7", 6, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "storage 7: "},
        {{"x", "FloatStorage", "../0", 6, 0, 1, {1}, {1}}, STRAND_ERR_FORMAT, "storage ../0: "},
        {{"x", "NoStorage", "0", 6, 0, 1, {1}, {1}}, STRAND_ERR_UNSUPPORTED, "x is an object of torch.NoStorage"},
        {{"x", "device", "0", 6, 0, 1, {1}, {1}}, STRAND_ERR_UNSUPPORTED, "x is an object of torch.device"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        pickle_tensor_value(&b, &rows[i].t);
        check_value(rows[i].says, &b, 0, rows[i].status, rows[i].says);
        buffer_free(&b);
    }
    print_message("%zu bad tensors refused, in both containers\n", sizeof rows / sizeof rows[0]);
}

/* Types that exist in PyTorch only: their size is known, their tensors are refused by name. */
static void test_complex(void **state) {
    (void)state;
    static const tensor_spec t = {"c", "ComplexFloatStorage", "1", 1, 0, 1, {1}, {1}};
    buffer b = {0};
    put_text(&b, "}(");
    pickle_text(&b, "w");
    pickle_tensor_value(&b, &W);
    pickle_text(&b, "optimizer");
    pickle_tensor_value(&b, &t);
    put_text(&b, "u");
    check_object("a complex tensor in a branch left alone", &b, 1, STRAND_OK, NULL);
    b.size--;
    pickle_text(&b, "rng_state");
    pickle_tensor_value(&b, &(tensor_spec){"n", "NewStorage", "0", 6, 0, 1, {1}, {1}});
    put_text(&b, "u");
    check_object("a storage of an unknown type in a branch left alone", &b, 1, STRAND_OK, NULL);
    b.size--;
    pickle_text(&b, "c");
    pickle_tensor_value(&b, &t);
    put_text(&b, "u");
    check_object("a complex tensor", &b, 0, STRAND_ERR_UNSUPPORTED, "tensor c: a torch.ComplexFloatStorage");
    buffer_free(&b);
}

static void test_malformed_tensors(void **state) {
    (void)state;
    static const struct {
        const char *bytes; /* offset, shape, strides */
        size_t n;
    } rows[] = {{R("K\x00)N")},
                {R("K\x00N)")},
                {R("N))")},
                {R("K\x00K\x01\x85)")},
                {R("K\x00]]")},
                {R("G01234567))")},
                {R("K\x00G01234567\x85K\x01\x85")},
                {R("K\x00K\x01\x85N\x85")}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        pickle_global_name(&b, "torch._utils", "_rebuild_tensor");
        put_text(&b, "(");
        pickle_storage_id(&b, "FloatStorage", "0", 6);
        put_bytes(&b, rows[i].bytes, rows[i].n);
        put_text(&b, "tR");
        check_value("a malformed tensor", &b, 0, STRAND_ERR_FORMAT, "tensor x: ");
        buffer_free(&b);
    }
}

/* ---- names and branches ---------------------------------------------------------------------------------------------- */

static void put_named(buffer *b, const char *bytes, size_t n) {
    put_bytes(b, bytes, n);
    pickle_tensor_value(b, &W);
}

static void test_bad_names(void **state) {
    (void)state;
    static const struct {
        const char *key;
        size_t n;
        const char *says;
    } rows[] = {{R("X\x01\x00\x00\x00\xff"), "a key that is neither"},
                {R("X\x02\x00\x00\x00"
                   "a\x00"),
                 "a key that is neither"},
                {R("G01234567"), "a key that is neither"},
                {R("N"), "a key that is neither"},
                {R(")"), "a key that is neither"},
                {R("X\x01\x00\x00\x00"
                   "a"),
                 "two tensors are named x.a"},
                {R("K\x05"), "two tensors are named x.5"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        buffer b = {0};
        put_text(&b, "}(");
        put_named(&b, rows[i].key, rows[i].n);
        put_named(&b, rows[i].key, rows[i].n);
        put_text(&b, "u");
        check_value(rows[i].says, &b, 0, STRAND_ERR_FORMAT, rows[i].says);
        buffer_free(&b);
    }
    /* "a.b" and {"a": {"b"}} */
    buffer b = {0};
    put_text(&b, "}(");
    pickle_text(&b, "a.b");
    pickle_tensor_value(&b, &W);
    pickle_text(&b, "a");
    put_text(&b, "}(");
    pickle_text(&b, "b");
    pickle_tensor_value(&b, &W);
    put_text(&b, "uu");
    check_value("a joined name", &b, 0, STRAND_ERR_FORMAT, "two tensors are named x.a.b");
    char text[1200];
    memset(text, 'n', sizeof text - 1);
    text[sizeof text - 1] = 0;
    b.size = 0;
    put_text(&b, "}");
    pickle_text(&b, text);
    pickle_tensor_value(&b, &W);
    put_text(&b, "s");
    check_value("a long name", &b, 0, STRAND_ERR_FORMAT, "at most 1024 bytes");
    b.size = 0;
    put_text(&b, "}"); /* nothing in it */
    check_value("no tensors", &b, 0, STRAND_ERR_FORMAT, "no tensors in it");
    b.size = 0;
    put_text(&b, "(");
    mention_storages(&b);
    pickle_tensor_value(&b, &W);
    put_text(&b, "t");
    check_object("a tuple", &b, 0, STRAND_ERR_UNSUPPORTED, "holds a tuple and not a dict");
    buffer_free(&b);
}

static void test_branches(void **state) {
    (void)state;
    static const char *const keys[] = {"state_dict", "model_state_dict", "model_state", "model", "state_dict_ema"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        for (size_t j = i; j < sizeof keys / sizeof keys[0]; j++) {
            buffer b = {0};
            put_text(&b, "}(");
            if (j > i) {
                pickle_text(&b, keys[j]);
                put_text(&b, "}"); /* the lesser branch, empty, and first */
            }
            pickle_text(&b, keys[i]);
            pickle_state(&b, small_state, 3);
            pickle_text(&b, "other");
            pickle_tensor_value(&b, &W);
            put_text(&b, "u");
            check_object(keys[i], &b, 3, STRAND_OK, NULL);
            buffer_free(&b);
        }
    }
    buffer b = {0};
    put_text(&b, "}(");
    pickle_text(&b, "model");
    put_text(&b, "cmy.module\nNet\n)\x81}b");
    mention_storages(&b);
    put_text(&b, "u");
    check_object("a whole model", &b, 0, STRAND_ERR_UNSUPPORTED, "model is an object of my.module.Net");
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copy_bombs), cmocka_unit_test(test_bad_tensors),
                                       cmocka_unit_test(test_complex),    cmocka_unit_test(test_malformed_tensors),
                                       cmocka_unit_test(test_bad_names),  cmocka_unit_test(test_branches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

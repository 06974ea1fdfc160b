/* test_tar.c - weights in a tar archive: what is read, what is stepped over, and every way in which a bad one is refused. */
#include "check.h"
#include "writers.h"

static const char header[] = "{\"x\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}";

static void put_weights(buffer *b, const char *name) {
    buffer inner = {0};
    put_safetensors(&inner, header, 3);
    put_tar_member(b, name, '0', inner.data, inner.size);
    buffer_free(&inner);
}

static weights *opens(const buffer *b) {
    weights *w = NULL;
    error e = {0};
    if (weights_open_bytes(NULL, b->data, b->size, "file", &w, &e)) fail_msg("%s", e.text);
    return w;
}

static void refused(const buffer *b, const char *says) {
    weights *w = NULL;
    error e = {0};
    assert_int_not_equal(weights_open_bytes(NULL, b->data, b->size, "file", &w, &e), STRAND_OK);
    assert_null(w);
    if (!strstr(e.text, says)) fail_msg("'%s' does not say '%s'", e.text, says);
}

static void reads_one_and_its_texts(void **state) {
    buffer b = {0};
    (void)state;
    put_tar_member(&b, "a/", '5', NULL, 0);
    put_tar_member(&b, "a/link", '2', NULL, 0);
    put_tar_member(&b, "a/notes.txt", '0', "hello", 5);
    put_tar_member(&b, "a/params.json", '0', "{\"n\": 1}", 8);
    put_weights(&b, "a/state");
    put_tar_member(&b, "pax", 'x', "27 path=elsewhere", 17);
    put_tar_end(&b);
    weights *w = opens(&b);
    assert_string_equal(weights_format(w), "safetensors in tar");
    assert_int_equal(weights_count(w), 1);
    const weights_tensor *x = weights_find(w, "x");
    assert_non_null(x);
    assert_memory_equal(x->data, "\0\1\2", 3);
    assert_string_equal(weights_metadata(w, "params.json"), "{\"n\": 1}");
    assert_null(weights_metadata(w, "notes.txt"));
    assert_int_equal(weights_mapped_bytes(w), b.size);
    weights_close(w);
    b.size -= 1024; /* an archive may end without its two blocks of zeros */
    weights_close(opens(&b));
    buffer_free(&b);
}

static void refuses(void **state) {
    buffer b = {0};
    (void)state;
    put_tar_member(&b, "a.json", '0', "{}", 2);
    put_tar_end(&b);
    refused(&b, "without a weights file");
    b.size = 0;
    put_weights(&b, "one");
    put_weights(&b, "two");
    refused(&b, "one and two in the archive are both weights");
    b.data[0] = 'x';
    refused(&b, "byte 0: a tar header whose checksum does not hold");
    b.size = 0;
    put_weights(&b, "one");
    b.size = 530;
    refused(&b, "member one reaches past the end of the file");
    b.size = 0;
    put_weights(&b, "one");
    put_fill(&b, 'x', 100);
    refused(&b, "ends within a header");
    b.size = 0;
    put_weights(&b, "one");
    memcpy(b.data + 124, "00000000x00", 11);
    put_tar_sum(&b, 0);
    refused(&b, "without a sound size");
    memset(b.data + 124, 0xff, 12); /* a size of 2^88 */
    b.data[124] = 0x80;
    put_tar_sum(&b, 0);
    refused(&b, "without a sound size");
    b.size = 0;
    for (int i = 0; i < 65; i++) put_tar_member(&b, "t.json", '0', "{}", 2);
    refused(&b, "more than 64 texts");
    buffer_free(&b);
}

/* A damaged member is damaged, not skipped. */
static void says_what_is_wrong_inside(void **state) {
    buffer b = {0}, inner = {0};
    (void)state;
    put_safetensors(&inner, "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3);
    put_tar_member(&b, "state", '0', inner.data, inner.size);
    refused(&b, "x");
    buffer_free(&inner);
    buffer_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_one_and_its_texts), cmocka_unit_test(refuses),
                                       cmocka_unit_test(says_what_is_wrong_inside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_sha256.c - core/sha256.h against the NIST example vectors, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "sha256.h"

static void check(const void *data, size_t size, const char *expected) {
    for (size_t piece = 1; piece <= size + 1; piece = piece < 130 ? piece + 1 : 2 * piece) {
        sha256 s;
        char hex[SHA256_HEX];
        sha256_init(&s);
        for (size_t at = 0; at < size; at += piece)
            sha256_update(&s, (const char *)data + at, size - at < piece ? size - at : piece);
        sha256_final_hex(&s, hex);
        assert_string_equal(hex, expected);
    }
}

static void test_vectors(void **state) {
    (void)state;
    static const char two[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char four[] =
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    check("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check(two, sizeof two - 1, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    check(four, sizeof four - 1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void test_million(void **state) {
    (void)state;
    char block[1000], hex[SHA256_HEX];
    sha256 s;
    memset(block, 'a', sizeof block);
    sha256_init(&s);
    for (int i = 0; i < 1000; i++) sha256_update(&s, block, sizeof block);
    sha256_final_hex(&s, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Lengths around the padding's edges; the values are those of Python's hashlib for so many zero bytes. */
static void test_padding(void **state) {
    (void)state;
    static const char zeros[64] = {0};
    check(zeros, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    check(zeros, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    check(zeros, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

/* Blocks by the plain form and by what the processor has. */
static void test_forms(void **state) {
    (void)state;
    uint8_t data[64 * 37];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * i * 31 + i);
    for (size_t blocks = 0; blocks <= 37; blocks++) {
        sha256 plain, s;
        char a[SHA256_HEX], b[SHA256_HEX];
        sha256_init(&plain);
        sha256_init(&s);
        sha256_plain_update(&plain, data, blocks);
        sha256_update(&s, data, 64 * blocks);
        assert_memory_equal(plain.state, s.state, sizeof s.state);
        sha256_final_hex(&plain, a);
        sha256_final_hex(&s, b);
        assert_string_equal(a, b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_million),
                                       cmocka_unit_test(test_padding), cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

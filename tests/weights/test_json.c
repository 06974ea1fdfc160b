/* test_json.c - core/json.h: what is accepted, with which values, and what is refused, with which place. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "json.h"

static const json *good(arena *a, const char *text) {
    error e = {0};
    const json *root = NULL;
    if (json_parse(a, text, strlen(text), "t", &root, &e) != STRAND_OK) fail_msg("%s: %s", text, e.text);
    return root;
}

static void test_values(void **state) {
    (void)state;
    arena a;
    arena_init(&a, allocator_default());
    const json *r = good(&a, " {\"a\": [1, -2.5e1, true, false, null, \"x\"], \"b\": {}, \"c\": []}\r\n\t");
    const json *list = json_get(r, "a");
    assert_int_equal(r->type, JSON_OBJECT);
    assert_int_equal(r->count, 3);
    assert_int_equal(list->count, 6);
    const json *x = list->first;
    assert_true(x->is_integer && x->integer == 1 && x->number == 1);
    x = x->next;
    assert_true(x->number == -25.0 && x->is_integer && x->integer == -25);
    x = x->next;
    assert_true(x->type == JSON_BOOL && x->number == 1);
    x = x->next;
    assert_true(x->type == JSON_BOOL && x->number == 0);
    x = x->next;
    assert_int_equal(x->type, JSON_NULL);
    x = x->next;
    assert_string_equal(x->text, "x");
    assert_null(x->next);
    assert_int_equal(json_get(r, "b")->count, 0);
    assert_null(json_get(r, "d"));
    assert_null(json_get(list, "a"));
    arena_release(&a);
}

static void test_numbers(void **state) {
    (void)state;
    arena a;
    arena_init(&a, allocator_default());
    static const struct {
        const char *text;
        double number;
        bool whole;
        int64_t integer;
    } rows[] = {
        {"0", 0, true, 0},
        {"-0", 0, true, 0},
        {"9223372036854775807", 9223372036854775807.0, true, INT64_MAX},
        {"-9223372036854775808", -9223372036854775808.0, true, INT64_MIN},
        {"9223372036854775808", 9223372036854775808.0, false, 0},
        {"-9223372036854775809", -9223372036854775809.0, false, 0},
        {"9007199254740993", 9007199254740992.0, true, 9007199254740993},
        {"1e3", 1000, true, 1000},
        {"4096.0", 4096, true, 4096},
        {"0.1", 0.1, false, 0},
        {"1E-2", 0.01, false, 0},
        {"2.5e+3", 2500, true, 2500},
        {"1e300", 1e300, false, 0},
        {"1e-999", 0, true, 0},
        {"123456789012345678901234567890", 123456789012345678901234567890.0, false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const json *x = good(&a, rows[i].text);
        assert_int_equal(x->type, JSON_NUMBER);
        assert_true(x->number == rows[i].number);
        assert_int_equal(x->is_integer, rows[i].whole);
        if (rows[i].whole) assert_true(x->integer == rows[i].integer);
        assert_string_equal(x->text, rows[i].text);
    }
    assert_true(isnan(good(&a, "NaN")->number));
    assert_true(good(&a, "Infinity")->number > 1e308);
    assert_true(good(&a, "-Infinity")->number < -1e308);
    assert_false(good(&a, "Infinity")->is_integer);
    arena_release(&a);
}

/* A locale whose decimal point is a comma changes nothing. Where no such locale is installed there is nothing to test. */
static void test_locale(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "fr_FR.utf8", "nl_NL.UTF-8"};
    const char *set = NULL;
    for (size_t i = 0; !set && i < sizeof names / sizeof names[0]; i++) set = setlocale(LC_NUMERIC, names[i]);
    if (!set) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    arena a;
    arena_init(&a, allocator_default());
    assert_true(good(&a, "1.25e-3")->number == 1.25e-3);
    setlocale(LC_NUMERIC, "C");
    arena_release(&a);
}

static void test_strings(void **state) {
    (void)state;
    arena a;
    arena_init(&a, allocator_default());
    assert_string_equal(good(&a, "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")->text, "\"\\/\b\f\n\r\t");
    assert_string_equal(good(&a, "\"\\u0041\\u00e9\\u20AC\\uD834\\uDD1E\"")->text, "A\xC3\xA9\xE2\x82\xAC\xF0\x9D\x84\x9E");
    const json *zero = good(&a, "\"a\\u0000b\"");
    assert_int_equal(zero->length, 3);
    assert_memory_equal(zero->text, "a\0b", 4);
    assert_string_equal(good(&a, "\"\xF4\x8F\xBF\xBF\"")->text, "\xF4\x8F\xBF\xBF");
    assert_string_equal(json_text(good(&a, "{\"\\u006b\":\"v\"}"), "k", ""), "v");
    arena_release(&a);
}

static void test_getters(void **state) {
    (void)state;
    arena a;
    arena_init(&a, allocator_default());
    const json *r = good(&a, "{\"i\": 5, \"f\": 0.5, \"t\": \"x\", \"b\": true, \"n\": null}");
    assert_int_equal(json_int(r, "i", -1), 5);
    assert_int_equal(json_int(r, "f", -1), -1);
    assert_int_equal(json_int(r, "none", -1), -1);
    assert_true(json_number(r, "f", 0) == 0.5);
    assert_true(json_number(r, "t", 9) == 9);
    assert_string_equal(json_text(r, "t", "?"), "x");
    assert_string_equal(json_text(r, "n", "?"), "?");
    assert_true(json_bool(r, "b", false));
    assert_true(json_bool(r, "i", true));
    assert_null(json_get(NULL, "i"));
    arena_release(&a);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "t:1:1: a value is missing"},
        {" \n ", "t:2:2: a value is missing"},
        {"{", "t:1:2: a key"},
        {"[1,]", "t:1:4: a value is missing"},
        {"[1 2]", "t:1:4: a ',' or ']'"},
        {"{\"a\":1,}", "t:1:8: a key"},
        {"{\"a\" 1}", "t:1:6: a ':'"},
        {"{a:1}", "t:1:2: a key"},
        {"{\"a\":1]", "t:1:7: a ',' or '}'"},
        {"1 2", "t:1:3: text after"},
        {"{}{}", "t:1:3: text after"},
        {"{\"a\":1,\n\"a\":2}", "t:2:1: the key \"a\" appears twice"},
        {"{\"a\":1,\"\\u0061\":2}", "appears twice"},
        {"{\"1\":0,\"2\":0,\"3\":0,\"4\":0,\"5\":0,\"6\":0,\"7\":0,\"8\":0,\"9\":0,\"3\":0}",
         "t:1:56: the key \"3\" appears twice"},
        {"{\"a\\u0000\":1}", "t:1:2: a key with a zero"},
        {"01", "leading zero"},
        {"-", "t:1:1: a value is missing"},
        {"+1", "t:1:1: a value is missing"},
        {".5", "a value is missing"},
        {"1.", "after its point"},
        {"1.e1", "after its point"},
        {"1e", "exponent"},
        {"1e+", "exponent"},
        {"0x10", "text after"},
        {"1e999", "beyond double"},
        {"-NaN", "a value is missing"},
        {"nan", "a value is missing"},
        {"Inf", "a value is missing"},
        {"tru", "a value is missing"},
        {"truee", "text after"},
        {"'a'", "a value is missing"},
        {"\"a", "t:1:1: a string without its closing quote"},
        {"\"a\\", "closing quote"},
        {"\"a\\\"", "closing quote"},
        {"\"\t\"", "t:1:2: a control character"},
        {"\"\\x41\"", "unknown escape"},
        {"\"\\u12\"", "four hex digits"},
        {"\"\\u12G4\"", "four hex digits"},
        {"\"\\uD834\"", "half a surrogate"},
        {"\"\\uDD1E\"", "half a surrogate"},
        {"\"\\uD834\\u0041\"", "half a surrogate"},
        {"\"\\uD834\\n\"", "half a surrogate"},
        {"\"\x80\"", "t:1:2: not UTF-8"},
        {"\"\xC0\xAF\"", "not UTF-8"},
        {"\"\xE0\x80\xAF\"", "not UTF-8"},
        {"\"\xED\xA0\x80\"", "not UTF-8"},
        {"\"\xF4\x90\x80\x80\"", "not UTF-8"},
        {"\"\xF0\x82\x82\xAC\"", "not UTF-8"},
        {"\"\xE2\x82\"", "not UTF-8"},
        {"\xEF\xBB\xBF{}", "t:1:1: a value is missing"},
        {"// x\n1", "a value is missing"},
    };
    arena a;
    arena_init(&a, allocator_default());
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        error e = {0};
        const json *root = NULL;
        strand_status status = json_parse(&a, rows[i].text, strlen(rows[i].text), "t", &root, &e);
        if (status != STRAND_ERR_FORMAT || !strstr(e.text, rows[i].says)) fail_msg("%s: %d %s", rows[i].text, status, e.text);
        assert_null(root);
    }
    arena_release(&a);
}

static strand_status nest(int depth) {
    char text[2 * 100];
    arena a;
    const json *root;
    arena_init(&a, allocator_default());
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    strand_status status = json_parse(&a, text, 2 * (size_t)depth, "t", &root, NULL);
    arena_release(&a);
    return status;
}

static void test_bounds(void **state) {
    (void)state;
    assert_int_equal(nest(64), STRAND_OK);
    assert_int_equal(nest(65), STRAND_ERR_FORMAT);
    char digits[514];
    arena a;
    const json *root;
    arena_init(&a, allocator_default());
    memset(digits, '1', sizeof digits);
    assert_int_equal(json_parse(&a, digits, 300, "t", &root, NULL), STRAND_OK);
    assert_int_equal(json_parse(&a, digits, 513, "t", &root, NULL), STRAND_ERR_FORMAT);
    size_t many = (size_t)9 << 20;
    char *text = malloc(many);
    assert_non_null(text);
    memset(text, ',', many);
    for (size_t i = 1; i < many; i += 2) text[i] = '1';
    text[0] = '[', text[many - 1] = ']';
    error e = {0};
    assert_int_equal(json_parse(&a, text, many, "t", &root, &e), STRAND_ERR_FORMAT);
    assert_non_null(strstr(e.text, "values in one document"));
    free(text);
    arena_release(&a);
}

/* Cut anywhere, a document is refused and nothing beyond the cut is read (the sanitizers watch). */
static void test_truncated(void **state) {
    (void)state;
    static const char text[] =
        "{\"a\": [1, -2.5e1, true, null], \"b\": \"\\uD834\\uDD1E\xC3\xA9\", \"c\": NaN, \"d\": -Infinity}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        arena a;
        const json *root;
        char *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, text, n);
        arena_init(&a, allocator_default());
        assert_int_equal(json_parse(&a, copy, n, "t", &root, NULL), STRAND_ERR_FORMAT);
        arena_release(&a);
        free(copy);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_numbers),   cmocka_unit_test(test_locale),
        cmocka_unit_test(test_strings), cmocka_unit_test(test_getters),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

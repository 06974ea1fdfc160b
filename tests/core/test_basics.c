/* test_basics.c - arena, error and checked arithmetic: the floor that everything else stands on. */
#include "support.h"

#include "arena.h"
#include "checked.h"
#include "error.h"

static void arena_aligns_and_zeroes(void **state) {
    (void)state;
    counting memory = {0};
    strand_allocator allocator = counting_allocator(&memory);
    arena a;
    randoms r = {random_seed("arena", 11)};
    arena_init(&a, &allocator);
    for (int i = 0; i < 2000; i++) {
        size_t align = (size_t)1 << random_below(&r, 13), bytes = (size_t)random_below(&r, i % 100 ? 300 : 40000);
        unsigned char *p = arena_alloc(&a, bytes, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p & (align - 1), 0);
        for (size_t k = 0; k < bytes; k++) {
            assert_int_equal(p[k], 0); /* the allocator hands out rubbish; a second owner would show as 0xcc */
            p[k] = 0xcc;
        }
    }
    assert_true(memory.live > 10);
    arena_release(&a);
    assert_int_equal(memory.live, 0);
    assert_int_equal(memory.wrong, 0);
    assert_int_equal(a.used, 0);
    assert_non_null(arena_alloc(&a, 8, 8)); /* usable again */
    arena_release(&a);
    arena_release(&a);
    assert_int_equal(memory.live, 0);
}

/* The default allocator at the sizes where it turns to large pages: aligned, of the whole size, and zeroed by the arena. */
static void arena_takes_large_blocks(void **state) {
    (void)state;
    static const size_t sizes[] = {((size_t)4 << 20) - 200, (size_t)4 << 20, ((size_t)6 << 20) + 12345};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        arena a;
        arena_init(&a, allocator_default());
        for (int twice = 0; twice < 2; twice++) {
            unsigned char *p = arena_alloc(&a, sizes[i], 4096);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p & 4095, 0);
            for (size_t k = 0; k < sizes[i]; k++)
                if (p[k]) fail_msg("byte %zu of %zu is not zero", k, sizes[i]);
            memset(p, 0xcc, sizes[i]);
        }
        arena_release(&a);
    }
}

static void arena_reports_exhaustion(void **state) {
    (void)state;
    for (long n = 1; n < 6; n++) {
        counting memory = {.fail_at = n, .fail_on = true};
        strand_allocator allocator = counting_allocator(&memory);
        arena a;
        long given = 0;
        arena_init(&a, &allocator);
        while (arena_alloc(&a, 10000, 16)) given++;
        assert_int_equal(given, n - 1); /* a chunk of 16 KiB holds one */
        assert_null(arena_alloc(&a, 10000, 16));
        arena_release(&a);
        assert_int_equal(memory.live, 0);
    }
}

static void arena_fixed_never_grows(void **state) {
    (void)state;
    unsigned char block[1024 + 2];
    arena a;
    memset(block, 0xee, sizeof block);
    arena_init_fixed(&a, block + 1, 1024);
    unsigned char *p = arena_alloc(&a, 100, 64), *q = arena_alloc(&a, 700, 1);
    assert_true(p >= block + 1 && q == p + 100);
    assert_null(arena_alloc(&a, 1024, 1));
    size_t rest = 1024 - (size_t)(q + 700 - (block + 1));
    assert_null(arena_alloc(&a, rest + 1, 1));
    assert_non_null(arena_alloc(&a, rest, 1));
    assert_null(arena_alloc(&a, 1, 1));
    assert_int_equal(block[0], 0xee);
    assert_int_equal(block[1025], 0xee);
    arena_release(&a);
}

static void arena_checks_products(void **state) {
    (void)state;
    counting memory = {0};
    strand_allocator allocator = counting_allocator(&memory);
    arena a;
    arena_init(&a, &allocator);
    assert_null(arena_array(&a, SIZE_MAX / 2, 3, 8));
    assert_null(arena_alloc(&a, SIZE_MAX - 8, 8));
    assert_null(arena_string(&a, "x", SIZE_MAX));
    assert_int_equal(memory.calls, 0);
    assert_string_equal(arena_printf(&a, "%d-%s", 42, "x"), "42-x");
    assert_string_equal(arena_string(&a, "abcdef", 3), "abc");
    arena_release(&a);
    assert_int_equal(memory.live, 0);
}

static void default_allocator_aligns(void **state) {
    (void)state;
    const strand_allocator *allocator = allocator_default();
    for (size_t align = 1; align <= 4096; align *= 2) {
        void *p = allocator->alloc(NULL, 3, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p & (align - 1), 0);
        allocator->free(NULL, p, 3);
    }
}

static void errors_are_one_line(void **state) {
    (void)state;
    error e = {0};
    assert_int_equal(error_set(&e, STRAND_ERR_FORMAT, "bad\nname \x1b[31m and\ttab %s", "\x7f"), STRAND_ERR_FORMAT);
    assert_int_equal(e.status, STRAND_ERR_FORMAT);
    assert_string_equal(e.text, "bad?name ?[31m and?tab ?");
    error_set(&e, STRAND_ERR_IO, "again: %s", e.text); /* may quote itself */
    assert_string_equal(e.text, "again: bad?name ?[31m and?tab ?");
    char far_too_long[3000];
    memset(far_too_long, 'x', sizeof far_too_long - 1);
    far_too_long[sizeof far_too_long - 1] = 0;
    error_set(&e, STRAND_ERR_IO, "%s", far_too_long);
    assert_int_equal(strlen(e.text), ERROR_TEXT - 1);
    assert_int_equal(error_set(NULL, STRAND_ERR_LIMIT, "nobody listens"), STRAND_ERR_LIMIT);
}

static void checked_arithmetic(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_false(checked_add(UINT64_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(checked_add(UINT64_MAX - 1, 1, &out));
    assert_true(out == UINT64_MAX);
    assert_false(checked_mul((uint64_t)1 << 32, (uint64_t)1 << 32, &out));
    assert_true(checked_mul((uint64_t)1 << 32, ((uint64_t)1 << 32) - 1, &out));
    assert_true(checked_mul(0, UINT64_MAX, &out) && out == 0);
    assert_true(checked_range(5, 5, 10));
    assert_false(checked_range(5, 6, 10));
    assert_false(checked_range(11, 0, 10));
    assert_false(checked_range(UINT64_MAX, 2, 10));
    assert_true(checked_align(65, 64, &out) && out == 128);
    assert_true(checked_align(64, 64, &out) && out == 64);
    assert_false(checked_align(UINT64_MAX - 3, 64, &out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_aligns_and_zeroes),  cmocka_unit_test(arena_takes_large_blocks),
        cmocka_unit_test(arena_reports_exhaustion),
        cmocka_unit_test(arena_fixed_never_grows),  cmocka_unit_test(arena_checks_products),
        cmocka_unit_test(default_allocator_aligns), cmocka_unit_test(errors_are_one_line),
        cmocka_unit_test(checked_arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

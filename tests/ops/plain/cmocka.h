/* cmocka.h - the few words of cmocka that the operator tester uses, for cross builds whose target has no cmocka package.
 * Tests run one after another; a failure leaves the test by longjmp, as cmocka's does. */
#ifndef STRAND_TESTS_PLAIN_CMOCKA_H
#define STRAND_TESTS_PLAIN_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

extern jmp_buf plain_leave;

#define cmocka_unit_test(f) \
    { #f, f, NULL, NULL, NULL }
#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) printf(__VA_ARGS__)
#define fail() (printf("failed at %s:%d\n", __FILE__, __LINE__), longjmp(plain_leave, 1))
#define fail_msg(...) (printf(__VA_ARGS__), printf("\n"), fail())
#define assert_true(x) ((x) ? (void)0 : (void)fail())
#define assert_non_null(x) assert_true((x) != NULL)
#define assert_int_equal(a, b) assert_true((long long)(a) == (long long)(b))
#define assert_int_not_equal(a, b) assert_true((long long)(a) != (long long)(b))

/* Runs them all; returns how many failed. The closing lines are cmocka's. */
static inline int _cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n, void *setup,
                                          void *teardown) {
    volatile int failed = 0;
    (void)setup, (void)teardown;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = tests[i].initial_state;
        if (!setjmp(plain_leave)) {
            tests[i].test_func(&state);
        } else {
            failed++;
            printf("[  FAILED  ] %s: %s\n", name, tests[i].name);
        }
    }
    printf("[  PASSED  ] %d test(s).\n", (int)n - failed);
    return failed;
}

#endif

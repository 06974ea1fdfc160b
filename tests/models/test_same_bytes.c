/* test_same_bytes.c - what must not change a byte: the neighbours in a batch, the number of threads, a session planned for
 * more, tiles. And what must hardly change a value: how long the sequence goes on after a position (causality). */
#include "runs.h"

#define MODEL "models/weights/hyenadna-tiny-strand"
#define WIDTH 64

static int64_t bases[4][1024];

static int make_bases(void **state) {
    (void)state;
    randoms r = {31};
    random_bases(&r, bases[0], sizeof bases / sizeof bases[0][0]);
    return 0;
}

/* Rows of `n` bases, one after the other. */
static void pack(int64_t *to, const int *rows, int n_rows, int64_t n) {
    for (int i = 0; i < n_rows; i++) memcpy(to + i * n, bases[rows[i]], (size_t)n * sizeof *to);
}

static void alone_or_in_a_batch(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 2});
    static const int64_t lengths[] = {1, 2, 17, 333, 777, 1000};
    static int64_t ids[4 * 1024];
    const char *model = source_path(MODEL);
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        int64_t n = lengths[k];
        strand_tensor shape;
        run_how how = {.max_batch = 4, .max_length = 1024};
        opened big = open_all(c, model, &how, 4, n);
        pack(ids, (int[]){2, 0, 3, 1}, 4, n);
        float *batch = run_output(&big, ids, 4, n, "logits", &shape);
        for (int i = 0; i < 4; i++) {
            char what[64];
            int row = (int[]){2, 0, 3, 1}[i];
            snprintf(what, sizeof what, "length %lld, row %d of a batch and alone", (long long)n, i);
            float *alone = run_once(c, model, &(run_how){0}, bases[row], 1, n, "logits", &shape);
            assert_same_bytes(alone, batch + (size_t)(i * n) * 16, shape.bytes, what);
            float *small = run_output(&big, bases[row], 1, n, "logits", &shape);
            assert_same_bytes(alone, small, shape.bytes, "alone in a session made for a batch");
            free(small);
            free(alone);
        }
        free(batch);
        close_all(&big);
    }
    strand_context_close(c);
}

static void any_number_of_threads(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 5};
    for (uint32_t mask = 0; mask <= 3; mask += mask ? 1 : 2) {
        float *first = NULL;
        for (int i = 0; i < 3; i++) {
            strand_tensor shape;
            strand_context *c = open_context(&(open_with){.threads = threads[i], .cpu_mask = mask});
            float *x = run_once(c, source_path(MODEL), &(run_how){0}, bases[0], 2, 1000, "hidden", &shape);
            if (first) assert_same_bytes(first, x, shape.bytes, "one thread and more");
            if (first)
                free(x);
            else
                first = x;
            strand_context_close(c);
        }
        free(first);
    }
}

static void a_session_made_for_more(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){0});
    strand_tensor shape;
    const char *model = source_path(MODEL);
    opened big = open_all(c, model, &(run_how){.max_batch = 3, .max_length = 1026}, 1, 1);
    static const int64_t lengths[] = {900, 5, 1026, 257, 256, 900};
    int64_t ids[1026];
    randoms r = {8};
    random_bases(&r, ids, 1026);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        float *exact = run_once(c, model, &(run_how){0}, ids, 1, lengths[i], "hidden", &shape);
        float *in_big = run_output(&big, ids, 1, lengths[i], "hidden", &shape);
        assert_same_bytes(exact, in_big, shape.bytes, "an exact session and a larger one");
        free(exact);
        free(in_big);
    }
    close_all(&big);
    strand_context_close(c);
}

static void tiled_or_not(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 2});
    const char *model = source_path(MODEL);
    strand_tensor shape;
    run_how whole = {.no_tiling = 1};
    float *expected = run_once(c, model, &whole, bases[0], 2, 1024, "hidden", &shape);
    uint64_t all = unlimited_bytes(c, model, &(run_how){0}, 2, 1024);
    int tiled = 0;
    for (int percent = 90; percent >= 20; percent -= 10) {
        strand_plan_params pp;
        strand_model *m;
        strand_plan *p;
        strand_plan_info info;
        strand_plan_params_init(&pp);
        pp.max_batch = 2;
        pp.max_length = 1024;
        pp.backends = "cpu";
        pp.memory_limit = all * (uint64_t)percent / 100;
        assert_ok(c, strand_model_open(c, model, NULL, &m));
        strand_status status = strand_plan_open(m, &pp, &p);
        if (!status) {
            assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
            tiled += info.regions > 0;
            strand_plan_close(p);
        }
        strand_model_close(m);
        if (status) {
            assert_int_equal(status, STRAND_ERR_LIMIT);
            continue;
        }
        float *x = run_once(c, model, &(run_how){.limit = pp.memory_limit}, bases[0], 2, 1024, "hidden", &shape);
        assert_same_bytes(expected, x, shape.bytes, "tiled and whole");
        free(x);
    }
    print_message("  %d plans were tiled\n", tiled);
    assert_true(tiled >= 2);
    free(expected);
    strand_context_close(c);
}

static void the_past_does_not_see_the_future(void **state) {
    (void)state;
    strand_tensor shape;
#ifdef TEST_STATIC
    static const char *const backends[] = {"cpu"};
#else
    static const char *const backends[] = {"cpu", "cpu-reference", "faraway,cpu"};
#endif
    faraway_env(NULL, "3", NULL);
    strand_context *c = open_context(&(open_with){.threads = 2, .faraway = sizeof backends / sizeof *backends > 1});
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        run_how how = {.backends = backends[i]};
        float *half = run_once(c, source_path(MODEL), &how, bases[1], 1, 500, "hidden", &shape);
        float *all = run_once(c, source_path(MODEL), &how, bases[1], 1, 1024, "hidden", &shape);
        double d = largest_difference(half, all, 500 * WIDTH), most = largest_magnitude(all, 1024 * WIDTH);
        print_message("  %-14s first 500 of 500 and of 1024: %.2e of the largest\n", backends[i], d / most);
        assert_true(d <= 1e-5 * most);
        /* The test can fail: the next position's past is another. */
        assert_true(largest_difference(half, all + WIDTH, 499 * WIDTH) > 1e-2);
        free(half);
        free(all);
    }
    strand_context_close(c);
    faraway_env(NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_or_in_a_batch),
        cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(a_session_made_for_more),
        cmocka_unit_test(tiled_or_not),
        cmocka_unit_test(the_past_does_not_see_the_future),
    };
    return cmocka_run_group_tests(tests, make_bases, NULL);
}

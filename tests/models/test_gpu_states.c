/* test_gpu_states.c - language models step by step on the GPU plugins, whose states stay on the device and whose steps are
 * recorded and run again: the CPU's logits within a tolerance, and on one device the same bytes launched and recorded, again
 * after a reset, after a save and a load, in a fork, beside other sequences and other sessions of the plan, and among runs
 * of so many lengths that recordings are forgotten.
 *
 * Arguments: the plugin's name (vulkan, opencl, cuda). Vulkan is tried with timeline semaphores and with fences, and with the
 * validation layer where STRAND_VULKAN_VALIDATE asks for it: one message fails the test. */
#include "runs.h"

#include <pthread.h>
#include <stdlib.h>

#define STEPS     14
#define TOLERANCE 2e-3
#define BATCH     2

static const char *plugin;

static const char *const cases[] = {"mamba1/orig-d32-n2-l64",     "llama/gqa-d48-n3-l96-sharded-tied",
                                    "mamba2/orig-d64-n2-l101-g2", "rwkv7/pth-d48-n2-l130",
                                    "griffin/hf-d48-n3-l90-w32",  "stripedhyena/hf-d48-n3-l101"};

typedef struct log_rows {
    float *at[BATCH * STEPS]; /* logits of each sequence and token */
    size_t bytes;
} log_rows;

static void drop(log_rows *l) {
    for (int i = 0; i < BATCH * STEPS; i++) free(l->at[i]);
    *l = (log_rows){0};
}

/* Tokens [from, to) of rows 0 to batch - 1 in one run; their logits go where `l` has room for them. */
static void feed(opened *o, const int64_t *ids, int64_t batch, int64_t from, int64_t to, log_rows *l) {
    int64_t part[BATCH * STEPS], n = to - from;
    strand_tensor out;
    for (int64_t b = 0; b < batch; b++) memcpy(part + b * n, ids + b * STEPS + from, (size_t)n * sizeof *part);
    float *y = run_output(o, part, batch, n, "logits", &out);
    l->bytes = (size_t)out.bytes / (size_t)(batch * n);
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = from; t < to; t++) {
            float **at = &l->at[b * STEPS + t];
            free(*at);
            *at = malloc(l->bytes);
            assert_non_null(*at);
            memcpy(*at, (const char *)y + (size_t)(b * n + t - from) * l->bytes, l->bytes);
        }
    free(y);
}

static void reset(opened *o, int64_t row) {
    if (strand_session_reset(o->session, row)) fail_msg("%s", strand_session_error(o->session));
}

static void steps(opened *o, const int64_t *ids, int64_t batch, log_rows *l) {
    reset(o, -1);
    for (int64_t t = 0; t < STEPS; t++) feed(o, ids, batch, t, t + 1, l);
}

static void same(const log_rows *a, const log_rows *b, int row, int from, const char *what) {
    char text[100];
    for (int t = from; t < STEPS; t++) {
        snprintf(text, sizeof text, "%s: row %d, token %d", what, row, t);
        assert_same_bytes(a->at[row * STEPS + t], b->at[row * STEPS + t], a->bytes, text);
    }
}

static void near(const log_rows *a, const log_rows *b, const char *what) {
    for (int i = 0; i < BATCH * STEPS; i++) {
        double d = largest_difference(a->at[i], b->at[i], a->bytes / sizeof(float));
        if (!(d < TOLERANCE)) fail_msg("%s: row %d, token %d differs by %g", what, i / STEPS, i % STEPS, d);
    }
}

/* Saved after `at` tokens of row 0, loaded into both rows, and on from there. */
static void forked(opened *o, const int64_t *ids, int64_t at, const log_rows *want) {
    static unsigned char saved[4 << 20];
    int64_t twice[BATCH * STEPS];
    size_t bytes;
    log_rows l = {0};
    for (int b = 0; b < BATCH; b++) memcpy(twice + b * STEPS, ids, STEPS * sizeof *ids);
    reset(o, -1);
    for (int64_t t = 0; t < at; t++) feed(o, ids, 1, t, t + 1, &l);
    if (strand_session_save(o->session, 0, saved, sizeof saved, &bytes)) fail_msg("%s", strand_session_error(o->session));
    feed(o, ids, 1, at, at + 1, &l); /* what was saved does not move with the session */
    for (int64_t b = 0; b < BATCH; b++)
        if (strand_session_load(o->session, b, saved, bytes)) fail_msg("%s", strand_session_error(o->session));
    for (int64_t t = at; t < STEPS; t++) feed(o, twice, BATCH, t, t + 1, &l);
    for (int b = 0; b < BATCH; b++)
        for (int64_t t = at; t < STEPS; t++)
            assert_same_bytes(want->at[t], l.at[b * STEPS + t], l.bytes, "forked");
    drop(&l);
}

/* Another thread's session of the same plan: it records while the others do. Threads do not fail tests: they count. */
typedef struct stepper {
    opened o;
    const int64_t *ids;
    const log_rows *want;
    int failed, differ;
} stepper;

static void *step_beside(void *arg) {
    stepper *x = arg;
    float *y = malloc(x->want->bytes);
    for (int64_t t = 0; t < STEPS && y && !x->failed; t++) {
        int64_t id = x->ids[t];
        strand_tensor in = {"input_ids", STRAND_I64, 2, {1, 1}, &id, sizeof id},
                      out = {.name = "logits", .data = y, .bytes = x->want->bytes};
        x->failed += strand_session_run(x->o.session, &in, 1, &out, 1) != STRAND_OK;
        x->differ += memcmp(y, x->want->at[t], x->want->bytes) != 0;
    }
    x->failed += !y;
    free(y);
    return NULL;
}

static void beside_each_other(opened *g, const int64_t *ids, const log_rows *want) {
    stepper all[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        all[i] = (stepper){*g, ids, want, 0, 0};
        assert_ok(g->context, strand_session_open(g->plan, NULL, &all[i].o.session));
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, step_beside, &all[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        if (all[i].failed || all[i].differ)
            fail_msg("beside others: %d runs failed, %d differ: %s", all[i].failed, all[i].differ,
                     strand_session_error(all[i].o.session));
        strand_session_close(all[i].o.session);
    }
}

static void one_model(strand_context *c, const char *name, const char *backends) {
    const char *path = source_path("tests/golden/text/%s", name);
    const run_how on_gpu = {.backends = backends, .max_batch = BATCH, .max_length = STEPS},
                  on_cpu = {.backends = "cpu", .max_batch = BATCH, .max_length = STEPS};
    int64_t ids[BATCH * STEPS];
    randoms r = {random_seed(name, 31)};
    log_rows first = {0}, other = {0}, cpu = {0};
    for (int i = 0; i < BATCH * STEPS; i++) ids[i] = random_below(&r, 32);
    opened g = open_all(c, path, &on_gpu, BATCH, STEPS), h = open_all(c, path, &on_cpu, BATCH, STEPS);
    steps(&h, ids, BATCH, &cpu);
    steps(&g, ids, BATCH, &first);
    near(&cpu, &first, "steps on the CPU");
    steps(&g, ids, BATCH, &other);
    for (int b = 0; b < BATCH; b++) same(&first, &other, b, 0, "again");
    reset(&g, -1);
    feed(&g, ids, BATCH, 0, STEPS, &other);
    near(&first, &other, "whole");
    for (int round = 0; round < 2; round++) { /* more lengths than recordings are kept for */
        reset(&g, -1);
        for (int64_t at = 0, to; at < STEPS; at = to) {
            to = at + 1 + random_below(&r, 6);
            feed(&g, ids, BATCH, at, to < STEPS ? to : STEPS, &other);
            if (to > STEPS) to = STEPS;
        }
        near(&first, &other, "in pieces");
    }
    steps(&g, ids, 1, &other);
    same(&first, &other, 0, 0, "alone");
    steps(&g, ids, BATCH, &other);
    for (int b = 0; b < BATCH; b++) same(&first, &other, b, 0, "after other lengths");
    forked(&g, ids, 6, &first);
    if (!strcmp(name, cases[0]) || !strcmp(name, cases[1])) beside_each_other(&g, ids, &first);
    /* row 1 begins again while row 0 goes on */
    reset(&g, -1);
    for (int64_t t = 0; t < 5; t++) feed(&g, ids, BATCH, t, t + 1, &other);
    reset(&g, 1);
    for (int64_t t = 5; t < STEPS; t++) feed(&g, ids, BATCH, t, t + 1, &other);
    same(&first, &other, 0, 0, "beside a reset");
    drop(&first), drop(&other), drop(&cpu);
    close_all(&g);
    close_all(&h);
}

static void all_models(void) {
    log_count log = {0};
    char backends[40];
    strand_context *c = open_context(&(open_with){.threads = 1, .plugin_path = build_path("backends/%s", plugin), .log = &log});
    snprintf(backends, sizeof backends, "%s,cpu", plugin);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) one_model(c, cases[i], backends);
    strand_context_close(c);
    if (log.errors) fail_msg("%d messages: %s", log.errors, log.last);
}

static void stepped(void **state) {
    (void)state;
    all_models();
}

static void stepped_with_fences(void **state) {
    (void)state;
    if (strcmp(plugin, "vulkan") != 0) return;
    setenv("STRAND_VULKAN_FENCES", "1", 1);
    all_models();
    unsetenv("STRAND_VULKAN_FENCES");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stepped), cmocka_unit_test(stepped_with_fences)};
    plugin = argc > 1 ? argv[1] : "vulkan";
    strand_context *c = open_context(&(open_with){.threads = 1, .plugin_path = build_path("backends/%s", plugin)});
    char device[40];
    snprintf(device, sizeof device, "%s:0", plugin);
    bool there = has_backend(c, device);
    strand_context_close(c);
    if (!there) {
        printf("there is no %s device: skipped\n", plugin);
        return 77;
    }
    return cmocka_run_group_tests_name(plugin, tests, NULL, NULL);
}

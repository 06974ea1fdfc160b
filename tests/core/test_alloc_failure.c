/* test_alloc_failure.c - the allocator fails at call 1, 2, 3 ... of context -> model -> plan -> session -> run -> close,
 * once or from there on, until nothing fails any more. Each time: no crash, every block given back with its own size, a
 * clean status with one line of text, and a session that works when all is well again. On the CPU, and with faraway, whose
 * buffers and commands come from the same allocator. STRAND_TEST_SAMPLE=small (sanitizer runs) takes every fifth call. */
#include "support.h"

typedef struct chain {
    const char *path, *backends;
    bool faraway;
    counting memory;
    int histogram[16];
    char text[512];
} chain;

/* Where it failed, or STRAND_OK. Everything is closed again. */
static strand_status go(chain *x) {
    strand_allocator allocator = counting_allocator(&x->memory);
    strand_context_params cp;
    strand_context *c = NULL;
    strand_model *m = NULL;
    strand_plan *p = NULL;
    strand_session *s = NULL;
    strand_plan_params pp;
    log_count log = {0};
    int64_t ids[64];
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, 32}, ids, sizeof ids}, out = {.name = "logits"};
    for (int i = 0; i < 64; i++) ids[i] = 7 + i % 4;
    strand_context_params_init(&cp);
    strand_plan_params_init(&pp);
    cp.allocator = &allocator;
    cp.threads = 2;
    cp.log = log_counter;
    cp.log_user = &log;
    cp.plugin_path = x->faraway ? faraway_folder() : NULL;
    pp.max_batch = 2;
    pp.max_length = 32;
    pp.backends = x->backends;
    snprintf(x->text, sizeof x->text, "no context");
    strand_status status = strand_context_open(&cp, &c);
    if (!status) status = strand_model_open(c, x->path, NULL, &m);
    if (!status) status = strand_plan_open(m, &pp, &p);
    if (!status) status = strand_session_open(p, NULL, &s);
    if (status && c) snprintf(x->text, sizeof x->text, "%s", strand_error(c));
    for (int run = 0; !status && run < 2; run++) {
        status = strand_session_run(s, &in, 1, &out, 1);
        if (status) snprintf(x->text, sizeof x->text, "%s", strand_session_error(s));
    }
    if (status && s) { /* memory is back: so is the session */
        x->memory.fail_at = 0;
        if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("after a failed allocation: %s", strand_session_error(s));
    }
    if (!status) assert_true(largest_magnitude(out.data, out.bytes / sizeof(float)) > 0.01);
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
    strand_context_close(c);
    if (log.violations) fail_msg("%s", log.last);
    return status;
}

static void every_call_fails_once(const char *path, const char *backends, bool faraway) {
    const char *sample = getenv("STRAND_TEST_SAMPLE");
    long stride = sample && !strcmp(sample, "small") ? 5 : 1, total = 0;
    char copy[512];
    chain x = {.path = copy, .backends = backends, .faraway = faraway};
    snprintf(copy, sizeof copy, "%s", path); /* paths are good for a few calls only */
    assert_int_equal(go(&x), STRAND_OK);
    assert_int_equal(x.memory.live, 0);
    total = x.memory.calls;
    for (int on = 0; on < 2; on++)
        for (long n = 1; n <= total; n += stride) {
            x.memory = (counting){.fail_at = n, .fail_on = on != 0};
            strand_status status = go(&x);
            if (x.memory.live || x.memory.wrong)
                fail_msg("call %ld of %ld: %ld blocks are left, %ld were freed wrongly", n, total, x.memory.live,
                         x.memory.wrong);
            if (on && !status) fail_msg("call %ld of %ld failed, and all after it, and nobody noticed", n, total);
            if (status && !x.text[0]) fail_msg("call %ld of %ld: %s without a word", n, total, strand_status_name(status));
            if (strchr(x.text, '\n')) fail_msg("call %ld: more than one line: %s", n, x.text);
            /* A plugin that found no memory is refused: then a backend may be missing. Else the status says what it is. */
            bool said =
                status == STRAND_OK || status == STRAND_ERR_MEMORY || status == STRAND_ERR_BACKEND || strstr(x.text, "backend");
            if (!said) fail_msg("call %ld of %ld: %s: %s", n, total, strand_status_name(status), x.text);
            x.histogram[status]++;
        }
    print_message("  %s on %s: %ld allocations;", strrchr(copy, '/') + 1, backends, total);
    for (int i = 0; i < 16; i++)
        if (x.histogram[i]) print_message(" %s %d", strand_status_name((strand_status)i), x.histogram[i]);
    print_message("\n");
    assert_true(x.histogram[STRAND_ERR_MEMORY] > 20 / stride);
}

#define ZIP         "tests/golden/dna/hyenadna-d32-n2-l256-ckpt"
#define SAFETENSORS "tests/golden/dna/hyenadna-hf-causal"

static void safetensors_on_the_cpu(void **state) {
    (void)state;
    every_call_fails_once(source_path(SAFETENSORS), "cpu", false);
}

static void pytorch_on_the_cpu(void **state) {
    (void)state;
    every_call_fails_once(source_path(ZIP), "cpu", false);
}

#ifndef TEST_STATIC
static void with_faraway(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        faraway_env(i ? "thread" : NULL, "2", NULL);
        setenv("STRAND_FARAWAY_DELAY_US", "0", 1);
        every_call_fails_once(source_path(i ? ZIP : SAFETENSORS), "faraway,cpu", true);
    }
    unsetenv("STRAND_FARAWAY_DELAY_US");
    faraway_env(NULL, NULL, NULL);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_on_the_cpu),
        cmocka_unit_test(pytorch_on_the_cpu),
#ifndef TEST_STATIC
        cmocka_unit_test(with_faraway),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_buffers.c - a device that gives only small buffers: random models run in as many of them as they need, with the bytes
 * that they have in one; a tensor that fits none of them is an error that says so, and nothing is left when the device has
 * fewer. */
#include "dag.h"

static const char backends[] = "faraway,cpu";

static void limit(uint64_t bytes) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    if (bytes)
        setenv("STRAND_FARAWAY_BUFFER", text, 1);
    else
        unsetenv("STRAND_FARAWAY_BUFFER");
}

/* Plans and runs; *largest gets the largest block of the device's space. */
static strand_status run(uint64_t seed, counting *memory, const float *x, dag_results *results, uint64_t *largest,
                         uint32_t *n_buffers, char *text, size_t room) {
    log_count log = {0};
    strand_context *c = open_context(&(open_with){.threads = 1, .faraway = true, .memory = memory, .log = &log});
    strand_model *m = dag_model(c, seed, 30);
    strand_plan_params p;
    strand_plan *plan = NULL;
    strand_session *s = NULL;
    strand_plan_params_init(&p);
    p.max_batch = 2;
    p.max_length = 200;
    p.backends = backends;
    strand_status status = strand_plan_open(m, &p, &plan);
    if (!status) status = strand_session_open(plan, NULL, &s);
    snprintf(text, room, "%s", status ? strand_error(c) : "");
    if (!status) *results = dag_run(s, m, x, 2, 200);
    *largest = 0;
    for (uint32_t i = 0; plan && i < plan->schedule.n_blocks; i++)
        if (plan->schedule.blocks[i].space && plan->schedule.blocks[i].life.bytes > *largest)
            *largest = plan->schedule.blocks[i].life.bytes;
    *n_buffers = plan ? plan->schedule.n_buffers : 0;
    strand_session_close(s);
    strand_plan_close(plan);
    strand_model_close(m);
    strand_context_close(c);
    if (log.violations) fail_msg("%s", log.last);
    return status;
}

static float *input_of(uint64_t seed) {
    strand_context *c = open_context(&(open_with){.threads = 1});
    strand_model *m = dag_model(c, seed, 30);
    float *x = dag_input(m, seed, 2, 200);
    strand_model_close(m);
    strand_context_close(c);
    return x;
}

static void in_small_buffers(void **state) {
    (void)state;
    uint64_t seed = random_seed("buffers", 400);
    int several = 0, refused = 0, failed = 0;
    for (uint64_t i = seed; i < seed + 30; i++) {
        dag_results one = {0}, many = {0};
        uint64_t largest, unused;
        uint32_t n;
        char text[512];
        counting memory = {0};
        float *x = input_of(i);
        limit(0);
        if (run(i, NULL, x, &one, &largest, &n, text, sizeof text)) fail_msg("%s", text);
        assert_true(n <= 1);
        limit((largest + 4095) / 4096 * 4096);
        if (largest && run(i, &memory, x, &many, &unused, &n, text, sizeof text)) fail_msg("%s", text);
        several += n > 1;
        if (largest) dag_same(&one, &many, "in small buffers");
        dag_free(&many);
        if (largest > 8192) {
            limit(largest / 2);
            assert_int_equal(run(i, &memory, x, &many, &unused, &n, text, sizeof text), STRAND_ERR_LIMIT);
            if (!strstr(text, "'faraway'") || !strstr(text, "in one piece")) fail_msg("%s", text);
            refused++;
        }
        if (n > 1 || several) {
            limit((largest + 4095) / 4096 * 4096);
            faraway_env(NULL, NULL, "buffer:2:2");
            failed += run(i, &memory, x, &many, &unused, &n, text, sizeof text) != STRAND_OK;
            dag_free(&many);
            faraway_env(NULL, NULL, NULL);
        }
        if (memory.live || memory.wrong) fail_msg("%ld blocks are left, %ld freed wrongly", memory.live, memory.wrong);
        dag_free(&one);
        free(x);
    }
    limit(0);
    print_message("  %d models in several buffers, %d refused, %d without the second buffer\n", several, refused, failed);
    assert_true(several > 10 && refused > 10 && failed > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_small_buffers)};
    faraway_env(NULL, NULL, NULL);
    return cmocka_run_group_tests_name("buffers", tests, NULL, NULL);
}

/* test_dag.c - regions, schedule, budget and execution, as properties of random graphs:
 *   tiles and recomputed constants under ever smaller limits change no byte, and the limit is kept;
 *   the least that an error names is enough;
 *   a smaller run in a larger session, a row of a batch, another number of threads: the same bytes;
 *   any split between devices agrees with the CPU alone. */
#include "dag.h"

typedef struct tally {
    int plans, tiled, recomputed, kept, prepared, least, refused, groups, mixed;
} tally;

static void count_plan(const strand_plan *p, tally *t) {
    strand_plan_info info;
    strand_plan_node_info node;
    bool kept = false, recomputed = false, prepared = false, grouped = false;
    assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
    for (int32_t i = 0; !strand_plan_node(p, i, &node); i++) {
        kept = kept || (node.weights_only && node.kept);
        recomputed = recomputed || (node.weights_only && !node.kept);
        prepared = prepared || node.prepared_bytes > 0;
        grouped = grouped || node.group >= 0;
    }
    t->plans++;
    t->tiled += info.regions > 0;
    t->kept += kept;
    t->recomputed += recomputed;
    t->prepared += prepared;
    t->groups += grouped;
}

static strand_plan_params params(const char *backends, int64_t batch, int64_t length, uint64_t limit) {
    strand_plan_params p;
    strand_plan_params_init(&p);
    p.backends = backends;
    p.max_batch = batch;
    p.max_length = length;
    p.memory_limit = limit;
    return p;
}

/* Plans, checks the limit, runs. False when the plan is refused with LIMIT. */
static bool run_within(strand_model *m, const strand_plan_params *pp, const float *x, int64_t batch, int64_t length,
                       dag_results *out, tally *t, uint64_t *bytes) {
    strand_plan *p;
    strand_session *s;
    strand_plan_info info;
    strand_status status = strand_plan_open(m, pp, &p);
    if (status == STRAND_ERR_LIMIT) return false;
    assert_ok(m->context, status);
    assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
    *bytes = info.block_bytes + info.device_bytes;
    if (pp->memory_limit) assert_true(*bytes <= pp->memory_limit);
    assert_true(info.lower_bound <= info.arena_bytes + info.device_bytes);
    if (pp->no_tiling) assert_int_equal(info.regions, 0);
    count_plan(p, t);
    assert_ok(m->context, strand_session_open(p, NULL, &s));
    *out = dag_run(s, m, x, batch, length);
    /* Again in the same session: what the first run left must not show. */
    dag_results again = dag_run(s, m, x, batch, length);
    dag_same(out, &again, "the second run of a session");
    dag_free(&again);
    strand_session_close(s);
    strand_plan_close(p);
    return true;
}

static void under_ever_smaller_limits(strand_model *m, const char *backends, uint64_t seed, int64_t batch, int64_t length,
                                      tally *t) {
    char what[128];
    float *x = dag_input(m, seed, batch, length);
    dag_results whole, tiled;
    uint64_t bytes = 0, unused;
    strand_plan_params pp = params(backends, batch, length, 0);
    pp.no_tiling = 1;
    assert_true(run_within(m, &pp, x, batch, length, &whole, t, &bytes));
    pp.no_tiling = 0;
    uint64_t last = bytes;
    for (int round = 0; round < 30; round++) {
        pp.memory_limit = last - last / 8;
        snprintf(what, sizeof what, "seed %llu on %s with %llu bytes", (unsigned long long)seed, backends,
                 (unsigned long long)pp.memory_limit);
        if (run_within(m, &pp, x, batch, length, &tiled, t, &last)) {
            dag_same(&whole, &tiled, what);
            dag_free(&tiled);
            continue;
        }
        double least = 0;
        const char *at = strstr(strand_error(m->context), "needs at least ");
        if (!at || sscanf(at, "needs at least %lf MiB", &least) != 1) fail_msg("%s: %s", what, strand_error(m->context));
        t->refused++;
        pp.memory_limit = (uint64_t)((least + 0.0501) * 1048576); /* the text rounds to a tenth */
        if (!run_within(m, &pp, x, batch, length, &tiled, t, &unused))
            fail_msg("%s: the least it named, %.1f MiB, is not enough: %s", what, least, strand_error(m->context));
        dag_same(&whole, &tiled, what);
        dag_free(&tiled);
        t->least++;
        break;
    }
    dag_free(&whole);
    free(x);
}

static void tiles_change_no_byte(void **state) {
    (void)state;
    uint64_t seed = random_seed("dag", 1000);
    tally t = {0};
    strand_context *c = open_context(&(open_with){.threads = 2});
    for (uint64_t i = 0; i < 40; i++) {
        randoms r = {seed + i};
        strand_model *m = dag_model(c, seed + i, 8 + (int)random_below(&r, 22));
        under_ever_smaller_limits(m, "cpu", seed + i, 1 + random_below(&r, 2), 300 + random_below(&r, DAG_MAX_LENGTH - 300),
                                  &t);
        strand_model_close(m);
    }
    strand_context_close(c);
    print_message("  %d plans: %d tiled, %d with kept and %d with recomputed constants, %d with prepared ones; %d refusals\n",
                  t.plans, t.tiled, t.kept, t.recomputed, t.prepared, t.refused);
    assert_true(t.tiled > 30 && t.kept > 20 && t.recomputed > 20 && t.prepared > 20 && t.refused > 10 && t.least == t.refused);
}

static void smaller_runs_in_a_larger_session(void **state) {
    (void)state;
    uint64_t seed = random_seed("extents", 2000);
    strand_context *c = open_context(&(open_with){.threads = 1}), *many = open_context(&(open_with){.threads = 3});
    for (uint64_t i = 0; i < 12; i++) {
        randoms r = {seed + i};
        int nodes = 8 + (int)random_below(&r, 16);
        strand_model *m = dag_model(c, seed + i, nodes), *same = dag_model(many, seed + i, nodes);
        strand_plan *p;
        strand_session *s;
        strand_plan_params pp = params("cpu", 3, DAG_MAX_LENGTH, 0);
        tally t = {0};
        if (i % 2) { /* a tiled one: its tiles are of the maximum's size */
            assert_ok(c, strand_plan_open(m, &pp, &p));
            pp.memory_limit = p->block_bytes * 3 / 5;
            strand_plan_close(p);
            if (strand_plan_open(m, &pp, &p))
                pp.memory_limit = 0;
            else
                strand_plan_close(p);
        }
        assert_ok(c, strand_plan_open(m, &pp, &p));
        assert_ok(c, strand_session_open(p, NULL, &s));
        for (int k = 0; k < 4; k++) {
            int64_t batch = 1 + random_below(&r, 3), length = 1 + random_below(&r, k ? DAG_MAX_LENGTH : 40);
            float *x = dag_input(m, seed, batch, length);
            dag_results large = dag_run(s, m, x, batch, length), exact, row;
            uint64_t bytes;
            strand_plan_params fit = params("cpu", batch, length, 0), one = params("cpu", 1, length, 0);
            char what[128];
            snprintf(what, sizeof what, "seed %llu, %lld x %lld", (unsigned long long)(seed + i), (long long)batch,
                     (long long)length);
            assert_true(run_within(same, &fit, x, batch, length, &exact, &t, &bytes));
            dag_same(&large, &exact, what); /* also: one thread and three */
            int64_t b = batch - 1, d = dag_input_channels(m);
            assert_true(run_within(m, &one, x + b * length * d, 1, length, &row, &t, &bytes));
            for (int o = 0; o < row.n; o++)
                assert_same_bytes(row.data[o], (char *)large.data[o] + (uint64_t)b * row.bytes[o], row.bytes[o], what);
            dag_free(&row);
            dag_free(&exact);
            dag_free(&large);
            free(x);
        }
        strand_session_close(s);
        strand_plan_close(p);
        strand_model_close(m);
        strand_model_close(same);
    }
    strand_context_close(c);
    strand_context_close(many);
}

#ifndef TEST_STATIC
/* Odd lengths, both queues, with and without prepared constants and groups, and tiled. */
static void devices_agree(void **state) {
    (void)state;
    uint64_t seed = random_seed("devices", 3000);
    tally t = {0};
    double worst = 0;
    for (uint64_t i = 0; i < 36; i++) {
        char subset[24];
        log_count log = {0};
        randoms r = {seed + i};
        snprintf(subset, sizeof subset, "%llu", (unsigned long long)(seed + i));
        faraway_env(i % 2 ? "thread" : NULL, i % 4 == 3 ? NULL : subset, NULL);
        setenv("STRAND_FARAWAY_PREPARE", i % 3 ? "1" : "0", 1);
        setenv("STRAND_FARAWAY_CLAIM", i % 5 ? "1" : "0", 1);
        strand_context *c = open_context(&(open_with){.threads = 2, .faraway = true, .log = &log});
        strand_model *m = dag_model(c, seed + i, 10 + (int)random_below(&r, 16));
        int64_t batch = 1 + random_below(&r, 2), length = 1 + random_below(&r, i % 2 ? 300 : 1100);
        float *x = dag_input(m, seed + i, batch, length);
        dag_results alone, mixed, judged;
        uint64_t bytes;
        strand_plan_params cpu = params("cpu", batch, length, 0), both = params("faraway,cpu", batch, length, 0),
                           judge = params("cpu-reference,faraway", batch, length, 0);
        assert_true(run_within(m, &cpu, x, batch, length, &alone, &t, &bytes));
        assert_true(run_within(m, &both, x, batch, length, &mixed, &t, &bytes));
        assert_true(run_within(m, &judge, x, batch, length, &judged, &t, &bytes));
        double d = dag_difference(&judged, &mixed), e = dag_difference(&judged, &alone);
        if (d > worst) worst = d;
        if (!(d < 5e-4) || !(e < 5e-4))
            fail_msg("seed %llu: faraway,cpu is %.2e and cpu %.2e from the reference", (unsigned long long)(seed + i), d, e);
        under_ever_smaller_limits(m, "faraway,cpu", seed + i, batch, length, &t);
        dag_free(&alone);
        dag_free(&mixed);
        dag_free(&judged);
        free(x);
        strand_model_close(m);
        strand_context_close(c);
        if (log.violations || log.errors) fail_msg("seed %llu: %s", (unsigned long long)(seed + i), log.last);
    }
    unsetenv("STRAND_FARAWAY_PREPARE");
    unsetenv("STRAND_FARAWAY_CLAIM");
    faraway_env(NULL, NULL, NULL);
    print_message("  %d plans: %d tiled, %d with groups, %d with prepared constants; worst difference %.1e\n", t.plans, t.tiled,
                  t.groups, t.prepared, worst);
    assert_true(t.groups > 20 && t.tiled > 8 && t.prepared > 10);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_change_no_byte),
        cmocka_unit_test(smaller_runs_in_a_larger_session),
#ifndef TEST_STATIC
        cmocka_unit_test(devices_agree),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

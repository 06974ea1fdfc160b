/* test_trace.c - what a session tells of its steps: every operator of the plan, once a tile; times that fit into the run;
 * nothing kept in a second run; and no word to a caller compiled before there was a trace. */
#include "dag.h"

#include <time.h>

#define CHECKPOINT "tests/golden/dna/hyenadna-d32-n2-l333-classifier"
#define LENGTH     200

typedef struct heard {
    int calls, kept, moved, prepared, with_node, operators;
    int64_t tiles_seen[512]; /* of each operator of the plan */
    double seconds, work, last_begin;
    strand_plan *plan;
} heard;

static void on_step(void *user, const strand_step_info *step) {
    heard *h = user;
    strand_plan_node_info node;
    h->calls++;
    assert_int_equal(step->size, sizeof *step);
    assert_true(step->seconds >= 0 && step->begin >= h->last_begin);
    assert_true(step->tile >= 0 && step->tile < step->tiles);
    assert_true(step->name && step->op && step->backend);
    h->last_begin = step->begin;
    h->seconds += step->seconds;
    h->kept += step->kept != 0;
    if (!strcmp(step->kind, "prepare")) {
        h->prepared++;
        return;
    }
    if (!strcmp(step->kind, "input") || !strcmp(step->kind, "copy")) {
        assert_true(step->node == -1 && step->nodes == 0 && !step->op[0] && step->work == 0);
        h->moved++;
        return;
    }
    assert_string_equal(step->kind, "launch");
    assert_true(step->nodes >= 1 && step->work >= 0);
    h->work += step->kept ? 0 : step->work;
    assert_int_equal(strand_plan_node(h->plan, step->node, &node), STRAND_OK);
    assert_string_equal(node.name, step->name);
    assert_string_equal(node.op, step->op);
    assert_string_equal(node.backend, step->backend);
    for (int32_t i = 0; i < step->nodes; i++) {
        assert_int_equal(h->tiles_seen[step->node + i], step->tile);
        h->tiles_seen[step->node + i]++;
    }
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct traced {
    strand_context *c;
    strand_model *m;
    strand_plan *p;
    strand_session *s;
    heard h;
    int64_t ids[2 * LENGTH];
    float logits[2 * LENGTH * 16];
} traced;

static void open_traced(traced *t, const open_with *how, const char *backends, uint64_t limit, uint32_t params_size) {
    strand_plan_params pp;
    strand_session_params sp;
    memset(t, 0, sizeof *t);
    t->c = open_context(how);
    assert_ok(t->c, strand_model_open(t->c, source_path(CHECKPOINT), NULL, &t->m));
    strand_plan_params_init(&pp);
    strand_session_params_init(&sp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = backends;
    pp.memory_limit = limit;
    assert_ok(t->c, strand_plan_open(t->m, &pp, &t->p));
    sp.size = params_size;
    sp.trace = on_step;
    sp.trace_user = &t->h;
    t->h.plan = t->p;
    assert_ok(t->c, strand_session_open(t->p, &sp, &t->s));
    for (int i = 0; i < 2 * LENGTH; i++) t->ids[i] = 7 + i * 7 % 4;
}

static void close_traced(traced *t) {
    strand_session_close(t->s);
    strand_plan_close(t->p);
    strand_model_close(t->m);
    strand_context_close(t->c);
}

/* Runs, and returns the seconds that it took. */
static double run_traced(traced *t, int64_t length) {
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, length}, t->ids, (uint64_t)(2 * length) * 8},
                  out = {.name = "logits", .data = t->logits, .bytes = sizeof t->logits};
    strand_plan *plan = t->p;
    memset(&t->h, 0, sizeof t->h);
    t->h.plan = plan;
    double begin = seconds_now();
    if (strand_session_run(t->s, &in, 1, &out, 1)) fail_msg("%s", strand_session_error(t->s));
    return seconds_now() - begin;
}

/* `first`: of this length, so that what is kept is made. */
static void check_run(traced *t, int64_t length, bool first) {
    strand_plan_info info;
    strand_plan_node_info node;
    double took = run_traced(t, length);
    assert_int_equal(strand_plan_get(t->p, &info), STRAND_OK);
    assert_true(t->h.moved >= 1);
    assert_true(t->h.seconds <= took && t->h.last_begin <= took);
    assert_true(t->h.work > 0);
    if (!first) assert_int_equal(t->h.kept, 0);
    for (int32_t i = 0; i < info.nodes; i++) {
        assert_int_equal(strand_plan_node(t->p, i, &node), STRAND_OK);
        if (node.kept && !first)
            assert_int_equal(t->h.tiles_seen[i], 0);
        else if (length == LENGTH)
            assert_int_equal(t->h.tiles_seen[i], node.tiles);
        else
            assert_true(t->h.tiles_seen[i] >= 1 && t->h.tiles_seen[i] <= node.tiles);
    }
}

static void check_traced(const open_with *how, const char *backends, uint64_t limit) {
    static traced t;
    open_traced(&t, how, backends, limit, sizeof(strand_session_params));
    strand_plan_info info;
    assert_int_equal(strand_plan_get(t.p, &info), STRAND_OK);
    assert_int_equal(info.regions > 0, limit > 0);
    check_run(&t, LENGTH, true);
    assert_true(limit || t.h.kept > 0); /* the filters */
    double whole = t.h.work;
    check_run(&t, LENGTH, false);
    assert_true(t.h.work == whole);
    if (!limit) check_run(&t, LENGTH / 2, true);
    if (!limit) assert_true(t.h.work < whole);
    close_traced(&t);
}

static void on_the_cpu(void **state) {
    (void)state;
    check_traced(&(open_with){.threads = 2}, "cpu", 0);
}

/* The least that can be planned: everything that can be cut is. */
static void with_tiles(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){0});
    strand_model *m;
    strand_plan *p;
    strand_plan_params pp;
    assert_ok(c, strand_model_open(c, source_path(CHECKPOINT), NULL, &m));
    strand_plan_params_init(&pp);
    pp.max_batch = 2, pp.max_length = LENGTH, pp.backends = "cpu";
    uint64_t least = 0;
    for (uint64_t limit = 64 << 10; !least && limit < 64 << 20; limit += limit / 8) {
        pp.memory_limit = limit;
        if (strand_plan_open(m, &pp, &p)) continue;
        strand_plan_info info;
        assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
        strand_plan_close(p);
        if (info.regions) least = limit;
        break;
    }
    strand_model_close(m);
    strand_context_close(c);
    if (!least) {
        print_message("no tiled plan of this model\n");
        skip();
    }
    check_traced(&(open_with){0}, "cpu", least);
}

#ifndef TEST_STATIC
/* A device with a queue and memory of its own: the session waits for each step, and tells of the copies. */
static void with_faraway(void **state) {
    static traced t;
    (void)state;
    faraway_env("3", NULL, NULL);
    open_traced(&t, &(open_with){.faraway = true}, "faraway,cpu", 0, sizeof(strand_session_params));
    check_run(&t, LENGTH, true);
    assert_true(t.h.moved >= 2);
    check_run(&t, LENGTH, false);
    close_traced(&t);
    faraway_env(NULL, NULL, NULL);
}
#endif

/* The struct as it was before: what stands behind it is not read. */
static void an_older_caller(void **state) {
    static traced t;
    (void)state;
    open_traced(&t, &(open_with){0}, "cpu", 0, offsetof(strand_session_params, trace));
    run_traced(&t, LENGTH);
    assert_int_equal(t.h.calls, 0);
    close_traced(&t);
}

/* The same bytes with and without. */
static void same_results(void **state) {
    static traced with, without;
    (void)state;
    open_traced(&with, &(open_with){0}, "cpu", 0, sizeof(strand_session_params));
    open_traced(&without, &(open_with){0}, "cpu", 0, offsetof(strand_session_params, trace));
    run_traced(&with, LENGTH);
    run_traced(&without, LENGTH);
    assert_same_bytes(without.logits, with.logits, sizeof with.logits, "with a trace");
    close_traced(&with);
    close_traced(&without);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_cpu),
        cmocka_unit_test(with_tiles),
#ifndef TEST_STATIC
        cmocka_unit_test(with_faraway),
#endif
        cmocka_unit_test(an_older_caller),
        cmocka_unit_test(same_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

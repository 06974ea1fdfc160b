/* test_state_device.c - states that live on a device of its own memory: a session on it and one on the CPU go through the
 * same runs, resets, saves, loads and forks in lockstep, and must give the same bytes, saved ones too; whichever nodes the
 * device takes, recorded or launched, and when the device fails at every call in turn. */
#include "dag.h"

#define C    8
#define ROWS 3

/* total: lies under its next value. previous: is read again after its next value is made, and so must be copied. */
static strand_model *model(strand_context *c) {
    strand_model *m = dag_weighted(c);
    graph *g = &m->graph;
    float *half = ARENA_ARRAY(&m->arena, float, C), *start = ARENA_ARRAY(&m->arena, float, C);
    assert_true(half && start);
    for (int i = 0; i < C; i++) {
        half[i] = 0.5f + 0.03f * (float)i;
        start[i] = 1.0f - 0.3f * (float)i;
    }
    op_dim row[] = {DIM_B, DIM(C)}, w[] = {DIM(1), DIM(C)};
    const strand_op_binary add = {.kind = STRAND_BINARY_ADD}, mul = {.kind = STRAND_BINARY_MUL};
    tensor_id x = graph_input(g, "x", STRAND_F32, 2, row), h = graph_weight(g, "half", STRAND_F32, 2, w, half);
    tensor_id total = graph_state(g, "total", STRAND_F32, 2, row), previous = graph_state(g, "previous", STRAND_F32, 2, row);
    graph_state_start(g, total, start);
    tensor_id total_next = graph_op(g, "total", STRAND_OP_BINARY, &add, (tensor_id[]){total, x}, 2, NULL);
    tensor_id decayed = graph_op(g, "decay", STRAND_OP_BINARY, &mul, (tensor_id[]){previous, h}, 2, NULL);
    tensor_id next = graph_op(g, "next", STRAND_OP_BINARY, &add, (tensor_id[]){decayed, x}, 2, NULL);
    tensor_id both = graph_op(g, "both", STRAND_OP_BINARY, &mul, (tensor_id[]){next, previous}, 2, NULL);
    graph_output_add(g, "y", graph_op(g, "y", STRAND_OP_BINARY, &add, (tensor_id[]){both, total_next}, 2, NULL));
    graph_state_next(g, total, total_next);
    graph_state_next(g, previous, next);
    if (graph_check(g)) fail_msg("%s", g->error.text);
    m->max_length = m->window = 1;
    return m;
}

typedef struct side {
    strand_plan *plan;
    strand_session *s; /* NULL: did not open */
} side;

static side open_side(strand_context *c, strand_model *m, const char *backends) {
    strand_plan_params p;
    side x = {0};
    strand_plan_params_init(&p);
    p.max_batch = ROWS;
    p.max_length = 1;
    p.backends = backends;
    assert_ok(c, strand_plan_open(m, &p, &x.plan));
    strand_session_open(x.plan, NULL, &x.s);
    return x;
}

static void close_side(side *x) {
    strand_session_close(x->s);
    strand_plan_close(x->plan);
}

static strand_status feed(strand_session *s, const float *x, int64_t batch, float *y) {
    union {
        const float *read;
        float *any;
    } in = {x};
    strand_tensor input = {"x", STRAND_F32, 2, {batch, C}, in.any, (uint64_t)batch * C * 4},
                  output = {.name = "y", .data = y, .bytes = ROWS * C * 4};
    return strand_session_run(s, &input, 1, &output, 1);
}

#define SAVED 512

static size_t save(strand_session *s, int64_t row, unsigned char *to, strand_status *status) {
    size_t bytes = 0;
    *status = strand_session_save(s, row, to, SAVED, &bytes);
    return bytes;
}

/* A device that failed: the row (-1: all) is lost on it or is as it was; both sides begin again. False when it fails for
 * good. */
static bool again(strand_session *cpu, strand_session *far) {
    assert_true(strlen(strand_session_error(far)) > 10);
    if (strand_session_reset(far, -1) && strand_session_reset(far, -1)) {
        for (int64_t r = 0; r < ROWS; r++) assert_int_equal(strand_session_position(far, r), -1);
        return false;
    }
    assert_int_equal(strand_session_reset(cpu, -1), STRAND_OK);
    return true;
}

/* One random action on both; false when the device failed in it. */
static bool act(randoms *r, strand_session *cpu, strand_session *far) {
    static unsigned char a[SAVED], b[SAVED];
    float x[ROWS * C], want[ROWS * C], got[ROWS * C];
    int64_t row = random_below(r, ROWS), other = random_below(r, ROWS), batch = 1 + random_below(r, ROWS);
    uint32_t what = random_below(r, 8);
    strand_status status;
    random_fill(r, x, ROWS * C, 1);
    if (what == 0) {
        assert_int_equal(strand_session_reset(cpu, row), STRAND_OK);
        if (!strand_session_reset(far, row)) return true;
        assert_int_equal(strand_session_position(far, row), -1);
        return false;
    }
    if (what == 1) {
        size_t n = save(cpu, row, a, &status), m;
        int64_t at = strand_session_position(far, row);
        assert_int_equal(status, STRAND_OK);
        m = save(far, row, b, &status);
        if (status) { /* nothing is lost by a save */
            assert_int_equal(strand_session_position(far, row), at);
            return false;
        }
        assert_int_equal(n, m);
        assert_same_bytes(a, b, n, "a saved row");
        assert_int_equal(strand_session_load(cpu, other, a, n), STRAND_OK);
        if (!strand_session_load(far, other, b, m)) return true;
        assert_int_equal(strand_session_position(far, other), -1);
        return false;
    }
    assert_int_equal(feed(cpu, x, batch, want), STRAND_OK);
    if (feed(far, x, batch, got)) {
        for (int64_t i = 0; i < batch; i++) assert_int_equal(strand_session_position(far, i), -1);
        return false;
    }
    assert_same_bytes(want, got, (size_t)batch * C * 4, "y");
    for (int64_t i = 0; i < ROWS; i++) assert_int_equal(strand_session_position(cpu, i), strand_session_position(far, i));
    return true;
}

typedef struct counts {
    int homes, copies, recorded, failed, lost;
} counts;

static void lockstep(uint64_t seed, const char *queue, const char *subset, const char *fault, counts *n) {
    counting memory = {0};
    log_count log = {0};
    randoms r = {seed};
    faraway_env(queue, subset, fault);
    strand_context *c = open_context(&(open_with){.threads = 1, .faraway = true, .memory = &memory, .log = &log});
    strand_model *m = model(c);
    side cpu = open_side(c, m, "cpu"), far = open_side(c, m, "faraway,cpu");
    assert_non_null(cpu.s);
    const schedule *sc = &far.plan->schedule;
    for (uint32_t i = 0; i < sc->n_states; i++) n->homes += sc->instances[sc->states[i]].space != 0;
    for (uint32_t i = 0; i < sc->n_steps; i++)
        n->copies += sc->steps[i].kind == STEP_STATE && sc->instances[sc->steps[i].to].space != 0;
    n->failed += !far.s;
    for (int i = 0; i < 60 && far.s; i++) {
        if (act(&r, cpu.s, far.s)) continue;
        n->failed++;
        if (!fault) fail_msg("%s", strand_session_error(far.s));
        if (again(cpu.s, far.s)) continue;
        n->lost++;
        break;
    }
    for (uint32_t i = 0; far.s && i < sc->n_segments * SEGMENT_SHAPES; i++) n->recorded += far.s->segments[i] != NULL;
    close_side(&far);
    close_side(&cpu);
    strand_model_close(m);
    strand_context_close(c);
    faraway_env(NULL, NULL, NULL);
    if (log.violations) fail_msg("%s", log.last);
    if (memory.live || memory.wrong) fail_msg("%ld blocks are left, %ld freed wrongly", memory.live, memory.wrong);
}

static void in_lockstep(void **state) {
    (void)state;
    uint64_t seed = random_seed("state on a device", 21);
    counts n = {0}, plain = {0};
    setenv("STRAND_FARAWAY_DELAY_US", "0", 1);
    lockstep(seed, NULL, NULL, NULL, &n);
    assert_int_equal(n.homes, 2);
    assert_int_equal(n.copies, 1);
    assert_true(n.recorded > 0);
    for (int i = 1; i < 24; i++) {
        char subset[16];
        snprintf(subset, sizeof subset, "%d", i);
        lockstep(seed + (uint64_t)i, i % 3 ? NULL : "thread", subset, NULL, &n);
    }
    setenv("STRAND_FARAWAY_RECORD", "0", 1);
    lockstep(seed, NULL, NULL, NULL, &plain);
    assert_int_equal(plain.recorded, 0);
    unsetenv("STRAND_FARAWAY_RECORD");
    unsetenv("STRAND_FARAWAY_DELAY_US");
    print_message("  %d states on the device, %d copied there, %d recordings\n", n.homes, n.copies, n.recorded);
    assert_true(n.homes > 10 && n.homes < 46);
}

static void with_faults(void **state) {
    (void)state;
    static const char *const kinds[] = {"upload", "download", "copy", "launch", "late", "wait", "replay"};
    uint64_t seed = random_seed("state on a failing device", 22);
    setenv("STRAND_FARAWAY_DELAY_US", "0", 1);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        counts n = {0};
        for (int i = 1; i < 60; i += i < 20 ? 1 : 7) {
            char fault[64];
            snprintf(fault, sizeof fault, "%s:%d:%d%s", kinds[k], i, STRAND_PLUGIN_ERR_DEVICE, i % 3 == 2 ? ":lost" : "");
            lockstep(seed + (uint64_t)i, i % 4 == 3 ? "thread" : NULL, NULL, fault, &n);
        }
        print_message("  %-9s failed %d times, %d for good\n", kinds[k], n.failed, n.lost);
        assert_true(n.failed > 3 && n.lost > 0);
    }
    unsetenv("STRAND_FARAWAY_DELAY_US");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_lockstep), cmocka_unit_test(with_faults)};
    return cmocka_run_group_tests_name("state on a device", tests, NULL, NULL);
}

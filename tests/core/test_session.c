/* test_session.c - a session as its user meets it: a block of the caller's, progress and cancelling at every step, wrong inputs
 * and outputs, results that are not finite, settings of a plan that cannot be. */
#include "dag.h"

#include <math.h>
#include <pthread.h>

#define CHECKPOINT "tests/golden/dna/hyenadna-d32-n2-l333-classifier"
#define LENGTH     200

typedef struct watch {
    int calls, stop_at;
    double last;
    bool back;
} watch;

static int on_progress(void *user, double done) {
    watch *w = user;
    w->calls++;
    if (done < w->last || done < 0 || done > 1) w->back = true;
    w->last = done;
    return w->stop_at && w->calls == w->stop_at;
}

typedef struct bench {
    strand_context *c;
    strand_model *m;
    strand_plan *p;
    int64_t ids[2 * LENGTH];
    strand_tensor in;
} bench;

static void open_bench(bench *b, const open_with *how, const char *backends, uint64_t limit) {
    strand_plan_params pp;
    memset(b, 0, sizeof *b);
    b->c = open_context(how);
    assert_ok(b->c, strand_model_open(b->c, source_path(CHECKPOINT), NULL, &b->m));
    strand_plan_params_init(&pp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = backends;
    pp.memory_limit = limit;
    assert_ok(b->c, strand_plan_open(b->m, &pp, &b->p));
    randoms r = {5};
    for (int i = 0; i < 2 * LENGTH; i++) b->ids[i] = 7 + random_below(&r, 4);
    b->in = (strand_tensor){"input_ids", STRAND_I64, 2, {2, LENGTH}, b->ids, sizeof b->ids};
}

static void close_bench(bench *b) {
    strand_plan_close(b->p);
    strand_model_close(b->m);
    strand_context_close(b->c);
}

static void run_logits(strand_session *s, const strand_tensor *in, float *to, size_t bytes) {
    strand_tensor out = {.name = "logits", .data = to, .bytes = bytes};
    if (strand_session_run(s, in, 1, &out, 1)) fail_msg("%s", strand_session_error(s));
    assert_int_equal(out.bytes, (uint64_t)(in->dims[0] * in->dims[1] * 16) * sizeof(float));
}

static float expected[2 * LENGTH * 16], have[2 * LENGTH * 16];

static void in_a_block_of_the_callers(void **state) {
    (void)state;
    counting memory = {0};
    bench b;
    strand_session *s;
    strand_plan_info info;
    open_bench(&b, &(open_with){.memory = &memory, .threads = 2}, "cpu", 0);
    assert_int_equal(strand_plan_get(b.p, &info), STRAND_OK);
    assert_ok(b.c, strand_session_open(b.p, NULL, &s));
    run_logits(s, &b.in, expected, sizeof expected);
    strand_session_close(s);
    size_t bytes = (size_t)info.block_bytes;
    unsigned char *raw = aligned_alloc(4096, (bytes + 8192) & ~(size_t)4095);
    for (size_t shift = 64; shift <= 64 * 15; shift += 64 * 7) { /* aligned to 64 and no more */
        strand_session_params sp;
        unsigned char *block = raw + shift;
        memset(raw, 0x5a, bytes + shift + 64);
        strand_session_params_init(&sp);
        sp.block = block;
        sp.block_bytes = bytes;
        long calls = memory.calls;
        assert_ok(b.c, strand_session_open(b.p, &sp, &s));
        run_logits(s, &b.in, have, sizeof have);
        strand_tensor out = {.name = "hidden"};
        assert_int_equal(strand_session_run(s, &b.in, 1, &out, 1), STRAND_OK);
        assert_true((unsigned char *)out.data >= block && (unsigned char *)out.data + out.bytes <= block + bytes);
        strand_session_close(s);
        assert_int_equal(memory.calls, calls); /* nothing was allocated meanwhile */
        assert_same_bytes(expected, have, sizeof have, "in a block");
        for (size_t i = 0; i < shift; i++) assert_int_equal(raw[i], 0x5a);
        for (size_t i = 0; i < 64; i++) assert_int_equal(block[bytes + i], 0x5a);
    }
    strand_session_params sp;
    strand_session_params_init(&sp);
    s = NULL;
    sp.block = raw + 32;
    sp.block_bytes = bytes + 1000;
    assert_int_equal(strand_session_open(b.p, &sp, &s), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_error(b.c), "aligned to 64"));
    sp.block = raw;
    sp.block_bytes = bytes - 1;
    assert_int_equal(strand_session_open(b.p, &sp, &s), STRAND_ERR_MEMORY);
    assert_non_null(strstr(strand_error(b.c), "this plan needs"));
    assert_null(s);
    free(raw);
    close_bench(&b);
    assert_int_equal(memory.live, 0);
    assert_int_equal(memory.wrong, 0);
}

/* Progress never goes back and ends at 1; a cancel at any of its calls leaves the session usable. */
static void progress_and_cancel(const open_with *how, const char *backends, uint64_t limit, int stride) {
    bench b;
    log_count log = {0};
    open_with logged = *how;
    logged.log = &log;
    open_bench(&b, &logged, backends, limit);
    watch w = {0};
    strand_session_params sp;
    strand_session *s;
    strand_session_params_init(&sp);
    sp.progress = on_progress;
    sp.progress_user = &w;
    assert_ok(b.c, strand_session_open(b.p, &sp, &s));
    run_logits(s, &b.in, expected, sizeof expected);
    assert_false(w.back);
    assert_true(w.last > 0.999);
    int calls = w.calls;
    assert_true(calls > 10);
    for (int stop = 1; stop <= calls; stop += stride) {
        strand_tensor out = {.name = "logits", .data = have, .bytes = sizeof have}, before = out;
        strand_session_close(s);
        w = (watch){.stop_at = stop};
        assert_ok(b.c, strand_session_open(b.p, &sp, &s));
        have[0] = 12345;
        assert_int_equal(strand_session_run(s, &b.in, 1, &out, 1), STRAND_ERR_CANCELLED);
        assert_string_equal(strand_session_error(s), "cancelled");
        assert_memory_equal(&out, &before, sizeof out);
        assert_true(have[0] == 12345);
        w = (watch){0};
        run_logits(s, &b.in, have, sizeof have);
        assert_false(w.back);
        assert_same_bytes(expected, have, sizeof have, "after a cancelled run");
    }
    strand_session_close(s);
    close_bench(&b);
    assert_int_equal(log.violations, 0);
}

static void cancel_on_the_cpu(void **state) {
    (void)state;
    progress_and_cancel(&(open_with){.threads = 2}, "cpu", 0, 1);
}

/* Some limit under which the plan is tiled. */
static uint64_t tight_limit(void) {
    bench b;
    strand_plan_info info;
    strand_plan_params pp;
    uint64_t limit = 0;
    open_bench(&b, &(open_with){0}, "cpu", 0);
    assert_int_equal(strand_plan_get(b.p, &info), STRAND_OK);
    strand_plan_params_init(&pp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = "cpu";
    for (uint64_t percent = 95; percent > 20 && !limit; percent -= 5) {
        strand_plan *p;
        pp.memory_limit = info.block_bytes * percent / 100;
        if (strand_plan_open(b.m, &pp, &p)) continue;
        strand_plan_info tiled;
        assert_int_equal(strand_plan_get(p, &tiled), STRAND_OK);
        if (tiled.regions) limit = pp.memory_limit;
        strand_plan_close(p);
    }
    close_bench(&b);
    assert_true(limit > 0);
    return limit;
}

static void cancel_between_tiles(void **state) {
    (void)state;
    progress_and_cancel(&(open_with){0}, "cpu", tight_limit(), 1);
}

#ifndef TEST_STATIC
static void cancel_with_faraway(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        faraway_env(i ? "thread" : NULL, "9", NULL);
        setenv("STRAND_FARAWAY_DELAY_US", "1", 1);
        progress_and_cancel(&(open_with){.faraway = true}, "faraway,cpu", 0, 3);
    }
    unsetenv("STRAND_FARAWAY_DELAY_US");
    faraway_env(NULL, NULL, NULL);
}
#endif

/* Each: what is wrong, the status, words of the text. The session stays usable, the outputs untouched. */
static void wrong_inputs(void **state) {
    (void)state;
    bench b;
    strand_session *s;
    open_bench(&b, &(open_with){0}, "cpu", 0);
    assert_ok(b.c, strand_session_open(b.p, NULL, &s));
    strand_tensor good = b.in;
    float x[64] = {0};
    const struct {
        strand_tensor in;
        strand_status status;
        const char *says;
    } cases[] = {
        {{"ids", STRAND_I64, 2, {1, LENGTH}, b.ids, sizeof b.ids}, STRAND_ERR_ARGUMENT, "no input 'ids'"},
        {{NULL, STRAND_I64, 2, {1, LENGTH}, b.ids, sizeof b.ids}, STRAND_ERR_ARGUMENT, "no input ''"},
        {{"input_ids", STRAND_F32, 2, {1, 8}, x, sizeof x}, STRAND_ERR_ARGUMENT, "is F32, the model takes I64"},
        {{"input_ids", STRAND_U64, 2, {1, 8}, b.ids, 64}, STRAND_ERR_ARGUMENT, "is U64"},
        {{"input_ids", STRAND_I64, 1, {LENGTH}, b.ids, sizeof b.ids}, STRAND_ERR_ARGUMENT, "has 1 axes, the model takes 2"},
        {{"input_ids", STRAND_I64, 2, {0, LENGTH}, b.ids, sizeof b.ids}, STRAND_ERR_ARGUMENT, "axis 0 is empty"},
        {{"input_ids", STRAND_I64, 2, {1, -4}, b.ids, sizeof b.ids}, STRAND_ERR_ARGUMENT, "axis 1 is empty"},
        {{"input_ids", STRAND_I64, 2, {3, 10}, b.ids, sizeof b.ids},
         STRAND_ERR_LIMIT,
         "a batch of 3 is more than the session was planned for (2)"},
        {{"input_ids", STRAND_I64, 2, {1, LENGTH + 1}, b.ids, sizeof b.ids}, STRAND_ERR_LIMIT, "a length of 201 is more"},
        {{"input_ids", STRAND_I64, 2, {2, LENGTH}, b.ids, sizeof b.ids - 1}, STRAND_ERR_ARGUMENT, "its shape needs 3200"},
        {{"input_ids", STRAND_I64, 2, {2, LENGTH}, NULL, sizeof b.ids}, STRAND_ERR_ARGUMENT, "bytes of data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        strand_tensor out = {.name = "logits"}, before = out;
        strand_status status = strand_session_run(s, &cases[i].in, 1, &out, 1);
        if (status != cases[i].status || !strstr(strand_session_error(s), cases[i].says))
            fail_msg("case %zu: %s: \"%s\", expected \"%s\"", i, strand_status_name(status), strand_session_error(s),
                     cases[i].says);
        assert_memory_equal(&out, &before, sizeof out);
    }
    strand_tensor out = {.name = "logits"};
    assert_int_equal(strand_session_run(s, NULL, 0, &out, 1), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_session_error(s), "input 'input_ids' is missing"));
    assert_int_equal(strand_session_run(s, NULL, 1, &out, 1), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_run(NULL, &good, 1, &out, 1), STRAND_ERR_ARGUMENT);
    /* An id outside the table is an error of the run, and names the node. */
    int64_t bad_ids[4] = {7, 8, 99, 9};
    strand_tensor outside = {"input_ids", STRAND_I64, 2, {1, 4}, bad_ids, sizeof bad_ids};
    assert_int_equal(strand_session_run(s, &outside, 1, &out, 1), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_session_error(s), "embeddings"));
    bad_ids[2] = -1;
    assert_int_equal(strand_session_run(s, &outside, 1, &out, 1), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_run(s, &good, 1, &out, 1), STRAND_OK);
    assert_string_equal(strand_session_error(s), "");
    strand_session_close(s);
    close_bench(&b);
}

static void integer_inputs_of_any_width(void **state) {
    (void)state;
    bench b;
    strand_session *s;
    int8_t i8[LENGTH];
    uint8_t u8[LENGTH];
    int16_t i16[LENGTH];
    uint16_t u16[LENGTH];
    int32_t i32[LENGTH];
    uint32_t u32[LENGTH];
    open_bench(&b, &(open_with){0}, "cpu", 0);
    for (int i = 0; i < LENGTH; i++) {
        i8[i] = (int8_t)b.ids[i];
        u8[i] = (uint8_t)b.ids[i];
        i16[i] = (int16_t)b.ids[i];
        u16[i] = (uint16_t)b.ids[i];
        i32[i] = (int32_t)b.ids[i];
        u32[i] = (uint32_t)b.ids[i];
    }
    assert_ok(b.c, strand_session_open(b.p, NULL, &s));
    b.in.dims[0] = 1;
    run_logits(s, &b.in, expected, sizeof expected);
    strand_tensor all[] = {
        {"input_ids", STRAND_I8, 2, {1, LENGTH}, i8, sizeof i8},    {"input_ids", STRAND_U8, 2, {1, LENGTH}, u8, sizeof u8},
        {"input_ids", STRAND_I16, 2, {1, LENGTH}, i16, sizeof i16}, {"input_ids", STRAND_U16, 2, {1, LENGTH}, u16, sizeof u16},
        {"input_ids", STRAND_I32, 2, {1, LENGTH}, i32, sizeof i32}, {"input_ids", STRAND_U32, 2, {1, LENGTH}, u32, sizeof u32}};
    for (int i = 0; i < 6; i++) {
        run_logits(s, &all[i], have, sizeof have);
        assert_same_bytes(expected, have, sizeof have / 2, strand_dtype_name(all[i].dtype));
    }
    strand_session_close(s);
    close_bench(&b);
}

static void outputs(void **state) {
    (void)state;
    bench b;
    strand_session *s;
    open_bench(&b, &(open_with){0}, "cpu", 0);
    assert_ok(b.c, strand_session_open(b.p, NULL, &s));
    strand_tensor unknown = {.name = "nothing"}, small = {.name = "logits", .data = have, .bytes = 100};
    assert_int_equal(strand_session_run(s, &b.in, 1, &unknown, 1), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_session_error(s), "output 'nothing'"));
    assert_int_equal(strand_session_run(s, &b.in, 1, &small, 1), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_session_error(s), "the buffer has 100"));
    strand_tensor two[2] = {{.name = "class_logits"}, {.name = "logits", .data = have, .bytes = sizeof have}};
    assert_int_equal(strand_session_run(s, &b.in, 1, two, 2), STRAND_OK);
    assert_true(two[0].rank == 2 && two[0].dims[0] == 2 && two[0].dims[1] == 5 && two[0].data && two[0].bytes == 40);
    assert_true(two[1].rank == 3 && two[1].data == have && two[1].bytes == sizeof have && two[1].dtype == STRAND_F32);
    assert_int_equal(strand_session_run(s, &b.in, 1, NULL, 0), STRAND_OK);
    /* The same struct again and again, shorter and longer: what the session set is not taken for a buffer of ours. */
    strand_tensor loop = {.name = "hidden"}, some = b.in;
    for (int i = 0; i < 3; i++) {
        some.dims[0] = 1;
        some.dims[1] = i % 2 ? LENGTH : 10;
        assert_int_equal(strand_session_run(s, &some, 1, &loop, 1), STRAND_OK);
        assert_int_equal(loop.dims[1], some.dims[1]);
    }
    strand_session_close(s);
    /* A plan for one output leaves the work for the others out, and does not make them. */
    strand_plan_params pp;
    strand_plan *one;
    strand_plan_info all, part;
    strand_plan_params_init(&pp);
    pp.max_length = LENGTH;
    pp.backends = "cpu";
    pp.outputs = "hidden";
    assert_ok(b.c, strand_plan_open(b.m, &pp, &one));
    assert_int_equal(strand_plan_get(b.p, &all), STRAND_OK);
    assert_int_equal(strand_plan_get(one, &part), STRAND_OK);
    assert_int_equal(part.nodes, all.nodes - 3); /* lm_head, head.pool and the head's product */
    assert_ok(b.c, strand_session_open(one, NULL, &s));
    b.in.dims[0] = 1;
    assert_int_equal(strand_session_run(s, &b.in, 1, two, 1), STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(strand_session_error(s), "is not made by this plan"));
    strand_session_close(s);
    strand_plan_close(one);
    close_bench(&b);
}

static void what_is_not_finite(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){0});
    strand_model *m = dag_empty(c);
    tensor_id x = graph_input(&m->graph, "x", STRAND_F32, 3, (op_dim[]){DIM_B, DIM_L, DIM(4)});
    strand_op_unary p = {STRAND_UNARY_EXP};
    graph_output_add(&m->graph, "y", graph_op(&m->graph, "exp", STRAND_OP_UNARY, &p, &x, 1, NULL));
    strand_plan *plan;
    strand_session *s;
    strand_plan_params pp;
    strand_session_params sp;
    strand_plan_params_init(&pp);
    strand_session_params_init(&sp);
    pp.max_length = 3;
    pp.backends = "cpu";
    float data[12] = {0};
    strand_tensor in = {"x", STRAND_F32, 3, {1, 3, 4}, data, sizeof data}, out = {.name = "y"};
    assert_ok(c, strand_plan_open(m, &pp, &plan));
    for (sp.check_finite = 0; sp.check_finite < 2; sp.check_finite++) {
        out.data = NULL;
        assert_ok(c, strand_session_open(plan, &sp, &s));
        data[7] = NAN;
        assert_int_equal(strand_session_run(s, &in, 1, &out, 1), sp.check_finite ? STRAND_ERR_NUMERIC : STRAND_OK);
        if (sp.check_finite) assert_string_equal(strand_session_error(s), "output 'y' holds NaN at element 7");
        data[7] = 1000;
        assert_int_equal(strand_session_run(s, &in, 1, &out, 1), sp.check_finite ? STRAND_ERR_NUMERIC : STRAND_OK);
        if (sp.check_finite) assert_string_equal(strand_session_error(s), "output 'y' holds infinity at element 7");
        data[7] = 1;
        assert_int_equal(strand_session_run(s, &in, 1, &out, 1), STRAND_OK);
        strand_session_close(s);
    }
    strand_plan_close(plan);
    strand_model_close(m);
    strand_context_close(c);
}

static void plans_that_cannot_be(void **state) {
    (void)state;
    bench b;
    open_bench(&b, &(open_with){0}, "cpu", 0);
    const struct {
        strand_plan_params p;
        strand_status status;
        const char *says;
    } cases[] = {
        {{.max_length = 2000}, STRAND_ERR_LIMIT, "1026 at most"},
        {{.max_length = -1}, STRAND_ERR_ARGUMENT, "at least 1"},
        {{.max_batch = -1}, STRAND_ERR_ARGUMENT, "at least 1"},
        {{.backends = "cpu,abacus"}, STRAND_ERR_ARGUMENT, "no backend 'abacus'"},
        {{.backends = ",cpu"}, STRAND_ERR_ARGUMENT, "no backend ''"},
        {{.outputs = "hidden,nonsense"}, STRAND_ERR_ARGUMENT, "no output 'nonsense'"},
        {{.outputs = ""}, STRAND_ERR_ARGUMENT, "no output was asked for"},
        {{.memory_limit = 1000}, STRAND_ERR_LIMIT, "needs at least"},
        {{.max_batch = INT64_MAX / 2}, STRAND_ERR_LIMIT, "does not fit"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        strand_plan_params p = cases[i].p;
        strand_plan *plan = NULL;
        p.size = sizeof p;
        strand_status status = strand_plan_open(b.m, &p, &plan);
        if (status != cases[i].status || plan || !strstr(strand_error(b.c), cases[i].says))
            fail_msg("case %zu: %s: \"%s\", expected \"%s\"", i, strand_status_name(status), strand_error(b.c), cases[i].says);
    }
    strand_plan_params p;
    strand_plan *plan;
    strand_plan_params_init(&p);
    p.size = 4;
    assert_int_equal(strand_plan_open(b.m, &p, &plan), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_plan_open(NULL, NULL, &plan), STRAND_ERR_ARGUMENT);
    strand_plan_node_info node;
    strand_plan_info info;
    assert_int_equal(strand_plan_get(b.p, &info), STRAND_OK);
    assert_int_equal(strand_plan_node(b.p, info.nodes, &node), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_plan_node(b.p, -1, &node), STRAND_ERR_ARGUMENT);
    assert_true(info.peak_node[0] != 0 && info.lower_bound <= info.arena_bytes && info.arena_bytes < info.block_bytes);
    close_bench(&b);
}

typedef struct one_of_two {
    strand_session *s;
    const strand_tensor *in;
    float logits[2 * LENGTH * 16];
    strand_status status;
} one_of_two;

static void *run_many(void *arg) {
    one_of_two *o = arg;
    for (int i = 0; i < 5 && !o->status; i++) {
        strand_tensor out = {.name = "logits", .data = o->logits, .bytes = sizeof o->logits};
        o->status = strand_session_run(o->s, o->in, 1, &out, 1);
    }
    return NULL;
}

/* Two sessions of one plan, each on a thread of its own, sharing the pool. */
static void two_sessions_at_once(void **state) {
    (void)state;
    static one_of_two both[2];
    pthread_t threads[2];
    bench b;
    strand_session *s;
    open_bench(&b, &(open_with){.threads = 3}, "cpu", 0);
    assert_ok(b.c, strand_session_open(b.p, NULL, &s));
    run_logits(s, &b.in, expected, sizeof expected);
    strand_session_close(s);
    for (int i = 0; i < 2; i++) {
        both[i] = (one_of_two){.in = &b.in};
        assert_ok(b.c, strand_session_open(b.p, NULL, &both[i].s));
    }
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, run_many, &both[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        if (both[i].status) fail_msg("%s", strand_session_error(both[i].s));
        assert_same_bytes(expected, both[i].logits, sizeof expected, "beside another session");
        strand_session_close(both[i].s);
    }
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sessions_at_once),
        cmocka_unit_test(in_a_block_of_the_callers),
        cmocka_unit_test(cancel_on_the_cpu),
        cmocka_unit_test(cancel_between_tiles),
#ifndef TEST_STATIC
        cmocka_unit_test(cancel_with_faraway),
#endif
        cmocka_unit_test(wrong_inputs),
        cmocka_unit_test(integer_inputs_of_any_width),
        cmocka_unit_test(outputs),
        cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(plans_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

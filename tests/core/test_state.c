/* test_state.c - what a session keeps from run to run: a model with a recurrence, a shifted token, a cache and clocks gives
 * the same in one run, in pieces of any size, in rows of a batch that are at different places, and after a state was saved,
 * loaded, forked and rolled back; on the CPU alone and through a device of its own memory. Lost, full and damaged states are
 * refused. */
#include "dag.h"

#include <math.h>

#define C 8
#define CONTEXT 96

/* y = attention over everything seen so far of the rotated, shifted input, plus a decaying sum of the input. */
static strand_model *stateful(strand_context *c) {
    strand_model *m = dag_weighted(c);
    graph *g = &m->graph;
    float *decay = ARENA_ARRAY(&m->arena, float, C), *start = ARENA_ARRAY(&m->arena, float, C);
    assert_true(decay && start);
    for (int i = 0; i < C; i++) {
        decay[i] = 0.5f + 0.05f * (float)i;
        start[i] = 1.0f - 0.3f * (float)i;
    }
    op_dim x_dims[] = {DIM_B, DIM_L, DIM(C)}, row[] = {DIM_B, DIM(C)}, cache[] = {DIM_B, DIM(CONTEXT), DIM(C)}, w[] = {DIM(C)};
    tensor_id x = graph_input(g, "x", STRAND_F32, 3, x_dims), a = graph_weight(g, "decay", STRAND_F32, 1, w, decay);
    tensor_id last = graph_state(g, "last", STRAND_F32, 2, row), sum = graph_state(g, "sum", STRAND_F32, 2, row);
    tensor_id keys = graph_state_cache(g, "keys", STRAND_F32, 3, cache), last_after, sum_after;
    graph_state_start(g, sum, start);
    strand_op_token_shift shift = {0};
    strand_op_linear_recurrence plain = {0};
    strand_op_rotary rotary = {.heads = 2, .rotary = C / 2, .base = 100, .position_scale = 1, .magnitude = 1};
    strand_op_cache_write write = {0};
    strand_op_attention attend = {.heads = 2, .kv_heads = 2, .scale = 0.5f, .causal = 1};
    strand_op_binary add = {.kind = STRAND_BINARY_ADD};
    tensor_id before = graph_op2(g, "shift", STRAND_OP_TOKEN_SHIFT, &shift, (tensor_id[]){x, 0, last}, 3, NULL, &last_after);
    tensor_id turned = graph_op(g, "rotary", STRAND_OP_ROTARY, &rotary, (tensor_id[]){before, graph_positions(g)}, 2, NULL);
    tensor_id filled =
        graph_op(g, "write", STRAND_OP_CACHE_WRITE, &write, (tensor_id[]){keys, turned, graph_begin(g)}, 3, NULL);
    tensor_id seen =
        graph_op(g, "attend", STRAND_OP_ATTENTION, &attend, (tensor_id[]){x, filled, filled, graph_end(g)}, 4, NULL);
    tensor_id h = graph_op2(g, "sum", STRAND_OP_LINEAR_RECURRENCE, &plain, (tensor_id[]){x, a, sum}, 3, NULL, &sum_after);
    graph_output_add(g, "y", graph_op(g, "y", STRAND_OP_BINARY, &add, (tensor_id[]){seen, h}, 2, NULL));
    graph_state_next(g, last, last_after);
    graph_state_next(g, sum, sum_after);
    graph_state_next(g, keys, filled);
    if (graph_check(g)) fail_msg("%s", g->error.text);
    m->max_length = m->window = CONTEXT;
    return m;
}

static strand_session *open_session(strand_context *c, strand_model *m, const char *backends, int64_t batch, int64_t length,
                                    strand_plan **plan) {
    strand_plan_params p;
    strand_session *s;
    strand_plan_params_init(&p);
    p.max_batch = batch;
    p.max_length = length;
    p.backends = backends;
    assert_ok(c, strand_plan_open(m, &p, plan));
    assert_ok(c, strand_session_open(*plan, NULL, &s));
    return s;
}

/* Tokens [from, to) of each row of x [batch, CONTEXT, C] into the same rows of y. */
static strand_status feed(strand_session *s, const float *x, int64_t batch, int64_t from, int64_t to, float *y) {
    size_t n = (size_t)((to - from) * C);
    float *in = malloc((size_t)batch * n * 4), *got = malloc((size_t)batch * n * 4);
    assert_true(in && got);
    for (int64_t b = 0; b < batch; b++) memcpy(in + (size_t)b * n, x + (b * CONTEXT + from) * C, n * 4);
    strand_tensor input = {"x", STRAND_F32, 3, {batch, to - from, C}, in, (uint64_t)batch * n * 4},
                  output = {.name = "y", .data = got, .bytes = (uint64_t)batch * n * 4};
    strand_status status = strand_session_run(s, &input, 1, &output, 1);
    for (int64_t b = 0; !status && b < batch; b++) memcpy(y + (b * CONTEXT + from) * C, got + (size_t)b * n, n * 4);
    free(in), free(got);
    return status;
}

static void must_feed(strand_session *s, const float *x, int64_t batch, int64_t from, int64_t to, float *y) {
    if (feed(s, x, batch, from, to, y)) fail_msg("tokens %d to %d: %s", (int)from, (int)to, strand_session_error(s));
}

static void near_whole(const float *want, const float *y, int64_t batch, const char *what) {
    size_t n = (size_t)(batch * CONTEXT * C);
    double d = largest_difference(want, y, n);
    if (!(d < 2e-6 * largest_magnitude(want, n))) fail_msg("%s: differs by %g", what, d);
}

static void pieces_on(strand_context *c, const char *backends, uint64_t seed) {
    strand_model *m = stateful(c);
    strand_plan *plan;
    static float x[3 * CONTEXT * C], whole[3 * CONTEXT * C], y[3 * CONTEXT * C];
    randoms r = {seed};
    random_fill(&r, x, 3 * CONTEXT * C, 1);
    strand_session *s = open_session(c, m, backends, 3, CONTEXT, &plan);
    for (uint32_t i = 0; !strcmp(backends, "cpu") && i < plan->schedule.n_steps; i++) /* all three lie over their states */
        assert_int_not_equal(plan->schedule.steps[i].kind, STEP_STATE);
    must_feed(s, x, 3, 0, CONTEXT, whole);
    assert_true(largest_magnitude(whole, 3 * CONTEXT * C) > 0.1);
    for (int round = 0; round < 8; round++) {
        assert_int_equal(strand_session_reset(s, -1), STRAND_OK);
        memset(y, 0, sizeof y);
        for (int64_t at = 0, to; at < CONTEXT; at = to) {
            int64_t most = round == 0 ? 1 : 1 + random_below(&r, 40);
            to = at + most < CONTEXT ? at + most : CONTEXT;
            must_feed(s, x, 3, at, to, y);
            assert_int_equal(strand_session_position(s, 2), to);
        }
        near_whole(whole, y, 3, round ? "in pieces" : "token by token");
    }
    assert_int_equal(strand_session_reset(s, -1), STRAND_OK);
    must_feed(s, x, 3, 0, CONTEXT, y);
    assert_same_bytes(whole, y, sizeof whole, "after a reset");
    strand_session_close(s);
    strand_plan_close(plan);
    strand_model_close(m);
}

static void pieces(void **state) {
    (void)state;
    uint64_t seed = random_seed("state", 11);
    strand_context *c = open_context(&(open_with){.threads = 2, .faraway = true});
    pieces_on(c, "cpu", seed);
    if (has_backend(c, "faraway")) pieces_on(c, "faraway,cpu", seed);
    strand_context_close(c);
}

static unsigned char *save(strand_session *s, int64_t row, size_t *bytes) {
    size_t again;
    if (strand_session_save(s, row, NULL, 0, bytes)) fail_msg("%s", strand_session_error(s));
    unsigned char *data = malloc(*bytes);
    assert_non_null(data);
    assert_int_equal(strand_session_save(s, row, data, *bytes - 1, &again), STRAND_ERR_MEMORY);
    assert_int_equal(again, *bytes);
    assert_int_equal(strand_session_save(s, row, data, *bytes, bytes), STRAND_OK);
    return data;
}

/* Forked into another row of another session, and rolled back in the same one: the same bytes come out. */
static void saved_and_loaded(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1, .faraway = true});
    strand_model *m = stateful(c);
    strand_plan *plan, *other_plan;
    static float x[2 * CONTEXT * C], y[2 * CONTEXT * C], again[2 * CONTEXT * C];
    randoms r = {random_seed("saved", 5)};
    random_fill(&r, x, CONTEXT * C, 1);
    memcpy(x + CONTEXT * C, x, CONTEXT * C * 4);
    strand_session *s = open_session(c, m, "cpu", 1, CONTEXT, &plan), *other = open_session(c, m, "cpu", 2, 40, &other_plan);
    must_feed(s, x, 1, 0, 37, y);
    size_t bytes, full;
    unsigned char *saved = save(s, 0, &bytes);
    must_feed(s, x, 1, 37, 60, y);
    assert_int_equal(strand_session_save(s, 0, NULL, 0, &full), STRAND_OK);
    assert_int_equal(full - bytes, 23 * C * 4); /* of the cache only what is in use */
    assert_int_equal(strand_session_load(s, 0, saved, bytes), STRAND_OK);
    assert_int_equal(strand_session_position(s, 0), 37);
    must_feed(s, x, 1, 37, 60, again);
    assert_same_bytes(y + 37 * C, again + 37 * C, 23 * C * 4, "rolled back");
    for (int64_t row = 0; row < 2; row++) assert_int_equal(strand_session_load(other, row, saved, bytes), STRAND_OK);
    memset(again, 0, sizeof again);
    must_feed(other, x, 2, 37, 60, again);
    for (int row = 0; row < 2; row++) assert_same_bytes(y + 37 * C, again + (row * CONTEXT + 37) * C, 23 * C * 4, "forked");
    /* the same fork without the saved form, and within a session */
    must_feed(other, x, 1, 60, 61, again);
    assert_int_equal(strand_session_load(s, 0, saved, bytes), STRAND_OK);
    assert_int_equal(strand_session_copy(s, 0, other, 1), STRAND_OK);
    assert_int_equal(strand_session_copy(other, 1, other, 0), STRAND_OK);
    for (int64_t row = 0; row < 2; row++) assert_int_equal(strand_session_position(other, row), 37);
    memset(again, 0, sizeof again);
    must_feed(other, x, 2, 37, 60, again);
    for (int row = 0; row < 2; row++) assert_same_bytes(y + 37 * C, again + (row * CONTEXT + 37) * C, 23 * C * 4, "copied");
    assert_int_equal(strand_session_copy(s, 1, other, 0), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_copy(s, 0, other, 2), STRAND_ERR_ARGUMENT);
    must_feed(s, x, 1, 37, 60, again);
    /* every damage is seen, and changes nothing */
    for (size_t i = 0; i < bytes; i++) {
        saved[i] ^= 0x10;
        assert_int_not_equal(strand_session_load(s, 0, saved, bytes), STRAND_OK);
        assert_true(strlen(strand_session_error(s)) > 10);
        saved[i] ^= 0x10;
    }
    for (size_t n = 0; n < bytes; n += 7) assert_int_not_equal(strand_session_load(s, 0, saved, n), STRAND_OK);
    assert_int_equal(strand_session_position(s, 0), 60);
    assert_int_equal(strand_session_load(s, 1, saved, bytes), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_load(s, -1, saved, bytes), STRAND_ERR_ARGUMENT);
    free(saved);
    strand_session_close(s);
    strand_session_close(other);
    strand_plan_close(plan);
    strand_plan_close(other_plan);
    strand_model_close(m);
    strand_context_close(c);
}

/* Rows of one batch may be at different places. */
static void rows_apart(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    strand_model *m = stateful(c);
    strand_plan *plan;
    static float x[2 * CONTEXT * C], alone[CONTEXT * C], y[2 * CONTEXT * C], shifted[2 * CONTEXT * C];
    randoms r = {random_seed("rows apart", 6)};
    random_fill(&r, x, 2 * CONTEXT * C, 1);
    strand_session *s = open_session(c, m, "cpu", 2, CONTEXT, &plan);
    must_feed(s, x + CONTEXT * C, 1, 0, 50, alone); /* the second sequence alone in row 0 */
    assert_int_equal(strand_session_reset(s, 0), STRAND_OK);
    must_feed(s, x, 1, 0, 30, y);
    /* row 0 goes on from 30, row 1 begins: row 1's tokens are moved to where `feed` takes them */
    memcpy(shifted, x, sizeof x);
    memcpy(shifted + (CONTEXT + 30) * C, x + CONTEXT * C, 50 * C * 4);
    must_feed(s, shifted, 2, 30, 80, y);
    assert_int_equal(strand_session_position(s, 0), 80);
    assert_int_equal(strand_session_position(s, 1), 50);
    double d = largest_difference(alone, y + (CONTEXT + 30) * C, 50 * C);
    assert_true(d < 2e-6 * largest_magnitude(alone, 50 * C));
    strand_session_close(s);
    strand_plan_close(plan);
    strand_model_close(m);
    strand_context_close(c);
}

static int stop(void *user, double done) {
    (void)done;
    return *(int *)user;
}

static void lost_and_full(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    strand_model *m = stateful(c);
    strand_plan *plan;
    static float x[2 * CONTEXT * C], y[2 * CONTEXT * C];
    randoms r = {7};
    random_fill(&r, x, 2 * CONTEXT * C, 1);
    strand_session *s = open_session(c, m, "cpu", 2, CONTEXT, &plan), *t;
    must_feed(s, x, 1, 0, CONTEXT, y);
    assert_int_equal(feed(s, x, 2, 0, 1, y), STRAND_ERR_LIMIT); /* row 0 is full; nothing ran */
    assert_non_null(strstr(strand_session_error(s), "context of 96"));
    assert_int_equal(strand_session_position(s, 0), CONTEXT);
    assert_int_equal(strand_session_reset(s, 5), STRAND_ERR_ARGUMENT);
    strand_session_close(s);
    int now = 1;
    size_t bytes;
    strand_session_params p;
    strand_session_params_init(&p);
    p.progress = stop;
    p.progress_user = &now;
    assert_ok(c, strand_session_open(plan, &p, &t));
    assert_int_equal(feed(t, x, 1, 0, 4, y), STRAND_ERR_CANCELLED);
    now = 0;
    assert_int_equal(strand_session_position(t, 0), -1);
    assert_int_equal(feed(t, x, 1, 0, 4, y), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_save(t, 0, NULL, 0, &bytes), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_session_reset(t, 0), STRAND_OK);
    must_feed(t, x, 2, 0, 4, y);
    strand_session_close(t);
    strand_plan_close(plan);
    strand_model_close(m);
    strand_context_close(c);
}

static void wrong_graphs(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    op_dim row[] = {DIM_B, DIM(3)}, free_row[] = {DIM_B, DIM_L}, x_dims[] = {DIM_B, DIM_L, DIM(3)};
    for (int kind = 0; kind < 4; kind++) {
        strand_model *m = dag_empty(c);
        graph *g = &m->graph;
        tensor_id x = graph_input(g, "x", STRAND_F32, 3, x_dims);
        if (kind == 0) graph_state(g, "s", STRAND_F32, 2, free_row);
        if (kind == 1) graph_state(g, "s", STRAND_F32, 2, row);
        if (kind == 2) graph_state_next(g, graph_state(g, "s", STRAND_F32, 2, row), x);
        if (kind == 3) graph_state_cache(g, "s", STRAND_F32, 1, row);
        assert_int_equal(graph_check(g), STRAND_ERR_ARGUMENT);
        assert_non_null(strstr(g->error.text, "'s'"));
        strand_model_close(m);
    }
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces), cmocka_unit_test(saved_and_loaded),
                                       cmocka_unit_test(rows_apart), cmocka_unit_test(lost_and_full),
                                       cmocka_unit_test(wrong_graphs)};
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}

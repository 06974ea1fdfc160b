/* test_two_outputs.c - operators with two outputs in a graph: a recurrence whose state comes in as an input and goes out as
 * an output, fed by weights-only tensors that one node makes in pairs. A sequence cut anywhere, with the state handed on,
 * gives what it gives whole; what nobody asks for is not made; plans under small limits hold. */
#include "dag.h"

#include <math.h>

#define C 6
#define N 4

/* y = scan(x, discretised poles), with state in and out; h = tanh of the state, so that both outputs have uses inside too. */
static strand_model *scan_model(strand_context *c, uint64_t seed) {
    strand_model *m = dag_empty(c);
    graph *g = &m->graph;
    randoms r = {seed};
    float *a = ARENA_ARRAY(&m->arena, float, C *N * 2), *dt = ARENA_ARRAY(&m->arena, float, C),
          *b = ARENA_ARRAY(&m->arena, float, C *N * 2);
    assert_true(a && dt && b);
    random_fill(&r, b, C * N * 2, 1);
    for (int i = 0; i < C * N; i++) {
        a[2 * i] = -0.5f - (float)(i % N);
        a[2 * i + 1] = 3.0f * (float)(i % N) * random_real(&r);
    }
    for (int i = 0; i < C; i++) dt[i] = 0.05f + 0.01f * (float)i;
    op_dim x_dims[] = {DIM_B, DIM_L, DIM(C)}, s_dims[] = {DIM_B, DIM(C), DIM(N), DIM(2)}, w_dims[] = {DIM(C), DIM(N), DIM(2)},
           t_dims[] = {DIM(C)};
    tensor_id x = graph_input(g, "x", STRAND_F32, 3, x_dims), state = graph_input(g, "state", STRAND_F32, 4, s_dims), after,
              coefficients;
    tensor_id wa = graph_weight(g, "a", STRAND_F32, 3, w_dims, a), wt = graph_weight(g, "dt", STRAND_F32, 1, t_dims, dt),
              wb = graph_weight(g, "b", STRAND_F32, 3, w_dims, b);
    strand_op_ssm_discretize zoh = {STRAND_SSM_ZOH, 0};
    strand_op_lti_scan scan = {.log_poles = 1, .scale = 2};
    strand_op_unary bounded = {.kind = STRAND_UNARY_TANH};
    tensor_id poles =
        graph_op2(g, "discretize", STRAND_OP_SSM_DISCRETIZE, &zoh, (tensor_id[]){wa, wt, wb}, 3, NULL, &coefficients);
    tensor_id y =
        graph_op2(g, "scan", STRAND_OP_LTI_SCAN, &scan, (tensor_id[]){x, poles, 0, coefficients, 0, state}, 6, NULL, &after);
    tensor_id h = graph_op(g, "bounded", STRAND_OP_UNARY, &bounded, &after, 1, NULL);
    graph_output_add(g, "y", y);
    graph_output_add(g, "after", after);
    graph_output_add(g, "bounded", h);
    if (g->error.status) fail_msg("%s", g->error.text);
    return m;
}

typedef struct pair {
    float *y, *after, *bounded;
} pair;

static strand_plan *plan_for(strand_context *c, strand_model *m, int64_t batch, int64_t length, const char *outputs,
                             uint64_t limit) {
    strand_plan_params p;
    strand_plan *plan;
    strand_plan_params_init(&p);
    p.max_batch = batch;
    p.max_length = length;
    p.outputs = outputs;
    p.memory_limit = limit;
    assert_ok(c, strand_plan_open(m, &p, &plan));
    return plan;
}

/* Runs [from, to) of x with a state; names the outputs that are wanted by pointers that are not NULL. */
static void run(strand_session *s, float *x, int64_t batch, int64_t length, int64_t from, int64_t to, float *state, pair *out) {
    int64_t n = to - from;
    float *part = malloc((size_t)(batch * n * C) * sizeof *part);
    assert_non_null(part);
    for (int64_t b = 0; b < batch; b++) memcpy(part + b * n * C, x + (b * length + from) * C, (size_t)(n * C) * sizeof *part);
    strand_tensor in[2] = {{"x", STRAND_F32, 3, {batch, n, C}, part, (uint64_t)(batch * n * C) * 4},
                           {"state", STRAND_F32, 4, {batch, C, N, 2}, state, (uint64_t)(batch * C * N * 2) * 4}};
    strand_tensor given[3];
    int k = 0;
    if (out->y) given[k++] = (strand_tensor){.name = "y", .data = out->y, .bytes = (uint64_t)(batch * n * C) * 4};
    if (out->after)
        given[k++] = (strand_tensor){.name = "after", .data = out->after, .bytes = (uint64_t)(batch * C * N * 2) * 4};
    if (out->bounded)
        given[k++] = (strand_tensor){.name = "bounded", .data = out->bounded, .bytes = (uint64_t)(batch * C * N * 2) * 4};
    if (strand_session_run(s, in, 2, given, k)) fail_msg("run: %s", strand_session_error(s));
    free(part);
}

static void state_in_and_out(void **state) {
    (void)state;
    uint64_t seed = random_seed("two outputs", 77);
    strand_context *c = open_context(&(open_with){.threads = 2});
    strand_model *m = scan_model(c, seed);
    for (uint64_t round = 0; round < 6; round++) {
        randoms r = {seed + round};
        int64_t batch = 1 + random_below(&r, 3), length = 2 + random_below(&r, 200), cut = 1 + random_below(&r, length - 1);
        size_t nx = (size_t)(batch * length * C), ns = (size_t)(batch * C * N * 2);
        float *x = malloc(nx * 4), *first = malloc(ns * 4), *middle = malloc(ns * 4), *y = malloc(nx * 4), *y1 = malloc(nx * 4),
              *y2 = malloc(nx * 4), *end = malloc(ns * 4), *end2 = malloc(ns * 4), *bounded = malloc(ns * 4);
        assert_true(x && first && middle && y && y1 && y2 && end && end2 && bounded);
        random_fill(&r, x, nx, 1);
        random_fill(&r, first, ns, 1);
        strand_plan *plan = plan_for(c, m, batch, length, NULL, 0);
        strand_session *s;
        assert_ok(c, strand_session_open(plan, NULL, &s));
        run(s, x, batch, length, 0, length, first, &(pair){y, end, bounded});
        for (size_t i = 0; i < ns; i++) assert_true(fabsf(bounded[i] - tanhf(end[i])) < 1e-5f);
        assert_true(largest_magnitude(y, nx) > 0.01);
        /* in two pieces, the state handed on */
        run(s, x, batch, length, 0, cut, first, &(pair){y1, middle, NULL});
        run(s, x, batch, length, cut, length, middle, &(pair){y2, end2, NULL});
        for (int64_t b = 0; b < batch; b++)
            for (int64_t t = 0; t < length; t++)
                for (int64_t k = 0; k < C; k++) {
                    float whole = y[(b * length + t) * C + k],
                          part = t < cut ? y1[(b * cut + t) * C + k] : y2[(b * (length - cut) + t - cut) * C + k];
                    if (!(fabsf(whole - part) < 1e-5f * (float)largest_magnitude(y, nx) + 1e-6f))
                        fail_msg("token %d: %g in pieces, %g whole", (int)t, (double)part, (double)whole);
                }
        assert_true(largest_difference(end, end2, ns) < 1e-5 * largest_magnitude(end, ns) + 1e-6);
        strand_session_close(s);
        /* either output alone, and under the least memory: the same bytes */
        strand_plan_info info;
        assert_ok(c, strand_plan_get(plan, &info));
        static const char *const wanted[] = {"y", "after", "bounded", "y,after"};
        for (int i = 0; i < 4; i++) {
            strand_plan *less = plan_for(c, m, batch, length, wanted[i], i == 3 ? info.block_bytes : 0);
            assert_ok(c, strand_session_open(less, NULL, &s));
            pair out = {i == 0 || i == 3 ? y1 : NULL, i == 1 || i == 3 ? end2 : NULL, i == 2 ? middle : NULL};
            for (int again = 0; again < 2; again++) run(s, x, batch, length, 0, length, first, &out);
            if (out.y) assert_same_bytes(y, out.y, nx * 4, wanted[i]);
            if (out.after) assert_same_bytes(end, out.after, ns * 4, wanted[i]);
            if (out.bounded) assert_same_bytes(bounded, out.bounded, ns * 4, wanted[i]);
            strand_session_close(s);
            strand_plan_close(less);
        }
        strand_plan_close(plan);
        free(x), free(first), free(middle), free(y), free(y1), free(y2), free(end), free(end2), free(bounded);
    }
    strand_model_close(m);
    strand_context_close(c);
}

static void one_output_has_no_second(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.threads = 1});
    strand_model *m = dag_empty(c);
    op_dim dims[] = {DIM_B, DIM_L, DIM(3)};
    strand_op_unary p = {.kind = STRAND_UNARY_TANH};
    tensor_id x = graph_input(&m->graph, "x", STRAND_F32, 3, dims), second = 9;
    assert_int_equal(graph_op2(&m->graph, "tanh", STRAND_OP_UNARY, &p, &x, 1, NULL, &second), 0);
    assert_int_equal(second, 0);
    assert_int_equal(m->graph.error.status, STRAND_ERR_ARGUMENT);
    assert_non_null(strstr(m->graph.error.text, "tanh"));
    strand_model_close(m);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(state_in_and_out), cmocka_unit_test(one_output_has_no_second)};
    return cmocka_run_group_tests_name("two outputs", tests, NULL, NULL);
}

/* test_reference_graphs.c - the reference kernels of operators on graphs, on graphs small enough to do by hand and against
 * formulas written anew. */
#include "reference_support.h"

static strand_plugin_tensor cube(float *data, int64_t a, int64_t b, int64_t c) {
    int64_t dims[3] = {a, b, c};
    return tensor(STRAND_PLUGIN_F32, data, 3, dims);
}

static void expect(const float *y, const double *want, int n, double error) {
    for (int i = 0; i < n; i++) near((double)y[i], want[i], error);
}

/* Four directions in the plane, at 0, 30, 100 and 180 degrees, of different lengths, and a zero. */
static void nearest_neighbours(void **state) {
    static const double angle[4] = {0, 30, 100, 180};
    float x[10] = {0}, y[25];
    double w[5][5] = {{0}};
    (void)state;
    for (int i = 0; i < 4; i++) {
        x[2 * i] = (float)((i + 1) * cos(angle[i] * acos(-1) / 180));
        x[2 * i + 1] = (float)((i + 1) * sin(angle[i] * acos(-1) / 180));
        for (int j = 0; j < 4; j++) w[i][j] = cos((angle[i] - angle[j]) * acos(-1) / 180);
    }
    strand_plugin_tensor in = cube(x, 1, 5, 2), out = cube(y, 1, 5, 5);
    strand_op_knn_adjacency p = {.k = 2};
    run(STRAND_OP_KNN_ADJACENCY, &p, &in, 1, &out); /* itself and the nearest: 0-1, 1-0, 2-1 (70 degrees), 3-2 (80) */
    expect(y, (double[25]){1, w[0][1], 0, 0, 0, w[1][0], 1, 0, 0, 0, 0, w[2][1], 1, 0, 0, 0, 0, w[3][2], 1, 0}, 25, 1e-6);
    p = (strand_op_knn_adjacency){.k = 1, .flags = STRAND_KNN_NOT_SELF | STRAND_KNN_ABSOLUTE | STRAND_KNN_UNIT_DIAGONAL};
    run(STRAND_OP_KNN_ADJACENCY, &p, &in, 1, &out); /* by |w| 0 and 3 are opposite: 1 each; zero has equal ties and takes the
                                                       first */
    expect(y, (double[25]){1, 0, 0, 1, 0, w[0][1], 1, 0, 0, 0, 0, w[2][1], 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, 25, 1e-6);
    p = (strand_op_knn_adjacency){.k = 5, .flags = STRAND_KNN_CLAMP | STRAND_KNN_SYMMETRIC | STRAND_KNN_UNIT_DIAGONAL};
    run(STRAND_OP_KNN_ADJACENCY, &p, &in, 1, &out);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) near((double)y[i * 5 + j], i == j ? 1 : fmax(w[i][j], 0), 1e-6);
    p = (strand_op_knn_adjacency){.k = 2, .flags = STRAND_KNN_SYMMETRIC};
    run(STRAND_OP_KNN_ADJACENCY, &p, &in, 1, &out);
    near((double)y[1 * 5 + 2], w[1][2] / 2, 1e-6); /* one way only */
    near((double)y[0 * 5 + 1], w[0][1], 1e-6);     /* both ways */
}

static void softmax(void **state) {
    float q[6] = {0, 0, 1, 0, 0, 2}, k[6] = {1, 0, 0, 1, 1, 1}, y[9];
    double e = exp(1), e4 = exp(4),
           w[9] = {1 / 3., 1 / 3., 1 / 3., e * e / (2 * e * e + 1), 1 / (2 * e * e + 1), e * e / (2 * e * e + 1),
                   1 / (2 * e4 + 1), e4 / (2 * e4 + 1), e4 / (2 * e4 + 1)};
    strand_op_softmax_adjacency p = {.scale = 2};
    strand_plugin_tensor in[2] = {cube(q, 1, 3, 2), cube(k, 1, 3, 2)}, out = cube(y, 1, 3, 3);
    (void)state;
    run(STRAND_OP_SOFTMAX_ADJACENCY, &p, in, 2, &out);
    expect(y, w, 9, 1e-6);
    p.symmetric = 1;
    run(STRAND_OP_SOFTMAX_ADJACENCY, &p, in, 2, &out);
    for (int i = 0; i < 9; i++) near((double)y[i], (w[i] + w[i % 3 * 3 + i / 3]) / 2, 1e-6);
}

static void pruning(void **state) {
    float a[9] = {5, 1, 4, 3, 2, 3, -1, 3, 0.5f}, y[9];
    strand_plugin_tensor in = cube(a, 1, 3, 3), out = cube(y, 1, 3, 3);
    strand_op_prune_adjacency p = {.mode = STRAND_PRUNE_ABOVE, .value = 2};
    (void)state;
    run(STRAND_OP_PRUNE_ADJACENCY, &p, &in, 1, &out);
    expect(y, (double[9]){5, 0, 4, 3, 0, 3, 0, 3, 0}, 9, 0);
    /* K = 4: the 4th is 3 */
    p = (strand_op_prune_adjacency){.mode = STRAND_PRUNE_TOP_FRACTION, .value = 0.5f, .loops = STRAND_LOOPS_UNIT};
    run(STRAND_OP_PRUNE_ADJACENCY, &p, &in, 1, &out);
    expect(y, (double[9]){1, 0, 4, 0, 1, 0, 0, 0, 1}, 9, 0);
    p = (strand_op_prune_adjacency){.mode = STRAND_PRUNE_TOP_FRACTION, .value = 0.1f, .loops = STRAND_LOOPS_KEEP}; /* K = 0 */
    run(STRAND_OP_PRUNE_ADJACENCY, &p, &in, 1, &out);
    expect(y, (double[9]){0}, 9, 0);
    p = (strand_op_prune_adjacency){.mode = STRAND_PRUNE_PER_ROW, .value = 1, .loops = STRAND_LOOPS_DROP};
    run(STRAND_OP_PRUNE_ADJACENCY, &p, &in, 1, &out); /* row 0 loses its loop; the first of the equal ones in row 1 */
    expect(y, (double[9]){0, 0, 0, 3, 0, 0, 0, 3, 0}, 9, 0);
    /* 2 % of 100 entries are two, though 0.02 in F32 is a little less */
    float big[100], z[100];
    for (int i = 0; i < 100; i++) big[i] = (float)(100 - i);
    strand_plugin_tensor in10 = cube(big, 1, 10, 10), out10 = cube(z, 1, 10, 10);
    p = (strand_op_prune_adjacency){.mode = STRAND_PRUNE_TOP_FRACTION, .value = 0.02f};
    run(STRAND_OP_PRUNE_ADJACENCY, &p, &in10, 1, &out10);
    assert_true(z[0] == 100 && z[1] == 0 && z[2] == 0);
}

static void supports(void **state) {
    float a[9] = {0, 2, 2, 1, 0, 0, 0, 0, 0}, y[18];
    int64_t dims[4] = {1, 2, 3, 3};
    strand_plugin_tensor in = cube(a, 1, 3, 3), out = tensor(STRAND_PLUGIN_F32, y, 4, dims);
    strand_op_graph_supports p = {.kind = STRAND_SUPPORTS_DUAL_RANDOM_WALK};
    (void)state;
    run(STRAND_OP_GRAPH_SUPPORTS, &p, &in, 1, &out);
    expect(y, (double[18]){0, 1, 0, 0.5, 0, 0, 0.5, 0, 0, /* in: columns 1, 2, 2 */ 0, 1, 1, 1, 0, 0, 0, 0, 0}, 18, 0);
    /* A ring of n nodes has the eigenvalues 1 - cos(2 pi k / n); the largest of an odd one is 1 + cos(pi / n). */
    enum { N = 9 };
    float ring[N * N] = {0}, z[N * N];
    int64_t square[4] = {1, 1, N, N};
    for (int i = 0; i < N; i++) ring[i * N + (i + 1) % N] = 3; /* one way: A becomes max(A, A^T) */
    in = cube(ring, 1, N, N), out = tensor(STRAND_PLUGIN_F32, z, 4, square);
    for (int given = 0; given < 2; given++) {
        double lambda = given ? 1.5 : 1 + cos(acos(-1) / N);
        p = (strand_op_graph_supports){.kind = STRAND_SUPPORTS_LAPLACIAN, .lambda_max = given ? 1.5f : 0};
        run(STRAND_OP_GRAPH_SUPPORTS, &p, &in, 1, &out);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int apart = (i - j + N) % N;
                near((double)z[i * N + j],
                     2 / lambda *
                             (apart == 0                     ? 1
                              : apart == 1 || apart == N - 1 ? -0.5
                                                             : 0) -
                         (i == j),
                     1e-6);
            }
    }
}

/* Two nodes that a support exchanges (and one that doubles): the recursion by hand. */
static void diffusion(void **state) {
    float s[8] = {0, 1, 1, 0, 2, 0, 0, 2}, x[4] = {1, 10, 2, 20}, y[20];
    strand_plugin_tensor in[2] = {matrix(x, 2, 2), cube(s, 2, 2, 2)}, out = matrix(y, 2, 10);
    strand_op_diffusion p = {.steps = 2};
    (void)state;
    run(STRAND_OP_DIFFUSION, &p, in, 2, &out);
    /* of feature 0: x 1, 2; exchanged 2, 1; twice that back less x: 1, 2; doubled 2, 4; 2 x 2 x that less x: 7, 14 */
    expect(y, (double[20]){1, 2, 1, 2, 7, 10, 20, 10, 20, 70, 2, 1, 2, 4, 14, 20, 10, 20, 40, 140}, 20, 1e-6);
    p.flags = STRAND_DIFFUSION_CARRY_OVER; /* the second support begins with 2, 1 */
    run(STRAND_OP_DIFFUSION, &p, in, 2, &out);
    expect(y, (double[20]){1, 2, 1, 4, 14, 10, 20, 10, 40, 140, 2, 1, 2, 2, 7, 20, 10, 20, 20, 70}, 20, 1e-6);
    p.steps = 1; /* nothing to carry */
    out = matrix(y, 2, 6);
    run(STRAND_OP_DIFFUSION, &p, in, 2, &out);
    expect(y, (double[12]){1, 2, 2, 10, 20, 20, 2, 1, 4, 20, 10, 40}, 12, 1e-6);
}

static void sparse(void **state) {
    int32_t rows[4] = {0, 2, 2, 3}, col[3] = {2, 0, 2};
    int64_t four = 4, three = 3;
    float values[3] = {2, -1, 0.5f}, x[6] = {1, 10, 2, 20, 3, 30}, y[6];
    strand_plugin_tensor in[4] = {tensor(STRAND_PLUGIN_I32, rows, 1, &four), tensor(STRAND_PLUGIN_I32, col, 1, &three),
                                  vector(values, 3), matrix(x, 3, 2)},
                         out = matrix(y, 3, 2);
    (void)state;
    run(STRAND_OP_SPMM, NULL, in, 4, &out);
    expect(y, (double[6]){5, 50, 0, 0, 1.5, 15}, 6, 0);
    in[2] = (strand_plugin_tensor){0};
    run(STRAND_OP_SPMM, NULL, in, 4, &out);
    expect(y, (double[6]){4, 40, 0, 0, 3, 30}, 6, 0);
    strand_plugin_node node = {
        .op = STRAND_OP_SPMM, .version = 1, .n_inputs = 4, .n_outputs = 1, .inputs = in, .outputs = &out};
    col[1] = 3;
    assert_int_equal(reference.api->launch(reference.device, &node, 1, NULL), STRAND_PLUGIN_ERR_ARGUMENT);
    col[1] = 0, rows[1] = 4;
    assert_int_equal(reference.api->launch(reference.device, &node, 1, NULL), STRAND_PLUGIN_ERR_ARGUMENT);
}

static void segments(void **state) {
    int64_t index[4] = {2, 0, 2, 2}, four = 4;
    float x[8] = {1, -1, 2, -2, 3, -3, 8, -8}, y[6];
    static const double want[3][6] = {{2, -2, 0, 0, 12, -12}, {2, -2, 0, 0, 4, -4}, {2, -2, 0, 0, 8, -1}};
    strand_plugin_tensor in[2] = {matrix(x, 4, 2), tensor(STRAND_PLUGIN_I64, index, 1, &four)}, out = matrix(y, 3, 2);
    (void)state;
    for (uint32_t kind = 0; kind < 3; kind++) {
        strand_op_segment_reduce p = {.kind = kind, .n = 3};
        run(STRAND_OP_SEGMENT_REDUCE, &p, in, 2, &out);
        expect(y, want[kind], 6, 0);
    }
    strand_op_segment_reduce p = {.n = 3};
    strand_plugin_node node = {.op = STRAND_OP_SEGMENT_REDUCE, .version = 1, .n_inputs = 2, .n_outputs = 1, .inputs = in,
                               .outputs = &out, .params = &p};
    index[3] = 3;
    assert_int_equal(reference.api->launch(reference.device, &node, 1, NULL), STRAND_PLUGIN_ERR_ARGUMENT);
}

/* Edges 0 -> 1 (weight 2) and 2 -> 1 (weight -1): rows are sources. */
static void messages(void **state) {
    float x[6] = {1, -5, 10, 20, 0.5f, 4}, a[9] = {0, 2, 0, 0, 0, 0, 0, -1, 0}, w[2] = {1, 3}, b[2] = {0.25f, -1}, y[6];
    strand_op_gine p = {.eps = 0.5f};
    strand_plugin_tensor in[4] = {cube(x, 1, 3, 2), cube(a, 1, 3, 3), vector(w, 2), vector(b, 2)}, out = cube(y, 1, 3, 2);
    (void)state;
    run(STRAND_OP_GINE, &p, in, 4, &out);
    expect(y, (double[6]){1.5, -7.5, 15 + 3.25, 30, 0.75, 6}, 6, 1e-6); /* 1 + 2 + 0.25; 0.5 - 1 + 0.25 < 0; -5 + 6 - 1 = 0;
                                                                           4 - 3 - 1 = 0 */
}

REFERENCE_MAIN("graphs", cmocka_unit_test(nearest_neighbours), cmocka_unit_test(softmax), cmocka_unit_test(pruning),
               cmocka_unit_test(supports), cmocka_unit_test(diffusion), cmocka_unit_test(sparse), cmocka_unit_test(segments),
               cmocka_unit_test(messages))

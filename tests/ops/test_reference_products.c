/* test_reference_products.c - the reference kernels of quantised weights, block-diagonal and grouped products and TOP_K against
 * numbers put together by hand and dense expansions. */
#include "reference_support.h"

/* ---- quantised elements ---- */

static const float half = 0.5f, quarter = 0.25f;
static const uint8_t half_bits[2] = {0x00, 0x38}, quarter_bits[2] = {0x00, 0x34}; /* F16 */

static void block_q8_0(uint8_t *b, double *x) {
    memcpy(b, half_bits, 2);
    for (int i = 0; i < 32; i++) {
        b[2 + i] = (uint8_t)(8 * i - 128);
        x[i] = (double)half * (8 * i - 128);
    }
}

static void block_q4_0(uint8_t *b, double *x) {
    memcpy(b, quarter_bits, 2);
    for (int i = 0; i < 16; i++) {
        int low = i, high = (3 * i + 5) % 16;
        b[2 + i] = (uint8_t)(low + 16 * high);
        x[i] = (double)quarter * (low - 8);
        x[i + 16] = (double)quarter * (high - 8);
    }
}

/* Six-bit numbers: the first four scales and minima have bytes of their own, whose top bits hold the top of the other four. */
static void block_q4_k(uint8_t *b, double *x) {
    memset(b, 0, 144);
    memcpy(b, half_bits, 2);
    memcpy(b + 2, quarter_bits, 2);
    for (int j = 0; j < 8; j++) {
        int scale = (11 * j + 20) % 64, minimum = (37 * j + 9) % 64;
        if (j < 4) {
            b[4 + j] = (uint8_t)(b[4 + j] + scale);
            b[8 + j] = (uint8_t)(b[8 + j] + minimum);
        } else {
            b[8 + j] = (uint8_t)(scale % 16 + minimum % 16 * 16);
            b[j] = (uint8_t)(b[j] + scale / 16 * 64);
            b[4 + j] = (uint8_t)(b[4 + j] + minimum / 16 * 64);
        }
        for (int i = 0; i < 32; i++) {
            int q = (5 * i + j) % 16, strip = j / 2;
            b[16 + 32 * strip + i] = (uint8_t)(b[16 + 32 * strip + i] + (j % 2 ? 16 * q : q));
            x[32 * j + i] = (double)half * scale * q - (double)quarter * minimum;
        }
    }
}

static void block_q6_k(uint8_t *b, double *x) {
    memset(b, 0, 210);
    memcpy(b + 208, quarter_bits, 2);
    for (int e = 0; e < 256; e++) {
        int q = (7 * e + e / 32) % 64, scale = e / 16 * 15 - 120, part = e / 128, run = e % 128 / 32, i = e % 32;
        uint8_t *low = &b[64 * part + run % 2 * 32 + i], *high = &b[128 + 32 * part + i];
        *low = (uint8_t)(*low + q % 16 * (run / 2 ? 16 : 1));
        *high = (uint8_t)(*high + (q / 16 << 2 * run));
        b[192 + e / 16] = (uint8_t)scale;
        x[e] = (double)quarter * scale * (q - 32);
    }
}

static void fifth(uint8_t *bits, int i, int q) {
    bits[i / 8] = (uint8_t)(bits[i / 8] + (q / 16 << i % 8));
}

/* Nibbles at `at`, fifth bits at `bits` (0: none): element i is q(i) = (7 i + 3) mod 16 or 32. */
static void five(uint8_t *b, int at, int bits, double *x, double d, double m) {
    for (int i = 0; i < 32; i++) {
        int q = (7 * i + 3) % (bits ? 32 : 16);
        b[at + i % 16] = (uint8_t)(b[at + i % 16] + q % 16 * (i < 16 ? 1 : 16));
        if (bits) fifth(b + bits, i, q);
        x[i] = d * q + m;
    }
}

static void block_q4_1(uint8_t *b, double *x) {
    memset(b, 0, 20);
    memcpy(b, quarter_bits, 2);
    memcpy(b + 2, half_bits, 2);
    five(b, 4, 0, x, (double)quarter, (double)half);
}

static void block_q5_0(uint8_t *b, double *x) {
    memset(b, 0, 22);
    memcpy(b, quarter_bits, 2);
    five(b, 6, 2, x, (double)quarter, -16 * (double)quarter);
}

static void block_q5_1(uint8_t *b, double *x) {
    memset(b, 0, 24);
    memcpy(b, quarter_bits, 2);
    memcpy(b + 2, half_bits, 2);
    five(b, 8, 4, x, (double)quarter, (double)half);
}

/* Q4_K's scales, and a fifth bit for every element in 32 bytes of which each has one bit a strip of 32. */
static void block_q5_k(uint8_t *b, double *x) {
    uint8_t q4[144];
    double unused[256];
    block_q4_k(q4, unused);
    memset(b, 0, 176);
    memcpy(b, q4, 16);
    for (int j = 0; j < 8; j++) {
        int scale = (11 * j + 20) % 64, minimum = (37 * j + 9) % 64;
        for (int i = 0; i < 32; i++) {
            int q = (5 * i + 3 * j) % 32;
            b[48 + 32 * (j / 2) + i] = (uint8_t)(b[48 + 32 * (j / 2) + i] + q % 16 * (j % 2 ? 16 : 1));
            b[16 + i] = (uint8_t)(b[16 + i] + (q / 16 << j));
            x[32 * j + i] = (double)half * scale * q - (double)quarter * minimum;
        }
    }
}

static const struct quantised {
    uint32_t dtype;
    int elements, bytes;
    void (*make)(uint8_t *block, double *x);
} types[] = {{STRAND_PLUGIN_Q8_0, 32, 34, block_q8_0},   {STRAND_PLUGIN_Q4_0, 32, 18, block_q4_0},
             {STRAND_PLUGIN_Q4_K, 256, 144, block_q4_k}, {STRAND_PLUGIN_Q6_K, 256, 210, block_q6_k},
             {STRAND_PLUGIN_Q4_1, 32, 20, block_q4_1},   {STRAND_PLUGIN_Q5_0, 32, 22, block_q5_0},
             {STRAND_PLUGIN_Q5_1, 32, 24, block_q5_1},   {STRAND_PLUGIN_Q5_K, 256, 176, block_q5_k}};

/* A block, all of it, through CAST; the second of two rows through GATHER; and times the unit vectors through MATMUL. */
static void quantised_elements(void **state) {
    (void)state;
    for (int t = 0; t < 8; t++) {
        int n = types[t].elements;
        uint8_t blocks[2 * 210] = {0};
        double x[256];
        float y[256 * 3];
        int64_t dims[2] = {2, n}, out_dims[2] = {1, n}, id = 1, one = 1;
        types[t].make(blocks + types[t].bytes, x);
        strand_plugin_tensor table = tensor(types[t].dtype, blocks, 2, dims),
                             row = tensor(types[t].dtype, blocks + types[t].bytes, 2, out_dims),
                             in[2] = {table, tensor(STRAND_PLUGIN_I64, &id, 1, &one)}, out = matrix(y, 1, n);
        run(STRAND_OP_GATHER, NULL, in, 2, &out);
        for (int i = 0; i < n; i++) near((double)y[i], x[i], 0);
        run(STRAND_OP_CAST, NULL, &row, 1, &out);
        for (int i = 0; i < n; i++) near((double)y[i], x[i], 0);
        for (int i = 0; i < n; i += 5) {
            float unit[256] = {0};
            unit[i] = 2;
            strand_op_matmul p = {.transpose_b = 1};
            strand_plugin_tensor factors[2] = {matrix(unit, 1, n), table}, product = matrix(y, 1, 2);
            run(STRAND_OP_MATMUL, &p, factors, 2, &product);
            near((double)y[0], 0, 0);
            near((double)y[1], 2 * x[i], 0);
        }
    }
}

/* ---- block-diagonal ---- */

enum { NB = 3, IN = 4, OUT = 5, ROWS = 2 };

/* The dense matrix that the weight stands for, at the places that the flags give to inputs and outputs. */
static void block_diagonal_is_dense(void **state) {
    (void)state;
    float x[ROWS * NB * IN], w[NB * OUT * IN], bias[NB * OUT], y[ROWS * NB * OUT];
    for (int i = 0; i < ROWS * NB * IN; i++) x[i] = wave(i);
    for (int i = 0; i < NB * OUT * IN; i++) w[i] = wave(i + 100);
    for (int i = 0; i < NB * OUT; i++) bias[i] = wave(i + 300);
    for (uint32_t flags = 0; flags < 4; flags++) {
        double dense[NB * OUT][NB * IN] = {{0}};
        for (int j = 0; j < NB; j++)
            for (int o = 0; o < OUT; o++)
                for (int i = 0; i < IN; i++) {
                    int to = flags & STRAND_BLOCK_OUT_INTERLEAVED ? o * NB + j : j * OUT + o,
                        from = flags & STRAND_BLOCK_IN_INTERLEAVED ? i * NB + j : j * IN + i;
                    dense[to][from] = (double)w[(j * OUT + o) * IN + i];
                }
        strand_op_block_diagonal p = {.flags = flags, .activation = STRAND_UNARY_LEAKY_RELU, .alpha = 0.25f};
        int64_t w_dims[3] = {NB, OUT, IN};
        strand_plugin_tensor in[3] = {matrix(x, ROWS, NB * IN), tensor(STRAND_PLUGIN_F32, w, 3, w_dims),
                                      vector(bias, NB * OUT)},
                             out = matrix(y, ROWS, NB * OUT);
        run(STRAND_OP_BLOCK_DIAGONAL, &p, in, 3, &out);
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < NB * OUT; o++) {
                double sum = (double)bias[o];
                for (int i = 0; i < NB * IN; i++) sum += dense[o][i] * (double)x[r * NB * IN + i];
                near((double)y[r * NB * OUT + o], sum < 0 ? sum / 4 : sum, 1e-6);
            }
    }
}

/* ---- grouped products ---- */

enum { TOKENS = 4, PICKS = 2, EXPERTS = 3, N = 5, K = 32 };

static void grouped_is_a_product_a_row(void **state) {
    (void)state;
    float x[TOKENS * PICKS * K], w[EXPERTS * N * K], bias[EXPERTS * N], y[TOKENS * PICKS * N];
    int32_t ids[TOKENS * PICKS] = {2, 0, 1, 1, 0, 2, 2, 1};
    uint8_t blocks[EXPERTS * N][34];
    for (int i = 0; i < TOKENS * PICKS * K; i++) x[i] = wave(i);
    for (int i = 0; i < EXPERTS * N; i++) bias[i] = wave(i + 300);
    for (int i = 0; i < EXPERTS * N; i++) { /* quarters, which Q8_0 holds exactly */
        memcpy(blocks[i], quarter_bits, 2);
        for (int k = 0; k < K; k++) {
            int q = (i * 31 + k * 17) % 255 - 127;
            blocks[i][2 + k] = (uint8_t)q;
            w[i * K + k] = quarter * (float)q;
        }
    }
    for (int variant = 0; variant < 4; variant++) {
        bool each = variant & 1;
        int64_t x_dims[3] = {TOKENS, each ? PICKS : K, K}, w_dims[3] = {EXPERTS, N, K}, id_dims[2] = {TOKENS, PICKS},
                y_dims[3] = {TOKENS, PICKS, N};
        strand_op_grouped_matmul p = {.activation = STRAND_UNARY_RELU};
        strand_plugin_tensor in[4] = {tensor(STRAND_PLUGIN_F32, x, each ? 3 : 2, x_dims),
                                      variant & 2 ? tensor(STRAND_PLUGIN_Q8_0, blocks, 3, w_dims)
                                                  : tensor(STRAND_PLUGIN_F32, w, 3, w_dims),
                                      tensor(STRAND_PLUGIN_I32, ids, 2, id_dims), matrix(bias, EXPERTS, N)},
                             out = tensor(STRAND_PLUGIN_F32, y, 3, y_dims);
        run(STRAND_OP_GROUPED_MATMUL, &p, in, 4, &out);
        for (int r = 0; r < TOKENS * PICKS; r++)
            for (int n = 0; n < N; n++) {
                const float *row = x + (each ? r : r / PICKS) * K, *column = w + (ids[r] * N + n) * K;
                double sum = (double)bias[ids[r] * N + n];
                for (int k = 0; k < K; k++) sum += (double)row[k] * (double)column[k];
                near((double)y[r * N + n], sum > 0 ? sum : 0, 1e-4);
            }
    }
}

/* An id that is no expert is the caller's error, and nothing is written. */
static void grouped_refuses_bad_ids(void **state) {
    (void)state;
    float x[K] = {1}, w[2 * N * K] = {0}, y[N];
    int64_t x_dims[2] = {1, K}, w_dims[3] = {2, N, K}, id_dims[2] = {1, 1}, y_dims[3] = {1, 1, N};
    for (int64_t id = -1; id < 3; id += 3) {
        int64_t ids[1] = {id};
        strand_op_grouped_matmul p = {0};
        strand_plugin_tensor in[3] = {tensor(STRAND_PLUGIN_F32, x, 2, x_dims), tensor(STRAND_PLUGIN_F32, w, 3, w_dims),
                                      tensor(STRAND_PLUGIN_I64, ids, 2, id_dims)},
                             out = tensor(STRAND_PLUGIN_F32, y, 3, y_dims);
        strand_plugin_node node = {.op = STRAND_OP_GROUPED_MATMUL, .version = 1, .n_inputs = 3, .n_outputs = 1, .inputs = in,
                                   .outputs = &out, .params = &p, .name = "case"};
        assert_int_equal(reference.api->launch(reference.device, &node, 1, NULL), STRAND_PLUGIN_ERR_ARGUMENT);
    }
}

/* ---- the largest ---- */

static void top(float *x, int64_t n, strand_op_top_k p, float *y, int64_t *ids) {
    strand_plugin_tensor in = vector(x, n), out[2] = {vector(y, p.k), tensor(STRAND_PLUGIN_I64, ids, 1, &p.k)};
    run_outputs(STRAND_OP_TOP_K, &p, &in, 1, out, 2);
}

static void top_k_orders(void **state) {
    (void)state;
    float x[7] = {1, -2, 3, 3, 0, -0.0f, 3}, y[7];
    static const int64_t good[7] = {2, 3, 6, 0, 4, 5, 1};
    int64_t ids[7];
    top(x, 7, (strand_op_top_k){.k = 7}, y, ids);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(ids[i], good[i]);
        near((double)y[i], (double)x[good[i]], 0);
    }
    x[4] = NAN, x[0] = NAN, x[1] = INFINITY;
    top(x, 7, (strand_op_top_k){.k = 4}, y, ids);
    static const int64_t with_nan[4] = {0, 4, 1, 2};
    for (int i = 0; i < 4; i++) assert_int_equal(ids[i], with_nan[i]);
}

static void top_k_values(void **state) {
    (void)state;
    float x[4] = {0, 2, 1, -1}, y[2];
    int64_t ids[2];
    double e = exp(1.0), all = 1 + e * e + e + 1 / e;
    for (uint32_t normalise = 0; normalise < 2; normalise++) {
        double a[4] = {2, e * e / all, e / (e + 1), 1 / (1 + exp(-2.0))}, b[4] = {1, e / all, 1 / (e + 1), 1 / (1 + exp(-1.0))};
        for (uint32_t kind = 0; kind < 4; kind++) {
            double sum = normalise ? a[kind] + b[kind] : 1;
            top(x, 4, (strand_op_top_k){.k = 2, .values = kind, .normalise = normalise}, y, ids);
            near((double)y[0], a[kind] / sum, 1e-7);
            near((double)y[1], b[kind] / sum, 1e-7);
            assert_int_equal(ids[0], 1);
            assert_int_equal(ids[1], 2);
        }
    }
}

REFERENCE_MAIN("reference_products", cmocka_unit_test(quantised_elements), cmocka_unit_test(block_diagonal_is_dense),
               cmocka_unit_test(grouped_is_a_product_a_row), cmocka_unit_test(grouped_refuses_bad_ids),
               cmocka_unit_test(top_k_orders), cmocka_unit_test(top_k_values))

/* test_numbers.c - the numbers of data/dna/hyenadna-tiny-1k/GOLDEN.md: likelihoods, sums and single values of the real model
 * on the human mitochondrial genome, for both filter shifts. Skips, saying so, when STRAND_SHARED is not there. */
#include "runs.h"

#include <math.h>

#define VOCAB 16
#define WIDTH 128

/* What one column of GOLDEN.md says. */
typedef struct numbers {
    const char *setting;
    double nll, sums[2], logits[3][5], hidden[4], filter[5], nll_900, nll_whole;
} numbers;

/* The numbers in the cell of that column (1, 2) of the row with that label, text in brackets left out. */
static int cell(const char *table, const char *label, int column, double *out, int most) {
    char row[128];
    snprintf(row, sizeof row, "\n| %s |", label);
    const char *at = strstr(table, row);
    if (!at) fail_msg("GOLDEN.md has no row '%s'", label);
    at += strlen(row);
    for (int i = 1; i < column; i++) at = strchr(at, '|') + 1;
    int n = 0, depth = 0;
    for (char before = ' '; *at != '|' && *at != '\n'; before = *at++) {
        depth += (*at == '[' || *at == '(') - (*at == ']' || *at == ')');
        bool begins = (*at >= '0' && *at <= '9') || (*at == '-' && at[1] >= '0' && at[1] <= '9');
        if (depth || !begins || before != ' ') continue;
        char *end;
        assert_true(n < most);
        out[n++] = strtod(at, &end);
        at = end - 1;
    }
    return n;
}

static void read_column(const char *table, int column, numbers *g) {
    g->setting = column == 1 ? "shift=0.05" : "shift=0.0";
    assert_int_equal(cell(table, "NLL", column, &g->nll, 1), 1);
    assert_int_equal(cell(table, "sum h / sum abs h", column, g->sums, 2), 2);
    assert_int_equal(cell(table, "logits A,C,G,T,N at t=0", column, g->logits[0], 5), 5);
    assert_int_equal(cell(table, "t=511", column, g->logits[1], 5), 5);
    assert_int_equal(cell(table, "t=1023", column, g->logits[2], 5), 5);
    assert_int_equal(cell(table, "h[:4] at t=0", column, g->hidden, 4), 4);
    assert_int_equal(cell(table, "layer-0 filter", column, g->filter, 5), 5);
    assert_int_equal(cell(table, "NLL, bases 5001..5900", column, &g->nll_900, 1), 1);
    assert_int_equal(cell(table, "NLL, whole MT-human, windows of 1024", column, &g->nll_whole, 1), 1);
}

static void read_golden(const char *path, numbers g[2]) {
    static char table[16384];
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s cannot be opened", path);
    table[fread(table, 1, sizeof table - 1, f)] = 0;
    fclose(f);
    for (int column = 1; column <= 2; column++) read_column(table, column, &g[column - 1]);
}

static void near(const char *what, double have, double want, double tolerance) {
    print_message("  %-24s %.9f (golden %.9f, off by %.1e)\n", what, have, want, fabs(have - want));
    if (!(fabs(have - want) <= tolerance)) fail_msg("%s is %.9f, golden %.9f", what, have, want);
}

/* Sum of -log p over the next-base predictions of one window. */
static double nll_sum(const float *logits, const int64_t *ids, int64_t n) {
    double sum = 0;
    for (int64_t t = 0; t + 1 < n; t++) {
        const float *row = logits + t * VOCAB;
        double most = row[0], total = 0;
        for (int i = 1; i < VOCAB; i++) most = row[i] > most ? row[i] : most;
        for (int i = 0; i < VOCAB; i++) total += exp(row[i] - most);
        sum += log(total) + most - row[ids[t + 1]];
    }
    return sum;
}

static bool tensor_named(const strand_file *f, const char *name, strand_tensor *t) {
    for (int64_t i = 0; i < strand_file_count(f); i++)
        if (!strand_file_get(f, i, t) && !strcmp(t->name, name)) return true;
    return false;
}

/* The filter, [channels, taps], at every position of the grid. GOLDEN.md names single values of it as k[tap, channel]; the
 * golden case holds every fourth channel, taps first. */
static void judge_filter(strand_context *c, strand_model *model, const strand_file *expected, const numbers *g) {
    static const int at[4][2] = {{0, 0}, {1, 0}, {0, 127}, {1023, 5}};
    enum { TAPS = 1026 };
    strand_plan_params params;
    strand_plan *plan;
    strand_session *session;
    strand_tensor k = {.name = "layers.0.filter"}, want;
    char name[64];
    strand_plan_params_init(&params);
    params.max_length = TAPS;
    params.outputs = k.name;
    assert_ok(c, strand_plan_open(model, &params, &plan));
    assert_ok(c, strand_session_open(plan, NULL, &session));
    assert_int_equal(strand_session_run(session, NULL, 0, &k, 1), STRAND_OK);
    assert_true(k.dims[0] == WIDTH && k.dims[1] == TAPS);
    const float *x = k.data;
    double sum_abs = 0, worst = 0;
    for (int i = 0; i < WIDTH; i++)
        for (int t = 0; t < 1024; t++) sum_abs += fabs((double)x[i * TAPS + t]);
    for (int i = 0; i < 4; i++) near("filter", x[at[i][1] * TAPS + at[i][0]], g->filter[i], 2e-6);
    near("sum |filter|", sum_abs, g->filter[4], 0.01);
    snprintf(name, sizeof name, "layer0_filter_%s", strchr(g->setting, '5') ? "shift0.05" : "shift0.0");
    assert_true(tensor_named(expected, name, &want) && want.dims[0] == TAPS && want.dims[1] == WIDTH / 4);
    for (int t = 0; t < TAPS; t++)
        for (int i = 0; i < WIDTH / 4; i++)
            worst = fmax(worst, fabs((double)x[4 * i * TAPS + t] - (double)((const float *)want.data)[t * (WIDTH / 4) + i]));
    near(name, worst, 0, 1e-4);
    strand_session_close(session);
    strand_plan_close(plan);
}

static void judge(strand_context *c, const char *weights, const numbers *g, const strand_file *inputs,
                  const strand_file *expected, const strand_file *whole) {
    strand_tensor ids, ids900, genome, shape;
    run_how how = {.settings = {g->setting}, .n_settings = 1};
    opened o = open_all(c, weights, &how, 1, 1024);
    const char *key, *value;
    assert_int_equal(strand_model_setting(o.model, 0, &key, &value), STRAND_OK);
    assert_string_equal(key, "shift");
    assert_true(tensor_named(inputs, "ids_1024", &ids) && tensor_named(inputs, "ids_900", &ids900) &&
                tensor_named(whole, "ids", &genome));
    float *logits = run_output(&o, ids.data, 1, 1024, "logits", &shape),
          *h = run_output(&o, ids.data, 1, 1024, "hidden", &shape);
    double sum = 0, sum_abs = 0;
    for (int64_t i = 0; i < 1024 * WIDTH; i++) {
        sum += h[i];
        sum_abs += fabs((double)h[i]);
    }
    print_message("%s\n", g->setting);
    near("NLL", nll_sum(logits, ids.data, 1024) / 1023, g->nll, 2e-6);
    near("sum h", sum, g->sums[0], 0.05); /* 131072 values */
    near("sum |h|", sum_abs, g->sums[1], 0.05);
    static const int at[] = {0, 511, 1023};
    for (int t = 0; t < 3; t++)
        for (int b = 0; b < 5; b++) {
            char what[32];
            snprintf(what, sizeof what, "logit %c at t=%d", "ACGTN"[b], at[t]);
            near(what, logits[at[t] * VOCAB + 7 + b], g->logits[t][b], 1e-4);
        }
    for (int i = 0; i < 4; i++) near("h at t=0", h[i], g->hidden[i], 2e-5);
    free(h);
    free(logits);
    judge_filter(c, o.model, expected, g);
    logits = run_output(&o, ids900.data, 1, 900, "logits", &shape);
    near("NLL, bases 5001..5900", nll_sum(logits, ids900.data, 900) / 899, g->nll_900, 2e-6);
    free(logits);
    /* Windows of 1024 over the whole genome; the first base of each is not scored. */
    double total = 0;
    int64_t scored = 0;
    for (int64_t begin = 0; begin < genome.dims[0]; begin += 1024) {
        int64_t window[1024], n = genome.dims[0] - begin < 1024 ? genome.dims[0] - begin : 1024;
        for (int64_t i = 0; i < n; i++) window[i] = ((const uint8_t *)genome.data)[begin + i];
        logits = run_output(&o, window, 1, n, "logits", &shape);
        total += nll_sum(logits, window, n);
        scored += n - 1;
        free(logits);
    }
    assert_int_equal(scored, 16552);
    near("NLL, whole MT-human", total / (double)scored, g->nll_whole, 2e-6);
    close_all(&o);
}

static void real_model(void **state) {
    (void)state;
    char weights[512], path[512];
    const char *at = shared_path("data/dna/hyenadna-tiny-1k");
    if (!at || !shared_path("golden/dna/hyenadna-tiny-1k-mt")) {
        print_message("STRAND_SHARED has no hyenadna-tiny-1k: skipped\n");
        skip();
    }
    snprintf(weights, sizeof weights, "%s", at);
    strand_context *c = open_context(&(open_with){.threads = 2});
    strand_file *inputs, *expected, *whole;
    snprintf(path, sizeof path, "%s/input.safetensors", shared_path("golden/dna/hyenadna-tiny-1k-mt"));
    assert_ok(c, strand_file_open(c, path, &inputs));
    snprintf(path, sizeof path, "%s/expected.safetensors", shared_path("golden/dna/hyenadna-tiny-1k-mt"));
    assert_ok(c, strand_file_open(c, path, &expected));
    snprintf(path, sizeof path, "%s/input.safetensors", shared_path("golden/dna/hyenadna-tiny-1k-perbase-mt-human"));
    assert_ok(c, strand_file_open(c, path, &whole));
    numbers golden[2];
    read_golden(shared_path("data/dna/hyenadna-tiny-1k/GOLDEN.md"), golden);
    for (int i = 0; i < 2; i++) judge(c, weights, &golden[i], inputs, expected, whole);
    strand_file_close(whole);
    strand_file_close(expected);
    strand_file_close(inputs);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_numbers.c - the numbers of data/dna/hyenadna-tiny-1k/GOLDEN.md: likelihoods, sums and single values of the real model on the
 * human mitochondrial genome, for both filter shifts. Skips, saying so, when STRAND_SHARED is not there. */
#include "runs.h"

#include <math.h>

#define VOCAB 16
#define WIDTH 128

typedef struct numbers {
    const char *setting;
    double nll, sum, sum_abs, logits[3][5], hidden[4], nll_900, nll_whole;
} numbers;

static const numbers golden[] = {
    {"shift=0.05", 1.371308176, 4418.350657, 79143.020705,
     {{1.057238, 0.777088, 0.958545, 0.962594, -14.943817}, {0.543496, 1.521266, 0.120555, 1.043838, -14.927941}, {0.455173, 0.161602, 0.290844, 0.500944, -6.873728}},
     {-0.520178, 0.267112, -0.392118, 5.743278}, 1.348524176, 1.379172372},
    {"shift=0.0", 1.370994759, 4454.840896, 78962.580033,
     {{1.056843, 0.778434, 0.958198, 0.963547, -14.959547}, {0.602342, 1.480846, 0.144141, 1.028216, -15.022906}, {0.659023, 0.241638, 0.507895, 0.766170, -9.981816}},
     {-0.519722, 0.265787, -0.393997, 5.749559}, 1.349528609, 1.377754953},
};

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

static void judge(strand_context *c, const char *weights, const numbers *g, const strand_file *inputs, const strand_file *whole) {
    strand_tensor ids, ids900, genome, shape;
    run_how how = {.settings = {g->setting}, .n_settings = 1};
    opened o = open_all(c, weights, &how, 1, 1024);
    const char *key, *value;
    assert_int_equal(strand_model_setting(o.model, 0, &key, &value), STRAND_OK);
    assert_string_equal(key, "shift");
    assert_true(tensor_named(inputs, "ids_1024", &ids) && tensor_named(inputs, "ids_900", &ids900) && tensor_named(whole, "ids", &genome));
    float *logits = run_output(&o, ids.data, 1, 1024, "logits", &shape), *h = run_output(&o, ids.data, 1, 1024, "hidden", &shape);
    double sum = 0, sum_abs = 0;
    for (int64_t i = 0; i < 1024 * WIDTH; i++) {
        sum += h[i];
        sum_abs += fabs((double)h[i]);
    }
    print_message("%s\n", g->setting);
    near("NLL", nll_sum(logits, ids.data, 1024) / 1023, g->nll, 2e-6);
    near("sum h", sum, g->sum, 0.05); /* 131072 values */
    near("sum |h|", sum_abs, g->sum_abs, 0.05);
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
    strand_file *inputs, *whole;
    snprintf(path, sizeof path, "%s/input.safetensors", shared_path("golden/dna/hyenadna-tiny-1k-mt"));
    assert_ok(c, strand_file_open(c, path, &inputs));
    snprintf(path, sizeof path, "%s/input.safetensors", shared_path("golden/dna/hyenadna-tiny-1k-perbase-mt-human"));
    assert_ok(c, strand_file_open(c, path, &whole));
    for (int i = 0; i < 2; i++) judge(c, weights, &golden[i], inputs, whole);
    print_message("the filter of layer 0 is no output of the model: skipped\n");
    strand_file_close(whole);
    strand_file_close(inputs);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(real_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

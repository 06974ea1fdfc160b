/* test_golden.c - the published models' own numbers: every committed case, and every HyenaDNA case below STRAND_SHARED, on the CPU
 * plugin in each of its builds, on the mix of faraway and CPU, and in little memory. The tolerance is that of the cases' README. */
#define _GNU_SOURCE
#include "runs.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

#define TOLERANCE 1e-4

static bool tensor_named(const strand_file *f, const char *name, strand_tensor *t) {
    for (int64_t i = 0; i < strand_file_count(f); i++)
        if (!strand_file_get(f, i, t) && !strcmp(t->name, name)) return true;
    return false;
}

/* One way to run. */
typedef struct variant {
    const char *name, *backends, *queue, *subset;
    uint32_t mask;
    int level; /* the x86-64 level of a build that runs with this mask, 0: any */
    int threads;
    double limit; /* of what the plan would need */
    bool slow;    /* not on the wider models */
} variant;

static const variant variants[] = {
    {.name = "cpu", .backends = "cpu", .threads = 2},
    {.name = "cpu, AVX-512 hidden", .backends = "cpu", .mask = STRAND_CPU_HIDE_V4, .level = 3},
    {.name = "cpu, AVX2 hidden", .backends = "cpu", .mask = STRAND_CPU_HIDE_V3 | STRAND_CPU_HIDE_V4, .level = 2},
    {.name = "cpu, 60 % of the memory", .backends = "cpu", .limit = 0.6, .slow = true},
    {.name = "cpu, least memory", .backends = "cpu", .limit = 0.001},
#ifndef TEST_STATIC
    {.name = "cpu-reference", .backends = "cpu-reference", .threads = 2, .slow = true},
    {.name = "faraway,cpu deferred", .backends = "faraway,cpu"},
    {.name = "faraway,cpu late", .backends = "faraway,cpu", .queue = "thread", .slow = true},
    {.name = "faraway,cpu other subset", .backends = "faraway,cpu", .subset = "5"},
    {.name = "faraway,cpu least memory", .backends = "faraway,cpu", .subset = "6", .limit = 0.001, .slow = true},
#endif
};
#define N_VARIANTS (sizeof variants / sizeof variants[0])

static double worst[N_VARIANTS];
static int n_compared;

static bool uses_faraway(const variant *v) {
    return strstr(v->backends, "faraway") != NULL;
}

/* Was the CPU plugin not built for what is left of the instruction sets (-Dcpu_variants)? */
static bool not_built(const variant *v) {
    return v->level && TEST_CPU_LEAST > v->level;
}

static strand_context *open_variant(const variant *v, log_count *log) {
    faraway_env(v->queue, v->subset, NULL);
    return open_context(&(open_with){.threads = v->threads, .cpu_mask = v->mask, .faraway = uses_faraway(v), .log = log});
}

/* A limit as a share of what the unlimited plan needs; when that is too little, the least that the error names. */
static uint64_t limit_for(strand_context *c, const char *path, run_how *how, double share, int64_t batch, int64_t length) {
    strand_model *m;
    strand_plan *p;
    strand_plan_params pp;
    double least = 0;
    uint64_t limit = (uint64_t)(share * (double)unlimited_bytes(c, path, how, batch, length));
    strand_plan_params_init(&pp);
    pp.max_batch = batch;
    pp.max_length = length;
    pp.backends = how->backends;
    assert_ok(c, strand_model_open(c, path, NULL, &m));
    for (int tries = 0; tries < 3; tries++) {
        pp.memory_limit = limit;
        strand_status status = strand_plan_open(m, &pp, &p);
        if (!status) {
            strand_plan_close(p);
            break;
        }
        const char *at = strstr(strand_error(c), "at least ");
        if (status != STRAND_ERR_LIMIT || !at || sscanf(at, "at least %lf MiB", &least) != 1 || tries == 2)
            fail_msg("%s: %s", path, strand_error(c));
        limit = (uint64_t)((least + 0.051) * 1048576);
    }
    strand_model_close(m);
    return limit;
}

/* Compares one result with its expected tensor, of which `every` says which positions are kept. */
static void compare(const char *folder, size_t v, const char *what, const float *have, const strand_tensor *shape,
                    const strand_tensor *want, int64_t every) {
    int64_t width = shape->dims[shape->rank - 1], rows = 1;
    double most = 0;
    for (int i = 0; i + 1 < want->rank; i++) rows *= want->dims[i];
    assert_int_equal(want->dims[want->rank - 1], width);
    if (every == 1) assert_int_equal(want->bytes, shape->bytes);
    for (int64_t r = 0; r < rows; r++) {
        double d = largest_difference(have + r * every * width, (const float *)want->data + r * width, (size_t)width);
        if (d > most) most = d;
    }
    n_compared++;
    if (most > worst[v]) worst[v] = most;
    if (!(most <= TOLERANCE)) fail_msg("%s, %s, %s: differs by %.3g", folder, variants[v].name, what, most);
    /* An expected tensor of zeros would prove nothing. */
    assert_true(largest_magnitude(want->data, (size_t)(rows * width)) > 1e-3);
}

/* Every expected tensor of one input. `suffix` and `ids` are empty and input_ids but for the case with several runs. */
static void run_input(strand_context *c, size_t v, const char *folder, const char *weights, const strand_tensor *ids,
                      strand_file *expected, const char *suffix, const char *setting) {
    run_how how = {.backends = variants[v].backends, .settings = {setting}, .n_settings = setting != NULL};
    int64_t batch = ids->dims[0], length = ids->dims[1];
    if (variants[v].limit > 0) how.limit = limit_for(c, weights, &how, variants[v].limit, batch, length);
    opened o = open_all(c, weights, &how, batch, length);
    static const char *const outputs[][3] = {{"hidden", "hidden", "1"},
                                             {"hidden_f64", "hidden", "1"},
                                             {"hidden_every16", "hidden", "16"},
                                             {"logits", "logits", "1"},
                                             {"class_logits", "class_logits", "1"}};
    int found = 0;
    if (uses_faraway(&variants[v])) {
        strand_plan_node_info node;
        int there = 0;
        for (int32_t i = 0; !strand_plan_node(o.plan, i, &node); i++) there += !strcmp(node.backend, "faraway");
        assert_true(there > 0 && there < o.info.nodes);
    }
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        char name[96];
        strand_tensor want, shape;
        snprintf(name, sizeof name, "%s%s", outputs[i][0], suffix);
        if (!tensor_named(expected, name, &want)) continue;
        float *have = run_output(&o, ids->data, batch, length, outputs[i][1], &shape);
        compare(folder, v, name, have, &shape, &want, strtol(outputs[i][2], NULL, 10));
        free(have);
        found++;
    }
    assert_true(found > 0);
    close_all(&o);
}

/* The real model's case: two inputs and two shifts in one file. Its weights lie elsewhere. */
static void run_mt(strand_context *c, size_t v, const char *folder, strand_file *inputs, strand_file *expected) {
    static const char *const shifts[] = {"0.05", "0.0"}, *const runs[] = {"1024", "900"};
    const char *weights = shared_path("data/dna/hyenadna-tiny-1k");
    if (!weights) {
        print_message("  %s: its weights are not there; skipped\n", folder);
        return;
    }
    char path[512], name[64], suffix[64], setting[64];
    snprintf(path, sizeof path, "%s", weights);
    for (int s = 0; s < 2; s++)
        for (int r = 0; r < 2; r++) {
            strand_tensor ids;
            snprintf(name, sizeof name, "ids_%s", runs[r]);
            snprintf(suffix, sizeof suffix, "_%s_shift%s", runs[r], shifts[s]);
            snprintf(setting, sizeof setting, "shift=%s", shifts[s]);
            assert_true(tensor_named(inputs, name, &ids));
            run_input(c, v, folder, path, &ids, expected, suffix, setting);
        }
}

static void run_case(const char *folder, bool first_variant_only) {
    char path[512];
    const char *name = strrchr(folder, '/') + 1;
    if (strstr(name, "-perbase-")) {
        print_message("  %s: judged by the tests of the command; skipped here\n", name);
        return;
    }
    for (size_t v = 0; v < (first_variant_only ? 1 : N_VARIANTS); v++) {
        strand_file *inputs, *expected;
        strand_tensor ids;
        if (variants[v].slow && !strstr(name, "-d32-") && !strstr(name, "-hf-")) continue;
        if (not_built(&variants[v])) continue;
        log_count log = {0};
        strand_context *c = open_variant(&variants[v], &log);
        snprintf(path, sizeof path, "%s/input.safetensors", folder);
        assert_ok(c, strand_file_open(c, path, &inputs));
        snprintf(path, sizeof path, "%s/expected.safetensors", folder);
        assert_ok(c, strand_file_open(c, path, &expected));
        if (tensor_named(inputs, "input_ids", &ids))
            run_input(c, v, name, folder, &ids, expected, "", NULL);
        else
            run_mt(c, v, name, inputs, expected);
        strand_file_close(inputs);
        strand_file_close(expected);
        strand_context_close(c);
        if (log.violations) fail_msg("%s, %s: %s", name, variants[v].name, log.last);
    }
    print_message("  %s: compared%s\n", name, strstr(name, "-mt") ? " (its filters in test_numbers.c)" : "");
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The folders in `root` whose name begins so, sorted; returns how many. */
static int folders(const char *root, const char *prefix, char **names, int most) {
    DIR *dir = opendir(root);
    int n = 0;
    for (struct dirent *e; dir && (e = readdir(dir)) && n < most;)
        if (!strncmp(e->d_name, prefix, strlen(prefix))) assert_true(asprintf(&names[n++], "%s/%s", root, e->d_name) > 0);
    if (dir) closedir(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    return n;
}

static void print_worst(void) {
    for (size_t v = 0; v < N_VARIANTS; v++)
        if (not_built(&variants[v]))
            print_message("  %s: this build has no such variant of the CPU plugin; skipped\n", variants[v].name);
        else if (worst[v] > 0)
            print_message("  worst error, %-26s %.2e (tolerance %.0e)\n", variants[v].name, worst[v], TOLERANCE);
}

static void committed_cases(void **state) {
    (void)state;
    char *names[32];
    int n = folders(source_path("tests/golden/dna"), "hyenadna", names, 32);
    assert_true(n >= 3);
    for (int i = 0; i < n; i++) {
        run_case(names[i], false);
        free(names[i]);
    }
    int built = 0;
    for (size_t v = 0; v < N_VARIANTS; v++) built += !not_built(&variants[v]);
    assert_true(n_compared >= 3 * built);
    print_worst();
}

static void shared_cases(void **state) {
    (void)state;
    const char *root = shared_path("golden/dna");
    if (!root) {
        print_message("STRAND_SHARED has no golden/dna: skipped\n");
        skip();
    }
    char *names[64], path[512];
    int before = n_compared, n;
    snprintf(path, sizeof path, "%s", root);
    n = folders(path, "hyenadna", names, 64);
    for (int i = 0; i < n; i++) {
        struct stat st; /* the committed ones were judged in every variant already */
        bool committed = !stat(source_path("tests/golden/dna/%s", strrchr(names[i], '/') + 1), &st);
        run_case(names[i], committed);
        free(names[i]);
    }
    assert_true(n > 0 && n_compared > before);
    print_worst();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(committed_cases), cmocka_unit_test(shared_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

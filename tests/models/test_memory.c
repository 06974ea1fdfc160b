/* test_memory.c - the plan is obeyed: what a run adds to the resident memory of its process is what the plan said, and no more
 * than a little: peak RSS, less that of a run that does nothing, less the mapped weights, is at most 1.05 x the plan + 16
 * MiB. With the shape of the largest published model (8 layers, width 256) at 1 k and 32 k bases, with and without a limit.
 * Each run is a process of its own: this program, started with arguments.
 *
 *   test-memory                       the tests
 *   test-memory MODEL LENGTH LIMIT    one run: prints "plan-bytes weight-bytes peak-rss-bytes"; length 0 runs nothing
 * For 160 k and 1 M bases use the benchmark command. */
#define _GNU_SOURCE
#include "support.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t peak_rss(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)u.ru_maxrss * 1024;
}

/* The child: everything through the public API, nothing measured but by the kernel. */
static int one_run(const char *path, int64_t length, uint64_t limit) {
    strand_context_params cp;
    strand_plan_params pp;
    strand_context *c;
    strand_model *m = NULL;
    strand_plan *p = NULL;
    strand_session *s = NULL;
    strand_plan_info info = {0};
    strand_model_info facts = {0};
    strand_context_params_init(&cp);
    strand_plan_params_init(&pp);
    cp.threads = 2;
    pp.max_length = length;
    pp.memory_limit = limit;
    pp.backends = "cpu";
    pp.outputs = "logits";
    if (strand_context_open(&cp, &c)) return 1;
    strand_status status = length ? strand_model_open(c, path, NULL, &m) : STRAND_OK;
    if (length && !status) status = strand_plan_open(m, &pp, &p);
    if (length && !status) status = strand_session_open(p, NULL, &s);
    int8_t *ids = malloc((size_t)length + 1);
    for (int64_t i = 0; i < length; i++) ids[i] = (int8_t)(7 + (i * 7 + i / 5) % 4);
    strand_tensor in = {"input_ids", STRAND_I8, 2, {1, length}, ids, (uint64_t)length}, out = {.name = "logits"};
    if (length && !status && strand_session_run(s, &in, 1, &out, 1)) {
        fprintf(stderr, "%s\n", strand_session_error(s));
        return 1;
    }
    if (status) {
        fprintf(stderr, "%s\n", strand_error(c));
        return 1;
    }
    if (length) {
        strand_plan_get(p, &info);
        strand_model_get(m, &facts);
    }
    printf("%llu %llu %llu\n", (unsigned long long)info.block_bytes, (unsigned long long)facts.weight_bytes,
           (unsigned long long)peak_rss());
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
    strand_context_close(c);
    free(ids);
    return 0;
}

typedef struct measured {
    uint64_t plan, weights, rss;
} measured;

static measured run_child(const char *path, int64_t length, uint64_t limit) {
    char command[1200], line[256] = "", self[512] = "";
    unsigned long long a = 0, b = 0, c = 0;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 1) fail_msg("no /proc/self/exe");
    snprintf(command, sizeof command, "'%s' '%s' %lld %llu", self, path, (long long)length, (unsigned long long)limit);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    if (!fgets(line, sizeof line, f)) line[0] = 0;
    int status = pclose(f);
    if (status || sscanf(line, "%llu %llu %llu", &a, &b, &c) != 3) fail_msg("%s: status %d, \"%s\"", command, status, line);
    return (measured){a, b, c};
}

#define MIB 1048576.0

/* Returns the plan's bytes. */
static uint64_t obeyed(const char *path, int64_t length, uint64_t limit) {
    measured empty = run_child(path, 0, 0), got = run_child(path, length, limit);
    double used = (double)got.rss - (double)empty.rss - (double)got.weights, allowed = 1.05 * (double)got.plan + 16 * MIB;
    print_message(
        "  %6lld bases, limit %6.1f MiB: plan %6.1f MiB, weights %.1f, empty %.1f, peak %.1f: used %.1f of %.1f allowed\n",
        (long long)length, (double)limit / MIB, (double)got.plan / MIB, (double)got.weights / MIB, (double)empty.rss / MIB,
        (double)got.rss / MIB, used / MIB, allowed / MIB);
    if (limit) assert_true(got.plan <= limit);
    assert_true(got.weights > 12 * 1000000);
    if (!(used <= allowed)) fail_msg("the run used %.1f MiB more than the plan allows", (used - allowed) / MIB);
    /* The measure itself: a run that needs hundreds of MiB must show them. */
    if ((double)got.plan > 200 * MIB) assert_true(used > 0.5 * (double)got.plan);
    return got.plan;
}

static char folder[] = "/tmp/strand-memory-XXXXXX";

static int make_model(void **state) {
    (void)state;
    char command[1200];
    if (!mkdtemp(folder)) return -1;
    snprintf(command, sizeof command, "'%s' '%s' --d 256 --layers 8 --l-max 1000002 --seed 3",
             build_path("tests/models/make-hyenadna"), folder);
    return system(command);
}

static int remove_model(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    unlink(path);
    return rmdir(folder);
}

static void at_1k(void **state) {
    (void)state;
    obeyed(folder, 1024, obeyed(folder, 1024, 0) * 7 / 10);
}

static void at_32k(void **state) {
    (void)state;
    obeyed(folder, 32768, obeyed(folder, 32768, 0) * 4 / 10);
}

/* A million bases are planned alone: the runs are long. Without a limit they take more than six times as much. */
static void a_million_fit(void **state) {
    const uint64_t limit = (uint64_t)3400 << 20;
    strand_plan_params pp;
    strand_plan_info info = {0};
    strand_context *c = NULL;
    strand_model *m = NULL;
    strand_plan *p = NULL;
    (void)state;
    assert_int_equal(strand_context_open(NULL, &c), STRAND_OK);
    assert_int_equal(strand_model_open(c, folder, NULL, &m), STRAND_OK);
    strand_plan_params_init(&pp);
    pp.max_length = 1000000;
    pp.backends = "cpu";
    pp.memory_limit = limit;
    if (strand_plan_open(m, &pp, &p)) fail_msg("%s", strand_error(c));
    assert_int_equal(strand_plan_get(p, &info), STRAND_OK);
    assert_true(info.block_bytes <= limit);
    strand_plan_close(p);
    strand_model_close(m);
    strand_context_close(c);
}

int main(int argc, char **argv) {
    if (argc == 4) return one_run(argv[1], strtoll(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_1k), cmocka_unit_test(at_32k), cmocka_unit_test(a_million_fit)};
    return cmocka_run_group_tests(tests, make_model, remove_model);
}

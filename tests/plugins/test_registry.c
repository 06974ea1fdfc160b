/* test_registry.c - the handshake as an application sees it: every bad plugin is refused with one line that says why, and
 * what is good still works beside it. */
#define _GNU_SOURCE
#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *flaw, *says;
} refused[] = {
    {"no-entry", "does not export strand_plugin_entry"},
    {"magic", "magic number is wrong"},
    {"major", "speaks plugin ABI 2.3, this library 1.3"},
    {"short-table", "its table is short"},
    {"short-api", "its function table is short"},
    {"layout", "strand_plugin_tensor.origin is"},
    {"short-layout", "another layout (5 entries there"},
    {"no-ops", "lists no operators"},
    {"no-api", "has no function table"},
    {"no-score", "has no 'score'"},
    {"slot", "has no 'launch'"},
    {"dependency", "libstrand-absent.so"},
    {"open", "its initialisation failed with status 7 (the machine room"},
    {"score", "cannot run here: there is no moon tonight"},
    {"buffers", "own memory but no buffer functions"},
    {"entry", "its entry failed with status 2"},
    {"alignment", "alignment that is not a power of two"},
    {"submit", "only one of 'submit' and 'wait'"},
    {"no-device", "it has no device"},
    {"device-info", "device_info failed"},
    {"device-open", "did not open, status 7 (it is asleep)"},
    {"name", "its name is missing or not made of"},
    {"long-name", "its name is missing or not made of"},
};

static const char *bad_plugin(const char *flaw) {
    return build_path("tests/plugins/bad/strand-bad-%s.so", flaw);
}

/* The refusal of the file whose path ends so; fails the test when there is none, or when its text is not one line. */
static const char *refusal(const strand_context *c, const char *end) {
    const char *file, *why;
    for (int32_t i = 0; i < strand_refused_count(c); i++) {
        assert_int_equal(strand_refused_get(c, i, &file, &why), STRAND_OK);
        size_t n = strlen(file), m = strlen(end);
        if (n < m || strcmp(file + n - m, end) != 0) continue;
        assert_true(strlen(why) > 10);
        for (const char *at = why; *at; at++) assert_true((unsigned char)*at >= 32 && *at != 127);
        return why;
    }
    fail_msg("%s was not refused", end);
    return "";
}

/* The model runs on what is left. */
static void still_works(strand_context *c, const char *backends) {
    strand_model *m;
    strand_plan *p;
    strand_session *s;
    int64_t ids[64];
    strand_tensor in = {"input_ids", STRAND_I64, 2, {1, 64}, ids, sizeof ids}, out = {.name = "logits"};
    for (int i = 0; i < 64; i++) ids[i] = 7 + i % 4;
    assert_ok(c, strand_model_open(c, source_path("tests/golden/dna/hyenadna-hf-causal"), NULL, &m));
    strand_plan_params pp;
    strand_plan_params_init(&pp);
    pp.max_length = 64;
    pp.backends = backends;
    assert_ok(c, strand_plan_open(m, &pp, &p));
    assert_ok(c, strand_session_open(p, NULL, &s));
    if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("%s", strand_session_error(s));
    assert_int_equal(out.dims[1], 64);
    assert_true(largest_magnitude(out.data, 64) > 0.01 && largest_magnitude(out.data, 64) < 100);
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
}

static void each_flaw_is_refused_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char end[64];
        strand_context *c = open_context(&(open_with){.plugin_path = bad_plugin(refused[i].flaw)});
        snprintf(end, sizeof end, "strand-bad-%s.so", refused[i].flaw);
        const char *why = refusal(c, end);
        if (!strstr(why, refused[i].says)) fail_msg("%s: \"%s\" does not say \"%s\"", end, why, refused[i].says);
        print_message("  %-13s %s\n", refused[i].flaw, why);
        assert_false(has_backend(c, "plain"));
        assert_true(has_backend(c, "cpu"));
        strand_context_close(c);
    }
}

/* All at once, from the folder. Of the twins the first by name stays; "previous" loads. */
static void a_folder_of_bad_ones(void **state) {
    (void)state;
    log_count log = {0};
    counting memory = {0};
    strand_context *c =
        open_context(&(open_with){.plugin_path = build_path("tests/plugins/bad"), .log = &log, .memory = &memory});
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char end[64];
        snprintf(end, sizeof end, "strand-bad-%s.so", refused[i].flaw);
        refusal(c, end);
    }
    const char *why = refusal(c, "strand-bad-twin-b.so");
    assert_non_null(strstr(why, "another plugin named 'twin' is already loaded from "));
    assert_non_null(strstr(why, "strand-bad-twin-a.so"));
    assert_true(has_backend(c, "twin") && has_backend(c, "previous") && has_backend(c, "cpu"));
    still_works(c, "cpu");
    still_works(c, "twin,previous");
    strand_context_close(c);
    assert_int_equal(memory.live, 0);
    assert_int_equal(memory.wrong, 0);
}

/* ABI 1.0: its function table ends before `claim`. It is placed, run, and gives the CPU's bytes. */
static void the_previous_minor_version_works(void **state) {
    (void)state;
    static float hidden[2][200 * 32];
    int64_t ids[200];
    int on_it = 0;
    randoms r = {1};
    for (int i = 0; i < 200; i++) ids[i] = 7 + random_below(&r, 4);
    strand_context *c = open_context(&(open_with){.plugin_path = bad_plugin("previous")});
    strand_model *m;
    assert_ok(c, strand_model_open(c, source_path("tests/golden/dna/hyenadna-hf-causal"), NULL, &m));
    for (int k = 0; k < 2; k++) {
        strand_plan *p;
        strand_session *s;
        strand_plan_node_info node;
        strand_plan_params pp;
        strand_plan_params_init(&pp);
        pp.max_length = 200;
        pp.backends = k ? "previous,cpu" : "cpu";
        assert_ok(c, strand_plan_open(m, &pp, &p));
        for (int32_t i = 0; !strand_plan_node(p, i, &node); i++) on_it += !strcmp(node.backend, "previous");
        strand_tensor in = {"input_ids", STRAND_I64, 2, {1, 200}, ids, sizeof ids},
                      out = {.name = "hidden", .data = hidden[k], .bytes = sizeof hidden[k]};
        assert_ok(c, strand_session_open(p, NULL, &s));
        if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("%s", strand_session_error(s));
        strand_session_close(s);
        strand_plan_close(p);
    }
    assert_true(on_it >= 4); /* the residual additions, at least */
    assert_same_bytes(hidden[0], hidden[1], sizeof hidden[0], "hidden on cpu and on previous,cpu");
    strand_model_close(m);
    strand_context_close(c);
}

static void copy_file(const char *from, const char *to, mode_t mode) {
    FILE *f = fopen(from, "rb"), *g = fopen(to, "wb");
    char block[65536];
    size_t n;
    assert_true(f && g);
    while ((n = fread(block, 1, sizeof block, f)) > 0) assert_int_equal(fwrite(block, 1, n, g), n);
    fclose(f);
    assert_int_equal(fclose(g), 0);
    assert_int_equal(chmod(to, mode), 0);
}

/* The folder is made afresh in the test's own. */
static void search_rules(void **state) {
    (void)state;
    char folder[] = "/tmp/strand-registry-XXXXXX", path[128], list[1024];
    assert_non_null(mkdtemp(folder));
    const char *names[] = {"strand-open.so", "libstrand-other.so", "strand-plain.so.1", "strand-.so", "strand-pipe.so"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        copy_file(bad_plugin("previous"), path, i ? 0644 : 0666);
    }
    snprintf(path, sizeof path, "%s/%s", folder, names[4]);
    assert_int_equal(mkdir(path, 0755), 0);

    strand_context *c = open_context(&(open_with){.plugin_path = folder});
    assert_false(has_backend(c, "previous")); /* one may be written by anybody, the others have other names */
    assert_non_null(strstr(refusal(c, "strand-open.so"), "may be written by anybody"));
    assert_non_null(strstr(refusal(c, "strand-pipe.so"), "is not a file"));
    assert_int_equal(strand_refused_count(c), strand_refused_count(c));
    const char *file, *why;
    for (int32_t i = 0; i < strand_refused_count(c); i++) {
        assert_int_equal(strand_refused_get(c, i, &file, &why), STRAND_OK);
        assert_null(strstr(file, "libstrand-other")); /* not even looked at */
        assert_null(strstr(file, ".so.1"));
    }
    strand_context_close(c);

    /* Named outright, a file of another name is refused in so many words; one that is not there too. */
    snprintf(list, sizeof list, "%s/libstrand-other.so:%s/strand-nobody.so", folder, folder);
    c = open_context(&(open_with){.plugin_path = list});
    assert_non_null(strstr(refusal(c, "libstrand-other.so"), "is not named strand-*.so"));
    assert_non_null(strstr(refusal(c, "strand-nobody.so"), "cannot be opened"));
    strand_context_close(c);

    /* The same file twice, by two paths, is one plugin and no refusal. */
    snprintf(path, sizeof path, "%s/strand-open.so", folder);
    assert_int_equal(chmod(path, 0644), 0);
    snprintf(list, sizeof list, "%s:%s/.:%s", folder, folder, path);
    c = open_context(&(open_with){.plugin_path = list});
    assert_true(has_backend(c, "previous"));
    for (int32_t i = 0; i < strand_refused_count(c); i++) {
        assert_int_equal(strand_refused_get(c, i, &file, &why), STRAND_OK);
        assert_null(strstr(file, "strand-open.so"));
    }
    strand_context_close(c);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/%s", folder, names[4]);
    rmdir(path);
    rmdir(folder);
}

/* Relative entries would mean the working directory: refused, in both lists; and the directory itself is never looked in. */
static void never_the_working_directory(void **state) {
    (void)state;
    char *before = getcwd(NULL, 0), *list = strdup(getenv("STRAND_BACKEND_PATH"));
    char both[1024];
    assert_int_equal(chdir(build_path("tests/plugins/bad")), 0);
    strand_context *c = open_context(&(open_with){0});
    assert_false(has_backend(c, "previous") || has_backend(c, "twin"));
    strand_context_close(c);
    snprintf(both, sizeof both, "%s:.:strand-bad-previous.so::../bad", list);
    setenv("STRAND_BACKEND_PATH", both, 1);
    c = open_context(&(open_with){.plugin_path = "./strand-bad-previous.so"});
    assert_false(has_backend(c, "previous"));
    assert_non_null(strstr(refusal(c, "./strand-bad-previous.so"), "is not an absolute path"));
    assert_non_null(strstr(refusal(c, "../bad"), "is not an absolute path"));
    assert_non_null(strstr(refusal(c, "."), "never looked for in the working directory"));
    strand_context_close(c);
    setenv("STRAND_BACKEND_PATH", list, 1);
    assert_int_equal(chdir(before), 0);
    free(before);
    free(list);
}

/* Without any usable plugin the context does not open, and the log says what to do. */
static void without_a_backend(void **state) {
    (void)state;
    char *list = strdup(getenv("STRAND_BACKEND_PATH"));
    log_count log = {0};
    counting memory = {0};
    strand_allocator allocator = counting_allocator(&memory);
    strand_context_params p;
    strand_context *c = (strand_context *)(void *)&log;
    strand_context_params_init(&p);
    p.allocator = &allocator;
    p.log = log_counter;
    p.log_user = &log;
    p.no_plugins = 1;
    assert_int_equal(strand_context_open(&p, &c), STRAND_ERR_BACKEND);
    assert_ptr_equal(c, &log); /* untouched */
    assert_non_null(strstr(log.last, "STRAND_BACKEND_PATH"));
    assert_int_equal(memory.live, 0);
    setenv("STRAND_BACKEND_PATH", bad_plugin("magic"), 1);
    p.no_plugins = 0;
    if (strand_context_open(&p, &c) == STRAND_ERR_BACKEND) /* an installed library may find its own */
        assert_non_null(strstr(log.last, "magic number is wrong"));
    else
        strand_context_close(c);
    assert_int_equal(memory.live, 0);
    setenv("STRAND_BACKEND_PATH", list, 1);
    free(list);
}

/* The mask hides instruction sets: the score of what stays goes down, and what is not needed says so. */
static void the_best_of_one_name_stays(void **state) {
    (void)state;
    int32_t score = INT32_MAX;
    bool all = true; /* else with everything hidden nothing would be left */
#if defined(__x86_64__)
    all = access(build_path("backends/cpu/strand-cpu-x86-64.so"), F_OK) == 0;
#endif
    if (!all) print_message("the baseline is not built (cpu_variants): no instruction set is hidden\n");
    for (uint32_t mask = 0; mask <= (all ? 3 : 0); mask += mask ? 1 : 2) {
        strand_context *c = open_context(&(open_with){.cpu_mask = mask});
        strand_backend_info info = {0};
        int cpus = 0;
        for (int32_t i = 0; i < strand_backend_count(c); i++) {
            assert_int_equal(strand_backend_get(c, i, &info), STRAND_OK);
            if (strcmp(info.name, "cpu") != 0) continue;
            cpus++;
            assert_true(info.score <= score && info.score > 0 && info.host_memory);
            score = info.score;
        }
        assert_int_equal(cpus, 1);
        if (mask == 3) assert_int_equal(score, 1);
        strand_context_close(c);
    }
}

static void refusals_can_be_asked_for_safely(void **state) {
    (void)state;
    const char *file = "same", *why = "same";
    strand_backend_info info;
    strand_context *c = open_context(&(open_with){.plugin_path = bad_plugin("magic")});
    assert_int_equal(strand_refused_get(c, -1, &file, &why), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_refused_get(c, strand_refused_count(c), &file, &why), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_refused_get(NULL, 0, &file, &why), STRAND_ERR_ARGUMENT);
    assert_string_equal(file, "same");
    assert_int_equal(strand_backend_get(c, strand_backend_count(c), &info), STRAND_ERR_ARGUMENT);
    assert_int_equal(strand_backend_count(NULL), 0);
    strand_context_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_flaw_is_refused_alone),       cmocka_unit_test(a_folder_of_bad_ones),
        cmocka_unit_test(the_previous_minor_version_works), cmocka_unit_test(search_rules),
        cmocka_unit_test(never_the_working_directory),      cmocka_unit_test(without_a_backend),
        cmocka_unit_test(the_best_of_one_name_stays),       cmocka_unit_test(refusals_can_be_asked_for_safely),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

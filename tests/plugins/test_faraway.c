/* test_faraway.c - first that faraway is what it says: memory that kills who touches it, work that is not done before wait,
 * checks that see a broken ABI. Then that the library lives through a device that fails: at every upload, launch, download,
 * wait ... with and without losing the device for good. */
#define _GNU_SOURCE
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "context.h"

static registry_device *device_of(strand_context *c) {
    registry_device *d = registry_find(&c->registry, "faraway", 7);
    assert_non_null(d);
    return d;
}

/* Does reading through the handle end a process? */
static bool kills(const void *handle, size_t offset) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* sanitizers catch it otherwise */
        signal(SIGBUS, SIG_DFL);
        volatile const unsigned char *at = handle;
        unsigned char c = at[offset];
        _exit(c == 255 ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void memory_is_out_of_reach(void **state) {
    (void)state;
    faraway_env(NULL, NULL, NULL);
    strand_context *c = open_context(&(open_with){.faraway = true});
    registry_device *d = device_of(c);
    const strand_plugin_api *api = d->plugin->table.api;
    strand_plugin_buffer *b;
    assert_int_equal(api->buffer_create(d->device, 10000, &b), 0);
    assert_true(kills(b, 0) && kills(b, 5000) && kills(b, 9999));
    api->buffer_destroy(d->device, b);
    strand_context_close(c);
}

static void nothing_is_done_before_wait(void **state) {
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        float in[4] = {1, 2, 3, 4}, out[4] = {0}, rubbish[4];
        uint64_t first, second;
        strand_plugin_buffer *b;
        faraway_env(thread ? "thread" : NULL, NULL, NULL);
        setenv("STRAND_FARAWAY_DELAY_US", "200000", 1);
        strand_context *c = open_context(&(open_with){.faraway = true});
        registry_device *d = device_of(c);
        const strand_plugin_api *api = d->plugin->table.api;
        assert_true(d->info.flags & STRAND_DEVICE_ASYNC);
        assert_int_equal(api->buffer_create(d->device, 4096, &b), 0);
        assert_int_equal(api->download(d->device, b, 0, rubbish, sizeof rubbish), 0);
        assert_int_equal(api->upload(d->device, b, 256, in, sizeof in), 0);
        assert_int_equal(api->submit(d->device, &first), 0);
        assert_int_equal(api->download(d->device, b, 256, out, sizeof out), 0);
        assert_int_equal(api->submit(d->device, &second), 0);
        in[2] = 33; /* the host may not: the copy has not happened yet, and it shows */
        assert_true(out[0] == 0);
        assert_int_equal(api->wait(d->device, first), 0);
        if (!thread) assert_true(out[0] == 0);
        assert_int_equal(api->wait(d->device, second), 0);
        assert_true(out[0] == 1 && out[2] == 33 && rubbish[0] != rubbish[0]);
        assert_int_equal(api->wait(d->device, second + 5), STRAND_PLUGIN_ERR_ARGUMENT);
        api->buffer_destroy(d->device, b);
        strand_context_close(c);
    }
    unsetenv("STRAND_FARAWAY_DELAY_US");
    faraway_env(NULL, NULL, NULL);
}

/* A launch of RELU over 16 values, broken in one place at a time. */
static void a_broken_abi_is_seen(void **state) {
    (void)state;
    static const char *const says[] = {"",
                                       "not inside a live buffer",
                                       "has a host address",
                                       "is not aligned",
                                       "overlaps input 0",
                                       "of 16",
                                       "has no memory",
                                       "was not accepted like this",
                                       "the last stride",
                                       "no node of the group makes it",
                                       "has 60 bytes, 64 are needed"};
    faraway_env(NULL, NULL, NULL);
    strand_context *c = open_context(&(open_with){.faraway = true});
    registry_device *d = device_of(c);
    const strand_plugin_api *api = d->plugin->table.api;
    strand_plugin_buffer *b;
    assert_int_equal(api->buffer_create(d->device, 4096, &b), 0);
    for (size_t flaw = 0; flaw < sizeof says / sizeof says[0]; flaw++) {
        strand_op_unary p = {STRAND_UNARY_RELU};
        strand_plugin_tensor in = {.dtype = STRAND_PLUGIN_F32,
                                   .rank = 1,
                                   .dims = {16},
                                   .strides = {1},
                                   .whole = {16},
                                   .id = 1,
                                   .memory = {NULL, b, 0, 64}};
        strand_plugin_tensor out = in;
        out.id = 2;
        out.memory.offset = 256;
        strand_plugin_node node = {.op = STRAND_OP_UNARY,
                                   .version = 1,
                                   .n_inputs = 1,
                                   .n_outputs = 1,
                                   .inputs = &in,
                                   .outputs = &out,
                                   .params = &p,
                                   .name = "relu"};
        switch (flaw) {
        case 1:
            in.memory.offset = 4096;
            break;
        case 2:
            in.memory.data = &in;
            break;
        case 3:
            out.memory.offset = 260;
            break;
        case 4:
            out.memory.offset = 0, in.memory.offset = 32, in.origin[0] = 1, in.dims[0] = out.dims[0] = 15, out.origin[0] = 1;
            break;
        case 5:
            out.dims[0] = 17, in.dims[0] = 17;
            break;
        case 6:
            in.memory = (strand_plugin_memory){0};
            break;
        case 7:
            in.dtype = STRAND_PLUGIN_F16;
            break;
        case 8:
            in.strides[0] = 2;
            break;
        case 9:
            in.memory = (strand_plugin_memory){0}, in.flags = STRAND_TENSOR_INTERNAL;
            break;
        case 10:
            out.memory.bytes = 60;
            break;
        default:
            break;
        }
        char text[256];
        strand_plugin_status status = api->launch(d->device, &node, 1, NULL);
        context_take_fail(c, text, sizeof text);
        assert_int_equal(status, flaw ? STRAND_PLUGIN_ERR_ARGUMENT : STRAND_PLUGIN_OK);
        if (flaw && (!strstr(text, "ABI violation") || !strstr(text, says[flaw])))
            fail_msg("flaw %zu: \"%s\" does not say \"%s\"", flaw, text, says[flaw]);
    }
    uint64_t point;
    assert_int_equal(api->submit(d->device, &point), 0);
    assert_int_equal(api->wait(d->device, point), 0);
    api->buffer_destroy(d->device, b);
    strand_context_close(c);
}

/* ---- a device that fails ---- */

#define LENGTH 40

typedef struct attempt {
    strand_status open, run, again; /* of the session; of the first run that failed, if one of three did; of the next run */
    char text[512];
    float logits[LENGTH * 16];
} attempt;

static strand_status run(strand_session *s, float *to) {
    int64_t ids[LENGTH];
    strand_tensor in = {"input_ids", STRAND_I64, 2, {1, LENGTH}, ids, sizeof ids},
                  out = {.name = "logits", .data = to, .bytes = LENGTH * 16 * sizeof *to};
    for (int i = 0; i < LENGTH; i++) ids[i] = 7 + i % 4;
    return strand_session_run(s, &in, 1, &out, 1);
}

static strand_session *open_session(strand_context *c, strand_model *m, const char *backends, strand_plan **p,
                                    strand_status *status) {
    strand_plan_params pp;
    strand_session *s = NULL;
    strand_plan_params_init(&pp);
    pp.max_length = LENGTH;
    pp.backends = backends;
    assert_ok(c, strand_plan_open(m, &pp, p));
    *status = strand_session_open(*p, NULL, &s);
    return s;
}

static attempt try_with(const char *fault, bool thread) {
    static float cpu[LENGTH * 16];
    attempt a = {0};
    counting memory = {0};
    log_count log = {0};
    strand_model *m;
    strand_plan *p, *q;
    strand_status status;
    faraway_env(thread ? "thread" : NULL, NULL, fault);
    strand_context *c = open_context(&(open_with){.faraway = true, .memory = &memory, .log = &log});
    assert_ok(c, strand_model_open(c, source_path("tests/golden/dna/hyenadna-hf-causal"), NULL, &m));
    strand_session *s = open_session(c, m, "faraway,cpu", &p, &a.open);
    if (a.open) snprintf(a.text, sizeof a.text, "%s", strand_error(c));
    if (s) {
        for (int i = 0; i < 3 && !a.run; i++) a.run = run(s, a.logits); /* launched, recorded, run from the recording */
        snprintf(a.text, sizeof a.text, "%s", strand_session_error(s));
        a.again = run(s, a.logits);
    }
    /* What is on the CPU goes on whatever became of the device. */
    strand_session *other = open_session(c, m, "cpu", &q, &status);
    assert_ok(c, status);
    if (run(other, cpu)) fail_msg("%s: the CPU's session: %s", fault, strand_session_error(other));
    if (s && !a.again && !(largest_difference(cpu, a.logits, LENGTH * 16) < 1e-4))
        fail_msg("%s: wrong results after the failure", fault);
    strand_session_close(other);
    strand_session_close(s);
    strand_plan_close(q);
    strand_plan_close(p);
    strand_model_close(m);
    strand_context_close(c);
    faraway_env(NULL, NULL, NULL);
    if (log.violations) fail_msg("%s: %s", fault, log.last);
    if (memory.live || memory.wrong) fail_msg("%s: %ld blocks are left, %ld freed wrongly", fault, memory.live, memory.wrong);
    return a;
}

static void every_call_may_fail(void **state) {
    (void)state;
    static const char *const kinds[] = {"buffer", "upload", "prepare", "launch", "late", "download", "wait", "replay"};
    static const int statuses[] = {STRAND_PLUGIN_ERR_DEVICE, STRAND_PLUGIN_ERR_MEMORY};
    setenv("STRAND_FARAWAY_DELAY_US", "0", 1);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        int failures = 0;
        for (int n = 1; n < 1000; n += n < 12 ? 1 : 5) {
            bool lost = n % 2 == 0;
            char fault[64];
            snprintf(fault, sizeof fault, "%s:%d:%d%s", kinds[k], n, statuses[n % 3 == 0], lost ? ":lost" : "");
            attempt a = try_with(fault, n % 4 == 3);
            if (!a.open && !a.run && !a.again) break;
            failures++;
            if (a.open || a.run) {
                if (!strstr(a.text, "'faraway'") || strchr(a.text, '\n')) fail_msg("%s: \"%s\"", fault, a.text);
                if ((a.open ? a.open : a.run) != STRAND_ERR_BACKEND && (a.open ? a.open : a.run) != STRAND_ERR_MEMORY)
                    fail_msg("%s: status %s", fault, strand_status_name(a.run));
            }
            if (!a.open && !lost && a.run && a.again) fail_msg("%s: the session is of no use any more", fault);
            if (!a.open && lost && a.run && !a.again) fail_msg("%s: the device is lost, and nobody noticed", fault);
        }
        print_message("  %-9s failed %d times\n", kinds[k], failures);
        assert_true(failures >= (k == 0 ? 1 : 2));
    }
    unsetenv("STRAND_FARAWAY_DELAY_US");
}

/* What cannot be recorded is launched: nobody notices, unless the device is lost with it. */
static void recording_may_fail(void **state) {
    (void)state;
    setenv("STRAND_FARAWAY_DELAY_US", "0", 1);
    for (int n = 1; n < 8; n++)
        for (int lost = 0; lost < 2; lost++) {
            char fault[64];
            snprintf(fault, sizeof fault, "record:%d:%d%s", n, STRAND_PLUGIN_ERR_MEMORY, lost ? ":lost" : "");
            attempt a = try_with(fault, n % 2);
            if (!lost && (a.open || a.run || a.again)) fail_msg("%s: %s", fault, a.text);
            if (lost && !a.run) fail_msg("%s: the device is lost, and nobody noticed", fault);
        }
    unsetenv("STRAND_FARAWAY_DELAY_US");
}

/* What a device is comes as pairs; lines that are none are passed over, and control characters too. */
static void its_features_are_listed(void **state) {
    (void)state;
    strand_context *c = open_context(&(open_with){.faraway = true});
    static const char *const want[][2] = {{"type", "device for tests"}, {"queue", "deferred"}, {"odd text", "a=b c"}};
    strand_backend_info info;
    int found = 0;
    for (int32_t i = 0; !strand_backend_get(c, i, &info); i++) {
        const char *name, *value;
        assert_int_equal(strand_backend_feature(c, i, -1, &name, &value), STRAND_ERR_ARGUMENT);
        if (strcmp(info.name, "faraway") != 0) continue;
        for (int32_t k = 0; k < 3; k++) {
            assert_int_equal(strand_backend_feature(c, i, k, &name, &value), STRAND_OK);
            assert_string_equal(name, want[k][0]);
            assert_string_equal(value, want[k][1]);
        }
        assert_int_equal(strand_backend_feature(c, i, 3, &name, &value), STRAND_ERR_ARGUMENT);
        found++;
    }
    assert_int_equal(found, 1);
    registry *r = &c->registry;
    assert_ptr_equal(registry_find(r, "faraway:For Tests,cpu", 17), device_of(c)); /* by a part of its description */
    assert_null(registry_find(r, "faraway:for guests", 18));
    assert_null(registry_find(r, "faraway:", 8));
    assert_null(registry_find(r, "cpu:for tests", 13));
    strand_context_close(c);
}

static void one_that_does_not_open_is_refused(void **state) {
    (void)state;
    static const char *const faults[] = {"open:1:7", "device:1:7"},
                             *const says[] = {"its initialisation failed with status 7 (open was told to fail)",
                                              "did not open, status 7"};
    for (int i = 0; i < 2; i++) {
        const char *file, *why, *found = "";
        faraway_env(NULL, NULL, faults[i]);
        strand_context *c = open_context(&(open_with){.plugin_path = faraway_folder()});
        assert_true(has_backend(c, "cpu") && !has_backend(c, "faraway"));
        for (int32_t k = 0; !strand_refused_get(c, k, &file, &why); k++)
            if (strstr(file, "strand-faraway.so")) found = why;
        if (!strstr(found, says[i])) fail_msg("\"%s\"", found);
        strand_context_close(c);
    }
    faraway_env(NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_out_of_reach),
        cmocka_unit_test(nothing_is_done_before_wait),
        cmocka_unit_test(a_broken_abi_is_seen),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(recording_may_fail),
        cmocka_unit_test(its_features_are_listed),
        cmocka_unit_test(one_that_does_not_open_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_gpu_faults.c - a GPU plugin whose driver fails: every call in turn, once and for good, with memory refused, a kernel
 * refused and the device lost. Each failure is one error with a text; the CPU beside it gives its bytes; nothing stays
 * allocated on the device or the host; what can go on goes on.
 *
 * The stand-ins of tests/plugins/gpu_faults are linked in, in front of the loader. GPU_FAULTS names the plugin. */
#include "runs.h"

#include "../plugins/gpu_faults/faults.h"

#include <string.h>

#define TOLERANCE 1e-4
#define LENGTH    96

#ifdef GPU_FAULTS_VULKAN
#include <vulkan/vulkan.h>
#define PLUGIN      "vulkan"
#define DEVICE      "vulkan:0"
#define NO_MEMORY   VK_ERROR_OUT_OF_DEVICE_MEMORY
#define LOST        VK_ERROR_DEVICE_LOST
#define ALLOCATE    "vkAllocateMemory"
#define COMPILE     "vkCreateComputePipelines"
#define REFUSED     VK_ERROR_INITIALIZATION_FAILED
#define WORK        "vkQueueSubmit"
#else
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#define PLUGIN      "opencl"
#define DEVICE      "opencl:0"
#define NO_MEMORY   CL_MEM_OBJECT_ALLOCATION_FAILURE
#define LOST        CL_OUT_OF_RESOURCES
#define ALLOCATE    "clCreateBuffer"
#define COMPILE     "clBuildProgram"
#define REFUSED     CL_BUILD_PROGRAM_FAILURE
#define WORK        "clEnqueueNDRangeKernel"
#endif

static int64_t ids[2 * LENGTH];
static float *want; /* the CPU's logits */
static size_t n_want;

static const char *model_path(void) {
    return source_path("tests/golden/dna/hyenadna-d32-n2-l256-ckpt");
}

static strand_context *open_with_gpu(void) {
    return open_context(&(open_with){.threads = 1, .plugin_path = build_path("backends/" PLUGIN)});
}

static void as_wanted(const float *got, const char *what) {
    double d = largest_difference(got, want, n_want);
    if (!(d < TOLERANCE)) fail_msg("%s: differs from the CPU by %g", what, d);
}

static void one_line(const char *text) {
    assert_true(strlen(text) > 10);
    assert_null(strchr(text, '\n'));
}

/* Runs on the GPU, launched, recorded and from the recording, in any state of the driver. True when it went well; else the
 * error's text is in `text`. */
static bool attempt(strand_context *c, char *text, size_t room) {
    strand_model *m;
    strand_plan *p = NULL;
    strand_session *s = NULL;
    strand_plan_params pp;
    assert_ok(c, strand_model_open(c, model_path(), NULL, &m));
    strand_plan_params_init(&pp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = DEVICE;
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, LENGTH}, ids, sizeof ids}, out = {.name = "logits"};
    bool good = !strand_plan_open(m, &pp, &p) && !strand_session_open(p, NULL, &s);
    if (!good) snprintf(text, room, "%s", strand_error(c));
    for (int i = 0; i < 3 && good; i++) {
        out.data = NULL;
        good = !strand_session_run(s, &in, 1, &out, 1);
        if (!good) snprintf(text, room, "%s", strand_session_error(s));
        if (good) as_wanted(out.data, "on the GPU");
    }
    if (!good) one_line(text);
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
    return good;
}

static void cpu_beside(strand_context *c) {
    strand_tensor t;
    float *got = run_once(c, model_path(), &(run_how){.backends = "cpu"}, ids, 2, LENGTH, "logits", &t);
    assert_same_bytes(got, want, n_want * 4, "the CPU beside a failing device");
    free(got);
}

/* Every call in turn: the first ones one by one, then with growing steps, since the later ones repeat themselves. */
static void each_call_fails(void **state) {
    static const struct {
        const char *what;
        int code;
        bool on;
    } kinds[] = {{"once, out of memory", NO_MEMORY, false}, {"for good", LOST, true}};
    char text[600];
    (void)state;
    for (int k = 0; k < 2; k++) {
        int failed = 0;
        bool done = false;
        for (long nth = 1; !done; nth += nth < 10 ? 1 : nth / 3) {
            fault_set("*", nth, kinds[k].code, kinds[k].on);
            strand_context *c = open_with_gpu();
            bool there = has_backend(c, DEVICE);
            if (there) done = attempt(c, text, sizeof text) && fault_calls() < nth; /* a cache that fails is done without */
            if (!there) assert_true(strand_refused_count(c) > 0);
            failed += !done;
            if (there && kinds[k].on && !done) assert_false(attempt(c, text, sizeof text)); /* a lost device stays lost */
            cpu_beside(c);
            strand_context_close(c);
            fault_set(NULL, 0, 0, false);
            assert_int_equal(fault_live(), 0);
        }
        print_message("%s: %d calls failed\n", kinds[k].what, failed);
        assert_true(failed > 12);
    }
}

/* A call of this name fails in the middle of a run; `again`: the same device runs well afterwards. */
static void in_the_middle(const char *name, long nth, int code, bool again, const char *says) {
    char text[600] = "";
    strand_context *c = open_with_gpu();
    assert_true(has_backend(c, DEVICE));
    fault_set(name, nth, code, false);
    assert_false(attempt(c, text, sizeof text));
    if (!strstr(text, says)) fail_msg("%s: the error does not say '%s': %s", name, says, text);
    fault_set(NULL, 0, 0, false);
    bool good = attempt(c, text, sizeof text);
    if (good != again)
        fail_msg("%s: afterwards the device %s: %s", name, again ? "does not run" : "runs, though it was lost", text);
    cpu_beside(c);
    strand_context_close(c);
    assert_int_equal(fault_live(), 0);
}

static void memory_refused(void **state) {
    (void)state;
    in_the_middle(ALLOCATE, 1, NO_MEMORY, true, "MiB");
}

static void kernel_refused(void **state) {
    (void)state;
    setenv("STRAND_VULKAN_FEATURES", "none", 1); /* of a kernel's forms another one would do */
    in_the_middle(COMPILE, 3, REFUSED, true, "kernel");
    unsetenv("STRAND_VULKAN_FEATURES");
}

static void device_lost(void **state) {
    (void)state;
    in_the_middle(WORK, 2, LOST, false, DEVICE);
}

/* A device that gives little at once: the plan is larger, and runs in several buffers. */
static void in_several_buffers(void **state) {
    (void)state;
    fault_largest = (uint64_t)24 << 20;
    strand_context *c = open_with_gpu();
    strand_tensor t;
    opened o = {0};
    for (int64_t batch = 64; batch <= 4096; batch *= 2) {
        o = open_all(c, model_path(), &(run_how){.backends = DEVICE, .max_batch = batch, .max_length = LENGTH}, 2, LENGTH);
        if (o.info.device_bytes > fault_largest) break;
        close_all(&o);
    }
    assert_true(o.info.device_bytes > fault_largest);
    print_message("  %.1f MiB in buffers of %.1f\n", (double)o.info.device_bytes / 1048576, (double)fault_largest / 1048576);
    for (int i = 0; i < 3; i++) {
        float *got = run_output(&o, ids, 2, LENGTH, "logits", &t);
        as_wanted(got, "in several buffers");
        free(got);
    }
    close_all(&o);
    strand_context_close(c);
    fault_largest = 0;
    assert_int_equal(fault_live(), 0);
}

#ifdef GPU_FAULTS_VULKAN
/* Barriers stand where commands depend on one another: weights and inputs are copied side by side, layers come one after
 * another. (That none is missing the validation layer says in the other tests.) */
static void few_barriers(void **state) {
    char text[600];
    (void)state;
    fault_commands = fault_barriers = 0;
    strand_context *c = open_with_gpu();
    assert_true(attempt(c, text, sizeof text));
    strand_context_close(c);
    print_message("  %ld commands, %ld barriers\n", fault_commands, fault_barriers);
    assert_true(fault_commands > 50);
    assert_in_range(fault_barriers, fault_commands / 8, fault_commands * 3 / 4);
}

/* A command buffer cannot be ended. Of a batch that is an error; a recording never runs, and its launches are made one by one.
 * The runs after it are right either way. */
static void recording_not_ended(void **state) {
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, LENGTH}, ids, sizeof ids}, out = {.name = "logits"};
    int errors = 0, went_on = 0;
    (void)state;
    for (long nth = 1, calls = nth; calls >= nth; nth++) {
        int bad = 0;
        strand_context *c = open_with_gpu();
        opened o = open_all(c, model_path(), &(run_how){.backends = DEVICE}, 2, LENGTH);
        fault_set("vkEndCommandBuffer", nth, VK_ERROR_OUT_OF_HOST_MEMORY, false);
        for (int i = 0; i < 5; i++) {
            out.data = NULL;
            if (strand_session_run(o.session, &in, 1, &out, 1))
                bad++;
            else
                as_wanted(out.data, "a command buffer was not ended");
        }
        calls = fault_calls();
        fault_set(NULL, 0, 0, false);
        assert_true(bad <= 1);
        errors += calls >= nth && bad;
        went_on += calls >= nth && !bad;
        close_all(&o);
        strand_context_close(c);
        assert_int_equal(fault_live(), 0);
    }
    print_message("  %d batches and %d recordings not ended\n", errors, went_on);
    assert_true(errors > 0 && went_on > 0);
}

/* The driver refuses one form of a kernel: the next one does, or there is an error where that was the plain one. */
static void form_refused(void **state) {
    char text[600];
    int went_on = 0, plain = 0;
    long calls, last = 0;
    (void)state;
    setenv("STRAND_VULKAN_FEATURES", "all", 1);
    for (long nth = 1;; nth++) {
        strand_context *c = open_with_gpu();
        fault_set(COMPILE, nth, REFUSED, false);
        bool good = attempt(c, text, sizeof text);
        calls = fault_calls();
        fault_set(NULL, 0, 0, false);
        strand_context_close(c);
        assert_int_equal(fault_live(), 0);
        if (calls < nth) break;
        if (!good && !strstr(text, "kernel")) fail_msg("kernel %ld: the error does not name it: %s", nth, text);
        if (good && last) assert_int_equal(calls, last); /* one call more than without the fault */
        if (good) last = calls;
        went_on += good;
        plain += !good;
    }
    unsetenv("STRAND_VULKAN_FEATURES");
    print_message("  %d forms and %d plain kernels refused\n", went_on, plain);
    assert_int_equal(last, calls + 1);
    assert_true(went_on > 0 && plain > 0);
}

/* All forms are refused: the plain ones do. */
static void all_forms_refused(void **state) {
    char text[600] = "";
    (void)state;
    setenv("STRAND_VULKAN_FEATURES", "all", 1);
    fault_plain = true;
    strand_context *c = open_with_gpu();
    if (!attempt(c, text, sizeof text)) fail_msg("%s", text);
    strand_context_close(c);
    fault_plain = false;
    unsetenv("STRAND_VULKAN_FEATURES");
    assert_int_equal(fault_live(), 0);
}

/* Modules that read halves ask for tiny ones to be kept where the device can be asked; a processor need not be; a device that
 * may lose them gets none. */
static void tiny_halves(void **state) {
    char text[600] = "";
    (void)state;
    setenv("STRAND_VULKAN_FEATURES", "all", 1);
    for (int says = FAULT_HALVES_AS_IS; says <= FAULT_HALVES_LOST; says++) {
        fault_tiny_halves = says;
        fault_halves = fault_keeping = 0;
        strand_context *c = open_with_gpu();
        if (!attempt(c, text, sizeof text)) fail_msg("%s", text);
        strand_context_close(c);
        print_message("  %ld modules read halves, %ld ask for tiny ones\n", fault_halves, fault_keeping);
        if (says == FAULT_HALVES_KEPT) assert_true(fault_halves > 0 && fault_keeping == fault_halves);
        if (says == FAULT_HALVES_LOST) assert_true(fault_halves == 0 && fault_keeping == 0);
        if (says == FAULT_HALVES_AS_IS) assert_true(fault_keeping == 0 || fault_keeping == fault_halves);
    }
    fault_tiny_halves = FAULT_HALVES_AS_IS;
    unsetenv("STRAND_VULKAN_FEATURES");
    assert_int_equal(fault_live(), 0);
}
#define MORE_TESTS \
    , cmocka_unit_test(few_barriers), cmocka_unit_test(recording_not_ended), cmocka_unit_test(form_refused), \
        cmocka_unit_test(all_forms_refused), cmocka_unit_test(tiny_halves)
#else
#define MORE_TESTS
#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_several_buffers), cmocka_unit_test(each_call_fails),
                                       cmocka_unit_test(memory_refused), cmocka_unit_test(kernel_refused),
                                       cmocka_unit_test(device_lost) MORE_TESTS};
    setenv("STRAND_CACHE_DIR", "", 1); /* without a cache every kernel is compiled */
    strand_context *c = open_with_gpu();
    if (!has_backend(c, DEVICE)) {
        printf("there is no " PLUGIN " device: skipped\n");
        strand_context_close(c);
        return 77;
    }
    strand_context_close(c);
    strand_tensor t;
    randoms r = {random_seed("gpu faults", 3)};
    random_bases(&r, ids, 2 * LENGTH);
    c = open_context(&(open_with){.threads = 1});
    want = run_once(c, model_path(), &(run_how){.backends = "cpu"}, ids, 2, LENGTH, "logits", &t);
    n_want = (size_t)t.bytes / 4;
    strand_context_close(c);
    int failed = cmocka_run_group_tests_name("faults of " PLUGIN, tests, NULL, NULL);
    free(want);
    return failed;
}

/* test_cuda.c - the CUDA plugin's host side, and its kernels, on the emulated driver of tests/plugins/emulated_cuda (which
 * must be the libcuda.so.1 that the loader finds): a whole model without a fall-back, on either of two devices, from eight
 * threads; launches recorded as graphs; failures of every call of the driver, once and for good; a device that is too small;
 * memory of a pool, and without one (argument "old": on a driver that does not know pools). Nothing may stay allocated,
 * nothing be touched outside. */
#define _GNU_SOURCE
#include "runs.h"

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <unistd.h>

#define TOLERANCE 1e-4
#define LENGTH 96

static struct {
    void (*fail_call)(const char *name, long nth, int code);
    long (*live)(void);
    const char *(*wrong)(void);
    long (*launches)(void);
    long (*launches_of)(const char *prefix);
    long (*graph_launches)(void);
    const char *(*failed)(void);
    long (*calls_of)(const char *name);
    float (*sum)(float c, int f16, unsigned long n, const float *a, const float *b);
} cuda;

static const char *model_path(void) {
    return source_path("tests/golden/dna/hyenadna-d32-n2-l256-ckpt");
}

static void nothing_left(void) {
    assert_string_equal(cuda.wrong(), "");
    assert_int_equal(cuda.live(), 0);
}

static strand_context *open_with_cuda(void) {
    return open_context(&(open_with){.threads = 1, .plugin_path = build_path("backends/cuda")});
}

static void only_on(const opened *o, const char *backend) {
    strand_plan_node_info n;
    for (int32_t i = 0; !strand_plan_node(o->plan, i, &n); i++)
        if (strcmp(n.backend, backend) != 0) fail_msg("node %s (%s) is on %s: %s", n.name, n.op, n.backend, n.why);
}

static int64_t ids[2 * LENGTH];
static float *want; /* the CPU's logits */
static size_t n_want;

static void make_wanted(void) {
    strand_tensor t;
    randoms r = {random_seed("cuda", 3)};
    random_bases(&r, ids, 2 * LENGTH);
    strand_context *c = open_context(&(open_with){.threads = 1});
    want = run_once(c, model_path(), &(run_how){.backends = "cpu"}, ids, 2, LENGTH, "logits", &t);
    n_want = (size_t)t.bytes / 4;
    strand_context_close(c);
}

static void as_wanted(const float *got, const char *what) {
    double d = largest_difference(got, want, n_want);
    if (!(d < TOLERANCE)) fail_msg("%s: differs from the CPU by %g", what, d);
}

static void either_device(void **state) {
    (void)state;
    setenv("EMULATED_CUDA_DEVICES", "2", 1);
    strand_context *c = open_with_cuda();
    assert_true(has_backend(c, "cuda:0") && has_backend(c, "cuda:1"));
    for (int i = 0; i < 2; i++) {
        char name[16];
        strand_tensor t;
        snprintf(name, sizeof name, "cuda:%d", i);
        long before = cuda.launches();
        opened o = open_all(c, model_path(), &(run_how){.backends = name}, 2, LENGTH);
        only_on(&o, name);
        float *got = run_output(&o, ids, 2, LENGTH, "logits", &t);
        as_wanted(got, name);
        assert_true(cuda.launches() > before + 20);
        free(got);
        close_all(&o);
    }
    strand_context_close(c);
    unsetenv("EMULATED_CUDA_DEVICES");
    nothing_left();
}

/* From the second run of the same extents on the launches are a graph's, and it is made once; other extents have their own.
 * The bytes are those of the first run. */
static void recorded(void **state) {
    (void)state;
    static const int64_t lengths[] = {LENGTH, LENGTH, LENGTH, LENGTH / 2, LENGTH / 2, LENGTH, LENGTH / 2};
    static const bool graphs[] = {false, true, true, false, true, true, true};
    float *first[2] = {NULL, NULL};
    strand_context *c = open_with_cuda();
    opened o = open_all(c, model_path(), &(run_how){.backends = "cuda:0"}, 2, LENGTH);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        strand_tensor t;
        long before = cuda.graph_launches();
        float *got = run_output(&o, ids, 2, lengths[i], "logits", &t), **same = &first[lengths[i] != LENGTH];
        assert_int_equal(cuda.graph_launches() > before, graphs[i]);
        if (*same) {
            assert_same_bytes(got, *same, (size_t)t.bytes, "a recorded run");
            free(got);
        } else {
            *same = got;
        }
    }
    as_wanted(first[0], "the first run");
    free(first[0]);
    free(first[1]);
    close_all(&o);
    strand_context_close(c);
    nothing_left();
}

/* A decoding step, from the third token on, is one graph's launch: the token goes in with one copy, its logits come back with
 * one, and nothing else is asked of the driver but to wait once for them. */
static void decoding_steps(void **state) {
    (void)state;
    static const struct {
        const char *name;
        long clocks; /* copies beside the token's: where its sequence stands */
    } models[] = {{"mamba1/orig-d32-n2-l64", 0},
                  {"mamba2/orig-d64-n2-l101-g2", 0},
                  {"rwkv7/pth-d48-n2-l130", 0},
                  {"llama/gqa-d48-n3-l96-sharded-tied", 3}};
    static const char *const calls[] = {"cuGraphLaunch",       "cuMemcpyHtoDAsync",           "cuMemcpyDtoHAsync",
                                        "cuStreamSynchronize", "cuMemcpyDtoDAsync",           "cuLaunchKernel",
                                        "cuEventSynchronize",  "cuGraphInstantiateWithFlags", "cuMemAllocFromPoolAsync"};
    enum { N = sizeof calls / sizeof calls[0], STEPS = 8 };
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        strand_context *c = open_with_cuda();
        opened o = open_all(c, source_path("tests/golden/text/%s", models[m].name),
                            &(run_how){.backends = "cuda:0", .max_batch = 1, .max_length = 1, .outputs = "logits"}, 1, 1);
        only_on(&o, "cuda:0");
        for (int64_t t = 0; t < STEPS; t++) {
            long before[N];
            strand_tensor out;
            int64_t id = 3 + t % 5;
            for (int i = 0; i < N; i++) before[i] = cuda.calls_of(calls[i]);
            free(run_output(&o, &id, 1, 1, "logits", &out));
            for (int i = 0; i < N && t > 1; i++) {
                long n = cuda.calls_of(calls[i]) - before[i], most = i == 1 ? 1 + models[m].clocks : i < 4;
                if (n > most || (i != 1 && n != most))
                    fail_msg("%s, token %d: %ld calls of %s, not %ld", models[m].name, (int)t, n, calls[i], most);
            }
        }
        close_all(&o);
        strand_context_close(c);
        nothing_left();
    }
}

/* Tokens are few launches, in the bytes of their nodes one by one: the layers' (each of Mamba four: norm, projections and
 * convolution; time steps' factor, B and C; time steps and scan; projection and sum), then what begins and ends a model. */
static void fused_steps(void **state) {
    (void)state;
    enum { STEPS = 5, BATCH = 2, MOST = 1 << 16 };
    static const struct {
        const char *name, *setting;
        long launches; /* of a token */
    } models[] = {{"mamba1/orig-d32-n2-l64", "precision=f32", 2 * 4 + 3},
                  {"mamba1/orig-d32-n2-l64", "precision=f16", 2 * 4 + 3},
                  {"mamba2/orig-d64-n2-l101-g2", "precision=f32", 0},
                  {"mamba2/orig-d64-n2-l101-g2", "precision=bf16", 0},
                  {"rwkv7/pth-d48-n2-l130", "precision=f32", 0},
                  {"llama/gqa-d48-n3-l96-sharded-tied", "precision=f32", 0}};
    static float first[STEPS][MOST];
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        long counts[2] = {0, 0};
        for (int together = 0; together < 2; together++) {
            setenv("STRAND_CUDA_GROUPS", together ? "1" : "0", 1);
            strand_context *c = open_with_cuda();
            opened o = open_all(c, source_path("tests/golden/text/%s", models[m].name),
                                &(run_how){.backends = "cuda:0", .max_batch = BATCH, .max_length = 1, .outputs = "logits",
                                           .settings = {models[m].setting}, .n_settings = 1},
                                BATCH, 1);
            for (int t = 0; t < STEPS; t++) {
                strand_tensor out;
                const int64_t id[BATCH] = {3 + t % 5, 7 - t};
                const long before = cuda.launches();
                float *y = run_output(&o, id, BATCH, 1, "logits", &out);
                counts[together] = cuda.launches() - before;
                assert_true(out.bytes <= sizeof first[t]);
                if (together)
                    assert_same_bytes(y, first[t], (size_t)out.bytes, models[m].name);
                else
                    memcpy(first[t], y, (size_t)out.bytes);
                free(y);
            }
            close_all(&o);
            strand_context_close(c);
            nothing_left();
        }
        print_message("%s, %s: %ld launches a token, %ld node by node\n", models[m].name, models[m].setting, counts[1], counts[0]);
        assert_true(counts[1] < counts[0]);
        if (models[m].launches) assert_int_equal(counts[1], models[m].launches);
    }
    unsetenv("STRAND_CUDA_GROUPS");
}

/* Something fails once while a token's launches are recorded, made ready or launched for the first time: they are made one by
 * one then, this token's and those that come, in the same bytes. A model of one token leaves its nodes waiting until the end of
 * a recording. */
static void steps_after_failures(void **state) {
    (void)state;
    enum { STEPS = 4, MOST = 1 << 12, MOST_NTH = 14 };
    static const char *const calls[] = {"cuGraphCreate", "cuGraphAddKernelNode", "cuGraphInstantiateWithFlags",
                                        "cuGraphLaunch", "cuModuleLoadData",     "cuModuleGetFunction",
                                        NULL};
    static float good[STEPS][MOST];
    int failures = 0;
    for (int i = -1; i < 0 || calls[i]; i++)
        for (long nth = 1, there = 1; there && nth < MOST_NTH; nth += i < 0 ? MOST_NTH : 1) {
            strand_context *c = open_with_cuda();
            opened o = open_all(c, source_path("tests/golden/text/mamba1/orig-d32-n2-l64"),
                                &(run_how){.backends = "cuda:0", .max_batch = 1, .max_length = 1, .outputs = "logits"}, 1, 1);
            for (int t = 0; t < STEPS; t++) {
                strand_tensor out;
                const int64_t id = 3 + t % 5;
                if (t == 1 && i >= 0) cuda.fail_call(calls[i], nth, 2);
                float *y = run_output(&o, &id, 1, 1, "logits", &out);
                if (t == 1 && i >= 0) there = cuda.failed()[0] != 0, failures += (int)there;
                cuda.fail_call(NULL, 0, 0);
                assert_true(out.bytes <= sizeof good[t]);
                if (i < 0)
                    memcpy(good[t], y, (size_t)out.bytes);
                else
                    assert_same_bytes(y, good[t], (size_t)out.bytes, calls[i]);
                free(y);
            }
            close_all(&o);
            strand_context_close(c);
            nothing_left();
        }
    print_message("%d failures\n", failures);
    assert_true(failures > 12);
}

/* Products that may be in BF16 run on tensor cores, unless the setting says no. */
static void tensor_cores(void **state) {
    (void)state;
    for (int off = 0; off < 2; off++) {
        strand_tensor t;
        setenv("STRAND_CUDA_TENSOR_CORES", off ? "0" : "1", 1);
        long before = cuda.launches_of("product_bf16");
        strand_context *c = open_with_cuda();
        float *got =
            run_once(c, model_path(), &(run_how){.backends = "cuda:0", .settings = {"precision=bf16"}, .n_settings = 1}, ids, 2,
                     LENGTH, "logits", &t);
        assert_int_equal(cuda.launches_of("product_bf16") > before, !off);
        assert_true(largest_difference(got, want, n_want) < 0.5);
        free(got);
        strand_context_close(c);
        nothing_left();
    }
    unsetenv("STRAND_CUDA_TENSOR_CORES");
}

/* What is around a layer's long convolution is two launches with precision=bf16, of the bytes of its nodes one by one: many
 * tokens, few, and fewer than tensor cores take; a batch; widths of 128 and 256. */
static void layers_of_hyena(void **state) {
    (void)state;
    enum { LONGEST = 520, MOST_BATCH = 2 };
    static const struct {
        int d, layers, batch;
        int64_t length;
    } cases[] = {{128, 2, 1, LONGEST}, {128, 2, 2, 130}, {128, 2, 1, 9}, {256, 1, 2, 121}};
    static int64_t bases[MOST_BATCH * LONGEST];
    char folder[] = "/tmp/strand-hyena-XXXXXX", path[64], command[512];
    randoms r = {random_seed("cuda", 5)};
    random_bases(&r, bases, MOST_BATCH * LONGEST);
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, cases[i].d);
        snprintf(command, sizeof command, "'%s' %s --d %d --layers %d --l-max %d", build_path("tests/models/make-hyenadna"),
                 path, cases[i].d, cases[i].layers, LONGEST);
        assert_int_equal(system(command), 0);
        run_how how = {
            .backends = "cpu", .settings = {"precision=bf16"}, .n_settings = 1, .max_length = LONGEST, .max_batch = MOST_BATCH};
        strand_tensor t;
        float *y[3];
        for (int k = 0; k < 3; k++) {
            setenv("STRAND_CUDA_GROUPS", k == 1 ? "0" : "1", 1);
            long in = cuda.launches_of("hyena_in"), out = cuda.launches_of("hyena_out");
            how.backends = k ? "cuda:0" : "cpu";
            strand_context *c = open_with_cuda();
            y[k] = run_once(c, path, &how, bases, cases[i].batch, cases[i].length, "hidden", &t);
            strand_context_close(c);
            nothing_left();
            assert_int_equal(cuda.launches_of("hyena_in") - in, k == 2 ? cases[i].layers : 0);
            assert_int_equal(cuda.launches_of("hyena_out") - out, k == 2 && cases[i].length >= 16 ? cases[i].layers : 0);
        }
        double largest = 0, off = largest_difference(y[0], y[2], (size_t)t.bytes / 4);
        for (size_t k = 0; k < (size_t)t.bytes / 4; k++) largest = fmax(largest, fabs((double)y[0][k]));
        print_message("width %d, %d x %d: %.2g of the largest away from the CPU\n", cases[i].d, cases[i].batch,
                      (int)cases[i].length, off / largest);
        assert_true(off < 1e-2 * largest); /* factors are rounded to BF16 in every product: 5e-3 was seen */
        assert_same_bytes(y[1], y[2], (size_t)t.bytes, "nodes, groups");
        for (int k = 0; k < 3; k++) free(y[k]);
    }
    unsetenv("STRAND_CUDA_GROUPS");
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* Convolutions of more than 256 positions are products on tensor cores, in F32's own precision; rounded where the setting
 * lets them. */
static void long_convolutions(void **state) {
    (void)state;
    enum { LONG = 500 };
    static int64_t bases[LONG];
    const char *path = source_path("tests/golden/dna/hyenadna-hf-causal"), *const settings[2] = {"precision=f32",
                                                                                                 "precision=bf16"};
    randoms r = {random_seed("cuda", 4)};
    random_bases(&r, bases, LONG);
    strand_context *c = open_with_cuda();
    strand_tensor t;
    float *good = run_once(c, path, &(run_how){.backends = "cpu"}, bases, 1, LONG, "logits", &t);
    double largest = 0;
    for (size_t i = 0; i < (size_t)t.bytes / 4; i++) largest = fmax(largest, fabs((double)good[i]));
    for (int rounded = 0; rounded < 2; rounded++) {
        long precise = cuda.launches_of("long_conv_2_f16x2"), all = cuda.launches_of("long_conv_2_f16");
        float *got = run_once(c, path, &(run_how){.backends = "cuda:0", .settings = {settings[rounded]}, .n_settings = 1},
                              bases, 1, LONG, "logits", &t);
        assert_true(cuda.launches_of("long_conv_2_f16") > all);
        assert_int_equal(cuda.launches_of("long_conv_2_f16x2") > precise, !rounded);
        double d = largest_difference(got, good, (size_t)t.bytes / 4) / largest;
        print_message("%s: %.2g of the largest logit\n", settings[rounded], d);
        assert_true(d < (rounded ? 2e-2 : 1e-5));
        free(got);
    }
    free(good);
    strand_context_close(c);
    nothing_left();
}

/* One try with whatever is set to fail; true when everything went well. */
static bool attempt(strand_context *c) {
    strand_model *m;
    strand_plan *p = NULL;
    strand_session *s = NULL;
    strand_plan_params pp;
    assert_ok(c, strand_model_open(c, model_path(), NULL, &m));
    strand_plan_params_init(&pp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = "cuda:0";
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, LENGTH}, ids, sizeof ids}, out = {.name = "logits"};
    bool good = !strand_plan_open(m, &pp, &p);
    if (!good) assert_true(strlen(strand_error(c)) > 10);
    if (good) {
        good = !strand_session_open(p, NULL, &s);
        if (!good) assert_true(strlen(strand_error(c)) > 10);
    }
    for (int i = 0; i < 3 && good; i++) { /* the second run records its launches */
        good = !strand_session_run(s, &in, 1, &out, 1);
        if (!good) assert_true(strlen(strand_session_error(s)) > 10);
        if (good) as_wanted(out.data, "after failures");
    }
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
    return good;
}

/* A model's life with one failing call. The process, and the CPU beside it, live on. True when there were so many calls. */
static bool with_a_failure(const char *name, long nth, int code, int *failures) {
    bool there = true;
    cuda.fail_call(name, nth, code);
    strand_context *c = open_with_cuda();
    if (has_backend(c, "cuda:0")) {
        bool good = attempt(c);
        *failures += !good;
        if (code >= 700 && !good) assert_false(attempt(c)); /* a lost device stays lost */
        there = cuda.failed()[0];
    } else {
        assert_true(strand_refused_count(c) > 0);
        ++*failures;
    }
    strand_tensor t;
    float *got = run_once(c, model_path(), &(run_how){.backends = "cpu"}, ids, 2, LENGTH, "logits", &t);
    assert_same_bytes(got, want, n_want * 4, "the CPU beside a failing device");
    free(got);
    strand_context_close(c);
    cuda.fail_call(NULL, 0, 0);
    nothing_left();
    return there;
}

/* Every call in turn fails once with an error that passes, or for good. */
static void each_call_fails(void **state) {
    (void)state;
    static const int codes[2] = {2 /* out of memory */, 719 /* launch failure, sticky */};
    static const char *const rare[] = {"cuGraphCreate",  "cuGraphAddKernelNode", "cuGraphInstantiateWithFlags",
                                       "cuGraphLaunch",  "cuMemFreeAsync",       "cuEventCreate",
                                       "cuMemHostAlloc", "cuStreamCreate"};
    for (int sticky = 0; sticky < 2; sticky++) {
        int failed = 0;
        /* the first calls one by one, then with growing steps: the later ones repeat themselves */
        for (long nth = 1; with_a_failure("*", nth, codes[sticky], &failed);) nth += nth < 60 ? 1 : nth / 12;
        for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++)
            for (long nth = 1; nth < 3; nth++)
                /* each is called at least once */
                if (!with_a_failure(rare[i], nth, codes[sticky], &failed)) assert_int_equal(nth, 2);
        print_message("%s: %d runs failed\n", sticky ? "for good" : "once", failed);
        assert_true(failed > 60);
    }
}

static void too_small(void **state) {
    (void)state;
    setenv("EMULATED_CUDA_BYTES", "100000", 1);
    strand_context *c = open_with_cuda();
    assert_false(attempt(c));
    assert_non_null(strstr(strand_error(c), "MiB"));
    strand_context_close(c);
    unsetenv("EMULATED_CUDA_BYTES");
    nothing_left();
}

static long pool_calls, plain_calls;
static void count_memory(void) {
    pool_calls = cuda.calls_of("cuMemAllocFromPoolAsync");
    plain_calls = cuda.calls_of("cuMemAlloc");
}
/* Of memory since count_memory: from a pool, or plain? */
static void memory_came_from(bool pool, const char *when) {
    long p = cuda.calls_of("cuMemAllocFromPoolAsync") - pool_calls, n = cuda.calls_of("cuMemAlloc") - plain_calls;
    if ((p > 0) != pool || (n > 0) == pool) fail_msg("%s: %ld allocations from a pool, %ld plain ones", when, p, n);
}

/* Memory is the stream's where the device has pools, and plain where it has none, the driver is old or the pool cannot be
 * made. */
static void memory_pools(void **state) {
    const bool old = *state != NULL;
    static const struct {
        const char *devices, *ours, *fails;
        bool pool, good;
    } cases[] = {{"1", NULL, NULL, true, true},
                 {"0", NULL, NULL, false, true},
                 {"1", "0", NULL, false, true},
                 {"1", NULL, "cuMemPoolCreate", false, true},
                 {"1", NULL, "cuMemPoolSetAttribute", true, true},
                 {"1", NULL, "cuMemFreeAsync", true, true},
                 {"1", NULL, "cuMemAllocFromPoolAsync", true, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setenv("EMULATED_CUDA_POOLS", cases[i].devices, 1);
        if (cases[i].ours) setenv("STRAND_CUDA_POOL", cases[i].ours, 1);
        count_memory();
        cuda.fail_call(cases[i].fails, 1, 2);
        strand_context *c = open_with_cuda();
        const char *when = cases[i].fails ? cases[i].fails : "nothing fails";
        if (attempt(c) != (old || cases[i].good)) fail_msg("%s", when);
        memory_came_from(!old && cases[i].pool, when);
        if (!old && cases[i].fails) assert_string_equal(cuda.failed(), cases[i].fails);
        strand_context_close(c);
        cuda.fail_call(NULL, 0, 0);
        unsetenv("STRAND_CUDA_POOL");
        nothing_left();
    }
    unsetenv("EMULATED_CUDA_POOLS");
}

/* Another program takes the memory that the plan was promised: the session says so in one line, and it opens when there is
 * memory again. */
static void memory_taken(void **state) {
    (void)state;
    strand_context *c = open_with_cuda();
    opened o = open_all(c, model_path(), &(run_how){.backends = "cuda:0"}, 2, LENGTH);
    strand_session *other;
    strand_tensor t;
    setenv("EMULATED_CUDA_BYTES", "100000", 1);
    assert_int_not_equal(strand_session_open(o.plan, NULL, &other), STRAND_OK);
    assert_non_null(strstr(strand_error(c), "MiB that the plan needs"));
    assert_null(strchr(strand_error(c), '\n'));
    unsetenv("EMULATED_CUDA_BYTES");
    assert_ok(c, strand_session_open(o.plan, NULL, &other));
    strand_session_close(other);
    float *got = run_output(&o, ids, 2, LENGTH, "logits", &t);
    as_wanted(got, "after a refusal");
    free(got);
    close_all(&o);
    strand_context_close(c);
    nothing_left();
}

typedef struct worker {
    strand_plan *plan;
    int failures;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    strand_session *s;
    if (strand_session_open(w->plan, NULL, &s)) {
        w->failures = 1;
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        strand_tensor in = {"input_ids", STRAND_I64, 2, {2, LENGTH}, ids, sizeof ids}, out = {.name = "logits"};
        if (strand_session_run(s, &in, 1, &out, 1) || !(largest_difference(out.data, want, n_want) < TOLERANCE)) w->failures++;
    }
    strand_session_close(s);
    return NULL;
}

/* Two contexts, and eight threads on one plan of each. */
static void many_threads(void **state) {
    (void)state;
    strand_context *c[2];
    opened o[2];
    pthread_t threads[8];
    worker workers[8] = {{0}};
    for (int i = 0; i < 2; i++) {
        c[i] = open_with_cuda();
        o[i] = open_all(c[i], model_path(), &(run_how){.backends = "cuda:0"}, 2, LENGTH);
    }
    for (int i = 0; i < 8; i++) {
        workers[i].plan = o[i % 2].plan;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
    }
    for (int i = 0; i < 2; i++) {
        close_all(&o[i]);
        strand_context_close(c[i]);
    }
    nothing_left();
}

/* Without a driver: one line that names what is missing, nothing else. Another process, since this one has the emulated
 * driver. */
static void without_a_driver(void **state) {
    (void)state;
    char command[1024], line[512] = "";
    snprintf(command, sizeof command,
             "env -u LD_LIBRARY_PATH '%s' backends --plugins '%s' 2>&1 | grep -A1 strand-cuda.so | tail -n 1",
             build_path("apps/strand"), build_path("backends/cuda"));
    if (access(build_path("apps/strand"), 1) != 0) {
        print_message("the command line is not built: skipped\n");
        skip();
    }
    FILE *p = popen(command, "r");
    assert_non_null(p);
    bool any = fgets(line, sizeof line, p) != NULL;
    pclose(p);
    if (any && !strstr(line, "libcuda.so.1") && !strstr(line, "no CUDA device")) {
        print_message("there is a CUDA device here: skipped\n");
        skip();
    }
    assert_true(any);
    assert_non_null(strstr(line, "libcuda.so.1"));
}

/* The driver's tensor cores: what is not finite comes through, also multiplied with zero; zeros are zero; what is below the
 * last bit of the largest term is cut off. */
static void sums_of_tensor_cores(void **state) {
    (void)state;
    for (int bad = 0; bad < 3; bad++) /* NaN, infinities; in one to 16 of 16 terms */
        for (unsigned long n = 1; n <= 16; n++) {
            float a[16], b[16];
            for (unsigned long k = 0; k < 16; k++)
                a[k] = k < n ? 0 : 1, b[k] = k < n ? (bad ? bad == 1 ? INFINITY : -INFINITY : NAN) : 1;
            assert_true(isnan(cuda.sum(1, 1, 16, a, b)));
        }
    const float zeros[2] = {0, 0}, fours[2] = {4, 4}, ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    assert_true(cuda.sum(0, 1, 2, zeros, fours) == 0 && !signbit(cuda.sum(0, 1, 2, zeros, fours)));
    assert_true(cuda.sum(1, 1, 16, ones, ones) == 17);
    const float tiny[1] = {0x1p-14f};
    assert_true(cuda.sum(-0x1p10f, 1, 1, tiny, ones) == -0x1p10f); /* 2^-24 of it: rounded to nearest or cut off, nothing */
    const float more[1] = {0x1.8p-14f};
    assert_true(cuda.sum(0x1p10f, 1, 1, more, ones) == 0x1p10f); /* nearest would be the next number */
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(either_device),        cmocka_unit_test(recorded),
                                       cmocka_unit_test(decoding_steps),       cmocka_unit_test(fused_steps),
                                       cmocka_unit_test(steps_after_failures), cmocka_unit_test(layers_of_hyena),
                                       cmocka_unit_test(tensor_cores),         cmocka_unit_test(long_convolutions),
                                       cmocka_unit_test(each_call_fails),      cmocka_unit_test(too_small),
                                       cmocka_unit_test(memory_pools),         cmocka_unit_test(memory_taken),
                                       cmocka_unit_test(many_threads),         cmocka_unit_test(without_a_driver),
                                       cmocka_unit_test(sums_of_tensor_cores)};
    static int yes = 1;
    const struct CMUnitTest tests_of_old[] = {cmocka_unit_test(either_device), cmocka_unit_test_prestate(memory_pools, &yes),
                                              cmocka_unit_test(memory_taken)};
    if (argc > 2 && !strcmp(argv[1], "only")) cmocka_set_test_filter(argv[2]); /* one test, by its name */
    const bool old = argc > 1 && !strcmp(argv[1], "old"); /* the driver is the one without pools */
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    *(void **)&cuda.fail_call = driver ? dlsym(driver, "emulated_cuda_fail") : NULL;
    *(void **)&cuda.live = driver ? dlsym(driver, "emulated_cuda_live") : NULL;
    *(void **)&cuda.wrong = driver ? dlsym(driver, "emulated_cuda_wrong") : NULL;
    *(void **)&cuda.launches = driver ? dlsym(driver, "emulated_cuda_launches") : NULL;
    *(void **)&cuda.launches_of = driver ? dlsym(driver, "emulated_cuda_launches_of") : NULL;
    *(void **)&cuda.graph_launches = driver ? dlsym(driver, "emulated_cuda_graph_launches") : NULL;
    *(void **)&cuda.failed = driver ? dlsym(driver, "emulated_cuda_failed") : NULL;
    *(void **)&cuda.calls_of = driver ? dlsym(driver, "emulated_cuda_calls_of") : NULL;
    *(void **)&cuda.sum = driver ? dlsym(driver, "emulated_cuda_sum") : NULL;
    if (!cuda.sum || !cuda.calls_of || !cuda.failed || !cuda.fail_call || !cuda.live || !cuda.wrong || !cuda.launches ||
        !cuda.launches_of || !cuda.graph_launches) {
        fprintf(stderr,
                "the emulated driver is not the libcuda.so.1 that the loader finds: set LD_LIBRARY_PATH to its folder\n");
        return 1;
    }
    make_wanted();
    if (old == (dlsym(driver, "cuMemPoolCreate") != NULL)) {
        fprintf(stderr, "the emulated driver %s pools\n", old ? "has" : "does not know");
        return 1;
    }
    int failed = old ? cmocka_run_group_tests_name("cuda, an older driver", tests_of_old, NULL, NULL)
                     : cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
    free(want);
    return failed;
}

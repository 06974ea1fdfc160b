/* test_cuda_blas.c - the CUDA plugin's use of cuBLASLt, on the emulated driver and library of tests/plugins. `with`: a whole
 * model whose products are the library's, every call of which fails in turn; `without`: a library that cannot be opened
 * changes no byte. */
#define _GNU_SOURCE
#include "runs.h"

#include <dlfcn.h>
#include <unistd.h>

#define TOLERANCE 1e-4
#define LENGTH 96

/* Of cublas_api.h. */
#define CUBLAS_ALLOC_FAILED 3
#define CUBLAS_EXECUTION_FAILED 13
#define CUBLAS_NOT_SUPPORTED 15

static struct {
    long (*live)(void);
    long (*products)(void);
    long (*calls)(void);
    void (*fail_call)(long nth, int code);
    long (*driver_live)(void);
    const char *(*wrong)(void);
} lt;

static int64_t ids[2 * LENGTH];
static float *want; /* the CPU's logits */
static size_t n_want;

static bool exact = true; /* runs must have the same bytes: not where calls fail, and products change hands */

static float *run_with(const char *setting, const char *backends, const char *precision, char *message, size_t message_bytes) {
    if (setting)
        setenv("STRAND_CUDA_CUBLASLT", setting, 1);
    else
        unsetenv("STRAND_CUDA_CUBLASLT");
    strand_context *c = open_context(&(open_with){.threads = 1, .plugin_path = build_path("backends/cuda")});
    strand_model *m;
    strand_plan *p = NULL;
    strand_session *s = NULL;
    strand_plan_params pp;
    float *got = NULL;
    const char *const precise = !strcmp(precision, "bf16") ? "precision=bf16" : "precision=f32";
    strand_model_params mp;
    strand_model_params_init(&mp);
    mp.settings = &precise;
    mp.n_settings = 1;
    assert_ok(c, strand_model_open(c, source_path("tests/golden/dna/hyenadna-d32-n2-l256-ckpt"), &mp, &m));
    strand_plan_params_init(&pp);
    pp.max_batch = 2;
    pp.max_length = LENGTH;
    pp.backends = backends;
    strand_tensor in = {"input_ids", STRAND_I64, 2, {2, LENGTH}, ids, sizeof ids}, out = {.name = "logits"};
    bool good = !strand_plan_open(m, &pp, &p) && !strand_session_open(p, NULL, &s);
    snprintf(message, message_bytes, "%s", good ? "" : strand_error(c));
    for (int i = 0; i < 3 && good; i++) { /* from the second run on the launches are recorded */
        good = !strand_session_run(s, &in, 1, &out, 1);
        if (!good) snprintf(message, message_bytes, "%s", strand_session_error(s));
        if (good && !got) {
            n_want = (size_t)out.bytes / 4;
            got = malloc((size_t)out.bytes);
            memcpy(got, out.data, (size_t)out.bytes);
        }
        if (good && exact) assert_same_bytes(out.data, got, n_want * 4, "the same again");
        if (good && !exact) assert_true(largest_difference(out.data, got, n_want) < TOLERANCE);
    }
    if (!good) {
        free(got);
        got = NULL;
    }
    strand_session_close(s);
    strand_plan_close(p);
    strand_model_close(m);
    strand_context_close(c);
    return got;
}

static char text[256];

static float *good_run(const char *setting, const char *backends, const char *precision) {
    float *got = run_with(setting, backends, precision, text, sizeof text);
    if (!got) fail_msg("%s", text);
    assert_string_equal(lt.wrong(), "");
    assert_int_equal(lt.driver_live(), 0);
    if (lt.live) assert_int_equal(lt.live(), 0);
    return got;
}

static void as_wanted(const float *got, double tolerance, const char *what) {
    double d = largest_difference(got, want, n_want);
    if (!(d < tolerance)) fail_msg("%s: differs from the CPU by %g", what, d);
}

/* The library's products give the model's numbers, in F32 and in BF16. */
static void all_products(void **state) {
    (void)state;
    long before = lt.products();
    float *got = good_run("1", "cuda:0", "f32");
    print_message("%ld products\n", lt.products() - before);
    assert_true(lt.products() > before + 4);
    as_wanted(got, TOLERANCE, "products by the library");
    free(got);
    before = lt.products();
    got = good_run("1", "cuda:0", "bf16");
    assert_true(lt.products() > before + 4);
    as_wanted(got, 0.5, "products by the library in BF16");
    free(got);
}

/* Products as small as this model's are not worth a call, and 0 is never. */
static void small_products(void **state) {
    (void)state;
    long before = lt.products();
    float *unset = good_run(NULL, "cuda:0", "f32"), *off = good_run("0", "cuda:0", "f32");
    assert_int_equal(lt.products(), before);
    assert_same_bytes(unset, off, n_want * 4, "small products");
    free(unset);
    free(off);
}

/* Each call fails in turn: a refusal (not supported) leaves the product to the common kernel; a broken device is an error
 * with a line. */
static void each_call_fails(void **state) {
    (void)state;
    exact = false;
    static const int codes[] = {CUBLAS_NOT_SUPPORTED, CUBLAS_ALLOC_FAILED, CUBLAS_EXECUTION_FAILED};
    lt.fail_call(0, 0);
    free(good_run("1", "cuda:0", "f32"));
    long calls = lt.calls();
    assert_true(calls > 100);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        int failed = 0;
        for (long nth = 1; nth <= calls; nth += nth < 40 ? 1 : nth / 5) {
            lt.fail_call(nth, codes[i]);
            float *got = run_with("1", "cuda:0", "f32", text, sizeof text);
            if (got)
                as_wanted(got, TOLERANCE, "beside a failing library");
            else
                assert_true(strlen(text) > 10);
            failed += !got;
            free(got);
            assert_string_equal(lt.wrong(), "");
            assert_int_equal(lt.live(), 0);
            assert_int_equal(lt.driver_live(), 0);
        }
        lt.fail_call(0, 0);
        print_message("code %d: %d of the runs failed\n", codes[i], failed);
        if (codes[i] == CUBLAS_EXECUTION_FAILED)
            assert_true(failed > 0);
        else
            assert_int_equal(failed, 0);
    }
}

/* No library: whatever the setting, the bytes are those of the common kernels. */
static void no_library(void **state) {
    (void)state;
    assert_null(dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL));
    float *absent = good_run("1", "cuda:0", "f32"), *off = good_run("0", "cuda:0", "f32");
    as_wanted(off, TOLERANCE, "without the library");
    assert_same_bytes(absent, off, n_want * 4, "without the library");
    free(absent);
    free(off);
}

static void *symbol(void *library, const char *name) {
    void *f = library ? dlsym(library, name) : NULL;
    if (!f) {
        fprintf(stderr, "%s is not there: set LD_LIBRARY_PATH to the emulated driver's and library's folders\n", name);
        exit(1);
    }
    return f;
}

int main(int argc, char **argv) {
    const struct CMUnitTest with[] = {cmocka_unit_test(all_products), cmocka_unit_test(small_products),
                                      cmocka_unit_test(each_call_fails)};
    const struct CMUnitTest without[] = {cmocka_unit_test(no_library)};
    bool there = argc > 1 && !strcmp(argv[1], "with");
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL),
         *library = there ? dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL) : NULL;
    *(void **)&lt.driver_live = symbol(driver, "emulated_cuda_live");
    *(void **)&lt.wrong = symbol(driver, "emulated_cuda_wrong");
    if (there) {
        *(void **)&lt.live = symbol(library, "emulated_cublaslt_live");
        *(void **)&lt.products = symbol(library, "emulated_cublaslt_products");
        *(void **)&lt.calls = symbol(library, "emulated_cublaslt_calls");
        *(void **)&lt.fail_call = symbol(library, "emulated_cublaslt_fail");
    }
    randoms r = {random_seed("cuda", 3)};
    random_bases(&r, ids, 2 * LENGTH);
    want = run_with(NULL, "cpu", "f32", text, sizeof text);
    if (!want) {
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    int failed = there ? cmocka_run_group_tests_name("cuda with cuBLASLt", with, NULL, NULL)
                       : cmocka_run_group_tests_name("cuda without cuBLASLt", without, NULL, NULL);
    free(want);
    return failed;
}

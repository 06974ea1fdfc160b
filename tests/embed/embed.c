/* embed.c - the embedded style: a static libstrand.a with the CPU plugin inside, a model in memory, a bump allocator over a
 * fixed array for what is opened, the session in a caller's block, and malloc forbidden throughout. Compares one golden case
 * and prints the block's size. Usage: embed CASE_FOLDER (model.safetensors, config.json, input.safetensors,
 * expected.safetensors), or embed --built-in MODEL_FOLDER, which scores a fixed sequence and expects better than chance on
 * it. */
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "strand.h"

/* printf would allocate its buffer: text goes out by write. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static void say(const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0 && write(STDOUT_FILENO, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0) _exit(2);
}

static void forbidden(const char *what) {
    say("FAILED: %s was called\n", what);
    _exit(1);
}

/* glibc's own start-up allocates before main; from main on nobody may. */
static int armed;

/* The linker's --wrap names. */
#define GUARD(type, name, params, args)                                                                                        \
    type __real_##name params;                                                                                                 \
    type __wrap_##name params;                                                                                                 \
    type __wrap_##name params {                                                                                                \
        if (armed) forbidden(#name);                                                                                           \
        return __real_##name args;                                                                                             \
    }
GUARD(void *, malloc, (size_t bytes), (bytes))
GUARD(void *, calloc, (size_t n, size_t bytes), (n, bytes))
GUARD(void *, realloc, (void *p, size_t bytes), (p, bytes))
GUARD(void *, aligned_alloc, (size_t align, size_t bytes), (align, bytes))
GUARD(int, posix_memalign, (void **p, size_t align, size_t bytes), (p, align, bytes))

/* What is opened (context, model, plan) comes from here; `sealed` forbids any more of it once the session is open. */
static _Alignas(4096) unsigned char pool[4 << 20];
static size_t pool_used;
static int sealed;

static void *pool_alloc(void *user, size_t bytes, size_t align) {
    (void)user;
    if (sealed) forbidden("the allocator, while a session was open,");
    size_t at = (pool_used + align - 1) & ~(align - 1);
    if (at > sizeof pool || bytes > sizeof pool - at) return NULL;
    pool_used = at + bytes;
    return pool + at;
}

static void pool_free(void *user, void *block, size_t bytes) {
    (void)user;
    (void)block;
    (void)bytes;
}

static _Alignas(64) unsigned char block[8 << 20];

static const void *map(const char *folder, const char *file, size_t *bytes) {
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st)) {
        say("FAILED: %s cannot be opened\n", path);
        _exit(1);
    }
    *bytes = (size_t)st.st_size;
    /* One byte more, so that text is zero-terminated: the rest of the last page is zero. */
    const void *p = mmap(NULL, *bytes + 1, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static strand_tensor find(strand_file *f, const char *name) {
    strand_tensor t = {0};
    for (int64_t i = 0; i < strand_file_count(f); i++)
        if (!strand_file_get(f, i, &t) && !strcmp(t.name, name)) return t;
    return (strand_tensor){0};
}

static int fail(const char *text) {
    say("FAILED: %s\n", text);
    return 1;
}

typedef struct embedded {
    strand_context *context;
    strand_model *model;
    strand_plan *plan;
    strand_session *session;
} embedded;

/* Opens everything down to a session in `block`; from then on the pool is sealed. */
static int open_all(embedded *e, const char *folder, int64_t batch, int64_t length) {
    size_t model_bytes, config_bytes;
    const void *data = map(folder, "model.safetensors", &model_bytes);
    const char *config = map(folder, "config.json", &config_bytes);
    if (strand_model_open_memory(e->context, data, model_bytes, config, NULL, &e->model)) return fail(strand_error(e->context));
    strand_plan_params pp;
    strand_plan_params_init(&pp);
    pp.max_batch = batch;
    pp.max_length = length;
    pp.outputs = "logits";
    if (strand_plan_open(e->model, &pp, &e->plan)) return fail(strand_error(e->context));
    strand_plan_info info;
    strand_plan_get(e->plan, &info);
    if (info.block_bytes > sizeof block) return fail("the block is too small");
    strand_session_params sp;
    strand_session_params_init(&sp);
    sp.block = block;
    sp.block_bytes = (size_t)info.block_bytes;
    if (strand_session_open(e->plan, &sp, &e->session)) return fail(strand_error(e->context));
    sealed = 1;
    return 0;
}

static void close_all(embedded *e, const char *what, double figure) {
    strand_plan_info info;
    strand_session_close(e->session);
    sealed = 0;
    strand_plan_get(e->plan, &info);
    say("block %llu bytes for %lld x %lld (arena %llu, of it constants %llu), opened objects %zu bytes, %s %.4g\n",
        (unsigned long long)info.block_bytes, (long long)info.max_batch, (long long)info.max_length,
        (unsigned long long)info.arena_bytes, (unsigned long long)info.constant_bytes, pool_used, what, figure);
    strand_plan_close(e->plan);
    strand_model_close(e->model);
}

static int run_case(embedded *e, const char *folder) {
    char path[512];
    strand_file *input_file, *expected_file;
    snprintf(path, sizeof path, "%s/input.safetensors", folder);
    if (strand_file_open(e->context, path, &input_file)) return fail(strand_error(e->context));
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (strand_file_open(e->context, path, &expected_file)) return fail(strand_error(e->context));
    strand_tensor input = find(input_file, "input_ids"), expected = find(expected_file, "logits");
    if (!input.data || !expected.data) return fail("the case has no input_ids or logits");
    if (open_all(e, folder, input.dims[0], input.dims[1])) return 1;
    double worst = 0;
    for (int run = 0; run < 2; run++) { /* the second run uses what the first kept */
        strand_tensor logits = {.name = "logits"};
        if (strand_session_run(e->session, &input, 1, &logits, 1)) return fail(strand_session_error(e->session));
        if (logits.bytes != expected.bytes) return fail("the result has another size");
        for (uint64_t i = 0; i < logits.bytes / sizeof(float); i++) {
            double d = fabs((double)((const float *)logits.data)[i] - (double)((const float *)expected.data)[i]);
            if (!(d <= worst)) worst = d;
        }
    }
    close_all(e, "worst error", worst);
    strand_file_close(expected_file);
    strand_file_close(input_file);
    return worst <= 1e-4 ? 0 : fail("the result is not the expected one");
}

#define BUILT_IN_LENGTH 512

/* A poly-A tail after a low-complexity repeat: any trained model of DNA does better than 2 bits a base on it. */
static int run_built_in(embedded *e, const char *folder) {
    static int64_t ids[BUILT_IN_LENGTH];
    for (int i = 0; i < BUILT_IN_LENGTH; i++) ids[i] = i < BUILT_IN_LENGTH / 2 ? (i % 2 ? 10 : 7) : 7;
    if (open_all(e, folder, 1, BUILT_IN_LENGTH)) return 1;
    strand_tensor input = {"input_ids", STRAND_I64, 2, {1, BUILT_IN_LENGTH}, ids, sizeof ids}, logits = {.name = "logits"};
    if (strand_session_run(e->session, &input, 1, &logits, 1)) return fail(strand_session_error(e->session));
    double bits = 0;
    for (int t = 0; t + 1 < BUILT_IN_LENGTH; t++) {
        const float *row = (const float *)logits.data + (size_t)t * 16;
        double sum = 0;
        for (int i = 7; i < 11; i++) sum += exp((double)row[i]);
        bits -= ((double)row[ids[t + 1]] - log(sum)) / log(2.0) / (BUILT_IN_LENGTH - 1);
    }
    close_all(e, "bits per base", bits);
    return bits < 1.9 ? 0 : fail("the built-in model does no better than chance");
}

int main(int argc, char **argv) {
    armed = 1;
    bool built_in = argc == 3 && !strcmp(argv[1], "--built-in");
    if (argc != 2 && !built_in) return fail("usage: embed CASE_FOLDER | embed --built-in MODEL_FOLDER");
    const strand_allocator allocator = {pool_alloc, pool_free, NULL};
    strand_context_params cp;
    strand_context_params_init(&cp);
    cp.allocator = &allocator;
    cp.threads = 1;
    embedded e = {0};
    if (strand_context_open(&cp, &e.context)) return fail("the context did not open");
    int status = built_in ? run_built_in(&e, argv[2]) : run_case(&e, argv[1]);
    if (!status) strand_context_close(e.context);
    return status;
}

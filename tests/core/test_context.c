/* test_context.c - threads and the context: every index runs once whatever happens around the pool, and a context takes
 * parameter structs of other versions, an embedder's loop and a machine with few processors. */
#define _GNU_SOURCE
#include "support.h"

#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <stdatomic.h>
#include <unistd.h>

#include "context.h"

/* ---- threads ---- */

typedef struct tally {
    _Atomic int *counts;
    _Atomic int busy[64]; /* workers inside a body */
    _Atomic int clashes, strangers;
    int32_t workers;
    thread_pool *inner;
    bool slow;
} tally;

static void count(void *arg, int64_t i, int32_t worker) {
    tally *t = arg;
    if (worker < 0 || worker >= t->workers) {
        atomic_fetch_add(&t->strangers, 1);
        return;
    }
    if (atomic_fetch_add(&t->busy[worker], 1)) atomic_fetch_add(&t->clashes, 1);
    atomic_fetch_add(&t->counts[i], 1);
    if (t->slow && i % 7 == 0) sched_yield();
    atomic_fetch_sub(&t->busy[worker], 1);
}

static void all_once(thread_pool *pool, int64_t n, bool slow) {
    static _Atomic int counts[5000];
    tally t = {.counts = counts, .workers = thread_pool_workers(pool), .slow = slow};
    memset(counts, 0, sizeof counts);
    thread_pool_run(pool, n, count, &t);
    for (int64_t i = 0; i < 5000; i++) assert_int_equal(counts[i], i < n);
    assert_int_equal(t.clashes, 0);
    assert_int_equal(t.strangers, 0);
}

static void every_index_once(void **state) {
    (void)state;
    counting memory = {0};
    strand_allocator allocator = counting_allocator(&memory);
    for (int32_t workers = 1; workers <= 6; workers++) {
        thread_pool *pool = thread_pool_open(&allocator, workers);
        assert_int_equal(thread_pool_workers(pool), workers);
        for (int round = 0; round < 300; round++) all_once(pool, round % 9, round % 2);
        all_once(pool, 5000, true);
        all_once(pool, 0, false);
        all_once(pool, 1, false);
        thread_pool_close(pool);
    }
    assert_int_equal(memory.live, 0);
    thread_pool *pool = thread_pool_open(&allocator, -3);
    assert_int_equal(thread_pool_workers(pool), 1);
    thread_pool_close(pool);
    thread_pool_close(NULL);
    memory.fail_at = memory.calls + 1;
    assert_null(thread_pool_open(&allocator, 4));
    assert_int_equal(memory.live, 0);
}

static void inner(void *arg, int64_t i, int32_t worker) {
    (void)worker;
    atomic_fetch_add(&((_Atomic int *)arg)[i], 1);
}

static void outer(void *arg, int64_t i, int32_t worker) {
    tally *t = arg;
    _Atomic int counts[20] = {0};
    (void)worker;
    thread_pool_run(t->inner, 20, inner, counts);
    for (int k = 0; k < 20; k++)
        if (counts[k] != 1) atomic_fetch_add(&t->clashes, 1);
    atomic_fetch_add(&t->counts[i], 1);
}

/* A loop inside a loop, on the same pool and on another. */
static void loops_inside_loops(void **state) {
    (void)state;
    thread_pool *a = thread_pool_open(allocator_default(), 3), *b = thread_pool_open(allocator_default(), 2);
    _Atomic int counts[100] = {0};
    for (int i = 0; i < 2; i++) {
        tally t = {.counts = counts, .inner = i ? b : a};
        thread_pool_run(a, 100, outer, &t);
        assert_int_equal(t.clashes, 0);
    }
    for (int i = 0; i < 100; i++) assert_int_equal(counts[i], 2);
    thread_pool_close(a);
    thread_pool_close(b);
}

typedef struct user {
    thread_pool *pool;
    int wrong;
} user;

static void *use_pool(void *arg) {
    user *u = arg;
    for (int round = 0; round < 400; round++) {
        _Atomic int counts[64] = {0};
        thread_pool_run(u->pool, 64, inner, counts);
        for (int i = 0; i < 64; i++) u->wrong += counts[i] != 1;
    }
    return NULL;
}

/* Sessions of several threads share one pool: the one that finds it busy works alone. */
static void a_busy_pool(void **state) {
    (void)state;
    pthread_t threads[4];
    user users[4];
    thread_pool *pool = thread_pool_open(allocator_default(), 3);
    for (int i = 0; i < 4; i++) {
        users[i] = (user){pool, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, use_pool, &users[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(users[i].wrong, 0);
    }
    thread_pool_close(pool);
}

static void processors_of_this_process(void **state) {
    (void)state;
    cpu_set_t before, one;
    int32_t all = threads_available();
    assert_true(all >= 1 && all <= sysconf(_SC_NPROCESSORS_CONF));
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    assert_true(all <= CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &before)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(threads_available(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    /* The quota of the cgroup, when this machine has one. */
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    long long quota = 0, period = 0;
    if (f && fscanf(f, "%lld %lld", &quota, &period) == 2 && period > 0)
        assert_true(all <= (quota + period - 1) / period);
    else
        print_message("  no cgroup quota here: not looked at\n");
    if (f) fclose(f);
}

static void put_text(const char *root, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Groups made of files: the smallest quota on the way up counts, in both versions of the interface. */
static void quotas_of_nested_groups(void **state) {
    (void)state;
    char root[] = "/tmp/strand-quota-XXXXXX", self[64], empty[64];
    assert_non_null(mkdtemp(root));
    snprintf(self, sizeof self, "%s/self", root);
    snprintf(empty, sizeof empty, "%s/nothing", root);
    put_text(root, "self", "0::/a/b\n");
    assert_int_equal(threads_quota(root, self), 0);
    put_text(root, "a/b/cpu.max", "max 100000\n");
    assert_int_equal(threads_quota(root, self), 0);
    put_text(root, "a/cpu.max", "250000 100000\n");
    assert_int_equal(threads_quota(root, self), 3);
    put_text(root, "a/b/cpu.max", "90000 100000\n");
    assert_int_equal(threads_quota(root, self), 1);
    put_text(root, "self", "0::/not/there\n");
    assert_int_equal(threads_quota(root, self), 0);
    put_text(root, "cpu.max", "200000 100000\n");
    assert_int_equal(threads_quota(root, self), 2);
    assert_int_equal(threads_quota(root, empty), 2);
    put_text(root, "cpu.max", "rubbish");
    put_text(root, "cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
    put_text(root, "cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    put_text(root, "self", "5:memory:/job\n4:cpu,cpuacct:/job/step\nno colon here\n");
    assert_int_equal(threads_quota(root, self), 4);
    put_text(root, "cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(threads_quota(root, self), 0);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* ---- context ---- */

static void parameter_structs_of_any_size(void **state) {
    (void)state;
    struct {
        strand_context_params p;
        char more[64];
    } longer;
    strand_context *c = (strand_context *)(void *)&longer;
    assert_int_equal(strand_context_open(NULL, NULL), STRAND_ERR_ARGUMENT);
    memset(&longer, 0x77, sizeof longer);
    strand_context_params_init(&longer.p);
    assert_int_equal(longer.p.size, sizeof longer.p);
    longer.p.size = sizeof longer; /* a newer caller: what we do not know is not read */
    longer.p.threads = 1;
    assert_int_equal(strand_context_open(&longer.p, &c), STRAND_OK);
    strand_context_close(c);
    longer.p.size = offsetof(strand_context_params, plugin_path); /* an older one: what it does not have is the default */
    longer.p.plugin_path = (const char *)1;
    longer.p.no_plugins = 1;
    assert_int_equal(strand_context_open(&longer.p, &c), STRAND_OK);
    strand_context_close(c);
    c = (strand_context *)(void *)&longer;
    longer.p.size = 0;
    assert_int_equal(strand_context_open(&longer.p, &c), STRAND_ERR_ARGUMENT);
    strand_context_params_init(&longer.p);
    longer.p.threads = -1;
    assert_int_equal(strand_context_open(&longer.p, &c), STRAND_ERR_ARGUMENT);
    longer.p.threads = 1;
    strand_allocator half = {.alloc = allocator_default()->alloc};
    longer.p.allocator = &half;
    assert_int_equal(strand_context_open(&longer.p, &c), STRAND_ERR_ARGUMENT);
    assert_ptr_equal(c, &longer);
    strand_context_close(NULL);
}

typedef struct loop {
    int calls;
} loop;

static void own_loop(void *user_, int64_t n, void (*body)(void *arg, int64_t i, int32_t worker), void *arg) {
    loop *l = user_;
    l->calls++;
    for (int64_t i = n; i-- > 0;) body(arg, i, (int32_t)(i % 3)); /* any order, any worker */
}

/* The embedder's loop does the work, and changes no byte. */
static void the_embedders_loop(void **state) {
    (void)state;
    static float results[2][256 * 16];
    loop l = {0};
    for (int k = 0; k < 2; k++) {
        strand_context_params p;
        strand_context *c;
        strand_model *m;
        strand_plan *plan;
        strand_session *s;
        strand_plan_params pp;
        int64_t ids[256];
        strand_parallel parallel = {own_loop, 3, &l};
        strand_context_params_init(&p);
        p.threads = 1;
        if (k) p.parallel = &parallel;
        assert_int_equal(strand_context_open(&p, &c), STRAND_OK);
        assert_ok(c, strand_model_open(c, source_path("tests/golden/dna/hyenadna-d32-n2-l256-ckpt"), NULL, &m));
        strand_plan_params_init(&pp);
        pp.backends = "cpu";
        assert_ok(c, strand_plan_open(m, &pp, &plan));
        assert_ok(c, strand_session_open(plan, NULL, &s));
        for (int i = 0; i < 256; i++) ids[i] = 7 + i % 4;
        strand_tensor in = {"input_ids", STRAND_I64, 2, {1, 256}, ids, sizeof ids},
                      out = {.name = "logits", .data = results[k], .bytes = sizeof results[k]};
        if (strand_session_run(s, &in, 1, &out, 1)) fail_msg("%s", strand_session_error(s));
        strand_session_close(s);
        strand_plan_close(plan);
        strand_model_close(m);
        strand_context_close(c);
    }
    assert_true(l.calls > 10);
    assert_same_bytes(results[0], results[1], sizeof results[0], "the pool and the embedder's loop");
}

static void names(void **state) {
    (void)state;
    assert_string_equal(strand_version(), STRAND_VERSION_STRING);
    assert_string_equal(strand_status_name(STRAND_ERR_LIMIT), "limit");
    assert_string_equal(strand_status_name((strand_status)99), "unknown");
    assert_string_equal(strand_dtype_name(STRAND_BF16), "BF16");
    assert_string_equal(strand_dtype_name((strand_dtype)77), "?");
    assert_int_equal(strand_dtype_size(STRAND_F64), 8);
    assert_int_equal(strand_dtype_size((strand_dtype)-1), 0);
    assert_string_equal(strand_dtype_name(STRAND_Q8_0), "Q8_0");
    assert_string_equal(strand_dtype_name(STRAND_Q6_K), "Q6_K");
    assert_string_equal(strand_dtype_name((strand_dtype)(STRAND_Q5_K + 1)), "?");
    assert_string_equal(strand_dtype_name((strand_dtype)(STRAND_BOOL + 1)), "?");
    assert_int_equal(strand_dtype_size(STRAND_Q4_K), 0); /* its elements have no bytes of their own */
    assert_non_null(strstr(strand_error(NULL), "no context"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once),
        cmocka_unit_test(loops_inside_loops),
        cmocka_unit_test(a_busy_pool),
        cmocka_unit_test(processors_of_this_process),
        cmocka_unit_test(quotas_of_nested_groups),
        cmocka_unit_test(parameter_structs_of_any_size),
        cmocka_unit_test(the_embedders_loop),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
